"""Views a second in contrastive training of EfficientNet-Lite0, against the step of
version 0.5.0, in one process.

    python -m benchmarks.training_speed --data=<folder> --sizes=96,128

Four steps are timed at a time, with the pipeline that feeds them, for each variant in
turn, several times over; the ratio within a round is what counts, since machines
differ and are shared. Variants: `0.5.0` trains all layers, with Keras's depthwise
convolution; `all layers` does so with this project's; `as now` freezes the early ones,
which is the default.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from curation.config import FinetuneConfig
from data.crop_cache import CropCache
from data.crop_table import CropTable
from data.formats.registry import read_source
from data.images import CropWindow
from data.pipeline import SOURCE_SCALE, training_batches
from simclr_tf2.config import EARLY_FROZEN, NOTHING_FROZEN, EncoderConfig, TrainerConfig
from simclr_tf2.encoders import efficientnet_lite
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.objectives import make_objective
from simclr_tf2.trainer import Trainer

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "data", None, "Images, as run_finetune.py takes them.", required=True
)
flags.DEFINE_list("sizes", ["96", "128"], "Sides of the views, in pixels.")
flags.DEFINE_integer("batch_size", 128, "Crops a step, of two views each.")
flags.DEFINE_integer("repetitions", 5, "Rounds over all variants.")

OURS = efficientnet_lite.DepthwiseConv2D
# Name -> (depthwise convolution, what is frozen).
VARIANTS = {
    "0.5.0": (keras.layers.DepthwiseConv2D, NOTHING_FROZEN),
    "all layers": (OURS, NOTHING_FROZEN),
    "as now": (OURS, EARLY_FROZEN),
}


def trainer_of(variant: str, crops: CropTable, size: int, folder: Path) -> Trainer:
    """A trainer whose steps can be timed."""
    convolution, frozen = VARIANTS[variant]
    efficientnet_lite.DepthwiseConv2D = convolution  # type: ignore[misc]
    encoder = make_encoder(EncoderConfig())
    efficientnet_lite.DepthwiseConv2D = OURS  # type: ignore[misc]
    learning = FinetuneConfig().learning
    augment = dataclasses.replace(learning.augment, image_size=size)
    goal = make_objective(
        "contrastive",
        encoder,
        dataclasses.replace(learning, augment=augment, freeze_through_block=frozen),
    )
    cache = CropCache(folder / "crops", crops, SOURCE_SCALE * size, CropWindow())

    def batches(epoch: int, start: int) -> tf.data.Dataset:
        return training_batches(
            cache,
            goal.augment,
            FLAGS.batch_size,
            seed=0,
            epoch=epoch,
            start_batch=start,
        )

    settings = TrainerConfig(1, FLAGS.batch_size)
    steps = len(crops) // FLAGS.batch_size
    return Trainer(goal, settings, batches, steps, folder)


def measured(steps: dict[str, Callable[[], float]], size: int) -> list[str]:
    """A line of the table for each variant."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(FLAGS.repetitions):
        for name, step in steps.items():
            seconds[name].append(step())
        told = ", ".join(f"{name} {each[-1]:.2f} s" for name, each in seconds.items())
        print(f"{size} px, {number + 1}: {told}", flush=True)
    first = np.array(next(iter(seconds.values())))
    lines = []
    for name, each in seconds.items():
        ratios = first / np.array(each)
        lines.append(
            f"| {size} | {name} | {2 * FLAGS.batch_size / np.median(each):.0f} | "
            f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f}) |"
        )
    return lines


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    crops, _ = read_source(FLAGS.data)
    lines = ["| px | variant | views/s | times 0.5.0 |", "| --- | --- | --- | --- |"]
    for size in map(int, FLAGS.sizes):
        with tempfile.TemporaryDirectory() as folder:
            steps = {
                name: trainer_of(name, crops, size, Path(folder)).seconds_per_step
                for name in VARIANTS
            }
            lines += measured(steps, size)
    print("\n".join(lines))


if __name__ == "__main__":
    app.run(main)
