"""Descriptors: what turns, what does not, how far they see, and which column is what."""

from __future__ import annotations

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.descriptor import Block, layout
from heliodor.errors import InputError, ModelError
from heliodor.potential import Potential
from heliodor.potentials.committee import Committee
from heliodor.potentials.mace import MACE, MACEConfig


def small_mace(degrees: tuple[int, ...] = (1, 0), cutoff: float = 3.0) -> MACE:
    torch.manual_seed(7)
    elements = (1, 6, 7, 8)
    config = MACEConfig(
        cutoff,
        elements,
        channels=4,
        degrees=degrees,
        isolated_energies=tuple(-13.0 * z for z in elements),
        average_neighbors=(6.0,) * len(degrees),
        correlation=2,
        radial_hidden=(8,),
    )
    return MACE(config)


@pytest.fixture(scope="module")
def mace() -> MACE:
    """Two layers, four channels, vectors and degree 2 after the first."""
    return small_mace((2, 0))


@pytest.fixture(scope="module")
def mini() -> Potential:
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64")


@pytest.fixture(params=["mace", "mini"])
def model(request) -> Potential:
    return request.getfixturevalue(request.param)


@pytest.fixture
def amide(rng) -> ase.Atoms:
    atoms = molecule("CH3CONH2")
    atoms.positions += rng.normal((3.0, -2.0, 1.0), 0.08, atoms.positions.shape)
    return atoms


def rotation(rng) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.linalg.det(q)


def turned(atoms: ase.Atoms, matrix: np.ndarray) -> ase.Atoms:
    moved = atoms.copy()
    moved.positions = atoms.positions @ matrix.T + [0.3, 5.0, -2.0]
    return moved


def same(a, b, atol=1e-10):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol * max(1.0, float(np.abs(b).max())))


def test_invariants_do_not_turn_and_the_others_do(model, amide, rng):
    matrix = rotation(rng)
    same(heliodor.descriptors(model, turned(amide, matrix)), heliodor.descriptors(model, amide))
    one, other = (heliodor.descriptors(model, a, invariant=False) for a in (amide, turned(amide, matrix)))
    assert np.abs(one - other).max() > 1e-3
    for block in layout(model, invariant=False):
        # what a degree's components make together does not turn
        shape = (len(amide), block.channels, 2 * block.degree + 1)
        a, b = (np.linalg.norm(d[:, block.columns].reshape(shape), axis=-1) for d in (one, other))
        same(b, a)


def test_vectors_turn_with_the_structure(model, amide, rng):
    """Of MACE in the order x, y, z; of SO3krates y, z, x."""
    matrix = rotation(rng)
    one, other = (heliodor.descriptors(model, a, invariant=False) for a in (amide, turned(amide, matrix)))
    blocks = [block for block in layout(model, invariant=False) if block.degree == 1]
    assert blocks
    order = [0, 1, 2] if isinstance(model, MACE) else [2, 0, 1]
    for block in blocks:
        a, b = (d[:, block.columns].reshape(len(amide), block.channels, 3)[..., order] for d in (one, other))
        assert np.abs(a).max() > 1e-6
        same(b, a @ matrix.T)


def test_tensors_turn_as_harmonics_do(mace, amide, rng):
    """Degree 2, about a quarter turn around y, e3nn's polar axis: m = ±2 change sign, m = ±1 exchange, m = 0 stays."""
    quarter = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    (block,) = [block for block in layout(mace, invariant=False) if block.degree == 2]
    one, other = (
        heliodor.descriptors(mace, a, invariant=False)[:, block.columns].reshape(len(amide), block.channels, 5)
        for a in (amide, turned(amide, quarter))
    )
    same(other[..., [0, 2, 4]], one[..., [0, 2, 4]] * [-1.0, 1.0, -1.0])
    same(np.abs(other[..., [1, 3]]), np.abs(one[..., [3, 1]]))


@pytest.mark.parametrize("invariant", [True, False])
def test_atoms_in_another_order_have_the_same_descriptors(model, amide, rng, invariant):
    order = rng.permutation(len(amide))
    same(
        heliodor.descriptors(model, amide[order], invariant=invariant),
        heliodor.descriptors(model, amide, invariant=invariant)[order],
    )


def test_batches_change_nothing(model, amide):
    frames = [amide, molecule("H2O"), molecule("CH4"), ase.Atoms("O", [[0, 0, 0]])]
    alone = [heliodor.descriptors(model, frame) for frame in frames]
    for limit in (1, 12, 2000):
        found = heliodor.descriptors(model, frames, batch_atoms=limit)
        assert isinstance(found, list) and [len(d) for d in found] == [len(frame) for frame in frames]
        for a, b in zip(found, alone, strict=True):
            same(a, b)
    assert heliodor.descriptors(model, []) == []


def test_periodic_images_count(model):
    """A crystal and its supercell have the same atoms."""
    box = [[3.4, 0, 0], [0.3, 3.6, 0], [0, 0.2, 3.9]]
    cell = ase.Atoms("CO", [[0.1, 0.0, 0.0], [1.2, 0.3, 0.2]], cell=box, pbc=True)
    same(heliodor.descriptors(model, cell * (2, 1, 1)), np.tile(heliodor.descriptors(model, cell), (2, 1)))


def test_each_layer_sees_one_cutoff_further(model):
    """A row of carbons 0.9 cutoffs apart: each step between two of them takes a layer."""
    step = 0.9 * model.cutoff
    layers = len({block.layer for block in layout(model)})
    assert layers == 2
    row = ase.Atoms("C4", [[step * k, 0.1 * k**2, 0] for k in range(4)])
    for moved in (1, 2, 3):
        other = row.copy()
        other.positions[moved] += [0.0, 0.05, 0.2]
        for layer in range(layers):
            a, b = (heliodor.descriptors(model, frame, invariant=False, layers=layer)[0] for frame in (row, other))
            if moved <= layer + 1:
                assert np.abs(a - b).max() > 1e-12, (moved, layer)
            else:
                same(b, a, 1e-14)


def test_columns_are_as_documented(mace, mini, amide):
    assert layout(mace) == [Block(0, 0, 4, 0), Block(1, 0, 4, 4)]
    whole = [Block(0, 0, 4, 0), Block(0, 1, 4, 4), Block(0, 2, 4, 16), Block(1, 0, 4, 36)]
    assert layout(mace, invariant=False) == whole
    assert heliodor.descriptors(mace, amide, invariant=False).shape == (len(amide), 40)
    config = mini.config.network
    f, degrees = config.n_features, config.degrees
    assert heliodor.descriptors(mini, amide).shape == (len(amide), config.n_layers * f)
    wide = heliodor.descriptors(mini, amide, invariant=False)
    assert wide.shape == (len(amide), config.n_layers * (f + sum(2 * degree + 1 for degree in degrees)))
    assert layout(mini, invariant=False)[-1].columns.stop == wide.shape[1]
    for model in (mace, mini):
        d, wide = heliodor.descriptors(model, amide), heliodor.descriptors(model, amide, invariant=False)
        blocks = [block for block in layout(model, invariant=False) if block.degree == 0]
        assert np.array_equal(np.concatenate([wide[:, block.columns] for block in blocks], axis=1), d)


def test_layers_can_be_chosen(model, amide):
    whole = heliodor.descriptors(model, amide)
    half = whole.shape[1] // 2
    assert np.array_equal(heliodor.descriptors(model, amide, layers=0), whole[:, :half])
    assert np.array_equal(heliodor.descriptors(model, amide, layers=-1), whole[:, half:])
    assert np.array_equal(heliodor.descriptors(model, amide, layers=[1, 0]), np.roll(whole, half, axis=1))
    assert [block.layer for block in layout(model, layers=[-1])] == [1]


def test_they_are_what_the_energy_is_read_from(mace, mini, amide):
    """The last layer's invariants give the model's own energies and charges."""
    p = heliodor.evaluate(mace, amide)
    blocks = [torch.from_numpy(heliodor.descriptors(mace, amide, layers=layer)).unsqueeze(-1) for layer in (0, 1)]
    torch.testing.assert_close(mace.energies([[block] for block in blocks]), p.node_terms["mace"], rtol=0, atol=1e-9)
    x = torch.from_numpy(heliodor.descriptors(mini, amide, layers=-1))
    system = heliodor.System.from_atoms(amide)
    torch.testing.assert_close(mini.partial_charges(x, system), heliodor.evaluate(mini, amide).charges)


def test_precision_is_the_network_s_and_nothing_is_left_to_differentiate(amide):
    mini = heliodor.load("heliodor-mini", device="cpu")
    d = heliodor.descriptors(mini, amide)
    assert d.dtype == np.float32 and isinstance(d, np.ndarray)
    same(d, heliodor.descriptors("heliodor-mini", amide), 1e-6)


def test_the_calculator_has_them_too(mini, amide):
    calculator = heliodor.Calculator(mini, charge=1.0, spin=1)
    found = calculator.get_descriptors(amide, layers=-1)
    assert np.array_equal(found, heliodor.descriptors(mini, amide, layers=-1, charge=1.0, spin=1))
    assert np.abs(found - heliodor.descriptors(mini, amide, layers=-1)).max() > 1e-3


def test_what_has_none_is_told(mini, mace, amide):
    with pytest.raises(ModelError, match="committee"):
        heliodor.descriptors(Committee([mini, mace]), molecule("H2O"))
    lone = Potential()
    lone.elements = (1, 6, 7, 8)
    lone.anchor = torch.nn.Parameter(torch.zeros(()))
    with pytest.raises(ModelError, match="model has no network"):
        heliodor.descriptors(lone, molecule("H2O"))
    with pytest.raises(InputError, match="2 layers, counted from 0: there is no layer 2"):
        heliodor.descriptors(mace, amide, layers=2)
    with pytest.raises(InputError, match="no layers chosen"):
        heliodor.descriptors(mace, amide, layers=[])
    with pytest.raises(ModelError, match="knows only"):
        heliodor.descriptors(mace, molecule("SiH4"))
    with pytest.raises(InputError, match=r"structure 1: .* two atoms on one spot"):
        heliodor.descriptors(mace, [amide, ase.Atoms("H2")], batch_atoms=1)
