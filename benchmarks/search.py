"""How fast is exact search? This project's against NumPy, scikit-learn, FAISS and
USearch, one query at a time and in batches.

    S="python -m benchmarks.search"
    $S                                    # 200,000 x 1,280, spectrum of ImageNet ones
    $S --embeddings=runs/a/embeddings     # the spectrum of your embeddings
    $S --rows=112000 --width=2048 --probe  # also: fit to 140 marks, rank everything

The vectors are synthetic: normal, with the mean and covariance eigenvalues of real
embeddings (those of the default encoder stand below; eigenvalues in between go by a
power law). Queries are rows of the set. Every method answers the same queries, in turn,
in one process with two threads; results are compared with float64 and times are medians
over queries. Where FAISS or USearch isn't installed, its row says so (`pip install -r
requirements-dev.txt`).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags

from artifacts.files import write_json
from artifacts.provenance import provenance
from data.embeddings import EmbeddingSet
from probe.cascade import Cascade
from probe.index import CosineIndex
from probe.methods import learn
from probe.transforms import Transform, l2_normalize

FLAGS = flags.FLAGS
flags.DEFINE_integer("rows", 200_000, "Vectors.", lower_bound=1000)
flags.DEFINE_integer("width", 1280, "Their dimensions.", lower_bound=2)
flags.DEFINE_string(
    "embeddings",
    "",
    "Embedding set whose mean and covariance to take, instead of the built-in "
    "spectrum.",
)
flags.DEFINE_integer("k", 50, "How many to find.", lower_bound=1)
flags.DEFINE_integer("queries", 30, "Queries.", lower_bound=1)
flags.DEFINE_integer("batch", 100, "Queries of the batch.", lower_bound=1)
flags.DEFINE_bool("probe", False, "Also time a re-fit and re-rank after a mark.")
flags.DEFINE_integer("seed", 0, "Of vectors and queries.")
flags.DEFINE_string("out", "", "JSON file for the figures.")

# Of unit vectors: EfficientNet-Lite0 with ImageNet weights, 4,027 photos of seedlings
# at 224 pixels.
MEAN_SQUARE = 0.489  # squared length of the mean
EIGENVALUES = {
    1: 0.225,
    2: 0.160,
    4: 0.0294,
    8: 0.0172,
    16: 0.00822,
    32: 0.00391,
    64: 0.00172,
    128: 7.29e-4,
    256: 2.95e-4,
}
EIGENVALUES |= {512: 1.01e-4, 1024: 1.49e-5}  # shares of the variance, by rank


def make_vectors(rng: np.random.Generator) -> np.ndarray:
    """[rows, width] float32 unit vectors with the spectrum of real embeddings."""
    if FLAGS.embeddings:
        real = l2_normalize(np.asarray(EmbeddingSet.load(FLAGS.embeddings).vectors))
        mean = real.mean(axis=0)
        values, axes = np.linalg.eigh(np.cov(real.T))
        spread = (axes * np.sqrt(values.clip(0))).T
    else:
        ranks = np.arange(1, FLAGS.width + 1)
        shares = np.exp(
            np.interp(
                np.log(ranks),
                np.log(list(EIGENVALUES)),
                np.log(list(EIGENVALUES.values())),
            )
        )
        axes, _ = np.linalg.qr(rng.standard_normal((FLAGS.width, FLAGS.width)))
        spread = np.sqrt((1 - MEAN_SQUARE) * shares / shares.sum())[:, None] * axes.T
        mean = np.sqrt(MEAN_SQUARE) * axes[:, 0]
    vectors = np.empty((FLAGS.rows, spread.shape[1]), np.float32)
    for start in range(0, len(vectors), 10_000):
        rows = vectors[start : start + 10_000]
        rows[:] = (
            rng.standard_normal(rows.shape, np.float32) @ spread.astype(np.float32)
            + mean
        )
    return l2_normalize(vectors)


def methods(
    vectors: np.ndarray, index: CosineIndex
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Name -> function from queries [Q, D] to rows [Q, k], best first."""
    k = FLAGS.k

    def numpy_search(queries: np.ndarray) -> np.ndarray:
        scores = (
            (vectors @ queries[0])[None] if len(queries) == 1 else queries @ vectors.T
        )
        best = np.argpartition(scores, scores.shape[1] - k, axis=1)[:, -k:]
        return np.take_along_axis(
            best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1
        )

    def sklearn_search(queries: np.ndarray) -> np.ndarray:
        from sklearn.metrics.pairwise import cosine_distances

        return np.argsort(cosine_distances(queries, vectors), axis=1)[:, :k]

    found: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "cascade (this project)": lambda queries: np.stack(
            [hits.rows for hits in index.search_along(queries, k)]
        ),
        "NumPy matrix-vector + argpartition": numpy_search,
        "scikit-learn cosine_distances + argsort": sklearn_search,
    }
    try:
        import faiss

        faiss.omp_set_num_threads(2)
        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(vectors)
        found["FAISS IndexFlatIP"] = lambda queries: flat.search(queries, k)[1]
    except ImportError:
        print("FAISS is not installed: no row for it")
    try:
        from usearch.index import MetricKind
        from usearch.index import search as usearch_exact

        half = vectors.astype(np.float16)

        def usearch_search(queries: np.ndarray) -> np.ndarray:
            matches = usearch_exact(
                half,
                queries.astype(np.float16),
                k,
                MetricKind.IP,
                exact=True,
                threads=2,
            )
            return np.atleast_2d(matches.keys)

        found["USearch exact, float16"] = usearch_search
    except ImportError:
        print("USearch is not installed: no row for it")
    return found


def timed(function: Callable, *arguments) -> tuple[float, Any]:
    """Seconds, and the result."""
    started = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - started, result


def same(found: np.ndarray, expected: np.ndarray) -> float:
    """Share of the expected rows that were found."""
    return float(
        np.mean(
            [
                len(np.intersect1d(a, b)) / len(b)
                for a, b in zip(found, expected, strict=True)
            ]
        )
    )


def time_probe(vectors: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Seconds to fit a probe to 140 marks with C by cross-validation and to score
    all rows and order the first 400, medians; (fit, rank).
    """
    ids = np.arange(len(vectors)).astype(str)
    index = CosineIndex(vectors, ids, transform=Transform.fit("center", vectors))
    index.scores(np.zeros(index.dim))  # the two numbers per row are computed once
    direction = rng.standard_normal(vectors.shape[1])
    fits, ranks = [], []
    for _ in range(7):
        rows = rng.choice(len(vectors), 140, replace=False)
        answers = vectors[rows] @ direction > 0
        fit, learnt = timed(
            lambda marked, given: learn(index.unit_vectors(marked), given),
            rows,
            answers,
        )
        rank, _ = timed(lambda ranker: index.rank(ranker).page(0, 400), learnt)
        fits.append(fit)
        ranks.append(rank)
    return float(np.median(fits)), float(np.median(ranks))


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    rng = np.random.default_rng(FLAGS.seed)
    vectors = make_vectors(rng)
    building, cascade = timed(lambda: Cascade.build(vectors, Transform()))
    index = CosineIndex(vectors, np.arange(len(vectors)).astype(str), cascade=cascade)
    held = (
        sum(array.nbytes for array in (*cascade.levels, *cascade.rest)) / vectors.nbytes
    )
    print(
        f"{len(vectors):,} x {vectors.shape[1]:,} float32, k = {FLAGS.k}, two threads, "
        f"seed {FLAGS.seed}"
    )
    print(
        f"the cascade was built in {building:.1f} s and takes {held:.0%} of the "
        "vectors' memory\n"
    )

    queries = vectors[rng.choice(len(vectors), FLAGS.queries, replace=False)]
    exact = np.stack(
        [
            np.argsort(-(vectors.astype(np.float64) @ query), kind="stable")[: FLAGS.k]
            for query in queries[:5]
        ]
    )
    contenders = methods(vectors, index)
    single: dict[str, list[float]] = {name: [] for name in contenders}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in contenders}
    for number, query in enumerate(queries):
        for name, search in contenders.items():
            if "scikit" in name and number >= 5:
                continue
            seconds, found = timed(search, query[None])
            single[name].append(seconds)
            rows[name].append(found[0])
    batch = vectors[rng.choice(len(vectors), FLAGS.batch, replace=False)]
    in_batch = {}
    for name, search in contenders.items():
        if "scikit" not in name:
            seconds, _ = min(
                (timed(search, batch) for _ in range(3)), key=lambda pair: pair[0]
            )
            in_batch[name] = seconds / len(batch)

    mine = "cascade (this project)"
    print(
        f"{'method':42s} {'one query':>10s} {'times as long':>14s} "
        f"{f'batch of {len(batch)}':>13s} {'times as long':>14s}  exact"
    )
    figures = {}
    for name in contenders:
        alone = float(np.median(single[name]))
        ratio = alone / float(np.median(single[mine]))
        each, times = in_batch.get(name), in_batch.get(name, np.nan) / in_batch[mine]
        right = same(np.array(rows[name][:5]), exact[: len(rows[name])])
        cells = (
            f"{each * 1e3:10.2f} ms {times:14.1f}"
            if each is not None
            else f"{'-':>13s} {'-':>14s}"
        )
        print(f"{name:42s} {alone * 1e3:7.1f} ms {ratio:14.1f} {cells}  {right:.0%}")
        figures[name] = {"single_s": alone, "batch_s": each, "found": right}
    if FLAGS.probe:
        del cascade, index
        fit, rank = time_probe(vectors, rng)
        print(
            f"\nafter a mark: fit to 140 marks {fit * 1e3:.0f} ms, score and sort all "
            f"rows {rank * 1e3:.0f} ms"
        )
        figures["after a mark"] = {"fit_s": fit, "rank_s": rank}
    if FLAGS.out:
        write_json(
            FLAGS.out, {"figures": figures, "provenance": provenance(FLAGS.seed)}
        )


if __name__ == "__main__":
    app.run(main)
