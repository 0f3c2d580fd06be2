"""A Hugging Face data set on disk, as `datasets` saves it; needs that package."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.files import check_writable, whole_file
from artifacts.progress import Progress
from data.formats.base import (
    Annotations,
    Format,
    SourceOptions,
    concatenated,
    split_named,
)
from data.images import ending_of
from data.report import Report

EXTRACTED = "images"  # where the pictures go, in the data set's folder
_BOXES = ("bbox", "bboxes", "boxes")
_LABELS = ("category", "categories", "label", "labels", "category_id", "class")


def is_huggingface(root: Path) -> bool:
    """Whether a folder is what `save_to_disk` writes."""
    return (root / "dataset_dict.json").is_file() or (
        (root / "dataset_info.json").is_file() and (root / "state.json").is_file()
    )


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads a data set that `save_to_disk` wrote: its image column, and either a class
    for each or objects with boxes.

    The pictures are taken out of the records once, byte for byte, into images/ in the
    data set's folder. Boxes are xywh in pixels unless `options.boxes` says otherwise.

    Raises:
        ValueError: `datasets` isn't installed, or there is no image column.
    """
    try:
        import datasets
    except ImportError:
        raise ValueError(
            "data is a Hugging Face data set, which needs the package datasets: pip "
            "install datasets"
        ) from None
    root = Path(data)
    try:
        parts = _parts(datasets.load_from_disk(str(root)))
        size = sum(part.data.nbytes for part in parts.values())
        check_writable(root / EXTRACTED, "data", size)
        found = [
            _Part(name, part, root, progress, report).annotations(options)
            for name, part in parts.items()
        ]
    except Exception as error:  # noqa: BLE001  whatever a damaged data set raises
        raise ValueError(
            f"data must be a data set that `datasets` saved; {str(root)!r} can't be "
            f"read: {' '.join(str(error).split())[:300]}"
        ) from None
    return concatenated(found, root)


def _parts(loaded: Any) -> dict[str, Any]:
    """The splits of a data set by name; "" for one without.

    Raises:
        ValueError: a table is damaged, which would end the process when it is read.
    """
    import datasets

    is_dict = isinstance(loaded, datasets.DatasetDict)
    parts = dict(loaded) if is_dict else {"": loaded}
    for part in parts.values():
        part.data.table.validate(full=True)
    return parts


class _Part:
    """One split of a data set."""

    def __init__(
        self, name: str, part: Any, root: Path, progress: Progress, report: Report
    ):
        import datasets

        self.name, self.root, self.report = name, root, report
        self.progress = progress
        features = part.features
        images = [
            key
            for key, feature in features.items()
            if isinstance(feature, datasets.Image)
        ]
        if not images:
            raise ValueError(
                f"data must have a column of images; {str(root)!r} has "
                f"{', '.join(features)}"
            )
        self.image = images[0]
        # The bytes as they are kept, not decoded.
        self.rows = part.cast_column(self.image, datasets.Image(decode=False))
        self.objects, self.box = _objects(features)
        holder = features[self.objects] if self.objects else features
        inner = getattr(holder, "feature", holder)
        inner = inner[0] if isinstance(inner, list) else inner
        known = [key for key in _LABELS if key in inner]
        known += [key for key, kind in inner.items() if hasattr(kind, "names")]
        self.label = known[0] if known else ""
        feature = inner[self.label] if self.label else None
        feature = getattr(feature, "feature", feature)
        self.names: Sequence[str] = getattr(feature, "names", ())

    def annotations(self, options: SourceOptions) -> Annotations:
        images: list[str] = []
        names: list[str] = []
        boxes: list[list[float]] = []
        for image, row in self._extracted():
            if not self.box:
                images.append(image)
                names.append(self._name(row.get(self.label)))
                continue
            stated, labels = self._stated(row)
            self.report.count("images without a box", not stated)
            if len(labels) != len(stated):
                self.report.count("images with more or fewer classes than boxes: none")
                labels = [None] * len(stated)
            for box, label in zip(stated, labels, strict=True):
                images.append(image)
                names.append(self._name(label))
                boxes.append([float(side) for side in box])
        self.report.seen += len(images)
        return Annotations(
            root=self.root,
            source=str(self.root),
            images=images,
            names=names,
            splits=[split_named(self.name)] * len(images),
            boxes=np.array(boxes).reshape(-1, 4) if self.box else None,
            convention=options.boxes or "xywh",
        )

    def _stated(self, row: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
        """Boxes and labels of a row's objects: lists beside each other, or a list of
        objects.
        """
        holder = row[self.objects] if self.objects else row
        if isinstance(holder, list):
            boxes = [item[self.box] for item in holder]
            return boxes, [item.get(self.label) for item in holder]
        boxes = holder[self.box] or []
        return boxes, holder.get(self.label) or [None] * len(boxes)

    def _name(self, label: object) -> str:
        if isinstance(label, list):
            if len(label) > 1:
                self.report.count("images of several classes: none of them")
            label = label[0] if len(label) == 1 else None
        if isinstance(label, int) and 0 <= label < len(self.names):
            return self.names[label]
        return "" if label is None or label == -1 else str(label)

    def _extracted(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(path below the root, row) of every image, written where it isn't yet."""
        folder = Path(EXTRACTED) / (self.name or "all")
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        rows = self.progress(
            self.rows, total=len(self.rows), unit="image", desc="extracting"
        )
        for number, row in enumerate(rows):
            picture = row[self.image] or {}
            content = picture.get("bytes")
            if content is None and picture.get("path"):
                path = Path(picture["path"])
                content = path.read_bytes() if path.is_file() else b""
            content = content or b""
            ending = ending_of(io.BytesIO(content)) or ".jpg"
            # By its content: a data set may be saved again in the same place.
            digest = hashlib.sha256(content).hexdigest()[:12]
            image = (folder / f"{number:07d}-{digest}{ending}").as_posix()
            if not (self.root / image).is_file():
                with whole_file(self.root / image) as partial:
                    partial.write_bytes(content)
            yield image, row


def _objects(features: Mapping[str, Any]) -> tuple[str, str]:
    """The column of objects ("" where boxes stand at the top), and the name of their
    boxes; "" and "" without any.
    """
    top = next((key for key in _BOXES if key in features), "")
    if top:
        return "", top
    for key, feature in features.items():
        inner = getattr(feature, "feature", feature)
        inner = inner[0] if isinstance(inner, list) and inner else inner
        if isinstance(inner, Mapping):
            box = next((name for name in _BOXES if name in inner), "")
            if box:
                return key, box
    return "", ""


FORMAT = Format(
    name="huggingface",
    keeps="",
    read=read,
    detect=lambda path: path.is_dir() and is_huggingface(path),
    options=frozenset({"boxes"}),
)
