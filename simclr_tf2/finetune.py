"""Fine-tuning: a GradientTape loop under tf.function, with checkpoints that survive kill -9."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from simclr_tf2.objectives import Objective
from simclr_tf2.schedule import WarmupCosine

_log = logging.getLogger(__name__)

# Below this spread of the unit embeddings (see `embedding_std`) a network counts as collapsed.
COLLAPSED = 0.05


@dataclass(frozen=True)
class FinetuneConfig:
    """How to train."""

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3  # peak, reached after warm-up
    weight_decay: float = 1e-4  # on kernels; biases and batch-norm parameters are left out
    warmup_epochs: float = 0.5
    checkpoint_minutes: float = 5.0  # beside the checkpoint at the end of every epoch


@dataclass
class FinetuneResult:
    """What training came to."""

    steps: int
    history: list[dict[str, Any]] = field(default_factory=list)  # one entry an epoch
    warnings: list[str] = field(default_factory=list)


class TrainingDiverged(RuntimeError):
    """The loss or a gradient became NaN or infinite."""


Batches = Callable[[int, int], tf.data.Dataset]  # (epoch, batches to leave out) -> (augmented, labels)


class Trainer:
    """Runs an objective over epochs of batches.

    Args:
        objective: what to minimise.
        config: how.
        batches: gives the batches of an epoch from a start on; the same ones whenever asked.
        steps_per_epoch: how many batches an epoch has.
        run_dir: takes checkpoints/, metrics.jsonl and tensorboard/.
    """

    def __init__(self, objective: Objective, config: FinetuneConfig, batches: Batches, steps_per_epoch: int, run_dir: Path):
        if steps_per_epoch < 1:
            raise ValueError(f"batch_size must be at most the number of training crops; got {config.batch_size}")
        self.objective, self.config, self.batches = objective, config, batches
        self.steps_per_epoch, self.run_dir = steps_per_epoch, Path(run_dir)
        self.total_steps = steps_per_epoch * config.epochs
        self.optimizer = _make_optimizer(objective, config, steps_per_epoch, self.total_steps)
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        checkpoint = tf.train.Checkpoint(
            encoder=objective.encoder.model, head=objective.head, optimizer=self.optimizer, step=self.step
        )
        self.checkpoints = tf.train.CheckpointManager(checkpoint, str(self.run_dir / "checkpoints"), max_to_keep=2)

    def run(self, end_of_epoch: Callable[[], dict[str, float]] = dict, progress: Callable[..., tqdm] = tqdm) -> FinetuneResult:
        """Trains from the last checkpoint to the end.

        Args:
            end_of_epoch: called after every epoch; its figures join the metrics.
            progress: makes the progress bar.

        Raises:
            TrainingDiverged: names the step and the last good checkpoint.
        """
        self._restore()
        result = FinetuneResult(self.total_steps)
        train_step = tf.function(self._train_step)
        writer = tf.summary.create_file_writer(str(self.run_dir / "tensorboard"))
        log = _MetricsLog(self.run_dir / "metrics.jsonl", int(self.step))
        result.history = log.epochs
        with progress(total=self.total_steps, initial=int(self.step), unit="step", desc="fine-tuning") as bar:
            while int(self.step) < self.total_steps:
                epoch, done = divmod(int(self.step), self.steps_per_epoch)
                saved_at, losses = time.monotonic(), []
                for augmented, labels in self.batches(epoch, done):
                    figures = {name: float(value) for name, value in train_step(augmented, labels).items()}
                    self._check(figures)
                    losses.append(figures["loss"])
                    self.step.assign_add(1)
                    bar.update()
                    bar.set_postfix(epoch=f"{epoch + 1}/{self.config.epochs}", loss=f"{figures['loss']:.3f}", refresh=False)
                    log.step(int(self.step), epoch, figures)
                    with writer.as_default(int(self.step)):
                        for name, value in figures.items():
                            tf.summary.scalar(f"train/{name}", value)
                    ends = int(self.step) % self.steps_per_epoch == 0  # saved below, after its evaluation
                    if not ends and time.monotonic() - saved_at > 60 * self.config.checkpoint_minutes:
                        self._save()
                        saved_at = time.monotonic()
                if int(self.step) != (epoch + 1) * self.steps_per_epoch:
                    raise RuntimeError(f"epoch {epoch} ended at step {int(self.step)}; {self.steps_per_epoch} steps were announced")
                figures["loss"] = sum(losses) / len(losses)  # of the epoch, from where this process took it up
                evaluation = end_of_epoch()
                with writer.as_default(int(self.step)):
                    for name, value in evaluation.items():
                        tf.summary.scalar(name, value)
                log.epoch(int(self.step), epoch, {**figures, **evaluation})
                self._warn_if_collapsed(figures, result)
                self._save()
                shown = ", ".join(f"{name} {value:.3f}" for name, value in evaluation.items())
                bar.write(f"epoch {epoch + 1}/{self.config.epochs}: loss {figures['loss']:.3f}{', ' if shown else ''}{shown}")
        writer.close()
        return result

    def _train_step(self, augmented, labels) -> dict[str, tf.Tensor]:
        variables = self.objective.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            loss, accuracy, embeddings = self.objective.loss(augmented, labels)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        self.optimizer.apply(gradients, variables)
        norm = tf.linalg.global_norm(gradients) * (loss / scaled)
        return {
            "loss": loss,
            "accuracy": accuracy,
            "gradient_norm": norm,
            "embedding_std": embedding_std(embeddings),
            "learning_rate": tf.cast(self.optimizer.learning_rate, tf.float32),
        }

    def _check(self, figures: dict[str, float]) -> None:
        # With loss scaling an infinite gradient is routine: the optimizer skips the step and halves the scale.
        scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        bad = [name for name in ("loss", "gradient_norm") if not math.isfinite(figures[name])]
        if not bad or (scaled and bad == ["gradient_norm"]):
            return
        last = self.checkpoints.latest_checkpoint
        advice = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
        raise TrainingDiverged(
            f"{bad[0]} is {figures[bad[0]]} at step {int(self.step)}; {advice}. Start another run_dir with a lower learning_rate."
        )

    def _warn_if_collapsed(self, figures: dict[str, float], result: FinetuneResult) -> None:
        if figures["embedding_std"] < COLLAPSED:
            warning = (
                f"embeddings have collapsed at step {int(self.step)}: their spread is {figures['embedding_std']:.4f} "
                f"(below {COLLAPSED}), so all crops look alike. Lower learning_rate or raise batch_size."
            )
            _log.warning(warning)
            result.warnings.append(warning)

    def _save(self) -> None:
        self.checkpoints.save(checkpoint_number=int(self.step))

    def _restore(self) -> None:
        latest = self.checkpoints.latest_checkpoint
        if latest:
            self.checkpoints.checkpoint.restore(latest).assert_consumed()
            _log.info("going on from step %d of %d (%s)", int(self.step), self.total_steps, latest)


def embedding_std(embeddings: tf.Tensor) -> tf.Tensor:
    """Spread of embeddings: standard deviation of each dimension of the unit vectors, averaged, times sqrt(D).

    1 for points spread evenly over the sphere, 0 for a collapsed network (Chen and He, "SimSiam", 2021, section 4.1).

    Args:
        embeddings: float32 [rows, D].
    """
    unit = tf.math.l2_normalize(tf.cast(embeddings, tf.float32), axis=1)
    return tf.reduce_mean(tf.math.reduce_std(unit, axis=0)) * tf.sqrt(tf.cast(tf.shape(unit)[1], tf.float32))


def _make_optimizer(
    objective: Objective, config: FinetuneConfig, steps_per_epoch: int, total_steps: int
) -> keras.optimizers.Optimizer:
    warmup = int(config.warmup_epochs * steps_per_epoch)
    schedule = WarmupCosine(config.learning_rate, warmup, total_steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)
    variables = objective.trainable_variables
    # By variable, not by name: in Keras 3 a variable's name is only "kernel" or "gamma".
    optimizer.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
    if keras.mixed_precision.dtype_policy().compute_dtype == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


class _MetricsLog:
    """metrics.jsonl: one line a step, one line an epoch. On resuming, lines after the checkpoint are dropped."""

    def __init__(self, path: Path, step: int):
        kept = []
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line in flight when the process was killed
            if entry["step"] <= step:
                kept.append(entry)
        path.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
        self.path = path
        self.epochs: list[dict[str, Any]] = [entry for entry in kept if entry["kind"] == "epoch"]

    def step(self, step: int, epoch: int, figures: dict[str, float]) -> None:
        self._append({"kind": "step", "step": step, "epoch": epoch, **figures})

    def epoch(self, step: int, epoch: int, figures: dict[str, float]) -> None:
        self.epochs.append({"kind": "epoch", "step": step, "epoch": epoch, **figures})
        self._append(self.epochs[-1])

    def _append(self, entry: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
