"""Downloads the CropAndWeed dataset from its authors' server and unpacks it, ready for
run_finetune.py.

    python -m data.download.cropandweed --dir=cropandweed --accept_licence

Five archives, with progress and time left. A call that was cut off goes on where it
stopped. The authors publish no checksums, so sizes and SHA-256 are recorded on the
first download (downloads.json) and verified on later calls.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from artifacts.files import check_writable, exclusive, sha256_of_file, write_json
from artifacts.http import DownloadError, ask, check_disk, fetch
from artifacts.progress import progress_bar
from artifacts.provenance import now
from data.download.archives import unpack

BASE_URL = "https://vitro-testing.com/wp-content/uploads/2022/12"
ARCHIVES = (
    "cropandweed_annotations.tar",
    *(f"cropandweed_images{number}of4.tar" for number in range(1, 5)),
)
FOLDERS = ("images", "bboxes", "labelIds", "params")
LICENCE = """\
CropAndWeed is not part of this project, and its licence is its authors' own. In short,
as its repository states it (https://github.com/cropandweed/cropandweed-dataset; read it
there, that text alone counts):

  - for non-commercial use: research, teaching, personal experiments;
  - neither the data nor modified versions of it may be passed on;
  - publications cite: Steininger, Trondl, Croonen, Simon, Widhalm. The CropAndWeed
    Dataset: A Multi-Modal Learning Approach for Efficient Crop and Weed Manipulation.
    WACV 2023.
"""
RECORD = "downloads.json"


@dataclass(frozen=True)
class Archive:
    """What the record says of an archive; empty while it says nothing.

    Attributes:
        url: where it came from.
        bytes, sha256: of the file.
        date: of the download.
        files: how many were unpacked from it; 0 before that is done.
    """

    url: str = ""
    bytes: int = 0
    sha256: str = ""
    date: str = ""
    files: int = 0


def place(member: str) -> str:
    """Where a member of the archives goes: from images/, bboxes/, labelIds/ or params/
    on, whatever it was packed under.
    """
    parts = PurePosixPath(member.replace("\\", "/")).parts
    if parts and parts[-1].startswith("."):
        return ""  # litter of the machine it was packed on
    for number, part in enumerate(parts):
        if part in FOLDERS:
            return "/".join(parts[number:])
    return f"images/{parts[-1]}" if parts and parts[-1].lower().endswith(".jpg") else ""


def download(
    folder: str | Path,
    base_url: str = BASE_URL,
    delete_archives: bool = False,
    archives: Sequence[str] = ARCHIVES,
) -> Path:
    """Downloads and unpacks what isn't there yet, and verifies what is.

    Args:
        folder: where to; archives go to its archives/.
        base_url: where the archives lie.
        delete_archives: whether to delete each once it is unpacked, which saves half of
            the disk.
        archives: names of the archives.

    Returns:
        The folder, to be given to run_finetune.py as --data.

    Raises:
        DownloadError: the server fails for good, the disk is too small, an archive is
            unsafe, damaged, or not the recorded one.
    """
    folder = Path(folder)
    check_writable(folder, "dir")
    with exclusive(folder, "dir"):
        (folder / "archives").mkdir(exist_ok=True)
        record = _read_record(folder / RECORD)
        missing = [name for name in archives if not record[name].files]
        sizes = [
            ask(f"{base_url}/{name}").size or 0
            for name in missing
            if not (folder / "archives" / name).exists()
        ]
        check_disk(folder, sum(sizes) * (1 if delete_archives else 2))
        for name in archives:
            path = folder / "archives" / name
            if name in missing or path.exists():
                fetch(f"{base_url}/{name}", path)
                record[name] = _verify(path, record[name], f"{base_url}/{name}")
                _write_record(folder / RECORD, record)
            if name in missing:
                files = len(unpack(path, folder, place))
                if not files:
                    raise DownloadError(
                        f"{path} must hold files below {', '.join(FOLDERS)}; it holds "
                        "none"
                    )
                record[name] = replace(record[name], files=files)
                _write_record(folder / RECORD, record)
            if delete_archives:
                path.unlink(missing_ok=True)
        _check_unpacked(folder, sum(entry.files for entry in record.values()))
    return folder


def _read_record(path: Path) -> dict[str, Archive]:
    stated = json.loads(path.read_text()) if path.is_file() else {}
    found = {name: Archive(**entry) for name, entry in stated.items()}
    return defaultdict(Archive, found)


def _write_record(path: Path, record: Mapping[str, Archive]) -> None:
    write_json(path, record)


def _verify(path: Path, known: Archive, url: str) -> Archive:
    """Compares an archive with its record, or makes the record."""
    size = path.stat().st_size
    with progress_bar(total=1, desc=f"checking {path.name}", unit="file") as bar:
        digest = sha256_of_file(path)
        bar.update()
    if not known.sha256:
        return Archive(url, size, digest, now())
    if (size, digest) != (known.bytes, known.sha256):
        raise DownloadError(
            f"{path} must have {known.bytes:,} bytes and SHA-256 {known.sha256}, "
            f"as recorded in {RECORD}; it has "
            f"{size:,} and {digest}. Delete it to download it again"
        )
    return known


def _check_unpacked(folder: Path, expected: int) -> None:
    found = sum(
        1
        for name in FOLDERS
        for path in (folder / name).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )
    if found < expected:
        raise DownloadError(
            f"{folder} must hold the {expected:,} files that were unpacked; {found:,} "
            f"are left. Delete {RECORD} to unpack again"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """What the command line does."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dir", required=True, help="folder for archives and images, several GB"
    )
    parser.add_argument(
        "--accept_licence",
        action="store_true",
        help="you have read the licence and accept it",
    )
    parser.add_argument(
        "--delete_archives",
        action="store_true",
        help="delete each archive once it is unpacked",
    )
    parser.add_argument(
        "--base_url",
        default=BASE_URL,
        help="where the archives lie (default: the authors' server)",
    )
    args = parser.parse_args(arguments)
    print(LICENCE)
    if not args.dir:
        parser.error("--dir must name a folder")
    if not args.accept_licence:
        sys.exit("Nothing was downloaded: give --accept_licence if you accept it.")
    try:
        folder = download(args.dir, args.base_url, args.delete_archives)
    except (DownloadError, ValueError, OSError) as error:
        sys.exit(f"data.download.cropandweed: {error}")
    print(
        f"\nNext: python run_finetune.py --data={folder} --epochs=0 --image_size=224 "
        "--run_dir=runs/cropandweed"
    )


if __name__ == "__main__":
    main()
