"""Embedding sets: a folder with embeddings.npy, crops.parquet (same row order) and
meta.json; or with several files of vectors, which meta.json lists.

A set is loaded memory-mapped, without pickle, and verified against meta.json;
`data.embedding_writer` writes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.lib.format import open_memmap

from artifacts.files import (
    check_writable,
    whole_file,
    write_atomically,
)
from artifacts.progress import Progress, no_progress
from data.crop_table import SOURCE_ROW, CropTable
from data.duplicates import Looks
from data.images import CropWindow
from data.stored_vectors import (
    EMBEDDINGS,
    FLOAT32,
    StoredVectors,
    open_vectors,
    parts_in,
)

CROPS, META, DERIVED = "crops.parquet", "meta.json", ".derived.npz"
TABLE = "table"  # in meta.json: which file has the crops, if not crops.parquet
GROWN_FROM = "grown_from"  # in meta.json: stages of a set before crops were added to it
STAGE = ("sha256", "table_hash", "rows", TABLE)  # what is kept of each
# What meta.json doesn't say of a set of a version before recipes.
OF_NO_RECIPE = {"recipe": "plain", "pooling": "mean", "orientations": 1}
_TINY = 1e-15  # length of a vector that is none
TAKES_TEXT = "takes_text"  # in meta.json: texts have vectors of the same space
ELSEWHERE = "elsewhere"  # the encoder of vectors that this project didn't make
_ROWS_PER_CHECK = 16384


@dataclass(frozen=True)
class EmbeddingSet:
    """Embeddings of the crops of a table.

    Attributes:
        vectors: [N, D] float32, memory-mapped, finite, as the encoder gave them (not
            normalised); or `StoredVectors`, of which rows are taken as of an array.
        table: N crops; row i belongs to vectors[i].
        meta: what `meta.json` says: encoder, hashes, sizes, provenance.
        folder: where the set lies.
    """

    vectors: np.ndarray
    table: CropTable
    meta: dict[str, Any]
    folder: Path
    whole: bool = True  # whether it holds all that lies in the folder
    altered_by: str = ""  # what was done to the vectors in the folder, with its hash

    def __repr__(self) -> str:
        rows, width = self.vectors.shape
        return f"EmbeddingSet({rows:,} crops x {width}, {str(self.folder)!r})"

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        images_root: str | Path | None = None,
        full: bool = False,
    ) -> EmbeddingSet:
        """Loads a set and verifies it: file sizes, shape, hash of the table, finite
        values. What was verified once isn't read again, as long as the files have the
        same sizes and times.

        Args:
            folder: the set's folder.
            images_root: where the images are now, if they have moved.
            full: verify again, and compare the SHA-256 of the vectors as well.

        Raises:
            ValueError: the folder is no embedding set, or isn't what its meta.json
                says; the message names the file.
        """
        folder = Path(folder)
        has_meta = (folder / META).is_file()
        needed = _files_of(folder) if has_meta else [EMBEDDINGS, CROPS]
        missing = [name for name in needed if not (folder / name).is_file()]
        if not has_meta or missing:
            lacking = ", ".join([*([] if has_meta else [META]), *missing])
            raise ValueError(
                f"embeddings must be the folder of an embedding set; {str(folder)!r} "
                f"lacks {lacking}"
            )
        meta = _read_meta(folder / META)
        table = CropTable.read(folder / meta[TABLE], images_root)
        vectors = open_vectors(folder, meta)
        if len(vectors) != len(table) or len(table) != meta["rows"]:
            raise ValueError(
                f"{folder} must hold {meta['rows']} vectors and crops; got "
                f"{len(vectors)} and {len(table)}"
            )
        loaded = cls(vectors, table, meta, folder)
        if full or "stamp" not in _read_derived(folder, ("stamp",)):
            loaded._verify(full)
        table.__dict__["content_hash"] = meta["table_hash"]  # as was verified
        return loaded

    @classmethod
    def from_arrays(
        cls,
        vectors: np.ndarray,
        crops: CropTable,
        *,
        folder: str | Path,
        rows: np.ndarray | None = None,
        made_by: str = "",
        window: CropWindow = CropWindow(),  # noqa: B008, it is frozen
        looks: Looks | None = None,
        stored_as: str = FLOAT32,
        facts: Mapping[str, Any] | None = None,
        progress: Progress = no_progress,
    ) -> EmbeddingSet:
        """Makes a set of vectors that were made elsewhere.

        Example:
            >>> crops = read_crops("boxes.csv")  # sorted, some left out
            >>> rows = crops.column("source_row")  # their places in the file
            >>> EmbeddingSet.from_arrays(vectors, crops, rows=rows, folder="runs/dino")

        Args:
            vectors: [N, D] numbers. Rows that aren't finite, or next to zero, are left
                out with their crops.
            crops: the table.
            rows: of each crop's vector. It may be left away where a table wasn't read
                from a file; then row i belongs to crop i.
            folder: of the set; one of these crops and vectors is taken as it is, and
                anything else that lies there is moved aside, to `<folder>.old-N`.
            made_by: the network's name: probes of one set rank others made by the same.
                Default: the vectors themselves, so that no other set is.
            window: which part of an image a box stands for, for pictures of crops.
            looks: of all crops of the table; by them it is told which show the same.
            stored_as: see `data.stored_vectors.as_stored`.
            facts: more for meta.json.
            progress: wraps the iteration over blocks of rows.

        Raises:
            ValueError: the counts differ, or no row is left.
        """
        vectors, rows = _checked_arrays(vectors, crops, rows)
        values = _hash_of_vectors(vectors, rows)
        name = f"{ELSEWHERE} {made_by} {vectors.shape[1]}"
        identity = {
            "encoder_hash": hashlib.sha256(name.encode()).hexdigest()
            if made_by
            else values,
            "endpoint": "",
            "image_size": 0,
            "view": dataclasses.asdict(window),
            "vectors_hash": values,
            "stored_as": stored_as,
        }
        from data.embedding_writer import ROWS_PER_PART, EmbeddingWriter, reusable

        if reusable(folder, crops, identity):
            return cls.load(folder)
        writer = EmbeddingWriter(folder, crops, vectors.shape[1], identity)
        blocks = range(writer.next_row, len(crops), ROWS_PER_PART)
        for start in progress(blocks, unit="block", desc="vectors"):
            block = _block(vectors, rows, start, ROWS_PER_PART)
            length = np.linalg.norm(block.astype(np.float64), axis=1)
            part = slice(start, start + len(block))
            seen = looks and Looks(looks.thumbnails[part], looks.hashes[part])
            writer.append(block, (length > _TINY) & (length < 1 / _TINY), seen)
        writer.flush()
        images = crops.column("image")[~writer.valid]
        reasons = dict.fromkeys(images, "its vector is next to zero, or not finite")
        meta = {"encoder": ELSEWHERE, "made_by": made_by, **(facts or {})}
        return writer.finish(meta, reasons)

    @property
    def is_from_elsewhere(self) -> bool:
        """Whether no encoder of this project made the vectors."""
        return self.meta.get("encoder") == ELSEWHERE

    @property
    def takes_text(self) -> bool:
        """Whether texts can be queries: the encoder's text tower gives them vectors of
        the same space.
        """
        return bool(self.meta.get(TAKES_TEXT))

    @property
    def ids(self) -> np.ndarray:
        """Crop ids, [N] str."""
        return self.table.ids

    @property
    def window(self) -> CropWindow:
        """Which part of an image the encoder saw of a box."""
        stated = dict(self.meta.get("view", {"square": False}))  # 0.2.0 stretched boxes
        if stated.get("fill") == "grey":  # the word of version 0.5.0
            stated["fill"] = "gray"
        return CropWindow(**stated)

    @property
    def stages(self) -> list[dict[str, Any]]:
        """Hashes and rows of the set as it was before crops were added to it, each
        time, and as it is; see `data.embedding_writer`.
        """
        now = {name: self.meta.get(name) for name in STAGE}
        return [*self.meta.get(GROWN_FROM, ()), {**now, "rows": len(self.table)}]

    def rows_when(self, sha256: str | None) -> int | None:
        """How many crops it had when its vectors had this hash; None if they never
        had.
        """
        found = [stage["rows"] for stage in self.stages if stage["sha256"] == sha256]
        return found[0] if found else None

    def as_when(self, rows: int) -> EmbeddingSet:
        """The set as it was when it had so many crops, one of its `stages`; nothing is
        copied, and crops are described as they were then; of columns that the table had
        not, such as a model's predictions, they have today's.
        """
        if rows == len(self.table):
            return self
        stage = next(stage for stage in self.stages if stage["rows"] == rows)
        vectors: Any = self.vectors
        stored = isinstance(vectors, StoredVectors)
        vectors = vectors.head(rows) if stored else vectors[:rows]
        now = self.table.take(np.arange(rows))
        table = CropTable.read(self.folder / stage[TABLE], self.table.root)
        for name in set(now.rows.column_names) - set(table.rows.column_names):
            table = table.with_column(name, now.rows.column(name))
        meta = {**self.meta, **stage}
        return dataclasses.replace(
            self, vectors=vectors, table=table, meta=meta, whole=False
        )

    def take(self, rows: np.ndarray) -> EmbeddingSet:
        """The set of the given rows, in memory: an index array or a boolean mask."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        vectors = np.asarray(self.vectors[rows])
        return dataclasses.replace(
            self, vectors=vectors, table=self.table.take(rows), whole=False
        )

    def altered(
        self,
        name: str,
        fill: Callable[[np.ndarray], None],
        content: bytes,
        in_memory: int,
    ) -> EmbeddingSet:
        """The set with other vectors, which follow from its own.

        Args:
            name: of what is done to them.
            fill: writes them into an array, [N, D] float32.
            content: what tells them from others of that name.
            in_memory: bytes up to which they are kept in memory. More are kept in the
                set's folder, as `name`-<hash>.npy, where it can be written to.
        """
        made_of = f"{self.meta['sha256']} {self.altered_by} ".encode() + content
        made = f"{name}-{hashlib.sha256(made_of).hexdigest()[:12]}"
        path, shape = self.folder / f"{made}.npy", self.vectors.shape
        vectors = None
        if self.whole and self.vectors.nbytes > in_memory:
            vectors = _read_array(path, shape)
            if vectors is None:
                with contextlib.suppress(OSError):
                    for old in self.folder.glob(f"{name}-*.npy"):
                        old.unlink()
                    check_writable(self.folder, "embeddings", self.vectors.nbytes)
                    with whole_file(path, sync=False) as partial:
                        fill(open_memmap(partial, "w+", np.float32, shape))
                vectors = _read_array(path, shape)
        if vectors is None:
            vectors = np.empty(shape, np.float32)
            fill(vectors)
        return dataclasses.replace(self, vectors=vectors, altered_by=made)

    def derived(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """An array that follows from the files, such as a mean of all vectors: computed
        once, and from then on read from the set's folder.

        Args:
            name: what to keep it as.
            compute: makes it.
        """
        if not self.whole:
            return compute()
        name = f"{self.altered_by}_{name}" if self.altered_by else name
        known = _read_derived(self.folder, (name,))
        if name in known:
            return known[name]
        value = compute()
        _write_derived(self.folder, {**_read_derived(self.folder), name: value})
        return value

    def _verify(self, full: bool) -> None:
        if self.table.content_hash != self.meta["table_hash"]:
            raise ValueError(
                f"{self.folder / self.meta[TABLE]} isn't the table that the embeddings "
                "were made from (its hash differs)"
            )
        parts = parts_in(self.meta)
        for part in parts if full else ():
            if part.hash_in(self.folder) != part.sha256:
                raise ValueError(
                    f"{self.folder / part.file} was changed after it was written (its "
                    "SHA-256 differs)"
                )
        one = len(parts) == 1
        _check_finite(self.vectors, self.folder / parts[0].file if one else self.folder)
        _write_derived(self.folder, {})


def _checked_arrays(
    vectors: np.ndarray, crops: CropTable, rows: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and the row of each crop's, checked."""
    vectors = np.asanyarray(vectors)
    if vectors.ndim != 2 or vectors.dtype.kind in "bcOSUM":
        raise ValueError(
            f"vectors must be real numbers [rows, width]; got {vectors.dtype} "
            f"{vectors.shape}"
        )
    if rows is None and SOURCE_ROW in crops.rows.column_names:
        raise ValueError(
            f"rows must be given for crops that were read from a file, which are "
            f"sorted: crops.column({SOURCE_ROW!r}) for vectors in the file's order, "
            "np.arange(len(crops)) for vectors in the order of crops"
        )
    if rows is None and len(vectors) != len(crops):
        raise ValueError(
            f"vectors must be [{len(crops)}, width], a row for each crop; got "
            f"{vectors.shape}"
        )
    rows = np.arange(len(crops)) if rows is None else np.asarray(rows)
    if rows.shape != (len(crops),) or rows.dtype.kind not in "iu":
        raise ValueError(
            f"rows must be {len(crops)} whole numbers, one a crop; got {rows.dtype} "
            f"{rows.shape}"
        )
    if rows.min() < 0 or rows.max() >= len(vectors):
        raise ValueError(
            f"rows must be from 0 to {len(vectors) - 1}, the rows of vectors; got "
            f"{rows.min()} to {rows.max()}"
        )
    return vectors, rows


def _block(vectors: np.ndarray, rows: np.ndarray, start: int, size: int) -> np.ndarray:
    """Some of the rows, [n, D] float32."""
    return np.asarray(vectors[rows[start : start + size]], np.float32)


def _hash_of_vectors(vectors: np.ndarray, rows: np.ndarray) -> str:
    """SHA-256 of the rows' values as float32."""
    digest = hashlib.sha256()
    for start in range(0, len(rows), _ROWS_PER_CHECK):
        digest.update(_block(vectors, rows, start, _ROWS_PER_CHECK).tobytes())
    return digest.hexdigest()


def hashes_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """What tells a set from every other: of its encoder, its vectors and its table."""
    return {name: meta[name] for name in ("encoder_hash", "sha256", "table_hash")}


def _files_of(folder: Path) -> list[str]:
    """Names of the files that make a set, less meta.json; the usual ones where that is
    broken.
    """
    try:
        meta = _read_meta(folder / META)
    except ValueError:
        return [EMBEDDINGS, CROPS]
    parts = parts_in(meta)
    scales = [part.scale for part in parts if part.scale]
    return [*(part.file for part in parts), *scales, meta[TABLE]]


def _stamp_of(folder: Path) -> np.ndarray:
    """Size and time of every file that verifying reads, [files, 2] int64."""
    names = [*_files_of(folder), META]
    facts = [(folder / name).stat() for name in names]
    return np.array([[fact.st_size, fact.st_mtime_ns] for fact in facts], np.int64)


def _read_derived(
    folder: Path, names: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """What was derived from these very files, by name, as far as it is there.

    Args:
        folder: of the set.
        names: of what; default: everything, the stamp included.
    """
    try:
        with np.load(folder / DERIVED, allow_pickle=False) as stored:
            if not np.array_equal(stored["stamp"], _stamp_of(folder)):
                return {}
            known = stored.files if names is None else {*names} & {*stored.files}
            return {name: stored[name] for name in known}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return {}


def _write_derived(folder: Path, known: Mapping[str, np.ndarray]) -> None:
    arrays = {**known, "stamp": _stamp_of(folder)}
    with contextlib.suppress(OSError):  # a folder that can't be written to
        write_atomically(
            folder / DERIVED,
            lambda file: np.savez(file, **arrays),  # type: ignore[arg-type]
        )


def _read_array(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """A float32 array of this shape, memory-mapped; None where it isn't there, or
    isn't whole.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.float32 else None


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text())
        missing = {"rows", "width", "bytes", "sha256", "table_hash"} - set(meta)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} must be the JSON of an embedding set: {error}"
        ) from None
    if missing:
        raise ValueError(
            f"{path} isn't of an embedding set: it lacks {', '.join(sorted(missing))}"
        )
    return {**OF_NO_RECIPE, TABLE: CROPS, **meta}


def _check_finite(vectors: np.ndarray, path: Path) -> None:
    for start in range(0, len(vectors), _ROWS_PER_CHECK):
        # A sum is finite only if every value is, or a finite row overflows, which no
        # embedding does.
        good = np.isfinite(
            vectors[start : start + _ROWS_PER_CHECK].sum(axis=1, dtype=np.float64)
        )
        if not good.all():
            rows = start + np.flatnonzero(~good)
            raise ValueError(
                f"{path} must be finite; NaN or infinity in row {rows[0]} (and "
                f"{len(rows) - 1} more of its block)"
            )
