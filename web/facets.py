"""Facets: how many crops have each value of a column, under what is asked of the other
columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.types

from curation.lru_cache import LruCache
from curation.pool import Pool
from data.crop_table import OLD_ID

VALUES, BINS = 50, 24  # of a column that are told, at most
# Columns that nobody filters by from a list; SQL takes them all the same.
_HIDDEN = {"crop_id", OLD_ID, "file_bytes", "label", "duplicate_of"}


@dataclass(frozen=True)
class FacetValue:
    """A value, and how many crops have it."""

    value: str
    crops: int


@dataclass(frozen=True, kw_only=True)
class Facet:
    """A column to filter by.

    Attributes:
        name: of the column.
        kind: `text`, `truth` or `number`.
        values: the most frequent, for texts and truths,
        distinct: of so many different ones.
        low, high: the range of all crops, for numbers,
        histogram: crops in each of its BINS equal parts, and
        everything: the same of all crops.
    """

    name: str
    kind: str
    values: Sequence[FacetValue] = ()
    distinct: int = 0
    low: float = 0.0
    high: float = 0.0
    histogram: Sequence[int] = ()
    everything: Sequence[int] = ()


@dataclass(frozen=True)
class _Texts:
    """A column of texts: the code of each crop's, -1 for none."""

    names: Sequence[str]
    codes: np.ndarray


class Facets:
    """The columns of a pool, counted; safe to use from several threads.

    Args:
        pool: the crops.
    """

    def __init__(self, pool: Pool):
        self.pool = pool
        rows = pool.table.rows
        kinds = {name: _kind_of(rows.column(name).type) for name in rows.column_names}
        self._kinds = {
            name: kind for name, kind in kinds.items() if kind and name not in _HIDDEN
        }
        self._read: LruCache[_Texts | np.ndarray] = LruCache(64)

    @property
    def names(self) -> list[str]:
        """The columns."""
        return list(self._kinds)

    def counted(
        self,
        conditions: Mapping[str, str],
        among: np.ndarray | None = None,
        *,
        column: str = "",
        search: str = "",
    ) -> list[Facet]:
        """Every column's facet; one without anything to choose from is left out.

        Args:
            conditions: SQL by the column that it is of ("" for none of them). A
                column's own doesn't count for it, so that its other values show what
                they would add.
            among: [N] bool, the crops that count; default: all.
            column: only this one,
            search: and of its values those that hold this, whatever the case.

        Raises:
            ValueError: a condition isn't SQL, or there is no such column.
        """
        if column and column not in self._kinds:
            raise ValueError(f"column must be one of {', '.join(self._kinds)}")
        masks = {
            name: self.pool.mask(condition, allow_empty=True)
            for name, condition in conditions.items()
            if condition.strip()
        }
        everything = self.pool.mask("", allow_empty=True)
        if among is not None:
            everything = everything & among
        found = []
        for name in [column] if column else self._kinds:
            mask = everything.copy()
            for other, one in masks.items():
                if not other or other != name:
                    mask &= one
            facet = self._facet(name, mask, everything, search.casefold())
            if facet is not None:
                found.append(facet)
        return found

    def _facet(
        self, name: str, mask: np.ndarray, everything: np.ndarray, search: str
    ) -> Facet | None:
        kind = self._kinds[name]
        read = self._read.get(name, lambda: self._column(name, kind))
        if isinstance(read, np.ndarray):
            return _histogram(name, read, mask, everything)
        counts = np.bincount(read.codes[mask] + 1, minlength=len(read.names) + 1)[1:]
        all_counts = np.bincount(
            read.codes[everything] + 1, minlength=len(read.names) + 1
        )[1:]
        held: list[int] = np.flatnonzero(all_counts).tolist()
        if search:
            held = [at for at in held if search in read.names[at].casefold()]
        fewest = 1 if name == "label_name" else 2
        if not search and len(held) < fewest:
            return None
        order = sorted(held, key=lambda at: (-counts[at], -all_counts[at]))[:VALUES]
        return Facet(
            name=name,
            kind=kind,
            values=[FacetValue(read.names[at], int(counts[at])) for at in order],
            distinct=len(held),
        )

    def _column(self, name: str, kind: str) -> _Texts | np.ndarray:
        values = self.pool.table.rows.column(name).combine_chunks()
        if kind == "number":
            return np.asarray(
                values.cast(pyarrow.float64(), safe=False).to_numpy(
                    zero_copy_only=False
                )
            )
        if kind == "truth":
            values = pyarrow.compute.if_else(values, "true", "false")
        coded = values.dictionary_encode()
        codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return _Texts(coded.dictionary.to_pylist(), codes.astype(np.int64))


def _kind_of(kind: pyarrow.DataType) -> str:
    if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
        return "number"
    if pyarrow.types.is_boolean(kind):
        return "truth"
    return "text" if pyarrow.types.is_string(kind) else ""


def _histogram(
    name: str, values: np.ndarray, mask: np.ndarray, everything: np.ndarray
) -> Facet | None:
    finite = np.isfinite(values)
    known = values[everything & finite]
    if not len(known) or known.min() == known.max():
        return None
    span = (float(known.min()), float(known.max()))
    counts, _ = np.histogram(values[mask & finite], BINS, span)
    whole, _ = np.histogram(known, BINS, span)
    return Facet(
        name=name,
        kind="number",
        low=span[0],
        high=span[1],
        histogram=counts.tolist(),
        everything=whole.tolist(),
    )
