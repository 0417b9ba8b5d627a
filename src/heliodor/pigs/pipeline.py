"""From a model and a structure to a corrected model and its spectra, in stages.

Stages whose inputs have not changed are skipped; a killed one is taken up where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from heliodor.api import load
from heliodor.checkpoint import load_checkpoint, save_checkpoint
from heliodor.dynamics.files.storage import put_in_place, write_durably
from heliodor.dynamics.provenance import fingerprint
from heliodor.errors import InputError, suggestion
from heliodor.paths import PathResult, PathSettings, run_paths
from heliodor.pigs.config import PigsChoices
from heliodor.pigs.fit import fit_correction
from heliodor.pigs.residuals import centroid_frames, explained, residuals, split_in_time
from heliodor.pigs.runs import classical_run
from heliodor.pigs.spectra import STRETCHES, Line, centroid_spectra, classical_spectra, plot_spectra, write_table
from heliodor.potential import Potential, check_energy
from heliodor.potentials.sum import Sum
from heliodor.stages import Record, Stage, Tell, run_stages
from heliodor.system import read_charge, read_spin
from heliodor.train.dataset import Dataset
from heliodor.train.settings import TrainSettings
from heliodor.units import parse_time

Say = Callable[[str, int, int], None]

SETS = ("training.h5", "validation.h5", "test.h5")

CLASSICAL, CORRECTED, TRPMD = "classical", "corrected", "trpmd"


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """What all stages know."""

    model: str
    atoms: ase.Atoms
    choices: PigsChoices
    settings: TrainSettings
    folder: Path
    options: dict[str, Any]

    def load(self, model: str | Path | None = None) -> Potential:
        """Of the kind that runs fastest."""
        return load(self.model if model is None else model, **self.options)


def coarse_grain(
    model: str | Path,
    atoms: ase.Atoms,
    output: str | Path,
    choices: PigsChoices | None = None,
    *,
    until: str | None = None,
    tell: Tell = lambda stage, what, done, of: None,
    **load_options: Any,
) -> dict[str, Record]:
    """Learn what quantum nuclei add to a model, from path integrals at an elevated temperature, and compare spectra.

    The folder gets `corrected.safetensors` (`heliodor.potentials.sum.Sum` of model and correction, complete in itself),
    `correction.safetensors`, `judgement.json`, and `spectra.json`, `spectrum.png`, `vdos.csv`, `infrared.csv`. Give the
    same call again to go on after a kill.

    Args:
        model: a name or file, as `heliodor.load` takes; with a checkpoint format, so no committee.
        atoms: what it is learned for, with the masses it has.
        until: the stage to stop after: paths, residuals, train, judge, classical, corrected, trpmd or spectra.
        load_options: as for `heliodor.load`.

    Raises:
        InputError, ModelError: choices, model or structure that cannot be used.
        MissingExtraError: i-PI is not installed.
    """
    wanted = choices or PigsChoices()
    settings, options = wanted.train_settings(), {"dtype": "float32", **load_options}
    start = atoms.copy()
    start.calc = None
    start.info = {
        "charge": read_charge(atoms) if wanted.charge is None else wanted.charge,
        "spin": read_spin(atoms) if wanted.spin is None else wanted.spin,
    }
    job = _Job(str(model), start, wanted, settings, Path(output), options)
    base = job.load()
    check_energy(base)
    if not hasattr(base, "config"):
        raise InputError(f"{base.name} cannot be written into a checkpoint with its correction: give one model")
    stages = _stages(job, base)
    names = [stage.name for stage in stages]
    if until is not None:
        if until not in names:
            raise InputError(f"there is no stage {until!r}{suggestion(until, names)}; they are {', '.join(names)}")
        stages = stages[: names.index(until) + 1]
    return run_stages(stages, job.folder, tell)


def _stages(job: _Job, base: Potential) -> list[Stage]:
    c = job.choices
    plain = dataclasses.asdict(c)
    asked = {"weights": _identity(base), "structure": _digest(_numbers(job.atoms)), "seed": c.seed}
    shares = {"skip": c.paths.skip, "validation": c.correction.validation, "test": c.correction.test}
    learner = {k: plain["correction"][k] for k in ("architecture", "size")}
    infrared = "charges" in base.outputs
    found = [
        Stage(
            *("paths", "path-integral dynamics", (), {**asked, "paths": {**plain["paths"], "skip": 0}}),
            *(("centroids.h5",), partial(_paths, job)),
        ),
        Stage(
            *("residuals", "forces of path integrals less classical ones", ("paths",), {**asked, **shares}),
            *(SETS, partial(_residuals, job)),
        ),
        Stage(
            *("train", "training of the correction", ("residuals",)),
            {**asked, **learner, "train": job.settings.to_dict()},
            *(("correction.safetensors", "corrected.safetensors", "curves.png"), partial(_train, job)),
        ),
        Stage(
            *("judge", "the correction on frames it has not seen", ("train", "residuals"), {}),
            *(("judgement.json",), partial(_judge, job)),
        ),
    ]
    if not c.dynamics.time:
        return found
    d = {k: v for k, v in plain["dynamics"].items() if not k.startswith("trpmd") and k != "resolution"}
    runs = {**asked, "temperature": c.temperature, "dynamics": d}
    for name, needs in ((CLASSICAL, ()), (CORRECTED, ("train",))):
        found.append(
            Stage(
                *(name, f"classical dynamics, {'with' if needs else 'without'} the correction", needs, runs),
                *((f"{name}.h5",), partial(_dynamics, job, name)),
            )
        )
    if c.dynamics.trpmd:
        rings = {**runs, "time": c.dynamics.trpmd, "beads": c.dynamics.trpmd_beads}
        found.append(
            Stage(
                *(TRPMD, "ring-polymer dynamics, to compare with", (), rings),
                *(("trpmd.npz",), partial(_ring_polymers, job)),
            )
        )
    lines = [CLASSICAL, CORRECTED, *([TRPMD] if c.dynamics.trpmd else [])]
    made = ("spectra.json", "spectrum.png", "vdos.csv", *(("infrared.csv",) if infrared else ()))
    found.append(
        Stage(
            *("spectra", "spectra", tuple(lines), {"resolution": c.dynamics.resolution, "temperature": c.temperature}),
            *(made, partial(_spectra, job, lines, infrared)),
        )
    )
    return found


def _paths(job: _Job, say: Say) -> Mapping[str, Any]:
    p = job.choices.paths
    settings = PathSettings(
        temperature=p.temperature,
        beads=p.beads,
        time=p.time,
        timestep=p.timestep,
        thermostat=p.thermostat,
        seed=job.choices.seed,
        stride=p.stride,
        bead_stride=0,
        centroid=True,
    )
    found = _run_paths(job, settings, lambda done, of: say("path-integral dynamics", done, of))
    assert found.centroids is not None and found.centroid_forces is not None
    frames = centroid_frames(
        _like(job.atoms, found.atoms), found.centroids, found.centroid_forces, found.cells, job.model
    )
    frames.write(job.folder / "centroids.h5")
    kelvin = float(found.properties["temperature"][len(found.time) // 2 :].mean())
    return {"frames": len(frames), "fs": round(float(found.time[-1]), 1), "temperature_K": round(kelvin, 1)}


def _run_paths(job: _Job, settings: PathSettings, tell: Callable[[int, int], None]) -> PathResult:
    """In a folder of its own for these settings; a longer time goes on with the same run."""
    base = job.load()
    kept = {**dataclasses.asdict(settings), "time": 0}
    place = _place(job.folder / "paths", [kept, _identity(base), *_numbers(job.atoms)])
    return run_paths(base, job.atoms, place, settings, restart=True, tell=tell)


def _residuals(job: _Job, say: Say) -> Mapping[str, Any]:
    frames = Dataset.read(job.folder / "centroids.h5")
    c = job.choices
    frames = frames.take(np.arange(int(c.paths.skip * len(frames)), len(frames)))
    left = residuals(job.load(), frames, say)
    parts = split_in_time(left, c.correction.validation, c.correction.test)
    for name, part in zip(SETS, parts, strict=True):
        part.write(job.folder / name)
    sizes = {name.removesuffix(".h5"): len(part) for name, part in zip(SETS, parts, strict=True)}
    return {**sizes, "residual_eV_per_A": _rounded(float(np.sqrt(np.square(left.forces).mean())))}


def _train(job: _Job, say: Say) -> Mapping[str, Any]:
    training, watched = (Dataset.read(job.folder / name) for name in SETS[:2])
    c = job.choices
    base = load(job.model, **{**job.options, "dtype": "float64", "device": "cpu", "kernels": "reference"})
    result = fit_correction(
        training,
        watched,
        c.correction,
        job.settings,
        job.folder / "training",
        lambda share, words: say(words, round(1000 * share), 1000),
    )
    learned = {
        "method": "path-integral coarse graining (Te PIGS), Musil et al., J. Chem. Phys. 157, 181102 (2022)",
        "elevated_temperature_K": c.paths.temperature,
        "beads": c.paths.beads,
        "formula": job.atoms.get_chemical_formula(),
        "charge_e": float(job.atoms.info["charge"]),
    }
    name = f"{base.name} correction"
    save_checkpoint(
        result.model,
        job.folder / "correction.safetensors",
        {**result.model.card, **learned, "name": name, "of": job.model},
    )
    total = Sum(base, [load_checkpoint(job.folder / "correction.safetensors")])
    save_checkpoint(
        total, job.folder / "corrected.safetensors", {**total.card, **learned, "name": f"{base.name} corrected"}
    )
    shutil.copyfile(result.path.parent / "curves.png", job.folder / "curves.png.part")
    put_in_place(job.folder / "curves.png.part", job.folder / "curves.png")
    return {"steps": result.steps, "epochs": round(result.epochs, 1), "minutes": round(result.seconds / 60.0, 1)}


def _judge(job: _Job, say: Say) -> Mapping[str, Any]:
    held = Dataset.read(job.folder / "test.h5")
    found = explained(load_checkpoint(job.folder / "correction.safetensors").float(), held)
    write_durably(job.folder / "judgement.json", json.dumps(found.to_dict(), indent=1).encode())
    doubt = {"doubt": "no better than none: more frames or epochs are needed"} if found.after >= found.before else {}
    return {
        "held_out_frames": found.frames,
        "residual_before_eV_per_A": _rounded(found.before),
        "after": _rounded(found.after),
        "slope": f"{found.slope:.2f} ± {found.slope_error:.2f}",
        **doubt,
    }


def _dynamics(job: _Job, name: str, say: Say) -> Mapping[str, Any]:
    c = job.choices
    model = job.load(job.folder / "corrected.safetensors" if name == CORRECTED else None)
    key = [_identity(model), *_numbers(job.atoms), dataclasses.asdict(c.dynamics), c.temperature, c.seed]
    place = _place(job.folder / "dynamics", key)
    run = classical_run(model, job.atoms, c, place, name, say)
    shutil.copyfile(run, job.folder / f"{name}.h5.part")
    put_in_place(job.folder / f"{name}.h5.part", job.folder / f"{name}.h5")
    return {"copies": c.dynamics.copies, "fs": parse_time(c.dynamics.time)}


def _ring_polymers(job: _Job, say: Say) -> Mapping[str, Any]:
    c = job.choices
    d = c.dynamics
    settings = PathSettings(
        temperature=c.temperature,
        beads=d.trpmd_beads,
        time=d.trpmd,
        timestep=d.timestep,
        thermostat=TRPMD,
        seed=c.seed,
        stride=max(1, round(d.save_every / d.timestep)),
        bead_stride=0,
        centroid=True,
    )
    found = _run_paths(job, settings, lambda done, of: say("ring-polymer dynamics", done, of))
    settled = found.time > parse_time(d.settle)
    assert found.centroids is not None
    arrays: dict[str, Any] = {"time": found.time[settled], "centroids": found.centroids[settled]}
    if found.dipole is not None:
        arrays["dipole"] = found.dipole[settled]
    np.savez(job.folder / "trpmd.npz.part.npz", **arrays)
    put_in_place(job.folder / "trpmd.npz.part.npz", job.folder / "trpmd.npz")
    return {"beads": d.trpmd_beads, "frames": int(settled.sum())}


def _spectra(job: _Job, names: list[str], infrared: bool, say: Say) -> Mapping[str, Any]:
    c = job.choices
    d = c.dynamics
    found: dict[str, list[Line]] = {}
    for k, name in enumerate(names):
        say("spectra", k, len(names))
        if name == TRPMD:
            with np.load(job.folder / "trpmd.npz") as kept:
                dipole = kept["dipole"] if "dipole" in kept.files else None
                interval = float(kept["time"][1] - kept["time"][0])
                lines = centroid_spectra(
                    kept["centroids"], dipole, job.atoms.get_masses(), interval, c.temperature, d.resolution, name
                )
        else:
            lines = classical_spectra(
                job.folder / f"{name}.h5", d.copies, name, c.temperature, d.resolution, infrared=infrared
            )
        for kind, line in lines.items():
            found.setdefault(kind, []).append(line)
    for kind, lines_of in found.items():
        write_table(lines_of, job.folder / f"{kind}.csv")
    formula, beads = job.atoms.get_chemical_formula(), c.paths.beads
    hydrogen = 1 in job.atoms.numbers
    title = f"{formula}, {job.model}, {c.temperature:g} K; correction from {beads} beads at {c.paths.temperature:g} K"
    plot_spectra(found, job.folder / "spectrum.png", title, hydrogen=hydrogen)
    told = {
        kind: {
            line.name: {"mean_per_cm": line.mean_of(*STRETCHES), "peak_per_cm": line.peak_of(*STRETCHES)}
            for line in lines_of
        }
        for kind, lines_of in found.items()
    }
    words = {"stretches_per_cm": list(STRETCHES), "resolution_per_cm": d.resolution, **told}
    write_durably(job.folder / "spectra.json", json.dumps(words, indent=1).encode())
    return {f"X-H_{line.name}_per_cm": round(line.mean_of(*STRETCHES)) for line in found["vdos"] if hydrogen}


def _like(mine: ase.Atoms, theirs: ase.Atoms) -> ase.Atoms:
    """Cell and elements of the run, charge and spin of the job."""
    found = theirs.copy()
    found.info = dict(mine.info)
    return found


def _identity(model: Potential) -> str:
    """Of its parameters, and of what else changes its forces."""
    if not model.has_long_range:
        return fingerprint(model)
    return f"{fingerprint(model)} {model.long_range_cutoff}"


def _numbers(atoms: ase.Atoms) -> list[Any]:
    arrays: list[Float[np.ndarray, "..."] | np.ndarray] = [
        atoms.numbers,
        atoms.positions,
        atoms.get_masses(),
        atoms.cell.array,
        atoms.pbc,
    ]
    return [*(array.tolist() for array in arrays), atoms.info["charge"], atoms.info["spin"]]


def _place(folder: Path, parts: list[Any]) -> Path:
    """A folder of its own for these inputs, so that other choices never meet its remains."""
    place = folder / _digest(parts)
    place.mkdir(parents=True, exist_ok=True)
    return place


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:12]


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
