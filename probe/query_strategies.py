"""What to mark next."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from probe.ranking import Ranking
from probe.transforms import sigmoid

STRATEGIES = ("mix", "diverse", "uncertainty", "top", "random")
CANDIDATE_FACTOR = 10  # how many candidates `diverse` chooses among, per crop asked for
RARE = 0.1  # share of relevant marks below which `mix` spends half on the best
_NOISE = 0.1  # of an answer, in the Gaussian process behind `diverse`


def suggest(
    ranking: Ranking,
    decision: np.ndarray,
    count: int,
    *,
    strategy: str = "mix",
    unit_vectors: Callable[[np.ndarray], np.ndarray] | None = None,
    known: np.ndarray | None = None,
    relevant: int = 0,
    seed: int = 0,
) -> np.ndarray:
    """Which crops to show next for marking.

    `top` takes the best. `uncertainty` takes those nearest to the decision boundary,
    where the probe knows least (uncertainty sampling; Lewis and Gale, 1994), and the
    best while there is no probe. `diverse` takes, among ten times as many near the
    boundary, those that tell most together: one after the other the crop about which
    most is unknown, given all marked and chosen ones, so that no two near-duplicates
    are asked for. `random` takes any. `mix` is `diverse`, but spends half on the best
    while fewer than one mark in ten is relevant: a rare class has to be found before
    its boundary means anything.

    Args:
        ranking: of the crops that may be asked for.
        decision: [N] float, scores of all crops, on the ranking's scale.
        count: how many.
        strategy: one of STRATEGIES.
        unit_vectors: rows -> unit vectors [n, d] of them; for diverse and mix.
        known: [m] int, rows that are known already; for diverse and mix.
        relevant: how many of them are relevant; for mix.
        seed: of random.

    Returns:
        [at most count] int rows of the ranking.
    """
    if strategy not in STRATEGIES:
        raise ValueError(
            f"query_strategy must be one of {', '.join(STRATEGIES)}; got {strategy!r}"
        )
    if count < 1:
        raise ValueError(f"count must be at least 1; got {count}")
    if strategy in ("diverse", "mix") and unit_vectors is None:
        raise ValueError(f"unit_vectors must be given for the strategy {strategy}")
    if strategy == "random":
        rows = np.delete(np.arange(len(decision)), ranking.excluded)
        return np.random.default_rng(seed).permutation(rows)[:count]
    best = ranking.page(0, count * (1 + CANDIDATE_FACTOR)).rows
    if strategy == "top":
        return best[:count]
    nearest = best
    if ranking.kind == "decision":
        nearest = np.argsort(np.abs(decision), kind="stable")
        nearest = nearest[~np.isin(nearest, ranking.excluded)]
    if strategy == "uncertainty":
        return nearest[:count]
    known = np.array([] if known is None else known, np.int64)
    rare = strategy == "mix" and relevant < RARE * len(known)
    half = best[: (count + 1) // 2 if rare else 0]
    rest = nearest[~np.isin(nearest, half)]
    rest = rest[: CANDIDATE_FACTOR * (count - len(half))]
    certainty = None
    if ranking.kind == "decision":
        certainty = sigmoid(decision.astype(np.float64))
    known = np.append(known, half)
    told = _most_telling(unit_vectors, known, rest, count - len(half), certainty)
    return np.append(half, told)


def _most_telling(
    unit_vectors,
    known: np.ndarray,
    candidates: np.ndarray,
    count: int,
    certainty: np.ndarray | None,
) -> np.ndarray:
    """Greedy choice by the variance that is left, given what is known, in a Gaussian
    process with the cosine as its kernel.

    Each row is weighted by sqrt(p (1 - p)), which makes it the design that shrinks a
    logistic regression's uncertainty most (D-optimal, greedily). Conditioning on a row
    i takes V[:, i] V[i, :] / (V[i, i] + noise) off the covariance V.
    """
    rows = np.concatenate([known, candidates]).astype(np.int64)
    vectors = unit_vectors(rows).astype(np.float64)
    certain = np.full(len(rows), 0.5) if certainty is None else certainty[rows]
    vectors *= (np.sqrt(certain * (1 - certain)) + 1e-3)[:, None]
    covariance = vectors @ vectors.T
    # All known rows at once; then one candidate after the other.
    given = covariance[: len(known), : len(known)] + _NOISE * np.eye(len(known))
    across = covariance[: len(known), len(known) :]
    left = covariance[len(known) :, len(known) :] - across.T @ np.linalg.solve(
        given, across
    )
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        variance = np.diag(left).copy()
        variance[chosen] = -np.inf
        pick = int(np.argmax(variance))
        chosen.append(pick)
        left = left - np.outer(left[:, pick], left[pick]) / (left[pick, pick] + _NOISE)
    return candidates[chosen]
