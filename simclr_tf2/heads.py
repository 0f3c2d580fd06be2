"""What stands on an embedding while training: the projection head and the classifier
(SimCLR sections 2.1 and B.1).
"""

from __future__ import annotations

import keras

from simclr_tf2.batch_norm import FusedBatchNormalization
from simclr_tf2.config import HeadConfig

PROJECTION, CLASSIFIER = "projection_head", "head_supervised"


def build_projection_head(width: int, config: HeadConfig) -> keras.Model:
    """Dense layers without bias, each with batch norm; ReLU after all but the last,
    whose batch norm has no offset.

    Args:
        width: of the embedding.
        config: of the head.

    Returns:
        A model from [batch, width] to depth + 1 tensors: the embedding itself and the
        output of every layer (`projections` lists them). Fine-tuning may read any of
        them (section 3.1 of the second paper).
    """
    inputs = keras.Input((width,), name="embedding")
    x, outputs = inputs, [inputs]
    for layer in range(config.depth):
        last = layer == config.depth - 1
        units = config.output if last else config.hidden or width
        x = keras.layers.Dense(
            units,
            use_bias=False,
            kernel_initializer=_normal(),
            name=f"{PROJECTION}.layer{layer}.dense",
        )(x)
        norm = FusedBatchNormalization(
            momentum=0.9,
            epsilon=1e-5,
            center=not last,
            name=f"{PROJECTION}.layer{layer}.bn",
            dtype="float32" if last else None,
        )
        x = norm(x) if last else keras.layers.ReLU()(norm(x))
        outputs.append(x)
    return keras.Model(inputs, outputs, name=PROJECTION)


def projections(head: keras.Model, embeddings, training: bool = False) -> list:
    """The embeddings and the output of every layer of a projection head; the projection
    is the last.
    """
    return keras.tree.flatten(
        head(embeddings, training=training)
    )  # Keras unpacks a list of one


def build_classifier(width: int, classes: int) -> keras.Model:
    """One dense layer with bias: float [batch, width] -> float32 logits [batch,
    classes].
    """
    inputs = keras.Input((width,), name="features")
    dense = keras.layers.Dense(
        classes,
        kernel_initializer=_normal(),
        name=f"{CLASSIFIER}.dense",
        dtype="float32",
    )
    return keras.Model(inputs, dense(inputs), name=CLASSIFIER)


def _normal() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.01)
