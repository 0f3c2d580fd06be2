"""How marking goes: what each round found, and whether it can stop."""

from __future__ import annotations

from dataclasses import dataclass

from curation.session import Session
from probe.estimate import ROUND, should_stop
from probe.metrics import wilson_interval


@dataclass(frozen=True)
class MarkedRound:
    """Crops that were marked in the order `best`, by the ranking that showed them.

    Each was judged before the probe learned from it, so the share says how good that
    ranking's shown part was; which part was marked is the person's choice.
    """

    ranking: int
    marked: int
    relevant: int
    low: float  # of the share's 95 % interval
    high: float


@dataclass(frozen=True)
class Stop:
    """Whether marking can stop.

    Attributes:
        rounds: how many there were.
        signal: see `probe.estimate.should_stop`.
    """

    rounds: int
    signal: bool


def rounds_of(session: Session) -> list[MarkedRound]:
    """What each round found."""
    undone = session.state.undone
    judged: dict[int, dict[str, bool]] = {}
    shown_by: dict[str, int] = {}  # a slip that is put right counts where it was made
    for line in session.journal.lines:
        shown = line.kind == "mark" and line.sort == "best"
        if shown and line.n not in undone:
            for crop_id, answer in line.marks.items():
                ranking = shown_by.setdefault(crop_id, line.ranking)
                answers = judged.setdefault(ranking, {})
                answers.pop(crop_id, None)
                if answer is not None:
                    answers[crop_id] = answer
    rounds = []
    for ranking, answers in sorted(judged.items()):
        if answers:
            right = sum(answers.values())
            low, high = wilson_interval(right, len(answers))
            rounds.append(MarkedRound(ranking, len(answers), right, low, high))
    return rounds


def stop_of(session: Session) -> Stop:
    """Whether the rankings of the last rounds agree on what is relevant; see
    `probe.estimate.should_stop`.
    """
    rounds, last = [0], 0
    for number, marks in session.journal.counts_of_marks().items():
        if marks - last >= ROUND:
            rounds.append(number)
            last = marks
    decided = [session.decided(number) for number in rounds[-3:]]
    known = [decision for decision in decided if decision is not None]
    signal = should_stop(known, last)
    return Stop(len(rounds) - 1, signal)
