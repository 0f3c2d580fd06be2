"""What fine-tuning minimises: contrastive, supervised, or a linear head on frozen
features.

An objective owns the heads on top of the embedding, names the variables that train, and
turns a batch's embeddings into a loss. The training loop knows no more about it than
that.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import keras
import tensorflow as tf

from simclr_tf2.augment import crop_and_flip, draw_view, seeds_of_two, two_views
from simclr_tf2.batched_augment import apply_views, prepared
from simclr_tf2.config import (
    EARLY_FROZEN,
    NOTHING_FROZEN,
    RANDOM,
    ObjectiveConfig,
)
from simclr_tf2.encoders.base import Encoder, leaves
from simclr_tf2.heads import (
    build_classifier,
    build_projection_head,
    projections,
)
from simclr_tf2.nt_xent import nt_xent


class Objective(abc.ABC):
    """Base class.

    Attributes:
        encoder: the network to fine-tune.
        projection_head, classifier: what stands on the embedding, or None.
        encoder_learns: whether the encoder normalises by the statistics of the batch,
            and updates its moving ones.
        views: how many images `images` makes of a crop.
    """

    encoder_learns = True
    views = 1

    def __init__(self, encoder: Encoder, config: ObjectiveConfig):
        self.encoder, self.config = encoder, config
        self.projection_head: Any = None  # keras.Model
        self.classifier: Any = None
        self._frozen: set[str] = set()
        through, blocks = config.freeze_through_block, encoder.blocks
        if through == EARLY_FROZEN:
            pretrained = encoder.config.weights != RANDOM
            through = blocks.early if blocks and pretrained else NOTHING_FROZEN
        if through != NOTHING_FROZEN:
            self._freeze(through)

    def _freeze(self, through: int) -> None:
        blocks = self.encoder.blocks
        if blocks is None or not 0 <= through <= blocks.last:
            most = f", or 0 (the stem) to {blocks.last}" if blocks else ""
            raise ValueError(
                f"freeze_through_block must be {NOTHING_FROZEN} (all weights train), "
                f"{EARLY_FROZEN} (by the network){most}; got {through} with encoder "
                f"{self.encoder.config.name}"
            )
        for layer in leaves(self.encoder.model):
            if layer.weights and blocks.of(layer.name) <= through:
                self._frozen |= {
                    variable.path for variable in layer.trainable_variables
                }
                if self.config.frozen_statistics:
                    # for batch norm this also means: use the moving statistics, and
                    # keep them
                    layer.trainable = False

    @property
    def heads(self) -> list[keras.Model]:
        """Those that there are."""
        return [
            head for head in (self.projection_head, self.classifier) if head is not None
        ]

    @property
    def head_variables(self) -> list[keras.Variable]:
        """The trainable variables of the heads."""
        return [each for head in self.heads for each in head.trainable_variables]

    @property
    def head_weights(self) -> list[keras.Variable]:
        """All variables of the heads, moving statistics among them."""
        return [each for head in self.heads for each in head.weights]

    @property
    def trainable_variables(self) -> list:
        """The variables that the optimizer moves: first the encoder's, then the
        heads'.
        """
        network = [
            v
            for v in self.encoder.trainable_variables
            if getattr(v, "path", None) not in self._frozen
        ]
        return [*network, *self.head_variables]

    def classify(self, features) -> tf.Tensor | None:
        """Features, float32 [rows, width] -> logits [rows, classes]; None without a
        classifier.
        """
        return None if self.classifier is None else self.classifier(features)

    @abc.abstractmethod
    def augment(self, image: tf.Tensor, seed: tf.Tensor) -> Any:
        """One image, uint8 or float32 [height, width, 3], the latter in [0, 1], and a
        seed, int32 [2] -> what `images` takes, unbatched.
        """

    @abc.abstractmethod
    def images(self, augmented: Any) -> tf.Tensor:
        """A batch of what `augment` makes -> the images to embed, [rows, size, size,
        3].
        """

    @abc.abstractmethod
    def loss(
        self, embeddings: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Embeddings of `images`, float32 [rows, width], and labels, int32 [batch], or
        [batch, views] where views are of different crops -> the loss and figures to
        report.
        """


class Contrastive(Objective):
    """SimCLR: two views of a crop must find each other among all views of the batch.
    The encoder learns nothing of labels.

    Where there are labels, a linear classifier trains beside it on embeddings cut off
    from the gradient: linear evaluation while pretraining, as in the official code. It
    goes into the exported model and changes nothing else. Crops without a label (-1)
    are left out of its loss.
    """

    views = 2

    def __init__(self, encoder: Encoder, config: ObjectiveConfig):
        super().__init__(encoder, config)
        if config.projection_layer:
            raise ValueError(
                "projection_layer is for supervised and linear; got "
                f"{config.projection_layer} "
                "with objective contrastive"
            )
        self.projection_head = encoder.projection_head or build_projection_head(
            encoder.width, config.head
        )
        if config.online_linear_eval and config.classes >= 2:
            self.classifier = build_classifier(encoder.width, config.classes)

    def augment(self, image, seed, partner=None):
        """(image, seed) -> what the loss is computed from; see `Objective` and
        `two_views`.
        """
        config = self.config.augment
        if not self.config.augment_on_device:
            return two_views(image, seed, config, partner)
        crops = [image] if partner is None else [image, partner]
        views = tuple(
            draw_view(tf.shape(crop)[:2], one, config)
            for crop, one in zip((image, crops[-1]), seeds_of_two(seed), strict=True)
        )
        return tuple(prepared(crop, config) for crop in crops), views

    def images(self, augmented):
        """How the views of a batch become one batch of images."""
        if not self.config.augment_on_device:
            return tf.concat(augmented, 0)
        crops, views = augmented
        pairs = zip((crops[0], crops[-1]), views, strict=True)
        return tf.concat(
            [apply_views(crop, view, self.config.augment) for crop, view in pairs], 0
        )

    def loss(self, embeddings, labels):
        """The loss of a batch, and what to log beside it."""
        contrast = nt_xent(
            projections(self.projection_head, embeddings, training=True)[-1],
            self.config.temperature,
        )
        figures = {
            "accuracy": contrast.accuracy,
            "entropy": contrast.entropy,
            "contrastive_loss": contrast.loss,
        }
        if self.classifier is None:
            return contrast.loss, figures
        logits = self.classifier(tf.stop_gradient(embeddings), training=True)
        if len(labels.shape) == 1:  # both views are of one crop
            labels = tf.stack([labels, labels], axis=1)
        of_views = tf.reshape(tf.transpose(labels), [-1])
        loss, accuracy = _classification(logits, of_views, self.config.classes, 0.0)
        return contrast.loss + loss, {
            **figures,
            "online_loss": loss,
            "online_accuracy": accuracy,
        }


class Supervised(Objective):
    """Cross entropy on a new classifier. All weights train, or those after a block
    (`freeze_through_block`).
    """

    def __init__(self, encoder: Encoder, config: ObjectiveConfig):
        super().__init__(encoder, config)
        if config.classes < 2:
            raise ValueError(
                "a supervised objective needs crops of at least 2 classes; got "
                f"{config.classes}"
            )
        # Crops and flips alone.
        self._geometry = dataclasses.replace(
            config.augment, color_jitter_strength=0, grayscale_prob=0, blur_prob=0
        )
        width = encoder.width
        if config.projection_layer:
            self.projection_head = _up_to(
                encoder.projection_head, config.projection_layer
            )
            width = int(self.projection_head.output_shape[-1])
        self.classifier = build_classifier(width, config.classes)

    def augment(self, image, seed):
        """(image, seed) -> what the loss is computed from; see `Objective`."""
        if not self.config.augment_on_device:
            return crop_and_flip(image, seed, self._geometry)
        view = draw_view(tf.shape(image)[:2], seed, self._geometry)
        return prepared(image, self._geometry), view

    def images(self, augmented):
        """The views themselves."""
        if not self.config.augment_on_device:
            return augmented
        crops, views = augmented
        return apply_views(crops, views, self._geometry)

    def classify(self, features):
        """Features -> logits."""
        return self.classifier(
            features if self.projection_head is None else self.projection_head(features)
        )

    def loss(self, embeddings, labels):
        """The loss of a batch, and what to log beside it."""
        features = embeddings
        if self.projection_head is not None:
            features = self.projection_head(embeddings, training=self.encoder_learns)
        logits = self.classifier(features, training=True)
        loss, accuracy = _classification(
            logits, labels, self.config.classes, self.config.label_smoothing
        )
        return loss, {"accuracy": accuracy}


class Linear(Supervised):
    """Cross entropy on a new linear classifier; all before it is frozen, batch norm
    included.

    This is linear evaluation: it measures the embeddings and can't change them.
    Embedding afterwards gives exactly what embedding before gave.
    """

    encoder_learns = False

    @property
    def trainable_variables(self):
        """Those of the encoder and of the classifier, as far as they train."""
        return self.classifier.trainable_variables


def _up_to(head: keras.Model | None, layer: int) -> keras.Model:
    """The first layers of a projection head, as the second SimCLR paper fine-tunes from
    (section 3.1).
    """
    depth = len(head.outputs) - 1 if head is not None else 0
    if head is None or not 1 <= layer <= depth:
        raise ValueError(
            "projection_layer must be 0, or a layer of the encoder's projection head, "
            f"which has {depth}; got {layer}"
        )
    return keras.Model(head.inputs, head.outputs[layer], name=head.name)


def _classification(
    logits: tf.Tensor, labels: tf.Tensor, classes: int, smoothing: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross entropy and accuracy, means over the labelled rows; on several replicas
    over those of all, once averaged.
    """
    target = tf.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
    loss = tf.nn.softmax_cross_entropy_with_logits(target, logits)
    right = tf.cast(tf.equal(tf.argmax(logits, 1, tf.int32), labels), tf.float32)
    labelled = tf.cast(labels >= 0, tf.float32)
    count = tf.reduce_sum(labelled)
    context = tf.distribute.get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        count = context.all_reduce(tf.distribute.ReduceOp.MEAN, count)
    count = tf.maximum(count, 1.0)
    return tf.reduce_sum(loss * labelled) / count, tf.reduce_sum(
        right * labelled
    ) / count


OBJECTIVES: dict[str, type[Objective]] = {
    "contrastive": Contrastive,
    "supervised": Supervised,
    "linear": Linear,
}


def make_objective(name: str, encoder: Encoder, config: ObjectiveConfig) -> Objective:
    """Builds an objective by name, one of OBJECTIVES."""
    if name not in OBJECTIVES:
        raise ValueError(
            f"objective must be one of {', '.join(OBJECTIVES)}; got {name!r}"
        )
    return OBJECTIVES[name](encoder, config)
