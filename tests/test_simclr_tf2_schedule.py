import csv

import numpy as np
import pytest

from simclr_tf2.schedule import WarmupCosine, peak_learning_rate
from tests.conftest import GOLDEN

with open(GOLDEN / "lr_schedule.csv", newline="", encoding="utf-8") as file:
    ROWS = list(csv.DictReader(file))


@pytest.mark.parametrize("name", sorted({row["config"] for row in ROWS}))
def test_parity_with_the_published_code(name):
    """Values of google-research/simclr's TF2 code, to float32 rounding of a cosine near
    its zero.
    """
    rows = [row for row in ROWS if row["config"] == name]
    base, batch = float(rows[0]["base_learning_rate"]), int(rows[0]["train_batch_size"])
    peak = (
        base * batch / 256 if rows[0]["scaling"] == "linear" else base * np.sqrt(batch)
    )
    schedule = WarmupCosine(
        peak, int(rows[0]["warmup_steps"]), int(rows[0]["total_steps"])
    )
    ours = [float(schedule(int(row["step"]))) for row in rows]
    np.testing.assert_allclose(
        ours, [float(row["learning_rate"]) for row in rows], rtol=2e-5, atol=2e-7 * peak
    )


def test_hand_worked_values():
    schedule = WarmupCosine(2.0, 4, 12)
    assert [float(schedule(step)) for step in (0, 1, 4, 8, 12, 100)] == pytest.approx(
        [0, 0.5, 2.0, 1.0, 0, 0], abs=1e-6
    )
    assert (
        WarmupCosine.from_config(schedule.get_config()).get_config()
        == schedule.get_config()
    )


def test_peak_learning_rates_of_the_paper():
    """Appendix B.1: 0.3 x 4096 / 256 = 4.8, and 0.075 x sqrt(4096) the same."""
    assert peak_learning_rate(0.3, 4096, "linear") == pytest.approx(4.8)
    assert peak_learning_rate(0.075, 4096, "sqrt") == pytest.approx(4.8)
    assert peak_learning_rate(0.3, 4096, "none") == 0.3
    assert peak_learning_rate(0.2, 64, "linear") == pytest.approx(0.05)
    with pytest.raises(ValueError, match=r"must be one of .*linear.*; got 'cube'"):
        peak_learning_rate(0.3, 4096, "cube")


def test_schedules_without_warm_up_and_of_a_step():
    assert float(WarmupCosine(2.0, 0, 8)(0)) == 2
    assert float(WarmupCosine(2.0, 0, 8)(2)) == pytest.approx(1 + np.sqrt(0.5))
    assert [float(WarmupCosine(2.0, 1, 1)(step)) for step in (0, 1, 2)] == [0, 2, 0]
    assert [float(WarmupCosine(3.0, 3, 3)(step)) for step in (1, 2, 3)] == [1, 2, 3]
