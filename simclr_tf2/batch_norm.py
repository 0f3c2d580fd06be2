"""Batch normalisation by TensorFlow's fused kernel."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("simclr_tf2")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` for NHWC images with the same variables, results and gradients, but fused.

    Keras 3 computes moments, scale and offset as separate passes over memory; the fused kernel needs fewer, and on a CPU
    those passes are much of what a training step of a mobile network costs.

    Moving statistics use the biased batch variance, as Keras and SimCLR do; the kernel returns the unbiased one, which
    is scaled back. A masked, non-trainable (frozen) or not four-dimensional input goes the Keras way.
    """

    def call(self, inputs, training=None, mask=None):
        if mask is not None or len(inputs.shape) != 4 or self.axis not in (-1, 3) or not (self.scale and self.center):
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        if not (training and self.trainable):
            mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
            return self._fused(inputs, gamma, beta, mean, variance, is_training=False)[0]
        outputs, mean, variance = self._fused(inputs, gamma, beta, is_training=True)
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], variance.dtype)
        variance *= (count - 1) / count
        self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1 - self.momentum))
        self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1 - self.momentum))
        return outputs

    def _fused(self, inputs, gamma, beta, mean=None, variance=None, is_training=True):
        inputs = tf.cast(inputs, self.compute_dtype)
        return tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.cast(gamma, tf.float32),
            tf.cast(beta, tf.float32),
            None if mean is None else tf.cast(mean, tf.float32),
            None if variance is None else tf.cast(variance, tf.float32),
            epsilon=self.epsilon,
            is_training=is_training,
        )
