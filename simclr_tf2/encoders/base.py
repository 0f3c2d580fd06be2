"""The one interface of all encoders: an image network cut at its second-to-last layer.
What becomes of its outputs when crops are embedded is `simclr_tf2.encoders.embedder`'s.

Every encoder takes float32 RGB in [0, 1] and does its own preprocessing inside, so that
no caller can get it wrong.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from artifacts.files import whole_file, write_json
from simclr_tf2.config import EncoderConfig
from simclr_tf2.encoders.resnet import ResNetConfig

if TYPE_CHECKING:
    from simclr_tf2.encoders.saved_model import LoadedModel


# What the outputs of a network's stages are called, from a stride of 8 on. SimCLR's
# block groups have their official names.
_STAGE = re.compile(r"stage\d+|block_group[2-4]")
MADE_OF = "made_of"  # in encoder.json


@dataclass(frozen=True)
class Blocks:
    """How a network's layers form blocks, of which the first can be frozen.

    Attributes:
        of: name of a layer that has weights -> its block; 0 is the stem.
        last: the last block.
        early: the last one before a stride of 8.
    """

    of: Callable[[str], int]
    last: int
    early: int


class Encoder:
    """A network from images to embeddings.

    Attributes:
        config: how it was made.
        model: keras.Model or LoadedModel, float32 [batch, height, width, 3] in [0, 1]
            -> the features [batch, width], or a dict of endpoints with the features
            among them.
        features: name of the second-to-last layer, which training builds on.
        stages: names of the outputs of its stages, of one resolution each or more,
            from a stride of 8 on; () of a network that gives none.
        top: name of the output whose mean over height and width the features are; ""
            of a network that doesn't give it.
        width: of the features.
        widths: number of channels of every output, by its name.
        projection_head: one that came with the weights, or None.
        architecture: of a SimCLR ResNet; None of any other network.
        blocks: which of its layers can be frozen together; None of a network that is
            trained as a whole.
        weights_file: name of what `save` writes.
        made_of: what encoder.json says of an architecture that its name doesn't.
        text: texts -> float32 [texts, width], vectors of the same space as the
            features; None of a network without a text tower.

    Beside these it takes `whole`, what `save` writes of a network that came as a
    `.keras` file.
    """

    def __init__(
        self,
        config: EncoderConfig,
        model: keras.Model | LoadedModel,
        features: str,
        *,
        projection_head: keras.Model | None = None,
        architecture: ResNetConfig | None = None,
        blocks: Blocks | None = None,
        weights_file: str = "encoder.weights.h5",
        made_of: Mapping[str, Any] | None = None,
        text: Callable[[Sequence[str]], np.ndarray] | None = None,
        whole: keras.Model | None = None,
    ):
        self.config, self.model, self.features, self.projection_head = (
            config,
            model,
            features,
            projection_head,
        )
        self.architecture, self.weights_file = architecture, weights_file
        self.blocks, self.made_of, self.text = blocks, dict(made_of or {}), text
        self._whole = whole
        output = model.output  # of a LoadedModel, what its function says it returns
        shapes = {
            name: end.shape
            for name, end in (
                output if isinstance(output, dict) else {features: output}
            ).items()
        }
        self.stages = tuple(sorted(filter(_STAGE.fullmatch, shapes)))
        self.top = "top" if "top" in shapes else "".join(self.stages[-1:])
        self.widths = {name: int(shape[-1]) for name, shape in shapes.items()}
        self.width = self.widths[features]

    @property
    def trainable_variables(self) -> list:
        """The variables that training may move."""
        return self.model.trainable_variables

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

    def content_hash(self, read: str = "") -> str:
        """SHA-256 over architecture and weights: two encoders with the same hash give
        the same outputs.

        Args:
            read: which outputs, and how, are part of the hash; default: the features.
        """
        named = f"{self.config.name}/{read or self.features}"
        digest = hashlib.sha256(named.encode())
        for variable in self.model.weights:
            digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
        return digest.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Writes the weights into a folder as a Keras `.weights.h5` file (a network
        that came as a `.keras` file as one), and encoder.json, which says how to make
        the encoder.

        A LoadedModel has no such file; it is exported instead.
        """
        facts: dict[str, Any] = {
            "name": self.config.name,
            "weights": self.weights_file,
            "endpoint": self.features,
            "hash": self.content_hash(),
        }
        if self.made_of:
            facts[MADE_OF] = self.made_of
        write_json(Path(folder) / "encoder.json", facts)
        file = Path(folder) / self.weights_file
        write = self._whole.save if self._whole else None
        if write is None and isinstance(self.model, keras.Model):
            write = self.model.save_weights
        if write is not None:
            with whole_file(file) as partial:
                write(partial)


def leaves(model: keras.Layer) -> Iterator[keras.Layer]:
    """The layers of a network, those of the networks in it among them."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield layer


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
