"""What session.json says of a new session."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from curation.pool import Pool
from curation.query import Query
from data.embeddings import hashes_of

USES = ("collect", "split", "failures")


def name_uploads(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Embeddings of images from outside by the name under which they are kept."""
    return {
        f"u-{hashlib.sha256(vector.tobytes()).hexdigest()[:16]}": vector
        for vector in vectors
    }


def session_facts(
    pool: Pool,
    query: Query,
    *,
    name: str = "",
    where: str = "",
    class_name: str = "",
    use: str = "collect",
    method: str = "auto",
    seed: int = 0,
    uploads: Sequence[str] = (),
) -> dict[str, Any]:
    """What session.json says of a new session."""
    crops = [str(pool.ids[row]) for row in dict.fromkeys(query.examples.rows)]
    return {
        "name": name.strip() or "unnamed",
        "pool": where,
        "class_name": class_name,
        "use": use,
        "query": {"crops": crops, "uploads": list(uploads)},
        "transform": pool.index.transform.name,
        "method": method,
        "seed": seed,
        "embeddings": identity_of_set(pool),
        "pool_hash": pool.hash_of(where),
    }


def identity_of_set(pool: Pool) -> dict[str, str]:
    """The embeddings that a session is of."""
    return {
        "folder": str(pool.embeddings.folder.resolve()),
        **hashes_of(pool.embeddings.meta),
    }
