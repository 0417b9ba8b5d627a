"""Steps of dynamics on one GPU against the goals of issue 8: kernels checked first, then captured NVT steps timed.

    python benchmarks/gpu_speed.py --output $OUT/gpu_speed        all rows, under ten minutes on an H200
    python benchmarks/gpu_speed.py --only so3lr-12k,mace-s-12k
    python benchmarks/gpu_speed.py --quick                        toy sizes on a CPU, by Triton's interpreter

It needs torch, triton (3.6) with CUDA, numpy, scipy, jaxtyping, safetensors, ase and vesin, and matplotlib for the
picture; heliodor is taken from beside this script. Of these the machine lent by the tool `run` lacks ase and vesin
only: carry the wheels of ase 3.29.0 and vesin 0.6.2 (3.2 MB). Once, here, in the root of the repository:

    echo /.whl/ >> .git/info/exclude
    python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp
        --platform manylinux2014_x86_64 -d .whl ase==3.29.0 vesin==0.6.2

and then one call, with .whl named in `carry` and timeout_s=600:

    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site .whl/*.whl
        && export PYTHONPATH=/tmp/site && python3 benchmarks/gpu_speed.py --output $OUT/gpu_speed

What the minutes go into: half a minute to two minutes in which the kernels of all rows are compiled, by processes
beside each other (every kind of row takes its first step; a row whose kernel fails there is told and left out); then
the rows one after the other, the most important first, 15 to 30 s each and a minute for the largest (estimated: this
has not run on a GPU yet). Results are printed as they come, and PREFIX.json is written anew after each. No row goes on
after --minutes.

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
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent / "src"))
if "--quick" in sys.argv:
    # before triton is imported
    os.environ["TRITON_INTERPRET"] = "1"

NEEDED = ("torch", "triton", "numpy", "scipy", "jaxtyping", "safetensors", "ase", "vesin", "heliodor")
RESERVE = 15.0
"""s; a row that has less is not begun."""


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


def command(name: str, options: argparse.Namespace, *more: str) -> list[str]:
    """What runs a row."""
    values = [f"--{key}={getattr(options, key)}" for key in ("skin", "seconds", "operations", "bandwidth")]
    return [sys.executable, str(HERE), "--row", name, *values, *(["--quick"] if options.quick else []), *more]


def outcome(name: str, code: int, out: str, err: str) -> dict[str, Any]:
    """What a row's process said; ``why`` where it failed, and the whole story on the screen where nobody foresaw it."""
    for text in reversed(out.splitlines()):
        if text.startswith('{"name"'):
            found: dict[str, Any] = json.loads(text)
            return found
    told = [text for text in err.splitlines() if text.strip()] or [f"exit status {code}"]
    foreseen = next((text for text in reversed(told) if text.startswith("row: ")), None)
    if foreseen is None:
        print("\n".join(told[-25:]), flush=True)
    return {"name": name, "why": "failed: " + (foreseen or told[-1]).removeprefix("row: ")}


def launch(name: str, options: argparse.Namespace, patience: float) -> dict[str, Any]:
    """One row in a process of its own."""
    try:
        done = subprocess.run(command(name, options), capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        return {"name": name, "why": f"took longer than {patience:.0f} s and was ended"}
    return outcome(name, done.returncode, done.stdout, done.stderr)


def prepare(names: list[str], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The first step of rows, beside each other, so that all kernels are compiled and kept on the disk.

    Returns:
        What each said; a row that took too long is not among them: it compiles in its own time.
    """
    found: dict[str, dict[str, Any]] = {}
    waiting, running = list(names), {}
    env = os.environ | {"OMP_NUM_THREADS": "2"}
    end = time.monotonic() + options.compiling
    with tempfile.TemporaryDirectory() as room:
        while waiting or running:
            while waiting and len(running) < options.together:
                name = waiting.pop(0)
                # files: a pipe that nobody empties would stop its process
                out, err = (open(Path(room) / f"{name}.{kind}", "w+") for kind in ("out", "err"))  # noqa: SIM115
                process = subprocess.Popen(command(name, options, "--prepare"), stdout=out, stderr=err, env=env)
                running[name] = process, out, err
            time.sleep(0.2)
            late = time.monotonic() > end
            for name, (process, out, err) in list(running.items()):
                if process.poll() is None and not late:
                    continue
                if process.poll() is None:
                    process.kill()
                    process.wait()
                    print(
                        f"{name:16s} was not compiled in {options.compiling:.0f} s: goes on in its own time", flush=True
                    )
                else:
                    out.seek(0)
                    err.seek(0)
                    found[name] = outcome(name, process.returncode, out.read(), err.read())
                    print(prepared(found[name]), flush=True)
                out.close()
                err.close()
                del running[name]
            if late:
                break
    return found


def prepared(row: dict[str, Any]) -> str:
    """The outcome of a first step in one line."""
    if "why" in row:
        return f"{row['name']:16s} {row['why']}"
    return (
        f"{row['name']:16s} compiled: first evaluation {row['first_evaluation_s']:.0f} s, first step "
        f"{row['first_step_s']:.0f} s; force error {row['force_error']:.0e}"
    )


def run(options: argparse.Namespace) -> int:
    """All rows; 1 where one failed."""
    begun_at = time.monotonic()
    from gpu_models import ROWS

    known = [row.name for row in ROWS]
    wanted = options.only.split(",") if options.only else known
    unknown = set(wanted) - set(known)
    if unknown:
        print(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    Path(options.output).absolute().parent.mkdir(parents=True, exist_ok=True)
    machine = launch("machine", options, 60.0)
    options.operations, options.bandwidth = machine.get("operations_per_s", 0.0), machine.get("bytes_per_s", 0.0)
    if "why" in machine:
        print(f"the device's rates are not known, no floors: {machine['why']}", flush=True)
        if "no GPU" in machine["why"]:
            return 2
    else:
        tera = f"{options.operations / 1e12:.3g} TFLOP/s, {options.bandwidth / 1e12:.3g} TB/s"
        print(f"{machine['device']}, torch {machine['torch']}, triton {machine['triton']}: {tera}", flush=True)
    chosen = [row for row in ROWS if row.name in wanted]
    kinds: dict[Any, str] = {}
    for row in chosen:
        kinds.setdefault(row.compiled, row.name)
    first = prepare(list(kinds.values()), options) if options.together else {}
    rows: list[dict[str, Any]] = []
    # what did not compile in time comes last: the rest is timed for certain
    late = [row for row in chosen if first and kinds[row.compiled] not in first]
    for row in [row for row in chosen if row not in late] + late:
        left = 60.0 * options.minutes - (time.monotonic() - begun_at)
        tried = first.get(kinds[row.compiled], {})
        if "why" in tried:
            found = {"name": row.name, "why": tried["why"]}
        elif left < RESERVE:
            found = {"name": row.name, "why": f"left out: the {options.minutes:g} minutes are over"}
        else:
            found = launch(row.name, options, min(options.patience, left))
        base = next((one for one in rows if row.ratio_to and one["name"] == row.ratio_to[0]), None)
        if "why" not in found and row.ratio_to and base and "ms_per_step" in base:
            found |= {"ratio": found["ms_per_step"] / base["ms_per_step"]}
            found |= {"ratio_to": row.ratio_to[0], "ratio_goal": row.ratio_to[1]}
        rows.append(found)
        print(line(found), flush=True)
        # after each row: what is done is there when the rest is killed
        report = {"date": time.strftime("%Y-%m-%d %H:%M"), "quick": options.quick, "rows": rows, "machine": machine}
        Path(f"{options.output}.json").write_text(
            json.dumps(report | {"compiled": list(first.values())}, indent=1) + "\n"
        )
    print("mace-torch with cuEquivariance: not run by this script")
    try:
        plot(rows, Path(f"{options.output}.png"))
    except Exception as error:
        print(f"no picture: {error}")
    print(f"written: {options.output}.json; {time.monotonic() - begun_at:.0f} s")
    return int(any("why" in row for row in rows))


def main() -> int:
    """Be the run, or one of its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--quick", action="store_true", help="toy sizes on a CPU, through Triton's interpreter")
    add("--only", help="rows by name, separated by commas")
    add("--seconds", type=float, default=6.0, help="timed steps of each row take about so long (default: 6)")
    add("--skin", type=float, default=1.0, help="Å (default: 1)")
    add("--minutes", type=float, default=9.0, help="no row goes on after this (default: 9)")
    add("--patience", type=float, default=180.0, help="seconds after which a row is ended (default: 180)")
    add("--compiling", type=float, default=150.0, help="seconds for the compilation of all kernels (default: 150)")
    add("--together", type=int, help="processes that compile; 0: each row by itself (default: 9, with --quick 0)")
    add("--output", default="gpu_speed", metavar="PREFIX", help="write PREFIX.json and PREFIX.png")
    add("--row", help=argparse.SUPPRESS)
    add("--prepare", action="store_true", help=argparse.SUPPRESS)
    add("--operations", type=float, default=1e12, help=argparse.SUPPRESS)
    add("--bandwidth", type=float, default=1e12, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.together is None:
        options.together = 0 if options.quick else 9
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"row: not installed: {', '.join(missing)}; the head of {HERE} says how to carry them", file=sys.stderr)
        return 2
    if not options.row:
        return run(options)
    try:
        import gpu_row

        made = gpu_row.machine(options) if options.row == "machine" else gpu_row.one(options.row, options)
        print(json.dumps(made))
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
