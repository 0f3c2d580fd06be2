import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from curation.journal import FEEDBACK, Journal, create_session, read_session, replay
from curation.session_facts import SessionFacts, StatedQuery

ROOT = Path(__file__).parent.parent
FACTS = SessionFacts(name="beets", pool="", query=StatedQuery(("q",)))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / create_session(tmp_path, FACTS)


@pytest.fixture
def open_journal():
    """Opens journals and closes them when the test is over."""
    opened = []

    def open_one(folder):
        opened.append(Journal(folder))
        return opened[-1]

    yield open_one
    for journal in opened:
        journal.close()


def test_marks_are_what_the_lines_come_to(folder, open_journal):
    journal = open_journal(folder)
    assert journal.add("mark", "me", marks={"a": True, "b": True}) == 1
    assert journal.add("mark", "me", marks={"b": False, "c": None}) == 2
    assert journal.state().marks == {"a": True, "b": False}
    assert journal.state(1).marks == {"a": True, "b": True}
    assert journal.undo("me") == 3
    assert journal.state().marks == {"a": True, "b": True}
    assert journal.undo("me") == 4
    assert journal.undo("me") is None
    assert journal.state().marks == {}
    assert journal.redo("me") == 5
    assert journal.redo("me") == 6
    assert journal.redo("me") is None
    assert journal.state().marks == {"a": True, "b": False}
    assert journal.state().learned == 6
    journal.close()
    again = open_journal(folder)
    assert again.state() == journal.state()
    again.close()


def test_a_new_mark_ends_what_can_be_redone(folder, open_journal):
    journal = open_journal(folder)
    journal.add("mark", "me", marks={"a": True})
    journal.undo("me")
    journal.add("mark", "me", marks={"b": True})
    assert journal.redo("me") is None
    assert journal.state().marks == {"b": True}


def test_undo_takes_back_ones_own_and_then_earlier_sittings(folder, open_journal):
    first = open_journal(folder)
    first.add("mark", "old tab", marks={"a": True})
    first.add("mark", "old tab", marks={"b": True})
    first.close()
    journal = open_journal(folder)
    journal.add("mark", "me", marks={"c": True})
    journal.add("mark", "you", marks={"d": True})
    journal.undo("me")
    assert set(journal.state().marks) == {"a", "b", "d"}  # never the other one's
    journal.undo("me")
    assert set(journal.state().marks) == {"a", "d"}
    journal.undo("you")
    journal.undo("you")
    assert journal.state().marks == {}
    assert journal.undo("me") is None
    journal.redo("you")
    journal.redo("you")
    assert set(journal.state().marks) == {"a", "d"}


def test_undo_takes_back_a_threshold_to_the_one_before(folder, open_journal):
    journal = open_journal(folder)
    journal.add("mark", "me", marks={"a": True, "b": False})
    journal.add("threshold", "me", value=0.3, scale="decision")
    journal.add("threshold", "me", value=0.7, scale="decision")
    line = journal.undo("me")
    assert journal.undone_by(line) == "the threshold"
    assert journal.state().threshold.value == 0.3
    journal.undo("me")
    assert journal.state().threshold is None
    assert len(journal.state().marks) == 2  # no mark went with it
    journal.redo("me")
    assert journal.state().threshold.value == 0.3
    assert replay(journal.lines).threshold.value == 0.3
    journal.undo("me")
    line = journal.undo("me")
    assert journal.undone_by(line) == "2 marks"
    assert journal.state().marks == {}


def test_an_action_sent_twice_counts_once(folder, open_journal):
    journal = open_journal(folder)
    assert journal.add("mark", "me", "action-1", marks={"a": True}) == 1
    assert journal.add("mark", "me", "action-1", marks={"a": True}) == 1
    assert journal.undo("me", "action-2") == journal.undo("me", "action-2") == 2
    journal.close()
    again = open_journal(folder)
    assert again.add("mark", "me", "action-1", marks={"a": True}) == 1
    assert len(again.lines) == 2


def test_a_ranking_is_named_by_what_was_learned(folder, open_journal):
    journal = open_journal(folder)
    assert journal.name_of_marks() == 0
    journal.add("mark", "me", marks={"a": True})
    journal.add("mark", "you", marks={"b": True})
    assert journal.name_of_marks() == 2
    journal.undo("me")  # of the first: b alone was never learned before
    assert journal.name_of_marks() == 3
    assert journal.state(3).marks == {"b": True}
    journal.redo("me")
    assert journal.name_of_marks() == 2
    journal.undo("you")
    assert journal.name_of_marks() == 5
    assert journal.state(5).marks == {"a": True}


def test_answers_to_an_audit_are_no_marks_until_they_are_learned(folder, open_journal):
    journal = open_journal(folder)
    journal.add("audit", "me", rows=["x", "y"], ranking=0, seed=0)
    journal.add("answer", "me", marks={"x": True})
    state = journal.state()
    assert (state.marks, state.answers, state.learned) == ({}, {"x": True}, 0)
    journal.undo("me")
    assert journal.state().answers == {}
    journal.redo("me")
    assert journal.add("learn", "me", marks={"x": True}) == 5
    assert journal.state().marks == {"x": True}
    journal.add("audit", "me", rows=["z"], ranking=5, seed=1)
    assert journal.state().answers == {}


def test_a_line_cut_off_by_a_kill_is_put_aside_and_a_damaged_one_is_named(
    folder, open_journal
):
    journal = open_journal(folder)
    journal.add("mark", "me", marks={"a": True})
    journal.close()
    with open(folder / FEEDBACK, "ab") as file:
        file.write(b'{"n":2,"kind":"mark","by":"me","marks":{"b"')
    assert replay(read_session(folder)[1]).marks == {"a": True}
    again = open_journal(folder)
    assert again.state().marks == {"a": True}
    assert again.add("mark", "me", marks={"c": True}) == 2
    again.close()
    assert (folder / "feedback.jsonl.torn").read_bytes().startswith(b'{"n":2')
    lines = (folder / FEEDBACK).read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == [1, 2]
    (folder / FEEDBACK).write_text(f"{lines[0]}\nrubbish\n{lines[1]}\n")
    with pytest.raises(
        ValueError,
        match=r"feedback.jsonl line 2 must be an action of a session; it is damaged",
    ):
        Journal(folder)


def test_a_session_is_held_by_one_process_and_many_threads(folder, open_journal):
    journal = open_journal(folder)
    code = f"from curation.journal import Journal; Journal({str(folder)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert "RuntimeError: session is in use by another process" in done.stderr
    threads = [
        threading.Thread(
            target=lambda who=who: [
                journal.add("mark", who, marks={f"{who}{i}": True}) for i in range(50)
            ]
        )
        for who in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    _, lines = read_session(folder)
    assert [line.n for line in lines] == list(range(1, 201))
    assert len(replay(lines).marks) == 200


def test_a_notebook_may_open_its_session_again(folder, open_journal):
    first = open_journal(folder)
    first.add("mark", "me", marks={"a": True})
    second = open_journal(folder)
    assert second.state().marks == first.state().marks == {"a": True}
    with pytest.raises(RuntimeError, match="session 'beets' is closed, or was opened"):
        first.add("mark", "me", marks={"b": True})
    second.add("mark", "me", marks={"c": True})
    assert set(replay(read_session(folder)[1]).marks) == {"a", "c"}


def test_a_full_disk_leaves_no_half_line(folder, open_journal, monkeypatch):
    journal = open_journal(folder)
    journal.add("mark", "me", marks={"a": True})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("curation.journal.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        journal.add("mark", "me", marks={"b": True})
    monkeypatch.undo()
    assert journal.add("mark", "me", marks={"c": True}) == 2
    journal.close()
    assert replay(read_session(folder)[1]).marks == {"a": True, "c": True}


def test_what_is_no_session_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"session must be a folder with a session.json of format 1"
    ):
        Journal(tmp_path)
