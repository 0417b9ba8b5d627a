"""What OpenMM costs beyond the model: a step of Verlet on its CPU platform against the model alone.

    python benchmarks/openmm_overhead.py [--atoms 22 1536 12000] [--model heliodor-s] [--steps 60] [--threads 1]

22 atoms: a molecule in vacuum (alanine dipeptide); more: a periodic box
of water of about that many atoms, repeated from examples/water_64.xyz. "Model" is `evaluate_system` with the very list
and positions that the step before left; steps that build a list are left out of both. Steps and calls of the model
alternate, so that a busy machine slows both. Medians, with quartiles of the difference. Against a
model of 100 ms and more the difference is lost in the noise of the model: the last column is that of a model that
takes no time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import openmm
import torch

import heliodor
from heliodor.engines.evaluator import Evaluator
from heliodor.engines.openmm import Force
from heliodor.engines.openmm.force import python_force
from heliodor.engines.openmm.system import openmm_box
from heliodor.kernels.derived import Derived
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms, evaluate_system
from heliodor.system import System

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


class Nothing(Potential):
    """A model that takes no time: what is left is OpenMM's and heliodor's bookkeeping."""

    name = "nothing"
    elements = tuple(range(1, 90))
    cutoff = 1.0

    def __init__(self, n_atoms: int) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.use_kernel(NoKernel(n_atoms), "nothing")


class NoKernel:
    """Zeros."""

    def __init__(self, n_atoms: int) -> None:
        self.zeros = torch.zeros(n_atoms, 3)

    def derive(self, system: System, neighbors: Neighbors, *, gradient: bool, strain: bool) -> Derived:
        return Derived(Terms({"nothing": self.zeros[:, 0]}), self.zeros, None)


def structure(atoms: int) -> ase.Atoms:
    """A molecule of 22 atoms, or a box of water of at least so many."""
    if atoms < 100:
        from rdkit import Chem
        from rdkit.Chem import AllChem

        mol = Chem.AddHs(Chem.MolFromSmiles("CC(=O)N[C@@H](C)C(=O)NC"))
        AllChem.EmbedMolecule(mol, randomSeed=1)
        AllChem.MMFFOptimizeMolecule(mol)
        symbols = [atom.GetSymbol() for atom in mol.GetAtoms()]
        return ase.Atoms(symbols, mol.GetConformer().GetPositions())
    water = ase.io.read(EXAMPLES / "water_64.xyz")
    assert isinstance(water, ase.Atoms)
    repeats = [1, 1, 1]
    while len(water) * repeats[0] * repeats[1] * repeats[2] < 0.95 * atoms:
        repeats[repeats.index(min(repeats))] += 1
    return water.repeat(repeats)


def measure(
    potential: Potential, atoms: ase.Atoms, steps: int, threads: int, clock: Callable[[], float], name: str
) -> dict[str, float]:
    """Times in ms."""
    evaluator = Evaluator(potential, atoms)
    system = openmm.System()
    for mass in atoms.get_masses().tolist():
        system.addParticle(mass)
    box = openmm_box(atoms)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*(box * 0.1))
    system.addForce(python_force(Force(evaluator), None, 0))
    # without forces they must not meet
    integrator = openmm.VerletIntegrator(1e-7 if isinstance(potential, Nothing) else 2e-4)
    platform = openmm.Platform.getPlatformByName(name)
    context = openmm.Context(system, integrator, platform, {"Threads": str(threads)} if name == "CPU" else {})
    context.setPositions(atoms.positions * 0.1)
    context.setVelocitiesToTemperature(300.0, 1)
    integrator.step(3)
    plain = System.from_atoms(atoms, device=potential.device)
    stepped, alone = [], []
    while len(stepped) < steps:
        built = evaluator.lists_built
        begun = clock()
        integrator.step(1)
        elapsed = clock() - begun
        if evaluator.lists_built != built:
            continue
        neighbors = evaluator._neighbors
        assert neighbors is not None
        here = context.getState(getPositions=True).getPositions(asNumpy=True)._value * 10.0
        placed, _ = evaluator._place(here, None)
        moved = plain.replace(positions=torch.from_numpy(placed[0]).to(potential.device), cell=neighbors.cell)
        begun = clock()
        evaluate_system(potential, moved, neighbors)
        alone.append(1e3 * (clock() - begun))
        stepped.append(1e3 * elapsed)
    more = [a - b for a, b in zip(stepped, alone, strict=True)]
    low, middle, high = statistics.quantiles(more, n=4)
    return {
        "step": statistics.median(stepped),
        "model": statistics.median(alone),
        "low": low,
        "overhead": middle,
        "high": high,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, nargs="+", default=[22, 1536, 12000])
    parser.add_argument("--model", default="heliodor-s")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--platform", default="CPU", choices=["CPU", "Reference"])
    parser.add_argument("--cpu-time", action="store_true", help="time on the processor, for a busy machine")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    potential = heliodor.load(arguments.model)
    print(f"{arguments.model} on {potential.device}, kernels {potential.kernels}, {arguments.threads} thread(s)")
    print(f"{'atoms':>7} {'step/ms':>9} {'model/ms':>9} {'overhead/ms (quartiles)':>26} {'of nothing/ms':>14}")
    for count in arguments.atoms:
        atoms = structure(count)
        clock = time.process_time if arguments.cpu_time else time.perf_counter
        row = measure(potential, atoms, arguments.steps, arguments.threads, clock, arguments.platform)
        least = measure(Nothing(len(atoms)), atoms, 10 * arguments.steps, arguments.threads, clock, arguments.platform)
        spread = f"{row['overhead']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        print(
            f"{len(atoms):>7} {row['step']:>9.3f} {row['model']:>9.3f} {spread:>26} {least['overhead']:>14.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
