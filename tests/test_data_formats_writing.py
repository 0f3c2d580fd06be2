"""Exports, each opened by the library that reads it for real."""

import csv
import json
import shutil
from urllib.parse import parse_qs, urlsplit

import duckdb
import globox
import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds
import yaml
from label_studio_sdk.label_interface import LabelInterface
from PIL import Image
from pycocotools.coco import COCO

from curation.card import Card
from curation.exporting import export
from curation.selection import choose
from data.crop_table import CropTable
from data.formats.base import SourceOptions
from data.formats.registry import WRITABLE, read_source
from data.formats.writing import Selection, safe_name
from probe.methods import LinearRanker
from tests.conftest import read_box_csv, read_card, read_cropandweed, read_yolo

NAME = "beet, 4-6 leaves"
META = {"encoder_hash": "e", "sha256": "s", "table_hash": "t"}


@pytest.fixture(scope="module")
def selection(field):
    """Ten beets, two of them marked as relevant, and two other plants marked as not
    relevant.
    """
    table, _ = read_cropandweed(field)
    rows = np.flatnonzero(table.column("species") == "Sugar beet")[:10]
    others = np.flatnonzero(table.column("species") != "Sugar beet")[:2]
    marks = {
        int(rows[0]): True,
        int(rows[1]): True,
        int(others[0]): False,
        int(others[1]): False,
    }
    return Selection(table, rows, np.linspace(0.99, 0.9, 10), NAME, marks)


def card(**facts):
    stated = {
        "query": ("c1",),
        "where": "",
        "selected": "threshold",
        "marks": {"c1": True, "c2": False},
        "answers": {},
        "ranker": LinearRanker(np.ones(3), 0.5, "decision", "anchored", 10.0),
        "transform": "center",
        "threshold": 0.0,
        "meta": META,
    }
    return Card(**{**stated, **facts})


def written(selection, kind, tmp_path):
    folder = tmp_path / kind
    report = export(selection, format=kind, folder=folder, card=card())
    return folder, report


def boxes(table, rows):
    return sorted(
        (str(table.column("image")[row]), *table.boxes[row].tolist()) for row in rows
    )


def test_cropandweed_reads_the_variant_with_the_new_class_on_the_source_boxes(
    selection, field, tmp_path
):
    folder, _ = written(selection, "cropandweed", tmp_path)
    root = tmp_path / "dataset"
    shutil.copytree(field, root)
    shutil.copytree(folder, root, dirs_exist_ok=True)
    table, _ = read_cropandweed(root, variant="Beet46Leaves")
    of_class = np.flatnonzero(table.column("label_name") == NAME)
    assert boxes(table, of_class) == boxes(selection.table, selection.rows)
    assert table.ids.tolist() == selection.table.ids.tolist()
    assert set(table.column("label_id")[of_class]) == {
        100
    }  # CropAndWeed's own ids end at 99
    kept = np.setdiff1d(np.arange(len(table)), of_class)
    assert (
        table.column("label_id")[kept] == selection.table.column("label_id")[kept]
    ).all()
    first = next((folder / "bboxes" / "Beet46Leaves").glob("*.csv"))
    source = (field / "bboxes" / "CropAndWeed" / first.name).read_text()
    old, new = (
        [line.split(",") for line in text.split()]
        for text in (source, first.read_text())
    )
    assert len(new[0]) == 7
    assert sorted(row[:4] + row[5:] for row in old) == sorted(
        row[:4] + row[5:] for row in new
    )  # stems came along


def test_a_class_that_exists_is_added_to(selection, tmp_path):
    table = selection.table
    existing = Selection(
        table, selection.rows, selection.scores, "Red-root amaranth", {}
    )
    folder, _ = written(existing, "coco", tmp_path)
    coco = COCO(str(folder / "annotations.json"))
    names = [item["name"] for item in coco.loadCats(coco.getCatIds())]
    assert names.count("Red-root amaranth") == 1
    found = coco.getAnnIds(catIds=coco.getCatIds(["Red-root amaranth"]))
    assert len(found) == 10 + (table.column("label_name") == "Red-root amaranth").sum()


def test_coco_is_read_by_pycocotools_and_globox(selection, tmp_path):
    folder, report = written(selection, "coco", tmp_path)
    coco = COCO(str(folder / "annotations.json"))
    found = coco.loadAnns(coco.getAnnIds(catIds=coco.getCatIds([NAME])))
    stated = sorted(
        (
            coco.loadImgs(item["image_id"])[0]["file_name"],
            *item["bbox"][:2],
            item["bbox"][0] + item["bbox"][2],
            item["bbox"][1] + item["bbox"][3],
        )
        for item in found
    )
    assert sorted(stated) == boxes(selection.table, selection.rows)
    labelled = selection.table.column("label_name") != ""
    labelled[selection.rows] = True
    assert len(coco.getAnnIds()) == labelled.sum()
    assert report.counts["boxes of no class"] == (~labelled).sum()
    again = globox.AnnotationSet.from_coco(folder / "annotations.json")
    assert (
        sum(box.label == NAME for annotation in again for box in annotation.boxes) == 10
    )
    size = coco.loadImgs(found[0]["image_id"])[0]
    assert (size["width"], size["height"]) == (1920, 1088)


def test_yolo_is_read_by_globox_and_by_our_reader(selection, tmp_path):
    folder, _ = written(selection, "yolo", tmp_path)
    names = yaml.safe_load((folder / "data.yaml").read_text())["names"]
    again = globox.AnnotationSet.from_yolo_v5(
        folder / "labels", image_folder=folder / "images"
    )
    number = next(str(place) for place, name in names.items() if name == NAME)
    found = sorted(
        (
            f"images/{annotation.image_id}",
            *(round(side) for side in (box.xmin, box.ymin, box.xmax, box.ymax)),
        )
        for annotation in again
        for box in annotation.boxes
        if box.label == number
    )
    assert found == boxes(selection.table, selection.rows)
    assert "path" not in yaml.safe_load(
        (folder / "data.yaml").read_text()
    )  # so that its own folder counts
    table, _ = read_yolo(folder)
    assert boxes(table, np.flatnonzero(table.column("label_name") == NAME)) == found


def test_folders_hold_the_pixels_of_the_boxes(selection, tmp_path):
    folder, _ = written(selection, "folder", tmp_path)
    row = int(selection.rows[3])
    crop = np.asarray(
        Image.open(folder / "beet_4-6_leaves" / f"{selection.table.ids[row]}.png")
    )
    left, top, right, bottom = selection.table.boxes[row]
    photo = np.asarray(Image.open(selection.table.path(row)).convert("RGB"))
    assert (crop == photo[top:bottom, left:right]).all()
    table, _ = read_source(str(folder), SourceOptions(format="folder"))
    counts = {
        name: int((table.column("label_name") == name).sum()) for name in table.classes
    }
    assert counts == {"beet_4-6_leaves": 10, "not_beet_4-6_leaves": 2}


def test_csv_is_read_by_pandas_and_parquet_by_duckdb_and_both_by_us(
    selection, tmp_path
):
    folder, _ = written(selection, "csv", tmp_path)
    frame = pd.read_csv(folder / "crops.csv")
    assert frame["crop_id"].tolist() == selection.table.ids[selection.rows].tolist()
    assert set(frame["class"]) == {NAME}
    assert frame["score"].tolist() == pytest.approx(selection.scores.tolist())
    assert frame["relevant"].tolist()[:2] == [True, True]
    assert frame["relevant"].isna().sum() == 8
    table, _ = read_box_csv(folder / "crops.csv", images=str(selection.table.root))
    assert boxes(table, range(10)) == boxes(selection.table, selection.rows)
    folder, _ = written(selection, "parquet", tmp_path)
    path = folder / "crops.parquet"
    assert duckdb.sql(
        f"SELECT count(*), min(score) FROM '{path}' WHERE class = 'beet, 4-6 leaves'"
    ).fetchall()[0] == (
        10,
        pytest.approx(0.9),
    )
    assert boxes(CropTable.read(path), range(10)) == boxes(
        selection.table, selection.rows
    )


def test_label_studio_takes_tasks_annotations_and_predictions(selection, tmp_path):
    folder, _ = written(selection, "label_studio", tmp_path)
    interface = LabelInterface((folder / "labels.xml").read_text())
    tasks = json.loads((folder / "tasks.json").read_text())
    found, marked = [], 0
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        assert all(interface.validate_annotation(item) for item in task["annotations"])
        assert all(interface.validate_prediction(item) for item in task["predictions"])
        marked += sum(len(item["result"]) for item in task["annotations"])
        image = task["data"]["image"].removeprefix("/data/local-files/?d=")
        for region in [
            region
            for item in task["annotations"] + task["predictions"]
            for region in item["result"]
        ]:
            value = region["value"]
            left, top = value["x"] * 19.2, value["y"] * 10.88
            found.append(
                (
                    image,
                    *map(
                        round,
                        (
                            left,
                            top,
                            left + value["width"] * 19.2,
                            top + value["height"] * 10.88,
                        ),
                    ),
                )
            )
    assert sorted(found) == boxes(selection.table, selection.rows)
    assert marked == 2


def test_tensorflow_datasets_reads_the_records(selection, tmp_path):
    folder, _ = written(selection, "tfds", tmp_path)
    builder = tfds.builder_from_directory(folder / "crops" / "1.0.0")
    examples = list(tfds.as_numpy(builder.as_dataset(split="train")))
    assert builder.info.features["label"].names == [NAME, f"not {NAME}"]
    assert sorted(example["label"] for example in examples) == [0] * 10 + [1] * 2
    row_of = {crop_id: row for row, crop_id in enumerate(selection.table.ids)}
    for example in examples:
        row = row_of[example["crop_id"].decode()]
        left, top, right, bottom = selection.table.boxes[row]
        assert example["box"].tolist() == [left, top, right, bottom]
        assert example["image"].shape == (bottom - top, right - left, 3)
        assert np.isnan(example["score"]) == (row not in selection.rows)


@pytest.mark.parametrize("kind", [kind for kind in WRITABLE if kind != "tfds"])
def test_every_export_is_whole_with_a_card_or_not_there(
    selection, tmp_path, kind, monkeypatch
):
    folder, _ = written(selection, kind, tmp_path)
    facts = read_card(folder)
    assert facts["class"] == NAME
    assert (facts["format"], facts["crops"], facts["marks"]) == (
        kind,
        10,
        {"relevant": 1, "not_relevant": 1},
    )
    assert facts["estimates"]["precision"].startswith("not estimated")
    assert facts["provenance"]["versions"]["numpy"] == np.__version__
    assert "not estimated" in (folder / "card.md").read_text()
    with pytest.raises(ValueError, match="export must go to a new folder"):
        written(selection, kind, tmp_path)
    monkeypatch.setattr("curation.exporting.card_text", lambda facts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(selection, format=kind, folder=tmp_path / "other", card=card())
    assert [path.name for path in tmp_path.iterdir()] == [kind]


def test_a_card_has_estimates_only_where_the_threshold_chose():
    known = {"precision": {"estimate": 0.9}}
    assert card(estimates=known).as_facts()["estimates"] == known
    marked = card(selected="marked", estimates=known).as_facts()
    assert "marked by a person" in marked["estimates"]["precision"]
    assert marked["threshold"] == "none"
    facts = card(threshold=np.log(4)).as_facts()["threshold"]
    assert facts == pytest.approx(
        {"scale": "decision", "value": np.log(4), "confidence": 0.8}
    )


def test_what_csv_and_parquet_hold_is_read_again_as_the_class(selection, tmp_path):
    """With the class that was exported, not the one that the source gave."""
    folder, _ = written(selection, "csv", tmp_path)
    root = str(selection.table.root)
    table, _ = read_source(str(folder / "crops.csv"), SourceOptions(images=root))
    assert table.classes == [NAME]
    assert boxes(table, range(len(table))) == boxes(selection.table, selection.rows)
    assert set(table.ids) == set(selection.table.ids[selection.rows])
    before = selection.table.column("label_name")[selection.rows]
    assert sorted(table.column("previous_label")) == sorted(before)
    folder, _ = written(selection, "parquet", tmp_path)
    table, _ = read_source(str(folder / "crops.parquet"))
    assert table.classes == [NAME]
    assert table.class_indices.tolist() == table.column("label").tolist() == [0] * 10


def test_what_a_person_said_overrules_the_threshold():
    scores, among = (
        np.array([0.9, 0.8, 0.7, 0.2, 0.1]),
        np.array([True, True, False, True, True]),
    )
    everything = np.ones(5, bool)

    def chosen(threshold, said, members=everything):
        return choose(scores, threshold, said, [3], among, members=members).tolist()

    assert chosen(0.5, {0: False, 4: True}) == [1, 3, 4]  # 2 isn't among them
    assert chosen(None, {0: False, 4: True}) == [3, 4]
    assert chosen(0.5, {3: False}) == [0, 1]
    # Nothing outside of the pool's part, whatever was said of it.
    assert chosen(0.5, {4: True}, np.arange(5) < 3) == [0, 1]


def test_hostile_names_stay_names(field, tmp_path):
    table, _ = read_cropandweed(field)
    hostile = '../../x"><script>alert(1)</script>'
    selection = Selection(table, np.array([0]), np.array([1.0]), hostile, {1: False})
    folder, _ = written(selection, "folder", tmp_path)
    assert all(
        path.resolve().is_relative_to(folder.resolve()) for path in folder.rglob("*")
    )
    assert len(list(folder.glob("*/*.png"))) == 2
    folder, _ = written(selection, "label_studio", tmp_path)
    assert LabelInterface((folder / "labels.xml").read_text()).get_control(
        "label"
    ).labels == [hostile]
    assert safe_name("..") == "unnamed"
    assert safe_name("/etc/passwd") == "etc_passwd"
    folder, _ = written(selection, "cropandweed", tmp_path)
    (path,) = folder.glob("variants_*.csv")
    with open(path, newline="", encoding="utf-8") as file:
        assert {row["variant"] for row in csv.DictReader(file)} == {
            "XScriptAlert1Script"
        }
    with pytest.raises(
        ValueError,
        match="class_name must be a name of at most 100 letters, without line breaks",
    ):
        Selection(table, np.array([0]), np.array([1.0]), "a\nb", {})
    with pytest.raises(ValueError, match="selection must hold at least one crop"):
        Selection(table, np.array([], int), np.array([]), "a", {})


def test_an_image_that_cannot_be_read_is_left_out_and_reported(selection, tmp_path):
    moved = CropTable(tmp_path / "elsewhere", selection.table.rows)
    lost = Selection(moved, selection.rows, selection.scores, NAME, {})
    for kind in ("folder", "yolo", "tfds"):  # nothing to announce, nothing there
        with pytest.raises(ValueError, match="none of the 10 crops' images can be"):
            written(lost, kind, tmp_path)
        assert not (tmp_path / kind).exists()
    first = selection.table.column("image")[selection.rows[0]]
    (moved.root / first).parent.mkdir(parents=True)
    (moved.root / first).symlink_to(selection.table.root / first)
    there = int((selection.table.column("image")[selection.rows] == first).sum())
    for kind in ("folder", "yolo"):
        folder, report = written(lost, kind, tmp_path)
        assert report.written == read_card(folder)["crops"] == there < 10
    folder = tmp_path / "folder"
    assert len(list(folder.glob("*/*.png"))) == there
    assert "no such file" in json.dumps(read_card(folder)["left_out"])
    with pytest.raises(
        ValueError,
        match="format cropandweed must have a source with CropAndWeed's label ids",
    ):
        written(
            Selection(
                CropTable(moved.root, moved.rows.drop_columns(["label_id"])),
                *(lost.rows, lost.scores, "a", {}),
            ),
            "cropandweed",
            tmp_path,
        )


def test_supervision_reads_coco_and_yolo(selection, field, tmp_path):
    supervision = pytest.importorskip("supervision")
    coco, _ = written(selection, "coco", tmp_path)
    yolo, _ = written(selection, "yolo", tmp_path)
    found = {
        "coco": supervision.DetectionDataset.from_coco(
            str(field), str(coco / "annotations.json")
        ),
        "yolo": supervision.DetectionDataset.from_yolo(
            str(yolo / "images"), str(yolo / "labels"), str(yolo / "data.yaml")
        ),
    }
    expected = sorted(
        box for box in selection.table.boxes[selection.rows].astype(int).tolist()
    )
    for kind, dataset in found.items():
        number = dataset.classes.index(NAME)
        corners = []
        for path in dataset.image_paths:
            boxes_of = dataset.annotations[path]
            of_class = boxes_of.xyxy[boxes_of.class_id == number]
            corners += of_class.round().astype(int).tolist()
        assert sorted(corners) == expected, kind


def test_datasets_reads_csv_parquet_and_folders(selection, tmp_path):
    datasets = pytest.importorskip("datasets")
    cache = str(tmp_path / "cache")
    for kind, file in (("csv", "crops.csv"), ("parquet", "crops.parquet")):
        folder, _ = written(selection, kind, tmp_path)
        rows = datasets.load_dataset(
            kind, data_files=str(folder / file), split="train", cache_dir=cache
        )
        assert rows["crop_id"] == selection.table.ids[selection.rows].tolist()
        assert set(rows["label_name"]) == {NAME}
    folder, _ = written(selection, "folder", tmp_path)
    rows = datasets.load_dataset(
        "imagefolder",
        data_dir=str(folder),
        split="train",
        cache_dir=cache,
        drop_labels=False,
    )
    names = rows.features["label"].names
    assert [names[label] for label in rows["label"]].count(safe_name(NAME)) == 10


def test_label_studio_is_asked_for_the_files_that_are_there(tmp_path):
    names = [
        "plain.png",
        "row 3+4.png",
        "plot#7.png",
        "50%25.png",
        "a & b.png",
        "ü.png",
    ]
    lines = ["image,left,top,right,bottom,label"]
    for name in names:
        (tmp_path / "field a").mkdir(exist_ok=True)
        Image.new("RGB", (90, 90)).save(tmp_path / "field a" / name)
        lines.append(f"field a/{name},10,10,60,60,beet")
    (tmp_path / "boxes.csv").write_text("\n".join(lines), encoding="utf-8")
    table, _ = read_box_csv(tmp_path / "boxes.csv")
    chosen = Selection(table, np.arange(6), np.ones(6), "beet", {})
    folder, _ = written(chosen, "label_studio", tmp_path)
    tasks = json.loads((folder / "tasks.json").read_text())
    addresses = [urlsplit(task["data"]["image"]).query for task in tasks]
    asked = {parse_qs(address)["d"][0] for address in addresses}
    assert asked == {f"field a/{name}" for name in names}


@pytest.mark.filterwarnings("ignore")  # of pycocotools about NumPy 2
def test_pycocotools_makes_a_mask_of_every_box(selection, tmp_path):
    folder, _ = written(selection, "coco", tmp_path)
    coco = COCO(str(folder / "annotations.json"))
    for item in coco.loadAnns(coco.getAnnIds())[:5]:
        assert coco.annToMask(item).sum() == pytest.approx(item["area"], rel=0.05)
