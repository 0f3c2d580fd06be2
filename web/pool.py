"""The pool behind the page: an embedding set, and everything about it that doesn't
depend on a session.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow.types

from data.contact_sheet import class_colors
from data.embeddings import EmbeddingSet
from data.files import write_atomically
from data.predictions import PREDICTED, confusions
from data.where import rows_where
from probe.clusters import Cluster, propose_clusters
from probe.projection import project
from probe.search import CosineIndex
from probe.transforms import Transform

_CHOICES = 50  # values of a column that are offered as filters, at most
_SELECTIONS = 16

Value = TypeVar("Value")


def give_way(niceness: int) -> None:
    """Lets other threads go first, where the system has priorities for threads: a mark
    must not wait for a picture or a ranking.
    """
    if sys.platform == "linux":  # elsewhere it would slow the whole process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


class Recent(Generic[Value]):
    """Keeps the values that were used last; computes a missing one once, however many
    threads ask for it.
    """

    def __init__(self, most: int):
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, Future[Value]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        with self._lock:
            future = self._values.get(key)
            mine = future is None
            if future is None:
                future = self._values[key] = Future()
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        if mine:
            try:
                future.set_result(compute())
            except BaseException as error:
                with self._lock:
                    self._values.pop(key, None)
                future.set_exception(error)
        return future.result()


class Pool:
    """An embedding set with its index, filters, map and clusters; safe to use from
    several threads.

    Attributes:
        embeddings: the set; its table has the predictions' columns where there are
            predictions.
        index: over centred unit vectors, in which marks are learned best.
        shuffled: [N] int, all rows in an order that doesn't depend on anything.
    """

    def __init__(self, embeddings: EmbeddingSet, cache: Path, seed: int = 0):
        """Reads all embeddings once, for their mean.

        Args:
            embeddings: the set.
            cache: folder for what can be computed again.
            seed: of the map and the clusters.
        """
        self.embeddings, self.table, self.seed = embeddings, embeddings.table, seed
        self.index = CosineIndex(
            embeddings.vectors,
            self.table.ids,
            Transform.fit("centre", embeddings.vectors),
        )
        self.row_of = {str(crop_id): row for row, crop_id in enumerate(self.table.ids)}
        self.shuffled = np.random.default_rng(seed).permutation(len(self.table))
        self._masks: Recent[np.ndarray] = Recent(16)
        self._clusters: Recent[list[Cluster]] = Recent(8)
        self._map_file = cache / f"map-{embeddings.meta['sha256'][:16]}.npy"
        self._background = ThreadPoolExecutor(1, "map", partial(give_way, 10))
        self._map: Future[np.ndarray] | None = None
        self._lock = threading.Lock()
        self._selections: dict[str, np.ndarray] = {}

    def rows(self, ids: list[str]) -> list[int]:
        """Rows of crop ids.

        Raises:
            ValueError: names the first one that isn't in the set.
        """
        unknown = next((crop_id for crop_id in ids if crop_id not in self.row_of), None)
        if unknown is not None:
            raise ValueError(f"crop must be one of this embedding set; got {unknown!r}")
        return [self.row_of[crop_id] for crop_id in ids]

    def mask(self, condition: str, among: str = "") -> np.ndarray:
        """Crops that meet an SQL condition (all for "") and belong to a selection (any
        for ""), [N] bool.
        """
        every = np.ones(len(self.table), bool)
        found = (
            self._masks.get(
                condition, lambda: rows_where(self.table, condition, or_none=True)
            )
            if condition.strip()
            else every
        )
        if not among:
            return found
        with self._lock:
            if among not in self._selections:
                raise ValueError("selection is not known any more; draw it again")
            return found & self._selections[among]

    def hash_of(self, condition: str) -> str:
        """SHA-256 of which crops meet a condition: it tells whether predictions, or the
        set, have changed since.
        """
        return hashlib.sha256(np.packbits(self.mask(condition)).tobytes()).hexdigest()

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
            rows = np.flatnonzero(self.mask(condition))
            return propose_clusters(self.index.unit(rows), rows, count, self.seed)

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
        places = project(self.index, self.seed)
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
    def facts(self) -> dict[str, Any]:
        """What the page tells of the pool: sizes, classes with their colours, columns
        to filter by, confusions.
        """
        colors = class_colors(self.table.classes)
        return {
            "crops": len(self.table),
            "images": len(set(self.table.column("image"))),
            "classes": [
                {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*colors[name])}
                for name in self.table.classes
            ],
            "columns": self._columns(),
            "confusions": self._confusions(),
        }

    def _columns(self) -> list[dict[str, Any]]:
        """What can be filtered by: name, and either the most frequent values or the
        range.
        """
        found: list[dict[str, Any]] = []
        for name in self.table.rows.column_names:
            values = self.table.rows.column(name).combine_chunks()
            kind = values.type
            if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
                numbers = (
                    values.drop_null().to_numpy(zero_copy_only=False).astype(float)
                )
                numbers = numbers[np.isfinite(numbers)]
                if len(numbers):
                    found.append(
                        {
                            "name": name,
                            "from": float(numbers.min()),
                            "to": float(numbers.max()),
                        }
                    )
            elif pyarrow.types.is_boolean(kind):
                found.append({"name": name, "values": ["true", "false"]})
            elif pyarrow.types.is_string(kind) and name != "crop_id":
                counts = sorted(
                    values.value_counts().to_pylist(), key=lambda item: -item["counts"]
                )
                found.append(
                    {
                        "name": name,
                        "values": [
                            item["values"]
                            for item in counts[:_CHOICES]
                            if item["values"]
                        ],
                    }
                )
        return found

    def _confusions(self) -> list[dict[str, Any]]:
        """Pairs of label and prediction that differ; empty without predictions."""
        if PREDICTED not in self.table.rows.column_names:
            return []
        pairs = confusions(self.table)[:_CHOICES]
        return [
            {"label": label, "predicted": name, "crops": count}
            for label, name, count in pairs
        ]
