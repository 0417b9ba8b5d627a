"""Protocols: what the stages share, what each begins with, and folders that were begun otherwise."""

import json
import signal
from dataclasses import replace

import ase
import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule
from ase.constraints import FixAtoms, FixBondLength
from toys import LennardJones, Spring, argon_box

from heliodor.dynamics import equilibration
from heliodor.dynamics.equilibration import run_protocol
from heliodor.dynamics.files.restart import load_state, save_state
from heliodor.dynamics.protocol import anchored, carried, read_protocol
from heliodor.dynamics.settings import Settings
from heliodor.errors import InputError, SimulationError

COMMON = "timestep: 4 fs, temperature: 60, skin: 0.3, log_every: 8 fs, save_every: 40 fs"
HEAT = "- {name: heat, temperature: '20:60', time: 0.2 ps}"
NPT = "- {name: npt, ensemble: npt, time: 0.2 ps, barostat_time_constant: 100 fs}"
LAST = "- {name: last, time: 0.2 ps, thermostat: csvr}"
RELAX = "- {name: relax, minimize: {fmax: 0.001, steps: 60, cell: isotropic}}"


def stages(*lines, settings=""):
    return read_protocol(yaml.safe_load("\n".join([f"settings: {{{COMMON}{settings}}}", "stages:", *lines])))


def run(atoms, steps, folder, **options):
    options = {"progress": False} | options
    return run_protocol(atoms, LennardJones(cutoff=5.5), steps, folder, **options)


def interrupted(atoms, steps, folder, after=3):
    reports = []

    def press(report):
        reports.append(report)
        if len(reports) == after:
            signal.raise_signal(signal.SIGINT)

    done = run(atoms, steps, folder, progress=press)
    assert not done[-1].complete
    return done


def changed(kind):
    atoms = argon_box()
    if kind == "molecule":
        atoms.numbers[0] = 10
    elif kind == "charge":
        atoms.info["charge"] = 1
    elif kind == "spin":
        atoms.info["spin"] = 2
    elif kind == "periodic":
        atoms.pbc = (True, True, False)
    elif kind == "cell":
        atoms.set_cell(atoms.cell.array * 1.01)
    elif kind == "structure":
        atoms.positions[0, 0] += 1e-4
    elif kind == "masses":
        atoms.set_masses(atoms.get_masses() + np.eye(len(atoms))[3])
    else:
        atoms.set_constraint(FixAtoms([2]))
    return atoms


def test_a_first_stage_that_was_cut_off_binds_the_folder(tmp_path):
    interrupted(argon_box(), stages(HEAT), tmp_path)
    record = json.loads((tmp_path / "protocol.json").read_text())
    assert record["stages"] == []
    for kind in ("molecule", "charge", "spin", "periodic", "cell", "structure", "masses", "fixed atoms"):
        with pytest.raises(InputError, match=f"begun with (an)?other {kind}"):
            run(changed(kind), stages(HEAT), tmp_path)
    rounded = argon_box()
    rounded.positions += 4e-7
    done = run(rounded, stages(HEAT), tmp_path)
    whole = run(argon_box(), stages(HEAT), tmp_path / "whole")
    np.testing.assert_array_equal(done[0].atoms.positions, whole[0].atoms.positions)


def test_a_stage_begun_with_other_settings_is_not_gone_on_with(tmp_path):
    interrupted(argon_box(), stages(HEAT, LAST), tmp_path, after=33)
    message = r"stage 2 \(last\) was begun with other settings: temperature 60 → 90, thermostat csvr → None; put the"
    with pytest.raises(InputError, match=message):
        run(argon_box(), stages(HEAT, "- {name: last, time: 0.2 ps, temperature: 90}"), tmp_path)
    # how long one waits changes nothing
    done = run(argon_box(), stages(HEAT, LAST, settings=", walltime: 2h"), tmp_path)
    assert [f.skipped for f in done] == [True, False]
    (tmp_path / "protocol.json").write_text('{"stages": []}')
    with pytest.raises(InputError, match="damaged or of another version"):
        run(argon_box(), stages(HEAT, LAST), tmp_path)
    (tmp_path / "protocol.json").unlink()
    with pytest.raises(InputError, match=r"holds 01-heat.h5 and no protocol.json"):
        run(argon_box(), stages(HEAT, LAST), tmp_path)


def test_what_failed_before_anything_moved_binds_nobody(tmp_path):
    must = "- {name: relax, minimize: {fmax: 1.0e-9, steps: 1, required: true}}"
    with pytest.raises(SimulationError, match="not converged"):
        run(argon_box(), stages(must), tmp_path)
    assert (tmp_path / "protocol.json").is_file()
    done = run(argon_box(seed=1), stages(RELAX), tmp_path)
    assert done[0].complete


def test_a_protocol_in_parts_is_the_protocol_in_one(tmp_path):
    lines = [RELAX, HEAT, NPT, LAST]
    whole = run(argon_box(), stages(*lines), tmp_path / "whole")
    for k in range(1, 5):
        part = run(argon_box(), stages(*lines[:k]), tmp_path / "parts")
        np.testing.assert_array_equal(part[-1].atoms.positions, whole[k - 1].atoms.positions)
        np.testing.assert_array_equal(part[-1].atoms.cell.array, whole[k - 1].atoms.cell.array)
        np.testing.assert_array_equal(part[-1].atoms.get_velocities(), whole[k - 1].atoms.get_velocities())
    # without restart files, the text files are what there is
    for path in (tmp_path / "parts").glob("*.restart"):
        path.unlink()
    again = run(argon_box(), stages(*lines), tmp_path / "parts")
    np.testing.assert_allclose(again[-1].atoms.positions, whole[-1].atoms.positions, rtol=0, atol=1e-8)
    (tmp_path / "parts" / "03-npt.restart").write_bytes(b"damaged")
    assert [f.skipped for f in run(argon_box(), stages(*lines), tmp_path / "parts")] == [True] * 4


@pytest.mark.parametrize("how", ["file", "settings"])
def test_frozen_atoms_stay_where_they_are_in_every_stage(tmp_path, how):
    atoms, settings = argon_box(), ""
    atoms.rattle(0.1, seed=3)
    if how == "file":
        atoms.set_constraint(FixAtoms([0, 5]))
    else:
        settings = ", frozen: '0,5'"
    lines = ["- {name: relax, minimize: {fmax: 0.001, steps: 20}}", HEAT, LAST]
    for number in (1, 2, 3):
        done = run(atoms, stages(*lines[:number], settings=settings), tmp_path)[-1]
        moved = np.abs(done.atoms.positions - atoms.positions).max(axis=1)
        assert moved[[0, 5]].max() < 1e-7
        assert np.delete(moved, [0, 5]).min() > 1e-4
        written = ase.io.read(tmp_path / f"{number:02d}-{done.stage.name}.xyz")
        assert written.constraints[0].index.tolist() == [0, 5]


@pytest.mark.filterwarnings("ignore::heliodor.potential.ModelWarning")
def test_atoms_frozen_in_one_stage_are_free_in_the_next(tmp_path):
    done = run(argon_box(), stages("- {name: a, time: 0.1 ps, frozen: '0-3'}", LAST), tmp_path)
    moved = np.abs(done[1].atoms.positions - done[0].atoms.positions).max(axis=1)
    assert moved[:4].min() > 1e-4
    assert not done[1].atoms.constraints
    relaxed = run(argon_box(), stages("- {minimize: {fmax: 0.001, steps: 9}, frozen: '0-3'}"), tmp_path / "b")
    np.testing.assert_allclose(relaxed[0].atoms.positions[:4], argon_box().positions[:4], rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        ([HEAT, NPT], ", frozen: '0'", r"stage 2 \(npt\): frozen atoms cannot follow a cell"),
        ([HEAT, RELAX], ", frozen: '0'", r"stage 2 \(relax\): frozen atoms cannot follow a cell"),
        ([HEAT], ", frozen: 'Ar'", r"stage 1 \(heat\): every atom is frozen"),
        ([HEAT], ", restraints: [{kind: position, atoms: [999], k: 1}]", r"stage 1 \(heat\): .*there is no atom 999"),
        ([HEAT, "- {name: b, time: 1 ps, ensemble: nvp}"], "", r"stage 2 \(b\): ensemble must be one of"),
    ],
)
def test_what_a_later_stage_cannot_have_is_refused_at_once(tmp_path, lines, settings, message):
    with pytest.raises(InputError, match=message):
        run(argon_box(), stages(*lines, settings=settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_constraints_of_the_structure_are_refused(tmp_path):
    atoms = argon_box()
    atoms.set_constraint(FixBondLength(0, 1))
    with pytest.raises(InputError, match="only FixAtoms is known"):
        run(atoms, stages(HEAT), tmp_path)


def test_a_minimisation_feels_restraints(tmp_path):
    atoms = ase.Atoms("Ar2", [[0, 0, 0], [3.8, 0, 0]])
    held = ", restraints: [{kind: distance, atoms: [0, 1], value: 4.5, k: 100}]"
    done = run(atoms, stages("- {minimize: {fmax: 0.001, steps: 100}}", settings=held), tmp_path)
    assert done[0].atoms.get_distance(0, 1) == pytest.approx(4.5, abs=0.01)
    # the same folder with another restraint is another protocol
    with pytest.raises(InputError, match=r"stage 1 \(minimize\) done with other settings"):
        run(atoms, stages("- {minimize: {fmax: 0.001, steps: 100}}", settings=held.replace("4.5", "5")), tmp_path)


def test_position_restraints_keep_their_places_from_stage_to_stage(tmp_path):
    held = ", restraints: [{kind: position, atoms: [0, 3], k: 0.05}]"
    atoms = argon_box()
    relax = "- {name: relax, minimize: {fmax: 0.05, steps: 5, cell: isotropic}}"
    steps = stages(relax, NPT, LAST, settings=held)
    interrupted(atoms, steps, tmp_path, after=33)
    done = run(atoms, steps, tmp_path)
    assert [f.skipped for f in done] == [True, True, False]
    scaled = atoms.cell.scaled_positions(atoms.positions[[0, 3]])
    for name in ("02-npt", "03-last"):
        places = load_state(tmp_path / f"{name}.restart")[1]["places"]
        np.testing.assert_allclose(np.array(places)[:, :3], scaled, rtol=0, atol=1e-9)
    assert np.linalg.norm(done[-1].atoms.cell.array - atoms.cell.array) > 1e-3


def test_places_given_in_angstrom_are_of_the_first_cell():
    start = ase.Atoms("Ar2", [[1, 2, 3], [4, 5, 6]], cell=[10, 10, 20], pbc=(True, True, False))
    now = start.copy()
    now.set_cell([11, 9, 20], scale_atoms=True)
    entries = [
        {"kind": "position", "atoms": [1, 0], "k": 1.0},
        {"kind": "distance", "atoms": [0, 1], "value": 1, "k": 1},
    ]
    found = anchored(Settings(restraints=tuple(entries)), start, now).restraints
    np.testing.assert_allclose(found[0]["reference"], [[4.4, 4.5, 6], [1.1, 1.8, 3]], atol=1e-12)
    assert found[1]["kind"] == "distance"
    assert anchored(Settings(restraints=tuple(entries)), start, start).restraints[0]["reference"] == [
        [4, 5, 6],
        [1, 2, 3],
    ]
    given = [{**entries[0], "reference": [[0, 0, 0], [5, 5, 5]]}]
    found = anchored(Settings(restraints=tuple(given)), start, now).restraints
    np.testing.assert_allclose(found[0]["reference"], [[0, 0, 0], [5.5, 4.5, 5]], atol=1e-12)
    with pytest.raises(InputError, match="no atom 7"):
        anchored(Settings(restraints=({"kind": "position", "atoms": [7], "k": 1.0},)), start, now)


@pytest.mark.filterwarnings("ignore::heliodor.potential.ModelWarning")
def test_each_stage_begins_with_the_masses_of_the_structure(tmp_path):
    heavy = "- {name: heavy, steps: 30, hydrogen_mass: 3.0}"
    lines = ["settings: {timestep: 0.5 fs, on_bond_change: ignore}", "stages:", heavy]
    lines += [heavy.replace("heavy,", "more,"), "- {name: light, steps: 30}"]
    atoms = molecule("H2O")
    done = run_protocol(
        atoms, Spring(k=10.0, d0=1.0), read_protocol(yaml.safe_load("\n".join(lines))), tmp_path, progress=False
    )
    for finished, expected in zip(done, (3.0, 3.0, 1.008), strict=True):
        masses = load_state(tmp_path / f"{done.index(finished) + 1:02d}-{finished.stage.name}.restart")[0].masses
        np.testing.assert_allclose(masses[1:].numpy(), expected, rtol=1e-3)
        assert float(masses.sum()) == pytest.approx(atoms.get_masses().sum())


def test_atoms_keep_their_kinetic_energy_when_their_masses_change():
    start = molecule("H2O")
    start.set_constraint(FixAtoms([0]))
    start.info["charge"] = 1
    last = start.copy()
    last.set_constraint()
    last.set_masses([12.0, 3.0, 3.0])
    last.positions += 0.1
    last.set_velocities(np.arange(9.0).reshape(3, 3) + 1.0)
    now = carried(start, last)
    energies = [0.5 * a.get_masses() * np.square(a.get_velocities()).sum(axis=1) for a in (last, now)]
    np.testing.assert_allclose(energies[1], energies[0], rtol=1e-12)
    np.testing.assert_array_equal(now.get_masses(), start.get_masses())
    np.testing.assert_array_equal(now.positions, last.positions)
    assert now.constraints[0].index.tolist() == [0]
    assert now.info == {"charge": 1}


def test_a_start_temperature_draws_new_velocities(tmp_path):
    hot = "- {name: hot, ensemble: nve, start_temperature: 200, temperature: 200, steps: 5}"
    run(argon_box(), stages(HEAT, hot), tmp_path)
    lines = (tmp_path / "02-hot.csv").read_text().splitlines()
    first = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert float(first["temperature_K"]) == pytest.approx(200, rel=1e-3)


def test_keep_velocities_after_a_minimisation_has_nothing_to_keep(tmp_path):
    done = run(argon_box(), stages(RELAX, HEAT, settings=", keep_velocities: true"), tmp_path)
    assert done[-1].complete
    with pytest.raises(InputError, match="has no velocities"):
        run(argon_box(), stages(HEAT, settings=", keep_velocities: true"), tmp_path / "b")


@pytest.mark.parametrize(("given", "expected"), [(None, "3h"), ("2h", "2h")])
def test_the_walltime_of_a_stage_counts_unless_another_is_given(tmp_path, monkeypatch, given, expected):
    seen = []

    def simulate(*arguments, **options):
        seen.append(arguments[2].walltime)
        return original(*arguments, **options)

    original = equilibration.simulate
    monkeypatch.setattr(equilibration, "simulate", simulate)
    run(argon_box(), stages(HEAT, settings=", walltime: 3h"), tmp_path, walltime=given)
    assert seen == [expected]


def test_the_density_is_judged_where_the_whole_cell_gives():
    plane = NPT.replace("}", ", coupling: in-plane}").replace("npt,", "plane,", 1)
    assert [s.settle for s in stages(HEAT, NPT, plane)] == [
        ("potential_eV",),
        ("potential_eV", "density_g_cm3"),
        ("potential_eV",),
    ]


def test_a_checkpoint_of_another_molecule_is_not_gone_on_with(tmp_path):
    interrupted(argon_box(), stages(HEAT, LAST), tmp_path, after=33)
    path = tmp_path / "02-last.restart"
    state, extra = load_state(path)
    system = replace(state.system, numbers=torch.full_like(state.system.numbers, 10))
    save_state(path, state.replace(system=system), extra)
    with pytest.raises(InputError, match=r"stage 2 \(last\) was begun with another molecule"):
        run(argon_box(), stages(HEAT, LAST), tmp_path)
