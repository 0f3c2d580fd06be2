"""Species of the sample field, in a botanist's terms: leaf shape, margin, arrangement,
cotyledons, colour.

`data.sample_field.plants` grows them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Outline = Callable[[np.random.Generator], np.ndarray]
"""Makes a leaf blade: a closed outline, [n, 2] float, attached at (0, 0), tip near (1,
0), half width about 1.
"""

ALONG = np.linspace(0, 1, 40)


def _from_half_width(half: np.ndarray) -> np.ndarray:
    """The symmetric outline of a blade with the given half widths along its midrib."""
    right = np.stack([ALONG, half], axis=1)
    left = np.stack([ALONG, -half], axis=1)[::-1]
    return np.concatenate([right, left[1:-1]])


def blade(
    widest: float = 0.45,
    tip: float = 1.0,
    *,
    base: float = 1.0,
    teeth: int = 0,
    depth: float = 0.0,
    wave: float = 0.0,
) -> Outline:
    """An undivided blade: elliptic, ovate (widest < 0.5), obovate (> 0.5), lanceolate,
    rhombic, with its margin.

    Args:
        widest: where the blade is widest, 0 at its base to 1 at its tip.
        tip: below 1 a blunt tip, above 1 a pointed one.
        base: the same at the base.
        teeth: teeth or lobes a side.
        depth: how deep they are cut, as a share of the half width; negative for lobes
            with round ends.
        wave: irregular undulation of the margin, as a share of the half width.
    """
    scaled = np.where(widest > ALONG, ALONG / widest, (1 - ALONG) / (1 - widest))
    smooth = np.where(
        widest > ALONG,
        np.sin(np.pi / 2 * scaled) ** base,
        np.sin(np.pi / 2 * scaled) ** tip,
    )

    def outline(rng: np.random.Generator) -> np.ndarray:
        half = smooth.copy()
        if teeth:
            phase = (ALONG * teeth + rng.uniform(0, 1)) % 1
            half *= 1 - abs(depth) * (
                np.sqrt(np.abs(2 * phase - 1)) if depth < 0 else phase
            )
        if wave:
            half *= (
                1
                + wave
                * sum(
                    np.sin(2 * np.pi * (n * ALONG + rng.uniform())) for n in (2, 3, 5)
                )
                / 1.5
            )
        return _from_half_width(half)

    return outline


def grass() -> Outline:
    """A grass blade: parallel-sided, narrowing to a long point."""
    half = np.minimum(1, np.minimum(0.55 + ALONG * 4, ((1 - ALONG) * 1.6) ** 0.8))
    return lambda rng: _from_half_width(half)


def heart(lobe: float = 0.25, pointed: float = 1.4) -> Outline:
    """A cordate blade, or a sagittate one when its basal lobes are pointed: they reach
    behind the petiole.
    """
    angles = np.linspace(-math.pi, math.pi, 60, endpoint=False)
    reach = (
        0.5
        + 0.5 * np.abs(np.cos(angles / 2)) ** pointed
        + lobe * np.exp(-(((np.abs(angles) - 2.45) / 0.35) ** 2))
    )
    reach *= 1 - 0.75 * np.exp(-(((np.abs(angles) - math.pi) / 0.3) ** 2))
    shape = np.stack(
        [0.25 + 0.75 * reach * np.cos(angles), 1.35 * reach * np.sin(angles)], axis=1
    )
    shape[:, 0] -= shape[np.argmin(np.abs(np.abs(angles) - math.pi)), 0]
    shape[:, 0] /= shape[:, 0].max()
    return lambda rng: shape


def palmate(lobes: int = 5, depth: float = 0.45) -> Outline:
    """A round blade with radiating lobes."""
    angles = np.linspace(-0.86 * math.pi, 0.86 * math.pi, 90)

    def outline(rng: np.random.Generator) -> np.ndarray:
        reach = (
            1
            - depth * np.abs(np.sin(angles * lobes / 1.72)) ** 0.8
            - 0.08 * np.abs(np.sin(angles * lobes * 1.75))
        )
        points = np.stack(
            [0.5 + 0.5 * reach * np.cos(angles), reach * np.sin(angles)], axis=1
        )
        return np.concatenate([[[0.42, 0.0]], points])

    return outline


@dataclass(frozen=True)
class Species:
    """How a species looks from above. Lengths in pixels of a full-grown leaf at the
    usual camera height.

    Attributes:
        name: as in the label table.
        label_ids: label id by the fewest true leaves it is given from, e.g. {0: 8, 3:
            9, 5: 10, 7: 11}.
        outline: blade of a true leaf, or of a leaflet of a pinnate one.
        length, width: of the blade.
        petiole: length of the leaf's stalk, as a share of the blade's length.
        arrangement: "opposite" (pairs, each a quarter turn from the one before),
            "rosette" (spiral at the golden angle), "alternate" (left, right along a
            shoot), "whorl" (rings of six) or "grass" (two ranks from one point).
        internode: distance between successive nodes along a creeping shoot, as a share
            of the length; 0 stays in place.
        cotyledon: blade length, width and outline of the seed leaves.
        color: RGB of the blade in even light, 0 to 255.
        spread: standard deviation of that colour between plants.
        rib, stalk: RGB of veins and of petioles.
        bloom: share of pale, mealy bloom on young leaves.
        gloss: strength of highlights.
        veins: side veins a side.
        leaflets: pairs of leaflets of a pinnate leaf; 0 for an undivided one.
        most_leaves: true leaves at the end of the growth that is drawn.
        weight: relative frequency; the tail is long, as in a real field.
    """

    name: str
    label_ids: dict[int, int]
    outline: Outline
    length: float
    width: float
    petiole: float
    arrangement: str
    cotyledon: tuple[float, float, Outline]
    color: tuple[float, float, float]
    rib: tuple[float, float, float]
    stalk: tuple[float, float, float]
    weight: float
    internode: float = 0.0
    spread: float = 5.0
    bloom: float = 0.0
    gloss: float = 0.3
    veins: int = 5
    leaflets: int = 0
    most_leaves: int = 8

    def label_id(self, true_leaves: int) -> int:
        """The label id at a number of true leaves."""
        return self.label_ids[
            max(fewest for fewest in self.label_ids if fewest <= true_leaves)
        ]


_OVAL, _NARROW, _ROUND = (
    blade(0.5),
    blade(0.5, 0.8, base=0.8),
    blade(0.55, 0.6, base=0.7),
)
_NOTCHED = blade(0.6, 0.55, base=0.9)

# fmt: off
SPECIES = (
    Species("Sugar beet", {0: 8, 3: 9, 5: 10, 7: 11}, blade(0.52, 0.62, base=1.25, wave=0.07), 96, 31, 0.62, "rosette",
            (58, 11, _NARROW), (92, 146, 58), (158, 190, 118), (146, 172, 104), 5.0, gloss=0.75, veins=6),
    Species("Maize", {0: 2, 3: 3, 5: 4, 7: 5}, grass(), 190, 12, 0.0, "grass",
            (34, 8, grass()), (96, 146, 62), (134, 172, 98), (124, 150, 90), 0.0, gloss=0.35, veins=0),
    Species("Red-root amaranth", {0: 32}, blade(0.50, 0.58, base=1.15, wave=0.05), 90, 30, 0.64, "rosette",
            (54, 10, _NARROW), (104, 116, 58), (150, 150, 104), (160, 124, 100), 22, gloss=0.6, veins=7),
    Species("White goosefoot", {0: 33}, blade(0.47, 0.72, base=1.05, teeth=3, depth=0.10, wave=0.05), 88, 30, 0.6, "rosette",
            (52, 10, _NARROW), (98, 134, 84), (146, 172, 126), (142, 160, 116), 22, bloom=0.2, gloss=0.45, veins=5),
    Species("Hybrid goosefoot", {0: 29}, blade(0.36, 1.1, base=0.6, teeth=3, depth=0.45), 84, 40, 0.55, "opposite",
            (52, 11, _NARROW), (90, 140, 62), (136, 172, 104), (134, 160, 98), 6, gloss=0.3, veins=4),
    Species("Black nightshade", {0: 41}, blade(0.47, 0.74, base=1.05, wave=0.08), 90, 32, 0.58, "rosette",
            (48, 12, _OVAL), (62, 112, 62), (108, 146, 100), (98, 126, 88), 16, gloss=0.6, veins=6),
    Species("Cockspur grass", {0: 31}, grass(), 120, 8.5, 0.0, "grass",
            (28, 6, grass()), (100, 150, 70), (146, 176, 112), (150, 120, 104), 15, gloss=0.25, veins=0),
    Species("Annual meadow grass", {0: 65}, grass(), 74, 4.2, 0.0, "grass",
            (20, 3, grass()), (86, 142, 58), (128, 168, 98), (116, 150, 86), 7, gloss=0.3, veins=0),
    Species("German chamomile", {0: 36}, blade(0.5, 0.9), 62, 3.4, 0.2, "rosette",
            (15, 6, _OVAL), (94, 142, 66), (116, 156, 88), (116, 156, 88), 8, leaflets=7, veins=0),
    Species("Field mustard", {0: 96}, blade(0.62, 0.55, base=0.6, teeth=5, depth=-0.45, wave=0.05), 104, 38, 0.5, "rosette",
            (26, 22, _NOTCHED), (94, 150, 68), (150, 184, 118), (150, 172, 116), 6, gloss=0.3, veins=5),
    Species("Black-bindweed", {0: 30}, heart(0.32, 1.7), 62, 25, 0.6, "alternate",
            (46, 9, _OVAL), (84, 134, 64), (130, 162, 104), (156, 116, 100), 7, internode=0.7, veins=3),
    Species("Common chickweed", {0: 79}, blade(0.42, 1.15, base=0.75), 32, 14, 0.5, "opposite",
            (28, 8, _OVAL), (108, 158, 68), (136, 176, 98), (130, 160, 96), 9, internode=0.75, veins=2),
    Species("Cleavers", {0: 46}, blade(0.62, 0.9, base=1.1), 46, 9.5, 0.05, "whorl",
            (38, 16, _NOTCHED), (72, 124, 58), (112, 152, 90), (108, 140, 86), 3, internode=0.9, most_leaves=18, veins=0),
    Species("Geraniums", {0: 45}, palmate(5, 0.5), 62, 34, 0.9, "rosette",
            (26, 20, _ROUND), (92, 136, 72), (132, 160, 106), (158, 120, 106), 2.5, veins=3),
    Species("Creeping thistle", {0: 38}, blade(0.5, 1.1, base=0.7, teeth=6, depth=0.5, wave=0.08), 88, 25, 0.1, "rosette",
            (30, 15, _OVAL), (88, 132, 84), (146, 172, 128), (138, 158, 116), 4, gloss=0.35, veins=6),
    Species("Field bindweed", {0: 52}, heart(0.42, 2.4), 54, 18, 0.5, "alternate",
            (30, 19, _NOTCHED), (90, 134, 72), (140, 166, 112), (128, 146, 96), 1.5, internode=0.9, veins=2),
    Species("Purslane", {0: 40}, blade(0.72, 0.45, base=1.0), 34, 15, 0.15, "opposite",
            (20, 8, _OVAL), (98, 142, 72), (118, 156, 90), (170, 108, 92), 1.5, internode=0.6, gloss=0.8, veins=0),
    Species("Ivy-leaved speedwell", {0: 64}, palmate(3, 0.35), 36, 18, 0.5, "alternate",
            (24, 14, _OVAL), (98, 146, 74), (128, 166, 104), (126, 150, 96), 1.0, internode=0.6, veins=2),
)
# fmt: on
BY_NAME = {species.name: species for species in SPECIES}
