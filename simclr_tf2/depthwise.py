"""Depthwise convolution whose filters' gradient is fast on CPUs."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
import tensorflow as tf

MOST_PIXELS = 64  # of a map, up to which the gradient is that of matrices


# Keras names what it saves by the class, so this one is called as Keras's own is.
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with the same variables, results and gradients.

    On CPUs TensorFlow has a fast kernel for the gradient of 3 x 3 filters alone. On
    small maps each channel's convolution is a small matrix, and the gradient of all
    entries is one product of matrices a channel, whose diagonals are added up for the
    filter: for 5 x 5 filters on maps of up to 8 x 8 pixels that takes less time. On
    accelerators, and for everything else, the layer is Keras's.
    """

    def call(self, inputs):
        """As Keras's."""
        height, width = inputs.shape[1:3]
        small = None not in (height, width) and height * width <= MOST_PIXELS
        same = self.padding == "same" and set(self.dilation_rate) == {1}
        if not (small and same and self.kernel_size == (5, 5)) or _accelerated():
            return super().call(inputs)
        kernel = tf.convert_to_tensor(self.kernel)
        strides = (1, *self.strides, 1)
        return _convolve(tf.cast(kernel, inputs.dtype), inputs, strides)


@cache
def _accelerated() -> bool:
    devices = tf.config.list_logical_devices()
    return any(device.device_type in ("GPU", "TPU") for device in devices)


def _convolve(kernel: tf.Tensor, inputs: tf.Tensor, strides) -> tf.Tensor:
    @tf.custom_gradient
    def convolve(kernel, inputs):
        outputs = tf.nn.depthwise_conv2d(inputs, kernel, strides, "SAME")

        def gradient(upstream):
            towards_inputs = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(inputs),
                filter=kernel,
                out_backprop=upstream,
                strides=strides,
                padding="SAME",
            )
            size, stride = kernel.shape[:2], strides[1]
            return filter_gradient(inputs, upstream, size, stride), towards_inputs

        return outputs, gradient

    return convolve(kernel, inputs)


def filter_gradient(
    inputs: tf.Tensor, upstream: tf.Tensor, size: tuple[int, int], stride: int
) -> tf.Tensor:
    """The gradient of a depthwise filter, padding "same".

    Args:
        inputs: [batch, height, width, channels]; height and width are known.
        upstream: the gradient of the outputs, [batch, rows, columns, channels].
        size: of the filter.
        stride: of the convolution, in both directions.

    Returns:
        [*size, channels, 1].
    """
    before, after = inputs.shape[1:3], upstream.shape[1:3]
    channels = inputs.shape[3]
    pixels = tf.reshape(inputs, (-1, before[0] * before[1], channels))
    towards = tf.reshape(upstream, (-1, after[0] * after[1], channels))
    # Of each channel's matrix, [channels, input pixel, output pixel].
    matrices = tf.matmul(
        tf.transpose(pixels, (2, 1, 0)), tf.transpose(towards, (2, 0, 1))
    )
    flat = tf.reshape(matrices, (channels, -1))
    taps = tf.constant(_taps(before, after, size, stride), flat.dtype)
    return tf.reshape(tf.transpose(tf.matmul(flat, taps)), (*size, channels, 1))


@cache
def _taps(before, after, size, stride) -> np.ndarray:
    """Which entries of a convolution's matrix are which weight of its filter: 0 or 1,
    [input pixels x output pixels, weights].
    """
    taps = np.zeros((*before, *after, *size), np.float32)
    margins = [
        max((after[axis] - 1) * stride + size[axis] - before[axis], 0) // 2
        for axis in (0, 1)
    ]
    for row, column, down, right in np.ndindex(*after, *size):
        place = (row * stride + down - margins[0], column * stride + right - margins[1])
        if 0 <= place[0] < before[0] and 0 <= place[1] < before[1]:
            taps[(*place, row, column, down, right)] = 1.0
    return taps.reshape(np.prod(before) * np.prod(after), -1)
