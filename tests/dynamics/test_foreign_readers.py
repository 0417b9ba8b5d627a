"""What other programs read in our trajectories: MDAnalysis, MDTraj and ASE as independent witnesses."""

import warnings

import ase.io
import ase.units
import MDAnalysis
import mdtraj
import numpy as np
import pytest
import torch
from ase.geometry import cell_to_cellpar
from toys import LennardJones, Spring, argon_box, cluster

from heliodor.dynamics import init, nve_step, open_writer, read_trajectory
from heliodor.dynamics.files.dcd import standard_orientation
from heliodor.dynamics.state import per_atom
from heliodor.errors import InputError
from heliodor.system import System
from heliodor.units import KJ_PER_MOL

EVERY = 3
TIMESTEP = 2.0


def moving(cell):
    """States each third step, of a box whose cell turns and shears as well, in a general orientation."""
    atoms = argon_box(2, 4.1)
    fractional = atoms.get_scaled_positions()
    atoms.set_cell(np.asarray(cell, dtype=float))
    atoms.set_scaled_positions(fractional)
    potential = LennardJones(cutoff=3.5)
    state = init(System.from_atoms(atoms), potential, temperature=200.0, seed=2)
    found = [state]
    for step in range(1, 4 * EVERY + 1):
        state = nve_step(state, potential, TIMESTEP)
        if step % EVERY == 0:
            strain = torch.tensor([[[0.01, 0.02, 0.0], [-0.01, 0.0, 0.03], [0.0, 0.01, -0.02]]]).double()
            state = state.replace(system=state.system.deform(strain))
            found.append(state)
    return found


CELLS = {
    "cubic": np.diag([8.2, 8.2, 8.2]),
    "triclinic": [[8.2, 0, 0], [1.9, 8.0, 0], [-1.2, 0.7, 8.4]],
    "turned": [[5.8, 5.8, 0.3], [-5.8, 5.7, 0.2], [1.0, -0.4, 8.3]],
}


def universe(path, n_atoms):
    with warnings.catch_warnings():
        # of MDAnalysis's own future, and of reading without masses
        warnings.simplefilter("ignore")
        # .h5 may be anything, so MDAnalysis wants to be told; .h5md it knows
        kind = "H5MD" if path.suffix == ".h5" else None
        return MDAnalysis.Universe.empty(n_atoms, trajectory=True).load_new(str(path), format=kind)


def distances(positions, cell):
    """All distances between atoms and their nearest images: what does not change when the box is turned."""
    fractional = positions @ np.linalg.inv(cell)
    d = fractional[:, None] - fractional[None]
    d = (d - np.round(d)) @ cell
    return np.sort(np.linalg.norm(d, axis=-1).ravel())


@pytest.mark.parametrize("name", CELLS)
def test_dcd_is_read_by_mdanalysis_and_mdtraj(tmp_path, name):
    path = tmp_path / "run.dcd"
    states = moving(CELLS[name])
    with open_writer(path) as writer:
        for state in states:
            writer.write(state)
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(8):
        topology.add_atom("Ar", mdtraj.element.argon, topology.add_residue("Ar", chain))
    witness = mdtraj.load_dcd(str(path), top=topology)
    other = universe(path, 8)
    assert witness.n_frames == other.trajectory.n_frames == len(states) == 5
    assert other.trajectory.dt == pytest.approx(EVERY * TIMESTEP * 1e-3, rel=1e-6)
    for k, state in enumerate(states):
        cell, positions = state.system.cell[0].numpy(), state.system.positions.numpy()
        expected = cell_to_cellpar(cell)
        np.testing.assert_allclose(10 * witness.unitcell_lengths[k], expected[:3], rtol=1e-6)
        np.testing.assert_allclose(witness.unitcell_angles[k], expected[3:], rtol=1e-5)
        frame = other.trajectory[k]
        np.testing.assert_allclose(frame.dimensions, expected, rtol=1e-5)
        assert frame.time == pytest.approx(state.time * 1e-3, abs=1e-7)
        np.testing.assert_allclose(10 * witness.xyz[k], frame.positions, atol=1e-5)
        # each with the box its reader builds from lengths and angles
        for found, box in (
            (10 * witness.xyz[k], 10 * witness.unitcell_vectors[k]),
            (frame.positions, frame.triclinic_dimensions),
        ):
            np.testing.assert_allclose(distances(found, box), distances(positions, cell), atol=2e-4)
        if name == "cubic" and k == 0:
            np.testing.assert_allclose(frame.positions, positions, atol=1e-6)


def test_turning_keeps_the_hand():
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(6, 3))
    for pbc in ([1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 0, 1]):
        cell = rng.normal(size=(3, 3)) * np.array(pbc)[:, None]
        if all(pbc) and np.linalg.det(cell) < 0:
            cell = cell[[1, 0, 2]]
        new, turned = standard_orientation(cell, positions)
        assert new[0, 1] == new[0, 2] == new[1, 2] == 0.0
        np.testing.assert_allclose(new @ new.T, cell @ cell.T, atol=1e-12)
        np.testing.assert_allclose(positions @ cell.T, turned @ new.T, atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(turned[:3]), np.linalg.det(positions[:3]), atol=1e-12)
    lower = np.tril(np.abs(cell)) + np.eye(3)
    new, same = standard_orientation(lower, positions)
    assert new is lower
    assert same is positions


def test_a_dcd_file_can_be_read_while_it_grows_and_without_a_box(tmp_path):
    path = tmp_path / "run.dcd"
    state = init(System.from_atoms(cluster(5)), Spring(), temperature=100.0)
    with open_writer(path) as writer:
        for n in range(1, 4):
            state = state.replace(step=state.step + 10, time=state.time + 5.0)
            writer.write(state)
            reader = universe(path, 5).trajectory
            assert reader.n_frames == n
            assert reader.ts.dimensions is None
    assert reader[2].time == pytest.approx(0.015, rel=1e-5)


def test_dcd_says_what_it_cannot_do(tmp_path):
    several = init(System.from_atoms([cluster(3), cluster(4)]), Spring(), temperature=10.0)
    with pytest.raises(InputError, match=r"one structure, not 2.*\.h5"):
        open_writer(tmp_path / "run.dcd").write(several)
    with pytest.raises(InputError, match=r"single precision only.*\.h5"):
        open_writer(tmp_path / "run.dcd", precision="double")
    (tmp_path / "some.dcd").touch()
    with pytest.raises(InputError, match=r"no elements: .*MDTraj or MDAnalysis, or write \.h5"):
        read_trajectory(tmp_path / "some.dcd")
    with pytest.raises(InputError, match="'single' or 'double', not 'half'"):
        open_writer(tmp_path / "run.h5", precision="half")


@pytest.mark.parametrize("name", CELLS)
def test_mdanalysis_reads_h5md(tmp_path, name):
    path = tmp_path / "run.h5md"
    states = moving(CELLS[name])
    with open_writer(path, forces=True, precision="double") as writer:
        for state in states:
            writer.write(state)
    # without a topology too: MDAnalysis finds the number of atoms in particles/trajectory
    assert MDAnalysis.coordinates.H5MD.H5MDReader.parse_n_atoms(str(path)) == 8
    reader = universe(path, 8).trajectory
    assert reader.n_frames == len(states)
    for state, frame in zip(states, reader, strict=True):
        np.testing.assert_allclose(frame.positions, state.system.positions, atol=1e-5)
        # Å/ps and kJ/mol/Å are what MDAnalysis works in
        np.testing.assert_allclose(frame.velocities, 1e3 * state.velocities, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(frame.forces, state.forces / KJ_PER_MOL, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(frame.dimensions, cell_to_cellpar(state.system.cell[0].numpy()), rtol=1e-5)
        assert frame.time == pytest.approx(state.time * 1e-3)
        assert frame.data["step"] == state.step
        assert frame.data["potential_energy"] == pytest.approx(float(state.energy[0]))


def test_mdanalysis_and_ase_read_extended_xyz(tmp_path):
    path = tmp_path / "run.xyz"
    states = moving(CELLS["turned"])
    with open_writer(path, forces=True, precision="double") as writer:
        for state in states:
            writer.write(state)
    frames = ase.io.read(path, ":")
    reader = universe(path, 8).trajectory
    assert len(frames) == reader.n_frames == len(states)
    for state, frame, other in zip(states, frames, reader, strict=True):
        np.testing.assert_allclose(frame.positions, state.system.positions, rtol=1e-14)
        np.testing.assert_allclose(frame.get_forces(), state.forces, rtol=1e-14)
        np.testing.assert_allclose(frame.arrays["velocities"], state.velocities, rtol=1e-14)
        np.testing.assert_allclose(frame.cell.array, state.system.cell[0], rtol=1e-14)
        assert frame.get_potential_energy() == pytest.approx(float(state.energy[0]), rel=1e-14)
        np.testing.assert_allclose(other.positions, state.system.positions, atol=1e-5)


@pytest.mark.parametrize("suffix", [".h5", ".xyz", ".dcd"])
def test_a_selection_is_what_is_written(tmp_path, suffix):
    path = tmp_path / f"run{suffix}"
    states = moving(CELLS["cubic"])
    chosen = torch.tensor([1, 4, 5])
    with open_writer(path, atoms=chosen, forces=True) as writer:
        for state in states:
            writer.write(state)
    found = universe(path, 3).trajectory
    for state, frame in zip(states, found, strict=True):
        expected = state.system.positions[chosen].numpy()
        if suffix == ".dcd":
            _, expected = standard_orientation(state.system.cell[0].numpy(), expected)
        np.testing.assert_allclose(frame.positions, expected, atol=1e-5)
    if suffix == ".dcd":
        return
    frame = read_trajectory(path)[-1]
    assert frame.arrays["id"].tolist() == [1, 4, 5]
    np.testing.assert_allclose(frame.get_velocities() * ase.units.fs, states[-1].velocities[chosen], atol=1e-7)
    np.testing.assert_allclose(frame.get_forces(), states[-1].forces[chosen], atol=1e-6)
    assert not {"charge", "spin", "energy"} & (frame.info.keys() | frame.calc.results.keys())


@pytest.mark.parametrize("suffix", [".h5", ".xyz"])
def test_a_selection_holds_for_each_of_several_structures(tmp_path, suffix):
    path = tmp_path / f"run{suffix}"
    state = init(System.from_atoms([cluster(4, seed=k) for k in range(3)]), Spring(), temperature=100.0)
    chosen = torch.tensor([0, 3])
    with open_writer(path, atoms=chosen, precision="double") as writer:
        writer.write(state)
    for b in range(3):
        (frame,) = read_trajectory(path, structure=b)
        mine = per_atom(torch.arange(3), state.system) == b
        np.testing.assert_allclose(frame.positions, state.system.positions[mine][chosen], atol=1e-12)
        assert frame.arrays["id"].tolist() == [0, 3]
    with pytest.raises(InputError, match="indices from 0 to 3"):
        open_writer(tmp_path / f"other{suffix}", atoms=torch.tensor([4])).write(state)
