"""A session: marks in; rankings, suggestions, estimates and a class out.

Everything a person does, whether in the terminal, on the page, in a notebook or
simulated, goes through here. It has no flags, no HTTP and no threads, and stores
nothing but its journal: what is marked is what the journal's lines come to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.provenance import provenance
from curation.card import MARKED, THRESHOLD, Card
from curation.estimate import (
    TOP,
    Estimate,
    estimate_class,
    known_audit,
    population_of,
)
from curation.journal import SESSION, Journal, State, write_session
from curation.lru_cache import LruCache
from curation.pool import Pool
from curation.query import (
    Examples,
    Query,
    find_query,
    load_uploads,
    query_of_probe,
    stated_query,
)
from curation.selection import choose, decision_of, displayed
from curation.session_facts import name_uploads, session_facts
from data.formats.writing import Selection
from data.predictions import PREDICTED
from probe.estimate import draw_audit
from probe.index import CosineIndex
from probe.marks import Marks
from probe.methods import LinearRanker, learn_from
from probe.query_strategies import suggest
from probe.ranking import Ranking
from probe.saved_probe import SavedProbe, identity_of
from probe.transforms import mean_direction

SORTS = ("best", "ask", "boundary", "worst", "doubtful", "contested", "audit")
ASK = 40  # crops that the sort `ask` shows


class Learned:
    """What the first lines of a session taught.

    Attributes:
        number: of those lines; the ranking's name.
        ranker: what was learned.
        ranking: of the session's part of the pool but the query, best first.
    """

    def __init__(
        self, number: int, ranker: LinearRanker, index: CosineIndex, mask: np.ndarray
    ):
        self.number, self.ranker, self._index = number, ranker, index
        self.ranking = index.rank(ranker, mask=mask, decision=lambda: self.decision)

    @cached_property
    def decision(self) -> np.ndarray:
        """Scores of all crops, intercept included, [N] float32; computed when they are
        first asked for.
        """
        return self._index.decision(self.ranker)

    @property
    def kind(self) -> str:
        """What the scores are: "cosine" or "decision"."""
        return self.ranker.kind


class Session:
    """A search with its marks, over a pool.

    A ranking is named by a number: of the lines of the journal that it was learned
    from; 0 is that of the query alone. With a folder, `with Session(...) as session:`
    lets it go at the end.

    Example:
        >>> session = Session(pool, query="images/0017.jpg")
        >>> session.mark({crop_id: True, another: False})
        >>> session.rank().page(0, 50).rows

    Args:
        pool: what is searched.
        query: crop ids or image paths, or a `Query`; a probe brings its own, and with
            marks it may be left out.
        negative: the same of what it should not look like.
        where: search only crops that meet this SQL condition.
        folder: of the session on disk: opened if it is one, else made; None keeps
            everything in memory.
        probe: a saved probe to rank by, which nothing that is marked changes.
        journal: an open one, instead of a folder's; see `Classes`.
        class_name: of the class that is looked for.
        method: from marks to a ranking; one of `probe.methods.METHODS`.
        seed: of audits and of the probe's random crops.

    Raises:
        ValueError: the query isn't found, the session is of other embeddings, or the
            probe of another encoder.
        RuntimeError: another process holds the session.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        query: str | Path | Sequence[str] | Query | None = None,
        negative: str | Path | Sequence[str] = (),
        where: str = "",
        folder: str | Path | None = None,
        probe: SavedProbe | None = None,
        journal: Journal | None = None,
        class_name: str = "",
        method: str = "auto",
        seed: int = 0,
    ):
        self.pool, self.probe = pool, probe
        if probe is not None:
            probe.check(pool.embeddings.meta)
        if isinstance(query, str | Path | Sequence):
            query = find_query(pool, query, negative)
        if journal is not None:
            self.journal = journal
        elif folder is not None and (Path(folder) / SESSION).is_file():
            self.journal = Journal(folder)
        else:
            if query is None:
                query = Query() if probe is None else query_of_probe(pool, probe)
            outside = query.examples.outside
            uploads = {} if outside is None else name_uploads(outside)
            facts = session_facts(
                pool,
                query,
                where=where,
                class_name=class_name,
                method=method,
                seed=seed,
                uploads=list(uploads),
            )
            if folder is not None:
                write_session(Path(folder), facts, uploads=uploads)
            self.journal = Journal(folder, facts)
        try:
            self._take_up(query)
        except BaseException:
            self.journal.close()
            raise
        self._learned: LruCache[Learned] = LruCache(8)
        self._decided: LruCache[np.ndarray | None] = LruCache(64)
        self._earlier: LruCache[Session] = LruCache(4)  # with what they learned

    def _take_up(self, query: Query | None) -> None:
        """Resolves what the journal's facts name."""
        facts = self.journal.facts
        facts.refuse_several()
        # Its thresholds are figures of the transform that it was made with.
        pool = self.pool = self.pool.with_transform(facts.transform)
        stated = facts.embeddings.get("sha256")
        rows = pool.embeddings.rows_when(stated) if stated else None
        if stated and rows is None:
            raise ValueError(
                f"session {facts.name!r} must be opened with the embeddings it was "
                "made with, or duplicated"
            )
        if query is None:
            query = stated_query(pool, facts.query, self.journal.folder or Path())
        self.query = query
        condition = facts.pool
        has_predictions = PREDICTED in pool.table.rows.column_names
        if PREDICTED in condition and not has_predictions:
            raise ValueError(
                f"session {facts.name!r} is about predictions: start the program "
                "with --predictions"
            )
        self.members = pool.mask(condition, allow_empty=True)
        # Of a set that has grown since, among the crops that it had then.
        if facts.pool_hash not in ("", pool.hash_of(condition, rows)):
            raise ValueError(
                f"session {facts.name!r} must be opened with its own predictions: "
                "its condition means other crops"
            )
        self.crops_at_start = rows or len(pool)
        self.searched = self.members.copy()
        self.searched[pool.showing_the_same(self.query.rows)] = False
        self.seed = facts.seed
        # Of an earlier audit, as the probe keeps them.
        self.prior_answers: dict[int, bool] = {}
        if self.probe is not None:
            self.prior_answers = self.known(self.probe.answers)
            marks = {str(name): mark for name, mark in self.probe.marks.items()}
            if marks and not self.journal.lines:
                self.journal.add("mark", marks=marks)

    def query_of(self, state: State | None = None) -> Query:
        """What is looked for, with the examples that were added and taken off since the
        session began. (A mark on a crop that is an example counts instead of it.)
        """
        state = state or self.state
        if not state.uploads:
            return self.query
        folder, before = self.journal.folder or Path(), self.query
        like, unlike = state.examples(self.journal.facts.query.uploads)
        against = before.negatives.outside
        kept = [] if against is None else [against]
        others = load_uploads(folder, unlike)
        kept += [] if others is None else [others]
        return Query(
            Examples(before.examples.rows, load_uploads(folder, like)),
            Examples(before.negatives.rows, np.concatenate(kept) if kept else None),
        )

    def change_examples(
        self, uploads: Mapping[str, bool | None], by: str = "", action: str = ""
    ) -> int:
        """Adds images from outside to the query, or takes them off; see `Line.uploads`.

        Args:
            uploads: name of an embedding in the session's folder -> whether it is like
                what is looked for; None takes it off.
            by, action: see `mark`.

        Raises:
            ValueError: there is no such embedding, or no example would be left.
        """
        folder = self.journal.folder
        for name in uploads:
            if folder is None or not (folder / f"{name}.npy").is_file():
                raise ValueError(f"upload must lie in the session's folder; got {name}")
        state = self.state.copy()
        state.uploads.update(uploads)
        marks = self.marks(state)
        query = self.query_of(state)
        given = [row for row in query.examples.rows if row not in marks]
        outside = query.examples.outside
        if not given and outside is None and not any(marks.values()):
            raise ValueError(
                "the last example can't be taken off: add another first, or mark "
                "something relevant"
            )
        return self.journal.add("examples", by, action, uploads=dict(uploads))

    def as_when(self, rows: int) -> Session:
        """The session over the pool as it was when it had so many crops: the same
        marks, as far as they are of those.
        """
        query = self.query
        if any(row >= rows for row in query.rows):
            raise ValueError("query must be of crops that there were then")

        def open_then() -> Session:
            pool, journal = self.pool.as_when(rows), self.journal
            return Session(pool, query=query, journal=journal, probe=self.probe)

        return self._earlier.get(rows, open_then)

    def close(self) -> None:
        """Lets another process have the session; it can be read on, not marked."""
        self.journal.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        facts, marks = self.journal.facts, self.state.marks
        return (
            f"Session({facts.name!r}, {self.searched.sum():,} crops to search, "
            f"{sum(marks.values())} relevant and {len(marks) - sum(marks.values())} "
            "not relevant marks)"
        )

    def uploads(self, state: State | None = None) -> list[str]:
        """Names of the images from outside that are examples."""
        return (state or self.state).examples(self.journal.facts.query.uploads)[0]

    # Marks

    @property
    def state(self) -> State:
        """What the journal's lines come to."""
        return self.journal.state()

    def known(self, marks: Mapping[str, bool]) -> dict[int, bool]:
        """row -> relevant; marks of crops that aren't in the set (a session of an
        earlier one) are left alone.
        """
        pairs = ((self.pool.table.row_of(name), mark) for name, mark in marks.items())
        return {row: mark for row, mark in pairs if row is not None}

    def marks(self, state: State | None = None) -> dict[int, bool]:
        """row -> relevant, of what was marked to be learned from."""
        return self.known((state or self.state).marks)

    def answers(self, state: State | None = None) -> dict[int, bool]:
        """row -> relevant, of what was answered in an audit."""
        now = (state or self.state).answers
        return self.earlier_answers(state) | self.known(now)

    def earlier_answers(self, state: State | None = None) -> dict[int, bool]:
        """row -> relevant, of what was answered in audits before the last; what was
        marked since counts as a mark.
        """
        told = state or self.state
        marked, earlier = self.marks(told), self.known(told.earlier).items()
        unmarked = {row: answer for row, answer in earlier if row not in marked}
        return self.prior_answers | unmarked

    def said(self, state: State | None = None) -> dict[int, bool]:
        """row -> relevant, by marks and by answers to an audit, which count more."""
        return self.marks(state) | self.answers(state)

    def mark(
        self,
        changes: Mapping[str, bool | None],
        by: str = "",
        action: str = "",
        ranking: int | None = None,
        sort: str = "best",
    ) -> tuple[int, list[str]]:
        """Marks crops, or, in the order `audit`, answers the audit.

        Args:
            changes: crop id -> relevant; None takes a mark back.
            by: who did it.
            action: an id, by which an action that is sent again is known.
            ranking, sort: the list in which it was marked; default: the present one.

        Returns:
            The line's number, once it is on the disk, and the crops that were left out:
            those of an audit that isn't learned from are answered in its own list.

        Raises:
            ValueError: no such crop, or nothing is left.
            RuntimeError: the session is closed.
        """
        _check_marks(changes)
        rows = self.pool.rows(list(changes))
        state = self.state
        if sort == "audit":
            return self._answer(changes, by, action), []
        held = set(self.sampled(state))
        pairs = zip(changes, rows, strict=True)
        left_out = [crop_id for crop_id, row in pairs if row in held]
        kept = {name: mark for name, mark in changes.items() if name not in left_out}
        if not kept:
            raise ValueError(
                "the crop belongs to the random sample, which isn't learned from: mark "
                "it under Random sample"
            )
        if ranking is None:
            ranking = self.journal.name_of_marks()
        facts: dict[str, Any] = {"ranking": ranking, "sort": sort}
        if held and sort == "best":
            facts["passed"] = self._passed(rows, held, ranking, state)
        return self.journal.add("mark", by, action, marks=kept, **facts), left_out

    def _passed(
        self, rows: Sequence[int], held: set[int], ranking: int, state: State
    ) -> list[str]:
        """Crops of the sample that have marked ones next to them on either side of a
        list, others of the sample apart.
        """
        decision = self.learned(ranking).decision
        assert state.audit is not None
        before = self.marks(self.journal.state(state.audit.n - 1))
        asked = self.searched.copy()
        asked[[*before, *self.earlier_answers(state)]] = False
        order = np.flatnonzero(asked)
        order = order[np.argsort(-decision[order], kind="stable")]
        places = np.full(len(self.pool), -1)
        places[order] = np.arange(len(order))
        marked = {*self.marks(state), *rows} - held
        found: list[int] = []
        for row in marked & set(rows):
            if places[row] < 0:
                continue
            for step in (-1, 1):
                run, place = [], int(places[row]) + step
                while 0 <= place < len(order) and int(order[place]) in held:
                    run.append(int(order[place]))
                    place += step
                above = step < 0 and place < 0
                if above or (place < len(order) and int(order[place]) in marked):
                    found += run
        return [str(self.pool.ids[row]) for row in dict.fromkeys(found)]

    def answer(self, changes: Mapping[str, bool | None], by: str = "") -> int:
        """Answers crops of the audit; see `mark`."""
        return self.mark(changes, by, sort="audit")[0]

    def _answer(self, changes: Mapping[str, bool | None], by: str, action: str) -> int:
        state = self.state
        if state.audit is None or not set(changes) <= set(state.audit.rows):
            raise ValueError("marks in the view audit must be of crops of the audit")
        kind = "correct" if state.sample_learned else "answer"
        return self.journal.add(kind, by, action, marks=dict(changes))

    def import_marks(self, path: str | Path | Marks, *, replace: bool = False) -> int:
        """Takes up a CSV of marks; returns how many it holds.

        Args:
            path: with the columns crop_id and relevant; or what was read from it.
            replace: start anew with them, rather than merge.
        """
        stated = (path if isinstance(path, Marks) else Marks.read(path)).relevant
        self.pool.table.rows_of(stated, "marks")
        changes: dict[str, bool | None] = dict(stated)
        if replace:
            gone = {name: None for name in self.state.marks if name not in stated}
            changes = {**gone, **changes}
        self.journal.add("mark", marks=changes, ranking=0, sort="import")
        return len(stated)

    def undo(self, by: str = "", action: str = "") -> int | None:
        """Takes back this person's last action; None where there is nothing to."""
        return self.journal.undo(by, action)

    def redo(self, by: str = "", action: str = "") -> int | None:
        """Brings back what was undone last; None where there is nothing to.

        Raises:
            ValueError: it would mark crops of a random sample that was drawn since.
        """
        return redo_unless_held(self.journal, self.pool, self.sampled(), by, action)

    # Rankings

    def learned(self, number: int | None = None) -> Learned:
        """What the first `number` lines come to, by default all; any of them can be
        made again.
        """
        number = self.journal.name_of_marks() if number is None else number
        return self._learned.get(number, lambda: self._learn(number))

    def _learn(self, number: int) -> Learned:
        ranker = self.ranker(self.journal.state(number))
        return Learned(number, ranker, self.pool.index_of(ranker), self.searched)

    def decided(self, number: int) -> np.ndarray | None:
        """Which searched crops a ranking takes for relevant, [n] bool; None while it is
        by cosine.
        """

        def decide() -> np.ndarray | None:
            learned = self.learned(number)
            has_boundary = learned.kind == "decision"
            return learned.decision[self.searched] > 0 if has_boundary else None

        return self._decided.get(number, decide)

    def ranker(
        self, state: State | None = None, *, similar: bool = True
    ) -> LinearRanker:
        """What the marks come to; a fixed probe is what it is.

        Args:
            state: of the journal; default: the present one.
            similar: whether examples alone are ranked by in `pool.similar`.
        """
        if self.probe is not None:
            return self.probe.ranker
        index, marks = self.pool.index, self.marks(state)
        query = self.query_of(state)
        negatives = query.negatives
        if not marks and not len(negatives):
            if not len(query.examples):
                raise ValueError(
                    "query must be given (a crop id, or the path of an image), or marks"
                )
            return self._cosine(query, similar=similar)
        try:
            return learn_from(
                index,
                marks,
                examples=query.examples.vectors(self.pool),
                example_rows=query.examples.rows,
                negatives=negatives.vectors(self.pool),
                method=self.journal.facts.method,
                seed=self.seed,
            )
        except ValueError as error:  # all is marked as not relevant, the query too
            if not len(query.examples):
                raise
            return self._cosine(query, str(error), similar=similar)

    def _cosine(self, query: Query, reason: str = "", *, similar: bool) -> LinearRanker:
        alike = query.examples.vectors(self.pool, similar=similar)
        direction = mean_direction(self.pool.index.transform(alike))
        return LinearRanker(direction.astype(np.float64), reason=reason)

    def rank(
        self, k: int | None = None, *, unmarked: bool = False, ascending: bool = False
    ) -> Ranking:
        """The pool in the order of the present marks; the query is never in it.

        Args:
            k: only the first k: faster on large pools, whose index is then used.
            unmarked: leave out what was marked or answered.
            ascending: the k worst, worst first.
        """
        mask = self.searched
        if unmarked:
            mask = mask.copy()
            mask[list(self.said())] = False
        if k is not None:
            ranker = self.ranker()
            return self.pool.index_of(ranker).top(
                ranker, k, mask=mask, ascending=ascending
            )
        learned = self.learned()
        if not unmarked:
            return learned.ranking
        index = self.pool.index_of(learned.ranker)
        return index.rank(learned.ranker, mask=mask, decision=lambda: learned.decision)

    def suggest(
        self,
        count: int,
        *,
        strategy: str = "mix",
        number: int | None = None,
        among: np.ndarray | None = None,
    ) -> list[str]:
        """Crop ids of what to mark next, most telling first.

        Args:
            count: how many; fewer where fewer are left.
            strategy: one of `probe.query_strategies.STRATEGIES`.
            number: of the ranking; default: the present one.
            among: [N] bool, ask only for these.
        """
        learned = self.learned(number)
        state = self.journal.state(number)
        marks = self.marks(state)
        mask = self.searched.copy() if among is None else self.searched & among
        mask[[*marks, *self.answers(), *self.sampled()]] = False
        if not mask.any():
            return []
        index, ranker, decision = self.pool.index, learned.ranker, learned.decision
        if self.pool.index_of(ranker) is not index:
            # Asked for by what a probe will learn on.
            ranker = self.ranker(state, similar=False)
            decision = index.decision(ranker)
        known = np.array([*marks, *self.query.examples.rows], np.int64)
        rows = suggest(
            index.rank(ranker, mask=mask, decision=decision),
            decision,
            count,
            strategy=strategy,
            unit_vectors=index.unit_vectors,
            known=known,
            relevant=sum(marks.values()),
            seed=self.seed + len(known),
        )
        return [str(crop_id) for crop_id in self.pool.ids[rows]]

    def disputed(
        self,
        changes: Mapping[str, bool | None],
        seen: Mapping[str, bool | None],
        by: str,
        sort: str = "best",
    ) -> dict[str, bool]:
        """crop id -> how another has marked it, of crops that would be overwritten by
        one who hasn't seen that.

        Args:
            changes: crop id -> mark that is to be made.
            seen: crop id -> mark that was seen when it was made.
            by: who makes them.
            sort: the list; in `audit` they are answers.
        """
        state = self.state
        now = state.answers if sort == "audit" else state.marks
        return state.disputed(now, changes, seen, by)

    def doubtful(self) -> dict[str, float]:
        """crop id -> log odds against its mark, of marks that the others contradict,
        the least likely first: worth a second look.
        """
        from curation.mistakes import doubtful_marks  # imports scikit-learn

        ids, found = self.pool.ids, doubtful_marks(self)
        return {str(ids[row]): against for row, against in found.items()}

    # Audit

    def sampled(self, state: State | None = None) -> list[int]:
        """Rows of the audit's sample, unless its answers were learned: marks on them
        would no longer leave it apart.
        """
        state = state or self.state
        if state.audit is None or state.sample_learned:
            return []
        return self.pool.rows(list(state.audit.rows))

    def audit(
        self, size: int, by: str = "", action: str = "", *, drawn_by: str = ""
    ) -> list[str]:
        """Draws a random sample of the crops that nobody marked or answered before;
        see `probe.estimate`.

        Args:
            size: how many; fewer where fewer are left.
            by, action: see `mark`.
            drawn_by: "rank", to judge the top of the present ranking, or "uniform", to
                tell a rate; default: uniform where a model's failures are looked for.

        Returns:
            Their crop ids, in an order that tells nothing about the score.
        """
        state, number = self.state, self.journal.name_of_marks()
        if not drawn_by:
            failures = self.journal.facts.use == "failures"
            drawn_by = "uniform" if failures else "rank"
        learned = self.learned(number)
        population, strata = population_of(self, learned, state, drawn_by)
        if not len(population):
            raise ValueError(
                "a random sample needs crops that nobody marked; all are marked"
            )
        # Of the session and of how many were drawn, not of how marks were sent.
        seed = [self.seed, state.audits]
        rows = draw_audit(strata, min(size, len(population)), seed)
        rows = np.random.default_rng([*seed, 1]).permutation(rows)
        ids = [str(crop_id) for crop_id in self.pool.ids[rows]]
        facts = {"ranking": number, "seed": seed, "drawn_by": drawn_by}
        facts["crops"] = len(self.pool)
        line = self.journal.add("audit", by, action, rows=ids, **facts)
        return list(self.journal.lines[line - 1].rows)

    def learn_answers(self, by: str = "", action: str = "") -> int:
        """Turns the audit's answers into marks; what it says stays true of the ranking
        it was drawn for.
        """
        state = self.state
        if not state.answers:
            raise ValueError("audit must have answers to learn from")
        return self.journal.add("learn", by, action, marks=dict(state.answers))

    def estimate(
        self, number: int | None = None, threshold: float | None = None
    ) -> Estimate:
        """What the audit says of the crops from a threshold on; of the ranking that it
        was drawn for, where its answers were learned from since.

        Args:
            number: of the ranking; default: the present one.
            threshold: decision value; default: the session's.
        """
        learned = self.learned(number)
        if threshold is None:
            threshold = self.threshold(learned)
        return estimate_class(self, learned, threshold)

    # The class

    def set_threshold(
        self, value: float, by: str = "", action: str = "", *, kind: str = ""
    ) -> int:
        """Sets the decision value (a cosine, while there is no probe) from which a crop
        counts as relevant.

        Args:
            value: on the scale of `kind`, by default the present ranking's.
            by, action: see `mark`.
            kind: "cosine" or "decision".
        """
        kind = kind or self.learned().kind
        return self.journal.add("threshold", by, action, value=float(value), scale=kind)

    def threshold_for(
        self, precision: float, learned: Learned | None = None
    ) -> float | None:
        """The decision value from which on the audit shows so precise a list, the
        longest there is; see `Audit.pick`. None where it shows none, isn't wholly
        answered, or its answers were learned from.

        Args:
            precision: in (0, 1], of the crops that nobody had marked.
            learned: the ranking; default: the present one.
        """
        learned = learned or self.learned()
        known = None if self.state.sample_learned else known_audit(self, learned)
        if known is None:
            return None
        audit, judged = known
        count = audit.pick(precision)
        return float(judged.decision[audit.order[count - 1]]) if count else None

    def threshold(self, learned: Learned | None = None) -> float:
        """The decision value from which a crop counts: as set, if it was on the same
        scale; otherwise 0, which is confidence 0.5, or the score of the 50th.
        """
        learned = learned or self.learned()
        line = self.state.threshold
        if line is not None:
            # Version 0.5.0 kept confidences.
            confident = line.scale == "confidence"
            if ("decision" if confident else line.scale) == learned.kind:
                return decision_of("decision", line.value) if confident else line.value
        if self.probe is not None and self.probe.threshold is not None:
            return self.probe.threshold
        if learned.kind == "decision":
            return 0.0
        first = learned.ranking.page(0, TOP).scores
        return float(first[-1]) if len(first) else 0.0

    def selected(
        self,
        what: str = THRESHOLD,
        *,
        number: int | None = None,
        threshold: float | None = None,
    ) -> np.ndarray:
        """Rows of the class, best first.

        Args:
            what: `threshold`: those from it on, overruled by what a person said; or
                `marked`: only what a person said. The query's own crops are relevant
                unless said otherwise.
            number: of the ranking; default: the present one.
            threshold: decision value; default: the session's.
        """
        if what not in (THRESHOLD, MARKED):
            raise ValueError(f"what must be {THRESHOLD} or {MARKED}; got {what!r}")
        learned = self.learned(number)
        if threshold is None:
            threshold = self.threshold(learned)
        return choose(
            learned.decision.astype(np.float64),
            threshold if what == THRESHOLD else None,
            self.said(),
            self.query.examples.rows,
            self.searched,
            members=self.members,
            tolerance=self.pool.index.tolerance(learned.ranker),
        )

    def select(
        self,
        what: str = THRESHOLD,
        *,
        class_name: str = "",
        number: int | None = None,
        among: np.ndarray | None = None,
    ) -> Selection:
        """The class, for `export`; see `selected`. `among`, [N] bool, leaves a part."""
        rows = self.selected(what, number=number)
        if among is not None:
            rows = rows[among[rows]]
        learned = self.learned(number)
        scores = displayed(learned.kind, learned.decision[rows].astype(np.float64))
        name = class_name or self.journal.facts.class_name
        window = self.pool.embeddings.window
        return Selection(self.pool.table, rows, scores, name, self.said(), window)

    def card(
        self, what: str = THRESHOLD, *, number: int | None = None, part: str = ""
    ) -> Card:
        """What is known of the class, for `export`. `part` says, for people, which part
        of it is exported: a random sample of the whole says nothing of that.
        """
        learned, facts = self.learned(number), self.journal.facts
        threshold = self.threshold(learned)
        known = self.estimate(number, threshold)
        estimates = None if part else known.for_card()
        title = ""
        if self.probe is not None:
            title = str(self.probe.facts.get("title", ""))
            if not part:
                estimates = estimates or self._saved_estimates(threshold)
        return Card(
            query=(*facts.query.crops, *self.uploads()),
            where=facts.pool,
            selected=what,
            marks=self.state.marks,
            answers={
                **(self.probe.answers if self.probe else {}),
                **self.state.earlier,
                **self.state.answers,
            },
            ranker=learned.ranker,
            transform=self.pool.index.transform.name,
            threshold=threshold,
            meta=self.pool.embeddings.meta,
            estimates=estimates,
            seed=self.seed,
            session=facts.name,
            title=title,
            facts={"ranking": learned.number},
            part=part,
        )

    def _saved_estimates(self, threshold: float) -> Mapping[str, object] | None:
        """Those that an audit left in the probe, if they are of these crops."""
        assert self.probe is not None
        found = self.probe.facts.get("estimates")
        if not found or threshold != self.probe.threshold:
            return None
        here = (self.journal.facts.pool, self.pool.embeddings.meta["sha256"])
        return found if (found.get("where"), found.get("embeddings")) == here else None

    def saved_probe(self, *, title: str = "", number: int | None = None) -> SavedProbe:
        """What was learned, to rank other embeddings of the same encoder by; its
        `save(folder)` writes it.
        """
        learned, facts = self.learned(number), self.journal.facts
        learned_from = self.journal.state(number)
        has_threshold = learned.kind == "decision" or self.state.threshold is not None
        threshold = self.threshold(learned)
        known = self.estimate(number, threshold).for_card()
        here = {"where": facts.pool, "embeddings": self.pool.embeddings.meta["sha256"]}
        return SavedProbe(
            self.pool.index.transform,
            learned.ranker,
            identity_of(self.pool.embeddings.meta),
            dict(learned_from.marks),
            facts.query.crops,
            threshold if has_threshold else None,
            {**self.state.earlier, **self.state.answers},
            {
                "title": title or f"session {facts.name}",
                **({"estimates": {**known, **here}} if known else {}),
                "provenance": provenance(self.seed),
            },
        )


def redo_unless_held(
    journal: Journal, pool: Pool, held: Collection[int], by: str, action: str
) -> int | None:
    """Brings back what this person undid last; see `Session.redo`.

    Args:
        journal, pool: of the session.
        held: rows of random samples, which marks must not reach.
        by, action: see `Session.mark`.
    """
    back = journal.steps(by)[1][-1:]
    line = journal.lines[back[0] - 1] if back else None
    if line is not None and line.kind == "mark":
        kept = set(held)
        if any(pool.table.row_of(name) in kept for name in line.marks):
            raise ValueError(
                "those marks can't be brought back: a random sample that holds some of "
                "the crops was drawn since"
            )
    return journal.redo(by, action)


def _check_marks(changes: Mapping[str, bool | None]) -> None:
    for crop_id, mark in changes.items():
        if mark is not None and not isinstance(mark, bool | np.bool_):
            raise ValueError(
                f"a mark must be True, False or None; got {mark!r} for {crop_id}"
            )
