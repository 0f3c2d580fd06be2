"""What fine-tuning minimises: contrastive, supervised, or a linear head on frozen features.

An objective owns its head, names the variables that train, and turns a batch into a loss. The training loop knows no
more about it than that.
"""

from __future__ import annotations

import abc

import keras
import tensorflow as tf

from simclr_tf2.augment import AugmentConfig, crop_and_flip, two_views
from simclr_tf2.encoders import Encoder
from simclr_tf2.nt_xent import nt_xent


class Objective(abc.ABC):
    """Base class.

    Attributes:
        encoder: the network to fine-tune.
        head: layers on top of the embedding, thrown away after training.
    """

    encoder: Encoder
    head: keras.Model

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The variables that the optimizer moves."""
        return self.encoder.model.trainable_variables + self.head.trainable_variables

    @abc.abstractmethod
    def augment(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """One image, float32 [height, width, 3] in [0, 1], and a seed, int32 [2] -> what `loss` takes, unbatched."""

    @abc.abstractmethod
    def loss(self, augmented, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """A batch -> (loss, accuracy, embeddings): float32 scalars and float32 [rows, width]."""


def _projection_head(width: int, hidden: int, output: int) -> keras.Model:
    """Two dense layers without bias, each with batch norm, ReLU between (SimCLR section 4.2; no offset on the last)."""
    inputs = keras.Input((width,))
    x = keras.layers.Dense(hidden, use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))
    x = keras.layers.Dense(output, use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, center=False, dtype="float32")(x)
    return keras.Model(inputs, x, name="projection_head")


class Contrastive(Objective):
    """SimCLR: two views of a crop must find each other among all views of the batch. Uses no labels."""

    def __init__(
        self, encoder: Encoder, augment: AugmentConfig, temperature: float = 0.1, hidden: int = 512, projection: int = 128
    ):
        self.encoder, self.config, self.temperature = encoder, augment, temperature
        self.head = _projection_head(encoder.width, hidden, projection)

    def augment(self, image, seed):
        return two_views(image, seed, self.config)

    def loss(self, augmented, labels):
        embeddings = self.encoder(tf.concat(augmented, 0), training=True)
        loss, accuracy = nt_xent(self.head(embeddings, training=True), self.temperature)
        return loss, accuracy, embeddings


class Supervised(Objective):
    """Cross entropy on a new linear head; all weights train."""

    encoder_trains = True

    def __init__(self, encoder: Encoder, augment: AugmentConfig, classes: int, label_smoothing: float = 0.1):
        if classes < 2:
            raise ValueError(f"a supervised objective needs crops of at least 2 classes; got {classes}")
        self.encoder, self.config, self.classes, self.smoothing = encoder, augment, classes, label_smoothing
        inputs = keras.Input((encoder.width,))
        self.head = keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(inputs), name="head_supervised")

    def augment(self, image, seed):
        return crop_and_flip(image, seed, self.config)

    def loss(self, augmented, labels):
        embeddings = self.encoder(augmented, training=self.encoder_trains)
        logits = self.head(embeddings, training=True)
        target = tf.one_hot(labels, self.classes) * (1 - self.smoothing) + self.smoothing / self.classes
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(target, logits))
        accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1, tf.int32), labels), tf.float32))
        return loss, accuracy, embeddings


class Linear(Supervised):
    """Cross entropy on a new linear head; the encoder is frozen, batch norm included.

    This is linear evaluation: it measures the embeddings and can't change them. Embedding afterwards gives exactly what
    embedding before gave.
    """

    encoder_trains = False

    @property
    def trainable_variables(self):
        return self.head.trainable_variables


OBJECTIVES: dict[str, type[Objective]] = {"contrastive": Contrastive, "supervised": Supervised, "linear": Linear}


def make_objective(name: str, encoder: Encoder, augment: AugmentConfig, classes: int, temperature: float) -> Objective:
    """Builds an objective by name.

    Args:
        name: one of OBJECTIVES.
        encoder: the network to fine-tune.
        augment: of the training crops.
        classes: how many classes the labels have; the contrastive objective has no use for it.
        temperature: of NT-Xent; the others have no use for it.
    """
    if name == "contrastive":
        return Contrastive(encoder, augment, temperature)
    if name in OBJECTIVES:
        return OBJECTIVES[name](encoder, augment, classes)  # type: ignore[call-arg]
    raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}; got {name!r}")
