"""Which recording a crop belongs to: what was photographed together, and must not be
torn apart by splits.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from data.crop_table import EXIF_TIME, SCHEMA, UNLABELLED, CropTable
from data.report import Report

FOLDER, DATE = "folder", "date"


def with_recordings(
    table: CropTable, recording: str, report: Report, *, folders_are_classes: bool
) -> CropTable:
    """The table with the recording of each crop as it is asked for, in the column
    `session`.

    Args:
        table: the crops.
        recording: "folder" (of the image), "date" (the day that the photo's EXIF
            states), a column's name, or several of them with commas between, which
            belong together where all are the same.
        report: receives how many recordings there are, and how many crops have none.
        folders_are_classes: whether the classes are the names of folders; where these
            are the recordings, they are no classes.

    Raises:
        ValueError: no such column or date, or recordings that would be the classes.
    """
    parts = [_part(table, word.strip()) for word in recording.split(",")]
    stated = list(zip(*parts, strict=True))
    names = np.array(
        [" ".join(map(str, part)) if all(part) else "" for part in stated], object
    )
    labels = table.column("label_name")
    if _are_classes(names, labels):
        if not folders_are_classes:
            raise ValueError(
                f"recording={recording} would make each class a recording of its own, "
                "so that no split could hold two classes; choose date or another column"
            )
        report.count("folders name recordings, and no classes", len(set(names)))
        table = _without_classes(table)
    report.count("recordings", len(set(names) - {""}))
    report.count(
        "crops of no known recording: their photo counts as one",
        int((names == "").sum()),
    )
    return _replaced(table, "session", names.tolist())


def _replaced(table: CropTable, name: str, values: Sequence[Any]) -> CropTable:
    place = table.rows.column_names.index(name)
    column = pa.array(values, SCHEMA.field(name).type)
    return CropTable(table.root, table.rows.set_column(place, name, column))


def _without_classes(table: CropTable) -> CropTable:
    table = _replaced(table, "label", [UNLABELLED] * len(table))
    return _replaced(table, "label_name", [""] * len(table))


def _part(table: CropTable, word: str) -> list[str]:
    """What one of the words says of each crop, "" where it says nothing."""
    if word == FOLDER:
        return [posixpath.dirname(image) or "." for image in table.column("image")]
    known = table.rows.column_names
    if word == DATE:
        if EXIF_TIME not in known:
            raise ValueError(
                "recording=date needs photos whose EXIF states when they were taken; "
                "none of these does"
            )
        return [(time or "")[:10] for time in table.column(EXIF_TIME)]
    if word not in known:
        raise ValueError(
            f"recording must be {FOLDER}, {DATE} or a column of the crops "
            f"({', '.join(known)}), or several with commas between; got {word!r}"
        )
    values = table.rows.column(word).to_pylist()
    return ["" if value is None else str(value) for value in values]


def _are_classes(names: np.ndarray, labels: np.ndarray) -> bool:
    """Whether recordings and classes are the same crops under other names."""
    pairs = {pair for pair in zip(names, labels, strict=True) if all(pair)}
    classes = {label for _, label in pairs}
    return len(classes) > 1 and (
        len(pairs) == len(classes) == len({name for name, _ in pairs})
    )
