"""Images from outside the set, embedded with the encoder that made it. Loads
TensorFlow, so the page has a process for it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.embeddings import EmbeddingSet
from data.images import CropView, ImageError, cut, read_image

MOST_PIXELS = 50_000_000  # of an uploaded image


def make_embedder(embeddings: EmbeddingSet) -> Any:
    """The encoder that made a set.

    Raises:
        ValueError: its weights have changed since, or aren't there.
    """
    from simclr_tf2.encoders import EncoderConfig, make_encoder  # loads TensorFlow

    meta = embeddings.meta
    weights = (
        str(embeddings.folder / meta["weights"])
        if meta["weights"].startswith("..")
        else meta["weights"]
    )
    encoder = make_encoder(EncoderConfig(meta["encoder"], weights, meta["endpoint"]))
    if encoder.content_hash() != meta["encoder_hash"]:
        raise ValueError(
            f"the encoder at {weights!r} isn't the one that made {embeddings.folder}: "
            "its weights have changed"
        )
    return encoder


def embed_images(
    embeddings: EmbeddingSet, images: Sequence[Image.Image], encoder: Any = None
) -> np.ndarray:
    """Embeds whole images as if they were crops of the set; [n, D] float32."""
    meta = embeddings.meta
    view = CropView(**meta.get("view", {"square": False}))
    crops = [
        cut(image, (0, 0, *image.size), meta["image_size"], view) for image in images
    ]
    return (encoder or make_embedder(embeddings)).embed(
        np.stack([np.asarray(crop) for crop in crops])
    )


@lru_cache(1)
def _loaded(folder: str) -> tuple[EmbeddingSet, Any]:
    embeddings = EmbeddingSet.load(folder)
    return embeddings, make_embedder(embeddings)


def embed_upload(folder: str, content: bytes) -> tuple[np.ndarray, bytes]:
    """Decodes and embeds an uploaded image; the page calls it in a worker process,
    which keeps the encoder.

    Args:
        folder: of the embedding set.
        content: the file's bytes.

    Returns:
        Its embedding [D] float32, and the upright image as PNG, at most 1024 pixels
        wide and high.

    Raises:
        ValueError: it is no image, or has too many pixels.
    """
    try:
        with Image.open(io.BytesIO(content)) as header:
            pixels = header.width * header.height
        if pixels > MOST_PIXELS:
            raise ValueError(
                f"image must have at most {MOST_PIXELS:,} pixels; got {pixels:,}"
            )
        image = read_image(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError(
            "upload must be an image; it is of no kind that can be read, such as JPEG "
            "or PNG"
        ) from None
    except (ImageError, OSError, SyntaxError) as error:
        raise ValueError(
            "upload must be an image; it can't be read: "
            f"{getattr(error, 'reason', error)}"
        ) from None
    embeddings, encoder = _loaded(folder)
    vector = embed_images(embeddings, [image], encoder)[0]
    image.thumbnail((1024, 1024))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return vector, buffer.getvalue()


def export_selection(arguments: tuple[Any, ...]) -> list[str]:
    """`data.export.export` in the worker process: some formats load TensorFlow. Returns
    what was left out.
    """
    from data.export import export

    selection, kind, folder, card = arguments
    return export(selection, kind, Path(folder), card).left_out()
