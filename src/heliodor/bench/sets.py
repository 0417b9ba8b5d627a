"""Which sets there are, where their data lie, and tasks made of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from heliodor.bench.interactions import Evaluator
from heliodor.bench.reactions import Reaction, ReactionSet, read_set
from heliodor.bench.result import KCAL, QUICK, Row, Task, spread_out
from heliodor.errors import InputError, suggestion
from heliodor.interaction import PROTOCOLS
from heliodor.potential import Potential
from heliodor.system import read_charge, read_spin

QUICK_ATOMS = 60
"""Atoms of all terms of a reaction beyond which --quick leaves it out."""


@dataclass(frozen=True)
class Known:
    """A set of reactions that lies in the data folder.

    Attributes:
        name: as in ``--sets``.
        path: of the JSON file in the data folder.
        title: what it is.
        level: of the reference.
        kind: "interactions" or "conformers".
        cost: see `Task`.
        distance: pattern whose first group, times ``scale``, is the relative distance, in names of reactions.
        parts: names of classes and how many systems of each follow one another.
    """

    name: str
    path: str
    title: str
    level: str
    kind: str = "interactions"
    cost: str = "seconds"
    distance: str = ""
    scale: float = 1.0
    parts: tuple[tuple[str, int], ...] = ()


S66_PARTS = (("hydrogen bonds", 23), ("dispersion", 23), ("mixed", 20))

KNOWN = (
    Known("s66x8", "nci_refdata/S66x8", "66 dimers at 8 distances", "CCSD(T)/CBS, as revised by Brauer et al. 2016",
          cost="minutes", distance=r"_(\d\.\d+)$", parts=S66_PARTS),
    Known("s66", "nci_refdata/S66", "66 dimers at their minima", "CCSD(T)/CBS, Rezac 2011, DiLabio 2013",
          parts=S66_PARTS),
    Known("s22", "nci_refdata/S22", "22 dimers at their minima", "CCSD(T)/CBS, S22B of Marshall et al. 2011"),
    Known("s22x5", "nci_refdata/S22x5", "22 dimers at 5 distances", "CCSD(T)/CBS, Grafova et al. 2010",
          distance=r"(\d\d)$", scale=0.1),
    Known("ssi500", "nci_refdata/SSI500", "side chains of proteins in pairs, 500 of them",
          "DW-CCSD(T)-F12/aug-cc-pVDZ, counterpoise", cost="minutes"),
    Known("bbi", "nci_refdata/BBI", "protein backbones in pairs", "DW-CCSD(T**)-F12/aug-cc-pV(D+d)Z, counterpoise"),
    Known("hsg", "nci_refdata/HSG", "pieces of HIV protease and indinavir", "CCSD(T)/CBS, Faver et al. 2011"),
    Known("ionichb", "nci_refdata/IONICHB", "hydrogen bonds of ions, 15 dimers at 8 distances",
          "CCSD(T)/CBS, counterpoise", distance=r"(\d\d\d)$", scale=0.01),
    Known("hbc6", "nci_refdata/HBC6", "doubly hydrogen-bonded dimers pulled apart",
          "CCSD(T)/[aTQZ; δ: aTZ], Marshall et al. 2011", distance=r"_(\d\.\d+)_dimer$"),
    Known("nbc10ext", "nci_refdata/NBC10ext", "dispersion-bound dimers pulled apart",
          "CCSD(T)/CBS, Smith et al. 2016", distance=r"_(\d\.\d+)_dimer$"),
    Known("3b69-dimers", "nci_refdata/3B69_dimer", "pairs out of crystals", "CCSD(T)/CBS, Rezac et al. 2015"),
    Known("3b69-trimers", "nci_refdata/3B69_trimer", "three-body energies of trimers out of crystals",
          "CCSD(T)/CBS, Rezac et al. 2015"),
    Known("adim6", "nci_refdata/ADIM6", "alkane dimers", "CCSD(T)/CBS, as in GMTKN55"),
    Known("water27", "nci_refdata/WATER27", "water clusters, some with H+ or OH-",
          "CCSD(T)/CBS type, Manna et al. 2017 (GMTKN55)"),
    Known("water38", "nci_refdata/WATER38", "water clusters, 2 to 10 molecules", "CCSD(T)/CBS, Temelso et al. 2011"),
    Known("l7", "nci_refdata/L7", "7 large complexes", "QCISD(T)/CBS, Sedlak et al. 2013", cost="minutes"),
    Known("s12l", "nci_refdata/S12L", "12 hosts with guests", "back-corrected experiment, some quantum Monte Carlo",
          cost="minutes"),
    Known("aconf", "conformers_refdata/ACONF", "alkanes", "CCSD(T)/CBS type (GMTKN55)", "conformers"),
    Known("but14diol", "conformers_refdata/BUT14DIOL", "butane-1,4-diol", "CCSD(T)/CBS type (GMTKN55)", "conformers"),
    Known("p26", "conformers_refdata/P26", "small aromatic peptides", "CCSD(T)/CBS, Valdes et al. 2008", "conformers"),
    Known("pconf21", "conformers_refdata/PCONF21", "tri- and tetrapeptides", "CCSD(T)/CBS type (GMTKN55)",
          "conformers"),
    Known("pentane13", "conformers_refdata/Pentane13", "stationary points of n-pentane", "CCSD(T)-F12b/TZ",
          "conformers"),
    Known("sconf", "conformers_refdata/SCONF", "sugars", "CCSD(T)/CBS type (GMTKN55)", "conformers"),
)  # fmt: skip
"""Sets of reactions, in the order of tables. Levels are those the files give, or the papers they name."""

KINDS = ("interactions", "conformers", "forces", "torsions", "crystals", "sapt10k")
"""Words for ``--sets`` that stand for several sets, or for the one that takes long."""

DEFAULT = "interactions,conformers"


def find_data(folder: str | Path | None = None) -> Path:
    """The folder of reference data: the argument, else ``$HELIODOR_SHARED/data``, else ``../shared/data``.

    Raises:
        InputError: there is no such folder.
    """
    if folder is not None:
        place = Path(folder)
        if not place.is_dir():
            raise InputError(f"there is no folder {place} with reference data")
        return place
    root = os.environ.get("HELIODOR_SHARED")
    place = Path(root) / "data" if root else Path("../shared/data")
    if not place.is_dir():
        raise InputError(
            "no reference data: give their folder (--data), or set HELIODOR_SHARED to the folder that holds data/"
        )
    return place


def open_tasks(names: str | Iterable[str], data: str | Path | None = None, protocol: str = "fragments") -> list[Task]:
    """Tasks of sets by name, of a kind of sets, of ``all``, or of a user's own file.

    Args:
        names: such as ``"s66x8,ssi500"``, ``"conformers"`` or ``"mine.json"``.
        data: as for `find_data`.
        protocol: of interaction energies, as in `heliodor.interaction_energy`.

    Raises:
        InputError: an unknown name or protocol; files that are missing or damaged.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
    words = [word.strip() for word in (names.split(",") if isinstance(names, str) else names) if word.strip()]
    if not words:
        raise InputError("no sets were named")
    own = [word for word in words if word.endswith(".json")]
    place = None if len(own) == len(words) and data is None else find_data(data)
    tasks: dict[str, Task] = {}
    for word in words:
        for task in _open(word, place, protocol):
            tasks.setdefault(task.name, task)
    if not tasks:
        raise InputError(f"the folder {place} holds none of the sets asked for: {', '.join(words)}")
    return list(tasks.values())


def described_sets() -> list[tuple[str, str, str]]:
    """Name, contents and reference level of every known set, wherever its data may be."""
    from heliodor.bench import crystals, sapt10k, torsions
    from heliodor.bench.forces import FORCES

    return [
        *((known.name, known.title, known.level) for known in KNOWN),
        *((one.name, one.title, one.level) for one in FORCES),
        ("biaryls", torsions.TITLE, torsions.LEVEL),
        ("x23", crystals.TITLE, crystals.LEVEL),
        ("sapt10k", sapt10k.TITLE, "as the file says"),
    ]


def _open(word: str, place: Path | None, protocol: str) -> Iterator[Task]:
    from heliodor.bench.crystals import x23_task
    from heliodor.bench.forces import FORCES, force_task
    from heliodor.bench.sapt10k import sapt10k_task
    from heliodor.bench.torsions import biaryl_task

    if word.endswith(".json"):
        yield reaction_task(read_set(word), None, protocol)
        return
    assert place is not None
    makers: dict[str, tuple[str, Path, Callable[[], Task]]] = {}
    for known in KNOWN:
        path = place / f"{known.path}.json"
        makers[known.name] = (known.kind, path, partial(_reactions, path, known, protocol))
    for one in FORCES:
        makers[one.name] = ("forces", place / one.path, partial(force_task, place, one))
    biaryls, x23, sapt = place / "torsions", place / "x23", place / "sapt10k"
    makers["biaryls"] = ("torsions", biaryls, partial(biaryl_task, biaryls))
    makers["x23"] = ("crystals", x23, partial(x23_task, x23))
    makers["sapt10k"] = ("sapt10k", sapt, partial(sapt10k_task, sapt, protocol))
    if word in makers:
        yield makers[word][2]()
        return
    if word != "all" and word not in KINDS:
        known_words = [*makers, *KINDS, "all"]
        raise InputError(
            f"there is no set {word!r}{suggestion(word, known_words)}; there are {', '.join(known_words)}, and your "
            "own as FILE.json"
        )
    for kind, path, make in makers.values():
        # what a smaller copy of the data lacks is not asked for by name
        if word in ("all", kind) and path.exists():
            yield make()


def _reactions(path: Path, known: Known, protocol: str) -> Task:
    return reaction_task(read_set(path), known, protocol)


def reaction_task(data: ReactionSet, known: Known | None = None, protocol: str = "fragments") -> Task:
    """The task of a set of reactions, known by name or a user's own."""
    names = tuple(reaction.name for reaction in data.reactions)
    pattern = re.compile(known.distance) if known and known.distance else None

    def distance(reaction: Reaction) -> float:
        found = pattern.search(reaction.name) if pattern and known else None
        return round(float(found.group(1)) * known.scale, 6) if found and known else float("nan")

    classes = _classes(names, known)

    def group(reaction: Reaction, data: ReactionSet) -> str:
        frames = [data.structures[name] for name, _ in reaction.terms]
        charged = any(read_charge(frame) or read_spin(frame) for frame in frames)
        return classes.get(reaction.name) or ("charged" if charged else "neutral")

    def evaluate(potential: Potential, items: Sequence[str]) -> Iterator[Row]:
        return Evaluator(potential, data, group, distance, protocol).rows(items)

    small = [
        reaction.name
        for reaction in data.reactions
        if sum(len(data.structures[name]) for name, _ in reaction.terms) <= QUICK_ATOMS
    ]
    return Task(
        known.name if known else data.name.lower(),
        known.title if known else data.name,
        known.level if known else data.level or "not stated",
        KCAL,
        data.sha256 if protocol == PROTOCOLS[0] else f"{data.sha256} {protocol}",
        names,
        spread_out(small, QUICK),
        evaluate,
        cost=known.cost if known else "minutes",
    )


def _classes(names: Sequence[str], known: Known | None) -> dict[str, str]:
    """Class of each reaction of sets whose classes follow one another."""
    if known is None or not known.parts:
        return {}
    systems = sum(count for _, count in known.parts)
    if len(names) % systems:
        return {}
    repeat = len(names) // systems
    words = [word for word, count in known.parts for _ in range(count * repeat)]
    return dict(zip(names, words, strict=True))
