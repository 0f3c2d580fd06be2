"""The pool: an embedding set with what every session on it shares."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from artifacts.files import check_writable
from artifacts.progress import Progress, no_progress, progress_bar
from curation.lru_cache import LruCache
from data.crop_table import ADDED, CropTable
from data.duplicates import first_of_each, group_of
from data.embeddings import EmbeddingSet
from data.predictions import with_predictions
from data.recordings import recording_numbers
from data.where import rows_where
from probe import smoothing
from probe.alignment import NEIGHBORS, ROUNDS, SHRINKAGE, shifts_of
from probe.cascade import Cascade
from probe.index import CosineIndex
from probe.methods import LinearRanker
from probe.smoothing import neighbors_of, smooth, smooth_query
from probe.transforms import (
    ALTERED,
    DIRECTIONS,
    POWER,
    Transform,
    l2_normalize,
    mean_of_unit_vectors,
)

TRANSFORM = "graph"  # what is done to embeddings where nothing else is asked for
OF_TEXT = "l2"  # the same where texts can be queries: what their towers learned by
MANY = 200_000  # crops, of which a pass takes seconds
CASCADE_BYTES = 2**30  # embedding sets from this size get an index on disk
KEPT_BYTES = 2**26  # beyond this, what is compared is kept, not made in every process
MANY_NEIGHBORS = 10_000  # crops, of which finding the neighbors takes seconds
_BLOCK = 16384


class Pool:
    """An embedding set with its index, and masks by condition; built once, and safe to
    share between threads.

    Example:
        >>> pool = Pool(EmbeddingSet.load("runs/a/embeddings"))
        >>> session = Session(pool, query="images/0017.jpg")

    Args:
        embeddings: the set; its table has the predictions' columns, if any.
        transform: what is done to embeddings before they are compared, by name, or
            fitted already. Default: `graph`, or `l2` of a set that takes texts, which
            lie apart from all images.
        milvus: search in Milvus instead: a .db path (embedded) or a URI.
        build_cascade: whether a large set gets its index on disk if it has none yet.
        hide_duplicates: whether crops that show the same as an earlier one are left
            out.

    Attributes:
        embeddings, table: as given.
        index: over unit vectors of the transform, which probes learn on.
    """

    def __init__(
        self,
        embeddings: EmbeddingSet,
        *,
        transform: str | Transform = "",
        milvus: str = "",
        build_cascade: bool = False,
        hide_duplicates: bool = False,
    ):
        self.hide_duplicates = hide_duplicates
        self.embeddings, self.table = embeddings, embeddings.table
        if isinstance(transform, str):
            transform = transform or default_transform(embeddings)
            transform = fit_transform(transform, embeddings)
        self._in_milvus, self._build_cascade = bool(milvus), build_cascade
        compared = self._altered("graph") if transform.name == "graph" else embeddings
        self.index = _make_index(compared, transform, milvus, build_cascade)
        self._masks: LruCache[np.ndarray] = LruCache(16)
        self._others: dict[str, Pool] = {}
        self._earlier: dict[int, Pool] = {}

    def as_when(self, rows: int) -> Pool:
        """The pool as it was when it had so many crops; see `EmbeddingSet.as_when`."""
        if rows == len(self):
            return self
        if rows not in self._earlier:
            self._earlier[rows] = Pool(
                self.embeddings.as_when(rows),
                transform=self.index.transform.name,
                hide_duplicates=self.hide_duplicates,
            )
        return self._earlier[rows]

    def with_transform(self, name: str) -> Pool:
        """The same pool under another transform, for what was made under it."""
        if name == self.index.transform.name:
            return self
        if name not in self._others:
            hide = self.hide_duplicates
            other = Pool(self.embeddings, transform=name, hide_duplicates=hide)
            other._masks = self._masks
            self._others[name] = other
        return self._others[name]

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def _together(self) -> EmbeddingSet:
        return aligned(self.embeddings)

    def _altered(self, name: str) -> EmbeddingSet:
        """The set as a transform of ALTERED compares it."""
        return self._together if name == "aligned" else smoothed(self._together)

    @cached_property
    def similar(self) -> CosineIndex:
        """The index for rankings by cosine, where an example is all there is: with the
        transforms `aligned` and `smoothed` of vectors that were altered (see
        `probe.transforms.Transform`), but not in Milvus; otherwise `index`.
        """
        transform = self.index.transform
        if transform.name not in ("smoothed", "aligned") or self._in_milvus:
            return self.index
        found = self._altered(transform.name)
        return _make_index(found, transform, "", self._build_cascade)

    def vectors_of(
        self, rows: Sequence[int], outside: np.ndarray | None, *, similar: bool = False
    ) -> np.ndarray:
        """Vectors of crops and of images from outside of the set, before the transform,
        as those of `index` or of `similar`.

        Args:
            rows: of the crops.
            outside: [m, D] float, embeddings of the others.
            similar: whether as in `similar`.

        Returns:
            [n, D] float32, those of the crops first.
        """
        index = self.similar if similar else self.index
        found = np.asarray(index.vectors[np.array(rows, np.int64)], np.float32)
        if outside is None or not len(outside):
            return found
        if similar or index.transform.name == "graph":
            outside = self.as_similar(outside)
        return np.concatenate([found, outside])

    def index_of(self, ranker: LinearRanker) -> CosineIndex:
        """What a ranker ranks."""
        return self.index if ranker.has_boundary else self.similar

    def as_similar(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors from outside of the set as if they were rows of `similar`; [n, D]
        float32.
        """
        name = self.index.transform.name
        if name != "graph" and (name != "smoothed" or self._in_milvus):
            return vectors
        rows = self._together.vectors
        return np.stack([smooth_query(vector, rows) for vector in vectors])

    def __repr__(self) -> str:
        return f"Pool({self.embeddings!r}, transform={self.index.transform.name!r})"

    @property
    def ids(self) -> np.ndarray:
        """Crop ids, [N] str."""
        return self.table.ids

    def rows(self, ids: list[str]) -> list[int]:
        """Rows of crop ids.

        Raises:
            ValueError: names those that aren't in the set.
        """
        return self.table.rows_of(ids).tolist()

    def mask(self, condition: str, *, allow_empty: bool = False) -> np.ndarray:
        """Crops that meet an SQL condition, all for "", less hidden ones; [N] bool.

        Raises:
            ValueError: it isn't SQL, or no crop meets it (unless that is allowed).
        """
        if not (condition.strip() or self.hide_duplicates):
            return np.ones(len(self), bool)
        found = self._masks.get(condition, lambda: self._shown(condition))
        if not allow_empty and not found.any():
            rows_where(self.table, condition)  # raises, with its reason
        return found

    def _shown(self, condition: str, table: CropTable | None = None) -> np.ndarray:
        table = table or self.table
        found = np.ones(len(table), bool)
        if condition.strip():
            found = rows_where(table, condition, or_none=True)
        return first_of_each(table, found) if self.hide_duplicates else found

    def showing_the_same(self, rows: Sequence[int]) -> np.ndarray:
        """Rows that show the same as any of these, where duplicates are hidden;
        otherwise these alone.
        """
        group = group_of(self.table) if self.hide_duplicates else None
        wanted = np.array(rows, np.int64)
        return (
            wanted if group is None else np.flatnonzero(np.isin(group, group[wanted]))
        )

    def hash_of(self, condition: str, rows: int | None = None) -> str:
        """SHA-256 of which crops meet a condition, of the first rows or of all: it
        tells whether predictions, or the set, have changed since.
        """
        mask = self.mask(condition, allow_empty=True)
        if rows is not None and rows < len(self):  # as crops were described then
            mask = self._shown(condition, self.embeddings.as_when(rows).table)
        return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()


def newest(table: CropTable) -> str:
    """The condition that the crops meet which were added last.

    Raises:
        ValueError: nothing was ever added.
    """
    if ADDED not in table.rows.column_names:
        raise ValueError(
            "new asks for what was added to a set, and nothing was: embed the grown "
            "folder into the same --embeddings first"
        )
    return f"{ADDED} = {int(table.column(ADDED).max())}"


def make_ready(embeddings: EmbeddingSet) -> Pool:
    """A pool that has found, with progress bars, what is found once and kept in the
    set's folder: shifts of recordings, directions, neighbors.
    """
    pool = Pool(embeddings)
    _ = pool.similar
    return pool


def load(embeddings: str, images_root: str, predictions: str = "") -> EmbeddingSet:
    """The embedding set of a request, with a model's predictions as columns."""
    if not embeddings:
        raise ValueError("embeddings must be given, the folder of an embedding set")
    found = EmbeddingSet.load(embeddings, images_root=images_root or None)
    if predictions:
        table = with_predictions(found.table, predictions)
        found = dataclasses.replace(found, table=table)
    return found


def aligned(embeddings: EmbeddingSet) -> EmbeddingSet:
    """The set with each recording's shift added to the unit vectors; the set itself
    where there is one recording. Crops of no known recording stay as they are. Shifts
    are kept in the set's folder, and so are the vectors of a large set.
    """
    recording = recording_numbers(embeddings.table)
    if recording.max(initial=0) < 1:
        return embeddings
    vectors, known = embeddings.vectors, np.flatnonzero(recording >= 0)
    progress = _progress(len(vectors), MANY_NEIGHBORS, "round", "recordings, once")
    of = hashlib.sha256(recording.tobytes()).hexdigest()[:12]
    shifts = embeddings.derived(
        f"shifts_{NEIGHBORS}_{SHRINKAGE}_{ROUNDS}_{of}",
        lambda: shifts_of(vectors, recording, rows=known, progress=progress),
    )

    def fill(into: np.ndarray) -> None:
        for start in range(0, len(vectors), _BLOCK):
            rows = slice(start, start + _BLOCK)
            own = recording[rows]
            moved = np.where((own >= 0)[:, None], shifts[own], 0)
            into[rows] = l2_normalize(vectors[rows]) + moved

    made_of = shifts.tobytes() + recording.tobytes()
    return embeddings.altered("aligned", fill, made_of, KEPT_BYTES)


def smoothed(embeddings: EmbeddingSet) -> EmbeddingSet:
    """The set with each vector the mean of itself and of its neighbors. Who are
    neighbors is kept in the set's folder, and so are the vectors of a large set.
    """
    vectors = embeddings.vectors
    progress = _progress(len(vectors), MANY_NEIGHBORS, "block", "neighbors, once")
    name = f"neighbors_{smoothing.NEIGHBORS}_{smoothing.MOST_AT_ONCE}"
    neighbors = embeddings.derived(
        name, lambda: neighbors_of(vectors, progress=progress)
    )
    return embeddings.altered(
        "smoothed",
        lambda into: smooth(vectors, neighbors, into),
        neighbors.tobytes(),
        KEPT_BYTES,
    )


def default_transform(embeddings: EmbeddingSet) -> str:
    """What is done to a set where nothing else is asked for."""
    return OF_TEXT if embeddings.takes_text else TRANSFORM


def fit_transform(name: str, embeddings: EmbeddingSet) -> Transform:
    """A transform fitted to a set; what takes a pass over everything is kept in its
    folder.
    """
    if name == "l2":
        return Transform()
    vectors = embeddings.vectors
    mean = embeddings.derived("unit_mean", lambda: mean_of_unit_vectors(vectors))
    if name not in {"partial", *ALTERED}:
        return Transform.fit(name, vectors, mean=mean)

    def directions() -> np.ndarray:
        found = Transform.fit(name, vectors, mean=mean).projection
        assert found is not None
        return found

    projection = embeddings.derived(f"partial_{POWER}_{DIRECTIONS}", directions)
    return Transform(name, mean.astype(np.float32), projection)


def _progress(crops: int, many: int, unit: str, desc: str) -> Progress:
    """A bar from so many crops on."""
    if crops < many:
        return no_progress
    return partial(progress_bar, unit=unit, desc=desc)


def _make_index(
    embeddings: EmbeddingSet, transform: Transform, milvus: str, build_cascade: bool
) -> CosineIndex:
    """Milvus where it is asked for, in memory otherwise, with a cascade on disk for
    large sets.
    """
    if milvus:
        from probe.backends.milvus import MilvusIndex

        return MilvusIndex(
            milvus,
            embeddings.vectors,
            embeddings.ids,
            transform=transform,
            content_hash=embeddings.meta["sha256"] + embeddings.altered_by,
            progress=partial(progress_bar, unit="batch", desc="filling Milvus"),
        )
    cascade = None
    if embeddings.whole and embeddings.vectors.nbytes >= CASCADE_BYTES:
        cascade = _open_cascade(embeddings, transform, build_cascade)
    progress = _progress(len(embeddings.table), MANY, "block", "whitening, once")
    return CosineIndex(
        embeddings, transform=transform, cascade=cascade, progress=progress
    )


def _open_cascade(
    embeddings: EmbeddingSet, transform: Transform, build: bool
) -> Cascade | None:
    plain = transform.name == "l2"
    name = "cascade" if plain else f"cascade-{transform.base}"
    if embeddings.altered_by:
        name += f"-{embeddings.altered_by.split('-')[0]}"
    folder = Path(embeddings.folder) / name
    content = embeddings.meta["sha256"] + embeddings.altered_by
    if not plain:
        content += hashlib.sha256(transform.content).hexdigest()
    try:
        found = _load_cascade(folder, content)
        if found is not None or not build:
            return found
        check_writable(folder.parent, "embeddings", embeddings.vectors.nbytes // 2)
        return Cascade.build(
            embeddings.vectors,
            transform,
            folder=folder,
            content_hash=content,
            progress=partial(progress_bar, unit="block", desc=f"index, once, {folder}"),
        )
    except (OSError, RuntimeError) as error:  # another process may be building it
        print(f"searching without an index: {error}")
        return None


def _load_cascade(folder: Path, content: str) -> Cascade | None:
    """The index on disk; None where there is none of these vectors."""
    try:
        return Cascade.load(folder, content)
    except (OSError, ValueError, KeyError):  # of the set as it was, or broken
        return None
