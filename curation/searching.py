"""What run_search.py does: a query and marks in; a list, a sheet, a saved probe out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from artifacts.files import back_up, check_writable, write_json
from artifacts.provenance import provenance
from curation.contact_sheet import Sheet, Tile, draw_sheets
from curation.lists import keep_marked_list, write_marks, write_ranking
from curation.pool import TRANSFORM, Pool
from curation.query import Query, find_query, read_session_folder
from curation.report import (
    Listed,
    list_of,
    print_confusions,
    print_list,
    sheet_of,
    target_of,
)
from curation.selection import displayed
from curation.session import Session
from data.embeddings import EmbeddingSet, hashes_of
from data.images import write_png
from data.predictions import with_predictions
from probe.clusters import propose_clusters
from probe.estimate import STABLE, cohen_kappa
from probe.index import CosineIndex
from probe.marks import Marks
from probe.ranking import Ranking
from probe.saved_probe import SavedProbe

K = 50  # results where no number is asked for
SHEET = 200  # crops on a sheet of a whole class, at most
CLUSTER_TILES = 20


@dataclass(frozen=True)
class SearchRequest:
    """What to search for and what to write; see run_search.py for each."""

    embeddings: str = ""
    images_root: str = ""
    where: str = ""
    query: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    k: int | None = None
    marks: str = ""
    probe: str = ""
    save_probe: str = ""
    suggest: str = ""
    suggest_count: int = 20
    query_strategy: str = "mix"
    compare: str = ""
    clusters: int = 0
    count_where: str = ""
    predictions: str = ""
    out: str = ""
    sheet: str = ""
    transform: str = TRANSFORM  # of the embeddings: l2, center or whiten
    method: str = "auto"  # from marks to a ranking
    ascending: bool = False  # the worst first
    milvus: str = ""  # search in Milvus: a .db path or a URI
    seed: int = 0

    def check(self) -> None:
        """Refuses combinations that make no sense, before work starts."""
        if self.probe and (
            self.query or self.marks or self.negative or self.save_probe or self.suggest
        ):
            raise ValueError(
                "probe brings its query and marks, and excludes query, negative, "
                "marks, save_probe and suggest"
            )
        if (self.save_probe or self.suggest) and not self.marks:
            raise ValueError("marks must be given with save_probe and suggest")
        if self.compare and not self.sheet:
            raise ValueError("sheet must be given with compare")
        if self.compare and not self.query:
            raise ValueError("query must be given with compare")
        if self.negative and not self.query:
            raise ValueError("query must be given with negative")
        if self.suggest_count < 1:
            raise ValueError(
                f"suggest_count must be at least 1; got {self.suggest_count}"
            )
        if set(self.query) & set(self.negative):
            raise ValueError("query and negative must be different crops")
        if self.clusters == 1 or self.clusters < 0:
            raise ValueError(f"clusters must be at least 2; got {self.clusters}")


def check_outputs(outputs: dict[str, tuple[str, str]]) -> None:
    """Refuses files that can't be written, before work starts.

    Args:
        outputs: argument -> (path, the ending it must have).
    """
    for name, (path, suffix) in outputs.items():
        if path and Path(path).suffix.lower() != suffix:
            raise ValueError(f"{name} must be a {suffix} file; got {path!r}")
        if path:
            check_writable(Path(path).absolute().parent, name)


def load(embeddings: str, images_root: str, predictions: str = "") -> EmbeddingSet:
    """The embedding set of a request, with a model's predictions as columns."""
    if not embeddings:
        raise ValueError("embeddings must be given, the folder of an embedding set")
    found = EmbeddingSet.load(embeddings, images_root=images_root or None)
    if predictions:
        table = with_predictions(found.table, predictions)
        found = dataclasses.replace(found, table=table)
    return found


def run_search(request: SearchRequest) -> None:
    """Searches, and writes what was asked for.

    Raises:
        ValueError, OSError: with a message for the user.
    """
    request.check()
    check_outputs(
        {
            "sheet": (request.sheet, ".png"),
            "out": (request.out, ".csv"),
            "suggest": (request.suggest, ".csv"),
        }
    )
    _check_probe_folder(request.save_probe)
    embeddings = load(request.embeddings, request.images_root, request.predictions)
    if request.probe:
        return _search_by_probe(request, embeddings)
    pool = Pool(
        embeddings,
        transform=request.transform,
        milvus=request.milvus,
        build_cascade=True,
    )
    if request.predictions:
        print_confusions(pool)
    if request.clusters:
        return _propose(request, pool)
    if not (request.query or request.marks):
        if request.predictions:
            return None
        raise ValueError(
            "query must be given (a crop id, or the path of an image), or marks"
        )
    return _search(request, pool)


def _check_probe_folder(save_probe: str) -> None:
    folder = Path(save_probe)
    if not save_probe:
        return
    if folder.exists() and not (folder / "probe.json").is_file():
        raise ValueError(
            "save_probe must be a new folder or one that holds a probe; "
            f"{save_probe!r} holds something else"
        )
    check_writable(folder.absolute().parent, "save_probe")


def _start(
    request: SearchRequest, pool: Pool
) -> tuple[Session, dict[str, bool] | None]:
    """The session of a request without its marks, and the marks of a session's folder,
    if they are taken from one.
    """
    where, query, marks = request.where, Query(), None
    if request.query:
        query = find_query(pool, request.query, request.negative)
    if request.marks and Path(request.marks).is_dir():
        stored = read_session_folder(pool, request.marks)
        marks, where = stored.marks, where or stored.where
        query = query if request.query else stored.query
        ids = [str(pool.ids[row]) for row in query.examples.rows]
        uploads = len(query.examples) - len(ids)
        words = [*ids, *([f"{uploads} uploaded"] if uploads else [])]
        print(
            f"session {stored.name!r}: query {', '.join(words) or 'none'}; pool "
            f"{where or 'all crops'}"
        )
    session = Session(
        pool, query=query, where=where, method=request.method, seed=request.seed
    )
    return session, marks


def _search(request: SearchRequest, pool: Pool) -> None:
    session, marks = _start(request, pool)
    k = choose_k(request.k, session)
    target = target_of(pool, session.query, count_where=request.count_where)
    ascending = request.ascending
    lists = []
    if len(session.query.examples):
        lists.append(list_of(session, k, ascending=ascending))
    if request.marks:
        _take_marks(session, request.marks, marks)
        lists.append(list_of(session, k, ascending=ascending))
    for listed in lists:
        print_list(listed, target)
    if request.save_probe:
        _save_probe(request.save_probe, session, lists[-1].title)
    if request.suggest:
        _suggest(request, session)
    if request.out:
        _write_list(request, lists[-1])
    if request.sheet:
        if request.compare:
            sheets = [_sheet_of_other_set(request), sheet_of(lists[-1], target)]
        else:
            sheets = [sheet_of(listed, target) for listed in lists]
        draw(request.sheet, sheets, pool)


def _take_marks(session: Session, path: str, marks: dict[str, bool] | None) -> None:
    """Enters the marks of a CSV, or those of a session's folder."""
    if marks is None:
        stated = Marks.read(path)
        session.import_marks(stated)
        if stated.changed:
            print(
                f"{len(stated.changed)} crops are marked both ways in {path}, such as "
                f"{stated.changed[0]}; the last mark counts"
            )
    elif marks:
        session.mark(marks)


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
    return max(1, min(K, available)) if k is None else k


def _search_by_probe(request: SearchRequest, embeddings: EmbeddingSet) -> None:
    saved = SavedProbe.load(request.probe)
    pool = Pool(
        embeddings,
        transform=saved.transform,
        milvus=request.milvus,
        build_cascade=True,
    )
    session = Session(
        pool,
        where=request.where,
        probe=saved,
        seed=request.seed,
    )
    target = None
    if request.count_where:
        target = target_of(pool, session.query, count_where=request.count_where)
    whole = saved.threshold is not None and request.k is None and not request.ascending
    if whole:
        listed = _class_of(session, request.probe)
    else:
        listed = list_of(
            session,
            choose_k(request.k, session),
            title=f"probe {request.probe}",
            ascending=request.ascending,
        )
    print_list(listed, target)
    if request.out and whole:
        _write_class(request, listed)
    elif request.out:
        _write_list(request, listed)
    if request.sheet:
        draw(request.sheet, [sheet_of(listed, target, SHEET)], pool)


def _class_of(session: Session, name: str) -> Listed:
    """The class of a saved probe: from its threshold on, overruled by marks and
    answers.
    """
    learned, rows = session.learned(), session.selected()
    scores = learned.decision[rows].astype(np.float64)
    ranking = Ranking(rows, scores, kind=learned.kind)
    title = (
        f"probe {name}: {len(rows)} of {int(session.members.sum())} crops in the class"
    )
    return Listed(title, session, ranking, None, session.said())


def _write_class(request: SearchRequest, listed: Listed) -> None:
    """Writes the class, and beside it what was marked and answered."""
    session, path = listed.session, Path(request.out)
    _write(request, listed, keep_marks=False)
    marks_file = path.with_suffix(".marks.csv")
    state, probe = session.state, session.probe
    assert probe is not None
    marks = {**state.marks, **probe.answers}
    print(f"the class, {len(listed.ranking)} crops -> {path}")
    if marks:
        write_marks(marks_file, marks)
        print(f"its marks and answers -> {marks_file}")


def _write_list(request: SearchRequest, listed: Listed) -> None:
    _write(request, listed, keep_marks=True)
    print(f"results -> {request.out}")


def _write(request: SearchRequest, listed: Listed, *, keep_marks: bool) -> None:
    """Writes a list as CSV and its provenance as JSON beside it."""
    session, ranking = listed.session, listed.ranking
    embeddings = session.pool.embeddings
    keep_marked_list(request.out, session.state.marks)
    scores = displayed(ranking.kind, ranking.scores)
    write_ranking(
        request.out,
        embeddings.table,
        ranking.rows.tolist(),
        list(scores),
        listed.marks,
        keep_marks=keep_marks,
    )
    facts = {
        "title": listed.title,
        "query": list(request.query),
        "where": session.journal.facts.pool,
        "k": len(ranking),
        "marks": len(listed.marks),
        "embeddings": hashes_of(embeddings.meta),
        "provenance": provenance(request.seed),
    }
    write_json(f"{request.out}.json", facts)


def _save_probe(folder: str, session: Session, title: str) -> None:
    saved = session.saved_probe(title=title)
    earlier = _compare_with_earlier(folder, session, saved)
    moved = back_up(Path(folder))
    saved.save(folder)
    print(f"probe -> {folder}" + (f" (the one before: {moved})" if moved else ""))
    if earlier and earlier.answers:
        print(
            f"the probe before had {len(earlier.answers)} answers of an audit, which "
            f"are about its own ranking and stay in {moved}: audit this one anew"
        )


def _compare_with_earlier(
    folder: str, session: Session, saved: SavedProbe
) -> SavedProbe | None:
    """Prints how far a probe agrees with the one that was saved under its name before,
    the stop signal, and returns that one.
    """
    if not (Path(folder) / "probe.json").is_file():
        return None
    try:
        earlier = SavedProbe.load(folder)
        earlier.check(session.pool.embeddings.meta)
    except ValueError as error:
        print(f"not compared with the probe saved there before: {error}")
        return None
    if earlier.marks == saved.marks:
        print("no new marks since the probe saved there before: nothing to compare")
        return earlier
    if not (earlier.ranker.has_boundary and saved.ranker.has_boundary):
        return earlier
    index = CosineIndex(session.pool.embeddings, transform=earlier.transform)
    before = index.decision(earlier.ranker) > 0
    kappa = cohen_kappa(before, session.learned().decision > 0)
    print(
        f"agrees with the probe saved there before: kappa {kappa:.2f} ({STABLE} or "
        "more twice in a row: marking can stop)"
    )
    return earlier


def _suggest(request: SearchRequest, session: Session) -> None:
    """Writes what to mark next, with all marks so far after it, so that the file given
    back as --marks loses none.
    """
    ids = session.suggest(request.suggest_count, strategy=request.query_strategy)
    rows = session.pool.rows(ids)
    learned = session.learned()
    scores = displayed(learned.kind, learned.decision[rows].astype(np.float64))
    keep_marked_list(request.suggest, session.state.marks)
    table = session.pool.table
    write_ranking(request.suggest, table, rows, list(scores), session.marks())
    print(f"{len(rows)} crops to mark next -> {request.suggest}")


def _sheet_of_other_set(request: SearchRequest) -> Sheet:
    """The same query in the embedding set of --compare, by cosine."""
    embeddings = EmbeddingSet.load(
        request.compare, images_root=request.images_root or None
    )
    pool = Pool(embeddings, transform=request.transform, build_cascade=True)
    query = find_query(pool, request.query, request.negative)
    session = Session(pool, query=query, where=request.where, seed=request.seed)
    k = choose_k(request.k, session)
    listed = list_of(session, k, ascending=request.ascending)
    listed = dataclasses.replace(listed, title=f"{listed.title}, {request.compare}")
    target = target_of(pool, query, count_where=request.count_where)
    return sheet_of(listed, target)


def draw(path: str, sheets: list[Sheet], pool: Pool, columns: int = 10) -> None:
    """Draws sheets side by side into a file."""
    write_png(path, draw_sheets(sheets, pool.table.classes, columns=columns))
    print(f"contact sheet -> {path}")


def _propose(request: SearchRequest, pool: Pool) -> None:
    """Prints clusters among the crops that --where leaves, each with the crop to start
    from; --sheet draws them.
    """
    rows = np.flatnonzero(pool.mask(request.where))
    unit = pool.index.unit_vectors(rows)
    clusters = propose_clusters(unit, rows, request.clusters, request.seed)
    print("cluster  crops  tightness  start from")
    sheets = []
    for number, cluster in enumerate(clusters, 1):
        start = pool.ids[cluster.rows[0]]
        print(
            f"{number:7d}  {len(cluster.rows):5d}  {cluster.tightness:9.2f}  "
            f"--query={start}"
        )
        first = cluster.rows[:CLUSTER_TILES]
        tiles = [Tile.of(pool.embeddings, row, "") for row in first]
        title = f"cluster {number}: {len(cluster.rows)} crops"
        sheets.append(Sheet(title, [], tiles))
    print(
        "Clusters are proposals: search from each with the same --where, mark, and see "
        "whether it is a class."
    )
    if request.sheet:
        draw(request.sheet, sheets, pool, columns=5)
