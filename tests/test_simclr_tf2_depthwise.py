"""Against TensorFlow's own gradient and against finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf2.depthwise import DepthwiseConv2D, filter_gradient

RNG = np.random.default_rng(0)


def gradients(layer, images):
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images)
        loss = tf.reduce_sum(outputs * tf.cos(outputs))
    return outputs, *tape.gradient(loss, [images, layer.kernel.value])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(3, 3), (6, 6), (5, 8), (8, 8), (9, 9)])
def test_results_and_gradients_are_those_of_keras(size, stride):
    images = tf.constant(RNG.normal(size=(4, *size, 6)).astype(np.float32))
    options = {"strides": stride, "padding": "same", "use_bias": False}
    plain = keras.layers.DepthwiseConv2D(5, **options)
    fast = DepthwiseConv2D(5, **options)
    plain(images)
    fast(images)
    fast.set_weights(plain.get_weights())
    for one, two in zip(gradients(plain, images), gradients(fast, images), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)


def test_the_filters_gradient_is_that_of_finite_differences():
    images = tf.constant(RNG.normal(size=(2, 4, 4, 2)))
    upstream = tf.constant(RNG.normal(size=(2, 2, 2, 2)))
    kernel = RNG.normal(size=(5, 5, 2, 1))

    def loss(kernel):
        outputs = tf.nn.depthwise_conv2d(images, kernel, (1, 2, 2, 1), "SAME")
        return float(tf.reduce_sum(outputs * upstream))

    found = np.asarray(filter_gradient(images, upstream, (5, 5), 2))
    for place in [(0, 0, 0, 0), (2, 2, 1, 0), (4, 1, 0, 0), (1, 3, 1, 0)]:
        step = np.zeros_like(kernel)
        step[place] = 1e-4
        slope = (loss(kernel + step) - loss(kernel - step)) / 2e-4
        assert found[place] == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_weights_are_saved_under_the_names_of_keras(tmp_path):
    """Files of version 0.5.0 were written by Keras's own layer."""

    def model(layer):
        inputs = keras.Input((8, 8, 2))
        return keras.Model(inputs, layer(5, padding="same", name="x")(inputs))

    theirs, ours = model(keras.layers.DepthwiseConv2D), model(DepthwiseConv2D)
    theirs.save_weights(tmp_path / "a.weights.h5")
    ours.load_weights(tmp_path / "a.weights.h5")
    for one, two in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        assert np.array_equal(one, two)


def test_what_it_is_not_for_goes_the_way_of_keras(monkeypatch):
    images = tf.constant(RNG.normal(size=(1, 4, 4, 2)).astype(np.float32))
    monkeypatch.setattr("simclr_tf2.depthwise._convolve", None)
    for options in ({"kernel_size": 3}, {"kernel_size": 5, "padding": "valid"}):
        DepthwiseConv2D(**{"padding": "same"} | options)(
            tf.pad(images, [[0, 0], [2, 2], [2, 2], [0, 0]])
        )
    with pytest.raises(TypeError):
        DepthwiseConv2D(5, padding="same")(images)
