"""What the post looks for, on the sample field."""

from __future__ import annotations

import numpy as np

from curation.pool import TRANSFORM
from probe.index import rank_first
from probe.transforms import Transform

# The post's wish: a new class that no label tells apart.
CRITERION = (
    "species = 'Sugar beet' AND true_leaves BETWEEN 4 AND 6 AND share_visible > 0.9 "
    "AND cut_off = 0"
)


def choose_queries(relevant: np.ndarray, most: int) -> np.ndarray:
    """Random queries, [at most `most`] rows; the same for the same pool."""
    rows = np.flatnonzero(relevant)
    return np.random.default_rng(0).permutation(rows)[:most]


def found_of(
    vectors: np.ndarray, relevant: np.ndarray, queries: np.ndarray, k: int
) -> np.ndarray:
    """How many of the k nearest to each query, itself left out, are relevant, by the
    default transform: [queries] int.
    """
    unit = Transform.fit(TRANSFORM, vectors)(vectors, np.float64)
    return relevant[rank_first(unit, queries, k)].sum(axis=1)
