"""Exact cosine search in NumPy: blocks of rows, so that memory-mapped embeddings larger than memory work."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from probe.transforms import l2_normalize

_BLOCK = 16384
# A float32 matrix product rounds differently for a row depending on its neighbours, by about 1e-7. Rows this close to
# the k-th score are scored again in float64, one by one, so that neither block size nor row order moves a result.
_SLACK = 1e-5
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
        vectors: [N, D] float, finite; not normalised; may be memory-mapped, and is read once for each search.
        ids: [N] str, unique; ties are broken by them.
    """

    def __init__(self, vectors: np.ndarray, ids: Sequence[str] | np.ndarray):
        if vectors.ndim != 2 or len(vectors) != len(ids):
            raise ValueError(f"vectors must be [N, D] with one id a row; got shape {vectors.shape} and {len(ids)} ids")
        self.vectors = vectors
        self.ids = np.asarray(ids)
        self._place_of_id = np.empty(len(ids), np.int64)
        self._place_of_id[np.argsort(self.ids, kind="stable")] = np.arange(len(ids))

    def __len__(self) -> int:
        return len(self.vectors)

    def rows_of(self, ids: Collection[str], argument: str) -> np.ndarray:
        """Rows of the given ids.

        Raises:
            ValueError: lists the ids that aren't in the set.
        """
        places = {crop_id: row for row, crop_id in enumerate(self.ids)}
        unknown = [crop_id for crop_id in ids if crop_id not in places]
        if unknown:
            shown = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
            raise ValueError(f"{argument} must name crops of this embedding set; unknown: {shown}")
        return np.array([places[crop_id] for crop_id in ids], np.int64)

    def scores(self, directions: np.ndarray) -> np.ndarray:
        """Inner products of directions with all unit vectors.

        Args:
            directions: [Q, D] float; unit vectors for cosines, or a probe's coefficients.

        Returns:
            [Q, N] float32.
        """
        directions = np.atleast_2d(np.asarray(directions, np.float32))
        if directions.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"directions must have {self.vectors.shape[1]} dimensions; got {directions.shape[1]}")
        result = np.empty((len(directions), len(self)), np.float32)
        for start in range(0, len(self), _BLOCK):
            result[:, start : start + _BLOCK] = directions @ l2_normalize(self.vectors[start : start + _BLOCK]).T
        return result

    def search(self, directions: np.ndarray, k: int, exclude: Collection[int] = ()) -> list[Hits]:
        """The k rows with the largest inner product, for each direction.

        Args:
            directions: [Q, D] or [D] float.
            k: from 1 to the number of rows that aren't excluded.
            exclude: rows to leave out, such as the query itself.

        Returns:
            One `Hits` a direction. Equal scores are ordered by id, and nothing depends on block size or row order.
        """
        excluded = np.unique(np.fromiter(exclude, np.int64))
        available = len(self) - len(excluded)
        if not 1 <= k <= available:
            raise ValueError(f"k must be in [1, {available}]; got {k}")
        directions = np.atleast_2d(np.asarray(directions))
        scores = self.scores(directions)
        scores[:, excluded] = -np.inf
        return [self._best(direction, row, k, excluded) for direction, row in zip(directions, scores, strict=True)]

    def _best(self, direction: np.ndarray, scores: np.ndarray, k: int, excluded: np.ndarray) -> Hits:
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        slack = _SLACK * max(1.0, float(np.linalg.norm(direction)))
        candidates = np.flatnonzero(scores >= threshold - slack)
        candidates = np.setdiff1d(candidates, excluded, assume_unique=True)
        exact = _exact_scores(self.vectors[candidates], direction)
        order = np.lexsort((self._place_of_id[candidates], -exact.round(_DIGITS)))[:k]
        return Hits(candidates[order], exact[order])


def _exact_scores(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Inner products of unit rows with a direction in float64, each row summed in the same order; [n] float64."""
    vectors = vectors.astype(np.float64)
    products = (vectors * direction.astype(np.float64)).sum(axis=1)
    norms = np.sqrt((vectors * vectors).sum(axis=1))
    return products / np.where(norms > 0, norms, 1.0)


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
