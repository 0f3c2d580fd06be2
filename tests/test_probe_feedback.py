import numpy as np
import pytest

from probe.feedback import Ranking, choose_marks, learn, rerank, simulate
from probe.linear_probe import LinearProbe
from probe.search import CosineIndex
from probe.transforms import l2_normalize

SCORES = np.array([3.0, -0.1, 2.0, 0.2, -4.0, 1.0])
NOBODY = np.zeros(6, bool)


def test_what_each_policy_asks_for():
    ranking = Ranking(SCORES, has_boundary=True)
    assert choose_marks(ranking, NOBODY, 3, "top").tolist() == [0, 2, 5]
    assert choose_marks(ranking, NOBODY, 3, "boundary").tolist() == [1, 3, 5]
    assert choose_marks(ranking, NOBODY, 4, "mix").tolist() == [0, 2, 1, 3]


def test_without_a_probe_the_best_are_asked_for():
    ranking = Ranking(SCORES, has_boundary=False)
    for policy in ("top", "boundary", "mix"):
        assert sorted(choose_marks(ranking, NOBODY, 3, policy)) == [0, 2, 5]


def test_marked_crops_are_never_asked_for_again():
    marked = np.array([True, True, False, False, False, False])
    for policy in ("top", "boundary", "mix"):
        chosen = choose_marks(Ranking(SCORES, True), marked, 10, policy)
        assert sorted(chosen) == [2, 3, 4, 5]
    with pytest.raises(ValueError, match="policy must be one of boundary, top, mix; got 'luck'"):
        choose_marks(Ranking(SCORES, True), NOBODY, 1, "luck")
    with pytest.raises(ValueError, match="count must be at least 1; got 0"):
        choose_marks(Ranking(SCORES, True), NOBODY, 0, "top")


def test_the_mean_direction_ranks_until_both_kinds_are_marked():
    vectors = np.random.default_rng(0).normal(size=(4, 5)) * np.array([[1], [10], [0.1], [1]])
    relevant = learn(vectors, np.ones(4, bool))
    assert relevant.probe is None
    expected = l2_normalize(vectors).mean(axis=0)
    np.testing.assert_allclose(relevant.coef, expected / np.linalg.norm(expected), rtol=1e-5)
    both = learn(vectors, np.array([True, True, False, False]))
    assert np.array_equal(both.coef, both.probe.coef_)
    with pytest.raises(ValueError, match="all 4 are not relevant"):
        learn(vectors, np.zeros(4, bool))


def test_rerank_excludes_the_query_and_reports_unmarked_crops_alone():
    vectors, answers = pool()
    index = CosineIndex(vectors, [f"{row:04d}" for row in range(len(vectors))])
    marks = {row: bool(answers[row]) for row in (*range(5, 15), *range(300, 330))}
    ranked = rerank(index, marks, vectors[[3]], [3], 50)
    known = [*marks, 3]
    probe = LinearProbe().fit(vectors[known], answers[known])
    confidence = probe.predict_proba(vectors)[:, 1]
    order = [row for row in np.argsort(-confidence, kind="stable") if row != 3]
    assert ranked.everything.rows.tolist() == order[:50]
    assert ranked.unmarked.rows.tolist() == [row for row in order if row not in marks][:50]
    np.testing.assert_allclose(ranked.everything.scores, confidence[order[:50]], rtol=1e-5)


def test_fewer_unmarked_crops_than_asked_for_are_no_error():
    vectors, answers = pool(count=30, relevant=10)
    index = CosineIndex(vectors, [f"{row:04d}" for row in range(30)])
    for marked, left in ((20, 9), (29, 0)):
        marks = {row: bool(answers[row]) for row in range(1, marked + 1)}
        ranked = rerank(index, marks, vectors[[0]], [0], 15)
        assert (len(ranked.everything.rows), len(ranked.unmarked.rows)) == (15, left)
        assert not set(ranked.unmarked.rows) & set(marks)


def test_a_mark_on_the_query_itself_counts_instead_of_it():
    vectors, _ = pool()
    index = CosineIndex(vectors, [f"{row:04d}" for row in range(len(vectors))])
    marks = {3: False, 4: True, 300: False}
    ranked = rerank(index, marks, vectors[[3]], [3], 5)
    np.testing.assert_allclose(ranked.direction.coef, LinearProbe().fit(vectors[[3, 4, 300]], [False, True, False]).coef_)


def pool(seed=0, count=600, relevant=80, width=24, distance=2.0):
    rng = np.random.default_rng(seed)
    answers = np.arange(count) < relevant
    vectors = rng.normal(size=(count, width))
    vectors[answers, :2] += distance / np.sqrt(2)
    return vectors, answers


def test_marking_improves_a_hard_pool_and_figures_are_consistent():
    vectors, answers = pool()
    rounds = [(figures, rows) for figures, rows, _ in simulate(vectors, answers, 3, 5, 20, "boundary", 20)]
    first, last = rounds[0][0], rounds[-1][0]
    assert [figures.marks for figures, _ in rounds] == [0, 20, 40, 60, 80, 100]
    assert last.average_precision > first.average_precision + 0.2
    assert last.precision_unmarked > first.precision_unmarked
    rows = rounds[-1][1]
    assert len(set(rows)) == 100
    assert 3 not in rows
    assert last.found == answers[rows].sum()


def test_the_unmarked_figure_leaves_marked_crops_out():
    # Everything relevant has been marked: nothing is left to find, and the honest figure must say so.
    vectors, answers = pool(relevant=15, distance=12.0)
    figures = [figures for figures, _, _ in simulate(vectors, answers, 0, 2, 20, "top", 10)]
    assert figures[-1].found == 14
    assert figures[-1].precision_all == 1.0
    assert figures[-1].precision_unmarked == 0.0


def test_useless_embeddings_stay_useless():
    rng = np.random.default_rng(5)
    answers = rng.random(800) < 0.2
    answers[0] = True
    last = list(simulate(rng.normal(size=(800, 16)), answers, 0, 3, 20, "boundary", 50, lambda: LinearProbe(C=10.0)))[-1][0]
    assert last.precision_unmarked < 0.4


def test_the_same_call_gives_the_same_session():
    vectors, answers = pool()
    one, two = (
        [(figures, rows.tolist()) for figures, rows, _ in simulate(vectors, answers, 1, 3, 15, "mix", 10)] for _ in range(2)
    )
    assert one == two
