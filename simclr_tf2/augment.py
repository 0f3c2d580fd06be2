"""SimCLR's data augmentation (appendix A of the paper), stateless: the same seed gives
the same view.

All functions take and return float32 RGB [height, width, 3] in [0, 1] and a seed, int32
[2]; views are made of uint8 RGB, too. What chance decides is drawn first (`draw_view`);
`simclr_tf2.batched_augment` makes the same views of a whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from simclr_tf2.config import BRIGHTNESS, AugmentConfig, check_choice

# What colour jitter does, by how much; to be clipped to [0, 1] afterwards.
COLOR: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "multiply": lambda image, factor: image * factor,
    "add": lambda image, shift: image + shift,
    "contrast": tf.image.adjust_contrast,
    "saturation": tf.image.adjust_saturation,
    "hue": tf.image.adjust_hue,
}
JITTER = ("brightness", "contrast", "saturation", "hue")
_LUMINANCE = (0.2989, 0.5870, 0.1140)
_fold = tf.random.experimental.stateless_fold_in


class View(NamedTuple):
    """What chance decides about a view; a batch of them has one more dimension in
    front.

    Attributes:
        box: int32 [4], top, left, height and width of the crop, in pixels.
        flips: three bool, left-right, up-down, transposed; in this order.
        jittered, gray: bool, whether colors change, and whether they go.
        order: int32 [4], places in JITTER, in the order in which they are done.
        amounts: four float32, of JITTER.
        sigma: float32, of the blur in pixels; 0 for none.
    """

    box: tf.Tensor
    flips: tuple[tf.Tensor, ...]
    jittered: tf.Tensor
    order: tf.Tensor
    amounts: tuple[tf.Tensor, ...]
    gray: tf.Tensor
    sigma: tf.Tensor


def draw_view(size: tf.Tensor, seed: tf.Tensor, config: AugmentConfig) -> View:
    """Draws a view of an image of `size`, int32 [2], height and width in pixels.

    Jitter comes with probability 0.8, grey and blur with `config.grayscale_prob` and
    `config.blur_prob`.
    """
    strength, sigma = config.color_jitter_strength, tf.constant(0.0)
    order, amounts = tf.range(len(JITTER)), (tf.constant(0.0),) * len(JITTER)
    if strength > 0:
        order, amounts = _draw_jitter(_fold(seed, 11), strength, config.brightness)
    if config.blur_prob > 0:
        blurred = _chance(config.blur_prob, _fold(seed, 13))
        sigma = tf.where(blurred, _draw_sigma(_fold(seed, 14)), 0.0)
    return View(
        _draw_box(size, _fold(seed, 3), config.min_area),
        _draw_flips(seed, config.rot90_flips),
        _chance(0.8 if strength > 0 else 0.0, _fold(seed, 10)),
        order,
        amounts,
        _chance(config.grayscale_prob, _fold(seed, 12)),
        sigma,
    )


def two_views(
    image: tf.Tensor,
    seed: tf.Tensor,
    config: AugmentConfig,
    partner: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Two independent views of one image, for contrastive training; [image_size,
    image_size, 3] each. With a partner, an image that counts as the same, the second
    is of that.
    """
    second = image if partner is None else partner
    of_first, of_second = seeds_of_two(seed)
    return one_view(image, of_first, config), one_view(second, of_second, config)


def seeds_of_two(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The seeds of both views of an image."""
    return _fold(seed, 1), _fold(seed, 2)


def one_view(image: tf.Tensor, seed: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Random crop, flip, colour jitter, grey and blur; see `draw_view`."""
    image = tf.image.convert_image_dtype(image, tf.float32)
    view = draw_view(tf.shape(image)[:2], seed, config)
    image = _cropped_and_flipped(image, view, config)
    if config.color_jitter_strength > 0:
        image = tf.cond(
            view.jittered,
            lambda: _jittered(image, view.order, view.amounts, config.brightness),
            lambda: image,
        )
    if config.grayscale_prob > 0:
        image = tf.cond(view.gray, lambda: to_grayscale(image), lambda: image)
    if config.blur_prob > 0:
        image = tf.cond(
            view.sigma > 0, lambda: _blurred(image, view.sigma), lambda: image
        )
    return image


def evaluation_view(image: tf.Tensor, size: int, crop: float = 0.875) -> tf.Tensor:
    """The centre of an image, `crop` of its shorter side, scaled to size x size
    (bicubic, clipped): the paper's test crop.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    side = tf.cast(
        tf.round(crop * tf.cast(tf.minimum(height, width), tf.float32)), tf.int32
    )
    image = tf.image.crop_to_bounding_box(
        image, (height - side + 1) // 2, (width - side + 1) // 2, side, side
    )
    return tf.clip_by_value(
        tf.image.resize(image, (size, size), method="bicubic"), 0.0, 1.0
    )


def crop_and_flip(
    image: tf.Tensor, seed: tf.Tensor, config: AugmentConfig
) -> tf.Tensor:
    """The geometric part alone, SimCLR's augmentation for supervised training and
    fine-tuning.
    """
    image = tf.image.convert_image_dtype(image, tf.float32)
    view = draw_view(tf.shape(image)[:2], seed, config)
    return _cropped_and_flipped(image, view, config)


def _cropped_and_flipped(
    image: tf.Tensor, view: View, config: AugmentConfig
) -> tf.Tensor:
    image = _resized(image, view.box, config.image_size)
    flips = [tf.image.flip_left_right]
    if config.rot90_flips:  # together all eight symmetries
        flips += [tf.image.flip_up_down, tf.image.transpose]
    for place, flip in enumerate(flips):
        image = tf.cond(
            view.flips[place], lambda x=image, flip=flip: flip(x), lambda x=image: x
        )
    image.set_shape((config.image_size, config.image_size, 3))
    return image


def random_crop(
    image: tf.Tensor, seed: tf.Tensor, size: int, min_area: float
) -> tf.Tensor:
    """A random box of `min_area` to all of the image, aspect 3/4 to 4/3, scaled to size
    x size (bicubic, clipped).
    """
    return _resized(image, _draw_box(tf.shape(image)[:2], seed, min_area), size)


def _draw_box(size: tf.Tensor, seed: tf.Tensor, min_area: float) -> tf.Tensor:
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([size, [3]], 0),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed,
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(min_area, 1.0),
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], extent[:2]], 0)


def _draw_flips(seed: tf.Tensor, rot90_flips: bool) -> tuple[tf.Tensor, ...]:
    likely = (0.5, 0.5, 0.5) if rot90_flips else (0.5, 0.0, 0.0)
    return tuple(
        _chance(share, _fold(seed, 4 + place)) for place, share in enumerate(likely)
    )


def _resized(image: tf.Tensor, box: tf.Tensor, size: int) -> tf.Tensor:
    part = tf.slice(image, tf.concat([box[:2], [0]], 0), tf.concat([box[2:], [3]], 0))
    resized = tf.image.resize(part, (size, size), method="bicubic")
    return tf.clip_by_value(resized, 0.0, 1.0)


def color_jitter(
    image: tf.Tensor, seed: tf.Tensor, strength: float, brightness: str = "multiply"
) -> tf.Tensor:
    """Brightness, contrast, saturation (factors 1 +- 0.8 strength) and hue (+- 0.2
    strength), in random order.

    Brightness multiplies (its factor is at least 0) or adds (+- 0.8 strength), contrast
    scales around each channel's mean, saturation and hue work in HSV; the result is
    clipped to [0, 1] after each.
    """
    check_choice("brightness", brightness, BRIGHTNESS)
    order, amounts = _draw_jitter(seed, strength, brightness)
    return _jittered(image, order, amounts, brightness)


def _draw_jitter(
    seed: tf.Tensor, strength: float, brightness: str
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """Order and amounts of JITTER."""
    spread, shift = 0.8 * strength, 0.2 * strength
    low, high = max(0.0, 1 - spread), 1 + spread
    factors = tf.random.stateless_uniform((3,), _fold(seed, 1), low, high)
    hue = tf.random.stateless_uniform((), _fold(seed, 2), -shift, shift)
    of_brightness = factors[0] if brightness == "multiply" else factors[0] - 1
    order = tf.argsort(tf.random.stateless_uniform((len(JITTER),), _fold(seed, 3)))
    return order, (of_brightness, factors[1], factors[2], hue)


def _jittered(
    image: tf.Tensor, order: tf.Tensor, amounts: Sequence[tf.Tensor], brightness: str
) -> tf.Tensor:
    operations = [COLOR[brightness], *(COLOR[name] for name in JITTER[1:])]
    for place in range(len(JITTER)):
        branches = [
            lambda x=image, apply=apply, amount=amounts[at]: apply(x, amount)
            for at, apply in enumerate(operations)
        ]
        image = tf.clip_by_value(tf.switch_case(order[place], branches), 0.0, 1.0)
    return image


def _draw_sigma(seed: tf.Tensor) -> tf.Tensor:
    """Uniform in [0.1, 2) (appendix A)."""
    return tf.random.stateless_uniform((), seed, 0.1, 2.0)


def _blurred(image: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    """Gaussian blur over a tenth of the image's height (appendix A)."""
    blurred = gaussian_blur(image, image.shape[0] // 10, sigma)
    return tf.clip_by_value(blurred, 0.0, 1.0)


def gaussian_blur(
    images: tf.Tensor, kernel_size: int, sigma: tf.Tensor | float
) -> tf.Tensor:
    """Blurs one image or a batch, [..., height, width, channels], with a kernel of 2 *
    (kernel_size // 2) + 1 pixels.

    Beyond the border lies black, so that edges darken, as in the published code.
    """
    radius = kernel_size // 2
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    weights = tf.exp(-(offsets**2) / (2 * tf.cast(sigma, tf.float32) ** 2))
    weights /= tf.reduce_sum(weights)
    batch = images if len(images.shape) == 4 else images[None]
    for shape in (
        (1, -1, 1, 1),
        (-1, 1, 1, 1),
    ):  # along the width, then along the height
        kernel = tf.tile(tf.reshape(weights, shape), [1, 1, batch.shape[-1], 1])
        batch = tf.nn.depthwise_conv2d(batch, kernel, [1, 1, 1, 1], "SAME")
    return batch if len(images.shape) == 4 else batch[0]


def to_grayscale(image: tf.Tensor) -> tf.Tensor:
    """Luminance in all three channels."""
    return tf.repeat(
        tf.tensordot(image, tf.constant(_LUMINANCE), 1)[..., None], 3, axis=-1
    )


def _chance(probability: float, seed: tf.Tensor) -> tf.Tensor:
    if probability <= 0:
        return tf.constant(False)
    return tf.random.stateless_uniform((), seed) < probability
