"""Exact cosine search in NumPy: blocks of rows, so that memory-mapped embeddings larger
than memory work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from artifacts.progress import Progress, no_progress
from probe.cascade import ROUNDING, Cascade, concurrently
from probe.methods import LinearRanker
from probe.ranking import FullRanking, Ranking, order_of
from probe.transforms import Transform, mean_direction

_BLOCK = 16384
# Rows that are scored in float64 at a time, so that they stay cached.
_EXACT_BLOCK = 256
_FEW = 0.05  # share of rows that a mask leaves, below which only those are read
_NORMALIZED = 1e-6  # what a float32 score can be off by, for thresholds


class CosineIndex:
    """Exact top-k by cosine (or any inner product with the unit vectors).

    Example:
        >>> index = CosineIndex(embeddings)
        >>> index.search(embeddings.vectors[17], 50).rows

    Args:
        embeddings: an embedding set (anything with `vectors` and `ids`), or its vectors
            alone: [N, D] float, finite, not normalized; may be memory-mapped.
        ids: [N] str, unique, where `embeddings` are vectors alone; ties go by them.
        transform: what makes unit vectors [N, d] of them; default L2. Nothing is
            copied: for every transform the score is the inner product of the raw vector
            with one direction, up to two numbers per row, which are kept.
        cascade: makes searches several times faster, with the same results.
        progress: wraps the pass over all rows that a projection needs once.
    """

    def __init__(
        self,
        embeddings: Any,
        ids: Sequence[str] | np.ndarray | None = None,
        *,
        transform: Transform | None = None,
        cascade: Cascade | None = None,
        progress: Progress = no_progress,
    ):
        vectors = getattr(embeddings, "vectors", embeddings)
        ids = embeddings.ids if ids is None else ids
        if vectors.ndim != 2 or len(vectors) != len(ids):
            raise ValueError(
                "vectors must be [N, D] with one id per row; got shape "
                f"{vectors.shape} and {len(ids)} ids"
            )
        if cascade is not None and len(cascade) != len(vectors):
            raise ValueError(
                f"cascade must be of the same {len(vectors)} rows; it has "
                f"{len(cascade)}"
            )
        self.vectors = vectors
        self.ids = np.asarray(ids)
        self.transform = transform or Transform()
        self.cascade = cascade
        self._derived = getattr(embeddings, "derived", None)
        self._progress = progress
        self._scales: tuple[np.ndarray, np.ndarray] | None = None
        self._remembered: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """d, of the unit vectors and of directions."""
        return self.transform.dim(self.vectors.shape[1])

    @cached_property
    def place_of_id(self) -> np.ndarray:
        """The place of each row's id among all ids, sorted; [N] int."""
        places = np.empty(len(self.ids), np.int64)
        places[np.argsort(self.ids, kind="stable")] = np.arange(len(self.ids))
        return places

    def unit_vectors(
        self, rows: Sequence[int] | np.ndarray, dtype: type = np.float32
    ) -> np.ndarray:
        """Unit vectors of some rows, [n, d]."""
        return self.transform(
            np.asarray(self.vectors[np.asarray(rows, np.int64)]), dtype
        )

    def remembered(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The same, kept: of rows that are asked for again and again, as marked ones
        are; [n, d] float32.
        """
        wanted = np.asarray(rows, np.int64).tolist()
        new = [row for row in wanted if row not in self._remembered]
        if new:
            self._remembered.update(zip(new, self.unit_vectors(new), strict=True))
        found = [self._remembered[row] for row in wanted]
        return np.stack(found) if found else self.unit_vectors([])

    # Everything

    def scores(self, directions: np.ndarray) -> np.ndarray:
        """Inner products of directions with all unit vectors.

        unit((unit(x) - m) P) . q = scale (x . P q) - shift (m . P q), with shift = 1 /
        |(unit(x) - m) P| and scale = shift / |x|. Both are computed in the first pass;
        with a projection, where that takes longer than the pass itself, once for all.

        Args:
            directions: [Q, d] float; unit vectors for cosines, or a probe's
                coefficients.

        Returns:
            [Q, N] float32.
        """
        if self.cascade is not None and self.cascade.is_whole:
            return self.cascade.scores(self._checked(directions))
        raw64, constant = self._raw(self._checked(directions))
        raw = raw64.astype(np.float32)
        result = np.empty((len(raw), len(self)), np.float32)
        # Looked up once: another thread may be in its first pass too.
        known = self._scales
        if known is None and self.transform.projection is not None:
            known = self._projected_scales()
        scale, shift = known or (np.empty(len(self)), np.empty(len(self)))
        for start in range(0, len(self), _BLOCK):
            rows = slice(start, start + _BLOCK)
            block = np.asarray(self.vectors[rows], np.float32)
            if known is None:
                scale[rows], shift[rows] = self._scales_of(block)
            products = (block @ raw[0])[None] if len(raw) == 1 else raw @ block.T
            result[:, rows] = products * scale[rows] - constant[:, None] * shift[rows]
        self._scales = (scale, shift)
        return result

    def decision(self, ranker: LinearRanker) -> np.ndarray:
        """The ranker's decision for all rows, intercept included; [N] float32."""
        return self.scores(ranker.coef)[0] + np.float32(ranker.intercept)

    @staticmethod
    def tolerance(ranker: LinearRanker) -> float:
        """What `decision` can be off by where it is held against a threshold."""
        return _NORMALIZED * float(np.linalg.norm(ranker.coef))

    def rank(
        self,
        ranker: LinearRanker,
        *,
        mask: np.ndarray | None = None,
        decision: np.ndarray | Callable[[], np.ndarray] | None = None,
    ) -> Ranking:
        """Ranks everything. With a cascade the first pages are found by it, and all
        rows are scored once somebody looks further.

        Args:
            ranker: what was learned, or a query's direction.
            mask: [N] bool, True where searched; default all.
            decision: what `decision` gave for this ranker, where it is known already,
                or what gives it when it is needed.
        """
        along, length = _unit_direction(self._checked(ranker.coef)[0])
        raw, constant = self._raw(along[None])
        allowed = self._mask(mask)

        def approximate() -> np.ndarray:
            if decision is None:
                return self.decision(ranker)
            return decision() if callable(decision) else decision

        known = isinstance(decision, np.ndarray)
        return FullRanking(
            approximate,
            lambda rows: self._exact(rows, raw[0], constant[0]),
            first=None
            if known or self.cascade is None
            else lambda k: self.top(ranker, k, mask=allowed),
            place_of_id=self.place_of_id,
            mask=allowed,
            length=length,
            intercept=ranker.intercept,
            slack=length * self._slack(along),
            kind=ranker.kind,
        )

    # The best

    def search(
        self, query: np.ndarray, k: int = 50, *, mask: np.ndarray | None = None
    ) -> Ranking:
        """The k rows most similar to a query.

        Args:
            query: [D] or [q, D] float, embeddings as the encoder gives them; of several
                the mean direction of their unit vectors is searched.
            k: from 1 to the number of rows that are searched.
            mask: [N] bool, True where searched; default all. Leave out the query's own
                row here.
        """
        direction = mean_direction(self.transform(np.atleast_2d(query)))
        return self.top(LinearRanker(direction.astype(np.float64)), k, mask=mask)

    def top(
        self,
        ranker: LinearRanker,
        k: int,
        *,
        mask: np.ndarray | None = None,
        ascending: bool = False,
    ) -> Ranking:
        """The k best rows of a ranker, or the k worst, worst first."""
        found = self.search_along(ranker.coef, k, mask=mask, ascending=ascending)[0]
        return Ranking(
            found.rows,
            found.scores + ranker.intercept,
            kind=ranker.kind,
            excluded=found.excluded,
        )

    def search_along(
        self,
        directions: np.ndarray,
        k: int,
        *,
        mask: np.ndarray | None = None,
        ascending: bool = False,
    ) -> list[Ranking]:
        """The k rows with the largest inner product, for each direction.

        Args:
            directions: [Q, d] or [d] float.
            k: from 1 to the number of rows that are searched.
            mask: [N] bool, True where searched; default all.
            ascending: the k smallest instead, smallest first.

        Returns:
            One `Ranking` per direction. Nothing depends on block size, row order or
            cascade.
        """
        directions = self._checked(directions)
        allowed = self._allowed(k, mask)
        sign = -1.0 if ascending else 1.0
        pairs = [_unit_direction(direction) for direction in directions]
        along = np.stack([sign * direction for direction, _ in pairs])
        candidates = self._candidates(along, k, allowed)
        found = [self._best(*job, k) for job in zip(candidates, along, strict=True)]
        excluded = np.flatnonzero(~allowed)
        return [
            Ranking(rows, sign * length * scores, excluded=excluded)
            for (rows, scores), (_, length) in zip(found, pairs, strict=True)
        ]

    # How

    def _raw(self, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Directions for raw vectors, [Q, D] float64, and what the mean takes
        off, [Q].
        """
        mean, projection = self.transform.mean, self.transform.projection
        if projection is not None:
            directions = directions @ projection.T.astype(np.float64)
        constant = np.zeros(len(directions)) if mean is None else directions @ mean
        return directions, constant

    def _scales_of(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """scale and shift of some raw vectors, each [n] float64."""
        norms = np.linalg.norm(block, axis=1)
        if not np.isfinite(norms).all():
            raise ValueError("vectors must be finite; got NaN or infinity")
        if self.transform.mean is None:
            # Exactly, since every order depends on it.
            norms = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
            return _inverse(norms), np.ones(len(block))
        block = block.astype(np.float64)
        inverse = _inverse(np.sqrt(np.einsum("ij,ij->i", block, block)))
        centered = block * inverse[:, None] - self.transform.mean
        if self.transform.projection is not None:
            centered = centered @ self.transform.projection.astype(np.float64)
        shift = _inverse(np.sqrt(np.einsum("ij,ij->i", centered, centered)))
        return inverse * shift, shift

    def _projected_scales(self) -> tuple[np.ndarray, np.ndarray]:
        """scale and shift of all rows; of an embedding set they are kept in its
        folder.
        """

        def compute() -> np.ndarray:
            found = np.empty((2, len(self)))
            for start in self._progress(range(0, len(self), _BLOCK)):
                rows = slice(start, start + _BLOCK)
                block = np.asarray(self.vectors[rows], np.float32)
                found[:, rows] = self._scales_of(block)
            return found

        if self._derived is None:
            scale, shift = compute()
        else:
            content = self.transform.base.encode() + self.transform.content
            digest = hashlib.sha256(content).hexdigest()[:12]
            scale, shift = self._derived(f"scales_{digest}", compute)
        return scale, shift

    def _exact(self, rows: np.ndarray, raw: np.ndarray, constant: float) -> np.ndarray:
        """Scores in float64, each row summed in the same order; [n] float64."""
        scores = np.empty(len(rows))
        projects = self.transform.projection is not None
        if self._scales is None and projects and len(rows) > _FEW * len(self):
            self._scales = self._projected_scales()  # once, instead of every time

        def score(start: int) -> None:
            part = slice(start, start + _EXACT_BLOCK)
            block = np.asarray(self.vectors[rows[part]])
            if self._scales is None:
                scale, shift = self._scales_of(block)
            else:
                scale, shift = (known[rows[part]] for known in self._scales)
            products = np.einsum("ij,j->i", block.astype(np.float64), raw)
            scores[part] = products * scale - constant * shift

        concurrently(score, range(0, len(rows), _EXACT_BLOCK))
        return scores

    def _checked(self, directions: np.ndarray) -> np.ndarray:
        directions = np.atleast_2d(np.asarray(directions, np.float64))
        if directions.shape[1] != self.dim:
            raise ValueError(
                f"directions must have {self.dim} dimensions; got {directions.shape[1]}"
            )
        return directions

    def _mask(self, mask: np.ndarray | None) -> np.ndarray:
        """A mask of all rows, [N] bool."""
        mask = np.ones(len(self), bool) if mask is None else np.asarray(mask)
        if mask.shape != (len(self),) or mask.dtype != bool:
            raise ValueError(
                f"mask must be bool, one entry per row, {len(self)}; got {mask.dtype} "
                f"{mask.shape}"
            )
        return mask

    def _allowed(
        self, k: int, mask: np.ndarray | None, most: int | None = None
    ) -> np.ndarray:
        """Rows to search, [N] bool; refuses a k that they can't give."""
        allowed = self._mask(mask)
        largest = min(int(allowed.sum()), most or len(self))
        if not isinstance(k, int | np.integer) or not 1 <= k <= largest:
            raise ValueError(f"k must be in [1, {largest}]; got {k!r}")
        return allowed

    def _candidates(
        self, directions: np.ndarray, k: int, allowed: np.ndarray
    ) -> Iterable[np.ndarray]:
        """Rows for each direction that hold its k best."""
        if allowed.sum() <= max(k, _FEW * len(self)):
            few = np.flatnonzero(allowed)
            return [few] * len(directions)
        if self.cascade is not None:
            excluded = np.flatnonzero(~allowed)
            return self.cascade.candidates(directions, k, self._rough, excluded)
        scores = self.scores(directions)
        scores[:, ~allowed] = -np.inf
        return [
            np.flatnonzero(row >= _kth(row, k) - self._slack(direction))
            for row, direction in zip(scores, directions, strict=True)
        ]

    def _rough(self, rows: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Inner products of some unit vectors with a direction, [n] float32.

        By einsum, not by BLAS: those calls would wait for each other where several
        directions are searched at a time.
        """
        found = np.empty(len(rows), np.float32)
        single = direction.astype(np.float32)
        for start in range(0, len(rows), _BLOCK):
            part = slice(start, start + _BLOCK)
            some = rows[part]
            if self._lengths is None:
                found[part] = np.einsum("ij,j->i", self.unit_vectors(some), single)
            else:
                block = self.vectors.take(some, axis=0)
                found[part] = np.einsum("ij,j->i", block, single) * self._lengths[some]
        return found

    @cached_property
    def _lengths(self) -> np.ndarray | None:
        """1 / length of each vector, [N] float32, where unit vectors are no more than
        that and all are in memory; None otherwise.
        """
        in_memory = type(self.vectors) is np.ndarray
        if not in_memory or self.transform.mean is not None:
            return None
        norms = [
            np.linalg.norm(np.asarray(self.vectors[i : i + _BLOCK], np.float32), axis=1)
            for i in range(0, len(self), _BLOCK)
        ]
        return _inverse(np.concatenate(norms)).astype(np.float32)

    def _slack(self, direction: np.ndarray) -> float:
        """What a float32 score can be off by: a row is rounded differently depending on
        its neighbors in a block.

        Rows this close to the k-th score are scored again in float64, one by one, so
        that no such rounding moves a result.
        """
        projection = self.transform.projection
        along = direction if projection is None else projection @ direction
        longest = 1.0 if self._scales is None else float(self._scales[1].max())
        return ROUNDING * max(1.0, float(np.linalg.norm(along))) * longest

    def _best(
        self, rows: np.ndarray, direction: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if len(rows) > k:  # float32 settles most of them
            rough = self._rough(rows, direction)
            rows = rows[rough >= _kth(rough, k) - self._slack(direction)]
        raw, constant = self._raw(direction[None])
        exact = self._exact(rows, raw[0], constant[0])
        order = order_of(exact, self.place_of_id[rows])[:k]
        return rows[order], exact[order]


def _unit_direction(direction: np.ndarray) -> tuple[np.ndarray, float]:
    """A direction of length 1, and the length it had; a zero direction stays zero."""
    length = float(np.linalg.norm(direction))
    return direction / (length or 1.0), length


def _inverse(lengths: np.ndarray) -> np.ndarray:
    """1 / length, and 0 where the length is 0: such a vector has no direction."""
    return np.where(lengths > 0, 1 / np.where(lengths > 0, lengths, 1.0), 0.0)


def _kth(scores: np.ndarray, k: int) -> float:
    """The k-th largest score."""
    return np.partition(scores, len(scores) - k)[len(scores) - k]


def rank_first(
    unit: np.ndarray,
    queries: np.ndarray,
    first: int,
    *,
    place_of_id: np.ndarray | None = None,
) -> np.ndarray:
    """The first rows for each query row, by the same rule as every other list.

    Args:
        unit: [N, D] float64 unit vectors.
        queries: [Q] int, rows; each is left out of its own list.
        first: how many, at most N - 1.
        place_of_id: [N] int, for ties; default: the place in `unit`.

    Returns:
        [Q, first] int, rows by falling cosine.
    """
    places = np.arange(len(unit)) if place_of_id is None else place_of_id
    scores = unit[queries] @ unit.T
    scores[np.arange(len(queries)), queries] = -np.inf
    found = np.empty((len(queries), first), np.int64)
    for line, own in zip(found, scores, strict=True):
        rows = np.flatnonzero(own >= _kth(own, first) - 1e-9)
        line[:] = rows[order_of(own[rows], places[rows])][:first]
    return found
