"""Every encoder by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from simclr_tf2.config import IMAGENET, RANDOM, EncoderConfig
from simclr_tf2.encoders import (
    applications,
    efficientnet_lite,
    keras_file,
    kerashub,
    resnet50,
    saved_model,
    simclr_resnet,
    tiny,
)
from simclr_tf2.encoders.base import Encoder
from simclr_tf2.encoders.resnet import ResNetConfig

# Weights of the first are files, of the others also folders (SavedModels).
_OF_FILES: dict[str, Callable[[EncoderConfig], Encoder]] = {
    "efficientnet_lite0": efficientnet_lite.make,
    "resnet50": resnet50.make,
    "tiny": tiny.make,
}
ENCODERS = {**_OF_FILES, "saved_model": saved_model.make}
_PREFIXED: dict[str, Callable[[EncoderConfig], Encoder]] = {
    applications.PREFIX: applications.make,
    keras_file.PREFIX: keras_file.make,
    kerashub.PREFIX: kerashub.make,
}


def make_encoder(config: EncoderConfig) -> Encoder:
    """Builds an encoder and loads its weights, strictly.

    Example:
        >>> encoder = make_encoder(EncoderConfig("tiny", weights="random"))

    Raises:
        ValueError: unknown name, or weights that don't fit; the message says what
            would.
        OSError: the weights can't be had (no such file, no network).
    """
    make = _maker(config.name)
    here = Path(config.weights)
    if config.weights not in (IMAGENET, RANDOM) and not here.exists():
        raise OSError(
            f"weights must be '{IMAGENET}', '{RANDOM}' or a file; there is no file "
            f"{config.weights!r}"
        )
    of_file = make is applications.make or config.name in _OF_FILES
    if of_file and here.is_dir():
        raise OSError(
            f"weights of {config.name} must be '{IMAGENET}', '{RANDOM}' or a file; "
            f"{config.weights!r} is a folder"
        )
    return make(config)


def _maker(name: str) -> Callable[[EncoderConfig], Encoder]:
    if name in ENCODERS:
        return ENCODERS[name]
    if name.endswith(keras_file.ENDING):
        return keras_file.make
    for prefix, make in _PREFIXED.items():
        if name.startswith(prefix):
            return make
    if ResNetConfig.parse(name):
        return simclr_resnet.make
    raise ValueError(
        f"encoder must be one of {', '.join(ENCODERS)}, a SimCLR ResNet such as "
        "r50_1x_sk0, keras:<Name> for a network of keras.applications, "
        "kerashub:<preset> for one of KerasHub, or the path of a .keras file; got "
        f"{name!r}"
    )
