import numpy as np
import pytest

from data.crop_table import CropTable
from data.splits import split_mask
from tests.test_data_crop_table import columns

NAMES = [f"{number:04d}.png" for number in range(2000)]


def test_stated_splits_are_used():
    table = CropTable.from_columns("", columns(["a", "b", "c"], split=["train", "validation", "train"]))
    assert split_mask(table, "train").tolist() == [True, False, True]
    assert split_mask(table, "all").all()
    with pytest.raises(ValueError, match="split must be one of all, train, validation; got 'test'"):
        split_mask(table, "test")


def test_made_splits_hold_out_15_percent_and_do_not_move_when_the_source_grows():
    large, small = (CropTable.from_columns("", columns(NAMES[:count])) for count in (2000, 500))
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
