"""LabelMe: a JSON file an image, with the shapes of its objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.files import read_text
from artifacts.progress import Progress
from data.files import distinct_files, shown, subfolders, visible_files
from data.formats.base import Annotations, Format, SourceOptions
from data.formats.beside import ImagesBeside, split_of_folders
from data.report import Report

_AREAS = ("polygon", "rectangle", "circle", "mask")


def is_labelme(root: Path) -> bool:
    """Whether a folder holds LabelMe's files, at the top or one or two below."""
    if not root.is_dir():
        return False
    folders = [root, *subfolders(root)]
    folders += [inner for folder in folders[1:] for inner in subfolders(folder)]
    return any(_has_shapes(folder) for folder in folders)


def _has_shapes(folder: Path) -> bool:
    for path in sorted(folder.glob("*.json"))[:3]:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                first = file.read(4_000_000)  # the picture itself may stand first
        except OSError:
            continue
        if '"shapes"' in first and '"imagePath"' in first:
            return True
    return False


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads a folder of LabelMe's files. Of a rectangle, polygon, circle or mask the
    bounding box is taken; points and lines have no area and are left out.

    Column beyond the schema: group_id, where shapes have one. An image's split is that
    of its folder.

    Raises:
        ValueError: no shape with an area on an image that is there.
    """
    root = Path(data)
    images: list[str] = []
    names: list[str] = []
    boxes: list[list[float]] = []
    groups: list[str] = []
    sizes: dict[str, tuple[int, int]] = {}
    known = ImagesBeside(root)
    for path in progress(_json_files(root), unit="file", desc="reading LabelMe"):
        try:
            content = json.loads(read_text(path))
            shapes = content["shapes"]
            stated = str(content.get("imagePath") or "")
            if not isinstance(shapes, list):
                raise TypeError("shapes must be a list")
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            name = shown(str(path.relative_to(root)))
            report.skip(name, f"not LabelMe's: {' '.join(str(error).split())}")
            continue
        report.seen += len(shapes)
        report.count("annotation files without a box", not shapes)
        image = known.find(path, stated)
        if image is None:
            report.skip(shown(str(path.relative_to(root))), "its image isn't there")
            report.drop("shapes on images that aren't there", len(shapes))
            continue
        size = (content.get("imageWidth"), content.get("imageHeight"))
        if all(isinstance(side, int) and 0 < side < 10**6 for side in size):
            sizes[image] = size
        for shape in shapes:
            box = _box(shape)
            if box is None:
                report.drop("shapes without an area, or damaged")
                continue
            images.append(image)
            label = shape.get("label")
            names.append("" if label is None else str(label))
            boxes.append(box)
            group = shape.get("group_id")
            groups.append("" if group is None else str(group))
    return Annotations(
        root=root,
        source=str(root),
        images=images,
        names=names,
        splits=[split_of_folders(image) for image in images],
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        convention="xyxy",
        columns={"group_id": groups} if any(groups) else {},
        stated_sizes=sizes,
        correctable=False,
    )


def _json_files(root: Path) -> list[Path]:
    every = sorted(visible_files(root))
    return distinct_files(path for path in every if path.suffix.lower() == ".json")


def _box(shape: Mapping[str, Any]) -> list[float] | None:
    """Bounding box of a shape, [left, top, right, bottom]; None where it has no
    area.
    """
    try:
        kind = shape.get("shape_type") or "polygon"
        points = np.array(shape["points"], np.float64)
        if kind not in _AREAS or points.ndim != 2 or points.shape[1] != 2:
            return None
        if kind == "circle":  # its center, and a point on it
            center, radius = points[0], np.linalg.norm(points[1] - points[0])
            points = np.stack([center - radius, center + radius])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None
    if len(points) < 2:
        return None
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


FORMAT = Format(
    name="labelme",
    keeps="",
    read=read,
    detect=is_labelme,
    options=frozenset({"box_size"}),
)
