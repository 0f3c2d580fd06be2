"""Several classes at once: one set of marks, one probe a class against the rest.

A mark names the class that a crop is of, or none of them. It is relevant for that class
and not relevant for the others, so that each mark teaches every probe. What is done to
one class (threshold, audit, export) is done in its `Session`, which shares the journal.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curation.journal import SESSION, Journal, Line, write_session
from curation.pool import Pool
from curation.query import Examples, Query, find_query, stated_query
from curation.selection import displayed
from curation.session import Session, redo_unless_held
from curation.session_facts import StatedQuery, name_uploads, session_facts
from data.formats.writing import Selection
from probe.marks import OF_NONE
from probe.query_strategies import RARE, suggest
from probe.ranking import Ranking

NONE = ""  # what a crop is marked as that is of none of the classes


class Classes:
    """A search for several classes with its marks, over a pool.

    Example:
        >>> classes = Classes(pool, {"beet": "images/1.jpg", "maize": "images/2.jpg"})
        >>> classes.mark({one: "beet", another: "maize", a_third: NONE})
        >>> classes.suggest(20)
        >>> classes["beet"].rank().page(0, 50).rows
        >>> classes.assigned()

    Args:
        pool: what is searched.
        queries: class -> crop ids or image paths, or a `Query`; two or more.
        where: search only crops that meet this SQL condition.
        folder: of the session on disk: opened if it is one, else made; None keeps
            everything in memory.
        method, seed: see `Session`.

    Raises:
        ValueError: fewer than two classes, a query isn't found, or the folder holds a
            session of one class or of others.
        RuntimeError: another process holds the session.
    """

    def __init__(
        self,
        pool: Pool,
        queries: Mapping[str, str | Path | Sequence[str] | Query] | None = None,
        *,
        where: str = "",
        folder: str | Path | None = None,
        method: str = "auto",
        seed: int = 0,
    ):
        asked: Mapping[str, Any] = queries or {}
        if folder is not None and (Path(folder) / SESSION).is_file():
            self.journal = Journal(folder)
        else:
            self.journal, asked = _new_journal(
                pool, asked, folder, where=where, method=method, seed=seed
            )
        try:
            self._sessions = self._open(pool, asked)
        except BaseException:
            self.journal.close()
            raise
        self.pool = next(iter(self._sessions.values())).pool

    def _open(self, pool: Pool, queries: Mapping[str, Any]) -> dict[str, Session]:
        stated, folder = self.journal.facts.classes, self.journal.folder or Path()
        if len(stated) < 2:
            raise ValueError(
                f"session {self.journal.facts.name!r} must be of several classes; it "
                "is of one: open it with Session"
            )
        if queries and set(queries) != set(stated):
            raise ValueError(
                f"queries must be of the session's classes, {', '.join(stated)}; got "
                f"{', '.join(queries)}"
            )
        found = queries
        if self.journal.folder is not None:
            found = {
                name: stated_query(pool, one, folder, f"query of {name}")
                for name, one in stated.items()
            }
        return {
            name: Session(
                pool, query=_against(name, found), journal=_Side(self.journal, name)
            )
            for name in stated
        }

    @property
    def names(self) -> list[str]:
        """The classes, in the order given."""
        return list(self._sessions)

    def __getitem__(self, name: str) -> Session:
        """One class against the rest."""
        self._check([name])
        return self._sessions[name]

    def __enter__(self) -> Classes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets another process have the session; it can be read on, not marked."""
        self.journal.close()

    def __repr__(self) -> str:
        counts = {
            name: sum(one.marks().values()) for name, one in self._sessions.items()
        }
        told = ", ".join(f"{name}: {count}" for name, count in counts.items())
        return f"Classes({told} relevant marks)"

    def _check(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._sessions:
                raise ValueError(
                    f"class must be one of {', '.join(self._sessions)}; got {name!r}"
                )

    def marks(self) -> dict[str, str]:
        """crop id -> class, or NONE; of those that are said to be of one, or not to be
        of any.
        """
        told: dict[str, list[str]] = {}
        for name, session in self._sessions.items():
            for crop_id, relevant in session.state.marks.items():
                told.setdefault(crop_id, []).append(name if relevant else NONE)
        every = len(self._sessions)
        found = {crop_id: max(names) for crop_id, names in told.items()}
        return {
            crop_id: name
            for crop_id, name in found.items()
            if name or len(told[crop_id]) == every
        }

    def mark(
        self, changes: Mapping[str, str | None], by: str = "", action: str = ""
    ) -> tuple[int, list[str]]:
        """Marks crops.

        Args:
            changes: crop id -> the class that it is of, NONE for none of them; None
                takes a mark back.
            by, action: see `Session.mark`.

        Returns:
            The line's number, once it is on the disk, and the crops that were left out:
            those of a class's random sample, which isn't learned from.

        Raises:
            ValueError: no such crop or class, or nothing is left.
        """
        rows = self.pool.rows(list(changes))
        self._check([name for name in changes.values() if name])
        held = self._sampled()
        pairs = zip(changes, rows, strict=True)
        left_out = [crop_id for crop_id, row in pairs if row in held]
        changes = {name: one for name, one in changes.items() if name not in left_out}
        if not changes:
            raise ValueError(
                "the crop belongs to a class's random sample, which isn't learned "
                "from: answer it there"
            )
        marks = {
            crop_id: None if name is None else {"class": name, "relevant": True}
            for crop_id, name in changes.items()
        }
        return self.journal.add("mark", by, action, marks=marks), left_out

    def _sampled(self) -> set[int]:
        """Rows of all classes' samples that aren't learned from."""
        return {row for one in self._sessions.values() for row in one.sampled()}

    def suggest(self, count: int) -> list[str]:
        """Crop ids of what to mark next: those that tell most, near the boundary of any
        class; half of them the best of classes that are rare among the marks, or have
        no boundary yet, in turn. Fewer than `count` where fewer are left.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1; got {count}")
        sessions = list(self._sessions.values())
        mask = np.logical_and.reduce([session.searched for session in sessions])
        known: dict[int, None] = {}
        for session in sessions:
            known |= dict.fromkeys([*session.said(), *session.sampled()])
            known |= dict.fromkeys(session.query.rows)
        mask[list(known)] = False
        learned = [session.learned() for session in sessions]
        counts = [sum(session.marks().values()) for session in sessions]
        few = RARE * len(self.marks()) / len(sessions) * 2
        rare = [
            place
            for place, one in enumerate(learned)
            if one.kind != "decision" or counts[place] < few
        ]
        sure = [one.decision for one in learned if one.kind == "decision"]
        best = count if not sure else (count + 1) // 2 if rare else 0
        chosen = self._best_of([sessions[place] for place in rare], best, mask)
        mask[chosen] = False
        if sure and len(chosen) < count and mask.any():
            decisions = np.stack(sure)
            nearest = np.take_along_axis(
                decisions, np.abs(decisions).argmin(axis=0)[None], axis=0
            )[0]
            order = np.argsort(-decisions.max(axis=0), kind="stable")
            order = order[mask[order]]
            ranking = Ranking(
                order,
                nearest[order].astype(np.float64),
                kind="decision",
                excluded=np.flatnonzero(~mask),
            )
            chosen += suggest(
                ranking,
                nearest,
                count - len(chosen),
                strategy="diverse",
                unit_vectors=self.pool.index.unit_vectors,
                known=np.array([*known, *chosen], np.int64),
            ).tolist()
        return [str(crop_id) for crop_id in self.pool.ids[chosen]]

    @staticmethod
    def _best_of(sessions: list[Session], count: int, mask: np.ndarray) -> list[int]:
        """The best of each ranking in turn, so many together."""
        orders = [session.learned().ranking.rows for session in sessions]
        lists = [iter(order[mask[order]].tolist()) for order in orders]
        chosen: dict[int, None] = {}
        while lists and len(chosen) < min(count, int(mask.sum())):
            for each in lists:
                row = next((row for row in each if row not in chosen), None)
                if row is not None and len(chosen) < count:
                    chosen[row] = None
        return list(chosen)

    def assigned(self) -> np.ndarray:
        """Which class each crop is of, as a place in `names`; -1 for none; [N] int.

        Of the classes that take it (from their threshold on, overruled by what a person
        said), the one whose probe is most confident; a class without a probe takes its
        examples and what was said.
        """
        scores = self._scores()
        return np.where(np.isfinite(scores.max(axis=0)), scores.argmax(axis=0), -1)

    def _scores(self) -> np.ndarray:
        """[classes, N] float64, -inf where a class doesn't take a crop."""
        scores = np.full((len(self._sessions), len(self.pool)), -np.inf)
        for place, session in enumerate(self._sessions.values()):
            learned = session.learned()
            certain = [row for row, answer in session.said().items() if answer]
            certain += [
                row for row in session.query.examples.rows if row not in session.said()
            ]
            if learned.kind == "decision":
                rows = session.selected()
                scores[place, rows] = learned.decision[rows]
            rows = np.array(certain, np.int64)
            scores[place, rows[session.members[rows]]] = np.finfo(np.float64).max
        return scores

    def select(self, name: str) -> Selection:
        """A class, for `export`: no crop is of two."""
        self._check([name])
        place, session = self.names.index(name), self._sessions[name]
        rows = np.flatnonzero(self.assigned() == place)
        decision = session.learned().decision[rows].astype(np.float64)
        order = np.argsort(-decision, kind="stable")
        return Selection(
            self.pool.table,
            rows[order],
            displayed(session.learned().kind, decision[order]),
            name,
            session.said(),
            self.pool.embeddings.window,
        )

    def undo(self, by: str = "", action: str = "") -> int | None:
        """Takes back this person's last action; None where there is nothing to."""
        return self.journal.undo(by, action)

    def redo(self, by: str = "", action: str = "") -> int | None:
        """Brings back what was undone last; None where there is nothing to.

        Raises:
            ValueError: it would mark crops of a random sample that was drawn since.
        """
        return redo_unless_held(self.journal, self.pool, self._sampled(), by, action)


class _Side(Journal):
    """One class's side of a common journal, line by line: what is of another class
    isn't of this one, and what was done to another doesn't concern it.
    """

    def __init__(self, common: Journal, name: str):
        self._common, self._name = common, name
        self._seen: list[Line] = []
        self._translating = threading.Lock()
        self._sampled: set[str] = set()
        self._drawn: Line | None = None  # the last audit of this class
        self._implied: dict[str, str] = {}  # crop -> the class that it is said to be of
        facts = dataclasses.replace(
            common.facts, class_name=name, query=common.facts.classes[name], classes={}
        )
        super().__init__(None, facts)
        self.folder = common.folder

    @property
    def lines(self) -> list[Line]:
        """All lines so far, as they concern this class."""
        with self._translating:
            for line in self._common.lines[len(self._seen) :]:
                self._seen.append(self._translated(line))
        return self._seen

    @lines.setter
    def lines(self, lines: list[Line]) -> None:
        """Begins with no lines, as any journal does."""

    def _translated(self, line: Line) -> Line:
        own = line.of_class == self._name
        if line.kind in ("undo", "redo"):
            of = self._seen[line.of - 1]
            if of.kind == "learn" and self._drawn is not None:
                undone = line.kind == "undo"
                self._sampled = set(self._drawn.rows) if undone else set()
            return line
        if line.kind == "mark":
            marks = {
                crop_id: told
                for crop_id, mark in line.marks.items()
                if (told := self._told(crop_id, mark)) is not Ellipsis
                and (own or crop_id not in self._sampled)
            }
            return dataclasses.replace(line, marks=marks)
        if line.kind == "conflict":
            # Of another class it says that it isn't of this one; not of it, nothing.
            said = {
                crop_id: mark["class"] == self._name and mark["relevant"]
                for crop_id, mark in line.marks.items()
                if mark["relevant"] or mark["class"] == self._name
            }
            return dataclasses.replace(line, marks=said)
        if not own:
            return dataclasses.replace(line, kind="other")
        if line.kind == "audit":
            self._drawn, self._sampled = line, set(line.rows)
        elif line.kind == "learn":
            self._sampled = set()
        return line

    def _told(self, crop_id: str, mark: Any) -> Any:
        """What a mark says of this class: relevant or not, None, or nothing (...)."""
        before = self._implied.pop(crop_id, None)
        if mark is None or mark["class"] == self._name:
            return None if mark is None else mark["relevant"]
        if mark["relevant"]:
            self._implied[crop_id] = mark["class"]
            return False
        # It isn't of that class after all, so nothing is known of it here.
        if before == mark["class"]:
            return None
        if before is not None:
            self._implied[crop_id] = before
        return ...

    def add(self, kind: str, by: str = "", action: str = "", **facts: Any) -> int:
        """See `Journal.add`; a mark names the class."""
        if kind in ("mark", "conflict"):
            facts["marks"] = {
                crop_id: None
                if mark is None
                else {"class": self._name, "relevant": bool(mark)}
                for crop_id, mark in facts["marks"].items()
            }
        if kind not in ("undo", "redo"):
            facts["of_class"] = self._name
        return self._common.add(kind, by, action, **facts)


def _check_names(names: Collection[str]) -> None:
    """Refuses names that mean something else in a list of marks, or the same."""
    alike: dict[str, str] = {}
    for name in names:
        other = alike.setdefault(" ".join(name.split()).casefold(), name)
        if other != name:
            raise ValueError(f"classes must differ by more than case: {other}, {name}")
    for name in names:
        if name.strip().lower() in OF_NONE:
            raise ValueError(
                f"a class can't be called {name!r}: in a list of marks that is none of "
                "the classes"
            )


def _against(name: str, found: Mapping[str, Query]) -> Query:
    """A class's examples; those of the others are what it should not look like."""
    others = [one.examples for other, one in found.items() if other != name]
    outside = [one.outside for one in others if one.outside is not None]
    negatives = Examples(
        tuple(row for one in others for row in one.rows),
        np.concatenate(outside) if outside else None,
        tuple(file for one in others for file in one.files),
    )
    return Query(found[name].examples, negatives)


def _new_journal(
    pool: Pool,
    queries: Mapping[str, Any],
    folder: str | Path | None,
    **facts: Any,
) -> tuple[Journal, dict[str, Query]]:
    """A new session's journal, and the examples of its classes."""
    if len(queries) < 2 or not all(name.strip() for name in queries):
        raise ValueError(
            "queries must name two or more classes, each with its examples; got "
            f"{', '.join(map(repr, queries)) or 'none'}"
        )
    _check_names(queries)
    found: dict[str, Query] = {}
    stated: dict[str, StatedQuery] = {}
    uploads: dict[str, np.ndarray] = {}
    for name, asked in queries.items():
        found[name] = asked if isinstance(asked, Query) else find_query(pool, asked)
        given = found[name].examples
        if not len(given):
            raise ValueError(f"queries must hold an example of {name!r}; got none")
        named = {} if given.outside is None else name_uploads(given.outside)
        crops = tuple(str(pool.ids[row]) for row in dict.fromkeys(given.rows))
        shared = [other for other, one in stated.items() if set(crops) & set(one.crops)]
        if shared:
            raise ValueError(
                f"queries of {shared[0]} and {name} must be different crops; "
                f"{next(iter(set(crops) & set(stated[shared[0]].crops)))} is of both"
            )
        stated[name] = StatedQuery(crops, tuple(named))
        uploads |= named
    told = session_facts(pool, Query(), **facts)
    told = dataclasses.replace(told, name=", ".join(stated), classes=stated)
    if folder is not None:
        write_session(Path(folder), told, uploads=uploads)
    return Journal(folder, told), found
