"""Small molecules from SMILES or MDL files: conformers by ETKDGv3, relaxed and ranked with MMFF94s (RDKit)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float

from heliodor.errors import InputError, MissingExtraError
from heliodor.prepare import bond_lengths
from heliodor.prepare.prepared import Prepared
from heliodor.topology import NO_RESIDUE, NONMETALS, Topology, bonds_by_distance

FEWEST, MOST = 20, 150
"""Conformers that are tried: the fewest for rigid molecules, ten more for each bond that turns, up to the most."""

STEPS = 5000
"""Of a relaxation, at most."""

DISTINCT = 0.5
"""Å; conformers count as different above this root mean square distance of atoms other than hydrogen on carbon."""

LARGEST = 300
"""Atoms; what is larger is no small molecule."""

MOLECULE_FILES = (".sdf", ".mol")


@dataclass(frozen=True, eq=False)
class Chemistry:
    """A molecule as RDKit has it, with all hydrogens, and what there is to say about it.

    Attributes:
        mol: an ``rdkit.Chem.Mol``; with one conformer if it came from a file with coordinates in space.
        smiles: canonical, with the stereochemistry that was given.
        spin: unpaired electrons.
        notes: in words.
    """

    mol: Any
    smiles: str
    spin: int
    notes: tuple[str, ...]

    @property
    def charge(self) -> int:
        return int(rdkit().GetFormalCharge(self.mol))


def rdkit() -> Any:
    """``rdkit.Chem``, with its submodules ``AllChem`` and ``rdMolAlign`` loaded.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    try:
        from rdkit import Chem
        from rdkit.Chem import AllChem, rdMolAlign, rdMolDescriptors  # noqa: F401
    except ImportError:
        raise MissingExtraError("rdkit", "prepare") from None
    return Chem


def read_molecule(text: str | Path) -> Chemistry:
    """SMILES, or the first molecule of an .sdf or .mol file.

    Raises:
        InputError: no valid SMILES or file; several molecules; covalently bound metals; too many atoms.
        MissingExtraError: RDKit is not installed.
    """
    chem = rdkit()
    told: list[str] = []
    words = str(text).strip()
    if not words:
        raise InputError("an empty SMILES: write for example CCO for ethanol")
    with quiet():
        if Path(words).suffix.lower() in MOLECULE_FILES:
            mol = _from_file(Path(words), told)
        else:
            mol = chem.MolFromSmiles(words)
            if mol is None:
                raise InputError(f"{words!r} is no valid SMILES; quote it, and write for example 'CC(=O)O'")
        if mol.GetNumAtoms() == 0:
            raise InputError(f"{words!r} holds no atom")
        _uncharge_oxides(mol)
        mol = chem.AddHs(mol, addCoords=mol.GetNumConformers() > 0)
    _refuse_odd(mol, words)
    told += _isotopes(mol) + _stereo(mol)
    spin = sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    if spin:
        told.append(f"{spin} unpaired electron{'s' * (spin > 1)} as the formula says, taken as parallel spins")
    return Chemistry(mol, chem.MolToSmiles(chem.RemoveHs(mol)), spin, tuple(told))


def molecule(
    text: str | Path | Chemistry, *, name: str | None = None, conformers: int = 1, seed: int = 0, keep: bool = True
) -> list[Prepared]:
    """Build a molecule in its conformers of lowest MMFF94s energy in gas phase.

    Args:
        text: SMILES, an .sdf or .mol file, or what `read_molecule` made of them.
        name: of the residue, up to four letters and digits.
        conformers: how many distinct ones are wanted at most (see `DISTINCT`), lowest energy first.
        seed: of the conformers and of stereochemistry that was left open.
        keep: take the coordinates of a file as they are if they are in space and one conformer is wanted.

    Returns:
        One or more systems that differ in positions only; ``details["mmff94s_kcal_per_mol"]`` is the energy above the
        lowest.

    Raises:
        InputError: see `read_molecule`; a name that is none; no geometry found.
        MissingExtraError: RDKit is not installed.
    """
    chem = rdkit()
    if conformers < 1:
        raise InputError(f"at least one conformer must be asked for, not {conformers}")
    what = text if isinstance(text, Chemistry) else read_molecule(text)
    residue = residue_name(name)
    if keep and conformers == 1 and what.mol.GetNumConformers():
        return [_prepared(what, what.mol.GetConformer().GetPositions(), residue, ("geometry as in the file",), {})]
    mol = chem.Mol(what.mol)
    exact = bond_lengths.measured(mol)
    if exact is not None:
        known = "bond lengths and angles from a table of measured and computed ones (prepare/bond_lengths.py)"
        return [_prepared(what, exact, residue, (known,), {"seed": seed, "force_field": "none"})]
    ids = _embedded(mol, what.smiles, seed)
    energies, method = _relaxed(mol)
    order = [ids[k] for k in np.argsort(energies, kind="stable")]
    chosen = _distinct(mol, order, conformers)
    lowest = min(energies)
    by_id = dict(zip(ids, energies, strict=True))
    kept = "the lowest is" if conformers == 1 else f"the {len(chosen)} lowest distinct are"
    told = [f"{len(ids)} conformers tried, relaxed with {method} in gas phase; {kept} kept"]
    if conformers > len(chosen):
        told.append(f"only {len(chosen)} of {conformers} conformers differ by more than {DISTINCT} Å")
    return [
        _prepared(
            what,
            mol.GetConformer(k).GetPositions(),
            residue,
            tuple(told),
            {"seed": seed, "force_field": method, "relative_energy_kcal_per_mol": by_id[k] - lowest},
        )
        for k in chosen
    ]


def residue_name(name: str | None) -> str:
    """A residue name as files can hold it: up to four capital letters and digits.

    Raises:
        InputError: something else.
    """
    if name is None:
        return NO_RESIDUE
    if not re.fullmatch(r"[A-Za-z0-9]{1,4}", name):
        raise InputError(f"a residue name has one to four letters and digits, not {name!r}")
    return name.upper()


def atom_names(symbols: list[str]) -> list[str]:
    """Unique names: the element and a count, ``C1 C2 O1``; without count for an element that comes once."""
    total, seen = Counter(symbols), Counter[str]()
    names = []
    for symbol in symbols:
        seen[symbol] += 1
        names.append(f"{symbol.upper()}{seen[symbol]}" if total[symbol] > 1 else symbol.upper())
    return names


def topology_from(mol: Any, residue: str) -> Topology:
    """Names, elements and bonds of an RDKit molecule as one residue."""
    n = mol.GetNumAtoms()
    bonds = sorted(tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in mol.GetBonds())
    return Topology(
        numbers=np.array([a.GetAtomicNum() for a in mol.GetAtoms()], dtype=np.int64),
        names=np.array(atom_names([a.GetSymbol() for a in mol.GetAtoms()])),
        residue_names=np.full(n, residue),
        residue_numbers=np.ones(n, dtype=np.int64),
        chains=np.full(n, "A"),
        bonds=np.array(bonds, dtype=np.int64).reshape(-1, 2),
        named=True,
    )


def with_spin(prepared: Prepared, spin: int) -> Prepared:
    """The same with unpaired electrons."""
    prepared.atoms.info["spin"] = spin
    return prepared


def _prepared(
    what: Chemistry, positions: Any, residue: str, notes: tuple[str, ...], details: dict[str, Any]
) -> Prepared:
    topology = topology_from(what.mol, residue)
    here = np.array(positions, dtype=np.float64)
    atoms = ase.Atoms(numbers=topology.numbers, positions=here)
    covalent = topology.bonds[np.isin(topology.numbers[topology.bonds], NONMETALS).all(1)]
    if not _as_in_formula(atoms, {tuple(pair) for pair in covalent.tolist()}):
        raise InputError(
            f"the geometry found for {what.smiles} does not have the bonds of its formula: it is too strained, or the "
            "file holds other coordinates"
        )
    charged = ((f"A {residue} 1", what.charge),) if what.charge else ()
    made = Prepared(
        atoms,
        topology,
        what.charge,
        charged,
        (*what.notes, *notes),
        {"smiles": what.smiles, "unpaired_electrons": what.spin, **details},
    )
    return with_spin(made, what.spin)


def _as_in_formula(atoms: ase.Atoms, bonds: set[tuple[int, ...]]) -> bool:
    """Whether the bonds of the formula, and no others, have the lengths of bonds."""
    seen = {tuple(pair) for pair in bonds_by_distance(atoms).tolist()}
    if bonds - seen:
        return False
    around: dict[int, set[int]] = {}
    for i, j in bonds:
        around.setdefault(i, set()).add(j)
        around.setdefault(j, set()).add(i)
    radii = covalent_radii[atoms.numbers]
    for i, j in seen - bonds:
        # large atoms on one small atom come closer than the limit for bonds: the iodines of CHI3
        together = bool(around.get(i, set()) & around.get(j, set()))
        if not together or atoms.get_distance(i, j) < 1.05 * (radii[i] + radii[j]):
            return False
    return all(atoms.get_distance(i, j) > 0.65 * (radii[i] + radii[j]) for i, j in bonds)


def _from_file(path: Path, told: list[str]) -> Any:
    chem = rdkit()
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    blocks = [block for block in re.split(r"^\$\$\$\$.*\n?", text, flags=re.MULTILINE) if block.strip()]
    mol = chem.MolFromMolBlock(blocks[0], removeHs=False) if blocks else None
    if mol is None:
        raise InputError(f"{path} holds no molecule that can be read as an MDL mol file")
    if len(blocks) > 1:
        told.append(f"{path} holds {len(blocks)} molecules: the first is taken")
    conformer = mol.GetConformer() if mol.GetNumConformers() else None
    if conformer is None or not conformer.Is3D():
        mol.RemoveAllConformers()
    else:
        chem.AssignStereochemistryFrom3D(mol)
    return mol


def _refuse_odd(mol: Any, words: str) -> None:
    chem = rdkit()
    pieces = len(chem.GetMolFrags(mol))
    if pieces > 1:
        raise InputError(
            f"{words!r} holds {pieces} molecules: build them one by one, or mix them with 'heliodor prepare liquid'"
        )
    if any(a.GetAtomicNum() == 0 for a in mol.GetAtoms()):
        raise InputError(f"{words!r} has atoms of no element (*)")
    bound = [
        a.GetSymbol() for a in mol.GetAtoms() if a.GetAtomicNum() not in (*NONMETALS, 2, 10, 18, 36) and a.GetDegree()
    ]
    if bound:
        raise InputError(
            f"{words!r} has the metal {bound[0]} in a covalent bond, for which there is no force field here: bring a "
            "geometry of your own"
        )
    if mol.GetNumAtoms() > LARGEST:
        raise InputError(f"{words!r} has {mol.GetNumAtoms()} atoms; small molecules have at most {LARGEST}")


def _uncharge_oxides(mol: Any) -> None:
    """S+ and O- written for a sulfoxide, P+ and O- for a phosphine oxide: the double bond is what force fields know."""
    chem = rdkit()
    for i, j in mol.GetSubstructMatches(chem.MolFromSmarts("[#15+1,#16+1;X3,X4]-[O-1;X1]")):
        onium, oxide = mol.GetAtomWithIdx(i), mol.GetAtomWithIdx(j)
        if onium.GetFormalCharge() == 1 and onium.GetDegree() > 2:
            mol.GetBondBetweenAtoms(i, j).SetBondType(chem.BondType.DOUBLE)
            onium.SetFormalCharge(0)
            oxide.SetFormalCharge(0)
    chem.SanitizeMol(mol)


def _isotopes(mol: Any) -> list[str]:
    """Take isotopes out of a molecule, and say so."""
    marked = [atom for atom in mol.GetAtoms() if atom.GetIsotope()]
    if not marked:
        return []
    names = Counter(f"{atom.GetIsotope()}{atom.GetSymbol()}" for atom in marked)
    for atom in marked:
        atom.SetIsotope(0)
    # a centre may have been one by its isotopes only
    rdkit().AssignStereochemistry(mol, cleanIt=True, force=True)
    what = ", ".join(f"{n} × {name}" for name, n in names.items())
    return [f"isotopes are not kept: {what} have the mean mass of their element in what is written"]


def _stereo(mol: Any) -> list[str]:
    """Words about stereochemistry that was left open."""
    from rdkit.Chem import FindPotentialStereo, StereoSpecified

    free = [
        info
        for info in FindPotentialStereo(mol)
        if info.specified == StereoSpecified.Unspecified and not _no_choice(mol, info)
    ]
    if not free:
        return []
    names = atom_names([a.GetSymbol() for a in mol.GetAtoms()])
    where = []
    for info in free:
        if str(info.type).startswith("Bond"):
            bond = mol.GetBondWithIdx(info.centeredOn)
            where.append(f"the bond {names[bond.GetBeginAtomIdx()]}-{names[bond.GetEndAtomIdx()]}")
        else:
            where.append(f"atom {names[info.centeredOn]}")
    return [f"stereochemistry is left open at {', '.join(where)}: one of up to {2 ** len(free)} forms is built"]


def _no_choice(mol: Any, info: Any) -> bool:
    """Whether the forms are one: oxygens that share a charge or proton on P or S, equal neighbours as in SF6, and bonds
    at linear atoms.
    """
    if str(info.type).startswith("Bond"):
        bond = mol.GetBondWithIdx(info.centeredOn)
        return any(
            sum(other.GetBondTypeAsDouble() >= 2.0 for other in atom.GetBonds()) > 1
            for atom in (bond.GetBeginAtom(), bond.GetEndAtom())
        )
    atom = mol.GetAtomWithIdx(info.centeredOn)
    ranks = list(rdkit().CanonicalRankAtoms(mol, breakTies=False))
    if len({ranks[other.GetIdx()] for other in atom.GetNeighbors()}) == 1:
        return True
    if atom.GetAtomicNum() not in (15, 16, 33, 34):
        return False
    oxygens = [other for other in atom.GetNeighbors() if other.GetAtomicNum() == 8]
    ends = [[second.GetAtomicNum() > 1 for second in other.GetNeighbors()].count(True) == 1 for other in oxygens]
    return sum(ends) > 1


def _embedded(mol: Any, smiles: str, seed: int) -> list[int]:
    chem: Any = rdkit().AllChem
    from rdkit.Chem.rdMolDescriptors import CalcNumRotatableBonds

    parameters = chem.ETKDGv3()
    # RDKit multiplies the seed with the number of the conformer: zero would make all the same
    parameters.randomSeed = 1 + seed % 2**20
    parameters.useSmallRingTorsions = True
    count = min(MOST, FEWEST + 10 * int(CalcNumRotatableBonds(mol)))
    with quiet():
        ids = list(chem.EmbedMultipleConfs(mol, count, parameters))
        if not ids:
            parameters.useRandomCoords = True
            ids = list(chem.EmbedMultipleConfs(mol, count, parameters))
    if not ids:
        raise InputError(f"no geometry found for {smiles}: its rings or stereochemistry cannot be built in space")
    return ids


def _relaxed(mol: Any) -> tuple[list[float], str]:
    """Energies in kcal/mol of all conformers, relaxed in place, and the force field."""
    chem: Any = rdkit().AllChem
    if mol.GetNumAtoms() == 1:
        return [0.0] * mol.GetNumConformers(), "no force field"
    with quiet():
        properties = chem.MMFFGetMoleculeProperties(mol, mmffVariant="MMFF94s")
        if properties is not None and bond_lengths.known_to(mol, properties):
            trial = rdkit().Mol(mol)
            found = chem.MMFFOptimizeMoleculeConfs(trial, maxIters=STEPS, mmffVariant="MMFF94s")
            if all(flag >= 0 for flag, _ in found):
                for one in trial.GetConformers():
                    mol.GetConformer(one.GetId()).SetPositions(one.GetPositions())
                return _energies(found), "MMFF94s" + _unfinished(found)
        name = "UFF (MMFF94s lacks parameters)"
        if not chem.UFFHasAllMoleculeParams(mol):
            name = "UFF without parameters for some atoms: bond lengths are rough"
        found = chem.UFFOptimizeMoleculeConfs(mol, maxIters=STEPS)
    return _energies(found), name + _unfinished(found)


def _energies(found: Any) -> list[float]:
    """Of conformers that reached a minimum; those that did not are last."""
    least = max(energy for _, energy in found)
    return [float(energy) if flag == 0 else float(least) for flag, energy in found]


def _unfinished(found: Any) -> str:
    left = sum(flag != 0 for flag, _ in found)
    return f" ({left} of {len(found)} without reaching a minimum)" if left == len(found) else ""


def _distinct(mol: Any, order: list[int], wanted: int) -> list[int]:
    """The first ``wanted`` conformers that differ from those before them."""
    if wanted == 1:
        return order[:1]
    from rdkit.Chem import RWMol, rdMolAlign

    bare = RWMol(mol)
    for atom in reversed(list(mol.GetAtoms())):
        if atom.GetAtomicNum() == 1 and any(other.GetAtomicNum() == 6 for other in atom.GetNeighbors()):
            bare.RemoveAtom(atom.GetIdx())
    chosen: list[int] = []
    for k in order:
        # a copy each, because the alignment moves what it aligns
        trials = [rdkit().Mol(bare, confId=other) for other in (k, *chosen)]
        if all(rdMolAlign.GetBestRMS(trials[0], other, maxMatches=1000) > DISTINCT for other in trials[1:]):
            chosen.append(k)
        if len(chosen) == wanted:
            break
    return chosen


@contextmanager
def quiet() -> Iterator[None]:
    """RDKit's messages held back."""
    from rdkit import rdBase

    with rdBase.BlockLogs():
        yield


def centred(prepared: Prepared) -> Float[np.ndarray, "N 3"]:
    """Positions with the middle of their extent at the origin."""
    x = prepared.atoms.positions
    return x - 0.5 * (x.max(0) + x.min(0))


def renamed(prepared: Prepared, residue: str) -> Prepared:
    """A molecule of one residue under another residue name."""
    topology = replace(prepared.topology, residue_names=np.full(len(prepared.topology), residue))
    charged = tuple((f"A {residue} 1", charge) for _, charge in prepared.charged)
    return with_spin(replace(prepared, topology=topology, charged=charged), int(prepared.atoms.info.get("spin", 0)))
