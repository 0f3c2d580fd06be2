"""What recipes of embedding come to: one query, no marks.

    python -m benchmarks.recipes --data=DATA                       # frozen, by class
    python -m benchmarks.recipes --data=DATA --weights=runs/a/encoder.weights.h5
    python -m benchmarks.recipes                                   # the sample field
    python -m benchmarks.recipes --sets=runs/a/embeddings,runs/b/embeddings

Embeds the same crops by every recipe with `run_embed.py`, below --dir. With --data
every labeled crop is a query against all others: macro P@50 by the default transform
and by plain cosine, over the classes at odd places of the sorted list (those at even
places were used to choose the recipes), then over all. Without, the sample field
(synthetic): how many of 50 meet the wish of `benchmarks.demo`, --queries random
queries. Intervals are of 95 %, over queries. Seconds are of the whole command, as a
ratio to the first recipe's, in one run. With --sets nothing is embedded: these sets are
measured, by class or, if they are of the sample field, by the wish.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from absl import app, flags

import run_embed
from artifacts.files import write_json
from artifacts.provenance import provenance
from benchmarks.wish import CRITERION, choose_queries, found_of
from curation.config import RECIPES, read_config
from curation.pool import TRANSFORM, Pool
from data.embeddings import EmbeddingSet
from data.sample_field import draw_field
from data.where import rows_where
from probe.metrics import (
    RetrievalQuality,
    bootstrap_interval,
    macro,
    macro_interval,
    retrieval_quality,
)

FLAGS = flags.FLAGS
K = 50
TRANSFORMS = (TRANSFORM, "aligned", "partial", "l2")


def embedded(recipe: str, data: str, folder: Path) -> tuple[EmbeddingSet, float]:
    """The crops by a recipe, and the seconds it took."""
    # Not as a flag, which would count more than the other settings.
    config = {"recipe": recipe, **(read_config(FLAGS.config) if FLAGS.config else {})}
    given = [f"--data={data}", f"--embeddings={folder}"]
    given += [f"--encoder={FLAGS.encoder}", f"--weights={FLAGS.weights}"]
    given.append(f"--config={json.dumps(config)}")
    began = time.monotonic()
    run_embed.main(["run_embed.py", *given])
    return EmbeddingSet.load(folder), time.monotonic() - began


def interval(qualities: list[RetrievalQuality]) -> str:
    """A macro average with its interval."""
    low, high = macro_interval(qualities)
    return f"{macro(qualities):.3f} [{low:.3f}, {high:.3f}]"


def by_class(embeddings: EmbeddingSet, transform: str) -> list[str]:
    """Macro P@50 over the odd classes, and over all."""
    pool = Pool(embeddings, transform=transform)
    index = pool.similar
    found = retrieval_quality(
        index.vectors,
        embeddings.table.column("label_name"),
        min(K, len(index) - 1),
        transform=index.transform,
        place_of_id=index.place_of_id,
    )
    return [interval(found[1::2]), interval(found)]


def by_wish(embeddings: EmbeddingSet, transform: str) -> list[str]:
    """How many of 50 meet the wish."""
    pool = Pool(embeddings, transform=transform)
    relevant = rows_where(embeddings.table, CRITERION)
    queries = choose_queries(relevant, FLAGS.queries)
    counts = found_of(pool, relevant, queries, K)
    low, high = bootstrap_interval(counts)
    return [f"{counts.mean():.1f} [{low:.1f}, {high:.1f}]"]


def measured(embeddings: EmbeddingSet, transform: str) -> list[str]:
    """Both figures of a set; of the sample field the wish, and nothing beside it."""
    if "true_leaves" in embeddings.table.rows.column_names:
        return [*by_wish(embeddings, transform), ""]
    return by_class(embeddings, transform)


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    folder = Path(FLAGS.dir)
    data = FLAGS.data
    if not (data or FLAGS.sets):
        data = str(draw_field(folder / "field", FLAGS.images, FLAGS.seed))
    rows: list[list[str]] = []
    first = 0.0
    for name in FLAGS.sets or FLAGS.recipes:
        if FLAGS.sets:
            embeddings, seconds = EmbeddingSet.load(name), 0.0
        else:
            embeddings, seconds = embedded(name, data, folder / name)
        first = first or seconds
        cells = [cell for one in TRANSFORMS for cell in measured(embeddings, one)]
        rows.append([name, *cells, f"{seconds / first:.1f}" if first else ""])
    figures = ("odd classes, or the wish", "all classes")
    heads = [f"{name}, {one}" for one in TRANSFORMS for name in figures]
    head = ["set" if FLAGS.sets else "recipe", *heads, "seconds"]
    for line in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(line)} |")
    folder.mkdir(parents=True, exist_ok=True)
    names = ("sets",) if FLAGS.sets else ("encoder", "weights", "config")
    facts = {name: FLAGS[name].value for name in names}
    write_json(
        folder / "recipes.json",
        {**facts, "data": data, "rows": rows, "provenance": provenance(FLAGS.seed)},
    )


if __name__ == "__main__":
    flags.DEFINE_string(
        "data", "", "Images, as run_embed.py takes them; default: the sample field."
    )
    flags.DEFINE_string("dir", "runs/recipes", "Where everything goes.")
    flags.DEFINE_integer("images", 120, "Images of the sample field.")
    flags.DEFINE_list("recipes", ["plain", "fast", "best"], f"Of {', '.join(RECIPES)}.")
    flags.DEFINE_list("sets", [], "Folders of embedding sets to measure instead.")
    flags.DEFINE_string("encoder", "efficientnet_lite0", "Network.")
    flags.DEFINE_string("weights", "imagenet", "Its weights.")
    flags.DEFINE_string("config", "", "More settings of run_embed.py, as JSON.")
    flags.DEFINE_integer("queries", 20, "For the wish.")
    flags.DEFINE_integer("seed", 0, "Of the sample field.")
    app.run(main)
