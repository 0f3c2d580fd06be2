"""Blocking work of requests, in threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread
from starlette.responses import Response

from web import answers

AT_ONCE = 8  # of a kind

Result = TypeVar("Result")


class Threads:
    """Runs blocking work in threads; at most so many of a kind at once that nothing
    holds up a mark.
    """

    def __init__(self) -> None:
        self._limits = {
            kind: anyio.CapacityLimiter(AT_ONCE) for kind in ("mark", "work")
        }

    async def run(self, work: Callable[[], Result], kind: str = "work") -> Result:
        """What some work comes to."""
        return await anyio.to_thread.run_sync(work, limiter=self._limits[kind])

    async def answer(self, work: Callable[[], object]) -> Response:
        """The JSON of some work."""
        return answers.Answer(await self.run(work))
