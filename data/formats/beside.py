"""Which image an annotation file is about, where there is one for each image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from data.boxes import plain_path
from data.files import distinct_files, visible_files
from data.formats.base import split_named
from data.images import EXTENSIONS

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


def split_of_folders(image: str) -> str:
    """The split that one of the folders leading to an image names."""
    return next(filter(None, map(split_named, PurePosixPath(image).parts[:-1])), "")
