"""What openmmml asks of a potential: forces for a topology, or for a part of a system that a force field moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
from openmmml.mlpotential import MLPotentialImpl

from heliodor.engines.evaluator import Evaluator
from heliodor.engines.openmm.force import NM, Force, python_force
from heliodor.engines.openmm.molecule import Molecule
from heliodor.engines.openmm.system import add_molecules
from heliodor.errors import InputError, suggestion
from heliodor.potential import Potential

if TYPE_CHECKING:
    import openmm
    from openmm import app

LOAD = ("device", "dtype", "long_range_cutoff", "dispersion_damping_width", "kernels", "head")
OWN = ("charge", "spin", "multiplicity", "skin", "precision", "periodic")
EMBEDDING = ("mlLongRange", "linkAtomDistances")
"""openmmml's own, which it hands on."""


class HeliodorPotential(MLPotentialImpl):  # type: ignore[misc]
    """A model as openmmml has it.

    Options may be given to `MLPotential` or to `createSystem` and `createMixedSystem`, the latter win:

    - charge: total charge (e) of what the model describes; 0, or for a part of a system what its force field says.
    - spin: unpaired electrons, or multiplicity: that plus one.
    - periodic: whether the model sees periodic images; None: as the system, but a single molecule in a solvent of
      another description is seen as in vacuum.
    - skin: Å. precision: "single" or "double", as dtype "float32" and "float64".
    - device, dtype, long_range_cutoff, dispersion_damping_width, kernels, head: as for `heliodor.load`.
    """

    def __init__(self, model: str | Path | Potential | list[str | Path], options: Mapping[str, Any]) -> None:
        self.model = model
        self.options = _known(options)

    def getMLLongRange(self) -> bool:
        """Between images of the region the force field acts: no model here sums over all of them."""
        return False

    def addForces(
        self,
        topology: app.Topology,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        **args: Any,
    ) -> None:
        """Called by openmmml: the force, and bonds without a force constant that keep molecules together.

        Raises:
            InputError, ModelError: what the model cannot describe, naming the atom; an unknown option; a charge that
                is not the force field's.
        """
        options = self.options | _known(args)
        listed = list(topology.atoms())
        region = list(range(len(listed))) if atoms is None else [int(k) for k in atoms]
        box = _box(topology, system)
        bonds = _bonds(topology, region)
        molecule = _molecule(options.get("periodic"), atoms is not None, bonds, len(region), box is not None)
        frame = ase.Atoms(
            numbers=[_number(listed[k]) for k in region],
            positions=np.zeros((len(region), 3)),
            cell=None if molecule is not None else box,
            pbc=box is not None and molecule is None,
        )
        load_options = {key: options[key] for key in LOAD if key in options}
        if "device" in load_options:
            load_options["device"] = str(load_options["device"])
        if "precision" in options:
            load_options["dtype"] = _dtype(options["precision"])
        evaluator = Evaluator(
            self.model,
            frame,
            charge=_charge(options.get("charge"), system, region if atoms is not None else None),
            spin=_spin(options),
            skin=options.get("skin", 0.5),
            placed=False,
            **load_options,
        )
        force = Force(evaluator, molecule, load_options)
        system.addForce(python_force(force, None if atoms is None else region, forceGroup))
        if system.getNumParticles() == len(listed):
            # not in the empty system in which openmmml collects forces to interpolate between
            real = [(region[i], region[j]) for i, j in bonds.tolist()]
            add_molecules(system, [(i, j) for i, j in real if not (system.isVirtualSite(i) or system.isVirtualSite(j))])


def _known(options: Mapping[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in (*LOAD, *OWN, *EMBEDDING):
            raise InputError(f"heliodor's potentials have no option {name!r}{suggestion(name, (*OWN, *LOAD))}")
    return {name: value for name, value in options.items() if name not in EMBEDDING}


def _number(atom: app.Atom) -> int:
    if atom.element is None:
        raise InputError(
            f"atom {atom.index} ({atom.name} of residue {atom.residue.name} {atom.residue.id}) has no element: a model "
            "describes atoms, not the extra sites of a force field; take a water model without them"
        )
    return int(atom.element.atomic_number)


def _dtype(precision: str) -> str:
    known = {"single": "float32", "double": "float64"}
    if precision not in known:
        raise InputError(f"precision must be 'single' or 'double', not {precision!r}")
    return known[precision]


def _spin(options: Mapping[str, Any]) -> int:
    spin, multiplicity = options.get("spin"), options.get("multiplicity")
    if spin is not None and multiplicity is not None and spin != multiplicity - 1:
        raise InputError(f"spin={spin} (unpaired electrons) and multiplicity={multiplicity} (that plus one) disagree")
    return int(spin if spin is not None else (multiplicity or 1) - 1)


def _charge(given: float | None, system: openmm.System, region: list[int] | None) -> float:
    """As given; else what the force field gives the region, if that is a whole number."""
    if given is not None:
        return float(given)
    if region is not None and system.getNumParticles() == 0:
        raise InputError(
            "with interpolate=True openmmml does not tell the force field's charge of the region: say charge"
        )
    for force in system.getForces() if region is not None else ():
        if type(force).__name__ == "NonbondedForce" and region is not None:
            total = sum(force.getParticleParameters(k)[0]._value for k in region)
            if abs(total - round(total)) > 0.02:
                raise InputError(
                    f"the force field gives this region a charge of {total:+.3f}, which is not that of a molecule: say "
                    "what its charge is (charge=0 for a neutral one)"
                )
            return float(round(total))
    return 0.0


def _box(topology: app.Topology, system: openmm.System) -> np.ndarray | None:
    """Å; None if neither knows one."""
    vectors = topology.getPeriodicBoxVectors()
    if vectors is None and not system.usesPeriodicBoundaryConditions():
        return None
    if vectors is None:
        vectors = system.getDefaultPeriodicBoxVectors()
    return np.array([list(vector) for vector in vectors._value], dtype=np.float64) * NM


def _bonds(topology: app.Topology, region: list[int]) -> np.ndarray:
    """Pairs of places in the region that are bonded, a link atom to the atom whose bond it closes."""
    place = {particle: k for k, particle in enumerate(region)}
    inside, cut = [], []
    for bond in topology.bonds():
        i, j = place.get(bond.atom1.index), place.get(bond.atom2.index)
        if i is not None and j is not None:
            inside.append((i, j))
        elif i is not None or j is not None:
            cut.append(i if i is not None else j)
    # openmmml puts a link atom for each cut bond at the end, in the order of bonds
    links = [(anchor, len(region) - len(cut) + k) for k, anchor in enumerate(cut)]
    return np.array([*inside, *links], dtype=np.int64).reshape(-1, 2)


def _molecule(periodic: bool | None, part: bool, bonds: np.ndarray, n_atoms: int, boxed: bool) -> Molecule | None:
    """The region as one molecule in vacuum, where it is to be seen so."""
    if not boxed or periodic is True or (periodic is None and not part):
        return None
    molecule = Molecule(bonds)
    if molecule.holds(n_atoms):
        return molecule
    if periodic is None:
        return None
    raise InputError(
        "periodic=False takes one molecule, and these atoms are not all bonded to each other in the topology: add the "
        "bonds, or leave periodic out"
    )
