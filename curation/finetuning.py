"""The fine-tuning job: crops in, a run folder with an encoder and embeddings out. Loads
TensorFlow.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from artifacts.files import check_writable, exclusive, write_json
from artifacts.progress import progress_bar
from artifacts.provenance import provenance
from curation.config import (
    OLD_NAMES,
    FinetuneConfig,
    FinetuneRequest,
    flatten,
    in_words_of_today,
    overlay,
)
from curation.crops import duplicates_in_words, print_next, read_reported
from curation.embedding import (
    EmbedBatch,
    embed_into,
    make_embedder,
    on_devices,
    set_up,
)
from curation.encoders import recipe_in_words, reference, start_encoder
from data.crop_cache import CropCache
from data.crop_table import DUPLICATE_OF, CropTable
from data.duplicates import find_duplicates, read_looks, with_duplicates
from data.embeddings import EmbeddingSet, read_skipped
from data.pipeline import SOURCE_SCALE, Unreadable, embed_readable, training_batches
from data.splits import labelled_fraction, split_mask
from probe.metrics import macro, retrieval_quality
from simclr_tf2.batch_norm import synchronize
from simclr_tf2.checkpoints.exporting import export_saved_model
from simclr_tf2.config import RANDOM, EncoderConfig
from simclr_tf2.distribute import worker_of
from simclr_tf2.encoders.base import Encoder
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.objectives import Objective, make_objective
from simclr_tf2.trainer import Trainer, TrainingResult

_log = logging.getLogger(__name__)

EVALUATION_K = 20
# What may differ when a run is resumed, since it doesn't change what is computed. Where
# the images lie is among it: the crop table's hash says whether they are the same.
_OF_RECIPE = ("endpoints", "pooling", "orientations", "embed_size")
_FREE = ("checkpoint_minutes", "tpu", "embed_batch")
# Settings that choose crops.
_OF_CROPS = ("where", "variant", "tiles", "recording", "boxes", "box_size")


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
    strategy = set_up(config.device, config.seed)  # before anything else of TensorFlow
    check_writable(Path(run_dir), "run_dir")
    config = _as_it_began(config, Path(run_dir))
    crops = _looked_at(crops, config, Path(run_dir))
    run = _Run(crops, config, Path(run_dir), strategy, dict(skipped or {}))
    worker = worker_of(strategy)[0]
    if worker:
        return run.assist(worker)
    with exclusive(run.folder, "run_dir"):
        check_same_run(run.folder, crops, config, settings)
        return run.whole(dict(settings or {}))


def _stated_settings(run_dir: Path) -> dict[str, Any] | None:
    """The config.json of a run, None where there is none."""
    stated = run_dir / "config.json"
    return json.loads(stated.read_text()) if stated.is_file() else None


def _as_it_began(config: FinetuneConfig, run_dir: Path) -> FinetuneConfig:
    """The settings; a run that a version before recipes began goes on without one,
    where none but the default is asked for.
    """
    began = _stated_settings(run_dir) or {}
    if "endpoint" not in began or config.embedding().recipe.name != "fast":
        return config
    today = in_words_of_today(began)
    if config.embed_size:
        today["embed_size"] = config.embed_size
    recipe = {name: today[name] for name in _OF_RECIPE if name in today}
    return overlay(config, recipe, "config.json")


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
        config: FinetuneConfig,
        folder: Path,
        strategy: tf.distribute.Strategy,
        skipped: dict[str, str],
    ):
        self.crops, self.config, self.folder = crops, config, folder
        self.strategy = strategy
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
        with self.strategy.scope():
            encoder = start_encoder(config.encoder)
            weight_bytes = 4 * encoder.model.count_params()
            # Three checkpoints at a time (the last two and the next), each with two
            # moments per weight, and the encoder twice.
            needed = 11 * weight_bytes if config.training.epochs else weight_bytes
            check_writable(folder, "run_dir", needed)
            if config.training.epochs:
                training = _Training(self, encoder)
        embedder = make_embedder(encoder, config.embedding().recipe)
        # Only now: a call that ends in an error must leave nothing behind that the
        # corrected call would trip over.
        if "endpoint" not in (_stated_settings(folder) or {}):  # it keeps its own words
            write_json(folder / "config.json", {**flatten(config), **settings})
        self.crops.write(folder / "crops.parquet")
        # Every epoch is measured by the last layer alone, at the size of training.
        plain = on_devices(Embedder(encoder), self.strategy)
        trained = training.run(plain) if training else TrainingResult(0)
        complete = (folder / "result.json").is_file()
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
            self._write_result(embeddings, trained)
        weights = EncoderConfig(encoder.config.name, facts["weights"])
        return FinetuneResult(
            trained.steps, trained.history, trained.warnings, weights, embeddings
        )

    def assist(self, worker: int) -> FinetuneResult:
        """The part of a worker that isn't the first: it trains along and writes nothing
        but its own crops.
        """
        if not self.config.training.epochs:
            return FinetuneResult(0)
        with self.strategy.scope():
            training = _Training(self, start_encoder(self.config.encoder))
        trained = training.trainer.run(progress=progress_bar)
        shutil.rmtree(self.folder / crop_cache(worker), ignore_errors=True)
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

    def _write_result(self, embeddings: EmbeddingSet, trained: TrainingResult) -> None:
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
            "provenance": provenance(self.config.seed),
        }
        write_json(self.folder / "result.json", facts)


class _Training:
    """Trainer and evaluation of a run; all errors in its settings come from here."""

    def __init__(self, run: _Run, encoder: Encoder):
        self.run_, config = run, run.config
        contrastive = config.objective == "contrastive"
        split = config.train_split or ("all" if contrastive else "train")
        train = run.crops.take(split_mask(run.crops, split, "train_split"))
        if not contrastive:
            train = train.take(
                labelled_fraction(train, config.label_fraction, config.seed)
            )
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
        learning = dataclasses.replace(config.learning, classes=len(train.classes))
        self.objective = make_objective(config.objective, encoder, learning)
        for model in (encoder.model, self.objective.projection_head):
            synchronize(model, config.sync_batch_norm)
        batch = config.training.batch_size
        if len(train) < batch:
            raise ValueError(
                "batch_size must be at most the number of training crops, "
                f"{len(train)}; got {batch}"
            )
        evaluated = evaluation_crops(run.crops, config.eval_split)
        self.evaluation = (
            Evaluation(evaluated, self.objective, train.classes, config)
            if evaluated is not None
            else None
        )
        measured = (
            f"{len(evaluated)} crops of split {config.eval_split}"
            if evaluated is not None
            else f"nothing: split {config.eval_split} has no two classes and "
            f"{EVALUATION_K + 1} crops"
        )
        _log.info(
            "training on %d crops; retrieval is measured on %s", len(train), measured
        )
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
                replicas=strategy.num_replicas_in_sync,
                worker=worker,
            )

        return batches

    def run(self, embed_batch: EmbedBatch) -> TrainingResult:
        """Trains to the end."""

        def end_of_epoch() -> dict[str, float]:
            if self.evaluation is None:
                return {}
            return self.evaluation.measure(embed_batch, self.run_.unreadable)

        trained = self.trainer.run(end_of_epoch, progress_bar)
        # It has served its purpose.
        shutil.rmtree(self.run_.folder / crop_cache(0), ignore_errors=True)
        return trained


def crop_cache(worker: int) -> str:
    """Name of a worker's folder of training crops."""
    return f"crops.cache-{worker}" if worker else "crops.cache"


def evaluation_crops(crops: CropTable, split: str) -> CropTable | None:
    """The crops to measure retrieval on; None where their labels allow none, unless
    another split than the default was asked for.
    """
    try:
        chosen = crops.take(split_mask(crops, split, "eval_split"))
    except ValueError as error:
        if split != FinetuneConfig.eval_split:
            raise
        if len(crops.classes) >= 2:
            _log.warning("no retrieval is measured: %s", error)
        return None
    enough = len(chosen.classes) >= 2 and len(chosen) > EVALUATION_K
    return chosen if enough else None


@dataclass(frozen=True)
class Evaluation:
    """What is measured on the evaluation split after every epoch."""

    table: CropTable
    objective: Objective
    classes: list[str]  # that the objective's classifier tells apart
    config: FinetuneConfig

    def measure(
        self, embed_batch: EmbedBatch, unreadable: Unreadable
    ) -> dict[str, float]:
        """Macro P@20, each labeled crop as query, and the classifier's top-1 accuracy;
        nothing where too few can be read.
        """
        config = self.config
        vectors, valid = embed_readable(
            self.table,
            embed_batch,
            config.embed_size or config.learning.augment.image_size,
            config.embed_batch,
            unreadable=unreadable,
            view=config.window,
        )
        if len(vectors) <= EVALUATION_K:
            return {}
        answers = self.table.column("label_name")[valid]
        split = config.eval_split
        quality = macro(retrieval_quality(vectors, answers, EVALUATION_K))
        figures = {f"{split}_P@{EVALUATION_K}": quality}
        logits = self.objective.classify(vectors)
        if logits is not None:
            labeled = answers != ""
            guesses = np.array(self.classes)[np.argmax(logits, axis=1)]
            right = (guesses == answers)[labeled]
            figures[f"{split}_accuracy"] = float(right.mean())
        return figures


def _what_matters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that differ from their default and decide what is computed. A setting
    that is absent, such as one that didn't exist yet, is at its default.
    """
    default = flatten(FinetuneConfig())
    known = {
        name: value
        for name, value in settings.items()
        if OLD_NAMES.get(name, name) in default
    }
    full = flatten(overlay(FinetuneConfig(), known, "config.json"))
    weights = full["weights"]
    if weights and Path(weights).exists():
        full["weights"] = str(Path(weights).resolve())
    return {
        name: value
        for name, value in full.items()
        if value != default[name] and name not in _FREE
    }


def identity_of_run(settings: Mapping[str, Any]) -> str:
    """SHA-256 of what matters of a run's settings."""
    text = json.dumps(_what_matters(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_same_run(
    run_dir: Path,
    crops: CropTable,
    config: FinetuneConfig,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Refuses to continue a run with other settings or crops, which would mix two
    experiments in one folder.
    """
    stated, stated_crops = _stated_settings(run_dir), run_dir / "crops.parquet"
    if stated is not None:
        now = flatten(config)
        if identity_of_run(stated) != identity_of_run(now):
            there, here, default = (
                _what_matters(stated),
                _what_matters(now),
                flatten(FinetuneConfig()),
            )
            changed = [
                f"{name}: {there.get(name, default[name])!r} there, "
                f"{here.get(name, default[name])!r} now"
                for name in sorted({*there, *here})
                if there.get(name, default[name]) != here.get(name, default[name])
            ]
            raise ValueError(
                f"run_dir {str(run_dir)!r} holds a run with other settings "
                f"({'; '.join(changed)}); choose another run_dir"
            )
    if not config.training.epochs or not stated_crops.is_file():
        return
    began = CropTable.read(stated_crops)
    # A reader may have learned to read another column since.
    if began.content_hash != crops.with_columns(began.rows.column_names).content_hash:
        known = stated or {}
        changed = [
            f"{name} is {now!r} now and was {known.get(name, '')!r}"
            for name, now in (settings or {}).items()
            if name in _OF_CROPS and now != known.get(name, "")
        ]
        if changed:
            raise ValueError(
                f"run_dir {str(run_dir)!r} holds a run on other crops: "
                f"{'; '.join(changed)}. Choose another run_dir"
            )
        raise ValueError(
            f"the images in data have changed since the run in {str(run_dir)!r} began. "
            "To embed them with its encoder, use run_embed.py "
            "--weights=<run_dir>/encoder.weights.h5; to train on them, another run_dir"
        )


def run_finetune(request: FinetuneRequest) -> None:
    """What run_finetune.py does.

    Raises:
        ValueError, OSError, RuntimeError: with a message for the user.
    """
    config, run_dir = request.config, Path(request.run_dir)
    check_writable(run_dir, "run_dir")
    # Strategies must be made before anything else of TensorFlow; `finetune` does so.
    crops, report = read_reported(request.data, request.source, request.where)
    settings = {
        name: value for name, value in flatten(request).items() if name != "run_dir"
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
