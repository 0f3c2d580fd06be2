"""Relevance feedback: what to mark next, and a simulated person to measure it with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probe.linear_probe import LinearProbe
from probe.metrics import average_precision, precision_at_k
from probe.search import CosineIndex, Hits
from probe.transforms import l2_normalize, mean_direction

POLICIES = ("boundary", "top", "mix")


@dataclass(frozen=True)
class Direction:
    """What the marks came to: score = unit vector . coef + intercept, larger is more relevant."""

    coef: np.ndarray  # [D]
    intercept: float
    probe: LinearProbe | None  # None while only relevant crops are known: then the score is a cosine


def learn(vectors: np.ndarray, relevant: np.ndarray, probe: LinearProbe | None = None) -> Direction:
    """Learns from what is known: a probe from marks of both kinds, the mean direction of relevant ones alone.

    Args:
        vectors: [m, D] float, the query and the marked crops, not normalised.
        relevant: [m] bool.
        probe: the estimator to fit; default `LinearProbe()`.

    Raises:
        ValueError: nothing is relevant.
    """
    if len(relevant) and np.all(relevant):
        return Direction(mean_direction(vectors).astype(np.float64), 0.0, None)
    fitted = (probe or LinearProbe()).fit(vectors, relevant)
    return Direction(fitted.coef_, fitted.intercept_, fitted)


@dataclass(frozen=True)
class Ranking:
    """Scores of all crops, larger is better, and whether zero is a decision boundary (a probe) or not (a cosine)."""

    scores: np.ndarray  # [N] float
    has_boundary: bool


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
class Reranked:
    """A pool ranked by what was learned from marks."""

    everything: Hits  # over all crops but the query
    unmarked: Hits  # over crops that nobody has marked
    direction: Direction  # scores are the probe's confidence from 0 to 1 where there is a probe, cosines otherwise


def rerank(
    index: CosineIndex,
    marks: Mapping[int, bool],
    examples: np.ndarray,
    example_rows: Sequence[int],
    k: int,
    seed: int = 0,
    hidden: Collection[int] = (),
) -> Reranked:
    """Learns from marks, with the query's examples as further relevant ones, and ranks everything.

    Args:
        index: the pool.
        marks: row -> relevant.
        examples: [q, D] float, the query's vectors; q may be 0.
        example_rows: rows of the examples that lie in the pool, which are the first ones; never ranked. A mark on one of
            them counts instead of the example.
        k: how many to return, of everything and of the unmarked; of the latter fewer where fewer are left.
        seed: of the probe's cross-validation.
        hidden: rows that are learned from where they are marked, but not ranked.
    """
    unseen = [place for place in range(len(examples)) if place >= len(example_rows) or example_rows[place] not in marks]
    vectors = np.concatenate([np.asarray(index.vectors[list(marks)]), examples[unseen]])
    direction = learn(vectors, np.array([*marks.values(), *[True] * len(unseen)]), LinearProbe(seed=seed))
    everything = index.search(direction.coef, k, {*example_rows, *hidden})[0]
    known = {*example_rows, *marks, *hidden}
    left = min(k, len(index) - len(known))
    unmarked = index.search(direction.coef, left, known)[0] if left else Hits(np.array([], np.int64), np.array([]))
    if direction.probe is None:
        return Reranked(everything, unmarked, direction)
    confident = [Hits(hits.rows, 1 / (1 + np.exp(-(hits.scores + direction.intercept)))) for hits in (everything, unmarked)]
    return Reranked(confident[0], confident[1], direction)


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
        direction = learn(vectors[known], relevant[known], make_probe())
        ranking = Ranking(unit @ direction.coef + direction.intercept, direction.probe is not None)
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
