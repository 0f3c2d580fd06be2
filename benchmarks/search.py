"""How fast is exact search, and what does exactness cost? This project's in memory and
on disk against NumPy, scikit-learn, FAISS and USearch, one query at a time and in
batches; with --approximate also against HNSW and IVF, with their recall.

    S="python -m benchmarks.search"
    $S                                    # 200,000 x 1,280, spectrum of ImageNet ones
    $S --embeddings=runs/a/embeddings     # the spectrum of your embeddings
    $S --rows=112000 --width=2048 --probe  # also: fit to 140 marks, rank everything
    $S --rows=10000000 --width=256 --disk  # ten million, written and searched there

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

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from artifacts.files import write_json
from artifacts.provenance import provenance
from benchmarks.memory import memory
from data.embeddings import EmbeddingSet
from data.stored_vectors import StoredVectors
from probe.cascade import Cascade
from probe.index import CosineIndex
from probe.methods import learn
from probe.transforms import Transform, l2_normalize

FLAGS = flags.FLAGS
MINE = "cascade (this project)"
CHECKED = 5  # queries whose results are compared with float64
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
flags.DEFINE_bool("approximate", False, "Also approximate indexes.")
flags.DEFINE_bool("disk", False, "Vectors on the disk alone, against a pass over them.")
flags.DEFINE_string("folder", "", "Where files are put meanwhile.")
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


def make_vectors(
    rng: np.random.Generator, into: np.ndarray | None = None
) -> np.ndarray:
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
    vectors = (
        np.empty((FLAGS.rows, spread.shape[1]), np.float32) if into is None else into
    )
    for start in range(0, len(vectors), 10_000):
        rows = vectors[start : start + 10_000]
        rows[:] = (
            rng.standard_normal(rows.shape, np.float32) @ spread.astype(np.float32)
            + mean
        )
        rows[:] = l2_normalize(rows)
    return vectors


@dataclass
class Contender:
    """A way to search.

    Attributes:
        search: queries [Q, D] -> rows [Q, k], best first.
        built: seconds that its index took; 0 of what has none.
        held: bytes besides the vectors themselves.
        is_exact: whether it means to be.
    """

    search: Callable[[np.ndarray], np.ndarray]
    built: float = 0.0
    held: int = 0
    is_exact: bool = True


def ours(index: CosineIndex) -> Callable[[np.ndarray], np.ndarray]:
    """This project's search."""
    return lambda queries: np.stack(
        [hits.rows for hits in index.search_along(queries, FLAGS.k)]
    )


def indexed(vectors: Any, folder: Path | None = None) -> tuple[CosineIndex, float, int]:
    """An index of unit vectors, in memory or on disk; with the seconds that it took,
    and its bytes.
    """
    seconds, cascade = timed(lambda: Cascade.build(vectors, Transform(), folder=folder))
    held = sum(array.nbytes for array in (*cascade.levels, *cascade.rest))
    index = CosineIndex(vectors, np.arange(len(vectors)), cascade=cascade)
    return index, seconds, held


def methods(vectors: np.ndarray, folder: Path) -> dict[str, Contender]:
    """All that are compared, by name."""
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

    index, built, held = indexed(vectors)
    found = {MINE: Contender(ours(index), built, held)}
    np.save(folder / "vectors.npy", vectors)
    mapped = np.load(folder / "vectors.npy", mmap_mode="r")
    index, built, held = indexed(mapped, folder / "cascade")
    found["cascade, on disk (warm)"] = Contender(ours(index), built, held)
    np.save(folder / "half.npy", vectors.astype(np.float16))
    half = np.load(folder / "half.npy", mmap_mode="r")
    stored = StoredVectors([(half, None)])
    index, built, held = indexed(stored, folder / "cascade16")
    found["cascade, float16 on disk (warm)"] = Contender(ours(index), built, held)
    found["NumPy matrix-vector + argpartition"] = Contender(numpy_search)
    found["scikit-learn cosine_distances + argsort"] = Contender(sklearn_search)
    found |= _of_faiss(vectors)
    found |= _of_usearch(vectors)
    return found


def _of_faiss(vectors: np.ndarray) -> dict[str, Contender]:
    try:
        import faiss
    except ImportError:
        print("FAISS is not installed: no rows for it")
        return {}
    faiss.omp_set_num_threads(2)
    width = vectors.shape[1]
    found: dict[str, Contender] = {}
    indexes: dict[str, tuple[Any, bool]] = {
        "FAISS IndexFlatIP": (faiss.IndexFlatIP(width), True)
    }
    if FLAGS.approximate:
        metric = faiss.METRIC_INNER_PRODUCT
        graph = faiss.IndexHNSWFlat(width, 16, metric)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = 100, 128
        lists = int(4 * np.sqrt(len(vectors)))
        cells = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, metric)
        cells.nprobe = max(1, lists // 64)
        indexes["FAISS HNSW (M 16, ef 100/128)"] = (graph, False)
        indexes[f"FAISS IVF ({lists} lists, {cells.nprobe} probed)"] = (cells, False)
    for name, (index, is_exact) in indexes.items():

        def build(index: Any = index) -> None:
            if not index.is_trained:
                index.train(vectors[:: max(1, len(vectors) // 40_000)])
            index.add(vectors)

        before = _resident()
        built, _ = timed(build)
        found[name] = Contender(
            partial(_by_faiss, index),
            built,
            max(0, _resident() - before),
            is_exact,
        )
    return found


def _by_faiss(index: Any, queries: np.ndarray) -> np.ndarray:
    return index.search(queries, FLAGS.k)[1]


def _of_usearch(vectors: np.ndarray) -> dict[str, Contender]:
    try:
        from usearch.index import Index, MetricKind
        from usearch.index import search as usearch_exact
    except ImportError:
        print("USearch is not installed: no rows for it")
        return {}
    half = vectors.astype(np.float16)

    def exact(queries: np.ndarray) -> np.ndarray:
        given = (half, queries.astype(np.float16), FLAGS.k, MetricKind.IP)
        return np.atleast_2d(usearch_exact(*given, exact=True, threads=2).keys)

    found = {"USearch exact, float16": Contender(exact, held=half.nbytes)}
    if FLAGS.approximate:
        graph = Index(ndim=vectors.shape[1], metric="ip", dtype="f16", connectivity=16)
        before = _resident()
        keys = np.arange(len(vectors))
        built, _ = timed(lambda: graph.add(keys, vectors, threads=2))
        found["USearch HNSW, float16"] = Contender(
            lambda queries: np.atleast_2d(
                graph.search(queries, FLAGS.k, threads=2).keys
            ),
            built,
            max(0, _resident() - before),
            is_exact=False,
        )
    return found


def _resident() -> int:
    """Bytes of its own that this process holds."""
    return int(memory()["own"] * 2**20)


def forget(*folders: Path) -> None:
    """Asks the system to drop its copies of files, so that the disk is read again."""
    for folder in folders:
        for path in folder.glob("**/*.npy"):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


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


def time_first_page(
    vectors: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """Seconds to the whole order of a probe and to its first 50, by the index of a
    projecting transform, medians; marks are 70 like a query and 70 at random.
    """
    transform = Transform.fit("partial", vectors)
    cascade = Cascade.build(vectors, transform)
    ids = np.arange(len(vectors))
    index = CosineIndex(vectors, ids, transform=transform, cascade=cascade)
    wholes, firsts = [], []
    for _ in range(7):
        near = index.search(vectors[rng.integers(len(vectors))], 70).rows
        rows = np.r_[near, rng.choice(len(vectors), 70, replace=False)]
        learnt = learn(index.unit_vectors(rows), np.arange(140) < 70)
        firsts.append(timed(lambda ranker: index.rank(ranker).page(0, 50), learnt)[0])
        wholes.append(
            timed(lambda ranker: index.rank(ranker).page(2500, 50), learnt)[0]
        )
    return float(np.median(wholes)), float(np.median(firsts))


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


def measure_on_disk(folder: Path, rng: np.random.Generator) -> None:
    """More vectors than memory holds: written to the disk, searched from there."""
    shape = (FLAGS.rows, FLAGS.width)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, shape)
    writing, _ = timed(make_vectors, rng, vectors)
    vectors.flush()
    del vectors
    mapped = np.load(folder / "vectors.npy", mmap_mode="r")
    index, built, held = indexed(mapped, folder / "cascade")
    print(
        f"{shape[0]:,} x {shape[1]:,} float32 on disk, {mapped.nbytes / 1e9:.1f} GB, "
        f"written in {writing:.0f} s; index built in {built:.0f} s, "
        f"{held / mapped.nbytes:.0%} of that; k = {FLAGS.k}"
    )
    search = ours(index)
    rows = rng.choice(shape[0], FLAGS.queries, replace=False)
    queries = np.asarray(mapped[np.sort(rows)])

    def by_pass(query: np.ndarray) -> np.ndarray:
        scores = np.empty(shape[0], np.float32)
        for start in range(0, shape[0], 16384):
            part = slice(start, start + 16384)
            scores[part] = mapped[part] @ query
        best = np.argpartition(scores, shape[0] - FLAGS.k)[-FLAGS.k :]
        return best[np.argsort(-scores[best])]

    cold = []
    for query in queries[:3]:
        forget(folder)
        cold.append(timed(search, query[None])[0])
    warm = [timed(search, query[None])[0] for query in queries]
    forget(folder)
    full_cold, _ = timed(by_pass, queries[0])
    passes, found = zip(*(timed(by_pass, query) for query in queries[:3]), strict=True)
    right = same(
        np.concatenate([search(q[None]) for q in queries[:3]]), np.stack(found)
    )
    batch = mapped[np.sort(rng.choice(shape[0], FLAGS.batch, replace=False))]
    each = timed(search, np.asarray(batch))[0] / len(batch)
    alone, full = np.median(warm), np.median(passes)
    print(
        f"one query, warm {alone * 1e3:.0f} ms, cold {np.median(cold):.1f} s; a NumPy "
        f"pass over the vectors {full:.1f} s ({full / alone:.0f} times as long), cold "
        f"{full_cold:.1f} s; in a batch of {len(batch)} {each * 1e3:.0f} ms a query; "
        f"found {right:.0%} of the pass's; own memory {_resident() / 1e9:.1f} GB"
    )


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    rng = np.random.default_rng(FLAGS.seed)
    with tempfile.TemporaryDirectory(dir=FLAGS.folder or None) as folder:
        if FLAGS.disk:
            measure_on_disk(Path(folder), rng)
            print(provenance(FLAGS.seed))
        else:
            compare(Path(folder), rng)


def compare(folder: Path, rng: np.random.Generator) -> None:
    """Every method on the same queries."""
    vectors = make_vectors(rng)
    print(
        f"{len(vectors):,} x {vectors.shape[1]:,} float32, k = {FLAGS.k}, two threads, "
        f"seed {FLAGS.seed}\n"
    )
    queries = vectors[rng.choice(len(vectors), FLAGS.queries, replace=False)]
    exact = np.stack(
        [
            np.argsort(-(vectors.astype(np.float64) @ query), kind="stable")[: FLAGS.k]
            for query in queries[:CHECKED]
        ]
    )
    contenders = methods(vectors, folder)
    single: dict[str, list[float]] = {name: [] for name in contenders}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in contenders}
    for number, query in enumerate(queries):
        for name, one in contenders.items():
            if "scikit" in name and number >= CHECKED:
                continue
            seconds, found = timed(one.search, query[None])
            single[name].append(seconds)
            rows[name].append(found[0])
    batch = vectors[rng.choice(len(vectors), FLAGS.batch, replace=False)]
    in_batch: dict[str, list[float]] = {
        name: [] for name in contenders if "scikit" not in name
    }
    for _ in range(5):  # in turns
        for name, times in in_batch.items():
            times.append(timed(contenders[name].search, batch)[0] / len(batch))

    print(
        f"| method | one query | ratio | in a batch of {len(batch)} | ratio | recall | "
        "built | besides the vectors |\n" + "| --- " * 8 + "|"
    )
    figures = {}
    for name, one in contenders.items():
        alone = float(np.median(single[name]))
        each = float(np.median(in_batch.get(name, [np.nan])))
        ratios = alone / np.median(single[MINE]), each / np.median(in_batch[MINE])
        right = same(np.array(rows[name][:CHECKED]), exact)
        built = f"{one.built:.1f} s" if one.built else "-"
        together = f"{each * 1e3:.2f} ms | {ratios[1]:.2f}" if each > 0 else "- | -"
        print(
            f"| {name} | {alone * 1e3:.1f} ms | {ratios[0]:.1f} | "
            f"{together} | {right:.3f} | {built} | "
            f"{one.held / vectors.nbytes:.0%} |"
        )
        figures[name] = {"single_s": alone, "batch_s": each, "found": right}
        figures[name] |= {"built_s": one.built, "held": one.held}
    if FLAGS.probe:
        del contenders
        fit, rank = time_probe(vectors, rng)
        print(
            f"\nafter a mark: fit to 140 marks {fit * 1e3:.0f} ms, score and sort all "
            f"rows {rank * 1e3:.0f} ms"
        )
        figures["after a mark"] = {"fit_s": fit, "rank_s": rank}
        whole, first = time_first_page(vectors, rng)
        print(
            "with the index, transform partial: first page of a probe "
            f"{first * 1e3:.0f} ms; all rows scored and sorted behind it "
            f"{whole * 1e3:.0f} ms"
        )
        figures["first page"] = {"whole_s": whole, "first_s": first}
    if FLAGS.out:
        write_json(
            FLAGS.out, {"figures": figures, "provenance": provenance(FLAGS.seed)}
        )


if __name__ == "__main__":
    app.run(main)
