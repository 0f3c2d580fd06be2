"""A pile that grows: marks, sessions, probes and audits go on."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

from curation.classes import Classes
from curation.pool import Pool, newest
from curation.session import Session
from data.embedding_writer import EmbeddingWriter, grown
from data.embeddings import EmbeddingSet
from probe.saved_probe import SavedProbe
from tests.conftest import call, failure
from tests.test_data_embedding_writer import IDENTITY, table_of

WIDTH, FIRST, ALL = 8, 160, 240


@pytest.fixture(scope="module")
def crops():
    """Crops of two classes, and their vectors by id."""
    rng = np.random.default_rng(0)
    names = [f"{row:04d}.png" for row in rng.permutation(ALL)]
    table = table_of(names, ["beet" if row % 3 == 0 else "maize" for row in range(ALL)])
    centers = {"beet": rng.normal(size=WIDTH), "maize": rng.normal(size=WIDTH)}
    vectors = {
        crop: centers[label] + rng.normal(0, 0.8, WIDTH)
        for crop, label in zip(table.ids, table.column("label_name"), strict=True)
    }
    return table, vectors


def write(folder, table, vectors, grows=None, source=None):
    writer = EmbeddingWriter(folder, table, WIDTH, IDENTITY)
    rows = np.stack([vectors[crop] for crop in table.ids]).astype(np.float32)
    writer.append(rows, np.ones(len(rows), bool))
    meta = {"encoder": "tiny", "weights": "random"}
    return writer.finish(meta, grows=grows, source=source)


@pytest.fixture
def pile(tmp_path, crops):
    """A set of the first crops, and what makes it grow."""
    table, vectors = crops
    rng = np.random.default_rng(1)
    chosen = np.sort(rng.permutation(ALL)[:FIRST])
    first = write(tmp_path / "set", table.take(chosen), vectors)

    def grow():
        there, new = grown(tmp_path / "set", table, IDENTITY)
        return write(tmp_path / "set", new, vectors, grows=there, source=table)

    return first, grow


def answer(session, ids):
    names = session.pool.table.column("label_name")
    rows = session.pool.table.rows_of(ids, "crops")
    return {
        crop: bool(names[row] == "beet") for crop, row in zip(ids, rows, strict=True)
    }


def marked(pool, folder):
    beets = np.flatnonzero(pool.table.column("label_name") == "beet")
    session = Session(pool, query=str(pool.ids[beets[0]]), folder=folder)
    for _ in range(3):
        ids = [str(pool.ids[row]) for row in session.rank(12, unmarked=True).rows]
        session.mark(answer(session, ids))
    return session


def test_marks_and_audits_go_on(pile, tmp_path):
    first, grow = pile
    pool = Pool(first)
    session = marked(pool, tmp_path / "session")
    ids = session.audit(40)
    session.mark(answer(session, ids), sort="audit")
    before = session.estimate()
    assert before.size is not None
    assert before.grown_by == 0
    listed = [str(pool.ids[row]) for row in session.rank(20).rows]
    session.close()

    larger = Pool(grow())
    with Session(larger, folder=tmp_path / "session") as again:
        assert len(again.marks()) == 36
        # It searches what has come, too.
        assert int(again.searched.sum()) == ALL - 1
        ranked = [str(larger.ids[row]) for row in again.rank(ALL - 1).rows]
        assert set(ranked) > set(listed)
        # The audit says what it said, of the pool as it was.
        now = again.estimate()
        assert now.grown_by == ALL - FIRST
        assert dataclasses.replace(now, grown_by=0) == before
        assert "grown_by=80" in repr(now)
        assert now.for_card() is None
        # A new one is of all.
        ids = again.audit(40)
        again.mark(answer(again, ids), sort="audit")
        fresh = again.estimate()
        assert fresh.grown_by == 0
        assert fresh.population == ALL
        truth = int((larger.table.column("label_name") == "beet").sum())
        assert fresh.size.low <= truth <= fresh.size.high


def test_a_session_in_memory_of_a_condition_goes_on(pile, tmp_path):
    first, grow = pile
    beet = str(first.ids[0])
    with Session(
        Pool(first), query=beet, where="label_name <> ''", folder=tmp_path / "session"
    ):
        pass
    with Session(Pool(grow()), folder=tmp_path / "session") as again:
        assert int(again.members.sum()) == ALL
    other = json.loads((tmp_path / "session" / "session.json").read_text())
    other["embeddings"]["sha256"] = "0" * 64
    (tmp_path / "session" / "session.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="with the embeddings it was made with"):
        Session(Pool(EmbeddingSet.load(first.folder)), folder=tmp_path / "session")


def test_a_condition_on_labels_that_were_corrected_since(pile, crops, tmp_path):
    first, _ = pile
    table, vectors = crops
    with Session(
        Pool(first),
        query=str(first.ids[0]),
        where="label_name = 'beet'",
        folder=tmp_path / "session",
    ) as session:
        assert 0 < session.members.sum() < FIRST
    names = ["weed" if name == "beet" else name for name in table.column("label_name")]
    corrected = table.with_column("label_name", pa.array(names))
    there, new = grown(first.folder, corrected, IDENTITY)
    larger = write(first.folder, new, vectors, grows=there, source=corrected)
    with Session(Pool(larger), folder=tmp_path / "session") as again:
        assert not again.members.any()  # as the source says now


def test_probes_and_classes_go_on(pile, tmp_path):
    first, grow = pile
    session = marked(Pool(first), None)
    session.saved_probe().save(tmp_path / "probe")
    names = first.table.column("label_name")
    queries = {
        name: str(first.ids[np.flatnonzero(names == name)[0]])
        for name in ("beet", "maize")
    }
    with Classes(Pool(first), queries=queries, folder=tmp_path / "classes"):
        pass
    larger = Pool(grow())
    judged = Session(larger, probe=SavedProbe.load(tmp_path / "probe"))
    found = judged.rank(30).rows
    assert (larger.table.column("label_name")[found] == "beet").mean() > 0.9
    assert (found >= FIRST).any()
    with Classes(larger, folder=tmp_path / "classes") as classes:
        assert set(classes.names) == {"beet", "maize"}


def test_what_is_new_and_like_this(pile, tmp_path):
    first, grow = pile
    folder = f"--embeddings={first.folder}"
    query = f"--query={first.ids[0]}"
    assert "nothing was: embed the grown" in failure(
        "run_search", folder, query, "--new"
    )
    found = grow()
    assert newest(found.table) == "added = 1"
    out = tmp_path / "new.csv"
    call("run_search", folder, query, "--new", "--k=10", f"--out={out}")
    ids = [line.split(",")[0] for line in out.read_text().splitlines()[1:]]
    assert len(ids) == 10
    assert not set(ids) & set(first.ids)


def test_an_audit_of_the_terminal_goes_on(pile, tmp_path):
    first, grow = pile
    session = marked(Pool(first), None)
    session.saved_probe().save(tmp_path / "probe")
    audit = tmp_path / "audit.csv"
    command = (
        "run_evaluate",
        f"--embeddings={first.folder}",
        f"--probe={tmp_path / 'probe'}",
        f"--audit={audit}",
        "--size=40",
    )
    call(*command)
    lines = audit.read_text().splitlines()
    names = dict(zip(first.ids, first.table.column("label_name"), strict=True))
    header = lines[0].split(",")
    place = header.index("relevant")
    rows = [line.split(",") for line in lines[1:]]
    for row in rows:
        row[place] = str(int(names[row[0]] == "beet"))
    audit.write_text("\n".join([lines[0], *(",".join(row) for row in rows)]) + "\n")
    before = call(*command).stdout
    grow()
    after = call(*command).stdout
    assert f"the pool has grown since by {ALL - FIRST} crops" in after
    wanted = [line for line in before.splitlines() if line.startswith("class size")]
    assert wanted
    assert wanted[0] in after
