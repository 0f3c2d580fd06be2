import numpy as np
import pytest

from probe.linear_probe import LinearProbe
from probe.methods import METHODS, learn, ordering
from probe.transforms import l2_normalize


def marks(positives=15, negatives=15, distance=3.0, width=12, seed=0):
    rng = np.random.default_rng(seed)
    relevant = np.arange(positives + negatives) < positives
    vectors = rng.normal(size=(len(relevant), width))
    vectors[relevant, 0] += distance
    return l2_normalize(vectors), relevant


def test_the_mean_direction_ranks_until_both_kinds_are_marked():
    vectors, relevant = marks(4, 0)
    expected = vectors.mean(axis=0)
    for method in ("auto", "rocchio", "logistic"):
        direction = learn(vectors, relevant, method=method)
        assert not direction.has_boundary
        np.testing.assert_allclose(
            direction.coef, expected / np.linalg.norm(expected), rtol=1e-5
        )


def test_rocchio_by_hand():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    direction = learn(vectors, np.array([True, False, True]), method="rocchio")
    half = np.sqrt(0.5)
    np.testing.assert_allclose(direction.coef, [half, -half - 0.5], rtol=1e-6)


def test_each_method_is_what_it_says():
    vectors, relevant = marks()
    query, background = np.eye(12)[3], np.random.default_rng(2).normal(size=(20, 12))
    np.testing.assert_array_equal(
        learn(vectors, relevant, method="cosine", query=query).coef, query
    )
    logistic = learn(
        vectors,
        relevant,
        method="logistic",
        query=query,
        background=background,
        C=3.0,
    )
    np.testing.assert_allclose(
        logistic.coef, LinearProbe(C=3.0).fit(vectors, relevant).coef_
    )
    anchored = learn(
        vectors,
        relevant,
        method="anchored",
        query=query,
        background=background,
        C=3.0,
    )
    assert anchored.coef @ query > logistic.coef @ query
    assert {
        learn(
            vectors, relevant, method=method, query=query, background=background
        ).method
        for method in METHODS
    } == set(METHODS) - {"auto"}


def test_auto_goes_by_the_number_of_marks():
    background = np.random.default_rng(2).normal(size=(20, 12))
    assert learn(*marks(3, 40), background=background).method == "anchored"
    assert learn(*marks(3, 0), background=background).method == "anchored"
    assert learn(*marks(50, 50), background=background).method == "logistic"


def test_auto_falls_back_to_cosine_when_the_probe_orders_the_marks_worse():
    # The query points where the relevant ones lie; 2,000 dimensions of noise are too
    # much for a probe of 100 marks.
    vectors, relevant = marks(50, 50, distance=1.5, width=2000, seed=3)
    query = np.eye(2000)[0]
    direction = learn(vectors, relevant, query=query)
    assert direction.method == "cosine"
    assert (
        "the probe puts 0.64 of the pairs of marks in order, cosine 0.92"
        in direction.reason
    )
    assert np.array_equal(direction.coef, query)


def test_without_a_query_marks_are_not_their_own_evidence():
    """The mean of the relevant marks is near each of them, noise or not: it must not
    count as a cosine that works.
    """
    for seed in range(5):
        vectors, relevant = marks(20, 20, distance=0.0, width=1280, seed=seed)
        background = np.random.default_rng(seed).normal(size=(20, 1280))
        direction = learn(vectors, relevant, background=background)
        assert (direction.method, direction.reason) == (
            "anchored",
            "no query to hold it against cosine with",
        )
        probe = LinearProbe(C=direction.C).fit(
            vectors, relevant, background=background
        )  # no anchor
        np.testing.assert_allclose(direction.coef, probe.coef_)


def test_ordering_counts_pairs():
    scores, relevant = (
        np.array([3.0, 1.0, 2.0, 1.0]),
        np.array([True, True, False, False]),
    )
    assert ordering(scores, relevant) == (2 + 0 + 0.5) / 4


def test_what_cannot_be_learned_from_is_refused():
    vectors, relevant = marks()
    with pytest.raises(ValueError, match="all 30 are not relevant"):
        learn(vectors, np.zeros(30, bool))
    with pytest.raises(
        ValueError, match=r"method must be one of auto, .*; got 'magic'"
    ):
        learn(vectors, relevant, method="magic")
