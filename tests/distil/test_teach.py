"""Labels by a teacher are what the teacher says, structure by structure."""

import ase
import numpy as np
import pytest
from ase.build import molecule

import heliodor
from heliodor.distil.teach import check_teacher, teach
from heliodor.errors import InputError
from heliodor.train.dataset import Dataset


@pytest.fixture(scope="module")
def teacher():
    return heliodor.load("heliodor-mini", dtype="float64")


def structures():
    random = np.random.default_rng(0)
    frames = []
    for name in ("H2O", "CH3OH", "NH3", "C2H6"):
        frame = molecule(name)
        frame.positions += 0.05 * random.normal(size=frame.positions.shape) + 30.0
        frame.info |= {"kind": "molecule", "group": name}
        frames.append(frame)
    ion = ase.Atoms("OH", positions=[[0, 0, 0], [0, 0, 0.97]], info={"charge": -1, "kind": "ion", "group": "OH-"})
    box = ase.Atoms("OH2", positions=[[0, 0, 0.1], [0, 0.76, -0.5], [0, -0.76, -0.5]], cell=[5.0] * 3, pbc=True)
    return [*frames, ion, box]


def test_labels_are_those_of_single_evaluations(teacher):
    frames = structures()
    found = teach(teacher, Dataset.from_atoms(frames)).dataset
    assert found.method == "teacher:heliodor-mini"
    for k, frame in enumerate(frames):
        p = heliodor.evaluate(teacher, frame)
        span = found.span(k)
        assert found.energy[k] == pytest.approx(float(p.energy[0]), abs=1e-9)
        np.testing.assert_allclose(found.forces[span], p.forces, atol=1e-9)
        np.testing.assert_allclose(found.charges[span], p.charges, atol=1e-9)
        np.testing.assert_allclose(found.hirshfeld_ratios[span], p.hirshfeld_ratios, atol=1e-9)
        np.testing.assert_allclose(found.node_energies[span], p.node_terms["so3krates"], atol=1e-9)
        if frame.pbc.any():
            assert np.isnan(found.dipole[k]).all()
        else:
            # about the origin of the coordinates, ions included
            np.testing.assert_allclose(found.dipole[k], p.dipole[0], atol=1e-8)


def test_what_the_teacher_cannot_have_is_counted(teacher):
    frames = structures()
    squeezed = molecule("H2O")
    squeezed.positions[1] = squeezed.positions[0] + [0.0, 0.0, 0.6]
    odd = molecule("CH3")
    frames += [ase.Atoms("Na"), squeezed, odd]
    largest = [float(heliodor.evaluate(teacher, f).forces.norm(dim=-1).max()) for f in [*structures(), squeezed]]
    assert max(largest[:-1]) < 20.0 < largest[-1]
    found = teach(teacher, Dataset.from_atoms(frames), max_force=20.0)
    assert len(found.dataset) == len(structures())
    assert found.left_out == {"outside the teacher": 2, "force above 20 eV/Å": 1}


def test_nothing_left_is_one_error(teacher):
    with pytest.raises(InputError, match="no use for any of the 1 structures"):
        teach(teacher, Dataset.from_atoms([ase.Atoms("Na")]))
    with pytest.raises(InputError, match="does not know Na"):
        check_teacher(teacher, (1, 11))
