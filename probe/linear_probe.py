"""The linear probe: logistic regression from marks to a ranking of everything."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold

from probe.transforms import l2_normalize

DEFAULT_C = 10.0
C_GRID = (1.0, 3.0, 10.0, 30.0, 100.0)
FOLDS = 5


class LinearProbe(ClassifierMixin, BaseEstimator):
    """Balanced logistic regression on L2-normalised embeddings.

    Its decision function is an inner product with unit vectors plus a constant, so a search index ranks by it as it
    ranks by a query: pass `coef_` to `CosineIndex.search`.

    Args:
        C: inverse strength of the L2 penalty; None chooses it from C_GRID by stratified 5-fold cross-validation on the
            marks (log loss), or takes DEFAULT_C while either kind has fewer than 5 marks.
        seed: of the folds.

    Attributes:
        coef_: [D] float64, the direction to rank by.
        intercept_: float.
        C_: the penalty used.
    """

    def __init__(self, C: float | None = None, seed: int = 0):
        self.C = C
        self.seed = seed

    def fit(self, vectors: np.ndarray, relevant: np.ndarray) -> LinearProbe:
        """Fits to marks.

        Args:
            vectors: [n, D] float, the marked embeddings, not normalised.
            relevant: [n] bool.

        Raises:
            ValueError: shapes differ, or the marks are all of one kind.
        """
        vectors, relevant = np.asarray(vectors), np.asarray(relevant, bool)
        if vectors.ndim != 2 or len(vectors) != len(relevant):
            raise ValueError(f"vectors must be [n, D] with one mark a row; got {vectors.shape} and {len(relevant)} marks")
        smaller = int(min(relevant.sum(), (~relevant).sum()))
        if smaller == 0:
            kind = "relevant" if relevant.all() else "not relevant"
            raise ValueError(f"marks must hold relevant and not relevant crops; all {len(relevant)} are {kind}")
        options = {"class_weight": "balanced", "max_iter": 1000}
        unit = l2_normalize(vectors).astype(np.float64)
        if self.C is None and smaller >= FOLDS:
            folds = StratifiedKFold(FOLDS, shuffle=True, random_state=self.seed)
            search = LogisticRegressionCV(
                Cs=C_GRID, l1_ratios=(0.0,), cv=folds, scoring="neg_log_loss", use_legacy_attributes=False, **options
            )
            model = search.fit(unit, relevant)
            self.C_ = float(model.C_)
        else:
            self.C_ = DEFAULT_C if self.C is None else float(self.C)
            model = LogisticRegression(C=self.C_, **options).fit(unit, relevant)
        self.classes_ = model.classes_
        self.coef_, self.intercept_ = model.coef_[0].copy(), float(model.intercept_[0])
        return self

    def decision_function(self, vectors: np.ndarray) -> np.ndarray:
        """Log odds of being relevant under balanced classes; [n, D] -> [n] float64. Larger is more relevant."""
        return l2_normalize(vectors) @ self.coef_ + self.intercept_

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Confidence of (not relevant, relevant); [n, D] -> [n, 2] float64. Balanced, so not a frequency in the pool."""
        confidence = 1 / (1 + np.exp(-self.decision_function(vectors)))
        return np.stack([1 - confidence, confidence], axis=1)

    def predict(self, vectors: np.ndarray) -> np.ndarray:
        """[n, D] -> [n] bool."""
        return self.decision_function(vectors) > 0
