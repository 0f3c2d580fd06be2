import numpy as np
import pytest

from probe.choosing import POLICIES, Ranking, choose_marks
from probe.transforms import l2_normalize

SCORES = np.array([3.0, -0.1, 2.0, 0.2, -4.0, 1.0])
NOBODY = np.zeros(6, bool)
UNIT = np.eye(6)


def choose(ranking, closed, count, policy, **options):
    return choose_marks(
        ranking, closed, count, policy, lambda rows: UNIT[rows], **options
    )


def test_what_each_policy_asks_for():
    ranking = Ranking(SCORES, has_boundary=True)
    assert choose(ranking, NOBODY, 3, "top").tolist() == [0, 2, 5]
    assert choose(ranking, NOBODY, 3, "boundary").tolist() == [1, 3, 5]
    # All directions differ alike, so what is most uncertain tells most.
    assert choose(ranking, NOBODY, 3, "diverse").tolist() == [1, 3, 5]
    assert choose(ranking, NOBODY, 4, "mix").tolist() == [1, 3, 5, 2]
    many = np.arange(6).repeat(4)  # marks, of which 2 or 3 are relevant
    assert choose(ranking, NOBODY, 4, "mix", marked=many, relevant=2).tolist()[:2] == [
        0,
        2,
    ]
    rare, common = (
        choose(ranking, NOBODY, 4, policy, marked=many, relevant=3).tolist()
        for policy in ("diverse", "mix")
    )
    assert rare == common


def test_without_a_probe_the_best_are_asked_for():
    ranking = Ranking(SCORES, has_boundary=False)
    for policy in ("top", "boundary"):
        assert sorted(choose(ranking, NOBODY, 3, policy)) == [0, 2, 5]


def test_closed_crops_are_never_asked_for():
    closed = np.array([True, True, False, False, False, False])
    for policy in POLICIES:
        assert sorted(choose(Ranking(SCORES, True), closed, 10, policy)) == [2, 3, 4, 5]


def test_diverse_asks_for_no_near_duplicates():
    rng = np.random.default_rng(0)
    directions = l2_normalize(rng.normal(size=(10, 32)))
    unit = l2_normalize(
        np.repeat(directions, 5, axis=0) + 1e-3 * rng.normal(size=(50, 32))
    )  # ten groups of five
    scores = np.linspace(-0.01, 0.01, 50)
    chosen = choose_marks(
        Ranking(scores, True), np.zeros(50, bool), 8, "diverse", lambda rows: unit[rows]
    )
    assert len(set(chosen // 5)) == 8
    # Nor for what is nearly a crop that is marked already.
    closed = np.arange(50) == 0
    chosen = choose_marks(
        Ranking(scores, True),
        closed,
        9,
        "diverse",
        lambda rows: unit[rows],
        np.array([0]),
    )
    assert 0 not in chosen // 5
    boundary = choose_marks(Ranking(scores, True), np.zeros(50, bool), 8, "boundary")
    assert len(set(boundary // 5)) < 8


def test_random_is_uniform_and_seeded():
    counts = np.zeros(6)
    for seed in range(600):
        counts[choose(Ranking(SCORES, True), NOBODY, 2, "random", seed=seed)] += 1
    assert counts.min() > 150
    one, two = (
        choose(Ranking(SCORES, True), NOBODY, 3, "random", seed=5).tolist()
        for _ in range(2)
    )
    assert one == two


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"policy must be one of mix, .*; got 'luck'"):
        choose(Ranking(SCORES, True), NOBODY, 1, "luck")
    with pytest.raises(ValueError, match="count must be at least 1; got 0"):
        choose(Ranking(SCORES, True), NOBODY, 0, "top")
    with pytest.raises(ValueError, match="unit must be given for the policy mix"):
        choose_marks(Ranking(SCORES, True), NOBODY, 1, "mix")
