"""Vectors made elsewhere in, a folder of embeddings out: what run_embed.py does with
--vectors, without TensorFlow.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from artifacts.files import check_writable, exclusive
from artifacts.progress import progress_bar
from artifacts.provenance import provenance
from curation.config import EmbedRequest
from curation.crops import print_next, read_reported
from curation.pool import make_ready
from data.crop_table import SOURCE_ROW
from data.duplicates import read_looks
from data.embeddings import EmbeddingSet
from data.vectors import read_vectors
from simclr_tf2.config import EncoderConfig


def import_vectors(request: EmbedRequest) -> None:
    """Makes an embedding set of vectors and the rows of a file that they belong to.

    Raises:
        ValueError, OSError, RuntimeError: with a message for the user.
    """
    folder, config = Path(request.embeddings), request.config
    if request.source.tiles:
        raise ValueError(
            "vectors and tiles exclude each other: vectors of tiles come in with a CSV "
            "of the tiles' boxes"
        )
    if request.config.encoder != EncoderConfig():
        raise ValueError(
            "encoder and weights don't apply to vectors, which were made elsewhere; "
            "made_by names what made them"
        )
    vectors = read_vectors(request.vectors)
    check_writable(folder.absolute().parent, "embeddings")
    lock = f".{folder.absolute().name}.lock"
    with exclusive(folder.absolute().parent, "embeddings", lock, folder):
        options = dataclasses.replace(request.source, numbered=True)
        crops, report = read_reported(request.data, options, request.where)
        if len(vectors) != report.seen:
            raise ValueError(
                f"vectors must have a row for each of the {report.seen:,} rows of "
                f"{request.data}, in their order, those left out among them; "
                f"{request.vectors} has {len(vectors):,}"
            )
        looks = None
        if config.find_duplicates:
            looks = read_looks(crops, config.recipe.window, progress_bar)
        embeddings = EmbeddingSet.from_arrays(
            vectors,
            crops,
            folder=folder,
            rows=crops.column(SOURCE_ROW),
            made_by=request.made_by,
            window=config.recipe.window,
            looks=looks,
            stored_as=config.stored_as,
            facts={
                "vectors": str(Path(request.vectors).absolute()),
                "provenance": provenance(config.seed),
            },
            progress=progress_bar,
        )
    make_ready(embeddings)
    print_next(embeddings, embeddings.meta["skipped"] + len(report.skipped))
