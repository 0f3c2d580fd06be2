"""Exporting a class: selected crops in the formats that other tools read, each with a
card that says where it came from.
"""

from __future__ import annotations

from pathlib import Path

from artifacts.files import whole_folder, write_json, write_text
from artifacts.progress import Progress, no_progress
from curation.card import Card, card_text
from data.formats.registry import WRITABLE, named, spellings
from data.formats.writing import Selection
from data.report import Report


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
