"""Heats of vaporisation from the energies of a liquid and of its molecule in the gas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from heliodor.analysis.liquids.conditions import PARTIAL, kinds_of, temperature_of
from heliodor.analysis.settling import LATEST, Settling, settled
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.analysis.statistics import SHORTEST, equilibrated, mean_with_error
from heliodor.errors import InputError
from heliodor.trajectory.open import open_trajectory
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.trajectory import Trajectory
from heliodor.units import BOLTZMANN, KCAL_PER_MOL, KJ_PER_MOL

APART = 5.0
"""K between runs of liquid and gas that is mentioned."""


@dataclass(frozen=True)
class Vaporisation:
    """Heat of vaporisation of one molecule.

    Attributes:
        heat, error: eV for each molecule, with its standard error.
        liquid, liquid_error: eV, potential energy for each molecule in the liquid.
        gas, gas_error: eV, of the molecule alone.
        temperature: K.
    """

    heat: float
    error: float
    liquid: float
    liquid_error: float
    gas: float
    gas_error: float
    temperature: float


def heat_of_vaporisation(
    liquid: Float[np.ndarray, "T"],
    gas: Sequence[np.ndarray],
    molecules: int,
    temperature: float,
) -> Vaporisation:
    """ΔH = <E_gas> - <E_liquid>/N + k_BT, at one temperature.

    Potential energies of flexible molecules: the kinetic ones of classical nuclei are equal and cancel. k_BT is p ΔV of
    an ideal gas; left out are the volume of the liquid, the imperfect gas and quantum nuclei. What relaxes at the
    beginning of each series is left out (Chodera, JCTC 12, 1799 (2016)); errors know of correlation.

    Args:
        liquid: eV, of all molecules together.
        gas: [S] eV of one molecule alone, of one run or several.
        molecules: in the liquid.
        temperature: K.

    Raises:
        InputError: series of fewer than 10 values, numbers of molecules or temperatures that are none.
    """
    if molecules < 2:
        raise InputError(f"a liquid of {molecules} molecule(s) is none")
    if not temperature > 0.0:
        raise InputError(f"the temperature must be positive (K), not {temperature!r}")
    if not gas:
        raise InputError("no energies of the gas are given")
    inside, doubt_inside = _settled_mean(liquid)
    alone = [_settled_mean(series) for series in gas]
    weights = np.array([len(series) for series in gas]) / sum(len(series) for series in gas)
    outside = float(weights @ [mean for mean, _ in alone])
    doubt_outside = float(np.linalg.norm(weights * [error for _, error in alone]))
    return Vaporisation(
        heat=outside - inside / molecules + BOLTZMANN * temperature,
        error=float(np.hypot(doubt_outside, doubt_inside / molecules)),
        liquid=inside / molecules,
        liquid_error=doubt_inside / molecules,
        gas=outside,
        gas_error=doubt_outside,
        temperature=temperature,
    )


def _settled_mean(series: np.ndarray) -> tuple[float, float]:
    mean, error = mean_with_error(series[equilibrated(series, LATEST).start :])
    return mean, math.nan if error is None else error


def energies(trajectory: Trajectory) -> tuple[Float[np.ndarray, "T"], Float[np.ndarray, "T"]]:
    """Times in ps and potential energies in eV: of the log beside the trajectory, else of its frames.

    Raises:
        InputError: neither says them.
    """
    log = trajectory.log
    if "potential_eV" in log and len(log["potential_eV"]):
        return 1e-3 * log["time_fs"], log["potential_eV"]
    if "energy" not in trajectory.holds:
        raise InputError(f"{trajectory.path} holds no energies, and no log (.csv) with them lies beside it")
    one = np.array([0])
    found = [block.energy for block in trajectory.blocks(atoms=one, wanted=("energy",), memory=2**20)]
    return 1e-3 * trajectory.time, np.concatenate([values for values in found if values is not None])


def show(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    gas: str | None = None,
    temperature: float | None = None,
) -> Shown:
    """Heat of vaporisation: needs a run of one molecule in the gas, by the same model at the same temperature.

    Args:
        gas: trajectory of one molecule alone (its log beside it), or several with commas between.
        temperature: in K; by default that of the liquid's run.
    """
    if not gas:
        raise InputError("give the run of one molecule in the gas: gas=molecule.h5")
    alone = [open_trajectory(Path(word.strip())) for word in gas.split(",") if word.strip()]
    for run in (trajectory, *alone):
        if run.partial:
            raise InputError(f"{run.path}: {PARTIAL}, and energies are of all: a heat of vaporisation needs all atoms")
    kinds = kinds_of(trajectory.topology)
    if len(kinds) != 1:
        raise InputError(f"{trajectory.path} is a mixture of {len(kinds)} kinds of molecules: vaporise pure liquids")
    for run in alone:
        _check_gas(trajectory, run)
    warm = temperature_of(trajectory) if temperature is None else temperature
    if warm is None:
        raise InputError("the temperature of the run is not known: give temperature=")
    count = len(kinds[0].molecules)
    time, inside = energies(trajectory)
    separate = [energies(run) for run in alone]
    found = heat_of_vaporisation(
        inside,
        [values for _, values in separate],
        count,
        warm,
    )
    verdict = settled(time, inside / count, "energy of the liquid", "eV/molecule") if len(time) >= SHORTEST else None
    if progress is not None:
        progress(len(trajectory), len(trajectory))
    curves = [Curve("liquid", time, inside / count)]
    curves += [Curve(f"gas {k + 1}" if len(separate) > 1 else "gas", *pair) for k, pair in enumerate(separate)]
    return Shown(
        name="vaporisation",
        title="Heat of vaporisation",
        panels=(Panel("potential energy", Axis("time", "ps"), Axis("energy per molecule", "eV"), tuple(curves)),),
        numbers=(
            Number("heat of vaporisation", found.heat / KCAL_PER_MOL, found.error / KCAL_PER_MOL, "kcal/mol"),
            Number("heat of vaporisation", found.heat / KJ_PER_MOL, found.error / KJ_PER_MOL, "kJ/mol"),
            Number("energy in the liquid", found.liquid, found.liquid_error, "eV/molecule"),
            Number("energy in the gas", found.gas, found.gas_error, "eV"),
        ),
        notes=tuple(_notes(found, trajectory, alone, verdict)),
        tables={"liquid_energy": {"time_ps": time, "energy_per_molecule_eV": inside / count}},
    )


def _check_gas(liquid: Trajectory, gas: Trajectory) -> None:
    kinds = kinds_of(gas.topology)
    wanted = kinds_of(liquid.topology)[0].formula
    if len(kinds) != 1 or len(kinds[0].molecules) != 1 or kinds[0].formula != wanted:
        held = ", ".join(f"{len(kind.molecules)} {kind.formula}" for kind in kinds)
        raise InputError(f"{gas.path} holds {held}, and one {wanted} alone is needed")
    if gas.pbc.any():
        raise InputError(f"{gas.path} is periodic: run the molecule of the gas without a cell")
    models = [run.settings.get("model") for run in (liquid, gas)]
    if None not in models and models[0] != models[1]:
        raise InputError(f"{liquid.path} was run with {models[0]} and {gas.path} with {models[1]}: use one model")


def _notes(found: Vaporisation, liquid: Trajectory, alone: list[Trajectory], verdict: Settling | None) -> list[str]:
    notes = [
        f"ΔH = ⟨E_gas⟩ − ⟨E_liquid⟩/N + k_BT at {found.temperature:.0f} K, potential energies; without corrections for "
        "quantum nuclei, the imperfect gas and the volume of the liquid.",
    ]
    if verdict is not None:
        notes.append(f"{verdict.words[0].upper()}{verdict.words[1:]}.")
    for run in alone:
        there = temperature_of(run)
        if there is not None and abs(there - found.temperature) > APART:
            notes.append(f"{run.path.name} was run at {there:.0f} K, the liquid at {found.temperature:.0f} K.")
    if "SO3LR" in str(liquid.settings.get("model", "")).upper():
        notes.append(
            "SO3LR's long-range terms are cut off in the liquid and not in the gas unless both were run with the same "
            "cutoff (--long-range-cutoff): the missing tail of dispersion makes the heat too small."
        )
    return notes
