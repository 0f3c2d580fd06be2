"""Files that are whole or absent: atomic writes, hashes, folder checks and locks."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import filelock


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file so that a reader, or a kill at any moment, sees the old content or
    the new, never a part.

    Args:
        path: the file to create or replace; its folder must exist.
        write: receives a binary file to write to.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, value: Any) -> None:
    """Writes a JSON file atomically, indented, keys in the order given."""
    write_atomically(
        path, lambda file: file.write((json.dumps(value, indent=2) + "\n").encode())
    )


def write_csv(
    path: str | Path, rows: Iterable[Sequence[Any]], line_end: str = "\r\n"
) -> None:
    """Writes a CSV file atomically, in UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end).writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


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
            f"{path} must be text in UTF-8: {error.reason} at byte {error.start}"
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
def exclusive(folder: str | Path, argument: str) -> Iterator[None]:
    """Holds a folder for this process alone. The lock goes with the process, also when
    it is killed.

    Raises:
        RuntimeError: another process holds the folder.
    """
    lock = filelock.FileLock(Path(folder) / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RuntimeError(
            f"{argument} is in use by another process: {folder}"
        ) from None
    try:
        yield
    finally:
        lock.release()


def keep_aside(folder: Path) -> None:
    """Moves a folder to `<folder>.old-N`, where there is one, so that nothing is
    overwritten.
    """
    if folder.exists():
        number = next(
            n
            for n in range(1, 10_000)
            if not folder.with_name(f"{folder.name}.old-{n}").exists()
        )
        folder.rename(folder.with_name(f"{folder.name}.old-{number}"))
