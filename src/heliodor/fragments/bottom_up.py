"""Bottom-up fragments (amons): every connected piece of a molecule up to some size, saturated with hydrogen.

Huang & von Lilienfeld, Nat. Chem. 12, 945 (2020), in the form that GEMS and PhysNet's solvated protein fragments used
(Unke & Meuwly, J. Chem. Theory Comput. 15, 3678 (2019)): any bond may be cut, and one of order n leaves n hydrogens on
each side. Formal charges stay where they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from heliodor.errors import InputError
from heliodor.fragments.graph import ChemicalGraph
from heliodor.fragments.kekule import Drawings
from heliodor.fragments.rdkit_graph import canonical, molecule_key
from heliodor.fragments.skeleton import Piece, Skeleton, skeletons

LARGEST_CHARGE = 2
"""e; of a fragment, of either sign."""

Progress = Callable[[int, int], object]
"""Called with the number of steps done and of all steps."""


@dataclass(frozen=True)
class Amon:
    """A molecular graph cut from larger ones; closed-shell.

    Attributes:
        smiles: canonical (RDKit), without stereochemistry: the amon's identity.
        n_heavy: atoms other than hydrogen.
        charge: e.
        count: places where it was found, in all graphs; of a ring drawn in several Kekulé structures, in all of them.
        parents: indices of the graphs that it was found in, ascending.
    """

    smiles: str
    n_heavy: int
    charge: int
    count: int = 1
    parents: tuple[int, ...] = ()


def bottom_up(
    graphs: Sequence[ChemicalGraph] | ChemicalGraph,
    max_heavy: int,
    *,
    every_kekule: bool = False,
    progress: Progress | None = None,
) -> tuple[Amon, ...]:
    """All amons of some structures: connected induced subgraphs of their heavy atoms, each graph once.

    Where a bond inside an aromatic ring is cut, its order counts, and that depends on the Kekulé structure the ring
    happens to be drawn in: ``every_kekule`` takes all of them (double bonds moved within rings, charges in place), and
    makes the result independent of the drawing.

    Args:
        graphs: with all hydrogens.
        max_heavy: atoms other than hydrogen, at most.
        progress: called with (heavy atoms done, all).

    Returns:
        Ordered by size, then SMILES.

    Raises:
        InputError: missing hydrogens or bond orders, radicals, metals (naming graph and atom); max_heavy below 1.
        MissingExtraError: RDKit is not installed.
    """
    check_size(max_heavy)
    structures = [graphs] if isinstance(graphs, ChemicalGraph) else list(graphs)
    # equal molecules, such as waters, are cut once
    found: dict[Skeleton, Counter[int]] = {}
    for index, graph in enumerate(structures):
        try:
            for molecule in skeletons(graph):
                found.setdefault(molecule, Counter())[index] += 1
        except InputError as error:
            raise InputError(f"structure {index}: {error}" if len(structures) > 1 else str(error)) from None
    total, done = sum(len(molecule) for molecule in found), 0
    collection = Collection()
    for molecule, occurrences in found.items():
        counts: Counter[tuple[str, int, int]] = Counter()
        collect(pieces(molecule, max_heavy, every_kekule=every_kekule), counts)
        collection.add(counts, occurrences)
        done += len(molecule)
        if progress is not None:
            progress(done, total)
    return collection.amons()


def molecules(amons: Iterable[Amon]) -> tuple[Amon, ...]:
    """One drawing of each molecule.

    A graph is a drawing: of the 2,331 that proteins are cut into, 24 are second drawings of a molecule (guanidinium and
    imidazolium with the charge and the double bond elsewhere), which leaves the 2,307 of the literature. Geometries of
    two drawings are of one molecule, and must not come into training and test under two names.
    """
    first: dict[str, Amon] = {}
    for amon in amons:
        first.setdefault(molecule_key(amon.smiles), amon)
    return tuple(first.values())


def check_size(max_heavy: int) -> None:
    """Refuse a size below one."""
    if max_heavy < 1:
        raise InputError(f"fragments have at least one heavy atom, not {max_heavy}")


class Collection:
    """Amons with the places and graphs they were found in."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, int, int]] = Counter()
        self._parents: dict[tuple[str, int, int], set[int]] = {}

    def add(self, counts: Counter[tuple[str, int, int]], occurrences: Counter[int]) -> None:
        """Amons of one molecule that occurs so many times in each of some graphs."""
        times = sum(occurrences.values())
        for amon, count in counts.items():
            self._counts[amon] += count * times
            self._parents.setdefault(amon, set()).update(occurrences)

    def amons(self) -> tuple[Amon, ...]:
        """Ordered by size, then SMILES."""
        return tuple(
            Amon(smiles, n, charge, self._counts[smiles, n, charge], tuple(sorted(self._parents[smiles, n, charge])))
            for smiles, n, charge in sorted(self._counts, key=lambda amon: (amon[1], amon[0]))
        )


def collect(parts: Iterable[Piece], counts: Counter[tuple[str, int, int]]) -> None:
    """Count amons as (SMILES, heavy atoms, charge), without those of too large a charge."""
    for part, times in Counter(parts).items():
        charge = sum(part[1])
        if abs(charge) <= LARGEST_CHARGE:
            counts[canonical(part), len(part[0]), charge] += times


def pieces(
    skeleton: Skeleton, largest: int, containing: Sequence[int] | None = None, *, every_kekule: bool = False
) -> Iterator[Piece]:
    """Every connected induced subgraph of at most so many atoms, saturated; with `every_kekule` in every drawing.

    Args:
        containing: a connected set of atoms; only pieces with all of them.
    """
    drawings = Drawings(skeleton) if every_kekule else None
    for atoms in _sets(skeleton, largest, containing):
        for drawing in [skeleton] if drawings is None else drawings.of(atoms):
            yield drawing.piece(atoms)


def _sets(skeleton: Skeleton, largest: int, containing: Sequence[int] | None) -> Iterator[tuple[int, ...]]:
    adjacency = skeleton.adjacency
    if containing is not None:
        yield from (tuple(sorted(atoms)) for atoms in connected_sets(adjacency, largest, containing))
        return
    for root in range(len(skeleton)):
        for atoms in connected_sets(adjacency, largest, (root,), forbidden=(1 << root) - 1):
            yield tuple(sorted(atoms))


def connected_sets(
    adjacency: Sequence[int], largest: int, seed: Sequence[int], forbidden: int = 0
) -> Iterator[tuple[int, ...]]:
    """All connected sets of at most `largest` vertices around a connected seed, each once.

    The ESU recursion (Wernicke, IEEE/ACM Trans. Comput. Biol. Bioinform. 3, 347 (2006)) without recursion: a vertex
    enters the candidates with the first member it neighbours, and is dropped for good once it was passed over. With
    one vertex as the seed and all lower ones forbidden, over all vertices, every connected set of a graph comes once.

    Args:
        adjacency: neighbours of each vertex as a bit mask.
        forbidden: vertices that must not be taken, as a bit mask.
    """
    start, near = 0, 0
    for vertex in seed:
        start |= 1 << vertex
        near |= adjacency[vertex]
    if len(seed) > largest:
        return
    waiting = [(tuple(seed), near & ~start & ~forbidden, near | start | forbidden)]
    while waiting:
        members, candidates, closed = waiting.pop()
        yield members
        if len(members) == largest:
            continue
        while candidates:
            bit = candidates & -candidates
            candidates ^= bit
            vertex = bit.bit_length() - 1
            waiting.append(((*members, vertex), candidates | (adjacency[vertex] & ~closed), closed | adjacency[vertex]))
