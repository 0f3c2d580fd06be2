"""Embeddings of several recordings, brought together: what all crops of a recording
share, its soil and light, is taken off, as far as other recordings show what else it
could be.

Two crops of different recordings that name each other among their nearest are probably
of one kind (mutual nearest neighbors, Haghverdi et al. 2018, 10.1038/nbt.4091, there of
cells in batches). Each recording is moved by the mean difference of its pairs, all of
them at a time, a few times over. Taking off each recording's own mean would do as well
where all recordings hold the same kinds; where a recording is mostly one kind, it takes
the kind off, too, and this hardly does.
"""

from __future__ import annotations

import numpy as np

from artifacts.progress import Progress, no_progress
from probe.neighbors import NOBODY, mutual, nearest
from probe.transforms import l2_normalize, sample_rows

NEIGHBORS, SHRINKAGE, ROUNDS = 5, 10, 5
MOST = 10_000  # rows that shifts are found from, since all are compared with all


def shifts_of(
    vectors: np.ndarray,
    recording: np.ndarray,
    *,
    neighbors: int = NEIGHBORS,
    shrinkage: float = SHRINKAGE,
    rounds: int = ROUNDS,
    most: int = MOST,
    seed: int = 0,
    rows: np.ndarray | None = None,
    progress: Progress = no_progress,
) -> np.ndarray:
    """What is added to the unit vectors of each recording.

    Args:
        vectors: [N, D] float, may be memory-mapped.
        recording: [N] int from 0, of each row that counts.
        neighbors: in which two rows must name each other: of each other recording the
            nearest, and of these the nearest few.
        shrinkage: pairs of no difference that each recording has besides, so that few
            pairs move it little.
        rounds: how often pairs are looked for.
        most: rows that are looked at.
        seed: of which these are.
        rows: [n] int, which count; default: all.
        progress: wraps the rounds.

    Returns:
        [recordings, D] float32.
    """
    rows = np.arange(len(vectors)) if rows is None else rows
    rows = rows[sample_rows(len(rows), most, seed)]
    own = recording[rows]
    unit = l2_normalize(np.asarray(vectors[rows], np.float32))
    count = int(recording.max()) + 1
    shifts = np.zeros((count, unit.shape[1]), np.float32)
    for _ in progress(range(rounds)):
        shifted = l2_normalize(unit + shifts[own])
        found = mutual(nearest(shifted, neighbors, own, one_of_each=True))
        row, place = np.nonzero(found != NOBODY)
        apart = shifted[found[row, place]] - shifted[row]
        total = np.zeros_like(shifts, np.float64)
        np.add.at(total, own[row], apart)
        pairs = np.bincount(own[row], minlength=count)[:, None]
        # The others move, too: of two recordings each goes half the way.
        shifts += ((count - 1) / count * total / (pairs + shrinkage)).astype(np.float32)
    return shifts
