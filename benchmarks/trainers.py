"""What training.py compares: one trainer in one process, asked for forces and for time by lines on its standard input.

    python trainers.py NAME SETTINGS

SETTINGS is a JSON file. Every trainer is a function from settings to (forces of the first batch before training,
a step that trains on one batch and says how many structures it had). Batches are put together and neighbour lists
found as each trainer does it; lists beforehand where it keeps them.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import ase.io
import numpy as np

Made = tuple[Callable[[], np.ndarray], Callable[[], int]]


def heliodor(settings: dict[str, Any]) -> Made:
    import torch

    from heliodor import load
    from heliodor.label.label import Label
    from heliodor.potential import evaluate_system
    from heliodor.train.batches import find_lists
    from heliodor.train.dataset import Dataset
    from heliodor.train.losses import make_loss
    from heliodor.train.models import new_model
    from heliodor.train.run import advance, new_run
    from heliodor.train.settings import TrainSettings
    from heliodor.train.stepper import Stepper

    torch.set_num_threads(1)
    frames = ase.io.read(settings["structures"], index=":")
    labels = [Label(f.get_potential_energy(), f.get_forces()) for f in frames]
    data = Dataset.from_atoms(frames, labels)
    if settings["architecture"] == "mace":
        model = load(settings["model"], device="cpu", dtype="float32", kernels="reference").requires_grad_(True)
    else:
        model = new_model(settings["architecture"], settings["size"], data.elements, data).float()
    chosen = TrainSettings(epochs=1, loss="mse", batch_size=settings["batch"], clip=3.0, optimizer="amsgrad")
    learner = model.train()
    lists = find_lists(data, learner, None)
    loss = make_loss(chosen, lists, frozenset())
    run = new_run(learner, loss, chosen)
    step = Stepper(learner, loss, lists, None)  # type: ignore[arg-type]
    order = np.arange(len(data)).reshape(-1, settings["batch"])
    taken = 0

    def forces() -> np.ndarray:
        batch = lists.batch(order[0])
        found = evaluate_system(learner, batch.system, batch.neighbors(batch.system)).forces
        assert found is not None
        return found.double().numpy()

    def one() -> int:
        nonlocal taken
        rows = order[taken % len(order)]
        advance(run, step, [step.batch(rows)], lists, chosen)
        taken += 1
        return len(rows)

    return forces, one


def mace_torch(settings: dict[str, Any]) -> Made:
    import torch
    from mace import data, modules
    from mace.tools import AtomicNumberTable, torch_geometric, torch_tools
    from mace.tools.train import take_step

    torch.set_num_threads(1)
    torch_tools.set_default_dtype("float32")
    from e3nn import o3
    from torch_ema import ExponentialMovingAverage

    frames = ase.io.read(settings["structures"], index=":")
    elements = sorted({int(z) for f in frames for z in f.numbers})
    table = AtomicNumberTable(elements)
    k, degree = settings["channels"], settings["degree"]
    torch.manual_seed(1)
    model = modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps(" + ".join(f"{k}x{d}{'eo'[d % 2]}" for d in range(degree + 1))),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(elements)),
        avg_num_neighbors=14.0,
        atomic_numbers=elements,
        correlation=3,
        gate=torch.nn.functional.silu,
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    torch.save(model, settings["model"])
    keys = data.KeySpecification(info_keys={"energy": "energy"}, arrays_keys={"forces": "forces"})
    graphs = []
    for frame in frames:
        frame.info["energy"], frame.arrays["forces"] = frame.get_potential_energy(), frame.get_forces()
        frame.calc = None
        made = data.config_from_atoms(frame, key_specification=keys)
        graphs.append(data.AtomicData.from_config(made, z_table=table, cutoff=5.0))
    loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=settings["batch"], shuffle=False)
    loss = modules.WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=True, weight_decay=0.0)
    average = ExponentialMovingAverage(model.parameters(), decay=0.999)
    asked = {"forces": True, "virials": False, "stress": False}

    def forces() -> np.ndarray:
        found = model(next(iter(loader)).to_dict(), compute_force=True)["forces"]
        return found.detach().double().numpy()

    return forces, _steps(loader, take_step, model, loss, optimizer, average, asked)


def so3krates_torch(settings: dict[str, Any]) -> Made:
    import torch
    from so3krates_torch.data.utils import KeySpecification
    from so3krates_torch.modules.loss import WeightedEnergyForcesLoss
    from so3krates_torch.modules.models import SO3LR
    from so3krates_torch.tools.train import take_step
    from so3krates_torch.tools.utils import AtomicNumberTable, create_dataloader_from_list
    from torch_ema import ExponentialMovingAverage

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    frames = ase.io.read(settings["structures"], index=":")
    for frame in frames:
        frame.info["REF_energy"], frame.arrays["REF_forces"] = frame.get_potential_energy(), frame.get_forces()
        frame.calc = None
    loader = create_dataloader_from_list(
        atoms_list=frames,
        batch_size=settings["batch"],
        r_max=4.5,
        r_max_lr=100.0,
        key_specification=KeySpecification(info_keys={"energy": "REF_energy"}, arrays_keys={"forces": "REF_forces"}),
        shuffle=False,
        z_table=AtomicNumberTable(list(range(1, 119))),
    )
    size = settings["size"]
    model = SO3LR(
        r_max=4.5,
        r_max_lr=100.0,
        dispersion_energy_cutoff_lr_damping=2.0,
        num_radial_basis_fn=size["n_basis"],
        radial_basis_fn="bernstein",
        degrees=[1, 2, 3, 4],
        num_features=size["n_features"],
        num_heads=4,
        num_layers=size["n_layers"],
        avg_num_neighbors=13.0,
        cutoff_fn="phys",
        use_charge_embed=True,
        use_spin_embed=True,
        layer_normalization_1=True,
        layer_normalization_2=True,
        residual_mlp_1=True,
        energy_regression_dim=size["n_features"],
        dtype=torch.float32,
        seed=1,
    ).train()
    loss = WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=True)
    average = ExponentialMovingAverage(model.parameters(), decay=0.999)
    asked = {"forces": True, "virials": False, "stress": False}
    return lambda: np.zeros(0), _steps(loader, take_step, model, loss, optimizer, average, asked)


def _steps(loader: Any, take_step: Any, model: Any, loss: Any, optimizer: Any, average: Any, asked: Any) -> Any:
    """One batch after the other by the peer's own step."""
    waiting = iter(loader)

    def one() -> int:
        nonlocal waiting
        batch = next(waiting, None)
        if batch is None:
            waiting = iter(loader)
            batch = next(waiting)
        take_step(model, loss, batch, optimizer, average, asked, 10.0, "cpu")
        return int(batch.num_graphs)

    return one


TRAINERS = {"heliodor": heliodor, "mace-torch": mace_torch, "so3krates-torch": so3krates_torch}


def main() -> None:
    warnings.simplefilter("ignore")
    with open(sys.argv[2]) as file:
        settings = json.load(file)
    said = sys.stdout
    sys.stdout = sys.stderr
    forces, step = TRAINERS[sys.argv[1]](settings)
    print(json.dumps({"forces": forces().tolist()}), file=said, flush=True)
    for _ in range(3):
        step()
    for line in sys.stdin:
        # of the processor, so that other jobs of the machine count as little as possible
        seconds, count, begun = float(line), 0, time.process_time()
        while time.process_time() - begun < seconds:
            count += step()
        print(json.dumps({"structures_per_second": count / (time.process_time() - begun)}), file=said, flush=True)


if __name__ == "__main__":
    main()
