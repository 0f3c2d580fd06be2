"""What the page is told: sessions, crops and the map, as JSON or bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from curation.selection import decision_of, displayed, scale_of
from web.live import LiveSession
from web.overview import Overview
from web.photos import Photos

SAME_IMAGE = 500  # boxes of one photo that are told, at most


def session_state(session: LiveSession, by: str, shown: int) -> dict[str, Any]:
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
    done, undone = journal.steps(by)
    relevant = sum(state.marks.values())
    audit = None
    if state.audit:
        audit = {"drawn": len(state.audit["rows"]), "answered": len(state.answers)}
    assert journal.folder is not None
    answer: dict[str, Any] = {
        "session": journal.folder.name,
        "facts": journal.facts,
        "lines": len(journal.lines),
        "learning": session.learning,
        "newest": session.newest,
        "trouble": session.trouble,
        "can_undo": len(done),
        "can_redo": len(undone),
        "relevant": relevant,
        "not_relevant": len(state.marks) - relevant,
        "audit": audit,
    }
    if session.started:
        current = session.newest if number < 0 else number
        learned = session.session.learned(current)
        threshold = session.session.threshold(learned)
        answer["panel"] = session.panel(current)
        answer["estimate"] = session.estimate(current, threshold)
        if number >= 0 and session.newest != journal.name_of_marks(number):
            answer["changes"] = session.changes(number)
    return answer


def estimate_at(session: LiveSession, number: int, shown: float) -> dict[str, Any]:
    """What would be taken at a threshold, as it is displayed, and what is known
    of it.
    """
    number = min(number, len(session.journal.lines))
    kind = session.session.learned(number).kind
    value = decision_of(kind, shown)
    chosen = session.session.selected(number=number, threshold=value)
    return {"would_take": len(chosen), **session.estimate(number, value)}


def crops_of(
    session: LiveSession,
    number: int,
    sort: str,
    start: int,
    count: int,
    *,
    where: str,
    among: str,
) -> dict[str, Any]:
    """A part of a list: crops with score, class, and mark."""
    if number > len(session.journal.lines):
        raise ValueError(
            f"ranking must be at most {len(session.journal.lines)}; got {number}"
        )
    rows, total = session.page(number, sort, start, count, where=where, among=among)
    state, table = session.state, session.pool.table
    learned = session.session.learned(number)
    blind = sort == "audit"  # a sample is judged without its score
    known = session.session.known(state.answers if blind else state.marks)
    sampled = set() if blind else set(session.session.sampled())
    scores = displayed(learned.kind, learned.decision[rows].astype(np.float64))
    labels = table.column("label_name")
    crops = [
        {
            "id": str(table.ids[row]),
            "score": None if blind else float(score),
            "label": str(labels[row]),
            "mark": known.get(row),
            "sampled": row in sampled,
        }
        for row, score in zip(rows.tolist(), scores, strict=True)
    ]
    scale = scale_of(learned.kind)
    return {"total": total, "start": start, "scale": scale, "crops": crops}


def browsed(overview: Overview, where: str, start: int, count: int) -> dict[str, Any]:
    """Crops that meet a condition, shuffled always alike, so that the first screen
    shows what there is.
    """
    table = overview.table
    rows = overview.shuffled[overview.mask(where)[overview.shuffled]]
    labels = table.column("label_name")
    crops = [
        {"id": str(table.ids[row]), "label": str(labels[row])}
        for row in rows[start : start + count].tolist()
    ]
    return {"total": len(rows), "crops": crops}


def crop_facts(overview: Overview, photos: Photos, row: int) -> dict[str, Any]:
    """A crop's columns, and the boxes on its photo."""
    table = overview.table
    images = table.column("image")
    same = np.flatnonzero(images == images[row])[:SAME_IMAGE].tolist()
    columns = table.rows.slice(row, 1).to_pylist()[0]
    width, height = photos.size(row)
    return {
        "facts": {
            name: value for name, value in columns.items() if value not in (None, "")
        },
        "width": width,
        "height": height,
        "box": table.boxes[row].tolist(),
        "boxes": [
            {"id": str(table.ids[other]), "box": table.boxes[other].tolist()}
            for other in same
        ],
    }


def clusters_of(overview: Overview, where: str, count: int) -> list[dict[str, Any]]:
    """Proposed clusters, with crops from their middle and their edge."""
    ids = overview.table.ids
    return [
        {
            "crops": len(cluster.rows),
            "tightness": cluster.tightness,
            "examples": [str(ids[row]) for row in cluster.rows[:8]],
            "edge": [str(ids[row]) for row in cluster.rows[::-1][:4]],
        }
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


def map_scores(session: LiveSession) -> bytes:
    """Scores of all crops as uint8 (0 to 255 from the lowest to the highest), then
    marks as uint8 (0 none, 1 yes, 2 no).
    """
    learned = session.session.learned()
    scores = displayed(learned.kind, learned.decision)
    span = max(float(np.ptp(scores)), 1e-6)
    levels = ((scores - scores.min()) / span * 255).astype(np.uint8)
    marks = np.zeros(len(scores), np.uint8)
    for row, answer in session.session.marks().items():
        marks[row] = 1 if answer else 2
    return levels.tobytes() + marks.tobytes()
