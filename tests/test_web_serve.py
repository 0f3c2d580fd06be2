"""The page where others show it: behind a proxy, and in a notebook's cell."""

import http.server
import subprocess
import sys
import threading

import httpx2
import pytest
from playwright.sync_api import expect

from tests.page_driver import ROOT, free_port, saved, settled, start, wished

HOPS = {"connection", "transfer-encoding", "content-length", "content-encoding"}


class Proxy(http.server.BaseHTTPRequestHandler):
    """Shows a server below a path, which it takes off or leaves on."""

    def _pass_on(self):
        path = self.path.removeprefix(self.server.prefix)
        if not self.server.takes_off:
            path = self.path
        length = int(self.headers.get("content-length", 0))
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in HOPS
        }
        answer = httpx2.request(
            self.command,
            self.server.origin + path,
            headers=headers,
            content=self.rfile.read(length),
            timeout=60,
        )
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in HOPS:
                self.send_header(name, value)
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_PATCH = do_DELETE = _pass_on

    def log_message(self, *_):
        """Says nothing."""


@pytest.mark.parametrize("takes_off", [True, False])
def test_behind_a_proxy_under_a_path(
    serve, field_set, tmp_path, open_page, truth, takes_off
):
    server = serve(field_set, tmp_path / "sessions", "--root_path=/hub/user/me")
    assert "/hub/user/me/?token=" in server.url
    origin = server.url.partition("/hub")[0]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        proxy.prefix, proxy.takes_off, proxy.origin = "/hub/user/me", takes_off, origin
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        address = server.url.replace(
            origin, f"http://127.0.0.1:{proxy.server_address[1]}"
        )
        page = open_page(address)
        start(page, wished(truth))
        image = page.locator(".work .cell img").first
        page.wait_for_function(
            "() => document.querySelector('.work .cell img').naturalWidth > 0"
        )
        assert "/hub/user/me/thumb/" in image.evaluate("image => image.src")
        settled(page)
        page.locator(".work .cell").first.focus()
        page.keyboard.press("y")
        saved(page)
        assert len(server.marks()) == 1
        page.get_by_role("button", name="Export …").click()
        page.get_by_role("button", name="Write the files").click()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download as .zip").click()
        assert download.value.path().stat().st_size > 1000
        page.close()
        proxy.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_in_a_notebook_s_cell(browser, field_set, tmp_path, name):
    """A cell's output, on a page of a notebook's server on another port."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from data.embeddings import EmbeddingSet
from web.serve import serve
served = serve(EmbeddingSet.load({str(field_set)!r}), port={free_port()},
               sessions={str(tmp_path / "sessions")!r}, block=False)
open({str(tmp_path / "cell.html")!r}, "w").write(served._repr_html_())
print(repr(served), flush=True)
input()
served.close()
print("closed", flush=True)
"""
    kernel = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    while "ServedPage(" not in (line := kernel.stdout.readline()):
        assert line, "it ended"
    assert "token" not in line  # nor does the notebook's file keep the folder's own
    assert not (tmp_path / "sessions" / ".token").exists()
    handler = type(
        "Notebook",
        (http.server.SimpleHTTPRequestHandler,),
        {"log_message": lambda *_: None},
    )
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *a: handler(*a, directory=str(tmp_path))
    ) as notebook:
        threading.Thread(target=notebook.serve_forever).start()
        page = browser.new_page()
        page.goto(f"http://{name}:{notebook.server_address[1]}/cell.html")
        inside = page.frame_locator("iframe")
        expect(inside.locator(".pick .cell").first).to_be_visible()
        inside.locator(".pick .cell").first.click()
        inside.get_by_role("button", name="Start", exact=True).click()
        expect(inside.locator(".work .cell").first).to_be_visible()
        grid = inside.locator(".work .grid")
        expect(grid).to_have_attribute("aria-busy", "false")
        inside.locator(".work .cell").first.focus()
        page.keyboard.press("y")
        expect(inside.locator("#saved")).to_have_text("saved")
        page.close()
        notebook.shutdown()
    out, _ = kernel.communicate("\n", timeout=30)
    assert "closed" in out
    assert kernel.returncode == 0
