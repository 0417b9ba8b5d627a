"""A hundred small molecules at once: TorchSim's loop with our model against our own loop, and the model alone.

    python benchmarks/torchsim_batch.py
    python benchmarks/torchsim_batch.py --model so3lr --molecules 20 --steps 50

Langevin dynamics at 300 K, 0.5 fs, 5 1/ps, the same molecules, skin and friction in both. Figures are for the machine
it runs on; compare the ratios.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import ase
import numpy as np
import torch
from ase.build import molecule
from ase.collections import g2

import heliodor
from heliodor.dynamics.ensemble import stepper
from heliodor.dynamics.settings import Settings
from heliodor.dynamics.setup import begin, prepare
from heliodor.engines.torchsim import TorchSimModel
from heliodor.potential import evaluate_system

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch_sim as ts

SKIN, STEP, FRICTION, TEMPERATURE = 1.0, 0.5, 5.0, 300.0
"""Å, fs, 1/ps, K."""


def small_molecules(count: int, elements: tuple[int, ...]) -> list[ase.Atoms]:
    """Closed shells of the G2 set that the model knows, of at least three atoms, over and over, each bent a little."""
    known = [molecule(name) for name in g2.names]
    fit = [
        a
        for a in known
        if len(a) > 2 and set(a.numbers) <= set(elements) and not a.get_initial_magnetic_moments().any()
    ]
    fit = [a for a in fit if a.numbers.sum() % 2 == 0]
    rng = np.random.default_rng(0)
    frames = [fit[k % len(fit)].copy() for k in range(count)]
    for frame in frames:
        frame.set_initial_magnetic_moments(None)
        frame.positions += rng.normal(0.0, 0.02, frame.positions.shape)
    return frames


def seconds(step: Callable[[], Any], steps: int, warmup: int = 5) -> float:
    """Of one step."""
    for _ in range(warmup):
        step()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


def ours(frames: list[ase.Atoms], potential: heliodor.Potential, steps: int) -> tuple[float, float]:
    """Seconds of a step of our loop, and of the model within it."""
    settings = Settings(
        steps=steps, timestep=STEP, temperature=TEMPERATURE, friction=FRICTION, skin=SKIN, seed=1, minimize_first=False
    )
    job = prepare(frames, potential, settings)
    state = begin(job)
    move = stepper(job.settings, job.potential, job.system, job.ramp)

    def step() -> None:
        nonlocal state
        state = move(state)

    whole = seconds(step, steps)
    alone = seconds(lambda: evaluate_system(potential, state.system, state.neighbors), steps)
    return whole, alone


def theirs(frames: list[ase.Atoms], potential: heliodor.Potential, steps: int) -> tuple[float, int]:
    """Seconds of a step of TorchSim's loop; how often neighbours were looked for."""
    model = TorchSimModel(potential, skin=SKIN)
    state = ts.initialize_state(frames, model.device, model.dtype)
    unit = ts.units.MetalUnits
    options = {
        "dt": torch.tensor(STEP * 1e-3 * unit.time, dtype=model.dtype, device=model.device),
        "kT": torch.tensor(TEMPERATURE * unit.temperature, dtype=model.dtype, device=model.device),
        "gamma": torch.tensor(FRICTION / unit.time, dtype=model.dtype, device=model.device),
    }
    if hasattr(ts, "nvt_langevin_init"):
        moving = ts.nvt_langevin_init(state, model, kT=options["kT"])
        move = lambda moved: ts.nvt_langevin_step(moved, model, **options)  # noqa: E731
    else:
        start, move = ts.integrators.nvt.nvt_langevin(model, seed=1, **options)
        moving = start(state)

    def step() -> None:
        nonlocal moving
        moving = move(moving)

    return seconds(step, steps), model.lists_built


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="heliodor-s")
    parser.add_argument("--molecules", type=int, default=100)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--kernels", default="auto")
    options = parser.parse_args()
    potential = heliodor.load(options.model, device=options.device, dtype=options.dtype, kernels=options.kernels)
    frames = small_molecules(options.molecules, potential.elements)
    print(
        f"{options.model}, {options.dtype}, {potential.device}, kernels {potential.kernels}, "
        f"{torch.get_num_threads()} threads: {len(frames)} molecules, {sum(map(len, frames))} atoms, TorchSim "
        f"{version('torch-sim-atomistic')}"
    )
    whole, alone = ours(frames, potential, options.steps)
    batch, lists = theirs(frames, potential, options.steps)
    one_by_one = sum(theirs([frame], potential, 3)[0] for frame in frames[:10]) * len(frames) / min(10, len(frames))
    print("loop                              ms/step   beyond the model, ms")
    print(f"the model alone                  {1e3 * alone:8.2f}")
    print(f"heliodor, all at once            {1e3 * whole:8.2f}   {1e3 * (whole - alone):8.2f}")
    print(f"TorchSim, all at once            {1e3 * batch:8.2f}   {1e3 * (batch - alone):8.2f}   ({lists} lists)")
    print(f"TorchSim, one after the other    {1e3 * one_by_one:8.2f}")


if __name__ == "__main__":
    main()
