"""The import rules: what lies left of an arrow never imports what lies right of it, and
TensorFlow stays in its place. Held at every depth.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import curation

ROOT = Path(__file__).parent.parent
# artifacts <- data, probe, simclr_tf2 (which never import each other) <- curation <-
# web
ALLOWED = {
    "artifacts": set(),
    "data": {"artifacts"},
    "probe": {"artifacts"},
    "simclr_tf2": {"artifacts"},
    "curation": {"artifacts", "data", "probe", "simclr_tf2"},
    "web": {"artifacts", "data", "probe", "curation"},
}
PACKAGES = {*ALLOWED, "benchmarks", "command_line"}
SCRIPTS = sorted(ROOT.glob("run_*.py"))
HEAVY = ("tensorflow", "keras", "tensorflow_datasets")


def files_of(package):
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, package
    return found


def imports_of(path: Path) -> set[str]:
    """Full names of everything a module imports, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return names


def packages_used(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize("package", ALLOWED)
def test_nothing_imports_what_lies_right_of_it(package):
    for path in files_of(package):
        used = packages_used(path) & PACKAGES
        assert used <= ALLOWED[package] | {package}, path


def test_only_the_pipeline_of_data_imports_tensorflow():
    users = {
        path.name
        for path in files_of("data")
        if packages_used(path) & {"tensorflow", "keras"}
    }
    assert users == {"pipeline.py"}


@pytest.mark.parametrize("package", ALLOWED)
def test_library_code_reads_no_flags(package):
    for path in files_of(package):
        assert "absl" not in packages_used(path), path


def test_scripts_are_thin():
    assert [path.stem for path in SCRIPTS] == [
        "run_embed",
        "run_evaluate",
        "run_export",
        "run_finetune",
        "run_page",
        "run_search",
    ]
    for path in SCRIPTS:
        lines = path.read_text().splitlines()
        assert len(lines) < 150, path
        assert max(map(len, lines)) <= 88, path
        names = [
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        ]
        assert {name for name in names if not name.startswith("_")} == {"main"}, path


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_help_fits_on_a_screen(path):
    """And loads no TensorFlow, so that it is there at once."""
    check = (
        f"import sys, {path.stem}; {path.stem}.main(['{path.name}', '--help']); "
        f"assert not {{name.split('.')[0] for name in sys.modules}} & set({HEAVY!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", check],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 88
    assert "Flags:" in lines


def test_two_scripts_share_a_process():
    names = ", ".join(path.stem for path in SCRIPTS)
    subprocess.run([sys.executable, "-c", f"import {names}"], cwd=ROOT, check=True)


# What needs TensorFlow is imported on first use. These are the exceptions: the jobs.
JOBS = {
    "curation.embedding",
    "curation.embedding_by_ray",
    "curation.finetuning",
    "curation.learning_curve",
    "curation.partners",
}


def test_probe_curation_and_web_load_without_tensorflow():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("artifacts", "probe", "curation", "web")
        for path in files_of(package)
    ]
    light = sorted(name.removesuffix(".__init__") for name in {*modules} - JOBS)
    check = (
        "import sys, importlib; [importlib.import_module(name) for name in "
        f"{light!r}]; "
        f"loaded = {{name.split('.')[0] for name in sys.modules}}; "
        f"assert not loaded & set({HEAVY!r}), loaded & set({HEAVY!r})"
    )
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_a_public_name_is_never_that_of_a_submodule():
    """`from curation import export` would give the module, once that is loaded."""
    modules = {path.stem for path in (ROOT / "curation").glob("*.py")}
    assert not modules & set(curation.__all__)
