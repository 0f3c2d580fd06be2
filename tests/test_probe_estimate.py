import numpy as np
import pytest
from scipy.stats import beta, hypergeom

from probe.estimate import (
    Audit,
    Stratum,
    cohen_kappa,
    cuts_of,
    draw_audit,
    parts_of,
    should_stop,
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
