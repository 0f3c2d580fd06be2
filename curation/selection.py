"""The one rule for which crops make a class, and the scales of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from probe.transforms import sigmoid


def choose(
    scores: np.ndarray,
    threshold: float | None,
    said: Mapping[int, bool],
    examples: Sequence[int],
    mask: np.ndarray,
    *,
    members: np.ndarray,
    tolerance: float = 0.0,
) -> np.ndarray:
    """Which crops make the class: those from a threshold on, overruled by what a person
    said of them.

    Args:
        scores: [N] float, of all crops.
        threshold: None for those alone that a person called relevant.
        said: row -> relevant: marks, and answers to an audit, which count more.
        examples: rows of the query, which are relevant unless said otherwise.
        mask: [N] bool, crops that the threshold may choose.
        members: [N] bool, crops that the class may have at all.
        tolerance: what a score can be off by: so far below it a crop still reaches the
            threshold that was set by its own score.

    Returns:
        [n] int rows, best first.
    """
    chosen = np.zeros(len(scores), bool)
    if threshold is not None:
        chosen = mask & (scores >= threshold - tolerance)
    chosen[list(examples)] = True
    chosen[np.array(list(said), np.int64)] = list(said.values())
    rows = np.flatnonzero(chosen & members)
    return rows[np.argsort(-scores[rows], kind="stable")]


def displayed(kind: str, score):
    """A score as people are shown it: a decision as a confidence from 0 to 1."""
    return sigmoid(np.asarray(score, np.float64)) if kind == "decision" else score


def decision_of(kind: str, shown: float) -> float:
    """The score behind what is displayed; 0 and 1 are as far out as can be."""
    if kind != "decision":
        return float(shown)
    if 0 < shown < 1:
        return float(np.log(shown / (1 - shown)))
    return float((shown - 0.5) * 1e9)


def scale_of(kind: str) -> str:
    """What people call the displayed scores."""
    return "confidence" if kind == "decision" else "cosine"
