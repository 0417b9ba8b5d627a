"""Amons in space: every small one, both hands, the same bits in every process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds

from heliodor.errors import InputError
from heliodor.fragments.embed import embed, seed_of
from heliodor.fragments.proteins import protein_amons


def test_every_small_amon_has_a_geometry_with_its_own_bonds() -> None:
    amons = [amon for amon in protein_amons(4, complete=True) if amon.n_heavy <= 4]
    assert len(amons) == 107
    for amon in amons:
        (atoms,) = embed(amon)
        assert atoms.info == {"charge": amon.charge, "spin": 0, "kind": "bottom-up", "group": amon.smiles}
        assert (atoms.numbers > 1).sum() == amon.n_heavy
        assert (atoms.numbers.sum() - amon.charge) % 2 == 0
        mol = Chem.MolFromXYZBlock(f"{len(atoms)}\n\n" + "".join(
            f"{s} {x:.6f} {y:.6f} {z:.6f}\n" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
        ))  # fmt: skip
        rdDetermineBonds.DetermineConnectivity(mol)
        drawn = Chem.AddHs(Chem.MolFromSmiles(amon.smiles))
        bonds = [{frozenset((b.GetBeginAtomIdx(), b.GetEndAtomIdx())) for b in m.GetBonds()} for m in (mol, drawn)]
        assert bonds[0] == bonds[1], amon.smiles


def handedness(positions: np.ndarray) -> float:
    """Triple product at the carbon of CC(O)N: atoms 0, 2, 3 about 1."""
    a, b, c = positions[0] - positions[1], positions[2] - positions[1], positions[3] - positions[1]
    return float(np.sign(np.dot(a, np.cross(b, c))))


def test_both_hands_of_chiral_centres() -> None:
    hands = [handedness(atoms.positions) for atoms in embed("CC(O)N", 6)]
    assert {-1.0, 1.0} == set(hands)
    assert hands[:2] in ([1.0, -1.0], [-1.0, 1.0])
    # the first is either, by the seed
    assert len({handedness(embed("CC(O)N", 1, seed)[0].positions) for seed in range(8)}) == 2
    assert len({handedness(atoms.positions) for atoms in embed("C[C@H](O)N", 6)}) == 1


def test_conformers_differ() -> None:
    assert len(embed("C", 5)) == len(embed("O", 5)) == len(embed("[Na+]", 5)) == 1
    # butane: anti, gauche and its mirror image; with that the least energy, and the largest extent, comes first
    ends = [float(np.linalg.norm(a.positions[0] - a.positions[3])) for a in embed("CCCC", 10)]
    assert len(ends) in (2, 3)
    assert ends[0] > 3.8 > 3.3 > max(ends[1:])


def test_the_same_bits_in_every_process() -> None:
    code = (
        "import hashlib; from heliodor.fragments.embed import embed; "
        "print(hashlib.sha256(b''.join(a.positions.tobytes() for a in embed('CC(N)CO', 4, 7))).hexdigest())"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    here = hashlib.sha256(b"".join(a.positions.tobytes() for a in embed("CC(N)CO", 4, 7))).hexdigest()
    assert answers == [here, here]
    assert embed("CC(N)CO", 1, 8)[0].positions.tobytes() != embed("CC(N)CO", 1, 7)[0].positions.tobytes()
    assert seed_of("CCO", 3) == int(hashlib.sha256(b"CCO\x003").hexdigest()[:8], 16) // 2


def test_bad_input() -> None:
    for smiles, message in (
        ("C(", "no valid SMILES"),
        ("C.C", "several molecules"),
        ("[CH3]", "unpaired electrons"),
        ("C12CC1C2C#C1C=CC1", "no geometry|valid SMILES"),
    ):
        with pytest.raises(InputError, match=message):
            embed(smiles)
    with pytest.raises(InputError, match="at least one conformer"):
        embed("C", 0)
