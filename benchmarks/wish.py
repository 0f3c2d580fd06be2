"""What the post looks for, on the sample field."""

from __future__ import annotations

import numpy as np

from curation.pool import Pool
from probe.index import rank_first

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
    pool: Pool, relevant: np.ndarray, queries: np.ndarray, k: int
) -> np.ndarray:
    """How many of the k nearest to each query, itself left out, are relevant: [queries]
    int.
    """
    unit = pool.similar.unit_vectors(np.arange(len(pool)), np.float64)
    places = pool.similar.place_of_id
    best = rank_first(unit, queries, k, place_of_id=places)
    return relevant[best].sum(axis=1)
