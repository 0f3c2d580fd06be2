"""Progress bars with a rate and the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from tqdm import tqdm

Progress = Callable[..., Iterable[Any]]
"""Wraps an iteration, as `progress_bar` and `no_progress` do."""


def no_progress(items: Iterable[Any], **_: Any) -> Iterable[Any]:
    """Iterates without a progress bar."""
    return items


def progress_bar(iterable: Any = None, **options: Any) -> tqdm:
    """tqdm for people: redrawn in place on a terminal; where the output goes to a file,
    a line every half minute.
    """
    quiet = (
        {}
        if sys.stderr.isatty()
        else {"mininterval": 30, "maxinterval": 60, "ascii": True, "ncols": 100}
    )
    return tqdm(iterable, **{"dynamic_ncols": True, **quiet, **options})
