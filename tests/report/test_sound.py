"""Verdicts on runs whose truth is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from heliodor.report.sound import soundness
from heliodor.trajectory.open import open_trajectory


@pytest.fixture
def healthy(run):
    return open_trajectory(run())


def verdicts(trajectory) -> dict[str, str]:
    return {check.name: check.verdict for check in soundness(trajectory).checks}


def words(trajectory, name: str) -> str:
    return next(check.words for check in soundness(trajectory).checks if check.name == name)


def altered(trajectory, **columns):
    return replace(trajectory, log={**trajectory.log, **columns})


def test_a_canonical_run_is_fine(healthy):
    found = verdicts(healthy)
    assert {found[name] for name in ("Frames", "Conserved quantity", "Temperature", "Potential energy")} == {"ok"}
    (temperature,) = [shown for shown in soundness(healthy).shown if shown.name == "temperature"]
    mean, spread, chi = temperature.numbers
    assert spread.reference == pytest.approx(300.0 * np.sqrt(2.0 / 24.0))
    assert abs(chi.value - 1.0) < 3.0 * chi.error
    assert abs(mean.value - 300.0) < 3.0 * mean.error


def test_a_wrong_temperature_is_told_where_it_can_be_known(run, healthy, write_log):
    log = healthy.log
    assert verdicts(altered(healthy, temperature_K=1.2 * log["temperature_K"]))["Temperature"] == "bad"
    # 40 ps under a thermostat of 0.5 ps leave ten kelvin undecided, 400 ps three
    assert verdicts(altered(healthy, temperature_K=1.02 * log["temperature_K"]))["Temperature"] == "ok"
    path = run("long")
    write_log(path.with_suffix(".csv"), 300.0, lines=4000)
    longer = open_trajectory(path)
    assert verdicts(longer)["Temperature"] == "ok"
    assert verdicts(altered(longer, temperature_K=1.04 * longer.log["temperature_K"]))["Temperature"] == "look"


def test_a_temperature_that_hardly_fluctuates_is_looked_at(healthy):
    quiet = 300.0 + 0.3 * (healthy.log["temperature_K"] - 300.0)
    scaled = altered(
        healthy, temperature_K=quiet, kinetic_eV=healthy.log["kinetic_eV"] * quiet / healthy.log["temperature_K"]
    )
    assert verdicts(scaled)["Temperature"] == "look"


@pytest.mark.parametrize(("slope", "verdict"), [(0.05, "ok"), (0.5, "look"), (-3.0, "bad")])
def test_drift_of_the_conserved_quantity(healthy, slope, verdict):
    ps = healthy.log["time_fs"] / 1e3
    drifting = altered(healthy, conserved_eV=healthy.log["conserved_eV"] + 1e-3 * slope * ps * healthy.n_atoms)
    assert verdicts(drifting)["Conserved quantity"] == verdict
    number = next(shown for shown in soundness(drifting).shown if shown.name == "conserved").numbers[0]
    assert abs(number.value - slope) < 4.0 * number.error


def test_what_still_relaxes_is_looked_at(healthy):
    ps = healthy.log["time_fs"] / 1e3
    assert (
        verdicts(altered(healthy, potential_eV=healthy.log["potential_eV"] + 0.05 * ps))["Potential energy"] == "look"
    )


def test_without_files_beside_it_says_so(run):
    alone = open_trajectory(run(record=False))
    found = verdicts(alone)
    assert found["Log"] == found["Events"] == "unknown"
    assert "no log" in words(alone, "Log")


def test_a_single_frame(run):
    assert verdicts(open_trajectory(run(frames=1)))["Frames"] == "look"


def restart_beside(trajectory, events: list[dict], steps: int) -> None:
    extra = {"steps": steps, "watch": {"events": events}}
    header = json.dumps({"format": "heliodor-restart-1", "extra": extra})
    path = trajectory.path.with_suffix(".restart")
    path.write_bytes(save({"x": np.zeros(1)}, {"heliodor": header}))


def test_events_of_the_watch_are_told(healthy):
    broken = {"kind": "bond broken", "structure": 0, "text": "step 5: O 1 and H 2 are 1.9 Å apart"}
    other = {"kind": "bond broken", "structure": 1, "text": "of another structure"}
    restart_beside(healthy, [broken, other], 3990)
    found = verdicts(healthy)
    assert (found["Bonds"], found["Doubts of the model"], found["Length"]) == ("look", "ok", "ok")
    assert words(healthy, "Bonds") == broken["text"]
    restart_beside(healthy, [{"kind": "contact", "structure": 0, "text": "atoms on one spot"}], 8000)
    found = verdicts(healthy)
    assert (found["Bonds"], found["Breakdown"], found["Length"]) == ("ok", "bad", "look")


def test_a_damaged_restart_file_counts_as_none(healthy):
    healthy.path.with_suffix(".restart").write_bytes(b"\x00" * 30)
    assert verdicts(healthy)["Events"] == "unknown"


def test_pressure_against_its_target(healthy, rng):
    values = 1.0 + 100.0 * rng.normal(size=400)
    pressed = replace(
        altered(healthy, pressure_bar=values), settings={**healthy.settings, "barostat": "scr", "pressure_bar": "1.0"}
    )
    assert verdicts(pressed)["Pressure"] == "ok"
    assert verdicts(altered(pressed, pressure_bar=values + 80.0))["Pressure"] == "look"


def test_a_few_values_of_the_conserved_quantity_are_no_drift(healthy):
    few = {name: column[:4] for name, column in healthy.log.items()}
    steep = few | {"conserved_eV": few["conserved_eV"][0] + 5.0 * np.arange(4.0)}
    short = replace(healthy, log=steep)
    assert verdicts(short)["Conserved quantity"] == "unknown"
    assert "4 values are too few to tell" in words(short, "Conserved quantity")


def test_energies_are_per_simulated_atom(healthy):
    """A file with some of the atoms has the log of all."""
    name = "drift of the conserved quantity"

    def drift(trajectory):
        shown = {one.name: one for one in soundness(trajectory).shown}["conserved"]
        return next(number.value for number in shown.numbers if number.name == name)

    structures = [{"atoms": 10 * healthy.n_atoms}]
    part = replace(healthy, partial=True, record={**healthy.record, "structures": structures})
    assert drift(part) == pytest.approx(0.1 * drift(healthy))
    unknown = replace(healthy, partial=True, record={})
    assert "Conserved quantity" not in verdicts(unknown)


def test_the_pressure_is_held_against_the_barostat_that_was_there(healthy):
    length = len(healthy.log["time_fs"])
    rng = np.random.default_rng(3)
    log = {**healthy.log, "pressure_bar": 800.0 + rng.normal(0.0, 50.0, length), "volume_A3": np.full(length, 1e3)}
    held = replace(healthy, log=log, settings={**healthy.settings, "barostat": "scr", "pressure_bar": "1.0"})
    free = replace(healthy, log=log)
    assert verdicts(free)["Pressure"] == "ok"
    assert "the volume is kept" in words(free, "Pressure")
    assert verdicts(held)["Pressure"] == "look"
    several = replace(held, settings={**held.settings, "pressure_bar": "1,500"})
    assert "the volume is kept" not in words(several, "Pressure")


def test_numbers_of_one_run_alone_are_not_compared(healthy):
    from heliodor.report.merge import merged

    shown = {one.name: one for one in soundness(healthy).shown}["potential-energy"]
    rows = {row.name: row for row in merged([shown, shown], ["a", "b"]).rows}
    assert np.isnan(rows["mean potential energy"].difference(1)[0])
    assert rows["drift of potential energy"].difference(1)[0] == 0.0
