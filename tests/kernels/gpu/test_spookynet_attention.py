"""Attention of SpookyNet's kernels against `RandomFeatureAttention` and autograd, on structures of several blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from heliodor.kernels.gpu.spookynet.attention import Attention
from heliodor.kernels.gpu.spookynet.segments import BLOCK_BATCH, BLOCK_ONE, Segments
from heliodor.potentials.favor import Molecules, RandomFeatureAttention
from heliodor.system import System

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tensors here are of the CPU, for the interpreter")

F = 16


def batch_of(*sizes: int) -> System:
    n, b = sum(sizes), len(sizes)
    return System(
        positions=torch.zeros(n, 3, dtype=torch.float64),
        numbers=torch.ones(n, dtype=torch.int64),
        cell=torch.zeros(b, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(b, 3, dtype=torch.bool),
        batch=torch.repeat_interleave(torch.arange(b), torch.tensor(sizes)),
        charge=torch.zeros(b, dtype=torch.float64),
        spin=torch.zeros(b, dtype=torch.float64),
    )


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("sizes", [(BLOCK_ONE + 40,), (BLOCK_ONE,), (BLOCK_BATCH + 8, 1, 2 * BLOCK_BATCH, 5), (4, 4)])
def test_reads_and_pulls(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module = RandomFeatureAttention(F).double()
    system = batch_of(*sizes)
    n = system.n_atoms
    qkv = 1.5 * drawn(3, n, F)
    # the last structure's largest exponent belongs to two atoms
    highest = int((qkv[1, -sizes[-1] :] @ module.omega.double()).amax(-1).argmax()) + n - sizes[-1]
    other = n - 1 if highest != n - 1 else n - 2
    qkv[1, other] = qkv[1, highest]
    qkv.requires_grad_()
    want = module(*qkv.unbind(0), Molecules.of(system, F))
    pull = drawn(n, F)
    (pulled,) = torch.autograd.grad((want * pull).sum(), qkv)

    attention, atoms = Attention.of(module, torch.float64), Segments.of(system)
    got, kept = attention.forth(qkv.detach()[:2], qkv.detach()[2], atoms)
    assert float((got - want.detach()).abs().max()) < 1e-12
    out = torch.empty(3, n, F, dtype=torch.float64)
    attention.back(pull, kept, atoms, out)
    assert float(pulled.abs().max()) > 1e-2
    assert float((out - pulled).abs().max()) < 1e-12


def test_sums_are_those_of_each_structure() -> None:
    system = batch_of(BLOCK_BATCH + 8, 1, 2 * BLOCK_BATCH, 5)
    atoms = Segments.of(system)
    x, y = drawn(system.n_atoms, F), drawn(system.n_atoms, F + 1)
    parts = [system.batch == b for b in range(system.n_structures)]
    assert torch.allclose(atoms.sum(x), torch.stack([x[p].sum(0) for p in parts]), rtol=0.0, atol=1e-13)
    outer = atoms.outer(atoms.blocks(x), atoms.blocks(y))
    assert torch.allclose(outer, torch.stack([x[p].mT @ y[p] for p in parts]), rtol=0.0, atol=1e-13)
    assert torch.equal(atoms.max(x[:, 0]), torch.stack([x[p, 0].max() for p in parts]))
    matrices = drawn(system.n_structures, F, F)
    want = torch.cat([x[p] @ m for p, m in zip(parts, matrices, strict=True)])
    assert torch.allclose(atoms.times(x, matrices), want, rtol=0.0, atol=1e-13)
