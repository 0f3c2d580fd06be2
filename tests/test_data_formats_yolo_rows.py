"""What rows of YOLO label files mean, by hand."""

import pytest

from data.formats.yolo_rows import Row, boxes_of, parse

BOX = (0.5, 0.4, 0.2, 0.1)  # from 0.4, 0.35 to 0.6, 0.45
INSIDE = (0.45, 0.4, 0.55, 0.42)  # two keypoints
SEGMENT = (0.1, 0.2, 0.5, 0.25, 0.3, 0.8)
FROM_SEGMENT = (0.3, 0.5, 0.4, 0.6)


def read(*values, keypoints=None, task=""):
    return boxes_of([Row(0, one) for one in values], keypoints, task)


def about(*boxes):
    return [box and pytest.approx(box) for box in boxes]


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("3 0.5 0.4 0.2 0.1", Row(3, BOX)),
        ("3.0 0.5 0.4 0.2 0.1 1", Row(3, (*BOX, 1))),
        ("0 0 0 0 0", Row(0, (0, 0, 0, 0))),
        ("99999 0 0 0 0", Row(99_999, (0, 0, 0, 0))),
        ("100000 0 0 0 0", None),
        ("-1 0 0 0 0", None),
        ("1.5 0 0 0 0", None),
        ("1 0 0 0", None),
        ("beet 0 0 0 0", None),
        ("1 0 0 0 x", None),
    ],
)
def test_lines(line, row):
    assert parse(line) == row


def test_four_numbers_are_a_box_whatever_else_there_is():
    assert read(BOX, SEGMENT) == about(BOX, FROM_SEGMENT)
    assert read(BOX, task="segment") == [BOX]
    assert read((2, 3, -1, 5)) == [(2, 3, -1, 5)]  # what it is, says who draws it


@pytest.mark.parametrize("last", [[0.0, 1.0], [0.3, 0.9], [1, 2], [0, 7], [1.0, 1.0]])
def test_a_fifth_is_a_score_or_a_track(last):
    assert read(*((*BOX, one) for one in last)) == [BOX] * len(last)


@pytest.mark.parametrize("last", [[0.5, 1.5], [-0.5, 0.5], [-1, 2]])
def test_a_fifth_that_is_neither_is_an_angle(last):
    with pytest.raises(ValueError, match=r"an angle .* write their four corners"):
        read(*((*BOX, one) for one in last))


def test_stated_keypoints_follow_the_box():
    two = (*BOX, *INSIDE)
    assert read(two, keypoints=(2, 2)) == [BOX]
    assert read((*two, 0.9), keypoints=(2, 2)) == [BOX]  # and a score
    assert read((*two, 0.9, 1), keypoints=(2, 2)) == [None]
    assert read(two, keypoints=(3, 2)) == [None]
    assert read(two, keypoints=(2, 1)) == [None]
    assert read((*BOX, 0.5, 0.4, 2), keypoints=(1, 3)) == [BOX]
    assert read(two[:-1], keypoints=(2, 2)) == [None]


def test_a_stated_task_decides():
    assert read((*BOX, *INSIDE), task="pose") == [BOX]
    assert read(SEGMENT, task="detect") == [SEGMENT[:4]]
    assert read(SEGMENT, task="segment") == about(FROM_SEGMENT)
    assert read(SEGMENT, task="obb") == about(FROM_SEGMENT)
    assert read((*SEGMENT, 0.9), task="segment") == about(FROM_SEGMENT)
    assert read((*BOX, *INSIDE), task="segment") == about((0.35, 0.25, 0.5, 0.34))[
        :0
    ] + (about((0.375, 0.26, 0.35, 0.32)))


def test_every_third_number_may_tell_how_visible_a_keypoint_is():
    seen = (*BOX, 0.45, 0.4, 2, 0, 0, 0)
    assert read(seen, (*BOX, 0.5, 0.4, 1, 0.5, 0.4, 0)) == [BOX, BOX]
    assert read((*seen, 0.7)) == [BOX]  # and a score
    # Three isn't a degree of visibility; nor is every third number here.
    for other in ((*BOX, 0.45, 0.4, 3, 0, 0, 0), (*BOX, 0.45, 2, 0.4, 0, 0, 0)):
        assert read(other, seen)[1] != BOX
    # The box would reach out of the image, or have no size.
    for box in ((0.9, 0.5, 0.4, 0.2), (0.5, 0.9, 0.2, 0.4), (0.1, 0.5, 0.4, 0.2)):
        assert read((*box, 0.9, 0.5, 2, 0.9, 0.5, 1, 0.3))[0] != box
    assert read((0.5, 0.5, 0.0, 0.2, 0.7, 0.9, 2))[0] != (0.5, 0.5, 0.0, 0.2)
    # Rounding may put a box one hundredth beyond the border, but no more.
    for width, is_box in ((0.2, True), (0.218, True), (0.222, False)):
        for box in ((0.9, 0.5, width, 0.2), (0.1, 0.5, width, 0.2)):
            assert (read((*box, 0.5, 0.5, 2))[0] == box) is is_box
    # Among rows of several lengths they are segments.
    assert read(seen, (*SEGMENT, 0.1, 0.1))[0] != BOX


def test_a_score_and_the_number_of_a_track_may_follow():
    rows = [(*BOX, 0.9, 7), (*BOX, 0.8, 1)]
    assert read(*rows) == [BOX, BOX]
    assert read(*((*BOX, 0.9, 1) for _ in range(3))) == [BOX] * 3
    assert read((*BOX, 0.9, 1), (*BOX, 0.8)) == [BOX, BOX]  # others have a score alone
    assert read((*BOX, 0.9, 7), BOX) == [BOX, BOX]
    for few in ([(*BOX, 0.9, 1)], [(*BOX, 0.9, 1), (*BOX, 0.9, 0)]):
        with pytest.raises(ValueError, match=r"rows of 7 numbers .* of a track"):
            read(*few)
    for other in (
        (*BOX, 0.9, 0.5),  # no number
        (*BOX, 0.9, -1),
        (*BOX, -0.9, 7),
        (0.9, 0.4, 0.3, 0.1, 0.9, 7),  # a box that isn't in the image
    ):
        xs, ys = other[::2], other[1::2]
        middle = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
        assert read(other, BOX)[0][:2] == pytest.approx(middle)
    # Where other rows are segments, a row of six is a triangle.
    assert read((*BOX, 0.9, 7), (*SEGMENT, 0.2, 0.2))[0] != BOX


def test_what_may_be_segments_or_keypoints_is_refused():
    for row in (
        (*BOX, *INSIDE),
        (*BOX, *INSIDE, 0.8),  # and a score
        (*BOX, 0.391, 0.4, 0.609, 0.4),  # within a hundredth of the box
        (*BOX, 0.5, 0.341, 0.5, 0.459),
    ):
        with pytest.raises(
            ValueError, match=rf'rows of {len(row) + 1} numbers .* "kpt_shape"'
        ):
            read(row)
    for rows in (
        [*[(*BOX, *INSIDE)] * 2, (*BOX, 0.45, 0.4, 0, 0)],  # one isn't marked
        [(0.05, 0.05, 0.12, 0.12, 0, 0, 0.05, 0.06)],  # in a box that reaches there
    ):
        with pytest.raises(ValueError, match="rows of 9 numbers"):
            read(*rows)
    assert read(*[(*BOX, *INSIDE)] * 2, (*BOX, 0.45, 0.4, 0, 0.2))[0] != BOX
    for row in (
        (*BOX, 0.385, 0.4, 0.55, 0.42),  # a point lies outside of the box
        (*BOX, 0.45, 0.4, 0.55, 0.465),
        (0.5, 0.4, 0.54, 0.43, 0.52, 0.42, 0.53, 0.41),  # the second is near the others
    ):
        assert read(row)[0] != row[:4]
    # Beside rows of other lengths they are segments.
    assert read((*BOX, *INSIDE), (*SEGMENT, 0.2, 0.2, 0.3, 0.3))[0] != BOX


def test_a_corner_lies_far_off_from_half_of_the_extent_on():
    """Others reach from 0.4 to 0.6 in x, so that 0.3 is half of that away."""
    for second, is_refused in (
        (0.29, True),
        (0.31, False),
        (0.69, False),
        (0.71, True),
    ):
        row = (0.5, 0.5, second, 0.5, 0.4, 0.5, 0.6, 0.5)
        if is_refused:
            with pytest.raises(ValueError, match="kpt_shape"):
                read(row)
        else:
            assert read(row)[0] != row[:4]
