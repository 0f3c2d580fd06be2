import errno
import json
import shutil
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from artifacts.files import check_writable, exclusive, write_atomically, write_json


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "a.bin"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_can_be_let_go_of_by_another_thread(tmp_path):
    held = exclusive(tmp_path, "session")
    with ThreadPoolExecutor(1) as other:
        other.submit(held.__enter__).result()
        with pytest.raises(RuntimeError, match="in use by another process"):
            exclusive(tmp_path, "session").__enter__()
    held.__exit__(None, None, None)
    with exclusive(tmp_path, "session"):
        pass


def test_a_full_disk_is_noticed_before_work_starts(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5_000_000, 5_000_000)
    )
    check_writable(tmp_path, "run_dir", 4_000_000)
    with pytest.raises(OSError, match="run_dir needs 6 MB on its disk; 5 MB are free"):
        check_writable(tmp_path, "run_dir", 6_000_000)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError, match="run_dir must be a folder that can be written to"
    ):
        check_writable(tmp_path / "file" / "run", "run_dir")
    with pytest.raises(
        OSError, match="run_dir must be a folder that can be written to"
    ):
        check_writable(
            "/proc/run", "run_dir"
        )  # refuses even root, as a read-only disk does


def test_a_second_process_is_refused_and_a_killed_one_frees_the_folder(tmp_path):
    hold = (
        f"from artifacts.files import exclusive\nwith exclusive({str(tmp_path)!r}, "
        "'run_dir'):\n print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(RuntimeError, match="run_dir is in use by another process"),
            exclusive(tmp_path, "run_dir"),
        ):
            pass
        other.kill()
    with exclusive(tmp_path, "run_dir"):
        pass


def test_json_has_no_nan(tmp_path):
    value = {"a": [1.5, float("nan"), {"b": -float("inf")}], "c": (float("inf"), None)}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "a": [1.5, None, {"b": None}],
        "c": [None, None],
    }
