"""Linear warm-up, then half a cosine to zero (SimCLR section 2.3; Loshchilov and
Hutter, 2017).
"""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from simclr_tf2.config import SCALINGS


def peak_learning_rate(base: float, batch_size: int, scaling: str) -> float:
    """The rate after warm-up: base, base * batch_size / 256 (linear) or base *
    sqrt(batch_size) (appendix B.1).
    """
    if scaling not in SCALINGS:
        raise ValueError(
            f"learning_rate_scaling must be one of {', '.join(SCALINGS)}; got "
            f"{scaling!r}"
        )
    return (
        base
        * {"none": 1.0, "linear": batch_size / 256, "sqrt": math.sqrt(batch_size)}[
            scaling
        ]
    )


@keras.saving.register_keras_serializable("simclr_tf2")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """lr(step) = peak * step / warmup for step < warmup, then peak * (1 + cos(pi t)) /
    2 with t from 0 to 1, then 0.
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int):
        self.peak, self.warmup_steps, self.total_steps = peak, warmup_steps, total_steps

    def __call__(self, step):
        step = tf.cast(step, tf.float32)
        ramp = self.peak * step / max(1, self.warmup_steps)
        done = tf.clip_by_value(
            (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps),
            0.0,
            1.0,
        )
        return tf.where(
            step < self.warmup_steps,
            ramp,
            self.peak * (1 + tf.cos(done * 3.141592653589793)) / 2,
        )

    def get_config(self):
        """What makes it again."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
        }
