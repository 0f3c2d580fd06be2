"""A session of several classes behind the page: one `LiveSession` a class, over a
common journal, and what only shows when they are seen together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.classes import NONE, Classes
from curation.journal import Journal
from curation.lru_cache import LruCache
from web.live import Disputed, LiveSession, Marked
from web.overview import Overview

ASK = 40  # crops that the order `ask` shows


@dataclass(frozen=True)
class ClassCount:
    """How far one of several classes is.

    Attributes:
        name: of the class.
        relevant: crops that are marked as of it.
        taken: crops that are of it, no crop being of two.
    """

    name: str
    relevant: int
    taken: int


@dataclass(frozen=True)
class ClassesState:
    """What is told of all classes together.

    Attributes:
        of: the one that is looked at.
        counts: of each.
        claimed: [classes, classes] crops that two classes take, those of one alone on
            the diagonal.
        contested: crops that more than one takes and nobody has marked.
    """

    of: str
    counts: Sequence[ClassCount]
    claimed: Sequence[Sequence[int]]
    contested: int


class LiveClasses:
    """An open session of several classes; safe to use from several threads."""

    def __init__(self, overview: Overview, folder: str | Path):
        """Opens the session and holds it for this process; see `LiveSession`."""
        self.classes = Classes(overview.pool, folder=folder)
        self._of = {
            name: LiveSession(overview, self.classes[name], self)
            for name in self.classes.names
        }
        self._found: LruCache[tuple[np.ndarray, np.ndarray]] = LruCache(2)

    @property
    def journal(self) -> Journal:
        """The lines of all classes."""
        return self.classes.journal

    def of(self, name: str) -> LiveSession:
        """One class against the rest; the first for ""."""
        return self._of[name or self.classes.names[0]]

    def close(self) -> None:
        """Lets another process have the session."""
        for one in self._of.values():
            one.stop()
        self.classes.close()

    def learn(self) -> None:
        """Asks every class for its newest ranking."""
        for one in self._of.values():
            one.learn()

    def mark(
        self,
        changes: Mapping[str, str | None],
        by: str,
        action: str,
        seen: Mapping[str, str | None],
    ) -> Marked:
        """Says of which class crops are; see `Classes.mark`.

        Args:
            changes: crop id -> class, "" for none of them; None takes a mark back.
            by, action: as there.
            seen: crop id -> class that was seen when it was said; what another has said
                since stands, and is told.
        """
        state = self.journal.state()
        disputed = state.disputed(self.classes.marks(), changes, seen, by)
        if disputed:
            said = {
                crop_id: {"class": changes[crop_id], "relevant": True}
                for crop_id in disputed
                if changes[crop_id] is not None
            }
            self.journal.add("conflict", by, f"{action}-disputed", marks=said)
        kept = {name: one for name, one in changes.items() if name not in disputed}
        line, left_out = len(self.journal.lines), list[str]()
        if kept:
            line, left_out = self.classes.mark(kept, by, action)
        self.learn()
        told = [
            Disputed(crop_id, bool(name), state.writers[crop_id].person, name or "none")
            for crop_id, name in disputed.items()
        ]
        return Marked(line, left_out, told)

    def step(self, kind: str, by: str, action: str) -> int | None:
        """Undoes or redoes this person's last action in any of the classes."""
        steps = {"undo": self.classes.undo, "redo": self.classes.redo}
        number = steps[kind](by, action)
        self.learn()
        return number

    def taken(self) -> tuple[np.ndarray, np.ndarray]:
        """Which classes take each crop, [classes, N] bool, and which is the one that it
        is of, [N] int, -1 for none.
        """

        def find() -> tuple[np.ndarray, np.ndarray]:
            takes = np.zeros((len(self._of), len(self.classes.pool)), bool)
            for place, name in enumerate(self.classes.names):
                session = self.classes[name]
                if session.learned().kind == "decision":
                    takes[place, session.selected()] = True
            return takes, self.classes.assigned()

        return self._found.get(len(self.journal.lines), find)

    def contested(self) -> np.ndarray:
        """Rows that more than one class takes and nobody has marked, those first on
        which the second is nearest to the first, [n] int.
        """
        takes, _ = self.taken()
        several = takes.sum(axis=0) > 1
        several[self.classes.pool.rows(list(self.classes.marks()))] = False
        rows = np.flatnonzero(several)
        if not len(rows):
            return rows
        names = self.classes.names
        scores = np.stack([self.classes[one].learned().decision[rows] for one in names])
        first, second = np.sort(scores, axis=0)[::-1][:2]
        return rows[np.argsort(first - second, kind="stable")]

    def asked(self) -> np.ndarray:
        """Rows to mark next: what is contested first, then what tells most."""
        contested = self.contested()[: ASK // 2]
        more = self.classes.pool.rows(self.classes.suggest(ASK))
        return np.array(list(dict.fromkeys([*contested.tolist(), *more])), np.int64)

    def state(self, of: str) -> ClassesState:
        """See `ClassesState`."""
        takes, place = self.taken()
        names, marks = self.classes.names, list(self.classes.marks().values())
        together = takes.astype(np.int64) @ takes.T.astype(np.int64)
        alone = takes & (takes.sum(axis=0) == 1)
        np.fill_diagonal(together, alone.sum(axis=1))
        return ClassesState(
            of or names[0],
            [
                ClassCount(name, marks.count(name), int((place == at).sum()))
                for at, name in enumerate(names)
            ],
            together.tolist(),
            len(self.contested()),
        )

    def mask_of(self, name: str) -> np.ndarray:
        """Crops that are of a class, and of no other, [N] bool."""
        return self.taken()[1] == self.classes.names.index(name)

    def both(self, first: str, second: str) -> np.ndarray:
        """Crops that two classes take, or one alone where they are the same, [N]
        bool.
        """
        takes, _ = self.taken()
        one, other = (self.classes.names.index(name) for name in (first, second))
        if one == other:
            return takes[one] & (takes.sum(axis=0) == 1)
        return takes[one] & takes[other]


def shown_class(marks: Mapping[str, str], crop_id: str) -> str | None:
    """What the page shows of a mark: a class, "none", or None without one."""
    name = marks.get(crop_id)
    return None if name is None else name if name != NONE else "none"
