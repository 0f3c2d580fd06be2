import numpy as np
import pyarrow as pa
import pytest

from curation import learning_curve
from curation.config import FinetuneConfig
from curation.learning_curve import ORIENTATION, LearningCurve, evaluation_crops
from data.pipeline import Unreadable
from simclr_tf2.config import AugmentConfig, ObjectiveConfig
from tests.conftest import mean_color

CONTRASTIVE = FinetuneConfig(learning=ObjectiveConfig(AugmentConfig(32)))
SUPERVISED = FinetuneConfig(CONTRASTIVE.encoder, "supervised", CONTRASTIVE.learning)


class NoClassifier:
    def classify(self, features):
        return None


def with_splits(table, held_out):
    splits = ["validation" if row in held_out else "train" for row in range(len(table))]
    return table.with_column("split", pa.array(splits))


def test_a_small_split_is_enough_for_labels_but_not_without(table):
    split, chosen = evaluation_crops(table, CONTRASTIVE)
    assert (split, len(chosen)) == ("all", 36)  # its labels are never trained on
    held_out = set(range(0, 36, 3)) | set(range(1, 36, 3))
    split, chosen = evaluation_crops(with_splits(table, held_out), SUPERVISED)
    assert (split, len(chosen)) == ("validation", 24)
    few = evaluation_crops(with_splits(table, {0, 12}), SUPERVISED)
    assert few is None  # too few for P@20


def test_a_large_split_is_drawn_from_and_unlabeled_crops_are_left_out(
    table, monkeypatch
):
    monkeypatch.setattr(learning_curve, "MOST_CROPS", 25)
    _, chosen = evaluation_crops(table, CONTRASTIVE)
    _, again = evaluation_crops(table, CONTRASTIVE)
    assert len(chosen) == 25
    assert chosen.ids.tolist() == again.ids.tolist()
    names = ["" if row < 12 else name for row, name in enumerate(labels_of(table))]
    some = table.with_column("label_name", pa.array(names))
    assert evaluation_crops(some, CONTRASTIVE)[1].classes == ["green", "red"]


def labels_of(table):
    return table.column("label_name").tolist()


def test_each_figure_stands_beside_the_frozen_one_and_the_ceiling(table):
    curve = LearningCurve.on(table, NoClassifier(), [], CONTRASTIVE)
    blind = curve.measure(lambda crops: mean_color(crops)[:, :0] + 1, Unreadable())
    assert curve.frozen == blind
    figures = curve.measure(mean_color, Unreadable())
    # Of 12 of a color 11 others can be among 20.
    assert figures == {"all_P@20": pytest.approx(11 / 20)}
    assert curve.ceiling == pytest.approx(11 / 20)
    assert curve.in_words({**figures, "all_accuracy": 0.5}) == (
        f"all_P@20 0.550 (frozen {blind['all_P@20']:.3f}, at best 0.550), "
        "all_accuracy 0.500"
    )


def test_without_labels_crops_must_find_themselves_turned(table):
    unlabeled = table.with_column("label_name", pa.array([""] * len(table)))
    curve = LearningCurve.on(unlabeled, NoClassifier(), [], CONTRASTIVE)
    # What a quarter turn doesn't change finds every crop; a corner's color few.
    assert curve.measure(mean_color, Unreadable()) == {ORIENTATION: 1.0}
    corner = curve.measure(
        lambda crops: np.asarray(crops, np.float32)[:, 0, 0] - 100, Unreadable()
    )
    assert corner[ORIENTATION] < 0.3
    assert "finds_itself_turned 0.5" in curve.in_words({ORIENTATION: 0.5})
    assert "(frozen 1.000, at best 1.000)" in curve.in_words({ORIENTATION: 0.5})
