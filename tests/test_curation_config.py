"""Configurations refuse what they aren't, before work starts."""

import re

import pytest

from curation import EncoderConfig, FinetuneConfig, TrainerConfig
from curation.config import EmbedConfig, Recipe, check_types, flatten


def test_settings_of_training_are_given_by_name():
    config = FinetuneConfig(training=TrainerConfig(epochs=3), eval_split="test")
    assert flatten(config)["epochs"] == 3
    assert flatten(config)["eval_split"] == "test"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: FinetuneConfig(training={"epochs": 3}),
            "training must be a TrainerConfig; got {'epochs': 3}",
        ),
        (
            lambda: EmbedConfig("resnet50"),
            "encoder must be a EncoderConfig; got 'resnet50'",
        ),
        (
            lambda: Recipe(image_size="224"),
            "image_size must be of type int; got '224'",
        ),
        (lambda: FinetuneConfig(seed=1.5), "seed must be of type int; got 1.5"),
    ],
)
def test_a_setting_of_another_type_is_named(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


def test_what_is_right_passes():
    check_types(FinetuneConfig(encoder=EncoderConfig("tiny", "random")))
