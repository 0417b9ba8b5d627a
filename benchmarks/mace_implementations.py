"""What mace_cpu.py compares: the implementations of MACE, the systems, and the worker that runs one of them.

    python mace_implementations.py NAME MODEL SYSTEM STRUCTURES THREADS

A worker reads requests from its standard input, one JSON object a line, and answers each with one line: "forces" once,
"time" for so many seconds, "memory". Every implementation is a function from model file and structure to a step, which
gives the interaction energy (eV; None where the peer has only totals), the total energy, and forces (eV/Å).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import numpy as np

SKIN = 0.5  # Å, of heliodor's neighbour list: it reaches so far beyond the cutoff, as in dynamics
SYSTEMS = {  # structure file, and how often it is repeated along each axis
    "paracetamol": ("paracetamol.xyz", 1),
    "64 waters": ("water_64.xyz", 1),
    "512 waters": ("water_64.xyz", 2),
}

Step = Callable[[], tuple[float | None, float, np.ndarray]]


def peak() -> float:
    """Largest resident memory of this process so far, MB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e6 if sys.platform == "darwin" else 1e3)


def heliodor(kernels: str, dtype: str) -> Callable[[Path, ase.Atoms, int], Step]:
    """heliodor with one of its kernels; the neighbour list is found once, with a skin, and filtered in every call."""

    def make(model: Path, atoms: ase.Atoms, threads: int) -> Step:
        import torch

        from heliodor import load
        from heliodor.potential import evaluate_system
        from heliodor.system import System

        torch.set_num_threads(threads)
        potential = load(model, device="cpu", dtype=dtype, kernels=kernels)
        system = System.from_atoms(atoms)
        neighbors = potential.neighbors(system, skin=SKIN)

        def step() -> tuple[float | None, float, np.ndarray]:
            found = evaluate_system(potential, system, neighbors)
            assert found.forces is not None
            return float(found.terms["mace"]), float(found.energy), found.forces.double().numpy()

        return step

    return make


def mace_torch(model: Path, atoms: ase.Atoms, threads: int) -> Step:
    """The reference package: its model on a graph made once, parameters frozen."""
    import torch
    from mace import data  # before e3nn, which cannot be imported without what mace sets
    from mace.tools import AtomicNumberTable, torch_geometric, torch_tools

    torch.set_num_threads(threads)
    torch_tools.set_default_dtype("float32")
    network = torch.load(model, map_location="cpu", weights_only=False).float().eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    table = AtomicNumberTable([int(z) for z in network.atomic_numbers])
    graph = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=table, cutoff=float(network.r_max))
    batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1))).to_dict()

    def step() -> tuple[float | None, float, np.ndarray]:
        found = network(batch, compute_force=True, training=False)
        return float(found["interaction_energy"]), float(found["energy"]), found["forces"].detach().double().numpy()

    return step


def symmetrix(variant: str) -> Callable[[Path, ase.Atoms, int], Step]:
    """One of symmetrix' evaluators on pairs found once; takes its own JSON, extracted from the .model file."""

    def make(model: Path, atoms: ase.Atoms, threads: int) -> Step:
        import symmetrix as package
        from matscipy.neighbours import neighbour_list

        if "Kokkos" in variant:
            package._init_kokkos()
        evaluator = getattr(package, variant)(str(model))
        known = list(evaluator.atomic_numbers)
        if not atoms.pbc.any():
            atoms.center(vacuum=evaluator.r_cut)  # matscipy wants a cell
        i, j, r, vectors = neighbour_list("ijdD", atoms, evaluator.r_cut)
        types, count = [known.index(z) for z in atoms.numbers], len(atoms)
        pairs_of = np.bincount(i, minlength=count)
        arguments = (count, types, pairs_of, j, [types[k] for k in j], vectors.flatten(), r)

        def step() -> tuple[float | None, float, np.ndarray]:
            evaluator.compute_node_energies_forces(*arguments)
            pairs = np.asarray(evaluator.node_forces).reshape(-1, 3)[: len(i)]
            forces = [np.bincount(j, x, count) - np.bincount(i, x, count) for x in pairs.T]
            return None, float(np.sum(np.asarray(evaluator.node_energies)[:count])), np.stack(forces, axis=1)

        return step

    return make


REFERENCE, KERNEL = "heliodor reference", "heliodor numba"
EXACT, EXACT_KERNEL = "heliodor reference, float64", "heliodor numba, float64"
KOKKOS, SERIAL = "symmetrix, Kokkos", "symmetrix, serial"  # the latter always one thread and float64
IMPLEMENTATIONS = {  # what makes the steps, and the packages whose versions are worth naming
    KERNEL: (heliodor("numba", "float32"), ("heliodor", "torch", "numba")),
    REFERENCE: (heliodor("reference", "float32"), ("heliodor", "torch")),
    EXACT: (heliodor("reference", "float64"), ("heliodor", "torch")),
    EXACT_KERNEL: (heliodor("numba", "float64"), ("heliodor", "torch", "numba")),
    "mace-torch": (mace_torch, ("mace-torch", "e3nn", "torch")),
    KOKKOS: (symmetrix("MACEKokkosFloat"), ("symmetrix",)),
    SERIAL: (symmetrix("MACE"), ("symmetrix",)),
}


def imports(name: str) -> None:
    """What the implementation needs in memory before any model is read."""
    if name.startswith("heliodor"):
        needed = ["heliodor.potential", "heliodor.kernels.cpu.mace.kernel"][: 2 if "numba" in name else 1]
    elif name == "mace-torch":
        needed = ["mace.calculators"]
    else:
        needed = ["symmetrix", "matscipy.neighbours"]
    for module in needed:
        importlib.import_module(module)


def version(package: str) -> str:
    """The version of a package, "unknown" where it does not say."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return getattr(sys.modules.get(package), "__version__", "unknown")


def structure(system: str, folder: Path) -> ase.Atoms:
    """One of the systems."""
    file, repeat = SYSTEMS[system]
    return ase.io.read(folder / file).repeat(repeat)


def measure(step: Step, seconds: float) -> dict:
    """Wall and CPU times, ms, of as many calls as fit, one at least."""
    wall: list[float] = []
    cpu: list[float] = []
    while not wall or sum(wall) < 1e3 * seconds:
        start, used = time.perf_counter(), time.process_time()
        step()
        wall.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - used))
    return {"wall": wall, "cpu": cpu}


def serve(name: str, model: Path, system: str, folder: Path, threads: int) -> int:
    """Answer requests until there are no more."""
    # whatever the packages print goes to standard error
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")

    def answer(**found: object) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    make, packages = IMPLEMENTATIONS[name]
    try:
        imports(name)
        baseline = peak()
        step = make(model, structure(system, folder), threads)
    except ImportError as problem:
        answer(absent=f"{type(problem).__name__}: {problem}")
        return 0
    answer(versions={package: version(package) for package in packages} | {"python": platform.python_version()})
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "forces":
            begun = time.perf_counter()
            interaction, total, forces = step()
            first = time.perf_counter() - begun
            for _ in range(request["warmup"]):
                step()
            answer(interaction=interaction, total=total, forces=np.asarray(forces).tolist(), first_call_s=first)
        elif request["do"] == "time":
            answer(**measure(step, request["seconds"]))
        else:
            step()
            step()
            answer(baseline_MB=baseline, peak_MB=peak())
    return 0


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), int(sys.argv[5])))
