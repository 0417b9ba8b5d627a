"""Bilayers: exact numbers, leaflets, areas against experiment, names, contacts; the SO3LR system of 128 POPC."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest

from support import shared

pytest.importorskip("openmm")
pytest.importorskip("packmol")

from heliodor.errors import InputError
from heliodor.prepare.membrane_patch import LIPIDS, read_patch
from heliodor.prepare.membranes import membrane
from heliodor.prepare.packing import closest_of
from heliodor.prepare.prepared import Prepared
from heliodor.topology import bonds_by_distance
from heliodor.trajectory.selection import is_lipid, is_water

# atoms of one molecule, from their formulas (POPC is C42H82NO8P)
SIZES = {"POPC": 134, "POPE": 125, "DLPC": 106, "DLPE": 97, "DMPC": 118, "DOPC": 138, "DPPC": 130}


def leaflets(prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Height over the middle of the box of phosphorus and of the last carbon of tail sn-2."""
    t, z = prepared.topology, prepared.atoms.positions[:, 2] - 0.5 * prepared.atoms.cell[2, 2]
    return z[t.names == "P"], z[t.names == "C218"]


@pytest.fixture(scope="module")
def small() -> Prepared:
    return membrane("POPC", lipids=8, waters=93)


def test_the_system_of_so3lr():
    made = membrane("POPC", lipids=128, waters=5120)
    reference = ase.io.read(shared("data/derived_systems/POPC_128_5120w.xyz.gz"))
    assert len(made.atoms) == 32512 == len(reference)
    assert made.atoms.get_chemical_formula("hill") == reference.get_chemical_formula("hill")
    assert np.allclose(made.atoms.cell.lengths(), reference.cell.lengths())
    assert is_lipid(made.topology).sum() == 128 * 134
    assert is_water(made.topology).sum() == 3 * 5120
    heads, ends = leaflets(made)
    assert (heads > 0).sum() == (heads < 0).sum() == 64
    # head groups of both leaflets 37-39 Å apart (Kucerka 2011: 36.7 at 303 K), tails in the middle
    assert 34.0 < heads[heads > 0].mean() - heads[heads < 0].mean() < 41.0
    assert abs(ends).mean() < 7.0
    # 64.3 Å² at 303 K (Kucerka, Nieh and Katsaras 2011), 68.3 (Kucerka 2006)
    assert 62.0 < made.details["area_per_lipid_A2"] < 70.0
    assert made.charge == 0
    assert len(np.unique(made.topology.molecules)) == 128 + 5120


def test_all_patches():
    for lipid in LIPIDS:
        patch = read_patch(lipid)
        assert len(patch.numbers) == SIZES[lipid]
        assert patch.upper.sum() == 64
        assert len(set(patch.names.tolist())) == SIZES[lipid]
        # a tree: bonds are one fewer than atoms
        assert len(patch.bonds) == SIZES[lipid] - 1
        carbons = [name for name in patch.names.tolist() if name[:2] in ("C2", "C3") and len(name) > 2]
        length = {"PO": (18, 16), "DL": (12, 12), "DM": (14, 14), "DO": (18, 18), "DP": (16, 16)}[lipid[:2]]
        for tail, last in zip(("C2", "C3"), length, strict=True):
            assert {f"{tail}{k}" for k in range(1, last + 1)} == {c for c in carbons if c[:2] == tail}
        # each molecule in one piece
        assert np.ptp(patch.lipids, axis=1).max() < 35.0
        assert np.linalg.norm(patch.waters[:, 1:] - patch.waters[:, :1], axis=2).max() < 1.1


def test_a_small_bilayer(small):
    assert len(small.atoms) == 8 * 134 + 3 * 93
    heads, ends = leaflets(small)
    assert (heads > 0).sum() == (heads < 0).sum() == 4
    assert abs(heads).mean() > abs(ends).mean() + 8.0
    box = small.atoms.cell.lengths()
    assert box[0] * box[1] / 4 == pytest.approx(66.56, abs=0.05)
    assert {tuple(b) for b in small.topology.bonds.tolist()} == {
        tuple(b) for b in bonds_by_distance(small.atoms).tolist()
    }
    # water's hydrogens on phosphate come to 1.45 Å in Lipid17
    assert closest_of(small.topology.molecules, small.atoms.positions, box) > 1.35
    assert set(small.topology.residue_names.tolist()) == {"POPC", "HOH"}
    # double bond of oleoyl still cis
    t = small.topology
    for r in range(8):
        place = {str(t.names[k]): k for k in np.flatnonzero(t.residues == r)}
        turn = small.atoms.get_dihedral(*(place[name] for name in ("C28", "C29", "C210", "C211")))
        assert min(turn, 360.0 - turn) < 60.0


def r_at_c2(names, numbers, bonds, positions) -> bool:
    """RDKit's CIP label of the glycerol carbon in bare coordinates with bonds."""
    from rdkit import Chem

    mol = Chem.RWMol()
    for z in numbers.tolist():
        mol.AddAtom(Chem.Atom(z))
    for i, j in bonds.tolist():
        mol.AddBond(i, j, Chem.BondType.SINGLE)
    conformer = Chem.Conformer(len(numbers))
    conformer.SetPositions(positions)
    mol.AddConformer(conformer)
    mol.UpdatePropertyCache(strict=False)
    Chem.AssignStereochemistryFrom3D(mol)
    return mol.GetAtomWithIdx(int(np.flatnonzero(names == "C2")[0])).GetProp("_CIPCode") == "R"


def test_hands_of_glycerol(small):
    pytest.importorskip("rdkit")
    patch = read_patch("POPC")
    assert patch.inverted.tolist() == [108]
    for k in (0, 1, 64, 107, 108, 109):
        natural = r_at_c2(patch.names, patch.numbers, patch.bonds, patch.lipids[k])
        assert natural == (k != 108)
    for x in small.atoms.positions[: 8 * 134].reshape(8, 134, 3):
        assert r_at_c2(patch.names, patch.numbers, patch.bonds, x)


def test_an_inverted_lipid_is_put_right():
    from heliodor.prepare.membranes import _trimmed

    patch = read_patch("POPC")
    assert len(_trimmed(patch, 60).inverted) == 0
    assert len(_trimmed(patch, 60).lipids) == 120
    assert any("unnatural hand" in note for note in membrane("POPC").notes)


def test_water_is_added_and_taken_away():
    """Before anything is minimised: exact numbers, in a box that grows and shrinks with them."""
    from heliodor.prepare.membranes import _with_water

    patch = read_patch("DLPC")
    area = patch.box[0] * patch.box[1]
    for wanted in (3000, 4500):
        changed = _with_water(patch, wanted, seed=0)
        assert len(changed.waters) == wanted
        # 30 Å³ a water, and a seam
        grown = (wanted - 3840) * 29.9 / area
        assert changed.box[2] - patch.box[2] == pytest.approx(grown, abs=3.0)
        # hardly any in the hydrophobic middle (8 of 3840 in the patch of this short lipid)
        assert (np.abs(changed.waters[:, 0, 2]) < 5.0).sum() <= 8
        assert np.abs(changed.waters[:, 0, 2]).max() <= 0.5 * changed.box[2] + 0.1


@pytest.mark.parametrize(
    ("lipid", "options", "said"),
    [
        ("POPX", {}, "did you mean 'POP[CE]'"),
        ("cholesterol", {}, "no membrane of 'cholesterol'.*POPC, POPE"),
        ("POPC", {"lipids": 127}, "even number"),
        ("POPC", {"lipids": 2}, "from 8"),
        ("POPC", {"lipids": 100_000}, "to 2048"),
        ("POPC", {"waters": 10, "waters_per_lipid": 4.0}, "give one of"),
        ("POPC", {"waters": 10}, "5 to 500"),
        ("POPC", {"waters_per_lipid": -1.0}, "5 to 500"),
        ("POPC", {"water_thickness": float("nan")}, "5 to 500"),
    ],
)
def test_what_cannot_be_built(lipid, options, said):
    with pytest.raises(InputError, match=said):
        membrane(lipid, **options)
