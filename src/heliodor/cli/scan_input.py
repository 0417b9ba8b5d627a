"""What heliodor scan reads from its command line and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heliodor.cli.common import note
from heliodor.cli.reading import read_structure
from heliodor.errors import InputError

if TYPE_CHECKING:
    import ase

    from heliodor.scan.grid import Axis


def read_molecule(path: Path, frame: int | None = None) -> ase.Atoms:
    """As `read_structure`, and besides: mol2, without the charge.

    Raises:
        InputError: as `read_structure`.
    """
    if path.suffix.lower() != ".mol2" or not path.is_file():
        return read_structure(path, frame)
    text = path.read_text(errors="replace")
    blocks = ["@<TRIPOS>MOLECULE" + block for block in text.split("@<TRIPOS>MOLECULE")[1:]]
    if not blocks:
        raise InputError(f"{path} holds no molecule")
    if frame is None and len(blocks) > 1:
        note(f"{path} holds {len(blocks)} structures: using the first (choose with --frame; -1 is the last)")
    if not -len(blocks) <= (frame or 0) < len(blocks):
        raise InputError(f"{path} holds {len(blocks)} structure(s), numbered from 0: there is no frame {frame}")
    try:
        return _mol2(blocks[frame or 0])
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path} cannot be read as mol2: {error}; is it of that type, and whole?") from error


def _mol2(block: str) -> ase.Atoms:
    import ase

    section = block.partition("@<TRIPOS>ATOM")[2].partition("@<TRIPOS>")[0]
    rows = [line.split() for line in section.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not rows:
        raise ValueError("no atoms")
    # SYBYL types begin with the element: C.ar, N.pl3, Cl
    return ase.Atoms([row[5].split(".")[0] for row in rows], [[float(x) for x in row[2:5]] for row in rows])


def atoms_of(words: str, count: int, option: str) -> tuple[int, ...]:
    """``"1,2,3,4"`` as indices.

    Raises:
        InputError: not that many whole numbers.
    """
    try:
        found = tuple(int(word) for word in words.replace("-", ",").split(","))
    except ValueError:
        found = ()
    if len(found) != count:
        shown = ",".join("abcd"[:count])
        raise InputError(f"{option} must be {count} atoms {shown}, counted from 0, not {words!r}")
    return found


def dihedrals_of(
    atoms: ase.Atoms, dihedrals: Sequence[str], bonds: Sequence[str], smarts: Sequence[str]
) -> list[tuple[int, ...]]:
    """The dihedrals that --dihedral, --bond and --smarts name, in this order.

    Raises:
        InputError: none or more than two, or words that name none.
    """
    from heliodor.scan.geometry import bonds_of, dihedral_around, dihedral_of_smarts
    from heliodor.system import read_charge

    count = len(dihedrals) + len(bonds) + len(smarts)
    if count not in (1, 2):
        raise InputError(
            f"{count or 'no'} dihedrals were named: give one or two by --dihedral a,b,c,d (atoms counted from 0), "
            "--bond b,c or --smarts PATTERN"
        )
    bonded = bonds_of(atoms)
    found: list[tuple[int, ...]] = [atoms_of(words, 4, "--dihedral") for words in dihedrals]
    found += [dihedral_around(atoms, atoms_of(words, 2, "--bond"), bonded) for words in bonds]
    charge = round(read_charge(atoms))
    return found + [dihedral_of_smarts(atoms, pattern, charge) for pattern in smarts]


def axes_of(ranges: Sequence[str], steps: Sequence[float], count: int) -> list[Axis]:
    """The grid along each of ``count`` dihedrals from --range and --step, one for all or one each.

    Raises:
        InputError: another number of them, or ranges and steps that make no grid.
    """
    from heliodor.scan.grid import Axis

    for option, values in (("--range", ranges), ("--step", steps)):
        if len(values) not in (1, count):
            raise InputError(f"{option} must be given once, or once for each of the {count} dihedrals")
    axes = []
    for k in range(count):
        words = ranges[k % len(ranges)]
        try:
            low, high = (float(word) for word in words.split(":"))
        except ValueError:
            raise InputError(f"--range must be LOW:HIGH in degrees, such as -180:180, not {words!r}") from None
        axes.append(Axis.over(low, high, steps[k % len(steps)]))
    return axes
