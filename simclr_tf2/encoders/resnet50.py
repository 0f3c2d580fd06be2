"""ResNet-50 of keras.applications, with its ImageNet weights."""

from __future__ import annotations

import keras
import tensorflow as tf

from simclr_tf2.batch_norm import FusedBatchNormalization
from simclr_tf2.config import IMAGENET, RANDOM, EncoderConfig
from simclr_tf2.encoders.applications import downloaded
from simclr_tf2.encoders.base import Blocks, Encoder, load_keras_weights

# The last blocks of the stages from a stride of 8 on; avg_pool is the last one's mean.
_STAGES = {
    "stage3": "conv3_block4_out",
    "stage4": "conv4_block6_out",
    "stage5": "conv5_block3_out",
}


@keras.saving.register_keras_serializable("simclr_tf2")
class CaffePreprocessing(keras.layers.Layer):
    """RGB in [0, 1] -> BGR in [0, 255] with ImageNet's mean taken off, as
    keras.applications' ResNet-50 expects.
    """

    def call(self, images):
        """RGB in [0, 1] -> BGR less the mean."""
        return tf.reverse(images * 255.0, [-1]) - tf.constant(
            [103.939, 116.779, 123.68], images.dtype
        )

    def compute_output_shape(self, input_shape):
        """That of the input."""
        return input_shape


def make(config: EncoderConfig) -> Encoder:
    """The encoder: ImageNet weights by download, from a file, or random."""
    weights = config.weights
    network = keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg"
    )
    if weights == IMAGENET:
        file = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
        trained = downloaded(keras.applications.ResNet50, "resnet50", file)
        network.set_weights(trained.get_weights())
    elif weights != RANDOM and not weights.endswith(".weights.h5"):
        load_keras_weights(network, weights, "resnet50 (include_top=False)")
    ends = [network.get_layer(name).output for name in _STAGES.values()]
    ends.append(network.output)
    network = keras.Model(network.input, ends, name=network.name)
    fused = keras.models.clone_model(network, clone_function=_fuse_batch_norm)
    fused.set_weights(network.get_weights())
    inputs = keras.Input((None, None, 3), name="image")
    found = fused(CaffePreprocessing(name="preprocess")(inputs))
    outputs = dict(zip((*_STAGES, "avg_pool"), found, strict=True))
    model = keras.Model(inputs, outputs, name="resnet50")
    if weights.endswith(".weights.h5"):
        load_keras_weights(model, weights, "resnet50")
    return Encoder(config, model, "avg_pool", blocks=Blocks(_group_of, 4, early=1))


def _group_of(layer: str) -> int:
    """The block group of a layer, by its name, such as conv2_block1_1_conv."""
    return int(layer.removeprefix("conv")[0]) - 1


def _fuse_batch_norm(layer: keras.Layer) -> keras.Layer:
    config = layer.get_config()
    if type(layer) is keras.layers.BatchNormalization:
        return FusedBatchNormalization.from_config(
            {**config, "momentum": 0.9, "synchronized": True}
        )
    return type(layer).from_config(config)
