import numpy as np
import pytest

from probe.query_strategies import STRATEGIES, suggest
from probe.ranking import Ranking
from probe.transforms import l2_normalize

SCORES = np.array([3.0, -0.1, 2.0, 0.2, -4.0, 1.0])
UNIT = np.eye(6)


def ranking_of(scores, kind="decision", excluded=()):
    order = np.argsort(-scores, kind="stable")
    order = order[~np.isin(order, excluded)]
    return Ranking(
        order, scores[order], kind=kind, excluded=np.array(excluded, np.int64)
    )


def choose(ranking, count, strategy, scores=SCORES, unit=UNIT, **options):
    return suggest(
        ranking,
        scores,
        count,
        strategy=strategy,
        unit_vectors=lambda rows: unit[rows],
        **options,
    )


def test_what_each_strategy_asks_for():
    ranking = ranking_of(SCORES)
    assert choose(ranking, 3, "top").tolist() == [0, 2, 5]
    assert choose(ranking, 3, "uncertainty").tolist() == [1, 3, 5]
    # All directions differ alike, so what is most uncertain tells most.
    assert choose(ranking, 3, "diverse").tolist() == [1, 3, 5]
    assert choose(ranking, 4, "mix").tolist() == [1, 3, 5, 2]
    many = np.arange(6).repeat(4)  # marks, of which 2 or 3 are relevant
    assert choose(ranking, 4, "mix", known=many, relevant=2).tolist()[:2] == [0, 2]
    rare, common = (
        choose(ranking, 4, strategy, known=many, relevant=3).tolist()
        for strategy in ("diverse", "mix")
    )
    assert rare == common


def test_without_a_probe_the_best_are_asked_for():
    ranking = ranking_of(SCORES, "cosine")
    for strategy in ("top", "uncertainty"):
        assert sorted(choose(ranking, 3, strategy)) == [0, 2, 5]


def test_excluded_crops_are_never_asked_for():
    for strategy in STRATEGIES:
        ranking = ranking_of(SCORES, excluded=(0, 1))
        assert sorted(choose(ranking, 10, strategy)) == [2, 3, 4, 5]


def test_diverse_asks_for_no_near_duplicates():
    rng = np.random.default_rng(0)
    directions = l2_normalize(rng.normal(size=(10, 32)))
    # Ten groups of five.
    unit = l2_normalize(
        np.repeat(directions, 5, axis=0) + 1e-3 * rng.normal(size=(50, 32))
    )
    scores = np.linspace(-0.01, 0.01, 50)
    chosen = choose(ranking_of(scores), 8, "diverse", scores, unit)
    assert len(set(chosen // 5)) == 8
    # Nor for what is nearly a crop that is marked already.
    ranking = ranking_of(scores, excluded=(0,))
    chosen = choose(ranking, 9, "diverse", scores, unit, known=np.array([0]))
    assert 0 not in chosen // 5
    uncertain = choose(ranking_of(scores), 8, "uncertainty", scores, unit)
    assert len(set(uncertain // 5)) < 8


def test_with_more_marks_than_dimensions_diverse_asks_for_the_same():
    """Zero columns change no inner product, but which identity is used."""
    rng = np.random.default_rng(1)
    unit = l2_normalize(rng.normal(size=(80, 8)))
    wide = np.concatenate([unit, np.zeros((80, 60))], axis=1)
    scores = rng.normal(size=80)
    known = np.arange(30)
    ranking = ranking_of(scores, excluded=tuple(known))
    few, many = (
        choose(ranking, 12, "diverse", scores, vectors, known=known)
        for vectors in (wide, unit)
    )
    assert few.tolist() == many.tolist()


def test_random_is_uniform_and_seeded():
    counts = np.zeros(6)
    for seed in range(600):
        counts[choose(ranking_of(SCORES), 2, "random", seed=seed)] += 1
    assert counts.min() > 150
    one, two = (
        choose(ranking_of(SCORES), 3, "random", seed=5).tolist() for _ in range(2)
    )
    assert one == two


def test_bad_arguments_are_refused():
    with pytest.raises(
        ValueError, match=r"query_strategy must be one of mix, .*; got 'luck'"
    ):
        choose(ranking_of(SCORES), 1, "luck")
    with pytest.raises(ValueError, match="count must be at least 1; got 0"):
        choose(ranking_of(SCORES), 0, "top")
    with pytest.raises(
        ValueError, match="unit_vectors must be given for the strategies"
    ):
        suggest(ranking_of(SCORES), SCORES, 1, strategy="mix")


@pytest.mark.parametrize(("kind", "asked"), [("decision", [1, 2]), ("cosine", [2, 1])])
def test_what_is_certain_already_tells_little(kind, asked):
    """Row 1 is half known by row 0; of row 2 nothing is known, but the probe is sure
    of it. A query's scores are no such certainty.
    """
    unit = np.array([[1.0, 0, 0], [0.7, np.sqrt(0.51), 0], [0, 0, 1]])
    decision = np.array([0.0, 0.1, 5.0])
    ranking = Ranking(
        np.array([2, 1]), decision[[2, 1]], kind=kind, excluded=np.array([0])
    )
    for count in (1, 2):
        found = suggest(
            ranking,
            decision,
            count,
            strategy="diverse",
            unit_vectors=lambda rows: unit[rows],
            known=np.array([0]),
        )
        assert found.tolist() == asked[:count]
