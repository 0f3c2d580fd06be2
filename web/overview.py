"""What the page shows of the pile as a whole: sizes, filters, map, clusters,
confusions.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curation.contact_sheet import class_colors
from curation.lru_cache import LruCache
from curation.pool import Pool
from data.predictions import PREDICTED, confusions
from probe.clusters import Cluster, propose_clusters
from web.facets import Facets
from web.layout import Layout

_CONFUSIONS = 50  # that are told, at most
_SELECTIONS = 16
_LOOKED_FOR = 20  # photos, by which it is told whether they are there


@dataclass(frozen=True)
class ColoredClass:
    """A class and the color of its crops' borders."""

    name: str
    color: str


@dataclass(frozen=True)
class Confusion:
    """How many crops of a label were predicted to be something else."""

    label: str
    predicted: str
    crops: int


@dataclass(frozen=True)
class PoolFacts:
    """What the page tells of the pool as a whole.

    Attributes:
        crops, images: how many.
        classes: with their colors.
        columns: that crops can be filtered by.
        added: the number of the last addition, where the pool has grown; else 0.
        confusions: labels that were predicted to be others.
        takes_text: whether words can be examples.
        gone_from: where photos were and aren't any more; "" where they are.
    """

    crops: int
    images: int
    classes: Sequence[ColoredClass]
    columns: Sequence[str]
    added: int
    confusions: Sequence[Confusion]
    takes_text: bool
    gone_from: str


class Overview:
    """A pool as the page shows it; safe to use from several threads.

    Args:
        pool: the crops.
        seed: of the map and the clusters.

    Attributes:
        shuffled: [N] int, all rows in an order that doesn't depend on anything.
        facets: of the columns.
        layout: of all crops in the plane.
    """

    def __init__(self, pool: Pool, seed: int = 0):
        self.pool, self.table, self.seed = pool, pool.table, seed
        self.facets, self.layout = Facets(pool), Layout(pool, seed)
        self.shuffled = np.random.default_rng(seed).permutation(len(self.table))
        self._clusters: LruCache[list[Cluster]] = LruCache(8)
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

    def select(self, mask: np.ndarray) -> str:
        """Remembers some crops, such as those inside a lasso, [N] bool; returns a name
        for them. The last 16 selections are kept.
        """
        if not mask.any():
            raise ValueError("selection must hold at least one crop; it is empty")
        name = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16]
        with self._lock:
            self._selections[name] = mask
            while len(self._selections) > _SELECTIONS:
                self._selections.pop(next(iter(self._selections)))
        return name

    def select_rows(self, rows: np.ndarray) -> str:
        """The same of rows, [n] int."""
        mask = np.zeros(len(self.table), bool)
        mask[rows] = True
        return self.select(mask)

    def clusters(self, condition: str, count: int) -> list[Cluster]:
        """Clusters among the crops that meet a condition."""

        def propose() -> list[Cluster]:
            rows = np.flatnonzero(self.pool.mask(condition))
            return propose_clusters(
                self.pool.index.unit_vectors(rows), rows, count, self.seed
            )

        return self._clusters.get((condition, count), propose)

    @cached_property
    def recordings(self) -> np.ndarray:
        """The number of each crop's recording session, [N] uint16."""
        _, numbers = np.unique(
            self.table.column("session").astype(str), return_inverse=True
        )
        return (numbers % 2**16).astype("<u2")

    @cached_property
    def last_added(self) -> int:
        """The number of the last addition; 0 where the set hasn't grown."""
        if "added" not in self.table.rows.column_names:
            return 0
        return int(np.asarray(self.table.column("added")).max())

    @cached_property
    def newest(self) -> np.ndarray | None:
        """Which crops were added last, [N] bool; None where the set hasn't grown."""
        if not self.last_added:
            return None
        return np.asarray(self.table.column("added")) == self.last_added

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
            self.facets.names,
            self.last_added,
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

    def _confusions(self) -> list[Confusion]:
        """Pairs of label and prediction that differ; empty without predictions."""
        if PREDICTED not in self.table.rows.column_names:
            return []
        pairs = confusions(self.table)[:_CONFUSIONS]
        return [Confusion(*pair) for pair in pairs]
