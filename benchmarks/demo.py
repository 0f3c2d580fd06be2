"""The whole path in a few minutes: embed, fine-tune, search, mark, re-rank. Shows every
command it runs.

    make demo                     # on the sample field (synthetic), looking for sugar beets with 4 to 6 leaves, all visible
    make demo DATA=<folder>       # on your images: whatever run_finetune.py takes; classes, where there are any, are looked for

Ends with a table and two pictures below demo/. Everything is resumable: a second call
does only what is missing.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from data.embeddings import EmbeddingSet
from data.sample_field import draw_field
from data.where import rows_where
from probe.feedback import Person, simulate
from probe.metrics import mean_and_interval
from probe.search import CosineIndex, rank_all
from probe.transforms import Transform, l2_normalize

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "data", "", "Your images; default: the sample field, rendered into demo/field."
)
flags.DEFINE_string("dir", "demo", "Where everything goes.")
flags.DEFINE_integer("images", 120, "Images of the sample field.", lower_bound=10)
flags.DEFINE_integer(
    "views",
    32_000,
    "Augmented crops to train on, about: sets the epochs, and so the time.",
)

# The post's wish: a new class that no label tells apart.
CRITERION = (
    "species = 'Sugar beet' AND true_leaves BETWEEN 4 AND 6 AND share_visible > 0.9 "
    "AND cut_off = 0"
)
SETTINGS = {"image_size": 96, "embed_size": 128}
COSINE_QUERIES = 300  # a class, at most; a simulated person takes longer:
FIELD_QUERIES, CLASS_QUERIES, PER_ROUND = 16, 4, 20


def command(script: str, **arguments: object) -> None:
    """Prints a command as a user would type it, and runs it."""
    words = [script, *(f"--{name}={value}" for name, value in arguments.items())]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    if subprocess.run([sys.executable, *words], check=False).returncode:
        raise SystemExit(f"demo: {script} failed; see its message above")


def embedding_sets() -> tuple[EmbeddingSet, EmbeddingSet, int]:
    """Frozen and fine-tuned embeddings of the same crops, and the epochs of tuning;
    made by the two commands, if not there yet.
    """
    folder = Path(FLAGS.dir)
    data = FLAGS.data or draw_field(folder / "field", FLAGS.images)
    runs = folder / (Path(FLAGS.data).resolve().name if FLAGS.data else "runs")
    frozen, tuned = runs / "imagenet", runs / "contrastive"
    command("run_finetune.py", data=data, run_dir=frozen, epochs=0, **SETTINGS)
    before = EmbeddingSet.load(frozen / "embeddings")
    epochs = max(1, FLAGS.views // (2 * len(before.table)))
    # A small pile needs small batches to come to a few hundred steps.
    batch = int(np.clip(len(before.table) // 10, 2, 128))
    command(
        "run_finetune.py",
        data=data,
        run_dir=tuned,
        objective="contrastive",
        epochs=epochs,
        batch_size=batch,
        **SETTINGS,
    )
    return before, EmbeddingSet.load(tuned / "embeddings"), epochs


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


def choose_queries(relevant: np.ndarray, most: int) -> np.ndarray:
    """Random queries, [at most `most`] rows; the same for the same pool."""
    rows = np.flatnonzero(relevant)
    return np.random.default_rng(0).permutation(rows)[:most]


def table_row(name: str, embeddings: EmbeddingSet, k: int, rounds: int) -> str:
    """P@k of queries by cosine, and after a simulated person's marks over crops that
    nobody marked.
    """
    unit = l2_normalize(np.asarray(embeddings.vectors))
    index = CosineIndex(
        embeddings.vectors,
        embeddings.table.ids,
        Transform.fit("centre", embeddings.vectors),
    )
    cosine: list[float] = []
    probed: list[float] = []
    for relevant in targets_of(embeddings).values():
        best = rank_all(unit, choose_queries(relevant, COSINE_QUERIES))[:, :k]
        cosine += relevant[best].mean(axis=1).tolist()
        for row in choose_queries(
            relevant, CLASS_QUERIES if FLAGS.data else FIELD_QUERIES
        ):
            *_, (final, _, _) = simulate(
                index, Person(relevant), int(row), rounds, PER_ROUND, "mix", k
            )
            probed.append(final.precision_unmarked)
    return (
        f"{name:34s} {mean_and_interval(cosine):>22s}   "
        f"{mean_and_interval(probed):>22s}"
    )


def main(argv: list[str]) -> None:
    del argv
    started = time.monotonic()
    folder = Path(FLAGS.dir)
    before, after, epochs = embedding_sets()
    frozen, tuned = before.folder.parent, after.folder.parent

    targets = targets_of(before)
    target, relevant = next(
        iter(targets.items()), ("", np.ones(len(before.table), bool))
    )
    search = {"query": before.table.ids[choose_queries(relevant, 1)[0]]}
    sheets = [
        folder / "1_imagenet_and_finetuned.png",
        folder / "2_cosine_and_probe.png",
    ]
    wish = {"simulate_label" if FLAGS.data else "simulate_where": target}
    counted = {} if FLAGS.data else {"count_where": target}
    command(
        "run_search.py",
        embeddings=tuned / "embeddings",
        compare=frozen / "embeddings",
        sheet=sheets[0],
        **counted,
        **search,
    )
    if not targets or (FLAGS.data and len(targets) < 2):
        print(
            "\nNo table: the images have no two classes of 8 crops or more to measure "
            f"by. Picture: {sheets[0]}"
        )
        return
    smallest = min(int(mask.sum()) for mask in targets.values())
    # Marks must leave enough of a class unmarked for P@k over the rest to be able to
    # reach 1.
    rounds, k = (7, 50) if smallest > 150 else (3, max(1, min(20, smallest // 4)))
    command(
        "run_search.py",
        embeddings=tuned / "embeddings",
        rounds=rounds,
        sheet=sheets[1],
        **wish,
        **search,
    )

    if FLAGS.data:
        queries, wished = (
            f"{CLASS_QUERIES} queries a class",
            f"{len(before.table)} crops of {FLAGS.data}, {len(targets)} classes",
        )
    else:
        queries = f"{FIELD_QUERIES} queries"
        wished = (
            f"Sample field (synthetic). Looked for, {int(relevant.sum())} of "
            f"{len(before.table)} crops:\n{CRITERION}"
        )
    print(
        f"\n{wished}\nP@{k}, mean and 95 % bootstrap interval over random queries, "
        "seed 0."
    )
    marked = (
        f"{queries}, {rounds * PER_ROUND} simulated marks each, measured over crops "
        "that nobody marked"
    )
    print(f"Cosine: at most {COSINE_QUERIES} queries a class. Probe: {marked}.\n")
    print(f"{'embeddings':34s} {'cosine':>22s}   {'probe':>22s}")
    print(table_row("ImageNet, frozen", before, k, rounds))
    print(table_row(f"contrastive, {epochs} epochs, no labels", after, k, rounds))
    print(
        f"\nPictures: {sheets[0]}, {sheets[1]}   "
        f"({(time.monotonic() - started) / 60:.1f} minutes)"
    )


if __name__ == "__main__":
    app.run(main)
