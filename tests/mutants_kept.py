"""Where tests.mutants keeps what it knows, and for how long."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACE = ROOT / ".mutants"


def kept_as(name: str, files: Sequence[str], ending: str) -> Path:
    """Where something is kept that holds as long as these files stay as they are; what
    was kept of it before is deleted.
    """
    content = b"\0".join((ROOT / file).read_bytes() for file in files)
    stamp = hashlib.sha256(content).hexdigest()[:12]
    stem = name.replace("/", ".")
    found = PLACE / f"{stem}-{stamp}{ending}"
    for other in PLACE.glob(f"{stem}-*{ending}"):
        if other != found:
            other.unlink()
    return found
