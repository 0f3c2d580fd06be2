"""The embedding job: crops in, a folder of embeddings out. Loads TensorFlow."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from artifacts.files import check_writable, exclusive
from artifacts.progress import progress_bar
from artifacts.provenance import provenance
from curation.config import DeviceConfig, EmbedConfig, EmbedRequest
from curation.crops import print_next, read_reported
from curation.encoders import reference, start_encoder
from data.crop_table import DUPLICATE_OF, CropTable
from data.duplicates import looks_of
from data.embeddings import EmbeddingSet, EmbeddingWriter, reusable
from data.images import ImageError, read_image
from data.pipeline import Unreadable, embed_crops
from simclr_tf2.config import RANDOM, EncoderConfig
from simclr_tf2.distribute import embed_on_all_devices, make_strategy, worker_of
from simclr_tf2.encoders.base import Encoder

_log = logging.getLogger(__name__)

EmbedBatch = Callable[[tf.Tensor], np.ndarray]


def set_up(device: DeviceConfig, seed: int) -> tf.distribute.Strategy:
    """Sets strategy, precision and seed; before anything is built."""
    strategy = make_strategy(device.strategy, device.tpu)
    keras.utils.set_random_seed(seed)
    keras.mixed_precision.set_global_policy(device.mixed_precision)
    return strategy


def embedder(encoder: Encoder, strategy: tf.distribute.Strategy) -> EmbedBatch:
    """uint8 crops -> embeddings, on all devices of this machine; with several workers
    the first embeds by itself.
    """
    spread = worker_of(strategy)[1] == 1 and strategy.num_replicas_in_sync > 1
    return embed_on_all_devices(strategy, encoder.forward) if spread else encoder.embed


def embed(
    crops: CropTable,
    *,
    encoder: EncoderConfig | None = None,
    folder: str | Path,
    config: EmbedConfig | None = None,
) -> EmbeddingSet:
    """Embeds every crop; goes on where a killed call stopped.

    Example:
        >>> embed(crops, encoder=EncoderConfig("resnet50"), folder="runs/a/embeddings")

    Args:
        crops: what to embed.
        encoder: the network; it counts more than the one of `config`.
        folder: of the embedding set. One of these crops by this encoder is taken as it
            is; anything else that lies there is moved aside, to `<folder>.old-N`.
        config: the rest; see `EmbedConfig`.
    """
    config = config or EmbedConfig()
    if encoder is not None:
        config = dataclasses.replace(config, encoder=encoder)
    return _embed(crops, Path(folder), config, set_up(config.device, config.seed))


def _embed(
    crops: CropTable,
    folder: Path,
    config: EmbedConfig,
    strategy: tf.distribute.Strategy,
) -> EmbeddingSet:
    with strategy.scope():
        encoder = start_encoder(config.encoder)
    own = folder / encoder.weights_file if config.encoder.weights == RANDOM else None
    facts = reference(encoder, folder, own)
    unreadable = Unreadable()
    batches = embedder(encoder, strategy)
    return embed_into(
        folder,
        crops,
        encoder,
        batches,
        config=config,
        unreadable=unreadable,
        facts=facts,
        keep=own is not None,
    )


def embed_into(
    folder: Path,
    crops: CropTable,
    encoder: Encoder,
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
        encoder: the network.
        embed_batch: how it embeds a batch; see `embedder`.
        config: crop size, window and batch.
        unreadable: what couldn't be read so far; more is added.
        facts: how the encoder is found again; see `curation.encoders.reference`.
        keep: whether the encoder's weights are stored in the set's folder, since they
            lie nowhere else.
    """
    identity = {
        "encoder_hash": encoder.content_hash(),
        "endpoint": encoder.endpoint,
        "image_size": config.image_size,
        "view": dataclasses.asdict(config.window),
    }
    if reusable(folder, crops, identity):
        _log.info("%s holds these embeddings already", folder)
        return EmbeddingSet.load(folder)
    writer = EmbeddingWriter(folder, crops, encoder.embedding_width, identity)
    with progress_bar(
        total=len(crops), initial=writer.next_row, unit="crop", desc="embedding"
    ) as bar:
        batches = embed_crops(
            crops,
            embed_batch,
            config.image_size,
            config.embed_batch,
            unreadable=unreadable,
            start=writer.next_row,
            view=config.window,
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
        encoder.save(writer.partial)
    meta = {**facts, "provenance": provenance(config.seed)}
    return writer.finish(meta, unreadable.reasons, progress_bar)


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
