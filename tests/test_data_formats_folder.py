import os

import pytest
from PIL import Image

from tests.conftest import read_image_folder


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (7, 5)).save(root / name)


def facts(table):
    return list(
        zip(
            table.column("image"),
            table.column("label_name"),
            table.column("label"),
            table.column("split"),
            strict=True,
        )
    )


def test_class_folders(tmp_path):
    make(tmp_path, "beet/a.png", "oat/b.png", "beet/c.png")
    table, report = read_image_folder(tmp_path)
    assert facts(table) == [
        ("beet/a.png", "beet", 0, ""),
        ("beet/c.png", "beet", 0, ""),
        ("oat/b.png", "oat", 1, ""),
    ]
    assert table.boxes.tolist() == [[0, 0, 7, 5]] * 3
    assert not report.skipped


def test_split_folders_with_and_without_classes(tmp_path):
    make(tmp_path / "one", "train/beet/a.png", "val/beet/b.png")
    make(tmp_path / "two", "train/a.png", "test/b.png")
    assert facts(read_image_folder(tmp_path / "one")[0]) == [
        ("train/beet/a.png", "beet", 0, "train"),
        ("val/beet/b.png", "beet", 0, "validation"),
    ]
    assert facts(read_image_folder(tmp_path / "two")[0]) == [
        ("test/b.png", "", -1, "test"),
        ("train/a.png", "", -1, "train"),
    ]


def test_a_class_may_be_called_test_beside_others(tmp_path):
    make(tmp_path, "test/a.png", "oat/b.png")
    assert [row[1:] for row in facts(read_image_folder(tmp_path)[0])] == [
        ("oat", 0, ""),
        ("test", 1, ""),
    ]


def test_no_folders_means_no_labels_and_deeper_levels_join(tmp_path):
    make(tmp_path / "flat", "a.png")
    make(tmp_path / "deep", "beet/young/a.png", ".hidden/b.png")
    assert facts(read_image_folder(tmp_path / "flat")[0]) == [("a.png", "", -1, "")]
    assert facts(read_image_folder(tmp_path / "deep")[0]) == [
        ("beet/young/a.png", "beet/young", 0, "")
    ]


def test_unreadable_files_are_skipped_and_reported(tmp_path):
    make(tmp_path, "beet/a.png")
    (tmp_path / "beet" / "zero.jpg").touch()
    (tmp_path / "beet" / "notes.txt").write_text("not counted")
    table, report = read_image_folder(tmp_path)
    assert len(table) == 1
    assert [(item.image, item.reason) for item in report.skipped] == [
        ("beet/zero.jpg", "zero bytes")
    ]


def test_errors_say_what_was_found(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        read_image_folder(tmp_path / "absent")
    with pytest.raises(ValueError, match="holds no image file"):
        read_image_folder(tmp_path)
    (tmp_path / "a.jpg").touch()
    with pytest.raises(
        ValueError, match=r"1 files, none of them readable \(a.jpg: zero bytes\)"
    ):
        read_image_folder(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        read_image_folder(tmp_path / "a.jpg")


def test_linked_folders_are_followed_once_and_bad_names_skipped(tmp_path):
    make(tmp_path / "elsewhere", "beet/a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "beet").symlink_to(tmp_path / "elsewhere" / "beet")
    (tmp_path / "elsewhere" / "beet" / "loop").symlink_to(
        tmp_path / "elsewhere" / "beet"
    )
    Image.new("RGB", (7, 5)).save(tmp_path / "plain.png")
    (tmp_path / "data" / "beet" / os.fsdecode(b"caf\xe9.png")).write_bytes(
        (tmp_path / "plain.png").read_bytes()
    )
    table, report = read_image_folder(tmp_path / "data")
    assert facts(table) == [("beet/a.png", "beet", 0, "")]
    assert [(item.image, item.reason) for item in report.skipped] == [
        ("beet/caf\\udce9.png", "file name isn't UTF-8")
    ]


def test_a_replaced_image_changes_the_table_but_no_id(tmp_path):
    make(tmp_path, "beet/a.png")
    before, _ = read_image_folder(tmp_path)
    Image.effect_noise((7, 5), 50).convert("RGB").save(tmp_path / "beet" / "a.png")
    after, _ = read_image_folder(tmp_path)
    assert before.ids.tolist() == after.ids.tolist()
    assert before.content_hash != after.content_hash
