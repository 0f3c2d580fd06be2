"""Tiles of a photo, and how green they are."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import numpy as np

GREENNESS = "greenness"
LEAST_SIDE = 16
_STATED = re.compile(r"\s*(\d+)\s*(?:,\s*(\d+)\s*)?")


@dataclass(frozen=True)
class Tiling:
    """How photos are cut.

    Attributes:
        side: of a tile in pixels, at least 16.
        overlap: pixels that neighbors share, at least; less than the side.
    """

    side: int
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.side < LEAST_SIDE or not 0 <= self.overlap < self.side:
            raise ValueError(
                f"tiles must be a side of at least {LEAST_SIDE} pixels and an overlap "
                f"below it, such as 512 or 512,64; got {self.side},{self.overlap}"
            )

    @classmethod
    def parse(cls, stated: str) -> Tiling:
        """Reads "512" or "512,64": side and overlap in pixels."""
        match = _STATED.fullmatch(stated)
        if not match:
            raise ValueError(
                "tiles must be a side in pixels, or side and overlap, such as 512 or "
                f"512,64; got {stated!r}"
            )
        return cls(int(match[1]), int(match[2] or 0))

    def boxes(self, width: int, height: int) -> np.ndarray:
        """Tiles of an image of this size, row by row, [n, 4] int: all of it is covered.
        They are equally far apart, so that none is cut off; where the image is smaller
        than a tile, the tile is as the image is.
        """
        columns, rows = (self._starts(length) for length in (width, height))
        return np.array(
            [
                (left, top, min(left + self.side, width), min(top + self.side, height))
                for top, left in itertools.product(rows, columns)
            ],
            np.int64,
        )

    def _starts(self, length: int) -> list[int]:
        last = max(0, length - self.side)
        count = 1 + -(-last // (self.side - self.overlap))
        return np.linspace(0, last, count).round().astype(int).tolist()


def plant_pixels(pixels: np.ndarray) -> np.ndarray:
    """Which pixels are green as plants are: excess green over excess red is positive
    (Meyer & Camargo Neto 2008, doi:10.1016/j.compag.2008.03.009).

    Args:
        pixels: [height, width, 3] uint8, RGB.

    Returns:
        [height, width] bool.
    """
    red, green, blue = np.moveaxis(pixels.astype(np.int16), -1, 0)
    # (2g - r - b) - (1.4r - g), times ten and the brightness, neither of which minds.
    return 30 * green - 24 * red - 10 * blue > 0


def share_of(mask: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The share of each box that a mask covers.

    Args:
        mask: [height, width] bool.
        boxes: [n, 4] int, left, top, right, bottom, within it.

    Returns:
        [n] float64 in [0, 1].
    """
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    sums[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    left, top, right, bottom = boxes.T
    covered = (
        sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    )
    return covered / ((right - left) * (bottom - top))
