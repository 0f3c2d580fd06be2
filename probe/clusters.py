"""Splitting a class: clusters inside it, as starting points for finer classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probe.transforms import l2_normalize, sample_rows

_SAMPLE = 20_000  # rows that centres are fitted on, at most


@dataclass(frozen=True)
class Cluster:
    """Some crops that look alike.

    Attributes:
        rows: [n] int, nearest to the cluster's centre first; rows[0] is its medoid, the
            example to start from.
        tightness: mean cosine of its crops to its centre, in [-1, 1].
    """

    rows: np.ndarray
    tightness: float


def propose_clusters(
    unit: np.ndarray, rows: np.ndarray, count: int, seed: int = 0
) -> list[Cluster]:
    """Cuts crops into clusters by k-means on unit vectors (spherical up to the length
    of the centres).

    They are proposals: nothing says that the finer classes someone has in mind are
    clusters, so each is to be looked at, named and checked by marking.

    Args:
        unit: [n, d] float, unit vectors of the crops.
        rows: [n] int, their rows in the pool.
        count: how many, from 2 to the number of crops.
        seed: of the start, and of the sample that is fitted on where there are more
            than 20,000 crops.

    Returns:
        At most `count`, largest first; fewer where crops are identical.
    """
    from sklearn.cluster import KMeans  # takes a second to import

    if not 2 <= count <= len(rows):
        raise ValueError(
            f"clusters must be from 2 to the {len(rows)} crops to be split; got {count}"
        )
    fitted = unit[sample_rows(len(unit), _SAMPLE, seed)]
    distinct = len(np.unique(fitted.round(6), axis=0))
    means = KMeans(min(count, distinct), n_init=4, random_state=seed).fit(fitted)
    centres = l2_normalize(means.cluster_centers_)
    cosines = unit @ centres.T
    nearest = cosines.argmax(axis=1)
    clusters = []
    for number in range(len(centres)):
        members = np.flatnonzero(nearest == number)
        if len(members):
            order = members[np.argsort(-cosines[members, number], kind="stable")]
            clusters.append(
                Cluster(rows[order], float(cosines[members, number].mean()))
            )
    return sorted(
        clusters, key=lambda cluster: (-len(cluster.rows), int(cluster.rows[0]))
    )
