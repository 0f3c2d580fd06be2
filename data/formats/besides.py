"""What a folder of photos holds besides them: annotations that would be passed over,
and masks that would pass for photos.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from data.files import subfolders, visible_files
from data.formats import coco, csv
from data.formats.yolo_rows import parse
from data.images import EXTENSIONS

_WHOLE = "--format=folder reads whole images"
_ENDINGS = (".json", ".jsonl", ".xml", ".csv", ".tsv", ".txt")
_HEAD = 65_536  # bytes of a file that are looked at


def check_only_photos(root: Path, layout_of: Callable[[str], str]) -> None:
    """Refuses a folder of whole images that holds annotations which would be passed
    over, or masks that would pass for photos.

    Args:
        root: the folder.
        layout_of: tells the format of a path.
    """
    below = list(_two_levels(root))
    for path in below:
        kind = layout_of(str(path))
        if kind != "folder":
            raise ValueError(
                f"data must be the folder of the data set itself; {str(path)!r} has "
                f"the layout of {kind}. {_WHOLE}"
            )
    stems: dict[Path, dict[str, str]] = {}
    names: set[str] = set()
    for path in visible_files(root):
        if path.suffix.lower() in EXTENSIONS:
            stems.setdefault(path.parent, {})[path.stem] = path.name
            names.add(path.name)
    photos = {stem for found in stems.values() for stem in found}
    for path in (root, *below):
        with os.scandir(path) as entries:
            files = sorted(
                Path(entry.path)
                for entry in entries
                if entry.name.lower().endswith(_ENDINGS) and entry.is_file()
            )
        for file in files[:_MANY]:
            _check_annotation(file, photos, names)
    _check_no_masks(stems)


_MANY = 50  # files of a folder that are looked at: one is enough to tell
_BOX_IN_TEXT = re.compile(rb"\s-?\d+(\.\d+)?,-?\d+(\.\d+)?,-?\d+")


def _check_annotation(file: Path, photos: set[str], names: set[str]) -> None:
    """Refuses a file about photos that is of a format with a reader of its own, or that
    has none.
    """
    ending = file.suffix.lower()
    # a.txt and a.jpg.json are about a.jpg
    is_of_one = file.stem in photos or file.stem in names
    if ending == ".txt" and file.stem in photos and _has_yolo_rows(file):
        raise ValueError(
            f"data has label files beside its images ({file.name} in "
            f"{str(file.parent)!r}): to read YOLO boxes, put images into images/ and "
            f"labels into labels/ beside it; {_WHOLE}"
        )
    is_table = ending == ".csv" and csv.has_boxes(file)
    if is_table or (ending == ".json" and coco.is_coco(file)):
        raise ValueError(
            f"data holds annotations: give the file itself, --data={file}; {_WHOLE}"
        )
    if is_of_one or _is_about(file, names):
        raise ValueError(
            "data has a file about its images that isn't of a format that is read "
            f"({file.name} in {str(file.parent)!r}; docs/formats.md lists what is); "
            f"{_WHOLE}"
        )


def _has_yolo_rows(file: Path) -> bool:
    """Whether a label file is YOLO's: its first row is one, or there is none."""
    with open(file, encoding="utf-8", errors="replace") as opened:
        lines = opened.read(_HEAD).strip().splitlines()
    return not lines or parse(lines[0]) is not None


def _is_about(file: Path, names: set[str]) -> bool:
    """Whether a file names photos together with more than their names."""
    with open(file, "rb") as opened:
        head = opened.read(_HEAD)
    found = re.findall(rb"[^\s\"',;:<>/\\=]+\.\w{3,4}", head)[:200]
    if not any(word.decode(errors="replace") in names for word in found):
        return False
    ending = file.suffix.lower()
    if ending == ".txt":  # a list of names alone says nothing of them
        return bool(_BOX_IN_TEXT.search(head))
    if ending in (".csv", ".tsv"):
        return csv.has_classes(file) or file.name.startswith(("_classes", "metadata"))
    return True


_MASKS = re.compile(
    r".*mask.*|segmentation\w*|seg|gt|ground_?truth|annotations?|labels?"
)
_OF_MASK = re.compile(r"(.+)[-_ .](masks?|seg|labels?|gt|annotation|L)", re.I)


def _check_no_masks(stems: Mapping[Path, Mapping[str, str]]) -> None:
    """Refuses photos with masks, in a folder of their own or beside them.

    Args:
        stems: folder -> stem -> name, of all pictures.
    """
    for parent, names in stems.items():
        of_mask = {stem: _OF_MASK.fullmatch(stem) for stem in names}
        photo_of = {
            stem: match[1] if match else stem for stem, match in of_mask.items()
        }
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
