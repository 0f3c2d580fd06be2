"""Fine-tunes an image encoder on your crops, then embeds every crop.

Images become a run folder:

    python run_finetune.py --data=photos --objective=contrastive --run_dir=runs/a

`--data` is a folder of images (with one sub-folder a class or without), the CropAndWeed
dataset, a COCO .json, a YOLO folder, a .csv of boxes, or tfds:NAME for any image set of
tensorflow-datasets. Boxes become crops; `--where` picks among them by SQL.

Objectives: `contrastive` (SimCLR) needs no labels; `supervised` trains all weights on
the class names; `linear` trains only a classifier on frozen features, which measures
the embeddings but can't change them; `--epochs=0` trains nothing and embeds with the
pretrained weights. The same command goes on where it was killed. Next: run_search.py.

Encoders: efficientnet_lite0 and resnet50 come with ImageNet weights. r50_1x_sk0 and its
kin (depth, width, selective kernels) are SimCLR's ResNets: they take the published
checkpoints,

    --encoder=r50_1x_sk0 --weights=gs://simclr-checkpoints-tf2/simclrv2/pretrained/r50_1x_sk0/saved_model

`--encoder=saved_model` runs a SavedModel as it is. `--preset` takes the settings of a
paper's experiment; flags given beside it count more. `--strategy` trains on many
devices; the batch is always that of all of them together.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import absl.logging
from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from data.boxes import CONVENTIONS
from data.crop_cache import CropCache
from data.crop_table import CropTable
from data.cropandweed import RAW, variants
from data.embeddings import EmbeddingSet, EmbeddingWriter, read_skipped, reusable
from data.files import check_writable, exclusive, write_json
from data.images import FILLS, CropView, ImageError, read_image
from data.pipeline import (
    SOURCE_SCALE,
    Unreadable,
    embed_crops,
    embed_readable,
    training_batches,
)
from data.progress import progress_bar
from data.provenance import provenance
from data.remote_model import is_remote, local_saved_model
from data.report import Report
from data.sources import FORMATS, SourceOptions, read_source
from data.splits import labelled_fraction, split_mask
from data.where import rows_where
from probe.metrics import macro, retrieval_quality
from simclr_tf2.augment import BRIGHTNESS, AugmentConfig
from simclr_tf2.batch_norm import synchronize
from simclr_tf2.distribute import (
    STRATEGIES,
    embed_on_all_devices,
    make_strategy,
    worker_of,
)
from simclr_tf2.encoders import RANDOM, Encoder, EncoderConfig, make_encoder
from simclr_tf2.export import export_saved_model
from simclr_tf2.finetune import FinetuneConfig, FinetuneResult, Trainer
from simclr_tf2.heads import HEAD_KINDS, HeadConfig
from simclr_tf2.objectives import (
    NOTHING_FROZEN,
    OBJECTIVES,
    Objective,
    ObjectiveConfig,
    make_objective,
)
from simclr_tf2.optimizers import OPTIMIZERS
from simclr_tf2.presets import PRESETS
from simclr_tf2.schedule import SCALINGS

_log = logging.getLogger(__name__)
FLAGS = flags.FLAGS
flags.DEFINE_string(
    "data",
    None,
    "Folder, .json, .csv, .parquet or tfds:NAME; see above.",
    required=True,
)
flags.DEFINE_string(
    "run_dir",
    None,
    "Folder for everything this run makes. A killed run goes on from here.",
    required=True,
)
flags.DEFINE_enum(
    "format", "auto", FORMATS, "What data is; auto tells by name and layout."
)
flags.DEFINE_enum(
    "variant",
    RAW,
    list(variants()),
    "CropAndWeed: which classes; CropAndWeed has all 100 label ids.",
)
flags.DEFINE_bool(
    "pool",
    True,
    "CropAndWeed: keep boxes of no class (id 255, or left out by the variant), "
    "unlabelled.",
)
flags.DEFINE_enum(
    "boxes",
    "",
    ["", *CONVENTIONS],
    "Box convention of coco, yolo or csv, where it isn't the format's own.",
)
flags.DEFINE_string(
    "box_size",
    "",
    "coco, csv: WIDTHxHEIGHT of the images that boxes were drawn on, if the files were "
    "resized.",
)
flags.DEFINE_string(
    "images", "", "coco, csv: folder of the images, if they aren't beside the file."
)
flags.DEFINE_string(
    "where",
    "",
    "Only crops that meet this SQL condition, such as \"lighting = 'sunny' AND "
    'box_width > 100".',
)
flags.DEFINE_float(
    "padding",
    0.0,
    "Margin around a box, as a share of its longer side.",
    lower_bound=0,
    upper_bound=4,
)
flags.DEFINE_bool(
    "square",
    True,
    "Grow a box to a square, so that its aspect is kept; otherwise it is stretched.",
)
flags.DEFINE_enum(
    "fill",
    "reflect",
    FILLS,
    "What a crop shows beyond the image's border: mirrored pixels, or grey.",
)
flags.DEFINE_enum("preset", "", ["", *PRESETS], "Settings of a paper's experiment.")
flags.DEFINE_string(
    "encoder",
    "efficientnet_lite0",
    "Network to start from; see above. efficientnet_lite0 works offline.",
)
flags.DEFINE_string(
    "weights",
    "imagenet",
    "'imagenet', 'random', a file such as runs/a/encoder.weights.h5, or a SavedModel: "
    "folder, gs:// or https://.",
)
flags.DEFINE_string(
    "endpoint",
    "",
    "Output that embeds, such as block_group3, averaged over space; default: the "
    "second-to-last layer.",
)
flags.DEFINE_enum(
    "objective", "contrastive", list(OBJECTIVES), "What to train; see above."
)
flags.DEFINE_integer(
    "epochs", 12, "Passes over the training crops; 0 only embeds.", lower_bound=0
)
flags.DEFINE_integer(
    "image_size", 96, "Side of the training crops in pixels.", lower_bound=32
)
flags.DEFINE_integer(
    "embed_size",
    0,
    "Side of the crops when embedding; default: image_size.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "batch_size",
    128,
    "Crops a training step. Contrastive learning likes it large.",
    lower_bound=2,
)
flags.DEFINE_bool(
    "session_batches",
    True,
    "Contrastive: fill a batch from few recording sessions, so that soil and light "
    "tell no crops apart.",
)
flags.DEFINE_enum(
    "optimizer",
    "adamw",
    OPTIMIZERS,
    "adamw; lars for batches of thousands; momentum and adam as the papers have them.",
)
flags.DEFINE_float(
    "learning_rate", 1e-3, "Peak learning rate, before scaling.", lower_bound=0
)
flags.DEFINE_enum(
    "learning_rate_scaling",
    "none",
    SCALINGS,
    "Of the rate with the batch: none, times batch / 256, times sqrt(batch).",
)
flags.DEFINE_float(
    "weight_decay", 1e-4, "Decoupled for adamw, L2 for the others.", lower_bound=0
)
flags.DEFINE_float(
    "warmup_epochs", 0.5, "Epochs of linear warm-up before the cosine.", lower_bound=0
)
flags.DEFINE_float("temperature", 0.1, "Of NT-Xent.", lower_bound=1e-3)
flags.DEFINE_enum(
    "head",
    "nonlinear",
    HEAD_KINDS,
    "Projection head. An imported SimCLR checkpoint brings its own.",
)
flags.DEFINE_integer(
    "head_layers",
    2,
    "Layers of a nonlinear head: 2 in the first paper, 3 in the second.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "head_hidden",
    512,
    "Width of the head's hidden layers; 0 is that of the embedding, as in the papers.",
    lower_bound=0,
)
flags.DEFINE_bool(
    "online",
    True,
    "Contrastive: where there are labels, train a classifier beside, behind a "
    "stop-gradient.",
)
flags.DEFINE_float(
    "label_smoothing", 0.1, "Supervised and linear.", lower_bound=0, upper_bound=0.5
)
flags.DEFINE_float(
    "label_fraction",
    1.0,
    "Supervised and linear: share of the labels to train on, drawn class by class by "
    "the seed.",
)
flags.DEFINE_integer(
    "head_layer",
    0,
    "Supervised and linear: the classifier reads this layer of the checkpoint's "
    "projection head.",
)
flags.DEFINE_integer(
    "train_after",
    NOTHING_FROZEN,
    "r50_1x_sk0 and kin: freeze all up to this block group, batch norm included; -1 "
    "nothing.",
)
flags.DEFINE_float(
    "min_area",
    0.3,
    "A random crop shows at least this share of the image.",
    lower_bound=0.01,
    upper_bound=1,
)
flags.DEFINE_float(
    "jitter",
    0.2,
    "Strength of colour jitter; SimCLR has 1 on ImageNet, but colour tells plants "
    "apart.",
    lower_bound=0,
    upper_bound=1.25,
)
flags.DEFINE_float(
    "grey", 0.0, "Probability of dropping the colour.", lower_bound=0, upper_bound=1
)
flags.DEFINE_float(
    "blur",
    0.0,
    "Probability of a Gaussian blur; SimCLR has 0.5 on ImageNet.",
    lower_bound=0,
    upper_bound=1,
)
flags.DEFINE_enum(
    "brightness",
    "multiply",
    BRIGHTNESS,
    "Jitter of brightness: by a factor (second paper) or a shift (first).",
)
flags.DEFINE_bool(
    "from_above",
    True,
    "Plants seen from above: augment with up-down flips and quarter turns as well.",
)
flags.DEFINE_string(
    "train_split",
    "",
    "Split to train on; default: all for contrastive, train otherwise.",
)
flags.DEFINE_string(
    "eval_split",
    "validation",
    "Split whose retrieval quality is measured after each epoch.",
)
flags.DEFINE_enum(
    "strategy",
    "default",
    STRATEGIES,
    "One device; all GPUs of this machine; machines of TF_CONFIG; a TPU.",
)
flags.DEFINE_bool(
    "sync_batch_norm",
    True,
    "Many devices: normalise by the whole batch, not by each device's share.",
)
flags.DEFINE_string(
    "tpu", "", "Name or address of the TPU; default: the one of this machine."
)
flags.DEFINE_integer(
    "micro_batch",
    0,
    "Images a pass through the encoder, for batches larger than memory; see README.",
    lower_bound=0,
)
flags.DEFINE_bool("xla", False, "Compile the training step.")
flags.DEFINE_enum(
    "mixed_precision",
    "float32",
    ["float32", "mixed_bfloat16", "mixed_float16"],
    "Arithmetic; bfloat16 also pays on CPUs with AMX.",
)
flags.DEFINE_integer("embed_batch", 64, "Crops a step when embedding.", lower_bound=1)
flags.DEFINE_float(
    "checkpoint_minutes",
    5.0,
    "Minutes between checkpoints within an epoch.",
    lower_bound=0,
)
flags.DEFINE_integer("seed", 0, "Of everything random.", lower_bound=0)

EVALUATION_K = 20
# Flags that may differ when a run is resumed: they don't change what it computes.
_FREE = ("checkpoint_minutes", "run_dir", "tpu")


def view() -> CropView:
    return CropView(FLAGS.padding, FLAGS.square, FLAGS.fill)


def read_crops() -> tuple[CropTable, Report]:
    """Reads the source that the flags name, filtered by --where."""
    options = SourceOptions(
        FLAGS.format,
        FLAGS.variant,
        FLAGS.pool,
        FLAGS.boxes,
        FLAGS.box_size,
        FLAGS.images,
    )
    table, report = read_source(FLAGS.data, options, progress_bar)
    if FLAGS.where:
        chosen = rows_where(table, FLAGS.where)
        report.count("crops that --where leaves out", int((~chosen).sum()))
        table = table.take(chosen)
    return table, report


def prepare(
    encoder: Encoder, table: CropTable, unreadable: Unreadable, run_dir: Path
) -> tuple[Trainer, Evaluation | None]:
    """Builds the training that the flags ask for, and the crops to measure retrieval
    on; all errors come from here.
    """
    contrastive = FLAGS.objective == "contrastive"
    train = table.take(
        split_mask(
            table,
            FLAGS.train_split or ("all" if contrastive else "train"),
            "train_split",
        )
    )
    if not contrastive:
        train = train.take(labelled_fraction(train, FLAGS.label_fraction, FLAGS.seed))
        if len(train.classes) < 2:
            message = (
                f"objective {FLAGS.objective} needs crops of at least 2 classes; the "
                f"training crops have {len(train.classes)}"
            )
            raise ValueError(message)
    elif FLAGS.label_fraction < 1:
        raise ValueError(
            f"label_fraction is for supervised and linear; got {FLAGS.label_fraction} "
            "with objective contrastive"
        )
    objective = make_objective(
        FLAGS.objective, encoder, objective_config(len(train.classes))
    )
    for model in (encoder.model, objective.projection_head):
        synchronize(model, FLAGS.sync_batch_norm)
    if len(train) < FLAGS.batch_size:
        raise ValueError(
            f"batch_size must be at most the number of training crops, {len(train)}; "
            f"got {FLAGS.batch_size}"
        )
    evaluated = evaluation_crops(table)
    too_few = (
        f"nothing: split {FLAGS.eval_split} has no two classes and {EVALUATION_K + 1} "
        "crops"
    )
    measured = (
        f"{len(evaluated)} crops of split {FLAGS.eval_split}" if evaluated else too_few
    )
    _log.info("training on %d crops; retrieval is measured on %s", len(train), measured)

    by_session = contrastive and FLAGS.session_batches

    worker, replicas = (
        worker_of(tf.distribute.get_strategy()),
        tf.distribute.get_strategy().num_replicas_in_sync,
    )

    @functools.cache
    def cache() -> (
        CropCache
        # cut when the first batch is asked for, so never for a run that has trained already
    ):
        crops = CropCache(
            run_dir / crop_cache(worker[0]),
            train,
            SOURCE_SCALE * FLAGS.image_size,
            view(),
            progress_bar,
        )
        for image, reason in crops.reasons.items():
            unreadable.add(image, reason)
        return crops

    def batches(epoch: int, start: int) -> tf.data.Dataset:
        shared = (
            cache(),
            objective.augment,
            FLAGS.batch_size,
            FLAGS.seed,
            epoch,
            start,
            by_session,
        )
        return training_batches(*shared, replicas, worker)

    config = FinetuneConfig(
        epochs=FLAGS.epochs,
        batch_size=FLAGS.batch_size,
        optimizer=FLAGS.optimizer,
        learning_rate=FLAGS.learning_rate,
        learning_rate_scaling=FLAGS.learning_rate_scaling,
        weight_decay=FLAGS.weight_decay,
        warmup_epochs=FLAGS.warmup_epochs,
        checkpoint_minutes=FLAGS.checkpoint_minutes,
        micro_batch=FLAGS.micro_batch,
        xla=FLAGS.xla,
    )
    evaluation = Evaluation(evaluated, objective, train.classes) if evaluated else None
    return Trainer(
        objective, config, batches, len(train) // FLAGS.batch_size, run_dir
    ), evaluation


def objective_config(classes: int) -> ObjectiveConfig:
    return ObjectiveConfig(
        AugmentConfig(
            FLAGS.image_size,
            FLAGS.min_area,
            FLAGS.jitter,
            FLAGS.grey,
            FLAGS.blur,
            FLAGS.brightness,
            FLAGS.from_above,
        ),
        classes,
        FLAGS.temperature,
        HeadConfig(FLAGS.head, FLAGS.head_layers, FLAGS.head_hidden),
        FLAGS.online,
        FLAGS.label_smoothing,
        FLAGS.head_layer,
        FLAGS.train_after,
    )


def crop_cache(worker: int) -> str:
    return f"crops.cache-{worker}" if worker else "crops.cache"


def embed_size() -> int:
    return FLAGS.embed_size or FLAGS.image_size


def evaluation_crops(table: CropTable) -> CropTable | None:
    """The crops of --eval_split; None where their labels allow no measurement, unless
    the split was asked for.
    """
    try:
        crops = table.take(split_mask(table, FLAGS.eval_split, "eval_split"))
    except ValueError:
        if FLAGS["eval_split"].present:
            raise
        return None
    return crops if len(crops.classes) >= 2 and len(crops) > EVALUATION_K else None


Embed = Callable[[tf.Tensor], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is measured on --eval_split after every epoch."""

    table: CropTable
    objective: Objective
    classes: list[str]  # that the objective's classifier tells apart

    def measure(self, embed_batch: Embed, unreadable: Unreadable) -> dict[str, float]:
        """Macro P@20, each labelled crop as query, and the classifier's top-1 accuracy;
        nothing where too few can be read.
        """
        vectors, valid = embed_readable(
            self.table,
            embed_batch,
            embed_size(),
            FLAGS.embed_batch,
            unreadable,
            view=view(),
        )
        if len(vectors) <= EVALUATION_K:
            return {}
        answers = self.table.column("label_name")[valid]
        figures = {
            f"{FLAGS.eval_split}_P@{EVALUATION_K}": macro(
                retrieval_quality(vectors, answers, EVALUATION_K)
            )
        }
        logits = (
            self.objective.classify(vectors)
            if self.objective.encoder.embeds_features
            else None
        )
        if logits is not None:
            labelled = answers != ""
            guesses = np.array(self.classes)[np.argmax(logits, axis=1)]
            figures[f"{FLAGS.eval_split}_accuracy"] = float(
                (guesses == answers)[labelled].mean()
            )
        return figures


def embed(
    encoder: Encoder,
    embed_batch: Embed,
    table: CropTable,
    unreadable: Unreadable,
    folder: Path,
    identity: dict[str, object],
) -> EmbeddingSet:
    """Embeds every crop, going on where a killed run stopped."""
    writer = EmbeddingWriter(folder, table, encoder.embedding_width, identity)
    with progress_bar(
        total=len(table), initial=writer.next_row, unit="crop", desc="embedding"
    ) as bar:
        batches = embed_crops(
            table,
            embed_batch,
            embed_size(),
            FLAGS.embed_batch,
            unreadable,
            writer.next_row,
            view(),
        )
        for vectors, valid in batches:
            writer.append(vectors, valid)
            bar.update(len(valid))
    for image in np.unique(table.column("image")[~writer.valid]):
        if (
            image not in unreadable.reasons
        ):  # found out by a process that was killed since
            try:
                read_image(table.root / image)
            except ImageError as error:
                unreadable.add(image, error.reason)
    weights = (
        f"../{encoder.weights_file}"
        if has_own_weights()
        else _absolute(encoder.config.weights)
    )
    facts = {
        "encoder": encoder.config.name,
        "weights": weights,
        "provenance": provenance(FLAGS.seed),
    }
    return writer.finish(facts, unreadable.reasons)


def has_own_weights() -> bool:
    """Whether the run's encoder exists nowhere else."""
    return FLAGS.epochs > 0 or FLAGS.weights == RANDOM


def _absolute(name: str) -> str:
    return str(Path(name).resolve()) if name and Path(name).exists() else name


def settings() -> dict[str, object]:
    """This script's flags and their values; paths are absolute, so that a run can go on
    from another folder.
    """
    values = {
        flag.name: flag.value
        for flag in FLAGS.get_key_flags_for_module(sys.modules[__name__])
    }
    paths = {
        name: _absolute(path)
        for name, path in (
            ("data", FLAGS.data),
            ("images", FLAGS.images),
            ("weights", FLAGS.weights),
        )
    }
    return {**values, **paths}


def check_same_run(run_dir: Path, table: CropTable) -> None:
    """Refuses to continue a run with other settings or crops, which would mix two
    experiments in one folder.
    """
    stated_settings, stated_crops = run_dir / "config.json", run_dir / "crops.parquet"
    if stated_settings.is_file():
        stated, now = json.loads(stated_settings.read_text()), settings()
        changed = [
            f"{name}: {stated.get(name)!r} there, {value!r} now"
            for name, value in now.items()
            if stated.get(name) != value and name not in _FREE
        ]
        if changed:
            message = (
                f"run_dir {str(run_dir)!r} holds a run with other settings "
                f"({'; '.join(changed)}); choose another run_dir"
            )
            raise ValueError(message)
    if (
        FLAGS.epochs
        and stated_crops.is_file()
        and CropTable.read(stated_crops).content_hash != table.content_hash
    ):
        raise ValueError(
            f"the images in data have changed since the run in {str(run_dir)!r} began. "
            "To embed them with its encoder, use another "
            "run_dir with --epochs=0 --weights=<run_dir>/encoder.weights.h5; to train "
            "on them, another run_dir"
        )


def apply_preset() -> None:
    """Takes the preset's values for flags that weren't given."""
    for name, value in PRESETS.get(FLAGS.preset, {}).items():
        if not FLAGS[name].present:
            FLAGS[name].value = value


def run() -> None:
    """The whole job; raises ValueError, OSError or RuntimeError with a message for the
    user.
    """
    apply_preset()
    strategy = make_strategy(
        FLAGS.strategy, FLAGS.tpu
    )  # before anything else of TensorFlow
    worker, workers = worker_of(strategy)
    run_dir = Path(FLAGS.run_dir)
    check_writable(run_dir, "run_dir")
    if worker:
        assist(strategy, run_dir, worker)
        return
    with exclusive(run_dir, "run_dir"):
        keras.utils.set_random_seed(FLAGS.seed)
        keras.mixed_precision.set_global_policy(FLAGS.mixed_precision)
        table, report = read_crops()
        check_same_run(run_dir, table)
        unreadable = Unreadable()
        for item in report.skipped:
            unreadable.add(item.image, item.reason)
            _log.warning("skipped %s: %s", item.image, item.reason)
        for line in report.lines():
            _log.info("%s", line)
        _log.info(
            "%d crops, %d classes, %d images skipped",
            len(table),
            len(table.classes),
            len(report.skipped),
        )
        with strategy.scope():
            encoder = start_encoder()
            weight_bytes = 4 * encoder.model.count_params()
            # Three checkpoints at a time (the last two and the next), each with two
            # moments a weight, and the encoder twice.
            check_writable(
                run_dir, "run_dir", 11 * weight_bytes if FLAGS.epochs else weight_bytes
            )
            trained = FinetuneResult(0)
            if FLAGS.epochs:
                trainer, evaluation = prepare(encoder, table, unreadable, run_dir)
        # With several workers, only this one embeds, by itself.
        spread = workers == 1 and strategy.num_replicas_in_sync > 1
        embed_batch = (
            embed_on_all_devices(strategy, encoder.forward) if spread else encoder.embed
        )
        # Only now: a call that ends in an error must leave nothing behind that the
        # corrected call would trip over.
        write_json(run_dir / "config.json", settings())
        table.write(run_dir / "crops.parquet")
        if FLAGS.epochs:
            trained = trainer.run(
                lambda: (
                    evaluation.measure(embed_batch, unreadable) if evaluation else {}
                ),
                progress_bar,
            )
            shutil.rmtree(
                run_dir / crop_cache(0), ignore_errors=True
            )  # it has served its purpose
        if has_own_weights() and not (run_dir / "result.json").is_file():
            encoder.save(run_dir)
            save_model(run_dir, encoder, trainer.objective if FLAGS.epochs else None)
        folder = run_dir / "embeddings"
        identity = {
            "encoder_hash": encoder.content_hash(),
            "endpoint": encoder.endpoint,
            "image_size": embed_size(),
        }
        identity["view"] = dataclasses.asdict(view())
        embedded = reusable(folder, table, identity)
        embeddings = (
            EmbeddingSet.load(folder)
            if embedded
            else embed(encoder, embed_batch, table, unreadable, folder, identity)
        )
        if embedded and (run_dir / "result.json").is_file():
            _log.info("the run in %s is complete already", run_dir)
        else:
            write_result(run_dir, embeddings, trained, unreadable)
    left_out = embeddings.meta["skipped"] + len(report.skipped)
    print(
        f"\n{len(embeddings.table)} crops embedded, {left_out} unreadable ones left "
        f"out -> {folder}"
    )
    print(
        f"Next: python run_search.py --embeddings={folder} --query=<crop_id or image "
        "path> --sheet=out.png"
    )


def start_encoder() -> Encoder:
    """The encoder that the flags name; its checkpoint is downloaded where it is remote."""
    weights = (
        str(local_saved_model(FLAGS.weights))
        if is_remote(FLAGS.weights)
        else FLAGS.weights
    )
    return make_encoder(EncoderConfig(FLAGS.encoder, weights, FLAGS.endpoint))


def assist(strategy: tf.distribute.Strategy, run_dir: Path, worker: int) -> None:
    """The part of a worker that isn't the first: it trains along and writes nothing but
    its own crops.
    """
    if not FLAGS.epochs:
        return
    keras.utils.set_random_seed(FLAGS.seed)
    keras.mixed_precision.set_global_policy(FLAGS.mixed_precision)
    table, _ = read_crops()
    with strategy.scope():
        trainer, _ = prepare(start_encoder(), table, Unreadable(), run_dir)
    trainer.run(progress=progress_bar)
    shutil.rmtree(run_dir / crop_cache(worker), ignore_errors=True)
    print(
        f"worker {worker} has done its part; worker 0 embeds and writes the results to "
        f"{run_dir}"
    )


def save_model(run_dir: Path, encoder: Encoder, objective: Objective | None) -> None:
    """Writes saved_model/, which any tool for SimCLR checkpoints loads."""
    _log.info("writing %s", run_dir / "saved_model")
    head, classifier = encoder.projection_head, None
    if objective is not None:
        head, classifier = head or objective.projection_head, objective.classifier
    layer = FLAGS.head_layer if FLAGS.objective != "contrastive" else 0
    export_saved_model(run_dir / "saved_model", encoder, head, classifier, layer)


def write_result(
    run_dir: Path,
    embeddings: EmbeddingSet,
    trained: FinetuneResult,
    unreadable: Unreadable,
) -> None:
    """Writes result.json and skipped.json."""
    reasons = {**read_skipped(embeddings.folder), **unreadable.reasons}
    write_json(run_dir / "skipped.json", reasons)
    names = {
        "encoder_hash": "encoder_hash",
        "embeddings_sha256": "sha256",
        "table_hash": "table_hash",
    }
    facts = {"crops": len(embeddings.table), "skipped_images": len(reasons)}
    facts |= {name: embeddings.meta[key] for name, key in names.items()}
    write_json(
        run_dir / "result.json",
        {**facts, **dataclasses.asdict(trained), "provenance": provenance(FLAGS.seed)},
    )


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    absl.logging.set_verbosity(
        absl.logging.WARNING
    )  # TensorFlow reports through it on every checkpoint
    try:
        run()
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"run_finetune.py: {error}") from None
    # such as a disk that fills up under a checkpoint, which TensorFlow doesn't say
    except tf.errors.OpError as error:
        free = shutil.disk_usage(FLAGS.run_dir).free
        full = (
            f" (the disk of run_dir is full: {free:,} bytes are free)"
            if free < 1_000_000
            else ""
        )
        lines = [
            line
            for line in error.message.strip().splitlines()
            if line.strip() and "[[{{node" not in line and "[Op:" not in line
        ]
        raise SystemExit(
            f"run_finetune.py: {(lines or [error.message])[0]}{full}"
        ) from None


if __name__ == "__main__":
    for name in (__name__, "simclr_tf2"):
        logging.getLogger(name).setLevel(logging.INFO)
    absl.logging.get_absl_handler().setFormatter(
        None
    )  # the message alone, without time and thread
    app.run(main)
