"""The reader of MACE files: every number of the file, and words for whatever is not computed."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch
from archives import REDUCE, Name, Num, Obj, at, irreps, linear, mace_tree, module, silu, up_to

from heliodor.convert.archive import read_archive, state_dict
from heliodor.convert.mace_file import read_mace, state_sha256
from heliodor.errors import CheckpointError
from support import shared

NUMBERS = (1, 6, 7, 8, 9, 15, 16, 17, 35, 53)
FILES = ("rand_OFF23_S", "rand_OFF23_M", "legacy033_OFF23_S")


# what is right ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual_first", [False, True])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_configuration_and_tensors(degree, residual_first, write):
    tree = mace_tree(degree=degree, residual_first=residual_first)
    file = read_mace(write(tree))
    assert file.config == {
        "r_max": 4.0,
        "numbers": (1, 6, 8),
        "channels": 2,
        "hidden_degrees": degree,
        "n_layers": 2,
        "l_max": 3,
        "correlation": 3,
        "n_bessel": 5,
        "cutoff_power": 6,
        "radial_hidden": (4, 4),
        "readout_hidden": 3,
        "avg_num_neighbors": (7.25, 8.25),
        "silu_scale": 1.6791767923989418,
        "gate_scale": 1.6791767923989418,
        "residual_first": residual_first,
        "heads": ("Default",),
    }
    skip = at(tree, "interactions.0.skip_tp").state["_parameters"]["weight"].array
    assert skip.size == (1 if residual_first else 4) * 2 * 3 * 2
    np.testing.assert_array_equal(file.tensors["interactions.0.skip_tp.weight"], skip)
    assert all(value.dtype == torch.float64 for value in file.tensors.values())
    products = [key for key in file.tensors if "U_matrix_3" in key]
    assert len(products) == degree + 2
    assert {file.tensors[key].shape[-1] for key in products} == {3}
    assert not any(key.endswith((".bias", ".output_mask", "_zeroed", "r_max")) for key in file.tensors)


def test_formats_and_heads(write):
    old = read_mace(write(mace_tree(heads=None)))
    assert (old.version, old.config["heads"]) == ("2024 format", ("Default",))
    assert old.tensors["atomic_energies_fn.atomic_energies"].shape == (3,)
    assert read_mace(write(mace_tree())).version == "current"
    several = write(mace_tree(heads=("pbe", "ccsd")))
    file = read_mace(several, "ccsd")
    assert file.config["heads"] == ("pbe", "ccsd")
    assert file.config["readout_hidden"] == 3
    assert file.tensors["atomic_energies_fn.atomic_energies"].shape == (2, 3)
    assert file.tensors["readouts.1.linear_2.weight"].shape == (12,)
    with pytest.raises(CheckpointError, match=r"several levels of theory, pbe, ccsd: choose one with"):
        read_mace(several)
    with pytest.raises(CheckpointError, match=r"no head 'dft', only pbe, ccsd"):
        read_mace(several, "dft")


def test_state_hash_survives_saving_again(write):
    """The same numbers in another file, and one bit of difference."""
    a = read_mace(write(mace_tree()))
    tree = mace_tree()
    tree.state["comment"] = "saved again"
    b = read_mace(write(tree))
    assert a.sha256 != b.sha256
    assert a.state_sha256 == b.state_sha256
    at(tree, "scale_shift").state["_buffers"]["shift"].array = np.float64(np.nextafter(0.25, 1.0))
    assert read_mace(write(tree)).state_sha256 != a.state_sha256


# the real files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_real_files(name):
    path = shared(f"weights/mace/{name}.model")
    origin, _, size = name.split("_")
    meta = json.loads(shared(f"weights/mace/{origin}_meta.json").read_text())["models"][f"OFF23_{size}"]
    file = read_mace(path)
    assert file.version == ("current" if origin == "rand" else "2024 format")
    assert path.stat().st_size == meta["bytes"]
    config = file.config
    assert (config["r_max"], config["numbers"]) == (meta["r_max"], NUMBERS)
    assert config["avg_num_neighbors"] == (meta["avg_num_neighbors"],) * 2
    assert (config["channels"], config["hidden_degrees"]) == {"S": (96, 0), "M": (128, 1)}[size]
    assert (config["n_bessel"], config["cutoff_power"]) == (8, 5)
    assert (config["radial_hidden"], config["readout_hidden"]) == ((64, 64, 64), 16)
    assert config["silu_scale"] == config["gate_scale"] == 1.6791767923989418
    assert not config["residual_first"]
    assert float(file.tensors["scale_shift.scale"]) == meta["scale"]
    assert float(file.tensors["scale_shift.shift"]) == meta["shift"]
    buffers = ("U_matrix", "bessel_fn", "atomic_energies_fn", "scale_shift")
    count = sum(v.numel() for key, v in file.tensors.items() if not any(word in key for word in buffers))
    assert count == meta["params"]
    paths = {key.rsplit(".", 2)[1:][1] for key in file.tensors if "U_matrix" in key}
    assert paths == {"U_matrix_1", "U_matrix_2", "U_matrix_3"}
    cubic = file.tensors["products.0.symmetric_contractions.contractions.0.U_matrix_3"]
    assert cubic.shape == (16, 16, 16, 23)
    if size == "S":
        # larger ones have e3nn's tables inside TorchScript, which is not read
        assert file.state_sha256 == meta["state_sha256"]


def test_reduced_couplings_come_from_the_file():
    """cuEquivariance, where installed, makes mace store fewer paths (shared/specs/mace.md, trap 3)."""
    file = read_mace(shared("weights/mace/variant_reducedcg.model"))
    assert (file.config["channels"], file.config["hidden_degrees"]) == (32, 1)
    counts = {}
    for degree in (0, 1):
        product = f"products.0.symmetric_contractions.contractions.{degree}"
        matrices = [file.tensors[f"{product}.U_matrix_{order}"] for order in (1, 2, 3)]
        counts[degree] = tuple(matrix.shape[-1] for matrix in matrices)
        assert file.tensors[f"{product}.weights_max"].shape == (10, counts[degree][2], 32)
    assert counts == {0: (1, 4, 8), 1: (1, 3, 12)}


def test_poisoned_copy_of_a_real_file(tmp_path):
    """One line put into the stored source text that torch.fx would exec(): read as if it were not there."""
    path = shared("weights/mace/rand_OFF23_S.model")
    target = tmp_path / "executed"
    with zipfile.ZipFile(path) as source:
        members = {info.filename: source.read(info) for info in source.infolist()}
    name = next(key for key in members if key.endswith("/data.pkl"))
    content = members[name]
    marker = b"import torch"
    place = content.index(marker)
    # the text's length stands in the four bytes before it
    start = content.rindex(b"X", 0, place)
    length = int.from_bytes(content[start + 1 : start + 5], "little")
    text = content[start + 5 : start + 5 + length]
    assert marker in text
    poison = text + f"\nopen({str(target)!r}, 'w').close()\n".encode()
    members[name] = content[: start + 1] + len(poison).to_bytes(4, "little") + poison + content[start + 5 + length :]
    poisoned = tmp_path / "poisoned.model"
    with zipfile.ZipFile(poisoned, "w") as out:
        for key, raw in members.items():
            out.writestr(key, raw)
    a, b = read_mace(path), read_mace(poisoned)
    assert not target.exists()
    assert a.config == b.config
    assert a.state_sha256 == b.state_sha256
    assert a.sha256 != b.sha256


# what is not computed ---------------------------------------------------------------------------------------


def with_attribute(path: str, key: str, value: object):
    def change(tree: Obj) -> None:
        (at(tree, path) if path else tree).state[key] = value

    return change


def with_class(path: str, name: str):
    def change(tree: Obj) -> None:
        (at(tree, path) if path else tree).name = name

    return change


def with_module(path: str, key: str, value: Obj):
    def change(tree: Obj) -> None:
        (at(tree, path) if path else tree).state["_modules"][key] = value

    return change


def with_array(path: str, group: str, key: str, array: object):
    def change(tree: Obj) -> None:
        (at(tree, path) if path else tree).state[group][key] = Num(np.asarray(array))

    return change


def with_instruction(path: str, place: int, index: int, value: object):
    def change(tree: Obj) -> None:
        instruction = at(tree, path).state["instructions"][index]
        fields = list(instruction.arguments)
        fields[place] = value
        instruction.arguments = tuple(fields)

    return change


def without(path: str, group: str, key: str):
    def change(tree: Obj) -> None:
        del (at(tree, path) if path else tree).state[group][key]

    return change


def swapped(tree: Obj) -> None:
    instructions = at(tree, "interactions.1.conv_tp").state["instructions"]
    instructions[0], instructions[1] = instructions[1], instructions[0]


def tanh() -> Obj:
    activation = silu()
    activation.state["f"] = Name("torch.nn.functional.tanh")
    return activation


BLOCKS = "mace.modules.blocks."
CONTRACTION = "products.0.symmetric_contractions.contractions"
REFUSED = {
    "ZBL": (with_attribute("", "pair_repulsion", True), "a ZBL pair repulsion"),
    "ZBL module": (with_module("", "pair_repulsion_fn", module("mace.modules.radial.ZBLBasis")), "a ZBL pair"),
    "Agnesi": (
        with_module("radial_embedding", "distance_transform", module("mace.modules.radial.AgnesiTransform")),
        "Agnesi or Soft distance transform",
    ),
    "joint embedding": (with_module("", "joint_embedding", module("mace.modules.blocks.X")), "a joint embedding"),
    "embedding specs": (with_attribute("", "embedding_specs", {"charge": 1}), "embeddings of charge"),
    "agnostic product": (with_attribute("", "use_agnostic_product", True), "element-agnostic product"),
    "agnostic product block": (with_attribute("products.1", "use_agnostic_product", True), "element-agnostic"),
    "last readout": (with_attribute("", "use_last_readout_only", True), "last readout only"),
    "so3": (with_attribute("", "use_so3", True), "use_so3"),
    "edge irreps": (with_attribute("", "edge_irreps", irreps((2, 0), (2, 1))), "edge features"),
    "edge irreps first": (with_attribute("", "use_edge_irreps_first", True), "edge features"),
    "cutoff": (with_attribute("", "apply_cutoff", False), "apply_cutoff=False"),
    "cutoff of the radial part": (with_attribute("radial_embedding", "apply_cutoff", False), "apply_cutoff=False"),
    "a switch that is no truth value": (with_attribute("", "use_so3", 1), "use_so3"),
    "density": (
        with_class("interactions.0", f"{BLOCKS}RealAgnosticDensityInteractionBlock"),
        "density-normalised messages as interactions.0",
    ),
    "another block": (
        with_class("interactions.1", f"{BLOCKS}RealAgnosticAttResidualInteractionBlock"),
        "RealAgnosticAttResidualInteractionBlock as interactions.1",
    ),
    "second block not residual": (
        with_class("interactions.1", f"{BLOCKS}RealAgnosticInteractionBlock"),
        "RealAgnosticInteractionBlock as interactions.1",
    ),
    "block of another family": (
        with_class("interactions.0", "mace.modules.wrapper.RealAgnosticInteractionBlock"),
        "as interactions.0",
    ),
    "gaussian": (with_class("radial_embedding.bessel_fn", "mace.modules.radial.GaussianBasis"), "GaussianBasis"),
    "readout": (with_class("readouts.1", f"{BLOCKS}NonLinearBiasReadoutBlock"), "NonLinearBiasReadoutBlock"),
    "three layers": (with_module("interactions", "2", module("mace.modules.x")), "3 interactions with 2 products"),
    "one readout": (without("readouts", "_modules", "1"), "2 interactions with 1 readouts"),
    "number of layers": (with_array("", "_buffers", "num_interactions", 3), "2 interactions that say they are 3"),
    "tanh": (
        with_module("readouts.1.non_linearity.acts", "0", tanh()),
        "activation tanh instead of silu in the readout",
    ),
    "radial tanh": (with_module("interactions.0.conv_tp_weights.layer1", "act", tanh()), "activation tanh"),
    "no gate": (with_attribute("readouts.1.non_linearity", "_modules", {}), "readout"),
    "radial network": (with_class("interactions.0.conv_tp_weights", "mace.modules.radial.RadialMLP"), "RadialMLP"),
    "radial variance": (with_attribute("interactions.0.conv_tp_weights.layer0", "var_in", 2), "normalisation"),
    "harmonics not normalised": (with_attribute("spherical_harmonics", "normalize", False), "another normalisation"),
    "norm": (with_attribute("spherical_harmonics", "normalization", "norm"), "another normalisation"),
    "l to 2": (with_attribute("spherical_harmonics", "_ls_list", [0, 1, 2]), "degrees 0 to 3"),
    "correlation": (with_attribute(f"{CONTRACTION}.0", "correlation", 2), "correlation order other than 3"),
    "order of paths": (swapped, "a convolution with other paths"),
    "factor of a path": (with_instruction("interactions.1.conv_tp", 5, 2, 1.0), "a convolution with other paths"),
    "mode of a path": (with_instruction("interactions.0.conv_tp", 3, 0, "uuu"), "a convolution with other paths"),
    "factor of a linear map": (with_instruction("interactions.0.linear_up", 3, 0, 1.0), "another normalisation"),
    "factor of the mixing": (with_instruction("interactions.0.skip_tp", 5, 3, 1.0), "another normalisation"),
    "bias": (with_array("readouts.0.linear", "_buffers", "bias", [1.0]), "a bias, in readouts.0.linear"),
    "parity": (with_attribute("interactions.0", "hidden_irreps", irreps((2, 0), (2, 1), parity=1)), "unusual parity"),
    "degrees of different width": (
        with_attribute("interactions.0", "hidden_irreps", irreps((2, 0), (3, 1))),
        "degrees of different or missing channels",
    ),
    "L = 3": (with_attribute("interactions.0", "hidden_irreps", irreps(*up_to(2, 3))), "messages of degree 3"),
    "no residual connection": (with_attribute("products.1", "use_sc", False), "unusual residual connection"),
    "cutoffs that differ": (with_array("radial_embedding.cutoff_fn", "_buffers", "r_max", 5.0), "different cutoffs"),
    "unknown parameters": (with_array("", "_parameters", "charge", [1.0, 2.0]), r"unknown kind \(charge\)"),
    "paths switched off": (
        with_array(f"{CONTRACTION}.1", "_buffers", "weights_max_zeroed", True),
        "unknown kind",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_words(name, write):
    change, words = REFUSED[name]
    tree = mace_tree()
    change(tree)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_mace(write(tree))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mace.modules.models.MACE", "without scale and shift"),
        ("mace.modules.models.AtomicDipolesMACE", "dipoles"),
        ("mace.modules.extensions.MACELES", "latent Ewald"),
        ("mace.modules.models.Unheard", "Unheard, not a MACE model"),
        ("torch.nn.modules.linear.Linear", "not a MACE model"),
    ],
)
def test_other_models(name, words, write):
    tree = mace_tree()
    tree.name = name
    with pytest.raises(CheckpointError, match=words):
        read_mace(write(tree))


DAMAGED = {
    "missing tensor": without("interactions.0.linear", "_parameters", "weight"),
    "missing buffer": without("", "_buffers", "r_max"),
    "missing module": without("", "_modules", "scale_shift"),
    "wrong shape": with_array("node_embedding.linear", "_parameters", "weight", np.zeros(7)),
    "shape of U": with_array(f"{CONTRACTION}.0", "_buffers", "U_matrix_3", np.zeros((16, 16, 3))),
    "U without axes": with_array(f"{CONTRACTION}.0", "_buffers", "U_matrix_1", 1.0),
    "not finite": with_array("scale_shift", "_buffers", "scale", np.nan),
    "elements twice": with_array("", "_buffers", "atomic_numbers", [1, 1, 8]),
    "elements in no order": with_array("", "_buffers", "atomic_numbers", [8, 6, 1]),
    "element 0": with_array("", "_buffers", "atomic_numbers", [0, 6, 8]),
    "element 130": with_array("", "_buffers", "atomic_numbers", [1, 6, 130]),
    "no elements": with_array("", "_buffers", "atomic_numbers", np.zeros(0, dtype="<i8")),
    "no neighbours": with_attribute("interactions.0", "avg_num_neighbors", 0.0),
    "neighbours in words": with_attribute("interactions.0", "avg_num_neighbors", "many"),
    "neighbours missing": with_attribute("interactions.1", "avg_num_neighbors", None),
    "negative cutoff": with_array("", "_buffers", "r_max", -1.0),
    "broken power": with_array("radial_embedding.cutoff_fn", "_buffers", "p", 5.5),
    "power that is no number": with_array("radial_embedding.cutoff_fn", "_buffers", "p", np.nan),
    "cutoffs in plural": with_array("", "_buffers", "r_max", [4.0, 4.0]),
    "irreps that are none": with_attribute("interactions.0", "hidden_irreps", "2x0e"),
    "no irreps": with_attribute("interactions.0", "hidden_irreps", irreps()),
    "instructions that are none": with_attribute("interactions.0.conv_tp", "instructions", [1, 2]),
    "instruction of a path that is not there": with_instruction("interactions.0.conv_tp", 2, 0, 99),
    "heads that are none": with_attribute("", "heads", [1]),
    "no heads": with_attribute("", "heads", []),
    "cst": with_attribute("interactions.0.conv_tp_weights.layer0.act", "cst", "1.67"),
    "hidden width": with_attribute("interactions.0.conv_tp_weights.layer0", "h_out", 9),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(name, write):
    tree = mace_tree()
    DAMAGED[name](tree)
    with pytest.raises(CheckpointError) as caught:
        read_mace(write(tree))
    assert "\n" not in str(caught.value)


def test_no_model_at_all(write, tmp_path):
    for value in ({"state_dict": {}}, [], 3, Obj("collections.OrderedDict", call=REDUCE)):
        with pytest.raises(CheckpointError, match="no model"):
            read_mace(write(value))
    with pytest.raises(CheckpointError, match="no such model file"):
        read_mace(tmp_path / "absent.model")


def test_old_files_join_equal_degrees(write):
    """mace 0.3.3 wrote 256x0e where 0.3.16 writes 128x0e+128x0e: the same weights (shared/specs/mace.md, 2.10)."""
    tree = mace_tree()
    expected = read_mace(write(tree)).tensors["interactions.1.linear.weight"]
    joined = linear(np.random.default_rng(0), [(4, 0), (6, 1), (6, 2), (4, 3)], up_to(2, 3))
    joined.state["_parameters"] = at(tree, "interactions.1.linear").state["_parameters"]
    at(tree, "interactions.1").state["_modules"]["linear"] = joined
    assert torch.equal(read_mace(write(tree)).tensors["interactions.1.linear.weight"], expected)


def test_state_hash_is_over_names_and_bytes(write):
    state = state_dict(read_archive(write(mace_tree())).root)
    renamed = {key.replace("scale_shift", "shift_scale"): value for key, value in state.items()}
    assert state_sha256(state) == state_sha256(dict(reversed(state.items()))) != state_sha256(renamed)
