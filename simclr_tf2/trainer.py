"""Fine-tuning: a GradientTape loop under tf.function, with checkpoints that survive
kill -9.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from simclr_tf2.config import BY_CROPS, TrainerConfig
from simclr_tf2.distribute import read_ahead, worker_of
from simclr_tf2.objectives import Objective
from simclr_tf2.optimizers import decay_in_loss, make_optimizer
from simclr_tf2.schedule import WarmupCosine, peak_learning_rate

_log = logging.getLogger(__name__)

# Below this spread of the unit embeddings (see `embedding_std`) a network counts as
# collapsed.
COLLAPSED = 0.05
# Steps between two looks at their figures, since each look waits for the device.
LOOK_EVERY = 10
_TRIAL = 4  # steps to warm up, and as many to measure
_ZERO = tf.UnconnectedGradients.ZERO


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
        step: the last one of it.
        epoch: from 1.
        figures: loss and the objective's other figures, means over the epoch, and
            those of the evaluation, by name.
    """

    step: int
    epoch: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class TrainingResult:
    """What training came to."""

    steps: int
    history: list[Epoch] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def _in_words(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items())


class TrainingDiverged(RuntimeError):
    """The loss or a gradient became NaN or infinite."""


Batches = Callable[
    [int, int], tf.data.Dataset
]  # (epoch, batches to leave out) -> (augmented, labels)


class Trainer:
    """Runs an objective over epochs of batches, on one device or under a tf.distribute
    strategy.

    With several replicas each computes the loss of its share of the batch, divided by
    their number; gradients are summed. Contrastive losses compare with the views of all
    replicas, and batch norm is that of the whole batch where layers are synchronised,
    so that loss and gradients are those of one device with the whole batch.

    `micro_batch` is gradient caching (Gao et al. 2021, arXiv 2101.06983): the encoder
    embeds the batch in small parts without keeping activations; the loss of the whole
    batch gives the gradient of every embedding; then the parts go through the encoder
    once more and pass these gradients on. Memory is that of a part, the negatives and
    the gradient are those of the whole batch. Batch norm inside the encoder is the
    exception: it normalises within a part. Where it uses its moving statistics, or the
    encoder has none, the result is exact.

    Args:
        objective: what to minimise; built, as the trainer is, in the scope of the
            strategy.
        config: how.
        batches: gives the batches of an epoch from a start on; the same ones whenever
            asked. With several replicas each element is the share of one of them: all
            replicas of this process take turns.
        steps_per_epoch: how many steps an epoch has.
        run_dir: takes checkpoints/, metrics.jsonl and tensorboard/; only the first
            worker writes.
    """

    def __init__(
        self,
        objective: Objective,
        config: TrainerConfig,
        batches: Batches,
        steps_per_epoch: int,
        run_dir: Path,
    ):
        self.strategy = tf.distribute.get_strategy()
        self.replicas = self.strategy.num_replicas_in_sync
        self.is_chief = worker_of(self.strategy)[0] == 0
        if BY_CROPS in (config.epochs, config.batch_size):
            raise ValueError(
                f"epochs and batch_size must be stated; got {config.epochs} and "
                f"{config.batch_size}"
            )
        if steps_per_epoch < 1:
            raise ValueError(
                "batch_size must be at most the number of training crops; got "
                f"{config.batch_size}"
            )
        if config.batch_size % self.replicas:
            raise ValueError(
                f"batch_size must be a multiple of the {self.replicas} devices; got "
                f"{config.batch_size}"
            )
        if config.micro_batch and tf.distribute.has_strategy():
            raise ValueError(
                f"micro_batch is for one device; got {config.micro_batch} with "
                f"{self.replicas} under a strategy"
            )
        if (
            config.micro_batch
            and (config.batch_size * objective.views) % config.micro_batch
        ):
            images = config.batch_size * objective.views
            raise ValueError(
                f"micro_batch must divide the {images} images of a batch (all views); "
                f"got {config.micro_batch}"
            )
        if config.micro_batch and config.xla:
            raise ValueError(
                f"micro_batch can't be compiled; got {config.micro_batch} with xla"
            )
        if (
            config.xla
            and self.replicas > 1
            and not isinstance(self.strategy, tf.distribute.TPUStrategy)
        ):
            raise ValueError(
                "xla is for one device, and for TPUs, which have it anyway; got "
                f"{self.replicas} devices"
            )
        self.objective, self.config, self.batches = objective, config, batches
        self.steps_per_epoch, self.run_dir = steps_per_epoch, Path(run_dir)
        self.total_steps = steps_per_epoch * config.epochs
        peak = peak_learning_rate(
            config.learning_rate, config.batch_size, config.learning_rate_scaling
        )
        schedule = WarmupCosine(
            peak, int(config.warmup_epochs * steps_per_epoch), self.total_steps
        )
        self.optimizer = make_optimizer(
            config.optimizer,
            schedule,
            config.weight_decay,
            objective.trainable_variables,
        )
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        heads = {
            "projection_head": objective.projection_head,
            "classifier": objective.classifier,
        }
        checkpoint = tf.train.Checkpoint(
            encoder=objective.encoder.model,
            **{name: head for name, head in heads.items() if head is not None},
            optimizer=self.optimizer,
            step=self.step,
        )
        self.checkpoints = tf.train.CheckpointManager(
            checkpoint, str(self.run_dir / "checkpoints"), max_to_keep=2
        )

    def run(
        self,
        end_of_epoch: Callable[[], dict[str, float]] = dict,
        progress: Callable[..., tqdm] = tqdm,
        *,
        before_epoch: Callable[[int], None] = lambda epoch: None,
        in_words: Callable[[Mapping[str, float]], str] = _in_words,
        enough: Callable[[Sequence[Epoch]], bool] = lambda history: False,
    ) -> TrainingResult:
        """Trains from the last checkpoint to the end.

        Args:
            end_of_epoch: called after every epoch, by the first worker; its figures
                join the metrics.
            progress: makes the progress bar.
            before_epoch: called with an epoch's number, from 0, before its batches are
                asked for; by every worker.
            in_words: says the figures of `end_of_epoch`.
            enough: asked after every epoch, of all epochs so far, whether to end
                before the last one; for one process.

        Raises:
            TrainingDiverged: names the step and the last good checkpoint, which the
                network is back at.
        """
        self._restore()
        log = _Log(self.run_dir, self.done) if self.is_chief else _NoLog()
        with progress(
            total=self.total_steps,
            initial=self.done,
            unit="step",
            desc="fine-tuning",
            disable=not self.is_chief,
        ) as bar:
            warnings: list[str] = []
            while self.done < self.total_steps and not enough(log.epochs):
                epoch = self.done // self.steps_per_epoch
                before_epoch(epoch)
                figures = self._epoch(epoch, bar, log)
                evaluation = end_of_epoch() if self.is_chief else {}
                log.epoch(self.done, epoch, figures, evaluation)
                self._warn_if_collapsed(figures, warnings)
                self._save()
                shown = in_words(evaluation)
                if self.is_chief:
                    bar.write(
                        f"epoch {epoch + 1}/{self.config.epochs}: loss "
                        f"{figures['loss']:.3f}{', ' if shown else ''}{shown}"
                    )
        log.close()
        return TrainingResult(self.done, log.epochs, warnings)

    def seconds_per_step(self) -> float:
        """What a step takes on this machine, batches included, by a few that are taken
        back.
        """
        variables = [
            *self.objective.encoder.model.weights,
            *self.objective.head_weights,
            *self.optimizer.variables,
        ]
        before = [tf.identity(variable) for variable in variables]
        # The first ones trace, and use up what was read ahead meanwhile.
        times = []
        batches = (
            batch for epoch in range(2 * _TRIAL) for batch in self.distributed(epoch, 0)
        )
        for augmented, labels in itertools.islice(batches, 2 * _TRIAL):
            float(self.step_function(augmented, labels)["loss"])
            times.append(time.monotonic())
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        return (times[-1] - times[_TRIAL - 1]) / _TRIAL

    @functools.cached_property
    def step_function(self) -> Callable[..., dict[str, tf.Tensor]]:
        """A step of all replicas: a batch's share of this process -> figures."""
        # TPUs compile the whole of strategy.run by themselves.
        one_replica = (
            tf.function(self._train_step, jit_compile=True)
            if self.config.xla and self.replicas == 1
            else self._train_step
        )
        return tf.function(
            lambda *batch: self._mean(self.strategy.run(one_replica, batch))
        )

    def _epoch(self, epoch: int, bar: tqdm, log: _Log) -> dict[str, float]:
        """The rest of an epoch; returns its last step's figures, and the mean loss from
        where this process took it up.
        """
        begins, ends = self.done, (epoch + 1) * self.steps_per_epoch
        seen: list[dict[str, float]] = []
        unseen: list[dict[str, tf.Tensor]] = []

        def look() -> None:
            for figures in unseen:
                seen.append({name: float(value) for name, value in figures.items()})
                self._check(seen[-1], begins + len(seen) - 1)
                log.step(begins + len(seen), epoch, seen[-1])
            unseen.clear()
            bar.set_postfix(
                epoch=f"{epoch + 1}/{self.config.epochs}",
                loss=f"{seen[-1]['loss']:.3f}",
                refresh=False,
            )

        saved_at = time.monotonic()
        batches = self.distributed(epoch, begins - epoch * self.steps_per_epoch)
        for step, (augmented, labels) in enumerate(batches, begins + 1):
            unseen.append(self.step_function(augmented, labels))
            self.step.assign_add(1)
            bar.update()
            waited = time.monotonic() - saved_at
            # At its end an epoch is saved after its evaluation.
            due = step < ends and waited > 60 * self.config.checkpoint_minutes
            if due or step == ends or len(unseen) == LOOK_EVERY:
                look()
            if due:  # what was looked at is finite
                self._save()
                saved_at = time.monotonic()
        if self.done != ends:
            raise RuntimeError(
                f"epoch {epoch} ended at step {self.done}; "
                f"{self.steps_per_epoch} steps were announced"
            )
        loss = sum(figures["loss"] for figures in seen) / len(seen)
        return {**seen[-1], "loss": loss}

    @property
    def done(self) -> int:
        """Steps so far."""
        return int(self.step.numpy())

    def distributed(self, epoch: int, start: int):
        """The batches of an epoch, each spread over the replicas."""
        if self.replicas == 1:
            return read_ahead(self.batches(epoch, start))
        return self.strategy.distribute_datasets_from_function(
            lambda _: self.batches(epoch, start)
        )

    def _mean(self, figures: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {
            name: self.strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
            for name, value in figures.items()
        }

    def _train_step(self, augmented, labels) -> dict[str, tf.Tensor]:
        """One step of one replica; all figures are means over replicas in the end."""
        variables = self.objective.trainable_variables
        images = self.objective.images(augmented)
        # Of this step: applying gradients moves both on.
        learning_rate, scale = (
            tf.cast(self.optimizer.learning_rate, tf.float32),
            self.optimizer.scale_loss(1.0),
        )
        gradients, embeddings, figures = self._gradients(images, labels, variables)
        if self.replicas > 1:
            # Summed here for their norm, and for loss scaling, which must see an
            # overflow on any replica. The optimizer sums once more, which the division
            # makes up for.
            summed = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, gradients
            )
            self.optimizer.apply(
                [gradient / self.replicas for gradient in summed], variables
            )
        else:
            summed = gradients
            self.optimizer.apply(gradients, variables)
        return {
            **figures,
            "gradient_norm": tf.linalg.global_norm(summed) / scale,
            "embedding_std": embedding_std(embeddings),
            "learning_rate": learning_rate,
        }

    def _gradients(self, images, labels, variables):
        """Gradients of this replica's part of the (scaled) loss, the embeddings, and
        figures.
        """
        values = [
            variable.value if isinstance(variable, keras.Variable) else variable
            for variable in variables
        ]
        if self.config.micro_batch:
            return self._cached_gradients(images, labels, values)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            embeddings = self.objective.encoder(
                images, training=self.objective.encoder_learns
            )
            total, figures = self._loss(embeddings, labels)
        return (
            tape.gradient(total, values, unconnected_gradients=_ZERO),
            embeddings,
            figures,
        )

    def _loss(self, embeddings, labels) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """What to differentiate, and figures to report."""
        loss, figures = self.objective.loss(embeddings, labels)
        loss += decay_in_loss(
            self.config.optimizer,
            self.config.weight_decay,
            self.objective.trainable_variables,
        )
        return self.optimizer.scale_loss(loss / self.replicas), {
            "loss": loss,
            **figures,
        }

    def _cached_gradients(self, images, labels, values):
        encoder, learns, size = (
            self.objective.encoder,
            self.objective.encoder_learns,
            self.config.micro_batch,
        )
        parts = tf.reshape(images, [images.shape[0] // size, size, *images.shape[1:]])
        # The second pass updates the moving statistics; this one leaves them as they
        # were.
        statistics = encoder.model.non_trainable_variables if learns else []
        before = [tf.identity(statistic) for statistic in statistics]
        embeddings = tf.map_fn(
            lambda part: encoder(part, training=learns), parts, parallel_iterations=1
        )
        for statistic, value in zip(statistics, before, strict=True):
            statistic.assign(value)
        embeddings = tf.reshape(embeddings, [images.shape[0], encoder.width])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([embeddings, *values])
            total, figures = self._loss(embeddings, labels)
        towards, *gradients = tape.gradient(
            total, [embeddings, *values], unconnected_gradients=_ZERO
        )

        def add(part, gradients):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                again = encoder(parts[part], training=learns)
            more = tape.gradient(
                again,
                values,
                towards[part * size : (part + 1) * size],
                unconnected_gradients=_ZERO,
            )
            return part + 1, [
                gradient + extra
                for gradient, extra in zip(gradients, more, strict=True)
            ]

        _, gradients = tf.while_loop(
            lambda part, _: part < parts.shape[0],
            add,
            (tf.constant(0), gradients),
            parallel_iterations=1,
        )
        return gradients, embeddings, figures

    def _check(self, figures: dict[str, float], step: int) -> None:
        """Goes back to the last checkpoint where a step went wrong, and says so."""
        # With loss scaling an infinite gradient is routine: the optimizer skips the
        # step and halves the scale.
        scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        bad = [
            name
            for name in ("loss", "gradient_norm")
            if not math.isfinite(figures[name])
        ]
        if not bad or (scaled and bad == ["gradient_norm"]):
            return
        last = self.checkpoints.latest_checkpoint
        if last:
            self.checkpoints.checkpoint.restore(last)
        advice = (
            f"the last good checkpoint is {last}"
            if last
            else "there is no checkpoint yet"
        )
        raise TrainingDiverged(
            f"{bad[0]} is {figures[bad[0]]} at step {step}; {advice}. Start "
            "another run_dir with a lower learning_rate."
        )

    def _warn_if_collapsed(
        self, figures: dict[str, float], warnings: list[str]
    ) -> None:
        if figures["embedding_std"] < COLLAPSED:
            warning = (
                f"embeddings have collapsed at step {self.done}: their spread is "
                f"{figures['embedding_std']:.4f} "
                f"(below {COLLAPSED}), so all crops look alike. Lower learning_rate or "
                "raise batch_size."
            )
            _log.warning(warning)
            warnings.append(warning)

    def _save(self) -> None:
        if self.is_chief:
            self.checkpoints.save(checkpoint_number=self.done)

    def _restore(self) -> None:
        latest = self.checkpoints.latest_checkpoint
        if latest:
            self.checkpoints.checkpoint.restore(latest).assert_consumed()
            _log.info(
                "going on from step %d of %d (%s)", self.done, self.total_steps, latest
            )


def embedding_std(embeddings: tf.Tensor) -> tf.Tensor:
    """Spread of embeddings: standard deviation of each dimension of the unit vectors,
    averaged, times sqrt(D).

    1 for points spread evenly over the sphere, 0 for a collapsed network (Chen and He,
    "SimSiam", 2021, section 4.1).

    Args:
        embeddings: float32 [rows, D].
    """
    unit = tf.math.l2_normalize(tf.cast(embeddings, tf.float32), axis=1)
    return tf.reduce_mean(tf.math.reduce_std(unit, axis=0)) * tf.sqrt(
        tf.cast(tf.shape(unit)[1], tf.float32)
    )


def read_epochs(run_dir: Path) -> list[Epoch]:
    """The epochs that a run's metrics.jsonl tells of."""
    return _epochs(_entries(run_dir / "metrics.jsonl"))


def read_steps(run_dir: Path) -> list[dict[str, Any]]:
    """The steps that a run's metrics.jsonl tells of: step, epoch (from 0) and figures
    by name.
    """
    entries = _entries(run_dir / "metrics.jsonl")
    return [entry for entry in entries if entry.pop("kind") == "step"]


def _epochs(entries: list[dict[str, Any]]) -> list[Epoch]:
    """Takes apart those entries that are of epochs."""
    epochs = [entry for entry in entries if entry.pop("kind") == "epoch"]
    return [Epoch(entry.pop("step"), entry.pop("epoch"), entry) for entry in epochs]


def _entries(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # the line in flight when the process was killed
    return found


class _Log:
    """metrics.jsonl, one line a step and one an epoch, and the same for TensorBoard.

    On resuming, lines after the checkpoint are dropped.
    """

    def __init__(self, run_dir: Path, step: int):
        self.path = run_dir / "metrics.jsonl"
        self.writer = tf.summary.create_file_writer(str(run_dir / "tensorboard"))
        kept = [entry for entry in _entries(self.path) if entry["step"] <= step]
        self.path.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
        self.epochs = _epochs(kept)

    def step(self, step: int, epoch: int, figures: dict[str, float]) -> None:
        self._append({"kind": "step", "step": step, "epoch": epoch, **figures})
        self._summarise(
            step, {f"train/{name}": value for name, value in figures.items()}
        )

    def epoch(
        self,
        step: int,
        epoch: int,
        figures: dict[str, float],
        evaluation: dict[str, float],
    ) -> None:
        self.epochs.append(Epoch(step, epoch, {**figures, **evaluation}))
        told = {"step": step, "epoch": epoch, **figures, **evaluation}
        self._append({"kind": "epoch", **told})
        self._summarise(step, evaluation)

    def close(self) -> None:
        self.writer.close()

    def _append(self, entry: Mapping[str, str | float]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _summarise(self, step: int, figures: dict[str, float]) -> None:
        with self.writer.as_default(step):
            for name, value in figures.items():
                tf.summary.scalar(name, value)


class _NoLog(_Log):
    """Of the workers that write nothing."""

    def __init__(self) -> None:
        self.epochs = []

    def _append(self, entry: Mapping[str, str | float]) -> None:
        pass

    def _summarise(self, step: int, figures: dict[str, float]) -> None:
        pass

    def close(self) -> None:
        pass
