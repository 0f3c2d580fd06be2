import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from probe.index import CosineIndex
from probe.linear_probe import C_GRID, DEFAULT_C, LinearProbe, _Marks
from probe.transforms import l2_normalize


def cloud(positives, negatives, width=10, distance=1.5, seed=0):
    rng = np.random.default_rng(seed)
    relevant = np.arange(positives + negatives) < positives
    vectors = rng.normal(size=(len(relevant), width))
    vectors[relevant, 0] += distance
    return vectors, relevant


def loss(probe, vectors, relevant, coef, intercept):
    """Balanced, L2-penalised log loss that logistic regression minimises (Hastie et
    al., section 4.4).
    """
    weights = np.where(
        relevant,
        len(relevant) / (2 * relevant.sum()),
        len(relevant) / (2 * (~relevant).sum()),
    )
    signs = np.where(relevant, 1, -1)
    unit = l2_normalize(vectors, np.float64)
    return (
        probe.C_
        * np.sum(weights * np.log1p(np.exp(-signs * (unit @ coef + intercept))))
        + coef @ coef / 2
    )


def test_the_fit_is_the_minimum_of_the_balanced_loss():
    vectors, relevant = cloud(12, 40)
    probe = LinearProbe(C=3.0).fit(vectors, relevant)
    best = loss(probe, vectors, relevant, probe.coef_, probe.intercept_)
    for place in range(len(probe.coef_)):
        step = np.zeros_like(probe.coef_)
        step[place] = 1e-4
        slope = (
            loss(probe, vectors, relevant, probe.coef_ + step, probe.intercept_)
            - loss(probe, vectors, relevant, probe.coef_ - step, probe.intercept_)
        ) / 2e-4
        assert abs(slope) < 1e-5
    assert loss(probe, vectors, relevant, probe.coef_, probe.intercept_ + 0.05) > best


def test_ranking_by_confidence_is_ranking_by_the_inner_product():
    vectors, relevant = cloud(30, 30)
    pool, _ = cloud(50, 150, seed=1)
    probe = LinearProbe(C=10.0).fit(vectors, relevant)
    hits = CosineIndex(pool, [f"{row:03d}" for row in range(200)]).search_along(
        probe.coef_, 200
    )[0]
    confidence = probe.predict_proba(pool)[:, 1]
    assert hits.rows.tolist() == np.argsort(-confidence, kind="stable").tolist()
    np.testing.assert_allclose(
        hits.scores + probe.intercept_,
        probe.decision_function(pool)[hits.rows],
        rtol=1e-5,
        atol=1e-5,
    )
    assert np.array_equal(probe.predict(pool), confidence > 0.5)


def test_scale_of_the_embeddings_does_not_matter():
    vectors, relevant = cloud(20, 20)
    scales = np.random.default_rng(3).uniform(0.01, 100, (40, 1))
    one, two = (
        LinearProbe(C=1.0).fit(scaled, relevant).coef_
        for scaled in (vectors, vectors * scales)
    )
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


def test_it_generalises_and_chooses_its_penalty_repeatably():
    vectors, relevant = cloud(60, 80)
    test_vectors, test_relevant = cloud(500, 500, seed=9)
    probe = LinearProbe().fit(vectors, relevant)
    assert probe.C_ in C_GRID
    assert (probe.predict(test_vectors) == test_relevant).mean() > 0.7
    assert np.array_equal(probe.coef_, LinearProbe().fit(vectors, relevant).coef_)
    assert LinearProbe().get_params() == {
        "C": None,
        "anchor_strength": 0.0,
        "background_weight": 0.02,
    }


def test_marks_of_the_same_picture_count_twice():
    """Fewer rows than dimensions, and of those some are the same."""
    vectors, relevant = cloud(4, 6, width=30)
    twice = np.concatenate([vectors, vectors[:5]])
    kinds = np.append(relevant, relevant[:5])
    probe = LinearProbe(C=3.0).fit(twice, kinds)
    expected = LogisticRegression(C=3.0, class_weight="balanced", tol=1e-10)
    expected.fit(l2_normalize(twice, np.float64), kinds)
    np.testing.assert_allclose(probe.coef_, expected.coef_[0], rtol=1e-3, atol=1e-5)
    assert np.isfinite(probe.left_out_).all()


def test_few_marks_take_the_default_penalty():
    vectors, relevant = cloud(4, 30)
    assert LinearProbe().fit(vectors, relevant).C_ == DEFAULT_C


@pytest.mark.parametrize(
    ("answer", "kind"), [(True, "relevant"), (False, "not relevant")]
)
def test_marks_of_one_kind_are_refused(answer, kind):
    with pytest.raises(ValueError, match=f"all 6 are {kind}"):
        LinearProbe().fit(np.eye(6), np.full(6, answer))


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"one mark per row; got \(6, 6\) and 5 marks"):
        LinearProbe().fit(np.eye(6), np.ones(5, bool))


@pytest.mark.parametrize(
    ("positives", "width"), [(12, 200), (40, 6)]
)  # fewer marks than dimensions, and more
@pytest.mark.parametrize("C", [1.0, 30.0, 1e5])
def test_equals_scikit_learn(positives, width, C):
    vectors, relevant = cloud(positives, 25, width)
    probe = LinearProbe(C=C).fit(vectors, relevant)
    reference = LogisticRegression(
        C=C,
        class_weight="balanced",
        tol=1e-10,
        max_iter=100_000,
        solver="newton-cholesky",
    )
    reference.fit(l2_normalize(vectors, np.float64), relevant)
    np.testing.assert_allclose(
        probe.coef_,
        reference.coef_[0],
        rtol=1e-4,
        atol=1e-5 * np.abs(probe.coef_).max(),
    )
    np.testing.assert_allclose(
        probe.intercept_, reference.intercept_[0], rtol=1e-4, atol=1e-4
    )


def test_left_out_decisions_are_those_of_refits_without_the_mark():
    vectors, relevant = cloud(20, 30, width=40)
    probe = LinearProbe(C=3.0).fit(vectors, relevant)
    seen = probe.decision_function(vectors)
    unit = l2_normalize(vectors, np.float64)
    weights = np.where(
        relevant, 50 / 40, 50 / 60
    )  # of the whole fit: leaving a mark out changes no other's weight
    for left_out in range(0, 50, 7):
        kept = np.arange(50) != left_out
        model = LogisticRegression(C=3.0, tol=1e-10, solver="newton-cholesky").fit(
            unit[kept], relevant[kept], weights[kept]
        )
        true = model.decision_function(unit[[left_out]])[0]
        assert abs(probe.left_out_[left_out] - true) < 0.1 * abs(seen[left_out] - true)


def test_a_strong_pull_is_the_anchor_and_background_replaces_missing_negatives():
    vectors, relevant = cloud(5, 5, width=30)
    anchor = np.random.default_rng(1).normal(size=30)
    pulled = LinearProbe(C=1.0, anchor_strength=1000.0).fit(
        vectors, relevant, anchor=anchor
    )
    cosine = (
        pulled.coef_ @ anchor / np.linalg.norm(pulled.coef_) / np.linalg.norm(anchor)
    )
    assert cosine > 0.999
    background, _ = cloud(0, 40, width=30, seed=2)
    probe = LinearProbe(C=10.0).fit(
        vectors[:5], np.ones(5, bool), background=background
    )
    assert (
        probe.decision_function(vectors[:5]).mean()
        > probe.decision_function(background).mean()
    )
    assert len(probe.left_out_) == 5
    with pytest.raises(
        ValueError, match="anchor must be given with an anchor_strength of 2"
    ):
        LinearProbe(anchor_strength=2.0).fit(vectors, relevant)


def test_many_marks_are_fitted_once_with_the_penalty_that_a_part_of_them_chose():
    vectors, relevant = cloud(300, 900, width=20, distance=1.0)
    probe = LinearProbe().fit(vectors, relevant)
    # Half of each kind, evenly spaced: 128 of 300 and 128 of 900.
    some = np.append(np.arange(128) * 300 // 128, 300 + np.arange(128) * 900 // 128)
    assert probe.C_ == LinearProbe().fit(vectors[some], relevant[some]).C_
    alone = LinearProbe(C=probe.C_).fit(vectors, relevant)
    np.testing.assert_allclose(probe.coef_, alone.coef_, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(probe.left_out_, alone.left_out_, rtol=1e-4, atol=1e-5)
    assert len(probe.left_out_) == 1200


@pytest.mark.parametrize(
    ("relevant", "others", "taken"),
    [(300, 900, (128, 128)), (900, 100, (156, 100)), (30, 500, (30, 226))],
)
def test_half_of_those_that_choose_are_of_each_kind(relevant, others, taken):
    kinds = np.arange(relevant + others) < relevant
    unit = np.arange(len(kinds))[:, None]
    marks = _Marks(unit, kinds, np.empty((0, 1)), 0.02, np.zeros(1))
    some = marks.some_of_each(256)
    assert (some.relevant.sum(), (~some.relevant).sum()) == taken
    places = [
        np.arange(taken[0]) * relevant // taken[0],
        relevant + np.arange(taken[1]) * others // taken[1],
    ]
    assert some.unit[:, 0].tolist() == np.concatenate(places).tolist()


def test_of_a_rare_kind_all_marks_choose_the_penalty():
    vectors, relevant = cloud(30, 900, width=20)
    probe = LinearProbe().fit(vectors, relevant)
    some = np.append(np.arange(30), 30 + np.arange(226) * 900 // 226)
    assert probe.C_ == LinearProbe().fit(vectors[some], relevant[some]).C_


def test_the_penalty_is_the_one_that_predicts_left_out_marks_best():
    for seed in range(6):
        vectors, relevant = cloud(25, 60, width=15, distance=1.0 + seed / 4, seed=seed)
        weights = np.where(relevant, 85 / 50, 85 / 120)

        def left_out_loss(C, vectors=vectors, relevant=relevant, weights=weights):
            told = LinearProbe(C=C).fit(vectors, relevant).left_out_
            return weights @ np.logaddexp(0, np.where(relevant, -told, told))

        losses = [left_out_loss(C) for C in C_GRID]
        assert C_GRID[np.argmin(losses)] == LinearProbe().fit(vectors, relevant).C_
