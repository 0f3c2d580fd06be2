"""The measurements of benchmarks/accelerator.py, each in a process of its own, so that
neither a crash nor memory that another one took counts.

    python -m benchmarks.accelerator_parts --part=steps --dir=runs/accelerator

Every figure is a line of <dir>/rows.jsonl as soon as it is known.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from benchmarks.accelerator import PARTS, asked_for, define_flags, write_row
from benchmarks.wish import CRITERION, choose_queries, found_of
from curation.config import RECIPES, FinetuneConfig
from curation.pool import Pool
from data.crop_cache import CropCache
from data.embeddings import EmbeddingSet
from data.formats.registry import read_source
from data.images import CropWindow
from data.pipeline import SOURCE_SCALE, training_batches
from data.where import rows_where
from simclr_tf2.checkpoints.exporting import export_saved_model
from simclr_tf2.config import EncoderConfig, TrainerConfig
from simclr_tf2.distribute import accelerators, make_strategy
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.objectives import make_objective
from simclr_tf2.trainer import Trainer

FLAGS = flags.FLAGS
SECONDS = 2.0  # that a speed is measured over, about
WARM_UP = 2
VIEWS = {"contrastive": 2, "supervised": 1}  # of a crop
scratch = tempfile.TemporaryDirectory
K = 50


@dataclasses.dataclass(frozen=True)
class Case:
    """A network at a size and a batch."""

    encoder: str
    size: int
    batch: int

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.encoder}, {self.size} px, batch {self.batch}"


def cases() -> list[Case]:
    """What is measured: the default of this project, then SimCLR's."""
    if FLAGS.rehearse:
        return [Case("tiny", 32, 16)]
    small = Case("efficientnet_lite0", 96, FLAGS.batch)
    return [small, Case("r50_1x_sk0", 224, FLAGS.batch)]


def precisions() -> list[str]:
    """float32, and what the device may be faster in."""
    half = ["mixed_bfloat16"]
    if tf.config.list_logical_devices("GPU"):
        half.append("mixed_float16")
    return ["float32", *half]


def tell(what: str, value: float | str, unit: str = "", note: str = "") -> None:
    """A figure of this part."""
    write_row(FLAGS.dir, FLAGS.part, what, (value, unit, note))


@contextlib.contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Builds networks in a precision."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def trainer_of(
    case: Case,
    objective: str,
    folder: str,
    *,
    on_device: bool = False,
    **training: Any,
) -> Trainer:
    """A trainer with random weights, and heads of the default configuration."""
    keras.utils.set_random_seed(0)
    learning = FinetuneConfig().learning
    goal = make_objective(
        objective,
        make_encoder(EncoderConfig(case.encoder, "random")),
        dataclasses.replace(
            learning,
            augment=dataclasses.replace(learning.augment, image_size=case.size),
            classes=10,
            online_linear_eval=False,
            augment_on_device=on_device,
        ),
    )
    settings = TrainerConfig(epochs=1, batch_size=case.batch, **training)
    return Trainer(goal, settings, lambda *_: None, 1000, Path(folder))


def images_of(case: Case, views: int) -> tuple[Any, tf.Tensor]:
    """A batch of random views, and labels."""
    shape = (views, case.batch, case.size, case.size, 3)
    images = tf.random.stateless_uniform(shape, (0, 1))
    labels = tf.range(case.batch) % 10
    return (tuple(images) if views > 1 else images[0]), labels


def shared(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """A batch, each device's share of it in its memory."""
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return tf.nest.map_structure(tf.identity, batch)

    def share(context):
        at = context.replica_id_in_sync_group
        return tf.nest.map_structure(lambda x: tf.split(x, replicas)[at], batch)

    return strategy.experimental_distribute_values_from_function(share)


def seconds_of(step: Callable[[], Any]) -> float:
    """Seconds a call; the last of each run is waited for."""

    def run(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            last = step()
        for value in tf.distribute.get_strategy().experimental_local_results(last):
            np.asarray(value)
        return (time.perf_counter() - started) / count

    run(WARM_UP)
    return run(int(np.clip(SECONDS / run(1), 2, 200)))


def step_of(trainer: Trainer, batch: Any) -> Callable[[], tf.Tensor]:
    """A step whose loss is read when somebody waits for it."""
    resident = shared(trainer.strategy, batch)
    return lambda: trainer.step_function(*resident)["loss"]


def peak() -> str:
    """The most memory since `forget_peak`, in MB."""
    try:
        used = [
            tf.config.experimental.get_memory_info(name)["peak"]
            for name in short_names()
        ]
    except (ValueError, tf.errors.OpError):
        used = []
    if used:
        return f"peak {max(used) / 2**20:.0f} MB"
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return f"peak of the process so far {most:.0f} MB"


def short_names() -> list[str]:
    """GPU:0 and so on."""
    return [name.split("device:")[-1] for name in accelerators()]


def forget_peak() -> None:
    """Counts memory anew."""
    for name in short_names():
        with contextlib.suppress(ValueError, tf.errors.OpError):
            tf.config.experimental.reset_memory_stats(name)


def crops_of(case: Case) -> CropCache:
    """Crops to train on."""
    table, _ = read_source(asked_for().field())
    folder = Path(FLAGS.dir) / f"crops_{case.size}"
    return CropCache(folder, table, SOURCE_SCALE * case.size, CropWindow())


def devices(strategy: tf.distribute.Strategy) -> None:
    """What there is to compute on."""
    tell("devices of the strategy", strategy.num_replicas_in_sync)
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device)
        told = ", ".join(f"{key} {value}" for key, value in details.items())
        tell(device.name.removeprefix("/physical_device:"), told or device.device_type)
    tell("TensorFlow", tf.__version__, note=f"Keras {keras.__version__}")


def first_step(
    case: Case, precision: str, scope: Any, weights: list | None
) -> tuple[list, np.ndarray, float, float]:
    """All weights before a first step, then its embeddings, loss and gradient norm."""
    with scope, scratch() as folder, arithmetic(precision):
        trainer = trainer_of(case, "contrastive", folder, optimizer="momentum")
        goal = trainer.objective
        variables = [*goal.encoder.model.weights, *goal.head_weights]
        for variable, value in zip(variables, weights or [], strict=False):
            variable.assign(value)
        values = [np.array(variable) for variable in variables]
        batch = shared(trainer.strategy, images_of(case, 2))
        embeddings = trainer.strategy.run(tf.function(goal.encoder), (batch[0][0],))
        told = trainer.step_function(*batch)
        first = trainer.strategy.experimental_local_results(embeddings)[0]
        loss, norm = float(told["loss"]), float(told["gradient_norm"])
        return values, np.asarray(tf.cast(first, tf.float32)), loss, norm


def equality(strategy: tf.distribute.Strategy) -> None:
    """One step on the device against one on the CPU in float32."""
    tf.config.experimental.enable_tensor_float_32_execution(False)
    case = dataclasses.replace(cases()[0], batch=16)
    one = tf.distribute.get_strategy()
    with one.scope():
        cpu = tf.device("/CPU:0")
        weights, vectors, loss, norm = first_step(case, "float32", cpu, None)
    tpu = isinstance(strategy, tf.distribute.TPUStrategy)
    for precision in precisions():
        # TPUs multiply in bfloat16, whatever the precision.
        exact = precision == "float32" and not tpu
        tolerance = 1e-3 if exact else 5e-2
        _, found, its_loss, its_norm = first_step(
            case, precision, strategy.scope(), weights
        )
        rows = vectors[: len(found)]  # of the first device
        apart = {
            "embeddings": relative_distance(found, rows),
            "loss": abs(its_loss / loss - 1),
            "gradient norm": abs(its_norm / norm - 1),
        }
        for name, value in apart.items():
            good = "as expected" if value <= tolerance else "TOO FAR"
            tell(
                f"{name}, {precision}, against the CPU",
                float(f"{value:.2g}"),
                "relative",
                f"{good} (up to {tolerance:g})",
            )


def relative_distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Length of the difference, in lengths of what was expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def steps(strategy: tf.distribute.Strategy) -> None:
    """Views a second in training, on views that are there already."""
    for case, objective in itertools.product(cases(), VIEWS):
        views = VIEWS[objective]
        for precision, xla in itertools.product(precisions(), (False, True)):
            if xla and strategy.num_replicas_in_sync > 1:
                continue
            with strategy.scope(), arithmetic(precision), scratch() as folder:
                forget_peak()
                trainer = trainer_of(case, objective, folder, xla=xla)
                step = step_of(trainer, images_of(case, views))
                speed = views * case.batch / seconds_of(step)
            compiled = ", XLA" if xla else ""
            what = f"{objective}, {precision}{compiled}: {case.name}"
            tell(what, round(speed), "views/s", peak())


def embedding(strategy: tf.distribute.Strategy) -> None:
    """Crops a second in embedding, on crops that are there already."""
    for case in cases():
        shape = (case.batch, case.size, case.size, 3)
        crops = tf.cast(tf.random.stateless_uniform(shape, (1, 2)) * 255, tf.uint8)
        for precision, xla in itertools.product(precisions(), (False, True)):
            if xla and strategy.num_replicas_in_sync > 1:
                continue
            with strategy.scope(), arithmetic(precision):
                forget_peak()
                embedder = Embedder(
                    make_encoder(EncoderConfig(case.encoder, "random")),
                    *RECIPES["fast"].read,
                )
                forward = tf.function(embedder.forward, jit_compile=xla)
                resident = shared(strategy, crops)
                run = partial(strategy.run, tf.function(forward), (resident,))
                speed = case.batch / seconds_of(run)
            compiled = ", XLA" if xla else ""
            what = f"embedding, {precision}{compiled}: {case.name}"
            tell(what, round(speed), "crops/s", peak())


def pipeline(strategy: tf.distribute.Strategy) -> None:
    """Whether the device ever waits: the input alone, the step alone, and both."""
    case = cases()[0]
    cache = crops_of(case)
    batch = min(case.batch, len(cache.table) // 2)
    case = dataclasses.replace(case, batch=batch)
    for place in (False, True):
        with strategy.scope(), scratch() as folder:
            trainer = trainer_of(case, "contrastive", folder, on_device=place)

            def batches(epoch: int, start: int, trainer=trainer) -> tf.data.Dataset:
                return training_batches(
                    cache,
                    trainer.objective.augment,
                    batch,
                    seed=0,
                    epoch=epoch,
                    start_batch=start,
                    replicas=strategy.num_replicas_in_sync,
                )

            trainer.batches = batches
            together, alone, computing = alone_and_together(trainer)
        where = "device" if place else "host"
        for name, taken in (
            ("input alone", alone),
            ("step alone", computing),
            ("together", together),
        ):
            what = f"{name}, views made on the {where}: {case.name}"
            tell(what, round(2 * batch / taken), "views/s")
        waits = max(0.0, 1 - computing / together)
        tell(f"device waits, views made on the {where}", f"{waits:.0%}")


def alone_and_together(trainer: Trainer) -> tuple[float, float, float]:
    """Seconds of a step with its input, of the input alone, of the step alone."""
    endless = (
        each for epoch in itertools.count() for each in trainer.distributed(epoch, 0)
    )
    step, last = trainer.step_function, next(endless)
    return (
        seconds_of(lambda: step(*next(endless))["loss"]),
        seconds_of(lambda: next(endless)[1]),
        seconds_of(lambda: step(*last)["loss"]),
    )


def micro_batches(strategy: tf.distribute.Strategy) -> None:
    """An effective batch of thousands on one device, by gradient caching."""
    del strategy
    first = cases()[0]
    batch, part = (64, 16) if FLAGS.rehearse else (4096, 256)
    case = dataclasses.replace(first, batch=batch)
    with scratch() as folder:
        forget_peak()
        trainer = trainer_of(case, "contrastive", folder, micro_batch=part)
        taken = seconds_of(step_of(trainer, images_of(case, 2)))
    what = f"contrastive in parts of {part}: {case.name}"
    tell(what, round(2 * batch / taken), "views/s", peak())


def together(strategy: tf.distribute.Strategy) -> None:
    """All devices against one: speed, and the first step's loss."""
    case = cases()[0]
    many = strategy
    if strategy.num_replicas_in_sync == 1:
        if len(accelerators()) < 2 and not FLAGS.rehearse:
            tell("devices", 1, note="nothing to compare")
            return
        many = make_strategy("mirrored")
    found = []
    for each in (tf.distribute.get_strategy(), many):
        with each.scope(), scratch() as folder:
            trainer = trainer_of(case, "contrastive", folder)
            step = step_of(trainer, images_of(case, 2))
            loss = float(step())
            found.append((loss, 2 * case.batch / seconds_of(step)))
    (alone, speed), (same, faster) = found
    count = many.num_replicas_in_sync
    tell(f"one device: {case.name}", round(speed), "views/s")
    tell(f"{count} devices, the same batch", round(faster), "views/s")
    tell("loss of the first step, apart", float(f"{abs(same / alone - 1):.2g}"), "rel.")


def retrieval(strategy: tf.distribute.Strategy) -> None:
    """A short run of run_finetune.py, made by the caller: what it finds."""
    del strategy
    for name in ("frozen", "tuned"):
        embeddings = EmbeddingSet.load(Path(FLAGS.dir) / name / "embeddings")
        if FLAGS.data:
            classes = embeddings.table.column("label_name")
            relevant = classes == max(set(classes), key=list(classes).count)
        else:
            relevant = rows_where(embeddings.table, CRITERION)
        queries = choose_queries(relevant, 20)
        k = min(K, int(relevant.sum()) - 1)
        found = float(found_of(Pool(embeddings), relevant, queries, k).mean())
        tell(f"{name}: right of the first {k}, mean of {len(queries)} queries", found)


def export(strategy: tf.distribute.Strategy) -> None:
    """Weights that trained here, exported, and run on the CPU."""
    case = cases()[0]
    images, _ = images_of(dataclasses.replace(case, batch=8), 1)
    with scratch() as folder:
        with strategy.scope():
            keras.utils.set_random_seed(0)
            encoder = make_encoder(EncoderConfig(case.encoder, "random"))
            here = strategy.run(tf.function(encoder), (images,))
            here = np.asarray(strategy.experimental_local_results(here)[0])
            encoder.save(Path(folder))
            export_saved_model(Path(folder) / "saved_model", encoder)
        with tf.device("/CPU:0"):
            loaded = tf.saved_model.load(f"{folder}/saved_model")
            there = loaded(images, trainable=False)["final_avg_pool"].numpy()
            file = str(Path(folder) / encoder.weights_file)
            again = make_encoder(EncoderConfig(case.encoder, file))
            weights = np.asarray(again(images))
    for name, other in (("saved_model", there), ("weights", weights)):
        what = f"{name} of here on the CPU, embeddings apart"
        tell(what, float(f"{relative_distance(here, other):.2g}"), "relative")


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    if FLAGS.rehearse and FLAGS.part == "together":
        cpu = tf.config.list_physical_devices("CPU")[0]
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
    strategy = make_strategy("tpu" if FLAGS.tpu else "default", FLAGS.tpu)
    {
        "devices": devices,
        "equality": equality,
        "retrieval": retrieval,
        "pipeline": pipeline,
        "steps": steps,
        "embedding": embedding,
        "micro_batches": micro_batches,
        "together": together,
        "export": export,
    }[FLAGS.part](strategy)


if __name__ == "__main__":
    define_flags()
    flags.DEFINE_enum("part", None, list(PARTS), "Which.", required=True)
    app.run(main)
