"""What a format is, and what its reader hands over."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from artifacts.progress import Progress
from data.crop_table import CropTable
from data.formats.writing import Selection
from data.images import as_on_disk
from data.report import Report
from data.tiles import Tiling

AUTO = "auto"  # the format by name and layout
RAW = "CropAndWeed"  # the variant with all label ids of CropAndWeed
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "development": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
UNLABELED = ("unlabelled", "unlabeled")  # folders whose images have no class and split


def split_named(name: str) -> str:
    """The split that a name stands for, "" for any other."""
    return SPLITS.get(name.strip().lower(), "")


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source; what doesn't apply to its format must be left at its
    default.

    Attributes:
        format: a name in `data.formats.registry.READABLE`; "auto" goes by what the path
            is.
        variant: classes of CropAndWeed; see `data.formats.cropandweed.variants`.
        keep_unlabeled: with CropAndWeed, whether boxes of no class stay as unlabelled
            ones.
        boxes: box convention of coco, yolo and csv where it isn't the format's own; see
            `data.boxes.CONVENTIONS`.
        box_size: "WIDTHxHEIGHT" of the images that boxes were drawn on, where the files
            have another size (coco, csv).
        images: folder of the images, where it can't be told from the path (coco, csv,
            parquet).
        crowds: with coco, whether annotations with iscrowd = 1 are read as objects.
        tiles: cuts photos without boxes into tiles: side and overlap in pixels, such as
            "512" or "512,64"; see `data.tiles`.
        recording: what crops were recorded together: "folder", "date" or a column; see
            `data.recordings`. Default: what the source says, or the file's name.
        numbered: whether the source must be a file whose rows are numbered, as vectors
            made elsewhere need it (coco, csv, parquet); see `SOURCE_ROW`.
    """

    format: str = AUTO
    variant: str = RAW
    keep_unlabeled: bool = True
    boxes: str = ""
    box_size: str = ""
    images: str = ""
    crowds: bool = False
    tiles: str = ""
    recording: str = ""
    numbered: bool = field(default=False, metadata={"key": None})

    def __post_init__(self) -> None:
        if self.tiles:
            Tiling.parse(self.tiles)


@dataclass
class Annotations:
    """What a source states, unchecked: one entry an object.

    Attributes:
        root: folder that the image paths are relative to.
        source: what errors call it, a file or a folder.
        images: path of each object's image, with forward slashes.
        names: class of each, "" where there is none.
        splits: of each, "" where there is none.
        boxes: [N, 4] float in `convention`; None: each object is its whole image.
        convention: one of `data.boxes.CONVENTIONS`.
        labels: class number of each; None: the place of its name among the sorted ones.
        columns: the source's own, name -> a value of each object.
        source_rows: which row of the file, as given, each object is; None where it
            has none.
        stated_sizes: image -> the width and height that the source states, which the
            file must have.
        correctable: whether the user may state another convention, or another size of
            the images that the boxes were drawn on.
        check_sizes: what the format says of images of these sizes: raises ValueError.
        derive: columns computed from corners in pixels, checked and not clipped yet, as
            (images, corners [n, 4], sizes) -> columns; of the objects that are kept.
    """

    root: Path
    source: str
    images: Sequence[str]
    names: Sequence[str]
    splits: Sequence[str]
    boxes: np.ndarray | None = None
    convention: str = "xyxy"
    labels: Sequence[int] | None = None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    source_rows: Sequence[int] | None = None
    stated_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    correctable: bool = True
    check_sizes: Callable[[Mapping[str, tuple[int, int]]], None] | None = None
    derive: (
        Callable[
            [list[str], np.ndarray, Mapping[str, tuple[int, int]]],
            dict[str, list[Any]],
        ]
        | None
    ) = None


Reader = Callable[[str, SourceOptions, Report, Progress], Annotations | CropTable]
Writer = Callable[[Selection, Path, Report, Progress], None]


@dataclass(frozen=True)
class Format:
    """A format, one name both ways.

    Attributes:
        name: as --format takes it.
        keeps: what a person gets who exports to it.
        read: (source, options, report, progress) -> what it states; None: written only.
        write: writes a selection into a folder; None: read only.
        reads: what a source may be: "file", "folder", "name".
        detect: whether a path is of this format, by its name and what lies there.
        options: fields of `SourceOptions` that apply.
        old_names: what version 0.5.0 called it.
    """

    name: str
    keeps: str
    read: Reader | None = None
    write: Writer | None = None
    reads: tuple[str, ...] = ("folder",)
    detect: Callable[[Path], bool] = lambda path: False
    options: frozenset[str] = frozenset()
    old_names: tuple[str, ...] = ()


class NoImagesError(ValueError):
    """A source has no rows, or none of its images is there."""


def joined(
    files: Sequence[Path],
    root: Path,
    report: Report,
    read: Callable[[Path], Annotations],
) -> Annotations:
    """Annotations of several files below one folder as one; where a file's place or
    name says a split and it states none, that is its split. Files without images are
    counted.

    Raises:
        ValueError: none has images, they aren't alike, or two of other splits are about
            one image.
    """
    parts: list[Annotations] = []
    problem = f"data must hold annotation files; {str(root)!r} has none"
    for file in files:
        before = report.seen - report.dropped
        try:
            part = read(file)
        except NoImagesError as error:
            problem = str(error)
            report.count("annotation files without images, left out")
            lost = report.seen - report.dropped - before
            report.drop("rows of annotation files without images", lost)
            continue
        own = split_of_file(file, root)
        parts.append(replace(part, splits=[split or own for split in part.splits]))
    if not parts:
        raise ValueError(problem)
    found = concatenated(parts, root)
    of_image: dict[str, str] = {}
    for image, split in zip(found.images, found.splits, strict=True):
        if of_image.setdefault(image, split) != split:
            raise ValueError(
                f"{image} below {root} must be of one split; annotation files of "
                f"{of_image[image] or 'none'} and of {split or 'none'} are about it. "
                "Are these images of other folders that are called alike?"
            )
    return found


def concatenated(parts: Sequence[Annotations], root: Path) -> Annotations:
    """Annotations below one folder, one after the other, at least one.

    Raises:
        ValueError: some have boxes, or boxes of another kind, that others have not.
    """
    first = parts[0]
    if any((part.boxes is None) != (first.boxes is None) for part in parts) or any(
        part.convention != first.convention for part in parts
    ):
        raise ValueError(
            f"the annotation files below {root} must be alike; some have boxes, or "
            "boxes of another kind, that others have not"
        )
    names = {name: None for part in parts for name in part.columns}
    columns: dict[str, list[Any]] = {
        name: [
            value
            for part in parts
            for value in part.columns.get(name, [None] * len(part.images))
        ]
        for name in names
    }
    images: list[str] = []
    sizes: dict[str, tuple[int, int]] = {}
    for part in parts:
        place = _place_below(part, root)
        images += [f"{place}{image}" for image in part.images]
        sizes |= {f"{place}{name}": size for name, size in part.stated_sizes.items()}
    boxes = [part.boxes for part in parts if part.boxes is not None]
    return Annotations(
        root=root,
        source=str(root),
        images=images,
        names=[name for part in parts for name in part.names],
        splits=[split for part in parts for split in part.splits],
        boxes=np.concatenate(boxes) if boxes else None,
        convention=first.convention,
        columns=columns,
        stated_sizes=sizes,
    )


def _place_below(part: Annotations, root: Path) -> str:
    """What leads from the folder to a part's images: "", or ending in a slash."""
    place = Path(os.path.relpath(part.root, root)).as_posix()
    return "" if place == "." else f"{place}/"


# What names and places say


def split_of_folders(image: str) -> str:
    """The split that one of the folders leading to an image names, "" for none."""
    return _first_split(PurePosixPath(image).parts[:-1])


def split_of_file(path: Path, root: Path) -> str:
    """The split that an annotation file's name (instances_train2017.json) or folder
    says, "" for none.
    """
    words = [last_word(path), *path.relative_to(root).parts[:-1]]
    return _first_split(word.rstrip("0123456789") for word in words)


def _first_split(words: Iterable[str]) -> str:
    return next(filter(None, map(split_named, words)), "")


def last_word(path: Path) -> str:
    """What a file's name ends with: train2017 of instances_train2017.json."""
    return re.split("[_.-]", path.stem)[-1]


def folder_of_most(choices: Sequence[Path], names: Sequence[str]) -> Path | None:
    """The folder that holds most of the first images, of several the first; None where
    none holds any.
    """
    hits = [
        sum(as_on_disk(folder, name) is not None for name in names[:100])
        for folder in choices
    ]
    return choices[hits.index(max(hits))] if max(hits, default=0) else None


def pixels(stated: object) -> int:
    """A width or height as a source states it, number or text; 0 where none is."""
    try:
        number = float(stated)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0
    return int(number) if 0 < number < 1e6 else 0


def is_file_with(ending: str) -> Callable[[Path], bool]:
    """Tells files by the ending of their name."""
    return lambda path: path.suffix.lower() == ending and not path.is_dir()
