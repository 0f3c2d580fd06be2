import hashlib

import numpy as np
import pytest

from data.crop_table import CropTable
from data.splits import labelled_fraction, split_mask
from tests.test_data_crop_table import columns

NAMES = [f"{number:04d}.png" for number in range(2000)]


def test_stated_splits_are_used():
    table = CropTable.from_columns(
        "", columns(["a", "b", "c"], split=["train", "validation", "train"])
    )
    assert split_mask(table, "train").tolist() == [True, False, True]
    assert split_mask(table, "all").all()
    with pytest.raises(
        ValueError, match="split must be one of all, train, validation; got 'test'"
    ):
        split_mask(table, "test")


def test_made_splits_hold_out_15_percent_and_do_not_move_when_the_source_grows():
    large, small = (
        CropTable.from_columns("", columns(NAMES[:count])) for count in (2000, 500)
    )
    held_out = split_mask(large, "validation")
    assert 0.12 < held_out.mean() < 0.18
    assert np.array_equal(held_out, ~split_mask(large, "train"))
    assert np.array_equal(split_mask(small, "validation"), held_out[:500])


def test_a_session_lies_on_one_side():
    sessions = [f"s{number % 40}" for number in range(2000)]
    table = CropTable.from_columns("", columns(NAMES, session=sessions))
    held_out = split_mask(table, "validation")
    for session in set(sessions):
        assert len(set(held_out[table.column("session") == session])) == 1
    assert 0 < held_out.mean() < 1


def test_a_share_of_the_labels_is_drawn_class_by_class():
    labels = ["a"] * 100 + ["b"] * 30 + ["c"] * 2 + [""] * 50
    table = CropTable.from_columns("", columns(NAMES[: len(labels)], label_name=labels))
    for fraction, counts in ((0.01, (1, 1, 1)), (0.1, (10, 3, 1)), (1.0, (100, 30, 2))):
        chosen = labelled_fraction(table, fraction, seed=0)
        names = table.column("label_name")[chosen]
        assert tuple((names == name).sum() for name in "abc") == counts
        assert not (names == "").any()
    small, large = labelled_fraction(table, 0.1, 3), labelled_fraction(table, 0.5, 3)
    assert (large | ~small).all()  # the smaller is part of the larger
    assert not np.array_equal(small, labelled_fraction(table, 0.1, 4))
    with pytest.raises(ValueError, match=r"label_fraction must be in \(0, 1\]; got 0"):
        labelled_fraction(table, 0, 0)


def test_what_may_be_asked_of_a_share():
    table = CropTable.from_columns("", columns(NAMES[:9], label_name=["a"] * 9))
    for fraction in (-0.1, 0, 1.01):
        with pytest.raises(ValueError, match=rf"in \(0, 1\]; got {fraction}"):
            labelled_fraction(table, fraction, 0)
    assert labelled_fraction(table, 1, 0).all()
    assert labelled_fraction(table, 0.5, 0).sum() == 4


def test_what_is_held_out_is_told_by_the_hash_of_the_recording():
    sessions = [f"s{number}" for number in range(300)]
    table = CropTable.from_columns("", columns(NAMES[:300], session=sessions))
    heads = [
        int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
        for name in sessions
    ]
    expected = np.array(heads) < 0.15
    assert split_mask(table, "validation").tolist() == expected.tolist()
    of_images = CropTable.from_columns("", columns(NAMES[:300]))
    heads = [
        int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
        for name in NAMES[:300]
    ]
    assert split_mask(of_images, "train").tolist() == (np.array(heads) >= 0.15).tolist()


def test_where_nothing_is_held_out_it_says_why():
    few = CropTable.from_columns("", columns(NAMES[:4], session=["s1"] * 4))
    assert split_mask(few, "train").all()
    with pytest.raises(ValueError, match=r"of 1 recordings, .* of 15%, none fell into"):
        split_mask(few, "validation")
    with pytest.raises(ValueError, match=r"must be one of all, train; got 'test'$"):
        split_mask(few, "test")
    stated = CropTable.from_columns("", columns(["a", "b"], split=["", "test"]))
    with pytest.raises(ValueError, match=r"must be one of all, test; got 'train'$"):
        split_mask(stated, "train")
    assert split_mask(stated, "test").tolist() == [False, True]


def test_a_seed_draws_what_it_always_drew():
    """Figures of runs with a share of the labels are of just these."""
    table = CropTable.from_columns("", columns(NAMES[:20], label_name=["a"] * 20))
    for seed, rows in {0: [1, 5, 6, 10, 18, 19], 7: [5, 6, 8, 11, 15, 16]}.items():
        assert np.flatnonzero(labelled_fraction(table, 0.3, seed)).tolist() == rows
