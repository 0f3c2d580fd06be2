"""SimCLR's data augmentation (appendix A of the paper), stateless: the same seed gives
the same view.

All functions take and return float32 RGB [height, width, 3] in [0, 1] and a seed, int32
[2].
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from simclr_tf2.config import BRIGHTNESS, AugmentConfig

# What colour jitter does, by how much; to be clipped to [0, 1] afterwards.
COLOR: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "multiply": lambda image, factor: image * factor,
    "add": lambda image, shift: image + shift,
    "contrast": tf.image.adjust_contrast,
    "saturation": tf.image.adjust_saturation,
    "hue": tf.image.adjust_hue,
}
_LUMINANCE = (0.2989, 0.5870, 0.1140)
_fold = tf.random.experimental.stateless_fold_in


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
    return one_view(image, _fold(seed, 1), config), one_view(
        second, _fold(seed, 2), config
    )


def one_view(image: tf.Tensor, seed: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Random crop, flip, colour jitter with probability 0.8, grey and blur with
    probability `config.grayscale_prob`, `config.blur_prob`.
    """
    image = crop_and_flip(image, seed, config)
    if config.color_jitter_strength > 0:

        def jittered(x):
            return color_jitter(
                x, _fold(seed, 11), config.color_jitter_strength, config.brightness
            )

        image = _sometimes(0.8, _fold(seed, 10), image, jittered)
    if config.grayscale_prob > 0:
        image = _sometimes(config.grayscale_prob, _fold(seed, 12), image, to_grayscale)
    if config.blur_prob > 0:
        image = _sometimes(
            config.blur_prob,
            _fold(seed, 13),
            image,
            lambda x: random_blur(x, _fold(seed, 14)),
        )
    return image


def batched(augment: Callable) -> Callable:
    """The same augmentation for a batch: (images [batch, height, width, 3], seeds
    [batch, 2]) -> its results, stacked.

    Every image gets what it would get alone.
    """

    def augment_all(images: tf.Tensor, seeds: tf.Tensor):
        one = tf.nest.map_structure(
            lambda view: tf.TensorSpec(view.shape, view.dtype),
            tf.function(augment)
            .get_concrete_function(
                tf.TensorSpec(images.shape[1:], tf.float32),
                tf.TensorSpec((2,), tf.int32),
            )
            .structured_outputs,
        )
        return tf.map_fn(
            lambda pair: augment(*pair), (images, seeds), fn_output_signature=one
        )

    return augment_all


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
    image = random_crop(image, _fold(seed, 3), config.image_size, config.min_area)
    image = _sometimes(0.5, _fold(seed, 4), image, tf.image.flip_left_right)
    if config.rot90_flips:
        image = _sometimes(0.5, _fold(seed, 5), image, tf.image.flip_up_down)
        image = _sometimes(
            0.5, _fold(seed, 6), image, tf.image.transpose
        )  # with the flips: all eight symmetries
    image.set_shape((config.image_size, config.image_size, 3))
    return image


def random_crop(
    image: tf.Tensor, seed: tf.Tensor, size: int, min_area: float
) -> tf.Tensor:
    """A random box of `min_area` to all of the image, aspect 3/4 to 4/3, scaled to size
    x size (bicubic, clipped).
    """
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
    resized = tf.image.resize(
        tf.slice(image, begin, extent), (size, size), method="bicubic"
    )
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
    if brightness not in BRIGHTNESS:
        raise ValueError(
            f"brightness must be one of {', '.join(BRIGHTNESS)}; got {brightness!r}"
        )
    spread, shift = 0.8 * strength, 0.2 * strength
    low, high = max(0.0, 1 - spread), 1 + spread
    factors = tf.random.stateless_uniform((3,), _fold(seed, 1), low, high)
    hue = tf.random.stateless_uniform((), _fold(seed, 2), -shift, shift)
    shift_or_factor = factors[0] if brightness == "multiply" else factors[0] - 1
    steps = (
        (brightness, shift_or_factor),
        ("contrast", factors[1]),
        ("saturation", factors[2]),
        ("hue", hue),
    )
    operations = [
        lambda x, name=name, amount=amount: COLOR[name](x, amount)
        for name, amount in steps
    ]
    order = tf.argsort(tf.random.stateless_uniform((len(operations),), _fold(seed, 3)))
    for place in range(len(operations)):
        branches = [lambda x=image, apply=apply: apply(x) for apply in operations]
        image = tf.clip_by_value(tf.switch_case(order[place], branches), 0.0, 1.0)
    return image


def random_blur(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Gaussian blur with sigma uniform in [0.1, 2) over a tenth of the image's height
    (appendix A).
    """
    return tf.clip_by_value(
        gaussian_blur(
            image, image.shape[0] // 10, tf.random.stateless_uniform((), seed, 0.1, 2.0)
        ),
        0.0,
        1.0,
    )


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


def _sometimes(
    probability: float, seed: tf.Tensor, image: tf.Tensor, apply
) -> tf.Tensor:
    return tf.cond(
        tf.random.stateless_uniform((), seed) < probability,
        lambda: apply(image),
        lambda: image,
    )
