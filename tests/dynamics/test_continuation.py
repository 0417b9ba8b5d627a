"""simulate and restart: a run in parts is the run in one, and what does not belong together is refused."""

import json
import signal

import numpy as np
import pytest
import torch
from toys import LennardJones, Morse, argon_box, cluster

from heliodor.dynamics import read_trajectory
from heliodor.dynamics.files.restart import load_state
from heliodor.dynamics.run import restart, simulate
from heliodor.errors import CheckpointError, InputError

QUIET = {"progress": False, "plot": None, "on_bond_change": "ignore"}
ARGON = {"temperature": 90.0, "timestep": 4.0, "seed": 3, "save_every": 20.0, "log_every": 12.0, "skin": 0.3}

RUNS = {
    "nve": {"ensemble": "nve"},
    "langevin": {"thermostat": "langevin"},
    "csvr": {"thermostat": "csvr"},
    "chains": {"thermostat": "nose-hoover"},
    "ramp": {"temperature": "60:120"},
    "scr": {"ensemble": "npt", "coupling": "semi-isotropic", "pressure": "100,200"},
    "scr csvr": {"ensemble": "npt", "thermostat": "csvr", "coupling": "triclinic"},
    "mtk": {"ensemble": "npt", "barostat": "mtk", "coupling": "anisotropic", "pressure": 50},
    "nph": {"ensemble": "nph"},
    "restrained": {"restraints": ({"kind": "position", "atoms": [0, 5], "k": 0.5},), "save_atoms": "0-7"},
    "replicas": {"replicas": 3, "ensemble": "npt", "precision": "double"},
}


def same(first, second):
    """Everything of two states that the motion depends on."""
    for name in ("velocities", "forces", "energy", "bath", "rng", "masses", "virial"):
        a, b = getattr(first, name), getattr(second, name)
        assert (a is None and b is None) or torch.equal(a, b), name
    assert torch.equal(first.system.positions, second.system.positions)
    assert torch.equal(first.system.cell, second.system.cell)
    assert (first.step, first.time) == (second.step, second.time)


@pytest.mark.parametrize(
    ("name", "suffix"), [*((name, ".h5") for name in RUNS), ("langevin", ".xyz"), ("replicas", ".xyz")]
)
def test_in_parts_as_in_one(tmp_path, name, suffix):
    options = QUIET | ARGON | RUNS[name]
    potential = LennardJones(cutoff=5.5)
    whole = simulate(argon_box(), potential, steps=60, output=tmp_path / f"whole{suffix}", **options)
    if name == "ramp":
        # a ramp knows its end and cannot be extended: it is interrupted
        def press(report):
            if report.step >= 20:
                signal.raise_signal(signal.SIGTERM)

        part = simulate(
            argon_box(), potential, steps=60, output=tmp_path / f"part{suffix}", **options | {"progress": press}
        )
        assert (part.ended, part.steps) == ("interrupted", 21)
        with pytest.raises(InputError, match="ramp cannot be extended"):
            restart(tmp_path / "part.restart", potential, extend="1 ps")
        rest = restart(tmp_path / "part.restart", potential, progress=False)
    else:
        part = simulate(argon_box(), potential, steps=23, output=tmp_path / f"part{suffix}", **options)
        assert part.ended == "finished"
        rest = restart(tmp_path / "part.restart", potential, extend=37 * 4.0, progress=False)
    assert rest.steps == 60
    same(rest.state, whole.state)
    assert (tmp_path / "part.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    for structure in range(options.get("replicas", 1)):
        frames, expected = (read_trajectory(tmp_path / f"{stem}{suffix}", structure) for stem in ("part", "whole"))
        assert [f.info["step"] for f in frames] == [f.info["step"] for f in expected] == list(range(0, 61, 5))
        for a, b in zip(frames, expected, strict=True):
            np.testing.assert_array_equal(a.positions, b.positions)
            np.testing.assert_array_equal(a.cell.array, b.cell.array)
            np.testing.assert_array_equal(a.get_velocities(), b.get_velocities())
    np.testing.assert_array_equal(rest.log["time_fs"], whole.log["time_fs"])


def begun(tmp_path, **options):
    potential = Morse()
    simulate(cluster(5), potential, steps=20, output=tmp_path / "run.h5", seed=1, **QUIET, **options)
    return potential, tmp_path / "run.restart"


def test_the_record_holds_what_a_repetition_needs(tmp_path):
    potential, checkpoint = begun(tmp_path, inputs={"structure": "x.xyz"})
    restart(checkpoint, potential, extend="5 fs", progress=False)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["settings"]["seed"] == 1
    assert record["inputs"] == {"structure": "x.xyz"}
    (structure,) = record["structures"]
    assert structure == {"formula": "C5", "atoms": 5, "charge": 0.0, "spin": 0, "pbc": [False] * 3}
    assert record["dynamics"].startswith("NVT at 300 K (Langevin")
    assert len(record["model"]["sha256"]) == 64
    assert {"heliodor", "python", "torch", "numpy", "ase"} <= set(record["versions"])
    (again,) = record["restarts"]
    assert (again["step"], again["last_step"]) == (20, 30)
    # the settings as they stand there give the same run again
    settings = {name: value for name, value in record["settings"].items() if name not in ("time", "steps")}
    repeated = simulate(cluster(5), potential, steps=30, output=None, progress=False, **settings)
    same(repeated.state, load_state(checkpoint)[0])


def test_a_finished_run_says_how_to_go_on(tmp_path):
    potential, checkpoint = begun(tmp_path)
    with pytest.raises(InputError, match=r"finished \(10 fs\).*--extend"):
        restart(checkpoint, potential)


def test_another_model_is_refused(tmp_path):
    _, checkpoint = begun(tmp_path)
    with pytest.raises(InputError, match="made with a model from Python"):
        restart(checkpoint, extend="5 fs")
    other = Morse()
    other.anchor.data.fill_(1.0)
    with pytest.raises(InputError, match="another model"):
        restart(checkpoint, other, extend="5 fs")
    with pytest.raises(InputError, match="another precision"):
        restart(checkpoint, Morse().float(), extend="5 fs")


def test_damaged_checkpoints_and_files_that_do_not_belong(tmp_path):
    potential, checkpoint = begun(tmp_path)
    content = checkpoint.read_bytes()
    for damaged in (content[: len(content) // 2], content[:-1] + b"\x00\x01", b"", b"{}"):
        checkpoint.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"run\.restart"):
            restart(checkpoint, potential, extend="5 fs")
    checkpoint.write_bytes(content)
    simulate(cluster(4), Morse(), steps=40, output=tmp_path / "other.h5", seed=1, **QUIET)
    (tmp_path / "other.h5").replace(tmp_path / "run.h5")
    with pytest.raises(InputError, match=r"run\.h5 is not the file the checkpoint belongs to"):
        restart(checkpoint, potential, extend="5 fs")
    (tmp_path / "run.h5").unlink()
    with pytest.raises(InputError, match=r"goes on with .*run\.h5, which is not there"):
        restart(checkpoint, potential, extend="5 fs")


def test_the_folder_of_a_run_can_be_moved(tmp_path):
    (tmp_path / "a").mkdir()
    potential, checkpoint = begun(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    run = restart(tmp_path / "b" / checkpoint.name, potential, extend="5 fs", progress=False)
    assert run.output == tmp_path / "b" / "run.h5"
    assert run.simulated == pytest.approx(5.0)
    assert run.first_step == 20


def test_velocities_go_from_run_to_run():
    first = simulate(cluster(6), Morse(), steps=30, ensemble="nve", seed=2, output=None, **QUIET)
    second = simulate(first.atoms, Morse(), steps=20, ensemble="nve", keep_velocities=True, output=None, **QUIET)
    whole = simulate(cluster(6), Morse(), steps=50, ensemble="nve", seed=2, output=None, **QUIET)
    np.testing.assert_allclose(second.atoms.positions, whole.atoms.positions, atol=1e-10)


def test_masses_moved_to_hydrogen_and_rigid_bonds():
    from ase.build import molecule

    atoms = molecule("CH3OH")
    run = simulate(
        atoms, Morse(depth=0.1), steps=10, hydrogen_mass=3.0, constraints="h-bonds", output=None, seed=1, **QUIET
    )
    assert run.state.masses.sum() == pytest.approx(atoms.get_masses().sum())
    assert run.state.masses.tolist()[2:] == [3.0] * 4
    assert run.state.degrees_of_freedom.tolist() == [3 * 6 - 3 - 4]
    start, end = (np.linalg.norm(a.positions[1] - a.positions[3]) for a in (atoms, run.atoms))
    assert end == pytest.approx(start, abs=0.02)
    assert np.abs(run.atoms.positions - atoms.positions).max() > 1e-3


def test_frozen_atoms_stay():
    from ase.constraints import FixAtoms

    atoms = cluster(6)
    atoms.set_constraint(FixAtoms([1, 4]))
    run = simulate(atoms, Morse(), steps=30, output=None, seed=1, **QUIET)
    moved = np.linalg.norm(run.atoms.positions - atoms.positions, axis=1)
    assert (moved[[1, 4]] == 0).all()
    assert (moved[[0, 2, 3, 5]] > 1e-3).all()
    assert run.state.degrees_of_freedom.tolist() == [12.0]
    chosen = simulate(cluster(6), Morse(), steps=30, frozen="1,4", output=None, seed=1, **QUIET)
    np.testing.assert_array_equal(chosen.atoms.positions, run.atoms.positions)
    box = argon_box()
    with pytest.raises(InputError, match="frozen atoms cannot follow a cell"):
        simulate(box, LennardJones(cutoff=5.5), steps=3, ensemble="npt", frozen=[1], output=None, **QUIET)
