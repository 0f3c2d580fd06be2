"""Checks what a request holds, before anything is done with it."""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from web.live import LiveSession

UPLOAD_BYTES = 20_000_000
JSON_BYTES = 5_000_000
_TEXT, _TEXTS = 4000, 1000  # letters of a text, and texts in a list, at most


async def read_body(request: Request, most: int) -> bytes:
    """The body, refused as soon as it is too long."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"the request must have at most {most:,} bytes")
        parts.append(part)
    return b"".join(parts)


async def json_body(request: Request) -> dict[str, Any]:
    """The body as a JSON object."""
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind != "application/json":
        raise HTTPException(415, "the request must be application/json")
    try:
        body = json.loads(await read_body(request, JSON_BYTES))
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise HTTPException(400, "the request must be a JSON object")
    return body


def text_in(body: dict[str, Any], name: str) -> str:
    """A text of a body, "" where there is none."""
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > _TEXT:
        raise HTTPException(
            400, f"{name} must be a text of at most {_TEXT:,} characters"
        )
    return value


def texts_in(body: dict[str, Any], name: str) -> list[str]:
    """A list of texts of a body."""
    values = body.get(name, [])
    if (
        not isinstance(values, list)
        or not all(isinstance(value, str) for value in values)
        or len(values) > _TEXTS
    ):
        raise HTTPException(400, f"{name} must be a list of at most {_TEXTS:,} texts")
    return values


def who(body: dict[str, Any]) -> tuple[str, str]:
    """Who acts, and the action's id."""
    return text_in(body, "by"), text_in(body, "action")


def marks_in(body: dict[str, Any]) -> dict[str, bool | None]:
    """crop id -> relevant, or None to take a mark back."""
    marks = body.get("marks")
    if (
        not isinstance(marks, dict)
        or not marks
        or not all(value in (True, False, None) for value in marks.values())
    ):
        raise HTTPException(
            400,
            "marks must be an object of crop id -> true, false or null, with at least "
            "one",
        )
    return {name: None if mark is None else bool(mark) for name, mark in marks.items()}


_LEAST = {"confidence": 0, "cosine": -1}


def threshold_in(body: dict[str, Any]) -> tuple[float, str]:
    """A threshold as it is displayed, and its scale."""
    value, scale = body.get("value"), text_in(body, "scale")
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or scale not in _LEAST
        or not _LEAST[scale] <= value <= 1
    ):
        raise HTTPException(
            400,
            "value must be a confidence from 0 to 1 or a cosine from -1 to 1, and "
            f"scale say which; got {value!r} and {scale!r}",
        )
    return float(value), scale


def ranking_in(body: dict[str, Any], session: LiveSession) -> int:
    """The number of a ranking that there is."""
    ranking, most = body.get("ranking"), len(session.journal.lines)
    if not isinstance(ranking, int) or not 0 <= ranking <= most:
        raise ValueError(f"ranking must be from 0 to {most}; got {ranking!r}")
    return ranking


def whole_number(
    request: Request, name: str, least: int, most: int | None = None
) -> int:
    """A whole number of the query string; `least` where it isn't there."""
    text = request.query_params.get(name, str(least))
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least or (most is not None and value > most) or value > 2**53:
        upto = f" to {most}" if most else ""
        raise HTTPException(
            400, f"{name} must be a whole number from {least}{upto}; got {text!r}"
        )
    return value


def number_in_query(request: Request, name: str) -> float:
    """A number of the query string."""
    text = request.query_params.get(name, "")
    try:
        return float(text)
    except ValueError:
        raise HTTPException(400, f"{name} must be a number; got {text!r}") from None
