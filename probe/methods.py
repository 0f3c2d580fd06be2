"""Methods: from a query and marks to the direction that everything is ranked by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probe.transforms import l2_normalize, mean_direction

METHODS = ("auto", "cosine", "rocchio", "logistic", "pulled")
FEW = 50  # marks of each kind from which `auto` trusts a logistic regression alone
BACKGROUND = 50  # random crops that `pulled` takes as weak negatives
PULL = 2.0
ROCCHIO_NEGATIVE = 0.5
WORTH_COMPARING = (
    5  # marks of each kind from which `auto` holds the probe against cosine
)


@dataclass(frozen=True)
class Direction:
    """What the marks came to: score = unit vector . coef + intercept, larger is more
    relevant.
    """

    coef: np.ndarray  # [d] float64
    intercept: float = 0.0
    method: str = "cosine"  # one of METHODS but auto
    C: float | None = None
    reason: str = ""  # why `auto` chose it

    @property
    def has_boundary(self) -> bool:
        """Whether zero is a decision boundary; a cosine has none."""
        return self.method in ("logistic", "pulled")


def learn(
    vectors: np.ndarray,
    relevant: np.ndarray,
    method: str = "auto",
    query: np.ndarray | None = None,
    background: np.ndarray | None = None,
    C: float | None = None,
) -> Direction:
    """Learns a direction from what is known.

    `cosine`: the query's (without one the mean of the relevant marks). `rocchio`: mean
    of the relevant minus half the mean of the others (Rocchio, 1971). `logistic`:
    `LinearProbe`; while nothing is marked as not relevant, the mean of the relevant.
    `pulled`: `LinearProbe` pulled towards the query, with random crops of the pool as
    weak negatives. `auto`: pulled while either kind has fewer than 50 marks, logistic
    from there; and cosine where the probe, cross-validated, orders the marks worse by
    more than chance would. Without a query nothing is pulled and there is no cosine to
    compare with.

    Args:
        vectors: [m, d] float, the query's examples and the marked crops, as unit
            vectors of a `Transform`.
        relevant: [m] bool.
        method: one of METHODS.
        query: [d] float; default: the mean direction of the relevant ones.
        background: [b, d] float, random crops of the pool; without it `pulled` has no
            weak negatives.
        C: of the probe; None chooses.

    Raises:
        ValueError: nothing is relevant.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    relevant = np.asarray(relevant, bool)
    if not relevant.any():
        kinds = (
            f"all {len(relevant)} are not relevant"
            if len(relevant)
            else "there are none"
        )
        raise ValueError(
            "marks must hold at least one relevant crop, or a query must be given; "
            f"{kinds}"
        )
    towards = np.asarray(
        mean_direction(vectors[relevant]) if query is None else query, np.float64
    )
    if method == "auto":
        return _choose(vectors, relevant, query is not None, towards, background, C)
    if method == "cosine":
        return Direction(towards)
    mean = mean_direction(vectors[relevant]).astype(np.float64)
    if method == "rocchio":
        away = (
            l2_normalize(vectors[~relevant], np.float64).mean(axis=0)
            if not relevant.all()
            else 0.0
        )
        return Direction(mean - ROCCHIO_NEGATIVE * away, method=method)
    pulled = method == "pulled"
    if relevant.all() and not (pulled and background is not None and len(background)):
        return Direction(mean)
    return _fit(
        vectors, relevant, method, towards if query is not None else None, background, C
    )[0]


def _fit(
    vectors, relevant, method, query, background, C
) -> tuple[Direction, np.ndarray]:
    from probe.linear_probe import LinearProbe  # scikit-learn takes a while to import

    pulled = method == "pulled"
    anchor = (
        query if pulled else None
    )  # never the mean of the marks: each would be pulled to by its own answer
    probe = LinearProbe(C, PULL if anchor is not None else 0.0)
    probe.fit(vectors, relevant, background if pulled else None, anchor)
    return Direction(probe.coef_, probe.intercept_, method, probe.C_), probe.left_out_


def _choose(vectors, relevant, has_query, towards, background, C) -> Direction:
    smaller = int(min(relevant.sum(), (~relevant).sum()))
    if len(relevant) <= 1 or (
        smaller == 0 and not (background is not None and len(background))
    ):
        return Direction(
            mean_direction(vectors[relevant]).astype(np.float64),
            reason="no mark tells what isn't relevant",
        )
    method = "pulled" if smaller < FEW else "logistic"
    direction, left_out = _fit(
        vectors, relevant, method, towards if has_query else None, background, C
    )
    if not has_query:
        return Direction(
            direction.coef,
            direction.intercept,
            method,
            direction.C,
            "no query to compare with",
        )
    cosines = l2_normalize(vectors) @ towards
    judged = cosines < 1 - 1e-6  # not the query itself, which is its own neighbour
    smaller = int(min((relevant & judged).sum(), (~relevant & judged).sum()))
    if smaller < WORTH_COMPARING:
        return Direction(
            direction.coef,
            direction.intercept,
            method,
            direction.C,
            "too few marks to compare",
        )
    probe, cosine = (
        ordering(left_out[judged], relevant[judged]),
        ordering(cosines[judged], relevant[judged]),
    )
    compared = (
        f"cross-validated, the probe puts {probe:.2f} of the pairs of marks in order, "
        f"cosine {cosine:.2f}"
    )
    # Marks near the boundary are hard to put in order for any method: a difference must
    # be larger than chance would make it.
    mean = (probe + cosine) / 2
    if cosine > probe + 2 * np.sqrt(max(mean * (1 - mean), 0.25 / smaller) / smaller):
        return Direction(towards, reason=compared)
    return Direction(direction.coef, direction.intercept, method, direction.C, compared)


def ordering(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Share of pairs (relevant, not relevant) that the scores put in order, ties half:
    the area under the ROC curve.
    """
    difference = scores[relevant][:, None] - scores[~relevant][None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))
