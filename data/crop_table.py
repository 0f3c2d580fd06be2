"""The crop table: one row a crop, the seam between every image source and everything
after it.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.files import write_atomically

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
        (
            "session",
            pa.string(),
        ),  # recording session, "" where unknown; sessions never straddle splits
        (
            "split",
            pa.string(),
        ),  # "train", "validation", "test" or "" where the source has none
    ]
)
_ROOT = b"root"
_POINT = re.compile(r"(.+)@(\d+),(\d+)")


def make_crop_id(image: str, box: Sequence[int]) -> str:
    """The id of a crop: "c" and 12 hexadecimal digits from its image's relative path
    and its box.

    It depends on nothing else, so marks stay valid when the source grows, is read in
    another order or is moved whole. The letter keeps spreadsheets from taking an id for
    a number.
    """
    left, top, right, bottom = (int(value) for value in box)
    return (
        "c"
        + hashlib.sha256(
            f"{image}\0{left},{top},{right},{bottom}".encode()
        ).hexdigest()[:12]
    )


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
        ids: dict[str, int] = {}
        for row in order:
            ids.setdefault(make_crop_id(columns["image"][row], boxes[row]), row)
        arrays = [pa.array(list(ids), pa.string())]
        arrays += [
            pa.array(
                [columns[name][row] for row in ids.values()], SCHEMA.field(name).type
            )
            for name in names
        ]
        extra = [name for name in columns if name not in SCHEMA.names]
        arrays += [
            pa.array([columns[name][row] for row in ids.values()]) for name in extra
        ]
        return cls(Path(root), pa.Table.from_arrays(arrays, names=SCHEMA.names + extra))

    @classmethod
    def read(cls, path: str | Path, root: str | Path | None = None) -> CropTable:
        """Reads `crops.parquet`; `root` replaces the folder stated in the file, for
        images that have moved.
        """
        rows = pq.read_table(path)
        missing = [name for name in SCHEMA.names if name not in rows.column_names]
        if missing:
            raise ValueError(
                f"{path} is not a crop table; missing columns: {', '.join(missing)}"
            )
        stated = (rows.schema.metadata or {}).get(_ROOT, b".").decode()
        return cls(
            Path(root if root is not None else stated),
            rows.replace_schema_metadata(None),
        )

    def write(self, path: str | Path) -> None:
        """Writes `crops.parquet` atomically; the root goes along as an absolute path."""
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

    def find(self, example: str) -> list[int]:
        """Rows of a crop id, or of an image by its path: as it is on this machine,
        otherwise relative to the root.

        Of an image with many crops `path@x,y` is the one at that point, the smallest
        where several overlap.
        """
        rows = np.flatnonzero(self.ids == example)
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
            # The folder is resolved but not the file, which may be a link to somewhere
            # else.
            path, root = (
                Path(example).parent.resolve() / Path(example).name,
                self.root.resolve(),
            )
            names = (
                {path.relative_to(root).as_posix()}
                if path.is_relative_to(root)
                else {str(path), posixpath.relpath(path, root)}
            )
            if not path.exists():
                names.add(posixpath.normpath(example))
            # Where the path exists but isn't in the table it is an image from
            # elsewhere, whatever the root holds under that name.
            rows = np.flatnonzero(
                np.isin(self.column("image").astype(str), list(names))
            )
        return [int(row) for row in rows]

    def take(self, rows: np.ndarray) -> CropTable:
        """The table of the given rows: an index array or a boolean mask."""
        rows = np.asarray(rows)
        indices = np.flatnonzero(rows) if rows.dtype == bool else rows
        return CropTable(self.root, self.rows.take(pa.array(indices, pa.int64())))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of names and values of all columns, independent of the file format
        and the root.
        """
        digest = hashlib.sha256()
        for name in self.rows.column_names:
            digest.update(
                json.dumps(
                    [name, self.rows.column(name).to_pylist()], default=str
                ).encode()
            )
        return digest.hexdigest()
