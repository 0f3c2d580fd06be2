"""Which crops train and which are held out."""

from __future__ import annotations

import hashlib

import numpy as np

from data.crop_table import CropTable
from data.duplicates import first_of_joined, group_of

HELD_OUT_SHARE = 0.15


def split_mask(table: CropTable, split: str, argument: str = "split") -> np.ndarray:
    """Rows of a split.

    Args:
        table: the crops.
        split: "all", or a name from the table's split column; where the source has no
            splits, "train" and "validation" are made from it: 15 % are held out,
            decided by a hash of the recording session (of the image where the session
            is unknown), so that frames of one session never lie on both sides and a
            growing source keeps its splits. Sessions of which crops show the same go
            together.
        argument: the name to use in errors.

    Returns:
        [N] bool, with at least one True.
    """
    splits = table.column("split")
    if split == "all":
        return np.ones(len(table), bool)
    if makes_splits(table):
        keys = _keys(table)
        held_out = {key for key in set(keys) if _held_out(key)}
        splits = np.where([key in held_out for key in keys], "validation", "train")
    mask = splits == split
    if not mask.any():
        known = ", ".join(sorted(set(splits) - {""}))
        why = ""
        if split in ("train", "validation") and makes_splits(table):
            why = (
                f": of {len(set(_keys(table)))} recordings, each held out with a "
                f"probability of {HELD_OUT_SHARE:.0%}, none fell into it; a column "
                "split, or finer recordings, would help"
            )
        raise ValueError(f"{argument} must be one of all, {known}; got {split!r}{why}")
    return mask


def labelled_fraction(table: CropTable, fraction: float, seed: int) -> np.ndarray:
    """Rows of a random share of the labels, class by class, at least one of each class
    (SimCLR section 4.2: 1 % and 10 %).

    Args:
        table: the crops.
        fraction: in (0, 1].
        seed: of the draw. A smaller fraction's rows are among a larger one's.

    Returns:
        [N] bool; crops without a label are never among them.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"label_fraction must be in (0, 1]; got {fraction}")
    rank = np.random.default_rng([seed, 1]).permutation(len(table))
    chosen = np.zeros(len(table), bool)
    classes = table.class_indices
    for label in range(len(table.classes)):
        rows = np.flatnonzero(classes == label)
        chosen[rows[np.argsort(rank[rows])][: max(1, round(fraction * len(rows)))]] = (
            True
        )
    return chosen


def makes_splits(table: CropTable) -> bool:
    """Whether `split_mask` has to make splits of its own."""
    return not any(table.column("split"))


def _keys(table: CropTable) -> list[str]:
    """What decides the split of each crop: its session or image; of those that crops
    which show the same join, the first by name.
    """
    columns = (table.column("session"), table.column("image"))
    own = [session or image for session, image in zip(*columns, strict=True)]
    group = group_of(table)
    if group is None:
        return own
    names, place = np.unique(np.array(own, object).astype(str), return_inverse=True)
    first = first_of_joined(np.stack([place, place[group]], axis=1), len(names))
    return names[first[place]].tolist()


def _held_out(key: str) -> bool:
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32
