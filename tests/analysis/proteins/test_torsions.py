"""Torsions, their populations, Ramachandran maps and couplings."""

from __future__ import annotations

from pathlib import Path

import ase
import numpy as np
import pytest
from protein_parts import alanines, from_mdtraj, place, written

from heliodor.analysis.proteins import couplings, dihedral_populations, ramachandran
from heliodor.analysis.proteins.torsions import circular_mean, protein_torsions, torsion_series, within
from heliodor.analysis.show import Number, Shown
from heliodor.errors import InputError
from heliodor.trajectory import open_trajectory
from support import shared

EXAMPLES = Path(__file__).parents[3] / "examples"


def number(shown: Shown, *words: str) -> Number:
    found = [one for one in shown.numbers if all(word in one.name for word in words)]
    assert len(found) == 1, [one.name for one in shown.numbers]
    return found[0]


@pytest.mark.parametrize("name", ["ubiquitin_1d3z_model1", "bpti_1pit_model1", "trpcage_ai2bmd"])
def test_every_torsion_of_a_protein_is_that_of_mdtraj(name: str, tmp_path: Path) -> None:
    mdtraj = pytest.importorskip("mdtraj")
    loaded = mdtraj.load(str(shared(f"data/structures/proteins/{name}.pdb")))[0]
    trajectory = from_mdtraj(loaded, tmp_path / "a.xyz")
    torsions = protein_torsions(trajectory.topology)
    values = torsion_series(trajectory, torsions)[0]
    mine = dict(zip(map(tuple, torsions.quads.tolist()), zip(torsions.kinds, values, strict=True), strict=True))
    for kind in ("phi", "psi", "omega", "chi1", "chi2", "chi3", "chi4"):
        quads, angles = getattr(mdtraj, f"compute_{kind}")(loaded)
        for quad, angle in zip(map(tuple, quads.tolist()), np.degrees(angles[0]), strict=True):
            assert mine[quad][0] == kind
            assert (mine[quad][1] - angle + 180.0) % 360.0 - 180.0 == pytest.approx(0.0, abs=0.02)
        # beside those to caps, which MDTraj leaves out of omega, there are no others
        assert torsions.kinds.count(kind) - len(quads) == (2 if kind == "omega" and "ai2bmd" in name else 0)


def butane(angle: float) -> ase.Atoms:
    a, b, c = np.array([1.2, 1.0, 0.0]), np.array([0.5, 0.0, 0.3]), np.array([-0.9, 0.2, 0.0])
    return ase.Atoms("C4", [a, b, c, place(a, b, c, 1.53, 112.0, angle)])


def test_torsion_of_given_atoms(tmp_path: Path) -> None:
    angles = np.tile([60.0, 180.0, -60.0, -170.0], 10)
    trajectory = written([butane(angle) for angle in angles], tmp_path / "a.xyz")
    shown = dihedral_populations.show_given(trajectory, atoms="0,1,2,3")
    assert shown.tables["dihedral_series"]["C0-C1-C2-C3_deg"] == pytest.approx(angles, abs=1e-3)
    assert number(shown, ", t").value == pytest.approx(50.0)
    assert number(shown, "g+").value == pytest.approx(25.0)
    assert number(shown, "g-").value == pytest.approx(25.0)
    slow = written([butane(angle) for angle in np.repeat([60.0, 65.0, 60.0, 65.0], 10)], tmp_path / "b.xyz")
    rare = dihedral_populations.show_given(slow, atoms="0,1,2,3")
    # never seen; forty independent frames would give 3.3 %, and these are four pieces of ten
    assert number(rare, "g-").value == 0.0 and (number(rare, "g-").error or 0.0) > 5.0
    assert number(rare, "g-").note == "never seen"
    curve = shown.panels[0].curves[0]
    assert curve.y.sum() * (curve.x[1] - curve.x[0]) == pytest.approx(1.0)


@pytest.mark.parametrize("text", ["", "0,1,2", "0,1,2,9", "a,b,c,d", "0,0,1,2"])
def test_torsions_that_mean_nothing(text: str, tmp_path: Path) -> None:
    trajectory = written([butane(60.0)], tmp_path / "a.xyz")
    with pytest.raises(InputError):
        dihedral_populations.show_given(trajectory, atoms=text)


def test_rotamers_and_peptide_bonds() -> None:
    shown = dihedral_populations.show(open_trajectory(EXAMPLES / "ace-ala3-nme.xyz"))
    assert number(shown, "ALA 2 ω, trans").value == 100.0
    with pytest.raises(InputError, match="did you mean 'omega'"):
        dihedral_populations.show(open_trajectory(EXAMPLES / "ace-ala3-nme.xyz"), kinds="omga")


def test_angles_on_a_circle() -> None:
    assert circular_mean(np.array([[179.0], [-179.0]]))[0] == pytest.approx(180.0)
    angles = np.linspace(-180.0, 179.0, 360)
    assert within(angles, 120.0, 240.0).sum() == 120
    assert within(angles, -120.0, 0.0).sum() == 120
    assert within(angles, -180.0, 180.0).all()


def test_regions_of_a_map_have_their_areas(rng: np.random.Generator) -> None:
    """Uniform angles: each region holds its share of the square."""
    phi, psi = rng.uniform(-180, 180, (2, 20000, 1)).astype(np.float32)
    angles = ramachandran.Angles(np.arange(20000.0), ("ALA 2",), np.array([2]), phi, psi)
    areas = {"α": 140 * 170, "β": 90 * 190 + 20 * 70, "PPII": 70 * 190, "φ > 0": 160 * 360}
    for name, area in areas.items():
        assert angles.region(name).mean() == pytest.approx(area / 360**2, abs=0.012)
    # β, PPII and α share no place
    together = angles.region("α").astype(int) + angles.region("β") + angles.region("PPII") + angles.region("φ > 0")
    assert together.max() <= 2
    assert (angles.region("α").astype(int) + angles.region("β") + angles.region("PPII")).max() == 1
    centres, probability = ramachandran.density(angles, 12)
    assert probability == pytest.approx(np.full((12, 12), 1 / 144), abs=0.003)
    assert centres[0] == -165.0


def test_ideal_structures_lie_in_their_regions() -> None:
    for name, region in (("α helix", "α"), ("3₁₀ helix", "α"), ("PPII", "PPII"), ("β antiparallel", "β")):
        phi, psi = (np.array([[value]], dtype=np.float32) for value in ramachandran.POINTS[name])
        angles = ramachandran.Angles(np.zeros(1), ("ALA 2",), np.array([2]), phi, psi)
        assert angles.region(region).all(), name


def test_map_of_a_trajectory(tmp_path: Path) -> None:
    helix, strand = (alanines(np.full(6, a), np.full(6, b)) for a, b in ((-60.0, -40.0), (-120.0, 130.0)))
    strand.write(tmp_path / "reference.xyz", format="extxyz")
    trajectory = written([helix, helix, strand, helix] * 50, tmp_path / "a.xyz")
    shown = ramachandran.show(trajectory, reference=str(tmp_path / "reference.xyz"))
    assert number(shown, "residues in α").value == pytest.approx(75.0)
    assert number(shown, "residues in β").value == pytest.approx(25.0)
    assert [panel.heat is not None for panel in shown.panels] == [True, False]
    outlined = shown.panels[1].curves[-1]
    assert outlined.reference and outlined.x == pytest.approx(np.full(4, -120.0), abs=1e-5)
    assert shown.tables["ramachandran_series"]["phi_ALA_2_deg"][:3] == pytest.approx([-60.0, -60.0, -120.0], abs=1e-3)
    with pytest.raises(InputError, match="there is no file"):
        ramachandran.show(trajectory, reference="nowhere.pdb")


def test_two_residues_have_no_pair_of_angles(tmp_path: Path) -> None:
    trajectory = written([alanines(np.full(2, -60.0), np.full(2, -40.0))], tmp_path / "a.xyz")
    assert "neighbours on both sides" in (ramachandran.unfit(trajectory) or "")
    assert couplings.unfit(trajectory) is None


def test_karplus_relations_at_known_angles() -> None:
    """Hu & Bax: 4.0 Hz in a helix, 9.6 Hz or so in a strand; averages over the circle are A/2 + C."""
    assert couplings.coupling("hn_ha", np.array(-60.0), "hu-bax") == pytest.approx(7.09 / 4 + 1.42 / 2 + 1.55)
    assert couplings.coupling("hn_ha", np.array(-60.0), "hu-bax") == pytest.approx(4.0, abs=0.05)
    assert couplings.coupling("hn_ha", np.array(-120.0), "hu-bax") == pytest.approx(7.09 + 1.42 + 1.55)
    assert couplings.coupling("hn_co", np.array(0.0), "vogeli") == pytest.approx(4.12 + 1.10 + 0.11)
    circle = np.arange(-180.0, 180.0)
    for parameters, known in couplings.karplus()["sets"].items():
        for name, p in known["couplings"].items():
            assert couplings.coupling(name, circle, parameters).mean() == pytest.approx(p["A"] / 2 + p["C"])
    # both hydrogens of glycine: mirror images have equal couplings
    assert couplings.coupling("hn_ha", np.array(70.0), "hu-bax", True) == pytest.approx(
        couplings.coupling("hn_ha", np.array(-70.0), "hu-bax", True)
    )
    with pytest.raises(InputError, match="did you mean 'hu-bax'"):
        couplings.coupling("hn_ha", circle, "hubax")


def test_couplings_beside_experiment(tmp_path: Path) -> None:
    frames = [alanines(np.array([0.0, phi, phi]), np.full(3, 140.0)) for phi in np.tile([-60.0, -90.0], 20)]
    shown = couplings.show(written(frames, tmp_path / "a.xyz"), parameters="hu-bax")
    found = number(shown, "HN,Hα", "ALA 2")
    at = [7.09 * c * c - 1.42 * c + 1.55 for c in np.cos(np.radians([-120.0, -150.0]))]
    assert found.value == pytest.approx(np.mean(at), abs=1e-3)
    # Graf et al. 2007, central residue of trialanine
    assert found.reference == 5.68
    assert number(shown, "χ²").value > 0.0
    capped = couplings.show(open_trajectory(EXAMPLES / "ace-ala3-nme.xyz"))
    assert all(one.reference is None for one in capped.numbers)
    assert len([one for one in capped.numbers if "HN,Hα" in one.name]) == 3


def test_glycine_and_proline_have_the_couplings_they_can_have(tmp_path: Path) -> None:
    frame = alanines(np.full(4, -70.0), np.full(4, 140.0))
    names = frame.arrays["residue_name"].copy()
    numbers = frame.arrays["residue_number"]
    names[numbers == 2], names[numbers == 3] = "GLY", "PRO"
    frame.arrays["residue_name"] = names
    found = {one.name: one.residues for one in couplings.couplings(written([frame], tmp_path / "a.xyz"))}
    assert found["hn_ha"] == ("GLY 2", "ALA 4")
    assert found["hn_cb"] == ("ALA 4",)
    assert found["ha_co"] == ("GLY 2", "PRO 3", "ALA 4")
