from dataclasses import replace

import pytest

from curation.config import FinetuneConfig
from curation.planning import (
    STEPS,
    Speed,
    batch_for,
    by_crops,
    has_flattened,
    plan,
    plan_in_words,
)
from simclr_tf2.config import AugmentConfig, ObjectiveConfig, TrainerConfig

FIFTEEN = FinetuneConfig(minutes=15.0)


@pytest.mark.parametrize(
    ("crops", "batch", "epochs"),
    [
        (4027, 128, 12),
        (112_000, 128, 12),
        (492, 56, 45),  # and no 36 steps, as 12 epochs in batches of 128 would be
        (60, 7, 45),
        (17, 2, 45),
    ],
)
def test_batch_and_epochs_follow_the_number_of_crops(crops, batch, epochs):
    assert batch_for(crops) == batch
    training = by_crops(FinetuneConfig(), crops).training
    assert (training.batch_size, training.epochs) == (batch, epochs)
    assert crops < 200 or epochs * (crops // batch) >= STEPS


def test_what_is_stated_stays():
    config = FinetuneConfig(training=TrainerConfig(epochs=3, batch_size=5))
    assert by_crops(config, 1000) == config
    planned = by_crops(FIFTEEN, 1000)
    assert planned.training == TrainerConfig(batch_size=120)  # epochs by `plan`


def test_a_plan_fills_the_time_that_is_left():
    speed = Speed(gone=60, step=1.0, evaluation=4.0, comparing=10.0, embedding=110.0)
    # 0.9 x 900 - 60 - 110 = 640 s; n epochs of 34 s and 10 s for each doubling.
    planned = plan(FIFTEEN, 30, speed)
    assert planned.training.epochs == 17  # 17 x 34 + 5 x 10 = 628
    assert speed.training(17, 30) == 628
    assert planned.learning.augment.image_size == 96
    assert planned.training.warmup_epochs == 0.85
    assert plan_in_words(planned, 30, speed, 96) == (
        "planned for 15 minutes: 17 epochs of 30 steps at 96 px, about 10 min if the "
        "machine stays as fast, then 2 min of embedding"
    )


def test_a_plan_takes_larger_crops_where_time_is_plenty_and_smaller_where_it_lacks():
    speed = Speed(gone=10, step=0.4, evaluation=1.0, comparing=1.0, embedding=20.0)
    hour = plan(replace(FIFTEEN, minutes=60.0), 30, speed)
    assert hour.learning.augment.image_size == 128
    assert hour.training.epochs * 30 >= 2 * STEPS
    slow = Speed(gone=10, step=8.0, evaluation=1.0, comparing=1.0, embedding=20.0)
    short = plan(FIFTEEN, 30, slow)
    assert short.learning.augment.image_size == 64
    assert slow.at(4 / 9).training(short.training.epochs, 30) < 60 * 15 * 0.9
    own = replace(FIFTEEN, learning=ObjectiveConfig(AugmentConfig(100)))
    assert plan(own, 30, slow).learning.augment.image_size == 100


def test_too_little_time_is_said_with_how_much_would_do():
    speed = Speed(gone=60, step=10.0, evaluation=0.0, comparing=0.0, embedding=300.0)
    # At 64 px: 60 + (300 + 100 x 10) x 4 / 9 s, over 0.9.
    with pytest.raises(ValueError, match="minutes must be at least 12 for an epoch"):
        plan(replace(FIFTEEN, minutes=5.0), 100, speed)


def test_a_curve_is_flat_when_its_last_epochs_gain_nothing_on_average():
    rising = [0.1 * step for step in range(20)]
    assert not has_flattened(rising, 20)
    flat = [0.1, 0.2, 0.3, 0.6, 0.5, 0.6, 0.5]
    assert not has_flattened([*flat, 0.5, 0.6], 20)  # 0.55 after 0.5
    assert has_flattened([*flat, 0.5, 0.6, 0.5, 0.6], 20)  # 0.55 after 0.55
    assert not has_flattened([*flat, 0.5, 0.6, 0.5, 0.61], 20)
    # A high one long ago doesn't end what still rises.
    assert not has_flattened([0.1, 0.2, 0.3, 0.9, 0.5, 0.6, 0.7, 0.7, 0.7, 0.75], 20)
    assert not has_flattened([0.5] * 8, 20)  # too short to tell
    assert has_flattened([0.5] * 9, 20)
    assert not has_flattened([0.5] * 20, 50)  # of more epochs more are waited for
