"""Embedding on many machines by Ray Data: blocks of whole images go out, the parts of
an embedding set come back. Needs requirements-ray.txt.
"""

from __future__ import annotations

import io
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from artifacts.progress import progress_bar
from curation.config import EmbedConfig, RayConfig
from curation.embedding import EmbeddingJob, make_embedder, set_up
from curation.encoders import start_encoder
from data.crop_table import CropTable
from data.duplicates import Looks, looks_of
from data.embedding_writer import EmbeddingWriter, shares
from data.pipeline import Unreadable, embed_crops

_PROJECT = Path(__file__).resolve().parents[1]


def embed_by_ray(job: EmbeddingJob, ray_config: RayConfig) -> None:
    """Embeds what is missing of a job, as parts beside the set.

    Each block of whole images is one task: a worker that dies costs its block, which
    another one does again; parts that have come back stay, so a new driver goes on
    where a killed one was. The images must lie at the same path on every machine, and
    so must this project.

    Raises:
        OSError: Ray isn't installed, or there is no cluster at that address.
    """
    ray = _library()
    writer = job.writer
    blocks = list(_blocks(writer, ray_config.block))
    if not blocks:
        return
    _check_address(ray_config.address)
    options = {"env_vars": {"PYTHONPATH": os.fspath(_PROJECT)}}
    try:
        ray.init(
            address=ray_config.address or None,
            runtime_env=options,
            log_to_driver=False,
            logging_level=logging.ERROR,
            ignore_reinit_error=True,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise OSError(
            f"ray_address must be that of a running Ray cluster; {error}"
        ) from None
    try:
        _run(ray, job, blocks, ray_config)
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Refuses HOST:PORT where nothing answers, which Ray asks again for ever."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise OSError(
            f"ray_address must be that of a running Ray cluster; nothing answers at "
            f"{address}: {error}"
        ) from None


def _run(
    ray: ModuleType, job: EmbeddingJob, blocks: list[range], ray_config: RayConfig
) -> None:
    writer = job.writer
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
    items = [
        {"start": block.start, "crops": _as_bytes(writer.table, block)}
        for block in blocks
    ]
    gpus, count = _resources(ray, ray_config.actors)
    parts = ray.data.from_items(items, override_num_blocks=len(items)).map(
        _Worker,
        fn_constructor_args=(
            os.fspath(writer.table.root),
            job.config,
            writer.identity["encoder_hash"],
            job.looks,
        ),
        concurrency=(1, count),
        num_gpus=gpus,
    )
    with progress_bar(
        total=len(writer.share), initial=writer.done, unit="crop", desc="embedding"
    ) as bar:
        for part in parts.iter_rows():
            with np.load(io.BytesIO(part["content"]), allow_pickle=False) as found:
                looks = None
                if job.looks:
                    looks = Looks(found["thumbnails"], found["hashes"])
                valid = found["valid"]
                reasons = dict(found["reasons"].tolist())
                writer.write(part["start"], found["vectors"], valid, looks, reasons)
            bar.update(len(valid))


class _Worker:
    """An encoder on one of the machines, which embeds blocks.

    Args:
        root: of the images.
        config: which encoder, and what of the crops.
        content_hash: of the embedder, as the driver made it.
        looks: whether how the crops look is wanted.
    """

    def __init__(self, root: str, config: EmbedConfig, content_hash: str, looks: bool):
        self.root, self.config, self.looks = root, config, looks
        set_up(config.device, config.seed)
        self.embedder = make_embedder(start_encoder(config.encoder), config.recipe)
        if self.embedder.content_hash() != content_hash:
            raise ValueError(
                f"weights {config.encoder.weights!r} are others on this machine than "
                "where the work was started"
            )

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        """The vectors of a block of crops, with what could be read and how it looks."""
        with pa.ipc.open_stream(block["crops"]) as stream:
            crops = CropTable(Path(self.root), stream.read_all())
        recipe, unreadable = self.config.recipe, Unreadable()
        batches = list(
            embed_crops(
                crops,
                self.embedder.embed,
                recipe.image_size,
                self.config.embed_batch,
                unreadable=unreadable,
                view=recipe.window,
                with_masks=self.embedder.pooling == "mask",
            )
        )
        vectors, valid, pixels = map(np.concatenate, zip(*batches, strict=True))
        pairs = np.array([*unreadable.reasons.items()], str).reshape(-1, 2)
        arrays: dict[str, Any] = {"vectors": vectors, "valid": valid, "reasons": pairs}
        if self.looks:
            arrays |= vars(looks_of(pixels))
        content = io.BytesIO()
        np.savez(content, **arrays)
        return {"start": block["start"], "content": content.getvalue()}


def _blocks(writer: EmbeddingWriter, size: int) -> Iterator[range]:
    """What is missing, cut at the ends of images into blocks of about `size` rows."""
    for gap in writer.gaps():
        rows = np.arange(gap.start, gap.stop)
        count = -(-len(gap) // size)
        for block in shares(writer.table.take(rows), count):
            if block:
                yield range(gap.start + block.start, gap.start + block.stop)


def _as_bytes(table: CropTable, block: range) -> bytes:
    """Rows of a table, to be sent."""
    rows = table.rows.slice(block.start, len(block)).combine_chunks()
    content = io.BytesIO()
    with pa.ipc.new_stream(content, rows.schema) as stream:
        stream.write_table(rows)
    return content.getvalue()


def _resources(ray: ModuleType, actors: int) -> tuple[int, int]:
    """GPUs of an actor, and how many actors."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    return int(gpus > 0), actors or gpus or nodes


def _library() -> ModuleType:
    try:
        import ray.data
    except ImportError as error:
        raise OSError(
            f"engine ray needs Ray Data ({error}): pip install -r requirements-ray.txt"
        ) from None
    return ray
