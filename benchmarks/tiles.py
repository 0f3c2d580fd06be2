"""The sample field without its boxes: how many plants are found among tiles.

    python -m benchmarks.tiles --dir=runs/tiles

Photos alone go in: cut into tiles, bare soil left out by how green a tile is, embedded.
One tile with the wished plant in its middle is the query; a simulated annotator marks
7 x 20 tiles, relevant if the middle of a wished plant (a sugar beet with 4 to 6 leaves)
lies in it. The class is exported as boxes on the photos (COCO) and read back. A plant
is found if its middle lies in one of those boxes; a box is right if the middle of a
wished plant lies in it. Beside it the same for the query alone, as many boxes, and for
the first of the re-ranked list, as many as there are tiles that are right. Several
queries; intervals are over queries (bootstrap). True boxes are used for truth alone.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from absl import app, flags

import run_embed
from artifacts.progress import progress_bar
from curation.exporting import export
from curation.pool import Pool
from curation.session import Session
from curation.simulation import SimulatedAnnotator
from data.crop_table import CropTable
from data.embeddings import EmbeddingSet
from data.formats.registry import read_source
from data.sample_field import draw_field
from data.where import rows_where
from probe.metrics import mean_and_interval

FLAGS = flags.FLAGS
WISH = "species = 'Sugar beet' AND true_leaves BETWEEN 4 AND 6"
GREEN = "greenness > 0.03"
CLASS = "beet of 4 to 6 leaves"


def middles(table: CropTable, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Photo's name -> middles of the boxes of some rows, [n, 2]."""
    found: dict[str, list[np.ndarray]] = {}
    for row in rows:
        left, top, right, bottom = table.boxes[row]
        place = np.array([(left + right) / 2, (top + bottom) / 2])
        found.setdefault(Path(table.column("image")[row]).name, []).append(place)
    return {name: np.stack(places) for name, places in found.items()}


def holds(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which boxes [n, 4] hold which points [m, 2]; [n, m] bool."""
    after = boxes[:, None, :2] <= points
    before = points < boxes[:, None, 2:]
    return np.asarray((after & before).all(axis=2))


def by_photo(table: CropTable, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Photo's name -> boxes of some rows."""
    names = np.array([Path(image).name for image in table.column("image")[rows]])
    return {name: table.boxes[rows[names == name]] for name in np.unique(names)}


def quality(
    boxes: dict[str, np.ndarray], plants: dict[str, np.ndarray]
) -> tuple[float, float]:
    """Share of the plants that are found, and of the boxes that are right."""
    found = right = 0
    for name, places in plants.items():
        if name in boxes:
            inside = holds(boxes[name], places)
            found += int(inside.any(axis=0).sum())
            right += int(inside.any(axis=1).sum())
    every = sum(map(len, boxes.values()))
    return found / sum(map(len, plants.values())), right / max(1, every)


def exported(session: Session, folder: Path) -> dict[str, np.ndarray]:
    """Exports the class and reads its boxes back, as another tool would."""
    shutil.rmtree(folder, ignore_errors=True)
    chosen = session.select(class_name=CLASS)
    export(chosen, format="coco", folder=folder, card=session.card())
    content = json.loads((folder / "annotations.json").read_text())
    names = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
    boxes: dict[str, list[list[float]]] = {}
    for item in content["annotations"]:
        left, top, width, height = item["bbox"]
        box = [left, top, left + width, top + height]
        boxes.setdefault(names[item["image_id"]], []).append(box)
    return {name: np.array(found) for name, found in boxes.items()}


def main(argv: list[str]) -> None:
    """Runs the measurement."""
    del argv
    folder = Path(FLAGS.dir)
    field = folder / "field"
    if not field.exists():
        draw_field(field, FLAGS.images, seed=FLAGS.seed)
    truth, _ = read_source(field)
    plants = middles(truth, np.flatnonzero(rows_where(truth, WISH)))
    given = [f"--data={field / 'images'}", f"--tiles={FLAGS.tiles}", "--format=folder"]
    given += [f"--where={GREEN}", f"--image_size={FLAGS.image_size}"]
    run_embed.main(["run_embed.py", *given, f"--embeddings={folder / 'embeddings'}"])
    embeddings = EmbeddingSet.load(folder / "embeddings")
    table = embeddings.table
    names = [Path(image).name for image in table.column("image")]
    relevant = np.zeros(len(table), bool)
    central = np.full(len(table), np.inf)  # how far the nearest wished plant is
    for row, name in enumerate(names):
        if name in plants:
            box = table.boxes[row]
            relevant[row] = holds(box[None], plants[name]).any()
            middle = (box[:2] + box[2:]) / 2
            central[row] = np.linalg.norm(plants[name] - middle, axis=1).min()
    kept, all_tiles = quality(by_photo(table, np.arange(len(table))), plants)
    print(
        f"{len(table):,} tiles of {len(set(names))} photos, {relevant.sum()} with one "
        f"of {sum(map(len, plants.values()))} wished plants; {kept:.3f} of the plants "
        f"lie in tiles that are green enough, {all_tiles:.3f} of those tiles are right"
    )
    rng = np.random.default_rng(FLAGS.seed)
    candidates = np.flatnonzero(central <= FLAGS.near)
    queries = rng.choice(candidates, min(FLAGS.queries, len(candidates)), replace=False)
    pool = Pool(embeddings)
    annotator = SimulatedAnnotator(relevant)
    figures: dict[str, list[float]] = {}
    for query in progress_bar(queries, unit="query", desc="marking"):
        session = Session(pool, query=str(table.ids[query]), class_name=CLASS)
        first = session.rank()
        for _ in range(FLAGS.rounds):
            rows = table.rows_of(session.suggest(FLAGS.per_round))
            answers = annotator.answers(rows)
            session.mark(
                {
                    str(table.ids[row]): bool(one)
                    for row, one in zip(rows, answers, strict=True)
                }
            )
        boxes = exported(session, folder / "class")
        count = sum(map(len, boxes.values()))
        alone = by_photo(table, np.array([query, *first.rows[: count - 1]]))
        for name, found in (("query alone", alone), ("marked", boxes)):
            share, right = quality(found, plants)
            figures.setdefault(f"{name}: plants found", []).append(share)
            figures.setdefault(f"{name}: boxes right", []).append(right)
        figures.setdefault("boxes", []).append(count)
        as_many = by_photo(table, session.rank().rows[: int(relevant.sum())])
        share, right = quality(as_many, plants)
        figures.setdefault("as many as are right: plants found", []).append(share)
        figures.setdefault("as many as are right: boxes right", []).append(right)
    print(f"\n{len(queries)} queries, {FLAGS.rounds * FLAGS.per_round} marks each")
    for name, values in figures.items():
        print(f"{name:36s} {mean_and_interval(values)}")


if __name__ == "__main__":
    flags.DEFINE_string("dir", "runs/tiles", "Folder for everything.")
    flags.DEFINE_integer("images", 60, "Of the sample field.")
    flags.DEFINE_string("tiles", "224,112", "Side and overlap in pixels.")
    flags.DEFINE_integer("image_size", 96, "Side of the crops.")
    flags.DEFINE_integer("queries", 20, "Drawn at random.")
    flags.DEFINE_float("near", 30, "Pixels from a query's middle to its plant's.")
    flags.DEFINE_integer("rounds", 7, "Of marking.")
    flags.DEFINE_integer("per_round", 20, "Marks a round.")
    flags.DEFINE_integer("seed", 21, "Of the field and the draw.")
    app.run(main)
