"""Mutation testing: would the tests notice? Changes the modules whose results people
trust at one place at a time (by cosmic-ray: an operator, a comparison, a constant, a
condition), runs the tests of that module, and prints the changes that no test noticed.

    python -m tests.mutants --sample=200 --minutes=60     # or: make mutants
    python -m tests.mutants --module=probe/marks.py --sample=0

Which modules, by which tests, and which changes are known to change nothing, stands in
tests/mutants.toml. Nothing is changed in place: everything happens in copies below
.mutants/, where results are kept, so that a stopped run goes on, and another seed or a
larger sample adds to them. Results of a module are forgotten once it or its tests
change.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import os
import random
import shutil
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from difflib import unified_diff
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from cosmic_ray.commands import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

from artifacts.progress import progress_bar

ROOT = Path(__file__).parent.parent
PLACE = ROOT / ".mutants"
GOAL = 0.92  # of mutants killed, equivalents aside
_PATIENCE = 8  # times as long as without a change, until the tests hang
_LIBRARIES = [
    *("hypothesis", "matplotlib.pyplot", "PIL.Image", "pandas", "scipy.stats"),
    *("sklearn.cluster", "sklearn.linear_model", "tensorflow", "keras"),
]
_OPTIONS = [
    *("-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
]
_patience: dict[str, float] = {}  # seconds for a module's tests, in each process
_NOT_COPIED = {".git", ".venv", ".mutants", "runs", "demo", "node_modules"}


@dataclass(frozen=True)
class Module:
    """A module, and the tests that must notice a change of it."""

    path: str
    tests: Sequence[str]

    @property
    def stamp(self) -> str:
        """Of what results depend on."""
        content = [(ROOT / name).read_bytes() for name in (self.path, *self.tests)]
        return hashlib.sha256(b"\0".join(content)).hexdigest()[:12]

    @property
    def session(self) -> Path:
        """Where its results are kept."""
        return PLACE / f"{self.path.replace('/', '.')}-{self.stamp}.sqlite"


@dataclass(frozen=True)
class Change:
    """A line before and after, as a diff tells it."""

    before: str
    after: str

    @classmethod
    def of(cls, diff: str) -> Change:
        """The only change of a diff."""
        lines = diff.splitlines()
        parts = [
            " ".join(
                line[1:].strip()
                for line in lines
                if line.startswith(sign) and not line.startswith(3 * sign)
            )
            for sign in "-+"
        ]
        return cls(*parts)


def read_list() -> tuple[list[Module], dict[tuple[str, Change], str]]:
    """The modules; and why changes of them change nothing, by module and change."""
    stated = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())
    modules = [Module(one["path"], one["tests"]) for one in stated["module"]]
    equivalent = {
        (one["path"], Change(one["before"], one["after"])): one["why"]
        for one in stated.get("equivalent", [])
    }
    return modules, equivalent


def _annotations(path: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where types stand, which nothing reads when the program runs, and how dataclasses
    are made (frozen, so that nobody changes them by mistake).
    """
    found = []
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        stated = [getattr(node, name, None) for name in ("annotation", "returns")]
        if isinstance(node, ast.ClassDef):
            stated += [one for one in node.decorator_list if isinstance(one, ast.Call)]
        for one in filter(None, stated):
            end = one.end_lineno or 0, one.end_col_offset or 0
            found.append(((one.lineno, one.col_offset), end))
    return found


def _mutants(module: Module) -> tuple[list[WorkItem], set[str]]:
    """A module's mutants, in an order that is always the same, and which of them were
    tested; lists them, unless that is done.
    """
    if not module.session.is_file():
        PLACE.mkdir(exist_ok=True)
        for old in PLACE.glob(f"{module.path.replace('/', '.')}-*.sqlite"):
            old.unlink()
        with use_db(str(module.session), WorkDB.Mode.create) as db:
            init([Path(module.path)], db, {})
    types = _annotations(module.path)

    def is_code(item: WorkItem) -> bool:
        at = item.mutations[0].start_pos
        return not any(first <= at <= last for first, last in types)

    with use_db(str(module.session)) as db:
        items = sorted(
            filter(is_code, db.work_items),
            key=lambda one: (
                one.mutations[0].operator_name,
                one.mutations[0].occurrence,
            ),
        )
        return items, {job for job, _ in db.results}


def _sampled(
    module: Module, items: Sequence[WorkItem], share: float, seed: int
) -> list[WorkItem]:
    """Some of a module's mutants, always the same for a seed; of more, those too."""
    chance = random.Random(f"{seed} {module.path}")
    return [item for item in items if chance.random() < share]


def _copy_tree(target: Path) -> None:
    """The project as it is, without what is generated."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(
        ROOT,
        target,
        ignore=lambda _, names: _NOT_COPIED & set(names),
        symlinks=True,
    )


def _work_in_a_copy() -> None:
    """Makes a process of its own copy the place it works in, with the libraries
    loaded.
    """
    target = PLACE / f"tree-{os.getpid()}"
    _copy_tree(target)
    os.chdir(target)
    sys.path = [str(target), *(path for path in sys.path if path != str(ROOT))]
    for library in _LIBRARIES:
        importlib.import_module(library)


def _run_tests(tests: Sequence[str]) -> None:
    """In a process that ends with the tests' exit code."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os._exit(pytest.main([*_OPTIONS, *tests]))


def _tests_pass(tests: Sequence[str], timeout: float) -> bool:
    """Whether they pass in time, in a process which begins as a copy of this one, so
    that the libraries (seconds) are loaded once and the project's modules every time.
    """
    process = get_context("fork").Process(target=_run_tests, args=(tests,))
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode == 0


def _seconds(tests: Sequence[str]) -> float:
    """How long a module's tests take unchanged; they must pass."""
    started = time.monotonic()
    # What the project's modules and tests compile to is kept from this run alone: a
    # file's age in seconds and its length don't tell one mutant from the next.
    sys.dont_write_bytecode = False
    if not _tests_pass(tests, timeout=600):
        raise SystemExit(f"mutants: {' '.join(tests)} fail without a change")
    sys.dont_write_bytecode = True
    return time.monotonic() - started


def _test(module: Module, item: WorkItem) -> WorkResult:
    """One mutant, in the copy."""
    if module.path not in _patience:
        _patience[module.path] = 5 + _PATIENCE * _seconds(module.tests)
    mutation = item.mutations[0]
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    with use_mutation(mutation.module_path, operator, mutation.occurrence) as codes:
        passed = _tests_pass(module.tests, _patience[module.path])
    return WorkResult(
        diff="\n".join(unified_diff(*(code.splitlines() for code in codes), n=0)),
        test_outcome=TestOutcome.SURVIVED if passed else TestOutcome.KILLED,
        worker_outcome=WorkerOutcome.NORMAL,
    )


def run(
    modules: Sequence[Module], sample: int, seed: int, minutes: float, jobs: int
) -> None:
    """Tests mutants until all of the sample are, or the time is over."""
    end = time.monotonic() + 60 * minutes
    listed = [(module, *_mutants(module)) for module in modules]
    count = sum(len(items) for _, items, _ in listed)
    share = min(1.0, sample / count) if sample else 1.0
    waiting = [
        (module, item)
        for module, items, known in listed
        for item in _sampled(module, items, share, seed)
        if item.job_id not in known
    ]
    print(
        f"{count:,} mutants in {len(modules)} modules, {share:.1%} of them by seed "
        f"{seed}; {len(waiting)} to test"
    )
    # In any order, so that what the time is enough for is of all modules.
    waiting.sort(key=lambda pair: pair[1].job_id)
    bar = progress_bar(None, total=len(waiting), unit="mutant", desc="mutants")
    with ProcessPoolExecutor(jobs, get_context("spawn"), _work_in_a_copy) as pool:
        tested = {pool.submit(_test, *pair): pair for pair in waiting}
        try:
            for future in as_completed(tested):
                module, item = tested[future]
                with use_db(str(module.session)) as db:
                    db.set_result(item.job_id, future.result())
                bar.update()
                if time.monotonic() > end:
                    break
        finally:
            pool.shutdown(cancel_futures=True)
    bar.close()
    for tree in PLACE.glob("tree-*"):
        shutil.rmtree(tree, ignore_errors=True)


def report(
    modules: Sequence[Module], equivalent: Mapping[tuple[str, Change], str]
) -> float:
    """Prints survivors by module and the share that was killed; returns that."""
    total = killed = aside = 0
    for module in modules:
        survivors = []
        with use_db(str(module.session)) as db:
            for _, result in db.results:
                if not result.diff:
                    continue
                change = Change.of(result.diff)
                if not result.is_killed and (module.path, change) in equivalent:
                    aside += 1
                    continue
                total += 1
                killed += result.is_killed
                if not result.is_killed:
                    survivors.append(change)
        if survivors:
            print(f"\n{module.path}: {len(survivors)} not noticed")
        for change in sorted(survivors, key=lambda one: one.before):
            print(f"  - {change.before}\n  + {change.after}")
    share = killed / total if total else 1.0
    print(
        f"\n{killed} of {total} mutants noticed, {share:.1%}; {aside} more change "
        "nothing (tests/mutants.toml says why)"
    )
    return share


def main() -> None:
    """What the command line does."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Any = partial(parser.add_argument)
    add("--sample", type=int, default=200, help="mutants of all; 0 for every one")
    add("--seed", type=int, default=0, help="of the sample")
    add("--minutes", type=float, default=60, help="after which it stops")
    add("--module", action="append", help="this module alone; may be repeated")
    add("--jobs", type=int, default=2, help="mutants at a time")
    add("--report", action="store_true", help="only print what is known")
    asked = parser.parse_args()
    modules, equivalent = read_list()
    if asked.module:
        modules = [module for module in modules if module.path in asked.module]
        if not modules:
            parser.error("module must be one of tests/mutants.toml")
    if not asked.report:
        run(modules, asked.sample, asked.seed, asked.minutes, asked.jobs)
    known = [module for module in modules if module.session.is_file()]
    sys.exit(report(known, equivalent) < GOAL)


if __name__ == "__main__":
    main()
