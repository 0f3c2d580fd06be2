"""What the post looks for, on the sample field."""

from __future__ import annotations

import numpy as np

# The post's wish: a new class that no label tells apart.
CRITERION = (
    "species = 'Sugar beet' AND true_leaves BETWEEN 4 AND 6 AND share_visible > 0.9 "
    "AND cut_off = 0"
)


def choose_queries(relevant: np.ndarray, most: int) -> np.ndarray:
    """Random queries, [at most `most`] rows; the same for the same pool."""
    rows = np.flatnonzero(relevant)
    return np.random.default_rng(0).permutation(rows)[:most]
