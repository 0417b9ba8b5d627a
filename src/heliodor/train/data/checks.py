"""What can be wrong with a labelled set, found before anything is trained on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from heliodor.train.data.consistency import FEWEST, Consistency, check_consistency, options_for_slope
from heliodor.train.data.distances import Shapes, measure_shapes
from heliodor.train.data.duplicates import TOLERANCE, find_duplicates
from heliodor.train.data.electrons import cause_of_misfits, misfits
from heliodor.train.data.findings import Finding, Report
from heliodor.train.data.magnitudes import READ, judge_energies, judge_forces, judge_lengths
from heliodor.train.dataset import PER_ATOM, Dataset
from heliodor.train.references import fit_references

MAX_FORCE = 25.0
"""eV/Å; the sets of SO3LR and MACE-OFF leave stronger ones out."""

MIN_DISTANCE = 0.25
"""Å."""

NET_FORCE, NET_TORQUE = 0.1, 0.5
"""eV/Å and eV on a whole molecule; grids of density functionals leave a tenth of that."""

UNRELATED = 0.5
"""Net force or torque of a molecule, relative to what forces of random directions would have, above which forces
cannot be those of these positions."""

MEND = "(mend it there; with --keep-nan it counts as missing)"

LABELS = ("energy", "forces", "stress", "dipole", "hirshfeld_ratios", "charges", "node_energies")


@dataclass(frozen=True)
class Limits:
    """Where findings begin.

    Attributes:
        max_force: eV/Å.
        min_distance: Å.
        duplicates: Å, by which distances of the same structure may differ; 0: not looked for.
    """

    max_force: float = MAX_FORCE
    min_distance: float = MIN_DISTANCE
    duplicates: float = TOLERANCE


def check_dataset(
    data: Dataset,
    limits: Limits | None = None,
    *,
    parts: Int[np.ndarray, "S"] | None = None,
    names: Sequence[str] = (),
    not_numbers: Mapping[str, Sequence[int]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Look for everything that papers filter out, and for mistakes of units, signs, charges and order.

    Args:
        parts: which file each structure comes from; the same structure in two of them is an error.
        names: of these files.
        not_numbers: structures whose labels were NaN or infinite in their file, by label.
        progress: called with the structures done and their number.
    """
    limits = limits or Limits()
    shapes = measure_shapes(data, progress)
    norms = (
        np.linalg.norm(data.forces, axis=1) if np.isfinite(data.forces).any() else np.full(len(data.numbers), np.nan)
    )
    pairs = check_consistency(data)
    energies, look = judge_energies(data)
    found = [
        *_labels(data, not_numbers or {}),
        *_distances(shapes, limits),
        *_forces(data, norms, limits),
        *_net(data),
        *_electrons(data),
        *_charges(data),
        *_duplicates(data, shapes, limits, parts, names),
        *_outliers(data),
    ]
    other_unit = bool(energies) or (pairs.verdict == "units" and not 0.8 < abs(pairs.scale) < 1.25)
    if energies and pairs.verdict == "units" and energies.split(":")[0].replace("look like", "in") in pairs.explanation:
        # said by the work between frames as well, which knows the unit of the forces too
        energies = ""
    if other_unit:
        # limits in eV/Å say nothing about forces in another unit
        limits_in_ev = ("forces", "net force", "net torque")
        found = [finding for finding in found if finding.severity == "error" or finding.about not in limits_in_ev]
    units = [judge_lengths(shapes), energies]
    found += [Finding("error", "units", text) for text in units if text]
    if not other_unit and (text := judge_forces(data, norms)):
        certain = norms.size and float(np.nanmedian(norms)) > 1.0
        found.append(Finding("error" if certain else "warning", "units", text))
    found += _consistency(pairs)
    facts = {"energies": look} if look else {}
    facts["energy against force"] = _told(pairs)
    found.sort(key=lambda finding: finding.severity != "error")
    return Report(len(data), tuple(found), facts, pairs)


def _per_structure(data: Dataset, flags: np.ndarray) -> np.ndarray:
    """Structures with an atom that is flagged."""
    return np.flatnonzero(np.logical_or.reduceat(flags, data.offsets[:-1]))


def _labels(data: Dataset, not_numbers: Mapping[str, Sequence[int]]) -> list[Finding]:
    found = []
    for name in LABELS:
        values = getattr(data, name)
        missing = np.isnan(values)
        if missing.all():
            if name in not_numbers:
                found.append(Finding("error", "labels", f"every {name} is NaN"))
            continue
        infinite = np.isinf(values)
        axes = tuple(range(1, values.ndim))
        missing, infinite = missing.any(axis=axes), infinite.any(axis=axes)
        if name in PER_ATOM:
            wholly = np.logical_and.reduceat(missing, data.offsets[:-1])
            partly = np.logical_or.reduceat(missing, data.offsets[:-1]) & ~wholly
            infinite = np.logical_or.reduceat(infinite, data.offsets[:-1])
        else:
            wholly, partly = missing, np.isnan(values).any(axis=axes) & ~np.isnan(values).all(axis=axes)
        if infinite.any():
            found.append(Finding("error", "labels", f"{name} is infinite", np.flatnonzero(infinite)))
        if partly.any():
            found.append(Finding("error", "labels", f"{name} is NaN in part", np.flatnonzero(partly)))
        bad = np.array(sorted(set(not_numbers.get(name, ()))), dtype=np.int64)
        if len(bad):
            found.append(Finding("error", "labels", f"{name} is not a finite number in the file {MEND}", bad))
        absent = np.setdiff1d(np.flatnonzero(wholly & ~partly), bad)
        if len(absent):
            found.append(Finding("warning", "labels", f"{name} is missing, though others have it", absent))
    return found


def _distances(shapes: Shapes, limits: Limits) -> list[Finding]:
    close = np.flatnonzero(shapes.shortest < limits.min_distance)
    if not len(close):
        return []
    worst = float(shapes.shortest[close].min())
    text = f"atoms closer than {limits.min_distance:g} Å (the closest {worst:.3g} Å)"
    return [Finding("error", "distances", text, close)]


def _forces(data: Dataset, norms: np.ndarray, limits: Limits) -> list[Finding]:
    strong = _per_structure(data, norms > limits.max_force)
    if not len(strong):
        return []
    text = f"forces above {limits.max_force:g} eV/Å (the strongest {float(np.nanmax(norms)):.4g})"
    return [Finding("warning", "forces", text, strong)]


def _net(data: Dataset) -> list[Finding]:
    if not np.isfinite(data.forces).any():
        return []
    begin, counts = data.offsets[:-1], data.counts
    forces = np.asarray(data.forces)
    net = np.linalg.norm(np.add.reduceat(forces, begin), axis=1)
    centre = np.add.reduceat(np.asarray(data.positions), begin) / counts[:, None]
    arms = data.positions - np.repeat(centre, counts, axis=0)
    torque = np.linalg.norm(np.add.reduceat(np.cross(arms, forces), begin), axis=1)
    size = np.sqrt(np.add.reduceat((forces**2).sum(1), begin))
    lever = np.sqrt(np.add.reduceat((arms**2).sum(1) * (forces**2).sum(1), begin)) + 1e-12
    free = ~data.pbc.any(1) & (counts > 1)
    found = []
    moved = np.flatnonzero(free & (net > NET_FORCE))
    if len(moved):
        text = f"a net force on a whole molecule above {NET_FORCE:g} eV/Å (the largest {net[moved].max():.3g})"
        found.append(Finding("warning", "net force", text, moved))
    turned = np.flatnonzero(free & (torque > NET_TORQUE))
    some = free & (counts > 2) & (size > 0.1)
    if some.any() and max(np.median(net[some] / size[some]), np.median(torque[some] / lever[some])) > UNRELATED:
        text = "forces do not belong to these positions (by net force or torque): atoms in another order, or turned?"
        return [*found, Finding("error", "net force", text)]
    if len(turned):
        text = f"a net torque on a whole molecule above {NET_TORQUE:g} eV (the largest {torque[turned].max():.3g})"
        found.append(Finding("warning", "net torque", text, turned))
    return found


def _electrons(data: Dataset) -> list[Finding]:
    whole = np.abs(data.charge - np.round(data.charge)) < 1e-6
    found = []
    if not whole.all():
        found.append(Finding("error", "charge", "a total charge that is no whole number", np.flatnonzero(~whole)))
    odd = whole & misfits(data)
    atoms, molecules = np.flatnonzero(odd & (data.counts == 1)), np.flatnonzero(odd & (data.counts > 1))
    if len(molecules):
        text = "the number of electrons does not fit the number of unpaired ones"
        text += {
            "charge": "; all charges and spins are 0: ions or radicals whose charge was never read (--charge-key, "
            "--spin-key)",
            "multiplicity": "; they are multiplicities, by their values: name their key by --multiplicity-key",
            "": "",
        }[cause_of_misfits(data)]
        found.append(Finding("error", "electrons", text, molecules))
    if len(atoms):
        text = "single atoms with an odd number of electrons and none unpaired: their spin was not read"
        found.append(Finding("warning", "electrons", text, atoms))
    return found


def _charges(data: Dataset) -> list[Finding]:
    total = np.add.reduceat(np.asarray(data.charges), data.offsets[:-1])
    off = np.flatnonzero(np.isfinite(total) & (np.abs(total - data.charge) > 0.3))
    if not len(off):
        return []
    k = off[0]
    text = (
        f"partial charges do not add up to the total charge (structure {k}: {total[k]:.2f} against {data.charge[k]:g})"
    )
    if not data.charge.any():
        text += "; all total charges are 0: they were probably never read (--charge-key)"
    return [Finding("error", "charge", text, off)]


def _duplicates(
    data: Dataset, shapes: Shapes, limits: Limits, parts: np.ndarray | None, names: Sequence[str]
) -> list[Finding]:
    if limits.duplicates <= 0.0:
        return []
    first = find_duplicates(data, limits.duplicates, shapes)
    again = np.flatnonzero(first != np.arange(len(data)))
    found = []
    if parts is not None and len(again):
        leaked = [k for k in again if len(set(parts[first == first[k]])) > 1]
        if leaked:
            pair = sorted({int(parts[first[k]]) for k in leaked} | {int(parts[k]) for k in leaked})
            text = f"structures that are in several files ({', '.join(names[p] if names else str(p) for p in pair)})"
            found.append(Finding("error", "duplicates", text, np.array(leaked)))
            again = np.setdiff1d(again, leaked)
    if len(again):
        found.append(Finding("warning", "duplicates", "structures that occurred before", again))
    same = np.flatnonzero(first != np.arange(len(data)))
    apart = np.abs(data.energy[same] - data.energy[first[same]])
    if (apart > 0.01).any():
        text = f"the same structure with another energy (up to {np.nanmax(apart):.3g} eV apart)"
        found.append(Finding("error", "duplicates", text, same[apart > 0.01]))
    return found


def _outliers(data: Dataset) -> list[Finding]:
    """Energies far off what the composition says, against the spread of the others."""
    known = np.flatnonzero(np.isfinite(data.energy) & (data.counts > 1))
    if len(known) < 20:
        return []
    some = data if len(known) == len(data) else data.take(known)
    left = (some.energy - fit_references(some).sums(some)) / some.counts
    middle = np.median(left)
    spread = 1.4826 * float(np.median(np.abs(left - middle)))
    far = known[np.abs(left - middle) > max(20.0 * spread, 0.5)]
    if not len(far):
        return []
    worst = float(np.abs(left - middle).max())
    return [Finding("warning", "energies", f"energies up to {worst:.3g} eV an atom off what the composition says", far)]


def _consistency(pairs: Consistency) -> list[Finding]:
    if pairs.verdict == "units":
        text = f"energies and forces do not fit: ΔE = {pairs.scale:.3g} × work between frames, {pairs.explanation}"
        if options := options_for_slope(pairs.scale):
            text += f"; {READ.format(options)}"
        return [Finding("error", "energy against force", text)]
    if pairs.verdict == "unrelated":
        text = f"energies and forces have nothing to do with each other (correlation {pairs.correlation:.2f})"
        return [Finding("error", "energy against force", text)]
    return []


def _told(pairs: Consistency) -> str:
    if not len(pairs.pairs):
        return "not checked: no two frames of the same molecule near each other"
    if pairs.verdict == "none" and len(pairs.pairs) < FEWEST:
        return f"not checked: only {len(pairs.pairs)} frames of the same molecule near each other"
    numbers = (
        f"slope {pairs.slope:.3f}, scale {pairs.scale:.3f}, correlation {pairs.correlation:.3f} over "
        f"{len(pairs.pairs)} pairs of frames {float(np.median(pairs.step)):.2f} Å apart"
    )
    return f"{numbers}; too little to judge by" if pairs.verdict == "none" else numbers
