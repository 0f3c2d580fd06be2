import keras
import numpy as np
import pytest
import tensorflow as tf

from data.tiles import plant_pixels
from simclr_tf2.checkpoints.exporting import export_saved_model
from simclr_tf2.config import EncoderConfig
from simclr_tf2.encoders.embedder import (
    CENTER_SIGMA,
    FLOOR,
    Embedder,
    center_prior,
    orientations,
    plants,
    shrink,
)
from simclr_tf2.encoders.registry import make_encoder

RNG = np.random.default_rng(0)
CROPS = RNG.integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    return make_encoder(EncoderConfig("tiny", "random"))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def prior(side):
    places = (np.arange(side) + 0.5) / side - 0.5
    along = np.exp(-0.5 * (places / CENTER_SIGMA) ** 2)
    return along[:, None] * along[None]


def by_hand(encoder, crops, names, weights):
    """Pooled outputs of an encoder by NumPy; weights [batch, height, width]."""
    ends = encoder.endpoints(tf.constant(crops / np.float32(255)))
    parts = []
    for name in names:
        values = np.asarray(ends[name], np.float64)
        side = values.shape[1]
        block = crops.shape[1] // side
        cells = weights.reshape(-1, side, block, side, block).mean((2, 4))[..., None]
        parts.append((values * cells).sum((1, 2)) / cells.sum((1, 2)))
    return parts[0] if len(parts) == 1 else np.concatenate([*map(unit, parts)], -1)


def test_the_last_layer_is_what_training_builds_on(encoder):
    embedder = Embedder(encoder)
    expected = encoder(tf.constant(CROPS / np.float32(255)))
    np.testing.assert_allclose(embedder.embed(CROPS), expected, rtol=1e-5)
    assert embedder.content_hash() == encoder.content_hash()


def test_stages_are_pooled_by_plants_and_count_the_same(encoder):
    embedder = Embedder(encoder, "stages", "green")
    weights = (np.stack([*map(plant_pixels, CROPS)]) + FLOOR) * prior(32)
    expected = by_hand(encoder, CROPS, ("stage0", "stage1", "stage2"), weights)
    found = embedder.embed(CROPS)
    assert embedder.width == found.shape[1] == 16 + 32 + 64
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 3**0.5, rtol=1e-5)


def test_the_center_prior_weights_the_last_outputs(encoder):
    embedder = Embedder(encoder, "last", "center")
    assert embedder.endpoints == "stage2"  # whose mean the features are
    weights = np.broadcast_to(prior(32), (3, 32, 32))
    expected = by_hand(encoder, CROPS, ("stage2",), weights)
    np.testing.assert_allclose(embedder.embed(CROPS), expected, rtol=1e-4, atol=1e-6)


def test_a_mask_comes_as_a_fourth_channel(encoder):
    embedder = Embedder(encoder, "stages", "mask")
    mask = (RNG.random((3, 32, 32)) < 0.3) * np.uint8(255)
    expected = by_hand(encoder, CROPS, encoder.stages, mask / 255 + FLOOR)
    found = embedder.embed(np.concatenate([CROPS, mask[..., None]], -1))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    # An image from outside has none: green pixels take its place, whatever came first.
    green = np.stack([*map(plant_pixels, CROPS)]) + FLOOR
    without = by_hand(encoder, CROPS, encoder.stages, green)
    np.testing.assert_allclose(embedder.embed(CROPS), without, rtol=1e-4, atol=1e-6)
    again = Embedder(encoder, "stages", "mask")
    again.embed(CROPS)
    found = again.embed(np.concatenate([CROPS, mask[..., None]], -1))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_generalized_mean(encoder):
    values = np.asarray(
        encoder.endpoints(tf.constant(CROPS / np.float32(255)))["stage2"]
    )
    expected = np.maximum(values, 1e-6).astype(np.float64) ** 3
    expected = expected.mean((1, 2)) ** (1 / 3)
    found = Embedder(encoder, "stage2", "gem").embed(CROPS)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_eight_orientations_see_no_turn_and_no_mirror(encoder):
    embedder = Embedder(encoder, "stages", "green", 8)
    found = embedder.embed(CROPS)
    for turns in range(4):
        for crops in (CROPS, CROPS[:, :, ::-1]):
            turned = np.rot90(crops, turns, (1, 2))
            np.testing.assert_allclose(embedder.embed(turned), found, atol=1e-5)
    assert (
        np.abs(Embedder(encoder, "stages", "green").embed(turned) - found).max() > 0.1
    )


def test_two_orientations_are_the_crop_and_its_mirror_image(encoder):
    one = Embedder(encoder, "stages", "green")
    expected = (unit(one.embed(CROPS)) + unit(one.embed(CROPS[:, :, ::-1]))) / 2
    found = Embedder(encoder, "stages", "green", 2).embed(CROPS)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_orientations_are_a_group_without_repetition():
    crop = tf.constant(RNG.random((1, 4, 4, 1)))
    found = [np.asarray(turn(crop)).tobytes() for turn in orientations(8)]
    assert len(set(found)) == 8
    assert found[0] == np.asarray(crop).tobytes()


def test_plants_are_those_of_the_tiles():
    pixels = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    excess = pixels @ np.array([-24, 30, -10])
    clear = np.abs(excess) > 1e-3  # on the line itself rounding decides
    found = np.asarray(plants(tf.constant(pixels / np.float32(255))))[..., 0]
    assert np.array_equal(found[clear] > 0, plant_pixels(pixels)[clear])
    assert 0.2 < found.mean() < 0.8


def test_area_means_of_any_sizes():
    values = tf.constant([[[[1.0], [2.0], [6.0]]]])
    np.testing.assert_allclose(
        np.ravel(shrink(values, 1, 2)), [(1 + 0.5 * 2) / 1.5, (0.5 * 2 + 6) / 1.5]
    )
    values = RNG.random((2, 12, 8, 1)).astype(np.float32)
    expected = values.reshape(2, 3, 4, 2, 4, 1).mean((2, 4))
    np.testing.assert_allclose(shrink(tf.constant(values), 3, 2), expected, rtol=1e-6)


def test_center_prior_by_hand():
    found = np.asarray(center_prior(2, 1))[0, :, :, 0]
    np.testing.assert_allclose(
        found, np.exp(-0.5 * (0.25 / 0.2) ** 2) * np.ones((2, 1))
    )


def test_every_part_of_a_recipe_is_in_the_hash(encoder):
    recipes = [
        ("last", "mean", 1),
        ("stages", "mean", 1),
        ("stages", "green", 1),
        ("stages", "green", 8),
        ("stages", "center", 8),
    ]
    assert len({Embedder(encoder, *recipe).content_hash() for recipe in recipes}) == 5


@pytest.mark.parametrize("name", ["tiny", "r18_1x_sk0_small"])
def test_the_exported_model_embeds_by_the_recipe(tmp_path, name):
    keras.utils.set_random_seed(1)
    encoder = make_encoder(EncoderConfig(name, "random"))
    embedder = Embedder(encoder, "stages", "green", 2)
    export_saved_model(tmp_path / "out", encoder, embedder=embedder)
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    found = loaded.embed(tf.image.convert_image_dtype(CROPS, tf.float32))
    np.testing.assert_allclose(found, embedder.embed(CROPS), rtol=1e-3, atol=1e-5)
    # Loaded as an encoder it has the same stages, so the same recipe is possible.
    again = make_encoder(EncoderConfig("saved_model", str(tmp_path / "out")))
    vectors = Embedder(again, "stages", "green", 2).embed(CROPS)
    np.testing.assert_allclose(vectors, found, rtol=1e-3, atol=1e-5)


def test_an_encoder_without_stages_gives_its_last_layer(encoder, caplog):
    model = keras.Model(encoder.model.input, encoder.model.output["avg_pool"])
    bare = type(encoder)(encoder.config, model, "avg_pool")
    embedder = Embedder(bare, "stages", "green")
    assert (embedder.endpoints, embedder.pooling) == ("avg_pool", "mean")
    assert "tiny has no stages to pool: its avg_pool is read" in caplog.text
    np.testing.assert_allclose(
        embedder.embed(CROPS), Embedder(encoder).embed(CROPS), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (("last", "max"), "pooling must be one of mean, gem, green, center, mask; got"),
        (("last", "mean", 3), "orientations must be one of 1, 2, 4, 8; got 3"),
        (
            ("stage0,x",),
            "endpoints of tiny must be last alone, stages alone, or some of stage0, "
            "stage1, stage2, avg_pool, each once; got 'stage0,x'",
        ),
        (("stages,last",), "must be last alone, .*; got 'stages,last'"),
        (("stage1,stage1",), "each once; got 'stage1,stage1'"),
    ],
)
def test_wrong_recipes_are_refused(encoder, recipe, said):
    with pytest.raises(ValueError, match=said):
        Embedder(encoder, *recipe)
