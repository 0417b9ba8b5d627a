"""What gpu_speed.py times: models, their kernels, structures and goals (issue 8), and the same at toy size."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
import torch
from ase.build import molecule

import heliodor
from heliodor.bench.speed.systems import Subject, subject
from heliodor.potential import Potential
from heliodor.potentials.mace import MACE, MACEConfig
from heliodor.potentials.so3krates import SO3kratesConfig
from heliodor.potentials.so3lr import SO3LR, SO3LRConfig
from heliodor.potentials.spookynet import PRESETS, SpookyNet, SpookyNetConfig

KERNELS = {
    SO3LR: ("heliodor.kernels.gpu.so3lr.kernel", "SO3LRTriton"),
    MACE: ("heliodor.kernels.gpu.mace.kernel", "MACETriton"),
    SpookyNet: ("heliodor.kernels.gpu.spookynet.kernel", "SpookyNetTriton"),
}
TOY, TOY_LONG = 2.5, 4.0
"""Cutoffs at toy size, Å: the interpreter takes some milliseconds for an edge."""

RATTLE = 0.02
"""Å; new random displacements of the cell's atoms in every run."""


@dataclass(frozen=True)
class Row:
    """One line of the goal table.

    Attributes:
        name: for --only.
        make: the plain model, float64, on the CPU; False for the real one, True for one of toy size.
        kind, atoms: as for `heliodor.bench.speed.systems.subject`.
        us, ms: goals, µs for each atom and step, or ms for a step.
        ensemble: nvt or npt.
        random: whether the weights are random. Atoms are then moved by 0.02 fs a step, so that they stay where they
            are, and lists are made every 40 steps, as often as water under SO3LR asks for.
        precision: of the kernel's matrix products, where it offers a choice.
        weights: what they are called; rows of the same need the same kernels.
        ratio_to: a row whose time this one is compared with, and the largest ratio wanted.
    """

    name: str
    make: Callable[[bool], Potential]
    kind: str = "water"
    atoms: int = 12288
    us: float | None = None
    ms: float | None = None
    ensemble: str = "nvt"
    random: bool = False
    precision: str | None = None
    weights: str = "so3lr"
    ratio_to: tuple[str, float] | None = None

    @property
    def compiled(self) -> tuple[str, str, str, str | None]:
        """What its kernels are compiled for, but for sizes."""
        return self.weights, self.kind, self.ensemble, self.precision


def so3lr(toy: bool, name: str = "so3lr") -> Potential:
    """SO3LR, or a model of its form."""
    if not toy:
        return heliodor.load(name, device="cpu", dtype="float64", kernels="reference")
    network = SO3kratesConfig(n_features=16, n_heads=2, degrees=(1, 2), n_layers=2, n_basis=8, cutoff=TOY)
    torch.manual_seed(0)
    return finished(SO3LR(SO3LRConfig(network, n_hirshfeld=16), long_range_cutoff=TOY_LONG))


def mace(toy: bool, channels: int, degree: int, cutoff: float) -> Potential:
    """MACE of an official shape with random weights: the files may not be handed on."""
    torch.manual_seed(0)
    known = (1, 8) if toy else (1, 6, 7, 8, 9, 15, 16, 17, 35, 53)
    config = MACEConfig(
        cutoff=TOY if toy else cutoff,
        elements=known,
        channels=8 if toy else channels,
        degrees=(degree, 0),
        isolated_energies=tuple(-10.0 * z for z in known),
        average_neighbors=(20.0, 20.0),
        radial_hidden=(8, 8) if toy else (64, 64, 64),
    )
    return finished(MACE(config))


def spookynet(toy: bool) -> Potential:
    """SpookyNet of GEMS' shape for crambin, T = 3 and F = 64, with random weights, none of them zero."""
    torch.manual_seed(0)
    small = SpookyNetConfig(n_features=16, n_modules=1, n_basis=4, cutoff=TOY, long_range_cutoff=TOY_LONG)
    model = SpookyNet(small if toy else PRESETS["crambin"])
    with torch.no_grad():
        for parameter in model.interactions.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        model.output.weight *= 0.1
    return finished(model)


def finished(model: Potential) -> Potential:
    """In float64, to be evaluated only."""
    return model.to(torch.float64).eval().requires_grad_(False)


# the most important first: a run that is cut off has these
ROWS = (
    Row("so3lr-12k", so3lr, us=0.5),
    Row("heliodor-s-12k", lambda toy: so3lr(toy, "heliodor-s"), us=0.15, weights="heliodor-s"),
    Row("so3lr-1536", so3lr, atoms=1536, ms=1.0),
    Row("so3lr-ala15", so3lr, "peptide", 162, ms=0.25),
    Row("mace-s-12k", lambda toy: mace(toy, 96, 0, 4.5), us=1.0, random=True, weights="mace-s"),
    Row("spookynet-25k", spookynet, atoms=25_000, us=2.0, random=True, weights="spookynet"),
    Row("so3lr-12k-npt", so3lr, ensemble="npt", ratio_to=("so3lr-12k", 1.15)),
    Row("mace-m-12k", lambda toy: mace(toy, 128, 1, 6.0), us=4.0, random=True, weights="mace-m"),
    Row("so3lr-200k", so3lr, atoms=200_000, us=0.5),
    Row("so3lr-400k", so3lr, atoms=400_000, us=0.5),
    Row("so3lr-50k", so3lr, atoms=50_000, us=0.5),
    Row("so3lr-12k-tf32", so3lr, us=0.5, precision="tf32"),
    Row("so3lr-12k-ieee", so3lr, us=0.5, precision="ieee"),
)


def kernel_of(model: Potential, precision: str | None) -> Any:
    """The model's kernel, in its dtype and on its device.

    Raises:
        ImportError, AttributeError: it is not there.
    """
    module, name = next(place for kind, place in KERNELS.items() if isinstance(model, kind))
    room = importlib.import_module(module)
    if precision is None:
        return getattr(room, name)(model)
    return getattr(room, name)(model, room.Tuning(precision=precision))


def structure(row: Row, toy: bool) -> Subject:
    """What is timed, with its cell rattled by fresh random numbers."""
    rng = np.random.default_rng()
    if toy:
        # so narrow that a molecule sees its image
        water = molecule("H2O")
        cell = ase.Atoms(water, cell=[3.3, 3.7, 4.7], pbc=row.kind == "water")
        repeat = (2, 1, 1) if row.kind == "water" else (1, 1, 1)
    else:
        made = subject(row.kind, row.atoms)
        cell, repeat = made.cell, made.repeat
    cell.positions += RATTLE * rng.normal(size=cell.positions.shape)
    return Subject(row.kind, cell.repeat(repeat) if row.kind == "water" else cell.copy(), cell, repeat)
