"""A process for what loads TensorFlow, so that the server never does."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

Result = TypeVar("Result")


class WorkerDied(RuntimeError):
    """The worker process died under a job; it is started again for the next."""


class Worker:
    """One spawned process, started when it is first needed, and again if it died."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Runs a function of a module in it.

        Raises:
            WorkerDied: perhaps for lack of memory.
        """
        with self._lock:
            if self._pool is None:
                spawn = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, spawn)
            pool = self._pool
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(pool, work, *arguments)
        except BrokenProcessPool:
            with self._lock:
                if self._pool is pool:
                    self._pool = None
            raise WorkerDied(
                "the worker process died, perhaps for lack of memory; nothing was "
                "lost, try again"
            ) from None

    def close(self) -> None:
        """Ends it."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
