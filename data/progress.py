"""Progress bars with a rate and the time left."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(iterable: Any = None, **options: Any) -> tqdm:
    """tqdm for people: redrawn in place on a terminal; where the output goes to a file, a line every half minute."""
    quiet = {} if sys.stderr.isatty() else {"mininterval": 30, "maxinterval": 60, "ascii": True, "ncols": 100}
    return tqdm(iterable, **{"dynamic_ncols": True, **quiet, **options})
