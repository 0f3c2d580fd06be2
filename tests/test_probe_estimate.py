import numpy as np
import pytest
from scipy.stats import beta, hypergeom

from probe.estimate import (
    DRAWS,
    ROUND,
    Audit,
    Interval,
    Stratum,
    cohen_kappa,
    cuts_of,
    draw_audit,
    parts_of,
    should_stop,
    stable_at,
    stratify,
)


def exact_limits(stratum, confidence=0.95):
    """Clopper-Pearson limits of a hypergeometric count, by trying every count."""
    tail = (1 - confidence) / 2
    counts = np.arange(
        stratum.relevant, stratum.size - (stratum.drawn - stratum.relevant) + 1
    )
    at_least = hypergeom.sf(stratum.relevant - 1, stratum.size, counts, stratum.drawn)
    at_most = hypergeom.cdf(stratum.relevant, stratum.size, counts, stratum.drawn)
    return counts[at_least > tail].min(), counts[at_most > tail].max()


@pytest.mark.parametrize(
    "stratum",
    [
        Stratum(100, 20, 0),
        Stratum(100, 20, 20),
        Stratum(60, 30, 11),
        Stratum(1000, 40, 3),
        Stratum(9, 9, 4),
    ],
)
def test_one_stratum_has_the_exact_interval(stratum):
    low, high = stratum.limits(np.random.default_rng(0))
    expected = exact_limits(stratum)
    tolerance = max(1, 0.03 * stratum.size)
    assert abs(np.quantile(low, 0.025) - expected[0]) <= tolerance
    assert abs(np.quantile(high, 0.975) - expected[1]) <= tolerance
    assert np.quantile(low, 0.025) <= stratum.size * max(
        stratum.relevant / stratum.drawn, beta.ppf(0.025, 1, 1)
    )


@pytest.mark.parametrize("confidence", [0.95, 0.8])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_intervals_are_as_wide_as_the_exact_ones_and_no_wider(confidence, share):
    """Of one stratum an exact interval is known: on average over 60 audits ours is as
    wide, to 3 %, which a tail of another size would not be.
    """
    count, drawn = 2000, 80
    found, exact = [], []
    for seed in range(60):
        relevant = np.random.default_rng(seed).random(count) < share
        order = np.arange(count)
        strata = np.zeros(count, int)
        rows = draw_audit(strata, drawn, seed)
        answers = {int(row): bool(relevant[row]) for row in rows}
        audit = Audit(order, strata, answers, confidence=confidence, seed=seed)
        low, high = exact_limits(
            Stratum(count, drawn, sum(answers.values())), confidence
        )
        exact.append(high - low)
        found.append(audit.size().high - audit.size().low)
        precision = audit.precision(count)
        assert precision.low == pytest.approx(audit.size().low / count)
        assert precision.high == pytest.approx(audit.size().high / count)
    assert np.mean(found) == pytest.approx(np.mean(exact), rel=0.03)


def test_a_list_is_cut_at_the_end_of_a_stratum_exactly():
    """Strata of 30 and 70: the first wholly relevant, of the second none."""
    strata = np.repeat([0, 1], [30, 70])
    answers = dict.fromkeys(range(30), True) | dict.fromkeys(range(30, 100), False)
    audit = Audit(np.arange(100), strata, answers)
    for target in (1.0, 0.9, 0.31):
        assert audit.pick(target) == 30
        assert audit.pick(target, certain=True) == 30
    assert audit.pick(0.3) == 100  # 30 of 100, which just reaches it
    assert Audit(np.arange(100), strata, dict.fromkeys(answers, False)).pick(0.1) == 0
    cut = Audit(np.arange(100), strata, answers, cuts=[10, 40, 50])
    assert cut.pick(1.0) == 10
    assert cut.pick(0.75) == 40
    for wrong in (0, 101, -1):
        with pytest.raises(ValueError, match=r"count must be in \[1, 100\]"):
            audit.precision(wrong)


def world(rng, count=3000, size=150):
    """A ranking whose class lies mostly near its top."""
    relevant = np.zeros(count, bool)
    places = np.minimum(rng.exponential(1.0, 4 * size) * size * 0.9, count - 1).astype(
        int
    )
    relevant[np.unique(places)[:size]] = True
    return relevant


def audit_of(relevant, seed, count=120, deemed=150):
    order = np.arange(len(relevant))
    strata = stratify(order, len(relevant), deemed)
    rows = draw_audit(strata, count, seed)
    return Audit(
        order, strata, {int(row): bool(relevant[row]) for row in rows}, seed=seed
    )


def test_intervals_cover_at_their_nominal_rate():
    """400 audits: precision, class size and recall lie in their 95 % intervals at least
    94 % of the time, and not always.
    """
    covered = {"precision": [], "size": [], "recall": []}
    for seed in range(400):
        relevant = world(np.random.default_rng(seed))
        audit = audit_of(relevant, seed)
        truth = {
            "precision": relevant[:150].mean(),
            "size": relevant.sum(),
            "recall": relevant[:150].sum() / relevant.sum(),
        }
        found = {
            "precision": audit.precision(150),
            "size": audit.size(),
            "recall": audit.recall(150),
        }
        for name, interval in found.items():
            covered[name].append(interval.low <= truth[name] <= interval.high)
            assert interval.low <= interval.estimate <= interval.high
    for name, hits in covered.items():
        assert 0.94 <= np.mean(hits) < 1.0, name


def test_estimates_are_right_on_average():
    relevant = world(np.random.default_rng(5))
    audits = [audit_of(relevant, seed) for seed in range(400)]
    assert (
        abs(np.mean([audit.size().estimate for audit in audits]) - relevant.sum()) < 8
    )
    # 100 cuts through a stratum: the drawn crops of a part are a sample of that part.
    assert (
        abs(
            np.mean([audit.precision(100).estimate for audit in audits])
            - relevant[:100].mean()
        )
        < 0.02
    )


def test_an_audit_of_everything_is_the_truth():
    relevant = world(np.random.default_rng(1), 300, 40)
    audit = audit_of(relevant, 0, count=300, deemed=40)
    for interval, truth in (
        (audit.precision(40), relevant[:40].mean()),
        (audit.size(), relevant.sum()),
    ):
        assert (interval.low, interval.estimate, interval.high) == pytest.approx(
            (truth,) * 3
        )


def test_marks_that_were_found_before_count_for_recall_and_size():
    relevant = world(np.random.default_rng(1), 300, 40)
    without = audit_of(relevant, 0, count=300, deemed=40)
    audit = Audit(without.order, without.strata, without.answers, known=60)
    assert audit.size().estimate == relevant.sum() + 60
    assert audit.recall(40).estimate == pytest.approx(
        (relevant[:40].sum() + 60) / (relevant.sum() + 60)
    )


def test_a_certain_cut_misses_its_target_no_more_often_than_it_may():
    missed, taken = [], []
    for seed in range(300):
        relevant = np.random.default_rng(seed).random(2000) < np.where(
            np.arange(2000) < 150, 0.99, 0.05
        )
        audit = audit_of(relevant, seed, count=300)
        count = audit.pick(0.9, certain=True)
        taken.append(count)
        missed.append(count > 0 and relevant[:count].mean() < 0.9)
        assert audit.pick(0.9) >= count
    assert np.mean(missed) <= 0.05
    assert np.mean(np.array(taken) > 0) > 0.5  # and it isn't silent
    with pytest.raises(
        ValueError, match=r"target precision must be in \(0, 1\]; got 95"
    ):
        audit.pick(95)


def test_the_sample_is_spread_over_the_strata_and_never_closed():
    closed = np.zeros(1000, bool)
    closed[:15] = True
    order = np.random.default_rng(0).permutation(1000)
    strata = stratify(order[~closed[order]], len(order), predicted=100)
    assert [int((strata == number).sum()) for number in range(-1, 5)] == [
        15,
        50,
        50,
        100,
        200,
        585,
    ]
    rows = draw_audit(strata, 100, seed=3)
    assert [int((strata[rows] == number).sum()) for number in range(5)] == [20] * 5
    assert not closed[rows].any()
    assert np.array_equal(rows, draw_audit(strata, 100, seed=3))
    with pytest.raises(
        ValueError,
        match="audit must be from 1 to the 985 crops that nobody marked; got 986",
    ):
        draw_audit(strata, 986, 0)


def test_stopping_when_probes_agree():
    one, other = np.arange(100) < 30, np.arange(100) < 60
    assert cohen_kappa(one, one) == 1
    assert cohen_kappa(one, ~one) < 0
    # 30 of 100 differ: chance is 0.3 * 0.6 + 0.7 * 0.4 = 0.46, kappa (0.7 - 0.46) /
    # 0.54.
    assert cohen_kappa(one, other) == pytest.approx(0.24 / 0.54)
    assert not should_stop([one, one], 60)
    assert should_stop([other, one, one, one], 60)
    assert not should_stop([one, other, one], 200)
    # 2 of 100 differ: 0.98 agree, 0.3 * 0.32 + 0.7 * 0.68 = 0.572 by chance, kappa
    # 0.953. 4 of 100: 0.908.
    close, far = np.arange(100) < 32, np.arange(100) < 34
    assert should_stop([one, close, one], 159)
    assert not should_stop([one, far, one], 159)
    assert should_stop([one, far, one], 160)
    # 7 of 100: 0.93 agree, 0.3 * 0.37 + 0.7 * 0.63 = 0.552 by chance, kappa 0.844.
    assert not should_stop([one, np.arange(100) < 37, one], 160)
    none = np.zeros(100, bool)
    assert not should_stop([none, none, none], 160)


def reranked(seed, policy, drawn_by):
    """A sample of 100 drawn for one ranking, 60 marks since, chosen by the policy among
    the others, and a better ranking that learned from them.

    Returns:
        (the audit of the second ranking, a fresh audit of it, truth, first, rest):
        rows above its threshold that nobody marked, and the population below it.
    """
    rng = np.random.default_rng(seed)
    truth = rng.random(2000) < 0.08
    before = 1.6 * truth + rng.normal(size=2000)
    order = np.argsort(-before)
    strata = stratify(order, 2000, int((before > 1.5).sum()), drawn_by)
    sample = draw_audit(strata, 100, [seed, 1])
    answers = {int(row): bool(truth[row]) for row in sample}
    ranked = order if policy == "top" else np.argsort(np.abs(before - 1.5))
    marked = [row for row in ranked if row not in answers][:60]
    after = 2.5 * truth + rng.normal(size=2000) - 1.5
    after[marked] = np.where(truth[marked], 9, -9)  # learned from
    order = np.argsort(-after)
    order = order[~np.isin(order, marked)]
    count = int((after[order] > 0).sum())
    known = int(truth[marked].sum())
    frame = (parts_of(np.arange(2000), strata, answers), 0)
    old = Audit(order, strata[order], answers, known, seed=seed, frame=frame)
    again = stratify(order, 2000, count)
    drawn = draw_audit(again, 100, [seed, 2])
    told = {int(row): bool(truth[row]) for row in drawn}
    fresh = Audit(order, again[order], told, known, seed=seed)
    return old, fresh, truth, order[:count], order[count:]


@pytest.mark.parametrize(
    ("policy", "drawn_by"),
    [("top", "rank"), ("boundary", "rank"), ("top", "uniform")],
)
def test_a_sample_stays_valid_for_a_ranking_that_learned_from_other_marks(
    policy, drawn_by
):
    covered, widths = [], []
    for seed in range(60):
        old, fresh, truth, first, rest = reranked(seed, policy, drawn_by)
        count, whole = len(first), truth.sum()
        true = {
            "precision": truth[first].mean(),
            "size": whole,
            "recall": 1 - truth[rest].sum() / whole,
        }
        found = [
            {
                "precision": a.precision(count),
                "size": a.size(),
                "recall": a.recall(count),
            }
            for a in (old, fresh)
        ]
        covered.append(
            [
                one.low - 1e-9 <= true[name] <= one.high + 1e-9
                for name, one in found[0].items()
            ]
        )
        widths.append([[one.high - one.low for one in each.values()] for each in found])
    assert np.mean(covered, axis=0).min() >= 0.95
    # And says something: of the class hardly less than one that was drawn for this
    # ranking, of the top what the strata that it cuts through leave.
    old, fresh = np.mean(widths, axis=0)
    assert old[1] < 1.3 * fresh[1]
    assert old[0] < 2.6 * fresh[0] < 0.75


def test_a_part_of_which_none_was_drawn_counts_as_the_others():
    order, strata = np.arange(12), np.array([0] * 8 + [1] * 4)
    answers = {0: True, 1: True, 2: False, 3: True}
    audit = Audit(order, strata, answers)
    # Of the first 8, 3 of 4 drawn are relevant; so are 3 of the other 4.
    assert audit.size().estimate == pytest.approx(9)
    assert audit.size().low <= 3
    assert audit.size().high == pytest.approx(7 + 4)
    assert Audit(order, strata, {}).size().estimate == 6


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.5])
def test_a_uniform_sample_tells_a_rate_as_exactly_as_simple_random_sampling(rate):
    relevant = np.arange(4000) < 4000 * rate
    covered, ratios, by_rank = [], [], []
    for seed in range(20):
        order = np.argsort(
            -(1.5 * relevant + np.random.default_rng(seed).normal(size=4000))
        )
        widths = {}
        for drawn_by in ("uniform", "rank"):
            strata = stratify(order, 4000, int(4000 * rate), drawn_by)
            drawn = draw_audit(strata, 120, seed)
            answers = {int(row): bool(relevant[row]) for row in drawn}
            size = Audit(order, strata[order], answers, seed=seed).size()
            widths[drawn_by] = size.high - size.low
            if drawn_by == "uniform":
                covered.append(size.low <= relevant.sum() <= size.high)
                exact = exact_limits(Stratum(4000, 120, sum(answers.values())))
                ratios.append(widths[drawn_by] / (exact[1] - exact[0]))
        by_rank.append(widths["rank"] / widths["uniform"])
    assert np.mean(covered) >= 0.9  # of 20
    assert max(ratios) < 1.08
    assert np.mean(ratios) < 1.02
    if rate <= 0.01:
        assert np.mean(by_rank) > 1.3  # which is why rates have a draw of their own


def test_how_a_sample_is_drawn_is_one_of_two_ways():
    with pytest.raises(ValueError, match="drawn_by must be one of rank, uniform; got"):
        stratify(np.arange(9), 9, 3, "luck")
    assert cuts_of(100, 1000) == [50, 100, 200, 400, 1000]
    assert cuts_of(3, 35) == [10, 20, 35]
    assert cuts_of(55, 30) == [28, 30]


def test_intervals_by_hand():
    interval = Interval(0.5, 0.25, 1.0)
    assert interval.scaled(200) == Interval(100, 50, 200)
    assert str(Interval(0.12345, 0.1, 0.23456)) == "0.123 [0.1, 0.235]"
    for size, drawn, relevant in ((3, 4, 1), (3, 2, 3), (3, 2, -1)):
        with pytest.raises(ValueError, match=f"got {relevant}, {drawn} and {size}"):
            Stratum(size, drawn, relevant)
    assert Stratum(0, 0, 0).share is None
    assert (Stratum(4, 2, 0).share, Stratum(4, 4, 3).share) == (0, 0.75)


@pytest.mark.parametrize(
    ("size", "drawn", "relevant"), [(50, 10, 1), (50, 10, 9), (50, 49, 7), (400, 5, 2)]
)
def test_limits_are_drawn_as_the_places_in_a_draw_without_replacement(
    size, drawn, relevant
):
    """T_x is the x-th smallest of m places drawn from 1 ... M: the k-th smallest of m
    has the mean k (M + 1) / (m + 1), and the variance of a negative hypergeometric.
    """
    low, high = Stratum(size, drawn, relevant).limits(np.random.default_rng(0))
    for draws, k, shift in ((low, relevant, 0), (high, relevant + 1, 1)):
        mean = k * (size + 1) / (drawn + 1)
        variance = (
            k * (drawn - k + 1) * (size + 1) * (size - drawn)
            / ((drawn + 1) ** 2 * (drawn + 2))
        )  # fmt: skip
        assert len(draws) == 4000
        assert draws.mean() + shift == pytest.approx(
            mean, abs=5 * np.sqrt(variance / 4e3)
        )
        assert draws.var() == pytest.approx(variance, rel=0.12)


def test_limits_at_the_ends_are_those_of_the_stratum():
    rng = np.random.default_rng(0)
    assert set(Stratum(9, 3, 0).limits(rng)[0]) == {0}
    assert set(Stratum(9, 3, 3).limits(rng)[1]) == {9}
    assert set(Stratum(9, 0, 0).limits(rng)[0]) == {0}
    assert set(Stratum(9, 0, 0).limits(rng)[1]) == {9}
    for draws in Stratum(9, 9, 4).limits(rng):
        assert set(draws) == {4}


def test_as_many_are_drawn_of_each_stratum_the_first_before_the_others():
    strata = np.array([2, 0, 1, 1, 0, 2, 2, 2, 0, 0, 1, -1, -1, 1])
    for count in range(1, 13):
        rows = draw_audit(strata, count, seed=1)
        of_each = np.bincount(strata[rows], minlength=3)
        assert len(set(rows.tolist())) == of_each.sum() == count
        assert of_each.tolist() == sorted(of_each.tolist(), reverse=True)
        assert of_each.max() - of_each.min() <= 1
        assert (np.diff(rows) > 0).all()
    few = np.array([0, 1, 1, 1, 1])
    assert np.bincount(few[draw_audit(few, 4, seed=0)]).tolist() == [1, 3]
    assert draw_audit(few, 3, 0).tolist() == draw_audit(few, 3, 0).tolist()
    assert len({tuple(draw_audit(few, 3, seed)) for seed in range(20)}) > 3
    for count in (0, 6):
        with pytest.raises(ValueError, match=f"from 1 to the 5 crops .* got {count}"):
            draw_audit(few, count, 0)


def test_where_a_list_is_cut():
    assert cuts_of(7, 1000) == [10, 20, 40, 80, 1000]  # at least 20 are assumed
    assert cuts_of(31, 1000) == [16, 31, 62, 124, 1000]
    assert cuts_of(100, 400) == [50, 100, 200, 400]
    assert cuts_of(100, 401) == [50, 100, 200, 400, 401]
    assert cuts_of(100, 10) == [10]
    population = np.array([5, 3, *range(10, 60)])
    strata = stratify(population, 61, 20)
    assert strata[population].tolist() == [0] * 10 + [1] * 10 + [2] * 20 + [3] * 12
    assert set(strata[[0, 1, 2, 4, 60]]) == {-1}
    uniform = stratify(population, 61, 20, "uniform")
    assert set(uniform[population]) == {0}


def test_parts_hold_what_was_drawn_of_them():
    rows, strata = np.array([7, 3, 9, 1]), np.array([1, 0, 1, 1])
    parts = parts_of(rows, strata, {7: True, 9: False, 3: True, 100: True})
    assert parts == [Stratum(1, 1, 1), Stratum(3, 2, 1)]


def test_estimates_by_hand():
    order = np.arange(100, 110)
    strata = np.array([0] * 4 + [1] * 6)
    answers = {100: True, 101: False, 104: False, 105: True, 106: False}
    audit = Audit(order, strata, answers, known=3)
    assert audit.precision(4).estimate == pytest.approx(2 / 4)
    assert audit.precision(10).estimate == pytest.approx((2 + 2) / 10)
    assert audit.precision(1).estimate == 1
    assert audit.precision(3).estimate == pytest.approx(1 / 2)
    assert audit.size().estimate == pytest.approx(3 + 2 + 2)
    assert audit.recall(4).estimate == pytest.approx((3 + 2) / 7)
    assert audit.recall(10).estimate == 1
    assert 5 <= audit.size().low <= 7 <= audit.size().high <= 3 + 10 - 3
    for count in (0, 11):
        for figure in (audit.precision, audit.recall):
            with pytest.raises(ValueError, match=rf"in \[1, 10\]; got {count}"):
                figure(count)
    # Of a frame as it was drawn; what was found since is certain.
    since = Audit(order, strata, answers, known=8, frame=([Stratum(20, 10, 1)], 2))
    assert since.size().estimate == 8 + 2
    assert since.size().low == 8 + 2
    few = Audit(order, strata, answers, known=3, frame=([Stratum(20, 10, 0)], 0))
    assert few.size().estimate == few.size().low == 3 + 2
    more = Audit(order, strata, answers, known=3, frame=([Stratum(20, 10, 5)], 2))
    assert more.size().estimate == 2 + 10
    nothing = Audit(order, strata, dict.fromkeys(range(100, 110), False))
    assert nothing.recall(4) == Interval(1.0, 1.0, 1.0)
    assert nothing.size() == Interval(0.0, 0.0, 0.0)
    # Where nothing was drawn, half is assumed, and nothing known.
    unknown = Audit(order, strata, {})
    assert unknown.precision(10) == Interval(0.5, 0.0, 1.0)


def test_recall_is_that_of_the_worst_and_the_best_case():
    """The lower limit takes few found and many missed."""
    order, strata = np.arange(200), np.repeat([0, 1], 100)
    answers = {row: row % 2 == 0 for row in [*range(20), *range(100, 140)]}
    found = Audit(order, strata, answers).recall(100)
    tail = (1 - 0.95) / 2
    rng = [np.random.default_rng([0, key]) for key in (0, 1)]
    (few, many), (least, most) = (
        Stratum(100, 20, 10).limits(rng[0]),
        Stratum(100, 40, 20).limits(rng[1]),
    )
    assert found.low == np.quantile(few / (few + most), tail, method="inverted_cdf")
    assert found.high == np.quantile(
        many / (many + least), 1 - tail, method="inverted_cdf"
    )
    other = Audit(order, strata, answers, seed=1).recall(100)
    assert (other.low, other.high) != (found.low, found.high)
    assert other.low == pytest.approx(found.low, abs=0.02)


def test_what_may_be_asked_of_a_cut():
    order, strata = np.arange(4), np.array([0, 0, 1, 1])
    audit = Audit(order, strata, {0: True, 1: True, 2: True, 3: False})
    assert audit.pick(1.0) == 2
    assert audit.pick(0.75) == 4
    assert audit.pick(0.76) == 2
    assert Audit(order, strata, audit.answers, cuts=[3]).pick(1.0) == 3
    assert Audit(order, strata, {0: False, 2: True}).pick(0.5) == 0  # the first fails
    for target in (0, 1.01):
        with pytest.raises(ValueError, match=rf"in \(0, 1\]; got {target}"):
            audit.pick(target)


def test_when_to_stop():
    assert (ROUND, DRAWS) == (20, 4000)  # that the signal was calibrated with
    assert [stable_at(marks) for marks in (0, 159, 160, 1000)] == [
        0.95,
        0.95,
        0.85,
        0.85,
    ]
    base = np.arange(1000) < 300
    near, far = base.copy(), base.copy()
    near[:20] = False  # kappa 0.95
    far[:58] = False  # 0.85
    assert cohen_kappa(base, near) == pytest.approx(0.392 / 0.412)
    assert 0.85 < cohen_kappa(base, far) < 0.86
    assert should_stop([base, base, near], 100)
    assert should_stop([far, base, base, base], 100)  # the last two rounds count
    assert not should_stop([base, base], 100)
    assert not should_stop([base, base, far], 100)
    assert should_stop([base, base, far], 160)
    assert not should_stop([far, base, base], 100)
    assert not should_stop([np.ones(9, bool)] * 3, 100)
    assert not should_stop([np.zeros(9, bool)] * 3, 100)
    assert not should_stop([], 100)
    assert not should_stop([base, base, np.zeros(1000, bool)], 160)
    assert not should_stop([base], 100)
    assert cohen_kappa(np.ones(4), np.ones(4)) == cohen_kappa([0, 0], [0, 0]) == 1
    assert cohen_kappa([1, 1, 0, 0], [1, 0, 1, 0]) == 0
    assert cohen_kappa([1, 1], [1, 0]) == 0
