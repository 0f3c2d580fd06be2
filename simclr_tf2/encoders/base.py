"""The one interface of all encoders: an image network cut at its second-to-last layer.

Every encoder takes float32 RGB in [0, 1] and does its own preprocessing inside, so that
no caller can get it wrong.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from artifacts.files import whole_file, write_json
from simclr_tf2.config import EncoderConfig
from simclr_tf2.encoders.resnet import ResNetConfig

if TYPE_CHECKING:
    from simclr_tf2.encoders.saved_model import LoadedModel


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
        architecture: of a SimCLR ResNet, whose blocks can be frozen; None of any other
            network.
        weights_file: name of what `save` writes.
    """

    def __init__(
        self,
        config: EncoderConfig,
        model: keras.Model | LoadedModel,
        features: str,
        *,
        projection_head: keras.Model | None = None,
        architecture: ResNetConfig | None = None,
        weights_file: str = "encoder.weights.h5",
    ):
        self.config, self.model, self.features, self.projection_head = (
            config,
            model,
            features,
            projection_head,
        )
        self.architecture, self.weights_file = architecture, weights_file
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


def load_keras_weights(model: keras.Model, path: str, name: str) -> None:
    """Loads a Keras weights file; layers that keep their initial weights are an
    error, which Keras only warns of.
    """
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
