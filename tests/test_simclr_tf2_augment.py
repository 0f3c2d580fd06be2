import numpy as np
import pytest
import tensorflow as tf

from simclr_tf2.augment import AugmentConfig, color_jitter, crop_and_flip, one_view, random_crop, to_grey, two_views

IMAGE = tf.constant(np.random.default_rng(0).random((30, 40, 3)), tf.float32)
CONFIG = AugmentConfig(16)


def seed(number):
    return tf.constant([7, number], tf.int32)


def test_a_seed_decides_the_view_eagerly_and_in_a_pipeline():
    eager = [one_view(IMAGE, seed(number), CONFIG).numpy() for number in range(12)]
    numbers = tf.data.Dataset.range(12, output_type=tf.int32)
    piped = list(numbers.map(lambda number: one_view(IMAGE, tf.stack([7, number]), CONFIG)).as_numpy_iterator())
    np.testing.assert_allclose(eager, piped, atol=1e-5)
    assert len({view.tobytes() for view in eager}) == 12


def test_views_have_their_size_and_range_and_differ():
    first, second = two_views(IMAGE, seed(0), CONFIG)
    assert first.shape == second.shape == (16, 16, 3)
    for view in (first, second):
        assert 0 <= view.numpy().min() <= view.numpy().max() <= 1
    assert np.abs(first - second).mean() > 0.01


def test_from_above_gives_all_eight_symmetries_and_otherwise_two():
    corner = tf.concat([tf.ones((1, 1, 3)), tf.zeros((1, 1, 3))], 1)
    image = tf.image.resize(tf.concat([corner, 0.5 * corner], 0), (8, 8), method="nearest")
    for from_above, expected in ((True, 8), (False, 2)):
        config = AugmentConfig(8, min_area=1.0, from_above=from_above)
        views = {crop_and_flip(image, seed(number), config).numpy().round(2).tobytes() for number in range(120)}
        assert len(views) == expected


@pytest.mark.parametrize("min_area", [0.1, 0.5])
def test_random_crops_cover_the_stated_area(min_area):
    # A gradient from 0 to 1 in each direction tells from its range how much of the image a crop shows.
    x, y = tf.meshgrid(tf.linspace(0.0, 1.0, 200), tf.linspace(0.0, 1.0, 200))
    image = tf.stack([x, y, x], axis=2)
    areas = []
    for number in range(200):
        crop = random_crop(image, seed(number), 32, min_area).numpy()
        areas.append(np.prod([np.ptp(crop[..., channel]) for channel in (0, 1)]))
    assert min_area * 0.9 < min(areas) < min_area + 0.15
    assert 0.8 < max(areas) <= 1.01


def test_jitter_of_strength_zero_changes_nothing():
    np.testing.assert_allclose(color_jitter(IMAGE, seed(0), 0.0), IMAGE, atol=2e-6)


def test_jitter_changes_colour_but_not_place():
    flat = tf.ones((4, 4, 3)) * [0.3, 0.6, 0.2]
    changed = color_jitter(flat, seed(2), 0.8).numpy()
    assert np.abs(changed - flat).max() > 0.05
    np.testing.assert_allclose(changed, np.broadcast_to(changed[0, 0], changed.shape), atol=1e-5)


def test_grey_is_luminance():
    grey = to_grey(tf.constant([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])).numpy()
    np.testing.assert_allclose(grey[0], [[0.2989] * 3, [0.5870] * 3, [0.1140] * 3], rtol=1e-6)


def test_colour_is_dropped_as_often_as_stated():
    config = AugmentConfig(8, jitter=0.0, grey=0.3)
    views = [one_view(IMAGE, seed(number), config).numpy() for number in range(300)]
    share = np.mean([np.ptp(view, axis=2).max() < 1e-6 for view in views])
    assert 0.22 < share < 0.38  # three standard errors about 0.3
