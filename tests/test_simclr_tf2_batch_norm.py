"""The fused layer against `keras.layers.BatchNormalization`, which computes the same by
other kernels.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf2.batch_norm import FusedBatchNormalization, synchronize

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


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("shape", "options", "is_fused"),
    [
        ((8, 3), {}, True),
        ((8, 3), {"axis": 1}, True),
        ((4, 5, 6, 3), {"axis": 3}, True),
        ((4, 5, 6, 3), {"scale": False}, True),
        ((4, 5, 6, 3), {"center": False}, True),
        ((4, 5, 6, 3), {"axis": 1}, False),
        ((4, 5, 6, 3), {"axis": 2}, False),
        ((4, 5, 3), {}, False),
        ((2, 4, 5, 6, 3), {}, False),
    ],
)
def test_every_shape_gives_what_keras_gives(
    shape, options, is_fused, training, monkeypatch
):
    calls = []
    fused = FusedBatchNormalization._fused
    monkeypatch.setattr(
        FusedBatchNormalization,
        "_fused",
        lambda *args, **kwargs: calls.append(1) or fused(*args, **kwargs),
    )
    rng = np.random.default_rng(0)
    inputs = rng.normal(2, 3, shape).astype(np.float32)
    kinds = (keras.layers.BatchNormalization, FusedBatchNormalization)
    results = []
    for kind in kinds:
        layer = kind(momentum=0.7, epsilon=1e-2, **options)
        layer.build(shape)
        weights = np.random.default_rng(1)
        layer.set_weights([1 + weights.random(w.shape) for w in layer.weights])
        outputs = layer(inputs, training=training)
        results.append([outputs, *layer.get_weights()])
        assert outputs.shape == shape
    assert bool(calls) is is_fused
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


def test_what_a_mask_leaves_out_counts_for_nothing():
    inputs = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    mask = tf.constant([True, False, True, True])
    results = []
    for kind in (keras.layers.BatchNormalization, FusedBatchNormalization):
        layer = kind()
        results.append([layer(inputs, training=True, mask=mask), *layer.get_weights()])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


def test_all_layers_of_a_model_are_synchronized_or_not():
    inner = keras.Sequential([keras.Input((3,)), FusedBatchNormalization()])
    model = keras.Sequential([keras.Input((3,)), inner, FusedBatchNormalization()])
    layers = [inner.layers[0], model.layers[1]]
    assert [layer.synchronized for layer in layers] == [True, True]
    synchronize(model, False)
    assert [layer.synchronized for layer in layers] == [False, False]
    synchronize(model, True)
    assert [layer.synchronized for layer in layers] == [True, True]


def test_replicas_agree_on_moving_statistics_by_their_mean():
    layer = FusedBatchNormalization()
    layer.build(SHAPE)
    of = {weight.name: weight.aggregation for weight in layer.weights}
    assert of == {
        "gamma": "none",
        "beta": "none",
        "moving_mean": "mean",
        "moving_variance": "mean",
    }
