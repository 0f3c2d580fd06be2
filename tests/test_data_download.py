"""Downloads against a local server that drops connections, ignores ranges, truncates,
changes files and serves hostile archives.
"""

import hashlib
import io
import json
import tarfile
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from artifacts.http import DownloadError, fetch
from data.download import cropandweed as download_cropandweed
from data.download.archives import unpack
from data.download.cropandweed import ARCHIVES, download, main, place

CONTENT = bytes(
    hashlib.sha256(bytes([n % 251])).digest()[n % 32] for n in range(300_000)
)


class Server:
    """Serves `files`; `behave` changes what happens to a GET: name -> list of
    behaviours, used up one a request.
    """

    def __init__(self):  # noqa: C901  a whole server in one place
        self.files, self.behave, self.requests, self.tags = {}, {}, [], {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.answer(head=True)

            def do_GET(self):
                self.answer(head=False)

            def answer(self, head):
                name = self.path.rsplit("/", 1)[-1]
                if name not in owner.files:
                    return self.send_error(404)
                content, start, status = owner.files[name], 0, 200
                how = (
                    ""
                    if head or not owner.behave.get(name)
                    else owner.behave[name].pop(0)
                )
                asked = self.headers.get("Range")
                if not head:
                    owner.requests.append((name, asked))
                if how == "error":
                    return self.send_error(503)
                same = self.headers.get("If-Range") in (None, owner.tags.get(name))
                if asked and how != "no range" and same:
                    start, status = (
                        int(asked.removeprefix("bytes=").removesuffix("-")),
                        206,
                    )
                self.send_response(status)
                self.send_header("Content-Length", str(len(content) - start))
                if name in owner.tags:
                    self.send_header("ETag", owner.tags[name])
                if status == 206:
                    self.send_header(
                        "Content-Range",
                        f"bytes {start}-{len(content) - 1}/{len(content)}",
                    )
                self.end_headers()
                if not head:
                    body = content[start:]
                    self.wfile.write(
                        body[: len(body) // 3]
                        if how == "drop"
                        else b""
                        if how == "nothing"
                        else body
                    )
                return None

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def tar_of(*members):
    """A tar archive; a member is (name, bytes) or a TarInfo."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for member in members:
            info, content = (
                (member, None)
                if isinstance(member, tarfile.TarInfo)
                else (tarfile.TarInfo(member[0]), member[1])
            )
            if content is not None:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if content is not None else None)
    return file.getvalue()


def test_a_whole_file(server, tmp_path):
    server.files["x.tar"] = CONTENT
    assert fetch(f"{server.url}/x.tar", tmp_path / "x.tar").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_dropped_connections_are_resumed(server, tmp_path):
    server.files["x.tar"], server.behave["x.tar"] = (
        CONTENT,
        ["drop", "drop", "error", "drop"],
    )
    assert (
        fetch(f"{server.url}/x.tar", tmp_path / "x.tar", pause=0.01).read_bytes()
        == CONTENT
    )
    starts = [
        int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        for _, asked in server.requests
    ]
    assert starts == sorted(starts)
    assert starts[1] == 100_000  # a third of it had come


def test_a_server_that_ignores_ranges_sends_the_whole_file_again(server, tmp_path):
    server.files["x.tar"], server.behave["x.tar"] = CONTENT, ["drop", "no range"]
    assert (
        fetch(f"{server.url}/x.tar", tmp_path / "x.tar", pause=0.01).read_bytes()
        == CONTENT
    )


def test_an_interrupted_call_goes_on_in_the_next_one(server, tmp_path):
    server.files["x.tar"], server.behave["x.tar"] = (
        CONTENT,
        ["drop", "nothing", "nothing"],
    )
    with pytest.raises(
        DownloadError,
        match=r"broke off 2 times without a byte gained .*100,000 bytes are kept",
    ):
        fetch(f"{server.url}/x.tar", tmp_path / "x.tar", attempts=2, pause=0.01)
    assert not (tmp_path / "x.tar").exists()
    assert fetch(f"{server.url}/x.tar", tmp_path / "x.tar").read_bytes() == CONTENT
    assert server.requests[-1] == ("x.tar", "bytes=100000-")


@pytest.mark.parametrize("longer", [b"", b"more"])
def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path, longer):
    server.files["x.tar"], server.tags["x.tar"], server.behave["x.tar"] = (
        CONTENT,
        '"one"',
        ["drop", "nothing"],
    )
    with pytest.raises(DownloadError):
        fetch(f"{server.url}/x.tar", tmp_path / "x.tar", attempts=1, pause=0.01)
    server.files["x.tar"], server.tags["x.tar"] = CONTENT[::-1] + longer, '"two"'
    assert (
        fetch(f"{server.url}/x.tar", tmp_path / "x.tar").read_bytes()
        == CONTENT[::-1] + longer
    )


def test_what_the_server_lacks_is_an_error(server, tmp_path):
    with pytest.raises(DownloadError, match="404"):
        fetch(f"{server.url}/gone.tar", tmp_path / "gone.tar")


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (("/etc/cron.d/x", b"x"), "absolute"),
        (("images/../../x", b"x"), "outside of its folder"),
        (("C:\\windows\\x", b"x"), "absolute"),
        (special("images/a.jpg", tarfile.SYMTYPE, "/etc/passwd"), "a link"),
        (special("images/a.jpg", tarfile.LNKTYPE, "images/b.jpg"), "a link"),
        (special("images/dev", tarfile.CHRTYPE), "no file or folder"),
        (special("images/pipe", tarfile.FIFOTYPE), "no file or folder"),
    ],
)
def test_hostile_members_are_refused_before_anything_is_unpacked(tmp_path, member, why):
    archive = tmp_path / "x.tar"
    archive.write_bytes(tar_of(("images/good.jpg", b"good"), member))
    with pytest.raises(DownloadError, match=f"is {why}. Nothing was unpacked"):
        unpack(archive, tmp_path / "out", place)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keep", [700, 100, 0])
def test_a_cut_archive_is_an_error(tmp_path, keep):
    archive = tmp_path / "x.tar"
    archive.write_bytes(tar_of(("images/a.jpg", b"a" * 5000))[:keep])
    (tmp_path / "out").mkdir()
    with pytest.raises(DownloadError, match="cut short"):
        unpack(archive, tmp_path / "out", place)
    assert not list((tmp_path / "out").rglob("*.jpg"))


@pytest.mark.parametrize(
    ("member", "target"),
    [
        ("images/ave-1-1.jpg", "images/ave-1-1.jpg"),
        ("./data/bboxes/ave-1-1.csv", "bboxes/ave-1-1.csv"),
        ("cropandweed/bboxes/CropAndWeed/a.csv", "bboxes/CropAndWeed/a.csv"),
        ("part3/ave-1-1.jpg", "images/ave-1-1.jpg"),
        ("images/._ave-1-1.jpg", ""),
        ("README.txt", ""),
    ],
)
def test_members_go_where_the_reader_looks(member, target):
    assert place(member) == target


@pytest.fixture
def dataset(server):
    """The five archives, small, on the server."""
    for number, name in enumerate(ARCHIVES):
        members = [(f"images/ave-0001-{number:04d}.jpg", bytes([number]) * 4000)]
        if number == 0:
            members = [
                (f"{folder}/ave-0001-0001.{end}", b"1")
                for folder, end in (
                    ("bboxes", "csv"),
                    ("params", "csv"),
                    ("labelIds", "png"),
                )
            ]
        server.files[name] = tar_of(*members)
    return server


def test_the_data_set_is_downloaded_unpacked_and_verified_later(dataset, tmp_path):
    dataset.behave = {name: ["drop"] for name in ARCHIVES}
    root = download(tmp_path / "caw", dataset.url)
    assert sorted(path.name for path in (root / "images").iterdir()) == [
        f"ave-0001-{n:04d}.jpg" for n in range(1, 5)
    ]
    assert (root / "bboxes/ave-0001-0001.csv").read_bytes() == b"1"
    record = json.loads((root / "downloads.json").read_text())
    assert {name: entry["sha256"] for name, entry in record.items()} == {
        name: hashlib.sha256(dataset.files[name]).hexdigest() for name in ARCHIVES
    }
    before = Counter(name for name, _ in dataset.requests)
    download(root, dataset.url)
    assert (
        Counter(name for name, _ in dataset.requests) == before
    )  # nothing was asked for again
    damaged = root / "archives" / ARCHIVES[2]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    with pytest.raises(DownloadError, match=r"images2of4.tar must have .* SHA-256"):
        download(root, dataset.url)
    damaged.unlink()
    download(root, dataset.url)
    (root / "images" / "ave-0001-0003.jpg").unlink()
    with pytest.raises(
        DownloadError, match="must hold the 7 files that were unpacked; 6 are left"
    ):
        download(root, dataset.url)


def test_archives_can_be_deleted_and_are_not_fetched_again(dataset, tmp_path):
    root = download(tmp_path / "caw", dataset.url, delete_archives=True)
    assert not list((root / "archives").iterdir())
    count = len(dataset.requests)
    download(root, dataset.url, delete_archives=True)
    assert len(dataset.requests) == count


def test_a_full_disk_is_noticed_before_the_first_byte(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "artifacts.http.shutil.disk_usage",
        lambda _: type("Usage", (), {"free": 20_000})(),
    )
    with pytest.raises(
        DownloadError, match=r"dir must have [\d,]+ bytes free; .* has 20,000"
    ):
        download(tmp_path / "caw", dataset.url)
    assert not dataset.requests


def test_nothing_happens_without_the_licence(dataset, tmp_path, capsys):
    with pytest.raises(SystemExit, match="--accept_licence"):
        main([f"--dir={tmp_path / 'caw'}", f"--base_url={dataset.url}"])
    assert "non-commercial use" in capsys.readouterr().out
    assert not dataset.requests
    main([f"--dir={tmp_path / 'caw'}", f"--base_url={dataset.url}", "--accept_licence"])
    assert (tmp_path / "caw" / "images").is_dir()


def test_the_default_address_is_the_authors(monkeypatch):
    seen = []
    monkeypatch.setattr(
        download_cropandweed,
        "download",
        lambda folder, url, delete: seen.append(url) or folder,
    )
    main(["--dir=x", "--accept_licence"])
    assert seen == ["https://vitro-testing.com/wp-content/uploads/2022/12"]
