"""The page's server: routes, and nothing that isn't about HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import threading
import uuid
import zipfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
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

from data.export import FORMATS, safe_name
from data.files import keep_aside
from data.images import ImageError
from data.provenance import now
from web.guard import Guard
from web.live import SORTS, LiveSession
from web.outside import embed_upload, export_selection
from web.photos import SIZES, Photos
from web.pool import Pool, give_way
from web.sessions import USES, Sessions, UnknownSession

STATIC = Path(__file__).parent / "static"
UPLOAD_BYTES = 20_000_000
JSON_BYTES = 5_000_000
PAGE = 400  # crops in one answer, at most
FIRST = 60  # crops on the first screen, about
AUDIT_SIZE = (10, 1000)
_NEVER_CHANGES = {"cache-control": "private, max-age=31536000, immutable"}

Result = TypeVar("Result")


class Page:
    """The routes, over a pool and its sessions."""

    def __init__(self, pool: Pool, sessions: Sessions, photos: Photos):
        self.pool, self.sessions, self.photos = pool, sessions, photos
        self._worker: ProcessPoolExecutor | None = None
        self._worker_lock = threading.Lock()
        self._limits = {kind: anyio.CapacityLimiter(8) for kind in ("mark", "work")}
        self._cutters = ThreadPoolExecutor(
            os.cpu_count() or 2, "picture", partial(give_way, 5)
        )

    def routes(self) -> list[Route | Mount]:
        one = "/api/sessions/{session}"
        return [
            Route("/", self.index),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/pool", self.describe),
            Route("/api/browse", self.browse),
            Route("/api/crops/{crop}", self.crop),
            Route("/thumb/{crop}/{size:int}", self.thumbnail),
            Route("/photo/{crop}", self.photo),
            Route("/api/map", self.map),
            Route("/api/map/scores", self.map_scores),
            Route("/api/selections", self.select, methods=["POST"]),
            Route("/api/clusters", self.clusters),
            Route("/api/uploads", self.upload, methods=["POST"]),
            Route("/uploads/{upload}", self.upload_image),
            Route("/api/sessions", self.list_sessions),
            Route("/api/sessions", self.create, methods=["POST"]),
            Route(one, self.state),
            Route(one, self.rename, methods=["PATCH"]),
            Route(f"{one}/duplicate", self.duplicate, methods=["POST"]),
            Route(f"{one}/crops", self.crops),
            Route(f"{one}/mark", self.mark, methods=["POST"]),
            Route(f"{one}/undo", self.undo, methods=["POST"]),
            Route(f"{one}/redo", self.redo, methods=["POST"]),
            Route(f"{one}/shown", self.shown, methods=["POST"]),
            Route(f"{one}/threshold", self.threshold, methods=["POST"]),
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
        give_way(10)
        self.pool.facts  # noqa: B018  computed once
        first = [
            self._cutters.submit(self.photos.thumbnail, int(row), SIZES[0])
            for row in self.pool.shuffled[:FIRST]
        ]
        wait(first)
        self.pool.index.scores(
            np.zeros(self.pool.index.width)
        )  # lengths of all vectors, which it keeps
        from probe.linear_probe import (
            LinearProbe,
        )  # scikit-learn takes a second to import

        LinearProbe().fit(np.eye(4), np.array([True, True, False, False]))

    # Ways of working

    async def _in_thread(self, kind: str, work: Callable[[], Result]) -> Result:
        """Runs blocking work in a thread; at most so many of a kind at once that
        nothing holds up a mark.
        """
        return await anyio.to_thread.run_sync(work, limiter=self._limits[kind])

    async def _in_worker(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Runs work in the worker process, which is started when it is first needed,
        and again if it died.
        """
        with self._worker_lock:
            if self._worker is None:
                self._worker = ProcessPoolExecutor(
                    1, multiprocessing.get_context("spawn")
                )
            worker = self._worker
        try:
            return await asyncio.get_running_loop().run_in_executor(
                worker, work, *arguments
            )
        except BrokenProcessPool:
            with self._worker_lock:
                if self._worker is worker:
                    self._worker = None
            raise HTTPException(
                500,
                "the worker process died, perhaps for lack of memory; nothing was "
                "lost, try again",
            ) from None

    async def close(self) -> None:
        self._cutters.shutdown(wait=False, cancel_futures=True)
        if self._worker is not None:
            self._worker.shutdown(wait=False, cancel_futures=True)
        await anyio.to_thread.run_sync(self.sessions.close)

    def _session(self, request: Request) -> LiveSession:
        return self.sessions.open(request.path_params["session"])

    def _row(self, request: Request) -> int:
        row = self.pool.row_of.get(request.path_params["crop"])
        if row is None:
            raise HTTPException(404, "there is no such crop")
        return row

    # The pool

    async def index(self, request: Request) -> Response:
        return FileResponse(
            STATIC / "index.html", headers={"cache-control": "no-cache"}
        )

    async def describe(self, request: Request) -> Response:
        facts = await self._in_thread("work", lambda: self.pool.facts)
        formats = [
            name
            for name in FORMATS
            if name != "cropandweed" or "label_id" in self.pool.table.rows.column_names
        ]
        return JSONResponse({**facts, "formats": formats, "sizes": SIZES})

    async def browse(self, request: Request) -> Response:
        """Crops that meet a condition, shuffled always alike, so that the first screen
        shows what there is.
        """
        start, count = _number(request, "start", 0), _number(request, "count", 1, PAGE)
        where = request.query_params.get("where", "")

        def work() -> dict[str, Any]:
            rows = self.pool.shuffled[self.pool.mask(where)[self.pool.shuffled]]
            table, part = self.pool.table, rows[start : start + count].tolist()
            labels = table.column("label_name")
            return {
                "total": len(rows),
                "crops": [
                    {"id": str(table.ids[row]), "label": str(labels[row])}
                    for row in part
                ],
            }

        return JSONResponse(await self._in_thread("work", work))

    async def crop(self, request: Request) -> Response:
        row = self._row(request)

        def work() -> dict[str, Any]:
            table = self.pool.table
            same = np.flatnonzero(table.column("image") == table.column("image")[row])[
                :500
            ].tolist()
            facts = {
                name: value
                for name, value in table.rows.slice(row, 1).to_pylist()[0].items()
                if value not in (None, "")
            }
            width, height = self.photos.size(row)
            boxes = [
                {"id": str(table.ids[other]), "box": table.boxes[other].tolist()}
                for other in same
            ]
            return {
                "facts": facts,
                "width": width,
                "height": height,
                "box": table.boxes[row].tolist(),
                "boxes": boxes,
            }

        return JSONResponse(
            json.loads(json.dumps(await self._picture(work), default=str))
        )

    async def _picture(self, work: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._cutters, work)
        except ImageError as error:
            raise HTTPException(
                404, f"the image can't be read: {error.reason}"
            ) from None

    async def thumbnail(self, request: Request) -> Response:
        row, size = self._row(request), request.path_params["size"]
        if size not in SIZES:
            raise HTTPException(
                404, f"size must be one of {', '.join(map(str, SIZES))}"
            )
        content = await self._picture(lambda: self.photos.thumbnail(row, size))
        return Response(content, media_type="image/jpeg", headers=_NEVER_CHANGES)

    async def photo(self, request: Request) -> Response:
        row = self._row(request)
        content = await self._picture(lambda: self.photos.photo(row))
        return Response(content, media_type="image/jpeg", headers=_NEVER_CHANGES)

    async def map(self, request: Request) -> Response:
        """Places [N, 2] as uint16, classes [N] as int16 (-1: unlabelled), sessions [N]
        as uint16; 202 while it is laid out.
        """
        future = self.pool.start_map()
        if not future.done():
            await asyncio.wait([asyncio.wrap_future(future)], timeout=1)
        if not future.done():
            return JSONResponse({"state": "laying out"}, 202)
        places = (future.result() * 65535).round().clip(0, 65535).astype("<u2")
        content = (
            places.tobytes()
            + self.pool.table.class_indices.astype("<i2").tobytes()
            + self.pool.recordings.tobytes()
        )
        return Response(content, media_type="application/octet-stream")

    async def map_scores(self, request: Request) -> Response:
        """Scores of all crops as uint8 (0 to 255 from the lowest to the highest), then
        marks as uint8 (0 none, 1 yes, 2 no).
        """
        session = await self._in_thread(
            "work", lambda: self.sessions.open(request.query_params.get("session", ""))
        )

        def work() -> bytes:
            state = session.journal.state()
            scores = session.ranking(session.journal.name_of_marks()).scores
            span = max(float(np.ptp(scores)), 1e-6)
            levels = ((scores - scores.min()) / span * 255).astype(np.uint8)
            marks = np.zeros(len(scores), np.uint8)
            for row, answer in session.marks(state).items():
                marks[row] = 1 if answer else 2
            return levels.tobytes() + marks.tobytes()

        return Response(
            await self._in_thread("work", work), media_type="application/octet-stream"
        )

    async def select(self, request: Request) -> Response:
        body = await _body(request)
        rows = body.get("rows")
        if not isinstance(rows, list):
            raise HTTPException(400, "rows must be a list of row numbers")

        def work() -> dict[str, Any]:
            return {
                "selection": self.pool.select(rows),
                "crops": [str(self.pool.table.ids[row]) for row in rows[:PAGE]],
            }

        return JSONResponse(await self._in_thread("work", work))

    async def clusters(self, request: Request) -> Response:
        where, count = (
            request.query_params.get("where", ""),
            _number(request, "count", 2, 20),
        )
        found = await self._in_thread("work", lambda: self.pool.clusters(where, count))
        ids = self.pool.table.ids
        return JSONResponse(
            [
                {
                    "crops": len(cluster.rows),
                    "tightness": cluster.tightness,
                    "examples": [str(ids[row]) for row in cluster.rows[:8]],
                    "edge": [str(ids[row]) for row in cluster.rows[::-1][:4]],
                }
                for cluster in found
            ]
        )

    async def upload(self, request: Request) -> Response:
        content = await _read_body(request, UPLOAD_BYTES)
        if not content:
            raise HTTPException(400, "upload must be an image file; it is empty")
        vector, image = await self._in_worker(
            embed_upload, str(self.pool.embeddings.folder), content
        )
        name = await self._in_thread(
            "work", lambda: self.sessions.keep_upload(vector, image)
        )
        return JSONResponse({"upload": name})

    async def upload_image(self, request: Request) -> Response:
        path = self.sessions.upload_path(request.path_params["upload"])
        if path is None:
            raise HTTPException(404, "there is no such upload")
        return FileResponse(path, media_type="image/png", headers=_NEVER_CHANGES)

    # Sessions

    async def list_sessions(self, request: Request) -> Response:
        return JSONResponse(await self._in_thread("work", self.sessions.listed))

    async def create(self, request: Request) -> Response:
        body = await _body(request)
        facts = {
            name: _text(body, name) for name in ("name", "pool", "class_name", "use")
        }
        if facts["use"] not in USES:
            raise HTTPException(
                400, f"use must be one of {', '.join(USES)}; got {facts['use']!r}"
            )
        crops, uploads = (_texts(body, name) for name in ("crops", "uploads"))
        name = await self._in_thread(
            "work", lambda: self.sessions.create(facts, crops, uploads)
        )
        return JSONResponse({"session": name})

    async def rename(self, request: Request) -> Response:
        body = await _body(request)
        facts: dict[str, str] = {
            name: _text(body, name) for name in ("name", "class_name") if name in body
        }
        await self._in_thread(
            "work", lambda: self.sessions.rename(request.path_params["session"], facts)
        )
        return JSONResponse({"renamed": True})

    async def duplicate(self, request: Request) -> Response:
        name = await self._in_thread(
            "work", lambda: self.sessions.duplicate(request.path_params["session"])
        )
        return JSONResponse({"session": name})

    async def state(self, request: Request) -> Response:
        """Everything that changes, in one answer: the page asks for it after each
        action, and every few seconds.
        """
        by, shown = request.query_params.get("by", ""), _number(request, "ranking", -1)

        def work() -> dict[str, Any]:
            session = self._session(request)
            journal, state = session.journal, session.journal.state()
            if session.learning:
                session.learn()
            number = min(shown, len(journal.lines))
            done, undone = journal.steps(by)
            answer: dict[str, Any] = {
                "session": journal.folder.name,
                "facts": journal.facts,
                "lines": len(journal.lines),
                "learning": session.learning,
                "newest": session.newest,
                "trouble": session.trouble,
                "can_undo": len(done),
                "can_redo": len(undone),
                "relevant": sum(state.marks.values()),
                "not_relevant": len(state.marks) - sum(state.marks.values()),
                "audit": {
                    "drawn": len(state.audit["rows"]),
                    "answered": len(state.answers),
                }
                if state.audit
                else None,
            }
            if session.started:
                current = session.newest if number < 0 else number
                answer["panel"] = session.panel(current)
                answer["estimate"] = session.estimate(
                    session.ranking(current), answer["panel"]["threshold"]
                )
                if number >= 0 and session.newest != journal.name_of_marks(number):
                    answer["changes"] = session.changes(number)
            return answer

        return JSONResponse(await self._in_thread("work", work))

    async def crops(self, request: Request) -> Response:
        """A part of a view: crops with score, class, and mark."""
        number, start, count = (
            _number(request, "ranking", 0),
            _number(request, "start", 0),
            _number(request, "count", 1, PAGE),
        )
        sort, where, among = (
            request.query_params.get(name, "") for name in ("sort", "where", "among")
        )

        def work() -> dict[str, Any]:
            session = self._session(request)
            if number > len(session.journal.lines):
                raise ValueError(
                    f"ranking must be at most {len(session.journal.lines)}; got "
                    f"{number}"
                )
            rows = session.view(number, sort or "best", where, among)
            state, ranked, table = (
                session.journal.state(),
                session.ranking(number),
                self.pool.table,
            )
            known = state.answers if sort == "audit" else state.marks
            sampled = set() if sort == "audit" else set(session.sampled())
            part = rows[start : start + count].tolist()
            labels = table.column("label_name")
            crops = [
                {
                    "id": (crop_id := str(table.ids[row])),
                    "score": None
                    if sort == "audit"
                    else float(ranked.scores[row]),  # a sample is judged blindly
                    "label": str(labels[row]),
                    "mark": known.get(crop_id),
                    "sampled": row in sampled,
                }
                for row in part
            ]
            return {
                "total": len(rows),
                "start": start,
                "scale": ranked.scale,
                "crops": crops,
            }

        return JSONResponse(await self._in_thread("work", work))

    async def mark(self, request: Request) -> Response:
        body = await _body(request)
        marks, by, action = body.get("marks"), _text(body, "by"), _text(body, "action")
        if (
            not isinstance(marks, dict)
            or not marks
            or not all(value in (True, False, None) for value in marks.values())
        ):
            raise HTTPException(
                400,
                "marks must be an object of crop id -> true, false or null, with at "
                "least one",
            )
        answers = {
            crop_id: None if value is None else bool(value)
            for crop_id, value in marks.items()
        }
        ranking, sort = body.get("ranking", 0), _text(body, "sort")
        if not isinstance(ranking, int) or sort not in SORTS:
            raise HTTPException(
                400, f"ranking must be a number and sort one of {', '.join(SORTS)}"
            )
        mark = lambda: self._session(request).mark(answers, by, action, ranking, sort)  # noqa: E731
        line, left_out = await self._in_thread("mark", mark)
        return JSONResponse({"line": line, "left_out": left_out})

    async def undo(self, request: Request) -> Response:
        return await self._step(request, "undo")

    async def redo(self, request: Request) -> Response:
        return await self._step(request, "redo")

    async def _step(self, request: Request, kind: str) -> Response:
        body = await _body(request)
        by, action = _text(body, "by"), _text(body, "action")
        line = await self._in_thread(
            "mark", lambda: self._session(request).step(kind, by, action)
        )
        return JSONResponse({"line": line})

    async def shown(self, request: Request) -> Response:
        body = await _body(request)

        def work() -> int:
            session = self._session(request)
            ranking = _ranking_in(body, session)
            if ranking in session.journal.state().shown:
                return 0
            return session.journal.add(
                "shown", _text(body, "by"), _text(body, "action"), ranking=ranking
            )

        return JSONResponse({"line": await self._in_thread("mark", work)})

    async def threshold(self, request: Request) -> Response:
        body = await _body(request)
        value, scale = body.get("value"), _text(body, "scale")
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not -1 <= value <= 1
            or scale not in ("confidence", "cosine")
        ):
            raise HTTPException(
                400,
                "value must be a number from -1 to 1, and scale confidence or cosine",
            )
        by, action = _text(body, "by"), _text(body, "action")

        def add() -> int:
            journal = self._session(request).journal
            facts = {"value": float(value), "scale": scale}
            return journal.add("threshold", by, action, **facts)

        return JSONResponse({"line": await self._in_thread("mark", add)})

    async def estimate(self, request: Request) -> Response:
        number, threshold = (
            _number(request, "ranking", 0),
            request.query_params.get("threshold", ""),
        )
        try:
            value = float(threshold)
        except ValueError:
            raise HTTPException(
                400, f"threshold must be a number; got {threshold!r}"
            ) from None

        def work() -> dict[str, Any]:
            session = self._session(request)
            ranked = session.ranking(min(number, len(session.journal.lines)))
            chosen = session.selected(
                ranked, session.journal.state(), "threshold", value
            )
            return {"would_take": len(chosen), **session.estimate(ranked, value)}

        return JSONResponse(await self._in_thread("work", work))

    async def audit(self, request: Request) -> Response:
        body = await _body(request)
        size, (least, most) = body.get("size"), AUDIT_SIZE
        if not isinstance(size, int) or not least <= size <= most:
            raise HTTPException(
                400, f"size must be from {least} to {most}; got {size!r}"
            )
        by, action = _text(body, "by"), _text(body, "action")
        line = await self._in_thread(
            "work", lambda: self._session(request).draw_audit(size, by, action)
        )
        return JSONResponse({"line": line})

    async def learn(self, request: Request) -> Response:
        body = await _body(request)
        by, action = _text(body, "by"), _text(body, "action")
        return JSONResponse(
            {
                "line": await self._in_thread(
                    "mark", lambda: self._session(request).learn_answers(by, action)
                )
            }
        )

    # Taking it home

    async def export(self, request: Request) -> Response:
        body = await _body(request)
        kind, what, class_name, number = (
            _text(body, "format"),
            _text(body, "what"),
            _text(body, "class_name"),
            body.get("ranking"),
        )
        if kind not in FORMATS or not isinstance(number, int) or number < 0:
            raise HTTPException(
                400, f"format must be one of {', '.join(FORMATS)}, and ranking a number"
            )

        def prepare() -> tuple[Any, ...]:
            session = self._session(request)
            ranking = min(number, len(session.journal.lines))
            selection = session.selection(ranking, what, class_name)
            folder = session.journal.folder / "exports"
            folder.mkdir(exist_ok=True)
            name = f"{safe_name(class_name)}-{kind}-{now()[:19].replace(':', '').replace('-', '')}-{uuid.uuid4().hex[:4]}"
            place = folder / name
            return selection, kind, str(place), session.card(ranking, what)

        arguments = await self._in_thread("work", prepare)
        left_out = await self._in_worker(export_selection, arguments)
        folder = Path(arguments[2])
        address = (
            f"/api/sessions/{request.path_params['session']}/exports/{folder.name}.zip"
        )
        return JSONResponse(
            {
                "folder": str(folder),
                "download": address,
                "crops": len(arguments[0].rows),
                "left_out": left_out,
            }
        )

    async def download(self, request: Request) -> Response:
        name = request.path_params["export"]

        def pack() -> Path:
            folder = self._session(request).journal.folder / "exports"
            chosen = next(
                (
                    path
                    for path in folder.glob("*")
                    if path.name == name and path.is_dir()
                ),
                None,
            )
            if chosen is None:
                raise HTTPException(404, "there is no such export")
            path = chosen.with_name(
                f"{name}.zip"
            )  # stays there: the same export is asked for again after a broken download
            if not path.is_file():
                partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
                with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
                    for file in sorted(chosen.rglob("*")):
                        if file.is_file():
                            archive.write(
                                file, f"{name}/{file.relative_to(chosen).as_posix()}"
                            )
                partial.replace(path)
            return path

        return FileResponse(await self._in_thread("work", pack), filename=f"{name}.zip")

    async def save_probe(self, request: Request) -> Response:
        body = await _body(request)

        def work() -> str:
            session = self._session(request)
            number = _ranking_in(body, session)
            folder = session.journal.folder / "probe"
            keep_aside(folder)
            session.probe(number).save(folder)
            return str(folder)

        return JSONResponse({"folder": await self._in_thread("work", work)})


async def _read_body(request: Request, most: int) -> bytes:
    """The body, refused as soon as it is too long."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"the request must have at most {most:,} bytes")
        parts.append(part)
    return b"".join(parts)


async def _body(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "the request must be application/json")
    try:
        body = json.loads(await _read_body(request, JSON_BYTES))
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise HTTPException(400, "the request must be a JSON object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > 4000:
        raise HTTPException(400, f"{name} must be a text of at most 4,000 characters")
    return value


def _texts(body: dict[str, Any], name: str) -> list[str]:
    values = body.get(name, [])
    if (
        not isinstance(values, list)
        or not all(isinstance(value, str) for value in values)
        or len(values) > 1000
    ):
        raise HTTPException(400, f"{name} must be a list of at most 1,000 texts")
    return values


def _ranking_in(body: dict[str, Any], session: LiveSession) -> int:
    ranking, most = body.get("ranking"), len(session.journal.lines)
    if not isinstance(ranking, int) or not 0 <= ranking <= most:
        raise ValueError(f"ranking must be from 0 to {most}; got {ranking!r}")
    return ranking


def _number(request: Request, name: str, least: int, most: int | None = None) -> int:
    text = request.query_params.get(name, str(least))
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least or (most is not None and value > most) or value > 2**53:
        raise HTTPException(
            400,
            f"{name} must be a whole number from {least}"
            + (f" to {most}" if most else "")
            + f"; got {text!r}",
        )
    return value


async def _explain(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse(
            {"error": error.detail}, error.status_code, headers=error.headers
        )
    if isinstance(error, (ValueError, RuntimeError)):
        status = (
            404
            if isinstance(error, UnknownSession)
            else 409
            if isinstance(error, RuntimeError)
            else 400
        )
        return JSONResponse({"error": str(error)}, status)
    if isinstance(error, OSError):
        return JSONResponse({"error": f"the disk: {error.strerror or error}"}, 507)
    return JSONResponse({"error": "an error of the program; see the terminal"}, 500)


def make_app(
    page: Page,
    token: str,
    names: frozenset[str] = frozenset({"localhost"}),
    local: bool = True,
) -> Guard:
    """The ASGI application.

    Args:
        page: its routes.
        token: what every request must carry.
        names, local: under which hosts it may be asked; see `Guard`.
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
    return Guard(app, token, names, local)
