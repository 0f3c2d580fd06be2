import json

import numpy as np
import pytest

from artifacts.progress import no_progress
from data.formats.registry import FORMATS
from data.formats.writing import Selection
from data.predictions import confusions, overlap, with_predictions
from data.report import Report
from data.where import rows_where
from tests.conftest import read_cropandweed


@pytest.fixture(scope="module")
def table(field):
    return read_cropandweed(field)[0]


def test_a_csv_by_crop_id_becomes_columns_to_filter_by(table, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(
        f"crop_id,predicted,score\n{table.ids[3]},Maize,0.75\n{table.ids[5]},O'Weed,\ncffffffffffff,Maize,0.5\n"
    )
    found = with_predictions(table, path)
    assert found.column("predicted")[[3, 5, 6]].tolist() == ["Maize", "O'Weed", ""]
    assert np.flatnonzero(
        rows_where(found, "predicted = 'Maize' AND predicted_score > 0.7")
    ).tolist() == [3]
    assert sorted(confusions(found)) == sorted(
        [
            (table.column("label_name")[3], "Maize", 1),
            (table.column("label_name")[5], "O'Weed", 1),
        ]
    )
    again = with_predictions(found, path)  # replaced, not added twice
    assert again.rows.column_names.count("predicted") == 1


def test_a_csv_by_box(table, tmp_path):
    path = tmp_path / "p.csv"
    box = ",".join(map(str, table.boxes[4].tolist()))
    path.write_text(
        f"image,left,top,right,bottom,label\n{table.column('image')[4]},{box},Maize\n"
    )
    assert np.flatnonzero(
        with_predictions(table, path).column("predicted") == "Maize"
    ).tolist() == [4]
    path.write_text(f"image,label\n{table.column('image')[4]},Maize\n")
    with pytest.raises(
        ValueError, match="predictions must name crops by crop_id or by box"
    ):
        with_predictions(table, path)


def test_coco_results_go_to_the_box_they_overlap_most(table, tmp_path):
    left, top, right, bottom = table.boxes[7].tolist()
    width, height = right - left, bottom - top
    near = [left + 1, top, width, height]
    far = [left + width, top, width, height]
    stem = str(table.column("image")[7]).split("/")[-1].removesuffix(".jpg")
    label = int(np.flatnonzero(table.column("label_name") != "")[0])
    known = int(table.column("label_id")[label])
    results = [
        {"image_id": stem, "category_id": known, "bbox": near, "score": 0.8},
        {"image_id": stem, "category_id": 999, "bbox": near, "score": 0.3},
        {"image_id": stem, "category_id": 998, "bbox": far, "score": 0.9},
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    found = with_predictions(table, path)
    assert found.column("predicted")[7] == table.column("label_name")[label]
    assert found.column("predicted_score")[7] == 0.8
    # Numbers mean what a COCO file beside says, and nothing without one.
    images = sorted(set(table.column("image")), reverse=True)
    number = {image: 100 + place for place, image in enumerate(images)}
    numbered = [
        {**item, "image_id": number[table.column("image")[7]]} for item in results
    ]
    path.write_text(json.dumps(numbered))
    with pytest.raises(ValueError, match="its image_id are numbers"):
        with_predictions(table, path)
    coco = {
        "images": [{"id": place, "file_name": image} for image, place in number.items()]
    }
    coco["categories"] = [{"id": known, "name": "green roof"}]
    (tmp_path / "instances.json").write_text(json.dumps(coco | {"annotations": []}))
    assert with_predictions(table, path).column("predicted")[7] == "green roof"
    (tmp_path / "instances.json").unlink()
    path.write_text(json.dumps(coco | {"annotations": numbered}))
    assert with_predictions(table, path).column("predicted")[7] == "green roof"


def test_a_perfect_detector_on_our_own_coco_export_agrees_with_every_label(
    table, tmp_path
):
    selection = Selection(table, np.array([0]), np.array([1.0]), "new class", {})
    (tmp_path / "coco").mkdir()
    FORMATS["coco"].write(selection, tmp_path / "coco", Report(), no_progress)
    annotations = json.loads((tmp_path / "coco" / "annotations.json").read_text())[
        "annotations"
    ]
    results = [
        {name: item[name] for name in ("image_id", "category_id", "bbox")}
        | {"score": 1.0}
        for item in annotations
    ]
    (tmp_path / "coco" / "results.json").write_text(json.dumps(results))
    found = with_predictions(table, tmp_path / "coco" / "results.json").column(
        "predicted"
    )
    labels = table.column("label_name")
    labelled = (labels != "") & (np.arange(len(table)) > 0)
    assert (
        found[labelled] == labels[labelled]
    ).mean() > 0.99  # but for boxes that others cover


def test_numbers_and_na_are_classes_too(table, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(
        f"crop_id,predicted,score\n{table.ids[3]},0,0.5\n{table.ids[4]},NA,0.5\n{table.ids[5]},,0.5\n"
    )
    assert with_predictions(table, path).column("predicted")[3:6].tolist() == [
        "0",
        "NA",
        "",
    ]


def test_overlap_is_intersection_over_union():
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "crop_id\nc1\n", "predictions must have the columns crop_id"),
        ("p.csv", "crop_id,predicted\nc1,a\n", "no row of .* is"),
        ("p.json", '[{"image_id": 1}]', "it lacks 'category_id'"),
        ("p.json", "{", "predictions must be COCO results"),
        (
            "p.json",
            '[{"image_id": "a", "category_id": 1, "bbox": [0, 0]}]',
            "a bbox has other than four numbers",
        ),
        (
            "p.csv",
            "crop_id,predicted,score\nc1,a,high\n",
            "predictions must have numbers as scores; .* has 'high'",
        ),
    ],
)
def test_bad_files_are_named(table, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        with_predictions(table, tmp_path / name)
    with pytest.raises(ValueError, match="there is no file"):
        with_predictions(table, tmp_path / "none.csv")
