"""Equilibrated patches of lipids, against calculations by atom names with MDAnalysis and against experiment."""

from __future__ import annotations

import gzip
import shutil
import warnings
from dataclasses import replace

import ase
import numpy as np
import pytest

from heliodor.analysis.membranes.area import area_per_lipid, show_area
from heliodor.analysis.membranes.density import density_profile
from heliodor.analysis.membranes.experiment import OLEOYL, PALMITOYL
from heliodor.analysis.membranes.lipids import kinds_of, unlike_measured
from heliodor.analysis.membranes.order import order_parameters, show_order
from heliodor.topology import bonds_by_distance, topology_of
from heliodor.trajectory import Trajectory, open_trajectory
from support import shared


def unpacked(relative: str, folder) -> str:
    source = shared(relative)
    target = folder / source.name.removesuffix(".gz").replace(".xyz", ".extxyz")
    with gzip.open(source) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return str(target)


@pytest.fixture(scope="module")
def popc(tmp_path_factory) -> Trajectory:
    """OpenMM's POPC patch (CHARMM36): 128 lipids, 5120 waters."""
    return open_trajectory(unpacked("data/derived_systems/POPC_128_5120w.xyz.gz", tmp_path_factory.mktemp("popc")))


@pytest.fixture(scope="module")
def universe(tmp_path_factory):
    import MDAnalysis

    path = unpacked("data/structures/lipids/POPC_bilayer_openmm.pdb.gz", tmp_path_factory.mktemp("patch"))
    with warnings.catch_warnings():
        # the file leaves out what MDAnalysis would like to know
        warnings.simplefilter("ignore")
        return MDAnalysis.Universe(path)


def by_names(universe, carbon: str, hydrogens: list[str]) -> float:
    """S_CD with CHARMM's names, molecule by molecule; the patch's molecules are whole."""
    c = universe.select_atoms(f"resname POP and name {carbon}").positions
    h = [universe.select_atoms(f"resname POP and name {name}").positions for name in hydrogens]
    vectors = np.concatenate([some - c for some in h]).astype(np.float64)
    assert np.linalg.norm(vectors, axis=1).max() < 1.5
    cosine = vectors[:, 2] / np.linalg.norm(vectors, axis=1)
    return float((1.5 * cosine**2 - 0.5).mean())


def test_order_by_bonds_is_order_by_names(popc, universe):
    palmitoyl, oleoyl = order_parameters(popc)
    assert palmitoyl.popc
    assert (palmitoyl.tail, oleoyl.tail) == ("sn-1", "sn-2")
    assert palmitoyl.carbon.tolist() == list(range(2, 17))
    assert oleoyl.carbon.tolist() == list(range(2, 19))
    for n in range(2, 17):
        names = [f"H{n}{x}" for x in ("XYZ" if n == 16 else "XY")]
        assert palmitoyl.order[n - 2] == pytest.approx(by_names(universe, f"C3{n}", names), abs=2e-4)
    for n in range(2, 19):
        names = [f"H{n}{x}" for x in ("RST" if n == 18 else "RS")]
        if n in (9, 10):
            names = [f"H{n}1"]
        assert oleoyl.order[n - 2] == pytest.approx(by_names(universe, f"C2{n}", names), abs=2e-4)


def test_popc_patch_is_near_experiment(popc):
    """One frame of 128 lipids: not better than the error says, but of the right size everywhere."""
    for found, measured in zip(order_parameters(popc), (PALMITOYL, OLEOYL), strict=True):
        reference = np.array([np.mean(measured[n]) for n in found.carbon.tolist()])
        assert np.sqrt(np.square(found.order - reference).mean()) < 0.04
        assert ((found.error > 0.005) & (found.error < 0.05)).all()
    shown = show_order(popc)
    assert shown.panels[1].curves[1].reference
    assert len(shown.panels[1].curves[1].x) == 18
    area = area_per_lipid(popc)
    assert area.per_lipid[0] == pytest.approx(63.701 * 66.874 / 64.0)
    assert (area.upper[0], area.lower[0]) == (64, 64)
    assert show_area(popc).numbers[0].reference == 64.3


def test_popc_density_against_a_histogram_of_another_program(popc, universe):
    from MDAnalysis.analysis.lineardensity import LinearDensity

    found = density_profile(popc, width=0.5)
    assert (found.density["all"] * found.volume).sum() == pytest.approx(popc.topology.numbers.sum(), rel=1e-12)
    water = popc.topology.numbers[np.isin(popc.topology.residue_names, ["HOH"])]
    assert (found.density["water"] * found.volume).sum() == pytest.approx(water.sum())
    # water far from the bilayer is bulk: 0.334 e/Å³ at 1 g/cm³
    assert found.density["water"][np.abs(found.z) > 33.0].mean() == pytest.approx(0.334, abs=0.02)
    # phosphorus to phosphorus, leaflet by leaflet, without any histogram
    z = universe.select_atoms("name P").positions[:, 2]
    middle = universe.select_atoms("name C218 C316").positions[:, 2].mean()
    apart = z[z > middle].mean() - z[z < middle].mean()
    weights = found.density["phosphorus"] * found.volume
    mean = (weights * np.abs(found.z)).sum() / weights.sum()
    assert 2.0 * mean == pytest.approx(apart, abs=0.3)
    assert found.thickness == pytest.approx(36.5, abs=3.0)
    # mass density of phosphorus along z by MDAnalysis, in bins of its own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe.add_TopologyAttr("charges", np.zeros(len(universe.atoms)))
        theirs = LinearDensity(universe.select_atoms("name P"), binsize=0.5).run().results["z"]
    centres = 0.5 * (theirs.hist_bin_edges[1:] + theirs.hist_bin_edges[:-1])
    spread = np.sqrt(np.average(np.square(np.abs(centres - middle) - apart / 2.0), weights=theirs.mass_density))
    ours = np.sqrt(np.average(np.square(np.abs(found.z) - mean), weights=weights))
    assert ours == pytest.approx(spread, abs=0.2)


def test_tails_of_other_force_fields(tmp_path):
    """Amber splits a lipid into residues (PC and two OL) and has names of its own."""
    import MDAnalysis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        amber = MDAnalysis.Universe(unpacked("data/structures/lipids/DOPC_128.pdb.gz", tmp_path))
    lipids = amber.select_atoms("resname OL PC")
    atoms = ase.Atoms([name.lstrip("0123456789")[0] for name in lipids.names], lipids.positions)
    for key, values in (("atom_name", lipids.names), ("residue_name", lipids.resnames)):
        atoms.set_array(key, np.asarray(values, dtype=str))
    atoms.set_array("residue_number", np.asarray(lipids.resids, dtype=np.int64))
    atoms.set_cell(lipids.positions.max(0) - lipids.positions.min(0) + 3.0)
    atoms.pbc = True
    atoms.write(tmp_path / "dopc.extxyz", format="extxyz")
    # this patch was never relaxed: lipids overlap, so bonds are looked for within each
    bonds = []
    for first in range(0, len(atoms), 138):
        one = ase.Atoms(atoms.numbers[first : first + 138], atoms.positions[first : first + 138])
        bonds.append(bonds_by_distance(one) + first)
    opened = open_trajectory(tmp_path / "dopc.extxyz")
    run = replace(opened, topology=topology_of(atoms, np.concatenate(bonds)))
    (kind,) = kinds_of(run.topology)
    assert kind.name == "OL/PC"
    assert len(kind.molecules) == 128
    assert [(tail.name, tail.length, tail.double) for tail in kind.tails] == [("sn-1", 18, (9,)), ("sn-2", 18, (9,))]
    assert not kind.palmitoyl_oleoyl_choline
    order = order_parameters(run)
    # Amber calls a tail's carbons C12 to C118, the ester's C11
    for n in (2, 3, 8, 12, 17):
        c = amber.select_atoms(f"resname OL and name C1{n}").positions
        h = np.stack([amber.select_atoms(f"resname OL and name H{n}{x}").positions for x in "RS"])
        vectors = (h - c).reshape(-1, 3).astype(np.float64)
        cosine = vectors[:, 2] / np.linalg.norm(vectors, axis=1)
        both = 0.5 * (order[0].order[n - 2] + order[1].order[n - 2])
        assert both == pytest.approx((1.5 * cosine**2 - 0.5).mean(), abs=1e-4)


def test_only_pure_popc_near_300_kelvin_is_held_against_measurements(popc):
    warm, hot = (replace(popc, settings={"temperature_K": value}) for value in ("303", "330"))
    sulphide = popc.topology.numbers.copy()
    sulphide[np.flatnonzero(popc.topology.residue_names == "HOH")[0]] = 16
    names = popc.topology.residue_names.copy()
    names[popc.topology.molecules == popc.topology.molecules[sulphide == 16][0]] = "UNK"
    mixed = replace(popc, topology=replace(popc.topology, numbers=sulphide, residue_names=names))
    assert unlike_measured(popc) is None and unlike_measured(warm) is None
    for run, reason in ((hot, "330 K"), (mixed, "other molecules"), (replace(popc, partial=True), "part of the atoms")):
        assert reason in str(unlike_measured(run))
        area = show_area(run)
        assert area.numbers[0].reference is None and any("Not held against" in note for note in area.notes)
        assert not any(item.popc for item in order_parameters(run))
    assert show_area(warm).numbers[0].reference == 64.3
