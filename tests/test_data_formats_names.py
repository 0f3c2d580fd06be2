"""What is taken home and what files are called, by hand."""

import csv
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from artifacts.progress import no_progress
from data.crop_table import CropTable
from data.formats.base import RAW
from data.formats.cropandweed import variants
from data.formats.registry import FORMATS
from data.formats.writing import (
    Selection,
    crop_picture,
    distinct_file_names,
    examples_of,
    image_sizes,
    link,
    rows_by_image,
    safe_name,
    selected_columns,
    split_of_images,
)
from data.images import CropWindow
from data.report import Report
from tests.conftest import read_image_folder
from tests.test_data_crop_table import columns

BOXES = [(0, 0, 4, 4), (2, 0, 8, 4), (0, 0, 9, 9), (1, 1, 5, 7)]
WHERE = ["a.png", "a.png", "b.png", "c.png"]


def table_of(root="nowhere", **more):
    return CropTable.from_columns(
        root, columns(WHERE, BOXES, label_name=["beet", "maize", "", "beet"]) | more
    )


def selection_of(table, name="young beet", rows=(3, 0), marks=None):
    marks = {0: True, 1: False} if marks is None else marks
    scores = np.linspace(0.9, 0.1, len(rows))
    return Selection(table, np.array(rows, int), scores, name, marks)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("beet 4-6.jpg", "beet_4-6.jpg"),
        ("a//b\\c:d", "a_b_c_d"),
        ("Zuckerr\u00fcbe", "Zuckerr\u00fcbe"),
        ("u\u0308", "\u00fc"),  # composed
        ("\u0915\u093f", "\u0915\u093f"),  # a vowel that belongs to its letter
        ("..hidden", "hidden"),
        ("_x_", "x"),
        ("...", "unnamed"),
        ("", "unnamed"),
        ("a   b", "a_b"),
        ("tab\tline\n", "tab_line"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("LPT9", "_LPT9"),
        ("COM0", "COM0"),
        ("COM10", "COM10"),
        ("console", "console"),
        (".png", "png"),
        ("a.endingof12ch", "a.endingof12ch"),
    ],
)
def test_file_names(text, name):
    assert safe_name(text) == name


def test_long_names_are_cut_and_still_told_apart():
    for letter, width in (("x", 1), ("\u00fc", 2), ("\u0915", 3)):
        for most in (40, 100, 200):
            name = safe_name(letter * 300 + ".jpg", most)
            assert most - width < len(name.encode()) <= most
            stem = name.removesuffix(".jpg")
            assert stem[:-9] == letter * len(stem[:-9])
            assert stem[-9] == "-"
            assert set(stem[-8:]) <= set("0123456789abcdef")
            assert name != safe_name(letter * 301 + ".jpg", most)
            assert name == safe_name(letter * 300 + ".jpg", most)
    assert safe_name("x" * 200) == "x" * 200
    assert len(safe_name("x" * 201)) == 200
    assert safe_name("x" * 196 + ".jpg") == "x" * 196 + ".jpg"
    assert safe_name("x" * 197 + ".jpg").endswith(".jpg")
    # What is longer than an ending is none.
    assert not safe_name("x" * 300 + ".endingof13let").endswith(".endingof13let")
    # A cut never ends in a dot or an underscore.
    assert safe_name("ab" + "_." * 40 + "cd" * 100, 20).startswith("ab-")


def test_names_that_clash_are_numbered():
    texts = {1: "a.jpg", 2: "A.jpg", 3: "a.JPG", 4: "a-2.jpg", 5: "b", 6: "b "}
    assert distinct_file_names(texts) == {
        1: "a.jpg",
        2: "A-2.jpg",
        3: "a-3.JPG",
        4: "a-2-2.jpg",
        5: "b",
        6: "b-2",
    }
    many = distinct_file_names(dict.fromkeys(range(30), "x" * 300 + ".jpg"))
    assert len(set(many.values())) == 30
    assert max(len(name) for name in many.values()) <= 200


def test_a_selection_says_what_is_wrong_with_it():
    table = table_of()
    with pytest.raises(ValueError, match="at least one crop"):
        selection_of(table, rows=())
    for name in ("", "  "):
        with pytest.raises(ValueError, match="class_name must be given"):
            selection_of(table, name)
    for name in ("x" * 101, "two\nlines", "bell\x07"):
        with pytest.raises(ValueError, match="of at most 100 letters, without line br"):
            selection_of(table, name)
    assert selection_of(table, "x" * 100).class_name == "x" * 100
    assert selection_of(table, "x").class_name == "x"
    assert repr(selection_of(table)) == "Selection(2 crops of 'young beet')"


def test_what_a_selection_comes_to():
    chosen = selection_of(table_of(), marks={0: True, 1: False, 2: False, 3: True})
    assert chosen.against == [1, 2]
    assert chosen.score_of == {3: 0.9, 0: 0.1}
    assert chosen.classes == ["beet", "maize", "young beet"]
    assert chosen.class_of_all() == ["young beet", "maize", "", "young beet"]
    more = selection_of(table_of(), "beet", rows=(2,))
    assert more.classes == ["maize", "beet"]
    assert more.class_of_all() == ["beet", "maize", "beet", "beet"]
    rows = selected_columns(chosen).to_pydict()
    assert rows["label_name"] == rows["class"] == ["young beet"] * 2
    assert rows["previous_label"] == ["beet", "beet"]
    assert (rows["label"], rows["score"]) == ([0, 0], [0.9, 0.1])
    assert rows["image"] == ["c.png", "a.png"]
    assert rows["relevant"] == [True, True]
    unmarked = selected_columns(selection_of(table_of(), marks={0: False}))
    assert unmarked.to_pydict()["relevant"] == [None, False]


def test_photos_have_a_size_and_a_split():
    table = table_of(split=["train", "test", "", "test"])
    assert rows_by_image(table) == {"a.png": [0, 1], "b.png": [2], "c.png": [3]}
    assert image_sizes(table) == {"a.png": (8, 4), "b.png": (9, 9), "c.png": (5, 7)}
    report = Report()
    splits = split_of_images(table, report)
    assert splits == {"a.png": "train", "b.png": "", "c.png": "test"}
    counted = "photos whose boxes are of several splits: the first"
    assert report.counts == {counted: 1}
    sized = table_of(image_width=[20, 20, 30, 40], image_height=[2, 2, 3, 4])
    assert image_sizes(sized)["c.png"] == (40, 4)


def test_pictures_of_the_class_and_of_what_is_not(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 9, 3)).astype(np.uint8)
    for name in ("a.png", "c.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    table = table_of(tmp_path)
    chosen = selection_of(table, rows=(3, 0, 2), marks={0: True, 1: False})
    report = Report()
    report.written = 3
    found = list(examples_of(chosen, report, no_progress))
    assert [(row, name, score) for row, name, score, _ in found] == [
        (0, "young beet", 0.5),
        (1, "not young beet", None),
        (3, "young beet", 0.9),
    ]
    assert report.written == 2  # b.png isn't there
    np.testing.assert_array_equal(np.asarray(found[2][3]), pixels[1:7, 1:5])
    square = crop_picture(table, 3, CropWindow())
    np.testing.assert_array_equal(np.asarray(square), pixels[1:7, 0:6])
    link(tmp_path / "a.png", tmp_path / "linked.png")
    assert (tmp_path / "linked.png").resolve() == (tmp_path / "a.png").resolve()


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "field"
    root.mkdir()
    for name in ("a.png", "c.png"):
        Image.new("RGB", (10, 20), (9, 9, 9)).save(root / name)
    return root


def write(name, chosen, folder):
    folder.mkdir()
    report = Report()
    report.written = len(chosen.rows)
    FORMATS[name].write(chosen, folder, report, no_progress)
    return report


def test_coco_is_written_as_it_should_read(photos, tmp_path):
    table = table_of(photos, split=["train", "", "test", ""])
    report = write("coco", selection_of(table), tmp_path / "out")
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert content["info"] == {
        "description": "class 'young beet' added",
        "images_root": str(photos.resolve()),
    }
    assert content["images"] == [
        {"id": 1, "file_name": "a.png", "width": 8, "height": 4, "split": "train"},
        {"id": 2, "file_name": "b.png", "width": 9, "height": 9, "split": "test"},
        {"id": 3, "file_name": "c.png", "width": 5, "height": 7},
    ]
    assert content["categories"] == [
        {"id": 1, "name": "beet"},
        {"id": 2, "name": "maize"},
        {"id": 3, "name": "young beet"},
    ]
    assert content["annotations"] == [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "iscrowd": 0,
            "area": area,
            "segmentation": [corners],
            "crop_id": table.ids[number - 1],
            **score,
        }
        for number, image, category, box, area, corners, score in [
            (1, 1, 3, [0, 0, 4, 4], 16, [0, 0, 4, 0, 4, 4, 0, 4], {"score": 0.1}),
            (2, 1, 2, [2, 0, 6, 4], 24, [2, 0, 8, 0, 8, 4, 2, 4], {}),
            (4, 3, 3, [1, 1, 4, 6], 24, [1, 1, 5, 1, 5, 7, 1, 7], {"score": 0.9}),
        ]
    ]
    assert report.counts["boxes of no class"] == 1


def test_yolo_is_written_as_it_should_read(photos, tmp_path):
    sizes = {"image_width": [10] * 4, "image_height": [20] * 4}
    table = table_of(photos, split=["train", "train", "", "odd"], **sizes)
    out = tmp_path / "out"
    report = write("yolo", selection_of(table, rows=(3, 0, 2)), out)
    assert (out / "labels" / "a.txt").read_text().splitlines() == [
        "2 0.20000000 0.10000000 0.40000000 0.20000000",
        "1 0.50000000 0.10000000 0.60000000 0.20000000",
    ]
    assert (out / "labels" / "c.txt").read_text() == (
        "2 0.30000000 0.20000000 0.40000000 0.30000000\n"
    )
    assert yaml.safe_load((out / "data.yaml").read_text()) == {
        "train": "train.txt",
        "val": "train.txt",
        "names": {0: "beet", 1: "maize", 2: "young beet"},
    }
    assert (out / "train.txt").read_text() == "./images/a.png\n"
    assert sorted(path.name for path in (out / "images").iterdir()) == [
        "a.png",
        "c.png",
    ]
    assert (out / "images" / "a.png").read_bytes() == (photos / "a.png").read_bytes()
    assert report.written == 2  # b.png isn't there
    assert [one.image for one in report.skipped] == ["b.png"]
    odd = "photos of no split that data.yaml can name: only in images/"
    assert report.counts[odd] == 1
    again = write("yolo", selection_of(table_of(photos)), tmp_path / "plain")
    content = yaml.safe_load((tmp_path / "plain" / "data.yaml").read_text())
    assert (content["train"], content["val"]) == ("images", "images")
    assert odd not in again.counts
    assert again.counts["boxes of no class"] == 1


def test_each_split_has_its_list(photos, tmp_path):
    table = table_of(photos, split=["validation", "validation", "", "test"])
    write("yolo", selection_of(table), tmp_path / "out")
    content = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert {key: content[key] for key in ("train", "val", "test")} == {
        "train": "val.txt",
        "val": "val.txt",
        "test": "test.txt",
    }
    assert (tmp_path / "out" / "test.txt").read_text() == "./images/c.png\n"


def test_pictures_lie_in_folders_of_their_class(photos, tmp_path):
    table = table_of(photos)
    report = write("folder", selection_of(table, rows=(3, 0, 2)), tmp_path / "out")
    assert sorted(
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").rglob("*.png")
    ) == [
        f"not_young_beet/{table.ids[1]}.png",
        *sorted(f"young_beet/{table.ids[row]}.png" for row in (0, 3)),
    ]
    assert report.written == 2
    with Image.open(tmp_path / "out" / "young_beet" / f"{table.ids[3]}.png") as image:
        assert image.size == (4, 6)
    # A class that is called as a split, or as what has no class, stays a class.
    for name in ("test", "unlabelled"):
        write("folder", selection_of(table, name), tmp_path / name)
        read, _ = read_image_folder(tmp_path / name)
        assert set(read.column("label_name")) == {f"{name}_class", f"not_{name}"}
        assert set(read.column("split")) == {""}


def test_a_table_is_written_with_all_its_columns(photos, tmp_path):
    write("csv", selection_of(table_of(photos, age=[1, 2, 3, 4])), tmp_path / "out")
    with open(tmp_path / "out" / "crops.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["class"], row["age"], row["score"]) for row in rows] == [
        ("c.png", "young beet", "4", "0.9"),
        ("a.png", "young beet", "1", "0.1"),
    ]
    assert [(row["relevant"], row["previous_label"]) for row in rows] == [
        ("", "beet"),
        ("true", "beet"),
    ]


@pytest.mark.parametrize(
    ("label_ids", "name", "new"),
    [
        ([9, 9, 255, 200], "young beet", 201),
        ([9, 9, 255, 254], "young beet", 256),  # 255 is what has no class
        ([9, 9, 255, 3], "Maize", 1),  # one that exists is added to
    ],
)
def test_cropandweed_gets_a_new_id(photos, tmp_path, label_ids, name, new):
    raw = variants()[RAW].names
    table = table_of(
        photos, label_id=label_ids, stem_x=[1, 2.5, np.nan, 4], stem_y=[0] * 4
    )
    if name in raw.values():
        new = next(label for label, known in raw.items() if known == name)
    write("cropandweed", selection_of(table, name, rows=(0,)), tmp_path / "out")
    (path,) = (tmp_path / "out").glob("variants_*.csv")
    with open(path, newline="") as file:
        stated = {int(row["label_id"]): row for row in csv.DictReader(file)}
    assert stated[new]["name"] == name
    assert stated[new]["source_label_ids"] == (str(new) if new in raw else "")
    assert set(stated) == {*label_ids, new} - {255}
    (folder,) = (tmp_path / "out" / "bboxes").iterdir()
    assert (folder / "a.csv").read_text().splitlines() == [
        f"0,0,4,4,{new},1,0",
        "2,0,8,4,9,2.5,0",
    ]
    assert (folder / "b.csv").read_text().splitlines() == ["0,0,9,9,255,,0"]
