import numpy as np
import pytest

from data.crop_table import CropTable
from data.where import rows_where
from tests.test_data_crop_table import columns


@pytest.fixture
def table(tmp_path):
    more = {
        "lighting": ["sunny", "diffuse", "sunny", ""],
        "share": [0.1, None, 0.7, 0.9],
        "age": [float("nan"), None, 2.0, 1.0],
        "half": np.array([np.nan, 0.5, 2.5, 1], np.float16),
    }
    boxes = [(0, 0, 10, 10), (5, 0, 10, 10), (9, 0, 20, 10), (12, 0, 20, 10)]
    return CropTable.from_columns(tmp_path, columns(["a.png"] * 4, boxes) | more)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("lighting = 'sunny'", [0, 2]),
        ("share > 0.5", [2, 3]),
        ("share IS NULL", [1]),
        ("lighting LIKE 's%' AND \"left\" > 3", [2]),
        ("lighting = 'sunny' OR bottom < 0", [0, 2]),
        ("true", [0, 1, 2, 3]),
        ("age > 1", [2]),
        ("half > 0.75", [2, 3]),
        ("age IS NULL OR age < 2", [0, 1, 3]),
    ],
)
def test_conditions_pick_rows(table, condition, rows):
    assert np.flatnonzero(rows_where(table, condition)).tolist() == rows


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("colour = 'red'", "on the columns crop_id, image, .*lighting.*colour"),
        ("share >", "got .share >.: Parser Error"),
        ("share > 2", "none of 4 meets"),
        (" ", "be an SQL condition; got ' '"),
        (
            "crop_id IN (SELECT content FROM read_text('/etc/hostname'))",
            "disabled by configuration",
        ),
    ],
)
def test_bad_conditions_are_named(table, condition, message):
    with pytest.raises(ValueError, match=f"chosen must .*{message}"):
        rows_where(table, condition, "chosen")
