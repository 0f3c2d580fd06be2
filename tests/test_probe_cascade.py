import numpy as np
import pytest

from probe import cascade as cascade_module
from probe import index as index_module
from probe.cascade import Cascade
from probe.index import CosineIndex
from probe.methods import LinearRanker
from probe.transforms import TRANSFORMS, Transform, l2_normalize

COUNT, WIDTH = 3000, 96
PREFIXES = (4, 12, 40)


def real_looking(seed=0, count=COUNT):
    """Vectors with a mean and a falling spectrum, of any length."""
    rng = np.random.default_rng(seed)
    vectors = (
        rng.normal(size=(count, WIDTH)) / np.arange(1, WIDTH + 1)
        + 0.7 * np.eye(WIDTH)[5]
    )
    return (vectors * rng.uniform(0.1, 10, (count, 1))).astype(np.float32)


VECTORS = real_looking()
IDS = [f"{number:05d}" for number in np.random.default_rng(1).permutation(COUNT)]
QUERIES = l2_normalize(
    np.concatenate([VECTORS[:6], np.random.default_rng(2).normal(size=(3, WIDTH))])
)


@pytest.fixture(autouse=True)
def in_prefixes(monkeypatch):
    """Vectors as short as these would be one level."""
    monkeypatch.setattr(cascade_module, "_WHOLE", 0)


def brute(transform, directions, k, allowed):
    """Rows by the definition, in float64."""
    unit = transform(VECTORS, np.float64)
    result = []
    for direction in directions:
        scores = (unit * direction.astype(np.float64)).sum(axis=1)
        order = [row for row in np.lexsort((IDS, -scores.round(10))) if allowed[row]]
        result.append(order[:k])
    return result


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("queries", [1, 9])
def test_a_cascade_changes_no_result(name, queries):
    transform = Transform.fit(name, VECTORS, dim=60)
    cascade = Cascade.build(VECTORS, transform, prefixes=PREFIXES)
    directions = (
        QUERIES[:queries] * 3.0
        if transform.projection is None
        else transform(VECTORS[:queries])
    )
    allowed = np.random.default_rng(4).random(COUNT) < 0.8
    for k in (1, 50, 700, int(allowed.sum())):  # 700: fewer are left than are guessed
        plain = CosineIndex(VECTORS, IDS, transform=transform).search_along(
            directions, k, mask=allowed
        )
        fast = CosineIndex(
            VECTORS, IDS, transform=transform, cascade=cascade
        ).search_along(directions, k, mask=allowed)
        for one, two, expected in zip(
            plain, fast, brute(transform, directions, k, allowed), strict=True
        ):
            assert one.rows.tolist() == two.rows.tolist() == expected
            np.testing.assert_allclose(one.scores, two.scores, rtol=1e-12)


@pytest.mark.parametrize("length", [1e-3, 1.0, 3e4])
@pytest.mark.parametrize("queries", [1, 9])
@pytest.mark.parametrize("is_whole", [False, True])
def test_near_ties_at_the_edge_of_rounding_are_all_found(
    length, queries, is_whole, monkeypatch
):
    """Half of the rows lie within rounding of the k-th best, whatever the length of the
    direction (a probe's isn't 1): a margin that doesn't grow with it loses some.
    """
    monkeypatch.setattr(cascade_module, "_WHOLE", WIDTH if is_whole else 0)
    rng = np.random.default_rng(7)
    axis = l2_normalize(rng.normal(size=WIDTH))
    off = rng.normal(size=(COUNT, WIDTH))
    off -= (off @ axis)[:, None] * axis
    cosine = np.where(np.arange(COUNT) % 2, 0.8 + rng.uniform(0, 3e-7, COUNT), 0.2)
    vectors = cosine[:, None] * axis + np.sqrt(1 - cosine**2)[:, None] * (
        l2_normalize(off, np.float64)
    )
    vectors = vectors.astype(np.float32)
    same = Transform(projection=np.eye(WIDTH, dtype=np.float32))
    transform = same if is_whole else Transform()
    cascade = Cascade.build(vectors, transform, prefixes=PREFIXES)
    assert cascade.is_whole == is_whole
    unit = l2_normalize(vectors, np.float64)
    directions = length * np.stack([axis] * queries)

    def rough(rows, direction):
        return unit[rows].astype(np.float32) @ direction.astype(np.float32)

    for k in (1, 30, 700):
        best = set(np.argsort(-(unit @ axis), kind="stable")[:k].tolist())
        for found in cascade.candidates(directions, k, rough, np.array([], int)):
            assert best <= set(found.tolist())


def test_the_certificate_holds_and_is_worth_having():
    """No row that is left out scores above the k-th best, and most rows are
    left out.
    """
    transform = Transform()
    cascade = Cascade.build(VECTORS, transform, prefixes=PREFIXES)
    unit = transform(VECTORS, np.float64)

    def rough(rows, direction):
        return transform(VECTORS[rows]) @ direction.astype(np.float32)

    for direction, rows in zip(
        QUERIES,
        cascade.candidates(QUERIES, 20, rough, np.array([], np.int64)),
        strict=True,
    ):
        scores = unit @ direction
        best = np.sort(scores)[-20]
        outside = np.setdiff1d(np.arange(COUNT), rows)
        assert scores[outside].max() < best
    assert len(rows) >= 20
    counts = [
        len(rows)
        for rows in cascade.candidates(QUERIES[:6], 20, rough, np.array([], int))
    ]
    assert max(counts) < COUNT / 4


def test_every_bound_is_one():
    cascade = Cascade.build(VECTORS, Transform(), prefixes=PREFIXES)
    unit = l2_normalize(VECTORS, np.float64)
    rotated = unit @ cascade.rotation.astype(np.float64)
    for end, rest in zip(PREFIXES, cascade.rest, strict=True):
        true = np.sqrt(np.maximum(1 - (rotated[:, :end] ** 2).sum(axis=1), 0))
        assert (rest >= true - 1e-7).all()
        np.testing.assert_allclose(rest, true, atol=1.1e-3)  # never much larger either


def test_duplicates_and_zero_vectors_are_found_by_id():
    vectors = VECTORS.copy()
    vectors[200:260] = VECTORS[7]
    vectors[300:310] = 0
    cascade = Cascade.build(vectors, Transform(), prefixes=PREFIXES)
    hits = CosineIndex(vectors, IDS, cascade=cascade).search_along(VECTORS[7], 30)[0]
    equal = sorted([7, *range(200, 260)], key=lambda row: IDS[row])
    assert hits.rows.tolist() == equal[:30]
    worst = CosineIndex(vectors, IDS, cascade=cascade).search_along(VECTORS[7], COUNT)[
        0
    ]
    np.testing.assert_array_equal(worst.scores[np.isin(worst.rows, range(300, 310))], 0)


def test_a_stored_cascade_is_the_same_and_foreign_ones_are_refused(tmp_path):
    built = Cascade.build(VECTORS, Transform(), prefixes=PREFIXES)
    stored = Cascade.build(
        VECTORS, Transform(), prefixes=PREFIXES, folder=tmp_path / "cascade"
    )
    again = Cascade.load(tmp_path / "cascade")
    for cascade in (stored, again):
        assert isinstance(cascade.levels[0], np.memmap)
        for one, two in zip(
            (*built.levels, *built.rest), (*cascade.levels, *cascade.rest), strict=True
        ):
            np.testing.assert_array_equal(one, two)
    names = [path.name for path in tmp_path.iterdir()]
    assert [name for name in names if not name.endswith(".lock")] == ["cascade"]
    with pytest.raises(
        ValueError, match="must be of the vectors with hash 'other'; it is of others"
    ):
        Cascade.load(tmp_path / "cascade", "other")
    with pytest.raises(
        ValueError, match="cascade must be of the same 10 rows; it has 3000"
    ):
        CosineIndex(VECTORS[:10], IDS[:10], cascade=again)


def stored(folder, progress=iter, content="c"):
    return Cascade.build(
        VECTORS,
        Transform(),
        prefixes=PREFIXES,
        folder=folder / "cascade",
        content_hash=content,
        progress=progress,
    )


class Killed(BaseException):
    pass


def test_a_killed_build_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(cascade_module, "_BLOCK", 128)
    monkeypatch.setattr(cascade_module, "_SAVED_EVERY", 2)
    expected = Cascade.build(VECTORS, Transform(), prefixes=PREFIXES)
    starts = []

    def dying(blocks):
        for start in blocks:
            if len(starts) == 7:
                raise Killed
            starts.append(start)
            yield start

    with pytest.raises(Killed):
        stored(tmp_path, dying)
    assert not (tmp_path / "cascade").exists()
    again = []

    def counted(blocks):
        for start in blocks:
            again.append(start)
            yield start

    built = stored(tmp_path, counted)
    assert again[0] == 6 * 128  # saved after every second block
    for one, two in zip(
        (*expected.levels, *expected.rest), (*built.levels, *built.rest), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    # What was begun of other vectors isn't taken up.
    with pytest.raises(Killed):
        stored(tmp_path, lambda blocks: dying(blocks), "other")
    assert Cascade.load(tmp_path / "cascade", "c") is not None
    again.clear()
    stored(tmp_path, counted, "third")
    assert again[0] == 0


def test_two_builders_do_not_collide(tmp_path):
    def meanwhile(blocks):
        with pytest.raises(RuntimeError, match="in use by another process"):
            stored(tmp_path)
        yield from blocks

    stored(tmp_path, meanwhile)


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cascade_module.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        stored(tmp_path)


@pytest.mark.parametrize("whole", [0, 256])
@pytest.mark.parametrize("name", ["l2", "center", "whiten", "partial"])
def test_every_transform_and_direction_finds_the_same(name, whole, monkeypatch):
    monkeypatch.setattr(cascade_module, "_WHOLE", whole)
    transform = Transform.fit(name, VECTORS)
    plain = CosineIndex(VECTORS, IDS, transform=transform)
    built = Cascade.build(VECTORS, transform, prefixes=PREFIXES)
    assert built.is_whole == bool(whole and transform.projection is not None)
    fast = CosineIndex(VECTORS, IDS, transform=transform, cascade=built)
    rng = np.random.default_rng(3)
    directions = rng.normal(size=(3, plain.dim)) * [[1], [30], [0.1]]
    mask = rng.random(COUNT) < 0.7
    for ascending in (False, True):
        for k in (1, 17, 300):
            one, two = (
                index.search_along(directions, k, mask=mask, ascending=ascending)
                for index in (plain, fast)
            )
            for a, b in zip(one, two, strict=True):
                np.testing.assert_array_equal(a.rows, b.rows)
                np.testing.assert_allclose(a.scores, b.scores, rtol=1e-12)
    np.testing.assert_allclose(
        fast.scores(directions),
        plain.scores(directions),
        atol=3e-4,  # of lengths to 300
    )


def test_the_first_pages_of_a_probe_need_no_pass_over_everything(monkeypatch):
    transform = Transform.fit("partial", VECTORS)
    rng = np.random.default_rng(4)
    ranker = LinearRanker(
        7 * rng.normal(size=transform.dim(VECTORS.shape[1])),
        intercept=-2.0,
        kind="decision",
    )
    mask = rng.random(COUNT) < 0.8
    plain = CosineIndex(VECTORS, IDS, transform=transform).rank(ranker, mask=mask)
    plain.page(0, 1)  # scores all
    built = Cascade.build(VECTORS, transform, prefixes=PREFIXES)
    index = CosineIndex(VECTORS, IDS, transform=transform, cascade=built)
    passes = []
    real = CosineIndex.scores
    monkeypatch.setattr(
        CosineIndex, "scores", lambda *given: passes.append(1) or real(*given)
    )
    ranking = index.rank(ranker, mask=mask)
    assert len(ranking) == int(mask.sum())
    for start, count in ((0, 50), (50, 50), (390, 30), (0, 0)):
        found, expected = ranking.page(start, count), plain.page(start, count)
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-12)
    assert not passes
    np.testing.assert_array_equal(ranking.rows, plain.rows)  # the whole, behind it
    assert passes == [1]
    np.testing.assert_array_equal(ranking.page(5, 9).rows, plain.page(5, 9).rows)


def by_definition(cascade, direction, k, exact, excluded, levels, first, most):
    """The `most` rows that are promising by the `first` levels, and those that may be
    left in by them, sifted level by level on the whole matrix.
    """
    rotated = direction @ cascade.rotation.astype(np.float64)
    ends = np.cumsum([level.shape[1] for level in levels])
    coordinates = np.concatenate(levels, axis=1).astype(np.float64)
    length = np.linalg.norm(direction)
    prefix = [coordinates[:, :end] @ rotated[:end] for end in ends]
    beyond = [
        np.sqrt(max(0.0, length**2 - (rotated[:end] ** 2).sum()) + 1e-6 * length**2)
        for end in ends
    ]
    room = [rest * one for rest, one in zip(cascade.rest, beyond, strict=True)]
    free = np.setdiff1d(np.arange(len(coordinates)), excluded)
    guess = prefix[0] if first == 1 else prefix[first - 1] + room[first - 1]
    promising = free[np.argsort(-guess[free], kind="stable")[:most]]
    worst = np.sort(exact[promising])[-k]
    rows = free
    if first == 1:
        longest = cascade.rest[0].max() * beyond[0]
        rows = rows[prefix[0][rows] + longest >= worst]
    for number in range(first - 1, len(levels)):
        if number >= first and len(rows) <= cascade_module._PROMISING * k:
            break
        rows = rows[prefix[number][rows] + room[number][rows] >= worst]
    return promising, rows


@pytest.mark.parametrize("length", [0.02, 1.0, 50.0])
@pytest.mark.parametrize("queries", [1, 9])
@pytest.mark.parametrize("prefixes", [PREFIXES, (8, 30)])
def test_as_many_rows_are_left_in_as_the_bounds_ask_for_and_no_more(
    prefixes, queries, length
):
    cascade = Cascade.build(VECTORS, Transform(), prefixes=prefixes)
    unit = l2_normalize(VECTORS, np.float64)
    excluded = np.arange(0, COUNT, 7)
    first = 1 if queries == 1 else min(cascade_module._LEVELS_TOGETHER, len(prefixes))
    for k in (3, 20):
        scored = []

        def score(rows, direction, scored=scored):
            scored.append(rows)
            return (unit[rows] @ direction).astype(np.float32)

        directions = length * QUERIES[:queries]
        most = cascade_module._PROMISING * k if first == 1 else k + k // 4
        found = cascade.candidates(directions, k, score, excluded)
        for direction, rows, asked in zip(
            directions, list(found), scored[: len(directions)], strict=True
        ):
            exact = unit @ direction
            promising, expected = by_definition(
                cascade, direction, k, exact, excluded, cascade.levels, first, most
            )
            assert not np.isin(rows, excluded).any()
            assert len(np.setxor1d(asked, promising)) <= 2
            # Rounding decides of rows at the very edge.
            assert len(np.setxor1d(rows, expected)) <= 1 + len(expected) // 50
            assert (np.diff(rows) > 0).all()
        assert {len(rows) for rows in scored} == {most}
        assert all(len(set(rows.tolist())) == most for rows in scored)
        assert not any(np.isin(rows, excluded).any() for rows in scored)


@pytest.mark.parametrize("name", ["l2", "partial"])
def test_nothing_depends_on_blocks(name, monkeypatch):
    transform = Transform.fit(name, VECTORS, dim=60)
    cascade = Cascade.build(VECTORS, transform, prefixes=PREFIXES)
    directions = transform(VECTORS[:6]) * 3
    whole = CosineIndex(VECTORS, IDS, transform=transform, cascade=cascade)
    expected = whole.search_along(directions, 40)
    monkeypatch.setattr(cascade_module, "_BLOCK", 256)
    monkeypatch.setattr(cascade_module, "_CACHED", 128)
    monkeypatch.setattr(cascade_module, "_GATHER", 64)
    monkeypatch.setattr(index_module, "_BLOCK", 256)
    in_blocks = Cascade.build(VECTORS, transform, prefixes=PREFIXES)
    index = CosineIndex(VECTORS, IDS, transform=transform, cascade=in_blocks)
    for one, two in zip(expected, index.search_along(directions, 40), strict=True):
        assert one.rows.tolist() == two.rows.tolist()
        np.testing.assert_allclose(one.scores, two.scores, rtol=1e-12)
    for one, two in zip(cascade.levels, in_blocks.levels, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_room_on_the_disk_is_taken_before_anything_is_written(tmp_path):
    cascade_module._reserve(tmp_path / "a.npy", (300, 7))
    assert np.load(tmp_path / "a.npy").shape == (300, 7)
    np.save(tmp_path / "b.npy", np.zeros((300, 7), np.float32))
    sizes = [(tmp_path / name).stat().st_size for name in ("a.npy", "b.npy")]
    assert sizes[0] == sizes[1]
