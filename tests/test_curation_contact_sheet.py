import dataclasses

import numpy as np
import pytest
from PIL import Image

from curation.contact_sheet import Sheet, Tile, class_colors, draw_sheets
from data.embeddings import EmbeddingSet
from data.images import CropWindow, cut, read_image


def test_tiles_have_borders_in_class_colour_and_stand_in_order(tmp_path):
    for name, color in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
        Image.new("RGB", (10, 10), color).save(tmp_path / f"{name}.png")
    tiles = [
        Tile(tmp_path / "a.png", (0, 0, 10, 10), CropWindow(), "beet", "0.9"),
        Tile(tmp_path / "b.png", None, CropWindow(), "oat", "0.8"),
    ]
    page = np.asarray(
        draw_sheets(
            [Sheet("title", [tiles[0]], tiles)], ["beet", "oat"], columns=2, tile=20
        )
    )
    colors = class_colors(["beet", "oat"])
    is_red, is_blue = (
        (page == color).all(axis=2) for color in ((255, 0, 0), (0, 0, 255))
    )
    assert is_red.sum() == 2 * 20 * 20  # the query and the first result
    assert is_blue.sum() == 20 * 20
    rows, columns = np.nonzero(is_blue)
    result_rows = np.nonzero(is_red[rows.min() : rows.max() + 1])[1]
    assert (
        result_rows.max() < columns.min()
    )  # the first result stands left of the second
    assert tuple(page[rows.min() - 1, columns.min()]) == colors["oat"]
    assert (page == colors["beet"]).all(axis=2).sum() > 2 * 4 * 20


def test_colours_differ_and_do_not_depend_on_what_is_shown():
    names = [f"class {number}" for number in range(30)]
    colors = class_colors(names)
    assert len(set(colors.values())) == 31
    assert class_colors(names[:5])["class 3"] == colors["class 3"]


def test_sheets_stand_side_by_side_and_an_unreadable_crop_is_drawn_crossed(tmp_path):
    sheet = Sheet("one", [], [Tile(tmp_path / "absent.png", None, CropWindow())] * 3)
    single = draw_sheets([sheet], [], columns=2, tile=20)
    double = draw_sheets([sheet, sheet], [], columns=2, tile=20)
    assert double.size == (2 * single.width, single.height)
    assert np.array_equal(np.asarray(double)[:, : single.width], np.asarray(single))


@pytest.mark.parametrize("square", [True, False])
def test_a_tile_is_what_the_encoder_saw(field_set, square):
    """A grass blade isn't made a smear where the network saw a square around it."""
    embeddings = EmbeddingSet.load(field_set)
    view = {"padding": 0.1, "square": square, "fill": "grey"}  # a word of 0.5.0
    embeddings = dataclasses.replace(embeddings, meta=embeddings.meta | {"view": view})
    window = CropWindow(0.1, square, "gray")
    assert embeddings.window == window
    sides = embeddings.table.boxes[:, 2:] - embeddings.table.boxes[:, :2]
    row = int(np.argmax(sides[:, 0] / sides[:, 1]))  # the longest
    sheet = Sheet("", [], [Tile.of(embeddings, row, "")])
    page = np.asarray(draw_sheets([sheet], embeddings.table.classes, tile=96))
    image = read_image(embeddings.table.path(row))
    seen = np.asarray(cut(image, embeddings.table.boxes[row], 96, window))
    found = np.lib.stride_tricks.sliding_window_view(page, (96, 96, 3))[..., 0, :, :, :]
    assert any((found[y, x] == seen).all() for y in range(60) for x in range(40))
