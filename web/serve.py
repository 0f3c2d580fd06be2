"""Starts the page: prints its URL, opens the browser, and serves until it is
interrupted; in a notebook, shows it in the cell and serves in the background.
"""

from __future__ import annotations

import html
import os
import re
import secrets
import socket
import sys
import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from threadpoolctl import threadpool_limits

from artifacts.files import check_writable
from curation.pool import load, make_ready
from data.embeddings import EmbeddingSet
from web.app import Page, make_app
from web.overview import Overview
from web.photos import Photos
from web.security import Proxied, Security, is_loopback
from web.sessions import Sessions

PORT = 8765
_TOKEN = re.compile(r"[\w-]{20,100}")


@dataclass(frozen=True)
class PageRequest:
    """What to serve; see run_page.py for each."""

    embeddings: str = ""
    images_root: str = ""
    sessions: str = ""
    predictions: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    root_path: str = ""
    new_token: bool = False
    browser: bool = True  # open the page in the default browser
    seed: int = 0


def run_page(request: PageRequest) -> None:
    """What run_page.py does.

    Raises:
        ValueError, OSError: with a message for the user.
    """
    serve(
        load(request.embeddings, request.images_root, request.predictions),
        sessions=request.sessions,
        host=request.host,
        port=request.port,
        root_path=request.root_path,
        new_token=request.new_token,
        open_browser=request.browser,
        seed=request.seed,
    )


class ServedPage:
    """A page that is served in the background; as the last value of a notebook's cell
    it shows itself there.

    Attributes:
        url: to open it in a tab of its own.
    """

    def __init__(self, page: Page, app: Security, listener: socket.socket, url: str):
        """Starts to serve.

        Args:
            page: what to warm up,
            app: and serve,
            listener: to whoever connects here,
            url: as what the browser is told.
        """
        self.url = url
        # A ranking leaves room for marks and pictures.
        threads = max(1, (os.cpu_count() or 2) // 2)
        self._threads = threadpool_limits(threads, user_api="blas")
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(0.001)
        # While the browser opens.
        threading.Thread(target=page.warm_up, daemon=True).start()
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=3,
            server_header=False,
            lifespan="on",
        )
        self._server, self._listener = uvicorn.Server(config), listener
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serves until Ctrl-C."""
        self._server.run(sockets=[self._listener])
        print("stopped; everything that was marked is saved")

    def start(self) -> ServedPage:
        """Serves from a thread of its own."""
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Ends it; what was marked is saved."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(10)
        self._threads.restore_original_limits()
        sys.setswitchinterval(self._interval)

    def __repr__(self) -> str:
        return f"ServedPage({self.url.partition('?')[0]})"

    def _repr_html_(self) -> str:
        """The page in a frame. It is asked for by the notebook's own name of this
        machine (localhost or 127.0.0.1), or the browser would keep its cookie back.
        """
        link = html.escape(self.url)
        return (
            f'<iframe src="{link}" style="width: 100%; height: 52rem; border: 0" '
            'title="Find more like it"></iframe>'
            f'<p><a href="{link}" target="_blank" rel="noopener">In a tab of its own'
            "</a></p><script>(() => { const here = location.hostname; "
            "if (here !== 'localhost') return; const out = "
            "document.currentScript.parentElement; const own = (address) => "
            "address.replace('//127.0.0.1:', '//localhost:'); "
            "const frame = out.querySelector('iframe'); frame.src = own(frame.src); "
            "const link = out.querySelector('a'); link.href = own(link.href); "
            "})()</script>"
        )


def serve(
    embeddings: EmbeddingSet,
    *,
    sessions: str | Path = "",
    host: str = "127.0.0.1",
    port: int = 0,
    root_path: str = "",
    new_token: bool = False,
    open_browser: bool = True,
    block: bool | None = None,
    seed: int = 0,
) -> ServedPage | None:
    """Serves the page until Ctrl-C; in a notebook, from its cell, until it is closed.

    Example:
        >>> serve(EmbeddingSet.load("runs/a/embeddings"))

    Args:
        embeddings: what to search; its table has the columns of `data.predictions`
            where a model's failures are counted.
        sessions: folder of the sessions; default: sessions/ beside the embedding set.
        host: address to listen on; beyond this machine everyone on the network who has
            the URL can see the images and mark.
        port: 0 takes 8765, or a free one where that is in use.
        root_path: where a proxy shows it: a path such as /user/me/proxy/8765, or the
            whole URL where browsers name another host.
        new_token: make a new secret for the URL, so that the old one opens nothing any
            more.
        open_browser: whether to open it in the default browser.
        block: whether to serve until Ctrl-C, instead of in the background; default: not
            in a notebook.
        seed: of audits, the map and the probe's random crops.

    Returns:
        What shows the page in a cell, and closes it; None once Ctrl-C has ended it.

    Raises:
        ValueError, OSError: the address can't be listened on, or the folder not written
            to.
    """
    folder = Path(sessions) if sessions else embeddings.folder.parent / "sessions"
    proxied = Proxied.of(root_path)
    check_writable(folder, "sessions")
    listener = _listen(host, port)
    block = not _in_a_notebook() if block is None else block
    print("reading the embeddings ...", flush=True)
    overview = Overview(make_ready(embeddings), seed)
    thumbnails = folder / "cache" / "thumbnails"
    page = Page(
        overview,
        Sessions(overview, folder, seed),
        Photos(embeddings.table, thumbnails, embeddings.window),
    )
    # A cell's output holds the URL and is saved with the notebook: one of its own.
    token = _token(folder, new_token) if block else secrets.token_urlsafe(24)
    names = frozenset({"localhost", host, socket.gethostname().lower()})
    local = is_loopback(host)
    app = make_app(page, token, names, local, proxied=proxied, framed=not block)
    url = _url(listener, host, token, proxied)
    print(
        f"{len(embeddings.table):,} crops. Sessions are kept in {folder}. "
        + ("Ctrl-C ends.\n" if block else "close() ends.\n")
        + (f"\n  {url}\n" if block else ""),
        flush=True,
    )
    served = ServedPage(page, app, listener, url)
    if not block:
        return served.start()
    opener = folder / "open.html"
    if open_browser:
        _open_browser(opener, url)
    try:
        served.run()
    finally:
        opener.unlink(missing_ok=True)
        served.close()
    return None


def _in_a_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    return "IPython" in sys.modules and "ipykernel" in sys.modules


def _token(folder: Path, new: bool) -> str:
    """The secret of the URL: the same at every start, so that an open page and a
    bookmark go on working, in a file that others can't read.
    """
    path = folder / ".token"
    stated = path.read_text().strip() if path.is_file() and not new else ""
    if _TOKEN.fullmatch(stated):
        return stated
    token = secrets.token_urlsafe(24)
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_text(token)
    return token


def _url(listener: socket.socket, host: str, token: str, proxied: Proxied) -> str:
    """What to open; warns where others can open it too."""
    address, number = listener.getsockname()[:2]
    everywhere = address in ("0.0.0.0", "::")
    shown = f"[{address}]" if ":" in address else address
    if everywhere:
        shown = "127.0.0.1" if is_loopback(host) else socket.gethostname()
    if not is_loopback(host):
        print(
            f"WARNING: listening on {address}, beyond this machine. Everyone on the "
            "network who has this URL can see all images\nand change marks; and since "
            "it is http, whoever can listen to the network can read the URL. Give it "
            "only to people\nyou trust."
        )
    here = f"http://{shown}:{number}"
    if proxied.host:
        here = f"{proxied.scheme}://{proxied.host}"
    return f"{here}{proxied.path}/?token={token}"


def _open_browser(opener: Path, url: str) -> None:
    """Opens the URL by a file that others can't read: a command line, and with it the
    token, can be seen by everyone on the machine.
    """
    opener.unlink(missing_ok=True)
    opener.touch(0o600)
    refresh = f'<meta http-equiv="refresh" content="0;url={url}">'
    opener.write_text(f"<!doctype html>{refresh}", encoding="utf-8")
    threading.Timer(0.5, webbrowser.open, [opener.resolve().as_uri()]).start()


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65536:
        raise ValueError(f"port must be from 0 to 65535; got {port}")
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise ValueError(
            f"host must be an address or name of this machine; got {host!r}: "
            f"{error.strerror}"
        ) from None
    failure: OSError | None = None
    for number in [port] if port else [PORT, 0]:
        # With its protocol named, asyncio turns off Nagle's algorithm, which would hold
        # every answer back for 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
            listener.listen(2048)
        except OSError as error:
            failure = error
            listener.close()
            continue
        return listener
    assert failure is not None
    raise OSError(
        failure.errno,
        f"port can't be listened on ({failure.strerror}); give another --port",
        f"{host}:{port}",
    )
