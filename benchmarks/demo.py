"""The whole path in a few minutes: embed, fine-tune, search, mark, re-rank. Shows every command it runs.

    make demo                     # on drawings made for the purpose (synthetic)
    make demo DATA=<folder>       # on your photos: class/image.jpg, split/class/image.jpg, or just images

Ends with a table and two pictures below demo/. Everything is resumable: a second call does only what is missing.
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
from data.plant_drawings import draw_set
from probe.feedback import Round, simulate
from probe.metrics import macro, mean_and_interval, retrieval_quality

FLAGS = flags.FLAGS
flags.DEFINE_string("data", "", "Folder of photos; default: drawings, made in demo/drawings.")
flags.DEFINE_string("dir", "demo", "Where everything goes.")
flags.DEFINE_integer("views", 40_000, "Augmented crops to train on, about: sets the epochs, and so the time.")

PER_CLASS = 90
PHOTOS = {"image_size": 96}
DRAWINGS = {"image_size": 64, "jitter": 0.4}  # their light differs more between sessions than within a species
QUERIES, PER_ROUND = 4, 20


def command(script: str, **arguments: object) -> None:
    """Prints a command as a user would type it, and runs it."""
    words = [script, *(f"--{name}={value}" for name, value in arguments.items())]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    if subprocess.run([sys.executable, *words], check=False).returncode:
        raise SystemExit(f"demo: {script} failed; see its message above")


def table_row(name: str, embeddings: EmbeddingSet, k: int, rounds: int) -> str:
    """Macro P@k of all queries by cosine, and of a simulated person's marks over crops that nobody marked."""
    labels = embeddings.table.column("label_name")
    cosine = macro(retrieval_quality(embeddings.vectors, labels, k))
    rng = np.random.default_rng(0)
    final: list[Round] = []
    for label in embeddings.table.classes:
        rows = np.flatnonzero(labels == label)
        for row in rng.choice(rows, min(QUERIES, len(rows)), replace=False):
            steps = list(simulate(embeddings.vectors, labels == label, int(row), rounds, PER_ROUND, "boundary", k))
            final.append(steps[-1][0])
    probed = mean_and_interval([figures.precision_unmarked for figures in final])
    return f"{name:34s} {cosine:10.2f}   {probed:>20s}"


def main(argv: list[str]) -> None:
    del argv
    started = time.monotonic()
    folder = Path(FLAGS.dir)
    data = Path(FLAGS.data) if FLAGS.data else draw_set(folder / "drawings", PER_CLASS)
    runs = folder / (data.resolve().name if FLAGS.data else "runs")
    frozen, tuned = runs / "imagenet", runs / "contrastive"

    settings = PHOTOS if FLAGS.data else DRAWINGS
    command("run_finetune.py", data=data, run_dir=frozen, epochs=0, image_size=settings["image_size"])
    before = EmbeddingSet.load(frozen / "embeddings")
    epochs = max(1, FLAGS.views // (2 * len(before.table)))
    # A small pile needs small batches to come to a few hundred steps.
    batch = int(np.clip(len(before.table) // 10, 2, 128))
    command("run_finetune.py", data=data, run_dir=tuned, objective="contrastive", epochs=epochs, batch_size=batch, **settings)
    after = EmbeddingSet.load(tuned / "embeddings")

    labels = before.table.column("label_name")
    classes = before.table.classes
    target = "Sugar_beet" if "Sugar_beet" in classes else classes[0] if classes else ""
    query = before.table.ids[np.flatnonzero(labels == target)[0]]
    smallest = min((int((labels == name).sum()) for name in classes), default=0)
    search = {"query": query}
    sheets = [folder / "1_imagenet_and_finetuned.png", folder / "2_cosine_and_probe.png"]
    command("run_search.py", embeddings=tuned / "embeddings", compare=frozen / "embeddings", sheet=sheets[0], **search)
    if len(classes) < 2 or smallest < 8:
        print(f"\nNo table: the folder has no classes of 8 images or more to measure by. Pictures: {sheets[0]}")
        return
    # Marks must leave enough of a class unmarked for P@k over the rest to be able to reach 1.
    rounds, measured_k = (7, 50) if smallest > 150 else (3, max(1, min(20, smallest // 4)))
    command("run_search.py", embeddings=tuned / "embeddings", simulate_label=target, rounds=rounds, sheet=sheets[1], **search)

    kind = f"photos in {data}" if FLAGS.data else "drawings (synthetic)"
    print(f"\n{len(labels)} {kind}, {len(classes)} classes, seed 0. P@{measured_k}, mean over classes.")
    print(f"Cosine: every crop is a query. Probe: {QUERIES} random queries a class, {rounds * PER_ROUND} simulated marks, over")
    print("unmarked crops only, 95 % bootstrap interval over queries.\n")
    print(f"{'embeddings':34s} {'cosine':>10s}   {'probe':>20s}")
    print(table_row("ImageNet, frozen", before, measured_k, rounds))
    print(table_row(f"contrastive, {epochs} epochs, no labels", after, measured_k, rounds))
    print(f"\nPictures: {sheets[0]}, {sheets[1]}   ({(time.monotonic() - started) / 60:.1f} minutes)")


if __name__ == "__main__":
    app.run(main)
