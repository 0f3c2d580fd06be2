"""A session behind the page: a `curation.Session`, with a thread that learns in the
background, locks, and what is shown kept.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from web.live_classes import LiveClasses

BINS = 40
ONLY = ("", "unmarked", "marked", "mine", "conflicts")


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


@dataclass(frozen=True)
class Disputed:
    """A crop that another person has marked otherwise meanwhile; of several classes,
    as of which.
    """

    id: str
    mark: bool
    person: str
    of: str = ""


@dataclass(frozen=True)
class Marked:
    """What has come of marks.

    Attributes:
        line: that they were written in.
        left_out: crops of a random sample, which marks must not reach.
        disputed: those that another has marked otherwise.
    """

    line: int
    left_out: Sequence[str]
    disputed: Sequence[Disputed]


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
        several: the classes that it is one of; None where it is of one class.
        trouble: why the last ranking couldn't be made, "" where it could.
    """

    def __init__(
        self,
        overview: Overview,
        folder: str | Path | Session,
        several: LiveClasses | None = None,
    ):
        """Opens the session and holds it for this process.

        Args:
            overview: of the pool.
            folder: of the session; or an open one, of several classes.
            several: those.

        Raises:
            ValueError: it isn't one, or of other embeddings.
            RuntimeError: another process holds it.
        """
        self.overview, self.several = overview, several
        if not isinstance(folder, Session):
            folder = Session(overview.pool, folder=folder)
        self.session = folder
        self.pool = self.session.pool
        self._views: LruCache[Ranking] = LruCache(16)
        self._panels: LruCache[Panel] = LruCache(4)
        self._estimates: LruCache[Estimate] = LruCache(4)
        self._precise: LruCache[float | None] = LruCache(4)
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

    @property
    def history(self) -> Journal:
        """What can be undone: of several classes, in any of them."""
        return self.several.journal if self.several else self.journal

    def stop(self) -> None:
        """Ends what learns in the background."""
        self._learner.shutdown(wait=True)

    def close(self) -> None:
        """Lets another process have the session."""
        self.stop()
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
        only: str = "",
        marked_by: str = "",
        lines: int | None = None,
    ) -> tuple[np.ndarray, int]:
        """A part of a list: its rows, [n] int, and how long the list is.

        Args:
            number: of the ranking.
            sort: `best` and `worst` go by score; `boundary` by nearness to the probe's
                boundary; `ask` is what tells the probe most; `doubtful` are marks that
                the others contradict, the least likely first; `audit` is the random
                sample in the order it was drawn in.
            start, count: which part.
            where: only crops that meet this SQL condition,
            among: and belong to this selection; see `Overview.select`,
            only: and are one of ONLY,
            marked_by: by this person, for `mine`,
            lines: as of so many lines of the journal, so that the list stands still
                while one marks; default: all.

        Raises:
            ValueError: no such sort, no boundary or audit yet, or the condition isn't
                SQL.
        """
        if sort not in SORTS:
            raise ValueError(f"sort must be one of {', '.join(SORTS)}; got {sort!r}")
        if only not in ONLY:
            raise ValueError(f"only must be one of {', '.join(ONLY)}; got {only!r}")
        newest = len(self.journal.lines)
        lines = newest if lines is None else min(lines, newest)
        which = (where.strip(), among, only, marked_by if only == "mine" else "")
        audit = self.state.audit
        if sort == "audit":
            if audit is None:
                raise ValueError("sort audit needs an audit; draw one first")
            rows = np.array(self.pool.rows(list(audit.rows)), np.int64)
            return rows[start : start + count], len(rows)
        drawn = audit.n if audit and sort == "ask" else None  # never asked for
        kind = "best" if sort == "worst" else sort
        dated = lines if only or sort in ("doubtful", "contested") else None
        key = (number, kind, which, drawn, dated)
        view = self._views.get(key, lambda: self._view(number, kind, which, lines))
        if sort == "worst":
            end = len(view) - start
            first = max(0, end - count)
            return view.page(first, max(0, end - first)).rows[::-1], len(view)
        return view.page(start, count).rows, len(view)

    def mask(
        self,
        where: str = "",
        among: str = "",
        only: str = "",
        person: str = "",
        lines: int | None = None,
    ) -> np.ndarray | None:
        """Crops that a filter leaves, [N] bool; None where there is none; see
        `page`.
        """
        mask = self.overview.mask(where, among) if where.strip() or among else None
        if not only:
            return mask
        state = self.journal.state(lines)
        said = self.session.said(state)
        if only == "conflicts":
            rows = [self.pool.table.row_of(name) for name in state.conflicts]
            chosen = [row for row in rows if row is not None]
        else:
            chosen = list(said)
        if only == "mine":
            ids, writers = self.pool.ids, state.writers
            lines_of = ((row, writers.get(str(ids[row]))) for row in chosen)
            chosen = [row for row, line in lines_of if line and line.person == person]
        found = np.zeros(len(self.pool), bool)
        found[chosen] = True
        if only == "unmarked":
            found = ~found
        return found if mask is None else mask & found

    def _view(
        self, number: int, sort: str, which: tuple[str, str, str, str], lines: int
    ) -> Ranking:
        session, learned = self.session, self.session.learned(number)
        mask = self.mask(*which, lines)
        if sort == "contested" or (sort == "ask" and self.several):
            rows = self._of_several(sort)
            rows = rows if mask is None else rows[mask[rows]]
            return Ranking(rows, learned.decision[rows], kind=learned.kind)
        if sort == "doubtful":
            doubted = self.pool.rows(list(session.doubtful()))
            rows = np.array([r for r in doubted if mask is None or mask[r]], np.int64)
            return Ranking(rows, learned.decision[rows], kind=learned.kind)
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

    def _of_several(self, sort: str) -> np.ndarray:
        if self.several is None:
            raise ValueError("sort contested needs a session of several classes")
        return self.several.contested() if sort == "contested" else self.several.asked()

    # Actions

    def mark(
        self,
        changes: dict[str, bool | None],
        by: str,
        action: str,
        ranking: int,
        *,
        sort: str = "best",
        seen: Mapping[str, bool | None] | None = None,
    ) -> Marked:
        """See `Session.mark`. What another has marked otherwise, unseen, isn't
        overwritten: it is kept as said, and told.

        Args:
            changes, by, action, ranking, sort: as there.
            seen: crop id -> mark that was seen when it was made; None looks at nothing.
        """
        session, journal = self.session, self.journal
        with self._acting:
            disputed = session.disputed(changes, seen or {}, by, sort)
            if disputed:
                said = {crop_id: changes[crop_id] for crop_id in disputed}
                whole = len(disputed) == len(changes)
                named = action if whole else f"{action}-disputed"
                line = journal.add("conflict", by, named, marks=said)
            kept = {name: one for name, one in changes.items() if name not in disputed}
            left_out: list[str] = []
            if kept:
                line, left_out = session.mark(kept, by, action, ranking, sort)
        self.learn()
        writers = self.state.writers
        return Marked(
            line,
            left_out,
            [
                Disputed(crop_id, mark, writers[crop_id].person)
                for crop_id, mark in disputed.items()
            ],
        )

    def step(self, kind: str, by: str, action: str) -> int | None:
        """Undoes or redoes this person's last action; None where there is
        nothing to.
        """
        if self.several:
            return self.several.step(kind, by, action)
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

    def change_examples(
        self, uploads: Mapping[str, bool | None], by: str, action: str
    ) -> int:
        """See `Session.change_examples`."""
        with self._acting:
            number = self.session.change_examples(uploads, by, action)
        self.learn()
        return number

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

    def threshold_for(self, number: int, precision: float) -> float | None:
        """The threshold, as it is displayed, of the longest list that the random sample
        shows to be so precise; None where it shows none, or isn't of this ranking.
        """
        key = (number, precision, len(self.journal.lines))
        return self._precise.get(key, lambda: self._threshold_for(number, precision))

    def _threshold_for(self, number: int, precision: float) -> float | None:
        learned = self.session.learned(number)
        value = self.session.threshold_for(precision, learned)
        return None if value is None else float(displayed(learned.kind, value))

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
            taken=len(self.selected(number)),
            marked=len(session.selected("marked", number=number)),
            rounds=rounds_of(session),
            stop=stop_of(session),
        )

    def selected(self, number: int, threshold: float | None = None) -> np.ndarray:
        """See `Session.selected`; of several classes, less what is of another."""
        rows = self.session.selected(number=number, threshold=threshold)
        if self.several is None:
            return rows
        name = self.journal.facts.class_name
        if self.session.learned(number).kind != "decision":
            return rows[self.several.mask_of(name)[rows]]
        place = self.several.taken()[1][rows]
        return rows[(place < 0) | (place == self.several.classes.names.index(name))]

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
            taken_before=len(self.selected(shown)),
            taken=len(self.selected(after.number)),
        )


def _top(learned: Learned) -> list[int]:
    return learned.ranking.page(0, TOP).rows.tolist()
