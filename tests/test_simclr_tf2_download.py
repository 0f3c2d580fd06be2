"""SavedModels from addresses, against a server on this machine that lists as a bucket
does, or doesn't.
"""

import base64
import hashlib
import http.server
import json
import threading
import urllib.parse
from pathlib import Path

import pytest

from artifacts.http import DownloadError
from simclr_tf2.checkpoints.download import cache_folder, is_remote, local_saved_model

FILES = {
    "saved_model.pb": b"\x08\x01" + b"graph" * 100,
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00002": b"a" * 5000,
    "variables/variables.data-00001-of-00002": b"b" * 7000,
}
PREFIX = "simclrv2/pretrained/r50_1x_sk0/saved_model"


class Server(http.server.ThreadingHTTPServer):
    """A bucket named `models`, two files a page of its listing; the same files without
    a listing under /plain.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.damaged, self.evil = dict(FILES), [], False, False

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        url = urllib.parse.urlparse(self.path)
        self.server.asked.append((self.command, url.path))
        if url.path == "/storage/v1/b/models/o":
            content = json.dumps(
                self.listing(urllib.parse.parse_qs(url.query))
            ).encode()
        else:
            name = url.path.removeprefix(f"/models/{PREFIX}/").removeprefix("/plain/")
            content = self.server.files.get(name)
            if (
                content is not None
                and self.server.damaged
                and name.endswith("00001-of-00002")
            ):
                content = b"x" * len(content)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def listing(self, query):
        if query["prefix"] != [f"{PREFIX}/"]:
            return {}
        names = sorted(self.server.files) + (["../../evil"] if self.server.evil else [])
        start = int(query.get("pageToken", ["0"])[0])
        items = [{"name": f"{PREFIX}/", "size": "0"}] if start == 0 else []
        for name in names[start : start + 2]:
            content = self.server.files.get(name, b"")
            md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
            items.append(
                {"name": f"{PREFIX}/{name}", "size": str(len(content)), "md5Hash": md5}
            )
        return {
            "items": items,
            **({"nextPageToken": str(start + 2)} if start + 2 < len(names) else {}),
        }

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def contents(folder: Path):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_bucket_is_downloaded_once(server, tmp_path):
    url = f"gs://models/{PREFIX}"
    folder = local_saved_model(url, tmp_path, server.address)
    assert FILES.items() <= contents(folder).items()
    assert json.loads((folder / "complete.json").read_text())["url"] == url
    asked = len(server.asked)
    assert local_saved_model(url + "/", tmp_path, server.address) == folder
    assert len(server.asked) == asked


def test_a_server_without_a_listing(server, tmp_path):
    folder = local_saved_model(f"{server.address}/plain", tmp_path)
    assert FILES.items() <= contents(folder).items()
    del server.files["variables/variables.data-00000-of-00002"]
    with pytest.raises(
        DownloadError, match=r"no variables/variables\.data-\* beside it"
    ):
        local_saved_model(f"{server.address}/plain", tmp_path / "other")


def test_what_is_cut_off_goes_on(server, tmp_path):
    url = f"gs://models/{PREFIX}"
    server.damaged = True
    with pytest.raises(DownloadError, match="was damaged on its way"):
        local_saved_model(url, tmp_path, server.address)
    server.damaged = False
    server.asked.clear()
    folder = local_saved_model(url, tmp_path, server.address)
    assert FILES.items() <= contents(folder).items()
    fetched = {
        path
        for command, path in server.asked
        if command == "GET" and "variables" in path
    }
    assert f"/models/{PREFIX}/variables/variables.data-00001-of-00002" in fetched
    assert (
        f"/models/{PREFIX}/variables/variables.data-00000-of-00002" not in fetched
    )  # it was there


def test_what_is_not_there_is_said(server, tmp_path):
    with pytest.raises(
        DownloadError, match=r"with saved_model\.pb in it; it holds nothing"
    ):
        local_saved_model("gs://models/elsewhere/saved_model", tmp_path, server.address)
    with pytest.raises(
        DownloadError, match=r"can't be listed: the server says 404.*gcloud storage cp"
    ):
        local_saved_model("gs://private/path/saved_model", tmp_path, server.address)
    with pytest.raises(DownloadError, match="can't be reached"):
        local_saved_model(f"gs://models/{PREFIX}", tmp_path / "x", "http://127.0.0.1:9")
    server.evil = True
    with pytest.raises(DownloadError, match="outside of its folder"):
        local_saved_model(f"gs://models/{PREFIX}", tmp_path / "y", server.address)
    assert not (tmp_path / "evil").exists()


def test_a_page_in_place_of_a_model_is_not_kept(server, tmp_path):
    good = dict(server.files)
    server.files["saved_model.pb"] = b"<html>log in"
    with pytest.raises(DownloadError, match=r"is no SavedModel \(a page to log in\?\)"):
        local_saved_model(f"{server.address}/plain", tmp_path)
    server.files.update(good)
    assert (
        FILES.items()
        <= contents(local_saved_model(f"{server.address}/plain", tmp_path)).items()
    )


def test_what_counts_as_an_address_and_where_it_goes(monkeypatch, tmp_path):
    assert [
        is_remote(name) for name in ("gs://a/b", "https://a/b", "imagenet", "runs/a")
    ] == [True, True, False, False]
    monkeypatch.setenv("SIMCLR_TF2_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
