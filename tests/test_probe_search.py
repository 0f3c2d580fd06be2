import numpy as np
import pytest

from probe import search
from probe.search import CosineIndex, rank_all
from probe.transforms import l2_normalize

COUNT, WIDTH = 500, 12
VECTORS = np.random.default_rng(0).normal(size=(COUNT, WIDTH)).astype(
    np.float32
) * np.linspace(0.1, 50, COUNT)[:, None].astype(np.float32)
IDS = [f"id{number:04d}" for number in np.random.default_rng(1).permutation(COUNT)]
QUERIES = l2_normalize(np.random.default_rng(2).normal(size=(4, WIDTH)))


def brute_force(vectors, ids, query, k, exclude=()):
    """Cosine by the definition in float64, one pair at a time; sorted by score, then
    id.
    """
    rows = [row for row in range(len(vectors)) if row not in exclude]
    cosines = {}
    for row in rows:
        vector = vectors[row].astype(np.float64)
        norm = np.sqrt(np.dot(vector, vector))
        cosines[row] = (
            float(np.dot(vector, query.astype(np.float64)) / norm) if norm else 0.0
        )
    best = sorted(rows, key=lambda row: (-round(cosines[row], 10), ids[row]))[:k]
    return best, [cosines[row] for row in best]


@pytest.mark.parametrize("k", [1, 7, COUNT])
@pytest.mark.parametrize("block", [1, 33, COUNT, 10 * COUNT])
def test_equals_brute_force_for_every_block_size(monkeypatch, k, block):
    monkeypatch.setattr(search, "_BLOCK", block)
    for query, hits in zip(
        QUERIES, CosineIndex(VECTORS, IDS).search(QUERIES, k), strict=True
    ):
        rows, cosines = brute_force(VECTORS, IDS, query, k)
        assert hits.rows.tolist() == rows
        np.testing.assert_allclose(hits.scores, cosines, rtol=1e-12, atol=1e-15)


def test_ties_go_by_id_whatever_the_order_of_rows():
    vectors = VECTORS.copy()
    vectors[100:130] = VECTORS[100] * np.linspace(1, 4, 30)[:, None].astype(
        np.float32
    )  # thirty equal directions
    vectors[300:310] = vectors[100]
    query = l2_normalize(vectors[100])
    expected = sorted(np.array(IDS)[[*range(100, 130), *range(300, 310)]])[:20]
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(COUNT)
        index = CosineIndex(vectors[order], np.array(IDS)[order])
        assert index.ids[index.search(query, 20)[0].rows].tolist() == expected


def test_excluded_rows_never_appear_and_k_is_bounded_by_the_rest():
    exclude = [
        int(row) for row in CosineIndex(VECTORS, IDS).search(QUERIES[0], 5)[0].rows
    ]
    hits = CosineIndex(VECTORS, IDS).search(QUERIES[0], COUNT - 5, exclude)[0]
    assert (
        hits.rows.tolist()
        == brute_force(VECTORS, IDS, QUERIES[0], COUNT - 5, exclude)[0]
    )
    for k in (0, -1, COUNT - 4):
        with pytest.raises(
            ValueError, match=rf"k must be in \[1, {COUNT - 5}\]; got {k}"
        ):
            CosineIndex(VECTORS, IDS).search(QUERIES[0], k, exclude)


def test_scale_does_not_matter_and_a_zero_vector_has_cosine_zero():
    vectors = np.array([[0, 0], [3, 4], [-1e-3, 0], [0, 1e4]], np.float32)
    hits = CosineIndex(vectors, list("abcd")).search(np.array([1.0, 0.0]), 4)[0]
    assert hits.rows.tolist() == [1, 0, 3, 2]
    np.testing.assert_allclose(hits.scores, [0.6, 0, 0, -1], rtol=1e-7)


def test_a_probe_direction_ranks_by_its_inner_product():
    direction = 37.0 * QUERIES[1].astype(np.float64)
    scaled, plain = (
        CosineIndex(VECTORS, IDS).search(query, 50)[0]
        for query in (direction, QUERIES[1])
    )
    assert scaled.rows.tolist() == plain.rows.tolist()
    np.testing.assert_allclose(scaled.scores, 37 * plain.scores, rtol=1e-6)


def test_memory_mapped_vectors_give_the_same(tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    mapped = CosineIndex(np.load(tmp_path / "v.npy", mmap_mode="r"), IDS).search(
        QUERIES, 9
    )
    for one, two in zip(
        mapped, CosineIndex(VECTORS, IDS).search(QUERIES, 9), strict=True
    ):
        assert np.array_equal(one.rows, two.rows)
        assert np.array_equal(one.scores, two.scores)


def test_bad_input_is_named():
    broken = VECTORS.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        CosineIndex(broken, IDS).search(QUERIES[0], 1)
    with pytest.raises(ValueError, match="directions must have 12 dimensions; got 5"):
        CosineIndex(VECTORS, IDS).search(np.ones(5), 1)
    with pytest.raises(ValueError, match="one id a row"):
        CosineIndex(VECTORS, IDS[:-1])
    with pytest.raises(
        ValueError,
        match=(
            "marks must name crops of this embedding set; unknown: 'nobody', 'no one'"
        ),
    ):
        CosineIndex(VECTORS, IDS).rows_of(["nobody", IDS[0], "no one"], "marks")
    assert CosineIndex(VECTORS, IDS).rows_of([IDS[7], IDS[2]], "marks").tolist() == [
        7,
        2,
    ]


@pytest.mark.parametrize("length", [1e-20, 1e-8, 1e12])
def test_the_length_of_a_direction_changes_scores_alone(length):
    for one, two in zip(
        CosineIndex(VECTORS, IDS).search(QUERIES, 30),
        CosineIndex(VECTORS, IDS).search(QUERIES * length, 30),
        strict=True,
    ):
        assert one.rows.tolist() == two.rows.tolist()
        np.testing.assert_allclose(two.scores, one.scores * length, rtol=1e-5)


def test_rank_all_leaves_the_query_out():
    unit = l2_normalize(VECTORS[:40])
    for row, order in zip((3, 11), rank_all(unit, np.array([3, 11])), strict=True):
        assert sorted(order) == [other for other in range(40) if other != row]
        assert (
            order.tolist()
            == brute_force(
                unit, [f"{number:03d}" for number in range(40)], unit[row], 39, [row]
            )[0]
        )
