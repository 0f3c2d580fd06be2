"""The order of a list: one type and one rule for all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

FIRST = 2000  # rows of a ranking that are looked for without scoring all
_AHEAD = 100  # of them, that are found at once
DIGITS = 10
"""Scores along a unit direction that agree to this many digits are ties; ties go by id.
"""


def order_of(scores: np.ndarray, place_of_id: np.ndarray) -> np.ndarray:
    """The one rule: by falling score, rounded to `DIGITS`; ties by id.

    Args:
        scores: [n] float64, inner products with a direction of length 1, so that what
            counts as equal doesn't depend on how long a direction is.
        place_of_id: [n] int, the place of each item's id among all ids, sorted.

    Returns:
        [n] int, positions in `scores`, best first.
    """
    return np.lexsort((place_of_id, -scores.round(DIGITS)))


class Ranking:
    """Rows of a pool, best first.

    Attributes:
        rows: [n] int, best first; ties by crop id.
        scores: [n] float64, of those rows.
        kind: "cosine", or "decision": log odds of a probe, whose boundary is 0.
        excluded: [m] int, rows that weren't searched.
    """

    def __init__(
        self,
        rows: np.ndarray,
        scores: np.ndarray,
        *,
        kind: str = "cosine",
        excluded: np.ndarray | None = None,
    ):
        if len(rows) != len(scores):
            raise ValueError(
                f"rows and scores must be equally many; got {len(rows)} and "
                f"{len(scores)}"
            )
        self.rows, self.scores, self.kind = np.asarray(rows), np.asarray(scores), kind
        self.excluded = np.array([], np.int64) if excluded is None else excluded

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        first = self.page(0, 3)
        best = ", ".join(
            f"{row}: {score:.4f}"
            for row, score in zip(first.rows, first.scores, strict=True)
        )
        return f"<Ranking of {len(self)} rows by {self.kind}, best first: {best}>"

    def page(self, start: int, count: int) -> Ranking:
        """The part from place `start` on, `count` long at most.

        Raises:
            ValueError: start or count is negative.
        """
        _check_page(start, count)
        part = slice(start, start + count)
        return Ranking(
            self.rows[part], self.scores[part], kind=self.kind, excluded=self.excluded
        )


def _check_page(start: int, count: int) -> None:
    for name, value in (("start", start), ("count", count)):
        if not isinstance(value, int | np.integer) or value < 0:
            raise ValueError(f"{name} must be a number, at least 0; got {value!r}")


class FullRanking(Ranking):
    """A ranking of everything, put in exact order only as far as somebody looks.

    All scores are known in float32, which is off by `slack` at most. A page is put in
    order by scoring in float64 those rows that can be in it; `rows` does so for all.

    Args:
        approximate: gives [N] float32, of all rows; called when the first rows aren't
            enough.
        first: k -> the k best rows in exact order, where that is faster than scoring
            all; at most FIRST are asked for.
        exact: rows [n] -> scores [n] float64 along a unit direction.
        place_of_id: [N] int.
        mask: [N] bool, True where searched.
        length, intercept: score = length * exact + intercept.
        slack: what `approximate` may be off by, in the same unit.
        kind: see `Ranking`.
    """

    def __init__(
        self,
        approximate: Callable[[], np.ndarray],
        exact: Callable[[np.ndarray], np.ndarray],
        *,
        first: Callable[[int], Ranking] | None = None,
        place_of_id: np.ndarray,
        mask: np.ndarray,
        length: float,
        intercept: float,
        slack: float,
        kind: str,
    ):
        self.kind = kind
        self.excluded = np.flatnonzero(~mask)
        self._exact, self._place_of_id = exact, place_of_id
        self._length, self._intercept, self._slack = length, intercept, slack
        self._approximate, self._mask, self._first = approximate, mask, first
        self._count = len(mask) - len(self.excluded)
        self._best: Ranking | None = None  # what `first` gave

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """All rows in their rough order, and their falling scores, negative."""
        rows = np.flatnonzero(self._mask)
        falling = -self._approximate()[rows]
        order = np.argsort(falling)  # near-ties are put in order when looked at
        return rows[order], falling[order]

    @property
    def _rough(self) -> np.ndarray:
        return self._sorted[0]

    def page(self, start: int, count: int) -> Ranking:
        """See `Ranking.page`; costs no more than the page and its near-ties."""
        _check_page(start, count)
        end = min(start + count, len(self))
        if start >= end:
            rows, scores = np.array([], np.int64), np.array([])
        elif "_all" in self.__dict__:
            rows, scores = (part[start:end] for part in self._all)
        elif self._first is not None and end <= FIRST and not self._is_sorted:
            if self._best is None or len(self._best) < end:
                self._best = self._first(min(len(self), max(end, _AHEAD)))
            rows, scores = self._best.rows[start:end], self._best.scores[start:end]
        else:
            falling = self._sorted[1]
            first = np.searchsorted(falling, falling[start] - 2 * self._slack, "left")
            last = np.searchsorted(falling, falling[end - 1] + 2 * self._slack, "right")
            rows, scores = self._in_order(self._rough[first:last])
            rows, scores = (
                rows[start - first : end - first],
                scores[start - first : end - first],
            )
        return Ranking(rows, scores, kind=self.kind, excluded=self.excluded)

    @property
    def _is_sorted(self) -> bool:
        return "_sorted" in self.__dict__

    def _in_order(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        exact = self._exact(rows)
        order = order_of(exact, self._place_of_id[rows])
        return rows[order], self._length * exact[order] + self._intercept

    @cached_property
    def _all(self) -> tuple[np.ndarray, np.ndarray]:
        return self._in_order(self._rough)

    @property
    def rows(self) -> np.ndarray:  # type: ignore[override]
        """[n] int, all in exact order."""
        return self._all[0]

    @property
    def scores(self) -> np.ndarray:  # type: ignore[override]
        """[n] float64, of `rows`."""
        return self._all[1]
