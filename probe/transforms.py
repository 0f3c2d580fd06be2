"""What is done to embeddings before they are compared."""

from __future__ import annotations

import numpy as np


def l2_normalize(vectors: np.ndarray) -> np.ndarray:
    """Divides each row by its L2 norm, so that an inner product is a cosine.

    Args:
        vectors: [N, D] or [D], any float type; must be finite.

    Returns:
        float32 of the same shape. A zero row stays zero: it has no direction, and its cosine to everything is 0.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    vectors = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.isfinite(norms).all():
        raise ValueError("vectors must be finite; got NaN or infinity")
    return vectors / np.where(norms > 0, norms, 1.0)


def mean_direction(vectors: np.ndarray) -> np.ndarray:
    """The unit vector along the mean of the unit rows: where several examples point together; [n, D] -> [D] float32."""
    return l2_normalize(l2_normalize(vectors).mean(axis=0))
