"""A pretraining run beside the official code's on the same images.

official_cifar10.json holds what the official run.py gave on a part of CIFAR-10; here
are the same figures of a run of this project, and the picture of both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from probe.transforms import l2_normalize
from simclr_tf2.trainer import read_steps

# Each is a mean over the steps of an epoch, and a curve of the picture.
CURVES = {
    "contrastive_loss": "contrastive loss",
    "accuracy": "the right view found among all of the batch",
    "online_loss": "loss of the online classifier",
}
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)  # C of the logistic regression
NEIGHBORS, TEMPERATURE = 20, 0.07


@dataclass(frozen=True)
class Pretraining:
    """What a pretraining run comes to.

    Attributes:
        curves: name -> a mean for every epoch; of CURVES.
        linear_accuracy: C -> accuracy of a logistic regression on the features.
        knn20_accuracy: of the vote of the 20 nearest training images.
    """

    curves: Mapping[str, Sequence[float]]
    linear_accuracy: Mapping[str, float]
    knn20_accuracy: float


def official() -> tuple[dict[str, int | str], Pretraining]:
    """The settings of the official run, and what it came to."""
    path = Path(__file__).with_name("official_cifar10.json")
    told = json.loads(path.read_text())
    curves = {name: told[name] for name in CURVES}
    linear, knn = told["linear_accuracy"], told["knn20_accuracy"]
    return told["settings"], Pretraining(curves, linear, knn)


def curves_of(run_dir: Path) -> dict[str, list[float]]:
    """The curves that a run's metrics.jsonl tells of; those that it has."""
    steps = read_steps(run_dir)
    by_epoch = [list(each) for _, each in groupby(steps, lambda step: step["epoch"])]
    return {
        name: [float(np.mean([step[name] for step in each])) for each in by_epoch]
        for name in CURVES
        if name in steps[0]
    }


def linear_accuracy(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
) -> dict[str, float]:
    """C -> accuracy on the test images of a logistic regression on standardized
    features [N, D].
    """
    scale = StandardScaler().fit(features)
    train, test = scale.transform(features), scale.transform(test_features)
    return {
        f"{strength:g}": LogisticRegression(C=strength, max_iter=2000)
        .fit(train, labels)
        .score(test, test_labels)
        for strength in STRENGTHS
    }


def knn_accuracy(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
) -> float:
    """Accuracy of the vote of the 20 nearest by cosine, each with weight
    exp(similarity / 0.07) (Wu et al. 2018, arXiv 1805.01978).
    """
    scores = l2_normalize(test_features) @ l2_normalize(features).T
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :NEIGHBORS]
    weights = np.exp(np.take_along_axis(scores, nearest, axis=1) / TEMPERATURE)
    classes = np.unique(labels)
    votes = weights[:, :, None] * (labels[nearest][:, :, None] == classes)
    guesses = classes[votes.sum(axis=1).argmax(axis=1)]
    return float(np.mean(guesses == test_labels))


def in_words(ours: Sequence[Pretraining], theirs: Pretraining) -> list[str]:
    """How far apart the two are, a line for each figure."""
    loss = np.array([run.curves["contrastive_loss"] for run in ours])
    reference = np.array(theirs.curves["contrastive_loss"])
    apart = np.abs(loss / reference - 1)
    mean = np.abs(loss.mean(axis=0) / reference - 1)
    best = max(theirs.linear_accuracy, key=lambda c: theirs.linear_accuracy[c])
    linear = [run.linear_accuracy[best] for run in ours]
    knn = [run.knn20_accuracy for run in ours]

    def of(values: Sequence[float]) -> str:
        return f"{np.mean(values):.3f} (seeds: {', '.join(f'{v:.3f}' for v in values)})"

    return [
        "contrastive loss, epoch by epoch",
        "official: " + ", ".join(f"{value:.2f}" for value in reference),
        "ours:     " + ", ".join(f"{value:.2f}" for value in loss.mean(axis=0)),
        f"contrastive loss: {100 * mean.max():.2f} % apart at most, mean of seeds; "
        f"{100 * apart.max():.2f} % any seed",
        f"linear accuracy (C={best}): {of(linear)}; official "
        f"{theirs.linear_accuracy[best]:.3f}",
        f"20 nearest neighbors: {of(knn)}; official {theirs.knn20_accuracy:.3f}",
    ]


def draw(ours: Sequence[Pretraining], theirs: Pretraining | None, path: Path) -> None:
    """Draws the curves of all runs into a file."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(CURVES), figsize=(10, 3.2), layout="constrained"
    )
    for panel, (name, title) in zip(panels, CURVES.items(), strict=True):
        for number, run in enumerate(ours):
            curve = run.curves.get(name, [])
            panel.plot(
                np.arange(len(curve)) + 1,
                curve,
                color="tab:orange",
                alpha=0.8,
                label="here, a line for each seed" if not number else None,
            )
        if theirs:
            curve = theirs.curves[name]
            panel.plot(np.arange(len(curve)) + 1, curve, "k--", label="official code")
        panel.set(xlabel="epoch")
        panel.set_title(title, fontsize=9)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
