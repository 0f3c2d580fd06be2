"""Starts the page: prints its URL, opens the browser, and serves until it is
interrupted.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import webbrowser
from pathlib import Path

import uvicorn
from threadpoolctl import threadpool_limits

from data.embeddings import EmbeddingSet
from data.files import check_writable
from web.app import Page, make_app
from web.guard import is_loopback
from web.photos import Photos
from web.pool import Pool
from web.sessions import Sessions

PORT = 8765


def serve(
    embeddings: EmbeddingSet,
    sessions: str | Path = "",
    host: str = "127.0.0.1",
    port: int = 0,
    open_browser: bool = True,
    seed: int = 0,
) -> None:
    """Serves the page until Ctrl-C.

    Args:
        embeddings: what to search; its table has the columns of `data.predictions`
            where a model's failures are counted.
        sessions: folder of the sessions; default: sessions/ beside the embedding set.
        host: address to listen on; beyond this machine everyone on the network who has
            the URL can see the images and mark.
        port: 0 takes 8765, or a free one where that is in use.
        open_browser: whether to open it in the default browser.
        seed: of audits, the map and the probe's random crops.

    Raises:
        ValueError, OSError: the address can't be listened on, or the folder not written
            to.
    """
    folder = Path(sessions) if sessions else embeddings.folder.parent / "sessions"
    check_writable(folder, "sessions")
    listener = _listen(host, port)
    address, number = listener.getsockname()[:2]
    print("reading the embeddings ...", flush=True)
    pool = Pool(embeddings, folder / "cache", seed)
    padding = float(embeddings.meta.get("view", {}).get("padding", 0.0))
    page = Page(
        pool,
        Sessions(pool, folder, seed),
        Photos(pool.table, folder / "cache" / "thumbnails", padding),
    )
    token = secrets.token_urlsafe(24)
    names = frozenset({"localhost", host, socket.gethostname().lower()})
    app = make_app(page, token, names, is_loopback(host))
    shown = (
        "127.0.0.1"
        if address in ("127.0.0.1", "0.0.0.0")
        else f"[{address}]"
        if ":" in address
        else address
    )
    url = f"http://{shown}:{number}/?token={token}"
    if not is_loopback(host):
        shown_host = socket.gethostname() if address in ("0.0.0.0", "::") else shown
        url = f"http://{shown_host}:{number}/?token={token}"
        print(
            f"WARNING: listening on {address}, beyond this machine. Everyone on the "
            "network who has this URL can see all images\n"
            "and change marks; and since it is http, whoever can listen to the network "
            "can read the URL. Give it only to people\n"
            "you trust."
        )
    print(
        f"{len(pool.table):,} crops. Sessions are kept in {folder}. Ctrl-C ends.\n\n  "
        f"{url}\n",
        flush=True,
    )
    threadpool_limits(
        max(1, (os.cpu_count() or 2) // 2), user_api="blas"
    )  # a ranking leaves room for marks and pictures
    sys.setswitchinterval(0.001)
    threading.Thread(
        target=page.warm_up, daemon=True
    ).start()  # while the browser opens
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=3,
            server_header=False,
            lifespan="on",
        )
    )
    opener = folder / "open.html"
    if open_browser:
        # By a file that others can't read: a command line, and with it the token, can
        # be seen by everyone on the machine.
        opener.unlink(missing_ok=True)
        opener.touch(0o600)
        opener.write_text(
            f'<!doctype html><meta http-equiv="refresh" content="0;url={url}">',
            encoding="utf-8",
        )
        threading.Timer(0.5, webbrowser.open, [opener.resolve().as_uri()]).start()
    try:
        server.run(sockets=[listener])
    finally:
        opener.unlink(missing_ok=True)
    print("stopped; everything that was marked is saved")


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
