"""The ideas of benchmarks/ideas.py compute what their papers say."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.ideas import (
    AVERAGE,
    Averaging,
    Decoupled,
    HeadFirst,
    LayerWise,
    LocalViews,
    contrast,
    row_of,
)
from simclr_tf2.augment import AugmentConfig
from simclr_tf2.config import EncoderConfig, TrainerConfig
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.heads import HeadConfig
from simclr_tf2.nt_xent import nt_xent
from simclr_tf2.objectives import Contrastive, ObjectiveConfig
from simclr_tf2.trainer import Trainer
from tests.test_simclr_tf2_trainer import BATCH, STEPS, batches_for

CONFIG = ObjectiveConfig(
    AugmentConfig(64), head=HeadConfig(kind="none"), online_linear_eval=False
)


@pytest.fixture
def encoder():
    return make_encoder(EncoderConfig("tiny", "random"))


def views(rows, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=(rows, 64)), tf.float32)


def test_contrast_over_both_views_is_nt_xent():
    unit = tf.math.l2_normalize(views(8), 1)
    rows = tf.range(8)
    loss = contrast(unit, unit, (rows + 4) % 8, tf.one_hot(rows, 8), 0.1)
    assert 2 * loss.numpy() == pytest.approx(nt_xent(unit, 0.1).loss.numpy(), rel=1e-5)


def test_the_decoupled_loss_by_hand(encoder):
    """Two crops: of each anchor both views of the other one are negatives."""
    embeddings = views(4)
    loss, _ = Decoupled(encoder, CONFIG).loss(embeddings, tf.zeros(2, tf.int32))
    unit = tf.math.l2_normalize(embeddings, 1).numpy().astype(float)
    scores = unit @ unit.T / CONFIG.temperature
    each = [
        np.log(
            sum(
                np.exp(scores[row, other]) for other in range(4) if other % 2 != row % 2
            )
        )
        - scores[row, (row + 2) % 4]
        for row in range(4)
    ]
    assert loss.numpy() == pytest.approx(2 * np.mean(each), rel=1e-4)


def test_local_views_must_find_both_large_ones(encoder):
    goal = LocalViews(encoder, CONFIG)
    augmented = goal.augment(tf.random.uniform((90, 90, 3)), tf.constant([1, 2]))
    assert [view.shape[0] for view in augmented] == [64, 64, 48, 48]
    batch = [tf.stack([view] * 2) for view in augmented]
    embedded = goal.encoder(goal.images(batch), training=False)
    assert embedded.shape == (8, 64)
    embeddings = views(8)
    loss, _ = goal.loss(embeddings, tf.zeros(2, tf.int32))
    unit = tf.math.l2_normalize(embeddings, 1).numpy().astype(float)
    scores = unit @ unit.T / CONFIG.temperature
    expected = nt_xent(embeddings[:4], CONFIG.temperature).loss.numpy()
    for first, other in ((0, 2), (2, 0)):
        each = []
        for row in range(4, 8):
            own = row % 2
            candidates = [first + own, first + 1 - own, other + 1 - own]
            each.append(
                np.log(np.exp(scores[row, candidates]).sum()) - scores[row, first + own]
            )
        expected += np.mean(each)
    assert loss.numpy() == pytest.approx(expected, rel=1e-4)


def test_averaged_weights_are_a_running_mean(encoder, tmp_path):
    goal = Contrastive(encoder, dataclasses.replace(CONFIG, augment=AugmentConfig(16)))
    seen = [[weight.numpy() for weight in encoder.model.weights]]

    class Watched(Averaging):
        def _save(self):
            seen.append([weight.numpy() for weight in self.learned])

    settings = TrainerConfig(1, BATCH, checkpoint_minutes=0.0)
    Watched(goal, settings, batches_for(goal), STEPS, tmp_path).run()
    assert len(seen) == STEPS + 1
    expected = seen[0]
    for step in seen[1:]:
        expected = [
            AVERAGE * old + (1 - AVERAGE) * new
            for old, new in zip(expected, step, strict=True)
        ]
    for ours, theirs in zip(encoder.model.weights, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-6)


def test_differences_are_of_pairs():
    first = np.array([[0.5], [0.6], [0.7]])
    assert row_of("same", first, first) == ["same", "0.600"]
    # All gain 0.1: an interval of a point.
    assert row_of("more", first + 0.1, first) == [
        "more",
        "0.700 (+0.100 [+0.100, +0.100])",
    ]
    # Differences 0.1, 0, 0.2: 0.1 +- 4.303 x 0.1 / sqrt(3).
    mixed = first + np.array([[0.1], [0.0], [0.2]])
    assert row_of("mixed", mixed, first)[1] == "0.700 (+0.100 [-0.148, +0.348])"


@pytest.mark.parametrize("kind", [HeadFirst, LayerWise])
def test_variables_move_at_their_own_pace(tmp_path, kind):
    """By hand: against a trainer that moves all of them fully, from the same start."""
    moved = []
    for trainer in (Trainer, kind):
        keras.utils.set_random_seed(3)
        network = make_encoder(EncoderConfig("r18_1x_sk0_small", "random"))
        goal = Contrastive(
            network, dataclasses.replace(CONFIG, head=HeadConfig(output=8))
        )
        batches = batches_for(goal)
        settings = TrainerConfig(1, BATCH, warmup_epochs=0)
        run = trainer(goal, settings, batches, STEPS, tmp_path / trainer.__name__)
        before = {v.path: v.numpy() for v in goal.trainable_variables}
        augmented, labels = next(iter(batches(0, 0)))
        run.step_function(augmented, labels)
        moved.append(
            {v.path: v.numpy() - before[v.path] for v in goal.trainable_variables}
        )
    whole, paced = moved
    blocks = run.blocks
    last = max(blocks.values())
    assert set(blocks.values()) == {0, 1, 2, 3, 4}
    for path, change in whole.items():
        share = 1.0
        if path in blocks:
            share = 0.0 if kind is HeadFirst else 0.9 ** (last - blocks[path])
        np.testing.assert_allclose(paced[path], share * change, rtol=2e-3, atol=2e-6)
