"""Three-bond couplings ³J of a peptide's backbone from φ, by Karplus relations with the source of their parameters."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jaxtyping import Float

from heliodor.analysis.proteins.backbone import Backbone, backbone_of, missing
from heliodor.analysis.proteins.series import mean_of
from heliodor.analysis.proteins.torsions import protein_torsions, torsion_series
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.errors import InputError, suggestion
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.trajectory import Trajectory

NAMES = {"hn_ha": "HN,Hα", "hn_cb": "HN,Cβ", "hn_co": "HN,C'", "ha_co": "Hα,C'", "co_co": "C',C'"}
"""Couplings: C' in the second and third is the residue's own, in the fourth that of the residue before."""

ALONE = 12
"""Residues up to which every coupling is listed as a number."""

ONE_LETTER = {"ALA": "A", "GLY": "G"}


@cache
def karplus() -> dict[str, Any]:
    """Parameter sets and measured couplings that come with the package."""
    text = files("heliodor.analysis.proteins").joinpath("karplus.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def coupling(name: str, phi: np.ndarray, parameters: str = "vogeli", glycine: bool = False) -> np.ndarray:
    """A cos²(φ + δ) + B cos(φ + δ) + C in Hz.

    Args:
        name: one of `NAMES`.
        phi: degrees.
        parameters: one of the sets in `karplus`.
        glycine: Hα stands for two hydrogens, at +δ and -δ; their mean is returned.

    Raises:
        InputError: there is no such set.
    """
    sets = karplus()["sets"]
    if parameters not in sets:
        raise InputError(
            f"there are no parameters {parameters!r}{suggestion(parameters, sets)}; known: {', '.join(sets)}"
        )
    p = sets[parameters]["couplings"][name]
    shifts = (p["delta"], -p["delta"]) if glycine and "ha" in name else (p["delta"],)
    cosines = [np.cos(np.radians(np.asarray(phi, dtype=np.float64) + shift)) for shift in shifts]
    return np.asarray(np.mean([p["A"] * x**2 + p["B"] * x + p["C"] for x in cosines], axis=0))


@dataclass(frozen=True, eq=False)
class Couplings:
    """One coupling of R residues.

    Attributes:
        name: one of `NAMES`.
        residues: labels.
        numbers: of residues, counted from 1 along their chain.
        mean, error: Hz; NaN where the error cannot be had.
        deviation: Hz, standard deviation of the relation's fit: what J of an exact φ is still uncertain by.
        measured: Hz, NaN where there is nothing.
        few: words on residues whose error rests on few independent samples.
    """

    name: str
    residues: tuple[str, ...]
    numbers: np.ndarray
    mean: Float[np.ndarray, "R"]
    error: Float[np.ndarray, "R"]
    deviation: float
    measured: Float[np.ndarray, "R"]
    few: tuple[str, ...]


def unfit(trajectory: Trajectory) -> str | None:
    """Why there is no φ, in words; None if there is one."""
    reason = missing(trajectory)
    if reason is None and not len(protein_torsions(trajectory.topology).of("phi")):
        reason = "no amino acid has a neighbour before it, so that there is no angle φ"
    return reason


def couplings(
    trajectory: Trajectory,
    parameters: str = "vogeli",
    *,
    stride: int = 1,
    progress: Progress | None = None,
    processes: int = 1,
) -> tuple[Couplings, ...]:
    """Averages over the trajectory of all `NAMES` that the residues have.

    Prolines have no HN, glycines no Cβ (and two Hα). Measured values are of Ala3 to Ala7 and Gly3 with free ends
    (Graf et al. 2007) and are given where the chain is exactly that, without caps.

    Raises:
        InputError: no φ; unknown parameters.
    """
    backbone = backbone_of(trajectory.topology)
    torsions = protein_torsions(trajectory.topology, backbone).of("phi")
    if not len(torsions):
        raise InputError(f"{trajectory.path}: {unfit(trajectory)}")
    coupling("hn_ha", np.zeros(1), parameters)
    phi = torsion_series(trajectory, torsions, stride=stride, progress=progress, processes=processes)
    names = backbone.residue_names[torsions.residues]
    place = _places(backbone)[torsions.residues]
    known = _measured(backbone)
    found = []
    for name in NAMES:
        rows = [k for k in range(len(names)) if _has(name, str(names[k]))]
        if not rows:
            continue
        each = [mean_of(coupling(name, phi[:, k], parameters, str(names[k]) == "GLY")) for k in rows]
        found.append(
            Couplings(
                name=name,
                residues=tuple(backbone.label(int(torsions.residues[k])) for k in rows),
                numbers=place[rows],
                mean=np.array([one[0] for one in each]),
                error=np.array([np.nan if one[1] is None else one[1] for one in each]),
                deviation=float(karplus()["sets"][parameters]["couplings"][name]["sigma"]),
                measured=np.array([known.get((name, int(torsions.residues[k])), np.nan) for k in rows]),
                few=tuple(one[2].strip(", ") for one in each),
            )
        )
    return tuple(found)


def _has(name: str, residue: str) -> bool:
    if residue == "PRO":
        return "hn" not in name
    return residue != "GLY" or name != "hn_cb"


def _places(backbone: Backbone) -> np.ndarray:
    """Number of each amino acid along its chain, from 1; caps are 0 or continue."""
    count = np.zeros(len(backbone), dtype=np.int64)
    for piece in np.unique(backbone.piece):
        mine = backbone.piece == piece
        count[mine] = np.cumsum(backbone.amino[mine])
    return count


def _measured(backbone: Backbone) -> dict[tuple[str, int], float]:
    """Measured couplings by name and place in the backbone."""
    found = {}
    for piece in np.unique(backbone.piece):
        rows = np.flatnonzero(backbone.piece == piece)
        sequence = "".join(ONE_LETTER.get(str(name), "?") for name in backbone.residue_names[rows])
        if backbone.amino[rows].all():
            for name, number, value in karplus()["experiment"].get(sequence, ()):
                found[name, int(rows[number - 1])] = float(value)
    return found


def show(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    parameters: str = "vogeli",
    stride: int = 1,
) -> Shown:
    """Couplings ³J of the backbone from φ, with experiment where the peptide is one that was measured.

    Args:
        parameters: of the Karplus relations: hu-bax, vogeli, schmidt, case1 or case2.
        stride: every which frame.
    """
    if stride < 1:
        raise InputError("stride must be at least 1")
    found = couplings(trajectory, parameters, stride=stride, progress=progress, processes=processes)
    panels: list[Panel] = []
    numbers: list[Number] = []
    rows: dict[str, list[Any]] = {
        key: [] for key in ("coupling", "residue", "J_Hz", "error_Hz", "fit_deviation_Hz", "measured_Hz")
    }
    squares = []
    for one in found:
        title = f"³J({NAMES[one.name]})"
        low = None if np.isnan(one.error).all() else one.mean - np.nan_to_num(one.error)
        high = None if low is None else one.mean + np.nan_to_num(one.error)
        x = one.numbers.astype(float)
        curves = [Curve("computed", x, one.mean, low, high, style="points" if len(x) == 1 else "line")]
        if np.isfinite(one.measured).any():
            curves.append(Curve("Graf et al. 2007", x, one.measured, style="points", reference=True))
            there = np.isfinite(one.measured)
            squares += (((one.mean - one.measured)[there] / one.deviation) ** 2).tolist()
        panels.append(Panel(title, Axis("residue"), Axis(title, "Hz"), tuple(curves)))
        for k, label in enumerate(one.residues):
            row = (one.name, label, one.mean[k], one.error[k], one.deviation, one.measured[k])
            for key, value in zip(rows, row, strict=True):
                rows[key].append(value)
            if len(one.residues) <= ALONE and one.name != "co_co":
                error = None if np.isnan(one.error[k]) else float(one.error[k])
                measured = None if np.isnan(one.measured[k]) else float(one.measured[k])
                numbers.append(Number(f"{title} {label}", float(one.mean[k]), error, "Hz", one.few[k], measured))
    if squares:
        note = f"{len(squares)} couplings, in units of the fit's standard deviation"
        numbers.append(Number("χ² per measured coupling", float(np.mean(squares)), None, "", note))
    source = karplus()["sets"][parameters]["source"]
    notes = [
        f"J = A cos²(φ + δ) + B cos(φ + δ) + C, averaged over frames; parameters {parameters}: {source}; values from "
        "openforcefield/proteinbenchmark (MIT).",
        "Errors are of the average over this trajectory; the relation itself is good to the standard deviation of its "
        "fit (fit_deviation_Hz in the table). C' is the residue's own with HN and that of the residue before with Hα.",
        "Of glycine the mean over both Hα is given.",
    ]
    if squares:
        notes.append("Measured: Graf, Nguyen, Stock and Schwalbe, J. Am. Chem. Soc. 129, 1179 (2007), in water.")
    tables = {"couplings": {key: np.array(values) for key, values in rows.items()}}
    return Shown("couplings", "³J couplings from φ", tuple(panels), tuple(numbers), tuple(notes), tables)
