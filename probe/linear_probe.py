"""The linear probe: logistic regression from marks to a ranking of everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from probe.transforms import l2_normalize, sigmoid

DEFAULT_C = 10.0
C_GRID = (1.0, 3.0, 10.0, 30.0, 100.0)
ENOUGH = 5  # marks of each kind from which C is chosen by cross-validation
CHOOSING = 256  # marks that C is chosen on, at most


class LinearProbe(ClassifierMixin, BaseEstimator):
    """Balanced logistic regression on unit vectors, refitted in milliseconds.

    With rows u_i, answers y_i, weights s_i that give both kinds of mark the same total,
    and an offset o_i = anchor_strength (u_i . anchor), it minimizes

        |w|^2 / 2 + C sum_i s_i log(1 + exp(-(2 y_i - 1) (u_i . w + o_i + b)))

    by Newton's method. The minimum lies in the span of the marks, so the work is done
    in at most n dimensions, not D. scikit-learn gives the same without anchor and
    background, but has no offset, and takes seconds where this takes milliseconds.

    Its decision function is an inner product with unit vectors plus a constant, so a
    search index ranks by it as it ranks by a query: pass `coef_` to
    `CosineIndex.search_along`.

    Args:
        C: inverse strength of the L2 penalty; None chooses it from C_GRID by
            leave-one-out cross-validation on the marks (log loss), or takes DEFAULT_C
            while either kind has fewer than 5 marks. Leaving out is approximated by one
            Newton step from the whole fit (Rad and Maleki, 2020), so it costs nothing.
            From DEFAULT_C on, neighbors in the grid are tried while they are better.
            Of more than 256 marks it is chosen on 256, evenly spaced among those of
            each kind, and everything is fitted once, from where that fit ended.
        anchor_strength: how far coefficients are pulled towards `anchor` instead of
            zero (SeeSaw; Moll et al., 2023).
        background_weight: weight of each background row, where a mark has about 1.

    Attributes:
        coef_: [D] float64, the direction to rank by.
        intercept_: float.
        C_: the penalty used.
        left_out_: [n] float64, decision of each mark by a probe that didn't see it.
    """

    def __init__(
        self,
        *,
        C: float | None = None,
        anchor_strength: float = 0.0,
        background_weight: float = 0.02,
    ):
        self.C = C
        self.anchor_strength = anchor_strength
        self.background_weight = background_weight

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        *,
        background: np.ndarray | None = None,
        anchor: np.ndarray | None = None,
    ) -> LinearProbe:
        """Fits to marks.

        Args:
            X: [n, D] float, the marked embeddings; normalized here.
            y: [n] bool, whether each is relevant.
            background: [b, D] float, random crops of the pool, taken as weakly not
                relevant.
            anchor: [D] float, the query; needed if anchor_strength isn't 0.

        Raises:
            ValueError: shapes differ, or the marks are all of one kind and no
                background stands for the other.
        """
        vectors, relevant = np.asarray(X), np.asarray(y, bool)
        if vectors.ndim != 2 or len(vectors) != len(relevant):
            raise ValueError(
                f"vectors must be [n, D] with one mark per row; got {vectors.shape} "
                f"and {len(relevant)} marks"
            )
        counts = np.array([(~relevant).sum(), relevant.sum()])
        background = (
            np.empty((0, vectors.shape[1]))
            if background is None
            else np.asarray(background)
        )
        if counts[1] == 0 or (counts[0] == 0 and not len(background)):
            kind = "relevant" if relevant.all() else "not relevant"
            raise ValueError(
                f"marks must hold relevant and not relevant crops; all {len(relevant)} "
                f"are {kind}"
            )
        if self.anchor_strength and anchor is None:
            raise ValueError(
                "anchor must be given with an anchor_strength of "
                f"{self.anchor_strength}"
            )
        unit = l2_normalize(vectors, np.float64)
        beside = l2_normalize(background, np.float64)
        anchored = np.zeros(unit.shape[1])
        if anchor is not None:
            anchored = self.anchor_strength * l2_normalize(anchor, np.float64)

        marks = _Marks(unit, relevant, beside, self.background_weight, anchored)
        C = DEFAULT_C if self.C is None else float(self.C)
        few: _Solution | None = None
        several = C_GRID if self.C is None and counts.min() >= ENOUGH else ()
        if several and len(relevant) > CHOOSING:
            few = marks.some_of_each(CHOOSING).solve(C, several, roughly=True)
            C, several = few.C, ()
        found = marks.solve(C, several, start=few)
        self.coef_, self.intercept_ = found.coef, found.intercept
        self.C_, self.left_out_ = found.C, found.left_out
        self.classes_ = np.array([False, True])
        return self

    def decision_function(self, vectors: np.ndarray) -> np.ndarray:
        """Log odds of being relevant under balanced classes; [n, D] -> [n] float64.
        Larger is more relevant.
        """
        return l2_normalize(vectors) @ self.coef_ + self.intercept_

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Confidence of (not relevant, relevant); [n, D] -> [n, 2] float64. Balanced,
        so not a frequency in the pool.
        """
        confidence = sigmoid(self.decision_function(vectors))
        return np.stack([1 - confidence, confidence], axis=1)

    def predict(self, vectors: np.ndarray) -> np.ndarray:
        """[n, D] -> [n] bool."""
        return self.decision_function(vectors) > 0


@dataclass(frozen=True)
class _Solution:
    """What a fit came to; see `LinearProbe`."""

    C: float
    coef: np.ndarray
    intercept: float
    left_out: np.ndarray


@dataclass(frozen=True)
class _Marks:
    """What a fit is about.

    Attributes:
        unit: [n, D] float64, the marked unit vectors.
        relevant: [n] bool.
        background: [b, D] float64, unit vectors taken as weakly not relevant.
        background_weight: of each.
        anchored: [D] float64, anchor_strength times the anchor.
    """

    unit: np.ndarray
    relevant: np.ndarray
    background: np.ndarray
    background_weight: float
    anchored: np.ndarray

    def some_of_each(self, most: int) -> _Marks:
        """So many of the marks, half of each kind if there are as many, evenly spaced
        in the order of marking.
        """
        kinds = [np.flatnonzero(self.relevant), np.flatnonzero(~self.relevant)]
        fewer = min(*map(len, kinds), most // 2)
        rooms = [min(len(rows), most - fewer) for rows in kinds]
        taken = [
            rows[np.arange(room) * len(rows) // room]
            for rows, room in zip(kinds, rooms, strict=True)
        ]
        some = np.sort(np.concatenate(taken))
        return replace(self, unit=self.unit[some], relevant=self.relevant[some])

    def solve(
        self,
        first: float,
        grid: Sequence[float],
        *,
        start: _Solution | None = None,
        roughly: bool = False,
    ) -> _Solution:
        """The fit with a C, or with a better one on its way along a rising grid.

        Args:
            first: C.
            grid: holds it; () for it alone.
            start: where to begin; default: at zero.
            roughly: one step less, where another fit goes on from here.
        """
        relevant, rows = self.relevant, np.concatenate([self.unit, self.background])
        few = len(self.background)
        counts = np.array([(~relevant).sum(), relevant.sum()])
        each = len(relevant) / (2 * np.maximum(counts, 1))
        weights = np.append(
            each[relevant.astype(int)], np.full(few, self.background_weight)
        )
        answers = np.append(relevant.astype(np.float64), np.zeros(few))
        basis = _basis(rows)  # [D, r], orthonormal, spans the rows
        inside = rows if basis is None else rows @ basis
        features = np.column_stack([inside, np.ones(len(rows))])
        offset = rows @ self.anchored
        marks = slice(len(relevant))

        def fit(C: float, start: np.ndarray) -> _Fit:
            data = (features, answers, C * weights, offset)
            at, left_out = _newton(*data, start, small=1e-3 if roughly else 1e-5)
            # Summed over marks alone: background has no true answer.
            told = np.where(relevant, -left_out[marks], left_out[marks])
            loss = float(weights[marks] @ np.logaddexp(0, told))
            return _Fit(loss, C, at, left_out[marks])

        begin = np.zeros(features.shape[1])
        if start is not None:
            coef = start.coef - self.anchored
            begin[:-1] = coef if basis is None else coef @ basis
            begin[-1] = start.intercept
        best = fit(first, begin)
        for way in (1, -1) if grid else ():
            place = grid.index(first)
            while 0 <= (place := place + way) < len(grid):
                tried = fit(grid[place], best.at)
                if tried.loss >= best.loss:
                    break
                best = tried
            if first != best.C:
                break
        coef = best.at[:-1] if basis is None else basis @ best.at[:-1]
        return _Solution(
            best.C, coef + self.anchored, float(best.at[-1]), best.left_out
        )


class _Fit(NamedTuple):
    """With a C: the loss over left-out marks, coefficients in the basis, and the
    left-out decisions.
    """

    loss: float
    C: float
    at: np.ndarray
    left_out: np.ndarray


def _basis(unit: np.ndarray) -> np.ndarray | None:
    """Orthonormal columns that span the rows of [n, D], where those are fewer than D:
    from the Gram matrix. None: the axes do.
    """
    count, width = unit.shape
    if count >= width:
        return None
    values, vectors = np.linalg.eigh(unit @ unit.T)
    kept = values > 1e-10 * max(values[-1], 1e-300)
    return unit.T @ (vectors[:, kept] / np.sqrt(values[kept]))


def _newton(
    features: np.ndarray,
    answers: np.ndarray,
    weights: np.ndarray,
    offset: np.ndarray,
    start: np.ndarray,
    *,
    small: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimises |w|^2 / 2 + sum_i weight_i loss_i; the last feature is the constant,
    which is not penalised.

    Leave-one-out: with h_i = x_i' H^-1 x_i, H the Hessian at the minimum, g_i and c_i
    the first and second derivative of the weighted loss, one Newton step without mark i
    moves its decision to f_i + h_i g_i / (1 - h_i c_i).

    Args:
        features: [n, r + 1] float64.
        answers: [n], 0 or 1.
        weights: [n], of the losses.
        offset: [n], added to the decisions.
        start: [r + 1], where to begin.
        small: a step, as a share of the largest coefficient where that is above 1,
            after which the next, about its square, isn't taken.

    Returns:
        (coefficients [r + 1], left-out decisions [n]).
    """
    penalty = np.append(np.ones(features.shape[1] - 1), 1e-9)
    solution = start

    def objective(at: np.ndarray) -> float:
        decision = features @ at + offset
        losses = np.logaddexp(0, decision) - answers * decision
        return float(penalty @ (at * at) / 2 + weights @ losses)

    # Half of the time goes into Hessians, which only say how far to go.
    single = features.astype(np.float32)
    value = objective(solution)
    for _ in range(50):
        confidence = sigmoid(features @ solution + offset)
        slope = weights * (confidence - answers)
        curve = weights * confidence * (1 - confidence)
        scaled = single * np.sqrt(curve).astype(np.float32)[:, None]
        hessian = (scaled.T @ scaled).astype(np.float64)
        hessian[np.diag_indices_from(hessian)] += penalty
        step = np.linalg.solve(hessian, penalty * solution + features.T @ slope)
        size = 1.0
        while (tried := objective(solution - size * step)) > value and size > 1e-6:
            size /= 2
        solution, value = solution - size * step, min(value, tried)
        if np.abs(size * step).max() < small * max(1.0, np.abs(solution).max()):
            break
    slope = weights * (sigmoid(features @ solution + offset) - answers)
    leverage = np.einsum("ij,ij->i", features, features @ np.linalg.inv(hessian))
    left_out = features @ solution + offset
    left_out += leverage * slope / np.maximum(1 - leverage * curve, 1e-6)
    return solution, left_out
