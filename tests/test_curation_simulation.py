import numpy as np
import pytest

from curation.pool import Pool
from curation.query import Examples, Query
from curation.session import Session
from curation.simulation import SimulatedAnnotator, measure, simulate
from probe.linear_probe import LinearProbe
from probe.methods import learn_from
from probe.ranking import Ranking
from probe.transforms import TRANSFORMS
from tests.conftest import set_of


def hard(seed=0, count=600, relevant=80, dim=24, distance=2.0):
    rng = np.random.default_rng(seed)
    answers = np.arange(count) < relevant
    vectors = rng.normal(size=(count, dim))
    vectors[answers, :2] += distance / np.sqrt(2)
    return vectors, answers


def play(pool, annotator, query, rounds, per_round, strategy, k):
    return [
        (figures, list(session.marks()))
        for figures, session in simulate(
            pool,
            annotator,
            query,
            rounds=rounds,
            per_round=per_round,
            strategy=strategy,
            k=k,
        )
    ]


def marked(vectors, answers, query, rows, method="logistic"):
    """A session with some rows marked by the truth."""
    pool = Pool(set_of(vectors), transform="l2")
    session = Session(pool, query=Query(Examples((query,))), method=method)
    session.mark({str(pool.ids[row]): bool(answers[row]) for row in rows})
    return session


def test_a_ranking_leaves_the_query_out_and_the_unmarked_one_the_marks():
    vectors, answers = hard()
    rows = [*range(5, 15), *range(300, 330)]
    session = marked(vectors, answers, 3, rows)
    known = [*rows, 3]
    vectors = session.pool.embeddings.vectors
    probe = LinearProbe().fit(vectors[known], answers[known])
    decision = probe.decision_function(vectors)
    order = [row for row in np.argsort(-decision, kind="stable") if row != 3]
    assert session.rank(50).rows.tolist() == order[:50]
    assert session.rank().rows.tolist() == order
    unmarked = [row for row in order if row not in rows]
    assert session.rank(50, unmarked=True).rows.tolist() == unmarked[:50]
    np.testing.assert_allclose(session.rank(50).scores, decision[order[:50]], rtol=1e-5)


def test_a_mark_on_the_query_itself_counts_instead_of_it():
    vectors, _ = hard()
    answers = np.arange(len(vectors)) == 4
    session = marked(vectors, answers, 3, [3, 4, 300])
    vectors = session.pool.embeddings.vectors
    expected = LinearProbe().fit(vectors[[3, 4, 300]], [False, True, False]).coef_
    np.testing.assert_allclose(session.ranker().coef, expected, rtol=1e-4, atol=1e-5)


def test_marking_improves_a_hard_pool_and_figures_are_consistent():
    vectors, answers = hard()
    pool = Pool(set_of(vectors), transform="l2")
    rounds = play(pool, SimulatedAnnotator(answers), 3, 5, 20, "uncertainty", 20)
    first, last = rounds[0][0], rounds[-1][0]
    assert [figures.marks for figures, _ in rounds] == [0, 20, 40, 60, 80, 100]
    assert last.average_precision > first.average_precision + 0.2
    assert last.precision_unmarked > first.precision_unmarked
    assert last.unmarked == 20
    rows = rounds[-1][1]
    assert len(set(rows)) == 100
    assert 3 not in rows
    assert last.found == answers[rows].sum()


def test_the_unmarked_figure_leaves_marked_crops_out():
    # Everything relevant has been marked: nothing is left to find, and the honest
    # figure must say so.
    vectors, answers = hard(relevant=15, distance=12.0)
    pool = Pool(set_of(vectors), transform="l2")
    last = play(pool, SimulatedAnnotator(answers), 0, 2, 20, "top", 10)[-1][0]
    assert last.found == 14
    assert last.precision_all == 1.0
    assert last.precision_unmarked == 0.0


def test_on_a_small_pool_the_unmarked_figure_says_over_how_many_it_is():
    vectors, answers = hard(count=30, relevant=10)
    pool = Pool(set_of(vectors), transform="l2")
    rounds = [
        figures
        for figures, _ in play(pool, SimulatedAnnotator(answers), 0, 3, 10, "mix", 15)
    ]
    assert [figures.marks for figures in rounds] == [0, 10, 20, 29]
    assert [figures.unmarked for figures in rounds] == [15, 15, 9, 0]
    assert rounds[-1].precision_unmarked is None
    assert all(0 <= figures.precision_unmarked <= 1 for figures in rounds[:-1])


def test_useless_embeddings_stay_useless():
    rng = np.random.default_rng(5)
    answers = rng.random(800) < 0.2
    answers[0] = True
    pool = Pool(set_of(rng.normal(size=(800, 16))), transform="l2")
    last = play(pool, SimulatedAnnotator(answers), 0, 3, 20, "uncertainty", 50)[-1][0]
    assert last.precision_unmarked < 0.4


def test_the_same_call_gives_the_same_session():
    vectors, answers = hard()
    pool = Pool(set_of(vectors))
    one, two = (
        play(pool, SimulatedAnnotator(answers), 1, 3, 15, "mix", 10) for _ in range(2)
    )
    assert one == two


def test_label_noise_has_the_stated_rate_and_the_figures_are_by_the_truth():
    vectors, answers = hard(count=4000, relevant=400)
    annotator = SimulatedAnnotator(answers, label_noise=0.05, seed=1)
    given = annotator.answers(np.arange(4000))
    assert 0.03 < np.mean(given != answers) < 0.07
    assert np.array_equal(given[[5, 7]], annotator.answers(np.array([5, 7])))
    pool = Pool(set_of(vectors), transform="l2")
    last, rows = play(pool, annotator, 0, 2, 20, "diverse", 20)[-1]
    assert last.found == answers[rows].sum()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_serves_the_whole_loop(name):
    vectors, answers = hard()
    pool = Pool(set_of(vectors), transform=name)
    last = play(pool, SimulatedAnnotator(answers), 3, 4, 20, "mix", 20)[-1][0]
    assert last.average_precision > 0.5
    index, vectors = pool.index, pool.index.vectors
    ranker = learn_from(
        index, {4: True, 300: False}, examples=vectors[[3]], example_rows=[3]
    )
    expected = index.transform(vectors) @ ranker.coef + ranker.intercept
    np.testing.assert_allclose(index.decision(ranker), expected, atol=1e-4)


def test_the_figures_of_a_ranking_by_hand():
    """Rows 5, 2, 0, 3, 1, 4, of which 5, 0 and 4 are relevant; 5 and 3 are marked."""
    order = np.array([5, 2, 0, 3, 1, 4])
    ranking = Ranking(order, np.linspace(1, 0, 6))
    relevant = np.array([True, False, False, False, True, True])
    found = measure(ranking, relevant, np.array([5, 3]), 2, stop=True)
    assert (found.marks, found.found, found.unmarked, found.stop) == (2, 1, 2, True)
    assert (found.precision_all, found.precision_unmarked) == (0.5, 0.5)
    assert found.r_precision == pytest.approx(2 / 3)
    assert found.average_precision == pytest.approx((1 + 2 / 3 + 3 / 6) / 3)
    # One was found by marking; of the others the first three, 2, 0 and 1, hold one.
    assert found.recall == pytest.approx(2 / 3)
    everything = measure(ranking, relevant, order, 2, stop=False)
    assert (everything.precision_unmarked, everything.unmarked) == (None, 0)
    assert (everything.found, everything.recall) == (3, 1)
    nothing = measure(ranking, np.zeros(6, bool), np.array([], int), 2, stop=False)
    assert np.isnan(
        [nothing.recall, nothing.r_precision, nothing.average_precision]
    ).all()
