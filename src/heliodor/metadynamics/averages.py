"""Averages with weights, their errors from blocks of time, and those of a run's trajectory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ase
import numpy as np
from jaxtyping import Bool, Float

from heliodor.analysis.proteins.couplings import coupling, karplus
from heliodor.analysis.proteins.torsions import protein_torsions, torsion_series
from heliodor.errors import InputError
from heliodor.metadynamics.peptides import named_topology
from heliodor.metadynamics.samples import HONEST, METHODS, Samples
from heliodor.trajectory.open import open_trajectory

if TYPE_CHECKING:
    from heliodor.metadynamics.result import Result

BLOCKS = 10


def weighted_average(
    log_weights: Float[np.ndarray, "T"], values: Float[np.ndarray, "T *M"], blocks: int = BLOCKS
) -> tuple[Float[np.ndarray, "*M"], Float[np.ndarray, "*M"]]:
    """Averages Σ w x / Σ w and standard errors by leaving out one block of time after the other (jackknife).

    Blocks have to be longer than the system takes to go through the variables once and back; where they are not, more
    blocks give a smaller error.

    Args:
        log_weights: -inf where a sample does not count.
        values: of one or several observables.

    Raises:
        InputError: fewer samples than blocks, or fewer than two blocks.
    """
    counted = np.flatnonzero(np.isfinite(log_weights))
    label = block_labels(len(counted), blocks)
    weight = np.exp(log_weights[counted] - log_weights[counted].max())
    # out of place samples must not be counted by an observable that is not a number there
    x = values[counted].reshape(len(counted), -1).astype(np.float64)
    of_block = np.bincount(label, weight, blocks)
    sums = np.stack([np.bincount(label, weight * column, blocks) for column in x.T], axis=1)
    mean = sums.sum(0) / of_block.sum()
    error = jackknife((sums.sum(0) - sums) / (of_block.sum() - of_block)[:, None])
    shape = values.shape[1:]
    return mean.reshape(shape), error.reshape(shape)


def block_labels(count: int, blocks: int) -> np.ndarray:
    """Which block each of so many samples is in.

    Raises:
        InputError: fewer samples than blocks, or fewer than two blocks.
    """
    if blocks < 2 or count < 2 * blocks:
        raise InputError(
            f"{count} samples do not make {blocks} blocks: run longer, or ask for fewer blocks (two at least)"
        )
    return np.arange(count) * blocks // count


def jackknife(left_out: Float[np.ndarray, "K M"]) -> Float[np.ndarray, "M"]:
    """Standard errors from estimates that leave out one of K blocks each."""
    k = len(left_out)
    found: np.ndarray = np.sqrt((k - 1) / k * ((left_out - left_out.mean(0)) ** 2).sum(0))
    return found


def effective_samples(log_weights: Float[np.ndarray, "T"]) -> float:
    """(Σ w)² / Σ w²: how many samples of equal weight would be as good, were they independent (Kish)."""
    weight = np.exp(log_weights - log_weights.max())
    return float(weight.sum() ** 2 / (weight**2).sum())


def frame_log_weights(
    samples: Samples, time: Float[np.ndarray, "F"], method: str = METHODS[0], skip: float = 0.2
) -> Float[np.ndarray, "F"]:
    """Weights of a trajectory's frames by their times (fs); -inf of those in the part left out.

    Raises:
        InputError: frames that are not of this run.
    """
    steps = np.rint(time / samples.settings.timestep_fs).astype(np.int64)
    rows = np.searchsorted(samples.steps, steps)
    if len(rows) and ((rows >= len(samples)).any() or (samples.steps[rows] != steps).any()):
        raise InputError("the trajectory has frames at steps where no Gaussian was put: it is not of this run")
    return samples.log_weights(method, skip)[rows]


def reweighted_average(
    result: Result,
    values: Float[np.ndarray, "F *M"],
    *,
    method: str = METHODS[0],
    skip: float = 0.2,
    blocks: int = BLOCKS,
) -> tuple[Float[np.ndarray, "*M"], Float[np.ndarray, "*M"]]:
    """Average without bias of observables computed for each frame of a run's trajectory, and standard errors.

    With the final bias errors are NaN, as blocks of time do not know them (`samples.HONEST`).

    Args:
        values: one row per frame.

    Raises:
        InputError: another number of frames than the trajectory has; too few for the blocks.
    """
    time = open_trajectory(result.files.trajectory).time
    if len(values) != len(time):
        raise InputError(f"{len(values)} values are not one for each of the {len(time)} frames of the trajectory")
    mean, error = weighted_average(frame_log_weights(result.samples, time, method, skip), values, blocks)
    return mean, error if method in HONEST else np.full_like(error, np.nan)


def reweighted_couplings(
    result: Result,
    parameters: str = "vogeli",
    *,
    method: str = METHODS[0],
    skip: float = 0.2,
    blocks: int = BLOCKS,
) -> dict[tuple[str, str], tuple[float, float]]:
    """³J couplings without bias (Hz) and standard errors, of each residue of a peptide that has φ.

    The error of the Karplus relation itself (`heliodor.analysis.proteins.couplings.karplus`, sigma) is not in them.

    Args:
        parameters: set of Karplus parameters: hu-bax, vogeli, schmidt, case1, case2.

    Returns:
        By residue (``"ALA 1"``) and coupling (``"hn_ha"``); none where there is no peptide.

    Raises:
        InputError: no such parameters; too few frames.
    """
    coupling("hn_ha", np.zeros(1), parameters)
    trajectory = open_trajectory(result.files.trajectory)
    torsions = protein_torsions(trajectory.topology).of("phi")
    if not len(torsions):
        return {}
    phi = torsion_series(trajectory, torsions)
    weights = frame_log_weights(result.samples, trajectory.time, method, skip)
    found = {}
    for k, quad in enumerate(torsions.quads):
        residue = str(trajectory.topology.residue_names[quad[2]])
        for name in karplus()["sets"][parameters]["couplings"]:
            # prolines have no HN, glycines no CB
            if ("hn" in name and residue == "PRO") or (name == "hn_cb" and residue == "GLY"):
                continue
            values = coupling(name, phi[:, k], parameters, residue == "GLY")
            mean, error = weighted_average(weights, values, blocks)
            known = float(error) if method in HONEST else float("nan")
            found[torsions.labels[k].rpartition(" ")[0], name] = (float(mean), known)
    return found


def check_couplings(atoms: ase.Atoms, parameters: str) -> None:
    """Refuse couplings that a run could not give at its end.

    Raises:
        InputError: no such parameters; no peptide with φ.
    """
    coupling("hn_ha", np.zeros(1), parameters)
    if not len(protein_torsions(named_topology(atoms)).of("phi")):
        raise InputError("couplings: there is no peptide with an angle φ in this structure")


def share(
    log_weights: Float[np.ndarray, "T"], member: Bool[np.ndarray, "T B"], blocks: int = BLOCKS
) -> tuple[Float[np.ndarray, "B"], Float[np.ndarray, "B"]]:
    """Populations of B states and their standard errors."""
    return weighted_average(log_weights, member.astype(np.float64), blocks)
