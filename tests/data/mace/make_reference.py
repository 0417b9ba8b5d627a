"""Makes the models and reference values of this folder with mace-torch 0.3.16 and e3nn 0.4.4 (never run by tests).

Usage: python make_reference.py, in an environment of its own that has mace-torch.
"""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import mace.modules as modules  # before e3nn: it switches off torch's safe loading, which e3nn 0.4.4 needs
import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from e3nn import o3
from mace import data, tools
from mace.tools import torch_geometric

HERE = Path(__file__).parent
NUMBERS = [1, 6, 7, 8, 16]
CUTOFF = 4.0
SEED = 20261121
ISOLATED = [[-13.5, -1030.25, -1486.5, -2043.75, -10834.5], [-13.0, -1029.0, -1485.0, -2042.0, -10833.0]]
KINDS = {
    "scalar": {"hidden": "12x0e"},
    "vector": {"hidden": "8x0e + 8x1o"},
    "tensor": {"hidden": "8x0e + 8x1o + 8x2e"},
    "heads": {"hidden": "8x0e + 8x1o", "heads": ["pbe", "ccsd"]},
    "residual_first": {"hidden": "8x0e + 8x1o", "first": "RealAgnosticResidualInteractionBlock"},
    "three_layers": {"hidden": "8x0e + 8x1o", "layers": 3},
}


def build(kind: dict) -> torch.nn.Module:
    """A small network with random weights that a change of any of them shows in."""
    torch.manual_seed(SEED)
    heads = kind.get("heads", ["Default"])
    one = len(heads) == 1
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes[kind.get("first", "RealAgnosticInteractionBlock")],
        num_interactions=kind.get("layers", 2),
        num_elements=len(NUMBERS),
        hidden_irreps=o3.Irreps(kind["hidden"]),
        MLP_irreps=o3.Irreps("16x0e"),
        avg_num_neighbors=6.5,
        atomic_numbers=NUMBERS,
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_energies=np.array(ISOLATED[: len(heads)]),
        radial_MLP=[16, 16],
        atomic_inter_scale=1.125 if one else [1.125, 0.875],
        atomic_inter_shift=0.25 if one else [0.25, -0.125],
        heads=heads,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            # exact in few bits: the file compresses
            parameter.copy_((parameter * 32.0).round() / 32.0)
        for name, parameter in model.named_parameters():
            # these start divided by the number of paths, too small to show
            if "symmetric_contractions" in name or name.startswith("readouts"):
                parameter.mul_(2.0)
    return model


def structures() -> dict[str, Atoms]:
    """Structures: nothing in a symmetric place, some away from the origin."""
    rng = np.random.default_rng(SEED)

    def bent(atoms: Atoms, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Atoms:
        atoms.positions += np.array(shift) + rng.normal(scale=0.05, size=atoms.positions.shape)
        return atoms

    all_elements = molecule("CH3CONH2") + molecule("CH3SH")
    all_elements.positions[9:15] += (0.3, 3.2, 0.4)
    # edges shorter than the cutoff: several images, and atoms that see their own
    small = Atoms(cell=[[3.7, 0.0, 0.0], [0.9, 3.9, 0.0], [-0.6, 0.8, 5.1]], pbc=True)
    part = molecule("CH3OH")
    part.positions += (0.4, 0.9, 0.8)
    slab = Atoms(cell=[6.0, 5.5, 9.0], pbc=[True, True, False])
    for place in ((0.1, 0.2, 0.1), (3.0, 2.7, 0.5)):
        water = molecule("H2O")
        water.positions += place
        slab += water
    return {
        "water": bent(molecule("H2O"), (1.0, 2.0, -0.5)),
        "all_elements": bent(all_elements),
        "small_cell": bent(small + part),
        "slab": bent(slab),
        "alone": Atoms("O", positions=[(0.1, 0.2, 0.3)]),
    }


def evaluate(model: torch.nn.Module, atoms: Atoms, heads: list[str], head: str) -> dict[str, np.ndarray]:
    """What the reference class says; isolated-atom energies left out where sums hide the rest."""
    config = data.config_from_atoms(atoms)
    config.head = head
    table = tools.AtomicNumberTable(NUMBERS)
    graph = data.AtomicData.from_config(config, z_table=table, cutoff=CUTOFF, heads=heads)
    batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1, shuffle=False)))
    out = model(batch.to_dict(), compute_stress=bool(atoms.pbc.all()))
    found = {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "interaction_energy": out["interaction_energy"],
        "energy": out["energy"],
        "node_energy": out["node_energy"],
        "forces": out["forces"],
        "edges": np.array(batch["edge_index"].shape[1]),
    }
    if atoms.pbc.all():
        found["stress"] = out["stress"]
    return {k: v.detach().numpy() if isinstance(v, torch.Tensor) else v for k, v in found.items()}


def main() -> None:
    torch.set_default_dtype(torch.float64)
    for name, kind in KINDS.items():
        model = build(kind)
        heads = kind.get("heads", ["Default"])
        values = {}
        for head in heads:
            for structure, atoms in structures().items():
                for key, value in evaluate(model, atoms, heads, head).items():
                    prefix = f"{structure}@{head}" if len(heads) > 1 else structure
                    values[f"{prefix}/{key}"] = value
                print(name, head, structure, float(values[f"{prefix}/interaction_energy"][0]))
        np.savez_compressed(HERE / f"{name}.npz", **values)
        file = io.BytesIO()
        torch.save(model, file)
        packed = lzma.compress(file.getvalue(), preset=9 | lzma.PRESET_EXTREME)
        (HERE / f"{name}.model.xz").write_bytes(packed)
        print(len(file.getvalue()), len(packed))


if __name__ == "__main__":
    main()
