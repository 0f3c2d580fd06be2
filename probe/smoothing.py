"""Each vector as the mean of itself and of its neighbors.

Crops that name each other among their nearest are mostly of one kind, so their mean is
what they have in common: less of the pose of the one and the soil of the other. (Query
expansion with database-side augmentation: Arandjelovic and Zisserman 2012,
10.1109/CVPR.2012.6248018; there of all neighbors. That both must name each other leaves
alone what is like nothing else.)
"""

from __future__ import annotations

import numpy as np

from artifacts.progress import Progress, no_progress
from probe.neighbors import NOBODY, mutual_neighbors
from probe.transforms import l2_normalize

NEIGHBORS = 10
MOST_AT_ONCE = 20_000  # rows; of more, each is compared with so many random others
_BLOCK = 4096
_SAME = 1 - 1e-5  # cosine of what is the same crop


def neighbors_of(
    vectors: np.ndarray,
    *,
    count: int = NEIGHBORS,
    most: int = MOST_AT_ONCE,
    seed: int = 0,
    progress: Progress = no_progress,
) -> np.ndarray:
    """`mutual_neighbors` for `smooth`, [N, count] int32, parted by a seed."""
    rng = np.random.default_rng(seed)
    found = mutual_neighbors(vectors, count, most=most, rng=rng, progress=progress)
    return found.astype(np.int32)


def smooth(vectors: np.ndarray, neighbors: np.ndarray, into: np.ndarray) -> None:
    """Writes the mean of each row's unit vector and that of its neighbors, which
    together count as much as the row.

    Args:
        vectors: [N, D] float.
        neighbors: [N, n] int rows, NOBODY where there are fewer.
        into: [N, D] float32.
    """
    for start in range(0, len(vectors), _BLOCK):
        rows = slice(start, start + _BLOCK)
        near = neighbors[rows]
        some = near != NOBODY
        others = l2_normalize(vectors[near.ravel()]).reshape(*near.shape, -1)
        total = (others * some[..., None]).sum(axis=1)
        count = np.maximum(1, some.sum(axis=1))[:, None]
        into[rows] = l2_normalize(vectors[rows]) + total / count


def smooth_query(
    query: np.ndarray, vectors: np.ndarray, count: int = NEIGHBORS
) -> np.ndarray:
    """A vector from outside, as `neighbors_of` and `smooth` would have it were it one
    of the rows. Rows that are the same as it don't count, so that a copy of a row comes
    to what the row does.

    Args:
        query: [D] float.
        vectors: [N, D] float, of the pool, before they were smoothed.
        count: as in `neighbors_of`.

    Returns:
        [D] float32.
    """
    unit = l2_normalize(query)
    cosines = _cosines(vectors, unit[None])[0]
    cosines[cosines > _SAME] = -np.inf
    near = np.argsort(-cosines, kind="stable")[:count]
    near = near[np.isfinite(cosines[near])]
    others = l2_normalize(vectors[near])
    back = _cosines(vectors, others)
    back[np.arange(len(near)), near] = -np.inf
    back[:, ~np.isfinite(cosines)] = -np.inf
    named = (back > cosines[near][:, None]).sum(axis=1) < count
    if not named.any() or not unit.any():
        return unit
    return unit + others[named].mean(axis=0)


def _cosines(vectors: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Of unit vectors [n, D] with all rows, [n, N] float32."""
    found = np.empty((len(unit), len(vectors)), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        rows = slice(start, start + _BLOCK)
        found[:, rows] = unit @ l2_normalize(vectors[rows]).T
    return found
