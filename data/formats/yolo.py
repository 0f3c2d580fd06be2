"""A YOLO data set: images, and beside them label files of `class cx cy w h`, relative
to the image's size.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from artifacts.files import read_text
from artifacts.progress import Progress
from data.boxes import MOST_MISFITS
from data.files import subfolders, visible_files
from data.formats.base import (
    SPLITS,
    Annotations,
    Format,
    SourceOptions,
)
from data.formats.writing import (
    Selection,
    distinct_file_names,
    image_sizes,
    link,
    rows_by_image,
    split_of_images,
)
from data.formats.yolo_config import Config, read_config
from data.formats.yolo_rows import Box, Row, boxes_of, parse
from data.images import EXTENSIONS, ending_of
from data.report import Report


def is_yolo(path: Path) -> bool:
    """Whether a path looks like a YOLO data set: its data.yaml, or a folder with
    labels/ beside images/, at the top or one below.
    """
    if not path.is_dir():
        return path.suffix.lower() in (".yaml", ".yml")
    return any(
        {"images", "labels"} <= {inner.name.lower() for inner in subfolders(folder)}
        for folder in (path, *subfolders(path))
    )


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads a YOLO data set: its folder, or its data.yaml.

    Layouts: images/<split>/ with labels/<split>/, <split>/images/ with <split>/labels/,
    or images/ with labels/; or what data.yaml names as train, val and test: folders, or
    lists of images. Of a folder, images that it doesn't name are read too. Class names
    come from a .yaml file's `names` or from classes.txt; without either a class is
    called by its number. What follows the class in a row, see `yolo_rows`; of segments
    and corners the bounding box is taken. Boxes are cxcywh_relative unless
    `options.boxes` says otherwise.

    Raises:
        ValueError: no images with labels, unreadable class names, or rows whose meaning
            can't be told.
    """
    path = Path(data)
    root = path if path.is_dir() else path.parent
    config = read_config(path, report)
    pairs = _pairs(root, config, path.is_dir(), report)
    images: list[str] = []
    rows: list[Row] = []
    for image, label_file in pairs.items():
        lines = _lines(label_file)
        report.count("label files without a box", not lines)
        report.seen += len(lines)
        found = [row for row in map(parse, lines) if row]
        report.drop("label rows that can't be read", len(lines) - len(found))
        images += [image] * len(found)
        rows += found
    boxes = _boxes(rows, config, root)
    kept = [
        place
        for place, (row, box) in enumerate(zip(rows, boxes, strict=True))
        if box and (not config.names or row.label in config.names)
    ]
    unnamed = [row for row in rows if config.names and row.label not in config.names]
    if len(unnamed) > MOST_MISFITS * len(rows):
        raise ValueError(
            f"class numbers in {str(path)!r} must be those of its names "
            f"({len(config.names)}); got {sorted({row.label for row in unnamed})[:5]}"
        )
    report.drop("label rows of a class that has no name", len(unnamed))
    report.drop(
        "label rows of another layout than the data set's",
        len(rows) - len(kept) - len(unnamed),
    )
    if not kept:
        told = f" ({'; '.join(report.lines())})" if report.counts else ""
        raise ValueError(
            f"data must hold boxes; the label files of {str(path)!r} hold none{told}"
        )
    labels = [rows[place].label for place in kept]
    images = [images[place] for place in kept]
    return Annotations(
        root=root,
        source=str(path),
        images=images,
        names=[config.names.get(label, str(label)) for label in labels],
        splits=[config.split_of(image) for image in images],
        boxes=np.array([boxes[place] for place in kept], np.float64),
        convention=options.boxes or "cxcywh_relative",
        labels=labels,
    )


def _boxes(rows: list[Row], config: Config, root: Path) -> list[Box | None]:
    try:
        return boxes_of(rows, config.keypoints, config.task)
    except ValueError as error:
        raise ValueError(f"data can't be read; in {str(root)!r} {error}") from None


def _lines(path: Path) -> list[str]:
    return [line for line in read_text(path, strict=False).splitlines() if line.strip()]


# Images and their label files


def _pairs(
    root: Path, config: Config, is_folder: bool, report: Report
) -> dict[str, Path]:
    """Image -> its label file, where there is one."""
    images = dict.fromkeys(config.splits)
    labels: set[Path] = set()
    if is_folder:
        for path in sorted(visible_files(root)):
            folders = [part.lower() for part in path.relative_to(root).parts[:-1]]
            if path.suffix.lower() in EXTENSIONS and "images" in folders:
                images[path.relative_to(root).as_posix()] = None
            elif path.suffix == ".txt" and "labels" in folders:
                labels.add(path)
    found = {
        image: label_file
        for image in sorted(images)
        if (label_file := _label_file(root, image)) and label_file.is_file()
    }
    report.count("images without a label file", len(images) - len(found))
    labels = {path for path in labels if path.name != "classes.txt"}
    report.count("label files without an image", len(labels - set(found.values())))
    if not found:
        masks = any(
            path.suffix.lower() in EXTENSIONS and "labels" in path.parts
            for path in visible_files(root)
        )
        raise ValueError(
            "data must hold images/ with labels/ beside it, or a data.yaml that names "
            f"its images; no image of {str(root)!r} has a label file (.txt)"
            + ("; labels/ holds pictures: masks aren't read" if masks else "")
        )
    return _without_links(root, found, config, report)


def _without_links(
    root: Path, pairs: dict[str, Path], config: Config, report: Report
) -> dict[str, Path]:
    """The pairs without those that links lead to again; of several the one with a
    split stays.
    """
    kept: dict[tuple[str, str], str] = {}
    for image, label_file in pairs.items():
        key = (os.path.realpath(root / image), os.path.realpath(label_file))
        earlier = kept.setdefault(key, image)
        if not config.split_of(earlier):
            kept[key] = image
    report.count("images that links lead to again", len(pairs) - len(kept))
    return {image: pairs[image] for image in sorted(kept.values())}


def _label_file(root: Path, image: str) -> Path | None:
    """The label file of an image: `images` becomes `labels` in its path (the last time
    it occurs); beside the image where there is no such folder.
    """
    parts = image.split("/")
    folders = [part.lower() for part in parts[:-1]]
    stem = [Path(parts[-1]).stem + ".txt"]
    if "images" not in folders:
        return root.joinpath(*parts[:-1], *stem)
    for place in range(len(folders) - 1, -1, -1):
        if folders[place] != "images":
            continue
        for name in ("labels", "Labels", "LABELS"):
            path = root.joinpath(*parts[:place], name, *parts[place + 1 : -1], *stem)
            if path.is_file():
                return path
    return None


def write(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """images/ (links to the originals, copies where links aren't possible), labels/,
    data.yaml, and lists by split where known.
    """
    table, classes = selection.table, selection.class_of_all()
    names = selection.classes
    number = {name: place for place, name in enumerate(names)}
    sizes, by_image = image_sizes(table), rows_by_image(table)
    files = _file_names(table.root, list(by_image))
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    chosen = set(selection.rows.tolist())
    splits: dict[str, str] = {}
    split_of = split_of_images(table, report)
    for image, rows in progress(by_image.items(), unit="image", desc="export"):
        name = files[image]
        if not (table.root / image).is_file():
            report.skip(image, "no such file")
            report.written -= len(chosen.intersection(rows))
            continue
        link(table.root / image, folder / "images" / name)
        splits[name] = split_of[image]
        width, height = sizes[image]
        lines = []
        for row in rows:
            left, top, right, bottom = table.boxes[row].tolist()
            if classes[row]:
                center = ((left + right) / 2 / width, (top + bottom) / 2 / height)
                shares = (*center, (right - left) / width, (bottom - top) / height)
                lines.append(
                    f"{number[classes[row]]} "
                    + " ".join(f"{share:.8f}" for share in shares)
                )
        label = folder / "labels" / f"{Path(name).stem}.txt"
        label.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    report.count("boxes of no class", sum(not name for name in classes))
    unknown = [split for split in splits.values() if split not in SPLITS.values()]
    if any(splits.values()):
        report.count(
            "photos of no split that data.yaml can name: only in images/", len(unknown)
        )
    content = {**_write_lists(folder, splits), "names": dict(enumerate(names))}
    (folder / "data.yaml").write_text(
        yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8"
    )


def _file_names(root: Path, images: list[str]) -> dict[str, str]:
    """Image -> the name of its file, with an ending by which readers know it. No two
    share a stem, since their label files are named by it.
    """
    stems: dict[str, str] = {}
    endings: dict[str, str] = {}
    for image in images:
        stem, ending = os.path.splitext(image.removeprefix("images/"))
        if ending.lower() not in EXTENSIONS:
            stem, ending = stem + ending, ending_of(root / image)
        stems[image], endings[image] = f"{stem}.txt", ending
    labels = distinct_file_names(stems)
    return {
        image: labels[image].removesuffix(".txt") + endings[image] for image in images
    }


def _write_lists(folder: Path, splits: Mapping[str, str]) -> dict[str, str]:
    """Writes a list of images for each split, and returns what data.yaml names as train
    and val, which it must; relative to the file itself, as long as it states no `path`.
    """
    places: dict[str, str] = {}
    for key, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        listed = [f"./images/{file}\n" for file, of in splits.items() if of == split]
        if listed:
            places[key] = f"{key}.txt"
            (folder / places[key]).write_text("".join(listed), encoding="utf-8")
    some = next(iter(places.values()), "images")
    return {"train": some, "val": some, **places}


FORMAT = Format(
    name="yolo",
    keeps="images, all boxes of a class, data.yaml, lists by split",
    read=read,
    write=write,
    reads=("file", "folder"),
    detect=is_yolo,
    options=frozenset({"boxes"}),
)
