"""Plants of the sample field: their growth and their geometry, seen from above.

`grow` makes one plant of a species, a list of leaves from the oldest, lowest one to the
youngest. Nothing is painted here; see `data.sample_field.painting`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.sample_field.species import ALONG, Outline, Species


@dataclass(frozen=True)
class Leaf:
    """One leaf (or leaflet) in the image: everything a painter needs.

    Attributes:
        outline: closed polygon in pixels, [n, 2].
        halves: the outline's two sides of the midrib, each a polygon.
        rib: the midrib, [m, 2].
        veins: side veins, each [2, 2].
        stalk: the petiole, [2, 2]; may have no length.
        direction: azimuth of the midrib, radians.
        fold: how much the two halves are folded up along the midrib, 0 to 1.
        lift: height above the ground in pixels, which moves the shadow.
        color, rib_color, stalk_color: RGB in even light.
        gloss: strength of highlights.
        breadth: width of the blade in pixels.
    """

    outline: np.ndarray
    halves: tuple[np.ndarray, np.ndarray]
    rib: np.ndarray
    veins: list[np.ndarray]
    stalk: np.ndarray
    direction: float
    fold: float
    lift: float
    color: np.ndarray
    rib_color: np.ndarray
    stalk_color: np.ndarray
    gloss: float
    breadth: float


@dataclass(frozen=True)
class Plant:
    """One plant in the image.

    Attributes:
        species: what it is.
        true_leaves: number of true leaves.
        stem: where it stands, (x, y) in pixels.
        leaves: from the lowest to the highest.
    """

    species: Species
    true_leaves: int
    stem: tuple[float, float]
    leaves: list[Leaf] = field(repr=False)

    @property
    def growth_stage(self) -> str:
        """seedling (no true leaf), early (1 to 3), intermediate (4 to 6) or late (from
        7).
        """
        bounds = ((0, "seedling"), (3, "early"), (6, "intermediate"))
        return next(
            (stage for most, stage in bounds if self.true_leaves <= most), "late"
        )


def grow(
    species: Species,
    true_leaves: int,
    stem: tuple[float, float],
    scale: float,
    rng: np.random.Generator,
    *,
    vigour: float = 1.0,
) -> Plant:
    """Grows a plant: cotyledons first, then its true leaves, older ones larger and
    lower, the last ones still unfolding.

    Args:
        species: what it is.
        true_leaves: how many true leaves, 0 to species.most_leaves.
        stem: where it stands.
        scale: pixels for each of the species' pixels (camera height).
        rng: of everything about this plant.
        vigour: of this plant; 1 is usual.
    """
    size = scale * vigour
    tint = rng.normal(0, 0.5 * species.spread, 3) + rng.normal(
        0, species.spread
    )  # of hue, and of lightness
    heading = rng.uniform(0, 2 * math.pi)
    center = np.array(stem, float)
    leaves: list[Leaf] = []
    if species.arrangement == "grass":
        cotyledons = [heading] if true_leaves == 0 else []
    else:
        withered = true_leaves > 5 and rng.random() < 0.4
        cotyledons = [] if withered else [heading, heading + math.pi]
    length, width, outline = species.cotyledon
    for angle in cotyledons:
        grown = size * rng.uniform(0.85, 1.1) * (0.8 if true_leaves == 0 else 1.0)
        color = np.add(species.color, tint) * rng.uniform(0.96, 1.1) + (6, 4, 2)
        stalk = 0.25 * length * grown
        leaves.append(
            _leaf(
                species,
                outline,
                center,
                angle=angle + rng.normal(0, 0.12),
                length=length * grown,
                width=width * grown,
                petiole=stalk,
                color=color,
                lift=2 * size,
                young=0,
                rng=rng,
            )
        )
    shoot = rng.uniform(0, 2 * math.pi)
    for number in range(true_leaves):
        age = float(true_leaves - number)
        if species.arrangement in ("opposite", "whorl"):
            together = 2 if species.arrangement == "opposite" else 6
            age = (
                true_leaves + together - 1
            ) // together * together - number // together * together
            age = age / together * 2
        # A leaf unfolds over about four successors; the first ones stay smaller than
        # those that follow.
        grown = (
            size
            * (1 - math.exp(-0.55 * age))
            * (0.72 + 0.28 * min(1.0, number / 3))
            * rng.uniform(0.86, 1.14)
        )
        node, angle = _place(species, number, heading, shoot, rng)
        base = center + node * species.internode * species.length * size * 0.5
        width = (
            species.width
            * grown
            * rng.uniform(0.88, 1.12)
            * (0.75 + 0.25 * min(1.0, age / 3))
        )
        color = np.add(species.color, tint) * rng.uniform(0.93, 1.06)
        young = max(0.0, 1 - age / 3.2)
        color = (
            color
            + young * np.array([14, 12, 3])
            + (species.bloom * (0.35 + young) * np.array([38, 30, 40]))
        )
        lift = (
            size * (8 + 26 * number / max(1, true_leaves - 1))
            if true_leaves > 1
            else 8 * size
        )
        petiole = species.petiole * species.length * grown * rng.uniform(0.8, 1.15)
        blade: dict[str, Any] = {
            "angle": angle,
            "length": species.length * grown,
            "width": width,
            "petiole": petiole,
            "color": color,
            "lift": lift,
            "young": young,
            "rng": rng,
        }
        if species.leaflets:
            leaves += _pinnate_leaf(species, base, **blade)
        else:
            leaves.append(_leaf(species, species.outline, base, **blade))
    return Plant(species, true_leaves, stem, leaves)


def _place(
    species: Species,
    number: int,
    heading: float,
    shoot: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """Where a leaf's node stands along the shoot (in internodes from the stem), and
    where its midrib points.
    """
    wobble = rng.normal(0, 0.10)
    forward = np.array([math.cos(shoot), math.sin(shoot)])
    if species.arrangement == "grass":
        side = number % 2
        return np.zeros(2), heading + math.pi * side + rng.normal(0, 0.38)
    if species.arrangement == "whorl":
        ring, place = divmod(number, 6)
        return forward * ring, heading + math.pi / 3 * place + 0.5 * ring + wobble
    if species.arrangement == "alternate":
        return forward * number, shoot + (1.0 if number % 2 else -1.0) * rng.uniform(
            0.7, 1.3
        )
    if species.arrangement == "opposite":
        pair, side = divmod(number, 2)
        return forward * pair, heading + math.pi / 2 * (
            pair + 1
        ) + math.pi * side + wobble
    # A rosette starts with an opposite pair across the cotyledons and goes on at the
    # golden angle.
    angle = heading + math.pi / 2 + (math.pi * number if number < 2 else 2.4 * number)
    return np.zeros(2), angle + rng.normal(0, 0.16)


def _leaf(
    species: Species,
    outline: Outline,
    base: np.ndarray,
    *,
    angle: float,
    length: float,
    width: float,
    petiole: float,
    color: np.ndarray,
    lift: float,
    young: float,
    rng: np.random.Generator,
) -> Leaf:
    """Puts a blade into the image: foreshortened where it rises or droops, bent
    sideways, folded along its midrib.
    """
    raised = (
        rng.beta(2, 4) * 0.55 + 0.35 * young
    )  # how steep it stands: a young leaf stands up
    shorten = math.cos(raised * 1.25)
    droop = rng.uniform(0, 0.28) if length > 40 else rng.uniform(0, 0.12)
    bend = (
        rng.normal(0, 0.12) if species.arrangement != "grass" else rng.normal(0, 0.28)
    )
    squeeze = rng.uniform(0.78, 1.0)  # rolled about its midrib

    def place(points: np.ndarray) -> np.ndarray:
        along = points[:, 0]
        bowed = (
            petiole * math.cos(raised)
            + (along - droop * np.maximum(along, 0) ** 2 * along) * length * shorten
        )
        across = (
            points[:, 1] * width * squeeze + bend * length * np.maximum(along, 0) ** 2
        )
        cosine, sine = math.cos(angle), math.sin(angle)
        return base + np.stack(
            [cosine * bowed - sine * across, sine * bowed + cosine * across], axis=1
        )

    unit = outline(rng)
    rib = np.stack([np.linspace(0, 0.96, 10), np.zeros(10)], axis=1)
    upper, lower = unit[unit[:, 1] >= 0], unit[unit[:, 1] <= 0]
    center = np.stack([np.linspace(1, 0, 8), np.zeros(8)], axis=1)
    halves = (
        np.concatenate([upper[np.argsort(_order(upper))], center]),
        np.concatenate([lower[np.argsort(_order(lower))], center]),
    )
    veins = []
    for number in range(species.veins if width > 6 else 0):
        start = 0.12 + 0.7 * number / max(1, species.veins)
        reach = 0.72 * np.interp(start + 0.16, ALONG, np.sin(np.pi * ALONG) ** 0.8)
        veins += [
            place(np.array([[start, 0.0], [start + 0.17, side * reach]]))
            for side in (-1, 1)
        ]
    placed = place(unit)
    stalk = np.stack([base, place(np.zeros((1, 2)))[0]])
    shade = 1 + 0.10 * (1 - 2 * raised)
    return Leaf(
        placed,
        (place(halves[0]), place(halves[1])),
        place(rib),
        veins,
        stalk,
        angle,
        float(np.clip(rng.normal(0.45, 0.2) + 0.4 * young, 0, 1)),
        lift,
        np.clip(shade * (0.8 * color + 0.2 * color.mean()), 10, 245),
        np.array(species.rib, float),
        np.array(species.stalk, float),
        species.gloss,
        2 * width * squeeze,
    )


def _order(points: np.ndarray) -> np.ndarray:
    """Sorts one side of an outline from its base to its tip, by angle about the middle
    of the midrib.
    """
    return -np.arctan2(np.abs(points[:, 1]) + 1e-9, points[:, 0] - 0.4)


def _pinnate_leaf(
    species: Species,
    base,
    *,
    angle: float,
    length: float,
    width: float,
    petiole: float,
    color,
    lift: float,
    young: float,
    rng,
) -> list[Leaf]:
    """A leaf of many narrow leaflets along a rachis, each again of a few segments, as
    chamomile has.
    """
    bend = rng.normal(0, 0.25)
    leaflets: list[Leaf] = []
    for number in range(species.leaflets):
        along = (number + 0.8) / species.leaflets
        turned = angle + bend * along
        node = base + (petiole + length * along) * np.array(
            [math.cos(turned), math.sin(turned)]
        )
        reach = length * 0.30 * math.sin(math.pi * min(0.95, along * 0.8 + 0.2)) + 2
        for side in (-1, 1):
            tilt = turned + side * rng.uniform(0.75, 1.05)
            leaflets.append(
                _leaf(
                    species,
                    species.outline,
                    node,
                    angle=tilt,
                    length=reach,
                    width=width,
                    petiole=0.0,
                    color=color,
                    lift=lift,
                    young=young,
                    rng=rng,
                )
            )
            tip = node + 0.5 * reach * np.array([math.cos(tilt), math.sin(tilt)])
            fork = tilt - side * 0.6
            leaflets.append(
                _leaf(
                    species,
                    species.outline,
                    tip,
                    angle=fork,
                    length=reach * 0.6,
                    width=width * 0.9,
                    petiole=0.0,
                    color=color,
                    lift=lift,
                    young=young,
                    rng=rng,
                )
            )
    end = base + (petiole + length) * np.array(
        [math.cos(angle + bend), math.sin(angle + bend)]
    )
    leaflets.append(
        _leaf(
            species,
            species.outline,
            base,
            angle=math.atan2(*(end - base)[::-1]),
            length=float(np.hypot(*(end - base))),
            width=width * 0.7,
            petiole=0.0,
            color=color,
            lift=lift,
            young=0,
            rng=rng,
        )
    )
    return leaflets
