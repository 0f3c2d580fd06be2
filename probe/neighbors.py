"""Which vectors are nearest to which, of many at once."""

from __future__ import annotations

import numpy as np

from artifacts.progress import Progress, no_progress

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
