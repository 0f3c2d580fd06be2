"""Which recording a crop belongs to: what was photographed together, and must not be
torn apart by splits.
"""

from __future__ import annotations

import posixpath

import numpy as np
import pyarrow as pa

from data.crop_table import EXIF_TIME, CropTable
from data.report import Report

FOLDER, DATE = "folder", "date"


def recordings_of(recording: str) -> list[str]:
    """The words that say what a recording is."""
    return [word.strip() for word in recording.split(",") if word.strip()]


def recording_numbers(table: CropTable) -> np.ndarray:
    """The number of each crop's recording, [N] int from 0; -1 where it isn't known."""
    names = table.column("session").astype(str)
    known = names != ""
    numbers = np.full(len(names), -1)
    numbers[known] = np.unique(names[known], return_inverse=True)[1]
    return numbers


def with_recordings(
    table: CropTable, recording: str, report: Report, *, folders_are_read: bool
) -> CropTable:
    """The table with the recording of each crop as it is asked for, in the column
    `session`.

    Args:
        table: the crops.
        recording: "folder" (of the image), "date" (the day that the photo's EXIF
            states), a column's name, or several of them with commas between, which
            belong together where all are the same.
        report: receives how many recordings there are, and how many crops have none.
        folders_are_read: whether the reader has told recordings from classes by the
            folders' names, and `session` says so already.

    Raises:
        ValueError: no such column or date, or recordings that would be the classes.
    """
    words = recordings_of(recording)
    parts = [
        table.column("session").tolist()
        if word == FOLDER and folders_are_read
        else _part(table, word)
        for word in words
    ]
    stated = list(zip(*parts, strict=True))
    names = np.array(
        [" ".join(map(str, part)) if all(part) else "" for part in stated], object
    )
    if _are_classes(names, table.column("label_name")):
        raise ValueError(
            f"recording={recording} would make each class a recording of its own, "
            "so that no split could hold two classes; choose date or another column"
        )
    report.count("recordings", len(set(names) - {""}))
    report.count(
        "crops of no known recording: their photo counts as one",
        int((names == "").sum()),
    )
    return table.with_column("session", pa.array(names.tolist(), pa.string()))


def _part(table: CropTable, word: str) -> list[str]:
    """What one of the words says of each crop, "" where it says nothing."""
    if word == FOLDER:
        return [posixpath.dirname(image) or "." for image in table.column("image")]
    known = table.rows.column_names
    word = "label_name" if word in ("class", "label") and word not in known else word
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
    return ["" if value is None else str(value).strip() for value in values]


def _are_classes(names: np.ndarray, labels: np.ndarray) -> bool:
    """Whether recordings and classes are the same crops under other names."""
    pairs = {pair for pair in zip(names, labels, strict=True) if all(pair)}
    classes = {label for _, label in pairs}
    return len(classes) > 1 and (
        len(pairs) == len(classes) == len({name for name, _ in pairs})
    )
