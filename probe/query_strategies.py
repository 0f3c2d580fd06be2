"""What to mark next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from probe.ranking import Ranking
from probe.transforms import sigmoid

CANDIDATE_FACTOR = 10  # how many candidates `diverse` chooses among, per crop asked for
RARE = 0.1  # share of relevant marks below which `mix` spends half on the best
_NOISE = 0.1  # of an answer, in the Gaussian process behind `diverse`


@dataclass(frozen=True)
class _Pile:
    """What may be asked for and what is known; see `suggest`."""

    ranking: Ranking
    decision: np.ndarray
    unit_vectors: Callable[[np.ndarray], np.ndarray] | None
    known: np.ndarray
    relevant: int
    seed: int

    def best(self, count: int) -> np.ndarray:
        return self.ranking.page(0, count).rows

    def nearest(self, count: int) -> np.ndarray:
        """Those nearest to the boundary; the best while there is none."""
        if self.ranking.kind != "decision":
            return self.best(count)
        rows = np.argsort(np.abs(self.decision), kind="stable")
        return rows[~np.isin(rows, self.ranking.excluded)][:count]


def _top(pile: _Pile, count: int) -> np.ndarray:
    """The best."""
    return pile.best(count)


def _uncertainty(pile: _Pile, count: int) -> np.ndarray:
    """Those nearest to the decision boundary, where the probe knows least (uncertainty
    sampling; Lewis and Gale, 1994), and the best while there is no probe.
    """
    return pile.nearest(count)


def _random(pile: _Pile, count: int) -> np.ndarray:
    """Any."""
    rows = np.delete(np.arange(len(pile.decision)), pile.ranking.excluded)
    return np.random.default_rng(pile.seed).permutation(rows)[:count]


def _diverse(pile: _Pile, count: int, first: int = 0) -> np.ndarray:
    """Among ten times as many near the boundary those that tell most together: one
    after the other the crop about which most is unknown, given all marked and chosen
    ones, so that no two near-duplicates are asked for. Before them, the `first` best.
    """
    if pile.unit_vectors is None:
        raise ValueError("unit_vectors must be given for the strategies diverse, mix")
    taken = pile.best(first)
    left = count - len(taken)
    candidates = pile.nearest(CANDIDATE_FACTOR * left + len(taken))
    candidates = candidates[~np.isin(candidates, taken)][: CANDIDATE_FACTOR * left]
    certainty = None
    if pile.ranking.kind == "decision":
        certainty = sigmoid(pile.decision.astype(np.float64))
    known = np.append(pile.known, taken)
    told = _most_telling(pile.unit_vectors, known, candidates, left, certainty)
    return np.append(taken, told)


def _mix(pile: _Pile, count: int) -> np.ndarray:
    """As `diverse`, but half of it the best while fewer than one mark in ten is
    relevant: a rare class has to be found before its boundary means anything.
    """
    rare = pile.relevant < RARE * len(pile.known)
    return _diverse(pile, count, first=(count + 1) // 2 if rare else 0)


STRATEGIES = {
    "mix": _mix,
    "diverse": _diverse,
    "uncertainty": _uncertainty,
    "top": _top,
    "random": _random,
}


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

    A strategy is a function here, named in STRATEGIES.

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
    known = np.array([] if known is None else known, np.int64)
    pile = _Pile(ranking, decision, unit_vectors, known, relevant, seed)
    return STRATEGIES[strategy](pile, count)


def _most_telling(
    unit_vectors: Callable[[np.ndarray], np.ndarray],
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
    told, asked = vectors[: len(known)], vectors[len(known) :]
    # All known rows at once; then one candidate after the other.
    if len(told) <= told.shape[1]:
        across = told @ asked.T
        given = told @ told.T + _NOISE * np.eye(len(told))
        left = asked @ asked.T - across.T @ np.linalg.solve(given, across)
    else:  # the same by Woodbury's identity
        given = told.T @ told + _NOISE * np.eye(told.shape[1])
        left = _NOISE * asked @ np.linalg.solve(given, asked.T)
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        variance = np.diag(left).copy()
        variance[chosen] = -np.inf
        pick = int(np.argmax(variance))
        chosen.append(pick)
        left = left - np.outer(left[:, pick], left[pick]) / (left[pick, pick] + _NOISE)
    return candidates[chosen]
