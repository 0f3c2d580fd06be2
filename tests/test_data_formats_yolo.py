import pytest
from PIL import Image

from data.formats.yolo import is_yolo
from tests.conftest import read_yolo

BEET, OAT = "0 0.5 0.5 0.2 0.4\n", "1 0.1 0.25 0.2 0.5\n"


def make(root, labels, layout="{split}/images/{name}.jpg"):
    """Images of 100 x 80 pixels and their label files."""
    for (split, name), text in labels.items():
        path = root / layout.format(split=split, name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(path)
        label = root / layout.format(split=split, name=name).replace(
            "images", "labels"
        ).replace(".jpg", ".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            label.write_text(text)
    return root


@pytest.mark.parametrize(
    "layout", ["{split}/images/{name}.jpg", "images/{split}/{name}.jpg"]
)
def test_both_usual_layouts(tmp_path, layout):
    root = make(tmp_path, {("train", "a"): BEET + OAT, ("val", "b"): BEET}, layout)
    (root / "data.yaml").write_text("names:\n  0: beet\n  1: oat\n")
    table, report = read_yolo(root)
    assert table.boxes.tolist() == [[0, 0, 20, 40], [40, 24, 60, 56], [40, 24, 60, 56]]
    assert table.column("label_name").tolist() == ["oat", "beet", "beet"]
    assert table.column("split").tolist() == ["train", "train", "validation"]
    assert report.counts == {"boxes that touch the border": 1}
    assert is_yolo(root)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data.yaml", "names: [beet, oat]\n"),
        ("classes.txt", "beet\noat\n"),
        ("classes.txt", "\ufeffbeet\noat"),
        ("data.yaml", "names: beet, oat"),
    ],
)
def test_class_names(tmp_path, file, text):
    root = make(tmp_path, {("train", "a"): OAT})
    (root / file).write_text(text)
    assert read_yolo(root)[0].column("label_name").tolist() == ["oat"]


def test_without_names_classes_are_called_by_number(tmp_path):
    assert read_yolo(make(tmp_path, {("train", "a"): OAT}))[0].column(
        "label_name"
    ).tolist() == ["1"]


def test_segments_become_boxes_and_confidences_are_passed_over(tmp_path):
    rows = "0 0.1 0.1 0.3 0.2 0.2 0.5\n1 0.5 0.5 0.2 0.4 0.93\n"
    assert read_yolo(make(tmp_path, {("train", "a"): rows}))[0].boxes.tolist() == [
        [10, 8, 30, 40],
        [40, 24, 60, 56],
    ]


def test_what_is_left_out_is_counted(tmp_path):
    root = make(
        tmp_path,
        {
            ("train", "a"): BEET + "0 0.5 x\n\n",
            ("train", "b"): None,
            ("train", "c"): "",
        },
    )
    (root / "train/labels/gone.txt").write_text(BEET)
    table, report = read_yolo(root)
    assert len(table) == 1
    assert report.counts == {
        "images without a label file": 1,
        "label files without an image": 1,
        "label files without a box": 1,
        "label rows that can't be read, left out": 1,
    }


def test_pixels_are_refused_by_name(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"read as cxcywh_relative, 1 of 1 don't.* They fit as .*cxcywh",
    ):
        read_yolo(make(tmp_path, {("train", "a"): "0 50 40 20 32\n"}))


def test_unknown_class_numbers_are_refused(tmp_path):
    root = make(tmp_path, {("train", "a"): OAT})
    (root / "classes.txt").write_text("beet\n")
    with pytest.raises(ValueError, match=r"class numbers .* got \[1\]"):
        read_yolo(root)


def test_names_stay_what_they_are_and_lie_beside_the_images(tmp_path):
    make(tmp_path, {("train", "a"): OAT}, "ds/images/{name}.jpg")
    (tmp_path / "ds" / "augment.yaml").write_text("names: [x, y]\n")
    (tmp_path / "ds" / "data.yaml").write_text("names: [no, yes]\n")
    (tmp_path / "ds" / "labels" / "classes.txt").write_text("beet\noat\n")
    table, report = read_yolo(tmp_path)
    assert table.column("label_name").tolist() == ["yes"]
    assert not report.counts.get("label files without an image")


def test_other_yaml_files_of_a_data_set_are_left_alone(tmp_path):
    root = make(tmp_path, {("train", "a"): BEET})
    (root / "data.yaml").write_text("names: [beet]\n")
    (root / "runs").mkdir()
    (root / "runs" / "args.yaml").write_text("lr: [0.1\n  names: : [")  # half written
    assert read_yolo(root)[0].classes == ["beet"]


def test_a_tenth_of_the_rows_may_be_of_unknown_classes(tmp_path):
    beets = [f"0 0.5 0.5 0.2 {size / 100:.2f}\n" for size in range(20, 65, 5)]
    root = make(tmp_path, {("train", "a"): "".join(beets) + OAT})
    (root / "classes.txt").write_text("beet\n")
    table, report = read_yolo(root)
    assert len(table) == 9
    assert report.counts["label rows of a class that has no name, left out"] == 1
    root = make(tmp_path / "more", {("train", "a"): "".join(beets[1:]) + OAT})
    (root / "classes.txt").write_text("beet\n")
    with pytest.raises(ValueError, match=r"class numbers .* got \[1\]"):
        read_yolo(root)
