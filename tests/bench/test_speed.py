"""Structures, counts of the physical floor against torch's own, the check before timing, growing sizes."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import heliodor
from heliodor.bench.speed import measure as measuring
from heliodor.bench.speed import run as running
from heliodor.bench.speed.floor import around, count, floor
from heliodor.bench.speed.measure import Task, Timing, deviation, exact_forces, measure
from heliodor.bench.speed.parts import Around, Part
from heliodor.bench.speed.rates import Rates, best_rates, best_seconds, measure_rates
from heliodor.bench.speed.systems import CELL, polyalanine, subject, tiling
from heliodor.bench.speed.tables import csv_text, floor_of, text
from heliodor.errors import InputError, ModelError
from heliodor.potentials.mace import MACE, MACEConfig
from heliodor.potentials.spookynet import SpookyNet, SpookyNetConfig
from heliodor.system import System
from heliodor.units import GRAM_PER_CM3

CPU = torch.device("cpu")
TIMING = Timing(
    "toy", "water", 192, "reference", "cpu", 1, "float32", "nvt", 0.5, 1e-6, 192, 100, 10.0, 0.1, 1, 5.0, 1.0, 100.0,
    38.0, 700.0, 2e6, 5e4,
)  # fmt: skip


def test_water_is_water():
    """1 g/cm³, whole molecules, bonds and angles of a liquid at 300 K."""
    box = subject("water", 1).atoms
    assert len(box) == CELL
    assert box.get_masses().sum() / box.get_volume() / GRAM_PER_CM3 == pytest.approx(1.0, abs=0.01)
    o, h1, h2 = box.positions.reshape(-1, 3, 3).transpose(1, 0, 2)
    lengths = np.linalg.norm(np.stack([h1 - o, h2 - o]), axis=-1)
    assert lengths.mean() == pytest.approx(0.97, abs=0.02)
    assert 0.01 < lengths.std() < 0.06
    cosine = ((h1 - o) * (h2 - o)).sum(-1) / lengths.prod(0)
    assert np.degrees(np.arccos(cosine)).mean() == pytest.approx(105.0, abs=3.0)
    large = subject("water", 1600)
    assert (len(large.atoms), large.repeat, large.tiles) == (1536, (2, 2, 2), 8)
    np.testing.assert_allclose(large.atoms.cell.lengths(), 2 * box.cell.lengths())


@pytest.mark.parametrize("atoms", [1, 192, 500, 12_000, 50_000, 200_000, 400_000])
def test_boxes_are_near_the_size_and_not_thin(atoms):
    repeat = tiling(atoms)
    assert max(repeat) <= 2 * min(repeat)
    assert abs(CELL * np.prod(repeat) - atoms) <= max(CELL, 0.04 * atoms)


@pytest.mark.parametrize("residues", [1, 2, 7, 15, 23, 60])
def test_helices_of_any_length(residues):
    """The bonds of Ac-(Ala)n-NHMe, no ring, no clash; an α helix's rise of 1.5 Å."""
    made = polyalanine(residues)
    n = residues
    assert made.symbols.formula.count() == {"C": 3 * n + 3, "H": 5 * n + 7, "N": n + 1, "O": n + 1}
    distances = made.get_all_distances()
    np.fill_diagonal(distances, 9.0)
    heavy = made.numbers > 1
    reach = np.where(heavy[:, None] & heavy[None, :], 1.7, 1.25)
    assert (distances < reach).sum() // 2 == len(made) - 1
    assert distances.min() > 0.95
    ca = made.positions[6 + 2 :: 10][:residues]
    if residues > 7:
        steps = np.linalg.norm(np.diff(ca, axis=0), axis=1)
        np.testing.assert_allclose(steps, 3.8, atol=0.05)
        assert np.linalg.norm(ca[-1] - ca[0]) / (residues - 1) == pytest.approx(1.5, abs=0.15)


def test_unknown_systems_and_sizes():
    with pytest.raises(InputError, match="no system called 'watr'; did you mean 'water'"):
        subject("watr", 10)
    with pytest.raises(InputError, match="at least 1, not 0"):
        subject("water", 0)
    with pytest.raises(InputError, match="ensemble must be one of"):
        Task("m", "water", 1, ensemble="nph")


def matmuls(model, system):
    """Operations of all matrix products of the plain model's forward pass, by torch."""
    neighbors = model.neighbors(system)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(system, neighbors)
    return counter.get_total_flops(), neighbors


def by_atom_and_pair(model, structures):
    """The same as so much for an atom and so much for a pair of edges: least squares over several structures."""
    rows, values = [], []
    for atoms in structures:
        system = System.from_atoms(atoms)
        total, neighbors = matmuls(model, system)
        rows.append([len(atoms), neighbors.within(system).n_edges])
        values.append(total)
    (atom, pair), residual, *_ = np.linalg.lstsq(np.array(rows, float), np.array(values, float), rcond=None)
    assert residual.size == 0 or residual[0] < (1e-3 * max(values)) ** 2
    return atom, pair


def two_structures():
    crowded = subject("water", 1).atoms
    loose = crowded.copy()
    loose.set_cell(1.3 * loose.cell, scale_atoms=True)
    return [crowded, loose, polyalanine(3)]


def part(parts, name):
    return next(p for p in parts if p.name == name)


@pytest.mark.parametrize("name", ["so3lr", "heliodor-s"])
def test_counts_of_so3lr_against_torch(name):
    """Of the plain model's matrix products, those of atoms and of angular filters are counted as they are; radial
    networks are splines in the floor. Not in the floor: products by constant 0/1 matrices that only sum or repeat, and
    the embeddings of a charge and a spin that are zero."""
    model = heliodor.load(name, device="cpu", dtype="float32", kernels="reference")
    model.uncertainty = None
    atom, pair = by_atom_and_pair(model, two_structures())
    parts = count(model, Around(2.0))
    c = model.config.network
    f, layers = c.n_features, c.n_layers
    embeddings = 4 * 2 * f * f
    assert part(parts, "maps of atoms").maps + part(parts, "readouts").maps == pytest.approx(
        atom - embeddings, rel=0.01
    )
    radial = layers * (2 * c.n_basis * 2 * f + 2 * 2 * f * f)
    assert part(parts, "angular filters").maps + radial == pytest.approx(pair, rel=0.03)


def test_gradients_of_so3lr_take_as_many_products_again():
    """`Part.operations` counts linear maps twice: torch's count of a step with forces is twice that of energies."""
    model = heliodor.load("so3lr", device="cpu", dtype="float32", kernels="reference")
    system = System.from_atoms(polyalanine(2))
    forward, neighbors = matmuls(model, system)
    with FlopCounterMode(display=False) as counter:
        heliodor.potential.evaluate_system(model, system, neighbors)
    assert counter.get_total_flops() == pytest.approx(2.0 * forward, rel=0.05)


def test_counts_of_spookynet_against_torch():
    """Linear maps of atoms. The plain model adds radial networks and sums over neighbours, which grow with edges, and
    embeds elements by a product where the floor has a table."""
    config = SpookyNetConfig(long_range_cutoff=12.0, cutoff=4.0)
    model = SpookyNet(config).eval().requires_grad_(False)
    parts = count(model, Around(0.0, 0.0))
    alone = [polyalanine(1)[[0]] for _ in range(1)]
    alone[0].numbers[:] = 10
    system = System.from_atoms(alone[0])
    total, _ = matmuls(model, system)
    f = config.n_features
    # one row of padding where there is no neighbour: its radial functions, dipole and quadrupole
    padding = config.n_modules * (2 * config.n_basis * 3 * f + 2 * 8 * f)
    embedding = 2 * 20 * f
    assert part(parts, "maps of atoms").maps == pytest.approx(total - padding - embedding, rel=0.02)


@pytest.mark.parametrize("degree", [0, 1])
def test_counts_of_mace_against_torch(degree):
    """Maps are folded in the floor and products sparse: it lies below the plain model's products, and above a tenth."""
    torch.manual_seed(0)
    config = MACEConfig(
        cutoff=4.0,
        elements=(1, 8),
        channels=32,
        degrees=(degree, 0),
        isolated_energies=(-13.0, -2043.0),
        average_neighbors=(10.0, 10.0),
    )
    model = MACE(config).float().eval().requires_grad_(False)
    system = System.from_atoms(subject("water", 1).atoms)
    total, neighbors = matmuls(model, system)
    parts = count(model, around(model, system, neighbors))
    maps, k = part(parts, "maps of atoms").maps, config.channels
    assert maps < total / system.n_atoms
    # mixing of 4 degrees by as many paths as end in each, in both layers, and what makes the second layer's input
    paths = [[1, 1, 1, 1], [1, 1, 1, 1] if degree == 0 else [2, 3, 3, 2]]
    by_hand = sum((2 * l3 + 1) * n * 2 * k * k for layer in paths for l3, n in enumerate(layer))
    by_hand += sum((2 * l1 + 1) * 2 * k * k for l1 in range(degree + 1))
    assert maps == by_hand
    assert sum(p.operations for p in parts) > 0.1 * total / system.n_atoms


def test_floor_is_the_larger_of_two_times():
    parts = [Part("a", maps=1e3, other=500.0, bytes=100.0), Part("b", bytes=900.0)]
    found = floor(parts, Rates(operations=1e9, bandwidth=1e9))
    assert (found.operations, found.bytes) == (2500.0, 1000.0)
    assert found.microseconds == found.arithmetic == pytest.approx(2.5)
    assert floor(parts, Rates(operations=1e10, bandwidth=1e9)).microseconds == pytest.approx(1.0)
    assert floor_of(TIMING, Rates(1e12, 1e9)) == pytest.approx(50.0)
    assert floor_of(replace(TIMING, operations=None), Rates(1e12, 1e9)) is None


def test_neighbours_are_those_of_the_density(so3lr):
    """Water has 0.1 atoms in an Å³, at 12 Å almost without structure: both counts follow from volumes."""
    system = System.from_atoms(subject("water", 1).atoms)
    near = around(so3lr, system, so3lr.neighbors(system, 1.0))
    density = CELL / float(system.volume)
    assert near.edges == pytest.approx(density * 4 / 3 * np.pi * 4.5**3, rel=0.1)
    assert near.pairs == pytest.approx(density * 4 / 3 * np.pi * 12.0**3, rel=0.02)


def test_rates_are_those_of_a_product_and_a_copy():
    found = measure_rates(CPU, seconds=0.05)
    x = torch.randn(512, 512)
    other = 2 * 512**3 / best_seconds(lambda: x @ x, CPU, 0.05)
    assert 0.2 < found.operations / other < 5.0
    assert 1e8 < found.bandwidth < 1e13


def test_rates_only_rise(tmp_path):
    path = tmp_path / "new" / "rates.json"
    assert best_rates(path, "a", Rates(2.0, 5.0)) == Rates(2.0, 5.0)
    assert best_rates(path, "a", Rates(3.0, 4.0)) == Rates(3.0, 5.0)
    assert best_rates(path, "b", Rates(1.0, 1.0)) == Rates(1.0, 1.0)
    path.write_text("[1")
    assert best_rates(path, "a", Rates(1.0, 1.0)) == Rates(1.0, 1.0)


def test_forces_of_a_large_box_are_those_of_its_cell(so3lr):
    """The check of large boxes: exact to rounding, and a wrong kernel does not pass it."""
    whole = subject("water", 384)
    assert whole.tiles == 2
    true = exact_forces(Task("so3lr", "water", 1, device="cpu"))
    assert deviation(so3lr, whole, true) < 1e-10
    other = heliodor.load("heliodor-s", device="cpu", dtype="float64")
    assert deviation(other, whole, true) > 1e-3


def test_a_timing_and_a_refusal(monkeypatch):
    task = Task("heliodor-mini", "molecule", 1, device="cpu", steps=7, warmup=1, kernels="reference")
    true = exact_forces(task)
    stages = []
    found = measure(task, true, stages.append)
    assert stages == ["loading", "checking forces", "preparing", "warming up", "timing"]
    assert (found.atoms, found.steps, found.kernel, found.checked_atoms) == (20, 7, "reference", 20)
    assert 0.0 < found.deviation < 1e-4
    assert found.us_per_atom == pytest.approx(1e3 * found.ms_per_step / 20)
    assert found.ns_per_day == pytest.approx(8.64e7 / found.ms_per_step * 0.5e-6)
    assert found.operations == pytest.approx(sum(Part(**p).operations for p in found.parts))
    assert found.edges == pytest.approx(2.0 * 97 / 20, rel=0.5)
    with pytest.raises(ModelError, match="deviate from the plain model in float64 by 2"):
        measure(task, 1.25 * true)
    with pytest.raises(InputError, match="has no box"):
        measure(replace(task, ensemble="npt"), true)


class Machine:
    """Answers in the place of processes."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def __call__(self, request, threads, patience, told=lambda stage: None):
        self.asked.append((request["do"], request["task"]["atoms"]))
        if request["do"] == "exact":
            np.save(request["exact"], np.zeros((1, 3)))
            return {"done": None}
        atoms = request["task"]["atoms"]
        answer = self.answers(atoms)
        return (
            answer if isinstance(answer, dict) else {"done": asdict(replace(TIMING, atoms=atoms, ms_per_step=answer))}
        )


def grow(machine, folder, monkeypatch, sizes=(192, 384, 768, 1536), **options):
    monkeypatch.setattr(running, "ask", machine)
    task = Task("heliodor-mini", "water", 1, device="cpu", steps=90, warmup=10)
    return list(running.grow(task, sizes, folder, **options))


def test_sizes_grow_until_time_is_over_and_go_on(tmp_path, monkeypatch):
    machine = Machine(lambda atoms: 0.5 * atoms)
    found = grow(machine, tmp_path, monkeypatch, limit=50.0)
    assert [o.timing is not None for o in found] == [True, True, True, False]
    # 100 steps of 0.768 s
    assert found[-1].why == "would take about 77 s for 100 steps, more than the limit of 50 s"
    assert machine.asked == [("exact", 192), ("time", 192), ("time", 384), ("time", 768)]
    # a line cut off by a kill is made again, the others are kept
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text()[:-40])
    again = Machine(lambda atoms: 0.5 * atoms)
    found = grow(again, tmp_path, monkeypatch, limit=100.0)
    assert [o.kept for o in found] == [True, True, False, False]
    assert again.asked == [("time", 768), ("time", 1536)]
    assert all(o.kept for o in grow(Machine(None), tmp_path, monkeypatch, limit=100.0))


def test_what_does_not_fit_is_said(tmp_path, monkeypatch):
    machine = Machine(lambda atoms: 1.0 if atoms < 700 else {"why": "does not fit: out of memory"})
    found = grow(machine, tmp_path, monkeypatch)
    assert [o.why for o in found] == [
        "",
        "",
        "does not fit: out of memory",
        "not tried: the smaller size of 768 atoms did not do",
    ]
    monkeypatch.setattr(running, "free_memory", lambda device: 100.0)
    found = grow(Machine(lambda atoms: 1.0), tmp_path / "other", monkeypatch)
    assert found[1].why == "would take about 0.2 GB, and 0.1 GB are free"


def test_a_process_that_dies_or_hangs(monkeypatch, tmp_path):
    """Real processes: one that is killed, one that takes too long, one that fails."""
    program = tmp_path / "python"
    monkeypatch.setattr(running.sys, "executable", str(program))
    for script, patience, words in (
        ('echo \'{"stage": "timing"}\'; kill -9 $$', 60.0, r"ended by signal 9 \(timing\): most likely out of memory"),
        ("exec sleep 60", 0.5, r"took longer than 0 s \(starting\)"),
        ("echo went wrong >&2; exit 3", 60.0, r"failed with exit status 3 \(starting\): went wrong"),
        ('echo \'{"refused": "no such model"}\'', 60.0, "no such model"),
    ):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        answer = running.ask({}, 1, patience)

        assert re.search(words, answer["why"]), answer


def test_tables():
    rates = Rates(1e12, 1e9)
    table = text([TIMING, replace(TIMING, atoms=1536, ms_per_step=80.0, operations=None)], rates)
    first, second = table.splitlines()[1:]
    assert first.split() == [
        *("water", "192", "reference", "10.0", "10", "%", "52.1", "50.0"),
        *("(96.0", "%)", "4.32", "100", "1", "1e-06"),
    ]
    assert " - " in second
    rows = csv_text([TIMING], rates).splitlines()
    values = dict(zip(rows[0].split(","), rows[1].split(","), strict=True))
    assert float(values["us_per_atom"]) == pytest.approx(1e4 / 192)
    assert float(values["ns_per_day"]) == pytest.approx(4.32)
    assert "parts" not in values
    assert json.loads(json.dumps(asdict(TIMING)))["atoms"] == 192
    assert measuring.AGREEING == 1e-3
