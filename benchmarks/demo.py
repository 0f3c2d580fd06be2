"""The whole path in a few minutes: embed, search, fine-tune, search, mark, re-rank.
Shows every command it runs.

    make demo                # on the sample field (synthetic), looking for sugar beets
                             # with 4 to 6 leaves, all visible
    make demo DATA=<folder>  # on your images: whatever run_embed.py takes; classes, if
                             # any, are looked for

The first picture comes before anything is trained. Ends with a table and two more
pictures below demo/. Everything is resumable: a second call does only what is missing.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from benchmarks.wish import CRITERION, choose_queries
from curation.config import RECIPES
from curation.pool import Pool
from curation.simulation import SimulatedAnnotator, simulate
from data.embeddings import EmbeddingSet
from data.sample_field import draw_field
from data.where import rows_where
from probe.index import rank_first
from probe.metrics import mean_and_interval

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "data", "", "Your images; default: the sample field, rendered into demo/field."
)
flags.DEFINE_string("dir", "demo", "Where everything goes.")
flags.DEFINE_integer("images", 120, "Images of the sample field.", lower_bound=10)
flags.DEFINE_integer(
    "views",
    24_000,
    "Augmented crops to train on, about: sets the epochs, and so the time.",
)
flags.DEFINE_enum("recipe", "fast", list(RECIPES), "How a crop becomes a vector.")

TRAINED = 96  # side of the training crops, in pixels
COSINE_QUERIES = 300  # a class, at most; a simulated annotator takes longer:
FIELD_QUERIES, CLASS_QUERIES, PER_ROUND = 16, 4, 20


def command(script: str, **arguments: object) -> None:
    """Prints a command as a user would type it, and runs it."""
    words = [script, *(f"--{name}={value}" for name, value in arguments.items())]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    if subprocess.run([sys.executable, *words], check=False).returncode:
        raise SystemExit(f"demo: {script} failed; see its message above")


def run_folder(name: str) -> Path:
    """Below the demo's folder."""
    runs = Path(FLAGS.data).resolve().name if FLAGS.data else "runs"
    return Path(FLAGS.dir) / runs / name


def frozen_set(recipe: str = "") -> tuple[EmbeddingSet, str]:
    """ImageNet embeddings, and what they are of."""
    recipe = recipe or FLAGS.recipe
    data = FLAGS.data or str(draw_field(Path(FLAGS.dir) / "field", FLAGS.images))
    folder = run_folder(f"imagenet_{recipe}") / "embeddings"
    command("run_embed.py", data=data, embeddings=folder, recipe=recipe)
    return EmbeddingSet.load(folder), data


def tuned_set(before: EmbeddingSet, data: str) -> tuple[EmbeddingSet, int]:
    """Fine-tuned embeddings of the same crops, and the epochs of tuning."""
    folder = run_folder("contrastive")
    epochs = max(1, FLAGS.views // (2 * len(before.table)))
    # A small pile needs small batches to come to a few hundred steps.
    batch = int(np.clip(len(before.table) // 10, 2, 128))
    command(
        "run_finetune.py",
        data=data,
        run_dir=folder,
        epochs=epochs,
        batch_size=batch,
        image_size=TRAINED,
        recipe=FLAGS.recipe,
    )
    return EmbeddingSet.load(folder / "embeddings"), epochs


def embedding_sets() -> tuple[EmbeddingSet, EmbeddingSet, int]:
    """Frozen and fine-tuned embeddings of the same crops, and the epochs of tuning."""
    before, data = frozen_set()
    after, epochs = tuned_set(before, data)
    return before, after, epochs


def targets_of(embeddings: EmbeddingSet) -> dict[str, np.ndarray]:
    """What to look for: name -> which crops are relevant, [N] bool."""
    if not FLAGS.data:
        return {CRITERION: rows_where(embeddings.table, CRITERION)}
    labels = embeddings.table.column("label_name")
    return {
        name: labels == name
        for name in embeddings.table.classes
        if (labels == name).sum() >= 8
    }


def table_row(name: str, embeddings: EmbeddingSet, k: int, rounds: int) -> str:
    """P@k of queries by cosine; after a simulated annotator's marks P@k over crops that
    nobody marked, and R-precision over all.
    """
    pool = Pool(embeddings)
    unit = pool.similar.unit_vectors(np.arange(len(pool)), np.float64)
    places = pool.similar.place_of_id
    cosine: list[float] = []
    probed: list[float] = []
    found: list[float] = []
    for relevant in targets_of(embeddings).values():
        queries = choose_queries(relevant, COSINE_QUERIES)
        best = rank_first(unit, queries, k, place_of_id=places)
        cosine += relevant[best].mean(axis=1).tolist()
        annotated = CLASS_QUERIES if FLAGS.data else FIELD_QUERIES
        for row in choose_queries(relevant, annotated):
            *_, (final, _) = simulate(
                pool,
                SimulatedAnnotator(relevant),
                int(row),
                rounds=rounds,
                per_round=PER_ROUND,
                k=k,
            )
            probed.append(final.precision_unmarked or 0.0)
            found.append(final.r_precision)
    figures = (mean_and_interval(each) for each in (cosine, probed, found))
    return f"{name:32s} {' '.join(f'{figure:>21s}' for figure in figures)}"


def announce(picture: Path, started: float, then: str) -> None:
    """Says where a picture is, and what comes next."""
    minutes = (time.monotonic() - started) / 60
    print(f"\nPicture: {picture}   ({minutes:.1f} minutes)\nNext: {then}", flush=True)


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    started = time.monotonic()
    folder = Path(FLAGS.dir)
    names = ("1_imagenet", "2_imagenet_and_finetuned", "3_cosine_and_probe")
    sheets = [folder / f"{name}.png" for name in names]
    before, data = frozen_set()
    frozen = before.folder
    targets = targets_of(before)
    every = np.ones(len(before.table), bool)
    target, relevant = next(iter(targets.items()), ("", every))
    query = before.ids[choose_queries(relevant, 1)[0]]
    counted = {} if FLAGS.data else {"count_where": target}
    command("run_search.py", embeddings=frozen, query=query, sheet=sheets[0], **counted)
    announce(
        sheets[0],
        started,
        "fine-tune without labels and search again, some two minutes on two cores; "
        "then simulated marks and a table, one more",
    )

    after, epochs = tuned_set(before, data)
    tuned = after.folder
    command(
        "run_search.py",
        embeddings=tuned,
        compare=frozen,
        query=query,
        sheet=sheets[1],
        **counted,
    )
    if not targets or (FLAGS.data and len(targets) < 2):
        print(
            "\nNo table: the images have no two classes of 8 crops or more to measure "
            f"by. Pictures: {sheets[0]}, {sheets[1]}"
        )
        return
    announce(sheets[1], started, "marks, by a simulated annotator")
    smallest = min(int(mask.sum()) for mask in targets.values())
    # Marks must leave enough of a class unmarked for P@k over the rest to be able to
    # reach 1.
    rounds, k = (7, 50) if smallest > 150 else (3, max(1, min(20, smallest // 4)))
    wish = {"simulate_label" if FLAGS.data else "simulate_where": target}
    command(
        "run_evaluate.py",
        embeddings=tuned,
        query=query,
        rounds=rounds,
        sheet=sheets[2],
        **wish,
    )
    announce(sheets[2], started, "the table")

    plain, _ = frozen_set("plain")
    if FLAGS.data:
        queries = f"{CLASS_QUERIES} queries a class"
        crops = f"{len(before.table)} crops of {FLAGS.data}"
        wished = f"{crops}, {len(targets)} classes"
    else:
        queries = f"{FIELD_QUERIES} queries"
        found = f"{int(relevant.sum())} of {len(before.table)} crops"
        wished = f"Sample field (synthetic). Looked for, {found}:\n{CRITERION}"
    print(
        f"\n{wished}\nMean and 95 % bootstrap interval over random queries, seed 0: at "
        f"most {COSINE_QUERIES} a class by one query alone;\n{queries} with "
        f"{rounds * PER_ROUND} simulated marks each, P@{k} over crops that nobody "
        "marked (of better\nembeddings fewer relevant ones are left), R-precision over "
        "all.\n"
    )
    heads = (f"one query, P@{k}", f"marked, P@{k}", "marked, R-precision")
    print(f"{'embeddings':32s} {' '.join(f'{head:>21s}' for head in heads)}")
    rows = {
        "ImageNet, the last layer": plain,
        f"ImageNet, recipe {FLAGS.recipe}": before,
        f"{epochs} epochs without labels, {FLAGS.recipe}": after,
    }
    for name, embeddings in rows.items():
        print(table_row(name, embeddings, k, rounds), flush=True)
    minutes = (time.monotonic() - started) / 60
    print(
        f"\nPictures: {', '.join(map(str, sheets))}   ({minutes:.1f} minutes)\n"
        f"Mark yourself: python run_page.py --embeddings={tuned}"
    )


if __name__ == "__main__":
    app.run(main)
