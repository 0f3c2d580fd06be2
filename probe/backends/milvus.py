"""The same search in Milvus, past one machine: an embedded file by default, a cluster
by its URI.

Needs its own client: `pip install -r requirements-milvus.txt`. A probe ranks by an
inner product of unit vectors, so the collection that answers queries answers probes
too.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

import numpy as np

from probe.index import CosineIndex
from probe.ranking import Ranking
from probe.transforms import Transform

BATCH = 1000
_MOST = 16_384  # that Milvus returns for one search


class _Told(logging.Handler):
    """What the embedded server logs instead of raising: the client says no more than
    that it failed, and a search that goes well leaves a traceback of a call that the
    server doesn't know.
    """

    def __init__(self) -> None:
        super().__init__()
        self.error = ""

    def listen(self) -> None:
        """Takes the server's log, which isn't shown any more."""
        for name in ("milvus_lite", "grpc._server"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.name.startswith("milvus_lite"):
            self.error = str(record.exc_info[1])


class MilvusIndex(CosineIndex):
    """A CosineIndex whose searches run in Milvus.

    Filled in batches by row number; a fill that was cut off goes on where it stopped.
    The name of the collection holds a hash of vectors and transform, so one database
    serves many embedding sets and a changed set is never searched with old vectors.

    Args:
        uri: path of a file ending in .db (embedded engine), or http://host:19530.
        vectors, ids, transform: see CosineIndex.
        content_hash: of the vectors, such as `sha256` of meta.json.
        index_type: FLAT is exact (recall 1); HNSW or AUTOINDEX of a cluster trade
            recall for speed.
        token: of a cluster, "user:password".
        progress: wraps an iterable of batches, to show a bar.
    """

    def __init__(
        self,
        uri: str,
        vectors: np.ndarray,
        ids: Sequence[str] | np.ndarray,
        *,
        transform: Transform | None = None,
        content_hash: str = "",
        index_type: str = "FLAT",
        token: str = "",
        progress=iter,
    ):
        super().__init__(vectors, ids, transform=transform)
        try:
            from pymilvus import MilvusClient, MilvusException
        except ImportError:
            raise ValueError(
                "milvus needs its client: pip install -r requirements-milvus.txt"
            ) from None
        if "://" not in uri and not uri.endswith(".db"):
            raise ValueError(
                "milvus must be a path ending in .db or a URI such as "
                f"http://localhost:19530; got {uri!r}"
            )
        told = _Told()
        if "://" not in uri:
            told.listen()
        self.collection = f"crops_{self._hash(content_hash)}_{index_type.lower()}"
        try:
            self.client = MilvusClient(uri, token=token)
            if not self.client.has_collection(self.collection):
                self._create(index_type)
            self.client.load_collection(self.collection)
            self._fill(progress)
        except MilvusException as error:
            reason = told.error or error.message
            raise ValueError(f"milvus {uri!r} can't be used: {reason}") from None

    def _hash(self, content_hash: str) -> str:
        digest = hashlib.sha256(
            f"{content_hash} {len(self)} {self.dim} {self.transform.base}".encode()
        )
        digest.update(self.transform.content)
        return digest.hexdigest()[:16]

    def _create(self, index_type: str) -> None:
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dim)
        parameters = self.client.prepare_index_params()
        parameters.add_index("vector", index_type=index_type, metric_type="IP")
        self.client.create_collection(
            self.collection, schema=schema, index_params=parameters
        )

    def filled(self) -> int:
        """Rows that are in the collection."""
        return int(
            self.client.query(
                self.collection,
                filter="row >= 0",
                output_fields=["count(*)"],
                consistency_level="Strong",  # what this process wrote counts
            )[0]["count(*)"]
        )

    def _fill(self, progress) -> None:
        # Batches go in by rising row and whole or not at all; upsert makes a repeated
        # one harmless.
        filled = self.filled()
        if filled == len(self):
            return
        for start in progress(range(filled // BATCH * BATCH, len(self), BATCH)):
            unit = self.unit_vectors(np.arange(start, min(start + BATCH, len(self))))
            data = [
                {"row": start + number, "vector": vector}
                for number, vector in enumerate(unit)
            ]
            self.client.upsert(self.collection, data)
        self.client.flush(self.collection)

    def search_along(
        self,
        directions: np.ndarray,
        k: int,
        *,
        mask: np.ndarray | None = None,
        ascending: bool = False,
    ) -> list[Ranking]:
        """See CosineIndex.search_along; scores are float32, and equal ones are ordered
        by id among the k that Milvus returns.
        """
        sign = -1.0 if ascending else 1.0
        directions = sign * self._checked(directions)
        allowed = self._allowed(k, mask, _MOST)
        available = int(allowed.sum())
        # The shorter of the two lists: of what is searched or of what isn't.
        few, word = (
            (np.flatnonzero(allowed), "in")
            if available < len(self) / 2
            else (np.flatnonzero(~allowed), "not in")
        )
        filters = (
            {"filter": f"row {word} {few.tolist()}"} if available < len(self) else {}
        )
        answers = self.client.search(
            self.collection,
            data=directions.astype(np.float32).tolist(),
            limit=k,
            search_params={"metric_type": "IP"},
            output_fields=["row"],  # servers before 2.4 don't name the key by itself
            **filters,
        )
        excluded = np.flatnonzero(~allowed)
        found = []
        for answer, direction in zip(answers, directions, strict=True):
            rows = np.array([hit["row"] for hit in answer], np.int64)
            scores = np.array([hit["distance"] for hit in answer], np.float64)
            length = float(np.linalg.norm(direction)) or 1.0
            order = np.lexsort((self.place_of_id[rows], -(scores / length).round(6)))
            found.append(Ranking(rows[order], sign * scores[order], excluded=excluded))
        return found
