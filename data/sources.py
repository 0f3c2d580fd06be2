"""Every source of crops behind one function: a folder by class, CropAndWeed, COCO,
YOLO, a CSV of boxes, tensorflow-datasets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from artifacts.progress import Progress, no_progress
from data.box_csv import read_box_csv
from data.coco import read_coco
from data.crop_table import CropTable
from data.cropandweed import RAW, is_cropandweed, read_cropandweed
from data.image_folder import read_image_folder, subfolders
from data.images import EXTENSIONS
from data.report import Report
from data.tfds_source import read_tfds
from data.yolo import is_yolo, read_yolo

FORMATS = ("auto", "folder", "cropandweed", "coco", "yolo", "csv", "tfds", "table")
_TFDS = "tfds:"


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source; what doesn't apply to its format must be left at its
    default.

    Attributes:
        format: one of FORMATS; "auto" goes by what the path is.
        variant: classes of CropAndWeed; see `data.cropandweed.variants`.
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


_DEFAULTS = SourceOptions()
_APPLIES = {
    "cropandweed": {"variant", "keep_unlabeled"},
    "coco": {"boxes", "box_size", "images"},
    "csv": {"boxes", "box_size", "images"},
    "yolo": {"boxes"},
}


def detect_format(data: str) -> str:
    """The format of a source, by its name and by what lies there."""
    path = Path(data)
    suffixes = {".json": "coco", ".csv": "csv", ".parquet": "table"}
    if data.startswith(_TFDS):
        return "tfds"
    if path.suffix.lower() in suffixes and not path.is_dir():
        return suffixes[path.suffix.lower()]
    if path.is_dir() and is_cropandweed(path):
        return "cropandweed"
    if path.is_dir() and is_yolo(path):
        return "yolo"
    return "folder"


def read_source(
    data: str, options: SourceOptions = _DEFAULTS, progress: Progress = no_progress
) -> tuple[CropTable, Report]:
    """Reads any source as a crop table.

    Args:
        data: a folder, a .json (COCO), .csv or .parquet (crop table) file, or
            tfds:NAME.
        options: see `SourceOptions`.
        progress: wraps iterations over images, for a progress bar.

    Returns:
        The table, and what was left out or mended.

    Raises:
        ValueError: the source can't be read as its format; the message names what is
            wrong with it.
    """
    if options.format not in FORMATS:
        raise ValueError(
            f"format must be one of {', '.join(FORMATS)}; got {options.format!r}"
        )
    kind = detect_format(data) if options.format == "auto" else options.format
    for name in ("variant", "keep_unlabeled", "boxes", "box_size", "images"):
        if getattr(options, name) != getattr(
            _DEFAULTS, name
        ) and name not in _APPLIES.get(kind, set()):
            formats = ", ".join(
                form for form, names in _APPLIES.items() if name in names
            )
            raise ValueError(f"{name} applies to {formats}; {data!r} is read as {kind}")
    if kind in ("coco", "csv", "table") and not Path(data).is_file():
        state = "is a folder" if Path(data).is_dir() else "does not exist"
        raise ValueError(
            f"data must be a file to be read as {kind}; got {data!r}, which {state}"
        )
    if kind in ("cropandweed", "yolo") and not Path(data).is_dir():
        raise ValueError(f"data must be a folder to be read as {kind}; got {data!r}")
    if kind == "tfds":
        return read_tfds(data.removeprefix(_TFDS), progress=progress)
    if kind == "table":
        return CropTable.read(data), Report()
    if kind == "cropandweed":
        return read_cropandweed(data, options.variant, options.keep_unlabeled, progress)
    if kind == "yolo":
        return read_yolo(data, options.boxes or "cxcywh_relative", progress)
    box_size = _parse_size(options.box_size)
    if kind == "coco":
        return read_coco(
            data, options.images or None, options.boxes or "xywh", box_size, progress
        )
    if kind == "csv":
        return read_box_csv(
            data, options.images or None, options.boxes, box_size, progress
        )
    if options.format == "auto" and Path(data).is_dir():
        _check_no_annotations(Path(data))
    return read_image_folder(data, progress)


def _check_no_annotations(root: Path) -> None:
    """Refuses a folder of whole images that holds a data set with boxes further down,
    whose masks would pass for photos.
    """
    first = subfolders(root)
    folders = [*first, *(folder for parent in first for folder in subfolders(parent))]
    for folder in folders:
        kind = (
            "CropAndWeed's layout"
            if is_cropandweed(folder)
            else "a YOLO data set"
            if is_yolo(folder)
            else ""
        )
        if kind:
            raise ValueError(
                f"data must be the folder of the data set itself; {str(folder)!r} has "
                f"{kind}. --format=folder reads whole images"
            )
    for folder in (root, *folders):
        labels = {path.stem for path in folder.glob("*.txt")}
        both = next(
            (
                path
                for path in folder.iterdir()
                if path.suffix.lower() in EXTENSIONS and path.stem in labels
            ),
            None,
        )
        if both:
            raise ValueError(
                f"data has label files beside its images ({both.stem}.txt, {both.name} "
                f"in {str(folder)!r}): to read YOLO boxes, "
                "put images into images/ and labels into labels/ beside it; "
                "--format=folder reads whole images"
            )


def _parse_size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    match = re.fullmatch(r"(\d+)[x,](\d+)", text)
    if not match:
        raise ValueError(
            f"box_size must be WIDTHxHEIGHT, such as 1920x1088; got {text!r}"
        )
    return int(match.group(1)), int(match.group(2))
