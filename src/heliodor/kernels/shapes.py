"""Which shapes of a model a kernel is written for; known without what the kernel needs."""

from __future__ import annotations

from heliodor.potentials.so3lr import SO3LR


def fits_compiled_so3lr(model: SO3LR) -> bool:
    """For `heliodor.kernels.cpu.so3lr`: widths in whole vectors, degrees from 1 on without gaps."""
    c = model.config.network
    degrees = tuple(range(1, len(c.degrees) + 1))
    widths = (c.n_features // c.n_heads, c.n_features // len(c.degrees), c.n_features // 4, model.config.n_hirshfeld)
    whole = all(width % 16 == 0 for width in widths)
    return c.degrees == degrees and len(degrees) <= 4 and whole and model.zbl.switch_off is not None
