"""Crops of any source, filtered."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from artifacts.progress import progress_bar
from data.crop_table import ADDED, CropTable
from data.duplicates import group_of, leaks, repaired
from data.embedding_writer import DUPLICATES
from data.embeddings import EmbeddingSet
from data.formats.base import SourceOptions
from data.formats.registry import read_source
from data.report import Report
from data.where import rows_where

_log = logging.getLogger(__name__)


def read_crops(
    source: str | Path,
    *,
    format: str = "auto",
    where: str | None = None,
    images: str | Path = "",
    tiles: str = "",
    recording: str = "",
) -> CropTable:
    """Reads any source as a crop table; what is left out or mended is logged.

    Example:
        >>> crops = read_crops("photos", where="label_name <> ''")

    Args:
        source: a folder, a .json (COCO), .csv or .parquet file, or tfds:NAME.
        format: "auto" goes by name and layout; otherwise folder, csv, parquet, coco,
            cropandweed, yolo, voc, labelme, huggingface or tfds.
        where: only crops that meet this SQL condition on the table's columns.
        images: folder of the images, where it can't be told from the path (coco, csv).
        tiles: cuts photos without boxes: side and overlap in pixels, such as "512,64".
        recording: what was recorded together: "folder", "date" or a column.

    Raises:
        ValueError: the source can't be read as its format, or no crop is left.
    """
    options = SourceOptions(
        format=format,
        images=str(images) if images else "",
        tiles=tiles,
        recording=recording,
    )
    return read_reported(str(source), options, where or "")[0]


def read_reported(
    data: str, options: SourceOptions, where: str
) -> tuple[CropTable, Report]:
    """The crops of a source, and what was left out, which is logged too."""
    table, report = read_source(data, options, progress_bar)
    if where:
        chosen = rows_where(table, where)
        report.count("crops that --where leaves out", int((~chosen).sum()))
        table = repaired(table.take(chosen))
    for item in report.skipped:
        _log.warning("skipped %s: %s", item.image, item.reason)
    for line in report.lines():
        _log.info("%s", line)
    _log.info(
        "%d crops, %d classes, %d images skipped",
        len(table),
        len(table.classes),
        len(report.skipped),
    )
    return table, report


def leaks_in_words(table: CropTable) -> str:
    """What is to be said of crops of two splits that show the same, "" for nothing."""
    pairs = leaks(table)
    if not pairs:
        return ""
    (row, first), splits = pairs[0], table.column("split")
    images = table.column("image")
    return (
        f"{len(pairs):,} of them leak from one split into another, which makes "
        f"measures of that split too good: {images[row]} ({splits[row]}) shows the "
        f"same as {images[first]} ({splits[first]})"
    )


def duplicates_in_words(table: CropTable, listed: str = "") -> list[str]:
    """What is to be said of crops that show the same, a line each; `listed` says where
    they are listed.
    """
    group = group_of(table)
    if group is None:
        return []
    count = int((group != np.arange(len(group))).sum())
    grown = ADDED in table.rows.column_names
    among = ", among those that came together" if grown else ""
    if not count:
        return [f"no two crops show the same{among}"]
    found = (
        f"{count:,} of {len(table):,} crops show the same as another one{among}; "
        f"--hide_duplicates leaves them out of lists{listed}"
    )
    return list(filter(None, [found, leaks_in_words(table)]))


def print_next(embeddings: EmbeddingSet, left_out: int) -> None:
    """Says what there is now, and what to do with it."""
    folder = embeddings.folder
    for line in duplicates_in_words(embeddings.table, f" ({folder / DUPLICATES})"):
        print(line)
    print(
        f"\n{len(embeddings.table)} crops embedded, {left_out} unreadable ones left "
        f"out -> {folder}\n"
        f"Next: python run_search.py --embeddings={folder} "
        "--query=<crop_id or image path> --sheet=out.png\n"
        f"  or: python run_page.py --embeddings={folder}   (mark in a browser)"
    )
