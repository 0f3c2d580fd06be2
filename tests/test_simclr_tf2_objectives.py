"""What fine-tuning minimises, by hand and against what the augmentations do alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf2.augment import (
    AugmentConfig,
    crop_and_flip,
    draw_view,
    seeds_of_two,
    two_views,
)
from simclr_tf2.config import EARLY_FROZEN, NOTHING_FROZEN, EncoderConfig
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.heads import HeadConfig, projections
from simclr_tf2.nt_xent import nt_xent
from simclr_tf2.objectives import ObjectiveConfig, _classification, make_objective

AUGMENT = AugmentConfig(16, min_area=0.5, color_jitter_strength=0.4)
HEAD = HeadConfig(hidden=12, output=6)
RNG = np.random.default_rng(0)
IMAGES = tf.constant(RNG.random((4, 20, 24, 3)), tf.float32)
OTHERS = tf.constant(RNG.random((4, 20, 24, 3)), tf.float32)
SEEDS = [tf.constant([3, number], tf.int32) for number in range(4)]


def objective(name="contrastive", classes=3, encoder="tiny", **options):
    keras.utils.set_random_seed(1)
    made = make_encoder(EncoderConfig(encoder, "random"))
    return make_objective(
        name, made, ObjectiveConfig(AUGMENT, classes, 0.2, HEAD, **options)
    )


def batch(made, partners=None):
    """What the pipeline makes of a batch."""
    each = [
        made.augment(image, seed, *([] if partners is None else [partners[number]]))
        for number, (image, seed) in enumerate(zip(IMAGES, SEEDS, strict=True))
    ]
    return tf.nest.map_structure(lambda *parts: tf.stack(parts), *each)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_and_accuracy_by_hand(smoothing):
    logits = np.array([[2.0, 0, -1], [0, 1, 0], [1, 1, 3], [9, 0, 0]])
    labels = np.array([0, 2, 2, -1])  # the last one has no class
    loss, accuracy = _classification(
        tf.constant(logits, tf.float32), tf.constant(labels, tf.int32), 3, smoothing
    )
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = np.eye(3)[labels[:3]] * (1 - smoothing) + smoothing / 3
    assert float(loss) == pytest.approx(
        -(target * np.log(shares[:3])).sum(axis=1).mean(), rel=1e-5
    )
    assert float(accuracy) == pytest.approx(2 / 3)
    nothing = _classification(
        tf.constant(logits, tf.float32), tf.constant([-1] * 4, tf.int32), 3, smoothing
    )
    assert [float(value) for value in nothing] == [0, 0]


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("partners", [None, OTHERS])
def test_the_first_views_come_before_the_second_ones(on_device, partners):
    made = objective(augment_on_device=on_device)
    assert made.views == 2
    images = made.images(batch(made, partners)).numpy()
    assert images.shape == (8, 16, 16, 3)
    for number in range(4):
        partner = None if partners is None else partners[number]
        one, other = two_views(IMAGES[number], SEEDS[number], AUGMENT, partner)
        np.testing.assert_allclose(images[number], one, atol=2e-3)
        np.testing.assert_allclose(images[4 + number], other, atol=2e-3)


def test_the_second_view_is_drawn_for_the_size_of_the_partner():
    made = objective(augment_on_device=True)
    small = tf.zeros((9, 30, 3))
    _, views = made.augment(IMAGES[0], SEEDS[0], small)
    for view, image, seed in zip(
        views, (IMAGES[0], small), seeds_of_two(SEEDS[0]), strict=True
    ):
        expected = draw_view(tf.shape(image)[:2], seed, AUGMENT)
        assert view.box.numpy().tolist() == expected.box.numpy().tolist()
        assert view.jittered == expected.jittered


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("name", ["supervised", "linear"])
def test_supervised_views_keep_their_colors(name, on_device):
    made = objective(name, augment_on_device=on_device)
    assert made.views == 1
    assert made.encoder_learns is (name == "supervised")
    images = made.images(batch(made)).numpy()
    for number in range(4):
        alone = crop_and_flip(IMAGES[number], SEEDS[number], AUGMENT)
        np.testing.assert_allclose(images[number], alone, atol=2e-3)


def test_contrastive_loss_has_a_classifier_beside_it():
    made = objective(online_linear_eval=True)
    embeddings = tf.constant(RNG.normal(size=(8, made.encoder.width)), tf.float32)
    contrast = nt_xent(projections(made.projection_head, embeddings, True)[-1], 0.2)
    logits = made.classify(embeddings)
    assert logits.shape == (8, 3)
    labels = np.array([0, 1, 2, -1])
    second = np.array([1, 1, -1, 0])
    for given, of_views in (
        (labels, np.r_[labels, labels]),
        (np.stack([labels, second], axis=1), np.r_[labels, second]),
    ):
        beside, right = _classification(logits, tf.constant(of_views, tf.int32), 3, 0.0)
        loss, figures = made.loss(embeddings, tf.constant(given, tf.int32))
        assert float(loss) == pytest.approx(float(contrast.loss + beside), rel=1e-5)
        found = {name: float(value) for name, value in figures.items()}
        assert found == pytest.approx(
            {
                "accuracy": float(contrast.accuracy),
                "entropy": float(contrast.entropy),
                "contrastive_loss": float(contrast.loss),
                "online_loss": float(beside),
                "online_accuracy": float(right),
            },
            rel=1e-5,
        )
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        loss = made.loss(embeddings, tf.constant(labels, tf.int32))[0]
    own = tape.gradient(loss, embeddings)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        loss = nt_xent(
            projections(made.projection_head, embeddings, True)[-1], 0.2
        ).loss
    np.testing.assert_allclose(own, tape.gradient(loss, embeddings), atol=1e-6)


@pytest.mark.parametrize(("classes", "asked"), [(1, True), (3, False)])
def test_without_classes_or_wish_there_is_none(classes, asked):
    made = objective(classes=classes, online_linear_eval=asked)
    assert made.classifier is None
    assert made.heads == [made.projection_head]
    assert made.classify(tf.zeros((1, made.encoder.width))) is None
    embeddings = tf.constant(RNG.normal(size=(8, made.encoder.width)), tf.float32)
    loss, figures = made.loss(embeddings, tf.zeros(4, tf.int32))
    assert set(figures) == {"accuracy", "entropy", "contrastive_loss"}
    assert float(loss) == float(figures["contrastive_loss"])


@pytest.mark.parametrize("name", ["supervised", "linear"])
def test_supervised_loss_and_what_trains(name):
    made = objective(name, label_smoothing=0.1)
    embeddings = tf.constant(RNG.normal(size=(4, made.encoder.width)), tf.float32)
    labels = tf.constant([0, 1, 2, 1], tf.int32)
    expected = _classification(made.classifier(embeddings), labels, 3, 0.1)
    loss, figures = made.loss(embeddings, labels)
    assert float(loss) == pytest.approx(float(expected[0]))
    assert float(figures["accuracy"]) == float(expected[1])
    encoder = [] if name == "linear" else made.encoder.trainable_variables
    own = [id(one) for one in (*encoder, *made.classifier.trainable_variables)]
    assert [id(one) for one in made.trainable_variables] == own
    assert made.head_weights == made.classifier.weights


def test_a_layer_of_the_projection_head_may_come_before_the_classifier():
    keras.utils.set_random_seed(1)
    encoder = make_encoder(EncoderConfig("tiny", "random"))
    encoder.projection_head = objective().projection_head
    depth = 2  # layers, after what goes in
    made = make_objective(
        "supervised",
        encoder,
        ObjectiveConfig(AUGMENT, 3, 0.2, HEAD, projection_layer=1),
    )
    embeddings = tf.constant(RNG.normal(size=(4, encoder.width)), tf.float32)
    middle = projections(encoder.projection_head, embeddings, False)[1]
    np.testing.assert_allclose(
        made.classify(embeddings), made.classifier(middle), rtol=1e-5
    )
    assert made.heads == [made.projection_head, made.classifier]
    for layer in (depth + 1, -1):
        with pytest.raises(ValueError, match=f"which has {depth}; got {layer}"):
            make_objective(
                "supervised",
                encoder,
                ObjectiveConfig(AUGMENT, 3, 0.2, HEAD, projection_layer=layer),
            )
    with pytest.raises(ValueError, match="which has 0; got 1"):
        objective("linear", projection_layer=1)
    with pytest.raises(ValueError, match="for supervised and linear; got 1"):
        objective(projection_layer=1)


def test_blocks_are_frozen_up_to_the_one_that_is_stated():
    whole = objective("supervised", encoder="efficientnet_lite0")
    last = whole.encoder.blocks.last
    counts = []
    for through in (NOTHING_FROZEN, EARLY_FROZEN, 0, 1, last):
        made = objective(
            "supervised", encoder="efficientnet_lite0", freeze_through_block=through
        )
        frozen = [
            variable.path
            for variable in made.encoder.trainable_variables
            if variable.path not in {one.path for one in made.trainable_variables}
        ]
        counts.append(len(made.trainable_variables))
        if through == 0:
            assert all(
                made.encoder.blocks.of(path.split("/")[0]) <= 0 for path in frozen
            )
    # Random weights are all trained; and the more is frozen, the less trains.
    assert counts[0] == counts[1]
    assert counts[1:] == sorted(counts[1:], reverse=True)
    assert len(set(counts[1:])) == len(counts[1:])
    assert counts[-1] == len(whole.classifier.trainable_variables)
    for through in (-3, last + 1):
        with pytest.raises(
            ValueError, match=rf"0 \(the stem\) to {last}; got {through}"
        ):
            objective(
                "supervised", encoder="efficientnet_lite0", freeze_through_block=through
            )
    with pytest.raises(
        ValueError, match=r"\(by the network\); got 0 with encoder tiny"
    ):
        objective("supervised", freeze_through_block=0)


def test_what_is_no_objective_is_refused():
    with pytest.raises(
        ValueError, match="contrastive, supervised, linear; got 'triplet'"
    ):
        objective("triplet")
    for classes in (0, 1):
        with pytest.raises(ValueError, match=f"at least 2 classes; got {classes}"):
            objective("supervised", classes=classes)
    assert objective("supervised", classes=2).classify(
        tf.zeros((1, objective().encoder.width))
    ).shape == (1, 2)
