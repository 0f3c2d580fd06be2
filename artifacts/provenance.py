"""What a result came from: commit, versions, command. Goes into every result file."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "pyarrow", "pillow")
_PROJECT = Path(__file__).resolve().parent.parent


def provenance(seed: int) -> dict[str, Any]:
    """Facts that let someone else make the same result: commit (with "-dirty" for local
    changes), seed, versions, command.
    """
    return {
        "commit": _commit(),
        "seed": seed,
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        "machine": f"{platform.system()} {platform.machine()}",
        "command": sys.argv,
        "date": now(),
    }


def now() -> str:
    """Date and time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _commit() -> str:
    try:
        described = subprocess.run(
            [
                "git",
                "-C",
                str(_PROJECT),
                "describe",
                "--always",
                "--dirty",
                "--abbrev=40",
                "--exclude=*",
            ],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
