"""Backbones, their angles and hydrogen bonds, against MDTraj and against structures built to measure."""

from __future__ import annotations

import pickle
from pathlib import Path

import ase.io
import numpy as np
import pytest
from protein_parts import alanines, from_mdtraj, written

from heliodor.analysis.proteins.backbone import backbone_of, dihedrals, missing, placed_hydrogens, view_of
from heliodor.analysis.proteins.hydrogen_bonds import (
    STEPS,
    _count,
    by_geometry,
    energies,
    helix_bonds,
    hydrogens,
    pairs,
    show,
)
from heliodor.errors import InputError
from heliodor.trajectory import open_trajectory
from support import shared

PROTEINS = ("chignolin_ai2bmd", "trpcage_ai2bmd", "ubiquitin_1d3z_model1", "bpti_1pit_model1")


@pytest.mark.parametrize(("phi", "psi"), [(-57.8, -47.0), (-139.0, 135.0), (60.0, 170.0), (0.0, 90.0)])
def test_angles_of_a_chain_built_with_them(phi: float, psi: float, tmp_path: Path) -> None:
    frame = alanines(np.full(6, phi), np.full(6, psi))
    backbone = backbone_of(written([frame], tmp_path / "a.xyz").topology)
    assert len(backbone) == 6 and backbone.amino.all()
    inner = np.arange(1, 5)
    quads = np.stack([backbone.c[inner - 1], backbone.n[inner], backbone.ca[inner], backbone.c[inner]], axis=1)
    assert dihedrals(frame.positions[None], quads)[0] == pytest.approx(phi, abs=1e-8)
    quads = np.stack([backbone.n[inner], backbone.ca[inner], backbone.c[inner], backbone.n[inner + 1]], axis=1)
    assert dihedrals(frame.positions[None], quads)[0] == pytest.approx(psi, abs=1e-8)


@pytest.mark.parametrize("name", PROTEINS)
def test_energies_are_those_of_mdtraj(name: str, tmp_path: Path) -> None:
    """MDTraj keeps the two best of each N-H; in these structures none has three."""
    mdtraj = pytest.importorskip("mdtraj")
    loaded = mdtraj.load(str(shared(f"data/structures/proteins/{name}.pdb")))[0]
    trajectory = from_mdtraj(loaded, tmp_path / "a.xyz")
    backbone = backbone_of(trajectory.topology)
    positions = 10.0 * loaded.xyz.astype(float)
    h = placed_hydrogens(positions, backbone)
    every = [
        (i, j)
        for i in np.flatnonzero(backbone.o >= 0)
        for j in np.flatnonzero(np.isfinite(h[0, :, 0]))
        if i != j and backbone.after[i] != j
    ]
    found = energies(positions, h, backbone, np.array(every))[0]
    residue = [loaded.top.atom(int(max(n, c))).residue.index for n, c in zip(backbone.n, backbone.c, strict=True)]
    mine = {(residue[i], residue[j]): e for (i, j), e in zip(every, found, strict=True) if e < -0.5}
    matrix = mdtraj.kabsch_sander(loaded)[0].tocoo()
    theirs = dict(zip(zip(matrix.row.tolist(), matrix.col.tolist(), strict=True), matrix.data.tolist(), strict=True))
    assert len(theirs) > 5
    assert mine.keys() == theirs.keys()
    for key, energy in theirs.items():
        assert mine[key] == pytest.approx(energy, abs=2e-4)


@pytest.mark.parametrize("name", PROTEINS)
def test_geometry_is_that_of_baker_and_hubbard(name: str, tmp_path: Path) -> None:
    mdtraj = pytest.importorskip("mdtraj")
    loaded = mdtraj.load(str(shared(f"data/structures/proteins/{name}.pdb")))[0]
    backbone = backbone_of(from_mdtraj(loaded, tmp_path / "a.xyz").topology)
    positions = 10.0 * loaded.xyz.astype(float)
    theirs = {(h, o) for _, h, o in mdtraj.baker_hubbard(loaded, freq=0.0, periodic=False).tolist()}
    count = 0
    for k in STEPS:
        couples = pairs(backbone, k)
        bonded = by_geometry(positions, hydrogens(positions, backbone), backbone, couples)[0]
        for (i, j), mine in zip(couples, bonded, strict=True):
            assert mine == ((int(backbone.h[j]), int(backbone.o[i])) in theirs)
            count += mine
    assert count > 1


@pytest.mark.parametrize(
    ("phi", "psi", "bonds"),
    [
        (-57.8, -47.0, [0, 0, 11, 0]),
        (-49.0, -26.0, [0, 12, 0, 0]),
        (-83.0, 70.0, [13, 0, 0, 0]),
        (-120.0, 120.0, [0] * 4),
    ],
)
def test_helices_built_to_measure(phi: float, psi: float, bonds: list[int], tmp_path: Path) -> None:
    """Fifteen alanines have 15 - k pairs i -> i+k, all bonded in the helix that belongs to k."""
    trajectory = written([alanines(np.full(15, phi), np.full(15, psi))] * 3, tmp_path / "a.xyz")
    found = helix_bonds(trajectory)
    assert found.possible.tolist() == [13, 12, 11, 10]
    assert found.energy.tolist() == [bonds] * 3
    if phi != -83.0:
        # the bond of C7 is bent: N-H···O is near 140° and O···H near 2.1 Å only for the right bond angles
        assert found.geometry.tolist() == [bonds] * 3


def test_wrapped_positions_and_scattered_atoms_change_nothing(tmp_path: Path) -> None:
    frame = alanines(np.full(8, -57.8), np.full(8, -47.0))
    order = np.random.default_rng(5).permutation(len(frame))
    plain = helix_bonds(written([frame], tmp_path / "a.xyz"))
    moved = []
    for shift in (0.0, 4.0, 9.0):
        other = frame[order]
        other.set_cell([22.0, 21.0, 20.0])
        other.pbc = True
        other.positions += shift
        other.wrap()
        moved.append(other)
    assert np.ptp(moved[1].positions, axis=0).max() > 15.0
    wrapped = helix_bonds(written(moved, tmp_path / "b.xyz"))
    assert wrapped.energy.tolist() == plain.energy.tolist() * 3
    assert plain.energy[0, 2] == 4


def test_blocks_agree_and_means_have_errors(tmp_path: Path, rng: np.random.Generator) -> None:
    frame = alanines(np.full(8, -57.8), np.full(8, -47.0))
    frames = []
    for _ in range(30):
        other = frame.copy()
        other.positions += rng.normal(scale=0.25, size=other.positions.shape)
        frames.append(other)
    frames[0].positions = frame.positions
    trajectory = written(frames, tmp_path / "a.xyz")
    one = helix_bonds(trajectory)
    backbone = backbone_of(trajectory.topology)
    view = view_of(trajectory, backbone.atoms)
    # what other processes get
    sent = pickle.loads(pickle.dumps((backbone.among(view.atoms), view)))
    parts = [_count(trajectory.read(np.array([k]), atoms=view.read), *sent)[0] for k in range(30)]
    assert one.energy.tolist() == np.concatenate(parts).tolist()
    assert len(np.unique(one.energy[:, 2])) > 2
    shown = show(trajectory, window_ps=0.5)
    mean = next(n for n in shown.numbers if "α)" in n.name and "energy" in n.name)
    assert mean.value == pytest.approx(one.energy[:, 2].mean())
    # nearly independent frames: the error of the mean is that of statistics
    assert mean.error == pytest.approx(one.energy[:, 2].std(ddof=1) / np.sqrt(30), rel=0.5)
    assert len(shown.tables["helix_bonds"]["time_ps"]) == 30


def test_capped_peptide_counts_its_caps() -> None:
    trajectory = open_trajectory(Path(__file__).parents[3] / "examples" / "ace-ala3-nme.xyz")
    backbone = backbone_of(trajectory.topology)
    assert backbone.residue_names.tolist() == ["ACE", "ALA", "ALA", "ALA", "NME"]
    assert backbone.amino.tolist() == [False, True, True, True, False]
    assert pairs(backbone, 4).tolist() == [[0, 4]]
    assert pairs(backbone, 3).tolist() == [[0, 3], [1, 4]]


def test_what_is_no_peptide_says_so(tmp_path: Path) -> None:
    water = ase.io.read(Path(__file__).parents[3] / "examples" / "paracetamol.xyz")
    assert isinstance(water, ase.Atoms)
    trajectory = written([water], tmp_path / "a.xyz")
    assert "no peptide" in (missing(trajectory) or "")
    with pytest.raises(InputError, match="no peptide"):
        helix_bonds(trajectory)
    with pytest.raises(InputError, match="stride"):
        show(trajectory, stride=0)
