"""What the programs write: lists, a class, a saved probe, sheets; each says where."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from artifacts.files import back_up, check_writable, write_json
from artifacts.provenance import provenance
from curation.contact_sheet import Sheet, draw_sheets
from curation.lists import keep_marked_list, write_marks, write_ranking
from curation.pool import Pool
from curation.report import Listed
from curation.selection import displayed
from curation.session import Session
from data.embeddings import hashes_of
from data.images import write_png
from probe.estimate import cohen_kappa, stable_at
from probe.saved_probe import SavedProbe


def check_outputs(outputs: dict[str, tuple[str, str]]) -> None:
    """Refuses files that can't be written, before work starts.

    Args:
        outputs: argument -> (path, the ending it must have).
    """
    for name, (path, suffix) in outputs.items():
        if path and Path(path).suffix.lower() != suffix:
            raise ValueError(f"{name} must be a {suffix} file; got {path!r}")
        if path:
            check_writable(Path(path).absolute().parent, name)


def check_probe_folder(save_probe: str) -> None:
    """Refuses a place for a probe that can't be, before work starts."""
    folder = Path(save_probe)
    if not save_probe:
        return
    if folder.exists() and not (folder / "probe.json").is_file():
        raise ValueError(
            "save_probe must be a new folder or one that holds a probe; "
            f"{save_probe!r} holds something else"
        )
    check_writable(folder.absolute().parent, "save_probe")


def write_list(path: str, listed: Listed, query: Sequence[str], seed: int) -> None:
    """Writes a list; marks that the file there holds stay in it."""
    _write(path, listed, query, seed, keep_marks=True)
    print(f"results -> {path}")


def write_class(path: str, listed: Listed, query: Sequence[str], seed: int) -> None:
    """Writes the class, and beside it what was marked and answered."""
    session = listed.session
    _write(path, listed, query, seed, keep_marks=False)
    marks_file = Path(path).with_suffix(".marks.csv")
    state, probe = session.state, session.probe
    assert probe is not None
    marks = {**state.marks, **probe.answers}
    print(f"the class, {len(listed.ranking)} crops -> {path}")
    if marks:
        write_marks(marks_file, marks)
        print(f"its marks and answers -> {marks_file}")


def _write(
    path: str, listed: Listed, query: Sequence[str], seed: int, *, keep_marks: bool
) -> None:
    """Writes a list as CSV and its provenance as JSON beside it."""
    session, ranking = listed.session, listed.ranking
    embeddings = session.pool.embeddings
    keep_marked_list(path, session.state.marks)
    scores = displayed(ranking.kind, ranking.scores)
    write_ranking(
        path,
        embeddings.table,
        ranking.rows.tolist(),
        list(scores),
        listed.marks,
        keep_marks=keep_marks,
    )
    facts = {
        "title": listed.title,
        "query": list(query) or list(session.journal.facts.query.crops),
        "where": session.journal.facts.pool,
        "k": len(ranking),
        "marks": len(listed.marks),
        "embeddings": hashes_of(embeddings.meta),
        "provenance": provenance(seed),
    }
    write_json(f"{path}.json", facts)


def save_probe(folder: str, session: Session, title: str) -> Mapping[str, bool]:
    """Saves what a session learned; a probe that is there already is kept beside it.

    Returns:
        The answers to an audit that it keeps of that one.
    """
    saved = session.saved_probe(title=title)
    earlier = _compare_with_earlier(folder, session, saved)
    moved = back_up(Path(folder))
    kept = _answers_kept(earlier, saved) if earlier else {}
    dataclasses.replace(saved, answers={**kept, **saved.answers}).save(folder)
    print(f"probe -> {folder}" + (f" (the one before: {moved})" if moved else ""))
    if kept:
        print(
            f"it keeps {len(kept)} answers of an audit of the probe before, which it "
            "didn't learn from: run_evaluate.py with the same --audit says what they "
            "tell of it"
        )
    elif earlier and earlier.answers:
        print(
            f"the probe before had {len(earlier.answers)} answers of an audit, and "
            f"marks that this one has not: they stay in {moved}"
        )
    return kept


def _answers_kept(earlier: SavedProbe, saved: SavedProbe) -> Mapping[str, bool]:
    """Answers to an audit of the probe before, where this one has all of its marks and
    so is about the same class.
    """
    if not saved.continues(earlier):
        return {}
    told = earlier.answers.items()
    return {name: answer for name, answer in told if name not in saved.marks}


def _compare_with_earlier(
    folder: str, session: Session, saved: SavedProbe
) -> SavedProbe | None:
    """Prints how far a probe agrees with the one that was saved under its name before,
    the stop signal, and returns that one.
    """
    if not (Path(folder) / "probe.json").is_file():
        return None
    try:
        earlier = SavedProbe.load(folder)
        earlier.check(session.pool.embeddings.meta)
    except ValueError as error:
        print(f"not compared with the probe saved there before: {error}")
        return None
    if earlier.marks == saved.marks:
        print("no new marks since the probe saved there before: nothing to compare")
        return earlier
    if not (earlier.ranker.has_boundary and saved.ranker.has_boundary):
        return earlier
    pool = Pool(session.pool.embeddings, transform=earlier.transform)
    before = pool.index.decision(earlier.ranker) > 0
    kappa = cohen_kappa(before, session.learned().decision > 0)
    print(
        f"agrees with the probe saved there before: kappa {kappa:.2f} "
        f"({stable_at(len(saved.marks))} or more twice in a row, with 20 marks or more "
        "in between: marking can stop)"
    )
    return earlier


def write_suggestions(path: str, session: Session, count: int, strategy: str) -> None:
    """Writes what to mark next, with all marks so far after it, so that the file given
    back as --marks loses none.
    """
    ids = session.suggest(count, strategy=strategy)
    rows = session.pool.rows(ids)
    learned = session.learned()
    scores = displayed(learned.kind, learned.decision[rows].astype(np.float64))
    keep_marked_list(path, session.state.marks)
    table = session.pool.table
    write_ranking(path, table, rows, list(scores), session.marks())
    print(f"{len(rows)} crops to mark next -> {path}")


def write_review(path: str, session: Session) -> None:
    """Writes the marks that the others contradict, then all others, so that the file,
    mended and given back as --marks, loses none. The score is the confidence that the
    crop is relevant of a probe that didn't see its mark.
    """
    against = session.doubtful()
    marks = session.marks()
    rows = session.pool.rows(list(against))
    signs = np.array([-1.0 if marks[row] else 1.0 for row in rows])
    scores = displayed("decision", signs * np.array([*against.values()]))
    keep_marked_list(path, session.state.marks)
    write_ranking(path, session.pool.table, rows, list(scores), marks)
    print(
        f"{len(rows)} of {len(marks)} marks contradict the others -> {path}, first: "
        "look at them again, mend the column relevant, give it back as --marks"
    )


def draw(path: str, sheets: list[Sheet], pool: Pool, columns: int = 10) -> None:
    """Draws sheets side by side into a file."""
    write_png(path, draw_sheets(sheets, pool.table.classes, columns=columns))
    print(f"contact sheet -> {path}")
