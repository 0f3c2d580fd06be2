"""What lies in a folder of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

# Of network drives, archives and trash; what begins with a dot is hidden as well.
_LITTER = {"@eadir", "#recycle", "$recycle.bin", "__macosx"}


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def subfolders(root: Path) -> list[Path]:
    """Visible folders in a folder, linked ones included; the kind of an entry comes
    with its name, so files cost nothing.
    """
    with os.scandir(root) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.is_dir() and not _is_litter(entry.name)
        )


def visible_files(root: Path) -> Iterator[Path]:
    """All visible files below a folder. Linked folders are followed wherever they
    stand, but never into a folder that holds them.
    """
    yield from _files_below(root, (os.path.realpath(root),))


def _files_below(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_litter(entry.name):
                continue
            if entry.is_dir():
                folders.append(Path(entry.path))
            else:
                yield Path(entry.path)
    for inner in folders:
        real = os.path.realpath(inner)
        if real not in above:
            yield from _files_below(inner, (*above, real))


def distinct_files(paths: Iterable[Path]) -> list[Path]:
    """The paths without those that lead, by links, to the same file as an earlier
    one.
    """
    found: dict[tuple[int, int] | Path, Path] = {}
    for path in paths:
        try:
            stat = path.stat()
        except OSError:  # a broken link: whoever reads it says so
            found.setdefault(path, path)
        else:
            # Systems without numbers for files say 0.
            key = (stat.st_dev, stat.st_ino) if stat.st_ino else path
            found.setdefault(key, path)
    return list(found.values())


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_plain(name: str) -> bool:
    """Whether a name is text that UTF-8 can hold; other bytes of a file's name come as
    lone surrogates, which no result file can hold.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str) -> str:
    """A name as a message can show it."""
    return name.encode(errors="backslashreplace").decode()
