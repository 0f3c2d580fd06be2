"""How long to train: by the number of crops, or by the minutes there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from curation.config import FinetuneConfig, overlay
from simclr_tf2.config import BY_CROPS, AugmentConfig

# A few hundred steps move a pretrained network onto a new domain (docs/results.md).
STEPS = 360
LEAST_EPOCHS, MOST_EPOCHS = 12, 100
LARGEST_BATCH = 128
# Sides that a plan chooses from, in pixels: the largest at which it comes to the steps.
SIZES = {128: 2 * STEPS, 96: STEPS // 3, 64: 1}
WARM_UP_SHARE = 0.05  # of the steps, at least half an epoch
_ROOM = 0.9  # share of the time that is planned with: machines have other work, too


def batch_for(crops: int) -> int:
    """How many crops a step takes: an eighth of a small pile, so that an epoch has a
    few steps.
    """
    eighth = crops // 8
    return min(LARGEST_BATCH, eighth // 8 * 8 if eighth >= 8 else max(2, eighth))


def epochs_for(steps_per_epoch: int) -> int:
    """How many epochs come to a few hundred steps."""
    needed = math.ceil(STEPS / max(1, steps_per_epoch))
    return min(max(needed, LEAST_EPOCHS), MOST_EPOCHS)


def by_crops(config: FinetuneConfig, crops: int) -> FinetuneConfig:
    """The configuration with its epochs and batch stated.

    Args:
        config: of which either may be BY_CROPS. Epochs that `plan` will state stay so.
        crops: how many train.
    """
    batch, epochs = config.training.batch_size, config.training.epochs
    if batch == BY_CROPS:
        batch = batch_for(crops)
    if epochs == BY_CROPS and not config.minutes:
        epochs = epochs_for(crops // batch)
    return overlay(config, {"batch_size": batch, "epochs": epochs}, "planning")


@dataclass(frozen=True)
class Speed:
    """What a machine was measured to take, in seconds, at one size of crops.

    Attributes:
        gone: of the budget, before the first epoch.
        step: for a training step.
        evaluation: for what is measured after an epoch.
        comparing: for finding out which crops are near each other, before the epochs
            1, 2, 4, 8 and so on.
        embedding: for embedding all crops at the end.
    """

    gone: float
    step: float
    evaluation: float
    comparing: float
    embedding: float

    def at(self, scale: float) -> Speed:
        """At another size, with `scale` times the pixels."""
        return Speed(
            self.gone,
            self.step * scale,
            self.evaluation * scale,
            self.comparing * scale,
            self.embedding * scale,
        )

    def training(self, epochs: int, steps: int) -> float:
        """For so many epochs of so many steps."""
        comparing = (epochs - 1).bit_length() * self.comparing
        return epochs * (steps * self.step + self.evaluation) + comparing


def plan(config: FinetuneConfig, steps_per_epoch: int, speed: Speed) -> FinetuneConfig:
    """The configuration with epochs, size of the crops and warm-up for its minutes.

    Args:
        config: its size is what `speed` was measured at; one that isn't the default
            stays.
        steps_per_epoch: with its batch.
        speed: of this machine.

    Raises:
        ValueError: the minutes don't suffice for an epoch; says how many would.
    """
    measured_at = config.learning.augment.image_size
    sizes = SIZES if measured_at == AugmentConfig.image_size else {measured_at: 1}
    for size, enough in sizes.items():
        there = speed.at((size / measured_at) ** 2)
        left = _ROOM * 60 * config.minutes - there.gone - there.embedding
        fits = [
            epochs
            for epochs in range(1, MOST_EPOCHS + 1)
            if there.training(epochs, steps_per_epoch) <= left
        ]
        epochs = max(fits, default=0)
        least = there.gone + there.embedding + there.training(1, steps_per_epoch)
        if epochs >= 1 and epochs * steps_per_epoch >= enough:
            break
    else:
        raise ValueError(
            f"minutes must be at least {math.ceil(least / 60 / _ROOM)} for an epoch of "
            f"{steps_per_epoch} steps and the embedding on this machine; got "
            f"{config.minutes:g}"
        )
    warm_up = max(0.5, round(WARM_UP_SHARE * epochs, 2))
    planned = {"epochs": epochs, "image_size": size, "warmup_epochs": warm_up}
    return overlay(config, planned, "planning")


def plan_in_words(
    config: FinetuneConfig, steps_per_epoch: int, speed: Speed, measured_at: int
) -> str:
    """What to expect of a plan.

    Args:
        config: with the plan.
        steps_per_epoch: with its batch.
        speed: of this machine, at crops of `measured_at` pixels.
    """
    size = config.learning.augment.image_size
    there = speed.at((size / measured_at) ** 2)
    training = there.training(config.training.epochs, steps_per_epoch)
    return (
        f"planned for {config.minutes:g} minutes: {config.training.epochs} epochs of "
        f"{steps_per_epoch} steps at {size} px, about {in_words(training)} if the "
        f"machine stays as fast, then {in_words(there.embedding)} of embedding"
    )


def in_words(seconds: float) -> str:
    """A duration, to two digits or so."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def has_flattened(curve: Sequence[float], planned: int) -> bool:
    """Whether a learning curve has stopped rising: the mean of its last epochs (a fifth
    of those planned, at least 4) is no higher than that of as many before. Single
    epochs go up and down while the learning rate is high.

    Args:
        curve: a figure after every epoch so far; higher is better.
        planned: number of epochs.
    """
    patience = max(4, planned // 5)
    last, before = curve[-patience:], curve[-2 * patience : -patience]
    return len(curve) > 2 * patience and fmean(last) <= fmean(before)
