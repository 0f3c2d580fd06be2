"""A map of the pool: every crop at a place in the plane, alike ones near each other."""

from __future__ import annotations

import numpy as np

from probe.index import CosineIndex
from probe.transforms import sample_rows

LANDMARKS = 3000  # crops that are laid out; the others go where those like them lie
_DIMENSIONS, _NEIGHBOURS, _BLOCK = 50, 3, 8192


def project(index: CosineIndex, seed: int = 0) -> np.ndarray:
    """Lays out landmarks by t-SNE (van der Maaten and Hinton, 2008) on their first
    principal components, and places every other crop at the mean of its three nearest
    landmarks, weighted by how near they are.

    It shows what lies together; distances between far groups mean nothing, and no
    figure is computed from it.

    Args:
        index: the pool.
        seed: of the landmarks and the layout.

    Returns:
        [N, 2] float32 in [0, 1].
    """
    from sklearn.manifold import TSNE

    landmarks = sample_rows(len(index), LANDMARKS, seed)
    known = index.unit_vectors(landmarks)
    if len(landmarks) < 5:
        return np.stack(
            [np.linspace(0, 1, len(index)), np.full(len(index), 0.5)], axis=1
        ).astype(np.float32)
    mean = known.mean(axis=0)
    _, _, axes = np.linalg.svd(known - mean, full_matrices=False)
    axes = axes[:_DIMENSIONS].T
    short = (known - mean) @ axes
    perplexity = min(30.0, (len(landmarks) - 1) / 3)
    layout = TSNE(
        perplexity=perplexity, init="pca", random_state=seed, max_iter=500
    ).fit_transform(short)
    layout = (layout - layout.min(axis=0)) / np.maximum(np.ptp(layout, axis=0), 1e-9)
    places = np.empty((len(index), 2), np.float32)
    lengths = (short**2).sum(axis=1)
    for start in range(0, len(index), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(index)))
        some = (index.unit_vectors(rows) - mean) @ axes
        distances = np.maximum(
            lengths - 2 * some @ short.T + (some**2).sum(axis=1)[:, None], 0
        )
        nearest = np.argpartition(
            distances, min(_NEIGHBOURS, len(landmarks)) - 1, axis=1
        )[:, :_NEIGHBOURS]
        weights = 1 / (np.take_along_axis(distances, nearest, axis=1) + 1e-6)
        places[rows] = (
            layout[nearest] * (weights / weights.sum(axis=1, keepdims=True))[:, :, None]
        ).sum(axis=1)
    places[landmarks] = layout
    return places
