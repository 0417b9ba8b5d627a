"""Energy and forces of SO3LR on CPU in float32: heliodor, So3krates-torch and the JAX reference, in one run.

    python benchmarks/so3lr_cpu.py --peer-python so3krates-torch=/path/to/python jax=/path/to/python

The peers' requirements conflict, so every implementation runs in a process of its own, in the interpreter
named for it (by default this one), on the same cores, one after the other. A peer that cannot be imported
is reported as "not installed". Forces are compared with heliodor in float64 first; only then is anything timed.

Systems: paracetamol (all pairs), 64 waters (12.4 Å box, 12 Å cutoff, every periodic image inside it) and
512 waters (24.8 Å box, 12 Å cutoff). Every call sees new positions: each atom 0.01 Å from its place in a
random direction, so nothing can be cached except a neighbour list with a skin, as in molecular dynamics.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.neighborlist import neighbor_list

RATTLE = 0.01  # Å, length of every atom's displacement
TOLERANCE = 1e-3  # eV/Å, largest force deviation from float64 that still counts as the same model
REUSED, REBUILT, KERNEL = "ASE, list reused", "ASE, list rebuilt", "kernel, list given"
REFERENCE = "float64 reference"
LEGEND = f"""\
{REUSED}: the list has a skin and survives the {RATTLE} Å rattle; in dynamics it is rebuilt every so many steps.
{REBUILT}: a new neighbour list in every call.
{KERNEL}: no list is ever built and no ASE runs; a lower bound that only this peer is granted.
"""
NOT_INSTALLED = 3  # exit status of a worker whose package is missing

Step = Callable[[np.ndarray], np.ndarray]  # positions -> forces; the energy is always computed with them


@dataclass(frozen=True)
class Case:
    """One benchmark system: a structure file, repeated along the three axes, and its long-range cutoff."""

    name: str
    file: str
    repeat: int
    cutoff: float

    def atoms(self, folder: Path) -> ase.Atoms:
        """The unperturbed structure."""
        return ase.io.read(folder / self.file).repeat(self.repeat)


CASES = (
    Case("paracetamol", "paracetamol.xyz", 1, 1000.0),
    Case("64 waters", "water_64.xyz", 1, 12.0),
    Case("512 waters", "water_64.xyz", 2, 12.0),
)


def rattled(positions: np.ndarray, seed: int) -> np.ndarray:
    """Positions with every atom moved by exactly RATTLE in a random direction."""
    direction = np.random.default_rng(seed).normal(size=positions.shape)
    return positions + RATTLE * direction / np.linalg.norm(direction, axis=1, keepdims=True)


# --- the implementations: each gives, by mode, a function making a Step for some atoms and a cutoff ----------


def ase_step(atoms: ase.Atoms, calculator) -> Step:
    """Forces through an ASE calculator."""
    atoms.calc = calculator

    def step(positions: np.ndarray) -> np.ndarray:
        atoms.positions = positions
        return atoms.get_forces()

    return step


def heliodor_modes() -> dict[str, Callable]:
    """heliodor's ASE calculator with its usual skin and with none, and the float64 reference."""
    import heliodor

    def calculator(atoms, cutoff, **options):
        options = dict(device="cpu", dtype="float32", long_range_cutoff=cutoff, **options)
        return ase_step(atoms, heliodor.Calculator("so3lr", **options))

    def reference(atoms, cutoff):
        potential = heliodor.load("so3lr", device="cpu", dtype="float64", long_range_cutoff=cutoff)

        def step(positions):
            atoms.positions = positions
            return np.asarray(heliodor.evaluate(potential, atoms).forces)

        return step

    return {
        REUSED: calculator,
        REBUILT: lambda atoms, cutoff: calculator(atoms, cutoff, skin=0.0),
        REFERENCE: reference,
    }


def so3krates_torch_modes() -> dict[str, Callable]:
    """The PyTorch port's ASE calculator; it builds its lists anew in every call."""
    from so3krates_torch.calculator.so3 import SO3LRCalculator

    def calculator(atoms, cutoff):
        return ase_step(atoms, SO3LRCalculator(r_max_lr=cutoff, default_dtype="float32", device="cpu"))

    return {REBUILT: calculator}


def jax_modes() -> dict[str, Callable]:
    """The reference's ASE calculator (lists anew in every call, minimum image only) and its bare jitted model."""
    import jax
    import jax.numpy as jnp
    import so3lr
    from mlff.md.calculator_sparse import mlffCalculatorSparse

    def calculator(atoms, cutoff):
        weights = Path(so3lr.__file__).parent / "params"
        peer = mlffCalculatorSparse.create_from_ckpt_dir(
            weights, lr_cutoff=cutoff, dtype=np.float32, from_file=True
        )
        return ase_step(atoms, peer)

    def kernel(atoms, cutoff):
        potential, nothing = so3lr.So3lrPotential(lr_cutoff=cutoff), jnp.zeros(1)
        numbers = jnp.asarray(atoms.numbers)

        def energy(positions, short, far):
            (i, j, shift), (k, m, shift_far) = short, far
            graph = so3lr.Graph(
                positions=None, cell=None, mask=None, nodes=numbers, total_charge=nothing,
                num_unpaired_electrons=nothing, centers=i, others=j, edges=positions[j] - positions[i] + shift,
                idx_i_lr=k, idx_j_lr=m, edges_lr=positions[m] - positions[k] + shift_far,
            )  # fmt: skip
            return potential(graph).sum()

        gradient = jax.jit(jax.value_and_grad(energy))
        lists = [
            tuple(map(jnp.asarray, pairs(atoms, radius, half)))
            for radius, half in ((potential.cutoff, False), (cutoff, True))
        ]
        return lambda positions: -np.asarray(gradient(jnp.asarray(positions, jnp.float32), *lists)[1])

    return {REBUILT: calculator, KERNEL: kernel}


def pairs(atoms: ase.Atoms, cutoff: float, half: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs i, j and shift vectors that cover every rattled geometry; half: each pair only once."""
    i, j, shift = neighbor_list("ijS", atoms, cutoff + 2.01 * RATTLE)
    if half:
        keep = (i < j) | ((i == j) & (shift @ [10**6, 10**3, 1] > 0))
        i, j, shift = i[keep], j[keep], shift[keep]
    return i, j, (shift @ atoms.cell.array).astype(np.float32)


IMPLEMENTATIONS = {
    "heliodor": (heliodor_modes, ("heliodor", "torch")),
    "so3krates-torch": (so3krates_torch_modes, ("So3krates-torch", "torch")),
    "jax": (jax_modes, ("so3lr", "jax", "flax")),
}

# --- worker: one implementation in its own process -----------------------------------------------------------


def version(package: str) -> str:
    """The version of an installed package, "unknown" where it does not say."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return getattr(sys.modules.get(package), "__version__", "unknown")


def forces_for_check(step: Step, positions: np.ndarray) -> dict:
    """Forces at the second of two rattled geometries, so that a list reused wrongly shows."""
    step(rattled(positions, 1))
    return {"forces": np.asarray(step(rattled(positions, 2)), dtype=float).tolist()}


def timings(step: Step, positions: np.ndarray, arguments: argparse.Namespace) -> dict:
    """Times of the first call and of the calls after the warm-up."""
    times = []
    while len(times) <= arguments.warmup + arguments.repeats or sum(times[1:]) < arguments.min_seconds:
        geometry = rattled(positions, len(times))
        start = time.perf_counter()
        step(geometry)
        times.append(time.perf_counter() - start)
    measured = times[1 + arguments.warmup :]
    return {
        "median_ms": 1e3 * statistics.median(measured),
        "min_ms": 1e3 * min(measured),
        "repeats": len(measured),
        "first_call_s": times[0],
    }


def work(arguments: argparse.Namespace) -> int:
    """Check or time every mode of one implementation on every system; write the results as JSON."""
    modes_of, packages = IMPLEMENTATIONS[arguments.worker]
    try:
        modes = modes_of()
    except ImportError as problem:
        print(problem, file=sys.stderr)
        return NOT_INSTALLED
    rows = []
    for case in selected(arguments):
        for mode, make in modes.items():
            if mode == REFERENCE and arguments.phase == "time":
                continue
            atoms = case.atoms(arguments.structures)
            row = {"implementation": arguments.worker, "mode": mode, "system": case.name, "atoms": len(atoms)}
            positions = atoms.positions.copy()
            try:
                step = make(atoms, case.cutoff)
                check = arguments.phase == "check"
                row |= forces_for_check(step, positions) if check else timings(step, positions, arguments)
            except Exception as problem:  # a peer may refuse a system: say so, go on
                row["error"] = f"{type(problem).__name__} {str(problem)[:200]}".strip()
            rows.append(row)
    versions = {package: version(package) for package in packages} | {"python": platform.python_version()}
    Path(arguments.json).write_text(json.dumps({"versions": versions, "rows": rows}))
    return 0


# --- the run: workers one after the other, then the table ----------------------------------------------------


def limited_environment(threads: int) -> dict[str, str]:
    """Environment of a worker; where the system can, this process and its children also keep to few cores."""
    if hasattr(os, "sched_setaffinity"):  # the only limit that XLA respects
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    return os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}


def launch(name: str, phase: str, arguments: argparse.Namespace, environment: dict) -> dict:
    """Run one worker; give its results, or the reason why there are none under "absent" or "failed"."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "out.json"
        command = [arguments.python.get(name, sys.executable), str(Path(__file__).resolve()), "--worker", name]
        command += ["--phase", phase, "--structures", str(arguments.structures), "--json", str(result)]
        command += ["--warmup", str(arguments.warmup), "--repeats", str(arguments.repeats)]
        command += ["--min-seconds", str(arguments.min_seconds), "--cases", *arguments.cases]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        except OSError as problem:
            return {"absent": f"not installed ({problem})"}
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if done.returncode == NOT_INSTALLED:
            return {"absent": f"not installed ({reason})"}
        if done.returncode:
            return {"failed": f"exit status {done.returncode}: {reason}"}
        return json.loads(result.read_text())


def check(found: dict[str, dict]) -> list[dict]:
    """Largest force deviation of every row from heliodor in float64, printed."""
    rows = [row for result in found.values() for row in result.get("rows", [])]
    truth = {row["system"]: row.get("forces") for row in rows if row["mode"] == REFERENCE}
    checks = []
    print(f"Largest force deviation from heliodor float64, at most {TOLERANCE} eV/Å:")
    for row in rows:
        if row["mode"] == REFERENCE and "error" not in row:
            continue
        entry = {key: row[key] for key in ("implementation", "mode", "system")}
        if "error" in row:  # only a peer may refuse a system
            entry |= {"error": row["error"], "ok": row["implementation"] != "heliodor"}
        elif truth[row["system"]] is None:
            entry |= {"error": "no float64 reference", "ok": False}
        else:
            worst = float(np.abs(np.array(row["forces"]) - truth[row["system"]]).max())
            entry |= {"deviation": worst, "ok": worst <= TOLERANCE}
        verdict = f"{entry['deviation']:.1e}" if "deviation" in entry else f"refused: {entry['error']}"
        print("  " + describe(entry), verdict, "" if entry["ok"] else "  FAILED")
        checks.append(entry)
    return checks


def describe(row: dict) -> str:
    """System, implementation and mode in columns."""
    return f"{row['system']:12s} {row['implementation']:16s} {row['mode']:19s}"


def tabulate(rows: list[dict]) -> None:
    """Add time per atom and ratios to heliodor's two modes, and print everything."""
    base = {(row["system"], row["mode"]): row.get("median_ms") for row in rows if row["implementation"] == "heliodor"}
    print(f"\n{'':49s} {'ms/step':>9s} {'min':>9s} {'µs/atom':>8s}  x heliodor: reused  rebuilt   first call")
    for row in sorted(rows, key=lambda row: [case.name for case in CASES].index(row["system"])):
        if "error" in row:
            print(describe(row), f"{'refused: ' + row['error']}")
            continue
        row["us_per_atom"] = 1e3 * row["median_ms"] / row["atoms"]
        row["ratio_to_reused"], row["ratio_to_rebuilt"] = (
            row["median_ms"] / base[row["system"], mode] for mode in (REUSED, REBUILT)
        )
        print(
            f"{describe(row)} {row['median_ms']:9.2f} {row['min_ms']:9.2f} {row['us_per_atom']:8.1f}"
            f" {row['ratio_to_reused']:19.2f} {row['ratio_to_rebuilt']:8.2f} {row['first_call_s']:10.1f} s"
        )
    print("\n" + LEGEND)


def plot(rows: list[dict], path: Path) -> None:
    """Bars of the time per atom, one group a system."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = list(dict.fromkeys((row["implementation"], row["mode"]) for row in rows))
    systems = list(dict.fromkeys(row["system"] for row in rows))
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for number, kind in enumerate(kinds):
        mine = [row for row in rows if (row["implementation"], row["mode"]) == kind and "us_per_atom" in row]
        places = [systems.index(row["system"]) + 0.8 * ((number + 0.5) / len(kinds) - 0.5) for row in mine]
        bars = axes.bar(places, [row["us_per_atom"] for row in mine], 0.75 / len(kinds), label=", ".join(kind))
        axes.bar_label(bars, fmt="%.0f", fontsize=7)
    axes.set_xticks(range(len(systems)), systems)
    axes.set_ylabel("energy + forces, µs per atom (median)")
    axes.set_title(f"SO3LR, float32, {processor()}", fontsize=9)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)


def processor() -> str:
    """The processor's name and how many of its cores were used."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else '?'} cores of {name}"


def selected(arguments: argparse.Namespace) -> list[Case]:
    """The systems asked for."""
    return [case for case in CASES if case.name in arguments.cases]


def run(arguments: argparse.Namespace) -> int:
    """Check, time, print, write; 1 where a check or a worker failed."""
    environment = limited_environment(arguments.threads)
    print(f"SO3LR energy + forces, float32, {processor()}, load average {os.getloadavg()[0]:.1f}\n")
    found = {name: launch(name, "check", arguments, environment) for name in IMPLEMENTATIONS}
    for name, result in found.items():
        print(f"{name}: {result.get('absent') or result.get('failed') or result['versions']}")
    if "rows" not in found["heliodor"]:
        return 1
    checks = check(found)
    failed = any("failed" in result for result in found.values()) or not all(entry["ok"] for entry in checks)
    if not all(entry["ok"] for entry in checks):
        return 1
    timed = {name: launch(name, "time", arguments, environment) for name in found if "rows" in found[name]}
    failed |= any("failed" in result for result in timed.values())
    rows = [row for result in timed.values() for row in result.get("rows", [])]
    tabulate(rows)
    report = {"machine": processor(), "threads": arguments.threads, "date": time.strftime("%Y-%m-%d %H:%M")}
    report["implementations"] = {
        name: {key: result[key] for key in ("versions", "absent", "failed") if key in result}
        for name, result in found.items()
    }
    report |= {"rattle_angstrom": RATTLE, "checks": checks, "timings": rows}
    Path(f"{arguments.output}.json").write_text(json.dumps(report, indent=1) + "\n")
    plot(rows, Path(f"{arguments.output}.png"))
    print(f"Written: {arguments.output}.json, {arguments.output}.png")
    return int(failed)


def main() -> int:
    """Read the options; be the run or one of its workers."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", nargs="*", default=[], metavar="NAME=PYTHON", help="peers' interpreters")
    parser.add_argument("--threads", type=int, default=available, help="cores to use (default: all)")
    parser.add_argument("--cases", nargs="*", choices=names, default=names, help="systems to run (default: all)")
    parser.add_argument("--warmup", type=int, default=3, help="untimed calls after the first")
    parser.add_argument("--repeats", type=int, default=15, help="timed calls, at least")
    parser.add_argument("--min-seconds", type=float, default=2.0, help="go on for at least so long")
    parser.add_argument("--output", default="so3lr_cpu", help="where to write: PREFIX.json and PREFIX.png")
    examples = Path(__file__).resolve().parent.parent / "examples"
    parser.add_argument("--structures", type=Path, default=examples, help="folder of the structure files")
    parser.add_argument("--worker", choices=IMPLEMENTATIONS, help="be this worker (used by the script itself)")
    parser.add_argument("--phase", choices=("check", "time"), default="time", help="what the worker does")
    parser.add_argument("--json", help="where the worker writes")
    arguments = parser.parse_args()
    arguments.python = dict(item.split("=", 1) for item in arguments.peer_python)
    return work(arguments) if arguments.worker else run(arguments)


if __name__ == "__main__":
    sys.exit(main())
