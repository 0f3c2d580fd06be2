"""Reads COCO detection annotations: a JSON file beside, above or apart from its
images.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.files import read_text
from artifacts.progress import Progress, no_progress
from data.boxes import (
    distinct_names,
    plain_path,
    read_sizes,
    scaled_corners,
    sizes_of,
    table_of_boxes,
)
from data.crop_table import CropTable
from data.report import Report


def read_coco(
    path: str | Path,
    images_root: str | Path | None = None,
    convention: str = "xywh",
    box_size: tuple[int, int] | None = None,
    progress: Progress = no_progress,
) -> tuple[CropTable, Report]:
    """Reads a COCO JSON file with images, annotations and categories as a crop table.

    Annotations with iscrowd = 1 are no single object and are left out. Columns beyond
    the schema: annotation_id, and those of `data.boxes.table_of_boxes`.

    Args:
        path: the JSON file.
        images_root: the folder that file_name is relative to; default: the file's
            folder, its images/ or its parent's images/.
        convention: of `bbox`; COCO's own is xywh in pixels.
        box_size: width and height of the images that the boxes were drawn on, where the
            files have another size.
        progress: wraps the iteration over images.

    Raises:
        ValueError: no COCO file, no images, boxes that don't fit, or files of another
            size than the JSON states.
    """
    path = Path(path)
    try:
        content = json.loads(read_text(path))
        # Ids are compared as text: files mix 1 and "1".
        stated = {
            str(item["id"]): {**item, "file_name": plain_path(item["file_name"])}
            for item in content["images"]
        }
        names = {str(item["id"]): str(item["name"]) for item in content["categories"]}
        every = [
            {
                **item,
                "image_id": str(item.get("image_id")),
                "category_id": str(item.get("category_id")),
            }
            for item in content["annotations"]
        ]
        annotations = [item for item in every if item.get("bbox")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"data must be a COCO file with images, annotations and categories; {path} "
            f"isn't: {reason}"
        ) from None
    report = Report()
    report.count("annotations without a box, left out", len(every) - len(annotations))
    crowds = [item for item in annotations if item.get("iscrowd")]
    report.count("crowd annotations (iscrowd), left out", len(crowds))
    lost = [
        item
        for item in annotations
        if item["image_id"] not in stated or item["category_id"] not in names
    ]
    report.count(
        "annotations of an image or category that the file doesn't list, left out",
        len(lost),
    )
    dropped = {id(item) for item in [*crowds, *lost]}
    annotations = [item for item in annotations if id(item) not in dropped]
    report.count(
        "images without annotations",
        len(set(stated) - {item["image_id"] for item in annotations}),
    )

    root = _images_root(
        path, images_root, [item["file_name"] for item in stated.values()]
    )
    used = sorted({stated[item["image_id"]]["file_name"] for item in annotations})
    sizes = read_sizes(root, used, report, progress)
    if box_size is None:
        _check_sizes(path, stated, sizes)
    annotations = [
        item for item in annotations if stated[item["image_id"]]["file_name"] in sizes
    ]
    if not annotations:
        found = "; ".join(
            [
                f"{len(every)} annotations, {len(used)} images with a box below {root}",
                *report.lines(),
            ]
        )
        raise ValueError(
            f"data must hold boxes on images that can be read; {path} has none "
            f"({found})"
        )
    images = [stated[item["image_id"]]["file_name"] for item in annotations]
    try:
        boxes = np.array([item["bbox"] for item in annotations], np.float64).reshape(
            len(annotations), 4
        )
    except ValueError:
        raise ValueError(
            f"bbox must have four numbers in every annotation of {path}"
        ) from None
    corners = scaled_corners(
        boxes, convention, sizes_of(images, sizes), box_size, str(path)
    )
    order = {category: place for place, category in enumerate(names)}
    names = distinct_names(names)
    columns: dict[str, list[Any]] = {"image": images}
    columns["label"] = [order[item["category_id"]] for item in annotations]
    columns["label_name"] = [names[item["category_id"]] for item in annotations]
    columns["split"] = [""] * len(annotations)
    columns["annotation_id"] = [str(item.get("id", "")) for item in annotations]
    return table_of_boxes(root, corners, columns, sizes, report), report


def _images_root(path: Path, images_root: str | Path | None, names: list[str]) -> Path:
    if images_root:
        return Path(images_root)
    choices = (
        path.parent,
        path.parent / "images",
        path.parent.parent / "images",
        path.parent.parent,
    )
    for folder in choices:
        if any((folder / name).is_file() for name in names[:100]):
            return folder
    tried = ", ".join(str(folder) for folder in choices)
    raise ValueError(
        f"images must be given: none of the first file names of {path}, such as "
        f"{names[:1]}, lies in {tried}"
    )


def _check_sizes(
    path: Path, stated: dict[Any, dict[str, Any]], sizes: dict[str, tuple[int, int]]
) -> None:
    """Refuses files whose real size differs from the one that the JSON states, since
    its boxes belong to the stated one.
    """
    for item in stated.values():
        real, width, height = (
            sizes.get(item["file_name"]),
            int(item.get("width") or 0),
            int(item.get("height") or 0),
        )
        if real and width and height and real != (width, height):
            turned = (
                " (turned by its EXIF orientation: boxes must be in the upright image)"
                if real == (height, width)
                else ""
            )
            raise ValueError(
                f"images must have the size that {path} states; {item['file_name']} "
                f"has {real[0]} x {real[1]}{turned}, stated is "
                f"{width} x {height}. If all were resized alike, give the size the "
                f"boxes belong to: --box_size={width}x{height}"
            )
