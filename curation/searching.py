"""What run_search.py does: a query and marks in; a list, a sheet, a saved probe out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.clustering import propose
from curation.contact_sheet import Sheet
from curation.lists import still_there
from curation.outputs import (
    check_outputs,
    check_probe_folder,
    draw,
    save_probe,
    write_class,
    write_list,
    write_review,
    write_suggestions,
)
from curation.pool import Pool, load, newest
from curation.query import Query, find_query, read_session_folder
from curation.report import (
    Listed,
    choose_k,
    list_of,
    print_confusions,
    print_list,
    sheet_of,
    target_of,
    title_of,
)
from curation.searching_classes import probe_folders, search_classes, split_classes
from curation.session import Session
from data.embeddings import EmbeddingSet
from probe.marks import Marks
from probe.ranking import Ranking
from probe.saved_probe import SavedProbe

SHEET = 200  # crops on a sheet of a whole class, at most


@dataclass(frozen=True)
class SearchRequest:
    """What to search for and what to write; see run_search.py for each."""

    embeddings: str = ""
    images_root: str = ""
    where: str = ""
    new: bool = False  # only what was added to the set last
    query: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    text: tuple[str, ...] = ()  # words, where the encoder has a text tower
    classes: tuple[str, ...] = ()  # NAME=crop id or image path: several at once
    k: int | None = None
    marks: str = ""
    probe: str = ""
    save_probe: str = ""
    suggest: str = ""
    review: str = ""
    suggest_count: int = 20
    query_strategy: str = "mix"
    compare: str = ""
    clusters: int = 0
    count_where: str = ""
    predictions: str = ""
    out: str = ""
    sheet: str = ""
    transform: str = ""  # of the embeddings: one of TRANSFORMS; see Pool
    method: str = "auto"  # from marks to a ranking
    ascending: bool = False  # the worst first
    hide_duplicates: bool = False  # what shows the same as an earlier crop
    milvus: str = ""  # search in Milvus: a .db path or a URI
    seed: int = 0

    @property
    def has_query(self) -> bool:
        """Whether it says what is looked for, by examples or in words."""
        return bool(self.query or self.text)

    def check(self) -> None:
        """Refuses combinations that make no sense, before work starts."""
        if self.classes:
            self._check_classes()
        if self.probe and (
            self.has_query
            or self.marks
            or self.negative
            or self.save_probe
            or self.suggest
        ):
            raise ValueError(
                "probe brings its query and marks, and excludes query, text, negative, "
                "marks, save_probe and suggest"
            )
        asks = self.suggest and not self.classes
        if (self.save_probe or self.review or asks) and not self.marks:
            raise ValueError("marks must be given with save_probe, suggest and review")
        if self.compare and not self.sheet:
            raise ValueError("sheet must be given with compare")
        if self.compare and (not self.query or self.text):
            raise ValueError("query alone must be given with compare")
        if self.negative and not self.has_query:
            raise ValueError("query must be given with negative")
        if self.suggest_count < 1:
            raise ValueError(
                f"suggest_count must be at least 1; got {self.suggest_count}"
            )
        if set(self.query) & set(self.negative):
            raise ValueError("query and negative must be different crops")
        if self.clusters == 1 or self.clusters < 0:
            raise ValueError(f"clusters must be at least 2; got {self.clusters}")

    def _check_classes(self) -> None:
        excluded = ("query", "text", "negative", "probe", "compare", "review")
        for name in (*excluded, "clusters", "count_where", "ascending"):
            if getattr(self, name):
                raise ValueError(f"classes bring their queries, and exclude {name}")
        split_classes(self.classes)


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
            "review": (request.review, ".csv"),
        }
    )
    folders: Iterable[str] = [request.save_probe]
    if request.classes and request.save_probe:
        names = split_classes(request.classes)
        folders = probe_folders(request.save_probe, names).values()
    for folder in folders:
        check_probe_folder(folder)
    embeddings = load(request.embeddings, request.images_root, request.predictions)
    if request.new:
        where = newest(embeddings.table)
        where = f"({request.where}) AND {where}" if request.where.strip() else where
        request = dataclasses.replace(request, where=where)
    if request.probe:
        return _search_by_probe(request, embeddings)
    pool = Pool(
        embeddings,
        transform=request.transform,
        milvus=request.milvus,
        build_cascade=True,
        hide_duplicates=request.hide_duplicates,
    )
    if request.predictions:
        print_confusions(pool)
    if request.classes:
        return search_classes(request, pool)
    if request.clusters:
        return propose(
            pool, request.where, request.clusters, request.sheet, request.seed
        )
    if not (request.has_query or request.marks):
        if request.predictions:
            return None
        raise ValueError(
            "query must be given (a crop id, or the path of an image), text, or marks"
        )
    return _search(request, pool)


def _start(
    request: SearchRequest, pool: Pool
) -> tuple[Session, dict[str, bool] | None]:
    """The session of a request without its marks, and the marks of a session's folder,
    if they are taken from one.
    """
    where, query, marks = request.where, Query(), None
    if request.has_query:
        query = find_query(pool, request.query, request.negative, request.text)
    if request.marks and Path(request.marks).is_dir():
        stored = read_session_folder(pool, request.marks)
        marks, where = stored.marks, where or stored.where
        query = query if request.has_query else stored.query
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
        words = " and ".join(f"{text!r}" for text in request.text)
        title = f"{title_of(session)} to {words}" if words else ""
        lists.append(list_of(session, k, title=title, ascending=ascending))
    if request.marks:
        _take_marks(session, request.marks, marks)
        lists.append(list_of(session, k, ascending=ascending))
    for listed in lists:
        print_list(listed, target)
    if request.save_probe:
        kept = save_probe(request.save_probe, session, lists[-1].title)
        # What was answered is known, and not asked for.
        session.prior_answers = session.known(kept)
    if request.suggest:
        write_suggestions(
            request.suggest, session, request.suggest_count, request.query_strategy
        )
    if request.review:
        write_review(request.review, session)
    if request.out:
        write_list(request.out, lists[-1], request.query, request.seed)
    if request.sheet:
        if request.compare:
            sheets = [_sheet_of_other_set(request), sheet_of(lists[-1], target)]
        else:
            sheets = [sheet_of(listed, target) for listed in lists]
        draw(request.sheet, sheets, pool)


def _take_marks(session: Session, path: str, marks: dict[str, bool] | None) -> None:
    """Enters the marks of a CSV, or those of a session's folder; those of crops that
    have gone since are counted.
    """
    if marks is None:
        stated = Marks.read(path)
        known = still_there(session.pool.table, stated.relevant)
        session.import_marks(dataclasses.replace(stated, relevant=known))
        if stated.changed:
            print(
                f"{len(stated.changed)} crops are marked both ways in {path}, such as "
                f"{stated.changed[0]}; the last mark counts"
            )
    elif marks:
        session.mark(still_there(session.pool.table, marks))


def _search_by_probe(request: SearchRequest, embeddings: EmbeddingSet) -> None:
    saved = SavedProbe.load(request.probe)
    pool = Pool(
        embeddings,
        transform=saved.transform,
        milvus=request.milvus,
        build_cascade=True,
        hide_duplicates=request.hide_duplicates,
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
        write_class(request.out, listed, request.query, request.seed)
    elif request.out:
        write_list(request.out, listed, request.query, request.seed)
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
