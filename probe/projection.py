"""A map of the pool: every crop at a place in the plane, alike ones near each other."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from probe.index import CosineIndex
from probe.transforms import sample_rows

LANDMARKS = 3000  # crops that are laid out; the others go where those like them lie
_DIMENSIONS, _NEIGHBOURS, _BLOCK = 50, 3, 8192
_APART, _TOGETHER, _EVERY = 250, 250, 10  # iterations of t-SNE
_LAYOUT = 0.8  # of the work, where others are placed after it


def project(
    index: CosineIndex,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> np.ndarray:
    """Lays out landmarks by t-SNE (van der Maaten and Hinton, 2008) on their first
    principal components, and places every other crop at the mean of its three nearest
    landmarks, weighted by how near they are.

    It shows what lies together; distances between far groups mean nothing, and no
    figure is computed from it.

    Args:
        index: the pool.
        seed: of the landmarks and the layout.
        progress: is told now and then which share of the work is done, in [0, 1].

    Returns:
        [N, 2] float32 in [0, 1].
    """
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
    whole = len(landmarks) == len(index)
    layout = _lay_out(
        short, seed, lambda share: progress(share if whole else _LAYOUT * share)
    )
    places = np.empty((len(index), 2), np.float32)
    lengths = (short**2).sum(axis=1)
    for start in range(0, 0 if whole else len(index), _BLOCK):
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
        progress(_LAYOUT + (1 - _LAYOUT) * (rows[-1] + 1) / len(index))
    places[landmarks] = layout
    return places


def _lay_out(
    vectors: np.ndarray, seed: int, progress: Callable[[float], None]
) -> np.ndarray:
    """The landmarks' places, [n, 2] in [0, 1]."""
    from openTSNE import TSNE

    done = 0

    def told(*_: object) -> None:
        nonlocal done
        done += _EVERY
        progress(min(1.0, done / (_APART + _TOGETHER)))

    layout = np.asarray(
        TSNE(
            perplexity=min(30.0, (len(vectors) - 1) / 3),
            initialization="pca",
            neighbors="exact",
            early_exaggeration_iter=_APART,
            n_iter=_TOGETHER,
            callbacks=told,
            callbacks_every_iters=_EVERY,
            n_jobs=max(1, (os.cpu_count() or 2) - 1),  # beside what people do
            random_state=seed,
        ).fit(vectors.astype(np.float64))
    )
    layout = layout - layout.min(axis=0)
    return layout / np.maximum(layout.max(axis=0), 1e-9)
