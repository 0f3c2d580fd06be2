"""Reads a YOLO data set: images, and beside them label files of `class cx cy w h`,
relative to the image's size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from artifacts.files import read_text
from artifacts.progress import Progress, no_progress
from data.boxes import check_convention, read_sizes, sizes_of, table_of_boxes
from data.crop_table import CropTable
from data.image_folder import SPLITS, subfolders, visible_files
from data.images import EXTENSIONS
from data.report import Report


def is_yolo(root: Path) -> bool:
    """Whether a folder looks like a YOLO data set: a labels/ folder beside an images/
    folder, at the top or one below.
    """
    return any(
        (folder / "labels").is_dir() and (folder / "images").is_dir()
        for folder in (root, *subfolders(root))
    )


def read_yolo(
    root: str | Path,
    convention: str = "cxcywh_relative",
    progress: Progress = no_progress,
) -> tuple[CropTable, Report]:
    """Reads a YOLO folder as a crop table.

    Layouts: images/<split>/ with labels/<split>/, <split>/images/ with <split>/labels/,
    or images/ with labels/. Class names come from a .yaml file's `names` or from
    classes.txt; without either a class is called by its number. Rows of more than five
    numbers are segments (class x1 y1 x2 y2 ...), whose bounding box is taken.

    Args:
        root: the folder.
        convention: of the boxes; YOLO's own is cxcywh_relative.
        progress: wraps the iteration over images.

    Raises:
        ValueError: no images with labels, unreadable class names, or boxes that don't
            fit.
    """
    root = Path(root)
    report = Report()
    names = _class_names(root)
    found = list(visible_files(root))
    files = [
        path
        for path in found
        if path.suffix.lower() in EXTENSIONS
        and "images" in path.relative_to(root).parts
    ]
    pairs = {
        path.relative_to(root).as_posix(): _label_file(root, path)
        for path in sorted(files)
    }
    report.count(
        "images without a label file",
        sum(not path.is_file() for path in pairs.values()),
    )
    texts = {
        path for path in found if path.suffix == ".txt" and path.name != "classes.txt"
    }
    labels = {path for path in texts if "labels" in path.relative_to(root).parts}
    report.count("label files without an image", len(labels - set(pairs.values())))
    annotated = [image for image, path in pairs.items() if path.is_file()]
    if not annotated:
        raise ValueError(
            "data must hold images/ with labels/ beside it; no image below "
            f"{str(root)!r} has a label file"
        )
    sizes = read_sizes(root, annotated, report, progress)

    columns: dict[str, list[Any]] = {
        "image": [],
        "label": [],
        "label_name": [],
        "split": [],
    }
    boxes: list[list[float]] = []
    for image in annotated:
        if image not in sizes:
            continue
        rows = _read_rows(pairs[image], report)
        report.count("label files without a box", not rows)
        for label, box in rows:
            columns["image"].append(image)
            columns["label"].append(label)
            columns["label_name"].append(names.get(label, str(label)))
            columns["split"].append(
                next(
                    (
                        SPLITS[part.lower()]
                        for part in Path(image).parts[:-1]
                        if part.lower() in SPLITS
                    ),
                    "",
                )
            )
            boxes.append(box)
    if not boxes:
        raise ValueError(
            f"data must hold boxes; the label files below {str(root)!r} hold none"
        )
    corners = check_convention(
        np.array(boxes), convention, sizes_of(columns["image"], sizes), str(root)
    )
    unnamed = sorted(
        {label for label in columns["label"] if names and label not in names}
    )
    if unnamed:
        raise ValueError(
            f"class numbers in {str(root)!r} must be those of its names "
            f"({len(names)}); got {unnamed[:5]}"
        )
    return table_of_boxes(root, corners, columns, sizes, report), report


def _label_file(root: Path, image: Path) -> Path:
    """The label file of an image: `images` becomes `labels` in its path (the last time
    it occurs).
    """
    parts = list(image.relative_to(root).parts)
    place = len(parts) - 1 - parts[::-1].index("images")
    return root.joinpath(*parts[:place], "labels", *parts[place + 1 :]).with_suffix(
        ".txt"
    )


def _class_names(root: Path) -> dict[int, str]:
    folders = (root, *subfolders(root))
    configs = [
        path
        for folder in folders
        for pattern in ("data.y*ml", "*.y*ml")
        for path in sorted(folder.glob(pattern))
    ]
    for path in configs:
        try:
            content = yaml.load(
                read_text(path), yaml.BaseLoader
            )  # every value as text: "no" and "yes" are names
        except yaml.YAMLError as error:
            raise ValueError(
                f"{path} must be YAML with the class names: "
                f"{' '.join(str(error).split())}"
            ) from None
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        if isinstance(names, list):
            return dict(enumerate(map(str, names)))
        if isinstance(names, dict):
            return {int(number): str(name) for number, name in names.items()}
    for folder in folders:
        for name in ("classes.txt", "obj.names"):
            if (folder / name).is_file():
                return dict(enumerate(read_text(folder / name).splitlines()))
    return {}


def _read_rows(path: Path, report: Report) -> list[tuple[int, list[float]]]:
    rows = []
    for line in read_text(path, strict=False).splitlines():
        parts = line.split()
        if not parts:
            continue
        try:
            label, values = int(float(parts[0])), [float(part) for part in parts[1:]]
            if not 0 <= label < 100_000:
                raise ValueError
        except (ValueError, OverflowError):
            values = []
        if len(values) >= 6 and len(values) % 2 == 0:  # a segment
            xs, ys = values[0::2], values[1::2]
            values = [
                (min(xs) + max(xs)) / 2,
                (min(ys) + max(ys)) / 2,
                max(xs) - min(xs),
                max(ys) - min(ys),
            ]
        if len(values) not in (4, 5):  # a fifth number is a confidence
            report.count("label rows that can't be read, left out")
            continue
        rows.append((label, values[:4]))
    return rows
