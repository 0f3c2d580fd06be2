"""A small set of plant drawings, so that everything can be tried without photos or the internet.

    python -m data.plant_drawings --dir=demo/drawings --per_class=90

Eight invented seedlings on soil, seen from above, drawn in `class/image.png` layout. Each comes from one of six sessions with
their own soil and light, which a network trained on ImageNet takes for what the images are about. They are synthetic and
easier than photos: figures measured on them say that the tools work, not how well they work in a field.
"""

from __future__ import annotations

import argparse
import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from data.files import check_writable
from data.images import write_png
from data.progress import progress_bar

SIZE = 128
SESSIONS = 6
_SCALE = 3  # drawn this much larger, then scaled down: smooth edges

Outline = Callable[[np.ndarray], np.ndarray]  # position along the leaf, 0 at its base to 1 at its tip -> half width


@dataclass(frozen=True)
class Species:
    """How a seedling looks. Lengths in units of the image's side, hue from 0 to 1."""

    name: str
    outline: Outline  # of a true leaf
    length: float
    width: float
    leaves: tuple[int, int]  # fewest and most true leaves
    turn: float  # angle between successive leaves, degrees: 180 opposite pairs, 137.5 rosette
    cotyledon: tuple[float, float]  # length, width
    hue: float
    value: float


def _ovate(x: np.ndarray) -> np.ndarray:
    return np.sin(np.pi * x**0.75)


def _lanceolate(x: np.ndarray) -> np.ndarray:
    return np.sin(np.pi * x) ** 1.3


def _spoon(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0.35, 0.18, np.sqrt(np.clip(1 - ((x - 0.68) / 0.34) ** 2, 0, 1)) * 0.9 + 0.1 * (x < 0.99))


def _lobed(x: np.ndarray) -> np.ndarray:
    return np.sin(np.pi * x**0.8) * (0.62 + 0.38 * np.cos(x * 8 * np.pi))


def _toothed(x: np.ndarray) -> np.ndarray:
    return np.sin(np.pi * x**0.7) * (0.88 + 0.12 * np.sign(np.sin(x * 18 * np.pi)))


def _blade(x: np.ndarray) -> np.ndarray:
    return np.clip(np.minimum(x * 12, (1 - x) * 2.2), 0, 1)


SPECIES = (
    Species("Sugar_beet", _spoon, 0.34, 0.075, (2, 6), 137.5, (0.20, 0.045), 0.27, 0.62),
    Species("Amaranth", _ovate, 0.30, 0.085, (2, 6), 137.5, (0.17, 0.030), 0.29, 0.58),
    Species("Goosefoot", _toothed, 0.30, 0.090, (2, 6), 180.0, (0.18, 0.030), 0.32, 0.60),
    Species("Chickweed", _ovate, 0.20, 0.070, (2, 6), 180.0, (0.17, 0.040), 0.25, 0.70),
    Species("Charlock", _lobed, 0.36, 0.100, (2, 5), 137.5, (0.17, 0.080), 0.28, 0.66),
    Species("Mayweed", _lobed, 0.26, 0.040, (3, 8), 137.5, (0.11, 0.030), 0.30, 0.64),
    Species("Cleavers", _lanceolate, 0.24, 0.055, (4, 8), 60.0, (0.19, 0.065), 0.31, 0.55),
    Species("Maize", _blade, 0.46, 0.040, (2, 4), 180.0, (0.10, 0.020), 0.26, 0.68),
)


@dataclass(frozen=True)
class Session:
    """A day in a field: its soil and light, shared by all plants drawn in it."""

    soil: np.ndarray  # RGB, [3]
    grain: np.ndarray  # strength of coarse, middle and fine noise, [3]
    pebbles: int
    pebble_size: float
    light: np.ndarray  # factor for each channel, [3]
    shadow: tuple[float, float]  # offset, direction


def draw_session(rng: np.random.Generator) -> Session:
    """Draws the soil and light of a session."""
    soil = np.array([118, 92, 70]) * rng.uniform(0.5, 1.35) + rng.normal(0, 12, 3)
    light = rng.uniform(0.75, 1.2) * rng.normal(1, 0.06, 3)
    shadow = (rng.uniform(0, 0.03), rng.uniform(0, 2 * math.pi))
    return Session(soil, rng.uniform(6, 26, 3), int(rng.integers(0, 70)), rng.uniform(0.008, 0.035), light, shadow)


def draw_plant(species: Species, session: Session, rng: np.random.Generator) -> Image.Image:
    """Draws one plant: soil, shadow, cotyledons, true leaves from old to young; RGB, SIZE x SIZE."""
    side = SIZE * _SCALE
    image = _soil(session, rng, side)
    center = side * (0.5 + rng.uniform(-0.07, 0.07, 2))
    heading, scale = rng.uniform(0, 360), side * rng.uniform(0.75, 1.15)
    hue, value = species.hue + rng.normal(0, 0.012), species.value * rng.uniform(0.8, 1.15)
    plant = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(plant)
    length, width = (scale * part for part in species.cotyledon)
    for angle in (heading, heading + 180):
        _leaf(draw, center, angle + rng.normal(0, 8), length, width, _ovate, hue, value * 0.95, rng)
    count = int(rng.integers(species.leaves[0], species.leaves[1] + 1))
    for number in range(count):
        if species.turn == 180.0:  # pairs, each a quarter turn from the one before
            angle = heading + 90 + 90 * (number // 2) + 180 * (number % 2)
        else:
            angle = heading + 70 + species.turn * number
        grown = 1 - 0.55 * number / max(1, count) * rng.uniform(0.7, 1.1)
        length, width = scale * species.length * grown, scale * species.width * grown
        _leaf(draw, center, angle + rng.normal(0, 9), length, width, species.outline, hue, value * rng.uniform(0.92, 1.08), rng)
    _shadow(image, plant, session)
    image.paste(plant, (0, 0), plant)
    image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
    pixels = np.asarray(image, np.float32) * session.light * rng.uniform(0.93, 1.07) + rng.normal(0, 4, (SIZE, SIZE, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _leaf(draw, center, angle: float, length: float, width: float, outline: Outline, hue: float, value: float, rng) -> None:
    along = np.linspace(0, 1, 60)
    half = np.maximum(outline(along), 0.02) * width
    bend = rng.normal(0, 0.10) * length * along**2
    left, right = np.stack([along * length, bend - half]), np.stack([along * length, bend + half])[:, ::-1]
    turn = math.radians(angle)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    points = (rotation @ np.concatenate([left, right], axis=1)).T + center
    draw.polygon([tuple(point) for point in points], fill=_color(hue, value), outline=_color(hue, value * 0.8))
    rib = (rotation @ np.stack([along * length, bend])).T + center
    draw.line([tuple(point) for point in rib], fill=_color(hue - 0.02, min(1.0, value * 1.25)), width=max(1, round(width * 0.12)))


def _color(hue: float, value: float) -> tuple[int, int, int, int]:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, 0.62, min(1.0, max(0.0, value))))
    return red, green, blue, 255


def _soil(session: Session, rng: np.random.Generator, side: int) -> Image.Image:
    """Brown noise of three grain sizes, and pebbles."""
    field = np.zeros((side, side), np.float32)
    for cells, weight in zip((6, 24, 96), session.grain, strict=True):
        grain = Image.fromarray(rng.normal(0, weight, (cells, cells)).astype(np.float32))
        field += np.asarray(grain.resize((side, side), Image.Resampling.BICUBIC))
    image = Image.fromarray(np.clip(session.soil + field[..., None], 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(session.pebbles):
        x, y, radius = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0.4, 1) * session.pebble_size * side
        shade = rng.uniform(0.7, 1.5)
        draw.ellipse(
            (x - radius, y - radius * 0.7, x + radius, y + radius * 0.7),
            fill=tuple(int(min(255, part * shade)) for part in session.soil),
        )
    return image


def _shadow(image: Image.Image, plant: Image.Image, session: Session) -> None:
    offset, angle = session.shadow[0] * image.width, session.shadow[1]
    mask = ImageChops.offset(plant.getchannel("A"), round(offset * math.cos(angle)), round(offset * math.sin(angle)))
    mask = mask.filter(ImageFilter.BoxBlur(4)).point(lambda alpha: int(alpha * 0.55))
    image.paste((25, 20, 15), (0, 0), mask)


def draw_set(folder: str | Path, per_class: int, seed: int = 0) -> Path:
    """Draws `per_class` plants of each species into `folder/class/NNNN.png`; the same seed draws the same set.

    Plants that are there already are left alone, so a killed run goes on. Plant n of a species depends on the seed and n
    alone: a larger set holds the smaller one.
    """
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1; got {per_class}")
    folder = Path(folder)
    check_writable(folder, "dir", per_class * len(SPECIES) * 60_000)
    jobs = [(number, species, plant) for number, species in enumerate(SPECIES) for plant in range(per_class)]
    sessions = [draw_session(np.random.default_rng([seed, number])) for number in range(SESSIONS)]
    for number, species, plant in progress_bar(jobs, unit="plant", desc="drawing"):
        path = folder / species.name / f"{plant:04d}.png"
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            drawn = draw_plant(species, sessions[plant % SESSIONS], np.random.default_rng([seed, number, plant]))
            write_png(path, drawn)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True, help="folder to draw into")
    parser.add_argument("--per_class", type=int, default=90, help="plants of each species")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(draw_set(args.dir, args.per_class, args.seed))


if __name__ == "__main__":
    main()
