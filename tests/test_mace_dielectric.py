"""Dipoles and polarizabilities: against mace-torch, under rotation and inversion, against differences, and refusals."""

from __future__ import annotations

import io
import lzma
import zipfile
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.checkpoint import save_checkpoint
from heliodor.convert.mace import convert_mace
from heliodor.convert.mace_dielectric import convert_mace_dielectric
from heliodor.dynamics import minimize
from heliodor.errors import CheckpointError, ModelError
from heliodor.hessian import hessian
from heliodor.interaction import interaction_energy
from heliodor.potential import ModelWarning
from heliodor.potentials.mace_dielectric import MACEDielectric, symmetric_basis
from heliodor.response import response_derivatives
from heliodor.units import POLARIZABILITY_VOLUME

DATA = Path(__file__).parent / "data" / "mace_dielectric"
KINDS = ("dipole_polarizability", "dipole_only")
STRUCTURES = ("water", "all_elements", "hydroxide", "box")

pytestmark = pytest.mark.filterwarnings("ignore:.*does not see the total charge")


def reference(kind: str, name: str) -> tuple[ase.Atoms, dict[str, np.ndarray]]:
    with np.load(DATA / f"{kind}.npz") as file:
        values = {key.split("/")[1]: file[key] for key in file.files if key.startswith(f"{name}/")}
    atoms = ase.Atoms(
        values["numbers"],
        values["positions"],
        cell=values["cell"],
        pbc=values["pbc"],
        info={"charge": float(values["charge"])},
    )
    return atoms, values


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files as mace wrote them."""
    folder = tmp_path_factory.mktemp("mace_dielectric")
    paths = {kind: folder / f"{kind}.model" for kind in KINDS}
    for kind, path in paths.items():
        path.write_bytes(lzma.decompress((DATA / f"{kind}.model.xz").read_bytes()))
    return paths


@pytest.fixture(scope="session")
def models(files: dict[str, Path]) -> dict[str, MACEDielectric]:
    return {kind: heliodor.load(path, device="cpu", dtype="float64") for kind, path in files.items()}


@pytest.fixture(scope="session")
def model(models: dict[str, MACEDielectric]) -> MACEDielectric:
    return models["dipole_polarizability"]


def close(found: object, expected: np.ndarray, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0.0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_mace(models: dict[str, MACEDielectric], kind: str, name: str) -> None:
    atoms, expected = reference(kind, name)
    p = heliodor.evaluate(models[kind], atoms)
    close(p.dipole[0], expected["dipole"])
    close(p.charges, expected["charges"])
    assert p.charges.sum() == pytest.approx(float(expected["charge"]), abs=1e-12)
    found = response_derivatives(models[kind], atoms)
    close(found.born_charges, expected["dmu_dr"].transpose(1, 0, 2))
    if kind == "dipole_only":
        assert p.polarizability is None and found.polarizability is None and found.raman_tensor is None
        return
    close(p.polarizability[0], expected["polarizability"])
    close(found.polarizability, expected["polarizability"])
    close(found.raman_tensor.reshape(-1, 9, 3), expected["dalpha_dr"].transpose(1, 0, 2))


def test_every_parameter_shows(model: MACEDielectric) -> None:
    # a reference that some weight does not touch would not notice that weight in the wrong place
    atoms, _ = reference("dipole_polarizability", "all_elements")
    own = MACEDielectric(model.config)
    own.load_state_dict(model.state_dict())
    system = heliodor.System.from_atoms(atoms)
    terms = own(system, own.neighbors(system))
    assert terms.dipoles is not None and terms.polarizabilities is not None and terms.charges is not None
    weights = torch.linspace(-1.0, 2.0, len(atoms), dtype=torch.float64)
    value = sum((part.flatten(1).square().sum(1) * weights).sum() for part in (terms.dipoles, terms.polarizabilities))
    value = value + (terms.charges.square() * weights).sum()
    value.backward()
    silent = [name for name, p in own.named_parameters() if p.grad is None or not bool((p.grad.abs() > 1e-12).any())]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_and_tensors_turn_with_the_molecule(models: dict[str, MACEDielectric], kind: str) -> None:
    atoms, _ = reference(kind, "all_elements")
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    for matrix in (turn, -turn, -np.eye(3)):
        turned = atoms.copy()
        turned.positions = atoms.positions @ matrix.T + np.array([2.0, -3.0, 5.0])
        before, after = heliodor.evaluate(models[kind], [atoms]), heliodor.evaluate(models[kind], [turned])
        close(after.dipole[0], matrix @ before.dipole[0].numpy(), 1e-11)
        if before.polarizability is not None:
            close(after.polarizability[0], matrix @ before.polarizability[0].numpy() @ matrix.T, 1e-11)


def test_polarizabilities_are_symmetric(model: MACEDielectric) -> None:
    alpha = heliodor.evaluate(model, reference("dipole_polarizability", "box")[0]).polarizability[0]
    close(alpha, alpha.T.numpy(), 1e-14)
    assert torch.allclose(symmetric_basis().flatten(1) @ symmetric_basis().flatten(1).T, torch.eye(6).double())


def test_derivatives_are_those_of_differences(model: MACEDielectric) -> None:
    atoms, _ = reference("dipole_polarizability", "hydroxide")
    found, h = response_derivatives(model, atoms), 1e-4
    for i in range(len(atoms)):
        for c in range(3):
            frames = [atoms.copy(), atoms.copy()]
            frames[0].positions[i, c] += h
            frames[1].positions[i, c] -= h
            p = heliodor.evaluate(model, frames)
            np.testing.assert_allclose((p.dipole[0] - p.dipole[1]) / (2 * h), found.born_charges[i, :, c], atol=1e-6)
            slope = (p.polarizability[0] - p.polarizability[1]) / (2 * h)
            np.testing.assert_allclose(slope, found.raman_tensor[i, :, :, c], atol=1e-6)


def test_moving_everything_moves_the_dipole_by_the_charge(model: MACEDielectric) -> None:
    atoms, _ = reference("dipole_polarizability", "hydroxide")
    found = response_derivatives(model, atoms)
    np.testing.assert_allclose(found.born_charges.sum(0), -np.eye(3), atol=1e-12)
    np.testing.assert_allclose(found.raman_tensor.sum(0), 0.0, atol=1e-12)


def test_batches_are_the_single_structures(model: MACEDielectric) -> None:
    frames = [reference("dipole_polarizability", name)[0] for name in STRUCTURES]
    together = heliodor.evaluate(model, frames, batch_atoms=25)
    for k, frame in enumerate(frames):
        alone = heliodor.evaluate(model, frame)
        close(together.dipole[k], alone.dipole[0].numpy())
        close(together.polarizability[k], alone.polarizability[0].numpy())


def test_single_precision_is_close(files: dict[str, Path]) -> None:
    atoms, expected = reference("dipole_polarizability", "all_elements")
    p = heliodor.evaluate(heliodor.load(files["dipole_polarizability"], device="cpu"), atoms)
    close(p.dipole[0], expected["dipole"], 1e-5)
    close(p.polarizability[0], expected["polarizability"], 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_brings_it_back(models: dict[str, MACEDielectric], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(models[kind], path)
    again = heliodor.load(path, device="cpu", dtype="float64")
    atoms, expected = reference(kind, "all_elements")
    close(heliodor.evaluate(again, atoms).dipole[0], expected["dipole"])
    assert again.config == models[kind].config


def test_there_is_no_energy(model: MACEDielectric, tmp_path: Path) -> None:
    atoms, _ = reference("dipole_polarizability", "water")
    p = heliodor.evaluate(model, atoms)
    assert bool(p.energy.isnan().all()) and p.forces is None and p.stress is None
    no = pytest.raises(ModelError, match=r"charges, dipole, polarizability, but no energies or forces: take a force")
    with no:
        heliodor.simulate(atoms, model, steps=2, temperature=300.0, output=tmp_path / "run.h5")
    assert list(tmp_path.iterdir()) == []
    with no:
        minimize(heliodor.System.from_atoms(atoms), model)
    with no:
        hessian(model, atoms)
    atoms.calc = heliodor.Calculator(model)
    with no:
        atoms.get_potential_energy()
    with no:
        interaction_energy(model, atoms, [0, 0, 1], [0.0, 0.0])


def test_what_it_cannot_know_is_said(model: MACEDielectric) -> None:
    with pytest.warns(ModelWarning, match="does not see the total charge"):
        heliodor.evaluate(model, reference("dipole_polarizability", "hydroxide")[0])
    with pytest.raises(ModelError, match="knows only H C N O S Cl"):
        heliodor.evaluate(model, molecule("SiH4"))


def test_converters_tell_the_files_apart(files: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match="holds no energies: it is a model of dipoles"):
        convert_mace(files["dipole_only"])
    with pytest.raises(CheckpointError, match="has no head 'x'"):
        convert_mace(files["dipole_only"], head="x")
    assert isinstance(convert_mace_dielectric(files["dipole_only"]), MACEDielectric)


def rewritten(path: Path, target: Path, old: bytes, new: bytes) -> Path:
    """The file with bytes of its pickle replaced by as many others."""
    assert len(old) == len(new)
    out = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                assert old in content
                content = content.replace(old, new)
            copy.writestr(name, content)
    target.write_bytes(out.getvalue())
    return target


def test_what_is_not_computed_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    path = files["dipole_polarizability"]
    for old, new, what in (
        (b"\nsilu\n", b"\nrelu\n", "the activation relu instead of silu"),
        (b"NonLinearDipolePolarReadoutBlock", b"NonLinearDipolePolarSchmoutBlock", "NonLinearDipolePolarSchmoutBlock"),
        (b"GatedEquivariantBlock", b"GatedEquivariantBlack", "the gate GatedEquivariantBlack"),
    ):
        with pytest.raises(CheckpointError, match=what):
            heliodor.load(rewritten(path, tmp_path / "other.model", old, new), device="cpu")


def test_the_polarizability_volume() -> None:
    # water's 1.45 Å³ (gas, static) is 9.78 atomic units, e²a₀²/E_h each
    assert pytest.approx(14.399645, rel=1e-7) == POLARIZABILITY_VOLUME
    assert pytest.approx(1.449, rel=1e-3) == 9.78 * 0.529177**3
    assert pytest.approx(1.449, rel=1e-3) == 9.78 * 0.529177**2 / 27.211386 * POLARIZABILITY_VOLUME
