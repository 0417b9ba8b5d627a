"""Interaction energies: fragments that do not see each other, at equal total charge."""

import warnings

import numpy as np
import pytest
from ase.build import molecule

import heliodor
from heliodor.errors import InputError
from heliodor.potential import ModelWarning
from support import embedded_references


def dimer(distance: float):
    pair = molecule("H2O") + molecule("CH3OH")
    pair.positions[3:] += (0.0, 0.0, distance)
    pair.arrays["fragment"] = np.array([7] * 3 + [9] * 6)
    pair.info["fragment_charges"] = [0.0, 0.0]
    return pair


def test_neutral_dimer_is_the_difference_of_its_parts(so3lr):
    """For neutral closed shells the embedding is the same alone and together: plain subtraction must agree."""
    pair = dimer(3.2)
    parts = heliodor.evaluate(so3lr, [pair[:3], pair[3:]]).energy.sum().item()
    together = heliodor.evaluate(so3lr, pair, fragments=[0] * 3 + [1] * 6, fragment_charges=[0.0, 0.0]).energy.item()
    assert heliodor.interaction_energy(so3lr, pair) == pytest.approx(together - parts, abs=1e-10)
    relaxed = heliodor.evaluate(so3lr, pair).energy.item()
    assert heliodor.interaction_energy(so3lr, pair, protocol="relaxed") == pytest.approx(relaxed - parts, abs=1e-10)
    assert abs(together - relaxed) > 1e-5


def test_charged_dimer_vanishes_far_away(so3lr):
    """What subtracting charged monomers gets wrong by whole electronvolts."""
    (reference,) = (r for r in embedded_references() if r.name == "sapt_01533_cat")
    pair = reference.atoms
    index, charges = [0] * 13 + [1] * 16, [1.0, 0.0]
    near = heliodor.interaction_energy(so3lr, pair, index, charges)
    assert -2.0 < near < -0.05
    pair.positions[13:] += (1e5, 0, 0)
    assert abs(heliodor.interaction_energy(so3lr, pair, index, charges)) < 1e-6


def test_subtraction_by_hand_is_warned_of(so3lr):
    """Evaluating a charged monomer alone says that its energy has no common zero; the helper says nothing."""
    (reference,) = (r for r in embedded_references() if r.name == "sapt_01533_cat")
    pair = reference.atoms
    with pytest.warns(ModelWarning, match=r"charged or open-shell structure.*interaction_energy"):
        heliodor.evaluate(so3lr, pair[:13], charge=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heliodor.interaction_energy(so3lr, pair, [0] * 13 + [1] * 16, [1.0, 0.0])
        heliodor.evaluate(so3lr, pair[13:], charge=0)


def test_many_equal_one_by_one(so3lr):
    pairs = [dimer(d) for d in (2.8, 3.2, 4.0, 6.0)]
    one = [heliodor.interaction_energy(so3lr, pair) for pair in pairs]
    np.testing.assert_allclose(heliodor.interaction_energy(so3lr, pairs, batch_atoms=20), one, rtol=0, atol=1e-11)


def test_refusals(so3lr):
    with pytest.raises(InputError, match="protocol"):
        heliodor.interaction_energy(so3lr, dimer(3.0), protocol="naive")
    with pytest.raises(InputError, match="give fragment"):
        heliodor.interaction_energy(so3lr, molecule("H2O"))
    with pytest.raises(InputError, match="2 fragments need 2 charges"):
        heliodor.interaction_energy(so3lr, dimer(3.0), fragment_charges=[0.0])
    boxed = dimer(3.0)
    boxed.set_cell([20, 20, 20])
    boxed.pbc = True
    with pytest.raises(InputError, match="infinite separation"):
        heliodor.interaction_energy(so3lr, boxed)
    triplet = dimer(3.0)
    triplet.info["spin"] = 2
    with pytest.raises(InputError, match=r"closed shells.*unpaired"):
        heliodor.interaction_energy(so3lr, triplet)
