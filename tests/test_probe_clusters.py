import numpy as np
import pytest

from probe.clusters import propose_clusters
from probe.index import CosineIndex
from probe.projection import project
from probe.transforms import l2_normalize


def blobs(count, groups=3, spread=0.05, seed=0):
    """Crops around orthogonal directions; returns unit vectors and the group of
    each.
    """
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, count)
    return l2_normalize(np.eye(8)[group] + rng.normal(0, spread, (count, 8))), group


def test_clusters_are_the_groups_that_there_are():
    unit, group = blobs(300)
    rows = np.arange(300) + 1000
    clusters = propose_clusters(unit, rows, 3)
    assert sorted(len(cluster.rows) for cluster in clusters) == sorted(
        np.bincount(group).tolist()
    )
    for cluster in clusters:
        members = cluster.rows - 1000
        assert len(set(group[members])) == 1
        centre = unit[members].mean(axis=0)
        assert (
            cluster.rows[0] - 1000 == members[np.argmax(unit[members] @ centre)]
        )  # the medoid by its own centre
        assert cluster.tightness == pytest.approx(
            float((unit[members] @ l2_normalize(centre)).mean()), abs=1e-6
        )
    again = propose_clusters(unit, rows, 3)
    assert all((a.rows == b.rows).all() for a, b in zip(clusters, again, strict=True))


def test_identical_crops_make_one_cluster_and_too_many_are_refused():
    assert len(propose_clusters(np.ones((5, 2)) / np.sqrt(2), np.arange(5), 3)) == 1
    with pytest.raises(
        ValueError, match="clusters must be from 2 to the 5 crops to be split; got 6"
    ):
        propose_clusters(np.ones((5, 2)), np.arange(5), 6)


def test_the_map_puts_alike_crops_together_landmarks_and_others(monkeypatch):
    monkeypatch.setattr("probe.projection.LANDMARKS", 600)
    unit, group = blobs(900)
    index = CosineIndex(unit, [f"{row:06d}" for row in range(len(unit))])
    places = project(index)
    assert places.shape == (len(unit), 2)
    assert places.min() >= 0
    assert places.max() <= 1
    sample = np.random.default_rng(1).choice(len(unit), 300, replace=False)
    distances = ((places[sample][:, None] - places[sample][None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (group[sample][distances.argmin(axis=1)] == group[sample]).mean() > 0.98
    few = project(CosineIndex(unit[:3], ["a", "b", "c"]))
    assert np.unique(few, axis=0).shape == (3, 2)
