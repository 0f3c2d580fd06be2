"""A session at work: marks in; rankings, estimates and views out. Thin over `probe`;
nothing is stored but the journal.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.export import Selection, choose, make_card
from data.predictions import PREDICTED
from data.provenance import provenance
from probe.choosing import choose_marks
from probe.estimate import Audit, Interval, draw_audit, should_stop, stratify
from probe.feedback import learn_from, ranking_of
from probe.methods import Direction
from probe.metrics import wilson_interval
from probe.saved_probe import IDENTITY, SavedProbe, hash_of_marks
from probe.transforms import confidence_of, mean_direction
from web.journal import Journal, State
from web.pool import Pool, Recent, give_way

SORTS = ("best", "ask", "boundary", "worst", "audit")
ASK = 40  # crops that the sort `ask` shows
TOP = 50  # of which "what changed" speaks
BINS = 40
# new marks from which two rankings count as a round of their own for the stop signal
ROUND = 10


@dataclass(frozen=True)
class Ranked:
    """The pool ranked by what the first lines of a session taught.

    Attributes:
        number: of those lines; the ranking's name.
        direction: what was learned.
        scores: [N] float32, of all crops: confidence where there is a probe, otherwise
            cosine.
        order: [n] int, rows of the session's pool but the query, best first; ties by
            id.
    """

    number: int
    direction: Direction
    scores: np.ndarray
    order: np.ndarray

    @property
    def scale(self) -> str:
        """What the scores are."""
        return "confidence" if self.direction.has_boundary else "cosine"


class LiveSession:
    """An open session over a pool; safe to use from several threads."""

    def __init__(self, pool: Pool, folder: str | Path):
        """Opens the session and holds it for this process.

        Raises:
            ValueError: it isn't one, or of other embeddings.
            RuntimeError: another process holds it.
        """
        self.pool, self.journal = pool, Journal(folder)
        try:
            facts = self.journal.facts
            if facts["embeddings"]["sha256"] != pool.embeddings.meta["sha256"]:
                raise ValueError(
                    f"session {facts['name']!r} must be opened with the embeddings it "
                    "was made with, or duplicated"
                )
            self.rows = pool.rows(facts["query"]["crops"])
            inside = np.asarray(pool.embeddings.vectors[np.array(self.rows, np.int64)])
            uploads = [
                np.load(self.journal.folder / f"{name}.npy", allow_pickle=False)
                for name in facts["query"]["uploads"]
            ]
            self.examples = np.concatenate(
                [inside, *(vector[None] for vector in uploads)]
            )
            if (
                PREDICTED in facts["pool"]
                and PREDICTED not in pool.table.rows.column_names
            ):
                raise ValueError(
                    f"session {facts['name']!r} is about predictions: start the "
                    "program with --predictions"
                )
            self.members = pool.mask(facts["pool"])
            if "pool_hash" in facts and facts["pool_hash"] != pool.hash_of(
                facts["pool"]
            ):
                raise ValueError(
                    f"session {facts['name']!r} must be opened with its own "
                    "predictions: its condition means other crops"
                )
            self.inside = self.members.copy()
            self.inside[self.rows] = False
        except BaseException:
            self.journal.close()
            raise
        self.seed = int(facts.get("seed", 0))
        self._rankings: Recent[Ranked] = Recent(8)
        self._views: Recent[np.ndarray] = Recent(16)
        self._panels: Recent[dict[str, Any]] = Recent(4)
        self._estimates: Recent[dict[str, Any]] = Recent(4)
        self._decisions: Recent[np.ndarray | None] = Recent(64)
        self._acting = (
            threading.Lock()
        )  # what is checked before a line is written still holds when it is
        self._newest = -1
        self.trouble = ""  # why the last ranking couldn't be made
        self._learner = ThreadPoolExecutor(1, "learn", partial(give_way, 10))
        self._pending = threading.Event()

    def close(self) -> None:
        self._learner.shutdown(wait=True)
        self.journal.close()

    # Rankings

    def marks(self, state: State) -> dict[int, bool]:
        """row -> relevant; marks of crops that aren't in the set (a session of an
        earlier one) are left alone.
        """
        return {
            self.pool.row_of[crop_id]: answer
            for crop_id, answer in state.marks.items()
            if crop_id in self.pool.row_of
        }

    def said(self, state: State) -> dict[int, bool]:
        """row -> relevant, by marks and by answers to the random sample alike."""
        return self.marks(state) | {
            self.pool.row_of[crop_id]: answer
            for crop_id, answer in state.answers.items()
        }

    def ranking(self, number: int) -> Ranked:
        """The ranking that the first `number` lines come to; any of them can be made
        again.
        """
        return self._rankings.get(number, lambda: self._rank(number))

    def _rank(self, number: int) -> Ranked:
        index = self.pool.index
        marks = self.marks(self.journal.state(number))
        if not marks:
            direction = Direction(
                mean_direction(index.transform(self.examples)).astype(np.float64)
            )
        else:
            try:
                direction = learn_from(
                    index,
                    marks,
                    self.examples,
                    self.rows,
                    self.journal.facts.get("method", "auto"),
                    self.seed,
                )
            except ValueError as error:  # all is marked as not relevant, the query too
                direction = Direction(
                    mean_direction(index.transform(self.examples)).astype(np.float64),
                    reason=str(error),
                )
        order, scores = index.rank(direction.coef)
        all_scores = np.empty(len(index), np.float32)
        all_scores[order] = scores + direction.intercept
        if direction.has_boundary:
            all_scores = confidence_of(all_scores.astype(np.float64)).astype(np.float32)
        return Ranked(number, direction, all_scores, order[self.inside[order]])

    def learn(self) -> None:
        """Asks for the newest ranking to be made in the background; asked for many
        times at once, it is made once.
        """
        if not self._pending.is_set():
            self._pending.set()
            self._learner.submit(self._learn)

    def _learn(self) -> None:
        self._pending.clear()  # what is marked from here on asks again
        number = self.journal.name_of_marks()
        try:
            self._panel(self.ranking(number))
        except Exception as error:
            self.trouble = (
                f"the marks are saved, but nothing could be learned from them: {error}"
            )
            raise
        self.trouble = ""
        self._newest = number

    @property
    def newest(self) -> int:
        """The ranking that was made last; -1 before the first."""
        return self._newest

    @property
    def learning(self) -> bool:
        """Whether the last ranking isn't that of the present marks yet."""
        return self._newest != self.journal.name_of_marks()

    @property
    def started(self) -> bool:
        """Whether there is a ranking yet."""
        return self._newest >= 0

    # Views

    def view(
        self, number: int, sort: str, where: str = "", among: str = ""
    ) -> np.ndarray:
        """Rows to show, [n] int; those that meet an SQL condition, and of those the
        ones of a `Pool.select`ion.

        `best` and `worst` go by score; `boundary` by nearness to the probe's boundary;
        `ask` is what tells the probe most; `audit` the random sample in the order it
        was drawn in.

        Raises:
            ValueError: no such sort, no boundary or audit yet, or the condition isn't
                SQL.
        """
        if sort not in SORTS:
            raise ValueError(f"sort must be one of {', '.join(SORTS)}; got {sort!r}")
        if sort == "audit":
            audit = self.journal.state().audit
            if audit is None:
                raise ValueError("sort audit needs an audit; draw one first")
            return np.array(self.pool.rows(audit["rows"]), np.int64)
        line = (
            self.journal.state().audit if sort == "ask" else None
        )  # a sample is never asked for
        key = (number, sort, where.strip(), among, line and line["n"])
        return self._views.get(key, lambda: self._view(number, sort, where, among))

    def _view(self, number: int, sort: str, where: str, among: str) -> np.ndarray:
        ranked = self.ranking(number)
        order = ranked.order
        if where.strip() or among:
            order = order[self.pool.mask(where, among)[order]]
        if sort == "worst":
            return order[::-1]
        if sort == "boundary":
            if not ranked.direction.has_boundary:
                reason = (
                    ranked.direction.reason
                    or "mark some crops that aren't relevant first"
                )
                raise ValueError(
                    "sort boundary needs a probe, and this ranking is by cosine: "
                    f"{reason}"
                )
            return order[
                np.argsort(
                    np.abs(ranked.scores[order].astype(np.float64) - 0.5), kind="stable"
                )
            ]
        if sort == "ask":
            state = self.journal.state(number)
            marks = self.marks(state)
            closed = np.ones(len(self.pool.index), bool)
            closed[order] = False
            closed[list(marks)] = True
            closed[self.sampled()] = True
            if closed.all():
                return np.array([], np.int64)
            known = np.array([*marks, *self.rows], np.int64)
            ranking = ranking_of(self.pool.index, ranked.direction)
            return choose_marks(
                ranking,
                closed,
                ASK,
                "mix",
                self.pool.index.unit,
                known,
                sum(marks.values()),
                self.seed + len(known),
            )
        return order

    def sampled(self) -> list[int]:
        """Rows of the random sample, unless its answers were learned: marks on them
        would no longer leave it apart.
        """
        state = self.journal.state()
        return (
            []
            if state.audit is None or state.sample_learned
            else self.pool.rows(state.audit["rows"])
        )

    # Actions

    def mark(
        self,
        changes: dict[str, bool | None],
        by: str,
        action: str,
        ranking: int,
        sort: str,
    ) -> tuple[int, list[str]]:
        """Writes marks, or, in the view `audit`, answers to it.

        Returns:
            The line's number, once it is on the disk, and the crops that were left out:
            those of a random sample that isn't learned from are marked in its own view
            alone.
        """
        with self._acting:
            number, left_out = self._mark(changes, by, action, ranking, sort)
        self.learn()
        return number, left_out

    def _mark(
        self,
        changes: dict[str, bool | None],
        by: str,
        action: str,
        ranking: int,
        sort: str,
    ) -> tuple[int, list[str]]:
        rows = self.pool.rows(list(changes))
        state = self.journal.state()
        audit = state.audit
        if sort == "audit":
            if audit is None or not set(changes) <= set(audit["rows"]):
                raise ValueError(
                    "marks in the view audit must be of crops of the audit"
                )
            return self.journal.add(
                "correct" if state.sample_learned else "answer",
                by,
                action,
                marks=changes,
            ), []
        held = set(self.sampled())
        left_out = [
            crop_id for crop_id, row in zip(changes, rows, strict=True) if row in held
        ]
        kept = {
            crop_id: answer
            for crop_id, answer in changes.items()
            if crop_id not in left_out
        }
        if not kept:
            raise ValueError(
                "the crop belongs to the random sample, which isn't learned from: mark "
                "it under Random sample"
            )
        return self.journal.add(
            "mark", by, action, marks=kept, ranking=ranking, sort=sort
        ), left_out

    def step(self, kind: str, by: str, action: str) -> int | None:
        """Undoes or redoes this person's last action; None where there is nothing to.

        Raises:
            ValueError: redoing would mark crops of a random sample that has been drawn
                since.
        """
        with self._acting:
            if kind == "redo":
                back = self.journal.steps(by)[1][-1:]
                line = self.journal.lines[back[0] - 1] if back else None
                held = set(self.sampled())
                if (
                    line
                    and line["kind"] == "mark"
                    and any(
                        self.pool.row_of.get(crop_id) in held
                        for crop_id in line["marks"]
                    )
                ):
                    raise ValueError(
                        "those marks can't be brought back: a random sample that holds "
                        "some of the crops was drawn since"
                    )
            number = (
                self.journal.undo(by, action)
                if kind == "undo"
                else self.journal.redo(by, action)
            )
        self.learn()
        return number

    def draw_audit(self, size: int, by: str, action: str) -> int:
        """Draws a random sample of the crops that nobody marked, for the newest
        ranking; see `probe.estimate`.
        """
        while True:
            number = self.journal.name_of_marks()
            ranked = self.ranking(
                number
            )  # may take a while, so others mark on meanwhile
            with self._acting:
                state = self.journal.state()
                if self.journal.name_of_marks() != number:
                    continue
                closed = self._closed(state)
                strata = self._strata(ranked, closed)
                available = int((strata >= 0).sum())
                if not available:
                    raise ValueError(
                        "a random sample needs crops that nobody marked; all are marked"
                    )
                seed = self.seed + len(self.journal.lines)
                rows = draw_audit(strata, min(size, available), seed)
                rows = np.random.default_rng(seed).permutation(
                    rows
                )  # an order that tells nothing about the score
                ids = [str(crop_id) for crop_id in self.pool.table.ids[rows]]
                return self.journal.add(
                    "audit", by, action, rows=ids, ranking=number, seed=seed
                )

    def learn_answers(self, by: str, action: str) -> int:
        """Turns the audit's answers into marks; what it says stays true of the ranking
        it was drawn for.
        """
        with self._acting:
            state = self.journal.state()
            if not state.answers:
                raise ValueError("audit must have answers to learn from")
            number = self.journal.add("learn", by, action, marks=dict(state.answers))
        self.learn()
        return number

    def _closed(self, state: State) -> np.ndarray:
        """Crops that an audit leaves out: marked ones, the query, and what is outside
        of the session's pool.
        """
        closed = ~self.inside
        closed[list(self.marks(state))] = True
        return closed

    def _strata(self, ranked: Ranked, closed: np.ndarray) -> np.ndarray:
        """The stratum of every crop for an audit, [N] int, -1 where closed."""
        every = np.concatenate([ranked.order, np.flatnonzero(~self.inside)])
        return stratify(every, closed, self._deemed(ranked, closed))

    def _deemed(self, ranked: Ranked, closed: np.ndarray) -> int:
        """How many unmarked crops the probe takes for relevant; without a probe the
        first 50.
        """
        rows = ranked.order[~closed[ranked.order]]
        return (
            int((ranked.scores[rows] >= 0.5).sum())
            if ranked.direction.has_boundary
            else min(TOP, len(rows))
        )

    # What is known

    def audit(self) -> tuple[Audit, Ranked] | None:
        """The audit, if all of it is answered, and the ranking it is about."""
        state = self.journal.state()
        line = state.audit
        if line is None or set(state.answers) != set(line["rows"]):
            return None
        before = self.journal.state(line["n"] - 1)
        ranked = self.ranking(line["ranking"])
        closed = self._closed(before)
        strata = self._strata(ranked, closed)
        open_rows = ranked.order[~closed[ranked.order]]
        answers = {
            self.pool.row_of[crop_id]: answer
            for crop_id, answer in state.answers.items()
        }
        return Audit(
            open_rows,
            strata[open_rows],
            answers,
            len(self._certain(before)),
            seed=self.seed,
        ), ranked

    def _certain(self, state: State) -> list[int]:
        """Rows of the session's pool that are known to be relevant: marked so, or of
        the query and not marked otherwise.
        """
        marks = self.marks(state)
        relevant = {row for row, answer in marks.items() if answer}
        return [
            row
            for row in relevant | {row for row in self.rows if row not in marks}
            if self.members[row]
        ]

    def threshold(self, ranked: Ranked, state: State) -> float:
        """The score from which a crop counts: as set, if it was on the same scale;
        otherwise confidence 0.5, or the first 50.
        """
        line = state.threshold
        if line is not None and line["scale"] == ranked.scale:
            return float(line["value"])
        if ranked.direction.has_boundary:
            return 0.5
        return (
            float(ranked.scores[ranked.order[min(TOP, len(ranked.order)) - 1]])
            if len(ranked.order)
            else 0.0
        )

    def selected(
        self, ranked: Ranked, state: State, what: str, threshold: float | None = None
    ) -> np.ndarray:
        """Rows to take home, best first: `marked`, or `threshold`: those from it on,
        and what a person said overrules it.

        The query's own crops are relevant unless marked otherwise, so they are always
        among them.
        """
        if threshold is None:
            threshold = self.threshold(ranked, state)
        least = threshold if what == "threshold" else None
        return choose(ranked.scores, least, self.said(state), self.rows, self.inside)

    def estimate(self, ranked: Ranked, threshold: float) -> dict[str, Any]:
        """What the audit says of the crops from a threshold on; without one, or for
        another ranking, why it says nothing.
        """
        key = (
            ranked.number,
            threshold,
            len(self.journal.lines),
        )  # the page asks every few seconds
        return self._estimates.get(key, lambda: self._estimate(ranked, threshold))

    def _estimate(self, ranked: Ranked, threshold: float) -> dict[str, Any]:
        state = self.journal.state()
        result: dict[str, Any] = {
            "drawn": len(state.audit["rows"]) if state.audit else 0,
            "answered": len(state.answers),
        }
        known = self.audit()
        if known is None:
            return result
        audit, judged = known
        result |= {"ranking": judged.number, "learned": state.sample_learned}
        names = [
            self.journal.name_of_marks(number)
            for number in (judged.number, ranked.number, None)
        ]
        result["current"] = (
            len(set(names)) == 1
        )  # the marks are those it was drawn with
        size, population = audit.size(), int(self.members.sum())
        result |= {
            "size": asdict(size),
            "population": population,
            "rate": asdict(size.scaled(1 / population)),
        }
        count = int((judged.scores[audit.order] >= threshold).sum())
        if judged.scale == ranked.scale and count:
            precision = audit.precision(count)
            result |= {
                "count": count,
                "precision": asdict(precision),
                "recall": asdict(audit.recall(count)),
            }
            # Taken home are those, less what the sample found wrong among them, and
            # what is known to be relevant besides.
            wrong = sum(
                not audit.answers.get(row, True) for row in audit.order[:count].tolist()
            )
            certain = audit.known + sum(
                audit.answers.get(row, False) for row in audit.order[count:].tolist()
            )
            taken = count - wrong + certain
            right = Interval(
                *(
                    certain + count * share
                    for share in (precision.estimate, precision.low, precision.high)
                )
            )
            result |= {
                "taken": taken,
                "precision_of_taken": asdict(right.scaled(1 / taken)),
            }
        return result

    def panel(self, number: int) -> dict[str, Any]:
        """Histogram, rounds and stop signal of a ranking."""
        return self._panel(self.ranking(number))

    def _panel(self, ranked: Ranked) -> dict[str, Any]:
        return self._panels.get(
            (ranked.number, len(self.journal.lines)), lambda: self._measure(ranked)
        )

    def _measure(self, ranked: Ranked) -> dict[str, Any]:
        state = self.journal.state()
        scores = ranked.scores[ranked.order].astype(np.float64)
        low, high = (
            (0.0, 1.0)
            if ranked.direction.has_boundary
            else (float(scores.min(initial=1)), float(scores.max(initial=-1)))
        )
        counts, _ = np.histogram(scores, BINS, (low, max(high, low + 1e-6)))
        marks = self.marks(state)
        return {
            "ranking": ranked.number,
            "scale": ranked.scale,
            "method": ranked.direction.method,
            "reason": ranked.direction.reason,
            "crops": len(ranked.order),
            "relevant": sum(marks.values()),
            "not_relevant": len(marks) - sum(marks.values()),
            "low": low,
            "high": max(high, low + 1e-6),
            "histogram": counts.tolist(),
            "threshold": self.threshold(ranked, state),
            "taken": len(self.selected(ranked, state, "threshold")),
            "marked": len(self.selected(ranked, state, "marked")),
            "rounds": self._rounds(state),
            "stop": self._stop(state),
        }

    def _rounds(self, state: State) -> list[dict[str, Any]]:
        """Of the crops that were marked in the order `best`, the share that was
        relevant, by the ranking that showed them.

        Each was judged before the probe learned from it, so the share says how good
        that ranking's shown part was; which part was marked is the person's choice.
        """
        judged: dict[int, dict[str, bool]] = {}
        for line in self.journal.lines:
            if (
                line["kind"] == "mark"
                and line.get("sort") == "best"
                and line["n"] not in state.undone
            ):
                answers = judged.setdefault(line["ranking"], {})
                for crop_id, answer in line["marks"].items():
                    answers.pop(crop_id, None)
                    if answer is not None:
                        answers[crop_id] = answer
        judged = {ranking: answers for ranking, answers in judged.items() if answers}
        rounds = []
        for ranking, answers in sorted(judged.items()):
            right = sum(answers.values())
            low, high = wilson_interval(right, len(answers))
            rounds.append(
                {
                    "ranking": ranking,
                    "marked": len(answers),
                    "relevant": right,
                    "low": low,
                    "high": high,
                }
            )
        return rounds

    def _stop(self, state: State) -> dict[str, Any]:
        """Whether the rankings of the last rounds agree on what is relevant; see
        `probe.estimate.should_stop`.
        """
        rounds, last = [], None
        for number in [*state.shown, state.learned]:
            marks = len(self.journal.state(number).marks)
            if last is None or marks - last >= ROUND:
                rounds.append(number)
                last = marks
        decisions = [
            self._decisions.get(number, partial(self._decide, number))
            for number in rounds[-3:]
        ]
        return {
            "rounds": len(rounds) - 1,
            "signal": should_stop(
                [decided for decided in decisions if decided is not None]
            ),
        }

    def _decide(self, number: int) -> np.ndarray | None:
        ranked = self.ranking(number)
        return (
            ranked.scores[self.inside] > 0.5 if ranked.direction.has_boundary else None
        )

    def changes(self, shown: int) -> dict[str, Any]:
        """What the newest ranking would show differently from the one on the screen."""
        before, after = self.ranking(shown), self.ranking(self._newest)
        first = set(before.order[:TOP].tolist())
        state = self.journal.state()
        return {
            "ranking": after.number,
            "new_marks": len(self.journal.state(after.number).marks)
            - len(self.journal.state(shown).marks),
            "entered": sum(row not in first for row in after.order[:TOP].tolist()),
            "top": min(TOP, len(after.order)),
            "taken_before": len(self.selected(before, state, "threshold")),
            "taken": len(self.selected(after, state, "threshold")),
        }

    # Taking it home

    def selection(self, number: int, what: str, class_name: str) -> Selection:
        """The marked or the threshold's set of a ranking, for `data.export`."""
        if what not in ("threshold", "marked"):
            raise ValueError(f"what must be threshold or marked; got {what!r}")
        ranked, state = self.ranking(number), self.journal.state()
        rows = self.selected(ranked, state, what)
        return Selection(
            self.pool.table,
            rows,
            ranked.scores[rows].astype(np.float64),
            class_name,
            self.said(state),
        )

    def card(self, number: int, what: str) -> dict[str, Any]:
        """What is known of a selection, for `data.export`."""
        ranked, state = self.ranking(number), self.journal.state()
        threshold = self.threshold(ranked, state)
        found = self.estimate(ranked, threshold)
        estimates = None
        if found.get("current") and "precision" in found:
            of = f"{found['count']} crops from the threshold on that nobody had marked"
            estimates = {
                name: found[name]
                for name in (
                    "precision",
                    "precision_of_taken",
                    "recall",
                    "size",
                    "rate",
                )
            }
            estimates |= {"of": of, "confidence": 0.95, "sample": found["drawn"]}
        facts = self.journal.facts
        card = make_card(
            self.pool.embeddings.meta,
            [*facts["query"]["crops"], *facts["query"]["uploads"]],
            facts["pool"],
            what,
            state.marks,
            hash_of_marks(state.marks),
            {
                "method": ranked.direction.method,
                "C": ranked.direction.C,
                "transform": "centre",
                "ranking": number,
            },
            ranked.direction.coef,
            {"scale": ranked.scale, "value": threshold}
            if what == "threshold"
            else None,
            estimates,
            self.seed,
        )
        return {"session": facts["name"], **card}

    def probe(self, number: int) -> SavedProbe:
        """What was learned, as a file that `run_search.py --probe` applies to other
        embeddings.
        """
        ranked, state = self.ranking(number), self.journal.state(number)
        threshold = self.threshold(ranked, self.journal.state())
        if (
            ranked.direction.has_boundary
        ):  # from confidence to the log odds less the intercept
            threshold = float(
                np.log(threshold / (1 - threshold))
                if 0 < threshold < 1
                else (threshold - 0.5) * 1e9
            )
            threshold -= ranked.direction.intercept
        identity = {name: self.pool.embeddings.meta.get(name) for name in IDENTITY}
        facts = {
            "title": f"session {self.journal.facts['name']}",
            "provenance": provenance(self.seed),
        }
        queries = tuple(self.journal.facts["query"]["crops"])
        return SavedProbe(
            self.pool.index.transform,
            ranked.direction,
            identity,
            dict(state.marks),
            queries,
            threshold,
            facts,
        )
