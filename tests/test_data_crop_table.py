import hashlib

import numpy as np
import pytest

from data.crop_table import SCHEMA, CropTable, make_crop_id, make_crop_id_v1


def columns(images, boxes=None, **extra):
    boxes = boxes or [(0, 0, 10, 20)] * len(images)
    result = {"image": images, "label": [-1] * len(images)}
    result |= {
        side: [box[place] for box in boxes]
        for place, side in enumerate(("left", "top", "right", "bottom"))
    }
    result |= {name: [""] * len(images) for name in ("label_name", "session", "split")}
    return {**result, **extra}


def test_id_is_a_hash_of_image_and_box():
    expected = "c" + hashlib.sha256(b"a/b.jpg\x001,2,30,40").hexdigest()[:12]
    assert make_crop_id("a/b.jpg", (1, 2, 30, 40)) == expected
    assert make_crop_id("a/b.jpg", np.array([1, 2, 30, 40])) == expected


def test_rows_are_sorted_and_repeated_crops_dropped():
    table = CropTable.from_columns(
        "root",
        columns(
            ["b.jpg", "a.jpg", "b.jpg", "b.jpg"],
            [(5, 0, 9, 9), (0, 0, 9, 9), (1, 0, 9, 9), (5, 0, 9, 9)],
        ),
    )
    assert list(zip(table.column("image"), table.boxes[:, 0], strict=True)) == [
        ("a.jpg", 0),
        ("b.jpg", 1),
        ("b.jpg", 5),
    ]
    assert len(set(table.ids)) == 3


def test_order_of_the_source_does_not_matter():
    one = CropTable.from_columns("x", columns(["a", "b", "c"]))
    two = CropTable.from_columns("y", columns(["c", "a", "b"]))
    assert one.content_hash == two.content_hash
    assert (
        one.content_hash
        != CropTable.from_columns("x", columns(["a", "b"])).content_hash
    )


def test_parquet_round_trip_keeps_values_and_root(tmp_path):
    table = CropTable.from_columns(
        tmp_path,
        columns(
            ["a.jpg", "b.jpg"], label=[0, 1], label_name=["x", "y"], moisture=[2, 1]
        ),
    )
    table.write(tmp_path / "crops.parquet")
    read = CropTable.read(tmp_path / "crops.parquet")
    assert read.root == tmp_path.resolve()
    assert read.content_hash == table.content_hash
    assert read.rows.column_names == [*SCHEMA.names, "moisture", "crop_id_v1"]
    assert read.path(1) == tmp_path.resolve() / "b.jpg"
    assert (
        CropTable.read(tmp_path / "crops.parquet", "elsewhere").path(0).as_posix()
        == "elsewhere/a.jpg"
    )


def test_a_column_is_converted_once_and_cannot_be_written_to():
    table = CropTable.from_columns("", columns(["a", "b"]))
    assert table.column("image") is table.column("image")
    for name in ("image", "left"):
        with pytest.raises(ValueError, match="read-only"):
            table.column(name)[0] = table.column(name)[1]


def test_take_by_mask_and_by_index():
    table = CropTable.from_columns("", columns(["a", "b", "c"]))
    assert list(table.take(np.array([True, False, True])).column("image")) == ["a", "c"]
    assert list(table.take(np.array([2, 0])).column("image")) == ["c", "a"]


def test_errors_name_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="missing: left, top"):
        CropTable.from_columns(
            "", {name: [] for name in SCHEMA.names if name not in ("left", "top")}
        )
    with pytest.raises(ValueError, match=r"column must be one of .* got 'colour'"):
        CropTable.from_columns("", columns(["a"])).column("colour")


def test_crops_are_found_by_id_and_by_path(tmp_path, monkeypatch):
    for name in ("photos/beet/a.jpg", "photos/beet/b.jpg", "other/beet/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "photos" / "beet" / "link.jpg").symlink_to(
        tmp_path / "other" / "beet" / "a.jpg"
    )
    table = CropTable.from_columns(
        tmp_path / "photos",
        columns(
            ["beet/a.jpg", "beet/b.jpg", "beet/b.jpg", "beet/link.jpg"],
            [(0, 0, 9, 9), (0, 0, 9, 9), (1, 0, 9, 9), (0, 0, 9, 9)],
        ),
    )
    monkeypatch.chdir(tmp_path)
    assert table.find(table.ids[2]) == [2]
    assert table.find("beet/b.jpg") == [1, 2]
    assert (
        table.find("photos/beet/a.jpg")
        == table.find(str(tmp_path / "photos/beet/a.jpg"))
        == [0]
    )
    assert table.find("photos/beet/link.jpg") == [3]
    assert table.find("nobody") == []
    monkeypatch.chdir(tmp_path / "other")
    # The file that link.jpg leads to, not the one of the same name in the set.
    assert table.find("beet/a.jpg") == [3]
    assert table.find("beet/b.jpg") == [1, 2]
    (tmp_path / "other" / "beet" / "b.jpg").touch()
    assert table.find("beet/b.jpg") == []  # an image of this folder


def test_a_crop_is_found_by_a_point_in_it(tmp_path):
    boxes = [(0, 0, 100, 100), (40, 40, 60, 60), (200, 0, 300, 50)]
    table = CropTable.from_columns(tmp_path, columns(["a@1.jpg"] * 3, boxes))
    assert [
        table.boxes[table.find(f"a@1.jpg@{point}")].tolist()
        for point in ("50,50", "10,10", "299,49")
    ] == [
        [[40, 40, 60, 60]],
        [[0, 0, 100, 100]],
        [[200, 0, 300, 50]],
    ]
    assert table.find("a@1.jpg@300,49") == []
    assert table.find("b.jpg@5,5") == []
    assert len(table.find("a@1.jpg")) == 3


def test_an_image_outside_of_the_root_is_found_however_it_is_written(
    tmp_path, monkeypatch
):
    (tmp_path / "field").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "field" / "a.jpg").touch()
    absolute = str(tmp_path / "field" / "a.jpg")
    monkeypatch.chdir(tmp_path / "here")
    for stated in ("../field/a.jpg", absolute):
        table = CropTable.from_columns(tmp_path / "here", columns([stated]))
        assert [
            table.find(example)
            for example in (
                absolute,
                "../field/a.jpg",
                "../here/../field/a.jpg",
                f"{absolute}@3,3",
            )
        ] == [[0]] * 4


def test_an_id_is_of_the_path_below_the_data_set_however_it_is_written():
    box = (1, 2, 30, 40)
    plain = make_crop_id("Möhre/001.png", box)
    decomposed = "Mo\u0308hre/001.png"
    for image in ("images/Möhre/001.png", decomposed, "Möhre\\001.png"):
        assert make_crop_id(image, box) == plain
    for image in ("images/images/Möhre/001.png", "pictures/Möhre/001.png"):
        assert make_crop_id(image, box) != plain
    # What neither folder nor accents touch keeps the id that it had.
    assert make_crop_id("a/b.jpg", box) == make_crop_id_v1("a/b.jpg", box)


def test_two_images_that_differ_by_the_folder_alone_stay_two():
    table = CropTable.from_columns("", columns(["a.png", "images/a.png"]))
    assert len(set(table.ids)) == 2
    assert table.rows_of(table.ids).tolist() == [0, 1]


def test_ids_of_version_0_5_0_are_looked_up_and_files_of_it_get_new_ones(tmp_path):
    table = CropTable.from_columns(tmp_path, columns(["images/a.png", "images/b.png"]))
    old = [make_crop_id_v1(image, (0, 0, 10, 20)) for image in table.column("image")]
    assert table.column("crop_id_v1").tolist() == old
    assert (table.ids != old).all()
    assert table.rows_of(old).tolist() == [0, 1]
    assert table.find(old[1]) == table.find(table.ids[1]) == [1]
    with pytest.raises(ValueError, match=r"marks must name crops .* unknown: 'x'"):
        table.rows_of([old[0], "x"], "marks")
    # As 0.5.0 wrote it: old ids, and no column that says so.
    place = table.rows.column_names.index("crop_id")
    rows = table.rows.drop_columns(["crop_id_v1"])
    rows = rows.set_column(place, "crop_id", table.rows.column("crop_id_v1"))
    before = CropTable(tmp_path, rows)
    assert before.content_hash == table.content_hash
    before.write(tmp_path / "old.parquet")
    read = CropTable.read(tmp_path / "old.parquet")
    assert read.ids.tolist() == table.ids.tolist()
    assert read.column("crop_id_v1").tolist() == old
    assert read.content_hash == table.content_hash


def test_a_table_with_fewer_columns_is_the_one_it_was(tmp_path):
    table = CropTable.from_columns(tmp_path, columns(["a.jpg"], [(0, 0, 9, 9)]))
    more = table.rows.append_column("score", [[0.5]])
    wider = CropTable(tmp_path, more)
    assert wider.content_hash != table.content_hash
    again = wider.with_columns(table.rows.column_names)
    assert again.content_hash == table.content_hash
