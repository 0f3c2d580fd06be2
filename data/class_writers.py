"""Writers of a class in the formats that other tools read.

Formats about boxes (cropandweed, coco, yolo) hold all boxes of the crop table, the
selected ones under the new class. Formats about crops (folders, csv, parquet,
label_studio, tfrecord) hold the selected crops, and those marked as not relevant as
counter-examples where the format has a place for them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from artifacts.files import write_atomically, write_csv, write_json
from artifacts.progress import Progress
from data.crop_table import SIDES, CropTable
from data.cropandweed import RAW, VEGETATION, variants
from data.images import (
    STRETCHED,
    CropWindow,
    ImageError,
    cut_at_most,
    read_image,
    write_png,
)
from data.report import Report

LONGEST_NAME = 100  # of a class; it becomes a file name
_LONGEST = 4096  # of an exported crop, in pixels


@dataclass(frozen=True)
class Selection:
    """What is taken home.

    Attributes:
        table: all crops.
        rows: [n] int, the crops of the class, best first.
        scores: [n] float, their scores.
        class_name: what the class is called; the name of a class that exists adds to
            it.
        marks: row -> relevant, as marked by a person.
        window: what of a box an exported picture shows, as the encoder saw it.
    """

    table: CropTable
    rows: np.ndarray
    scores: np.ndarray
    class_name: str
    marks: Mapping[int, bool]
    window: CropWindow = STRETCHED

    def __post_init__(self) -> None:
        if not len(self.rows):
            raise ValueError(
                "selection must hold at least one crop; no crop is marked as relevant "
                "or reaches the threshold"
            )
        if not 0 < len(self.class_name.strip()) <= LONGEST_NAME or any(
            ord(letter) < 32 for letter in self.class_name
        ):
            most = f"of at most {LONGEST_NAME} letters, without line breaks"
            raise ValueError(
                f"class_name must be a name {most}; got {self.class_name!r}"
            )

    @property
    def against(self) -> list[int]:
        """Rows marked as not relevant."""
        return [row for row, answer in self.marks.items() if not answer]

    def class_of_all(self) -> list[str]:
        """The class of every crop of the table: the new one for the selected, otherwise
        what it was.
        """
        names = self.table.column("label_name").tolist()
        for row in self.rows.tolist():
            names[row] = self.class_name
        return names


def safe_name(text: str) -> str:
    """A file name from any text: letters, digits, dot, hyphen and underscore; never
    hidden, empty or a path.
    """
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).strip("._") or "unnamed"


def _names(texts: list[str]) -> dict[str, str]:
    """A distinct file name for each text, also where file systems don't tell capital
    letters from small ones.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for text in dict.fromkeys(texts):
        stem, dot, ending = safe_name(text).rpartition(".")
        name, number = safe_name(text), 2
        while name.lower() in taken:
            name, number = (
                f"{stem or ending}-{number}{dot + ending if stem else ''}",
                number + 1,
            )
        taken.add(name.lower())
        names[text] = name
    return names


def _by_image(table: CropTable) -> dict[str, list[int]]:
    """Image -> its rows."""
    rows: dict[str, list[int]] = {}
    for row, image in enumerate(table.column("image")):
        rows.setdefault(str(image), []).append(row)
    return rows


def _image_sizes(table: CropTable) -> dict[str, tuple[int, int]]:
    """Image -> width and height: as the table says, otherwise the box of a
    whole image.
    """
    if "image_width" in table.rows.column_names:
        sizes = zip(
            table.column("image"),
            table.column("image_width"),
            table.column("image_height"),
            strict=True,
        )
        return {image: (int(width), int(height)) for image, width, height in sizes}
    reach: dict[str, tuple[int, int]] = {}
    for image, (_, _, right, bottom) in zip(
        table.column("image"), table.boxes.tolist(), strict=True
    ):
        width, height = reach.get(image, (0, 0))
        reach[image] = (max(width, right), max(height, bottom))
    return reach


# Boxes: the whole table, the selected ones under the new class.


def _cropandweed(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """bboxes/<Variant>/<image>.csv, and variants.csv, which `--variant` reads once both
    lie in the data set's folder.
    """
    table = selection.table
    if "label_id" not in table.rows.column_names:
        raise ValueError(
            "format cropandweed must have a source with CropAndWeed's label ids; this "
            "crop table has no label_id"
        )
    names = dict(variants()[RAW].names)
    known = {name: label for label, name in names.items()}
    used = {int(label) for label in table.column("label_id")} | set(names)
    new = known.get(selection.class_name, max(used - {VEGETATION}) + 1)
    new += new == VEGETATION
    labels = table.column("label_id").copy()
    labels[selection.rows] = new
    variant = (
        re.sub(r"\W+", "", selection.class_name.title(), flags=re.ASCII) or "NewClass"
    )
    if variant in variants():
        variant += "New"
    (folder / "bboxes" / variant).mkdir(parents=True)
    stems = {"stem_x", "stem_y"} <= set(table.rows.column_names)
    for image, rows in progress(_by_image(table).items(), unit="image", desc="export"):
        lines = []
        for row in rows:
            line: list[Any] = [*table.boxes[row].tolist(), int(labels[row])]
            if stems:
                places = [table.column(name)[row] for name in ("stem_x", "stem_y")]
                line += [
                    ""
                    if np.isnan(place)
                    else int(place)
                    if place == int(place)
                    else place
                    for place in places
                ]
            lines.append(line)
        write_csv(folder / "bboxes" / variant / f"{Path(image).stem}.csv", lines)
    used_names = {
        label: names.get(label, f"label {label}")
        for label in sorted({int(label) for label in labels} - {VEGETATION})
    }
    used_names[new] = selection.class_name
    header = ["variant", "label_id", "name", "color_rgb_hex", "source_label_ids"]
    sources = {
        label: "" if label == new and new not in names else label
        for label in used_names
    }
    write_csv(
        folder / "variants.csv",
        [
            header,
            *(
                [variant, label, name, "", sources[label]]
                for label, name in used_names.items()
            ),
        ],
    )


def _coco(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """annotations.json; file names are relative to the images' root, which `info`
    names.
    """
    table, classes = selection.table, selection.class_of_all()
    categories = [
        *[name for name in table.classes if name != selection.class_name],
        selection.class_name,
    ]
    number = {name: place for place, name in enumerate(categories, 1)}
    sizes, images, annotations = _image_sizes(table), [], []
    score = dict(zip(selection.rows.tolist(), selection.scores.tolist(), strict=True))
    for place, (image, rows) in enumerate(
        progress(_by_image(table).items(), unit="image", desc="export"), 1
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


def _yolo(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """images/ (links to the originals, copies where links aren't possible), labels/,
    data.yaml, and lists by split where known.
    """
    import yaml

    table, classes = selection.table, selection.class_of_all()
    names = [
        *[name for name in table.classes if name != selection.class_name],
        selection.class_name,
    ]
    number = {name: place for place, name in enumerate(names)}
    sizes, by_image = _image_sizes(table), _by_image(table)
    files = _names([image.removeprefix("images/") for image in by_image])
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    stems: set[str] = set()
    splits: dict[str, str] = {}
    for image, rows in progress(by_image.items(), unit="image", desc="export"):
        name = files[image.removeprefix("images/")]
        if not (table.root / image).is_file():
            report.skip(image, "no such file")
            continue
        while Path(name).stem in stems:  # a.jpg and a.png would share a label file
            name = f"_{name}"
        stems.add(Path(name).stem)
        _link(table.root / image, folder / "images" / name)
        splits[name] = str(table.column("split")[rows[0]])
        width, height = sizes[image]
        lines = []
        for row in rows:
            left, top, right, bottom = table.boxes[row].tolist()
            if classes[row]:
                center = ((left + right) / 2 / width, (top + bottom) / 2 / height)
                shares = (*center, (right - left) / width, (bottom - top) / height)
                lines.append(
                    f"{number[classes[row]]} "
                    + " ".join(f"{share:.8f}" for share in shares)
                )
        label = folder / "labels" / f"{Path(name).stem}.txt"
        label.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    report.count("boxes of no class", sum(not name for name in classes))
    # Relative to the file itself, as long as it states no `path`.
    places = {"train": "images", "val": "images"}
    if {"train", "validation"} <= set(splits.values()):
        for name, split in (("train", "train"), ("val", "validation")):
            listed = [
                f"./images/{file}\n" for file, of in splits.items() if of == split
            ]
            (folder / f"{name}.txt").write_text("".join(listed), encoding="utf-8")
            places[name] = f"{name}.txt"
    content = {**places, "names": dict(enumerate(names))}
    (folder / "data.yaml").write_text(
        yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8"
    )


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)


# Crops: the selected ones.


def _examples(
    selection: Selection, report: Report, progress: Progress, against: bool
) -> Iterator[tuple[int, str, float | None, Any]]:
    """(row, class, score, PIL image of the box) of the selected crops and, where asked
    for, of the counter-examples.
    """
    score = dict(zip(selection.rows.tolist(), selection.scores.tolist(), strict=True))
    rows = [*selection.rows.tolist(), *(selection.against if against else [])]
    for row in progress(sorted(rows), unit="crop", desc="export"):
        try:
            image = read_image(selection.table.path(row))
        except ImageError as error:
            report.skip(
                f"{selection.table.column('image')[row]} ({selection.table.ids[row]})",
                error.reason,
            )
            continue
        name = selection.class_name if row in score else f"not {selection.class_name}"
        yield (
            row,
            name,
            score.get(row),
            cut_at_most(
                image, selection.table.boxes[row].tolist(), _LONGEST, selection.window
            ),
        )


def _folders(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """<class>/<crop id>.png, and not_<class>/ with what was marked as not relevant."""
    files = _names([selection.class_name, f"not {selection.class_name}"])
    for row, name, _, image in _examples(selection, report, progress, against=True):
        (folder / files[name]).mkdir(exist_ok=True)
        write_png(
            folder / files[name] / f"{safe_name(str(selection.table.ids[row]))}.png",
            image,
        )


def _columns(selection: Selection) -> pa.Table:
    """The selected crops under their new class, as `label_name`, with the class that
    the source gave them, score and relevant (null where nobody marked).
    """
    chosen = selection.table.take(selection.rows)
    rows = chosen.rows
    names = pa.array([selection.class_name] * len(selection.rows), pa.string())
    added = {
        "label": pa.array([0] * len(selection.rows), pa.int32()),
        "label_name": names,
        "class": names,
        "previous_label": rows.column("label_name").combine_chunks(),
        "score": pa.array(np.asarray(selection.scores, np.float64)),
        "relevant": pa.array(
            [selection.marks.get(row) for row in selection.rows.tolist()], pa.bool_()
        ),
    }
    for name, values in added.items():
        place = rows.column_names.index(name) if name in rows.column_names else None
        rows = (
            rows.append_column(name, values)
            if place is None
            else rows.set_column(place, name, values)
        )
    return rows


def _csv(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """crops.csv: all columns of the crop table, with class, score and relevant."""
    import pyarrow.csv

    rows = _columns(selection)
    write_atomically(
        folder / "crops.csv", lambda file: pyarrow.csv.write_csv(rows, file)
    )


def _parquet(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """crops.parquet: the same as csv; a crop table that run_finetune.py reads again."""
    CropTable(selection.table.root, _columns(selection)).write(folder / "crops.parquet")


def _label_studio(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """tasks.json and labels.xml: one task an image; marked crops as annotations, the
    others as predictions with their score.
    """
    from xml.sax.saxutils import quoteattr

    table, sizes = selection.table, _image_sizes(selection.table)
    score = dict(zip(selection.rows.tolist(), selection.scores.tolist(), strict=True))
    tasks = []
    for image, rows in progress(_by_image(table).items(), unit="image", desc="export"):
        regions: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        width, height = sizes[image]
        for row in (row for row in rows if row in score):
            left, top, right, bottom = table.boxes[row].tolist()
            value: dict[str, Any] = {
                "x": 100 * left / width,
                "y": 100 * top / height,
                "width": 100 * (right - left) / width,
                "height": 100 * (bottom - top) / height,
                "rotation": 0,
                "rectanglelabels": [selection.class_name],
            }
            region: dict[str, Any] = {
                "id": str(table.ids[row]),
                "from_name": "label",
                "to_name": "image",
                "type": "rectanglelabels",
                "value": value,
            }
            region |= {
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
            }
            marked = bool(selection.marks.get(row))
            regions[marked].append(
                region if marked else region | {"score": round(score[row], 6)}
            )
        if regions[True] or regions[False]:
            task: dict[str, Any] = {"data": {"image": f"/data/local-files/?d={image}"}}
            task["annotations"] = [{"result": regions[True]}] if regions[True] else []
            surest = max((region["score"] for region in regions[False]), default=0.0)
            task["predictions"] = (
                [{"model_version": "probe", "score": surest, "result": regions[False]}]
                if regions[False]
                else []
            )
            tasks.append(task)
    write_json(folder / "tasks.json", tasks)
    label = quoteattr(selection.class_name)
    (folder / "labels.xml").write_text(
        '<View>\n  <Image name="image" value="$image"/>\n  <RectangleLabels '
        'name="label" toName="image">\n'
        f"    <Label value={label}/>\n  </RectangleLabels>\n</View>\n",
        encoding="utf-8",
    )


def _tfrecord(
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

    def examples() -> Iterator[tuple[str, dict[str, Any]]]:
        for row, name, score, image in _examples(
            selection, report, progress, against=True
        ):
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

    tfds.dataset_builders.store_as_tfds_dataset(
        "crops",
        "1.0.0",
        features,
        {"train": examples()},
        data_dir=folder,
        description=(
            f"Crops of the class {selection.class_name!r}, found by example. Boxes: "
            f"{', '.join(SIDES)} in pixels."
        ),
    )


FORMATS: dict[str, Callable[[Selection, Path, Report, Progress], None]] = {
    "cropandweed": _cropandweed,
    "coco": _coco,
    "yolo": _yolo,
    "folders": _folders,
    "csv": _csv,
    "parquet": _parquet,
    "label_studio": _label_studio,
    "tfrecord": _tfrecord,
}
