"""Reads the CropAndWeed dataset (Steininger et al., WACV 2023) as it lies on disk, and
the sample field, which lies the same way.

Both layouts are read: as the annotation archive unpacks (`bboxes/<image>.csv`) and as
the authors' own set-up leaves it (`bboxes/CropAndWeed/<image>.csv`). Label ids, names
and the predefined variants (Fine24, CropsOrWeed9, SugarBeet2, ...) stand in
data/tables/. `python -m data.download.cropandweed` downloads the dataset.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
from PIL import Image

from artifacts.files import read_text, write_csv
from artifacts.progress import Progress
from data.boxes import distinct_names
from data.crop_table import MASK_FILE, SCHEMA, SIDES, UNLABELLED
from data.formats.base import RAW, Annotations, Format, SourceOptions
from data.formats.writing import Selection, rows_by_image, safe_name
from data.report import Report

VEGETATION = 255
BOX_SIZE = (1920, 1088)
CONDITIONS = {
    "moisture": ("dry", "medium", "wet"),
    "soil": ("fine", "medium", "coarse"),
    "lighting": ("sunny", "diffuse"),
    "separability": ("easy", "medium", "hard"),
}
_TABLES = Path(__file__).parent.parent / "tables"
_IMAGES = {".jpg", ".jpeg", ".png"}
_OWN = ("label_id", "stem_x", "stem_y")


@dataclass(frozen=True)
class Variant:
    """A choice of classes.

    Attributes:
        name: "CropAndWeed" for all label ids as they are, or a predefined variant.
        names: id in this variant -> class name.
        target: raw label id -> id in this variant; what is missing belongs to none of
            its classes.
    """

    name: str
    names: dict[int, str]
    target: dict[int, int]


@cache
def variants() -> dict[str, Variant]:
    """All predefined variants by name, the raw ids first."""
    with open(_TABLES / "cropandweed_labels.csv", newline="", encoding="utf-8") as file:
        labels = [(int(row["label_id"]), row["name"]) for row in csv.DictReader(file)]
    names = distinct_names(
        {label: name for label, name in labels if label != VEGETATION}
    )  # "Hedge mustard" is 54 and 80
    result = {RAW: Variant(RAW, names, {label: label for label in names})}
    return result | _read_variants(_TABLES / "cropandweed_variants.csv")


def _read_variants(path: Path) -> dict[str, Variant]:
    result: dict[str, Variant] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            variant = result.setdefault(row["variant"], Variant(row["variant"], {}, {}))
            variant.names[int(row["label_id"])] = row["name"]
            variant.target.update(
                {
                    int(source): int(row["label_id"])
                    for source in row["source_label_ids"].split()
                }
            )
    return result


def _own_variants(root: Path) -> dict[str, Variant]:
    """Variants that the data set itself states in variants.csv or, one for each export
    that was laid into it, variants_<name>.csv; their boxes have their own ids.
    """
    found: dict[str, Variant] = {}
    for path in sorted(root.glob("variants*.csv")):
        try:
            found |= _read_variants(path)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} must have the columns variant, label_id, name and "
                f"source_label_ids: {error}"
            ) from None
    return found


def is_cropandweed(root: Path) -> bool:
    """Whether a folder has the dataset's layout."""
    return (root / "bboxes").is_dir()


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads the data set: a folder with images/ and bboxes/, and labelIds/ and params/
    where they are wanted.

    Columns beyond `data.crop_table.SCHEMA`: label_id (as on disk), stem_x, stem_y,
    box_width, box_height, touches_border, moisture, soil, lighting, separability (by
    name, "" where unknown), vegetation (share of the box that the mask labels as any
    plant; null without a mask), and the columns of attributes.csv where there is one,
    as the sample field has.

    `options.variant` chooses the classes: see `variants`, or one that variants.csv in
    the root states. Boxes of no class (id 255: tiny, excluded or ambiguous plants, and
    label ids that the variant leaves out) stay as unlabelled ones where
    `options.keep_unlabeled` says so: they can be found and marked, but no figure counts
    them as a class.

    Raises:
        ValueError: unknown variant, missing folders, or no box at all.
    """
    root = Path(data)
    own = _own_variants(root)
    known = variants() | own
    if options.variant not in known:
        raise ValueError(
            f"variant must be one of {', '.join(known)}; got {options.variant!r}"
        )
    if not (root / "images").is_dir() or not (root / "bboxes").is_dir():
        raise ValueError(
            "data must be the folder that holds images/ and bboxes/ of CropAndWeed; "
            f"{str(root)!r} doesn't"
        )
    variant = known[options.variant]
    folder, mapping = _boxes_folder(root, variant, options.variant in own)
    pairs = _pairs(root, folder, report)
    images: list[str] = []
    rows: list[tuple[float, ...]] = []
    labels: list[int] = []
    for image, path in pairs.items():
        for row in _read_boxes(path, report):
            target = mapping.get(int(row[4]), UNLABELLED)
            if target == UNLABELLED and not options.keep_unlabeled:
                report.drop("boxes of no class of the variant")
                continue
            images.append(image)
            rows.append(row)
            labels.append(target)
    if not rows:
        found = "; ".join(
            [
                f"{len(pairs)} annotation files with an image in {str(folder)!r}",
                *report.lines(),
            ]
        )
        raise ValueError(
            f"data must hold boxes of variant {options.variant} on images in images/; "
            f"there is none ({found})"
        )
    numbers = np.array(rows)

    def derive(
        images: list[str], corners: np.ndarray, sizes: Mapping[str, tuple[int, int]]
    ) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {**_conditions(root, images, report)}
        columns["vegetation"] = _vegetation(
            root, images, corners, sizes=sizes, report=report, progress=progress
        )
        columns[MASK_FILE] = _masks(root, images)
        return columns | _attributes(root, images, corners, columns, report)

    return Annotations(
        root=root,
        source=str(folder),
        images=images,
        names=[variant.names.get(label, "") for label in labels],
        splits=[""] * len(images),
        boxes=numbers[:, :4],
        labels=labels,
        columns={
            "label_id": numbers[:, 4].astype(int).tolist(),
            "stem_x": numbers[:, 5].tolist(),
            "stem_y": numbers[:, 6].tolist(),
        },
        correctable=False,
        check_sizes=_check_size,
        derive=derive,
    )


def _pairs(root: Path, folder: Path, report: Report) -> dict[str, Path]:
    """Image -> its annotation file, where there is one."""
    annotations = {
        path.stem: path
        for path in folder.glob("*.csv")
        if not path.name.startswith(".")
    }
    files = sorted(
        path
        for path in (root / "images").iterdir()
        if path.suffix.lower() in _IMAGES and not path.name.startswith(".")
    )
    annotated = [path for path in files if path.stem in annotations]
    report.count("images without annotations", len(files) - len(annotated))
    stems = {path.stem for path in files}
    report.count("annotation files without an image", len(set(annotations) - stems))
    return {f"images/{path.name}": annotations[path.stem] for path in annotated}


def _boxes_folder(
    root: Path, variant: Variant, is_own: bool
) -> tuple[Path, dict[int, int]]:
    """The folder to read boxes from, and the map from its ids to the variant's."""
    own = {label: label for label in variant.names}
    choices = [
        (root / "bboxes" / RAW, variant.target),
        (root / "bboxes", variant.target),
        (root / "bboxes" / f"{variant.name}Eval", own),
        (root / "bboxes" / variant.name, own),
    ]
    if is_own:  # a class of its own can't be told from the raw ids
        choices = choices[-1:]
    for folder, mapping in choices:
        if folder.is_dir() and next(folder.glob("*.csv"), None):
            return folder, mapping
    tried = ", ".join(
        dict.fromkeys(str(folder.relative_to(root)) for folder, _ in choices)
    )
    there = [
        name
        for name in variants()
        if next((root / "bboxes").glob(f"{name}*/*.csv"), None)
    ]
    hint = f"; there are boxes of the variants {', '.join(there)}" if there else ""
    raise ValueError(
        f"data must hold annotations of variant {variant.name}; {str(root)!r} has no "
        f".csv file in any of {tried}{hint}"
    )


def _check_size(sizes: Mapping[str, tuple[int, int]]) -> None:
    smaller = [image for image, size in sizes.items() if size != BOX_SIZE]
    if len(smaller) > 0.1 * len(sizes):
        width, height = sizes[smaller[0]]
        raise ValueError(
            f"data must hold images of {BOX_SIZE[0]} x {BOX_SIZE[1]} pixels, on which "
            "CropAndWeed's boxes were drawn; "
            f"{len(smaller)} of {len(sizes)} aren't, such as {smaller[0]} with {width} "
            f"x {height}. For resized copies use "
            "--format=csv with the setting box_size"
        )


def _read_boxes(path: Path, report: Report) -> list[tuple[float, ...]]:
    """Rows of left, top, right, bottom, label id, stem x, stem y; repeated and broken
    rows are counted, not returned.
    """
    rows: dict[tuple[float, ...], None] = {}
    lines = [
        line for line in read_text(path, strict=False).splitlines() if line.strip()
    ]
    report.count("annotation files without a box", not lines)
    for number, line in enumerate(lines):
        try:
            parts = [
                part.strip() for part in line.replace(";", ",").rstrip(", ").split(",")
            ]
            row = tuple(
                float(part) if part or place < 5 else float("nan")
                for place, part in enumerate(parts)
            )
            if (
                not 5 <= len(row) <= 7
                or not np.isfinite(row[:5]).all()
                or not 0 <= row[4] <= VEGETATION
            ):
                raise ValueError
        except ValueError:
            if number or re.search(r"\d", line):  # a header is no broken row
                report.seen += 1
                report.drop("annotation rows that can't be read")
            continue
        report.seen += 1
        row = (*row, *(float("nan"),) * (7 - len(row)))
        if row in rows:
            report.drop("annotation rows that repeat another one")
        rows[row] = None
    return list(rows)


def _conditions(
    root: Path, images: Sequence[str], report: Report
) -> dict[str, list[str]]:
    """The four recording conditions of each image by name, "" where unknown."""
    known = {
        image: _read_params(root / "params" / f"{Path(image).stem}.csv")
        for image in dict.fromkeys(images)
    }
    report.count(
        "images without recording conditions",
        sum(not found for found in known.values()),
    )
    return {
        name: [
            values[code]
            if (code := known[image].get(name, -1)) in range(len(values))
            else ""
            for image in images
        ]
        for name, values in CONDITIONS.items()
    }


def _read_params(path: Path) -> dict[str, int]:
    """Recording conditions as codes. Tolerant, as the format isn't documented: a row of
    four numbers, with a header or without, or a line for each with its name."""
    if not path.is_file():
        return {}
    lines = [
        re.split(r"[,;:=\t ]+", line.strip())
        for line in read_text(path, strict=False).replace('"', "").splitlines()
        if line.strip()
    ]
    names = list(CONDITIONS)
    if (
        len(lines) >= 2
        and all(len(line) == 2 for line in lines)
        and not _is_number(lines[0][0])
    ):
        pairs = {name.lower(): value for name, value in lines}
    elif len(lines) >= 2 and not any(map(_is_number, lines[0])):
        pairs = dict(zip((name.lower() for name in lines[0]), lines[1], strict=False))
    else:
        values = [value for line in lines for value in line]
        while values and values[0] and not _is_number(values[0]):
            values.pop(0)  # the image's name
        pairs = dict(zip(names, values, strict=False))
    return {
        name: int(float(pairs[name]))
        for name in names
        if name in pairs and _is_number(pairs[name])
    }


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?", text) is not None


def _mask_folder(root: Path) -> Path:
    raw = root / "labelIds" / RAW
    return raw if raw.is_dir() else root / "labelIds"


def _masks(root: Path, images: Sequence[str]) -> list[str | None]:
    """Each image's label map below the root, None where there is none."""
    folder = _mask_folder(root)
    known = {
        path.stem: path.relative_to(root).as_posix() for path in folder.glob("*.png")
    }
    return [known.get(Path(image).stem) for image in images]


def _vegetation(
    root: Path,
    images: Sequence[str],
    corners: np.ndarray,
    *,
    sizes: Mapping[str, tuple[int, int]],
    report: Report,
    progress: Progress,
) -> list[float | None]:
    """Share of each box that its image's mask labels as any plant; None without
    a mask.
    """
    folder = _mask_folder(root)
    shares: list[float | None] = [None] * len(images)
    if not folder.is_dir():
        return shares
    rows_of: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        rows_of.setdefault(image, []).append(row)

    def measure(image: str) -> bool:
        try:
            with Image.open(folder / f"{Path(image).stem}.png") as file:
                mask = np.asarray(file)
        except (OSError, SyntaxError, ValueError):
            return False
        if mask.shape[:2] != sizes[image][::-1]:
            return False
        plant = mask[..., 0] > 0 if mask.ndim == 3 else mask > 0
        for row in rows_of[image]:
            left, top, right, bottom = (int(max(0, value)) for value in corners[row])
            part = plant[top:bottom, left:right]
            shares[row] = round(float(part.mean()), 4) if part.size else None
        return True

    with ThreadPoolExecutor(4) as pool:
        found = list(
            progress(
                pool.map(measure, rows_of),
                total=len(rows_of),
                unit="mask",
                desc="reading masks",
            )
        )
    report.count("images without a mask that can be read", found.count(False))
    return shares


def _attributes(
    root: Path,
    images: Sequence[str],
    corners: np.ndarray,
    columns: Mapping[str, Any],
    report: Report,
) -> dict[str, list[Any]]:
    """Further columns from attributes.csv, joined by image and box."""
    path = root / "attributes.csv"
    if not path.is_file():
        return {}
    try:
        stated = pyarrow.csv.read_csv(path).to_pydict()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} must be a CSV file with a header: {error}") from None
    missing = [name for name in ("image", *SIDES) if name not in stated]
    if missing:
        raise ValueError(
            f"{path} must have the columns image, {', '.join(SIDES)}; missing: "
            f"{', '.join(missing)}"
        )
    place = {
        key: row
        for row, key in enumerate(
            zip(*(stated[name] for name in ("image", *SIDES)), strict=True)
        )
    }
    boxes = corners.astype(int).tolist()
    rows = [
        place.get((Path(image).name, *box))
        for image, box in zip(images, boxes, strict=True)
    ]
    report.count("boxes without a row in attributes.csv", rows.count(None))
    taken = {*SCHEMA.names, *_OWN, *columns} - {"session"}
    extra = [name for name in stated if name not in taken]
    return {
        name: [None if row is None else stated[name][row] for row in rows]
        for name in extra
    }


def write(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """bboxes/<Variant>/<image>.csv, and variants_<Variant>.csv, which `--variant` reads
    once both lie in the data set's folder.
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
    variant = re.sub("[_.-]+", "", safe_name(selection.class_name.title()))
    # Some systems don't tell capital letters from small ones.
    if variant.casefold() in {name.casefold() for name in variants()}:
        variant += "New"
    (folder / "bboxes" / variant).mkdir(parents=True)
    stems = {"stem_x", "stem_y"} <= set(table.rows.column_names)
    for image, rows in progress(
        rows_by_image(table).items(), unit="image", desc="export"
    ):
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
        folder / f"variants_{variant}.csv",
        [
            header,
            *(
                [variant, label, name, "", sources[label]]
                for label, name in used_names.items()
            ),
        ],
    )


FORMAT = Format(
    name="cropandweed",
    keeps="bboxes/<Variant>/ and variants_<Variant>.csv: in the data set, a --variant",
    read=read,
    write=write,
    detect=lambda path: path.is_dir() and is_cropandweed(path),
    options=frozenset({"variant", "keep_unlabeled"}),
)
