"""Which vectors are nearest to which, of many at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from artifacts.progress import Progress, no_progress
from probe.transforms import l2_normalize

NOBODY = -1
_AT_ONCE = 512  # rows whose scores are in memory together


def nearest(
    unit: np.ndarray,
    count: int,
    apart: np.ndarray | None = None,
    *,
    one_of_each: bool = False,
    progress: Progress = no_progress,
) -> np.ndarray:
    """The nearest other rows of every row, by cosine.

    Args:
        unit: [N, D] float32 unit vectors; a row of zeros has no neighbors and is none.
        count: how many, at least 1.
        apart: [N] int; rows of the same number don't count. Default: each row by
            itself.
        one_of_each: of rows of the same number only the nearest counts.
        progress: wraps the pass over blocks of rows.

    Returns:
        [N, count] int64, rows by falling cosine; NOBODY where there are fewer.
    """
    apart = np.arange(len(unit)) if apart is None else apart
    found = np.full((len(unit), count), NOBODY, np.int64)
    empty = ~unit.any(axis=1)
    members: list[np.ndarray] = []
    if one_of_each:
        order = np.argsort(apart, kind="stable")
        starts = np.flatnonzero(np.diff(apart[order])) + 1
        members = np.split(order, starts)
    taken = min(count, len(members) if one_of_each else len(unit))
    for start in progress(range(0, len(unit), _AT_ONCE)):
        scores = unit[start : start + _AT_ONCE] @ unit.T
        scores[apart[start : start + _AT_ONCE, None] == apart] = -np.inf
        scores[:, empty] = -np.inf
        columns = np.arange(len(unit))[None]
        if one_of_each:
            nearest_of = [m[scores[:, m].argmax(axis=1)] for m in members]
            columns = np.stack(nearest_of, axis=1)
            scores = np.take_along_axis(scores, columns, axis=1)
        best = np.argpartition(-scores, taken - 1, axis=1)[:, :taken]
        of_best = np.take_along_axis(scores, best, axis=1)
        best = np.take_along_axis(np.broadcast_to(columns, scores.shape), best, axis=1)
        order = np.lexsort((best, -of_best), axis=1)
        best, of_best = (
            np.take_along_axis(each, order, axis=1) for each in (best, of_best)
        )
        found[start : start + _AT_ONCE, :taken] = np.where(
            np.isfinite(of_best), best, NOBODY
        )
    found[empty] = NOBODY
    return found


def mutual(found: np.ndarray) -> np.ndarray:
    """What is left of `nearest` where both rows name each other; [N, count], NOBODY
    elsewhere. Of groups that lie close by chance, such as a species that one recording
    lacks, few rows do.
    """
    own = np.arange(len(found))[:, None]
    back = np.full(found.shape, False)
    for place in range(found.shape[1]):
        back |= found[found, place] == own
    return np.where(back & (found != NOBODY), found, NOBODY)


def mutual_neighbors(
    vectors: np.ndarray,
    count: int,
    *,
    most: int,
    rng: np.random.Generator,
    apart: np.ndarray | None = None,
    unit_of: Callable[[np.ndarray], np.ndarray] = l2_normalize,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Who name each other among their nearest, of any number of rows.

    Args:
        vectors: [N, D] float, may be memory-mapped.
        count: of the nearest that are looked at.
        most: rows that are compared with each other; more are parted at random.
        rng: parts them.
        apart: see `nearest`.
        unit_of: what makes unit vectors of a part's.
        progress: wraps the pass over blocks of rows.

    Returns:
        [N, count] int64, rows; NOBODY where there are fewer.
    """
    found = np.full((len(vectors), count), NOBODY, np.int64)
    parts = max(1, -(-len(vectors) // most))
    split = np.array_split(rng.permutation(len(vectors)), parts)
    within = progress if parts == 1 else no_progress
    for rows in split if parts == 1 else progress(split):
        rows.sort()
        unit = unit_of(np.asarray(vectors[rows], np.float32))
        own = None if apart is None else apart[rows]
        near = mutual(nearest(unit, count, own, progress=within))
        found[rows] = np.where(near == NOBODY, NOBODY, rows[near])
    return found
