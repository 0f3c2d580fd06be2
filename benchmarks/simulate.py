"""A simulated annotator marks results, over embedding sets, transforms, methods and
query strategies: the benchmark behind the defaults.

    S="python -m benchmarks.simulate --embeddings=runs/a/embeddings"
    $S,runs/b/embeddings --dir=runs/simulate
    $S --relevant="true_leaves BETWEEN 4 AND 6" --queries=24
    $S --thin=0.002 --k=7                             # a class of 0.2 % of the pool

Every class is looked for from random queries (seeded). The annotator answers by class
name, or, with --relevant, by whether a crop meets an SQL condition. --label_noise makes
that share of the answers wrong. --classes=even takes the classes at even places of the
sorted list, odd the others: choose by one half, report the other.

--design=star varies one of transform, method and strategy at a time around the first of
each list; full takes every combination. Sessions run in parallel and are kept in
sessions.jsonl: a killed run goes on, and a larger one reuses what is there. It ends
with results.csv, results.md and a plot of each figure against the number of marks.
Means and 95 % bootstrap intervals over sessions.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # sessions are what runs in parallel
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import dataclasses
import functools
import hashlib
import itertools
import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from absl import app, flags

from artifacts.files import write_csv, write_json, write_text
from artifacts.progress import progress_bar
from artifacts.provenance import provenance
from benchmarks.queries import CLASSES, some_of
from curation.pool import Pool, aligned, fit_transform, smoothed
from curation.simulation import Round, SimulatedAnnotator, simulate
from data.embeddings import EmbeddingSet
from data.where import rows_where
from probe.estimate import MANY_MARKS
from probe.methods import METHODS
from probe.metrics import mean_and_interval, precision_at_k
from probe.query_strategies import STRATEGIES
from probe.transforms import TRANSFORMS, Transform

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "embeddings", None, "Folders of embedding sets with labels.", required=True
)
flags.DEFINE_string(
    "where", "", "SQL condition on the crop table: the pool is only what meets it."
)
flags.DEFINE_string(
    "relevant",
    "",
    "SQL condition on the crop table: what the person looks for, instead of each "
    "class.",
)
flags.DEFINE_enum("classes", "all", CLASSES, "Which classes are looked for.")
flags.DEFINE_list("transforms", list(TRANSFORMS), "Of the embeddings.")
flags.DEFINE_enum(
    "vectors",
    "raw",
    ["raw", "aligned", "neighbors"],
    "What becomes of the vectors before the transform: nothing, recordings brought "
    "together, or means with neighbors.",
)
flags.DEFINE_list("methods", list(METHODS), "From marks to a ranking.")
flags.DEFINE_list("strategies", list(STRATEGIES), "What to mark next.")
flags.DEFINE_enum(
    "design",
    "star",
    ["star", "full"],
    "One at a time around the first of each list, or every combination.",
)
flags.DEFINE_integer("queries", 10, "Random queries a class.", lower_bound=1)
flags.DEFINE_integer("rounds", 7, "Rounds of marking.", lower_bound=0)
flags.DEFINE_integer("per_round", 20, "Marks a round.", lower_bound=1)
flags.DEFINE_integer("seeds", 1, "How many: each draws other queries.", lower_bound=1)
flags.DEFINE_float(
    "label_noise", 0.0, "Share of wrong answers.", lower_bound=0, upper_bound=0.5
)
flags.DEFINE_float(
    "thin",
    0.0,
    "Thin the class to this share of the pool first (0: leave it).",
    lower_bound=0,
    upper_bound=1,
)
flags.DEFINE_integer("k", 50, "Of the precisions.", lower_bound=1)
flags.DEFINE_integer("processes", 0, "How many; default: one a core.", lower_bound=0)
flags.DEFINE_string("dir", "runs/simulate", "Where everything goes.")

FIGURES = {
    "precision_unmarked": "P@{k} unmarked",
    "precision_all": "P@{k} over everything",
    "r_precision": "R-precision",
    "r_precision_held": "R-precision over crops never marked",
    "average_precision": "average precision",
    "recall": "recall",
}
SHARES = (0.1, 0.5, 0.9)
SESSION_FACTS = (  # columns of results.csv before the figures
    *("embeddings", "target", "query", "transform", "method", "strategy"),
    *("label_noise", "thin", "seed"),
)


@dataclasses.dataclass(frozen=True)
class Session:
    """One annotator, one query, one way to go about it. Its fields are its name in
    sessions.jsonl.
    """

    embeddings: str  # folder
    sha256: str  # of the embeddings
    where: str
    target: str  # class, or an SQL condition
    by_sql: bool
    query: str  # crop id
    transform: str
    method: str
    strategy: str
    rounds: int
    per_round: int
    k: int
    label_noise: float
    thin: float
    seed: int
    vectors: str = "raw"

    @property
    def key(self) -> str:
        """What tells a session from others."""
        facts = {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name != "embeddings" and (name, value) != ("vectors", "raw")
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[
            :16
        ]


@functools.lru_cache(maxsize=2)
def load(folder: str, where: str) -> tuple[EmbeddingSet, np.ndarray]:
    """An embedding set and the rows of the pool."""
    embeddings = EmbeddingSet.load(folder)
    rows = (
        rows_where(embeddings.table, where)
        if where
        else np.ones(len(embeddings.table), bool)
    )
    return embeddings, np.flatnonzero(rows)


def relevant_rows(embeddings: EmbeddingSet, target: str, by_sql: bool) -> np.ndarray:
    """[N] bool, which crops are looked for."""
    return (
        rows_where(embeddings.table, target, "relevant")
        if by_sql
        else embeddings.table.column("label_name") == target
    )


@functools.lru_cache(maxsize=8)
def fitted(
    folder: str, where: str, name: str, vectors: str
) -> tuple[EmbeddingSet, Transform]:
    """The pool's embeddings and a transform that was fitted to them."""
    embeddings, rows = load(folder, where)
    pool = embeddings.take(rows)
    transform = fit_transform(name, pool)
    if vectors == "raw":
        return pool, transform
    return (aligned if vectors == "aligned" else smoothed)(pool), transform


def run(session: Session) -> dict[str, Any]:
    """Plays one session."""
    key = (session.embeddings, session.where, session.transform, session.vectors)
    embeddings, transform = fitted(*key)
    relevant = relevant_rows(embeddings, session.target, session.by_sql)
    query = int(embeddings.table.rows_of([session.query])[0])
    if session.thin:
        kept = max(2, round(session.thin * len(relevant)))
        others = np.setdiff1d(np.flatnonzero(relevant), query)
        others = np.random.default_rng([session.seed, query]).permutation(others)
        keep = np.ones(len(relevant), bool)
        keep[others[kept - 1 :]] = False
        embeddings, relevant = embeddings.take(keep), relevant[keep]
        query = int(embeddings.table.rows_of([session.query])[0])
    annotator = SimulatedAnnotator(relevant, session.label_noise, session.seed)
    steps = simulate(
        Pool(embeddings, transform=transform),
        annotator,
        query,
        rounds=session.rounds,
        per_round=session.per_round,
        strategy=session.strategy,
        k=session.k,
        method=session.method,
    )
    # A precision over fewer than k is another figure.
    rounds, orders, marked = [], [], []
    for figures, played in steps:
        few = {"precision_unmarked": None} if figures.unmarked < session.k else {}
        rounds.append(dataclasses.asdict(figures) | few)
        orders.append(played.learned().ranking.rows)
        marked = list(played.marks())
    # What more marks bring to crops that nobody marks, not to those that are marked.
    for told, order in zip(rounds, orders, strict=True):
        held = relevant[order[~np.isin(order, marked)]]
        size = int(held.sum())
        told["r_precision_held"] = precision_at_k(held, size) if size else None
    facts = dataclasses.asdict(session)
    size = int(relevant.sum()) - 1
    return {"key": session.key, **facts, "size": size, "figures": rounds}


def combinations() -> list[tuple[str, str, str]]:
    """(transform, method, strategy) to play."""
    lists = (FLAGS.transforms, FLAGS.methods, FLAGS.strategies)
    if FLAGS.design == "full":
        return list(itertools.product(*lists))
    first = tuple(values[0] for values in lists)
    star = [
        (*first[:place], value, *first[place + 1 :])
        for place, values in enumerate(lists)
        for value in values
    ]
    return list(dict.fromkeys(star))


def sessions() -> Iterator[Session]:
    """Every session to play."""
    for folder in FLAGS.embeddings:
        embeddings, rows = load(folder, FLAGS.where)
        names = [FLAGS.relevant] if FLAGS.relevant else embeddings.table.classes
        names = some_of(names, FLAGS.classes)
        for seed, name in itertools.product(range(FLAGS.seeds), names):
            relevant = relevant_rows(embeddings, name, bool(FLAGS.relevant))[rows]
            order = np.random.default_rng([seed, 0]).permutation(
                np.flatnonzero(relevant)
            )
            members = rows[order[: FLAGS.queries]] if relevant.sum() > 1 else []
            for member, how in itertools.product(members, combinations()):
                yield Session(
                    folder,
                    embeddings.meta["sha256"],
                    FLAGS.where,
                    name,
                    bool(FLAGS.relevant),
                    str(embeddings.ids[member]),
                    *how,
                    FLAGS.rounds,
                    FLAGS.per_round,
                    FLAGS.k,
                    FLAGS.label_noise,
                    FLAGS.thin,
                    seed,
                    FLAGS.vectors,
                )


def play(todo: list[Session], path: Path) -> dict[str, dict]:
    """Results by key, those that lie in the file already and the others, played in
    parallel.
    """
    done: dict[str, dict] = {}
    if path.exists():
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            with open(path, "a", encoding="utf-8") as file:
                file.write("\n")  # after a line that a kill cut off
        for line in text.splitlines():
            try:
                result = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line that a kill cut off
            done[result["key"]] = result
    missing = [session for session in todo if session.key not in done]
    processes = FLAGS.processes or os.cpu_count() or 1
    with (
        multiprocessing.get_context("spawn").Pool(processes) as pool,
        open(path, "a", encoding="utf-8") as file,
    ):
        for result in progress_bar(
            pool.imap(run, missing, chunksize=4),
            total=len(missing),
            unit="session",
            desc="simulating",
        ):
            file.write(json.dumps(result) + "\n")
            file.flush()
            done[result["key"]] = result
    return {session.key: done[session.key] for session in todo}


def marks_to_find(result: dict, share: float) -> float:
    """Marks until this share of the class was found; infinite where it never was."""
    for figures in result["figures"]:
        if figures["found"] >= share * result["size"]:
            return figures["marks"]
    return float("inf")


def summary(results: list[dict]) -> dict[str, str]:
    """What a group of sessions came to after the last round, as text."""
    last = [result["figures"][-1] for result in results]
    cells = {}
    for name, title in FIGURES.items():
        values = np.array([figures.get(name) for figures in last], float)
        values = values[np.isfinite(values)]
        cells[title.format(k=FLAGS.k)] = (
            mean_and_interval(values) if len(values) else "-"
        )
    by_class: dict[str, list[dict]] = {}
    for result in results:
        by_class.setdefault(result["target"], []).append(result)
    gains = {
        name: np.mean(
            [
                r["figures"][-1]["r_precision"] - r["figures"][0]["r_precision"]
                for r in group
            ]
        )
        for name, group in by_class.items()
    }
    worst = min(gains, key=lambda name: gains[name])
    cells["least gain of a class in R-precision over no marks"] = (
        f"{gains[worst]:+.3f} ({worst[:30]})"
    )
    for share in SHARES:
        needed = np.array([marks_to_find(result, share) for result in results])
        median = np.median(needed) if np.isfinite(needed).mean() > 0.5 else float("inf")
        cells[f"marks to {share:.0%}"] = (
            f"{median:.0f}" if np.isfinite(median) else "never"
        ) + f" ({np.isfinite(needed).mean():.0%})"
    return cells | stop_signal(results)


def stop_signal(results: list[dict]) -> dict[str, str]:
    """When the stop signal came, in how many sessions within 160 marks, and what as
    many marks again brought to those, where so many were made.
    """
    stopped, soon = [], []
    gains: dict[str, list[float]] = {"r_precision_held": [], "r_precision": []}
    for result in results:
        figures = result["figures"]
        places = [place for place, told in enumerate(figures) if told["stop"]]
        if not places:
            continue
        place = places[0]
        stopped.append(figures[place]["marks"])
        if stopped[-1] > MANY_MARKS:
            continue
        soon.append(stopped[-1])
        if 2 * place < len(figures):
            for name, found in gains.items():
                pair = figures[2 * place].get(name), figures[place].get(name)
                if None not in pair:
                    found.append(pair[0] - pair[1])
    if not stopped:
        return {"stop signal": "never"}
    share = len(stopped) / len(results)
    cells = {"stop signal": f"{np.mean(stopped):.0f} ({share:.0%})"}
    cells[f"within {MANY_MARKS} marks"] = f"{len(soon) / len(results):.0%}"
    if gains["r_precision_held"]:
        held, everything = (mean_and_interval(found) for found in gains.values())
        cells["as many marks again bring, R-precision over crops never marked"] = held
        cells["over all, marked ones too"] = everything
    return cells


def plot(groups: dict[tuple[str, str], list[dict]], path: Path) -> None:
    """Each figure against the number of marks, one line a group, one row an embedding
    set.
    """
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folders, labels = (
        list(dict.fromkeys(names)) for names in zip(*groups, strict=True)
    )
    grid, axes = plt.subplots(
        len(folders),
        len(FIGURES),
        figsize=(4 * len(FIGURES), 3.4 * len(folders)),
        squeeze=False,
        layout="constrained",
    )
    for row, folder in zip(axes, folders, strict=True):
        for axis, (name, title) in zip(row, FIGURES.items(), strict=True):
            for (owner, label), results in groups.items():
                if owner == folder:
                    values = np.array(
                        [
                            [figures.get(name) for figures in result["figures"]]
                            for result in results
                        ],
                        float,
                    )
                    style, color = (
                        ("-", "--", ":")[labels.index(label) // 10 % 3],
                        f"C{labels.index(label) % 10}",
                    )
                    axis.plot(
                        [f["marks"] for f in results[0]["figures"]],
                        np.nanmean(values, axis=0),
                        style,
                        color=color,
                        label=label,
                    )
            axis.set(title=title.format(k=FLAGS.k), xlabel="marks", ylim=(0, 1.02))
            axis.grid(alpha=0.3)
        row[0].set_ylabel(Path(folder).parent.name)
    grid.legend(
        *axes[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=6,
        fontsize=8,
    )
    grid.savefig(path, dpi=80)


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    for name, known in (
        ("transforms", TRANSFORMS),
        ("methods", METHODS),
        ("strategies", STRATEGIES),
    ):
        unknown = set(getattr(FLAGS, name)) - set(known)
        if unknown:
            raise app.UsageError(
                f"{name} must be of {', '.join(known)}; got "
                f"{', '.join(sorted(unknown))}"
            )
    folder = Path(FLAGS.dir)
    folder.mkdir(parents=True, exist_ok=True)
    todo = list(sessions())
    if not todo:
        raise app.UsageError(
            "embeddings must hold crops of a class with at least two members, or "
            "--relevant must find them"
        )
    results = play(todo, folder / "sessions.jsonl")
    groups: dict[tuple[str, str], list[dict]] = {}
    for session in todo:
        name = f"{session.transform}, {session.method}, {session.strategy}"
        groups.setdefault((session.embeddings, name), []).append(results[session.key])
    header = ["embeddings", "transform, method, strategy", "sessions"]
    rows = [
        [key[0], key[1], str(len(group)), *summary(group).values()]
        for key, group in groups.items()
    ]
    header += list(summary(next(iter(groups.values()))))
    marks = FLAGS.rounds * FLAGS.per_round
    pools = ", ".join(str(len(load(name, FLAGS.where)[1])) for name in FLAGS.embeddings)
    intro = f"{marks} marks, {FLAGS.label_noise:.0%} wrong, pools of {pools}" + (
        f", classes thinned to {FLAGS.thin:.1%}" if FLAGS.thin else ""
    )
    lines = [
        intro,
        "",
        f"| {' | '.join(header)} |",
        "|" + " --- |" * len(header),
        *[f"| {' | '.join(row)} |" for row in rows],
    ]
    write_text(folder / "results.md", "\n".join(lines) + "\n")
    figures = [field.name for field in dataclasses.fields(Round)]
    table = [[*SESSION_FACTS, *figures]]
    for result in results.values():
        facts = [result[name] for name in SESSION_FACTS]
        table += [[*facts, *found.values()] for found in result["figures"]]
    write_csv(folder / "results.csv", table)
    write_json(
        folder / "results.json",
        {
            "flags": {
                name: FLAGS[name].value
                for name in (
                    "embeddings",
                    "classes",
                    "queries",
                    "seeds",
                    "rounds",
                    "per_round",
                    "label_noise",
                    "thin",
                    "k",
                )
            },
            "provenance": provenance(0),
        },
    )
    plot(groups, folder / "results.png")
    print("\n".join(lines))
    print(f"\n{folder}/results.md, results.csv, results.png, sessions.jsonl")


if __name__ == "__main__":
    app.run(main)
