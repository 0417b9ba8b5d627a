"""SpookyNet as a model: files, refusals, training from scratch, dynamics."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.optimize import BFGS

import heliodor
from heliodor.analysis.vibrations import vibrations
from heliodor.checkpoint import load_checkpoint, save_checkpoint
from heliodor.convert.spookynet import convert_spookynet
from heliodor.errors import CheckpointError, InputError, ModelError
from heliodor.hessian import hessian
from heliodor.potential import evaluate_system
from heliodor.potentials.radial import RADIAL_BASES, RadialBasis, exponential_cutoff
from heliodor.potentials.spookynet import PRESETS, SpookyNet, SpookyNetConfig
from heliodor.system import System
from spookynet_references import HERE, at_cutoff, frames, model
from support import shared

STRUCTURES = frames()
SMALL = SpookyNetConfig(n_features=8, n_modules=3, n_basis=6)


# files ---------------------------------------------------------------------------------------------------------


def test_the_shipped_model_is_the_official_file():
    official = convert_spookynet(shared("weights/spookynet/parameters.pth"))
    shipped = heliodor.load("spookynet-gfn2", device="cpu", dtype="float64")
    assert official.config == shipped.config and official.name == "spookynet-gfn2"
    for key, value in official.state_dict().items():
        assert torch.equal(value, shipped.state_dict()[key]), key
    assert sum(p.numel() for p in shipped.parameters()) + shipped.d4.s6.numel() == 498_366
    assert shipped.elements == tuple(range(1, 87))
    text = str(shipped.card)
    assert "not a GEMS model" in text and "glycine zwitterion" in text


def old_name(key: str) -> str:
    """What the earliest versions of the original called a parameter."""
    key = re.sub(r"(local_interaction|embedding)\.resblock_(\w+)\.(residual|activation)\.", r"\1.\3_\2.", key)
    key = re.sub(r"(local_interaction|embedding)\.resblock_(\w+)\.linear\.", r"\1.linear_\2.", key)
    key = key.replace(".local_interaction.resblock.", ".local_interaction.")
    key = re.sub(r"^(module\.\d+)\.resblock\.", r"\1.output.", key)
    return key.replace("activation1", "activation_pre").replace("activation2", "activation_post")


def test_an_old_file_has_other_names(tmp_path):
    path = shared("weights/spookynet/random_legacy_T2F32.pth")
    stored = torch.load(path, weights_only=True)
    renamed = {}
    for key, value in stored.pop("state_dict").items():
        if ".projection_" in key:
            first, second = value.chunk(2)
            renamed[key.replace(".weight", "1.weight")], renamed[key.replace(".weight", "2.weight")] = first, second
        else:
            renamed[old_name(key)] = value
    assert sum("activation_pre" in key for key in renamed) > 20
    # hyperparameters that did not exist yet
    del stored["use_irreps"], stored["use_nonlinear_embedding"]
    torch.save({**stored, "state_dict": renamed}, tmp_path / "old.pth")
    old, new = convert_spookynet(tmp_path / "old.pth"), convert_spookynet(path)
    assert old.config == new.config and not old.config.irreducible and old.config.nonlinear_embedding
    for key, value in new.state_dict().items():
        assert torch.equal(value, old.state_dict()[key]), key


def changed(tmp_path, edit) -> str:
    stored = torch.load(HERE / "random_ssp_noD4_T2F32.pth", weights_only=True)
    edit(stored)
    torch.save(stored, tmp_path / "changed.pth")
    return str(tmp_path / "changed.pth")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda s: s["state_dict"].pop("output.weight"), "lacks 'output.weight'"),
        (lambda s: s.pop("num_features"), "lacks 'num_features'"),
        (lambda s: s["state_dict"].update(extra=torch.zeros(1)), "does not have: extra"),
        (lambda s: s.update(num_features=64), "does not fit the SpookyNet architecture"),
        (lambda s: s.update(basis_functions="none"), "no radial basis called 'none'"),
        (lambda s: s["state_dict"]["output.weight"].fill_(float("nan")), "not finite"),
        (lambda s: s["state_dict"]["nuclear_embedding.electron_config"].mul_(2), "not those of SpookyNet"),
        (lambda s: s.pop("state_dict"), "does not hold SpookyNet parameters"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, edit, words):
    with pytest.raises(CheckpointError, match=words):
        heliodor.load(changed(tmp_path, edit), device="cpu")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="refused"):
        convert_spookynet(tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(CheckpointError):
        convert_spookynet(tmp_path / "plain.pth")


def test_a_checkpoint_keeps_everything(tmp_path):
    torch.manual_seed(3)
    config = replace(SMALL, long_range_cutoff=9.0, elements=(1, 8), basis="gaussian", irreducible=False)
    potential = SpookyNet(config).double()
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    save_checkpoint(potential, tmp_path / "x.safetensors")
    again = load_checkpoint(tmp_path / "x.safetensors")
    assert again.config == config
    a, b = (heliodor.evaluate(p.eval(), molecule("H2O")) for p in (potential, again))
    assert torch.equal(a.energy, b.energy) and torch.equal(a.forces, b.forces)


# refusals ------------------------------------------------------------------------------------------------------


def test_another_long_range_cutoff_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"trained without a long-range cutoff.*part of the parameters"):
        heliodor.load("spookynet-gfn2", device="cpu", long_range_cutoff=12.0)
    save_checkpoint(at_cutoff(model("parameters"), 12.5), tmp_path / "x.safetensors")
    for cutoff in ("auto", 12.5):
        assert (
            heliodor.load(tmp_path / "x.safetensors", device="cpu", long_range_cutoff=cutoff).long_range_cutoff == 12.5
        )
    for cutoff in (None, 12.0):
        with pytest.raises(ModelError, match=r"long-range cutoff of 12\.5"):
            heliodor.load(tmp_path / "x.safetensors", device="cpu", long_range_cutoff=cutoff)


def test_the_reason_is_true():
    """Another cutoff gives another molecule: a water of spookynet-gfn2 moves by 0.9 eV (spec 1.1)."""
    system = System.from_atoms(STRUCTURES["h2o"])
    energies = [evaluate_system(at_cutoff(model("parameters"), c), system).energy.item() for c in (None, 10.5835, 6.0)]
    assert energies == pytest.approx([-13.831, -12.889, -12.246], abs=1e-3)


def test_a_periodic_structure_needs_a_model_with_a_cutoff():
    with pytest.raises(ModelError, match=r"trained without a long-range cutoff.*infinitely many"):
        heliodor.evaluate("spookynet-gfn2", STRUCTURES["water12_triclinic"])


def test_fragments_cannot_be_kept_apart():
    with pytest.raises(ModelError, match="cannot keep fragments apart"):
        heliodor.evaluate(model("parameters"), molecule("H2O"), fragments=[0, 0, 1], fragment_charges=[0, 0])


def test_elements_outside_the_model():
    with pytest.raises(ModelError, match="is U: spookynet-gfn2 knows only H He"):
        heliodor.evaluate(heliodor.load("spookynet-gfn2", device="cpu"), molecule("H2O").__class__("U"))


@pytest.mark.parametrize(
    "changes",
    [
        {"cutoff": 0.0},
        {"long_range_cutoff": 3.0},
        {"n_modules": 0},
        {"module_keep_prob": 1.5},
        {"elements": (1, 92)},
        {"elements": ()},
        {"basis": "fourier"},
        {"activation": "relu"},
    ],
)
def test_a_configuration_without_sense(changes):
    with pytest.raises(InputError):
        SpookyNet(replace(SMALL, **changes))


# training from scratch -----------------------------------------------------------------------------------------


def test_a_new_model_starts_from_atoms():
    """Same seed, same numbers; energies of atoms, even charges, no forces of its own; every parameter can learn."""
    torch.manual_seed(0)
    first = SpookyNet(SMALL)
    torch.manual_seed(0)
    second = SpookyNet(SMALL)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    first.set_element_energies({1: -13.6, 8: -2041.3})
    found = evaluate_system(first, System.from_atoms([molecule("H2O"), molecule("OH", info={"charge": -1, "spin": 0})]))
    np.testing.assert_allclose(found.terms["spookynet"], [-2 * 13.6 - 2041.3, -13.6 - 2041.3], rtol=1e-7)
    np.testing.assert_allclose(found.charges, [0, 0, 0, -0.5, -0.5], atol=1e-6)


@pytest.mark.parametrize("nonlinear", [False, True])
def test_training_moves_every_parameter(nonlinear):
    torch.manual_seed(1)
    potential = SpookyNet(replace(SMALL, nonlinear_embedding=nonlinear, module_keep_prob=1.0)).train()
    optimizer = torch.optim.AdamW(potential.parameters(), lr=1e-2, weight_decay=0.0)
    atoms = [STRUCTURES[name] for name in ("h2o", "acetate-", "ch2_triplet")]
    system = System.from_atoms(atoms)
    target = evaluate_system(model("parameters"), system)
    before = {name: p.detach().clone() for name, p in potential.named_parameters()}
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        found = evaluate_system(potential, system, create_graph=True)
        loss = (found.energy - target.energy).square().mean() + (found.forces - target.forces).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    still = {name for name, p in potential.named_parameters() if torch.equal(p.detach(), before[name])}
    assert not still


def test_modules_drop_out_in_training_only():
    torch.manual_seed(2)
    potential = at_cutoff(model("parameters"), None)
    assert potential.config.module_keep_prob == 0.9
    system = System.from_atoms([STRUCTURES["h2o"]] * 200)
    neighbors = potential.neighbors(system)

    def energies() -> np.ndarray:
        per_atom = potential(system, neighbors).energies["spookynet"]
        return per_atom.view(200, 3).sum(1).numpy()

    assert np.ptp(energies()) < 1e-10
    potential.train()
    first, second = energies(), energies()
    levels = np.unique(first.round(6))
    # one, two or three of the modules count; the first always does
    assert len(levels) == 3 and not np.array_equal(first, second)
    whole = np.concatenate([energies() for _ in range(10)])
    full = potential.eval()(system, neighbors).energies["spookynet"][:3].sum().item()
    share = np.isclose(whole, full, atol=1e-5).mean()
    assert share == pytest.approx(0.9, abs=0.03)


def test_presets():
    torch.manual_seed(0)
    small, large = (SpookyNet(PRESETS[name]) for name in ("crambin", "polyalanine"))
    assert sum(p.numel() for p in small.parameters()) + 1 == 498_366
    assert sum(p.numel() for p in large.parameters()) + 1 == 3_696_702
    assert small.long_range_cutoff == pytest.approx(10.583544, abs=1e-6) and large.long_range_cutoff is None


# radial functions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RADIAL_BASES)
def test_radial_functions_end_smoothly(kind):
    basis = RadialBasis(kind, 8, 4.0).double()
    d = torch.linspace(0.4, 4.2, 300, dtype=torch.float64, requires_grad=True)
    g = basis(d)
    assert not bool(g[d >= 4.0].any())
    (slope,) = torch.autograd.grad(g.sum(), d, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), d)
    for values in (g, slope, bend):
        assert bool(values.isfinite().all())
    step = 1e-6
    with torch.no_grad():
        numeric = (basis(d + step).sum(1) - basis(d - step).sum(1)) / (2 * step)
    np.testing.assert_allclose(slope.detach(), numeric, rtol=0, atol=1e-7)
    assert abs(float(slope.detach()[-20])) < 1e-2


@pytest.mark.parametrize("kind", ["bernstein", "exp-bernstein"])
def test_bernstein_polynomials_add_up_to_the_cutoff_function(kind):
    d = torch.linspace(0.3, 3.9, 50, dtype=torch.float64)
    found = RadialBasis(kind, 16, 4.0).double()(d).sum(1)
    np.testing.assert_allclose(found.detach(), exponential_cutoff(d, 4.0), rtol=1e-12)


# everything else that uses models --------------------------------------------------------------------------------


def test_energy_is_conserved_in_dynamics(tmp_path):
    """20 fs of a hot water molecule: two periods of its fastest vibration (docs/spookynet.md has 2 ps)."""
    heliodor.simulate(
        molecule("H2O"), "spookynet-gfn2", time="20 fs", timestep=0.5, temperature=600, ensemble="nve",
        output=tmp_path / "w.h5", save_every=0.5, seed=1, progress=False,
    )  # fmt: skip
    log = np.genfromtxt(tmp_path / "w.csv", delimiter=",", names=True)
    column = next(name for name in log.dtype.names if "conserved" in name or "total" in name)
    assert np.ptp(log[column]) < 5e-3


def test_water_vibrates_as_it_should():
    """Second derivatives, through ASE's interface and our Hessian: 1542, 3666 and 3706 per cm (spec 1)."""
    atoms = molecule("H2O")
    potential = heliodor.load("spookynet-gfn2", device="cpu", dtype="float64")
    atoms.calc = heliodor.Calculator(potential)
    BFGS(atoms, logfile=None).run(fmax=1e-4)
    assert atoms.get_distance(0, 1) == pytest.approx(0.958, abs=1e-3)
    assert atoms.get_angle(1, 0, 2) == pytest.approx(107.2, abs=0.1)
    assert atoms.get_charges()[0] == pytest.approx(-0.70, abs=0.01)
    found = vibrations(hessian(potential, atoms), atoms)
    np.testing.assert_allclose(found.frequencies[-3:], [1542, 3666, 3706], atol=2)
