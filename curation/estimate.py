"""What an audit says of a class: the figures of `probe.estimate` for a session."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curation.journal import State
from probe.estimate import Audit, Interval, cuts_of, parts_of, stratify

if TYPE_CHECKING:
    from curation.session import Learned, Session


TOP = 50  # of a ranking by cosine, what counts as found while nothing is set


@dataclass(frozen=True)
class Estimate:
    """What is known of a class; None where it isn't.

    Attributes:
        drawn, answered: crops of the audit's sample.
        ranking: number of the one that it is about.
        learned: whether its answers were learned from since: then it is about the
            ranking that they were drawn for, and has aged.
        current: whether it is about the ranking that was asked for, with the marks
            there are.
        size: relevant crops among those that the session searches, the query among
            them.
        population: how many those are.
        rate: size / population.
        count: unmarked crops from the threshold on.
        precision, recall: of those; recall with what is known to be relevant besides.
        taken: crops of the class, by the one rule; see `curation.selection.choose`.
        precision_of_taken: of those.
        grown_by: crops that have come to the pool since the sample was drawn; all
            figures are of the pool as it was then.
    """

    drawn: int
    answered: int
    ranking: int | None = None
    learned: bool | None = None
    current: bool | None = None
    size: Interval | None = None
    population: int | None = None
    rate: Interval | None = None
    count: int | None = None
    precision: Interval | None = None
    recall: Interval | None = None
    taken: int | None = None
    precision_of_taken: Interval | None = None
    grown_by: int = 0

    def __repr__(self) -> str:
        stated = dataclasses.fields(self)
        known = {one.name: getattr(self, one.name) for one in stated}
        if not self.grown_by:
            del known["grown_by"]
        told = [f"{name}={one}" for name, one in known.items() if one is not None]
        return f"Estimate({', '.join(told)})"

    def for_card(self) -> Mapping[str, object] | None:
        """What a card says, as JSON; None where the sample is of another ranking, or
        of a pool that has grown since.
        """
        if not self.current or self.precision is None or self.grown_by:
            return None
        names = ("precision", "precision_of_taken", "recall", "size", "rate")
        intervals = {name: getattr(self, name) for name in names}
        return facts_of_audit(intervals, self.count or 0, self.drawn)


def facts_of_audit(
    intervals: Mapping[str, Interval | None], count: int, sample: int
) -> Mapping[str, object]:
    """What cards and probes say of an audit, as JSON.

    Args:
        intervals: by what they are of.
        count: unmarked crops from the threshold on.
        sample: crops that were drawn.
    """
    return {
        **{name: one and dataclasses.asdict(one) for name, one in intervals.items()},
        "of": f"{count} crops from the threshold on that nobody had marked",
        "confidence": 0.95,
        "sample": sample,
    }


@dataclass(frozen=True)
class Sample:
    """A random sample as it was drawn, and what was answered.

    Attributes:
        population: [n] int, rows that it was drawn from: searched and not marked.
        strata: [N] int, by which it was drawn; -1 outside of the population.
        answers: row -> relevant, of all that were drawn.
        known: row -> relevant, of what was marked before.
        passed: rows of it that would have been marked since, had they not been drawn.
    """

    population: np.ndarray
    strata: np.ndarray
    answers: Mapping[int, bool]
    known: Mapping[int, bool]
    passed: Sequence[int] = ()


def population_of(
    session: Session, learned: Learned, state: State, drawn_by: str
) -> tuple[np.ndarray, np.ndarray]:
    """The population of an audit, best first, and the stratum of every crop, -1 outside
    of it. Marked crops and the query aren't in it.
    """
    mask = session.searched.copy()
    # Version 0.11.0 and earlier forgot the answers of the audits before.
    before = session.answers(state) if drawn_by else session.prior_answers
    mask[[*session.marks(state), *before]] = False
    order = learned.ranking.rows
    population = order[mask[order]]
    predicted = predicted_positive(session, learned, population)
    strata = stratify(population, len(mask), predicted, drawn_by or "rank")
    return population, strata


def predicted_positive(
    session: Session, learned: Learned, population: np.ndarray
) -> int:
    """How many of some crops a ranking takes for relevant; by cosine the first 50."""
    if learned.kind != "decision":
        return min(TOP, len(population))
    tolerance = session.pool.index.tolerance(learned.ranker)
    return int((learned.decision[population] >= -tolerance).sum())


def sample_of(session: Session) -> Sample | None:
    """A session's sample, if all of it is answered."""
    state = session.state
    line = state.audit
    if line is None or set(state.answers) != set(line.rows):
        return None
    before = session.journal.state(line.n - 1)
    judged = session.learned(line.ranking)
    drawn = population_of(session, judged, before, line.drawn_by)
    known = session.marks(before) | session.answers(before)
    answers = session.known(state.answers)
    rows = session.pool.rows(sorted(state.passed & set(line.rows)))
    return Sample(*drawn, answers, known, rows)


def known_audit(
    session: Session, learned: Learned | None = None
) -> tuple[Audit, Learned] | None:
    """A session's audit of a ranking, by default the present one, if all of its sample
    is answered. Where those answers were learned from, it is of the ranking that they
    were drawn for.
    """
    sample, state = sample_of(session), session.state
    if sample is None or state.audit is None:
        return None
    if state.sample_learned:
        judged, marks = session.learned(state.audit.ranking), sample.known
    else:
        judged = learned or session.learned()
        marks = session.marks() | session.earlier_answers()
    return audit_of(session, sample, judged, marks), judged


def audit_of(
    session: Session, sample: Sample, learned: Learned, marks: Mapping[int, bool]
) -> Audit:
    """What a sample says of a ranking that didn't learn from it.

    Args:
        session: whose pool is ranked.
        sample: drawn for this ranking or an earlier one.
        learned: the ranking.
        marks: row -> relevant, of what is marked, or known by an earlier audit.
    """
    # What was marked when it was drawn and isn't any more: a stratum of its own, of
    # which none was drawn.
    gone = [row for row in sample.known if row not in marks]
    strata = sample.strata.copy()
    strata[gone] = strata.max(initial=0) + 1
    # Sampled crops that marking passed over are known, as those marked around them.
    told = sample.answers
    known = {**marks, **{row: told[row] for row in sample.passed}}
    left = strata >= 0
    left[list(known)] = False
    order = learned.ranking.rows
    order = order[left[order]]
    predicted = predicted_positive(session, learned, order)
    examples = session.query.examples.rows

    def certain(known: Mapping[int, bool], population: np.ndarray) -> int:
        """Relevant crops outside of a population."""
        relevant = {row for row, answer in known.items() if answer}
        relevant |= {row for row in examples if row not in known}
        outside = session.members & ~population
        return sum(bool(outside[row]) for row in relevant)

    frame = np.flatnonzero(strata >= 0)
    then = {row: marks[row] for row in sample.known if row in marks}
    return Audit(
        order,
        strata[order],
        dict(told),
        certain(known, left),
        seed=session.seed,
        cuts=cuts_of(predicted, len(order)),
        frame=(parts_of(frame, strata[frame], told), certain(then, strata >= 0)),
    )


def estimate_class(session: Session, learned: Learned, threshold: float) -> Estimate:
    """What a session's audit says of the crops from a threshold on."""
    state = session.state
    drawn = len(state.audit.rows) if state.audit else 0
    then = (state.audit.crops if state.audit else 0) or session.crops_at_start
    if drawn and then < len(session.pool):
        earlier = session.as_when(then)
        found = estimate_class(earlier, earlier.learned(learned.number), threshold)
        return dataclasses.replace(found, grown_by=len(session.pool) - then)
    known = known_audit(session, learned)
    if known is None:
        return Estimate(drawn, len(state.answers))
    audit, judged = known
    name = session.journal.name_of_marks
    names = {name(judged.number), name(learned.number)}
    if state.sample_learned:
        names.add(name())
    size, population = audit.size(), int(session.members.sum())
    result = Estimate(
        drawn,
        len(state.answers),
        judged.number,
        state.sample_learned,
        len(names) == 1,
        size,
        population,
        size.scaled(1 / population),
    )
    tolerance = session.pool.index.tolerance(judged.ranker)
    above = judged.decision[audit.order] >= threshold - tolerance
    count = int(above.sum())
    if judged.kind != learned.kind or not count:
        return result
    precision, recall = audit.precision(count), audit.recall(count)
    # Taken are those, less what the sample found wrong among them, and what is known to
    # be relevant besides.
    first, rest = audit.order[:count].tolist(), audit.order[count:].tolist()
    wrong = sum(not audit.answers.get(row, True) for row in first)
    certain = audit.known + sum(audit.answers.get(row, False) for row in rest)
    taken = count - wrong + certain
    shares = (precision.estimate, precision.low, precision.high)
    right = Interval(*(certain + count * share for share in shares))
    return dataclasses.replace(
        result,
        count=count,
        precision=precision,
        recall=recall,
        taken=taken,
        precision_of_taken=right.scaled(1 / taken) if taken else None,
    )
