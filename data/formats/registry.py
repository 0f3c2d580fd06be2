"""Every format by name: one function reads any source, one table says who writes."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from artifacts.progress import Progress, no_progress
from data.crop_table import CropTable
from data.files import is_plain, shown
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
from data.formats.base import AUTO, Format, SourceOptions
from data.formats.besides import check_no_data_set_below
from data.formats.build import build_table
from data.formats.tiled import tiled
from data.recordings import with_recordings
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
READABLE = (AUTO, *(item.name for item in _ALL if item.read))
WRITABLE = tuple(item.name for item in _ALL if item.write)
_DEFAULTS = SourceOptions()
_EVERYWHERE = ("format", "tiles", "recording")  # options of all formats


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
    if not is_plain(data):
        raise ValueError(
            f"data must have a name in UTF-8; rename {shown(data)!r} or a folder above"
        )
    auto = options.format == AUTO
    kind = named(detect_format(data) if auto else options.format)
    _check_options(options, kind, data)
    _check_place(data, kind)
    if auto and kind is folder.FORMAT and Path(data).is_dir():
        check_no_data_set_below(Path(data), detect_format)
    report = Report()
    assert kind.read is not None  # by `READABLE`
    found = kind.read(data, options, report, progress)
    if isinstance(found, CropTable):
        if options.tiles:
            raise ValueError(
                f"tiles are for photos without boxes; {data} is read as boxes"
            )
        table = found
    else:
        if options.tiles:
            found = tiled(found, options.tiles, report, progress)
        table = build_table(found, report, options=options, progress=progress)
    if options.recording:
        table = with_recordings(
            table,
            options.recording,
            report,
            folders_are_read=kind is folder.FORMAT,
        )
    return table, report


def _check_options(options: SourceOptions, kind: Format, data: str) -> None:
    for item in fields(SourceOptions):
        name = item.name
        changed = getattr(options, name) != getattr(_DEFAULTS, name)
        if name not in (*_EVERYWHERE, *kind.options) and changed:
            apply = ", ".join(form.name for form in _ALL if name in form.options)
            if name == "numbered":
                raise ValueError(
                    f"vectors belong to the rows of a file ({apply}); {data!r} is read "
                    f"as {kind.name}. A CSV with the column image will do: one line a "
                    "vector, in their order"
                )
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
            + (": download and unpack it first" if "://" in data else "")
        )
