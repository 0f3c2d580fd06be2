"""Networks of keras.applications against a direct call of the library."""

import inspect

import keras
import numpy as np
import pytest

from simclr_tf2.config import EncoderConfig
from simclr_tf2.encoders import applications
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.registry import make_encoder

IMAGES = np.random.default_rng(0).random((2, 96, 96, 3)).astype(np.float32)
SMALL = "MobileNetV3Small"


def make(name, weights="random"):
    keras.utils.set_random_seed(0)
    return make_encoder(EncoderConfig(f"keras:{name}", weights))


def direct(name, encoder):
    """The library's own call, with the encoder's weights."""
    build = getattr(keras.applications, name)
    network = build(weights=None, include_top=False, pooling="avg")
    (inner,) = (one for one in encoder.model.layers if isinstance(one, keras.Model))
    network.set_weights(inner.get_weights())
    prepared = inspect.getmodule(build).preprocess_input(IMAGES * 255.0)
    return np.asarray(network(prepared, training=False))


@pytest.mark.parametrize(
    "name",
    [
        SMALL,
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("ConvNeXtTiny", "DenseNet121", "EfficientNetV2B0")
        ),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("MobileNetV2", "ResNet50V2", "VGG16", "Xception")
        ),
    ],
)
def test_features_are_those_of_the_library(name):
    encoder = make(name)
    ends = encoder.endpoints(IMAGES)
    np.testing.assert_allclose(
        ends["avg_pool"], direct(name, encoder), rtol=1e-5, atol=1e-5
    )
    assert encoder.features == "avg_pool"
    assert encoder.stages == ("stage3", "stage4", "stage5")
    # At strides of 8, 16 and 32, less what a network doesn't pad.
    sides = [ends[stage].shape[1] for stage in encoder.stages]
    assert all(
        abs(side - 96 / 2**n) <= 1 for side, n in zip(sides, (3, 4, 5), strict=True)
    )


def test_it_is_saved_and_made_again(tmp_path):
    encoder = make(SMALL)
    encoder.save(tmp_path)
    again = make(SMALL, str(tmp_path / "encoder.weights.h5"))
    assert again.content_hash() == encoder.content_hash()
    crops = (IMAGES * 255).astype(np.uint8)
    one, two = (Embedder(e, "stages", "green").embed(crops) for e in (encoder, again))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (2, sum(encoder.widths[name] for name in encoder.stages))
    # Training moves it as any other network.
    assert len(encoder.trainable_variables) > 50


def test_downloaded_weights_are_taken(monkeypatch, tmp_path):
    """A double in place of the download: the library asks for a file, and gets it."""
    keras.utils.set_random_seed(7)
    there = keras.applications.MobileNetV3Small(weights=None, include_top=False)
    there.save_weights(tmp_path / "net.weights.h5")
    asked = []

    def fetched(name, *arguments, **options):
        asked.append(name)
        return str(tmp_path / "net.weights.h5")

    module = inspect.getmodule(keras.applications.MobileNetV3Small)
    monkeypatch.setattr(module.file_utils, "get_file", fetched)
    encoder = make(SMALL, "imagenet")
    assert len(asked) == 1
    (inner,) = (one for one in encoder.model.layers if isinstance(one, keras.Model))
    for mine, theirs in zip(inner.get_weights(), there.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    # And from the library's own file.
    again = make(SMALL, str(tmp_path / "net.weights.h5"))
    assert again.content_hash() == encoder.content_hash()


def test_without_a_network_the_offline_choices_are_named(monkeypatch):
    def down(*arguments, **options):
        raise OSError("no route to host")

    module = inspect.getmodule(keras.applications.MobileNetV3Small)
    monkeypatch.setattr(module.file_utils, "get_file", down)
    with pytest.raises(
        OSError, match=r"no route to host.*--encoder=efficientnet_lite0"
    ):
        make(SMALL, "imagenet")


def test_names_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"one of ConvNeXtBase, .*; got 'keras:Nett'"):
        make("Nett")
    with pytest.raises(ValueError, match=r"module must be one of keras\.src\.appl"):
        applications.ApplicationPreprocessing("os")
