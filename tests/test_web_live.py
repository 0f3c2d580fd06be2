"""A session behind the page: views, panels, learning in the background,
sessions by id.
"""

import json

import numpy as np
import pytest

from curation.pool import Pool
from data.embeddings import EmbeddingSet
from data.where import rows_where
from tests.conftest import WISH
from web import answers
from web.live import LiveSession
from web.overview import Overview
from web.sessions import Sessions


@pytest.fixture(scope="module")
def overview(field_set, tmp_path_factory):
    pool = Pool(EmbeddingSet.load(field_set))
    return Overview(pool)


@pytest.fixture(scope="module")
def pool(overview):
    return overview.pool


@pytest.fixture(scope="module")
def truth(pool):
    return rows_where(pool.table, WISH)


@pytest.fixture
def sessions(overview, tmp_path):
    found = Sessions(overview, tmp_path / "sessions")
    yield found
    found.close()


def started(sessions, pool, truth, condition="", **facts):
    query = int(np.flatnonzero(truth & pool.mask(condition))[0])
    facts = {"name": "beets", "pool": condition, "class_name": "beet", **facts}
    name = sessions.create([str(pool.ids[query])], **facts)
    return sessions.open(name), query


def view(session, number, sort, **which):
    """A whole list."""
    return session.page(number, sort, 0, 10**6, **which)[0]


def say(session, rows, truth, sort="best", ranking=0):
    ids = session.pool.ids
    answers = {str(ids[row]): bool(truth[row]) for row in rows}
    return session.mark(answers, "me", "", ranking, sort=sort).line


def test_views_sort_and_filter(sessions, overview, pool, truth):
    session, query = started(sessions, pool, truth)
    with pytest.raises(ValueError, match="sort boundary needs a probe"):
        view(session, 0, "boundary")
    with pytest.raises(ValueError, match="sort audit needs an audit"):
        view(session, 0, "audit")
    number = say(session, view(session, 0, "best")[:30].tolist(), truth)
    best, worst = view(session, number, "best"), view(session, number, "worst")
    assert best.tolist() == worst.tolist()[::-1]
    for start in (0, 7, len(best) - 3):  # parts are parts of the whole
        for sort, whole in (("best", best), ("worst", worst)):
            part, total = session.page(number, sort, start, 10)
            assert total == len(best)
            assert part.tolist() == whole[start : start + 10].tolist()
    boundary = view(session, number, "boundary")
    distance = np.abs(session.session.learned(number).decision[boundary])
    assert (np.diff(distance) >= 0).all()
    ask = view(session, number, "ask")
    assert len(ask) == 40
    assert not {query, *session.session.marks()} & set(ask.tolist())
    sunny = view(session, number, "best", where="lighting = 'sunny'")
    lighting = pool.table.column("lighting")
    assert set(lighting[sunny]) == {"sunny"}
    assert [row for row in best if lighting[row] == "sunny"] == sunny.tolist()
    some = overview.select_rows(best[5:9])
    assert view(session, number, "best", among=some).tolist() == best[5:9].tolist()
    with pytest.raises(ValueError, match="where must be an SQL condition"):
        view(session, number, "best", where="nonsense = 1")
    assert len(view(session, number, "best", where="lighting = 'none'")) == 0


def test_the_panel_measures_what_the_view_shows(sessions, pool, truth):
    session, _ = started(sessions, pool, truth)
    number = say(session, view(session, 0, "best")[:30].tolist(), truth)
    panel = session.panel(number)
    assert sum(panel.histogram) == panel.crops == len(pool) - 1
    assert (panel.low, panel.high, panel.threshold) == (0.0, 1.0, 0.5)
    assert panel.taken == len(session.session.selected())
    session.set_threshold(0.8, "confidence", "me", "")
    panel = session.panel(number)
    assert panel.threshold == pytest.approx(0.8)
    assert session.state.threshold.scale == "decision"
    assert session.state.threshold.value == pytest.approx(np.log(4))
    plain = session.panel(0)
    assert plain.scale == "cosine"
    scores = session.session.learned(0).ranking.scores
    assert plain.low == pytest.approx(scores[-1])
    assert plain.high == pytest.approx(scores[0])


def test_changes_tell_what_the_new_order_would_show(sessions, pool, truth):
    session, _ = started(sessions, pool, truth)
    session._learn()
    number = say(session, view(session, 0, "best")[:30].tolist(), truth)
    session._learn()
    changes = session.changes(0)
    first, then = (set(view(session, at, "best")[:50].tolist()) for at in (0, number))
    assert (changes.new_marks, changes.entered) == (30, len(then - first))
    assert changes.taken == len(session.session.selected(number=number))


def test_sessions_are_listed_renamed_and_duplicated(
    sessions, overview, pool, truth, tmp_path
):
    session, _ = started(sessions, pool, truth)
    name = session.journal.folder.name
    say(session, view(session, 0, "best")[:3].tolist(), truth)
    sessions.rename(name, "rüben <b>")
    copy = sessions.duplicate(name)
    listed = {entry.session: entry for entry in sessions.listed()}
    assert listed[copy].name == "rüben <b> (copy)"
    assert listed[name].relevant + listed[name].not_relevant == 3
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
        LiveSession(overview, session.journal.folder)
    taken = sessions.open(sessions.duplicate(name))
    assert taken.journal.state().marks == session.journal.state().marks
    (sessions.folder / "s20260101-00000000").mkdir()
    (sessions.folder / "s20260101-00000000" / "session.json").write_text("{")
    listed = {entry.session: entry for entry in sessions.listed()}
    assert listed["s20260101-00000000"].error


def test_bad_starts_are_refused(sessions, pool):
    with pytest.raises(ValueError, match="query must hold at least one crop"):
        sessions.create([])
    with pytest.raises(
        ValueError, match="crop must name crops of this embedding set; unknown: 'c0'"
    ):
        sessions.create(["c0"])
    with pytest.raises(ValueError, match="upload must be one that was sent before"):
        sessions.create([], ["u-../../etc"])
    with pytest.raises(ValueError, match="where must be an SQL condition"):
        sessions.create([str(pool.table.ids[0])], pool="1 +")
    with pytest.raises(ValueError, match="pool must leave some crops"):
        sessions.create([str(pool.table.ids[0])], pool="lighting = 'none'")
    for name in ("../x", "s20260101-00000000", ""):
        with pytest.raises(ValueError, match="session must be one of those listed"):
            sessions.open(name)


def test_marks_made_while_a_sample_is_drawn_are_not_in_it(sessions, pool, truth):
    """Ranking takes a while; what others mark meanwhile must not end up in a sample
    that was drawn without knowing.
    """
    session, _ = started(sessions, pool, truth)
    learned, others = session.session.learned, view(session, 0, "best")[:60].tolist()

    def slow(number=None):
        ranked = learned(number)
        if others and not session._acting.locked():
            rows, others[:] = list(others), []
            say(session, rows, truth)
        return ranked

    session.session.learned = slow
    session.draw_audit(100, "me", "")
    state = session.state
    assert len(state.marks) == 60
    assert not set(state.marks) & set(state.audit.rows)
    assert state.audit.ranking == state.learned


def test_a_sample_is_judged_without_score_and_class(sessions, pool, truth):
    session, _ = started(sessions, pool, truth)
    session.draw_audit(10, "me", "")
    blind = answers.crops_of(session, 0, "audit", 0, 50, where="", among="")
    assert [(crop.label, crop.score) for crop in blind.crops] == [("", None)] * 10
    seen = answers.crops_of(session, 0, "best", 0, 50, where="", among="")
    assert all(crop.score is not None for crop in seen.crops)
    assert any(crop.label for crop in seen.crops)
    assert any(crop.sampled for crop in seen.crops) or len(seen.crops) < len(pool)


def test_answers_hold_nothing_that_json_has_no_word_for():
    nan = float("nan")
    facts = answers.CropFacts(
        {"a": nan, "b": "r\udcfcbe"}, 1, 2, [0, 0, 1, 1], [], [0, 0, 1, 1]
    )
    told = json.loads(answers.Answer(facts).body)
    assert told["facts"] == {"a": None, "b": "r?be"}
    assert not answers._says_something(nan)
    assert answers._says_something(0.0)
