"""The crop table: one row a crop, the seam between every image source and everything
after it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from artifacts.files import write_atomically

UNLABELLED = -1
SIDES = ("left", "top", "right", "bottom")
SCHEMA = pa.schema(
    [
        ("crop_id", pa.string()),  # stable: see `make_crop_id`
        ("image", pa.string()),  # path relative to the root, with forward slashes
        (
            "left",
            pa.int32(),
        ),  # box in pixels of the upright image; right and bottom are exclusive
        ("top", pa.int32()),
        ("right", pa.int32()),
        ("bottom", pa.int32()),
        ("label", pa.int32()),  # class index, UNLABELLED where the source has none
        ("label_name", pa.string()),  # class name, "" where the source has none
        # Recording session, "" where unknown; sessions never straddle splits.
        ("session", pa.string()),
        # "train", "validation", "test", or "" where the source has none.
        ("split", pa.string()),
    ]
)
OLD_ID = "crop_id_v1"  # the id that version 0.5.0 gave
# Columns that say what was found in the photos: when and where they were taken (ISO
# 8601; degrees), and the crop, if another one, that shows the same.
EXIF_TIME, LATITUDE, LONGITUDE = "exif_time", "exif_latitude", "exif_longitude"
DUPLICATE_OF = "duplicate_of"
ADDED = "added"  # which time of adding to the set brought a crop; 0 is the first
SOURCE_ROW = "source_row"  # which row of the file, as given and from 0, a crop is
# The label map of a crop's image, below the root: each pixel a label's number.
MASK_FILE = "mask_file"
NOT_HASHED = (
    EXIF_TIME,
    LATITUDE,
    LONGITUDE,
    DUPLICATE_OF,
    ADDED,
    SOURCE_ROW,
    MASK_FILE,
)
_ROOT = b"root"
_POINT = re.compile(r"(.+)@(\d+),(\d+)")


def make_crop_id(image: str, box: Sequence[int]) -> str:
    """The id of a crop: "c" and 12 hexadecimal digits from its image's path below the
    data set and its box.

    It depends on nothing else, so marks stay valid when the source grows, is read in
    another order or format, or is moved whole: the path's letters are composed (NFC),
    its separators are slashes, and one leading `images/` is left out, since some
    formats name the folder of the images and others don't. The letter keeps
    spreadsheets from taking an id for a number.
    """
    path = unicodedata.normalize("NFC", image.replace("\\", "/"))
    return _digest(path.removeprefix("images/"), box)


def make_crop_id_v1(image: str, box: Sequence[int]) -> str:
    """The id that version 0.5.0 gave: of the path as it is."""
    return _digest(image, box)


def _digest(path: str, box: Sequence[int]) -> str:
    left, top, right, bottom = (int(value) for value in box)
    stated = f"{path}\0{left},{top},{right},{bottom}".encode("utf-8", "surrogateescape")
    return "c" + hashlib.sha256(stated).hexdigest()[:12]


def _ids(images: Sequence[str], boxes: Sequence[Sequence[int]]) -> tuple[list, list]:
    """Crop ids of distinct crops, and those of version 0.5.0.

    Where two images differ by the leading `images/` alone, or by how letters are
    composed, one keeps its old id.
    """
    old = [make_crop_id_v1(*crop) for crop in zip(images, boxes, strict=True)]
    new = [make_crop_id(*crop) for crop in zip(images, boxes, strict=True)]
    # Those that have no other id come first.
    taken = {crop_id for place, crop_id in enumerate(new) if crop_id == old[place]}
    for place, crop_id in enumerate(new):
        if crop_id != old[place]:
            new[place] = old[place] if crop_id in taken else crop_id
            taken.add(new[place])
    return new, old


def plain_name(name: str) -> str:
    """The name of a class as everything takes it: without spaces around it, letters
    composed (NFC).
    """
    return unicodedata.normalize("NFC", name.strip())


@dataclass(frozen=True)
class CropTable:
    """Crops of images below one root folder.

    Attributes:
        root: the folder that the image paths are relative to.
        rows: a pyarrow table with the columns of `SCHEMA` first and any metadata
            columns after them.
    """

    root: Path
    rows: pa.Table

    def __repr__(self) -> str:
        classes = len(self.classes)
        return f"CropTable({len(self):,} crops, {classes} classes, {str(self.root)!r})"

    @classmethod
    def from_columns(
        cls, root: str | Path, columns: Mapping[str, Sequence[Any]]
    ) -> CropTable:
        """Builds a table; `crop_id` is computed, rows are sorted by image and box, and
        repeated crops are dropped.

        Args:
            root: the folder that `columns["image"]` is relative to.
            columns: every column of `SCHEMA` except crop_id, and any metadata columns.
        """
        names = [name for name in SCHEMA.names if name != "crop_id"]
        missing = [name for name in names if name not in columns]
        if missing:
            raise ValueError(
                f"columns must hold {', '.join(names)}; missing: {', '.join(missing)}"
            )
        boxes = list(zip(*(columns[side] for side in SIDES), strict=True))
        order = sorted(
            range(len(boxes)), key=lambda row: (columns["image"][row], boxes[row])
        )
        first: dict[tuple[str, Sequence[int]], int] = {}
        for row in order:
            first.setdefault((columns["image"][row], boxes[row]), row)
        kept = list(first.values())
        new, old = _ids([image for image, _ in first], [box for _, box in first])
        arrays = [pa.array(new, pa.string())]
        arrays += [
            pa.array([columns[name][row] for row in kept], SCHEMA.field(name).type)
            for name in names
        ]
        extra = [name for name in columns if name not in (*SCHEMA.names, OLD_ID)]
        arrays += [pa.array([columns[name][row] for row in kept]) for name in extra]
        arrays.append(pa.array(old, pa.string()))
        return cls(
            Path(root),
            pa.Table.from_arrays(arrays, names=[*SCHEMA.names, *extra, OLD_ID]),
        )

    @classmethod
    def read(
        cls, path: str | Path, root: str | Path | None = None, *, check: bool = False
    ) -> CropTable:
        """Reads `crops.parquet`.

        Args:
            path: the file.
            root: replaces the folder stated in the file, for images that have moved.
            check: every value, for a file that somebody may have edited; those of runs
                and embedding sets are known by their hash.

        Raises:
            ValueError: the file is no crop table, or is damaged.
        """
        try:
            rows = pq.read_table(path)
            missing = [name for name in SCHEMA.names if name not in rows.column_names]
            if missing:
                raise ValueError(f"missing columns: {', '.join(missing)}")
            rows = _with_types(rows) if check else rows
            stated = (rows.schema.metadata or {}).get(_ROOT, b"").decode()
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is not a crop table: {reason}") from None
        if OLD_ID not in rows.column_names:
            rows = _with_new_ids(rows)
        return cls(
            Path(root if root is not None else stated or Path(path).parent),
            rows.replace_schema_metadata(None),
        )

    def write(self, path: str | Path) -> None:
        """Writes `crops.parquet` atomically; the root goes along as an absolute
        path.
        """
        rows = self.rows.replace_schema_metadata(
            {_ROOT: str(self.root.resolve()).encode()}
        )
        write_atomically(path, lambda file: pq.write_table(rows, file))

    def __len__(self) -> int:
        return self.rows.num_rows

    def column(self, name: str) -> np.ndarray:
        """One column as an array of int32 or str objects, [N]; converted once and
        shared, so not to be written to.
        """
        if name not in self.rows.column_names:
            raise ValueError(
                f"column must be one of {', '.join(self.rows.column_names)}; got "
                f"{name!r}"
            )
        if name not in self._arrays:
            self._arrays[name] = self.rows.column(name).to_numpy()
            self._arrays[name].flags.writeable = False
        return self._arrays[name]

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        return {}

    @property
    def ids(self) -> np.ndarray:
        """Crop ids, [N] str."""
        return self.column("crop_id")

    @cached_property
    def boxes(self) -> np.ndarray:
        """Boxes as (left, top, right, bottom), [N, 4] int32."""
        return np.stack([self.column(side) for side in SIDES], axis=1)

    @cached_property
    def classes(self) -> list[str]:
        """Sorted names of the classes present, without the unlabelled."""
        return sorted(set(self.column("label_name")) - {""})

    @cached_property
    def class_indices(self) -> np.ndarray:
        """Place of each crop's class in `classes`, UNLABELLED for the unlabelled; [N]
        int32.
        """
        places = {name: place for place, name in enumerate(self.classes)}
        return np.array(
            [places.get(name, UNLABELLED) for name in self.column("label_name")],
            np.int32,
        )

    def path(self, row: int) -> Path:
        """The image file of a row."""
        return self.root / self.column("image")[row]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        """Crop id -> row, also of the ids of version 0.5.0."""
        found: dict[str, int] = {}
        if OLD_ID in self.rows.column_names:
            old = self.column(OLD_ID).tolist()
            found = dict(zip(old, range(len(self)), strict=True))
        found.update(zip(self.ids.tolist(), range(len(self)), strict=True))
        return found

    def row_of(self, crop_id: str) -> int | None:
        """The row of a crop id, of this version or of 0.5.0; None where there
        is none.
        """
        return self._row_of.get(crop_id)

    def rows_of(self, ids: Collection[str], argument: str = "crop") -> np.ndarray:
        """Rows of crop ids, [n] int.

        Args:
            ids: of this version or of 0.5.0.
            argument: the name to use in errors.

        Raises:
            ValueError: lists the ids that aren't in the table.
        """
        unknown = [crop_id for crop_id in ids if crop_id not in self._row_of]
        if unknown:
            few, more = ", ".join(map(repr, unknown[:5])), len(unknown) - 5
            raise ValueError(
                f"{argument} must name crops of this embedding set; unknown: {few}"
                + (f" and {more} more" if more > 0 else "")
            )
        return np.array([self._row_of[crop_id] for crop_id in ids], np.int64)

    def find(self, example: str) -> list[int]:
        """Rows of a crop id, or of an image by its path: as it is on this machine,
        otherwise relative to the root.

        Of an image with many crops `path@x,y` is the one at that point, the smallest
        where several overlap.
        """
        known = self.row_of(example)
        rows = np.array([] if known is None else [known], np.int64)
        point = _POINT.fullmatch(example)
        if not len(rows) and point:
            found = self.find(point[1])
            x, y = int(point[2]), int(point[3])
            left, top, right, bottom = (
                self.boxes[found].T if found else np.empty((4, 0))
            )
            inside = (left <= x) & (x < right) & (top <= y) & (y < bottom)
            areas = np.where(inside, (right - left) * (bottom - top), np.inf)
            return [found[int(np.argmin(areas))]] if inside.any() else []
        if not len(rows):
            rows = self._rows_of_image(example)
        return [int(row) for row in rows]

    def _rows_of_image(self, example: str) -> np.ndarray:
        """Rows of an image by its path; a link to it, or through linked folders, will
        do.
        """
        # The folder is resolved but not the file, which may be a link to somewhere
        # else.
        path = Path(example).parent.resolve() / Path(example).name
        root = self.root.resolve()
        names = {str(path), posixpath.relpath(path, root)}
        if path.is_relative_to(root):
            names = {path.relative_to(root).as_posix()}
        if not path.exists():
            # Where the path exists but isn't in the table it is an image from
            # elsewhere, whatever the root holds under that name.
            names.add(posixpath.normpath(example))
        images = self.column("image").astype(str)
        rows = np.flatnonzero(np.isin(images, list(names)))
        # Letters may be composed or in parts, by the disk's taste.
        if not len(rows) and not all(map(str.isascii, names)):
            composed = {unicodedata.normalize("NFC", name) for name in names}
            plain = [unicodedata.normalize("NFC", image) for image in images]
            rows = np.flatnonzero(np.isin(plain, list(composed)))
        if not len(rows) and path.is_file():
            rows = np.flatnonzero(np.isin(images, self._same_files(path)))
        return rows

    def _same_files(self, path: Path) -> list[str]:
        """Images of the table that are, by whatever links, the file of a path."""
        images = self.column("image")
        if "file_bytes" in self.rows.column_names:  # asking the disk for each is slow
            images = images[self.column("file_bytes") == path.stat().st_size]
        found = []
        for image in set(images):
            with contextlib.suppress(OSError):
                if (self.root / image).samefile(path):
                    found.append(image)
        return found

    def with_column(self, name: str, values: pa.Array | pa.ChunkedArray) -> CropTable:
        """The table with a column of these values, in place of one of that name."""
        if name in self.rows.column_names:
            place = self.rows.column_names.index(name)
            return CropTable(self.root, self.rows.set_column(place, name, values))
        return CropTable(self.root, self.rows.append_column(name, values))

    def with_columns(self, names: Sequence[str]) -> CropTable:
        """The table with these columns only, as far as it has them."""
        known = [name for name in names if name in self.rows.column_names]
        return CropTable(self.root, self.rows.select(known))

    def take(self, rows: np.ndarray) -> CropTable:
        """The table of the given rows: an index array or a boolean mask."""
        rows = np.asarray(rows)
        indices = np.flatnonzero(rows) if rows.dtype == bool else rows
        return CropTable(self.root, self.rows.take(pa.array(indices, pa.int64())))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of names and values of all columns, independent of the file format
        and the root. The ids are those of version 0.5.0, and columns that later
        versions added (`NOT_HASHED`) don't count, so that earlier files keep theirs.
        """
        digest = hashlib.sha256()
        names = self.rows.column_names
        for name in names:
            if name == OLD_ID or name in NOT_HASHED:
                continue
            source = OLD_ID if name == "crop_id" and OLD_ID in names else name
            values = self.rows.column(source).to_pylist()
            digest.update(json.dumps([name, values], default=str).encode())
        return digest.hexdigest()


def _with_types(rows: pa.Table) -> pa.Table:
    """The rows with the types of the schema, every box with an area.

    Raises:
        ValueError: they aren't of a crop table.
    """
    if len(set(rows.column_names)) < len(rows.column_names):
        raise ValueError("its columns must have different names")
    for place, name in enumerate(rows.column_names):
        if name in SCHEMA.names:
            column = rows.column(name).cast(SCHEMA.field(name).type)
            if column.null_count:
                raise ValueError(f"{name} must not be empty in any row")
            rows = rows.set_column(place, name, column)
    rows.validate(full=True)
    left, top, right, bottom = (rows.column(side).to_numpy() for side in SIDES)
    good = (left < right) & (top < bottom) & (left >= 0) & (top >= 0)
    if {"image_width", "image_height"} <= set(rows.column_names):
        width, height = (rows.column(f"image_{side}") for side in ("width", "height"))
        good &= (right <= width.to_numpy()) & (bottom <= height.to_numpy())
    if not good.all():
        raise ValueError("every box must have an area and lie in its image")
    if len(set(rows.column("crop_id").to_pylist())) < len(rows):
        raise ValueError("crop_id must be another one in every row")
    return rows


def _with_new_ids(rows: pa.Table) -> pa.Table:
    """A table of version 0.5.0 with ids of today. Ids that were made elsewhere stay."""
    stated = rows.column("crop_id").to_pylist()
    images = rows.column("image").to_pylist()
    boxes = list(zip(*(rows.column(side).to_pylist() for side in SIDES), strict=True))
    if any(not image.isascii() or image.startswith("images/") for image in images):
        new, old = _ids(images, boxes)
        if old == stated:
            new_ids = pa.array(new, pa.string())
            place = rows.column_names.index("crop_id")
            rows = rows.set_column(place, "crop_id", new_ids)
    return rows.append_column(OLD_ID, pa.array(stated, pa.string()))
