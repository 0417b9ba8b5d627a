"""The watch: what it sees, what it lets pass, what it says, and the frames it leaves."""

import json
import warnings

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from toys import LennardJones, Morse, Spring, argon_box, cluster, dimers

import heliodor
from heliodor.doubt import Doubt
from heliodor.dynamics.state import evaluate_moved, init
from heliodor.dynamics.steps.integrators import nve_step
from heliodor.dynamics.steps.langevin import langevin_step
from heliodor.dynamics.watch.bonds import formed_bonds
from heliodor.dynamics.watch.checks import broken_bonds
from heliodor.dynamics.watch.watchdog import Watch, WatchWarning
from heliodor.errors import InputError, SimulationError
from heliodor.system import System

FREE = Spring(k=0.0)
"""No forces: the watch sees geometries alone."""


def start(atoms, potential=FREE, temperature=0.0, **options):
    return init(System.from_atoms(atoms), potential, temperature=temperature, **options)


def at(state, positions, step, potential=FREE, cell=None):
    """The state with its atoms elsewhere, lists renewed as integrators do it."""
    system = state.system.replace(positions=torch.as_tensor(np.asarray(positions), dtype=torch.float64))
    if cell is not None:
        system = system.replace(cell=cell)
    prediction, lists = evaluate_moved(potential, system, state.neighbors)
    return state.replace(
        system=system,
        forces=prediction.forces,
        energy=prediction.energy,
        neighbors=lists,
        prediction=prediction,
        step=step,
        time=0.5 * step,
    )


def watch_over(state, **options):
    return Watch(state, **({"temperature": 300.0, "timestep": 0.5} | options))


def water(shift=(0.0, 0.0, 0.0)):
    atoms = ase.Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    atoms.positions += shift
    return atoms


def shared_proton(d):
    """O-H...O on a line, the oxygens d Å apart, and the atoms' positions for a hydrogen x Å from the first."""
    atoms = ase.Atoms("OHO", [[0, 0, 0], [0.97, 0, 0], [d, 0, 0]], info={"charge": 1.0})
    return atoms, lambda x: [[0, 0, 0], [x, 0, 0], [d, 0, 0]]


def test_a_torn_bond_is_told_once_with_atoms_value_and_limit():
    atoms = water()
    first = start(atoms)
    watch = watch_over(first)
    assert not watch.look(first, True)
    positions = atoms.positions.copy()
    positions[1, 0] = 1.54
    assert not watch.look(at(first, positions, 10), True)
    assert watch.events == []
    positions[1, 0] = 1.76
    with pytest.warns(
        WatchWarning, match=r"step 20 \(10 fs\): the bond between O 0 and H 1 broke \(1\.76 Å, limit 1\.55"
    ):
        assert not watch.look(at(first, positions, 20), True)
    watch.look(at(first, atoms.positions, 30), True)
    watch.look(at(first, positions, 40), True)
    (event,) = watch.events
    assert (event.kind, event.step, event.time, event.structure, event.atoms) == ("bond broken", 20, 10.0, 0, (0, 1))
    assert event.value == pytest.approx(1.76)
    assert event.limit == pytest.approx(1.6 * 0.97)
    assert "smaller" in event.text and "doubt the model" in event.text


def test_a_step_in_between_is_looked_at_for_forces_only():
    first = start(water())
    watch = watch_over(first, on_bond_change="stop")
    torn = water().positions
    torn[1, 0] = 3.0
    assert not watch.look(at(first, torn, 1), False)
    with pytest.warns(WatchWarning):
        assert watch.look(at(first, torn, 2), True)


def test_a_proton_that_changes_its_oxygen_breaks_and_forms_and_a_shared_one_does_neither():
    atoms, place = shared_proton(2.4)
    first = start(atoms)
    watch = watch_over(first)
    for step, x in enumerate([0.97, 1.1, 1.2, 1.3, 1.43, 1.2, 1.4]):
        watch.look(at(first, place(x), step), True)
    assert watch.events == []
    atoms, place = shared_proton(2.6)
    first = start(atoms)
    watch = watch_over(first, on_bond_change="stop")
    assert not watch.look(at(first, place(1.5), 5), True)
    with pytest.warns(WatchWarning) as told:
        assert watch.look(at(first, place(1.62), 10), True)
    assert [str(w.message).split(": ")[1].split(" (")[0] for w in told] == [
        "the bond between O 0 and H 1 broke",
        "H 1 and O 2 formed a bond not there at the start",
    ]
    assert [event.kind for event in watch.events] == ["bond broken", "bond formed"]
    assert "H 1" in watch.reason or "O 0" in watch.reason
    moved = at(first, place(1.62), 10).system
    assert [b.name for b in formed_bonds(moved, watch.bonds)] == ["H 1 and O 2"]
    assert [b.name for b in broken_bonds(moved, watch.bonds)] == ["O 0 and H 1"]
    # once settled on its new oxygen it may be shared with, or return to, the old one
    watch.look(at(first, place(1.3), 20), True)
    watch.look(at(first, place(1.0), 30), True)
    assert len(watch.events) == 2


@pytest.mark.parametrize(("distance", "bonded"), [(1.25, False), (1.5, False), (1.17, False), (1.15, True)])
def test_hydrogen_bonds_are_no_bonds_and_a_free_hydrogen_bonds_when_close(distance, bonded):
    atoms = ase.Atoms("OH", [[0, 0, 0], [4.0, 0, 0]], info={"spin": 1})
    first = start(atoms)
    watch = watch_over(first, on_bond_change="stop")
    if bonded:
        with pytest.warns(WatchWarning, match="O 0 and H 1 formed a bond"):
            assert watch.look(at(first, [[0, 0, 0], [distance, 0, 0]], 4), True)
    else:
        assert not watch.look(at(first, [[0, 0, 0], [distance, 0, 0]], 4), True)


def test_a_bond_forms_across_the_boundary_and_only_nonmetals_bond():
    box = ase.Atoms("C2Na2", [[0.5, 3, 3], [6.0, 3, 3], [0.5, 6, 6], [4.4, 6, 6]], cell=[8.0] * 3, pbc=True)
    first = start(box)
    watch = watch_over(first)
    positions = box.positions.copy()
    positions[1, 0], positions[3, 0] = 6.95, 6.0
    with pytest.warns(WatchWarning, match=r"C 0 and C 1 formed a bond .*\(1\.55 Å, limit 1\.82 Å\)"):
        watch.look(at(first, positions, 4), True)
    assert len(watch.events) == 1
    watch.look(at(first, positions, 8), True)
    assert len(watch.events) == 1


@pytest.mark.filterwarnings("error")
def test_unwrapped_molecules_travelling_through_many_boxes_keep_their_bonds():
    box = water((0.3, 0.2, 0.1)) + water((3.2, 3.1, 3.0))
    box.set_cell([6.0] * 3)
    box.pbc = True
    box.wrap()
    state = start(box)
    watch = watch_over(state, on_bond_change="stop")
    assert watch.bonds.n_edges == 4
    positions = box.positions.copy()
    for step in range(1, 120):
        positions[:3] += [0.23, -0.17, 0.11]
        positions[3:] += [-0.11, 0.05, -0.29]
        # molecules cross each other's way: only what neither bonds nor touches is looked at
        state = at(state, positions, step)
        near = np.linalg.norm((d := positions[:3, None] - positions[None, 3:]) - 6.0 * np.round(d / 6.0), axis=-1)
        if near.min() > 1.9:
            assert not watch.look(state, True)
    assert np.abs(positions - box.positions).max() > 5 * 6.0
    assert watch.events == []


def test_structures_of_a_batch_are_told_apart():
    frames = dimers(3, 1.1)
    first = start(frames)
    watch = watch_over(first)
    positions = first.system.positions.numpy().copy()
    positions[5, 0] = 3.0
    with pytest.warns(WatchWarning, match="N 0 of structure 2 and N 1 of structure 2"):
        watch.look(at(first, positions, 1), True)
    assert (watch.events[0].structure, watch.events[0].atoms) == (2, (0, 1))


def test_a_model_blind_to_bonds_is_watched_with_a_list_of_its_own():
    class Blind(Spring):
        def __init__(self):
            super().__init__(k=0.0)
            self.cutoff = 1.0

    atoms = ase.Atoms("C2", [[0, 0, 0], [5.0, 0, 0]])
    state = start(atoms, Blind())
    watch = watch_over(state)
    for step, x in enumerate([5.0, 4.2, 3.4, 2.6, 1.9]):
        state = at(state, [[0, 0, 0], [x, 0, 0]], step, Blind())
        watch.look(state, True)
    assert watch.events == []
    with pytest.warns(WatchWarning, match="C 0 and C 1 formed"):
        watch.look(at(state, [[0, 0, 0], [1.5, 0, 0]], 9, Blind()), True)


def test_hot_vibrations_and_liquids_raise_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        potential = Morse(depth=4.0, a=2.0, d0=1.4)
        state = start(ase.Atoms("C2", [[0, 0, 0], [1.4, 0, 0]]), potential, temperature=1000.0, seed=3)
        watch = watch_over(state, temperature=1000.0, on_bond_change="stop")
        for _ in range(300):
            state = langevin_step(state, potential, dt=0.5, temperature=1000.0, friction=5.0)
            assert not watch.look(state, state.step % 5 == 0)
        liquid = LennardJones()
        state = start(argon_box(), liquid, temperature=150.0, seed=1)
        watch = watch_over(state, on_bond_change="stop")
        for _ in range(50):
            state = nve_step(state, liquid, dt=4.0)
            assert not watch.look(state, True)
    assert watch.events == []


@pytest.mark.filterwarnings("error")
def test_the_embedded_model_keeps_hot_paracetamol_whole():
    potential = heliodor.load("heliodor-mini", device="cpu")
    atoms = ase.io.read("examples/paracetamol.xyz")
    state = start(atoms, potential, temperature=800.0, seed=2)
    watch = watch_over(state, temperature=800.0, on_bond_change="stop")
    assert watch.bonds.n_edges == 20
    for parameter in potential.parameters():
        parameter.requires_grad_(False)
    for _ in range(60):
        state = langevin_step(state, potential, dt=0.5, temperature=800.0, friction=5.0)
        assert not watch.look(state, state.step % 5 == 0)


class Doubtful(Morse):
    """Doubts itself where atoms come closer than 1.9 Å."""

    def doubts(self, system, prediction):
        d = float((system.positions[1] - system.positions[0]).norm())
        return [Doubt((0, 1), f"closer than any example ({d:.2f} Å)")] if d < 1.9 else []


def test_doubts_of_a_model_are_told_once_or_stop_or_are_not_asked_for():
    potential = Doubtful()
    first = start(cluster(3, 2.2), potential)
    near = first.system.positions.clone()
    near[1] = near[0] + torch.tensor([1.8, 0.0, 0.0], dtype=torch.float64)
    close, closer = at(first, near, 3, potential), at(first, near + 0.01 * near, 4, potential)
    quiet = {"potential": potential, "on_bond_change": "ignore"}
    watch = watch_over(first, **quiet)
    with pytest.warns(WatchWarning, match=r"step 3 .*doubts itself at C 0 and C 1: closer than any example \(1\.80"):
        assert not watch.look(close, True)
    assert not watch.look(closer, True)
    assert [(e.kind, e.atoms, e.value) for e in watch.events] == [("doubt", (0, 1), None)]
    with pytest.warns(WatchWarning):
        assert watch_over(first, **quiet, on_doubt="stop").look(close, True)
    ignoring = watch_over(first, **quiet, on_doubt="ignore")
    assert not ignoring.look(close, True) and ignoring.events == []


def test_bond_changes_can_be_ignored_and_choices_are_checked():
    first = start(water())
    torn = water().positions
    torn[1, 0] = 3.0
    watch = watch_over(first, on_bond_change="ignore")
    assert not watch.look(at(first, torn, 2), True) and watch.events == []
    with pytest.raises(InputError, match="on_doubt must be 'stop', 'warn' or 'ignore', not 'maybe'"):
        watch_over(first, on_doubt="maybe")
    with pytest.raises(InputError, match="stride"):
        watch_over(first, stride=0)


def test_many_changes_are_collected_but_not_all_told():
    atoms = ase.Atoms("N60", [[5.0 * (k // 2), 1.1 * (k % 2), 0.0] for k in range(60)])
    first = start(atoms)
    watch = watch_over(first)
    positions = atoms.positions.copy()
    positions[1::2, 1] = 3.0
    with pytest.warns(WatchWarning) as told:
        watch.look(at(first, positions, 1), True)
    assert len(watch.events) == 30
    assert len(told) == 11
    assert "bond broken, for the 11th time; more of these are not told" in str(told[-1].message)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_what_is_known_survives_a_restart(as_tensor):
    atoms, place = shared_proton(2.6)
    atoms.set_cell([7.0] * 3)
    atoms.pbc = True
    first = start(atoms)
    watch = watch_over(first)
    transferred = at(first, place(1.62), 10)
    with pytest.warns(WatchWarning):
        watch.look(transferred, True)
    saved = json.loads(json.dumps(watch.to_dict()))
    if as_tensor:
        saved["bonds"] = torch.tensor(saved["bonds"])
    later = watch_over(transferred, on_bond_change="stop")
    later.restore(saved, transferred)
    assert later.events == watch.events
    assert not later.look(transferred, True)
    assert [b.name for b in broken_bonds(transferred.system, later.bonds)] == ["O 0 and H 1"]
    assert json.dumps(later.to_dict()) == json.dumps(watch.to_dict())
    with pytest.raises(SimulationError, match="swollen"):
        later.look(at(first, place(0.97), 11, cell=first.system.cell * 1.5), True)
    with pytest.raises(InputError, match="damaged"):
        later.restore({"bonds": []}, transferred)
    with pytest.raises(InputError, match="other atoms"):
        later.restore(saved | {"bonds": [[0, 7, 0, 0, 0]], "at_start": 1, "torn": []}, transferred)


def test_molecules_of_many_kinds_have_their_textbook_bonds():
    counts = {"CH3CONH2": 8, "C6H6": 12, "bicyclobutane": 11, "SiH4": 4, "CH3SH": 5, "H2": 1, "C2H6CHOH": 11}
    found = {}
    for name in counts:
        system = System.from_atoms(molecule(name))
        found[name] = watch_over(start(molecule(name))).bonds.n_edges
        assert formed_bonds(system, watch_over(start(molecule(name))).bonds) == []
    assert found == counts
