"""Pascal VOC: an XML file an image, with the boxes of its objects."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path, PurePosixPath

from artifacts.progress import Progress
from data.files import subfolders
from data.formats.base import (
    Annotations,
    Format,
    SourceOptions,
    pixels,
    split_named,
    split_of_folders,
)
from data.formats.beside import ANNOTATIONS, AboutImage, Object, gather
from data.report import Report

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_LENGTHS = ("width", "height")
_FLAGS = ("truncated", "occluded", "difficult")
_SETS = ("train", "val", "test")


def is_voc(root: Path) -> bool:
    """Whether a folder has VOC's layout: XML files in Annotations/, or beside images,
    at the top or below.
    """
    if not root.is_dir():
        return False
    folders = [root, *subfolders(root)]
    below = [folder for folder in folders[1:] if folder.name.lower() in ANNOTATIONS]
    folders += [inner for folder in below for inner in subfolders(folder)]
    return any(_has_annotations(folder) for folder in folders)


def _has_annotations(folder: Path) -> bool:
    for path in sorted(folder.glob("*.xml"))[:3]:
        try:
            with open(path, "rb") as file:
                if re.search(rb"<annotation[\s>]", file.read(2000)):
                    return True
        except OSError:
            continue
    return False


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads a VOC folder: Annotations/ with JPEGImages/ beside it, or XML files beside
    their images, by split where the folders are.

    Masks (SegmentationClass/, SegmentationObject/) are left alone. An image's split is
    that of its folder, or of the list in ImageSets/Main that names it. Columns beyond
    the schema: truncated, occluded and difficult, as far as they are stated.

    Pixels are counted from 1 in VOC's own files and from 0 by most programs that write
    this format; they are taken as they are, since a file doesn't say which.

    Raises:
        ValueError: no XML file with an object on an image that is there.
    """
    root = Path(data)
    found = gather(
        root,
        ".xml",
        _parse,
        report,
        progress=progress,
        what="boxes",
        is_mask=["segmentation"],
    )
    listed = _listed_splits(root)
    return replace(found, splits=[_split_of(image, listed) for image in found.images])


def _parse(path: Path) -> AboutImage:
    try:
        tree = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise ValueError(f"not XML: {error}") from None
    width, height = (pixels(tree.findtext(f"size/{side}")) for side in _LENGTHS)
    return AboutImage(
        (tree.findtext("filename") or "").strip(),
        (width, height),
        [
            Object(
                item.findtext("name") or "",
                [_number(item.find(f"bndbox/{side}")) for side in _SIDES],
                _flags(item),
            )
            for item in tree
            if item.tag == "object"
        ],
    )


def _flags(item: ElementTree.Element) -> dict[str, bool]:
    """Those that an object states."""
    stated = {flag: (item.findtext(flag) or "").strip() for flag in _FLAGS}
    return {flag: text == "1" for flag, text in stated.items() if text in ("0", "1")}


def _number(element: ElementTree.Element | None) -> float:
    try:
        return float((element.text or "") if element is not None else "")
    except ValueError:
        return float("nan")


def _listed_splits(root: Path) -> dict[str, str]:
    """Name of an image without its ending -> split, of ImageSets/Main."""
    found: dict[str, str] = {}
    for name in _SETS:
        path = root / "ImageSets" / "Main" / f"{name}.txt"
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            for line in filter(None, map(str.strip, lines)):
                for spelling in _spellings(line):
                    found.setdefault(spelling, split_named(name))
    return found


def _spellings(line: str) -> list[str]:
    """What a line of a list may call an image: by its stem, with its ending, with its
    folder, or followed by 1 or -1.
    """
    plain = re.sub(r"\s+-?[01]$", "", line)
    names = ["/".join(PurePosixPath(name).parts[-2:]) for name in (line, plain)]
    return [re.sub(r"\.(jpe?g|png)$", "", name, flags=re.I) for name in names]


def _split_of(image: str, listed: dict[str, str]) -> str:
    path = PurePosixPath(image)
    longer = [*path.parts[-2:-1], path.stem]
    named = listed.get("/".join(longer)) or listed.get(path.stem)
    return named or split_of_folders(image)


FORMAT = Format(
    name="voc",
    keeps="",
    read=read,
    detect=is_voc,
    options=frozenset({"box_size"}),
)
