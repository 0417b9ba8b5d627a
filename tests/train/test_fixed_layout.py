"""SpookyNet on a fixed layout against its own forward pass: loss and every parameter's derivative."""

from __future__ import annotations

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

from heliodor.errors import InputError
from heliodor.label.label import Label
from heliodor.potentials.spookynet import SpookyNet, SpookyNetConfig
from heliodor.train.batches import find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.losses import make_loss
from heliodor.train.sampling import Sampler, kind_shares
from heliodor.train.settings import TrainSettings
from heliodor.train.step import functional_step, plain_step
from heliodor.train.stepper import CompileWarning, Stepper, will_compile


def new(cutoff: float | None, **values: object) -> SpookyNet:
    """Random parameters everywhere: as it begins, half of the network is zero and would hide errors."""
    torch.manual_seed(5)
    shape = {"n_features": 8, "n_modules": 2, "cutoff": 3.0, "module_keep_prob": 1.0, "long_range_cutoff": cutoff}
    model = SpookyNet(SpookyNetConfig(**{**shape, **values})).double().train()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("d4"):
                parameter += 0.2 * torch.randn_like(parameter)
    return model


def structures(rng: np.random.Generator, periodic: bool) -> Dataset:
    """Neutral ones, ions, a radical, single atoms; a crystal too, if asked."""
    ion, anion, radical = molecule("CH3"), molecule("OH"), molecule("CH3")
    ion.info["charge"], anion.info["charge"], radical.info["spin"] = 1.0, -1.0, 1
    atom, bare = ase.Atoms("O", info={"spin": 2}), ase.Atoms("H", info={"charge": 1.0})
    frames = [molecule("CH3CONH2"), ion, atom, molecule("H2O"), anion, bare, radical, molecule("C6H6")]
    if periodic:
        box = ase.Atoms("OH2OH2", cell=[3.1, 3.3, 2.9], pbc=True)
        box.positions[:3], box.positions[3:] = molecule("H2O").positions, molecule("H2O").positions + 1.6
        frames.append(box)
    for frame in frames:
        frame.positions += rng.normal(scale=0.05, size=frame.positions.shape)
    labels = [Label(float(rng.normal()), rng.normal(size=(len(f), 3)), rng.normal(size=3)) for f in frames]
    return Dataset.from_atoms(frames, labels)


@pytest.mark.parametrize("cutoff", [None, 4.0])
@pytest.mark.parametrize("kind", ["robust", "mse"])
def test_fixed_layout_is_the_model(cutoff: float | None, kind: str, rng: np.random.Generator) -> None:
    model = new(cutoff)
    lists = find_lists(structures(rng, periodic=cutoff is not None), model, None, torch.float64)
    loss = make_loss(TrainSettings(epochs=1, loss=kind, charges_weight=1.0), lists, model.outputs).double()
    # nothing is labelled with everything
    lists.dataset.forces[4:9] = np.nan
    lists.energy[3] = lists.dipole[0] = np.nan
    sampler = Sampler(lists, 5, kind_shares(lists.dataset.kind, None), 1)
    fixed, plain = functional_step(model, loss, lists, compiled=False), plain_step(model, loss)
    leaves = {**dict(model.named_parameters()), **{f"loss.{n}": p for n, p in loss.named_parameters()}}
    for chosen in sampler.epoch(0):
        full = lists.batch(chosen, sampler.shape)
        assert len(full.counts) > len(chosen) and len(full.positions) > int(lists.sizes[chosen, 0].sum())
        found = []
        for step, batch in ((fixed, full), (plain, lists.batch(chosen))):
            value, sums = step(batch)
            parts = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
            grads = [torch.zeros_like(p) if g is None else g for p, g in zip(leaves.values(), parts, strict=True)]
            found.append((value, sums, grads))
        (one, sums_one, grads_one), (two, sums_two, grads_two) = found
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)
        assert sums_one.keys() == sums_two.keys()
        for name in sums_one:
            torch.testing.assert_close(sums_one[name], sums_two[name], rtol=1e-9, atol=1e-9)
        for name, a, b in zip(leaves, grads_one, grads_two, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=lambda words, name=name: f"{name}: {words}")


def test_which_models_compile() -> None:
    dropping, whole = new(None, module_keep_prob=0.9), new(None)
    assert not will_compile("auto", dropping, 36000.0)
    with pytest.raises(InputError, match=r"module_keep_prob 0\.9") as error:
        will_compile("yes", dropping, 3600.0)
    assert "\n" not in str(error.value)
    assert will_compile("auto", whole, 36000.0) and not will_compile("auto", whole, 3600.0)
    # one module is never left out
    assert will_compile("yes", new(None, module_keep_prob=0.9, n_modules=1), 60.0)
    assert not will_compile("no", whole, 36000.0) and not will_compile("auto", whole, float("inf"))


@pytest.mark.parametrize("fault", ["refuses", "fails backwards", "is wrong", "fails later"])
def test_failing_compiler(fault: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the compiled function does, the step gives the plain one's numbers and changes nothing before."""
    model = new(None)
    lists = find_lists(structures(rng, periodic=False), model, None, torch.float64)
    loss = make_loss(TrainSettings(epochs=1), lists, model.outputs).double()
    sampler = Sampler(lists, 4, kind_shares(lists.dataset.kind, None), 1)
    chosen = sampler.epoch(0)[0]
    step = Stepper(model, loss, lists, sampler.shape)
    expected = step(step.batch(chosen))[0].detach()
    before = {name: value.clone() for name, value in {**model.state_dict(), **loss.state_dict()}.items()}
    random = torch.get_rng_state()

    def compiler(function, **options):
        if fault == "refuses":
            raise RuntimeError("no C compiler\nsecond line")
        calls = iter(range(100))

        def compiled(*args):
            value, sums = function(*args)
            if fault == "is wrong":
                return 1.1 * value + 1.0, sums
            if fault == "fails later" and next(calls) > 0:
                raise RuntimeError("recompilation")
            if fault == "fails backwards":
                value.register_hook(lambda grad: 1 / 0)
            return value, sums

        return compiled

    monkeypatch.setattr(torch, "compile", compiler)
    if fault == "fails later":
        step.compile(chosen)
        assert step.compiled and step.note == ""
        with pytest.warns(CompileWarning, match="recompilation"):
            value, _ = step(step.batch(chosen))
    else:
        with pytest.warns(CompileWarning, match="training goes on, slower"):
            step.compile(chosen)
        assert torch.equal(random, torch.get_rng_state())
        value, _ = step(step.batch(chosen))
    assert not step.compiled and step.note.startswith("not compiled (") and "\n" not in step.note
    assert torch.equal(value, expected)
    assert all(torch.equal(before[k], v) for k, v in {**model.state_dict(), **loss.state_dict()}.items())
    assert all(p.grad is None for p in [*model.parameters(), *loss.parameters()])
