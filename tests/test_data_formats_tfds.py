"""CropAndWeed as a tensorflow-datasets builder, and tensorflow-datasets sets as a
source.
"""

from functools import partial
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data.crop_and_weed_tfds import CropAndWeed
from data.formats import tfds as tfds_source
from data.formats.registry import read_source
from data.images import read_image
from data.splits import split_mask
from tests.conftest import read_cropandweed
from tests.test_data_formats_cropandweed import make

ROWS = {
    f"ave-{session:04d}-{frame:04d}": [
        f"{100 + session},200,{160 + frame},290,{8 + frame},130,245",
        "0,10,40,60,255,20,30",
    ]
    for session in range(12)
    for frame in range(2)
}


def read_tfds(name, data_dir):
    """Reads a set that lies in `data_dir`."""
    here = partial(tfds.builder, data_dir=str(data_dir))
    with mock.patch.object(tfds, "builder", here):
        return read_source(f"tfds:{name}")


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A generated CropAndWeed folder of 12 sessions; plain images, each of its own
    colour.
    """
    root = make(tmp_path_factory.mktemp("manual"), ROWS)
    for number, path in enumerate(sorted((root / "images").iterdir())):
        Image.new("RGB", (1920, 1088), (10 * number, 90, 60)).save(path, quality=60)
    return root


@pytest.fixture(scope="module")
def counts(field):
    table, _ = read_cropandweed(field)
    return {
        name: len(set(table.take(split_mask(table, name)).column("image")))
        for name in ("train", "validation")
    }


def test_the_library_s_own_builder_test(field, counts):
    """Runs tensorflow-datasets' test of builders, which prepares a set and checks its
    splits, features and registration.
    """

    class BuilderTest(tfds.testing.DatasetBuilderTestCase):
        DATASET_CLASS = CropAndWeed
        EXAMPLE_DIR = str(field)
        SPLITS = counts
        BUILDER_CONFIG_NAMES_TO_TEST = ["CropAndWeed", "Fine24"]

        def runTest(self):  # the name unittest looks for
            self.test_download_and_prepare_as_dataset()
            self.test_registered()
            self.test_info()

    BuilderTest.setUpClass()
    result = BuilderTest().run()
    assert not result.errors, result.errors
    assert not result.failures, result.failures
    assert result.testsRun == 1


@pytest.fixture(scope="module")
def prepared(field, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("tfds")
    config = tfds.download.DownloadConfig(manual_dir=str(field))
    tfds.load(
        "crop_and_weed/SugarBeet1",
        data_dir=str(data_dir),
        download_and_prepare_kwargs={"download_config": config},
    )
    return data_dir


def test_tfds_load_gives_images_boxes_and_conditions(field, prepared, counts):
    dataset, info = tfds.load(
        "crop_and_weed/SugarBeet1",
        split="train",
        data_dir=str(prepared),
        with_info=True,
    )
    examples = {
        example["image/filename"].decode(): example
        for example in tfds.as_numpy(dataset)
    }
    assert len(examples) == counts["train"]
    assert info.features["objects"]["label"].names == ["Sugar beet"]
    name, example = min(examples.items())
    session, frame = int(name[4:8]), int(name[9:13])
    top, left, bottom, right = example["objects"]["bbox"][1] * np.array(
        [1088, 1920, 1088, 1920]
    )
    assert np.allclose(
        [left, top, right, bottom], [100 + session, 200, 160 + frame, 290], atol=1e-3
    )
    assert example["objects"]["label"].tolist() == [-1, 0]
    assert example["objects"]["label_id"].tolist() == [255, 8 + frame]
    assert example["objects"]["touches_border"].tolist() == [True, False]
    assert (
        np.abs(
            example["image"].astype(int)
            - np.asarray(read_image(field / "images" / name))
        ).max()
        <= 3
    )


def test_a_detection_set_becomes_a_crop_table(field, prepared, monkeypatch):
    table, report = read_tfds("crop_and_weed/SugarBeet1", data_dir=prepared)
    direct, _ = read_cropandweed(field, variant="SugarBeet1")
    assert sorted(map(tuple, table.boxes.tolist())) == sorted(
        map(tuple, direct.boxes.tolist())
    )
    assert sorted(table.column("label_name").tolist()) == sorted(
        direct.column("label_name").tolist()
    )
    assert set(table.column("split")) == {"train", "validation"}
    content = {path.read_bytes() for path in (field / "images").iterdir()}
    assert {
        table.path(row).read_bytes() for row in range(len(table))
    } == content  # byte for byte
    for name in ("session", "moisture", "label_id"):
        assert sorted(map(str, table.column(name))) == sorted(
            str(value or "unknown") for value in direct.column(name)
        ), name
    assert not report.skipped
    monkeypatch.setattr(
        tfds_source, "_extract", None
    )  # a second call takes what is there
    assert (
        read_tfds("crop_and_weed/SugarBeet1", data_dir=prepared)[0].content_hash
        == table.content_hash
    )


class Leaves(tfds.core.GeneratorBasedBuilder):
    """A classification set of six small images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "photo": tfds.features.Image(),
            "kind": tfds.features.ClassLabel(names=["oat", "beet"]),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(4),
            "holdout": self._generate_examples(2),
        }

    def _generate_examples(self, count):
        for number in range(count):
            yield (
                number,
                {
                    "photo": np.full((6, 8, 3), 40 * number, np.uint8),
                    "kind": number % 2,
                },
            )


def test_a_classification_set_becomes_a_crop_table(tmp_path):
    table, _ = read_tfds("leaves", data_dir=tmp_path)
    assert table.boxes.tolist() == [[0, 0, 8, 6]] * 6
    assert sorted(
        zip(table.column("split"), table.column("label_name"), strict=True)
    ) == [
        *[("", "beet"), ("", "oat")],
        *[("train", "beet")] * 2,
        *[("train", "oat")] * 2,
    ]
    assert np.asarray(read_image(table.path(0))).shape == (6, 8, 3)


def test_an_unknown_set_is_named(tmp_path):
    with pytest.raises(
        ValueError, match="tensorflow-datasets set; 'no_such_set' can't be prepared"
    ):
        read_tfds("no_such_set", data_dir=tmp_path)
