"""The embedding job: crops in, a folder of embeddings out. Loads TensorFlow."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
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
    Recipe,
    recipe_settings,
)
from curation.crops import print_next, read_reported
from curation.encoders import reference, start_encoder
from curation.planning import in_words
from curation.pool import make_ready
from data.crop_table import DUPLICATE_OF, CropTable
from data.duplicates import looks_of
from data.embeddings import TAKES_TEXT, EmbeddingSet, EmbeddingWriter, reusable
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
            is; anything else that lies there is moved aside, to `<folder>.old-N`.
        config: the rest; see `EmbedConfig`.
    """
    config = config or EmbedConfig()
    if encoder is not None:
        config = dataclasses.replace(config, encoder=encoder)
    if isinstance(recipe, str):
        recipe = dataclasses.replace(config.recipe, **recipe_settings(recipe))
    if recipe is not None:
        config = dataclasses.replace(config, recipe=recipe)
    return _embed(crops, Path(folder), config, set_up(config.device, config.seed))


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
) -> EmbeddingSet:
    with strategy.scope():
        encoder = start_encoder(config.encoder)
    embedder = make_embedder(encoder, config.recipe)
    batches = on_devices(embedder, strategy)
    if not folder.exists():
        print(costs_in_words(config, batches, len(crops)))
    own = folder / encoder.weights_file if config.encoder.weights == RANDOM else None
    facts = reference(encoder, folder, own)
    unreadable = Unreadable()
    return embed_into(
        folder,
        crops,
        embedder,
        batches,
        config=config,
        unreadable=unreadable,
        facts=facts,
        keep=own is not None,
    )


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
        folder: of the set.
        crops: what to embed.
        embedder: the network, and what is read from it.
        embed_batch: how it embeds a batch; see `on_devices`.
        config: crop size, window and batch.
        unreadable: what couldn't be read so far; more is added.
        facts: how the encoder is found again; see `curation.encoders.reference`.
        keep: whether the encoder's weights are stored in the set's folder, since they
            lie nowhere else.
    """
    recipe = config.recipe
    identity = {
        "encoder_hash": embedder.content_hash(),
        "endpoint": embedder.endpoints,
        "pooling": embedder.pooling,
        "orientations": embedder.orientations,
        "image_size": recipe.image_size,
        "view": dataclasses.asdict(recipe.window),
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
    if reusable(folder, crops, identity):
        _log.info("%s holds these embeddings already", folder)
        return EmbeddingSet.load(folder)
    writer = EmbeddingWriter(folder, crops, embedder.width, identity)
    with progress_bar(
        total=len(crops), initial=writer.next_row, unit="crop", desc="embedding"
    ) as bar:
        batches = embed_crops(
            crops,
            embed_batch,
            recipe.image_size,
            config.embed_batch,
            unreadable=unreadable,
            start=writer.next_row,
            view=recipe.window,
            with_masks=embedder.pooling == "mask",
        )
        looks = config.find_duplicates and DUPLICATE_OF not in crops.rows.column_names
        for vectors, valid, pixels in batches:
            writer.append(vectors, valid, looks_of(pixels) if looks else None)
            bar.update(len(valid))
    for image in np.unique(crops.column("image")[~writer.valid]):
        if image not in unreadable.reasons:  # found by a process that was killed since
            try:
                read_image(crops.root / image)
            except ImageError as error:
                unreadable.add(image, error.reason)
    if keep:
        embedder.encoder.save(writer.partial)
    meta: dict[str, Any] = {
        **facts,
        "recipe": recipe.name,
        "provenance": provenance(config.seed),
    }
    if embedder.takes_text:
        meta[TAKES_TEXT] = True
    found = writer.finish(meta, unreadable.reasons, progress_bar)
    make_ready(found)
    return found


def run_embed(request: EmbedRequest) -> None:
    """What run_embed.py does.

    Raises:
        ValueError, OSError, RuntimeError: with a message for the user.
    """
    folder, config = Path(request.embeddings), request.config
    check_writable(folder.absolute().parent, "embeddings")
    strategy = set_up(config.device, config.seed)
    if worker_of(strategy)[0]:
        print("only the first worker embeds")
        return
    lock = f".{folder.absolute().name}.lock"
    with exclusive(folder.absolute().parent, "embeddings", lock, folder):
        crops, report = read_reported(request.data, request.source, request.where)
        embeddings = _embed(crops, folder, config, strategy)
    left_out = embeddings.meta["skipped"] + len(report.skipped)
    print_next(embeddings, left_out)
