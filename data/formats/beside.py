"""Annotations in a file for each image: which image a file is about, and all of them as
one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from artifacts.progress import Progress
from data.boxes import plain_path
from data.files import distinct_files, shown, visible_files
from data.formats.base import Annotations, split_of_folders
from data.images import EXTENSIONS
from data.report import Report

# Folders for annotations, beside those of the images.
ANNOTATIONS = {
    "annotations",
    "annotation",
    "labels",
    "xml",
    "xmls",
    "json",
    "jsons",
    "labelme",
}


class ImagesBeside:
    """The images below a folder, to be found by what annotation files call them.

    Args:
        root: of the data set.
        is_mask: folders, in small letters, whose images are masks.
    """

    def __init__(self, root: Path, is_mask: Iterable[str] = ()):
        self.root = root
        masks = tuple(is_mask)
        found = (
            path
            for path in sorted(visible_files(root))
            if path.suffix.lower() in EXTENSIONS
            and not any(
                part.lower().startswith(masks)
                for part in path.relative_to(root).parts[:-1]
                if masks
            )
        )
        self.by_stem: dict[str, list[Path]] = {}
        for path in distinct_files(found):
            self.by_stem.setdefault(path.stem, []).append(path)

    def find(self, annotation: Path, stated: str) -> str | None:
        """The image of an annotation file, by its path below the root: the one that is
        called as the file is, since a copied file may still name the original; else the
        one that it names. Where several are called so, the one whose folder belongs to
        the file's.

        Args:
            annotation: the file.
            stated: the image's name as the file states it, "" for none.

        Returns:
            None where there is none, or none that is the only one.
        """
        name = PurePosixPath(plain_path(stated)).name
        stem = PurePosixPath(name).stem
        is_picture = PurePosixPath(name).suffix.lower() in EXTENSIONS
        for wanted in dict.fromkeys([annotation.stem, stem if is_picture else name]):
            found = self.by_stem.get(wanted, [])
            near = [path for path in found if _belong(path, annotation)]
            for choice in (near, found):
                exact = [path for path in choice if path.name == name]
                for one in (choice, exact):
                    if len(one) == 1:
                        return one[0].relative_to(self.root).as_posix()
        return None


def _belong(image: Path, annotation: Path) -> bool:
    """Whether two files lie in one folder, or in two that differ in one level, which is
    for annotations on one side.
    """
    one, two = image.parent.parts, annotation.parent.parts
    if one == two:
        return True
    if len(one) != len(two):
        return False
    other = [pair for pair in zip(one, two, strict=True) if pair[0] != pair[1]]
    return len(other) == 1 and other[0][1].lower() in ANNOTATIONS


@dataclass(frozen=True)
class Object:
    """An object of an image: class, corners in pixels (None where it has no area), and
    the columns that the format has for it.
    """

    name: str
    box: Sequence[float] | None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AboutImage:
    """What a file says of its image; a size with 0 isn't stated."""

    image: str
    size: tuple[int, int]
    objects: Sequence[Object]


def gather(
    root: Path,
    ending: str,
    parse: Callable[[Path], AboutImage],
    report: Report,
    *,
    progress: Progress,
    what: str,
    is_mask: Iterable[str] = (),
) -> Annotations:
    """Reads every file of an ending below a folder, once however many links lead to it.

    Args:
        root: of the data set.
        ending: of the files, in small letters.
        parse: reads one; its ValueError says why it is left out.
        report: receives what is left out.
        progress: wraps the iteration over files.
        what: the format calls an object, for the report.
        is_mask: see `ImagesBeside`.
    """
    known = ImagesBeside(root, is_mask)
    images: list[str] = []
    objects: list[Object] = []
    sizes: dict[str, tuple[int, int]] = {}
    every = (
        path for path in sorted(visible_files(root)) if path.suffix.lower() == ending
    )
    for path in progress(distinct_files(every), unit="file", desc="reading"):
        name = shown(str(path.relative_to(root)))
        try:
            about = parse(path)
        except ValueError as error:
            report.skip(name, str(error))
            continue
        report.count("annotation files without a box", not about.objects)
        report.seen += len(about.objects)
        image = known.find(path, about.image)
        if image is None:
            report.skip(name, "its image isn't there")
            report.drop(f"{what} on images that aren't there", len(about.objects))
            continue
        if all(about.size):
            sizes[image] = about.size
        found = [one for one in about.objects if one.box is not None]
        lost = len(about.objects) - len(found)
        report.drop(f"{what} without an area, or damaged", lost)
        images += [image] * len(found)
        objects += found
    names = dict.fromkeys(name for one in objects for name in one.columns)
    columns = {name: [one.columns.get(name) for one in objects] for name in names}
    return Annotations(
        root=root,
        source=str(root),
        images=images,
        names=[one.name for one in objects],
        splits=[split_of_folders(image) for image in images],
        boxes=np.array([one.box for one in objects], np.float64).reshape(-1, 4),
        columns=columns,
        stated_sizes=sizes,
        correctable=False,
    )
