import json

import pytest
from PIL import Image

from tests.conftest import read_coco


def make(root, change=lambda content: None, size=(100, 80), folder="images"):
    """Two images with three objects; `change` edits the JSON before it is written."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("a-1-1.jpg", "a-1-2.jpg"):
        Image.new("RGB", size).save(root / folder / name)
    content = {
        "images": [
            {"id": number, "file_name": f"a-1-{number}.jpg", "width": 100, "height": 80}
            for number in (1, 2)
        ],
        "categories": [{"id": 7, "name": "beet"}, {"id": 3, "name": "goosefoot"}],
        "annotations": [
            {"id": 10, "image_id": 1, "category_id": 7, "bbox": [60, 50, 40, 30]},
            {"id": 11, "image_id": 1, "category_id": 3, "bbox": [10, 20, 30.5, 10]},
            {"id": 12, "image_id": 2, "category_id": 7, "bbox": [50, 40, 20, 20]},
        ],
    }
    change(content)
    path = root / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def test_boxes_classes_and_ids(tmp_path):
    table, report = read_coco(make(tmp_path))
    assert table.boxes.tolist() == [
        [10, 20, 41, 30],
        [60, 50, 100, 80],
        [50, 40, 70, 60],
    ]
    assert table.column("label_name").tolist() == ["goosefoot", "beet", "beet"]
    assert table.column("label").tolist() == [1, 0, 0]
    assert table.column("annotation_id").tolist() == ["11", "10", "12"]
    assert table.column("touches_border").tolist() == [False, True, False]
    assert set(table.column("session")) == {"a-1"}
    assert report.counts == {"boxes that touch the border": 1}


def test_what_is_left_out_is_counted(tmp_path):
    def change(content):
        content["images"].append({"id": 3, "file_name": "gone.jpg"})
        content["images"].append({"id": 4, "file_name": "a-1-2.jpg"})
        content["annotations"] += [
            {
                "id": 13,
                "image_id": 1,
                "category_id": 7,
                "bbox": [0, 0, 9, 9],
                "iscrowd": 1,
            },
            {"id": 14, "image_id": 99, "category_id": 7, "bbox": [0, 0, 9, 9]},
            {"id": 15, "image_id": 3, "category_id": 7, "bbox": [0, 0, 9, 9]},
            {"id": 16, "image_id": 1, "category_id": 7},
            {"id": 17, "image_id": 2, "category_id": 3, "bbox": [50, 40, 20, 20]},
        ]

    table, report = read_coco(make(tmp_path, change))
    assert len(table) == 3
    assert [(item.image, item.reason) for item in report.skipped] == [
        ("gone.jpg", "no such file")
    ]
    assert report.counts == {
        "annotations without a box, left out": 1,
        "crowd annotations (iscrowd), which the setting crowds keeps, left out": 1,
        "annotations of an image or category that the file doesn't list, left out": 1,
        "images without annotations": 1,
        "boxes on images that can't be used, left out": 1,
        "boxes that touch the border": 1,
        "boxes that repeat another one, left out": 1,
        "boxes drawn again under another class: one of the two counts": 1,
    }


def test_corners_instead_of_sizes_are_refused_by_name(tmp_path):
    def change(content):
        for item in content["annotations"]:
            left, top, width, height = item["bbox"]
            item["bbox"] = [left, top, left + width, top + height]

    path = make(tmp_path, change)
    with pytest.raises(
        ValueError, match=r"read as xywh, 2 of 3 don't.* They fit as xyxy"
    ):
        read_coco(path)
    assert read_coco(path, boxes="xyxy")[0].boxes.tolist() == [
        [10, 20, 41, 30],
        [60, 50, 100, 80],
        [50, 40, 70, 60],
    ]


def test_resized_images_are_refused_until_the_size_of_the_boxes_is_given(tmp_path):
    path = make(tmp_path, size=(50, 40))
    with pytest.raises(
        ValueError, match=r"has 50 x 40, stated is 100 x 80 .*box_size.: .100x80"
    ):
        read_coco(path)
    table, _ = read_coco(path, box_size="100x80")
    assert table.boxes.tolist() == [[5, 10, 21, 15], [30, 25, 50, 40], [25, 20, 35, 30]]


def test_images_elsewhere(tmp_path):
    path = make(tmp_path, folder="far/away")
    with pytest.raises(ValueError, match="images must be given"):
        read_coco(path)
    assert len(read_coco(path, images=str(tmp_path / "far/away"))[0]) == 3


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"images": [], "categories": []}',
        "no json",
        '{"images": 1, "categories": 2, "annotations": 3}',
    ],
)
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match="data must be a COCO file"):
        read_coco(tmp_path / "x.json")


def test_ids_may_be_text_numbers_or_both(tmp_path):
    def change(content):
        content["categories"][0]["id"], content["annotations"][0]["id"] = "7", "8f1c-77"
        content["annotations"][1]["image_id"], content["annotations"][1]["id"] = (
            "1",
            None,
        )
        content["images"][0]["file_name"] = ".\\a-1-1.jpg"
        content["images"][1]["width"] = "100"
        content["annotations"].append(
            {"id": 2**70, "image_id": 1, "category_id": [7], "bbox": []}
        )

    table, report = read_coco(make(tmp_path, change))
    assert table.boxes.tolist() == [
        [10, 20, 41, 30],
        [60, 50, 100, 80],
        [50, 40, 70, 60],
    ]
    assert report.counts["annotations without a box, left out"] == 1


@pytest.mark.parametrize(
    "change",
    [lambda c: c["images"][0].pop("file_name"), lambda c: c.update(annotations=[])],
)
def test_a_file_without_names_or_annotations_is_refused(tmp_path, change):
    with pytest.raises(ValueError, match=r"it lacks 'file_name'|has none"):
        read_coco(make(tmp_path, change))


def test_boxes_of_larger_images_are_named_where_no_size_is_stated(tmp_path):
    """A size that the source states, and the images have, rules that out."""

    def larger(content):
        for item in content["images"]:
            del item["width"], item["height"]
        for item in content["annotations"]:
            item["bbox"] = [3 * side for side in item["bbox"]]

    with pytest.raises(ValueError, match="drawn on larger images than these"):
        read_coco(make(tmp_path, larger))
