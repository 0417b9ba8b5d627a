"""One row of gpu_speed.py, in a process of its own: kernel checked against the plain model, then steps timed."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
import triton
from ase.data import atomic_masses

from gpu_models import ROWS, kernel_of, structure
from heliodor.bench.speed.floor import around, count, floor
from heliodor.bench.speed.rates import Rates, measure_rates
from heliodor.dynamics.captured.lists import DeviceLists
from heliodor.dynamics.captured.memory import no_lists
from heliodor.dynamics.captured.motion import Motion
from heliodor.dynamics.captured.run import CapturedRun
from heliodor.dynamics.settings import Settings
from heliodor.dynamics.state import MDState, degrees_of_freedom
from heliodor.dynamics.targets import read_barostat, read_temperature
from heliodor.potential import evaluate_system
from heliodor.system import System
from heliodor.units import BOLTZMANN, KINETIC

LIMIT = 1e-3
"""Relative root mean square error of forces and of the strain derivative."""

BLOCKS = 5
WARMUP = 64
"""Steps before any is timed: launches find their length in these. Fewer where they take longer than SETTLING."""

SETTLING = 8.0
"""s."""

RANDOM_STEP, RANDOM_LAUNCH = 0.02, 40
"""fs and steps of a launch where weights are random."""


def fail(words: str) -> None:
    """End the row with a reason."""
    raise SystemExit(f"row: {words}")


def events(call: Any, repeats: int, cuda: bool) -> float:
    """Median duration in ms."""
    found = []
    for _ in range(repeats):
        if cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            found.append(start.elapsed_time(end))
        else:
            begun = time.perf_counter()
            call()
            found.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(found)


def filled(lists: Any, system: Any) -> None:
    """Make lists, with more room until they fit."""
    for _ in range(4):
        told = lists.fill(system.positions, system.cell)
        if bool(told.fits):
            return
        lists.make_room(system, told.wanted.tolist())
    fail("the neighbour list does not fit after four tries")


def compare(found: Any, exact: Any, tiles: int, what: str) -> float:
    """Relative root mean square error against the cell's values on every copy; ends the row above the limit."""
    true = np.tile(exact, (tiles, 1)) if len(exact) != len(found) else exact
    error = float(np.linalg.norm(found - true) / np.linalg.norm(true))
    if not error <= LIMIT:
        fail(f"{what} deviate from the plain model in float64 by {error:.1e} (limit {LIMIT:g}): not timed")
    return error


def begun(system: Any, derived: Any, skin: float, npt: bool) -> Any:
    """A state at 300 K, without the lists of the host."""
    generator = torch.Generator(system.device).manual_seed(1)
    masses = torch.as_tensor(atomic_masses)[system.numbers.cpu()].to(system.device)
    noise = torch.randn(system.positions.shape, generator=generator, dtype=torch.float64, device=system.device)
    velocities = noise * (BOLTZMANN * 300.0 / (KINETIC * masses)).sqrt().unsqueeze(-1)
    velocities -= (masses.unsqueeze(-1) * velocities).sum(0) / masses.sum()
    energy = sum(term.double().sum() for term in derived.terms.energies.values()).view(1)
    strain = derived.strain
    return MDState(
        system=system,
        velocities=velocities,
        masses=masses,
        forces=-derived.gradient.double(),
        energy=energy,
        neighbors=no_lists(system, skin),
        degrees_of_freedom=degrees_of_freedom(system, rotating=True),
        bath=torch.zeros_like(energy),
        rng=generator.get_state(),
        virial=-0.5 * (strain + strain.mT) if npt else None,
    )


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What the device is, and its rates."""
    device = the_device(options)
    found = {"name": "machine", "device": "CPU, Triton's interpreter, toy sizes", "torch": torch.__version__}
    found["triton"] = triton.__version__
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
    rates = measure_rates(device, seconds=0.3)
    return found | {"operations_per_s": rates.operations, "bytes_per_s": rates.bandwidth}


def the_device(options: argparse.Namespace) -> torch.device:
    """The GPU, or a CPU for toy sizes."""
    if options.quick:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        fail("torch sees no GPU; --quick runs toy sizes on a CPU")
    return torch.device("cuda")


def one(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Check and time one row; with ``prepare`` no more than what has all its kernels compiled."""
    row = next(row for row in ROWS if row.name == name)
    device = the_device(options)
    cuda = device.type == "cuda"
    npt = row.ensemble == "npt"
    plain = row.make(options.quick)
    subject = structure(row, options.quick)
    cell = System.from_atoms(subject.cell)
    exact = evaluate_system(plain, cell, plain.neighbors(cell), virial=True)
    near = around(plain, cell, plain.neighbors(cell))
    parts = count(plain, near)
    model = plain.to(device=device, dtype=torch.float32)
    try:
        kernel = kernel_of(model, row.precision)
    except (ImportError, AttributeError) as missing:
        fail(f"the kernel is not there: {missing}")
    system = System.from_atoms(subject.atoms, device=device)
    cutoffs = (model.cutoff,)
    if model.has_long_range:
        cutoffs += (float(model.long_range_limits(system)[0]),)
    result: dict[str, Any] = {"name": name, "atoms": system.n_atoms, "ensemble": row.ensemble}
    lists = DeviceLists(system, cutoffs, options.skin, changing=npt)
    filled(lists, system)
    short, long = lists.matrices[0], (lists.matrices[1] if len(lists.matrices) > 1 else None)
    started = time.perf_counter()
    derived = kernel.evaluate(system, short, long, gradient=True, strain=npt)
    if cuda:
        torch.cuda.synchronize()
    result["first_evaluation_s"] = time.perf_counter() - started
    again = kernel.evaluate(system, short, long, gradient=True, strain=npt)
    if not torch.equal(derived.gradient, again.gradient):
        fail("two runs on the same positions give different bits: not timed")
    result["precision"] = row.precision or getattr(getattr(kernel, "tuning", None), "precision", "float32")
    forces = -derived.gradient.double().cpu().numpy()
    result["force_error"] = compare(forces, exact.forces.double().numpy(), subject.tiles, "forces")
    if npt:
        virial = -0.5 * (derived.strain + derived.strain.mT).double().cpu().numpy().reshape(3, 3)
        true = subject.tiles * exact.virial.double().numpy().reshape(3, 3)
        result["virial_error"] = compare(virial, true, 1, "virials")
    state = begun(system, derived, options.skin, npt)
    timestep = RANDOM_STEP if row.random else 0.5
    settings = Settings(ensemble=row.ensemble, timestep=timestep, skin=options.skin)
    motion = Motion(
        timestep=timestep,
        thermostat="langevin",
        ramp=read_temperature(300.0, 1_000_000, system),
        barostat=read_barostat(settings, system) if npt else None,
    )
    lengths = {"first": RANDOM_LAUNCH, "most": RANDOM_LAUNCH} if row.random else {}
    run = CapturedRun(state, motion, kernel.evaluate, lists, **lengths)

    def go(state: Any, steps: int) -> Any:
        last = state.step + steps
        while state.step < last:
            state = run.advance(state, lambda step: last)
        if cuda:
            torch.cuda.synchronize()
        return state

    # compiles and records
    started = time.perf_counter()
    state = go(state, 1)
    result["first_step_s"] = time.perf_counter() - started
    if options.prepare:
        return result
    started, each, steps = time.perf_counter(), float("inf"), 1
    while not options.quick and state.step < WARMUP and time.perf_counter() - started < SETTLING:
        before = time.perf_counter()
        state = go(state, 16)
        # the fastest: some of them record graphs
        each = min(each, (time.perf_counter() - before) / 16)
    if not options.quick:
        # as many as fit into the time
        steps = max(16, int(options.seconds / BLOCKS / each))
    launches, means = run.launches, []
    blocks = 1 if options.quick else BLOCKS
    for _ in range(blocks):
        started = time.perf_counter()
        state = go(state, steps)
        means.append(1e3 * (time.perf_counter() - started) / steps)
    if not bool(state.forces.isfinite().all()):
        fail("forces are not finite after the steps: the timing means nothing")
    result |= {"ms_per_step": statistics.median(means), "fastest_ms": min(means), "slowest_ms": max(means)}
    result |= {"steps": blocks * steps, "steps_per_launch": blocks * steps / max(1, run.launches - launches)}
    result["launches_repeated"] = run.repeated
    result["us_per_atom"] = 1e3 * result["ms_per_step"] / system.n_atoms
    result["ns_per_day"] = None if row.random else 86.4 * 0.5 / result["ms_per_step"]
    alone = evaluation(kernel, system, short, long, npt, cuda)
    result["ms_model"] = events(alone, 1 if options.quick else 30, cuda)
    result["ms_list"] = events(lambda: lists.fill(system.positions, system.cell), 1 if options.quick else 10, cuda)
    result["memory_GB"] = torch.cuda.max_memory_allocated() / 1e9 if cuda else None
    if parts is not None and options.operations:
        low = floor(parts, Rates(options.operations, options.bandwidth))
        result |= {"floor_us": low.microseconds, "operations": low.operations, "bytes": low.bytes}
    result |= {"edges": near.edges, "pairs": near.pairs, "goal_us": row.us, "goal_ms": row.ms}
    assert np.isfinite(result["ms_per_step"])
    return result


def evaluation(kernel: Any, system: Any, short: Any, long: Any, npt: bool, cuda: bool) -> Any:
    """One evaluation of the model, as a graph where there is a GPU."""

    def call() -> Any:
        return kernel.evaluate(system, short, long, gradient=True, strain=npt)

    if not cuda:
        return call
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    graph.replay()
    return graph.replay
