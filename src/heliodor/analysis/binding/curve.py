"""Interaction energy of two rigid molecules along a line: GEMS, Unke et al., Sci. Adv. 10, eadn4397 (2024), Fig. 5.

Every energy is that of the complex minus that of the same atoms with fragments that do not see each other
(`heliodor.interaction`): the far end of the curve is exactly zero, and total charges are never mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.binding.fragments import fragment_charges
from heliodor.errors import InputError
from heliodor.interaction import PROTOCOLS, apart
from heliodor.potential import Potential, check_distances, check_energy, evaluate_system
from heliodor.system import System

LOW, HIGH = -0.5, 10.0
"""Å, of the displacement."""


@dataclass(frozen=True, eq=False)
class BindingCurve:
    """E(complex) - E(fragments at infinite separation), both rigid, D displacements.

    Attributes:
        name: of the complex.
        displacement: Å along the axis, 0 as given, ascending.
        separation: Å between the centres of mass.
        closest: Å between the nearest atoms of the two.
        energy: eV.
        terms: eV, by the model's terms; they sum up to the energy.
        as_given: eV at displacement 0.
        minimum: Å, displacement of the lowest point of a cubic spline through the energies.
        depth: eV there (negative: bound).
        at_edge: whether the lowest point is an end of the range, so that the minimum lies outside it.
        axis: unit vector along which the second fragment moves.
        charges: e, of the fragments.
        protocol: of `heliodor.interaction_energy`.
        model: name.
    """

    name: str
    displacement: Float[np.ndarray, "D"]
    separation: Float[np.ndarray, "D"]
    closest: Float[np.ndarray, "D"]
    energy: Float[np.ndarray, "D"]
    terms: dict[str, Float[np.ndarray, "D"]]
    as_given: float
    minimum: float
    depth: float
    at_edge: bool
    axis: Float[np.ndarray, "3"]
    charges: Float[np.ndarray, "2"]
    protocol: str
    model: str


def displacements(low: float = LOW, high: float = HIGH, step: float | None = None) -> Float[np.ndarray, "D"]:
    """A grid in Å with zero on it: even, or without ``step`` of 0.1 Å up to 2 Å, 0.25 up to 4 Å, 0.5 beyond.

    Raises:
        InputError: a range without zero or an end, a step that is none.
    """
    if not (np.isfinite([low, high]).all() and low <= 0.0 < high):
        raise InputError(f"displacements must range from 0 or less to more than 0 Å, not from {low:g} to {high:g}")
    if step is not None and not 0.0 < step <= high - low:
        raise InputError(f"the step must be positive and smaller than the range, not {step:g} Å")
    if step is not None and (high - low) / step > 2000:
        raise InputError(f"a step of {step:g} Å makes {(high - low) / step:.0f} points: 2000 are the most")
    if step is None:
        near, middle = np.arange(-np.floor(-low / 0.1 + 1e-9), 21) * 0.1, np.arange(9, 17) * 0.25
        grid = np.concatenate([near, middle, np.arange(9, 9 + max(0.0, 2.0 * (high - 4.0))) * 0.5])
    else:
        grid = np.arange(-np.floor(-low / step + 1e-9), np.floor(high / step + 1e-9) + 1.0) * step
    kept = grid[(grid >= low - 1e-9) & (grid <= high + 1e-9)]
    ends = np.array([low, high])
    # the ends asked for are on it, and nothing twice
    return np.unique(np.round(np.concatenate([kept, ends]), 9))


def binding_curve(
    potential: Potential,
    atoms: ase.Atoms,
    fragments: Int[np.ndarray, "N"],
    charges: Sequence[float] | Float[np.ndarray, "2"] | None = None,
    *,
    grid: Float[np.ndarray, "D"] | None = None,
    axis: Sequence[float] | Float[np.ndarray, "3"] | None = None,
    protocol: str = "fragments",
    name: str = "",
    progress: Callable[[int, int], object] | None = None,
) -> BindingCurve:
    """Pull the second of two rigid fragments along a line and evaluate the interaction energy.

    Args:
        atoms: the complex; not periodic.
        fragments: 0 or 1 for each atom (`two_fragments`).
        charges: of both fragments, e; None: as `fragment_charges` tells them.
        grid: displacements in Å, ascending, with 0; None: `displacements`.
        axis: direction in which the second fragment moves; None: from centre of mass to centre of mass.
        protocol: "fragments" or "relaxed", as `heliodor.interaction_energy`.
        name: of the complex.

    Raises:
        InputError: a periodic structure, other than two fragments, coinciding centres without an axis, charges that
            do not add up, atoms on one spot along the way.
        ModelError: atoms or charges outside the model.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
    if atoms.pbc.any():
        raise InputError("binding curves are of molecules: a periodic structure cannot be pulled apart")
    if len(fragments) != len(atoms) or set(np.unique(fragments).tolist()) != {0, 1}:
        raise InputError("fragments must be 0 or 1 for each atom, and both must occur")
    check_energy(potential)
    q = fragment_charges(atoms, fragments, charges)
    steps = displacements() if grid is None else grid
    if len(steps) < 4 or not (np.diff(steps) > 0.0).all() or not (steps == 0.0).any():
        raise InputError("the grid of displacements must ascend, hold 0 and have at least four points")
    second = fragments == 1
    masses = atoms.get_masses()
    centres = [np.average(atoms.positions[part], axis=0, weights=masses[part]) for part in (~second, second)]
    direction = _direction(centres[1] - centres[0], axis)
    energies: list[float] = []
    terms: dict[str, list[float]] = {}
    reference: tuple[float, dict[str, float]] | None = None
    for done, step in enumerate(steps.tolist()):
        moved = ase.Atoms(numbers=atoms.numbers, positions=atoms.positions + step * np.outer(second, direction))
        system = System.from_atoms(
            moved,
            charge=float(q.sum()),
            spin=0,
            fragments=fragments,
            fragment_charges=q.tolist(),
            device=potential.device,
        )
        if done == 0:
            potential.check(system)
        neighbors = potential.neighbors(system)
        check_distances(system, neighbors, done)
        if reference is None:
            # rigid fragments that do not see each other: the same wherever they are
            reference = _evaluated(potential, system, apart(neighbors, system))
        together = system if protocol == "fragments" else system.replace(fragment=None, fragment_charge=None)
        energy, parts = _evaluated(potential, together, neighbors)
        energies.append(energy - reference[0])
        for term, value in parts.items():
            terms.setdefault(term, []).append(value - reference[1][term])
        if progress is not None:
            progress(done + 1, len(steps))
    energy_array = np.array(energies)
    minimum, depth, at_edge = lowest(steps, energy_array)
    offset = centres[1] - centres[0]
    return BindingCurve(
        name=name or atoms.get_chemical_formula("hill"),
        displacement=steps,
        separation=np.linalg.norm(offset + steps[:, None] * direction, axis=1),
        closest=_closest(atoms.positions[~second], atoms.positions[second], steps, direction),
        energy=energy_array,
        terms={term: np.array(values) for term, values in terms.items()},
        as_given=float(energy_array[steps == 0.0][0]),
        minimum=minimum,
        depth=depth,
        at_edge=at_edge,
        axis=direction,
        charges=q,
        protocol=protocol,
        model=potential.name,
    )


def lowest(x: Float[np.ndarray, "D"], energy: Float[np.ndarray, "D"]) -> tuple[float, float, bool]:
    """Place and value of the minimum of a cubic spline, and whether it is an end of the range."""
    from scipy.interpolate import CubicSpline

    spline = CubicSpline(x, energy)
    candidates = np.concatenate([spline.derivative().roots(extrapolate=False), x[[0, -1]]])
    candidates = candidates[np.isfinite(candidates)]
    values = spline(candidates)
    best = int(values.argmin())
    return float(candidates[best]), float(values[best]), bool(best >= len(candidates) - 2)


def _direction(between: Float[np.ndarray, "3"], axis: Sequence[float] | np.ndarray | None) -> Float[np.ndarray, "3"]:
    vector = between if axis is None else np.asarray(axis, dtype=np.float64)
    if vector.shape != (3,) or not np.isfinite(vector).all():
        raise InputError(f"the axis must be three numbers, not {axis!r}")
    length = float(np.linalg.norm(vector))
    if length < (0.1 if axis is None else 1e-10):
        raise InputError(
            "the centres of mass of the two fragments coincide, so they define no direction: give an axis"
            if axis is None
            else "the axis has no length"
        )
    result: np.ndarray = vector / length
    return result


def _evaluated(potential: Potential, system: System, neighbors: object) -> tuple[float, dict[str, float]]:
    p = evaluate_system(potential, system, neighbors, forces=False)  # type: ignore[arg-type]
    return float(p.energy[0]), {name: float(value[0]) for name, value in p.terms.items()}


def _closest(
    a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "m 3"], steps: Float[np.ndarray, "D"], axis: np.ndarray
) -> Float[np.ndarray, "D"]:
    from scipy.spatial import cKDTree

    tree = cKDTree(a)
    return np.array([tree.query(b + step * axis)[0].min() for step in steps])
