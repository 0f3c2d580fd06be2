"""Parity of LARS with the official TF2 code (tests/golden/README.md): float32 rounding,
1e-6 of the largest value a step.
"""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf2.lars import LARS
from tests.conftest import GOLDEN, two_devices
from tests.reference import relative

NUMBERS = np.load(GOLDEN / "lars.npz")
FACTS = json.loads(str(NUMBERS["facts"]))
PATHS = [row["name"] for row in FACTS["variables"]]


class Listed(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, rates):
        self.rates = tf.constant(rates, tf.float32)

    def __call__(self, step):
        return tf.gather(self.rates, tf.cast(step, tf.int32))


def optimizer_of(facts) -> LARS:
    rate = facts["learning_rate"]
    return LARS(
        Listed(rate) if isinstance(rate, list) else rate,
        momentum=facts["momentum"],
        decay=facts["weight_decay"],
        nesterov=facts["nesterov"],
        classic_momentum=facts["classic_momentum"],
        trust_coefficient=facts["eeta"],
        exclude_from_decay=facts["exclude_from_weight_decay"] or [],
        exclude_from_adaptation=facts["exclude_from_layer_adaptation"],
    )


@pytest.mark.parametrize("variant", list(FACTS["variants"]))
def test_ten_steps_of_every_variant(variant):
    optimizer = optimizer_of(FACTS["variants"][variant])
    variables = [tf.Variable(NUMBERS[f"init/{path}"], name=path) for path in PATHS]
    optimizer.build(variables)
    for step in range(FACTS["steps"]):
        optimizer.apply(
            [tf.constant(NUMBERS[f"grads/{path}"][step]) for path in PATHS], variables
        )
        if step in (0, 1, 9):
            place = {0: 0, 1: 1, 9: 2}[step]
            for path, variable in zip(PATHS, variables, strict=True):
                assert relative(
                    variable, NUMBERS[f"{variant}/values/{path}"][place]
                ) < 1e-6 * (step + 1), (path, step)
    for path, momentum in zip(PATHS, optimizer._momenta, strict=True):
        assert relative(momentum, NUMBERS[f"{variant}/momentum_final/{path}"]) < 5e-6, (
            path
        )


def test_a_step_by_hand():
    kernel = keras.Variable(np.array([[3.0, 4.0]]), name="kernel")  # norm 5
    bias = keras.Variable(np.array([1.0]), name="bias")
    optimizer = LARS(2.0, momentum=0.5, decay=0.0, trust_coefficient=0.1)
    for _ in range(2):
        optimizer.apply(
            [tf.constant([[0.0, 2.0]]), tf.constant([0.25])], [kernel, bias]
        )
    # kernel: 2 * 0.1 * 5 / 2 * 2 = 1, then |(3, 3)| = 4.2426: 0.2 * 4.2426 / 2 * 2 =
    # 0.84853, plus half of the first step
    np.testing.assert_allclose(kernel, [[3.0, 4 - 1 - (0.5 + 0.848528)]], rtol=1e-6)
    np.testing.assert_allclose(
        bias, [1 - 0.5 - (0.25 + 0.5)], rtol=1e-6
    )  # plain momentum at the full rate


def test_exclusion_goes_by_path():
    with keras.name_scope("head_supervised.dense"):
        kernel = keras.Variable(np.ones((2, 2)), name="kernel")
    assert kernel.name == "kernel"
    optimizer = LARS(1.0, decay=1.0, trust_coefficient=1e-3)
    optimizer.apply([tf.ones((2, 2))], [kernel])
    np.testing.assert_allclose(
        kernel, np.zeros((2, 2))
    )  # neither decay nor trust ratio


def test_config_round_trip():
    first = LARS(
        0.1,
        momentum=0.8,
        decay=1e-4,
        nesterov=True,
        classic_momentum=False,
        trust_coefficient=0.01,
        exclude_from_decay=["a"],
        exclude_from_adaptation=["b"],
    )
    again = LARS.from_config(first.get_config())
    assert again.get_config() == first.get_config()
    assert again.weight_decay is None  # or Keras would decay once more


def test_two_devices_step_as_one():
    strategy = two_devices()
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    with strategy.scope():
        spread, optimizer = keras.Variable(values, name="kernel"), LARS(0.5, decay=1e-2)
        optimizer.build([spread])
    alone, other = keras.Variable(values, name="kernel"), LARS(0.5, decay=1e-2)

    @tf.function
    def step():
        def one():
            share = tf.cast(
                tf.distribute.get_replica_context().replica_id_in_sync_group + 1,
                tf.float32,
            )
            optimizer.apply([tf.ones((4, 3)) * share], [spread])

        strategy.run(one)

    for _ in range(3):
        step()
        other.apply([tf.ones((4, 3)) * 3.0], [alone])  # 1 + 2
    np.testing.assert_allclose(spread.numpy(), alone.numpy(), rtol=1e-6)


def test_exclusion_knows_names_of_plain_variables_too():
    gamma = tf.Variable(
        np.ones(2, np.float32), name="resnet/bn/gamma"
    )  # its name ends in ":0"
    LARS(1.0, decay=1.0, trust_coefficient=1e-3).apply([tf.ones(2)], [gamma])
    np.testing.assert_allclose(gamma, np.zeros(2))


def test_it_is_made_again_from_what_it_says_of_itself():
    stated = LARS(0.5, momentum=0.8, decay=1e-4, nesterov=True, classic_momentum=False)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(stated))
    assert isinstance(again, LARS)
    assert again.get_config() == stated.get_config()
    assert again.get_config()["momentum"] == 0.8
