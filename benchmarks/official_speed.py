"""A pretraining step here against the official code's, on the same machine,
architecture and batch.

    git clone https://github.com/google-research/simclr
    python -m venv official && official/bin/pip install tensorflow tf_keras absl-py
    python -m benchmarks.official_speed --official=simclr/tf2 \\
        --official_python=official/bin/python

Two views a picture, forward, backward, contrastive loss, classifier on detached
features, LARS; no augmentation. Both take turns in processes of their own; the ratio of
each pair is what counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "official", None, "The folder tf2 of the official code.", required=True
)
flags.DEFINE_string(
    "official_python",
    None,
    "A Python with tensorflow, tf_keras and absl-py.",
    required=True,
)
flags.DEFINE_integer("depth", 18, "Of the ResNet.")
flags.DEFINE_integer(
    "image_size", 32, "Up to 32 pixels the stem for small images is used."
)
flags.DEFINE_integer("batch_size", 128, "Pictures a step; twice as many views.")
flags.DEFINE_integer("steps", 4, "Timed steps a repetition.")
flags.DEFINE_integer("repetitions", 3, "Pairs of measurements.")
flags.DEFINE_list(
    "precisions",
    ["float32", "mixed_bfloat16"],
    "Arithmetic of ours; the official code has float32.",
)
flags.DEFINE_string(
    "ours", "", "Internal: time our step in this arithmetic and print seconds a step."
)


def our_steps(precision: str) -> None:
    """Seconds of a step of this project."""
    import keras
    import tensorflow as tf

    from simclr_tf2.augment import AugmentConfig
    from simclr_tf2.config import EncoderConfig
    from simclr_tf2.encoders.registry import make_encoder
    from simclr_tf2.heads import HeadConfig
    from simclr_tf2.objectives import ObjectiveConfig, make_objective
    from simclr_tf2.trainer import Trainer, TrainerConfig

    keras.mixed_precision.set_global_policy(precision)
    small = "_small" if FLAGS.image_size <= 32 else ""
    encoder = make_encoder(EncoderConfig(f"r{FLAGS.depth}_1x_sk0{small}", "random"))
    config = ObjectiveConfig(
        AugmentConfig(FLAGS.image_size),
        10,
        0.5,
        HeadConfig(layers=3, hidden=0),
    )
    total = FLAGS.steps + 2
    images = tf.random.stateless_uniform(
        (2, FLAGS.batch_size, FLAGS.image_size, FLAGS.image_size, 3), (0, 1)
    )
    batch = ((images[0], images[1]), tf.range(FLAGS.batch_size) % 10)
    settings = TrainerConfig(
        1,
        FLAGS.batch_size,
        optimizer="lars",
        learning_rate=1.0,
        learning_rate_scaling="linear",
    )
    times = []

    class Clock:
        """Takes the place of the progress bar, which is told of every step."""

        def __init__(self, **_):
            self.last = time.perf_counter()

        def update(self):
            now = time.perf_counter()
            times.append(now - self.last)
            self.last = now

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def __getattr__(self, _):
            return lambda *_, **__: None

    with tempfile.TemporaryDirectory() as folder:
        goal = make_objective("contrastive", encoder, config)
        dataset = tf.data.Dataset.from_tensors(batch).repeat(total)
        Trainer(goal, settings, lambda *_: dataset, total, Path(folder)).run(
            progress=Clock
        )
    print("\n".join(f"{seconds:.4f}" for seconds in times[2:]))


def seconds(command: list[str]) -> float:
    """Seconds of a step, as a process of its own says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"official_speed: {' '.join(command[:3])} failed:\n{done.stderr[-1500:]}"
        )
    return float(np.median([float(line) for line in done.stdout.split()]))


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    if FLAGS.ours:
        our_steps(FLAGS.ours)
        return
    sizes = [
        f"--depth={FLAGS.depth}",
        f"--size={FLAGS.image_size}",
        f"--batch={FLAGS.batch_size}",
        f"--steps={FLAGS.steps}",
    ]
    official = [
        FLAGS.official_python,
        str(Path(__file__).with_name("official_step.py")),
        f"--official={FLAGS.official}",
        *sizes,
    ]
    own = [sys.executable, "-m", "benchmarks.official_speed", *sys.argv[1:]]
    ratios: dict[str, list[float]] = {precision: [] for precision in FLAGS.precisions}
    for number in range(FLAGS.repetitions):
        theirs = seconds(official)
        line = f"{number + 1}: official {2 * FLAGS.batch_size / theirs:6.1f} views/s"
        for precision in FLAGS.precisions:
            ours = seconds([*own, f"--ours={precision}"])
            ratios[precision].append(theirs / ours)
            rate, ratio = 2 * FLAGS.batch_size / ours, ratios[precision][-1]
            line += f"   {precision} {rate:6.1f} ({ratio:.2f} times)"
        print(line, flush=True)
    for precision, values in ratios.items():
        print(
            f"{precision}: {np.median(values):.2f} times the official code (from "
            f"{min(values):.2f} to {max(values):.2f})"
        )


if __name__ == "__main__":
    app.run(main)
