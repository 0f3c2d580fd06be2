"""SavedModels as the official code writes them, run as they are.

The official exports can't be in the repository. `official_like` has, in small, what
makes them hard: no signature, a Python bool argument, an all-reduce with a custom
gradient that isn't saved, a random blur before the scope "resnet", stop-gradients
within it, and a list of variables that is too short.
"""

import itertools
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from simclr_tf2.augment import AugmentConfig
from simclr_tf2.checkpoints.exporting import export_saved_model
from simclr_tf2.config import EncoderConfig
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.encoders.saved_model import load_saved_model
from simclr_tf2.heads import HeadConfig
from simclr_tf2.objectives import ObjectiveConfig, make_objective
from simclr_tf2.trainer import Trainer, TrainerConfig
from tests.reference import relative

IMAGES = np.random.default_rng(0).random((4, 32, 32, 3)).astype(np.float32)


@tf.custom_gradient
def all_reduce(x):
    return tf.identity(x), lambda gradient: gradient


class OfficialLike(tf.Module):
    """One convolution, one synchronised batch norm, one classifier behind a
    stop-gradient.
    """

    def __init__(self, blur=True, frozen=False):
        super().__init__()
        rng = np.random.default_rng(1)
        self.blur, self.frozen = blur, frozen
        self.kernel = tf.Variable(
            rng.normal(size=(3, 3, 3, 8)).astype(np.float32),
            name="resnet/conv2d/kernel",
        )
        self.moving_mean = tf.Variable(
            np.zeros(8, np.float32), trainable=False, name="resnet/bn/moving_mean"
        )
        self.dense = tf.Variable(
            rng.normal(size=(8, 5)).astype(np.float32),
            name="head_supervised/dense/kernel",
        )
        self.trainable_variables_list = [self.dense]

    @tf.function
    def __call__(self, inputs, trainable):
        if trainable and self.blur:
            inputs = tf.clip_by_value(
                inputs + tf.random.uniform((), 0.1, 0.5), 0.0, 1.0
            )
        inputs = tf.concat([inputs], 0)
        with tf.name_scope("resnet"):
            if self.frozen:
                inputs = tf.stop_gradient(inputs)
            x = tf.nn.conv2d(inputs, self.kernel, 2, "SAME")
            if trainable:
                mean = all_reduce(tf.reduce_mean(x, (0, 1, 2)))
                self.moving_mean.assign(0.9 * self.moving_mean + 0.1 * mean)
            else:
                mean = tf.convert_to_tensor(self.moving_mean)
            x = tf.nn.relu(x - mean)
            if self.frozen:
                x = tf.stop_gradient(x)
        features = tf.reduce_mean(x, (1, 2))
        return {
            "block_group4": x,
            "final_avg_pool": features,
            "logits_sup": tf.stop_gradient(features) @ self.dense,
        }


def rename_gradients(file):
    """As if another process had written the file: this one knows the gradients of its
    own.
    """
    content = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for function in content.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "IdentityN":
                node.attr["_gradient_op_type"].s = (
                    b"CustomGradient-elsewhere-" + str(next(COUNT)).encode()
                )
    file.write_bytes(content.SerializeToString())


COUNT = itertools.count()


@pytest.fixture
def official_like(tmp_path):
    def write(**options):
        module = OfficialLike(**options)
        for trainable in (False, True):
            module.__call__.get_concrete_function(
                tf.TensorSpec((None, None, None, 3), tf.float32, "inputs"), trainable
            )
        folder = tmp_path / f"official{len(list(tmp_path.iterdir()))}"
        tf.saved_model.save(
            module,
            str(folder),
            options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )
        rename_gradients(folder / "saved_model.pb")
        return folder, module

    return write


def test_outputs_variables_and_statistics(official_like):
    folder, module = official_like(blur=False)
    model = load_saved_model(folder)
    assert not model.blurs
    np.testing.assert_allclose(
        model(IMAGES)["final_avg_pool"],
        module(IMAGES, False)["final_avg_pool"],
        rtol=1e-6,
    )
    # the network trains although the object lists only the classifier
    # (google-research/simclr#116)
    assert [v.name for v in model.trainable_variables] == ["resnet/conv2d/kernel:0"]
    assert model.count_params() == 3 * 3 * 3 * 8 + 8
    model(IMAGES)
    assert not model.non_trainable_variables[0].numpy().any()  # inference moves nothing
    model(IMAGES, training=True)
    module(IMAGES, True)
    np.testing.assert_allclose(
        model.non_trainable_variables[0], module.moving_mean, rtol=1e-6
    )


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"blur": False},
        {"blur": True},
        {"blur": False, "frozen": True},
        {"blur": True, "frozen": True},
    ],
)
def test_gradients_reach_its_variables(official_like, options, compiled):
    """#108 and #190: with trainable=True under a tape the plain call raises
    LookupError; frozen layers stop gradients.
    """
    folder, _ = official_like(**options)
    if options == {"blur": False}:
        raw = tf.saved_model.load(str(folder))
        with pytest.raises(LookupError, match="No gradient defined"), tf.GradientTape():
            raw(IMAGES, True)
    model = load_saved_model(folder)
    live = OfficialLike(blur=False)
    for training in (False, True):

        def gradient(training=training):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(
                    model(IMAGES, training=training)["final_avg_pool"] ** 2
                )
            return tape.gradient(loss, model.trainable_variables)[0]

        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(live(IMAGES, training)["final_avg_pool"] ** 2)
        np.testing.assert_allclose(
            (tf.function(gradient) if compiled else gradient)(),
            tape.gradient(loss, live.kernel),
            rtol=1e-4,
            atol=1e-5,
        )


def test_the_blur_is_passed_by_and_statistics_still_move(official_like):
    folder, _ = official_like(blur=True)
    raw = tf.saved_model.load(str(folder))
    assert (
        relative(
            raw(IMAGES, True)["final_avg_pool"], raw(IMAGES, True)["final_avg_pool"]
        )
        > 1e-3
    )  # random
    model = load_saved_model(folder)
    assert model.blurs
    first = model(IMAGES, training=True)["final_avg_pool"]
    moved = model.non_trainable_variables[0].numpy()
    assert moved.any()
    np.testing.assert_array_equal(first, model(IMAGES, training=True)["final_avg_pool"])
    np.testing.assert_allclose(
        first,
        OfficialLike(blur=False)(IMAGES, True)["final_avg_pool"],
        rtol=1e-5,
        atol=1e-6,
    )


def run_of(encoder, objective, folder, **options):
    labels = tf.constant([0, 1, 2, 0])
    batch = (
        ((IMAGES, IMAGES[:, ::-1]), labels)
        if objective == "contrastive"
        else (IMAGES, labels)
    )
    goal = make_objective(
        objective,
        encoder,
        ObjectiveConfig(AugmentConfig(32), 3, head=HeadConfig(output=4), **options),
    )
    config = TrainerConfig(epochs=2, batch_size=4, learning_rate=0.05, warmup_epochs=0)
    folder.mkdir()
    run = Trainer(
        goal, config, lambda *_: tf.data.Dataset.from_tensors(batch), 1, folder
    )
    run.run()
    return run


@pytest.mark.parametrize("objective", ["linear", "supervised", "contrastive"])
def test_fine_tuning_through_it_saving_and_going_on(official_like, tmp_path, objective):
    folder, _ = official_like(blur=True)
    encoder = make_encoder(EncoderConfig("saved_model", str(folder)))
    assert (
        encoder.width,
        Embedder(encoder).embed((IMAGES * 255).astype(np.uint8)).shape,
    ) == (
        8,
        (4, 8),
    )
    before = [variable.numpy() for variable in encoder.model.weights]
    run = run_of(encoder, objective, tmp_path / "run")
    changed = {
        v.name
        for v, old in zip(encoder.model.weights, before, strict=True)
        if not np.array_equal(v, old)
    }
    # With the head alone nothing moves, statistics included; the file's own classifier
    # is no part of any objective.
    assert changed == (
        set()
        if objective == "linear"
        else {"resnet/conv2d/kernel:0", "resnet/bn/moving_mean:0"}
    )

    export_saved_model(
        tmp_path / "out",
        encoder,
        run.objective.projection_head,
        run.objective.classifier,
    )  # #177
    again = make_encoder(EncoderConfig("saved_model", str(tmp_path / "out")))
    np.testing.assert_allclose(again(IMAGES), encoder(IMAGES), rtol=1e-6)
    assert not again.model.blurs
    if objective == "contrastive":
        assert "proj_head_output" in again.endpoints(IMAGES)
    run_of(again, "supervised", tmp_path / "more")

    twin = make_encoder(
        EncoderConfig("saved_model", str(folder))
    )  # checkpoints restore into a freshly loaded file
    shutil.copytree(tmp_path / "run", tmp_path / "resumed_run")
    labels = ObjectiveConfig(AugmentConfig(32), 3, head=HeadConfig(output=4))
    resumed = Trainer(
        make_objective(objective, twin, labels),
        TrainerConfig(epochs=2, batch_size=4),
        lambda *_: pytest.fail("nothing is left to train"),
        1,
        tmp_path / "resumed_run",
    )
    resumed.run()
    np.testing.assert_array_equal(twin(IMAGES), encoder(IMAGES))


def test_features_of_any_endpoint(official_like):
    """#40."""
    folder, _ = official_like()
    encoder = make_encoder(EncoderConfig("saved_model", str(folder)))
    embedder = Embedder(encoder, "block_group4")
    images = (IMAGES * 255).astype(np.uint8)
    expected = (
        encoder.endpoints(tf.constant(images / 255, tf.float32))["block_group4"]
        .numpy()
        .mean((1, 2))
    )
    np.testing.assert_allclose(embedder.embed(images), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(
        ValueError,
        match=(
            "endpoints of saved_model must be last alone, stages alone, or some of "
            "block_group4, final_avg_pool, each once; got 'x'"
        ),
    ):
        Embedder(encoder, "x")
