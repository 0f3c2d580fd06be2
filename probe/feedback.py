"""Relevance feedback: marks in, a ranking out; and a simulated person to measure it
with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probe.choosing import Ranking, choose_marks
from probe.estimate import should_stop
from probe.methods import BACKGROUND, Direction, learn
from probe.metrics import average_precision, precision_at_k
from probe.search import CosineIndex, Hits
from probe.transforms import confidence_of, mean_direction, sample_rows


@dataclass(frozen=True)
class Reranked:
    """A pool ranked by what was learned from marks."""

    everything: Hits  # over all crops but the query
    unmarked: Hits  # over crops that nobody has marked
    # scores are the probe's confidence from 0 to 1 where there is a probe, cosines
    # otherwise
    direction: Direction


def learn_from(
    index: CosineIndex,
    marks: Mapping[int, bool],
    examples: np.ndarray,
    example_rows: Sequence[int] = (),
    method: str = "auto",
    seed: int = 0,
) -> Direction:
    """Learns from marks, with the query's examples as further relevant ones.

    Args:
        index: the pool.
        marks: row -> relevant.
        examples: [q, D] float, the query's embeddings; q may be 0.
        example_rows: rows of the examples that lie in the pool, which are the first
            ones. A mark on one of them counts instead of the example.
        method: one of METHODS.
        seed: of the random crops that stand for what isn't relevant while marks are
            few.
    """
    unseen = [
        place
        for place in range(len(examples))
        if place >= len(example_rows) or example_rows[place] not in marks
    ]
    known = index.transform(examples[unseen])
    vectors = np.concatenate([index.unit(list(marks)), known])
    query = mean_direction(known) if len(known) else None
    random_rows = np.setdiff1d(
        sample_rows(len(index), BACKGROUND, seed), [*marks, *example_rows]
    )
    answers = np.array([*marks.values(), *[True] * len(unseen)])
    return learn(vectors, answers, method, query, index.unit(random_rows))


def rerank(
    index: CosineIndex,
    marks: Mapping[int, bool],
    examples: np.ndarray,
    example_rows: Sequence[int],
    k: int,
    seed: int = 0,
    hidden: Collection[int] = (),
    method: str = "auto",
    ascending: bool = False,
) -> Reranked:
    """Learns from marks, see `learn_from`, and ranks everything but the query.

    Args:
        k: how many to return, of everything and of the unmarked; of the latter fewer
            where fewer are left.
        hidden: rows that are learned from where they are marked, but not ranked.
        ascending: the worst first.
    """
    direction = learn_from(index, marks, examples, example_rows, method, seed)
    return apply(index, direction, marks, {*example_rows, *hidden}, k, ascending)


def apply(
    index: CosineIndex,
    direction: Direction,
    marks: Collection[int],
    left_out: Collection[int],
    k: int,
    ascending: bool = False,
) -> Reranked:
    """Ranks everything that isn't left out by a direction; with a probe, scores are its
    confidence.
    """
    everything = index.search(direction.coef, k, left_out, ascending=ascending)[0]
    known = {*left_out, *marks}
    left = min(k, len(index) - len(known))
    unmarked = Hits(np.array([], np.int64), np.array([]))
    if left:
        unmarked = index.search(direction.coef, left, known, ascending=ascending)[0]
    if not direction.has_boundary:
        return Reranked(everything, unmarked, direction)
    confident = [
        Hits(hits.rows, confidence_of(hits.scores + direction.intercept))
        for hits in (everything, unmarked)
    ]
    return Reranked(confident[0], confident[1], direction)


def ranking_of(index: CosineIndex, direction: Direction) -> Ranking:
    """All crops scored by a direction."""
    return Ranking(
        index.scores(direction.coef)[0] + direction.intercept, direction.has_boundary
    )


@dataclass(frozen=True)
class Round:
    """What a simulated session came to after some marks."""

    marks: int
    found: int  # relevant crops among the marks
    precision_all: (
        float  # P@k over everything but the query: the marked ones flatter it
    )
    precision_unmarked: float  # P@k over crops nobody has marked: the honest figure
    # precision of the top n over everything but the query, n = relevant crops
    r_precision: float
    average_precision: float  # over everything but the query
    # share of the class among the marks and the best unmarked crops, as many as the
    # class has
    recall: float
    stop: bool  # the stop signal was given


@dataclass(frozen=True)
class Person:
    """A simulated person: answers by known labels, some of the answers wrong."""

    relevant: np.ndarray  # [N] bool
    wrong: float = 0.0  # share of answers that are
    seed: int = 0

    def answers(self, rows: np.ndarray) -> np.ndarray:
        """[n] int -> [n] bool; the same row gets the same answer."""
        slips = (
            np.random.default_rng([self.seed, 7]).random(len(self.relevant))
            < self.wrong
        )
        return (self.relevant ^ slips)[rows]


def simulate(
    index: CosineIndex,
    person: Person,
    query: int,
    rounds: int,
    per_round: int,
    policy: str,
    k: int,
    method: str = "auto",
) -> Iterator[tuple[Round, np.ndarray, Ranking]]:
    """Plays a person who marks.

    Args:
        index: the pool.
        person: whose answers count; figures are by the truth.
        query: row of the query; known to be relevant, so it counts as a relevant
            example for the probe but not as a mark, and no figure includes it.
        rounds, per_round, policy: how much is marked and what is chosen; see
            `choose_marks`.
        k: of the precisions.
        method: one of METHODS.

    Yields:
        After 0, 1, ... rounds: the figures, the rows marked so far in order, the
            ranking.
    """
    others = np.arange(len(index)) != query
    marks: dict[int, bool] = {}
    decisions: list[np.ndarray] = []
    example = np.asarray(index.vectors[[query]])
    for done in range(rounds + 1):
        direction = learn_from(index, marks, example, [query], method, person.seed)
        ranking = ranking_of(index, direction)
        rows = np.array(list(marks), np.int64)
        decisions = [*decisions, ranking.scores > 0] if direction.has_boundary else []
        yield (
            _measure(ranking, person.relevant, others, rows, k, should_stop(decisions)),
            rows,
            ranking,
        )
        if done < rounds:
            closed = ~others
            closed[rows] = True
            found = sum(marks.values())
            chosen = choose_marks(
                ranking,
                closed,
                per_round,
                policy,
                index.unit,
                np.append(rows, query),
                found,
                person.seed + done,
            )
            marks.update(
                zip(chosen.tolist(), person.answers(chosen).tolist(), strict=True)
            )


def _measure(
    ranking: Ranking,
    relevant: np.ndarray,
    others: np.ndarray,
    rows: np.ndarray,
    k: int,
    stop: bool,
) -> Round:
    order = np.argsort(-ranking.scores, kind="stable")
    order = order[others[order]]
    everything = relevant[order]
    unmarked = relevant[order[~np.isin(order, rows)]]
    size, found = int(everything.sum()), int(relevant[rows].sum())
    return Round(
        marks=len(rows),
        found=found,
        precision_all=precision_at_k(everything, k),
        precision_unmarked=precision_at_k(unmarked, k)
        if len(unmarked) >= k
        else float("nan"),
        r_precision=precision_at_k(everything, size) if size else float("nan"),
        average_precision=average_precision(everything),
        recall=float((found + unmarked[:size].sum()) / size) if size else float("nan"),
        stop=stop,
    )
