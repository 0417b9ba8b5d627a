"""Density of argon under pressure: OpenMM's Monte Carlo barostats against both of heliodor's, in one run.

    python benchmarks/ensembles_openmm.py [--picoseconds 400] [--output tests/data/argon_npt_openmm.json]

The same Lennard-Jones potential, brought to zero at 7.5 Å with zero slope, at 300 bar: a liquid of 125 atoms at 90 K,
isotropic; a crystal of 108 at 60 K, which keeps its shape when the axes move on their own. OpenMM:
`CustomNonbondedForce` on its CPU platform with one thread, Langevin at 2/ps and 4 fs, a volume move every 10 steps,
`MonteCarloBarostat`, `MonteCarloAnisotropicBarostat` (x, y, z) or `MonteCarloMembraneBarostat` (x and y together,
z free; surface tension zero). heliodor: 8 fs, `COPIES` boxes at once. Errors are those of blocks of 10 ps.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import ase
import numpy as np
import torch
from ase.build import bulk

from heliodor.dynamics import init
from heliodor.dynamics.steps.cell_rescaling import cell_rescaling_step
from heliodor.dynamics.steps.mtk import mtk_step
from heliodor.dynamics.steps.pressure import Barostat
from heliodor.system import System
from heliodor.units import BAR, KJ_PER_MOL

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "dynamics"))

from toys import LennardJones, argon_box

BARS = 300.0
COPIES, EQUILIBRATION = 4, 8.0
BLOCK = 10.0
KINDS = {"isotropic": ("isotropic", 90.0), "anisotropic": ("anisotropic", 60.0), "membrane": ("semi-isotropic", 60.0)}
"""OpenMM's barostat: heliodor's coupling, temperature in K."""


def atoms_of(kind: str, seed: int = 0) -> ase.Atoms:
    """The liquid's box or the crystal, rattled."""
    if kind == "isotropic":
        return argon_box(5, 3.7, seed)
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True).repeat(3)
    atoms.rattle(0.05, seed=seed)
    return atoms


def blocks(densities: np.ndarray, picoseconds: float) -> tuple[float, float]:
    """Mean over all rows and columns, and its error from means over blocks of each column."""
    parts = max(int(picoseconds / BLOCK), 2)
    means = np.concatenate([[part.mean() for part in np.array_split(column, parts)] for column in densities.T])
    return float(densities.mean()), float(means.std(ddof=1) / math.sqrt(len(means)))


def by_openmm(kind: str, picoseconds: float, seed: int) -> np.ndarray:
    """N/V in 1/Å³ every 0.1 ps."""
    import openmm
    from openmm import unit

    lj, atoms, temperature = LennardJones(), atoms_of(kind, seed), KINDS[kind][1]
    system = openmm.System()
    sigma, cutoff = 0.1 * lj.sigma, 0.1 * lj.cutoff
    epsilon = lj.epsilon / KJ_PER_MOL
    k6 = (sigma / cutoff) ** 6
    slope = 4.0 * epsilon * (-12.0 * k6**2 + 6.0 * k6) / cutoff
    force = openmm.CustomNonbondedForce(
        f"4*{epsilon}*(q^2-q) - {4.0 * epsilon * (k6**2 - k6)} - {slope}*(r-{cutoff}); q=({sigma}/r)^6"
    )
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(cutoff)
    for mass in atoms.get_masses():
        system.addParticle(mass)
        force.addParticle([])
    system.addForce(force)
    system.setDefaultPeriodicBoxVectors(*(0.1 * atoms.cell.array))
    if kind == "isotropic":
        barostat = openmm.MonteCarloBarostat(BARS, temperature, 10)
    elif kind == "anisotropic":
        barostat = openmm.MonteCarloAnisotropicBarostat([BARS] * 3, temperature, True, True, True, 10)
    else:
        mode = openmm.MonteCarloMembraneBarostat
        barostat = openmm.MonteCarloMembraneBarostat(BARS, 0.0, temperature, mode.XYIsotropic, mode.ZFree, 10)
    barostat.setRandomNumberSeed(seed)
    system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(temperature, 2.0, 0.004)
    integrator.setRandomNumberSeed(seed + 1)
    platform_ = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, integrator, platform_, {"Threads": "1"})
    context.setPositions(0.1 * atoms.positions)
    context.setVelocitiesToTemperature(temperature, seed + 2)
    integrator.step(int(EQUILIBRATION / 0.004))
    volumes = []
    for _ in range(int(picoseconds / 0.1)):
        integrator.step(25)
        volumes.append(1000.0 * context.getState().getPeriodicBoxVolume().value_in_unit(unit.nanometer**3))
    return len(atoms) / np.array(volumes)[:, None]


def by_heliodor(step_name: str, kind: str, picoseconds: float, seed: int, settle: float = EQUILIBRATION) -> np.ndarray:
    """N/V in 1/Å³ every 80 fs, one column per copy."""
    torch.set_num_threads(1)
    potential, (coupling, temperature) = LennardJones(), KINDS[kind]
    system = System.from_atoms([atoms_of(kind, seed + n) for n in range(COPIES)])
    state = init(system, potential, temperature=temperature, seed=seed, virial=True)
    target = torch.full((1, 3), BARS * BAR, dtype=torch.float64)
    barostat = Barostat(target, coupling, 400.0, compressibility=2e-4 / BAR)
    step, options = {
        "rescaling": (cell_rescaling_step, {"friction": 2.0}),
        "mtk": (mtk_step, {"time_constant": 200.0}),
    }[step_name]
    dt, rows = 8.0, []
    warm = int(1000.0 * settle / dt)
    for n in range(warm + int(1000.0 * picoseconds / dt)):
        state = step(state, potential, dt, temperature=temperature, barostat=barostat, **options)
        if n >= warm and n % 10 == 9:
            rows.append((system.counts / state.system.volume).numpy())
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picoseconds", type=float, default=400.0, help="of OpenMM")
    parser.add_argument("--ours", type=float, default=100.0, help="ps of heliodor, shared by its copies")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    import openmm

    origin = {
        "made_by": f"benchmarks/ensembles_openmm.py --picoseconds {args.picoseconds:g} --ours {args.ours:g}",
        "openmm": openmm.version.version,
        "what": f"argon of tests/dynamics/toys.py at {BARS:g} bar: N/V and its standard error, 1/Å³",
    }
    found: dict[str, dict[str, float]] = {}

    def report(name: str, densities: np.ndarray, picoseconds: float, begun: float) -> None:
        mean, error = blocks(densities, picoseconds)
        found[name] = {"density": round(mean, 6), "error": round(error, 6)}
        print(f"{name:32s} {mean:.6f} ± {error:.6f} 1/Å³, {time.perf_counter() - begun:.0f} s", flush=True)
        if args.output:
            args.output.write_text(json.dumps({"origin": origin, **found}, indent=1, ensure_ascii=False) + "\n")

    for seed, kind in enumerate(KINDS):
        begun = time.perf_counter()
        report(f"openmm {kind}", by_openmm(kind, args.picoseconds, 100 * seed + 1), args.picoseconds, begun)
    for seed, kind in enumerate(KINDS):
        for step in ("rescaling", "mtk"):
            begun, share = time.perf_counter(), args.ours / COPIES
            report(f"heliodor {step} {kind}", by_heliodor(step, kind, share, 100 * seed + 1), share, begun)


if __name__ == "__main__":
    main()
