"""Training crops, cut and scaled once.

Training shows every crop many times. Decoding its whole image each time would cost more
than the network's step, and even decoding only the region of a 1920 x 1088 JPEG costs
several times what reading a small crop does (benchmarks/pipeline.py). So each image is
decoded once, however many crops it holds, and its crops are kept without loss in a few
files, and as far as they fit in memory.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from artifacts.files import check_writable, write_atomically, write_json
from artifacts.progress import Progress, no_progress
from data.crop_table import CropTable
from data.images import CropWindow, ImageError, cut_at_most, read_image

ROWS_PER_PART = 2048
MEMORY = 1 << 30  # bytes of pixels that a cache keeps decoded, about


class CropCache:
    """The crops of a table as 8-bit RGB, in a folder; built once, resumable, safe to
    read from many threads.

    Args:
        folder: where it lies; a cache of other crops there is replaced.
        table: the crops.
        longest: longer side that crops are scaled down to.
        view: what of a box is shown.
        progress: wraps the iteration over images, for a progress bar.

    Attributes:
        reasons: image -> why it couldn't be read, of those this call came across.
    """

    def __init__(
        self,
        folder: str | Path,
        table: CropTable,
        longest: int,
        view: CropWindow,
        progress: Progress = no_progress,
    ):
        self.folder, self.table, self.longest, self.view = (
            Path(folder),
            table,
            longest,
            view,
        )
        self.reasons: dict[str, str] = {}
        self._decoded: dict[int, np.ndarray] = {}
        self._room = MEMORY
        identity = {
            "table_hash": table.content_hash,
            "longest": longest,
            "view": repr(view),
            "rows_per_part": ROWS_PER_PART,
        }
        stated = self.folder / "identity.json"
        if self.folder.exists() and not (
            stated.is_file() and json.loads(stated.read_text()) == identity
        ):
            shutil.rmtree(self.folder)
        # About half of the raw pixels remain.
        check_writable(
            self.folder, "crop cache", len(table) * longest * longest * 3 // 2
        )
        write_json(stated, identity)
        self._build(progress)
        self._starts = [
            np.load(path, allow_pickle=False) for path in self._paths("starts")
        ]
        self._bytes = [
            np.load(path, mmap_mode="r", allow_pickle=False)
            for path in self._paths("bytes")
        ]

    def _paths(self, kind: str) -> list[Path]:
        parts = -(-len(self.table) // ROWS_PER_PART)
        return [
            self.folder / f"part-{number:05d}.{kind}.npy" for number in range(parts)
        ]

    def read(self, row: int) -> np.ndarray | None:
        """One crop, uint8 [height, width, 3], not to be written to; None where its
        image couldn't be read.
        """
        if row in self._decoded:
            return self._decoded[row]
        part, place = divmod(row, ROWS_PER_PART)
        start, end = self._starts[part][place : place + 2]
        if start == end:
            return None
        pixels = np.asarray(
            Image.open(io.BytesIO(self._bytes[part][start:end].tobytes()))
        )
        if pixels.nbytes <= self._room:
            self._room -= pixels.nbytes
            self._decoded[row] = pixels
        return pixels

    def _build(self, progress: Progress) -> None:
        missing = [
            number
            for number, path in enumerate(self._paths("starts"))
            if not path.is_file()
        ]
        if not missing:
            return
        rows_of = [
            range(
                part * ROWS_PER_PART, min(len(self.table), (part + 1) * ROWS_PER_PART)
            )
            for part in missing
        ]
        images = self.table.column("image")
        groups = [
            [
                list(rows)
                for _, rows in itertools.groupby(rows, key=lambda row: images[row])
            ]
            for rows in rows_of
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            done = iter(
                progress(
                    self._cut_all(pool, [rows for part in groups for rows in part]),
                    total=sum(map(len, groups)),
                    unit="image",
                    desc="cutting",
                )
            )
            for number, part in zip(missing, groups, strict=True):
                blobs = [blob for _ in part for blob in next(done)]
                starts = np.cumsum([0, *map(len, blobs)])
                content = np.frombuffer(b"".join(blobs), np.uint8)
                save = partial(np.save, arr=content)
                write_atomically(self._paths("bytes")[number], save)
                save = partial(np.save, arr=starts)
                write_atomically(self._paths("starts")[number], save)

    def _cut_all(
        self, pool: ThreadPoolExecutor, groups: list[list[int]]
    ) -> Iterator[list[bytes]]:
        """Cuts the crops of each image, a few images ahead; results in order."""
        ahead = 4 * (os.cpu_count() or 1)
        for start in range(0, len(groups), ahead):
            yield from pool.map(self._cut, groups[start : start + ahead])

    def _cut(self, rows: list[int]) -> list[bytes]:
        """The crops of one image as PNG; empty where it can't be read."""
        try:
            image = read_image(self.table.path(rows[0]))
        except ImageError as error:
            self.reasons[self.table.column("image")[rows[0]]] = error.reason
            return [b""] * len(rows)
        blobs = []
        for row in rows:
            file = io.BytesIO()
            cut_at_most(image, self.table.boxes[row], self.longest, self.view).save(
                file, "PNG", compress_level=1
            )
            blobs.append(file.getvalue())
        return blobs
