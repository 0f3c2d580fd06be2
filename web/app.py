"""The page's server: routes, and nothing that isn't about HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from artifacts.files import back_up
from curation.classes import NONE
from curation.embed_query import embed_upload, embed_words
from curation.session import Session
from data.formats.registry import FORMATS, WRITABLE
from data.formats.writing import safe_name
from data.images import ImageError
from web import answers
from web.exports import run_export_job, start_export, zip_export
from web.live import LiveSession, Marked
from web.overview import Overview
from web.photos import SIZES, Photos
from web.pile import PAGE, Pile
from web.priority import lower_priority
from web.requests import (
    UPLOAD_BYTES,
    Action,
    AuditAction,
    Body,
    ClassAction,
    ExamplesAction,
    ExportAction,
    MarkAction,
    Names,
    NewSession,
    RankingAction,
    ThresholdAction,
    Words,
    bodies_as,
    body_as,
    box_in_query,
    number_in_query,
    read_body,
    whole_number,
)
from web.security import Security
from web.sessions import Sessions, UnknownSession
from web.threads import Threads
from web.worker import Worker, WorkerDied

STATIC = Path(__file__).parent / "static"
FIRST = 60  # crops on the first screen, about
_QUIET, _LOADING = 0.7, 6  # s without a picture asked for, and to wait at most
_IDLE = 15  # s without one, after which the map is made
_NEVER_CHANGES = {"cache-control": "private, max-age=31536000, immutable"}

Result = TypeVar("Result")
_Embed = Callable[[str, Any], tuple[np.ndarray, bytes]]


class Page:
    """The routes, over a pool and its sessions."""

    def __init__(self, overview: Overview, sessions: Sessions, photos: Photos):
        self.overview, self.sessions, self.photos = overview, sessions, photos
        self.pool = overview.pool
        self._worker = Worker()
        self._pictured: float | None = None  # when a picture was asked for last
        self._closed = False
        self.threads = Threads()
        self._cutters = ThreadPoolExecutor(
            os.cpu_count() or 2, "picture", partial(lower_priority, 5)
        )

    def routes(self) -> list[Route | Mount]:
        """Every address, and what answers it."""
        one = "/api/sessions/{session}"
        return [
            Route("/", self.index),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/pool", self.describe),
            *Pile(self.overview, self.sessions, self.threads).routes(),
            Route("/api/crops/{crop}", self.crop),
            Route("/thumb/{crop}/{size:int}", self.thumbnail),
            Route("/photo/{crop}", self.photo),
            Route("/detail/{crop}", self.detail),
            Route("/api/uploads", self.upload, methods=["POST"]),
            Route("/api/texts", self.text, methods=["POST"]),
            Route("/uploads/{upload}", self.upload_image),
            Route("/api/sessions", self.list_sessions),
            Route("/api/deleted", self.list_deleted),
            Route("/api/sessions", self.create, methods=["POST"]),
            Route(one, self.state),
            Route(one, self.rename, methods=["PATCH"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/restore", self.restore, methods=["POST"]),
            Route(f"{one}/duplicate", self.duplicate, methods=["POST"]),
            Route(f"{one}/crops", self.crops),
            Route(f"{one}/mark", self.mark, methods=["POST"]),
            Route(f"{one}/classify", self.classify, methods=["POST"]),
            Route(f"{one}/undo", self.undo, methods=["POST"]),
            Route(f"{one}/redo", self.redo, methods=["POST"]),
            Route(f"{one}/shown", self.shown, methods=["POST"]),
            Route(f"{one}/threshold", self.threshold, methods=["POST"]),
            Route(f"{one}/claimed", self.claimed),
            Route(f"{one}/threshold_for", self.threshold_for),
            Route(f"{one}/examples", self.examples, methods=["POST"]),
            Route(f"{one}/estimate", self.estimate),
            Route(f"{one}/audit", self.audit, methods=["POST"]),
            Route(f"{one}/learn", self.learn, methods=["POST"]),
            Route(f"{one}/export", self.export, methods=["POST"]),
            Route(f"{one}/exports/{{export}}.zip", self.download),
            Route(f"{one}/probe", self.save_probe, methods=["POST"]),
        ]

    def warm_up(self) -> None:
        """Does what the first screen and the first ranking will ask for, in their
        order.
        """
        lower_priority(10)
        self.pool.table.row_of("")  # each picture needs it
        _ = self.overview.facts  # computed once
        first = [
            self._cutters.submit(self.photos.thumbnail, int(row), SIZES[0])
            for row in self.overview.shuffled[:FIRST]
        ]
        wait(first)
        self._wait_until_quiet(_QUIET, _LOADING)
        # A first ranking: it reads all vectors, finds ids, sorts; a page is near then.
        some = str(self.pool.ids[self.overview.shuffled[0]])
        learned = Session(self.pool, query=some).learned()
        learned.ranking.page(0, PAGE)
        _ = learned.decision
        # Lengths of all vectors, which it keeps.
        self.pool.index.scores(np.zeros(self.pool.index.dim))
        # scikit-learn takes a second to import.
        from probe.linear_probe import LinearProbe

        LinearProbe().fit(np.eye(4), np.array([True, True, False, False]))
        # The map, so that it is there when it is asked for; not while people begin.
        self._wait_until_quiet(_IDLE, math.inf)
        self.overview.layout.start()

    def _wait_until_quiet(self, quiet: float, most: float) -> None:
        """Waits until no picture has been asked for in so many seconds, since a first
        one was; so long at most.
        """
        end = time.monotonic() + most
        while time.monotonic() < end and not self._closed:
            asked = self._pictured
            if asked is not None and time.monotonic() > asked + quiet:
                return
            time.sleep(quiet / 10)

    # Ways of working

    async def close(self) -> None:
        """Ends what runs in the background."""
        self._closed = True
        self._cutters.shutdown(wait=False, cancel_futures=True)
        self._worker.close()
        await anyio.to_thread.run_sync(self.sessions.close)

    def _session(self, request: Request) -> LiveSession:
        of = request.query_params.get("of", "")
        return self.sessions.open(request.path_params["session"], of)

    def _acting(self, request: Request, action: Action) -> LiveSession:
        """The session in which somebody acts."""
        session = self._session(request)
        session.history.name_person(action.by, action.person.strip()[:100])
        return session

    def _row(self, request: Request) -> int:
        row = self.pool.table.row_of(request.path_params["crop"])
        if row is None:
            raise HTTPException(404, "there is no such crop")
        return row

    # The pool

    async def index(self, request: Request) -> Response:
        """The page itself."""
        return FileResponse(
            STATIC / "index.html", headers={"cache-control": "no-cache"}
        )

    async def describe(self, request: Request) -> Response:
        """What the pool is: counts, columns, formats, sizes of pictures."""
        facts = await self.threads.run(lambda: self.overview.facts)
        has_ids = "label_id" in self.pool.table.rows.column_names
        formats = {
            name: FORMATS[name].keeps
            for name in WRITABLE
            if name != "cropandweed" or has_ids
        }
        return answers.Answer(
            answers.PageFacts(**vars(facts), formats=formats, sizes=SIZES)
        )

    async def crop(self, request: Request) -> Response:
        """What is known of a crop."""
        row = self._row(request)
        facts = await self._picture(
            lambda: answers.crop_facts(self.overview, self.photos, row)
        )
        return answers.Answer(facts)

    async def _picture(self, work: Callable[[], Result]) -> Result:
        self._pictured = time.monotonic()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._cutters, work)
        except ImageError as error:
            raise HTTPException(
                404, f"the image can't be read: {error.reason}"
            ) from None

    async def thumbnail(self, request: Request) -> Response:
        """A small picture of a crop, as the encoder saw it."""
        row, size = self._row(request), request.path_params["size"]
        if size not in SIZES:
            sizes = ", ".join(map(str, SIZES))
            raise HTTPException(404, f"size must be one of {sizes}")
        content = await self._picture(lambda: self.photos.thumbnail(row, size))
        return Response(content, media_type="image/jpeg", headers=_NEVER_CHANGES)

    async def photo(self, request: Request) -> Response:
        """The whole photo of a crop, with its boxes."""
        row = self._row(request)
        content = await self._picture(lambda: self.photos.photo(row))
        return Response(content, media_type="image/jpeg", headers=_NEVER_CHANGES)

    async def detail(self, request: Request) -> Response:
        """The crop with what lies around it, in all its pixels."""
        row = self._row(request)
        content = await self._picture(lambda: self.photos.detail(row))
        return Response(content, media_type="image/jpeg", headers=_NEVER_CHANGES)

    async def upload(self, request: Request) -> Response:
        """Takes an image from outside, or a box on it, embeds it, and gives it a
        name.
        """
        box = box_in_query(request)
        content = await read_body(request, UPLOAD_BYTES)
        if not content:
            raise HTTPException(400, "upload must be an image file; it is empty")
        return await self._keep_embedded(partial(embed_upload, box=box), content)

    async def text(self, request: Request) -> Response:
        """Takes words, embeds them, and gives them a name, as an upload."""
        words = await body_as(request, Words)
        return await self._keep_embedded(embed_words, words.text)

    async def _keep_embedded(self, embed: _Embed, given: bytes | str) -> Response:
        folder = str(self.pool.embeddings.folder)
        vector, image = await self._worker.run(embed, folder, given)
        name = await self.threads.run(lambda: self.sessions.keep_upload(vector, image))
        return JSONResponse({"upload": name})

    async def upload_image(self, request: Request) -> Response:
        """An uploaded image."""
        path = self.sessions.upload_path(request.path_params["upload"])
        if path is None:
            raise HTTPException(404, "there is no such upload")
        return FileResponse(path, media_type="image/png", headers=_NEVER_CHANGES)

    # Sessions

    async def list_sessions(self, request: Request) -> Response:
        """All sessions, the newest first."""
        return await self.threads.answer(self.sessions.listed)

    async def list_deleted(self, request: Request) -> Response:
        """Sessions that can be restored."""
        return await self.threads.answer(lambda: self.sessions.listed(deleted=True))

    async def create(self, request: Request) -> Response:
        """Starts a session."""
        new = await body_as(request, NewSession)
        if new.classes:
            stated = {"name": new.name, "pool": new.pool}
            return await self.threads.answer(
                lambda: {"session": self.sessions.create_classes(new.classes, **stated)}
            )
        names = ("name", "pool", "class_name", "use")
        stated = {name: getattr(new, name) for name in names}
        return await self.threads.answer(
            lambda: {"session": self.sessions.create(new.crops, new.uploads, **stated)}
        )

    async def rename(self, request: Request) -> Response:
        """Changes the name of a session or of its class."""
        names = await body_as(request, Names)
        session = request.path_params["session"]
        await self.threads.run(
            lambda: self.sessions.rename(session, names.name, names.class_name)
        )
        return JSONResponse({"renamed": True})

    async def delete(self, request: Request) -> Response:
        """Puts a session aside; `restore` brings it back."""
        name = request.path_params["session"]
        return await self.threads.answer(
            lambda: {"folder": str(self.sessions.delete(name))}
        )

    async def restore(self, request: Request) -> Response:
        """Brings a deleted session back."""
        name = request.path_params["session"]
        return await self.threads.answer(
            lambda: {"session": self.sessions.restore(name)}
        )

    async def duplicate(self, request: Request) -> Response:
        """Makes a session of these marks for the present embeddings."""
        name = request.path_params["session"]
        return await self.threads.answer(
            lambda: {"session": self.sessions.duplicate(name)}
        )

    async def state(self, request: Request) -> Response:
        """What a session has come to."""
        by = request.query_params.get("by", "")
        shown = whole_number(request, "ranking", -1)
        return await self.threads.answer(
            lambda: answers.session_state(self._session(request), by, shown)
        )

    async def crops(self, request: Request) -> Response:
        """A part of a session's list."""
        number = whole_number(request, "ranking", 0)
        start = whole_number(request, "start", 0)
        count = whole_number(request, "count", 1, PAGE)
        names = ("where", "among", "only", "marked_by")
        which: dict[str, Any] = {
            name: request.query_params.get(name, "") for name in names
        }
        if "lines" in request.query_params:
            which["lines"] = whole_number(request, "lines", 0)
        sort = request.query_params.get("sort") or "best"
        return await self.threads.answer(
            lambda: answers.crops_of(
                self._session(request), number, sort, start, count, **which
            )
        )

    async def mark(self, request: Request) -> Response:
        """Enters marks; answers once they are on the disk. Several actions may come
        together, as a `batch`: then each has its answer, or its error with the status.
        """

        def work(session: LiveSession, one: MarkAction) -> Marked:
            return session.mark(
                one.marks,
                one.by,
                one.action,
                one.ranking,
                sort=one.sort,
                seen=one.seen,
            )

        return await self._each(request, MarkAction, work)

    async def classify(self, request: Request) -> Response:
        """Says of which of several classes crops are; see `mark`."""

        def work(session: LiveSession, one: ClassAction) -> Marked:
            if session.several is None:
                raise ValueError("session must be of several classes; it is of one")
            marks = {crop: _class_of(name) for crop, name in one.marks.items()}
            seen = {crop: _class_of(name) for crop, name in one.seen.items()}
            return session.several.mark(marks, one.by, one.action, seen)

        return await self._each(request, ClassAction, work)

    async def _each(
        self,
        request: Request,
        kind: type[Body],
        act: Callable[[LiveSession, Body], Marked],
    ) -> Response:
        bodies, is_batch = await bodies_as(request, kind)

        def one(body: Any) -> Marked:
            if isinstance(body, Exception):
                raise body
            return act(self._acting(request, body), body)

        def each() -> list[object]:
            found: list[object] = []
            for body in bodies:
                try:
                    found.append(one(body))
                except (HTTPException, ValueError, RuntimeError, OSError) as error:
                    message, status = _refusal(error)
                    found.append({"error": message, "status": status})
            return found

        if not is_batch:
            done = await self.threads.run(lambda: one(bodies[0]), "mark")
            return answers.Answer(done)
        return answers.Answer({"answers": await self.threads.run(each, "mark")})

    async def claimed(self, request: Request) -> Response:
        """The crops that two of several classes take, kept under a name."""
        pair = [request.query_params.get(name, "") for name in ("first", "second")]

        def work() -> dict[str, str]:
            several = self._session(request).several
            if several is None or not set(pair) <= set(several.classes.names):
                raise ValueError("first and second must be classes of the session")
            return {"selection": self.overview.select(several.both(*pair))}

        return await self.threads.answer(work)

    async def _line(
        self,
        request: Request,
        action: Action,
        act: Callable[[LiveSession], int | None],
        kind: str = "mark",
    ) -> Response:
        """The number of the line that an action wrote."""
        line = await self.threads.run(lambda: act(self._acting(request, action)), kind)
        return JSONResponse({"line": line})

    async def undo(self, request: Request) -> Response:
        """Takes back this person's last action."""
        return await self._step(request, "undo")

    async def redo(self, request: Request) -> Response:
        """Does again what was undone."""
        return await self._step(request, "redo")

    async def _step(self, request: Request, kind: str) -> Response:
        who = await body_as(request, Action)

        def work() -> dict[str, object]:
            session = self._acting(request, who)
            line = session.step(kind, who.by, who.action)
            what = session.history.undone_by(line) if line else ""
            return {"line": line, "what": what}

        return JSONResponse(await self.threads.run(work, "mark"))

    async def shown(self, request: Request) -> Response:
        """Notes which crops a person has looked at."""
        body = await body_as(request, RankingAction)
        return await self._line(
            request, body, lambda one: one.show(body.number(one), body.by, body.action)
        )

    async def threshold(self, request: Request) -> Response:
        """Sets from which score on a crop counts."""
        body = await body_as(request, ThresholdAction)
        return await self._line(
            request,
            body,
            lambda one: one.set_threshold(
                float(body.value), body.scale, body.by, body.action
            ),
        )

    async def estimate(self, request: Request) -> Response:
        """What the audit says at a threshold."""
        number = whole_number(request, "ranking", 0)
        value = number_in_query(request, "threshold")
        since = None
        if "since" in request.query_params:
            since = number_in_query(request, "since")
        return await self.threads.answer(
            lambda: answers.estimate_at(self._session(request), number, value, since)
        )

    async def audit(self, request: Request) -> Response:
        """Draws a random sample."""
        body = await body_as(request, AuditAction)
        return await self._line(
            request,
            body,
            lambda one: one.draw_audit(body.size, body.by, body.action),
            "work",
        )

    async def learn(self, request: Request) -> Response:
        """Turns the answers of the audit into marks."""
        who = await body_as(request, Action)
        return await self._line(
            request, who, lambda one: one.learn_answers(who.by, who.action)
        )

    async def examples(self, request: Request) -> Response:
        """Adds uploads to what is looked for, or takes them off."""
        body = await body_as(request, ExamplesAction)

        def act(one: LiveSession) -> int:
            self.sessions.bring(request.path_params["session"], body.uploads)
            return one.change_examples(body.uploads, body.by, body.action)

        return await self._line(request, body, act)

    async def threshold_for(self, request: Request) -> Response:
        """The threshold of the longest list that is so precise."""
        number = whole_number(request, "ranking", 0)
        precision = number_in_query(request, "precision")

        def work() -> dict[str, float | None]:
            session = self._session(request)
            return {"threshold": session.threshold_for(number, precision)}

        return await self.threads.answer(work)

    # Exports

    async def export(self, request: Request) -> Response:
        """Starts writing the class in a format."""
        body = await body_as(request, ExportAction)
        job = await self.threads.run(
            lambda: start_export(self._session(request), body),
        )
        written, left_out = await self._worker.run(run_export_job, job)
        session = request.path_params["session"]
        return JSONResponse(
            {
                "folder": str(job.folder),
                "download": f"api/sessions/{session}/exports/{job.folder.name}.zip",
                "crops": written,
                "left_out": left_out,
            }
        )

    async def download(self, request: Request) -> Response:
        """An export as one .zip."""
        name = request.path_params["export"]
        path = await self.threads.run(lambda: zip_export(self._session(request), name))
        if path is None:
            raise HTTPException(404, "there is no such export")
        return FileResponse(path, filename=f"{name}.zip")

    async def save_probe(self, request: Request) -> Response:
        """Saves what was learned, for the terminal."""
        body = await body_as(request, RankingAction)

        def work() -> dict[str, str]:
            session = self._session(request)
            number = body.number(session)
            assert session.journal.folder is not None
            name = "probe"
            if session.several:
                name = f"probe-{safe_name(session.journal.facts.class_name)}"
            folder = session.journal.folder / name
            back_up(folder)
            session.session.saved_probe(number=number).save(folder)
            return {"folder": str(folder)}

        return await self.threads.answer(work)


def _class_of(shown: str | None) -> str | None:
    """A class as `Classes` names it, of what the page shows."""
    return NONE if shown == "none" else shown


def _refusal(error: Exception) -> tuple[str, int]:
    """What people are told of an error, and its HTTP status."""
    if isinstance(error, HTTPException):
        return error.detail, error.status_code
    if isinstance(error, WorkerDied):
        return str(error), 500
    if isinstance(error, UnknownSession):
        return str(error), 404
    if isinstance(error, ValueError | RuntimeError):
        return str(error), 409 if isinstance(error, RuntimeError) else 400
    if isinstance(error, OSError):
        return f"the disk: {error.strerror or error}", 507
    return "an error of the program; see the terminal", 500


async def _explain(request: Request, error: Exception) -> Response:
    message, status = _refusal(error)
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse({"error": message}, status, headers=headers)


def make_app(
    page: Page,
    token: str,
    names: frozenset[str] = frozenset({"localhost"}),
    local: bool = True,
    **guard: Any,
) -> Security:
    """The ASGI application.

    Args:
        page: its routes.
        token: what every request must carry.
        names, local: under which hosts it may be asked,
        guard: and how a proxy or a notebook shows it; see `Security`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await page.close()

    handlers: Any = dict.fromkeys(
        (HTTPException, ValueError, RuntimeError, OSError), _explain
    )
    app = Starlette(
        routes=page.routes(), exception_handlers=handlers, lifespan=lifespan
    )
    return Security(app, token, names, local, **guard)
