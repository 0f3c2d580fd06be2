import numpy as np
import pytest
from PIL import Image

from data.crop_table import MASK_FILE
from data.images import CropWindow, cut
from data.label_maps import LabelMaps
from data.pipeline import Unreadable, embedding_batches
from data.tiles import plant_pixels
from tests.conftest import read_cropandweed

SIDE = 32


def batches(table, **options):
    found = [
        crops.numpy()
        for crops, _ in embedding_batches(table, SIDE, 16, Unreadable(), **options)
    ]
    return np.concatenate(found)


def test_the_foreground_of_a_crop_is_its_own_label(field):
    table, _ = read_cropandweed(field)
    window = CropWindow()
    crops = batches(table, view=window, with_masks=True)
    assert crops.shape == (len(table), SIDE, SIDE, 4)
    assert np.array_equal(crops[..., :3], batches(table, view=window))
    maps = LabelMaps(table)
    for row in range(0, len(table), 7):
        with Image.open(table.root / table.column(MASK_FILE)[row]) as image:
            values = np.asarray(image)
        left, top, right, bottom = table.boxes[row]
        own = values[top:bottom, left:right] == table.column("label_id")[row]
        if own.any():
            # Shrunk, so about the same share; square windows show more than the box.
            square = max(right - left, bottom - top) ** 2
            shown = crops[row, ..., 3] > 0
            if min(left, top) > 40 and right < 400 and bottom < 300:
                assert abs(shown.mean() - own.sum() / square) < 0.25
            found = maps.cut(row, values.shape[::-1], SIDE, window)
            assert np.array_equal(found, shown)


def test_a_mask_by_hand(field):
    table, _ = read_cropandweed(field)
    row = 0
    with Image.open(table.root / table.column(MASK_FILE)[row]) as image:
        values = np.asarray(image)
    left, top, right, bottom = table.boxes[row]
    side = min(right - left, bottom - top)
    window = CropWindow(square=False)
    found = LabelMaps(table).cut(row, values.shape[::-1], side, window)
    own = values[top:bottom, left:right] == table.column("label_id")[row]
    expected = np.asarray(
        Image.fromarray(own * np.uint8(255)).resize((side, side), Image.BICUBIC)
    )
    assert 0 < own.mean() < 1
    assert np.array_equal(found, expected > 127)


@pytest.mark.parametrize(
    "window", [CropWindow(), CropWindow(0.4), CropWindow(fill="gray")]
)
def test_a_window_is_cut_as_that_of_the_photo_is(field, window):
    """Also beyond the border, where pixels are mirrored."""
    table, _ = read_cropandweed(field)
    maps = LabelMaps(table)
    for row in range(0, len(table), 5):
        with Image.open(table.root / table.column(MASK_FILE)[row]) as image:
            values = np.asarray(image)
        own = values == table.column("label_id")[row]
        left, top, right, bottom = table.boxes[row]
        if own[top:bottom, left:right].any():
            whole = Image.fromarray(np.repeat(own[..., None] * np.uint8(255), 3, -1))
            expected = np.asarray(cut(whole, table.boxes[row], SIDE, window))[..., 0]
            found = maps.cut(row, values.shape[::-1], SIDE, window)
            assert np.array_equal(found, expected > 127)


def test_green_pixels_take_the_place_of_a_mask_that_is_not_there(field):
    table, _ = read_cropandweed(field)
    bare = table.with_columns(
        [name for name in table.rows.column_names if name != MASK_FILE]
    )
    crops = batches(bare.take(np.arange(20)), with_masks=True)
    for crop in crops:
        assert np.array_equal(crop[..., 3] > 0, plant_pixels(crop[..., :3]))


def test_a_mask_of_another_size_is_none(field):
    table, _ = read_cropandweed(field)
    assert LabelMaps(table).cut(0, (7, 9), SIDE, CropWindow()) is None


def test_masks_change_no_hash(field):
    table, _ = read_cropandweed(field)
    names = [name for name in table.rows.column_names if name != MASK_FILE]
    assert table.with_columns(names).content_hash == table.content_hash
