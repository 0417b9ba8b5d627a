"""Every analysis of the room, on what fits and on what does not."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from protein_parts import written

from heliodor.analysis.proteins import ANALYSES
from heliodor.analysis.show import Analysis, run
from heliodor.errors import InputError
from heliodor.trajectory import open_trajectory

EXAMPLES = Path(__file__).parents[3] / "examples"
PEPTIDES = [analysis for analysis in ANALYSES if analysis.name != "dihedral"]


@pytest.mark.parametrize("analysis", PEPTIDES, ids=lambda analysis: analysis.name)
@pytest.mark.parametrize("frames", [1, 12])
def test_a_capped_peptide(analysis: Analysis, frames: int, tmp_path: Path, rng: np.random.Generator) -> None:
    """Also as plain xyz, without names."""
    atoms = ase.io.read(EXAMPLES / "ace-ala3-nme.xyz")
    assert isinstance(atoms, ase.Atoms)
    plain = ase.Atoms(numbers=atoms.numbers, positions=atoms.positions)
    many = []
    for k in range(frames):
        other = plain.copy()
        other.positions += rng.normal(scale=0.05, size=other.positions.shape) * (k > 0)
        many.append(other)
    trajectory = written(many, tmp_path / "a.xyz")
    assert "recognised" in trajectory.origin
    shown = run(analysis, trajectory)
    assert shown.name == analysis.name and shown.title == analysis.title
    assert shown.panels and shown.numbers and shown.notes and shown.tables
    for table in shown.tables.values():
        assert len({len(column) for column in table.values()}) == 1
    for number in shown.numbers:
        assert np.isfinite(number.value)
        assert (number.error is None) == (frames == 1) or "mean over residues" in number.name
    with pytest.raises(InputError, match="stride"):
        run(analysis, trajectory, stride=0)


@pytest.mark.parametrize("analysis", PEPTIDES, ids=lambda analysis: analysis.name)
@pytest.mark.parametrize("file", ["water_64.xyz", "paracetamol.xyz"])
def test_what_is_no_peptide(analysis: Analysis, file: str) -> None:
    trajectory = open_trajectory(EXAMPLES / file)
    assert analysis.unfit(trajectory)
    with pytest.raises(InputError, match="cannot be done"):
        run(analysis, trajectory)


def test_torsions_of_any_molecule() -> None:
    analysis = next(analysis for analysis in ANALYSES if analysis.name == "dihedral")
    trajectory = open_trajectory(EXAMPLES / "paracetamol.xyz")
    assert not analysis.usual and analysis.unfit(trajectory) is None
    with pytest.raises(InputError, match="four atoms"):
        run(analysis, trajectory)
    assert len(run(analysis, trajectory, atoms="0,1,2,3").tables) == 2
