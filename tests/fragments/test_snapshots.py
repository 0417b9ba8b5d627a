"""Classical snapshots: bonds vibrate as the force field says, stopped runs end the same, boxes, refusals."""

from __future__ import annotations

import ase
import ase.io
import numpy as np
import pytest

from heliodor.errors import InputError
from heliodor.fragments.graph_of import graph_of
from heliodor.fragments.snapshots import frames_of, snapshots
from heliodor.fragments.top_down import top_down
from heliodor.prepare.peptides import peptide
from heliodor.prepare.prepared import Prepared, from_openmm
from heliodor.units import BOLTZMANN, KCAL_PER_MOL

pytest.importorskip("openmm")

SHORT = {"time": "0.2 ps", "every": "0.05 ps", "settle": "0.02 ps", "temperatures": (250.0, 500.0), "seed": 5}


@pytest.fixture(scope="module")
def ala() -> Prepared:
    return peptide("AceAlaNme")


@pytest.fixture(scope="module")
def water() -> Prepared:
    """A cube of 14 Å."""
    import openmm as mm
    import openmm.app

    field = mm.app.ForceField("tip3p.xml")
    modeller = mm.app.Modeller(mm.app.Topology(), [])
    modeller.addSolvent(field, boxSize=mm.Vec3(1.4, 1.4, 1.4) * mm.unit.nanometer, model="tip3p")
    return from_openmm(modeller.topology, modeller.positions, charge=0)


def test_bonds_vibrate_as_the_force_field_says(ala, tmp_path):
    """Harmonic C-H bonds of AMBER99SB (340 kcal/mol/Å², so V'' = 680) by equipartition: <(r - <r>)²> = kT/V''."""
    path = snapshots(ala, tmp_path / "a.xyz", temperatures=600.0, time="8 ps", every="0.04 ps", settle="1 ps")
    frames = ase.io.read(path, ":")
    graph = graph_of(ala.atoms, ala.topology)
    z = graph.numbers
    pairs = np.array([(i, j) for i, j in graph.bonds.tolist() if {z[i], z[j]} == {1, 6}])
    positions = np.array([frame.positions for frame in frames])
    lengths = np.linalg.norm(positions[:, pairs[:, 0]] - positions[:, pairs[:, 1]], axis=2)
    expected = BOLTZMANN * 600.0 / (680.0 * KCAL_PER_MOL)
    found = lengths.var(axis=0).mean()
    # 10 bonds, whose energies change hands within a picosecond
    assert abs(found / expected - 1.0) < 0.2


def test_stopped_runs_end_the_same(ala, tmp_path):
    whole = snapshots(ala, tmp_path / "whole.xyz", name="n", **SHORT)
    told = []

    class StopError(Exception):
        pass

    def stop(what: str, part: float) -> None:
        told.append((what, part))
        if what == "dynamics at 500 K" and part > 0.7:
            raise StopError

    cut = tmp_path / "cut.xyz"
    with pytest.raises(StopError):
        snapshots(ala, cut, name="n", progress=stop, **SHORT)
    assert 0 < cut.stat().st_size < whole.stat().st_size
    assert ("settling at 250 K", 1.0) in told
    # as a run killed while it wrote leaves it
    with cut.open("ab") as file:
        file.write(b"22\nLattice")
    snapshots(ala, cut, name="n", **SHORT)
    assert cut.read_bytes() == whole.read_bytes()
    frames = ase.io.read(cut, ":")
    assert [frame.info["temperature_K"] for frame in frames] == [250.0] * 4 + [500.0] * 4
    assert [frame.info["time_fs"] for frame in frames] == [50.0 * k for k in range(1, 9)]
    assert len({frame.info["group"] for frame in frames}) == 8
    # a complete run is left alone
    before = cut.stat().st_mtime_ns
    snapshots(ala, cut, name="n", **SHORT)
    assert cut.stat().st_mtime_ns == before


def test_seeds_and_temperatures_matter(ala, tmp_path):
    one = ase.io.read(snapshots(ala, tmp_path / "1.xyz", **SHORT), ":")
    two = ase.io.read(snapshots(ala, tmp_path / "2.xyz", **{**SHORT, "seed": 6}), ":")
    assert np.abs(one[0].positions - two[0].positions).max() > 0.01
    moved = [np.abs(np.diff([f.positions for f in part], axis=0)).mean() for part in (one[:4], one[4:])]
    assert moved[1] > moved[0]


def test_boxes(water, tmp_path):
    fixed = ase.io.read(snapshots(water, tmp_path / "nvt.xyz", time="0.02 ps", every="0.02 ps", settle="0.01 ps"), ":")
    assert np.allclose(fixed[-1].cell.lengths(), 14.0)
    assert fixed[-1].pbc.all()
    pressed = ase.io.read(
        snapshots(water, tmp_path / "npt.xyz", time="0.1 ps", every="0.05 ps", settle="0.05 ps", pressure=1.0), ":"
    )
    assert abs(pressed[-1].get_volume() / 14.0**3 - 1.0) > 1e-4
    graph = graph_of(water.atoms, water.topology)
    piece = top_down(pressed[-1], graph, [0], 3.5)[0]
    assert not piece.caps.any()
    assert piece.charge == 0
    assert len(piece) % 3 == 0
    assert piece.atoms.info["group"] == "npt 300 K frame 2"


def test_a_structure_without_names(ala, tmp_path):
    bare = ase.Atoms(ala.atoms.numbers, ala.atoms.positions)
    path = snapshots(bare, tmp_path / "b.xyz", time="10 fs", every="5 fs", settle="5 fs")
    assert set(ase.io.read(path, "0").arrays["residue_name"]) == {"ACE", "ALA", "NME"}


def test_frames_of_a_trajectory(ala, tmp_path):
    path = snapshots(ala, tmp_path / "t.xyz", **SHORT)
    all_of_them = list(frames_of(path))
    assert len(all_of_them) == 8
    assert all_of_them[3].info["group"] == "t frame 3"
    assert len(list(frames_of(path, stride=3))) == 3
    drawn = [frame.info["group"] for frame in frames_of(path, count=3, seed=1)]
    assert drawn == [frame.info["group"] for frame in frames_of(path, count=3, seed=1)]
    assert len(set(drawn)) == 3
    piece = top_down(all_of_them[0], graph_of(all_of_them[0]), [0], 20.0)[0]
    assert len(piece) == len(ala.atoms)
    with pytest.raises(InputError, match="one or more"):
        next(frames_of(path, stride=0))


def test_bad_input_is_refused(ala, tmp_path):
    path = tmp_path / "x.xyz"
    with pytest.raises(InputError, match="periodic box"):
        snapshots(ala, path, pressure=1.0)
    with pytest.raises(InputError, match="do not fit together"):
        snapshots(ala, path, time="1 ps", every="2 ps")
    with pytest.raises(InputError, match="above zero"):
        snapshots(ala, path, temperatures=(300.0, 0.0))
    with pytest.raises(InputError, match=r"end in \.xyz"):
        snapshots(ala, tmp_path / "x.h5")
    with pytest.raises(InputError, match="whole number from 0"):
        snapshots(ala, path, seed=-1)
    from ase.build import molecule

    with pytest.raises(InputError, match="no parameters"):
        snapshots(molecule("C2H6"), path)
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        snapshots(ala, path, **SHORT)
    snapshots(ala, path, overwrite=True, **SHORT)
    with pytest.raises(InputError, match="run with another seed"):
        snapshots(ala, path, **{**SHORT, "seed": 9})
    restart = path.with_name("x.xyz.restart")
    restart.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        snapshots(ala, path, **SHORT)
