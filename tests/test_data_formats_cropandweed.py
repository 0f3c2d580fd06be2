import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.formats.cropandweed import variants
from data.splits import split_mask
from tests.conftest import read_cropandweed

TABLES = Path(__file__).parent.parent / "data" / "tables"
ROWS = {
    "ave-0506-0007": [
        "100,200,160,290,10,130,245",
        "0,10,40,60,255,20,30",
        "900,500,1000,640,32,950,570",
    ],
    "ave-0506-0008": ["1800,1000,1920,1088,8,1860,1040"],
    "vwg-0001-0001": [
        "300,300,340,380,54,320,340",
        "500,300,540,380,80,520,340",
        "300,300,340,380,54,320,340",
    ],
    "vwg-0002-0001": [],
}


def make(root, rows=ROWS, folder="bboxes/CropAndWeed", size=(1920, 1088)):
    """A small CropAndWeed folder with plain images."""
    for name in ("images", folder):
        (root / name).mkdir(parents=True, exist_ok=True)
    for image, lines in rows.items():
        Image.new("RGB", size, (90, 70, 50)).save(
            root / "images" / f"{image}.jpg", quality=10
        )
        (root / folder / f"{image}.csv").write_text(
            "".join(line + "\n" for line in lines)
        )
    return root


def facts(table, *names):
    return list(zip(*(table.column(name).tolist() for name in names), strict=True))


def test_boxes_labels_sessions_and_stems(tmp_path):
    table, report = read_cropandweed(make(tmp_path))
    assert facts(
        table,
        "image",
        "left",
        "right",
        "label",
        "label_name",
        "session",
        "stem_x",
        "touches_border",
    ) == [
        ("images/ave-0506-0007.jpg", 0, 40, -1, "", "ave-0506", 20, True),
        (
            "images/ave-0506-0007.jpg",
            100,
            160,
            10,
            "Sugar beet six-leaf stage",
            "ave-0506",
            130,
            False,
        ),
        (
            "images/ave-0506-0007.jpg",
            900,
            1000,
            32,
            "Red-root amaranth",
            "ave-0506",
            950,
            False,
        ),
        (
            "images/ave-0506-0008.jpg",
            1800,
            1920,
            8,
            "Sugar beet two-leaf stage",
            "ave-0506",
            1860,
            True,
        ),
        (
            "images/vwg-0001-0001.jpg",
            300,
            340,
            54,
            "Hedge mustard (54)",
            "vwg-0001",
            320,
            False,
        ),
        (
            "images/vwg-0001-0001.jpg",
            500,
            540,
            80,
            "Hedge mustard (80)",
            "vwg-0001",
            520,
            False,
        ),
    ]
    assert report.counts["annotation rows that repeat another one, left out"] == 1
    assert report.counts["annotation files without a box"] == 1
    assert report.counts["boxes that touch the border"] == 2
    assert report.counts["images without recording conditions"] == 3
    assert not report.skipped


def test_both_layouts_are_the_same_table(tmp_path):
    one, _ = read_cropandweed(make(tmp_path / "one"))
    two, _ = read_cropandweed(make(tmp_path / "two", folder="bboxes"))
    assert one.content_hash == two.content_hash


def test_pool_material_can_be_left_out(tmp_path):
    table, report = read_cropandweed(make(tmp_path), keep_unlabeled=False)
    assert 255 not in table.column("label_id")
    assert len(table) == 5
    assert report.counts["boxes of no class of the variant, left out"] == 1


@pytest.mark.parametrize("name", list(variants()))
def test_every_variant_maps_every_id_as_its_table_says(tmp_path, name):
    lines = [
        f"{10 + 15 * n},10,{20 + 15 * n},30,{n if n < 100 else 255},15,20"
        for n in range(101)
    ]
    table, _ = read_cropandweed(make(tmp_path, {"ave-0001-0001": lines}), variant=name)
    found = {
        row["label_id"]: (row["label"], row["label_name"])
        for row in table.rows.to_pylist()
    }
    assert len(found) == 101
    if name == "CropAndWeed":
        assert all(found[n][0] == n for n in range(100))
        assert found[255] == (-1, "")
        return
    with open(TABLES / "cropandweed_variants.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["variant"] == name]
    expected = {
        int(s): (int(row["label_id"]), row["name"])
        for row in rows
        for s in row["source_label_ids"].split()
    }
    assert found == {label: expected.get(label, (-1, "")) for label in found}


def test_a_variant_on_disk_is_read_where_the_raw_ids_are_missing(tmp_path):
    make(
        tmp_path,
        {"ave-0001-0001": ["10,10,50,60,1,30,30", "100,10,150,60,255,120,30"]},
        folder="bboxes/Fine24Eval",
    )
    table, _ = read_cropandweed(tmp_path, variant="Fine24")
    assert facts(table, "label", "label_name") == [(1, "Sugar beet"), (-1, "")]
    with pytest.raises(
        ValueError, match=r"has no .csv file in any of bboxes/CropAndWeed, bboxes"
    ):
        read_cropandweed(tmp_path)


def test_images_without_annotations_and_the_reverse_are_counted(tmp_path):
    make(tmp_path)
    Image.new("RGB", (1920, 1088)).save(tmp_path / "images" / "ave-0506-0099.jpg")
    (tmp_path / "bboxes/CropAndWeed/ave-0506-0100.csv").write_text("1,2,30,40,1,5,5\n")
    (tmp_path / "images" / "vwg-0001-0001.jpg").write_bytes(b"broken")
    table, report = read_cropandweed(tmp_path)
    assert report.counts["images without annotations"] == 1
    assert report.counts["annotation files without an image"] == 1
    assert [(item.image, item.reason) for item in report.skipped] == [
        ("images/vwg-0001-0001.jpg", "not an image")
    ]
    assert len(table) == 4


def test_broken_rows_are_counted_and_a_header_is_none(tmp_path):
    rows = [
        "left,top,right,bottom,label_id,stem_x,stem_y",
        "10,10,60,60,9,30,30",
        "10,10,x1,60,9,30,30",
        "5,5,20",
        "70,10,99,60,9",
    ]
    table, report = read_cropandweed(make(tmp_path, {"ave-0001-0001": rows}))
    assert table.boxes.tolist() == [[10, 10, 60, 60], [70, 10, 99, 60]]
    assert report.counts["annotation rows that can't be read, left out"] == 2
    assert np.isnan(table.column("stem_x")[1])


@pytest.mark.parametrize(
    "text",
    [
        "2,0,1,1\n",
        "moisture,soil,lighting,separability\n2,0,1,1\n",
        "lighting;moisture;separability;soil\n1;2;1;0\n",
        "soil: 0\nmoisture: 2\nlighting: 1\nseparability: 1\n",
        "2\n0\n1\n1\n",
    ],
)
def test_recording_conditions_are_read_however_they_are_written(tmp_path, text):
    assert conditions(tmp_path, text) == ("wet", "fine", "diffuse", "medium")


def test_unknown_conditions_are_empty(tmp_path):
    assert conditions(tmp_path, "7,0,,9\n") == ("", "fine", "", "")


def test_a_name_before_the_conditions_shifts_nothing(tmp_path):
    assert conditions(tmp_path, 'ave-0001-0001,"0","1","1","2"\n') == (
        "dry",
        "medium",
        "diffuse",
        "hard",
    )


def conditions(root, text):
    """Moisture, soil, lighting and separability of an image whose params file holds a
    text.
    """
    make(root, {"ave-0001-0001": ["10,10,60,60,9,30,30"]})
    (root / "params").mkdir()
    (root / "params" / "ave-0001-0001.csv").write_text(text)
    table, _ = read_cropandweed(root)
    (found,) = facts(table, "moisture", "soil", "lighting", "separability")
    return found


@pytest.mark.parametrize("folder", ["labelIds", "labelIds/CropAndWeed"])
def test_share_of_vegetation_comes_from_the_mask(tmp_path, folder):
    make(
        tmp_path,
        {
            "ave-0001-0001": [
                "100,100,121,110,9,1,1",
                "300,100,310,110,32,1,1",
                "-4,100,6,110,32,1,1",
            ],
            "ave-0001-0002": ["5,5,9,9,9,6,6"],
        },
    )
    (tmp_path / folder).mkdir(parents=True)
    mask = np.zeros((1088, 1920), np.uint8)
    mask[100:110, 100:105] = 9  # 51 of 210 pixels of the first box
    mask[100, 120] = 9
    mask[100:103, 300:310] = 255  # 30 % of the second
    mask[103, 300:303] = 1  # and three pixels
    mask[104, 300] = 1
    mask[104, 301] = 1
    mask[105, 301] = 1
    mask[109, 309] = 1  # its last one
    mask[100:110, 0:3] = 1  # half of the third, as far as it lies in the image
    Image.fromarray(mask).save(tmp_path / folder / "ave-0001-0001.png")
    table, report = read_cropandweed(tmp_path)
    assert table.rows.column("vegetation").to_pylist() == [0.5, 0.2429, 0.37, None]
    assert report.counts["images without a mask that can be read"] == 1
    for size in ((1920, 1087), (1921, 1088)):  # a mask of another image
        Image.new("L", size, 9).save(tmp_path / folder / "ave-0001-0001.png")
        table, report = read_cropandweed(tmp_path)
        assert table.rows.column("vegetation").to_pylist() == [None] * 4


def test_resized_images_are_refused_with_both_sizes(tmp_path):
    with pytest.raises(ValueError, match=r"1920 x 1088 .* with 640 x 363"):
        read_cropandweed(
            make(tmp_path, {"ave-0001-0001": ["10,10,60,60,9,30,30"]}, size=(640, 363))
        )


def test_attributes_are_joined_by_image_and_box(tmp_path):
    make(tmp_path)
    text = "image,left,top,right,bottom,true_leaves\nave-0506-0007.jpg,100,200,160,290,5\nave-0506-0007.jpg,1,1,2,2,9\n"
    (tmp_path / "attributes.csv").write_text(text)
    table, _ = read_cropandweed(tmp_path)
    assert table.rows.column("true_leaves").to_pylist() == [
        None,
        5,
        None,
        None,
        None,
        None,
    ]


def test_errors_name_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="variant must be one of CropAndWeed, Fine24"):
        read_cropandweed(make(tmp_path), variant="Fine25")
    with pytest.raises(ValueError, match="images/ and bboxes/"):
        read_cropandweed(tmp_path / "images")
    with pytest.raises(ValueError, match="must hold boxes"):
        read_cropandweed(make(tmp_path / "empty", {"ave-0001-0001": []}))


def test_splits_keep_sessions_whole(tmp_path):
    rows = {
        f"ave-{session:04d}-{frame:04d}": ["10,10,60,60,9,30,30"]
        for session in range(12)
        for frame in range(3)
    }
    table, _ = read_cropandweed(make(tmp_path, rows))
    held_out = set(table.column("session")[split_mask(table, "validation")])
    training = set(table.column("session")[split_mask(table, "train")])
    assert held_out
    assert not held_out & training
    assert len(held_out | training) == 12


def test_an_empty_field_shifts_nothing(tmp_path):
    table, report = read_cropandweed(
        make(
            tmp_path,
            {
                "ave-0001-0001": [
                    "10,10,50,60,,30,40",
                    "20,20,60,60,3,,40",
                    "70,20,90,60,3,1,,",
                ]
            },
        )
    )
    assert table.column("label_id").tolist() == [3, 3]
    assert np.isnan(table.column("stem_x")[0])
    assert table.column("stem_y")[0] == 40
    assert table.column("stem_x")[1] == 1
    assert report.counts["annotation rows that can't be read, left out"] == 1


@pytest.mark.parametrize("row", ["0.1,0.1,0.2,0.2,9,1,1", "800,500,100,120,9,1,1"])
def test_boxes_in_another_convention_are_refused(tmp_path, row):
    with pytest.raises(ValueError, match=r"boxes of .* must fit their images"):
        read_cropandweed(make(tmp_path, {"ave-0001-0001": [row]}))


def test_one_file_in_another_encoding_costs_itself_only(tmp_path):
    make(tmp_path)
    (tmp_path / "bboxes/CropAndWeed/ave-0506-0008.csv").write_text(
        "1,2,30,40,1,5,5\n", encoding="utf-16"
    )
    table, report = read_cropandweed(tmp_path)
    assert len(table) == 5
    assert report.counts["annotation rows that can't be read, left out"] >= 1


def test_the_variants_on_disk_are_named_where_another_is_asked_for(tmp_path):
    make(tmp_path, {"ave-0001-0001": ["10,10,50,60,1,30,30"]}, folder="bboxes/Fine24")
    with pytest.raises(ValueError, match="there are boxes of the variants Fine24"):
        read_cropandweed(tmp_path)


@pytest.mark.parametrize(
    "text", ["variant,label_id,name\nMine,1,beet\n", "variant,label_id\nMine,x\n"]
)
def test_a_variant_file_without_its_columns_is_named(tmp_path, text):
    make(tmp_path, {"ave-0001-0001": ["5,5,9,9,9,6,6"]})
    (tmp_path / "variants_Mine.csv").write_text(text)
    with pytest.raises(ValueError, match=r"variants_Mine.csv must have the columns va"):
        read_cropandweed(tmp_path)
