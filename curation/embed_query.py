"""Images from outside the set, and texts, embedded with the encoder that made it.
Loads TensorFlow on use, so the page has a process for it.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from data.embeddings import EmbeddingSet
from data.images import ImageError, cut, read_image

MOST_PIXELS = 50_000_000  # of an uploaded image
KEPT_SIDE = 1024  # of what is kept of an upload, in pixels
_CARD, _LINE = 192, 14  # side of a picture of a text in pixels; letters a line


def embed_images(
    embeddings: EmbeddingSet,
    images: Sequence[Image.Image],
    embedder: Any = None,
    boxes: Sequence[tuple[int, int, int, int]] | None = None,
) -> np.ndarray:
    """Embeds images, whole or a box (left, top, right, bottom) of each, as if they were
    crops of the set; [n, D] float32.
    """
    from curation.encoders import embedder_of

    embedder = embedder or embedder_of(embeddings)
    size, window = embeddings.meta["image_size"], embeddings.window
    boxes = boxes or [(0, 0, *image.size) for image in images]
    pairs = zip(images, boxes, strict=True)
    crops = [cut(image, box, size, window) for image, box in pairs]
    return embedder.embed(np.stack([np.asarray(crop) for crop in crops]))


def embed_texts(
    embeddings: EmbeddingSet, texts: Sequence[str], embedder: Any = None
) -> np.ndarray:
    """Embeds texts by the text tower of the set's encoder; [n, D] float32.

    Raises:
        ValueError: the set's encoder has none; says what to choose instead.
    """
    if not embeddings.takes_text:
        made_by = embeddings.meta.get("made_by") or embeddings.meta["encoder"]
        raise ValueError(
            f"text needs embeddings of an encoder with a text tower; those of "
            f"{embeddings.folder} are by {made_by}. Embed with a CLIP or SigLIP preset "
            "of KerasHub, such as --encoder=kerashub:siglip_base_patch16_224 with "
            "--image_size=224, or give an image as --query"
        )
    if not all(text.strip() for text in texts):
        raise ValueError("text must hold words; got an empty one")
    from curation.encoders import embedder_of

    tower = (embedder or embedder_of(embeddings)).encoder.text
    assert tower is not None
    return tower([text.strip() for text in texts])


@lru_cache(1)
def _loaded(folder: str) -> tuple[EmbeddingSet, Any]:
    from curation.encoders import embedder_of

    embeddings = EmbeddingSet.load(folder)
    return embeddings, embedder_of(embeddings)


def embed_upload(
    folder: str, content: bytes, box: Sequence[int] | None = None
) -> tuple[np.ndarray, bytes]:
    """Decodes and embeds an uploaded image; the page calls it in a worker process,
    which keeps the encoder.

    Args:
        folder: of the embedding set.
        content: the file's bytes.
        box: what of it is meant, (left, top, right, bottom) in pixels of the upright
            image; default: all.

    Returns:
        Its embedding [D] float32, and the upright image, or what is in the box, as PNG,
        at most 1024 pixels wide and high.

    Raises:
        ValueError: it is no image, has too many pixels, or the box lies outside.
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
    boxes = [(0, 0, *image.size) if box is None else _within(image, box)]
    vector = embed_images(embeddings, [image], embedder, boxes)[0]
    image = image.crop(boxes[0])
    image.thumbnail((KEPT_SIDE, KEPT_SIDE))
    return vector, _png(image)


def _within(image: Image.Image, box: Sequence[int]) -> tuple[int, int, int, int]:
    """The part of a box that lies in the image."""
    left, top, right, bottom = box
    right, bottom = min(right, image.width), min(bottom, image.height)
    if not (0 <= left < right and 0 <= top < bottom):
        raise ValueError(
            f"box must lie in the image, {image.width} x {image.height} pixels; got "
            f"{tuple(box)}"
        )
    return left, top, right, bottom


def embed_words(folder: str, text: str) -> tuple[np.ndarray, bytes]:
    """Embeds a text; the page calls it in a worker process, as `embed_upload`.

    Args:
        folder: of the embedding set.
        text: what is looked for, in words.

    Returns:
        Its embedding [D] float32, and a picture of the words as PNG.

    Raises:
        ValueError: the set's encoder has no text tower, or there are no words.
    """
    embeddings, embedder = _loaded(folder)
    vector = embed_texts(embeddings, [text], embedder)[0]
    card = Image.new("RGB", (_CARD, _CARD), "white")
    font = ImageFont.load_default(24)
    lines = "\n".join(textwrap.wrap(text.strip(), _LINE)[:6])
    ImageDraw.Draw(card).multiline_text((10, 10), lines, fill="black", font=font)
    return vector, _png(card)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
