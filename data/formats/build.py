"""From what a source states to a crop table: the one place where sizes and conventions
are checked, and what is dropped is counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from artifacts.progress import Progress, no_progress
from data.boxes import read_sizes, scaled_corners, sizes_of, table_of_boxes
from data.crop_table import UNLABELLED, CropTable
from data.formats.base import Annotations
from data.report import Report


def build_table(
    found: Annotations,
    report: Report,
    *,
    box_size: str = "",
    progress: Progress = no_progress,
) -> CropTable:
    """Checks annotations against their images and makes the crop table.

    Args:
        found: what the source states.
        report: receives what is left out or mended.
        box_size: "WIDTHxHEIGHT" of the images that the boxes were drawn on, where the
            files have another size.
        progress: wraps the iteration over images.

    Raises:
        ValueError: no object on an image that can be read, boxes that don't fit, or
            images of another size than the source states.
    """
    drawn_on = _parse_size(box_size)
    distinct = list(dict.fromkeys(found.images))
    sizes = read_sizes(found.root, distinct, report, progress)
    if drawn_on is None:
        _check_stated(found, sizes)
    if found.check_sizes:
        found.check_sizes(sizes)
    kept = [row for row, image in enumerate(found.images) if image in sizes]
    if found.boxes is not None:
        report.count(
            "boxes on images that can't be read, left out",
            len(found.images) - len(kept),
        )
    if not kept:
        raise ValueError(_nothing(found, len(distinct), report))
    columns = _columns(found, kept)
    images = columns["image"]
    if found.boxes is None:
        return _table_of_whole_images(found, columns, sizes)
    corners = scaled_corners(
        found.boxes[kept],
        found.convention,
        sizes_of(images, sizes),
        box_size=drawn_on,
        source=found.source,
        correctable=found.correctable,
    )
    if found.derive:
        columns |= found.derive(images, corners, sizes)
    return table_of_boxes(found.root, corners, columns, sizes, report)


def _columns(found: Annotations, kept: list[int]) -> dict[str, list[Any]]:
    names = [found.names[row] for row in kept]
    if found.labels is None:
        places = {name: place for place, name in enumerate(sorted(set(names) - {""}))}
        labels = [places.get(name, UNLABELLED) for name in names]
    else:
        labels = [found.labels[row] for row in kept]
    return {
        "image": [found.images[row] for row in kept],
        "label": labels,
        "label_name": names,
        "split": [found.splits[row] for row in kept],
        **{
            name: [values[row] for row in kept]
            for name, values in found.columns.items()
        },
    }


def _table_of_whole_images(
    found: Annotations,
    columns: dict[str, list[Any]],
    sizes: Mapping[str, tuple[int, int]],
) -> CropTable:
    images = columns["image"]
    columns |= {
        "left": [0] * len(images),
        "top": [0] * len(images),
        "right": [sizes[image][0] for image in images],
        "bottom": [sizes[image][1] for image in images],
        # By which a replaced image is noticed.
        "file_bytes": [(found.root / image).stat().st_size for image in images],
    }
    columns.setdefault("session", [""] * len(images))
    return CropTable.from_columns(found.root, columns)


def _check_stated(found: Annotations, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Refuses files whose real size differs from the one that the source states, since
    its boxes belong to the stated one.
    """
    for image, (width, height) in found.stated_sizes.items():
        real = sizes.get(image)
        if real and width and height and real != (width, height):
            turned = (
                " (turned by its EXIF orientation: boxes must be in the upright image)"
                if real == (height, width)
                else ""
            )
            raise ValueError(
                f"images must have the size that {found.source} states; {image} has "
                f"{real[0]} x {real[1]}{turned}, stated is {width} x {height}. If all "
                "were resized alike, give the size the boxes belong to: "
                f'--config=\'{{"box_size": "{width}x{height}"}}\''
            )


def _nothing(found: Annotations, images: int, report: Report) -> str:
    """Why no crop is left."""
    counts = f"; {'; '.join(report.lines())}" if report.counts else ""
    if not found.images:
        return f"data must hold boxes on images; {found.source} has none{counts}"
    first = report.skipped[0]
    reason = f"{first.image}: {first.reason}"
    if found.boxes is None:
        return (
            f"data must be a folder of images; {found.source} holds {images} files, "
            f"none of them readable ({reason}){counts}"
        )
    return (
        f"images must be given: none of the {images} images of {found.source} can be "
        f"read below {found.root} ({reason}){counts}"
    )


def _parse_size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    match = re.fullmatch(r"(\d+)[x,](\d+)", text)
    if not match:
        raise ValueError(
            f"box_size must be WIDTHxHEIGHT, such as 1920x1088; got {text!r}"
        )
    return int(match.group(1)), int(match.group(2))
