"""MACE against its reference code, and what must hold for any such model."""

import lzma
from dataclasses import replace
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.checkpoint import load_checkpoint, save_checkpoint
from heliodor.convert.mace import build_mace, convert_mace
from heliodor.convert.mace_file import read_mace
from heliodor.errors import CheckpointError, ModelError
from heliodor.fetch import import_model
from heliodor.potential import evaluate_system
from heliodor.potentials.couplings import convolution_paths, monomials, product_couplings, wigner_3j
from heliodor.potentials.mace import MACE, MACEConfig
from heliodor.system import System
from support import shared

DATA = Path(__file__).parent / "data" / "mace"
KINDS = ("scalar", "vector", "tensor", "heads", "residual_first", "three_layers")
STRUCTURES = ("water", "all_elements", "small_cell", "slab", "alone")


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """Path of a model file by its kind."""
    folder = tmp_path_factory.mktemp("mace")

    def unpack(kind):
        path = folder / f"{kind}.model"
        if not path.exists():
            path.write_bytes(lzma.decompress((DATA / f"{kind}.model.xz").read_bytes()))
        return path

    return unpack


def reference(kind, structure):
    values = np.load(DATA / f"{kind}.npz")
    found = {key.split("/")[1]: values[key] for key in values.files if key.split("/")[0] == structure}
    return ase.Atoms(found["numbers"], found["positions"], cell=found["cell"], pbc=found["pbc"]), found


def compare(model, atoms, expected, energy=1e-12, forces=1e-12, stress=1e-13):
    system = System.from_atoms(atoms)
    neighbors = model.neighbors(system)
    periodic = bool(atoms.pbc.all())
    p = evaluate_system(model, system, neighbors, stress=periodic)
    assert 2 * neighbors.n_edges == int(expected["edges"])
    assert float(p.terms["mace"]) == pytest.approx(float(expected["interaction_energy"][0]), abs=energy)
    # isolated-atom energies of 1e4 eV: the last digits
    np.testing.assert_allclose(p.node_energy, expected["node_energy"], rtol=1e-14, atol=energy)
    np.testing.assert_allclose(p.forces, expected["forces"], atol=forces)
    if periodic:
        np.testing.assert_allclose(p.stress[0], expected["stress"].reshape(3, 3), atol=stress)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_code_says_the_same(official, kind):
    for head in ("pbe", "ccsd") if kind == "heads" else (None,):
        model = convert_mace(official(kind), head)
        for structure in STRUCTURES:
            atoms, expected = reference(kind, structure if head is None else f"{structure}@{head}")
            compare(model, atoms, expected)


def test_a_batch_is_its_structures(official):
    model = convert_mace(official("vector"))
    frames = [reference("vector", structure)[0] for structure in STRUCTURES]
    together = evaluate_system(model, System.from_atoms(frames))
    energies = [float(reference("vector", structure)[1]["interaction_energy"][0]) for structure in STRUCTURES]
    np.testing.assert_allclose(together.terms["mace"], energies, atol=1e-12)


def test_two_heads_must_be_chosen_between(official):
    with pytest.raises(CheckpointError, match=r"pbe.*ccsd"):
        convert_mace(official("heads"))
    with pytest.raises(CheckpointError, match="b3lyp"):
        convert_mace(official("heads"), "b3lyp")


@pytest.mark.parametrize("kind", ["vector", "residual_first"])
def test_our_checkpoint_holds_all_of_it(official, kind, tmp_path):
    model = convert_mace(official(kind))
    save_checkpoint(model, tmp_path / "m.safetensors")
    again = load_checkpoint(tmp_path / "m.safetensors")
    atoms, expected = reference(kind, "small_cell")
    compare(again, atoms, expected)
    assert again.config == model.config


def test_float32_has_no_grain(official):
    exact, single = (heliodor.load(official("vector"), dtype=d, kernels="reference") for d in ("float64", "float32"))
    atoms, _ = reference("vector", "all_elements")
    a, b = heliodor.evaluate(exact, atoms), heliodor.evaluate(single, atoms)
    # float32 numbers near -2e4 eV are 2e-3 eV apart
    assert float(a.energy) < -1e4
    assert abs(float(a.energy - b.energy)) < 5e-6
    np.testing.assert_allclose(a.forces, b.forces, atol=2e-5)


def test_charges_are_refused_and_unpaired_electrons_told(official):
    model = heliodor.load(official("scalar"))
    ammonium = molecule("NH3") + ase.Atoms("H", positions=[(0.0, 0.0, 1.2)])
    with pytest.raises(ModelError, match="total charge is \\+1 and scalar has no notion of charge"):
        heliodor.evaluate(model, ammonium, charge=1)
    with pytest.warns(UserWarning, match="unpaired"):
        heliodor.evaluate(model, molecule("NO"), spin=1)
    with pytest.raises(ModelError, match="is F: scalar knows only H C N O S"):
        heliodor.evaluate(model, molecule("HF"))


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_a_model_made_here_turns_with_its_atoms(degree):
    torch.manual_seed(3)
    config = MACEConfig(4.0, (1, 6, 7, 8), 6, (degree, 0), (0.0,) * 4, (7.0, 7.0), radial_hidden=(8,))
    model = MACE(config)
    atoms = molecule("CH3CONH2")
    plain = heliodor.evaluate(model, atoms)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]  # a reflection as well as not
    for turn in (rotation, -rotation):
        turned = atoms.copy()
        turned.positions = atoms.positions @ turn.T
        p = heliodor.evaluate(model, turned)
        assert float(p.energy) == pytest.approx(float(plain.energy), abs=1e-12)
        np.testing.assert_allclose(p.forces, plain.forces.numpy() @ turn.T, atol=1e-12)


def test_couplings_are_invariant():
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    from heliodor.potentials.angular import component_harmonics

    u = rng.normal(size=(40, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    before, after = (component_harmonics(torch.tensor(x), 3) for x in (u, u @ rotation.T))
    turns = [np.linalg.lstsq(b.numpy(), a.numpy(), rcond=None)[0].T for b, a in zip(before, after, strict=True)]
    for degrees in [(1, 1, 0), (1, 2, 1), (2, 2, 2), (3, 2, 1), (3, 3, 2), (1, 1, 1), (2, 3, 3), (1, 3, 2)]:
        tensor = wigner_3j(*degrees)
        assert np.linalg.norm(tensor) == pytest.approx(1.0, abs=1e-12)
        turned = np.einsum("ia,jb,kc,abc->ijk", *(turns[degree] for degree in degrees), tensor)
        np.testing.assert_allclose(turned, tensor, atol=1e-12)


def test_signs_of_couplings():
    # Wigner's 3j symbol of m = 0: (1 1 2) = sqrt(2/15), (2 2 2) = -sqrt(2/35), (1 2 3) = -sqrt(3/35); e3nn makes all
    # of them positive
    for degrees, value in (((1, 1, 2), 2 / 15), ((2, 2, 2), 2 / 35), ((1, 2, 3), 3 / 35)):
        assert wigner_3j(*degrees)[degrees] == pytest.approx(value**0.5, abs=1e-12)
        assert wigner_3j(*degrees[::-1])[degrees[::-1]] == pytest.approx(value**0.5, abs=1e-12)
    # the cross product
    assert wigner_3j(1, 1, 1)[0, 1, 2] == pytest.approx(6**-0.5, abs=1e-12)
    np.testing.assert_allclose(wigner_3j(1, 1, 1), -wigner_3j(1, 1, 1).transpose(1, 0, 2), atol=1e-12)
    with pytest.raises(ValueError, match="do not couple"):
        wigner_3j(1, 1, 3)


@pytest.mark.parametrize(
    ("out", "paths", "monomial", "entries", "independent"),
    [
        (0, (1, 4, 23), (1, 16, 77), (1, 16, 77), (1, 4, 8)),
        (1, (1, 6, 51), (3, 35, 278), (3, 35, 278), (1, 3, 12)),
        (2, (1, 7, 65), (5, 66, 348), (5, 74, 398), (1, 5, 14)),
    ],
)
def test_numbers_of_couplings(out, paths, monomial, entries, independent):
    """Counts published for MACE (and kept by cuEquivariance), specs/mace.md section 2.9."""
    for order in (1, 2, 3):
        made = product_couplings(3, order, out)
        factors, coefficients = monomials(made)
        assert made.shape == (2 * out + 1, *(16,) * order, paths[order - 1])
        assert len(factors) == monomial[order - 1]
        assert int((np.abs(coefficients).max(-1) > 1e-10).sum()) == entries[order - 1]
        flat = coefficients.reshape(-1, paths[order - 1])
        assert np.linalg.matrix_rank(flat, tol=1e-8) == independent[order - 1]


def test_our_couplings_are_those_of_the_file(official):
    """Not only of the same span: path by path, so that weights can be taken over."""
    tensors = read_mace(official("tensor")).tensors
    for degree in (0, 1, 2):
        for order in (1, 2, 3):
            name = f"products.0.symmetric_contractions.contractions.{degree}.U_matrix_{order}"
            theirs = tensors[name].numpy()
            ours = product_couplings(3, order, degree)
            np.testing.assert_allclose(ours if degree else ours[0], theirs, atol=1e-13)


def test_paths_of_the_published_models():
    assert [len(convolution_paths(degree, 3, 3)) for degree in (0, 1, 2)] == [4, 10, 17]


def test_parity_with_the_full_set():
    folder = shared("reference/mace")
    for size in ("S", "M"):
        model = convert_mace(shared(f"weights/mace/rand_OFF23_{size}.model"))
        files = sorted(folder.glob(f"rand_OFF23_{size}__*.npz"))
        assert len(files) == 13
        for file in files:
            values = dict(np.load(file))
            values["edges"] = values["n_edges"]
            atoms = ase.Atoms(values["numbers"], values["positions"], cell=values["cell"], pbc=values["pbc"])
            compare(model, atoms, values, energy=1e-10, forces=1e-11, stress=1e-13)


def test_a_head_by_name(official, tmp_path, monkeypatch):
    monkeypatch.setenv("HELIODOR_CACHE", str(tmp_path))
    atoms, expected = reference("heads", "water@ccsd")
    loaded = heliodor.load(official("heads"), dtype="float64", head="ccsd")
    import_model(official("heads"), "mine", head="ccsd")
    for model in (loaded, heliodor.load("mine", dtype="float64")):
        compare(model, atoms, expected)
    with pytest.raises(ModelError, match="no heads"):
        heliodor.load("heliodor-mini", head="ccsd")


def test_the_factor_of_the_radial_basis_is_the_file_s(official):
    file = read_mace(official("vector"))
    models = []
    for name in ("radial_embedding.bessel_fn.prefactor", "interactions.{}.conv_tp_weights.layer0.weight"):
        tensors = dict(file.tensors)
        for key in {name.format(t) for t in (0, 1)}:
            tensors[key] = 1.25 * tensors[key]
        models.append(build_mace(replace(file, tensors=tensors), "x"))
    atoms, _ = reference("vector", "water")
    a, b = (heliodor.evaluate(model, atoms).terms["mace"] for model in models)
    assert float(a) == pytest.approx(float(b), abs=1e-13)
    assert float(a) != pytest.approx(float(reference("vector", "water")[1]["interaction_energy"][0]), abs=1e-3)
