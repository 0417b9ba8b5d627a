"""RMSD and RMSF against other programs, rigid motions and domains that move."""

from __future__ import annotations

from pathlib import Path

import ase
import numpy as np
import pytest
from protein_parts import alanines, from_mdtraj, written
from scipy.spatial.transform import Rotation

from heliodor.analysis.proteins.deviation import deviation, show, superposition
from heliodor.errors import InputError
from support import shared


def helix(n: int = 12) -> ase.Atoms:
    return alanines(np.full(n, -57.8), np.full(n, -47.0))


def shaken(frame: ase.Atoms, rng: np.random.Generator, count: int = 12, scale: float = 0.3) -> list[ase.Atoms]:
    frames = []
    for _ in range(count):
        other = frame.copy()
        turned = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
        other.positions = (frame.positions + rng.normal(scale=scale, size=frame.positions.shape)) @ turned
        other.positions += rng.normal(scale=5.0, size=3)
        frames.append(other)
    frames[0].positions = frame.positions
    return frames


def test_against_scipy(tmp_path: Path, rng: np.random.Generator) -> None:
    frames = shaken(helix(), rng)
    found = deviation(written(frames, tmp_path / "a.xyz"), atoms="backbone", segments="3-8", fit="segment")
    names, numbers = frames[0].arrays["atom_name"], frames[0].arrays["residue_number"]
    whole = np.isin(names, ["N", "CA", "C", "O"])
    for column, mask in enumerate((whole, whole & (numbers >= 3) & (numbers <= 8))):
        for k, frame in enumerate(frames):
            a, b = (f.positions[mask] - f.positions[mask].mean(0) for f in (frames[0], frame))
            _, distance = Rotation.align_vectors(a, b)
            assert found.rmsd[k, column] == pytest.approx(distance / np.sqrt(mask.sum()), abs=1e-6)


def test_against_mdtraj_and_mdanalysis(tmp_path: Path, rng: np.random.Generator) -> None:
    mdtraj = pytest.importorskip("mdtraj")
    loaded = mdtraj.load(str(shared("data/structures/proteins/ww_ai2bmd.pdb")))[0]
    noise = rng.normal(scale=0.03, size=(25, *loaded.xyz[0].shape))
    noise[0] = 0.0
    many = mdtraj.Trajectory(loaded.xyz + noise, loaded.top)
    found = deviation(from_mdtraj(many, tmp_path / "a.xyz"), atoms="ca", segments="none")
    ca = loaded.top.select("name CA")
    assert found.rmsd[1:, 0] == pytest.approx(10.0 * mdtraj.rmsd(many, many, 0, atom_indices=ca)[1:], abs=1e-3)
    rms = pytest.importorskip("MDAnalysis.analysis.rms")
    import MDAnalysis

    many.superpose(many, 0, atom_indices=ca)
    universe = MDAnalysis.Universe.empty(many.n_atoms, trajectory=True)
    universe.load_new(10.0 * many.xyz)
    theirs = rms.RMSF(universe.atoms[ca]).run().results.rmsf
    assert found.rmsf == pytest.approx(theirs, abs=1e-3)


def test_rigid_motion_is_no_deviation(tmp_path: Path, rng: np.random.Generator) -> None:
    found = deviation(written(shaken(helix(), rng, scale=0.0), tmp_path / "a.xyz"), atoms="heavy")
    assert np.abs(found.rmsd).max() < 1e-6
    assert found.rmsf.max() < 1e-6


def test_a_mirror_image_is_not_superposed(rng: np.random.Generator) -> None:
    points = rng.normal(size=(10, 3))
    rotation, _, _ = superposition((points * [1.0, 1.0, -1.0])[None], points)
    assert np.linalg.det(rotation[0]) == pytest.approx(1.0)


def test_a_domain_that_turns_is_rigid_by_itself(tmp_path: Path) -> None:
    """Two helices on a hinge: each keeps its shape, the whole does not."""
    folds = []
    for hinge in (-140.0, 60.0, 100.0):
        psi = np.full(20, -47.0)
        psi[9] = hinge
        folds.append(alanines(np.full(20, -57.8), psi))
    trajectory = written(folds, tmp_path / "a.xyz")
    each = deviation(trajectory, segments="1-9,11-20", fit="segment")
    whole = deviation(trajectory, segments="1-9,11-20", fit="whole")
    assert each.names == ("whole", "residues 1-9", "residues 11-20")
    assert each.rmsd[1:, 0].min() > 2.0
    assert each.rmsd[:, 1:].max() < 1e-6
    assert whole.rmsd[1:, 1:].min() > 1.0
    auto = deviation(trajectory)
    assert len([name for name in auto.names if name.startswith("helix")]) == 2


def test_reference_from_a_file(tmp_path: Path) -> None:
    first, second = helix(), alanines(np.full(12, -120.0), np.full(12, 120.0))
    path = tmp_path / "reference.xyz"
    # other order of atoms and no hydrogens: matched by residue and name
    order = np.random.default_rng(2).permutation(len(second))
    reference = second[order]
    reference = reference[reference.numbers > 1]
    reference.write(path, format="extxyz")
    found = deviation(written([first, second], tmp_path / "a.xyz"), reference=str(path))
    assert found.rmsd[1, 0] < 1e-6
    assert found.rmsd[0, 0] > 3.0
    alanines(np.full(5, -60.0), np.full(5, -40.0)).write(tmp_path / "short.xyz", format="extxyz")
    with pytest.raises(InputError, match="5 amino acids where the trajectory has 12"):
        deviation(written([first], tmp_path / "b.xyz"), reference=str(tmp_path / "short.xyz"))


def test_show_and_words(tmp_path: Path, rng: np.random.Generator) -> None:
    trajectory = written(shaken(helix(), rng, count=20), tmp_path / "a.xyz")
    shown = show(trajectory)
    assert shown.numbers[0].name == "RMSD whole" and shown.numbers[0].error is not None
    assert len(shown.panels) == 2 and set(shown.tables) == {"rmsd", "rmsf"}
    single = show(written([helix()], tmp_path / "b.xyz"))
    assert single.numbers[0].value == pytest.approx(0.0, abs=1e-6)
    for words in ({"atoms": "all"}, {"fit": "some"}, {"segments": "1to3"}, {"segments": "90-99"}):
        with pytest.raises(InputError):
            show(trajectory, **words)
