"""Any image network of KerasHub, as `kerashub:<preset>`, with its own preprocessing;
CLIP's and SigLIP's with their text towers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from simclr_tf2.config import IMAGENET, RANDOM, EncoderConfig
from simclr_tf2.encoders.base import (
    MADE_OF,
    Encoder,
    load_keras_weights,
)
from simclr_tf2.encoders.vision_transformer import AnySize, Grid, ToWholePatches

PREFIX = "kerashub:"
_WEIGHTS = "encoder.weights.h5"
_FINEST = 3  # the first stage that is read has a stride of 2 to this power


@keras.saving.register_keras_serializable("simclr_tf2")
class PresetPreprocessing(keras.layers.Layer):
    """RGB in [0, 1] -> what a network of KerasHub expects.

    Args:
        scale, offset: of its image converter, for RGB in [0, 255]; numbers, one for
            each channel, or None.
        size: height and width that the network takes; None: any.
    """

    def __init__(self, scale: Any, offset: Any, size: Any = None, **options: Any):
        super().__init__(**options)
        self.scale, self.offset, self.size = scale, offset, size

    def call(self, images):
        """Float RGB [batch, height, width, 3] in [0, 1]."""
        if self.size:
            images = tf.image.resize(images, self.size)
        scale = 1.0 if self.scale is None else np.asarray(self.scale, np.float32)
        offset = 0.0 if self.offset is None else np.asarray(self.offset, np.float32)
        return images * 255.0 * scale + offset

    def compute_output_shape(self, input_shape):
        """That of the input, or of the network's own size."""
        return (input_shape[0], *(self.size or input_shape[1:3]), 3)

    def get_config(self):
        """How to make it again."""
        facts = {"scale": self.scale, "offset": self.offset, "size": self.size}
        return {**super().get_config(), **facts}


class TextTower:
    """Words -> vectors of the same space as the features of the images.

    Args:
        preset: of CLIP or SigLIP.
        backbone: that preset's, where it is loaded already.
    """

    def __init__(self, preset: str, backbone: Any = None):
        self.preset, self._backbone = preset, backbone
        self._words: Any = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts, as the preset's own preprocessor splits them into tokens.

        Returns:
            float32 [texts, width].

        Raises:
            OSError: the preset can't be loaded.
        """
        if self._backbone is None:
            self._backbone = _loaded("Backbone", self.preset)
        if self._words is None:
            kind = type(self._backbone).__name__.replace("Backbone", "Preprocessor")
            self._words = _loaded(kind, self.preset)
            self._words.image_converter = None
        tokens = self._words({"images": None, "prompts": list(texts)})["token_ids"]
        vectors = self._backbone.get_text_embeddings(tokens)
        return np.asarray(vectors, np.float32)


def make(config: EncoderConfig) -> Encoder:
    """The encoder of a preset.

    Args:
        config: `weights` are "imagenet", the preset's own, downloaded by the library
            on first use; "random"; the folder of a preset, as `save_to_preset` writes
            it; or the encoder.weights.h5 of a fine-tuned one.

    The features are what a classifier would stand on: the class token of a
    vision transformer (`class_token`, beside it `patch_mean`, and as `top` the grid of
    patches), the image's vector of CLIP and SigLIP (`image`), the mean over height and
    width of a convolutional network (`avg_pool`, beside it `stage3` to `stage5`).

    Raises:
        ValueError: the preset is of no image network.
        OSError: it can't be loaded, or KerasHub isn't installed.
    """
    weights, name = config.weights, config.name.removeprefix(PREFIX)
    if not name:
        raise ValueError(
            "encoder must be kerashub:<preset>, such as kerashub:dinov2_small; got "
            f"{config.name!r}"
        )
    is_tuned = weights.endswith(_WEIGHTS)
    if is_tuned:
        _library()  # knows the class
        made_of = _stated(Path(weights))
        backbone = keras.saving.deserialize_keras_object(made_of["backbone"])
    else:
        preset = name if weights in (IMAGENET, RANDOM) else weights
        backbone = _loaded("Backbone", preset, load_weights=weights != RANDOM)
        converter = _loaded("ImageConverter", preset)
        made_of = {
            "preset": preset if preset == name else str(Path(preset).resolve()),
            "backbone": keras.saving.serialize_keras_object(backbone),
            "scale": converter.scale,
            "offset": converter.offset,
        }
    model, features = _network(backbone, made_of, name)
    if is_tuned:
        load_keras_weights(model, weights, config.name)
    has_text = hasattr(backbone, "get_text_embeddings")
    loaded = None if is_tuned or weights == RANDOM else backbone
    text = TextTower(made_of["preset"], loaded) if has_text else None
    return Encoder(config, model, features, made_of=made_of, text=text)


def _network(
    backbone: Any, made_of: dict[str, Any], name: str
) -> tuple[keras.Model, str]:
    """The network from RGB in [0, 1] to its outputs, and which of them the features
    are.
    """
    vision = getattr(backbone, "vision_encoder", backbone)
    inputs = keras.Input((None, None, 3), name="image")
    shape = _input_of(vision).shape
    first = next((one for one in vision.layers if AnySize.knows(one)), None)
    size = None if first or None in shape[1:3] else [int(side) for side in shape[1:3]]
    pixels = PresetPreprocessing(
        made_of["scale"], made_of["offset"], size, name="preprocess"
    )(inputs)
    if first is not None:
        ends, features = _transformer(backbone, vision, AnySize(first), pixels)
    else:
        ends, features = _other(vision, pixels)
    return keras.Model(inputs, ends, name=name.rpartition("/")[2]), features


def _transformer(
    backbone: Any, vision: keras.Model, first: AnySize, pixels: Any
) -> tuple[dict[str, Any], str]:
    """The outputs of a vision transformer whose positions can be resized."""
    head = getattr(vision, "head", None)  # of SigLIP, which pools by attention
    tokens = vision.output if head is None else vision.post_layer_norm.output
    whole = keras.models.clone_model(
        keras.Model(vision.inputs, [tokens, vision.output]),
        input_tensors=[keras.Input((None, None, 3), name="images")],
        clone_function=lambda one: first if one is first.inner else one,
    )
    pixels = ToWholePatches(first.patch, name="whole_patches")(pixels)
    tokens, output = whole([pixels])
    grid = Grid(first.prefix, first.patch, name="grid")(tokens, pixels)
    ends = {"patch_mean": keras.layers.GlobalAveragePooling2D(name="patch_mean")(grid)}
    if first.prefix:
        ends["class_token"] = tokens[:, 0]
    if hasattr(backbone, "vision_projection"):
        output = backbone.vision_projection(backbone.vision_pooler(output))
    if backbone is not vision:  # its vectors are those that texts are compared with
        return {**ends, "image": output}, "image"
    return {**ends, "top": grid}, "class_token" if first.prefix else "patch_mean"


def _other(vision: keras.Model, pixels: Any) -> tuple[dict[str, Any], str]:
    """The outputs of a network that takes images of any size, or of one size."""
    levels = {
        f"stage{level[1:]}": end
        for level, end in getattr(vision, "pyramid_outputs", {}).items()
        if level[1:].isdigit() and len(end.shape) == 4 and int(level[1:]) >= _FINEST
    }
    inner = keras.Model(vision.inputs, [*levels.values(), vision.output])
    *stages, output = inner([pixels])
    ends = dict(zip(levels, stages, strict=True))
    if len(output.shape) == 4:
        pooled = keras.layers.GlobalAveragePooling2D(name="avg_pool")(output)
        return {**ends, "top": output, "avg_pool": pooled}, "avg_pool"
    if len(output.shape) == 3:  # tokens, of which the first are none of patches
        prefix = 1 + int(getattr(vision, "num_register_tokens", 0))
        mean = keras.layers.GlobalAveragePooling1D(name="patch_mean")
        return {
            "class_token": output[:, 0],
            "patch_mean": mean(output[:, prefix:]),
        }, "class_token"
    return {**ends, "avg_pool": output}, "avg_pool"


def _input_of(vision: keras.Model) -> Any:
    inputs = keras.tree.flatten(vision.input)
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise ValueError(
            f"encoder must be a preset of an image network; {type(vision).__name__} "
            f"takes {', '.join(one.name for one in inputs)}"
        )
    return inputs[0]


def _stated(weights: Path) -> dict[str, Any]:
    """What encoder.json beside the weights says of the architecture."""
    beside = weights.parent / "encoder.json"
    try:
        return json.loads(beside.read_text())[MADE_OF]
    except (OSError, ValueError, KeyError):
        raise OSError(
            "weights of a KerasHub network need the encoder.json that was written "
            f"with them; {str(beside)!r} is none"
        ) from None


def _library() -> ModuleType:
    try:
        import keras_hub
    except ImportError as error:
        raise OSError(
            f"encoders kerashub:<preset> need KerasHub ({error}): pip install -r "
            "requirements-kerashub.txt"
        ) from None
    return keras_hub


def _loaded(kind: str, preset: str, **options: Any) -> Any:
    """What a preset has of one of the library's kinds: its `Backbone`, its
    `ImageConverter`, or the preprocessor of its network.
    """
    library = _library()
    place = library.layers if kind == "ImageConverter" else library.models
    try:
        return getattr(place, kind).from_preset(preset, **options)
    except Exception as error:  # noqa: BLE001  what downloads raise without network
        raise OSError(
            f"the {kind} of the KerasHub preset {preset!r} couldn't be loaded "
            f"({str(error).strip()}). Without a network use --weights=<folder>, of a "
            "preset that was saved with save_to_preset, or "
            "--encoder=efficientnet_lite0, whose weights come with its package."
        ) from None
