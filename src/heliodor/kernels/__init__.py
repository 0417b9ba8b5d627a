"""Fused inner loops that may replace a model's plain PyTorch, chosen by name.

Every kernel is tested against the plain model on random inputs. A model without one, a device without one, float64
unless asked for by name: those run the plain model, "reference".
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

from heliodor.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from heliodor.kernels.derived import DerivingKernel
    from heliodor.neighbors import Neighbors
    from heliodor.potential import Potential
    from heliodor.system import System

REFERENCE = "reference"
NUMBA = "numba"


def choose_kernels(potential: Potential, device: torch.device, name: str) -> str:
    """Make a potential, already on its device and of its dtype, run one of its implementations.

    Returns:
        The name of what was chosen.

    Raises:
        ModelError: no such kernel for this model and device, or Numba is missing.
    """
    potential.use_kernel(None, REFERENCE)
    if name == REFERENCE:
        return REFERENCE
    known = _known(potential, device)
    if name == "auto":
        import torch

        # splines are not exact, and who asks for float64 wants what is
        if NUMBA not in known or potential.dtype != torch.float32:
            return REFERENCE
        if not _installed():
            from heliodor.potential import ModelWarning

            warnings.warn(
                f"{potential.name} runs several times faster with Numba: pip install 'heliodor[fast]'",
                ModelWarning,
                stacklevel=3,
            )
            return REFERENCE
    elif name not in known:
        names = ", ".join(["auto", REFERENCE, *known])
        raise ModelError(f"no kernel called {name!r} for {potential.name} on {device.type}; known: {names}")
    elif not _installed():
        raise ModelError("the kernel 'numba' needs Numba: pip install 'heliodor[fast]'")
    potential.use_kernel(_numba(potential), NUMBA)
    return NUMBA


def _numba(potential: Potential) -> Callable[[System, Neighbors], Any] | DerivingKernel:
    from heliodor.potentials.mace import MACE
    from heliodor.potentials.so3lr import SO3LR

    if isinstance(potential, SO3LR):
        from heliodor.kernels.cpu.so3lr import SO3LRKernel

        return SO3LRKernel(potential)
    from heliodor.kernels.cpu.mace import MACEKernel

    assert isinstance(potential, MACE)
    return MACEKernel(potential)


def will_compile(potential: Potential) -> bool:
    """Whether the first evaluation has to compile the kernel, which takes some ten seconds once on a machine."""
    if potential.kernels != NUMBA:
        return False
    from pathlib import Path

    from heliodor.potentials.mace import MACE

    if isinstance(potential, MACE):
        from heliodor.kernels.cpu import loops

        kept, name = Path(str(loops.convolve.stats.cache_path)), "loops.convolve-*.nbi"
    else:
        from heliodor.kernels.cpu import so3krates_edges

        kept, name = Path(str(so3krates_edges.attend_back.stats.cache_path)), "so3krates_edges.attend_back-*.nbi"
    return not any(kept.glob(name))


def _known(potential: Potential, device: torch.device) -> list[str]:
    """Kernels written for this model on this device, whether or not what they need is installed."""
    from heliodor.potentials.mace import MACE
    from heliodor.potentials.so3lr import SO3LR

    fits = False
    if device.type == "cpu" and isinstance(potential, MACE):
        fits = potential.config.two_layers
    elif device.type == "cpu" and isinstance(potential, SO3LR):
        from heliodor.kernels.shapes import fits_compiled_so3lr

        fits = fits_compiled_so3lr(potential)
    return [NUMBA] if fits else []


def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None
