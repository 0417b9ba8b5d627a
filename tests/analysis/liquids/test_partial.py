"""Files with a part of the atoms, and files in which some frames have no charges."""

from __future__ import annotations

from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import molecule

from heliodor.analysis.liquids.charges import atomic_statistics
from heliodor.analysis.liquids.charges import show as show_charges
from heliodor.analysis.liquids.density import density
from heliodor.analysis.liquids.diffusion_show import show as show_diffusion
from heliodor.analysis.liquids.dipoles import molecular_dipoles
from heliodor.analysis.liquids.dipoles_show import show as show_dipoles
from heliodor.analysis.liquids.rdf_show import show as show_rdf
from heliodor.analysis.liquids.vaporisation import show as show_vaporisation
from heliodor.analysis.show import Analysis
from heliodor.analysis.spectra import ANALYSES as SPECTRA
from heliodor.analysis.spectra.infrared import infrared_spectrum, longest
from heliodor.analysis.spectra.infrared import show as show_infrared
from heliodor.errors import InputError
from memory_trajectories import in_memory
from trajectories import waters, write_frames

AMBIENT = {"ensemble": "nvt", "temperature_K": "300"}


def analysis(name: str) -> Analysis:
    from heliodor.analysis.liquids import ANALYSES

    return next(one for one in (*ANALYSES, *SPECTRA) if one.name == name)


@pytest.mark.parametrize("name", ["density", "dipoles", "vaporisation", "infrared"])
def test_what_needs_all_atoms_is_not_offered(name: str) -> None:
    box = waters(2, 3.2)
    values = {"charges": np.zeros((60, 24)), "energy": np.zeros(60)}
    run = in_memory(box, np.tile(box.positions, (60, 1, 1)), values=values, partial=True)
    assert "part of the atoms" in str(analysis(name).unfit(run))


def test_nor_done(tmp_path: Path) -> None:
    box, alone = waters(2, 3.2), molecule("H2O")
    values = {"charges": np.zeros((60, 24))}
    frames = np.tile(box.positions, (60, 1, 1))
    part = in_memory(
        box, frames, values=values, partial=True, log={"potential_eV": np.zeros(60), "time_fs": np.arange(60.0)}
    )
    gas = write_frames(tmp_path / "gas.h5", alone, np.tile(alone.positions, (20, 1, 1)), energies=np.zeros(20))
    for refused in (
        lambda: density(part),
        lambda: molecular_dipoles(part),
        lambda: infrared_spectrum(part, temperature=300.0),
        lambda: show_vaporisation(part, gas=str(gas), temperature=300.0),
    ):
        with pytest.raises(InputError, match="part of the atoms"):
            refused()
    whole = in_memory(box, frames, values={"energy": np.zeros(60)})
    show_vaporisation(whole, gas=str(gas), temperature=300.0)
    # a gas that was a part of something
    gas.with_suffix(".json").write_text('{"settings": {"save_atoms": "0-2"}}')
    with pytest.raises(InputError, match=r"gas.h5: the file holds a part of the atoms"):
        show_vaporisation(whole, gas=str(gas), temperature=300.0)


def test_molecules_diffuse_as_fast_in_a_file_with_a_part_of_them() -> None:
    """Free random walks: those of six saved molecules are not slowed down by taking off their own centre."""
    rng = np.random.default_rng(8)
    walks = np.cumsum(rng.normal(scale=0.1, size=(4000, 6, 3)), axis=0)
    argon = ase.Atoms("Ar6", rng.uniform(0.0, 30.0, (6, 3)), cell=[30.0] * 3, pbc=True)
    run = in_memory(
        argon, argon.positions + walks, 10.0, bonds=np.zeros((0, 2), dtype=int), settings=AMBIENT, partial=True
    )
    shown = show_diffusion(run)
    # 0.1² Å² in 10 fs along each direction; taking off the centre would leave 5/6 of it
    found = shown.numbers[0]
    assert found.value == pytest.approx(0.5, abs=4.0 * (found.error or 0.0)) and found.value > 0.45
    assert any("not subtracted" in note for note in shown.notes)
    assert any("part of the atoms" in note for note in shown.notes)


def test_waters_saved_from_a_solution_are_not_held_against_pure_water() -> None:
    box = waters(3, 3.1)
    rng = np.random.default_rng(9)
    shifts = np.repeat(np.cumsum(rng.normal(scale=0.05, size=(60, 27, 3)), axis=0), 3, axis=1)
    bonds = in_memory(box, box.positions[None]).topology.bonds
    for partial in (False, True):
        run = in_memory(box, box.positions + shifts, 500.0, settings=AMBIENT, partial=partial, bonds=bonds)
        for shown in (show_rdf(run), show_diffusion(run)):
            assert all(number.reference is None for number in shown.numbers) == partial
            assert any(curve.reference for panel in shown.panels for curve in panel.curves) == (
                not partial and shown.name == "rdf"
            )


def with_holes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, charges, and charges of which the frames 0 and 20 are no numbers."""
    rng = np.random.default_rng(10)
    box = waters(2, 3.2)
    positions = box.positions + rng.normal(scale=0.02, size=(160, 24, 3))
    charges = np.tile([-0.8, 0.4, 0.4], 8) + rng.normal(scale=0.02, size=(160, 24))
    torn = charges.copy()
    torn[[0, 20]] = np.nan
    return positions, charges, torn


def test_frames_without_charges_are_left_out() -> None:
    positions, charges, torn = with_holes()
    box = waters(2, 3.2)
    run = in_memory(box, positions, values={"charges": torn})
    kept = np.delete(np.arange(160), [0, 20])
    expected = molecular_dipoles(in_memory(box, positions[kept], values={"charges": charges[kept]}))
    found = molecular_dipoles(run)
    np.testing.assert_allclose(found.total, expected.total)
    assert found.kinds[0].spread == pytest.approx(expected.kinds[0].spread)
    assert found.index.tolist() == kept.tolist() and found.skipped == 2
    np.testing.assert_allclose(atomic_statistics(run, "charges").mean, charges[kept].mean(0))
    for shown in (show_dipoles(run), show_charges(run)):
        assert any("2 frame(s) with charges that are no numbers are left out" in note for note in shown.notes)


def test_an_infrared_spectrum_needs_frames_without_gaps() -> None:
    positions, charges, torn = with_holes()
    box = waters(2, 3.2)
    run = in_memory(box, positions, 4.0, values={"charges": torn}, settings=AMBIENT)
    late = in_memory(box, positions[21:], 4.0, values={"charges": charges[21:]}, settings=AMBIENT)
    one, two = (infrared_spectrum(each, resolution=200.0)[0] for each in (run, late))
    np.testing.assert_allclose(one.intensity, two.intensity)
    assert any("frames 21 to 159" in note for note in show_infrared(run, resolution=200.0).notes)
    torn[::40] = np.nan
    with pytest.raises(InputError, match="longest stretch without is of 39 frames"):
        infrared_spectrum(in_memory(box, positions, 4.0, values={"charges": torn}, settings=AMBIENT))
    assert longest(np.array([4])) == slice(0, 1)
