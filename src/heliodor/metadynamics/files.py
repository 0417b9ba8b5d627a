"""The files of a run: their names, the table of Gaussians, what a restart goes on from."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from heliodor.dynamics.files.storage import write_durably
from heliodor.dynamics.files.trajectory import kind_of, refuse_existing
from heliodor.errors import InputError
from heliodor.metadynamics.variables import Variable


@dataclass(frozen=True)
class Files:
    """Beside a trajectory metad.h5: metad.hills.csv, metad.surface.csv, metad.png, metad.json, metad.restart."""

    trajectory: Path
    hills: Path
    surface: Path
    picture: Path
    result: Path
    checkpoint: Path

    def to_list(self) -> list[Path]:
        return [getattr(self, f.name) for f in fields(self)]


def files_of(output: str | Path, *, overwrite: bool = True) -> Files:
    """Names beside a trajectory.

    Raises:
        InputError: no trajectory format that can be read back; files that exist and may not be replaced.
    """
    path = Path(output)
    if kind_of(path) == "dcd":
        raise InputError(f"{path}: write the trajectory as .h5 or .xyz; DCD holds no elements")
    stem = path.with_suffix("")

    def beside(suffix: str) -> Path:
        return stem.with_name(stem.name + suffix)

    files = Files(
        path, beside(".hills.csv"), beside(".surface.csv"), beside(".png"), beside(".json"), beside(".restart")
    )
    if not overwrite:
        for one in files.to_list():
            if one.exists():
                raise InputError(
                    f"{one} exists already: go on with that run (--restart, restart=True), replace it (--overwrite, "
                    "overwrite=True), or choose another output"
                )
    refuse_existing(path, True)
    return files


def header(variables: Sequence[Variable]) -> str:
    """First line of the table of Gaussians."""
    units = {"torsion": "deg", "distance": "A"}
    columns = [f"{v.kind}_{'-'.join(map(str, v.atoms))}_{units[v.kind]}" for v in variables]
    return ",".join(["step", "time_fs", *columns, "bias_eV", "height_eV"]) + "\n"


def hill_line(step: int, time: float, values: np.ndarray, bias: float, height: float) -> str:
    """One line of it; sixteen digits, so that a bias can be put together again."""
    return ",".join([str(step), f"{time:.10g}", *(f"{x:.15g}" for x in (*values.tolist(), bias, height))]) + "\n"


def read_hills(
    path: Path, variables: Sequence[Variable]
) -> tuple[np.ndarray, Float[np.ndarray, "T D"], Float[np.ndarray, "T"], Float[np.ndarray, "T"]]:
    """Steps, values, bias and heights of the complete lines of a table.

    Raises:
        InputError: the file is missing or of other variables.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if not lines or lines[0] != header(variables):
        raise InputError(f"{path} is no table of Gaussians of these variables")
    rows = [line.split(",") for line in lines[1:] if line.endswith("\n")]
    try:
        table = np.array([[float(x) for x in row] for row in rows]).reshape(-1, len(variables) + 4)
    except ValueError:
        raise InputError(f"{path} holds lines that are not numbers") from None
    return table[:, 0].astype(np.int64), table[:, 2:-2], table[:, -2], table[:, -1]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a run goes on from.

    Attributes:
        step: done so far.
        hills_bytes: of the table of Gaussians that belong to it.
        trajectory: mark of the trajectory (`Writer.mark`).
        identity: what must be the same: settings, variables, model, atoms.
        bias: kJ/mol, as OpenMM keeps it.
        engine: OpenMM's own checkpoint.
        positions, velocities: Å and Å/fs, should that not be readable.
    """

    step: int
    hills_bytes: int
    trajectory: dict[str, int]
    identity: dict[str, Any]
    bias: np.ndarray
    engine: bytes
    positions: Float[np.ndarray, "N 3"]
    velocities: Float[np.ndarray, "N 3"]

    def write(self, path: Path) -> None:
        """Durably: the old one stays until the new one is on the disk."""
        facts = {
            "step": self.step,
            "hills_bytes": self.hills_bytes,
            "trajectory": self.trajectory,
            "identity": self.identity,
        }
        buffer = io.BytesIO()
        np.savez(
            buffer,
            facts=np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
            engine=np.frombuffer(self.engine, dtype=np.uint8),
            bias=self.bias,
            positions=self.positions,
            velocities=self.velocities,
        )
        write_durably(path, buffer.getvalue())

    @staticmethod
    def read(path: Path) -> Checkpoint:
        """The opposite of `write`.

        Raises:
            InputError: missing or damaged.
        """
        if not path.is_file():
            raise InputError(f"there is no restart file {path}: leave --restart out to begin a run")
        try:
            with np.load(path, allow_pickle=False) as found:
                facts = json.loads(found["facts"].tobytes())
                return Checkpoint(
                    bias=found["bias"],
                    engine=found["engine"].tobytes(),
                    positions=found["positions"],
                    velocities=found["velocities"],
                    **facts,
                )
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is no restart file of a metadynamics run, or damaged") from error


def check_same(before: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Refuse to go on with other settings, variables, atoms or another model.

    Raises:
        InputError: naming what differs.
    """
    # as JSON has them
    now = json.loads(json.dumps(now))
    # a file of before something was kept does not say
    differs = [name for name in now if name in before and before[name] != now[name]]
    if differs:
        name = differs[0]
        more = f" (and {', '.join(differs[1:])})" if len(differs) > 1 else ""
        raise InputError(
            f"{path} is of a run with another {name.replace('_', ' ')}{more}: {_short(before.get(name))} there, "
            f"{_short(now[name])} here; a bias belongs to its settings: repeat them, or begin a run of another name"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
