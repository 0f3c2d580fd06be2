"""Exact cosine search in NumPy: blocks of rows, so that memory-mapped embeddings larger
than memory work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from probe.cascade import ROUNDING, Cascade, concurrently
from probe.transforms import Transform

_BLOCK = 16384
_FEW = 0.05  # share of rows that a filter leaves, below which only those are read
_DIGITS = 10  # scores that agree to this many digits are ties, and ties go by id


@dataclass(frozen=True)
class Hits:
    """The best rows for one query.

    Attributes:
        rows: [k] int, best first.
        scores: [k] float64; cosines where the query is a unit vector.
    """

    rows: np.ndarray
    scores: np.ndarray


class CosineIndex:
    """Exact top-k by cosine (or any inner product with the unit vectors).

    Args:
        vectors: [N, D] float, finite; not normalised; may be memory-mapped.
        ids: [N] str, unique; ties are broken by them.
        transform: what makes unit vectors [N, d] of them; default L2. Nothing is
            copied: for every transform the score is the inner product of the raw vector
            with one direction, up to two numbers a row, which are kept.
        cascade: makes searches several times faster, with the same results.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        ids: Sequence[str] | np.ndarray,
        transform: Transform | None = None,
        cascade: Cascade | None = None,
    ):
        if vectors.ndim != 2 or len(vectors) != len(ids):
            raise ValueError(
                f"vectors must be [N, D] with one id a row; got shape {vectors.shape} "
                f"and {len(ids)} ids"
            )
        if cascade is not None and len(cascade.levels[0]) != len(vectors):
            raise ValueError(
                f"cascade must be of the same {len(vectors)} rows; it has "
                f"{len(cascade.levels[0])}"
            )
        self.vectors = vectors
        self.ids = np.asarray(ids)
        self.transform = transform or Transform()
        self.cascade = cascade
        self._place_of_id = np.empty(len(ids), np.int64)
        self._place_of_id[np.argsort(self.ids, kind="stable")] = np.arange(len(ids))
        self._scales: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def width(self) -> int:
        """d, of the unit vectors and of directions."""
        return self.transform.width(self.vectors.shape[1])

    def unit(
        self, rows: Sequence[int] | np.ndarray, dtype: type = np.float32
    ) -> np.ndarray:
        """Unit vectors of some rows, [n, d]."""
        return self.transform(
            np.asarray(self.vectors[np.asarray(rows, np.int64)]), dtype
        )

    def rows_of(self, ids: Collection[str], argument: str) -> np.ndarray:
        """Rows of the given ids.

        Raises:
            ValueError: lists the ids that aren't in the set.
        """
        places = {crop_id: row for row, crop_id in enumerate(self.ids)}
        unknown = [crop_id for crop_id in ids if crop_id not in places]
        if unknown:
            shown = ", ".join(map(repr, unknown[:5])) + (
                f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            )
            raise ValueError(
                f"{argument} must name crops of this embedding set; unknown: {shown}"
            )
        return np.array([places[crop_id] for crop_id in ids], np.int64)

    def scores(self, directions: np.ndarray) -> np.ndarray:
        """Inner products of directions with all unit vectors.

        unit((unit(x) - m) P) . q = scale (x . P q) - shift (m . P q), with shift = 1 /
        |(unit(x) - m) P| and scale = shift / |x|. Both are computed in the first pass.

        Args:
            directions: [Q, d] float; unit vectors for cosines, or a probe's
                coefficients.

        Returns:
            [Q, N] float32.
        """
        directions = self._checked(directions)
        mean, projection = self.transform.mean, self.transform.projection
        raw = (
            directions
            if projection is None
            else directions @ projection.T.astype(np.float64)
        )
        constant = (
            np.zeros(len(raw), np.float32)
            if mean is None
            else (raw @ mean).astype(np.float32)
        )
        raw = raw.astype(np.float32)
        result = np.empty((len(raw), len(self)), np.float32)
        known = (
            self._scales
        )  # looked up once: another thread may be in its first pass too
        scale, shift = known or (
            np.empty(len(self), np.float32),
            np.empty(len(self), np.float32),
        )
        for start in range(0, len(self), _BLOCK):
            rows = slice(start, start + _BLOCK)
            block = np.asarray(self.vectors[rows], np.float32)
            if known is None:
                scale[rows], shift[rows] = self._scales_of(block)
            products = (block @ raw[0])[None] if len(raw) == 1 else raw @ block.T
            result[:, rows] = products * scale[rows] - constant[:, None] * shift[rows]
        self._scales = (scale, shift)
        return result

    def _scales_of(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        norms = np.linalg.norm(block, axis=1)
        if not np.isfinite(norms).all():
            raise ValueError("vectors must be finite; got NaN or infinity")
        inverse = np.where(norms > 0, 1 / np.where(norms > 0, norms, 1), 0).astype(
            np.float32
        )
        if self.transform.mean is None:
            return inverse, np.ones(len(block), np.float32)
        centred = block * inverse[:, None] - self.transform.mean
        lengths = np.linalg.norm(
            centred
            if self.transform.projection is None
            else centred @ self.transform.projection,
            axis=1,
        )
        shift = np.where(lengths > 0, 1 / np.where(lengths > 0, lengths, 1), 0).astype(
            np.float32
        )
        return inverse * shift, shift

    def search(
        self,
        directions: np.ndarray,
        k: int,
        exclude: Collection[int] = (),
        among: np.ndarray | None = None,
        ascending: bool = False,
    ) -> list[Hits]:
        """The k rows with the largest inner product, for each direction.

        Args:
            directions: [Q, d] or [d] float.
            k: from 1 to the number of rows that are left.
            exclude: rows to leave out, such as the query itself.
            among: [N] bool, rows to search, such as those that meet a condition;
                default all.
            ascending: the k smallest instead, smallest first.

        Returns:
            One `Hits` a direction. Equal scores are ordered by id, and nothing depends
            on block size, row order or cascade.
        """
        directions = self._checked(directions)
        allowed = self._allowed(k, exclude, among)
        # Searched along unit vectors, so that what counts as equal doesn't depend on a
        # direction's length.
        lengths = np.linalg.norm(directions, axis=1) * (-1.0 if ascending else 1.0)
        along = directions / np.where(lengths != 0, lengths, 1.0)[:, None]
        candidates = self._candidates(along, k, allowed)
        found = concurrently(
            lambda job: self._best(*job, k), zip(candidates, along, strict=True)
        )
        return [
            Hits(hits.rows, length * hits.scores)
            for hits, length in zip(found, lengths, strict=True)
        ]

    def rank(self, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All rows by falling score, ties by id; (rows [N] int, their scores [N]
        float32).
        """
        scores = self.scores(direction)[0]
        order = np.lexsort((self._place_of_id, -scores.round(6)))
        return order, scores[order]

    def _checked(self, directions: np.ndarray) -> np.ndarray:
        directions = np.atleast_2d(np.asarray(directions, np.float64))
        if directions.shape[1] != self.width:
            raise ValueError(
                f"directions must have {self.width} dimensions; got "
                f"{directions.shape[1]}"
            )
        return directions

    def _allowed(
        self,
        k: int,
        exclude: Collection[int],
        among: np.ndarray | None,
        most: int | None = None,
    ) -> np.ndarray:
        """Rows to search, [N] bool; refuses a k that they can't give."""
        allowed = np.ones(len(self), bool) if among is None else np.array(among, bool)
        if len(allowed) != len(self):
            raise ValueError(
                f"among must have one entry a row, {len(self)}; got {len(allowed)}"
            )
        allowed[np.fromiter(exclude, np.int64)] = False
        largest = min(int(allowed.sum()), most or len(self))
        if not 1 <= k <= largest:
            raise ValueError(f"k must be in [1, {largest}]; got {k}")
        return allowed

    def _candidates(
        self, directions: np.ndarray, k: int, allowed: np.ndarray
    ) -> Iterable[np.ndarray]:
        """Rows for each direction that hold its k best."""
        if allowed.sum() <= max(k, _FEW * len(self)):
            few = np.flatnonzero(allowed)
            return [few] * len(directions)
        if self.cascade is not None:
            return self.cascade.candidates(
                directions, k, self.unit, np.flatnonzero(~allowed)
            )
        scores = self.scores(directions)
        scores[:, ~allowed] = -np.inf
        return [
            np.flatnonzero(
                row
                >= np.partition(row, len(row) - k)[len(row) - k]
                - self._slack(direction)
            )
            for row, direction in zip(scores, directions, strict=True)
        ]

    def _slack(self, direction: np.ndarray) -> float:
        """What a float32 score can be off by: a row is rounded differently depending on
        its neighbours in a block.

        Rows this close to the k-th score are scored again in float64, one by one, so
        that no such rounding moves a result.
        """
        projection = self.transform.projection
        length = np.linalg.norm(
            direction if projection is None else projection @ direction
        )
        return (
            ROUNDING
            * max(1.0, float(length))
            * (1.0 if self._scales is None else float(self._scales[1].max()))
        )

    def _best(self, rows: np.ndarray, direction: np.ndarray, k: int) -> Hits:
        if len(rows) > k:  # float32 settles most of them
            single = direction.astype(np.float32)
            blocks = range(0, len(rows), _BLOCK)
            rough = np.concatenate(
                [
                    np.einsum("ij,j->i", self.unit(rows[i : i + _BLOCK]), single)
                    for i in blocks
                ]
            )
            rows = rows[
                rough
                >= np.partition(rough, len(rough) - k)[len(rough) - k]
                - self._slack(direction)
            ]
        exact = np.concatenate(
            [
                _exact_scores(self.unit(rows[i : i + _BLOCK], np.float64), direction)
                for i in range(0, len(rows), _BLOCK)
            ]
        )
        order = np.lexsort((self._place_of_id[rows], -exact.round(_DIGITS)))[:k]
        return Hits(rows[order], exact[order])


def _exact_scores(unit: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Inner products in float64, each row summed in the same order; [n] float64."""
    return (unit * direction).sum(axis=1)


def rank_all(unit: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Ranks all other rows for each query row; ties by row number.

    Args:
        unit: [N, D] float32 unit vectors.
        queries: [Q] int, rows.

    Returns:
        [Q, N - 1] int, rows by falling cosine, the query left out.
    """
    scores = unit[queries] @ unit.T
    scores[np.arange(len(queries)), queries] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :-1]
