"""Files that are whole or absent: atomic writes, hashes, folder checks and locks.

Every output goes through here. What is being written lies beside its place under a name
that begins with a dot and ends in `.partial`, and is renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import hashlib
import io
import itertools
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import filelock


@contextlib.contextmanager
def whole_file(path: str | Path, *, sync: bool = True) -> Iterator[Path]:
    """Gives the path to write a file to; it appears under its own name once it is
    whole.

    A reader, or a kill at any moment, sees the old content or the new, never a part.

    Args:
        path: the file to create or replace; its folder must exist.
        sync: whether the content must survive a power cut; not needed of what can be
            made again.
    """
    path = Path(path)
    # The ending stays: libraries choose the format by it.
    partial = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        yield partial
        if sync:
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file whole or not at all.

    Args:
        path: the file to create or replace; its folder must exist.
        write: receives a binary file to write to.
    """
    with whole_file(path) as partial, open(partial, "wb") as file:
        write(file)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically, in UTF-8, with line ends as they are."""
    write_atomically(path, lambda file: file.write(text.encode()))


@contextlib.contextmanager
def whole_folder(folder: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Gives a folder to write into; it appears under its own name once it is whole.

    Args:
        folder: where it will lie; its parents are made.
        replace: whether what lies there is replaced, rather than refused.

    Raises:
        FileExistsError: something lies there, and isn't to be replaced.
    """
    folder = Path(folder)
    partial, old = (
        folder.with_name(f".{folder.name}.{end}") for end in ("partial", "old")
    )
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            if not replace:
                raise FileExistsError(
                    errno.EEXIST, "folder must be a new one", str(folder)
                )
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_json(path: str | Path, value: Any) -> None:
    """Writes a JSON file atomically, indented, keys in the order given. JSON has no
    word for NaN and infinity: they become null.
    """
    write_text(path, json.dumps(json_value(value), indent=2, allow_nan=False) + "\n")


def json_value(value: Any) -> Any:
    """A value as JSON has it: dataclasses as objects of their fields, None for every
    number that isn't finite.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {
            one.name: getattr(value, one.name) for one in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: json_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    return value


def write_csv(
    path: str | Path, rows: Iterable[Sequence[Any]], line_end: str = "\r\n"
) -> None:
    """Writes a CSV file atomically, in UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end).writerows(rows)
    write_text(path, text.getvalue())


def read_text(path: Path, strict: bool = True) -> str:
    """A text file in UTF-8, with or without byte order mark.

    Args:
        path: the file.
        strict: whether another encoding is an error; otherwise what can't be read is
            replaced, and its rows will be counted as broken: one bad file of thousands
            must not stop a run.

    Raises:
        ValueError: it is in another encoding; the message names the file.
    """
    try:
        return path.read_text(
            encoding="utf-8-sig", errors="strict" if strict else "replace"
        )
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} must be text in UTF-8: {error.reason} at byte {error.start}. Save "
            "it again in UTF-8 (in Excel: CSV UTF-8)"
        ) from None


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_writable(folder: str | Path, argument: str, free_bytes: int = 0) -> None:
    """Creates a folder and proves that it can be written to, before hours of work
    depend on it.

    Args:
        folder: created with its parents where it doesn't exist.
        argument: the name to use in errors, such as "run_dir".
        free_bytes: how much room the work will need.

    Raises:
        OSError: the folder can't be created or written to, or its disk has less room
            than needed.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".write-test-") as file:
            file.write(b"x" * 4096)
            file.flush()
    except OSError as error:
        raise OSError(
            error.errno,
            f"{argument} must be a folder that can be written to: {error.strerror}",
            str(folder),
        ) from None
    free = shutil.disk_usage(folder).free
    if free < free_bytes:
        message = (
            f"{argument} needs {free_bytes / 1e6:,.0f} MB on its disk; "
            f"{free / 1e6:,.0f} MB are free"
        )
        raise OSError(errno.ENOSPC, message, str(folder))


@contextlib.contextmanager
def exclusive(
    folder: str | Path,
    argument: str,
    lock_name: str = ".lock",
    holder: str | Path = "",
) -> Iterator[None]:
    """Holds a folder for this process alone. The lock goes with the process, also when
    it is killed.

    Args:
        folder: what to hold; it exists.
        argument: the name to use in errors.
        lock_name: of the lock's file in it, where only a part of the folder is held.
        holder: what errors call that part.

    Raises:
        RuntimeError: another process holds the folder.
    """
    # Another thread than the one that took it may let it go.
    path = Path(folder) / lock_name
    lock = filelock.FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RuntimeError(
            f"{argument} is in use by another process: {holder or folder}"
        ) from None
    try:
        yield
    finally:
        lock.release()


def back_up(path: Path) -> Path | None:
    """Moves a file or folder to `<path>.old-N`, so that nothing is overwritten.

    Returns:
        Where it is now; None where there was none.
    """
    if not path.exists():
        return None
    choices = (path.with_name(f"{path.name}.old-{n}") for n in itertools.count(1))
    free = next(choice for choice in choices if not choice.exists())
    path.rename(free)
    return free
