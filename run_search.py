"""Searches an embedding set by example, and re-ranks it from your marks.

    python run_search.py --embeddings=runs/a/embeddings --query=<crop_id or image path> --k=50 --sheet=out.png --out=out.csv

Write 1 (relevant) or 0 into the column `relevant` of out.csv, in a spreadsheet or an editor, and give it back: a linear
probe learns from the marks and re-ranks everything.

    python run_search.py --embeddings=runs/a/embeddings --query=<crop_id> --marks=out.csv --sheet=better.png

`--simulate_label=NAME` plays the person who marks, by class names, to see what marking would bring. `--evaluate` takes
every crop as a query in turn. TensorFlow is loaded only for a query image from outside the set.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import app, flags

from data.contact_sheet import Sheet, Tile, draw_sheets, write_sheet
from data.embeddings import EmbeddingSet
from data.files import check_writable, write_atomically, write_json
from data.provenance import provenance
from probe.metrics import macro, retrieval_quality, wilson_interval
from probe.search import CosineIndex, Hits
from probe.transforms import l2_normalize

FLAGS = flags.FLAGS
flags.DEFINE_string("embeddings", None, "Folder of an embedding set, made by run_finetune.py.", required=True)
flags.DEFINE_multi_string("query", [], "Crop id, or path of an image in the set or outside it. Several: their mean direction.")
flags.DEFINE_integer("k", 50, "How many results.")
flags.DEFINE_string("marks", "", "CSV with the columns crop_id and relevant (1 or 0): re-rank by a linear probe.")
flags.DEFINE_string("simulate_label", "", "Play a person who marks crops of this class as relevant.")
flags.DEFINE_integer("rounds", 7, "Rounds of marking of the simulated person.", lower_bound=1)
flags.DEFINE_integer("per_round", 20, "Marks a round.", lower_bound=1)
flags.DEFINE_enum("policy", "boundary", ["boundary", "top", "mix"], "What the simulated person is asked next.")
flags.DEFINE_string("sheet", "", "Contact sheet to draw (.png); with marks or --compare, before and after side by side.")
flags.DEFINE_string("compare", "", "Another embedding set of the same crops, searched with the same query for the sheet.")
flags.DEFINE_string("out", "", "Result list to write (.csv), with its provenance beside it (.json).")
flags.DEFINE_bool("evaluate", False, "Retrieval quality with every labelled crop as a query, macro over classes.")
flags.DEFINE_string("split", "", "With --evaluate: queries and pool from this split alone.")
flags.DEFINE_string("images_root", "", "Where the images are now, if the folder has moved since they were embedded.")
flags.DEFINE_integer("seed", 0, "Of the probe's cross-validation.")


@dataclass(frozen=True)
class Query:
    """What to search for."""

    vectors: np.ndarray  # [q, D] float32, one an example
    rows: list[int]  # rows of the examples that are in the set
    tiles: list[Tile]
    label: str  # class of the examples, "" where it is unknown or they differ

    @property
    def direction(self) -> np.ndarray:
        """Unit vector to search along: the mean of the unit examples, [D]."""
        return l2_normalize(l2_normalize(self.vectors).mean(axis=0))


def find_query(embeddings: EmbeddingSet, index: CosineIndex, examples: Sequence[str]) -> Query:
    """Looks examples up by crop id, then by image path; embeds an image from outside with the set's own encoder."""
    table, rows, outside = embeddings.table, [], []
    row_of_id = {crop_id: row for row, crop_id in enumerate(table.ids)}
    for example in examples:
        if example in row_of_id:
            rows.append(row_of_id[example])
        elif of_image := _rows_of_image(embeddings, example):
            if len(of_image) > 1:
                raise ValueError(f"query {example!r} holds {len(of_image)} crops; name one: {', '.join(table.ids[of_image])}")
            rows += of_image
        elif Path(example).is_file():
            outside.append(example)
        else:
            index.rows_of([example], "query (a crop id, or the path of an image)")
    vectors = [np.asarray(embeddings.vectors[rows])] + ([embed_outside(embeddings, outside)] if outside else [])
    tiles = [tile(embeddings, row) for row in rows] + [Tile(Path(path), None, "", "outside the set") for path in outside]
    labels = {table.column("label_name")[row] for row in rows}
    return Query(np.concatenate(vectors), rows, tiles, labels.pop() if len(labels) == 1 else "")


def _rows_of_image(embeddings: EmbeddingSet, path: str) -> list[int]:
    images = embeddings.table.column("image")
    relative = Path(path).as_posix()
    resolved = Path(path).resolve()
    if resolved.is_relative_to(embeddings.table.root.resolve()):
        relative = resolved.relative_to(embeddings.table.root.resolve()).as_posix()
    return [int(row) for row in np.flatnonzero(images == relative)]


def embed_outside(embeddings: EmbeddingSet, paths: Sequence[str]) -> np.ndarray:
    """Embeds images with the encoder that made the set; refuses if its weights have changed since."""
    from data.images import cut, read_image
    from simclr_tf2.encoders import EncoderConfig, make_encoder

    meta = embeddings.meta
    weights = meta["weights"]
    if weights.startswith(".."):
        weights = str(embeddings.folder / weights)
    encoder = make_encoder(EncoderConfig(meta["encoder"], weights))
    if encoder.content_hash() != meta["encoder_hash"]:
        raise ValueError(f"the encoder at {weights!r} isn't the one that made {embeddings.folder}: its weights have changed")
    images = [read_image(path) for path in paths]
    return encoder.embed(np.stack([np.asarray(cut(image, (0, 0, *image.size), meta["image_size"])) for image in images]))


def tile(embeddings: EmbeddingSet, row: int, caption: str = "query") -> Tile:
    table = embeddings.table
    return Tile(table.path(row), table.boxes[row], table.column("label_name")[row], caption)


@dataclass(frozen=True)
class Result:
    """A ranking to report."""

    title: str
    hits: Hits  # the first k over everything but the query
    unmarked: Hits | None = None  # the first k over crops that nobody marked; None where nothing is marked
    marks: dict[int, bool] | None = None  # row -> relevant


def search(index: CosineIndex, query: Query, k: int, title: str) -> Result:
    return Result(title, index.search(query.direction, k, exclude=query.rows)[0])


def search_with_probe(index: CosineIndex, query: Query | None, marks: dict[int, bool], k: int) -> Result:
    """Fits a linear probe to the marks, and to the query as one more relevant example, and ranks everything by it."""
    from probe.linear_probe import LinearProbe  # scikit-learn takes a second to import, which a plain search needn't wait for

    rows = list(marks)
    vectors, relevant = np.asarray(index.vectors[rows]), list(marks.values())
    if query is not None:
        new = [place for place in range(len(query.vectors)) if place >= len(query.rows) or query.rows[place] not in marks]
        vectors, relevant = np.concatenate([vectors, query.vectors[new]]), relevant + [True] * len(new)
    probe = LinearProbe(seed=FLAGS.seed).fit(vectors, np.array(relevant))
    own = query.rows if query is not None else []
    hits, unmarked = (_confidence(index.search(probe.coef_, k, exclude=out)[0], probe) for out in (own, {*own, *rows}))
    return Result(f"linear probe, {len(marks)} marks, C = {probe.C_:g}", hits, unmarked, marks)


def _confidence(hits: Hits, probe) -> Hits:
    return Hits(hits.rows, 1 / (1 + np.exp(-(hits.scores + probe.intercept_))))


def simulate_marks(index: CosineIndex, query: Query, labels: np.ndarray) -> dict[int, bool]:
    """Plays the person of --simulate_label and prints every round."""
    from probe.feedback import simulate
    from probe.linear_probe import LinearProbe

    relevant = labels == FLAGS.simulate_label
    if not relevant.any():
        raise ValueError(f"simulate_label must be one of {', '.join(sorted(set(labels) - {''}))}; got {FLAGS.simulate_label!r}")
    if len(query.rows) != 1 or not relevant[query.rows[0]]:
        raise ValueError(
            f"query must be one crop of class {FLAGS.simulate_label!r} when that class is simulated; it is of {query.label!r}"
        )
    print(f"marks  relevant  P@{FLAGS.k} over everything  P@{FLAGS.k} over unmarked  average precision")
    rows = np.array([], np.int64)
    steps = simulate(
        index.vectors,
        relevant,
        query.rows[0],
        FLAGS.rounds,
        FLAGS.per_round,
        FLAGS.policy,
        FLAGS.k,
        lambda: LinearProbe(seed=FLAGS.seed),
    )
    for figures, marked, _ in steps:
        rows = marked
        print(
            f"{figures.marks:5d}  {figures.found:8d}  {figures.precision_all:20.2f}  {figures.precision_unmarked:18.2f}"
            f"  {figures.average_precision:17.3f}",
            flush=True,
        )
    return {int(row): bool(relevant[row]) for row in rows}


def report(embeddings: EmbeddingSet, result: Result, label: str) -> None:
    """Prints the first results, what classes they are of, and the precision where the class is known."""
    table, names = embeddings.table, embeddings.table.column("label_name")
    print(f"\n{result.title}\nrank   score  {'class':24s}  crop_id       image")
    for rank, (row, score) in enumerate(zip(result.hits.rows[:10], result.hits.scores, strict=False), 1):
        print(f"{rank:4d}  {score:6.3f}  {names[row] or '-':24s}  {table.ids[row]}  {table.column('image')[row]}")
    if not any(names):
        return
    counts = Counter(names[result.hits.rows]).most_common(5)
    print(f"top {len(result.hits.rows)}: " + ", ".join(f"{name or 'unlabelled'} {count}" for name, count in counts))
    if label:
        for hits, over in ((result.hits, "everything"), (result.unmarked, "unmarked crops")):
            if hits is not None:
                right, k = int((names[hits.rows] == label).sum()), len(hits.rows)
                low, high = wilson_interval(right, k)
                print(f"{right} of {k} over {over} are {label}: {right / k:.2f} [{low:.2f}, {high:.2f}]")


def sheet_of(embeddings: EmbeddingSet, query: Query | None, result: Result, label: str) -> Sheet:
    hits, marks = result.hits, result.marks or {}
    names = embeddings.table.column("label_name")
    sign = {True: " +", False: " -", None: ""}
    tiles = [
        tile(embeddings, row, f"{score:.3f}{sign[marks.get(int(row))]}") for row, score in zip(hits.rows, hits.scores, strict=True)
    ]
    counted = f": {int((names[hits.rows] == label).sum())} of {len(hits.rows)}" if label else ""
    return Sheet(result.title + counted, query.tiles if query else [], tiles)


def write_results(path: Path, embeddings: EmbeddingSet, result: Result) -> None:
    """Writes the ranking as CSV, ready to be marked, and its provenance as JSON beside it."""
    table, marks = embeddings.table, result.marks or {}
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["rank", "crop_id", "score", "relevant", "label_name", "image", "left", "top", "right", "bottom"])
    for rank, (row, score) in enumerate(zip(result.hits.rows, result.hits.scores, strict=True), 1):
        mark = {True: 1, False: 0, None: ""}[marks.get(int(row))]
        columns = [table.column(name)[row] for name in ("label_name", "image", "left", "top", "right", "bottom")]
        writer.writerow([rank, table.ids[row], f"{score:.6f}", mark, *columns])
    shown = {int(row) for row in result.hits.rows}
    for row in [row for row in marks if row not in shown]:  # so that a list given back as marks loses none
        columns = [table.column(name)[row] for name in ("label_name", "image", "left", "top", "right", "bottom")]
        writer.writerow(["", table.ids[row], "", int(marks[row]), *columns])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
    facts = {"title": result.title, "query": list(FLAGS.query), "k": FLAGS.k, "marks": len(marks)}
    hashes = {name: embeddings.meta[name] for name in ("encoder_hash", "sha256", "table_hash")}
    write_json(path.with_suffix(".json"), {**facts, "embeddings": hashes, "provenance": provenance(FLAGS.seed)})


def evaluate(embeddings: EmbeddingSet) -> None:
    """Prints P@k and R-precision for every class and their macro average."""
    vectors, labels = embeddings.vectors, embeddings.table.column("label_name")
    if FLAGS.split:
        from data.splits import split_mask

        inside = split_mask(embeddings.table, FLAGS.split)
        vectors, labels = vectors[inside], labels[inside]
    qualities = retrieval_quality(vectors, labels, FLAGS.k)
    if not qualities:
        raise ValueError("evaluate needs at least two crops of a class; this set has no labels")
    print(f"{'class':28s} {'crops':>6s}  P@{FLAGS.k:<4d}  R-precision")
    for quality in qualities:
        note = f"  (at most {quality.ceiling:.2f})" if quality.ceiling < 1 else ""
        print(f"{quality.label:28s} {quality.count:6d}  {quality.precision:.3f}   {quality.r_precision:.3f}{note}")
    print(f"{'macro average':28s} {len(labels):6d}  {macro(qualities):.3f}   {macro(qualities, 'r_precision'):.3f}")


def check_flags() -> None:
    if FLAGS.evaluate:
        return
    if not FLAGS.query and not FLAGS.marks:
        raise ValueError("query must be given (a crop id, or the path of an image), or marks, or --evaluate")
    if FLAGS.marks and FLAGS.simulate_label:
        raise ValueError("marks and simulate_label exclude each other: either you mark, or the simulated person does")
    for name in ("sheet", "out"):
        if getattr(FLAGS, name):
            check_writable(Path(getattr(FLAGS, name)).absolute().parent, name)
    if FLAGS.sheet and Path(FLAGS.sheet).suffix.lower() != ".png":
        raise ValueError(f"sheet must be a .png file; got {FLAGS.sheet!r}")


def run() -> None:
    """The whole job; raises ValueError or OSError with a message for the user."""
    check_flags()
    embeddings = EmbeddingSet.load(FLAGS.embeddings, FLAGS.images_root or None)
    if FLAGS.evaluate:
        return evaluate(embeddings)
    index = CosineIndex(embeddings.vectors, embeddings.table.ids)
    query = find_query(embeddings, index, FLAGS.query) if FLAGS.query else None
    marks: dict[int, bool] = {}
    if FLAGS.marks:
        from probe.marks import Marks

        stated = Marks.read(FLAGS.marks).relevant
        rows = index.rows_of(stated, "marks")
        marks = {int(row): mark for row, mark in zip(rows, stated.values(), strict=True)}
    before = search(index, query, FLAGS.k, "cosine") if query else None
    label = FLAGS.simulate_label or (query.label if query else "")
    if FLAGS.simulate_label:
        assert query is not None
        marks = simulate_marks(index, query, embeddings.table.column("label_name"))
    result = search_with_probe(index, query, marks, FLAGS.k) if marks else before
    assert result is not None  # check_flags asked for a query or marks
    if before is not None and result is not before:
        report(embeddings, before, label)
    report(embeddings, result, label)
    if FLAGS.out:
        write_results(Path(FLAGS.out), embeddings, result)
        print(f"results -> {FLAGS.out}")
    if FLAGS.sheet:
        drawn = [sheet_of(embeddings, query, result, label)]
        if FLAGS.compare:
            drawn.insert(0, compare(query, label))
        elif before is not None and result is not before:
            drawn.insert(0, sheet_of(embeddings, query, before, label))
        write_sheet(FLAGS.sheet, draw_sheets(drawn, embeddings.table.classes))
        print(f"contact sheet -> {FLAGS.sheet}")
    return None


def compare(query: Query | None, label: str) -> Sheet:
    """The same query in another embedding set, by cosine."""
    if query is None:
        raise ValueError("compare needs a query")
    other = EmbeddingSet.load(FLAGS.compare, FLAGS.images_root or None)
    index = CosineIndex(other.vectors, other.table.ids)
    theirs = find_query(other, index, FLAGS.query)
    return sheet_of(other, theirs, search(index, theirs, FLAGS.k, f"cosine, {FLAGS.compare}"), label)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        run()
    except (ValueError, OSError) as error:
        raise SystemExit(f"run_search.py: {error}") from None


if __name__ == "__main__":
    app.run(main)
