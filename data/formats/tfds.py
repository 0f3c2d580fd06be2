"""Any tensorflow-datasets image set, classification or detection: `--data=tfds:NAME`;
and a class as such a set.

The images are taken out of the data set's records once, byte for byte, into a folder
beside it, since everything after the crop table works on image files: each is decoded
once however many boxes it holds, and can be looked at.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.files import check_writable, whole_file, write_json
from artifacts.progress import Progress
from data.boxes import ADDED_COLUMNS
from data.crop_table import SCHEMA, SIDES, UNLABELLED
from data.formats.base import SPLITS, Annotations, Format, SourceOptions
from data.formats.writing import Selection, examples_of
from data.report import Report

_PREFIX = "tfds:"
_PNG = b"\x89PNG"
_WHOLE = [[0.0, 0.0, 1.0, 1.0]]  # an image as its own box, relatively


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads a tensorflow-datasets set; it is downloaded and prepared first where it
    isn't there yet.

    Labelled boxes become crops; without boxes the whole image is the crop. Images whose
    split has another name than those of `data.formats.base.SPLITS` keep no split. The
    name is what `tfds.load` takes, such as "plant_village", "coco/2017",
    "crop_and_weed/Fine24:1.0.0"; where sets lie is tensorflow-datasets' own setting.

    Raises:
        ValueError: no such set, no image in it, or it can't be prepared; the message
            says what tensorflow-datasets said.
    """
    import tensorflow_datasets as tfds  # loads TensorFlow when examples are read

    from data import crop_and_weed_tfds  # noqa: F401  registers crop_and_weed

    name = data.removeprefix(_PREFIX)
    try:
        builder = tfds.builder(name)
        builder.download_and_prepare()
    except Exception as error:  # noqa: BLE001  whatever others' builders raise
        raise ValueError(
            f"data must name a tensorflow-datasets set; {name!r} can't be prepared: "
            f"{_short(error)}"
        ) from None
    layout = _layout_of(builder.info.features, name)
    root = Path(builder.data_dir) / "images"
    check_writable(root, "tfds images", int(builder.info.dataset_size or 0))
    index = root / "index.json"
    if not index.is_file():
        found = _extract(builder, layout, root, progress)
        write_json(index, found)
    examples = [_Example.from_json(entry) for entry in json.loads(index.read_text())]
    return _annotations(root, examples, layout, report)


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


@dataclass(frozen=True)
class _Example:
    """What is known of an image.

    Attributes:
        image: path below the root.
        split: as the project names it, "" for others.
        boxes: of its objects, in the set's convention.
        labels: class number of each box.
        metadata: other scalars of the example,
        object_metadata: and of each object.
    """

    image: str
    split: str
    boxes: Sequence[Sequence[float]]
    labels: Sequence[int]
    metadata: Mapping[str, object]
    object_metadata: Mapping[str, Sequence[object]]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> _Example:
        """One of index.json, which version 0.5.0 wrote without boxes for whole
        images.
        """
        boxes = _WHOLE if entry["boxes"] is None else entry["boxes"]
        return cls(**{"object_metadata": {}, **entry, "boxes": boxes})


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
) -> list[_Example]:
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
    examples: list[_Example] = []
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
            # A classification set states no boxes: the image is one, relatively.
            boxes, objects, holder = _WHOLE, {}, example
            if layout.objects:
                objects = holder = example[layout.objects]
                stated = np.asarray(objects[layout.box], float)
                boxes = stated.reshape(-1, 4).tolist()
            labels = [UNLABELLED] * len(boxes)
            if layout.label:
                labels = np.atleast_1d(holder[layout.label]).astype(int).tolist()
            examples.append(
                _Example(
                    path,
                    SPLITS.get(split, ""),
                    boxes,
                    labels,
                    {key: _plain(features[key], example[key]) for key in of_images},
                    {
                        key: [_plain(inner[key], value) for value in objects[key]]
                        for key in of_objects
                    },
                )
            )
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


def _annotations(
    root: Path, examples: list[_Example], layout: _Layout, report: Report
) -> Annotations:
    report.count("images without a box", sum(not example.boxes for example in examples))
    images: list[str] = []
    splits: list[str] = []
    labels: list[int] = []
    boxes: list[Sequence[float]] = []
    metadata: list[Mapping[str, object]] = []
    for example in examples:
        pairs = zip(example.boxes, example.labels, strict=True)
        known = example.object_metadata
        for place, (box, label) in enumerate(pairs):
            images.append(example.image)
            splits.append(example.split)
            labels.append(label)
            boxes.append(box)
            own = {key: values[place] for key, values in known.items()}
            metadata.append({**example.metadata, **own})
    taken = {*SCHEMA.names, *ADDED_COLUMNS} - {"session"}
    columns: dict[str, list[Any]] = {
        key: [row.get(key) for row in metadata]
        for key in sorted({key for row in metadata for key in row})
        if key.lower() not in taken
    }
    sessions = columns.get("session", [""] * len(metadata))
    columns["session"] = [str(name or "") for name in sessions]
    return Annotations(
        root=root,
        source=str(root),
        images=images,
        names=[
            layout.names[label] if 0 <= label < len(layout.names) else ""
            for label in labels
        ],
        splits=splits,
        boxes=np.array(boxes).reshape(-1, 4),
        convention=layout.convention,
        labels=labels,
        columns=columns,
    )


def write(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """A data set that `tfds.builder_from_directory` reads: image, label (the class or
    not), crop_id, filename, box, score.
    """
    import tensorflow_datasets as tfds  # loads TensorFlow

    tfds.disable_progress_bar()  # there is one of ours
    names = [selection.class_name, f"not {selection.class_name}"]
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=names),
            "crop_id": tfds.features.Text(),
            "filename": tfds.features.Text(),
            "box": tfds.features.Tensor(shape=(4,), dtype=np.int32),
            "score": tfds.features.Scalar(np.float32),  # NaN for counter-examples
        }
    )

    def examples() -> Iterator[tuple[str, Mapping[str, object]]]:
        for row, name, score, image in examples_of(selection, report, progress):
            yield (
                str(selection.table.ids[row]),
                {
                    "image": np.asarray(image),
                    "label": name,
                    "crop_id": str(selection.table.ids[row]),
                    "filename": str(selection.table.column("image")[row]),
                    "box": selection.table.boxes[row].astype(np.int32),
                    "score": np.float32(np.nan if score is None else score),
                },
            )

    found = examples()
    first = next(found, None)
    if first is None:
        return  # not one image can be read; tensorflow-datasets refuses an empty set
    tfds.dataset_builders.store_as_tfds_dataset(
        "crops",
        "1.0.0",
        features,
        {"train": itertools.chain([first], found)},
        data_dir=folder,
        description=(
            f"Crops of the class {selection.class_name!r}, found by example. Boxes: "
            f"{', '.join(SIDES)} in pixels."
        ),
    )


FORMAT = Format(
    name="tfds",
    keeps='TFRecords that tfds.builder_from_directory("crops/1.0.0") reads',
    read=read,
    write=write,
    reads=("name",),
    detect=lambda path: str(path).startswith(_PREFIX),
    old_names=("tfrecord",),
)
