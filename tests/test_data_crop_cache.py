import numpy as np
import pytest

from data import crop_cache
from data.crop_cache import CropCache
from data.images import CropWindow, cut_at_most, read_image
from tests.test_data_pipeline import boxes_table  # noqa: F401  a fixture

VIEW = CropWindow(padding=0.1)


@pytest.mark.parametrize("per_part", [4, 100])
def test_cached_crops_are_the_pixels_of_the_images(
    boxes_table,
    tmp_path,
    monkeypatch,
    per_part,
):
    monkeypatch.setattr(crop_cache, "ROWS_PER_PART", per_part)
    cache = CropCache(tmp_path / "cache", boxes_table, 16, VIEW)
    for row in range(len(boxes_table)):
        if boxes_table.column("image")[row] == "2.png":
            assert cache.read(row) is None
        else:
            expected = cut_at_most(
                read_image(boxes_table.path(row)), boxes_table.boxes[row], 16, VIEW
            )
            assert np.array_equal(cache.read(row), np.asarray(expected))
    assert cache.reasons == {"2.png": "not an image"}


def test_a_second_cache_decodes_only_what_is_missing(
    boxes_table,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(crop_cache, "ROWS_PER_PART", 3)  # an image a part
    CropCache(tmp_path / "cache", boxes_table, 16, VIEW)
    (
        tmp_path / "cache" / "part-00003.starts.npy"
    ).unlink()  # as a kill in the middle leaves it
    decoded = []
    monkeypatch.setattr(
        crop_cache,
        "read_image",
        lambda path: decoded.append(path.name) or read_image(path),
    )
    assert CropCache(tmp_path / "cache", boxes_table, 16, VIEW).read(9) is not None
    assert decoded == ["3.png"]


def test_a_cache_of_another_size_or_view_is_replaced(boxes_table, tmp_path):
    CropCache(tmp_path / "cache", boxes_table, 16, VIEW)
    assert CropCache(tmp_path / "cache", boxes_table, 8, VIEW).read(0).shape == (
        8,
        8,
        3,
    )
    stretched = CropCache(
        tmp_path / "cache", boxes_table, 8, CropWindow(square=False)
    ).read(0)
    assert stretched.shape == (8, 5, 3)


def test_crops_stay_decoded_while_there_is_room(boxes_table, tmp_path, monkeypatch):
    opened = []
    original = crop_cache.Image.open
    monkeypatch.setattr(
        crop_cache.Image, "open", lambda file: opened.append(1) or original(file)
    )
    cache = CropCache(tmp_path / "cache", boxes_table, 16, VIEW)
    first, opened[:] = cache.read(0), []
    assert cache.read(0) is first
    assert not opened
    monkeypatch.setattr(crop_cache, "MEMORY", first.nbytes - 1)
    small = CropCache(tmp_path / "cache", boxes_table, 16, VIEW)
    opened.clear()
    assert np.array_equal(small.read(0), first)
    assert np.array_equal(small.read(0), first)
    assert len(opened) == 2
