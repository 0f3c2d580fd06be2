"""The optimizers of fine-tuning, and where their weight decay comes from."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from simclr_tf2.config import OPTIMIZERS
from simclr_tf2.heads import CLASSIFIER
from simclr_tf2.lars import LARS, path_of_any

# adamw decays kernels apart from the gradient; lars decays in its own step, the
# classifier excepted; momentum (SGD with Nesterov momentum 0.9) and adam leave it to
# the loss, as the official code does.


def make_optimizer(
    name: str, schedule, weight_decay: float, variables: Sequence
) -> keras.optimizers.Optimizer:
    """Builds an optimizer over variables, with loss scaling where layers compute in
    float16.

    Args:
        name: one of OPTIMIZERS.
        schedule: a learning rate or a schedule of it.
        weight_decay: L2 decay, or decoupled decay for adamw.
        variables: keras.Variable or tf.Variable, all that will be trained.
    """
    if name == "adamw":
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=weight_decay)
        # By variable, not by name: in Keras 3 a variable's name is only "kernel" or
        # "gamma".
        optimizer.exclude_from_weight_decay(
            var_list=[variable for variable in variables if len(variable.shape) < 2]
        )
    elif name == "lars":
        optimizer = LARS(schedule, decay=weight_decay)
    elif name == "momentum":
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
    elif name == "adam":
        optimizer = keras.optimizers.Adam(schedule)
    else:
        raise ValueError(
            f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {name!r}"
        )
    if keras.mixed_precision.dtype_policy().compute_dtype == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def decay_in_loss(name: str, weight_decay: float, variables: Sequence) -> tf.Tensor:
    """The weight decay that is a term of the loss: weight_decay * sum of squares / 2, a
    float32 scalar.

    With lars it covers the classifier's kernel, which lars leaves out; with momentum
    and adam everything but batch norm, biases included; with adamw nothing.
    """
    if name == "lars":
        decayed = [
            variable
            for variable in variables
            if CLASSIFIER in path_of_any(variable) and len(variable.shape) > 1
        ]
    elif name == "adamw":
        decayed = []
    else:
        decayed = [
            variable
            for variable in variables
            if not path_of_any(variable).endswith(("gamma", "beta"))
        ]
    return (
        weight_decay * tf.add_n([tf.nn.l2_loss(variable) for variable in decayed])
        if decayed
        else tf.constant(0.0)
    )
