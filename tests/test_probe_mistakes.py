import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from curation.mistakes import doubtful_labels, doubtful_marks
from curation.pool import Pool
from curation.query import Examples, Query
from curation.session import Session
from data.embeddings import EmbeddingSet
from probe import mistakes
from probe.mistakes import STRENGTH, contradictions, decisions_of_others
from probe.transforms import l2_normalize


def clouds(counts, seed=0, width=12):
    """Unit vectors around one direction a class, and the class of each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    vectors = rng.normal(size=(len(labels), width))
    vectors[np.arange(len(labels)), labels] += 5
    order = rng.permutation(len(labels))
    return l2_normalize(vectors[order]), labels[order]


def test_wrong_answers_contradict_and_right_ones_do_not():
    vectors, labels = clouds([40, 80])
    relevant = labels == 0
    wrong = np.array([3, 40, 77])
    relevant[wrong] ^= True
    against = contradictions(vectors, relevant)
    assert set(np.argsort(-against)[:3]) == set(wrong)
    assert (against[wrong] > 0).all()
    assert np.mean(np.delete(against, wrong) > 0) < 0.05
    # As a fit without the answer says, in which all others weigh what they did.
    weights = np.where(
        relevant, 120 / (2 * relevant.sum()), 120 / (2 * (~relevant).sum())
    )
    kept = np.arange(120) != wrong[0]
    model = LogisticRegression(C=STRENGTH, tol=1e-8, max_iter=1000)
    model.fit(vectors[kept], relevant[kept], weights[kept])
    told = model.decision_function(vectors[wrong[:1]])[0]
    expected = -told if relevant[wrong[0]] else told
    assert against[wrong[0]] == pytest.approx(expected, rel=0.1)


def test_of_many_rows_a_part_is_fitted_and_the_others_are_judged(monkeypatch):
    vectors, labels = clouds([60, 30, 90])
    names = np.array(["a", "b", "c"])[labels]
    told = [
        decisions_of_others(lambda rows: vectors[rows], names, ["a", "b", "c"]),
    ]
    monkeypatch.setattr(mistakes, "MOST", 100)
    told.append(decisions_of_others(lambda rows: vectors[rows], names, ["a", "b", "c"]))
    for found in told:
        assert (found.argmax(axis=0) == labels).mean() > 0.97
        assert np.isfinite(found).all()
    assert not np.array_equal(*told)
    assert np.corrcoef(told[0][1], told[1][1])[0, 1] > 0.95


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Three classes of which seven crops are called by another's name."""
    from data.crop_table import CropTable

    vectors, labels = clouds([50, 50, 60])
    called = labels.copy()
    wrong = np.arange(0, 70, 10)
    called[wrong] = (called[wrong] + 1) % 3
    count = len(called)
    table = CropTable.from_columns(
        tmp_path_factory.mktemp("images"),
        {
            "image": [f"{row:03d}.png" for row in range(count)],
            "left": [0] * count,
            "top": [0] * count,
            "right": [8] * count,
            "bottom": [8] * count,
            "label": [0] * count,
            "label_name": ["abc"[one] for one in called],
            "session": [""] * count,
            "split": [""] * count,
        },
    )
    folder = tmp_path_factory.mktemp("set") / "set"
    embeddings = EmbeddingSet.from_arrays(
        vectors.astype(np.float32), table, folder=folder
    )
    return Pool(embeddings), labels, called, wrong


def test_labels_that_others_contradict_are_listed_with_what_they_look_like(pool):
    pool, labels, called, wrong = pool
    found = doubtful_labels(pool)
    first = found[: len(wrong)]
    assert {one.row for one in first} == set(wrong)
    for one in first:
        assert (one.label, one.suggested) == (
            "abc"[called[one.row]],
            "abc"[labels[one.row]],
        )
    odds = [one.odds for one in found]
    assert odds == sorted(odds, reverse=True)
    assert odds[-1] > 0
    inside = doubtful_labels(pool, where="label_name <> 'c'")
    assert all(one.label != "c" and one.suggested != "c" for one in inside)
    with pytest.raises(ValueError, match=r"two classes of 3 crops .*; got c"):
        doubtful_labels(pool, where="label_name = 'c'")


def test_marks_that_others_contradict_are_named_for_a_second_look(pool):
    pool, labels, _, _ = pool
    truth = labels == 0
    query = int(np.flatnonzero(truth)[0])
    session = Session(pool, query=Query(Examples((query,))))
    assert session.doubtful() == {}
    rows = [row for row in range(80) if row != query]
    ids = pool.ids
    session.mark({str(ids[row]): bool(truth[row]) for row in rows})
    assert len(session.doubtful()) <= 2
    slips = [rows[7], rows[30], rows[61]]
    session.mark({str(ids[row]): not truth[row] for row in slips})
    found = session.doubtful()
    assert set(list(found)[:3]) == {str(ids[row]) for row in slips}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert list(doubtful_marks(session).values()) == list(found.values())
