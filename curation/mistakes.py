"""A second look: marks and labels that the others contradict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curation.pool import Pool
from curation.query import Examples
from data.where import rows_where
from probe.mistakes import contradictions, decisions_of_others

if TYPE_CHECKING:
    from curation.session import Session

FEW = 3  # of a kind, from which one can be told from the others


def doubtful_marks(session: Session) -> dict[int, float]:
    """row -> log odds against its mark, of marks that a probe which didn't see them
    contradicts; the least likely first. Examples of the query help to tell, and aren't
    doubted. None while there are fewer than 3 of a kind: a mark without its like can
    but be contradicted.
    """
    marks = session.marks()
    answers = np.array([*marks.values()], bool)
    given = session.query_of().examples
    unmarked = tuple(row for row in given.rows if row not in marks)
    examples = Examples(unmarked, given.outside, given.files)
    known = np.append(answers, np.ones(len(examples), bool))
    if min(known.sum(), (~known).sum()) < FEW or not marks:
        return {}
    index = session.pool.similar
    vectors = [index.unit_vectors(list(marks))]
    if len(examples):
        vectors.append(index.transform(examples.vectors(session.pool, similar=True)))
    against = contradictions(np.concatenate(vectors), known)[: len(marks)]
    order = np.argsort(-against, kind="stable")
    rows = list(marks)
    return {rows[i]: float(against[i]) for i in order if against[i] > 0}


@dataclass(frozen=True)
class DoubtfulLabel:
    """A crop whose label contradicts those of the others.

    Attributes:
        row: of the crop.
        label: what it is called.
        suggested: what it looks like rather.
        odds: how much rather, as log odds.
    """

    row: int
    label: str
    suggested: str
    odds: float


def doubtful_labels(
    pool: Pool, *, where: str = "", seed: int = 0
) -> list[DoubtfulLabel]:
    """Crops that a probe of their own class against the rest, which didn't see them,
    rejects, and one of another class takes; the clearest first. Classes of fewer than 3
    crops are left out: a crop without its like can but be contradicted.

    Raises:
        ValueError: fewer than two classes are left among the crops.
    """
    labels = pool.table.column("label_name")
    known = labels != ""
    if where:
        known &= rows_where(pool.table, where)
    names, counts = np.unique(labels[known], return_counts=True)
    known &= ~np.isin(labels, names[counts < FEW])
    rows = np.flatnonzero(known)
    classes, place = np.unique(labels[rows], return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"mistakes need two classes of {FEW} crops or more to hold against one "
            f"another; got {', '.join(classes) or 'none'}"
        )
    index = pool.similar
    decisions = decisions_of_others(
        lambda some: index.unit_vectors(rows[some]),
        labels[rows],
        classes.tolist(),
        seed=seed,
    )
    crops = np.arange(len(rows))
    own = decisions[place, crops]
    decisions[place, crops] = -np.inf
    best = decisions.argmax(axis=0)
    other = decisions[best, crops]
    doubtful = np.flatnonzero((own < 0) & (other > 0))
    doubtful = doubtful[np.argsort(own[doubtful] - other[doubtful], kind="stable")]
    return [
        DoubtfulLabel(
            int(rows[i]),
            str(classes[place[i]]),
            str(classes[best[i]]),
            float(other[i] - own[i]),
        )
        for i in doubtful
    ]
