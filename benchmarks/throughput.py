"""How much of the encoder's speed survives reading, decoding and cutting: embedding
against the bare forward pass.

    python -m benchmarks.throughput --data=<folder> --image_size=224

Both are measured in turn in one process, several times; the ratio of each pair is what
counts, since machines differ.
"""

from __future__ import annotations

import os
import time

import numpy as np
from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from curation.config import RECIPES
from data.formats.registry import read_source
from data.images import CropWindow
from data.pipeline import Unreadable, embed_crops
from simclr_tf2.config import EncoderConfig
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.registry import make_encoder

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "data", None, "Images, as run_finetune.py takes them.", required=True
)
flags.DEFINE_string("encoder", "efficientnet_lite0", "Network.")
flags.DEFINE_string("weights", "imagenet", "Its weights.")
flags.DEFINE_enum("recipe", "fast", list(RECIPES), "What is read from it.")
flags.DEFINE_integer("image_size", 224, "Side of the crops.")
flags.DEFINE_integer("batch_size", 64, "Crops a step.")
flags.DEFINE_integer("crops", 1024, "Crops a repetition, at most.")
flags.DEFINE_integer("repetitions", 7, "Pairs of measurements.")


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    table, _ = read_source(FLAGS.data)
    table = table.take(
        np.arange(min(FLAGS.crops, len(table)) // FLAGS.batch_size * FLAGS.batch_size)
    )
    encoder = make_encoder(EncoderConfig(FLAGS.encoder, FLAGS.weights))
    embed = Embedder(encoder, *RECIPES[FLAGS.recipe].read).embed
    shape = (FLAGS.batch_size, FLAGS.image_size, FLAGS.image_size, 3)
    resident = tf.cast(tf.random.uniform(shape, 0, 256, tf.int32), tf.uint8)

    def bare() -> float:
        start = time.perf_counter()
        for _ in range(len(table) // FLAGS.batch_size):
            embed(resident)
        return len(table) / (time.perf_counter() - start)

    def whole() -> float:
        start = time.perf_counter()
        batches = embed_crops(
            table,
            embed,
            FLAGS.image_size,
            FLAGS.batch_size,
            unreadable=Unreadable(),
            view=CropWindow(),
        )
        rows = sum(len(valid) for _, valid, _ in batches)
        return rows / (time.perf_counter() - start)

    bare(), whole()  # the first calls trace and warm the file cache
    ratios = []
    for number in range(FLAGS.repetitions):
        forward, embedding = bare(), whole()
        ratios.append(embedding / forward)
        print(
            f"{number + 1}: forward {forward:7.1f}/s   embedding {embedding:7.1f}/s   "
            f"ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(
        f"ratio, median of {len(ratios)}: {np.median(ratios):.3f} (from "
        f"{min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    app.run(main)
