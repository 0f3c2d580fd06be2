"""Any tensorflow-datasets image set as a source: `--data=tfds:NAME`, classification or detection.

The images are taken out of the data set's records once, byte for byte, into a folder beside it, since everything after the
crop table works on image files: each is decoded once however many boxes it holds, and can be looked at.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from data.boxes import ADDED_COLUMNS, Progress, check_convention, no_progress, table_of_boxes
from data.crop_table import SCHEMA, UNLABELLED, CropTable
from data.files import check_writable, write_atomically, write_json
from data.images import ImageError, read_size
from data.report import Report

_PNG = b"\x89PNG"
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def read_tfds(name: str, data_dir: str | Path | None = None, progress: Progress = no_progress) -> tuple[CropTable, Report]:
    """Reads a tensorflow-datasets set as a crop table; it is downloaded and prepared first where it isn't there yet.

    Labelled boxes become crops; without boxes the whole image is the crop. Images whose split has another name than train,
    validation or test keep no split.

    Args:
        name: as `tfds.load` takes it, such as "plant_village", "coco/2017", "crop_and_weed/Fine24:1.0.0".
        data_dir: of tensorflow-datasets; default: its own, ~/tensorflow_datasets.
        progress: wraps the iteration over images.

    Raises:
        ValueError: no such set, no image in it, or it can't be prepared; the message says what tensorflow-datasets said.
    """
    import tensorflow_datasets as tfds  # loads TensorFlow when examples are read

    import data.crop_and_weed_tfds  # noqa: F401  registers crop_and_weed

    try:
        builder = tfds.builder(name, data_dir=str(data_dir) if data_dir else None)
        builder.download_and_prepare()
    except Exception as error:  # whatever a builder of others raises
        raise ValueError(f"data must name a tensorflow-datasets set; {name!r} can't be prepared: {_short(error)}") from None
    image_key = _first(builder.info.features, tfds.features.Image)
    if image_key is None:
        raise ValueError(f"data must name a set of images; the features of {name!r} are {', '.join(builder.info.features)}")
    root = Path(builder.data_dir) / "images"
    check_writable(root, "tfds images", int(builder.info.dataset_size or 0))
    index = root / "index.json"
    examples = json.loads(index.read_text()) if index.is_file() else _extract(builder, image_key, root, progress)
    if not index.is_file():
        write_json(index, examples)
    return _table(root, examples, _class_names(builder, tfds), _convention(builder, tfds))


def _short(error: Exception) -> str:
    """The beginning of a message: tensorflow-datasets lists every set it knows."""
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:300] + " ..."


def _first(features: Any, kind: type) -> str | None:
    return next((key for key, feature in features.items() if isinstance(feature, kind)), None)


def _boxes_of(features: Any, tfds: Any) -> tuple[str, str, str | None] | None:
    """Where boxes are: key of the sequence, of the box in it, and of the class label in it."""
    for key, feature in features.items():
        inner = getattr(feature, "feature", None)
        if isinstance(feature, tfds.features.Sequence) and hasattr(inner, "items"):
            box = _first(inner, tfds.features.BBoxFeature)
            if box:
                return key, box, _first(inner, tfds.features.ClassLabel)
    return None


def _class_names(builder: Any, tfds: Any) -> list[str]:
    features = builder.info.features
    boxes = _boxes_of(features, tfds)
    holder, key = (features[boxes[0]].feature, boxes[2]) if boxes else (features, _first(features, tfds.features.ClassLabel))
    return list(holder[key].names) if key else []


def _extract(builder: Any, image_key: str, root: Path, progress: Progress) -> list[dict[str, Any]]:
    """Writes every image as a file and returns what is known of it: path, split, labels, boxes."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    boxes, scalars = _boxes_of(features, tfds), _scalars(features)
    label_key = None if boxes else _first(features, tfds.features.ClassLabel)
    examples: list[dict[str, Any]] = []
    for split, info in builder.info.splits.items():
        dataset = builder.as_dataset(split=split, decoders={image_key: tfds.decode.SkipDecoding()}, shuffle_files=False)
        examples_of_split = progress(tfds.as_numpy(dataset), total=info.num_examples, unit="image", desc=f"extracting {split}")
        for number, example in enumerate(examples_of_split):
            content = bytes(example[image_key])
            path = f"{split}/{number:07d}{'.png' if content[:4] == _PNG else '.jpg'}"
            (root / split).mkdir(exist_ok=True)
            if not (root / path).is_file():
                write_atomically(root / path, lambda file, content=content: file.write(content))  # type: ignore[misc]
            found: dict[str, Any] = {"image": path, "split": SPLITS.get(split, ""), "boxes": None}
            if boxes:
                objects = example[boxes[0]]
                found["boxes"] = np.asarray(objects[boxes[1]], float).reshape(-1, 4).tolist()
                found["labels"] = [int(label) for label in objects[boxes[2]]] if boxes[2] else [UNLABELLED] * len(found["boxes"])
            else:
                found["labels"] = [int(example[label_key])] if label_key else [UNLABELLED]
            found["metadata"] = {key: _plain(features[key], example[key]) for key in scalars if key != label_key}
            if boxes:
                inner = features[boxes[0]].feature
                of_objects = [key for key in _scalars(inner) if key != boxes[2]]
                found["object_metadata"] = {
                    key: [_plain(inner[key], value) for value in example[boxes[0]][key]] for key in of_objects
                }
            examples.append(found)
    return examples


def _scalars(features: Any) -> list[str]:
    """Names of the features that hold one number, text or class each."""
    return [key for key, feature in features.items() if getattr(feature, "shape", None) == ()]


def _plain(feature: Any, value: Any) -> Any:
    """A scalar as JSON has it: text, number, or the name of a class."""
    if hasattr(feature, "int2str") and int(value) >= 0:
        return str(feature.int2str(int(value)))
    value = np.asarray(value).item()
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _convention(builder: Any, tfds: Any) -> str:
    """The set's box convention, in our names; REL_YXYX where it states none."""
    boxes = _boxes_of(builder.info.features, tfds)
    stated = boxes and getattr(builder.info.features[boxes[0]].feature[boxes[1]], "bbox_format", None)
    name = getattr(stated, "name", str(stated or "REL_YXYX")).upper().replace("CENTER_XYWH", "CXCYWH")
    return name.removeprefix("REL_").lower() + ("_relative" if name.startswith("REL_") else "")


def _table(root: Path, examples: list[dict[str, Any]], names: list[str], convention: str) -> tuple[CropTable, Report]:
    report = Report()
    report.count("images without a box", sum(example["boxes"] == [] for example in examples))
    sizes: dict[str, tuple[int, int]] = {}
    columns: dict[str, list[Any]] = {"image": [], "label": [], "label_name": [], "split": []}
    metadata: list[dict[str, Any]] = []
    boxes: list[list[float]] = []
    for example in examples:
        try:
            sizes[example["image"]] = read_size(root / example["image"])
        except ImageError as error:
            report.skip(example["image"], error.reason)
            continue
        whole = [0, 0, 1, 1] if convention.endswith("_relative") else [0, 0, *sizes[example["image"]]]
        own = example.get("object_metadata", {})
        for place, (box, label) in enumerate(
            zip([whole] if example["boxes"] is None else example["boxes"], example["labels"], strict=True)
        ):
            metadata.append({**example["metadata"], **{key: values[place] for key, values in own.items()}})
            columns["image"].append(example["image"])
            columns["split"].append(example["split"])
            columns["label"].append(label)
            columns["label_name"].append(names[label] if 0 <= label < len(names) else "")
            boxes.append(box)
    size = np.array([sizes[image] for image in columns["image"]], np.float64).reshape(-1, 2)
    corners = check_convention(np.array(boxes).reshape(-1, 4), convention, size, str(root))
    columns |= {side: corners[:, place].tolist() for place, side in enumerate(("left", "top", "right", "bottom"))}
    taken = {*SCHEMA.names, *columns, *ADDED_COLUMNS} - {"session"}
    for key in sorted({key for row in metadata for key in row}):
        if key.lower() not in taken:
            columns[key] = [row.get(key) for row in metadata]
    columns["session"] = [str(name or "") for name in columns.get("session", [""] * len(metadata))]
    return table_of_boxes(root, columns, sizes, report), report
