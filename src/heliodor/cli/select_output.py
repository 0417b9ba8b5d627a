"""What heliodor select writes: representatives, and a table of all structures."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from heliodor.errors import InputError

if TYPE_CHECKING:
    from heliodor.cli.select_input import Pool
    from heliodor.fragments.select import Selected


def check_outputs(output: Path, overwrite: bool) -> tuple[Path, Path]:
    """Names of table and picture.

    Raises:
        InputError: another suffix, files that exist, no folder.
    """
    from heliodor.dynamics.files.trajectory import refuse_existing

    if output.suffix not in (".extxyz", ".xyz"):
        raise InputError(f"representatives are written as extended xyz: end the name {output} in .extxyz or .xyz")
    table, picture = output.with_suffix(".csv"), output.with_suffix(".png")
    for path in (output, table, picture):
        refuse_existing(path, overwrite)
    return table, picture


def write_selection(pool: Pool, found: Selected, output: Path, table: Path) -> None:
    """Both files, each under its name when it is complete.

    The extended xyz has names, ``source`` and ``frame`` of each representative, ``origin`` ("cluster", "farthest",
    "alone") and ``cluster_size``; the table has a line for each structure looked at.
    """
    import ase.io

    frames = []
    for k, index in enumerate(found.index.tolist()):
        atoms = pool.structure(index)
        atoms.info |= {"origin": str(found.origin[k]), "cluster_size": int(found.size[k])}
        frames.append(atoms)
    part = output.with_name(f".{output.stem}.part{output.suffix}")
    try:
        ase.io.write(part, frames, format="extxyz")
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    distance = found.distance
    representatives = set(found.index.tolist())
    part = table.with_name(f".{table.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(
            ("index", "file", "frame", "group", "representative", "origin", "cluster_size", "distance", "chosen")
        )
        for k, index in enumerate(found.looked.tolist()):
            place = int(found.place[k])
            rows.writerow(
                (
                    index,
                    pool.names[pool.files[index]],
                    int(pool.frame[index]),
                    found.group[k],
                    int(found.index[place]),
                    found.origin[place],
                    int(found.size[place]),
                    f"{distance[k]:.6g}",
                    int(index in representatives),
                )
            )
    part.replace(table)
