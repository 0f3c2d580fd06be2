"""Images from outside the set, embedded with the encoder that made it. Loads
TensorFlow on use, so the page has a process for it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.embeddings import EmbeddingSet
from data.images import ImageError, cut, read_image

MOST_PIXELS = 50_000_000  # of an uploaded image
KEPT_SIDE = 1024  # of what is kept of an upload, in pixels


def embed_images(
    embeddings: EmbeddingSet, images: Sequence[Image.Image], embedder: Any = None
) -> np.ndarray:
    """Embeds whole images as if they were crops of the set; [n, D] float32."""
    from curation.encoders import embedder_of

    embedder = embedder or embedder_of(embeddings)
    size, window = embeddings.meta["image_size"], embeddings.window
    crops = [cut(image, (0, 0, *image.size), size, window) for image in images]
    return embedder.embed(np.stack([np.asarray(crop) for crop in crops]))


@lru_cache(1)
def _loaded(folder: str) -> tuple[EmbeddingSet, Any]:
    from curation.encoders import embedder_of

    embeddings = EmbeddingSet.load(folder)
    return embeddings, embedder_of(embeddings)


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
        reason = getattr(error, "reason", error)
        raise ValueError(
            f"upload must be an image; it can't be read: {reason}"
        ) from None
    embeddings, embedder = _loaded(folder)
    vector = embed_images(embeddings, [image], embedder)[0]
    image.thumbnail((KEPT_SIDE, KEPT_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return vector, buffer.getvalue()
