import numpy as np
import pytest

from probe.index import CosineIndex
from probe.transforms import TRANSFORMS, Transform, l2_normalize, sigmoid

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
