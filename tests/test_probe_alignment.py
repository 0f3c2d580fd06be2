"""Recordings are brought together, and kinds are left apart."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from curation.pool import Pool, aligned
from curation.session import Session
from data.embeddings import EmbeddingSet
from data.recordings import recording_numbers
from probe.alignment import shifts_of
from probe.transforms import Transform, l2_normalize
from tests.conftest import read_image_folder

KINDS, WIDTH, EACH = 4, 64, 30


def crops(rng, composition):
    """Unit vectors of recordings, each with a direction of its own added; returns
    vectors, recordings, kinds and the directions.

    Args:
        composition: for each recording, crops of each kind.
    """
    kinds = l2_normalize(rng.normal(size=(KINDS, WIDTH)))
    own = 0.8 * l2_normalize(rng.normal(size=(len(composition), WIDTH)))
    rows = [
        (recording, kind)
        for recording, counts in enumerate(composition)
        for kind, count in enumerate(counts)
        for _ in range(count)
    ]
    recording, kind = np.array(rows).T
    noise = 0.02 * rng.normal(size=(len(rows), WIDTH))
    return l2_normalize(kinds[kind] + own[recording] + noise), recording, kind, own


def same_kind(vectors, recording, kind, k=10):
    """How many of the k nearest of other recordings are of one's own kind."""
    unit = l2_normalize(vectors)
    scores = unit @ unit.T
    scores[recording[:, None] == recording] = -np.inf
    best = np.argsort(-scores, axis=1)[:, :k]
    return float(np.mean(kind[best] == kind[:, None]))


def moved(vectors, recording, **options):
    return vectors + shifts_of(vectors, recording, **options)[recording]


def spread(vectors, recording, kind):
    """Mean distance of recordings' means of one kind."""
    apart = []
    for one in range(KINDS):
        means = [
            vectors[(recording == number) & (kind == one)].mean(axis=0)
            for number in np.unique(recording[kind == one])
        ]
        apart += [np.linalg.norm(a - b) for a in means for b in means if a is not b]
    return np.mean(apart)


def test_what_a_recording_has_in_common_is_taken_off():
    composition = [[EACH] * KINDS] * 4
    vectors, recording, kind, _ = crops(np.random.default_rng(0), composition)
    after = moved(vectors, recording)
    assert spread(after, recording, kind) < 0.2 * spread(vectors, recording, kind)
    assert same_kind(after, recording, kind) == 1


def test_a_recording_of_one_kind_keeps_it():
    """Its mean would be the kind: taking that off makes its crops look like no kind."""
    composition = [[EACH] * KINDS] * 4 + [[4 * EACH, 0, 0, 0]]
    vectors, recording, kind, _ = crops(np.random.default_rng(1), composition)
    last = recording == 4
    after = l2_normalize(moved(vectors, recording))
    means = l2_normalize(
        np.stack([after[~last & (kind == one)].mean(axis=0) for one in range(KINDS)])
    )
    found = (after[last] @ means.T).argmax(axis=1)
    assert (found == 0).mean() > 0.99
    without = vectors.copy()
    for number in range(5):
        without[recording == number] -= vectors[recording == number].mean(axis=0)
    plain = l2_normalize(without)
    means = l2_normalize(
        np.stack([plain[~last & (kind == one)].mean(axis=0) for one in range(KINDS)])
    )
    assert ((plain[last] @ means.T).argmax(axis=1) == 0).mean() < 0.5


def test_few_pairs_move_a_recording_little():
    vectors, recording, _, _ = crops(np.random.default_rng(2), [[EACH] * KINDS] * 2)
    weak = shifts_of(vectors, recording, shrinkage=1e6, rounds=1)
    strong = shifts_of(vectors, recording, shrinkage=0, rounds=1)
    assert np.abs(weak).max() < 1e-3 < np.abs(strong).max()


def test_one_round_by_hand():
    """Two recordings of two crops each; both pairs name each other."""
    unit = l2_normalize(
        np.array([[1.0, 0, 0], [0, 1, 0], [0.9, 0, 0.4], [0, 0.9, 0.4]])
    )
    recording = np.array([0, 0, 1, 1])
    found = shifts_of(unit, recording, neighbors=1, shrinkage=1, rounds=1)
    apart = (unit[2] - unit[0] + unit[3] - unit[1]) / 3  # two pairs, and one of nothing
    np.testing.assert_allclose(found, [apart / 2, -apart / 2], atol=1e-6)


def test_shifts_of_a_sample_are_those_of_all():
    composition = [[4 * EACH] * KINDS] * 3
    vectors, recording, _, _ = crops(np.random.default_rng(3), composition)
    whole = shifts_of(vectors, recording)
    again = shifts_of(vectors, recording, most=len(vectors), seed=5)
    np.testing.assert_array_equal(whole, again)
    sample = shifts_of(vectors, recording, most=len(vectors) // 2)
    assert np.linalg.norm(sample - whole) < 0.2 * np.linalg.norm(whole)


@pytest.fixture
def embeddings(photos, tmp_path):
    """A set of three recordings, whole, in a folder."""
    table, _ = read_image_folder(photos)
    rng = np.random.default_rng(4)
    names = np.array(["a", "b", "c"])[np.arange(len(table)) % 3]
    table = table.with_column("session", pa.array(names))
    vectors = rng.normal(size=(len(table), 16)).astype(np.float32)
    folder = tmp_path / "set"
    return EmbeddingSet.from_arrays(vectors, table, folder=folder)


def test_rankings_by_example_search_what_was_shifted(embeddings):
    pool = Pool(embeddings, transform="aligned")
    recording = recording_numbers(pool.table)
    assert recording.max() == 2
    expected = moved(l2_normalize(embeddings.vectors), recording)
    np.testing.assert_allclose(pool.similar.vectors, expected, atol=1e-6)
    transform = Transform.fit("partial", embeddings.vectors)
    unit = transform(expected)
    scores = unit @ unit[3]
    found = pool.similar.search(pool.similar.vectors[3], 10)
    assert found.rows.tolist() == np.argsort(-scores, kind="stable")[:10].tolist()
    np.testing.assert_allclose(found.scores, np.sort(scores)[::-1][:10], atol=1e-5)
    session = Session(pool, query=str(pool.ids[3]))
    assert session.rank(9).rows.tolist() == found.rows[found.rows != 3].tolist()
    # A probe learns and ranks on what the encoder gave.
    assert pool.index.vectors is embeddings.vectors
    session.mark({str(pool.ids[row]): row % 2 == 1 for row in range(12)})
    assert pool.index_of(session.ranker()) is pool.index


def test_crops_of_no_known_recording_stay(embeddings):
    names = np.where(recording_numbers(embeddings.table) == 2, "", "a")
    names[recording_numbers(embeddings.table) == 1] = "b"
    table = embeddings.table.with_column("session", pa.array(names))
    part = dataclasses.replace(embeddings, table=table, whole=False)
    recording = recording_numbers(table)
    assert sorted(set(recording)) == [-1, 0, 1]
    after = aligned(part).vectors
    unit = l2_normalize(part.vectors)
    unknown = recording == -1
    np.testing.assert_array_equal(after[unknown], unit[unknown])
    shifts = shifts_of(part.vectors, recording, rows=np.flatnonzero(~unknown))
    np.testing.assert_allclose(
        after[~unknown], (unit + shifts[recording])[~unknown], atol=1e-6
    )
    assert np.abs(shifts).max() > 1e-3
    # Shifts that are kept are of these recordings alone.
    whole = aligned(embeddings)
    other = aligned(dataclasses.replace(embeddings, table=table))
    assert not np.array_equal(whole.vectors, other.vectors)


def test_large_sets_keep_what_was_shifted_in_their_folder(embeddings, monkeypatch):
    small = aligned(embeddings)
    assert isinstance(small.vectors, np.ndarray)
    assert not list(embeddings.folder.glob("aligned-*"))
    monkeypatch.setattr("curation.pool.KEPT_BYTES", 10)
    (embeddings.folder / "aligned-of_before.npy").write_bytes(b"")
    large = aligned(embeddings)
    assert isinstance(large.vectors, np.memmap)
    np.testing.assert_array_equal(large.vectors, small.vectors)
    (kept,) = embeddings.folder.glob("aligned-*")
    before = kept.stat().st_mtime_ns
    aligned(EmbeddingSet.load(embeddings.folder))
    assert kept.stat().st_mtime_ns == before
    for damaged in (b"", kept.read_bytes()[:-40], kept.read_bytes()[:200]):
        kept.write_bytes(damaged)  # such as a copy that was interrupted
        again = aligned(EmbeddingSet.load(embeddings.folder))
        np.testing.assert_array_equal(again.vectors, small.vectors)
        assert isinstance(again.vectors, np.memmap)
    # Where another process writes the same at the same time, each writes its own.
    (embeddings.folder / f".{kept.name}.1.partial").write_bytes(b"of another")
    kept.unlink()
    again = aligned(EmbeddingSet.load(embeddings.folder))
    np.testing.assert_array_equal(again.vectors, small.vectors)


def test_one_recording_stays_as_it_is(embeddings):
    one = embeddings.take(recording_numbers(embeddings.table) == 1)
    assert aligned(one) is one
    pool, plain = (Pool(one, transform=name) for name in ("aligned", "partial"))
    every = np.arange(len(one.table))
    np.testing.assert_array_equal(
        pool.similar.unit_vectors(every), plain.index.unit_vectors(every)
    )
