"""What the page is told: sessions, crops and the map, as JSON or bytes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.responses import JSONResponse

from artifacts.files import json_value
from curation.estimate import Estimate
from curation.journal import Line
from curation.selection import decision_of, displayed, scale_of
from curation.session_facts import SessionFacts
from web.live import Changes, LiveSession, Panel
from web.live_classes import ClassesState, shown_class
from web.overview import Overview, PoolFacts
from web.photos import Photos

SOME = 12  # crops that a threshold adds or drops, and that are shown
SAME_IMAGE = 500  # boxes of one photo that are told, at most


class Answer(JSONResponse):
    """A dataclass, or a list of them, as JSON: its fields by their names."""

    def render(self, content: object) -> bytes:
        """The body; what JSON has no word for, such as a date, goes as text."""
        plain = json_value(content)
        text = json.dumps(plain, default=str, ensure_ascii=False, allow_nan=False)
        # A file's name may hold bytes that aren't UTF-8.
        return text.encode(errors="replace")


@dataclass(frozen=True)
class PageFacts(PoolFacts):
    """What the page knows from the start.

    Attributes:
        formats: a class can be exported in, with what each keeps.
        sizes: sides of thumbnails, in pixels.
    """

    formats: dict[str, str]
    sizes: Sequence[int]


@dataclass(frozen=True)
class AuditState:
    """How far a random sample is answered."""

    drawn: int
    answered: int


@dataclass(frozen=True, kw_only=True)
class SessionState:
    """Everything that changes.

    Attributes:
        session: id.
        facts: what session.json says.
        lines: of the journal.
        learning: whether the newest ranking isn't that of the present marks yet.
        newest: the ranking that was made last, -1 before the first.
        trouble: why the last couldn't be made, "" where it could.
        can_undo, can_redo: for the one who asks.
        relevant, not_relevant: marks.
        conflicts: crops of which people say different things.
        uploads: images from outside that are examples.
        examples: crops that are, less those that are marked.
        audit: None before one was drawn.
        several: of all classes, where there are several.
        panel, estimate: of the ranking on the screen; None before there is one.
        changes: what the newest would show differently; None where it is shown.
    """

    session: str
    facts: SessionFacts
    lines: int
    learning: bool
    newest: int
    trouble: str
    can_undo: bool
    can_redo: bool
    relevant: int
    not_relevant: int
    conflicts: int
    uploads: Sequence[str]
    examples: Sequence[str]
    audit: AuditState | None
    several: ClassesState | None = None
    panel: Panel | None = None
    estimate: Estimate | None = None
    changes: Changes | None = None


@dataclass(frozen=True)
class AtThreshold:
    """What a threshold would take, and what is known of it.

    Attributes:
        would_take: crops of the class.
        added, dropped: how many, against the threshold that it is compared with.
        added_first, dropped_first: crop ids of some of them, nearest the threshold.
        estimate: what a random sample says.
    """

    would_take: int
    added: int
    dropped: int
    added_first: Sequence[str]
    dropped_first: Sequence[str]
    estimate: Estimate


@dataclass(frozen=True)
class ListedCrop:
    """A crop in a list; score and mark are None where they aren't told or made.

    Attributes:
        sampled: whether it belongs to a random sample that isn't learned from.
        by: the person who marked it, "" for none and nameless ones.
        new: whether it has come since the session began.
        disputed: whether people say different things of it.
        of: of several classes, the one that it is marked as, "none" for none of them.
        row: of the pool, and of the map.
    """

    id: str
    row: int
    label: str
    score: float | None = None
    mark: bool | None = None
    sampled: bool = False
    by: str = ""
    new: bool = False
    disputed: bool = False
    of: str | None = None


@dataclass(frozen=True)
class PartOfList:
    """A part of a list, and how long the list is.

    Attributes:
        scale: of the scores, "" where there are none.
        lines: of the journal, by which it was told what is marked.
    """

    total: int
    crops: Sequence[ListedCrop]
    scale: str = ""
    lines: int = 0


@dataclass(frozen=True)
class OtherBox:
    """A box on the same photo, in its pixels."""

    id: str
    box: Sequence[int]


@dataclass(frozen=True)
class CropFacts:
    """A crop's columns (those that are set), its photo's size, and the boxes on it.

    Attributes:
        detail: what `Photos.detail` shows.
    """

    facts: dict[str, object]
    width: int
    height: int
    box: Sequence[int]
    boxes: Sequence[OtherBox]
    detail: Sequence[int]


@dataclass(frozen=True)
class ProposedCluster:
    """A cluster, with crops from its middle and its edge.

    Attributes:
        selection: name of all of it, to browse.
    """

    crops: int
    selection: str
    tightness: float
    examples: Sequence[str]
    edge: Sequence[str]


def session_state(session: LiveSession, by: str, shown: int) -> SessionState:
    """Everything that changes, in one answer: the page asks for it after each action,
    and every few seconds.

    Args:
        session: which.
        by: who asks.
        shown: the ranking on their screen, -1 for none.
    """
    journal, state = session.journal, session.state
    if session.learning:
        session.learn()
    number = min(shown, len(journal.lines))
    done, undone = session.history.steps(by)
    relevant = sum(state.marks.values())
    audit = None
    if state.audit:
        audit = AuditState(len(state.audit.rows), len(state.answers))
    assert journal.folder is not None
    answer = SessionState(
        session=journal.folder.name,
        facts=dataclasses.replace(journal.facts, name=session.history.facts.name),
        lines=len(journal.lines),
        learning=session.learning,
        newest=session.newest,
        trouble=session.trouble,
        can_undo=bool(done),
        can_redo=bool(undone),
        relevant=relevant,
        not_relevant=len(state.marks) - relevant,
        conflicts=len(state.conflicts),
        uploads=session.session.uploads(state),
        examples=[
            crop for crop in journal.facts.query.crops if crop not in state.marks
        ],
        audit=audit,
        several=_several(session),
    )
    if not session.started:
        return answer
    current = session.newest if number < 0 else number
    threshold = session.session.threshold(session.session.learned(current))
    outdated = number >= 0 and session.newest != journal.name_of_marks(number)
    return dataclasses.replace(
        answer,
        panel=session.panel(current),
        estimate=session.estimate(current, threshold),
        changes=session.changes(number) if outdated else None,
    )


def _several(session: LiveSession) -> ClassesState | None:
    if session.several is None:
        return None
    return session.several.state(session.journal.facts.class_name)


def estimate_at(
    session: LiveSession, number: int, shown: float, since: float | None = None
) -> AtThreshold:
    """What would be taken at a threshold, as it is displayed, and what is known of it.

    Args:
        session, number: the ranking.
        shown: the threshold.
        since: what it is compared with; default: the one that is set.
    """
    number = min(number, len(session.journal.lines))
    kind = session.session.learned(number).kind
    value = decision_of(kind, shown)
    chosen = session.selected(number, value)
    now = session.selected(number, None if since is None else decision_of(kind, since))
    # Both are in order of the score, so that the new ones are last of the longer list.
    added = chosen[~np.isin(chosen, now)]
    dropped = now[~np.isin(now, chosen)]
    ids = session.pool.ids
    return AtThreshold(
        len(chosen),
        len(added),
        len(dropped),
        [str(ids[row]) for row in added[::-1][:SOME]],
        [str(ids[row]) for row in dropped[:SOME]],
        session.estimate(number, value),
    )


def crops_of(
    session: LiveSession,
    number: int,
    sort: str,
    start: int,
    count: int,
    **which: Any,
) -> PartOfList:
    """A part of a list: crops with score, class, and mark."""
    if number > len(session.journal.lines):
        raise ValueError(
            f"ranking must be at most {len(session.journal.lines)}; got {number}"
        )
    which.setdefault("lines", len(session.journal.lines))
    rows, total = session.page(number, sort, start, count, **which)
    state, table = session.state, session.pool.table
    learned = session.session.learned(number)
    blind = sort == "audit"  # a sample is judged without its score
    said = session.session.said()
    known = session.session.known(state.answers) if blind else said
    disputed, writers = set(state.conflicts), state.writers
    before = session.session.crops_at_start
    several = session.several
    of = several.classes.marks() if several and not blind else {}
    sampled = set() if blind else set(session.session.sampled())
    scores = displayed(learned.kind, learned.decision[rows].astype(np.float64))
    labels = table.column("label_name")
    crops = [
        ListedCrop(
            str(table.ids[row]),
            row,
            "" if blind else str(labels[row]),
            None if blind else float(score),
            known.get(row),
            row in sampled,
            _person(writers.get(str(table.ids[row]))) if row in known else "",
            row >= before,
            str(table.ids[row]) in disputed,
            shown_class(of, str(table.ids[row])),
        )
        for row, score in zip(rows.tolist(), scores, strict=True)
    ]
    return PartOfList(total, crops, scale_of(learned.kind), which["lines"])


def _person(line: Line | None) -> str:
    return line.person if line else ""


def browsed(
    overview: Overview, where: str, start: int, count: int, among: str = ""
) -> PartOfList:
    """Crops that meet a condition, shuffled always alike, so that the first screen
    shows what there is.
    """
    table = overview.table
    rows = overview.shuffled[overview.mask(where, among)[overview.shuffled]]
    labels = table.column("label_name")
    added = overview.newest
    crops = [
        ListedCrop(
            str(table.ids[row]),
            row,
            str(labels[row]),
            new=added is not None and bool(added[row]),
        )
        for row in rows[start : start + count].tolist()
    ]
    return PartOfList(len(rows), crops)


def crop_facts(overview: Overview, photos: Photos, row: int) -> CropFacts:
    """A crop's columns, and the boxes on its photo."""
    table = overview.table
    images = table.column("image")
    same = np.flatnonzero(images == images[row])[:SAME_IMAGE].tolist()
    columns = table.rows.slice(row, 1).to_pylist()[0]
    width, height = photos.size(row)
    return CropFacts(
        {name: value for name, value in columns.items() if _says_something(value)},
        width,
        height,
        table.boxes[row].tolist(),
        [OtherBox(str(table.ids[at]), table.boxes[at].tolist()) for at in same],
        photos.detail_box(row),
    )


def _says_something(value: object) -> bool:
    is_number = not isinstance(value, float) or np.isfinite(value)
    return value not in (None, "") and bool(is_number)


def clusters_of(overview: Overview, where: str, count: int) -> list[ProposedCluster]:
    """Proposed clusters, with crops from their middle and their edge."""
    ids = overview.table.ids
    return [
        ProposedCluster(
            len(cluster.rows),
            overview.select_rows(cluster.rows),
            cluster.tightness,
            [str(ids[row]) for row in cluster.rows[:8]],
            [str(ids[row]) for row in cluster.rows[::-1][:4]],
        )
        for cluster in overview.clusters(where, count)
    ]


def map_bytes(overview: Overview, places: np.ndarray) -> bytes:
    """Places [N, 2] as uint16, classes [N] as int16 (-1: unlabeled), recordings [N] as
    uint16.
    """
    return (
        (places * 65535).round().clip(0, 65535).astype("<u2").tobytes()
        + overview.table.class_indices.astype("<i2").tobytes()
        + overview.recordings.tobytes()
    )


def map_state(session: LiveSession | None, number: int, shown: np.ndarray) -> bytes:
    """What changes on the map: the lowest and the highest score as float32, then for
    each crop its score as uint8 (0 to 255 from one to the other), its mark (0 none, 1
    relevant, 2 not relevant), and whether it is in the list.

    Args:
        session: None for no scores and no marks.
        number: of the ranking.
        shown: [N] bool, crops that are in the list.
    """
    levels = np.zeros(len(shown), np.uint8)
    marks, span = levels.copy(), np.zeros(2, "<f4")
    if session is not None:
        learned = session.session.learned(number)
        scores = displayed(learned.kind, learned.decision)
        span[:] = scores.min(), scores.max()
        width = max(float(np.ptp(scores)), 1e-6)
        levels = ((scores - scores.min()) / width * 255).astype(np.uint8)
        for row, answer in session.session.said().items():
            marks[row] = 1 if answer else 2
    parts = (span, levels, marks, shown.astype(np.uint8))
    return b"".join(part.tobytes() for part in parts)
