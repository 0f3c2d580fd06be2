"""Vision transformers of KerasHub for images of any size: a grid of patches of another
size than in training has its position embeddings interpolated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable("simclr_tf2")
class ToWholePatches(keras.layers.Layer):
    """Resizes images to the nearest size that whole patches fill.

    Args:
        patch: side of a patch in pixels.
    """

    def __init__(self, patch: int, **options: Any):
        super().__init__(**options)
        self.patch = patch

    def call(self, images):
        """Float [batch, height, width, 3]; bilinear, and the same pixels where the size
        fits already.
        """
        sides = tf.cast(tf.shape(images)[1:3], tf.float32) / self.patch
        count = tf.maximum(tf.cast(tf.round(sides), tf.int32), 1)
        return tf.image.resize(images, count * self.patch)

    def compute_output_shape(self, input_shape):
        """Batches of images of any size."""
        return (input_shape[0], None, None, 3)

    def get_config(self):
        """How to make it again."""
        return {**super().get_config(), "patch": self.patch}


class AnySize(keras.layers.Layer):
    """The first layer of a vision transformer, from images to tokens, for any size.

    What stands before the patches, such as the class token, keeps its position; the
    positions of the patches are a picture, which is resized by cubic interpolation to
    the grid that there is (Dosovitskiy et al. 2021, arXiv 2010.11929, section 3.2). At
    the size of training the tokens are the library's own.

    Args:
        inner: the library's layer, one of those that `knows` knows.
    """

    def __init__(self, inner: keras.layers.Layer, **options: Any):
        super().__init__(**options)
        self.inner = inner

    @staticmethod
    def knows(layer: Any) -> bool:
        """Whether it is the first layer of a transformer whose parts are known."""
        return type(layer).__name__ in _PARTS

    def _parts(self) -> _Parts:
        return _PARTS[type(self.inner).__name__](self.inner)

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return int(self._parts()[0].kernel_size[0])

    @property
    def prefix(self) -> int:
        """How many tokens stand before those of the patches."""
        _, tokens, _, extra = self._parts()
        return sum(0 if one is None else int(one.shape[1]) for one in (tokens, extra))

    def call(self, images):
        """[batch, height, width, 3] -> [batch, tokens, width of the network]."""
        cut, tokens, positions, extra = self._parts()
        patches = cut(images)
        batch, height, width = (ops.shape(patches)[axis] for axis in range(3))
        channels = int(patches.shape[-1])
        before = 0 if tokens is None else int(tokens.shape[1])
        side = round((int(positions.shape[1]) - before) ** 0.5)
        grid = ops.reshape(positions[:, before:], (1, side, side, channels))
        resized = tf.image.resize(
            tf.cast(grid, tf.float32), tf.stack((height, width)), "bicubic"
        )
        patches = patches + ops.cast(resized, patches.dtype)
        parts = [ops.reshape(patches, (batch, height * width, channels))]
        if extra is not None:
            parts.insert(0, ops.tile(extra, (batch, 1, 1)))
        if tokens is not None:
            parts.insert(0, ops.tile(tokens + positions[:, :before], (batch, 1, 1)))
        return ops.concatenate([ops.cast(p, patches.dtype) for p in parts], axis=1)

    def compute_output_shape(self, input_shape):
        """Any number of tokens."""
        cut = self._parts()[0]
        return (input_shape[0], None, cut.filters)


@keras.saving.register_keras_serializable("simclr_tf2")
class Grid(keras.layers.Layer):
    """Tokens of patches -> [batch, height, width, channels].

    Args:
        prefix: how many tokens stand before them.
        patch: side of a patch in pixels.
    """

    def __init__(self, prefix: int, patch: int, **options: Any):
        super().__init__(**options)
        self.prefix, self.patch = prefix, patch

    def call(self, tokens, images):
        """The tokens, and the images whose shape the grid has."""
        shape, size = ops.shape(tokens), ops.shape(images)
        sides = (size[1] // self.patch, size[2] // self.patch)
        return ops.reshape(tokens[:, self.prefix :], (shape[0], *sides, shape[-1]))

    def compute_output_shape(self, tokens_shape, images_shape):
        """A grid of any size."""
        return (tokens_shape[0], None, None, tokens_shape[-1])

    def get_config(self):
        """How to make it again."""
        return {**super().get_config(), "prefix": self.prefix, "patch": self.patch}


# Of a first layer: the convolution that cuts patches, the tokens before them that have
# positions, all positions, and tokens behind the first ones that have none.
_Parts = tuple[keras.layers.Conv2D, Any, Any, Any]


def _vit(layer: Any) -> _Parts:
    tokens = layer.class_token if layer.use_class_token else None
    return layer.patch_embedding, tokens, _looked_up(layer), None


def _deit(layer: Any) -> _Parts:
    tokens = ops.concatenate((layer.class_token, layer.distillation_token), axis=1)
    return layer.patch_embedding, tokens, layer.position_embedding, None


def _clip(layer: Any) -> _Parts:
    tokens = ops.expand_dims(layer.class_embedding, axis=(0, 1))
    return layer.patch_embedding, tokens, _looked_up(layer), None


def _siglip(layer: Any) -> _Parts:
    return layer.patch_embedding, None, _looked_up(layer), None


def _dinov2(layer: Any) -> _Parts:
    # Saving writes these positions back into others, which would change the hash of a
    # network whose positions were trained; nothing is masked here.
    layer.interpolated_position_embeddings.trainable = False
    if layer.use_mask_token:
        layer.mask_token.trainable = False
    extra = layer.register_tokens if layer.num_register_tokens else None
    positions = layer.interpolated_position_embeddings
    return layer.patch_embeddings.projection, layer.cls_token, positions, extra


def _looked_up(layer: Any) -> Any:
    return layer.position_embedding(layer.position_ids)


_PARTS: dict[str, Callable[[Any], _Parts]] = {
    "CLIPVisionEmbedding": _clip,
    "DINOV2Embedding": _dinov2,
    "DeiTEmbeddings": _deit,
    "MetaCLIP2VisionEmbedding": _clip,
    "SigLIPVisionEmbedding": _siglip,
    "ViTPatchingAndEmbedding": _vit,
}
