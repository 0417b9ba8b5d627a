"""A second evaluation reads nothing back from the device and makes no shapes from values: what a CUDA graph needs."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from torch.utils._python_dispatch import TorchDispatchMode

from heliodor.kernels.gpu.mace.kernel import MACETriton
from heliodor.kernels.gpu.matrix import matrix_of
from heliodor.kernels.gpu.so3lr.kernel import SO3LRTriton
from heliodor.kernels.gpu.spookynet.kernel import SpookyNetTriton
from heliodor.potential import Potential
from heliodor.potentials.mace import MACE, MACEConfig
from heliodor.potentials.so3krates import SO3kratesConfig
from heliodor.potentials.so3lr import SO3LR, SO3LRConfig
from heliodor.potentials.spookynet import SpookyNet, SpookyNetConfig
from heliodor.system import System

REFUSED = (
    "_local_scalar_dense", "nonzero", "nonzero_numpy", "unique", "_unique", "_unique2", "unique_dim",
    "unique_consecutive", "unique_dim_consecutive", "masked_select", "bincount", "is_nonzero", "equal", "lift_fresh",
)  # fmt: skip
"""Operations that wait for the device, or whose result has a shape that values decide;
``lift_fresh``: numbers of Python made tensors."""


class Captured(TorchDispatchMode):
    """Refuse what no CUDA graph can hold; methods that pass by the dispatcher on a CPU, where called by the package."""

    def __enter__(self) -> Any:
        self._was = {name: getattr(torch.Tensor, name) for name in ("tolist", "cpu", "numpy")}
        for name, method in self._was.items():
            setattr(torch.Tensor, name, self._watched(name, method))
        return super().__enter__()

    def __exit__(self, *error: Any) -> Any:
        for name, method in self._was.items():
            setattr(torch.Tensor, name, method)
        return super().__exit__(*error)

    @staticmethod
    def _watched(name: str, method: Any) -> Any:
        def watched(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            # Triton's interpreter calls them too
            if not sys._getframe(1).f_globals["__name__"].startswith("triton"):
                raise AssertionError(f"{name} in a captured step")
            return method(tensor, *args, **kwargs)

        return watched

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if func.namespace == "aten":
            if name in REFUSED:
                raise AssertionError(f"{name} in a captured step")
            if name == "repeat_interleave" and kwargs.get("output_size") is None:
                raise AssertionError("repeat_interleave without the size of its result in a captured step")
            if name in ("_to_copy", "copy_") and "device" in kwargs and kwargs["device"] != args[0].device:
                raise AssertionError("a copy to another device in a captured step")
            if name.startswith("index") and len(args) > 1 and isinstance(args[1], (list, tuple)):
                masks = [i for i in args[1] if isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8)]
                if masks:
                    raise AssertionError("a mask as an index in a captured step")
        return func(*args, **kwargs)


def so3lr() -> SO3LR:
    network = SO3kratesConfig(n_features=32, n_heads=2, degrees=(1, 2), n_layers=2, n_basis=8, cutoff=3.0)
    return SO3LR(SO3LRConfig(network=network, n_hirshfeld=8))


def mace() -> MACE:
    return MACE(
        MACEConfig(
            cutoff=2.5, elements=(1, 8), channels=5, degrees=(0, 0), isolated_energies=(-13.0, -2043.0),
            average_neighbors=(2.0, 1.5), readout_hidden=6, radial_hidden=(8, 8), silu_scale=1.68, gate_scale=1.7,
        )
    )  # fmt: skip


def spookynet() -> SpookyNet:
    # D4 and smeared charges over a list, as in the step on a GPU
    return SpookyNet(SpookyNetConfig(n_features=16, n_modules=2, long_range_cutoff=6.0)).double()


MODELS = {"so3lr": (so3lr, SO3LRTriton), "mace": (mace, MACETriton), "spookynet": (spookynet, SpookyNetTriton)}


def one() -> System:
    return System.from_atoms(molecule("OH"))


def two() -> System:
    return System.from_atoms([molecule("OH"), Atoms("H2", positions=np.array([[0.0, 0.0, 0.0], [0.0, 0.1, 0.75]]))])


@pytest.mark.skipif(torch.cuda.is_available(), reason="tensors here are of the CPU, for the interpreter")
@pytest.mark.parametrize("system", [one, two])
@pytest.mark.parametrize("name", list(MODELS))
def test_a_second_evaluation_could_be_captured(name: str, system: Any) -> None:
    torch.manual_seed(1)
    make, kernel_of = MODELS[name]
    model: Potential = make().eval().requires_grad_(False)
    kernel, atoms = kernel_of(model), system()
    lists = model.neighbors(atoms)
    short = matrix_of(lists, atoms.n_atoms)
    long = None if lists.long_range is None else matrix_of(lists.long_range, atoms.n_atoms)
    first = kernel.evaluate(atoms, short, long, gradient=True, strain=True)
    # as a step does: other positions in the same memory
    atoms.positions.mul_(1.01)
    with Captured():
        second = kernel.evaluate(atoms, short, long, gradient=True, strain=True)
    assert not torch.equal(first.gradient, second.gradient)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: float(x.sum()), lambda x: x[x > 0], lambda x: x.tolist(), lambda x: bool((x > 0).any()),
        lambda x: x.unique(), lambda x: x.nonzero(), lambda x: x.masked_select(x > 0), lambda x: x.to("meta"),
        lambda x: x.cpu(), lambda x: x.numpy(), lambda x: x + torch.tensor(1.0),
    ],
)  # fmt: skip
def test_what_cannot_be_captured_is_seen(wrong: Any) -> None:
    with pytest.raises(AssertionError), Captured():
        wrong(torch.arange(4.0))
