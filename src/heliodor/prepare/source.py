"""Reading PDB and mmCIF files: one model of one conformer, and what was left out to get there."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.errors import InputError, MissingExtraError
from heliodor.prepare.alternates import Alternate, best_conformers
from heliodor.prepare.prepared import nanometres

PLACEHOLDER = 1.5
"""Å; a cell shorter than this along all three axes is none."""

PDB_ENDINGS = (".pdb", ".ent")
CIF_ENDINGS = (".cif", ".mmcif", ".pdbx")

STATES = {
    "HID": ("HIS", "HID"),
    "HSD": ("HIS", "HID"),
    "HIE": ("HIS", "HIE"),
    "HSE": ("HIS", "HIE"),
    "HIP": ("HIS", "HIP"),
    "HSP": ("HIS", "HIP"),
    "ASH": ("ASP", "ASH"),
    "GLH": ("GLU", "GLH"),
    "LYN": ("LYS", "LYN"),
    "CYX": ("CYS", ""),
}
"""Names that Amber and CHARMM give protonation states: the residue's own name, and the state."""

_UNKNOWN = (".", "?", "")


@dataclass(frozen=True)
class Source:
    """One model of a file, with one place for each atom.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        kind: "pdb" or "mmcif".
        text: what is left of the file, in the same format.
        model: number of the model as the file has it; None where the file numbers none.
        models: how many models the file holds.
        alternates: how many atoms were left out as less occupied alternatives.
        states: protonation by names such as HIE in a PDB file, by (chain, residue, number, insertion code).
        space_group: Hermann-Mauguin symbol, "" where there is none.
        notes: in words.
    """

    path: Path
    sha256: str
    kind: str
    text: str
    model: str | None
    models: int
    alternates: int
    states: Mapping[tuple[str, str, str, str], str]
    space_group: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Site:
    """What decides whether an atom is taken: its line, model, place in the chain, alternative."""

    row: int
    model: str
    place: tuple[str, ...]
    residue: str
    alternate: str
    occupancy: float
    name: str
    position: tuple[float, float, float]


def read_source(path: str | Path, model: int | None = None) -> Source:
    """Read a PDB or mmCIF file, plain or compressed (.gz, .xz).

    Of alternate locations those of a residue's best occupied conformer are kept (`alternates.best_conformers`), so that
    atoms of different conformers are never mixed within a residue.

    Args:
        model: which model, by its number in the file; None: the first, with a note.

    Raises:
        InputError: no such file, empty, not a PDB or mmCIF file, no atoms, no such model.
        MissingExtraError: OpenMM is not installed.
    """
    path = Path(path)
    data = _bytes(path)
    text = _decoded(path, data)
    kind = _kind(path, text)
    lines, sites, space_group, block = _read_pdb(path, text) if kind == "pdb" else _read_cif(path, text)
    if not sites:
        raise InputError(f"{path} holds no atoms: {'no ATOM or HETATM records' if kind == 'pdb' else 'no _atom_site'}")
    numbers = list(dict.fromkeys(site.model for site in sites))
    wanted = numbers[0] if model is None else str(model)
    if wanted not in numbers:
        raise InputError(f"{path} holds models {_range(numbers)}: there is no model {model}")
    notes = []
    if len(numbers) > 1:
        how = "the first is taken; choose with --model-number" if model is None else "as asked"
        notes.append(f"{len(numbers)} models in the file: model {wanted} ({how})")
    of_model = [site for site in sites if site.model == wanted]
    kept, told = _one_conformer(of_model)
    notes += told
    rows = {site.row for site in kept}
    kept_text = _write_pdb(lines, rows) if kind == "pdb" else _write_cif(block, rows)
    return Source(
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        kind=kind,
        text=kept_text,
        model=wanted if len(numbers) > 1 else None,
        models=len(numbers),
        alternates=len(of_model) - len(kept),
        states=_states(kept) if kind == "pdb" else {},
        space_group=space_group,
        notes=tuple(notes),
    )


def fixer_of(source: Source) -> Any:
    """A ``pdbfixer.PDBFixer`` of a source.

    Raises:
        InputError: OpenMM cannot read it.
        MissingExtraError: PDBFixer is not installed.
    """
    try:
        from pdbfixer import PDBFixer
    except ImportError:
        raise MissingExtraError("pdbfixer", "prepare") from None
    try:
        if source.kind == "pdb":
            fixer = PDBFixer(pdbfile=io.StringIO(source.text))
        else:
            fixer = PDBFixer(pdbxfile=io.StringIO(source.text))
    except Exception as error:
        raise InputError(f"{source.path} cannot be read as {source.kind}: {' '.join(str(error).split())}") from error
    if not np.isfinite(nanometres(fixer.positions)).all():
        raise InputError(f"{source.path}: some coordinates are no numbers")
    return fixer


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a structure file")
    if not path.exists():
        raise InputError(f"there is no file {path}")
    data = path.read_bytes()
    try:
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        elif path.suffix == ".xz":
            data = lzma.decompress(data)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path} cannot be unpacked: {error}; is the file whole?") from error
    if not data.strip():
        raise InputError(f"{path} is empty")
    return data


def _decoded(path: Path, data: bytes) -> str:
    if b"\0" in data[:10000]:
        raise InputError(f"{path} is not a text file: hand in PDB or mmCIF (of BinaryCIF the mmCIF version)")
    return data.decode("utf-8", errors="replace")


def _kind(path: Path, text: str) -> str:
    name = path.with_suffix("").name if path.suffix in (".gz", ".xz") else path.name
    ending = Path(name).suffix.lower()
    if ending in CIF_ENDINGS or text.lstrip().startswith("data_"):
        return "mmcif"
    looks = any(line.startswith(("ATOM  ", "HETATM", "HEADER", "CRYST1", "MODEL ")) for line in text.splitlines())
    if ending in PDB_ENDINGS or looks:
        return "pdb"
    raise InputError(
        f"{path} is neither a PDB nor an mmCIF file: those end in {', '.join((*PDB_ENDINGS, *CIF_ENDINGS))} (and .gz); "
        "small molecules are made with 'heliodor prepare molecule'"
    )


def _read_pdb(path: Path, text: str) -> tuple[list[str], list[_Site], str, None]:
    lines = text.splitlines()
    sites: list[_Site] = []
    model, space_group = "1", ""
    for row, line in enumerate(lines):
        if line.startswith("MODEL "):
            model = line[6:].strip() or str(int(model) + 1)
        elif line.startswith("CRYST1"):
            space_group = line[55:66].strip()
        elif line.startswith(("ATOM  ", "HETATM")):
            try:
                finite = all(isfinite(float(line[k : k + 8])) for k in (30, 38, 46))
            except ValueError:
                finite = False
            if not finite:
                raise InputError(
                    f"{path}, line {row + 1}: no coordinates in columns 31-54 of {line[:54].strip()!r}; the file is "
                    "damaged or not a PDB file"
                ) from None
            residue, alternate = line[17:21].strip(), line[16:17].strip()
            place, name = (line[21:22], line[22:27]), line[12:16].strip()
            x, y, z = (float(line[k : k + 8]) for k in (30, 38, 46))
            sites.append(_Site(row, model, place, residue, alternate, _number(line[54:60]), name, (x, y, z)))
    return lines, sites, space_group, None


def _read_cif(path: Path, text: str) -> tuple[list[str], list[_Site], str, Any]:
    try:
        from openmm.app.internal.pdbx.reader.PdbxReader import PdbxReader
    except ImportError:
        raise MissingExtraError("openmm", "prepare") from None
    data: list[Any] = []
    try:
        PdbxReader(io.StringIO(text)).read(data)
        block = next((one for one in data if one.getObj("atom_site") is not None), None)
    except Exception as error:
        raise InputError(f"{path} cannot be read as mmCIF: {' '.join(str(error).split())}") from error
    if block is None:
        return [], [], "", None
    table = block.getObj("atom_site")
    column = {name: table.getAttributeIndex(name) for name in table.getAttributeList()}

    def value(row: Sequence[str], *names: str) -> str:
        found = next((row[column[name]] for name in names if name in column), "")
        return "" if found in _UNKNOWN else found

    missing = [name for name in ("Cartn_x", "Cartn_y", "Cartn_z", "type_symbol") if name not in column]
    if missing:
        raise InputError(
            f"{path}: _atom_site has no {', '.join(missing)}: a small-molecule CIF? Only mmCIF is read here"
        )
    sites = []
    for number, row in enumerate(table.getRowList()):
        place = (
            value(row, "label_asym_id", "auth_asym_id"),
            value(row, "auth_seq_id", "label_seq_id"),
            value(row, "pdbx_PDB_ins_code"),
        )
        sites.append(
            _Site(
                number,
                value(row, "pdbx_PDB_model_num") or "1",
                place,
                value(row, "auth_comp_id", "label_comp_id"),
                value(row, "label_alt_id"),
                _number(value(row, "occupancy")),
                value(row, "label_atom_id", "auth_atom_id"),
                (_number(value(row, "Cartn_x")), _number(value(row, "Cartn_y")), _number(value(row, "Cartn_z"))),
            )
        )
    symmetry = block.getObj("symmetry")
    group = ""
    if symmetry is not None and symmetry.getAttributeIndex("space_group_name_H-M") >= 0:
        group = str(symmetry.getRow(0)[symmetry.getAttributeIndex("space_group_name_H-M")])
    return [], sites, group, block


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0


def _one_conformer(sites: Sequence[_Site]) -> tuple[list[_Site], list[str]]:
    """Atoms of the best occupied conformer of each residue, and a note where there was a choice."""
    options: dict[tuple[str, ...], dict[tuple[str, str], list[Alternate]]] = {}
    for site in sites:
        if site.alternate:
            here = options.setdefault(site.place, {}).setdefault((site.alternate, site.residue), [])
            here.append(Alternate(site.name, site.occupancy, np.array(site.position)))
    chosen = best_conformers(options)
    kept = []
    for site in sites:
        best = chosen.get(site.place)
        if best is None or site.alternate == best[0] or (not site.alternate and site.residue == best[1]):
            kept.append(site)
    # an atom without alternative letter beside one with: only one of a name can stay, which OpenMM sees to
    several = {place: found for place, found in options.items() if len(found) > 1}
    if not several:
        return kept, []
    mixed = {
        place: sorted({residue for _, residue in found})
        for place, found in several.items()
        if len({residue for _, residue in found}) > 1
    }
    notes = [
        f"alternate locations in {len(several)} residues: the best occupied is kept, "
        f"{len(sites) - len(kept)} atoms left out"
    ]
    if mixed:
        shown = ", ".join(
            f"{' '.join(part.strip() for part in place if part.strip())} {'/'.join(names)} as {chosen[place][1]}"
            for place, names in list(mixed.items())[:6]
        )
        notes.append(f"several kinds of residue at one place: {shown}")
    return kept, notes


def _states(sites: Sequence[_Site]) -> dict[tuple[str, str, str, str], str]:
    found = {}
    for site in sites:
        name, state = STATES.get(site.residue, ("", ""))
        if state:
            chain, number = site.place[0].strip(), site.place[1]
            found[(chain, name, number[:4].strip(), number[4:].strip())] = state
    return found


def _write_pdb(lines: Sequence[str], rows: set[int]) -> str:
    """The file without the atoms left out, without letters of alternatives, as a single model."""
    out = []
    for row, line in enumerate(lines):
        if line.startswith(("ATOM  ", "HETATM")):
            if row in rows:
                own = STATES.get(line[17:21].strip())
                out.append(f"{line[:16]} {f'{own[0]:>3s} ' if own else line[17:21]}{line[21:]}")
        elif not line.startswith(("MODEL ", "ENDMDL", "ANISOU", "SIGATM", "END ")) and line.strip() != "END":
            out.append(line)
    return "\n".join([*out, "END", ""])


def _write_cif(block: Any, rows: set[int]) -> str:
    from openmm.app.internal.pdbx.writer.PdbxWriter import PdbxWriter

    table = block.getObj("atom_site")
    alternate = table.getAttributeIndex("label_alt_id")
    model = table.getAttributeIndex("pdbx_PDB_model_num")
    kept = [list(row) for number, row in enumerate(table.getRowList()) if number in rows]
    for row in kept:
        if alternate >= 0:
            row[alternate] = "."
        if model >= 0:
            row[model] = "1"
    table.setRowList(kept)
    out = io.StringIO()
    PdbxWriter(out).write([block])
    return out.getvalue()


def _range(numbers: Sequence[str]) -> str:
    return numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
