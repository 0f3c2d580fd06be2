"""Do the intervals of an audit hold, also after more marks? And how exact is a rate?

    python -m benchmarks.audits --embeddings=runs/a/embeddings   # through sessions
    python -m benchmarks.audits                                  # rates, simulated

With embeddings: for every class of --classes and random queries an annotator marks some
rounds, a sample is drawn and answered by the labels, and some more rounds are marked,
without learning from it. What the sample says of the last ranking is held against the
truth, and against a sample of the same size that is drawn for that ranking: coverage of
the 95 % intervals, and their mean widths.

Without: rates from 0.1 % to 50 % in a pool of --pool crops that a noisy ranking orders:
coverage and mean width of the rate's interval from a uniform sample and from one by
rank, beside the exact interval of simple random sampling (Clopper-Pearson for a finite
pool, by trying every count). Synthetic; each figure over --repetitions samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from absl import app, flags

from artifacts.progress import progress_bar
from benchmarks.queries import CLASSES, random_queries
from curation.pool import Pool
from curation.query import Examples, Query
from curation.session import Session
from curation.simulation import SimulatedAnnotator
from data.embeddings import EmbeddingSet
from probe.estimate import Audit, Interval, draw_audit, stratify
from probe.metrics import wilson_interval

FLAGS = flags.FLAGS
flags.DEFINE_list("embeddings", [], "Folders of embedding sets with labels.")
flags.DEFINE_enum("classes", "odd", CLASSES, "Which are looked for.")
flags.DEFINE_integer("queries", 10, "Random queries a class.", lower_bound=1)
flags.DEFINE_integer("size", 120, "Crops of a sample.", lower_bound=1)
flags.DEFINE_integer("before", 4, "Rounds of 20 marks before it is drawn.")
flags.DEFINE_integer("after", 3, "Rounds of 20 marks after it.")
flags.DEFINE_list("drawn_by", ["rank", "uniform"], "How it is drawn.")
flags.DEFINE_enum(
    "marked", "ask", ["ask", "best"], "What is marked: as suggested, or from the top."
)
flags.DEFINE_integer("pool", 4000, "Crops, for rates.", lower_bound=200)
flags.DEFINE_integer("repetitions", 300, "Samples, for rates.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of queries, samples and worlds.")
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.5)
FIGURES = ("precision", "size", "recall")


class Told(NamedTuple):
    """An interval and the truth."""

    interval: Interval
    truth: float

    @property
    def covers(self) -> bool:
        """Whether the truth lies in it."""
        return self.interval.low - 1e-9 <= self.truth <= self.interval.high + 1e-9


def mark(session: Session, annotator: SimulatedAnnotator, rounds: int) -> None:
    """Marks some rounds of 20."""
    for _ in range(rounds):
        if FLAGS.marked == "ask":
            asked = session.suggest(20)
        else:
            order = session.learned().ranking.rows
            known = [*session.said(), *session.sampled()]
            free = order[~np.isin(order, known)][:20]
            asked = [str(crop_id) for crop_id in session.pool.ids[free]]
        answers = annotator.answers(np.array(session.pool.rows(asked))).tolist()
        session.mark(dict(zip(asked, answers, strict=True)), sort=FLAGS.marked)


def judge(session: Session, relevant: np.ndarray) -> dict[str, Told] | None:
    """What the session's sample says of its ranking, and the truth; None where nothing
    lies above the threshold.
    """
    found, learned = session.estimate(), session.learned()
    if found.precision is None or found.recall is None or found.size is None:
        return None
    order = learned.ranking.rows
    passed = session.pool.rows(sorted(session.state.passed))
    known = [*session.marks(), *session.earlier_answers(), *passed]
    unmarked = order[~np.isin(order, known)]
    first, rest = unmarked[: found.count], unmarked[found.count :]
    whole = relevant.sum()
    return {
        "precision": Told(found.precision, float(relevant[first].mean())),
        "size": Told(found.size, float(whole)),
        "recall": Told(found.recall, float(1 - relevant[rest].sum() / whole)),
    }


def answer(session: Session, relevant: np.ndarray, drawn_by: str) -> None:
    """Draws a sample and answers it by the truth."""
    ids = session.audit(FLAGS.size, drawn_by=drawn_by)
    rows = session.pool.rows(ids)
    session.answer(
        {name: bool(relevant[row]) for name, row in zip(ids, rows, strict=True)}
    )


def through_sessions(folder: str, drawn_by: str) -> Iterator[list[dict[str, Told]]]:
    """For each session: what the old sample says, and what a fresh one does."""
    pool = Pool(EmbeddingSet.load(folder))
    labels = pool.table.column("label_name")
    asked = (FLAGS.classes, FLAGS.queries, FLAGS.seed)
    jobs = random_queries(pool.table, *asked)
    for name, row in progress_bar(jobs, total=len(jobs), unit="session", desc=folder):
        relevant = labels == name
        annotator = SimulatedAnnotator(relevant, seed=FLAGS.seed)
        session = Session(pool, query=Query(Examples((row,))), seed=row)
        mark(session, annotator, FLAGS.before)
        answer(session, relevant, drawn_by)
        mark(session, annotator, FLAGS.after)
        old = judge(session, relevant)
        answer(session, relevant, drawn_by)
        fresh = judge(session, relevant)
        if old and fresh:
            yield [old, fresh]


def print_sessions(folder: str) -> None:
    """Prints coverage and widths, by how samples are drawn."""
    for drawn_by in FLAGS.drawn_by:
        found = list(through_sessions(folder, drawn_by))
        print(
            f"\n{folder}, drawn by {drawn_by}, {FLAGS.size} crops, {len(found)} "
            f"sessions, {FLAGS.before} rounds before and {FLAGS.after} after, seed "
            f"{FLAGS.seed}"
        )
        for name in FIGURES:
            cells = []
            for place, title in enumerate(("drawn before the last rounds", "fresh")):
                told = [pair[place][name] for pair in found]
                hits = sum(one.covers for one in told)
                low, high = wilson_interval(hits, len(told))
                width = np.mean([one.interval.high - one.interval.low for one in told])
                off = np.mean([one.interval.estimate - one.truth for one in told])
                cells.append(
                    f"{title}: covers {hits / len(told):.3f} [{low:.3f}, {high:.3f}], "
                    f"width {width:.3g}, off by {off:+.3g} on average"
                )
            print(f"  {name:10s} " + "; ".join(cells))


def exact_width(count: int, drawn: int, relevant: int) -> int:
    """Of the exact 95 % interval of a hypergeometric count."""
    from scipy.stats import hypergeom

    counts = np.arange(relevant, count - (drawn - relevant) + 1)
    at_least = hypergeom.sf(relevant - 1, count, counts, drawn)
    at_most = hypergeom.cdf(relevant, count, counts, drawn)
    return int(counts[at_most > 0.025].max() - counts[at_least > 0.025].min())


def print_rates() -> None:
    """Prints coverage and width of a rate's interval, by how samples are drawn."""
    count = FLAGS.pool
    print(
        f"{count} crops, samples of {FLAGS.size}, {FLAGS.repetitions} each, seed "
        f"{FLAGS.seed}; widths as shares of the pool"
    )
    for rate in RATES:
        relevant = np.arange(count) < round(count * rate)
        told: dict[str, list[Told]] = {"uniform": [], "rank": []}
        exact = []
        for number in range(FLAGS.repetitions):
            rng = np.random.default_rng([FLAGS.seed, number])
            order = np.argsort(-(1.5 * relevant + rng.normal(size=count)))
            for drawn_by, found in told.items():
                strata = stratify(order, count, int(relevant.sum()), drawn_by)
                rows = draw_audit(strata, FLAGS.size, [FLAGS.seed, number])
                answers = {int(row): bool(relevant[row]) for row in rows}
                size = Audit(order, strata[order], answers, seed=number).size()
                found.append(Told(size.scaled(1 / count), float(relevant.mean())))
                if drawn_by == "uniform":
                    right = sum(answers.values())
                    exact.append(exact_width(count, FLAGS.size, right) / count)
        cells = [
            f"{name}: covers {np.mean([one.covers for one in found]):.3f}, width "
            f"{np.mean([one.interval.high - one.interval.low for one in found]):.4f}"
            for name, found in told.items()
        ]
        print(f"  {rate:6.1%} {'; '.join(cells)}; exact width {np.mean(exact):.4f}")


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    if not FLAGS.embeddings:
        print_rates()
    for folder in FLAGS.embeddings:
        print_sessions(folder)


if __name__ == "__main__":
    app.run(main)
