"""The map of the pile: made once in the background, kept with the embeddings."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from curation.pool import Pool
from probe.projection import project
from web.priority import lower_priority


@dataclass(frozen=True)
class Progress:
    """How far the layout is.

    Attributes:
        share: of the work that is done, in [0, 1].
        seconds_left: estimated; None where that isn't known yet.
    """

    share: float
    seconds_left: float | None


class Layout:
    """Every crop at a place in the plane; safe to use from several threads.

    Args:
        pool: the crops.
        seed: of the layout.
    """

    def __init__(self, pool: Pool, seed: int = 0):
        self._pool, self._seed = pool, seed
        self._background = ThreadPoolExecutor(1, "map", partial(lower_priority, 10))
        self._future: Future[np.ndarray] | None = None
        self._lock = threading.Lock()
        self._share, self._started = 0.0, time.monotonic()

    def start(self) -> Future[np.ndarray]:
        """The places, [N, 2] float32 in [0, 1]; found in the embedding set's folder, or
        made in the background and kept there.
        """
        with self._lock:
            failed = self._future and self._future.done() and self._future.exception()
            if self._future is None or failed:
                self._share, self._started = 0.0, time.monotonic()
                self._future = self._background.submit(self._make)
            return self._future

    @property
    def progress(self) -> Progress:
        """How far it is."""
        share, passed = self._share, time.monotonic() - self._started
        left = passed / share * (1 - share) if share > 0 else None
        return Progress(share, left)

    def _make(self) -> np.ndarray:
        def told(share: float) -> None:
            self._share = share

        embeddings, index = self._pool.embeddings, self._pool.index
        name = f"layout_{index.transform.name}_{self._seed}"
        return embeddings.derived(name, lambda: project(index, self._seed, told))
