import json

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf2.nt_xent import nt_xent
from tests.conftest import GOLDEN, two_devices

CASES = np.load(GOLDEN / "ntxent.npz")
NAMES = sorted({key.split("/")[0] for key in CASES})


def by_the_paper(hidden: np.ndarray, temperature: float) -> float:
    """Algorithm 1, anchor by anchor in float64: twice the mean over the 2B anchors."""
    z = hidden.astype(np.float64)
    z /= np.sqrt(np.maximum((z * z).sum(axis=1, keepdims=True), 1e-12))
    count = len(z)
    total = 0.0
    for i in range(count):
        positive = (i + count // 2) % count
        similar = [np.exp(z[i] @ z[j] / temperature) for j in range(count) if j != i]
        total -= np.log(np.exp(z[i] @ z[positive] / temperature) / np.sum(similar))
    return 2 * total / count


@pytest.mark.parametrize("name", NAMES)
def test_parity_with_the_published_code(name):
    """Values of google-research/simclr's TF2 code. Tolerance: float32 rounding of a sum
    over at most 63 candidates.
    """
    hidden = tf.constant(CASES[f"{name}/hidden"])
    temperature, loss, accuracy = CASES[f"{name}/facts"]
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        ours, our_accuracy, _ = nt_xent(hidden, temperature)
    gradient, expected = tape.gradient(ours, hidden).numpy(), CASES[f"{name}/grad"]
    np.testing.assert_allclose(ours, loss, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(
        gradient, expected, rtol=0, atol=3e-6 * max(np.abs(expected).max(), 1e-3)
    )
    assert our_accuracy.numpy() == pytest.approx(accuracy)


@pytest.mark.parametrize(("batch", "temperature"), [(2, 0.1), (5, 0.5), (16, 1.0)])
def test_equals_the_papers_algorithm(batch, temperature):
    hidden = np.random.default_rng(batch).normal(size=(2 * batch, 7)).astype(np.float32)
    assert nt_xent(tf.constant(hidden), temperature)[0].numpy() == pytest.approx(
        by_the_paper(hidden, temperature), rel=1e-5
    )


def test_gradient_by_finite_differences():
    hidden = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    variable = tf.Variable(hidden)
    with tf.GradientTape() as tape:
        loss = nt_xent(variable, 0.5).loss
    gradient = tape.gradient(loss, variable).numpy()
    for place in np.ndindex(hidden.shape):
        step = np.zeros_like(hidden, np.float64)
        step[place] = 1e-5
        slope = (
            by_the_paper(hidden + step, 0.5) - by_the_paper(hidden - step, 0.5)
        ) / 2e-5
        assert gradient[place] == pytest.approx(slope, abs=2e-5)


def test_chance_and_perfection():
    collapsed = tf.ones((8, 5))
    assert nt_xent(collapsed, 0.1)[0].numpy() == pytest.approx(2 * np.log(7), rel=1e-5)
    perfect = tf.concat([tf.eye(4), tf.eye(4)], 0)
    loss, accuracy, entropy = nt_xent(perfect, 0.05)
    assert loss.numpy() < 1e-6
    assert accuracy.numpy() == 1.0
    assert entropy.numpy() < 1e-6
    assert nt_xent(collapsed, 0.1).entropy.numpy() == pytest.approx(np.log(4), rel=1e-5)


TWO = np.load(GOLDEN / "ntxent_two.npz")


@pytest.mark.parametrize(
    "name", sorted({key.split("/")[1] for key in TWO if key.startswith("two/")})
)
def test_two_replicas(name):
    """Loss, gradient, accuracy and entropy of each replica as the published code has
    them, and as one device has them.
    """
    facts = next(
        fact
        for fact in json.loads(str(TWO["facts"]))["two_replica"]
        if fact["name"] == name
    )
    hidden = [
        tf.constant(TWO[f"two/{name}/replica{replica}/hidden"]) for replica in range(2)
    ]
    strategy = two_devices()
    spread = strategy.experimental_distribute_values_from_function(
        lambda context: hidden[context.replica_id_in_sync_group]
    )

    def one(rows):
        with tf.GradientTape() as tape:
            tape.watch(rows)
            contrast = nt_xent(rows, facts["temperature"], facts["hidden_norm"])
        return (*contrast, tape.gradient(contrast.loss, rows))

    outputs = tf.function(lambda rows: strategy.run(one, (rows,)))(spread)
    losses, accuracies, entropies, gradients = (
        strategy.experimental_local_results(output) for output in outputs
    )
    for replica in range(2):
        expected = TWO[f"two/{name}/replica{replica}/grad"]
        np.testing.assert_allclose(
            gradients[replica], expected, atol=3e-6 * np.abs(expected).max()
        )
        assert losses[replica].numpy() == pytest.approx(
            facts["replica_loss"][replica], rel=2e-6
        )
        assert accuracies[replica].numpy() == pytest.approx(
            facts["contrast_acc"][replica]
        )
        assert entropies[replica].numpy() == pytest.approx(
            facts["contrast_entropy"][replica], rel=1e-5
        )
    batch = hidden[0].shape[0] // 2
    whole = tf.Variable(
        tf.concat(
            [part[:batch] for part in hidden] + [part[batch:] for part in hidden], 0
        )
    )
    with tf.GradientTape() as tape:
        alone = nt_xent(whole, facts["temperature"], facts["hidden_norm"]).loss
    assert alone.numpy() == pytest.approx(np.mean(losses), rel=2e-6)
    gradient = tape.gradient(alone, whole).numpy()
    mine = (
        np.concatenate(
            [g.numpy()[:batch] for g in gradients]
            + [g.numpy()[batch:] for g in gradients]
        )
        / 2
    )
    np.testing.assert_allclose(mine, gradient, atol=3e-6 * np.abs(gradient).max())
