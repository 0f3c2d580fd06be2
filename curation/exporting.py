"""Exporting a class: selected crops in the formats that other tools read, each with a
card that says where it came from; and what run_export.py does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from artifacts.files import whole_folder, write_json, write_text
from artifacts.progress import Progress, no_progress, progress_bar
from curation.card import MARKED, THRESHOLD, Card, card_text
from curation.journal import SESSION
from curation.pool import Pool, load
from curation.session import Session
from data.formats.registry import WRITABLE, named, spellings
from data.formats.writing import Selection
from data.report import Report
from probe.saved_probe import SavedProbe


@dataclass(frozen=True)
class ExportRequest:
    """What to export; see run_export.py for each."""

    embeddings: str = ""
    images_root: str = ""
    where: str = ""
    probe: str = ""
    session: str = ""
    format: str = "coco"
    folder: str = ""
    class_name: str = ""
    selected: str = THRESHOLD
    predictions: str = ""
    seed: int = 0

    def check(self) -> None:
        """Refuses combinations that make no sense, before work starts."""
        if bool(self.probe) == bool(self.session):
            raise ValueError("one of probe and session must be given")
        if not self.folder:
            raise ValueError("folder must be given, a new one")
        if Path(self.folder).exists():
            raise ValueError(f"folder must be a new one; {self.folder!r} exists")
        if self.probe and not self.class_name.strip():
            raise ValueError("class_name must be given")
        if self.session and not (Path(self.session) / SESSION).is_file():
            raise ValueError(
                f"session must be the folder of one session, with {SESSION}; got "
                f"{self.session!r}"
            )
        if self.session and self.where:
            raise ValueError("where goes with probe; a session has its own")


def export(
    selection: Selection,
    *,
    format: str,
    folder: str | Path,
    card: Card,
    progress: Progress = no_progress,
) -> Report:
    """Writes a selection into a new folder, whole or not at all, with card.json and
    card.md.

    Args:
        selection: what.
        format: one of `data.formats.registry.WRITABLE`.
        folder: must not exist.
        card: what is known of the selection.
        progress: wraps iterations over crops or images.

    Returns:
        What was left out, such as crops whose image can't be read.

    Raises:
        ValueError: no such format, the folder exists, or nothing could be written.
    """
    folder = Path(folder)
    if format not in spellings(WRITABLE):
        raise ValueError(f"format must be one of {', '.join(WRITABLE)}; got {format!r}")
    write = named(format).write
    assert write is not None  # by `WRITABLE`
    if folder.exists():
        raise ValueError(f"export must go to a new folder; {str(folder)!r} exists")
    report = Report()
    with whole_folder(folder) as partial:
        report.written = len(selection.rows)
        write(selection, partial, report, progress)
        if not report.written:
            raise ValueError(
                f"images must be given: none of the {len(selection.rows)} crops' "
                f"images can be read below {selection.table.root}. Where they have "
                "moved, say where with --images_root"
            )
        facts = {
            "class": selection.class_name,
            "format": format,
            "crops": report.written,
            **card.as_facts(),
            "left_out": report.left_out(),
        }
        write_json(partial / "card.json", facts)
        write_text(partial / "card.md", card_text(facts))
    return report


def run_export(request: ExportRequest) -> None:
    """Exports the class.

    Raises:
        ValueError, OSError, RuntimeError: with a message for the user.
    """
    request.check()
    embeddings = load(request.embeddings, request.images_root, request.predictions)
    if request.probe:
        saved = SavedProbe.load(request.probe)
        pool = Pool(embeddings, transform=saved.transform)
        session = Session(
            pool,
            where=request.where,
            probe=saved,
            class_name=request.class_name,
            seed=request.seed,
        )
        if saved.threshold is None and request.selected != MARKED:
            raise ValueError(
                "export needs a threshold, which this ranking by cosine has not: audit "
                "it, or give --selected=marked"
            )
    else:
        session = Session(Pool(embeddings), folder=request.session)
    try:
        facts = session.journal.facts
        name = request.class_name or facts.class_name or facts.name
        selection = session.select(request.selected, class_name=name)
        report = export(
            selection,
            format=request.format,
            folder=request.folder,
            card=session.card(request.selected),
            progress=progress_bar,
        )
    finally:
        session.close()
    lost = len(selection.rows) - report.written
    if lost:
        print(
            f"{lost} crops of the class are left out, since their images can't be "
            "read; where they have moved, say where with --images_root"
        )
    for line in report.left_out():
        print(f"left out: {line}")
    print(
        f"{report.written} crops of {name!r} as {request.format} -> "
        f"{request.folder} (with card.md)"
    )
