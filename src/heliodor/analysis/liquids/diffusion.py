"""Self-diffusion from mean square displacements, with the correction for the size of a periodic cell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.liquids.paths import Paths
from heliodor.errors import InputError
from heliodor.units import BAR, BOLTZMANN, PASCAL

XI = 2.837297
"""Of a periodic cubic cell (Yeh & Hummer, J. Phys. Chem. B 108, 15873 (2004))."""

BLOCKS = 5
"""Pieces of the run that errors are taken from, each along three directions."""

LONGEST = 0.1
"""Longest lag as a fraction of the run."""

ENOUGH = 5e4
"""fs; longest lag by default in long runs."""

BEGIN = 0.2
"""Where the fit begins, as a fraction of its longest lag."""

FEWEST = 3
"""Lags in a fit."""

LIMIT = 64 * 2**20
"""Bytes of transforms at a time."""

CM2_PER_S = 10.0
"""1e-5 cm²/s in 1 Å²/ps."""


@dataclass(frozen=True, eq=False)
class Diffusion:
    """Self-diffusion of M molecules.

    Attributes:
        lag: fs, from 0.
        msd: Å², mean over molecules and time origins.
        msd_error: standard error from blocks of the run.
        window: fs; first and last lag of the straight line.
        coefficient, error: Å²/ps; slope/6, and its standard error from blocks and directions.
        by_direction: Å²/ps along x, y, z.
        exponent, exponent_error: of msd ~ t^exponent in the window: 1 where it is diffusion.
        molecules: how many were followed.
        frames: how many of the trajectory's were used.
    """

    lag: Float[np.ndarray, "L"]
    msd: Float[np.ndarray, "L"]
    msd_error: Float[np.ndarray, "L"]
    window: tuple[float, float]
    coefficient: float
    error: float
    by_direction: Float[np.ndarray, "3"]
    exponent: float
    exponent_error: float
    molecules: int
    frames: int


def mean_square_displacement(centres: Float[np.ndarray, "T M 3"], lags: int) -> Float[np.ndarray, "L 3"]:
    """Å² along x, y, z for the first ``lags`` lags, 0 among them; every frame is an origin.

    By fast Fourier transforms, a few molecules at a time: Kneller, Keiner, Kneller & Schiller, Comput. Phys. Commun.
    91, 191 (1995).
    """
    frames = len(centres)
    padded = 1 << (2 * frames - 1).bit_length()
    group = max(1, LIMIT // (48 * padded))
    total = np.zeros((lags, 3))
    for first in range(0, centres.shape[1], group):
        # displacements are of differences; small numbers lose no digits
        x = centres[:, first : first + group] - centres[:1, first : first + group]
        waves = np.fft.rfft(x, n=padded, axis=0)
        products = np.fft.irfft(np.square(np.abs(waves)).sum(1), n=padded, axis=0)[:lags]
        squares = np.square(x).sum(1)
        ahead = np.concatenate([np.zeros((1, 3)), np.cumsum(squares, axis=0)])
        # Σ x²(t) over the origins, and over the ends
        lag = np.arange(lags)
        origins, ends = ahead[frames - lag], ahead[-1] - ahead[lag]
        total += origins + ends - 2.0 * products
    mean: np.ndarray = np.maximum(total / (centres.shape[1] * np.arange(frames, frames - lags, -1)[:, None]), 0.0)
    mean[0] = 0.0
    return mean


def self_diffusion(
    paths: Paths,
    *,
    which: Int[np.ndarray, "m"] | None = None,
    start: float | None = None,
    end: float | None = None,
) -> Diffusion:
    """Self-diffusion coefficient by Einstein's relation: <|r(t) - r(0)|²> = 6 D t at long times.

    A straight line is fitted to the mean square displacement between two lags, without weights. The run is cut into
    five pieces for the error; each gives a coefficient along x, y and z, which are taken as independent.

    Args:
        which: positions in ``paths`` of the molecules that are meant; None for all.
        start, end: fs; where the fit begins and ends. By default it ends at a tenth of the run, at 50 ps at the latest,
            and begins at a fifth of that.

    Raises:
        InputError: a run too short, a window that is none.
    """
    centres = paths.centres if which is None else paths.centres[:, which]
    frames, count, _ = centres.shape
    step = paths.interval
    length = (frames - 1) * step
    end = min(LONGEST * length, ENOUGH) if end is None else end
    start = BEGIN * end if start is None else start
    if not 0.0 <= start < end:
        raise InputError(f"the fit must begin before it ends, not at {start:g} and {end:g} fs")
    low, high = max(1, math.ceil(start / step - 1e-6)), math.floor(end / step + 1e-6)
    if high - low + 1 < FEWEST:
        raise InputError(
            f"{frames} frames every {step:g} fs leave fewer than {FEWEST} lags between {start:.4g} and {end:.4g} fs to "
            "fit a line to: simulate longer or save more often"
        )
    part = frames // BLOCKS
    if high >= part:
        raise InputError(
            f"the fit cannot end beyond a fifth of the run, {(part - 1) * step:.4g} fs: errors come from five pieces"
        )
    whole = mean_square_displacement(centres, high + 1)
    pieces = np.stack([mean_square_displacement(centres[k * part : (k + 1) * part], high + 1) for k in range(BLOCKS)])
    lag = step * np.arange(high + 1)
    slopes = _slope(lag[low:], whole[low:])
    apart = _slope(lag[low:], pieces[:, low:].transpose(1, 0, 2).reshape(high + 1 - low, -1))
    sums = pieces.sum(2)
    exponents = _slope(np.log(lag[low:]), np.log(np.maximum(sums[:, low:], 1e-300)).T)
    exponent = _slope(np.log(lag[low:]), np.log(np.maximum(whole.sum(1)[low:, None], 1e-300)))
    return Diffusion(
        lag=lag,
        msd=whole.sum(1),
        msd_error=sums.std(0, ddof=1) / math.sqrt(BLOCKS),
        window=(float(lag[low]), float(lag[high])),
        coefficient=float(slopes.sum()) / 6.0 * 1e3,
        error=float(apart.std(ddof=1)) / 2.0 * 1e3 / math.sqrt(apart.size),
        by_direction=slopes / 2.0 * 1e3,
        exponent=float(exponent[0]),
        exponent_error=float(exponents.std(ddof=1)) / math.sqrt(BLOCKS),
        molecules=count,
        frames=frames,
    )


def finite_size_correction(temperature: float, viscosity: float, edge: float) -> float:
    """ξ k_B T/(6 π η L) in Å²/ps, to be added to a coefficient found in a periodic cubic cell.

    Yeh & Hummer, J. Phys. Chem. B 108, 15873 (2004).

    Args:
        temperature: K.
        viscosity: mPa s; of the model if it is known.
        edge: Å, of the cell.

    Raises:
        InputError: what is not positive.
    """
    if not min(temperature, viscosity, edge) > 0.0:
        raise InputError("temperature, viscosity and the edge of the cell must be positive")
    inside = viscosity * 1e-3 * PASCAL * BAR * 1e15  # eV fs/Å³
    return XI * BOLTZMANN * temperature / (6.0 * math.pi * inside * edge) * 1e3


def _slope(x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, "K"]:
    """Of straight lines through the columns of y."""
    x = x - x.mean()
    slopes: np.ndarray = x @ (y - y.mean(0)) / (x @ x)
    return slopes
