"""Pictures for the page: thumbnails cut on demand and cached on disk up to a limit, and
whole photos scaled down.
"""

from __future__ import annotations

import io
import logging
import os
import re
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from artifacts.files import whole_file
from data.crop_table import CropTable
from data.images import CropWindow, cut, cut_at_most, read_image

SIZES = (96, 192, 320)  # sides of thumbnails, in pixels
LIMIT = 500_000_000  # bytes of thumbnails on disk
DECODED = 100_000_000  # bytes of decoded photos in memory
PHOTO = 1600  # longest side of a whole photo
_KEPT_SHARE = 0.8  # of the limit that is left after clearing
_STRIPES = 64
_log = logging.getLogger(__name__)


class Photos:
    """Thumbnails and photos of a crop table's rows; safe to use from several threads.

    Attributes:
        bytes_on_disk: of thumbnails.
    """

    def __init__(
        self,
        table: CropTable,
        cache: Path,
        window: CropWindow | None = None,
        *,
        limit: int = LIMIT,
    ):
        """Takes up what lies in the cache already.

        Args:
            table: the crops.
            cache: folder of the thumbnails.
            window: what of a box is shown, as the encoder saw it.
            limit: bytes on disk.
        """
        self.table, self.cache, self.limit = table, cache, limit
        self.window = window or CropWindow()
        shown = f"{self.window.padding:g}-{self.window.square:d}-{self.window.fill}"
        self._name = f"{table.content_hash[:8]}-{shown}"
        self._lock = threading.Lock()
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        self._decoded: OrderedDict[str, Image.Image] = OrderedDict()
        self._said = False
        cache.mkdir(parents=True, exist_ok=True)
        self.bytes_on_disk = sum(entry.stat().st_size for entry in cache.rglob("*.jpg"))

    def thumbnail(self, row: int, size: int) -> bytes:
        """A JPEG of the crop, size x size, with what lies around it where the box isn't
        square.

        Raises:
            ValueError: size isn't one of SIZES.
            ImageError: the image can't be read.
        """
        if size not in SIZES:
            raise ValueError(
                f"size must be one of {', '.join(map(str, SIZES))}; got {size}"
            )
        name = re.sub(r"\W", "_", str(self.table.ids[row]))
        path = self.cache / f"{self._name}-{size}" / name[-2:] / f"{name}.jpg"
        image = str(self.table.column("image")[row])
        found = _read(path)
        if found is not None:
            return found
        with self._stripes[
            hash(image) % _STRIPES
        ]:  # one decodes, the others of the same image wait for it
            found = _read(path)
            if found is not None:
                return found
            content = _jpeg(
                cut(self._photo(image, row), self.table.boxes[row], size, self.window),
                85,
            )
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path, sync=False) as partial:  # it can be cut again
                    partial.write_bytes(content)
            except OSError as error:  # a full disk must not hide pictures
                self._say_once(path, error)
                return content
        with self._lock:
            self.bytes_on_disk += len(content)
            full = self.bytes_on_disk > self.limit
        if full:
            self._clear()
        return content

    def _say_once(self, path: Path, error: OSError) -> None:
        with self._lock:
            said, self._said = self._said, True
        if not said:
            _log.warning("thumbnails aren't kept: %s: %s", path.parent, error)

    def photo(self, row: int) -> bytes:
        """The whole photo of a crop as JPEG, at most 1600 pixels on its longer side."""
        image = self._photo(str(self.table.column("image")[row]), row)
        scale = min(1.0, PHOTO / max(image.size))
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return _jpeg(
            image if scale == 1.0 else image.resize(size, Image.Resampling.LANCZOS), 85
        )

    def detail_box(self, row: int) -> tuple[int, int, int, int]:
        """What `detail` shows, (left, top, right, bottom) in the photo's pixels: the
        crop with half of its longer side around it.
        """
        width, height = self.size(row)
        left, top, right, bottom = (int(side) for side in self.table.boxes[row])
        margin = max(right - left, bottom - top) // 2
        return (
            max(0, left - margin),
            max(0, top - margin),
            min(width, right + margin),
            min(height, bottom + margin),
        )

    def detail(self, row: int) -> bytes:
        """The crop and what lies around it, as JPEG in all the pixels that the photo
        has, at most 1600 on the longer side.
        """
        image = self._photo(str(self.table.column("image")[row]), row)
        return _jpeg(cut_at_most(image, self.detail_box(row), PHOTO), 90)

    def size(self, row: int) -> tuple[int, int]:
        """Width and height of the upright photo of a crop."""
        return self._photo(str(self.table.column("image")[row]), row).size

    def _photo(self, name: str, row: int) -> Image.Image:
        with self._lock:
            found = self._decoded.get(name)
            if found is not None:
                self._decoded.move_to_end(name)
                return found
        image = read_image(self.table.path(row))
        with self._lock:
            self._decoded[name] = image
            while (
                len(self._decoded) > 1
                and sum(3 * kept.width * kept.height for kept in self._decoded.values())
                > DECODED
            ):
                self._decoded.popitem(last=False)
        return image

    def _clear(self) -> None:
        """Removes the thumbnails that were asked for least recently, until there is
        room again.
        """
        with self._lock:
            entries = []
            for path in self.cache.rglob("*.jpg"):
                try:
                    facts = path.stat()
                except FileNotFoundError:
                    continue
                entries.append((facts.st_mtime_ns, facts.st_size, path))
            left = sum(size for _, size, _ in entries)
            for _, size, path in sorted(entries, key=lambda entry: entry[0]):
                if left <= _KEPT_SHARE * self.limit:
                    break
                path.unlink(missing_ok=True)
                left -= size
            self.bytes_on_disk = left


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:  # it isn't there, or its folder isn't one
        return None
    return content


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
