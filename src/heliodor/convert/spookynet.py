"""Reader of SpookyNet's own parameter files (.pth), which executes nothing.

The files of <https://github.com/OUnke/SpookyNet> hold hyperparameters and a state dict side by side. Older ones lack
some hyperparameters and have other names for the same parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heliodor.convert.archive import read_archive
from heliodor.errors import CheckpointError, InputError
from heliodor.physics.d4 import d4_tables
from heliodor.potentials.spookynet import N_ELEMENTS, SpookyNet, SpookyNetConfig, electron_configurations
from heliodor.potentials.spookynet_blocks import Depths
from heliodor.registry import official_model

_READERS = ("x", "s", "p", "d")
_OLD_NAMES = (
    (r"(local_interaction|embedding)\.(residual|activation)_([a-z]+)\.", r"\1.resblock_\3.\2."),
    (r"local_interaction\.linear_([a-z]+)\.", r"local_interaction.resblock_\1.linear."),
    (r"embedding\.linear_([a-pr-z])\.", r"embedding.resblock_\1.linear."),
    (r"\.local_interaction\.(residual|activation|linear)\.", r".local_interaction.resblock.\1."),
    (r"^(module\.\d+)\.output\.", r"\1.resblock."),
    (r"activation_pre\b", "activation1"),
    (r"activation_post\b", "activation2"),
)


def convert_spookynet(path: str | Path) -> SpookyNet:
    """Build our SpookyNet from a file of the original one; every number must be used, none may be missing.

    Elements are those whose row of the embedding is not zero. An official file is known by its SHA-256, and gets its
    licence and citation into its card.

    Raises:
        CheckpointError: not such a file, damaged, or parameters missing, left over or of another shape.
    """
    archive = read_archive(path)
    root = archive.root
    if not isinstance(root, dict) or not isinstance(root.get("state_dict"), dict):
        raise CheckpointError(f"{path} does not hold SpookyNet parameters")
    stored = {key: value for key, value in root["state_dict"].items() if isinstance(value, Tensor)}
    try:
        flat = _current_names(stored)
        config = _config(root, flat)
        converted = _convert(flat, config)
        model = SpookyNet(config).double()
        model.load_state_dict({key: value.double() for key, value in converted.items()})
    except KeyError as error:
        raise CheckpointError(f"{path} lacks {error}") from None
    except (RuntimeError, InputError, ValueError, TypeError, IndexError) as error:
        raise CheckpointError(f"{path} does not fit the SpookyNet architecture: {error}") from None
    if flat:
        raise CheckpointError(f"{path} holds parameters this model does not have: {', '.join(sorted(flat)[:4])}")
    if not all(bool(value.isfinite().all()) for value in converted.values()):
        raise CheckpointError(f"{path} holds parameters that are not finite")
    known = official_model(archive.sha256)
    model.name = Path(path).stem if known is None else known.name
    model.card = {"name": model.name, "source_sha256": archive.sha256}
    if known is not None:
        model.card |= {"licence": known.licence, "citation": known.citation, "summary": known.summary}
    return model


def _current_names(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict by the names of today's files."""
    if not any("local_interaction.residual_" in key for key in stored):
        return dict(stored)
    flat = {}
    for key, value in stored.items():
        for old, new in _OLD_NAMES:
            key = re.sub(old, new, key)
        flat[key] = value
    for key in [key for key in flat if re.search(r"\.projection_[pd]1\.weight$", key)]:
        second = key.replace("1.weight", "2.weight")
        flat[key.replace("1.weight", ".weight")] = torch.cat([flat.pop(key), flat.pop(second)])
    return flat


def _config(root: Mapping[str, Any], flat: dict[str, Tensor]) -> SpookyNetConfig:
    depths = Depths(**{name: int(root[f"num_residual_{name}"]) for name in Depths.__dataclass_fields__})
    cutoff = root["lr_cutoff"]
    rows = flat["nuclear_embedding.element_embedding"]
    if len(rows) != N_ELEMENTS:
        raise ValueError(f"its tables have {len(rows)} elements, not {N_ELEMENTS}")
    # embeddings of exactly zero have never been trained
    known = rows.ne(0).any(dim=1).nonzero().squeeze(1).tolist()
    return SpookyNetConfig(
        n_features=int(root["num_features"]),
        n_modules=int(root["num_modules"]),
        n_basis=int(root["num_basis_functions"]),
        cutoff=float(root["cutoff"]),
        long_range_cutoff=None if cutoff is None else float(cutoff),
        basis=str(root["basis_functions"]),
        exp_weighting=bool(root["exp_weighting"]),
        activation=str(root["activation"]),
        depths=depths,
        module_keep_prob=float(root["module_keep_prob"]),
        zbl=bool(root["use_zbl_repulsion"]),
        electrostatics=bool(root["use_electrostatics"]),
        dispersion=bool(root["use_d4_dispersion"]),
        irreducible=bool(root.get("use_irreps", False)),
        nonlinear_embedding=bool(root.get("use_nonlinear_embedding", True)),
        single_precision_tables=_take_tables(flat),
        elements=tuple(z for z in known if z > 0),
    )


def _take_tables(flat: dict[str, Tensor]) -> bool:
    """Take out the constants that every file carries; whether they are rounded to float32.

    Raises:
        ValueError: they are not ours, in neither precision.
    """
    ours: dict[str, np.ndarray] = {"nuclear_embedding.electron_config": electron_configurations()}
    if any(key.startswith("d4_dispersion_energy.") for key in flat):
        tables = dict(d4_tables())
        cn, count = tables.pop("cn"), tables.pop("n_gaussians")
        mask = (np.arange(3) < count[..., None]).astype(np.float64)
        tables |= {
            "cn": np.repeat(cn[..., None], 3, axis=-1),
            "ncount_mask": mask,
            "ncount_weight": mask * np.arange(1, 4),
        }
        ours |= {f"d4_dispersion_energy.{name}": values for name, values in tables.items()}
    rounded = exact = True
    for key, values in ours.items():
        found, table = flat.pop(key), torch.from_numpy(values)
        if found.shape != table.shape:
            raise ValueError(f"the table {key} has another shape")
        exact &= torch.equal(found.double(), table.double())
        rounded &= torch.equal(found.double(), table.float().double())
    if not (exact or rounded):
        raise ValueError("its tables of elements or of dispersion are not those of SpookyNet")
    # what follows from the rest of the file: alpha is only there for what is not computed here
    for key in ("keep_prob", "d4_dispersion_energy.alpha", "d4_dispersion_energy.refc6"):
        flat.pop(key, None)
    for key in ("logc", "n", "v", "center", "width"):
        flat.pop(f"radial_basis_functions.{key}", None)
    for key in ("idx", "mul", "nuclear_embedding.embedding"):
        flat.pop(key, None)
    return not exact


def _convert(flat: dict[str, Tensor], config: SpookyNetConfig) -> dict[str, Tensor]:
    """Our names and layouts; consumes `flat`."""
    out: dict[str, Tensor] = {}
    n = config.depths

    def move(target: str, source: str) -> None:
        out[target] = flat.pop(source)

    def dense(target: str, sources: Sequence[str], bias: bool) -> None:
        out[f"{target}.weight"] = torch.stack([flat.pop(f"{source}.weight") for source in sources])
        if bias:
            out[f"{target}.bias"] = torch.stack([flat.pop(f"{source}.bias") for source in sources]).unsqueeze(1)

    def activation(target: str, sources: Sequence[str]) -> None:
        for part in ("alpha", "beta"):
            out[f"{target}.{part}"] = torch.stack([flat.pop(f"{source}.{part}") for source in sources]).unsqueeze(1)

    def stack(target: str, sources: Sequence[str], depths: Sequence[int], bias: bool = True) -> None:
        for level in range(max(depths)):
            deep = [f"{s}.stack.{level}" for s, depth in zip(sources, depths, strict=True) if depth > level]
            for k in (1, 2):
                activation(f"{target}.blocks.{level}.activation_{k}", [f"{s}.activation{k}" for s in deep])
                dense(f"{target}.blocks.{level}.linear_{k}", [f"{s}.linear{k}" for s in deep], bias)

    def mlp(target: str, sources: Sequence[str], depths: Sequence[int], bias: bool = True) -> None:
        stack(f"{target}.stack", [f"{s}.residual" for s in sources], depths, bias)
        activation(f"{target}.activation", [f"{s}.activation" for s in sources])
        dense(f"{target}.linear", [f"{s}.linear" for s in sources], bias)

    move("element_bias", "element_bias")
    move("element", "nuclear_embedding.element_embedding")
    move("element_electrons.weight", "nuclear_embedding.config_linear.weight")
    for target, source in (("charge_embedding", "charge_embedding"), ("spin_embedding", "magmom_embedding")):
        move(f"{target}.query.weight", f"{source}.linear_q.weight")
        if config.nonlinear_embedding:
            move(f"{target}.key.weight", f"{source}.featurize_k.weight")
            move(f"{target}.key.bias", f"{source}.featurize_k.bias")
            move(f"{target}.value.weight", f"{source}.featurize_v.weight")
            mlp(f"{target}.key_output", [f"{source}.resblock_k"], [n.electron])
            mlp(f"{target}.value_output", [f"{source}.resblock_v"], [n.electron], bias=False)
        else:
            move(f"{target}.query.bias", f"{source}.linear_q.bias")
            move(f"{target}.key.weight", f"{source}.linear_k.weight")
            move(f"{target}.value.weight", f"{source}.linear_v.weight")
            mlp(f"{target}.output", [f"{source}.resblock"], [n.electron], bias=False)
    if config.basis.startswith("exp-"):
        move("radial.raw_alpha", "radial_basis_functions._alpha")
    for t in range(config.n_modules):
        source, target = f"module.{t}", f"interactions.{t}"
        local, far = f"{source}.local_interaction", f"{source}.nonlocal_interaction"
        stack(f"{target}.pre", [f"{source}.residual_pre"], [n.pre])
        readers = [f"{local}.resblock_{part}" for part in _READERS] + [f"{far}.resblock_{part}" for part in "qkv"]
        depths = [n.local_x, n.local_s, n.local_p, n.local_d, n.nonlocal_q, n.nonlocal_k, n.nonlocal_v]
        mlp(f"{target}.readers", readers, depths)
        radial = [flat.pop(f"{local}.radial_{part}.weight") for part in "spd"]
        out[f"{target}.radial.weight"] = torch.cat(radial)
        for part in "pd":
            move(f"{target}.projection_{part}.weight", f"{local}.projection_{part}.weight")
        mlp(f"{target}.local", [f"{local}.resblock"], [n.local])
        move(f"{target}.attention.omega", f"{far}.attention.omega")
        stack(f"{target}.post", [f"{source}.residual_post"], [n.post])
        mlp(f"{target}.output", [f"{source}.resblock"], [n.output])
    move("output.weight", "output.weight")
    if config.zbl:
        zbl = "zbl_repulsion_energy"
        out["zbl.exponents"] = torch.cat([flat.pop(f"{zbl}._a{k}").view(1) for k in range(1, 5)])
        out["zbl.coefficients"] = torch.cat([flat.pop(f"{zbl}._c{k}").view(1) for k in range(1, 5)])
        out["zbl.power"] = flat.pop(f"{zbl}._apow").view(1)
        out["zbl.inverse_length"] = flat.pop(f"{zbl}._adiv").view(1)
    if config.dispersion:
        for name, key in (("s6", "_s6"), ("s8", "_s8"), ("a1", "_a1"), ("a2", "_a2"), ("charge_scale", "_scaleq")):
            move(f"d4.{name}", f"d4_dispersion_energy.{key}")
    return out
