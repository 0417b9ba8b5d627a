"""Binding curves: known potentials, Coulomb's law, CCSD(T), and the package's own interaction energies."""

from __future__ import annotations

import gzip
import io
import json

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.units import create_units

import heliodor
from heliodor.analysis.binding import binding_curve, draw_binding, two_fragments
from heliodor.analysis.binding.curve import displacements, lowest
from heliodor.analysis.binding.draw import write_binding
from heliodor.analysis.binding.fragments import fragment_charges
from heliodor.errors import InputError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System
from heliodor.units import KCAL_PER_MOL
from support import shared

EPSILON, SIGMA = 0.02, 3.0


class LennardJones(Potential):
    """4ε((σ/r)¹² - (σ/r)⁶) between all pairs, in two terms."""

    name = "lj"
    elements = tuple(range(1, 90))
    cutoff = 60.0

    def __init__(self) -> None:
        import torch

        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        import torch

        edges = neighbors.within(system)
        x = (SIGMA / edges.vectors(system).norm(dim=-1)) ** 6
        zero = torch.zeros(system.n_atoms, dtype=torch.float64)
        return Terms(
            {
                name: zero.index_add(0, edges.i, half).index_add(0, edges.j, half)
                for name, half in (("repulsion", 2.0 * EPSILON * x * x), ("attraction", -2.0 * EPSILON * x))
            }
        )


def argon_pair(distance: float = 3.4) -> ase.Atoms:
    return ase.Atoms("Ar2", [[0.0, 0.0, 0.0], [0.0, 0.0, distance]])


def water_dimer() -> ase.Atoms:
    """S66's at the distance of its minimum (Řezáč, Riley & Hobza, JCTC 7, 2427 (2011))."""
    return ase.Atoms(
        "OH2OH2",
        [
            [-0.70219605, -0.05606026, 0.00994226],
            [-1.02219322, 0.84677578, -0.01148871],
            [0.25752106, 0.04212150, 0.00521900],
            [2.21978520, 0.02671460, 0.00062050],
            [2.59240690, -0.41166534, 0.76674488],
            [2.59204957, -0.44949829, -0.74478278],
        ],
    )


def test_two_atoms_of_lennard_jones():
    pair = argon_pair()
    found = binding_curve(LennardJones(), pair, np.array([0, 1]), grid=displacements(-0.6, 10.0))
    r = 3.4 + found.displacement
    x = (SIGMA / r) ** 6
    np.testing.assert_allclose(found.separation, r)
    np.testing.assert_allclose(found.closest, r)
    np.testing.assert_allclose(found.energy, 4.0 * EPSILON * (x * x - x), atol=1e-14)
    np.testing.assert_allclose(found.terms["attraction"], -4.0 * EPSILON * x, atol=1e-14)
    assert found.depth == pytest.approx(-EPSILON, rel=1e-3)
    assert 3.4 + found.minimum == pytest.approx(2.0 ** (1.0 / 6.0) * SIGMA, abs=2e-3)
    assert found.as_given == pytest.approx(found.energy[found.displacement == 0.0][0])
    assert not found.at_edge


def test_forces_within_the_fragments_do_not_count():
    four = ase.Atoms("Ar4", [[0, 0, 0], [0, 2.0, 0], [3.5, 0, 0], [3.5, 2.0, 0]])
    found = binding_curve(LennardJones(), four, np.array([0, 0, 1, 1]))
    r = np.stack([3.5 + found.displacement, np.hypot(3.5 + found.displacement, 2.0)])
    x = (SIGMA / r) ** 6
    np.testing.assert_allclose(found.energy, 2.0 * (4.0 * EPSILON * (x * x - x)).sum(0), atol=1e-12)
    assert found.axis.tolist() == [1.0, 0.0, 0.0]
    across = binding_curve(LennardJones(), four, np.array([0, 0, 1, 1]), axis=[0.0, 0.0, 2.0])
    np.testing.assert_allclose(across.separation, np.hypot(3.5, across.displacement))


def test_ions_go_as_one_over_r(so3lr):
    """Ammonium and fluoride beyond 30 Å: point charges, whatever the model does to them."""
    pair = ase.Atoms("NH4", 1.02 / np.sqrt(3) * np.array([[0, 0, 0], [1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]))
    pair += ase.Atoms("F", [[2.6, 0.0, 0.0]])
    index = np.array([0] * 5 + [1])
    grid = np.array([0.0, 1.0, 30.0, 40.0, 60.0, 80.0])
    found = binding_curve(so3lr, pair, index, (1.0, -1.0), grid=grid)
    units = create_units("2014")
    coulomb = -(units["_e"] ** 2) / (4.0 * np.pi * units["_eps0"]) / units["_e"] * 1e10 / found.separation[2:]
    np.testing.assert_allclose(found.energy[2:], coulomb, rtol=2e-3)
    assert found.energy[0] < -3.0
    np.testing.assert_allclose(sum(found.terms.values()), found.energy, atol=1e-9)


def test_the_same_as_interaction_energy(so3lr):
    dimer = water_dimer()
    index = two_fragments(dimer)
    assert index.tolist() == [0, 0, 0, 1, 1, 1]
    for protocol in ("fragments", "relaxed"):
        found = binding_curve(so3lr, dimer, index, grid=np.array([-0.2, 0.0, 0.5, 3.0]), protocol=protocol)
        for k, step in enumerate(found.displacement):
            moved = dimer.copy()
            moved.positions[3:] += step * found.axis
            expected = heliodor.interaction_energy(so3lr, moved, index.tolist(), [0.0, 0.0], protocol=protocol)
            assert found.energy[k] == pytest.approx(expected, abs=1e-10)


def test_water_dimer_against_coupled_cluster(so3lr):
    """S66x8, CCSD(T)/CBS as revised by Brauer et al., PCCP 18, 20905 (2016); SO3LR overbinds by 0.7 kcal/mol."""
    text = gzip.decompress(shared("data/nci_refdata/S66x8.xyz.gz").read_bytes()).decode()
    frames = [f for f in ase.io.read(io.StringIO(text), ":", format="extxyz") if "Water-Water_" in f.info["name"]]
    dimers = [f for f in frames if len(f) == 6]
    known = json.loads(shared("data/nci_refdata/S66x8.json").read_text())["reactions"]
    reference = {reaction["terms"][0][0]: reaction["ref"] for reaction in known}
    (start,) = (f for f in dimers if f.info["name"] == "Water-Water_1.00")
    axis = dimers[-1].positions[3] - start.positions[3]
    axis /= np.linalg.norm(axis)
    steps = np.array([(f.positions[3] - start.positions[3]) @ axis for f in dimers])
    found = binding_curve(so3lr, start, two_fragments(start), grid=steps, axis=axis)
    expected = np.array([reference[f.info["name"]] for f in dimers])
    away = found.energy / KCAL_PER_MOL - expected
    assert np.abs(away).mean() == pytest.approx(0.49, abs=0.02)
    assert np.abs(away).max() < 0.85
    assert abs(found.minimum - lowest(steps, expected)[0]) < 0.12
    assert found.depth / KCAL_PER_MOL == pytest.approx(lowest(steps, expected)[1], abs=0.8)


def test_files(tmp_path):
    curves = [
        binding_curve(LennardJones(), argon_pair(d), np.array([0, 1]), name=f"pair {d}", grid=displacements(0.0, 3.0))
        for d in (3.0, 3.6)
    ]
    assert curves[1].at_edge
    draw_binding(curves, tmp_path / "both.png", "two")
    draw_binding(curves[:1], tmp_path / "one.png")
    assert (tmp_path / "both.png").read_bytes()[:4] == b"\x89PNG"
    write_binding(curves, tmp_path / "table.csv")
    rows = [line.split(",") for line in (tmp_path / "table.csv").read_text().splitlines()]
    assert rows[0][:3] == ["complex", "displacement_A", "separation_A"]
    assert len(rows) == 1 + 2 * len(curves[0].displacement)
    kcal, ev, repulsion, attraction = (float(x) for x in rows[5][4:8])
    assert ev == pytest.approx(repulsion + attraction, abs=1e-9)
    assert kcal == pytest.approx(23.0605 * ev, rel=1e-5)


def test_grids():
    grid = displacements()
    assert (grid[0], grid[-1]) == (-0.5, 10.0)
    assert 0.0 in grid
    assert (np.diff(grid) > 0.05).all()
    np.testing.assert_allclose(displacements(-1.0, 2.0, 0.5), [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0])
    assert displacements(-0.25, 1.1, 0.5).tolist() == [-0.25, 0.0, 0.5, 1.0, 1.1]
    assert displacements(0.0, 1.0)[0] == 0.0
    for low, high, step in ((0.5, 2.0, None), (-1.0, 0.0, None), (0.0, np.inf, None), (-1.0, 1.0, 0.0), (0, 9, 1e-5)):
        with pytest.raises(InputError):
            displacements(low, high, step)


def test_fragments_and_charges():
    dimer = water_dimer()
    assert two_fragments(dimer, "3-5").tolist() == [1, 1, 1, 0, 0, 0]
    dimer.arrays["fragment"] = np.array([5, 5, 5, 2, 2, 2])
    assert two_fragments(dimer).tolist() == [1, 1, 1, 0, 0, 0]
    three = water_dimer() + molecule("CH4")
    three.positions[6:] += (0.0, 6.0, 0.0)
    with pytest.raises(InputError, match=r"3 molecules: H2O \(atoms 0-2\)"):
        two_fragments(three)
    assert two_fragments(three, "molecule 0,2").tolist() == [0] * 3 + [1] * 3 + [0] * 5
    with pytest.raises(InputError, match="holds all atoms"):
        two_fragments(dimer, "all")
    box = water_dimer()
    box.set_cell([9.0, 9.0, 9.0])
    box.pbc = True
    with pytest.raises(InputError, match="periodic"):
        two_fragments(box)
    index = np.array([0, 0, 0, 1, 1, 1])
    assert fragment_charges(water_dimer(), index).tolist() == [0.0, 0.0]
    cation = ase.Atoms("OH3OH2", np.arange(21).reshape(7, 3), info={"charge": 1})
    assert fragment_charges(cation, np.array([0] * 4 + [1] * 3)).tolist() == [1.0, 0.0]
    for charges, info, message in (
        ([1.0, 1.0], {"charge": 0}, "add up to 2"),
        ([1.0], {}, "need two charges"),
        (None, {"charge": 2}, "cannot be told"),
    ):
        atoms = water_dimer()
        atoms.info |= info
        with pytest.raises(InputError, match=message):
            fragment_charges(atoms, index, charges)


def test_refused():
    pair, index = argon_pair(), np.array([0, 1])
    nested = ase.Atoms("Ar3", [[0, 0, 3.0], [0, 0, -3.0], [0, 0, 0]])
    with pytest.raises(InputError, match="define no direction"):
        binding_curve(LennardJones(), nested, np.array([0, 0, 1]))
    with pytest.raises(InputError, match="no length"):
        binding_curve(LennardJones(), pair, index, axis=[0.0, 0.0, 0.0])
    with pytest.raises(InputError, match="both must occur"):
        binding_curve(LennardJones(), pair, np.array([0, 0]))
    with pytest.raises(InputError, match="protocol must be one of"):
        binding_curve(LennardJones(), pair, index, protocol="none")
    with pytest.raises(InputError, match="must ascend"):
        binding_curve(LennardJones(), pair, index, grid=np.array([0.5, 1.0, 2.0, 3.0]))
    with pytest.raises(InputError, match="apart"):
        binding_curve(LennardJones(), pair, index, grid=np.array([-3.4, -1.0, 0.0, 1.0]))
