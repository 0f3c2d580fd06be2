"""One device or many: the same loss, gradients and weights."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from data.crop_cache import CropCache
from data.images import STRETCHED
from data.pipeline import training_batches
from simclr_tf2.augment import AugmentConfig
from simclr_tf2.batch_norm import FusedBatchNormalization, synchronize
from simclr_tf2.config import EncoderConfig
from simclr_tf2.distribute import (
    embed_on_all_devices,
    fast_precision,
    make_strategy,
    worker_of,
)
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.heads import HeadConfig
from simclr_tf2.objectives import ObjectiveConfig, make_objective
from simclr_tf2.trainer import Trainer, TrainerConfig
from tests.conftest import read_image_folder, two_devices

ROOT = Path(__file__).parent.parent
BATCH, STEPS, SIZE = 8, 3, 32


def data(objective):
    rng = np.random.default_rng(0)
    images = rng.random((2, BATCH * STEPS, SIZE, SIZE, 3)).astype(np.float32)
    labels = np.where(
        rng.random(BATCH * STEPS) < 0.3,
        -1 if objective == "contrastive" else 2,
        rng.integers(0, 3, BATCH * STEPS),
    )
    return images, labels.astype(np.int32)


def train(folder, strategy, objective="contrastive", encoder="tiny", **options):
    """Three steps; returns metrics by step and all weights."""
    replicas = strategy.num_replicas_in_sync
    images, labels = data(objective)

    def batches(_, start):
        share = BATCH // replicas
        views = (
            tf.data.Dataset.from_tensor_slices((images[0], images[1], labels))
            .skip(start * BATCH)
            .batch(share)
        )
        return views.map(
            lambda first, second, label: (
                (first, second) if objective == "contrastive" else first,
                label,
            )
        )

    with strategy.scope():
        keras.utils.set_random_seed(1)
        network = make_encoder(EncoderConfig(encoder, "random"))
        config = ObjectiveConfig(
            AugmentConfig(SIZE), 3, 0.5, HeadConfig(hidden=16, output=8)
        )
        goal = make_objective(objective, network, config)
        settings = {
            "epochs": 1,
            "batch_size": BATCH,
            "learning_rate": 0.1,
            "optimizer": "momentum",
            "warmup_epochs": 0,
            **options,
        }
        folder.mkdir()
        run = Trainer(goal, TrainerConfig(**settings), batches, STEPS, folder)
    run.run()
    lines = [
        json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    weights = [
        variable.numpy() for variable in (*network.model.weights, *goal.head_variables)
    ]
    return [line for line in lines if line["kind"] == "step"], weights


@pytest.mark.parametrize(
    ("encoder", "objective", "optimizer"),
    [
        ("tiny", "contrastive", "lars"),
        ("tiny", "supervised", "momentum"),
        pytest.param("tiny", "contrastive", "adamw", marks=pytest.mark.slow),
        pytest.param("r18_1x_sk0_small", "contrastive", "lars", marks=pytest.mark.slow),
        pytest.param(
            "r18_1x_sk0_small", "supervised", "momentum", marks=pytest.mark.slow
        ),
    ],
)
def test_two_devices_equal_one_with_the_whole_batch(
    tmp_path, encoder, objective, optimizer
):
    """Losses, gradient norms and all weights after three steps; a third of the crops
    have no label.

    Tolerance: moments over two devices are summed in another order, and batch norm over
    16 images amplifies that.
    """
    options = {"encoder": encoder, "optimizer": optimizer, "learning_rate": 0.01}
    one, alone = train(
        tmp_path / "one", tf.distribute.get_strategy(), objective, **options
    )
    two, spread = train(tmp_path / "two", two_devices(), objective, **options)
    for mine, theirs in zip(two, one, strict=True):
        assert mine["loss"] == pytest.approx(
            theirs["loss"], rel=1e-5 if mine["step"] == 1 else 3e-3
        )
        assert mine["gradient_norm"] == pytest.approx(
            theirs["gradient_norm"], rel=1e-4 if mine["step"] == 1 else 3e-2
        )
        assert mine["accuracy"] == pytest.approx(theirs["accuracy"])
    if (
        optimizer != "adamw"
    ):  # whose first steps are the sign of the gradient, also where it is rounding
        for mine, theirs in zip(spread, alone, strict=True):
            np.testing.assert_allclose(
                mine, theirs, atol=2e-2 * np.abs(theirs).max() + 1e-5
            )


@pytest.mark.slow
def test_the_same_run_on_two_devices_ends_the_same(tmp_path):
    _, whole = train(tmp_path / "whole", two_devices())
    _, again = train(tmp_path / "again", two_devices())
    for mine, theirs in zip(again, whole, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_xla_changes_nothing(tmp_path):
    plain, weights = train(tmp_path / "plain", tf.distribute.get_strategy())
    compiled, same = train(
        tmp_path / "compiled", tf.distribute.get_strategy(), xla=True
    )
    for mine, theirs in zip(compiled, plain, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    for mine, theirs in zip(same, weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)


class Unnormalised(keras.layers.Layer):
    """Stands for batch norm where an encoder has none."""

    def __init__(self, **options):
        super().__init__(name=options.get("name"))

    def call(self, inputs, training=None):
        return inputs


@pytest.mark.parametrize("objective", ["contrastive", "supervised"])
@pytest.mark.parametrize("micro_batch", [2, 4, 16])
def test_gradient_caching_equals_the_whole_batch_without_batch_norm(
    tmp_path, monkeypatch, objective, micro_batch
):
    if objective == "supervised" and micro_batch == 16:
        micro_batch = 8
    monkeypatch.setattr(
        "simclr_tf2.encoders.tiny.FusedBatchNormalization", Unnormalised
    )
    whole, weights = train(tmp_path / "whole", tf.distribute.get_strategy(), objective)
    parts, same = train(
        tmp_path / "parts",
        tf.distribute.get_strategy(),
        objective,
        micro_batch=micro_batch,
    )
    for mine, theirs in zip(parts, whole, strict=True):
        for figure in ("loss", "gradient_norm", "accuracy", "embedding_std"):
            assert mine[figure] == pytest.approx(theirs[figure], rel=2e-5), figure
    # Each step adds rounding, which differs between processors: 1e-5 on most, up to
    # 4e-4 on one. A gradient that is wrong shows in the figures above.
    for mine, theirs in zip(same, weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=5e-4)


def test_gradient_caching_normalises_within_a_part(tmp_path):
    """The documented exception: with batch norm the parts differ from the batch, and
    statistics move once a part.
    """
    whole, _ = train(tmp_path / "whole", tf.distribute.get_strategy())
    parts, weights = train(
        tmp_path / "parts", tf.distribute.get_strategy(), micro_batch=4
    )
    assert parts[0]["loss"] != pytest.approx(whole[0]["loss"], rel=1e-4)
    assert all(np.isfinite(weight).all() for weight in weights)


def test_embedding_on_two_devices():
    encoder = make_encoder(EncoderConfig("tiny", "random"))
    with two_devices().scope():
        spread = make_encoder(EncoderConfig("tiny", "random"))
        spread.model.set_weights(encoder.model.get_weights())
    embed = embed_on_all_devices(two_devices(), Embedder(spread).forward)
    images = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3)).astype(np.uint8)
    for part in (images, images[:3], images[:1]):  # odd, smaller, fewer than devices
        np.testing.assert_allclose(
            embed(tf.constant(part)),
            Embedder(encoder).embed(part),
            rtol=1e-5,
            atol=1e-6,
        )


def test_bad_arguments_are_named(tmp_path, monkeypatch):
    with pytest.raises(
        ValueError,
        match=(
            "strategy must be one of default, mirrored, multiworker, tpu; got 'magic'"
        ),
    ):
        make_strategy("magic")
    monkeypatch.setenv(
        "TF_CONFIG",
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
    )
    with pytest.raises(
        ValueError, match="needs TF_CONFIG in the environment of every worker"
    ):
        make_strategy("multiworker")
    with pytest.raises(
        RuntimeError, match="strategy 'tpu' must find a TPU; 'local' can't be reached"
    ):
        make_strategy("tpu")
    assert worker_of(two_devices()) == (0, 1)
    for options, message in (
        ({"batch_size": 7}, "batch_size must be a multiple of the 2 devices; got 7"),
        ({"micro_batch": 4}, "micro_batch is for one device; got 4 with 2"),
        ({"xla": True}, "xla is for one device"),
    ):
        with pytest.raises(ValueError, match=message):
            train(tmp_path / str(len(message)), two_devices(), **options)
    with pytest.raises(
        ValueError,
        match=r"micro_batch must divide the 16 images of a batch \(all views\); got 3",
    ):
        train(tmp_path / "third", tf.distribute.get_strategy(), micro_batch=3)
    with pytest.raises(
        ValueError, match="micro_batch can't be compiled; got 4 with xla"
    ):
        train(
            tmp_path / "fourth", tf.distribute.get_strategy(), micro_batch=4, xla=True
        )


# Two real processes over loopback.


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start_workers(photos, run_dir, log):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    arguments = [
        f"--data={photos}",
        f"--run_dir={run_dir}",
        "--encoder=tiny",
        "--weights=random",
        "--image_size=32",
    ]
    arguments += [
        "--batch_size=12",
        "--epochs=40",
        '--config={"checkpoint_minutes": 0, "strategy": "multiworker"}',
    ]
    processes = []
    for index in range(2):
        config = {
            "cluster": {"worker": workers},
            "task": {"type": "worker", "index": index},
        }
        environment = {
            **os.environ,
            "TF_CONFIG": json.dumps(config),
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        command = [sys.executable, "run_finetune.py", *arguments]
        with open(f"{log}-{index}", "w") as output:
            processes.append(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
    return processes


def wait(processes, log, seconds=240):
    for index, process in enumerate(processes):
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            for each in processes:
                each.kill()
            raise
        assert code == 0, Path(f"{log}-{index}").read_text()[-2000:]


@pytest.mark.slow
def test_two_workers_one_killed_and_resumed(photos, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    wait(start_workers(photos, whole, tmp_path / "whole.log"), tmp_path / "whole.log")

    processes = start_workers(photos, broken, tmp_path / "broken.log")
    deadline = time.monotonic() + 120
    while (
        not (broken / "metrics.jsonl").is_file()
        or len((broken / "metrics.jsonl").read_text().splitlines()) < 30
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGKILL)
    assert processes[0].wait(180) != 0  # the other one notices, and ends
    processes[1].wait()
    assert not (broken / "result.json").exists()
    wait(start_workers(photos, broken, tmp_path / "again.log"), tmp_path / "again.log")

    one = tmp_path / "one"
    arguments = [
        f"--data={photos}",
        f"--run_dir={one}",
        "--encoder=tiny",
        "--weights=random",
        "--image_size=32",
    ]
    arguments += ["--batch_size=12", "--epochs=40"]
    arguments.append('--config={"checkpoint_minutes": 0}')
    subprocess.run(
        [sys.executable, "run_finetune.py", *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    losses = {}
    for name, run in (("whole", whole), ("broken", broken), ("one", one)):
        lines = [
            json.loads(line)
            for line in (run / "metrics.jsonl").read_text().splitlines()
        ]
        steps = [line for line in lines if line["kind"] == "step"]
        assert [line["step"] for line in steps] == list(range(1, 121))
        losses[name] = [line["loss"] for line in steps]
    np.testing.assert_allclose(losses["broken"], losses["whole"], rtol=1e-3)
    np.testing.assert_allclose(
        losses["one"][:12], losses["whole"][:12], rtol=1e-3
    )  # later on rounding adds up
    for run in (whole, broken):
        assert json.loads((run / "result.json").read_text())["crops"] == 36
        assert not list(run.glob("crops.cache*"))


def test_each_device_may_normalise_by_itself():
    encoder = make_encoder(EncoderConfig("tiny", "random"))
    norms = [
        layer
        for layer in encoder.model.layers
        if isinstance(layer, FusedBatchNormalization)
    ]
    assert [layer.synchronized for layer in norms] == [True] * 3
    synchronize(encoder.model, False)
    assert [layer.synchronized for layer in norms] == [False] * 3


@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_half_precision_on_two_devices(tmp_path, policy):
    """Loss scaling sees an overflow on any device, and divides the sum once. Half
    precision has three digits.
    """
    keras.mixed_precision.set_global_policy(policy)
    try:
        one, alone = train(
            tmp_path / "one", tf.distribute.get_strategy(), learning_rate=0.01
        )
        two, spread = train(tmp_path / "two", two_devices(), learning_rate=0.01)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-2)
    if np.isfinite(one[0]["gradient_norm"]):
        assert two[0]["gradient_norm"] == pytest.approx(
            one[0]["gradient_norm"], rel=5e-2
        )
    for mine, theirs in zip(spread, alone, strict=True):
        np.testing.assert_allclose(
            mine, theirs, atol=5e-2 * np.abs(theirs).max() + 1e-2
        )


@pytest.mark.parametrize(
    ("gpus", "precision"),
    [
        ([], "float32"),
        ([(7, 5)], "float32"),
        ([(8, 0)], "mixed_bfloat16"),
        ([(9, 0), (7, 0)], "float32"),  # all have to have it
        ([None], "float32"),
    ],
)
def test_precision_is_chosen_by_the_device(monkeypatch, gpus, precision):
    details = [{} if one is None else {"compute_capability": one} for one in gpus]
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind: range(len(gpus))
    )
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: details[gpu]
    )
    assert fast_precision(tf.distribute.get_strategy()) == precision


# What no accelerator can do within a step: call Python, or make tensors whose shape
# depends on values.
ON_THE_HOST = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "PrintV2", "Where", "Unique"}


def operations(function):
    """All of a concrete function, those of functions that it calls included."""
    yield from function.graph.get_operations()
    for name in function.graph._functions:  # there is no public way to them
        yield from function.graph._functions[name].graph.get_operations()


@pytest.mark.parametrize("objective", ["contrastive", "supervised"])
def test_a_step_with_its_views_can_be_compiled_for_a_tpu(photos, tmp_path, objective):
    """From the pipeline's bytes to new weights: no host call, shapes known, and the
    step that XLA makes of it is the host's.
    """
    table, _ = read_image_folder(photos)
    cache = CropCache(tmp_path / "cache", table, 2 * SIZE, STRETCHED)
    contrastive = objective == "contrastive"
    partners = np.roll(np.arange(len(table)), 5)[:, None] if contrastive else None
    figures = []
    for on_device in (False, True):
        keras.utils.set_random_seed(1)
        augment = AugmentConfig(SIZE, grayscale_prob=0.2, blur_prob=0.5)
        config = ObjectiveConfig(augment, 3, augment_on_device=on_device)
        goal = make_objective(
            objective, make_encoder(EncoderConfig("tiny", "random")), config
        )
        batches = training_batches(
            cache, goal.augment, BATCH, seed=0, epoch=0, partners=partners
        )
        settings = TrainerConfig(1, BATCH, xla=on_device)
        run = Trainer(goal, settings, lambda *_, b=batches: b, STEPS, tmp_path)
        batch = next(iter(batches))
        figures.append(run.step_function(*batch))
    host, compiled = figures
    for name in ("loss", "gradient_norm", "accuracy"):
        assert float(compiled[name]) == pytest.approx(float(host[name]), rel=1e-4), name
    plain = tf.function(run._train_step).get_concrete_function(*batch)
    names = {operation.type for operation in operations(plain)}
    assert "Conv2D" in names
    assert not names & ON_THE_HOST
    assert all(
        output.shape.is_fully_defined()
        for operation in plain.graph.get_operations()
        if operation.type in {"Conv2D", "Einsum", "MatMul", "ConcatV2", "BatchMatMulV2"}
        for output in operation.outputs
    )
