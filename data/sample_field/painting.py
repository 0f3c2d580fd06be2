"""Paints fields: soil with its crumbs, stones and residue, plants with their shadows,
and what the camera adds.

Shapes are drawn with aggdraw, an antialiasing vector renderer; soil and camera are
NumPy. The painter also draws an index image, in which each pixel is the number of the
plant that is on top there: boxes, masks and visible shares come from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import aggdraw
import numpy as np
from PIL import Image, ImageFilter

from data.sample_field.plants import Leaf, Plant

SOILS, MOISTURES, LIGHTINGS = (
    ("fine", "medium", "coarse"),
    ("dry", "medium", "wet"),
    ("sunny", "diffuse"),
)
MOST_PLANTS = 255  # that fit into the index image


@dataclass(frozen=True)
class Conditions:
    """A day in a field: its soil, light and camera, shared by all images of a recording
    session.

    Attributes:
        soil, moisture, lighting: indices into SOILS, MOISTURES, LIGHTINGS.
        soil_color: RGB of the dry soil.
        stones, residue: how many an image, on average.
        sun: azimuth that the light travels to, and shadows fall to, radians.
        shadow: length of a shadow for each pixel of height.
        warmth: factor for each channel, [3].
        exposure: of the camera.
        focus: standard deviation of the blur, in pixels.
        motion: length of the motion blur, in pixels.
        noise: standard deviation of the sensor's noise.
    """

    soil: int
    moisture: int
    lighting: int
    soil_color: tuple[float, float, float]
    stones: float
    residue: float
    sun: float
    shadow: float
    warmth: tuple[float, float, float]
    exposure: float
    focus: float
    motion: int
    noise: float

    @property
    def sunny(self) -> bool:
        """Whether shadows are hard."""
        return self.lighting == 0


def draw_conditions(rng: np.random.Generator) -> Conditions:
    """Draws a day at random."""
    soil, moisture, lighting = (
        int(rng.integers(3)),
        int(rng.integers(3)),
        int(rng.integers(2)),
    )
    hue = rng.normal(0, 1, 2)
    color = (
        np.array([146, 120, 94])
        + rng.normal(0, 20)
        + hue[0] * np.array([7, 0, -7])
        + hue[1] * np.array([1, 2, 4])
    )
    warmth = (
        np.array([1.04, 1.0, 0.93]) if lighting == 0 else np.array([0.98, 1.0, 1.04])
    )
    return Conditions(
        soil,
        moisture,
        lighting,
        tuple(color),
        stones=float(rng.gamma(1.5, 14)),
        residue=float(rng.gamma(1.0, 9)),
        sun=rng.uniform(0, 2 * math.pi),
        shadow=rng.uniform(0.5, 1.5),
        warmth=tuple(warmth * rng.normal(1, 0.05, 3)),
        exposure=rng.uniform(0.7, 1.25),
        focus=rng.uniform(0.3, 1.2),
        motion=int(rng.choice([0, 0, 0, 3])),
        noise=rng.uniform(1.5, 6.0),
    )


def paint(
    plants: Sequence[Plant],
    conditions: Conditions,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Image.Image, np.ndarray]:
    """Paints an image of a field.

    Args:
        plants: from the lowest to the highest, at most MOST_PLANTS.
        conditions: the day.
        size: width and height in pixels.
        rng: of soil, stones, residue and noise.

    Returns:
        The photo, RGB, and the index image: uint8 [height, width], 0 soil, n the n-th
        plant counted from 1.
    """
    if len(plants) > MOST_PLANTS:
        raise ValueError(f"plants must be at most {MOST_PLANTS}; got {len(plants)}")
    image = Image.fromarray(_soil(conditions, size, rng))
    _scatter(image, conditions, rng)
    image = _cast_shadows(image, plants, conditions)
    index = Image.new("L", size)
    canvas, numbers = aggdraw.Draw(image), aggdraw.Draw(index)
    numbers.setantialias(False)
    for number, plant in enumerate(plants, 1):
        for leaf in plant.leaves:
            _paint_leaf(canvas, leaf, conditions)
            _draw_flat(numbers, leaf, number)
    canvas.flush()
    numbers.flush()
    of_plant = np.asarray(index)
    return _photograph(image, of_plant > 0, conditions, rng), of_plant


def full_area(
    plant: Plant, shrink: int = 2
) -> tuple[float, tuple[float, float, float, float]]:
    """Pixels a plant would cover alone and uncut, and its whole box; drawn at 1 /
    shrink of the size.
    """
    points = np.concatenate([leaf.outline for leaf in plant.leaves])
    low, high = points.min(axis=0) - 2, points.max(axis=0) + 2
    side = np.maximum(1, np.ceil((high - low) / shrink)).astype(int)
    alone = Image.new("L", tuple(side.tolist()))
    canvas = aggdraw.Draw(alone)
    canvas.setantialias(False)
    for leaf in plant.leaves:
        _draw_flat(canvas, leaf, 1, offset=low, shrink=shrink)
    canvas.flush()
    return float(np.count_nonzero(np.asarray(alone))) * shrink**2, (*low, *high)


def _noise(size: tuple[int, int], cell: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of unit variance, [height, width] float32, whose grains are about
    `cell` pixels.
    """
    width, height = size
    grid = rng.standard_normal(
        (height // cell + 3, width // cell + 3), dtype=np.float32
    )
    if cell == 1:
        return grid[:height, :width]
    grown = Image.fromarray(grid).resize(
        (grid.shape[1] * cell, grid.shape[0] * cell), Image.Resampling.BICUBIC
    )
    return np.asarray(grown)[cell : cell + height, cell : cell + width]


def _soil(
    conditions: Conditions, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Soil lit from the side: crumbs are a height map of several grain sizes. uint8
    [height, width, 3].
    """
    clods = (0.15, 0.6, 1.3)[conditions.soil]
    # The absolute value of smooth noise is a heap of rounded crumbs with creases
    # between them.
    relief = 2.5 * _noise(size, 180, rng) + clods * (
        9 * np.abs(_noise(size, 46, rng)) + 5 * np.abs(_noise(size, 21, rng))
    )
    relief += (0.7 + 0.5 * clods) * (
        2.2 * np.abs(_noise(size, 9, rng)) + 1.1 * np.abs(_noise(size, 4, rng))
    )
    # Dry earth is rough on the smallest scale too; a wet one is smoothed by rain.
    relief += (0.55, 0.42, 0.28)[conditions.moisture] * _noise(size, 2, rng)
    slope = math.cos(conditions.sun) * np.gradient(relief, axis=1) + math.sin(
        conditions.sun
    ) * np.gradient(relief, axis=0)
    # The light travels along `sun`, as shadows fall: ground that rises that way faces
    # it.
    shade = (
        1
        + (0.27 if conditions.sunny else 0.11) * slope
        + 0.016 * (relief - relief.mean())
    )
    shade = np.clip(shade, 0.22, 1.7) * (
        1 + 0.04 * _noise(size, 300, rng) + 0.04 * _noise(size, 1, rng)
    )
    shade *= (1.0, 0.8, 0.58)[conditions.moisture] * (
        1.05 if conditions.sunny else 0.95
    )
    return np.clip(
        shade[..., None] * np.array(conditions.soil_color, np.float32), 0, 255
    ).astype(np.uint8)


def _scatter(
    image: Image.Image, conditions: Conditions, rng: np.random.Generator
) -> None:
    """Lays stones and plant residue on the soil, each with its shadow."""
    canvas = aggdraw.Draw(image)
    dx, dy = math.cos(conditions.sun), math.sin(conditions.sun)
    dark = aggdraw.Brush((20, 14, 8), 95 if conditions.sunny else 45)
    base = np.array(conditions.soil_color) * (1.0, 0.85, 0.68)[conditions.moisture]
    for _ in range(rng.poisson(conditions.stones)):
        center, radius = rng.uniform((0, 0), image.size), 3 + rng.gamma(1.6, 3.2)
        angles = np.sort(rng.uniform(0, 2 * math.pi, 9))
        ring = (
            np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.55, 1)], axis=1)
            * radius
            * rng.uniform(0.8, 1.15, (9, 1))
        )
        tone = base.mean() * 0.5 + base * rng.uniform(0.35, 0.9) + rng.normal(0, 4, 3)
        _polygon(
            canvas,
            center + ring + np.array([dx, dy]) * radius * 0.45 * conditions.shadow,
            dark,
        )
        _polygon(canvas, center + ring, _brush(tone * 0.86))
        for grow, light in ((0.8, 1.0), (0.55, 1.1), (0.3, 1.18)):
            _polygon(
                canvas,
                center + ring * grow - np.array([dx, dy]) * radius * 0.16,
                _brush(tone * light),
            )
    for _ in range(rng.poisson(conditions.residue)):
        center, angle, length = (
            rng.uniform((0, 0), image.size),
            rng.uniform(0, 2 * math.pi),
            rng.uniform(15, 120),
        )
        along = np.linspace(-0.5, 0.5, 6)
        bend = rng.normal(0, 0.08) * length
        line = np.stack([along * length, bend * (1 - 4 * along**2)], axis=1)
        turn = np.array(
            [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        )
        line = line @ turn + center
        thick = rng.uniform(1.2, 4.5)
        tone = np.array([176, 152, 104]) * rng.uniform(0.6, 1.15)
        _line(
            canvas, line + np.array([dx, dy]) * 2.5, aggdraw.Pen((20, 14, 8), thick, 90)
        )
        _line(canvas, line, aggdraw.Pen(_rgb(tone), thick))
        _line(
            canvas,
            line - np.array([dx, dy]) * thick * 0.2,
            aggdraw.Pen(_rgb(tone * 1.18), thick * 0.4),
        )
    canvas.flush()


def _cast_shadows(
    image: Image.Image, plants: Sequence[Plant], conditions: Conditions
) -> Image.Image:
    """Darkens the soil under leaves: displaced and sharp in the sun, soft and below the
    leaf in diffuse light.
    """
    shrink = 2
    mask = Image.new("L", (image.width // shrink, image.height // shrink))
    canvas = aggdraw.Draw(mask)
    reach = conditions.shadow if conditions.sunny else 0.12
    for plant in plants:
        for leaf in plant.leaves:
            moved = (
                np.array([math.cos(conditions.sun), math.sin(conditions.sun)])
                * (leaf.lift + 4)
                * reach
            )
            _draw_flat(canvas, leaf, 255, offset=-moved, shrink=shrink)
    canvas.flush()
    soft = mask.filter(ImageFilter.GaussianBlur(1.2 if conditions.sunny else 7))
    dark = 0.62 if conditions.sunny else 0.55
    factor = soft.resize(image.size, Image.Resampling.BILINEAR).point(
        lambda alpha: round(alpha * dark)
    )
    return Image.composite(Image.new("RGB", image.size, (22, 18, 20)), image, factor)


def _paint_leaf(canvas: aggdraw.Draw, leaf: Leaf, conditions: Conditions) -> None:
    """Shadow on what lies below, petiole, the two halves of the blade in their own
    light, bulges, veins, highlight.
    """
    away = np.array([math.cos(conditions.sun), math.sin(conditions.sun)])
    shadow = aggdraw.Brush((14, 26, 10), 95 if conditions.sunny else 45)
    _polygon(
        canvas,
        leaf.outline + away * min(12.0, 2 + 0.4 * leaf.lift * conditions.shadow),
        shadow,
    )
    if np.hypot(*(leaf.stalk[1] - leaf.stalk[0])) > 1:
        thick = max(1.2, 0.11 * leaf.breadth)
        _line(
            canvas, leaf.stalk, aggdraw.Pen(_rgb(leaf.stalk_color * 0.72), thick + 1.4)
        )
        _line(canvas, leaf.stalk, aggdraw.Pen(_rgb(leaf.stalk_color), thick))
    strength = 0.42 if conditions.sunny else 0.16
    _polygon(canvas, leaf.outline, _brush(leaf.color * 0.74))
    facing = math.sin(
        conditions.sun - leaf.direction
    )  # of the half at the midrib's left hand, folded up towards it
    for half, side in zip(leaf.halves, (1, -1), strict=True):
        light = 1 + strength * leaf.fold * facing * side + (0.03 if side > 0 else -0.03)
        if len(half) > 2:
            _polygon(canvas, half, _brush(leaf.color * light, 235))
    middle = leaf.outline.mean(axis=0)
    if leaf.breadth > 5:
        for grow, opacity in ((0.86, 28), (0.68, 30), (0.5, 32), (0.32, 34)):
            bulge = middle + (leaf.outline - middle) * grow - away * leaf.breadth * 0.06
            _polygon(canvas, bulge, _brush(leaf.color * 1.12 + 4, opacity))
    for vein in leaf.veins:
        _line(
            canvas,
            vein,
            aggdraw.Pen(_rgb(leaf.rib_color), max(0.6, leaf.breadth * 0.018), 120),
        )
    if leaf.breadth > 3:
        _line(
            canvas,
            leaf.rib,
            aggdraw.Pen(_rgb(leaf.rib_color), max(0.8, leaf.breadth * 0.045), 205),
        )
    lit = leaf.halves[0] if facing > 0 else leaf.halves[1]
    if leaf.gloss > 0 and leaf.breadth > 8 and len(lit) > 2:
        _paint_gloss(canvas, lit, leaf.gloss * (1.0 if conditions.sunny else 0.45))


def _paint_gloss(canvas: aggdraw.Draw, lit: np.ndarray, bright: float) -> None:
    center = lit.mean(axis=0)
    for grow, opacity in ((0.55, 30), (0.35, 38)):
        _polygon(
            canvas,
            center + (lit - center) * grow,
            aggdraw.Brush((236, 244, 226), round(opacity * bright)),
        )


def _draw_flat(
    canvas: aggdraw.Draw,
    leaf: Leaf,
    value: int,
    offset: np.ndarray | float = 0.0,
    shrink: int = 1,
) -> None:
    """Draws a leaf's shape, petiole included, in one value."""
    if np.hypot(*(leaf.stalk[1] - leaf.stalk[0])) > 1:
        _line(
            canvas,
            (leaf.stalk - offset) / shrink,
            aggdraw.Pen(value, max(1.2, 0.11 * leaf.breadth) / shrink),
        )
    _polygon(canvas, (leaf.outline - offset) / shrink, aggdraw.Brush(value))


def _photograph(
    image: Image.Image,
    green: np.ndarray,
    conditions: Conditions,
    rng: np.random.Generator,
) -> Image.Image:
    """Texture of the leaves, blur by focus and motion, light, vignette and sensor
    noise.
    """
    width, height = image.size
    blurred = (
        image.filter(ImageFilter.GaussianBlur(conditions.focus))
        if conditions.focus > 0.35
        else image
    )
    pixels = np.asarray(blurred).astype(np.float32)
    texture = (
        1
        + 0.05 * _noise((width, height), 3, rng)
        + 0.035 * _noise((width, height), 9, rng)
    )
    pixels *= np.where(green, texture, 1)[..., None]
    if conditions.motion:
        pixels = np.mean(
            [np.roll(pixels, shift, axis=1) for shift in range(conditions.motion)],
            axis=0,
            dtype=np.float32,
        )
    down, across = (
        np.linspace(-1, 1, height, dtype=np.float32),
        np.linspace(-1, 1, width, dtype=np.float32),
    )
    clouds = math.exp(rng.normal(0, 0.08))
    vignette = (
        clouds * conditions.exposure * (1 - 0.13 * (down[:, None] ** 2 + across**2) / 2)
    )
    pixels *= vignette[..., None] * np.array(conditions.warmth, np.float32)
    grey, color = (
        rng.standard_normal((2, height, width), dtype=np.float32) * conditions.noise
    )
    pixels += grey[..., None]
    pixels[..., 0] += 0.4 * color
    pixels[..., 2] -= 0.4 * color
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _rgb(color: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(min(255, max(0, part))) for part in color)
    return red, green, blue


def _brush(color: np.ndarray, opacity: int = 255) -> aggdraw.Brush:
    return aggdraw.Brush(_rgb(color), opacity)


def _polygon(canvas: aggdraw.Draw, points: np.ndarray, brush: aggdraw.Brush) -> None:
    canvas.polygon(points.ravel().tolist(), None, brush)


def _line(canvas: aggdraw.Draw, points: np.ndarray, pen: aggdraw.Pen) -> None:
    canvas.line(points.ravel().tolist(), pen)
