"""What session.json says of a session."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np

from data.embeddings import hashes_of

if TYPE_CHECKING:
    from curation.pool import Pool
    from curation.query import Query

USES = ("collect", "split", "failures")
FORMAT = 1
SEVERAL = 2  # the format of a session of several classes


@dataclass(frozen=True)
class StatedQuery:
    """A query by name: ids of crops, and names of embeddings beside session.json."""

    crops: tuple[str, ...]
    uploads: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SessionFacts:
    """What is looked for, in which embeddings.

    Attributes:
        name: of the session.
        pool: the SQL condition that its crops meet, "" for all.
        query: what it looks like.
        embeddings: hashes of the set, and its folder.
        class_name: of the class that is looked for.
        use: one of USES.
        transform, method, seed: as the session was made with.
        pool_hash: of which crops meet the condition; see `Pool.hash_of`.
        created: UTC, ISO 8601; "" before it is written.
        classes: of a session of several, name -> examples; `query` is empty then.
    """

    name: str
    pool: str
    query: StatedQuery
    embeddings: Mapping[str, str] = field(default_factory=dict)
    class_name: str = ""
    use: str = "collect"
    transform: str = "center"  # the only one of version 0.5.0, which wrote centre
    method: str = "auto"
    seed: int = 0
    pool_hash: str = ""
    created: str = ""
    classes: Mapping[str, StatedQuery] = field(default_factory=dict)

    def as_json(self) -> Mapping[str, object]:
        """The content of session.json."""
        told = asdict(self)
        if not self.classes:
            del told["classes"]
        return {"format": SEVERAL if self.classes else FORMAT, **told}

    def refuse_several(self) -> None:
        """Raises ValueError where it is of several classes."""
        if self.classes:
            raise ValueError(
                f"session {self.name!r} is of several classes, "
                f"{', '.join(self.classes)}: open it with curation.Classes"
            )

    @classmethod
    def from_json(cls, told: Mapping[str, object]) -> SessionFacts:
        """Reads session.json; what it doesn't say is as it was before that was asked.

        Raises:
            ValueError, KeyError, TypeError: it isn't of this format.
        """
        if told["format"] not in (FORMAT, SEVERAL):
            raise ValueError(f"format must be {FORMAT}; got {told['format']!r}")
        known = {one.name: told[one.name] for one in fields(cls) if one.name in told}
        query = told["query"]
        if not isinstance(query, Mapping) or not isinstance(
            told["embeddings"], Mapping
        ):
            raise TypeError("query and embeddings must be objects")
        stated = _stated(query)
        several = told.get("classes", {})
        if not isinstance(several, Mapping):
            raise TypeError("classes must be an object")
        if several:
            known["classes"] = {name: _stated(one) for name, one in several.items()}
        if known.get("transform") in ("", "centre"):
            del known["transform"]
        return cls(**{**known, "query": stated})  # type: ignore[arg-type]


def _stated(told: Mapping[str, Sequence[str]]) -> StatedQuery:
    return StatedQuery(tuple(told["crops"]), tuple(told["uploads"]))


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
) -> SessionFacts:
    """What session.json says of a new session."""
    crops = [str(pool.ids[row]) for row in dict.fromkeys(query.examples.rows)]
    return SessionFacts(
        name=name.strip() or "unnamed",
        pool=where,
        query=StatedQuery(tuple(crops), tuple(uploads)),
        embeddings=identity_of_set(pool),
        class_name=class_name,
        use=use,
        transform=pool.index.transform.name,
        method=method,
        seed=seed,
        pool_hash=pool.hash_of(where),
    )


def identity_of_set(pool: Pool) -> dict[str, str]:
    """The embeddings that a session is of."""
    return {
        "folder": str(pool.embeddings.folder.resolve()),
        **hashes_of(pool.embeddings.meta),
    }
