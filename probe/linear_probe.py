"""The linear probe: logistic regression from marks to a ranking of everything."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from probe.transforms import l2_normalize, sigmoid

DEFAULT_C = 10.0
C_GRID = (1.0, 3.0, 10.0, 30.0, 100.0)
ENOUGH = 5  # marks of each kind from which C is chosen by cross-validation


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
        weights = (len(relevant) / (2 * np.maximum(counts, 1)))[relevant.astype(int)]
        unit = l2_normalize(vectors, np.float64)
        answers = relevant.astype(np.float64)
        unit = np.concatenate([unit, l2_normalize(background, np.float64)])
        answers = np.append(answers, np.zeros(len(background)))
        weights = np.append(weights, np.full(len(background), self.background_weight))
        anchored = (
            np.zeros(unit.shape[1])
            if anchor is None
            else self.anchor_strength * l2_normalize(anchor, np.float64)
        )
        offset = unit @ anchored

        basis = _basis(unit)  # [D, r], orthonormal, spans the rows
        features = np.column_stack([unit @ basis, np.ones(len(unit))])
        marks = slice(len(relevant))
        grid = (
            (self.C,)
            if self.C is not None
            else C_GRID
            if counts.min() >= ENOUGH
            else (DEFAULT_C,)
        )
        best = np.inf
        for C in grid:
            solution, left_out = _newton(features, answers, float(C) * weights, offset)
            # Summed over marks alone: background has no true answer.
            loss = float(
                weights[marks]
                @ np.logaddexp(0, np.where(relevant, -left_out[marks], left_out[marks]))
            )
            if loss < best:
                best, self.C_, self.left_out_ = loss, float(C), left_out[marks]
                self.coef_, self.intercept_ = (
                    basis @ solution[:-1] + anchored,
                    float(solution[-1]),
                )
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


def _basis(unit: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span the rows of [n, D]: by the smaller of the two Gram
    matrices.
    """
    count, width = unit.shape
    if count >= width:
        return np.eye(width)
    values, vectors = np.linalg.eigh(unit @ unit.T)
    kept = values > 1e-10 * max(values[-1], 1e-300)
    return unit.T @ (vectors[:, kept] / np.sqrt(values[kept]))


def _newton(
    features: np.ndarray, answers: np.ndarray, weights: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Minimises |w|^2 / 2 + sum_i weight_i loss_i; the last feature is the constant,
    which is not penalised.

    Leave-one-out: with h_i = x_i' H^-1 x_i, H the Hessian at the minimum, g_i and c_i
    the first and second derivative of the weighted loss, one Newton step without mark i
    moves its decision to f_i + h_i g_i / (1 - h_i c_i).

    Returns:
        (coefficients [r + 1], left-out decisions [n]).
    """
    penalty = np.append(np.ones(features.shape[1] - 1), 1e-9)
    solution = np.zeros(features.shape[1])

    def objective(at: np.ndarray) -> float:
        decision = features @ at + offset
        losses = np.logaddexp(0, decision) - answers * decision
        return float(penalty @ (at * at) / 2 + weights @ losses)

    value = objective(solution)
    for _ in range(50):
        confidence = sigmoid(features @ solution + offset)
        slope, curve = (
            weights * (confidence - answers),
            weights * confidence * (1 - confidence),
        )
        hessian = np.diag(penalty) + features.T @ (features * curve[:, None])
        step = np.linalg.solve(hessian, penalty * solution + features.T @ slope)
        size = 1.0
        while (tried := objective(solution - size * step)) > value and size > 1e-6:
            size /= 2
        solution, value = solution - size * step, min(value, tried)
        if np.abs(size * step).max() < 1e-8:
            break
    decision = features @ solution + offset
    confidence = sigmoid(decision)
    slope, curve = (
        weights * (confidence - answers),
        weights * confidence * (1 - confidence),
    )
    hessian = np.diag(penalty) + features.T @ (features * curve[:, None])
    leverage = np.einsum("ij,ij->i", features, np.linalg.solve(hessian, features.T).T)
    return solution, decision + leverage * slope / np.maximum(
        1 - leverage * curve, 1e-6
    )
