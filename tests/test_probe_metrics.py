import numpy as np
import pytest
from scipy.stats import binom, norm

from probe.index import rank_first
from probe.metrics import (
    RetrievalQuality,
    average_precision,
    bootstrap_interval,
    macro,
    macro_interval,
    mean_and_interval,
    precision_at_k,
    retrieval_quality,
    wilson_interval,
)
from probe.transforms import l2_normalize

RANKED = np.array([True, False, True, True, False, False])


def test_hand_worked_values():
    assert precision_at_k(RANKED, 1) == 1.0
    assert precision_at_k(RANKED, 2) == 0.5
    assert precision_at_k(RANKED, 6) == 0.5
    assert average_precision(RANKED) == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)
    assert average_precision(RANKED[::-1]) < average_precision(RANKED)
    assert np.isnan(average_precision(np.zeros(4, bool)))
    for k in (0, 7):
        with pytest.raises(ValueError, match=rf"k must be in \[1, 6\]; got {k}"):
            precision_at_k(RANKED, k)


def test_wilson_intervals_of_the_posts_figures():
    assert wilson_interval(42, 50) == pytest.approx((0.715, 0.917), abs=1e-3)
    assert wilson_interval(50, 50) == pytest.approx((0.929, 1.0), abs=1e-3)
    assert wilson_interval(0, 50)[0] == 0.0
    for successes, trials in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=f"got {successes} of {trials}"):
            wilson_interval(successes, trials)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (3, 10), (84, 100)])
def test_wilson_intervals_are_the_shares_that_a_normal_test_allows(
    successes, trials, confidence
):
    z = norm.ppf((1 + confidence) / 2)
    for bound in wilson_interval(successes, trials, confidence):
        away = abs(successes / trials - bound)
        if 0 < bound < 1:
            assert away == pytest.approx(z * np.sqrt(bound * (1 - bound) / trials))
    share = successes / trials
    intervals = (wilson_interval(hits, trials) for hits in range(trials + 1))
    covers = [low <= share <= high for low, high in intervals]
    assert binom.pmf(np.arange(trials + 1), trials, share)[covers].sum() > 0.9


def test_bootstrap_interval_is_seeded_and_shrinks_with_more_data():
    values = np.random.default_rng(0).normal(3, 1, 400)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert (low, high) != bootstrap_interval(values, seed=1)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(400), rel=0.15)
    assert bootstrap_interval(np.ones(5)) == (1.0, 1.0)
    assert bootstrap_interval(np.array([1.0, 0.0, 0.0])) == (0.0, 1.0)
    assert bootstrap_interval(np.array([0.0, 1.0, 1.0])) == (0.0, 1.0)
    assert mean_and_interval([0.5, 0.5]) == "0.500 [0.500, 0.500]"


def by_hand(vectors, labels, k):
    """Each crop as a query, one pair at a time."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    precision, r_precision = {}, {}
    for query, label in enumerate(labels):
        others = sorted(
            (row for row in range(len(labels)) if row != query),
            key=lambda row: -float(unit[row] @ unit[query]),
        )
        relevant = [labels[row] == label for row in others]
        precision.setdefault(label, []).append(np.mean(relevant[:k]))
        r_precision.setdefault(label, []).append(np.mean(relevant[: sum(relevant)]))
    return {
        label: (
            np.mean(each),
            np.mean(r_precision[label]),
            np.sqrt(np.var(each) / (len(each) - 1)),
        )
        for label, each in precision.items()
    }


@pytest.mark.parametrize("at_once", [1, 7, 512])
def test_retrieval_quality_equals_the_definition(at_once):
    rng = np.random.default_rng(1)
    labels = rng.choice(["a", "b", "c"], 60, p=[0.6, 0.3, 0.1])
    vectors = (
        rng.normal(size=(60, 5))
        + np.array([ord(label) for label in labels])[:, None] % 3
    )
    expected = by_hand(vectors, labels, 8)
    for quality in retrieval_quality(vectors, labels, 8, queries_at_once=at_once):
        found = (quality.precision, quality.r_precision, quality.standard_error)
        assert found == pytest.approx(expected[quality.label])
        assert quality.count == (labels == quality.label).sum()
        assert quality.k == 8
    assert macro(retrieval_quality(vectors, labels, 8)) == pytest.approx(
        np.mean([value for value, *_ in expected.values()])
    )


def test_the_macro_interval_is_that_of_a_mean_of_independent_means():
    one = RetrievalQuality("a", 9, 0.5, 0.25, 4, 0.03)
    other = RetrievalQuality("b", 5, 0.7, 0.75, 4, 0.04)
    assert macro_interval([one, other]) == pytest.approx((0.551, 0.649))
    assert macro_interval([one, other], z=4) == pytest.approx((0.5, 0.7))
    assert macro([one, other], "r_precision") == 0.5
    assert np.isnan(macro([]))
    assert (one.ceiling, other.ceiling) == (1.0, 1.0)
    assert RetrievalQuality("c", 4, 0.5, 0.5, 4, 0.1).ceiling == 0.75


def test_the_macro_interval_covers_the_mean_over_all_queries():
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 400)
    vectors = rng.normal(size=(800, 3)) + np.repeat([[0.0], [0.8]], 400, axis=0)
    truth = macro(retrieval_quality(vectors, labels, 20))
    covered = []
    for _ in range(60):  # 40 random queries a class instead of all 400
        sampled = []
        for label in ("a", "b"):
            chosen = rng.choice(np.flatnonzero(labels == label), 40, replace=False)
            each = (
                labels[rank_first(l2_normalize(vectors, np.float64), chosen, 20)]
                == label
            ).mean(axis=1)
            sampled.append(
                RetrievalQuality(
                    label, 400, each.mean(), 0.0, 20, each.std(ddof=1) / np.sqrt(40)
                )
            )
        low, high = macro_interval(sampled)
        covered.append(low <= truth <= high)
    assert np.mean(covered) > 0.88


def test_quality_can_be_perfect_and_can_be_chance():
    labels = np.repeat(["a", "b"], 100)
    perfect = np.repeat(np.eye(2), 100, axis=0) + 1e-3 * np.random.default_rng(
        0
    ).normal(size=(200, 2))
    assert macro(retrieval_quality(perfect, labels, 50)) == 1.0
    noise = np.random.default_rng(0).normal(size=(200, 64))
    assert macro(retrieval_quality(noise, labels, 50)) == pytest.approx(
        99 / 199, abs=0.02
    )


def test_small_classes_have_a_ceiling_and_unlabelled_crops_are_only_distractors():
    vectors = np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 1], [1, 0.05]])
    qualities = retrieval_quality(vectors, np.array(["a", "a", "a", "single", ""]), 4)
    assert [quality.label for quality in qualities] == ["a"]
    assert qualities[0].ceiling == 0.5
    assert qualities[0].precision == 0.5
    for k in (0, 5):
        with pytest.raises(ValueError, match=rf"k must be in \[1, 4\]; got {k}"):
            retrieval_quality(vectors, np.array(["a"] * 5), k)
    assert retrieval_quality(vectors, np.array(["a"] * 5), 1)[0].precision == 1.0
