"""Random numbers that are a function of (key, step, atom): whoever repeats a step repeats its noise.

Philox4x32-10, Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11 (2011). This is the
truth in plain torch; `heliodor.dynamics.captured.philox_kernel` has the same numbers from one kernel.
"""

from __future__ import annotations

import hashlib
import math

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

ROUND_A, ROUND_B = 0xD2511F53, 0xCD9E8D57
KEY_A, KEY_B = 0x9E3779B9, 0xBB67AE85
LOW = 0xFFFFFFFF
ROUNDS = 10

ATOMS, RESCALING, CELL = 0, 1, 2
"""Streams: noise of atoms, of velocity rescaling, of the cell."""


def key_of(rng: UInt8[Tensor, "S"]) -> Int[Tensor, "2"]:
    """Two words of 32 bits from the state of a generator, on the CPU: the key of the run that begins there."""
    digest = hashlib.sha256(rng.cpu().numpy().tobytes()).digest()
    return torch.tensor([int.from_bytes(digest[k : k + 4], "little") for k in (0, 4)], dtype=torch.int64)


def philox(counter: Int[Tensor, "M 4"], key: Int[Tensor, "2"]) -> Int[Tensor, "M 4"]:
    """Four words of 32 bits from four, kept in int64."""
    a, b, c, d = counter.unbind(1)
    k0, k1 = key.unbind(0)
    for _ in range(ROUNDS):
        # products wrap around at 64 bits, and their bits are those of unsigned ones
        first, second = a * ROUND_A, c * ROUND_B
        a, b, c, d = (
            ((second >> 32) & LOW) ^ b ^ k0,
            second & LOW,
            ((first >> 32) & LOW) ^ d ^ k1,
            first & LOW,
        )
        k0, k1 = (k0 + KEY_A) & LOW, (k1 + KEY_B) & LOW
    return torch.stack([a, b, c, d], 1)


def normals(step: Int[Tensor, "1"], key: Int[Tensor, "2"], count: int, stream: int) -> Float[Tensor, "M 3"]:
    """Three standard normal numbers for each of ``count`` atoms at a step, float64.

    By Box and Muller's transformation of words of 32 bits: no number is beyond 6.8.

    Args:
        step: its number, on the device.
        key: of the run, on the device.
        stream: which of the noises of a step.
    """
    atom = torch.arange(count, device=step.device)
    ahead = step.expand(count)
    counter = torch.stack([atom, ahead & LOW, ahead >> 32, torch.full_like(atom, stream)], 1)
    uniform = (philox(counter, key).double() + 0.5) * 2.0**-32
    radius = (-2.0 * uniform[:, 0::2].log()).sqrt()
    angle = (2.0 * math.pi) * uniform[:, 1::2]
    x, y = (radius * angle.cos()).unbind(1)
    return torch.stack([x, radius[:, 0] * angle[:, 0].sin(), y], 1)
