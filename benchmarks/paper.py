"""The evaluations of the SimCLR papers, on the data that you have.

    python -m benchmarks.paper --data_dir=~/tensorflow_datasets --checkpoint=gs://.../simclrv2/pretrained/r50_1x_sk0/saved_model
    python -m benchmarks.paper --experiments=cifar10_pretrain --dir=runs/paper

Data comes from tensorflow-datasets, prepared beforehand (`tfds build cifar10`); nothing
is downloaded here. An experiment whose data isn't there is listed as not run. Settings
are the papers' (simclr_tf2/presets.py); --epochs, --batch_size and --image_size change
them for all experiments, and the table says so. Every result is a line of
results.jsonl; a killed run goes on.

Ends with a table of the published number and ours, in results.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from sklearn.linear_model import LogisticRegression

from artifacts.progress import progress_bar
from artifacts.provenance import provenance
from curation.config import FinetuneConfig, overlay
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
flags.DEFINE_enum("strategy", "default", STRATEGIES, "One device or many.")
flags.DEFINE_string("tpu", "", "Name or address of the TPU.")
flags.DEFINE_integer("seed", 0, "Of everything random.", lower_bound=0)

SHUFFLE = 20_000  # examples that are shuffled among themselves
V1, V2 = "v1, table B.4", "v2, README of the official code"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A number of a paper.

    Attributes:
        title: what was measured.
        dataset: its name in tensorflow-datasets; "" if it has none.
        train, test: splits.
        protocol: "preset" trains as the preset says; "pretrain" does, and then trains a
            linear classifier as `then` says; "logistic" fits a logistic regression to
            the embeddings.
        preset, then: see simclr_tf2/presets.py.
        published: top-1 accuracy, per cent, of ResNet-50 1x unless the title says
            otherwise.
        source: of the number.
        per_class: whether it is the mean over classes.
    """

    title: str
    dataset: str
    train: str
    test: str
    protocol: str
    preset: str
    published: float
    source: str
    then: str = ""
    per_class: bool = False


def _transfer(
    title: str,
    dataset: str,
    train: str,
    test: str,
    *,
    linear: float,
    tuned: float,
    per_class: bool = False,
) -> dict:
    source = "v1, table B.5"
    key = title.lower().replace(" ", "").replace("-", "")
    figures = {
        "logistic": ("linear", "logistic", "imagenet_linear", linear),
        "finetuned": ("fine-tuned", "preset", "transfer", tuned),
    }
    return {
        f"{key}_{name}": Experiment(
            f"{title}, {words}",
            dataset,
            train,
            test,
            protocol,
            preset,
            published,
            source,
            "",
            per_class,
        )
        for name, (words, protocol, preset, published) in figures.items()
    }


EXPERIMENTS: dict[str, Experiment] = {
    "imagenet_linear_v1": Experiment(
        "ImageNet, linear evaluation, v1",
        "imagenet2012",
        "train",
        "validation",
        "preset",
        "imagenet_linear",
        69.3,
        V1,
    ),
    "imagenet_linear_v2": Experiment(
        "ImageNet, linear evaluation, v2",
        "imagenet2012",
        "train",
        "validation",
        "preset",
        "imagenet_linear",
        71.7,
        V2,
    ),
    "imagenet_1pct_v1": Experiment(
        "ImageNet, 1 % of labels, v1",
        "imagenet2012_subset/1pct",
        "train",
        "validation",
        "preset",
        "v1_imagenet_1pct",
        48.3,
        V1,
    ),
    "imagenet_10pct_v1": Experiment(
        "ImageNet, 10 % of labels, v1",
        "imagenet2012_subset/10pct",
        "train",
        "validation",
        "preset",
        "v1_imagenet_10pct",
        65.6,
        V1,
    ),
    "imagenet_1pct_v2": Experiment(
        "ImageNet, 1 % of labels, v2",
        "imagenet2012_subset/1pct",
        "train",
        "validation",
        "preset",
        "v2_imagenet_1pct",
        57.9,
        V2,
    ),
    "imagenet_10pct_v2": Experiment(
        "ImageNet, 10 % of labels, v2",
        "imagenet2012_subset/10pct",
        "train",
        "validation",
        "preset",
        "v2_imagenet_10pct",
        68.4,
        V2,
    ),
    "cifar10_pretrain": Experiment(
        "CIFAR-10, pretrained there, linear evaluation; published: ResNet-18, about",
        "cifar10",
        "train",
        "test",
        "pretrain",
        "cifar10_pretrain",
        91.0,
        "README of the official code",
        then="cifar10_linear",
    ),
    **_transfer(
        "Flowers",
        "oxford_flowers102",
        "train+validation",
        "test",
        linear=91.2,
        tuned=97.0,
        per_class=True,
    ),
    **_transfer(
        "Pets",
        "oxford_iiit_pet",
        "train",
        "test",
        linear=83.6,
        tuned=89.2,
        per_class=True,
    ),
    **_transfer("CIFAR-10", "cifar10", "train", "test", linear=90.6, tuned=97.7),
    **_transfer("CIFAR-100", "cifar100", "train", "test", linear=71.6, tuned=85.9),
    **_transfer("DTD", "dtd", "train+validation", "test", linear=74.5, tuned=73.2),
    **_transfer("Cars", "cars196", "train", "test", linear=50.3, tuned=91.3),
    # tensorflow-datasets has no such set
    **_transfer(
        "Aircraft", "", "train", "test", linear=50.3, tuned=88.1, per_class=True
    ),
    **_transfer("Food", "food101", "train", "validation", linear=68.4, tuned=88.2),
}


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
        self, augment: Callable, batch_size: int
    ) -> Callable[[int, int], tf.data.Dataset]:
        """The batches of an epoch, a function of (seed, epoch) alone; see
        `simclr_tf2.finetune.Trainer`.
        """
        strategy = tf.distribute.get_strategy()
        worker, workers = worker_of(strategy)

        def batches(epoch: int, start: int) -> tf.data.Dataset:
            def view(index, example):
                key = tf.random.experimental.stateless_fold_in(
                    tf.constant([FLAGS.seed, epoch], tf.int32), tf.cast(index, tf.int32)
                )
                return augment(example[0], key), example[1]

            order = int(np.random.default_rng([FLAGS.seed, epoch]).integers(2**31))
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
    names = ("epochs", "batch_size", "image_size")
    changes = {name: FLAGS[name].value for name in names if FLAGS[name].value}
    return overlay(PRESETS[preset], changes, "flags")


def trained(data: Data, encoder: Encoder, preset: str, folder: Path) -> Objective:
    """Trains as a preset says."""
    has = settings_of(preset)
    learning = dataclasses.replace(has.learning, classes=data.classes)
    objective = make_objective(has.objective, encoder, learning)
    batch = has.training.batch_size
    steps = data.count(data.experiment.train) // batch
    folder.mkdir(parents=True, exist_ok=True)
    batches = data.training(objective.augment, batch)
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


def measure(objective: Objective, data: Data, image_size: int) -> float:
    """Top-1 accuracy of an objective's classifier on the test split."""

    @tf.function
    def guess(images):
        features = objective.encoder(images)
        if objective.projection_head is not None:
            features = objective.projection_head(features)
        return tf.argmax(objective.classifier(features), axis=1, output_type=tf.int32)

    pairs = [
        (guess(images).numpy(), labels.numpy())
        for images, labels in data.testing(data.experiment.test, image_size)
    ]
    guesses, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return accuracy(guesses, labels, data.experiment.per_class)


def logistic(encoder: Encoder, data: Data, image_size: int) -> float:
    """L2-regularised logistic regression on embeddings; its strength is chosen on a
    fifth of the training examples (B.8).
    """
    embed = tf.function(lambda images: encoder(images))

    def embedded(split: str) -> tuple[np.ndarray, np.ndarray]:
        pairs = [
            (embed(images).numpy(), labels.numpy())
            for images, labels in data.testing(split, image_size)
        ]
        features, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
        return features, labels

    features, labels = embedded(data.experiment.train)
    held_out = np.random.default_rng(FLAGS.seed).random(len(labels)) < 0.2

    def fitted(strength: float, rows: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=1000).fit(
            features[rows], labels[rows]
        )

    best = max(
        np.logspace(-6, 5, 12),
        key=lambda c: fitted(c, ~held_out).score(features[held_out], labels[held_out]),
    )
    test_features, test_labels = embedded(data.experiment.test)
    guesses = fitted(best, np.ones(len(labels), bool)).predict(test_features)
    return accuracy(guesses, test_labels, data.experiment.per_class)


def run(name: str, experiment: Experiment, data: Data, folder: Path) -> float:
    """One experiment's number; only what was trained and measured here."""
    keras.utils.set_random_seed(FLAGS.seed)
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
    if experiment.protocol == "logistic":
        return logistic(encoder, data, has.learning.augment.image_size)
    objective = trained(data, encoder, experiment.preset, folder / name)
    if pretrains:
        objective = trained(data, encoder, experiment.then, folder / f"{name}_linear")
    return measure(objective, data, has.learning.augment.image_size)


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


def chosen() -> Iterator[tuple[str, Experiment]]:
    """The experiments that were asked for."""
    unknown = set(FLAGS.experiments) - set(EXPERIMENTS)
    if unknown:
        raise SystemExit(
            f"paper: experiments must be of {', '.join(EXPERIMENTS)}; got "
            f"{', '.join(sorted(unknown))}"
        )
    yield from ((name, EXPERIMENTS[name]) for name in FLAGS.experiments or EXPERIMENTS)


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    strategy = make_strategy(FLAGS.strategy, FLAGS.tpu)
    chief = worker_of(strategy)[0] == 0
    folder = Path(FLAGS.dir)
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.jsonl"
    asked = {
        name: FLAGS[name].value
        for name in (
            "encoder",
            "checkpoint",
            "epochs",
            "batch_size",
            "image_size",
            "seed",
        )
    }
    rows = (
        [json.loads(line) for line in results.read_text().splitlines()]
        if results.is_file()
        else []
    )
    done = {
        row["experiment"]: row["accuracy"] for row in rows if row["settings"] == asked
    }
    runs = (
        folder
        / hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
    )  # checkpoints of other settings apart
    start = (
        f"Started from {FLAGS.encoder}, {FLAGS.checkpoint}; pretraining from random "
        "weights.\n"
    )
    changed = ", ".join(
        f"{name} {asked[name]}"
        for name in ("epochs", "batch_size", "image_size")
        if asked[name]
    )
    lines = [
        start,
        f"| experiment | published | ours{f' ({changed})' if changed else ''} |",
        "| --- | --- | --- |",
    ]
    for name, experiment in chosen():
        if name not in done:
            try:
                check_version(experiment)
                with strategy.scope():
                    data = Data(experiment)
                    figure = run(name, experiment, data, runs)
            except (
                ImportError,
                AssertionError,
                ValueError,
                OSError,
                RuntimeError,
                tf.errors.OpError,
            ) as error:
                reason = (
                    str(error).strip().splitlines()[0]
                    if experiment.dataset
                    else "not in tensorflow-datasets"
                )
                print(f"{name}: not run: {reason}", flush=True)
            else:
                done[name] = figure
                row = {
                    "experiment": name,
                    "accuracy": figure,
                    "settings": asked,
                    "provenance": provenance(FLAGS.seed),
                }
                if chief:
                    with open(results, "a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
        ours = f"{done[name]:.1f}" if name in done else "not run"
        lines.append(
            f"| {experiment.title} | {experiment.published} ({experiment.source}) | "
            f"{ours} |"
        )
    if chief:
        (folder / "results.md").write_text("\n".join(lines) + "\n")
        print("\n" + "\n".join(lines))


if __name__ == "__main__":
    app.run(main)
