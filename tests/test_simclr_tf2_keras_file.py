"""Networks of one's own, as .keras files."""

from pathlib import Path

import keras
import numpy as np
import pytest

from curation import read_crops
from curation.config import EmbedConfig, Recipe
from curation.embedding import embed
from curation.encoders import embedder_of
from data.embeddings import EmbeddingSet
from simclr_tf2.config import EncoderConfig
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.registry import make_encoder
from tests.conftest import failure

IMAGES = np.random.default_rng(0).random((2, 48, 48, 3)).astype(np.float32)
layers = keras.layers


def network(*, scales=True, size=None, top=True):
    """A small classifier with strides of 2 to 32."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 255)(inputs) if scales else inputs
    for filters in (4, 6, 8, 10, 12):
        x = layers.Conv2D(filters, 3, 2, "same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(7, "relu", name="before_the_last")(x)
    if top:
        x = layers.Activation("softmax")(layers.Dense(3)(layers.Dropout(0.5)(x)))
    return keras.Model(inputs, x)


@pytest.fixture
def file(tmp_path):
    """Writes a network as net.keras."""

    def write(model):
        model.save(tmp_path / "net.keras")
        return str(tmp_path / "net.keras")

    return write


def test_it_is_cut_at_its_second_to_last_layer(file):
    model = network()
    encoder = make_encoder(EncoderConfig(file(model)))
    inner = keras.Model(model.input, model.get_layer("before_the_last").output)
    expected = np.asarray(inner(IMAGES * 255.0))
    np.testing.assert_allclose(encoder(IMAGES), expected, rtol=1e-5, atol=1e-6)
    assert encoder.stages == ("stage3", "stage4", "stage5")
    ends = encoder.endpoints(IMAGES)
    assert [ends[name].shape[1:] for name in encoder.stages] == [
        (6, 6, 8),
        (3, 3, 10),
        (2, 2, 12),
    ]
    assert encoder.top == "top"
    assert ends["top"].shape == (2, 2, 2, 12)
    # One that doesn't end in a dense layer is taken whole.
    pool = keras.Model(model.input, model.get_layer("pool").output)
    whole = make_encoder(EncoderConfig(file(pool)))
    np.testing.assert_allclose(whole(IMAGES), pool(IMAGES * 255.0), rtol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "given"),
    [("unit", IMAGES), ("byte", IMAGES * 255), ("signed", IMAGES * 2 - 1)],
)
def test_the_person_says_which_pixels_it_takes(file, pixels, given):
    model = network(scales=False)
    path = file(model)
    with pytest.raises(ValueError, match=r"no Rescaling.*--encoder=keras_file:unit"):
        make_encoder(EncoderConfig(path))
    encoder = make_encoder(EncoderConfig(f"keras_file:{pixels}", path))
    inner = keras.Model(model.input, model.get_layer("before_the_last").output)
    np.testing.assert_allclose(encoder(IMAGES), inner(given), rtol=1e-4, atol=1e-5)


def test_one_of_a_fixed_size_gets_that_size(file):
    model = network(size=64)
    encoder = make_encoder(EncoderConfig(file(model)))
    inner = keras.Model(model.input, model.get_layer("before_the_last").output)
    resized = layers.Resizing(64, 64)(IMAGES * 255.0)
    np.testing.assert_allclose(encoder(IMAGES), inner(resized), rtol=1e-4, atol=1e-5)
    assert encoder.stages == ("stage3", "stage4", "stage5")


def test_a_sequential_network_with_a_network_in_it(file):
    body = network(top=False, scales=False)
    model = keras.Sequential(
        [keras.Input((48, 48, 3)), layers.Rescaling(1 / 255), body, layers.Dense(2)]
    )
    encoder = make_encoder(EncoderConfig(file(model)))
    np.testing.assert_allclose(encoder(IMAGES), body(IMAGES), rtol=1e-4, atol=1e-5)


def test_it_is_saved_with_what_it_learned_and_made_again(file, tmp_path):
    encoder = make_encoder(EncoderConfig(file(network())))
    for variable in encoder.trainable_variables:
        variable.assign(variable + 0.01)
    (tmp_path / "run").mkdir()
    encoder.save(tmp_path / "run")
    config = EncoderConfig(encoder.config.name, str(tmp_path / "run/encoder.keras"))
    again = make_encoder(config)
    assert again.content_hash() == encoder.content_hash()
    np.testing.assert_array_equal(again(IMAGES), encoder(IMAGES))


def test_a_set_by_it_finds_it_again(file, photos, tmp_path):
    path = file(network())
    config = EmbedConfig(EncoderConfig(path), Recipe(image_size=48))
    crops = read_crops(photos)
    made = embed(crops, config=config, folder=tmp_path / "set")
    assert made.meta["encoder"] == "keras_file:byte"
    moved = Path(tmp_path / "elsewhere")
    moved.mkdir()
    (tmp_path / "set").rename(moved / "set")
    Path(path).rename(moved / "net.keras")
    embedder = embedder_of(EmbeddingSet.load(moved / "set"))
    assert isinstance(embedder, Embedder)
    assert embedder.width == made.vectors.shape[1]


def test_what_it_cannot_be_is_refused(file, photos, tmp_path):
    with pytest.raises(OSError, match=r"weights must be a \.keras file"):
        make_encoder(EncoderConfig(str(tmp_path / "none.keras")))
    (tmp_path / "broken.keras").write_bytes(b"PK")
    with pytest.raises(OSError, match="Keras can't read"):
        make_encoder(EncoderConfig(str(tmp_path / "broken.keras")))
    words = keras.Sequential([keras.Input((9,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="network of one RGB image"):
        make_encoder(EncoderConfig(file(words)))
    said = failure(
        "run_embed",
        f"--data={photos}",
        f"--embeddings={tmp_path}/set",
        f"--encoder={tmp_path}/none.keras",
    )
    assert "must be a .keras file" in said
