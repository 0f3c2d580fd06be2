"""Searches an embedding set by example, and re-ranks it from your marks.

    python run_search.py --embeddings=runs/a/embeddings --query=<crop_id or image path> --k=50 --sheet=out.png --out=out.csv

Write 1 (relevant) or 0 into the column `relevant` of out.csv, in a spreadsheet or an editor, and give it back: a linear
probe learns from the marks and re-ranks everything.

    python run_search.py --embeddings=runs/a/embeddings --query=<crop_id> --marks=out.csv --sheet=better.png

`--where` searches only crops that meet an SQL condition on the crop table's columns. `--simulate_label=NAME` plays the person
who marks, by class names, to see what marking would bring; `--simulate_where` does so by an SQL condition. `--evaluate` takes
every crop as a query in turn. TensorFlow is loaded only for a query image from outside the set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from absl import app, flags

from data.contact_sheet import Sheet, Tile, draw_sheets
from data.embeddings import EmbeddingSet
from data.files import check_writable, write_json
from data.images import CropView, cut, read_image, write_png
from data.provenance import provenance
from data.results import write_results
from data.splits import split_mask
from data.where import rows_where
from probe.metrics import macro, macro_interval, retrieval_quality, wilson_interval
from probe.search import CosineIndex, Hits
from probe.transforms import mean_direction

FLAGS = flags.FLAGS
flags.DEFINE_string("embeddings", None, "Folder of an embedding set, made by run_finetune.py.", required=True)
flags.DEFINE_multi_string(
    "query",
    [],
    "Crop id, or path of an image in the set (with @x,y for the crop at that point) or outside it. Several: their mean.",
)
flags.DEFINE_string("where", "", "Search only crops that meet this SQL condition, such as \"lighting = 'sunny'\".")
flags.DEFINE_integer("k", None, "How many results; default: 50, or as many as there are.")
flags.DEFINE_string("marks", "", "CSV with the columns crop_id and relevant (1 or 0): re-rank by a linear probe.")
flags.DEFINE_string("simulate_label", "", "Play a person who marks crops of this class as relevant.")
flags.DEFINE_string("simulate_where", "", "Play a person who marks crops that meet this SQL condition as relevant.")
flags.DEFINE_string("count_where", "", "Count the results that meet this SQL condition, instead of the query's class.")
flags.DEFINE_integer("rounds", 7, "Rounds of marking of the simulated person.", lower_bound=1)
flags.DEFINE_integer("per_round", 20, "Marks a round.", lower_bound=1)
flags.DEFINE_enum("policy", "boundary", ["boundary", "top", "mix"], "What the simulated person is asked next.")
flags.DEFINE_string("sheet", "", "Contact sheet to draw (.png); with marks or --compare, before and after side by side.")
flags.DEFINE_string("compare", "", "Another embedding set of the same crops, searched with the same query for the sheet.")
flags.DEFINE_string("out", "", "Result list to write (.csv), with its provenance beside it (.csv.json).")
flags.DEFINE_bool("evaluate", False, "Retrieval quality with every labelled crop as a query, macro over classes.")
flags.DEFINE_string("split", "all", "With --evaluate: queries and pool from this split alone.")
flags.DEFINE_string("images_root", "", "Where the images are now, if the folder has moved since they were embedded.")
flags.DEFINE_integer("seed", 0, "Of the probe's cross-validation.")


@dataclass(frozen=True)
class Query:
    """What to search for."""

    vectors: np.ndarray  # [q, D] float32, one an example
    rows: list[int]  # rows of the examples that are in the set, which come first in `vectors`
    tiles: list[Tile]
    label: str  # class of the examples, "" where it is unknown or they differ

    @property
    def direction(self) -> np.ndarray:
        """Unit vector to search along, [D]."""
        return mean_direction(self.vectors)


@dataclass(frozen=True)
class Target:
    """What is looked for, where it is known: to count hits, and for the simulated person."""

    name: str
    relevant: np.ndarray  # [N] bool


@dataclass(frozen=True)
class Result:
    """A ranking to report."""

    title: str
    hits: Hits  # the first k over everything but the query
    queries: Sequence[int] = ()  # rows that were left out for being the query
    unmarked: Hits | None = None  # the first k over crops that nobody marked; None where nothing is marked
    marks: Mapping[int, bool] = field(default_factory=dict)  # row -> relevant


def find_query(embeddings: EmbeddingSet, index: CosineIndex, examples: Sequence[str]) -> Query:
    """Looks examples up by crop id, then by image path; embeds an image from outside with the set's own encoder."""
    table = embeddings.table
    rows: list[int] = []
    outside = []
    for example in examples:
        found = table.find(example)
        if len(found) > 1:
            left, top, right, bottom = table.boxes[found[0]]
            point = f"{example}@{(left + right) // 2},{(top + bottom) // 2}"
            raise ValueError(
                f"query {example!r} holds {len(found)} crops; name one by a point in it, such as {point}, or by its id"
            )
        if not found and Path(example).is_file():
            outside.append(example)
        elif not found:
            image = table.find(example.rpartition("@")[0])
            if image:
                raise ValueError(
                    f"query {example!r} must be a point in a crop; that image has {len(image)} crops, none of them there"
                )
            index.rows_of([example], "query (a crop id, or the path of an image)")
        rows += found
    vectors = [np.asarray(embeddings.vectors[rows])] + ([embed_outside(embeddings, outside)] if outside else [])
    tiles = [tile(embeddings, row, "query") for row in rows] + [Tile(Path(path), None, "", "query") for path in outside]
    labels = {table.column("label_name")[row] for row in rows}
    return Query(np.concatenate(vectors), rows, tiles, labels.pop() if len(labels) == 1 else "")


def embed_outside(embeddings: EmbeddingSet, paths: Sequence[str]) -> np.ndarray:
    """Embeds images with the encoder that made the set; refuses if its weights have changed since."""
    from simclr_tf2.encoders import EncoderConfig, make_encoder  # loads TensorFlow

    meta = embeddings.meta
    weights = str(embeddings.folder / meta["weights"]) if meta["weights"].startswith("..") else meta["weights"]
    encoder = make_encoder(EncoderConfig(meta["encoder"], weights, meta["endpoint"]))
    if encoder.content_hash() != meta["encoder_hash"]:
        raise ValueError(f"the encoder at {weights!r} isn't the one that made {embeddings.folder}: its weights have changed")
    images = [read_image(path) for path in paths]
    view = CropView(**meta.get("view", {"square": False}))
    crops = [cut(image, (0, 0, *image.size), meta["image_size"], view) for image in images]
    return encoder.embed(np.stack([np.asarray(crop) for crop in crops]))


def find_target(embeddings: EmbeddingSet, query: Query | None) -> Target | None:
    """What is looked for: the simulated person's wish, what is to be counted, or the query's class; None where none is known."""
    names = embeddings.table.column("label_name")
    for flag in ("simulate_where", "count_where"):
        condition = getattr(FLAGS, flag)
        if condition:
            return Target(condition, rows_where(embeddings.table, condition, flag))
    name = FLAGS.simulate_label or (query.label if query else "")
    if FLAGS.simulate_label and name not in names:
        raise ValueError(f"simulate_label must be one of {', '.join(sorted(set(names) - {''}))}; got {name!r}")
    return Target(name, names == name) if name else None


def hidden_rows(embeddings: EmbeddingSet) -> np.ndarray:
    """Rows that --where leaves out of the search."""
    return np.flatnonzero(~rows_where(embeddings.table, FLAGS.where)) if FLAGS.where else np.array([], np.int64)


def search(index: CosineIndex, query: Query, hidden: np.ndarray) -> Result:
    left_out = {*query.rows, *hidden.tolist()}
    return Result("cosine", index.search(query.direction, FLAGS.k, exclude=left_out)[0], query.rows)


def search_with_probe(index: CosineIndex, query: Query | None, marks: Mapping[int, bool], hidden: np.ndarray) -> Result:
    from probe.feedback import rerank  # scikit-learn takes a second to import, which a plain search needn't wait for

    examples, rows = (query.vectors, query.rows) if query else (np.empty((0, index.vectors.shape[1]), np.float32), [])
    ranked = rerank(index, marks, examples, rows, FLAGS.k, FLAGS.seed, hidden.tolist())
    probe = ranked.direction.probe
    if probe is None:
        title = f"cosine to the mean of {len(marks)} relevant marks (a probe needs not relevant ones as well)"
    else:
        title = f"linear probe, {len(marks)} marks, C = {probe.C_:g}"
    return Result(title, ranked.everything, rows, ranked.unmarked, marks)


def read_marks(index: CosineIndex) -> dict[int, bool]:
    from probe.marks import Marks

    stated = Marks.read(FLAGS.marks).relevant
    return {int(row): mark for row, mark in zip(index.rows_of(stated, "marks"), stated.values(), strict=True)}


def simulate_marks(index: CosineIndex, query: Query, target: Target) -> dict[int, bool]:
    """Plays the person of --simulate_label or --simulate_where and prints every round."""
    from probe.feedback import simulate
    from probe.linear_probe import LinearProbe

    if len(query.rows) != 1 or not target.relevant[query.rows[0]]:
        raise ValueError(f"query must be one crop that the simulated person would mark as relevant ({target.name!r})")
    print(f"marks  relevant  P@{FLAGS.k} over everything  P@{FLAGS.k} over unmarked  average precision")
    steps = simulate(
        index.vectors,
        target.relevant,
        query.rows[0],
        FLAGS.rounds,
        FLAGS.per_round,
        FLAGS.policy,
        FLAGS.k,
        lambda: LinearProbe(seed=FLAGS.seed),
    )
    marks: dict[int, bool] = {}
    for step, rows, _ in steps:
        marks = {int(row): bool(target.relevant[row]) for row in rows}
        everything, unmarked, precision = step.precision_all, step.precision_unmarked, step.average_precision
        print(f"{step.marks:5d}  {step.found:8d}  {everything:20.2f}  {unmarked:18.2f}  {precision:17.3f}", flush=True)
    return marks


def report(embeddings: EmbeddingSet, result: Result, target: Target | None, hidden: np.ndarray) -> None:
    """Prints the first results, what classes they are of, and the precision where the class is known."""
    table, names = embeddings.table, embeddings.table.column("label_name")
    print(f"\n{result.title}\nrank   score  {'class':24s}  crop_id       image")
    for rank, (row, score) in enumerate(zip(result.hits.rows[:10], result.hits.scores, strict=False), 1):
        print(f"{rank:4d}  {score:6.3f}  {names[row] or '-':24s}  {table.ids[row]}  {table.column('image')[row]}")
    if any(names):
        counts = Counter(names[result.hits.rows]).most_common(5)
        print(f"top {len(result.hits.rows)}: " + ", ".join(f"{name or 'unlabelled'} {count}" for name, count in counts))
    if target is None:
        return
    left = target.relevant.copy()
    left[[*result.queries, *hidden]] = False
    unmarked = left.copy()
    unmarked[list(result.marks)] = False
    where = " that --where leaves" if len(hidden) else ""
    parts = [(result.hits, f"all crops{where}", left), (result.unmarked, f"unmarked crops{where}", unmarked)]
    for hits, over, possible in parts:
        if hits is not None and len(hits.rows):
            right, k, most = int(target.relevant[hits.rows].sum()), len(hits.rows), int(possible.sum())
            low, high = wilson_interval(right, k)
            note = f"; at most {most} can be" if most < k else ""
            print(f"{right} of {k} over {over} are {target.name}: {right / k:.2f}, 95 % interval {low:.2f} to {high:.2f}{note}")


def tile(embeddings: EmbeddingSet, row: int, caption: str) -> Tile:
    table = embeddings.table
    return Tile(table.path(row), table.boxes[row], table.column("label_name")[row], caption)


def sheet_of(embeddings: EmbeddingSet, query: Query | None, result: Result, target: Target | None) -> Sheet:
    hits = result.hits
    sign = {True: " +", False: " -", None: ""}
    captions = [f"{score:.3f}{sign[result.marks.get(int(row))]}" for row, score in zip(hits.rows, hits.scores, strict=True)]
    tiles = [tile(embeddings, row, caption) for row, caption in zip(hits.rows, captions, strict=True)]
    counted = f": {int(target.relevant[hits.rows].sum())} of {len(hits.rows)}" if target else ""
    return Sheet(result.title + counted, query.tiles if query else [], tiles)


def sheet_of_other_set() -> Sheet:
    """The same query in the embedding set of --compare, by cosine."""
    other = EmbeddingSet.load(FLAGS.compare, FLAGS.images_root or None)
    index = CosineIndex(other.vectors, other.table.ids)
    query = find_query(other, index, FLAGS.query)
    result = search(index, query, hidden_rows(other))
    return sheet_of(other, query, Result(f"{result.title}, {FLAGS.compare}", result.hits), find_target(other, query))


def write_list(embeddings: EmbeddingSet, result: Result) -> None:
    """Writes the ranking as CSV, ready to be marked, and its provenance as JSON beside it."""
    write_results(FLAGS.out, embeddings.table, result.hits.rows.tolist(), result.hits.scores.tolist(), result.marks)
    hashes = {name: embeddings.meta[name] for name in ("encoder_hash", "sha256", "table_hash")}
    facts = {
        "title": result.title,
        "query": FLAGS.query,
        "where": FLAGS.where,
        "k": FLAGS.k,
        "marks": len(result.marks),
        "embeddings": hashes,
    }
    write_json(f"{FLAGS.out}.json", {**facts, "provenance": provenance(FLAGS.seed)})


def evaluate(embeddings: EmbeddingSet) -> None:
    """Prints P@k and R-precision for every class and their macro average."""
    inside = split_mask(embeddings.table, FLAGS.split)
    labels = embeddings.table.column("label_name")[inside]
    qualities = retrieval_quality(embeddings.vectors[inside], labels, FLAGS.k)
    if not qualities:
        raise ValueError("evaluate needs at least two crops of a class; this set has no labels")
    print(f"{'class':28s} {'crops':>6s}  P@{FLAGS.k:<4d}  R-precision")
    for quality in qualities:
        note = f"  (at most {quality.ceiling:.2f})" if quality.ceiling < 1 else ""
        print(f"{quality.label:28s} {quality.count:6d}  {quality.precision:.3f}   {quality.r_precision:.3f}{note}")
    low, high = macro_interval(qualities)
    print(f"{'macro average':28s} {len(labels):6d}  {macro(qualities):.3f}   {macro(qualities, 'r_precision'):.3f}")
    print(f"95 % interval of the macro P@{FLAGS.k} over queries: {low:.3f} to {high:.3f}")


def choose_k(available: int) -> None:
    """Sets --k where it isn't given; refuses it where fewer crops can be found."""
    if FLAGS.where and not 1 <= (FLAGS.k or 1) <= available:
        raise ValueError(f"k must be at most the {available} crops that --where leaves besides the query; got {FLAGS.k or 1}")
    if FLAGS.k is None:
        FLAGS["k"].value = max(1, min(50, available))


def check_flags() -> None:
    """Refuses combinations that make no sense, and files that can't be written, before work starts."""
    ignored = [
        name
        for name in ("query", "marks", "simulate_label", "simulate_where", "count_where", "where", "sheet", "compare", "out")
        if getattr(FLAGS, name)
    ]
    if FLAGS.evaluate and ignored:
        raise ValueError(f"evaluate takes every crop as a query and excludes {', '.join(ignored)}")
    if FLAGS.compare and not FLAGS.sheet:
        raise ValueError("sheet must be given with compare")
    if not (FLAGS.evaluate or FLAGS.query or FLAGS.marks):
        raise ValueError("query must be given (a crop id, or the path of an image), or marks, or --evaluate")
    simulated = FLAGS.simulate_label or FLAGS.simulate_where
    if FLAGS.marks and simulated:
        raise ValueError(
            "marks and simulate_label or simulate_where exclude each other: either you mark, or the simulated person does"
        )
    if FLAGS.simulate_label and FLAGS.simulate_where:
        raise ValueError("simulate_label and simulate_where exclude each other")
    if FLAGS.count_where and simulated:
        raise ValueError("count_where can't be combined with a simulated person, whose wish is counted")
    if simulated and FLAGS.where:
        raise ValueError("where can't be combined with a simulated person, who sees all crops")
    if not FLAGS.query and (simulated or FLAGS.compare):
        raise ValueError("query must be given with simulate_label, simulate_where or compare")
    for name, suffix in (("sheet", ".png"), ("out", ".csv")):
        path = Path(getattr(FLAGS, name))
        if getattr(FLAGS, name):
            if path.suffix.lower() != suffix:
                raise ValueError(f"{name} must be a {suffix} file; got {str(path)!r}")
            check_writable(path.absolute().parent, name)


def run() -> None:
    """The whole job; raises ValueError or OSError with a message for the user."""
    check_flags()
    embeddings = EmbeddingSet.load(FLAGS.embeddings, FLAGS.images_root or None)
    hidden = hidden_rows(embeddings)
    if FLAGS.evaluate:
        choose_k(len(embeddings.table) - 1)
        return evaluate(embeddings)
    index = CosineIndex(embeddings.vectors, embeddings.table.ids)
    query = find_query(embeddings, index, FLAGS.query) if FLAGS.query else None
    choose_k(len(embeddings.table) - len({*hidden.tolist(), *(query.rows if query else [])}))
    target = find_target(embeddings, query)
    marks = read_marks(index) if FLAGS.marks else {}
    results = [search(index, query, hidden)] if query else []
    if query and target and (FLAGS.simulate_label or FLAGS.simulate_where):
        marks = simulate_marks(index, query, target)
    if marks:
        results.append(search_with_probe(index, query, marks, hidden))
    for result in results:
        report(embeddings, result, target, hidden)
    if FLAGS.out:
        write_list(embeddings, results[-1])
        print(f"results -> {FLAGS.out}")
    if FLAGS.sheet:
        sheets = [sheet_of(embeddings, query, result, target) for result in results]
        if FLAGS.compare:
            sheets = [sheet_of_other_set(), sheets[-1]]
        write_png(FLAGS.sheet, draw_sheets(sheets, embeddings.table.classes))
        print(f"contact sheet -> {FLAGS.sheet}")
    return None


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        run()
    except (ValueError, OSError) as error:
        raise SystemExit(f"run_search.py: {error}") from None


if __name__ == "__main__":
    app.run(main)
