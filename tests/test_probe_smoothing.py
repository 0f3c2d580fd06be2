"""Vectors become means with their neighbors."""

import numpy as np
import pytest

from curation.pool import TRANSFORM, Pool
from data.embeddings import EmbeddingSet
from probe.methods import LinearRanker
from probe.neighbors import NOBODY
from probe.smoothing import neighbors_of, smooth, smooth_query
from probe.transforms import Transform, l2_normalize
from tests.conftest import read_image_folder


def test_by_hand():
    """Two that name each other, one that nobody names back, one of zeros."""
    angles = np.radians([0, 10, 60])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [5], [2]]
    vectors = np.concatenate([vectors, np.zeros((1, 2))])
    found = neighbors_of(vectors, count=1)
    assert found.tolist() == [[1], [0], [NOBODY], [NOBODY]]
    into = np.empty((4, 2), np.float32)
    smooth(vectors, found, into)
    unit = l2_normalize(vectors)
    pair = unit[0] + unit[1]
    np.testing.assert_allclose(into, [pair, pair, unit[2], [0, 0]], atol=1e-6)


def test_several_neighbors_count_as_one_together():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5000, 6)).astype(np.float32)
    neighbors = np.full((5000, 3), NOBODY)
    neighbors[0] = [7, 8, NOBODY]
    neighbors[4999] = [0, 1, 2]  # in another block
    into = np.empty_like(vectors)
    smooth(vectors, neighbors, into)
    unit = l2_normalize(vectors)
    np.testing.assert_allclose(into[0], unit[0] + (unit[7] + unit[8]) / 2, atol=1e-6)
    np.testing.assert_allclose(
        into[4999], unit[4999] + unit[:3].mean(axis=0), atol=1e-6
    )
    np.testing.assert_array_equal(into[1:4999], unit[1:4999])


def test_of_many_rows_each_is_compared_with_a_part():
    rng = np.random.default_rng(1)
    centers = rng.normal(size=(5, 16))
    kind = np.arange(400) % 5
    vectors = centers[kind] + 0.2 * rng.normal(size=(400, 16))
    whole = neighbors_of(vectors, count=4, most=400)
    parted = neighbors_of(vectors, count=4, most=100)
    for found in (whole, parted):
        some = found != NOBODY
        assert some.any(axis=1).mean() > 0.8
        own = np.broadcast_to(kind[:, None], found.shape)
        assert (kind[found[some]] == own[some]).all()
    part = np.empty(400, int)
    for number, rows in enumerate(
        np.array_split(np.random.default_rng(0).permutation(400), 4)
    ):
        part[rows] = number
    some = parted != NOBODY
    own = np.broadcast_to(part[:, None], parted.shape)
    assert (part[parted[some]] == own[some]).all()


def test_a_kind_is_denser_after_it():
    """What the mean is for: cosines within a kind rise against those between kinds."""
    rng = np.random.default_rng(2)
    centers = rng.normal(size=(4, 32))
    kind = np.repeat(np.arange(4), 50)
    vectors = (centers[kind] + 1.6 * rng.normal(size=(200, 32))).astype(np.float32)
    into = np.empty_like(vectors)
    smooth(vectors, neighbors_of(vectors), into)

    def precision(x):
        unit = l2_normalize(x)
        scores = unit @ unit.T
        np.fill_diagonal(scores, -2)
        best = np.argsort(-scores, axis=1)[:, :20]
        return float((kind[best] == kind[:, None]).mean())

    assert precision(into) > precision(vectors) + 0.02


def test_nothing_to_compare():
    with pytest.raises(ValueError, match="must be finite"):
        neighbors_of(np.full((3, 2), np.nan))
    assert neighbors_of(np.ones((1, 2))).tolist() == [[NOBODY] * 10]
    assert neighbors_of(np.ones((0, 2))).shape == (0, 10)


def test_a_pool_is_smoothed_by_default_and_can_be_taken_as_it_was(photos, tmp_path):
    table, _ = read_image_folder(photos)
    vectors = np.random.default_rng(5).normal(size=(len(table), 12)).astype(np.float32)
    embeddings = EmbeddingSet.from_arrays(vectors, table, folder=tmp_path / "set")
    pool = Pool(embeddings)
    assert pool.index.transform.name == TRANSFORM == "graph"
    assert pool.similar is pool.index  # for examples and for what marks teach
    expected = np.empty_like(vectors)
    smooth(vectors, neighbors_of(vectors), expected)
    np.testing.assert_array_equal(pool.index.vectors, expected)
    # An image from outside comes to what a crop with its vector does.
    found = pool.vectors_of([], vectors[[3]])
    np.testing.assert_allclose(found, pool.vectors_of([3], None), atol=1e-5)
    # As version 0.11.0 had it.
    pool = pool.with_transform("smoothed")
    np.testing.assert_array_equal(pool.similar.vectors, expected)
    assert pool.index.vectors is embeddings.vectors  # for what marks teach
    transform = Transform.fit("partial", vectors)
    for index, of in ((pool.similar, expected), (pool.index, vectors)):
        unit = index.unit_vectors([0, 5])
        np.testing.assert_allclose(unit, transform(of[[0, 5]]), atol=1e-5)
    plain = pool.with_transform("partial")
    assert plain.similar is plain.index
    probe = LinearRanker(np.ones(pool.index.dim), kind="decision")
    assert pool.index_of(probe) is pool.index
    assert pool.index_of(LinearRanker(np.ones(pool.index.dim))) is pool.similar
    # What is a crop's own is found from the file alone: the same in any process.
    again = Pool(EmbeddingSet.load(tmp_path / "set"))
    np.testing.assert_array_equal(again.similar.vectors, expected)


@pytest.mark.parametrize("seed", range(3))
def test_a_copy_from_outside_comes_to_what_its_row_does(seed):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(6, 24))
    vectors = centers[np.arange(300) % 6] + 0.8 * rng.normal(size=(300, 24))
    vectors = vectors.astype(np.float32)
    expected = np.empty_like(vectors)
    smooth(vectors, neighbors_of(vectors), expected)
    for row in range(0, 300, 7):
        found = smooth_query(3 * vectors[row], vectors)
        np.testing.assert_allclose(found, expected[row], atol=1e-5)
    zero = smooth_query(np.zeros(24), vectors)
    assert not zero.any()
    alone = smooth_query(vectors[0], vectors[:1])
    np.testing.assert_allclose(alone, l2_normalize(vectors[0]))


def test_large_sets_are_searched_by_example_with_an_index_too(
    photos, tmp_path, monkeypatch
):
    table, _ = read_image_folder(photos)
    vectors = np.random.default_rng(6).normal(size=(len(table), 80)).astype(np.float32)
    embeddings = EmbeddingSet.from_arrays(vectors, table, folder=tmp_path / "set")
    plain = Pool(embeddings).similar
    assert plain.cascade is None
    monkeypatch.setattr("curation.pool.CASCADE_BYTES", 1)
    pool = Pool(embeddings, build_cascade=True)
    assert pool.similar.cascade is not None
    kept = sorted(path.name for path in embeddings.folder.glob("cascade*"))
    assert kept == ["cascade-partial-smoothed"]  # one for queries and for marks
    older = Pool(embeddings, transform="smoothed", build_cascade=True)
    assert older.similar.cascade is not None
    kept = sorted(path.name for path in embeddings.folder.glob("cascade*"))
    assert kept == ["cascade-partial", "cascade-partial-smoothed"]
    for row in range(0, len(table), 9):
        found = pool.similar.search(plain.vectors[row], 7)
        expected = plain.search(plain.vectors[row], 7)
        assert found.rows.tolist() == expected.rows.tolist()
