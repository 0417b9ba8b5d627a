"""Bonds broken and formed: a proton that changes hands, a bond pulled apart, across periodic images."""

from __future__ import annotations

import ase
import numpy as np
import pytest

from heliodor.analysis.conformations import ANALYSES
from heliodor.analysis.conformations.bonds import bond_history, show_bonds


def transfer(record, pbc: bool):
    """H of HF goes to another F 3 Å away and comes back; places in Å along x."""
    x = np.array([0.92, 0.92, 1.3, 1.5, 2.0, 2.06, 2.06, 1.5, 0.92])
    atoms = ase.Atoms("FHF", [[0, 0, 0], [0.92, 0, 0], [3.0, 0, 0]])
    positions = np.zeros((len(x), 3, 3))
    positions[:, 1, 0], positions[:, 2, 0] = x, 3.0
    if pbc:
        atoms.set_cell([12.0, 12.0, 12.0])
        atoms.pbc = True
        # the faces of the cell cut the molecule
        positions = (positions + np.array([10.5, 11.9, 0.1])) % 12.0
        atoms.positions = positions[0]
    return record(atoms, positions)


@pytest.mark.parametrize("pbc", [False, True])
def test_a_proton_changes_hands(pbc, record):
    # sum of covalent radii of H and F: 0.88 Å; broken above 1.41, formed below 1.06
    found = bond_history(transfer(record, pbc))
    assert found.followed == 1
    assert found.broken.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 0]
    # at 1.5 Å from both the proton is with none, at 2.0 Å it is 1.0 Å from the other
    assert found.formed.tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 0]
    kinds = [(e.frame, e.kind, e.i, e.j) for e in found.events]
    assert kinds == [(3, "broken", 0, 1), (4, "formed", 1, 2), (7, "released", 1, 2), (8, "whole again", 0, 1)]
    assert found.events[0].distance == pytest.approx(1.5)
    assert found.events[0].time == 30.0
    shown = show_bonds(transfer(record, pbc))
    assert shown.tables["bond_events"]["event"].tolist() == [kind for _, kind, _, _ in kinds]
    assert "H 1" in shown.numbers[3].note


def test_the_same_as_the_watch_of_a_run(butane, rng, record):
    """Against `heliodor.dynamics.watch.bonds`, on frames far beyond thermal motion."""
    from heliodor.dynamics.watch.bonds import bonded_pairs, broken_bonds, formed_bonds
    from heliodor.system import System

    frames = butane.positions + rng.normal(scale=0.35, size=(40, len(butane), 3))
    frames[0] = butane.positions
    found = bond_history(record(butane, frames))
    start = bonded_pairs(System.from_atoms(butane))
    happened = 0
    for k in range(1, 40):
        moved = butane.copy()
        moved.positions = frames[k]
        system = System.from_atoms(moved)
        here = bond_history(record(butane, frames[[0, k]], name=f"pair{k}"))
        assert here.broken[1] == len(broken_bonds(system, start))
        assert here.formed[1] == len(formed_bonds(system, start))
        happened += int(here.broken[1] + here.formed[1])
    assert happened > 10
    assert found.happened > 10


def test_several_processes_and_blocks_give_the_same(butane, rng, record):
    run = record(butane, butane.positions + rng.normal(scale=0.25, size=(30, len(butane), 3)))
    one, two = bond_history(run), bond_history(run, processes=2)
    assert list(map(repr, one.events)) == list(map(repr, two.events))
    np.testing.assert_array_equal(one.broken, two.broken)
    assert (bond_history(run, new=False).formed == 0).all()


def test_every_analysis_is_done_or_refused_in_words(butane, rng, record):
    single = record(butane, butane.positions[None], name="single")
    run = record(butane, butane.positions + rng.normal(scale=0.05, size=(60, len(butane), 3)))
    argon = record(ase.Atoms("Ar3", np.eye(3) * 4.0), np.eye(3)[None] * 4.0 + np.zeros((20, 1, 1)), name="argon")
    seen: list[tuple[int, int]] = []
    for analysis in ANALYSES:
        assert analysis.unfit(run) is None
        assert analysis.unfit(argon)
        if analysis.name != "size":
            assert "single frame" in analysis.unfit(single)
        if analysis.name != "map":
            seen.clear()
            shown = analysis.show(run, progress=lambda done, total: seen.append((done, total)))
            assert shown.name == analysis.name
            assert shown.panels
            assert seen
            assert seen[-1][0] == seen[-1][1]
            for table in shown.tables.values():
                assert len({len(column) for column in table.values()}) == 1
    peptide = butane.copy()
    peptide.set_array("atom_name", np.array([f"X{k}" for k in range(14)]))
    peptide.set_array("residue_name", np.full(14, "LEU"))
    refused = {a.name for a in ANALYSES if a.unfit(record(peptide, peptide.positions + np.zeros((60, 1, 1))))}
    assert refused == {"deviation"}
    assert len(ANALYSES[0].show(single).tables["size"]["time_ps"]) == 1
