"""A session against the library it is thin over, and its estimates against the
truth.
"""

import dataclasses
import json

import numpy as np
import pytest

from curation.estimate import TOP, Estimate, known_audit
from curation.exporting import export
from curation.pool import TRANSFORM, Pool, aligned
from curation.query import Examples, Query, find_query, read_session_folder
from curation.rounds import rounds_of, stop_of
from curation.selection import decision_of, displayed
from curation.session import ASK, Session
from data.embeddings import EmbeddingSet
from data.predictions import with_predictions
from data.where import rows_where
from probe.index import CosineIndex
from probe.methods import learn_from
from probe.saved_probe import SavedProbe
from probe.smoothing import neighbors_of, smooth
from probe.transforms import Transform
from tests.conftest import WISH, read_card


@pytest.fixture(scope="module")
def pool(field_set):
    return Pool(EmbeddingSet.load(field_set))


@pytest.fixture(scope="module")
def truth(pool):
    return rows_where(pool.table, WISH)


@pytest.fixture
def start(pool, truth, tmp_path):
    """Makes a session from the first relevant crop of a part of the pool."""
    opened = []

    def make(where="", folder=None, **options):
        query = int(np.flatnonzero(truth & pool.mask(where))[0])
        query = Query(Examples((query,)))
        session = Session(pool, query=query, where=where, folder=folder, **options)
        opened.append(session)
        return session, query.rows[0]

    yield make
    for session in opened:
        session.close()


def say(session, rows, truth, **where):
    """Marks rows by the truth."""
    ids = session.pool.ids
    answers = {str(ids[row]): bool(truth[row]) for row in rows}
    return session.mark(answers, **where)[0]


def best(session, count=None, number=None):
    ranking = session.learned(number).ranking
    return (ranking if count is None else ranking.page(0, count)).rows


@pytest.mark.parametrize("stated", ["center", "centre", "", "l2"])
def test_a_session_keeps_the_transform_that_it_was_made_with(
    start, pool, tmp_path, stated
):
    """Its thresholds are figures of that one; version 0.5.0 knew `center` alone."""
    session, query = start()
    folder = tmp_path / "session"
    with Session(pool, query=str(pool.ids[query]), folder=folder) as made:
        assert made.pool is pool
        assert made.journal.facts.transform == TRANSFORM == "graph"
    path = folder / "session.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "transform": stated}))
    name = "l2" if stated == "l2" else "center"
    with Session(pool, folder=folder) as opened:
        assert opened.pool.index.transform.name == name
        expected = best(
            Session(Pool(pool.embeddings, transform=name), query=session.query)
        )
        assert best(opened).tolist() == expected.tolist()
        assert best(opened, 50).tolist() != best(session, 50).tolist()


@pytest.mark.parametrize("name", ["graph", "smoothed"])
def test_rankings_are_those_of_the_library(name, pool, truth):
    """With `smoothed`, the default of version 0.11.0, probes learn on vectors as they
    are.
    """
    pool = pool.with_transform(name)
    query = int(np.flatnonzero(truth)[0])
    session = Session(pool, query=Query(Examples((query,))))
    vectors = pool.embeddings.vectors
    transform = Transform.fit("partial", vectors)
    index = CosineIndex(vectors, pool.ids, transform=transform)
    mask = np.arange(len(pool)) != query
    together, means = aligned(pool.embeddings).vectors, np.empty_like(vectors)
    smooth(together, neighbors_of(together), means)
    similar = CosineIndex(means, pool.ids, transform=transform)
    plain = similar.search(means[query], 60, mask=mask)
    assert best(session, 60).tolist() == plain.rows.tolist()
    marked = [*best(session, 25).tolist(), *best(session)[-5:].tolist()]
    number = say(session, marked, truth)
    if name == "graph":
        index, vectors = similar, means
    ranker = learn_from(
        index,
        {row: bool(truth[row]) for row in marked},
        examples=vectors[[query]],
        example_rows=[query],
    )
    expected = index.top(ranker, 60, mask=mask)
    assert best(session, 60).tolist() == expected.rows.tolist()
    assert session.rank(60).rows.tolist() == expected.rows.tolist()
    assert session.rank(60).scores == pytest.approx(expected.scores)
    assert session.learned().kind == session.rank(60).kind == "decision"
    assert len(session.rank()) == len(pool) - 1
    # An earlier ranking can be made again, whatever came after.
    session._learned.clear()
    assert best(session, 60, 0).tolist() == plain.rows.tolist()
    assert session.learned(number).number == number


def test_a_session_on_disk_and_one_in_memory_are_the_same(start, pool, truth, tmp_path):
    memory, _ = start()
    disk, _ = start(folder=tmp_path / "s")
    for session in (memory, disk):
        say(session, best(session, 30), truth)
        session.audit(20)
    assert memory.state.marks == disk.state.marks
    assert memory.state.audit.rows == disk.state.audit.rows
    disk.close()
    again = Session(pool, folder=tmp_path / "s")
    assert again.rank(50).rows.tolist() == memory.rank(50).rows.tolist()
    assert again.query.rows == memory.query.rows
    again.close()
    images = Session(
        pool,
        query=Query(Examples((), pool.embeddings.vectors[[4, 9]])),
        folder=tmp_path / "u",
    )
    first = images.rank(20).rows.tolist()
    images.close()
    reopened = Session(pool, folder=tmp_path / "u")
    assert reopened.rank(20).rows.tolist() == first
    reopened.close()


def test_a_session_of_a_part_of_the_pool_stays_in_it(start, pool, truth):
    session, _ = start("lighting = 'sunny'")
    inside = pool.mask("lighting = 'sunny'")
    order = best(session)
    assert inside[order].all()
    assert len(order) == inside.sum() - 1
    say(session, order[:20], truth)
    assert inside[session.selected()].all()
    assert inside[session.rank(30).rows].all()
    assert inside[pool.rows(session.suggest(30))].all()


def test_suggestions_are_neither_marked_nor_sampled(start, pool, truth):
    session, query = start()
    say(session, best(session, 30), truth)
    session.audit(30)
    asked = pool.rows(session.suggest(ASK))
    assert len(set(asked)) == ASK
    assert not {query, *session.marks(), *session.sampled()} & set(asked)
    for strategy in ("top", "uncertainty", "diverse", "random"):
        assert len(session.suggest(7, strategy=strategy)) == 7
    some = np.zeros(len(pool), bool)
    some[best(session)[40:60]] = True
    assert some[pool.rows(session.suggest(10, among=some))].all()


def test_an_audit_says_what_the_truth_is_within_its_interval(start, pool, truth):
    session, query = start()
    number = say(session, best(session, 40), truth)
    drawn = session.audit(120)
    rows = pool.rows(drawn)
    marked = set(session.marks())
    assert len(set(rows)) == 120
    assert not marked & set(rows)
    assert session.estimate() == Estimate(drawn=120, answered=0)
    say(session, rows[:119], truth, sort="audit")
    assert session.estimate().precision is None  # never from a part of it
    say(session, rows[119:], truth, sort="audit")
    assert session.state.learned == number  # not learned from
    found = session.estimate()
    learned = session.learned()
    others = np.array([row for row in best(session) if row not in marked])
    above = others[learned.decision[others] >= 0]
    assert found.count == len(above)
    assert found.precision.low <= truth[above].mean() <= found.precision.high
    assert found.size.low <= truth.sum() <= found.size.high
    assert found.population == len(pool)
    assert found.rate.estimate == pytest.approx(found.size.estimate / len(pool))
    said = set(rows)
    taken = {query, *(row for row in marked if truth[row])}
    taken |= {row for row in above if row not in said or truth[row]}
    taken |= {row for row in said if truth[row]}  # found below the threshold
    assert set(session.selected().tolist()) == taken
    assert found.taken == len(taken)
    share = truth[list(taken)].mean()
    interval = found.precision_of_taken
    assert interval.low - 1e-9 <= share <= interval.high + 1e-9
    assert found.current
    card = session.card().as_facts()
    assert card["estimates"]["precision"] == dataclasses.asdict(found.precision)
    assert card["answers"] == {
        "relevant": int(truth[rows].sum()),
        "not_relevant": 120 - int(truth[rows].sum()),
    }
    # A slip that is undone changes nothing.
    free = [row for row in best(session).tolist() if row not in said | marked]
    say(session, free[-1:], ~truth)
    assert session.estimate() != found
    session.undo()
    assert session.estimate() == found
    assert session.journal.name_of_marks() == number
    # After more marks it is about the order that they made.
    say(session, pool.rows(session.suggest(10)), truth, sort="ask")
    later = session.estimate()
    assert later.current
    assert later.ranking == session.learned().number > found.ranking
    others = np.array([row for row in best(session) if row not in session.marks()])
    above = others[session.learned().decision[others] >= 0]
    assert later.count == len(above)
    assert later.precision.low <= truth[above].mean() <= later.precision.high
    assert later.size.low <= truth.sum() <= later.size.high
    assert later.taken == len(session.selected())
    with pytest.raises(ValueError, match="belongs to the random sample"):
        say(session, rows[:1], truth)
    card = session.card().as_facts()
    assert card["estimates"]["precision"] == dataclasses.asdict(later.precision)
    learned_line = session.learn_answers()
    # Now it has aged: it is of the order that it was drawn for, and the card says so.
    assert not session.estimate().current
    assert session.estimate().size == found.size
    assert session.card().as_facts()["estimates"]["precision"].startswith("not est")
    assert len(session.journal.state(learned_line).marks) == 40 + 10 + 120
    say(session, rows[:1], truth)
    # An answer that is corrected now is learned from at once, and undone as one.
    first = str(pool.ids[rows[0]])
    session.mark({first: not truth[rows[0]]}, sort="audit")
    assert session.state.marks[first] == session.state.answers[first]
    assert session.state.marks[first] == (not truth[rows[0]])
    session.undo()
    assert session.state.marks[first] == session.state.answers[first] == truth[rows[0]]


def test_an_audit_of_everything_is_the_truth_whatever_was_marked(start, pool, truth):
    """With every crop known, no interval is left, and the rate is over all crops of the
    session, marked as not relevant and the query too.
    """
    condition = "label_name = 'Red-root amaranth' OR species = 'Sugar beet'"
    session, _ = start(condition)
    inside = pool.mask(condition)
    say(session, best(session)[-15:], truth)
    rows = pool.rows(session.audit(1000))
    say(session, rows, truth, sort="audit")
    found = session.estimate(threshold=-1e9)
    assert found.population == inside.sum()
    share = truth[inside].mean()
    rate = dataclasses.asdict(found.rate)
    assert rate == pytest.approx({"estimate": share, "low": share, "high": share})
    assert found.size.low == found.size.high == truth[inside].sum()


def test_an_audits_sample_depends_on_the_seed_and_how_many_were_drawn(start, truth):
    """Not on how a browser happened to send the marks."""
    one, _ = start()
    rows = best(one, 30)
    say(one, rows, truth)
    two, _ = start()
    for row in rows:
        say(two, [row], truth)
    other, _ = start(seed=1)
    say(other, rows, truth)
    drawn = one.audit(40)
    assert drawn == two.audit(40)
    assert drawn != other.audit(40)
    say(one, one.pool.rows(drawn), truth, sort="audit")
    again = one.audit(40)
    assert not set(again) & set(drawn)  # what was answered is known, and not asked
    answered = one.pool.rows(drawn)
    assert one.answers() == {row: bool(truth[row]) for row in answered}
    assert set(np.flatnonzero(truth)) & set(answered) <= set(one.selected().tolist())
    # Nothing in the order tells the score.
    learned = one.learned()
    scores = learned.decision[one.pool.rows(drawn)]
    assert abs(np.corrcoef(scores, np.arange(len(scores)))[0, 1]) < 0.5


def test_sampled_crops_are_left_out_of_a_batch(start, pool, truth):
    session, _ = start()
    held = pool.rows(session.audit(30))[:2]
    free = [row for row in best(session, 40) if row not in session.sampled()][:3]
    ids = pool.ids
    _, left_out = session.mark({str(ids[row]): True for row in [*held, *free]})
    assert left_out == [str(ids[row]) for row in held]
    assert set(session.state.marks) == {str(ids[row]) for row in free}
    say(session, held, truth, sort="audit")
    session.audit(30)
    # Answers to the sample before can't be seen: the marks are what is undone.
    session.undo()
    assert session.state.marks == {}


def test_redo_is_refused_where_a_sample_was_drawn_since(start, pool, truth):
    session, _ = start()
    say(session, best(session, 20), truth)
    session.undo()
    session.audit(len(pool))
    with pytest.raises(ValueError, match="those marks can't be brought back"):
        session.redo()


def test_marks_and_answers_overrule_the_threshold(start, pool, truth, tmp_path):
    session, query = start()
    order = best(session)
    say(session, [*order[:60], *order[-10:]], truth)
    ids, order = pool.ids, best(session)
    session.mark({str(ids[order[0]]): False, str(ids[order[-1]]): True})
    chosen = set(session.selected().tolist())
    assert order[0] not in chosen
    assert {order[-1], query} <= chosen
    relevant = {row for row, answer in session.marks().items() if answer}
    assert set(session.selected("marked").tolist()) == relevant | {query}
    session.set_threshold(decision_of("decision", 0.8))
    fewer = session.selected()
    free = [row for row in fewer if row not in session.marks() and row != query]
    learned = session.learned()
    assert (displayed("decision", learned.decision[free]) >= 0.8 - 1e-6).all()
    report = export(
        session.select(class_name="beet"),
        format="csv",
        folder=tmp_path / "csv",
        card=session.card(),
    )
    assert report.left_out() == []
    card = read_card(tmp_path / "csv")
    assert card["crops"] == len(fewer)
    assert card["threshold"]["scale"] == "decision"
    assert card["threshold"]["value"] == pytest.approx(np.log(4))
    assert card["threshold"]["confidence"] == pytest.approx(0.8)
    # A threshold on confidences isn't one on cosines.
    plain = session.learned(0)
    assert session.threshold(plain) == plain.ranking.page(0, TOP).scores[-1]


def test_the_probe_of_a_session_makes_the_same_class_as_a_file(
    start, pool, truth, tmp_path
):
    session, query = start()
    say(session, best(session, 30), truth)
    drawn = session.audit(60)
    say(session, pool.rows(drawn), truth, sort="audit")
    session.set_threshold(decision_of("decision", 0.7))
    session.saved_probe().save(tmp_path / "probe")
    saved = SavedProbe.load(tmp_path / "probe")
    assert saved.threshold == pytest.approx(decision_of("decision", 0.7))
    assert saved.queries == (str(pool.ids[query]),)
    fixed = Session(
        Pool(pool.embeddings, transform=saved.transform),
        query=saved.queries,
        probe=saved,
    )
    assert fixed.selected().tolist() == session.selected().tolist()
    assert fixed.rank(90).rows.tolist() == session.rank(90).rows.tolist()
    # Nothing that is marked on it changes what it ranks by.
    say(fixed, best(fixed)[-5:], ~truth)
    assert fixed.rank(90).rows.tolist() == session.rank(90).rows.tolist()
    foreign = dataclasses.replace(saved, identity={"encoder_hash": "x"})
    with pytest.raises(ValueError, match="of the same encoder and recipe"):
        Session(pool, probe=foreign)


def test_rounds_and_the_stop_signal(start, pool, truth):
    session, _ = start()
    assert rounds_of(session) == []
    signals = []
    for _ in range(8):
        asked = pool.rows(session.suggest(20))
        number = say(session, asked, truth, sort="ask")
        session.journal.add("shown", "", ranking=number)
        stop = stop_of(session)
        signals.append(stop.signal)
        assert stop.rounds == len(signals)
    assert signals[0] is False
    assert rounds_of(session) == []  # nothing was marked under "best"
    top = [row for row in best(session) if row not in session.marks()][:10]
    say(session, top, truth, ranking=number)
    (found,) = rounds_of(session)
    assert found.marked == 10
    assert found.relevant == truth[top].sum()
    session.undo()
    assert rounds_of(session) == []


def test_slips_put_right_count_once(start, truth):
    session, _ = start()
    rows = best(session, 10)
    say(session, rows, ~truth)
    say(session, rows, truth)
    assert rounds_of(session)[0].relevant == truth[rows].sum()
    for step in (session.undo, session.undo, session.redo, session.undo):
        step()
    assert rounds_of(session) == []


def test_all_marked_as_not_relevant_still_ranks(start, pool):
    session, query = start()
    session.mark({str(pool.ids[query]): False})
    learned = session.learned()
    assert learned.kind == "cosine"
    assert "marks must hold" in learned.ranker.reason


def test_negative_examples_work_alone_and_beside_marks(start, pool, truth):
    beets, others = np.flatnonzero(truth), np.flatnonzero(~truth)
    query = find_query(pool, [pool.ids[beets[0]]], [pool.ids[others[3]]])
    session = Session(pool, query=query)
    assert session.learned().ranker.method == "rocchio"
    assert {beets[0], others[3]}.isdisjoint(best(session).tolist())
    unit = pool.index.unit_vectors([beets[0], others[3]], np.float64)
    np.testing.assert_allclose(session.ranker().coef, unit[0] - unit[1] / 2, atol=1e-6)
    say(session, best(session, 20), truth)
    assert session.learned().kind == "decision"
    alone = Session(pool, query=Query(query.examples))
    say(alone, list(session.marks()), truth)
    # It counts as one more crop that isn't relevant.
    told = learn_from(
        pool.index,
        session.marks() | {int(others[3]): False},
        examples=session.query.examples.vectors(session.pool),
        example_rows=query.examples.rows,
    )
    assert told.method == session.ranker().method
    assert (
        np.abs(session.ranker().coef - told.coef).max()
        < np.abs(alone.ranker().coef - told.coef).max()
    )


def test_marks_of_a_csv_are_merged_or_start_anew(start, pool, truth, tmp_path):
    session, _ = start()
    rows = best(session, 6).tolist()
    say(session, rows[:4], truth)
    path = tmp_path / "marks.csv"
    lines = [f"{pool.ids[row]},{int(not truth[row])}" for row in rows[2:]]
    path.write_text("\n".join(["crop_id,relevant", *lines]))
    assert session.import_marks(path) == 4
    expected = {row: bool(truth[row]) for row in rows[:2]}
    expected |= {row: not truth[row] for row in rows[2:]}
    assert session.marks() == expected
    session.import_marks(path, replace=True)
    assert session.marks() == {row: not truth[row] for row in rows[2:]}
    session.undo()
    assert session.marks() == expected
    path.write_text("crop_id,relevant\nnobody,1\n")
    with pytest.raises(ValueError, match=r"marks must name crops .* unknown: 'nobody'"):
        session.import_marks(path)


def test_ids_of_version_0_5_0_are_understood(start, pool, truth):
    """The sample field's images lie in images/, so its ids have changed."""
    old, new = pool.table.column("crop_id_v1"), pool.ids
    assert (old != new).all()
    session, _ = start()
    session.mark({old[5]: True, old[9]: False})
    assert session.marks() == {5: True, 9: False}
    assert Session(pool, query=old[3]).query.rows == [3]
    assert find_query(pool, new[3]).rows == [3]


def test_a_session_about_predictions_opens_with_them_alone(pool, truth, tmp_path):
    path = tmp_path / "p.csv"
    lines = [
        f"{crop_id},{'Maize' if row % 3 else ''}"
        for row, crop_id in enumerate(pool.ids)
    ]
    path.write_text("\n".join(["crop_id,predicted", *lines]))
    table = with_predictions(pool.table, path)
    named = Pool(dataclasses.replace(pool.embeddings, table=table))
    session = Session(
        named, query=pool.ids[1], where="predicted = 'Maize'", folder=tmp_path / "s"
    )
    session.close()
    with pytest.raises(ValueError, match="start the program with --predictions"):
        Session(pool, folder=tmp_path / "s")
    path.write_text("\n".join(["crop_id,predicted", *lines[:50]]))
    other = Pool(
        dataclasses.replace(pool.embeddings, table=with_predictions(pool.table, path))
    )
    with pytest.raises(ValueError, match="its condition means other crops"):
        Session(other, folder=tmp_path / "s")
    again = Session(named, folder=tmp_path / "s")
    assert again.members.sum() == (table.column("predicted") == "Maize").sum()
    again.close()


def test_a_session_needs_something_to_look_for(pool):
    with pytest.raises(ValueError, match="query must be given"):
        Session(pool).rank()


def test_a_journal_of_thousands_of_lines_is_not_replayed_for_each_look(
    start, pool, truth, monkeypatch
):
    """Only what was undone needs a second reading."""
    import curation.journal as module

    session, _ = start()
    calls = []
    real = module.replay
    monkeypatch.setattr(module, "replay", lambda *told: calls.append(1) or real(*told))
    for row in best(session)[:200].tolist():
        say(session, [row], truth)
    for _ in range(50):
        session.learned()
        session.selected()
        stop_of(session)
    assert len(calls) <= 5
    session.undo()
    assert len(session.state.marks) == 199
    assert session.state == real(session.journal.lines)


@pytest.mark.parametrize("mark", ["yes", 2, 1, 0.0])
def test_a_mark_is_true_false_or_none(start, pool, mark):
    session, row = start()
    crop = str(pool.ids[row - 1])
    with pytest.raises(ValueError, match="a mark must be True, False or None; got"):
        session.mark({crop: mark})
    assert not session.state.marks


@pytest.mark.parametrize("k", ["3", 0, -1, 2.5])
def test_the_number_of_results_is_checked(start, k):
    with pytest.raises(ValueError, match="k must be"):
        start()[0].rank(k)


def test_a_ranking_shows_its_best(start):
    ranking = start()[0].rank(5)
    first = f"{ranking.rows[0]}: {ranking.scores[0]:.4f}"
    assert f"<Ranking of 5 rows by cosine, best first: {first}" in repr(ranking)


def test_a_probe_takes_its_audit_along(start, pool, truth, tmp_path):
    session, _ = start(class_name="young beet")
    say(session, best(session, 30), truth)
    say(session, pool.rows(session.audit(60)), truth, sort="audit")
    session.saved_probe().save(tmp_path / "probe")
    saved = SavedProbe.load(tmp_path / "probe")
    stated = session.card().as_facts()["estimates"]
    again = Session(pool, probe=saved, class_name="young beet")
    assert again.selected().tolist() == session.selected().tolist()
    told = again.card().as_facts()["estimates"]
    assert {name: told[name] for name in stated} == stated
    # Of another part of the pool it says nothing.
    part = Session(pool, probe=saved, class_name="b", where="box_width > 20")
    assert str(part.card().as_facts()["estimates"]["precision"]).startswith("not est")


def test_a_session_is_let_go_at_the_end_of_with(pool, truth, tmp_path):
    query = str(pool.ids[int(np.flatnonzero(truth)[0])])
    with Session(pool, query=query, folder=tmp_path / "s") as session:
        session.mark({str(pool.ids[0]): True})
        assert "1 relevant and 0 not relevant marks" in repr(session)
    with pytest.raises(RuntimeError, match="is closed"):
        session.mark({str(pool.ids[1]): True})
    assert len(session.rank(5)) == 5  # it can be read on


def test_what_a_notebook_shows_fits_a_line(start, pool):
    session, _ = start(class_name="beet")
    shown = (pool, pool.embeddings, pool.table, session, session.estimate())
    shown += (session.card(), session.saved_probe(), session.select())
    for one in shown:
        assert len(repr(one)) < 200, repr(one)
        assert repr(one).startswith(type(one).__name__)
    assert repr(session.estimate()) == "Estimate(drawn=0, answered=0)"


def test_sampled_crops_that_marking_passed_over_are_known(start, pool, truth):
    """They stand among marked crops of the list, and would have been marked."""
    session, _ = start()
    say(session, best(session, 30), truth)
    drawn = pool.rows(session.audit(120, drawn_by="uniform"))
    say(session, drawn, truth, sort="audit")
    order = best(session)
    free = [row for row in order.tolist() if row not in {*drawn, *session.marks()}]
    marked = free[:40]
    say(session, marked, truth)
    last = order.tolist().index(marked[-1])
    inside = {row for row in order[:last].tolist() if row in drawn}
    edge = {row for row in order[last + 1 :].tolist()[:1] if row in drawn}
    passed = set(pool.rows(sorted(session.state.passed)))
    assert inside
    assert inside <= passed <= inside | edge
    learned = session.learned()
    threshold = float(np.quantile(learned.decision, 0.6))
    found = session.estimate(threshold=threshold)
    others = [row for row in learned.ranking.rows.tolist() if row not in passed]
    others = np.array([row for row in others if row not in session.marks()])
    above = others[learned.decision[others] >= threshold]
    assert found.count == len(above) > 20
    assert found.precision.low <= truth[above].mean() <= found.precision.high
    assert found.size.low <= truth.sum() <= found.size.high
    session.undo()
    assert session.state.passed == set()


def test_marks_mended_after_a_draw_count_as_mended(start, pool, truth):
    """The class is as large as where they were right from the start; what is taken back
    is not known any more.
    """
    rows = np.flatnonzero(~truth)[:40].tolist()
    mended, right = start()[0], start()[0]
    say(mended, rows, ~truth)
    say(right, rows, truth)
    sizes = []
    for session in (mended, right):
        drawn = pool.rows(session.audit(100, drawn_by="uniform"))
        say(session, drawn, truth, sort="audit")
        sizes.append(session.estimate().size)
    assert sizes[0].estimate == sizes[1].estimate + 40
    say(mended, rows, truth)
    assert mended.estimate().size == sizes[1]
    ids = [str(one) for one in pool.ids[rows]]
    mended.mark(dict.fromkeys(ids))
    found = mended.estimate().size
    assert found.low == sizes[1].low
    assert found.high >= sizes[1].high + 30


def test_examples_change_and_rankings_with_them(pool, truth, tmp_path):
    beets = np.flatnonzero(truth)
    session = Session(pool, query=str(pool.ids[beets[0]]), folder=tmp_path / "s")
    vectors = {
        "u-0": pool.embeddings.vectors[beets[3]],
        "u-1": -np.ones(pool.index.dim),
    }
    for name, vector in vectors.items():
        np.save(tmp_path / "s" / f"{name}.npy", vector.astype(np.float32))
    first = session.learned().ranker.coef
    number = session.change_examples({"u-0": True}, "me")
    assert session.journal.name_of_marks() == number
    np.testing.assert_allclose(
        session.learned().ranker.coef,
        Session(pool, query=Query(Examples((beets[0],), vectors["u-0"][None])))
        .ranker()
        .coef,
        atol=1e-6,
    )
    session.change_examples({"u-1": False}, "me")
    assert session.query_of().negatives.outside.shape == (1, pool.index.dim)
    assert session.uploads() == ["u-0"]
    stored = read_session_folder(pool, tmp_path / "s").query
    np.testing.assert_array_equal(
        stored.examples.outside, session.query_of().examples.outside
    )
    np.testing.assert_array_equal(
        stored.negatives.outside, session.query_of().negatives.outside
    )
    for _ in range(2):
        session.undo("me")
    assert session.uploads() == []
    np.testing.assert_array_equal(session.learned().ranker.coef, first)
    with pytest.raises(ValueError, match="upload must lie in the session's folder"):
        session.change_examples({"u-2": True})
    session.close()


def test_the_last_example_stays(pool, tmp_path):
    vector = pool.embeddings.vectors[:1].astype(np.float32)
    query = Query(Examples((), vector))
    session = Session(pool, query=query, folder=tmp_path / "s")
    (name,) = session.uploads()
    with pytest.raises(ValueError, match="the last example can't be taken off"):
        session.change_examples({name: None})
    session.mark({str(pool.ids[5]): True})
    session.change_examples({name: None})
    assert len(session.query_of().examples) == 0
    session.close()


def test_who_said_what_is_told_apart(pool):
    session = Session(pool, query=str(pool.ids[0]))
    one, other = str(pool.ids[4]), str(pool.ids[5])
    session.journal.name_person("tab a", "Anna")
    session.journal.name_person("tab b", "Ben")
    session.mark({one: True, other: True}, "tab a")
    seen = {one: None, other: True}
    changes = {one: False, other: False}
    assert session.disputed(changes, seen, "tab b") == {one: True}
    assert session.disputed(changes, seen, "tab a") == {}  # one's own
    assert session.disputed(changes, {}, "tab b") == {}  # nothing is said of it
    assert session.disputed({one: True}, seen, "tab b") == {}  # they agree
    session.journal.add("conflict", "tab b", marks={one: False})
    assert session.state.marks[one] is True
    assert session.state.conflicts == [one]
    session.mark({one: False}, "tab b")
    assert session.state.writers[one].person == "Ben"
    assert session.state.conflicts == [one]  # Anna still says otherwise
    session.mark({one: False}, "tab a")
    assert session.state.conflicts == []
    session.mark({one: None}, "tab a")
    session.mark({one: True}, "tab c")  # a nameless one
    assert session.state.conflicts == [one]  # Ben still says otherwise
    session.undo("tab c")
    assert session.state.conflicts == []


def test_a_threshold_for_a_precision_is_that_of_the_audit_s_cut(pool, truth):
    session = Session(pool, query=str(pool.ids[np.flatnonzero(truth)[0]]))
    say(session, best(session, 30), truth)
    assert session.threshold_for(0.3) is None  # nothing is known
    asked = session.audit(60)
    session.answer({one: bool(truth[pool.table.row_of(one)]) for one in asked})
    audit, judged = known_audit(session, session.learned())
    for target in (0.05, 0.3, 1.0):
        count = audit.pick(target)
        found = session.threshold_for(target)
        if not count:
            assert found is None
            continue
        assert found == judged.decision[audit.order[count - 1]]
        assert session.estimate(threshold=found).count == count
        assert session.estimate(threshold=found).precision.estimate >= target
    session.learn_answers()
    assert session.threshold_for(0.05) is None  # it is of the order before
