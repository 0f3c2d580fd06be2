import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from curation.journal import (
    FEEDBACK,
    Journal,
    Line,
    State,
    create_session,
    read_session,
    replay,
    write_session,
)
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


def test_a_line_says_what_its_kind_tells_and_no_more():
    told = {
        "mark": {"marks": {"ä": True}, "ranking": 3, "sort": "ask"},
        "answer": {"marks": {"a": False}},
        "learn": {"marks": {"a": None}},
        "correct": {"marks": {"a": True}},
        "undo": {"of": 7},
        "redo": {"of": 8},
        "audit": {"rows": ["x"], "ranking": 2, "seed": [1, 2], "drawn_by": "rank"},
        "threshold": {"value": 0.5, "scale": "decision"},
        "shown": {"ranking": 4},
        "examples": {"uploads": {"u": None}},
        "conflict": {"marks": {"a": True}},
    }
    for kind, facts in told.items():
        line = Line(n=2, time="now", kind=kind, by="me", **facts)
        assert line.encoded().endswith(b"}\n")
        assert json.loads(line.encoded()) == {
            "n": 2,
            "time": "now",
            "kind": kind,
            "by": "me",
            **facts,
        }
        assert Line.decoded(line.encoded()) == line
    rare = {
        "person": "Ada",
        "action": "1",
        "of_class": "b",
        "passed": ["p"],
        "crops": 9,
    }
    line = Line(n=1, time="now", kind="mark", by="me", **rare)
    assert Line.decoded(line.encoded()) == line
    assert rare.items() <= json.loads(line.encoded()).items()
    # What a later version may say besides is passed over.
    assert Line.decoded(b'{"n":1,"time":"","kind":"mark","by":"","new":1}').n == 1
    for damaged in (
        b'{"n":1,"time":"","kind":1,"by":""}',
        b'{"n":1,"kind":"","by":""}',
    ):
        with pytest.raises(TypeError):
            Line.decoded(damaged)
    plain = Line(n=1, time="", kind="audit", by="")
    assert (plain.crops, plain.ranking, plain.of, plain.value, plain.seed) == (0,) * 5


def test_answers_of_earlier_samples_are_kept_unless_they_were_learned():
    journal = Journal(None)
    journal.add("audit", rows=["a"])
    journal.add("mark", marks={"m": True}, passed=["a"])
    journal.add("answer", marks={"a": True})
    assert journal.state().passed == {"a"}
    journal.add("audit", rows=["b"])
    state = journal.state()
    assert (state.earlier, state.answers, state.audits) == ({"a": True}, {}, 2)
    assert (state.passed, state.audit.n) == (set(), 4)
    journal.add("answer", marks={"b": False})
    learned = journal.add("learn", marks={"b": False})
    assert (journal.state().sample_learned, journal.state().learned) == (True, learned)
    journal.add("correct", marks={"b": True})
    state = journal.state()
    assert (state.marks["b"], state.answers["b"]) == (True, True)
    journal.add("audit", rows=["c"])
    state = journal.state()
    assert (state.earlier, state.sample_learned) == ({"a": True}, False)
    assert state == replay(journal.lines)  # taken up one by one, or all at once
    journal.undo()  # what was before the sample, since nothing of it is in sight
    assert journal.state().marks == {"b": True}
    assert journal.state().passed == set()


def test_rankings_are_shown_in_order_and_once():
    journal = Journal(None)
    for ranking in (0, 3, 3, 5, 3):
        journal.add("shown", ranking=ranking)
    assert journal.state().shown == [0, 3, 5]
    assert journal.state(2).shown == [0, 3]
    assert journal.steps("") == ([], [])  # nothing that can be undone


def test_examples_come_and_go():
    journal = Journal(None)
    journal.add("examples", uploads={"u": True, "v": False})
    journal.add("examples", uploads={"given": None})
    assert journal.state().examples(["given", "other"]) == (["other", "u"], ["v"])
    assert journal.state().learned == 2
    journal.undo()
    assert journal.state().examples(["given", "other"])[0] == ["given", "other", "u"]
    journal.add("examples", uploads={"u": False, "v": None})
    assert journal.state().examples([]) == ([], ["u"])


def test_what_people_say_otherwise_of_a_crop_is_a_conflict():
    journal = Journal(None)
    journal.name_person("1", "Ada")
    journal.name_person("2", "Bob")
    journal.add("mark", "1", marks={"a": True, "b": True})
    assert journal.state().conflicts == []
    journal.add("mark", "2", marks={"a": True, "b": False})
    assert journal.state().conflicts == ["b"]
    assert journal.state().opinions["b"] == {"Ada": True, "Bob": False}
    assert journal.state().writers["b"].person == "Bob"
    journal.add("mark", "1", marks={"b": None})  # Ada has no opinion any more
    assert journal.state().conflicts == []
    journal.add("conflict", "3", marks={"a": False})  # said, and not taken
    state = journal.state()
    assert state.conflicts == ["a"]
    assert (state.marks["a"], state.writers["a"].by) == (True, "2")
    assert state.opinions["a"] == {"Ada": True, "Bob": True, "3": False}
    journal.add("mark", "3", marks={"c": True})  # a nameless one's marks are nobody's
    assert journal.state().opinions["c"] == {}
    # An answer to the sample stands before a mark.
    state = State(
        opinions={"a": {"Ada": True}}, answers={"a": False}, marks={"a": True}
    )
    assert state.conflicts == ["a"]
    assert State(opinions={"a": {"Ada": True}}, marks={"a": True}).conflicts == []


def test_who_has_not_seen_what_another_said_does_not_overwrite_it():
    journal = Journal(None)
    journal.add("mark", "you", marks={"a": True})
    state = journal.state()

    def disputed(answer, seen, by="me"):
        changes = {"a": answer, "b": True}
        return state.disputed(state.marks, changes, seen, by)

    assert disputed(False, {"a": None, "b": None}) == {"a": True}
    assert disputed(None, {"a": None}) == {"a": True}
    assert disputed(True, {"a": None}) == {}  # the same
    assert disputed(False, {"a": True}) == {}  # seen
    assert disputed(False, {}) == {}  # of old pages, which don't say
    assert disputed(False, {"a": None}, "you") == {}  # one's own
    state.writers.clear()
    assert disputed(False, {"a": None}) == {}


def test_a_new_sample_ends_what_can_be_undone_of_the_answers_before():
    journal = Journal(None)
    journal.add("audit", "me", rows=["a"])
    journal.add("mark", "me", marks={"m": True})
    journal.add("answer", "me", marks={"a": True})
    journal.add("answer", "me", marks={"b": True})
    journal.undo("me")
    assert journal.steps("me") == ([2, 3], [4])
    journal.add("audit", "me", rows=["b"])
    assert journal.steps("me") == ([2], [])


def test_undone_is_said_in_words():
    journal = Journal(None)
    said = {
        "mark": "a mark",
        "answer": "an answer to the random sample",
        "correct": "a corrected answer",
        "learn": "learning from the random sample",
        "examples": "a change of the examples",
    }
    for kind, words in said.items():
        journal.add(kind, marks={"a": True})
        assert journal.undone_by(journal.undo()) == words
        assert journal.undone_by(journal.redo()) == words
    journal.add("mark", marks={"a": True, "b": None})
    assert journal.undone_by(journal.undo()) == "2 marks"


def test_what_an_earlier_sitting_undid_can_be_brought_back(folder, open_journal):
    first = open_journal(folder)
    first.add("mark", "old", marks={"a": True})
    first.add("mark", "old", marks={"b": True})
    first.undo("old")
    first.close()
    journal = open_journal(folder)
    assert journal.steps("me") == ([1], [2])
    journal.redo("me")
    assert journal.steps("me") == ([1, 2], [])
    journal.undo("you")  # of an earlier sitting: anybody's
    assert journal.steps("me") == ([2], [])
    assert journal.steps("you")[1][-1] == 1
    journal.add("mark", "me", marks={"c": True})
    assert journal.steps("me") == ([2, 6], [])
    journal.redo("you")
    assert journal.steps("me") == ([2, 6], [])
    assert set(journal.state().marks) == {"a", "b", "c"}


def test_marks_are_counted_after_each_line_that_is_learned_from():
    journal = Journal(None)
    journal.add("mark", marks={"a": True, "b": False})
    journal.add("shown", ranking=1)
    journal.add("mark", marks={"c": True})
    journal.add("mark", marks={"a": None})
    journal.undo()
    journal.add("learn", marks={"d": True})
    assert journal.counts_of_marks() == {1: 2, 3: 3, 6: 4}


def test_a_session_is_written_with_its_files_and_vectors(tmp_path):
    given = tmp_path / "given.txt"
    given.write_text("x")
    line = Line(n=1, time="now", kind="mark", by="", marks={"a": True})
    path = tmp_path / "below" / "new"
    write_session(path, FACTS, [line], [given], {"u": np.arange(3.0)})
    assert sorted(file.name for file in path.iterdir()) == [
        "feedback.jsonl",
        "given.txt",
        "session.json",
        "u.npy",
    ]
    np.testing.assert_array_equal(np.load(path / "u.npy"), [0, 1, 2])
    facts, lines = read_session(path)
    assert (facts.name, lines) == ("beets", [line])
    assert facts.created
    with pytest.raises(FileExistsError):
        write_session(path, FACTS)
    lines = b"".join(line.encoded() for _ in range(2))
    (path / FEEDBACK).write_bytes(lines)
    with pytest.raises(ValueError, match=r"line 2 must be an action"):
        read_session(path)  # numbered as another is


def test_what_is_opened_in_memory_lies_nowhere():
    with pytest.raises(ValueError, match="isn't"):
        Journal("nowhere")
    journal = Journal(None, FACTS)
    journal.add("mark", marks={"a": True})
    assert (journal.folder, journal.facts.name) == (None, "beets")
    assert journal.state(0).marks == {}
    journal.close()
    assert journal.add("mark", marks={"b": True}) == 2


def test_a_tab_that_is_still_open_goes_on_with_an_earlier_sitting(folder, open_journal):
    first = open_journal(folder)
    first.add("mark", "me", marks={"a": True})
    first.close()
    journal = open_journal(folder)
    journal.undo("you")  # of an earlier sitting, whoever did it
    assert journal.steps("me") == ([], [])
    journal.add("mark", "me", marks={"b": True})
    journal.undo("you")
    assert journal.state().marks == {"b": True}
