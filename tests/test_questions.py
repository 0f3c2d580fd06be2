"""docs/questions.md: every answer is held by a test that exists, and those that no other
file tests are tested here.
"""

import ast
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.beside_official import official
from simclr_tf2.checkpoints.exporting import export_saved_model
from simclr_tf2.checkpoints.importing import import_model
from simclr_tf2.config import AugmentConfig, EncoderConfig, ObjectiveConfig
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.heads import projections
from simclr_tf2.objectives import make_objective
from tests.reference import Reference, relative, simclr_encoder

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "questions.md"
IMAGES = np.random.default_rng(0).random((4, 32, 32, 3)).astype(np.float32)


def rows():
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [line.strip("| ").split(" | ") for line in lines]
    return [row for row in cells if row[0] not in {"question", "---"}]


def test_every_answer_names_a_test_that_exists():
    names = {
        node.name
        for path in TESTS.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert len(rows()) >= 30
    for row in rows():
        assert len(row) == 3, row
        named = re.findall(r"\w+", row[2])
        assert named, row
        assert set(named) <= names, row


def test_the_numbers_of_the_tracker_are_there():
    text = PAGE.read_text()
    asked = (
        12,
        15,
        22,
        40,
        50,
        60,
        90,
        95,
        103,
        105,
        108,
        116,
        134,
        139,
        177,
        182,
        186,
    )
    for number in (*asked, 187, 190, 193, 211, 219):
        assert f"#{number}" in text, number


def test_an_imported_network_is_a_keras_layer(tmp_path):
    reference = Reference("r18_cifar_stem").fill()
    encoder = simclr_encoder("r18_1x_sk0_small", reference.resnet)
    export_saved_model(tmp_path / "saved_model", encoder, reference.projection_head)
    network, head, classifier = import_model(tmp_path / "saved_model")
    assert classifier is None
    images = keras.Input((32, 32, 3))
    features = network(images)["final_avg_pool"]
    model = keras.Model(images, projections(head, features)[-1])
    assert len(model.trainable_variables) == len(
        [*network.trainable_variables, *head.trainable_variables]
    )
    official_call = tf.saved_model.load(str(tmp_path / "saved_model"))
    expected = official_call(IMAGES, trainable=False)["proj_head_output"]
    assert relative(model(IMAGES, training=False), expected) < 1e-5


@pytest.mark.parametrize("objective", ["supervised", "linear", "contrastive"])
def test_fine_tuning_has_a_gradient_for_all_that_trains(objective):
    """Also where a checkpoint brings a projection head of which fine-tuning takes the
    first layer.
    """
    reference = Reference("r18_cifar_stem").fill()
    encoder = simclr_encoder("r18_1x_sk0_small", reference.resnet)
    encoder.projection_head = reference.projection_head
    layer = 0 if objective == "contrastive" else 1
    config = ObjectiveConfig(AugmentConfig(32), classes=3, projection_layer=layer)
    goal = make_objective(objective, encoder, config)
    views = tf.constant(np.concatenate([IMAGES] * goal.views))
    variables = goal.trainable_variables
    with tf.GradientTape() as tape:
        embeddings = encoder(views, training=goal.encoder_learns)
        loss, _ = goal.loss(embeddings, tf.constant([0, 1, 2, 0]))
    gradients = tape.gradient(loss, variables)
    assert variables
    assert all(gradient is not None for gradient in gradients)


def test_the_stem_for_small_images_keeps_their_size():
    for name, side in (("r18_1x_sk0_small", 32), ("r18_1x_sk0", 8)):
        encoder = make_encoder(EncoderConfig(name, "random"))
        assert encoder.model(IMAGES)["initial_max_pool"].shape[1] == side
        assert encoder.model(IMAGES)["block_group1"].shape[1] == side


def test_the_online_classifiers_loss_rises_in_the_official_run():
    _, theirs = official()
    loss = theirs.curves["online_loss"]
    assert max(loss) == loss[1] == pytest.approx(24.6, abs=0.1)
    assert loss[-1] < 2.3 < loss[0]
