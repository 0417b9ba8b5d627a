"""Generated structures: sound, closed-shell, with the right charges, groups that do not leak, seeds that reproduce."""

from __future__ import annotations

from dataclasses import asdict

import ase
import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds

from heliodor.distil.structures import Recipe, bucket_of, generate, group_of, items, make
from heliodor.distil.structures.groups import SHARED, TRAJECTORY
from heliodor.errors import InputError
from heliodor.topology import bonds_by_distance

COUNTS = Recipe(**dict.fromkeys(asdict(Recipe()), 8))


@pytest.fixture(scope="module")
def made() -> list[ase.Atoms]:
    return list(generate(COUNTS, 11))


def molecules_of(atoms: ase.Atoms) -> list[np.ndarray]:
    """Bonded pieces by a flood fill over the bonds that distances show."""
    owner = np.arange(len(atoms))
    pairs = bonds_by_distance(atoms)
    for _ in range(len(atoms)):
        for i, j in pairs:
            owner[[i, j]] = min(owner[i], owner[j])
    return [np.flatnonzero(owner == k) for k in np.unique(owner)]


def test_every_family_gives_what_was_asked_for(made: list[ase.Atoms]) -> None:
    families = [atoms.info["origin"].split()[0] for atoms in made]
    counts = {name: families.count(name) for name in asdict(COUNTS)}
    assert set(families) == set(asdict(COUNTS))
    assert all(6 <= n <= 8 for n in counts.values()), counts


def test_closed_shells_of_the_teachers_elements(made: list[ase.Atoms]) -> None:
    for atoms in made:
        assert set(atoms.numbers) <= {1, 6, 7, 8, 9, 15, 16, 17}
        assert (atoms.numbers.sum() - atoms.info["charge"]) % 2 == 0 and atoms.info["spin"] == 0


def test_bonds_are_those_of_the_formula(made: list[ase.Atoms]) -> None:
    """The bonds seen in space give molecules of the formulas that the groups name, hydrogens and all."""
    checked = 0
    for atoms in made:
        if atoms.info["group"].startswith(TRAJECTORY):
            continue
        wanted = {formula(name) for name in (*atoms.info["group"].split("."), *SHARED)}
        found = {tuple(sorted(atoms.numbers[piece].tolist())) for piece in molecules_of(atoms)}
        assert found <= wanted, atoms.info
        checked += 1
    assert checked > 90


def formula(smiles: str) -> tuple[int, ...]:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    return tuple(sorted(atom.GetAtomicNum() for atom in mol.GetAtoms()))


def test_rdkit_reads_the_same_molecule_from_the_geometry() -> None:
    """RDKit's own perception (xyz2mol) of undisturbed conformers gives the SMILES that the structure is named by."""
    agree = seen = 0
    for atoms in generate(Recipe(sugars=8, amino_acids=12, drug_like=12), 3):
        if len(atoms) < 3 or "modes" not in atoms.info["sampling"]:
            continue
        lines = [f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)]
        mol = Chem.MolFromXYZBlock("\n".join([str(len(atoms)), "", *lines]))
        rdDetermineBonds.DetermineConnectivity(mol)
        key = Chem.MolToSmiles(bare(mol))
        seen += 1
        agree += key == Chem.MolToSmiles(bare(Chem.AddHs(Chem.MolFromSmiles(atoms.info["group"]))))
    # its rule, unlike ours, is made for relaxed molecules
    assert seen >= 8 and agree >= 0.85 * seen


def bare(mol: Chem.Mol) -> Chem.Mol:
    """Elements and connections alone."""
    edit = Chem.RWMol(mol)
    for atom in edit.GetAtoms():
        atom.SetFormalCharge(0)
        atom.SetNumRadicalElectrons(0)
        atom.SetIsAromatic(False)
        atom.SetNoImplicit(True)
        atom.SetNumExplicitHs(0)
        atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    for bond in edit.GetBonds():
        bond.SetBondType(Chem.BondType.SINGLE)
        bond.SetIsAromatic(False)
        bond.SetStereo(Chem.BondStereo.STEREONONE)
    return edit.GetMol()


def test_the_same_seed_gives_the_same_bits_wherever_it_is_made() -> None:
    recipe = Recipe(grown=8, dimers=8, tripeptides=4, water_boxes=2, water_clusters=16)
    whole = list(generate(recipe, 5))
    work = items(recipe)
    # in another order, as several processes would
    parts = {item: make(item, 5) for item in reversed(work)}
    again = [atoms for item in work for atoms in parts[item]]
    assert len(whole) == len(again)
    for one, two in zip(whole, again, strict=True):
        assert np.array_equal(one.positions, two.positions) and one.info == two.info
    other = list(generate(recipe, 6))
    assert not any(a.positions.shape == b.positions.shape and np.allclose(a.positions, b.positions)
                   for a, b in zip(whole, other, strict=False) if len(a) > 1)  # fmt: skip


def test_fewer_of_a_family_are_the_first_of_it() -> None:
    few, more = (list(generate(Recipe(lipids=n), 2)) for n in (3, 10))
    assert len(few) == 3
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(few, more, strict=False))


def test_groups_name_molecules_whatever_their_hand_or_order() -> None:
    assert group_of(["C[C@H](N)C(=O)O", "O"]) == group_of(["O", "C[C@@H](N)C(=O)O"]) == "CC(N)C(=O)O"
    assert group_of(["CCO", "CO"]) == group_of(["CO", "OCC"]) == "CCO.CO"
    assert group_of(["O", "O"]) == "O" and group_of(["[Cl-]", "O"]) == "O.[Cl-]"


def test_held_out_buckets_share_no_molecule_with_the_rest() -> None:
    frames = list(generate(Recipe(grown=24, drug_like=60, ions=24, dimers=96, hydrates=96), 4))
    seen: dict[str, set[int | None]] = {}
    for atoms in frames:
        bucket = bucket_of(atoms.info["group"])
        # dimers are made within buckets, so that none is lost to a split
        assert bucket is not None
        for name in atoms.info["group"].split("."):
            seen.setdefault(name, set()).add(bucket)
    assert all(len(where) == 1 for name, where in seen.items() if name not in SHARED)
    assert len({bucket_of(atoms.info["group"]) for atoms in frames}) > 8
    pairs = [g for g in (atoms.info["group"] for atoms in frames) if "." in g]
    assert len(pairs) > 30


def test_a_group_of_several_buckets_belongs_to_none() -> None:
    names = ["C" * n for n in range(1, 12)]
    buckets = {name: bucket_of(name) for name in names}
    one, two = next((a, b) for a in names for b in names if buckets[a] != buckets[b])
    assert bucket_of(group_of([one, two])) is None


def test_recipes_refuse_nonsense() -> None:
    with pytest.raises(InputError, match="dimers is -1"):
        Recipe(dimers=-1)
    with pytest.raises(InputError, match="did you mean 'wide'"):
        list(generate("wid"))
    with pytest.raises(InputError, match="above zero"):
        Recipe(dimers=1).scaled(0.0)
    assert Recipe(dimers=10, ions=1).scaled(0.1) == Recipe(dimers=1, ions=1)
