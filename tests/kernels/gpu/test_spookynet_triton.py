"""SpookyNet's kernels, by Triton's interpreter, against the plain model and its autograd; float64 unless said so."""

from __future__ import annotations

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.errors import ModelError
from heliodor.kernels.derived import Derived
from heliodor.kernels.gpu.matrix import matrix_of
from heliodor.kernels.gpu.spookynet.basis import basis_table
from heliodor.kernels.gpu.spookynet.kernel import SpookyNetTriton
from heliodor.neighbors import Neighbors
from heliodor.potential import evaluate_system
from heliodor.potentials.radial import RADIAL_BASES, RadialBasis
from heliodor.potentials.spookynet import SpookyNet, SpookyNetConfig
from heliodor.potentials.spookynet_blocks import Depths
from heliodor.system import System
from heliodor.uncertainty import ForceError, ForceErrorConfig

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tensors here are of the CPU, for the interpreter")

SMALL = {"n_features": 16, "n_modules": 2, "zbl": False, "electrostatics": False, "dispersion": False}


def random_model(**options: object) -> SpookyNet:
    """No parameter at the zero or the one that training starts from."""
    torch.manual_seed(3)
    model = SpookyNet(SpookyNetConfig(**{**SMALL, **options})).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(("alpha", "beta")):
                p += 0.2 * torch.randn_like(p)
            elif name.startswith(("interactions", "charge_emb", "spin_emb", "element", "output")):
                p += 0.4 * torch.randn_like(p) / p.shape[-1] ** (0.5 if p.dim() > 1 else 0.0)
    return model


def agree(model: SpookyNet, system: System, neighbors: Neighbors, got: Derived, tolerance: float = 1e-8) -> None:
    """All that the kernels give is what the plain model gives."""
    want = evaluate_system(model, system, neighbors, virial=True)
    assert got.gradient is not None
    assert got.strain is not None
    assert want.forces is not None
    assert want.virial is not None
    assert want.charges is not None
    assert got.terms.charges is not None
    assert set(got.terms.energies) == set(want.node_terms)
    for name, energy in got.terms.energies.items():
        scale = 1.0 + float(want.node_terms[name].abs().max())
        assert float((energy - want.node_terms[name]).abs().max()) < tolerance * scale, name
    assert float((got.terms.charges - want.charges).abs().max()) < tolerance
    assert float((got.gradient + want.forces).abs().max()) < tolerance * (1.0 + float(want.forces.abs().max()))
    virial = -0.5 * (got.strain + got.strain.mT)
    assert float((virial - want.virial).abs().max()) < tolerance * (1.0 + float(want.virial.abs().max()))


def both(model: SpookyNet, system: System, skin: float = 0.0) -> tuple[Neighbors, Derived]:
    neighbors = model.neighbors(system, skin)
    return neighbors, SpookyNetTriton(model).derive(system, neighbors, gradient=True, strain=True)


def check(model: SpookyNet, system: System, skin: float = 0.0) -> Derived:
    neighbors, got = both(model, system, skin)
    agree(model, system, neighbors, got)
    return got


def shaken(name: str, **info: float) -> ase.Atoms:
    atoms = molecule(name)
    atoms.rattle(0.05, rng=np.random.default_rng(1))
    atoms.info.update(info)
    return atoms


def crystal() -> ase.Atoms:
    """Two atoms in a cell smaller than the cutoff, lattice vectors at no right angle."""
    cell = [[2.6, 0.0, 0.0], [0.5, 2.7, 0.0], [-0.3, 0.4, 2.9]]
    return ase.Atoms("OC", [[0.1, 0.2, 0.3], [1.2, 1.1, 1.6]], cell=cell, pbc=True)


def test_charged_open_shell_molecule_with_all_terms() -> None:
    model = random_model(zbl=True, electrostatics=True, dispersion=True)
    got = check(model, System.from_atoms(shaken("CH3", charge=1.0, spin=2)))
    assert set(got.terms.energies) == {"spookynet", "zbl", "electrostatics", "dispersion"}
    # something of every kind of degree of freedom
    assert got.terms.charges is not None
    assert float(got.terms.charges.std()) > 1e-3


def test_many_images_with_a_long_range_cutoff() -> None:
    model = random_model(
        cutoff=3.0, long_range_cutoff=3.6, zbl=True, electrostatics=True, dispersion=True, n_features=16
    )  # fmt: skip
    system = System.from_atoms(crystal())
    assert model.neighbors(system).n_edges > 10
    check(model, system)


def test_batch_of_sizes_with_one_atom_alone() -> None:
    frames = [shaken("H2O"), ase.Atoms("N"), shaken("CO", charge=-1.0, spin=1)]
    check(random_model(electrostatics=True), System.from_atoms(frames))


def test_equivalent_atoms_share_the_derivative_of_the_top() -> None:
    check(random_model(), System.from_atoms(molecule("H2O")))


def test_one_atom() -> None:
    got = check(random_model(electrostatics=True, dispersion=True), System.from_atoms(ase.Atoms("N"), spin=3))
    assert got.terms.charges is not None
    assert float(got.terms.charges.abs().max()) < 1e-14


def test_atoms_out_of_reach() -> None:
    atoms = ase.Atoms("OH", [[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    model = random_model()
    system = System.from_atoms(atoms, spin=1)
    assert model.neighbors(system).n_edges == 0
    got = check(model, system)
    assert got.gradient is not None
    assert not bool(got.gradient.any())


def test_skin_edges_do_nothing() -> None:
    # within the skin only, within the cutoff
    atoms = ase.Atoms("OHC", [[0.0, 0.0, 0.0], [1.0, 0.1, 0.0], [3.3, 0.2, -0.4]])
    model = random_model(cutoff=3.0)
    system = System.from_atoms(atoms, spin=1)
    assert model.neighbors(system, 1.0).n_edges == 3
    assert model.neighbors(system).n_edges == 2
    got = check(model, system, skin=1.0)
    # a list of its own, rows of other lengths
    bare = both(model, system)[1]
    assert got.gradient is not None
    assert torch.equal(got.gradient, bare.gradient)


def test_rows_exactly_full_and_longer_than_a_tile() -> None:
    model = random_model(cutoff=4.9, n_modules=1)
    system = System.from_atoms(ase.Atoms("O", [[0.0, 0.0, 0.0]], cell=np.diag([2.1, 2.2, 2.3]), pbc=True))
    neighbors = model.neighbors(system)
    longest = int(torch.bincount(neighbors.full().i).max())
    assert longest > 32
    short = matrix_of(neighbors, 1, capacity=longest)
    agree(model, system, neighbors, SpookyNetTriton(model).evaluate(system, short, None, strain=True))


@pytest.mark.parametrize("basis", RADIAL_BASES)
def test_tables_of_every_basis(basis: str) -> None:
    radial = RadialBasis(basis, 16, 5.0, exp_weighting=True).double()
    table = basis_table(radial, torch.float64)
    assert table.columns == 16
    d = torch.linspace(0.4, 4.999, 3001, dtype=torch.float64, requires_grad=True)
    want = radial(d)
    m = (d.detach() * table.per_length).long()
    t = (d.detach() * table.per_length - m).unsqueeze(-1)
    c = table.coefficients[m]
    got = ((c[:, 3] * t + c[:, 2]) * t + c[:, 1]) * t + c[:, 0]
    slope = ((3.0 * c[:, 3] * t + 2.0 * c[:, 2]) * t + c[:, 1]) * table.per_length
    # what rounding to float32 does to values of 1
    assert float((got - want.detach()).abs().max()) < 6e-8
    exact = torch.stack([torch.autograd.grad(b.sum(), d, retain_graph=True)[0] for b in want.unbind(1)], dim=1)
    assert float((slope - exact).abs().max()) < 5e-6 * max(1.0, float(exact.abs().max()))


def test_other_shapes() -> None:
    depths = Depths(pre=2, local_x=0, local_s=2, local_p=1, nonlocal_v=2, post=0, output=1, local=1)
    model = random_model(activation="ssp", basis="sinc", n_basis=20, n_features=32, depths=depths)
    with torch.no_grad():
        model.interactions[0].output.activation.beta[0, 0, 3] = 0.0  # type: ignore[union-attr, index, operator]
    check(model, System.from_atoms(ase.Atoms("OH", [[0.0, 0.0, 0.0], [0.5, 0.7, -0.4]]), spin=1))


def test_derivatives_are_those_of_the_energy() -> None:
    model = random_model(cutoff=2.8)
    kernel = SpookyNetTriton(model)
    system = System.from_atoms(crystal())
    generator = torch.Generator().manual_seed(0)
    move = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    strain = torch.randn(1, 3, 3, generator=generator, dtype=torch.float64)
    strain = strain + strain.mT
    derived = kernel.derive(system, model.neighbors(system), gradient=True, strain=True)

    def energy(changed: System) -> float:
        terms = kernel.derive(changed, model.neighbors(changed), gradient=False, strain=False).terms
        return float(sum(e.double().sum() for e in terms.energies.values()))

    h = 1e-4
    moved = [energy(system.replace(positions=system.positions + sign * h * move)) for sign in (1.0, -1.0)]
    assert derived.gradient is not None
    assert abs((moved[0] - moved[1]) / (2.0 * h) - float((derived.gradient * move).sum())) < 2e-6
    bent = [energy(system.deform(sign * h * strain)) for sign in (1.0, -1.0)]
    assert derived.strain is not None
    assert abs((bent[0] - bent[1]) / (2.0 * h) - float((derived.strain * strain).sum())) < 2e-6


def test_shipped_weights_in_single_precision() -> None:
    plain = heliodor.load("spookynet-gfn2")
    assert isinstance(plain, SpookyNet)
    plain.use_kernel(None, "reference")
    system = System.from_atoms(shaken("H2O"))
    kernel = SpookyNetTriton(plain.float())
    neighbors = plain.neighbors(system)
    first = kernel.derive(system, neighbors, gradient=True, strain=True)
    agree(plain.double(), system, neighbors, first, 5e-6)


def test_what_is_kept_is_renewed() -> None:
    model = random_model()
    model.uncertainty = ForceError(ForceErrorConfig(16, (1, 8), level=0.9, limit=1.0, weights="")).double()
    model.uncertainty.slope += 0.1
    kernel = SpookyNetTriton(model)
    system = System.from_atoms(ase.Atoms("OH", [[0.0, 0.0, 0.0], [0.5, 0.7, -0.4]]), spin=1)
    neighbors = model.neighbors(system)
    kernel.derive(system, neighbors, gradient=False, strain=False)
    kept = kernel.prepare(system)
    assert kernel.prepare(system.replace(positions=system.positions + 1.0)) is kept
    system.charge.fill_(2.0)
    got = kernel.derive(system, neighbors, gradient=True, strain=True)
    assert kernel.prepare(system) is not kept
    agree(model, system, neighbors, got)
    again = SpookyNetTriton(model).derive(system, neighbors, gradient=True, strain=True)
    assert got.gradient is not None
    assert got.strain is not None
    assert again.gradient is not None
    assert again.strain is not None
    assert torch.equal(got.gradient, again.gradient)
    assert torch.equal(got.strain, again.strain)
    want = evaluate_system(model, system, neighbors, forces=False).force_error
    assert want is not None
    assert got.terms.force_error is not None
    assert torch.allclose(got.terms.force_error, want, rtol=1e-9)
    assert torch.equal(got.terms.energies["spookynet"], again.terms.energies["spookynet"])


def test_variants_without_kernels() -> None:
    assert SpookyNetTriton.supports(random_model())
    for options in ({"irreducible": False}, {"n_features": 24}):
        model = SpookyNet(SpookyNetConfig(**{**SMALL, **options}))  # type: ignore[arg-type]
        assert not SpookyNetTriton.supports(model)
        with pytest.raises(ModelError, match="no GPU kernels"):
            SpookyNetTriton(model)
