"""Energy and forces of MACE on CPUs in float32: heliodor, mace-torch and symmetrix, in one run.

    python benchmarks/mace_cpu.py --models S=MACE-OFF23_small.model --mace-python /path/to/python
    ... --symmetrix-python /path/to/python --symmetrix-models S=small-1-6-7-8.json   (from symmetrix_extract_mace)

The peers pin other versions, so every implementation runs in a process of its own, in the interpreter named for it.
Energies and forces of all are first compared with heliodor's plain model in float64 (its kernel in float64 above
--largest-reference atoms, where the plain model needs too much memory). Then they are timed in rounds, one after the
other in each, so that a busy machine is busy for all; best and median over all calls of all rounds.

All positions stay where they are. mace-torch gets its graph and symmetrix its pairs, made once; heliodor's list is
made once too, but with a skin of 0.5 Å as in dynamics, and what lies beyond the cutoff is dropped in every call.
Memory: largest resident size of fresh processes after two calls, less that after imports alone (so with the model,
what is compiled, and everything else that is kept), by the number of atoms.

Where other jobs keep the cores busy, threads wait for each other and wall times say nothing: take one thread and its
CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mace_implementations import EXACT, EXACT_KERNEL, IMPLEMENTATIONS, KERNEL, KOKKOS, REFERENCE, SERIAL, SKIN, SYSTEMS
from so3lr_cpu import processor

ENERGY, FORCE = 1e-4, 1e-4
"""Largest deviations: eV per atom (1e-3 where a peer sums total energies in float32); forces by the largest force."""

ATOMS = {"paracetamol": 20, "64 waters": 192, "512 waters": 1536}
TIMED = (KERNEL, REFERENCE, "mace-torch", KOKKOS, SERIAL)


WARMUP = 3
"""Calls before the first that is timed: TorchScript rewrites its code in these."""


class Worker:
    """One implementation with one model and system, in a process of its own."""

    def __init__(self, name: str, model: str, system: str, options: argparse.Namespace) -> None:
        other = name in (KOKKOS, SERIAL)
        file = (options.symmetrix_models if other else options.models)[model]
        python = options.symmetrix_python if other else options.mace_python if name == "mace-torch" else sys.executable
        script = Path(__file__).resolve().parent / "mace_implementations.py"
        command = [python, str(script), name, str(file), system, str(options.structures), str(options.threads)]
        threads = str(options.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        # what a worker says about itself is wanted only where it dies
        self.errors = (options.output.parent / f"{options.output.name}.log").open("a")
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.hello = self._read()

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to a request, or under "failed" why there is none."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._read()

    def close(self) -> None:
        """End the process."""
        self.process.communicate()
        self.errors.close()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        return {"failed": f"ended with exit status {self.process.wait()}, see {self.errors.name}"}


def parties(model: str, options: argparse.Namespace) -> list[str]:
    """Who can take part with this model."""
    names = [KERNEL, REFERENCE] + (["mace-torch"] if options.mace_python else [])
    return names + ([KOKKOS, SERIAL] if options.symmetrix_python and model in options.symmetrix_models else [])


def check(found: dict[str, Any], truth: dict[str, Any], atoms: int) -> dict[str, Any]:
    """Deviations from float64: energy per atom, and forces by the largest of them."""
    key = "interaction" if found["interaction"] is not None else "total"
    energy = abs(found[key] - truth[key]) / atoms
    components = [x for vector in truth["forces"] for x in vector]
    own = [x for vector in found["forces"] for x in vector]
    force = max(abs(one - true) for one, true in zip(own, components, strict=True))
    largest = max(map(abs, components))
    ok = energy <= (ENERGY if key == "interaction" else 10 * ENERGY) and force <= FORCE * largest
    return {"energy": energy, "energy_of": key, "force": force, "largest_force": largest, "ok": ok}


def exact(model: str, system: str, options: argparse.Namespace) -> dict[str, Any]:
    """Energy and forces in float64."""
    name = EXACT if ATOMS[system] <= options.largest_reference else EXACT_KERNEL
    worker = Worker(name, model, system, options)
    found = worker.ask(do="forces", warmup=0)
    worker.close()
    return found


def compare(model: str, system: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Check all parties, then time those that are right, in rounds."""
    atoms = ATOMS[system]
    truth = exact(model, system, options)
    rows, workers = [], {}
    for name in parties(model, options):
        row: dict[str, Any] = {"model": model, "system": system, "atoms": atoms, "implementation": name}
        rows.append(row)
        if name == REFERENCE and atoms > options.largest_reference:
            row["left_out"] = f"above {options.largest_reference} atoms (--largest-reference)"
            continue
        worker = Worker(name, model, system, options)
        reason = worker.hello.get("absent") or worker.hello.get("failed")
        found = {} if reason else worker.ask(do="forces", warmup=WARMUP)
        reason = reason or found.get("failed")
        if reason:
            row["left_out"] = reason
            worker.close()
            continue
        row |= {"versions": worker.hello["versions"], "first_call_s": found["first_call_s"]}
        row["check"] = check(found, truth, atoms)
        workers[name] = worker
    print_checks(rows)
    times: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in workers}
    loads = []
    for _ in range(options.rounds):
        loads.append(os.getloadavg()[0])
        for name, worker in workers.items():
            for kind, values in worker.ask(do="time", seconds=options.seconds).items():
                times[name][kind] += values
    for row in rows:
        name = row["implementation"]
        if name in workers:
            wall = times[name]["wall"]
            row |= {"best_ms": min(wall), "median_ms": statistics.median(wall), "calls": len(wall)}
            cpu = times[name]["cpu"]
            row |= {"cpu_ms": min(cpu), "cpu_median_ms": statistics.median(cpu), "load": statistics.mean(loads)}
            row["us_per_atom"] = 1e3 * row["median_ms"] / atoms
            workers[name].close()
    for row in rows:
        if "best_ms" in row:
            row |= {
                f"ratio_{kind}": row[f"{kind}_ms"] / rows[0][f"{kind}_ms"]
                for kind in ("best", "median", "cpu", "cpu_median")
            }
    print_times(rows)
    return rows


def memory(model: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Largest memory at each size above paracetamol's, less that of the imports, by atom."""
    rows = []
    for name in (name for name in parties(model, options) if name != REFERENCE):
        seen = {}
        for system in (system for system in options.systems if system != "paracetamol"):
            worker = Worker(name, model, system, options)
            found = worker.ask(do="memory") if "versions" in worker.hello else {}
            worker.close()
            if "peak_MB" in found:
                beyond = found["peak_MB"] - found["baseline_MB"]
                seen[ATOMS[system]] = beyond
                row = {"model": model, "system": system, "implementation": name, **found}
                rows.append(row | {"MB_per_atom": beyond / ATOMS[system]})
        if len(seen) == 2:
            small, large = sorted(seen)
            rows[-1]["MB_per_further_atom"] = (seen[large] - seen[small]) / (large - small)
    for row in rows:
        own = next((one for one in rows if (one["system"], one["implementation"]) == (row["system"], KERNEL)), None)
        row["ratio"] = row["MB_per_atom"] / own["MB_per_atom"] if own else float("nan")
        slope = row.get("MB_per_further_atom")
        further = "" if slope is None else f"; {1e3 * slope:.0f} KB per further atom"
        beyond = row["peak_MB"] - row["baseline_MB"]
        print(
            f"{model:6s} {row['system']:12s} {row['implementation']:20s} {beyond:7.0f} MB beyond imports"
            f" ({row['baseline_MB']:.0f} MB), {1e3 * row['MB_per_atom']:7.0f} KB/atom ({row['ratio']:.1f}x){further}"
        )
    return rows


def print_checks(rows: list[dict[str, Any]]) -> None:
    """One line a party."""
    for row in rows:
        title = f"{row['model']:6s} {row['system']:12s} {row['implementation']:20s}"
        if "left_out" in row:
            print(f"{title} left out: {row['left_out']}")
            continue
        one = row["check"]
        print(
            f"{title} {one['energy']:.1e} eV/atom ({one['energy_of']}), {one['force']:.1e} of "
            f"{one['largest_force']:.2g} eV/Å{'' if one['ok'] else '   DEVIATES'}"
        )


def print_times(rows: list[dict[str, Any]]) -> None:
    """One line a party: ms, µs per atom, ratios to heliodor's kernel."""
    columns = ("best", "median", "CPU best", "median", "µs/atom", "ratios", "", "CPU", "")
    print(f"{'ms':41s}" + "".join(f"{column:>10s}" for column in columns) + "  calls, load; first call")
    for row in (row for row in rows if "best_ms" in row):
        kinds = ("best", "median", "cpu", "cpu_median")
        print(
            f"{row['model']:6s} {row['system']:12s} {row['implementation']:20s} "
            + "".join(f"{row[f'{kind}_ms']:10.2f}" for kind in kinds)
            + f"{row['us_per_atom']:10.0f}"
            + "".join(f"{row[f'ratio_{kind}']:10.2f}" for kind in kinds)
            + f"  {row['calls']}, {row['load']:.1f}; {row['first_call_s']:.1f} s"
        )
    print(flush=True)


def plot(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Bars of the best time per atom, one panel a model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    models = list(options.models)
    figure, panels = pyplot.subplots(1, len(models), figsize=(5 * len(models), 4), layout="constrained", squeeze=False)
    for model, axes in zip(models, panels[0], strict=True):
        mine = [row for row in rows if row["model"] == model and "best_ms" in row]
        names = [name for name in TIMED if any(row["implementation"] == name for row in mine)]
        for number, name in enumerate(names):
            those = [row for row in mine if row["implementation"] == name]
            shift = 0.8 * ((number + 0.5) / len(names) - 0.5)
            places = [options.systems.index(row["system"]) + shift for row in those]
            heights = [1e3 * row["best_ms"] / row["atoms"] for row in those]
            bars = axes.bar(places, heights, 0.75 / len(names), label=name)
            axes.bar_label(bars, fmt="%.0f", fontsize=7)
        axes.set_xticks(range(len(options.systems)), [f"{name}\n{ATOMS[name]} atoms" for name in options.systems])
        axes.set_yscale("log")
        axes.set_ylabel("energy + forces, µs per atom (best)")
        axes.set_title(f"MACE {model}, float32, {options.threads} threads", fontsize=9)
        axes.legend(fontsize=7)
    figure.savefig(f"{options.output}.png", dpi=150)


def read_options() -> argparse.Namespace:
    """The command line."""
    examples = Path(__file__).resolve().parent.parent / "examples"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--models", nargs="+", required=True, metavar="NAME=FILE", help="MACE .model files")
    add("--mace-python", help="an interpreter that has mace-torch")
    add("--symmetrix-python", help="an interpreter that has symmetrix, with Kokkos")
    add("--symmetrix-models", nargs="*", default=[], metavar="NAME=FILE", help="the same models as symmetrix JSON")
    add("--threads", type=int, default=2, help="threads of each implementation (default: 2)")
    add("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), help="systems to run (default: all)")
    add("--rounds", type=int, default=6, help="rounds, each implementation once in each (default: 6)")
    add("--seconds", type=float, default=1.5, help="time in a round for each implementation (default: 1.5)")
    add("--largest-reference", type=int, default=192, help="atoms up to which the plain model runs (default: 192)")
    add("--quick", action="store_true", help="two rounds of 0.3 s, up to 192 atoms, no memory")
    add("--output", type=Path, default=Path("mace_cpu"), help="write PREFIX.json and PREFIX.png", metavar="PREFIX")
    add("--structures", type=Path, default=examples, help="folder of the structure files")
    options = parser.parse_args()
    for name in ("models", "symmetrix_models"):
        if any("=" not in item for item in getattr(options, name)):
            parser.error(f"--{name.replace('_', '-')} takes NAME=FILE")
        setattr(options, name, dict(item.split("=", 1) for item in getattr(options, name)))
    if options.quick:
        options.rounds, options.seconds = 2, 0.3
        options.systems = [system for system in options.systems if ATOMS[system] <= 192]
    return options


def main() -> int:
    """Check, time, measure memory, write; 1 where a deviation is too large."""
    options = read_options()
    assert set(TIMED) <= set(IMPLEMENTATIONS)
    print(
        f"MACE energy + forces in float32, {options.threads} threads on {processor()}, load {os.getloadavg()[0]:.1f}; "
        f"limits {ENERGY} eV/atom ({10 * ENERGY} for totals in float32), {FORCE} of the largest force"
    )
    print(f"heliodor's list: skin {SKIN} Å; peers: lists given. Ratios to {KERNEL}: above 1, it is faster.\n")
    rows = [row for model in options.models for system in options.systems for row in compare(model, system, options)]
    report = {
        "machine": processor(),
        "threads": options.threads,
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "load_at_end": os.getloadavg(),
        "limits": {"eV_per_atom": ENERGY, "of_largest_force": FORCE},
        "timings": rows,
        "memory": [],
    }
    # written twice, so that a failure in measuring memory does not lose the times
    result = Path(f"{options.output}.json")
    result.write_text(json.dumps(report, indent=1) + "\n")
    if not options.quick:
        report["memory"] = [row for model in options.models for row in memory(model, options)]
        result.write_text(json.dumps(report, indent=1) + "\n")
    plot(rows, options)
    print(f"\nWritten: {options.output}.json, {options.output}.png")
    return int(not all(row["check"]["ok"] for row in rows if "check" in row))


if __name__ == "__main__":
    sys.exit(main())
