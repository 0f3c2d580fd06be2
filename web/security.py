"""Who may talk to the page: people who have its URL, from a page of its own.

The server listens on a port that any web site open in the same browser, and any program
on the machine, can reach. So
- every request must carry a token, which stands in the URL that was printed and then in
  a cookie that scripts can't read;
- the Host header must name this server, or a site could rebind its own name to
  127.0.0.1 and read the answers;
- what changes something must come from this server's own pages (Origin,
  Sec-Fetch-Site), or any site could post to it;
- a content-security policy keeps markup that came in with a file name or label from
  running.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.requests import cookie_parser
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    RedirectResponse,
    Response,
)
from starlette.types import Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
)
_NO_FRAME = {
    "content-security-policy": "; ".join((*_POLICY, "frame-ancestors 'none'")),
    "x-frame-options": "DENY",
}
# A notebook on this machine, whatever its port; one behind a proxy is of the same site.
_IN_A_NOTEBOOK = "frame-ancestors 'self' http://localhost:* http://127.0.0.1:*"
_IN_A_FRAME = {"content-security-policy": "; ".join((*_POLICY, _IN_A_NOTEBOOK))}
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_SAFE = ("GET", "HEAD")
_A_YEAR = 365 * 24 * 3600  # s, as long as a bookmark works without the token


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


_LOCKED = """<!doctype html><html lang="en"><meta charset="utf-8">
<title>Another address</title><link rel="icon" href="data:,">
<h1>This page needs its whole address</h1>
<p>It belongs to whoever started the program. Open the address that the program printed
when it started: it ends in <code>/?token=...</code>
<p>Started again with the same folder of sessions, the program keeps its address, unless
it is given <code>--new_token</code>. If you had this page open before, it was started
with another folder, or on another port."""


@dataclass(frozen=True)
class Proxied:
    """Where a proxy shows the page to browsers.

    Attributes:
        path: before every path of the page's own, "" for none; a proxy may take it off
            or leave it on.
        host: with its port, as browsers name it; "" where it is this server's own.
        scheme: http or https; "" where it isn't known.
    """

    path: str = ""
    host: str = ""
    scheme: str = ""

    @classmethod
    def of(cls, root_path: str) -> Proxied:
        """Reads `root_path`: a path, or a whole URL.

        Raises:
            ValueError: it is neither.
        """
        parts = urlsplit(root_path)
        is_url = parts.scheme in ("http", "https") and bool(parts.netloc)
        is_path = root_path == parts.path and root_path[:1] in ("", "/")
        if not (is_url or is_path) or parts.query or parts.fragment:
            raise ValueError(
                "root_path must be the path that a proxy shows the page under, such as "
                "/user/me/proxy/8765, or its whole URL, which is needed where browsers "
                f"name another host; got {root_path!r}"
            )
        return cls(parts.path.rstrip("/"), parts.netloc, parts.scheme)

    @property
    def hostname(self) -> str:
        """The host without its port."""
        return urlsplit(f"//{self.host}").hostname or ""


class Security:
    """ASGI middleware around the whole application.

    Args:
        app: what it guards.
        token: what requests must carry.
        names: host names, besides addresses, under which the server may be asked, such
            as "localhost".
        local: whether only addresses of this machine may be named.
        proxied: where a proxy shows it.
        framed: whether a notebook may show it in a cell.
    """

    def __init__(
        self,
        app: Any,
        token: str,
        names: frozenset[str],
        local: bool = True,
        *,
        proxied: Proxied | None = None,
        framed: bool = False,
    ):
        self.app, self.token, self.local = app, token, local
        self.proxied = proxied or Proxied()
        self.names = names | ({self.proxied.hostname} - {""})
        self.headers = HEADERS | (_IN_A_FRAME if framed else _NO_FRAME)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        root = self.proxied.path
        if root and scope["path"].startswith(f"{root}/"):
            scope = {**scope, "path": scope["path"].removeprefix(root)}

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = self.headers.items()
                added = [(name.encode(), value.encode()) for name, value in headers]
                kept = [
                    pair
                    for pair in message.get("headers", [])
                    if pair[0].decode() not in self.headers
                ]
                message = {**message, "headers": kept + added}
            await send(message)

        answer = self._refusal(scope)
        await (answer or self.app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """What to answer instead of the application; None where the request is in
        order.
        """
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        host = headers.get("host", "")
        if not self._is_this_server(host):
            known = "host must be this server, or that of --root_path; got"
            return JSONResponse({"error": f"{known} {host!r}"}, 421)
        root = self.proxied.path
        if root and scope["path"] == root:  # what is relative goes below it
            return RedirectResponse(f"{root}/", 308)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        # browsers share cookies between the ports of a host
        cookie = f"token_{(scope.get('server') or ('', 0))[1]}"
        if (
            scope["path"] == "/"
            and scope["method"] in _SAFE
            and given
            and self._matches(given)
        ):
            # The token leaves the address bar. A page and not a redirect, after which
            # the browser wouldn't send a strict cookie to those who came from
            # elsewhere.
            response = HTMLResponse(
                '<!doctype html><title>Find more like it</title><script src="static/'
                'enter.js" type="module"></script><noscript><meta http-equiv="refresh" '
                'content="0;url=./"></noscript><link rel="icon" href="static/icon.svg">'
            )
            response.set_cookie(
                cookie,
                self.token,
                max_age=_A_YEAR,
                httponly=True,
                samesite="strict",
                secure=self.proxied.scheme == "https",
                path=f"{root}/",
            )
            response.headers["cache-control"] = "no-store"
            return response
        jar = cookie_parser(headers.get("cookie", ""))
        carried = (
            jar[cookie]
            if cookie in jar
            else headers.get("authorization", "").removeprefix("Bearer ")
        )
        if not self._matches(carried):
            wants_page = "text/html" in headers.get("accept", "")
            if scope["path"] == "/" and wants_page:
                return HTMLResponse(_LOCKED, 403)
            return JSONResponse(
                {
                    "error": (
                        "the token is missing or wrong: open the URL that the server "
                        "printed when it started"
                    )
                },
                403,
            )
        if scope["method"] not in _SAFE and not self._is_same_origin(headers, host):
            return JSONResponse(
                {"error": "the request must come from the page itself"}, 403
            )
        return None

    def _matches(self, token: str) -> bool:
        return hmac.compare_digest(
            token.encode("utf-8", "surrogateescape"), self.token.encode()
        )

    def _is_this_server(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if urlsplit(f"//{host}").netloc != host or "@" in host:
                return False
        except ValueError:
            return False
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False  # another name may have been rebound to this machine
        return address.is_loopback or not self.local

    def _is_same_origin(self, headers: dict[str, str], host: str) -> bool:
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = headers.get("origin")
        hosts = {host, self.proxied.host} - {""}
        return origin is None or (origin != "null" and urlsplit(origin).netloc in hosts)
