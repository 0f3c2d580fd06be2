"""A bounded cache that computes a missing value once, however many threads ask."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LruCache(Generic[Value]):
    """Keeps the values that were used last.

    Args:
        most: how many to keep.
    """

    def __init__(self, most: int):
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, Future[Value]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value of a key, computed where it isn't there; an error isn't kept."""
        with self._lock:
            future = self._values.get(key)
            mine = future is None
            if future is None:
                future = self._values[key] = Future()
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        if mine:
            try:
                future.set_result(compute())
            except BaseException as error:  # noqa: BLE001  who waits for it gets it
                with self._lock:
                    self._values.pop(key, None)
                future.set_exception(error)
        return future.result()

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._values.clear()
