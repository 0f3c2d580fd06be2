"""A model's predictions beside the crop table, as columns that can be filtered by:
where does it confuse what with what?
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from artifacts.files import read_text
from data.boxes import plain_path
from data.crop_table import CropTable

PREDICTED, SCORE = "predicted", "predicted_score"
# Intersection over union from which a predicted box is taken for a crop's.
OVERLAP = 0.5
_NAMES = ("predicted", "prediction", "predicted_label", "pred", "label", "class")
_TEXTS = ("crop_id", "image", *_NAMES)
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
    kept = table.rows.drop_columns(
        [name for name in (PREDICTED, SCORE) if name in table.rows.column_names]
    )
    added = kept.append_column(PREDICTED, pa.array(names, pa.string())).append_column(
        SCORE, pa.array(scores, pa.float64())
    )
    return CropTable(table.root, added)


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
        header = read_text(path).split("\n", 1)[0]
        texts = {
            name.strip().strip('"'): pa.string()
            for name in header.split(",")
            if name.strip().strip('"').lower() in _TEXTS
        }
        # Only what is empty is missing: a class may be called NA.
        convert = pyarrow.csv.ConvertOptions(
            column_types=texts, null_values=[""], strings_can_be_null=True
        )
        stated = pyarrow.csv.read_csv(path, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"predictions must be a CSV file with a header; {str(path)!r} isn't: "
            f"{error}"
        ) from None
    columns = {
        name.strip().lower(): stated.column(name).to_pylist()
        for name in stated.column_names
    }
    name = next((name for name in _NAMES if name in columns), None)
    if name is None or not ({"crop_id", "image"} & set(columns)):
        raise ValueError(
            "predictions must have the columns crop_id (or image) and predicted; "
            f"{str(path)!r} has {', '.join(stated.column_names)}"
        )
    score = next(
        (columns[found] for found in _SCORES if found in columns), [None] * len(stated)
    )
    places = _places(table, columns, str(path))
    wrong = next(
        (
            value
            for value in score
            if value is not None and not isinstance(value, (int, float))
        ),
        None,
    )
    if wrong is not None:
        raise ValueError(
            f"predictions must have numbers as scores; {str(path)!r} has {wrong!r}"
        )
    values = zip(places, columns[name], score, strict=True)
    return {
        place: (str(value), None if sure is None else float(sure))
        for place, value, sure in values
        if place is not None and value
    }


def _places(
    table: CropTable, columns: Mapping[str, Sequence[Any]], path: str
) -> list[int | None]:
    """The row of each prediction, None where the set has no such crop."""
    if "crop_id" in columns:
        row_of = {crop_id: row for row, crop_id in enumerate(table.ids)}
        return [row_of.get(crop_id) for crop_id in columns["crop_id"]]
    images = [plain_path(image) for image in columns["image"]]
    if all(side in columns for side in ("left", "top", "right", "bottom")):
        boxes = list(
            zip(
                *(columns[side] for side in ("left", "top", "right", "bottom")),
                strict=True,
            )
        )
        of_box = {
            (image, *box): row
            for row, (image, box) in enumerate(
                zip(table.column("image"), table.boxes.tolist(), strict=True)
            )
        }
        return [
            of_box.get((image, *(round(value) for value in box)))
            for image, box in zip(images, boxes, strict=True)
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


def _from_coco(table: CropTable, path: Path) -> dict[int, tuple[str, float | None]]:
    try:
        content = json.loads(read_text(path))
        results = content["annotations"] if isinstance(content, dict) else content
        found = [
            (
                item["image_id"],
                item["category_id"],
                [float(side) for side in item["bbox"]],
                item.get("score"),
            )
            for item in results
        ]
        if any(len(box) != 4 for _, _, box, _ in found):
            raise ValueError("a bbox has other than four numbers")
        stated = (
            content
            if isinstance(content, dict) and "images" in content
            else _beside(path, {item[0] for item in found})
        )
        files = {item["id"]: plain_path(item["file_name"]) for item in stated["images"]}
        names = {
            item["id"]: str(item["name"]) for item in stated["categories"]
        } or _category_names(table)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            "predictions must be COCO results (image_id, category_id, bbox, score); "
            f"{str(path)!r} isn't: {reason}"
        ) from None
    image_of: dict[str, str] = {}
    for image in sorted(set(table.column("image"))):
        image_of |= dict.fromkeys((Path(image).stem, Path(image).name, image), image)
    by_image: dict[str, list[tuple[int, list[float], float | None]]] = {}
    for image_id, category, box, score in found:
        file = files.get(image_id, str(image_id))
        image = image_of.get(file, image_of.get(Path(file).name))
        if image is not None:
            by_image.setdefault(image, []).append((category, box, score))
    rows: dict[int, tuple[str, float | None]] = {}
    for row, image in enumerate(table.column("image")):
        given = by_image.get(image, [])
        overlaps = [
            overlap(table.boxes[row], (x, y, x + width, y + height))
            for _, (x, y, width, height), _ in given
        ]
        best = max(
            range(len(given)),
            key=lambda place: (round(overlaps[place], 6), given[place][2] or 0.0),
            default=None,
        )
        if best is not None and overlaps[best] >= OVERLAP:
            category, _, score = given[best]
            rows[row] = (names.get(category, str(category)), score)
    return rows


def _beside(path: Path, image_ids: set[Any]) -> dict[str, Any]:
    """The COCO file that results were made for: one in the same folder whose images
    have all of their ids.
    """
    for other in sorted(path.parent.glob("*.json")):
        try:
            content = json.loads(read_text(other)) if other != path else None
            known = (
                {item["id"] for item in content["images"]}
                if isinstance(content, dict) and content["categories"]
                else set()
            )
        except (ValueError, KeyError, TypeError):
            continue
        if image_ids <= known:
            assert content is not None
            return content
    if any(isinstance(image_id, int) for image_id in image_ids):
        raise ValueError(
            "its image_id are numbers, which say nothing without the COCO file "
            "(images, categories) they belong to; put it beside"
        )
    return {"images": [], "categories": []}


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return float(width * height / (areas[0] + areas[1] - width * height))


def _category_names(table: CropTable) -> dict[int, str]:
    """Names of the categories that the source of the crops had: its label ids."""
    source = "label_id" if "label_id" in table.rows.column_names else "label"
    pairs = zip(table.column(source), table.column("label_name"), strict=True)
    return {int(label): str(name) for label, name in pairs if name}
