"""Which classes are looked for, and from which queries."""

from __future__ import annotations

import numpy as np

from data.crop_table import CropTable

CLASSES = ("all", "even", "odd")


def some_of(names: list[str], which: str) -> list[str]:
    """All names, or those at even or odd places: choose by one half, report the
    other.
    """
    return {"all": names, "even": names[::2], "odd": names[1::2]}[which]


def random_queries(
    table: CropTable, which: str, count: int, seed: int
) -> list[tuple[str, int]]:
    """(class, row of a member), so many at random of each class.

    Args:
        table: with labels.
        which: one of CLASSES.
        count: of each class, or all its members where those are fewer.
        seed: of the draw.
    """
    labels, jobs = table.column("label_name"), []
    for number, name in enumerate(some_of(table.classes, which)):
        rng = np.random.default_rng([seed, number])
        members = rng.permutation(np.flatnonzero(labels == name))
        jobs += [(name, int(row)) for row in members[:count]]
    return jobs
