"""Relevance feedback: what to mark next, and a simulated person to measure it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from probe.linear_probe import LinearProbe
from probe.metrics import average_precision, precision_at_k
from probe.transforms import l2_normalize

POLICIES = ("boundary", "top", "mix")


@dataclass(frozen=True)
class Ranking:
    """Scores of all crops, larger is better, and whether zero is a decision boundary (a probe) or not (a cosine)."""

    scores: np.ndarray  # [N] float
    has_boundary: bool


def rank(unit: np.ndarray, query: np.ndarray, rows: np.ndarray, relevant: np.ndarray, probe: LinearProbe | None = None) -> Ranking:
    """Ranks a pool by what is known: by a probe where the marks hold both kinds, by cosine to the query until then.

    Args:
        unit: [N, D] float32 unit vectors.
        query: [D] unit vector.
        rows: [m] int, the marked rows.
        relevant: [m] bool.
        probe: the estimator to fit; default `LinearProbe()`.
    """
    if relevant.any() and not relevant.all():
        probe = (probe or LinearProbe()).fit(unit[rows], relevant)
        return Ranking(unit @ probe.coef_ + probe.intercept_, True)
    return Ranking((unit @ query).astype(np.float64), False)


def choose_marks(ranking: Ranking, marked: np.ndarray, count: int, policy: str) -> np.ndarray:
    """Which crops to show next for marking.

    `top` takes the best; `boundary` those nearest to the decision boundary, where the probe knows least (uncertainty
    sampling; Lewis and Gale, 1994), and the best while there is no probe; `mix` half of each.

    Args:
        ranking: of all N crops.
        marked: [N] bool, crops that are marked already or must not be asked for.
        count: how many.
        policy: one of POLICIES.

    Returns:
        [at most count] int rows, none of them marked.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}; got {policy!r}")
    if count < 1:
        raise ValueError(f"count must be at least 1; got {count}")
    best = np.argsort(-ranking.scores, kind="stable")
    nearest = np.argsort(np.abs(ranking.scores), kind="stable") if ranking.has_boundary else best
    if policy == "top":
        order = best
    elif policy == "boundary":
        order = nearest
    else:
        half = best[~marked[best]][: count // 2]
        order = np.concatenate([half, nearest[~np.isin(nearest, half)]])
    return order[~marked[order]][:count]


@dataclass(frozen=True)
class Round:
    """What a simulated session came to after some marks."""

    marks: int
    found: int  # relevant crops among the marks
    precision_all: float  # P@k over everything but the query: the marked ones flatter it
    precision_unmarked: float  # P@k over crops nobody has marked: the honest figure
    r_precision: float  # precision of the top n over everything but the query, n = relevant crops
    average_precision: float  # over everything but the query


def simulate(
    vectors: np.ndarray,
    relevant: np.ndarray,
    query: int,
    rounds: int,
    per_round: int,
    policy: str,
    k: int,
    make_probe: Callable[[], LinearProbe] = LinearProbe,
) -> Iterator[tuple[Round, np.ndarray, Ranking]]:
    """Plays a person who marks by known labels.

    Args:
        vectors: [N, D] float.
        relevant: [N] bool, the person's answers.
        query: row of the query; known to be relevant, so it counts as a relevant example for the probe but not as a
            mark, and no figure includes it.
        rounds, per_round, policy: how much is marked and what is chosen; see `choose_marks`.
        k: of the precisions.
        make_probe: builds the estimator of a round.

    Yields:
        After 0, 1, ... rounds: the figures, the rows marked so far in order, the ranking.
    """
    unit = l2_normalize(vectors)
    others = np.arange(len(unit)) != query
    rows = np.array([], np.int64)
    for done in range(rounds + 1):
        known = np.append(rows, query)
        ranking = rank(unit, unit[query], known, relevant[known], make_probe())
        yield _measure(ranking, relevant, others, rows, k), rows, ranking
        if done < rounds:
            marked = ~others
            marked[rows] = True
            rows = np.append(rows, choose_marks(ranking, marked, per_round, policy))


def _measure(ranking: Ranking, relevant: np.ndarray, others: np.ndarray, rows: np.ndarray, k: int) -> Round:
    order = np.argsort(-ranking.scores, kind="stable")
    order = order[others[order]]
    everything = relevant[order]
    unmarked = relevant[order[~np.isin(order, rows)]]
    return Round(
        marks=len(rows),
        found=int(relevant[rows].sum()),
        precision_all=precision_at_k(everything, k),
        precision_unmarked=precision_at_k(unmarked, k) if len(unmarked) >= k else float("nan"),
        r_precision=precision_at_k(everything, int(everything.sum())) if everything.any() else float("nan"),
        average_precision=average_precision(everything),
    )
