"""load and evaluate: what they refuse, and that batches are only a matter of speed."""

import importlib

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor import errors, registry
from heliodor.errors import CheckpointError, HeliodorError, InputError, MissingExtraError, ModelError
from heliodor.potential import ModelWarning, evaluate_system


def test_models_can_be_listed_after_a_model_was_loaded():
    importlib.import_module("heliodor.potentials.so3lr")
    assert "so3lr" in heliodor.models()


def test_models_are_described():
    entry = registry.models()["so3lr"]
    assert entry.licence.startswith("MIT")
    assert len(entry.sha256) == 64
    assert entry.path.exists()
    assert entry.elements == ("H", "C", "N", "O", "F", "P", "S", "Cl")


def test_every_error_is_a_heliodor_error_with_an_exit_code():
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    assert len(classes) >= 7
    assert all(issubclass(c, HeliodorError) and c.exit_code in (1, 2) for c in classes)
    assert "pip install 'heliodor[prepare]'" in str(MissingExtraError("rdkit", "prepare"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "no-such-model"}, ModelError, "known models: .*so3lr"),
        ({"model": "nowhere/model.safetensors"}, CheckpointError, "no such model file"),
        ({"model": "missing.pkl"}, CheckpointError, "no such model file"),
        ({"dtype": "float16"}, InputError, "float32"),
        ({"kernels": "warp"}, ModelError, "no kernel called 'warp'"),
        ({"long_range_cutoff": 4.4}, InputError, r"at least the network's cutoff \(4.5"),
        ({"long_range_cutoff": -1.0}, InputError, "at least"),
        ({"long_range_cutoff": float("nan")}, InputError, "at least"),
        ({"long_range_cutoff": "far"}, InputError, "at least"),
        ({"device": "abacus"}, InputError, "no such device"),
        ({"device": "meta"}, InputError, "not supported"),
    ],
)
def test_load_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        heliodor.load(**{"model": "so3lr", **arguments})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_absent_gpu():
    with pytest.raises(InputError, match="torch sees none"):
        heliodor.load("so3lr", device="cuda")


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_load_refuses_damping_width(width):
    with pytest.raises(InputError, match="dispersion_damping_width"):
        heliodor.load("so3lr", dispersion_damping_width=width)


def test_dtypes_and_defaults():
    single = heliodor.load("so3lr", device="cpu")
    assert single.dtype == torch.float32
    assert single.long_range_cutoff == "auto"
    assert not single.training
    assert not any(p.requires_grad for p in single.parameters())
    assert heliodor.load("so3lr", device="cpu", long_range_cutoff=float("inf")).long_range_cutoff is None


def spot(distance: float) -> ase.Atoms:
    return ase.Atoms("OHHO", [(0, 0, 0), (0, 0.8, 0.6), (0, -0.8, 0.6), (0, 0, distance)])


@pytest.mark.parametrize(
    ("atoms", "error", "message"),
    [
        ([], InputError, "no structures"),
        (ase.Atoms("HeNe", [(0, 0, 0), (0, 0, 3)]), ModelError, "atom 0 is He: .* knows only H C N O F P S Cl"),
        (
            [ase.Atoms("H2", [(0, 0, 0), (0, 0, 1)]), ase.Atoms("HBr", [(0, 0, 0), (0, 0, 1.4)])],
            ModelError,
            "atom 1 of structure 1 is Br",
        ),
        (ase.Atoms("H"), InputError, "1 electrons, which cannot have 0 unpaired"),
        (ase.Atoms("H2", [(0, 0, 0), (0, 0, 1)], info={"spin": 1}), InputError, "cannot have 1 unpaired"),
        (ase.Atoms("H", info={"charge": 1, "spin": 2}), InputError, "cannot have 2 unpaired"),
        (ase.Atoms("H", info={"charge": 3}), InputError, "leaves -2 electrons"),
        (ase.Atoms("O", info={"charge": 0.5}), InputError, "electrons"),
        ([molecule("H2O"), ase.Atoms("H")], InputError, "structure 1: charge"),
        (spot(0.0), InputError, r"O \(atom 0\) and O \(atom 3\) are 0.000 Å apart"),
        (spot(0.04), InputError, "0.040 Å apart: two atoms on one spot"),
        ([molecule("H2O"), spot(0.01)], InputError, r"structure 1: O \(atom 0\) and O \(atom 3\)"),
    ],
)
def test_evaluate_refuses(so3lr, atoms, error, message):
    with pytest.raises(error, match=message):
        heliodor.evaluate(so3lr, atoms)


def test_atoms_on_one_spot_through_the_boundary(so3lr):
    frame = ase.Atoms("O2", [(0, 0, 0.01), (0, 0, 6.99)], cell=[7, 7, 7], pbc=True)
    with pytest.raises(InputError, match=r"0.020 Å apart"):
        heliodor.evaluate(so3lr, frame)


def test_clash_in_a_later_batch_names_its_structure(so3lr):
    frames = [molecule("H2O"), molecule("H2O"), spot(0.01)]
    with pytest.raises(InputError, match="structure 2: O"):
        heliodor.evaluate(so3lr, frames, batch_atoms=3)


def test_infinite_cutoff_in_a_periodic_box(so3lr_at, crystal):
    with pytest.raises(InputError, match="infinitely many pairs"):
        heliodor.evaluate(so3lr_at(None), crystal)


def test_charged_periodic_cell_warns(so3lr_at, crystal):
    crystal += ase.Atoms("H", [crystal.positions[0] + 0.98])
    crystal.info["charge"] = 1
    with pytest.warns(ModelWarning, match="neutralising background"):
        heliodor.evaluate(so3lr_at(6.0), crystal, forces=False)


def test_default_cutoffs(so3lr, so3lr_at, crystal):
    """None for a molecule, 12 Å for a box, in one batch."""
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += 14.0
    both = heliodor.evaluate(so3lr, [pair, crystal])
    assert both.stress is None
    np.testing.assert_allclose(both.energy[0], heliodor.evaluate(so3lr_at(None), pair).energy[0], rtol=0, atol=1e-11)
    np.testing.assert_allclose(both.energy[1], heliodor.evaluate(so3lr_at(12.0), crystal).energy[0], rtol=0, atol=1e-11)
    assert abs(both.energy[0] - heliodor.evaluate(so3lr_at(12.0), pair).energy[0]) > 1e-4


@pytest.mark.parametrize("batch_atoms", [1, 10, 10_000])
def test_batches_equal_one_by_one(so3lr, batch_atoms, rng):
    frames = [molecule(name) for name in ("CH3OH", "H2O", "CH3SH", "HCl", "PH3", "H2O")]
    frames[1] = frames[1] + ase.Atoms("H", [(0.0, 0.0, 1.2)])
    frames[1].info["charge"] = 1
    frames[5].info["spin"] = 2
    for frame in frames:
        frame.positions += rng.normal(scale=0.05, size=frame.positions.shape)
    together = heliodor.evaluate(so3lr, frames, batch_atoms=batch_atoms)
    first = 0
    for index, frame in enumerate(frames):
        rows = slice(first, first := first + len(frame))
        alone = heliodor.evaluate(so3lr, frame)
        for name, energy in alone.terms.items():
            np.testing.assert_allclose(together.terms[name][index], energy[0], rtol=0, atol=1e-11)
        np.testing.assert_allclose(together.energy[index], alone.energy[0], rtol=0, atol=1e-11)
        np.testing.assert_allclose(together.dipole[index], alone.dipole[0], rtol=0, atol=1e-11)
        for name in ("forces", "charges", "hirshfeld_ratios", "node_energy"):
            np.testing.assert_allclose(getattr(together, name)[rows], getattr(alone, name), rtol=0, atol=1e-11)
    assert first == together.forces.shape[0]


def test_periodic_batch_has_stress_of_each(so3lr_at, crystal):
    potential = so3lr_at(6.0)
    other = crystal.copy()
    other.set_cell(crystal.cell.array * 1.05, scale_atoms=True)
    together = heliodor.evaluate(potential, [crystal, other])
    for index, frame in enumerate((crystal, other)):
        alone = heliodor.evaluate(potential, frame)
        np.testing.assert_allclose(together.stress[index], alone.stress[0], rtol=0, atol=1e-13)


def test_prediction_is_plain_numpy(so3lr, atoms):
    prediction = heliodor.evaluate(so3lr, atoms)
    n = len(atoms)
    shapes = {
        "energy": (1,),
        "forces": (n, 3),
        "node_energy": (n,),
        "charges": (n,),
        "hirshfeld_ratios": (n,),
        "dipole": (1, 3),
    }
    assert {name: np.asarray(getattr(prediction, name)).shape for name in shapes} == shapes
    assert list(prediction.terms) == ["so3krates", "zbl", "electrostatics", "dispersion"]
    assert sum(prediction.terms.values()).item() == pytest.approx(prediction.energy.item(), abs=1e-11)
    assert prediction.node_energy.sum().item() == pytest.approx(prediction.energy.item(), abs=1e-11)


def test_no_forces_no_derivatives(so3lr, crystal):
    prediction = heliodor.evaluate(so3lr, crystal, forces=False)
    assert prediction.forces is None
    assert prediction.stress is None
    assert not prediction.energy.requires_grad


def test_stress_of_a_molecule_is_refused(so3lr, atoms):
    with pytest.raises(InputError, match="fully periodic"):
        evaluate_system(so3lr, heliodor.System.from_atoms(atoms), stress=True)


def test_evaluate_takes_a_name():
    assert heliodor.evaluate("so3lr", molecule("H2O")).forces.abs().max() < 2.0
