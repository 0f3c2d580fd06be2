import pytest
from PIL import Image

from data.formats.base import SourceOptions
from data.formats.registry import (
    FORMATS,
    READABLE,
    WRITABLE,
    detect_format,
    named,
    read_source,
    spellings,
)
from tests.test_data_formats_coco import make as make_coco
from tests.test_data_formats_cropandweed import make as make_cropandweed
from tests.test_data_formats_csv import make as make_csv
from tests.test_data_formats_yolo import BEET
from tests.test_data_formats_yolo import make as make_yolo


@pytest.fixture
def sources(tmp_path):
    """One small source of each format on disk: format -> path."""
    for name in ("folder", "csv"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "folder" / "x.png")
    return {
        "folder": tmp_path / "folder",
        "cropandweed": make_cropandweed(tmp_path / "caw"),
        "coco": make_coco(tmp_path / "coco"),
        "yolo": make_yolo(tmp_path / "yolo", {("train", "a"): BEET}),
        "csv": make_csv(
            tmp_path / "csv", "image,left,top,right,bottom\na.png,1,2,9,9\n"
        ),
    }


def test_formats_are_told_apart(sources):
    assert {kind: detect_format(str(path)) for kind, path in sources.items()} == {
        kind: kind for kind in sources
    }
    assert detect_format("tfds:beans") == "tfds"


def test_each_source_is_read(sources):
    counts = {kind: len(read_source(str(path))[0]) for kind, path in sources.items()}
    assert counts == {"folder": 1, "cropandweed": 6, "coco": 3, "yolo": 1, "csv": 1}


def test_a_crop_table_is_a_source(sources, tmp_path):
    table, _ = read_source(str(sources["coco"]))
    table.write(tmp_path / "crops.parquet")
    again, _ = read_source(str(tmp_path / "crops.parquet"))
    assert again.content_hash == table.content_hash
    assert again.path(0).is_file()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "folder",
            SourceOptions(variant="Fine24"),
            "variant applies to cropandweed; .* is read as folder",
        ),
        (
            "yolo",
            SourceOptions(box_size="10x10"),
            "box_size applies to csv, parquet, coco, voc, labelme; .* is read as yolo",
        ),
        (
            "cropandweed",
            SourceOptions(boxes="xywh"),
            "boxes applies to csv, parquet, coco, yolo",
        ),
        ("csv", SourceOptions(box_size="big"), "box_size must be WIDTHxHEIGHT"),
        (
            "csv",
            SourceOptions(format="yolo"),
            "names its images; no image of",
        ),
        (
            "folder",
            SourceOptions(format="coco"),
            "data must hold annotation files; .* has none",
        ),
        ("folder", SourceOptions(format="morse"), "format must be one of auto, folder"),
    ],
)
def test_options_that_do_not_apply_are_refused(sources, kind, options, message):
    with pytest.raises(ValueError, match=message):
        read_source(str(sources[kind]), options)


def test_a_folder_that_contains_a_data_set_further_down_is_refused(sources, tmp_path):
    (tmp_path / "outer").mkdir()
    sources["cropandweed"].rename(tmp_path / "outer" / "field")
    with pytest.raises(ValueError, match=r"outer/field' has the layout of cropandweed"):
        read_source(str(tmp_path / "outer"))
    assert read_source(str(tmp_path / "outer"), SourceOptions(format="folder"))[
        0
    ].classes == ["field/images"]
    (sources["folder"] / "x.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(ValueError, match=r"x.txt in"):
        read_source(str(sources["folder"]))


def test_boxes_that_all_fall_away_are_an_error(sources, tmp_path):
    path = make_csv(sources["csv"].parent, "image,left,top,right,bottom\na.png,,,,\n")
    with pytest.raises(
        ValueError, match=r"must hold (boxes that lie in their images|numbers)"
    ):
        read_source(str(path))


def test_names_of_0_5_0_are_understood():
    assert named("folders") is FORMATS["folder"]
    assert named("tfrecord") is FORMATS["tfds"]
    assert named("table") is FORMATS["parquet"]
    assert spellings(("parquet", "coco")) == ["parquet", "coco", "table"]


def test_every_format_says_what_it_keeps_and_reads_or_writes():
    for name, form in FORMATS.items():
        assert name == form.name
        assert bool(form.keeps) == bool(form.write)
        assert form.read or form.write
        assert set(form.reads) <= {"file", "folder", "name"}
    assert set(READABLE) == {"auto", *FORMATS} - {"label_studio"}
    assert set(FORMATS) - set(WRITABLE) == {"voc", "labelme", "huggingface"}
