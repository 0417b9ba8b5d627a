"""Fused inner loops that may replace a model's plain PyTorch, chosen by name.

Every kernel is tested against the plain model on random inputs. A model without one, a device without one, float64
unless asked for by name: those run the plain model, "reference".
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING

from heliodor.errors import ModelError

if TYPE_CHECKING:
    import torch

    from heliodor.potential import Potential

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
                f"{potential.name} runs some twenty times faster with Numba: pip install 'heliodor[fast]'",
                ModelWarning,
                stacklevel=3,
            )
            return REFERENCE
    elif name not in known:
        names = ", ".join(["auto", REFERENCE, *known])
        raise ModelError(f"no kernel called {name!r} for {potential.name} on {device.type}; known: {names}")
    elif not _installed():
        raise ModelError("the kernel 'numba' needs Numba: pip install 'heliodor[fast]'")
    from heliodor.kernels.cpu.mace import MACEKernel
    from heliodor.potentials.mace import MACE

    assert isinstance(potential, MACE)
    potential.use_kernel(MACEKernel(potential), NUMBA)
    return NUMBA


def will_compile(potential: Potential) -> bool:
    """Whether the first evaluation has to compile the kernel, which takes some ten seconds once on a machine."""
    if potential.kernels != NUMBA:
        return False
    from pathlib import Path

    from heliodor.kernels.cpu import loops

    kept = Path(str(loops.convolve.stats.cache_path))
    return not any(kept.glob("loops.convolve-*.nbi"))


def _known(potential: Potential, device: torch.device) -> list[str]:
    """Kernels written for this model on this device, whether or not what they need is installed."""
    from heliodor.potentials.mace import MACE

    fits = isinstance(potential, MACE) and device.type == "cpu" and potential.config.two_layers
    return [NUMBA] if fits else []


def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None
