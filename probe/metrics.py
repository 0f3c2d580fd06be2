"""Precision at k, R-precision, average precision, and intervals for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probe.index import rank_first
from probe.transforms import Transform


def precision_at_k(relevant: np.ndarray, k: int) -> float:
    """Share of relevant items among the first k of a ranking.

    Args:
        relevant: [N] bool, in ranked order.
        k: from 1 to N.
    """
    if not 1 <= k <= len(relevant):
        raise ValueError(f"k must be in [1, {len(relevant)}]; got {k}")
    return float(np.mean(relevant[:k]))


def average_precision(relevant: np.ndarray) -> float:
    """Mean of the precision at the rank of each relevant item; NaN where nothing is
    relevant.

    Args:
        relevant: [N] bool, in ranked order.
    """
    hits = np.flatnonzero(relevant)
    if not len(hits):
        return float("nan")
    return float(np.mean(np.arange(1, len(hits) + 1) / (hits + 1)))


def wilson_interval(
    successes: int, trials: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson, 1927).

    Args:
        successes: 0 to trials.
        trials: at least 1.
        confidence: of the interval.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            f"successes must be in [0, trials] and trials at least 1; got {successes} "
            f"of {trials}"
        )
    from scipy.stats import binomtest  # takes a while to import

    found = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def bootstrap_interval(
    values: np.ndarray, seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean.

    Args:
        values: [n], independent observations; n at least 1.
        seed: of the resampling.
        resamples: how many.
    """
    from scipy.stats import bootstrap  # takes a while to import

    values = np.asarray(values, np.float64)
    if (values == values[0]).all():
        return float(values[0]), float(values[0])
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def mean_and_interval(values: Sequence[float]) -> str:
    """A mean and its bootstrap interval as text, "0.871 [0.832, 0.906]"."""
    low, high = bootstrap_interval(np.asarray(values))
    return f"{np.mean(values):.3f} [{low:.3f}, {high:.3f}]"


@dataclass(frozen=True)
class RetrievalQuality:
    """How well a class finds itself: each crop of the class is a query against all
    other crops.
    """

    label: str
    count: int  # crops of the class, so queries
    precision: float  # mean precision at k
    r_precision: float  # mean precision at (count - 1), the others to be found
    k: int
    standard_error: float  # of `precision`, over the queries

    @property
    def ceiling(self) -> float:
        """The highest precision at k that a class of this size allows."""
        return min(1.0, (self.count - 1) / self.k)


def retrieval_quality(
    vectors: np.ndarray,
    labels: np.ndarray,
    k: int,
    *,
    transform: Transform | None = None,
    place_of_id: np.ndarray | None = None,
    queries_at_once: int = 512,
) -> list[RetrievalQuality]:
    """Precision at k with every labeled crop as query against all others, by cosine,
    for each class.

    Args:
        vectors: [N, D] float, not normalized.
        labels: [N] str; "" is unlabeled: in the pool, never relevant, no query.
        k: from 1 to N - 1.
        transform: what makes unit vectors of them; default L2.
        place_of_id: [N] int, for ties; default: the place in `vectors`.
        queries_at_once: bounds the memory, queries_at_once x N scores.

    Returns:
        One entry per class with at least two crops, sorted by name. Their plain mean is
        the macro average.
    """
    count = len(vectors)
    if not 1 <= k < count:
        raise ValueError(f"k must be in [1, {count - 1}]; got {k}")
    unit = (transform or Transform())(vectors, np.float64)
    result = []
    for label in sorted(set(labels) - {""}):
        members = np.flatnonzero(labels == label)
        others = len(members) - 1
        if not others:
            continue
        precision, r_precision = [], []
        for start in range(0, len(members), queries_at_once):
            queries = members[start : start + queries_at_once]
            first = rank_first(unit, queries, max(k, others), place_of_id=place_of_id)
            hits = labels[first] == label
            precision.append(hits[:, :k].mean(axis=1))
            r_precision.append(hits[:, :others].mean(axis=1))
        each = np.concatenate(precision)
        result.append(
            RetrievalQuality(
                label,
                len(members),
                float(each.mean()),
                float(np.concatenate(r_precision).mean()),
                k,
                float(each.std(ddof=1) / np.sqrt(len(each))),
            )
        )
    return result


def macro(qualities: list[RetrievalQuality], figure: str = "precision") -> float:
    """Mean over classes of a figure of `RetrievalQuality`; NaN where there is
    no class.
    """
    values = [getattr(quality, figure) for quality in qualities]
    return float(np.mean(values)) if values else float("nan")


def macro_interval(
    qualities: list[RetrievalQuality], z: float = 1.96
) -> tuple[float, float]:
    """95 % normal interval of the macro average of the precision, over the choice of
    queries within each class.
    """
    half = (
        z
        * float(np.sqrt(sum(quality.standard_error**2 for quality in qualities)))
        / len(qualities)
    )
    return macro(qualities) - half, macro(qualities) + half
