"""What run_evaluate.py does: how good is it? Retrieval over many queries, a simulated
annotator, the audit of a list, and how often a model fails.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from artifacts.files import back_up, write_csv
from curation.auditing import AuditRequest, audit
from curation.contact_sheet import Sheet, Tile
from curation.crops import leaks_in_words
from curation.mistakes import doubtful_labels
from curation.outputs import check_outputs, draw
from curation.pool import Pool, load
from curation.query import find_query
from curation.report import (
    SHOWN,
    Target,
    choose_k,
    list_of,
    print_confusions,
    print_list,
    sheet_of,
)
from curation.session import Session
from curation.simulation import Round, SimulatedAnnotator, simulate
from data.duplicates import first_of_each
from data.embeddings import EmbeddingSet
from data.splits import split_mask
from data.where import rows_where
from probe.metrics import (
    RetrievalQuality,
    macro,
    macro_interval,
    retrieval_quality,
)
from probe.transforms import Transform


@dataclass(frozen=True)
class EvaluateRequest:
    """What to measure; see run_evaluate.py for each."""

    embeddings: str = ""
    images_root: str = ""
    where: str = ""
    retrieval: bool = False
    split: str = "all"
    k: int | None = None
    query: tuple[str, ...] = ()
    simulate_label: str = ""
    simulate_where: str = ""
    rounds: int = 7
    per_round: int = 20
    query_strategy: str = "mix"
    sheet: str = ""
    mistakes: str = ""  # .csv for labels that the others contradict
    probe: str = ""
    audit: str = ""
    size: int = 100
    drawn_by: str = "rank"  # how the audit is; one of probe.estimate.DRAWN_BY
    target_precision: float = 0.95
    hide_duplicates: bool = False  # what shows the same as an earlier crop
    predictions: str = ""
    transform: str = ""  # of the embeddings: one of TRANSFORMS; see Pool
    method: str = "auto"
    seed: int = 0

    def check(self) -> None:
        """Refuses combinations that make no sense, before work starts."""
        simulated = bool(self.simulate_label or self.simulate_where)
        if self.simulate_label and self.simulate_where:
            raise ValueError("simulate_label and simulate_where exclude each other")
        what = [
            name
            for name, wanted in (
                ("retrieval", self.retrieval),
                ("simulate_label or simulate_where", simulated),
                ("audit", bool(self.audit)),
                ("mistakes", bool(self.mistakes)),
            )
            if wanted
        ]
        if len(what) > 1:
            raise ValueError(f"{' and '.join(what)} exclude each other")
        if not what and not self.predictions:
            raise ValueError(
                "one of retrieval, simulate_label, simulate_where, audit, mistakes or "
                "predictions must be given"
            )
        if self.retrieval and (self.query or self.sheet):
            raise ValueError(
                "retrieval takes every crop as a query and excludes query and sheet"
            )
        if self.audit and not self.probe:
            raise ValueError(
                "probe must be given with audit: an audit measures one ranking, which "
                "has to stay as it is"
            )
        if simulated and not self.query:
            raise ValueError(
                "query must be given with simulate_label and simulate_where"
            )
        if simulated and self.where:
            raise ValueError(
                "where can't be combined with a simulated annotator, who sees all crops"
            )
        if not 0 < self.target_precision <= 1:
            raise ValueError(
                "target_precision must be above 0 and at most 1; got "
                f"{self.target_precision}"
            )
        if self.size < 1 or self.rounds < 1 or self.per_round < 1:
            raise ValueError("size, rounds and per_round must be at least 1")


def run_evaluate(request: EvaluateRequest) -> None:
    """Measures what was asked for, and prints it.

    Raises:
        ValueError, OSError: with a message for the user.
    """
    request.check()
    outputs = {"sheet": (request.sheet, ".png"), "audit": (request.audit, ".csv")}
    check_outputs({**outputs, "mistakes": (request.mistakes, ".csv")})
    embeddings = load(request.embeddings, request.images_root, request.predictions)
    if request.retrieval:
        evaluate_retrieval(request, embeddings)
    elif request.audit:
        audit(_audit_of(request), embeddings)
    elif request.mistakes:
        find_mistakes(request, embeddings)
    elif request.predictions and not (request.simulate_label or request.simulate_where):
        print_confusions(Pool(embeddings, transform="l2"))
    else:
        simulate_marks(request, embeddings)


def _audit_of(request: EvaluateRequest) -> AuditRequest:
    return AuditRequest(
        audit=request.audit,
        probe=request.probe,
        where=request.where,
        size=request.size,
        drawn_by=request.drawn_by,
        target_precision=request.target_precision,
        seed=request.seed,
    )


# Mistakes


def find_mistakes(request: EvaluateRequest, embeddings: EmbeddingSet) -> None:
    """Lists crops whose label the others contradict, the clearest first."""
    pool = Pool(embeddings, transform=request.transform)
    found = doubtful_labels(pool, where=request.where, seed=request.seed)
    table = pool.table
    labeled = table.column("label_name") != ""
    if request.where:
        labeled &= rows_where(table, request.where)
    labels = int(labeled.sum())
    lines: list[list[object]] = [["crop_id", "label", "suggested", "odds", "image"]]
    for one in found:
        image = table.column("image")[one.row]
        crop_id = str(table.ids[one.row])
        lines.append([crop_id, one.label, one.suggested, f"{one.odds:.3f}", image])
    if Path(request.mistakes).is_file():
        moved = back_up(Path(request.mistakes))
        print(f"{request.mistakes} is kept as {moved}")
    write_csv(request.mistakes, lines)
    pairs = Counter((one.label, one.suggested) for one in found)
    for (label, suggested), count in pairs.most_common(SHOWN):
        print(f"{count:6d}  {label} that look like {suggested}")
    print(
        f"{len(found)} of {labels} labels contradict the others -> {request.mistakes}, "
        "the clearest first: look at them from the top, until they are right"
    )
    if request.sheet:
        tiles = [
            Tile.of(embeddings, one.row, f"{one.suggested} {one.odds:.1f}")
            for one in found[:200]
        ]
        title = f"{len(found)} labels that the others contradict; below each what it "
        draw(request.sheet, [Sheet(title + "looks like rather", [], tiles)], pool)


# Retrieval


def evaluate_retrieval(request: EvaluateRequest, embeddings: EmbeddingSet) -> None:
    """Prints P@k and R-precision for every class and their macro average."""
    table = embeddings.table
    inside = split_mask(table, request.split)
    if request.where:
        inside &= rows_where(table, request.where)
    if request.hide_duplicates:
        inside = first_of_each(table, inside)
    labels = table.column("label_name")[inside]
    if len(labels) < 2:
        raise ValueError(
            f"retrieval needs at least two crops to find one another; got {len(labels)}"
        )
    k = min(50, len(labels) - 1) if request.k is None else request.k
    # Neighbors and recordings of these crops alone, too.
    part = embeddings if inside.all() else embeddings.take(inside)
    pool = Pool(part, transform=request.transform)

    def measured(vectors: np.ndarray, transform: Transform) -> list[RetrievalQuality]:
        return retrieval_quality(
            vectors,
            labels,
            k,
            transform=transform,
            place_of_id=pool.index.place_of_id,
        )

    qualities = measured(pool.similar.vectors, pool.similar.transform)
    if not qualities:
        raise ValueError(
            "retrieval needs at least two crops of a class; this set has no labels"
        )
    print(f"{'class':28s} {'crops':>6s}  P@{k:<4d}  R-precision")
    for quality in qualities:
        ceiling = quality.ceiling
        note = f"  (at most {ceiling:.2f})" if ceiling < 1 else ""
        print(
            f"{quality.label:28s} {quality.count:6d}  {quality.precision:.3f}   "
            f"{quality.r_precision:.3f}{note}"
        )
    r_precision = macro(qualities, "r_precision")
    print(
        f"{'macro average':28s} {len(labels):6d}  {macro(qualities):.3f}   "
        f"{r_precision:.3f}"
    )
    low, high = macro_interval(qualities)
    print(f"95 % interval of the macro P@{k} over queries: {low:.3f} to {high:.3f}")
    if pool.index.transform.name != "l2":
        plain = measured(part.vectors, Transform())
        print(
            f"by plain cosine instead of the transform {pool.index.transform.name}: "
            f"P@{k} {macro(plain):.3f}, R-precision {macro(plain, 'r_precision'):.3f}"
        )
    leaking = "" if request.split == "all" else leaks_in_words(table)
    if leaking:
        print(leaking)
    single = sorted(set(labels) - {""} - {quality.label for quality in qualities})
    if single:
        print(f"left out, since a class of one crop finds nothing: {', '.join(single)}")


# The simulated annotator


def simulate_marks(request: EvaluateRequest, embeddings: EmbeddingSet) -> None:
    """Plays an annotator from one query, prints every round and the lists before and
    after.
    """
    pool = Pool(embeddings, transform=request.transform)
    query = find_query(pool, request.query)
    target = target_named(pool, request)
    rows = query.examples.rows
    if len(rows) != 1 or len(query.examples) != 1 or not target.relevant[rows[0]]:
        raise ValueError(
            "query must be one crop that the simulated annotator would mark as "
            f"relevant ({target.name!r})"
        )
    first = Session(pool, query=query, seed=request.seed)
    k = choose_k(request.k, first)
    lists = [list_of(first, k)]
    print(
        f"marks  relevant  P@{k} over everything  P@{k} over unmarked  average "
        "precision"
    )
    annotator = SimulatedAnnotator(target.relevant, seed=request.seed)
    session = first
    for figures, session in simulate(  # noqa: B007  the last one is listed
        pool,
        annotator,
        rows[0],
        rounds=request.rounds,
        per_round=request.per_round,
        k=k,
        strategy=request.query_strategy,
        method=request.method,
    ):
        print(_line(figures, k), flush=True)
    lists.append(list_of(session, k))
    for listed in lists:
        print_list(listed, target)
    if request.sheet:
        draw(request.sheet, [sheet_of(listed, target) for listed in lists], pool)


def _line(figures: Round, k: int) -> str:
    unmarked = "-"
    if figures.precision_unmarked is not None:
        of = "" if figures.unmarked == k else f" of {figures.unmarked}"
        unmarked = f"{figures.precision_unmarked:.2f}{of}"
    stop = "  stop signal" if figures.stop else ""
    return (
        f"{figures.marks:5d}  {figures.found:8d}  {figures.precision_all:20.2f}  "
        f"{unmarked:>18s}  {figures.average_precision:17.3f}{stop}"
    )


def target_named(pool: Pool, request: EvaluateRequest) -> Target:
    """What the simulated annotator looks for: a class, or what meets a condition."""
    if request.simulate_where:
        condition = request.simulate_where
        relevant = rows_where(pool.table, condition, "simulate_where")
        return Target(condition, relevant)
    names = pool.table.column("label_name")
    if request.simulate_label not in names:
        known = ", ".join(sorted(set(names) - {""}))
        raise ValueError(
            f"simulate_label must be one of {known}; got {request.simulate_label!r}"
        )
    return Target(request.simulate_label, names == request.simulate_label)
