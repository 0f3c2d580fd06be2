"""What does a second look bring? Wrong marks and wrong labels, simulated.

    python -m benchmarks.mistakes --embeddings=runs/a/embeddings

Marks: for every class of --classes and random queries an annotator makes 140 marks, of
which --noise are wrong. The ten that the others contradict most are looked at and
mended. R-precision over everything (by the truth) before, after, and with the same
crops marked rightly: how much of what was lost is regained.

Labels: --noise of all labels are changed at random to another class; how many of the
first so many of the list are wrong, and how many of the wrong ones the whole list has.
Labels that were wrong before count as right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from absl import app, flags

from artifacts.progress import progress_bar
from benchmarks.queries import CLASSES, random_queries
from curation.mistakes import doubtful_labels
from curation.pool import Pool
from curation.query import Examples, Query
from curation.session import Session
from curation.simulation import SimulatedAnnotator, simulate
from data.embeddings import EmbeddingSet
from probe.metrics import mean_and_interval, precision_at_k

FLAGS = flags.FLAGS
flags.DEFINE_list("embeddings", None, "Folders of sets with labels.", required=True)
flags.DEFINE_enum("classes", "odd", CLASSES, "Which are looked for.")
flags.DEFINE_integer("queries", 10, "Random queries a class.", lower_bound=1)
flags.DEFINE_float("noise", 0.05, "Share of wrong answers and labels.")
flags.DEFINE_integer("reviewed", 10, "Marks that are looked at again.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of queries and mistakes.")


def quality(pool: Pool, query: int, marks: dict[int, bool], truth: np.ndarray) -> float:
    """R-precision over everything but the query, after these marks."""
    session = Session(pool, query=Query(Examples((query,))))
    session.mark({str(pool.ids[row]): bool(mark) for row, mark in marks.items()})
    found = truth[session.learned().ranking.rows]
    return precision_at_k(found, int(found.sum()))


def review(pool: Pool, query: int, truth: np.ndarray, seed: int) -> dict[str, float]:
    """One annotator's marks: how many were wrong, how many of those were found, and
    R-precision before, after a second look, and without a mistake.
    """
    annotator = SimulatedAnnotator(truth, FLAGS.noise, seed)
    played = simulate(pool, annotator, query, rounds=7, per_round=20, k=10)
    session = [session for _, session in played][-1]
    marks = session.marks()
    first = pool.rows(list(session.doubtful())[: FLAGS.reviewed])
    mended = marks | {row: bool(truth[row]) for row in first}
    right = {row: bool(truth[row]) for row in marks}
    return {
        "wrong": sum(marks[row] != truth[row] for row in marks),
        "found": sum(marks[row] != truth[row] for row in first),
        "before": quality(pool, query, marks, truth),
        "after": quality(pool, query, mended, truth),
        "right": quality(pool, query, right, truth),
    }


def reviews(folder: str) -> Iterator[dict[str, float]]:
    """Of every class and query."""
    pool = Pool(EmbeddingSet.load(folder))
    labels = pool.table.column("label_name")
    asked = (FLAGS.classes, FLAGS.queries, FLAGS.seed)
    jobs = random_queries(pool.table, *asked)
    for name, row in progress_bar(jobs, total=len(jobs), unit="session", desc=folder):
        yield review(pool, row, labels == name, row)


def print_labels(folder: str) -> None:
    """Changes labels at random, and looks for those that were changed."""
    embeddings = EmbeddingSet.load(folder)
    table = embeddings.table
    labels = table.column("label_name").copy()
    rng = np.random.default_rng(FLAGS.seed)
    known = np.flatnonzero(labels != "")
    changed = rng.permutation(known)[: round(FLAGS.noise * len(known))]
    for row in changed:
        others = [name for name in table.classes if name != labels[row]]
        labels[row] = rng.choice(others)
    rows = table.rows.set_column(
        table.rows.column_names.index("label_name"), "label_name", [labels.tolist()]
    )
    wrong = dataclasses.replace(table, rows=rows)
    found = doubtful_labels(Pool(dataclasses.replace(embeddings, table=wrong)))
    listed = np.array([one.row for one in found], np.int64)
    hits = np.isin(listed, changed)
    former = table.column("label_name")[listed]
    right = np.array([one.suggested for one in found]) == former
    count = len(changed)
    print(
        f"  labels: {count} of {len(known)} changed; {hits[:count].mean():.3f} of the "
        f"first {count} of the list are among them; the list has {len(listed)} crops "
        f"and {hits.sum() / count:.3f} of those changed, {right[hits].mean():.3f} of "
        "them with their former name"
    )


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    for folder in FLAGS.embeddings:
        found = list(reviews(folder))
        columns = {name: np.array([one[name] for one in found]) for name in found[0]}
        lost = columns["right"] - columns["before"]
        regained = columns["after"] - columns["before"]
        share = regained.mean() / lost.mean() if lost.mean() > 0 else float("nan")
        print(
            f"\n{folder}, {len(found)} sessions of 140 marks, {FLAGS.noise:.0%} wrong, "
            f"seed {FLAGS.seed}\n  marks: {columns['wrong'].mean():.1f} wrong; of "
            f"{FLAGS.reviewed} looked at again {columns['found'].mean():.1f} were; "
            f"R-precision {mean_and_interval(columns['before'].tolist())} -> "
            f"{mean_and_interval(columns['after'].tolist())}, without mistakes "
            f"{mean_and_interval(columns['right'].tolist())}: lost "
            f"{mean_and_interval(lost.tolist())}, regained "
            f"{mean_and_interval(regained.tolist())}, {share:.0%}"
        )
        print_labels(folder)


if __name__ == "__main__":
    app.run(main)
