"""Sets that are written by many, stored in fewer bits, in several files, or grow."""

import os

import numpy as np
import pyarrow as pa
import pytest

from data import embedding_writer, stored_vectors
from data.crop_table import ADDED, DUPLICATE_OF, CropTable
from data.embedding_writer import (
    EmbeddingWriter,
    grown,
    read_skipped,
    reusable,
    shares,
)
from data.embeddings import EmbeddingSet
from data.stored_vectors import StoredVectors, as_stored

WIDTH, COUNT = 6, 25
IDENTITY = {"encoder_hash": "e", "endpoint": "", "image_size": 32, "view": {}}


def table_of(images, labels=None):
    """One crop for each name, of images that may be named again."""
    count = len(images)
    return CropTable.from_columns(
        "nowhere",
        {
            "image": list(images),
            "left": list(range(count)),
            "top": [0] * count,
            "right": [n + 5 for n in range(count)],
            "bottom": [9] * count,
            "label": [0] * count,
            "label_name": labels or ["a"] * count,
            "session": [""] * count,
            "split": [""] * count,
        },
    )


@pytest.fixture
def table():
    return table_of([f"{row // 3:03d}.png" for row in range(COUNT)])


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(COUNT, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_shares_part_no_image(table, count):
    found = shares(table, count)
    assert len(found) == count
    assert [row for share in found for row in share] == list(range(COUNT))
    images = table.column("image")
    for share in found:
        if share.stop < COUNT:
            assert images[share.stop - 1] != images[share.stop]
    if count < 8:  # about as many each; an image has three crops
        assert all(abs(len(share) - COUNT / count) <= 3 for share in found)


def test_parts_of_many_processes_are_one_set(tmp_path, table, vectors):
    valid = np.ones(COUNT, bool)
    valid[[4, 20]] = False
    order = [2, 0, 1]
    for which in order:
        share = shares(table, 3)[which]
        writer = EmbeddingWriter(
            tmp_path / "set", table, WIDTH, IDENTITY, rows_per_part=4, share=share
        )
        assert writer.gaps() == [share]
        rows = np.arange(share.start, share.stop)
        writer.reasons = {"001.png": "broken", "006.png": "empty", "no.png": "other"}
        for row in rows:
            writer.append(vectors[[row]], valid[[row]])
        writer.flush()
        assert writer.gaps() == []
        assert writer.done == len(share)
        writer.look_again()
        assert writer.is_whole == (which == order[-1])
        if which != order[-1]:
            with pytest.raises(ValueError, match="must have 25 rows"):
                writer.finish({})
    found = writer.finish({})
    np.testing.assert_array_equal(found.vectors, vectors[valid])
    assert read_skipped(tmp_path / "set") == {"001.png": "broken", "006.png": "empty"}
    assert "parts" not in found.meta  # as it ever was


def test_parts_of_others_are_never_thrown_away(tmp_path, table, vectors):
    writer = EmbeddingWriter(tmp_path / "set", table, WIDTH, IDENTITY, share=range(12))
    writer.append(vectors[:12], np.ones(12, bool))
    writer.flush()
    other = {**IDENTITY, "image_size": 64}
    with pytest.raises(ValueError, match="part must be of the same crops, encoder"):
        EmbeddingWriter(tmp_path / "set", table, WIDTH, other, share=range(12, COUNT))
    assert len(list((tmp_path / "set.partial").glob("part-*.npz"))) == 1
    EmbeddingWriter(tmp_path / "set", table, WIDTH, other)
    assert len(list((tmp_path / "set.partial.old-1").glob("part-*.npz"))) == 1


def test_parts_may_come_in_any_order_and_gaps_are_named(tmp_path, table, vectors):
    writer = EmbeddingWriter(tmp_path / "set", table, WIDTH, IDENTITY)
    every = np.ones(COUNT, bool)
    writer.write(20, vectors[20:], every[20:])
    writer.write(3, vectors[3:9], every[3:9])
    again = EmbeddingWriter(tmp_path / "set", table, WIDTH, IDENTITY)
    assert again.gaps() == [range(3), range(9, 20)]
    assert again.next_row == 0
    again.append(vectors[:3], every[:3])
    again.flush()
    assert again.next_row == 9
    again.append(vectors[9:20], every[9:20])
    np.testing.assert_array_equal(again.finish({}).vectors, vectors)


def test_numbered_parts_of_earlier_versions_are_taken_up(tmp_path, table, vectors):
    writer = EmbeddingWriter(tmp_path / "set", table, WIDTH, IDENTITY, rows_per_part=8)
    writer.append(vectors[:16], np.ones(16, bool))
    writer.flush()
    folder = tmp_path / "set.partial"
    for number, start in enumerate([0]):
        os.replace(folder / f"part-{start:012d}.npz", folder / f"part-{number:06d}.npz")
    stated = (
        (folder / "identity.json")
        .read_text()
        .replace(', "stored_as": "float32"', "")
        .replace(',\n  "stored_as": "float32"', "")
    )
    (folder / "identity.json").write_text(stated)
    again = EmbeddingWriter(tmp_path / "set", table, WIDTH, IDENTITY)
    assert again.next_row == 16
    again.append(vectors[16:], np.ones(COUNT - 16, bool))
    np.testing.assert_array_equal(again.finish({}).vectors, vectors)


@pytest.mark.parametrize(("dtype", "step"), [("float16", 2**-11), ("int8", 1 / 254)])
def test_fewer_bits_lose_what_is_stated(tmp_path, table, vectors, dtype, step):
    vectors[3] *= 1000
    vectors[5] = 0
    identity = {**IDENTITY, "stored_as": dtype}
    writer = EmbeddingWriter(tmp_path / "set", table, WIDTH, identity)
    writer.append(vectors, np.ones(COUNT, bool))
    found = writer.finish({})
    assert isinstance(found.vectors, StoredVectors)
    assert found.vectors.shape == vectors.shape
    assert found.vectors[:].dtype == np.float32
    scale = np.abs(vectors) if dtype == "float16" else np.abs(vectors).max(1)[:, None]
    error = np.abs(found.vectors[:] - vectors)
    assert (error <= step * scale * 1.001 + 1e-7).all()
    assert error.max() > 0
    again = EmbeddingSet.load(tmp_path / "set", full=True)
    np.testing.assert_array_equal(again.vectors[:], found.vectors[:])
    if dtype == "int8":
        path = tmp_path / "set" / "embeddings-0000.scale.npy"
        right = np.load(path)
        np.save(path, right * 2)
        with pytest.raises(ValueError, match="was changed after it was written"):
            EmbeddingSet.load(tmp_path / "set", full=True)
        np.save(path, right)
    size = np.dtype(dtype).itemsize * COUNT * WIDTH
    assert found.meta["bytes"] == 128 + size
    assert reusable(tmp_path / "set", table, identity)


def test_numbers_too_large_for_float16_are_refused():
    with pytest.raises(ValueError, match=r"at most 65504 .* got 70000"):
        as_stored(np.full((1, 2), 7e4, np.float32), "float16")


def test_several_files_are_one_array(tmp_path, table, vectors, monkeypatch):
    monkeypatch.setattr(stored_vectors, "JOINED_BYTES", 100)
    monkeypatch.setattr(stored_vectors, "_FILE_BYTES", 8 * WIDTH * 4)
    writer = EmbeddingWriter(tmp_path / "set", table, WIDTH, IDENTITY, rows_per_part=4)
    for row in range(COUNT):
        writer.append(vectors[[row]], np.ones(1, bool))
    found = writer.finish({})
    assert [part["rows"] for part in found.meta["parts"]] == [8, 8, 8, 1]
    assert found.meta["parts"][0]["file"] == "embeddings-0000.npy"
    stored = EmbeddingSet.load(tmp_path / "set", full=True).vectors
    rng = np.random.default_rng(1)
    mask = rng.random(COUNT) < 0.5
    picked = rng.integers(0, COUNT, 40)
    for key in (
        slice(None),
        slice(3, 20),
        slice(7, 9),
        slice(20, 3),
        slice(None, None, -3),
        picked,
        picked.reshape(8, 5),
        mask,
        [],
        -2,
        17,
    ):
        taken = np.array(key, int) if isinstance(key, list) else key
        np.testing.assert_array_equal(stored[taken], vectors[taken])
    np.testing.assert_array_equal(np.asarray(stored), vectors)
    # As an array in all else, read whole.
    for key in ((0, 1), (slice(2, 9), 3), (..., 2), None, ([1, 2], [3, 4])):
        np.testing.assert_array_equal(stored[key], vectors[key])
    for wrong in (mask[:5], np.ones(COUNT + 1, bool), [0.5], 1.5):
        with pytest.raises(IndexError):
            stored[wrong]
    np.testing.assert_array_equal(stored.mean(axis=0), vectors.mean(axis=0))
    np.testing.assert_array_equal(stored @ vectors[0], vectors @ vectors[0])
    np.testing.assert_array_equal(2 * stored - 1, 2 * vectors - 1)
    assert (stored == vectors).all()
    np.testing.assert_array_equal(stored.head(11)[:], vectors[:11])
    with pytest.raises(IndexError, match="rows must be below 25"):
        stored[np.array([25])]
    # A file that was changed is named.
    path = tmp_path / "set" / "embeddings-0002.npy"
    np.save(path, np.load(path) + 1)
    with pytest.raises(ValueError, match=r"embeddings-0002\.npy was changed"):
        EmbeddingSet.load(tmp_path / "set", full=True)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"embeddings-0002\.npy must have"):
        EmbeddingSet.load(tmp_path / "set")
    path.unlink()
    with pytest.raises(ValueError, match=r"lacks embeddings-0002\.npy"):
        EmbeddingSet.load(tmp_path / "set")


def grow(folder, table, vector_of):
    """Adds what is new, as the embedding job does."""
    there, new = grown(folder, table, IDENTITY)
    writer = EmbeddingWriter(folder, new, WIDTH, IDENTITY)
    for gap in writer.gaps():
        vectors = np.stack([vector_of[crop] for crop in new.ids[gap.start : gap.stop]])
        writer.append(vectors, np.ones(len(gap), bool))
    return writer.finish({"encoder": "tiny"}, grows=there, source=table)


def test_a_set_grows_and_old_rows_keep_their_places(tmp_path, vectors):
    names = [f"{row:03d}.png" for row in range(COUNT)]
    folder, every = tmp_path / "set", table_of(names)
    vector_of = dict(zip(every.ids, vectors, strict=True))
    # New photos come between the old ones, and bring a class that comes before.
    first = every.take(np.arange(0, COUNT, 2))
    writer = EmbeddingWriter(folder, first, WIDTH, IDENTITY)
    writer.append(vectors[::2], np.ones(len(first), bool))
    before = writer.finish({"encoder": "tiny"})
    assert grown(folder, first, IDENTITY) is None
    found = grow(folder, every, vector_of)
    assert list(found.ids[: len(first)]) == list(before.ids)
    assert set(found.ids) == set(every.ids)
    for row, crop in enumerate(found.ids):
        np.testing.assert_array_equal(found.vectors[row], vector_of[crop])
    assert found.table.column(ADDED).tolist() == [0] * 13 + [1] * 12
    assert reusable(folder, every, IDENTITY)  # the same command embeds nothing
    assert not (tmp_path / "set.partial").exists()
    # As it was.
    sha256 = before.meta["sha256"]
    assert found.rows_when(sha256) == 13
    assert found.rows_when("other") is None
    earlier = found.as_when(13)
    assert list(earlier.ids) == list(before.ids)
    assert earlier.meta["sha256"] == sha256
    np.testing.assert_array_equal(earlier.vectors[:], before.vectors)
    # And once more.
    more = table_of([*names, "zz.png"])
    vector_of[str(more.ids[-1])] = np.ones(WIDTH, np.float32)
    vector_of |= dict(zip(more.ids[:-1], vectors, strict=True))
    twice = grow(folder, more, vector_of)
    assert [stage["rows"] for stage in twice.stages] == [13, 25, 26]
    assert twice.table.column(ADDED).max() == 2
    assert len(twice.meta["parts"]) == 3
    EmbeddingSet.load(folder, full=True)


def test_new_crops_that_cannot_be_read_are_counted(tmp_path, vectors):
    names = [f"{row:03d}.png" for row in range(COUNT)]
    folder, every = tmp_path / "set", table_of([*names, "zz.png"])
    first = every.take(np.arange(COUNT))
    writer = EmbeddingWriter(folder, first, WIDTH, IDENTITY)
    writer.append(vectors, np.ones(COUNT, bool))
    before = writer.finish({})
    there, new = grown(folder, every, IDENTITY)
    writer = EmbeddingWriter(folder, new, WIDTH, IDENTITY)
    writer.append(np.zeros((1, WIDTH), np.float32), np.zeros(1, bool))
    found = writer.finish({}, {"zz.png": "broken"}, grows=there, source=every)
    assert found.meta["skipped"] == 1
    assert read_skipped(folder) == {"zz.png": "broken"}
    assert found.meta["sha256"] == before.meta["sha256"]
    np.testing.assert_array_equal(found.vectors, vectors)
    assert len(found.stages) == 1  # it hasn't grown
    assert reusable(folder, every, IDENTITY)


def test_what_was_known_of_old_crops_stays(tmp_path, vectors):
    """Duplicates of a set that grows without looking, and what its crops were called
    and recorded as before."""
    names = [f"{row:03d}.png" for row in range(COUNT)]
    folder, every = tmp_path / "set", table_of(names)
    first = every.take(np.arange(20))
    same = [str(first.ids[0])] + [""] * 19
    writer = EmbeddingWriter(
        folder, first.with_column(DUPLICATE_OF, pa.array(same)), WIDTH, IDENTITY
    )
    writer.append(vectors[:20], np.ones(20, bool))
    before = writer.finish({})
    changed = every.with_column("label_name", pa.array(["other"] * COUNT))
    changed = changed.with_column("session", pa.array(["s"] * COUNT))
    there, new = grown(folder, changed, IDENTITY)
    writer = EmbeddingWriter(folder, new, WIDTH, IDENTITY)
    writer.append(vectors[20:], np.ones(5, bool))
    found = writer.finish({}, grows=there, source=changed)
    assert DUPLICATE_OF in found.table.rows.column_names
    assert (
        found.table.column(DUPLICATE_OF)[:20].tolist()
        == before.table.column(DUPLICATE_OF).tolist()
    )
    assert set(found.table.column("label_name")) == {"other"}
    earlier = found.as_when(20)
    assert set(earlier.table.column("label_name")) == {"a"}
    assert set(earlier.table.column("session")) == {""}


def test_less_or_other_crops_are_no_growth(tmp_path, vectors):
    names = [f"{row:03d}.png" for row in range(COUNT)]
    folder, every = tmp_path / "set", table_of(names)
    writer = EmbeddingWriter(folder, every, WIDTH, IDENTITY)
    writer.append(vectors, np.ones(COUNT, bool))
    writer.finish({})
    more = table_of([*names[1:], "x.png", "y.png"])
    assert grown(folder, more, IDENTITY) is None
    assert grown(folder, table_of([*names, "x.png"]), {"encoder_hash": "f"}) is None
    assert grown(tmp_path / "none", every, IDENTITY) is None
    assert not reusable(folder, more, IDENTITY)
    assert (tmp_path / "set.old-1" / "embeddings.npy").is_file()


def test_a_kill_while_it_grows_leaves_the_set_as_it_was(tmp_path, vectors, monkeypatch):
    names = [f"{row:03d}.png" for row in range(COUNT)]
    folder, every = tmp_path / "set", table_of(names)
    vector_of = dict(zip(every.ids, vectors, strict=True))
    first = every.take(np.arange(10))
    writer = EmbeddingWriter(folder, first, WIDTH, IDENTITY)
    writer.append(vectors[:10], np.ones(10, bool))
    before = writer.finish({})
    real, seen = embedding_writer.write_json, []

    def killed(path, *given):
        seen.append(path.name)
        if path.name == "meta.json":
            raise KeyboardInterrupt
        real(path, *given)

    monkeypatch.setattr(embedding_writer, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        grow(folder, every, vector_of)
    monkeypatch.undo()
    assert seen[-1] == "meta.json"
    there = EmbeddingSet.load(folder, full=True)
    assert there.meta == before.meta
    np.testing.assert_array_equal(there.vectors, vectors[:10])
    assert len(grow(folder, every, vector_of).ids) == COUNT
