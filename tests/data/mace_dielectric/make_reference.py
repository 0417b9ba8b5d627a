"""Makes the models and reference values of this folder with mace-torch 0.3.16 and e3nn 0.4.4 (never run by tests).

Usage: python make_reference.py, in an environment of its own that has mace-torch.
"""

from __future__ import annotations

import io
import lzma
import zipfile
from pathlib import Path

import mace.modules as modules  # before e3nn: it switches off torch's safe loading, which e3nn 0.4.4 needs
import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from e3nn import nn as e3nn_nn
from e3nn import o3
from mace import data, tools
from mace.modules.blocks import LinearDipoleReadoutBlock, NonLinearDipoleReadoutBlock
from mace.tools import torch_geometric

HERE = Path(__file__).parent
NUMBERS = [1, 6, 7, 8, 16, 17]
CUTOFF = 4.0
CHANNELS = {"dipole_polarizability": 8, "dipole_only": 8}
SEED = 20260117


def build(kind: str) -> torch.nn.Module:
    """A small network with random weights that a change of any of them shows in."""
    torch.manual_seed(SEED)
    k = CHANNELS[kind]
    hidden = f"{k}x0e + {k}x1o" + (f" + {k}x2e" if kind == "dipole_polarizability" else "")
    inside = "8x0e + 6x1o + 5x2e" if kind == "dipole_polarizability" else "8x0e + 6x1o"
    model = modules.AtomicDielectricMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=len(NUMBERS),
        hidden_irreps=o3.Irreps(hidden),
        MLP_irreps=o3.Irreps("8x0e + 6x1o + 5x2e"),
        avg_num_neighbors=2.5,
        atomic_numbers=NUMBERS,
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_energies=None,
        radial_MLP=[16, 16],
        means_stds={"dipole_mean": torch.full((3,), 0.5), "dipole_std": torch.full((3,), 2.0)},
    )
    if kind == "dipole_only":
        # what files from before mace's own gate should look like; no official one was at hand
        model.use_polarizability = False
        inner = NonLinearDipoleReadoutBlock(o3.Irreps(hidden), o3.Irreps(inside), torch.nn.functional.silu)
        silu = torch.nn.functional.silu
        inner.equivariant_nonlin = e3nn_nn.Gate(
            irreps_scalars="8x0e", act_scalars=[silu], irreps_gates="6x0e", act_gates=[silu], irreps_gated="6x1o"
        )
        model.readouts[0] = LinearDipoleReadoutBlock(o3.Irreps(hidden))
        model.readouts[1] = inner
    with torch.no_grad():
        for parameter in model.parameters():
            # exact in few bits: the file compresses
            parameter.copy_((parameter * 32.0).round() / 32.0)
        for name, parameter in model.named_parameters():
            # these start divided by the number of paths, too small to show
            if "symmetric_contractions" in name or name.startswith("readouts"):
                parameter.mul_(2.0)
    return model


def structures() -> dict[str, tuple[Atoms, float]]:
    """Structures and total charges: nothing in a symmetric place, some away from the origin."""
    rng = np.random.default_rng(SEED)

    def bent(atoms: Atoms, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Atoms:
        atoms.positions += np.array(shift) + rng.normal(scale=0.05, size=atoms.positions.shape)
        return atoms

    all_elements = molecule("CH3CONH2") + molecule("CH3SH") + molecule("CH3Cl")
    all_elements.positions[9:15] += (0.3, 3.2, 0.4)
    all_elements.positions[15:] += (3.6, 0.4, -0.5)
    box = Atoms(cell=[[6.1, 0.0, 0.0], [0.9, 5.7, 0.0], [-0.6, 0.8, 5.9]], pbc=True)
    for name, place in (("H2O", (0.1, 0.2, 0.1)), ("H2O", (0.55, 0.5, 0.4)), ("CH3OH", (0.4, 0.95, 0.8))):
        part = molecule(name)
        part.positions += np.array(place) @ box.cell.array
        box += part
    return {
        "water": (bent(molecule("H2O"), (1.0, 2.0, -0.5)), 0.0),
        "all_elements": (bent(all_elements), 0.0),
        "hydroxide": (bent(molecule("OH"), (0.7, -0.3, 0.2)), -1.0),
        "box": (bent(box), 0.0),
    }


def evaluate(model: torch.nn.Module, atoms: Atoms, charge: float) -> dict[str, np.ndarray]:
    """What the reference class says, derivatives included."""
    config = data.config_from_atoms(atoms)
    config.properties["total_charge"] = charge
    config.property_weights["total_charge"] = 1.0
    table = tools.AtomicNumberTable(NUMBERS)
    graph = data.AtomicData.from_config(config, z_table=table, cutoff=CUTOFF)
    batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1, shuffle=False)))
    assert float(batch["total_charge"]) == charge
    out = model(batch.to_dict(), compute_dielectric_derivatives=True)
    found = {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "charge": np.array(charge),
        "charges": out["charges"],
        "dipole": out["dipole"][0],
        "atomic_dipoles": out["atomic_dipoles"],
        "dmu_dr": out["dmu_dr"],
    }
    if out["polarizability"] is not None:
        found |= {"polarizability": out["polarizability"][0], "dalpha_dr": out["dalpha_dr"]}
    return {k: v.detach().numpy() if isinstance(v, torch.Tensor) else v for k, v in found.items()}


def main() -> None:
    torch.set_default_dtype(torch.float64)
    for kind in CHANNELS:
        model = build(kind)
        values = {}
        for name, (atoms, charge) in structures().items():
            for key, value in evaluate(model, atoms, charge).items():
                values[f"{name}/{key}"] = value
            print(kind, name, values[f"{name}/dipole"], values.get(f"{name}/polarizability"))
        np.savez_compressed(HERE / f"{kind}.npz", **values)
        file = io.BytesIO()
        torch.save(model, file)
        with zipfile.ZipFile(file) as archive:
            print(len(file.getvalue()), len(archive.namelist()))
        packed = lzma.compress(file.getvalue(), preset=9 | lzma.PRESET_EXTREME)
        (HERE / f"{kind}.model.xz").write_bytes(packed)
        print(len(packed))


if __name__ == "__main__":
    main()
