"""Which atoms of a structure are meant: what a user may say, and picking them out of a batch to write them."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import atomic_numbers
from jaxtyping import Int, Shaped
from torch import Tensor

from heliodor.errors import InputError
from heliodor.system import System


def select_atoms(text: str, system: System) -> Int[Tensor, "K"] | None:
    """Indices, ascending, of the atoms a text describes, counted from zero within a structure.

    Words are put together by spaces or commas: ``heavy`` (all but hydrogen), elements (``C N O``), indices and
    ranges with both ends in (``0-99,120``); ``not`` in front takes all others; ``all`` is everything.

    Args:
        system: one structure, or several of the same composition, to each of which the selection applies.

    Returns:
        The indices; None for all atoms.

    Raises:
        InputError: a word that means nothing, an index that does not exist, an element that is not there, nothing
            selected, or several structures that differ.
    """
    words = [word for word in re.split(r"[\s,]+", text.strip()) if word]
    if [word.lower() for word in words] == ["all"]:
        return None
    counts = system.counts.tolist()
    numbers = system.numbers[: counts[0]].cpu()
    alike = all(count == counts[0] for count in counts)
    if not alike or not torch.equal(system.numbers.cpu(), numbers.repeat(len(counts))):
        raise InputError("atoms can be selected only where all structures have the same composition")
    inverted = bool(words) and words[0].lower() == "not"
    chosen = torch.zeros(counts[0], dtype=torch.bool)
    for word in words[inverted:]:
        chosen |= _meant(word, numbers)
    if inverted:
        chosen = ~chosen
    if len(words) == inverted or not bool(chosen.any()):
        raise InputError(f"the selection {text!r} leaves no atom")
    return None if bool(chosen.all()) else chosen.nonzero().squeeze(-1)


def _meant(word: str, numbers: Int[Tensor, "N"]) -> Tensor:
    """Mask of the atoms one word of a selection stands for."""
    if word.lower() in ("all", "heavy"):
        return numbers > (1 if word.lower() == "heavy" else 0)
    if word in atomic_numbers:
        mask = numbers == atomic_numbers[word]
        if not bool(mask.any()):
            raise InputError(f"there is no {word} in the structure to select")
        return mask
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
    if found is None:
        raise InputError(
            f"cannot select {word!r}: write all, heavy, elements (C N O), indices from zero (0-99,120), or not ..."
        )
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last < len(numbers):
        raise InputError(f"cannot select {word!r}: atoms are counted from 0 to {len(numbers) - 1}")
    index = torch.arange(len(numbers))
    return (first <= index) & (index <= last)


@dataclass(frozen=True)
class Written:
    """The atoms of a batch that go into a file.

    Attributes:
        index: of M atoms within the batch; None for all of them.
        counts: number of them of each structure.
        numbers: [M] their atomic numbers.
    """

    index: Int[Tensor, "M"] | None
    counts: tuple[int, ...]
    numbers: np.ndarray

    def pick(self, values: Shaped[Tensor, "N *rest"]) -> np.ndarray:
        """Their rows, on the CPU."""
        chosen = values if self.index is None else values.index_select(0, self.index)
        array: np.ndarray = chosen.detach().cpu().numpy()
        return array

    @property
    def species(self) -> int:
        """A number that tells compositions apart."""
        return zlib.crc32(self.numbers.astype("<i4").tobytes())


def written_atoms(system: System, atoms: Int[Tensor, "K"] | None) -> Written:
    """What to write of a batch when ``atoms`` (indices, None for all) are wanted of each structure.

    Raises:
        InputError: an index beyond a structure's atoms.
    """
    counts = system.counts.tolist()
    if atoms is None:
        return Written(None, tuple(counts), system.numbers.cpu().numpy())
    if len(atoms) == 0 or int(atoms.min()) < 0 or int(atoms.max()) >= min(counts):
        raise InputError(f"the atoms to write must be indices from 0 to {min(counts) - 1}")
    starts = np.cumsum([0, *counts[:-1]])
    index = torch.cat([atoms.cpu() + int(start) for start in starts]).to(system.device)
    return Written(index, (len(atoms),) * len(counts), system.numbers[index].cpu().numpy())
