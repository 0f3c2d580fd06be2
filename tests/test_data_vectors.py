"""Vectors made elsewhere: whichever file they come in, they belong to the same rows."""

import json

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from benchmarks import elsewhere
from curation.crops import read_crops
from curation.pool import Pool
from curation.session import Session
from data.crop_table import CropTable
from data.embeddings import EmbeddingSet
from data.vectors import read_vectors
from data.where import rows_where
from tests.conftest import WISH, call, failure, noisy, set_of


@pytest.fixture(scope="module")
def files(field_set, tmp_path_factory):
    return elsewhere.write_elsewhere(field_set, tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="module")
def wish(field_set, files):
    """A query and marks, by crop id."""
    table = EmbeddingSet.load(field_set).table
    truth = rows_where(table, WISH)
    yes, no = np.flatnonzero(truth), np.flatnonzero(~truth)
    marks = [(name, 1) for name in table.ids[yes[1:9]]]
    marks += [(name, 0) for name in table.ids[no[:8]]]
    path = files / "marks.csv"
    pd.DataFrame(marks, columns=["crop_id", "relevant"]).to_csv(path, index=False)
    return str(table.ids[yes[0]]), path


@pytest.fixture(scope="module")
def own(field_set, files, wish):
    return elsewhere.results(field_set, files / "own", *wish)


@pytest.mark.parametrize(
    ("kind", "file"),
    [("npy", "csv"), ("npz", "coco"), ("safetensors", "parquet"), ("parquet", "csv")],
)
def test_what_follows_is_the_same_as_with_the_own_set(
    kind, file, field_set, files, wish, own, tmp_path
):
    taken = elsewhere.take_in(
        files, kind, file, EmbeddingSet.load(field_set).table.root, tmp_path / "set"
    )
    mine, other = EmbeddingSet.load(field_set), EmbeddingSet.load(taken)
    assert other.ids.tolist() == mine.ids.tolist()
    np.testing.assert_array_equal(other.vectors, mine.vectors)
    found = elsewhere.results(taken, tmp_path / "results", *wish)
    assert found.keys() == own.keys()
    for name, lines in own.items():
        assert lines, name
        assert found[name] == lines, name


def test_other_counts_are_refused(field_set, files, tmp_path):
    whole = np.load(files / "vectors.npy")
    np.save(tmp_path / "short.npy", whole[:-1])
    message = failure(
        "run_embed.py",
        f"--data={files / 'crops.csv'}",
        f"--vectors={tmp_path / 'short.npy'}",
        f"--embeddings={tmp_path / 'set'}",
        "--config="
        + json.dumps({"images": str(EmbeddingSet.load(field_set).table.root)}),
    )
    assert f"a row for each of the {len(whole):,} rows" in message
    assert f"short.npy has {len(whole) - 1:,}" in message
    assert not (tmp_path / "set").exists()


def test_a_folder_has_no_rows(photos, tmp_path):
    np.save(tmp_path / "v.npy", np.ones((36, 4)))
    message = failure(
        "run_embed.py",
        f"--data={photos}",
        f"--vectors={tmp_path / 'v.npy'}",
        f"--embeddings={tmp_path / 'set'}",
    )
    assert "A CSV with the column image will do" in message


def of_list(photos, tmp_path, lines, vectors):
    """A set of photos, by a CSV without boxes."""
    (tmp_path / "list.csv").write_text("\n".join(lines))
    np.save(tmp_path / "v.npy", vectors)
    done = call(
        "run_embed.py",
        f"--data={tmp_path / 'list.csv'}",
        f"--vectors={tmp_path / 'v.npy'}",
        f"--embeddings={tmp_path / 'set'}",
        "--config=" + json.dumps({"images": str(photos)}),
    )
    return done, EmbeddingSet.load(tmp_path / "set")


def whole_images(photos, tmp_path, vectors):
    """A set of three of the photos, each with a class."""
    lines = ["image,label", "red/03.png,r", "blue/01.png,b", "green/02.png,g"]
    return of_list(photos, tmp_path, lines, vectors)


def test_whole_images_come_with_a_class(photos, tmp_path):
    vectors = np.array([[3, 0], [1, 0], [2, 0]], np.int16)
    _, found = whole_images(photos, tmp_path, vectors)
    assert found.table.column("label_name").tolist() == ["b", "g", "r"]
    assert found.vectors.tolist() == [[1, 0], [2, 0], [3, 0]]
    assert found.table.column("source_row").tolist() == [1, 2, 0]


def test_vectors_that_are_none_are_left_out_and_named(photos, tmp_path):
    vectors = np.array([[3, 0], [np.nan, 0], [0, 0]])
    done, found = whole_images(photos, tmp_path, vectors)
    assert found.vectors.tolist() == [[3, 0]]
    assert "2 unreadable ones left out" in done.stdout
    skipped = pd.read_csv(tmp_path / "set" / "skipped.csv")
    assert skipped["image"].tolist() == ["blue/01.png", "green/02.png"]
    assert set(skipped["reason"]) == {"its vector is next to zero, or not finite"}


def test_a_query_from_outside_gets_a_clear_message(photos, tmp_path):
    whole_images(photos, tmp_path, np.eye(3))
    noisy((9, 9, 9), (40, 40), 1).save(tmp_path / "other.png")
    message = failure(
        "run_search.py",
        f"--embeddings={tmp_path / 'set'}",
        f"--query={tmp_path / 'other.png'}",
    )
    assert "made elsewhere" in message
    assert "must be a crop of the set" in message


def test_sets_made_by_the_same_share_their_probes(tmp_path):
    crops = set_of(np.ones((40, 2))).table
    rng = np.random.default_rng(0)

    def make(name, **options):
        vectors = rng.normal(size=(40, 4))
        folder = tmp_path / name
        return EmbeddingSet.from_arrays(vectors, crops, folder=folder, **options)

    first, second = make("a", made_by="dinov2"), make("b", made_by="dinov2")
    assert first.meta["encoder_hash"] == second.meta["encoder_hash"]
    assert first.meta["sha256"] != second.meta["sha256"]
    names = {make("c").meta["encoder_hash"], make("d").meta["encoder_hash"]}
    assert len(names | {make("e", made_by="clip").meta["encoder_hash"]}) == 3
    ranking = Session(Pool(first), query=first.ids[0]).rank()
    assert len(ranking) == 39


def test_the_same_again_is_taken_as_it_is_and_another_moved_aside(tmp_path):
    crops = set_of(np.ones((5, 2))).table
    vectors = np.arange(10.0).reshape(5, 2)
    folder = tmp_path / "set"
    first = EmbeddingSet.from_arrays(vectors, crops, folder=folder)
    again = EmbeddingSet.from_arrays(vectors, crops, folder=folder)
    assert again.meta["sha256"] == first.meta["sha256"]
    assert not list(tmp_path.glob("set.old*"))
    EmbeddingSet.from_arrays(vectors + 1, crops, folder=folder)
    assert len(list(tmp_path.glob("set.old*"))) == 1


def test_images_alone_will_do(photos, tmp_path):
    """As the message says where a folder is given."""
    lines = ["image", *(f"red/{number:02d}.png" for number in (3, 1, 2))]
    vectors = np.array([[3.0, 1], [1, 1], [2, 1]])
    _, found = of_list(photos, tmp_path, lines, vectors)
    assert found.vectors[:, 0].tolist() == [1, 2, 3]
    # The crops of that set, in their own order, with another network's vectors.
    call(
        "run_embed.py",
        f"--data={tmp_path / 'set' / 'crops.parquet'}",
        f"--vectors={tmp_path / 'v.npy'}",
        f"--embeddings={tmp_path / 'other'}",
    )
    assert EmbeddingSet.load(tmp_path / "other").vectors[:, 0].tolist() == [3, 1, 2]


def test_crops_of_a_file_need_their_rows(photos, tmp_path):
    """They are sorted: by counting alone vectors would go to other crops."""
    lines = ["image", *(f"red/{number:02d}.png" for number in (3, 1, 2))]
    (tmp_path / "list.csv").write_text(
        "\n".join(["class," + lines[0], *("r," + one for one in lines[1:])])
    )
    crops = read_crops(tmp_path / "list.csv", images=photos)
    vectors = np.array([[3.0, 1], [1, 1], [2, 1]])
    with pytest.raises(
        ValueError, match=r"rows must be given .*crops\.column\('source_row'\)"
    ):
        EmbeddingSet.from_arrays(vectors, crops, folder=tmp_path / "set")
    rows = crops.column("source_row")
    found = EmbeddingSet.from_arrays(vectors, crops, rows=rows, folder=tmp_path / "set")
    assert found.vectors[:, 0].tolist() == [1, 2, 3]
    for wrong in (rows[:2], rows - 1, rows + 1, rows / 1.0):
        with pytest.raises(ValueError, match=r"^rows must be"):
            EmbeddingSet.from_arrays(vectors, crops, rows=wrong, folder=tmp_path / "x")


def test_a_duplicate_whose_first_has_no_vector_is_the_first_itself(photos, tmp_path):
    (photos / "red" / "again.png").write_bytes((photos / "red" / "00.png").read_bytes())
    names = ["red/00.png", "red/01.png", "red/again.png"]
    for first, count in ((1.0, 1), (np.nan, 0)):
        vectors = np.array([[first, 1], [1, 2], [1, 1]])
        _, found = of_list(photos, tmp_path, ["image", *names], vectors)
        stated = found.table.column("duplicate_of")
        assert (stated != "").sum() == count
        assert set(stated) <= {"", *found.ids}


@pytest.mark.parametrize(
    "vectors", [[[1j, 0]] * 3, [["a", "b"]] * 3, [[True, False]] * 3, [1, 2, 3]]
)
def test_arrays_of_other_kinds_are_refused(tmp_path, vectors):
    with pytest.raises(ValueError, match=r"vectors must be real numbers \[rows, width"):
        EmbeddingSet.from_arrays(
            np.array(vectors), set_of(np.ones((3, 2))).table, folder=tmp_path / "set"
        )


def test_rows_of_arrays_must_match(tmp_path):
    with pytest.raises(ValueError, match=r"\[3, width\].*got \(2, 2\)"):
        EmbeddingSet.from_arrays(
            np.ones((2, 2)), set_of(np.ones((3, 2))).table, folder=tmp_path / "set"
        )


EXPECTED = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_every_kind_of_file_is_read(tmp_path):
    np.save(tmp_path / "v.npy", EXPECTED.astype(np.float16))
    np.savez(tmp_path / "v.npz", a=EXPECTED.astype(np.float64), ids=np.arange(4))
    save_file({"a": EXPECTED.astype(ml_dtypes.bfloat16)}, tmp_path / "v.safetensors")
    frame = pd.DataFrame({"box": [[0, 0, 9, 9]] * 4, "e": list(np.tile(EXPECTED, 2))})
    frame.to_parquet(tmp_path / "v.parquet")
    for ending in ("npy", "npz", "safetensors"):
        found = np.asarray(read_vectors(tmp_path / f"v.{ending}"), np.float32)
        np.testing.assert_array_equal(found, EXPECTED)
    found = read_vectors(tmp_path / "v.parquet")
    np.testing.assert_array_equal(found, np.tile(EXPECTED, 2))
    assert read_vectors(f"{tmp_path / 'v.parquet'}:box").tolist() == [[0, 0, 9, 9]] * 4


def test_a_name_chooses_among_several(tmp_path):
    np.savez(tmp_path / "v.npz", a=EXPECTED, b=EXPECTED + 1)
    with pytest.raises(ValueError, match=r"must name one of a, b, as .*v.npz:a"):
        read_vectors(tmp_path / "v.npz")
    np.testing.assert_array_equal(read_vectors(f"{tmp_path / 'v.npz'}:b"), EXPECTED + 1)
    with pytest.raises(ValueError, match=r"no array 'c'.*holds a, b"):
        read_vectors(f"{tmp_path / 'v.npz'}:c")
    np.savez(tmp_path / "w.npz", **{"img:feat": EXPECTED, "o:k": EXPECTED + 1})
    found = read_vectors(f"{tmp_path / 'w.npz'}:img:feat")
    np.testing.assert_array_equal(found, EXPECTED)


def test_rows_of_parquet_without_a_vector_keep_their_place(tmp_path):
    rows = [[1.0, 2.0], None, [3.0, 4.0], []]
    pd.DataFrame({"e": rows}).to_parquet(tmp_path / "v.parquet")
    found = read_vectors(tmp_path / "v.parquet")
    nan = np.nan
    np.testing.assert_array_equal(found, [[1, 2], [nan, nan], [3, 4], [nan, nan]])


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("v.pt", lambda path: path.touch(), r"np\.save\('vectors\.npy'"),
        ("v.csv", lambda path: path.touch(), "must be one of .npy, .npz"),
        ("none.npy", lambda path: None, "does not exist"),
        ("v.npy", lambda path: np.save(path, np.ones(3)), r"holds float64 \(3,\)"),
        (
            "v.npy",
            lambda path: np.save(path, np.array([["a"], ["b"]])),
            r"must be numbers",
        ),
        (
            "v.npy",
            lambda path: np.save(path, np.array([{}, None]), allow_pickle=True),
            "must be a whole .npy file",
        ),
        ("v.npy", lambda path: path.write_bytes(b"no"), "must be a whole .npy file"),
        ("v.npz", lambda path: path.write_bytes(b"no"), "must be a whole .npz file"),
        ("v.safetensors", lambda path: path.write_bytes(b"no"), "must be a whole"),
        ("v.parquet", lambda path: path.write_bytes(b"no"), "must be a whole"),
        (
            "v.parquet",
            lambda path: pd.DataFrame({"e": [[1.0], [1.0, 2.0]]}).to_parquet(path),
            "numbers \\[rows, width\\]; .* holds none",
        ),
    ],
)
def test_what_holds_no_vectors_is_refused(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        read_vectors(tmp_path / name)


def test_parquet_of_pandas_is_read_as_a_csv_is(photos, tmp_path):
    frame = pd.DataFrame(
        {
            "file_name": ["red/03.png", "blue/01.png"],
            "bbox": [[1, 2, 10, 12], [0, 0, 40, 32]],
            "class": pd.Categorical(["007", "beet"]),
            "day": [3, 4],
            "embedding": [np.ones(8), np.ones(8)],
        },
        index=[7, 9],
    )
    frame.to_parquet(tmp_path / "boxes.parquet")
    call(
        "run_embed.py",
        f"--data={tmp_path / 'boxes.parquet'}",
        f"--vectors={tmp_path / 'boxes.parquet'}:embedding",
        f"--embeddings={tmp_path / 'set'}",
        "--config=" + json.dumps({"images": str(photos)}),
    )
    table = CropTable.read(tmp_path / "set" / "crops.parquet")
    assert table.column("label_name").tolist() == ["beet", "007"]
    assert table.boxes.tolist() == [[0, 0, 40, 32], [1, 2, 11, 14]]
    assert table.column("day").tolist() == [4, 3]
    assert "embedding" not in table.rows.column_names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--encoder=resnet50"], "encoder and weights don't apply to vectors"),
        (["--tiles=64"], "vectors and tiles exclude each other"),
    ],
)
def test_what_vectors_exclude(tmp_path, given, message):
    (tmp_path / "list.csv").write_text("image\na.png\n")
    np.save(tmp_path / "v.npy", np.ones((1, 2)))
    call_of = [f"--data={tmp_path / 'list.csv'}", f"--vectors={tmp_path / 'v.npy'}"]
    call_of += [f"--embeddings={tmp_path / 'set'}", *given]
    assert message in failure("run_embed.py", *call_of)


def test_made_by_needs_vectors(photos, tmp_path):
    given = [f"--data={photos}", f"--embeddings={tmp_path / 'set'}"]
    message = failure("run_embed.py", *given, '--config={"made_by": "dinov2"}')
    assert "made_by names what made vectors, and needs them" in message


def test_a_probe_of_another_width_says_what_makes_sets_alike(tmp_path):
    crops = set_of(np.ones((30, 2))).table
    rng = np.random.default_rng(0)
    sets = [
        EmbeddingSet.from_arrays(
            rng.normal(size=(30, width)),
            crops,
            folder=tmp_path / str(width),
            made_by="d",
        )
        for width in (3, 4)
    ]
    marks = {str(name): place < 5 for place, name in enumerate(sets[0].ids[1:11])}
    path = tmp_path / "marks.csv"
    lines = [
        "crop_id,relevant",
        *(f"{name},{int(mark)}" for name, mark in marks.items()),
    ]
    path.write_text("\n".join(lines))
    probe = tmp_path / "probe"
    query = f"--query={sets[0].ids[0]}"
    call(
        "run_search.py",
        f"--embeddings={tmp_path / '3'}",
        query,
        f"--marks={path}",
        f"--save_probe={probe}",
    )
    message = failure(
        "run_search.py", f"--embeddings={tmp_path / '4'}", f"--probe={probe}"
    )
    assert "where made_by and their width are the same" in message
