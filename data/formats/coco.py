"""COCO detection annotations: a JSON file beside, above or apart from its images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.files import read_text, write_json
from artifacts.progress import Progress
from data.boxes import distinct_names, plain_path
from data.coco_ids import by_id, plain_id
from data.crop_table import plain_name
from data.files import subfolders
from data.formats.base import (
    Annotations,
    Format,
    NoImagesError,
    SourceOptions,
    folder_of_most,
    is_file_with,
    joined,
    last_word,
    pixels,
    split_named,
)
from data.formats.writing import Selection, image_sizes, rows_by_image, split_of_images
from data.report import Report


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads COCO JSON with images, annotations and categories: a file, or a folder with
    several, such as one a split.

    Annotations with iscrowd = 1 are no single object and are left out, unless
    `options.crowds` keeps them or there are no others (some tools write every mask so).
    Columns beyond the schema: annotation_id, score where there is one, and those of
    `data.boxes.table_of_boxes`. Paths are relative to `options.images`; default: the
    file's folder, its images/, its parent's images/ or what `info` names. `bbox` is
    xywh in pixels unless `options.boxes` says otherwise. An image's split is what it
    states, otherwise what the file's name or folder says, where there are several.

    Raises:
        ValueError: no COCO file, ids that stand for several things, or images that
            aren't there.
    """
    path = Path(data)
    if path.is_dir():
        files = annotation_files(path)
        return joined(
            files, path, report, lambda part: _read_file(part, options, report)
        )
    return _read_file(path, options, report)


def annotation_files(root: Path) -> list[Path]:
    """COCO files of a folder: *.coco.json or instances_*.json in it, in its folders or
    in annotations/.
    """
    return [
        path
        for folder in (root, *subfolders(root))
        for path in sorted(folder.glob("*.json"))
        if path.name.endswith(".coco.json") or path.name.startswith("instances_")
    ]


def is_coco(path: Path) -> bool:
    """Whether a JSON file names what COCO files hold; they may be large."""
    wanted = {'"images"', '"annotations"', '"categories"'}
    tail = ""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            while wanted and (block := file.read(1_000_000)):
                text = tail + block
                wanted = {word for word in wanted if word not in text}
                tail = block[-20:]
    except OSError:
        return False
    return len(wanted) <= 1


@dataclass(frozen=True)
class _Image:
    """An image that the file lists; a size of 0 x 0 isn't stated."""

    file: str
    size: tuple[int, int]
    split: str


@dataclass(frozen=True)
class _Box:
    """An annotation with a box, by the ids of its image and category."""

    place: int  # among all annotations, as the file has them
    id: str
    image: str
    category: str
    bbox: tuple[float, ...]
    is_crowd: bool
    score: float | None


@dataclass(frozen=True)
class _Content:
    """A COCO file; categories by id, as they are called."""

    images: dict[str, _Image]
    categories: dict[str, str]
    boxes: list[_Box]
    root: str  # of the images, where it says so


def _read_file(path: Path, options: SourceOptions, report: Report) -> Annotations:
    content = _content(path, report)
    boxes = _objects(content, options.crowds, report)
    with_boxes = {box.image for box in boxes}
    report.count("images without annotations", len(set(content.images) - with_boxes))
    images = [content.images[box.image] for box in boxes]
    # Some exports have a category above all others, of the same name as one.
    used = {box.category for box in boxes}
    called = distinct_names(
        {key: content.categories[key] for key in content.categories if key in used}
    )
    order = {category: place for place, category in enumerate(content.categories)}
    columns: dict[str, list[Any]] = {"annotation_id": [box.id for box in boxes]}
    if any(box.score is not None for box in boxes):
        columns["score"] = [box.score for box in boxes]
    listed = content.images.values()
    files = [image.file for image in listed]
    return Annotations(
        root=_images_root(path, options.images, files, content.root),
        source=str(path),
        images=[image.file for image in images],
        names=[called[box.category] for box in boxes],
        splits=[image.split for image in images],
        boxes=np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4),
        convention=options.boxes or "xywh",
        labels=[order[box.category] for box in boxes],
        columns=columns,
        source_rows=[box.place for box in boxes],
        stated_sizes={one.file: one.size for one in listed if all(one.size)},
    )


def _objects(content: _Content, crowds: bool, report: Report) -> list[_Box]:
    """The annotations that are one object each, on a listed image and of a listed
    category.
    """
    boxes = content.boxes
    known = [
        box
        for box in boxes
        if box.image in content.images and box.category in content.categories
    ]
    report.drop(
        "annotations of an image or category that the file doesn't list",
        len(boxes) - len(known),
    )
    if crowds or all(box.is_crowd for box in known):
        count = sum(box.is_crowd for box in known)
        report.count("crowd annotations (iscrowd), read as single objects", count)
        return known
    single = [box for box in known if not box.is_crowd]
    report.drop(
        "crowd annotations (iscrowd), which the setting crowds keeps",
        len(known) - len(single),
    )
    return single


def _content(path: Path, report: Report) -> _Content:
    try:
        content = json.loads(read_text(path))
        if isinstance(content, list):
            raise TypeError("it is a list, as results are, which go to --predictions")
        images = {
            key: _Image(
                plain_path(item["file_name"]),
                (pixels(item.get("width")), pixels(item.get("height"))),
                _split(item.get("split")),
            )
            for key, item in by_id(content["images"], "images", "file_name").items()
        }
        categories = {
            key: plain_name(str(item["name"]))
            for key, item in by_id(content["categories"], "categories", "name").items()
        }
        every = content["annotations"]
        if not isinstance(every, list):
            raise TypeError("annotations must be a list")
        report.seen += len(every)
        boxes = [box for place, item in enumerate(every) if (box := _box(place, item))]
        info = content.get("info") or {}
        root = str(info.get("images_root") or "") if isinstance(info, dict) else ""
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
    ) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"data must be a COCO file with images, annotations and categories; {path} "
            f"isn't: {reason}"
        ) from None
    report.drop("annotations without a box", len(every) - len(boxes))
    return _Content(images, categories, boxes, root)


def _split(stated: object) -> str:
    return split_named(str(stated or "")) or str(stated or "").strip()


def _box(place: int, item: Mapping[str, Any]) -> _Box | None:
    try:
        sides = tuple(float(side) for side in item["bbox"])
        image, category = plain_id(item["image_id"]), plain_id(item["category_id"])
    except (TypeError, ValueError, KeyError):
        return None
    if len(sides) != 4:
        return None
    score = item.get("score")
    is_crowd = str(item.get("iscrowd", 0)).strip().lower() in ("1", "1.0", "true")
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    sure = float(str(score)) if is_number else None
    number = str(item.get("id", ""))
    return _Box(place, number, image, category, sides, is_crowd, sure)


def _images_root(
    path: Path, images_root: str, names: list[str], stated: str = ""
) -> Path:
    """The folder that holds most of the first images: of those beside the file, the one
    of its split, what it states itself, or what the user says.

    Raises:
        NoImagesError: none holds any.
    """
    split = last_word(path)
    above = [Path(images_root)] if images_root else [path.parent, path.parent.parent]
    choices = [
        folder / part
        for folder in above
        for part in (split, f"images/{split}", "", "images", "data")
    ]
    if images_root:
        choices.sort(key=lambda folder: folder != Path(images_root))
    elif stated:
        choices.insert(0, Path(stated))
    found = folder_of_most(choices, names)
    if found is None and images_root and names:
        found = Path(images_root)  # each image is reported
    if found is not None:
        return found
    tried = ", ".join(str(folder) for folder in choices)
    raise NoImagesError(
        f"images must be given: none of the first file names of {path}, such as "
        f"{names[:1]}, lies in {tried}. The setting is "
        '--config=\'{"images": "<folder>"}\''
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
    score, splits = selection.score_of, split_of_images(table, report)
    for place, (image, rows) in enumerate(
        progress(rows_by_image(table).items(), unit="image", desc="export"), 1
    ):
        width, height = sizes[image]
        stated = {"id": place, "file_name": image, "width": width, "height": height}
        split = splits[image]
        images.append(stated | ({"split": split} if split else {}))
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
                # The box as a polygon: pycocotools makes no mask of an empty list.
                "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
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
    reads=("file", "folder"),
    detect=lambda path: (
        is_file_with(".json")(path) or (path.is_dir() and bool(annotation_files(path)))
    ),
    options=frozenset({"boxes", "box_size", "images", "crowds", "numbered"}),
)
