import numpy as np
import pytest
from PIL import Image

from data.boxes import (
    CONVENTIONS,
    check_convention,
    fits,
    plain_path,
    session_of,
    table_of_boxes,
    to_corners,
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
