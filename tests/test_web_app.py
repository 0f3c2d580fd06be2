"""The server through Starlette's in-process client: security, pictures, actions."""

import contextlib
import dataclasses
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from curation.embed_query import embed_upload
from curation.encoders import embedder_of
from curation.lru_cache import LruCache
from curation.pool import Pool
from data.crop_table import CropTable
from data.embeddings import EmbeddingSet
from data.images import cut
from tests.conftest import WISH
from web import requests
from web.app import STATIC, Page, make_app
from web.overview import Overview
from web.photos import Photos
from web.requests import UPLOAD_BYTES
from web.security import Proxied, is_loopback
from web.sessions import Sessions

TOKEN = "secret-token"


@pytest.fixture(scope="module")
def page(field_set, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sessions")
    pool = Overview(Pool(EmbeddingSet.load(field_set)))
    return Page(
        pool,
        Sessions(pool, folder),
        Photos(pool.table, folder / "cache" / "thumbnails"),
    )


@pytest.fixture(scope="module")
def client(page):
    with TestClient(make_app(page, TOKEN), base_url="http://127.0.0.1:8765") as found:
        assert found.get("/", params={"token": TOKEN}).status_code == 200
        yield found


@pytest.fixture
def session(client, page):
    crop = str(page.pool.table.ids[np.flatnonzero(page.pool.mask(WISH))[0]])
    body = {
        "name": "t",
        "use": "collect",
        "pool": "",
        "class_name": "beet",
        "crops": [crop],
        "uploads": [],
    }
    return client.post("/api/sessions", json=body).json()["session"]


def bare(page, **options):
    """A client without the cookie."""
    return TestClient(
        make_app(page, TOKEN, **options),
        base_url="http://127.0.0.1:8765",
        follow_redirects=False,
    )


def test_an_old_address_is_explained(page):
    client = bare(page)
    answer = client.get("/?token=old", headers={"accept": "text/html,*/*"})
    assert answer.status_code == 403
    assert "the address that the program printed" in answer.text.replace("\n", " ")
    assert "--new_token" in answer.text
    assert TOKEN not in answer.text
    # What isn't asked for by a person stays JSON.
    assert "error" in client.get("/api/pool").json()


def test_photos_that_have_moved_are_said(page, tmp_path):
    assert page.overview.facts.gone_from == ""
    embeddings = page.pool.embeddings
    moved = CropTable(tmp_path / "moved", embeddings.table.rows)
    pool = Pool(dataclasses.replace(embeddings, table=moved))
    assert Overview(pool).facts.gone_from == str(tmp_path / "moved")


def test_the_token_opens_and_leaves_the_address_bar(page):
    client = bare(page)
    for path in (
        "/",
        "/api/pool",
        "/static/main.js",
        "/thumb/x/96",
        "/?token=wrong",
        "/api/pool?token=secret-token",
    ):
        assert client.get(path).status_code == 403, path
    answer = client.get("/?token=secret-token")
    assert 'http-equiv="refresh" content="0;url=./"' in answer.text
    assert 'src="static/enter.js"' in answer.text
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/").status_code == 200
    token = answer.headers["set-cookie"].partition(";")[0]
    for foreign in (
        'x={"a":1}; ',
        "x=hello world; ",
        "flag; ",
    ):  # other servers' cookies come along
        assert (
            bare(page).get("/", headers={"cookie": foreign + token}).status_code == 200
        )
    other = bare(page)
    assert (
        other.get("/api/pool", headers={"authorization": f"Bearer {TOKEN}"}).status_code
        == 200
    )
    assert (
        other.get(
            "/api/pool", headers={"authorization": "Bearer \u00fc".encode("latin-1")}
        ).status_code
        == 403
    )


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "",
        "user@127.0.0.1:8765",
        "192.168.1.7:8765",
        "[::1",
    ],
)
def test_a_rebound_host_is_refused(page, host):
    answer = bare(page).get(
        "/api/pool", headers={"host": host, "authorization": f"Bearer {TOKEN}"}
    )
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765"])
def test_this_machine_may_be_named(page, host):
    assert (
        bare(page)
        .get("/api/pool", headers={"host": host, "authorization": f"Bearer {TOKEN}"})
        .status_code
        == 200
    )


def test_beyond_loopback_addresses_may_be_named_but_not_names(page):
    client = bare(page, local=False, names=frozenset({"lab"}))
    allowed = {
        host: client.get("/", headers={"host": host}).status_code
        for host in ("192.168.1.7:8765", "lab:1", "evil.example")
    }
    assert allowed == {
        "192.168.1.7:8765": 403,
        "lab:1": 403,
        "evil.example": 421,
    }  # 403: the token is still asked for
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("lab")


def test_behind_a_proxy_the_page_lies_below_its_path(page):
    """Whether the proxy takes the path off or leaves it on, and whatever host it
    names.
    """
    proxied = Proxied.of("https://hub.example/user/me/proxy/8765/")
    assert proxied == Proxied("/user/me/proxy/8765", "hub.example", "https")
    client = bare(page, proxied=proxied)
    hub = {"host": "hub.example"}
    for path in ("/", "/user/me/proxy/8765/"):
        answer = client.get(f"{path}?token={TOKEN}", headers=hub)
        assert answer.status_code == 200, path
        cookie = answer.headers["set-cookie"]
        assert "Path=/user/me/proxy/8765/" in cookie
        assert "Secure" in cookie
    told = hub | {"cookie": cookie.partition(";")[0]}
    for path in ("/api/pool", "/user/me/proxy/8765/api/pool"):
        assert client.get(path, headers=told).json()["crops"] == len(page.pool.table)
    answer = client.get("/user/me/proxy/8765", headers=told)
    assert (answer.status_code, answer.headers["location"]) == (
        308,
        "/user/me/proxy/8765/",
    )
    # A proxy may name this server as the host; the browser still names its own.
    for headers, status in (
        ({"origin": "https://hub.example", "host": "127.0.0.1:8765"}, 200),
        ({"origin": "https://hub.example"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"host": "evil.example"}, 421),
    ):
        bits = b"\1" + bytes(-(-len(page.pool.table) // 8) - 1)
        answer = client.post("/api/selections", content=bits, headers=told | headers)
        assert answer.status_code == status, headers
    assert bare(page).get("/api/pool", headers=hub).status_code == 421


@pytest.mark.parametrize("stated", ["user/me", "ftp://a/b", "/a?b=c", "hub.example"])
def test_a_root_path_is_a_path_or_a_url(stated):
    with pytest.raises(ValueError, match="root_path must be the path that a proxy"):
        Proxied.of(stated)


def test_only_a_notebook_may_frame_the_page(page):
    for framed in (False, True):
        headers = bare(page, framed=framed).get("/").headers
        policy = headers["content-security-policy"]
        assert ("frame-ancestors 'none'" in policy) != framed
        assert ("x-frame-options" in headers) != framed
        assert "http://localhost:*" in policy or not framed


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_cannot_change_anything(client, session, headers):
    body = {"marks": {}, "by": "x", "action": "y", "ranking": 0, "sort": "best"}
    assert (
        client.post(
            f"/api/sessions/{session}/mark", json=body, headers=headers
        ).status_code
        == 403
    )
    form = client.post(
        f"/api/sessions/{session}/undo",
        content="by=x",
        headers={"content-type": "text/plain"},
    )
    assert form.status_code == 415


def test_every_answer_has_the_security_headers(client):
    for path in ("/", "/static/main.js", "/api/pool", "/thumb/none/96", "/nowhere"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_crops_are_asked_for_by_id_never_by_path(client, page):
    for path in (
        "/thumb/..%2f..%2fetc%2fpasswd/96",
        "/photo/images%2fsmp-0000-0000.jpg",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
    ):
        assert client.get(path).status_code in (400, 404), path
    crop = page.pool.table.ids[5]
    image = Image.open(io.BytesIO(client.get(f"/thumb/{crop}/192").content))
    assert image.size == (192, 192)
    left, top, right, bottom = page.pool.table.boxes[5]
    facts = client.get(f"/api/crops/{crop}").json()
    assert facts["box"] == [left, top, right, bottom]
    assert (facts["width"], facts["height"]) == (1920, 1088)
    assert str(crop) in [other["id"] for other in facts["boxes"]]
    assert (
        max(Image.open(io.BytesIO(client.get(f"/photo/{crop}").content)).size) == 1600
    )
    assert client.get(f"/thumb/{crop}/97").status_code == 404
    assert client.get("/api/sessions/..%2f..%2fx").status_code in (400, 404)


def test_the_page_loads_nothing_from_elsewhere_and_holds_no_inline_code(client):
    assert "static/main.js" in client.get("/").text
    for path in ("/", *(f"/static/{file.name}" for file in STATIC.glob("*.js"))):
        text = client.get(path).text
        for word in (
            "https://",
            "//cdn",
            "innerHTML",
            "eval(",
            'onclick="',
            'style="',
            "<style",
            "document.write",
        ):
            assert word not in text.replace("http://www.w3.org", ""), (path, word)


def test_marks_undo_and_state(client, page, session):
    base = f"/api/sessions/{session}"
    crops = client.get(
        f"{base}/crops", params={"ranking": 0, "sort": "best", "start": 0, "count": 6}
    ).json()["crops"]
    ids = [crop["id"] for crop in crops]
    body = {
        "marks": {ids[0]: True, ids[1]: False},
        "by": "me",
        "action": "a1",
        "ranking": 0,
        "sort": "best",
    }
    assert client.post(f"{base}/mark", json=body).json() == {
        "line": 1,
        "left_out": [],
        "disputed": [],
    }
    assert client.post(f"{base}/mark", json=body).json() == {
        "line": 1,
        "left_out": [],
        "disputed": [],
    }  # sent again
    again = client.get(f"{base}/crops", params={"ranking": 0, "count": 3}).json()[
        "crops"
    ]
    assert [crop["mark"] for crop in again] == [True, False, None]
    state = client.get(base, params={"by": "me", "ranking": 0}).json()
    assert (state["relevant"], state["not_relevant"], state["can_undo"]) == (1, 1, 1)
    assert client.post(f"{base}/undo", json={"by": "me", "action": "a2"}).json() == {
        "line": 2,
        "what": "2 marks",
    }
    assert client.get(base, params={"by": "me"}).json()["relevant"] == 0
    assert client.post(f"{base}/redo", json={"by": "me", "action": "a3"}).json() == {
        "line": 3,
        "what": "2 marks",
    }
    lines = (page.sessions.folder / session / "feedback.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["mark", "undo", "redo"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("mark", {"marks": {}, "sort": "best"}, "marks must be an object"),
        ("mark", {"marks": {"c0": "yes"}, "sort": "best"}, "marks must be an object"),
        (
            "mark",
            {"marks": {"c0": True}, "sort": "best"},
            "crop must name crops of this embedding set; unknown: 'c0'",
        ),
        ("mark", {"marks": {"c0": True}, "sort": "x"}, "sort must be one of"),
        ("audit", {"size": 5}, "size must be from 10 to 1000; got 5"),
        (
            "threshold",
            {"value": "0.5", "scale": "cosine"},
            "value must be a number; got '0.5'",
        ),
        ("shown", {"ranking": 99}, "ranking must be from 0 to 0; got 99"),
        ("learn", {}, "audit must have answers"),
        (
            "examples",
            {"uploads": {"../../uploads/u-0": True}},
            "upload must be one that was sent before",
        ),
        ("examples", {"uploads": {}}, "uploads must name at least one"),
        ("classify", {"marks": {"c0": "beet"}}, "session must be of several classes"),
        ("export", {"format": "exe", "ranking": 0}, "format must be one of"),
        (
            "export",
            {"format": "csv", "ranking": 0, "what": "marked", "class_name": " "},
            "class_name must be given",
        ),
    ],
)
def test_bad_requests_are_named(client, session, path, body, message):
    answer = client.post(f"/api/sessions/{session}/{path}", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_bad_questions_are_named(client, session):
    base = f"/api/sessions/{session}/crops"
    for parameters, message in [
        ({"where": "1 = "}, "where must be an SQL condition"),
        (
            {"where": "1=1) UNION SELECT 1 FROM read_csv('/etc/passwd'"},
            "where must be an SQL condition",
        ),
        ({"count": 100_000}, "count must be a whole number from 1 to 400"),
        ({"start": -1}, "start must be a whole number"),
        ({"ranking": 7}, "ranking must be at most 0"),
        ({"among": "nope"}, "selection is not known any more"),
        ({"where": "true); SELECT (1"}, "where must be an SQL condition"),
        (
            {"where": "1=1) UNION ALL SELECT 99999999 FROM crops WHERE (1=1"},
            "where must be a single SQL condition",
        ),
    ]:
        answer = client.get(base, params=parameters)
        assert answer.status_code == 400
        assert message in answer.json()["error"]


def test_a_session_that_is_not_here_is_told_from_a_bad_request(client):
    """So that the page keeps marks for the server that has it."""
    body = {
        "marks": {"c0": True},
        "by": "me",
        "action": "a",
        "ranking": 0,
        "sort": "best",
    }
    assert (
        client.post("/api/sessions/s20260101-00000000/mark", json=body).status_code
        == 404
    )


def test_requests_have_a_limit(client, session):
    assert (
        client.post("/api/uploads", content=b"x" * (UPLOAD_BYTES + 1)).status_code
        == 413
    )
    assert (
        client.post("/api/sessions", json={"name": "x" * 6_000_000}).status_code == 413
    )
    assert (
        client.post(
            "/api/sessions",
            content=b"[" * 100_000,
            headers={"content-type": "application/json"},
        ).status_code
        == 400
    )


def test_an_upload_is_embedded_as_a_crop_is(field_set, page):
    embeddings = EmbeddingSet.load(field_set)
    buffer = io.BytesIO()
    Image.open(embeddings.table.path(0)).save(buffer, "PNG")
    vector, kept = embed_upload(str(field_set), buffer.getvalue())
    assert vector.shape == (embeddings.vectors.shape[1],)
    assert Image.open(io.BytesIO(kept)).size == (1024, 580)
    box = tuple(embeddings.table.boxes[0].tolist())
    part, shown = embed_upload(str(field_set), buffer.getvalue(), box)
    cropped = Image.open(embeddings.table.path(0)).convert("RGB").crop(box)
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(shown))), np.asarray(cropped)
    )
    embedder = embedder_of(embeddings)
    size, window = embeddings.meta["image_size"], embeddings.window
    photo = Image.open(embeddings.table.path(0)).convert("RGB")
    pixels = np.asarray(cut(photo, box, size, window))
    np.testing.assert_allclose(part, embedder.embed(pixels[None])[0], atol=1e-6)
    with pytest.raises(ValueError, match="box must lie in the image"):
        embed_upload(str(field_set), buffer.getvalue(), (5000, 0, 5010, 9))
    name = page.sessions.keep_upload(vector, kept)
    started = page.sessions.create([], [name], name="u")
    session = page.sessions.open(started)
    similar, alike = page.pool.similar, page.pool.as_similar(vector[None])
    cosines = similar.scores(similar.transform(alike))[0]
    assert session.page(0, "best", 0, 10**6)[0][0] == int(np.argmax(cosines))
    assert len(session.page(0, "best", 0, 10**6)[0]) == len(
        page.pool.table
    )  # it is no crop of the set
    for content, message in [
        (b"no image", "upload must be an image"),
        (buffer.getvalue()[:2000], "upload must be an image"),
    ]:
        with pytest.raises(ValueError, match=message):
            embed_upload(str(field_set), content)
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 100_000
    with pytest.raises(
        ValueError, match="image must have at most 50,000,000 pixels; got 400,000,000"
    ):
        embed_upload(str(field_set), bomb.getvalue())


def test_the_map_and_selections(client, page, session):
    answer = client.get("/api/map")
    while answer.status_code == 202:
        answer = client.get("/api/map")
    count = len(page.pool.table)
    places = np.frombuffer(answer.content[: 4 * count], "<u2").reshape(count, 2)
    assert np.abs(places / 65535 - page.overview.layout.start().result()).max() < 1e-4
    assert (
        np.frombuffer(answer.content[4 * count : 6 * count], "<i2")
        == page.pool.table.class_indices
    ).all()
    recordings = np.frombuffer(answer.content[6 * count :], "<u2")
    assert len(
        set(zip(recordings.tolist(), page.pool.table.column("session"), strict=True))
    ) == len(set(recordings.tolist()))
    asked = {"session": session, "where": "lighting = 'sunny'"}
    told = client.get("/api/map/state", params=asked).content
    assert len(told) == 8 + 3 * count
    learned = page.sessions.open(session).session.learned()
    low, high = np.frombuffer(told[:8], "<f4")
    assert (low, high) == (learned.decision.min(), learned.decision.max())
    levels, marks, shown = np.frombuffer(told[8:], np.uint8).reshape(3, count)
    assert (np.argmax(levels), np.argmin(levels)) == (
        np.argmax(learned.decision),
        np.argmin(learned.decision),
    )
    assert (levels.max(), levels.min()) == (255, 0)
    assert not marks.any()
    assert (shown == (page.pool.table.column("lighting") == "sunny")).all()
    assert client.get("/api/map/state").content == (
        bytes(8 + 2 * count) + bytes([1]) * count
    )
    bits = np.packbits(np.isin(np.arange(count), [3, 4]), bitorder="little").tobytes()
    made = client.post("/api/selections", content=bits).json()
    assert made["crops"] == page.pool.table.ids[[3, 4]].tolist()
    assert made["total"] == 2
    for wrong in (b"", bits[:-1], bytes(len(bits)), bits + b"\0"):
        assert client.post("/api/selections", content=wrong).status_code in (400, 413)
    row = client.get("/api/rows/4").json()
    assert row["id"] == page.pool.table.ids[4]
    assert client.get(f"/api/rows/{count}").status_code == 404
    part = client.get(
        f"/api/sessions/{session}/crops",
        params={"ranking": 0, "among": made["selection"], "count": 9},
    ).json()
    assert {crop["id"] for crop in part["crops"]} <= set(made["crops"])


def test_facets_are_asked_for_by_column(client, page):
    asked = [("of", "lighting"), ("where", "lighting IN ('sunny')")]
    answer = client.get("/api/facets", params=asked)
    found = {facet["name"]: facet for facet in answer.json()}
    sunny = page.pool.table.column("lighting") == "sunny"
    assert sum(one["crops"] for one in found["label_name"]["values"]) == sunny.sum()
    assert client.get("/api/facets", params=asked[:1]).status_code == 400
    # Conditions of no column must all hold.
    loose = [("of", ""), ("where", "lighting = 'sunny'")]
    loose += [("of", ""), ("where", "true_leaves > 3 OR true_leaves < 1")]
    answer = client.get("/api/facets", params=loose)
    found = {facet["name"]: facet for facet in answer.json()}
    leaves = np.asarray(page.pool.table.column("true_leaves"), float)
    both = sunny & ((leaves > 3) | (leaves < 1))
    assert sum(one["crops"] for one in found["label_name"]["values"]) == both.sum()


def test_thumbnails_stay_within_their_limit_on_disk(page, tmp_path):
    photos = Photos(page.pool.table, tmp_path, limit=60_000)
    for row in range(60):
        photos.thumbnail(row, 96)
    kept = sum(path.stat().st_size for path in tmp_path.rglob("*.jpg"))
    assert 0 < kept <= 60_000
    assert kept == photos.bytes_on_disk
    again = Photos(page.pool.table, tmp_path, limit=60_000)
    assert again.bytes_on_disk == kept
    assert again.thumbnail(59, 96) == photos.thumbnail(59, 96)


def test_an_image_that_is_gone_costs_only_its_picture(page, tmp_path):
    photos = Photos(
        CropTable(tmp_path / "moved", page.pool.table.rows), tmp_path / "cache"
    )
    lost = Page(page.overview, page.sessions, photos)
    crop = page.pool.table.ids[0]
    client = TestClient(
        make_app(lost, TOKEN),
        base_url="http://127.0.0.1",
        headers={"authorization": f"Bearer {TOKEN}"},
    )
    answer = client.get(f"/thumb/{crop}/96")
    assert answer.status_code == 404
    assert "can't be read: no such file" in answer.json()["error"]


def test_a_value_is_computed_once_however_many_ask():
    recent: LruCache[int] = LruCache(2)
    calls, barrier = [], threading.Barrier(8)

    def ask():
        barrier.wait()
        recent.get("a", lambda: calls.append(1) or len(calls))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]
    with pytest.raises(ZeroDivisionError):
        recent.get("b", lambda: 1 // 0)
    assert recent.get("b", lambda: 5) == 5  # a failure isn't kept
    recent.get("c", lambda: 6)
    recent.get("d", lambda: 7)
    assert recent.get("a", lambda: 9) == 9  # dropped: only two are kept


def kinds(of=requests.Action):
    return [of, *(kind for child in of.__subclasses__() for kind in kinds(child))]


def test_every_field_of_every_request_is_checked():
    assert len(kinds()) == 11
    for kind in kinds():
        for item in dataclasses.fields(kind):
            assert item.type in requests._TYPES, (kind, item.name)


@pytest.mark.parametrize(
    ("value", "scale", "fits"),
    [(0, "confidence", True), (-0.1, "confidence", False), (-1, "cosine", True)],
)
def test_a_threshold_is_on_its_scale(value, scale, fits):
    body = requests.ThresholdAction(value=value, scale=scale)
    if fits:
        body.check()
        return
    with pytest.raises(HTTPException) as refused:
        body.check()
    assert "confidence from 0 to 1 or a cosine from -1" in refused.value.detail


def test_a_full_disk_hides_no_picture(page, tmp_path, monkeypatch, caplog):
    photos = Photos(page.pool.table, tmp_path / "cache")
    expected = photos.thumbnail(0, 96)
    full = Photos(page.pool.table, tmp_path / "full")

    @contextlib.contextmanager
    def no_room(path, **_):
        raise OSError(28, "No space left on device")
        yield path

    monkeypatch.setattr("web.photos.whole_file", no_room)
    for _ in range(2):
        assert full.thumbnail(0, 96) == expected
    assert not list((tmp_path / "full").rglob("*.jpg"))
    assert caplog.text.count("thumbnails aren't kept") == 1
