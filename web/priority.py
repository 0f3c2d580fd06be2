"""What must wait: threads that let others go first."""

from __future__ import annotations

import contextlib
import os
import sys
import threading


def lower_priority(niceness: int) -> None:
    """Lets other threads go first, where the system has priorities for threads: a mark
    must not wait for a picture or a ranking.
    """
    if sys.platform == "linux":  # elsewhere it would slow the whole process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
