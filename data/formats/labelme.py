"""LabelMe: a JSON file an image, with the shapes of its objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.files import read_text
from artifacts.progress import Progress
from data.files import subfolders
from data.formats.base import Annotations, Format, SourceOptions, pixels
from data.formats.beside import AboutImage, Object, gather
from data.report import Report

_LENGTHS = ("Width", "Height")
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
    found = gather(
        Path(data), ".json", _parse, report, progress=progress, what="shapes"
    )
    columns = {
        name: [group or "" for group in every] for name, every in found.columns.items()
    }
    return replace(found, columns=columns)


def _parse(path: Path) -> AboutImage:
    try:
        content = json.loads(read_text(path))
        shapes = content["shapes"]
        stated = str(content.get("imagePath") or "")
        if not isinstance(shapes, list):
            raise TypeError("shapes must be a list")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"not LabelMe's: {reason}") from None
    width, height = (pixels(content.get(f"image{side}")) for side in _LENGTHS)
    return AboutImage(stated, (width, height), [_object(shape) for shape in shapes])


def _object(shape: Mapping[str, Any]) -> Object:
    box = _box(shape)
    if box is None:
        return Object("", None)
    label, group = shape.get("label"), shape.get("group_id")
    columns = {} if group is None else {"group_id": str(group)}
    return Object("" if label is None else str(label), box, columns)


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
