"""What the page shows of the pile as a whole: sizes, filters, map, clusters,
confusions.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow.types

from artifacts.files import write_atomically
from curation.contact_sheet import class_colors
from curation.lru_cache import LruCache
from curation.pool import Pool
from data.crop_table import OLD_ID
from data.predictions import PREDICTED, confusions
from probe.clusters import Cluster, propose_clusters
from probe.projection import project
from web.priority import lower_priority

_CHOICES = 50  # values of a column that are offered as filters, at most
_SELECTIONS = 16
# Columns that nobody filters by from a list; SQL takes them all the same.
_HIDDEN = {"crop_id", OLD_ID, "file_bytes", "label"}


_LOOKED_FOR = 20  # photos, by which it is told whether they are there


@dataclass(frozen=True)
class ColoredClass:
    """A class and the color of its crops' borders."""

    name: str
    color: str


@dataclass(frozen=True)
class FilterColumn:
    """A column to filter by: its most frequent values, or the range of its numbers."""

    name: str
    values: Sequence[str] | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Confusion:
    """How many crops of a label were predicted to be something else."""

    label: str
    predicted: str
    crops: int


@dataclass(frozen=True)
class PoolFacts:
    """What the page tells of the pool as a whole; sizes in crops and photos."""

    crops: int
    images: int
    classes: Sequence[ColoredClass]
    columns: Sequence[FilterColumn]
    confusions: Sequence[Confusion]
    takes_text: bool  # whether words can be examples
    gone_from: str  # where photos were and aren't any more; "" where they are


class Overview:
    """A pool as the page shows it; safe to use from several threads.

    Args:
        pool: the crops.
        cache: folder for what can be computed again.
        seed: of the map and the clusters.

    Attributes:
        shuffled: [N] int, all rows in an order that doesn't depend on anything.
    """

    def __init__(self, pool: Pool, cache: Path, seed: int = 0):
        self.pool, self.table, self.seed = pool, pool.table, seed
        self.shuffled = np.random.default_rng(seed).permutation(len(self.table))
        self._clusters: LruCache[list[Cluster]] = LruCache(8)
        name = f"map-{pool.embeddings.meta['sha256'][:16]}.npy"
        self._map_file = cache / name
        self._background = ThreadPoolExecutor(1, "map", partial(lower_priority, 10))
        self._map: Future[np.ndarray] | None = None
        self._lock = threading.Lock()
        self._selections: dict[str, np.ndarray] = {}

    def mask(self, condition: str, among: str = "") -> np.ndarray:
        """Crops that meet an SQL condition (all for "") and belong to a selection (any
        for ""), [N] bool.
        """
        found = self.pool.mask(condition, allow_empty=True)
        if not among:
            return found
        with self._lock:
            if among not in self._selections:
                raise ValueError("selection is not known any more; draw it again")
            return found & self._selections[among]

    def select(self, rows: list[int]) -> str:
        """Remembers some rows, such as those inside a lasso; returns a name for them.
        The last 16 selections are kept.
        """
        if not rows or not all(
            isinstance(row, int) and 0 <= row < len(self.table) for row in rows
        ):
            raise ValueError(
                f"selection must hold row numbers from 0 to {len(self.table) - 1}"
            )
        mask = np.zeros(len(self.table), bool)
        mask[rows] = True
        name = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16]
        with self._lock:
            self._selections[name] = mask
            while len(self._selections) > _SELECTIONS:
                self._selections.pop(next(iter(self._selections)))
        return name

    def clusters(self, condition: str, count: int) -> list[Cluster]:
        """Clusters among the crops that meet a condition."""

        def propose() -> list[Cluster]:
            rows = np.flatnonzero(self.pool.mask(condition))
            return propose_clusters(
                self.pool.index.unit_vectors(rows), rows, count, self.seed
            )

        return self._clusters.get((condition, count), propose)

    def start_map(self) -> Future[np.ndarray]:
        """The layout of all crops, [N, 2] float32 in [0, 1]; computed in the background
        once, and kept on disk.
        """
        with self._lock:
            if self._map is None or (self._map.done() and self._map.exception()):
                self._map = self._background.submit(self._make_map)
            return self._map

    def _make_map(self) -> np.ndarray:
        if self._map_file.is_file():
            places = np.load(self._map_file, allow_pickle=False)
            if places.shape == (len(self.table), 2):
                return places
        places = project(self.pool.index, self.seed)
        self._map_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._map_file, lambda file: np.save(file, places))
        return places

    @cached_property
    def recordings(self) -> np.ndarray:
        """The number of each crop's recording session, [N] uint16."""
        _, numbers = np.unique(
            self.table.column("session").astype(str), return_inverse=True
        )
        return (numbers % 2**16).astype("<u2")

    @cached_property
    def newest(self) -> np.ndarray | None:
        """Which crops were added last, [N] bool; None where the set hasn't grown."""
        if "added" not in self.table.rows.column_names:
            return None
        added = np.asarray(self.table.column("added"))
        return added == added.max() if added.max() > 0 else None

    @cached_property
    def facts(self) -> PoolFacts:
        """Sizes, classes with their colors, columns to filter by, confusions."""
        colors = class_colors(self.table.classes)
        return PoolFacts(
            len(self.table),
            len(set(self.table.column("image"))),
            [
                ColoredClass(name, "#{:02x}{:02x}{:02x}".format(*colors[name]))
                for name in self.table.classes
            ],
            self._columns(),
            self._confusions(),
            self.pool.embeddings.takes_text,
            self._gone_from(),
        )

    def _gone_from(self) -> str:
        """The folder below which photos aren't any more, by a few of them; "" where
        most are.
        """
        some = self.shuffled[:_LOOKED_FOR]
        there = sum(self.table.path(int(row)).is_file() for row in some)
        return str(self.table.root) if 2 * there < len(some) else ""

    def _columns(self) -> list[FilterColumn]:
        found: list[FilterColumn] = []
        for name in self.table.rows.column_names:
            if name in _HIDDEN:
                continue
            values = self.table.rows.column(name).combine_chunks()
            kind = values.type
            if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
                numbers = (
                    values.drop_null().to_numpy(zero_copy_only=False).astype(float)
                )
                numbers = numbers[np.isfinite(numbers)]
                if len(numbers):
                    low, high = float(numbers.min()), float(numbers.max())
                    found.append(FilterColumn(name, low=low, high=high))
            elif pyarrow.types.is_boolean(kind):
                found.append(FilterColumn(name, ["true", "false"]))
            elif pyarrow.types.is_string(kind):
                counts = sorted(
                    values.value_counts().to_pylist(), key=lambda item: -item["counts"]
                )
                choices = [item["values"] for item in counts[:_CHOICES]]
                texts = [text for text in choices if text]
                found += [FilterColumn(name, texts)] if texts else []
        return found

    def _confusions(self) -> list[Confusion]:
        """Pairs of label and prediction that differ; empty without predictions."""
        if PREDICTED not in self.table.rows.column_names:
            return []
        pairs = confusions(self.table)[:_CHOICES]
        return [Confusion(*pair) for pair in pairs]
