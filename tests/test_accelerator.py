"""The benchmark for accelerators, rehearsed on the CPU."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import accelerator
from benchmarks.accelerator import PARTS, Asked, run, table, write_row


@pytest.fixture
def asked(tmp_path):
    return Asked(str(tmp_path), rehearse=True)


@pytest.mark.slow
def test_a_rehearsal_measures_everything(asked):
    """On a tiny network: every part runs, and what must be equal is."""
    run(asked, 8)
    rows = [
        json.loads(line)
        for line in Path(asked.dir, "rows.jsonl").read_text().splitlines()
    ]
    assert {row["part"] for row in rows} == set(PARTS)
    checked = [row for row in rows if row["part"] == "equality"]
    assert len(checked) == 6
    assert all(row["note"].startswith("as expected") for row in checked)
    assert all(
        row["value"] < 1e-4
        for row in rows
        if row["unit"] in {"rel.", "relative"} and "bfloat16" not in row["what"]
    )
    speeds = [row["value"] for row in rows if row["unit"] in {"views/s", "crops/s"}]
    assert len(speeds) == 12 + 6 + 3
    assert min(speeds) > 0
    written = Path(asked.dir, "results.md").read_text()
    assert "a rehearsal with a tiny network" in written
    assert "failed" not in written
    assert "TOO FAR" not in written


def test_time_runs_out_and_failures_are_told(asked, monkeypatch, capsys):
    """A part that fails or takes too long doesn't keep the others from being run, and
    a second call does what is missing.
    """
    calls = []

    def measured(_, part, seconds):
        calls.append((part, seconds))
        return "failed: out of memory" if part == "micro_batches" else ""

    monkeypatch.setattr(accelerator, "measured", measured)
    run(asked, 8)
    assert [part for part, _ in calls] == list(PARTS)
    assert all(0 < seconds <= 480 for _, seconds in calls)
    results = Path(asked.dir, "results.md").read_text()
    assert "failed: out of memory" in results
    for part in ("micro_batches", "export"):  # told before it failed, and for good
        write_row(asked.dir, part, "speed", (1, "views/s", ""))
    calls.clear()
    run(asked, 8)
    assert [part for part, _ in calls] == ["micro_batches"]
    rows = Path(asked.dir, "rows.jsonl").read_text()
    assert [json.loads(line)["part"] for line in rows.splitlines()] == ["export"]
    with pytest.raises(SystemExit, match="figures of other settings"):
        run(replace(asked, rehearse=False), 8)
    run(replace(asked, dir=f"{asked.dir}/other"), 0.01)
    assert capsys.readouterr().out.count("no time left") == len(PARTS)


def test_a_part_is_stopped_when_its_time_is_over(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert accelerator.measured(asked, "steps", 5) == "failed: no message"
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    assert accelerator.measured(asked, "steps", 1) == "stopped after 1 seconds"


def test_the_table_lists_parts_in_order_with_their_gaps():
    row = {"part": "export", "what": "weights", "value": 0, "unit": "", "note": ""}
    lines = table([row], {"steps": "no time left"})
    assert "| weights | 0  |  |" in lines
    assert lines[-1].endswith("| no time left |")
    assert len(lines) == 2 + len(PARTS) + 1
