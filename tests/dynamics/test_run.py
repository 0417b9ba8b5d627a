"""simulate: files, averages, refusals, and what stops a run."""

import signal

import ase
import numpy as np
import pytest
import torch
from toys import LennardJones, Morse, Poisoned, argon_box, cluster, dimers

from heliodor.dynamics import bonded_pairs, broken_bonds, read_trajectory
from heliodor.dynamics.run import simulate
from heliodor.errors import InputError, ModelError, SimulationError
from heliodor.potential import ModelWarning
from heliodor.system import System

QUIET = {"progress": False, "plot": None, "seed": 1}


def test_a_run_leaves_what_it_promises(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reports = []
    run = simulate(
        argon_box(), LennardJones(), temperature=80, time="0.4 ps", timestep="4 fs", seed=5, progress=reports.append
    )
    assert [p.name for p in (run.output, run.log_path, run.plot_path)] == ["run.h5", "run.csv", "run.png"]
    assert (run.steps, run.time, run.interrupted, run.broken_bonds) == (100, 400.0, False, [])
    assert run.plot_path.read_bytes().startswith(b"\x89PNG")
    frames = read_trajectory(run.output)
    assert [frame.info["step"] for frame in frames] == list(range(0, 101, 5))
    np.testing.assert_allclose(run.atoms.positions, frames[-1].positions, atol=1e-5)
    np.testing.assert_allclose(run.atoms.get_temperature(), run.log["temperature_K"][-1] * 26 / 27, rtol=1e-4)
    table = np.genfromtxt(run.log_path, delimiter=",", names=True)
    assert table.dtype.names == tuple(run.log)
    for name, column in run.log.items():
        np.testing.assert_allclose(table[name], column, rtol=1e-3, atol=1e-3)
    assert run.log["time_fs"][-1] == 400.0
    assert 30 < run.mean_temperature < 130
    assert abs(run.drift) < 1.0
    assert run.averages["potential_eV"] < 0
    assert run.ns_per_day > 0
    assert reports[-1].step == reports[-1].steps == 100
    assert "100 %" in reports[-1].line()
    assert reports[5].seconds_left > 0


@pytest.mark.parametrize(
    "options", [{"ensemble": "nve"}, {"thermostat": "langevin"}, {"thermostat": "csvr", "time_constant": "50 fs"}]
)
def test_the_same_seed_gives_the_same_run(options):
    ends = [simulate(cluster(5), Morse(), steps=40, output=None, **QUIET, **options).atoms.positions for _ in range(2)]
    np.testing.assert_array_equal(*ends)


def test_several_structures_run_at_once(tmp_path):
    run = simulate(
        [cluster(3), cluster(6)],
        Morse(),
        steps=40,
        output=tmp_path / "b.h5",
        progress=False,
        plot=tmp_path / "b.png",
        on_bond_change="ignore",
    )
    assert [len(frame) for frame in run.frames] == [3, 6]
    assert run.log["temperature_K"].shape == (3, 2)
    header, *lines = run.log_path.read_text().splitlines()
    assert header.startswith("step,time_fs,structure,temperature_K")
    assert len(lines) == 6
    assert isinstance(run.mean_temperature, float)


def test_masses_and_parameters_are_respected():
    atoms = cluster(4)
    atoms.set_masses([2.0, 4.0, 6.0, 8.0])
    potential = Morse()
    run = simulate(atoms, potential, steps=3, output=None, **QUIET)
    assert run.state.masses.tolist() == [2.0, 4.0, 6.0, 8.0]
    assert all(parameter.requires_grad for parameter in potential.parameters())


def test_minimizing_first_and_a_cold_start():
    atoms = cluster(6, 1.6)
    run = simulate(
        atoms, Morse(), ensemble="nve", start_temperature=10, minimize_first=True, steps=50, output=None, **QUIET
    )
    assert run.log["temperature_K"][0] == pytest.approx(10)
    assert run.log["temperature_K"].max() < 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "length of the simulation"),
        ({"time": "1 ps", "steps": 5}, "length of the simulation"),
        ({"time": "soon"}, "cannot read 'soon' as a time"),
        ({"steps": 0}, "at least 1"),
        ({"steps": 5, "ensemble": "nvp"}, "ensemble must be one of nve, nvt, npt, nph"),
        ({"steps": 5, "ensemble": "npt"}, "needs a periodic cell"),
        ({"steps": 5, "thermostat": "berendsen"}, "thermostat must be one of langevin, csvr, nose-hoover"),
        ({"steps": 5, "barostat": "scr"}, "nvt has no barostat"),
        ({"steps": 5, "ensemble": "npt", "thermostat": "csvr", "barostat": "mtk"}, "mtk needs nose-hoover"),
        ({"steps": 5, "ensemble": "nve", "temperature": "100:300"}, "no thermostat to change"),
        ({"steps": 5, "temperature": -1}, "temperature"),
        ({"steps": 5, "temperature": 0}, "above 0 K"),
        ({"steps": 5, "temperature": "300:hot"}, "cannot read 'hot' as a temperature in K"),
        ({"steps": 5, "temperatur": 300}, "did you mean 'temperature'"),
        ({"steps": 5, "temperature": None}, "temperature cannot be None"),
        ({"steps": 5, "constraints": "all"}, "constraints must be one of"),
        ({"steps": 5, "frozen": "0-3"}, "every atom is frozen"),
        ({"steps": 5, "frozen": [7]}, "atom 7 does not exist"),
        ({"steps": 5, "keep_velocities": True}, "has no velocities"),
        ({"steps": 5, "walltime": "soon"}, "cannot read 'soon' as a wall time"),
        ({"steps": 5, "timestep": 9.0}, "cannot follow the lightest atom, C 0"),
        ({"steps": 5, "precision": "half"}, "precision must be"),
        ({"steps": 5, "friction": 0}, "friction"),
        ({"steps": 5, "timestep": 0}, "time"),
        ({"steps": 5, "output": "run.trr"}, r"run\.trr"),
    ],
)
def test_unusable_options_are_refused_before_anything_is_written(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        simulate(cluster(4), Morse(), **QUIET, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["run.h5", "run.csv", "run.png"])
def test_existing_files_are_refused(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(InputError, match=name):
        simulate(cluster(4), Morse(), steps=5, output=tmp_path / "run.h5", progress=False)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "precious")]
    run = simulate(cluster(4), Morse(), steps=5, output=tmp_path / "run.h5", progress=False, overwrite=True)
    assert run.steps == 5


def slab():
    box = argon_box(3)
    box.cell[2, 2] = 40.0
    box.pbc = [True, True, False]
    return box


def test_slabs_couple_in_their_plane_only(tmp_path):
    options = {"steps": 30, "timestep": 4.0, "temperature": 60.0, "output": tmp_path / "run.h5"} | QUIET
    run = simulate(
        slab(), LennardJones(cutoff=5.5), ensemble="npt", coupling="in-plane", surface_tension=20, pressure=0, **options
    )
    cell = run.atoms.cell.array
    assert cell[0, 0] == pytest.approx(cell[1, 1], abs=1e-9)
    assert abs(cell[0, 0] - slab().cell[0, 0]) > 1e-4
    assert cell[2, 2] == 40.0
    assert np.isfinite(run.log["conserved_eV"]).all()
    for coupling in ("isotropic", "semi-isotropic", "anisotropic", "triclinic"):
        with pytest.raises(InputError, match="along a direction in which it is not periodic"):
            simulate(slab(), LennardJones(cutoff=5.5), ensemble="npt", coupling=coupling, **options | {"output": None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coupling": "cubic"}, "coupling must be one of"),
        ({"pressure": "1,2"}, "isotropic coupling has one pressure"),
        ({"pressure": "1,2,3,4"}, "give one, two"),
        ({"pressure": "high"}, "cannot read 'high' as a pressure in bar"),
        ({"pressure": 1e9}, "not a pressure in bar"),
        ({"pressure": [1.0, 2.0]}, "2 pressures for 1 structure"),
        ({"coupling": "semi-isotropic", "pressure": "1,2,3"}, "one pressure for x and y"),
        ({"surface_tension": 30.0}, "needs semi-isotropic or in-plane"),
        ({"coupling": "semi-isotropic", "pressure": "1,2", "surface_tension": 3.0}, "not both"),
        ({"compressibility": -1.0}, "compressibility"),
        ({"barostat_time_constant": "slow"}, "as a time"),
        ({"barostat": "mtk", "constraints": "h-bonds"}, "no bonds to hydrogen|rigid"),
    ],
)
def test_pressures_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        simulate(argon_box(), LennardJones(cutoff=5.5), ensemble="npt", steps=3, output=None, **options, **QUIET)


def test_the_model_is_asked_first():
    with pytest.raises(ModelError, match="U"):
        simulate(ase.Atoms("U2", [[0, 0, 0], [0, 0, 2]]), Morse(), steps=5, output=None, **QUIET)
    with pytest.raises(InputError, match="one spot"):
        simulate(ase.Atoms("C2", [[0, 0, 0], [0, 0, 0.001]]), Morse(), steps=5, output=None, **QUIET)
    with pytest.warns(ModelWarning, match="long for the lightest atom, H 0"):
        simulate(ase.Atoms("H2", [[0, 0, 0], [0, 0, 2.0]]), Morse(), steps=2, timestep=2, output=None, **QUIET)


def test_not_a_number_stops_and_names_the_atoms(tmp_path):
    path = tmp_path / "run.h5"
    with pytest.raises(
        SimulationError, match=r"step 30 \(15 fs\).*not finite at C 0.*closest: C \d and C \d, 1\.\d+ Å"
    ):
        simulate(cluster(4), Poisoned(30), steps=100, output=path, save_every=4.0, **QUIET)
    frames = read_trajectory(path)
    assert [frame.info["step"] for frame in frames] == [0, 8, 16, 24, 29]
    assert np.isfinite(frames[-1].positions).all()
    assert path.with_suffix(".csv").read_text().count("\n") == 3


def test_atoms_running_into_each_other_stop_the_run(tmp_path):
    # a well without a wall: carbons fall onto each other
    falling = Morse(depth=40.0, a=0.8, d0=0.05)
    atoms = ase.Atoms("C2H", [[0, 0, 0], [1.6, 0, 0], [9.0, 0, 0]], info={"spin": 1})
    with pytest.raises(SimulationError, match=r"step \d+ .*C 0 and C 1 are 0\.[0-8]\d+ Å apart") as stopped:
        simulate(atoms, falling, steps=2000, temperature=10, output=tmp_path / "run.xyz", **QUIET)
    assert "smaller timestep" in str(stopped.value)
    last = read_trajectory(tmp_path / "run.xyz")[-1]
    assert last.get_distance(0, 1) < 0.92


def test_a_hopeless_start_is_named_as_such():
    with pytest.raises(SimulationError, match=r"step 0 .*minimize it first"):
        simulate(cluster(4, 0.7), Morse(), steps=5, output=None, **QUIET)


def test_runaway_heating_stops_the_run():
    hot = ase.Atoms("C2", [[0, 0, 0], [1.3, 0, 0]])
    with pytest.raises(SimulationError, match=r"temperature is \d+ K, C \d is the hottest|force on C \d"):
        simulate(hot, Morse(depth=30.0, a=2.0), ensemble="nve", temperature=10, steps=200, output=None, **QUIET)


def test_an_interruption_ends_the_run_in_order(tmp_path):
    def press(report):
        if report.step == 40:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    options = QUIET | {"progress": press}
    run = simulate(cluster(4), Morse(), steps=10**6, output=tmp_path / "run.h5", on_bond_change="ignore", **options)
    assert run.interrupted
    assert run.steps == 40
    assert read_trajectory(run.output)[-1].info["step"] == 40
    assert signal.getsignal(signal.SIGINT) is before


def test_bonds_are_found_and_their_breaking_noticed():
    box = ase.Atoms("OHH", [[0.1, 0, 0], [-0.86, 0, 0], [0.1, 0.96, 0]], cell=[6.0] * 3, pbc=True)
    box.wrap()
    system = System.from_atoms(box)
    bonds = bonded_pairs(system)
    assert sorted(zip(bonds.i.tolist(), bonds.j.tolist(), strict=True)) == [(0, 1), (0, 2)]
    assert broken_bonds(system, bonds) == []
    torn = system.positions.clone()
    torn[1] -= torch.tensor([0.8, 0.0, 0.0], dtype=torch.float64)
    (broken,) = broken_bonds(system.replace(positions=torn), bonds)
    assert broken.name == "O 0 and H 1"
    assert broken.distance == pytest.approx(1.76)
    with pytest.warns(ModelWarning, match="the bond between C 0 and C 1 broke"):
        run = simulate(
            dimers(1, 1.4, "C2")[0], Morse(depth=0.05, a=3.0), temperature=3000, steps=300, output=None, **QUIET
        )
    assert [bond.name for bond in run.broken_bonds] == ["C 0 and C 1"]


def test_progress_is_a_line_per_tenth_where_there_is_no_terminal(capfd):
    simulate(cluster(3), Morse(), steps=100, output=None, seed=0)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 5
    assert all("ns/day" in line and " K" in line for line in lines)


def test_a_stop_is_a_stop_whoever_looks(tmp_path):
    # checkpoints come more often than lines of the log: what a look before one finds ends the run as well
    with pytest.warns(ModelWarning, match="broke"):
        run = simulate(
            dimers(1, 1.4, "C2")[0],
            Morse(depth=0.05, a=3.0),
            temperature=3000,
            steps=2000,
            output=tmp_path / "run.h5",
            log_every=200.0,
            checkpoint_every=7.5,
            on_bond_change="stop",
            **QUIET,
        )
    assert run.ended == "asked"
    assert run.steps < 300
    assert run.reason


def test_overwriting_does_not_destroy_what_is_still_needed(tmp_path):
    trouble = tmp_path / "run.trouble.xyz"
    trouble.write_text("frames of an older run")
    with pytest.raises(InputError):
        simulate(cluster(4), Morse(), steps=3, temperature=-1, output=tmp_path / "run.h5", overwrite=True, **QUIET)
    assert trouble.exists()
    simulate(cluster(4), Morse(), steps=3, output=tmp_path / "run.h5", overwrite=True, **QUIET)
    assert not trouble.exists()


def test_given_velocities_are_not_touched_at_constant_energy():
    atoms = ase.Atoms("Ar2", [[0, 0, 0], [3.8, 0, 0]])
    atoms.set_velocities([[0, 0.01, 0], [0, -0.02, 0.005]])
    options = {"steps": 5, "keep_velocities": True, "output": None, "temperature": 50} | QUIET
    run = simulate(atoms, LennardJones(cutoff=9.0), ensemble="nve", **options)
    np.testing.assert_allclose(run.log["kinetic_eV"][0], atoms.get_kinetic_energy(), rtol=1e-6)
    with pytest.warns(ModelWarning, match="of the kinetic energy of the velocities handed in is motion"):
        simulate(atoms, LennardJones(cutoff=9.0), thermostat="csvr", **options)
    with pytest.raises(InputError, match="structure 1 has no velocities"):
        simulate([atoms, dimers(1)[0]], LennardJones(cutoff=9.0), **options)


def test_mass_moved_to_hydrogen_keeps_the_kinetic_energy_of_given_velocities():
    from ase.build import molecule

    atoms = molecule("CH4")
    atoms.set_velocities(np.random.default_rng(0).normal(0, 0.01, (5, 3)))
    run = simulate(
        atoms,
        Morse(depth=0.1),
        ensemble="nve",
        hydrogen_mass=2.0,
        keep_velocities=True,
        steps=2,
        output=None,
        on_bond_change="ignore",
        **QUIET,
    )
    np.testing.assert_allclose(run.log["kinetic_eV"][0], atoms.get_kinetic_energy(), rtol=1e-5)


def test_bonds_are_held_at_the_lengths_of_the_relaxed_structure():
    long = ase.Atoms("CH3", [[0, 0, 0], [1.25, 0, 0], [-0.6, 1.1, 0], [-0.6, -1.1, 0.1]], info={"spin": 1})
    potential = Morse(depth=2.0, a=2.0, d0=1.05, cutoff=1.6)
    run = simulate(
        long, potential, minimize_first=True, constraints="h-bonds", temperature=50, steps=3, output=None, **QUIET
    )
    assert [run.atoms.get_distance(0, k) for k in (1, 2, 3)] == pytest.approx([1.05] * 3, abs=0.02)


def test_a_relaxation_that_is_not_finished_is_told_and_an_interrupted_one_ends_the_run(monkeypatch):
    from heliodor.dynamics import setup

    def impatient(*arguments, **options):
        return minimize(*arguments, **options | {"max_steps": 1})

    from heliodor.dynamics import minimize

    monkeypatch.setattr(setup, "minimize", impatient)
    with pytest.warns(ModelWarning, match="ended after 1 steps with a largest force of"):
        simulate(cluster(6, 2.3), Morse(), minimize_first=True, steps=2, output=None, **QUIET)

    def interrupted(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        return minimize(*arguments, **options)

    monkeypatch.setattr(setup, "minimize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(cluster(6, 2.3), Morse(), minimize_first=True, steps=2, output=None, **QUIET)


def test_frozen_atoms_are_frozen_in_the_run_that_follows():
    first = simulate(cluster(6), Morse(), frozen=np.array([1, 4]), steps=5, output=None, **QUIET)
    second = simulate(first.atoms, Morse(), steps=5, output=None, **QUIET)
    moved = np.linalg.norm(second.atoms.positions - cluster(6).positions, axis=1)
    assert (moved[[1, 4]] == 0).all()
    assert (moved[[0, 2, 3, 5]] > 0).all()


def test_numbers_of_numpy_are_numbers(tmp_path):
    run = simulate(
        [cluster(4), cluster(5)],
        Morse(),
        temperature=np.array([100.0, 300.0]),
        timestep=np.float32(0.5),
        steps=np.int64(4),
        frozen=[],
        restraints=({"kind": "distance", "atoms": np.array([0, 1]), "value": np.float64(2.0), "k": 1.0},),
        output=tmp_path / "run.h5",
        **QUIET,
    )
    assert run.steps == 4
    with pytest.raises(InputError, match="atom -1 does not exist"):
        simulate(cluster(4), Morse(), frozen=[-1, 2], steps=2, output=None, **QUIET)


def test_one_atom_a_cell_has_no_velocities_to_push_with():
    crystal = ase.Atoms("Ar", cell=[3.9] * 3, pbc=True)
    with pytest.raises(InputError, match="more than one atom a cell"):
        simulate(crystal, LennardJones(cutoff=5.5), ensemble="nph", steps=2, output=None, **QUIET)
    left = System.from_atoms(argon_box())
    left = left.replace(cell=left.cell.flip(1))
    with pytest.raises(InputError, match="left-handed"):
        simulate(left, LennardJones(cutoff=5.5), steps=2, output=None, **QUIET)


def test_a_barostat_is_as_fast_as_water_unless_told_otherwise():
    from heliodor.dynamics import Barostat, Settings
    from heliodor.dynamics.targets import read_barostat
    from heliodor.units import BAR

    made = Barostat(torch.zeros(1, 3, dtype=torch.float64))
    assert made.compressibility * BAR == pytest.approx(4.5e-5)
    read = read_barostat(Settings(ensemble="npt"), System.from_atoms(argon_box()))
    assert read.compressibility == pytest.approx(made.compressibility)
    assert read.time_constant == made.time_constant
    assert read.pressure.tolist() == [[BAR] * 3]
