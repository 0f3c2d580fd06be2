"""Inputs that people really have, each from a public report of the tool that is named:
read right, or refused with the right advice.
"""

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image, features

from data.boxes import MOST_MISFITS
from data.embedding_writer import EmbeddingWriter
from data.formats.base import SourceOptions
from data.formats.registry import read_source
from data.images import inspect_image, read_image
from data.predictions import same_images, with_predictions

SIZE = (200, 100)
BOX = (40, 30, 80, 60)  # in an image of that size
ROW = "0.3 0.45 0.2 0.3"  # the same, as YOLO has it
XYWH = [40, 30, 40, 30]
COLORS = [(60, 130, 50), (150, 110, 70), (40, 60, 140), (170, 60, 60)]


def picture(path, number=0, size=SIZE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(-30, 30, (size[1], size[0], 3))
    pixels = np.clip(np.array(COLORS[number % 4]) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def yolo(root, rows, config="names: [beet]\n", ending=".png", **options):
    """images/ and labels/ with one row or more an image."""
    for number, row in enumerate(rows):
        picture(root / f"images/{number}{ending}", number, **options)
        text(root / f"labels/{number}.txt", f"0 {row}\n")
    text(root / "data.yaml", f"train: images\nval: images\n{config}")
    return root


def coco(root, change=None, count=6, **stated):
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": 200, "height": 100}
            | stated
            for number in range(count)
        ],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": XYWH}
            for number in range(count)
        ],
        "categories": [{"id": 1, "name": "beet"}],
    }
    for number in range(count):
        picture(root / f"{number}.png", number)
    if change:
        change(content)
    return text(root / "all.json", json.dumps(content))


def read(data, **options):
    """The table, and what was told; what was seen is in it or counted."""
    table, report = read_source(data, SourceOptions(**options))
    assert len(table) + report.dropped == report.seen
    return table, report


def boxes(table):
    return {tuple(box) for box in table.boxes.tolist()}


# A. Rows whose meaning was guessed from how many numbers they have


@pytest.mark.parametrize(
    ("rest", "config"),
    [
        ("0.25 0.35 0.35 0.35 0.25 0.55 0.35 0.55", "kpt_shape: [4, 2]"),  # a pose
        ("0.25 0.35 2 0.35 0.35 1 0.25 0.55 0", ""),  # visibility tells keypoints
        ("0.25 0.35 2 0.35 0.35 1", "kpt_shape: [2, 3]"),
        ("0.91 7", ""),  # a score, and the number of a track
        ("0.91", ""),  # a score
        ("", ""),
        ("0.25 0.35 0.35 0.35", "task: pose"),
    ],
)
def test_what_follows_a_box_is_no_segment(tmp_path, rest, config):
    """ultralytics/hub#886, #721."""
    data = yolo(tmp_path, [f"{ROW} {rest}"] * 6, f"names: [beet]\n{config}\n")
    table, report = read(data)
    assert boxes(table) == {BOX}
    assert report.dropped == 0


CORNERS = "0.2 0.3 0.4 0.3 0.4 0.6 0.2 0.6"


@pytest.mark.parametrize(
    "rows",
    [
        [CORNERS] * 4,  # turned boxes, as corners
        [f"{CORNERS} 0.9"] * 4,  # and with a score
        ["0.2 0.3 0.4 0.6 0.3 0.6", CORNERS, "0.2 0.3 0.4 0.3 0.4 0.6 0.3 0.6 0.2 0.6"],
    ],
)
def test_of_corners_and_segments_the_bounding_box_is_taken(tmp_path, rows):
    table, _ = read(yolo(tmp_path, rows))
    assert boxes(table) == {BOX}


def test_rows_that_may_be_keypoints_or_segments_are_refused(tmp_path):
    row = "0.6 0.7 0.04 0.05 0.61 0.71 0.59 0.69"
    with pytest.raises(ValueError, match=r'rows of 9 numbers .* "kpt_shape"'):
        read(yolo(tmp_path, [row] * 6))
    stated = yolo(tmp_path, [row] * 6, "names: [beet]\nkpt_shape: [2, 2]\n")
    assert boxes(read(stated)[0]) == {(116, 67, 124, 73)}


def test_a_center_a_size_and_an_angle_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"angle .* write their four corners"):
        read(yolo(tmp_path, [f"{ROW} -0.7", f"{ROW} 1.2"]))


def test_rows_of_another_layout_are_counted(tmp_path):
    data = yolo(tmp_path, [f"{ROW} 0.25 0.35"] * 5, "kpt_shape: [1, 2]\nnames: [beet]")
    text(tmp_path / "labels/0.txt", f"0 {ROW} 0.2 0.3\n0 {ROW} 0.2 0.3 0.4 0.5\n0 x\n")
    table, report = read(data)
    assert len(table) == 5
    assert report.counts["label rows that can't be read, left out"] == 1
    other = "label rows of another layout than the data set's, left out"
    assert report.counts[other] == 1


def test_label_files_that_are_masks_are_named(tmp_path):
    for number in range(3):
        picture(tmp_path / f"images/{number}.png")
        picture(tmp_path / f"labels/{number}.png")
    with pytest.raises(ValueError, match="labels/ holds pictures: masks aren't read"):
        read(tmp_path)


# C. Types guessed for class names


@pytest.mark.parametrize(
    "names", [("007", "010", "100"), ("1E2", "NA", "null"), ("1.0", "true", "nan")]
)
def test_classes_are_text(tmp_path, names):
    """fastai/fastai#1008, molgenis-service-armadillo#1027."""
    lines = ["image,left,top,right,bottom,label"]
    for number in range(6):
        picture(tmp_path / f"{number}.png", number)
        lines.append(f"{number}.png,10,10,60,60,{names[number % 3]}")
    table, _ = read(text(tmp_path / "boxes.csv", "\n".join(lines)))
    assert table.classes == sorted(names)


def test_spaces_around_a_name_and_letters_in_parts_make_no_class(tmp_path):
    names = ["weed", " weed", "weed ", "ru\u0308be", "r\u00fcbe"]
    lines = ["image,left,top,right,bottom,label"]
    for number, name in enumerate(names):
        picture(tmp_path / f"{number}.png", number)
        lines.append(f"{number}.png,10,10,60,60,{name}")
    table, _ = read(text(tmp_path / "boxes.csv", "\n".join(lines)))
    assert table.classes == ["r\u00fcbe", "weed"]
    data = yolo(tmp_path / "yolo", [ROW], "names: ['weed ', 'ru\u0308be']\n")
    assert read(data)[0].classes == ["weed"]


def test_a_column_may_turn_to_text_late(tmp_path):
    """apache/arrow#35807."""
    picture(tmp_path / "a.png", size=(400, 300))
    lines = ["image,left,top,right,bottom,label,plot,remark"]
    for place in range(30_000):
        left, top, late = place % 340, (place // 340) % 240, place >= 29_990
        box = f"{left},{top},{left + 50},{top + 50}"
        end = "12b,wet leaf" if late else "12,"
        lines.append(f"a.png,{box},weed,{end}")
    table, _ = read(text(tmp_path / "boxes.csv", "\n".join(lines)))
    assert (table.column("remark") == "wet leaf").sum() == 10
    assert set(table.column("plot")) == {"12", "12b"}


# D. Ids and names that don't identify one thing


def joined(content):
    content["images"][1]["id"] = 0


def two_names(content):
    content["categories"].append({"id": 1, "name": "weed"})


@pytest.mark.parametrize("change", [joined, two_names])
def test_an_id_that_stands_for_two_is_refused(tmp_path, change):
    """ashnair1/COCO-Assistant#64, #25; datumaro#16."""
    with pytest.raises(ValueError, match="stands for several"):
        read(coco(tmp_path, change))


def test_ids_of_mixed_kinds_are_the_same(tmp_path):
    """cocodataset/cocoapi#299, ppwwyyxx/cocoapi#21."""

    def change(content):
        for number, item in enumerate(content["annotations"]):
            item["image_id"] = (float, int, str)[number % 3](item["image_id"])
            item |= {"category_id": 1.0, "iscrowd": "0"}

    table, report = read(coco(tmp_path, change, width="200.0", height=100.0))
    assert len(table) == 6
    assert report.dropped == 0


@pytest.mark.parametrize(
    ("known", "stated", "found"),
    [
        ({"left/1.png"}, {"right/1.png"}, {}),
        ({"left/1.png"}, {"1.png"}, {"1.png": "left/1.png"}),
        ({"left/1.png", "right/1.png"}, {"1.png"}, {}),
        ({"left/1.png"}, {"1.png", "left/1.png"}, {"left/1.png": "left/1.png"}),
        ({"1.png"}, {"x/1.png"}, {"x/1.png": "1.png"}),
        ({"1.png"}, {"x/1.png", "y/1.png"}, {}),
        ({"a/1.png"}, {"b/a/1.png"}, {"b/a/1.png": "a/1.png"}),
        ({"a/1.png"}, {"a/1"}, {"a/1": "a/1.png"}),
        ({"a/1.jpg", "a/1.png"}, {"1"}, {}),
    ],
)
def test_predictions_go_to_the_image_that_is_meant(known, stated, found):
    """open-edge-platform/geti#7496, duanzhiihao/RAPiD#13, label-studio#7096."""
    assert same_images(known, stated) == found


def test_results_beside_two_files_with_the_same_ids_are_refused(tmp_path):
    table, _ = read(coco(tmp_path / "data"))
    result = [{"image_id": 0, "category_id": 1, "bbox": XYWH, "score": 0.9}]
    folder = tmp_path / "predictions"
    path = text(folder / "results.json", json.dumps(result))
    for name, file in (("a", "0.png"), ("b", "1.png")):
        stated = {"id": 0, "file_name": file}
        content = {"images": [stated], "categories": [{"id": 1, "name": "weed"}]}
        text(folder / f"{name}.json", json.dumps(content))
    with pytest.raises(ValueError, match="several files beside it have these image id"):
        with_predictions(table, path)
    (folder / "b.json").unlink()
    assert list(with_predictions(table, path).column("predicted")).count("weed") == 1


# E. Annotated data in another layout


def voc(root, folder="Annotations", images="JPEGImages", count=5):
    for number in range(count):
        picture(root / images / f"f{number}.jpg", number)
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>10</ymin>"
            f"<xmax>{x + 50}</xmax><ymax>60</ymax></bndbox></object>"
            for name, x in (("beet", 10), ("weed", 100))
        )
        text(
            root / folder / f"f{number}.xml",
            f"<annotation><filename>f{number}.jpg</filename><size><width>200</width>"
            f"<height>100</height></size>{objects}</annotation>",
        )
    return root


@pytest.mark.parametrize("layout", [("Annotations", "JPEGImages"), ("", "")])
def test_voc_is_read(tmp_path, layout):
    """PaddleCV-SIG/PaddleLabel#115, wkentaro/labelme#845."""
    voc(tmp_path, *layout)
    for number in range(5):
        picture(tmp_path / f"SegmentationClass/f{number}.png", number)
    text(tmp_path / "ImageSets/Main/val.txt", "f1\nf3\n")
    table, _ = read(tmp_path)
    assert table.classes == ["beet", "weed"]
    assert len(table) == 10
    assert boxes(table) == {(10, 10, 60, 60), (100, 10, 150, 60)}
    assert (table.column("split") == "validation").sum() == 4


def test_labelme_is_read(tmp_path):
    for number in range(4):
        picture(tmp_path / f"train/{number}.png", number)
        shapes = [
            {
                "label": "beet",
                "points": [[40, 30], [80, 60]],
                "shape_type": "rectangle",
            },
            {"label": "weed", "points": [[40, 30], [80, 30], [60, 59]]},
            {"label": "leaf", "points": [[60, 45], [60, 60]], "shape_type": "circle"},
            {"label": "tip", "points": [[60, 45]], "shape_type": "point"},
        ]
        content = {
            "shapes": shapes,
            "imagePath": f"..\\old\\{number}.png",
            "imageWidth": 200,
            "imageHeight": 100,
        }
        text(tmp_path / f"train/{number}.json", json.dumps(content))
    table, report = read(tmp_path)
    assert table.classes == ["beet", "leaf", "weed"]
    assert boxes(table) == {BOX, (45, 30, 75, 60), (40, 30, 80, 59)}
    assert set(table.column("split")) == {"train"}
    assert report.counts["shapes without an area, or damaged, left out"] == 4


def test_roboflow_exports_are_read(tmp_path):
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        coco(tmp_path / "coco" / split, count=count).rename(
            tmp_path / "coco" / split / "_annotations.coco.json"
        )
        lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
        for number in range(count):
            picture(tmp_path / f"csv/{split}/{number}.png", number)
            lines.append(f"{number}.png,200,100,beet,40,30,80,60")
        text(tmp_path / f"csv/{split}/_annotations.csv", "\n".join(lines))
    for kind in ("coco", "csv"):
        table, _ = read(tmp_path / kind)
        assert boxes(table) == {BOX}
        splits = table.column("split").tolist()
        assert [splits.count(name) for name in ("train", "validation", "test")] == [
            3,
            2,
            1,
        ]


def test_several_coco_files_with_their_splits(tmp_path):
    for split in ("train", "val"):
        path = coco(tmp_path / split)
        path.rename(tmp_path / f"annotations_{split}.json")
        text(
            tmp_path / f"annotations/instances_{split}.json",
            (tmp_path / f"annotations_{split}.json").read_text(),
        )
        (tmp_path / f"annotations_{split}.json").unlink()
    table, _ = read(tmp_path)
    assert sorted(table.column("split")) == ["train"] * 6 + ["validation"] * 6
    assert {image.split("/")[0] for image in table.column("image")} == {"train", "val"}


def fields(root):
    for field, number in (("north", 0), ("south", 1), ("unchecked", 2)):
        for place in range(4):
            picture(root / f"images/{field}/{field}{place}.png", number)
            text(root / f"labels/{field}/{field}{place}.txt", f"{place % 2} {ROW}\n")
    return text(
        root / "data.yaml",
        "train: images/north\nval: lists/south.txt\nnames: {0: beet, 1: weed}\n",
    )


def test_data_yaml_says_what_the_splits_are(tmp_path):
    """roboflow/rf-detr#1177, ultralytics#24472."""
    path = fields(tmp_path)
    listed = [f"./images/south/south{place}.png\n" for place in range(4)]
    text(tmp_path / "lists/south.txt", "".join(line[2:] for line in listed))
    table, _ = read(tmp_path)
    pairs = zip(table.column("image"), table.column("split"), strict=True)
    assert {(image.split("/")[1], split) for image, split in pairs} == {
        ("north", "train"),
        ("south", "validation"),
        ("unchecked", ""),
    }
    named, _ = read(path)  # what data.yaml names, and no more
    assert len(named) == 8
    assert named.classes == ["beet", "weed"]


def test_images_and_labels_may_be_written_large(tmp_path):
    picture(tmp_path / "Images/a.png")
    text(tmp_path / "Labels/a.txt", f"0 {ROW}\n")
    assert boxes(read(tmp_path)[0]) == {BOX}


def test_a_csv_of_classes_is_of_whole_images(tmp_path):
    for number in range(4):
        picture(tmp_path / f"p/{number}.png", number)
    lines = [
        f"p/{number}.png,{'weed' if number % 2 else 'beet'}" for number in range(4)
    ]
    path = text(tmp_path / "classes.csv", "\n".join(["image,label", *lines]))
    table, _ = read(path)
    assert boxes(table) == {(0, 0, *SIZE)}
    assert table.column("label_name").tolist() == ["beet", "weed"] * 2


@pytest.mark.parametrize("columns", ["x0,y0,w,h", "polygon,a,b,c", "xmin,ymin,dx,dy"])
def test_boxes_under_other_names_do_not_make_whole_images(tmp_path, columns):
    picture(tmp_path / "a.png")
    row = "a.png,1,2,30,40,beet"
    path = text(tmp_path / "boxes.csv", f"image,{columns},label\n{row}\n")
    with pytest.raises(ValueError, match="must have an image column"):
        read(path)


def test_a_hugging_face_data_set_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    content = io.BytesIO()
    Image.new("RGB", SIZE, (60, 130, 50)).save(content, "PNG")
    raw = {"bytes": content.getvalue(), "path": None}
    objects = {"bbox": [[40.0, 30.0, 40.0, 30.0]], "category": [1]}
    kinds = datasets.Features(
        {
            "image": datasets.Image(),
            "objects": {
                "bbox": datasets.List(datasets.List(datasets.Value("float32"))),
                "category": datasets.List(datasets.ClassLabel(names=["weed", "beet"])),
            },
        }
    )
    rows = {"image": [raw] * 3, "objects": [objects] * 3}
    part = datasets.Dataset.from_dict(rows, features=kinds)
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(tmp_path / "hf")
    table, _ = read(tmp_path / "hf")
    assert boxes(table) == {BOX}
    assert table.classes == ["beet"]
    assert sorted(table.column("split")) == ["test"] * 3 + ["train"] * 3
    plain = datasets.Dataset.from_dict(
        {"image": [raw] * 2, "label": [0, 1]},
        features=datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["weed", "beet"]),
            }
        ),
    )
    plain.save_to_disk(tmp_path / "plain")
    table, _ = read(tmp_path / "plain")
    assert boxes(table) == {(0, 0, *SIZE)}
    assert sorted(table.column("label_name")) == ["beet", "weed"]


@pytest.mark.parametrize(
    "mask",
    [
        "masks/{}.png",
        "photos/{}_mask.png",
        "photos/masks/{}.png",
        "gt/{}.png",
        "train_masks/{}_mask.gif",
        "photos/{}_L.png",
    ],
)
def test_masks_do_not_pass_for_photos(tmp_path, mask):
    for number in range(4):
        picture(tmp_path / f"photos/{number}.jpg", number)
        picture(tmp_path / mask.format(number), number)
    with pytest.raises(ValueError, match="holds masks, which aren't read"):
        read(tmp_path)
    assert len(read(tmp_path, format="folder")[0]) == 8


def test_annotations_that_are_not_read_are_named(tmp_path):
    picture(tmp_path / "photos/a.png")
    odd = text(tmp_path / "photos/a.json", '{"regions": []}')
    with pytest.raises(ValueError, match=r"isn't of a format that is read \(a.json"):
        read(tmp_path / "photos")
    odd.unlink()
    path = text(tmp_path / "photos/boxes.csv", "image,left,top,right,bottom\n")
    with pytest.raises(ValueError, match=f"give the file itself, --data={path}"):
        read(tmp_path / "photos")


def test_images_with_other_endings_are_read_or_named(tmp_path):
    """lstein/PhotoMapAI#364, huggingface/datasets#4514."""
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jfif", format="JPEG")
    if features.check("avif"):
        picture(tmp_path / "c.avif")
    for number in range(5):
        (tmp_path / f"IMG_{number}.HEIC").write_bytes(b"\0\0\0\x24ftypheic" + bytes(99))
    text(tmp_path / "notes.md", "wet")
    table, report = read(tmp_path)
    assert len(table) == 2 + features.check("avif")
    heic = next(what for what in report.counts if ".heic" in what)
    assert report.counts[heic] == 5
    assert "pillow-heif" in heic
    assert report.counts["files ending in .md passed over"] == 1


def test_a_folder_without_classes_beside_the_splits(tmp_path):
    """fastai/fastai#1552, huggingface/datasets#7880."""
    for split in ("train", "val"):
        for number in range(4):
            name = "beet" if number % 2 else "weed"
            picture(tmp_path / f"{split}/{name}/{number}.png", number)
    picture(tmp_path / "Unlabelled/x.png")
    table, _ = read(tmp_path)
    assert table.classes == ["beet", "weed"]
    assert set(table.column("split")) == {"", "train", "validation"}
    picture(tmp_path / "extra/x.png")
    with pytest.raises(ValueError, match=r"others beside them \(extra in"):
        read(tmp_path)


# F. Links and moved files


def test_splits_that_are_links_to_one_folder(tmp_path):
    """ultralytics/ultralytics#5036."""
    data = tmp_path / "set"
    (data / "images").mkdir(parents=True)
    for number in range(6):
        picture(tmp_path / f"shared/{number}.png", number)
    for split, numbers in (("train", (0, 1, 2, 3)), ("val", (4, 5))):
        (data / "images" / split).symlink_to(tmp_path / "shared")
        for number in numbers:
            text(data / f"labels/{split}/{number}.txt", f"0 {ROW}\n")
    config = "train: images/train\nval: images/val\nnames: [beet]\n"
    path = text(data / "data.yaml", config)
    for source in (data, path):
        table, _ = read(source)
        assert sorted(table.column("split")) == ["train"] * 4 + ["validation"] * 2


def test_a_photo_is_read_once_however_many_links_lead_to_it(tmp_path):
    for number in range(3):
        picture(tmp_path / f"photos/beet/{number}.png", number)
    (tmp_path / "photos/latest").symlink_to(tmp_path / "photos/beet")
    (tmp_path / "photos/beet/again").symlink_to(tmp_path / "photos")  # a circle
    table, report = read(tmp_path / "photos")
    assert table.column("image").tolist() == [
        f"beet/{number}.png" for number in range(3)
    ]
    assert report.dropped > 0


def test_an_image_is_found_through_links(tmp_path):
    """huggingface/datasets#5098, #6853."""
    for number in range(3):
        picture(tmp_path / f"elsewhere/beet/{number}.png", number)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/beet").symlink_to(tmp_path / "elsewhere/beet")
    table, _ = read(tmp_path / "photos")
    for way in ("photos/beet/1.png", "elsewhere/beet/1.png"):
        (row,) = table.find(str(tmp_path / way))
        assert table.column("image")[row] == "beet/1.png"


# G. Advice is tried before it is given


def test_width_and_height_that_are_exchanged_do_no_harm(tmp_path):
    """DLR-RM/BlenderProc#106, widerface-coco-convertor#1, detectron2#1861."""

    def wide(content):  # beyond the stated width, which proves it wrong
        content["annotations"][0]["bbox"] = [140, 30, 50, 30]

    table, report = read(coco(tmp_path, wide, width=100, height=200))
    assert boxes(table) == {BOX, (140, 30, 190, 60)}
    assert any("exchanged" in what for what in report.counts)
    # Boxes that fit both ways prove nothing: the photos may have been turned since.
    path = coco(tmp_path, width=100, height=200)
    with pytest.raises(ValueError, match=r'exchanged.*"box_size": "200x100"'):
        read(path)
    assert boxes(read(path, box_size="200x100")[0]) == {BOX}


def test_exif_is_blamed_where_it_is_to_blame(tmp_path):
    path = coco(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(6):
        picture(tmp_path / f"{number}.png", number, exif=exif)
    with pytest.raises(ValueError, match=r"turned by its EXIF.*take the tag away"):
        read(path)


def test_the_odd_image_is_left_out_and_named(tmp_path):
    """fanq15/Few-Shot-Object-Detection-Dataset#21."""
    path = coco(tmp_path, count=60)
    picture(tmp_path / "17.png", size=(100, 50))
    table, report = read(path)
    assert len(table) == 59
    (skipped,) = report.skipped
    assert (skipped.image, "another size" in skipped.reason) == ("17.png", True)


def test_boxes_of_smaller_copies_are_refused_with_the_size_that_fits(tmp_path):
    lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for number in range(6):
        picture(tmp_path / f"{number}.png", number)
        lines.append(f"{number}.png,100,50,beet,20,15,40,30")
    path = text(tmp_path / "boxes.csv", "\n".join(lines))
    with pytest.raises(ValueError, match='"box_size": "100x50"'):
        read(path)
    assert boxes(read(path, box_size="100x50")[0]) == {BOX}


def test_boxes_without_area_hide_nothing(tmp_path):
    """obss/sahi#417, visionml/pytracking#18."""
    table, report = read(yolo(tmp_path, ["0 0 0 0"] * 2 + [ROW] * 6))
    assert boxes(table) == {BOX}
    assert MOST_MISFITS < 2 / 8
    without = "boxes without area or outside of their image, left out"
    assert report.counts[without] == 2


def test_masks_of_cvat_are_objects(tmp_path):
    """ultralytics/JSON2YOLO#38, Rectlabel-support#241."""

    def crowds(content):
        for item in content["annotations"]:
            item["iscrowd"] = 1

    def some(content):
        crowds(content)
        content["annotations"][0]["iscrowd"] = 0

    table, report = read(coco(tmp_path, crowds))
    assert len(table) == 6
    assert any("read as single objects" in what for what in report.counts)
    path = coco(tmp_path, some)
    table, report = read(path)
    assert len(table) == 1
    assert any("setting crowds keeps" in what for what in report.counts)
    assert len(read(path, crowds=True)[0]) == 6


# H. Pixels and EXIF


def with_exif(path, tags, extra=b""):
    """A JPEG whose EXIF block has these tags; `extra` follows the directory."""
    picture(path, 1, (64, 48))
    content = path.read_bytes()
    body = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags))
    for number, kind, count, value in tags:
        body += struct.pack("<HHI", number, kind, count) + value
    body += bytes(4) + extra
    head = b"\xff\xe1" + struct.pack(">H", len(body) + 2)
    path.write_bytes(content[:2] + head + body + content[2:])


BEHIND = struct.pack("<I", 8 + 2 + 24 + 4)  # where `extra` begins, with two tags


@pytest.mark.parametrize(
    ("tag", "extra"),
    [
        ((282, 5, 1, BEHIND), struct.pack("<II", 72, 1)),
        ((282, 2, 3, b"72\0\0"), b""),
        ((282, 10, 1, BEHIND), struct.pack("<ii", -72, 1)),
        ((0x103, 2, 4, b"JPG\0"), b""),
    ],
)
def test_odd_tags_stop_nothing(tmp_path, tag, extra):
    """python-pillow/Pillow#4665, #7340, #7839, #8965."""
    path = tmp_path / "a.jpg"
    with_exif(path, [(0x112, 3, 1, struct.pack("<HH", 6, 0)), tag], extra)
    assert read_image(path).size == (48, 64)
    facts = inspect_image(path)
    assert (facts.width, facts.height, facts.turned) == (48, 64, True)


def test_boxes_of_turned_tiffs_lie_where_they_were_drawn(tmp_path):
    """python-pillow/Pillow#8390."""
    exif = Image.Exif()
    exif[0x0112] = 6  # stored 200 x 100, upright 100 x 200
    table, _ = read(yolo(tmp_path, [ROW] * 3, ending=".tif", exif=exif))
    assert boxes(table) == {(20, 60, 40, 120)}


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_bits_of_a_sensor_are_seen(tmp_path, bits):
    """danforthcenter/plantcv#1804, julimueller/dtld_parsing#10."""
    values = np.linspace(0, 2**bits - 1, 64 * 48).reshape(48, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif")
    shown = np.asarray(read_image(tmp_path / "a.tif"))[..., 0]
    np.testing.assert_array_equal(shown, values >> (bits - 8))
    _, report = read(tmp_path)
    assert any(f"use {bits} at most" in what for what in report.counts) == (bits < 16)


def test_a_fourth_band_is_no_transparency_unless_it_says_so(tmp_path):
    """wkentaro/labelme#1949, weecology/DeepForest#59, Weed-AI#76."""
    pixels = np.full((4, 4, 4), (30, 200, 30, 20), np.uint8)
    data = pixels.tobytes()
    tags = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 4, 134), (259, 3, 1, 1)]
    tags += [(262, 3, 1, 2), (273, 4, 1, 150), (277, 3, 1, 4), (278, 4, 1, 4)]
    tags += [(279, 4, 1, len(data)), (284, 3, 1, 1)]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    head += b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head += bytes(4) + struct.pack("<4H", 8, 8, 8, 8)
    (tmp_path / "a.tif").write_bytes(head.ljust(150, b"\0") + data)
    assert read_image(tmp_path / "a.tif").getpixel((1, 1)) == (30, 200, 30)
    _, report = read(tmp_path)
    assert any("bands beyond" in what for what in report.counts)
    Image.fromarray(pixels).save(tmp_path / "b.png")  # here it is transparency
    assert read_image(tmp_path / "b.png").getpixel((1, 1)) != (30, 200, 30)


# I. Text and values that break output


def test_a_name_that_is_not_utf8_is_left_out_of_every_source(tmp_path):
    for number in range(3):
        picture(tmp_path / f"photos/{number}.png", number)
    odd = b"r\xfcbe.png".decode(errors="surrogateescape")
    (tmp_path / "photos/2.png").rename(tmp_path / "photos" / odd)
    table, report = read(tmp_path / "photos")
    assert len(table) == 2
    assert [item.image for item in report.skipped] == [r"r\udcfcbe.png"]


# What people who tried to break it found


def csv_of(root, header, rows):
    for number in range(len(rows)):
        picture(root / f"{number}.png", number)
    lines = [header, *(f"{number}.png,{row}" for number, row in enumerate(rows))]
    return text(root / "boxes.csv", "\n".join(lines))


def test_the_row_numbers_of_pandas_are_no_class_and_no_split(tmp_path):
    picture(tmp_path / "a.png")
    content = ",image,left,top,right,bottom\n0,a.png,40,30,80,60\n1,a.png,1,2,30,40\n"
    table, _ = read(text(tmp_path / "boxes.csv", content))
    assert set(table.column("label_name")) == set(table.column("split")) == {""}


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ("x_min,y_min,width,height", "40,30,40,30"),
        ("xtl,ytl,xbr,ybr", "40,30,80,60"),
        ("x0,y0,x1,y1", "40,30,80,60"),
        ("bbox_x,bbox_y,bbox_width,bbox_height", "40,30,40,30"),
        ("xmin,ymin,w,h", "40,30,40,30"),
        ("x_center,y_center,w,h", "60,45,40,30"),
        ("minx,miny,maxx,maxy", "40,30,80,60"),
        ("bbox", '"[40, 30, 40.0, 30]"'),
        ("x,y,w,h,width,height", "40,30,40,30,200,100"),
        ("width,height,x,y,w,h", "200,100,40,30,40,30"),
    ],
)
def test_boxes_have_many_names(tmp_path, columns, row):
    path = csv_of(tmp_path, f"image,{columns},label", [f"{row},beet"] * 3)
    table, _ = read(path)
    assert boxes(table) == {BOX}
    assert table.classes == ["beet"]


def test_columns_that_differ_by_capitals_are_two(tmp_path):
    path = csv_of(tmp_path, "image,left,top,right,bottom,Note,note", ["1,2,9,9,p,q"])
    table, _ = read(path)
    assert table.column("Note").tolist() == ["p"]
    assert table.column("note_2").tolist() == ["q"]


def test_a_stray_photo_of_the_same_name_draws_no_boxes(tmp_path):
    picture(tmp_path / "0.png")
    for split in ("train2017", "val2017"):
        path = coco(tmp_path / split)
        target = tmp_path / f"annotations/instances_{split}.json"
        text(target, path.read_text())
        path.unlink()
    table, _ = read(tmp_path)
    assert sorted(table.column("split")) == ["train"] * 6 + ["validation"] * 6
    folders = {image.split("/")[0] for image in table.column("image")}
    assert folders == {"train2017", "val2017"}


def test_images_of_two_splits_under_one_name_are_refused(tmp_path):
    for split in ("train", "val"):
        path = coco(tmp_path / "pictures")
        text(tmp_path / f"annotations/instances_{split}.json", path.read_text())
        path.unlink()
    with pytest.raises(ValueError, match="of one split; annotation files of train and"):
        read(tmp_path, images=str(tmp_path / "pictures"))


def test_a_category_above_all_others_renames_none(tmp_path):
    def above(content):
        content["categories"].insert(0, {"id": 0, "name": "beet"})

    assert read(coco(tmp_path, above))[0].classes == ["beet"]


def test_a_split_without_images_costs_the_others_nothing(tmp_path):
    for split in ("train", "test"):
        path = coco(tmp_path / split)
        path.rename(tmp_path / split / "_annotations.coco.json")
    for number in range(6):
        (tmp_path / f"test/{number}.png").unlink()
    table, report = read(tmp_path)
    assert len(table) == 6
    assert report.counts["annotation files without images, left out"] == 1


def test_a_corner_at_the_border_is_no_visibility(tmp_path):
    rows = ["0.2 0.3 0.4 0.3 0.4 0.6 0.3 0.7 0.2 0.6"] * 3
    rows.append("0.8 0.1 0.8 0.3 1 0.3 1 0.1")
    table, _ = read(yolo(tmp_path, rows))
    assert (160, 10, 200, 30) in boxes(table)


def test_tracks_whose_number_is_one(tmp_path):
    assert boxes(read(yolo(tmp_path / "a", [f"{ROW} 0.9 1"] * 4))[0]) == {BOX}
    scored = [f"{ROW} 0.9 1", f"{ROW} 0.9"]
    assert boxes(read(yolo(tmp_path / "b", scored))[0]) == {BOX}
    with pytest.raises(ValueError, match='"task: segment" or "task: detect"'):
        read(yolo(tmp_path / "c", [f"{ROW} 0.9 1"]))


def test_two_yolo_sets_are_not_one(tmp_path):
    yolo(tmp_path / "a", [ROW], "names: [beet, weed]\n")
    yolo(tmp_path / "b", [ROW], "names: [car, person]\n")
    with pytest.raises(ValueError, match=r"must be one data set; .* holds several"):
        read(tmp_path)


def test_paths_of_another_machine_lead_to_the_same_folders(tmp_path):
    data = yolo(tmp_path, [ROW] * 2)
    for place in ("C:\\sets\\beets\\images", "/home/somebody/beets/images"):
        text(data / "data.yaml", f"train: {place}\nnames: [beet]\n")
        assert set(read(data)[0].column("split")) == {"train"}
    text(data / "data.yaml", "train: nowhere\nnames: [beet]\n")
    _, report = read(data)
    assert report.counts["paths of data.yaml that lead nowhere (train)"] == 1


def test_a_copied_annotation_is_of_its_own_image(tmp_path):
    voc(tmp_path / "voc", "", "", count=1)
    picture(tmp_path / "voc/f0_flip.jpg")
    content = (tmp_path / "voc/f0.xml").read_text()
    text(tmp_path / "voc/f0_flip.xml", content)  # it still names f0.jpg
    table, _ = read(tmp_path / "voc")
    assert sorted(set(table.column("image"))) == ["f0.jpg", "f0_flip.jpg"]


def test_voc_of_two_cameras(tmp_path):
    for camera in ("cam1", "cam2"):
        voc(tmp_path, f"Annotations/{camera}", f"JPEGImages/{camera}", count=2)
    text(tmp_path / "ImageSets/Main/train.txt", "cam1/f0\nf1.jpg\n")
    table, _ = read(tmp_path)
    assert len(table) == 8
    pairs = zip(table.column("image"), table.column("split"), strict=True)
    assert {image for image, split in pairs if split} == {
        "JPEGImages/cam1/f0.jpg",
        "JPEGImages/cam1/f1.jpg",
        "JPEGImages/cam2/f1.jpg",
    }


def test_a_set_that_is_saved_again_has_its_new_pictures(tmp_path):
    datasets = pytest.importorskip("datasets")
    shown = []
    for color in ("red", "blue"):
        Image.new("RGB", SIZE, color).save(tmp_path / f"{color}.png")
        columns = {"image": [str(tmp_path / f"{color}.png")], "fine_label": [0]}
        part = datasets.Dataset.from_dict(columns).cast_column(
            "image", datasets.Image()
        )
        kind = datasets.ClassLabel(names=[color])
        part.cast_column("fine_label", kind).save_to_disk(tmp_path / "set")
        table, _ = read(tmp_path / "set")
        shown.append((table.classes, read_image(table.path(0)).getpixel((0, 0))))
    assert shown == [(["red"], (255, 0, 0)), (["blue"], (0, 0, 255))]


def test_no_two_crops_have_one_id(tmp_path):
    for name in (
        "images/zeta/a.png",
        "zeta/a.png",
        "Ru\u0308be/a.png",
        "R\u00fcbe/a.png",
    ):
        picture(tmp_path / name)
    table, _ = read(tmp_path, format="folder")
    assert len(set(table.ids)) == len(table) == 4


def test_uncompressed_gray_tiffs_are_turned_right(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "a.tif", exif=exif)
    shown = np.asarray(read_image(tmp_path / "a.tif"))[..., 0]
    np.testing.assert_array_equal(shown, np.rot90(values, -1))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labelTxt/{}.txt", "10 10 50 10 50 50 10 50 plane 0"),
        ("ann/{}.png.json", '{"objects": []}'),
        ("via.json", '{"0.png123": {"filename": "0.png", "regions": []}}'),
        ("labels.json", '{"labels": {"0": [{"bounding_box": [0, 0, 1, 1]}]}}'),
        ("bounding_boxes.txt", "1 60.0 27.0 325.0 304.0"),
        ("{}.txt", "Car 0.00 0 -1.58 587.0 173.3 614.1 200.1"),
        ("_annotations.txt", "0.png 10,20,30,40,1\n"),
        ("metadata.jsonl", '{"file_name": "0.png", "objects": {}}\n'),
        ("_classes.csv", "filename,beet,weed\n0.png,1,0\n"),
    ],
)
def test_what_other_tools_keep_beside_photos_is_named(tmp_path, name, content):
    for number in range(3):
        picture(tmp_path / f"images/{number}.png", number)
        text(tmp_path / name.format(number), content)
    with pytest.raises(
        ValueError, match="a file about its images that isn't of a form"
    ):
        read(tmp_path)
    assert len(read(tmp_path, format="folder")[0]) == 3


def test_a_list_of_names_and_litter_stop_nothing(tmp_path):
    for number in range(3):
        picture(tmp_path / f"{number}.png", number)
        picture(tmp_path / f"@eaDir/{number}.png/SYNOPHOTO_THUMB_XL.jpg")
    text(tmp_path / "files.txt", "0.png\n1.png\n2.png\n")
    text(tmp_path / "gps.csv", "image,latitude,longitude\n0.png,48.2,16.4\n")
    text(tmp_path / "gps.json", '{"0.png": {"lat": 48.2, "lon": 16.4}}')
    text(tmp_path / "0.txt", "a nice photo of a beet, 2 leaves")
    text(tmp_path / "1.png.json", '{"photoTakenTime": {"timestamp": "1"}}')
    text(tmp_path / "2.xml", "<x><iso>100</iso></x>")
    assert len(read(tmp_path)[0]) == 3


def test_a_list_of_classes_is_taken_where_folders_say_none(tmp_path):
    lines = ["filename,label"]
    for number in range(3):
        picture(tmp_path / f"flat/{number}.png", number)
        picture(tmp_path / f"classes/beet/{number}.png", number)
        lines.append(f"{number}.png,beet")
    for folder in ("flat", "classes"):
        text(tmp_path / folder / "labels.csv", "\n".join(lines))
    with pytest.raises(ValueError, match=r"give the file itself, --data=\S+labels.csv"):
        read(tmp_path / "flat")
    assert read(tmp_path / "flat/labels.csv")[0].classes == ["beet"]
    assert read(tmp_path / "classes")[0].classes == ["beet"]


def test_one_folder_of_a_split_with_classes_beside_others_is_refused(tmp_path):
    picture(tmp_path / "train/beet/a.png")
    picture(tmp_path / "extra/a.png")
    with pytest.raises(ValueError, match=r"others beside them \(extra in"):
        read(tmp_path)
    picture(tmp_path / "vehicles/train/a.png")  # here it is a class
    picture(tmp_path / "vehicles/bus/a.png")
    assert read(tmp_path / "vehicles")[0].classes == ["bus", "train"]


def test_a_set_that_could_not_be_read_is_read_when_its_photos_are_back(tmp_path):
    picture(tmp_path / "photos/a.png")
    table, _ = read(tmp_path / "photos")
    for _ in range(2):
        writer = EmbeddingWriter(tmp_path / "set", table, 2, {"encoder_hash": "e"})
        writer.append(np.zeros((1, 2), np.float32), np.zeros(1, bool))
        with pytest.raises(
            ValueError, match=r"none of the crops below .* no image could be read"
        ):
            writer.finish({})
    assert not list(tmp_path.glob("set*"))


def test_names_of_a_mac_are_the_same_names(tmp_path):
    picture(tmp_path / "Ru\u0308be 1.png")
    row = "R\u00fcbe 1.png,40,30,80,60,beet"
    path = text(tmp_path / "b.csv", f"image,left,top,right,bottom,label\n{row}\n")
    table, _ = read(path)
    assert boxes(table) == {BOX}
    assert len(table.find(str(tmp_path / "R\u00fcbe 1.png"))) == 1


def test_ids_without_endings_and_quotes_after_a_space(tmp_path):
    picture(tmp_path / "images/a.jpg")
    row = 'a,"[40, 30, 40, 30]", "beet"\na,"[40, 30, 40, 30]", "weed"'
    table, report = read(text(tmp_path / "train.csv", f"image_id,bbox,label\n{row}\n"))
    assert table.column("image").tolist() == ["a.jpg"]
    assert table.classes == ["beet"]
    again = "boxes drawn again under another class: one of the two counts"
    assert report.counts[again] == 1


def test_predictions_as_people_write_them(tmp_path):
    path = csv_of(
        tmp_path, "image,left,top,right,bottom,label", ["10.6,10.6,30.4,30.4,beet"] * 2
    )
    table, _ = read(path)
    rows = [
        "image, left, top, right, bottom, predicted, score",
        "0.png,10.6,10.6,30.4,30.4, weed ,0.9",
        "0.png,10.6,10.6,30.4,30.4,beet,0.1",  # the surer one counts
        "1.png,,,,,weed,0.5",
        "9.png,1,1,2,2,weed,0.5",
    ]
    found = with_predictions(table, text(tmp_path / "p.csv", "\n".join(rows)))
    assert found.column("predicted").tolist() == ["weed", ""]
    results = [
        {"image_id": name, "category_id": 0, "bbox": box, "score": 0.5}
        for name, box in (("0", [10, 10, 21, 21]), ("0", [float("nan")] * 4))
    ]
    named = with_predictions(table, text(tmp_path / "r.json", json.dumps(results)))
    assert named.column("predicted").tolist() == ["beet", ""]


def test_a_link_that_leads_nowhere_stops_nothing(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "a.json").symlink_to(tmp_path / "gone.json")
    assert len(read(tmp_path)[0]) == 1
