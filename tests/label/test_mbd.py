"""MBD@rsSCS: published value, another program, limits and derivatives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from heliodor.errors import ModelError
from heliodor.physics.mbd import mbd_energy, mbd_energy_forces
from heliodor.units import BOHR, HARTREE
from support import DATA

RECORDS = json.loads((DATA / "labels/mbd_pymbd.json").read_text())


def _energy(positions, numbers, ratios, **options) -> float:
    positions, ratios = torch.tensor(positions, dtype=torch.float64), torch.tensor(ratios, dtype=torch.float64)
    return float(mbd_energy(positions, numbers, ratios, **options))


def test_argon_dimer_of_libmbd() -> None:
    # libMBD's own test: 4 Å with a Bohr of 0.529177249 Å, β of PBE; Hartree
    positions = [[0.0, 0.0, 0.0], [0.0, 0.0, 4.0 / 0.529177249 * BOHR]]
    assert _energy(positions, [18, 18], [1.0, 1.0], beta=0.83) / HARTREE == pytest.approx(-0.00024626476, abs=1e-11)


@pytest.mark.parametrize("name", RECORDS)
def test_energies_of_pymbd(name: str) -> None:
    record = RECORDS[name]
    for beta, energy in record["energy_hartree"].items():
        ours = _energy(record["positions"], record["numbers"], record["ratios"], beta=float(beta))
        assert ours / HARTREE == pytest.approx(energy, abs=1e-12)


def test_two_atoms_far_apart_attract_as_london_says() -> None:
    # C6 of equal atoms over r⁶; at 40 Å damping, screening and higher orders are gone
    far = 40.0
    london = -64.3 / (far / BOHR) ** 6 * HARTREE
    assert _energy([[0, 0, 0], [far, 0, 0]], [18, 18], [1.0, 1.0]) == pytest.approx(london, rel=1e-3)


def test_coupling_is_many_body() -> None:
    def energy(*x: float) -> float:
        return _energy([[v, 0.0, 0.0] for v in x], [18] * len(x), [1.0] * len(x))

    pairs = 2 * energy(0.0, 3.5) + energy(0.0, 7.0)
    # three atoms in a row: the triple-dipole term is attractive
    assert energy(0.0, 3.5, 7.0) < pairs - 1e-5


def test_forces_and_derivatives_by_ratios_are_exact() -> None:
    record = RECORDS["CH3CH2OH"]
    numbers, step = record["numbers"], 1e-4
    positions, ratios = np.array(record["positions"]), np.array(record["ratios"])
    _, forces = mbd_energy_forces(positions, numbers, ratios)
    assert forces.sum(0) == pytest.approx(np.zeros(3), abs=1e-12)
    leaf = torch.tensor(ratios, requires_grad=True)
    (by_ratio,) = torch.autograd.grad(mbd_energy(torch.tensor(positions), numbers, leaf), leaf)
    for atom in (0, 2, 6):
        shift = np.zeros_like(positions)
        shift[atom] = [0.6, -0.3, 0.7]
        ends = [_energy(positions + sign * step * shift, numbers, ratios) for sign in (1, -1)]
        assert -(ends[0] - ends[1]) / (2 * step) == pytest.approx(float((forces * shift).sum()), abs=1e-8)
        grow = np.zeros_like(ratios)
        grow[atom] = step
        ends = [_energy(positions, numbers, ratios + sign * grow) for sign in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(by_ratio[atom]), abs=1e-7)


def test_one_atom_has_no_dispersion() -> None:
    energy, forces = mbd_energy_forces(np.zeros((1, 3)), [18], np.ones(1))
    assert energy == 0.0 and not forces.any()


def test_quadrature_is_converged() -> None:
    record = RECORDS["benzene_dimer"]
    few, many = (_energy(record["positions"], record["numbers"], record["ratios"], n_frequencies=n) for n in (15, 40))
    assert few == pytest.approx(many, abs=1e-7)


def test_refuses_what_has_no_ground_state_or_no_parameters() -> None:
    with pytest.raises(ModelError, match="polariz"):
        _energy([[0, 0, 0], [0, 0, 1.0], [0, 0, 2.0]], [55, 55, 55], [3.0, 3.0, 3.0], beta=0.2)
    with pytest.raises(ModelError, match="no van der Waals parameters for Og"):
        _energy([[0, 0, 0]], [118], [1.0])


@pytest.mark.parametrize("ratio", [0.0, -1e-4, float("nan")])
def test_an_atom_without_volume_is_named(ratio: float) -> None:
    # a bare proton far from all electrons: no number may come of it, and no traceback of linear algebra
    with pytest.raises(ModelError, match=r"atom 1 has the Hirshfeld ratio"):
        _energy([[0, 0, 0], [0, 0, 8.0]], [2, 1], [1.0, ratio])
