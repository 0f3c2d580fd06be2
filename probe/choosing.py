"""What to mark next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from probe.transforms import confidence_of

POLICIES = ("mix", "diverse", "boundary", "top", "random")
POOL = 10  # times the marks asked for: how many candidates `diverse` chooses among
# share of relevant marks below which `mix` spends half of its questions on the best
RARE = 0.1
_NOISE = 0.1  # of an answer, in the Gaussian process behind `diverse`


@dataclass(frozen=True)
class Ranking:
    """Scores of all crops, larger is better, and whether zero is a decision boundary (a
    probe) or not (a cosine).
    """

    scores: np.ndarray  # [N] float
    has_boundary: bool


def choose_marks(
    ranking: Ranking,
    closed: np.ndarray,
    count: int,
    policy: str = "mix",
    unit: Callable[[np.ndarray], np.ndarray] | None = None,
    marked: np.ndarray | None = None,
    relevant: int = 0,
    seed: int = 0,
) -> np.ndarray:
    """Which crops to show next for marking.

    `top` takes the best. `boundary` takes those nearest to the decision boundary, where
    the probe knows least (uncertainty sampling; Lewis and Gale, 1994), and the best
    while there is no probe. `diverse` takes, among ten times as many near the boundary,
    those that tell most together: one after the other the crop about which most is
    unknown, given all marked and chosen ones, so that no two near-duplicates are asked
    for. `random` takes any. `mix` is `diverse`, but spends half on the best while fewer
    than one mark in ten is relevant: a rare class has to be found before its boundary
    means anything.

    Args:
        ranking: of all N crops.
        closed: [N] bool, crops that are marked already or must not be asked for.
        count: how many.
        policy: one of POLICIES.
        unit: rows -> unit vectors [n, d] of them; needed by diverse and mix.
        marked: [m] int, rows that are known already; used by diverse and mix.
        relevant: how many of them are relevant; used by mix.
        seed: of random.

    Returns:
        [at most count] int rows, none of them closed.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}; got {policy!r}")
    if count < 1:
        raise ValueError(f"count must be at least 1; got {count}")
    if policy in ("diverse", "mix") and unit is None:
        raise ValueError(f"unit must be given for the policy {policy}")
    if policy == "random":
        return np.random.default_rng(seed).permutation(np.flatnonzero(~closed))[:count]
    best = np.argsort(-ranking.scores, kind="stable")
    best = best[~closed[best]]
    nearest = best
    if ranking.has_boundary:
        nearest = np.argsort(np.abs(ranking.scores), kind="stable")
        nearest = nearest[~closed[nearest]]
    if policy == "top":
        return best[:count]
    if policy == "boundary":
        return nearest[:count]
    known = np.array([] if marked is None else marked, np.int64)
    rare = policy == "mix" and relevant < RARE * len(known)
    half = best[: (count + 1) // 2 if rare else 0]
    rest = nearest[~np.isin(nearest, half)][: POOL * (count - len(half))]
    return np.append(
        half,
        _most_telling(ranking, unit, np.append(known, half), rest, count - len(half)),
    )


def _most_telling(
    ranking: Ranking, unit, known: np.ndarray, candidates: np.ndarray, count: int
) -> np.ndarray:
    """Greedy choice by the variance that is left, given what is known, in a Gaussian
    process with the cosine as its kernel.

    Each row is weighted by sqrt(p (1 - p)), which makes it the design that shrinks a
    logistic regression's uncertainty most (D-optimal, greedily). Conditioning on a row
    i takes V[:, i] V[i, :] / (V[i, i] + noise) off the covariance V.
    """
    rows = np.concatenate([known, candidates]).astype(np.int64)
    vectors = unit(rows).astype(np.float64)
    certain = (
        confidence_of(ranking.scores[rows])
        if ranking.has_boundary
        else np.full(len(rows), 0.5)
    )
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
