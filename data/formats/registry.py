"""Every format by name: one function reads any source, one table says who writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from artifacts.progress import Progress, no_progress
from data.crop_table import CropTable
from data.files import subfolders
from data.formats import (
    coco,
    cropandweed,
    csv,
    folder,
    label_studio,
    parquet,
    tfds,
    yolo,
)
from data.formats.base import Format, SourceOptions
from data.formats.build import build_table
from data.images import EXTENSIONS
from data.report import Report

_ALL = (  # a new format is a file and a line here
    folder.FORMAT,
    csv.FORMAT,
    parquet.FORMAT,
    coco.FORMAT,
    cropandweed.FORMAT,
    yolo.FORMAT,
    label_studio.FORMAT,
    tfds.FORMAT,
)
FORMATS: dict[str, Format] = {item.name: item for item in _ALL}
_OLD = {old: item.name for item in _ALL for old in item.old_names}
AUTO = "auto"
READABLE = (AUTO, *(item.name for item in _ALL if item.read))
WRITABLE = tuple(item.name for item in _ALL if item.write)
_DEFAULTS = SourceOptions()


def named(name: str) -> Format:
    """The format of a name, today's or that of 0.5.0."""
    return FORMATS[_OLD.get(name, name)]


def spellings(names: tuple[str, ...]) -> list[str]:
    """The names, and after them what 0.5.0 called the same formats."""
    return [*names, *(old for old, name in _OLD.items() if name in names)]


def detect_format(data: str) -> str:
    """The format of a source, by its name and by what lies there."""
    path = Path(data)
    found = (item.name for item in _ALL if item.detect(path))
    return next(found, folder.FORMAT.name)


def read_source(
    data: str | Path,
    options: SourceOptions = _DEFAULTS,
    progress: Progress = no_progress,
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
    data = str(data)
    if options.format not in spellings(READABLE):
        raise ValueError(
            f"format must be one of {', '.join(READABLE)}; got {options.format!r}"
        )
    auto = options.format == AUTO
    kind = named(detect_format(data) if auto else options.format)
    _check_options(options, kind, data)
    _check_place(data, kind)
    if auto and kind is folder.FORMAT and Path(data).is_dir():
        _check_no_annotations(Path(data))
    report = Report()
    assert kind.read is not None  # by `READABLE`
    found = kind.read(data, options, report, progress)
    if isinstance(found, CropTable):
        return found, report
    return (
        build_table(found, report, box_size=options.box_size, progress=progress),
        report,
    )


def _check_options(options: SourceOptions, kind: Format, data: str) -> None:
    for item in fields(SourceOptions):
        name = item.name
        changed = getattr(options, name) != getattr(_DEFAULTS, name)
        if name != "format" and changed and name not in kind.options:
            apply = ", ".join(form.name for form in _ALL if name in form.options)
            raise ValueError(
                f"{name} applies to {apply}; {data!r} is read as {kind.name}"
            )


def _check_place(data: str, kind: Format) -> None:
    path = Path(data)
    if kind.reads == "file" and not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(
            f"data must be a file to be read as {kind.name}; got {data!r}, which "
            f"{state}"
        )
    if kind.reads == "folder" and not path.is_dir():
        state = "is a file" if path.exists() else "does not exist"
        raise ValueError(
            f"data must be a folder to be read as {kind.name}; got {data!r}, which "
            f"{state}"
        )


def _check_no_annotations(root: Path) -> None:
    """Refuses a folder of whole images that holds a data set with boxes further down,
    whose masks would pass for photos.
    """
    below = list(_two_levels(root))
    for path in below:
        kind = detect_format(str(path))
        if kind != folder.FORMAT.name:
            raise ValueError(
                f"data must be the folder of the data set itself; {str(path)!r} has "
                f"the layout of {kind}. --format=folder reads whole images"
            )
    for path in (root, *below):
        labels = {file.stem for file in path.glob("*.txt")}
        both = next(
            (
                file
                for file in path.iterdir()
                if file.suffix.lower() in EXTENSIONS and file.stem in labels
            ),
            None,
        )
        if both:
            raise ValueError(
                f"data has label files beside its images ({both.stem}.txt, {both.name} "
                f"in {str(path)!r}): to read YOLO boxes, put images into images/ and "
                "labels into labels/ beside it; --format=folder reads whole images"
            )


def _two_levels(root: Path) -> Iterator[Path]:
    first = subfolders(root)
    yield from first
    for parent in first:
        yield from subfolders(parent)
