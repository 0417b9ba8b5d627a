"""Set-up of all tests: shapes and types of the whole package are checked while they run.

The import hook has to be installed before heliodor is first imported, so nothing above it may import heliodor,
and no pytest plugin may. pyproject.toml turns warnings into errors; a test that provokes one says so itself.
"""

from __future__ import annotations

import os
import signal
import sys

import jaxtyping

assert not any(name.split(".")[0] == "heliodor" for name in sys.modules), "heliodor was imported before the type checks"
_hook = jaxtyping.install_import_hook("heliodor", "typecheck.checked")

import ase  # noqa: E402
import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from ase.build import molecule  # noqa: E402

# Triton's interpreter runs the GPU kernels where there is no GPU: chosen before anything imports Triton, whose own
# functions would be compiled ones otherwise
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import heliodor  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell that starts the tests in the background hands that down, and nothing could be interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)

# a shared or slow machine is no reason to fail; the search is random, what it finds is written to .hypothesis
hypothesis.settings.register_profile("quick", deadline=None, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def so3lr() -> heliodor.Potential:
    """SO3LR in float64 on the CPU, no cutoff for molecules, 12 Å in periodic boxes."""
    return heliodor.load("so3lr", device="cpu", dtype="float64")


@pytest.fixture(scope="session")
def so3lr_at():
    """SO3LR in float64 at some long-range cutoff, each loaded once."""
    known = {}

    def at(cutoff: float | str | None) -> heliodor.Potential:
        if cutoff not in known:
            known[cutoff] = heliodor.load("so3lr", device="cpu", dtype="float64", long_range_cutoff=cutoff)
        return known[cutoff]

    return at


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that a failing test can repeat (pytest-randomly varies only the order)."""
    return np.random.default_rng(20250101)


MOLECULES = ("CH3OH", "CH3CONH2", "CH3SH", "PH3", "CH3CH2Cl", "HCOOH")


@pytest.fixture(params=MOLECULES)
def atoms(request: pytest.FixtureRequest, rng: np.random.Generator) -> ase.Atoms:
    """A neutral molecule, bent out of its symmetry, away from the origin."""
    frame = molecule(request.param)
    frame.positions += rng.normal((3.0, -2.0, 1.0), 0.08, frame.positions.shape)
    return frame


@pytest.fixture
def crystal(rng: np.random.Generator) -> ase.Atoms:
    """Three molecules in a triclinic cell much smaller than the long-range cutoff."""
    frame = ase.Atoms(cell=[[6.2, 0.0, 0.0], [1.1, 6.0, 0.0], [-0.7, 0.9, 5.8]], pbc=True)
    for name, place in (("H2O", (0.1, 0.2, 0.1)), ("HF", (0.6, 0.5, 0.3)), ("CH3OH", (0.4, 0.9, 0.7))):
        part = molecule(name)
        part.positions += rng.normal(scale=0.05, size=part.positions.shape) + np.array(place) @ frame.cell.array
        frame += part
    return frame
