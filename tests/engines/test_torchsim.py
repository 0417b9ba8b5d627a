"""TorchSim: its own validation, our numbers through its states, its integrators, its batching."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

if find_spec("torch_sim") is None:
    pytest.skip("TorchSim is not installed", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dynamics"))

from toys import LennardJones, Morse, argon_box, dimers

import heliodor
from heliodor.dynamics import init, nve_step
from heliodor.engines.torchsim import TorchSimModel
from heliodor.errors import InputError, ModelError
from heliodor.system import System

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch_sim as ts
    from torch_sim.autobatching import BinningAutoBatcher, InFlightAutoBatcher
    from torch_sim.models.interface import validate_model_outputs
    from torch_sim.quantities import calc_kinetic_energy

FLOAT = {"device": torch.device("cpu"), "dtype": torch.float64}
# 0.3's names are functions that return two functions, 0.6's are members of an enumeration
NVE = ts.Integrator.nve if hasattr(ts, "Integrator") else ts.nve
FIRE = ts.Optimizer.fire if hasattr(ts, "Optimizer") else ts.optimizers.fire


@pytest.fixture(scope="module")
def potential() -> heliodor.Potential:
    return heliodor.load("heliodor-s", device="cpu", dtype="float64", kernels="reference")


def molecules() -> list[ase.Atoms]:
    rng = np.random.default_rng(5)
    frames = [molecule(name) for name in ("CH3OH", "H2O", "CH3CONH2", "CH3SH", "H2O")]
    for frame in frames:
        frame.positions += rng.normal([3.0, -40.0, 8.0], 0.05, frame.positions.shape)
        frame.cell = [20.0, 20.0, 20.0]
    return frames


def crystals(crystal: ase.Atoms) -> list[ase.Atoms]:
    other = molecule("CH3OH")
    other.set_cell([[6.0, 0, 0], [0, 6.5, 0], [1.0, -2.0, 7.0]])
    other.pbc = True
    other.positions[1] += 2 * other.cell[0] - other.cell[2]
    return [crystal, other]


def test_its_own_validation() -> None:
    model = TorchSimModel(LennardJones(sigma=2.2, cutoff=5.0), compute_stress=False)
    validate_model_outputs(model, **FLOAT)
    assert model.compute_stress and model.compute_forces


def test_same_numbers_open(potential) -> None:
    frames = molecules()
    ours = heliodor.evaluate(potential, frames)
    found = TorchSimModel(potential)(ts.initialize_state(frames, **FLOAT))
    assert set(found) == {"energy", "forces"}
    torch.testing.assert_close(found["energy"], ours.energy, rtol=0, atol=1e-12)
    torch.testing.assert_close(found["forces"], ours.forces, rtol=0, atol=1e-12)


def test_same_numbers_periodic(potential, crystal: ase.Atoms) -> None:
    """Skewed cells, which TorchSim keeps transposed; the second call has the atoms wrapped."""
    frames = crystals(crystal)
    ours = heliodor.evaluate(potential, frames)
    model = TorchSimModel(potential)
    for wrapped in (False, True):
        for frame in frames if wrapped else ():
            frame.wrap()
        found = model(ts.initialize_state(frames, **FLOAT))
        torch.testing.assert_close(found["energy"], ours.energy, rtol=0, atol=1e-12)
        torch.testing.assert_close(found["forces"], ours.forces, rtol=0, atol=1e-12)
        torch.testing.assert_close(found["stress"], ours.stress, rtol=0, atol=1e-12)
    assert model.lists_built == 1, "wrapped atoms are the same atoms"


def test_dictionaries_other_names_and_dtypes(potential) -> None:
    frames = molecules()
    state = ts.initialize_state(frames, torch.device("cpu"), torch.float32)
    fields = {"positions": state.positions, "cell": state.cell, "atomic_numbers": state.atomic_numbers}
    model = TorchSimModel(potential, state_dtype=torch.float32)
    expected = model(state)
    assert expected["energy"].dtype == expected["forces"].dtype == torch.float32
    assert not expected["forces"].requires_grad
    pbc = torch.zeros(len(frames), 3, dtype=torch.bool)
    for name in ("system_idx", "graph_idx", "batch"):
        again = model({**fields, "pbc": pbc, name: state.system_idx})
        assert torch.equal(again["forces"], expected["forces"])
    model.compute_forces = False
    assert set(model(state)) == {"energy"}


def test_both_kinds_of_structure_in_a_batch(potential, crystal: ase.Atoms) -> None:
    """States of later versions have a periodicity for each structure."""
    frames = [crystal, molecules()[0]]
    frames[1].cell = [9.0, 9.0, 9.0]
    state = ts.initialize_state([crystal], **FLOAT)
    other = ts.initialize_state([frames[1]], **FLOAT)
    found = TorchSimModel(potential)(
        {
            "positions": torch.cat([state.positions, other.positions]),
            "cell": torch.cat([state.cell, other.cell]),
            "atomic_numbers": torch.cat([state.atomic_numbers, other.atomic_numbers]),
            "system_idx": torch.cat([state.system_idx, other.system_idx + 1]),
            "pbc": torch.tensor([[True] * 3, [False] * 3]),
        }
    )
    torch.testing.assert_close(found["stress"][0], heliodor.evaluate(potential, crystal).stress[0], rtol=0, atol=1e-12)
    assert found["stress"][1].isnan().all()
    torch.testing.assert_close(found["energy"][1:], heliodor.evaluate(potential, frames[1]).energy)


def test_charge_of_each_structure() -> None:
    potential = heliodor.load("so3lr", device="cpu", dtype="float64", kernels="reference")
    frames = [molecule("CH3O"), molecule("H2O"), molecule("NH3")]
    frames[2] += ase.Atoms("H", [[0, 0, 1.15]])
    for frame, charge in zip(frames, (-1, 0, 1), strict=True):
        frame.info["charge"] = charge
    ours = heliodor.evaluate(potential, frames)
    state = ts.initialize_state(frames, **FLOAT)
    if getattr(state, "charge", None) is None:
        # said by formula, it stays with its structure whatever a batch is made of
        model = TorchSimModel(potential, charge={"CH3O": -1.0, "H4N": 1.0})
        reordered = ts.concatenate_states([state[[2]], state[[0]], state[[1]]])
        torch.testing.assert_close(model(state)["energy"], ours.energy, rtol=0, atol=1e-12)
        torch.testing.assert_close(model(reordered)["energy"], ours.energy[[2, 0, 1]], rtol=0, atol=1e-12)
        with pytest.raises(InputError, match="structure 0: charge"):
            TorchSimModel(potential)(state)
    model = TorchSimModel(potential, spin=1, charge=0.0)
    radical = ts.initialize_state([frames[0]], **FLOAT)
    expected = heliodor.evaluate(potential, frames[0], charge=0.0, spin=1)
    torch.testing.assert_close(model(radical)["energy"], expected.energy, rtol=0, atol=1e-12)
    fields = {name: getattr(state, name) for name in ("positions", "cell", "atomic_numbers", "system_idx", "pbc")}
    model = TorchSimModel(potential)
    for built, charges in ((1, [-1.0, 0.0, 1.0]), (1, [-1.0, 0.0, 1.0]), (2, [1.0, 0.0, 1.0])):
        charged = model({**fields, "charge": torch.tensor(charges)})
        for frame, value in zip(frames, charges, strict=True):
            frame.info["charge"] = value
        expected = heliodor.evaluate(potential, frames)
        torch.testing.assert_close(charged["energy"], expected.energy, rtol=0, atol=1e-12)
        assert model.lists_built == built


def test_constant_energy_is_conserved_and_our_own() -> None:
    """TorchSim's time step of 5 fs is ours, and so are positions after 60 steps of two boxes at once."""
    boxes = [argon_box(2, 3.9), argon_box(3, 3.8, seed=4)]
    boxes[1].positions += [30.0, -7.0, 2.0]
    potential = LennardJones(cutoff=5.0)
    model = TorchSimModel(potential, skin=0.4)
    state = ts.initialize_state(boxes, **FLOAT)
    dt = torch.tensor(0.005 * ts.units.MetalUnits.time, dtype=torch.float64)
    kT = torch.tensor(80.0 * ts.units.MetalUnits.temperature, dtype=torch.float64)
    if hasattr(ts, "nve_init"):
        md, step = ts.nve_init(state, model, kT=kT), lambda md: ts.nve_step(md, model, dt=dt)
    else:
        start, step = ts.nve(model, dt=dt, kT=kT, seed=2)
        md = start(state)
    # TorchSim's velocities are in Å per its unit of time
    fs = 1e-3 * ts.units.MetalUnits.time
    own = init(System.from_atoms(boxes), potential, temperature=0.0, velocities=md.velocities * fs, virial=True)

    def total(velocities: torch.Tensor) -> torch.Tensor:
        return calc_kinetic_energy(masses=md.masses, velocities=velocities, system_idx=md.system_idx)

    first = md.energy + total(md.velocities)
    for _ in range(60):
        md = step(md)
        own = nve_step(own, potential, 5.0)
        assert (md.energy + total(md.velocities) - first).abs().max() < 1e-4
    # its constants are of 2014, ours of 2018
    torch.testing.assert_close(md.energy, own.energy, rtol=0, atol=1e-6)
    torch.testing.assert_close(total(md.velocities), total(own.velocities / fs), rtol=0, atol=1e-6)
    assert (md.positions - state.positions).abs().max() > 0.2
    moved = md.positions - own.system.positions
    for box, atoms in enumerate(boxes):
        images = moved[md.system_idx == box].numpy() @ np.linalg.inv(atoms.cell.array)
        np.testing.assert_allclose(images, np.rint(images), atol=1e-5)
    assert model.lists_built < 20


def test_integrate_with_autobatching() -> None:
    """Bins of different molecules, back in their order; each as it would have gone alone."""
    frames = [dimer for k, dimer in enumerate(dimers(7, 2.1)) for _ in [dimer.set_distance(0, 1, 2.0 + 0.02 * k)]]
    frames[3] += ase.Atoms("C", [[0, 2.2, 0]])
    for frame in frames:
        frame.cell = [9.0] * 3
    model = TorchSimModel(Morse(), skin=1.0)
    batcher = BinningAutoBatcher(model, memory_scales_with="n_atoms", max_memory_scaler=6)
    final = ts.integrate(
        frames, model, integrator=NVE, n_steps=20, timestep=0.001, temperature=1e-6, autobatcher=batcher
    )
    assert final.n_systems == 7 and final.n_atoms == 15
    for frame, one in zip(frames, final.to_atoms(), strict=True):
        assert one.get_chemical_formula() == frame.get_chemical_formula()
        own = init(System.from_atoms(frame), Morse(), temperature=0.0)
        for _ in range(20):
            own = nve_step(own, Morse(), 1.0)
        np.testing.assert_allclose(one.positions, own.system.positions.numpy(), atol=2e-4)


def test_optimize_swaps_structures(potential) -> None:
    frames = [molecules()[k] for k in (1, 3, 4)]
    model = TorchSimModel(potential)
    batcher = InFlightAutoBatcher(model, memory_scales_with="n_atoms", max_memory_scaler=7)
    relaxed = ts.optimize(
        frames,
        model,
        optimizer=FIRE,
        convergence_fn=ts.generate_force_convergence_fn(force_tol=0.05, include_cell_forces=False),
        autobatcher=batcher,
        max_steps=500,
    )
    after = heliodor.evaluate(potential, relaxed.to_atoms())
    assert float(after.forces.abs().max()) < 0.06
    assert bool((after.energy < heliodor.evaluate(potential, frames).energy).all())


class TestRefused:
    def test_element(self, potential) -> None:
        frames = [molecule("H2O"), ase.Atoms("CAr", [[0, 0, 0], [0, 0, 3.0]])]
        with pytest.raises(ModelError, match="atom 1 of structure 1 is Ar"):
            TorchSimModel(potential)(ts.initialize_state(frames, **FLOAT))

    def test_positions(self, potential) -> None:
        state = ts.initialize_state(molecules(), **FLOAT)
        state.positions[7, 1] = torch.nan
        with pytest.raises(InputError, match="position of atom 7 is not a finite number"):
            TorchSimModel(potential)(state)
        state.positions[7] = state.positions[6] + 0.01
        with pytest.raises(InputError, match="on one spot"):
            TorchSimModel(potential)(state)

    def test_absent(self) -> None:
        words = (
            "import sys; sys.modules['torch_sim'] = None\n"
            "from heliodor.errors import MissingExtraError\n"
            "try:\n    import heliodor.engines.torchsim\n"
            "except MissingExtraError as error:\n    print(error)"
        )
        done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=60, check=True)
        assert "heliodor[torchsim]" in done.stdout
