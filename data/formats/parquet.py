"""Parquet: a crop table as it is kept, or any table of images with boxes or classes,
such as pandas and polars write.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from artifacts.progress import Progress
from data.crop_table import SCHEMA, SIDES, SOURCE_ROW, CropTable
from data.formats.base import (
    Annotations,
    Format,
    SourceOptions,
    is_file_with,
)
from data.formats.csv import annotations_of
from data.formats.writing import Selection, selected_columns
from data.report import Report

_PANDAS_INDEX = "__index_level_"


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> CropTable | Annotations:
    """Reads a crop table, which was checked when it was made and may have been edited
    since; a table of any other kind by the names of its columns, as a CSV. A column of
    lists may hold boxes; others of them, such as embeddings, aren't metadata.

    Raises:
        ValueError: it is no Parquet file, or no table of images.
    """
    path = Path(data)
    try:
        schema = pq.read_schema(path)
        if not _is_crop_table(schema):
            columns = _columns(path, schema, report)
            return annotations_of(columns, path, options, report)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a crop table: {reason}") from None
    if options.boxes or options.box_size:
        raise ValueError(
            f"boxes and box_size don't apply to a crop table, which {data!r} is"
        )
    table = CropTable.read(data, options.images or None, check=True)
    report.seen = len(table)
    # In place of those of the file that it was made from.
    return table.with_column(SOURCE_ROW, pa.array(np.arange(len(table)), pa.int64()))


def _is_crop_table(schema: pa.Schema) -> bool:
    known = set(schema.names) & set(SCHEMA.names)
    return "crop_id" in known and len(known) > len(SCHEMA) / 2


def _columns(path: Path, schema: pa.Schema, report: Report) -> dict[str, list[str]]:
    """Columns as text, "" where they are empty; a list of four numbers as it stands in
    a CSV. Others of lists aren't even read: they may be embeddings.
    """
    names = []
    for field in schema:
        kind = field.type
        if isinstance(kind, pa.DictionaryType):  # categories
            kind = kind.value_type
        if field.name.startswith(_PANDAS_INDEX):
            continue
        if pa.types.is_nested(kind) and not _holds_boxes(path, field.name):
            report.count("columns of lists, which aren't metadata")
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            report.count("columns of bytes, which aren't metadata")
        else:
            names.append(field.name)
    rows = pq.read_table(path, columns=names)
    return {name: list(map(_text, rows.column(name).to_pylist())) for name in names}


def _holds_boxes(path: Path, name: str) -> bool:
    for batch in pq.ParquetFile(path).iter_batches(100, columns=[name]):
        for value in batch.column(0).to_pylist():
            if value is not None:
                return isinstance(value, list) and len(value) == len(SIDES)
    return False


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


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
    options=frozenset({"images", "boxes", "box_size", "numbered"}),
    old_names=("table",),
)
