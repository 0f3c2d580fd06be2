"""This project's SimCLR ResNets, such as r50_1x_sk0."""

from __future__ import annotations

from pathlib import Path

from simclr_tf2.checkpoints.importing import import_weights
from simclr_tf2.config import IMAGENET, RANDOM, EncoderConfig
from simclr_tf2.encoders.base import Blocks, Encoder, load_keras_weights
from simclr_tf2.encoders.resnet import (
    FEATURES,
    ResNetConfig,
    build_resnet,
    group_of,
)

_BLOCKS = Blocks(group_of, 4, early=1)


def make(config: EncoderConfig) -> Encoder:
    """The encoder: weights from a SavedModel, a Keras file, or random."""
    resnet = ResNetConfig.parse(config.name)
    if resnet is None:
        raise ValueError(f"encoder must be a SimCLR ResNet; got {config.name!r}")
    if config.weights == IMAGENET:
        raise OSError(
            f"encoder {config.name} has no packaged ImageNet weights. Take a published "
            "SimCLR checkpoint, such as --weights="
            "gs://simclr-checkpoints-tf2/simclrv2/pretrained/"
            f"{config.name}/saved_model, or --weights=random"
        )
    if Path(config.weights).is_dir():
        model, head = import_weights(config.weights, resnet)
        return Encoder(
            config,
            model,
            FEATURES,
            projection_head=head if head.weights else None,
            architecture=resnet,
            blocks=_BLOCKS,
        )
    model = build_resnet(resnet)
    if config.weights != RANDOM:
        load_keras_weights(model, config.weights, config.name)
    return Encoder(config, model, FEATURES, architecture=resnet, blocks=_BLOCKS)
