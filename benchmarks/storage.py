"""What is lost where vectors are stored in fewer bits.

    python -m benchmarks.storage --embeddings=runs/a/embeddings

Of each type: bytes, the angle between a vector and what is read back, and what it does
to searches: how many of the 50 nearest (plain cosine) stay the same, and the precision
among the 50 nearest by class, over `--queries` random crops.
"""

from __future__ import annotations

import numpy as np
from absl import app, flags

from artifacts.provenance import provenance
from data.embeddings import EmbeddingSet
from data.stored_vectors import STORED_AS, as_stored
from probe.index import rank_first
from probe.transforms import l2_normalize

FLAGS = flags.FLAGS
K = 50


def read_back(vectors: np.ndarray, dtype: str) -> tuple[np.ndarray, int]:
    """Vectors as they are after storing, and the bytes that they take."""
    stored = as_stored(vectors, dtype)
    found = stored["vectors"].astype(np.float32)
    if "scales" in stored:
        found *= stored["scales"][:, None]
    return found, sum(array.nbytes for array in stored.values())


def main(argv: list[str]) -> None:
    """Prints a line for each type."""
    del argv
    found = EmbeddingSet.load(FLAGS.embeddings)
    vectors = np.asarray(found.vectors)
    labels = found.table.column("label_name")
    rng = np.random.default_rng(FLAGS.seed)
    queries = rng.choice(len(vectors), min(FLAGS.queries, len(vectors)), replace=False)
    exact = l2_normalize(vectors, np.float64)
    expected = rank_first(exact, queries, K)
    size = f"{len(vectors):,} x {vectors.shape[1]:,}, {len(queries)} queries"
    print(f"{FLAGS.embeddings}: {size}, seed {FLAGS.seed}")
    print("| stored as | bytes | largest angle | of the 50 nearest the same | P@50 |")
    print("| --- | --- | --- | --- | --- |")
    for dtype in STORED_AS:
        read, size_of = read_back(vectors, dtype)
        unit = l2_normalize(read, np.float64)
        apart = np.linalg.norm(unit - exact, axis=1)
        angle = np.degrees(2 * np.arcsin(np.minimum(1, apart / 2)))
        nearest = rank_first(unit, queries, K)
        pairs = zip(nearest, expected, strict=True)
        same = np.mean([len(np.intersect1d(one, two)) / K for one, two in pairs])
        right = (labels[nearest] == labels[queries][:, None]).mean()
        print(
            f"| {dtype} | {size_of / vectors.nbytes:.0%} | {angle.max():.3f} degrees | "
            f"{same:.4f} | {right:.4f} |"
        )
    print(provenance(FLAGS.seed))


if __name__ == "__main__":
    flags.DEFINE_string("embeddings", None, "An embedding set.", required=True)
    flags.DEFINE_integer("queries", 500, "Random crops to search for.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Which these are.")
    app.run(main)
