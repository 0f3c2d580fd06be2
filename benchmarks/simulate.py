"""A simulated person marks results, for every class: how good does the list get?

    python -m benchmarks.simulate --embeddings=runs/b/embeddings --queries=4 --policies=boundary,top

    python -m benchmarks.simulate --embeddings=runs/b/embeddings --relevant="true_leaves BETWEEN 4 AND 6" --queries=24

Queries are drawn at random from each class (seeded). The person answers by class name, or, with --relevant, by whether a crop
meets an SQL condition; the queries are then drawn from the crops that do. Reported after `rounds` rounds,
as means over queries with a 95 % bootstrap interval over queries: P@k over everything but the query, P@k over crops
that nobody marked, R-precision.
"""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
from absl import app, flags

from data.embeddings import EmbeddingSet
from data.progress import progress_bar
from data.where import rows_where
from probe.feedback import POLICIES, Round, simulate
from probe.metrics import mean_and_interval

FLAGS = flags.FLAGS
flags.DEFINE_string("embeddings", None, "Folder of an embedding set with labels.", required=True)
flags.DEFINE_string("relevant", "", "SQL condition on the crop table: what the person looks for, instead of each class.")
flags.DEFINE_integer("queries", 4, "Random queries a class.", lower_bound=1)
flags.DEFINE_integer("rounds", 7, "Rounds of marking.", lower_bound=0)
flags.DEFINE_integer("per_round", 20, "Marks a round.", lower_bound=1)
flags.DEFINE_list("policies", ["boundary", "top"], f"What to mark next, of {', '.join(POLICIES)}.")
flags.DEFINE_integer("k", 50, "Of the precisions.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of the choice of queries.")
flags.DEFINE_string("out", "", "CSV of every round of every session.")


def targets(embeddings: EmbeddingSet) -> dict[str, np.ndarray]:
    """What to look for: name -> which crops are relevant, [N] bool."""
    table = embeddings.table
    if FLAGS.relevant:
        return {FLAGS.relevant: rows_where(table, FLAGS.relevant, "relevant")}
    return {label: table.column("label_name") == label for label in table.classes}


def main(argv: list[str]) -> None:
    del argv
    embeddings = EmbeddingSet.load(FLAGS.embeddings)
    relevant = targets(embeddings)
    rng = np.random.default_rng(FLAGS.seed)
    queries = [
        (label, int(row))
        for label, mask in relevant.items()
        for row in rng.choice(np.flatnonzero(mask), min(FLAGS.queries, mask.sum()), replace=False)
    ]
    sessions: list[tuple[str, str, int, Round]] = []
    jobs = [(policy, label, row) for policy in FLAGS.policies for label, row in queries]
    for policy, label, row in progress_bar(jobs, unit="session", desc="simulating"):
        steps = simulate(embeddings.vectors, relevant[label], row, FLAGS.rounds, FLAGS.per_round, policy, FLAGS.k)
        sessions += [(policy, label, row, figures) for figures, _, _ in steps]

    if FLAGS.out:
        names = [field.name for field in dataclasses.fields(Round)]
        with open(FLAGS.out, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["policy", "label", "query", *names])
            writer.writerows([p, label, embeddings.table.ids[row], *dataclasses.astuple(r)] for p, label, row, r in sessions)

    total = FLAGS.rounds * FLAGS.per_round
    print(f"{len(queries)} queries, {len(relevant)} classes, pool {len(embeddings.table)}, seed {FLAGS.seed}")
    print(f"{'policy':10s} {'marks':>5s}  {'P@k all':>22s}  {'P@k unmarked':>22s}  {'R-precision':>22s}")
    for policy in FLAGS.policies:
        for marks in sorted({0, total}):
            rows = [figures for p, _, _, figures in sessions if p == policy and figures.marks == marks]
            cells = [
                mean_and_interval([getattr(r, name) for r in rows])
                for name in ("precision_all", "precision_unmarked", "r_precision")
            ]
            print(f"{policy:10s} {marks:5d}  " + "  ".join(f"{cell:>22s}" for cell in cells))


if __name__ == "__main__":
    app.run(main)
