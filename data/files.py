"""What lies in a folder of images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


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
