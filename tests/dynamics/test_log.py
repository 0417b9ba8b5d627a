"""The log: columns of runs under pressure, and going on with a file."""

import json

import ase.units
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.geometry import cell_to_cellpar
from toys import LennardJones, argon_box, cluster

from heliodor.dynamics import init, nve_step
from heliodor.dynamics.files.log import Log
from heliodor.dynamics.files.storage import StorageError
from heliodor.errors import InputError
from heliodor.potential import evaluate_system
from heliodor.system import System


def sheared_box():
    atoms = argon_box()
    atoms.set_cell(atoms.cell.array @ [[1.0, 0.1, 0], [0, 1.0, 0.05], [0, 0, 0.95]], scale_atoms=True)
    return atoms


def states(frames, count, virial=True):
    potential = LennardJones(cutoff=5.0)
    state = init(System.from_atoms(frames), potential, temperature=80.0, seed=4, virial=virial)
    found = [state]
    for _ in range(count - 1):
        found.append(nve_step(found[-1], potential, 4.0))
    return found


def test_pressure_density_and_cell_are_those_that_ase_finds(tmp_path):
    potential = LennardJones(cutoff=5.0)
    log = Log(tmp_path / "run.csv")
    for state in states(sheared_box(), 3):
        log.write(state)
        # ASE's own sum of kinetic and potential stress; the kT/V of the resting centre of mass is added to it
        atoms = state.system.to_atoms()[0]
        atoms.set_masses(state.masses.numpy())
        atoms.set_velocities(state.velocities.numpy() / ase.units.fs)
        stress = evaluate_system(potential, System.from_atoms(atoms), stress=True).stress[0]
        voigt = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]].numpy()
        atoms.calc = SinglePointCalculator(atoms, stress=voigt)
        total = -atoms.get_stress(include_ideal_gas=True)[:3]
        total = total + ase.units.kB * log.last["temperature_K"][0] / atoms.get_volume()
        bar = total / (1e-4 * ase.units.GPa)
        assert log.last["pressure_bar"][0] == pytest.approx(bar.mean(), rel=1e-6)
        for k, axis in enumerate(("xx", "yy", "zz")):
            assert log.last[f"pressure_{axis}_bar"][0] == pytest.approx(bar[k], rel=1e-6)
        density = atoms.get_masses().sum() / ase.units._Nav / (atoms.get_volume() * 1e-24)
        assert log.last["density_g_cm3"][0] == pytest.approx(density, rel=1e-6)
        assert log.last["volume_A3"][0] == pytest.approx(atoms.get_volume())
        lengths = cell_to_cellpar(atoms.cell.array)[:3]
        np.testing.assert_allclose([log.last[f"{name}_A"][0] for name in "abc"], lengths)
    log.close()
    table = np.genfromtxt(tmp_path / "run.csv", delimiter=",", names=True)
    assert table.dtype.names == tuple(log.arrays())
    for name, column in log.arrays().items():
        np.testing.assert_allclose(table[name], column, rtol=1e-5, atol=6e-3)


def test_runs_without_virial_have_the_columns_they_had():
    log = Log(None)
    log.write(states(argon_box(), 1, virial=False)[0])
    energies = ["potential_eV", "pair_eV", "kinetic_eV", "conserved_eV"]
    assert list(log.arrays()) == ["step", "time_fs", "temperature_K", *energies, "drift_meV_per_atom_ps"]


def test_what_a_structure_has_not_is_nan():
    slab = argon_box()
    slab.pbc = (True, True, False)
    log = Log(None)
    log.write(states([argon_box(), cluster(4, 3.9, "Ar"), slab], 1)[0])
    assert np.isfinite(log.last["pressure_bar"]).tolist() == [True, False, False]
    assert np.isfinite(log.last["density_g_cm3"]).tolist() == [True, False, False]
    assert np.isfinite(log.last["a_A"]).tolist() == [True, False, True]
    molecules = Log(None)
    molecules.write(states([cluster(4, 3.9, "Ar")], 1)[0])
    assert not [name for name in molecules.last if "bar" in name or name.endswith("_A")]


@pytest.mark.parametrize("frames", [sheared_box(), [argon_box(), cluster(4, 3.9, "Ar")]])
@pytest.mark.parametrize("cut", [1, 4, 7])
def test_a_log_goes_on_as_if_never_stopped(tmp_path, frames, cut):
    whole, parts = Log(tmp_path / "whole.csv"), Log(tmp_path / "parts.csv")
    found = states(frames, 9)
    for state in found:
        whole.write(state)
    for state in found[:cut]:
        parts.write(state)
    # a checkpoint is JSON
    mark = json.loads(json.dumps(parts.mark()))
    assert mark["step"] == cut - 1
    for state in found[cut : cut + 2]:
        parts.write(state)
    parts.close()
    again = Log(tmp_path / "parts.csv", resume=mark)
    assert again.arrays()["step"].tolist() == list(range(cut))
    for state in found[cut:]:
        again.write(state)
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "parts.csv").read_bytes()
    for name, column in whole.arrays().items():
        np.testing.assert_allclose(again.arrays()[name], column, rtol=1e-5, atol=6e-3)
        # the lines written since are exact
        np.testing.assert_array_equal(again.arrays()[name][cut:], column[cut:])


def test_a_log_without_a_file_keeps_its_slope():
    whole, first = Log(None), Log(None)
    found = states(argon_box(), 6)
    for state in found:
        whole.write(state)
    for state in found[:3]:
        first.write(state)
    second = Log(None, resume=first.mark())
    for state in found[3:]:
        second.write(state)
    np.testing.assert_array_equal(second.arrays()["drift_meV_per_atom_ps"], whole.arrays()["drift_meV_per_atom_ps"][3:])


def test_a_state_that_does_not_know_its_terms_leaves_them_open(tmp_path):
    log = Log(tmp_path / "run.csv")
    state = states(argon_box(), 1)[0]
    log.write(state)
    log.write(state.replace(step=1, time=4.0, prediction=None))
    assert np.isnan(log.last["pair_eV"][0])
    assert log.last["potential_eV"][0] == float(state.energy[0])
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 3


def test_logs_of_other_runs_are_refused(tmp_path):
    path = tmp_path / "run.csv"
    log = Log(path)
    for state in states(argon_box(), 3):
        log.write(state)
    mark = log.mark()
    log.close()
    text = path.read_text()
    spoiled = {
        text.replace("volume_A3", "volume_nm3"): "its columns are others",
        text[:-20]: r"it has \d+ bytes where",
        text.replace("\n2,", "\n7,"): "where step 2 was logged last there is another",
        text.replace("\n1,", "\nx,"): "not numbers",
        text.replace("\n1,4,", "\n1,,4"): "not numbers",
    }
    for content, message in spoiled.items():
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            Log(path, resume=mark)
        assert path.read_text() == content
    path.unlink()
    with pytest.raises(InputError, match="which is not there"):
        Log(path, resume=mark)
    with pytest.raises(StorageError, match="no such file or directory"):
        Log(tmp_path / "gone" / "run.csv").write(states(argon_box(), 1)[0])
    # nothing was logged before the checkpoint: nothing to go on with
    empty = Log(None).mark()
    assert torch.equal(torch.tensor(empty["step"]), torch.tensor(-1))
    Log(path, resume=empty).write(states(argon_box(), 1)[0])
    assert len(path.read_text().splitlines()) == 2


def test_the_pressure_of_half_steps_balances_the_virial_of_stiff_bonds():
    # ω dt = 0.75: with velocities of whole steps a harmonic mode pushes (ω dt)²/4 kT too little
    import ase
    from toys import Spring

    from heliodor.dynamics import init, nve_step, pressure
    from heliodor.system import System
    from heliodor.units import ACCELERATION

    k, dt = 40.0, 0.75 * (0.5 * 14.007 / (40.0 * ACCELERATION)) ** 0.5
    atoms = ase.Atoms("N2", [[0, 0, 0], [1.1, 0, 0]], cell=[20.0] * 3, pbc=True)
    potential = Spring(k, 1.1)
    potential.cutoff = 5.0
    state = init(System.from_atoms([atoms] * 40), potential, temperature=300.0, seed=3, virial=True, rotating=True)
    state = state.replace(velocities=state.velocities * torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    wholes, halves = [], []
    for _ in range(400):
        state = nve_step(state, potential, dt)
        # the mode alone: without the kT that stands for the centre of mass
        state = state.replace(fixed_center=False)
        wholes.append(pressure(state)[:, 0, 0])
        halves.append(pressure(state, dt)[:, 0, 0])
    whole, half = (float(torch.stack(values).mean()) for values in (wholes, halves))
    assert abs(half) < 0.05 * abs(whole)
