"""Decodes any image file that people have to 8-bit RGB, upright. The one place where pixels are read."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data.files import write_atomically

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
MAX_PIXELS = 200_000_000  # beyond, a file of a few kilobytes could ask for gigabytes
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_EXIF_ORIENTATION = 0x0112
# What Pillow raises on damaged files, by format and place of the damage.
_DECODE_ERRORS = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)

Image.MAX_IMAGE_PIXELS = None  # `_open` checks MAX_PIXELS itself, with an error that names the file


class ImageError(ValueError):
    """An image file can't be read; the message names the file and says why.

    Attributes:
        reason: why, without the file.
    """

    def __init__(self, path: str | Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.reason = reason


class _UnsupportedPixels(ValueError):
    """Pixels whose range isn't defined."""


def _open(path: str | Path) -> Image.Image:
    try:
        image = Image.open(path)
    except _DECODE_ERRORS as error:
        size = Path(path).stat().st_size if Path(path).is_file() else None
        reason = "no such file" if size is None else "zero bytes" if size == 0 else _reason(error)
        raise ImageError(path, reason) from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ImageError(path, f"{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read")
    return image


def _reason(error: BaseException) -> str:
    if isinstance(error, _UnsupportedPixels):
        return str(error)
    return "not an image" if isinstance(error, UnidentifiedImageError) else f"damaged image ({error})"


def read_size(path: str | Path) -> tuple[int, int]:
    """Width and height of the upright image, from its metadata; pixels aren't decoded (but for PNG, with EXIF at its end).

    Raises:
        ImageError: the file is missing, empty, no image or too large.
    """
    with _open(path) as image:
        try:
            turned = image.getexif().get(_EXIF_ORIENTATION) in _TURNED
        except _DECODE_ERRORS as error:  # PNG keeps EXIF after the pixels, so a short file is noticed here
            raise ImageError(path, _reason(error)) from None
        return (image.height, image.width) if turned else (image.width, image.height)


def read_image(path: str | Path) -> Image.Image:
    """Reads an image as 8-bit RGB, turned upright by its EXIF orientation.

    Grey and palette images become RGB, CMYK is converted, 16-bit values keep their upper byte, and transparent pixels
    are laid over mid grey, the colour that carries least. Of an animation the first frame is read.

    Raises:
        ImageError: the file is missing, empty, damaged, too large or of a kind without a defined range (float).
    """
    with _open(path) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _to_rgb(upright if upright is not None else image)
        except _DECODE_ERRORS as error:
            raise ImageError(path, _reason(error)) from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise _UnsupportedPixels(f"values from {values.min()} to {values.max()}; at most 16 bits are read")
        shift = 0 if image.mode == "I" and values.max() < 256 else 8  # 32-bit files often hold 8-bit values
        return Image.fromarray((values >> shift).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise _UnsupportedPixels("floating-point pixels have no defined range")
    if "A" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        grey = Image.new("RGBA", rgba.size, (128, 128, 128, 255))
        return Image.alpha_composite(grey, rgba).convert("RGB")
    return image.convert("RGB")


def cut(image: Image.Image, box: Sequence[int], size: int) -> Image.Image:
    """Cuts a box (left, top, right, bottom) and scales it to size x size, antialiased bicubic; aspect is not kept."""
    # Cropped first: `resize(box=...)` would let pixels from outside the box into the interpolation at its border.
    left, top, right, bottom = (int(value) for value in box)
    return image.crop((left, top, right, bottom)).resize((size, size), Image.Resampling.BICUBIC)


def cut_at_most(image: Image.Image, box: Sequence[int], longest: int) -> Image.Image:
    """Cuts a box and scales it down, keeping its aspect, so that its longer side has at most `longest` pixels."""
    left, top, right, bottom = (int(value) for value in box)
    scale = min(1.0, longest / max(right - left, bottom - top))
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    crop = image.crop((left, top, right, bottom))
    return crop if scale == 1.0 else crop.resize(size, Image.Resampling.BICUBIC)


def write_png(path: str | Path, image: Image.Image) -> None:
    """Writes an image as PNG, whole or not at all."""
    write_atomically(path, lambda file: image.save(file, "PNG"))
