"""A CSV of boxes: one row a box, with the image's path and, where there are any, class,
split, session and more.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from artifacts.files import read_text, write_atomically
from artifacts.progress import Progress
from data.boxes import ADDED_COLUMNS, plain_path
from data.crop_table import SCHEMA
from data.files import is_file, subfolders
from data.formats.base import (
    Annotations,
    Format,
    NoImagesError,
    SourceOptions,
    folder_of_most,
    is_file_with,
    joined,
    pixels,
    split_named,
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
    "filepath",
    "file_path",
    "image_name",
    "img_path",
    "img_name",
    "imagepath",
    "fname",
    "image_id",
    "imageid",
)
_LABEL = (
    "label_name",
    "class_name",
    "label",
    "class",
    "category",
    "name",
    "species",
    "labelname",
    "category_name",
    "class_label",
    "target",
    "tag",
)
ROBOFLOW = "_annotations.csv"  # the name of such files in Roboflow's exports
_BOXES = {
    "xyxy": (
        ("left", "top", "right", "bottom"),
        ("xmin", "ymin", "xmax", "ymax"),
        ("x_min", "y_min", "x_max", "y_max"),
        ("minx", "miny", "maxx", "maxy"),
        ("x1", "y1", "x2", "y2"),
        ("x0", "y0", "x1", "y1"),
        ("xtl", "ytl", "xbr", "ybr"),
    ),
    # Where the image's width and height stand too, w and h are the box's.
    "xywh": (
        ("left", "top", "w", "h"),
        ("xmin", "ymin", "w", "h"),
        ("x", "y", "w", "h"),
        ("bbox_x", "bbox_y", "bbox_w", "bbox_h"),
        ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
        ("left", "top", "width", "height"),
        ("x", "y", "width", "height"),
        ("xmin", "ymin", "width", "height"),
        ("x_min", "y_min", "width", "height"),
    ),
    "cxcywh": (
        ("cx", "cy", "w", "h"),
        ("x_center", "y_center", "w", "h"),
        ("x_center", "y_center", "width", "height"),
        ("cx", "cy", "width", "height"),
    ),
}
_BOX = "bbox"  # a column that holds all four, as text: [x, y, width, height]
# Columns that must not be passed over as metadata where no box is read.
_LIKE_A_BOX = re.compile(
    r"(b(ounding_?)?|poly)?box(es)?.*|[xy]_?(min|max|tl|br|[0-3]|c|center)|[xy]|c[xy]"
    r"|(min|max)_?[xy]|left|top|right|bottom|polygon|points|segmentation|rbox|obb"
)


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads a CSV with a header, of boxes or, where it has none, of whole images.

    The image's column may be called image, filename, file, path, ...; the box left,
    top, right, bottom, or xmin, ymin, xmax, ymax, or x, y, width, height, ...; the
    class label_name, label, class, ...; split and session are taken where they exist,
    and width and height (or image_width, image_height) as the size of the image that
    the boxes were drawn on. All other columns come along as metadata. Classes are text,
    whatever they look like. Paths are relative to `options.images`, by default the
    file's folder.

    A folder is read too: one _annotations.csv in each split's folder, as Roboflow
    exports them.

    Raises:
        ValueError: missing columns, or values that aren't numbers.
    """
    path = Path(data)
    if path.is_dir():
        return joined(
            _parts(path), path, report, lambda part: _read_file(part, options, report)
        )
    return _read_file(path, options, report)


def _parts(root: Path) -> list[Path]:
    """The annotation files of a folder with one a split."""
    return [
        folder / ROBOFLOW
        for folder in (root, *subfolders(root))
        if (folder / ROBOFLOW).is_file()
    ]


def _read_file(path: Path, options: SourceOptions, report: Report) -> Annotations:
    return annotations_of(read_columns(path), path, options, report)


def annotations_of(
    rows: dict[str, list[str]], path: Path, options: SourceOptions, report: Report
) -> Annotations:
    """What columns of text state, by the names that people use.

    Args:
        rows: column -> texts, "" where they are empty.
        path: the file that they come from.
        options: see `SourceOptions`.
        report: receives what is left out.

    Raises:
        ValueError: missing columns, or values that aren't numbers.
    """
    if not next(iter(rows.values()), None):
        raise NoImagesError(f"data must hold boxes; {path} has a header and no row")
    by_name = {name.strip().lower(): name for name in rows}
    image_column = next((by_name[name] for name in _IMAGE if name in by_name), None)
    kind, box_names = _box_columns(by_name)
    label_column = _label_column(rows, by_name)
    # A box under other names mustn't make whole images of its rows.
    is_wanted_so = bool(label_column or options.numbered or options.tiles)
    is_of_images = is_wanted_so and not any(map(_LIKE_A_BOX.fullmatch, by_name))
    if image_column is None or not (kind or is_of_images):
        wanted = (
            f"an image column ({', '.join(_IMAGE[:4])}, ...) and a box (left, top, "
            "right, bottom, or x, y, width, height, ...) or a class"
        )
        raise ValueError(
            f"data must have {wanted}; {path} has the columns {', '.join(rows)}"
        )
    root = Path(options.images) if options.images else _root(path, rows[image_column])
    images = [_image(value, root) for value in rows[image_column]]
    report.seen += len(images)
    named = [row for row, image in enumerate(images) if image]
    report.drop("rows without an image", len(images) - len(named))
    rows = {name: [values[row] for row in named] for name, values in rows.items()}
    images = [images[row] for row in named]
    box_columns = [by_name[name] for name in box_names]
    empty = [""] * len(named)
    splits = rows[by_name["split"]] if "split" in by_name else empty
    return Annotations(
        root=root,
        source=str(path),
        images=images,
        names=empty if label_column is None else rows[label_column],
        splits=[split_named(text) or text.strip() for text in splits],
        boxes=_boxes(path, [rows[name] for name in box_columns]) if kind else None,
        convention=options.boxes or kind,
        columns=_metadata(rows, by_name, {image_column, label_column, *box_columns}),
        source_rows=named,
        stated_sizes=_stated_sizes(images, rows, by_name, set(box_columns)),
    )


def _label_column(rows: dict[str, list[str]], by_name: dict[str, str]) -> str | None:
    """The column of class names; one of numbers only where there is no other."""
    known = [by_name[name] for name in _LABEL if name in by_name]
    words = [name for name in known if not all(map(_NUMBER.fullmatch, rows[name]))]
    return next(iter([*words, *known]), None)


def _root(path: Path, names: list[str]) -> Path:
    """The folder of the images: the file's own, or images/ beside or above it where
    more of the first ones lie there.
    """
    above = (path.parent, path.parent.parent)
    choices = [folder / part for folder in above for part in ("", "images")]
    first = [plain_path(name.strip()) for name in names[:100]]
    return folder_of_most(choices, first) or path.parent


def _image(stated: str, root: Path) -> str:
    """An image's path; spaces around it belong to it where there is such a file."""
    stripped = stated.strip()
    is_name = stated != stripped and is_file(root / stated)
    return plain_path(stated if is_name else stripped) if stripped else ""


def _boxes(path: Path, columns: list[list[str]]) -> np.ndarray:
    """[N, 4] float, NaN where it is empty."""
    if len(columns) == 1:
        columns = _split_boxes(path, columns[0])
    try:
        numbers = [
            [float(value) if value else float("nan") for value in column]
            for column in columns
        ]
    except ValueError as error:
        raise ValueError(
            f"columns of boxes in {path} must hold numbers: {error}"
        ) from None
    return np.array(numbers, np.float64).reshape(4, -1).T


def _split_boxes(path: Path, column: list[str]) -> list[list[str]]:
    """Four columns of one that holds [x, y, width, height] as text."""
    parts = [re.split(r"[\s,;]+", value.strip("[](){} ")) for value in column]
    wrong = next((row for row, part in enumerate(parts) if len(part) != 4), None)
    if wrong is not None and any(parts[wrong]):
        raise ValueError(
            f"column {_BOX} of {path} must hold four numbers; got {column[wrong]!r}"
        )
    whole = [part if len(part) == 4 else [""] * 4 for part in parts]
    return [list(side) for side in zip(*whole, strict=True)]


def _stated_sizes(
    images: list[str],
    rows: dict[str, list[str]],
    by_name: dict[str, str],
    used: set[str],
) -> dict[str, tuple[int, int]]:
    """Image -> its size, where columns say so that aren't the box's."""
    for names in (("image_width", "image_height"), ("width", "height")):
        columns = [by_name[name] for name in names if name in by_name]
        if len(columns) == 2 and not used & set(columns):
            pairs = zip(*(rows[name] for name in columns), strict=True)
            sizes = [tuple(map(pixels, pair)) for pair in pairs]
            return {
                image: (width, height)
                for image, (width, height) in zip(images, sizes, strict=True)
                if width and height
            }
    return {}


def _metadata(
    rows: dict[str, list[str]], by_name: dict[str, str], used: set[str | None]
) -> dict[str, list[Any]]:
    """The other columns. SQL doesn't tell capital from small letters, so a column whose
    name is one of ours is left out, and of two such names one is numbered.
    """
    ours = {*SCHEMA.names, *ADDED_COLUMNS}
    columns: dict[str, list[Any]] = {}
    taken: set[str] = set()
    for name, values in rows.items():
        if name in used or name.strip().lower() in ours:
            continue
        called, number = name or "unnamed", 2
        while called.lower() in taken:
            called, number = f"{name or 'unnamed'}_{number}", number + 1
        taken.add(called.lower())
        columns[called] = typed(values)
    if "session" in by_name:
        columns["session"] = rows[by_name["session"]]
    return columns


_WHOLE_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?(e[-+]?\d+)?")


def typed(values: list[str]) -> list[Any]:
    """A column as numbers or truth values where all that is stated is one as people
    write them, otherwise as text: 007 and 1E2 are codes.
    """
    stated = {value for value in values if value}
    if not stated:
        return values
    if stated <= {"true", "false"}:
        return [value == "true" if value else None for value in values]
    if all(map(_WHOLE_NUMBER.fullmatch, stated)):
        return [int(value) if value else None for value in values]
    if all(map(_NUMBER.fullmatch, stated)):
        return [float(value) if value else None for value in values]
    return values


def _box_columns(by_name: dict[str, str]) -> tuple[str, tuple[str, ...]]:
    """The convention that the column names say, and the names; "" without any. Of
    xywh in one column it is the only name.
    """
    for kind, choices in _BOXES.items():
        for names in choices:
            if all(name in by_name for name in names):
                return kind, names
    return ("xywh", (_BOX,)) if _BOX in by_name else ("", ())


def _bare(value: str) -> str:
    """A value without spaces around it, nor quotes that stood behind a space."""
    text = value.strip()
    is_quoted = text != value and len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if is_quoted else text


def read_columns(path: Path) -> dict[str, list[str]]:
    """Columns by name, all as text, "" where they are empty; semicolons or tabs may
    separate.
    """
    # The whole file, not its first line: pyarrow would take another encoding for bytes,
    # in silence.
    text = read_text(path)
    if text.startswith("sep="):  # a line of Excel's
        text = text.split("\n", 1)[-1]
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        names = next(csv.reader([first.rstrip("\r")], delimiter=delimiter))
        names = [name.strip() for name in names]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"its columns must have different names: {names}")
        if names.count("") == 1:  # the row numbers that pandas writes
            names[names.index("")] = "index"
        rows = pyarrow.csv.read_csv(
            io.BytesIO(text.encode()),
            pyarrow.csv.ReadOptions(column_names=names, skip_rows=1),
            parse,
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=[]
            ),
        )
    except (pa.ArrowInvalid, OSError, ValueError, csv.Error, StopIteration) as error:
        raise ValueError(
            f"data must be a CSV file with a header; {path} isn't: "
            f"{' '.join(str(error).split())}"
        ) from None
    columns = dict(zip(names, (column.to_pylist() for column in rows), strict=True))
    return {
        name: values if name.lower() in _IMAGE else list(map(_bare, values))
        for name, values in columns.items()
    }


def _header(path: Path) -> set[str]:
    """Names of a CSV's columns, in small letters; none where it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            first = file.readline(10_000).strip().lower()
    except OSError:
        return set()
    return {name.strip().strip('"') for name in re.split("[,;\t]", first)}


def has_boxes(path: Path) -> bool:
    """Whether a CSV's header names images and boxes."""
    names = _header(path)
    return any(map(_LIKE_A_BOX.fullmatch, names)) and bool(names & set(_IMAGE))


def has_classes(path: Path) -> bool:
    """Whether a CSV's header names images and classes."""
    names = _header(path)
    return bool(names & set(_LABEL)) and bool(names & set(_IMAGE))


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
    reads=("file", "folder"),
    detect=lambda path: (
        is_file_with(".csv")(path)
        or is_file_with(".tsv")(path)
        or (path.is_dir() and bool(_parts(path)))
    ),
    options=frozenset({"boxes", "box_size", "images", "numbered"}),
)
