"""A session on disk: session.json says what is looked for, feedback.jsonl what was
done, one line an action, append-only.

What is marked is what the lines, replayed, come to. A line is on the disk before it is
acknowledged, so killing the process loses at most the action in flight. A ranking is
named by the number of lines it was learned from, and can be made again at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from artifacts.files import exclusive, write_json
from artifacts.provenance import now
from curation.lru_cache import LruCache
from curation.session_facts import FORMAT, SessionFacts, StatedQuery

Said = TypeVar("Said", bool, str)

SESSION, FEEDBACK = "session.json", "feedback.jsonl"
UNDOABLE = ("mark", "answer", "learn", "correct", "threshold", "examples")
LEARNED = ("mark", "learn", "correct", "examples")  # what a probe learns from
_TELLS = {  # what a line of a kind says besides number, time and person
    "mark": ("marks", "ranking", "sort"),
    "answer": ("marks",),
    "learn": ("marks",),
    "correct": ("marks",),  # an answer that was learned from
    "undo": ("of",),
    "redo": ("of",),
    "audit": ("rows", "ranking", "seed", "drawn_by"),
    "threshold": ("value", "scale"),
    "shown": ("ranking",),
    "examples": ("uploads",),
    "conflict": ("marks",),  # what was said of crops that another had marked otherwise
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One action: a line of feedback.jsonl.

    Attributes:
        n: number of the line, from 1.
        time: UTC, ISO 8601.
        kind: of the action; see `_TELLS` for what each kind tells.
        by: who did it: one browser tab.
        person: their name, "" where they gave none.
        action: an id, by which an action that is sent again is known.
        marks: crop id -> relevant; None takes a mark back. In a session of several
            classes crop id -> {"class": name, "relevant": bool}.
        ranking, sort: the list in which it was done.
        passed: crop ids of the random sample that stand among marked crops in that
            list: they would have been marked, could they be.
        of: the line that is undone or redone.
        rows: crop ids of an audit's sample.
        seed: of the sample.
        crops: of the pool when it was drawn; 0 of versions whose pools couldn't grow.
        drawn_by: how; see `probe.estimate.stratify`. "" of versions that forgot the
            answers of the audits before.
        value, scale: of a threshold.
        uploads: name of an embedding beside session.json -> whether it is an example of
            what is looked for, or of what isn't; None takes it off.
        of_class: of several, the one that it concerns; marks name theirs.
    """

    n: int
    time: str
    kind: str
    by: str
    person: str = ""
    action: str = ""
    marks: Mapping[str, Any] = field(default_factory=dict)
    ranking: int = 0
    sort: str = ""
    passed: Sequence[str] = ()
    of: int = 0
    rows: Sequence[str] = ()
    seed: int | Sequence[int] = 0
    drawn_by: str = ""
    crops: int = 0
    value: float = 0.0
    scale: str = ""
    uploads: Mapping[str, bool | None] = field(default_factory=dict)
    of_class: str = ""

    def encoded(self) -> bytes:
        """The line as it is written: JSON, ended."""
        names = ["n", "time", "kind", "by", *_TELLS.get(self.kind, ())]
        names += [
            name
            for name in ("person", "action", "of_class", "passed", "crops")
            if getattr(self, name)
        ]
        told = {name: getattr(self, name) for name in names}
        text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
        return text.encode() + b"\n"

    @classmethod
    def decoded(cls, text: bytes) -> Line:
        """Reads a line.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it isn't one.
        """
        told = json.loads(text)
        names = cls.__dataclass_fields__
        line = cls(**{name: value for name, value in told.items() if name in names})
        if not isinstance(line.kind, str) or not isinstance(line.by, str):
            raise TypeError("kind and by must be text")
        return line


@dataclass
class State:
    """What a session's lines come to.

    Attributes:
        marks: crop id -> relevant, in the order of marking; learned from.
        answers: crop id -> relevant, of the audit that is going on; never learned from,
            unless `learn` says so.
        earlier: crop id -> relevant, of the audits before; never learned from, either.
        audit: the line that drew the audit, or None.
        audits: how many were drawn so far.
        threshold: the line that set it, or None.
        learned: number of the last line that changed the marks; see
            `Journal.name_of_marks`.
        shown: the rankings that were shown, in order, without repetitions; a round of
            marking lies between two.
        sample_learned: whether the answers to the audit were learned from.
        undone: numbers of the lines that were taken back.
        passed: crop ids of the sample that marking passed over; see `Line`.
        uploads: as in `Line`, of all changes to the query so far.
        writers: crop id -> the line that says what it is marked or answered as.
        opinions: crop id -> person -> what they said last.
    """

    marks: dict[str, bool] = field(default_factory=dict)
    answers: dict[str, bool] = field(default_factory=dict)
    earlier: dict[str, bool] = field(default_factory=dict)
    audit: Line | None = None
    audits: int = 0
    threshold: Line | None = None
    learned: int = 0
    shown: list[int] = field(default_factory=lambda: [0])
    sample_learned: bool = False
    undone: set[int] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    uploads: dict[str, bool | None] = field(default_factory=dict)
    writers: dict[str, Line] = field(default_factory=dict)
    opinions: dict[str, Mapping[str, bool]] = field(default_factory=dict)

    @property
    def conflicts(self) -> list[str]:
        """Crops of which one person says that they are relevant, and another not, or
        which stand otherwise.
        """
        found = []
        for crop_id, said in self.opinions.items():
            stands = self.answers.get(crop_id, self.marks.get(crop_id))
            if len({*said.values(), stands} - {None}) > 1:
                found.append(crop_id)
        return found

    def disputed(
        self,
        now: Mapping[str, Said],
        changes: Mapping[str, Said | None],
        seen: Mapping[str, Said | None],
        by: str,
    ) -> dict[str, Said]:
        """crop id -> what another has said of it, of crops that would be overwritten by
        one who hasn't seen that.

        Args:
            now: crop id -> what is said: a mark, an answer, or a class.
            changes: what is to be said,
            seen: by one who saw this,
            by: in this tab.
        """
        found = {}
        for crop_id, answer in changes.items():
            there, writer = now.get(crop_id), self.writers.get(crop_id)
            unseen = crop_id in seen and seen[crop_id] != there
            is_other = writer is not None and writer.by != by
            if there is not None and there != answer and unseen and is_other:
                found[crop_id] = there
        return found

    def examples(self, given: Sequence[str]) -> tuple[list[str], list[str]]:
        """Names of embeddings from outside that are examples of what is looked for, and
        of what isn't, by what was given when the session began and changed since.
        """
        like = [name for name in given if name not in self.uploads]
        like += [name for name, is_like in self.uploads.items() if is_like]
        unlike = [name for name, is_like in self.uploads.items() if is_like is False]
        return like, unlike

    def copy(self) -> State:
        """One that can be changed without changing this one."""
        return State(
            dict(self.marks),
            dict(self.answers),
            dict(self.earlier),
            self.audit,
            self.audits,
            self.threshold,
            self.learned,
            list(self.shown),
            self.sample_learned,
            set(self.undone),
            set(self.passed),
            dict(self.uploads),
            dict(self.writers),
            dict(self.opinions),
        )


def replay(lines: Sequence[Line], after: dict[int, int] | None = None) -> State:
    """The state after some lines.

    Args:
        lines: from the first.
        after: takes how many marks there were after each line that was learned from
            and not taken back.
    """
    undone: set[int] = set()
    for line in lines:
        if line.kind == "undo":
            undone.add(line.of)
        elif line.kind == "redo":
            undone.discard(line.of)
    state = State(undone=undone)
    kinds = {line.n: line.kind for line in lines}
    for line in lines:
        if line.kind in ("undo", "redo"):
            _apply(state, kinds[line.of], line, {})
        else:
            _apply(state, line.kind, line, {} if line.n in undone else line.marks)
        if after is not None and line.kind in LEARNED and line.n not in undone:
            after[line.n] = len(state.marks)
    return state


def _apply(
    state: State, kind: str, line: Line, marks: Mapping[str, bool | None]
) -> None:
    """Takes up one line.

    Args:
        state: changed in place.
        kind: of the action: of the line, or of the one that it takes back.
        line: as written.
        marks: its own, none where it was taken back.
    """
    if kind in LEARNED:
        _mark(state.marks, marks)
        state.learned = line.n
    if kind in ("answer", "correct"):
        _mark(state.answers, marks)
    if kind in ("mark", "answer", "correct", "conflict"):
        _attribute(state, line, marks)
    if kind == "audit":
        if not state.sample_learned:
            state.earlier |= state.answers
        state.audit, state.answers, state.sample_learned = line, {}, False
        state.passed = set()
        state.audits += 1
    elif kind == "shown" and line.ranking not in state.shown:
        state.shown.append(line.ranking)
    if line.n not in state.undone:
        _take_up(state, line)


def _take_up(state: State, line: Line) -> None:
    """What a line that wasn't taken back says besides marks."""
    if line.kind == "mark":
        state.passed.update(line.passed)
    elif line.kind == "learn":
        state.sample_learned = True
    elif line.kind == "threshold":
        state.threshold = line
    elif line.kind == "examples":
        state.uploads.update(line.uploads)


def _attribute(state: State, line: Line, marks: Mapping[str, bool | None]) -> None:
    """Notes who said what of which crop. Marks of several classes at once aren't
    attributed here: each names its class.
    """
    name = line.person or line.by
    for crop_id, answer in marks.items():
        if line.kind != "conflict":
            state.writers[crop_id] = line
        others = state.opinions.get(crop_id, {})
        said = {other: one for other, one in others.items() if other != name}
        # Of nameless ones only what wasn't taken: they may be the same person.
        if isinstance(answer, bool) and (line.person or line.kind == "conflict"):
            said[name] = answer
        state.opinions[crop_id] = said


def _digest_of(state: State) -> bytes:
    """Of what is learned from."""
    told = [list(state.marks.items()), list(state.uploads.items())]
    return hashlib.sha256(json.dumps(told).encode()).digest()


def _mark(marks: dict[str, bool], changes: Mapping[str, bool | None]) -> None:
    for crop_id, answer in changes.items():
        marks.pop(crop_id, None)
        if answer is not None:
            marks[crop_id] = answer


class Journal:
    """An open session's lines. One process holds it; within the process any number of
    people and threads may add to it.

    Attributes:
        folder: where it lies, its name being the session's id; None in memory.
        facts: what session.json says.
        lines: all lines so far.
    """

    def __init__(self, folder: str | Path | None, facts: SessionFacts | None = None):
        """Opens a session and holds it for this process.

        Args:
            folder: of the session; None keeps everything in memory.
            facts: what session.json would say, in memory.

        Raises:
            ValueError: it isn't a session, or a line of it is damaged; the message
                names the line. (A last line that was cut off by a kill is moved to
                feedback.jsonl.torn; it was never acknowledged.)
            RuntimeError: another process holds it.
        """
        self.folder = None if folder is None else Path(folder)
        if folder is not None:
            facts = read_facts(Path(folder))
        self.facts = facts or SessionFacts(name="", pool="", query=StatedQuery(()))
        self.lines: list[Line] = []
        self._lock = threading.RLock()
        self._held = ExitStack()
        self._file: BinaryIO | None = None
        if self.folder is not None:
            self._open(self.folder)
        self._by_action = {line.action: line.n for line in self.lines if line.action}
        self._own_from = len(self.lines)
        self._state, self._state_at = replay(self.lines), len(self.lines)
        self._states: LruCache[State] = LruCache(32)
        self._counts: LruCache[dict[int, int]] = LruCache(2)
        self._steps: LruCache[tuple[list[int], list[int]]] = LruCache(8)
        self._named = {_digest_of(State()): 0}  # digest of the marks, in order -> name
        self._names = {0: 0}  # number of lines -> name
        self._persons: dict[str, str] = {}  # by -> name

    def _open(self, folder: Path) -> None:
        # A notebook's cell that is run again must not stand in its own way.
        earlier = _OPEN.get(folder.resolve())
        if earlier is not None:
            earlier.close()
        self._held.enter_context(exclusive(folder, "session"))
        _OPEN[folder.resolve()] = self
        try:
            self.lines = _read_lines(folder / FEEDBACK, mend=True)
            self._file = open(folder / FEEDBACK, "ab")  # noqa: SIM115
            self._held.callback(lambda: self._file and self._file.close())
            _sync_folder(folder)
        except BaseException:
            self._held.close()
            raise

    def close(self) -> None:
        """Lets another process have it; nothing can be added any more."""
        self._held.close()
        self._file = None

    def state(self, after: int | None = None) -> State:
        """The state after all lines, or after the first so many. Not to be changed."""
        with self._lock:
            count = len(self.lines)
            if after is None or after == count:
                return self._advance(count)
            lines = self.lines[:after]
        return self._states.get(after, lambda: replay(lines))

    def _advance(self, count: int) -> State:
        """Takes up lines that were added, one by one; what was undone or redone changes
        what earlier lines come to, so everything is replayed. Lines of several classes
        may be added meanwhile, by another class: those are for the next time.
        """
        new = self.lines[self._state_at : count]
        if any(line.kind in ("undo", "redo") for line in new):
            self._state = replay(self.lines[:count])
        elif new:
            self._state = self._state.copy()
            for line in new:
                _apply(self._state, line.kind, line, line.marks)
        self._state_at = count
        return self._state

    def counts_of_marks(self) -> dict[int, int]:
        """How many marks there were after each line that was learned from and not taken
        back, by its number.
        """

        def count() -> dict[int, int]:
            found: dict[int, int] = {}
            replay(lines, found)
            return found

        with self._lock:
            lines = list(self.lines)
        return self._counts.get(len(lines), count)

    def name_of_marks(self, number: int | None = None) -> int:
        """The name of the ranking that comes of the marks after some lines; default:
        all.

        It is a number of lines that came to just these marks, so that a mark and its
        undoing lead back to the ranking there was.
        """
        with self._lock:
            state = self.state(number)
            number = state.learned if number is None else number
            if number not in self._names:
                digest = _digest_of(state)
                self._names[number] = self._named.setdefault(digest, number)
            return self._names[number]

    def add(self, kind: str, by: str = "", action: str = "", **facts: Any) -> int:
        """Writes a line and returns its number, once it is on the disk. The person is
        the one that `name_person` gave.

        Args:
            kind, by: see `Line`.
            action: an id of the action; a repeated one (sent again after a broken
                connection) is not written again.
            facts: what a line of the kind tells.
        """
        with self._lock:
            if action and action in self._by_action:
                return self._by_action[action]
            number = len(self.lines) + 1
            facts["person"] = self._persons.get(by, "")
            line = Line(n=number, time=now(), kind=kind, by=by, action=action, **facts)
            self._write(line)
            self.lines.append(line)
            if action:
                self._by_action[action] = number
            return number

    def name_person(self, by: str, person: str) -> None:
        """Says who acts in a browser tab from here on."""
        self._persons[by] = person

    def _write(self, line: Line) -> None:
        if self.folder is None:
            return
        if self._file is None:
            raise RuntimeError(
                f"session {self.facts.name!r} is closed, or was opened again since"
            )
        place = self._file.tell()
        try:
            self._file.write(line.encoded())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            # A full disk: what was written of the line must not precede the next one.
            self._reopen(place)
            raise

    def _reopen(self, place: int) -> None:
        assert self.folder is not None
        assert self._file is not None
        with suppress(OSError):
            self._file.close()
        os.truncate(self.folder / FEEDBACK, place)
        self._file = open(self.folder / FEEDBACK, "ab")  # noqa: SIM115

    def undo(self, by: str = "", action: str = "") -> int | None:
        """Takes back the last action of this person, or, when there is none left, of an
        earlier sitting. None: nothing to undo.
        """
        return self._step("undo", by, action)

    def redo(self, by: str = "", action: str = "") -> int | None:
        """Brings back what this person undid last, unless they have acted since."""
        return self._step("redo", by, action)

    def undone_by(self, number: int) -> str:
        """In words, what a line takes back or brings back."""
        line = self.lines[self.lines[number - 1].of - 1]
        words = {
            "answer": "an answer to the random sample",
            "correct": "a corrected answer",
            "learn": "learning from the random sample",
            "threshold": "the threshold",
            "examples": "a change of the examples",
        }
        count = len(line.marks)
        return words.get(line.kind) or ("a mark" if count == 1 else f"{count} marks")

    def _step(self, kind: str, by: str, action: str) -> int | None:
        with self._lock:
            if action and action in self._by_action:
                return self._by_action[action]
            done, undone = self.steps(by)
            stack = done if kind == "undo" else undone
            return self.add(kind, by, action, of=stack[-1]) if stack else None

    def steps(self, by: str) -> tuple[list[int], list[int]]:
        """What this person can undo and redo: line numbers, the next one last."""
        with self._lock:
            key = (by, len(self.lines))
            return self._steps.get(key, lambda: self._find_steps(by))

    def _find_steps(self, by: str) -> tuple[list[int], list[int]]:
        # By whether it is of this sitting.
        mine: dict[bool, list[int]] = {True: [], False: []}
        undone: list[int] = []
        kinds = ("answer", "correct", "learn")
        answers = {line.n for line in self.lines if line.kind in kinds}
        for line in self.lines:
            own = line.by == by and line.n > self._own_from
            earlier = line.n <= self._own_from
            kind = line.kind
            if kind == "audit":  # answers to the sample before can't be seen any more
                for stack in (*mine.values(), undone):
                    stack[:] = [number for number in stack if number not in answers]
            elif kind in UNDOABLE and (own or earlier):
                mine[own].append(line.n)
                undone.clear()
            elif kind == "undo" and (own or earlier or line.of in mine[False]):
                _remove(line.of, *mine.values())
                if own or earlier:
                    undone.append(line.of)
            elif kind == "redo" and (own or earlier):
                _remove(line.of, undone)
                mine[line.of > self._own_from].append(line.of)
        return mine[False] + mine[True], undone


# Folder -> the journal that holds it, of this process.
_OPEN: WeakValueDictionary[Path, Journal] = WeakValueDictionary()


def _remove(number: int, *stacks: list[int]) -> None:
    for stack in stacks:
        if number in stack:
            stack.remove(number)


def read_facts(folder: Path) -> SessionFacts:
    """What session.json says.

    Raises:
        ValueError: there is none, or it isn't of this format.
    """
    try:
        text = (folder / SESSION).read_text(encoding="utf-8")
        return SessionFacts.from_json(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"session must be a folder with a {SESSION} of format {FORMAT}; "
            f"{str(folder)!r} isn't"
        ) from None


def read_session(folder: str | Path) -> tuple[SessionFacts, list[Line]]:
    """The facts and lines of a session of one class, which another process may hold."""
    facts, lines = read_any_session(folder)
    facts.refuse_several()
    return facts, lines


def read_any_session(folder: str | Path) -> tuple[SessionFacts, list[Line]]:
    """The same of one of several classes too, whose marks name theirs."""
    facts = read_facts(Path(folder))
    return facts, _read_lines(Path(folder) / FEEDBACK, mend=False)


def new_name() -> str:
    """An id for a new session."""
    return f"s{now()[:10].replace('-', '')}-{uuid.uuid4().hex[:8]}"


def create_session(
    folder: Path,
    facts: SessionFacts,
    lines: Sequence[Line] = (),
    files: Sequence[Path] = (),
) -> str:
    """Writes a new session below `folder` and returns its id; see `write_session`."""
    name = new_name()
    write_session(folder / name, facts, lines, files)
    return name


def write_session(
    path: Path,
    facts: SessionFacts,
    lines: Sequence[Line] = (),
    files: Sequence[Path] = (),
    uploads: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a new session, with copies of some files and embeddings of uploads.

    session.json goes last: a folder without it is no session.
    """
    path.mkdir(parents=True)
    for file in files:
        shutil.copyfile(file, path / file.name)
    for name, vector in (uploads or {}).items():
        np.save(path / f"{name}.npy", vector)
    with open(path / FEEDBACK, "wb") as feedback:
        for line in lines:
            feedback.write(line.encoded())
        feedback.flush()
        os.fsync(feedback.fileno())
    write_json(path / SESSION, replace(facts, created=now()).as_json())
    _sync_folder(path)
    _sync_folder(path.parent)


def _read_lines(path: Path, mend: bool) -> list[Line]:
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content) and mend:
        with open(path.with_name(f"{FEEDBACK}.torn"), "ab") as file:
            file.write(content[whole:] + b"\n")
        os.truncate(path, whole)
    lines = []
    for number, text in enumerate(content[:whole].splitlines(), 1):
        try:
            line = Line.decoded(text)
            if line.n != number:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{path} line {number} must be an action of a session; it is damaged"
            ) from None
        lines.append(line)
    return lines


def _sync_folder(folder: Path) -> None:
    """Makes new names in a folder survive a power cut, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
