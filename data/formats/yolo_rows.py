"""What the rows of YOLO label files mean. The format has no header: a class, then a
box, a box and keypoints, corners or a segment, with or without a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Box = tuple[float, float, float, float]  # center x, center y, width, height
_NEAR = 0.5  # of an object's extent: how far a corner lies from the others, at most
_ROOM = 0.01  # of the image: by which a keypoint may lie outside of its box


@dataclass(frozen=True)
class Row:
    """A row of a label file: class number, and all numbers after it."""

    label: int
    values: tuple[float, ...]


def parse(line: str) -> Row | None:
    """A row; None where it isn't a class number and at least a box."""
    parts = line.split()
    try:
        label = float(parts[0])
        values = tuple(float(part) for part in parts[1:])
    except ValueError:
        return None
    if not (0 <= label < 100_000 and label == int(label)) or len(values) < 4:
        return None
    return Row(int(label), values)


def boxes_of(
    rows: Sequence[Row], keypoints: tuple[int, int] | None, task: str = ""
) -> list[Box | None]:
    """The box of each row of a data set, None where it has another layout.

    Args:
        rows: all of them, since what rows of one length mean is told by all.
        keypoints: how many a row has, and numbers for each (`kpt_shape` of data.yaml);
            None where it isn't stated.
        task: detect, segment, pose or obb, where data.yaml says so.

    Raises:
        ValueError: it can't be told what the numbers are; the message says how the data
            set can state it.
    """
    by_length: dict[int, list[tuple[float, ...]]] = {}
    for row in rows:
        by_length.setdefault(len(row.values), []).append(row.values)
    kinds = {
        length: _kind(np.array(values), keypoints, task, set(by_length))
        for length, values in by_length.items()
    }
    return [_box(row.values, kinds[len(row.values)]) for row in rows]


def _kind(
    values: np.ndarray,
    keypoints: tuple[int, int] | None,
    task: str,
    lengths: set[int],
) -> str:
    """What rows of one length are: "box" (whatever follows its four numbers), "points",
    "scored points" or "" for what isn't read.

    Args:
        values: [rows, length] float.
        keypoints, task: see `boxes_of`.
        lengths: of all rows of the data set.
    """
    length = values.shape[1]
    if length == 4:
        return "box"
    if length == 5:
        if _has_angle(values[:, 4]):
            raise ValueError(
                "rows of a center, a size and an angle (turned boxes) aren't read: "
                "write their four corners"
            )
        return "box"  # and a score, or the number of a track
    if keypoints is not None:
        count, numbers = keypoints
        return "box" if length - 4 - count * numbers in (0, 1) else ""
    if task in ("pose", "detect"):
        return "box"
    points = "points" if length % 2 == 0 else "scored points"
    if task in ("segment", "obb"):
        return points
    is_only = len(lengths) == 1
    if is_only and _have_visibility(values):
        return "box"
    if lengths <= {4, 5, 6} and _are_tracks(values, 5 in lengths):
        return "box"
    if is_only and _may_be_keypoints(values[:, : length - length % 2]):
        raise ValueError(
            f"rows of {length + 1} numbers may be segments, or boxes with keypoints: "
            'state "task: segment" (or obb), or the "kpt_shape", in data.yaml'
        )
    return points


def _has_angle(last: np.ndarray) -> bool:
    whole = (last == np.round(last)).all() and (last >= 0).all()
    return not whole and bool(((last < 0) | (last > 1)).any())


def _have_visibility(values: np.ndarray) -> bool:
    """Whether every third number after the box is 0, 1 or 2: keypoints that say how
    visible they are.
    """
    rest = values[:, 4:]
    if rest.shape[1] % 3 == 1:  # a score comes last
        rest = rest[:, :-1]
    if rest.shape[1] % 3:
        return False
    return bool(np.isin(rest[:, 2::3], (0, 1, 2)).all()) and _are_boxes(values)


def _are_tracks(values: np.ndarray, are_scored: bool) -> bool:
    """Whether a score and the number of a track follow the box.

    Args:
        values: [rows, 6] float, of other lengths never.
        are_scored: whether the data set has rows with a score alone.

    Raises:
        ValueError: they may as well be triangles.
    """
    if values.shape[1] != 6:
        return False
    score, track = values[:, 4], values[:, 5]
    is_number = (track == np.round(track)).all() and (track >= 0).all()
    if not (is_number and (score >= 0).all() and _are_boxes(values)):
        return False
    # A corner at the border is 0 or 1 as well, but not in row after row.
    if (track > 1).any() or len(track) > 2 or are_scored:
        return True
    raise ValueError(
        "rows of 7 numbers may be segments, or boxes with a score and the number of a "
        'track: state "task: segment" or "task: detect" in data.yaml'
    )


def _are_boxes(values: np.ndarray) -> bool:
    """Whether the first four numbers may be a center and a size, all relative."""
    center, half = values[:, 0:2], values[:, 2:4] / 2
    low, high = (center - half).min(), (center + half).max()
    return bool((half > 0).all() and low > -_ROOM and high < 1 + _ROOM)


def _may_be_keypoints(values: np.ndarray) -> bool:
    """Whether rows may be boxes with keypoints of two numbers: all lie in the box that
    the first four would be, and as corners of a segment the second two would lie far
    from all others, since they are a size.
    """
    center, size = values[:, None, 0:2], values[:, None, 2:4]
    points = values[:, 4:].reshape(len(values), -1, 2)
    inside = (np.abs(points - center) <= size / 2 + _ROOM).all(axis=2)
    unmarked = (points == 0).all(axis=2)
    if not (inside | unmarked).all():
        return False
    others = np.concatenate([center, points], axis=1)
    low, high = others.min(axis=1), others.max(axis=1)
    second = values[:, 2:4]
    away = np.maximum(np.maximum(low - second, second - high), 0).max(axis=1)
    extent = np.maximum((high - low).max(axis=1), 1e-6)
    return bool(np.median(away / extent) > _NEAR)


def _box(values: tuple[float, ...], kind: str) -> Box | None:
    if kind == "box":
        return values[0], values[1], values[2], values[3]
    if not kind:
        return None
    end = len(values) - (kind == "scored points")
    xs, ys = values[0:end:2], values[1:end:2]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
