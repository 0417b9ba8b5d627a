"""Energy and forces of SO3LR on CPU in float32: heliodor, So3krates-torch and the JAX reference, in one run.

    python benchmarks/so3lr_cpu.py --peer-python so3krates-torch=/path/to/python jax=/path/to/python

The peers' requirements conflict, so every implementation runs in a process of its own, in the interpreter
named for it (this one unless told), on the same cores, one after the other. A peer that cannot be imported
is reported as "not installed". All forces are first compared with heliodor in float64, then all are timed.
"heliodor" is plain PyTorch, "heliodor numba" its compiled kernel (pip install 'heliodor[fast]').

Systems: paracetamol (all pairs), 64 waters (12.4 Å box, 12 Å cutoff, every periodic image inside it) and
512 waters (24.8 Å box, 12 Å cutoff); for memory also 4,096 waters under heliodor's kernel. Every call sees new
positions: each atom 0.01 Å from its place in a random direction, so nothing can be kept between calls but a
neighbour list with a skin, as in dynamics.

Memory is the most that a fresh process holds beyond what it held after its imports, after two calls; model and
lists included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from so3lr_implementations import (
    CASES,
    IMPLEMENTATIONS,
    KERNEL,
    LARGE,
    NOT_INSTALLED,
    OWN,
    PLAIN,
    RATTLE,
    REBUILT,
    REFERENCE,
    REUSED,
    STEP,
    work,
)

TOLERANCE = 1e-3  # eV/Å, largest force deviation from float64 that still counts as the same model
BUSY = 0.5  # load average at the start from which the output warns
LEGEND = f"""
"{STEP}": the force call of heliodor's dynamics, which looks whether the list is still good.
"{REUSED}": the list has a skin and survives the {RATTLE} Å rattle, so it is built once for all
calls; in dynamics it is rebuilt every so many steps, and the cost lies between this row and the next.
"{REBUILT}": a new neighbour list in every call.
"{KERNEL}": the jitted model alone, no list is built and no ASE runs: a lower bound for that peer.
Ratios are medians over the medians of the three rows of "{{own}}": above 1, that is faster."""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name and how many cores are used."""
    name, details = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if details.exists():
        models = [line.split(":", 1)[1].strip() for line in details.open() if line.startswith("model name")]
        name = (models or [name])[0]
    return f"{cores()} cores of {name}"


def worker_environment(threads: int) -> dict[str, str]:
    """Environment of the workers; on Linux this process and its children also keep to that many cores."""
    if hasattr(os, "sched_setaffinity"):  # the only limit that XLA respects
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads))}


def launch(
    name: str, phase: str, options: argparse.Namespace, environment: dict[str, str], cases: list[str] | None = None
) -> dict:
    """Run one worker: its versions and rows, or under "absent" or "failed" why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [options.python.get(name, sys.executable), str(Path(__file__).resolve()), "--worker", name]
        command += ["--phase", phase, "--structures", str(options.structures), "--json", str(result)]
        command += ["--warmup", str(options.warmup), "--repeats", str(options.repeats)]
        command += ["--min-seconds", str(options.min_seconds), "--cases", *(cases or options.cases)]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        except OSError as problem:
            return {"absent": f"not installed ({problem})"}
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if done.returncode == NOT_INSTALLED:
            return {"absent": f"not installed ({reason})"}
        if done.returncode:
            return {"failed": f"failed with exit status {done.returncode}: {reason}"}
        return json.loads(result.read_text())


def deviations(rows: list[dict]) -> list[dict]:
    """Largest force deviation of every row from heliodor in float64; only peers may refuse a system."""
    truth = {row["system"]: row.get("forces") for row in rows if row["mode"] == REFERENCE}
    checks = []
    for row in (row for row in rows if row["mode"] != REFERENCE):
        entry = {key: row[key] for key in ("implementation", "mode", "system")}
        if "error" in row:
            entry |= {"error": row["error"], "ok": not row["implementation"].startswith("heliodor")}
        elif truth.get(row["system"]) is None:
            entry |= {"error": "no float64 reference to compare with", "ok": False}
        else:
            atoms = zip(row["forces"], truth[row["system"]], strict=True)
            worst = max(abs(one - true) for pair in atoms for one, true in zip(*pair, strict=True))
            entry |= {"deviation": worst, "ok": worst <= TOLERANCE}
        checks.append(entry)
    return checks


def title(row: dict) -> str:
    """System, implementation and mode in columns."""
    return f"{row['system']:12s} {row['implementation']:16s} {row['mode']:19s}"


def print_checks(checks: list[dict]) -> None:
    """One line a check."""
    print(f"\nLargest force deviation from heliodor float64 (limit {TOLERANCE} eV/Å)")
    for entry in checks:
        found = f"{entry['deviation']:.1e}" if "deviation" in entry else f"refused: {entry['error']}"
        print(title(entry), found, "" if entry["ok"] else "  FAILED")


def add_ratios(rows: list[dict]) -> str:
    """Give every timed row its time per atom and its ratios to the two modes of heliodor's kernel, or of plain heliodor
    where that is missing; which of them."""
    base = OWN if any(row["implementation"] == OWN for row in rows) else PLAIN
    own = {(row["system"], row["mode"]): row for row in rows if row["implementation"] == base}
    for row in (row for row in rows if "median_ms" in row):
        row["us_per_atom"] = 1e3 * row["median_ms"] / row["atoms"]
        for mode, key in ((STEP, "ratio_to_step"), (REUSED, "ratio_to_reused"), (REBUILT, "ratio_to_rebuilt")):
            row[key] = row["median_ms"] / own[row["system"], mode]["median_ms"]
    return base


def print_table(rows: list[dict], base: str) -> None:
    """One line a row, by system."""
    print(f"\n{'':49s}   ms/step       min  µs/atom   x heliodor: step   reused  rebuilt first call")
    for row in rows:
        if "error" in row:
            print(title(row), f"refused: {row['error']}")
            continue
        print(
            f"{title(row)} {row['median_ms']:9.2f} {row['min_ms']:9.2f} {row['us_per_atom']:8.1f}"
            f" {row['ratio_to_step']:18.2f} {row['ratio_to_reused']:8.2f} {row['ratio_to_rebuilt']:8.2f}"
            f" {row['first_call_s']:9.1f} s"
        )
    print(LEGEND.format(own=base))


def memory_rows(found: dict[str, dict], options: argparse.Namespace, environment: dict[str, str]) -> list[dict]:
    """Peak memory of each implementation and system, each in a process of its own, printed as they come."""
    rows = []
    print(f"{'Memory beyond imports':49s}        MB   KB/atom")
    for name in (name for name, one in found.items() if "rows" in one):
        large = [LARGE.name] if name == OWN and not options.no_large else []
        for case in [*options.cases, *large]:
            one = launch(name, "memory", options, environment, [case])
            for row in one.get(
                "rows", [{"system": case, "implementation": name, "mode": "", "error": one.get("failed")}]
            ):
                rows.append(row)
                if "error" in row:
                    print(title(row), f"refused: {row['error']}")
                    continue
                row["KB_per_atom"] = 1e3 * row["beyond_MB"] / row["atoms"]
                print(f"{title(row)} {row['beyond_MB']:9.0f} {row['KB_per_atom']:9.1f}", flush=True)
    return rows


def plot(rows: list[dict], path: Path) -> None:
    """Bars of the time per atom, one group a system."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in rows if "us_per_atom" in row]
    kinds = list(dict.fromkeys((row["implementation"], row["mode"]) for row in rows))
    systems = list(dict.fromkeys(row["system"] for row in rows))
    figure, axes = pyplot.subplots(figsize=(11, 4), layout="constrained")
    for number, kind in enumerate(kinds):
        mine = [row for row in rows if (row["implementation"], row["mode"]) == kind]
        left = 0.8 * ((number + 0.5) / len(kinds) - 0.5)
        places = [systems.index(row["system"]) + left for row in mine]
        heights = [row["us_per_atom"] for row in mine]
        bars = axes.bar(places, heights, 0.75 / len(kinds), label=", ".join(kind))
        axes.bar_label(bars, fmt="%.0f", fontsize=7)
    axes.set_xticks(range(len(systems)), systems)
    axes.set_ylabel("energy + forces, µs per atom (median)")
    axes.set_title(f"SO3LR in float32, {processor()}", fontsize=9)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=150)


def write(
    options: argparse.Namespace, found: dict[str, dict], checks: list[dict], rows: list[dict], memory: list[dict]
) -> None:
    """PREFIX.json with everything measured, and a picture with the bars."""
    report = {
        "machine": processor(),
        "threads": options.threads,
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "rattle_angstrom": RATTLE,
        "implementations": {name: {k: v for k, v in one.items() if k != "rows"} for name, one in found.items()},
        "checks": checks,
        "timings": rows,
        "memory": memory,
        "load_at_end": os.getloadavg()[0],
    }
    Path(f"{options.output}.json").write_text(json.dumps(report, indent=1) + "\n")
    picture = options.figure or Path(f"{options.output}.png")
    plot(rows, picture)
    print(f"\nWritten: {options.output}.json, {picture}")


def run(options: argparse.Namespace) -> int:
    """Check, then time, print and write; 1 where a check or a worker failed."""
    environment = worker_environment(options.threads)
    load = os.getloadavg()[0]
    print(f"SO3LR energy + forces in float32, {processor()}, load average {load:.1f}")
    print(
        "Something else runs here, and that can slow PyTorch a hundredfold: its threads wait busily.\n"
        if load > BUSY
        else ""
    )
    found = {}
    for name in IMPLEMENTATIONS:
        found[name] = one = launch(name, "check", options, environment)
        print(f"{name}: {one.get('absent') or one.get('failed') or one['versions']}")
        if name == PLAIN and "rows" not in one:
            return 1
    checks = deviations([row for one in found.values() for row in one.get("rows", [])])
    print_checks(checks)
    if not all(entry["ok"] for entry in checks):
        return 1
    timed = {name: launch(name, "time", options, environment) for name, one in found.items() if "rows" in one}
    for name, one in timed.items():
        if "failed" in one:
            print(f"{name}: {one['failed']}")
            found[name] = one
    rows = [row for one in timed.values() for row in one.get("rows", [])]
    rows.sort(key=lambda row: [case.name for case in CASES].index(row["system"]))
    print_table(rows, add_ratios(rows))
    memory = [] if options.no_memory else memory_rows(timed, options, environment)
    write(options, found, checks, rows, memory)
    return int(any("failed" in one for one in found.values()))


def read_options() -> argparse.Namespace:
    """The command line."""
    names, examples = [case.name for case in CASES], Path(__file__).resolve().parent.parent / "examples"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--peer-python", nargs="*", default=[], metavar="NAME=PYTHON", help="the peers' interpreters")
    add("--threads", type=int, default=cores(), help="cores to use (default: all)")
    add("--cases", nargs="*", choices=[*names, LARGE.name], default=names, help="systems to run (default: all)")
    add("--warmup", type=int, default=3, help="untimed calls after the first (default: 3)")
    add("--repeats", type=int, default=15, help="timed calls, at least (default: 15)")
    add("--min-seconds", type=float, default=2.0, help="time each for at least so long (default: 2)")
    add("--output", default="so3lr_cpu", help="write PREFIX.json and PREFIX.png", metavar="PREFIX")
    add("--figure", type=Path, help="the picture, instead of PREFIX.png", metavar="FILE")
    add("--no-memory", action="store_true", help="leave out the memory")
    add("--no-large", action="store_true", help="leave out the memory of 4,096 waters")
    add("--structures", type=Path, default=examples, help="folder of the structure files")
    add("--worker", choices=IMPLEMENTATIONS, help="be one of the processes (the script calls itself so)")
    add("--phase", choices=("check", "time", "memory"), default="time", help="what a worker does")
    add("--json", type=Path, help="where a worker writes its results")
    options = parser.parse_args()
    wrong = [item for item in options.peer_python if item.partition("=")[0] not in IMPLEMENTATIONS]
    if wrong:
        parser.error(f"--peer-python takes {', '.join(IMPLEMENTATIONS)} as NAME=PYTHON, not {', '.join(wrong)}")
    if options.worker and not options.json:
        parser.error("--worker needs --json")
    options.python = dict(item.split("=", 1) for item in options.peer_python)
    return options


def main() -> int:
    """Be the run, or one of its workers."""
    options = read_options()
    if not options.worker:
        return run(options)
    timing = {"warmup": options.warmup, "repeats": options.repeats, "seconds": options.min_seconds}
    return work(options.worker, options.phase, options.cases, options.structures, options.json, timing)


if __name__ == "__main__":
    sys.exit(main())
