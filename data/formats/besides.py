"""What a folder of photos holds besides them: annotations that would be passed over,
and masks that would pass for photos.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.files import is_file, subfolders
from data.formats import coco, csv
from data.formats.yolo_rows import parse
from data.images import EXTENSIONS

_WHOLE = "--format=folder reads whole images"
_ENDINGS = (".json", ".jsonl", ".xml", ".csv", ".tsv", ".txt")
_HEAD = 65_536  # bytes of a file that are looked at


def check_no_data_set_below(root: Path, layout_of: Callable[[str], str]) -> None:
    """Refuses a folder of whole images that holds a data set further down.

    Args:
        root: the folder.
        layout_of: tells the format of a path.
    """
    for path in _two_levels(root):
        kind = layout_of(str(path))
        if kind != "folder":
            raise ValueError(
                f"data must be the folder of the data set itself; {str(path)!r} has "
                f"the layout of {kind}. {_WHOLE}"
            )


def check_only_photos(root: Path, files: Sequence[Path]) -> None:
    """Refuses a folder of whole images that holds annotations which would be passed
    over, or masks that would pass for photos.

    Args:
        root: the folder.
        files: all files below it, in order.
    """
    stems: dict[Path, dict[str, str]] = {}
    others: dict[Path, list[Path]] = {}
    for file in files:
        if file.suffix.lower() in EXTENSIONS:
            stems.setdefault(file.parent, {})[file.stem] = file.name
        elif file.suffix.lower() in _ENDINGS:
            others.setdefault(file.parent, []).append(file)
    folders = {path.relative_to(root).parts for path in stems}
    photos = _Photos(
        {stem for found in stems.values() for stem in found},
        {name for found in stems.values() for name in found.values()},
        any(not all(map(_NO_CLASS.fullmatch, parts)) for parts in folders),
    )
    for folder, found in others.items():
        if len(folder.relative_to(root).parts) <= _LEVELS:
            for file in filter(is_file, found[:_MANY]):  # links may lead nowhere
                _check_annotation(file, photos)
    _check_no_masks(stems)


_LEVELS = 2  # of folders below the data set's that annotations are looked for in
_MANY = 50  # files of a folder that are looked at: one is enough to tell
# What annotations speak of; places, times and cameras are none.
_WORDS = re.compile(
    rb"box|polygon|points|shape|region|segment|label|class|categor|annotation|object"
    rb"|keypoint",
    re.I,
)
_KEY = re.compile(rb'"([^"]{1,200})"\s*:\s*[\[{]')
_FILE = re.compile(rb"[^\s\"',;:<>/\\=]+\.\w{3,4}")
# Folders that are no classes, as far as their names tell.
_NO_CLASS = re.compile(r".*(image|img|photo|picture|train|test|val|data).*", re.I)


@dataclass(frozen=True)
class _Photos:
    """The photos of a folder.

    Attributes:
        stems, names: of their files.
        have_classes: whether they lie in folders that may be classes.
    """

    stems: Collection[str]
    names: Collection[str]
    have_classes: bool


def _check_annotation(file: Path, photos: _Photos) -> None:
    """Refuses a file about photos that is of a format with a reader of its own, or that
    has none.
    """
    ending = file.suffix.lower()
    with open(file, "rb") as opened:
        head = opened.read(_HEAD)
    # a.txt and a.jpg.json are about a.jpg
    is_of_one = file.stem in photos.stems or file.stem in photos.names
    lines = head.decode(errors="replace").strip().splitlines()
    if ending == ".txt" and is_of_one and (not lines or parse(lines[0])):
        raise ValueError(
            f"data has label files beside its images ({file.name} in "
            f"{str(file.parent)!r}): to read YOLO boxes, put images into images/ and "
            f"labels into labels/ beside it; {_WHOLE}"
        )
    is_table = ending == ".csv" and (
        csv.has_boxes(file)
        or (
            csv.has_classes(file)
            and not photos.have_classes
            and _names_photos(head, photos)
        )
    )
    if is_table or (ending == ".json" and coco.is_coco(file)):
        raise ValueError(
            f"data holds annotations: give the file itself, --data={file}; {_WHOLE}"
        )
    if _says_more(file, head, photos, is_of_one):
        raise ValueError(
            "data has a file about its images that isn't of a format that is read "
            f"({file.name} in {str(file.parent)!r}; docs/formats.md lists what is); "
            f"{_WHOLE}"
        )


def _names_photos(head: bytes, photos: _Photos) -> bool:
    words = (word.decode(errors="replace") for word in _FILE.findall(head)[:200])
    return any(word in photos.names for word in words)


def _says_more(file: Path, head: bytes, photos: _Photos, is_of_one: bool) -> bool:
    """Whether a file says what is where on photos, or of what class they are."""
    ending = file.suffix.lower()
    if ending == ".txt":
        rows = [
            re.split(r"[\s,]+", line)
            for line in head.decode(errors="replace").splitlines()
        ]
        has_boxes = any(sum(map(_is_number, row)) >= 4 for row in rows[:20])
        return has_boxes and (
            is_of_one
            or bool(re.search("box|annot", file.name, re.I))
            or _names_photos(head, photos)
        )
    if ending in (".csv", ".tsv"):
        is_list = file.name.lower().startswith("_classes")
        return is_list and _names_photos(head, photos)
    keys = (key.decode(errors="replace") for key in _KEY.findall(head)[:200])
    is_about = is_of_one or _names_photos(head, photos)
    is_about = is_about or any(key in photos.stems for key in keys)
    return is_about and bool(_WORDS.search(head))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


_MASKS = re.compile(
    r".*mask.*|segmentation\w*|seg|gt|ground_?truth|annotations?|labels?"
)
_OF_MASK = re.compile(r"(.+)[-_ .](masks?|seg|labels?|gt|annotation|L)", re.I)


def _photo_of(stem: str, name: str) -> str:
    """The stem of the photo that a mask is called after, itself for a photo. `_L` may
    be the left one of two photos; a mask with it is a PNG.
    """
    match = _OF_MASK.fullmatch(stem)
    if not match or (match[2].lower() == "l" and not name.lower().endswith(".png")):
        return stem
    return match[1]


def _check_no_masks(stems: Mapping[Path, Mapping[str, str]]) -> None:
    """Refuses photos with masks, in a folder of their own or beside them.

    Args:
        stems: folder -> stem -> name, of all pictures.
    """
    for parent, names in stems.items():
        photo_of = {stem: _photo_of(stem, name) for stem, name in names.items()}
        for stem, photo in photo_of.items():
            if stem != photo and photo in names:
                raise _masks(parent / names[stem], names[photo])
        if not _MASKS.fullmatch(parent.name.lower()):
            continue
        for other, photos in stems.items():
            both = [stem for stem, photo in photo_of.items() if photo in photos]
            is_near = parent.parent in (other, other.parent, other.parent.parent)
            if other != parent and is_near and len(both) > len(names) / 2:
                stem = min(both)
                raise _masks(parent / names[stem], photos[photo_of[stem]])


def _masks(mask: Path, photo: str) -> ValueError:
    return ValueError(
        f"data holds masks, which aren't read and would pass for photos ({str(mask)!r} "
        f"of {photo}): move them away; {_WHOLE}"
    )


def _two_levels(root: Path) -> Iterator[Path]:
    first = subfolders(root)
    yield from first
    for parent in first:
        yield from subfolders(parent)
