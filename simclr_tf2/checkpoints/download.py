"""A SavedModel from gs:// or https://, in a local cache.

    local = local_saved_model(
        "gs://simclr-checkpoints-tf2/simclrv2/pretrained/r50_1x_sk0/saved_model"
    )

Google's public buckets are read over https, without an account: their listing names the
files, with sizes and MD5, which are verified. Of any other server a SavedModel's files
are asked for by name. What has been downloaded once is not asked for again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import filelock

from artifacts.files import check_writable, write_json
from artifacts.http import DownloadError, ask, check_disk, fetch

STORAGE = "https://storage.googleapis.com"
COMPLETE = "complete.json"  # written last
_TIMEOUT = 60
_SCHEMA = b"\x08\x01"  # how a SavedModel begins: its schema's version


def is_remote(weights: str) -> bool:
    """Whether weights are an address."""
    return weights.startswith(("gs://", "https://", "http://"))


def cache_folder() -> Path:
    """Where downloads go: $SIMCLR_TF2_CACHE, otherwise simclr_tf2 in the user's cache
    folder.
    """
    return Path(
        os.environ.get("SIMCLR_TF2_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        / "simclr_tf2"
    )


def local_saved_model(
    url: str, cache: str | Path | None = None, storage: str = STORAGE
) -> Path:
    """The folder of a SavedModel, downloaded where the cache doesn't have it.

    Args:
        url: gs://bucket/path or http(s)://..., the folder that holds saved_model.pb.
        cache: where to keep it; the default is `cache_folder`.
        storage: server of the buckets.

    Raises:
        DownloadError: it can't be reached, isn't there, or doesn't have the bytes that
            the server states.
    """
    url = url.rstrip("/")
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    name = ([part for part in url.split("/") if part] + ["model"])[-3:][0].rstrip(
        ":"
    )  # of .../r50_1x_sk0/saved_model
    folder = Path(cache or cache_folder()) / f"{name}-{digest}"
    check_writable(folder, "the cache ($SIMCLR_TF2_CACHE)")
    with filelock.FileLock(
        folder / ".lock"
    ):  # another process that downloads the same is waited for
        if not (folder / COMPLETE).is_file():
            files = _listed(url, storage) if url.startswith("gs://") else _guessed(url)
            check_disk(folder, sum(size or 0 for _, size, _ in files.values()))
            for name, (address, size, md5) in files.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                fetch(address, target)
                _verify(target, size, md5, address)
            if not (folder / "saved_model.pb").read_bytes().startswith(_SCHEMA):
                shutil.rmtree(folder)
                raise DownloadError(
                    f"{url}/saved_model.pb is no SavedModel (a page to log in?). "
                    "Deleted; the same command tries again"
                )
            write_json(
                folder / COMPLETE,
                {
                    "url": url,
                    "files": {name: size for name, (_, size, _) in files.items()},
                },
            )
    return folder


_Files = dict[
    str, tuple[str, int | None, str]
]  # name in the folder -> (address, size, MD5 in base64 or "")


def _listed(url: str, storage: str) -> _Files:
    """The files under a gs:// address, as the bucket lists them."""
    bucket, _, path = url.removeprefix("gs://").partition("/")
    files: _Files = {}
    page = ""
    while True:
        query = urllib.parse.urlencode(
            {"prefix": f"{path}/", **({"pageToken": page} if page else {})}
        )
        listing = _json(f"{storage}/storage/v1/b/{bucket}/o?{query}", url)
        for item in listing.get("items", []):
            name = item["name"].removeprefix(f"{path}/")
            if name and not name.endswith("/"):
                address = f"{storage}/{bucket}/{urllib.parse.quote(item['name'])}"
                files[_safe(name, url)] = (
                    address,
                    int(item["size"]),
                    item.get("md5Hash", ""),
                )
        page = listing.get("nextPageToken", "")
        if not page:
            break
    if "saved_model.pb" not in files:
        few = ", ".join(sorted(files)[:5]) or "nothing"
        raise DownloadError(
            f"{url} must be the folder of a SavedModel, with saved_model.pb in it; it "
            f"holds {few}"
        )
    return files


def _guessed(url: str) -> _Files:
    """The files of a SavedModel on a server that lists nothing. One shard of variables,
    or as many as their names count.
    """
    names = ["saved_model.pb", "variables/variables.index"]
    files: _Files = {
        name: (f"{url}/{name}", ask(f"{url}/{name}").size, "") for name in names
    }
    for total in range(1, 33):
        try:
            ask(f"{url}/variables/variables.data-00000-of-{total:05d}")
        except DownloadError:
            continue
        for shard in range(total):
            name = f"variables/variables.data-{shard:05d}-of-{total:05d}"
            files[name] = (f"{url}/{name}", ask(f"{url}/{name}").size, "")
        return files
    raise DownloadError(
        f"{url} has saved_model.pb, but no variables/variables.data-* beside it"
    )


def _safe(name: str, url: str) -> str:
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise DownloadError(f"{url} lists a file outside of its folder: {name!r}")
    return name


def _json(address: str, url: str) -> dict:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise DownloadError(
            f"{url} can't be listed: the server says {error.code} {error.reason}. Of a "
            "bucket that isn't public, copy the folder "
            "with gcloud storage cp -r and give its path"
        ) from None
    except (OSError, ValueError) as error:
        raise DownloadError(
            f"{url} can't be reached: {error}. Without a network, give a local folder"
        ) from None


def _verify(path: Path, size: int | None, md5: str, address: str) -> None:
    actual = path.stat().st_size
    if size is not None and actual != size:
        path.unlink()
        raise DownloadError(
            f"{address} must have {size:,} bytes; got {actual:,}. Deleted; the same "
            "command tries again"
        )
    if md5:
        with open(path, "rb") as file:
            digest = base64.b64encode(
                hashlib.file_digest(file, "md5").digest()
            ).decode()
        if digest != md5:
            path.unlink()
            raise DownloadError(
                f"{address} was damaged on its way (its MD5 differs). Deleted; the "
                "same command tries again"
            )
