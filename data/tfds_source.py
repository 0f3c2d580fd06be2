"""Any tensorflow-datasets image set as a source: `--data=tfds:NAME`, classification or
detection.

The images are taken out of the data set's records once, byte for byte, into a folder
beside it, since everything after the crop table works on image files: each is decoded
once however many boxes it holds, and can be looked at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.files import check_writable, whole_file, write_json
from artifacts.progress import Progress, no_progress
from data.boxes import ADDED_COLUMNS, check_convention, sizes_of, table_of_boxes
from data.crop_table import SCHEMA, UNLABELLED, CropTable
from data.image_folder import SPLITS
from data.images import ImageError, read_size
from data.report import Report

_PNG = b"\x89PNG"


def read_tfds(
    name: str, data_dir: str | Path | None = None, progress: Progress = no_progress
) -> tuple[CropTable, Report]:
    """Reads a tensorflow-datasets set as a crop table; it is downloaded and prepared
    first where it isn't there yet.

    Labelled boxes become crops; without boxes the whole image is the crop. Images whose
    split has another name than those of `data.image_folder.SPLITS` keep no split.

    Args:
        name: as `tfds.load` takes it, such as "plant_village", "coco/2017",
            "crop_and_weed/Fine24:1.0.0".
        data_dir: of tensorflow-datasets; default: its own, ~/tensorflow_datasets.
        progress: wraps the iteration over images.

    Raises:
        ValueError: no such set, no image in it, or it can't be prepared; the message
            says what tensorflow-datasets said.
    """
    import tensorflow_datasets as tfds  # loads TensorFlow when examples are read

    import data.crop_and_weed_tfds  # noqa: F401  registers crop_and_weed

    try:
        builder = tfds.builder(name, data_dir=str(data_dir) if data_dir else None)
        builder.download_and_prepare()
    except Exception as error:  # whatever a builder of others raises
        raise ValueError(
            f"data must name a tensorflow-datasets set; {name!r} can't be prepared: "
            f"{_short(error)}"
        ) from None
    layout = _layout_of(builder.info.features, name)
    root = Path(builder.data_dir) / "images"
    check_writable(root, "tfds images", int(builder.info.dataset_size or 0))
    index = root / "index.json"
    if not index.is_file():
        write_json(index, _extract(builder, layout, root, progress))
    return _table(root, json.loads(index.read_text()), layout)


@dataclass(frozen=True)
class _Layout:
    """Where a set's features are.

    Attributes:
        image: key of the image.
        objects: key of the sequence that holds boxes, "" for a classification set.
        box, label: keys of the box and of the class label, in the sequence where there
            is one; "" where there is none.
        names: class names.
        convention: of the boxes, in the names of `data.boxes.CONVENTIONS`.
    """

    image: str
    objects: str
    box: str
    label: str
    names: list[str]
    convention: str


def _layout_of(features: Any, name: str) -> _Layout:
    """Finds images, boxes and classes by the kind of the features, since every set
    calls them otherwise.
    """
    import tensorflow_datasets as tfds

    image = _first(features, tfds.features.Image)
    if not image:
        raise ValueError(
            f"data must name a set of images; the features of {name!r} are "
            f"{', '.join(features)}"
        )
    objects, box = "", ""
    for key, feature in features.items():
        inner = getattr(feature, "feature", None)
        if (
            isinstance(feature, tfds.features.Sequence)
            and hasattr(inner, "items")
            and _first(inner, tfds.features.BBoxFeature)
        ):
            objects, box = key, _first(inner, tfds.features.BBoxFeature)
            break
    holder = features[objects].feature if objects else features
    label = _first(holder, tfds.features.ClassLabel)
    names = list(holder[label].names) if label else []
    return _Layout(
        image, objects, box, label, names, _convention(holder[box] if box else None)
    )


def _short(error: Exception) -> str:
    """The beginning of a message: tensorflow-datasets lists every set it knows."""
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:300] + " ..."


def _first(features: Any, kind: type) -> str:
    return next(
        (key for key, feature in features.items() if isinstance(feature, kind)), ""
    )


def _extract(
    builder: Any, layout: _Layout, root: Path, progress: Progress
) -> list[dict[str, Any]]:
    """Writes every image as a file and returns what is known of it: path, split,
    labels, boxes, metadata.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    inner = features[layout.objects].feature if layout.objects else {}
    of_images = [
        key for key in _scalars(features) if layout.objects or key != layout.label
    ]
    of_objects = [key for key in _scalars(inner) if key != layout.label]
    examples: list[dict[str, Any]] = []
    for split, info in builder.info.splits.items():
        dataset = builder.as_dataset(
            split=split,
            decoders={layout.image: tfds.decode.SkipDecoding()},
            shuffle_files=False,
        )
        examples_of_split = progress(
            tfds.as_numpy(dataset),
            total=info.num_examples,
            unit="image",
            desc=f"extracting {split}",
        )
        (root / split).mkdir(exist_ok=True)
        for number, example in enumerate(examples_of_split):
            content = bytes(example[layout.image])
            path = f"{split}/{number:07d}{'.png' if content[:4] == _PNG else '.jpg'}"
            if not (root / path).is_file():
                with whole_file(root / path) as partial:
                    partial.write_bytes(content)
            found: dict[str, Any] = {
                "image": path,
                "split": SPLITS.get(split, ""),
                "boxes": None,
            }
            found["metadata"] = {
                key: _plain(features[key], example[key]) for key in of_images
            }
            if layout.objects:
                objects = example[layout.objects]
                found["boxes"] = (
                    np.asarray(objects[layout.box], float).reshape(-1, 4).tolist()
                )
                labels = (
                    objects[layout.label]
                    if layout.label
                    else [UNLABELLED] * len(found["boxes"])
                )
                found["object_metadata"] = {
                    key: [_plain(inner[key], value) for value in objects[key]]
                    for key in of_objects
                }
            else:
                labels = [example[layout.label] if layout.label else UNLABELLED]
            found["labels"] = [int(label) for label in labels]
            examples.append(found)
    return examples


def _scalars(features: Any) -> list[str]:
    """Names of the features that hold one number, text or class each."""
    return [
        key
        for key, feature in features.items()
        if getattr(feature, "shape", None) == ()
    ]


def _plain(feature: Any, value: Any) -> Any:
    """A scalar as JSON has it: text, number, or the name of a class."""
    if hasattr(feature, "int2str") and int(value) >= 0:
        return str(feature.int2str(int(value)))
    value = np.asarray(value).item()
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _convention(box: Any) -> str:
    """A box feature's convention, in our names; REL_YXYX where it states none."""
    stated = getattr(box, "bbox_format", None)
    name = (
        getattr(stated, "name", str(stated or "REL_YXYX"))
        .upper()
        .replace("CENTER_XYWH", "CXCYWH")
    )
    return name.removeprefix("REL_").lower() + (
        "_relative" if name.startswith("REL_") else ""
    )


def _table(
    root: Path, examples: list[dict[str, Any]], layout: _Layout
) -> tuple[CropTable, Report]:
    report = Report()
    report.count(
        "images without a box", sum(example["boxes"] == [] for example in examples)
    )
    sizes: dict[str, tuple[int, int]] = {}
    columns: dict[str, list[Any]] = {
        "image": [],
        "label": [],
        "label_name": [],
        "split": [],
    }
    metadata: list[dict[str, Any]] = []
    boxes: list[list[float]] = []
    for example in examples:
        try:
            sizes[example["image"]] = read_size(root / example["image"])
        except ImageError as error:
            report.skip(example["image"], error.reason)
            continue
        whole = (
            [0, 0, 1, 1]
            if layout.convention.endswith("_relative")
            else [0, 0, *sizes[example["image"]]]
        )
        own = example.get("object_metadata", {})
        for place, (box, label) in enumerate(
            zip(
                [whole] if example["boxes"] is None else example["boxes"],
                example["labels"],
                strict=True,
            )
        ):
            metadata.append(
                {
                    **example["metadata"],
                    **{key: values[place] for key, values in own.items()},
                }
            )
            columns["image"].append(example["image"])
            columns["split"].append(example["split"])
            columns["label"].append(label)
            columns["label_name"].append(
                layout.names[label] if 0 <= label < len(layout.names) else ""
            )
            boxes.append(box)
    size = sizes_of(columns["image"], sizes)
    corners = check_convention(
        np.array(boxes).reshape(-1, 4), layout.convention, size, str(root)
    )
    taken = {*SCHEMA.names, *columns, *ADDED_COLUMNS} - {"session"}
    for key in sorted({key for row in metadata for key in row}):
        if key.lower() not in taken:
            columns[key] = [row.get(key) for row in metadata]
    columns["session"] = [
        str(name or "") for name in columns.get("session", [""] * len(metadata))
    ]
    return table_of_boxes(root, corners, columns, sizes, report), report
