"""Networks of KerasHub against direct calls of the library."""

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from starlette.testclient import TestClient

from curation import read_crops
from curation.config import EmbedConfig, Recipe
from curation.embed_query import embed_texts, embed_words
from curation.embedding import embed
from curation.pool import Pool
from curation.query import find_query
from curation.session import Session
from simclr_tf2.checkpoints.exporting import export_saved_model
from simclr_tf2.config import LAST, EncoderConfig
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.registry import make_encoder
from tests.conftest import COLORS, call, failure, noisy
from tests.kerashub_presets import (
    PATCH,
    PROJECTED,
    SIDE,
    TEXTS,
    WIDTH,
    write_preset,
)
from web.app import Page, make_app
from web.overview import Overview
from web.photos import Photos
from web.sessions import Sessions

keras_hub = pytest.importorskip("keras_hub")
TRANSFORMERS = ("vit", "deit", "dinov2", "dinov3")
WITH_TEXT = ("clip", "siglip")
IMAGES = np.random.default_rng(0).random((2, SIDE, SIDE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """Folder and network of a preset, each written once."""
    root, made = tmp_path_factory.mktemp("presets"), {}

    def get(kind):
        if kind not in made:
            made[kind] = write_preset(kind, root / kind)
        return root / kind, made[kind]

    return get


def make(kind, folder):
    return make_encoder(EncoderConfig(f"kerashub:{kind}", str(folder)))


def converted(folder, images=IMAGES):
    """What the library's own image converter gives."""
    return keras_hub.layers.ImageConverter.from_preset(str(folder))(images * 255.0)


def direct(network, pixels):
    """The library's own call; some networks have names for their one input."""
    named = isinstance(network.input, dict)
    given = dict.fromkeys(network.input, pixels) if named else pixels
    return np.asarray(network(given))


@pytest.mark.parametrize("kind", [*TRANSFORMERS, "resnet", *WITH_TEXT])
def test_features_are_those_of_the_library(preset, kind):
    folder, network = preset(kind)
    encoder = make(kind, folder)
    pixels = converted(folder)
    if kind in WITH_TEXT:
        expected = network.get_vision_embeddings(pixels)
    elif kind == "resnet":
        expected = direct(network, pixels).mean((1, 2))
    else:
        expected = direct(network, pixels)[:, 0]
    expected = np.asarray(expected)
    assert expected.std() > 1e-4
    np.testing.assert_allclose(encoder(IMAGES), expected, rtol=1e-5, atol=1e-5)
    assert encoder.width == expected.shape[1]


@pytest.mark.parametrize(("kind", "before"), [("vit", 1), ("deit", 2), ("dinov2", 3)])
def test_class_token_and_patches_of_a_transformer(preset, kind, before):
    folder, network = preset(kind)
    encoder = make(kind, folder)
    tokens = direct(network, converted(folder))
    ends = encoder.endpoints(IMAGES)
    side = SIDE // PATCH
    grid = tokens[:, before:].reshape(2, side, side, WIDTH)
    np.testing.assert_allclose(ends["top"], grid, atol=1e-5)
    np.testing.assert_allclose(ends["patch_mean"], grid.mean((1, 2)), atol=1e-5)
    both = Embedder(encoder, "class_token,patch_mean").vectors(IMAGES)
    unit = both.numpy()[:, :WIDTH]
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-5)
    assert both.shape == (2, 2 * WIDTH)


def test_other_sizes_have_interpolated_positions(preset):
    """DINOv2's own library interpolates too, for a size that is fixed when it is made:
    the same weights made for 96 pixels.
    """
    folder, network = preset("dinov2")
    encoder = make("dinov2", folder)
    config = {**network.get_config(), "image_shape": (96, 96, 3)}
    other = type(network).from_config(config)
    for mine, theirs in zip(other.weights, network.weights, strict=True):
        if mine.shape == theirs.shape:
            mine.assign(theirs)
    layer = other.embeddings
    layer.interpolated_position_embeddings.assign(
        layer._interpolate_position_embeddings(
            layer.position_embeddings, PATCH, (SIDE, SIDE), (96, 96)
        )
    )
    images = np.random.default_rng(1).random((2, 96, 96, 3)).astype(np.float32)
    expected = direct(other, images * 255.0 / 127.5 - 1.0)[:, 0]
    np.testing.assert_allclose(encoder(images), expected, rtol=1e-4, atol=1e-4)
    # No whole patches: the nearest size that has them.
    odd = tf.image.resize(images, (90, 100))
    near = tf.image.resize(odd, (96, 96))
    np.testing.assert_allclose(encoder(odd), encoder(near), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["dinov2", "clip", "resnet"])
def test_it_is_trained_saved_exported_and_made_again(preset, tmp_path, kind):
    folder, _ = preset(kind)
    encoder = make(kind, folder)
    first = encoder.content_hash()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(encoder(IMAGES, training=True) ** 2)
    variables = encoder.trainable_variables
    gradients = tape.gradient(loss, variables)
    assert all(gradient is not None for gradient in gradients)
    keras.optimizers.SGD(0.1).apply_gradients(zip(gradients, variables, strict=True))
    trained = encoder.content_hash()
    assert trained != first
    (tmp_path / "run").mkdir()
    encoder.save(tmp_path / "run")
    assert encoder.content_hash() == trained
    # Without the preset: encoder.json says what the network is made of.
    again = make(kind, tmp_path / "run/encoder.weights.h5")
    assert again.content_hash() == trained
    np.testing.assert_array_equal(again(IMAGES), encoder(IMAGES))
    export_saved_model(tmp_path / "exported", encoder)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    sizes = (SIDE, 96) if kind != "resnet" else (SIDE,)
    for side in sizes:
        images = np.random.default_rng(2).random((2, side, side, 3)).astype(np.float32)
        ends = exported(images, trainable=False)["final_avg_pool"]
        np.testing.assert_allclose(ends, encoder(images), rtol=1e-4, atol=1e-5)
    (tmp_path / "run/encoder.json").unlink()
    with pytest.raises(OSError, match=r"need the encoder\.json"):
        make(kind, tmp_path / "run/encoder.weights.h5")


# The library leaves the file of SigLIP's words open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", WITH_TEXT)
def test_texts_have_the_vectors_of_the_library(preset, kind):
    folder, network = preset(kind)
    encoder = make(kind, folder)
    name = {"clip": "CLIPPreprocessor", "siglip": "SigLIPPreprocessor"}[kind]
    words = getattr(keras_hub.models, name).from_preset(str(folder))
    given = {"images": np.zeros((3, SIDE, SIDE, 3)), "prompts": list(TEXTS)}
    expected = np.asarray(network.get_text_embeddings(words(given)["token_ids"]))
    found = encoder.text(TEXTS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert found.shape == (3, encoder.width)
    assert np.abs(found[0] - found[2]).max() > 1e-3
    assert Embedder(encoder, "stages", "green").takes_text  # the features all the same
    assert not Embedder(encoder, "patch_mean").takes_text


def test_a_preset_is_downloaded_by_its_name(preset, monkeypatch):
    """A double in place of the download: the library asks for files of a handle."""
    folder, network = preset("dinov2")
    asked = []

    def download(handle, path):
        asked.append((handle, path))
        if not (folder / path).is_file():
            raise ValueError(f"{path} is not present in the model files")
        return str(folder / path)

    from keras_hub.src.utils import preset_utils

    monkeypatch.setattr(preset_utils.kagglehub, "model_download", download)
    encoder = make_encoder(EncoderConfig("kerashub:dinov2_small"))
    assert {handle.split("/")[2] for handle, _ in asked} == {"keras"}
    expected = direct(network, converted(folder))[:, 0]
    np.testing.assert_allclose(encoder(IMAGES), expected, rtol=1e-5, atol=1e-5)
    random = make_encoder(EncoderConfig("kerashub:dinov2_small", "random"))
    assert random.content_hash() != encoder.content_hash()

    def down(handle, path):
        raise OSError("no route to host")

    monkeypatch.setattr(preset_utils.kagglehub, "model_download", down)
    with pytest.raises(OSError, match=r"(?s)dinov2_small.*no route.*efficientnet_lite"):
        make_encoder(EncoderConfig("kerashub:dinov2_small"))


def test_what_is_no_image_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"kerashub:<preset>.*got 'kerashub:'"):
        make_encoder(EncoderConfig("kerashub:"))
    network = keras_hub.models.BertBackbone(50, 1, 2, 8, 16)
    network.save_to_preset(str(tmp_path))
    with pytest.raises((OSError, ValueError), match=r"BertBackbone|ImageConverter"):
        make("bert", tmp_path)


@pytest.fixture(scope="module")
def clip_set(preset, tmp_path_factory):
    """A set by CLIP, whose preset lies beside it."""
    root = tmp_path_factory.mktemp("clip")
    (root / "photos").mkdir()
    for seed, color in enumerate(COLORS.values()):
        noisy(color, (80, 70), seed).save(root / "photos" / f"{seed}.png")
    shutil.copytree(preset("clip")[0], root / "preset")
    config = EmbedConfig(
        EncoderConfig("kerashub:clip", str(root / "preset")),
        Recipe(LAST, "mean", image_size=SIDE),
    )
    crops = read_crops(root / "photos")
    return embed(crops, config=config, folder=root / "set")


def test_words_are_a_query(clip_set):
    words = embed_texts(clip_set, TEXTS[:2])
    pool = Pool(clip_set)
    assert pool.index.transform.name == "l2"
    session = Session(pool, query=find_query(pool, [], texts=TEXTS[:2]))
    unit = clip_set.vectors / np.linalg.norm(clip_set.vectors, axis=1, keepdims=True)
    mean = (words / np.linalg.norm(words, axis=1, keepdims=True)).mean(0)
    expected = unit @ (mean / np.linalg.norm(mean))
    ranking = session.rank(len(pool))
    assert len(ranking) == len(pool)  # a text is no crop that could be left out
    np.testing.assert_allclose(ranking.scores, np.sort(expected)[::-1], atol=1e-5)
    # Texts and images mix.
    first = str(pool.ids[0])
    mixed = find_query(pool, [first], texts=["maize"])
    assert mixed.rows == [0]
    assert mixed.examples.vectors(pool).shape == (2, PROJECTED)
    vector, picture = embed_words(str(clip_set.folder), TEXTS[0])
    np.testing.assert_allclose(vector, words[0], rtol=1e-5, atol=1e-6)
    assert picture.startswith(b"\x89PNG")


def test_a_set_without_texts_says_what_to_choose(clip_set, tmp_path):
    other = replace(clip_set, meta={**clip_set.meta, "encoder": "tiny"})
    del other.meta["takes_text"]
    with pytest.raises(ValueError, match=r"by tiny\. Embed with a CLIP or SigLIP"):
        embed_texts(other, ["beet"])
    with pytest.raises(ValueError, match="must hold words"):
        embed_texts(clip_set, ["  "])


def test_search_takes_words(clip_set, tmp_path):
    out = tmp_path / "list.csv"
    folder = f"--embeddings={clip_set.folder}"
    done = call("run_search", folder, "--text=sugar beet", f"--out={out}")
    assert "cosine to 'sugar beet'" in done.stdout
    assert len(out.read_text().splitlines()) == 1 + len(clip_set.ids)


def test_the_page_takes_words(clip_set, tmp_path, monkeypatch):
    pool = Overview(Pool(clip_set))
    photos = Photos(pool.table, tmp_path / "cache/thumbnails")
    page = Page(pool, Sessions(pool, tmp_path), photos)

    async def run(work, *arguments):  # in this process instead of a worker's
        return work(*arguments)

    monkeypatch.setattr(page._worker, "run", run)
    with TestClient(make_app(page, "token"), base_url="http://127.0.0.1:1") as client:
        assert client.get("/", params={"token": "token"}).status_code == 200
        assert client.get("/api/pool").json()["takes_text"]
        name = client.post("/api/texts", json={"text": "maize"}).json()["upload"]
        picture = client.get(f"/uploads/{name}")
        assert picture.headers["content-type"] == "image/png"
        body = {"name": "t", "use": "collect", "uploads": [name]}
        session = client.post("/api/sessions", json=body).json()["session"]
        found = page.sessions.open(session).session.rank(3)
        empty = client.post("/api/texts", json={"text": " "})
        assert empty.status_code == 400
        assert "must hold words" in empty.text
    expected = Session(Pool(clip_set), query=find_query(pool.pool, [], texts=["maize"]))
    np.testing.assert_array_equal(found.rows, expected.rank(3).rows)


def test_search_refuses_words_where_nothing_understands_them(field_set):
    said = failure("run_search", f"--embeddings={field_set}", "--text=beet")
    assert "text needs embeddings of an encoder with a text tower" in said
    both = failure("run_search", f"--embeddings={field_set}", "--probe=x", "--text=a")
    assert "excludes query, text" in both
