"""The import rules: what lies left of an arrow never imports what lies right of it, and
TensorFlow stays in its place.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("data", "simclr_tf2", "probe", "web", "benchmarks")


def imports_of(path: Path) -> set[str]:
    """Full names of everything a module imports, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {
                f"{node.module}.{alias.name}" for alias in node.names
            }
    return names


def packages_used(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize("package", ["data", "simclr_tf2", "probe"])
def test_packages_do_not_import_each_other(package):
    for path in (ROOT / package).glob("*.py"):
        others = set(PACKAGES) - {package}
        assert not packages_used(path) & others, path


def test_only_the_pipeline_of_data_imports_tensorflow():
    users = {
        path.name
        for path in (ROOT / "data").glob("*.py")
        if packages_used(path) & {"tensorflow", "keras"}
    }
    assert users == {"pipeline.py"}


def test_the_page_is_over_probe_and_data_and_embeds_in_one_place():
    for path in (ROOT / "web").glob("*.py"):
        assert "benchmarks" not in packages_used(path), path
        assert "simclr_tf2" not in packages_used(path) or path.name == "outside.py", (
            path
        )


def test_library_code_reads_no_flags():
    for package in ("data", "simclr_tf2", "probe", "web"):
        for path in (ROOT / package).glob("*.py"):
            assert not {"absl.flags", "absl.app"} & imports_of(path), path


@pytest.mark.parametrize(
    "statement",
    [
        "import probe.feedback, probe.metrics, probe.marks, data.embeddings",
        "import run_search",
        "import web.serve, data.export",
    ],
)
def test_searching_does_not_load_tensorflow(statement):
    check = (
        f"import sys; {statement}; assert 'tensorflow' not in sys.modules and 'keras' "
        "not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
