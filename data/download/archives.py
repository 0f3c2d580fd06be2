"""Unpacks archives that nobody has vouched for."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from artifacts.files import whole_file
from artifacts.http import DownloadError, check_disk
from artifacts.progress import progress_bar

_BLOCK = 1 << 20


def check_members(archive: str | Path) -> list[tarfile.TarInfo]:
    """The members of a tar archive, none of them able to write anywhere else.

    Raises:
        DownloadError: the archive is damaged or cut short, or a member is absolute,
            climbs out with "..", or is a link, a device or anything else but a file or
            a folder.
    """
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DownloadError(
            f"{archive} is damaged or cut short: {error}. Delete it and run the same "
            "command again"
        ) from None
    for member in members:
        path = PurePosixPath(member.name.replace("\\", "/"))
        why = (
            "a link"
            if member.islnk() or member.issym()
            else "no file or folder"
            if not (member.isfile() or member.isdir())
            else "absolute"
            if path.is_absolute() or (len(path.parts) > 0 and ":" in path.parts[0])
            else "outside of its folder"
            if ".." in path.parts
            else ""
        )
        if why:
            raise DownloadError(
                f"{archive} isn't safe to unpack: its member {member.name!r} is {why}. "
                "Nothing was unpacked"
            )
    return members


def unpack(
    archive: str | Path, folder: str | Path, place: Callable[[str], str]
) -> list[str]:
    """Unpacks the files of a tar archive after `check_members`.

    Args:
        archive: the tar.
        folder: where to.
        place: member name -> path below the folder, "" to leave it out.

    Returns:
        The paths that were written, relative to the folder.
    """
    folder = Path(folder)
    files = [member for member in check_members(archive) if member.isfile()]
    check_disk(folder, sum(member.size for member in files))
    written = []
    try:
        with tarfile.open(archive) as tar:
            for member in progress_bar(
                files, unit="file", desc=f"unpacking {Path(archive).name}"
            ):
                name = place(member.name)
                source = tar.extractfile(member)
                if not name or source is None:
                    continue
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                # Not synced: an archive of thousands of files can be unpacked again.
                with whole_file(target, sync=False) as part:
                    with source, open(part, "wb") as file:
                        shutil.copyfileobj(source, file, _BLOCK)
                    if part.stat().st_size != member.size:
                        raise DownloadError(
                            f"{archive} is cut short in {member.name!r}. Delete it and "
                            "run the same command again"
                        )
                written.append(name)
    except (tarfile.TarError, EOFError) as error:
        raise DownloadError(
            f"{archive} is damaged: {error}. Delete it and run the same command again"
        ) from None
    return written
