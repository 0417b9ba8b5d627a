"""Captured steps without a graph: against the ordinary steps, through stale lists, full rows, breakdowns, restarts."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from captured_parts import MatrixLennardJones
from toys import LennardJones, Wells, argon_box, cluster

from heliodor.dynamics import conserved, init, nose_hoover_step, nve_step, open_writer, read_trajectory, temperature
from heliodor.dynamics.captured import launch, middle
from heliodor.dynamics.captured.choose import captured_run, obstacle
from heliodor.dynamics.captured.lists import HostLists
from heliodor.dynamics.captured.motion import Motion, temperature_at
from heliodor.dynamics.captured.philox import key_of, normals, philox
from heliodor.dynamics.captured.run import CapturedRun
from heliodor.dynamics.files.log import Log
from heliodor.dynamics.files.restart import load_state, save_state
from heliodor.dynamics.loop import Schedule, run_loop
from heliodor.dynamics.settings import Settings
from heliodor.dynamics.state import MDState, evaluated
from heliodor.dynamics.steps.cell_rescaling import cell_rescaled
from heliodor.dynamics.steps.langevin import fluctuated
from heliodor.dynamics.steps.pressure import Barostat
from heliodor.dynamics.targets import Ramp
from heliodor.errors import InputError, SimulationError
from heliodor.kernels.derived import Derived
from heliodor.potential import Terms
from heliodor.system import System
from heliodor.units import BAR, BOLTZMANN

DT = 4.0
LJ = LennardJones(cutoff=6.0)


def ramp(*kelvin: float, steps: int = 100) -> Ramp:
    return Ramp(torch.tensor(kelvin, dtype=torch.float64), steps)


def box(skin: float = 0.4, kelvin: float = 120.0, **options: object) -> MDState:
    atoms = argon_box(2, 3.9)
    atoms.set_cell([[8.0, 0, 0], [1.0, 8.0, 0], [0.5, -0.7, 8.0]])
    return init(System.from_atoms(atoms), LJ, temperature=kelvin, seed=1, skin=skin, **{"virial": True} | options)


def captured(state: MDState, motion: Motion | None = None, room: int | None = None, **options: object) -> CapturedRun:
    lists = HostLists(state.system, (6.0,), state.neighbors.skin, capacities=None if room is None else (room,))
    return CapturedRun(state, motion or Motion(DT, None, ramp(120.0)), MatrixLennardJones(LJ), lists, **options)


def every(n: int):
    return lambda step: (step // n + 1) * n


def same(a: MDState, b: MDState, atol: float = 1e-11) -> None:
    assert a.step == b.step and a.time == b.time
    for name in ("velocities", "forces", "energy", "bath", "virial"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=atol)
    torch.testing.assert_close(a.system.positions, b.system.positions, rtol=0, atol=atol)
    torch.testing.assert_close(a.system.cell, b.system.cell, rtol=0, atol=atol)


def test_philox_known_answers():
    # kat_vectors of the authors' Random123 library, philox4x32-10
    for counter, key, expected in (
        ([0] * 4, [0] * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ):
        assert tuple(philox(torch.tensor([counter]), torch.tensor(key))[0].tolist()) == expected


def test_normals_are_normal_and_belong_to_step_atom_and_stream():
    key = key_of(torch.Generator().manual_seed(1).get_state())
    at = torch.tensor([5 + 2**33])
    x = normals(at, key, 100_000, 0)
    flat = x.flatten()
    n = len(flat)
    # moments of N(0, 1), in units of their standard errors
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((flat**power).mean()) - mean) < 4.0 * (variance / n) ** 0.5
    assert np.abs(np.corrcoef(x.T.numpy()) - np.eye(3)).max() < 4.0 / 100_000**0.5
    assert torch.equal(normals(at, key, 10, 0), x[:10])
    for other in (normals(at + 1, key, 10, 0), normals(at, key, 10, 1), normals(at, key.flip(0), 10, 0)):
        assert not (other == x[:10]).any()


def test_constant_energy_is_that_of_the_ordinary_loop():
    state = start = box()
    ref, jobs = start, captured(start)
    ends = []
    while state.step < 100:
        state = jobs.advance(state, every(20))
        ends.append(state.step)
        while ref.step < state.step:
            ref = nve_step(ref, LJ, DT)
        same(state, ref)
    assert {20, 40, 60, 80, 100} <= set(ends) and len(ends) < 50
    assert abs(float(conserved(state) - conserved(start))) < 1e-3
    assert state.prediction.terms.keys() == {"pair"}
    torch.testing.assert_close(state.prediction.energy, state.energy)
    # who goes on without matrices makes lists of its own
    assert bool(state.neighbors.stale(state.system))
    torch.testing.assert_close(evaluated(state, LJ).energy, state.energy, rtol=1e-12, atol=0)


def test_lists_that_run_out_in_the_middle_are_noticed_and_the_launch_is_repeated():
    start = box(skin=0.1)
    jobs = captured(start, first=16)
    short = captured(start, first=1, most=1)
    state = other = ref = start
    while state.step < 40:
        state = jobs.advance(state, every(40))
    assert jobs.repeated > 0
    while other.step < 40:
        other = short.advance(other, every(40))
    while ref.step < 40:
        ref = nve_step(ref, LJ, DT)
    same(state, ref)
    same(other, ref)


def test_one_step_that_outruns_its_skin_is_taken_with_lists_made_in_the_middle():
    start = box(skin=0.0)
    jobs = captured(start, first=4)
    state = ref = start
    while state.step < 6:
        state = jobs.advance(state, every(6))
        ref = nve_step(ref, LJ, DT) if ref.step < state.step else ref
    same(state, ref)
    assert jobs.length <= 2


def test_a_staleness_that_is_not_looked_at_would_show(monkeypatch):
    # the test above can fail: lists used beyond their skin give other forces
    start = box(skin=0.02)
    monkeypatch.setattr(launch, "stale", lambda used: torch.zeros((), dtype=torch.bool))
    state, ref = captured(start, first=60, most=60).advance(start, every(60)), start
    while ref.step < 60:
        ref = nve_step(ref, LJ, DT)
    assert float((state.system.positions - ref.system.positions).abs().max()) > 1e-8


def test_full_rows_get_room_and_no_step_is_lost():
    start = box()
    jobs = captured(start, room=8)
    state = ref = start
    while state.step < 20:
        state = jobs.advance(state, every(20))
    while ref.step < 20:
        ref = nve_step(ref, LJ, DT)
    same(state, ref)
    assert jobs.repeated >= 1
    assert jobs._launch.lists.matrices[0].capacity > 8


def test_nose_hoover_chains_are_the_ordinary_ones():
    start = box()
    motion = Motion(DT, "nose-hoover", ramp(100.0), time_constant=60.0)
    jobs, state, ref = captured(start, motion), start, start
    while state.step < 60:
        state = jobs.advance(state, every(20))
        while ref.step < state.step:
            ref = nose_hoover_step(ref, LJ, DT, temperature=100.0, time_constant=60.0)
        same(state, ref)
        torch.testing.assert_close(state.chain.velocities, ref.chain.velocities, rtol=0, atol=1e-14)


def test_noise_handed_in_does_what_noise_drawn_does(monkeypatch):
    state = box(rotating=True)
    n = state.system.n_atoms
    generator = torch.Generator()
    generator.set_state(state.rng)
    noise = torch.randn(n, 3, dtype=torch.float64, generator=generator)
    drawn = fluctuated(state, DT, temperature=80.0, friction=5.0)
    given = middle.fluctuated(state, DT, noise, temperature=80.0, friction=5.0)
    assert torch.equal(drawn.velocities, given.velocities) and torch.equal(drawn.bath, given.bath)
    for coupling in ("isotropic", "semi-isotropic", "anisotropic"):
        state = state.replace(system=argon(state))
        pressure = torch.full((1, 3), 100.0 * BAR, dtype=torch.float64)
        barostat = Barostat(pressure, coupling, 500.0, 0.0 if coupling == "anisotropic" else 1e-3)
        if coupling == "isotropic":
            barostat = replace(barostat, surface_tension=0.0)
        generator.set_state(state.rng)
        noise = torch.randn(1, 3, 3, dtype=torch.float64, generator=generator)[0]
        drawn, strain = cell_rescaled(state, DT, temperature=80.0, barostat=barostat)
        given, other = middle.cell_rescaled(state, DT, noise, temperature=80.0, barostat=barostat, virial=state.virial)
        torch.testing.assert_close(other, strain, rtol=1e-12, atol=1e-18)
        same(given, drawn, 1e-12)


def argon(state: MDState) -> System:
    """In a cell that all couplings know."""
    return state.system.replace(cell=torch.diag_embed(torch.full((1, 3), 8.0, dtype=torch.float64)))


@pytest.mark.parametrize("coupling", ["isotropic", "anisotropic"])
def test_a_barostat_keeps_its_books(coupling):
    pressure = torch.full((1, 3), 300.0 * BAR, dtype=torch.float64)
    start = box(skin=1.0)
    start = init(argon(start), LJ, temperature=60.0, seed=4, skin=1.0, virial=True)
    motion = Motion(DT, "csvr", ramp(60.0), time_constant=100.0, barostat=Barostat(pressure, coupling, 300.0))
    jobs, state = captured(start, motion), start
    volumes, books = [], []
    while state.step < 120:
        state = jobs.advance(state, every(20))
        volumes.append(float(state.system.volume[0]))
        books.append(float(conserved(state)[0]))
        # lists were never short of an edge: energy as of lists made now
        torch.testing.assert_close(evaluated(state, LJ).energy, state.energy, rtol=1e-10, atol=0)
    assert np.ptp(volumes) > 1.0
    exchanged = float(state.bath.abs()[0])
    assert exchanged > 0.01 and np.ptp(books) < 0.01 * exchanged, (exchanged, np.ptp(books))


def test_langevin_gives_the_canonical_ensemble_of_harmonic_wells():
    """Of independent oscillators k<x²> = m<v²> = kT; velocities fluctuate as those of 3n degrees of freedom do."""
    n, k, kelvin = 80, 2.0, 300.0
    rng = np.random.default_rng(0)
    atoms = ase.Atoms(f"C{n}", 50.0 * np.arange(n)[:, None] * [1.0, 0, 0])
    centers = torch.as_tensor(atoms.positions)
    wells = Wells(centers, k)
    atoms.positions += rng.normal(0, (BOLTZMANN * kelvin / k) ** 0.5, (n, 3))
    start = init(System.from_atoms(atoms), wells, temperature=kelvin, seed=3, skin=5.0, fixed_center=False, exact=False)

    def evaluate(system, short, long, *, gradient, strain):
        away = system.positions - centers
        return Derived(Terms({"well": 0.5 * k * away.square().sum(1)}), k * away)

    motion = Motion(4.0, "langevin", ramp(kelvin), friction=25.0)
    jobs = CapturedRun(start, motion, evaluate, HostLists(start.system, (1.0,), 5.0))
    state, rows = start, []
    while state.step < 480:
        state = jobs.advance(state, every(12))
        if state.step % 12:
            continue
        stretched = float(k * (state.system.positions - centers).square().mean()) / (BOLTZMANN * kelvin)
        rows.append((stretched, float(temperature(state)[0]) / kelvin))
    blocks = np.array(rows[-40:]).reshape(10, -1, 2).mean(1)
    error = blocks.std(0, ddof=1) / 10**0.5
    assert (np.abs(blocks.mean(0) - 1.0) < 4.0 * error).all(), (blocks.mean(0), error)
    assert (error < 0.04).all()
    assert np.std(rows, axis=0)[1] == pytest.approx((2 / (3 * n)) ** 0.5, rel=0.35)
    drift = float(conserved(state)[0] - conserved(start)[0]) / n
    assert abs(drift) < 0.01 * BOLTZMANN * kelvin


def test_velocity_rescaling_draws_kinetic_energies_from_their_distribution():
    """After some time constants 2K/kT is a χ² of all degrees of freedom; after a short one it remembers."""
    from scipy.stats import chi2, kstest

    start = init(System.from_atoms(cluster(3, 4.0, "Ar")), LJ, temperature=200.0, seed=1, rotating=True)
    free = float(start.degrees_of_freedom[0])
    assert free == 6.0
    generator = torch.Generator().manual_seed(5)
    for dt, tau in ((500.0, 50.0), (50.0, 100.0)):
        found = []
        for _ in range(500):
            noise = torch.randn(3, 3, dtype=torch.float64, generator=generator)
            moved = middle.rescaled(start, dt, noise, temperature=100.0, time_constant=tau)
            found.append(float(temperature(moved)[0]) * free / 100.0)
            assert float(conserved(moved) - conserved(start)) == pytest.approx(0.0, abs=1e-12)
        keep = np.exp(-dt / tau)
        # equation A7's mean: K decays to its target; it was twice that
        assert np.mean(found) == pytest.approx(free * (1.0 + keep), abs=4.0 * np.std(found) / 500**0.5)
        if keep < 1e-3:
            assert kstest(found, chi2(free).cdf).pvalue > 1e-3


def test_ramp_on_the_device_is_the_ramp():
    for knots in ((300.0,), (300.0, 900.0), (300.0, 900.0, 100.0)):
        path = ramp(*knots)
        for step in (0, 7, 50, 51, 99, 100, 120):
            assert float(temperature_at(path, torch.tensor([step]))) == pytest.approx(path.at(step), rel=1e-14)


def test_repeated_noise_is_the_same_noise():
    motion = Motion(DT, "langevin", ramp(120.0, 60.0), friction=10.0)
    start = box(skin=0.15, rotating=True)
    ends = []
    for first in (1, 8):
        jobs, state = captured(start, motion, first=first), start
        while state.step < 40:
            state = jobs.advance(state, every(40))
        ends.append(state)
        if first == 8:
            assert jobs.repeated > 0
    same(ends[0], ends[1], 1e-10)
    assert float((ends[0].velocities - start.velocities).abs().max()) > 1e-4


class Breaking(MatrixLennardJones):
    """Forces on one atom are not numbers once it has gone some way."""

    def __init__(self, start: torch.Tensor, way: float) -> None:
        super().__init__(LJ)
        self.start, self.way = start, way

    def __call__(self, system, short, long, *, gradient, strain):
        derived = super().__call__(system, short, long, gradient=gradient, strain=strain)
        broken = (torch.arange(system.n_atoms) == 5) & ((system.positions[5] - self.start).norm() > self.way)
        wrong = torch.where(broken.unsqueeze(1), torch.nan, derived.gradient)
        return replace(derived, gradient=wrong)


def loop(folder, state, jobs, last, marks=None, stop=lambda: False, name="run.xyz"):
    with ExitStack() as stack:
        marks = marks or {"trajectory": None, "log": None}
        log = Log(folder / "run.csv", resume=marks["log"], timestep=DT)
        stack.callback(log.close)
        writer = stack.enter_context(open_writer(folder / name, overwrite=True, resume=marks["trajectory"]))
        return run_loop(
            state,
            lambda state: nve_step(state, LJ, DT),
            Schedule(last, DT, save_every=4, log_every=6, temperature=120.0, checkpoint_steps=10),
            writer=writer,
            log=log,
            report=lambda report: None,
            stop=stop,
            launches=jobs,
            checkpoint=lambda state, marks: save_state(
                folder / "run.restart", state, {"marks": marks, "captured": None if jobs is None else jobs.to_dict()}
            ),
        )


def test_breakdown_names_the_step_and_the_atom(tmp_path):
    start = box()
    # where that atom is at step 7 and was not before
    ref, origin, path = start, start.system.positions[5], []
    for _ in range(7):
        ref = nve_step(ref, LJ, DT)
        path.append(float((ref.system.positions[5] - origin).norm()))
    assert path == sorted(path), "the atom has to go one way"
    evaluate = Breaking(origin, 0.5 * (path[5] + path[6]))
    lists = HostLists(start.system, (6.0,), 0.4)
    jobs = CapturedRun(start, Motion(DT, None, ramp(120.0)), evaluate, lists, first=16, most=16)
    with pytest.raises(SimulationError, match=r"step 7 \(28 fs\).*not finite at Ar 5"):
        loop(tmp_path, start, jobs, 40)
    # everything up to there is kept, the last meaningful state too
    assert [frame.info["step"] for frame in read_trajectory(tmp_path / "run.xyz")] == [0, 4, 6]


def test_files_are_those_of_the_ordinary_loop(tmp_path):
    start = box()
    for name, jobs in (("plain", None), ("launches", captured(start))):
        (tmp_path / name).mkdir()
        ended = loop(tmp_path / name, start, jobs, 30)
        assert ended.ended == "finished" and ended.state.step == 30
    plain, launched = (np.loadtxt(tmp_path / n / "run.csv", delimiter=",", skiprows=1) for n in ("plain", "launches"))
    np.testing.assert_allclose(plain, launched, rtol=1e-6, atol=1e-6)
    frames = [read_trajectory(tmp_path / name / "run.xyz") for name in ("plain", "launches")]
    for a, b in zip(*frames, strict=True):
        assert a.info["step"] == b.info["step"]
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-7)


@pytest.mark.parametrize("thermostat", [None, "langevin", "csvr", "nose-hoover"])
def test_restart_is_bit_identical(tmp_path, thermostat):
    motion = Motion(DT, thermostat, ramp(120.0), friction=5.0)
    start = box(skin=0.2, rotating=thermostat == "langevin")
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir()
    part.mkdir()
    full = loop(whole, start, captured(start, motion), 36).state
    asked = iter([False] * 4 + [True] * 100)
    loop(part, start, captured(start, motion), 36, stop=lambda: next(asked))
    state, extra = load_state(part / "run.restart")
    assert 0 < state.step < 36
    jobs = captured(state, motion)
    jobs.restore(extra["captured"])
    again = loop(part, state, jobs, 36, extra["marks"]).state
    for a, b in ((again, full),):
        assert a.step == b.step and a.time == b.time
        for name in ("velocities", "forces", "energy", "bath", "virial"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert torch.equal(a.system.positions, b.system.positions)
    assert (whole / "run.csv").read_text() == (part / "run.csv").read_text()
    assert (whole / "run.xyz").read_text() == (part / "run.xyz").read_text()


def test_next_launch_under_way_changes_nothing():
    start = box(skin=0.15)
    motion = Motion(DT, "langevin", ramp(120.0), friction=5.0)
    ends = []
    for ahead in (False, True):
        jobs, state = captured(start, motion, ahead=ahead), start
        while state.step < 40:
            state = jobs.advance(state, lambda step: min(40, (step // 9 + 1) * 9))
        # from somewhere else: what was under way is forgotten
        state = jobs.advance(start, every(7))
        ends.append(state)
    assert torch.equal(ends[0].system.positions, ends[1].system.positions)
    assert torch.equal(ends[0].velocities, ends[1].velocities)


def test_what_cannot_be_captured():
    molecule = init(System.from_atoms(cluster(5, 3.5, "Ar")), LJ, temperature=50.0)
    two = init(System.from_atoms([cluster(5, 3.5, "Ar")] * 2), LJ, temperature=50.0)
    with pytest.raises(InputError, match="one structure"):
        captured(two)
    settings = Settings(steps=1)
    assert obstacle(settings, LJ, molecule) == "the model runs without a kernel for GPUs"
    assert captured_run(settings, LJ, molecule, ramp(50.0)) is None
    fast = LennardJones(cutoff=6.0)

    class Kernel:
        evaluate = MatrixLennardJones(fast)

        def __call__(self, system, neighbors):
            raise AssertionError

    fast.use_kernel(Kernel(), "test")
    assert obstacle(settings, fast, molecule) is None
    assert obstacle(settings, fast, two) == "several structures"
    assert obstacle(settings.replace(skin=0.0), fast, molecule) is not None
    assert obstacle(settings.replace(ensemble="npt"), fast, box()) is None
    assert obstacle(settings.replace(ensemble="npt"), fast, molecule) is not None
    for choice in ({"barostat": "mtk"}, {"coupling": "triclinic"}):
        assert obstacle(settings.replace(ensemble="npt", **choice), fast, box()) is not None
    # on a CPU nothing changes, whatever the kernel
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert captured_run(settings, fast, molecule, ramp(50.0)) is None
