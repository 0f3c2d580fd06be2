"""How long is a re-fit and a re-rank after a mark, and what does it cost in ranking
that C is chosen on a part of many marks?

    python -m benchmarks.learning                        # 112,000 x 2,048, synthetic
    python -m benchmarks.learning --embeddings=runs/a/embeddings,runs/b/embeddings

Time: vectors as in `benchmarks.search` (normal, spectrum of real embeddings), a class
of a tenth of them that a linear function with noise decides, marks in random order;
medians over repetitions, in one process with two threads, with the transform that pools
have. `pass` is one matrix-vector product over everything, for comparison.

Ranking: with labels, for each class a probe learns from --marks random crops and ranks
the others, once with C chosen on 256 of the marks and once on all; average precision.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")

import time
from collections.abc import Callable
from unittest import mock

import numpy as np
from absl import app, flags

from curation.pool import Pool
from data.embeddings import EmbeddingSet
from probe import linear_probe
from probe.index import CosineIndex
from probe.linear_probe import LinearProbe
from probe.methods import learn_from
from probe.metrics import average_precision, mean_and_interval
from probe.query_strategies import suggest
from probe.transforms import Transform

FLAGS = flags.FLAGS
flags.DEFINE_integer("rows", 112_000, "Vectors.", lower_bound=5000)
flags.DEFINE_integer("width", 2048, "Their dimensions.", lower_bound=2)
flags.DEFINE_list("marks", ["140", "500", "2000"], "Numbers of marks.")
flags.DEFINE_integer("repetitions", 9, "Of each time.", lower_bound=1)
flags.DEFINE_list(
    "embeddings", [], "Embedding sets with labels: compare rankings instead."
)
flags.DEFINE_integer("seed", 0, "Of vectors, marks and their order.")


def seconds(work: Callable[[], object]) -> float:
    """Median seconds of some repetitions, after one that isn't counted."""
    work()
    found = []
    for _ in range(FLAGS.repetitions):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return float(np.median(found))


def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [rows, width] float32 and which are of the class [rows] bool."""
    spread = np.arange(1, FLAGS.width + 1) ** -0.6
    vectors = np.empty((FLAGS.rows, FLAGS.width), np.float32)
    for start in range(0, FLAGS.rows, 8192):
        part = vectors[start : start + 8192]
        part[:] = rng.normal(size=part.shape) * spread
    vectors[:, 0] += 1  # what all crops share
    along = rng.normal(size=FLAGS.width) * spread**0.5
    scores = vectors @ along.astype(np.float32)
    scores += (0.3 * scores.std() * rng.normal(size=FLAGS.rows)).astype(np.float32)
    return vectors, scores > np.quantile(scores, 0.9)


def time_everything() -> None:
    """Prints what a mark takes, by the number of marks before it."""
    rng = np.random.default_rng(FLAGS.seed)
    vectors, relevant = make(rng)
    ids = [f"{row:07d}" for row in range(len(vectors))]
    index = CosineIndex(vectors, ids, transform=Transform.fit("partial", vectors))
    index.scores(np.ones(index.dim))  # what is found in the first pass
    one = vectors[0].copy()
    plain = seconds(lambda: vectors @ one)
    print(
        f"{FLAGS.rows:,} x {FLAGS.width:,}, {index.dim} directions, seed {FLAGS.seed}; "
        f"a pass takes {plain * 1e3:.0f} ms\n"
    )
    print(f"{'marks':>6s} {'fit':>8s} {'score':>8s} {'rank':>8s} {'all':>8s} passes")
    kinds = [rng.permutation(np.flatnonzero(relevant == kind)) for kind in (1, 0)]
    for count in map(int, FLAGS.marks):
        part = 2 * count // 5
        rows = rng.permutation(np.append(kinds[0][:part], kinds[1][: count - part]))
        marks = {int(row): bool(relevant[row]) for row in rows}
        _time_marks(index, marks, vectors[kinds[0][-1:]], plain)


def _time_marks(
    index: CosineIndex, marks: dict[int, bool], query: np.ndarray, plain: float
) -> None:
    ranker = learn_from(index, marks, examples=query)
    decision = index.decision(ranker)
    ranking = index.rank(ranker, decision=decision)
    times = [
        seconds(lambda: learn_from(index, marks, examples=query)),
        seconds(lambda: index.decision(ranker)),
        seconds(lambda: index.rank(ranker, decision=decision).page(0, 400)),
    ]
    asked = seconds(
        lambda: suggest(
            ranking,
            decision,
            20,
            unit_vectors=index.remembered,
            known=np.array(list(marks)),
            relevant=sum(marks.values()),
        )
    )
    cells = " ".join(f"{value * 1e3:5.0f} ms" for value in [*times, sum(times)])
    print(
        f"{len(marks):6d} {cells} {sum(times) / plain:6.1f}   "
        f"({asked * 1e3:.0f} ms for 20 suggestions, where they are asked for)"
    )


def compare_rankings(folder: str) -> None:
    """Prints average precision with C chosen on 256 marks and on all."""
    embeddings = EmbeddingSet.load(folder)
    index = Pool(embeddings).index
    unit = index.unit_vectors(np.arange(len(index)))
    labels = embeddings.table.column("label_name")
    for count in map(int, FLAGS.marks):
        if not linear_probe.CHOOSING < count < len(unit):
            continue
        found: dict[int, list[float]] = {linear_probe.CHOOSING: [], len(unit): []}
        for number, name in enumerate(embeddings.table.classes):
            order = np.random.default_rng([FLAGS.seed, number]).permutation(len(unit))
            marked, others = order[:count], order[count:]
            relevant = labels == name
            if min(relevant[marked].sum(), relevant[others].sum()) == 0:
                continue
            for most, precisions in found.items():
                with mock.patch.object(linear_probe, "CHOOSING", most):
                    probe = LinearProbe().fit(unit[marked], relevant[marked])
                best = np.argsort(-probe.decision_function(unit[others]))
                precisions.append(average_precision(relevant[others][best]))
        part, whole = found.values()
        differences = np.subtract(part, whole).tolist()
        print(
            f"{folder}, {count} marks, {len(part)} classes: average precision "
            f"{mean_and_interval(part)} with C chosen on {linear_probe.CHOOSING}, "
            f"{mean_and_interval(whole)} on all; difference "
            f"{mean_and_interval(differences)}"
        )


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    if not FLAGS.embeddings:
        return time_everything()
    for folder in FLAGS.embeddings:
        compare_rankings(folder)
    return None


if __name__ == "__main__":
    app.run(main)
