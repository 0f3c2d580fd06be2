import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from data import pipeline
from simclr_tf2.augment import (
    COLOR,
    AugmentConfig,
    color_jitter,
    crop_and_flip,
    draw_view,
    evaluation_view,
    gaussian_blur,
    one_view,
    random_crop,
    to_grayscale,
    two_views,
)
from simclr_tf2.batched_augment import SOURCE_SCALE, apply_views, prepared
from tests.conftest import GOLDEN
from tests.reference import relative

NUMBERS = np.load(GOLDEN / "augment.npz")
IMAGE = tf.constant(np.random.default_rng(0).random((30, 40, 3)), tf.float32)
CONFIG = AugmentConfig(16)


def seed(number):
    return tf.constant([7, number], tf.int32)


def test_a_seed_decides_the_view_eagerly_and_in_a_pipeline():
    eager = [one_view(IMAGE, seed(number), CONFIG).numpy() for number in range(12)]
    numbers = tf.data.Dataset.range(12, output_type=tf.int32)
    piped = list(
        numbers.map(
            lambda number: one_view(IMAGE, tf.stack([7, number]), CONFIG)
        ).as_numpy_iterator()
    )
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
    image = tf.image.resize(
        tf.concat([corner, 0.5 * corner], 0), (8, 8), method="nearest"
    )
    for rot90_flips, expected in ((True, 8), (False, 2)):
        config = AugmentConfig(8, min_area=1.0, rot90_flips=rot90_flips)
        views = {
            crop_and_flip(image, seed(number), config).numpy().round(2).tobytes()
            for number in range(120)
        }
        assert len(views) == expected


@pytest.mark.parametrize("min_area", [0.1, 0.5])
def test_random_crops_cover_the_stated_area(min_area):
    # A gradient from 0 to 1 in each direction tells from its range how much of the
    # image a crop shows.
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
    np.testing.assert_allclose(
        changed, np.broadcast_to(changed[0, 0], changed.shape), atol=1e-5
    )


def test_grey_is_luminance():
    grey = to_grayscale(
        tf.constant([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    ).numpy()
    np.testing.assert_allclose(
        grey[0], [[0.2989] * 3, [0.5870] * 3, [0.1140] * 3], rtol=1e-6
    )


def test_colour_is_dropped_as_often_as_stated():
    config = AugmentConfig(8, color_jitter_strength=0.0, grayscale_prob=0.3)
    views = [one_view(IMAGE, seed(number), config).numpy() for number in range(300)]
    share = np.mean([np.ptp(view, axis=2).max() < 1e-6 for view in views])
    assert 0.22 < share < 0.38  # three standard errors about 0.3


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,  # larger and smaller than their images, all eight symmetries
        AugmentConfig(40, 0.08, 1.0, 0.2, 0.5, rot90_flips=False),
        AugmentConfig(20, 0.3, 0.5, 0.5, 1.0, brightness="add"),
    ],
)
def test_a_batch_on_the_device_gets_what_every_image_would_get_alone(config, compiled):
    rng = np.random.default_rng(0)
    shapes = rng.integers(12, 33, (48, 2))
    images = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    seeds = [seed(number) for number in range(len(images))]
    alone = [
        one_view(image, one, config) for image, one in zip(images, seeds, strict=True)
    ]
    drawn = [
        draw_view(tf.constant(image.shape[:2]), one, config)
        for image, one in zip(images, seeds, strict=True)
    ]
    assert SOURCE_SCALE == pipeline.SOURCE_SCALE  # of what the pipeline gives
    batch = tf.stack([prepared(image, config) for image in images])
    views = tf.nest.map_structure(lambda *each: tf.stack(each), *drawn)
    # What isn't in a crop must not be looked at.
    outside = tf.stack([prepared(np.ones_like(image), config) for image in images]) == 0
    batch = tf.where(outside, tf.constant(255, tf.uint8), batch)
    apply = tf.function(lambda x, y: apply_views(x, y, config), jit_compile=compiled)
    together = apply(batch, views)
    assert together.shape == (48, config.image_size, config.image_size, 3)
    np.testing.assert_allclose(together, tf.stack(alone), atol=5e-6)


def test_views_on_the_device_are_of_crops_up_to_a_size():
    with pytest.raises(ValueError, match="height must be <= target"):
        prepared(np.zeros((33, 20, 3), np.uint8), CONFIG)


# Against values of the official code (tests/golden/README.md), to float32 rounding.


@pytest.mark.parametrize(
    "key",
    [
        key
        for key in NUMBERS
        if key.startswith("color/") and "sequence" not in key and "/simclr" not in key
    ],
)
def test_parity_of_colour_operations(key):
    name, *amount = key.removeprefix("color/").split("/")
    image = NUMBERS["color/input"]
    if name == "input":
        return
    ours = (
        to_grayscale(image)
        if name == "grayscale"
        else COLOR[{"brightness": "multiply"}.get(name, name)](image, float(amount[0]))
    )
    assert relative(tf.clip_by_value(ours, 0.0, 1.0), NUMBERS[key]) < 3e-6


def test_parity_of_additive_brightness_and_of_sequences():
    image, facts = NUMBERS["color/input"], json.loads(str(NUMBERS["facts"]))
    shifted = tf.clip_by_value(COLOR["add"](image, 0.3), 0.0, 1.0)
    assert relative(shifted, NUMBERS["color/simclrv1_brightness_additive_0.3"]) < 1e-6
    letters = {
        "B": ("multiply", "brightness"),
        "C": ("contrast",) * 2,
        "S": ("saturation",) * 2,
        "H": ("hue",) * 2,
    }
    sequences = [key for key in NUMBERS if "sequence" in key]
    assert sequences
    for key in sequences:
        order, place = key.removeprefix("color/sequence_").split("/")
        changed = image
        for letter in order:
            operation, amount = letters[letter]
            changed = tf.clip_by_value(
                COLOR[operation](changed, facts["color_sequences"][int(place)][amount]),
                0.0,
                1.0,
            )
        assert relative(changed, NUMBERS[key]) < 3e-6, key


@pytest.mark.parametrize("key", [key for key in NUMBERS if key.startswith("blur/out/")])
def test_parity_of_blur(key):
    kernel, sigma, _ = key.removeprefix("blur/out/").split("_")
    ours = gaussian_blur(
        tf.constant(NUMBERS["blur/input"]), int(kernel[1:]), float(sigma[1:])
    )
    assert relative(ours, NUMBERS[key]) < 2e-6
    both = gaussian_blur(
        tf.stack([NUMBERS["blur/input"]] * 2), int(kernel[1:]), float(sigma[1:])
    )
    np.testing.assert_allclose(both[1], ours, atol=1e-6)


def test_parity_of_the_evaluation_crop():
    facts = json.loads(str(NUMBERS["facts"]))["eval"]
    for fact in facts:
        if fact["out_hw"] == [64, 64]:
            image = (
                tf.constant(NUMBERS[f"eval/{fact['i']}/input_uint8"], tf.float32) / 255
            )
            assert (
                relative(
                    evaluation_view(image, 64), NUMBERS[f"eval/{fact['i']}/output"]
                )
                < 5e-6
            ), fact


def test_random_crops_are_distributed_as_the_official_ones():
    fact = json.loads(str(NUMBERS["facts"]))["random_crop"][0]
    height, width = fact["image_hw"]
    x, y = tf.meshgrid(tf.linspace(0.0, 1.0, width), tf.linspace(0.0, 1.0, height))
    image = tf.stack([x, y, x], axis=2)
    crops = tf.data.Dataset.range(1500, output_type=tf.int32).map(
        lambda number: random_crop(image, tf.stack([7, number]), 48, 0.08)
    )
    areas = [
        np.ptp(crop[..., 0]) * np.ptp(crop[..., 1])
        for crop in crops.as_numpy_iterator()
    ]
    stated = fact["area_fraction"]["percentiles"]
    for percentile in ("10", "25", "50", "75", "90"):
        # Three standard errors of a percentile of 1500 draws; the range of a scaled
        # crop is a little short of the crop's.
        assert np.percentile(areas, float(percentile)) == pytest.approx(
            stated[percentile], abs=0.045
        ), percentile


def drawn(config, count=2000):
    """What draw_view draws, over many seeds."""

    def draw(number):
        one = tf.stack([0, tf.cast(number, tf.int32)])
        view = draw_view(tf.constant([120, 160]), one, config)
        amounts = tf.stack(view.amounts)
        return view.jittered, view.order, amounts, view.gray, view.sigma

    found = next(iter(tf.data.Dataset.range(count).map(draw).batch(count)))
    return [part.numpy() for part in found]


@pytest.mark.parametrize("strength", [0.5, 1.25])
def test_colors_change_as_often_and_as_much_as_stated(strength):
    config = AugmentConfig(
        16, color_jitter_strength=strength, grayscale_prob=0.3, blur_prob=0.4
    )
    jittered, order, amounts, gray, sigma = drawn(config)
    for share, stated in ((jittered, 0.8), (gray, 0.3), (sigma > 0, 0.4)):
        error = np.sqrt(stated * (1 - stated) / len(share))
        assert abs(share.mean() - stated) < 4 * error
    low, high = max(0, 1 - 0.8 * strength), 1 + 0.8 * strength
    shift = 0.2 * strength
    for values, first, last in [
        *((amounts[:, place], low, high) for place in range(3)),
        (amounts[:, 3], -shift, shift),
        (sigma[sigma > 0], 0.1, 2),
    ]:
        assert first <= values.min() < first + 0.02 * (last - first)
        assert last - 0.02 * (last - first) < values.max() <= last
        error = (last - first) / np.sqrt(12 * len(values))
        assert abs(values.mean() - (first + last) / 2) < 4 * error
    counts = np.unique(order, axis=0, return_counts=True)[1]
    assert len(counts) == 24  # every order
    assert counts.min() > 2000 / 24 * 0.6
    # Nothing of a view tells of another part of it.
    parts = np.stack([jittered, gray, sigma > 0, *amounts.T, order[:, 0]], axis=1)
    apart = np.corrcoef(parts.T.astype(float)) - np.eye(8)
    assert np.abs(apart).max() < 0.1


def test_what_has_no_strength_is_never_drawn_and_brightness_may_add():
    jittered, *_, gray, sigma = drawn(AugmentConfig(16, color_jitter_strength=0), 200)
    assert not (jittered.any())
    assert not (gray.any())
    assert not (sigma.any())
    config = AugmentConfig(16, color_jitter_strength=0.5)
    multiplied = drawn(config, 50)[2]
    added = drawn(dataclasses.replace(config, brightness="add"), 50)[2]
    np.testing.assert_allclose(added[:, 0], multiplied[:, 0] - 1, atol=1e-6)
    np.testing.assert_array_equal(added[:, 1:], multiplied[:, 1:])


def test_a_seed_draws_what_it_always_drew():
    """A run that is resumed, or made again, sees the same views."""
    view = draw_view(tf.constant([120, 160]), tf.constant([1, 2]), AugmentConfig(32))
    assert view.box.numpy().tolist() == [5, 18, 110, 125]
    assert [bool(flip) for flip in view.flips] == [True, True, False]
    assert view.order.numpy().tolist() == [2, 1, 3, 0]
    amounts = [float(amount) for amount in view.amounts]
    assert amounts == pytest.approx([0.969, 0.91715, 0.91022, -0.02085], abs=1e-5)
    assert bool(view.jittered)
