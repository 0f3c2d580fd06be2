"""Reads a folder of images: one crop an image, classes and splits from the folder
names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from artifacts.progress import Progress, no_progress
from data.boxes import read_sizes
from data.crop_table import UNLABELLED, CropTable
from data.images import EXTENSIONS
from data.report import Report

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def read_image_folder(
    root: str | Path, progress: Progress = no_progress
) -> tuple[CropTable, Report]:
    """Reads a folder of images as a crop table; the crop is the whole image.

    Layouts: `image.jpg`, `class/image.jpg`, `split/image.jpg` and
    `split/class/image.jpg`. The first folder level is a split when every folder on it
    has a split's name (train, val, validation, test). Deeper levels join the class
    name. Hidden files and folders and files without an image's extension are passed
    over.

    Args:
        root: the folder.
        progress: wraps the iteration over files, for a progress bar.

    Returns:
        The table, and what was left out.

    Raises:
        ValueError: the folder doesn't exist, or holds no readable image.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(
            f"data must be a folder of images; got {str(root)!r}, which "
            f"{'is a file' if root.exists() else 'does not exist'}"
        )
    paths = sorted(
        path for path in visible_files(root) if path.suffix.lower() in EXTENSIONS
    )
    first_level = {
        path.relative_to(root).parts[0]
        for path in paths
        if len(path.relative_to(root).parts) > 1
    }
    has_splits = bool(first_level) and all(
        name.lower() in SPLITS for name in first_level
    )

    report, named = Report(), []
    for path in paths:
        image = path.relative_to(root).as_posix()
        try:
            image.encode()
            named.append(image)
        except UnicodeEncodeError:
            report.skip(
                image.encode(errors="backslashreplace").decode(),
                "file name isn't UTF-8",
            )
    sizes = read_sizes(root, named, report, progress)
    images = list(sizes)
    if not images:
        first = report.skipped[0] if report.skipped else None
        found = (
            f"{len(report.skipped)} files, none of them readable ({first.image}: "
            f"{first.reason})"
            if first
            else "no image file"
        )
        raise ValueError(
            f"data must be a folder of images ({', '.join(sorted(EXTENSIONS))}); "
            f"{str(root)!r} holds {found}"
        )

    folders = [image.split("/")[:-1] for image in images]
    splits = [
        SPLITS[folder[0].lower()] if has_splits and folder else "" for folder in folders
    ]
    names = ["/".join(folder[1:] if has_splits else folder) for folder in folders]
    classes = sorted(set(names) - {""})
    count = len(images)
    columns: dict[str, list] = {
        "image": images,
        "left": [0] * count,
        "top": [0] * count,
        "right": [width for width, _ in sizes.values()],
        "bottom": [height for _, height in sizes.values()],
        "label": [classes.index(name) if name else UNLABELLED for name in names],
        "label_name": names,
        "session": [""] * count,
        "split": splits,
        "file_bytes": [
            (root / image).stat().st_size for image in images
        ],  # so that a replaced image is noticed
    }
    return CropTable.from_columns(root, columns), report


def subfolders(root: Path) -> list[Path]:
    """Visible folders in a folder, linked ones included; the kind of an entry comes
    with its name, so files cost nothing.
    """
    with os.scandir(root) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.is_dir() and not entry.name.startswith(".")
        )


def visible_files(root: Path) -> Iterator[Path]:
    """All visible files below a folder; linked folders are followed, once each."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = (
            []
            if real in seen
            else [name for name in folders if not name.startswith(".")]
        )
        if real not in seen:
            yield from (
                Path(folder) / name for name in files if not name.startswith(".")
            )
        seen.add(real)
