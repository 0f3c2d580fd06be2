"""What processes hold in memory."""

from __future__ import annotations

import re
from pathlib import Path


def memory(process: int | str = "self") -> dict[str, float]:
    """What a process holds, in MB: its own, and in all with the memory-mapped
    embeddings.

    Raises:
        OSError, ValueError: there is no such process any more.
    """
    status = Path(f"/proc/{process}/status").read_text()
    own, mapped = (
        int(found[1]) / 1024
        for found in (
            re.search(rf"{name}:\s+(\d+)", status) for name in ("RssAnon", "VmRSS")
        )
        if found
    )
    return {"own": own, "with mapped files": mapped}
