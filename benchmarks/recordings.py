"""What bringing recordings together does to a query, where recordings hold the same
plants and where each is mostly one.

    python -m benchmarks.recordings --sets=runs/recipes/fast,runs/a/embeddings

For embedding sets with several recordings and a column of what is a kind (--kind):
macro P@10 over kinds, every crop a query, as the transform `partial` has it, with each
recording's mean taken off, and with recordings brought together (`aligned`). Whole,
then thinned so that nine tenths of each recording are gone but for one kind, drawn
among its six most frequent; --draws of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from absl import app, flags

from artifacts.files import write_json
from artifacts.provenance import provenance
from curation.pool import aligned
from data.embeddings import EmbeddingSet
from data.recordings import recording_numbers
from probe.metrics import macro, macro_interval, retrieval_quality
from probe.transforms import Transform, l2_normalize

FLAGS = flags.FLAGS
K, FREQUENT, GONE = 10, 6, 0.9


def without_means(embeddings: EmbeddingSet) -> np.ndarray:
    """Unit vectors less the mean of their recording's, [N, D]."""
    recording = recording_numbers(embeddings.table)
    unit = l2_normalize(embeddings.vectors)
    for number in np.unique(recording):
        unit[recording == number] -= unit[recording == number].mean(axis=0)
    return unit


WAYS: dict[str, Callable[[EmbeddingSet], np.ndarray]] = {
    "partial": lambda embeddings: np.asarray(embeddings.vectors),
    "recording's mean off": without_means,
    "aligned": lambda embeddings: np.asarray(aligned(embeddings).vectors),
}


def mostly_one(embeddings: EmbeddingSet, kinds: np.ndarray, draw: int) -> np.ndarray:
    """Which crops are left where each recording is mostly of one kind, [N] bool."""
    rng = np.random.default_rng(draw)
    recording = recording_numbers(embeddings.table)
    names, kind = np.unique(kinds, return_inverse=True)
    kept = np.ones(len(kinds), bool)
    for number in np.unique(recording):
        rows = np.flatnonzero(recording == number)
        counts = np.bincount(kind[rows], minlength=len(names))
        main = rng.choice(np.argsort(-counts, kind="stable")[:FREQUENT])
        others = rows[kind[rows] != main]
        kept[others[rng.random(len(others)) < GONE]] = False
    return kept


def cases(embeddings: EmbeddingSet) -> Iterator[tuple[str, EmbeddingSet]]:
    """The set, and what is left of it in each draw."""
    every = np.ones(len(embeddings.table), bool)
    yield "whole", embeddings.take(every)
    for draw in range(FLAGS.draws):
        kinds = embeddings.table.column(FLAGS.kind).astype(str)
        yield f"thinned, {draw}", embeddings.take(mostly_one(embeddings, kinds, draw))


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    rows = []
    for name in FLAGS.sets:
        for case, part in cases(EmbeddingSet.load(name)):
            kinds = part.table.column(FLAGS.kind).astype(str)
            cells = [name, case, f"{len(kinds):,}"]
            for vectors in (way(part) for way in WAYS.values()):
                transform = Transform.fit("partial", vectors)
                found = retrieval_quality(vectors, kinds, K, transform=transform)
                low, high = macro_interval(found)
                cells.append(f"{macro(found):.3f} [{low:.3f}, {high:.3f}]")
            rows.append(cells)
            print(f"| {' | '.join(cells)} |", flush=True)
    head = ["set", "recordings", "crops", *WAYS]
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(cells)} |")
    folder = Path(FLAGS.dir)
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"kind": FLAGS.kind, "rows": rows, "provenance": provenance(0)}
    write_json(folder / "recordings.json", facts)


if __name__ == "__main__":
    flags.DEFINE_list("sets", None, "Folders of embedding sets.", required=True)
    flags.DEFINE_string("kind", "species", "Column of the crop table.")
    flags.DEFINE_integer("draws", 3, "Thinned sets.", lower_bound=0)
    flags.DEFINE_string("dir", "runs/recordings", "Where the table goes.")
    app.run(main)
