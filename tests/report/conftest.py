"""Small runs with their files, and a browser to look at pages with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule

from heliodor.analysis.show import Analysis, Axis, Curve, Heat, Number, Panel, Shown
from heliodor.errors import InputError
from heliodor.trajectory.trajectory import Trajectory

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Look:
    """A page in the browser, with whatever it complained of or asked the network for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def ready(self) -> None:
        # no wait_for_function: the page forbids eval
        self.page.wait_for_selector("html[data-figures=drawn]", state="attached", timeout=60_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (heliodor[dev])")
    names = [os.environ.get("CHROMIUM", ""), *BROWSERS]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs a Chromium browser (set CHROMIUM to its path)")
    arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    with sync_api.sync_playwright() as play:
        running = play.chromium.launch(executable_path=found, args=arguments)
        yield running
        running.close()


@pytest.fixture
def look(browser: Any) -> Iterator[Callable[..., Look]]:
    contexts = []

    def at(path: Path, script: str = "", **options: Any) -> Look:
        context = browser.new_context(**({"viewport": {"width": 900, "height": 500}} | options))
        contexts.append(context)
        seen = Look(context.new_page())
        seen.page.on("console", lambda m: seen.complaints.append(m.text) if m.type in ("error", "warning") else None)
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        if script:
            seen.page.add_init_script(script)
        seen.page.goto(path.absolute().as_uri())
        return seen

    yield at
    for context in contexts:
        context.close()


@pytest.fixture
def write_log(rng: np.random.Generator) -> Callable[..., None]:
    """Write what a canonical ensemble of 24 degrees of freedom would leave, values independent of each other."""

    def write(path: Path, temperature: float, lines: int = 400) -> None:
        free = 24
        kelvin = temperature * rng.chisquare(free, lines) / free
        kinetic = 0.5 * free * 8.617333262e-5 * kelvin
        potential = -5.0 + 0.02 * rng.normal(size=lines)
        conserved = -4.7 + 1e-5 * rng.normal(size=lines)
        rows = [
            f"{10 * k},{100 * k},{kelvin[k]:.3f},{potential[k]:.12g},{kinetic[k]:.12g},{conserved[k]:.12g},0.01"
            for k in range(lines)
        ]
        head = "step,time_fs,temperature_K,potential_eV,kinetic_eV,conserved_eV,drift_meV_per_atom_ps"
        path.write_text("\n".join([head, *rows]) + "\n")

    return write


@pytest.fixture
def run(tmp_path: Path, rng: np.random.Generator, write_log: Callable[..., None]) -> Callable[..., Path]:
    """Write a run of ethanol as extended xyz: trajectory, log, record."""

    def write(name: str = "run", frames: int = 12, temperature: float = 300.0, record: bool = True) -> Path:
        ethanol = molecule("CH3CH2OH")
        images = []
        for k in range(frames):
            atoms = ethanol.copy()
            atoms.rattle(0.03, rng=rng)
            atoms.info["time_fs"] = 10.0 * k
            images.append(atoms)
        path = tmp_path / f"{name}.xyz"
        ase.io.write(path, images, format="extxyz")
        if record:
            write_log(path.with_suffix(".csv"), temperature)
            path.with_suffix(".json").write_text(json.dumps(a_record(temperature)))
        return path

    return write


def a_record(temperature: float) -> dict[str, Any]:
    return {
        "command": "heliodor md ethanol.xyz --time '40 ps'",
        "date": "2026-01-02T03:04:05+0000",
        "versions": {"heliodor": "0.1.0", "torch": "2.10", "numpy": "2.0", "ase": "3.26"},
        "machine": {"host": "bench", "system": "Linux", "device": "CPU", "threads": 2},
        "model": {"name": "some-model", "sha256": "ab" * 32, "citation": "Someone, 2026", "licence": "MIT"},
        "settings": {
            "ensemble": "nvt",
            "temperature": temperature,
            "friction": 2.0,
            "thermostat": None,
            "timestep": 0.5,
            "seed": 7,
        },
        "dynamics": f"NVT at {temperature:g} K",
    }


def every_panel(trajectory: Trajectory, *, progress: Any = None, processes: int = 1) -> Shown:
    """Whatever a panel may hold."""
    x = np.linspace(0.1, 10.0, 50)
    wave = np.sin(x)
    gap = np.where((x > 4) & (x < 5), np.nan, wave)
    letters = np.arange(80 * 3).reshape(3, 80) % 4
    if progress is not None:
        progress(1, 2)
    return Shown(
        "every",
        "Every kind of panel",
        (
            Panel(
                "lines", Axis("time", "ps"), Axis("value", "Å"), (
                    Curve("with band", x, gap, gap - 0.2, gap + 0.2),
                    Curve("measured", x, wave + 0.3, reference=True),
                ),
            ),
            Panel(
                "log axes", Axis("lag", "ps", log=True), Axis("power", log=True, low=1e-3), (
                    Curve("", x, x**-2.0), Curve("dashed", x, x**-1.5, style="dashed"),
                ),
            ),
            Panel("steps", Axis("r", "Å"), Axis("count"), (Curve("", x, np.round(5 + wave), style="steps"),)),
            Panel(
                "points", Axis("φ", "°", -180, 180), Axis("ψ", "°", -180, 180), (
                    Curve("frames", 17 * x, 100 * wave, style="points", colours=x, colour_axis=Axis("time", "ps")),
                    Curve("α", np.array([-57.0]), np.array([-47.0]), style="points", reference=True),
                    Curve("errors", 10 * x[::10], x[::10], x[::10] - 1, x[::10] + 1, style="points"),
                ),
            ),
            Panel(
                "map", Axis("x"), Axis("y"),
                heat=Heat(x[:4], x[:3], np.outer([1.0, -2.0, np.nan], x[:4]), Axis("height")),
            ),
            Panel(
                "letters", Axis("time", "ps"), Axis("residue"),
                heat=Heat(
                    np.arange(80.0), np.arange(3.0), letters.astype(float),
                    kinds=(("H", "helix"), ("E", "strand"), ("T", "turn"), (" ", "coil")),
                    y_names=("ALA 1", "<b>GLY</b> 2", "SER 3"),
                ),
            ),
        ),
        (
            Number("first", 0.2304567, 0.0051, "Å²/ps", "a remark", 0.23),
            Number("not to be had", float("nan"), None, "K", "too short"),
        ),
        ("A note with <markup> & signs.",),
        {"curve": {"x_A": x, "y": gap}, "names": {"residue": np.array(["ALA", "a,b"]), "n": np.array([1, 2])}},
    )  # fmt: skip


def fails(trajectory: Trajectory, *, progress: Any = None, processes: int = 1) -> Shown:
    raise InputError("there are too few frames for that")


def breaks(trajectory: Trajectory, *, progress: Any = None, processes: int = 1) -> Shown:
    raise ZeroDivisionError("oh")


def misfits(trajectory: Trajectory, *, progress: Any = None, processes: int = 1) -> Shown:
    heat = Heat(np.arange(3.0), np.arange(2.0), np.zeros((1, 1)))
    return Shown("misfits", "One that cannot be drawn", (Panel("", Axis("x"), Axis("y"), heat=heat),))


FAKE = {
    one.name: one
    for one in (
        Analysis("every", "Every kind of panel", "", lambda trajectory: None, every_panel),
        Analysis("fails", "One that fails", "", lambda trajectory: None, fails),
        Analysis("breaks", "One with a defect", "", lambda trajectory: None, breaks),
        Analysis("misfits", "One that cannot be drawn", "", lambda trajectory: None, misfits),
        Analysis("unfit", "One that does not fit", "", lambda trajectory: "it has no wings", every_panel),
        Analysis("asked", "By request only", "", lambda trajectory: None, every_panel, usual=False),
    )
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue of analyses that need no time."""
    monkeypatch.setattr("heliodor.report.write.catalogue", lambda: FAKE)
