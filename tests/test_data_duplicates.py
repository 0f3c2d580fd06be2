"""The same picture twice: what is found, what isn't, and what follows from it."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.duplicates import plant
from curation.config import FinetuneConfig
from curation.crops import duplicates_in_words
from curation.finetuning import _looked_at
from curation.pool import Pool
from curation.session import Session
from data import duplicates
from data.crop_table import CropTable
from data.duplicates import (
    SAME,
    Looks,
    find_duplicates,
    first_of_each,
    group_of,
    leaks,
    likeness,
    looks_of,
    read_looks,
    with_duplicates,
)
from data.embedding_writer import EmbeddingWriter
from data.embeddings import EmbeddingSet
from data.formats.registry import read_source
from data.images import CropWindow
from data.splits import split_mask
from tests.conftest import TINY, call, failure, set_of


def picture(seed, size=96):
    """Something that no other seed shows: soft blobs of several colors."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def as_array(image, size=96):
    return np.asarray(image.convert("RGB").resize((size, size)))


def again(image, kind):
    if kind == "quality60":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=60)
        return Image.open(buffer)
    return plant(kind, image, np.array([[0, 0, *image.size]]))[0]


def looks(*images):
    return looks_of(np.stack([as_array(image) for image in images]))


KINDS = ("copy", "quality60", "resized0.8", "mirrored", "shifted3")


@pytest.mark.parametrize("kind", KINDS)
def test_what_shows_the_same_is_found(kind):
    images = [picture(seed) for seed in range(12)]
    found = find_duplicates(looks(*images, *(again(one, kind) for one in images)))
    assert found.group.tolist() == [*range(12), *range(12)]
    assert found.rows.tolist() == list(range(12, 24))
    assert found.exact.all() == (kind == "copy")
    assert found.exact.any() == (kind == "copy")


def test_what_is_other_is_not_found():
    # Turned, darker on one half, another crop of the same, and negatives.
    one = picture(0, 192)
    middle = np.array(one)
    middle[:, :96] //= 4
    others = [
        one.rotate(90),
        Image.fromarray(middle),
        one.crop((40, 0, 192, 152)),
        Image.fromarray(255 - np.asarray(one)),
    ]
    found = find_duplicates(looks(one, *others, *(picture(seed) for seed in (1, 2))))
    assert not len(found.rows)


def test_a_common_frame_makes_no_duplicates():
    """Photos of a table: nine tenths of the contrast is its edge, the rest is other."""
    images = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        pixels = np.clip(120 + rng.normal(0, 12, (32, 32, 3)), 0, 255).astype(np.uint8)
        image = Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC)
        image.paste((255, 255, 255), (0, 0, 96, 24))
        image.paste((0, 0, 0), (0, 24, 24, 96))
        images.append(image)
    arrays = [as_array(image).astype(float) for image in images[:2]]
    as_a_whole = np.corrcoef(*(one.ravel() for one in arrays))[0, 1]
    assert as_a_whole > 0.95
    assert not len(find_duplicates(looks(*images)).rows)


def test_what_shows_nothing_is_no_duplicate():
    black, gray = (Image.new("RGB", (96, 96), color) for color in ("black", "gray"))
    assert not len(find_duplicates(looks(black, black, gray, picture(0))).rows)


def test_groups_go_by_the_first_row_and_any_size():
    images = [picture(0), picture(1), *[picture(0)] * 20, again(picture(0), "mirrored")]
    found = find_duplicates(looks(*images))
    assert found.group.tolist() == [0, 1, *[0] * 21]
    assert found.exact.tolist() == [True, False, *[True] * 20, False]


def test_likeness_is_1_of_the_same_and_small_of_others():
    one, two = (looks(picture(seed)).thumbnails for seed in (0, 1))
    assert likeness(one, one) == pytest.approx(1, abs=1e-6)
    assert likeness(one, two) < 0.5
    mirrored = np.ascontiguousarray(one[:, :, ::-1])
    assert likeness(one, mirrored) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("shift", [(0, 3), (-3, 2), (1, -1)])
def test_the_shift_is_found(shift):
    large = np.asarray(picture(3, 48))
    down, across = shift
    one = large[8:40, 8:40][None]
    other = large[8 - down : 40 - down, 8 - across : 40 - across][None]
    found = duplicates._best_shift(
        *(image.astype(np.float32) for image in (other, one))
    )
    assert (int(found[0][0]), int(found[1][0])) == shift
    assert likeness(one, other) > 0.99


def test_cells_find_what_comparing_all_finds(monkeypatch):
    images = [picture(seed) for seed in range(300)]
    images += [again(picture(seed), "mirrored") for seed in range(0, 300, 3)]
    images += [again(picture(seed), "shifted3") for seed in range(1, 300, 3)]
    every = looks(*images)
    exact = find_duplicates(every)
    assert len(exact.rows) == 200
    monkeypatch.setattr(duplicates, "_EXACT_ROWS", 10)
    in_cells = find_duplicates(every)
    assert (in_cells.group == exact.group).mean() > 0.98
    assert set(in_cells.rows) <= set(exact.rows)


def test_thumbnails_are_blurred_means_and_hashes_tell_a_single_value():
    crops = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    crops[1] = crops[0]
    crops[1, 95, 95, 2] ^= 1
    found = looks_of(crops)
    means = crops.reshape(2, 32, 3, 32, 3, 3).mean(axis=(2, 4))
    # (1, 2, 1) / 4 twice is (1, 4, 6, 4, 1) / 16, each way.
    weights = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])[..., None] / 256
    for row, column in ((2, 2), (16, 7), (29, 29)):
        near = means[:, row - 2 : row + 3, column - 2 : column + 3]
        expected = (near * weights).sum(axis=(1, 2))
        assert found.thumbnails[:, row, column] == pytest.approx(expected, abs=1.1)
    assert found.hashes[0] != found.hashes[1]
    assert looks_of(crops[:1]).hashes[0] == found.hashes[0]


# Tables, splits and sets


@pytest.fixture
def twice(tmp_path):
    """Sixteen photos of two classes, each again in another form and split."""
    root = tmp_path / "photos"
    for seed in range(16):
        name = "ab"[seed % 2]
        for split, image in (
            ("train", picture(seed)),
            ("test", again(picture(seed), KINDS[seed % 5])),
        ):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            ending = "jpg" if split == "test" and seed % 5 == 1 else "png"
            image.save(root / split / name / f"{seed:02d}.{ending}")
    return root


def embedded(source, folder, *more):
    done = call(
        "run_embed.py", f"--data={source}", f"--embeddings={folder}", *TINY[:3], *more
    )
    return done, EmbeddingSet.load(folder)


def test_leaks_between_splits_are_named(twice, tmp_path):
    done, found = embedded(twice, tmp_path / "set")
    assert "16 of 32 crops show the same as another one" in done.stdout
    assert "16 of them leak from one split into another" in done.stdout
    assert (
        "train/a/00.png (train) shows the same as test/a/00.png (test)" in done.stdout
    )
    splits = found.table.column("split")
    for row, first in leaks(found.table):
        assert (splits[row], splits[first]) == ("train", "test")
    with open(tmp_path / "set" / "duplicates.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 16
    for line in lines:
        assert line["image"].split("/")[2][:2] == line["image_of"].split("/")[2][:2]
        assert (line["split"], line["split_of"]) == ("train", "test")
    assert not list((tmp_path / "set").glob("thumbnails*"))


def test_images_of_several_splits_are_named(twice, tmp_path):
    lines = ["image,left,top,right,bottom,split"]
    lines += [
        f"photos/train/a/00.png,0,0,{side},9,{split}"
        for side, split in ((9, "train"), (8, "test"))
    ]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    _, report = read_source(tmp_path / "boxes.csv")
    assert [line for line in report.lines() if "listed in several splits" in line] == [
        "1 images are listed in several splits, which leaks from one to another, such "
        "as photos/train/a/00.png"
    ]


def test_lists_hide_them_behind_the_first(twice, tmp_path):
    embedded(twice, tmp_path / "set")
    run = f"--embeddings={tmp_path / 'set'}"

    def listed(*more):
        call(
            "run_search.py",
            run,
            "--query=test/a/00.png",
            f"--out={tmp_path / 'o.csv'}",
            *more,
        )
        with open(tmp_path / "o.csv", newline="") as file:
            return [row["image"] for row in csv.DictReader(file)]

    assert len(listed()) == 31
    shown = listed("--hide_duplicates")
    assert len(shown) == 15  # of the query none either
    assert all(image.startswith("test/") for image in shown)
    assert not [image for image in shown if "/00." in image]
    # Behind the first of those that are searched.
    of_train = listed("--hide_duplicates", "--where=split = 'train'")
    assert len(of_train) == 15
    assert all(image.startswith("train/") for image in of_train)


def test_retrieval_without_them(twice, tmp_path):
    embedded(twice, tmp_path / "set")
    run = [f"--embeddings={tmp_path / 'set'}", "--retrieval", "--k=5"]
    assert "32" in call("run_evaluate.py", *run).stdout
    assert "16" in call("run_evaluate.py", *run, "--hide_duplicates").stdout


def test_what_is_measured_on_a_split_names_its_leaks(twice, tmp_path):
    embedded(twice, tmp_path / "set")
    run = [f"--embeddings={tmp_path / 'set'}", "--retrieval", "--k=5"]
    assert "leak from one split" in call("run_evaluate.py", *run, "--split=test").stdout
    assert "leak" not in call("run_evaluate.py", *run).stdout


def test_sets_that_nobody_looked_at_say_so(twice, tmp_path):
    off = '--config={"find_duplicates": false}'
    _, found = embedded(twice, tmp_path / "set", off)
    assert group_of(found.table) is None
    assert duplicates_in_words(found.table) == []
    message = failure(
        "run_search.py",
        f"--embeddings={tmp_path / 'set'}",
        f"--query={found.ids[0]}",
        "--hide_duplicates",
    )
    assert "made without looking: embed the crops again" in message


def test_the_hash_of_a_set_does_not_depend_on_looking(twice, tmp_path):
    """So sets of versions that didn't look are still taken as they are."""
    _, found = embedded(twice, tmp_path / "a", '--config={"find_duplicates": false}')
    _, other = embedded(twice, tmp_path / "b")
    for name in ("table_hash", "source_table_hash", "sha256"):
        assert found.meta[name] == other.meta[name]
    embedded(twice, tmp_path / "a")
    assert not list(tmp_path.glob("a.old*"))


def test_parts_that_were_not_looked_at_go_on(tmp_path):
    table = set_of(np.ones((6, 2))).table
    crops = np.zeros((6, 40, 40, 3), np.uint8)
    for looked in (False, True):
        folder = tmp_path / str(looked)
        writer = EmbeddingWriter(
            folder, table, 2, {"encoder_hash": "e"}, rows_per_part=3
        )
        first = looks_of(crops[:3]) if looked else None
        writer.append(np.ones((3, 2), np.float32), np.ones(3, bool), first)
        again = EmbeddingWriter(
            folder, table, 2, {"encoder_hash": "e"}, rows_per_part=3
        )
        assert again.next_row == 3
        again.append(np.ones((3, 2), np.float32), np.ones(3, bool), looks_of(crops[3:]))
        done = again.finish({})
        assert len(done.table) == 6
        assert (group_of(done.table) is not None) == looked


def many(images, sessions=None):
    """A table of whole images without splits."""
    count = len(images)
    columns = {"left": [0] * count, "top": [0] * count, "right": [9] * count}
    columns |= {
        "bottom": [9] * count,
        "label": [-1] * count,
        "label_name": [""] * count,
    }
    columns |= {"session": sessions or [""] * count, "split": [""] * count}
    return CropTable.from_columns("nowhere", {"image": images, **columns})


def test_made_splits_never_part_them():
    """Pairs of images: by their hashes alone many would be torn apart."""
    table = many([f"{row:03d}.png" for row in range(200)])
    group = np.arange(200) // 2 * 2
    plain = split_mask(table, "validation")
    assert (plain[::2] != plain[1::2]).sum() > 10
    paired = with_duplicates(table, duplicates.Duplicates(group, np.zeros(200, bool)))
    mask = split_mask(paired, "validation")
    assert (mask[::2] == mask[1::2]).all()
    assert 10 < mask.sum() < 60
    # One by one they fall where the first of them would.
    assert (mask[::2] == plain[::2]).all()


def test_sessions_that_show_the_same_go_together():
    sessions = [f"s{row // 4:02d}" for row in range(80)]
    table = many([f"{row:03d}.png" for row in range(80)], sessions)
    group = np.arange(80)
    group[[7, 15, 23]] = 0  # one crop of each of s01, s03 and s05 is that of s00
    found = with_duplicates(table, duplicates.Duplicates(group, np.zeros(80, bool)))
    mask = split_mask(found, "train")
    by_session = mask.reshape(20, 4)
    assert (by_session.all(axis=1) | ~by_session.any(axis=1)).all()
    assert len({*by_session[[0, 1, 3, 5], 0].tolist()}) == 1


def test_the_first_of_each_among_those_that_are_searched():
    table = many([f"{row}.png" for row in range(6)])
    group = np.array([0, 1, 0, 1, 0, 5])
    found = with_duplicates(table, duplicates.Duplicates(group, np.zeros(6, bool)))
    assert group_of(found).tolist() == group.tolist()
    every = np.ones(6, bool)
    assert first_of_each(found, every).tolist() == [
        True,
        True,
        False,
        False,
        False,
        True,
    ]
    part = np.array([False, False, True, True, True, True])
    assert first_of_each(found, part).tolist() == [
        False,
        False,
        True,
        True,
        False,
        True,
    ]
    # Where the first is gone, the next one is.
    assert group_of(found.take(np.array([2, 4, 5]))).tolist() == [0, 0, 2]


def test_a_session_without_hidden_crops_counts_what_it_shows(tmp_path):
    table = many([f"{row}.png" for row in range(6)])
    group = np.array([0, 1, 0, 1, 0, 5])
    table = with_duplicates(table, duplicates.Duplicates(group, np.zeros(6, bool)))
    vectors = np.random.default_rng(0).normal(size=(6, 3))
    found = EmbeddingSet.from_arrays(vectors, table, folder=tmp_path / "set")
    session = Session(Pool(found, hide_duplicates=True), query=found.ids[2])
    assert sorted(session.rank().rows.tolist()) == [1, 5]
    assert len(Session(Pool(found), query=found.ids[2]).rank()) == 5


def test_fine_tuning_looks_before_it_makes_splits(tmp_path):
    root = tmp_path / "photos"
    for seed in range(60):
        (root / "ab"[seed % 2]).mkdir(parents=True, exist_ok=True)
        picture(seed // 2, 40).save(root / "ab"[seed % 2] / f"{seed:02d}.png")
    run = [f"--data={root}", f"--run_dir={tmp_path / 'run'}", *TINY]
    run += ["--objective=supervised", "--epochs=1"]
    done = call("run_finetune.py", *run)
    assert "30 of 60 crops show the same" in done.stderr
    table = CropTable.read(tmp_path / "run" / "crops.parquet")
    mask = split_mask(table, "validation")
    images = table.column("image")
    pairs: dict[str, set[bool]] = {}
    for image, held_out in zip(images, mask, strict=True):
        pairs.setdefault(str(int(image[-6:-4]) // 2), set()).add(bool(held_out))
    assert {len(sides) for sides in pairs.values()} == {1}
    call("run_finetune.py", *run)  # it is taken for the same run
    assert json.loads((tmp_path / "run" / "result.json").read_text())["crops"] == 60


def test_a_run_that_began_without_looking_keeps_its_splits(twice, tmp_path):
    """As those of earlier versions did; one that has looked doesn't look again."""
    crops, _ = read_source(twice)
    config = FinetuneConfig()
    assert group_of(_looked_at(crops, config, tmp_path)) is not None
    crops.write(tmp_path / "crops.parquet")
    assert group_of(_looked_at(crops, config, tmp_path)) is None
    stated = duplicates.Duplicates(np.zeros(32, int), np.zeros(32, bool))
    with_duplicates(crops, stated).write(tmp_path / "crops.parquet")
    found = _looked_at(crops, config, tmp_path)
    assert set(group_of(found)) == {0}
    off = FinetuneConfig(find_duplicates=False)
    assert group_of(_looked_at(crops, off, tmp_path)) is None


def test_a_run_of_another_recording_is_said_to_be_that(photos, tmp_path):
    run = [f"--data={photos}", f"--run_dir={tmp_path / 'run'}", *TINY, "--epochs=1"]
    lines = [
        f"photos/{name}/{n:02d}.png,{name},{n % 4},{n % 3}"
        for name in ("red", "blue")
        for n in range(12)
    ]
    (tmp_path / "list.csv").write_text("image,class,walk,day\n" + "\n".join(lines))
    run[0] = f"--data={tmp_path / 'list.csv'}"
    call("run_finetune.py", *run, "--recording=walk")
    message = failure("run_finetune.py", *run, "--recording=day")
    assert "recording is 'day' now and was 'walk'" in message


def test_crops_are_read_for_their_looks(twice):
    table, _ = read_source(twice)
    found = read_looks(table, CropWindow())
    assert isinstance(found, Looks)
    assert found.thumbnails.shape == (32, 32, 32, 3)
    assert len(find_duplicates(found).rows) == 16
    assert SAME < 1
