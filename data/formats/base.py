"""What a format is, and what its reader hands over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.progress import Progress
from data.crop_table import CropTable
from data.formats.writing import Selection
from data.report import Report

RAW = "CropAndWeed"  # the variant with all label ids of CropAndWeed
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


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
        images: folder of the images, where it can't be told from the path (coco, csv).
    """

    format: str = "auto"
    variant: str = RAW
    keep_unlabeled: bool = True
    boxes: str = ""
    box_size: str = ""
    images: str = ""


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
        reads: what a source is: "file", "folder" or "name".
        detect: whether a path is of this format, by its name and what lies there.
        options: fields of `SourceOptions` that apply.
        old_names: what version 0.5.0 called it.
    """

    name: str
    keeps: str
    read: Reader | None = None
    write: Writer | None = None
    reads: str = "folder"
    detect: Callable[[Path], bool] = lambda path: False
    options: frozenset[str] = frozenset()
    old_names: tuple[str, ...] = ()


def is_file_with(ending: str) -> Callable[[Path], bool]:
    """Tells files by the ending of their name."""
    return lambda path: path.suffix.lower() == ending and not path.is_dir()
