"""Writing embedding sets: in parts, by one process or by many, resumed after a kill;
and adding to a set what has come since.

A part is a file of consecutive rows of the crop table, named by the first, in
`embeddings.partial/` beside the set's final place. Whoever writes whichever rows, the
set is whole once every row is in a part, and is then renamed into place.
"""

from __future__ import annotations

import csv
import itertools
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from artifacts.files import (
    back_up,
    check_writable,
    write_atomically,
    write_csv,
    write_json,
)
from artifacts.progress import Progress, no_progress
from data.crop_table import ADDED, DUPLICATE_OF, CropTable
from data.duplicates import (
    SIDE,
    Looks,
    find_duplicates,
    group_of,
    repaired,
    with_duplicates,
)
from data.embeddings import (
    CROPS,
    GROWN_FROM,
    META,
    OF_NO_RECIPE,
    STAGE,
    TABLE,
    EmbeddingSet,
)
from data.stored_vectors import (
    FLOAT32,
    as_stored,
    parts_in,
    stated,
    write_joined,
    write_parts,
)

SKIPPED, DUPLICATES = "skipped.csv", "duplicates.csv"
ROWS_PER_PART = 1024
_IDENTITY, _THUMBNAILS = "identity.json", "thumbnails.npy"
_PART = re.compile(r"part-(\d{6}|\d{12})\.npz")
_log = logging.getLogger(__name__)


def shares(table: CropTable, count: int) -> list[range]:
    """The rows cut into so many parts of about as many crops; no image is parted."""
    images = table.column("image")
    last = np.flatnonzero(np.r_[images[1:] != images[:-1], True])
    aims = np.arange(1, count) * len(table) / count
    ends = last[np.minimum(np.searchsorted(last, aims - 1), len(last) - 1)] + 1
    bounds = [0, *ends.tolist(), len(table)]
    return [range(*bound) for bound in itertools.pairwise(bounds)]


class EmbeddingWriter:
    """Writes an embedding set in parts, resumable after a kill.

    Usage: give `append` the vectors of the rows from `next_row` on, in table order, or
    `write` those of any rows; then call `finish`.

    Args:
        folder: the set's final folder; must not exist yet (see `reusable`), unless the
            set grows.
        table: the crops to embed.
        width: D.
        identity: what decides the values (encoder hash, endpoint, image size), and as
            `stored_as` how they are stored, if not as float32; a part is taken up only
            by a writer with the same identity and table.
        rows_per_part: crops a part file.
        share: rows that `append` goes through; default all.
    """

    def __init__(
        self,
        folder: str | Path,
        table: CropTable,
        width: int,
        identity: Mapping[str, Any],
        rows_per_part: int = ROWS_PER_PART,
        *,
        share: range | None = None,
    ):
        self.folder, self.table, self.width = Path(folder), table, width
        self.identity = _full({**identity, "table_hash": table.content_hash})
        stored_as = self.stored_as = self.identity["stored_as"]
        self.share = range(len(table)) if share is None else share
        self.rows_per_part = rows_per_part
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        # Parts and the whole, with thumbnails until it is known which show the same.
        row_bytes = width * np.dtype(stored_as).itemsize + SIDE * SIDE * 3
        check_writable(self.partial, "embeddings", 2 * len(self.share) * row_bytes)
        path = self.partial / _IDENTITY
        if path.is_file() and _full(json.loads(path.read_text())) != self.identity:
            # An unfinished set of other weights or crops: it can't be continued.
            if len(self.share) < len(table):
                raise ValueError(
                    "part must be of the same crops, encoder and settings as the parts "
                    f"that lie in {self.partial}; these are others. Delete that folder "
                    "if nobody is at work on it"
                )
            moved = back_up(self.partial)
            _log.warning("%s held parts of another set, now %s", self.partial, moved)
            self.partial.mkdir()
        if not path.is_file():
            write_json(path, self.identity)
        self._valid: dict[int, np.ndarray] = {}  # of each part, by its first row
        self._vectors: list[np.ndarray] = []
        self._seen: list[np.ndarray] = []
        self._looks: list[Looks] = []
        self._pending = 0
        self.reasons: Mapping[str, str] = {}
        self.look_again()

    def look_again(self) -> None:
        """Takes up parts that other processes have written."""
        start = 0
        for path in sorted(self.partial.glob("part-*.npz")):
            named = _PART.fullmatch(path.name)
            if named is None:
                continue
            if len(named[1]) == 6:  # of a version whose parts were numbered
                valid = _read_part(path, "valid")
                os.replace(path, self._path(start))
                self._valid[start] = valid
                start += len(valid)
            elif int(named[1]) not in self._valid:
                self._valid[int(named[1])] = _read_part(path, "valid")

    def _path(self, start: int) -> Path:
        return self.partial / f"part-{start:012d}.npz"

    def gaps(self, rows: range | None = None) -> list[range]:
        """Consecutive rows of the share, or of others, that are in no part."""
        rows = self.share if rows is None else rows
        found, begin = [], rows.start
        for start in sorted(self._valid):
            end = start + len(self._valid[start])
            if begin < min(start, rows.stop):
                found.append(range(begin, min(start, rows.stop)))
            begin = max(begin, end)
        if begin < rows.stop:
            found.append(range(begin, rows.stop))
        return found

    @property
    def is_whole(self) -> bool:
        """Whether every row of the table is in a part."""
        return not (self._pending or self.gaps(range(len(self.table))))

    @property
    def done(self) -> int:
        """How many rows of the share are on the disk or in memory."""
        left = sum(map(len, self.gaps()))
        return len(self.share) - left + self._pending

    @property
    def next_row(self) -> int:
        """The first row of the share that isn't on disk or in memory yet."""
        gaps = self.gaps()
        return gaps[0].start + self._pending if gaps else self.share.stop

    @property
    def valid(self) -> np.ndarray:
        """Which rows of the table could be read, as far as is known; [N] bool."""
        found = np.ones(len(self.table), bool)
        for start, valid in self._valid.items():
            found[start : start + len(valid)] = valid
        return found

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
        self._check(self.next_row, vectors, valid)
        self._vectors.append(vectors.astype(np.float32, copy=False))
        self._seen.append(valid)
        if looks is not None:
            self._looks.append(looks)
        self._pending += len(valid)
        if self._pending >= self.rows_per_part:
            self.flush()

    def flush(self) -> None:
        """Writes what is in memory as a part."""
        if not self._pending:
            return
        start = self.next_row - self._pending
        valid, vectors = np.concatenate(self._seen), np.concatenate(self._vectors)
        looks = None
        if self._looks:
            looks = Looks(
                np.concatenate([one.thumbnails for one in self._looks]),
                np.concatenate([one.hashes for one in self._looks]),
            )
        self.write(start, vectors, valid, looks, self.reasons)
        self._vectors, self._seen, self._pending, self._looks = [], [], 0, []

    def write(
        self,
        start: int,
        vectors: np.ndarray,
        valid: np.ndarray,
        looks: Looks | None = None,
        reasons: Mapping[str, str] | None = None,
    ) -> None:
        """Writes rows as a part, whole or not at all; see `append`.

        Args:
            start: the first row.
            vectors, valid, looks: of consecutive rows.
            reasons: image -> why it couldn't be read, of these rows or more.
        """
        self._check(start, vectors, valid)
        stored = as_stored(vectors[valid], self.stored_as)
        arrays: dict[str, Any] = {"valid": valid, **stored}
        if looks is not None:
            arrays["thumbnails"] = looks.thumbnails[valid]
            arrays["hashes"] = looks.hashes[valid]
        images = self.table.column("image")[start : start + len(valid)][~valid]
        why = {one: reasons[one] for one in images if one in reasons} if reasons else {}
        if why:
            arrays["reasons"] = np.array(json.dumps(why))
        write_atomically(self._path(start), lambda file: np.savez(file, **arrays))
        self._valid[start] = valid

    def _check(self, start: int, vectors: np.ndarray, valid: np.ndarray) -> None:
        if vectors.ndim != 2 or vectors.shape != (len(valid), self.width):
            raise ValueError(
                f"vectors must have shape {(len(valid), self.width)}; got "
                f"{vectors.shape}"
            )
        if start + len(valid) > len(self.table):
            raise ValueError(
                f"vectors must not exceed the table's {len(self.table)} rows; got "
                f"{start + len(valid)}"
            )
        bad = valid & ~np.isfinite(vectors).all(axis=1)
        if bad.any():
            row = start + int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"embedding of crop {self.table.ids[row]} isn't finite: the encoder's "
                "weights are broken"
            )

    def finish(
        self,
        meta: Mapping[str, Any],
        reasons: Mapping[str, str] | None = None,
        progress: Progress = no_progress,
        *,
        grows: EmbeddingSet | None = None,
        source: CropTable | None = None,
    ) -> EmbeddingSet:
        """Joins the parts, verifies the row count and renames the set into place.

        Args:
            meta: anything else for meta.json (encoder, provenance).
            reasons: image -> why it couldn't be read, for skipped.csv.
            progress: wraps the search for crops that show the same.
            grows: the set that these crops are added to, if it is there already.
            source: the table of all crops then, those of `grows` among them.
        """
        self.flush()
        if not self.is_whole:
            left = self.gaps(range(len(self.table)))
            raise ValueError(
                f"the set must have {len(self.table)} rows; "
                f"{len(self.table) - sum(map(len, left))} were appended"
            )
        valid = self.valid
        known = {**self.stored_reasons(), **(reasons or {})}
        if not valid.any() and grows is None:
            # Left there it would say so for ever, also once the images are back.
            shutil.rmtree(self.partial)
            raise ValueError(
                f"none of the crops below {self.table.root} has an embedding; "
                + next(iter(known.values()), "no image could be read")
            )
        kept = self._with_duplicates(self.table.take(valid), progress)
        unread = [(self.table.take(~valid), known)]
        facts = {**self.identity, "width": self.width, **meta}
        if grows is None:
            self._write_new(kept, unread, facts)
        else:
            assert source is not None
            self._write_grown(kept, unread, facts, grows, source)
        return EmbeddingSet.load(self.folder)

    def _pieces(self) -> list[tuple[int, Any]]:
        """Rows of each part, and what reads them."""
        return [
            (int(self._valid[start].sum()), lambda start=start: self._arrays(start))
            for start in sorted(self._valid)
        ]

    def _arrays(self, start: int) -> dict[str, np.ndarray]:
        with np.load(self._path(start), allow_pickle=False) as part:
            return {name: part[name] for name in part.files}

    def stored_reasons(self) -> dict[str, str]:
        """Image -> why it couldn't be read, as the parts say."""
        found: dict[str, str] = {}
        for start, valid in self._valid.items():
            if not valid.all():
                arrays = self._arrays(start)
                if "reasons" in arrays:
                    found |= json.loads(str(arrays["reasons"]))
        return found

    def _write_new(self, kept: CropTable, unread: Any, facts: dict[str, Any]) -> None:
        parts = write_parts(self.partial, self._pieces(), self.width, self.stored_as)
        kept.write(self.partial / CROPS)
        write_duplicates(self.partial / DUPLICATES, kept)
        _write_skipped(self.partial / SKIPPED, unread)
        write_json(
            self.partial / META,
            {
                **facts,
                "table_hash": kept.content_hash,
                "source_table_hash": self.table.content_hash,
                "skipped": len(self.table) - len(kept),
                **stated(parts),
            },
        )
        os.rename(
            self.partial, self.folder
        )  # whole from here on; what follows only tidies up
        for leftover in [
            *self.folder.glob("part-*.npz"),
            self.folder / _IDENTITY,
            self.folder / _THUMBNAILS,
        ]:
            leftover.unlink(missing_ok=True)

    def _write_grown(
        self,
        kept: CropTable,
        unread: Any,
        facts: dict[str, Any],
        grows: EmbeddingSet,
        source: CropTable,
    ) -> None:
        """Adds files to the set's folder; meta.json, which lists them, comes last, so
        that a reader sees the set before or after.
        """
        old = parts_in(grows.meta)
        new = []
        if len(kept):
            pieces, place = self._pieces(), len(old)
            new = write_parts(
                self.folder, pieces, self.width, self.stored_as, first=place
            )
        table = _together(grows, kept, source)
        name = _next_table(self.folder)
        table.write(self.folder / name)
        write_duplicates(self.folder / DUPLICATES, table)
        _write_skipped(self.folder / SKIPPED, unread)
        before = [*grows.meta.get(GROWN_FROM, ())]
        if len(kept):
            before.append({key: grows.meta[key] for key in STAGE})
        write_json(
            self.folder / META,
            {
                **grows.meta,
                **facts,
                TABLE: name,
                "table_hash": table.content_hash,
                "source_table_hash": source.content_hash,
                "skipped": len(source) - len(table),
                **stated([*old, *new]),
                **({GROWN_FROM: before} if before else {}),
            },
        )
        shutil.rmtree(self.partial)

    def _with_duplicates(self, kept: CropTable, progress: Progress) -> CropTable:
        """The table with which crops show the same, as far as all were looked at."""
        if not len(kept):
            return kept
        if DUPLICATE_OF in kept.rows.column_names:
            return repaired(kept)
        paths = [self._path(start) for start in sorted(self._valid)]
        try:
            hashes = np.concatenate([_read_part(path, "hashes") for path in paths])
        except KeyError:  # of a version, or by a call, that didn't look
            return kept
        path = self.partial / _THUMBNAILS
        shape = (len(hashes), SIDE, SIDE, 3)
        looked = (_read_part(part, "thumbnails") for part in paths)
        write_joined(path, shape, "uint8", looked)
        thumbnails = np.load(path, mmap_mode="r", allow_pickle=False)
        return with_duplicates(
            kept, find_duplicates(Looks(thumbnails, hashes), progress)
        )


def _next_table(folder: Path) -> str:
    """A name for a table beside the others, which earlier stages go on naming."""
    return f"crops-{len(list(folder.glob('crops*.parquet'))):04d}.parquet"


def _together(grows: EmbeddingSet, kept: CropTable, source: CropTable) -> CropTable:
    """The crops of a set, as the source describes them now, and behind them those that
    came.
    """
    ids = np.concatenate([grows.table.ids, kept.ids])
    table = source.take(source.rows_of(ids.tolist(), "crops"))
    before = np.zeros(len(grows.table), np.int64)
    if ADDED in grows.table.rows.column_names:
        before = grows.table.column(ADDED)
    new = np.full(len(kept), before.max(initial=0) + 1)
    table = table.with_column(ADDED, pa.array(np.concatenate([before, new])))
    if DUPLICATE_OF in source.rows.column_names:
        return repaired(table)
    if DUPLICATE_OF in grows.table.rows.column_names:
        new = np.full(len(kept), "")  # of those that weren't looked at nothing is known
        if DUPLICATE_OF in kept.rows.column_names:
            new = kept.column(DUPLICATE_OF)
        same = [*grows.table.column(DUPLICATE_OF), *new]
        table = table.with_column(DUPLICATE_OF, pa.array(same, pa.string()))
    return table


def _full(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity, of this version or an earlier one, with what it didn't say then."""
    return {"stored_as": FLOAT32, **identity}


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


def _write_skipped(
    path: Path, unread: Sequence[tuple[CropTable, Mapping[str, str]]]
) -> None:
    rows = [
        [crop, image, reasons.get(image, "unreadable")]
        for table, reasons in unread
        for crop, image in zip(table.ids, table.column("image"), strict=True)
    ]
    write_csv(path, [["crop_id", "image", "reason"], *rows])


def read_skipped(folder: str | Path) -> dict[str, str]:
    """Image -> why it couldn't be read, of a finished set."""
    with open(Path(folder) / SKIPPED, newline="", encoding="utf-8") as file:
        return {row["image"]: row["reason"] for row in csv.DictReader(file)}


def _meta_of(folder: Path) -> dict[str, Any]:
    """meta.json in the words of today; {} where there is none."""
    if not (folder / META).is_file():
        return {}
    meta = json.loads((folder / META).read_text())
    if meta.get("view", {}).get("fill") == "grey":  # the word of version 0.5.0
        meta["view"]["fill"] = "gray"
    return {**OF_NO_RECIPE, **_full(meta)}


def reusable(folder: str | Path, table: CropTable, identity: Mapping[str, Any]) -> bool:
    """Whether a finished set of these crops by this encoder lies in the folder already.

    Anything else that lies there is never overwritten: it is moved aside, to
    `<folder>.old-N`.
    """
    folder = Path(folder)
    if not folder.exists():
        return False
    meta = _meta_of(folder)
    wanted = {**identity, "source_table_hash": table.content_hash}
    if all(meta.get(key) == value for key, value in wanted.items()):
        return True
    moved = back_up(folder)
    _log.warning("%s held another embedding set, which is %s now", folder, moved)
    return False


def grown(
    folder: str | Path, table: CropTable, identity: Mapping[str, Any]
) -> tuple[EmbeddingSet, CropTable] | None:
    """Whether a set by this encoder lies in the folder that has some of these crops and
    no others.

    Returns:
        The set, and the crops that it lacks; None where it is none such, or lacks none.
    """
    meta = _meta_of(Path(folder))
    if not meta or any(meta.get(key) != value for key, value in identity.items()):
        return None
    if meta.get("source_table_hash") == table.content_hash:
        return None  # what it lacks couldn't be read
    there = EmbeddingSet.load(folder, images_root=table.root)
    new = ~np.isin(table.ids, there.table.ids)
    if len(table) - int(new.sum()) < len(there.table) or not new.any():
        return None
    return there, table.take(new)
