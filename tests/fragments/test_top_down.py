"""Fragments of crambin in water and of small made-up cases: sizes, caps, charges, whole groups, periodic images."""

from __future__ import annotations

from dataclasses import replace

import ase
import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.distance import cdist, pdist

from heliodor.errors import InputError
from heliodor.fragments.graph_of import graph_of
from heliodor.fragments.top_down import top_down
from heliodor.prepare.prepared import Prepared, from_openmm
from heliodor.prepare.relax import one_thread, random_numbers
from heliodor.topology import bonds_by_distance
from support import DATA

LENGTHS = {6: 1.09, 7: 1.01, 8: 0.96, 16: 1.34}


@pytest.fixture(scope="module")
def crambin() -> Prepared:
    """1CRN in OpenMM's TIP3P with 0.15 mol/l NaCl, 16 Å padding, not relaxed: as the figures below were found."""
    mm = pytest.importorskip("openmm")
    from pdbfixer import PDBFixer

    with random_numbers(1), one_thread():
        fixer = PDBFixer(filename=str(DATA / "prepare" / "1crn.pdb"))
        fixer.findMissingResidues()
        fixer.findMissingAtoms()
        fixer.addMissingAtoms(seed=1)
        field = mm.app.ForceField("amber99sbildn.xml", "tip3p.xml")
        modeller = mm.app.Modeller(fixer.topology, fixer.positions)
        modeller.addHydrogens(field, pH=7.0)
        modeller.addSolvent(field, padding=1.6 * mm.unit.nanometer, ionicStrength=0.15 * mm.unit.molar, model="tip3p")
    return from_openmm(modeller.topology, modeller.positions, charge=0)


@pytest.fixture(scope="module")
def pieces(crambin):
    """All 327 fragments at 5 Å and at 8 Å."""
    graph = graph_of(crambin.atoms, crambin.topology)
    return {radius: top_down(crambin.atoms, graph, radius=radius, distinct=False) for radius in (5.0, 8.0)}


@pytest.mark.parametrize(("radius", "mean", "smallest", "largest"), [(5.0, 72, 30, 118), (8.0, 227, 184, 299)])
def test_sizes_in_solvated_crambin(pieces, radius, mean, smallest, largest):
    """Independent prototype (specs/gems.md, 4b), with another placement of waters and hydrogens."""
    sizes = np.array([len(piece) for piece in pieces[radius]])
    assert len(sizes) == 327
    assert abs(sizes.mean() - mean) < 0.02 * mean
    assert abs(sizes.min() - smallest) < 12
    assert abs(sizes.max() - largest) < 12


@pytest.mark.parametrize("radius", [5.0, 8.0])
def test_every_fragment_can_be_computed(crambin, pieces, radius):
    where, cell = crambin.atoms.positions, crambin.atoms.cell.array
    for piece in pieces[radius]:
        here = piece.atoms.positions
        assert piece.electrons % 2 == 0
        assert not piece.atoms.pbc.any()
        assert (piece.atoms.info["charge"], piece.atoms.info["spin"]) == (piece.charge, 0)
        # every atom is its parent's image, once; caps lie on the bond to theirs
        real = ~piece.caps
        assert (crambin.atoms.numbers[piece.parents[real]] == piece.atoms.numbers[real]).all()
        assert len(np.unique(piece.parents[real])) == real.sum()
        moved = (here[real] - where[piece.parents[real]]) @ np.linalg.inv(cell)
        assert np.abs(moved - np.round(moved)).max() < 1e-9
        hosts = here[piece.hosts]
        lengths = np.linalg.norm(here[piece.caps] - hosts, axis=1)
        assert np.allclose(lengths, [LENGTHS[z] for z in piece.atoms.numbers[piece.hosts].tolist()])
        if len(lengths) > 1:
            assert pdist(here[piece.caps]).min() > 1.3
        others = cdist(here[piece.caps], here[real])
        others[np.arange(len(hosts)), piece.hosts] = np.inf
        assert not len(hosts) or others.min() > 1.3
        # everything within the radius is there
        arms = where - where[piece.centre]
        arms -= np.round(arms @ np.linalg.inv(cell)) @ cell
        assert np.isin(np.flatnonzero((arms**2).sum(1) < radius**2), piece.parents[real]).all()


def test_fragments_are_molecules_with_that_charge(crambin, pieces):
    """Their own bonds, by distance, and formal charges, found without knowledge of the whole."""
    charges = graph_of(crambin.atoms, crambin.topology).charges
    for piece in pieces[5.0][::2]:
        alone = graph_of(piece.atoms)
        assert alone.charge == piece.charge
        real = ~piece.caps
        assert (np.abs(alone.charges[real]).sum(), alone.charges[piece.caps].sum()) == (
            np.abs(charges[piece.parents[real]]).sum(),
            0,
        )


GROUPS = {
    "ARG": ("NE", "CZ", "NH1", "NH2"),
    "ASP": ("CG", "OD1", "OD2"),
    "GLU": ("CD", "OE1", "OE2"),
    "PHE": ("CG", "CD1", "CD2", "CE1", "CE2", "CZ"),
    "TYR": ("CG", "CD1", "CD2", "CE1", "CE2", "CZ"),
    "HIP": ("CG", "ND1", "CE1", "NE2", "CD2"),
    "HIE": ("CG", "ND1", "CE1", "NE2", "CD2"),
    "HID": ("CG", "ND1", "CE1", "NE2", "CD2"),
    "TRP": ("CG", "CD1", "NE1", "CE2", "CD2", "CE3", "CZ2", "CZ3", "CH2"),
    "HOH": ("O", "H1", "H2"),
}


def split_groups(topology, piece) -> list[str]:
    """Groups of which some atoms are in a fragment and some are not; carbonyls among them."""
    inside = np.isin(np.arange(len(topology)), piece.parents[~piece.caps])
    found = []
    keys = list(zip(topology.residues.tolist(), topology.names.tolist(), strict=True))
    place = {key: k for k, key in enumerate(keys)}
    for residue in np.unique(topology.residues[inside]).tolist():
        name = topology.residue_names[np.flatnonzero(topology.residues == residue)[0]]
        name = {"HIS": "HIE"}.get(name, name)
        for group in (GROUPS.get(name, ()), ("C", "O")):
            there = [inside[place[residue, atom]] for atom in group if (residue, atom) in place]
            if any(there) and not all(there):
                found.append(f"{name} {residue} {group}")
    return found


def test_groups_stay_whole_in_crambin(crambin, pieces):
    cut = [split for piece in pieces[5.0][::3] for split in split_groups(crambin.topology, piece)]
    assert not cut


@pytest.mark.parametrize(("sequence", "ph"), [("HE", 3.0), ("WRPD", 7.0)])
def test_groups_stay_whole_in_a_peptide(sequence, ph):
    from heliodor.prepare.peptides import peptide

    made = peptide(sequence, caps="ACE,NME", ph=ph)
    graph = graph_of(made.atoms, made.topology)
    for radius in (1.8, 3.0):
        found = top_down(made.atoms, graph, "all", radius, distinct=False)
        assert len(found) == len(made.atoms)
        for piece in found:
            assert not split_groups(made.topology, piece)
            assert graph_of(piece.atoms).charge == piece.charge
            # no two caps stand for one atom: rings close
            assert len(np.unique(piece.parents)) == len(piece.parents)


def test_the_whole_molecule_has_no_caps():
    from heliodor.prepare.peptides import peptide

    made = peptide("AceAlaLysNme")
    found = top_down(made.atoms, graph_of(made.atoms), radius=100.0)
    assert len(found) == 1
    assert not found[0].caps.any()
    assert found[0].charge == 1
    assert (found[0].parents == np.arange(len(made.atoms))).all()
    assert np.allclose(found[0].atoms.positions, made.atoms.positions)


def test_wrapped_and_shifted_boxes_give_the_same(crambin, rng):
    atoms = crambin.atoms.copy()
    graph = graph_of(atoms, crambin.topology)
    centres = rng.choice(642, 12, replace=False)
    found = top_down(atoms, graph, centres, 5.0, distinct=False)
    atoms.positions += rng.uniform(0.0, 49.0, 3)
    atoms.wrap()
    again = top_down(atoms, graph, centres, 5.0, distinct=False)
    for one, two in zip(found, again, strict=True):
        assert (one.parents == two.parents).all()
        assert np.allclose(pdist(one.atoms.positions), pdist(two.atoms.positions), atol=1e-6)


def sulfide() -> ase.Atoms:
    """CH3-CH2-S-S-CH2-CH3."""
    pytest.importorskip("rdkit")
    from heliodor.prepare.molecules import molecule as built

    return built("CCSSCC", seed=1)[0].atoms


def test_half_a_disulfide_is_a_thiol():
    atoms = sulfide()
    graph = graph_of(atoms)
    first, second = np.flatnonzero(atoms.numbers == 16).tolist()
    (half,) = top_down(atoms, graph, [first], 1.9)
    # HS-CH3: its cap stands for the other sulfur, another for the methyl group
    assert half.atoms.get_chemical_formula() == "CH4S"
    assert set(half.parents[half.caps].tolist()) >= {second}
    on_sulfur = half.atoms.positions[half.caps][half.atoms.numbers[half.hosts] == 16]
    assert len(on_sulfur) == 1
    assert abs(np.linalg.norm(on_sulfur[0] - atoms.positions[first]) - 1.34) < 1e-9
    (both,) = top_down(atoms, graph, [first], 2.2)
    assert both.atoms.get_chemical_formula() == "CH4S2"


def test_caps_lie_along_the_bonds():
    atoms = molecule("C3H8")
    ends = np.flatnonzero(atoms.numbers == 6)
    middle = int(ends[np.argmin(np.abs(atoms.positions[ends] - atoms.positions[ends].mean(0)).sum(1))])
    (methane,) = top_down(atoms, graph_of(atoms), [middle], 1.2)
    assert methane.atoms.get_chemical_formula() == "CH4"
    for place, parent in zip(methane.atoms.positions[methane.caps], methane.parents[methane.caps], strict=True):
        arm = atoms.positions[parent] - atoms.positions[middle]
        assert np.allclose(place, atoms.positions[middle] + 1.09 * arm / np.linalg.norm(arm))


def test_caps_that_collide_are_not_placed():
    """Two clashing ethanes: one carbon of each inside, whose caps would be 0.9 Å apart."""
    ethane = molecule("C2H6")
    ethane.positions -= ethane.positions[0]
    beside = ethane.copy()
    across = np.cross(ethane.positions[1], ethane.positions[2])
    beside.positions += 0.9 * across / np.linalg.norm(across)
    bonds = bonds_by_distance(ethane)
    both = ethane + beside
    graph = graph_of(both, bonds=np.concatenate([bonds, bonds + len(ethane)]))
    (piece,) = top_down(both, graph, [0], 1.0)
    assert piece.atoms.get_chemical_formula() == "C4H12"
    assert not piece.caps.any()


def zinc_site(metal: str) -> ase.Atoms:
    """A metal ion with four ethanethiolates."""
    arms = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]) / np.sqrt(3.0)
    site = ase.Atoms(metal, [(0, 0, 0)])
    thiol = sulfide()
    sulfur = int(np.flatnonzero(thiol.numbers == 16)[0])
    bonds = [tuple(b) for b in bonds_by_distance(thiol).tolist() if not (thiol.numbers[list(b)] == 16).all()]
    near, rest = {sulfur}, True
    while rest:
        rest = {k for b in bonds for k in b if set(b) & near} - near
        near |= rest
    arm = thiol[sorted(near)]
    at = sorted(near).index(sulfur)
    arm.positions -= arm.positions[at]
    outward = arm.positions.mean(0)
    for direction in arms:
        copy = arm.copy()
        copy.rotate(outward, direction)
        copy.positions += 2.33 * direction
        site += copy
    return site


def test_zinc_keeps_its_ligands():
    site = zinc_site("Zn")
    graph = graph_of(site)
    assert graph.charge == -2
    (piece,) = top_down(site, graph, [0], 1.0)
    assert piece.atoms.get_chemical_formula() == "C4H12S4Zn"
    assert piece.charge == -2
    # from a ligand's side too
    (same,) = top_down(site, graph, [int(np.flatnonzero(site.numbers == 16)[0])], 1.0)
    assert set(same.parents.tolist()) == set(piece.parents.tolist())


def test_open_shells_are_refused():
    site = zinc_site("Mn")
    told: list[str] = []
    assert top_down(site, graph_of(site), [0], 1.0, refused=told) == []
    assert len(told) == 1
    assert "Mn+2, whose electrons are not all paired" in told[0]
    water = molecule("H2O")
    graph = graph_of(water)
    wrong = replace(graph, charges=graph.charges + np.array([1, 0, 0]))
    with pytest.raises(InputError, match=r"9 electrons, an odd number"):
        top_down(water, wrong, [0], 3.0)


def test_ions_are_dropped_to_keep_the_charge_small():
    atoms = molecule("H2O") + ase.Atoms("Na3", [(2.4, 0, 0), (0, 3.4, 0), (0, 0, 4.4)])
    graph = graph_of(atoms)
    (full,) = top_down(atoms, graph, [0], 6.0)
    assert (full.charge, full.dropped) == (3, ())
    (fewer,) = top_down(atoms, graph, [0], 6.0, largest_charge=1)
    assert (fewer.charge, fewer.dropped) == (1, (5, 4))
    salt = molecule("H2O") + ase.Atoms("Mg", [(2.1, 0, 0)])
    with pytest.raises(InputError, match=r"charge of \+2 e, more than 1"):
        top_down(salt, graph_of(salt), [0], 6.0, largest_charge=1)


def test_choices(crambin):
    atoms = crambin.atoms
    graph = graph_of(atoms, crambin.topology)
    dry = top_down(atoms, graph, "residue 5-8 and name CA", 5.0, water=False)
    assert len(dry) == 4
    assert not np.isin(atoms.arrays["residue_name"][np.concatenate([p.parents for p in dry])], ["HOH"]).any()
    one = top_down(atoms, graph, radius=4.0, count=5, seed=3)
    two = top_down(atoms, graph, radius=4.0, count=5, seed=3)
    other = top_down(atoms, graph, radius=4.0, count=5, seed=4)
    assert [p.centre for p in one] == [p.centre for p in two] != [p.centre for p in other]
    done = []
    twice = top_down(atoms, graph, [7, 7], 4.0, group="g", progress=lambda k, n: done.append((k, n)))
    assert len(twice) == 1
    assert twice[0].atoms.info["group"] == "g"
    assert done == [(1, 2), (2, 2)]


def test_bad_input_is_refused(crambin):
    atoms = crambin.atoms
    graph = graph_of(atoms, crambin.topology)
    with pytest.raises(InputError, match=r"box is 49\.. Å thick, less than 50\.0 Å"):
        top_down(atoms, graph, [0], 22.0)
    with pytest.raises(InputError, match="above zero"):
        top_down(atoms, graph, [0], 0.0)
    with pytest.raises(InputError, match="indices from 0"):
        top_down(atoms, graph, [len(atoms)], 4.0)
    with pytest.raises(InputError, match="leaves no atom"):
        top_down(atoms, graph, "resname TRP", 4.0)
    with pytest.raises(InputError, match="of other atoms"):
        top_down(atoms[1:], graph, [0], 4.0)
    # an endless chain: its bonds lead around the box
    with pytest.raises(InputError, match="its own image"):
        top_down(*endless(), [0], 4.0)


def endless() -> tuple[ase.Atoms, object]:
    """Polyacetylene through the faces of its box."""
    n = 12
    x = 1.25 * np.arange(n)
    carbons = np.stack([x, 0.35 * (-1.0) ** np.arange(n), np.zeros(n)], axis=1)
    hydrogens = carbons + np.stack([np.zeros(n), 1.09 * (-1.0) ** np.arange(n), np.zeros(n)], axis=1)
    atoms = ase.Atoms(f"C{n}H{n}", np.concatenate([carbons, hydrogens]), cell=[1.25 * n, 20, 20], pbc=True)
    graph = graph_of(atoms)
    return atoms, replace(graph, whole=np.ones_like(graph.whole))
