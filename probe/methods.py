"""Methods: from a query and marks to what everything is ranked by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from probe.transforms import l2_normalize, mean_direction, sample_rows

METHODS = ("auto", "cosine", "rocchio", "logistic", "anchored")
FEW = 50  # marks of each kind from which `auto` trusts a logistic regression alone
BACKGROUND = 50  # random crops that `anchored` takes as weak negatives
ANCHOR_STRENGTH = 2.0
ROCCHIO_NEGATIVE = 0.5
# Marks of each kind from which `auto` holds the probe against cosine.
WORTH_COMPARING = 5


@dataclass(frozen=True)
class LinearRanker:
    """What the marks came to: score = unit vector . coef + intercept, larger is more
    relevant.
    """

    coef: np.ndarray  # [d] float64
    intercept: float = 0.0
    kind: str = "cosine"  # or "decision": log odds of a probe, whose boundary is 0
    method: str = "cosine"  # one of METHODS but auto
    C: float | None = None
    reason: str = ""  # why `auto` chose it

    def __post_init__(self) -> None:
        if self.kind not in ("cosine", "decision"):
            raise ValueError(f"kind must be cosine or decision; got {self.kind!r}")

    @property
    def has_boundary(self) -> bool:
        """Whether zero is a decision boundary; a cosine has none."""
        return self.kind == "decision"


def learn(
    vectors: np.ndarray,
    relevant: np.ndarray,
    *,
    method: str = "auto",
    query: np.ndarray | None = None,
    background: np.ndarray | None = None,
    C: float | None = None,
) -> LinearRanker:
    """Learns a direction from what is known.

    `cosine`: the query's (without one the mean of the relevant marks). `rocchio`: mean
    of the relevant minus half the mean of the others (Rocchio, 1971). `logistic`:
    `LinearProbe`; while nothing is marked as not relevant, the mean of the relevant.
    `anchored`: `LinearProbe` pulled towards the query, with random crops of the pool as
    weak negatives. `auto`: anchored while either kind has fewer than 50 marks, logistic
    from there; and cosine where the probe, cross-validated, orders the marks worse by
    more than chance would. Without a query nothing is anchored and there is no cosine
    to compare with.

    Args:
        vectors: [m, d] float, the query's examples and the marked crops, as unit
            vectors of a `Transform`.
        relevant: [m] bool.
        method: one of METHODS.
        query: [d] float; default: the mean direction of the relevant ones.
        background: [b, d] float, random crops of the pool; without it `anchored` has no
            weak negatives.
        C: of the probe; None chooses.

    Raises:
        ValueError: nothing is relevant.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    relevant = np.asarray(relevant, bool)
    if not relevant.any():
        kinds = (
            f"all {len(relevant)} are not relevant"
            if len(relevant)
            else "there are none"
        )
        raise ValueError(
            "marks must hold at least one relevant crop, or a query must be given; "
            f"{kinds}"
        )
    towards = np.asarray(
        mean_direction(vectors[relevant]) if query is None else query, np.float64
    )
    if method == "auto":
        return _choose(
            vectors,
            relevant,
            has_query=query is not None,
            towards=towards,
            background=background,
            C=C,
        )
    if method == "cosine":
        return LinearRanker(towards)
    mean = mean_direction(vectors[relevant]).astype(np.float64)
    if method == "rocchio":
        away = (
            l2_normalize(vectors[~relevant], np.float64).mean(axis=0)
            if not relevant.all()
            else 0.0
        )
        return LinearRanker(mean - ROCCHIO_NEGATIVE * away, method=method)
    anchored = method == "anchored"
    if relevant.all() and not (anchored and background is not None and len(background)):
        return LinearRanker(mean)
    anchor = towards if query is not None else None
    return _fit(vectors, relevant, method, query=anchor, background=background, C=C)[0]


def _fit(
    vectors, relevant, method, *, query, background, C
) -> tuple[LinearRanker, np.ndarray]:
    from probe.linear_probe import LinearProbe  # scikit-learn takes a while to import

    anchored = method == "anchored"
    # Never the mean of the marks: each would be pulled to by its own answer.
    anchor = query if anchored else None
    probe = LinearProbe(
        C=C, anchor_strength=ANCHOR_STRENGTH if anchor is not None else 0.0
    )
    probe.fit(
        vectors, relevant, background=background if anchored else None, anchor=anchor
    )
    ranker = LinearRanker(probe.coef_, probe.intercept_, "decision", method, probe.C_)
    return ranker, probe.left_out_


def _choose(vectors, relevant, *, has_query, towards, background, C) -> LinearRanker:
    has_background = background is not None and len(background)
    smaller = int(min(relevant.sum(), (~relevant).sum()))
    if len(relevant) <= 1 or (smaller == 0 and not has_background):
        mean = mean_direction(vectors[relevant]).astype(np.float64)
        return LinearRanker(mean, reason="no mark tells what isn't relevant")
    method = "anchored" if smaller < FEW else "logistic"
    anchor = towards if has_query else None
    ranker, left_out = _fit(
        vectors, relevant, method, query=anchor, background=background, C=C
    )
    if not has_query:
        return replace(ranker, reason="no query to hold it against cosine with")
    cosines = l2_normalize(vectors) @ towards
    judged = cosines < 1 - 1e-6  # not the query itself, which is its own neighbor
    smaller = int(min((relevant & judged).sum(), (~relevant & judged).sum()))
    if smaller < WORTH_COMPARING:
        return replace(ranker, reason="too few marks to hold it against cosine")
    probe = ordering(left_out[judged], relevant[judged])
    cosine = ordering(cosines[judged], relevant[judged])
    compared = (
        f"cross-validated, the probe puts {probe:.2f} of the pairs of marks in order, "
        f"cosine {cosine:.2f}"
    )
    # Marks near the boundary are hard to put in order for any method: a difference must
    # be larger than chance would make it.
    share = (probe + cosine) / 2
    spread = np.sqrt(max(share * (1 - share), 0.25 / smaller) / smaller)
    if cosine > probe + 2 * spread:
        return LinearRanker(towards, reason=compared)
    return replace(ranker, reason=compared)


def ordering(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Share of pairs (relevant, not relevant) that the scores put in order, ties half:
    the area under the ROC curve.
    """
    others = np.sort(scores[~relevant])
    below, up_to = (
        np.searchsorted(others, scores[relevant], side) for side in ("left", "right")
    )
    return float(np.mean(below + up_to) / (2 * len(others)))


def learn_from(
    index: Any,
    marks: Mapping[int, bool],
    *,
    examples: np.ndarray,
    example_rows: Sequence[int] = (),
    negatives: np.ndarray | None = None,
    method: str = "auto",
    seed: int = 0,
) -> LinearRanker:
    """Learns from marks on a pool, with the query's examples as further relevant ones.

    Args:
        index: the pool, a `CosineIndex`.
        marks: row -> relevant.
        examples: [q, D] float, the query's embeddings; q may be 0.
        example_rows: rows of the examples that lie in the pool, which are the first
            ones. A mark on one of them counts instead of the example.
        negatives: [n, D] float, embeddings of what it should not look like.
        method: one of METHODS.
        seed: of the random crops that stand for what isn't relevant while marks are
            few.
    """
    rows = list(example_rows)
    unseen = [
        place
        for place in range(len(examples))
        if place >= len(rows) or rows[place] not in marks
    ]
    known = index.transform(examples[unseen])
    parts = [index.remembered(list(marks)), known]
    answers = [*marks.values(), *[True] * len(unseen)]
    if negatives is not None and len(negatives):
        parts.append(index.transform(negatives))
        answers += [False] * len(negatives)
        if not marks and method == "auto":
            method = "rocchio"  # examples alone draw no boundary
    query = mean_direction(known) if len(known) else None
    background = np.setdiff1d(
        sample_rows(len(index), BACKGROUND, seed), [*marks, *example_rows]
    )
    return learn(
        np.concatenate(parts),
        np.array(answers, bool),
        method=method,
        query=query,
        background=index.remembered(background),
    )
