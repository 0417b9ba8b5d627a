"""What so3lr_cpu.py compares: the implementations of SO3LR, the systems, and the worker that measures one.

Every implementation is a function that gives, by mode, a maker of steps. A step takes positions and returns
forces (the energy is computed with them). Adding a peer is adding such a function to IMPLEMENTATIONS.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.neighborlist import neighbor_list

RATTLE = 0.01  # Å, length of every atom's displacement
REUSED, REBUILT, KERNEL = "ASE, list reused", "ASE, list rebuilt", "kernel, list given"
STEP = "dynamics, list kept"
REFERENCE = "float64 reference"
PLAIN, OWN = "heliodor", "heliodor numba"  # plain PyTorch; the compiled kernel
NOT_INSTALLED = 3  # exit status of a worker whose package is missing

Step = Callable[[np.ndarray], np.ndarray]
Maker = Callable[[ase.Atoms, float], Step]  # from the structure and its long-range cutoff


@dataclass(frozen=True)
class Case:
    """One system: a structure file, repeated along the three axes, and its long-range cutoff in Å."""

    name: str
    file: str
    repeat: int
    cutoff: float


CASES = (
    Case("paracetamol", "paracetamol.xyz", 1, 1000.0),
    Case("64 waters", "water_64.xyz", 1, 12.0),
    Case("512 waters", "water_64.xyz", 2, 12.0),
)
LARGE = Case("4096 waters", "water_64.xyz", 4, 12.0)
"""12,288 atoms, for memory alone."""


def ase_step(atoms: ase.Atoms, calculator) -> Step:
    """Forces through an ASE calculator."""
    atoms.calc = calculator

    def step(positions: np.ndarray) -> np.ndarray:
        atoms.positions = positions
        return atoms.get_forces()

    return step


def heliodor_modes() -> dict[str, Maker]:
    """heliodor in plain PyTorch: its ASE calculator with its usual skin and with none, and its float64 forces."""
    import heliodor

    def reference(atoms: ase.Atoms, cutoff: float) -> Step:
        potential = heliodor.load("so3lr", dtype="float64", device="cpu", long_range_cutoff=cutoff, kernels="reference")

        def step(positions: np.ndarray) -> np.ndarray:
            atoms.positions = positions
            return np.asarray(heliodor.evaluate(potential, atoms).forces)

        return step

    return calculators("reference") | {REFERENCE: reference}


def heliodor_numba_modes() -> dict[str, Maker]:
    """The same through the compiled kernel."""
    import heliodor
    from heliodor.errors import ModelError

    try:
        heliodor.load("so3lr", device="cpu", kernels="numba")
    except ModelError as problem:
        raise ImportError(problem) from problem
    return calculators("numba")


def calculators(kernels: str) -> dict[str, Maker]:
    """heliodor's ASE calculator with its usual skin and with none."""
    import heliodor

    def calculator(atoms: ase.Atoms, cutoff: float, **options: float) -> Step:
        potential = heliodor.load("so3lr", device="cpu", dtype="float32", long_range_cutoff=cutoff, kernels=kernels)
        return ase_step(atoms, heliodor.Calculator(potential, **options))

    def rebuilt(atoms: ase.Atoms, cutoff: float) -> Step:
        return calculator(atoms, cutoff, skin=0.0)

    def step(atoms: ase.Atoms, cutoff: float) -> Step:
        """The force call of heliodor's own dynamics: is the list still good, then energies and forces."""
        import torch

        from heliodor.dynamics.state import SKIN, evaluate_moved
        from heliodor.system import System

        potential = heliodor.load("so3lr", device="cpu", dtype="float32", long_range_cutoff=cutoff, kernels=kernels)
        system = System.from_atoms(atoms)
        kept = [potential.neighbors(system, SKIN)]

        def forces(positions: np.ndarray) -> np.ndarray:
            moved = system.replace(positions=torch.from_numpy(np.ascontiguousarray(positions)))
            prediction, kept[0] = evaluate_moved(potential, moved, kept[0])
            return prediction.forces.numpy()

        return forces

    return {STEP: step, REUSED: calculator, REBUILT: rebuilt}


def so3krates_torch_modes() -> dict[str, Maker]:
    """The PyTorch port's ASE calculator; it builds its lists anew in every call."""
    from so3krates_torch.calculator.so3 import SO3LRCalculator

    def calculator(atoms: ase.Atoms, cutoff: float) -> Step:
        return ase_step(atoms, SO3LRCalculator(r_max_lr=cutoff, default_dtype="float32", device="cpu"))

    return {REBUILT: calculator}


def jax_modes() -> dict[str, Maker]:
    """The reference: its ASE calculator (lists new in every call, minimum image only), its jitted model."""
    import jax
    import jax.numpy as jnp
    import so3lr
    from mlff.md.calculator_sparse import mlffCalculatorSparse

    weights = Path(so3lr.__file__).parent / "params"

    def calculator(atoms: ase.Atoms, cutoff: float) -> Step:
        options = {"lr_cutoff": cutoff, "dtype": np.float32, "from_file": True}
        return ase_step(atoms, mlffCalculatorSparse.create_from_ckpt_dir(weights, **options))

    def kernel(atoms: ase.Atoms, cutoff: float) -> Step:
        potential = so3lr.So3lrPotential(lr_cutoff=cutoff)
        numbers, none = jnp.asarray(atoms.numbers), jnp.zeros(1)

        def energy(positions, near, far):
            vectors = [positions[j] - positions[i] + shift for i, j, shift in (near, far)]
            graph = so3lr.Graph(
                nodes=numbers, total_charge=none, num_unpaired_electrons=none,
                centers=near[0], others=near[1], edges=vectors[0],
                idx_i_lr=far[0], idx_j_lr=far[1], edges_lr=vectors[1],
                positions=None, cell=None, mask=None,
            )  # fmt: skip
            return potential(graph).sum()

        near, far = pairs(atoms, potential.cutoff, half=False), pairs(atoms, cutoff, half=True)
        near, far = jax.tree_util.tree_map(jnp.asarray, (near, far))
        gradient = jax.jit(jax.value_and_grad(energy))
        return lambda positions: -np.asarray(gradient(jnp.asarray(positions, jnp.float32), near, far)[1])

    return {REBUILT: calculator, KERNEL: kernel}


IMPLEMENTATIONS = {  # what makes the steps, and the packages whose versions are worth naming
    PLAIN: (heliodor_modes, ("heliodor", "torch")),
    OWN: (heliodor_numba_modes, ("heliodor", "torch", "numba")),
    "so3krates-torch": (so3krates_torch_modes, ("So3krates-torch", "torch")),
    "jax": (jax_modes, ("so3lr", "jax", "flax")),
}


IMPORTED = {
    PLAIN: ("heliodor.engines.ase",),
    OWN: ("heliodor.engines.ase", "numba"),
    "so3krates-torch": ("so3krates_torch.calculator.so3",),
    "jax": ("so3lr", "mlff.md.calculator_sparse"),
}
"""What each needs in memory before any model is read."""

LEANEST = {PLAIN: STEP, OWN: STEP, "so3krates-torch": REBUILT, "jax": KERNEL}
"""The mode of each that its memory is measured in."""


def pairs(atoms: ase.Atoms, cutoff: float, half: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs i, j and their shift vectors that cover every rattled geometry; half: each pair only once."""
    i, j, shift = neighbor_list("ijS", atoms, cutoff + 2.01 * RATTLE)
    if half:
        keep = (i < j) | ((i == j) & (shift @ [10**6, 10**3, 1] > 0))
        i, j, shift = i[keep], j[keep], shift[keep]
    return i, j, (shift @ atoms.cell.array).astype(np.float32)


def rattled(positions: np.ndarray, seed: int) -> np.ndarray:
    """Positions with every atom moved by exactly RATTLE in a random direction."""
    direction = np.random.default_rng(seed).normal(size=positions.shape)
    return positions + RATTLE * direction / np.linalg.norm(direction, axis=1, keepdims=True)


def check(step: Step, positions: np.ndarray) -> dict:
    """Forces at the second of two rattled geometries, so that a list reused wrongly shows."""
    step(rattled(positions, 1))
    return {"forces": np.asarray(step(rattled(positions, 2)), dtype=float).tolist()}


def measure(step: Step, positions: np.ndarray, warmup: int, repeats: int, seconds: float) -> dict:
    """Times of the first call and of the calls after the warm-up: at least so many and for so long."""
    times: list[float] = []
    while len(times) < 1 + warmup + repeats or sum(times[1 + warmup :]) < seconds:
        geometry = rattled(positions, len(times))
        start = time.perf_counter()
        step(geometry)
        times.append(time.perf_counter() - start)
    measured = [1e3 * duration for duration in times[1 + warmup :]]
    return {
        "median_ms": statistics.median(measured),
        "min_ms": min(measured),
        "repeats": len(measured),
        "first_call_s": times[0],
    }


def peak() -> float:
    """Largest resident memory of this process so far, MB."""
    told = Path("/proc/self/status")
    if told.exists():  # getrusage would count the process that started this one
        found = re.search(r"^VmHWM:\s+(\d+) kB", told.read_text(), re.MULTILINE)
        return int(found.group(1)) / 1e3 * 1.024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def memory(make: Maker, atoms: ase.Atoms, cutoff: float, before: float) -> dict:
    """MB that a process holds at most beyond its imports, after two calls."""
    positions = atoms.positions.copy()
    made = make(atoms, cutoff)
    for seed in (1, 2):
        made(rattled(positions, seed))
    return {"baseline_MB": before, "peak_MB": peak(), "beyond_MB": peak() - before}


def version(package: str) -> str:
    """The version of a package, "unknown" where it does not say."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return getattr(sys.modules.get(package), "__version__", "unknown")


def work(name: str, phase: str, cases: list[str], folder: Path, output: Path, timing: dict) -> int:
    """Check or time every mode of one implementation on the named systems; write the results as JSON.

    For "memory" the leanest mode alone, on one system: a process has but one peak.
    """
    modes_of, packages = IMPLEMENTATIONS[name]
    try:
        for module in IMPORTED[name]:
            importlib.import_module(module)
        before = peak()
        modes = modes_of()
    except ImportError as problem:
        print(problem, file=sys.stderr)
        return NOT_INSTALLED
    rows = []
    for case in (case for case in (*CASES, LARGE) if case.name in cases):
        for mode, make in modes.items():
            if (mode == REFERENCE and phase != "check") or (phase == "memory" and mode != LEANEST[name]):
                continue
            atoms = ase.io.read(folder / case.file).repeat(case.repeat)
            positions = atoms.positions.copy()
            row = {"implementation": name, "mode": mode, "system": case.name, "atoms": len(atoms)}
            try:
                if phase == "memory":
                    row |= memory(make, atoms, case.cutoff, before)
                else:
                    step = make(atoms, case.cutoff)
                    row |= check(step, positions) if phase == "check" else measure(step, positions, **timing)
            except (AssertionError, RuntimeError, ValueError) as problem:  # a system it refuses
                row["error"] = f"{type(problem).__name__} {str(problem)[:200]}".strip()
            rows.append(row)
    versions = {package: version(package) for package in packages} | {"python": platform.python_version()}
    output.write_text(json.dumps({"versions": versions, "rows": rows}))
    return 0
