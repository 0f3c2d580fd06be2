"""A network of one's own: any `.keras` file, cut at its second-to-last layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from simclr_tf2.config import IMAGENET, EncoderConfig
from simclr_tf2.encoders.applications import SIDE, outputs_of, stages_of
from simclr_tf2.encoders.base import Encoder, leaves

PREFIX, ENDING = "keras_file:", ".keras"
# What a network expects of RGB: [0, 1], [0, 255] or [-1, 1].
PIXELS = {"unit": (1.0, 0.0), "byte": (255.0, 0.0), "signed": (2.0, -1.0)}
_BEHIND = ("Activation", "Dropout", "Softmax")  # of the last layer that decides


def make(config: EncoderConfig) -> Encoder:
    """The encoder: `net.keras`, or `keras_file:<pixels>` with the file as its weights.

    A network says nowhere which pixels it takes. One that scales them itself (by
    `Rescaling` or `Normalization`) takes RGB in [0, 255]; of any other the person has
    to say it, by one of PIXELS.

    The features are what the last dense layer reads, or the network's output where it
    ends otherwise; of a picture, its mean over height and width. `stage3` to `stage5`
    are given where its own layers have strides of 8, 16 and 32.

    Raises:
        ValueError: it is no network of one image, or it isn't known which pixels it
            takes.
        OSError: there is no such file, or Keras can't read it.
    """
    of_file = config.name.endswith(ENDING)
    path = Path(
        config.name if of_file and config.weights == IMAGENET else config.weights
    )
    if path.suffix != ENDING or not path.is_file():
        raise OSError(f"weights must be a {ENDING} file; {str(path)!r} is none")
    try:
        whole = keras.saving.load_model(path, compile=False)
    except Exception as error:  # noqa: BLE001  whatever Keras raises of a file
        reason = str(error).strip().partition("\n")[0]
        raise OSError(f"Keras can't read {str(path)!r}: {reason}") from None
    network = _checked(whole, path)
    pixels = "" if of_file else config.name.removeprefix(PREFIX)
    if of_file and _scales(network):
        pixels = "byte"
    if pixels not in PIXELS:
        raise ValueError(
            f"it must be said which pixels {str(path)!r} takes, which has no Rescaling "
            f"and no Normalization: --encoder={PREFIX}unit for RGB in [0, 1], "
            f"{PREFIX}byte for [0, 255], {PREFIX}signed for [-1, 1], with "
            f"--weights={path}"
        )
    inputs = keras.Input((None, None, 3), name="image")
    scale, offset = PIXELS[pixels]
    image = keras.layers.Rescaling(scale, offset, name="pixels")(inputs)
    _, *size, _ = network.inputs[0].shape
    if None not in size:
        image = keras.layers.Resizing(*size, name="own_size")(image)
    known = replace(config, name=PREFIX + pixels, weights=str(path))
    model = keras.Model(inputs, _ends(network, image), name=network.name)
    file = "encoder" + ENDING
    return Encoder(known, model, "features", weights_file=file, whole=whole)


def _checked(whole: Any, path: Path) -> keras.Model:
    """The network as one that is made of layers."""
    inputs = getattr(whole, "inputs", None) or []
    one = len(inputs) == 1 and len(getattr(whole, "outputs", ())) == 1
    if not one or len(inputs[0].shape) != 4 or inputs[0].shape[-1] != 3:
        raise ValueError(
            f"{str(path)!r} must be a Functional or Sequential network of one RGB "
            f"image with one output; it takes {[tuple(end.shape) for end in inputs]} "
            f"and gives {len(getattr(whole, 'outputs', None) or [])} outputs"
        )
    return keras.Model(whole.inputs[0], whole.outputs[0], name=whole.name)


def _scales(network: keras.Model) -> bool:
    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    return any(isinstance(layer, kinds) for layer in leaves(network))


def _ends(network: keras.Model, image: Any) -> dict[str, Any]:
    """The outputs that are read, of an image."""
    ends = outputs_of(network)
    features = _second_to_last(network)
    pictures = [end for end in ends if len(end.shape) == 4]
    size = network.inputs[0].shape[1]
    places = stages_of(network, size) if size else stages_of(_at(network, SIDE), SIDE)
    named = {name: ends[place] for name, place in places.items()}
    named["top"] = features if len(features.shape) == 4 else pictures[-1]
    inner = keras.Model(network.inputs, [*named.values(), features])
    *found, features = inner([image])
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D(name="features")(features)
    return {**dict(zip(named, found, strict=True)), "features": features}


def _second_to_last(network: keras.Model) -> Any:
    """What the last dense layer reads; the output where no such layer ends it."""
    for operation in reversed(network.operations):
        if isinstance(operation, keras.layers.Dense):
            return operation.input
        if type(operation).__name__ not in _BEHIND:
            break
    return network.output


def _at(network: keras.Model, side: int) -> keras.Model:
    """The network for images of one size, by which strides are found."""
    return keras.models.clone_model(network, input_tensors=keras.Input((side, side, 3)))
