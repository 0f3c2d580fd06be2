"""Downloads large files over connections that break."""

from __future__ import annotations

import errno
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from artifacts.files import write_json
from artifacts.progress import progress_bar

_BLOCK = 1 << 20
_TIMEOUT = 60  # seconds without a byte


class DownloadError(RuntimeError):
    """A download or an archive that can't be used; the message names it and
    says why.
    """


@dataclass(frozen=True)
class Remote:
    """What a server says about a file.

    Attributes:
        size: in bytes, None where it doesn't say.
        tag: a value that changes when the file does: its ETag, otherwise its date; ""
            where it says neither.
    """

    size: int | None
    tag: str


def ask(url: str) -> Remote:
    """Asks the server about a file, without its content.

    Raises:
        DownloadError: it can't be reached, or has no such file.
    """
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT
        ) as response:
            headers = response.headers
            length = headers.get("Content-Length")
            return Remote(
                int(length) if length else None,
                headers.get("ETag") or headers.get("Last-Modified") or "",
            )
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url} can't be reached: {error}") from None


def fetch(url: str, path: str | Path, attempts: int = 8, pause: float = 1.0) -> Path:
    """Downloads a file, going on where an earlier call or a broken connection stopped.

    The part so far lies in `<path>.part` with what the server said of the file in
    `<path>.part.json`; when the file has changed since, or the server ignores the
    request for the rest, it starts over. `path` appears only when all bytes are there.

    Args:
        url: http(s).
        path: where to.
        attempts: how often in a row the connection may break without a byte gained.
        pause: seconds before the second attempt; doubled before each further one, a
            minute at most.

    Raises:
        DownloadError: the server refuses, or keeps breaking off.
    """
    path = Path(path)
    if path.exists():
        return path
    part, stated = (
        path.with_name(path.name + ".part"),
        path.with_name(path.name + ".part.json"),
    )
    remote = ask(url)
    facts = {"url": url, "size": remote.size, "tag": remote.tag}
    if not (stated.is_file() and json.loads(stated.read_text()) == facts):
        part.unlink(missing_ok=True)
        write_json(stated, facts)
    failures = 0
    with progress_bar(
        total=remote.size,
        initial=_size(part),
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        desc=path.name,
    ) as bar:
        while remote.size is None or _size(part) < remote.size:
            before = _size(part)
            try:
                _receive(url, part, remote, bar.update, bar.reset)
                if remote.size is None:
                    break  # the server didn't say how much it is; this was all
                reason = "the connection ended early"
            except (OSError, http.client.HTTPException) as error:
                reason = _why_it_broke(error, url, part)
            failures = 0 if _size(part) > before else failures + 1
            if failures >= attempts:
                raise DownloadError(
                    f"{url} broke off {failures} times without a byte gained "
                    f"({reason}); {_size(part):,} bytes are kept, the "
                    "same command goes on"
                )
            if failures:
                time.sleep(min(60.0, pause * 2 ** (failures - 1)))
    if remote.size is not None and _size(part) != remote.size:
        part.unlink()
        raise DownloadError(
            f"{url} must have {remote.size:,} bytes, as the server states; it sent "
            "more. Deleted; try again"
        )
    os.replace(part, path)
    stated.unlink()
    return path


def _why_it_broke(
    error: OSError | http.client.HTTPException, url: str, part: Path
) -> str:
    """Why a connection broke, where another attempt may help.

    Raises:
        DownloadError: none will.
    """
    if isinstance(error, urllib.error.HTTPError):
        said = f"the server says {error.code} {error.reason}"
        if error.code < 500 and error.code not in (408, 429):
            raise DownloadError(f"{url} can't be downloaded: {said}") from None
        return said
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        raise DownloadError(
            f"the disk is full: {part.parent}; {part.name} is kept, the same command "
            "goes on"
        ) from None
    return str(error) or type(error).__name__


def _receive(
    url: str,
    part: Path,
    remote: Remote,
    advance: Callable[[int], object],
    reset: Callable[[int | None], object],
) -> None:
    """Receives what is missing, until the connection ends."""
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and remote.tag and not remote.tag.startswith("W/"):
        headers["If-Range"] = remote.tag
    with urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
    ) as response:
        goes_on = response.status == 206 and (
            response.headers.get("Content-Range") or ""
        ).startswith(f"bytes {have}-")
        if have and not goes_on:
            reset(remote.size)  # the server sends the whole file again
        with open(part, "ab" if goes_on else "wb") as file:
            while block := response.read(_BLOCK):
                file.write(block)
                advance(len(block))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def check_disk(folder: Path, needed: int) -> None:
    """Refuses to start where the disk can't hold `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"dir must have {needed:,} bytes free; the disk of {folder} has {free:,}"
        )
