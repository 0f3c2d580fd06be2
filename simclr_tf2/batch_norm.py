"""Batch normalisation by TensorFlow's fused kernel, on one device or synchronised over
many.
"""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("simclr_tf2")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis with the same variables,
    results and gradients, but fused.

    Keras 3 computes moments, scale and offset as separate passes over memory; the fused
    kernel needs fewer, and on a CPU those passes are much of what a training step of a
    mobile network costs.

    Moving statistics use the biased batch variance, as Keras and SimCLR do; the kernel
    returns the unbiased one, which is scaled back. With `synchronized`, which is the
    default here, the moments are those of the whole batch over all replicas, which goes
    the Keras way. Without it every replica normalises by itself, and the moving
    statistics receive the mean of them.
    """

    def __init__(self, *args, synchronized: bool = True, **options):
        super().__init__(*args, synchronized=synchronized, **options)

    def add_weight(self, *args, trainable=True, **options):
        """As Keras's, which leaves open how replicas agree on new moving statistics;
        tf.distribute refuses to guess.
        """
        options["aggregation"] = "none" if trainable else "mean"
        return super().add_weight(*args, trainable=trainable, **options)

    def call(self, inputs, training=None, mask=None):
        """As Keras's, by the fused operation."""
        learns = training and self.trainable
        shared = (
            self.synchronized
            and learns
            and tf.distribute.get_strategy().num_replicas_in_sync > 1
        )
        rank = len(inputs.shape)
        if (
            mask is not None
            or shared
            or rank not in (2, 4)
            or self.axis not in (-1, rank - 1)
        ):
            return super().call(inputs, training=training, mask=mask)
        images = inputs if rank == 4 else inputs[:, None, None, :]
        if not learns:
            return self._shaped(
                self._fused(
                    images, self.moving_mean, self.moving_variance, learns=False
                )[0],
                rank,
            )
        outputs, mean, variance = self._fused(images, [], [], learns=True)
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], variance.dtype)
        variance *= (count - 1) / count
        self.moving_mean.assign(
            self.moving_mean * self.momentum + mean * (1 - self.momentum)
        )
        self.moving_variance.assign(
            self.moving_variance * self.momentum + variance * (1 - self.momentum)
        )
        return self._shaped(outputs, rank)

    def _fused(self, images, mean, variance, learns: bool):
        width = images.shape[-1]
        # The raw kernel, since TensorFlow's wrapper raises epsilon to 1.001e-5 for the
        # sake of an old cuDNN.
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(images, self.compute_dtype),
            scale=tf.cast(self.gamma, tf.float32) if self.scale else tf.ones((width,)),
            offset=tf.cast(self.beta, tf.float32)
            if self.center
            else tf.zeros((width,)),
            mean=tf.cast(mean, tf.float32),
            variance=tf.cast(variance, tf.float32),
            epsilon=self.epsilon,
            is_training=learns,
        )
        return outputs, mean, variance

    @staticmethod
    def _shaped(outputs, rank: int):
        return outputs if rank == 4 else outputs[:, 0, 0, :]


def synchronize(model, synchronized: bool) -> None:
    """Whether batch norm in a model takes the moments of the whole batch over all
    devices, or of each device's share.
    """
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, FusedBatchNormalization):
            layer.synchronized = synchronized
        synchronize(layer, synchronized)
