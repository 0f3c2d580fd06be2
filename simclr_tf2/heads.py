"""What stands on an embedding while training: the projection head and the classifier
(SimCLR sections 2.1 and B.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import keras

from simclr_tf2.batch_norm import FusedBatchNormalization

PROJECTION, CLASSIFIER = "projection_head", "head_supervised"
HEAD_KINDS = ("nonlinear", "linear", "none")


@dataclass(frozen=True)
class HeadConfig:
    """A projection head: `layers` dense layers, the last `output` wide."""

    kind: str = (
        "nonlinear"  # one of HEAD_KINDS; linear is one layer, none projects nothing
    )
    layers: int = 2  # of a nonlinear head: 2 in the first paper, 3 in the second
    hidden: int = (
        0  # width of the hidden layers; 0 is that of the embedding, as in the papers
    )
    output: int = 128  # width of the projection

    def __post_init__(self) -> None:
        if self.kind not in HEAD_KINDS:
            raise ValueError(
                f"the head's kind must be one of {', '.join(HEAD_KINDS)}; got "
                f"{self.kind!r}"
            )
        if self.layers < 1:
            raise ValueError(f"the head's layers must be at least 1; got {self.layers}")

    @property
    def depth(self) -> int:
        """How many dense layers the head has."""
        return {"none": 0, "linear": 1}.get(self.kind, self.layers)


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
