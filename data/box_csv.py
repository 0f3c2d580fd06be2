"""Reads a CSV of boxes: one row a box, with the image's path and, where there are any,
class, split, session and more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from artifacts.files import read_text
from artifacts.progress import Progress, no_progress
from data.boxes import (
    ADDED_COLUMNS,
    plain_path,
    read_sizes,
    scaled_corners,
    sizes_of,
    table_of_boxes,
)
from data.crop_table import SCHEMA, UNLABELLED, CropTable
from data.image_folder import SPLITS
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


def _read(path: Path) -> pa.Table:
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
    return pyarrow.csv.read_csv(path, parse_options=parse, convert_options=convert)


def read_box_csv(
    path: str | Path,
    images_root: str | Path | None = None,
    convention: str = "",
    box_size: tuple[int, int] | None = None,
    progress: Progress = no_progress,
) -> tuple[CropTable, Report]:
    """Reads a CSV of boxes, with a header, as a crop table.

    The image's column may be called image, filename, file, path, ...; the box left,
    top, right, bottom, or xmin, ymin, xmax, ymax, or x, y, width, height, ...; the
    class label_name, label, class, ...; split and session are taken where they exist.
    All other columns come along as metadata.

    Args:
        path: the CSV file.
        images_root: the folder that the paths are relative to; default: the file's
            folder.
        convention: of the boxes, where the column names mislead; default: as the names
            say, in pixels.
        box_size: width and height of the images that the boxes were drawn on, where the
            files have another size.
        progress: wraps the iteration over images.

    Raises:
        ValueError: missing columns, values that aren't numbers, images that aren't
            there, or boxes that don't fit.
    """
    path = Path(path)
    root = Path(images_root) if images_root else path.parent
    try:
        stated = _read(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"data must be a CSV file with a header; {path} isn't: {error}"
        ) from None
    if not stated.num_rows:
        raise ValueError(f"data must hold boxes; {path} has a header and no row")
    by_name = {name.strip().lower(): name for name in stated.column_names}
    image_column = next((by_name[name] for name in _IMAGE if name in by_name), None)
    found = next(
        (
            (kind, names)
            for kind, choices in _BOXES.items()
            for names in choices
            if all(name in by_name for name in names)
        ),
        None,
    )
    if image_column is None or found is None:
        wanted = (
            f"an image column ({', '.join(_IMAGE[:4])}, ...) and a box (left, top, "
            "right, bottom, or x, y, width, height, ...)"
        )
        raise ValueError(
            f"data must have {wanted}; {path} has the columns "
            f"{', '.join(stated.column_names)}"
        )
    kind, box_names = found
    label_column = next((by_name[name] for name in _LABEL if name in by_name), None)
    rows = stated.to_pydict()
    images = [plain_path(value) for value in rows[image_column]]
    try:
        boxes = np.array(
            [rows[by_name[name]] for name in box_names], np.float64
        ).T.reshape(-1, 4)
    except (ValueError, TypeError):
        raise ValueError(
            f"columns {', '.join(box_names)} of {path} must hold numbers"
        ) from None
    report = Report()
    distinct = list(dict.fromkeys(images))
    sizes = read_sizes(root, distinct, report, progress)
    if not sizes:
        raise ValueError(
            f"images must be given: none of the {len(distinct)} images of {path}, such "
            f"as {distinct[:1]}, can be read below {root}"
        )
    keep = [row for row, image in enumerate(images) if image in sizes]
    report.count(
        "boxes on images that can't be read, left out", len(images) - len(keep)
    )
    images = [images[row] for row in keep]
    corners = scaled_corners(
        boxes[keep], convention or kind, sizes_of(images, sizes), box_size, str(path)
    )

    def texts(column: str) -> list[str]:
        """A column of the kept rows as text, "" where it is empty."""
        return [
            ""
            if rows[by_name[column]][row] is None
            else str(rows[by_name[column]][row])
            for row in keep
        ]

    names = (
        [""] * len(keep)
        if label_column is None
        else texts(label_column.strip().lower())
    )
    classes = sorted(set(names) - {""})
    columns: dict[str, list[Any]] = {"image": images}
    columns |= {
        "label": [classes.index(name) if name else UNLABELLED for name in names],
        "label_name": names,
    }
    splits = texts("split") if "split" in by_name else [""] * len(keep)
    columns["split"] = [SPLITS.get(split.lower(), split) for split in splits]
    if "session" in by_name:
        columns["session"] = texts("session")
    # SQL doesn't tell capital from small letters, so a column of that name would hide
    # one of ours.
    taken = {*SCHEMA.names, *columns, *ADDED_COLUMNS}
    used = {image_column, label_column, *(by_name[name] for name in box_names)}
    for name in stated.column_names:
        if name not in used and name.lower() not in taken:
            columns[name] = [rows[name][row] for row in keep]
    return table_of_boxes(root, corners, columns, sizes, report), report
