"""Maps and groups of conformations: three known conformers are told apart."""

from __future__ import annotations

import warnings

import ase.io
import numpy as np
import pytest

from heliodor.analysis.conformations.clusters import clusters, show_clusters, silhouette
from heliodor.analysis.conformations.embedding import embed, principal, show_embedding, show_embeddings
from heliodor.errors import InputError, MissingExtraError

SEQUENCE = np.repeat([0, 1, 0, 2, 1, 0], 25)


@pytest.fixture
def conformers(butane, rng, scramble):
    """trans and the two gauche forms of butane, 150 frames: 75, 50 and 25 of them."""
    from heliodor.analysis.conformations.features import dihedral_angles
    from heliodor.topology import bonds_by_distance

    bonds = [b for b in bonds_by_distance(butane).tolist() if b[1] < 4]
    degree = np.bincount(np.ravel(bonds))
    b, c = np.flatnonzero(degree == 2)
    a, d = (next(int(np.sum(x)) - k for x in bonds if k in x and set(x) != {b, c}) for k in (b, c))
    forms = []
    for angle in (180.0, 65.0, -65.0):
        form = butane.copy()
        moved = [k for k in range(len(form)) if form.get_distance(k, c) < form.get_distance(k, b)]
        form.set_dihedral(a, b, c, d, angle, indices=moved)
        measured = dihedral_angles(form.positions[None], np.array([[a, b, c, d]]))
        assert np.cos(measured[0, 0]) == pytest.approx(np.cos(np.radians(angle)), abs=1e-6)
        forms.append(form.positions)
    positions = np.array(forms)[SEQUENCE]
    return scramble(positions + rng.normal(scale=0.03, size=positions.shape), rng)


def same_partition(found: np.ndarray, truth: np.ndarray) -> bool:
    return len(set(zip(found.tolist(), truth.tolist(), strict=True))) == len(set(truth.tolist()))


@pytest.mark.parametrize("options", [{}, {"cutoff": 0.3}, {"method": "affinity"}], ids=str)
def test_three_conformers(options, butane, conformers, record):
    run = record(butane, conformers)
    found = clusters(run, **options)
    assert same_partition(found.label, SEQUENCE)
    if "method" not in options:
        np.testing.assert_allclose(found.population, [75 / 150, 50 / 150, 25 / 150])
        assert SEQUENCE[found.representative].tolist() == [0, 1, 2]
        assert (found.error > 0.0).all()
        # noise of 0.03 Å in each direction of four atoms
        assert (found.radius < 0.1).all()


def test_silhouette_against_scikit_learn(rng):
    from sklearn.metrics import silhouette_score

    points = rng.normal(size=(60, 2)) + np.repeat([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], 20, axis=0)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    label = np.repeat([0, 1, 2], 20)
    label[7] = 1
    assert silhouette(distance, label) == pytest.approx(silhouette_score(distance, label, metric="precomputed"))


def test_one_conformer_is_one_group(butane, rng, record):
    run = record(butane, butane.positions + rng.normal(scale=0.05, size=(80, len(butane), 3)))
    found = clusters(run)
    assert found.population.tolist() == [1.0]
    assert found.error[0] > 0.0
    assert not any(number.comparable for number in show_clusters(run).numbers)
    assert np.isnan(found.silhouette)
    # something that only drifts is cut into pieces, which is said
    drift = butane.positions * (1.0 + 0.3 * np.linspace(0.0, 1.0, 80)[:, None, None])
    shown = show_clusters(record(butane, drift, name="drift"))
    assert shown.numbers[0].value > 1.0
    assert ("pieces of that" in " ".join(shown.notes)) == (float(shown.numbers[0].note.split()[-1]) < 0.5)


def test_representatives_are_written(butane, conformers, record, tmp_path):
    run = record(butane, conformers)
    shown = show_clusters(run, write=str(tmp_path / "groups.xyz"))
    assert shown.numbers[0].value == 3.0
    frames = ase.io.read(tmp_path / "groups.xyz", ":")
    first = show_clusters(run).tables["clusters"]["representative_frame"]
    assert [frame.info["frame"] for frame in frames] == first.tolist()
    np.testing.assert_allclose(frames[1].positions, conformers[first[1]], atol=1e-6)
    show_clusters(run, write=str(tmp_path / "groups.pdb"))
    assert len(ase.io.read(tmp_path / "groups.pdb", ":")) == 3
    with pytest.raises(InputError, match="written as"):
        show_clusters(run, write="groups.dcd")
    with pytest.raises(InputError, match="method must be one of"):
        clusters(run, method="kmeans")


def apart(places: np.ndarray, label: np.ndarray) -> float:
    """Smallest distance between points of different groups over the largest within one."""
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    same = label[:, None] == label[None]
    return distance[~same].min() / distance[same].max()


def test_principal_components_against_scikit_learn(rng):
    from sklearn.decomposition import PCA

    table = rng.normal(size=(50, 6)) * np.array([5.0, 3.0, 1.0, 1.0, 0.5, 0.1])
    pca = PCA(2).fit(table)
    flat, captured = principal(table)
    np.testing.assert_allclose(np.abs(flat), np.abs(pca.transform(table)), atol=1e-9)
    assert captured == pytest.approx(pca.explained_variance_ratio_.sum())


@pytest.mark.parametrize("kind", ["dihedrals", "coordinates"])
def test_conformers_lie_apart(kind, butane, conformers, record):
    # distances cannot tell the gauche forms, which are mirror images
    found = embed([record(butane, conformers)], kind=kind, method="pca")
    assert apart(found.places[0], SEQUENCE) > 1.0
    assert found.method == "PCA"


def test_several_trajectories_share_one_map(butane, conformers, record):
    boxed = butane.copy()
    boxed.set_cell([20.0, 20.0, 20.0])
    boxed.pbc = True
    runs = [record(butane, conformers[:75]), record(boxed, conformers[75:], name="other")]
    found = embed(runs, kind="dihedrals", method="pca")
    alone = embed([record(butane, conformers, name="all")], kind="dihedrals", method="pca")
    np.testing.assert_allclose(np.concatenate(found.places), alone.places[0], atol=1e-6)
    shown = show_embeddings(runs, ["a", "b"], features="dihedrals", method="pca", frames=60)
    assert [curve.name for curve in shown.panels[0].curves] == ["a", "b"]
    assert sum(len(curve.x) for curve in shown.panels[0].curves) <= 60
    assert set(shown.tables) == {"map_1", "map_2"}
    other = record(butane[:10], conformers[:, :10], name="less")
    with pytest.raises(InputError, match="conformations of one molecule"):
        embed([runs[0], other])


def test_umap(butane, conformers, record):
    pytest.importorskip("umap")
    run = record(butane, conformers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = show_embedding(run, features="dihedrals")
    places = np.column_stack([shown.tables["map"]["x"], shown.tables["map"]["y"]])
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    # nearest neighbours in the map are of the same conformer
    assert (SEQUENCE[distance.argmin(1)] == SEQUENCE).mean() == 1.0
    again = show_embedding(run, features="dihedrals")
    np.testing.assert_array_equal(again.tables["map"]["x"], shown.tables["map"]["x"])
    assert shown.panels[0].x.label == "UMAP 1"
    assert "seed 1" in " ".join(shown.notes)


def test_without_umap_principal_components(butane, conformers, record, monkeypatch):
    import sys

    import heliodor.analysis.conformations.embedding as module

    run = record(butane, conformers)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "umap", None)
    shown = show_embedding(run)
    assert "umap-learn is not installed" in " ".join(shown.notes)
    with pytest.raises(MissingExtraError, match=r"heliodor\[analysis\]"):
        show_embedding(run, method="umap")


def test_refused(butane, conformers, record):
    run = record(butane, conformers[:5])
    with pytest.raises(InputError, match="10 are the least"):
        embed([run])
    with pytest.raises(InputError, match="did you mean 'dihedrals'"):
        embed([record(butane, conformers)], kind="dihedral", method="pca")
    with pytest.raises(InputError, match="needs a trajectory"):
        embed([])
