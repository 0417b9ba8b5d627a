"""D4 kernels against the plain module, with autograd for every derivative; float64 unless said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from torch import Tensor

from heliodor.errors import ModelError
from heliodor.kernels.gpu.matrix import NeighborMatrix, matrix_of
from heliodor.kernels.gpu.pairs.d4 import D4Tables, d4_pairs
from heliodor.neighbors import Neighbors, find_neighbors
from heliodor.potentials.spookynet import SpookyNet, SpookyNetConfig
from heliodor.system import System

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tensors here are of the CPU, for the interpreter")

LIMIT = 6.0


@dataclass(frozen=True, eq=False)
class Found:
    """Half of each pair's energy to each atom, and derivatives of the sum."""

    energy: Tensor
    gradient: Tensor
    strain: Tensor
    by_charge: Tensor


def spookynet(limit: float | None, dtype: torch.dtype = torch.float64) -> SpookyNet:
    """With other parameters than those that a model starts from."""
    model = SpookyNet(SpookyNetConfig(n_features=4, n_modules=1, cutoff=3.0, long_range_cutoff=limit)).double()
    assert model.d4 is not None
    with torch.no_grad():
        model.d4.charge_scale.copy_(torch.tensor(0.83).expm1().log())
        model.d4.s8.mul_(0.9)
        model.d4.a1.add_(0.3)
        model.d4.a2.mul_(0.7)
    return model.to(dtype)


def random_charges(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.random.default_rng(n).normal(0.0, 0.4, n)).to(dtype)


def finite(limit: float) -> float | None:
    return None if np.isinf(limit) else limit


def truth(system: System, pairs: Neighbors, limit: float, charges: Tensor | None = None) -> Found:
    q = (random_charges(system.n_atoms) if charges is None else charges.double()).requires_grad_()
    epsilon = torch.zeros(system.n_structures, 3, 3, dtype=torch.float64, requires_grad=True)
    place = system.positions.clone().requires_grad_()
    moved = system.replace(positions=place).deform(epsilon)
    d = pairs.vectors(moved).square().sum(-1).sqrt()
    d4 = spookynet(finite(limit)).d4
    assert d4 is not None
    pair = d4(d, pairs.i, pairs.j, system.numbers, q)
    node = torch.zeros(system.n_atoms, dtype=torch.float64)
    node = node.index_add(0, pairs.i, 0.5 * pair).index_add(0, pairs.j, 0.5 * pair)
    total = node.sum() + 0.0 * (place.sum() + epsilon.sum() + q.sum())
    return Found(node.detach(), *torch.autograd.grad(total, (place, epsilon, q)))


def kernel(
    system: System,
    matrix: NeighborMatrix | None,
    limit: float,
    dtype: torch.dtype = torch.float64,
    *,
    charges: Tensor | None = None,
    contacts: NeighborMatrix | None = None,
    elements: tuple[int, ...] | None = None,
    reach: float | None = None,
    strain: bool = True,
) -> Found:
    q = random_charges(system.n_atoms, dtype) if charges is None else charges.to(dtype)
    here = tuple(set(system.numbers.tolist())) if elements is None else elements
    tables = D4Tables.of(spookynet(finite(limit), dtype), here)
    tables = tables if reach is None else replace(tables, reach=reach)
    where = (system.positions, system.cell, system.batch, matrix, system.numbers, q, tables)
    out = d4_pairs(*where, strain=strain, contacts=contacts)
    rows = torch.zeros(system.n_atoms, 9, dtype=dtype) if out.strain is None else out.strain
    assert strain == (out.strain is not None)
    summed = torch.zeros(system.n_structures, 9, dtype=dtype).index_add(0, system.batch, rows)
    assert out.charge_slope is not None and out.gradient.dtype == dtype
    return Found(out.energy, out.gradient, summed.view(-1, 3, 3), out.charge_slope)


def same(a: Found, b: Found, tolerance: float) -> None:
    for name in ("energy", "gradient", "strain", "by_charge"):
        x, y = getattr(a, name).double(), getattr(b, name).double()
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance, err_msg=name)


def bent(name: str) -> ase.Atoms:
    atoms = molecule(name)
    atoms.positions += np.random.default_rng(len(atoms)).normal(7.0, 0.06, atoms.positions.shape)
    return atoms


def tiny(edge: float = 3.4) -> ase.Atoms:
    """A triclinic cell that is smaller than the cutoff: every atom sees images of itself."""
    atoms = bent("H2O") + ase.Atoms("S", [[8.9, 7.3, 9.0]])
    atoms.cell, atoms.pbc = [[edge, 0, 0], [0.5, edge - 0.3, 0], [-0.4, 0.6, edge + 0.5]], True
    return atoms


def systems() -> dict[str, System]:
    return {
        "molecule": System.from_atoms(bent("CH3SH")),
        "metal": System.from_atoms(ase.Atoms("ZnClCl", [[0, 0, 0], [2.1, 0.1, 0], [-2.0, 0.2, 0.3]])),
        "crystal": System.from_atoms(tiny()),
        "batch": System.from_atoms([bent("H2O"), ase.Atoms("N"), bent("HCOOH")]),
        "crystals": System.from_atoms([tiny(), tiny(4.1)]),
    }


@pytest.mark.parametrize("name", ["molecule", "metal", "crystal", "batch", "crystals"])
def test_energies_and_all_derivatives_within_a_cutoff(name):
    system = systems()[name]
    matrix = matrix_of(find_neighbors(system, LIMIT, skin=0.4), system.n_atoms)
    exact = truth(system, find_neighbors(system, LIMIT), LIMIT)
    assert float(exact.by_charge.abs().max()) > 1e-4
    same(kernel(system, matrix, LIMIT), exact, 1e-13)


@pytest.mark.parametrize(
    ("name", "limit", "listed"),
    [("metal", np.inf, False), ("batch", 3.0, False), ("batch", np.inf, False), ("metal", np.inf, True)],
)
def test_all_pairs(name, limit, listed):
    """With and without a cutoff of the model, from a matrix of all pairs and without any."""
    system = systems()[name]
    matrix = matrix_of(find_neighbors(system, np.inf), system.n_atoms) if listed else None
    same(kernel(system, matrix, limit), truth(system, find_neighbors(system, limit), limit), 1e-13)


def test_all_elements_need_all_directions():
    """The tables of the whole periodic table, and those of a few elements, say the same."""
    system = systems()["molecule"]
    assert [D4Tables.of(spookynet(None, dtype), e).references.shape[-1] for dtype, e in (
        (torch.float32, (1, 6, 7, 8, 16)), (torch.float64, (1, 6, 7, 8, 16)), (torch.float64, None),
    )] == [8, 16, 32]  # fmt: skip
    exact = truth(system, find_neighbors(system, np.inf), np.inf)
    same(kernel(system, None, np.inf, elements=tuple(range(1, 87))), exact, 1e-13)


def test_charges_that_strip_an_atom():
    """Beyond the effective charge of its nucleus, where the charge factor is held."""
    system = systems()["molecule"]
    q = torch.tensor([4.3, 6.5, -3.0, 1.2, -0.9, -1.0], dtype=torch.float64)[: system.n_atoms]
    exact = truth(system, find_neighbors(system, np.inf), np.inf, q.clone())
    same(kernel(system, None, np.inf, charges=q), exact, 1e-12)


def test_atoms_unlike_every_reference():
    """A coordination number far from all references: their fixed weights, no slope."""
    rng = np.random.default_rng(1)
    system = System.from_atoms(ase.Atoms("C9", 0.7 * rng.normal(size=(9, 3))))
    exact = truth(system, find_neighbors(system, np.inf), np.inf)
    assert bool(exact.gradient.isfinite().all())
    same(kernel(system, None, np.inf), exact, 1e-11)


def test_coordination_from_the_short_list():
    """Rows that reach beyond the last contact give the same; rows that do not are not used."""
    system = systems()["crystal"]
    full = find_neighbors(system, LIMIT)
    matrix = matrix_of(full, system.n_atoms)
    model = spookynet(LIMIT)
    reach = D4Tables.of(model, (1, 8, 16)).reach
    assert 3.0 < reach < 5.0
    exact = truth(system, full, LIMIT)
    short = matrix_of(find_neighbors(system, reach + 0.01, skin=0.5), system.n_atoms)
    same(kernel(system, matrix, LIMIT, contacts=short), exact, 1e-10)
    shorter = matrix_of(find_neighbors(system, 1.7), system.n_atoms)
    same(kernel(system, matrix, LIMIT, contacts=shorter), exact, 1e-13)
    wrong = kernel(system, matrix, LIMIT, contacts=shorter, reach=1.7)
    assert float((wrong.gradient - exact.gradient).abs().max()) > 1e-6


def test_the_cutoff():
    """Just below, on it and beyond."""
    for d in (LIMIT - 0.05, LIMIT, LIMIT + 1e-4):
        system = System.from_atoms(ase.Atoms("OC", [[0, 0, 0], [0, d, 0]]))
        matrix = matrix_of(find_neighbors(system, LIMIT, skin=0.1), 2)
        assert int(matrix.count.sum()) == 2
        exact = truth(system, find_neighbors(system, LIMIT), LIMIT)
        same(kernel(system, matrix, LIMIT), exact, 1e-15)
        same(kernel(system, matrix, LIMIT, torch.float32), exact, 1e-9)


def test_far_apart_in_single_precision():
    for d in (1e-2, 0.3, 90.0, 3000.0, 1e5):
        system = System.from_atoms(ase.Atoms("OC", [[0, 0, 0], [0, 0.6 * d, 0.8 * d]]))
        exact = truth(system, find_neighbors(system, np.inf), np.inf)
        found = kernel(system, None, np.inf, torch.float32)
        assert bool(found.gradient.isfinite().all())
        same(found, exact, 1e-6)


def test_one_atom_alone():
    system = System.from_atoms(ase.Atoms("O"))
    for matrix in (matrix_of(find_neighbors(system, LIMIT), 1), None):
        found = kernel(system, matrix, LIMIT)
        assert not any(x.any() for x in (found.energy, found.gradient, found.strain, found.by_charge))


def test_room_of_rows_does_not_matter():
    """A row exactly full, and rows whose rest is nonsense; bit for bit, as are two runs."""
    system = systems()["crystal"]
    edges = find_neighbors(system, LIMIT)
    longest = int(torch.bincount(edges.full().i).max())
    full, wide = matrix_of(edges, system.n_atoms, longest), matrix_of(edges, system.n_atoms, longest + 131)
    beyond = torch.arange(wide.capacity) >= wide.count[:, None]
    wide = replace(
        wide, index=torch.where(beyond, 1, wide.index).int(), shift=torch.where(beyond, -1, wide.shift).int()
    )
    first = kernel(system, full, LIMIT)
    for matrix in (full, wide):
        same(kernel(system, matrix, LIMIT), first, 0.0)


def test_forces_add_up_to_nothing():
    system = systems()["crystals"]
    matrix = matrix_of(find_neighbors(system, LIMIT, skin=0.5), system.n_atoms)
    gradient = kernel(system, matrix, LIMIT, strain=False).gradient
    assert float(gradient.abs().max()) > 1e-2
    assert float(gradient.sum(0).abs().max()) < 1e-13


def test_strain_is_the_derivative_of_the_energy():
    system = systems()["crystal"]
    step, epsilon = 1e-4, torch.from_numpy(np.random.default_rng(5).normal(size=(1, 3, 3)))
    totals = []
    for sign in (1.0, -1.0):
        there = system.deform(sign * step * epsilon)
        totals.append(float(kernel(there, matrix_of(find_neighbors(there, LIMIT), 4), LIMIT).energy.sum()))
    slope = float((kernel(system, matrix_of(find_neighbors(system, LIMIT), 4), LIMIT).strain * epsilon).sum())
    assert abs(slope) > 1e-2
    assert (totals[0] - totals[1]) / (2 * step) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("name", ["molecule", "crystal"])
def test_single_precision(name):
    """Eight directions instead of 23 frequencies, and what float32 itself costs."""
    system = systems()[name]
    matrix = matrix_of(find_neighbors(system, LIMIT, skin=0.4), system.n_atoms)
    exact = truth(system, find_neighbors(system, LIMIT), LIMIT)
    scale = max(1.0, float(exact.strain.abs().max()))
    same(kernel(system, matrix, LIMIT, torch.float32), exact, 2e-6 * scale)


def test_a_model_without_dispersion_is_refused():
    model = SpookyNet(SpookyNetConfig(n_features=4, n_modules=1, dispersion=False))
    with pytest.raises(ModelError, match="no D4"):
        D4Tables.of(model)


def test_kernels_compile_for_a_gpu_without_spills():
    """Real shapes, float32; by a process that does not interpret."""
    code = """
        import math, torch
        from heliodor.kernels.gpu.pairs import d4
        from heliodor.kernels.gpu.ahead import compile_ahead
        from heliodor.kernels.gpu.pairs.edges import BLOCK, SHORT_BLOCK, SHORT_WARPS, WARPS
        from heliodor.potentials.spookynet import SpookyNet, PRESETS, SpookyNetConfig

        def types(kernel, images):
            known = {name: "*fp64" for name in ("positions", "cell")} | {"n_gauss": "*i32"}
            known |= {name: "*i64" for name in ("batch", "starts", "numbers")}
            known |= {name: "*i32" if images else "*i64" for name in ("index", "shift", "count")}
            known |= {"capacity": "i32", "n_atoms": "i32"}
            names = [name for name in kernel.arg_names if name == name.lower()]
            return {name: known.get(name, "*fp32") for name in names}

        def show(name, kernel, images, constants, warps):
            used = compile_ahead(kernel, types(kernel, images), constants, warps=warps)
            print(name, used)
            assert used.spilled == 0 and used.registers <= 160, used

        # a protein within 20 Bohr, coordination from the short list; a molecule of any elements, all pairs
        for config, elements, images in (
            (PRESETS["crambin"], (1, 6, 7, 8, 16), True),
            (SpookyNetConfig(n_features=8, n_modules=1), None, False),
        ):
            tables = d4.D4Tables.of(SpookyNet(config).float(), elements)
            width = tables.references.shape[-1]
            kind = {"IMAGES": images, "SEVERAL": not images}
            near = kind | d4.contact_constants(tables, 5.29 if images else math.inf)
            near |= {"BLOCK": SHORT_BLOCK if images else BLOCK}
            warps = SHORT_WARPS if images else WARPS
            show(f"polarizability {width}", d4.polarizability_kernel, images,
                 near | d4.REFERENCE_CONSTANTS | {"WIDTH": width}, warps)
            show(f"dispersion {width}", d4.dispersion_kernel, images,
                 kind | d4.dispersion_constants(tables) | {"STRAIN": images, "BLOCK": BLOCK}, WARPS)
            show(f"spread {width}", d4.spread_kernel, images, near | {"STRAIN": images}, warps)
    """
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(Path(sys.modules["heliodor"].__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, timeout=300
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Resources") == 6
