"""Label maps: images whose pixels are labels' numbers, as CropAndWeed's masks."""

from __future__ import annotations

import contextlib
import hashlib
from functools import lru_cache

import numpy as np
from PIL import Image

from artifacts.progress import Progress, no_progress
from data.crop_table import MASK_FILE, CropTable
from data.images import CropWindow, cut

_KEPT = 4  # maps in memory, since the crops of an image follow one another


class LabelMaps:
    """The label maps of a crop table's images, as far as there are any.

    Args:
        table: crops; the columns `mask_file` and `label_id` say where a crop's map lies
            and which number it has there.
    """

    def __init__(self, table: CropTable):
        names = table.rows.column_names
        self._files = table.column(MASK_FILE) if MASK_FILE in names else None
        self._labels = table.column("label_id") if "label_id" in names else None
        self._root, self._boxes = table.root, table.boxes
        self._read = lru_cache(_KEPT)(self._open)

    def content_hash(self, progress: Progress = no_progress) -> str:
        """SHA-256 of which crop has which map, and of the maps' files."""
        digest = hashlib.sha256()
        files = [] if self._files is None else [file or "" for file in self._files]
        digest.update("\n".join(files).encode("utf-8", "surrogateescape"))
        for file in progress(sorted({*files} - {""}), unit="mask", desc="masks"):
            with contextlib.suppress(OSError):
                digest.update((self._root / file).read_bytes())
        return digest.hexdigest()

    def count(self) -> int:
        """Of crops that have a map by the table."""
        return 0 if self._files is None else sum(map(bool, self._files))

    def _open(self, file: str) -> np.ndarray | None:
        try:
            with Image.open(self._root / file) as image:
                values = np.asarray(image)
        except (OSError, SyntaxError, ValueError):
            return None
        return values[..., 0] if values.ndim == 3 else values

    def cut(
        self, row: int, size: tuple[int, int], side: int, view: CropWindow
    ) -> np.ndarray | None:
        """Which pixels of a crop are its own label's, or any label's where none of them
        is.

        Args:
            row: of the crop.
            size: width and height of its image.
            side: of the crop as it is embedded.
            view: what of its box is shown.

        Returns:
            [side, side] bool; None without a map of this size that can be read.
        """
        file = None if self._files is None else self._files[row]
        values = self._read(str(file)) if file else None
        if values is None or values.shape != size[::-1]:
            return None
        left, top, right, bottom = box = self._boxes[row]
        own = values == (None if self._labels is None else self._labels[row])
        if not np.any(own[top:bottom, left:right]):
            own = values > 0
        shown = Image.fromarray(own * np.uint8(255))
        return np.asarray(cut(shown, box, side, view)) > 127
