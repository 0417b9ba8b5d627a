"""Fused inner loops that may replace a model's plain PyTorch, chosen by name.

Every kernel is tested against the plain model on random inputs. A model without one, a device without one, float64
unless asked for by name: those run the plain model, "reference".
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import TYPE_CHECKING, Any

from heliodor.errors import ModelError

if TYPE_CHECKING:
    import torch

    from heliodor.potential import Potential

REFERENCE = "reference"
NUMBA = "numba"
TRITON = "triton"

NEEDED = {NUMBA: ("numba", "fast"), TRITON: ("triton", "gpu")}
"""What each kernel needs: a package, and the extra it comes with."""


def choose_kernels(potential: Potential, device: torch.device, name: str) -> str:
    """Make a potential, already on its device and of its dtype, run one of its implementations.

    Returns:
        The name of what was chosen.

    Raises:
        ModelError: no such kernel for this model, device and dtype, or what it needs is not installed.
    """
    own = getattr(potential, "choose_kernels", None)
    if own is not None:
        # a sum: each member its own
        return str(own(device, name))
    potential.use_kernel(None, REFERENCE)
    if name == REFERENCE:
        return REFERENCE
    known = _known(potential, device)
    if name == "auto":
        import torch

        # splines are not exact, and who asks for float64 wants what is
        best = [kernel for kernel in known if kernel != TRITON or device.type == "cuda"]
        if not best or potential.dtype != torch.float32:
            return REFERENCE
        name = best[0]
        if not _installed(name):
            from heliodor.potential import ModelWarning

            warnings.warn(
                f"{potential.name} runs several times faster with {NEEDED[name][0].capitalize()}: "
                f"pip install 'heliodor[{NEEDED[name][1]}]'",
                ModelWarning,
                stacklevel=3,
            )
            return REFERENCE
    elif name not in known:
        names = ", ".join(["auto", REFERENCE, *known])
        precision = str(potential.dtype).removeprefix("torch.")
        raise ModelError(
            f"no kernel called {name!r} for {potential.name} in {precision} on {device.type}; known: {names}"
        )
    elif not _installed(name):
        raise ModelError(
            f"the kernel {name!r} needs {NEEDED[name][0].capitalize()}: pip install 'heliodor[{NEEDED[name][1]}]'"
        )
    potential.use_kernel((_numba if name == NUMBA else _triton)(potential), name)
    return name


def will_compile(potential: Potential) -> bool:
    """Whether the first evaluation has to compile the kernel, which takes tens of seconds once on a machine."""
    from pathlib import Path

    from heliodor.potentials.mace import MACE
    from heliodor.potentials.sum import Sum

    if isinstance(potential, Sum):
        return any(will_compile(member) for member in potential.members)
    if potential.kernels != NUMBA:
        return False

    if isinstance(potential, MACE):
        from heliodor.kernels.cpu.mace import loops

        last: Any = loops.convolve
    else:
        from heliodor.kernels.cpu.so3lr import edges

        last = edges.attend_back
    kept = Path(str(last.stats.cache_path))
    module = last.py_func.__module__.rpartition(".")[2]
    return not any(kept.glob(f"{module}.{last.py_func.__name__}-*.nbi"))


def _known(potential: Potential, device: torch.device) -> list[str]:
    """Kernels written for this model, device and dtype, the best first, whether or not what they need is installed."""
    from heliodor.kernels import shapes

    if device.type == "cpu" and shapes.fits_numba(potential):
        return [NUMBA] + ([TRITON] if _interpreted() and shapes.fits_triton(potential) else [])
    if (device.type == "cuda" or _interpreted()) and shapes.fits_triton(potential):
        return [TRITON]
    return []


def _numba(potential: Potential) -> Any:
    from heliodor.potentials.mace import MACE
    from heliodor.potentials.so3lr import SO3LR

    if isinstance(potential, SO3LR):
        from heliodor.kernels.cpu.so3lr.kernel import SO3LRKernel

        return SO3LRKernel(potential)
    from heliodor.kernels.cpu.mace.kernel import MACEKernel

    assert isinstance(potential, MACE)
    return MACEKernel(potential)


def _triton(potential: Potential) -> Any:
    from heliodor.potentials.mace import MACE
    from heliodor.potentials.so3lr import SO3LR
    from heliodor.potentials.spookynet import SpookyNet

    if isinstance(potential, SO3LR):
        from heliodor.kernels.gpu.so3lr.kernel import SO3LRTriton

        return SO3LRTriton(potential)
    if isinstance(potential, MACE):
        from heliodor.kernels.gpu.mace.kernel import MACETriton

        return MACETriton(potential)
    from heliodor.kernels.gpu.spookynet.kernel import SpookyNetTriton

    assert isinstance(potential, SpookyNet)
    return SpookyNetTriton(potential)


def _installed(name: str) -> bool:
    return importlib.util.find_spec(NEEDED[name][0]) is not None


def _interpreted() -> bool:
    """Triton's interpreter stands in for a GPU, in tests."""
    return os.environ.get("TRITON_INTERPRET", "") == "1"
