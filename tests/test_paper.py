"""The whole path of the paper's evaluations, on a tiny set of tensorflow-datasets made
here.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from benchmarks import beside_official, paper
from benchmarks.beside_official import Pretraining
from benchmarks.published import EXPERIMENTS, hours
from curation.config import FinetuneConfig, flatten, overlay
from curation.presets import PRESETS
from simclr_tf2.checkpoints.exporting import export_saved_model
from tests.reference import Reference, simclr_encoder

ROOT = Path(__file__).parent.parent
COLORS = np.array([[220, 40, 40], [40, 200, 60], [40, 60, 220]])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Three colours, told apart by anyone; 48 images to train on, 24 to test."""
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")
    rng = np.random.default_rng(0)

    def examples(count):
        labels = np.arange(count) % 3
        noise = rng.normal(0, 20, (count, 32, 32, 3))
        images = np.clip(COLORS[labels][:, None, None] + noise, 0, 255).astype(np.uint8)
        return [
            (number, {"image": images[number], "label": int(labels[number])})
            for number in range(count)
        ]

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        "tiny_colors",
        "1.0.0",
        features,
        {"train": examples(48), "test": examples(24)},
        data_dir=folder,
    )
    return folder


def experiment(protocol, preset, then="", dataset="tiny_colors"):
    return paper.Experiment(
        protocol, dataset, "train", "test", protocol, preset, 99.9, "nowhere", then
    )


@pytest.mark.slow
def test_every_protocol_runs_and_what_is_missing_is_not_run(
    prepared, tmp_path, monkeypatch, capsys
):
    keras.utils.set_random_seed(0)
    reference = Reference("r18_cifar_stem").fill()
    encoder = simclr_encoder("r18_1x_sk0_small", reference.resnet)
    export_saved_model(
        tmp_path / "checkpoint",
        encoder,
        reference.projection_head,
        reference.classifier,
    )
    monkeypatch.setattr(
        paper,
        "EXPERIMENTS",
        {
            "linear": experiment("preset", "cifar10_linear"),
            "few": experiment("preset", "v2_imagenet_10pct"),
            "pretrain": experiment("pretrain", "cifar10_pretrain", "cifar10_linear"),
            "logistic": experiment("logistic", "cifar10_linear"),
            "absent": experiment("preset", "cifar10_linear", dataset="no_such_set"),
            "nowhere": experiment("preset", "cifar10_linear", dataset=""),
        },
    )
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    given = {
        "data_dir": str(prepared),
        "dir": str(tmp_path / "out"),
        "encoder": "r18_1x_sk0_small",
        "checkpoint": str(tmp_path / "checkpoint"),
        "epochs": 2,
        "batch_size": 16,
        "image_size": 32,
    }
    with flagsaver.flagsaver(**given):
        paper.main([])
        output = capsys.readouterr().out
        rows = [
            json.loads(line)
            for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()
        ]
        assert [row["experiment"] for row in rows] == [
            "linear",
            "few",
            "pretrain",
            "logistic",
        ]
        assert all(
            0 <= row["accuracy"] <= 100 and row["provenance"]["seed"] == 0
            for row in rows
        )
        assert (
            next(row for row in rows if row["experiment"] == "logistic")["accuracy"]
            == 100
        )
        assert "ours (epochs 2, batch_size 16, image_size 32)" in output
        table = (tmp_path / "out" / "results.md").read_text().splitlines()[4:]
        assert ["| not run" in line for line in table] == [False] * 4 + [True] * 2
        (told,) = (tmp_path / "out").glob("*/pretrain/pretraining.json")
        steps = [
            json.loads(line)
            for line in (told.parent / "metrics.jsonl").read_text().splitlines()
        ]
        losses = [
            [
                step["contrastive_loss"]
                for step in steps
                if step["kind"] == "step" and step["epoch"] == epoch
            ]
            for epoch in range(2)
        ]
        assert [len(each) for each in losses] == [3, 3]
        curves = json.loads(told.read_text())["curves"]
        assert curves["contrastive_loss"] == pytest.approx(
            [np.mean(each) for each in losses]
        )
        assert (tmp_path / "out" / "pretrain.png").stat().st_size > 5000
        assert "nowhere: not run: not in tensorflow-datasets" in output

        monkeypatch.setattr(paper, "run", lambda *_: pytest.fail("all of it is there"))
        paper.main([])  # a second call measures nothing again


def test_a_run_beside_the_official_one():
    settings, theirs = beside_official.official()
    assert settings["examples"] // settings["batch_size"] == 39
    near = Pretraining(
        {**theirs.curves, "contrastive_loss": [*theirs.curves["contrastive_loss"]]},
        {"0.1": 0.465, "0.01": 0.44},
        0.40,
    )
    near.curves["contrastive_loss"][3] *= 1.02
    other = Pretraining(theirs.curves, {"0.1": 0.475}, 0.38)
    lines = beside_official.in_words([near, other], theirs)
    assert "contrastive loss: 1.00 % apart at most, mean of seeds; 2.00 %" in lines[3]
    assert "(C=0.1): 0.470 (seeds: 0.465, 0.475); official 0.475" in lines[4]
    assert "0.390 (seeds: 0.400, 0.380); official 0.391" in lines[5]


def test_votes_of_nearest_neighbors_by_hand():
    """20 of class 0 at a cosine of 0.8 outvote one of class 1 at 1, since each counts
    exp(-0.2 / 0.07) of it, a seventeenth; 15 don't.
    """
    for count, winner in ((20, 0), (15, 1)):
        features = np.array([[0.8, 0.6]] * count + [[1.0, 0.0]] + [[0.0, 1.0]] * 20)
        labels = np.array([0] * count + [1] + [2] * 20)
        test = np.array([[5.0, 0.0]])  # of any length
        # The twentieth place: with 20 of class 0 one of them is no neighbor.
        assert 19 * np.exp(-0.2 / 0.07) > 1 > 15 * np.exp(-0.2 / 0.07)
        score = beside_official.knn_accuracy(features, labels, test, np.array([winner]))
        assert score == 1


def test_linear_accuracy_is_of_standardized_features():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    features = rng.normal(size=(200, 3))
    features[:, 0] = 1e-3 * (labels + 0.1 * features[:, 0])  # small, and all that tells
    features[:, 1] *= 1e3
    found = beside_official.linear_accuracy(
        features[:150], labels[:150], features[150:], labels[150:]
    )
    assert list(found) == ["0.0001", "0.001", "0.01", "0.1"]
    assert found["0.1"] == 1


def test_hours_are_counted_by_operations():
    everything = EXPERIMENTS["cifar10_pretrain"]
    hours_ = hours(everything, PRESETS["cifar10_pretrain"])
    assert hours_ == pytest.approx(2 * 1000 * 50_000 * 0.136 / 3600)
    linear = EXPERIMENTS["imagenet_linear_v1"]
    expected = 90 * 1_281_167 / 3 / 3600
    assert hours(linear, PRESETS["imagenet_linear"]) == pytest.approx(expected)


def test_accuracy_over_all_and_over_classes():
    guesses, labels = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    assert paper.accuracy(guesses, labels, per_class=False) == 75
    guesses, labels = np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])
    assert paper.accuracy(guesses, labels, per_class=False) == 75
    assert paper.accuracy(guesses, labels, per_class=True) == 50


def test_presets_are_whole_configurations():
    for name, preset in PRESETS.items():
        settings = flatten(preset)
        assert settings.keys() == flatten(FinetuneConfig()).keys(), name
        assert overlay(FinetuneConfig(), settings, name) == preset
