"""D4 dispersion against dftd4, which is somebody else's Fortran."""

from __future__ import annotations

import ctypes

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

from heliodor.physics.d4 import D4Dispersion
from heliodor.physics.smeared_coulomb import smeared_coulomb
from heliodor.physics.tables import BOHR_2014, COULOMB, HARTREE_2014

HARTREE_FOCK = {"s6": 1.0, "s8": 1.61679827, "a1": 0.44959224, "a2": 3.35743605}


def dftd4(atoms: ase.Atoms) -> tuple[float, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two-body energy (Hartree) with Hartree-Fock damping, coordination, charges, C6 and static polarizabilities."""
    gto = pytest.importorskip("pyscf.gto")
    interface = pytest.importorskip("pyscf.dispersion.dftd4")
    geometry = list(zip(atoms.symbols, atoms.positions, strict=True))
    model = interface.DFTD4Dispersion(gto.M(atom=geometry, basis="sto-3g", verbose=0), xc="hf")
    model.set_param(HARTREE_FOCK["s8"], HARTREE_FOCK["a1"], HARTREE_FOCK["a2"], s6=1.0, s9=0.0)
    n = len(atoms)
    cn, charges, alpha, c6 = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros((n, n))
    fields = [x.ctypes.data_as(ctypes.c_void_p) for x in (cn, charges, c6, alpha)]
    library = interface.libdftd4
    library.dftd4_get_properties(library.dftd4_new_error(), model._mol, model._disp, *fields)
    return float(model.get_dispersion()["energy"]), cn, charges, c6, alpha


def hartree_fock() -> D4Dispersion:
    d4 = D4Dispersion().double().requires_grad_(False)
    for name, value in HARTREE_FOCK.items():
        getattr(d4, name).copy_(torch.tensor(value, dtype=torch.float64).expm1().log())
    d4.charge_scale.copy_(torch.tensor(1.0, dtype=torch.float64).expm1().log())
    return d4


def pairs(atoms: ase.Atoms) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    i, j = np.triu_indices(len(atoms), 1)
    return torch.from_numpy(atoms.get_all_distances()[i, j]), torch.from_numpy(i), torch.from_numpy(j)


@pytest.mark.parametrize("name", ["Ar2", "P2", "H2O", "CH3CH2OH", "CH3CONH2", "SiH4", "LiF", "CH3SH", "CH3Cl"])
def test_dftd4_says_the_same(name):
    """At its own charges: coordination, coefficients, energy. What is left are other digits of Bohr's radius."""
    atoms = ase.Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.8]]) if name == "Ar2" else molecule(name)
    energy, cn, charges, c6, alpha = dftd4(atoms)
    d4, (d, i, j), numbers = hartree_fock(), pairs(atoms), torch.from_numpy(atoms.numbers)
    q = torch.from_numpy(charges)
    ours = d4.coordination(d / BOHR_2014, i, j, numbers)
    np.testing.assert_allclose(ours, cn, rtol=0, atol=1e-6)
    polarizabilities = d4.polarizabilities(ours, numbers, q)
    np.testing.assert_allclose(polarizabilities[:, 0], alpha, rtol=1e-7)
    product = torch.einsum("iw,jw,w->ij", polarizabilities, polarizabilities, d4.casimir_polder_weights)
    np.testing.assert_allclose(3.0 / np.pi * product, c6, rtol=1e-7)
    np.testing.assert_allclose(d4(d, i, j, numbers, q).sum() / HARTREE_2014, energy, rtol=1e-6)


def test_the_cutoff_takes_energy_and_force_to_zero():
    d4 = D4Dispersion(9.0).double()
    numbers, q = torch.tensor([18, 18]), torch.zeros(2, dtype=torch.float64)
    one, other = torch.tensor([0]), torch.tensor([1])

    def at(r: float) -> tuple[float, float]:
        d = torch.tensor([r], dtype=torch.float64, requires_grad=True)
        energy = d4(d, one, other, numbers, q).sum()
        return float(energy.detach()), float(torch.autograd.grad(energy, d)[0])

    assert at(9.0) == (0.0, 0.0) and at(12.0) == (0.0, 0.0)
    near, slope = at(9.0 - 1e-4)
    assert abs(near) < 1e-10 and abs(slope) < 1e-7
    assert at(5.0)[0] < -1e-4 and at(5.0)[1] > 1e-4


def test_smeared_coulomb_far_away_and_at_the_cutoff():
    """A point charge beyond the crossover, 1/√(d² + 1) below it; nothing is left at a cutoff."""
    d = torch.tensor([0.5, 1.0, 4.5, 50.0], dtype=torch.float64)
    one = torch.ones_like(d)
    found = smeared_coulomb(d, one, 1.3, 4.0, None) / COULOMB
    np.testing.assert_allclose(found, [1 / 1.25**0.5, 2**-0.5, 1 / 4.5, 0.02], rtol=1e-14)
    shifted = smeared_coulomb(d, one, 1.3, 4.0, 10.0) / COULOMB
    np.testing.assert_allclose(shifted[2], 1 / 4.5 + 4.5 / 100 - 0.2, rtol=1e-14)
    assert float(shifted[3]) == 0.0
    edge = torch.tensor([10.0 - 1e-5], dtype=torch.float64, requires_grad=True)
    energy = smeared_coulomb(edge, torch.ones(1, dtype=torch.float64), 1.3, 4.0, 10.0)
    (slope,) = torch.autograd.grad(energy.sum(), edge)
    assert abs(float(energy.detach())) < 1e-10 and abs(float(slope)) < 1e-5
