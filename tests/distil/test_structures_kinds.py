"""What each family should be: charges of amino acids, hands, distances of dimers, densities of boxes, base pairs."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from rdkit import Chem

from heliodor.distil.structures import Recipe, generate
from heliodor.distil.structures.mmff import Field
from heliodor.distil.structures.nucleic import BASES, _edge_to_edge, _formed
from heliodor.distil.structures.residues import STATES, capped, free
from heliodor.distil.structures.thermal import DIATOMIC, modes_of, monomer, sampled
from heliodor.distil.structures.together import beside
from heliodor.topology import bonds_by_distance
from heliodor.units import BOLTZMANN, GRAM_PER_CM3, KCAL_PER_MOL

CHARGED = {"ASP": -1, "GLU": -1, "CYM": -1, "TYM": -1, "LYS": 1, "ARG": 1, "HIP": 1}
"""e; side chains at the pH where they carry them, all others being neutral."""

RESIDUE_MASS = {"GLY": 57.05, "ALA": 71.08, "VAL": 99.13, "LEU": 113.16, "ILE": 113.16, "PHE": 147.18, "TYR": 163.18,
                "TRP": 186.21, "SER": 87.08, "THR": 101.10, "CYS": 103.14, "MET": 131.19, "ASN": 114.10, "GLN": 128.13,
                "ASH": 115.09, "GLH": 129.12, "LYN": 128.17, "ARN": 156.19, "HIE": 137.14, "HID": 137.14,
                "PRO": 97.12}  # fmt: skip
"""amu, of neutral residues (the averages that mass spectrometry uses)."""


def test_every_state_of_the_twenty_amino_acids_has_its_charge_and_hand() -> None:
    twenty = {"ASH": "ASP", "GLH": "GLU", "LYN": "LYS", "ARN": "ARG", "CYM": "CYS", "TYM": "TYR"}
    assert len({twenty.get(s, "HIS" if s in ("HIE", "HID", "HIP") else s) for s in STATES}) == 20
    for state in STATES:
        mol = Chem.MolFromSmiles(capped((state,)))
        assert Chem.GetFormalCharge(mol) == CHARGED.get(state, 0), state
        centres = dict(Chem.FindMolChiralCenters(mol, includeUnassigned=True))
        wanted = {"GLY": [], "ILE": ["S", "S"], "THR": ["R", "S"], "CYS": ["R"], "CYM": ["R"]}.get(state, ["S"])
        assert sorted(centres.values()) == wanted, state


def test_residues_have_their_masses() -> None:
    from rdkit.Chem.Descriptors import MolWt

    caps = MolWt(Chem.MolFromSmiles("CC(=O)NC"))
    for state, mass in RESIDUE_MASS.items():
        assert MolWt(Chem.MolFromSmiles(capped((state,)))) - caps == pytest.approx(mass, abs=0.03), state


@pytest.mark.parametrize(("amino", "acid", "charge"), [("NH3+", "COO-", 0), ("NH3+", "COOH", 1), ("NH2", "COO-", -1),
                                                       ("NH2", "COOH", 0)])  # fmt: skip
def test_free_ends(amino: str, acid: str, charge: int) -> None:
    for state in STATES:
        mol = Chem.MolFromSmiles(free(state, amino, acid))
        assert Chem.GetFormalCharge(mol) == charge + CHARGED.get(state, 0)


def test_backbones_cover_the_ramachandran_plane_with_l_residues() -> None:
    angles, volumes = [], []
    pattern = Chem.MolFromSmarts("[CX3](=O)[NX3][CX4]([CX4])[CX3](=O)[NX3]")
    for atoms in generate(Recipe(amino_acids=112), 9):
        mol = Chem.AddHs(Chem.MolFromSmiles(atoms.info["group"]))
        # the group has no stereochemistry, and another order of atoms: find the backbone in the bonds
        seen = from_bonds(atoms)
        for c0, _, n, ca, cb, c1, _, n1 in seen.GetSubstructMatches(pattern):
            x = atoms.positions
            angles.append((dihedral(x[[c0, n, ca, c1]]), dihedral(x[[n, ca, c1, n1]])))
            volumes.append(np.dot(x[n] - x[ca], np.cross(x[c1] - x[ca], x[cb] - x[ca])))
        assert seen.GetNumAtoms() == mol.GetNumAtoms()
    phi, psi = np.array(angles).T
    assert len(phi) > 80 and min(volumes) > 0.0
    quadrants = np.bincount(2 * (phi > 0) + (psi > 0), minlength=4) / len(phi)
    assert (quadrants > 0.08).all(), quadrants


def from_bonds(atoms: ase.Atoms) -> Chem.Mol:
    """A molecule with carbonyls and amides recognised by neighbours alone."""
    mol = Chem.RWMol()
    for z in atoms.numbers.tolist():
        atom = Chem.Atom(z)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    pairs = bonds_by_distance(atoms)
    degree = np.bincount(pairs.ravel(), minlength=len(atoms))
    for i, j in pairs.tolist():
        ends = {int(atoms.numbers[i]), int(atoms.numbers[j])}
        carbon = i if atoms.numbers[i] == 6 else j
        oxygen = j if carbon == i else i
        double = ends == {6, 8} and degree[oxygen] == 1 and degree[carbon] == 3
        mol.AddBond(i, j, Chem.BondType.DOUBLE if double else Chem.BondType.SINGLE)
    mol.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(mol)
    return mol.GetMol()


def dihedral(x: np.ndarray) -> float:
    """Degrees, of four points."""
    a, b, c = x[1] - x[0], x[2] - x[1], x[3] - x[2]
    return float(np.degrees(np.arctan2(np.linalg.norm(b) * (a @ np.cross(b, c)), np.cross(a, b) @ np.cross(b, c))))


def test_dimers_are_placed_from_contact_to_eight_angstroms() -> None:
    methane, water = monomer("C"), monomer("O")
    assert methane is not None and water is not None
    rng = np.random.default_rng(0)
    nearest = []
    for _ in range(300):
        a, b = beside([(one.draw(rng), one.shape.numbers) for one in (methane, water)], rng)
        nearest.append(np.linalg.norm(a[:, None] - b[None], axis=-1).min())
    assert 1.2 < min(nearest) < 1.7 and 7.0 < max(nearest) <= 8.0 + 1e-6
    counts = np.histogram(nearest, [0.0, 1.7, 2.5, 4.0, 8.1])[0]
    assert (counts > 15).all(), counts


def test_generated_dimers_neither_overlap_nor_part() -> None:
    for atoms in generate(Recipe(dimers=40, contacts=20), 8):
        owner = np.arange(len(atoms))
        pairs = bonds_by_distance(atoms)
        for _ in range(len(atoms)):
            for i, j in pairs:
                owner[[i, j]] = min(owner[i], owner[j])
        apart = np.linalg.norm(atoms.positions[:, None] - atoms.positions[None], axis=-1)
        other = owner[:, None] != owner[None]
        assert 1.35 <= apart[other].min() <= 8.5


def test_boxes_of_water_have_their_densities() -> None:
    densities = []
    for atoms in generate(Recipe(water_boxes=24), 1):
        density = atoms.get_masses().sum() / atoms.get_volume() / GRAM_PER_CM3
        said = float(atoms.info["sampling"].split(", ")[1].split()[0])
        # ASE's masses and 18.015 differ in the fifth figure
        assert density == pytest.approx(said, rel=1e-3) and 0.899 < density < 1.101
        assert atoms.pbc.all() and 36 <= len(atoms) <= 192
        apart = atoms.get_all_distances(mic=True) + 9.0 * np.eye(len(atoms))
        oxygen = atoms.numbers == 8
        assert 2.2 < apart[oxygen][:, oxygen].min() < 3.0
        densities.append(density)
    assert np.ptp(np.unique(np.round(densities, 6))) > 0.02


def test_water_clusters_have_one_to_twelve() -> None:
    sizes = {len(atoms) // 3 for atoms in generate(Recipe(water_clusters=96), 0)}
    assert sizes == set(range(1, 13))


def test_ion_boxes_are_neutral_and_periodic() -> None:
    for atoms in generate(Recipe(ion_boxes=12), 0):
        assert atoms.pbc.all() and atoms.info["charge"] == 0
        waters = atoms.numbers[-3:].tolist()
        assert waters == [8, 1, 1]


@pytest.mark.parametrize(("one", "two", "bonds"), [("A", "T", 2), ("G", "C", 3)])
def test_watson_crick_pairs_form_their_hydrogen_bonds(one: str, two: str, bonds: int) -> None:
    first, second = monomer(BASES[one]), monomer(BASES[two])
    assert first is not None and second is not None
    rng = np.random.default_rng(2)
    made = [x for x in (_edge_to_edge(first, second, rng, bonds) for _ in range(10)) if x is not None]
    assert len(made) >= 5
    n = len(first.shape.numbers)
    for x in made:
        assert _formed(first, second, np.linalg.norm(x[:n, None] - x[None, n:], axis=-1)) >= bonds
        # coplanar: the third singular value of the ring atoms is small
        heavy = np.concatenate([first.shape.numbers, second.shape.numbers]) > 1
        flat = np.linalg.svd(x[heavy] - x[heavy].mean(0))[1] / np.sqrt(heavy.sum())
        assert flat[2] < 0.5
    if bonds == 3:
        # N1-H...N3 of G-C: N...N distances about 2.9 Å
        assert 2.5 < np.median([closest_heavy(x, n, first, second) for x in made]) < 3.2


def closest_heavy(x: np.ndarray, n: int, first: object, second: object) -> float:
    a, b = (one.shape.numbers > 1 for one in (first, second))  # type: ignore[attr-defined]
    return float(np.linalg.norm(x[:n][a][:, None] - x[n:][b][None], axis=-1).min())


def test_normal_modes_have_the_energy_of_their_temperature() -> None:
    """Stiff bonds of a diatomic: the harmonic displacement has the variance kT/k."""

    class Spring:
        """In RDKit's way: kcal/mol."""

        def CalcEnergy(self, x: list[float]) -> float:
            return 0.0

        def CalcGrad(self, x: list[float]) -> list[float]:
            d = np.array(x[3:]) - np.array(x[:3])
            r = np.linalg.norm(d)
            f = 30.0 / KCAL_PER_MOL * (r - 1.0) * d / r
            return [*-f, *f]

    rest = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    modes = modes_of(Field(Spring()), np.array([1.0, 16.0]), rest)
    assert len(modes.curvatures) == 1
    assert modes.curvatures[0] == pytest.approx(30.0 * (1.0 + 1.0 / 16.0), rel=1e-3)
    rng = np.random.default_rng(0)
    lengths = [np.linalg.norm(np.diff(modes.draw(300.0, rng), axis=0)) for _ in range(4000)]
    assert np.var(lengths) == pytest.approx(BOLTZMANN * 300.0 / 30.0, rel=0.1)


@pytest.mark.parametrize("smiles", ["N#N", "F", "[OH-]"])
def test_diatomics_are_near_their_lengths(smiles: str) -> None:
    _, _, frames = sampled(smiles, 20, np.random.default_rng(1))
    lengths = [np.linalg.norm(x[1] - x[0]) for x, _ in frames]
    assert len(lengths) > 10 and abs(np.mean(lengths) - DIATOMIC[smiles]) < 0.06
