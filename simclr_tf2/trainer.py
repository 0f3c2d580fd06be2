"""Fine-tuning: a GradientTape loop under tf.function, with checkpoints that survive
kill -9.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import keras
import tensorflow as tf
from tqdm import tqdm

from simclr_tf2.config import TrainerConfig
from simclr_tf2.distribute import worker_of
from simclr_tf2.objectives import Objective
from simclr_tf2.optimizers import decay_in_loss, make_optimizer
from simclr_tf2.schedule import WarmupCosine, peak_learning_rate

_log = logging.getLogger(__name__)

# Below this spread of the unit embeddings (see `embedding_std`) a network counts as
# collapsed.
COLLAPSED = 0.05
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
    ) -> TrainingResult:
        """Trains from the last checkpoint to the end.

        Args:
            end_of_epoch: called after every epoch, by the first worker; its figures
                join the metrics.
            progress: makes the progress bar.

        Raises:
            TrainingDiverged: names the step and the last good checkpoint.
        """
        self._restore()
        # TPUs compile the whole of strategy.run by themselves.
        one_replica = (
            tf.function(self._train_step, jit_compile=True)
            if self.config.xla and self.replicas == 1
            else self._train_step
        )
        train_step = tf.function(
            lambda *batch: self._mean(self.strategy.run(one_replica, batch))
        )
        log = _Log(self.run_dir, self.done) if self.is_chief else _NoLog()
        result = TrainingResult(self.total_steps, log.epochs)
        with progress(
            total=self.total_steps,
            initial=self.done,
            unit="step",
            desc="fine-tuning",
            disable=not self.is_chief,
        ) as bar:
            while self.done < self.total_steps:
                epoch, done = divmod(self.done, self.steps_per_epoch)
                saved_at, losses = time.monotonic(), []
                for augmented, labels in self._distributed(epoch, done):
                    figures = {
                        name: float(value)
                        for name, value in train_step(augmented, labels).items()
                    }
                    self._check(figures)
                    losses.append(figures["loss"])
                    self.step.assign_add(1)
                    bar.update()
                    bar.set_postfix(
                        epoch=f"{epoch + 1}/{self.config.epochs}",
                        loss=f"{figures['loss']:.3f}",
                        refresh=False,
                    )
                    log.step(self.done, epoch, figures)
                    ends = (
                        self.done % self.steps_per_epoch == 0
                    )  # saved below, after its evaluation
                    if (
                        not ends
                        and time.monotonic() - saved_at
                        > 60 * self.config.checkpoint_minutes
                    ):
                        self._save()
                        saved_at = time.monotonic()
                if self.done != (epoch + 1) * self.steps_per_epoch:
                    raise RuntimeError(
                        f"epoch {epoch} ended at step {self.done}; "
                        f"{self.steps_per_epoch} steps were announced"
                    )
                figures["loss"] = sum(losses) / len(
                    losses
                )  # of the epoch, from where this process took it up
                evaluation = end_of_epoch() if self.is_chief else {}
                log.epoch(self.done, epoch, figures, evaluation)
                self._warn_if_collapsed(figures, result)
                self._save()
                shown = ", ".join(
                    f"{name} {value:.3f}" for name, value in evaluation.items()
                )
                if self.is_chief:
                    bar.write(
                        f"epoch {epoch + 1}/{self.config.epochs}: loss "
                        f"{figures['loss']:.3f}{', ' if shown else ''}{shown}"
                    )
        log.close()
        return result

    @property
    def done(self) -> int:
        """Steps so far."""
        return int(self.step.numpy())

    def _distributed(self, epoch: int, start: int):
        """The batches of an epoch, each spread over the replicas."""
        if self.replicas == 1:
            return self.batches(epoch, start)
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

    def _check(self, figures: dict[str, float]) -> None:
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
        advice = (
            f"the last good checkpoint is {last}"
            if last
            else "there is no checkpoint yet"
        )
        raise TrainingDiverged(
            f"{bad[0]} is {figures[bad[0]]} at step {self.done}; {advice}. Start "
            "another run_dir with a lower learning_rate."
        )

    def _warn_if_collapsed(
        self, figures: dict[str, float], result: TrainingResult
    ) -> None:
        if figures["embedding_std"] < COLLAPSED:
            warning = (
                f"embeddings have collapsed at step {self.done}: their spread is "
                f"{figures['embedding_std']:.4f} "
                f"(below {COLLAPSED}), so all crops look alike. Lower learning_rate or "
                "raise batch_size."
            )
            _log.warning(warning)
            result.warnings.append(warning)

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


class _Log:
    """metrics.jsonl, one line a step and one an epoch, and the same for TensorBoard.

    On resuming, lines after the checkpoint are dropped.
    """

    def __init__(self, run_dir: Path, step: int):
        self.path = run_dir / "metrics.jsonl"
        self.writer = tf.summary.create_file_writer(str(run_dir / "tensorboard"))
        kept = []
        for line in self.path.read_text().splitlines() if self.path.is_file() else []:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line in flight when the process was killed
            if entry["step"] <= step:
                kept.append(entry)
        self.path.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
        epochs = [entry for entry in kept if entry.pop("kind") == "epoch"]
        self.epochs = [
            Epoch(entry.pop("step"), entry.pop("epoch"), entry) for entry in epochs
        ]

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
