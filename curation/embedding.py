"""The embedding job: crops in, a folder of embeddings out. Loads TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from artifacts.files import check_writable, exclusive
from artifacts.progress import progress_bar
from artifacts.provenance import provenance
from curation.config import (
    RECIPES,
    DeviceConfig,
    EmbedConfig,
    EmbedRequest,
    RayConfig,
    Recipe,
    recipe_settings,
)
from curation.crops import print_next, read_reported
from curation.encoders import reference, start_encoder
from curation.planning import in_words
from curation.pool import make_ready
from data.crop_table import DUPLICATE_OF, CropTable
from data.duplicates import looks_of
from data.embedding_writer import EmbeddingWriter, grown, reusable, shares
from data.embeddings import TAKES_TEXT, EmbeddingSet
from data.images import ImageError, read_image
from data.label_maps import LabelMaps
from data.pipeline import Unreadable, embed_crops
from simclr_tf2.config import AUTO, RANDOM, EncoderConfig
from simclr_tf2.distribute import (
    embed_on_all_devices,
    fast_precision,
    make_strategy,
    worker_of,
)
from simclr_tf2.encoders.base import Encoder
from simclr_tf2.encoders.embedder import Embedder

_log = logging.getLogger(__name__)

EmbedBatch = Callable[[tf.Tensor], np.ndarray]


def set_up(
    device: DeviceConfig, seed: int, *, trains: bool = False
) -> tf.distribute.Strategy:
    """Sets strategy, precision and seed; before anything is built."""
    strategy = make_strategy(device.strategy, device.tpu)
    keras.utils.set_random_seed(seed)
    precision = device.mixed_precision
    if precision == AUTO:
        precision = fast_precision(strategy) if trains else "float32"
    keras.mixed_precision.set_global_policy(precision)
    return strategy


def make_embedder(encoder: Encoder, recipe: Recipe) -> Embedder:
    """An encoder with the network's part of a recipe."""
    return Embedder(encoder, recipe.endpoints, recipe.pooling, recipe.orientations)


def on_devices(embedder: Embedder, strategy: tf.distribute.Strategy) -> EmbedBatch:
    """uint8 crops -> embeddings, on all devices of this machine; with several workers
    the first embeds by itself.
    """
    spread = worker_of(strategy)[1] == 1 and strategy.num_replicas_in_sync > 1
    return (
        embed_on_all_devices(strategy, embedder.forward) if spread else embedder.embed
    )


def embed(
    crops: CropTable,
    *,
    encoder: EncoderConfig | None = None,
    recipe: str | Recipe | None = None,
    folder: str | Path,
    config: EmbedConfig | None = None,
) -> EmbeddingSet:
    """Embeds every crop; goes on where a killed call stopped.

    Example:
        >>> embed(crops, encoder=EncoderConfig("resnet50"), folder="runs/a/embeddings")

    Args:
        crops: what to embed.
        encoder: the network; it counts more than the one of `config`.
        recipe: "fast" (default), "best", "plain" or a `Recipe`; likewise.
        folder: of the embedding set. One of these crops by this encoder is taken as it
            is, to one of some of them the others are added; anything else that lies
            there is moved aside, to `<folder>.old-N`.
        config: the rest; see `EmbedConfig`.
    """
    config = config or EmbedConfig()
    if encoder is not None:
        config = dataclasses.replace(config, encoder=encoder)
    if isinstance(recipe, str):
        recipe = dataclasses.replace(config.recipe, **recipe_settings(recipe))
    if recipe is not None:
        config = dataclasses.replace(config, recipe=recipe)
    found = _embed(crops, Path(folder), config, set_up(config.device, config.seed))
    assert found is not None  # one process embeds everything
    return found


def costs_in_words(config: EmbedConfig, embed_batch: EmbedBatch, count: int) -> str:
    """What the network's part of embedding takes, by this recipe and by the named ones,
    measured on one batch of gray crops.

    Args:
        config: with the recipe of `embed_batch`.
        embed_batch: how a batch is embedded; see `on_devices`.
        count: of the crops.
    """
    recipe, size = config.recipe, config.recipe.image_size
    each_pixel = seconds_per_pixel(config, embed_batch, count)
    shown = {recipe.name: recipe}
    shown |= {name: RECIPES[name] for name in ("fast", "best") if name != recipe.name}
    parts = [
        f"{name} about {in_words(each_pixel * each.cost * count)} "
        f"({each.orientations} x {each.image_size} px)"
        for name, each in shown.items()
    ]
    return (
        f"recipe {recipe.name} at {size} px ({recipe.endpoints}, {recipe.pooling}). "
        f"The network's part here: {'; '.join(parts)}"
    )


def seconds_per_pixel(
    config: EmbedConfig, embed_batch: EmbedBatch, count: int
) -> float:
    """What the network takes, measured on one batch of gray crops; see
    `costs_in_words`.
    """
    recipe, size = config.recipe, config.recipe.image_size
    channels = 4 if recipe.pooling == "mask" else 3
    gray = tf.fill(
        (min(config.embed_batch, count), size, size, channels), np.uint8(128)
    )
    embed_batch(gray)  # the first call traces
    began = time.monotonic()
    embed_batch(gray)
    return (time.monotonic() - began) / len(gray) / recipe.cost


def _embed(
    crops: CropTable,
    folder: Path,
    config: EmbedConfig,
    strategy: tf.distribute.Strategy,
    *,
    part: tuple[int, int] = (1, 1),
    ray: RayConfig | None = None,
) -> EmbeddingSet | None:
    """The set; None where other parts of it are missing still."""
    with strategy.scope():
        encoder = start_encoder(config.encoder)
    embedder = make_embedder(encoder, config.recipe)
    batches = on_devices(embedder, strategy)
    own = folder / encoder.weights_file if config.encoder.weights == RANDOM else None
    facts = reference(encoder, folder, own)
    job = EmbeddingJob.begin(
        folder, crops, embedder, config, facts=facts, keep=own is not None, part=part
    )
    if isinstance(job, EmbeddingSet):
        return job
    if not folder.exists() and ray is None:
        print(costs_in_words(config, batches, len(job.writer.share)))
    unreadable = Unreadable()
    if ray is not None:
        from curation.embedding_by_ray import embed_by_ray

        embed_by_ray(job, ray)
    else:
        job.embed_here(batches, unreadable)
    with contextlib.ExitStack() as held:
        lock = _lock_of(folder)
        try:
            held.enter_context(exclusive(folder.absolute().parent, "", lock))
        except RuntimeError:
            print(
                f"part {part[0]} of {part[1]} is embedded; another one joins them now"
            )
            return None
        return _joined(job, part, unreadable)


def _joined(
    job: EmbeddingJob, part: tuple[int, int], unreadable: Unreadable
) -> EmbeddingSet | None:
    """The set, if this part was the last; None where others are missing."""
    writer = job.writer
    if not writer.partial.exists():  # another part was the last, and has joined them
        return EmbeddingSet.load(writer.folder)
    writer.look_again()
    if writer.is_whole:
        return job.finish(unreadable.reasons)
    missing = sum(map(len, writer.gaps(range(len(writer.table)))))
    print(
        f"part {part[0]} of {part[1]} is embedded; {missing:,} crops of other parts "
        f"are missing in {writer.partial}. Whichever part is done last joins them; "
        "copied here from another machine, the same command again does"
    )
    return None


def embed_into(
    folder: Path,
    crops: CropTable,
    embedder: Embedder,
    embed_batch: EmbedBatch,
    *,
    config: EmbedConfig,
    unreadable: Unreadable,
    facts: dict[str, str],
    keep: bool = False,
) -> EmbeddingSet:
    """Embeds crops with an encoder that is there already.

    Args:
        folder: of the set. Where it holds some of these crops, and no others, by this
            encoder, only the new ones are embedded, and added to it.
        crops: what to embed.
        embedder: the network, and what is read from it.
        embed_batch: how it embeds a batch; see `on_devices`.
        config: crop size, window and batch.
        unreadable: what couldn't be read so far; more is added.
        facts: how the encoder is found again; see `curation.encoders.reference`.
        keep: whether the encoder's weights are stored in the set's folder, since they
            lie nowhere else.
    """
    job = EmbeddingJob.begin(folder, crops, embedder, config, facts=facts, keep=keep)
    if isinstance(job, EmbeddingSet):
        return job
    job.embed_here(embed_batch, unreadable)
    return job.finish(unreadable.reasons)


@dataclass(frozen=True)
class EmbeddingJob:
    """Crops on their way into an embedding set, by one process or by many.

    Attributes:
        crops: all that the set has in the end.
        embedder, config, facts, keep: see `embed_into`.
        writer: of those that are still to be embedded.
        grows: the set that they are added to; None of a new one.
    """

    crops: CropTable
    embedder: Embedder
    config: EmbedConfig
    facts: dict[str, str]
    keep: bool
    writer: EmbeddingWriter
    grows: EmbeddingSet | None = None

    @classmethod
    def begin(
        cls,
        folder: Path,
        crops: CropTable,
        embedder: Embedder,
        config: EmbedConfig,
        *,
        facts: dict[str, str],
        keep: bool = False,
        part: tuple[int, int] = (1, 1),
    ) -> EmbeddingJob | EmbeddingSet:
        """What is left to do; the set itself where it is there already.

        Args:
            folder, crops, embedder, config, facts, keep: see `embed_into`.
            part: (which, of how many) shares of the crops this process embeds; from 1.
        """
        identity = _identity_of(crops, embedder, config)
        found = grown(folder, crops, identity)
        grows, new = found or (None, crops)
        if grows is None and reusable(folder, crops, identity):
            _log.info("%s holds these embeddings already", folder)
            return EmbeddingSet.load(folder)
        if grows is not None:
            print(f"{len(new):,} crops are new; {len(grows.table):,} are there already")
        share = shares(new, part[1])[part[0] - 1]
        writer = EmbeddingWriter(folder, new, embedder.width, identity, share=share)
        return cls(crops, embedder, config, facts, keep, writer, grows)

    def embed_here(self, embed_batch: EmbedBatch, unreadable: Unreadable) -> None:
        """Embeds the share of this process, in this process."""
        writer, recipe = self.writer, self.config.recipe
        writer.reasons = unreadable.reasons
        with progress_bar(
            total=len(writer.share), initial=writer.done, unit="crop", desc="embedding"
        ) as bar:
            for gap in writer.gaps():
                batches = embed_crops(
                    writer.table,
                    embed_batch,
                    recipe.image_size,
                    self.config.embed_batch,
                    unreadable=unreadable,
                    start=gap.start,
                    stop=gap.stop,
                    view=recipe.window,
                    with_masks=self.embedder.pooling == "mask",
                )
                for vectors, valid, pixels in batches:
                    seen = looks_of(pixels) if self.looks else None
                    writer.append(vectors, valid, seen)
                    bar.update(len(valid))
                writer.flush()

    @property
    def looks(self) -> bool:
        """Whether it is looked for crops that show the same."""
        known = DUPLICATE_OF in self.crops.rows.column_names
        return self.config.find_duplicates and not known

    def finish(self, reasons: Mapping[str, str]) -> EmbeddingSet:
        """Joins what is embedded to a set.

        Args:
            reasons: image -> why it couldn't be read, as far as this process knows.
        """
        writer, known = self.writer, {**self.writer.stored_reasons(), **reasons}
        for image in np.unique(writer.table.column("image")[~writer.valid]):
            if image not in known:  # found by a process that was killed since
                try:
                    read_image(writer.table.root / image)
                except ImageError as error:
                    known[image] = error.reason
        if self.keep and self.grows is None:
            self.embedder.encoder.save(writer.partial)
        meta: dict[str, Any] = {**self.facts, "recipe": self.config.recipe.name}
        meta["provenance"] = provenance(self.config.seed)
        if self.embedder.takes_text:
            meta[TAKES_TEXT] = True
        found = writer.finish(
            meta, known, progress_bar, grows=self.grows, source=self.crops
        )
        make_ready(found)
        return found


def _identity_of(
    crops: CropTable, embedder: Embedder, config: EmbedConfig
) -> dict[str, Any]:
    """What decides the vectors of crops, and how they are stored."""
    recipe = config.recipe
    identity = {
        "encoder_hash": embedder.content_hash(),
        "endpoint": embedder.endpoints,
        "pooling": embedder.pooling,
        "orientations": embedder.orientations,
        "image_size": recipe.image_size,
        "view": dataclasses.asdict(recipe.window),
        "stored_as": config.stored_as,
    }
    if embedder.pooling == "mask":
        maps = LabelMaps(crops)
        identity["masks"] = maps.content_hash(progress_bar)
        if maps.count() < len(crops):
            _log.warning(
                "%d of %d crops have no mask: green pixels take its place",
                len(crops) - maps.count(),
                len(crops),
            )
    return identity


def run_embed(request: EmbedRequest) -> None:
    """What run_embed.py does.

    Raises:
        ValueError, OSError, RuntimeError: with a message for the user.
    """
    folder, config = Path(request.embeddings), request.config
    part = request.share
    check_writable(folder.absolute().parent, "embeddings")
    strategy = set_up(config.device, config.seed)
    if worker_of(strategy)[0]:
        print("only the first worker embeds")
        return
    lock = _lock_of(folder, f"-{part[0]}-of-{part[1]}")
    with exclusive(folder.absolute().parent, "embeddings", lock, folder):
        crops, report = read_reported(request.data, request.source, request.where)
        ray = request.ray if request.engine == "ray" else None
        embeddings = _embed(crops, folder, config, strategy, part=part, ray=ray)
    if embeddings is not None:
        print_next(embeddings, embeddings.meta["skipped"] + len(report.skipped))


def _lock_of(folder: Path, part: str = "") -> str:
    """Name of the file, beside a set, by which a process holds it or a part of it."""
    return f".{folder.absolute().name}{part}.lock"
