"""Several classes in one session, against single sessions and the truth."""

import json

import numpy as np
import pytest

from curation import journal
from curation.classes import NONE, Classes
from curation.journal import Journal, read_session
from curation.pool import Pool
from curation.query import Examples, Query
from curation.session import Session

COLUMN = "species"


@pytest.fixture(scope="module")
def pool(species_set):
    return Pool(species_set)


@pytest.fixture(scope="module")
def species(pool):
    return pool.table.column(COLUMN)


@pytest.fixture(scope="module")
def names(species):
    found, counts = np.unique(species[species != ""], return_counts=True)
    return found[np.argsort(-counts, kind="stable")][:3].tolist()


def first(species, name):
    return int(np.flatnonzero(species == name)[0])


def queries(species, names):
    return {name: Query(Examples((first(species, name),))) for name in names}


def answers(pool, species, names, ids):
    rows = pool.rows(list(ids))
    return {
        crop_id: str(species[row]) if species[row] in names else NONE
        for crop_id, row in zip(ids, rows, strict=True)
    }


@pytest.fixture
def classes(pool, species, names):
    with Classes(pool, queries(species, names)) as found:
        yield found


def test_a_mark_is_relevant_for_its_class_and_not_for_the_others(classes, pool, names):
    one, two, three, four = (str(crop_id) for crop_id in pool.ids[[50, 60, 70, 80]])
    classes.mark({one: names[0], two: names[1], three: NONE})
    assert classes[names[0]].state.marks == {one: True, two: False, three: False}
    assert classes[names[1]].state.marks == {one: False, two: True, three: False}
    assert classes[names[2]].state.marks == {one: False, two: False, three: False}
    assert classes.marks() == {one: names[0], two: names[1], three: NONE}
    # A crop is of one class: marked again it changes sides.
    classes.mark({one: names[1]})
    assert classes[names[0]].state.marks[one] is False
    assert classes.marks()[one] == names[1]
    # What is said in one class's session alone says nothing of the others, if it is no.
    classes[names[2]].mark({four: False})
    assert four not in classes[names[0]].state.marks
    assert four not in classes.marks()
    classes[names[2]].mark({four: True})
    assert classes[names[0]].state.marks[four] is False
    assert classes.marks()[four] == names[2]
    # It isn't after all, so nothing is known of it elsewhere.
    classes[names[2]].mark({four: False})
    assert four not in classes[names[0]].state.marks
    assert four not in classes.marks()
    # Taken back and undone for all.
    classes.mark({one: None})
    assert one not in classes.marks()
    classes.undo()
    assert classes.marks()[one] == names[1]
    classes.redo()
    assert one not in classes[names[2]].state.marks


def test_each_class_ranks_as_a_session_of_its_own_with_the_same_marks(
    classes, pool, species, names
):
    asked = [str(crop_id) for crop_id in pool.ids[::9]]
    told = answers(pool, species, names, asked)
    classes.mark(told)
    others = [first(species, name) for name in names[1:]]
    alone = Session(
        pool,
        query=Query(Examples((first(species, names[0]),)), Examples(tuple(others))),
    )
    alone.mark({crop_id: told[crop_id] == names[0] for crop_id in asked})
    mine = classes[names[0]]
    assert mine.rank().rows.tolist() == alone.rank().rows.tolist()
    np.testing.assert_array_equal(mine.learned().decision, alone.learned().decision)


def test_suggestions_are_new_crops_near_some_boundary(classes, pool, species, names):
    before = classes.suggest(12)
    assert len(set(before)) == 12  # the best of each class in turn
    assert not {pool.table.row_of(one) for one in before} & {
        first(species, name) for name in names
    }
    ranked = [classes[name].rank().rows for name in names]
    rows = pool.rows(before)
    assert rows[:3] == [int(order[0]) for order in ranked]
    classes.mark(answers(pool, species, names, [str(one) for one in pool.ids[::7]]))
    asked = classes.suggest(20)
    assert len(set(asked)) == 20
    assert not set(asked) & set(classes.marks())
    decisions = np.abs([classes[name].learned().decision for name in names]).min(axis=0)
    told = pool.rows(asked)
    assert np.median(decisions[told]) < np.median(decisions)


def test_marking_several_at_once_finds_them_all(classes, pool, species, names):
    for _ in range(6):
        classes.mark(answers(pool, species, names, classes.suggest(20)))
    place = classes.assigned()
    truth = np.array([names.index(one) if one in names else -1 for one in species])
    unmarked = np.ones(len(pool), bool)
    unmarked[pool.rows(list(classes.marks()))] = False
    lifts = []
    for number in range(len(names)):
        taken = unmarked & (place == number)
        share = (truth[taken] == number).mean() if taken.any() else 0
        lifts.append(share / (truth[unmarked] == number).mean())
    assert np.mean(lifts) > 2
    # Marks overrule, and no crop is of two.
    said = classes.marks()
    for crop_id, name in said.items():
        found = place[pool.table.row_of(crop_id)]
        assert found == (names.index(name) if name else -1)
    chosen = [classes.select(name).rows for name in names]
    together = np.concatenate(chosen)
    assert len(together) == len(set(together.tolist())) == (place >= 0).sum()
    scores = classes.select(names[0]).scores
    assert (np.diff(scores) <= 0).all()


def test_a_random_sample_of_one_class_teaches_that_class_nothing(
    classes, pool, species, names
):
    classes.mark(answers(pool, species, names, [str(one) for one in pool.ids[::11]]))
    session = classes[names[0]]
    drawn = session.audit(30)
    assert classes[names[1]].state.audit is None
    assert not set(classes.suggest(40)) & set(drawn)
    free = next(str(one) for one in pool.ids if one not in {*drawn, *classes.marks()})
    left_out = classes.mark({drawn[0]: names[1], free: NONE})[1]
    assert left_out == [drawn[0]]
    with pytest.raises(ValueError, match="belongs to a class's random sample"):
        classes.mark({drawn[0]: names[1]})
    with pytest.raises(ValueError, match="belongs to the random sample"):
        session.mark({drawn[0]: True})
    # Said in another class's session, it doesn't reach the one whose sample it is.
    classes[names[1]].mark({drawn[0]: True})
    assert drawn[0] not in session.state.marks
    assert classes[names[1]].state.marks[drawn[0]] is True
    rows = pool.rows(drawn)
    session.answer(
        {
            name: bool(species[row] == names[0])
            for name, row in zip(drawn, rows, strict=True)
        }
    )
    found = session.estimate()
    assert found.size.low <= (species == names[0]).sum() <= found.size.high
    session.learn_answers()
    assert session.state.marks[drawn[0]] == (species[rows[0]] == names[0])
    # Taken back, the sample is a sample again.
    classes.undo()
    classes[names[1]].mark({drawn[1]: True})
    assert drawn[1] not in session.state.marks


def test_marks_that_a_sample_holds_by_now_do_not_come_back(classes, pool, names):
    classes.mark({str(one): names[0] for one in pool.ids[40:60]})
    classes.undo()
    classes[names[0]].audit(len(pool))
    with pytest.raises(ValueError, match="those marks can't be brought back"):
        classes.redo()


def test_it_lies_on_disk_as_one_journal(pool, species, names, tmp_path):
    folder = tmp_path / "several"
    with Classes(pool, queries(species, names), folder=folder) as classes:
        told = answers(pool, species, names, [str(one) for one in pool.ids[::9]])
        classes.mark(told, by="me")
        classes[names[0]].set_threshold(1.5)
        order = classes[names[0]].rank().rows
        place = classes.assigned()
    journal = Journal(folder)
    journal.close()
    assert list(journal.facts.classes) == names
    lines = journal.lines
    crop_id = next(iter(told))
    assert lines[0].marks[crop_id] == {"class": told[crop_id], "relevant": True}
    assert json.loads((folder / "session.json").read_text())["format"] == 2
    with Classes(pool, folder=folder) as classes:
        assert classes.marks() == told
        assert classes[names[0]].threshold() == 1.5
        assert classes[names[1]].threshold() == 0
        assert classes[names[0]].rank().rows.tolist() == order.tolist()
        assert classes.assigned().tolist() == place.tolist()
        assert repr(classes).startswith(f"Classes({names[0]}: ")
    with pytest.raises(
        ValueError, match=r"is of several classes, .*: open it with curation.Cl"
    ):
        Session(pool, folder=folder)
    with pytest.raises(ValueError, match="is of several classes"):
        read_session(folder)
    with Session(pool, query=str(pool.ids[0]), folder=tmp_path / "single"):
        pass
    with pytest.raises(ValueError, match="is of one: open it with Session"):
        Classes(pool, folder=tmp_path / "single")


def test_what_names_no_classes_is_refused(classes, pool, names):
    with pytest.raises(ValueError, match=r"two or more classes, .*; got 'a'"):
        Classes(pool, {"a": str(pool.ids[0])})
    with pytest.raises(ValueError, match=r"class must be one of .*; got 'moss'"):
        classes.mark({str(pool.ids[1]): "moss"})
    with pytest.raises(ValueError, match="can't be called 'None'"):
        Classes(pool, {"None": str(pool.ids[0]), "b": str(pool.ids[1])})
    with pytest.raises(ValueError, match="queries of a and b must be different crops"):
        Classes(pool, {"a": str(pool.ids[0]), "b": str(pool.ids[0])})
    with pytest.raises(ValueError, match="count must be at least 1; got 0"):
        classes.suggest(0)
    with pytest.raises(ValueError, match="got 'moss'"):
        classes["moss"]


def test_what_another_class_adds_meanwhile_is_not_lost(classes, names, monkeypatch):
    one, other = names[:2]
    applied, added = journal._apply, []

    def slowly(state, kind, line, marks):
        applied(state, kind, line, marks)
        if not added:  # as another class does, in a thread of its own
            added.append(ids[1])
            marks = {ids[1]: {"class": one, "relevant": True}}
            classes.journal.add("mark", marks=marks)

    ids = classes.pool.ids[50:52].tolist()
    classes.mark({ids[0]: one})
    monkeypatch.setattr(journal, "_apply", slowly)
    assert list(classes[other].state.marks) == ids[:1]
    assert list(classes[other].state.marks) == ids[:2]
