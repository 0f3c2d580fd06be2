"""Boxes from annotation files: conventions, their check against the images, and the
crop table that comes out.

Confusing conventions (pixels or relative, corners or size, the full image or a resized
copy) goes wrong in silence in most tools. Here boxes are held against the size of the
real image before anything else, and an error names what would fit.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from artifacts.progress import Progress, no_progress
from data.crop_table import NOT_HASHED, SIDES, CropTable, make_crop_id
from data.files import is_plain, shown
from data.images import ImageError, ImageFacts, inspect_image
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
# Share of boxes that may not fit their image before the whole file is refused.
MOST_MISFITS = 0.1
ADDED_COLUMNS = (
    "session",
    "box_width",
    "box_height",
    "touches_border",
    "image_width",
    "image_height",
    "file_bytes",
    *NOT_HASHED,
)
# pixels: what is nearer to a whole one is that one; relative boxes are often kept as
# float32
_WHOLE = 1e-3
_NO_PLACE = 1e9  # a coordinate beyond it is none
_SESSION = re.compile(r"(.+)[-_]\d+$")
T = TypeVar("T")


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
        raise ValueError(
            f"boxes must be one of {', '.join(CONVENTIONS)}; got {convention!r}"
        )
    order, _, relative = convention.partition("_")
    boxes = np.asarray(boxes, np.float64)
    boxes = np.where(np.abs(boxes) < _NO_PLACE, boxes, np.nan)
    first, second = boxes[:, :2], boxes[:, 2:]
    if order == "yxyx":
        first, second = first[:, ::-1], second[:, ::-1]
    elif order == "xywh":
        second = first + second
    elif order == "cxcywh":
        first, second = first - second / 2, first + second / 2
    corners = np.concatenate([first, second], axis=1)
    return corners * np.tile(sizes, 2) if relative else corners


def fits(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which boxes have an area and lie in their image, give or take 2 % and a pixel for
    boxes that cross the border; [N] bool.
    """
    slack = 0.02 * sizes + 1
    finite = np.isfinite(corners).all(axis=1)
    extent = corners[:, 2:] - corners[:, :2]
    # A pixel is the least that a box can cover: relative numbers read as pixels are
    # smaller than that.
    return (
        finite
        & (extent > 0.5).all(axis=1)
        & (corners[:, :2] >= -slack).all(axis=1)
        & (corners[:, 2:] <= sizes + slack).all(axis=1)
    )


def check_convention(
    boxes: np.ndarray,
    convention: str,
    sizes: np.ndarray,
    source: str,
    correctable: bool = True,
    *,
    is_size_known: bool = False,
) -> np.ndarray:
    """Corners of boxes that were stated to be in `convention`, refused as a whole where
    they can't be.

    Args:
        boxes, convention, sizes: see `to_corners`.
        source: file or folder, for the error.
        correctable: whether the user can state another convention.
        is_size_known: whether the source states that the images have these sizes.

    Returns:
        [N, 4] float64, unclipped.

    Raises:
        ValueError: more than a tenth don't fit; the message names the conventions, or
            the image size, that would fit.
    """
    corners = to_corners(boxes, convention, sizes)
    # Rows without a box, or with one without area, say nothing about the convention.
    stated = np.isfinite(boxes).all(axis=1)
    stated &= (corners[:, :2] != corners[:, 2:]).all(axis=1)
    good = fits(corners, sizes) | ~stated
    if not stated.any() or (~good).sum() <= MOST_MISFITS * stated.sum():
        return corners
    row = int(np.flatnonzero(~good)[0])
    example = (
        f"({', '.join(f'{value:g}' for value in boxes[row])}) in an image of "
        f"{sizes[row][0]:g} x {sizes[row][1]:g}"
    )
    share = {
        name: float(
            fits(to_corners(boxes[stated], name, sizes[stated]), sizes[stated]).mean()
        )
        for name in CONVENTIONS
        if name != convention
    }
    better = [name for name, part in share.items() if part >= 0.99]
    # The same order of numbers in other units is the likelier mistake than another
    # order.
    better.sort(key=lambda name: name.partition("_")[0] != convention.partition("_")[0])
    bad = f"{(~good).sum():,} of {stated.sum():,} don't, such as {example}"
    message = f"boxes of {source} must fit their images; read as {convention}, {bad}"
    if better and not correctable:
        raise ValueError(
            f"{message}. They fit as {' or '.join(better)}, which this format doesn't "
            "have"
        )
    if better:
        doubt = " if that is what they are" if len(better) > 1 else ""
        raise ValueError(
            f"{message}. They fit as {' or '.join(better)}: give "
            f'--config=\'{{"boxes": "{better[0]}"}}\'{doubt}'
        )
    reach = np.nanpercentile(corners[:, 2:] / sizes, 99)
    if (
        not is_size_known
        and np.isfinite(reach)
        and reach > 1
        and fits(corners / reach, sizes).mean() >= 0.9
    ):
        raise ValueError(
            f"{message}. They fit once scaled by about {1 / reach:.2f}: they were "
            "drawn on larger images than these. Give the images at their full size, or "
            "say with the setting box_size which size the boxes belong to"
        )
    raise ValueError(
        f"{message}. No convention fits ({', '.join(CONVENTIONS)}); are these the "
        "boxes of these images?"
    )


def session_of(image: str) -> str:
    """The recording session in a file name like ave-0506-0007.jpg: all but the number
    of the frame; "" where there is none.
    """
    match = _SESSION.fullmatch(Path(image).stem)
    return match.group(1) if match and re.search(r"\d", match.group(1)) else ""


def distinct_names(names: Mapping[T, str]) -> dict[T, str]:
    """Class names by id; a name that several ids share gets its id behind it."""
    counts = Counter(names.values())
    return {
        key: f"{name} ({key})" if counts[name] > 1 else name
        for key, name in names.items()
    }


def sizes_of(images: Sequence[str], sizes: Mapping[str, tuple[int, int]]) -> np.ndarray:
    """Width and height of each box's image, [N, 2] float64."""
    return np.array([sizes[image] for image in images], np.float64).reshape(-1, 2)


def plain_path(name: str) -> str:
    """An image's path as every reader writes it: forward slashes, no "." or needless
    ".." in it.
    """
    return posixpath.normpath(str(name).replace("\\", "/"))


def inspect_images(
    root: Path, images: Sequence[str], report: Report, progress: Progress = no_progress
) -> dict[str, ImageFacts]:
    """Size and oddities of each image that can be read; the others are reported as
    skipped, oddities counted.
    """

    def inspect(image: str) -> ImageFacts | ImageError:
        if not is_plain(image):
            return ImageError(image, "file name isn't UTF-8")
        try:
            return inspect_image(root / image)
        except ImageError as error:
            return error

    found: dict[str, ImageFacts] = {}
    with ThreadPoolExecutor(4) as pool:
        every = pool.map(inspect, images)
        told = progress(every, total=len(images), unit="image", desc="reading")
        for image, facts in zip(images, told, strict=True):
            if isinstance(facts, ImageError):
                report.skip(shown(image), facts.reason)
            else:
                found[image] = facts
                for note in facts.notes:
                    report.count(note)
    return found


def whole_pixels(corners: np.ndarray) -> np.ndarray:
    """The pixels that boxes touch, [N, 4] float64; zeros for those that aren't
    finite.
    """
    low = np.floor(corners[:, :2] + _WHOLE)
    high = np.ceil(corners[:, 2:] - _WHOLE)
    finite = np.isfinite(corners).all(axis=1, keepdims=True)
    return np.where(finite, np.concatenate([low, high], axis=1), 0)


def table_of_boxes(
    root: Path,
    corners: np.ndarray,
    columns: Mapping[str, Sequence[Any]],
    sizes: Mapping[str, tuple[int, int]],
    report: Report,
) -> CropTable:
    """The crop table of boxes: whole pixels, clipped at the border, without empty or
    repeated ones, each case counted.

    Args:
        root: folder of the images.
        corners: [N, 4] float, left, top, right, bottom in pixels.
        columns: image, label, label_name, split, and any metadata columns, one value a
            box.
        sizes: image -> (width, height).
        report: receives the counts.

    Returns:
        The table, with these columns added: session from the file name (unless given),
        box_width and box_height, touches_border (the plant may be cut off), image_width
        and image_height, and file_bytes, by which a replaced image is noticed.
    """
    images = list(columns["image"])
    size = sizes_of(images, sizes)
    limits = np.tile(size, 2)
    whole = whole_pixels(corners)
    clipped = np.clip(whole, 0, limits).astype(np.int64)
    good = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    report.drop("boxes without area or outside of their image", int((~good).sum()))
    if not good.any():
        raise ValueError(
            f"data must hold boxes that lie in their images; none of {len(good):,} "
            f"does ({root})"
        )
    crosses = np.abs(clipped - whole).max(axis=1, initial=0) > 0
    report.count("boxes that cross the border, clipped", int((good & crosses).sum()))
    at_border = (clipped[:, :2] <= 0) | (clipped[:, 2:] >= size)
    touches = np.asarray(at_border.any(axis=1))
    report.count("boxes that touch the border", int((good & touches).sum()))
    rows = np.flatnonzero(good).tolist()
    ids = [make_crop_id(images[row], clipped[row]) for row in rows]
    report.drop("boxes that repeat another one", len(ids) - len(set(ids)))
    first: dict[str, str] = {}
    names = [columns["label_name"][row] for row in rows]
    pairs = zip(ids, names, strict=True)
    report.count(
        "boxes drawn again under another class: one of the two counts",
        sum(first.setdefault(crop_id, name) != name for crop_id, name in pairs),
    )

    taken: dict[str, list[Any]] = {
        name: [values[row] for row in rows] for name, values in columns.items()
    }
    taken |= dict(zip(SIDES, clipped[rows].T.tolist(), strict=True))
    taken.setdefault("session", [session_of(image) for image in taken["image"]])
    taken["box_width"] = (clipped[rows, 2] - clipped[rows, 0]).tolist()
    taken["box_height"] = (clipped[rows, 3] - clipped[rows, 1]).tolist()
    taken["touches_border"] = touches[rows].tolist()
    taken["image_width"], taken["image_height"] = (
        size[rows, 0].astype(int).tolist(),
        size[rows, 1].astype(int).tolist(),
    )
    file_bytes = {image: (root / image).stat().st_size for image in sizes}
    taken["file_bytes"] = [file_bytes[image] for image in taken["image"]]
    return CropTable.from_columns(root, taken)
