"""Recipe: how many structures of each family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

import ase
import numpy as np

from heliodor.errors import InputError, suggestion


@dataclass(frozen=True)
class Recipe:
    """Structures wanted of each family; a few may be missing where no sound geometry is found.

    Attributes:
        grown: molecules by their bonded graphs, up to nine heavy atoms.
        drug_like: listed molecules, and scaffolds with substituents.
        ions: listed ions, and scaffolds with a charged group.
        dimers: two or three molecules, from compressed to 8 Å apart.
        hydrates: a molecule or ion with one to eight waters.
        salts: an anion, a cation and up to six waters.
        amino_acids: the twenty amino acids in 28 states, capped or free.
        tripeptides: capped peptides of two or three residues.
        contacts: side chains against side chains and backbones.
        nucleic: bases, nucleosides and nucleotides.
        base_pairs: edge to edge and stacked.
        sugars: pyranoses and furanoses.
        lipids: pieces of lipids.
        water_clusters: 1 to 12 waters.
        water_boxes: periodic, 12 to 64 waters.
        ion_boxes: salts and molecules in periodic boxes of 14 to 36 waters.
    """

    grown: int = 0
    drug_like: int = 0
    ions: int = 0
    dimers: int = 0
    hydrates: int = 0
    salts: int = 0
    amino_acids: int = 0
    tripeptides: int = 0
    contacts: int = 0
    nucleic: int = 0
    base_pairs: int = 0
    sugars: int = 0
    lipids: int = 0
    water_clusters: int = 0
    water_boxes: int = 0
    ion_boxes: int = 0

    def __post_init__(self) -> None:
        for name, count in asdict(self).items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise InputError(f"a recipe has whole numbers of structures: {name} is {count!r}")

    @property
    def total(self) -> int:
        """Structures wanted in all."""
        return sum(asdict(self).values())

    def scaled(self, factor: float) -> Recipe:
        """The same mixture, larger or smaller; no family that is there disappears."""
        if not 0.0 < factor < float("inf"):
            raise InputError(f"a recipe is scaled by a number above zero, not {factor}")
        return Recipe(**{name: max(1, round(n * factor)) if n else 0 for name, n in asdict(self).items()})


WIDE = Recipe(
    grown=3600,
    drug_like=3600,
    ions=1600,
    dimers=3000,
    hydrates=1200,
    salts=800,
    amino_acids=1400,
    tripeptides=1200,
    contacts=1200,
    nucleic=700,
    base_pairs=600,
    sugars=500,
    lipids=700,
    water_clusters=700,
    water_boxes=400,
    ion_boxes=200,
)
"""21,400 structures."""

PRESETS: dict[str, Recipe] = {
    "tiny": Recipe(**dict.fromkeys((field.name for field in fields(Recipe)), 4)),
    "small": WIDE.scaled(2000 / WIDE.total),
    "wide": WIDE,
}
"""Recipes by name: 64 structures for a look, about 2,000, about 21,000."""


def find_recipe(name: str) -> Recipe:
    """A recipe of `PRESETS`.

    Raises:
        InputError: an unknown name.
    """
    if name not in PRESETS:
        raise InputError(f"there is no recipe {name!r}{suggestion(name, PRESETS)} (there are {', '.join(PRESETS)})")
    return PRESETS[name]


Maker = Callable[[np.random.Generator, int, int], list[ase.Atoms]]
"""Structures of an item of a family: from its own random numbers, its number, and how many are wanted at most."""


@dataclass(frozen=True)
class Family:
    """One kind of structures.

    Attributes:
        make: see `Maker`.
        per_item: structures of one item: conformers of one molecule, frames of one trajectory.
    """

    make: Maker
    per_item: int = 4


def families() -> dict[str, Family]:
    """All families by the names of `Recipe`."""
    from heliodor.distil.structures import biomolecules, molecules, nucleic, pairs, peptides, water

    return {
        "grown": Family(molecules.grown_molecules),
        "drug_like": Family(molecules.drug_like),
        "ions": Family(molecules.ions),
        "dimers": Family(pairs.dimers),
        "hydrates": Family(pairs.hydrates),
        "salts": Family(pairs.salts),
        "amino_acids": Family(peptides.amino_acids),
        "tripeptides": Family(peptides.tripeptides),
        "contacts": Family(peptides.contacts),
        "nucleic": Family(nucleic.nucleic),
        "base_pairs": Family(nucleic.base_pairs),
        "sugars": Family(biomolecules.sugars),
        "lipids": Family(biomolecules.lipids),
        "water_clusters": Family(water.water_clusters, 8),
        "water_boxes": Family(water.water_boxes, 8),
        "ion_boxes": Family(water.ion_boxes),
    }
