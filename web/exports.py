"""Exports of a session: named, written in the worker process, and packed."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from artifacts.provenance import now
from curation.card import Card
from curation.exporting import export
from data.formats.writing import Selection, safe_name
from web.live import LiveSession
from web.requests import ExportAction


@dataclass(frozen=True)
class ExportJob:
    """What the worker process is given; it is pickled."""

    selection: Selection
    format: str
    folder: Path
    card: Card


def start_export(session: LiveSession, asked: ExportAction) -> ExportJob:
    """Chooses the crops and a folder of the session for them."""
    number = min(asked.ranking, len(session.journal.lines))
    what, class_name, kind = asked.what, asked.class_name, asked.format
    among = session.mask(asked.where, asked.among)
    if session.several:  # no crop is of two classes
        own = np.zeros(len(session.pool), bool)
        own[session.selected(number)] = True
        among = own if among is None else among & own
    selection = session.session.select(
        what, class_name=class_name, number=number, among=among
    )
    part = " and ".join(
        filter(None, [asked.where.strip(), asked.among and "a selection on the map"])
    )
    card = session.session.card(what, number=number, part=part)
    folder = exports_of(session)
    folder.mkdir(exist_ok=True)
    time = now()[:19].replace(":", "").replace("-", "")
    name = f"{safe_name(class_name)}-{kind}-{time}-{uuid.uuid4().hex[:4]}"
    return ExportJob(selection, kind, folder / name, card)


def run_export_job(job: ExportJob) -> tuple[int, list[str]]:
    """Writes it; some formats load TensorFlow. Returns how many crops it holds, and
    what was left out.
    """
    report = export(job.selection, format=job.format, folder=job.folder, card=job.card)
    return report.written, report.left_out()


def exports_of(session: LiveSession) -> Path:
    """Where a session's exports lie."""
    assert session.journal.folder is not None
    return session.journal.folder / "exports"


def zip_export(session: LiveSession, name: str) -> Path | None:
    """An export as one file, which stays there: the same export is asked for again
    after a broken download. None where there is none of that name.
    """
    folders = exports_of(session).glob("*")
    chosen = next(
        (path for path in folders if path.name == name and path.is_dir()), None
    )
    if chosen is None:
        return None
    path = chosen.with_name(f"{name}.zip")
    if not path.is_file():
        partial = chosen.with_name(f".{name}.{uuid.uuid4().hex[:8]}")
        made = shutil.make_archive(str(partial), "zip", chosen.parent, chosen.name)
        os.replace(made, path)
    return path
