"""What the page asks of the pile as a whole: pictures to begin with, facets, the map,
selections, clusters.
"""

from __future__ import annotations

import asyncio

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from web import answers
from web.overview import Overview
from web.requests import read_body, whole_number
from web.sessions import Sessions
from web.threads import Threads

PAGE = 400  # crops in one answer, at most
_WAIT = 1  # s, until it is told how far the map is


class Pile:
    """The routes, over a pool and its sessions."""

    def __init__(self, overview: Overview, sessions: Sessions, threads: Threads):
        self.overview, self.sessions, self.threads = overview, sessions, threads

    def routes(self) -> list[Route]:
        """Every address, and what answers it."""
        return [
            Route("/api/browse", self.browse),
            Route("/api/facets", self.facets),
            Route("/api/map", self.map),
            Route("/api/map/state", self.map_state),
            Route("/api/rows/{row:int}", self.row),
            Route("/api/selections", self.select, methods=["POST"]),
            Route("/api/clusters", self.clusters),
        ]

    async def browse(self, request: Request) -> Response:
        """A part of the pool in random order, to start from."""
        start = whole_number(request, "start", 0)
        count = whole_number(request, "count", 1, PAGE)
        where = request.query_params.get("where", "")
        among = request.query_params.get("among", "")
        return await self.threads.answer(
            lambda: answers.browsed(self.overview, where, start, count, among)
        )

    async def facets(self, request: Request) -> Response:
        """Columns with the counts of their values, of the pool or of a session's part
        of it; each `where` is of the column that the `of` in its place names.
        """
        query = request.query_params
        names, conditions = query.getlist("of"), query.getlist("where")
        if len(names) != len(conditions):
            raise HTTPException(400, "of must name the column of each where")
        asked: dict[str, str] = {}
        for name, condition in zip(names, conditions, strict=True):
            both = f"({asked.get(name)}) AND ({condition})"
            asked[name] = both if name in asked else condition
        session, among = query.get("session", ""), query.get("among", "")

        def work() -> object:
            mask = self.overview.mask("", among) if among else None
            if session:
                searched = self.sessions.open(session).session.searched
                mask = searched if mask is None else mask & searched
            return self.overview.facets.counted(
                asked,
                mask,
                column=query.get("column", ""),
                search=query.get("search", "").strip(),
            )

        return await self.threads.answer(work)

    async def map(self, request: Request) -> Response:
        """See `answers.map_bytes`; 202 and how far it is while it is laid out."""
        layout = self.overview.layout
        future = layout.start()
        if not future.done():
            await asyncio.wait([asyncio.wrap_future(future)], timeout=_WAIT)
        if not future.done():
            return answers.Answer(layout.progress, 202)
        content = answers.map_bytes(self.overview, future.result())
        return Response(content, media_type="application/octet-stream")

    async def map_state(self, request: Request) -> Response:
        """See `answers.map_state`, of a session's ranking, or of the pool."""
        query = request.query_params
        where, among = query.get("where", ""), query.get("among", "")
        only, person = query.get("only", ""), query.get("marked_by", "")
        ranking = whole_number(request, "ranking", 0)

        def work() -> bytes:
            if not query.get("session"):
                return answers.map_state(None, 0, self.overview.mask(where, among))
            session = self.sessions.open(query["session"], query.get("of", ""))
            shown = session.session.searched
            listed = session.mask(where, among, only, person)
            if listed is not None:
                shown = shown & listed
            return answers.map_state(session, ranking, shown)

        content = await self.threads.run(work)
        return Response(content, media_type="application/octet-stream")

    async def row(self, request: Request) -> Response:
        """Which crop a point of the map is."""
        row, table = request.path_params["row"], self.overview.table
        if row >= len(table):
            raise HTTPException(404, "there is no such crop")
        label = str(table.column("label_name")[row])
        return JSONResponse({"id": str(table.ids[row]), "label": label})

    async def select(self, request: Request) -> Response:
        """Keeps the crops in an area of the map under a name: a bit a crop, the first
        in the lowest bit of the first byte.
        """
        count = len(self.overview.table)
        body = await read_body(request, -(-count // 8))
        bits = np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")
        if len(bits) < count:
            raise HTTPException(400, f"selection must hold a bit for {count:,} crops")
        chosen = bits[:count].astype(bool)

        def work() -> dict[str, object]:
            name, rows = self.overview.select(chosen), np.flatnonzero(chosen)
            crops = [str(self.overview.table.ids[row]) for row in rows[:PAGE]]
            return {"selection": name, "crops": crops, "total": len(rows)}

        return await self.threads.answer(work)

    async def clusters(self, request: Request) -> Response:
        """Proposed finer classes of a part of the pool."""
        where = request.query_params.get("where", "")
        count = whole_number(request, "count", 2, 20)
        return await self.threads.answer(
            lambda: answers.clusters_of(self.overview, where, count)
        )
