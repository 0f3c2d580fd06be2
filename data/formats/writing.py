"""What is taken home, and what writers of formats share.

Formats about boxes (cropandweed, coco, yolo) hold all boxes of the crop table, the
selected ones under the new class. Formats about crops (folder, csv, parquet,
label_studio, tfds) hold the selected crops, and those marked as not relevant as
counter-examples where the format has a place for them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from PIL import Image

from artifacts.progress import Progress
from data.crop_table import CropTable, plain_name
from data.images import (
    STRETCHED,
    CropWindow,
    ImageError,
    cut_at_most,
    read_image,
)
from data.report import Report

T = TypeVar("T")
LONGEST_NAME = 100  # of a class, in letters; it becomes a file name
LONGEST_FILE = 200  # of a file's name, in bytes: systems take 255, some less
_LONGEST_ENDING = 12
_ROOM_FOR_NUMBER = 8
_DEVICES = {"CON", "PRN", "AUX", "NUL"} | {
    f"{name}{number}" for name in ("COM", "LPT") for number in range(1, 10)
}
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
        object.__setattr__(self, "class_name", plain_name(self.class_name))
        if not len(self.rows):
            raise ValueError(
                "selection must hold at least one crop; no crop is marked as relevant "
                "or reaches the threshold"
            )
        if not 0 < len(self.class_name.strip()) <= LONGEST_NAME or any(
            ord(letter) < 32 for letter in self.class_name
        ):
            most = f"of at most {LONGEST_NAME} letters, without line breaks"
            if not self.class_name.strip():
                raise ValueError("class_name must be given, the name of the class")
            raise ValueError(
                f"class_name must be a name {most}; got {self.class_name!r}"
            )

    def __repr__(self) -> str:
        return f"Selection({len(self.rows):,} crops of {self.class_name!r})"

    @property
    def against(self) -> list[int]:
        """Rows marked as not relevant."""
        return [row for row, answer in self.marks.items() if not answer]

    @property
    def score_of(self) -> dict[int, float]:
        """Row -> score, of the selected crops."""
        return dict(zip(self.rows.tolist(), self.scores.tolist(), strict=True))

    @property
    def classes(self) -> list[str]:
        """Names of all classes, the new one last."""
        others = (name for name in self.table.classes if name != self.class_name)
        return [*others, self.class_name]

    def class_of_all(self) -> list[str]:
        """The class of every crop of the table: the new one for the selected, otherwise
        what it was.
        """
        names = self.table.column("label_name").tolist()
        for row in self.rows.tolist():
            names[row] = self.class_name
        return names


def _is_safe(letter: str) -> bool:
    """Letters, the marks that belong to them (vowels of Indic scripts), digits, and
    what joins them in Persian and Indic words.
    """
    return letter in "._-\u200c\u200d" or unicodedata.category(letter)[0] in "LMN"


def safe_name(text: str, most: int = LONGEST_FILE) -> str:
    """A file name from any text, in any script: letters, digits, dot, hyphen and
    underscore; never hidden, empty, a path, a device of Windows, or too long. Its
    ending stays.

    Args:
        text: what to name a file after.
        most: bytes of the name, in UTF-8.
    """
    composed = unicodedata.normalize("NFC", text)
    name = "".join(letter if _is_safe(letter) else "_" for letter in composed)
    name = re.sub("__+", "_", name).strip("._") or "unnamed"
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending) > _LONGEST_ENDING:
        stem, dot, ending = name, "", ""
    if stem.partition(".")[0].upper() in _DEVICES:
        stem = f"_{stem}"
    room = most - len(f"{dot}{ending}".encode())
    if len(stem.encode()) > room:  # what is cut off still tells names apart
        digest = "-" + hashlib.sha256(composed.encode(errors="replace")).hexdigest()[:8]
        kept = stem.encode()[: room - len(digest)].decode(errors="ignore")
        stem = kept.strip("._") + digest
    return f"{stem}{dot}{ending}"


def distinct_file_names(texts: Mapping[T, str]) -> dict[T, str]:
    """A distinct file name for each key, after its text, also where file systems don't
    tell capital letters from small ones; names that clash are numbered.
    """
    names: dict[T, str] = {}
    taken: set[str] = set()
    for key, text in texts.items():
        first = safe_name(text, LONGEST_FILE - _ROOM_FOR_NUMBER)
        stem, ending = os.path.splitext(first)
        name, number = first, 2
        while name.casefold() in taken:
            name, number = f"{stem}-{number}{ending}", number + 1
        taken.add(name.casefold())
        names[key] = name
    return names


def split_of_images(table: CropTable, report: Report) -> dict[str, str]:
    """Image -> split, for formats that have one for each image."""
    found: dict[str, str] = {}
    several: set[str] = set()
    for image, split in zip(table.column("image"), table.column("split"), strict=True):
        if found.setdefault(image, split) != split:
            several.add(image)
    report.count("photos whose boxes are of several splits: the first", len(several))
    return found


def rows_by_image(table: CropTable) -> dict[str, list[int]]:
    """Image -> its rows."""
    rows: dict[str, list[int]] = {}
    for row, image in enumerate(table.column("image")):
        rows.setdefault(str(image), []).append(row)
    return rows


def image_sizes(table: CropTable) -> dict[str, tuple[int, int]]:
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


def link(source: Path, target: Path) -> None:
    """Links to an image, or copies it where links aren't possible."""
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)


def crop_picture(table: CropTable, row: int, window: CropWindow) -> Image.Image:
    """What the encoder saw of a crop, as large as the photo has it, within bounds.

    Raises:
        ImageError: the photo can't be read.
    """
    image = read_image(table.path(row))
    return cut_at_most(image, table.boxes[row].tolist(), _LONGEST, window)


def examples_of(
    selection: Selection, report: Report, progress: Progress
) -> Iterator[tuple[int, str, float | None, Image.Image]]:
    """(row, class, score, picture) of the selected crops and the counter-examples."""
    score = selection.score_of
    rows = [*selection.rows.tolist(), *selection.against]
    for row in progress(sorted(rows), unit="crop", desc="export"):
        try:
            picture = crop_picture(selection.table, row, selection.window)
        except ImageError as error:
            report.written -= row in score
            report.skip(
                f"{selection.table.column('image')[row]} ({selection.table.ids[row]})",
                error.reason,
            )
            continue
        name = selection.class_name if row in score else f"not {selection.class_name}"
        yield row, name, score.get(row), picture


def selected_columns(selection: Selection) -> pa.Table:
    """The selected crops under their new class, as `label_name`, with the class that
    the source gave them, score and relevant (null where nobody marked).
    """
    chosen = selection.table.take(selection.rows)
    names = pa.array([selection.class_name] * len(selection.rows), pa.string())
    added = {
        "label": pa.array([0] * len(selection.rows), pa.int32()),
        "label_name": names,
        "class": names,
        "previous_label": chosen.rows.column("label_name").combine_chunks(),
        "score": pa.array(np.asarray(selection.scores, np.float64)),
        "relevant": pa.array(
            [selection.marks.get(row) for row in selection.rows.tolist()], pa.bool_()
        ),
    }
    for name, values in added.items():
        chosen = chosen.with_column(name, values)
    return chosen.rows
