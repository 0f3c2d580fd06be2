"""Embedding sets: a folder with embeddings.npy, crops.parquet (same row order) and
meta.json.

A set is written in parts beside its final place (`embeddings.partial/`), so a killed
run goes on where it stopped, and is renamed into place whole. It is loaded
memory-mapped, without pickle, and verified against meta.json.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
from numpy.lib.format import open_memmap

from artifacts.files import (
    back_up,
    check_writable,
    sha256_of_file,
    whole_file,
    write_atomically,
    write_csv,
    write_json,
)
from artifacts.progress import Progress, no_progress
from data.crop_table import DUPLICATE_OF, SOURCE_ROW, CropTable
from data.duplicates import (
    SIDE,
    Looks,
    find_duplicates,
    group_of,
    repaired,
    with_duplicates,
)
from data.images import CropWindow

EMBEDDINGS, CROPS, META = "embeddings.npy", "crops.parquet", "meta.json"
SKIPPED, DERIVED = "skipped.csv", ".derived.npz"
DUPLICATES, _THUMBNAILS = "duplicates.csv", "thumbnails.npy"
ROWS_PER_PART = 1024
# What meta.json doesn't say of a set of a version before recipes.
OF_NO_RECIPE = {"recipe": "plain", "pooling": "mean", "orientations": 1}
_TINY = 1e-15  # length of a vector that is none
TAKES_TEXT = "takes_text"  # in meta.json: texts have vectors of the same space
ELSEWHERE = "elsewhere"  # the encoder of vectors that this project didn't make
_ROWS_PER_CHECK = 16384
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddingSet:
    """Embeddings of the crops of a table.

    Attributes:
        vectors: [N, D] float32, memory-mapped, finite, as the encoder gave them (not
            normalised).
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
            full: verify again, and compare the SHA-256 of embeddings.npy as well.

        Raises:
            ValueError: the folder is no embedding set, or isn't what its meta.json
                says; the message names the file.
        """
        folder = Path(folder)
        names = [META, EMBEDDINGS, CROPS]
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ValueError(
                f"embeddings must be the folder of an embedding set; {str(folder)!r} "
                f"lacks {', '.join(missing)}"
            )
        meta = _read_meta(folder / META)
        table = CropTable.read(folder / CROPS, images_root)
        size = (folder / EMBEDDINGS).stat().st_size
        if size != meta["bytes"]:
            raise ValueError(
                f"{folder / EMBEDDINGS} must have {meta['bytes']} bytes; got {size}"
            )
        vectors = np.load(folder / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
        shape = (meta["rows"], meta["width"])
        found = f"{vectors.shape} {vectors.dtype} and {len(table)}"
        if found != f"{shape} float32 and {meta['rows']}":
            raise ValueError(
                f"{folder} must hold {shape} float32 and {meta['rows']} crops; got "
                f"{found}"
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
        }
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
                f"{self.folder / CROPS} isn't the table that the embeddings were made "
                "from (its hash differs)"
            )
        path = self.folder / EMBEDDINGS
        if full and sha256_of_file(path) != self.meta["sha256"]:
            raise ValueError(
                f"{path} was changed after it was written (its SHA-256 differs)"
            )
        _check_finite(self.vectors, path)
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


def _stamp_of(folder: Path) -> np.ndarray:
    """Size and time of every file that verifying reads, [3, 2] int64."""
    facts = [(folder / name).stat() for name in (EMBEDDINGS, CROPS, META)]
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
    return {**OF_NO_RECIPE, **meta}


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


class EmbeddingWriter:
    """Writes an embedding set in parts, resumable after a kill.

    Usage: give `append` the vectors of the rows from `next_row` on, in table order,
    then call `finish`.
    """

    def __init__(
        self,
        folder: str | Path,
        table: CropTable,
        width: int,
        identity: Mapping[str, Any],
        rows_per_part: int = ROWS_PER_PART,
    ):
        """Opens the set's partial folder.

        Args:
            folder: the set's final folder; must not exist yet (see `reusable`).
            table: the crops to embed.
            width: D.
            identity: what decides the values (encoder hash, endpoint, image size); a
                part is taken up only by a writer with the same identity and table.
            rows_per_part: crops a part file.
        """
        self.folder, self.table, self.width = Path(folder), table, width
        self.identity = {**identity, "table_hash": table.content_hash}
        self.rows_per_part = rows_per_part
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        # Parts and the whole, with thumbnails until it is known which show the same.
        needed = 2 * len(table) * (width * 4 + SIDE * SIDE * 3)
        check_writable(self.partial, "embeddings", needed)
        stated = self.partial / "identity.json"
        if stated.is_file() and json.loads(stated.read_text()) != self.identity:
            shutil.rmtree(
                self.partial
            )  # an unfinished set of other weights or crops: it can't be continued
            self.partial.mkdir()
        if not stated.is_file():
            write_json(stated, self.identity)
        self._parts = [_read_part(path, "valid") for path in self._part_paths()]
        self._vectors: list[np.ndarray] = []
        self._valid: list[np.ndarray] = []
        self._looks: list[Looks] = []
        self._pending = 0

    def _part_paths(self) -> list[Path]:
        return sorted(self.partial.glob("part-*.npz"))

    @property
    def next_row(self) -> int:
        """The first row that isn't on disk or in memory yet."""
        return sum(map(len, self._parts)) + self._pending

    @property
    def valid(self) -> np.ndarray:
        """Which of the rows so far could be read, [next_row] bool."""
        return np.concatenate([*self._parts, *self._valid, np.array([], bool)])

    def append(
        self, vectors: np.ndarray, valid: np.ndarray, looks: Looks | None = None
    ) -> None:
        """Adds the next rows.

        Args:
            vectors: [n, D] float32, one row a crop, whatever for invalid ones.
            valid: [n] bool, False for crops that couldn't be read; they are left out of
                the finished set.
            looks: of the n crops, by which the finished set tells which show the same;
                of all of them or none.

        Raises:
            ValueError: a valid row isn't finite, the width is wrong, or there are more
                rows than crops.
        """
        if vectors.ndim != 2 or vectors.shape != (len(valid), self.width):
            raise ValueError(
                f"vectors must have shape {(len(valid), self.width)}; got "
                f"{vectors.shape}"
            )
        if self.next_row + len(valid) > len(self.table):
            raise ValueError(
                f"vectors must not exceed the table's {len(self.table)} rows; got "
                f"{self.next_row + len(valid)}"
            )
        bad = valid & ~np.isfinite(vectors).all(axis=1)
        if bad.any():
            row = self.next_row + int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"embedding of crop {self.table.ids[row]} isn't finite: the encoder's "
                "weights are broken"
            )
        self._vectors.append(vectors.astype(np.float32, copy=False))
        self._valid.append(valid)
        if looks is not None:
            self._looks.append(looks)
        self._pending += len(valid)
        if self._pending >= self.rows_per_part:
            self.flush()

    def flush(self) -> None:
        """Writes what is in memory as a part."""
        if not self._pending:
            return
        valid, vectors = np.concatenate(self._valid), np.concatenate(self._vectors)
        path = self.partial / f"part-{len(self._parts):06d}.npz"
        arrays = {"valid": valid, "vectors": vectors[valid]}
        if self._looks:
            arrays["thumbnails"], arrays["hashes"] = (
                np.concatenate([getattr(looks, name) for looks in self._looks])[valid]
                for name in ("thumbnails", "hashes")
            )
        write_atomically(path, lambda file: np.savez(file, **arrays))
        self._parts.append(valid)
        self._vectors, self._valid, self._pending = [], [], 0
        self._looks = []

    def finish(
        self,
        meta: Mapping[str, Any],
        reasons: Mapping[str, str] | None = None,
        progress: Progress = no_progress,
    ) -> EmbeddingSet:
        """Joins the parts, verifies the row count and renames the set into place.

        Args:
            meta: anything else for meta.json (encoder, provenance).
            reasons: image -> why it couldn't be read, for skipped.csv.
            progress: wraps the search for crops that show the same.
        """
        self.flush()
        if self.next_row != len(self.table):
            raise ValueError(
                f"the set must have {len(self.table)} rows; {self.next_row} were "
                "appended"
            )
        valid = self.valid
        if not valid.any():
            # Left there it would say so for ever, also once the images are back.
            shutil.rmtree(self.partial)
            raise ValueError(
                f"none of the crops below {self.table.root} has an embedding; "
                + next(iter((reasons or {}).values()), "no image could be read")
            )
        path = self.partial / EMBEDDINGS
        write_atomically(
            path,
            lambda file: self._join(
                "vectors", "<f4", (int(valid.sum()), self.width), file
            ),
        )
        kept = self._with_duplicates(self.table.take(valid), progress)
        kept.write(self.partial / CROPS)
        write_duplicates(self.partial / DUPLICATES, kept)
        _write_skipped(self.partial / SKIPPED, self.table.take(~valid), reasons or {})
        facts = {
            **self.identity,
            "table_hash": kept.content_hash,
            "source_table_hash": self.table.content_hash,
            "rows": len(kept),
            "width": self.width,
            "skipped": int((~valid).sum()),
            "bytes": path.stat().st_size,
            "sha256": sha256_of_file(path),
            **meta,
        }
        write_json(self.partial / META, facts)
        os.rename(
            self.partial, self.folder
        )  # whole from here on; what follows only tidies up
        for leftover in [
            *self.folder.glob("part-*.npz"),
            self.folder / "identity.json",
            self.folder / _THUMBNAILS,
        ]:
            leftover.unlink(missing_ok=True)
        return EmbeddingSet.load(self.folder)

    def _with_duplicates(self, kept: CropTable, progress: Progress) -> CropTable:
        """The table with which crops show the same, as far as all were looked at."""
        parts = self._part_paths()
        if DUPLICATE_OF in kept.rows.column_names or not parts:
            return repaired(kept)
        try:
            hashes = np.concatenate([_read_part(path, "hashes") for path in parts])
        except KeyError:  # of a version, or by a call, that didn't look
            return kept
        path = self.partial / _THUMBNAILS
        shape = (len(hashes), SIDE, SIDE, 3)
        write_atomically(
            path, lambda file: self._join("thumbnails", "|u1", shape, file)
        )
        thumbnails = np.load(path, mmap_mode="r", allow_pickle=False)
        return with_duplicates(
            kept, find_duplicates(Looks(thumbnails, hashes), progress)
        )

    def _join(
        self, name: str, dtype: str, shape: tuple[int, ...], file: BinaryIO
    ) -> None:
        """Writes an array of all parts as one .npy file. By plain writes: through a
        memory map a full disk would end the process.
        """
        np.lib.format.write_array_header_1_0(
            file, {"descr": dtype, "fortran_order": False, "shape": shape}
        )
        for part in self._part_paths():
            file.write(_read_part(part, name).astype(dtype, copy=False).tobytes())


def _read_part(path: Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as part:
        return part[name]


def write_duplicates(path: Path, table: CropTable) -> None:
    """Writes which crops show the same as another one, and the splits of both."""
    group = group_of(table)
    if group is None:
        return
    names = ("crop_id", "image", "split")
    lines = [[*names, "duplicate_of", "image_of", "split_of"]]
    for row in np.flatnonzero(group != np.arange(len(group))):
        lines.append(
            [
                str(table.column(name)[one])
                for one in (row, group[row])
                for name in names
            ]
        )
    write_csv(path, lines)


def _write_skipped(path: Path, table: CropTable, reasons: Mapping[str, str]) -> None:
    crops = zip(table.ids, table.column("image"), strict=True)
    rows = [[crop, image, reasons.get(image, "unreadable")] for crop, image in crops]
    write_csv(path, [["crop_id", "image", "reason"], *rows])


def read_skipped(folder: str | Path) -> dict[str, str]:
    """Image -> why it couldn't be read, of a finished set."""
    with open(Path(folder) / SKIPPED, newline="", encoding="utf-8") as file:
        return {row["image"]: row["reason"] for row in csv.DictReader(file)}


def reusable(folder: str | Path, table: CropTable, identity: Mapping[str, Any]) -> bool:
    """Whether a finished set of these crops by this encoder lies in the folder already.

    Anything else that lies there is never overwritten: it is moved aside, to
    `<folder>.old-N`.
    """
    folder = Path(folder)
    if not folder.exists():
        return False
    meta = json.loads((folder / META).read_text()) if (folder / META).is_file() else {}
    if meta.get("view", {}).get("fill") == "grey":  # the word of version 0.5.0
        meta["view"]["fill"] = "gray"
    meta = {**OF_NO_RECIPE, **meta}
    wanted = {**identity, "source_table_hash": table.content_hash}
    if all(meta.get(key) == value for key, value in wanted.items()):
        return True
    moved = back_up(folder)
    _log.warning("%s held another embedding set, which is %s now", folder, moved)
    return False
