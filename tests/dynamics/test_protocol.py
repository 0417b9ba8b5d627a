"""Protocols: what YAML says is what is run, once; stages go on where they stopped; what has settled is told."""

import json
import signal

import numpy as np
import pytest
import yaml
from toys import LennardJones, argon_box

from heliodor.dynamics import read_trajectory
from heliodor.dynamics.equilibration import run_protocol
from heliodor.dynamics.protocol import DEFAULT, read_protocol
from heliodor.errors import InputError, SimulationError

STEPS = """
settings:
  timestep: 4 fs
  temperature: 60
  skin: 0.3
  log_every: 8 fs
  save_every: 40 fs
stages:
  - name: relax
    minimize: {fmax: 0.001, steps: 100, cell: isotropic}
  - name: heat
    ensemble: nvt
    temperature: "20:60"
    time: 0.2 ps
  - name: npt
    ensemble: npt
    time: 0.4 ps
    settle: [density_g_cm3, potential_eV]
"""


def stages(text=STEPS):
    return read_protocol(yaml.safe_load(text))


def test_stages_follow_each_other_and_are_run_once(tmp_path):
    potential, told = LennardJones(cutoff=5.5), []
    done = run_protocol(argon_box(), potential, stages(), tmp_path, progress=False, tell=told.append)
    assert told == done
    assert [f.skipped for f in done] == [False] * 3
    assert "converged" in done[0].words
    assert {p.name for p in tmp_path.glob("02-*")} >= {"02-heat.h5", "02-heat.csv", "02-heat.png", "02-heat.xyz"}
    # each stage begins where the last one ended
    first = read_trajectory(tmp_path / "03-npt.h5")[0]
    last = read_trajectory(tmp_path / "02-heat.h5")[-1]
    np.testing.assert_allclose(first.positions, last.positions, atol=1e-5)
    np.testing.assert_allclose(first.cell.array, done[0].atoms.cell.array, atol=1e-6)
    assert np.linalg.norm(first.get_velocities() - last.get_velocities()) < 1e-3 * np.linalg.norm(last.get_velocities())
    assert [s.name for s in done[2].settlings] == ["density", "potential"]
    assert all(s.words for s in done[2].settlings)
    record = json.loads((tmp_path / "protocol.json").read_text())
    assert [entry["settings"]["name"] for entry in record["stages"]] == ["relax", "heat", "npt"]

    before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    again = run_protocol(argon_box(), potential, stages(), tmp_path, progress=False)
    assert [f.skipped for f in again] == [True] * 3
    assert [f.words for f in again] == [f.words for f in done]
    np.testing.assert_allclose(again[-1].atoms.positions, done[-1].atoms.positions, atol=1e-7)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


def test_an_interrupted_stage_is_gone_on_with(tmp_path):
    potential = LennardJones(cutoff=5.5)
    reports = []

    def press(report):
        reports.append(report)
        if len(reports) == 33:
            signal.raise_signal(signal.SIGINT)

    part = run_protocol(argon_box(), potential, stages(), tmp_path / "a", progress=press)
    assert [f.complete for f in part] == [True, True, False]
    assert len(json.loads((tmp_path / "a" / "protocol.json").read_text())["stages"]) == 2
    rest = run_protocol(argon_box(), potential, stages(), tmp_path / "a", progress=False)
    assert [f.skipped for f in rest] == [True, True, False]
    whole = run_protocol(argon_box(), potential, stages(), tmp_path / "b", progress=False)
    np.testing.assert_array_equal(rest[-1].atoms.positions, whole[-1].atoms.positions)
    # the log of a stage in two parts is read back from its file: nine digits
    assert [s.words for s in rest[-1].settlings] == [s.words for s in whole[-1].settlings]


def test_a_folder_of_something_else_is_refused(tmp_path):
    potential = LennardJones(cutoff=5.5)
    short = STEPS[: STEPS.index("  - name: npt")]
    run_protocol(argon_box(), potential, stages(short), tmp_path, progress=False)
    with pytest.raises(InputError, match=r"stage 2 \(heat\) done with other settings"):
        run_protocol(argon_box(), potential, stages(short.replace('"20:60"', '"20:70"')), tmp_path, progress=False)
    with pytest.raises(InputError, match="another structure"):
        run_protocol(argon_box(seed=1), potential, stages(short), tmp_path, progress=False)
    other = LennardJones(cutoff=5.5)
    other.anchor.data.fill_(1.0)
    with pytest.raises(InputError, match="another model"):
        run_protocol(argon_box(), other, stages(short), tmp_path, progress=False)
    (tmp_path / "protocol.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        run_protocol(argon_box(), potential, stages(short), tmp_path, progress=False)


def test_a_required_minimum_that_is_not_reached(tmp_path):
    text = "stages: [{minimize: {fmax: 1.0e-9, steps: 3, required: true}}]"
    with pytest.raises(SimulationError, match=r"stage minimize: .*not converged"):
        run_protocol(argon_box(), LennardJones(cutoff=5.5), stages(text), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage: []", "unknown entry 'stage'; did you mean 'stages'"),
        ("stages: []", "at least one stage"),
        ("stages: [5]", "stage 1: a stage holds names and values"),
        ("stages: [{temprature: 300, time: 1 ps}]", r"stage 1 \(stage1\): .*'temprature'; did you mean 'temperature'"),
        ("stages: [{ensemble: nvt}]", "give its length once"),
        ("stages: [{time: 1 ps, steps: 5}]", "give its length once"),
        ("stages: [{name: a b, time: 1 ps}]", "part of file names"),
        ("stages: [{name: a, time: 1 ps}, {name: a, time: 1 ps}]", "two stages are called 'a'"),
        ("stages: [{minimize: {fmx: 1}}]", "'fmx' of minimize; did you mean 'fmax'"),
        ("stages: [{minimize: {steps: many}}]", "steps of minimize cannot be 'many'"),
        ("stages: [{minimize: {cell: cubic}}]", "cell must be one of isotropic"),
        ("stages: [{minimize: {}, time: 1 ps}]", "a minimisation takes no time"),
        ("stages: [{minimize: {}, settle: []}]", "a minimisation takes no settle"),
        ("stages: [{time: 1 ps, replicas: 2}]", r"stage 1 \(stage1\): a protocol moves one structure"),
        ("settings: {replicas: 2}\nstages: [{time: 1 ps}]", "settings: a protocol moves one structure"),
        ("settings: {minimize_first: true}\nstages: [{time: 1 ps}]", "settings: minimize_first has no place"),
        ("stages: [{time: 1 ps, keep_velocities: true, start_temperature: 9}]", "exclude each other"),
        ("settings: {restraints: [{kind: place}]}\nstages: [{time: 1 ps}]", "settings: restraint 0: there is no"),
        ("stages: [{time: 1 ps, velocities: 3.5}]", "velocities cannot be 3.5"),
        (
            "settings: {tmestep: 1}\nstages: [{time: 1 ps}]",
            "settings: unknown setting 'tmestep'; did you mean 'timestep'",
        ),
        ("stages: [{time: 1 ps, settle: density}]", "settle must be a list"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(InputError, match=message):
        stages(text)


def test_a_column_that_is_not_there(tmp_path):
    # only a long stage would tell, and it must not be lost
    text = "stages: [{time: 0.2 ps, timestep: 4 fs, settle: [densty]}]"
    done = run_protocol(argon_box(), LennardJones(cutoff=5.5), stages(text), tmp_path, progress=False)
    assert not done[0].settlings[0].settled
    assert "densty not judged: the log has no such column, only step, time_fs" in done[0].settlings[0].words
    again = run_protocol(argon_box(), LennardJones(cutoff=5.5), stages(text), tmp_path, progress=False)
    assert again[0].skipped
    assert again[0].settlings[0].words == done[0].settlings[0].words


@pytest.mark.parametrize("kind", DEFAULT)
def test_the_built_in_protocols_can_be_read(kind):
    text = DEFAULT[kind]
    for name, value in (("temperature", "300"), ("short", "1 ps"), ("long", "5 ps")):
        text = text.replace("{" + name + "}", value)
    found = stages(text)
    assert found[0].relaxation is not None
    assert found[-1].name == "production"
    assert found[1].settings.temperature == "50:300"
