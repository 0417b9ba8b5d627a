"""Pair kernels against the plain functions, with autograd for every derivative; float64 unless said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from torch import Tensor

from heliodor.kernels.gpu.matrix import NeighborMatrix, matrix_of
from heliodor.kernels.gpu.pairs.terms import (
    LongRangeTables,
    SmearedTables,
    ZBLTables,
    long_range_pairs,
    smeared_coulomb_pairs,
    zbl_pairs,
)
from heliodor.neighbors import Neighbors, find_neighbors
from heliodor.physics.smeared_coulomb import smeared_coulomb
from heliodor.potentials.radial import exponential_cutoff, polynomial_cutoff
from heliodor.potentials.so3lr import SO3LR, SO3LRConfig
from heliodor.potentials.spookynet import SpookyNet, SpookyNetConfig
from heliodor.system import System

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tensors here are of the CPU, for the interpreter")

SHORT = 3.1
LIMIT = 6.0
TERMS = ("long range", "smeared", "zbl so3lr", "zbl spookynet")


@dataclass(frozen=True, eq=False)
class Found:
    """What a term gives: half of each pair's energies to each atom, and derivatives of the sum."""

    energies: dict[str, Tensor]
    gradient: Tensor
    strain: Tensor
    by_charge: Tensor | None = None
    by_ratio: Tensor | None = None


def so3lr() -> SO3LR:
    return SO3LR(SO3LRConfig(electrostatic_damping=2.7, dispersion_scale=1.1)).double()


def spookynet(limit: float | None) -> SpookyNet:
    return SpookyNet(SpookyNetConfig(n_features=4, n_modules=1, cutoff=SHORT, long_range_cutoff=limit)).double()


def random_state(n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Charges and Hirshfeld ratios."""
    rng = np.random.default_rng(n)
    return torch.from_numpy(rng.normal(0.0, 0.4, n)).to(dtype), torch.from_numpy(rng.uniform(0.5, 1.4, n)).to(dtype)


def reach(term: str, limit: float) -> float:
    return SHORT if term.startswith("zbl") else limit


def truth(term: str, system: System, pairs: Neighbors, limit: float) -> Found:
    """Plain functions over a half list without a skin, and autograd."""
    q, h = (x.requires_grad_() for x in random_state(system.n_atoms))
    epsilon = torch.zeros(system.n_structures, 3, 3, dtype=torch.float64, requires_grad=True)
    place = system.positions.clone().requires_grad_()
    moved = system.replace(positions=place).deform(epsilon)
    d = pairs.vectors(moved).square().sum(-1).sqrt()
    if term == "long range":
        names, found = ("coulomb", "dispersion"), so3lr().long_range(moved, pairs, q, h)
    elif term == "smeared":
        product = q[pairs.i] * q[pairs.j]
        names = ("energy",)
        end = None if np.isinf(limit) else limit
        found = (smeared_coulomb(d, product, 0.25 * SHORT, 0.75 * SHORT, end),)
    else:
        plain = so3lr() if term == "zbl so3lr" else spookynet(None)
        cut = polynomial_cutoff if term == "zbl so3lr" else exponential_cutoff
        z = system.numbers.double()
        names, found = ("energy",), (plain.zbl(d, z[pairs.i], z[pairs.j], cut(d, SHORT)),)
    energies = {}
    for name, pair in zip(names, found, strict=True):
        node = torch.zeros(system.n_atoms, dtype=torch.float64)
        energies[name] = node.index_add(0, pairs.i, 0.5 * pair).index_add(0, pairs.j, 0.5 * pair)
    total = sum(x.sum() for x in energies.values()) + 0.0 * (place.sum() + epsilon.sum() + q.sum() + h.sum())
    gradient, strain, by_q, by_h = torch.autograd.grad(total, (place, epsilon, q, h))
    rest = {"long range": (by_q, by_h), "smeared": (by_q, None)}.get(term, (None, None))
    return Found({name: x.detach() for name, x in energies.items()}, gradient, strain, *rest)


def kernel(
    term: str, system: System, matrix: NeighborMatrix | None, limit: float, dtype=torch.float64, strain: bool = True
) -> Found:
    # columns of one array, as a network may give them
    q, h = torch.stack(random_state(system.n_atoms, dtype), dim=-1).unbind(-1)
    where = (system.positions, system.cell, system.batch, matrix)
    if term == "long range":
        tables = LongRangeTables.of(so3lr().to(dtype))
        out: Any = long_range_pairs(*where, system.numbers, q, h, tables, strain=strain)
        energies = {"coulomb": out.coulomb, "dispersion": out.dispersion}
        rest = (out.charge_slope, out.ratio_slope)
    elif term == "smeared":
        model = spookynet(None if np.isinf(limit) else limit).to(dtype)
        out = smeared_coulomb_pairs(*where, q, SmearedTables.of(model), strain=strain)
        energies, rest = {"energy": out.energy}, (out.charge_slope, None)
    else:
        model = so3lr() if term == "zbl so3lr" else spookynet(None)
        tables = replace(ZBLTables.of(model.to(dtype)), cutoff=SHORT)
        out = zbl_pairs(*where, system.numbers, tables, strain=strain)
        energies, rest = {"energy": out.energy}, (None, None)
    if not strain:
        assert out.strain is None
    rows = torch.zeros(system.n_atoms, 9, dtype=dtype) if out.strain is None else out.strain
    summed = torch.zeros(system.n_structures, 9, dtype=dtype).index_add(0, system.batch, rows)
    assert all(x.dtype == dtype for x in (out.gradient, rows, *energies.values()))
    return Found(energies, out.gradient, summed.view(-1, 3, 3), *rest)


def same(a: Found, b: Found, tolerance: float) -> None:
    assert a.energies.keys() == b.energies.keys()
    pairs = [(a.energies[name], b.energies[name]) for name in a.energies]
    pairs += [(a.gradient, b.gradient), (a.strain, b.strain), (a.by_charge, b.by_charge), (a.by_ratio, b.by_ratio)]
    for x, y in pairs:
        assert (x is None) == (y is None)
        if x is not None and y is not None:
            np.testing.assert_allclose(x.double(), y.double(), rtol=0, atol=tolerance)


def bent(name: str, far: float = 0.0) -> ase.Atoms:
    atoms = molecule(name)
    atoms.positions += np.random.default_rng(len(atoms)).normal(far, 0.06, atoms.positions.shape)
    return atoms


def tiny(edge: float = 3.4) -> ase.Atoms:
    """A triclinic cell that is smaller than the cutoffs: every atom sees images of itself."""
    atoms = bent("H2O") + ase.Atoms("S", [[1.9, 0.3, 2.0]])
    atoms.cell, atoms.pbc = [[edge, 0, 0], [0.5, edge - 0.3, 0], [-0.4, 0.6, edge + 0.5]], True
    return atoms


def systems() -> dict[str, System]:
    return {
        "molecule": System.from_atoms(bent("CH3SH", far=20.0)),
        "crystal": System.from_atoms(tiny()),
        "batch": System.from_atoms([bent("H2O"), ase.Atoms("N"), bent("HCOOH")]),
        "crystals": System.from_atoms([tiny(), tiny(4.1)]),
    }


def lists(term: str, system: System, limit: float, skin: float) -> tuple[Neighbors, NeighborMatrix]:
    here = reach(term, limit)
    return find_neighbors(system, here), matrix_of(find_neighbors(system, here, skin=skin), system.n_atoms)


@pytest.mark.parametrize("name", ["molecule", "crystal", "batch", "crystals"])
@pytest.mark.parametrize("term", TERMS)
def test_energies_and_all_derivatives_within_a_cutoff(term, name):
    system = systems()[name]
    pairs, matrix = lists(term, system, LIMIT, 0.4)
    same(kernel(term, system, matrix, LIMIT), truth(term, system, pairs, LIMIT), 2e-12)


@pytest.mark.parametrize(("name", "listed"), [("molecule", False), ("batch", False), ("batch", True)])
@pytest.mark.parametrize("term", TERMS)
def test_all_pairs(term, name, listed):
    """Without a cutoff, from a matrix of all pairs and without any."""
    system = systems()[name]
    pairs, matrix = lists(term, system, np.inf, 0.0)
    found = kernel(term, system, matrix if listed else None, np.inf)
    same(found, truth(term, system, pairs, np.inf), 2e-12)


@pytest.mark.parametrize("name", ["molecule", "batch"])
def test_all_pairs_and_a_cutoff_of_the_model(name):
    system = systems()[name]
    limit = 1.001 * SHORT
    same(kernel("smeared", system, None, limit), truth("smeared", system, find_neighbors(system, limit), limit), 2e-12)


@pytest.mark.parametrize("term", TERMS)
def test_what_only_the_skin_holds_is_left_out(term):
    system = systems()["crystal"]
    small = 0.75 * LIMIT
    pairs, matrix = lists(term, system, small, 2.6)
    beyond = find_neighbors(system, reach(term, small) + 2.6)
    assert matrix.capacity > 128 or term.startswith("zbl")
    assert 2 * beyond.n_edges == int(matrix.count.sum()) > 2 * pairs.n_edges
    same(kernel(term, system, matrix, small), truth(term, system, pairs, small), 2e-12)


@pytest.mark.parametrize("term", TERMS)
def test_a_cutoff_is_reached_smoothly(term):
    """Just below the cutoff, on it and beyond, where exponents and quotients must not overflow."""
    edge = reach(term, LIMIT)
    for d in (edge - 0.05, edge, edge + 1e-4):
        system = System.from_atoms(ase.Atoms("OC", [[0, 0, 0], [0, d, 0]]))
        pairs, matrix = lists(term, system, LIMIT, 0.1)
        assert int(matrix.count.sum()) == 2
        exact = truth(term, system, pairs, LIMIT)
        same(kernel(term, system, matrix, LIMIT), exact, 1e-14)
        same(kernel(term, system, matrix, LIMIT, torch.float32), exact, 3e-7)
        if d >= edge:
            assert float(exact.gradient.abs().max()) < 1e-15


@pytest.mark.parametrize("term", TERMS)
def test_far_apart_and_very_close_in_single_precision(term):
    for d in (1e-2, 0.3, 3000.0, 1e5):
        system = System.from_atoms(ase.Atoms("OC", [[0, 0, 0], [0, 0.6 * d, 0.8 * d]]))
        found = kernel(term, system, None, np.inf, torch.float32)
        exact = truth(term, system, find_neighbors(system, np.inf), np.inf)
        assert bool(found.gradient.isfinite().all())
        if term.startswith("zbl") and d > SHORT:
            assert not found.gradient.any()
            continue
        for x, y in ((found.gradient, exact.gradient), (found.by_ratio, exact.by_ratio)):
            if x is not None and y is not None:
                np.testing.assert_allclose(x.double(), y, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("term", TERMS)
def test_one_atom_alone(term):
    system = System.from_atoms(ase.Atoms("O"))
    matrix = matrix_of(find_neighbors(system, LIMIT), 1)
    for m in (matrix, None):
        found = kernel(term, system, m, LIMIT)
        for x in (*found.energies.values(), found.gradient, found.strain, found.by_charge, found.by_ratio):
            assert x is None or not x.any()


@pytest.mark.parametrize("term", TERMS)
def test_room_of_rows_does_not_matter(term):
    """A row exactly full, and rows whose rest is nonsense; bit for bit, as are two runs."""
    system = systems()["crystal"]
    edges = find_neighbors(system, reach(term, LIMIT))
    longest = int(torch.bincount(edges.full().i).max())
    full, wide = matrix_of(edges, system.n_atoms, longest), matrix_of(edges, system.n_atoms, longest + 131)
    beyond = torch.arange(wide.capacity) >= wide.count[:, None]
    wide = replace(
        wide, index=torch.where(beyond, 1, wide.index).int(), shift=torch.where(beyond, -1, wide.shift).int()
    )
    first = kernel(term, system, full, LIMIT)
    for matrix in (full, wide):
        again = kernel(term, system, matrix, LIMIT)
        same(again, first, 0.0)


@pytest.mark.parametrize("term", TERMS)
def test_forces_add_up_to_nothing(term):
    system = systems()["crystals"]
    _, matrix = lists(term, system, LIMIT, 0.5)
    gradient = kernel(term, system, matrix, LIMIT, strain=False).gradient
    assert float(gradient.abs().max()) > 1e-2
    assert float(gradient.sum(0).abs().max()) < 1e-12


@pytest.mark.parametrize("term", TERMS)
def test_strain_is_the_derivative_of_the_energy(term):
    system = systems()["crystal"]
    rng, step = np.random.default_rng(5), 1e-4
    epsilon = torch.from_numpy(rng.normal(size=(1, 3, 3)))
    totals = []
    for sign in (1.0, -1.0):
        there = system.deform(sign * step * epsilon)
        _, matrix = lists(term, there, LIMIT, 0.0)
        found = kernel(term, there, matrix, LIMIT)
        totals.append(sum(float(x.sum()) for x in found.energies.values()))
    _, matrix = lists(term, system, LIMIT, 0.0)
    slope = float((kernel(term, system, matrix, LIMIT).strain * epsilon).sum())
    assert abs(slope) > 1e-2
    assert (totals[0] - totals[1]) / (2 * step) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("term", TERMS)
def test_single_precision(term):
    """Far from the origin and in a small cell: what float32 itself costs, and no more."""
    for name in ("molecule", "crystal"):
        system = systems()[name]
        pairs, matrix = lists(term, system, LIMIT, 0.4)
        found, exact = kernel(term, system, matrix, LIMIT, torch.float32), truth(term, system, pairs, LIMIT)
        scale = float(exact.gradient.abs().max())
        same(replace(found, energies={}), replace(exact, energies={}), 2e-5 * max(1.0, scale))


def test_kernels_compile_for_a_gpu_without_spills():
    """Real shapes, float32; by a process that does not interpret."""
    code = """
        import math, torch
        from heliodor.kernels.gpu.ahead import compile_ahead
        from heliodor.kernels.gpu.pairs import long_range as pair_long_range
        from heliodor.kernels.gpu.pairs import smeared as pair_smeared
        from heliodor.kernels.gpu.pairs import zbl as pair_zbl
        from heliodor.kernels.gpu.pairs.edges import BLOCK, SHORT_BLOCK, SHORT_WARPS, WARPS

        def types(kernel, images, doubles="positions cell", longs="batch starts numbers", ints="index shift count"):
            known = {name: "*fp64" for name in doubles.split()} | {name: "*i64" for name in longs.split()}
            known |= {name: "*i32" if images else "*i64" for name in ints.split()}
            known |= {"capacity": "i32", "n_atoms": "i32"}
            names = [name for name in kernel.arg_names if name == name.lower()]
            return {name: known.get(name, "*fp32") for name in names}

        far = pair_long_range.LongRangeTables(torch.ones(119, 2), 4.0, 1.2, 2.0)
        parts = torch.ones(8), torch.ones(119)
        found = []
        for images, strain in ((True, True), (True, False), (False, False)):
            kind = {"IMAGES": images, "SEVERAL": strain, "BLOCK": BLOCK}
            limit = 12.0 if images else math.inf
            long, smeared = pair_long_range.long_range_kernel, pair_smeared.smeared_kernel
            constants = pair_long_range.long_range_constants(far, limit, strain=strain)
            found.append(("long", compile_ahead(long, types(long, images), constants | kind, warps=WARPS)))
            tables = pair_smeared.SmearedTables(1.32, 3.97, 10.58 if images else None)
            constants = pair_smeared.smeared_constants(tables, strain=strain)
            found.append(("smeared", compile_ahead(smeared, types(smeared, images), constants | kind, warps=WARPS)))
        zbl = pair_zbl.zbl_kernel
        kind = {"IMAGES": True, "SEVERAL": False, "BLOCK": SHORT_BLOCK}
        for tables in (pair_zbl.ZBLTables(*parts, 4.5, False, 1.5), pair_zbl.ZBLTables(*parts, 5.29, True, None)):
            constants = pair_zbl.zbl_constants(tables, strain=True)
            found.append(("zbl", compile_ahead(zbl, types(zbl, True), constants | kind, warps=SHORT_WARPS)))
        for name, used in found:
            print(name, used)
            assert used.spilled == 0 and used.registers <= 128, (name, used)
    """
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(Path(sys.modules["heliodor"].__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, timeout=300
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Resources") == 8
