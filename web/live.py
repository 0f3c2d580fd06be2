"""A session behind the page: a `curation.Session`, with a thread that learns in the
background, locks, and what is shown kept.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from curation.estimate import Estimate
from curation.journal import Journal, State
from curation.lru_cache import LruCache
from curation.rounds import MarkedRound, Stop, rounds_of, stop_of
from curation.selection import decision_of, displayed, scale_of
from curation.session import ASK, SORTS, TOP, Learned, Session
from probe.ranking import Ranking
from web.overview import Overview
from web.priority import lower_priority

BINS = 40


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What is told of a ranking beside its list.

    Attributes:
        ranking: its number.
        scale: of scores and threshold: cosine or confidence.
        method: from marks to the ranking.
        reason: why it isn't a probe's, or another than was asked for; "" otherwise.
        crops: how many it orders.
        relevant, not_relevant: marks that it was learned from.
        low, high: ends of the histogram.
        histogram: counts in equal steps between them.
        threshold: on the scale.
        taken: crops of the class by it,
        marked: and by marks alone.
        rounds, stop: how marking goes.
    """

    ranking: int
    scale: str
    method: str
    reason: str
    crops: int
    relevant: int
    not_relevant: int
    low: float
    high: float
    histogram: Sequence[int]
    threshold: float
    taken: int
    marked: int
    rounds: Sequence[MarkedRound]
    stop: Stop


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What the newest ranking would show differently from the one on the screen.

    Attributes:
        ranking: number of the newest.
        new_marks: between the two; negative where marks were taken back.
        entered: crops among its first that weren't among the other's first,
        top: of so many.
        taken_before, taken: crops of the class by each.
    """

    ranking: int
    new_marks: int
    entered: int
    top: int
    taken_before: int
    taken: int


class LiveSession:
    """An open session over a pool; safe to use from several threads.

    Attributes:
        session: what it wraps.
        trouble: why the last ranking couldn't be made, "" where it could.
    """

    def __init__(self, overview: Overview, folder: str | Path):
        """Opens the session and holds it for this process.

        Raises:
            ValueError: it isn't one, or of other embeddings.
            RuntimeError: another process holds it.
        """
        self.overview = overview
        self.session = Session(overview.pool, folder=folder)
        self.pool = self.session.pool
        self._views: LruCache[Ranking] = LruCache(16)
        self._panels: LruCache[Panel] = LruCache(4)
        self._estimates: LruCache[Estimate] = LruCache(4)
        # What is checked before a line is written still holds when it is.
        self._acting = threading.Lock()
        self._newest = -1
        self.trouble = ""
        self._learner = ThreadPoolExecutor(1, "learn", partial(lower_priority, 10))
        self._pending = threading.Event()

    @property
    def journal(self) -> Journal:
        """The session's lines."""
        return self.session.journal

    @property
    def state(self) -> State:
        """What they come to."""
        return self.session.state

    def close(self) -> None:
        """Lets another process have the session."""
        self._learner.shutdown(wait=True)
        self.session.close()

    # Learning

    def learn(self) -> None:
        """Asks for the newest ranking to be made in the background; asked for many
        times at once, it is made once.
        """
        if not self._pending.is_set():
            self._pending.set()
            self._learner.submit(self._learn)

    def _learn(self) -> None:
        self._pending.clear()  # what is marked from here on asks again
        number = self.journal.name_of_marks()
        try:
            self.panel(number)
        except Exception as error:  # whatever it was: the page says so, marks are safe
            self.trouble = (
                f"the marks are saved, but nothing could be learned from them: {error}"
            )
            raise
        self.trouble = ""
        self._newest = number

    @property
    def newest(self) -> int:
        """The ranking that was made last; -1 before the first."""
        return self._newest

    @property
    def learning(self) -> bool:
        """Whether the last ranking isn't that of the present marks yet."""
        return self._newest != self.journal.name_of_marks()

    @property
    def started(self) -> bool:
        """Whether there is a ranking yet."""
        return self._newest >= 0

    # Views

    def page(
        self,
        number: int,
        sort: str,
        start: int,
        count: int,
        *,
        where: str = "",
        among: str = "",
    ) -> tuple[np.ndarray, int]:
        """A part of a list: its rows, [n] int, and how long the list is.

        Args:
            number: of the ranking.
            sort: `best` and `worst` go by score; `boundary` by nearness to the probe's
                boundary; `ask` is what tells the probe most; `audit` the random sample
                in the order it was drawn in.
            start, count: which part.
            where: only crops that meet this SQL condition,
            among: and belong to this selection; see `Overview.select`.

        Raises:
            ValueError: no such sort, no boundary or audit yet, or the condition isn't
                SQL.
        """
        if sort not in SORTS:
            raise ValueError(f"sort must be one of {', '.join(SORTS)}; got {sort!r}")
        audit = self.state.audit
        if sort == "audit":
            if audit is None:
                raise ValueError("sort audit needs an audit; draw one first")
            rows = np.array(self.pool.rows(list(audit.rows)), np.int64)
            return rows[start : start + count], len(rows)
        drawn = audit.n if audit and sort == "ask" else None  # never asked for
        kind = "best" if sort == "worst" else sort
        key = (number, kind, where.strip(), among, drawn)
        view = self._views.get(key, lambda: self._view(number, kind, where, among))
        if sort == "worst":
            end = len(view) - start
            first = max(0, end - count)
            return view.page(first, max(0, end - first)).rows[::-1], len(view)
        return view.page(start, count).rows, len(view)

    def _view(self, number: int, sort: str, where: str, among: str) -> Ranking:
        session, learned = self.session, self.session.learned(number)
        mask = None
        if where.strip() or among:
            mask = self.overview.mask(where, among)
        if sort == "best":
            if mask is None:
                return learned.ranking
            mask = mask & session.searched
            index = self.pool.index_of(learned.ranker)
            return index.rank(learned.ranker, mask=mask, decision=learned.decision)
        if sort == "ask":
            asked = session.suggest(ASK, number=number, among=mask)
            rows = np.array(self.pool.rows(asked), np.int64)
        else:
            if learned.kind != "decision":
                why = learned.ranker.reason
                raise ValueError(
                    "sort boundary needs a probe, and this ranking is by cosine: "
                    f"{why or 'mark some crops that are not relevant first'}"
                )
            searched = session.searched if mask is None else session.searched & mask
            rows = np.flatnonzero(searched)
            distance = np.abs(learned.decision[rows])
            rows = rows[np.lexsort((self.pool.index.place_of_id[rows], distance))]
        return Ranking(rows, learned.decision[rows], kind=learned.kind)

    # Actions

    def mark(
        self,
        changes: dict[str, bool | None],
        by: str,
        action: str,
        ranking: int,
        sort: str,
    ) -> tuple[int, list[str]]:
        """See `Session.mark`."""
        with self._acting:
            told = self.session.mark(changes, by, action, ranking, sort)
        self.learn()
        return told

    def step(self, kind: str, by: str, action: str) -> int | None:
        """Undoes or redoes this person's last action; None where there is
        nothing to.
        """
        with self._acting:
            steps = {"undo": self.session.undo, "redo": self.session.redo}
            number = steps[kind](by, action)
        self.learn()
        return number

    def set_threshold(self, value: float, scale: str, by: str, action: str) -> int:
        """Keeps the threshold of a list, as it is displayed."""
        if scale == "confidence":
            value, scale = decision_of("decision", value), "decision"
        with self._acting:
            return self.session.set_threshold(value, by, action, kind=scale)

    def show(self, ranking: int, by: str, action: str) -> int:
        """Notes that a ranking was shown; 0 where it was before."""
        with self._acting:
            if ranking in self.state.shown:
                return 0
            return self.journal.add("shown", by, action, ranking=ranking)

    def draw_audit(self, size: int, by: str, action: str) -> int:
        """Draws a random sample; see `Session.audit`. Returns the line's number."""
        while True:
            number = self.journal.name_of_marks()
            # It may take a while, so others mark on meanwhile.
            _ = self.session.learned(number).ranking.rows
            with self._acting:
                if self.journal.name_of_marks() == number:
                    self.session.audit(size, by, action)
                    assert self.state.audit is not None
                    return self.state.audit.n

    def learn_answers(self, by: str, action: str) -> int:
        """See `Session.learn_answers`."""
        with self._acting:
            number = self.session.learn_answers(by, action)
        self.learn()
        return number

    # What is known

    def estimate(self, number: int, threshold: float) -> Estimate:
        """See `Session.estimate`; the page asks for it every few seconds."""
        key = (number, threshold, len(self.journal.lines))
        return self._estimates.get(
            key, lambda: self.session.estimate(number, threshold)
        )

    def panel(self, number: int) -> Panel:
        """Histogram, rounds and stop signal of a ranking."""
        key = (number, len(self.journal.lines))
        return self._panels.get(key, lambda: self._measure(number))

    def _measure(self, number: int) -> Panel:
        session = self.session
        learned, marks = session.learned(number), session.marks()
        shown = displayed(learned.kind, learned.decision[session.searched])
        low, high = 0.0, 1.0
        if learned.kind == "cosine":
            low, high = float(shown.min(initial=1)), float(shown.max(initial=-1))
        high = max(high, low + 1e-6)
        counts, _ = np.histogram(shown, BINS, (low, high))
        threshold = session.threshold(learned)
        return Panel(
            ranking=number,
            scale=scale_of(learned.kind),
            method=learned.ranker.method,
            reason=learned.ranker.reason,
            crops=len(learned.ranking),
            relevant=sum(marks.values()),
            not_relevant=len(marks) - sum(marks.values()),
            low=low,
            high=high,
            histogram=counts.tolist(),
            threshold=float(displayed(learned.kind, threshold)),
            taken=len(session.selected(number=number)),
            marked=len(session.selected("marked", number=number)),
            rounds=rounds_of(session),
            stop=stop_of(session),
        )

    def changes(self, shown: int) -> Changes:
        """What the newest ranking would show differently from the one on the screen."""
        session, journal = self.session, self.journal
        before, after = session.learned(shown), session.learned(self._newest)
        first = set(_top(before))

        def marks(number: int) -> int:
            return len(journal.state(number).marks)

        return Changes(
            ranking=after.number,
            new_marks=marks(after.number) - marks(shown),
            entered=sum(row not in first for row in _top(after)),
            top=min(TOP, len(after.ranking)),
            taken_before=len(session.selected(number=shown)),
            taken=len(session.selected(number=after.number)),
        )


def _top(learned: Learned) -> list[int]:
    return learned.ranking.page(0, TOP).rows.tolist()
