"""Checks what a request holds, before anything is done with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

from curation.session import SORTS
from curation.session_facts import USES
from data.formats.registry import WRITABLE
from web.live import LiveSession

AUDIT_SIZE = (10, 1000)
UPLOAD_BYTES = 20_000_000
JSON_BYTES = 5_000_000
BATCH = 100  # actions in one request, at most
_CLASSES = 20
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


async def _json_object(request: Request) -> dict[str, Any]:
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


@dataclass(frozen=True, kw_only=True)
class Action:
    """What somebody does.

    Attributes:
        by: who: one browser tab.
        action: an id, by which an action that is sent again is known.
        person: their name, "" where they gave none.
    """

    by: str = ""
    action: str = ""
    person: str = ""

    def check(self) -> None:
        """Refuses what its types don't rule out yet."""


@dataclass(frozen=True, kw_only=True)
class MarkAction(Action):
    """Marks, made in a list."""

    marks: dict[str, bool | None]  # None takes a mark back
    seen: dict[str, bool | None] = field(default_factory=dict)  # before
    ranking: int = 0
    sort: str = ""

    def check(self) -> None:
        """The order must be one that there is."""
        if not self.marks:
            raise HTTPException(400, _MARKS)
        if self.sort not in SORTS:
            raise HTTPException(400, f"sort must be one of {', '.join(SORTS)}")


@dataclass(frozen=True, kw_only=True)
class RankingAction(Action):
    """Something about a ranking."""

    ranking: int

    def number(self, session: LiveSession) -> int:
        """The ranking, if there is one of that number."""
        most = len(session.journal.lines)
        if not 0 <= self.ranking <= most:
            raise ValueError(f"ranking must be from 0 to {most}; got {self.ranking}")
        return self.ranking


@dataclass(frozen=True, kw_only=True)
class ThresholdAction(Action):
    """A threshold as it is displayed, and its scale."""

    value: float
    scale: str

    def check(self) -> None:
        """The value must be on the scale."""
        least = {"confidence": 0, "cosine": -1}.get(self.scale)
        if least is None or not least <= self.value <= 1:
            raise HTTPException(
                400,
                "value must be a confidence from 0 to 1 or a cosine from -1 to 1, and "
                f"scale say which; got {self.value!r} and {self.scale!r}",
            )


@dataclass(frozen=True, kw_only=True)
class AuditAction(Action):
    """How many crops to draw."""

    size: int

    def check(self) -> None:
        """Few say little, many are never marked."""
        least, most = AUDIT_SIZE
        if not least <= self.size <= most:
            raise HTTPException(
                400, f"size must be from {least} to {most}; got {self.size!r}"
            )


@dataclass(frozen=True, kw_only=True)
class NewSession(Action):
    """What a session starts from."""

    name: str = ""
    pool: str = ""  # condition
    class_name: str = ""
    use: str = ""
    crops: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    classes: dict[str, Any] = field(default_factory=dict)  # name -> crops, uploads

    def check(self) -> None:
        """The use must be one that there is."""
        if self.use not in USES:
            raise HTTPException(
                400, f"use must be one of {', '.join(USES)}; got {self.use!r}"
            )


@dataclass(frozen=True, kw_only=True)
class ClassAction(Action):
    """Of which of several classes crops are: "none" of none, null takes it back."""

    marks: dict[str, str | None]
    seen: dict[str, str | None] = field(default_factory=dict)

    def check(self) -> None:
        """There must be one."""
        if not self.marks:
            raise HTTPException(400, "marks must name at least one crop")


@dataclass(frozen=True, kw_only=True)
class ExamplesAction(Action):
    """Uploads that are examples from here on, of what is looked for or of what isn't,
    or no longer.
    """

    uploads: dict[str, bool | None]

    def check(self) -> None:
        """There must be one."""
        if not self.uploads:
            raise HTTPException(400, "uploads must name at least one")


@dataclass(frozen=True, kw_only=True)
class Words(Action):
    """What is looked for, in words."""

    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Names(Action):
    """New names; None leaves one as it is."""

    name: str | None = None
    class_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExportAction(Action):
    """What to write, and as what."""

    format: str = ""
    what: str = ""
    class_name: str = ""
    ranking: int = -1
    where: str = ""  # only crops that a filter leaves,
    among: str = ""  # and that belong to a selection

    def check(self) -> None:
        """The format must be one that is written."""
        if self.format not in WRITABLE or self.ranking < 0:
            raise HTTPException(
                400,
                f"format must be one of {', '.join(WRITABLE)}, and ranking a number",
            )


Body = TypeVar("Body", bound=Action)
_MARKS = "marks must be an object of crop id -> true, false or null, with at least one"
# A field's type -> whether a value is of it, and what it must be.
_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (
        lambda value: isinstance(value, str) and len(value) <= _TEXT,
        f"a text of at most {_TEXT:,} characters",
    ),
    "int": (lambda value: type(value) is int, "a whole number"),
    "float": (lambda value: type(value) in (int, float), "a number"),
    "list[str]": (
        lambda value: (
            isinstance(value, list)
            and len(value) <= _TEXTS
            and all(isinstance(one, str) for one in value)
        ),
        f"a list of at most {_TEXTS:,} texts",
    ),
    "dict[str, bool | None]": (
        lambda value: (
            isinstance(value, dict)
            and all(one is None or type(one) is bool for one in value.values())
        ),
        _MARKS.removeprefix("marks must be "),
    ),
}
_TYPES["dict[str, str | None]"] = (
    lambda value: (
        isinstance(value, dict)
        and all(one is None or isinstance(one, str) for one in value.values())
    ),
    "an object of crop id -> class, none or null",
)
_TYPES["dict[str, Any]"] = (
    lambda value: (
        isinstance(value, dict)
        and len(value) <= _CLASSES
        and all(
            isinstance(one, dict)
            and set(one) <= {"crops", "uploads"}
            and all(_TYPES["list[str]"][0](names) for names in one.values())
            for one in value.values()
        )
    ),
    "an object of class -> its examples, lists of crops and uploads",
)
_TYPES["str | None"] = _TYPES["str"]


async def body_as(request: Request, kind: type[Body]) -> Body:
    """The request's JSON as one of the classes above: every field of its type, and
    checked.
    """
    return _as(kind, await _json_object(request))


async def bodies_as(request: Request, kind: type[Body]) -> tuple[list[Any], bool]:
    """Each of the bodies in a `batch`, or what is wrong with it; or the one body there
    is. And whether it is a batch.
    """
    stated = await _json_object(request)
    if "batch" not in stated:
        return [_as(kind, stated)], False
    batch = stated["batch"]
    if not (
        isinstance(batch, list)
        and 0 < len(batch) <= BATCH
        and all(isinstance(one, dict) for one in batch)
    ):
        raise HTTPException(400, f"batch must be a list of 1 to {BATCH} objects")
    found: list[Any] = []
    for one in batch:
        try:
            found.append(_as(kind, one))
        except HTTPException as error:
            found.append(error)
    return found, True


def _as(kind: type[Body], stated: dict[str, Any]) -> Body:
    for item in fields(kind):
        is_of_type, wanted = _TYPES[str(item.type)]
        required = item.default is MISSING and item.default_factory is MISSING
        given = item.name in stated
        if (given and not is_of_type(stated[item.name])) or (required and not given):
            got = repr(stated[item.name])[:100] if given else "nothing"
            raise HTTPException(400, f"{item.name} must be {wanted}; got {got}")
    body = kind(
        **{item.name: stated[item.name] for item in fields(kind) if item.name in stated}
    )
    body.check()
    return body


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


def box_in_query(request: Request) -> tuple[int, int, int, int] | None:
    """The query string's `box`, (left, top, right, bottom) in pixels; None without."""
    text = request.query_params.get("box", "")
    if not text:
        return None
    try:
        left, top, right, bottom = (int(side) for side in text.split(","))
    except ValueError:
        left = right = top = bottom = 0
    if not (0 <= left < right and 0 <= top < bottom):
        raise HTTPException(
            400, f"box must be left,top,right,bottom in pixels; got {text[:100]!r}"
        )
    return left, top, right, bottom


def number_in_query(request: Request, name: str) -> float:
    """A number of the query string."""
    text = request.query_params.get(name, "")
    try:
        return float(text)
    except ValueError:
        raise HTTPException(400, f"{name} must be a number; got {text!r}") from None
