"""The fused layer against `keras.layers.BatchNormalization`, which computes the same by
other kernels.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf2.batch_norm import FusedBatchNormalization

SHAPE = (6, 5, 4, 3)


def pair():
    rng = np.random.default_rng(0)
    layers = [
        kind(momentum=0.8, epsilon=1e-3)
        for kind in (keras.layers.BatchNormalization, FusedBatchNormalization)
    ]
    weights = [
        1 + 0.3 * rng.normal(size=3),
        rng.normal(size=3),
        rng.normal(size=3),
        1 + rng.random(3),
    ]
    for layer in layers:
        layer.build(SHAPE)
        layer.set_weights(weights)
    return (
        layers,
        tf.constant(rng.normal(2, 3, SHAPE), tf.float32),
        tf.constant(rng.normal(size=SHAPE), tf.float32),
    )


@pytest.mark.parametrize("training", [True, False])
def test_outputs_gradients_and_moving_statistics_agree(training):
    layers, inputs, direction = pair()
    results = []
    for layer in layers:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=training)
            value = tf.reduce_sum(outputs * direction)
        gradients = tape.gradient(value, [inputs, layer.gamma.value, layer.beta.value])
        results.append([outputs, *gradients, *layer.get_weights()])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


def test_a_frozen_layer_keeps_its_statistics_also_in_training():
    layers, inputs, _ = pair()
    before = layers[1].get_weights()
    layers[1].trainable = False
    outputs = layers[1](inputs, training=True)
    layers[0].trainable = False
    np.testing.assert_allclose(
        outputs, layers[0](inputs, training=True), rtol=1e-5, atol=1e-5
    )
    for value, old in zip(layers[1].get_weights(), before, strict=True):
        assert np.array_equal(value, old)


def test_moving_variance_uses_the_biased_variance():
    layer = FusedBatchNormalization(momentum=0.5)
    layer(tf.reshape(tf.constant([1.0, 3.0]), (2, 1, 1, 1)), training=True)
    assert layer.moving_mean.numpy().tolist() == [1.0]  # 0.5 * 0 + 0.5 * 2
    assert layer.moving_variance.numpy().tolist() == [
        1.0
    ]  # 0.5 * 1 + 0.5 * 1, where the unbiased one would give 1.5


def test_half_precision_keeps_float32_statistics():
    layer = FusedBatchNormalization(dtype="mixed_bfloat16")
    outputs = layer(tf.random.stateless_normal(SHAPE, (1, 2)), training=True)
    assert outputs.dtype == tf.bfloat16
    assert layer.moving_mean.dtype == "float32"
