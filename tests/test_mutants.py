"""The tool that changes the code, by hand."""

from pathlib import Path

import pytest
from cosmic_ray.work_item import MutationSpec, WorkItem

from tests.mutants import (
    ANY,
    ROOT,
    Change,
    Module,
    _annotations,
    _sampled,
    _tests_of,
    read_list,
    report,
)
from tests.mutants_page import MODULES, _lines

CODE = """import os

@dataclass(frozen=True)
class Point:
    x: int = 1

    @property
    def twice(self) -> int:
        if (
            self.x > 1
        ):
            return (
                2 * self.x
            )
        return 0
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "point.py").write_text(CODE)
    monkeypatch.setattr("tests.mutants.ROOT", tmp_path)
    return Module("point.py", ["tests/one.py", "tests/two.py"])


def item(line, column=0, number=0):
    at, end = (line, column), (line, column + 1)
    spec = MutationSpec(Path("point.py"), "core/AddNot", number, at, end, "", {})
    return WorkItem.single(f"job {number}", spec)


def test_a_change_is_its_lines_before_and_after():
    diff = "--- \n+++ \n@@ -1 +1 @@\n-    a  = 1\n-    + 2\n+    a = 2\n+    + 2"
    assert Change.of(diff) == Change("a = 1 + 2", "a = 2 + 2")


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        (1, [1]),
        (3, [3, 4]),
        (5, [5]),
        (8, [7, 8]),
        (10, [9, 10, 11]),
        (13, [12, 13, 14]),
    ],
)
def test_the_statement_that_a_change_is_in(module, line, lines):
    assert list(module.lines(item(line))) == lines


def test_types_and_how_dataclasses_are_made_are_no_code(module):
    places = _annotations("point.py")

    def is_code(line, column):
        return not any(first <= (line, column) <= last for first, last in places)

    assert not is_code(3, 18)  # frozen=True
    assert not is_code(5, 7)  # int
    assert is_code(5, 13)  # 1
    assert not is_code(8, 23)
    assert is_code(10, 19)


def test_a_change_is_shown_to_the_tests_that_run_it(module):
    records = {
        "tests/one.py": {
            "seconds": {"a": 1.0, "b": 2.0},
            "lines": {"point.py": {"13": ["a"], "15": ["b"], "1": [""]}},
        },
        "tests/two.py": {"seconds": {"c": 3.0}, "lines": {"point.py": {"12": ["c"]}}},
    }
    assert _tests_of(module, item(12), records) == {"a": 1.0, "c": 3.0}
    assert _tests_of(module, item(15), records) == {"b": 2.0}
    assert _tests_of(module, item(1), records) == {"a": 1.0, "b": 2.0}  # of all
    assert _tests_of(module, item(10), records) == {"a": 1.0, "b": 2.0, "c": 3.0}


def test_a_larger_sample_holds_the_smaller_one(module):
    items = [item(1, number=number) for number in range(300)]
    few, many = (_sampled(module, items, share, 0) for share in (0.2, 0.4))
    assert 30 < len(few) < 90 < len(many)
    assert {one.job_id for one in few} <= {one.job_id for one in many}
    assert few != _sampled(module, items, 0.2, 1)
    assert _sampled(module, items, 1.0, 0) == items


def test_what_changes_nothing_is_counted_aside(capsys):
    one, two, three = Change("a", "b"), Change("c", "d"), Change("e", "f")
    tested = [("x.py", one, False), ("x.py", two, False), ("y.py", three, False)]
    tested += [("x.py", one, True), ("x.py", Change("e", "f"), True)]
    equivalent = {("x.py", two): "so", ("y.py", Change("e", ANY)): "speed alone"}
    assert report(tested, equivalent) == 2 / 3
    printed = capsys.readouterr().out
    assert "x.py: 1 not noticed\n  - a\n  + b\n" in printed
    assert "2 of    3 noticed, 66.7%; 2 more change nothing" in printed
    assert report([], {}) == 1


def test_a_change_of_the_page_is_put_into_its_lines():
    source = "one(\n  a < b,\n  c)\n"
    mutant = {
        "location": {
            "start": {"line": 2, "column": 5},
            "end": {"line": 3, "column": 4},
        },
        "replacement": "<= b, d",
    }
    assert _lines(source, mutant) == ("a < b, c)", "a <= b, d)")


def test_every_module_and_test_of_the_list_is_there():
    modules, equivalent = read_list()
    for one in modules:
        assert (ROOT / one.path).is_file()
        assert all((ROOT / test).is_file() for test in one.tests)
    assert all((ROOT / path).is_file() for path in MODULES)
    known = {one.path for one in modules} | set(MODULES)
    assert {path for path, _ in equivalent} <= known
    # What an equivalent says is the line that stands there.
    for path, change in equivalent:
        code = " ".join((ROOT / path).read_text().split())
        assert change.before in code, change.before
