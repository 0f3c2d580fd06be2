"""The evaluations of the SimCLR papers, on the data that you have.

    python -m benchmarks.paper --data_dir=~/tensorflow_datasets --checkpoint=gs://.../simclrv2/pretrained/r50_1x_sk0/saved_model
    python -m benchmarks.paper --experiments=cifar10_pretrain --dir=runs/paper
    python -m benchmarks.paper --experiments=cifar10_pretrain --epochs=10 \\
        --warmup_epochs=1 --batch_size=128 --seeds=3

Data comes from tensorflow-datasets, prepared beforehand (`tfds build cifar10`); nothing
is downloaded here. An experiment whose data isn't there is listed as not run, with the
hours to expect. Settings are the papers' (curation/presets.py); --epochs, --batch_size,
--warmup_epochs and --image_size change them for all experiments, and the table says so.
Every result is a line of results.jsonl; a killed run goes on.

Pretraining on CIFAR-10 is followed by the linear evaluation; its curves are drawn into
cifar10_pretrain.png, beside those of the official code where images and settings are
the ones it was measured with (the last line above, on 5,000 images).

Ends with a table of the published number and ours, in results.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from sklearn.linear_model import LogisticRegression

from artifacts.files import write_json
from artifacts.progress import progress_bar
from artifacts.provenance import provenance
from benchmarks import beside_official
from benchmarks.beside_official import Pretraining
from benchmarks.published import EXPERIMENTS, Experiment, hours
from curation.config import FinetuneConfig, overlay
from curation.planning import in_words
from curation.presets import PRESETS
from simclr_tf2.augment import evaluation_view
from simclr_tf2.checkpoints.download import is_remote, local_saved_model
from simclr_tf2.config import EncoderConfig
from simclr_tf2.distribute import STRATEGIES, make_strategy, worker_of
from simclr_tf2.encoders.base import Encoder
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.objectives import Objective, make_objective
from simclr_tf2.trainer import Trainer

FLAGS = flags.FLAGS
CHECKPOINT = "gs://simclr-checkpoints-tf2/simclrv2/pretrained/r50_1x_sk0/saved_model"
flags.DEFINE_list("experiments", [], "Which; default: all.")
flags.DEFINE_string(
    "data_dir", None, "Of tensorflow-datasets; default: its own, ~/tensorflow_datasets."
)
flags.DEFINE_string("dir", "runs/paper", "Where everything goes.")
flags.DEFINE_string("encoder", "r50_1x_sk0", "Of the checkpoint.")
flags.DEFINE_string(
    "checkpoint", CHECKPOINT, "What all but the pretraining experiments start from."
)
flags.DEFINE_integer("epochs", 0, "Instead of the papers'.", lower_bound=0)
flags.DEFINE_integer("batch_size", 0, "Instead of the papers'.", lower_bound=0)
flags.DEFINE_integer("image_size", 0, "Instead of the papers'.", lower_bound=0)
flags.DEFINE_float(
    "warmup_epochs", -1, "Instead of the papers', where there is a warm-up."
)
flags.DEFINE_float(
    "views_per_second",
    1000,
    "Of ResNet-50 in training at 224 pixels, on your device: for the hours to expect.",
    lower_bound=1,
)
flags.DEFINE_enum("strategy", "default", STRATEGIES, "One device or many.")
flags.DEFINE_string("tpu", "", "Name or address of the TPU.")
flags.DEFINE_integer("seed", 0, "Of everything random; the first.", lower_bound=0)
flags.DEFINE_integer("seeds", 1, "Runs of each experiment.", lower_bound=1)

SHUFFLE = 20_000  # examples that are shuffled among themselves
PRETRAINING = "pretraining.json"
# What keeps an experiment from being run, and no other from it.
NOT_RUN = (
    ImportError,
    AssertionError,
    ValueError,
    OSError,
    RuntimeError,
    tf.errors.OpError,
)


class Data:
    """A prepared set of tensorflow-datasets."""

    def __init__(self, experiment: Experiment):
        import tensorflow_datasets as tfds

        self.builder = tfds.builder(
            experiment.dataset,
            data_dir=FLAGS.data_dir and os.path.expanduser(FLAGS.data_dir),
        )
        if not Path(self.builder.data_dir).exists() or not self.builder.info.splits:
            raise FileNotFoundError(
                f"{experiment.dataset} hasn't been prepared in {self.builder.data_dir}"
            )
        self.experiment = experiment
        self.classes = int(self.builder.info.features["label"].num_classes)

    @classmethod
    def if_there(cls, experiment: Experiment) -> Data | None:
        """The set, if it has been prepared."""
        try:
            return cls(experiment)
        except NOT_RUN:
            return None

    def count(self, split: str) -> int:
        """Examples of a split."""
        return int(self.builder.info.splits[split].num_examples)

    def examples(self, split: str) -> tf.data.Dataset:
        """(float32 image [height, width, 3] in [0, 1], int32 label), always in the same
        order.
        """

        def unpack(example):
            image = tf.image.convert_image_dtype(example["image"], tf.float32)
            return (
                tf.repeat(image, 3, -1) if image.shape[-1] == 1 else image
            ), tf.cast(example["label"], tf.int32)

        return self.builder.as_dataset(split, shuffle_files=False).map(
            unpack, num_parallel_calls=tf.data.AUTOTUNE
        )

    def training(
        self, augment: Callable, batch_size: int, seed: int
    ) -> Callable[[int, int], tf.data.Dataset]:
        """The batches of an epoch, a function of (seed, epoch) alone; see
        `simclr_tf2.trainer.Trainer`.
        """
        strategy = tf.distribute.get_strategy()
        worker, workers = worker_of(strategy)

        def batches(epoch: int, start: int) -> tf.data.Dataset:
            def view(index, example):
                key = tf.random.experimental.stateless_fold_in(
                    tf.constant([seed, epoch], tf.int32), tf.cast(index, tf.int32)
                )
                return augment(example[0], key), example[1]

            order = int(np.random.default_rng([seed, epoch]).integers(2**31))
            numbered = (
                self.examples(self.experiment.train)
                .enumerate()
                .shuffle(SHUFFLE, order, reshuffle_each_iteration=False)
            )
            views = numbered.shard(workers, worker).map(
                view, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
            )
            share = batch_size // strategy.num_replicas_in_sync
            per_worker = strategy.num_replicas_in_sync // workers
            steps = self.count(self.experiment.train) // batch_size
            return (
                views.batch(share, drop_remainder=True)
                .take(steps * per_worker)
                .skip(start * per_worker)
                .prefetch(2)
            )

        return batches

    def testing(self, split: str, image_size: int) -> tf.data.Dataset:
        """(images, labels) as the paper tests: the centre; small images whole."""
        crop = 1.0 if image_size <= 32 else 0.875
        views = self.examples(split).map(
            lambda image, label: (evaluation_view(image, image_size, crop), label),
            tf.data.AUTOTUNE,
        )
        return views.batch(64).prefetch(2)


def settings_of(preset: str) -> FinetuneConfig:
    """A preset, with what the flags change."""
    given = changes()
    if not PRESETS[preset].training.warmup_epochs:
        given.pop("warmup_epochs", None)
    return overlay(PRESETS[preset], given, "flags")


def trained(
    data: Data, encoder: Encoder, preset: str, folder: Path, seed: int
) -> Objective:
    """Trains as a preset says."""
    has = settings_of(preset)
    learning = dataclasses.replace(has.learning, classes=data.classes)
    objective = make_objective(has.objective, encoder, learning)
    batch = has.training.batch_size
    steps = data.count(data.experiment.train) // batch
    folder.mkdir(parents=True, exist_ok=True)
    batches = data.training(objective.augment, batch, seed)
    Trainer(
        objective,
        has.training,
        batches,
        steps,
        folder,
    ).run(progress=progress_bar)
    return objective


def accuracy(guesses: np.ndarray, labels: np.ndarray, per_class: bool) -> float:
    """Per cent right, over all or as the mean over classes."""
    right = guesses == labels
    return 100 * float(
        np.mean([right[labels == label].mean() for label in np.unique(labels)])
        if per_class
        else right.mean()
    )


def answers(call: Callable, batches: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """What a function gives for all images of (images, labels), and the labels."""
    pairs = [(call(images).numpy(), labels.numpy()) for images, labels in batches]
    given, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return given, labels


def measure(objective: Objective, data: Data, image_size: int) -> float:
    """Top-1 accuracy of an objective's classifier on the test split."""

    @tf.function
    def guess(images):
        features = objective.encoder(images)
        if objective.projection_head is not None:
            features = objective.projection_head(features)
        return tf.argmax(objective.classifier(features), axis=1, output_type=tf.int32)

    guesses, labels = answers(guess, data.testing(data.experiment.test, image_size))
    return accuracy(guesses, labels, data.experiment.per_class)


def embedded(encoder: Encoder, data: Data, image_size: int) -> list[np.ndarray]:
    """Features and labels of the training images, then of the test images."""
    embed = tf.function(lambda images: encoder(images))
    experiment = data.experiment
    return [
        array
        for split in (experiment.train, experiment.test)
        for array in answers(embed, data.testing(split, image_size))
    ]


def logistic(encoder: Encoder, data: Data, image_size: int, seed: int) -> float:
    """L2-regularised logistic regression on embeddings; its strength is chosen on a
    fifth of the training examples (B.8).
    """
    features, labels, test_features, test_labels = embedded(encoder, data, image_size)
    held_out = np.random.default_rng(seed).random(len(labels)) < 0.2

    def fitted(strength: float, rows: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=1000).fit(
            features[rows], labels[rows]
        )

    best = max(
        np.logspace(-6, 5, 12),
        key=lambda c: fitted(c, ~held_out).score(features[held_out], labels[held_out]),
    )
    guesses = fitted(best, np.ones(len(labels), bool)).predict(test_features)
    return accuracy(guesses, test_labels, data.experiment.per_class)


def pretrained(
    data: Data, encoder: Encoder, experiment: Experiment, folder: Path, seed: int
) -> Pretraining:
    """Pretrains, and measures the features as the official code's were."""
    objective = trained(data, encoder, experiment.preset, folder, seed)
    size = objective.config.augment.image_size
    sets = embedded(encoder, data, size)
    told = Pretraining(
        beside_official.curves_of(folder),
        beside_official.linear_accuracy(*sets),
        beside_official.knn_accuracy(*sets),
    )
    write_json(folder / PRETRAINING, dataclasses.asdict(told))
    return told


def run(
    name: str, experiment: Experiment, data: Data, folder: Path, seed: int
) -> float:
    """One experiment's number; only what was trained and measured here."""
    keras.utils.set_random_seed(seed)
    has = settings_of(experiment.preset)
    pretrains = experiment.protocol == "pretrain"
    weights = (
        "random"
        if pretrains
        else str(local_saved_model(FLAGS.checkpoint))
        if is_remote(FLAGS.checkpoint)
        else FLAGS.checkpoint
    )
    encoder = make_encoder(
        EncoderConfig(has.encoder.name if pretrains else FLAGS.encoder, weights)
    )
    size = has.learning.augment.image_size
    if experiment.protocol == "logistic":
        return logistic(encoder, data, size, seed)
    preset, target = experiment.preset, folder / name
    if pretrains:
        pretrained(data, encoder, experiment, target, seed)
        preset, target = experiment.then, folder / f"{name}_linear"
    objective = trained(data, encoder, preset, target, seed)
    return measure(objective, data, size)


def check_version(experiment: Experiment) -> None:
    """Refuses to set a checkpoint of one paper beside numbers of the other."""
    for version, other in (("v1", "v2"), ("v2", "v1")):
        if (
            experiment.protocol != "pretrain"
            and experiment.source.startswith(version)
            and f"simclr{other}/" in FLAGS.checkpoint
        ):
            raise ValueError(
                f"--checkpoint is one of {other}; the number is of {version}"
            )


def chosen() -> dict[str, Experiment]:
    """The experiments that were asked for."""
    unknown = set(FLAGS.experiments) - set(EXPERIMENTS)
    if unknown:
        raise SystemExit(
            f"paper: experiments must be of {', '.join(EXPERIMENTS)}; got "
            f"{', '.join(sorted(unknown))}"
        )
    return {name: EXPERIMENTS[name] for name in FLAGS.experiments or EXPERIMENTS}


def changes() -> dict[str, Any]:
    """What the flags change of the papers' settings."""
    names = ("epochs", "batch_size", "image_size")
    given = {name: FLAGS[name].value for name in names if FLAGS[name].value}
    if FLAGS.warmup_epochs >= 0:
        given["warmup_epochs"] = FLAGS.warmup_epochs
    return given


class Runs:
    """The results of all experiments and seeds below a folder."""

    def __init__(self, folder: Path, chief: bool):
        self.folder, self.chief = folder, chief
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "results.jsonl"
        lines = self.file.read_text().splitlines() if self.file.is_file() else []
        self.rows = [json.loads(line) for line in lines]

    def settings(self, seed: int) -> dict[str, Any]:
        """What decides a result, beside code and data."""
        names = ("encoder", "checkpoint", "epochs", "batch_size", "image_size")
        given = {name: FLAGS[name].value for name in names}
        return {**given, **changes(), "seed": seed}

    def dir(self, seed: int) -> Path:
        """Where a run keeps its checkpoints: those of other settings apart."""
        text = json.dumps(self.settings(seed), sort_keys=True)
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:12]

    def result(self, name: str, seed: int) -> dict[str, Any] | None:
        """The line of an experiment, if it was measured."""
        settings = self.settings(seed)
        for row in self.rows:
            if row["experiment"] == name and row["settings"] == settings:
                return row
        return None

    def measure(self, name: str, experiment: Experiment, seed: int) -> None:
        """Runs an experiment, if it hasn't been."""
        known = self.result(name, seed)
        if known is not None:
            self.check_same_data(known, Data.if_there(experiment))
            return
        data = Data(experiment)
        figure = run(name, experiment, data, self.dir(seed), seed)
        row = {
            "experiment": name,
            "accuracy": figure,
            "examples": data.count(experiment.train),
            "settings": self.settings(seed),
            "provenance": provenance(seed),
        }
        self.rows.append(row)
        if self.chief:
            with open(self.file, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def check_same_data(self, known: dict[str, Any], data: Data | None) -> None:
        """Refuses to take a result of other data for one of what is there."""
        if data is None or "examples" not in known:
            return
        examples = data.count(data.experiment.train)
        if known["examples"] != examples:
            raise SystemExit(
                f"paper: {self.file} holds {known['experiment']} on "
                f"{known['examples']:,} training examples, and there are "
                f"{examples:,}; choose another --dir"
            )

    def pretrainings(self, name: str) -> list[Pretraining]:
        """What pretraining came to, of the seeds that there are."""
        paths = [self.dir(seed) / name / PRETRAINING for seed in seeds()]
        return [
            Pretraining(**json.loads(path.read_text()))
            for path in paths
            if path.is_file()
        ]


def seeds() -> range:
    """Those that were asked for."""
    return range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)


def attempt(
    runs: Runs, name: str, experiment: Experiment, strategy: tf.distribute.Strategy
) -> str:
    """An experiment's cell of the table: our figure, or why there is none."""
    try:
        for seed in seeds():
            check_version(experiment)
            with strategy.scope():
                runs.measure(name, experiment, seed)
    except NOT_RUN as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = first if experiment.dataset else "not in tensorflow-datasets"
        print(f"{name}: not run: {reason}", flush=True)
    found = [runs.result(name, seed) for seed in seeds()]
    figures = [row["accuracy"] for row in found if row is not None]
    if not figures:
        expected = hours(experiment, settings_of(experiment.preset)) / (
            FLAGS.views_per_second
        )
        can_run = experiment.dataset and expected
        return f"not run; {in_words(3600 * expected)}" if can_run else "not run"
    if len(figures) == 1:
        return f"{figures[0]:.1f}"
    return f"{np.mean(figures):.1f} [{min(figures):.1f}, {max(figures):.1f}]"


def beside(runs: Runs, name: str, experiment: Experiment) -> list[str]:
    """Draws pretraining's curves, beside the official ones where those are of the same
    settings; says how far apart they are.
    """
    ours = runs.pretrainings(name)
    if not ours:
        return []
    settings, theirs = beside_official.official()
    has = settings_of(experiment.preset)
    row = next(filter(None, (runs.result(name, seed) for seed in seeds())), {})
    data = Data.if_there(experiment)
    same = settings == {
        "examples": data.count(experiment.train) if data else row.get("examples"),
        "encoder": has.encoder.name,
        "batch_size": has.training.batch_size,
        "epochs": has.training.epochs,
        "warmup_epochs": has.training.warmup_epochs,
    }
    path = runs.folder / f"{name}.png"
    beside_official.draw(ours, theirs if same else None, path)
    lines = beside_official.in_words(ours, theirs) if same else []
    return [*lines, f"Curves: {path}"]


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    strategy = make_strategy(FLAGS.strategy, FLAGS.tpu)
    runs = Runs(Path(FLAGS.dir), chief=worker_of(strategy)[0] == 0)
    changed = ", ".join(f"{name} {value:g}" for name, value in changes().items())
    lines = [
        f"Started from {FLAGS.encoder}, {FLAGS.checkpoint}; pretraining from random "
        f"weights. Seeds {', '.join(map(str, seeds()))}; mean [lowest, highest] of "
        f"several. Hours to expect: where ResNet-50 trains at 224 pixels with "
        f"{FLAGS.views_per_second:g} views a second.\n",
        f"| experiment | published | ours{f' ({changed})' if changed else ''} |",
        "| --- | --- | --- |",
    ]
    pretrained = []
    for name, experiment in chosen().items():
        ours = attempt(runs, name, experiment, strategy)
        published = f"{experiment.published} ({experiment.source})"
        lines.append(f"| {experiment.title} | {published} | {ours} |")
        if experiment.protocol == "pretrain" and runs.chief:
            pretrained += beside(runs, name, experiment)
    if runs.chief:
        (runs.folder / "results.md").write_text("\n".join(lines) + "\n")
        print("\n" + "\n".join([*lines, "", *pretrained]))


if __name__ == "__main__":
    app.run(main)
