"""Steps of dynamics on one GPU against the goals of issue 8: kernels checked first, then captured NVT steps timed.

    python benchmarks/gpu_speed.py --output $OUT/gpu_speed        all rows, under ten minutes on an H200
    python benchmarks/gpu_speed.py --only so3lr-12k,mace-s-12k
    python benchmarks/gpu_speed.py --quick                        toy sizes on a CPU, by Triton's interpreter

Needs torch and triton with CUDA, and ase and vesin (pure wheels: carry them where there is no network); heliodor is
taken from beside this script where it is not installed.

Every row runs in a process of its own, so that one that fails leaves the others alone. In each: the plain model in
float64 gives the forces on one cell, rattled by fresh random numbers; the kernel, in float32 with lists made on the
device, must give them on every copy of the cell in the whole box (relative root mean square error below 1e-3; under
a barostat the strain derivative too), twice to the same bit. Then steps are taken as `heliodor md` takes them: CUDA
graphs of many steps, Langevin thermostat, lists made anew at each launch, 0.5 fs. The step is timed by the host between
synchronisations, over five blocks after a warm-up; the model alone (a graph of one evaluation) and a list alone by
device events, medians.

The floor is `heliodor.bench.speed.floor`'s: counted operations and bytes over the rates of a float32 matrix product and
a copy, measured on the same card. Memory is the most that torch held allocated. Weights of MACE and SpookyNet are
random and of the official shapes. mace-torch with cuEquivariance is not run by this script.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent / "src"))
if "--quick" in sys.argv:
    # before triton is imported
    os.environ["TRITON_INTERPRET"] = "1"

LIMIT = 1e-3
"""Relative root mean square error of forces and of the strain derivative."""

BLOCKS = 5
WARMUP = 64
"""Steps before any is timed: launches find their length in these."""

RANDOM_STEP, RANDOM_LAUNCH = 0.02, 40
"""fs and steps of a launch where weights are random."""


def fail(words: str) -> None:
    """End the row with a reason."""
    raise SystemExit(f"row: {words}")


def events(call: Any, repeats: int, cuda: bool) -> float:
    """Median duration in ms."""
    import torch

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
    import numpy as np

    true = np.tile(exact, (tiles, 1)) if len(exact) != len(found) else exact
    error = float(np.linalg.norm(found - true) / np.linalg.norm(true))
    if not error <= LIMIT:
        fail(f"{what} deviate from the plain model in float64 by {error:.1e} (limit {LIMIT:g}): not timed")
    return error


def begun(system: Any, derived: Any, skin: float, npt: bool) -> Any:
    """A state at 300 K, without the lists of the host."""
    import torch
    from ase.data import atomic_masses

    from heliodor.dynamics.captured.memory import no_lists
    from heliodor.dynamics.state import MDState, degrees_of_freedom
    from heliodor.units import BOLTZMANN, KINETIC

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


def one(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Check and time one row."""
    import numpy as np
    import torch

    from gpu_models import ROWS, kernel_of, structure
    from heliodor.bench.speed.floor import around, count, floor
    from heliodor.bench.speed.rates import Rates
    from heliodor.dynamics.captured.lists import DeviceLists
    from heliodor.dynamics.captured.motion import Motion
    from heliodor.dynamics.captured.run import CapturedRun
    from heliodor.dynamics.settings import Settings
    from heliodor.dynamics.targets import read_barostat, read_temperature
    from heliodor.potential import evaluate_system
    from heliodor.system import System

    row = next(row for row in ROWS if row.name == name)
    cuda = not options.quick
    if cuda and not torch.cuda.is_available():
        fail("torch sees no GPU; --quick runs toy sizes on a CPU")
    device = torch.device("cuda" if cuda else "cpu")
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
    lists = DeviceLists(system, cutoffs, options.skin, changing=npt)
    filled(lists, system)
    short, long = lists.matrices[0], (lists.matrices[1] if len(lists.matrices) > 1 else None)
    derived = kernel.evaluate(system, short, long, gradient=True, strain=npt)
    again = kernel.evaluate(system, short, long, gradient=True, strain=npt)
    if not torch.equal(derived.gradient, again.gradient):
        fail("two runs on the same positions give different bits: not timed")
    result: dict[str, Any] = {"name": name, "atoms": system.n_atoms, "ensemble": row.ensemble}
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

    started = time.perf_counter()
    state = go(state, 1 if options.quick else WARMUP)
    result["warmup_s"] = time.perf_counter() - started
    # as many as fit into the time, by what a first block takes
    started = time.perf_counter()
    if not options.quick:
        state = go(state, 32)
    each = (time.perf_counter() - started) / 32
    steps = 1 if options.quick else max(32, int(options.seconds / BLOCKS / each))
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
    if parts is not None:
        low = floor(parts, Rates(options.operations, options.bandwidth))
        result |= {"floor_us": low.microseconds, "operations": low.operations, "bytes": low.bytes}
    result |= {"edges": near.edges, "pairs": near.pairs, "goal_us": row.us, "goal_ms": row.ms}
    assert np.isfinite(result["ms_per_step"])
    return result


def evaluation(kernel: Any, system: Any, short: Any, long: Any, npt: bool, cuda: bool) -> Any:
    """One evaluation of the model, as a graph where there is a GPU."""
    import torch

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


def line(row: dict[str, Any]) -> str:
    """A result in one line."""
    if "why" in row:
        return f"{row['name']:16s} {row['why']}"
    goal, got, unit = (row["goal_us"], row["us_per_atom"], "µs/atom/step")
    if row["goal_ms"] is not None:
        goal, got, unit = row["goal_ms"], row["ms_per_step"], "ms/step"
    if row.get("ratio") is not None:
        verdict = f"{row['ratio']:.3f} of {row['ratio_to']}, goal {row['ratio_goal']:g}"
    else:
        verdict = f"goal {goal:g} {unit}: {'reached' if got <= goal else 'missed'}, {goal / got:.2f}x" if goal else ""
    low = row.get("floor_us")
    share = f"floor {low:.3g} µs ({100 * low / row['us_per_atom']:.0f} %)" if low else ""
    day = f"{row['ns_per_day']:.1f} ns/day" if row["ns_per_day"] else "random weights"
    memory = f"{row['memory_GB']:.1f} GB" if row["memory_GB"] else ""
    return (
        f"{row['name']:16s} {row['atoms']:7d} atoms {row['ms_per_step']:9.3f} ms {row['us_per_atom']:8.4f} µs/atom  "
        f"model {row['ms_model']:.3f}, list {row['ms_list']:.3f} ms, {row['steps_per_launch']:.0f} steps a launch  "
        f"{day}  {memory}  {share}  {verdict}  force error {row['force_error']:.0e}, {row['precision']}"
    )


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Times for each atom and step: measured, goal, floor."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    good = [row for row in rows if "us_per_atom" in row]
    if not good:
        return
    figure, axes = pyplot.subplots(figsize=(1.5 + 0.8 * len(good), 4.5), layout="constrained")
    places = range(len(good))
    bars = axes.bar(places, [row["us_per_atom"] for row in good], 0.6, label="measured")
    axes.bar_label(bars, fmt="%.3g", fontsize=7)
    for key, label, color in (("goal", "goal", "C3"), ("floor_us", "floor", "k")):
        values = []
        for row in good:
            in_ms = row["goal_ms"] and 1e3 * row["goal_ms"] / row["atoms"]
            values.append((row["goal_us"] or in_ms or float("nan")) if key == "goal" else row.get(key, float("nan")))
        axes.plot(places, values, ls="none", marker="_", ms=24, mew=2, color=color, label=label)
    axes.set_yscale("log")
    axes.set_xticks(places, [row["name"] for row in good], rotation=45, ha="right", fontsize=8)
    axes.set_ylabel("µs per atom and step")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def launch(name: str, options: argparse.Namespace, patience: float) -> dict[str, Any]:
    """One row in a process of its own."""
    command = [sys.executable, str(HERE), "--row", name, "--skin", str(options.skin), "--seconds", str(options.seconds)]
    command += ["--operations", str(options.operations), "--bandwidth", str(options.bandwidth)]
    command += ["--quick"] if options.quick else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        return {"name": name, "why": f"took longer than {patience:.0f} s and was ended"}
    for text in reversed(done.stdout.splitlines()):
        if text.startswith('{"name"'):
            return json.loads(text)
    told = [text for text in done.stderr.splitlines() if text.strip()] or [f"exit status {done.returncode}"]
    if not told[-1].startswith("row: "):
        # of what nobody foresaw the whole story, before the table
        print("\n".join(told[-25:]), flush=True)
    return {"name": name, "why": "failed: " + told[-1].removeprefix("row: ")}


def run(options: argparse.Namespace) -> int:
    """All rows; 1 where one failed."""
    import torch

    from gpu_models import ROWS
    from heliodor.bench.speed.rates import measure_rates

    begun_at = time.monotonic()
    known = [row.name for row in ROWS]
    wanted = options.only.split(",") if options.only else known
    unknown = set(wanted) - set(known)
    if unknown:
        print(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    if not options.quick and not torch.cuda.is_available():
        print("torch sees no GPU; --quick runs toy sizes on a CPU", file=sys.stderr)
        return 2
    device = torch.device("cpu" if options.quick else "cuda")
    what = "CPU, Triton's interpreter, toy sizes" if options.quick else torch.cuda.get_device_name(device)
    rates = measure_rates(device, seconds=0.3)
    options.operations, options.bandwidth = rates.operations, rates.bandwidth
    print(
        f"{what}, torch {torch.__version__}: {rates.operations / 1e12:.3g} TFLOP/s, {rates.bandwidth / 1e12:.3g} TB/s"
    )
    rows: list[dict[str, Any]] = []
    for row in (row for row in ROWS if row.name in wanted):
        left = 60.0 * options.minutes - (time.monotonic() - begun_at)
        found = launch(row.name, options, min(options.patience, left)) if left > 15.0 else {"name": row.name}
        if len(found) == 1:
            found["why"] = f"left out: the {options.minutes:g} minutes are over"
        base = next((one for one in rows if row.ratio_to and one["name"] == row.ratio_to[0]), None)
        if "why" not in found and row.ratio_to and base and "ms_per_step" in base:
            found |= {"ratio": found["ms_per_step"] / base["ms_per_step"]}
            found |= {"ratio_to": row.ratio_to[0], "ratio_goal": row.ratio_to[1]}
        rows.append(found)
        print(line(found), flush=True)
        report = {"device": what, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d %H:%M"), "rows": rows}
        report |= {"operations_per_s": rates.operations, "bytes_per_s": rates.bandwidth, "quick": options.quick}
        # after each row: what is done is there when the rest is killed
        Path(f"{options.output}.json").write_text(json.dumps(report, indent=1) + "\n")
    print("mace-torch with cuEquivariance: not run by this script")
    try:
        plot(rows, Path(f"{options.output}.png"))
    except ImportError as missing:
        print(f"no picture: {missing}")
    print(f"written: {options.output}.json, {options.output}.png; {time.monotonic() - begun_at:.0f} s")
    return int(any("why" in row for row in rows))


def main() -> int:
    """Be the run, or one of its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--quick", action="store_true", help="toy sizes on a CPU, through Triton's interpreter")
    add("--only", help="rows by name, separated by commas")
    add("--seconds", type=float, default=6.0, help="timed steps of each row take about so long (default: 6)")
    add("--skin", type=float, default=1.0, help="Å (default: 1)")
    add("--minutes", type=float, default=9.0, help="no row begins after this (default: 9)")
    add("--patience", type=float, default=180.0, help="seconds after which a row is ended (default: 180)")
    add("--output", default="gpu_speed", metavar="PREFIX", help="write PREFIX.json and PREFIX.png")
    add("--row", help=argparse.SUPPRESS)
    add("--operations", type=float, default=1e12, help=argparse.SUPPRESS)
    add("--bandwidth", type=float, default=1e12, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.row:
        return run(options)
    try:
        print(json.dumps(one(options.row, options)))
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
