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
from data.duplicates import find_duplicates, read_looks, with_duplicates
from data.embeddings import EmbeddingSet
from data.formats.base import SOURCE_ROW
from data.vectors import read_vectors


def import_vectors(request: EmbedRequest) -> None:
    """Makes an embedding set of vectors and the rows of a file that they belong to.

    Raises:
        ValueError, OSError, RuntimeError: with a message for the user.
    """
    folder, config = Path(request.embeddings), request.config
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
        if config.find_duplicates:
            looks = read_looks(crops, config.window, progress_bar)
            crops = with_duplicates(crops, find_duplicates(looks, progress_bar))
        embeddings = EmbeddingSet.from_arrays(
            vectors,
            crops,
            folder=folder,
            rows=crops.column(SOURCE_ROW),
            made_by=request.made_by,
            window=config.window,
            facts={
                "vectors": str(Path(request.vectors).absolute()),
                "provenance": provenance(config.seed),
            },
            progress=progress_bar,
        )
    print_next(embeddings, embeddings.meta["skipped"] + len(report.skipped))
