"""Settings of the papers, by name.

v1 is "A Simple Framework for Contrastive Learning" (arXiv 2002.05709; sections 2.3 and
B.6 to B.9), v2 "Big Self-Supervised Models are Strong Semi-Supervised Learners" (arXiv
2006.10029; section A and the README of the official code).
"""

from __future__ import annotations

from dataclasses import replace

from curation.config import DeviceConfig, FinetuneConfig
from simclr_tf2.config import (
    LAST,
    NOTHING_FROZEN,
    RANDOM,
    AugmentConfig,
    EncoderConfig,
    HeadConfig,
    ObjectiveConfig,
    TrainerConfig,
)

_IMAGENET = AugmentConfig(
    image_size=224,
    min_area=0.08,
    color_jitter_strength=1.0,
    grayscale_prob=0.2,
    blur_prob=0.5,
    rot90_flips=False,
)
_CIFAR = replace(_IMAGENET, image_size=32, color_jitter_strength=0.5, blur_prob=0.0)


def _pretrain(
    encoder: str,
    augment: AugmentConfig,
    head_layers: int,
    temperature: float,
    training: TrainerConfig,
) -> FinetuneConfig:
    """Contrastive training from random weights, by LARS."""
    head = HeadConfig(layers=head_layers, hidden=0)
    return FinetuneConfig(
        encoder=EncoderConfig(encoder, RANDOM),
        objective="contrastive",
        learning=ObjectiveConfig(
            augment,
            temperature=temperature,
            head=head,
            freeze_through_block=NOTHING_FROZEN,
        ),
        training=replace(training, optimizer="lars", warmup_epochs=10.0),
        train_split="train",
        neighbors=0,
        endpoints=LAST,  # as in the papers
        pooling="mean",
        device=DeviceConfig(mixed_precision="float32"),
    )


def _with_labels(
    objective: str,
    augment: AugmentConfig,
    training: TrainerConfig,
    *,
    label_fraction: float = 1.0,
    projection_layer: int = 0,
) -> FinetuneConfig:
    """Evaluation or fine-tuning: no decay, no warm-up, no smoothing of the labels."""
    return FinetuneConfig(
        objective=objective,
        learning=ObjectiveConfig(
            augment,
            label_smoothing=0.0,
            projection_layer=projection_layer,
            freeze_through_block=NOTHING_FROZEN,
        ),
        training=replace(training, weight_decay=0.0, warmup_epochs=0.0),
        label_fraction=label_fraction,
        endpoints=LAST,
        pooling="mean",
        device=DeviceConfig(mixed_precision="float32"),
    )


def _training(
    optimizer: str,
    epochs: int,
    batch: int,
    *,
    rate: float,
    scaling: str,
    decay: float = 0,
) -> TrainerConfig:
    return TrainerConfig(epochs, batch, optimizer, rate, scaling, decay)


PRESETS: dict[str, FinetuneConfig] = {
    # Pretraining. 0.3 * B / 256 of v1 and 0.075 * sqrt(B) of the code are the same at a
    # batch of 4096.
    "v1_imagenet_pretrain": _pretrain(
        "r50_1x_sk0",
        replace(_IMAGENET, brightness="add"),
        2,
        0.1,
        _training("lars", 1000, 4096, rate=0.3, scaling="linear", decay=1e-6),
    ),
    "v2_imagenet_pretrain": _pretrain(
        "r50_1x_sk0",
        _IMAGENET,
        3,
        0.1,
        _training("lars", 800, 4096, rate=0.1, scaling="sqrt", decay=1e-4),
    ),
    "cifar10_pretrain": _pretrain(
        "r18_1x_sk0_small",
        _CIFAR,
        3,
        0.5,
        _training("lars", 1000, 512, rate=1.0, scaling="linear", decay=1e-4),
    ),
    # B.9: the best of batches from 256 to 4096 and of rates of 0.5, 1.0 and 1.5.
    "v1_cifar10_pretrain": _pretrain(
        "r50_1x_sk0_small",
        replace(_CIFAR, brightness="add"),
        2,
        0.5,
        _training("lars", 1000, 1024, rate=1.0, scaling="none", decay=1e-6),
    ),
    # Linear evaluation: momentum; crops and flips alone.
    "imagenet_linear": _with_labels(
        "linear", _IMAGENET, _training("momentum", 90, 4096, rate=0.1, scaling="linear")
    ),
    "cifar10_linear": _with_labels(
        "linear", _CIFAR, _training("momentum", 100, 512, rate=0.1, scaling="linear")
    ),
    # Fine-tuning on another set, as for the transfer table (B.8): Nesterov momentum, a
    # constant number of steps there.
    "transfer": _with_labels(
        "supervised",
        _IMAGENET,
        _training("momentum", 100, 256, rate=0.05, scaling="linear"),
    ),
    # Few labels. v1: Nesterov momentum, all weights. v2: LARS, from the first layer of
    # the projection head.
    "v1_imagenet_1pct": _with_labels(
        "supervised",
        _IMAGENET,
        _training("momentum", 60, 4096, rate=0.05, scaling="linear"),
        label_fraction=0.01,
    ),
    "v1_imagenet_10pct": _with_labels(
        "supervised",
        _IMAGENET,
        _training("momentum", 30, 4096, rate=0.05, scaling="linear"),
        label_fraction=0.1,
    ),
    "v2_imagenet_1pct": _with_labels(
        "supervised",
        _IMAGENET,
        _training("lars", 60, 1024, rate=0.005, scaling="sqrt"),
        label_fraction=0.01,
        projection_layer=1,
    ),
    "v2_imagenet_10pct": _with_labels(
        "supervised",
        _IMAGENET,
        _training("lars", 30, 1024, rate=0.005, scaling="sqrt"),
        label_fraction=0.1,
        projection_layer=1,
    ),
}
