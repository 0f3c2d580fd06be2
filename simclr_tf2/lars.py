"""LARS, the optimizer of large batches (You et al. 2017, arXiv 1708.03888), as SimCLR
uses it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras
import tensorflow as tf

# Batch norm, biases and the classifier: no decay, no trust ratio (SimCLR, appendix
# B.3).
EXCLUDED = ("gamma$", "beta$", "bias$", "head_supervised")


@keras.saving.register_keras_serializable("simclr_tf2")
class LARS(keras.optimizers.Optimizer):
    """Momentum with a learning rate for each variable: lr * trust, where with g' = g +
    decay * w

        trust = trust_coefficient * |w| / |g'|       (1 where a norm is 0, or the
        variable is excluded) m <- momentum * m + lr * trust * g',    w <- w - m
        (classic momentum) m <- momentum * m + g',    w <- w - lr * trust(m) * m
        (otherwise)

    Args:
        learning_rate: a number or a schedule.
        momentum: of the moving sum.
        decay: L2 decay, added to the gradient.
        nesterov: look one step ahead: the update is momentum * m + the new term instead
            of m.
        classic_momentum: whether the learning rate is inside the moving sum.
        trust_coefficient: the trust coefficient.
        exclude_from_decay: regular expressions, searched anywhere in a variable's path;
            these get no decay.
        exclude_from_adaptation: the same for the trust ratio; None takes
            exclude_from_decay.
    """

    def __init__(
        self,
        learning_rate=0.3,
        *,
        momentum: float = 0.9,
        decay: float = 0.0,
        nesterov: bool = False,
        classic_momentum: bool = True,
        trust_coefficient: float = 0.001,
        exclude_from_decay: Sequence[str] = EXCLUDED,
        exclude_from_adaptation: Sequence[str] | None = None,
        name: str = "lars",
        **options,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **options)
        # Not `weight_decay`: an optimizer that has it gets Keras' decoupled decay on
        # top.
        self.momentum, self.decay, self.nesterov = momentum, decay, nesterov
        self.classic_momentum, self.trust_coefficient = (
            classic_momentum,
            trust_coefficient,
        )
        self.exclude_from_decay = list(exclude_from_decay)
        self.exclude_from_adaptation = (
            None if exclude_from_adaptation is None else list(exclude_from_adaptation)
        )

    def build(self, variables):
        """Makes the momenta, and tells which variables are spared what."""
        if self.built:
            return
        super().build(variables)
        self._momenta = self.add_optimizer_variables(variables, "momentum")
        paths = [path_of_any(variable) for variable in variables]
        spared = (
            self.exclude_from_decay
            if self.exclude_from_adaptation is None
            else self.exclude_from_adaptation
        )
        self._decays = [not _matches(path, self.exclude_from_decay) for path in paths]
        self._adapts = [not _matches(path, spared) for path in paths]

    def update_step(self, gradient, variable, learning_rate):
        """One step of one variable; see the class."""
        place = self._get_variable_index(variable)
        moment = self._momenta[place]
        gradient, rate = (
            tf.cast(gradient, variable.dtype),
            tf.cast(learning_rate, variable.dtype),
        )
        if self._decays[place]:
            gradient += self.decay * variable
        if self.classic_momentum:
            step = rate * self._trust(variable, gradient, place) * gradient
            moving = self.momentum * moment + step
            update = self.momentum * moving + step if self.nesterov else moving
        else:
            moving = self.momentum * moment + gradient
            update = self.momentum * moving + gradient if self.nesterov else moving
            update *= rate * self._trust(variable, update, place)
        self.assign(moment, moving)
        self.assign_sub(variable, update)

    def _trust(self, variable, update, place: int):
        if not self._adapts[place]:
            return 1.0
        weight_norm, update_norm = tf.norm(variable), tf.norm(update)
        both = tf.logical_and(weight_norm > 0, update_norm > 0)
        return tf.where(
            both,
            self.trust_coefficient * weight_norm / tf.where(both, update_norm, 1.0),
            1.0,
        )

    def get_config(self):
        """What makes it again."""
        own = (
            "momentum",
            "decay",
            "nesterov",
            "classic_momentum",
            "trust_coefficient",
            "exclude_from_decay",
            "exclude_from_adaptation",
        )
        config = super().get_config()
        config.pop("weight_decay", None)
        return {**config, **{name: getattr(self, name) for name in own}}


def path_of_any(variable) -> str:
    """The path of a keras.Variable, the name of a tf.Variable."""
    return getattr(variable, "path", variable.name.removesuffix(":0"))


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, path) for pattern in patterns)
