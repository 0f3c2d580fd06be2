"""A session against the library it is thin over, and the estimates it shows against the
truth.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from data.embeddings import EmbeddingSet
from data.export import export, read_card
from data.predictions import with_predictions
from data.where import rows_where
from probe.feedback import rerank
from probe.saved_probe import SavedProbe
from probe.search import CosineIndex
from probe.transforms import Transform
from tests.conftest import WISH
from web.live import LiveSession
from web.pool import Pool
from web.sessions import Sessions


@pytest.fixture(scope="module")
def pool(field_set, tmp_path_factory):
    return Pool(EmbeddingSet.load(field_set), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def truth(pool):
    return rows_where(pool.table, WISH)


@pytest.fixture
def sessions(pool, tmp_path):
    found = Sessions(pool, tmp_path / "sessions")
    yield found
    found.close()


def started(sessions, pool, truth, condition="", **facts):
    query = int(np.flatnonzero(truth & pool.mask(condition))[0])
    facts = {
        "name": "beets",
        "pool": condition,
        "class_name": "beet",
        "use": "collect",
        **facts,
    }
    return sessions.open(
        sessions.create(facts, [str(pool.table.ids[query])], [])
    ), query


def say(session, rows, truth, sort="best", ranking=0):
    ids = session.pool.table.ids
    return session.mark(
        {str(ids[row]): bool(truth[row]) for row in rows}, "me", "", ranking, sort
    )[0]


def test_rankings_are_those_of_the_library(sessions, pool, truth):
    session, query = started(sessions, pool, truth)
    index = CosineIndex(
        pool.embeddings.vectors,
        pool.table.ids,
        Transform.fit("centre", pool.embeddings.vectors),
    )
    example = np.asarray(pool.embeddings.vectors[[query]])
    plain = index.search(index.transform(example)[0], 60, [query])[0]
    assert session.view(0, "best")[:60].tolist() == plain.rows.tolist()
    marked = [
        *session.view(0, "best")[:25].tolist(),
        *session.view(0, "worst")[:5].tolist(),
    ]
    number = say(session, marked, truth)
    marks = {row: bool(truth[row]) for row in marked}
    expected = rerank(index, marks, example, [query], 60)
    ranked = session.ranking(number)
    assert (
        session.view(number, "best")[:60].tolist() == expected.everything.rows.tolist()
    )
    assert ranked.scores[ranked.order[:60]] == pytest.approx(
        expected.everything.scores, abs=1e-5
    )
    assert ranked.scale == "confidence"
    assert len(ranked.order) == len(pool.table) - 1
    # An earlier ranking can be made again, whatever came after.
    session._rankings._values.clear()
    assert session.ranking(0).order[:60].tolist() == plain.rows.tolist()


def test_views_sort_and_filter(sessions, pool, truth):
    session, query = started(sessions, pool, truth)
    with pytest.raises(ValueError, match="sort boundary needs a probe"):
        session.view(0, "boundary")
    with pytest.raises(ValueError, match="sort audit needs an audit"):
        session.view(0, "audit")
    number = say(session, session.view(0, "best")[:30].tolist(), truth)
    best, worst = session.view(number, "best"), session.view(number, "worst")
    assert best.tolist() == worst.tolist()[::-1]
    boundary = session.view(number, "boundary")
    distance = np.abs(session.ranking(number).scores[boundary] - 0.5)
    assert (np.diff(distance) >= 0).all()
    ask = session.view(number, "ask")
    assert len(ask) == 40
    assert not {query, *session.marks(session.journal.state())} & set(ask.tolist())
    sunny = session.view(number, "best", "lighting = 'sunny'")
    assert set(pool.table.column("lighting")[sunny]) == {"sunny"}
    assert [
        row for row in best if pool.table.column("lighting")[row] == "sunny"
    ] == sunny.tolist()
    some = pool.select(best[5:9].tolist())
    assert session.view(number, "best", among=some).tolist() == best[5:9].tolist()
    with pytest.raises(ValueError, match="where must be an SQL condition"):
        session.view(number, "best", "nonsense = 1")
    assert len(session.view(number, "best", "lighting = 'none'")) == 0


def test_a_session_of_a_part_of_the_pool_stays_in_it(sessions, pool, truth):
    session, _ = started(sessions, pool, truth, "lighting = 'sunny'")
    inside = pool.mask("lighting = 'sunny'")
    order = session.view(0, "best")
    assert inside[order].all()
    assert len(order) == inside.sum() - 1
    number = say(session, order[:20].tolist(), truth)
    assert inside[
        session.selected(session.ranking(number), session.journal.state(), "threshold")
    ].all()


def test_an_audit_says_what_the_truth_is_within_its_interval(sessions, pool, truth):
    session, query = started(sessions, pool, truth)
    number = say(session, session.view(0, "best")[:40].tolist(), truth)
    session.draw_audit(120, "me", "")
    rows = session.view(number, "audit")
    marked = set(session.marks(session.journal.state()))
    assert len(set(rows.tolist())) == 120
    assert not marked & set(rows.tolist())
    assert session.estimate(session.ranking(number), 0.5) == {
        "drawn": 120,
        "answered": 0,
    }
    say(session, rows[:119].tolist(), truth, "audit", number)
    assert "precision" not in session.estimate(
        session.ranking(number), 0.5
    )  # never from a part of it
    say(session, rows[119:].tolist(), truth, "audit", number)
    assert session.journal.state().learned == number  # not learned from
    found = session.estimate(session.ranking(number), 0.5)
    ranked = session.ranking(number)
    others = np.array([row for row in ranked.order if row not in marked])
    above = others[ranked.scores[others] >= 0.5]
    assert found["count"] == len(above)
    assert (
        found["precision"]["low"] <= truth[above].mean() <= found["precision"]["high"]
    )
    assert found["size"]["low"] <= truth.sum() <= found["size"]["high"]
    assert found["population"] == len(pool.table)
    assert found["rate"]["estimate"] == pytest.approx(
        found["size"]["estimate"] / len(pool.table)
    )
    said = set(rows.tolist())
    taken = {
        query,
        *(row for row in marked if truth[row]),
        *(row for row in above if row not in said or truth[row]),
    }
    taken |= {
        row for row in said if truth[row]
    }  # what the sample found below the threshold
    assert (
        set(session.selected(ranked, session.journal.state(), "threshold").tolist())
        == taken
    )
    assert found["taken"] == len(taken)
    share = truth[list(taken)].mean()
    assert (
        found["precision_of_taken"]["low"] - 1e-9
        <= share
        <= found["precision_of_taken"]["high"] + 1e-9
    )
    assert found["current"]
    card = session.card(number, "threshold")
    assert card["estimates"]["precision"] == found["precision"]
    # A slip that is undone changes nothing.
    say(session, session.view(number, "worst")[:1].tolist(), ~truth, "worst", number)
    assert not session.estimate(session.ranking(number), 0.5)["current"]
    session.step("undo", "me", "")
    assert session.estimate(session.ranking(number), 0.5) == found
    assert session.journal.name_of_marks() == number
    # After more marks it is about an earlier order, and the card says so.
    later = say(
        session, session.view(number, "ask")[:10].tolist(), truth, "ask", number
    )
    assert not session.estimate(session.ranking(later), 0.5)["current"]
    assert session.card(later, "threshold")["estimates"]["precision"].startswith(
        "not estimated"
    )
    with pytest.raises(
        ValueError, match="belongs to the random sample, which isn't learned from"
    ):
        say(session, rows[:1].tolist(), truth, "best", later)
    learned = session.learn_answers("me", "")
    assert len(session.journal.state(learned).marks) == 40 + 10 + 120
    say(session, rows[:1].tolist(), truth, "best", learned)
    # An answer that is corrected now is learned from at once, and undone as one.
    first = str(pool.table.ids[rows[0]])
    session.mark({first: not truth[rows[0]]}, "me", "", learned, "audit")
    state = session.journal.state()
    assert state.marks[first] == state.answers[first] == (not truth[rows[0]])
    session.step("undo", "me", "")
    state = session.journal.state()
    assert state.marks[first] == state.answers[first] == truth[rows[0]]


def test_an_audit_of_everything_is_the_truth_whatever_was_marked_before(
    sessions, pool, truth
):
    """With every crop known, no interval is left, and the rate is over all crops of the
    session, marked as not relevant too.
    """
    condition = "label_name = 'Red-root amaranth' OR species = 'Sugar beet'"
    session, _ = started(sessions, pool, truth, condition)
    inside = pool.mask(condition)
    number = say(session, session.view(0, "worst")[:15].tolist(), truth)
    session.draw_audit(1000, "me", "")
    say(session, session.view(number, "audit").tolist(), truth, "audit", number)
    found = session.estimate(session.ranking(number), 0.0)
    assert found["population"] == inside.sum()
    share = truth[inside].mean()
    assert found["rate"] == pytest.approx(
        {"estimate": share, "low": share, "high": share}
    )
    assert found["size"]["low"] == found["size"]["high"] == truth[inside].sum()


def test_sampled_crops_are_left_out_of_a_batch(sessions, pool, truth):
    session, _ = started(sessions, pool, truth)
    session.draw_audit(30, "me", "")
    held = session.view(0, "audit")[:2].tolist()
    free = [
        row
        for row in session.view(0, "best")[:40].tolist()
        if row not in session.sampled()
    ][:3]
    ids = pool.table.ids
    _, left_out = session.mark(
        {str(ids[row]): True for row in held + free}, "me", "", 0, "best"
    )
    assert left_out == [str(ids[row]) for row in held]
    assert set(session.journal.state().marks) == {str(ids[row]) for row in free}
    say(session, held, truth, "audit")
    session.draw_audit(30, "me", "")
    session.step(
        "undo", "me", ""
    )  # answers to the sample before can't be seen: the marks are what is undone
    assert session.journal.state().marks == {}


def test_marks_overrule_the_threshold(sessions, pool, truth, tmp_path):
    session, query = started(sessions, pool, truth)
    order = session.view(0, "best")
    number = say(session, [*order[:60].tolist(), *order[-10:].tolist()], truth)
    ids = pool.table.ids
    top = session.view(number, "best")
    number, _ = session.mark(
        {str(ids[top[0]]): False, str(ids[top[-1]]): True}, "me", "", number, "best"
    )
    ranked, state = session.ranking(number), session.journal.state()
    chosen = set(session.selected(ranked, state, "threshold").tolist())
    assert top[0] not in chosen
    assert {top[-1], query} <= chosen
    relevant = {row for row, answer in session.marks(state).items() if answer}
    assert set(session.selected(ranked, state, "marked").tolist()) == relevant | {query}
    session.journal.add("threshold", "me", value=0.8, scale="confidence")
    fewer = session.selected(ranked, session.journal.state(), "threshold")
    free = [row for row in fewer if row not in session.marks(state) and row != query]
    assert (ranked.scores[free] >= 0.8).all()
    export(
        session.selection(number, "threshold", "beet"),
        "csv",
        tmp_path / "csv",
        session.card(number, "threshold"),
    )
    card = read_card(tmp_path / "csv")
    assert card["crops"] == len(fewer)
    assert card["threshold"] == {"scale": "confidence", "value": 0.8}
    # A threshold on confidences isn't one on cosines.
    assert session.threshold(
        session.ranking(0), session.journal.state()
    ) == pytest.approx(session.ranking(0).scores[order[49]])


def test_the_probe_of_a_session_ranks_and_cuts_alike_as_a_file(
    sessions, pool, truth, tmp_path
):
    session, _ = started(sessions, pool, truth)
    number = say(session, session.view(0, "best")[:30].tolist(), truth)
    session.journal.add("threshold", "me", value=0.7, scale="confidence")
    session.probe(number).save(tmp_path / "probe")
    saved = SavedProbe.load(tmp_path / "probe")
    saved.check(pool.embeddings.meta)
    scores = CosineIndex(
        pool.embeddings.vectors, pool.table.ids, saved.transform
    ).scores(saved.direction.coef)[0]
    ranked = session.ranking(number)
    assert ((scores >= saved.threshold) == (ranked.scores >= 0.7)).mean() > 0.999


def test_rounds_and_the_stop_signal(sessions, pool, truth):
    session, _ = started(sessions, pool, truth)
    assert session.panel(0)["rounds"] == []
    number, signals = 0, []
    for _ in range(8):
        order = session.view(number, "ask")[:12].tolist()
        number = say(session, order, truth, "ask", number)
        session.journal.add("shown", "me", ranking=number)
        panel = session.panel(number)
        signals.append(panel["stop"]["signal"])
        assert panel["stop"]["rounds"] == len(signals)
    assert signals[0] is False
    assert panel["rounds"] == []  # nothing was marked under "best"
    top = [
        row
        for row in session.view(number, "best").tolist()
        if row not in session.marks(session.journal.state())
    ][:10]
    say(session, top, truth, "best", number)
    rounds = session.panel(session.journal.state().learned)["rounds"]
    assert rounds[0]["marked"] == 10
    assert rounds[0]["relevant"] == truth[top].sum()
    session.step("undo", "me", "")
    assert session.panel(session.journal.state().learned)["rounds"] == []
    assert sum(session.panel(number)["histogram"]) == len(session.view(number, "best"))


def test_changes_tell_what_the_new_order_would_show(sessions, pool, truth):
    session, _ = started(sessions, pool, truth)
    session._learn()
    number = say(session, session.view(0, "best")[:30].tolist(), truth)
    session._learn()
    changes = session.changes(0)
    first, then = (
        set(session.view(0, "best")[:50].tolist()),
        set(session.view(number, "best")[:50].tolist()),
    )
    assert (changes["new_marks"], changes["entered"]) == (30, len(then - first))
    assert changes["taken"] == len(
        session.selected(session.ranking(number), session.journal.state(), "threshold")
    )


def test_all_marked_as_not_relevant_still_ranks(sessions, pool, truth):
    session, query = started(sessions, pool, truth)
    number, _ = session.mark({str(pool.table.ids[query]): False}, "me", "", 0, "best")
    ranked = session.ranking(number)
    assert ranked.scale == "cosine"
    assert (
        "nothing" in ranked.direction.reason
        or "marks must hold" in ranked.direction.reason
    )


def test_sessions_are_listed_renamed_and_duplicated(
    sessions, pool, truth, field_set, tmp_path
):
    session, _ = started(sessions, pool, truth)
    name = session.journal.folder.name
    say(session, session.view(0, "best")[:3].tolist(), truth)
    sessions.rename(name, {"name": "rüben <b>"})
    copy = sessions.duplicate(name)
    listed = {entry["session"]: entry for entry in sessions.listed()}
    assert listed[copy]["name"] == "rüben <b> (copy)"
    assert listed[name]["relevant"] + listed[name]["not_relevant"] == 3
    other = sessions.open(copy)
    assert other.journal.state().marks == session.journal.state().marks
    other.step("undo", "someone", "")
    assert other.journal.state().marks == {}
    assert len(session.journal.state().marks) == 3
    # A session of other embeddings can't be opened, but brings its marks along.
    facts = json.loads((session.journal.folder / "session.json").read_text())
    facts["embeddings"]["sha256"] = "other"
    sessions.close()
    (session.journal.folder / "session.json").write_text(json.dumps(facts))
    with pytest.raises(
        ValueError,
        match="must be opened with the embeddings it was made with, or duplicated",
    ):
        LiveSession(pool, session.journal.folder)
    taken = sessions.open(sessions.duplicate(name))
    assert taken.journal.state().marks == session.journal.state().marks
    (sessions.folder / "s20260101-00000000").mkdir()
    (sessions.folder / "s20260101-00000000" / "session.json").write_text("{")
    assert (
        "error"
        in {entry["session"]: entry for entry in sessions.listed()}[
            "s20260101-00000000"
        ]
    )


def test_bad_starts_are_refused(sessions, pool):
    facts = {"name": "", "pool": "", "class_name": "", "use": "collect"}
    with pytest.raises(ValueError, match="query must hold at least one crop"):
        sessions.create(facts, [], [])
    with pytest.raises(
        ValueError, match="crop must be one of this embedding set; got 'c0'"
    ):
        sessions.create(facts, ["c0"], [])
    with pytest.raises(ValueError, match="upload must be one that was sent before"):
        sessions.create(facts, [], ["u-../../etc"])
    with pytest.raises(ValueError, match="where must be an SQL condition"):
        sessions.create({**facts, "pool": "1 +"}, [str(pool.table.ids[0])], [])
    with pytest.raises(ValueError, match="pool must leave some crops"):
        sessions.create(
            {**facts, "pool": "lighting = 'none'"}, [str(pool.table.ids[0])], []
        )
    for name in ("../x", "s20260101-00000000", ""):
        with pytest.raises(ValueError, match="session must be one of those listed"):
            sessions.open(name)


def test_marks_made_while_a_sample_is_drawn_are_not_in_it(sessions, pool, truth):
    """Ranking takes a while; what others mark meanwhile must not end up in a sample
    that was drawn without knowing.
    """
    session, _ = started(sessions, pool, truth)
    ranking, others = session.ranking, session.view(0, "best")[:60].tolist()

    def slow(number):
        ranked = ranking(number)
        if others:
            rows, others[:] = list(others), []
            say(session, rows, truth)
        return ranked

    session.ranking = slow
    session.draw_audit(100, "me", "")
    state = session.journal.state()
    assert len(state.marks) == 60
    assert not set(state.marks) & set(state.audit["rows"])
    assert state.audit["ranking"] == state.learned


def test_redo_brings_no_marks_into_a_sample(sessions, pool, truth):
    session, _ = started(sessions, pool, truth)
    say(session, session.view(0, "best")[:300].tolist(), truth)
    session.step("undo", "me", "")
    session.draw_audit(100, "me", "")
    with pytest.raises(ValueError, match="those marks can't be brought back"):
        session.step("redo", "me", "")
    assert session.journal.state().marks == {}
    assert len(session.sampled()) == 100


def test_a_session_about_predictions_needs_the_same_ones(
    field_set, sessions, pool, truth, tmp_path
):
    first, other = tmp_path / "1.csv", tmp_path / "2.csv"
    for path, rows in ((first, range(40)), (other, range(20, 60))):
        path.write_text(
            "crop_id,predicted\n"
            + "".join(f"{pool.table.ids[row]},X\n" for row in rows)
        )
    embeddings = EmbeddingSet.load(field_set)

    def predicted_pool(path):
        return Pool(
            replace(embeddings, table=with_predictions(embeddings.table, path)),
            tmp_path,
        )

    facts = {
        "name": "X",
        "pool": "predicted = 'X'",
        "class_name": "",
        "use": "failures",
    }
    predicted = Sessions(predicted_pool(first), sessions.folder)
    name = predicted.create(facts, [str(pool.table.ids[3])], [])
    assert predicted.open(name).estimate(predicted.open(name).ranking(0), 0.0) == {
        "drawn": 0,
        "answered": 0,
    }
    predicted.close()
    with pytest.raises(
        ValueError, match="session 'X' must be opened with its own predictions"
    ):
        Sessions(predicted_pool(other), sessions.folder).open(name)
    with pytest.raises(
        ValueError,
        match="session 'X' is about predictions: start the program with --predictions",
    ):
        sessions.open(name)
    again = Sessions(predicted_pool(first), sessions.folder)
    assert len(again.open(name).view(0, "best")) == 39
    again.close()


def test_a_round_counts_the_last_answer_and_nothing_undone(sessions, pool, truth):
    session, _ = started(sessions, pool, truth)
    rows = session.view(0, "best")[:10].tolist()
    say(session, rows, ~truth)
    say(session, rows, truth)  # slips, put right
    assert session.panel(0)["rounds"][0]["relevant"] == truth[rows].sum()
    for kind in ("undo", "undo", "redo", "undo"):
        session.step(kind, "me", "")
    assert session.panel(0)["rounds"] == []
