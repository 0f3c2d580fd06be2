"""A YOLO data set: images, and beside them label files of `class cx cy w h`, relative
to the image's size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from artifacts.files import read_text
from artifacts.progress import Progress
from data.files import subfolders, visible_files
from data.formats.base import SPLITS, Annotations, Format, SourceOptions
from data.formats.writing import (
    Selection,
    distinct_file_names,
    image_sizes,
    link,
    rows_by_image,
)
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


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads a YOLO folder.

    Layouts: images/<split>/ with labels/<split>/, <split>/images/ with <split>/labels/,
    or images/ with labels/. Class names come from a .yaml file's `names` or from
    classes.txt; without either a class is called by its number. Rows of more than five
    numbers are segments (class x1 y1 x2 y2 ...), whose bounding box is taken. Boxes are
    cxcywh_relative unless `options.boxes` says otherwise.

    Raises:
        ValueError: no images with labels, or unreadable class names.
    """
    root = Path(data)
    names = _class_names(root)
    pairs = _pairs(root, report)
    images: list[str] = []
    labels: list[int] = []
    boxes: list[list[float]] = []
    for image, path in pairs.items():
        rows = _read_rows(path, report)
        report.count("label files without a box", not rows)
        for label, box in rows:
            images.append(image)
            labels.append(label)
            boxes.append(box)
    if not boxes:
        raise ValueError(
            f"data must hold boxes; the label files below {str(root)!r} hold none"
        )
    unnamed = sorted({label for label in labels if names and label not in names})
    if unnamed:
        raise ValueError(
            f"class numbers in {str(root)!r} must be those of its names "
            f"({len(names)}); got {unnamed[:5]}"
        )
    return Annotations(
        root=root,
        source=str(root),
        images=images,
        names=[names.get(label, str(label)) for label in labels],
        splits=[_split_of(image) for image in images],
        boxes=np.array(boxes),
        convention=options.boxes or "cxcywh_relative",
        labels=labels,
    )


def _pairs(root: Path, report: Report) -> dict[str, Path]:
    """Image -> its label file, where there is one."""
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
    labels = {
        path
        for path in found
        if path.suffix == ".txt"
        and path.name != "classes.txt"
        and "labels" in path.relative_to(root).parts
    }
    report.count("label files without an image", len(labels - set(pairs.values())))
    annotated = {image: path for image, path in pairs.items() if path.is_file()}
    if not annotated:
        raise ValueError(
            "data must hold images/ with labels/ beside it; no image below "
            f"{str(root)!r} has a label file"
        )
    return annotated


def _split_of(image: str) -> str:
    folders = [part.lower() for part in Path(image).parts[:-1]]
    return next((SPLITS[part] for part in folders if part in SPLITS), "")


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
    files = distinct_file_names([image.removeprefix("images/") for image in by_image])
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    stems: set[str] = set()
    chosen = set(selection.rows.tolist())
    splits: dict[str, str] = {}
    for image, rows in progress(by_image.items(), unit="image", desc="export"):
        name = files[image.removeprefix("images/")]
        if not (table.root / image).is_file():
            report.skip(image, "no such file")
            report.written -= len(chosen.intersection(rows))
            continue
        while Path(name).stem in stems:  # a.jpg and a.png would share a label file
            name = f"_{name}"
        stems.add(Path(name).stem)
        link(table.root / image, folder / "images" / name)
        splits[name] = str(table.column("split")[rows[0]])
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
    # Relative to the file itself, as long as it states no `path`.
    places = {"train": "images", "val": "images"}
    if {"train", "validation"} <= set(splits.values()):
        for name, split in (("train", "train"), ("val", "validation")):
            listed = [
                f"./images/{file}\n" for file, of in splits.items() if of == split
            ]
            (folder / f"{name}.txt").write_text("".join(listed), encoding="utf-8")
            places[name] = f"{name}.txt"
    content = {**places, "names": dict(enumerate(names))}
    (folder / "data.yaml").write_text(
        yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8"
    )


FORMAT = Format(
    name="yolo",
    keeps="images, all boxes of a class, data.yaml, lists by split",
    read=read,
    write=write,
    detect=lambda path: path.is_dir() and is_yolo(path),
    options=frozenset({"boxes"}),
)
