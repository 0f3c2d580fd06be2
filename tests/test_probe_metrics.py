import numpy as np
import pytest

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
    with pytest.raises(ValueError, match="got 3 of 2"):
        wilson_interval(3, 2)


def test_wilson_interval_covers_at_its_nominal_rate():
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.84):
        draws = rng.binomial(50, share, 2000)
        covered = np.mean(
            [
                low <= share <= high
                for low, high in (wilson_interval(int(hits), 50) for hits in draws)
            ]
        )
        assert 0.92 < covered < 0.985


def test_bootstrap_interval_is_seeded_and_shrinks_with_more_data():
    values = np.random.default_rng(0).normal(3, 1, 400)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(400), rel=0.15)
    assert bootstrap_interval(np.ones(5)) == (1.0, 1.0)
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
        label: (np.mean(precision[label]), np.mean(r_precision[label]))
        for label in precision
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
        assert (quality.precision, quality.r_precision) == pytest.approx(
            expected[quality.label]
        )
        assert quality.count == (labels == quality.label).sum()
    assert macro(retrieval_quality(vectors, labels, 8)) == pytest.approx(
        np.mean([value for value, _ in expected.values()])
    )


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
    with pytest.raises(ValueError, match=r"k must be in \[1, 4\]; got 5"):
        retrieval_quality(vectors, np.array(["a"] * 5), 5)
