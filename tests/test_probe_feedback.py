import numpy as np

from probe.feedback import Person, learn_from, rerank, simulate
from probe.linear_probe import LinearProbe
from probe.search import CosineIndex
from probe.transforms import Transform


def index_of(vectors, transform=None):
    return CosineIndex(
        vectors, [f"{row:04d}" for row in range(len(vectors))], transform
    )


def test_rerank_excludes_the_query_and_reports_unmarked_crops_alone():
    vectors, answers = pool()
    index = index_of(vectors)
    marks = {row: bool(answers[row]) for row in (*range(5, 15), *range(300, 330))}
    ranked = rerank(index, marks, vectors[[3]], [3], 50, method="logistic")
    known = [*marks, 3]
    probe = LinearProbe().fit(vectors[known], answers[known])
    confidence = probe.predict_proba(vectors)[:, 1]
    order = [row for row in np.argsort(-confidence, kind="stable") if row != 3]
    assert ranked.everything.rows.tolist() == order[:50]
    assert (
        ranked.unmarked.rows.tolist() == [row for row in order if row not in marks][:50]
    )
    np.testing.assert_allclose(
        ranked.everything.scores, confidence[order[:50]], rtol=1e-5
    )


def test_fewer_unmarked_crops_than_asked_for_are_no_error():
    vectors, answers = pool(count=30, relevant=10)
    index = index_of(vectors)
    for marked, left in ((20, 9), (29, 0)):
        marks = {row: bool(answers[row]) for row in range(1, marked + 1)}
        ranked = rerank(index, marks, vectors[[0]], [0], 15)
        assert (len(ranked.everything.rows), len(ranked.unmarked.rows)) == (15, left)
        assert not set(ranked.unmarked.rows) & set(marks)


def test_a_mark_on_the_query_itself_counts_instead_of_it():
    vectors, _ = pool()
    index = index_of(vectors)
    marks = {3: False, 4: True, 300: False}
    ranked = rerank(index, marks, vectors[[3]], [3], 5, method="logistic")
    expected = LinearProbe().fit(vectors[[3, 4, 300]], [False, True, False]).coef_
    np.testing.assert_allclose(ranked.direction.coef, expected, rtol=1e-4, atol=1e-5)


def pool(seed=0, count=600, relevant=80, width=24, distance=2.0):
    rng = np.random.default_rng(seed)
    answers = np.arange(count) < relevant
    vectors = rng.normal(size=(count, width))
    vectors[answers, :2] += distance / np.sqrt(2)
    return vectors, answers


def test_marking_improves_a_hard_pool_and_figures_are_consistent():
    vectors, answers = pool()
    rounds = [
        (figures, rows)
        for figures, rows, _ in simulate(
            index_of(vectors), Person(answers), 3, 5, 20, "boundary", 20
        )
    ]
    first, last = rounds[0][0], rounds[-1][0]
    assert [figures.marks for figures, _ in rounds] == [0, 20, 40, 60, 80, 100]
    assert last.average_precision > first.average_precision + 0.2
    assert last.precision_unmarked > first.precision_unmarked
    rows = rounds[-1][1]
    assert len(set(rows)) == 100
    assert 3 not in rows
    assert last.found == answers[rows].sum()


def test_the_unmarked_figure_leaves_marked_crops_out():
    # Everything relevant has been marked: nothing is left to find, and the honest
    # figure must say so.
    vectors, answers = pool(relevant=15, distance=12.0)
    figures = [
        figures
        for figures, _, _ in simulate(
            index_of(vectors), Person(answers), 0, 2, 20, "top", 10
        )
    ]
    assert figures[-1].found == 14
    assert figures[-1].precision_all == 1.0
    assert figures[-1].precision_unmarked == 0.0


def test_useless_embeddings_stay_useless():
    rng = np.random.default_rng(5)
    answers = rng.random(800) < 0.2
    answers[0] = True
    last = list(
        simulate(
            index_of(rng.normal(size=(800, 16))),
            Person(answers),
            0,
            3,
            20,
            "boundary",
            50,
        )
    )[-1][0]
    assert last.precision_unmarked < 0.4


def test_the_same_call_gives_the_same_session():
    vectors, answers = pool()
    one, two = (
        [
            (figures, rows.tolist())
            for figures, rows, _ in simulate(
                index_of(vectors), Person(answers), 1, 3, 15, "mix", 10
            )
        ]
        for _ in range(2)
    )
    assert one == two


def test_a_person_who_errs_errs_at_the_stated_rate_and_the_figures_are_by_the_truth():
    vectors, answers = pool(count=4000, relevant=400)
    person = Person(answers, wrong=0.05, seed=1)
    given = person.answers(np.arange(4000))
    assert 0.03 < np.mean(given != answers) < 0.07
    assert np.array_equal(given[[5, 7]], person.answers(np.array([5, 7])))
    *_, (last, rows, _) = simulate(index_of(vectors), person, 0, 2, 20, "diverse", 20)
    assert last.found == answers[rows].sum()


def test_every_transform_serves_the_whole_loop():
    vectors, answers = pool()
    for name in ("l2", "centre", "whiten"):
        index = index_of(vectors, Transform.fit(name, vectors, width=10))
        *_, (last, _, _) = simulate(index, Person(answers), 3, 4, 20, "mix", 20)
        assert last.average_precision > 0.5
        direction = learn_from(index, {4: True, 300: False}, vectors[[3]], [3])
        expected = index.transform(vectors) @ direction.coef
        np.testing.assert_allclose(index.scores(direction.coef)[0], expected, atol=1e-4)
