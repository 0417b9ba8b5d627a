"""The result of a run: read from its files, written beside them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.dynamics.files.storage import write_durably
from heliodor.errors import InputError
from heliodor.metadynamics.averages import BLOCKS, effective_samples
from heliodor.metadynamics.draw import draw
from heliodor.metadynamics.files import Checkpoint, Files, files_of
from heliodor.metadynamics.samples import METHODS, Samples
from heliodor.metadynamics.settings import Settings
from heliodor.metadynamics.surface import Basins, Surface, free_energy_basins, free_energy_surface
from heliodor.metadynamics.variables import Variable
from heliodor.units import KCAL_PER_MOL


@dataclass(frozen=True, eq=False)
class Result:
    """Free energies of a run so far.

    Attributes:
        samples: what was sampled, and the bias.
        surface, basins: None where the run is too short for errors.
        effective_samples: Kish's number of those that the weights leave.
        ended: "finished" or "interrupted".
    """

    files: Files
    samples: Samples
    surface: Surface | None
    basins: Basins | None
    ended: str = "finished"
    entry: dict[str, Any] = field(default_factory=dict)
    effective_samples: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON; units are in the names."""
        s = self.samples
        found: dict[str, Any] = {
            "ended": self.ended,
            "steps": int(s.steps[-1]),
            "time_fs": float(s.steps[-1] * s.settings.timestep_fs),
            "gaussians": len(s),
            "last_height_eV": float(s.heights[-1]),
            "variables": [v.to_dict() for v in s.variables],
        }
        if self.basins is not None:
            b = self.basins
            found["effective_samples"] = self.effective_samples
            found["basins"] = [
                {
                    "place": b.places[k].tolist(),
                    "population": float(b.population[k]),
                    "population_error": float(b.population_error[k]),
                    "free_energy_kcal_per_mol": float(b.difference[k] / KCAL_PER_MOL),
                    "error_kcal_per_mol": float(b.error[k] / KCAL_PER_MOL),
                    "from_bias_kcal_per_mol": float(b.from_bias[k] / KCAL_PER_MOL),
                }
                for k in range(len(b))
            ]
            found["convergence"] = {
                "time_fs": b.times.tolist(),
                "from_bias_kcal_per_mol": (b.against_time / KCAL_PER_MOL).tolist(),
            }
        return found


def analyse(
    files: Files,
    variables: Sequence[Variable],
    settings: Settings,
    *,
    ended: str = "finished",
    entry: dict[str, Any] | None = None,
    method: str = METHODS[0],
    skip: float = 0.2,
    blocks: int = BLOCKS,
) -> Result:
    """Free energies from a run's table of Gaussians; surface, picture and record are written anew.

    Args:
        entry: what else goes into the record.
        method, skip, blocks: of reweighting and errors (`Samples.log_weights`, `free_energy_surface`).

    Raises:
        InputError: files that are missing or not of this run.
    """
    samples = Samples.read(files.hills, variables, settings)
    surface: Surface | None = None
    found: Basins | None = None
    log_weights = samples.log_weights(method, skip)
    if blocks < 2:
        raise InputError(f"errors need two blocks of time at least, not {blocks}")
    enough = np.isfinite(log_weights).sum() >= 2 * blocks
    if enough:
        surface = free_energy_surface(samples, method=method, skip=skip, blocks=blocks)
        found = free_energy_basins(samples, method=method, skip=skip, blocks=blocks)
    effective = effective_samples(log_weights) if enough else 0.0
    result = Result(files, samples, surface, found, ended, entry or {}, effective)
    if surface is not None and found is not None:
        write_durably(files.surface, _table(samples, surface).encode())
        draw(samples, surface, found, files.picture)
    whole = {"reweighting": {"method": method, "skip": skip, "blocks": blocks}}
    whole = {**result.entry, **whole, "result": result.to_dict()}
    write_durably(files.result, (json.dumps(_plain(whole), indent=2, ensure_ascii=False) + "\n").encode())
    return result


def read_result(output: str | Path, *, method: str = METHODS[0], skip: float = 0.2, blocks: int = BLOCKS) -> Result:
    """The result of a run by the name of its trajectory, analysed anew; also of one that is going on or was killed.

    Raises:
        InputError: files that are missing or not of a metadynamics run.
    """
    files = files_of(output)
    try:
        if files.result.is_file():
            whole = json.loads(files.result.read_text(encoding="utf-8"))
            known, variables = whole["metadynamics"], whole["variables"]
        else:
            whole = {}
            known, variables = _of_restart(Checkpoint.read(files.checkpoint))
            # so that this record can be read again
            whole = {"variables": variables, "metadynamics": known}
        settings = Settings(**{f.name: known[f.name] for f in fields(Settings) if f.name in known})
        chosen = [Variable.from_dict(v) for v in variables]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{files.result} is no record of a metadynamics run") from error
    entry = {k: v for k, v in whole.items() if k not in ("result", "reweighting")}
    ended = str(whole.get("result", {}).get("ended", "interrupted"))
    return analyse(files, chosen, settings, ended=ended, entry=entry, method=method, skip=skip, blocks=blocks)


def _of_restart(kept: Checkpoint) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Settings and variables of a run that came to no end; its time is as far as the restart file goes."""
    identity = kept.identity
    stride = identity["stride"] * identity["timestep"]
    known = {f.name: identity[f.name] for f in fields(Settings) if f.name in identity}
    known |= {"stride": stride, "save_every": identity["save_every"] * stride}
    known["time"] = max(stride, kept.step * identity["timestep"])
    return known, identity["variables"]


def _table(samples: Samples, surface: Surface) -> str:
    """kcal/mol, a line for each bin."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    units = {"torsion": "deg", "distance": "A"}
    names = [f"{v.kind}_{'-'.join(map(str, v.atoms))}_{units[v.kind]}" for v in samples.variables]
    writer.writerow([*names, "F_from_bias_kcal_per_mol", "F_reweighted_kcal_per_mol", "error_kcal_per_mol"])
    points = np.stack([a.ravel() for a in np.meshgrid(*surface.centers, indexing="ij")], -1)
    columns = [a.ravel() / KCAL_PER_MOL for a in (surface.from_bias, surface.reweighted, surface.error)]
    for k, point in enumerate(points):
        writer.writerow([*(f"{x:.6g}" for x in point), *(f"{column[k]:.5f}" for column in columns)])
    return file.getvalue()


def _plain(value: Any) -> Any:
    """JSON knows no numbers that are not finite."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
