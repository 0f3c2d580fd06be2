"""Decodes any image file that people have to 8-bit RGB, upright. The one place where
pixels are read.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import io
import re
import struct
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError, features

from artifacts.files import write_atomically
from data.files import is_file, is_plain

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
    | ({".avif"} if features.check("avif") else set())
)
_LEFT_AWAY = (".jpg", ".jpeg", ".png", ".tif", ".JPG")  # that lists of ids leave away
# Photos that Pillow alone can't open, by what to do about them.
UNREADABLE_PHOTOS = {
    **dict.fromkeys((".heic", ".heif"), "convert them, or install pillow-heif"),
    **dict.fromkeys((".jxl", ".jp2", ".psd", ".svg", ".pdf"), "convert them"),
    **dict.fromkeys(
        (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"),
        "a camera's raw data: convert them",
    ),
}
try:  # with it, HEIC is read as any other photo
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()
    EXTENSIONS |= {".heic", ".heif"}
MAX_PIXELS = 200_000_000  # beyond, a file of a few kilobytes could ask for gigabytes
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_EXIF_ORIENTATION = 0x0112
_SIGNS = {"N": 1, "S": -1, "E": 1, "W": -1}
_TAKEN, _DIGITIZED = 0x9003, 0x9004  # EXIF tags
_EXIF_TIME = re.compile(r"(\d{4})[:/-](\d{2})[:/-](\d{2})(?:[ T](\d{2}:\d{2}:\d{2}))?")
_UPRIGHT = {  # EXIF orientation -> what turns it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = (5, 6, 7, 8)  # those that exchange width and height
_SENSOR_BITS = (8, 10, 12, 14, 16)
_EXTRA_SAMPLES = 338  # TIFF tag: what bands beyond red, green and blue are
_SAMPLES, _PHOTOMETRIC, _WHITE_IS_ZERO = 277, 262, 0  # TIFF tags, and a value
_TRANSPARENCY = (1, 2)  # its values for premultiplied and plain
# What Pillow raises on damaged files, by format and place of the damage.
_DECODE_ERRORS = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    ArithmeticError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)

# They name no file; what matters of them comes as an error.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# `_open` checks MAX_PIXELS itself, with an error that names the file.
Image.MAX_IMAGE_PIXELS = None


class ImageError(ValueError):
    """An image file can't be read; the message names the file and says why.

    Attributes:
        reason: why, without the file.
    """

    def __init__(self, path: str | Path | BinaryIO, reason: str):
        super().__init__(f"{path}: {reason}")
        self.reason = reason


class _UnsupportedPixels(ValueError):
    """Pixels whose range isn't defined."""


def _size(path: str | Path | BinaryIO) -> int | None:
    """Bytes of a file; None where there is none, or where its name can't be one."""
    if not isinstance(path, (str, Path)):
        return path.seek(0, io.SEEK_END)
    try:
        return Path(path).stat().st_size if Path(path).is_file() else None
    except OSError:
        return None


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image before it is used.

    Attributes:
        width, height: of the upright image, in pixels.
        turned: whether its EXIF orientation exchanges the two.
        notes: what is shown otherwise than it is stored.
        taken: when it was taken by its EXIF, ISO 8601 without a zone; "" if unknown.
        position: latitude and longitude in degrees by its EXIF, north and east being
            positive.
    """

    width: int
    height: int
    turned: bool = False
    notes: tuple[str, ...] = ()
    taken: str = ""
    position: tuple[float, float] | None = None


def _open(path: str | Path | BinaryIO) -> Image.Image:
    try:
        image = Image.open(path)
    except _DECODE_ERRORS as error:
        size = _size(path)
        ending = Path(path).suffix.lower() if isinstance(path, str | Path) else ""
        reason = _reason(error)
        if not size:
            reason = "no such file" if size is None else "zero bytes"
        elif ending in UNREADABLE_PHOTOS:
            reason = f"{ending} can't be read: {UNREADABLE_PHOTOS[ending]}"
        raise ImageError(path, reason) from None
    if image.format == "TIFF":
        # Pillow turns the size before it maps an uncompressed file into memory, whose
        # rows then have the wrong length; without a name it doesn't map.
        image.filename = ""
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ImageError(
            path,
            f"{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read",
        )
    return image


def _reason(error: BaseException) -> str:
    if isinstance(error, _UnsupportedPixels):
        return str(error)
    return (
        "not an image"
        if isinstance(error, UnidentifiedImageError)
        else f"damaged image ({error})"
    )


def read_size(path: str | Path) -> tuple[int, int]:
    """Width and height of the upright image, from its metadata; pixels aren't decoded
    (but for PNG, with EXIF at its end).

    Raises:
        ImageError: the file is missing, empty, no image or too large.
    """
    facts = inspect_image(path)
    return facts.width, facts.height


def inspect_image(path: str | Path) -> ImageFacts:
    """Size and oddities of an image, from its metadata; see `read_size`. Pixels of
    more than 8 bits are looked at.

    Raises:
        ImageError: the file is missing, empty, no image or too large.
    """
    with _open(path) as image:
        try:
            is_deep = image.mode in ("RGB", "RGBA") and ";16" in str(
                vars(image).get("tile")
            )
            turned = _orientation(image) in _TURNED
            width, height = image.size
            notes = tuple(_notes(image, is_deep))
            taken, position = _taken(image), _position(image)
        except _DECODE_ERRORS as error:
            raise ImageError(path, _reason(error)) from None
    if turned:
        width, height = height, width
    return ImageFacts(width, height, turned, notes, taken, position)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 where there is none, or none that can be told.

    A sound photo may have odd tags, so the others aren't looked at. Of TIFF files
    Pillow turns size and pixels by itself.
    """
    if image.format == "TIFF":
        return 1
    try:
        stated = image.getexif().get(_EXIF_ORIENTATION)
    except _DECODE_ERRORS:
        if image.format == "PNG":
            raise  # it keeps EXIF after the pixels: a short file is noticed here
        return 1
    return stated if isinstance(stated, int) and stated in _UPRIGHT else 1


def _tags(image: Image.Image, group: int) -> dict[int, Any]:
    """EXIF tags of a group, none where they can't be told."""
    try:
        return dict(image.getexif().get_ifd(group))
    except (*_DECODE_ERRORS, AttributeError):
        return {}


def _taken(image: Image.Image) -> str:
    tags = _tags(image, ExifTags.IFD.Exif)
    stated = (tags.get(tag) for tag in (_TAKEN, _DIGITIZED))
    for value in stated:
        match = _EXIF_TIME.match(str(value or ""))
        if match:
            year, month, day, time = match.groups()
            found = f"{year}-{month}-{day}" + (f"T{time}" if time else "")
            with contextlib.suppress(ValueError):  # no such day
                datetime.datetime.fromisoformat(found)
                return found
    return ""


def _position(image: Image.Image) -> tuple[float, float] | None:
    tags = _tags(image, ExifTags.IFD.GPSInfo)
    try:
        latitude, longitude = (
            sum(float(part) / 60**place for place, part in enumerate(tags[number]))
            for number in (ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLongitude)
        )
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return None
    north, east = (
        _SIGNS.get(str(tags.get(tag, "")).strip("\0 ").upper())
        for tag in (ExifTags.GPS.GPSLatitudeRef, ExifTags.GPS.GPSLongitudeRef)
    )
    # Cameras without a fix write zeros, or what isn't a number.
    is_fix = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude)
    if not (is_fix and north and east):
        return None
    return round(north * latitude, 7), round(east * longitude, 7)


def _notes(image: Image.Image, is_deep: bool) -> Iterator[str]:
    if image.mode in _SIXTEEN_BIT:
        image.load()
        bits = _bits_of(np.asarray(image))
        if bits < 16:
            yield f"images of 16 bits that use {bits} at most: shown by those"
    elif is_deep:
        yield "images of 16 bits a color: the upper 8 are shown"
    if _has_unnamed_bands(image) or _has_more_bands(image):
        yield "images with bands beyond their colors: they aren't shown"
    profile = image.info.get("icc_profile")
    if profile and not _is_srgb(profile):
        yield "images with a color profile other than sRGB: shown without it"
    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        yield "images of several pages: the first is shown"


def _has_more_bands(image: Image.Image) -> bool:
    """Whether a TIFF has bands that Pillow leaves away."""
    if image.format != "TIFF":
        return False
    stated = image.tag_v2.get(_SAMPLES, 1)  # type: ignore[attr-defined]
    return isinstance(stated, int) and stated > len(image.getbands())


@functools.lru_cache(64)
def _is_srgb(profile: bytes) -> bool:
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return "srgb" in ImageCms.getProfileDescription(opened).lower()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return True  # damaged: viewers leave it alone too


def _bits_of(values: np.ndarray) -> int:
    """The bits of the sensor that values come from, by the highest."""
    highest = int(values.max(initial=0))
    return next(bits for bits in _SENSOR_BITS if highest < 2**bits)


def _has_unnamed_bands(image: Image.Image) -> bool:
    """Whether a TIFF has a band beyond its colors that isn't said to be transparency,
    such as near infrared; Pillow takes it for that.
    """
    if image.format != "TIFF" or not image.mode.endswith("A"):
        return False
    stated = image.tag_v2.get(_EXTRA_SAMPLES, ())  # type: ignore[attr-defined]
    kinds = stated if isinstance(stated, tuple) else (stated,)
    return not set(kinds) & set(_TRANSPARENCY)


def read_image(path: str | Path | BinaryIO) -> Image.Image:
    """Reads an image as 8-bit RGB, turned upright by its EXIF orientation.

    Gray and palette images become RGB, CMYK is converted, and transparent pixels are
    laid over mid gray, the color that carries least; a fourth band of a TIFF that isn't
    said to be transparency is left away. Of 16-bit gray values the upper 8 of the bits
    in use are kept: a sensor of 12 bits fills 4,096 of 65,536 values, which would be
    all but black. Of an animation the first frame is read.

    Raises:
        ImageError: the file is missing, empty, damaged, too large or of a kind without
            a defined range (float).
    """
    with _open(path) as image:
        try:
            image.load()
            return _to_rgb(_upright(image))
        except _DECODE_ERRORS as error:
            raise ImageError(path, _reason(error)) from None


def _upright(image: Image.Image) -> Image.Image:
    turn = _UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if _has_unnamed_bands(image):
        bands = image.split()[:-1]
        return Image.merge(image.mode[:-1], bands).convert("RGB")
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise _UnsupportedPixels(
                f"values from {values.min()} to {values.max()}; at most 16 bits are "
                "read"
            )
        shown = (values >> (_bits_of(values) - 8)).astype(np.uint8)
        if image.format == "TIFF":
            tags = image.tag_v2  # type: ignore[attr-defined]
            if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow minds it with 8 bits
                shown = 255 - shown
        return Image.fromarray(shown).convert("RGB")
    if image.mode == "F":
        raise _UnsupportedPixels("floating-point pixels have no defined range")
    if "A" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        grey = Image.new("RGBA", rgba.size, (128, 128, 128, 255))
        return Image.alpha_composite(grey, rgba).convert("RGB")
    return image.convert("RGB")


FILLS = ("reflect", "gray")


@dataclass(frozen=True)
class CropWindow:
    """Which part of the image a box stands for.

    Attributes:
        padding: margin added on every side, as a share of the box's longer side, at
            least 0.
        square: whether the shorter side grows to the longer one about the box's center,
            so that the aspect is kept when the crop is scaled to a square; otherwise it
            is stretched.
        fill: what lies beyond the image's border: "reflect" (mirrored pixels) or
            "gray".
    """

    padding: float = 0.0
    square: bool = True
    fill: str = "reflect"

    def __post_init__(self) -> None:
        if not 0 <= self.padding <= 4:
            raise ValueError(
                "padding must be in [0, 4], a share of the box's longer side; got "
                f"{self.padding}"
            )
        if self.fill not in FILLS:
            raise ValueError(
                f"fill must be one of {', '.join(FILLS)}; got {self.fill!r}"
            )

    def window(self, box: Sequence[int]) -> tuple[int, int, int, int]:
        """The part of the image to show, (left, top, right, bottom) in pixels; may
        reach beyond the border.
        """
        left, top, right, bottom = (int(value) for value in box)
        width, height = right - left, bottom - top
        margin = round(self.padding * max(width, height))
        if self.square:
            side = max(width, height)
            left, top = left - (side - width) // 2, top - (side - height) // 2
            right, bottom = left + side, top + side
        return left - margin, top - margin, right + margin, bottom + margin


STRETCHED = CropWindow(square=False)  # the box as it is


def cut(
    image: Image.Image, box: Sequence[int], size: int, view: CropWindow = STRETCHED
) -> Image.Image:
    """Cuts what `view` shows of a box (left, top, right, bottom) and scales it to size
    x size, antialiased bicubic.
    """
    # Cropped first: `resize(box=...)` would let pixels from outside the box into the
    # interpolation at its border.
    return _crop(image, view.window(box), view.fill).resize(
        (size, size), Image.Resampling.BICUBIC
    )


def cut_at_most(
    image: Image.Image, box: Sequence[int], longest: int, view: CropWindow = STRETCHED
) -> Image.Image:
    """Cuts what `view` shows of a box and scales it down, keeping its aspect, to at
    most `longest` pixels on its longer side.
    """
    crop = _crop(image, view.window(box), view.fill)
    scale = min(1.0, longest / max(crop.size))
    size = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
    return crop if scale == 1.0 else crop.resize(size, Image.Resampling.BICUBIC)


def _crop(image: Image.Image, window: Sequence[int], fill: str) -> Image.Image:
    left, top, right, bottom = window
    inside = (
        max(0, left),
        max(0, top),
        min(image.width, right),
        min(image.height, bottom),
    )
    crop = image.crop(inside)
    missing = (inside[0] - left, inside[1] - top, right - inside[2], bottom - inside[3])
    if not any(missing):
        return crop
    pixels = np.asarray(crop)
    sides = ((missing[1], missing[3]), (missing[0], missing[2]), (0, 0))
    widths = sides[: pixels.ndim]  # a mask has no colors
    if fill == "gray":
        return Image.fromarray(np.pad(pixels, widths, constant_values=128))
    return Image.fromarray(np.pad(pixels, widths, mode="symmetric"))


def as_on_disk(root: Path, image: str) -> str | None:
    """What an image's file is called below a folder: as it is stated, or with its
    letters composed otherwise (archives of some systems keep accents apart), or with
    the ending that a list of ids leaves away; None where there is none.
    """
    if not is_plain(image):
        return None
    has_ending = Path(image).suffix.lower() in EXTENSIONS
    forms = (image, *(unicodedata.normalize(form, image) for form in ("NFC", "NFD")))
    for ending in ("",) if has_ending else ("", *_LEFT_AWAY):
        for form in dict.fromkeys(forms):
            if is_file(root / f"{form}{ending}"):
                return f"{form}{ending}"
    return None


_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "TIFF": ".tif", "GIF": ".gif"}


def ending_of(path: str | Path | BinaryIO) -> str:
    """The ending that a file's content asks for; "" where it can't be told."""
    try:
        with _open(path) as image:
            kind = image.format or ""
    except ImageError:
        return ""
    return _ENDINGS.get(kind, f".{kind.lower()}")


def write_png(path: str | Path, image: Image.Image) -> None:
    """Writes an image as PNG, whole or not at all."""
    write_atomically(path, lambda file: image.save(file, "PNG"))
