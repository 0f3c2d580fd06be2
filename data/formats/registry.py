"""Every format by name: one function reads any source, one table says who writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from artifacts.progress import Progress, no_progress
from data.crop_table import CropTable
from data.files import subfolders, visible_files
from data.formats import (
    coco,
    cropandweed,
    csv,
    folder,
    huggingface,
    label_studio,
    labelme,
    parquet,
    tfds,
    voc,
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
    voc.FORMAT,
    labelme.FORMAT,
    huggingface.FORMAT,
    label_studio.FORMAT,
    tfds.FORMAT,
)
FORMATS: dict[str, Format] = {item.name: item for item in _ALL}
OLD_NAMES = {old: item.name for item in _ALL for old in item.old_names}
AUTO = "auto"
READABLE = (AUTO, *(item.name for item in _ALL if item.read))
WRITABLE = tuple(item.name for item in _ALL if item.write)
_DEFAULTS = SourceOptions()


def named(name: str) -> Format:
    """The format of a name, today's or that of 0.5.0."""
    return FORMATS[OLD_NAMES.get(name, name)]


def spellings(names: tuple[str, ...]) -> list[str]:
    """The names, and after them what 0.5.0 called the same formats."""
    return [*names, *(old for old, name in OLD_NAMES.items() if name in names)]


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
    if "name" in kind.reads:
        return
    state = "is a folder" if path.is_dir() else "is a file" if path.exists() else ""
    if not state or state.rpartition(" ")[2] not in kind.reads:
        raise ValueError(
            f"data must be a {' or '.join(kind.reads)} to be read as {kind.name}; got "
            f"{data!r}, which {state or 'does not exist'}"
        )


def _check_no_annotations(root: Path) -> None:
    """Refuses a folder of whole images that holds annotations which would be passed
    over, or masks that would pass for photos.
    """
    whole = "--format=folder reads whole images"
    below = list(_two_levels(root))
    for path in below:
        kind = detect_format(str(path))
        if kind != folder.FORMAT.name:
            raise ValueError(
                f"data must be the folder of the data set itself; {str(path)!r} has "
                f"the layout of {kind}. {whole}"
            )
    for path in (root, *below):
        files = [file for file in path.iterdir() if not file.name.startswith(".")]
        photos = {file.stem for file in files if file.suffix.lower() in EXTENSIONS}
        for file in files:
            _check_annotation(file, photos, whole)
    _check_no_masks(root, whole)


def _check_annotation(file: Path, photos: set[str], whole: str) -> None:
    """Refuses a file beside photos that is of a format with a reader of its own, or
    that has none.
    """
    ending = file.suffix.lower()
    if ending == ".txt" and file.stem in photos:
        raise ValueError(
            f"data has label files beside its images ({file.name} in "
            f"{str(file.parent)!r}): to read YOLO boxes, put images into images/ and "
            f"labels into labels/ beside it; {whole}"
        )
    is_table = ending == ".csv" and csv.has_boxes(file)
    if is_table or (ending == ".json" and coco.is_coco(file)):
        raise ValueError(
            f"data holds annotations: give the file itself, --data={file}; {whole}"
        )
    if ending in (".json", ".xml") and file.stem in photos:
        raise ValueError(
            f"data has a file of annotations beside an image that isn't of a format "
            f"that is read ({file.name} in {str(file.parent)!r}; read are "
            f"{', '.join(READABLE[1:])}); {whole}"
        )


_MASKS = re.compile(r"masks?|segmentation\w*|seg|gt|ground_?truth|annotations?|labels?")
_OF_MASK = re.compile(r"(.+)[-_ .](mask|masks|seg|label|labels|gt|annotation)", re.I)


def _check_no_masks(root: Path, whole: str) -> None:
    """Refuses photos with masks, in a folder of their own or beside them."""
    stems: dict[Path, dict[str, str]] = {}
    for path in visible_files(root):
        if path.suffix.lower() in EXTENSIONS:
            stems.setdefault(path.parent, {})[path.stem] = path.name
    for parent, names in stems.items():
        for stem, name in names.items():
            match = _OF_MASK.fullmatch(stem)
            if match and match[1] in names:
                raise _masks(parent / name, names[match[1]], whole)
        if not _MASKS.fullmatch(parent.name.lower()):
            continue
        for other, photos in stems.items():
            both = names.keys() & photos.keys()
            is_near = parent.parent in (other, other.parent, other.parent.parent)
            if other != parent and is_near and len(both) > len(names) / 2:
                raise _masks(parent / names[min(both)], photos[min(both)], whole)


def _masks(mask: Path, photo: str, whole: str) -> ValueError:
    return ValueError(
        f"data holds masks, which aren't read and would pass for photos ({str(mask)!r} "
        f"of {photo}): move them away; {whole}"
    )


def _two_levels(root: Path) -> Iterator[Path]:
    first = subfolders(root)
    yield from first
    for parent in first:
        yield from subfolders(parent)
