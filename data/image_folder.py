"""Reads a folder of images: one crop an image, classes and splits from the folder names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from data.crop_table import UNLABELLED, CropTable
from data.images import EXTENSIONS, ImageError, read_size

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
T = TypeVar("T")


@dataclass(frozen=True)
class Skipped:
    """An image that was left out, and why."""

    image: str
    reason: str


def read_image_folder(
    root: str | Path, progress: Callable[[Iterable[Path]], Iterable[Path]] = lambda paths: paths
) -> tuple[CropTable, list[Skipped]]:
    """Reads a folder of images as a crop table; the crop is the whole image.

    Layouts: `image.jpg`, `class/image.jpg`, `split/image.jpg` and `split/class/image.jpg`. The first folder level is a
    split when every folder on it has a split's name (train, val, validation, test). Deeper levels join the class name.
    Hidden files and folders and files without an image's extension are passed over.

    Args:
        root: the folder.
        progress: wraps the iteration over files, for a progress bar.

    Returns:
        The table, and the files that can't be read as images.

    Raises:
        ValueError: the folder doesn't exist, or holds no readable image.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(
            f"data must be a folder of images; got {str(root)!r}, which {'is a file' if root.exists() else 'does not exist'}"
        )
    paths = sorted(path for path in _walk(root) if path.suffix.lower() in EXTENSIONS)
    first_level = {path.relative_to(root).parts[0] for path in paths if len(path.relative_to(root).parts) > 1}
    has_splits = bool(first_level) and all(name.lower() in SPLITS for name in first_level)

    images, sizes, skipped = [], [], []
    for path in progress(paths):
        image = path.relative_to(root).as_posix()
        try:
            image.encode()
            sizes.append(read_size(path))
            images.append(image)
        except UnicodeEncodeError:
            skipped.append(Skipped(image.encode(errors="backslashreplace").decode(), "file name isn't UTF-8"))
        except ImageError as error:
            skipped.append(Skipped(image, error.reason))
    if not images:
        found = (
            f"{len(skipped)} files, none of them readable ({skipped[0].image}: {skipped[0].reason})" if skipped else "no image file"
        )
        raise ValueError(f"data must be a folder of images ({', '.join(sorted(EXTENSIONS))}); {str(root)!r} holds {found}")

    folders = [image.split("/")[:-1] for image in images]
    splits = [SPLITS[folder[0].lower()] if has_splits and folder else "" for folder in folders]
    names = ["/".join(folder[1:] if has_splits else folder) for folder in folders]
    classes = sorted(set(names) - {""})
    count = len(images)
    columns: dict[str, list] = {
        "image": images,
        "left": [0] * count,
        "top": [0] * count,
        "right": [width for width, _ in sizes],
        "bottom": [height for _, height in sizes],
        "label": [classes.index(name) if name else UNLABELLED for name in names],
        "label_name": names,
        "session": [""] * count,
        "split": splits,
        "file_bytes": [(root / image).stat().st_size for image in images],  # so that a replaced image is noticed
    }
    return CropTable.from_columns(root, columns), skipped


def _walk(root: Path) -> Iterator[Path]:
    """All visible files below a folder; linked folders are followed, once each."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            yield from (Path(folder) / name for name in files if not name.startswith("."))
        seen.add(real)
