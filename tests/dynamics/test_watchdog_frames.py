"""Breakdowns seen by the watch, and the frames it leaves around what happens."""

import pytest
import torch
from test_watchdog import at, start, watch_over, water
from toys import Poisoned, cluster

from heliodor.dynamics import read_trajectory
from heliodor.dynamics.steps.integrators import nve_step
from heliodor.dynamics.watch.trouble import EPISODES, KEPT_LEAST, Trouble
from heliodor.dynamics.watch.watchdog import WatchWarning
from heliodor.errors import SimulationError


def run(state, potential, watch, steps, thorough=5):
    for _ in range(steps):
        state = nve_step(state, potential, dt=0.5)
        watch.look(state, state.step % thorough == 0)
    return state


def steps_in(path):
    return [frame.info["step"] for frame in read_trajectory(path)]


def torn_at(first, step, distance=3.0):
    positions = water().positions
    positions[1, 0] = distance
    return at(first, positions, step)


def test_a_breakdown_leaves_the_last_finite_frames_and_names_the_file(tmp_path):
    potential = Poisoned(40)
    state = start(cluster(4), potential, temperature=300.0)
    path = tmp_path / "run.trouble.xyz"
    watch = watch_over(state, path=path, stride=4)
    with pytest.raises(
        SimulationError, match=r"step 40 \(20 fs\).*not finite at C 0.*frames are in .*run\.trouble\.xyz"
    ):
        run(state, potential, watch, 100)
    assert steps_in(path) == [*range(1, 40, 4), 39]
    assert "nan" not in path.read_text()
    (event,) = watch.events
    assert (event.kind, event.step, event.value, event.limit) == ("not finite", 40, None, None)
    assert watch.path == path


def test_an_overlap_is_saved_with_its_own_frame(tmp_path):
    first = start(cluster(2, 1.6))
    path = tmp_path / "t.xyz"
    watch = watch_over(first, path=path, stride=1)
    for step, d in enumerate((1.6, 1.3, 1.0)):
        watch.look(at(first, [[0, 0, 0], [d, 0, 0]], step), True)
    with pytest.raises(SimulationError, match=r"C 0 and C 1 are 0\.800 Å apart.*smaller timestep") as stopped:
        watch.look(at(first, [[0, 0, 0], [0.8, 0, 0]], 3), True)
    frames = read_trajectory(path)
    assert [frame.get_distance(0, 1) for frame in frames] == pytest.approx([1.6, 1.3, 1.0, 0.8])
    assert watch.events[0].value == pytest.approx(frames[-1].get_distance(0, 1), abs=1e-6)
    assert watch.failed(first, stopped.value) is stopped.value


def test_forces_heat_and_errors_of_a_step_stop_too():
    first = start(water())
    watch = watch_over(first)
    pulled = first.replace(forces=first.forces + torch.tensor([[0, 0, 0], [0, 600.0, 0], [0, 0, 0]]), step=3)
    with pytest.raises(SimulationError, match="the force on H 1 is 600 eV/Å"):
        watch.look(pulled, False)
    hot = first.replace(velocities=first.velocities + torch.tensor([[0, 0, 0], [0, 0, 0], [0.3, 0, 0]]), step=3)
    with pytest.raises(SimulationError, match=r"temperature is \d+ K, H 2 is the hottest atom.*lower temperature"):
        watch.look(hot, True)
    error = watch.failed(first, SimulationError("the position of O 0 is not finite"))
    assert str(error) == "step 1 (0.5 fs): the position of O 0 is not finite"
    assert [event.kind for event in watch.events] == ["force", "temperature", "failure"]


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        ([1.4, 1.4, 1.4], r"swollen to 2\.74 times its volume.*time constant"),
        ([0.7, 0.7, 0.7], r"collapsed to 0\.34 of its volume.*density"),
        ([1.5, 1.5, 0.45], r"flat: its least height is 3\.60 Å, 0\.45"),
    ],
)
def test_a_cell_that_blows_up_collapses_or_flattens_stops(gradient, message):
    box = water((2, 2, 2))
    box.set_cell([8.0] * 3)
    box.pbc = True
    first = start([box, box])
    watch = watch_over(first)
    cell = first.system.cell.clone()
    cell[1] = cell[1] * torch.tensor(gradient, dtype=torch.float64)
    gentle = first.system.cell * 0.8
    assert not watch.look(at(first, first.system.positions, 4, cell=gentle), True)
    with pytest.raises(SimulationError, match=r"the cell of structure 1 has .*" + message):
        watch.look(at(first, first.system.positions, 8, cell=cell), True)
    assert (watch.events[0].kind, watch.events[0].structure) == ("cell", 1)


def test_frames_before_of_and_after_an_event_and_none_twice(tmp_path):
    path = tmp_path / "run.trouble.xyz"
    first = start(water())
    watch = watch_over(first, path=path, stride=10)
    for step in range(25):
        watch.look(at(first, water().positions, step), step % 5 == 0)
    assert watch.path is None and not path.exists()
    with pytest.warns(WatchWarning, match=r"O 0 and H 1 broke.*frames around it: .*run\.trouble\.xyz"):
        watch.look(torn_at(first, 25), True)
    assert steps_in(path) == [0, 10, 20, 25]
    for step in range(26, 100):
        watch.look(torn_at(first, step), step % 5 == 0)
    assert steps_in(path) == [0, 10, 20, 25, 30, 40, 50]


def test_a_later_part_of_the_run_appends(tmp_path):
    path = tmp_path / "run.trouble.xyz"
    first = start(water())
    watch = watch_over(first, path=path, on_bond_change="stop")
    with pytest.warns(WatchWarning):
        assert watch.look(torn_at(first, 7), True)
    here = torn_at(first, 7)
    later = watch_over(here, path=path)
    later.restore(watch.to_dict(), here)
    later.look(here, True)
    with pytest.raises(SimulationError, match="not finite"):
        later.look(here.replace(forces=here.forces * float("nan"), step=8), False)
    assert steps_in(path) == [7, 7]


def test_a_file_that_cannot_be_written_hides_nothing(tmp_path):
    first = start(water())
    watch = watch_over(first, path=tmp_path / "no" / "such" / "t.xyz")
    watch.look(first, True)
    with pytest.raises(SimulationError, match=r"not finite at O 0.*could not be written \(.*No such file"):
        watch.look(first.replace(forces=first.forces * float("nan"), step=1), True)


def test_few_frames_are_kept_of_many_atoms_and_files_end(tmp_path):
    first = start(water())
    heavy = Trouble(tmp_path / "a.xyz", 100_000, 1)
    light = Trouble(tmp_path / "b.xyz", 3, 1)
    for step in range(100):
        heavy.keep(first.replace(step=step))
        light.keep(first.replace(step=step))
    assert len(heavy.steps) == 4 >= KEPT_LEAST
    assert len(light.steps) == 20
    assert light.steps[-1] == 99
    for _ in range(EPISODES):
        light.save(after=False)
    assert light.save(after=False) is None
    assert light.save(after=False, always=True) == light.path
