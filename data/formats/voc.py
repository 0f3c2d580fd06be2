"""Pascal VOC: an XML file an image, with the boxes of its objects."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.progress import Progress
from data.boxes import plain_path
from data.files import shown, subfolders, visible_files
from data.formats.base import Annotations, Format, SourceOptions, split_named
from data.images import EXTENSIONS
from data.report import Report

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_FLAGS = ("truncated", "occluded", "difficult")
_SETS = ("train", "val", "test")


def is_voc(root: Path) -> bool:
    """Whether a folder has VOC's layout: Annotations/ with XML files, or XML files
    beside images, at the top or one below.
    """
    return root.is_dir() and any(
        _has_annotations(folder) for folder in (root, *subfolders(root))
    )


def _has_annotations(folder: Path) -> bool:
    for path in sorted(folder.glob("*.xml"))[:3]:
        try:
            with open(path, "rb") as file:
                if b"<annotation" in file.read(2000):
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
    known = _images_by_name(root)
    images: list[str] = []
    names: list[str] = []
    boxes: list[list[float]] = []
    flags: list[list[str]] = []
    sizes: dict[str, tuple[int, int]] = {}
    for path in progress(_xml_files(root), unit="file", desc="reading VOC"):
        try:
            tree = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
            report.skip(shown(str(path.relative_to(root))), f"not XML: {error}")
            continue
        objects = [item for item in tree if item.tag == "object"]
        report.count("annotation files without a box", not objects)
        report.seen += len(objects)
        image = _image_of(tree, path, root, known)
        if image is None:
            report.skip(shown(str(path.relative_to(root))), "its image isn't there")
            report.drop("boxes on images that aren't there", len(objects))
            continue
        size = [_number(tree.find(f"size/{side}")) for side in ("width", "height")]
        if all(0 < side < 1e6 for side in size):
            sizes[image] = (int(size[0]), int(size[1]))
        for item in objects:
            box = [_number(item.find(f"bndbox/{side}")) for side in _SIDES]
            images.append(image)
            names.append(item.findtext("name") or "")
            boxes.append(box)
            flags.append([(item.findtext(flag) or "").strip() for flag in _FLAGS])
    stated = {flag: [row[place] for row in flags] for place, flag in enumerate(_FLAGS)}
    columns: dict[str, list[Any]] = {
        flag: [value == "1" if value in ("0", "1") else None for value in values]
        for flag, values in stated.items()
        if any(value in ("0", "1") for value in values)
    }
    listed = _listed_splits(root)
    return Annotations(
        root=root,
        source=str(root),
        images=images,
        names=names,
        splits=[_split_of(image, listed) for image in images],
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        convention="xyxy",
        columns=columns,
        stated_sizes=sizes,
        correctable=False,
    )


def _xml_files(root: Path) -> list[Path]:
    return sorted(path for path in visible_files(root) if path.suffix.lower() == ".xml")


def _number(element: ElementTree.Element | None) -> float:
    try:
        return float((element.text or "") if element is not None else "")
    except ValueError:
        return float("nan")


def _images_by_name(root: Path) -> dict[str, list[str]]:
    """Stem of the file's name -> images, by their path below the root; without
    masks.
    """
    known: dict[str, list[str]] = {}
    for path in sorted(visible_files(root)):
        folders = [part.lower() for part in path.relative_to(root).parts[:-1]]
        is_mask = any(folder.startswith("segmentation") for folder in folders)
        if path.suffix.lower() in EXTENSIONS and not is_mask:
            image = path.relative_to(root).as_posix()
            known.setdefault(path.stem, []).append(image)
    return known


def _image_of(
    tree: ElementTree.Element, path: Path, root: Path, known: dict[str, list[str]]
) -> str | None:
    """The image that an XML file is about: the one it names, beside it or in
    JPEGImages/, or the only one of that name; None where there is none.
    """
    stated = plain_path((tree.findtext("filename") or "").strip() or path.stem)
    stem = Path(stated).stem if Path(stated).suffix.lower() in EXTENSIONS else stated
    for name in (Path(stem).name, path.stem):
        found = known.get(name, [])
        near = [image for image in found if _belongs(root / image, path)]
        for choice in (near, found):
            if len(choice) == 1:
                return choice[0]
    return None


def _belongs(image: Path, annotation: Path) -> bool:
    """Whether both lie in one folder, or in two with the same parent."""
    return image.parent == annotation.parent or (
        image.parent.parent == annotation.parent.parent
        and annotation.parent.name.lower() in ("annotations", "labels", "xml", "xmls")
    )


def _listed_splits(root: Path) -> dict[str, str]:
    """Name of an image without its ending -> split, of ImageSets/Main."""
    found: dict[str, str] = {}
    for name in _SETS:
        path = root / "ImageSets" / "Main" / f"{name}.txt"
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            for line in filter(str.strip, lines):
                found.setdefault(line.split()[0], split_named(name))
    return found


def _split_of(image: str, listed: dict[str, str]) -> str:
    parts: Iterable[str] = Path(image).parts[:-1]
    folders = next(filter(None, map(split_named, parts)), "")
    return listed.get(Path(image).stem) or folders


FORMAT = Format(
    name="voc",
    keeps="",
    read=read,
    detect=is_voc,
    options=frozenset({"box_size"}),
)
