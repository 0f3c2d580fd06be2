import numpy as np
import pytest

from probe.feedback import Ranking, choose_marks, rank, simulate
from probe.linear_probe import LinearProbe
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


def test_cosine_ranks_until_both_kinds_are_marked():
    unit = l2_normalize(np.random.default_rng(0).normal(size=(30, 4)))
    cosine = rank(unit, unit[0], np.array([0, 1]), np.array([True, True]))
    assert not cosine.has_boundary
    np.testing.assert_allclose(cosine.scores, unit @ unit[0], rtol=1e-6)
    probed = rank(unit, unit[0], np.array([0, 1]), np.array([True, False]))
    assert probed.has_boundary
    assert probed.scores[0] > 0 > probed.scores[1]


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
