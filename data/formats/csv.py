"""A CSV of boxes: one row a box, with the image's path and, where there are any, class,
split, session and more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from artifacts.files import read_text, write_atomically
from artifacts.progress import Progress
from data.boxes import ADDED_COLUMNS, plain_path
from data.crop_table import SCHEMA
from data.formats.base import (
    SPLITS,
    Annotations,
    Format,
    SourceOptions,
    is_file_with,
)
from data.formats.writing import Selection, selected_columns
from data.report import Report

# Column names people use, by what they mean; the first that occurs is taken, in small
# letters.
_IMAGE = (
    "image",
    "image_path",
    "filename",
    "file_name",
    "file",
    "path",
    "img",
    "image_id",
)
_LABEL = ("label_name", "class_name", "label", "class", "category", "name", "species")
_BOXES = {
    "xyxy": (
        ("left", "top", "right", "bottom"),
        ("xmin", "ymin", "xmax", "ymax"),
        ("x_min", "y_min", "x_max", "y_max"),
        ("x1", "y1", "x2", "y2"),
    ),
    "xywh": (
        ("left", "top", "width", "height"),
        ("x", "y", "width", "height"),
        ("x", "y", "w", "h"),
        ("xmin", "ymin", "width", "height"),
    ),
    "cxcywh": (
        ("cx", "cy", "w", "h"),
        ("x_center", "y_center", "width", "height"),
        ("cx", "cy", "width", "height"),
    ),
}


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads a CSV of boxes, with a header.

    The image's column may be called image, filename, file, path, ...; the box left,
    top, right, bottom, or xmin, ymin, xmax, ymax, or x, y, width, height, ...; the
    class label_name, label, class, ...; split and session are taken where they exist.
    All other columns come along as metadata. Paths are relative to `options.images`,
    by default the file's folder.

    Raises:
        ValueError: missing columns, or values that aren't numbers.
    """
    path = Path(data)
    stated = _rows(path)
    by_name = {name.strip().lower(): name for name in stated.column_names}
    image_column = next((by_name[name] for name in _IMAGE if name in by_name), None)
    kind, box_names = _box_columns(by_name)
    if image_column is None or not kind:
        wanted = (
            f"an image column ({', '.join(_IMAGE[:4])}, ...) and a box (left, top, "
            "right, bottom, or x, y, width, height, ...)"
        )
        raise ValueError(
            f"data must have {wanted}; {path} has the columns "
            f"{', '.join(stated.column_names)}"
        )
    label_column = next((by_name[name] for name in _LABEL if name in by_name), None)
    rows = stated.to_pydict()
    box_columns = [by_name[name] for name in box_names]
    try:
        boxes = np.array([rows[name] for name in box_columns], np.float64).T
    except (ValueError, TypeError):
        raise ValueError(
            f"columns {', '.join(box_names)} of {path} must hold numbers"
        ) from None

    def texts(column: str | None) -> list[str]:
        """A column as text, "" where it is empty or missing."""
        values = rows[column] if column else [None] * stated.num_rows
        return ["" if value is None else str(value) for value in values]

    columns: dict[str, list[Any]] = {}
    if "session" in by_name:
        columns["session"] = texts(by_name["session"])
    # SQL doesn't tell capital from small letters, so a column of that name would hide
    # one of ours.
    taken = {*SCHEMA.names, *ADDED_COLUMNS}
    used = {image_column, label_column, *box_columns}
    for name in stated.column_names:
        if name not in used and name.lower() not in taken:
            columns[name] = rows[name]
    return Annotations(
        root=Path(options.images) if options.images else path.parent,
        source=str(path),
        images=[plain_path(value) for value in rows[image_column]],
        names=texts(label_column),
        splits=[
            SPLITS.get(split.lower(), split) for split in texts(by_name.get("split"))
        ],
        boxes=boxes.reshape(-1, 4),
        convention=options.boxes or kind,
        columns=columns,
    )


def _box_columns(by_name: dict[str, str]) -> tuple[str, tuple[str, ...]]:
    """The convention that the column names say, and the names; "" without any."""
    for kind, choices in _BOXES.items():
        for names in choices:
            if all(name in by_name for name in names):
                return kind, names
    return "", ()


def _rows(path: Path) -> pa.Table:
    """Reads a CSV; columns of image names stay text, and semicolons or tabs may
    separate.
    """
    # The whole file, not its first line: pyarrow would take another encoding for bytes,
    # in silence.
    first = read_text(path).split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    names = [name.strip().strip('"') for name in first.split(delimiter)]
    as_text = {
        name: pa.string()
        for name in names
        if name.lower() in (*_IMAGE, "session", "split")
    }
    parse, convert = (
        pyarrow.csv.ParseOptions(delimiter=delimiter),
        pyarrow.csv.ConvertOptions(column_types=as_text),
    )
    try:
        rows = pyarrow.csv.read_csv(path, parse_options=parse, convert_options=convert)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"data must be a CSV file with a header; {path} isn't: {error}"
        ) from None
    if not rows.num_rows:
        raise ValueError(f"data must hold boxes; {path} has a header and no row")
    return rows


def write(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """crops.csv: all columns of the crop table, with class, score and relevant."""
    rows = selected_columns(selection)
    write_atomically(
        folder / "crops.csv", lambda file: pyarrow.csv.write_csv(rows, file)
    )


FORMAT = Format(
    name="csv",
    keeps="a row a crop: class, score, relevant, and every column of the crop table",
    read=read,
    write=write,
    reads="file",
    detect=is_file_with(".csv"),
    options=frozenset({"boxes", "box_size", "images"}),
)
