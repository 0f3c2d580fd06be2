"""Photos without boxes, cut into tiles: each tile is a box."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from artifacts.progress import Progress, no_progress
from data.boxes import session_of
from data.formats.base import Annotations
from data.formats.build import called_as_on_disk
from data.images import ImageError, read_image
from data.report import Report
from data.tiles import GREENNESS, Tiling, plant_pixels, share_of


def tiled(
    found: Annotations, tiles: str, report: Report, progress: Progress = no_progress
) -> Annotations:
    """Cuts whole images into tiles. Those of a photo have its class, split and columns,
    and share its recording; their column `greenness` is the share of pixels that are
    green as plants are.

    Args:
        found: objects without boxes.
        tiles: side and overlap in pixels, such as "512" or "512,64".
        report: receives photos that can't be decoded.
        progress: wraps the iteration over photos.

    Raises:
        ValueError: the source has boxes, or tiles isn't of that form.
    """
    tiling = Tiling.parse(tiles)
    if found.boxes is not None:
        raise ValueError(
            f"tiles are for photos without boxes; {found.source} is read as boxes"
        )
    found = called_as_on_disk(found)
    report.seen = report.seen or len(found.images)
    row_of: dict[str, int] = {}
    for row, image in enumerate(found.images):
        row_of.setdefault(image, row)
    report.drop("images that are listed again", len(found.images) - len(row_of))
    rows, boxes, greenness = _cut(found, row_of, tiling, report, progress)
    if not rows:
        raise ValueError(f"data must hold photos; none of {found.source} can be read")
    photos = len(set(rows))
    report.count(f"photos cut into {len(rows):,} tiles", photos)
    report.seen += len(rows) - photos  # from here on each tile is a row
    images = [found.images[row] for row in rows]
    columns: dict[str, list[Any]] = {
        name: [values[row] for row in rows] for name, values in found.columns.items()
    }
    columns.setdefault("session", [session_of(image) or image for image in images])
    labels = found.labels
    return replace(
        found,
        images=images,
        names=[found.names[row] for row in rows],
        splits=[found.splits[row] for row in rows],
        labels=None if labels is None else [labels[row] for row in rows],
        boxes=np.concatenate(boxes).astype(np.float64),
        convention="xyxy",
        columns=columns | {GREENNESS: greenness},
        source_rows=None,
        correctable=False,
    )


def _cut(
    found: Annotations,
    row_of: dict[str, int],
    tiling: Tiling,
    report: Report,
    progress: Progress,
) -> tuple[list[int], list[np.ndarray], list[float]]:
    """Of each tile the photo's row, the boxes by photo, and how green it is."""

    def measure(image: str) -> tuple[np.ndarray, np.ndarray] | ImageError:
        try:
            pixels = np.asarray(read_image(found.root / image))
        except ImageError as error:
            return error
        boxes = tiling.boxes(pixels.shape[1], pixels.shape[0])
        return boxes, share_of(plant_pixels(pixels), boxes)

    rows: list[int] = []
    boxes: list[np.ndarray] = []
    greenness: list[float] = []
    with ThreadPoolExecutor(2) as pool:
        every = progress(
            pool.map(measure, row_of), total=len(row_of), unit="photo", desc="tiles"
        )
        for (image, row), tiles in zip(row_of.items(), every, strict=True):
            if isinstance(tiles, ImageError):
                report.skip(image, tiles.reason)
                report.dropped += 1
                continue
            rows += [row] * len(tiles[0])
            boxes.append(tiles[0])
            greenness += tiles[1].round(4).tolist()
    return rows, boxes, greenness
