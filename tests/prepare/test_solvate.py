"""Boxes of water: their size, their content, their ions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.errors import InputError
from heliodor.prepare.pdb import Choices, prepare_file
from heliodor.prepare.solvate import Solvent, box_for, diameter, parse_box
from support import DATA

TEN = DATA / "prepare" / "crambin_1-10.pdb"


def test_the_edge_is_the_diameter_and_two_margins(rng: np.random.Generator) -> None:
    rod = np.zeros((2000, 3))
    rod[:, 0] = np.linspace(0.0, 40.0, 2000)
    rod[1:-1] += rng.normal(scale=0.1, size=(1998, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert diameter(rod) == pytest.approx(40.0, abs=0.3)
    # a cube in which the solute fits whichever way it turns
    assert box_for(rod @ turn, Solvent(margin=16.0)) == pytest.approx((72.0, 72.0, 72.0), abs=0.3)


def test_boxes_are_read_and_refused() -> None:
    assert parse_box("60") == (60.0, 60.0, 60.0)
    assert parse_box("60,50, 70") == (60.0, 50.0, 70.0)
    for text in ("", "60,50", "wide", "nan"):
        with pytest.raises(InputError, match="as a box"):
            parse_box(text)
    with pytest.raises(InputError, match="along y is too small for a solute of 20"):
        box_for(np.array([[0.0, 0.0, 0.0], [0.0, 20.0, 0.0]]), Solvent(box=(30.0, 21.0, 30.0)))
    with pytest.raises(InputError, match="not both"):
        Solvent(margin=5.0, box=(30.0, 30.0, 30.0))


@pytest.fixture(scope="module")
def boxed():
    solvent = Solvent(margin=5.0, salt=0.3)
    return prepare_file(TEN, Choices(solvent=solvent, minimise=False, seed=5), model=None)


def test_water_fills_the_box_and_ions_make_it_neutral(boxed) -> None:
    atoms, topology = boxed.atoms, boxed.topology
    assert boxed.charge == 0
    assert atoms.info["charge"] == 0
    counts = {name: int((topology.residue_names == name).sum()) for name in ("HOH", "NA", "CL")}
    # the peptide is +1; salt by the definition of the box's molarity, ions in the place of water
    volume = atoms.get_volume()
    pairs = 0.3 * 6.022e23 * volume * 1e-27
    assert counts["CL"] - counts["NA"] == 1
    assert counts["NA"] == pytest.approx(pairs, abs=1.0)
    # liquid water is 0.0334 molecules/Å³; the peptide takes some 1,200 Å³, and more by the gap that is left around it
    bulk = 0.0334 * (volume - 1200.0)
    assert 0.92 * bulk < counts["HOH"] / 3 + counts["NA"] + counts["CL"] < bulk
    weight = atoms.get_masses().sum() / volume / 0.602214
    assert boxed.details["density_g_cm3"] == pytest.approx(weight, rel=1e-3)


def test_the_solute_is_whole_and_in_the_middle(boxed) -> None:
    from ase.geometry import find_mic

    topology, atoms = boxed.topology, boxed.atoms
    solute = np.flatnonzero(~np.isin(topology.residue_names, ["HOH", "NA", "CL"]))
    middle = atoms.positions[solute].mean(0)
    np.testing.assert_allclose(middle, atoms.cell.lengths() / 2.0, atol=1e-6)
    i, j = topology.bonds.T
    apart = atoms.positions[j] - atoms.positions[i]
    np.testing.assert_allclose(apart, find_mic(apart, atoms.cell, atoms.pbc)[0], atol=1e-9)
    assert np.linalg.norm(apart, axis=1).max() < 2.2


def test_the_seed_decides(boxed) -> None:
    again, other = (
        prepare_file(TEN, Choices(solvent=Solvent(margin=5.0, salt=0.3), minimise=False, seed=seed)) for seed in (5, 6)
    )
    assert again.topology.residue_names.tolist() == boxed.topology.residue_names.tolist()
    np.testing.assert_allclose(again.atoms.positions, boxed.atoms.positions, atol=2e-3)
    sodium = [made.atoms.positions[made.topology.residue_names == "NA"] for made in (boxed, other)]
    assert not np.allclose(sodium[0], sodium[1], atol=0.1)


def test_ions_of_the_file_name_are_written(boxed, tmp_path: Path) -> None:
    import mdtraj

    from heliodor.prepare.output import write_prepared

    pdb = write_prepared(boxed, tmp_path / "salt")[1]
    topology = mdtraj.load(str(pdb)).topology
    assert [atom.element.atomic_number for atom in topology.atoms] == boxed.topology.numbers.tolist()


def test_there_is_no_seam_along_the_faces(boxed) -> None:
    edges = boxed.atoms.cell.lengths()
    oxygens = boxed.topology.names == "O"
    oxygens &= boxed.topology.residue_names == "HOH"
    # the solute was moved to the middle of the box by its atoms, the seam lies where the box was filled: look at all
    for axis in range(3):
        x = boxed.atoms.positions[oxygens, axis] % edges[axis]
        counts = np.histogram(x, bins=11, range=(0.0, edges[axis]))[0]
        assert counts.min() > 0.5 * counts.max()
