import numpy as np
import pytest

from probe.index import CosineIndex
from probe.transforms import (
    TRANSFORMS,
    Transform,
    l2_normalize,
    mean_direction,
    mean_of_unit_vectors,
    sample_rows,
    sigmoid,
)

VECTORS = (
    np.random.default_rng(0).normal(size=(400, 20)) * np.geomspace(3, 0.1, 20) + 1.0
).astype(np.float32)


def test_center_takes_off_what_all_share():
    transform = Transform.fit("center", VECTORS)
    unit = l2_normalize(VECTORS)
    centerd = unit - unit.mean(axis=0)
    np.testing.assert_allclose(
        transform(VECTORS),
        centerd / np.linalg.norm(centerd, axis=1, keepdims=True),
        atol=1e-6,
    )


def test_whitening_makes_all_directions_alike():
    transform = Transform.fit("whiten", VECTORS, dim=20, shrinkage=0.0)
    projected = (
        l2_normalize(VECTORS, np.float64) - transform.mean
    ) @ transform.projection
    np.testing.assert_allclose(projected.T @ projected / 400, np.eye(20), atol=1e-3)
    # Shrunk all the way it only rotates: cosines are those of the centerd vectors.
    rotated = Transform.fit("whiten", VECTORS, dim=20, shrinkage=1.0)(VECTORS)
    centerd = Transform.fit("center", VECTORS)(VECTORS)
    np.testing.assert_allclose(rotated @ rotated.T, centerd @ centerd.T, atol=1e-4)


def test_partial_whitening_is_the_formula():
    power = 0.2
    found = Transform.fit("partial", VECTORS, dim=20, power=power)(VECTORS)
    unit = l2_normalize(VECTORS, np.float64)
    centered = unit - unit.mean(axis=0)
    variances, directions = np.linalg.eigh(centered.T @ centered / 400)
    expected = l2_normalize(centered @ directions * variances**-power, np.float64)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_partial_whitening_lies_between_centering_and_whitening():
    """Between all variance in few directions and the same in each."""
    centered = Transform.fit("center", VECTORS)(VECTORS)
    none = Transform.fit("partial", VECTORS, dim=20, power=0.0)(VECTORS)
    np.testing.assert_allclose(none @ none.T, centered @ centered.T, atol=1e-4)
    full = Transform.fit("partial", VECTORS, dim=20, power=0.5)
    unshrunk = Transform.fit("whiten", VECTORS, dim=20, shrinkage=0.0)
    np.testing.assert_allclose(full.projection, unshrunk.projection, rtol=1e-6)


def test_directions_without_variance_are_left_out():
    flat = np.concatenate([VECTORS[:, :5], np.zeros((400, 15), np.float32)], axis=1)
    transform = Transform.fit("partial", flat, dim=20, power=0.5)
    assert np.isfinite(transform.projection).all()
    assert np.count_nonzero(np.abs(transform.projection).sum(axis=0)) <= 5


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_index_scores_raw_vectors_as_the_transform_says(name):
    transform = Transform.fit(name, VECTORS, dim=8)
    vectors = VECTORS.copy()
    vectors[3] = 0
    index = CosineIndex(vectors, [str(row) for row in range(400)], transform=transform)
    directions = np.random.default_rng(1).normal(size=(3, index.dim))
    expected = directions @ transform(vectors, np.float64).T
    for _ in range(2):  # the second time with the two numbers a row at hand
        np.testing.assert_allclose(index.scores(directions), expected, atol=2e-4)


def test_bad_arguments_are_refused():
    with pytest.raises(
        ValueError,
        match="transform must be one of graph, smoothed, aligned, partial, l2, center, whiten; got 'log'",
    ):
        Transform.fit("log", VECTORS)
    with pytest.raises(ValueError, match=r"shrinkage must be in \[0, 1\]; got 2"):
        Transform.fit("whiten", VECTORS, shrinkage=2)
    with pytest.raises(ValueError, match=r"power must be in \[0, 0.5\]; got 1"):
        Transform.fit("partial", VECTORS, power=1)
    with pytest.raises(ValueError, match="vectors must have 20 dimensions; got 5"):
        Transform.fit("center", VECTORS)(np.ones((2, 5)))


def test_confidence_does_not_overflow():
    np.testing.assert_allclose(sigmoid(np.array([-1e4, 0.0, 1e4])), [0, 0.5, 1])


def test_whitening_shrinks_variances_towards_their_mean():
    found = Transform.fit("whiten", VECTORS, dim=12, shrinkage=0.3)(VECTORS)
    unit = l2_normalize(VECTORS, np.float64)
    centered = unit - unit.mean(axis=0)
    variances, directions = np.linalg.eigh(centered.T @ centered / 400)
    variances, directions = variances[-12:], directions[:, -12:]
    shrunk = 0.7 * variances + 0.3 * variances.mean()
    expected = l2_normalize(centered @ directions / np.sqrt(shrunk), np.float64)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


@pytest.mark.parametrize("power", [0.0, 0.1, 0.5])
def test_partial_whitening_keeps_the_directions_that_vary_most(power):
    transform = Transform.fit("partial", VECTORS, dim=5, power=power)
    unit = l2_normalize(VECTORS, np.float64)
    centered = unit - unit.mean(axis=0)
    variances, directions = np.linalg.eigh(centered.T @ centered / 400)
    expected = (directions * variances**-power)[:, ::-1][:, :5]
    signs = np.sign((transform.projection * expected).sum(axis=0))
    np.testing.assert_allclose(transform.projection * signs, expected, rtol=1e-3)
    np.testing.assert_allclose(transform.mean, unit.mean(axis=0), atol=1e-7)
    assert (transform.dim(20), transform.base) == (5, "partial")


def test_defaults_are_those_that_the_results_were_measured_with():
    stated = Transform.fit("partial", VECTORS, dim=256, power=0.1)
    assert Transform.fit("partial", VECTORS).content == stated.content
    stated = Transform.fit("whiten", VECTORS, dim=256, shrinkage=0.1)
    assert Transform.fit("whiten", VECTORS).content == stated.content


@pytest.mark.parametrize("block", [7, 400])
def test_nothing_depends_on_blocks(block, monkeypatch):
    whole = Transform.fit("whiten", VECTORS, dim=6)
    monkeypatch.setattr("probe.transforms._BLOCK", block)
    unit = l2_normalize(VECTORS, np.float64)
    np.testing.assert_allclose(mean_of_unit_vectors(VECTORS), unit.mean(axis=0), 1e-5)
    found = Transform.fit("whiten", VECTORS, dim=6)
    np.testing.assert_allclose(found(VECTORS), whole(VECTORS), atol=1e-4)


def test_few_rows_have_few_directions():
    assert Transform.fit("partial", VECTORS[:3]).projection.shape == (20, 2)
    assert Transform.fit("partial", VECTORS, dim=0).projection.shape == (20, 1)
    assert Transform.fit("partial", VECTORS, dim=99).projection.shape == (20, 20)
    assert Transform.fit("partial", VECTORS[:1]).projection.shape == (20, 1)
    assert Transform.fit("center", VECTORS[:1])(VECTORS[0]).tolist() == [0] * 20


def test_directions_are_fitted_on_a_sample_of_many_rows(monkeypatch):
    assert sample_rows(10, 20, 0).tolist() == list(range(10))
    some = sample_rows(400, 100, 3)
    assert len(set(some.tolist())) == 100
    assert (np.diff(some) > 0).all()
    assert some.tolist() == sample_rows(400, 100, 3).tolist()
    assert some.tolist() != sample_rows(400, 100, 4).tolist()
    monkeypatch.setattr("probe.transforms._SAMPLE", 100)
    mean = mean_of_unit_vectors(VECTORS)
    found = Transform.fit("partial", VECTORS, dim=4, seed=3)
    expected = Transform.fit("partial", VECTORS[some], dim=4, mean=mean)
    np.testing.assert_allclose(found.projection, expected.projection, rtol=1e-5)
    np.testing.assert_array_equal(found.mean, mean.astype(np.float32))


def test_a_mean_direction_is_that_of_unit_vectors():
    found = mean_direction(np.array([[3.0, 0.0], [0.0, 9.0]]))
    np.testing.assert_allclose(found, [np.sqrt(0.5)] * 2, rtol=1e-6)
    assert l2_normalize(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist() == [
        [0.0, 0.0],
        [np.float32(0.6), np.float32(0.8)],
    ]
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="must be finite"):
            l2_normalize(np.array([[1.0, bad]]))


def test_what_tells_transforms_apart():
    plain = Transform()
    assert (plain.content, plain.dim(7), plain.base) == (b"", 7, "l2")
    one, other = (Transform.fit("partial", VECTORS, power=p) for p in (0.1, 0.2))
    assert one.content != other.content
    assert one.content.startswith(one.mean.tobytes())
    assert len(one.content) == 4 * (20 + 20 * 20)
    assert {Transform(name).base for name in ("graph", "smoothed", "aligned")} == {
        "partial"
    }
    for shrinkage in (-0.1, 1.1):
        with pytest.raises(ValueError, match="shrinkage must be in"):
            Transform.fit("whiten", VECTORS, shrinkage=shrinkage)
    for power in (-0.1, 0.6):
        with pytest.raises(ValueError, match="power must be in"):
            Transform.fit("partial", VECTORS, power=power)
