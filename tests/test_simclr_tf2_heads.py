"""Parity of heads and batch norm with the official TF2 code (tests/golden/README.md);
tolerances as float32 rounding has them.
"""

import json

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf2.batch_norm import FusedBatchNormalization
from simclr_tf2.heads import (
    HeadConfig,
    build_classifier,
    build_projection_head,
    projections,
)
from tests.conftest import GOLDEN, two_devices
from tests.reference import relative, variables_by_path

HEADS = np.load(GOLDEN / "heads_bn.npz")
FACTS = json.loads(str(HEADS["facts"]))


def filled_head(name):
    facts = FACTS["projection_head"][name]
    head = build_projection_head(
        facts["input_dim"],
        HeadConfig(layers=facts["num_layers"], hidden=0, output=facts["out_dim"]),
    )
    variables = variables_by_path(head)
    assert sorted(variables) == sorted(
        f"projection_head/{path}" for path in facts["variables_present"]
    )
    for path in facts["variables_present"]:
        variables[f"projection_head/{path}"].assign(
            HEADS[f"projection_head/{name}/vars/{path}"]
        )
    return head, variables, facts["num_layers"]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["nl2", "nl3", "nl4"])
def test_every_layer_of_the_projection_head(name, training):
    head, variables, layers = filled_head(name)
    outputs = head(HEADS[f"projection_head/{name}/input"], training=training)
    mode = "train" if training else "eval"
    # Six rows: batch norm of the deepest layer amplifies rounding.
    tolerance = 2e-5 if training else 2e-6
    assert len(outputs) == layers + 1
    for layer in range(layers + 1):
        assert (
            relative(
                outputs[layer],
                HEADS[f"projection_head/{name}/{mode}/finetune_input_selector_{layer}"],
            )
            < tolerance
        )
    assert (
        relative(outputs[-1], HEADS[f"projection_head/{name}/{mode}/proj_head_output"])
        < tolerance
    )
    for layer in range(layers if training else 0):
        for statistic in ("moving_mean", "moving_variance"):
            theirs = HEADS[
                f"projection_head/{name}/train_updated/layer{layer}/{statistic}"
            ]
            assert (
                relative(
                    variables[f"projection_head/layer{layer}/bn/{statistic}"], theirs
                )
                < 2e-6
            )


def test_heads_that_the_official_code_names_but_cannot_run():
    nothing = build_projection_head(8, HeadConfig("none"))
    images = tf.constant(np.random.default_rng(0).normal(size=(5, 8)), tf.float32)
    assert len(nothing.weights) == 0
    assert [
        np.array_equal(layer, images) for layer in projections(nothing, images)
    ] == [True]
    linear = build_projection_head(8, HeadConfig("linear", output=3))
    assert [tuple(v.shape) for v in linear.trainable_variables] == [(8, 3), (3,)]
    out = linear(images, training=True)[-1].numpy()
    assert out.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-6)
    with pytest.raises(
        ValueError, match="head must be one of nonlinear, linear, none; got 'odd'"
    ):
        HeadConfig("odd")
    with pytest.raises(ValueError, match="head_layers must be >= 1; got 0"):
        HeadConfig(layers=0)


def test_dense_layers_start_with_a_spread_of_a_hundredth():
    tf.random.set_seed(0)
    for kernel in (
        build_projection_head(400, HeadConfig()).weights[0],
        build_classifier(4000, 30).weights[0],
    ):
        assert kernel.numpy().std() == pytest.approx(0.01, rel=0.02)
        assert np.abs(kernel.numpy()).max() > 0.025  # not cut off


@pytest.mark.parametrize(
    "name",
    ["sync_1rep", "plain_1rep", "sync_2rep", "plain_2rep", "sync_2rep_norelu_2d"],
)
def test_batch_norm_on_one_and_two_replicas(name):
    facts = FACTS["batch_norm"][name]
    replicas = facts["replicas"]
    strategy = tf.distribute.get_strategy() if replicas == 1 else two_devices()
    inputs = [
        tf.constant(HEADS[f"batch_norm/{name}/replica{replica}/input"])
        for replica in range(replicas)
    ]
    width = inputs[0].shape[-1]
    with strategy.scope():
        layer = FusedBatchNormalization(
            momentum=0.9, epsilon=1e-5, synchronized=facts["global_bn"]
        )
        layer.build(inputs[0].shape)
        ends = ((0.5, 1.5), (-0.2, 0.2), (-1, 1), (0.5, 2))
        layer.set_weights(
            [np.linspace(*pair, width, dtype=np.float32) for pair in ends]
        )
    spread = strategy.experimental_distribute_values_from_function(
        lambda context: inputs[context.replica_id_in_sync_group]
    )
    for mode in ("eval", "train"):

        @tf.function
        def call(batch, training=mode == "train"):
            return strategy.run(lambda x: layer(x, training=training), (batch,))

        outputs = strategy.experimental_local_results(call(spread))
        for replica, output in enumerate(outputs):
            output = tf.nn.relu(output) if facts["relu"] else output
            assert (
                relative(output, HEADS[f"batch_norm/{name}/replica{replica}/{mode}"])
                < 3e-6
            )
    for statistic in ("moving_mean", "moving_variance"):
        assert (
            relative(
                getattr(layer, statistic).numpy(),
                HEADS[f"batch_norm/{name}/{statistic}_after"],
            )
            < 2e-6
        )
