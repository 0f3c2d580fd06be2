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
import gc
import importlib
import json
import os
import random
import shutil
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from difflib import unified_diff
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from cosmic_ray.commands import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult
from coverage import Coverage

from artifacts.progress import progress_bar
from tests import mutants_page
from tests.mutants_kept import PLACE, ROOT, kept_as

GOAL = 0.92  # of mutants killed, equivalents aside
ANY = "*"  # stands for every change of a line
_PATIENCE = 8  # times as long as without a change, until the tests hang
_LIBRARIES = [
    *("hypothesis", "matplotlib.pyplot", "PIL.Image", "pandas", "scipy.stats"),
    *("sklearn.cluster", "sklearn.linear_model", "tensorflow", "keras"),
    *("anyio.pytest_plugin", "duckdb", "pyarrow.parquet", "playwright"),
]
_OPTIONS = [
    *("-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
]
_NOT_COPIED = {".git", ".venv", ".mutants", "runs", "demo", "node_modules"}


@dataclass(frozen=True)
class Module:
    """A module, and the files of tests that must notice a change of it."""

    path: str
    tests: Sequence[str]

    @cached_property
    def session(self) -> Path:
        """Where its results are kept."""
        return kept_as(self.path, [self.path, *self.tests], ".sqlite")

    @cached_property
    def statements(self) -> list[tuple[int, int]]:
        """First and last lines of all statements; of those that hold others, of their
        heads.
        """
        found = []
        for node in ast.walk(ast.parse((ROOT / self.path).read_text())):
            if isinstance(node, ast.stmt):
                heads = [*getattr(node, "decorator_list", []), node]
                first = min(one.lineno for one in heads)
                inner = getattr(node, "body", [])
                last = inner[0].lineno - 1 if inner else node.end_lineno or node.lineno
                found.append((first, max(first, last)))
        return found

    def lines(self, item: WorkItem) -> range:
        """Lines of the statement that a mutant is in."""
        at = item.mutations[0].start_pos[0]
        around = [span for span in self.statements if span[0] <= at <= span[1]]
        first, last = min(around, key=lambda span: span[1] - span[0], default=(at, at))
        return range(first, last + 1)


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
                " ".join(line[1:].split())
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
        (one["path"], Change(one["before"], one.get("after", ANY))): one["why"]
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
    gc.freeze()  # what is loaded isn't looked through again by each process


class Recorder:
    """A pytest plugin that notes which lines of which modules each test runs."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self.coverage = Coverage(data_file=None, include=list(paths))
        self.seconds: dict[str, float] = {}
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: Any, request: pytest.FixtureRequest
    ) -> Iterator[None]:
        """What a fixture of several tests runs is run for each."""
        is_shared = fixturedef.scope != "function"
        if is_shared:
            self.coverage.switch_context("")
        try:
            return (yield)
        finally:
            if is_shared:
                self.coverage.switch_context(request.node.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        so_far = self.seconds.get(report.nodeid, 0)
        self.seconds[report.nodeid] = so_far + report.duration

    def found(self) -> dict[str, Any]:
        """seconds of each test; and for each module the tests that run a line, "" if
        all may.
        """
        self.coverage.stop()
        data = self.coverage.get_data()
        files = {os.path.relpath(name): name for name in data.measured_files()}
        lines = {
            path: data.contexts_by_lineno(files[path])
            for path in self.paths
            if path in files
        }
        return {"seconds": self.seconds, "lines": lines}


class Chooser:
    """A pytest plugin that leaves only some tests, the shortest first."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.seconds),
            key=lambda item: self.seconds[item.nodeid],
        )


def _pytest(files: Sequence[str], plugin: object) -> int:
    """Runs tests without a word."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    return pytest.main([*_OPTIONS, *files], plugins=[plugin])


def _record_here(file: str, paths: Sequence[str], target: Path) -> None:
    # What the project's modules and tests compile to is kept from here alone: a file's
    # age in seconds and its length don't tell one mutant from the next.
    sys.dont_write_bytecode = False
    recorder = Recorder(paths)
    if not _pytest([file], recorder):
        target.write_text(json.dumps(recorder.found()))


def _run_here(seconds: Mapping[str, float]) -> None:
    files = sorted({name.split("::")[0] for name in seconds})
    os._exit(_pytest(files, Chooser(seconds)))


def _apart(work: Any, *arguments: Any, timeout: float | None = None) -> bool:
    """Whether work comes to a good end in time, in a process which begins as a copy of
    this one: the libraries (seconds) are loaded once and the project's modules every
    time.
    """
    process = get_context("fork").Process(target=work, args=arguments)
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode == 0


def _record(file: str, paths: Sequence[str], target: Path) -> None:
    """Notes what the tests of a file run, in the copy; they must pass."""
    if not target.is_file():
        _apart(_record_here, file, paths, target)
    if not target.is_file():
        raise SystemExit(f"mutants: {file} fails without a change")


def _tests_of(
    module: Module, item: WorkItem, records: Mapping[str, Any]
) -> dict[str, float]:
    """Seconds of the tests that run what a mutant changes; of all, where none is known
    to, and where TensorFlow runs a copy of the code, which coverage doesn't see.
    """
    lines = {str(line) for line in module.lines(item)}
    everything: dict[str, float] = {}
    found: dict[str, float] = {}
    for file in module.tests:
        record = records[file]
        everything |= record["seconds"]
        tests = {
            test
            for line, those in record["lines"].get(module.path, {}).items()
            if line in lines
            for test in those
        }
        found |= {
            test: seconds
            for test, seconds in record["seconds"].items()
            if test in tests or "" in tests
        }
    return found if found and "simclr" not in module.path else everything


def _test(item: WorkItem, seconds: Mapping[str, float]) -> WorkResult:
    """One mutant, in the copy, by those tests."""
    mutation = item.mutations[0]
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    timeout = 10 + _PATIENCE * sum(seconds.values())
    with use_mutation(mutation.module_path, operator, mutation.occurrence) as codes:
        passed = _apart(_run_here, seconds, timeout=timeout)
    before, after = (code.splitlines() for code in codes)
    return WorkResult(
        diff="\n".join(unified_diff(before, after, n=0)),
        test_outcome=TestOutcome.SURVIVED if passed else TestOutcome.KILLED,
        worker_outcome=WorkerOutcome.NORMAL,
    )


def run(
    modules: Sequence[Module], sample: int, seed: int, end: float, jobs: int
) -> None:
    """Tests mutants until all of the sample are, or the time is over
    (`time.monotonic`).
    """
    PLACE.mkdir(exist_ok=True)
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
    paths = sorted(module.path for module in modules)
    files = sorted({file for module, _ in waiting for file in module.tests})
    places = {file: kept_as(file, [file, *paths], ".json") for file in files}
    with ProcessPoolExecutor(jobs, get_context("spawn"), _work_in_a_copy) as pool:
        try:
            started = [
                pool.submit(_record, file, paths, place)
                for file, place in places.items()
            ]
            bar = progress_bar(as_completed(started), total=len(files), unit="file")
            for done in bar:
                done.result()
            records = {
                file: json.loads(place.read_text()) for file, place in places.items()
            }
            tested = {
                pool.submit(_test, item, _tests_of(module, item, records)): (
                    module,
                    item,
                )
                for module, item in waiting
            }
            for future in progress_bar(
                as_completed(tested), total=len(waiting), unit="mutant"
            ):
                module, item = tested[future]
                with use_db(str(module.session)) as db:
                    db.set_result(item.job_id, future.result())
                if time.monotonic() > end:
                    break
        finally:
            pool.shutdown(cancel_futures=True)
    for tree in PLACE.glob("tree-*"):
        shutil.rmtree(tree, ignore_errors=True)


def _known(modules: Sequence[Module]) -> Iterator[tuple[str, Change, bool]]:
    """Module, change, and whether it was noticed, of all that was tested."""
    for module in modules:
        if module.session.is_file():
            with use_db(str(module.session)) as db:
                for _, result in db.results:
                    if result.diff:
                        yield module.path, Change.of(result.diff), result.is_killed


def report(
    tested: Iterable[tuple[str, Change, bool]],
    equivalent: Mapping[tuple[str, Change], str],
) -> float:
    """Prints by module what nothing noticed, and shares; returns that of all."""
    counts: dict[str, list[int]] = {}  # noticed, of how many
    survivors: dict[str, list[Change]] = {}
    aside = 0
    for path, change, is_killed in tested:
        either = {(path, change), (path, replace(change, after=ANY))}
        if not is_killed and not either.isdisjoint(equivalent):
            aside += 1
            continue
        count = counts.setdefault(path, [0, 0])
        count[0] += is_killed
        count[1] += 1
        if not is_killed:
            survivors.setdefault(path, []).append(change)
    for path, changes in survivors.items():
        print(f"\n{path}: {len(changes)} not noticed")
        for change in sorted(changes, key=lambda one: one.before):
            print(f"  - {change.before}\n  + {change.after}")
    if not counts:
        print("nothing was tested")
        return 1.0
    print()
    for path, (noticed, count) in counts.items():
        print(f"{noticed:5} of {count:4} {path}")
    killed, total = map(sum, zip(*counts.values(), strict=True))
    share = killed / total
    print(
        f"{killed:5} of {total:4} noticed, {share:.1%}; {aside} more change nothing "
        "(tests/mutants.toml says why)"
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
    pages = mutants_page.MODULES
    if asked.module:
        modules = [module for module in modules if module.path in asked.module]
        pages = [path for path in pages if path in asked.module]
        if not modules and not pages:
            parser.error("module must be one of tests/mutants.toml, or of the page's")
    if not asked.report:
        end = time.monotonic() + 60 * asked.minutes
        if modules:
            run(modules, asked.sample, asked.seed, end, asked.jobs)
        mutants_page.run(pages, asked.jobs, end)
    shares = []
    if modules:
        shares.append(report(_known(modules), equivalent))
    if pages:
        print("\nThe page:")
        tested = (
            (path, Change(before, after), is_killed)
            for path, before, after, is_killed in mutants_page.known(pages)
        )
        shares.append(report(tested, equivalent))
    sys.exit(min(shares) < GOAL)


if __name__ == "__main__":
    main()
