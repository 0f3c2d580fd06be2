"""What version 0.5.0 wrote opens, ranks and goes on; see files_of_0_5_0/README.md."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from curation.estimate import known_audit
from curation.pool import Pool
from curation.query import query_of_probe
from curation.selection import displayed
from curation.session import Session
from data.embeddings import EmbeddingSet
from probe.marks import Marks
from probe.methods import learn_from
from probe.saved_probe import SavedProbe
from tests.conftest import call

FILES = Path(__file__).parent / "files_of_0_5_0"
NEW_WORDS = {"centre": "center", "pulled": "anchored"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A copy, since opening a set keeps notes in its folder."""
    return shutil.copytree(FILES, tmp_path_factory.mktemp("old") / "files")


@pytest.fixture(scope="module")
def embeddings(files):
    return EmbeddingSet.load(files / "run" / "embeddings", images_root=files / "photos")


@pytest.fixture(scope="module")
def expected():
    return json.loads((FILES / "expected.json").read_text())


def same_but_near_ties(ranking, stated):
    """The ids of 0.5.0 in its order; only what scored alike to its precision may have
    changed places.
    """
    assert len(ranking) == len(stated["ids"])
    now = dict(zip(ranking, range(len(ranking)), strict=True))
    assert set(now) == set(stated["ids"])
    for place, (crop_id, score) in enumerate(
        zip(stated["ids"], stated["scores"], strict=True)
    ):
        other = stated["scores"][now[crop_id]]
        assert now[crop_id] == place or other == pytest.approx(score, abs=2e-6)


@pytest.mark.parametrize("transform", ["l2", "centre"])
def test_rankings_without_marks_are_those_of_0_5_0(embeddings, expected, transform):
    stated = expected[f"cosine_{transform}"]
    pool = Pool(embeddings, transform=NEW_WORDS.get(transform, transform))
    session = Session(pool, query=expected["query"])
    ranking = session.rank()
    assert pool.ids[ranking.rows].tolist() == stated["ids"]
    np.testing.assert_allclose(ranking.scores, stated["scores"], atol=1e-6)


@pytest.mark.parametrize("method", ["auto", "rocchio", "logistic", "pulled"])
@pytest.mark.parametrize("transform", ["l2", "centre", "whiten"])
def test_rankings_with_marks_are_those_of_0_5_0(
    files, embeddings, expected, transform, method
):
    stated = expected["methods"][f"{transform} {method}"]
    pool = Pool(embeddings, transform=NEW_WORDS.get(transform, transform))
    method = NEW_WORDS.get(method, method)
    session = Session(pool, query=expected["query"], method=method)
    assert session.import_marks(files / "marks.csv") == 20
    ranking = session.rank()
    same_but_near_ties(pool.ids[ranking.rows].tolist(), stated)
    scores = displayed(ranking.kind, ranking.scores)
    np.testing.assert_allclose(scores, stated["scores"], atol=2e-5)
    # The same by the library alone.
    row = int(pool.table.rows_of([expected["query"]])[0])
    marks = Marks.read(files / "marks.csv").relevant
    ranker = learn_from(
        pool.index,
        {int(pool.table.row_of(name)): mark for name, mark in marks.items()},
        examples=embeddings.vectors[[row]],
        example_rows=[row],
        method=method,
    )
    np.testing.assert_allclose(ranker.coef, session.ranker().coef)


@pytest.mark.parametrize("name", ["pulled", "logistic", "whiten", "cosine", "audited"])
def test_probes_rank_and_cut_as_they_did(files, embeddings, expected, name):
    stated = expected["probes"][name]
    saved = SavedProbe.load(files / "probes" / name)
    saved.check(embeddings.meta)
    assert saved.ranker.has_boundary == (name != "cosine")
    assert saved.transform.name in ("l2", "center", "whiten")
    pool = Pool(embeddings, transform=saved.transform)
    query = query_of_probe(pool, saved)
    assert [pool.ids[row] for row in query.rows] == [expected["query"]]
    session = Session(pool, query=query, probe=saved)
    ranking = session.rank(40)
    scores = displayed(ranking.kind, ranking.scores)
    same_but_near_ties(pool.ids[ranking.rows].tolist(), stated)
    np.testing.assert_allclose(scores, stated["scores"], atol=2e-5)
    if saved.threshold is not None and "at or above" in stated["title"]:
        above = int(stated["title"].split(": ")[1].split()[0])
        mask = session.searched & (
            session.learned().decision
            >= saved.threshold - pool.index.tolerance(saved.ranker)
        )
        assert mask.sum() == above
    # Saved again it is the same probe.
    saved.save(files / "again")
    again = SavedProbe.load(files / "again")
    assert again.ranker.kind == saved.ranker.kind
    assert again.threshold == saved.threshold
    assert again.marks == saved.marks
    assert again.facts["title"] == saved.facts["title"]


@pytest.mark.parametrize("name", ["audited", "uploaded"])
def test_sessions_open_with_their_marks_answers_and_thresholds(
    files, embeddings, expected, name
):
    stated = expected["sessions"][name]
    pool = Pool(embeddings)
    folder = shutil.copytree(
        files / "sessions" / stated["folder"], files / "opened" / stated["folder"]
    )
    session = Session(pool, folder=folder)
    try:
        assert session.state.marks == stated["marks"]
        assert session.state.answers == stated["answers"]
        number = session.journal.name_of_marks()
        assert number == stated["number"]
        learned = session.learned()
        ids = pool.ids[learned.ranking.rows].tolist()
        same_but_near_ties(ids, stated)
        threshold = session.threshold(learned)
        shown = displayed(learned.kind, threshold)
        assert float(shown) == pytest.approx(stated["threshold"])
        assert set(pool.ids[session.selected()]) == set(stated["selected"])
        estimate = dataclasses.asdict(session.estimate())
        estimate = {key: one for key, one in estimate.items() if one is not None}
        # What 0.5.0 told, and that the pool hasn't grown, as it then couldn't.
        assert estimate.pop("grown_by") == 0
        assert estimate.keys() == stated["estimate"].keys()
        for key, value in stated["estimate"].items():
            assert estimate[key] == pytest.approx(value), key
        probe = session.saved_probe()
        old = SavedProbe.load(files / "probes" / f"session_{name}")
        assert old.threshold == pytest.approx(probe.threshold)
        np.testing.assert_allclose(old.ranker.coef, probe.ranker.coef, atol=1e-6)
        if name == "audited":
            assert known_audit(session) is not None
            assert set(pool.ids[session.selected("marked")]) == set(stated["marked"])
        # It goes on.
        free = next(crop for crop in ids if crop not in session.state.marks)
        if pool.table.row_of(free) not in session.sampled():
            line, _ = session.mark({free: True})
            assert session.state.marks[free]
            assert session.undo() == line + 1
            assert session.state.marks == stated["marks"]
    finally:
        session.close()


RESUMED = (
    "--encoder=tiny",
    "--weights=random",
    "--image_size=32",
    "--batch_size=8",
    '--config={"embed_batch": 8, "checkpoint_minutes": 0, "head_hidden": 8}',
)


def test_an_unfinished_run_goes_on_to_the_same_embeddings(tmp_path):
    """Version 0.5.0 wrote the first epochs, and the embeddings it went on to."""
    run_dir = shutil.copytree(FILES / "unfinished", tmp_path / "run")
    call(
        "run_finetune.py",
        *RESUMED,
        "--epochs=4",
        f"--data={FILES / 'photos'}",
        f"--run_dir={run_dir}",
    )
    found = EmbeddingSet.load(run_dir / "embeddings", images_root=FILES / "photos")
    stated = np.load(FILES / "unfinished_expected.npy")
    np.testing.assert_allclose(found.vectors, stated, atol=1e-5)


def test_a_finished_run_is_not_trained_again(tmp_path):
    run_dir = shutil.copytree(FILES / "run", tmp_path / "run")
    before = (run_dir / "embeddings" / "embeddings.npy").read_bytes()
    said = call(
        "run_finetune.py",
        *RESUMED,
        "--epochs=2",
        f"--data={FILES / 'photos'}",
        f"--run_dir={run_dir}",
    )
    assert "is complete already" in said.stderr
    assert (run_dir / "embeddings" / "embeddings.npy").read_bytes() == before
