"""The loop of marking against those of other tools, on the same embeddings, with the
same queries and as many simulated marks.

    pip install modAL-python                  # for the row of FiftyOne's plugin
    python -m benchmarks.peers --embeddings=runs/a/embeddings

Every loop begins with the query and its 20 nearest, which the annotator marks; then its
own classifier learns and its own rule says which 20 are marked next, until 140 are. The
list that its classifier makes is measured: P@50 over what nobody marked, R-precision
over everything but the query, both by the truth. Differences are paired by query.

What is compared are the rules, as published, not the programs around them:

- Perch Hoplite 1.0.2, agile modeling (its notebook's defaults): a linear layer on the
  vectors as they are, 128 steps of Adam (learning rate 0.001), batches of 128 marks
  and 128 unmarked crops taken for negatives with weight 0.05, a tenth of the marks held
  back; the best unmarked are shown (its margin sampling is off by default).
- FiftyOne's active-learning plugin (jacobmarks, 2023): modAL's ranked batch-mode
  uncertainty sampling (Cardoso et al., 2017) with scikit-learn's random forest; modAL
  itself runs here.
- LightlyStudio's few-shot classifier: a random forest; 10 crops just above a confidence
  of 0.5 and 10 just below are shown.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

from collections.abc import Callable

import numpy as np
from absl import app, flags

from artifacts.progress import progress_bar
from benchmarks.queries import CLASSES, random_queries
from curation.pool import Pool
from curation.simulation import Round, SimulatedAnnotator, measure, simulate
from data.embeddings import EmbeddingSet
from probe.metrics import mean_and_interval
from probe.ranking import Ranking
from probe.transforms import l2_normalize, sigmoid

FLAGS = flags.FLAGS
flags.DEFINE_list("embeddings", None, "Folders of sets with labels.", required=True)
flags.DEFINE_enum("classes", "odd", CLASSES, "Which are looked for.")
flags.DEFINE_integer("queries", 10, "Random queries a class.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of queries, and of what the rules draw.")
ROUNDS, PER_ROUND, K = 7, 20, 50

# (vectors, marked rows, their answers, unmarked rows, rng) -> scores of all [N], and
# which unmarked rows to show next.
Rule = Callable[..., tuple[np.ndarray, np.ndarray]]


def hoplite(vectors, marked, answers, unmarked, rng):
    """Perch Hoplite's agile modeling."""
    kinds = [marked[answers == kind] for kind in (True, False)]
    held = np.concatenate([rng.permutation(k)[: max(1, len(k) // 10)] for k in kinds])
    trained = np.isin(marked, held, invert=True)
    rows, told = marked[trained], answers[trained].astype(float)
    width = vectors.shape[1]
    weights = rng.uniform(-1, 1, width) * np.sqrt(6 / (width + 1))
    weights = np.append(weights, 0.0)
    moments = np.zeros((2, width + 1))
    for step in range(1, 129):
        batch = rng.permutation(len(rows))[:128]
        batch = np.resize(batch, 128)
        weak = rng.choice(unmarked, 128)
        inputs = vectors[np.concatenate([rows[batch], weak])].astype(float)
        inputs = np.column_stack([inputs, np.ones(len(inputs))])
        truth = np.append(told[batch], np.zeros(128))
        weight = np.append(np.ones(128), np.full(128, 0.05))
        slope = weight * (sigmoid(inputs @ weights) - truth) @ inputs / len(inputs)
        moments[0] = 0.9 * moments[0] + 0.1 * slope
        moments[1] = 0.999 * moments[1] + 0.001 * slope**2
        first, second = moments[0] / (1 - 0.9**step), moments[1] / (1 - 0.999**step)
        weights -= 1e-3 * first / (np.sqrt(second) + 1e-7)
    scores = vectors @ weights[:-1] + weights[-1]
    return scores, unmarked[np.argsort(-scores[unmarked], kind="stable")]


def fiftyone(vectors, marked, answers, unmarked, rng):
    """FiftyOne's plugin, by modAL."""
    from modAL.batch import uncertainty_batch_sampling
    from modAL.models import ActiveLearner
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(random_state=int(rng.integers(2**31)), n_jobs=2)
    learner = ActiveLearner(
        estimator=forest,
        X_training=vectors[marked],
        y_training=answers,
        query_strategy=uncertainty_batch_sampling,
    )
    places = learner.query(vectors[unmarked], n_instances=PER_ROUND)[0]
    return forest.predict_proba(vectors)[:, 1], unmarked[np.asarray(places)]


def lightly(vectors, marked, answers, unmarked, rng):
    """LightlyStudio's few-shot classifier."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(random_state=int(rng.integers(2**31)), n_jobs=2)
    forest.fit(vectors[marked], answers)
    scores = forest.predict_proba(vectors)[:, 1]
    order = unmarked[np.argsort(scores[unmarked], kind="stable")]
    above = order[scores[order] >= 0.5][: PER_ROUND // 2]
    below = order[scores[order] < 0.5][::-1][: PER_ROUND - len(above)]
    return scores, np.concatenate([above, below])


RULES: dict[str, Rule] = {
    "Perch Hoplite, agile modeling": hoplite,
    "FiftyOne, active-learning plugin": fiftyone,
    "LightlyStudio, few-shot classifier": lightly,
}


def play(
    rule: Rule, vectors: np.ndarray, query: int, relevant: np.ndarray, seed: int
) -> Round:
    """The figures of a rule's last list."""
    rng = np.random.default_rng(seed)
    others = np.delete(np.arange(len(vectors)), query)
    unit = l2_normalize(vectors)
    scores = unit @ unit[query]
    shown = others[np.argsort(-scores[others], kind="stable")]
    marked = np.array([], np.int64)
    for _ in range(ROUNDS):
        marked = np.append(marked, shown[:PER_ROUND])
        unmarked = np.setdiff1d(others, marked)
        known = np.append(marked, query)
        answers = relevant[known]
        if answers.all():  # nothing to learn from yet: the next nearest
            shown = unmarked[np.argsort(-scores[unmarked], kind="stable")]
            continue
        scores, shown = rule(vectors, known, answers, unmarked, rng)
    order = others[np.argsort(-scores[others], kind="stable")]
    ranking = Ranking(order, scores[order], kind="cosine")
    return measure(ranking, relevant, marked, K, stop=False)


def ours(pool: Pool, query: int, relevant: np.ndarray, seed: int) -> Round:
    """The figures of this project's last list."""
    annotator = SimulatedAnnotator(relevant, seed=seed)
    played = simulate(pool, annotator, query, rounds=ROUNDS, per_round=PER_ROUND, k=K)
    return [told for told, _ in played][-1]


def compare(folder: str) -> None:
    """Prints the table of an embedding set."""
    pool = Pool(EmbeddingSet.load(folder))
    vectors = np.asarray(pool.embeddings.vectors)
    labels = pool.table.column("label_name")
    asked = (FLAGS.classes, FLAGS.queries, FLAGS.seed)
    jobs = random_queries(pool.table, *asked)
    rules = dict(RULES)
    try:
        import modAL  # noqa: F401
    except ImportError:
        del rules["FiftyOne, active-learning plugin"]
        print("FiftyOne's rule isn't run: pip install modAL-python")
    found: dict[str, list[Round]] = {"this project": [], **{name: [] for name in rules}}
    for name, row in progress_bar(jobs, total=len(jobs), unit="query", desc=folder):
        relevant = labels == name
        found["this project"].append(ours(pool, row, relevant, FLAGS.seed))
        for title, rule in rules.items():
            found[title].append(play(rule, vectors, row, relevant, row))
    print(
        f"\n{folder}, {len(jobs)} queries, {ROUNDS * PER_ROUND} marks, seed "
        f"{FLAGS.seed}\n\n| loop | P@{K} unmarked | R-precision | less than this "
        "project's, paired |\n| --- | --- | --- | --- |"
    )
    columns = {
        title: [
            [float(getattr(told, name) or 0) for told in rounds]
            for name in ("precision_unmarked", "r_precision")
        ]
        for title, rounds in found.items()
    }
    for title, values in columns.items():
        cells = [mean_and_interval(one) for one in values]
        less = [
            mean_and_interval(np.subtract(mine, one).tolist())
            for mine, one in zip(columns["this project"], values, strict=True)
        ]
        note = "-" if title == "this project" else " / ".join(less)
        print(f"| {title} | {cells[0]} | {cells[1]} | {note} |")


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    for folder in FLAGS.embeddings:
        compare(folder)


if __name__ == "__main__":
    app.run(main)
