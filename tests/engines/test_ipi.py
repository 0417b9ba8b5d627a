"""The i-PI driver: units, virial, batches, first positions; sockets with i-PI itself, and lost ones."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import molecule
from ase.units import Bohr, Hartree

import heliodor
from heliodor.engines.ipi import ATOMIC_TIME, ELECTRON_MASS, PES_FILE, Beads, upright
from heliodor.engines.ipi_socket import serve
from heliodor.errors import InputError, SimulationError
from heliodor.paths import PathSettings, run_paths

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dynamics"))

from toys import LennardJones, Morse, argon_box

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ipi") is None, reason="i-PI is not installed")
NO_CELL = 1000.0 * np.eye(3)


def tilted() -> ase.Atoms:
    box = argon_box()
    box.set_cell(np.array(box.cell) + np.array([[0, 0, 0], [0.6, 0, 0], [-0.4, 0.5, 0]]), scale_atoms=True)
    return box


def test_energy_forces_and_virial_in_atomic_units():
    box, model = tilted(), LennardJones(cutoff=5.0)
    answer = Beads(model, box)
    ((energy, forces, virial, extras),) = answer([np.array(box.cell).T / Bohr], [box.positions / Bohr])
    ours = heliodor.evaluate(model, box)
    assert energy == pytest.approx(float(ours.energy[0]) / Hartree, rel=1e-7)
    np.testing.assert_allclose(forces, ours.forces.numpy() * Bohr / Hartree, atol=1e-9)
    assert extras == ""
    # -∂E/∂ε by strains of positions and cell
    for a, b in ((0, 0), (1, 1), (0, 1), (1, 2), (0, 2)):
        energies = []
        for sign in (1.0, -1.0):
            strain = np.eye(3)
            strain[a, b] += 0.5e-4 * sign
            strain[b, a] += 0.5e-4 * sign
            cell, positions = np.array(box.cell) @ strain, box.positions @ strain
            energies.append(answer([cell.T / Bohr], [positions / Bohr])[0][0])
        # along the diagonal both halves add up; off it each component gets a half, and the virial has two of them
        assert virial[a, b] == pytest.approx(-(energies[0] - energies[1]) / 2e-4, abs=2e-6)


def test_a_batch_is_bead_by_bead():
    water = molecule("H2O")
    water.info["charge"] = 0
    rng = np.random.default_rng(0)
    beads = [(water.positions + rng.normal(0, 0.05, (3, 3))) / Bohr for _ in range(3)]
    model = heliodor.load("heliodor-mini", device="cpu", dtype="float64", kernels="reference")
    together = Beads(model, water, compare=False)
    both = together([NO_CELL] * 3, beads)
    assert together.calls == 1
    for bead, one in zip(beads, both, strict=True):
        (alone,) = Beads(model, water, compare=False)([NO_CELL], [bead])
        assert one[0] == pytest.approx(alone[0], abs=1e-9)
        np.testing.assert_allclose(one[1], alone[1], atol=1e-9)
        np.testing.assert_allclose(one[2], alone[2], atol=1e-9)
        moved = water.copy()
        moved.positions = bead * Bohr
        dipole = heliodor.evaluate(model, moved).dipole[0].numpy() / Bohr
        np.testing.assert_allclose(json.loads(one[3])["dipole"], dipole, atol=1e-6)


def test_dipole_of_a_box_does_not_depend_on_images():
    near, far = molecule("H2O"), molecule("H2O")
    far.rotate(70.0, (1, 2, 3))
    far.positions += (0.5, 2.9, 0.3)
    box = near + far
    box.info["charge"] = 0
    box.set_cell([[9.0, 0, 0], [1.0, 8.0, 0], [0.5, -1.0, 8.5]])
    box.pbc = True
    cell, whole = np.array(box.cell), box.positions.copy()
    # an atom of a molecule on the other side, and a whole molecule
    box.positions[1] -= cell[0]
    box.positions[3:] += cell[1] - cell[2]
    model = heliodor.load("heliodor-mini", device="cpu", dtype="float64", kernels="reference")
    charges = heliodor.evaluate(model, box).charges.numpy()
    # charge flows between the molecules, so that images of whole molecules matter for Σ q r
    assert abs(charges[:3].sum()) > 1e-4
    exact = np.zeros(3)
    for start in (0, 3):
        atoms = slice(start, start + 3)
        centre = box.get_masses()[atoms] @ whole[atoms] / box.get_masses()[atoms].sum()
        for charge, place in zip(charges[atoms], whole[atoms], strict=True):
            exact += charge * (place - centre)
    beads = Beads(model, box)
    for positions in (box.positions, whole):
        ((*_, extras),) = beads([cell.T / Bohr], [positions / Bohr])
        np.testing.assert_allclose(json.loads(extras)["dipole"], exact / Bohr, atol=1e-9)
    chain = ase.Atoms("C6H12", [[1.5 * k, 0.4 * (-1) ** k, 0] for k in range(6)] + [[9, 9, 9]] * 12)
    for k in range(12):
        chain.positions[6 + k] = chain.positions[k // 2] + [0, 0.6 * (-1) ** (k // 2), 0.9 * (-1) ** k]
    chain.set_cell([9.0, 10.0, 10.0])
    chain.pbc = True
    endless = Beads(model, chain)
    ((*_, extras),) = endless([np.diag([9.0, 10.0, 10.0]) / Bohr], [chain.positions / Bohr])
    assert not endless.has_dipoles
    assert extras == ""


def test_atomic_units():
    # CODATA 2018
    assert pytest.approx(0.024188843265857, rel=1e-9) == ATOMIC_TIME
    assert pytest.approx(5.48579909065e-4, rel=1e-8) == ELECTRON_MASS


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: x, "0.5292 times|not in Å"),
        (lambda x: x[::-1] / Bohr, "another order"),
        (lambda x: x[:-1] / Bohr, "atoms"),
    ],
)
def test_first_positions_are_compared(spoil, words):
    atoms = ase.Atoms("HCl", [[0, 0, 0], [1.3, 0.2, 0]]) + ase.Atoms("F", [[0, 2.5, 0]])
    atoms.info["spin"] = 1
    with pytest.raises(InputError, match=words):
        Beads(Morse(), atoms)([NO_CELL], [spoil(atoms.positions)])


def test_cells_are_turned_for_ipi():
    box = tilted()
    box.rotate(40.0, (1, 2, 3), rotate_cell=True)
    turned = upright(box)
    assert np.abs(np.triu(np.array(turned.cell), 1)).max() < 1e-9
    model = LennardJones(cutoff=5.0)
    assert float(heliodor.evaluate(model, turned).energy[0]) == pytest.approx(
        float(heliodor.evaluate(model, box).energy[0]), abs=1e-9
    )


def ipi(folder: Path, xml: str) -> subprocess.Popen[bytes]:
    (folder / "run.xml").write_text(xml)
    command = [sys.executable, str(Path(sys.executable).with_name("i-pi")), "run.xml"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.parametrize("batch", [1, 3])
def test_socket_and_direct_runs_are_the_same(tmp_path, batch):
    atoms = ase.Atoms("HF", [[0, 0, 0], [0.95, 0, 0]], info={"charge": 0})
    model = Morse(5.8, 2.2, 0.95)
    settings = PathSettings(300.0, 3, "3 fs", timestep=0.25, stride=1, bead_stride=0, seed=7)
    direct = run_paths(model, atoms, tmp_path / "direct", settings)
    xml = (tmp_path / "direct" / "input.xml").read_text()
    start, end = xml.index("<ffdirect"), xml.index("</ffdirect>") + len("</ffdirect>")
    name = f"heliodor_{batch}_{tmp_path.name}"
    field = (
        f"<ffsocket name='heliodor' mode='unix' pbc='False'> <address> {name} </address> "
        f"<batch_size> {batch} </batch_size> </ffsocket>"
    )
    process = ipi(tmp_path, xml[:start] + field + xml[end:])
    try:
        beads = Beads(model, atoms)
        calls = serve(f"unix:{name}", beads, timeout=20.0, patience=20.0)
        said, _ = process.communicate(timeout=20.0)
    finally:
        process.kill()
        process.wait()
    assert calls == beads.calls == 13 * 3 // batch, said.decode()[-2000:]
    rows = np.loadtxt(tmp_path / "ipi.out")
    np.testing.assert_allclose(rows[1:, 2], direct.properties["conserved"], rtol=1e-6)
    np.testing.assert_allclose(rows[1:, 5], direct.properties["kinetic_virial"], rtol=1e-5)


def test_ipi_runs_the_input_by_itself(tmp_path):
    atoms = molecule("H2O")
    atoms.info["charge"] = 0
    settings = PathSettings(300.0, 2, "1 fs", timestep=0.25, stride=1, bead_stride=0, seed=7)
    found = run_paths("heliodor-mini", atoms, tmp_path, settings, device="cpu", kernels="reference")
    xml = (tmp_path / "input.xml").read_text()
    assert str(PES_FILE) in xml
    process = ipi(tmp_path, xml.replace("model: ", "device: cpu, kernels: reference, model: "))
    try:
        said, _ = process.communicate(timeout=90.0)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said.decode()[-2000:]
    rows = np.loadtxt(tmp_path / "ipi.out")
    np.testing.assert_allclose(rows[1:, 4], found.properties["potential"], rtol=1e-5)


def pretended(talk: Callable[[socket.socket], None]) -> tuple[str, threading.Thread]:
    """A server that says what it likes."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        line, _ = server.accept()
        with server, line:
            talk(line)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return f"127.0.0.1:{server.getsockname()[1]}", thread


def died(line: socket.socket) -> None:
    line.sendall(b"STATUS      ")
    assert line.recv(12) == b"NEEDINIT    "


def silent(line: socket.socket) -> None:
    died(line)
    time.sleep(1.5)


def negative(line: socket.socket) -> None:
    line.sendall(b"INIT        " + np.int32(0).tobytes() + np.int32(-5).tobytes())
    time.sleep(0.2)


def babbling(line: socket.socket) -> None:
    line.sendall(b"HELLO       ")
    time.sleep(0.2)


@pytest.mark.parametrize(
    ("talk", "words"), [(died, "closed|lost"), (silent, "silent"), (babbling, "'HELLO'"), (negative, "-5")]
)
def test_a_lost_socket_is_one_error_in_time(talk, words):
    address, thread = pretended(talk)
    begun = time.monotonic()
    with pytest.raises(SimulationError, match=words):
        serve(address, Beads(Morse(), molecule("N2")), timeout=0.5, patience=2.0)
    assert time.monotonic() - begun < 10.0
    thread.join(5.0)


def test_nobody_at_the_address():
    beads = Beads(Morse(), molecule("N2"))
    with pytest.raises(SimulationError, match="start i-PI first"):
        serve("unix:nobody_is_here_for_heliodor", beads, patience=0.3)
    for address in ("nowhere", "host:0", "unix:", ":31415"):
        with pytest.raises(InputError, match="no address"):
            serve(address, beads)
