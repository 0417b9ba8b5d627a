"""Low-rank and slowed changes of weights: nothing at the start, counts by formula, merging, best approximations."""

from __future__ import annotations

from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from torch import nn
from torch.nn.utils import parametrize

import heliodor
from heliodor.checkpoint import load_checkpoint, save_checkpoint
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.train.dataset import Dataset
from heliodor.train.finetuning.adapters import LowRank, Slowed, add_low_rank, merge, merge_file, merged_state, slow_down
from heliodor.train.finetuning.chosen import depths, heads, linear_maps, matching
from heliodor.train.finetuning.finetune import adapt
from heliodor.train.finetuning.settings import FineTune
from heliodor.train.models import new_model

FRAMES = [molecule(name) for name in ("CH3OH", "CH3CONH2", "H2O")]
SMALL = {
    "so3lr": {"n_features": 16, "n_heads": 2, "degrees": [1, 2], "n_layers": 2, "n_basis": 8, "n_hirshfeld": 8},
    "spookynet": {"preset": "small", "n_features": 16, "n_modules": 2},
    "mace": {"preset": "small", "channels": 8},
}


@pytest.fixture(scope="module", params=list(SMALL))
def small(request: pytest.FixtureRequest) -> Potential:
    data = Dataset.from_atoms(FRAMES)
    return new_model(request.param, SMALL[request.param], data.elements, data).eval().requires_grad_(False)


def shake(model: Potential) -> None:
    """Every change to something that is not zero."""
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".left", ".change")):
                parameter.normal_(0.0, 0.05, generator=rng)


def answers(model: Potential, frames: list[ase.Atoms] = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    p = heliodor.evaluate(model, frames)
    assert p.forces is not None
    return p.energy.numpy(), p.forces.numpy()


def test_nothing_changes_at_the_start(small: Potential) -> None:
    expected = answers(small)
    for how in (FineTune(train="low-rank", rank=2), FineTune(train="all", layer_decay=0.7)):
        adapted, _ = adapt(small, how)
        assert any(parametrize.is_parametrized(part) for part in adapted.modules())
        whole = merged_state(adapted)
        assert all(torch.equal(whole[name], value) for name, value in small.state_dict().items())
        for value, before in zip(answers(adapted), expected, strict=True):
            np.testing.assert_allclose(value, before, rtol=1e-13, atol=1e-13)
    assert not any(parametrize.is_parametrized(part) for part in small.modules())


def test_counts_by_formula(so3lr: Potential) -> None:
    # F = 128: heads of 32 -> 96 and 32 -> 64, four each; two radial and two angular maps; 32 Bernstein polynomials;
    # two maps of the update; the exchange with four degrees
    layer = 4 * (32 + 96) + 4 * (32 + 64) + 2 * (128 + 128) + 2 * (32 + 128) + (256 + 32) + 2 * 256 + 2 * 132
    embeddings, ends = 4 * 256, 256 + 256 + (64 + 128) + 2 * 64
    for rank in (1, 8):
        # with rank 1 the map of the angular filters, 4 -> 64, and the two last maps of heads are worth it too, or not
        extra = 3 * (64 + 4) if rank == 1 else 0
        _, trained = adapt(so3lr, FineTune(train="low-rank", rank=rank))
        assert trained == rank * (3 * layer + embeddings + ends + extra)
    _, everything = adapt(so3lr, FineTune(train="all"))
    assert everything == sum(p.numel() for p in so3lr.parameters()) == 530724
    # one hidden layer each for energies, charges and ratios; four tables by element; one of 64 weights by element
    ratios = 64 * 129 + 64 * 65 + 119 * 64
    _, ends = adapt(so3lr, FineTune(train="heads"))
    assert ends == 2 * (128 * 129 + 129) + ratios + 4 * 119


def test_merged_equals_unmerged(small: Potential, tmp_path: Path) -> None:
    for number, how in enumerate((FineTune(train="low-rank", rank=2, scale=0.5), FineTune(layer_decay=0.5))):
        adapted, _ = adapt(small, how)
        shake(adapted)
        merged = merge(adapted, small)
        assert set(merged.state_dict()) == set(small.state_dict()) and type(merged) is type(small)
        energy, forces = answers(adapted)
        merged_energy, merged_forces = answers(merged)
        np.testing.assert_allclose(merged_energy, energy, rtol=1e-12, atol=1e-11)
        np.testing.assert_allclose(merged_forces, forces, rtol=1e-9, atol=1e-11)
        assert np.abs(forces - answers(small)[1]).max() > 1e-6
        # a checkpoint that was written before merging becomes one that anybody can load
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(adapted, path)
        again = merge_file(path, adapted, small)
        assert again is not None
        save_checkpoint(again, path)
        np.testing.assert_allclose(answers(load_checkpoint(path))[0], energy, rtol=1e-12, atol=1e-11)
        assert merge_file(path, adapted, small) is None


def test_product_is_the_paper_s() -> None:
    part = nn.Linear(5, 3, dtype=torch.float64)
    weight = part.weight.detach().clone()
    change = LowRank(weight, 2, 0.25)
    parametrize.register_parametrization(part, "weight", change)
    with torch.no_grad():
        change.left.normal_()
    b, a, x = change.left.detach().numpy(), change.right.detach().numpy(), np.arange(5.0)
    expected = weight.numpy() @ x + 0.25 * b @ (a @ x) + part.bias.detach().numpy()
    np.testing.assert_allclose(part(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("rank", [1, 3])
def test_fits_the_best_change_of_its_rank(rank: int) -> None:
    """Eckart & Young (1936): what is left of a change is its smaller singular values, for every map of a stack."""
    torch.manual_seed(3)
    weight = torch.randn(2, 9, 7, dtype=torch.float64)
    change = torch.randn(2, 9, 3, dtype=torch.float64) @ torch.randn(2, 3, 7, dtype=torch.float64)
    part = nn.Module()
    part.weight = nn.Parameter(weight.clone(), requires_grad=False)
    parametrize.register_parametrization(part, "weight", LowRank(weight, rank, 0.5))
    free = [p for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.LBFGS(free, max_iter=800, tolerance_grad=1e-10, tolerance_change=1e-16, history_size=30)
    optimizer.param_groups[0]["line_search_fn"] = "strong_wolfe"

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        # inputs are white: the expected squared error of the outputs
        loss = (part.weight - weight - change).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    left = torch.linalg.svdvals(change)[:, rank:].square().sum()
    assert float(closure().detach()) == pytest.approx(float(left), rel=1e-7, abs=1e-10)
    assert (float(left) < 1e-20) == (rank == 3)
    assert torch.equal(part.parametrizations.weight.original, weight)


def test_slowed_steps() -> None:
    """Adam's first step is its learning rate, whatever the gradient: the weight moves by rate times that."""
    part = nn.Linear(4, 3, dtype=torch.float64)
    weight = part.weight.detach().clone()
    parametrize.register_parametrization(part, "weight", Slowed(weight, 0.1))
    change = part.parametrizations.weight[0].change
    part.weight.mul(torch.tensor([[1.0, -2.0, 30.0, -0.1]], dtype=torch.float64)).sum().backward()
    torch.optim.AdamW([change], lr=0.01, weight_decay=0.0, eps=1e-30).step()
    moved = (part.weight - weight).detach().numpy()
    np.testing.assert_allclose(moved, np.broadcast_to([-1e-3, 1e-3, -1e-3, 1e-3], (3, 4)), rtol=1e-9)


def test_depths(so3lr: Potential) -> None:
    found = depths(so3lr)
    assert [found[f"network.layers.{k}.project_x"] for k in range(3)] == [3, 2, 1]
    assert found["network.element"] == 4 and found["energy_head.out.weight"] == 0 and found["zbl.power"] == 0
    adapted, trained = adapt(so3lr, FineTune(layer_decay=0.5))
    rates = {name: part.rate for name, part in adapted.named_modules() if isinstance(part, Slowed)}
    assert rates["network.layers.0.parametrizations.project_x.0"] == 0.125
    assert rates["network.parametrizations.element.0"] == 0.0625
    assert trained == 530724 and not any("head" in name for name in rates)


def test_names() -> None:
    data = Dataset.from_atoms(FRAMES)
    for architecture, size in SMALL.items():
        model = new_model(architecture, size, data.elements, data)
        names = [name for name, _ in model.named_parameters()]
        ends = heads(model)
        assert ends and not any("layers" in n or "embedding" in n for n in ends)
        assert matching(model, ["*"]) == tuple(names)
        # a part, all that is in it, and a star are the same
        part = "interactions.1" if architecture == "spookynet" else "network.layers.1"
        assert matching(model, [part]) == matching(model, [f"{part}.*"]) == tuple(n for n in names if part in n)
        for name in linear_maps(model, 1):
            m, n = model.get_parameter(name).shape[-2:]
            assert m + n < m * n
        with pytest.raises(InputError, match="called 'energie_head'") as caught:
            matching(model, ["energie_head"])
        assert {"so3lr": "energy_head.hidden.weight", "spookynet": "element_bias", "mace": "last_hidden"}[
            architecture
        ] in str(caught.value)
        with pytest.raises(InputError, match="cannot be adapted"):
            add_low_rank(model, [next(n for n in names if "." not in n)], 1)
        with pytest.raises(InputError, match="at least 1"):
            add_low_rank(model, [], 0)
        with pytest.raises(InputError, match="take a smaller rank"):
            adapt(model, FineTune(train="low-rank", rank=500))
        slow_down(model, {})
