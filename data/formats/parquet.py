"""A crop table as it is kept: a Parquet file."""

from __future__ import annotations

from pathlib import Path

from artifacts.progress import Progress
from data.crop_table import CropTable
from data.formats.base import Format, SourceOptions, is_file_with
from data.formats.writing import Selection, selected_columns
from data.report import Report


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> CropTable:
    """Reads a crop table; it was checked when it was made, and may have been edited
    since.
    """
    table = CropTable.read(data, options.images or None, check=True)
    report.seen = len(table)
    return table


def write(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """crops.parquet: the same as csv; a crop table that run_finetune.py reads again."""
    CropTable(selection.table.root, selected_columns(selection)).write(
        folder / "crops.parquet"
    )


FORMAT = Format(
    name="parquet",
    keeps="the same as csv, with types; a crop table that --data reads again",
    read=read,
    write=write,
    reads=("file",),
    detect=is_file_with(".parquet"),
    options=frozenset({"images"}),
    old_names=("table",),
)
