"""The one command `curate`, where the project is installed."""

import tomllib
from pathlib import Path

import pytest

import command_line

ROOT = Path(__file__).parent.parent


def test_it_lists_its_commands_and_explains_each(capsys):
    command_line.main([])
    told = capsys.readouterr().out
    for name in command_line.COMMANDS:
        assert f"\n  {name} " in told
        assert (ROOT / f"run_{name}.py").is_file()
        command_line.main([name, "--help"])
        assert "Flags:" in capsys.readouterr().out


def test_an_unknown_command_is_named():
    with pytest.raises(
        SystemExit, match=r"command must be one of embed, .* got 'find'"
    ):
        command_line.main(["find"])


def test_errors_are_those_of_the_script():
    with pytest.raises(SystemExit, match=r"run_search.py: embeddings must be given"):
        command_line.main(["search", "--query=x"])


def test_what_is_installed_is_what_there_is():
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    scripts = {path.stem for path in ROOT.glob("run_*.py")}
    assert set(stated["py-modules"]) == {*scripts, "command_line"}
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    found = {name.rstrip("*") for name in stated["packages"]["find"]["include"]}
    assert found == folders - {"benchmarks", "tests"}
