"""Boxes from annotation files: conventions, their check against the images, and the crop table that comes out.

Confusing conventions (pixels or relative, corners or size, the full image or a resized copy) goes wrong in silence in most
tools. Here boxes are held against the size of the real image before anything else, and an error names what would fit.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from data.crop_table import CropTable, make_crop_id
from data.images import ImageError, read_size
from data.report import Report

CONVENTIONS = (
    "xyxy",  # left, top, right, bottom
    "xywh",  # left, top, width, height
    "cxcywh",  # center x, center y, width, height
    "xyxy_relative",  # the same as shares of the image's width and height
    "xywh_relative",
    "cxcywh_relative",
    "yxyx",  # top, left, bottom, right
    "yxyx_relative",  # as tensorflow-datasets has them
)
MOST_MISFITS = 0.1  # share of boxes that may not fit their image before the whole file is refused
ADDED_COLUMNS = ("session", "box_width", "box_height", "touches_border", "image_width", "image_height", "file_bytes")
_WHOLE = 1e-3  # pixels: what is nearer to a whole one is that one; relative boxes are often kept as float32
_SESSION = re.compile(r"(.+)[-_]\d+$")
Progress = Callable[..., Iterable[Any]]


def no_progress(items: Iterable[Any], **_: Any) -> Iterable[Any]:
    """Iterates without a progress bar."""
    return items


def to_corners(boxes: np.ndarray, convention: str, sizes: np.ndarray) -> np.ndarray:
    """Boxes as (left, top, right, bottom) in pixels.

    Args:
        boxes: [N, 4] float in the given convention.
        convention: one of CONVENTIONS.
        sizes: [N, 2] float, width and height of each box's image.

    Returns:
        [N, 4] float64.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"boxes must be one of {', '.join(CONVENTIONS)}; got {convention!r}")
    order, _, relative = convention.partition("_")
    first, second = np.asarray(boxes, np.float64)[:, :2], np.asarray(boxes, np.float64)[:, 2:]
    if order == "yxyx":
        first, second = first[:, ::-1], second[:, ::-1]
    elif order == "xywh":
        second = first + second
    elif order == "cxcywh":
        first, second = first - second / 2, first + second / 2
    corners = np.concatenate([first, second], axis=1)
    return corners * np.tile(sizes, 2) if relative else corners


def fits(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which boxes have an area and lie in their image, give or take 2 % and a pixel for boxes that cross the border; [N] bool."""
    slack = 0.02 * sizes + 1
    finite = np.isfinite(corners).all(axis=1)
    extent = corners[:, 2:] - corners[:, :2]
    # A pixel is the least that a box can cover: relative numbers read as pixels are smaller than that.
    return (
        finite & (extent > 0.5).all(axis=1) & (corners[:, :2] >= -slack).all(axis=1) & (corners[:, 2:] <= sizes + slack).all(axis=1)
    )


def check_convention(boxes: np.ndarray, convention: str, sizes: np.ndarray, source: str, flag: bool = True) -> np.ndarray:
    """Corners of boxes that were stated to be in `convention`, refused as a whole where they can't be.

    Args:
        boxes, convention, sizes: see `to_corners`.
        source: file or folder, for the error.
        flag: whether the user can state another convention.

    Returns:
        [N, 4] float64, unclipped.

    Raises:
        ValueError: more than a tenth don't fit; the message names the conventions, or the image size, that would fit.
    """
    corners = to_corners(boxes, convention, sizes)
    stated = np.isfinite(boxes).all(axis=1)  # rows without a box say nothing about the convention
    good = fits(corners, sizes) | ~stated
    if not stated.any() or (~good).sum() <= MOST_MISFITS * stated.sum():
        return corners
    row = int(np.flatnonzero(~good)[0])
    example = f"({', '.join(f'{value:g}' for value in boxes[row])}) in an image of {sizes[row][0]:g} x {sizes[row][1]:g}"
    share = {
        name: float(fits(to_corners(boxes[stated], name, sizes[stated]), sizes[stated]).mean())
        for name in CONVENTIONS
        if name != convention
    }
    better = [name for name, part in share.items() if part >= 0.99]
    # The same order of numbers in other units is the likelier mistake than another order.
    same_order = [name for name in better if name.partition("_")[0] == convention.partition("_")[0]]
    bad = f"{(~good).sum():,} of {len(boxes):,} don't, such as {example}"
    message = f"boxes of {source} must fit their images; read as {convention}, {bad}"
    if better and not flag:
        raise ValueError(f"{message}. They fit as {' or '.join(better)}, which this format doesn't have")
    if better:
        choice = f"give --boxes={(same_order or better)[0]}" + (" if that is what they are" if len(better) > 1 else "")
        raise ValueError(f"{message}. They fit as {' or '.join(same_order + [n for n in better if n not in same_order])}: {choice}")
    reach = np.nanpercentile(corners[:, 2:] / sizes, 99)
    if np.isfinite(reach) and reach > 1 and fits(corners / reach, sizes).mean() >= 0.9:
        raise ValueError(
            f"{message}. They fit once scaled by about {1 / reach:.2f}: they were drawn on larger images than these. Give the "
            "images at their full size, or say which size the boxes belong to, such as --box_size=1920x1088"
        )
    raise ValueError(f"{message}. No convention fits ({', '.join(CONVENTIONS)}); are these the boxes of these images?")


def session_of(image: str) -> str:
    """The recording session in a file name like ave-0506-0007.jpg: all but the number of the frame; "" where there is none."""
    match = _SESSION.fullmatch(Path(image).stem)
    return match.group(1) if match and re.search(r"\d", match.group(1)) else ""


def plain_path(name: str) -> str:
    """An image's path as every reader writes it: forward slashes, no "." or needless ".." in it."""
    return posixpath.normpath(str(name).replace("\\", "/"))


def read_text(path: Path, strict: bool = True) -> str:
    """A text file in UTF-8, with or without byte order mark.

    Args:
        path: the file.
        strict: whether another encoding is an error; otherwise what can't be read is replaced, and its rows will be counted
            as broken: one bad file of thousands must not stop a run.

    Raises:
        ValueError: it is in another encoding; the message names the file.
    """
    try:
        return path.read_text(encoding="utf-8-sig", errors="strict" if strict else "replace")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8: {error.reason} at byte {error.start}") from None


def read_sizes(root: Path, images: Sequence[str], report: Report, progress: Progress = no_progress) -> dict[str, tuple[int, int]]:
    """Width and height of each image that can be read; the others are reported as skipped."""

    def read(image: str) -> tuple[int, int] | ImageError:
        try:
            return read_size(root / image)
        except ImageError as error:
            return error

    sizes: dict[str, tuple[int, int]] = {}
    with ThreadPoolExecutor(4) as pool:
        for image, found in zip(
            images, progress(pool.map(read, images), total=len(images), unit="image", desc="reading"), strict=True
        ):
            if isinstance(found, ImageError):
                report.skip(image, found.reason)
            else:
                sizes[image] = found
    return sizes


def table_of_boxes(
    root: Path, columns: Mapping[str, Sequence[Any]], sizes: Mapping[str, tuple[int, int]], report: Report
) -> CropTable:
    """The crop table of boxes: whole pixels, clipped at the border, without empty or repeated ones, each case counted.

    Args:
        root: folder of the images.
        columns: image, left, top, right, bottom (float pixels), label, label_name, split, and any metadata columns.
        sizes: image -> (width, height).
        report: receives the counts.

    Returns:
        The table, with these columns added: session from the file name (unless given), box_width and box_height, touches_border
        (the plant may be cut off), image_width and image_height, and file_bytes, by which a replaced image is noticed.
    """
    images = list(columns["image"])
    size = np.array([sizes[image] for image in images], np.float64).reshape(-1, 2)
    corners = np.stack([np.asarray(columns[side], np.float64) for side in ("left", "top", "right", "bottom")], axis=1)
    limits = np.tile(size, 2)
    whole = np.where(
        np.isfinite(corners).all(axis=1, keepdims=True),
        np.concatenate([np.floor(corners[:, :2] + _WHOLE), np.ceil(corners[:, 2:] - _WHOLE)], axis=1),
        0,
    )
    clipped = np.clip(whole, 0, limits).astype(np.int64)
    good = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    report.count("boxes without area or outside of their image, left out", int((~good).sum()))
    if not good.any():
        raise ValueError(f"data must hold boxes that lie in their images; none of {len(good):,} does ({root})")
    crosses = np.abs(clipped - whole).max(axis=1, initial=0) > 0
    report.count("boxes that cross the border, clipped", int((good & crosses).sum()))
    at_border = (clipped[:, :2] <= 0) | (clipped[:, 2:] >= size)
    touches = np.asarray(at_border.any(axis=1))
    report.count("boxes that touch the border", int((good & touches).sum()))
    rows = np.flatnonzero(good).tolist()
    ids = [make_crop_id(images[row], clipped[row]) for row in rows]
    report.count("boxes that repeat another one, left out", len(ids) - len(set(ids)))

    taken: dict[str, list[Any]] = {name: [values[row] for row in rows] for name, values in columns.items()}
    for place, side in enumerate(("left", "top", "right", "bottom")):
        taken[side] = clipped[rows, place].tolist()
    taken.setdefault("session", [session_of(image) for image in taken["image"]])
    taken["box_width"] = (clipped[rows, 2] - clipped[rows, 0]).tolist()
    taken["box_height"] = (clipped[rows, 3] - clipped[rows, 1]).tolist()
    taken["touches_border"] = touches[rows].tolist()
    taken["image_width"], taken["image_height"] = size[rows, 0].astype(int).tolist(), size[rows, 1].astype(int).tolist()
    file_bytes = {image: (root / image).stat().st_size for image in sizes}
    taken["file_bytes"] = [file_bytes[image] for image in taken["image"]]
    return CropTable.from_columns(root, taken)
