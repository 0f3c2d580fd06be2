"""From crops to vectors: what is read from an encoder, how it is pooled over a crop,
and over which orientations of the crop it is averaged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import numpy as np
import tensorflow as tf

from simclr_tf2.config import LAST, ORIENTATIONS, POOLINGS, STAGES, check_choice
from simclr_tf2.encoders.base import Encoder

CENTER_SIGMA = 0.2  # of the center prior, as a share of the crop's side
FLOOR = 0.05  # weight of what is no foreground: a crop without any is pooled evenly
GEM_POWER = 3.0
_log = logging.getLogger(__name__)


class Embedder:
    """An encoder with a recipe: uint8 crops -> vectors.

    What is read is one output or several. Several are pooled each for itself, made unit
    vectors, so that each counts the same, and joined. A crop's orientations are
    embedded one by one; their unit vectors are averaged (with eight of them a crop that
    is turned by quarters or mirrored has the same vector).

    Pooling over height and width: `mean`; `gem`, the generalized mean with power 3
    (Radenovic et al. 2018, arXiv 1711.02512); `center`, weighted by a Gaussian about
    the crop's center, of a fifth of its side; `green`, that times the pixels that are
    green as plants are (see `plants`); `mask`, weighted by the foreground that comes as
    a fourth channel, and by the green pixels where none does.

    Args:
        encoder: the network.
        endpoints: `last`, the second-to-last layer; `stages`, the outputs of the
            network's stages; or names of outputs, with commas between. An encoder
            without stages gives its last layer.
        pooling: one of POOLINGS.
        orientations: 1, the crop as it is; 2, mirrored too; 4 and 8, turned by quarters
            too, for pictures taken from above.

    Attributes:
        encoder, orientations: as given.
        endpoints: names of the outputs, with commas between.
        pooling: what is done; `mean` where there is nothing to pool otherwise.
        width: of the vectors.

    Raises:
        ValueError: an argument that is none of these.
    """

    def __init__(
        self,
        encoder: Encoder,
        endpoints: str = LAST,
        pooling: str = "mean",
        orientations: int = 1,
    ):
        check_choice("pooling", pooling, POOLINGS)
        check_choice("orientations", orientations, ORIENTATIONS)
        self.encoder, self.orientations = encoder, orientations
        names = _resolve(encoder, endpoints, pooling)
        self.endpoints = ",".join(names)
        self.pooling = "mean" if names == (encoder.features,) else pooling
        self.width = sum(encoder.widths[name] for name in names)

    def vectors(
        self, images: tf.Tensor, foreground: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Embeds.

        Args:
            images: float32 RGB [batch, height, width, 3] in [0, 1].
            foreground: float32 [batch, height, width, 1] in [0, 1], for `mask`.

        Returns:
            float32 [batch, width].
        """
        weights = self._weights(images, foreground)
        if self.orientations == 1:
            return self._oriented(images, weights)
        found = [
            tf.math.l2_normalize(self._oriented(turn(images), turn(weights)), -1)
            for turn in orientations(self.orientations)
        ]
        return tf.add_n(found) / len(found)

    def forward(self, crops: tf.Tensor) -> tf.Tensor:
        """uint8 crops [batch, height, width, 3 or 4] -> float32 [batch, width]; the
        fourth channel is the foreground.
        """
        pixels = tf.image.convert_image_dtype(crops, tf.float32)
        foreground = pixels[..., 3:] if crops.shape[-1] == 4 else None
        return self.vectors(pixels[..., :3], foreground)

    @cached_property
    def _embed(self) -> dict[int, Callable[[tf.Tensor], tf.Tensor]]:
        # One for each number of channels, which retracing would otherwise take for
        # something that varies.
        return {
            channels: tf.function(self.forward, reduce_retracing=True)
            for channels in (3, 4)
        }

    def embed(self, crops: np.ndarray | tf.Tensor) -> np.ndarray:
        """Embeds uint8 crops; see `forward`."""
        crops = tf.convert_to_tensor(crops, tf.uint8)
        return self._embed[crops.shape[-1]](crops).numpy()

    @property
    def takes_text(self) -> bool:
        """Whether texts have vectors of the same space: the encoder has a text tower,
        and its features are all that is read.
        """
        return self.encoder.text is not None and self.endpoints == self.encoder.features

    def content_hash(self) -> str:
        """SHA-256 over network, weights and recipe: two embedders of the same hash give
        the same vectors for the same crops.
        """
        read = self.endpoints
        if (self.pooling, self.orientations) != ("mean", 1):
            read += f"/{self.pooling}/{self.orientations}"
        return self.encoder.content_hash(read)

    def _oriented(self, images: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
        """The vectors of crops as they are, [batch, width]."""
        ends = self.encoder.endpoints(images)
        names = self.endpoints.split(",")
        parts = [self._pooled(ends, name, weights) for name in names]
        if len(parts) == 1:
            return parts[0]
        return tf.concat([tf.math.l2_normalize(part, -1) for part in parts], -1)

    def _pooled(
        self, ends: Mapping[str, tf.Tensor], name: str, weights: tf.Tensor | None
    ) -> tf.Tensor:
        values = tf.cast(ends[name], tf.float32)
        if len(values.shape) == 2:
            return values
        if self.pooling == "gem":
            powers = tf.maximum(values, 1e-6) ** GEM_POWER
            return tf.reduce_mean(powers, (1, 2)) ** (1 / GEM_POWER)
        if weights is None:
            return tf.reduce_mean(values, (1, 2))
        shares = shrink(weights, tf.shape(values)[1], tf.shape(values)[2])
        return tf.reduce_sum(values * shares, (1, 2)) / tf.reduce_sum(shares, (1, 2))

    def _weights(
        self, images: tf.Tensor, foreground: tf.Tensor | None
    ) -> tf.Tensor | None:
        """What each pixel counts, float32 [batch, height, width, 1]; None: the same."""
        if self.pooling in ("mean", "gem"):
            return None
        if self.pooling == "mask":
            return (plants(images) if foreground is None else foreground) + FLOOR
        prior = center_prior(tf.shape(images)[1], tf.shape(images)[2])
        if self.pooling == "center":
            return tf.ones_like(images[..., :1]) * prior
        return (plants(images) + FLOOR) * prior


def _resolve(encoder: Encoder, endpoints: str, pooling: str) -> tuple[str, ...]:
    """Names of the outputs to read."""
    if endpoints == STAGES and encoder.stages:
        return encoder.stages
    if endpoints == LAST and pooling == "mean":
        return (encoder.features,)
    if endpoints == LAST and encoder.top:
        return (encoder.top,)
    if endpoints in (LAST, STAGES):
        _log.warning(
            "%s has no stages to pool: its %s is read",
            encoder.config.name,
            encoder.features,
        )
        return (encoder.features,)
    names = tuple(name.strip() for name in endpoints.split(","))
    if not set(names) <= set(encoder.widths) or len(set(names)) < len(names):
        raise ValueError(
            f"endpoints of {encoder.config.name} must be {LAST} alone, {STAGES} alone, "
            f"or some of {', '.join(encoder.widths)}, each once; got {endpoints!r}"
        )
    return names


def orientations(count: int) -> Iterator[Callable]:
    """Functions that turn and mirror [batch, height, width, channels], or pass None on:
    the first as it is, then mirrored, then both turned by one, two, three quarters.
    """
    for place in range(count):
        yield (
            lambda pixels, turns=place // 2, mirror=place % 2: _turned(
                pixels, turns, mirror
            )
        )


def _turned(pixels: tf.Tensor | None, turns: int, mirror: int) -> tf.Tensor | None:
    if pixels is None:
        return None
    turned = tf.image.rot90(pixels, turns)
    return tf.reverse(turned, (2,)) if mirror else turned


def plants(images: tf.Tensor) -> tf.Tensor:
    """Which pixels are green as plants are: excess green over excess red is positive
    (Meyer & Camargo Neto 2008, doi:10.1016/j.compag.2008.03.009).

    Args:
        images: float32 RGB [..., 3] in [0, 1].

    Returns:
        float32 [..., 1], 0 or 1.
    """
    # (2g - r - b) - (1.4r - g); brightness doesn't change its sign.
    excess = tf.reduce_sum(images * tf.constant((-2.4, 3.0, -1.0)), -1, keepdims=True)
    return tf.cast(excess > 0, tf.float32)


def center_prior(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """A Gaussian about the center, 1 at its peak; float32 [1, height, width, 1]."""

    def along(side: tf.Tensor) -> tf.Tensor:
        places = (tf.range(side, dtype=tf.float32) + 0.5) / tf.cast(side, tf.float32)
        return tf.exp(-0.5 * ((places - 0.5) / CENTER_SIGMA) ** 2)

    return (along(height)[:, None] * along(width)[None])[None, :, :, None]


def shrink(values: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Area means, as a product of two matrices, which every device has.

    Args:
        values: float32 [batch, H, W, 1].
        height, width: of the result.

    Returns:
        float32 [batch, height, width, 1]: each cell the mean of the part of `values`
        that it covers.
    """

    def along(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        """[after, before], rows sum to 1."""
        scale = tf.cast(before, tf.float32) / tf.cast(after, tf.float32)
        start = tf.range(after, dtype=tf.float32)[:, None] * scale
        pixel = tf.range(before, dtype=tf.float32)[None]
        overlap = tf.minimum(start + scale, pixel + 1) - tf.maximum(start, pixel)
        return tf.maximum(overlap, 0.0) / scale

    rows = along(tf.shape(values)[1], height)
    columns = along(tf.shape(values)[2], width)
    return tf.einsum("ih,bhwc,jw->bijc", rows, values, columns)
