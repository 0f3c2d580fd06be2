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
from functools import cached_property
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
_MANY = 4  # directions, from which on they share passes
_TOGETHER = 128  # directions that share one pass
_LEVELS_TOGETHER = 3  # that it is over
_CACHED = 4096  # rows of a block of such a pass
_SAMPLED = 8  # one row in so many gives a first guess of the k-th best
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
        few = transform.projection is not None and dim <= _WHOLE
        if few or not ends:
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
        return self._first_scores(np.asarray(directions, np.float32))

    def candidates(
        self,
        directions: np.ndarray,
        k: int,
        score: Callable[[np.ndarray, np.ndarray], np.ndarray],
        excluded: np.ndarray,
    ) -> Iterator[np.ndarray]:
        """Rows that can be among the k best; all that aren't returned are certainly
        not.

        Args:
            directions: [Q, d] float, in the space of the unit vectors.
            k: how many are looked for; at most the rows that aren't excluded.
            score: function of rows [n] and a direction [d] -> the inner products of
                their unit vectors with it, [n] float32.
            excluded: [n] int, rows to leave out.

        Yields:
            For each direction, rows [at least k] int, in order.
        """
        asked = _asked(np.asarray(directions, np.float64), self.rotation)
        search = _Search(k, score, excluded)
        if len(asked) < _MANY:
            yield from concurrently(lambda one: self._alone(one, search), asked)
            return
        for start in range(0, len(asked), _TOGETHER):
            yield from self._together(asked[start : start + _TOGETHER], search)

    @cached_property
    def _ends(self) -> list[int]:
        """Where each level ends, in coordinates."""
        return np.cumsum([level.shape[1] for level in self.levels]).tolist()

    @cached_property
    def _longest(self) -> list[np.float32]:
        """The largest of each level's lengths, by which most rows are out at once."""
        return [rest.max(initial=0) for rest in self.rest]

    def _first_scores(self, group: np.ndarray) -> np.ndarray:
        """Scores by the first level alone, [Q, N]."""
        level = self.levels[0]
        group = group[:, : level.shape[1]]
        if len(group) == 1:
            return (level @ group[0])[None]
        scores = np.empty((len(group), len(level)), np.float32)
        for start in range(0, len(level), _BLOCK):
            rows = slice(start, start + _BLOCK)
            scores[:, rows] = group @ level[rows].T
        return scores

    def _alone(self, one: _Asked, search: _Search) -> np.ndarray:
        """Rows for one direction: the first level says of most that they are out."""
        (scores,) = self._first_scores(one.rotated[None])
        scores[search.excluded] = -np.inf
        if self.is_whole:  # these are the scores, to rounding
            worst = np.partition(scores, len(scores) - search.k)[len(scores) - search.k]
            return np.flatnonzero(scores >= worst - one.slack)
        most = min(len(scores) - len(search.excluded), search.most)
        # A value, and the rows above it: half the time of finding the rows themselves.
        good = np.partition(scores, len(scores) - most)[len(scores) - most]
        worst = search.worst(one, np.flatnonzero(scores >= good)[:most])
        left = one.beyond[self._ends[0] - 1]
        rows = np.flatnonzero(scores >= worst - self._longest[0] * left)
        return self._sift(one, search, rows, scores[rows], known=1, worst=worst)

    def _together(self, asked: list[_Asked], search: _Search) -> list[np.ndarray]:
        """Rows for many directions. They share a pass over several levels, since a
        matrix product is cheaper than picking rows. Its last column is the length
        beyond, so that what comes out are upper bounds; a block of them is compared
        while it is in the processor's cache.
        """
        count = len(self)
        first = min(_LEVELS_TOGETHER, len(self.levels))
        end = self._ends[first - 1]
        weights = np.stack(
            [np.r_[q.rotated[:end], q.beyond[end - 1]] for q in asked], axis=1
        )
        out = np.zeros(count, bool)
        out[search.excluded] = True
        step = max(1, min(_SAMPLED, count // max(_BLOCK, 8 * search.most)))
        some = slice(None, None, step)
        bounds = self._prefix(some, first) @ weights
        bounds[out[some]] = -np.inf
        guess = np.ascontiguousarray(bounds.T)
        most = min(len(bounds) - int(out[some].sum()), search.few)
        best = step * np.argpartition(guess, -most, axis=1)[:, len(bounds) - most :]
        worst = [search.worst(*pair) for pair in zip(asked, best, strict=True)]
        least = np.array(worst, np.float32)
        block = np.empty((_CACHED, len(weights)), np.float32)
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for start in range(0, count, _CACHED):
            rows = slice(start, start + _CACHED)
            bounds = self._prefix(rows, first, block) @ weights
            bounds[out[rows]] = -np.inf
            above = np.flatnonzero(bounds >= least)
            which, who = np.divmod(above, len(asked))
            found.append((who, which + start, bounds.ravel()[above]))
        who, which, upper = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(who, kind="stable")
        places = np.searchsorted(who[order], np.arange(len(asked) + 1))

        def sift(number: int) -> np.ndarray:
            own = order[places[number] : places[number + 1]]
            one, rows, bound = asked[number], which[own], upper[own]
            if len(rows) > search.few:  # those of the sample were a first guess
                good = np.argpartition(bound, len(rows) - search.few)[-search.few :]
                better = max(worst[number], search.worst(one, rows[good]))
                kept = np.flatnonzero(bound >= better)
                rows, bound = rows[kept], bound[kept]
            else:
                better = worst[number]
            scores = bound - self.rest[first - 1][rows] * one.beyond[end - 1]
            return self._sift(one, search, rows, scores, known=first, worst=better)

        # One after another: so short, they would wait for the interpreter's lock.
        return [sift(number) for number in range(len(asked))]

    def _prefix(
        self, rows: slice | np.ndarray, count: int, into: np.ndarray | None = None
    ) -> np.ndarray:
        """The first levels of some rows, and their length beyond, [n, w + 1]."""
        rest = self.rest[count - 1][rows]
        end = self._ends[count - 1]
        found = np.empty((len(rest), end + 1), np.float32) if into is None else into
        found = found[: len(rest)]
        for level, last in zip(self.levels[:count], self._ends, strict=False):
            found[:, last - level.shape[1] : last] = level[rows]
        found[:, end] = rest
        return found

    def _sift(
        self,
        one: _Asked,
        search: _Search,
        rows: np.ndarray,
        scores: np.ndarray,
        *,
        known: int,
        worst: float,
    ) -> np.ndarray:
        """Sorts out by level after level.

        Args:
            one, search: what is searched.
            rows, scores: that are left, with their scores by the first `known` levels.
            known: how many levels these are.
            worst: the k-th best score that there is at least.
        """
        for number in range(known - 1, len(self.levels)):
            level, end = self.levels[number], self._ends[number]
            if number >= known:
                if len(rows) <= search.most:
                    break
                part = one.rotated[end - level.shape[1] : end]
                scores = scores + _products(level, rows, part)
            bound = self.rest[number][rows] * one.beyond[end - 1]
            kept = np.flatnonzero(scores >= worst - bound)
            rows, scores = rows[kept], scores[kept]
        return rows

    def __len__(self) -> int:
        return len(self.levels[0])


@dataclass(frozen=True)
class _Search:
    """What is looked for in all directions; see `Cascade.candidates`."""

    k: int
    score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    excluded: np.ndarray

    @property
    def most(self) -> int:
        """How many promising rows are scored exactly."""
        return _PROMISING * self.k

    @property
    def few(self) -> int:
        """The same, where their bounds are close already."""
        return self.k + self.k // 4

    def worst(self, one: _Asked, rows: np.ndarray) -> float:
        """What the k-th best score is at least, by the scores of some rows."""
        if len(rows) < self.k:
            return -np.inf
        known = self.score(rows, one.direction)
        worst = np.partition(known, len(rows) - self.k)[len(rows) - self.k]
        return float(np.float32(worst - one.slack))


@dataclass(frozen=True)
class _Asked:
    """A direction that is searched along.

    Attributes:
        direction: [d] float64.
        rotated: [W] float32, in the cascade's coordinates.
        beyond: [W] float32, its length beyond each coordinate, rounded up as the rows'
            are.
        slack: what a float32 score can be off by.
    """

    direction: np.ndarray
    rotated: np.ndarray
    beyond: np.ndarray
    slack: float


def _asked(directions: np.ndarray, rotation: np.ndarray) -> list[_Asked]:
    """Directions [Q, d] of a cascade."""
    rotated = (directions @ rotation).astype(np.float32)
    squares = np.einsum("ij,ij->i", directions, directions)[:, None]
    seen = np.cumsum(rotated.astype(np.float64) ** 2, axis=1)
    beyond = np.sqrt(np.maximum(squares - seen, 0) + 1e-6 * squares)
    slack = ROUNDING * np.sqrt(squares[:, 0])
    each = zip(directions, rotated, beyond.astype(np.float32), slack, strict=True)
    return [_Asked(*one) for one in each]


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
