"""A cascade of prefixes along principal directions: finds the rows that can be among
the k best, without reading the others whole.

Rotate unit vectors u and a direction q into principal directions, which changes no
inner product, and split both after the first d coordinates. By Cauchy-Schwarz

    | u . q - u[:d] . q[:d] |  <=  |u[d:]| |q[d:]|,

where the first factor is stored, one number a row. Real embeddings have most of their
length in few directions, so a short prefix bounds the score tightly. With t the k-th
best exact score among a few promising rows, every row whose upper bound is below t is
out, for certain; those left are looked at in the next, longer prefix.

Of unit vectors of few dimensions, as projecting transforms give them, the whole is one
level: reading all of it takes less than sorting out.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from artifacts.files import exclusive, write_json
from probe.transforms import Transform, sample_rows

T = TypeVar("T")
R = TypeVar("R")
PREFIXES = (32, 96, 256, 512)
FACTS, ROTATION = "cascade.json", "rotation.npy"
BEGUN, DONE = "begun.json", "done.json"  # of a build: what it is of, and how far
_BLOCK = 16384
_SAVED_EVERY = 8  # blocks
_GATHER = 4096  # rows that are picked at a time, so that they stay in the cache
_TOGETHER = 128  # directions that share one pass
# share of rows from which reading all of a level in order is faster than picking rows
_DENSE = 0.2
_PROMISING = 4  # times k rows are scored exactly to find t
_SAMPLE = 20_000
_WHOLE = 256  # dimensions up to which everything is one level
# What float32 arithmetic can be off by, for unit vectors and a direction of length 1.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Cascade:
    """Levels of prefixes of N unit vectors.

    Attributes:
        rotation: [d, W] float32, principal directions, by falling second moment.
        levels: one [N, w] float32 a level, of adjacent coordinates.
        rest: [N] float32 a level: length of each vector beyond the level's last
            coordinate.
    """

    rotation: np.ndarray
    levels: tuple[np.ndarray, ...]
    rest: tuple[np.ndarray, ...]

    @classmethod
    def build(
        cls,
        vectors: np.ndarray,
        transform: Transform,
        *,
        prefixes: tuple[int, ...] = PREFIXES,
        seed: int = 0,
        folder: str | Path | None = None,
        content_hash: str = "",
        progress=iter,
    ) -> Cascade:
        """Rotates once.

        Args:
            vectors: [N, D] float, may be memory-mapped; read in blocks.
            transform: what makes unit vectors of them.
            prefixes: coordinates up to the end of each level, rising; those beyond the
                dimension are left out.
            seed: of the rows that the directions are fitted on.
            folder: to store the levels in, memory-mapped while they are written; None
                keeps them in memory. What lay there is replaced; a build that was
                killed goes on where it was.
            content_hash: of the vectors, stored beside the levels.
            progress: wraps an iterable of blocks, to show a bar.

        Raises:
            RuntimeError: another process is building it.
            OSError: the disk is full.
        """
        dim = transform.dim(vectors.shape[1])
        ends = [end for end in prefixes if end < dim]
        if dim <= _WHOLE or not ends:
            ends, rotation = [dim], np.eye(dim, dtype=np.float32)
        else:
            sample = transform(vectors[sample_rows(len(vectors), _SAMPLE, seed)])
            _, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))
            rotation = directions[:, ::-1][:, : ends[-1]].astype(np.float32, order="C")
        widths = np.diff([0, *ends]).tolist()
        shapes: dict[str, tuple[int, ...]] = {
            f"level{i}": (len(vectors), width) for i, width in enumerate(widths)
        }
        shapes |= {f"rest{i}": (len(vectors),) for i in range(len(ends))}

        if folder is None:
            arrays = {name: np.empty(of, np.float32) for name, of in shapes.items()}
            built = cls._of(rotation, arrays)
            for first in progress(range(0, len(vectors), _BLOCK)):
                built._fill(vectors, transform, first)
            return built
        folder = Path(folder)
        facts = {
            "levels": len(ends),
            "rows": len(vectors),
            "content_hash": content_hash,
        }
        with exclusive(folder.parent, "index", f".{folder.name}.lock", folder):
            partial = folder.with_name(f"{folder.name}.partial")
            arrays, done = _begun(partial, facts, shapes, rotation)
            built = cls._of(np.load(partial / ROTATION), arrays)
            for first in progress(range(done, len(vectors), _BLOCK)):
                built._fill(vectors, transform, first)
                if (first // _BLOCK + 1) % _SAVED_EVERY == 0:
                    _flush(arrays)
                    write_json(partial / DONE, {"rows": first + _BLOCK})
            _flush(arrays)
            write_json(partial / FACTS, facts)
            (partial / DONE).unlink(missing_ok=True)
            if folder.exists():
                shutil.rmtree(folder)
            os.rename(partial, folder)
        return cls.load(folder, content_hash)

    @classmethod
    def _of(cls, rotation: np.ndarray, arrays: Mapping[str, np.ndarray]) -> Cascade:
        levels, rest = (
            tuple(arrays[f"{name}{i}"] for i in range(len(arrays) // 2))
            for name in ("level", "rest")
        )
        return cls(rotation, levels, rest)

    def _fill(self, vectors: np.ndarray, transform: Transform, first: int) -> None:
        """Stores a block of rows."""
        rows = slice(first, first + _BLOCK)
        _fill(self.levels, self.rest, rows, transform(vectors[rows]), self.rotation)

    @classmethod
    def load(cls, folder: str | Path, content_hash: str = "") -> Cascade:
        """Opens a stored cascade, memory-mapped; refuses one of other vectors."""
        folder = Path(folder)
        facts = json.loads((folder / FACTS).read_text())
        if facts["content_hash"] != content_hash:
            raise ValueError(
                f"cascade {str(folder)!r} must be of the vectors with hash "
                f"{content_hash!r}; it is of others"
            )
        count = facts["levels"]
        opened = [
            [
                np.load(folder / f"{name}{i}.npy", mmap_mode="r", allow_pickle=False)
                for i in range(count)
            ]
            for name in ("level", "rest")
        ]
        return cls(
            np.load(folder / ROTATION, allow_pickle=False),
            tuple(opened[0]),
            tuple(opened[1]),
        )

    @property
    def is_whole(self) -> bool:
        """Whether its one level is the unit vectors themselves."""
        return len(self.levels) == 1 and self.levels[0].shape[1] == len(self.rotation)

    def scores(self, directions: np.ndarray) -> np.ndarray:
        """Inner products of all unit vectors, where they are all here; [Q, N]
        float32.
        """
        return self._prefix_scores(np.asarray(directions, np.float32), 1)

    def candidates(
        self,
        directions: np.ndarray,
        k: int,
        unit: Callable[[np.ndarray], np.ndarray],
        excluded: np.ndarray,
    ) -> Iterator[np.ndarray]:
        """Rows that can be among the k best; all that aren't returned are certainly
        not.

        Args:
            directions: [Q, d] float, in the space of the unit vectors.
            k: how many are looked for; at most the rows that aren't excluded.
            unit: function rows [n] -> unit vectors [n, d] of them, float32.
            excluded: [n] int, rows to leave out.

        Yields:
            For each direction, rows [at least k] int, in order.
        """
        directions = np.asarray(directions, np.float64)
        rotated = (directions @ self.rotation).astype(np.float32)
        # Many directions share one pass, which is then worth more coordinates: a matrix
        # product is cheaper than picking rows.
        first = 1 if len(directions) < 4 else min(3, len(self.levels))
        ends = np.cumsum([level.shape[1] for level in self.levels])
        for start in range(0, len(directions), _TOGETHER):
            group = slice(start, start + _TOGETHER)
            scores = self._prefix_scores(rotated[group], first)
            jobs = zip(directions[group], rotated[group], scores, strict=True)
            yield from concurrently(
                lambda job: self._narrow(
                    *job, first=first, ends=ends, k=k, unit=unit, excluded=excluded
                ),
                jobs,
            )

    def _prefix_scores(self, group: np.ndarray, first: int) -> np.ndarray:
        """Scores by the first levels alone, [Q, N]."""
        if len(group) == 1 and first == 1:
            return (self.levels[0] @ group[0, : self.levels[0].shape[1]])[None]
        scores = np.empty((len(group), len(self.levels[0])), np.float32)
        for start in range(0, len(self.levels[0]), _BLOCK):
            rows = slice(start, start + _BLOCK)
            prefix = np.concatenate(
                [level[rows] for level in self.levels[:first]], axis=1
            )
            scores[:, rows] = group[:, : prefix.shape[1]] @ prefix.T
        return scores

    def _narrow(
        self, direction, query, scores, *, first, ends, k, unit, excluded
    ) -> np.ndarray:
        length = float(np.linalg.norm(direction))
        if self.is_whole:  # these are the scores, to rounding
            scores[excluded] = -np.inf
            worst = np.partition(scores, len(scores) - k)[len(scores) - k]
            return np.flatnonzero(scores >= worst - ROUNDING * length)
        # Length of the direction beyond each prefix, rounded up as the rows' are.
        beyond = np.sqrt(
            np.maximum(length**2 - np.cumsum(query.astype(np.float64) ** 2), 0)
            + 1e-6 * length**2
        ).astype(np.float32)
        scores[excluded] = -np.inf
        most = min(len(scores) - len(excluded), _PROMISING * k)
        promising = np.argpartition(scores, len(scores) - most)[len(scores) - most :]
        single = direction.astype(np.float32)
        blocks = (promising[begin : begin + _BLOCK] for begin in range(0, most, _BLOCK))
        known = np.concatenate(
            [np.einsum("ij,j->i", unit(rows), single) for rows in blocks]
        )
        worst = np.float32(np.partition(known, most - k)[most - k] - ROUNDING * length)
        rows = np.flatnonzero(
            scores >= worst - self.rest[first - 1] * beyond[ends[first - 1] - 1]
        )
        scores = scores[rows]
        for level, rest, end in zip(
            self.levels[first:], self.rest[first:], ends[first:], strict=True
        ):
            if len(rows) <= most:
                break
            scores = scores + _products(level, rows, query[end - level.shape[1] : end])
            kept = np.flatnonzero(scores >= worst - rest[rows] * beyond[end - 1])
            rows, scores = rows[kept], scores[kept]
        return rows


def _begun(
    partial: Path,
    facts: Mapping[str, object],
    shapes: Mapping[str, tuple[int, ...]],
    rotation: np.ndarray,
) -> tuple[dict[str, np.ndarray], int]:
    """The arrays of a build, and how many rows of them are filled already."""
    try:
        begun = json.loads((partial / BEGUN).read_text())
    except (OSError, ValueError):
        begun = None
    if begun != json.loads(json.dumps(facts)):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, shape in shapes.items():
            _reserve(partial / f"{name}.npy", shape)
        np.save(partial / ROTATION, rotation)
        write_json(partial / BEGUN, facts)
    arrays = {
        name: np.load(partial / f"{name}.npy", mmap_mode="r+", allow_pickle=False)
        for name in shapes
    }
    try:
        return arrays, int(json.loads((partial / DONE).read_text())["rows"])
    except (OSError, ValueError, KeyError):
        return arrays, 0


def _reserve(path: Path, shape: tuple[int, ...]) -> None:
    """An array's file, with its room on the disk: were it found to be full while the
    memory map is written, the process would end without a word.
    """
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        size = file.tell() + 4 * int(np.prod(shape))
        file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _flush(arrays: Mapping[str, np.ndarray]) -> None:
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]


def _fill(levels, rest, rows: slice, unit: np.ndarray, rotation: np.ndarray) -> None:
    """Stores some rows: their coordinates by level, and their length beyond each."""
    rotated = unit @ rotation
    left = np.einsum("ij,ij->i", unit, unit)
    start = 0
    for level, length in zip(levels, rest, strict=True):
        level[rows] = rotated[:, start : start + level.shape[1]]
        start += level.shape[1]
        left = left - np.einsum("ij,ij->i", level[rows], level[rows])
        # Rounding moves the square by 1e-6 at most; a bound may only be too large.
        length[rows] = np.sqrt(np.maximum(left, 0) + 1e-6)


def concurrently(function: Callable[[T], R], jobs: Iterable[T]) -> list[R]:
    """The function of each job, in order, by as many threads as there are cores; NumPy
    computes without the interpreter's lock.
    """
    jobs = list(jobs)
    if len(jobs) == 1:
        return [function(jobs[0])]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, jobs))


def _products(level: np.ndarray, rows: np.ndarray, part: np.ndarray) -> np.ndarray:
    """level[rows] @ part, reading only the rows where they are few."""
    if len(rows) > _DENSE * len(level):
        return (level @ part)[rows]
    result = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _GATHER):
        # Not a BLAS call: those would wait for each other where several directions are
        # narrowed at a time.
        np.einsum(
            "ij,j->i",
            level.take(rows[start : start + _GATHER], axis=0),
            part,
            out=result[start : start + _GATHER],
        )
    return result
