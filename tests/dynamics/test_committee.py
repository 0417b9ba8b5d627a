"""Committees: means and spreads against paper, members' own cutoffs, doubts in runs, and how committees are loaded."""

from __future__ import annotations

import csv
import json

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.stress import voigt_6_to_full_3x3_stress
from toys import LennardJones, Morse, Spring, argon_box, cluster, dimers

import heliodor
from heliodor.checkpoint import save_checkpoint
from heliodor.cli import main
from heliodor.dynamics.restraints.kinds import PositionRestraint
from heliodor.dynamics.restraints.restrained import Restrained
from heliodor.dynamics.watch.watchdog import WatchWarning
from heliodor.errors import CheckpointError, InputError, ModelError
from heliodor.hessian import hessian
from heliodor.potential import Terms, evaluate_system
from heliodor.potentials.committee import TERM, Committee, committee_spread, evaluate_members, expand, spread_of
from heliodor.potentials.mace import MACE, MACEConfig
from heliodor.spread import join_spreads, standard_deviation
from heliodor.system import System

KS = (4.0, 10.0, 13.0)


def springs(*ks: float) -> Committee:
    return Committee([Spring(k=k) for k in ks])


def small_mace(seed: int, cutoff: float = 3.0, elements: tuple[int, ...] = (1, 6, 8)) -> MACE:
    torch.manual_seed(seed)
    shape = {"channels": 4, "degrees": (1, 0), "edge_degree": 2, "correlation": 2, "radial_hidden": (8,)}
    energies = tuple(-500.0 * z for z in elements)
    return MACE(MACEConfig(cutoff, elements, isolated_energies=energies, average_neighbors=(6.0, 6.0), **shape)).eval()


def close(a, b, atol=1e-12):
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=0, atol=atol, check_dtype=False)


# numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [2, 3, 5])
def test_identical_members_are_one_and_have_no_spread(copies):
    box = argon_box(2, 4.2)
    one = heliodor.evaluate(LennardJones(), box)
    p = heliodor.evaluate(Committee([LennardJones() for _ in range(copies)]), box)
    for name in ("energy", "forces", "stress", "virial", "node_energy"):
        close(getattr(p, name), getattr(one, name), 1e-14)
    assert p.terms.keys() == one.terms.keys()
    assert not p.spread.energy.any() and not p.spread.forces.any() and not p.spread.stress.any()
    assert p.spread.energies.shape == (1, copies)


def test_means_and_spreads_of_springs_are_those_on_paper():
    """Energies, forces, stresses are proportional to k: so are their means to its mean, their spreads to its spread."""
    box = argon_box(2, 4.2)
    unit = heliodor.evaluate(Spring(k=1.0), box)
    p = heliodor.evaluate(springs(*KS), box)
    mean, deviation = np.mean(KS), np.std(KS, ddof=1)
    close(p.energy, mean * unit.energy, 1e-9)
    close(p.forces, mean * unit.forces, 1e-11)
    close(p.stress, mean * unit.stress, 1e-12)
    close(p.spread.energy, deviation * unit.energy.abs(), 1e-9)
    close(p.spread.forces, deviation * unit.forces.abs(), 1e-11)
    close(p.spread.stress, deviation * unit.stress.abs(), 1e-12)
    close(p.spread.force_norms, deviation * unit.forces.norm(dim=-1), 1e-11)
    close(p.spread.energies, unit.energy.unsqueeze(-1) * torch.tensor(KS).double(), 1e-9)


def test_spreads_scale_with_the_unit_and_not_with_its_square():
    """A committee in another unit of energy: everything changes by the same factor, standard deviations included."""
    atoms, factor = cluster(), 23.060548
    p, q = (heliodor.evaluate(springs(*(f * k for k in KS)), atoms) for f in (1.0, factor))
    close(q.spread.energy, factor * p.spread.energy, 1e-9)
    close(q.spread.forces, factor * p.spread.forces, 1e-9)


def test_a_deviation_keeps_its_digits_beside_large_numbers():
    offsets = torch.tensor([0.0, 1e-3, 3e-3], dtype=torch.float64)
    assert float(standard_deviation(1e5 + offsets)) == pytest.approx(float(offsets.std()), rel=1e-7)
    assert float(standard_deviation(torch.full((7,), -1.2345e5).double())) == 0.0


def test_mean_forces_are_the_gradient_of_the_mean_energy():
    atoms = molecule("CH3OH")
    committee = Committee([small_mace(0), small_mace(1, cutoff=2.5), small_mace(2)])
    forces = heliodor.evaluate(committee, atoms).forces.numpy()
    h = 1e-4
    for atom, axis in ((0, 0), (1, 2), (4, 1)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * h
            energies.append(float(heliodor.evaluate(committee, moved, forces=False).energy[0]))
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=1e-5)


def test_member_by_member_and_all_in_one_graph_are_the_same(so3lr):
    """`evaluate_system` goes member by member unless a graph is kept, as for the Hessian."""
    mini = heliodor.load("heliodor-mini", device="cpu", dtype="float64")
    system = System.from_atoms(molecule("CH3OH"))
    for members in ([so3lr, mini], [small_mace(0), small_mace(1)], [so3lr, small_mace(0)]):
        committee = Committee(members)
        apart, whole = (evaluate_system(committee, system, virial=True, create_graph=keep) for keep in (False, True))
        assert whole.spread is None and apart.spread is not None
        for name in ("energy", "forces", "virial", "node_energy", "charges", "hirshfeld_ratios", "dipole"):
            one, other = getattr(apart, name), getattr(whole, name)
            assert (one is None) == (other is None)
            if one is not None:
                close(one, other.detach(), 1e-9)
        assert apart.terms.keys() == whole.terms.keys() == apart.node_terms.keys()
        close(sum(apart.terms.values()), apart.energy, 1e-9)
    assert set(apart.terms) == {TERM}


def test_charges_and_dipoles_are_averaged_where_all_have_them(so3lr):
    mini = heliodor.load("heliodor-mini", device="cpu", dtype="float64")
    atoms = molecule("CH3OH")
    p = heliodor.evaluate(Committee([so3lr, mini]), atoms)
    parts = [heliodor.evaluate(model, atoms) for model in (so3lr, mini)]
    for name in ("charges", "dipole", "hirshfeld_ratios"):
        close(getattr(p, name), sum(getattr(part, name) for part in parts) / 2)
    mixed = Committee([so3lr, small_mace(0)])
    assert mixed.outputs == frozenset() and heliodor.evaluate(mixed, atoms).charges is None
    assert mixed.elements == (1, 6, 8)
    assert mixed.card["licence"] == so3lr.card["licence"]


@pytest.mark.parametrize("skin", [0.0, 0.7])
def test_each_member_sees_what_is_within_its_own_cutoff(skin, so3lr, crystal):
    """One list with the longest reach; what each member gets is what it would have found itself."""
    spring = Spring()
    spring.cutoff = 2.6  # where it does not vanish: one pair too many would tell
    members = [spring, small_mace(0, 2.2, (1, 6, 8, 9)), so3lr, small_mace(1, 5.0, (1, 6, 8, 9))]
    committee = Committee(members)
    system = System.from_atoms(crystal)
    assert committee.cutoff == 5.0 and committee.has_long_range and committee.long_range_cutoff == "auto"
    lists = committee.neighbors(system, skin=skin)
    for member, said in zip(members, evaluate_members(committee, system, lists, stress=True), strict=True):
        alone = evaluate_system(member, system, stress=True)
        close(said.energy, alone.energy, 1e-10)
        close(said.forces, alone.forces, 1e-10)
        close(said.stress, alone.stress, 1e-12)


def test_batches_have_the_spreads_of_their_structures():
    committee = springs(*KS)
    frames = [cluster(n, seed=n) for n in (3, 5, 4)]
    together = heliodor.evaluate(committee, frames, batch_atoms=6).spread
    single = join_spreads([heliodor.evaluate(committee, frame).spread for frame in frames])
    for name in ("energies", "energy", "forces"):
        close(getattr(together, name), getattr(single, name))
    assert together.stress is None
    assert heliodor.evaluate(committee, frames, forces=False).spread.forces is None


class Shifted(Spring):
    """A spring with a zero of its own, as another level of theory has."""

    def __init__(self, k: float, zero: float) -> None:
        super().__init__(k)
        self.zero = zero

    def forward(self, system, neighbors):
        pair = super().forward(system, neighbors).energies["pair"]
        return Terms({"pair": pair, "isolated_atoms": torch.full_like(pair, self.zero)})


def test_zeros_of_the_members_can_be_left_out():
    committee = Committee([Shifted(4.0, -100.0), Shifted(10.0, -250.0)])
    atoms = cluster()
    bare = committee_spread(springs(4.0, 10.0), atoms)
    whole, without = (committee_spread(committee, atoms, without=names) for names in ((), ["isolated_atoms"]))
    assert float(whole.energy[0]) > 500.0
    close(without.energy, bare.energy, 1e-9)
    close(without.forces, bare.forces)
    # differences of structures, member by member, have no zeros either
    pair = [cluster(seed=1), cluster(seed=2)]
    difference = torch.diff(committee_spread(committee, pair).energies, dim=0).std(dim=1)
    close(difference, torch.diff(committee_spread(springs(4.0, 10.0), pair).energies, dim=0).std(dim=1), 1e-9)
    with pytest.raises(InputError, match="called 'zero'; there are isolated_atoms, pair"):
        committee_spread(committee, atoms, without=["zero"])


def test_the_hessian_is_the_mean_of_the_members():
    atoms = cluster(4)
    expected = np.mean([hessian(Spring(k=k), atoms) for k in KS], axis=0)
    np.testing.assert_allclose(hessian(springs(*KS), atoms), expected, atol=1e-10)


def test_graphs_come_from_the_plain_members():
    committee = springs(1.0, 3.0)
    system = System.from_atoms(cluster(3))
    plain = evaluate_system(committee, system, create_graph=True)
    committee.members[1].use_kernel(lambda system, neighbors: None, "fused")
    assert evaluate_system(committee, system).spread is not None
    again = evaluate_system(committee, system, create_graph=True)
    assert again.forces.grad_fn is not None
    assert torch.equal(again.forces, plain.forces)
    assert committee.members[1].kernels == "fused"


# what is refused --------------------------------------------------------------------------------------------


def test_what_makes_no_committee_is_refused(so3lr, so3lr_at):
    with pytest.raises(InputError, match="at least two models, not 1"):
        Committee([Spring()])
    with pytest.raises(InputError, match="force_limit"):
        Committee([Spring(), Spring()], force_limit=0.0)
    with pytest.raises(ModelError, match="no element that all models"):
        Committee([small_mace(0), small_mace(0, elements=(7,))])
    with pytest.raises(ModelError, match="different long-range cutoffs"):
        Committee([so3lr, so3lr_at(9.0)])
    with pytest.raises(InputError, match="at least two predictions"):
        spread_of([heliodor.evaluate(Spring(), cluster())])
    mute = Spring()
    mute.has_energy = False
    with pytest.raises(ModelError, match="with and without energies"):
        Committee([mute, Spring()])


def test_members_refuse_and_advise():
    committee = Committee([small_mace(0), small_mace(1), Spring()])
    with pytest.raises(ModelError, match=r"atom 0 is N: committee of 3 .* knows only H C O"):
        heliodor.evaluate(committee, molecule("NH3"))
    with pytest.raises(ModelError, match="mace has no notion of charge"):
        heliodor.evaluate(committee, molecule("H2O"), charge=2)
    system = System.from_atoms(molecule("CH2_s3B1d"), spin=2)
    assert len(committee.advice(system)) == 1


# doubts and runs --------------------------------------------------------------------------------------------


def test_doubts_name_the_atoms_worst_first_for_each_structure():
    committee = Committee([Spring(k=9.0), Spring(k=11.0)], force_limit=0.5)
    apart = [2.1, 2.7, 2.9]
    system = System.from_atoms([dimers(1, d)[0] for d in apart])
    prediction = evaluate_system(committee, system)
    found = committee.doubts(system, prediction)
    assert [sorted(doubt.atoms) for doubt in found] == [[2, 3], [4, 5]]
    # sqrt(2) (d - 2) for k = 9 and 11
    assert "0.99 eV/Å apart" in found[0].text and "1.27 eV/Å apart" in found[1].text and "limit 0.5" in found[1].text
    three = System.from_atoms(ase.Atoms("C3", [[0, 0, 0], [2.6, 0, 0], [6.5, 0, 0]]))
    prediction = evaluate_system(committee, three)
    (doubt,) = committee.doubts(three, prediction)
    assert list(doubt.atoms) == prediction.spread.force_norms.argsort(descending=True).tolist()[: len(doubt.atoms)]
    assert committee.doubts(system, evaluate_system(committee, system, forces=False)) == []


def test_doubts_reach_a_run_and_its_restart_goes_on(tmp_path):
    committee = Committee([Morse(depth=0.4), Morse(depth=0.5), Morse(depth=0.45)], force_limit=1e-3)
    choices = {"ensemble": "nve", "temperature": 100, "log_every": 2.0, "on_bond_change": "ignore", "plot": None}
    choices |= {"seed": 1, "time": "20 fs", "progress": False}
    atoms = dimers(1, 2.3)[0]
    with pytest.warns(WatchWarning, match="the model doubts itself at N .*: forces of the 3 models are"):
        heliodor.simulate(atoms, committee, output=tmp_path / "a.h5", **choices)
    committee.force_limit = 1e3
    one = heliodor.simulate(atoms, committee, output=tmp_path / "b.h5", **choices)
    assert one.events == []
    part = heliodor.simulate(atoms, committee, output=tmp_path / "c.h5", **choices | {"time": "10 fs"})
    whole = heliodor.dynamics.restart(part.checkpoint, committee, extend="10 fs", progress=False)
    assert torch.equal(whole.state.system.positions, one.state.system.positions)
    assert abs(one.drift) < 10.0
    with pytest.raises(InputError, match="hand it over"):
        heliodor.dynamics.restart(part.checkpoint, extend="10 fs", progress=False)
    with pytest.raises(InputError, match="another model"):
        heliodor.dynamics.restart(part.checkpoint, Morse(depth=0.45), extend="10 fs", progress=False)


def test_restraints_around_a_committee_leave_its_doubts():
    system = System.from_atoms(dimers(1, 2.9)[0])
    committee = Committee([Spring(k=9.0), Spring(k=11.0)], force_limit=0.5)
    held = Restrained(committee, [PositionRestraint((0,), 5.0)], system)
    prediction = evaluate_system(held, system)
    assert prediction.spread is None
    assert held.doubts(system, prediction) == committee.doubts(system, evaluate_system(committee, system))


# loading ----------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Three models in files, and the folder they are in as the present one."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        save_checkpoint(small_mace(seed), f"runs/{seed}.safetensors", {"name": f"seed-{seed}"})
    return tmp_path


def test_lists_commas_and_patterns_are_committees(runs):
    options = {"device": "cpu", "dtype": "float64"}
    files = [f"runs/{seed}.safetensors" for seed in range(3)]
    atoms = molecule("CH3OH")
    expected = np.mean([heliodor.evaluate(heliodor.load(file, **options), atoms).forces for file in files], axis=0)
    for given in (files, ",".join(files), "runs/*.safetensors", ["runs/0.safetensors", runs / files[1], files[2]]):
        committee = heliodor.load(given, **options)
        assert isinstance(committee, heliodor.Committee) and not committee.training
        assert committee.name == "committee of 3 (seed-0, seed-1, seed-2)"
        np.testing.assert_allclose(heliodor.evaluate(committee, atoms).forces, expected, atol=1e-9)
        assert len(heliodor.load(committee.source, **options).members) == 3
    alone = heliodor.load("runs/1*", **options)
    assert isinstance(alone, MACE) and alone.source == "runs/1.safetensors"
    mixed = heliodor.load("runs/0.safetensors,heliodor-mini", device="cpu", long_range_cutoff=9.0)
    assert mixed.long_range_cutoff == mixed.members[1].long_range_cutoff == 9.0


def test_what_cannot_be_loaded_is_told(runs):
    with pytest.raises(CheckpointError, match=r"no model file matches 'runs/\*.model'"):
        heliodor.load("runs/*.model")
    with pytest.raises(CheckpointError, match=r"no such model file: runs/9\.safetensors"):
        heliodor.load("runs/0.safetensors,runs/9.safetensors")
    with pytest.raises(InputError, match=r"runs/0.safetensors is given twice"):
        heliodor.load("runs/0.safetensors,runs/*.safetensors")
    for missing in ("", "runs/0.safetensors,", []):
        with pytest.raises(InputError, match="a model is missing"):
            heliodor.load(missing)
    with pytest.raises(ModelError, match="long_range_cutoff does not apply"):
        heliodor.load("runs/*.safetensors", long_range_cutoff=9.0)


def test_a_file_with_a_comma_or_brackets_in_its_name_is_a_file(runs):
    for name in ("a,b.safetensors", "c[1].safetensors"):
        (runs / name).write_bytes((runs / "runs/0.safetensors").read_bytes())
        assert expand(name) == [name]
    assert heliodor.load(["a,b.safetensors", "c[1].safetensors"]).source is None


def test_a_run_of_files_restarts_by_itself(runs):
    choices = {"ensemble": "nvt", "temperature": 10, "on_bond_change": "ignore", "on_doubt": "ignore", "plot": None}
    committee = heliodor.load("runs/*.safetensors", device="cpu", dtype="float64")
    settings = {"timestep": 0.001, "steps": 3, "seed": 1}
    part = heliodor.simulate(molecule("CH3OH"), committee, output="run.h5", progress=False, **choices, **settings)
    run = heliodor.dynamics.restart(part.checkpoint, extend="0.002 fs", device="cpu", progress=False)
    assert run.steps == 5


# engines and commands ---------------------------------------------------------------------------------------


def test_the_calculator_has_spreads_in_its_units():
    box = argon_box(2, 4.2)
    committee = Committee([LennardJones(), LennardJones(epsilon=0.012), LennardJones(sigma=3.3)])
    box.calc = heliodor.Calculator(committee, skin=0.3)
    box.get_stress()
    p, results = heliodor.evaluate(committee, box), box.calc.results
    assert results["energy_std"] == pytest.approx(float(p.spread.energy[0]), abs=1e-12)
    np.testing.assert_allclose(results["forces_std"], p.spread.forces, atol=1e-12)
    np.testing.assert_allclose(voigt_6_to_full_3x3_stress(results["stress_std"]), p.spread.stress[0], atol=1e-14)
    # ten times the energies: ten times the spreads
    tenfold = Committee([LennardJones(0.104), LennardJones(epsilon=0.12), LennardJones(epsilon=0.104, sigma=3.3)])
    other = box.copy()
    other.calc = heliodor.Calculator(tenfold)
    other.get_forces()
    assert other.calc.results["energy_std"] == pytest.approx(10.0 * results["energy_std"], rel=1e-9)
    np.testing.assert_allclose(other.calc.results["forces_std"], 10.0 * results["forces_std"], atol=1e-11)
    assert "stress_std" not in other.calc.results
    other.calc = heliodor.Calculator(LennardJones())
    other.get_forces()
    assert "forces_std" not in other.calc.results


def test_the_calculator_loads_committees(runs):
    calculator = heliodor.Calculator(["runs/0.safetensors", "runs/1.safetensors"], device="cpu")
    assert len(calculator.potential.members) == 2


def test_eval_tells_the_spread(runs, capsys):
    frames = []
    for seed in range(3):
        atoms = molecule("CH3OH")
        atoms.rattle(0.02, seed=seed)
        atoms.arrays["ref_forces"] = np.zeros((len(atoms), 3))
        frames.append(atoms)
    ase.io.write("labelled.extxyz", frames)
    words = ["eval", "labelled.extxyz", "--model", "runs/*.safetensors", "--forces-key", "ref_forces", "--no-plots"]
    assert main([*words, "--device", "cpu", "--dtype", "float64"]) == 0
    spread = heliodor.evaluate(heliodor.load("runs/*", device="cpu", dtype="float64"), frames).spread
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("spread")]
    assert f"{float(spread.force_norms.mean()):.3g} eV/Å on average" in line and "3 models" in line
    with open("eval-committee-labelled/structures.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[2]["forces_std_max_eV_per_A"]) == pytest.approx(float(spread.force_norms[-6:].max()))
    assert float(rows[1]["energy_std_eV"]) == pytest.approx(float(spread.energy[1]))
    with open("eval-committee-labelled/errors.json") as file:
        told = json.load(file)["spread"]
    assert told["models"] == 3 and told["forces_max_eV_per_A"] == pytest.approx(float(spread.force_norms.max()))
    assert main(["eval", "labelled.extxyz", "--model", "nothing*.model", "--output", "other"]) != 0
    assert "no model file matches 'nothing*.model'" in capsys.readouterr().err
