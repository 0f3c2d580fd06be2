import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf2.augment import AugmentConfig
from simclr_tf2.config import EncoderConfig
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.heads import HeadConfig
from simclr_tf2.objectives import ObjectiveConfig, make_objective
from simclr_tf2.schedule import peak_learning_rate
from simclr_tf2.trainer import Trainer, TrainerConfig, TrainingDiverged, embedding_std

SIZE, BATCH, STEPS = 16, 8, 4
AUGMENT = AugmentConfig(SIZE, min_area=0.5, color_jitter_strength=0.2)
HEAD = HeadConfig(hidden=128, output=32)


def images_and_labels():
    rng = np.random.default_rng(0)
    labels = np.arange(BATCH * STEPS) % 3
    colors = np.array([[0.9, 0.2, 0.1], [0.1, 0.8, 0.2], [0.1, 0.3, 0.9]])
    images = np.clip(
        colors[labels][:, None, None] + rng.normal(0, 0.1, (len(labels), 20, 20, 3)),
        0,
        1,
    )
    return images.astype(np.float32), labels.astype(np.int32)


def batches_for(objective, poison=None, repeat=False):
    """The contract of `data.pipeline.training_batches`, in memory; `poison` = (epoch,
    batch) that turns NaN.

    With `repeat` every epoch is the first one again, so that the loss has to fall.
    """
    images, labels = images_and_labels()

    def batches(epoch, start):
        epoch = 0 if repeat else epoch
        order = np.random.default_rng([0, epoch]).permutation(len(labels))

        def produce():
            for number in range(start, STEPS):
                rows = order[number * BATCH : (number + 1) * BATCH]
                views = [
                    objective.augment(
                        tf.constant(images[row]), tf.constant([epoch, row], tf.int32)
                    )
                    for row in rows
                ]
                views = (
                    tuple(tf.stack(part) for part in zip(*views, strict=True))
                    if isinstance(views[0], tuple)
                    else tf.stack(views)
                )
                if poison == (epoch, number):
                    views = tf.nest.map_structure(lambda view: view * np.nan, views)
                yield views, tf.constant(labels[rows])

        return produce()

    return batches


def trainer(folder, name="contrastive", seed=0, poison=None, online=True, **options):
    keras.utils.set_random_seed(seed)
    encoder = make_encoder(EncoderConfig("tiny", "random"))
    objective = make_objective(
        name, encoder, ObjectiveConfig(AUGMENT, 3, 0.2, HEAD, online)
    )
    config = TrainerConfig(
        **{"epochs": 3, "batch_size": BATCH, "learning_rate": 3e-3, **options}
    )
    folder.mkdir(exist_ok=True)
    return Trainer(objective, config, batches_for(objective, poison), STEPS, folder)


def weights(run):
    return [
        variable.numpy()
        for variable in [
            *run.objective.encoder.model.weights,
            *run.objective.head_variables,
            *run.optimizer.variables,
        ]
    ]


@pytest.mark.parametrize("name", ["contrastive", "supervised"])
def test_the_loss_falls_and_the_encoder_moves(tmp_path, name):
    run = trainer(tmp_path, name, epochs=12, learning_rate=1e-2)
    run.batches = batches_for(run.objective, repeat=True)
    before = run.objective.encoder.content_hash()
    history = run.run().history
    assert history[-1].figures["loss"] < 0.8 * history[0].figures["loss"]
    assert run.objective.encoder.content_hash() != before


def test_linear_trains_a_head_and_leaves_every_embedding_bit_for_bit(tmp_path):
    run = trainer(tmp_path, "linear", epochs=10, learning_rate=3e-2)
    encoder, images = (
        run.objective.encoder,
        (images_and_labels()[0] * 255).astype(np.uint8),
    )
    before, embedded = encoder.content_hash(), Embedder(encoder).embed(images)
    history = run.run().history
    assert history[-1].figures["loss"] < 0.8 * history[0].figures["loss"]
    assert encoder.content_hash() == before
    assert np.array_equal(Embedder(encoder).embed(images), embedded)


class Killed(BaseException):
    """Stands for a kill: nothing handles it."""


def test_loss_scaling_is_resumed_too(tmp_path):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        first = trainer(tmp_path, epochs=2)
        first.run()
        again = trainer(tmp_path, seed=9, epochs=2)
        again.run()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert int(first.optimizer.step_counter.numpy()) > 0
    for ours, theirs in zip(
        weights(again), weights(first), strict=True
    ):  # the loss scale and its counter among them
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("mid_epoch", [False, True])
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, mid_epoch):
    whole = trainer(tmp_path / "whole")
    expected = whole.run(lambda: {"figure": 1.0})

    options = {"checkpoint_minutes": 0.0} if mid_epoch else {}
    first = trainer(tmp_path / "killed", **options)
    original = first.batches

    def interrupted(epoch, start):
        for number, batch in enumerate(original(epoch, start)):
            if (epoch, number) == (1, 2):
                raise Killed
            yield batch

    first.batches = interrupted
    with pytest.raises(Killed):
        first.run(lambda: {"figure": 1.0})
    second = trainer(
        tmp_path / "killed", seed=99, **options
    )  # other initial weights, which the checkpoint must replace
    seen = []
    original_second = second.batches
    second.batches = lambda epoch, start: (
        seen.append((epoch, start)) or original_second(epoch, start)
    )
    result = second.run(lambda: {"figure": 1.0})
    assert seen[0] == ((1, 2) if mid_epoch else (1, 0))
    for ours, theirs in zip(weights(second), weights(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert (
        [entry.step for entry in result.history]
        == [entry.step for entry in expected.history]
        == [4, 8, 12]
    )
    lines = [
        json.loads(line)
        for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(
        range(1, 13)
    )


def test_nan_stops_with_the_step_and_the_last_good_checkpoint(tmp_path):
    run = trainer(tmp_path, poison=(1, 2))
    with pytest.raises(
        TrainingDiverged,
        match=r"(loss|gradient_norm) is nan at step 6; the last good checkpoint is .*ckpt-4",
    ):
        run.run()
    assert run.done == 4  # back at it, before anything is done with the network
    assert all(np.isfinite(value).all() for value in weights(run))
    again = trainer(tmp_path)
    again._restore()
    assert again.done == 4
    for ours, theirs in zip(weights(run), weights(again), strict=True):
        assert np.array_equal(ours, theirs)


def test_no_checkpoint_is_written_of_a_step_that_nobody_looked_at(tmp_path):
    """Also where one is due after every step."""
    run = trainer(tmp_path, poison=(1, 2), checkpoint_minutes=0.0)
    with pytest.raises(TrainingDiverged, match=r"at step 6; the last good .*ckpt-6"):
        run.run()
    assert run.done == 6
    assert all(np.isfinite(value).all() for value in weights(run))


def test_training_ends_when_it_is_enough_and_stays_so(tmp_path):
    def enough(history):
        return len(history) == 2

    result = trainer(tmp_path).run(enough=enough)
    assert (result.steps, len(result.history)) == (2 * STEPS, 2)
    before = []
    again = trainer(tmp_path).run(enough=enough, before_epoch=before.append)
    assert (again.steps, before) == (2 * STEPS, [])


def test_before_each_epoch_its_number_is_told(tmp_path):
    told = []
    trainer(tmp_path).run(before_epoch=told.append)
    assert told == [0, 1, 2]


def test_measuring_a_step_leaves_everything_as_it_was(tmp_path):
    run = trainer(tmp_path)
    before = weights(run)
    seconds = run.seconds_per_step()
    assert 0 < seconds < 60
    for ours, theirs in zip(weights(run), before, strict=True):
        assert np.array_equal(ours, theirs)
    assert run.done == 0


@pytest.mark.parametrize(
    ("name", "weights_", "frozen"),
    [
        ("efficientnet_lite0", "imagenet", "conv_stem blocks_0_ blocks_1_ blocks_2_"),
        ("efficientnet_lite0", "random", ""),
        ("tiny", "random", ""),
    ],
)
def test_early_layers_of_pretrained_networks_are_frozen(name, weights_, frozen):
    encoder = make_encoder(EncoderConfig(name, weights_))
    objective = make_objective("contrastive", encoder, ObjectiveConfig(AUGMENT))
    names = {path.path.split("/")[0] for path in objective.trainable_variables}
    kept = {
        layer.name
        for layer in encoder.model.layers
        if layer.trainable_weights or not layer.weights or layer.name in names
    }
    still = [layer.name for layer in encoder.model.layers if layer.name not in kept]
    assert bool(still) == bool(frozen)
    for layer in still:
        assert layer == "bn0" or layer.startswith(tuple(frozen.split()))
    if frozen:
        assert {"conv_stem", "bn0", "blocks_2_bn2"} <= set(still)
        assert "blocks_3_expand_conv" not in still


def test_blocks_of_resnets_are_told_by_their_layers():
    resnet = make_encoder(EncoderConfig("resnet50", "random"))
    objective = make_objective(
        "supervised", resnet, ObjectiveConfig(AUGMENT, 3, freeze_through_block=1)
    )
    paths = [v.path for v in objective.trainable_variables if "conv" in v.path]
    assert not any(name in path for path in paths for name in ("conv1_", "conv2_"))
    for group in (3, 4, 5):
        assert any(f"conv{group}_" in path for path in paths)
    with pytest.raises(ValueError, match=r"or 0 \(the stem\) to 4; got 5 with"):
        make_objective(
            "supervised", resnet, ObjectiveConfig(AUGMENT, 3, freeze_through_block=5)
        )


def test_collapse_is_warned_of(tmp_path):
    run = trainer(tmp_path, epochs=1)
    last = run.objective.encoder.model.get_layer("bn2")
    last.gamma.assign(tf.zeros_like(last.gamma) + 1e-6)
    last.beta.assign(tf.ones_like(last.beta))
    run.optimizer.learning_rate = keras.optimizers.schedules.PolynomialDecay(
        0.0, 1, 0.0
    )
    warnings = run.run().warnings
    assert len(warnings) == 1
    assert "embeddings have collapsed at step 4" in warnings[0]


def test_embedding_std_of_known_clouds():
    same = tf.ones((50, 8))
    spread = tf.constant(np.random.default_rng(0).normal(size=(5000, 64)), tf.float32)
    assert embedding_std(same).numpy() == pytest.approx(0, abs=1e-6)
    assert embedding_std(spread).numpy() == pytest.approx(1, abs=0.02)
    assert embedding_std(
        tf.constant([[3.0, 0.0], [0.0, 2.0]])
    ).numpy() == pytest.approx(0.5 * np.sqrt(2))


def test_weight_decay_spares_biases_and_batch_norm(tmp_path):
    run = trainer(
        tmp_path, "supervised", learning_rate=0.1, weight_decay=0.5, warmup_epochs=0.0
    )
    variables = run.objective.trainable_variables
    before = [variable.numpy() for variable in variables]
    run.optimizer.apply(
        [tf.zeros_like(variable) for variable in variables], variables
    )  # a step of decay alone
    for variable, old in zip(variables, before, strict=True):
        shrunk = 1 - 0.1 * 0.5 if len(variable.shape) > 1 else 1.0
        np.testing.assert_allclose(
            variable.numpy(), old * shrunk, rtol=1e-5, err_msg=variable.path
        )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_keeps_float32_variables(tmp_path, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        run = trainer(tmp_path, epochs=12, learning_rate=1e-2)
        run.batches = batches_for(run.objective, repeat=True)
        history = run.run().history
        assert run.objective.encoder.model.get_layer(
            "conv0"
        ).compute_dtype == policy.removeprefix("mixed_")
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert history[-1].figures["loss"] < 0.8 * history[0].figures["loss"]
    assert {variable.dtype for variable in run.objective.trainable_variables} == {
        "float32"
    }


def test_bad_arguments_are_named(tmp_path):
    encoder = make_encoder(EncoderConfig("tiny", "random"))
    with pytest.raises(
        ValueError,
        match="objective must be one of contrastive, supervised, linear; got 'magic'",
    ):
        make_objective("magic", encoder, ObjectiveConfig(AUGMENT, 3))
    with pytest.raises(ValueError, match="at least 2 classes; got 1"):
        make_objective("supervised", encoder, ObjectiveConfig(AUGMENT, 1))
    with pytest.raises(
        ValueError,
        match=r"projection_layer must be 0, or a layer of .* projection head, which has 0; got 1",
    ):
        make_objective(
            "linear", encoder, ObjectiveConfig(AUGMENT, 3, projection_layer=1)
        )
    with pytest.raises(
        ValueError, match=r"freeze_through_block must be -1 .*; got 2 with encoder tiny"
    ):
        make_objective(
            "supervised", encoder, ObjectiveConfig(AUGMENT, 3, freeze_through_block=2)
        )
    with pytest.raises(OSError, match="encoder saved_model needs --weights="):
        make_encoder(EncoderConfig("saved_model", "random"))
    with pytest.raises(
        ValueError,
        match="optimizer must be one of adamw, lars, momentum, adam; got 'sgd'",
    ):
        Trainer(
            make_objective("linear", encoder, ObjectiveConfig(AUGMENT, 3)),
            TrainerConfig(1, optimizer="sgd"),
            None,
            1,
            tmp_path,
        )
    with pytest.raises(
        ValueError,
        match="learning_rate_scaling must be one of none, linear, sqrt; got 'cube'",
    ):
        peak_learning_rate(1.0, 2, "cube")
    objective = make_objective("contrastive", encoder, ObjectiveConfig(AUGMENT))
    with pytest.raises(
        ValueError,
        match="batch_size must be at most the number of training crops; got 128",
    ):
        Trainer(objective, TrainerConfig(1, 128), batches_for(objective), 0, tmp_path)
