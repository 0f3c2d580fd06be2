"""A network that makes tests short."""

from __future__ import annotations

import keras

from simclr_tf2.batch_norm import FusedBatchNormalization
from simclr_tf2.config import IMAGENET, RANDOM, EncoderConfig
from simclr_tf2.encoders.base import Encoder, load_keras_weights


def make(config: EncoderConfig) -> Encoder:
    """A small convolutional network, for tests and for trying the tools out: it has no
    pretrained weights.
    """
    weights = config.weights
    if weights == IMAGENET:
        raise ValueError(
            f"encoder 'tiny' has no ImageNet weights; weights must be '{RANDOM}' or a "
            "file"
        )
    inputs = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(2.0, -1.0, name="preprocess")(inputs)
    ends = {}
    for block, filters in enumerate((16, 32, 64)):
        x = keras.layers.Conv2D(
            filters, 3, 2, "same", use_bias=False, name=f"conv{block}"
        )(x)
        x = ends[f"stage{block}"] = keras.layers.ReLU()(
            FusedBatchNormalization(momentum=0.9, name=f"bn{block}")(x)
        )
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool", dtype="float32")(x)
    ends["avg_pool"] = x
    model = keras.Model(inputs, ends, name="tiny")
    if weights != RANDOM:
        load_keras_weights(model, weights, "tiny")
    return Encoder(config, model, "avg_pool")
