"""An encoder's place: how a set of embeddings says which encoder made it, and how that
encoder is found again, wherever the set has been moved to. Loads TensorFlow on use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.embeddings import EmbeddingSet
from simclr_tf2.checkpoints.download import is_remote, local_saved_model
from simclr_tf2.config import EncoderConfig

if TYPE_CHECKING:
    from simclr_tf2.encoders.base import Encoder
    from simclr_tf2.encoders.embedder import Embedder


def start_encoder(config: EncoderConfig) -> Encoder:
    """The encoder of a configuration; its weights are downloaded where they are remote.

    Raises:
        ValueError, OSError: there is none of that name, or its weights can't be had.
        DownloadError: they can't be downloaded.
    """
    from simclr_tf2.encoders.registry import make_encoder

    if is_remote(config.weights):
        config = replace(config, weights=str(local_saved_model(config.weights)))
    return make_encoder(config)


def reference(
    encoder: Encoder, folder: Path, file: Path | None = None
) -> dict[str, str]:
    """What meta.json says of the encoder, so that it resolves from anywhere.

    Args:
        encoder: what made the embeddings.
        folder: of the embedding set.
        file: where its weights lie, if not where they were loaded from.

    Returns:
        `encoder`, its name; `weights`, a name such as "imagenet" or an absolute path;
        and of a path `weights_beside` too, the way there from the set's folder.
    """
    stated = str(file) if file else encoder.config.weights
    facts = {"encoder": encoder.config.name, "weights": stated}
    if file or Path(stated).exists():
        facts["weights"] = str(Path(stated).resolve())
        # Across drives of Windows there is no relative way.
        try:
            beside = os.path.relpath(facts["weights"], folder.resolve())
            facts["weights_beside"] = Path(beside).as_posix()
        except ValueError:
            pass
    return facts


def find_weights(meta: Mapping[str, Any], folder: Path) -> str:
    """Where the weights are now: beside the set, as when it was made, otherwise at the
    place they had then.
    """
    stated = str(meta["weights"])
    beside = meta.get("weights_beside", stated if stated.startswith("..") else "")
    if beside and (folder / beside).exists():
        return str(folder / beside)
    return stated


def recipe_in_words(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe that meta.json states, as result.json names it."""
    return {
        "name": meta["recipe"],
        "endpoints": meta["endpoint"],
        "pooling": meta["pooling"],
        "orientations": meta["orientations"],
        "image_size": meta["image_size"],
        "window": meta["view"],
    }


def embedder_of(embeddings: EmbeddingSet) -> Embedder:
    """The encoder that made a set, with its recipe.

    Raises:
        ValueError: its weights have changed since, or aren't there.
    """
    if embeddings.is_from_elsewhere:
        raise ValueError(
            f"the vectors of {embeddings.folder} were made elsewhere, so no other "
            "image can be embedded here: the query must be a crop of the set, by its "
            "id or its image's path"
        )
    meta = embeddings.meta
    weights = find_weights(meta, embeddings.folder)
    if weights.startswith(".."):
        raise ValueError(
            f"the encoder of {embeddings.folder} must lie at {weights!r} from there, "
            "as when it was made, and doesn't: copy it there, or move the set back "
            "beside its run"
        )
    from simclr_tf2.encoders.embedder import Embedder

    encoder = start_encoder(EncoderConfig(meta["encoder"], weights))
    how = (meta[name] for name in ("endpoint", "pooling", "orientations"))
    embedder = Embedder(encoder, *how)
    if embedder.content_hash() != meta["encoder_hash"]:
        raise ValueError(
            f"the encoder at {weights!r} isn't the one that made {embeddings.folder}: "
            "its weights have changed"
        )
    return embedder
