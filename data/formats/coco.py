"""COCO detection annotations: a JSON file beside, above or apart from its images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.files import read_text, write_json
from artifacts.progress import Progress
from data.boxes import distinct_names, plain_path
from data.formats.base import Annotations, Format, SourceOptions, is_file_with
from data.formats.writing import Selection, image_sizes, rows_by_image
from data.report import Report


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads a COCO JSON file with images, annotations and categories.

    Annotations with iscrowd = 1 are no single object and are left out. Columns beyond
    the schema: annotation_id, and those of `data.boxes.table_of_boxes`. Paths are
    relative to `options.images`; default: the file's folder, its images/ or its
    parent's images/. `bbox` is xywh in pixels unless `options.boxes` says otherwise.

    Raises:
        ValueError: no COCO file, or images that aren't there.
    """
    path = Path(data)
    stated, names, every = _content(path)
    annotations = [item for item in every if item.get("bbox")]
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
    files = [item["file_name"] for item in stated.values()]
    order = {category: place for place, category in enumerate(names)}
    called = distinct_names(names)
    return Annotations(
        root=_images_root(path, options.images, files),
        source=str(path),
        images=[stated[item["image_id"]]["file_name"] for item in annotations],
        names=[called[item["category_id"]] for item in annotations],
        splits=[""] * len(annotations),
        boxes=_boxes(path, annotations),
        convention=options.boxes or "xywh",
        labels=[order[item["category_id"]] for item in annotations],
        columns={"annotation_id": [str(item.get("id", "")) for item in annotations]},
        stated_sizes={
            item["file_name"]: (
                int(item.get("width") or 0),
                int(item.get("height") or 0),
            )
            for item in stated.values()
        },
    )


_Item = dict[str, Any]


def _content(path: Path) -> tuple[dict[str, _Item], dict[str, str], list[_Item]]:
    """Images by id, category names by id, and annotations; ids are compared as text,
    since files mix 1 and "1".
    """
    try:
        content = json.loads(read_text(path))
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
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"data must be a COCO file with images, annotations and categories; {path} "
            f"isn't: {reason}"
        ) from None
    return stated, names, every


def _boxes(path: Path, annotations: list[_Item]) -> np.ndarray:
    try:
        return np.array([item["bbox"] for item in annotations], np.float64).reshape(
            len(annotations), 4
        )
    except ValueError:
        raise ValueError(
            f"bbox must have four numbers in every annotation of {path}"
        ) from None


def _images_root(path: Path, images_root: str, names: list[str]) -> Path:
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


def write(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """annotations.json; file names are relative to the images' root, which `info`
    names.
    """
    table, classes = selection.table, selection.class_of_all()
    categories = selection.classes
    number = {name: place for place, name in enumerate(categories, 1)}
    sizes, images, annotations = image_sizes(table), [], []
    score = selection.score_of
    for place, (image, rows) in enumerate(
        progress(rows_by_image(table).items(), unit="image", desc="export"), 1
    ):
        width, height = sizes[image]
        images.append(
            {"id": place, "file_name": image, "width": width, "height": height}
        )
        for row in rows:
            left, top, right, bottom = table.boxes[row].tolist()
            if not classes[row]:
                continue  # no class: COCO has no place for it
            box = [left, top, right - left, bottom - top]
            item = {
                "id": row + 1,
                "image_id": place,
                "category_id": number[classes[row]],
                "bbox": box,
                "iscrowd": 0,
            }
            item |= {
                "area": box[2] * box[3],
                "segmentation": [],
                "crop_id": str(table.ids[row]),
            }
            annotations.append(
                item | ({"score": round(score[row], 6)} if row in score else {})
            )
    report.count("boxes of no class", sum(not name for name in classes))
    content = {
        "info": {
            "description": f"class {selection.class_name!r} added",
            "images_root": str(table.root.resolve()),
        },
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number[name], "name": name} for name in categories],
    }
    write_json(folder / "annotations.json", content)


FORMAT = Format(
    name="coco",
    keeps="all boxes, the new class among the categories, crop ids and scores",
    read=read,
    write=write,
    reads="file",
    detect=is_file_with(".json"),
    options=frozenset({"boxes", "box_size", "images"}),
)
