"""Filters a crop table by SQL over its columns."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.crop_table import CropTable

_ROW = "the row of a crop"  # no column of a source is called that


def _unknown_is_null(rows: pa.Table) -> pa.Table:
    """NaN is an unknown value and meets no comparison; in DuckDB it is the largest of
    numbers.
    """
    for place, field in enumerate(rows.schema):
        if pa.types.is_floating(field.type):
            column = rows.column(place)
            if pa.types.is_float16(field.type):  # which DuckDB doesn't have
                column = column.cast(pa.float32())
            known = pc.if_else(pc.is_nan(column), None, column)
            rows = rows.set_column(place, field.name, known)
    return rows


def rows_where(
    table: CropTable, condition: str, argument: str = "where", or_none: bool = False
) -> np.ndarray:
    """Rows that meet a condition.

    Args:
        table: crops; every column can be used. `left` and `right` are words of SQL and
            need double quotes.
        condition: what may follow WHERE in DuckDB's SQL, such as "lighting = 'sunny'
            AND box_width > 100". A number that is NaN is NULL there.
        argument: the name to use in errors.
        or_none: whether a condition that no crop meets is in order.

    Returns:
        [N] bool, with at least one True unless `or_none`.

    Raises:
        ValueError: it isn't SQL, names an unknown column, or no crop meets it.
    """
    if not condition.strip():
        raise ValueError(f"{argument} must be an SQL condition; got {condition!r}")
    rows = _unknown_is_null(table.rows)
    rows = rows.append_column(_ROW, pa.array(np.arange(len(table)), pa.int64()))
    with duckdb.connect(":memory:") as connection:
        connection.register("crops", rows)
        connection.execute(
            "SET enable_external_access = false"
        )  # a condition never opens another file
        try:
            statement = f'SELECT "{_ROW}" FROM crops WHERE ({condition}\n)'
            if len(duckdb.extract_statements(statement)) != 1:
                raise duckdb.ParserException("several statements")
            found = connection.execute(statement).fetchnumpy()[_ROW]
        except duckdb.Error as error:
            reason = " ".join(str(error).split("LINE 1")[0].split())
            if isinstance(error, duckdb.BinderException):
                reason += " (texts stand in single quotes: label_name = 'beet')"
            columns = ", ".join(
                f'"{name}"' if name in ("left", "right") else name
                for name in table.rows.column_names
            )
            raise ValueError(
                f"{argument} must be an SQL condition on the columns {columns}; got "
                f"{condition!r}: {reason}"
            ) from None
    found = np.asarray(found, np.int64)
    if len(np.unique(found)) != len(found) or (
        len(found) and not 0 <= found.min() <= found.max() < len(table)
    ):
        raise ValueError(
            f"{argument} must be a single SQL condition; got {condition!r}"
        )
    if not len(found) and not or_none:
        raise ValueError(
            f"{argument} must leave some crops; none of {len(table):,} meets "
            f"{condition!r}"
        )
    mask = np.zeros(len(table), bool)
    mask[found] = True
    return mask
