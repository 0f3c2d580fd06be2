"""How good is a ranking, without ground truth: precision of its top, size of the class,
recall, from a random audit.

Marks that a policy chose say nothing about the others. So a sample is drawn at random,
and a person marks it: to judge the top of a list, the unmarked crops are cut into
strata by rank and as many are drawn from each; to tell a rate, all have the same
chance. Answers must not be learned from, or the ranking would be judged by what it was
taught.

The answers stay valid for any later ranking that didn't learn from them (Horvitz and
Thompson, 1952): what counts is how they were drawn. A later list is cut into parts by
stratum of the draw and by side of the cut. How many crops a part has is known, and
given how many of them were drawn, those are a random sample of it. Crops that were
marked since are known, and leave the list: what is left of its top is then a little
richer in sampled crops, which can't be marked, than chance would make it. The size of
the class takes no notice of later marks, and is exact whatever was marked.

Intervals are exact for one stratum and combine several by melding. A stratum has M
crops, of which m were drawn and x are relevant. The number of relevant ones K satisfies
P(X >= x | K) = P(T_x <= K), where T_x is the x-th smallest of m draws without
replacement from 1 ... M. So the quantiles of T_x are the lower limits of exact
(Clopper-Pearson) confidence, and those of T_(x+1) - 1 the upper ones. A sum over
strata, or a ratio that rises with some and falls with others, takes the quantiles of
the same function of independent draws of them (melding; Fay, Proschan and Brittain,
2015), which covers at least at the nominal rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 4000


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval."""

    estimate: float
    low: float
    high: float

    def scaled(self, factor: float) -> Interval:
        """The same of the estimated quantity times a factor, at least 0."""
        return Interval(self.estimate * factor, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return f"{self.estimate:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Stratum:
    """A part of the pool of which some were drawn at random and marked."""

    size: int
    drawn: int
    relevant: int  # of those drawn

    def __post_init__(self) -> None:
        if not 0 <= self.relevant <= self.drawn <= self.size:
            raise ValueError(
                f"stratum must have relevant <= drawn <= size; got {self.relevant}, "
                f"{self.drawn} and {self.size}"
            )

    @property
    def share(self) -> float | None:
        """Of relevant crops among those drawn; None where none was."""
        return self.relevant / self.drawn if self.drawn else None

    def limits(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws of T_x and of T_(x+1) - 1: what the number of relevant crops is at
        least and at most; two [DRAWS] int.
        """
        rest, x, m = self.size - self.drawn, self.relevant, self.drawn
        low = (
            np.zeros(DRAWS)
            if x == 0
            else x + rng.binomial(rest, rng.beta(x, m - x + 1, DRAWS))
        )
        high = (
            np.full(DRAWS, self.size)
            if x == m
            else x + rng.binomial(rest, rng.beta(x + 1, m - x, DRAWS))
        )
        return low, high


def draw_audit(strata: np.ndarray, count: int, seed: int | Sequence[int]) -> np.ndarray:
    """Rows to audit: as many from each stratum, at random; where one is too small, the
    others take its share.

    Args:
        strata: [N] int, the stratum of each row; -1 for rows that aren't in the
            population, such as marked ones.
        count: how many, at most the size of the population.
        seed: of the draw.

    Returns:
        [count] int rows, in order.
    """
    order = np.random.default_rng(seed).permutation(len(strata))
    members = [
        order[strata[order] == stratum] for stratum in np.unique(strata[strata >= 0])
    ]
    available = sum(map(len, members))
    if not 1 <= count <= available:
        raise ValueError(
            f"audit must be from 1 to the {available} crops that nobody marked; got "
            f"{count}"
        )
    taken = np.zeros(len(members), int)
    for _ in range(count):
        room = [i for i, rows in enumerate(members) if taken[i] < len(rows)]
        taken[min(room, key=lambda i: taken[i])] += 1
    return np.sort(
        np.concatenate([rows[:n] for rows, n in zip(members, taken, strict=True)])
    )


DRAWN_BY = ("rank", "uniform")


def cuts_of(predicted: int, count: int) -> list[int]:
    """Where a list of so many crops is cut: at half of those predicted to be relevant
    (at least 20 are assumed), at all of them, at twice and four times as many, and at
    its end.
    """
    ends = np.ceil(np.array([0.5, 1, 2, 4]) * max(20, predicted)).astype(int)
    return [*ends[ends < count].tolist(), count]


def stratify(
    population: np.ndarray, size: int, predicted: int, drawn_by: str = "rank"
) -> np.ndarray:
    """The strata that a sample is drawn from.

    Args:
        population: [n] int, rows of the crops that nobody marked, best first.
        size: N, crops in the pool.
        predicted: crops of the population that the probe takes for relevant.
        drawn_by: "rank" cuts as `cuts_of` does, so that the top is known best;
            "uniform" gives every crop the same chance, which suits a rate: an interval
            of a rare thing is as wide as what may hide in the largest stratum.

    Returns:
        [N] int, the stratum of each row, -1 outside of the population.
    """
    if drawn_by not in DRAWN_BY:
        raise ValueError(
            f"drawn_by must be one of {', '.join(DRAWN_BY)}; got {drawn_by!r}"
        )
    strata = np.full(size, -1)
    ends = cuts_of(predicted, len(population)) if drawn_by == "rank" else []
    strata[population] = np.searchsorted(ends, np.arange(len(population)), side="right")
    return strata


def parts_of(
    rows: np.ndarray, strata: np.ndarray, answers: Mapping[int, bool]
) -> list[Stratum]:
    """Some rows by stratum.

    Args:
        rows: [n] int.
        strata: [n] int, the stratum of each.
        answers: row -> relevant, of those that were drawn.
    """
    parts = []
    for stratum in np.unique(strata):
        members = rows[strata == stratum].tolist()
        given = [answers[row] for row in members if row in answers]
        parts.append(Stratum(len(members), len(given), sum(given)))
    return parts


@dataclass(frozen=True)
class Audit:
    """A ranking of the population, and the answers of a random sample of it.

    Attributes:
        order: [n] int, rows of the population (crops that nobody marked), best first;
            the sample's among them.
        strata: [n] int, the stratum of each by which the sample was drawn.
        answers: row -> relevant, of the rows that were drawn.
        known: relevant crops outside of the population: found already, and known to be
            so.
        confidence: of the intervals.
        seed: of the draws behind them.
        cuts: places at which `pick` may cut, rising; default: where strata end.
        frame: the strata as they were drawn from, and how many were known to be
            relevant then; default: those of `order`, and `known`.
    """

    order: np.ndarray
    strata: np.ndarray
    answers: dict[int, bool]
    known: int = 0
    cuts: Sequence[int] = ()
    frame: tuple[Sequence[Stratum], int] | None = None
    confidence: float = 0.95
    seed: int = 0

    def _parts(self, first: int, last: int) -> list[Stratum]:
        """What lies between two ranks, by stratum."""
        return parts_of(self.order[first:last], self.strata[first:last], self.answers)

    def _limits(
        self, parts: Sequence[Stratum], key: int
    ) -> tuple[float, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, key])
        limits = [part.limits(rng) for part in parts]
        low = sum((pair[0] for pair in limits), np.zeros(DRAWS))
        high = sum((pair[1] for pair in limits), np.zeros(DRAWS))
        return _total(parts), low, high

    def _interval(self, estimate: float, low: np.ndarray, high: np.ndarray) -> Interval:
        tail = (1 - self.confidence) / 2
        return Interval(
            float(estimate),
            float(np.quantile(low, tail, method="inverted_cdf")),
            float(np.quantile(high, 1 - tail, method="inverted_cdf")),
        )

    def precision(self, count: int) -> Interval:
        """Share of relevant crops among the best `count` that nobody marked before."""
        self._check(count)
        estimate, low, high = self._limits(self._parts(0, count), 0)
        return self._interval(estimate / count, low / count, high / count)

    def size(self) -> Interval:
        """Relevant crops in the pool, those that were marked before included."""
        parts = self._parts(0, len(self.order))
        drawn, known = self.frame or (parts, self.known)
        certain = self.known + sum(part.relevant for part in parts)
        estimate, low, high = self._limits(drawn, 0)
        # Marks since can have found more than the sample says there are.
        return self._interval(
            max(known + estimate, certain),
            np.maximum(known + low, certain),
            np.maximum(known + high, certain),
        )

    def recall(self, count: int) -> Interval:
        """Share of the class that is marked as relevant or among the best `count`."""
        self._check(count)
        inside = self._limits(self._parts(0, count), 0)
        outside = self._limits(self._parts(count, len(self.order)), 1)

        def share(found, missed):
            total = found + missed + self.known
            return np.where(
                total > 0, (found + self.known) / np.maximum(total, 1e-9), 1.0
            )

        return self._interval(
            share(inside[0], outside[0]),
            share(inside[1], outside[2]),
            share(inside[2], outside[1]),
        )

    def pick(self, target: float, certain: bool = False) -> int:
        """How many to take from the top: the most whose precision is at least `target`;
        0 where no cut is good enough.

        Cuts are tried from the top until one fails: a fixed sequence, which needs no
        correction for trying several.

        Args:
            target: in (0, 1].
            certain: the lower limit of the interval must reach it, not just the
                estimate.
        """
        if not 0 < target <= 1:
            raise ValueError(f"target precision must be in (0, 1]; got {target}")
        ends = (np.flatnonzero(np.diff(self.strata)) + 1).tolist()
        taken = 0
        for count in self.cuts or [*ends, len(self.order)]:
            precision = self.precision(count)
            if (precision.low if certain else precision.estimate) < target:
                break
            taken = count
        return taken

    def _check(self, count: int) -> None:
        if not 1 <= count <= len(self.order):
            raise ValueError(f"count must be in [1, {len(self.order)}]; got {count}")


def _total(parts: Sequence[Stratum]) -> float:
    """Relevant crops in some parts; one of which none was drawn counts as the others
    do together, half where nothing was drawn.
    """
    shares = [(part.size, part.share) for part in parts if part.share is not None]
    drawn = sum(size for size, _ in shares)
    found = sum(size * share for size, share in shares)
    left = sum(part.size for part in parts) - drawn
    return found + left * (found / drawn if drawn else 0.5)


def cohen_kappa(before: np.ndarray, after: np.ndarray) -> float:
    """Cohen's kappa of two yes/no decisions about the same crops; 1 where both say the
    same of all.

    Marking can stop when successive probes agree (stabilizing predictions; Bloodgood
    and Vijay-Shanker, 2009).
    """
    from sklearn.metrics import cohen_kappa_score  # takes a while to import

    before, after = np.asarray(before, bool), np.asarray(after, bool)
    if (before.all() and after.all()) or not (before.any() or after.any()):
        return 1.0  # all are of one class, of which kappa isn't defined
    return float(cohen_kappa_score(before, after))


ROUND = 20  # marks between two probes that are held against each other
STABLE, STABLE_ROUNDS = 0.95, 2
MANY_MARKS, STABLE_LATER = 160, 0.85


def stable_at(marks: int) -> float:
    """The kappa from which successive probes agree: 0.95, and 0.85 from 160 marks on,
    where as many marks again bring little more.

    Calibrated by simulation on the even species of the seedlings and on a field, so
    that the signal comes within 160 marks and costs less than 0.02 of R-precision over
    crops that nobody marks (`benchmarks.simulate`; docs/results.md).
    """
    return STABLE if marks < MANY_MARKS else STABLE_LATER


def should_stop(decisions: Sequence[np.ndarray], marks: int) -> bool:
    """Stop signal: the probes of the last rounds agree on which crops are relevant,
    twice in a row.

    Args:
        decisions: one [N] bool per round of 20 marks, whether each crop is predicted to
            be relevant.
        marks: how many there are.
    """
    last = decisions[-1] if decisions else np.array([])
    if len(decisions) <= STABLE_ROUNDS or last.all() or not last.any():
        return False
    pairs = zip(
        decisions[-STABLE_ROUNDS - 1 : -1], decisions[-STABLE_ROUNDS:], strict=True
    )
    needed = stable_at(marks)
    return all(cohen_kappa(before, after) >= needed for before, after in pairs)
