"""A model's predictions beside the crop table, as columns that can be filtered by:
where does it confuse what with what?
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from artifacts.files import read_text
from data.boxes import plain_path, whole_pixels
from data.coco_ids import by_id, plain_id
from data.crop_table import SIDES, CropTable, plain_name
from data.formats.csv import read_columns

_log = logging.getLogger(__name__)
PREDICTED, SCORE = "predicted", "predicted_score"
# Intersection over union from which a predicted box is taken for a crop's.
OVERLAP = 0.5
_NAMES = ("predicted", "prediction", "predicted_label", "pred", "label", "class")
_SCORES = ("predicted_score", "score", "confidence", "probability")


def with_predictions(table: CropTable, path: str | Path) -> CropTable:
    """Adds the columns `predicted` (str, "" where nothing was predicted) and
    `predicted_score` (float, null there).

    A CSV has one row a crop: `crop_id`, or `image` (whole images, or with left, top,
    right, bottom), then `predicted` and, where known, `score`. A JSON file is of COCO
    results (a list of image_id, category_id, bbox, score); each crop takes the box that
    overlaps it most, if by half or more (intersection over union), and of equal ones
    the surest. What their ids mean is said by a COCO file (images, categories) in the
    same folder, or by the file itself; without one, image_id must be the image's path
    or file name, with or without its ending, and category_id is taken for the label id
    of the crops' source.

    Args:
        table: the crops.
        path: .csv or .json.

    Raises:
        ValueError: the file isn't as described, or no row of it belongs to any crop.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"predictions must be a .csv or .json file; there is no file {str(path)!r}"
        )
    rows = (
        _from_csv(table, path)
        if path.suffix.lower() == ".csv"
        else _from_coco(table, path)
    )
    if not rows:
        raise ValueError(
            f"predictions must be about crops of this set; no row of {str(path)!r} is"
        )
    names = [rows[row][0] if row in rows else "" for row in range(len(table))]
    scores = [rows[row][1] if row in rows else None for row in range(len(table))]
    found = table.with_column(PREDICTED, pa.array(names, pa.string()))
    return found.with_column(SCORE, pa.array(scores, pa.float64()))


def confusions(table: CropTable) -> list[tuple[str, str, int]]:
    """(label, predicted, crops) of every pair that differs, most frequent first; the
    label is "" for unlabelled crops.
    """
    pairs = Counter(
        zip(table.column("label_name"), table.column(PREDICTED), strict=True)
    )
    wrong = [
        (label, name, count)
        for (label, name), count in pairs.items()
        if name and name != label
    ]
    return sorted(wrong, key=lambda item: (-item[2], item[0], item[1]))


def _from_csv(table: CropTable, path: Path) -> dict[int, tuple[str, float | None]]:
    try:
        stated = read_columns(path)
    except ValueError as error:
        raise ValueError(
            f"predictions must be a CSV file with a header: {error}"
        ) from None
    columns = {name.strip().lower(): values for name, values in stated.items()}
    name = next((name for name in _NAMES if name in columns), None)
    if name is None or not ({"crop_id", "image"} & set(columns)):
        raise ValueError(
            "predictions must have the columns crop_id (or image) and predicted; "
            f"{str(path)!r} has {', '.join(stated)}"
        )
    count = len(columns[name])
    texts = next(
        (columns[found] for found in _SCORES if found in columns), [""] * count
    )
    scores = [_score(text, path) for text in texts]
    rows: dict[int, tuple[str, float | None]] = {}
    places = _places(table, columns, str(path))
    for place, value, sure in zip(places, columns[name], scores, strict=True):
        if place is None or not value:
            continue
        known = rows.get(place)
        if known is None or (sure or 0.0) > (known[1] or 0.0):  # the surer of two
            rows[place] = (plain_name(value), sure)
    lost = places.count(None)
    if lost and rows:
        _log.warning("%d of %d predictions are on no crop of this set", lost, count)
    return rows


def _score(text: str, path: Path) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise ValueError(
            f"predictions must have numbers as scores; {str(path)!r} has {text!r}"
        ) from None


def _places(
    table: CropTable, columns: Mapping[str, Sequence[str]], path: str
) -> list[int | None]:
    """The row of each prediction, None where the set has no such crop."""
    if "crop_id" in columns:
        return [table.row_of(crop_id.strip()) for crop_id in columns["crop_id"]]
    images = [plain_path(image.strip()) for image in columns["image"]]
    if all(side in columns for side in SIDES):
        of_box = {
            (image, *box): row
            for row, (image, box) in enumerate(
                zip(table.column("image"), table.boxes.tolist(), strict=True)
            )
        }
        sides = [columns[side] for side in SIDES]
        boxes = [_whole_box(box, path) for box in zip(*sides, strict=True)]
        found = zip(images, boxes, strict=True)
        return [
            next((of_box[image, *box] for box in few if (image, *box) in of_box), None)
            for image, few in found
        ]
    counts = Counter(table.column("image"))
    crowded = next((image for image in images if counts[image] > 1), None)
    if crowded:
        raise ValueError(
            f"predictions must name crops by crop_id or by box; image {crowded!r} of "
            f"{path!r} has {counts[crowded]} crops"
        )
    of_image = {image: row for row, image in enumerate(table.column("image"))}
    return [of_image.get(image) for image in images]


def _whole_box(box: Sequence[str], path: str) -> list[tuple[int, ...]]:
    """A box in whole pixels: as a crop's is made of it, and rounded; nothing where it
    is empty.
    """
    if not all(box):
        return []
    try:
        corners = np.array([[float(side) for side in box]])
    except ValueError:
        raise ValueError(
            f"predictions must have numbers as boxes; {path!r} has {', '.join(box)}"
        ) from None
    if not np.isfinite(corners).all():
        return []
    found = (whole_pixels(corners)[0], corners[0].round())
    return [tuple(int(side) for side in one) for one in found]


@dataclass(frozen=True)
class _Result:
    """A predicted box, by ids: [left, top, width, height] in pixels."""

    image: str
    category: str
    box: tuple[float, ...]
    score: float | None


@dataclass(frozen=True)
class _Stated:
    """What ids stand for: image -> file, category -> name."""

    files: Mapping[str, str]
    names: Mapping[str, str]


def _from_coco(table: CropTable, path: Path) -> dict[int, tuple[str, float | None]]:
    try:
        content = json.loads(read_text(path))
        listed = content["annotations"] if isinstance(content, dict) else content
        every = [_result(item) for item in listed]
        results = [one for one in every if np.isfinite(one.box).all()]
        if isinstance(content, dict) and "images" in content:
            stated = _ids_of(content)
        else:
            stated = _beside(path, {one.image for one in results})
            numbered = all(isinstance(item["image_id"], int | float) for item in listed)
            if not stated.files and results and numbered:
                raise ValueError(
                    "its image_id are numbers, which say nothing without the COCO file "
                    "(images, categories) they belong to; put it beside"
                )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            "predictions must be COCO results (image_id, category_id, bbox, score); "
            f"{str(path)!r} isn't: {reason}"
        ) from None
    names = stated.names or _category_names(table)
    called = {one.image: stated.files.get(one.image, one.image) for one in results}
    # All that the file lists count: a name that two of them share tells nothing.
    files = {*stated.files.values(), *called.values()}
    image_of = same_images(table.column("image"), files)
    by_image: dict[str, list[_Result]] = {}
    for one in results:
        image = image_of.get(called[one.image])
        if image is not None:
            by_image.setdefault(image, []).append(one)
    lost = len(results) - sum(map(len, by_image.values()))
    if lost:
        _log.warning(
            "%d of %d predictions are on images that this set hasn't, or that can't be "
            "told apart by their names",
            lost,
            len(results),
        )
    rows: dict[int, tuple[str, float | None]] = {}
    for row, image in enumerate(table.column("image")):
        best = _best(table.boxes[row], by_image.get(image, []))
        if best is not None:
            rows[row] = (names.get(best.category, best.category), best.score)
    return rows


def _result(item: Mapping[str, Any]) -> _Result:
    image, category = plain_id(item["image_id"]), plain_id(item["category_id"])
    box = tuple(float(side) for side in item["bbox"])
    if len(box) != 4:
        raise ValueError("a bbox has other than four numbers")
    score = item.get("score")
    return _Result(
        image,
        category,
        box,
        None if score is None else float(score),
    )


def _best(box: np.ndarray, given: Sequence[_Result]) -> _Result | None:
    """The one that overlaps a box most, if by half; of equal ones the surest."""

    def overlapped(one: _Result) -> float:
        x, y, width, height = one.box
        return round(overlap(box, (x, y, x + width, y + height)), 6)

    best = max(given, key=lambda one: (overlapped(one), one.score or 0.0), default=None)
    return best if best is not None and overlapped(best) >= OVERLAP else None


def same_images(known: Iterable[str], stated: Iterable[str]) -> dict[str, str]:
    """Which image each stated file is: the one of that path, or the only one whose path
    ends as the other's does, for both of them; the file's ending may be missing.

    Frames of several cameras are called alike: left/0001.png isn't right/0001.png.
    """
    known, stated = set(known), set(stated)
    ends: dict[tuple[str, ...], set[str]] = {}
    for image in known:
        for end in _ends(image):
            ends.setdefault(end, set()).add(image)
    found: dict[str, str] = {}
    claimed: dict[str, set[str]] = {}
    for file in stated:
        images = {file} & known or _candidates(file, ends)
        if len(images) == 1:
            (image,) = images
            found[file] = image
            claimed.setdefault(image, set()).add(file)
    return {
        file: image
        for file, image in found.items()
        if file == image or (len(claimed[image]) == 1 and image not in stated)
    }


def _wholes(path: str) -> set[tuple[str, ...]]:
    """The parts of a path, with and without the file's ending."""
    plain = PurePosixPath(path)
    return {plain.parts, (*plain.parts[:-1], plain.stem)}


def _ends(path: str) -> Iterator[tuple[str, ...]]:
    """All ends of a path by its parts, with and without the file's ending."""
    for parts in _wholes(path):
        for start in range(len(parts)):
            yield parts[start:]


def _candidates(file: str, ends: Mapping[tuple[str, ...], set[str]]) -> set[str]:
    """Images whose path ends as the file's, or the other way round."""
    whole = PurePosixPath(file).parts
    shorter = ends.get(whole, set())
    longer = {
        image
        for end in _ends(file)
        for image in ends.get(end, ())
        if end in _wholes(image)
    }
    return shorter | longer


def _ids_of(content: Mapping[str, Any]) -> _Stated:
    images = by_id(content["images"], "images", "file_name")
    categories = by_id(content["categories"], "categories", "name")
    return _Stated(
        {key: plain_path(item["file_name"]) for key, item in images.items()},
        {key: plain_name(str(item["name"])) for key, item in categories.items()},
    )


def _beside(path: Path, image_ids: set[str]) -> _Stated:
    """The COCO file that results were made for: one in the same folder whose images
    have all of their ids.

    Raises:
        ValueError: there is none, or several that mean different things.
    """
    found: dict[str, _Stated] = {}
    for other in sorted(path.parent.glob("*.json")):
        try:
            content = json.loads(read_text(other)) if other != path else None
            stated = _ids_of(content) if isinstance(content, dict) else None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if stated and stated.names and image_ids <= stated.files.keys():
            found[other.name] = stated
    meanings = {
        (
            tuple(stated.files[name] for name in sorted(image_ids)),
            tuple(sorted(stated.names.items())),
        )
        for stated in found.values()
    }
    if len(meanings) > 1:
        raise ValueError(
            f"several files beside it have these image ids ({', '.join(found)}) and "
            "mean different images: put it into a folder with the one it belongs to"
        )
    if found:
        return next(iter(found.values()))
    return _Stated({}, {})


def overlap(first: Sequence[float] | np.ndarray, second: Sequence[float]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return float(width * height / (areas[0] + areas[1] - width * height))


def _category_names(table: CropTable) -> dict[str, str]:
    """Names of the categories that the source of the crops had: its label ids."""
    source = "label_id" if "label_id" in table.rows.column_names else "label"
    pairs = zip(table.column(source), table.column("label_name"), strict=True)
    return {str(int(label)): str(name) for label, name in pairs if name}
