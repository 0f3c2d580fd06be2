"""A field that comes with the project: images in CropAndWeed's layout, rendered, so
that everything can be tried offline.

    python -m data.sample_field --dir=field --images=120

It writes `images/`, `bboxes/CropAndWeed/`, `labelIds/CropAndWeed/` and `params/` as the
CropAndWeed dataset has them on disk, and `attributes.csv` with what no human labelled
there: species, number of true leaves, share visible, whether the frame cuts the plant,
growth stage. Eighteen species, sugar beet among look-alikes, in recording sessions of
five images with their own soil, light, crop and weeds. It is synthetic: figures
measured on it say that the tools work, not how well they work in your field.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from artifacts.files import check_writable, write_atomically, write_csv, write_json
from artifacts.progress import progress_bar
from data.sample_field.painting import (
    MOST_PLANTS,
    Conditions,
    draw_conditions,
    full_area,
    paint,
)
from data.sample_field.plants import Plant, grow
from data.sample_field.species import BY_NAME, SPECIES, Species

WIDTH, HEIGHT = 1920, 1088
FRAMES_PER_SESSION = 5
VEGETATION = 255  # label id of tiny, excluded or ambiguous plants
ATTRIBUTES = ("species", "true_leaves", "share_visible", "cut_off", "growth_stage")
_SMALLEST_AREA = 40  # visible pixels; what is smaller isn't annotated
_TINY = 26  # longest side in pixels below which a plant is only "vegetation"
_HIDDEN = 0.3  # share visible below which it is, too


@dataclass(frozen=True)
class Session:
    """A recording session: one field on one day.

    Attributes:
        number: of the session, from 0.
        conditions: soil, light and camera.
        crop: what is sown in rows; None in a fallow field.
        leaves: true leaves of the crop, on average; weeds have a little fewer.
        weeds: probability of each of `SPECIES` to be the next weed, [18].
        stand: share of the sown crop that came up.
    density: weeds an image, on average.
        scale: size of everything: how near the camera is.
    """

    number: int
    conditions: Conditions
    crop: Species | None
    leaves: float
    weeds: np.ndarray
    stand: float
    density: float
    scale: float


def draw_session(number: int, seed: int) -> Session:
    """Draws a session at random; it depends on nothing but (seed, number)."""
    rng = np.random.default_rng([seed, number])
    crop = ("Sugar beet", "Sugar beet", "Maize", "Sugar beet", "Sugar beet", None)[
        number % 6
    ]
    tail = np.array([species.weight for species in SPECIES])
    weeds = tail * rng.gamma(
        0.7, 1.0, len(tail)
    )  # every field has its own weeds, drawn from the same long tail
    return Session(
        number,
        draw_conditions(rng),
        BY_NAME[crop] if crop else None,
        float(rng.uniform(3.2, 5.8)),
        weeds / weeds.sum(),
        float(rng.uniform(0.4, 0.7)),
        float(rng.uniform(18, 34)),
        float(rng.uniform(0.78, 1.15)),
    )


def draw_plants(session: Session, rng: np.random.Generator) -> list[Plant]:
    """Sows an image: crop plants in two rows with gaps, weeds anywhere and in patches;
    low plants first.
    """
    plants = []
    if session.crop:
        spacing = {"Sugar beet": 330, "Maize": 360}[session.crop.name] * session.scale
        for row in (0.28, 0.74):
            start = rng.uniform(-spacing, 0)
            for place in np.arange(start, WIDTH + spacing, spacing):
                if rng.random() < session.stand:
                    stem = (
                        place + rng.normal(0, 30),
                        (row + rng.normal(0, 0.025)) * HEIGHT,
                    )
                    leaves = _draw_leaves(session.crop, session.leaves, rng)
                    plants.append(
                        grow(
                            session.crop,
                            leaves,
                            stem,
                            session.scale,
                            rng,
                            vigour=rng.uniform(0.8, 1.2),
                        )
                    )
    patch = rng.uniform((0, 0), (WIDTH, HEIGHT))
    for _ in range(min(rng.poisson(session.density), MOST_PLANTS - len(plants))):
        species = SPECIES[rng.choice(len(SPECIES), p=session.weeds)]
        near = rng.random() < 0.4
        x, y = (
            patch + rng.normal(0, 180, 2)
            if near
            else rng.uniform((-20, -20), (WIDTH + 20, HEIGHT + 20))
        )
        leaves = _draw_leaves(species, session.leaves - 0.4, rng)
        plants.append(
            grow(
                species,
                leaves,
                (float(x), float(y)),
                session.scale,
                rng,
                vigour=rng.uniform(0.75, 1.2),
            )
        )
    return sorted(plants, key=lambda plant: len(plant.leaves) + rng.uniform(0, 3))


def _draw_leaves(species: Species, mean: float, rng: np.random.Generator) -> int:
    """Number of true leaves. Early leaves come in pairs, of which the second is now and
    then still to unfold.
    """
    leaves = rng.normal(mean, 2.0)
    if species.arrangement != "grass":
        leaves = 2 * round(leaves / 2) - (rng.random() < 0.12)
    return int(np.clip(round(leaves), 0, species.most_leaves))


@dataclass(frozen=True)
class Annotation:
    """What is written about one plant of an image."""

    box: tuple[int, int, int, int]  # left, top, right, bottom of what is visible
    label_id: int
    stem: tuple[int, int]
    number: int  # in the index image
    plant: Plant
    share_visible: float
    cut_off: bool


def annotate(plants: list[Plant], index: np.ndarray) -> Iterator[Annotation]:
    """Boxes and labels from the index image (see `painting.paint`), for plants that can
    be seen at all.
    """
    for number, plant in enumerate(plants, 1):
        area, (left, top, right, bottom) = full_area(plant)
        window = (
            slice(max(0, int(top)), max(0, int(bottom) + 1)),
            slice(max(0, int(left)), max(0, int(right) + 1)),
        )
        rows, columns = np.nonzero(index[window] == number)
        if len(rows) < _SMALLEST_AREA:
            continue
        x, y = window[1].start, window[0].start
        box = (
            int(columns.min()) + x,
            int(rows.min()) + y,
            int(columns.max()) + x + 1,
            int(rows.max()) + y + 1,
        )
        share = min(1.0, len(rows) / area)
        cut = left < 0 or top < 0 or right > WIDTH or bottom > HEIGHT
        unclear = max(box[2] - box[0], box[3] - box[1]) < _TINY or share < _HIDDEN
        stem = (
            int(np.clip(plant.stem[0], 0, WIDTH)),
            int(np.clip(plant.stem[1], 0, HEIGHT)),
        )
        label_id = VEGETATION if unclear else plant.species.label_id(plant.true_leaves)
        yield Annotation(box, label_id, stem, number, plant, share, cut)


def render(
    session: Session, frame: int, seed: int
) -> tuple[Image.Image, np.ndarray, list[Annotation]]:
    """Renders one image: the photo, its mask of label ids (uint8 [1088, 1920]) and its
    annotations.
    """
    rng = np.random.default_rng([seed, session.number, frame + 1])
    plants = draw_plants(session, rng)
    photo, index = paint(plants, session.conditions, (WIDTH, HEIGHT), rng)
    annotations = list(annotate(plants, index))
    label_of = np.zeros(256, np.uint8)
    label_of[1 : len(plants) + 1] = VEGETATION
    for annotation in annotations:
        label_of[annotation.number] = annotation.label_id
    return photo, label_of[index], annotations


def _name(number: int) -> str:
    """File name of an image without its ending: prefix, session, frame."""
    return f"smp-{number // FRAMES_PER_SESSION:04d}-{number % FRAMES_PER_SESSION:04d}"


def _write_image(root: Path, number: int, seed: int) -> None:
    """Writes one image and its annotations; the attributes come last and tell that the
    rest is there.
    """
    session, frame = (
        draw_session(number // FRAMES_PER_SESSION, seed),
        number % FRAMES_PER_SESSION,
    )
    photo, mask, annotations = render(session, frame, seed)
    name = _name(number)
    write_atomically(
        root / "images" / f"{name}.jpg",
        lambda file: photo.save(file, "JPEG", quality=88),
    )
    labels = Image.fromarray(mask)
    write_atomically(
        root / "labelIds" / "CropAndWeed" / f"{name}.png",
        lambda file: labels.save(file, "PNG", compress_level=1),
    )
    boxes = [[*item.box, item.label_id, *item.stem] for item in annotations]
    write_csv(root / "bboxes" / "CropAndWeed" / f"{name}.csv", boxes, "\n")
    conditions = session.conditions
    hidden = float(np.mean([item.share_visible for item in annotations] or [1.0]))
    separability = 0 if hidden > 0.93 else 1 if hidden > 0.85 else 2
    conditions_row = [
        conditions.moisture,
        conditions.soil,
        conditions.lighting,
        separability,
    ]
    write_csv(root / "params" / f"{name}.csv", [conditions_row], "\n")
    rows = []
    for item in annotations:
        plant, share, cut = item.plant, round(item.share_visible, 3), int(item.cut_off)
        rows.append(
            [
                f"{name}.jpg",
                *item.box,
                plant.species.name,
                plant.true_leaves,
                share,
                cut,
                plant.growth_stage,
            ]
        )
    write_csv(root / ".attributes" / f"{name}.csv", rows, "\n")


def draw_field(
    root: str | Path, images: int, seed: int = 0, processes: int | None = None
) -> Path:
    """Renders `images` images into `root`; the same seed renders the same field.

    Images that are there already are left alone, so a killed run goes on. Image n
    depends on the seed and n alone: a larger field holds the smaller one.

    Args:
        root: folder to write to.
        images: how many, at least 1; five a session.
        seed: of everything.
        processes: how many at a time; default: as many as cores.
    """
    if images < 1:
        raise ValueError(f"images must be at least 1; got {images}")
    root = Path(root)
    check_writable(root, "dir", images * 1_200_000)
    stated = root / ".attributes" / "seed.json"
    if stated.is_file() and json.loads(stated.read_text()) != seed:
        raise ValueError(
            f"dir {str(root)!r} holds a field of seed {stated.read_text().strip()}; "
            f"got {seed}"
        )
    for folder in (
        "images",
        "bboxes/CropAndWeed",
        "labelIds/CropAndWeed",
        "params",
        ".attributes",
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write_json(stated, seed)
    images = max(
        images, sum(1 for _ in (root / ".attributes").glob("*.csv"))
    )  # a smaller number takes nothing away
    parts = [root / ".attributes" / f"{_name(number)}.csv" for number in range(images)]
    missing = [number for number, part in enumerate(parts) if not part.is_file()]
    workers = min(processes or os.cpu_count() or 1, max(1, len(missing)))
    with ProcessPoolExecutor(workers) as pool:
        jobs = pool.map(
            _write_image, [root] * len(missing), missing, [seed] * len(missing)
        )
        for _ in progress_bar(jobs, total=len(missing), unit="image", desc="rendering"):
            pass
    header = ",".join(["image", "left", "top", "right", "bottom", *ATTRIBUTES]) + "\n"
    text = header + "".join(part.read_text() for part in parts)
    write_atomically(root / "attributes.csv", lambda file: file.write(text.encode()))
    return root


def main() -> None:
    """What the command line does."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", required=True, help="folder to write to")
    parser.add_argument(
        "--images",
        type=int,
        default=120,
        help="how many images; five a session (default 120)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything (default 0)")
    parser.add_argument(
        "--processes",
        type=int,
        default=None,
        help="images rendered at a time; default: one a core",
    )
    args = parser.parse_args()
    try:
        print(draw_field(args.dir, args.images, args.seed, args.processes))
    except (ValueError, OSError) as error:
        sys.exit(f"sample_field: {error}")
