"""The augmentation of `simclr_tf2.augment` for a whole batch at once, on the device
that trains: the same views, to rounding.

Chance has decided before (`augment.draw_view`, on the host, a few numbers an image);
what is left is arithmetic on pixels of one shape, which an accelerator does in no time
and XLA can compile. Cropping, scaling and flipping are two products with matrices, and
so is the blur.
"""

from __future__ import annotations

import tensorflow as tf

from simclr_tf2.augment import JITTER, View, to_grayscale
from simclr_tf2.config import AugmentConfig

# tf.image.resize looks its cubic kernel up at so many places a pixel.
_PLACES = 1024
_CUBIC = -0.5  # of Keys' kernel
# Longest side of the images, in sizes of the views.
SOURCE_SCALE = 2


def prepared(image: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """An image [height, width, 3] in the corner of a square of SOURCE_SCALE times the
    views' size, so that a batch has one shape.

    Raises:
        ValueError, InvalidArgumentError: the image is larger.
    """
    side = SOURCE_SCALE * config.image_size
    return tf.image.pad_to_bounding_box(image, 0, 0, side, side)


def apply_views(images: tf.Tensor, views: View, config: AugmentConfig) -> tf.Tensor:
    """A view of each image.

    Args:
        images: uint8 or float32 [batch, side, side, 3], the latter in [0, 1]; what lies
            outside of the boxes is not looked at.
        views: of a batch, see `View`.
        config: what they were drawn with.

    Returns:
        float32 [batch, image_size, image_size, 3] in [0, 1].
    """
    pixels = tf.image.convert_image_dtype(images, tf.float32)
    pixels = _cropped_and_flipped(pixels, views, config.image_size)
    if config.color_jitter_strength > 0:
        jittered = _jittered(pixels, views, config.brightness)
        pixels = _where(views.jittered, jittered, pixels)
    if config.grayscale_prob > 0:
        pixels = _where(views.gray, to_grayscale(pixels), pixels)
    if config.blur_prob > 0:
        pixels = _where(views.sigma > 0, _blurred(pixels, views.sigma), pixels)
    return pixels


def _where(chosen: tf.Tensor, one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Of each image, one or the other; chosen: bool [batch]."""
    return tf.where(chosen[:, None, None, None], one, other)


def _times(rows: tf.Tensor, images: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """rows @ image @ columns^T for each channel; matrices [batch, out, side]."""
    images = tf.einsum("boh,bhwc->bowc", rows, images)
    return tf.einsum("bpw,bowc->bopc", columns, images)


def _cropped_and_flipped(images: tf.Tensor, views: View, size: int) -> tf.Tensor:
    top, left, height, width = tf.unstack(views.box, axis=1)
    rows = _bicubic(top, height, images.shape[1], size)
    columns = _bicubic(left, width, images.shape[2], size)
    left_right, up_down, transposed = views.flips
    rows = tf.where(up_down[:, None, None], rows[:, ::-1], rows)
    columns = tf.where(left_right[:, None, None], columns[:, ::-1], columns)
    pixels = tf.clip_by_value(_times(rows, images, columns), 0.0, 1.0)
    return _where(transposed, tf.transpose(pixels, [0, 2, 1, 3]), pixels)


def _bicubic(start: tf.Tensor, extent: tf.Tensor, side: int, size: int) -> tf.Tensor:
    """What scales `extent` pixels from `start` on to `size`, as tf.image.resize
    does; [batch, size, side].
    """
    scale = tf.cast(extent, tf.float32)[:, None] / size
    centers = (tf.range(size, dtype=tf.float32) + 0.5) * scale - 0.5
    whole = tf.floor(centers)
    centers = whole + tf.round((centers - whole) * _PLACES) / _PLACES
    pixel = tf.range(side)[None] - start[:, None]  # counted from the box's edge
    inside = (pixel >= 0) & (pixel < extent[:, None])
    apart = tf.abs(centers[:, :, None] - tf.cast(pixel, tf.float32)[:, None])
    near = ((_CUBIC + 2) * apart - (_CUBIC + 3)) * apart**2 + 1
    far = ((_CUBIC * apart - 5 * _CUBIC) * apart + 8 * _CUBIC) * apart - 4 * _CUBIC
    weights = tf.where(apart <= 1, near, tf.where(apart < 2, far, 0.0))
    weights = tf.where(inside[:, None], weights, 0.0)
    return weights / tf.reduce_sum(weights, axis=2, keepdims=True)


def _jittered(images: tf.Tensor, views: View, brightness: str) -> tf.Tensor:
    amounts = [amount[:, None, None, None] for amount in views.amounts]

    def brightened(x):
        return x * amounts[0] if brightness == "multiply" else x + amounts[0]

    def contrasted(x):
        mean = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
        return (x - mean) * amounts[1] + mean

    def saturated(x):
        hue, saturation, value = tf.split(tf.image.rgb_to_hsv(x), 3, axis=3)
        saturation = tf.clip_by_value(saturation * amounts[2], 0.0, 1.0)
        return tf.image.hsv_to_rgb(tf.concat([hue, saturation, value], 3))

    def tinted(x):
        hue, saturation, value = tf.split(tf.image.rgb_to_hsv(x), 3, axis=3)
        hue = tf.math.floormod(hue + amounts[3], 1.0)
        return tf.image.hsv_to_rgb(tf.concat([hue, saturation, value], 3))

    for place in range(len(JITTER)):
        now = views.order[:, place]
        done = images
        for at, operation in enumerate((brightened, contrasted, saturated, tinted)):
            done = _where(now == at, operation(images), done)
        images = tf.clip_by_value(done, 0.0, 1.0)
    return images


def _blurred(images: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    """As `augment.gaussian_blur` over a tenth of the height, of a sigma each."""
    size = int(images.shape[1])
    radius = size // 10 // 2
    places = tf.range(size, dtype=tf.float32)
    apart = places[:, None] - places[None]
    spread = 2 * tf.maximum(sigma, 0.1)[:, None, None] ** 2
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    whole = tf.reduce_sum(tf.exp(-(offsets**2) / spread), axis=2, keepdims=True)
    kernel = tf.where(tf.abs(apart) <= radius, tf.exp(-(apart**2) / spread), 0.0)
    kernel /= whole
    return tf.clip_by_value(_times(kernel, images, kernel), 0.0, 1.0)
