"""Distil SO3LR into a small model: a plain trainer, resumable, for a fixed budget of wall-clock time.

    python training/mini/train.py --train a.npz b.npz --valid v.npz --out runs/mini --hours 1.0

Loss: force error plus, as extra labels that cost no second derivative, the teacher's per-atom network energies
(fading out during the run), partial charges and Hirshfeld ratios. AdamW, warm-up, cosine decay, gradient
clipping, exponential moving average of the weights. Started again with the same --out, it goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from label import PERIODIC_CUTOFF, batches, system_of
from torch import Tensor

import heliodor
from heliodor.checkpoint import save_checkpoint
from heliodor.models.so3krates import SO3kratesConfig
from heliodor.models.so3lr import SO3LR, SO3LRConfig
from heliodor.neighbors import Neighbors, find_neighbors
from heliodor.potential import evaluate_system
from heliodor.system import System

CONFIG = SO3LRConfig(
    network=SO3kratesConfig(n_features=64, n_heads=4, degrees=(1, 2, 3, 4), n_layers=2, n_basis=16, n_elements=18),
    n_hirshfeld=32,
)


@dataclass(frozen=True)
class Sample:
    """A structure as it goes into a batch: short and long pairs are found once."""

    system: System
    neighbors: Neighbors
    labels: dict[str, Tensor]


def load_samples(paths: list[Path]) -> list[Sample]:
    """Read labelled structures and find their neighbours."""
    samples = []
    for path in paths:
        data = dict(np.load(path))
        lengths = torch.where(torch.from_numpy(data["pbc"]).any(-1), PERIODIC_CUTOFF, torch.inf).double()
        for s in range(len(data["energy"])):
            system = system_of(data, range(s, s + 1))
            neighbors = find_neighbors(system, CONFIG.network.cutoff, long_range_cutoff=lengths[s : s + 1])
            atoms = slice(data["offsets"][s], data["offsets"][s + 1])
            labels = {k: torch.from_numpy(data[k][atoms]) for k in ("forces", "node_energy", "charges", "hirshfeld")}
            labels["kind"] = str(data["kind"][s])  # type: ignore[assignment]
            samples.append(Sample(system, neighbors, labels))
    return samples


def collate(samples: list[Sample]) -> tuple[System, Neighbors, dict[str, Tensor]]:
    """Concatenate structures into one batch."""
    counts = torch.tensor([s.system.n_atoms for s in samples])
    starts = (counts.cumsum(0) - counts).tolist()

    def field(name: str) -> Tensor:
        return torch.cat([getattr(s.system, name) for s in samples])

    system = System(
        **{name: field(name) for name in ("positions", "numbers", "cell", "pbc", "charge", "spin")},
        batch=torch.repeat_interleave(torch.arange(len(samples)), counts),
    )
    short = _join([s.neighbors for s in samples], starts, system)
    long = _join([s.neighbors.long_range for s in samples], starts, system)  # type: ignore[misc]
    labels = {k: torch.cat([s.labels[k] for s in samples]) for k in ("forces", "node_energy", "charges", "hirshfeld")}
    return system, Neighbors(**{**vars(short), "long_range": long}), labels


def _join(lists: list[Neighbors], starts: list[int], system: System) -> Neighbors:
    offset = None
    if any(n.offset is not None for n in lists):
        offset = torch.cat([n.offset if n.offset is not None else torch.zeros(n.n_edges, 3).double() for n in lists])
    return Neighbors(
        i=torch.cat([n.i + k for n, k in zip(lists, starts, strict=True)]),
        j=torch.cat([n.j + k for n, k in zip(lists, starts, strict=True)]),
        shift=torch.cat([n.shift for n in lists]),
        cutoff=torch.cat([n.cutoff for n in lists]),
        skin=0.0,
        half=True,
        positions=system.positions,
        cell=system.cell,
        offset=offset,
    )


def new_model(samples: list[Sample], seed: int) -> SO3LR:
    """A fresh student: repulsion from the teacher, per-element offsets from the labels."""
    torch.manual_seed(seed)
    model = SO3LR(CONFIG).float()
    teacher = heliodor.load("so3lr")
    model.zbl.load_state_dict(teacher.zbl.state_dict())
    numbers = torch.cat([s.system.numbers for s in samples])
    with torch.no_grad():
        offsets = {
            "node_energy": model.energy_offset,
            "charges": model.charge_offset,
            "hirshfeld": model.hirshfeld_offset,
        }
        for key, parameter in offsets.items():
            values = torch.cat([s.labels[key] for s in samples])
            for z in CONFIG.elements:
                if bool((numbers == z).any()):
                    parameter[z] = values[numbers == z].mean()
            if key == "node_energy":
                spread = (values - parameter[numbers]).std()
                model.energy_scale.fill_(float(spread))
        model.hirshfeld_weight.normal_(0.0, 0.1)
    model.zbl.requires_grad_(False)
    model.energy_scale.requires_grad_(False)
    return model


def errors(model: SO3LR, samples: list[Sample], batch: int = 16) -> dict[str, float]:
    """Force RMSE and MAE (meV/Å), over all structures and by kind; charge (e) and ratio RMSE."""
    squares: dict[str, list[float]] = {}
    absolute: list[Tensor] = []
    for k in range(0, len(samples), batch):
        group = samples[k : k + batch]
        system, neighbors, labels = collate(group)
        p = evaluate_system(model, system, neighbors)
        assert p.forces is not None and p.charges is not None and p.hirshfeld_ratios is not None
        delta = p.forces - labels["forces"]
        absolute.append(delta.abs().flatten())
        for name, value in (
            ("charge", p.charges - labels["charges"]),
            ("hirshfeld", p.hirshfeld_ratios - labels["hirshfeld"]),
        ):
            squares.setdefault(name, []).extend(value.square().tolist())
        for index, sample in enumerate(group):
            mine = delta[system.batch == index].square().flatten().tolist()
            squares.setdefault(str(sample.labels["kind"]), []).extend(mine)
            squares.setdefault("force", []).extend(mine)
    out = {k: math.sqrt(float(np.mean(v))) * (1.0 if k in ("charge", "hirshfeld") else 1e3) for k, v in squares.items()}
    out["force_mae"] = float(torch.cat(absolute).mean()) * 1e3
    return out


def loss_of(
    model: SO3LR, batch: tuple[System, Neighbors, dict[str, Tensor]], energy_weight: float
) -> tuple[Tensor, Tensor]:
    """Training loss and the batch's force RMSE (eV/Å)."""
    system, neighbors, labels = batch
    p = evaluate_system(model, system, neighbors, create_graph=True)
    assert p.forces is not None and p.charges is not None and p.hirshfeld_ratios is not None
    delta = (p.forces - labels["forces"]).square().sum(-1)
    # pseudo-Huber with a width of 1 eV/Å: strained structures count, but do not drown the rest
    force = (torch.sqrt(1.0 + delta) - 1.0).mean()
    node = p.node_terms["so3krates"] - labels["node_energy"]
    charge = (p.charges - labels["charges"]).square().mean()
    ratio = (p.hirshfeld_ratios - labels["hirshfeld"]).square().mean()
    total = force + energy_weight * node.square().mean() + 10.0 * charge + ratio
    return total, (delta.detach().mean() / 3.0).sqrt()


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    samples, valid = load_samples(args.train), load_samples(args.valid)
    state_file = args.out / "state.pt"
    model = new_model(samples, args.seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, betas=(0.9, 0.98), weight_decay=args.decay)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    step, spent = 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, step, spent = state["average"], state["step"], state["spent"]
    elif args.init:
        model.load_state_dict(heliodor.load(args.init).state_dict())
        average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    frozen = SO3LR(CONFIG).float()
    sizes = np.array([s.system.n_atoms for s in samples])
    budget, begun, last_log = args.hours * 3600.0, time.perf_counter() - spent, 0.0
    seen: list[float] = []
    generator = np.random.default_rng(args.seed + step)
    with (args.out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        while True:
            order = generator.permutation(len(samples))
            offsets = np.concatenate([[0], np.cumsum(sizes[order])])
            for group in batches(offsets, args.batch_atoms):
                elapsed = time.perf_counter() - begun
                progress = elapsed / budget
                if progress >= 1.0:
                    break
                rate = (
                    args.lr * min(1.0, (step + 1) / 500.0) * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress)))
                )
                optimizer.param_groups[0]["lr"] = rate
                loss, rmse = loss_of(
                    model,
                    collate([samples[k] for k in order[group.start : group.stop]]),
                    args.energy * (1.0 - progress),
                )
                optimizer.zero_grad()
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
                if bool(torch.isfinite(norm)):
                    optimizer.step()
                step += 1
                seen.append(float(rmse))
                keep = min(0.999, (1.0 + step) / (10.0 + step))
                with torch.no_grad():
                    for key, value in model.state_dict().items():
                        average[key].lerp_(value, 1.0 - keep)
                if elapsed - last_log > args.log_minutes * 60.0 or step == 200:
                    last_log = elapsed
                    frozen.load_state_dict(average)
                    e = errors(frozen, valid)
                    log.writerow(
                        [
                            step,
                            f"{elapsed:.0f}",
                            f"{rate:.2e}",
                            f"{np.mean(seen) * 1e3:.1f}",
                            *(f"{k}={v:.4g}" for k, v in e.items()),
                        ]
                    )
                    file.flush()
                    print(
                        f"{elapsed / 60:6.1f} min  step {step}  lr {rate:.1e}  train {np.mean(seen) * 1e3:.0f}  valid",
                        {k: round(v, 3) for k, v in e.items()},
                        flush=True,
                    )
                    seen.clear()
                    state = {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "average": average,
                        "step": step,
                        "spent": elapsed,
                    }
                    torch.save(state, state_file.with_suffix(".part"))
                    state_file.with_suffix(".part").replace(state_file)
            else:
                continue
            break
    frozen.load_state_dict(average)
    frozen.name = "heliodor-mini"
    save_checkpoint(frozen.double(), args.out / "heliodor-mini.safetensors", {"name": "heliodor-mini"})
    print("final", errors(frozen.float(), valid))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--valid", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", help="start from this checkpoint instead of random weights")
    parser.add_argument("--hours", type=float, default=1.0, help="budget of wall-clock time")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=1e-3, help="weight decay")
    parser.add_argument("--energy", type=float, default=0.3, help="initial weight of per-atom energies, 1/eV²")
    parser.add_argument("--batch-atoms", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log-minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
