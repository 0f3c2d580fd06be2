"""A simulated annotator, who marks by known labels: drives a `Session`, so that its
figures come from the loop that people use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curation.pool import Pool
from curation.query import Examples, Query
from curation.session import Session
from probe.estimate import should_stop
from probe.metrics import average_precision, precision_at_k
from probe.ranking import Ranking


@dataclass(frozen=True)
class SimulatedAnnotator:
    """Answers by known labels, some of the answers wrong."""

    relevant: np.ndarray  # [N] bool
    label_noise: float = 0.0  # share of answers that are wrong
    seed: int = 0

    def answers(self, rows: np.ndarray) -> np.ndarray:
        """[n] int -> [n] bool; the same row gets the same answer."""
        rng = np.random.default_rng([self.seed, 7])
        slips = rng.random(len(self.relevant)) < self.label_noise
        return (self.relevant ^ slips)[rows]


@dataclass(frozen=True)
class Round:
    """What a simulated session came to after some marks.

    Attributes:
        marks, found: how many, and how many relevant crops are among them.
        precision_all: P@k over everything but the query: the marked ones flatter it.
        precision_unmarked: P@k over crops nobody has marked: the honest figure; over
            all that are left where those are fewer, None where none is.
        unmarked: over how many that is; k, if so many are left.
        r_precision: precision of the top n over everything but the query, n = relevant
            crops.
        average_precision: over everything but the query.
        recall: share of the class among the marks and the best unmarked crops, as many
            as the class has.
        stop: whether the stop signal was given.
    """

    marks: int
    found: int
    precision_all: float
    precision_unmarked: float | None
    unmarked: int
    r_precision: float
    average_precision: float
    recall: float
    stop: bool


def simulate(
    pool: Pool,
    annotator: SimulatedAnnotator,
    query: int,
    *,
    rounds: int,
    per_round: int,
    k: int,
    strategy: str = "mix",
    method: str = "auto",
) -> Iterator[tuple[Round, Session]]:
    """Plays an annotator who marks.

    Args:
        pool: what is searched.
        annotator: whose answers count; figures are by the truth.
        query: row of the query; known to be relevant, so it counts as a relevant
            example for the probe but not as a mark, and no figure includes it.
        rounds, per_round, strategy: how much is marked and what is chosen; see
            `probe.query_strategies`.
        k: of the precisions.
        method: one of `probe.methods.METHODS`.

    Yields:
        After 0, 1, ... rounds: the figures, and the session as it is.
    """
    session = Session(
        pool, query=Query(Examples((query,))), method=method, seed=annotator.seed
    )
    decisions: list[np.ndarray] = []
    for done in range(rounds + 1):
        learned = session.learned()
        has_boundary = learned.kind == "decision"
        decisions = [*decisions, learned.decision > 0] if has_boundary else []
        marked = np.array(list(session.marks()), np.int64)
        stop = should_stop(decisions, len(marked))
        yield (
            measure(learned.ranking, annotator.relevant, marked, k, stop=stop),
            session,
        )
        if done < rounds:
            asked = session.suggest(per_round, strategy=strategy)
            rows = np.array(pool.rows(asked), np.int64)
            answers = annotator.answers(rows).tolist()
            if asked:
                session.mark(dict(zip(asked, answers, strict=True)), sort="ask")


def measure(
    ranking: Ranking, relevant: np.ndarray, marked: np.ndarray, k: int, *, stop: bool
) -> Round:
    """The figures of a ranking.

    Args:
        ranking: of everything but the query.
        relevant: [N] bool, the truth.
        marked: [m] int, rows.
        k: of the precisions.
        stop: whether the stop signal was given.
    """
    order = ranking.rows
    everything = relevant[order]
    unmarked = relevant[order[~np.isin(order, marked)]]
    size, found = int(everything.sum()), int(relevant[marked].sum())
    nan, left = float("nan"), min(k, len(unmarked))
    return Round(
        marks=len(marked),
        found=found,
        precision_all=precision_at_k(everything, k),
        precision_unmarked=precision_at_k(unmarked, left) if left else None,
        unmarked=left,
        r_precision=precision_at_k(everything, size) if size else nan,
        average_precision=average_precision(everything),
        recall=float((found + unmarked[:size].sum()) / size) if size else nan,
        stop=stop,
    )
