"""What the table in docs/formats.md promises of each format that is written and read:
it comes back, whatever files and classes are called.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from curation.exporting import export
from data.crop_table import CropTable
from data.formats.base import SourceOptions
from data.formats.build import plain_name
from data.formats.registry import read_source
from data.formats.writing import Selection
from data.images import EXTENSIONS
from tests.test_data_formats_writing import card

SIZE = (64, 48)
SCRIPTS = "abcXYZ019 äßñ řž полеВ 甜菜小麦 شمندر चुकंदर #%&+=@!'(),;[]{}~$^`"
LETTERS = st.sampled_from(sorted(set(SCRIPTS)))
WORD = st.text(LETTERS, min_size=1, max_size=12)
LONG = st.builds(lambda text, count: text * count, WORD, st.integers(1, 6))
ENDING = st.sampled_from(["", ".png", ".jpg", ".JPG", ".tif", ".b.png"])


def is_name(part):
    return part.strip(" .") == part and 0 < len(part.encode()) < 200


FILE = st.builds(lambda stem, ending: stem + ending, LONG, ENDING).filter(is_name)
PATH = st.lists(LONG.filter(is_name), max_size=4).flatmap(
    lambda folders: FILE.map(lambda file: "/".join([*folders, file]))
)
NAME = st.text(LETTERS, min_size=1, max_size=30).map(plain_name).filter(bool)
BOX = st.tuples(
    st.integers(0, 40), st.integers(0, 30), st.integers(1, 20), st.integers(1, 15)
)
SPLIT = st.sampled_from(["train", "validation", "test", ""])


@st.composite
def tables(draw):
    """(image -> its split, [(image, box, class)])."""
    paths = draw(st.lists(PATH, min_size=1, max_size=5, unique_by=str.casefold))
    whole = set(paths)
    paths = [  # a file can't be a folder too
        path
        for path in paths
        if not any(str(above) in whole for above in Path(path).parents)
    ]
    classes = draw(st.lists(NAME, max_size=4))
    splits = {path: draw(SPLIT) for path in paths}
    crops = []
    for path in paths:
        for left, top, width, height in draw(
            st.lists(BOX, min_size=1, max_size=4, unique=True)
        ):
            name = draw(st.sampled_from([*classes, ""]))
            crops.append((path, (left, top, left + width, top + height), name))
    return splits, crops


def made(root, splits, crops):
    for number, path in enumerate(splits):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        color = tuple(np.random.default_rng(number).integers(0, 255, 3).tolist())
        Image.new("RGB", SIZE, color).save(root / path, "PNG")
    classes = sorted({name for _, _, name in crops} - {""})
    columns = {
        "image": [path for path, _, _ in crops],
        "label": [classes.index(name) if name else -1 for _, _, name in crops],
        "label_name": [name for _, _, name in crops],
        "session": [""] * len(crops),
        "split": [splits[path] for path, _, _ in crops],
        "image_width": [SIZE[0]] * len(crops),
        "image_height": [SIZE[1]] * len(crops),
    }
    for place, side in enumerate(("left", "top", "right", "bottom")):
        columns[side] = [box[place] for _, box, _ in crops]
    return CropTable.from_columns(root, columns)


def facts(table, image_of=str):
    """(image, box, class, split) of every crop."""
    return sorted(
        (image_of(image), *box, name, split)
        for image, box, name, split in zip(
            table.column("image"),
            table.boxes.tolist(),
            table.column("label_name"),
            table.column("split"),
            strict=True,
        )
    )


def expected(selection):
    """The same of what an export of all boxes holds, less those of no class."""
    table = selection.table
    names = selection.class_of_all()
    rows = [row for row, name in enumerate(names) if name]
    return sorted(
        (
            table.column("image")[row],
            *table.boxes[row].tolist(),
            names[row],
            table.column("split")[row],
        )
        for row in rows
    )


def came_back(selection, folder, kind):
    """Exports, reads again, and compares with what is promised."""
    out = folder / kind
    export(selection, format=kind, folder=out, card=card())
    table, root = selection.table, selection.table.root
    chosen = facts(
        CropTable(root, table.take(selection.rows).rows),
    )
    score_of = {
        (table.column("image")[row], *table.boxes[row].tolist()): score
        for row, score in selection.score_of.items()
    }
    if kind == "yolo":
        again, report = read_source(out)

        def original(image):
            return os.path.relpath((out / image).resolve(), root.resolve())

        assert facts(again, original) == expected(selection)
        assert all(
            Path(image).suffix.lower() in EXTENSIONS for image in again.column("image")
        )
        return
    if kind == "coco":
        again, report = read_source(out / "annotations.json")
        assert facts(again) == expected(selection)
    else:
        file, options = {
            "csv": ("crops.csv", SourceOptions(images=str(root))),
            "parquet": ("crops.parquet", SourceOptions()),
        }[kind]
        again, report = read_source(out / file, options)
        assert facts(again) == sorted(
            (*fact[:5], selection.class_name, fact[6]) for fact in chosen
        )
    assert not report.dropped
    for row in range(len(again)):
        key = (again.column("image")[row], *again.boxes[row].tolist())
        if key in score_of:
            assert again.column("score")[row] == pytest.approx(score_of[key], abs=1e-6)


def selected(table, name, every=2):
    rows = np.arange(0, len(table), every)
    scores = np.linspace(0.99, 0.5, len(rows))
    return Selection(table, rows, scores, name, {0: True})


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(tables(), NAME)
def test_boxes_classes_splits_and_scores_come_back(drawn, name):
    splits, crops = drawn
    with tempfile.TemporaryDirectory() as folder:
        table = made(Path(folder) / "photos", splits, crops)
        for kind in ("coco", "yolo", "csv", "parquet"):
            came_back(selected(table, name), Path(folder), kind)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(tables(), NAME)
def test_pictures_in_folders_come_back_as_their_class(drawn, name):
    splits, crops = drawn
    with tempfile.TemporaryDirectory() as folder:
        table = made(Path(folder) / "photos", splits, crops)
        selection = selected(table, name)
        export(selection, format="folder", folder=Path(folder) / "out", card=card())
        found = Path(folder) / "out"
        again, _ = read_source(found, SourceOptions("folder"))
        assert len(again) == len(selection.rows)
        assert len(again.classes) == 1
        stems = {Path(image).stem for image in again.column("image")}
        assert stems == set(table.ids[selection.rows])


@pytest.mark.parametrize("count", [0, 1, 500])
@pytest.mark.parametrize("kind", ["coco", "yolo", "csv", "parquet"])
def test_any_number_of_classes(tmp_path, count, kind):
    names = [
        f"klasse {number} {'甜菜' if number % 2 else 'řepa'}" for number in range(count)
    ]
    crops = [
        (
            f"{number % 7}.png",
            (number % 40, number // 40, number % 40 + 9, number // 40 + 9),
            name,
        )
        for number, name in enumerate(names or ["", "", ""])
    ]
    splits = {path: "train" for path, _, _ in crops}
    table = made(tmp_path / "photos", splits, crops)
    came_back(selected(table, "neu", every=3), tmp_path, kind)


def test_a_path_of_300_letters_comes_back(tmp_path):
    path = "/".join(["Versuch Nordfeld Parzelle " + "x" * 60] * 3) + "/Aufnahme ü.png"
    assert len(path) > 270
    crops = [(path, (1, 2, 30, 40), "beet"), (path, (3, 2, 30, 40), "")]
    table = made(tmp_path / "photos", {path: "test"}, crops)
    for kind in ("coco", "yolo", "csv", "parquet"):
        came_back(selected(table, "beet"), tmp_path, kind)
    (file,) = (tmp_path / "yolo/images").iterdir()
    assert len(file.name.encode()) <= 255
    assert file.suffix == ".png"


def test_clashing_names_are_numbered(tmp_path):
    paths = ["a/b.png", "a_b.png", "A_B.jpg", "a b.png"]
    crops = [(path, (1, 2, 30, 40), "beet") for path in paths]
    table = made(tmp_path / "photos", dict.fromkeys(paths, ""), crops)
    came_back(selected(table, "beet"), tmp_path, "yolo")
    names = sorted(file.name for file in (tmp_path / "yolo/images").iterdir())
    assert names == ["A_B.jpg", "a_b-2.png", "a_b-3.png", "a_b-4.png"]
