"""Searches an embedding set by example, and re-ranks it from your marks.

    python run_search.py --embeddings=runs/a/embeddings --query=<crop_id or image path> --k=50 --sheet=out.png --out=out.csv

Write 1 (relevant) or 0 into the column `relevant` of out.csv, in a spreadsheet or an
editor, and give it back: a linear probe learns from the marks and re-ranks everything.

    python run_search.py --embeddings=runs/a/embeddings --query=<crop_id> --marks=out.csv --sheet=better.png

`--ask=next.csv` lists what to mark next. `--save_probe=beets` keeps what was learned,
and

    python run_search.py --embeddings=runs/a/embeddings --probe=beets --audit=audit.csv

draws a random sample; marked whole and given back the same way, it tells precision,
class size and recall of the ranking.

`--serve` opens a page to mark in; `--export` takes the class home as COCO, YOLO,
CropAndWeed, folders, CSV, Parquet, Label Studio or TFRecord. `--clusters=4
--where="label_name = 'Maize'"` proposes finer classes, and with `--predictions=p.csv`
an audit tells how often a model fails.

`--where` searches only crops that meet an SQL condition on the crop table's columns.
`--simulate_label=NAME` plays the person who marks, by class names, to see what marking
would bring; `--simulate_where` does so by an SQL condition. `--evaluate` takes every
crop as a query in turn. TensorFlow is loaded only for a query image from outside the
set.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import app, flags

from data.contact_sheet import Sheet, Tile, draw_sheets
from data.embeddings import EmbeddingSet
from data.export import FORMATS, Selection, choose, export, make_card
from data.files import check_writable, keep_aside, write_json
from data.images import read_image, write_png
from data.predictions import PREDICTED, confusions, with_predictions
from data.progress import progress_bar
from data.provenance import provenance
from data.results import write_results
from data.splits import split_mask
from data.where import rows_where
from probe.cascade import Cascade
from probe.choosing import POLICIES, choose_marks
from probe.methods import METHODS
from probe.metrics import macro, macro_interval, retrieval_quality, wilson_interval
from probe.search import CosineIndex, Hits
from probe.transforms import TRANSFORMS, Transform, confidence_of, mean_direction
from web.outside import embed_images

if TYPE_CHECKING:
    from probe.methods import Direction
    from probe.saved_probe import SavedProbe

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "embeddings",
    None,
    "Folder of an embedding set, made by run_finetune.py.",
    required=True,
)
flags.DEFINE_multi_string(
    "query",
    [],
    "Crop id, or path of an image in the set (with @x,y for the crop at that point) or "
    "outside it. Several: their mean.",
)
flags.DEFINE_string(
    "where",
    "",
    "Search only crops that meet this SQL condition, such as \"lighting = 'sunny'\".",
)
flags.DEFINE_integer(
    "k", None, "How many results; default: 50, or as many as there are."
)
flags.DEFINE_string(
    "marks",
    "",
    "CSV with crop_id and relevant (1 or 0), or the folder of a session: re-rank by a "
    "linear probe.",
)
flags.DEFINE_string(
    "simulate_label", "", "Play a person who marks crops of this class as relevant."
)
flags.DEFINE_string(
    "simulate_where",
    "",
    "Play a person who marks crops that meet this SQL condition as relevant.",
)
flags.DEFINE_string(
    "count_where",
    "",
    "Count the results that meet this SQL condition, instead of the query's class.",
)
flags.DEFINE_integer(
    "rounds", 7, "Rounds of marking of the simulated person.", lower_bound=1
)
flags.DEFINE_integer("per_round", 20, "Marks a round.", lower_bound=1)
flags.DEFINE_enum(
    "policy",
    "mix",
    POLICIES,
    "What to mark next: for --ask, and for the simulated person.",
)
flags.DEFINE_multi_string(
    "negative",
    [],
    "Crop id or image path of what it should not look like; half its mean is taken "
    "off.",
)
flags.DEFINE_enum(
    "transform",
    None,
    TRANSFORMS,
    "Of the embeddings; default: l2 for a query alone, centre with marks.",
)
flags.DEFINE_enum(
    "method",
    "auto",
    METHODS,
    "From marks to a ranking; auto picks by their number, and cosine where that is "
    "better.",
)
flags.DEFINE_bool("ascending", False, "The worst first.")
flags.DEFINE_string(
    "save_probe", "", "Folder to save what was learned from the marks in."
)
flags.DEFINE_string(
    "probe", "", "Folder of a saved probe: rank these embeddings by it."
)
flags.DEFINE_string(
    "ask",
    "",
    "CSV to write what to mark next to, --per_round crops chosen by --policy.",
)
flags.DEFINE_string(
    "audit",
    "",
    "With --probe: CSV of a random sample to mark; one that is marked already gives "
    "the estimates.",
)
flags.DEFINE_integer("audit_size", 100, "Crops in the audit.", lower_bound=1)
flags.DEFINE_float(
    "target_precision",
    0.95,
    "With a marked --audit: how many to take from the top.",
    0.01,
    1.0,
)
flags.DEFINE_string(
    "milvus",
    "",
    "Search in Milvus: a .db path (embedded) or a URI of a cluster; filled on first "
    "use.",
)
flags.DEFINE_string(
    "sheet",
    "",
    "Contact sheet to draw (.png); with marks or --compare, before and after side by "
    "side.",
)
flags.DEFINE_string(
    "compare",
    "",
    "Another embedding set of the same crops, searched with the same query for the "
    "sheet.",
)
flags.DEFINE_string(
    "out", "", "Result list to write (.csv), with its provenance beside it (.csv.json)."
)
flags.DEFINE_bool(
    "evaluate",
    False,
    "Retrieval quality with every labelled crop as a query, macro over classes.",
)
flags.DEFINE_string(
    "split", "all", "With --evaluate: queries and pool from this split alone."
)
flags.DEFINE_string(
    "images_root",
    "",
    "Where the images are now, if the folder has moved since they were embedded.",
)
flags.DEFINE_integer(
    "seed", 0, "Of the probe's random crops, audits, clusters and the map."
)
flags.DEFINE_enum(
    "export",
    None,
    list(FORMATS),
    "With marks or --probe: take the class home in this format.",
)
flags.DEFINE_string(
    "export_to", "", "With --export: new folder to write; a card goes with it."
)
flags.DEFINE_string(
    "class_name", "", "With --export: name of the class; one that exists is added to."
)
flags.DEFINE_bool(
    "export_marked",
    False,
    "With --export: only what is marked as relevant, not all from the threshold on.",
)
flags.DEFINE_integer(
    "clusters",
    0,
    "Propose so many clusters among the crops (of --where) as starting points for "
    "finer classes.",
    0,
)
flags.DEFINE_bool(
    "serve", False, "Open the page: mark in a browser, and take the class home."
)
flags.DEFINE_string(
    "sessions",
    "",
    "With --serve: folder of the sessions; default: sessions/ beside the embedding "
    "set.",
)
flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "With --serve: address to listen on; beyond this machine, whoever has the URL can "
    "mark.",
)
flags.DEFINE_integer("port", 0, "With --serve; default: 8765, or a free one.")
flags.DEFINE_bool(
    "browser", True, "With --serve: open the page in the default browser."
)
flags.DEFINE_string(
    "predictions",
    "",
    "A model's predictions, .csv or COCO results: become columns predicted, "
    "predicted_score.",
)


@dataclass(frozen=True)
class Query:
    """What to search for."""

    vectors: np.ndarray  # [q, D] float32, one an example
    rows: list[
        int
    ]  # rows of the examples that are in the set, which come first in `vectors`
    tiles: list[Tile]
    label: str  # class of the examples, "" where it is unknown or they differ


@dataclass(frozen=True)
class Target:
    """What is looked for, where it is known: to count hits, and for the simulated
    person.
    """

    name: str
    relevant: np.ndarray  # [N] bool


@dataclass(frozen=True)
class Result:
    """A ranking to report."""

    title: str
    hits: Hits  # the first k over everything but the query
    queries: Sequence[int] = ()  # rows that were left out for being the query
    unmarked: Hits | None = (
        None  # the first k over crops that nobody marked; None where nothing is marked
    )
    marks: Mapping[int, bool] = field(default_factory=dict)  # row -> relevant
    direction: Direction | None = None  # what was learned from them


def find_query(
    embeddings: EmbeddingSet, index: CosineIndex, examples: Sequence[str]
) -> Query:
    """Looks examples up by crop id, then by image path; embeds an image from outside
    with the set's own encoder.
    """
    table = embeddings.table
    rows: list[int] = []
    outside = []
    for example in examples:
        found = table.find(example)
        if len(found) > 1:
            left, top, right, bottom = table.boxes[found[0]]
            point = f"{example}@{(left + right) // 2},{(top + bottom) // 2}"
            raise ValueError(
                f"query {example!r} holds {len(found)} crops; name one by a point in "
                f"it, such as {point}, or by its id"
            )
        if not found and Path(example).is_file():
            outside.append(example)
        elif not found:
            image = table.find(example.rpartition("@")[0])
            if image:
                raise ValueError(
                    f"query {example!r} must be a point in a crop; that image has "
                    f"{len(image)} crops, none of them there"
                )
            index.rows_of([example], "query (a crop id, or the path of an image)")
        rows += found
    vectors = [np.asarray(embeddings.vectors[rows])] + (
        [embed_images(embeddings, [read_image(path) for path in outside])]
        if outside
        else []
    )
    tiles = [Tile.of(embeddings.table, row, "query") for row in rows] + [
        Tile(Path(path), None, "", "query") for path in outside
    ]
    labels = {table.column("label_name")[row] for row in rows}
    return Query(
        np.concatenate(vectors), rows, tiles, labels.pop() if len(labels) == 1 else ""
    )


def find_target(embeddings: EmbeddingSet, query: Query | None) -> Target | None:
    """What is looked for: the simulated person's wish, what is to be counted, or the
    query's class; None where none is known.
    """
    names = embeddings.table.column("label_name")
    for flag in ("simulate_where", "count_where"):
        condition = getattr(FLAGS, flag)
        if condition:
            return Target(condition, rows_where(embeddings.table, condition, flag))
    name = FLAGS.simulate_label or (query.label if query else "")
    if FLAGS.simulate_label and name not in names:
        raise ValueError(
            f"simulate_label must be one of {', '.join(sorted(set(names) - {''}))}; "
            f"got {name!r}"
        )
    return Target(name, names == name) if name else None


def hidden_rows(embeddings: EmbeddingSet) -> np.ndarray:
    """Rows that --where leaves out of the search."""
    return (
        np.flatnonzero(~rows_where(embeddings.table, FLAGS.where))
        if FLAGS.where
        else np.array([], np.int64)
    )


SHEET = 200  # crops on a sheet of a probe's whole class, at most
CASCADE_BYTES = 2**30  # embedding sets from this size get an index on disk


def make_index(embeddings: EmbeddingSet, transform: Transform) -> CosineIndex:
    """The index to search: Milvus where it is asked for, in memory otherwise, with a
    cascade on disk for large sets.
    """
    vectors, ids = embeddings.vectors, embeddings.table.ids
    if FLAGS.milvus:
        from probe.milvus import MilvusIndex

        filling = partial(progress_bar, unit="batch", desc="filling Milvus")
        return MilvusIndex(
            FLAGS.milvus,
            vectors,
            ids,
            transform,
            embeddings.meta["sha256"],
            progress=filling,
        )
    if vectors.nbytes < CASCADE_BYTES or transform.name != "l2":
        return CosineIndex(vectors, ids, transform)
    folder = embeddings.folder / "cascade"
    building = partial(progress_bar, unit="block", desc=f"index, once, {folder}")
    try:
        content = embeddings.meta["sha256"]
        if folder.exists():
            cascade = Cascade.load(folder, content)
        else:
            check_writable(
                folder.parent, "embeddings", vectors.nbytes // 2
            )  # room for it
            cascade = Cascade.build(
                vectors,
                transform,
                folder=folder,
                content_hash=content,
                progress=building,
            )
    except (OSError, ValueError, KeyError) as error:
        print(f"searching without an index: {error}")
        return CosineIndex(vectors, ids, transform)
    return CosineIndex(vectors, ids, transform, cascade)


def search(
    index: CosineIndex, query: Query, negative: Query | None, hidden: np.ndarray
) -> Result:
    """By cosine to the examples, less half of what it should not look like."""
    left_out = {*query.rows, *hidden.tolist(), *(negative.rows if negative else [])}
    direction = mean_direction(index.transform(query.vectors)).astype(np.float64)
    if negative:
        from probe.methods import learn

        both = index.transform(np.concatenate([query.vectors, negative.vectors]))
        direction = learn(
            both, np.arange(len(both)) < len(query.vectors), "rocchio"
        ).coef
    hits = index.search(direction, FLAGS.k, left_out, ascending=FLAGS.ascending)[0]
    return Result("cosine" + (" less negatives" if negative else ""), hits, query.rows)


def search_with_probe(
    index: CosineIndex,
    query: Query | None,
    marks: Mapping[int, bool],
    hidden: np.ndarray,
) -> Result:
    from probe.feedback import (
        rerank,
    )  # scikit-learn takes a second to import, which a plain search needn't wait for

    examples, rows = (
        (query.vectors, query.rows)
        if query
        else (np.empty((0, index.vectors.shape[1]), np.float32), [])
    )
    ranked = rerank(
        index,
        marks,
        examples,
        rows,
        FLAGS.k,
        FLAGS.seed,
        hidden.tolist(),
        FLAGS.method,
        FLAGS.ascending,
    )
    direction = ranked.direction
    if direction.has_boundary:
        title = (
            f"linear probe, {len(marks)} marks, {direction.method}, C = {direction.C:g}"
        )
    else:
        title = f"{direction.method}, {len(marks)} marks" + (
            f" ({direction.reason})" if direction.reason else ""
        )
    return Result(title, ranked.everything, rows, ranked.unmarked, marks, direction)


def read_marks(index: CosineIndex) -> dict[int, bool]:
    from probe.marks import Marks

    if Path(FLAGS.marks).is_dir():
        from web.journal import read_session, replay

        stated: Mapping[str, bool] = replay(read_session(FLAGS.marks)[1]).marks
    else:
        stated = Marks.read(FLAGS.marks).relevant
    return {
        int(row): mark
        for row, mark in zip(
            index.rows_of(stated, "marks"), stated.values(), strict=True
        )
    }


def take_up_session() -> None:
    """With a session of the page as --marks: its query and its part of the pool, where
    no other ones are given.
    """
    from web.journal import read_facts

    facts = read_facts(Path(FLAGS.marks))
    if not FLAGS.query and facts["query"]["crops"]:
        FLAGS["query"].value = list(facts["query"]["crops"])
    if not FLAGS.where and facts["pool"]:
        FLAGS["where"].value = facts["pool"]
    query = ", ".join(FLAGS.query) or "none (its uploads are left out)"
    print(
        f"session {facts['name']!r}: query {query}; pool {FLAGS.where or 'all crops'}"
    )


def simulate_marks(index: CosineIndex, query: Query, target: Target) -> dict[int, bool]:
    """Plays the person of --simulate_label or --simulate_where and prints every round."""
    from probe.feedback import Person, simulate

    if len(query.rows) != 1 or not target.relevant[query.rows[0]]:
        raise ValueError(
            "query must be one crop that the simulated person would mark as relevant "
            f"({target.name!r})"
        )
    print(
        f"marks  relevant  P@{FLAGS.k} over everything  P@{FLAGS.k} over unmarked  "
        "average precision"
    )
    person = Person(target.relevant, seed=FLAGS.seed)
    steps = simulate(
        index,
        person,
        query.rows[0],
        FLAGS.rounds,
        FLAGS.per_round,
        FLAGS.policy,
        FLAGS.k,
        FLAGS.method,
    )
    marks: dict[int, bool] = {}
    for step, rows, _ in steps:
        marks = {int(row): bool(target.relevant[row]) for row in rows}
        everything, unmarked, precision = (
            step.precision_all,
            step.precision_unmarked,
            step.average_precision,
        )
        stop = "  stop signal" if step.stop else ""
        print(
            f"{step.marks:5d}  {step.found:8d}  {everything:20.2f}  {unmarked:18.2f}  "
            f"{precision:17.3f}{stop}",
            flush=True,
        )
    return marks


def report(
    embeddings: EmbeddingSet, result: Result, target: Target | None, hidden: np.ndarray
) -> None:
    """Prints the first results, what classes they are of, and the precision where the
    class is known.
    """
    table, names = embeddings.table, embeddings.table.column("label_name")
    print(f"\n{result.title}\nrank   score  {'class':24s}  crop_id       image")
    for rank, (row, score) in enumerate(
        zip(result.hits.rows[:10], result.hits.scores, strict=False), 1
    ):
        print(
            f"{rank:4d}  {score:6.3f}  {names[row] or '-':24s}  {table.ids[row]}  "
            f"{table.column('image')[row]}"
        )
    if any(names):
        counts = Counter(names[result.hits.rows]).most_common(5)
        print(
            f"top {len(result.hits.rows)}: "
            + ", ".join(f"{name or 'unlabelled'} {count}" for name, count in counts)
        )
    if target is None:
        return
    left = target.relevant.copy()
    left[[*result.queries, *hidden]] = False
    unmarked = left.copy()
    unmarked[list(result.marks)] = False
    where = " that --where leaves" if len(hidden) else ""
    parts = [
        (result.hits, f"all crops{where}", left),
        (result.unmarked, f"unmarked crops{where}", unmarked),
    ]
    for hits, over, possible in parts:
        if hits is not None and len(hits.rows):
            right, k, most = (
                int(target.relevant[hits.rows].sum()),
                len(hits.rows),
                int(possible.sum()),
            )
            low, high = wilson_interval(right, k)
            note = f"; at most {most} can be" if most < k else ""
            print(
                f"{right} of {k} over {over} are {target.name}: {right / k:.2f}, 95 % "
                f"interval {low:.2f} to {high:.2f}{note}"
            )


def sheet_of(
    embeddings: EmbeddingSet, query: Query | None, result: Result, target: Target | None
) -> Sheet:
    hits = result.hits
    sign = {True: " +", False: " -", None: ""}
    captions = [
        f"{score:.3f}{sign[result.marks.get(int(row))]}"
        for row, score in zip(hits.rows, hits.scores, strict=True)
    ]
    tiles = [
        Tile.of(embeddings.table, row, caption)
        for row, caption in zip(hits.rows, captions, strict=True)
    ]
    counted = (
        f": {int(target.relevant[hits.rows].sum())} of {len(hits.rows)}"
        if target
        else ""
    )
    return Sheet(result.title + counted, query.tiles if query else [], tiles)


def sheet_of_other_set() -> Sheet:
    """The same query in the embedding set of --compare, by cosine."""
    other = EmbeddingSet.load(FLAGS.compare, FLAGS.images_root or None)
    index = make_index(other, Transform.fit(FLAGS.transform or "l2", other.vectors))
    query = find_query(other, index, FLAGS.query)
    negative = find_query(other, index, FLAGS.negative) if FLAGS.negative else None
    result = search(index, query, negative, hidden_rows(other))
    return sheet_of(
        other,
        query,
        Result(f"{result.title}, {FLAGS.compare}", result.hits),
        find_target(other, query),
    )


def keep_marked_list(
    path: str, embeddings: EmbeddingSet, marks: Mapping[int, bool]
) -> None:
    """Moves a list aside that is about to be overwritten and holds marks that the new
    one won't hold.
    """
    from probe.marks import Marks

    try:
        stated = Marks.read(path).relevant if Path(path).is_file() else {}
    except ValueError:
        stated = {}  # nothing is marked in it
    known = {embeddings.table.ids[row]: answer for row, answer in marks.items()}
    if any(known.get(crop_id) != answer for crop_id, answer in stated.items()):
        keep_aside(Path(path))
        print(f"{path} held other marks: kept as {path}.old-N")


def write_list(embeddings: EmbeddingSet, result: Result) -> None:
    """Writes the ranking as CSV, ready to be marked, and its provenance as JSON beside
    it.
    """
    keep_marked_list(FLAGS.out, embeddings, result.marks)
    write_results(
        FLAGS.out,
        embeddings.table,
        result.hits.rows.tolist(),
        result.hits.scores.tolist(),
        result.marks,
    )
    hashes = {
        name: embeddings.meta[name] for name in ("encoder_hash", "sha256", "table_hash")
    }
    facts = {
        "title": result.title,
        "query": FLAGS.query,
        "where": FLAGS.where,
        "k": FLAGS.k,
        "marks": len(result.marks),
        "embeddings": hashes,
    }
    write_json(f"{FLAGS.out}.json", {**facts, "provenance": provenance(FLAGS.seed)})


def identity_of(embeddings: EmbeddingSet) -> dict[str, object]:
    from probe.saved_probe import IDENTITY

    return {name: embeddings.meta.get(name) for name in IDENTITY}


def save_probe(embeddings: EmbeddingSet, index: CosineIndex, result: Result) -> None:
    from probe.saved_probe import SavedProbe

    if result.direction is None:
        raise ValueError("save_probe needs marks to learn from")
    marks = {embeddings.table.ids[row]: answer for row, answer in result.marks.items()}
    facts = {"title": result.title, "provenance": provenance(FLAGS.seed)}
    # Confidence 0.5, until an audit moves it; a cosine has no threshold before that.
    threshold = -result.direction.intercept if result.direction.has_boundary else None
    saved = SavedProbe(
        index.transform,
        result.direction,
        identity_of(embeddings),
        marks,
        tuple(FLAGS.query),
        threshold,
        facts,
    )
    compare_with_earlier(embeddings, index, saved)
    keep_aside(Path(FLAGS.save_probe))
    saved.save(FLAGS.save_probe)
    print(f"probe -> {FLAGS.save_probe}")


def compare_with_earlier(
    embeddings: EmbeddingSet, index: CosineIndex, saved: SavedProbe
) -> None:
    """Prints how far a probe agrees with the one that was saved under its name before:
    the stop signal.
    """
    from probe.estimate import STABLE, agreement
    from probe.feedback import ranking_of
    from probe.saved_probe import SavedProbe

    if not (Path(FLAGS.save_probe) / "probe.json").is_file():
        return
    try:
        earlier = SavedProbe.load(FLAGS.save_probe)
        earlier.check(embeddings.meta)
    except ValueError as error:
        print(f"not compared with the probe saved there before: {error}")
        return
    if not (earlier.direction.has_boundary and saved.direction.has_boundary):
        return
    before = ranking_of(
        CosineIndex(embeddings.vectors, embeddings.table.ids, earlier.transform),
        earlier.direction,
    )
    kappa = agreement(before.scores > 0, ranking_of(index, saved.direction).scores > 0)
    print(
        f"agrees with the probe saved there before: kappa {kappa:.2f} ({STABLE} or "
        "more twice in a row: marking can stop)"
    )


def ask(
    embeddings: EmbeddingSet, index: CosineIndex, result: Result, hidden: np.ndarray
) -> None:
    """Writes what to mark next, with all marks so far after it, so that the file given
    back as --marks loses none.
    """
    from probe.feedback import ranking_of

    if result.direction is None:
        raise ValueError("ask needs marks to learn from")
    ranking = ranking_of(index, result.direction)
    closed = np.zeros(len(index), bool)
    closed[[*result.marks, *result.queries, *hidden.tolist()]] = True
    known = np.array([*result.marks, *result.queries], np.int64)
    found = sum(result.marks.values())
    rows = choose_marks(
        ranking,
        closed,
        FLAGS.per_round,
        FLAGS.policy,
        index.unit,
        known,
        found,
        FLAGS.seed + len(known),
    )
    keep_marked_list(FLAGS.ask, embeddings, result.marks)
    write_results(
        FLAGS.ask,
        embeddings.table,
        rows.tolist(),
        ranking.scores[rows].tolist(),
        result.marks,
    )
    print(f"{len(rows)} crops to mark next -> {FLAGS.ask}")


def take_home(
    embeddings: EmbeddingSet,
    index: CosineIndex,
    result: Result,
    threshold: float | None,
    hidden: Collection[int],
    estimates: Mapping[str, Any] | None = None,
) -> None:
    """Exports the crops from a threshold on, or those marked as relevant; marks
    overrule the threshold.
    """
    from probe.saved_probe import hash_of_marks

    direction = result.direction
    if direction is None:
        raise ValueError("export needs marks or a probe")
    if threshold is None and not FLAGS.export_marked:
        raise ValueError(
            "export needs a threshold, which this ranking by cosine has not: audit it, "
            "or give --export_marked"
        )
    scores = index.scores(direction.coef)[0].astype(np.float64)
    among = np.ones(len(index), bool)
    among[list(hidden)] = False
    rows = choose(
        scores,
        None if FLAGS.export_marked else threshold,
        result.marks,
        result.queries,
        among,
    )
    shown = (
        confidence_of(scores + direction.intercept)
        if direction.has_boundary
        else scores
    )
    selection = Selection(
        embeddings.table, rows, shown[rows], FLAGS.class_name, result.marks
    )
    selected = "marked" if FLAGS.export_marked else "threshold"
    facts = {
        "method": direction.method,
        "C": direction.C,
        "transform": index.transform.name,
    }
    ids = embeddings.table.ids
    marks = {str(ids[row]): answer for row, answer in result.marks.items()}
    card = make_card(
        embeddings.meta,
        FLAGS.query or [str(ids[row]) for row in result.queries],
        FLAGS.where,
        selected,
        marks,
        hash_of_marks(marks),
        facts,
        direction.coef,
        None
        if threshold is None
        else {"scale": "score less intercept", "value": threshold},
        estimates,
        FLAGS.seed,
    )
    for line in export(
        selection, FLAGS.export, FLAGS.export_to, card, progress_bar
    ).left_out():
        print(f"left out: {line}")
    print(
        f"{len(rows)} crops of {FLAGS.class_name!r} as {FLAGS.export} -> "
        f"{FLAGS.export_to} (with card.md)"
    )


def propose(embeddings: EmbeddingSet, index: CosineIndex, hidden: np.ndarray) -> None:
    """Prints clusters among the crops that --where leaves, each with the crop to start
    from; --sheet draws them.
    """
    from probe.clusters import propose_clusters

    rows = np.setdiff1d(np.arange(len(index)), hidden)
    clusters = propose_clusters(index.unit(rows), rows, FLAGS.clusters, FLAGS.seed)
    ids = embeddings.table.ids
    print("cluster  crops  tightness  start from")
    for number, cluster in enumerate(clusters, 1):
        print(
            f"{number:7d}  {len(cluster.rows):5d}  {cluster.tightness:9.2f}  "
            f"--query={ids[cluster.rows[0]]}"
        )
    print(
        "Clusters are proposals: search from each with the same --where, mark, and see "
        "whether it is a class."
    )
    if FLAGS.sheet:
        sheets = [
            Sheet(
                f"cluster {number}: {len(cluster.rows)} crops",
                [],
                [Tile.of(embeddings.table, row, "") for row in cluster.rows[:20]],
            )
            for number, cluster in enumerate(clusters, 1)
        ]
        write_png(FLAGS.sheet, draw_sheets(sheets, embeddings.table.classes, columns=5))
        print(f"contact sheet -> {FLAGS.sheet}")


def report_confusions(embeddings: EmbeddingSet) -> None:
    """Prints what the predictions of --predictions confuse with what."""
    predicted = embeddings.table.column(PREDICTED)
    print(
        f"{int((predicted != '').sum())} of {len(predicted)} crops have a prediction; "
        "most frequent confusions:"
    )
    for label, name, count in confusions(embeddings.table)[:10]:
        print(f"{count:6d}  {label or 'unlabelled'} called {name}")


def use_probe(embeddings: EmbeddingSet, hidden: np.ndarray) -> None:
    """Ranks by a saved probe; draws an audit of it, or reports what a marked one says."""
    from probe.feedback import apply
    from probe.saved_probe import SavedProbe

    saved = SavedProbe.load(FLAGS.probe)
    saved.check(embeddings.meta)
    index = make_index(embeddings, saved.transform)
    places = {crop_id: row for row, crop_id in enumerate(embeddings.table.ids)}
    marks = {
        places[crop_id]: answer
        for crop_id, answer in saved.marks.items()
        if crop_id in places
    }
    queries = sorted(
        {row for query in saved.queries for row in embeddings.table.find(query)}
    )
    left_out = {*queries, *hidden.tolist()}
    if FLAGS.audit:
        return audit(embeddings, index, saved, marks, left_out)
    title = f"probe {FLAGS.probe}"
    if saved.threshold is not None:
        above = index.scores(saved.direction.coef)[0] >= saved.threshold
        above[list(left_out)] = False
        title += f": {int(above.sum())} of {len(index) - len(left_out)} crops at or above its threshold"
        if FLAGS.k is None and not FLAGS.ascending:
            FLAGS["k"].value = max(1, int(above.sum()))
    choose_k(len(index) - len(left_out))
    ranked = apply(index, saved.direction, marks, left_out, FLAGS.k, FLAGS.ascending)
    result = Result(
        title, ranked.everything, queries, ranked.unmarked, marks, saved.direction
    )
    report(embeddings, result, find_target(embeddings, None), hidden)
    if FLAGS.export:
        estimates = saved.facts.get("estimates", {})
        if (estimates.get("where"), estimates.get("embeddings")) != (
            FLAGS.where,
            embeddings.meta["sha256"],
        ):
            estimates = None  # of other crops
        take_home(
            embeddings,
            index,
            result,
            saved.threshold,
            left_out - set(queries),
            estimates,
        )
    if FLAGS.out:
        write_list(embeddings, result)
        print(f"results -> {FLAGS.out}")
    if FLAGS.sheet:
        most = Hits(result.hits.rows[:SHEET], result.hits.scores[:SHEET])
        sheet = sheet_of(embeddings, None, dataclasses.replace(result, hits=most), None)
        write_png(FLAGS.sheet, draw_sheets([sheet], embeddings.table.classes))
        print(f"contact sheet -> {FLAGS.sheet}")
    return None


def audit(
    embeddings: EmbeddingSet,
    index: CosineIndex,
    saved: SavedProbe,
    marks: Mapping[int, bool],
    left_out: set[int],
) -> None:
    """Writes a random sample to mark, or, where that is done, what it says of the whole
    ranking; see probe.estimate.
    """
    from probe.estimate import Audit, draw_audit, stratify
    from probe.marks import Marks
    from probe.saved_probe import hash_of_marks

    order, scores = index.rank(saved.direction.coef)
    closed = np.zeros(len(index), bool)
    closed[[*marks, *left_out]] = True
    open_rows, open_scores = order[~closed[order]], scores[~closed[order]]
    deemed = (
        int((open_scores >= -saved.direction.intercept).sum())
        if saved.direction.has_boundary
        else 50
    )
    strata = stratify(order, closed, deemed)
    ranking = hashlib.sha256(
        order.tobytes() + closed.tobytes()
    ).hexdigest()  # of the probe, --where and what is marked
    facts = {
        "probe": hash_of_marks(saved.marks),
        "embeddings": embeddings.meta["sha256"],
        "ranking": ranking,
    }
    note = Path(f"{FLAGS.audit}.audit.json")
    if not Path(FLAGS.audit).exists():
        rows = draw_audit(
            strata, min(FLAGS.audit_size, int((~closed).sum())), FLAGS.seed
        )
        score_of = dict(zip(order.tolist(), scores.tolist(), strict=True))
        write_json(
            note,
            {
                **facts,
                "rows": [embeddings.table.ids[row] for row in rows],
                "provenance": provenance(FLAGS.seed),
            },
        )
        write_results(
            FLAGS.audit,
            embeddings.table,
            rows.tolist(),
            [score_of[row] for row in rows.tolist()],
            {},
        )
        print(
            f"{len(rows)} crops, drawn at random -> {FLAGS.audit}. Mark all of them "
            "and give the same command again."
        )
        return
    if not note.is_file():
        raise ValueError(
            f"audit {FLAGS.audit!r} must be a list that --audit drew; {str(note)!r}, "
            "which it wrote too, is missing"
        )
    drawn = json.loads(note.read_text(encoding="utf-8"))
    for name, value in facts.items():
        if drawn[name] != value:
            what = {
                "probe": "another probe",
                "embeddings": "other embeddings",
                "ranking": "another ranking or --where",
            }[name]
            raise ValueError(
                f"audit {FLAGS.audit!r} was drawn for {what}; draw a new one under "
                "another name"
            )
    stated = Marks.read(FLAGS.audit).relevant
    missing = [crop_id for crop_id in drawn["rows"] if crop_id not in stated]
    if missing:
        raise ValueError(
            f"audit must be marked whole, or it isn't random; {len(missing)} of "
            f"{len(drawn['rows'])} are missing"
        )
    rows = index.rows_of(drawn["rows"], "audit").tolist()
    answers = {
        row: stated[crop_id] for row, crop_id in zip(rows, drawn["rows"], strict=True)
    }
    found = sum(answer for row, answer in marks.items() if row not in left_out)
    result = Audit(open_rows, strata[open_rows], answers, found, seed=FLAGS.seed)
    print(
        f"from {len(answers)} crops drawn at random, none of which was learned from; "
        "95 % intervals"
    )
    size = result.size()
    print(f"class size             {size}   (without the query)")
    searched = len(open_rows) + sum(row not in left_out for row in marks)
    rate = size.scaled(1 / searched)
    print(f"rate                   {rate}   (of the {searched} crops searched)")
    top = min(max(1, deemed), len(open_rows))
    print(
        f"precision of top {top:5d} {result.precision(top)}   (unmarked crops; the "
        "probe deems so many relevant)"
    )
    print(
        f"recall of top {top:8d} {result.recall(top)}   (with the crops marked as "
        "relevant)"
    )
    target = FLAGS.target_precision
    estimated, certain = result.pick(target), result.pick(target, certain=True)
    print(
        f"at {target:.0%} estimated precision: the best {estimated} unmarked crops; "
        f"certain of it, with 95 % confidence: {certain}"
    )
    if estimated:
        print(
            f"  their precision      {result.precision(estimated)}, recall "
            f"{result.recall(estimated)}"
        )
        estimates = {
            "precision": result.precision(estimated),
            "recall": result.recall(estimated),
            "size": size,
            "rate": rate,
        }
        found_out: dict[str, Any] = {
            name: dataclasses.asdict(interval) for name, interval in estimates.items()
        }
        found_out |= {
            "of": f"the {estimated} crops from the threshold on that nobody had marked",
            "confidence": 0.95,
        }
        found_out |= {
            "sample": len(answers),
            "where": FLAGS.where,
            "embeddings": embeddings.meta["sha256"],
        }
        threshold = float(open_scores[estimated - 1])
        dataclasses.replace(
            saved, threshold=threshold, facts={**saved.facts, "estimates": found_out}
        ).save(FLAGS.probe)
        print(
            f"threshold -> {FLAGS.probe}: --probe={FLAGS.probe} --out=class.csv lists "
            "them"
        )


def evaluate(embeddings: EmbeddingSet) -> None:
    """Prints P@k and R-precision for every class and their macro average."""
    inside = split_mask(embeddings.table, FLAGS.split)
    labels = embeddings.table.column("label_name")[inside]
    qualities = retrieval_quality(embeddings.vectors[inside], labels, FLAGS.k)
    if not qualities:
        raise ValueError(
            "evaluate needs at least two crops of a class; this set has no labels"
        )
    print(f"{'class':28s} {'crops':>6s}  P@{FLAGS.k:<4d}  R-precision")
    for quality in qualities:
        note = f"  (at most {quality.ceiling:.2f})" if quality.ceiling < 1 else ""
        print(
            f"{quality.label:28s} {quality.count:6d}  {quality.precision:.3f}   "
            f"{quality.r_precision:.3f}{note}"
        )
    low, high = macro_interval(qualities)
    print(
        f"{'macro average':28s} {len(labels):6d}  {macro(qualities):.3f}   "
        f"{macro(qualities, 'r_precision'):.3f}"
    )
    print(
        f"95 % interval of the macro P@{FLAGS.k} over queries: {low:.3f} to {high:.3f}"
    )


def choose_k(available: int) -> None:
    """Sets --k where it isn't given; refuses it where fewer crops can be found."""
    if FLAGS.where and not 1 <= (FLAGS.k or 1) <= available:
        raise ValueError(
            f"k must be at most the {available} crops that --where leaves besides the "
            f"query; got {FLAGS.k or 1}"
        )
    if FLAGS.k is None:
        FLAGS["k"].value = max(1, min(50, available))


def check_flags() -> None:
    """Refuses combinations that make no sense, and files that can't be written, before
    work starts.
    """
    ignored = [
        name
        for name in (
            "query",
            "marks",
            "simulate_label",
            "simulate_where",
            "count_where",
            "where",
            "sheet",
            "compare",
            "out",
        )
        if getattr(FLAGS, name)
    ]
    if FLAGS.evaluate and ignored:
        raise ValueError(
            f"evaluate takes every crop as a query and excludes {', '.join(ignored)}"
        )
    if FLAGS.probe and (
        FLAGS.query
        or FLAGS.marks
        or FLAGS.negative
        or FLAGS.save_probe
        or FLAGS.ask
        or FLAGS.evaluate
    ):
        raise ValueError(
            "probe brings its query and marks, and excludes query, negative, marks, "
            "save_probe, ask and evaluate"
        )
    if FLAGS.audit and (FLAGS.out or FLAGS.sheet or FLAGS.k or FLAGS.ascending):
        raise ValueError(
            "audit excludes out, sheet, k and ascending: it is about the ranking as a "
            "whole"
        )
    probe_folder = Path(FLAGS.save_probe)
    if (
        FLAGS.save_probe
        and probe_folder.exists()
        and not (probe_folder / "probe.json").is_file()
    ):
        raise ValueError(
            "save_probe must be a new folder or one that holds a probe; "
            f"{FLAGS.save_probe!r} holds something else"
        )
    if FLAGS.save_probe:
        check_writable(probe_folder.absolute().parent, "save_probe")
    if FLAGS.audit and not FLAGS.probe:
        raise ValueError(
            "probe must be given with audit: an audit measures one ranking, which has "
            "to stay as it is"
        )
    simulated = FLAGS.simulate_label or FLAGS.simulate_where
    if FLAGS.negative and (FLAGS.marks or simulated or not FLAGS.query):
        raise ValueError(
            "negative goes with a query alone; among marks, mark it as not relevant "
            "instead"
        )
    if (FLAGS.save_probe or FLAGS.ask) and not (FLAGS.marks or simulated):
        raise ValueError("marks must be given with save_probe and ask")
    if FLAGS.compare and not FLAGS.sheet:
        raise ValueError("sheet must be given with compare")
    if FLAGS.export and not (FLAGS.marks or simulated or FLAGS.probe):
        raise ValueError("export needs --marks or --probe, which say what the class is")
    if FLAGS.export and not (FLAGS.export_to and FLAGS.class_name.strip()):
        raise ValueError("export needs --export_to, a new folder, and --class_name")
    if FLAGS.export and Path(FLAGS.export_to).exists():
        raise ValueError(f"export_to must be a new folder; {FLAGS.export_to!r} exists")
    if FLAGS.export and FLAGS.audit:
        raise ValueError(
            "export comes after the audit: give --probe and --export without --audit"
        )
    if FLAGS.clusters == 1:
        raise ValueError("clusters must be at least 2; got 1")
    if FLAGS.serve and (ignored or FLAGS.probe or FLAGS.clusters):
        raise ValueError(
            "serve opens the page, where all else is chosen; it takes embeddings, "
            "sessions, predictions, host and port"
        )
    if not (
        FLAGS.evaluate
        or FLAGS.query
        or FLAGS.marks
        or FLAGS.probe
        or FLAGS.serve
        or FLAGS.clusters
        or FLAGS.predictions
    ):
        raise ValueError(
            "query must be given (a crop id, or the path of an image), or marks, or "
            "--evaluate"
        )
    if FLAGS.marks and simulated:
        raise ValueError(
            "marks and simulate_label or simulate_where exclude each other: either you "
            "mark, or the simulated person does"
        )
    if FLAGS.simulate_label and FLAGS.simulate_where:
        raise ValueError("simulate_label and simulate_where exclude each other")
    if FLAGS.count_where and simulated:
        raise ValueError(
            "count_where can't be combined with a simulated person, whose wish is "
            "counted"
        )
    if simulated and FLAGS.where:
        raise ValueError(
            "where can't be combined with a simulated person, who sees all crops"
        )
    if not FLAGS.query and (simulated or FLAGS.compare):
        raise ValueError(
            "query must be given with simulate_label, simulate_where or compare"
        )
    for name, suffix in (
        ("sheet", ".png"),
        ("out", ".csv"),
        ("ask", ".csv"),
        ("audit", ".csv"),
    ):
        path = Path(getattr(FLAGS, name))
        if getattr(FLAGS, name):
            if path.suffix.lower() != suffix:
                raise ValueError(f"{name} must be a {suffix} file; got {str(path)!r}")
            check_writable(path.absolute().parent, name)


def run() -> None:
    """The whole job; raises ValueError or OSError with a message for the user."""
    check_flags()
    embeddings = EmbeddingSet.load(FLAGS.embeddings, FLAGS.images_root or None)
    if FLAGS.predictions:
        embeddings = dataclasses.replace(
            embeddings, table=with_predictions(embeddings.table, FLAGS.predictions)
        )
    if FLAGS.serve:
        from web.serve import serve

        return serve(
            embeddings,
            FLAGS.sessions,
            FLAGS.host,
            FLAGS.port,
            FLAGS.browser,
            FLAGS.seed,
        )
    if FLAGS.marks and Path(FLAGS.marks).is_dir():
        take_up_session()
    hidden = hidden_rows(embeddings)
    if FLAGS.evaluate:
        choose_k(len(embeddings.table) - 1)
        return evaluate(embeddings)
    if FLAGS.probe:
        return use_probe(embeddings, hidden)
    if FLAGS.predictions:
        report_confusions(embeddings)
        if not (FLAGS.query or FLAGS.marks):
            return None
    if FLAGS.clusters:
        return propose(
            embeddings,
            make_index(
                embeddings,
                Transform.fit(FLAGS.transform or "centre", embeddings.vectors),
            ),
            hidden,
        )
    marked = FLAGS.marks or FLAGS.simulate_label or FLAGS.simulate_where
    index = make_index(
        embeddings, Transform.fit(FLAGS.transform or "l2", embeddings.vectors)
    )
    query = find_query(embeddings, index, FLAGS.query) if FLAGS.query else None
    negative = find_query(embeddings, index, FLAGS.negative) if FLAGS.negative else None
    asked = [*(query.rows if query else []), *(negative.rows if negative else [])]
    choose_k(len(embeddings.table) - len({*hidden.tolist(), *asked}))
    target = find_target(embeddings, query)
    marks = read_marks(index) if FLAGS.marks else {}
    results = [search(index, query, negative, hidden)] if query else []
    if marked and FLAGS.transform is None:
        index = make_index(embeddings, Transform.fit("centre", embeddings.vectors))
    if query and target and (FLAGS.simulate_label or FLAGS.simulate_where):
        marks = simulate_marks(index, query, target)
    if marks:
        results.append(search_with_probe(index, query, marks, hidden))
    for result in results:
        report(embeddings, result, target, hidden)
    if FLAGS.save_probe:
        save_probe(embeddings, index, results[-1])
    if FLAGS.ask:
        ask(embeddings, index, results[-1], hidden)
    if FLAGS.export:
        learned = results[-1].direction
        threshold = (
            -learned.intercept if learned is not None and learned.has_boundary else None
        )
        take_home(embeddings, index, results[-1], threshold, hidden.tolist())
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
