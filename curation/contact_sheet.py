"""Contact sheets: the query on top, results in order with score and a border coloured
by class.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from data.embeddings import EmbeddingSet
from data.images import CropWindow, ImageError, cut, read_image

_BACKGROUND, _INK, _FAINT, _UNLABELLED = (
    (255, 255, 255),
    (20, 20, 20),
    (110, 110, 110),
    (150, 150, 150),
)
_FIRST = (
    (230, 159, 0),
    (86, 180, 233),
    (204, 121, 167),
    (0, 90, 181),
    (153, 153, 51),
    (120, 94, 240),
    (68, 170, 153),
    (136, 34, 85),
    (221, 204, 119),
    (139, 90, 43),
    (60, 60, 120),
)
_BORDER, _GAP, _MARGIN, _LINE = 4, 8, 16, 15
# steps round the colour circle by this share of it keep every prefix of hues well apart
_GOLDEN = 0.618033988749895


@dataclass(frozen=True)
class Tile:
    """One crop on a sheet, as the encoder saw it.

    Attributes:
        path: of the image.
        box: left, top, right, bottom; None for the whole image.
        window: which part of the image a box stands for.
        label: its class, which colors the border.
        caption: score, marks.
    """

    path: Path
    box: Sequence[int] | None
    window: CropWindow
    label: str = ""
    caption: str = ""

    @classmethod
    def of(cls, embeddings: EmbeddingSet, row: int, caption: str) -> Tile:
        """The tile of a crop of an embedding set."""
        table = embeddings.table
        label = table.column("label_name")[row]
        box = table.boxes[row]
        return cls(table.path(row), box, embeddings.window, label, caption)


@dataclass(frozen=True)
class Sheet:
    """A ranking to draw."""

    title: str
    queries: Sequence[Tile]
    results: Sequence[Tile]


def class_colors(classes: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """A colour for each class, the same for the same list of classes; unlabelled ("")
    is grey. The first few can be told apart by the color-blind, and none of them is the
    green or red of marks (after Okabe and Ito, 2008, and Tol, 2021).
    """
    colors: dict[str, tuple[int, int, int]] = {"": _UNLABELLED}
    for number, name in enumerate(classes):
        if number < len(_FIRST):
            colors[name] = _FIRST[number]
            continue
        hue, value = (0.33 + number * _GOLDEN) % 1, (0.75, 0.95, 0.55)[number % 3]
        red, green, blue = (
            round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.6, value)
        )
        colors[name] = (red, green, blue)
    return colors


def draw_sheets(
    sheets: Sequence[Sheet], classes: Sequence[str], columns: int = 10, tile: int = 96
) -> Image.Image:
    """Draws sheets side by side, with one legend of the classes that appear.

    Args:
        sheets: one, or a before and an after.
        classes: all classes of the data, which fixes the colours.
        columns: results in a row, of each sheet.
        tile: side of a crop in pixels.

    Returns:
        An RGB image. Crops that can't be read are drawn as a crossed box.
    """
    colors = class_colors(classes)
    drawn = [_draw(sheet, colors, columns, tile) for sheet in sheets]
    shown = {
        item.label for sheet in sheets for item in [*sheet.queries, *sheet.results]
    }
    legend = _legend(
        [name for name in classes if name in shown],
        colors,
        sum(image.width for image in drawn),
    )
    height = max(image.height for image in drawn)
    page = Image.new(
        "RGB",
        (sum(image.width for image in drawn), height + legend.height),
        _BACKGROUND,
    )
    left = 0
    for image in drawn:
        page.paste(image, (left, 0))
        left += image.width
    page.paste(legend, (0, height))
    return page


def _draw(
    sheet: Sheet, colors: dict[str, tuple[int, int, int]], columns: int, tile: int
) -> Image.Image:
    cell_width, cell_height = (
        tile + 2 * _BORDER + _GAP,
        tile + 2 * _BORDER + 2 * _LINE + _GAP,
    )
    rows = -(-len(sheet.results) // columns)
    query_top = _MARGIN + 26
    results_top = query_top + (cell_height + _GAP if sheet.queries else 0)
    page = Image.new(
        "RGB",
        (2 * _MARGIN + columns * cell_width, results_top + rows * cell_height + _GAP),
        _BACKGROUND,
    )
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, _MARGIN - 4), sheet.title, _INK, ImageFont.load_default(18))
    for number, item in enumerate(sheet.queries[:columns]):
        _draw_tile(
            page,
            draw,
            (_MARGIN + number * cell_width, query_top),
            item,
            colors=colors,
            tile=tile,
        )
    for number, item in enumerate(sheet.results):
        row, column = divmod(number, columns)
        place = (_MARGIN + column * cell_width, results_top + row * cell_height)
        _draw_tile(page, draw, place, item, colors=colors, tile=tile)
    return page


def _draw_tile(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    item: Tile,
    *,
    colors,
    tile: int,
) -> None:
    left, top = place
    side = tile + 2 * _BORDER
    draw.rectangle(
        (left, top, left + side - 1, top + side - 1),
        fill=colors.get(item.label, _UNLABELLED),
    )
    inner = (left + _BORDER, top + _BORDER)
    try:
        image = read_image(item.path)
        box = (0, 0, *image.size) if item.box is None else item.box
        page.paste(cut(image, box, tile, item.window), inner)
    except ImageError:
        corner = (inner[0] + tile - 1, inner[1] + tile - 1)
        draw.rectangle((inner, corner), fill=_BACKGROUND)
        draw.line((inner, corner), _FAINT)
        draw.line((inner[0], corner[1], corner[0], inner[1]), _FAINT)
    font = ImageFont.load_default(12)
    draw.text((left, top + side), item.caption, _INK, font)
    draw.text(
        (left, top + side + _LINE - 1),
        _fit(item.label.replace("_", " "), side, font),
        _FAINT,
        font,
    )


def _fit(text: str, width: int, font) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _legend(
    names: Sequence[str], colors: dict[str, tuple[int, int, int]], width: int
) -> Image.Image:
    font = ImageFont.load_default(13)
    places, left, row = [], _MARGIN, 0
    for name in names:
        needed = 20 + int(font.getlength(name.replace("_", " "))) + _MARGIN
        if left + needed > width and left > _MARGIN:
            left, row = _MARGIN, row + 1
        places.append((left, row * 22))
        left += needed
    legend = Image.new(
        "RGB", (width, (row + 1) * 22 + _GAP if names else 0), _BACKGROUND
    )
    draw = ImageDraw.Draw(legend)
    for name, (x, y) in zip(names, places, strict=True):
        draw.rectangle((x, y + 2, x + 13, y + 15), fill=colors[name])
        draw.text((x + 20, y), name.replace("_", " "), _INK, font)
    return legend
