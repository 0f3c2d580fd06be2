"""The fine-tuning job: crops in, a run folder with an encoder and embeddings out. Loads
TensorFlow.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from artifacts.files import check_writable, exclusive, write_json
from artifacts.progress import progress_bar
from artifacts.provenance import provenance
from curation.config import FinetuneConfig, FinetuneRequest, flatten, overlay
from curation.crops import duplicates_in_words, print_next, read_reported
from curation.embedding import (
    EmbedBatch,
    embed_into,
    make_embedder,
    on_devices,
    seconds_per_pixel,
    set_up,
)
from curation.encoders import recipe_in_words, reference, start_encoder
from curation.learning_curve import LearningCurve
from curation.partners import Partners, recipe_of_partners
from curation.planning import Speed, by_crops, has_flattened, plan, plan_in_words
from curation.resuming import (
    as_it_began,
    check_same_run,
    identity_of_run,
    stated_settings,
)
from data.crop_cache import CropCache
from data.crop_table import DUPLICATE_OF, CropTable
from data.duplicates import find_duplicates, read_looks, with_duplicates
from data.embedding_writer import read_skipped
from data.embeddings import EmbeddingSet
from data.pipeline import SOURCE_SCALE, Unreadable, training_batches
from data.splits import labelled_fraction, split_mask
from simclr_tf2.batch_norm import synchronize
from simclr_tf2.checkpoints.exporting import export_saved_model
from simclr_tf2.config import BY_CROPS, RANDOM, EncoderConfig
from simclr_tf2.distribute import on_device, worker_of
from simclr_tf2.encoders.base import Encoder
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.objectives import Objective, make_objective
from simclr_tf2.trainer import Epoch, Trainer, TrainingResult, read_epochs

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinetuneResult(TrainingResult):
    """What a run came to.

    Attributes:
        encoder: how the fine-tuned encoder is made again, for `embed`.
        embeddings: of all crops.
    """

    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    embeddings: EmbeddingSet | None = None


def finetune(
    crops: CropTable,
    *,
    config: FinetuneConfig,
    run_dir: str | Path,
    skipped: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> FinetuneResult:
    """Fine-tunes an encoder on crops, then embeds all of them; goes on where a killed
    call stopped.

    Example:
        >>> result = finetune(crops, config=FinetuneConfig(), run_dir="runs/a")
        >>> result.embeddings.vectors.shape

    Args:
        crops: what to train on, as far as `config` doesn't choose a split of them.
        config: how. With 0 epochs nothing is trained, only embedded.
        run_dir: for everything this run makes.
        skipped: image -> why it was left out, of reading the crops.
        settings: where the crops came from, for config.json.

    Raises:
        ValueError: the folder holds a run of other settings or crops.
        RuntimeError: another process holds it, or training diverged.
    """
    began = time.monotonic()
    config = as_it_began(config, Path(run_dir))
    # Before anything else of TensorFlow.
    strategy = set_up(config.device, config.seed, trains=True)
    check_writable(Path(run_dir), "run_dir")
    precision = keras.mixed_precision.dtype_policy().name
    config = overlay(config, {"mixed_precision": precision}, "device")
    crops = _looked_at(crops, config, Path(run_dir))
    train = training_crops(crops, config) if config.training.epochs else crops
    config = by_crops(config, len(train))
    worker, workers = worker_of(strategy)
    if config.training.epochs == BY_CROPS and workers > 1:
        raise ValueError(
            f"minutes is for one machine; got {config.minutes:g} with {workers} "
            "workers, which must be told epochs"
        )
    run = _Run(
        crops,
        train,
        config,
        Path(run_dir),
        strategy=strategy,
        skipped=skipped or {},
        began=began,
    )
    if worker:
        return run.assist(worker)
    with exclusive(run.folder, "run_dir"):
        check_same_run(run.folder, crops, config, settings)
        return run.whole(dict(settings or {}))


def training_crops(crops: CropTable, config: FinetuneConfig) -> CropTable:
    """What to train on: the crops of the split, with labels as many as may be used."""
    contrastive = config.objective == "contrastive"
    split = config.train_split or ("all" if contrastive else "train")
    train = crops.take(split_mask(crops, split, "train_split"))
    if not contrastive:
        train = train.take(labelled_fraction(train, config.label_fraction, config.seed))
        if len(train.classes) < 2:
            raise ValueError(
                f"objective {config.objective} needs crops of at least 2 classes; "
                f"the training crops have {len(train.classes)}"
            )
    elif config.label_fraction < 1:
        raise ValueError(
            "label_fraction is for supervised and linear; got "
            f"{config.label_fraction} with objective contrastive"
        )
    return train


def _looked_at(crops: CropTable, config: FinetuneConfig, run_dir: Path) -> CropTable:
    """The crops with which of them show the same, before any split is made; a run that
    an earlier version began without looking goes on so.
    """
    known = DUPLICATE_OF in crops.rows.column_names
    if known or not (config.find_duplicates and config.training.epochs):
        return crops
    stated = run_dir / "crops.parquet"
    if stated.is_file():
        began = CropTable.read(stated)
        same = began.ids.tolist() == crops.ids.tolist()
        if not same or DUPLICATE_OF not in began.rows.column_names:
            return crops
        return crops.with_column(DUPLICATE_OF, began.rows.column(DUPLICATE_OF))
    looks = read_looks(crops, config.window, progress_bar)
    found = with_duplicates(crops, find_duplicates(looks, progress_bar))
    for line in duplicates_in_words(found):
        _log.info("%s", line)
    return found


class _Run:
    """One call of `finetune`."""

    def __init__(
        self,
        crops: CropTable,
        train: CropTable,
        config: FinetuneConfig,
        folder: Path,
        *,
        strategy: tf.distribute.Strategy,
        skipped: Mapping[str, str],
        began: float,
    ):
        self.crops, self.train = crops, train
        self.config, self.folder = config, folder
        self.strategy = strategy
        self.began = began
        self.unreadable = Unreadable()
        for image, reason in skipped.items():
            self.unreadable.add(image, reason)

    @property
    def has_own_weights(self) -> bool:
        """Whether the run's encoder exists nowhere else."""
        return self.config.training.epochs > 0 or self.config.encoder.weights == RANDOM

    def whole(self, settings: dict[str, Any]) -> FinetuneResult:
        """Trains, saves, embeds."""
        config, folder = self.config, self.folder
        training: _Training | None = None
        trained = self._trained_already()
        with self.strategy.scope():
            encoder = start_encoder(trained.encoder if trained else config.encoder)
            weight_bytes = 4 * encoder.model.count_params()
            # Three checkpoints at a time (the last two and the next), each with two
            # moments per weight, and the encoder twice.
            needed = 11 * weight_bytes if config.training.epochs else weight_bytes
            check_writable(folder, "run_dir", needed)
            if config.training.epochs == BY_CROPS:
                config = self.config = self._planned(encoder)
            if config.training.epochs and not trained:
                training = _Training(self, encoder)
        embedder = make_embedder(encoder, config.embedding().recipe)
        # Only now: a call that ends in an error must leave nothing behind that the
        # corrected call would trip over.
        if "endpoint" not in (stated_settings(folder) or {}):  # it keeps its own words
            write_json(folder / "config.json", {**flatten(config), **settings})
        self.crops.write(folder / "crops.parquet")
        # Every epoch is measured by the last layer alone, at the size of training.
        plain = on_devices(Embedder(encoder), self.strategy)
        complete = (folder / "result.json").is_file()
        if training:
            training.measure_frozen(plain)
        done = training.run(plain) if training else trained or TrainingResult(0)
        if self.has_own_weights and not complete:
            encoder.save(folder)
            self._export(embedder, training.objective if training else None)
        file = folder / encoder.weights_file if self.has_own_weights else None
        facts = reference(encoder, folder / "embeddings", file)
        embeddings = embed_into(
            folder / "embeddings",
            self.crops,
            embedder,
            on_devices(embedder, self.strategy),
            config=config.embedding(),
            unreadable=self.unreadable,
            facts=facts,
        )
        if complete:
            _log.info("the run in %s is complete already", folder)
        else:
            self._write_result(embeddings, done, training)
        weights = EncoderConfig(encoder.config.name, facts["weights"])
        return FinetuneResult(
            done.steps, done.history, done.warnings, weights, embeddings
        )

    def _trained_already(self) -> FinetuneResult | None:
        """What a complete run came to, if its weights are there: they are all it takes
        to embed again.
        """
        result, file = self.folder / "result.json", self.folder / "encoder.weights.h5"
        if not (self.config.training.epochs and result.is_file() and file.is_file()):
            return None
        facts = json.loads(result.read_text())
        history = read_epochs(self.folder)
        encoder = EncoderConfig(self.config.encoder.name, str(file))
        return FinetuneResult(facts["steps"], history, facts["warnings"], encoder)

    def assist(self, worker: int) -> FinetuneResult:
        """The part of a worker that isn't the first: it trains along and writes nothing
        but its own crops.
        """
        if not self.config.training.epochs:
            return FinetuneResult(0)
        with self.strategy.scope():
            training = _Training(self, start_encoder(self.config.encoder))
        trained = training.trainer.run(
            progress=progress_bar, before_epoch=training.before_epoch
        )
        training.tidy(worker)
        print(
            f"worker {worker} has done its part; worker 0 embeds and writes the "
            f"results to {self.folder}"
        )
        return FinetuneResult(trained.steps, trained.history, trained.warnings)

    def _export(self, embedder: Embedder, objective: Objective | None) -> None:
        """Writes saved_model/, which any tool for SimCLR checkpoints loads."""
        _log.info("writing %s", self.folder / "saved_model")
        encoder = embedder.encoder
        head, classifier = encoder.projection_head, None
        if objective is not None:
            head = head or objective.projection_head
            classifier = objective.classifier
        contrastive = self.config.objective == "contrastive"
        layer = 0 if contrastive else self.config.learning.projection_layer
        export_saved_model(
            self.folder / "saved_model",
            encoder,
            head,
            classifier,
            layer,
            embedder=embedder,
        )

    def _planned(self, encoder: Encoder) -> FinetuneConfig:
        """The settings with a plan for the minutes, by a few steps of trial."""
        config = self.config
        self.config = overlay(config, {"epochs": 1}, "planning")
        trial = _Training(self, encoder)
        step = trial.trainer.seconds_per_step()
        started = time.monotonic()
        plain = on_devices(Embedder(encoder), self.strategy)
        trial.curve.measure(plain, self.unreadable)
        evaluation = time.monotonic() - started
        embedder = make_embedder(encoder, config.embedding().recipe)
        embed_batch = on_devices(embedder, self.strategy)
        each = seconds_per_pixel(config.embedding(), embed_batch, len(self.crops))
        embedding = each * config.embedding().recipe.cost * len(self.crops)
        comparing = each * trial.partners.recipe.cost * len(self.train)
        if not trial.partners.count:
            comparing = 0.0
        gone = time.monotonic() - self.began
        speed = Speed(gone, step, evaluation, comparing, embedding)
        steps = trial.trainer.steps_per_epoch
        planned = plan(config, steps, speed)
        size = config.learning.augment.image_size
        _log.info("%s", plan_in_words(planned, steps, speed, size))
        return planned

    def _write_result(
        self,
        embeddings: EmbeddingSet,
        trained: TrainingResult,
        training: _Training | None,
    ) -> None:
        """Writes skipped.json and result.json."""
        reasons = {**read_skipped(embeddings.folder), **self.unreadable.reasons}
        write_json(self.folder / "skipped.json", reasons)
        meta = embeddings.meta
        facts = {
            "crops": len(embeddings.table),
            "skipped_images": len(reasons),
            "encoder_hash": meta["encoder_hash"],
            "embeddings_sha256": meta["sha256"],
            "table_hash": meta["table_hash"],
            "recipe": recipe_in_words(meta),
            "identity": identity_of_run(flatten(self.config)),
            **dataclasses.asdict(trained),
            "frozen": training.curve.frozen if training else {},
            "ceiling": training.curve.ceiling if training else None,
            "provenance": provenance(self.config.seed),
        }
        write_json(self.folder / "result.json", facts)


class _Training:
    """Trainer and evaluation of a run; all errors in its settings come from here."""

    def __init__(self, run: _Run, encoder: Encoder):
        self.run_, config, train = run, run.config, run.train
        # Heads are drawn alike, whether a trial came before or not.
        keras.utils.set_random_seed(config.seed)
        learning = dataclasses.replace(
            config.learning,
            classes=len(train.classes),
            augment_on_device=on_device(config.device.augment_on),
        )
        self.objective = make_objective(config.objective, encoder, learning)
        for model in (encoder.model, self.objective.projection_head):
            synchronize(model, config.sync_batch_norm)
        batch = config.training.batch_size
        if len(train) < batch:
            raise ValueError(
                "batch_size must be at most the number of training crops, "
                f"{len(train)}; got {batch}"
            )
        self.partners = Partners(
            train,
            config.neighbors if config.objective == "contrastive" else 0,
            recipe_of_partners(
                config.embedding().recipe, config.learning.augment.image_size
            ),
            config.seed,
            run.folder / partners_file(worker_of(run.strategy)[0]),
        )
        embedder = make_embedder(encoder, self.partners.recipe)
        self.compare = on_devices(embedder, run.strategy)
        self.curve = LearningCurve.on(run.crops, self.objective, train.classes, config)
        self.trainer = Trainer(
            self.objective,
            config.training,
            self._batches(train),
            len(train) // batch,
            run.folder,
        )

    def _batches(self, train: CropTable):
        """(epoch, batches to leave out) -> that epoch's batches."""
        run, config = self.run_, self.run_.config
        strategy = tf.distribute.get_strategy()
        worker = worker_of(strategy)
        by_recording = config.objective == "contrastive" and config.recording_batches

        # Cut when the first batch is asked for, so never for a run that has trained
        # already.
        @functools.cache
        def cache() -> CropCache:
            crops = CropCache(
                run.folder / crop_cache(worker[0]),
                train,
                SOURCE_SCALE * config.learning.augment.image_size,
                config.window,
                progress_bar,
            )
            for image, reason in crops.reasons.items():
                run.unreadable.add(image, reason)
            return crops

        def batches(epoch: int, start: int) -> tf.data.Dataset:
            return training_batches(
                cache(),
                self.objective.augment,
                config.training.batch_size,
                seed=config.seed,
                epoch=epoch,
                start_batch=start,
                by_session=by_recording,
                partners=self.partners.rows,
                replicas=strategy.num_replicas_in_sync,
                worker=worker,
            )

        return batches

    def measure_frozen(self, embed_batch: EmbedBatch) -> None:
        """Measures the network before training, and says what on."""
        figures = self.curve.measure(embed_batch, self.run_.unreadable)
        _log.info(
            "training on %d crops; measured on %d. Before training: %s",
            len(self.run_.train),
            len(self.curve.table),
            self.curve.in_words(figures),
        )

    def before_epoch(self, epoch: int) -> None:
        """Finds out which crops are partners now."""
        self.partners.prepare(epoch, self.compare)

    def tidy(self, worker: int) -> None:
        """Removes what is of use during training alone."""
        shutil.rmtree(self.run_.folder / crop_cache(worker), ignore_errors=True)
        self.partners.file.unlink(missing_ok=True)

    def run(self, embed_batch: EmbedBatch) -> TrainingResult:
        """Trains to the end; with minutes, until the learning curve is flat."""
        config = self.run_.config

        def end_of_epoch() -> dict[str, float]:
            return self.curve.measure(embed_batch, self.run_.unreadable)

        def enough(history: Sequence[Epoch]) -> bool:
            # Several workers would have to end together.
            if not config.minutes or worker_of(self.run_.strategy)[1] > 1:
                return False
            name = self.curve.name
            curve = [each.figures[name] for each in history if name in each.figures]
            return has_flattened(curve, config.training.epochs)

        trained = self.trainer.run(
            end_of_epoch,
            progress_bar,
            before_epoch=self.before_epoch,
            in_words=self.curve.in_words,
            enough=enough,
        )
        self.tidy(0)
        return trained


def partners_file(worker: int) -> str:
    """Name of a worker's file of which crops are partners."""
    return f"partners-{worker}.npz" if worker else "partners.npz"


def crop_cache(worker: int) -> str:
    """Name of a worker's folder of training crops."""
    return f"crops.cache-{worker}" if worker else "crops.cache"


def run_finetune(request: FinetuneRequest) -> None:
    """What run_finetune.py does.

    Raises:
        ValueError, OSError, RuntimeError: with a message for the user.
    """
    config, run_dir = request.config, Path(request.run_dir)
    check_writable(run_dir, "run_dir")
    # Strategies must be made before anything else of TensorFlow; `finetune` does so.
    crops, report = read_reported(request.data, request.source, request.where)
    own = {*flatten(config), "run_dir"} - {"weights"}
    settings = {
        name: value for name, value in flatten(request).items() if name not in own
    }
    for name in ("data", "images", "weights"):  # a run can go on from another folder
        if settings[name] and Path(settings[name]).exists():
            settings[name] = str(Path(settings[name]).resolve())
    result = finetune(
        crops,
        config=config,
        run_dir=run_dir,
        skipped={item.image: item.reason for item in report.skipped},
        settings=settings,
    )
    if result.embeddings is not None:
        left_out = result.embeddings.meta["skipped"] + len(report.skipped)
        print_next(result.embeddings, left_out)
