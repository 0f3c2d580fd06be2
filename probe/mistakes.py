"""Which answers contradict the others: a probe that didn't see one says otherwise.

Each is held against a linear probe that was fitted without it (leave-one-out; see
`LinearProbe`). Like confident learning (Northcutt, Jiang and Chuang, 2021), but one
class against the rest, and with scores that leave the order to the person who looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from probe.linear_probe import LinearProbe

STRENGTH = 1.0  # C: a wrong answer must not be fitted
MOST = 10_000  # rows that a class's probe is fitted on


def contradictions(vectors: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """How far a probe that didn't see an answer contradicts it.

    Args:
        vectors: [n, d] float, unit vectors of what was answered.
        relevant: [n] bool, the answers, of both kinds.

    Returns:
        [n] float64, log odds against each answer; above 0 it is contradicted.
    """
    relevant = np.asarray(relevant, bool)
    left_out = LinearProbe(C=STRENGTH).fit(vectors, relevant).left_out_
    return np.where(relevant, -left_out, left_out)


def decisions_of_others(
    unit_vectors: Callable[[np.ndarray], np.ndarray],
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    seed: int = 0,
) -> np.ndarray:
    """For each class and row, the decision of a probe of that class against the rest
    that didn't see the row.

    Args:
        unit_vectors: rows [n] -> [n, d] float32.
        labels: [N] str, the class of each row.
        classes: those to look at, each with a member and a row of another class.
        seed: of the rows that a probe is fitted on, where there are more than 10,000:
            up to half of them members.

    Returns:
        [classes, N] float64.
    """
    rows = np.arange(len(labels))
    found = np.empty((len(classes), len(labels)))
    for place, name in enumerate(classes):
        inside = labels == name
        order = np.random.default_rng([seed, place]).permutation(rows)
        members, others = order[inside[order]], order[~inside[order]]
        fewer = min(len(members), max(MOST // 2, MOST - len(others)))
        fitted = np.concatenate([members[:fewer], others[: MOST - fewer]])
        probe = LinearProbe(C=STRENGTH).fit(unit_vectors(fitted), inside[fitted])
        found[place, fitted] = probe.left_out_
        for start in range(0, len(rows), MOST):
            part = np.setdiff1d(rows[start : start + MOST], fitted)
            if len(part):
                found[place, part] = probe.decision_function(unit_vectors(part))
    return found
