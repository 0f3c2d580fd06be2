import numpy as np
import pytest
from PIL import Image

from data.boxes import (
    CONVENTIONS,
    check_convention,
    distinct_names,
    fits,
    inspect_images,
    plain_path,
    session_of,
    sizes_of,
    table_of_boxes,
    to_corners,
    whole_pixels,
)
from data.report import Report

SIZES = np.array([[200, 100]] * 40, np.float64)


def random_corners(seed=0, count=40):
    rng = np.random.default_rng(seed)
    left, top = rng.uniform(0, 150, count), rng.uniform(0, 70, count)
    return np.stack(
        [left, top, left + rng.uniform(10, 49, count), top + rng.uniform(8, 29, count)],
        axis=1,
    )


def express(corners, convention):
    """Corners in another convention, written down independently of `to_corners`."""
    left, top, right, bottom = corners.T
    kind, _, relative = convention.partition("_")
    values = {
        "xyxy": (left, top, right, bottom),
        "yxyx": (top, left, bottom, right),
        "xywh": (left, top, right - left, bottom - top),
        "cxcywh": ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top),
    }[kind]
    units = (100, 200, 100, 200) if kind == "yxyx" else (200, 100, 200, 100)
    return np.stack(values, axis=1) / (units if relative else 1)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_convention_comes_back_to_the_same_corners(convention):
    corners = random_corners()
    assert np.allclose(
        to_corners(express(corners, convention), convention, SIZES), corners
    )


def test_hand_worked_box():
    assert to_corners(
        np.array([[0.5, 0.5, 0.2, 0.4]]), "cxcywh_relative", np.array([[1920, 1088]])
    ).round(1).tolist() == [[768.0, 326.4, 1152.0, 761.6]]


@pytest.mark.parametrize(
    ("is_in", "read_as"),
    [
        ("xywh", "xyxy"),
        ("xyxy", "xywh"),
        ("xyxy", "cxcywh"),
        ("xyxy_relative", "xyxy"),
        ("cxcywh_relative", "xywh"),
        ("xyxy", "cxcywh_relative"),
        ("yxyx_relative", "yxyx"),
    ],
)
def test_a_confused_convention_is_refused_and_the_right_one_named(is_in, read_as):
    boxes = express(random_corners(), is_in)
    with pytest.raises(
        ValueError, match=f"read as {read_as}, .* They fit as .*{is_in}"
    ):
        check_convention(boxes, read_as, SIZES, "file")


def test_boxes_of_larger_images_are_refused_and_box_size_is_named():
    with pytest.raises(
        ValueError,
        match=r"drawn on larger images .* setting box_size",
    ):
        check_convention(random_corners() * 3, "xyxy", SIZES, "file")


def test_boxes_that_are_nothing_are_refused():
    with pytest.raises(ValueError, match="No convention fits"):
        check_convention(
            np.tile([-70.0, -70.0, -7.0, -7.0], (40, 1)), "xyxy", SIZES, "file"
        )


def test_a_few_wrong_boxes_do_not_condemn_a_file():
    corners = random_corners()
    corners[:3] = np.nan
    assert check_convention(corners, "xyxy", SIZES, "file").shape == (40, 4)


def test_a_box_may_cross_the_border_a_little():
    sizes = np.array([[200, 100]] * 3)
    boxes = np.array([[-3, -2, 50, 50], [150, 50, 204, 102.5], [150, 50, 230, 90]])
    assert fits(boxes, sizes).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("image", "session"),
    [
        ("ave-0506-0007.jpg", "ave-0506"),
        ("images/vwg-0001-0123.jpg", "vwg-0001"),
        ("photo.jpg", ""),
        ("beet_12.png", ""),
        ("x/17.jpg", ""),
    ],
)
def test_session_of_a_file_name(image, session):
    assert session_of(image) == session


def test_boxes_are_made_whole_clipped_and_counted(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "a-01-1.png")
    boxes = [
        (10.2, 5.9, 30.1, 20.0),  # grows to whole pixels
        (-4, 10, 50, 108),  # crosses two borders
        (0, 0, 20, 20),  # touches two
        (250, 10, 300, 40),  # outside
        (10, 5, 31, 20),  # the first one again, once in whole pixels
        (60, 60, 60, 70),  # no area
    ]
    columns = {
        "image": ["a-01-1.png"] * 6,
        "label": [0] * 6,
        "label_name": ["beet"] * 6,
        "split": [""] * 6,
    }
    report = Report()
    table = table_of_boxes(
        tmp_path, np.array(boxes), columns, {"a-01-1.png": (200, 100)}, report
    )
    assert table.boxes.tolist() == [[0, 0, 20, 20], [0, 10, 50, 100], [10, 5, 31, 20]]
    assert table.column("touches_border").tolist() == [True, True, False]
    assert table.column("box_width").tolist() == [20, 50, 21]
    assert set(table.column("session")) == {"a-01"}
    assert report.counts == {
        "boxes without area or outside of their image, left out": 2,
        "boxes that cross the border, clipped": 1,
        "boxes that touch the border": 2,
        "boxes that repeat another one, left out": 1,
    }


def test_of_several_conventions_that_fit_the_same_order_is_named_first():
    boxes = np.array([[0.5, 0.5, 0.1, 0.1], [0.4, 0.6, 0.1, 0.1]])
    with pytest.raises(
        ValueError,
        match=r"give --config='{.boxes.: .cxcywh_relative.}' if that is what they are",
    ):
        check_convention(boxes, "cxcywh", SIZES[:2], "file")
    with pytest.raises(ValueError, match=r"give --config='{.boxes.: .cxcywh.}' if"):
        check_convention(
            np.array([[100.0, 50, 20, 40]]), "cxcywh_relative", SIZES[:1], "file"
        )


def test_rows_without_a_box_say_nothing_about_the_convention(tmp_path):
    boxes = np.array([[10, 10, 20, 20], [np.nan] * 4, [np.nan] * 4], float)
    assert check_convention(boxes, "xyxy", SIZES[:3], "file")[0].tolist() == [
        10,
        10,
        20,
        20,
    ]


def test_paths_are_written_one_way():
    assert [
        plain_path(name) for name in ("./a.jpg", "x\\a.jpg", "x/../y/a.jpg", "../a.jpg")
    ] == [
        "a.jpg",
        "x/a.jpg",
        "y/a.jpg",
        "../a.jpg",
    ]


@pytest.mark.parametrize(
    ("box", "is_in"),
    [  # in an image of 200 x 100: 5 pixels of room at the sides, 3 above and below
        ((-5, -3, 20, 20), True),
        ((-5.1, 0, 20, 20), False),
        ((0, -3.1, 20, 20), False),
        ((100, 50, 205, 103), True),
        ((100, 50, 205.1, 100), False),
        ((100, 50, 200, 103.1), False),
        ((10, 10, 10.6, 10.6), True),
        ((10, 10, 10.5, 20), False),  # half a pixel wide
        ((10, 10, 20, 10.5), False),
        ((20, 10, 10, 20), False),
        ((np.nan, 10, 20, 20), False),
        ((10, 10, np.inf, 20), False),
    ],
)
def test_which_boxes_fit(box, is_in):
    assert fits(np.array([box], float), SIZES[:1]).tolist() == [is_in]


def test_numbers_that_are_no_places_are_none():
    boxes = np.array([[1e9, 0, 1, 1], [-1e10, 0, 1, 1], [9e8, 0, 1, 1]])
    found = to_corners(boxes, "xyxy", SIZES[:3])
    assert np.isnan(found[:, 0]).tolist() == [True, True, False]
    with pytest.raises(ValueError, match=r"boxes must be one of xyxy, .*; got 'xyx'"):
        to_corners(boxes, "xyx", SIZES[:3])


def test_a_tenth_may_be_wrong_and_no_more():
    """Of 40 boxes 4 may not fit; those without area, or without numbers, don't count."""
    corners = random_corners()
    corners[:4] += 1000
    np.testing.assert_array_equal(
        check_convention(corners, "xyxy", SIZES, "file"), corners
    )
    corners[4] += 1000
    with pytest.raises(ValueError, match=r"5 of 40 don't, such as \(.*\) in an image"):
        check_convention(corners, "xyxy", SIZES, "file")
    corners[4] = np.nan
    with pytest.raises(ValueError, match=r"4 of 39 don't"):
        check_convention(corners, "xyxy", SIZES, "file")
    corners[4] = corners[5]
    corners[5:15, 2:] = corners[5:15, :2]
    with pytest.raises(ValueError, match=r"4 of 30 don't"):
        check_convention(corners, "xyxy", SIZES, "file")
    nothing = np.full((3, 4), np.nan)
    assert np.isnan(check_convention(nothing, "xyxy", SIZES[:3], "file")).all()


def test_what_would_fit_is_said_by_what_can_be_done():
    relative = random_corners() / (200, 100, 200, 100)
    with pytest.raises(
        ValueError, match=r"fit as .*relative.*, which this format doesn"
    ):
        check_convention(relative, "xyxy", SIZES, "file", correctable=False)
    scaled = random_corners() * 4 / 3
    scaled[:, 2:] *= 266 / scaled[:, 2:].max(axis=0) * (1, 0.5)
    assert scaled[:, 2].max() == pytest.approx(266)
    with pytest.raises(ValueError, match=r"scaled by about 0.7\d: they were drawn on"):
        check_convention(scaled, "xyxy", SIZES, "file")
    with pytest.raises(ValueError, match="No convention fits"):
        check_convention(scaled, "xyxy", SIZES, "file", is_size_known=True)
    message = "boxes of file must fit their images; read as xyxy, 40 of 40 don't"
    with pytest.raises(ValueError, match=message):
        check_convention(relative, "xyxy", SIZES, "file")


def test_boxes_that_nearly_touch_a_pixel_do_not():
    corners = np.array(
        [[10.0009, 5.0011, 20.0009, 30.0011], [9.9995, 4.9985, 20.9995, 30.9985]]
    )
    assert whole_pixels(corners).tolist() == [[10, 5, 20, 31], [10, 4, 21, 31]]
    assert whole_pixels(np.array([[np.nan, 1, 2, 3], [1, 2, 3, np.inf]])).tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_a_name_that_several_ids_share_gets_its_id():
    assert distinct_names({1: "a", 2: "b", 3: "a"}) == {1: "a (1)", 2: "b", 3: "a (3)"}
    assert distinct_names({}) == {}


def test_a_table_says_how_each_box_lies(tmp_path):
    for name in ("x-1-01.png", "y.png"):
        Image.new("RGB", (20, 10)).save(tmp_path / name)
    boxes = [(0, 4, 5, 6), (5, 0, 9, 3), (15, 4, 20, 6), (5, 7, 9, 10), (5, 4, 9, 6)]
    boxes += [(5, 4, 9, 6), (-1, 4, 4, 6)]
    columns = {
        "image": ["x-1-01.png"] * 5 + ["x-1-01.png", "y.png"],
        "label": [0, 1, 0, 0, 0, 1, 0],
        "label_name": ["a", "b", "a", "a", "a", "b", "a"],
        "split": [""] * 7,
        "age": [0, 1, 2, 3, 4, 5, 6],
    }
    sizes = {"x-1-01.png": (20, 10), "y.png": (20, 10)}
    report = Report()
    table = table_of_boxes(tmp_path, np.array(boxes, float), columns, sizes, report)
    lies = dict(zip(table.column("age"), table.column("touches_border"), strict=True))
    assert lies == {0: True, 1: True, 2: True, 3: True, 4: False, 6: True}
    assert table.column("box_height").tolist() == [
        bottom - top for _, top, _, bottom in table.boxes.tolist()
    ]
    assert table.column("box_width").tolist() == [
        right - left for left, _, right, _ in table.boxes.tolist()
    ]
    assert set(table.column("image_width")) == {20}
    assert set(table.column("image_height")) == {10}
    assert sorted(set(table.column("session"))) == ["", "x-1"]
    assert table.column("file_bytes")[0] == (tmp_path / "x-1-01.png").stat().st_size
    again = "boxes drawn again under another class: one of the two counts"
    assert report.counts[again] == 1
    assert report.counts["boxes that repeat another one, left out"] == 1
    assert report.counts["boxes that cross the border, clipped"] == 1
    assert report.counts["boxes that touch the border"] == 5
    flat = np.array([[5.0, 4, 5, 6], [5, 4, 9, 4], [30, 4, 40, 6]])
    columns = {name: values[:3] for name, values in columns.items()}
    with pytest.raises(ValueError, match="none of 3 does"):
        table_of_boxes(tmp_path, flat, columns, sizes, Report())


def test_images_that_cannot_be_read_are_skipped_by_name(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    report = Report()
    found = inspect_images(tmp_path, ["a.png", "b.png", "c\udcff.png"], report)
    assert {name: (facts.width, facts.height) for name, facts in found.items()} == {
        "a.png": (20, 10)
    }
    assert sizes_of(["a.png"], {"a.png": (20, 10)}).tolist() == [[20, 10]]
    assert sizes_of([], {}).shape == (0, 2)


def test_boxes_of_which_some_fit_at_no_size_are_of_other_images():
    corners = random_corners() * 3
    corners[::2, :2], corners[::2, 2:] = corners[::2, 2:], corners[::2, :2].copy()
    with pytest.raises(ValueError, match="No convention fits"):
        check_convention(corners, "xyxy", SIZES, "file")
