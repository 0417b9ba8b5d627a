"""A base and its corrections as one potential: sums, derivatives, lists, kernels, checkpoints, refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.checkpoint import read_header, save_checkpoint, sha256
from heliodor.cli import main
from heliodor.errors import CheckpointError, InputError, ModelError
from heliodor.kernels import choose_kernels
from heliodor.potential import ModelWarning, Potential, evaluate_system
from heliodor.potentials.mace import MACE, MACEConfig
from heliodor.potentials.mace_dielectric import MACEDielectric
from heliodor.potentials.sum import Sum
from heliodor.system import System
from uncertain import fresh, mini

sys.path.insert(0, str(Path(__file__).parent / "dynamics"))

from toys import Morse

ELEMENTS = (1, 6, 8, 9)


def correction(cutoff: float = 3.0, seed: int = 1, elements: tuple[int, ...] = ELEMENTS) -> MACE:
    """Small, and of another cutoff than the base's; parameters that float32 cannot hold."""
    config = MACEConfig(
        cutoff=cutoff,
        elements=elements,
        channels=4,
        degrees=(0, 0),
        correlation=2,
        isolated_energies=(0.0,) * len(elements),
        average_neighbors=(4.0, 4.0),
        radial_hidden=(8,),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MACE(config).double()
    model.name = f"correction {seed}"
    return model.eval().requires_grad_(False)


def base(name: str = "heliodor-mini") -> Potential:
    return heliodor.load(name, device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def total() -> Sum:
    return Sum(base(), [correction(3.0, 1), correction(7.5, 2)]).eval()


def methanol() -> ase.Atoms:
    atoms = molecule("CH3OH")
    atoms.positions += np.random.default_rng(3).normal(0.0, 0.05, atoms.positions.shape)
    return atoms


@pytest.mark.parametrize("periodic", [False, True])
def test_everything_is_the_sum(total, crystal, periodic):
    frames = crystal if periodic else [methanol(), molecule("H2O"), molecule("HF")]
    whole = heliodor.evaluate(total, frames)
    parts = [heliodor.evaluate(member, frames) for member in total.members]
    for name in ("energy", "forces", "node_energy", *(["stress", "virial"] if periodic else [])):
        torch.testing.assert_close(getattr(whole, name), sum(getattr(p, name) for p in parts), rtol=0, atol=1e-12)
        assert float(getattr(parts[1], name).abs().max()) > 1e-5, "a correction that does nothing tests nothing"
        assert float(getattr(parts[2], name).abs().max()) > 1e-5
    for name in ("charges", "hirshfeld_ratios", "dipole"):
        torch.testing.assert_close(getattr(whole, name), getattr(parts[0], name), rtol=0, atol=1e-12)
    assert [*whole.terms] == [*parts[0].terms, "correction 1", "correction 2"]
    torch.testing.assert_close(sum(whole.terms.values()), whole.energy, rtol=0, atol=1e-12)
    torch.testing.assert_close(sum(whole.node_terms.values()), whole.node_energy, rtol=0, atol=1e-12)


def test_forces_and_virial_are_derivatives(total, crystal):
    def energy(atoms: ase.Atoms) -> float:
        return float(heliodor.evaluate(total, atoms, forces=False).energy[0])

    found, h = heliodor.evaluate(total, crystal), 1e-4
    for atom, axis in ((0, 0), (3, 2), (7, 1)):
        moved = []
        for sign in (1, -1):
            other = crystal.copy()
            other.positions[atom, axis] += sign * h
            moved.append(energy(other))
        assert float(found.forces[atom, axis]) == pytest.approx(-(moved[0] - moved[1]) / (2 * h), abs=2e-6)
    strained = []
    for sign in (1, -1):
        other = crystal.copy()
        other.set_cell(crystal.cell.array @ (np.eye(3) + sign * h * np.eye(3)[0][:, None] * np.eye(3)[0]), True)
        strained.append(energy(other))
    assert float(found.virial[0, 0, 0]) == pytest.approx(-(strained[0] - strained[1]) / (2 * h), abs=2e-5)


def test_one_graph_and_member_by_member_agree(total, crystal):
    system = System.from_atoms([crystal])
    # a long skin: what a member has to leave out by its own cutoff
    lists = total.neighbors(system, skin=1.0)
    apart = evaluate_system(total, system, lists, stress=True)
    together = evaluate_system(total, system, lists, stress=True, create_graph=True)
    for name in ("energy", "forces", "stress"):
        torch.testing.assert_close(getattr(apart, name), getattr(together, name), rtol=0, atol=1e-11)
    assert together.forces.requires_grad


def test_as_part_of_another_potential(total):
    from heliodor.dynamics.restraints.restrained import Restrained, read_restraints

    atoms = methanol()
    system = System.from_atoms([atoms])
    spring = [{"kind": "distance", "atoms": [0, 1], "k": 2.0, "value": atoms.get_distance(0, 1)}]
    held = evaluate_system(Restrained(total, read_restraints(spring), system), system)
    torch.testing.assert_close(held.forces, evaluate_system(total, system).forces, rtol=0, atol=1e-10)


def test_checkpoint_to_the_last_bit(tmp_path):
    model = Sum(base(), [correction()]).eval()
    path, again = tmp_path / "corrected.safetensors", tmp_path / "again.safetensors"
    save_checkpoint(model, path, {"name": "corrected", "licence": "MIT"})
    one = heliodor.evaluate(model, methanol())
    loaded = heliodor.load(path, device="cpu", dtype="float64")
    assert isinstance(loaded, Sum) and loaded.name == "corrected"
    two = heliodor.evaluate(loaded, methanol())
    assert torch.equal(one.forces, two.forces) and torch.equal(one.energy, two.energy)
    assert loaded.base.card["licence"] == model.base.card["licence"]
    save_checkpoint(loaded, again, {"name": "corrected", "licence": "MIT"})
    assert sha256(again) == sha256(path)
    header = read_header(path)
    assert header["architecture"] == "sum"
    assert [m["architecture"] for m in header["config"]["members"]] == ["so3lr", "mace"]
    # in single precision what its members are in single precision
    single = heliodor.load(path, device="cpu", kernels="reference")
    plain = heliodor.load("heliodor-mini", device="cpu", kernels="reference")
    parts = heliodor.evaluate(plain, methanol()).forces + heliodor.evaluate(single.members[1], methanol()).forces
    assert single.dtype == torch.float32 and torch.equal(heliodor.evaluate(single, methanol()).forces, parts)
    double = heliodor.evaluate(single.double(), methanol())
    assert double.charges.dtype == torch.float64
    torch.testing.assert_close(double.forces, one.forces, rtol=0, atol=1e-4)


def test_errors_of_forces_are_the_bases(tmp_path):
    model = Sum(mini(), [correction(elements=(1, 6, 7, 8)).float()])
    path = tmp_path / "told.safetensors"
    save_checkpoint(model, path)
    atoms = molecule("CH3CONH2")
    expected = heliodor.evaluate(mini(), atoms).force_error
    loaded = heliodor.load(path, device="cpu", kernels="reference")
    with pytest.warns(ModelWarning, match="how far off the correction may be is not known"):
        prediction = heliodor.evaluate(loaded, atoms)
    assert torch.equal(prediction.force_error, expected)
    worst = loaded.doubts(System.from_atoms([atoms]), prediction, limit=0.5 * float(expected.max()))
    assert worst and int(expected.argmax()) == worst[0].atoms[0]
    stale = fresh()
    for parameter in stale.parameters():
        parameter.data *= 1.01
    with pytest.raises(CheckpointError, match="belongs to other weights"):
        save_checkpoint(Sum(stale, [correction(elements=(1, 6, 7, 8)).float()]), path)


class Doubling:
    """Stands for a compiled kernel: what plain PyTorch says, twice, so that its use is seen."""

    def __init__(self, model: Potential) -> None:
        self.model = model

    def __call__(self, system, neighbors):
        raise AssertionError("not called")

    def derive(self, system, neighbors, *, gradient, strain):
        from heliodor.kernels.derived import Derived

        kernel, self.model.kernel = self.model.kernel, None
        found = evaluate_system(self.model, system, neighbors, virial=True)
        terms = self.model(system, neighbors)
        self.model.kernel = kernel
        from dataclasses import replace

        terms = replace(terms, energies={k: 2.0 * v.detach() for k, v in terms.energies.items()})
        return Derived(terms, -2.0 * found.forces, -2.0 * found.virial)


def test_members_run_their_own_kernels():
    model = Sum(base(), [correction()])
    plain = [heliodor.evaluate(m, methanol()).forces for m in model.members]
    model.base.use_kernel(Doubling(model.base), "doubling")
    assert model.kernels == "doubling"
    found = heliodor.evaluate(model, methanol())
    torch.testing.assert_close(found.forces, 2.0 * plain[0] + plain[1], rtol=0, atol=1e-10)
    system = System.from_atoms([methanol()])
    slow = evaluate_system(model, system, create_graph=True)
    torch.testing.assert_close(slow.forces.detach(), plain[0] + plain[1], rtol=0, atol=1e-10)
    assert model.kernels == "doubling", "put back where it was"
    model.float()
    assert model.kernels == "reference" and model.base.kernel is None
    assert choose_kernels(model, model.device, "reference") == "reference"
    with pytest.raises(ModelError, match="no kernel called 'warp'"):
        choose_kernels(model, model.device, "warp")
    with pytest.raises(ModelError, match="is for one of its members"):
        model.use_kernel(object(), "numba")


def test_long_range_is_set_for_those_that_have_it(total, tmp_path, crystal):
    assert total.has_long_range and total.long_range_cutoff == "auto"
    path = tmp_path / "sum.safetensors"
    save_checkpoint(total, path)
    short = heliodor.load(path, device="cpu", dtype="float64", long_range_cutoff=9.0)
    own = heliodor.load("heliodor-mini", device="cpu", dtype="float64", long_range_cutoff=9.0)
    assert short.long_range_cutoff == 9.0
    expected = heliodor.evaluate(own, crystal).energy
    for part in total.members[1:]:
        expected = expected + heliodor.evaluate(part, crystal).energy
    torch.testing.assert_close(heliodor.evaluate(short, crystal).energy, expected, rtol=0, atol=1e-10)
    assert abs(float(expected - heliodor.evaluate(total, crystal).energy)) > 1e-6


def test_what_the_charges_of_the_base_cost_at_a_cutoff(crystal):
    """Wolf's self term of a crystal: the base's, for the charges are."""
    from heliodor.crystal.cutoff import own_shares

    model = Sum(base(), [correction()])
    system = System.from_atoms([crystal])
    expected = own_shares(model.base, system, evaluate_system(model.base, system), 9.0)
    assert expected is not None and abs(float(expected)) > 1e-3
    assert torch.equal(own_shares(model, system, evaluate_system(model, system), 9.0), expected)


def test_kernels_of_all_members_are_compiled(monkeypatch, tmp_path):
    """Whoever waits for the correction's is told as well."""
    from heliodor.kernels import will_compile

    model = Sum(base(), [correction()])
    assert not will_compile(model)
    monkeypatch.setattr("heliodor.kernels.cpu.mace.loops.convolve", Uncompiled(tmp_path))
    model.members[1].use_kernel(Doubling(model.members[1]), "numba")
    assert will_compile(model)


class Uncompiled:
    """Stands for a function of Numba without a cache."""

    def __init__(self, folder: Path) -> None:
        self.stats = SimpleNamespace(cache_path=folder)
        self.py_func = Uncompiled


def test_refusals(total, tmp_path):
    with pytest.raises(InputError, match="at least one correction"):
        Sum(base(), [])
    with pytest.raises(ModelError, match="no element that both"):
        Sum(base(), [correction(elements=(18,))])
    with pytest.raises(InputError, match="of one dtype"):
        Sum(base(), [correction().float()])
    with pytest.raises(ModelError, match=r"atom 0 \(C\) is C.*knows only H O|is C: .* knows only H O"):
        heliodor.evaluate(Sum(base(), [correction(elements=(1, 8))]), methanol())
    with pytest.raises(CheckpointError, match="no checkpoint format for Morse"):
        save_checkpoint(Sum(Morse(), [correction()]), tmp_path / "no.safetensors")
    other = base()
    other.long_range_cutoff = 8.0
    with pytest.raises(ModelError, match="different long-range cutoffs"):
        Sum(base(), [other])
    silent = correction()
    silent.has_energy = False
    with pytest.raises(ModelError, match="has no energies"):
        Sum(base(), [silent])
    assert issubclass(MACEDielectric, Potential)


def test_ions_are_the_bases_matter(total):
    hydroxide = ase.Atoms("OH", [[0, 0, 0], [0.97, 0, 0]], info={"charge": -1})
    assert np.isfinite(float(heliodor.evaluate(total, hydroxide).energy[0]))
    with pytest.raises(InputError, match="unpaired"):
        heliodor.evaluate(total, ase.Atoms("OH", [[0, 0, 0], [0.97, 0, 0]]))


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "sum.safetensors"
    save_checkpoint(Sum(base(), [correction()]), path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'\\"architecture\\": \\"mace\\"', b'\\"architecture\\": \\"none\\"'))
    with pytest.raises(CheckpointError, match=r"is damaged or does not fit its own description.*'none'"):
        heliodor.load(path)
    path.write_bytes(content[:-8] + bytes(8))
    with pytest.raises(CheckpointError, match="do not match their own SHA-256"):
        heliodor.load(path)


def test_dynamics_by_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Sum(base(), [correction()]), tmp_path / "corrected.safetensors", {"name": "corrected"})
    molecule("H2O").write(tmp_path / "water.xyz")
    command = "md water.xyz -m corrected.safetensors --steps 40 --ensemble nve --temperature 200 --seed 1 --json"
    assert main([*command.split(), "--kernels", "reference", "--dtype", "float64", "--timestep", "0.2"]) == 0
    json.loads(capsys.readouterr().out)
    lines = (tmp_path / "water.csv").read_text().splitlines() if (tmp_path / "water.csv").exists() else []
    assert len(lines) > 1 or list(tmp_path.glob("*.h5"))
