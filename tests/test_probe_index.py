import numpy as np
import pytest

from probe import index as module
from probe.index import CosineIndex, rank_first
from probe.methods import LinearRanker
from probe.transforms import Transform, l2_normalize

COUNT, WIDTH = 500, 12
VECTORS = np.random.default_rng(0).normal(size=(COUNT, WIDTH)).astype(
    np.float32
) * np.linspace(0.1, 50, COUNT)[:, None].astype(np.float32)
IDS = [f"id{number:04d}" for number in np.random.default_rng(1).permutation(COUNT)]
QUERIES = l2_normalize(np.random.default_rng(2).normal(size=(4, WIDTH)))


def without(rows, count=COUNT):
    mask = np.ones(count, bool)
    mask[list(rows)] = False
    return mask


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
    monkeypatch.setattr(module, "_BLOCK", block)
    for query, hits in zip(
        QUERIES, CosineIndex(VECTORS, IDS).search_along(QUERIES, k), strict=True
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
        assert index.ids[index.search_along(query, 20)[0].rows].tolist() == expected


def test_excluded_rows_never_appear_and_k_is_bounded_by_the_rest():
    exclude = [
        int(row)
        for row in CosineIndex(VECTORS, IDS).search_along(QUERIES[0], 5)[0].rows
    ]
    hits = CosineIndex(VECTORS, IDS).search_along(
        QUERIES[0], COUNT - 5, mask=without(exclude)
    )[0]
    assert (
        hits.rows.tolist()
        == brute_force(VECTORS, IDS, QUERIES[0], COUNT - 5, exclude)[0]
    )
    for k in (0, -1, COUNT - 4):
        with pytest.raises(
            ValueError, match=rf"k must be in \[1, {COUNT - 5}\]; got {k}"
        ):
            CosineIndex(VECTORS, IDS).search_along(QUERIES[0], k, mask=without(exclude))


def test_scale_does_not_matter_and_a_zero_vector_has_cosine_zero():
    vectors = np.array([[0, 0], [3, 4], [-1e-3, 0], [0, 1e4]], np.float32)
    hits = CosineIndex(vectors, list("abcd")).search_along(np.array([1.0, 0.0]), 4)[0]
    assert hits.rows.tolist() == [1, 0, 3, 2]
    np.testing.assert_allclose(hits.scores, [0.6, 0, 0, -1], rtol=1e-7)


def test_a_probe_direction_ranks_by_its_inner_product():
    direction = 37.0 * QUERIES[1].astype(np.float64)
    scaled, plain = (
        CosineIndex(VECTORS, IDS).search_along(query, 50)[0]
        for query in (direction, QUERIES[1])
    )
    assert scaled.rows.tolist() == plain.rows.tolist()
    np.testing.assert_allclose(scaled.scores, 37 * plain.scores, rtol=1e-6)


def test_memory_mapped_vectors_give_the_same(tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    mapped = CosineIndex(np.load(tmp_path / "v.npy", mmap_mode="r"), IDS).search_along(
        QUERIES, 9
    )
    for one, two in zip(
        mapped, CosineIndex(VECTORS, IDS).search_along(QUERIES, 9), strict=True
    ):
        assert np.array_equal(one.rows, two.rows)
        assert np.array_equal(one.scores, two.scores)


def test_bad_input_is_named():
    broken = VECTORS.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        CosineIndex(broken, IDS).search_along(QUERIES[0], 1)
    with pytest.raises(ValueError, match="directions must have 12 dimensions; got 5"):
        CosineIndex(VECTORS, IDS).search_along(np.ones(5), 1)
    with pytest.raises(ValueError, match="one id per row"):
        CosineIndex(VECTORS, IDS[:-1])
    for mask in (
        np.ones(COUNT - 1, bool),
        np.ones(COUNT, int),
        np.ones((COUNT, 1), bool),
    ):
        with pytest.raises(
            ValueError, match="mask must be bool, one entry per row, 500"
        ):
            CosineIndex(VECTORS, IDS).search_along(QUERIES[0], 1, mask=mask)


@pytest.mark.parametrize("length", [1e-20, 1e-8, 1e12])
def test_the_length_of_a_direction_changes_scores_alone(length):
    for one, two in zip(
        CosineIndex(VECTORS, IDS).search_along(QUERIES, 30),
        CosineIndex(VECTORS, IDS).search_along(QUERIES * length, 30),
        strict=True,
    ):
        assert one.rows.tolist() == two.rows.tolist()
        np.testing.assert_allclose(two.scores, one.scores * length, rtol=1e-5)


def near_duplicates(seed=0):
    """A pool in which most rows are copies, or nearly, of a few."""
    rng = np.random.default_rng(seed)
    vectors = np.repeat(rng.normal(size=(8, 64)), 100, axis=0)
    vectors[::3] += rng.normal(0, 1e-9, (267, 64))
    vectors[1::3] += rng.normal(0, 1e-7, (267, 64))
    return vectors.astype(np.float32), [f"{i:04d}" for i in rng.permutation(800)]


@pytest.mark.parametrize("name", ["l2", "center", "whiten"])
def test_every_list_has_one_order_also_among_near_duplicates(name):
    """search, its pages, the whole ranking and retrieval agree to the last place."""
    vectors, ids = near_duplicates()
    transform = Transform.fit(name, vectors, dim=40)
    index = CosineIndex(vectors, ids, transform=transform)
    for length in (1.0, 1e-6, 250.0):
        coef = length * index.unit_vectors([3], np.float64)[0]
        ranker = LinearRanker(coef, intercept=0.25 * length, kind="decision")
        mask = without([3, 17], 800)
        first = index.top(ranker, 50, mask=mask)
        whole = index.rank(ranker, mask=mask)
        pages = [index.rank(ranker, mask=mask).page(at, 7) for at in range(0, 49, 7)]
        paged = np.concatenate([page.rows for page in pages])
        assert whole.rows[:50].tolist() == first.rows.tolist()
        assert paged.tolist() == first.rows[:49].tolist()
        np.testing.assert_allclose(whole.scores[:50], first.scores, rtol=1e-12)
        assert whole.excluded.tolist() == first.excluded.tolist() == [3, 17]
        deep = index.rank(ranker, mask=mask).page(600, 50)
        assert deep.rows.tolist() == whole.rows[600:650].tolist()
        worst = index.top(ranker, 20, mask=mask, ascending=True)
        lowest = whole.scores[:-21:-1]
        np.testing.assert_allclose(worst.scores, lowest, atol=1e-9 * length)
        shuffled = np.random.default_rng(1).permutation(800)
        other = CosineIndex(
            vectors[shuffled], np.array(ids)[shuffled], transform=transform
        ).rank(ranker, mask=mask[shuffled])
        assert shuffled[other.rows].tolist() == whole.rows.tolist()
    unit = transform(vectors, np.float64)
    found = rank_first(unit, np.array([3]), 50, place_of_id=index.place_of_id)
    ranker = LinearRanker(index.unit_vectors([3], np.float64)[0])
    assert (
        found[0].tolist() == index.top(ranker, 50, mask=without([3], 800)).rows.tolist()
    )


def test_a_query_is_searched_by_its_unit_vectors():
    index = CosineIndex(VECTORS, IDS)
    one = index.search(VECTORS[5], 9, mask=without([5]))
    assert (
        one.rows.tolist()
        == brute_force(VECTORS, IDS, l2_normalize(VECTORS[5]), 9, [5])[0]
    )
    several = index.search(VECTORS[[5, 8]], 9)
    mean = l2_normalize(l2_normalize(VECTORS[[5, 8]]).mean(axis=0))
    assert several.rows.tolist() == brute_force(VECTORS, IDS, mean, 9)[0]
    assert several.kind == "cosine"


def test_rank_first_leaves_the_query_out():
    unit = l2_normalize(VECTORS[:40], np.float64)
    ids = [f"{number:03d}" for number in range(40)]
    for row, order in zip(
        (3, 11), rank_first(unit, np.array([3, 11]), 39), strict=True
    ):
        assert sorted(order) == [other for other in range(40) if other != row]
        assert order.tolist() == brute_force(unit, ids, unit[row], 39, [row])[0]


def test_what_is_derived_is_kept_by_what_the_transform_holds():
    """Another power is another projection: what was kept of the first isn't taken."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    kept = {}

    class Set:
        ids = [f"{row:02d}" for row in range(60)]

        def __init__(self):
            self.vectors = vectors

        def derived(self, name, compute):
            return kept.setdefault(name, compute())

    names = []
    for transform in (
        Transform.fit("partial", vectors, power=0.1),
        Transform.fit("partial", vectors, power=0.4),
        Transform.fit("graph", vectors, power=0.4),  # the same of altered vectors
        Transform.fit("whiten", vectors),
    ):
        index = CosineIndex(Set(), transform=transform)
        direction = rng.normal(size=(1, index.dim))
        np.testing.assert_allclose(
            index.scores(direction),
            direction @ transform(vectors, np.float64).T,
            atol=1e-5,
        )
        names.append(list(kept))
    assert [len(one) for one in names] == [1, 2, 2, 3]
    assert all(name.startswith("scales_") and len(name) == 19 for name in kept)


def test_rows_that_are_asked_for_again_are_kept():
    vectors = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    index = CosineIndex(vectors, [str(row) for row in range(9)])
    asked = []
    units = index.unit_vectors
    index.unit_vectors = lambda rows: asked.append(list(rows)) or units(rows)
    unit = l2_normalize(vectors)
    np.testing.assert_array_equal(index.remembered([3, 1]), unit[[3, 1]])
    np.testing.assert_array_equal(index.remembered([1, 8, 3]), unit[[1, 8, 3]])
    assert asked == [[3, 1], [8]]
    assert index.remembered([]).shape == (0, 4)
    assert index.tolerance(LinearRanker(np.array([3.0, 4.0, 0, 0]))) == pytest.approx(
        5e-6
    )


def test_a_decision_has_the_constant_added():
    index = CosineIndex(VECTORS, IDS)
    ranker = LinearRanker(QUERIES[1].astype(np.float64), 2.5)
    np.testing.assert_allclose(
        index.decision(ranker), index.scores(QUERIES[1])[0] + 2.5, rtol=1e-6
    )
    page = index.top(ranker, 5)
    assert page.scores.tolist() == sorted(page.scores, reverse=True)
    np.testing.assert_allclose(
        page.scores, index.decision(ranker)[page.rows], rtol=1e-5
    )
