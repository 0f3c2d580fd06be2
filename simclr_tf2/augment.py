"""SimCLR's data augmentation (appendix A of the paper), stateless: the same seed gives the same view.

All functions take and return float32 RGB [height, width, 3] in [0, 1] and a seed, int32 [2].
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

_GREY = (0.2989, 0.5870, 0.1140)
_fold = tf.random.experimental.stateless_fold_in


@dataclass(frozen=True)
class AugmentConfig:
    """What a view may change."""

    image_size: int  # side of the square views
    min_area: float = 0.08  # a random crop covers at least this share of the image
    jitter: float = 1.0  # strength of colour jitter: 1 is SimCLR's ImageNet setting, 0 turns it off
    grey: float = 0.2  # probability of dropping the colour
    from_above: bool = True  # flips up-down and quarter turns: plants seen from above have no upright


def two_views(image: tf.Tensor, seed: tf.Tensor, config: AugmentConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Two independent views of one image, for contrastive training; [image_size, image_size, 3] each."""
    return one_view(image, _fold(seed, 1), config), one_view(image, _fold(seed, 2), config)


def one_view(image: tf.Tensor, seed: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Random crop, flip, colour jitter with probability 0.8, grey with probability `config.grey`."""
    image = crop_and_flip(image, seed, config)
    if config.jitter > 0:
        image = _sometimes(0.8, _fold(seed, 10), image, lambda x: color_jitter(x, _fold(seed, 11), config.jitter))
    if config.grey > 0:
        image = _sometimes(config.grey, _fold(seed, 12), image, to_grey)
    return image


def crop_and_flip(image: tf.Tensor, seed: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """The geometric part alone, SimCLR's augmentation for supervised training and fine-tuning."""
    image = random_crop(image, _fold(seed, 3), config.image_size, config.min_area)
    image = _sometimes(0.5, _fold(seed, 4), image, tf.image.flip_left_right)
    if config.from_above:
        image = _sometimes(0.5, _fold(seed, 5), image, tf.image.flip_up_down)
        image = _sometimes(0.5, _fold(seed, 6), image, tf.image.transpose)  # with the flips: all eight symmetries
    image.set_shape((config.image_size, config.image_size, 3))
    return image


def random_crop(image: tf.Tensor, seed: tf.Tensor, size: int, min_area: float) -> tf.Tensor:
    """A random box of `min_area` to all of the image, aspect 3/4 to 4/3, scaled to size x size (bicubic, clipped)."""
    whole = tf.constant([[[0.0, 0.0, 1.0, 1.0]]])
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        whole,
        seed,
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(min_area, 1.0),
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    resized = tf.image.resize(tf.slice(image, begin, extent), (size, size), method="bicubic")
    return tf.clip_by_value(resized, 0.0, 1.0)


def color_jitter(image: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Brightness, contrast, saturation (factors 1 +- 0.8 strength) and hue (+- 0.2 strength), in random order.

    Brightness multiplies (its factor is at least 0), contrast scales around each channel's mean, saturation and hue work
    in HSV; the result is clipped to [0, 1] after each.
    """
    spread, shift = 0.8 * strength, 0.2 * strength
    low, high = max(0.0, 1 - spread), 1 + spread
    factors = tf.random.stateless_uniform((3,), _fold(seed, 1), low, high)
    hue = tf.random.stateless_uniform((), _fold(seed, 2), -shift, shift)
    operations = (
        lambda x: x * factors[0],
        lambda x: tf.image.adjust_contrast(x, factors[1]),
        lambda x: tf.image.adjust_saturation(x, factors[2]),
        lambda x: tf.image.adjust_hue(x, hue),
    )
    order = tf.argsort(tf.random.stateless_uniform((len(operations),), _fold(seed, 3)))
    for place in range(len(operations)):
        branches = [lambda x=image, apply=apply: apply(x) for apply in operations]
        image = tf.clip_by_value(tf.switch_case(order[place], branches), 0.0, 1.0)
    return image


def to_grey(image: tf.Tensor) -> tf.Tensor:
    """Luminance in all three channels."""
    return tf.repeat(tf.tensordot(image, tf.constant(_GREY), 1)[..., None], 3, axis=-1)


def _sometimes(probability: float, seed: tf.Tensor, image: tf.Tensor, apply) -> tf.Tensor:
    return tf.cond(tf.random.stateless_uniform((), seed) < probability, lambda: apply(image), lambda: image)
