"""Distil SO3LR into a small model: a plain trainer, resumable, for a fixed budget of wall-clock time.

    python training/mini/train.py --train a.npz b.npz --valid v.npz --out runs/mini --hours 1.0

Loss: force error (pseudo-Huber) plus, as labels that cost no second derivative, the teacher's per-atom network
energies (fading out during the run), partial charges and Hirshfeld ratios. AdamW, warm-up, cosine decay, gradient
clipping, exponential moving average of the weights. The force function is compiled (torch.compile; 2.4 times faster
on a CPU). Started again with the same --out, it goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packing import Batch, Dataset, Shape, epoch, read_dataset
from torch import Tensor

import heliodor
from heliodor.checkpoint import save_checkpoint
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential
from heliodor.potentials.so3krates import SO3kratesConfig
from heliodor.potentials.so3lr import SO3LR, SO3LRConfig
from heliodor.system import System
from label import PERIODIC_CUTOFF, join

CONFIG = SO3LRConfig(
    network=SO3kratesConfig(n_features=64, n_heads=4, degrees=(1, 2, 3, 4), n_layers=2, n_basis=16, n_elements=18),
    n_hirshfeld=32,
)
KEYS = (
    *("positions", "numbers", "offsets", "cell", "pbc", "charge", "spin", "kind", "molecule"),
    *("forces", "node_energy", "charges", "hirshfeld", "energy"),
)


def load_data(paths: list[Path]) -> Dataset:
    """Read labelled structures and find their neighbours."""
    sets = [{key: file[key] for key in KEYS} for file in map(np.load, paths)]
    return read_dataset(join(sets), CONFIG.network.cutoff, PERIODIC_CUTOFF)


def new_model(data: Dataset, seed: int) -> SO3LR:
    """A fresh student: repulsion from the teacher, per-element offsets from the labels."""
    torch.manual_seed(seed)
    model = SO3LR(CONFIG).float()
    model.zbl.load_state_dict(heliodor.load("so3lr").zbl.state_dict())
    numbers = data.system.numbers
    offsets = {"node_energy": model.energy_offset, "charges": model.charge_offset, "hirshfeld": model.hirshfeld_offset}
    with torch.no_grad():
        for key, parameter in offsets.items():
            values = data.labels[key]
            for z in CONFIG.elements:
                if bool((numbers == z).any()):
                    parameter[z] = values[numbers == z].mean()
            if key == "node_energy":
                model.energy_scale.fill_(float((values - parameter[numbers]).std()))
        model.hirshfeld_weight.normal_(0.0, 0.1)
    model.zbl.requires_grad_(False)
    model.energy_scale.requires_grad_(False)
    return model


def make_step(model: SO3LR, compiled: bool) -> Any:
    """The function (energy weight, *batch tensors) -> (loss, Σ|ΔF|², Δq², Δh² over real atoms)."""

    def energy(positions: Tensor, *tensors: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        b = Batch(positions, *tensors)
        cell = torch.zeros(b.charge.shape[0], 3, 3)
        system = System(positions, b.numbers, cell, torch.zeros(len(cell), 3).bool(), b.batch, b.charge, b.charge * 0.0)
        shift = torch.zeros(1, 3, dtype=torch.int32)
        long = Neighbors(b.pair_i, b.pair_j, shift, b.limit, 0.0, True, positions, cell, b.pair_offset)
        short = Neighbors(b.i, b.j, shift, b.limit, 0.0, True, positions, cell, b.offset, long)
        terms = model(system, short)
        assert terms.charges is not None and terms.hirshfeld_ratios is not None
        total = torch.stack(list(terms.energies.values())).sum()
        return total, (terms.energies["so3krates"], terms.charges, terms.hirshfeld_ratios)

    def loss(energy_weight: Tensor, positions: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        b = Batch(positions, *tensors)
        gradient, (_, (node, charges, ratios)) = torch.func.grad_and_value(energy, has_aux=True)(positions, *tensors)
        n = b.weight.sum()
        delta = (gradient + b.forces).square().sum(-1) * b.weight
        # width 1 eV/Å: strained structures count, but do not drown the rest
        force = (torch.sqrt(1.0 + delta) - 1.0).sum() / n
        charge = ((charges - b.charges).square() * b.weight).sum() / n
        ratio = ((ratios - b.hirshfeld).square() * b.weight).sum() / n
        energies = ((node - b.node_energy).square() * b.weight).sum() / n
        total = force + energy_weight * energies + 10.0 * charge + ratio
        return total, torch.stack([delta.sum(), charge * n, ratio * n, n]).detach()

    return torch.compile(loss, dynamic=False) if compiled else loss


def errors(model: Potential, data: Dataset) -> dict[str, float]:
    """Force RMSE and MAE (meV/Å) over all atoms and by kind; charge (e) and Hirshfeld ratio RMSE."""
    from heliodor.potential import evaluate_system

    delta = torch.empty_like(data.labels["forces"])
    others = {name: torch.empty_like(data.labels[name]) for name in ("charges", "hirshfeld")}
    bounds = data.starts["atoms"]
    for first in range(0, len(bounds) - 1, 24):
        last = min(first + 24, len(bounds) - 1)
        atoms = slice(int(bounds[first]), int(bounds[last]))
        system = System(
            **{k: getattr(data.system, k)[atoms] for k in ("positions", "numbers")},
            **{k: getattr(data.system, k)[first:last] for k in ("cell", "pbc", "charge", "spin")},
            batch=data.system.batch[atoms] - first,
        )
        pieces = []
        for edges, name in ((data.long, "pairs"), (data.short, "edges")):
            rows = slice(int(data.starts[name][first]), int(data.starts[name][last]))
            offset = None if edges.offset is None else edges.offset[rows]
            i, j = edges.i[rows] - atoms.start, edges.j[rows] - atoms.start
            cutoff = edges.cutoff[first:last]
            pieces.append(
                Neighbors(i, j, edges.shift[rows], cutoff, 0.0, True, system.positions, system.cell, offset, *pieces)
            )
        p = evaluate_system(model, system, pieces[-1])
        assert p.forces is not None and p.charges is not None and p.hirshfeld_ratios is not None
        delta[atoms] = p.forces.float() - data.labels["forces"][atoms]
        others["charges"][atoms] = p.charges - data.labels["charges"][atoms]
        others["hirshfeld"][atoms] = p.hirshfeld_ratios - data.labels["hirshfeld"][atoms]
    kinds = data.kind[data.system.batch.numpy()]
    out = {"force": 1e3 * float(delta.square().mean().sqrt()), "force_mae": 1e3 * float(delta.abs().mean())}
    for kind in np.unique(kinds):
        out[str(kind)] = 1e3 * float(delta[torch.from_numpy(kinds == kind)].square().mean().sqrt())
    return {**out, **{name: float(value.square().mean().sqrt()) for name, value in others.items()}}


def train(args: argparse.Namespace) -> None:
    """Run until the budget is spent."""
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    data, valid = load_data(args.train), load_data(args.valid)
    state_file = args.out / "state.pt"
    model = new_model(data, args.seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, betas=(0.9, 0.98), weight_decay=args.decay)
    step, spent = 0, 0.0
    if args.init and not state_file.exists():
        model.load_state_dict(torch.load(args.init, weights_only=True)["average"])
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, step, spent = state["average"], state["step"], state["spent"]
    frozen = SO3LR(CONFIG).float()
    function = make_step(model, not args.eager)
    shape, rng = Shape(), np.random.default_rng(args.seed + step)
    budget, begun, logged = args.hours * 3600.0, time.perf_counter() - spent, spent
    seen = torch.zeros(4)
    with (args.out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        while (elapsed := time.perf_counter() - begun) < budget:
            for batch in epoch(data, shape, rng):
                elapsed = time.perf_counter() - begun
                progress = min(elapsed / budget, 1.0)
                cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
                rate = args.lr * min(1.0, (step + 1) / 500.0) * (0.003 + 0.997 * cosine)
                optimizer.param_groups[0]["lr"] = rate
                loss, sums = function(torch.tensor(args.energy * (1.0 - progress)), *batch.tensors())
                optimizer.zero_grad()
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
                if bool(torch.isfinite(norm)):
                    optimizer.step()
                    seen += sums
                step += 1
                keep = min(0.999, (1.0 + step) / (10.0 + step))
                with torch.no_grad():
                    for key, value in model.state_dict().items():
                        average[key].lerp_(value, 1.0 - keep)
                if elapsed - logged > args.log_minutes * 60.0 or progress >= 1.0:
                    logged = elapsed
                    frozen.load_state_dict(average)
                    found = {k: float(f"{v:.4g}") for k, v in errors(frozen, valid).items()}
                    rmse = 1e3 * float((seen[0] / seen[3] / 3.0).sqrt())
                    seen.zero_()
                    log.writerow([step, f"{elapsed:.0f}", f"{rate:.2e}", f"{rmse:.1f}", *found.values()])
                    file.flush()
                    print(f"{elapsed / 60:6.1f} min  step {step}  lr {rate:.1e}  train {rmse:.0f}  {found}", flush=True)
                    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
                    torch.save({**state, "step": step, "spent": elapsed}, state_file.with_suffix(".part"))
                    state_file.with_suffix(".part").replace(state_file)
                if progress >= 1.0:
                    break
    frozen.load_state_dict(average)
    frozen.name = "heliodor-mini"
    save_checkpoint(frozen.double(), args.out / "heliodor-mini.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--valid", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="start from the averaged weights of this state.pt")
    parser.add_argument("--hours", type=float, default=1.0, help="budget of wall-clock time")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=1e-3, help="weight decay")
    parser.add_argument("--energy", type=float, default=1.0, help="initial weight of per-atom energies, 1/eV²")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log-minutes", type=float, default=2.0)
    parser.add_argument("--eager", action="store_true", help="do not compile")
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
