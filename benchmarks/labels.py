"""The method's own claim: what contrastive training is worth when labels are few, and
when they are many.

    python -m benchmarks.labels                # on two sample fields (synthetic)
    python -m benchmarks.labels --train=DATA/train --test=DATA/validation \\
        --dir=runs/labels_photos

Four encoders: ImageNet weights as they are; fine-tuned by contrast, without labels;
fine-tuned on the labels; and both in turn. Each with 1 %, 10 % and 100 % of the
training labels and several seeds, which draw the labels, the heads and the order of the
batches. Trained on --train alone, measured on --test alone:

- accuracy of linear evaluation: a logistic regression on the embeddings of the labelled
  training crops, the same labels that the encoder had (standardised features, C = 0.01,
  nothing tuned);
- P@50: every test crop is a query among the test crops, mean over classes. A class with
  fewer than 51 crops can't reach 1; the highest possible mean is printed.

Every result is a line of results.jsonl; a killed run goes on. Ends with a table
(results.md) and a plot (results.png).
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from absl import app, flags
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artifacts.progress import progress_bar
from artifacts.provenance import provenance
from data.crop_cache import CropCache
from data.crop_table import CropTable
from data.formats.base import SourceOptions
from data.formats.registry import read_source
from data.images import CropWindow
from data.pipeline import SOURCE_SCALE, Unreadable, embed_readable, training_batches
from data.sample_field import draw_field
from data.splits import labelled_fraction
from probe.metrics import macro, retrieval_quality
from simclr_tf2.augment import AugmentConfig
from simclr_tf2.config import NOTHING_FROZEN, EncoderConfig
from simclr_tf2.encoders.base import Encoder
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.heads import HeadConfig
from simclr_tf2.objectives import ObjectiveConfig, make_objective
from simclr_tf2.trainer import Trainer, TrainerConfig

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "train",
    "",
    "Images to train on, whatever run_finetune.py takes; default: a sample field of "
    "seed 0.",
)
flags.DEFINE_string(
    "test", "", "Images to measure on; default: a sample field of seed 1."
)
flags.DEFINE_string("dir", "runs/labels", "Where everything goes.")
flags.DEFINE_string("encoder", "efficientnet_lite0", "Network to start from.")
flags.DEFINE_string("weights", "imagenet", "Its weights.")
flags.DEFINE_integer("image_size", 64, "Side of the crops.", lower_bound=32)
flags.DEFINE_integer(
    "views", 32_000, "Augmented crops of contrastive training.", lower_bound=1
)
flags.DEFINE_integer(
    "steps",
    100,
    "Steps of 64 crops of supervised training, whatever the number of labels.",
    lower_bound=1,
)
flags.DEFINE_integer("seeds", 3, "How many.", lower_bound=1)
flags.DEFINE_integer("images", 120, "Images of each sample field.", lower_bound=10)

FRACTIONS = (0.01, 0.1, 1.0)
METHODS = (
    "no fine-tuning",
    "contrastive",
    "supervised",
    "contrastive, then supervised",
)
CONTRASTIVE_BATCH, SUPERVISED_BATCH, K = 128, 64, 50
VIEW = CropWindow()
MEASURES = {"accuracy": "linear evaluation, accuracy", "precision": f"P@{K}"}


@dataclasses.dataclass(frozen=True)
class Job:
    """One row of the results."""

    method: str
    fraction: float
    seed: int


def jobs() -> Iterator[Job]:
    """Every row of the results."""
    for seed in range(FLAGS.seeds):
        for method in METHODS:
            for fraction in FRACTIONS:
                yield Job(method, fraction, seed)


class Bench:
    """Trains and measures on one pair of sources."""

    def __init__(self, train: CropTable, test: CropTable, folder: Path):
        self.folder = folder
        self.test = test.take(test.column("label_name") != "")
        self.train = train

    def run(self, job: Job) -> dict[str, float]:
        """Trains an encoder and measures it."""
        embedder = Embedder(self.encoder(job))
        labelled = self.labelled(job)
        vectors, answers = self.embed(embedder, labelled)
        test_vectors, test_answers = self.embed(embedder, self.test)
        head = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)
        ).fit(vectors, answers)
        accuracy = float((head.predict(test_vectors) == test_answers).mean())
        precision = macro(retrieval_quality(test_vectors, test_answers, K))
        return {"accuracy": accuracy, "precision": precision, "labels": len(labelled)}

    def labelled(self, job: Job) -> CropTable:
        """The crops whose labels a job has."""
        return self.train.take(labelled_fraction(self.train, job.fraction, job.seed))

    def encoder(self, job: Job) -> Encoder:
        """The encoder of a job, fine-tuned as its method says."""
        encoder = make_encoder(EncoderConfig(FLAGS.encoder, FLAGS.weights))
        if job.method.startswith("contrastive"):
            weights = self.folder / f"contrastive-{job.seed}"
            if not (weights / "encoder.weights.h5").is_file():
                weights.mkdir(exist_ok=True)
                steps = FLAGS.views // (2 * CONTRASTIVE_BATCH)
                self.finetune(
                    "contrastive",
                    encoder,
                    self.train,
                    batch=CONTRASTIVE_BATCH,
                    steps=steps,
                    seed=job.seed,
                    folder=weights,
                )
                encoder.save(weights)
            encoder = make_encoder(
                EncoderConfig(FLAGS.encoder, str(weights / "encoder.weights.h5"))
            )
        if job.method.endswith("supervised"):
            method = job.method.replace(", ", "_").replace(" ", "_")
            name = f"{method}-{job.fraction:g}-{job.seed}"
            self.finetune(
                "supervised",
                encoder,
                self.labelled(job),
                batch=SUPERVISED_BATCH,
                steps=FLAGS.steps,
                seed=job.seed,
                folder=self.folder / name,
            )
        return encoder

    def finetune(
        self,
        objective: str,
        encoder: Encoder,
        table: CropTable,
        *,
        batch: int,
        steps: int,
        seed: int,
        folder: Path,
    ) -> None:
        """Trains for a number of steps, over as many passes as they take."""
        folder.mkdir(exist_ok=True)
        cache = CropCache(
            self.folder / f"{objective}.cache",
            table,
            SOURCE_SCALE * FLAGS.image_size,
            VIEW,
            progress_bar,
        )
        keras.utils.set_random_seed(seed)
        augment = AugmentConfig(
            FLAGS.image_size,
            min_area=0.3,
            color_jitter_strength=0.2,
            grayscale_prob=0.0,
        )
        smoothing = 0.1 if objective == "supervised" else 0.0
        config = ObjectiveConfig(
            augment,
            len(table.classes),
            head=HeadConfig(hidden=512),
            online_linear_eval=False,
            label_smoothing=smoothing,
            freeze_through_block=NOTHING_FROZEN,
        )
        goal = make_objective(objective, encoder, config)
        batch = min(batch, len(table))
        passes = range(-(-steps // (len(table) // batch)))

        def batches(_: int, start: int) -> tf.data.Dataset:
            by_session = objective == "contrastive"
            parts = [
                training_batches(
                    cache,
                    goal.augment,
                    batch,
                    seed=seed,
                    epoch=number,
                    start_batch=0,
                    by_session=by_session,
                )
                for number in passes
            ]
            return (
                functools.reduce(lambda first, second: first.concatenate(second), parts)
                .take(steps)
                .skip(start)
            )

        settings = TrainerConfig(
            epochs=1, batch_size=batch, warmup_epochs=0.1, checkpoint_minutes=60
        )
        trainer = Trainer(goal, settings, batches, steps, folder)
        trainer.run(progress=progress_bar)

    def embed(
        self, embedder: Embedder, table: CropTable
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vectors and classes of the crops that can be read."""
        vectors, valid = embed_readable(
            table,
            embedder.embed,
            FLAGS.image_size,
            64,
            unreadable=Unreadable(),
            view=VIEW,
        )
        return vectors, table.column("label_name")[valid]


def ceiling(table: CropTable) -> float:
    """The highest possible mean P@K."""
    counts = np.bincount(table.class_indices[table.class_indices >= 0])
    return float(np.mean([min(K, count - 1) / K for count in counts if count > 1]))


def write_table(rows: list[dict[str, Any]], head: str, path: Path) -> str:
    """Writes the table as Markdown."""
    lines = [
        head,
        "",
        "| labels | fine-tuning | " + " | ".join(MEASURES.values()) + " |",
        "| --- " * (2 + len(MEASURES)) + "|",
    ]
    for fraction in FRACTIONS:
        for method in METHODS:
            cells = [
                cell(
                    [
                        row[name]
                        for row in rows
                        if row["method"] == method and row["fraction"] == fraction
                    ]
                )
                for name in MEASURES
            ]
            lines.append(f"| {fraction:.0%} | {method} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    path.write_text(text)
    return text


def cell(values: list[float]) -> str:
    """A mean and its interval, as text."""
    return (
        f"{np.mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"
        if values
        else "not run"
    )


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws the results into a file."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(MEASURES), figsize=(9, 3.6), layout="constrained"
    )
    for panel, (name, title) in zip(panels, MEASURES.items(), strict=True):
        for method, marker in zip(METHODS, "osD^", strict=True):
            points = [
                [
                    row[name]
                    for row in rows
                    if row["method"] == method and row["fraction"] == f
                ]
                for f in FRACTIONS
            ]
            middle = [np.mean(values) for values in points]
            spread = [
                [m - min(v) for m, v in zip(middle, points, strict=True)],
                [max(v) - m for m, v in zip(middle, points, strict=True)],
            ]
            panel.errorbar(
                [100 * f for f in FRACTIONS],
                middle,
                spread,
                marker=marker,
                capsize=3,
                label=method,
            )
        panel.set(
            xscale="log",
            xlabel="labels, %",
            title=title,
            xticks=[1, 10, 100],
            xticklabels=["1", "10", "100"],
        )
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    folder = Path(FLAGS.dir)
    folder.mkdir(parents=True, exist_ok=True)
    sources = [
        given or str(draw_field(folder / f"field_{seed}", FLAGS.images, seed=seed))
        for seed, given in enumerate((FLAGS.train, FLAGS.test))
    ]
    train, test = (
        read_source(source, SourceOptions(), progress_bar)[0] for source in sources
    )
    bench = Bench(train, test, folder)
    settings = {
        name: FLAGS[name].value
        for name in ("encoder", "weights", "image_size", "views", "steps")
    }
    settings |= {"train": train.content_hash, "test": test.content_hash}
    results = folder / "results.jsonl"
    rows = (
        [json.loads(line) for line in results.read_text().splitlines()]
        if results.is_file()
        else []
    )
    if any(row["settings"] != settings for row in rows):
        raise SystemExit(
            f"labels: {results} holds results of other settings or images; choose "
            "another --dir"
        )
    done = {Job(row["method"], row["fraction"], row["seed"]) for row in rows}
    for job in progress_bar(
        [job for job in jobs() if job not in done], unit="run", desc="runs"
    ):
        row = {
            **dataclasses.asdict(job),
            **bench.run(job),
            "settings": settings,
            "provenance": provenance(job.seed),
        }
        rows.append(row)
        with open(results, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        keras.backend.clear_session()
    names = (
        " and ".join(sources)
        if FLAGS.train
        else "two sample fields (synthetic), seeds 0 and 1"
    )
    head = (
        f"{names}: trained on {len(train)} crops, measured on {len(bench.test)}, "
        f"{len(test.classes)} classes; {FLAGS.encoder} at "
        f"{FLAGS.image_size} px; mean [lowest, highest] of {FLAGS.seeds} seeds; P@{K} "
        f"can reach {ceiling(bench.test):.3f}."
    )
    print("\n" + write_table(rows, head, folder / "results.md"))
    plot(rows, folder / "results.png")
    print(f"Plot: {folder / 'results.png'}")


if __name__ == "__main__":
    app.run(main)
