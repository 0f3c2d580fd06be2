"""Printed reports: what a list holds, and how much of it is what is looked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from curation.contact_sheet import Sheet, Tile
from curation.pool import Pool
from curation.query import Query
from curation.selection import displayed
from curation.session import Session
from data.predictions import PREDICTED, confusions
from data.where import rows_where
from probe.metrics import wilson_interval
from probe.ranking import Ranking

SHOWN = 10  # crops that a report lists
K = 50  # results where no number is asked for
_SIGN = {True: " +", False: " -", None: ""}


@dataclass(frozen=True)
class Target:
    """What is looked for, where it is known: to count hits.

    Attributes:
        name: a class, or a condition.
        relevant: [N] bool.
    """

    name: str
    relevant: np.ndarray


def target_of(pool: Pool, query: Query, *, count_where: str = "") -> Target | None:
    """What is to be counted: what meets a condition, or the query's class; None where
    none is known.
    """
    if count_where:
        return Target(count_where, rows_where(pool.table, count_where, "count_where"))
    names = pool.table.column("label_name")
    found = {names[row] for row in query.examples.rows}
    name = found.pop() if len(found) == 1 else ""
    return Target(name, names == name) if name else None


@dataclass(frozen=True)
class Listed:
    """A list to report.

    Attributes:
        title: what it is.
        session: whose list it is.
        ranking: the first k over everything but the query.
        unmarked: the first k over crops that nobody marked; None where nothing is.
        marks: row -> relevant, at the time.
    """

    title: str
    session: Session
    ranking: Ranking
    unmarked: Ranking | None
    marks: Mapping[int, bool]


def list_of(
    session: Session, k: int, *, title: str = "", ascending: bool = False
) -> Listed:
    """The first k of a session, as its marks are now."""
    said = session.said()
    ranking = session.rank(k, ascending=ascending)
    unmarked = None
    if said:
        left = int(session.searched.sum()) - sum(session.searched[list(said)])
        most = min(k, int(left))
        unmarked = Ranking(np.array([], np.int64), np.array([]), kind=ranking.kind)
        if most:
            unmarked = session.rank(most, unmarked=True, ascending=ascending)
    return Listed(title or title_of(session), session, ranking, unmarked, said)


def title_of(session: Session) -> str:
    """What a session ranks by, in a line."""
    ranker, marks = session.ranker(), len(session.marks())
    if ranker.has_boundary:
        return f"linear probe, {marks} marks, {ranker.method}, C = {ranker.C:g}"
    less = " less negatives" if len(session.query.negatives) else ""
    if not marks:
        return f"cosine{less}"
    reason = f" ({ranker.reason})" if ranker.reason else ""
    return f"{ranker.method}{less}, {marks} marks{reason}"


def choose_k(k: int | None, session: Session) -> int:
    """How many results: as asked for, otherwise 50 or as many as there are."""
    available = int(session.searched.sum())
    if session.journal.facts.pool and not available:
        raise ValueError("where must leave crops to search besides the query; got none")
    if session.journal.facts.pool and not 1 <= (k or 1) <= available:
        raise ValueError(
            f"k must be at most the {available} crops that --where leaves besides the "
            f"query; got {k or 1}"
        )
    if not available:
        raise ValueError("there is no crop to list besides the query")
    return min(K, available) if k is None else k


def print_list(listed: Listed, target: Target | None) -> None:
    """Prints the first results, what classes they are of, and the precision where the
    class is known.
    """
    session, ranking = listed.session, listed.ranking
    table, names = session.pool.table, session.pool.table.column("label_name")
    print(f"\n{listed.title}\nrank   score  {'class':24s}  crop_id       image")
    first = ranking.page(0, SHOWN)
    scores = displayed(ranking.kind, first.scores)
    for rank, (row, score) in enumerate(zip(first.rows, scores, strict=True), 1):
        label, image = names[row] or "-", table.column("image")[row]
        print(f"{rank:4d}  {score:6.3f}  {label:24s}  {table.ids[row]}  {image}")
    if len(ranking) > SHOWN:
        print(f"      and {len(ranking) - SHOWN} more; --out and --sheet have all")
    if any(names):
        counts = Counter(names[ranking.rows]).most_common(5)
        parts = (f"{name or 'unlabeled'} {count}" for name, count in counts)
        print(f"top {len(ranking)}: " + ", ".join(parts))
    if target is not None:
        _print_precision(listed, target)


def _print_precision(listed: Listed, target: Target) -> None:
    session = listed.session
    unmarked = session.searched.copy()
    unmarked[list(listed.marks)] = False
    limited = bool(session.journal.facts.pool)
    where = " that --where leaves" if limited else ""
    parts = [
        (listed.ranking, f"all crops{where}", session.searched),
        (listed.unmarked, f"unmarked crops{where}", unmarked),
    ]
    for ranking, over, mask in parts:
        if ranking is None or not len(ranking):
            continue
        k, most = len(ranking), int((target.relevant & mask).sum())
        right = int(target.relevant[ranking.rows].sum())
        low, high = wilson_interval(right, k)
        note = f"; at most {most} can be" if most < k else ""
        print(
            f"{right} of {k} over {over} are {target.name}: {right / k:.2f}, 95 % "
            f"interval {low:.2f} to {high:.2f}{note}"
        )


def sheet_of(listed: Listed, target: Target | None, most: int | None = None) -> Sheet:
    """A list as a contact sheet."""
    session = listed.session
    embeddings = session.pool.embeddings
    ranking = listed.ranking.page(0, most) if most else listed.ranking
    scores = displayed(ranking.kind, ranking.scores)
    tiles = []
    for row, score in zip(ranking.rows.tolist(), scores, strict=True):
        caption = f"{score:.3f}{_SIGN[listed.marks.get(row)]}"
        tiles.append(Tile.of(embeddings, row, caption))
    title = listed.title
    if target is not None:
        right = int(target.relevant[ranking.rows].sum())
        title += f": {right} of {len(ranking)}"
    examples = session.query.examples
    queries = [Tile.of(embeddings, row, "query") for row in examples.rows]
    queries += [
        Tile(path, None, embeddings.window, "", "query") for path in examples.files
    ]
    return Sheet(title, queries, tiles)


def print_confusions(pool: Pool) -> None:
    """Prints what the predictions confuse with what."""
    predicted = pool.table.column(PREDICTED)
    print(
        f"{int((predicted != '').sum())} of {len(predicted)} crops have a prediction; "
        "most frequent confusions:"
    )
    for label, name, count in confusions(pool.table)[:SHOWN]:
        print(f"{count:6d}  {label or 'unlabeled'} called {name}")
