"""Finer classes, proposed: clusters among the crops that meet a condition."""

from __future__ import annotations

import numpy as np

from curation.contact_sheet import Sheet, Tile
from curation.outputs import draw
from curation.pool import Pool
from probe.clusters import propose_clusters

CLUSTER_TILES = 20  # crops of a cluster on a sheet, at most


def propose(pool: Pool, where: str, count: int, sheet: str, seed: int) -> None:
    """Prints clusters among the crops that meet a condition, each with the crop to
    start from, and draws them.

    Args:
        pool: the crops.
        where: SQL condition, "" for all.
        count: how many clusters.
        sheet: .png file to draw them into, "" for none.
        seed: of the clustering.
    """
    rows = np.flatnonzero(pool.mask(where))
    unit = pool.index.unit_vectors(rows)
    clusters = propose_clusters(unit, rows, count, seed)
    print("cluster  crops  tightness  start from")
    sheets = []
    for number, cluster in enumerate(clusters, 1):
        start = pool.ids[cluster.rows[0]]
        print(
            f"{number:7d}  {len(cluster.rows):5d}  {cluster.tightness:9.2f}  "
            f"--query={start}"
        )
        first = cluster.rows[:CLUSTER_TILES]
        tiles = [Tile.of(pool.embeddings, row, "") for row in first]
        title = f"cluster {number}: {len(cluster.rows)} crops"
        sheets.append(Sheet(title, [], tiles))
    print(
        "Clusters are proposals: search from each with the same --where, mark, and see "
        "whether it is a class."
    )
    if sheet:
        draw(sheet, sheets, pool, columns=5)
