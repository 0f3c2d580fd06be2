import errno
import json
import os

import numpy as np
import pytest

from data import embedding_writer
from data import embeddings as module
from data.crop_table import CropTable
from data.embedding_writer import EmbeddingWriter, read_skipped, reusable
from data.embeddings import EmbeddingSet
from tests.test_data_crop_table import columns

IDENTITY = {"encoder_hash": "abc", "endpoint": "avg_pool", "image_size": 32}
COUNT, WIDTH = 25, 6


@pytest.fixture
def table(tmp_path):
    return CropTable.from_columns(
        tmp_path, columns([f"{number:03d}.png" for number in range(COUNT)])
    )


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(COUNT, WIDTH)).astype(np.float32)


def write(folder, table, vectors, valid=None, stop=None, batch=4):
    writer = EmbeddingWriter(folder, table, WIDTH, IDENTITY, rows_per_part=8)
    valid = np.ones(COUNT, bool) if valid is None else valid
    stop = COUNT if stop is None else stop
    for start in range(writer.next_row, stop, batch):
        end = min(start + batch, stop)
        writer.append(vectors[start:end], valid[start:end])
    return writer


def test_written_and_loaded_are_equal_and_mapped(tmp_path, table, vectors):
    written = write(tmp_path / "set", table, vectors).finish({"encoder": "tiny"})
    loaded = EmbeddingSet.load(tmp_path / "set", full=True)
    assert np.array_equal(loaded.vectors, vectors)
    assert isinstance(loaded.vectors, np.memmap)
    assert list(loaded.table.ids) == list(table.ids)
    assert loaded.meta == written.meta
    assert loaded.meta["encoder"] == "tiny"
    assert sorted(item.name for item in (tmp_path / "set").iterdir()) == [
        ".derived.npz",
        "crops.parquet",
        "embeddings.npy",
        "meta.json",
        "skipped.csv",
    ]
    assert not (tmp_path / "set.partial").exists()


@pytest.mark.parametrize("stop", [0, 3, 8, 13, 24])
def test_a_writer_that_was_killed_goes_on_after_its_last_part(
    tmp_path, table, vectors, stop
):
    write(
        tmp_path / "set", table, vectors, stop=stop
    )  # dropped without finish: what a kill leaves
    assert not (tmp_path / "set").exists()
    again = EmbeddingWriter(tmp_path / "set", table, WIDTH, IDENTITY, rows_per_part=8)
    assert again.next_row == stop // 8 * 8
    write(tmp_path / "set", table, vectors).finish({})
    assert np.array_equal(EmbeddingSet.load(tmp_path / "set").vectors, vectors)


def test_parts_of_another_encoder_are_not_taken_up(tmp_path, table, vectors):
    write(tmp_path / "set", table, vectors, stop=16)
    other = EmbeddingWriter(
        tmp_path / "set", table, WIDTH, {**IDENTITY, "encoder_hash": "other"}
    )
    assert other.next_row == 0


def test_unreadable_crops_are_left_out_and_listed(tmp_path, table, vectors):
    valid = np.ones(COUNT, bool)
    valid[[2, 9]] = False
    vectors[9] = np.nan  # whatever stands in an invalid row
    written = write(tmp_path / "set", table, vectors, valid).finish(
        {}, {"002.png": "zero, bytes"}
    )
    assert np.array_equal(written.vectors, vectors[valid])
    assert list(written.table.ids) == list(table.ids[valid])
    assert written.meta["skipped"] == 2
    assert read_skipped(tmp_path / "set") == {
        "002.png": "zero, bytes",
        "009.png": "unreadable",
    }
    lines = (tmp_path / "set" / "skipped.csv").read_text().splitlines()
    assert lines == [
        "crop_id,image,reason",
        f'{table.ids[2]},002.png,"zero, bytes"',
        f"{table.ids[9]},009.png,unreadable",
    ]


def test_a_disk_that_fills_up_loses_nothing_written(
    tmp_path, table, vectors, monkeypatch
):
    calls = []

    def savez(file, **arrays):
        calls.append(file)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, **arrays)

    real = np.savez
    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "set", table, vectors)
    monkeypatch.setattr(np, "savez", real)
    assert EmbeddingWriter(tmp_path / "set", table, WIDTH, IDENTITY).next_row == 8
    write(tmp_path / "set", table, vectors).finish({})
    assert np.array_equal(EmbeddingSet.load(tmp_path / "set").vectors, vectors)


def test_loading_refuses_what_is_not_as_stated(tmp_path, table, vectors):
    folder = tmp_path / "set"
    write(folder, table, vectors).finish({})
    whole = (folder / "embeddings.npy").read_bytes()

    (folder / "embeddings.npy").write_bytes(whole[:-4])
    with pytest.raises(
        ValueError, match=f"must have {len(whole)} bytes; got {len(whole) - 4}"
    ):
        EmbeddingSet.load(folder)

    np.save(folder / "embeddings.npy", vectors.reshape(WIDTH, COUNT))
    with pytest.raises(ValueError, match=r"must hold \(25, 6\) float32"):
        EmbeddingSet.load(folder)

    broken = vectors.copy()
    broken[7, 3] = np.nan
    np.save(folder / "embeddings.npy", broken)
    with pytest.raises(ValueError, match="NaN or infinity in row 7"):
        EmbeddingSet.load(folder)

    np.save(folder / "embeddings.npy", vectors + 1)
    EmbeddingSet.load(folder)
    with pytest.raises(ValueError, match="SHA-256 differs"):
        EmbeddingSet.load(folder, full=True)

    (folder / "embeddings.npy").write_bytes(whole)
    table.take(np.arange(COUNT)[::-1]).write(folder / "crops.parquet")
    with pytest.raises(ValueError, match="its hash differs"):
        EmbeddingSet.load(folder)

    (folder / "meta.json").write_text('{"rows": 25}')
    with pytest.raises(ValueError, match="lacks bytes, sha256, table_hash, width"):
        EmbeddingSet.load(folder)
    (folder / "meta.json").write_text("{")
    with pytest.raises(ValueError, match="must be the JSON of an embedding set"):
        EmbeddingSet.load(folder)

    (folder / "crops.parquet").unlink()
    with pytest.raises(ValueError, match=r"lacks crops\.parquet"):
        EmbeddingSet.load(folder)


def test_a_finished_set_is_reused_or_moved_aside_but_never_lost(
    tmp_path, table, vectors
):
    folder = tmp_path / "set"
    assert not reusable(folder, table, IDENTITY)
    write(folder, table, vectors).finish({})
    assert reusable(folder, table, IDENTITY)
    assert not reusable(folder, table, {**IDENTITY, "image_size": 64})
    assert not folder.exists()
    assert np.array_equal(EmbeddingSet.load(tmp_path / "set.old-1").vectors, vectors)


def test_a_kill_between_joining_and_renaming_is_harmless(
    tmp_path, table, vectors, monkeypatch
):
    writer = write(tmp_path / "set", table, vectors)
    monkeypatch.setattr(
        embedding_writer.os,
        "rename",
        lambda *_: (_ for _ in ()).throw(KeyboardInterrupt),
    )
    with pytest.raises(KeyboardInterrupt):
        writer.finish({})
    monkeypatch.undo()
    write(tmp_path / "set", table, vectors).finish({})
    assert np.array_equal(
        EmbeddingSet.load(tmp_path / "set", full=True).vectors, vectors
    )


def test_a_kill_while_tidying_up_leaves_a_whole_set(
    tmp_path, table, vectors, monkeypatch
):
    writer = write(tmp_path / "set", table, vectors)
    removed = []

    def unlink(path, missing_ok=False):
        removed.append(path)
        if len(removed) == 2:
            raise KeyboardInterrupt
        real(path, missing_ok=missing_ok)

    real = module.Path.unlink
    monkeypatch.setattr(module.Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        writer.finish({})
    monkeypatch.undo()
    assert len(removed) == 2
    assert reusable(tmp_path / "set", table, IDENTITY)
    assert np.array_equal(
        EmbeddingSet.load(tmp_path / "set", full=True).vectors, vectors
    )


def test_a_folder_without_meta_is_moved_aside(tmp_path, table, vectors):
    write(tmp_path / "set", table, vectors).finish({})
    (tmp_path / "set" / "meta.json").unlink()
    assert not reusable(tmp_path / "set", table, IDENTITY)
    write(tmp_path / "set", table, vectors).finish({})
    assert np.array_equal(EmbeddingSet.load(tmp_path / "set").vectors, vectors)
    assert (tmp_path / "set.old-1" / "embeddings.npy").exists()


def test_the_writer_checks_what_it_is_given(tmp_path, table, vectors):
    writer = EmbeddingWriter(tmp_path / "set", table, WIDTH, IDENTITY)
    with pytest.raises(ValueError, match=r"must have shape \(3, 6\); got \(3, 5\)"):
        writer.append(vectors[:3, :5], np.ones(3, bool))
    with pytest.raises(ValueError, match="isn't finite"):
        writer.append(np.full((1, WIDTH), np.inf, np.float32), np.ones(1, bool))
    with pytest.raises(ValueError, match="must have 25 rows; 0 were appended"):
        writer.finish({})
    writer.append(vectors, np.ones(COUNT, bool))
    with pytest.raises(ValueError, match="must not exceed"):
        writer.append(vectors[:1], np.ones(1, bool))


def test_meta_is_plain_json(tmp_path, table, vectors):
    write(tmp_path / "set", table, vectors).finish({"provenance": {"seed": 3}})
    meta = json.loads((tmp_path / "set" / "meta.json").read_text())
    assert (meta["rows"], meta["width"], meta["provenance"]) == (
        COUNT,
        WIDTH,
        {"seed": 3},
    )


def test_what_was_verified_is_not_read_again_until_the_files_change(
    tmp_path, table, vectors, monkeypatch
):
    write(tmp_path / "set", table, vectors).finish({})
    reads = []
    real = module._check_finite
    monkeypatch.setattr(
        module, "_check_finite", lambda *given: reads.append(1) or real(*given)
    )
    first = module.EmbeddingSet.load(tmp_path / "set")
    assert not reads  # `finish` has verified it
    assert first.table.content_hash == first.meta["table_hash"]
    calls = []

    def mean():
        calls.append(1)
        return np.asarray(first.vectors).mean(axis=0)

    for _ in range(3):
        again = module.EmbeddingSet.load(tmp_path / "set")
        np.testing.assert_array_equal(again.derived("mean", mean), mean())
    assert len(calls) == 1 + 3  # once for the set, and those of this test
    path = tmp_path / "set" / module.EMBEDDINGS
    content = np.load(path)
    content[2, 1] = np.nan
    np.save(path, content)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match="must be finite"):
        module.EmbeddingSet.load(tmp_path / "set")
    assert reads == [1]
    np.save(path, np.nan_to_num(content))
    assert "mean" not in module._read_derived(tmp_path / "set")
