import keras
import numpy as np
import pytest

from simclr_tf2.config import EncoderConfig
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.encoders.resnet50 import CaffePreprocessing

IMAGES = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), np.uint8)


def tiny(seed=0, weights="random"):
    keras.utils.set_random_seed(seed)
    return make_encoder(EncoderConfig("tiny", weights))


def test_embedding_is_float32_of_the_stated_width():
    for name, width in (("tiny", 64), ("efficientnet_lite0", 1280), ("resnet50", 2048)):
        encoder = make_encoder(EncoderConfig(name, "random"))
        embedder = Embedder(encoder)
        vectors = embedder.embed(IMAGES)
        assert (vectors.shape, vectors.dtype) == ((3, width), np.float32)
        assert (embedder.width, encoder.width) == (width, width)
        assert embedder.endpoints == encoder.features == "avg_pool"


def test_an_image_is_embedded_alike_in_any_batch():
    encoder = make_encoder(EncoderConfig("efficientnet_lite0"))
    together, alone = (
        Embedder(encoder).embed(IMAGES),
        np.concatenate([Embedder(encoder).embed(image[None]) for image in IMAGES]),
    )
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4)


def test_hash_names_the_weights():
    assert tiny(0).content_hash() == tiny(0).content_hash() != tiny(1).content_hash()


def test_saved_weights_give_the_same_encoder(tmp_path):
    encoder = tiny(3)
    encoder.save(tmp_path)
    again = tiny(4, str(tmp_path / "encoder.weights.h5"))
    assert again.content_hash() == encoder.content_hash()
    assert np.array_equal(
        Embedder(again).embed(IMAGES), Embedder(encoder).embed(IMAGES)
    )


def test_weights_that_do_not_fit_are_refused(tmp_path):
    tiny().save(tmp_path)
    for name in ("efficientnet_lite0", "resnet50"):
        with pytest.raises(
            ValueError, match=f"weights must be a Keras weights file of {name}"
        ):
            make_encoder(EncoderConfig(name, str(tmp_path / "encoder.weights.h5")))
    (tmp_path / "rubbish.weights.h5").write_bytes(b"rubbish")
    with pytest.raises(
        ValueError, match="weights must be a Keras weights file of tiny"
    ):
        tiny(weights=str(tmp_path / "rubbish.weights.h5"))
    (tmp_path / "rubbish.pth").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="not a legacy PyTorch file"):
        make_encoder(EncoderConfig("efficientnet_lite0", str(tmp_path / "rubbish.pth")))


def test_unknown_names_and_files():
    with pytest.raises(
        ValueError,
        match=r"encoder must be one of efficientnet_lite0, resnet50, tiny, saved_model, .* r50_1x_sk0, keras:<Name> .*; got 'vgg'",
    ):
        make_encoder(EncoderConfig("vgg"))
    with pytest.raises(OSError, match=r"there is no file 'absent\.h5'"):
        make_encoder(EncoderConfig("tiny", "absent.h5"))
    with pytest.raises(ValueError, match="'tiny' has no ImageNet weights"):
        make_encoder(EncoderConfig("tiny"))


def test_resnet50_without_a_network_names_the_offline_choice(monkeypatch):
    def fail(*_, **options):
        if options.get("weights") == "imagenet":
            raise Exception("URL fetch failure: no route")
        return real(*_, **options)

    real = keras.applications.ResNet50
    monkeypatch.setattr(keras.applications, "ResNet50", fail)
    with pytest.raises(
        OSError,
        match=r"couldn't be downloaded \(URL fetch failure.*--encoder=efficientnet_lite0",
    ):
        make_encoder(EncoderConfig("resnet50"))


def test_resnet50_equals_keras_applications_from_its_own_file(tmp_path):
    keras.utils.set_random_seed(0)
    original = keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg"
    )
    original.save_weights(tmp_path / "notop.weights.h5")
    original.save(tmp_path / "notop.h5")
    encoder = make_encoder(EncoderConfig("resnet50", str(tmp_path / "notop.h5")))
    preprocessed = keras.applications.resnet.preprocess_input(IMAGES.astype(np.float32))
    expected = original(preprocessed, training=False).numpy()
    np.testing.assert_allclose(
        Embedder(encoder).embed(IMAGES),
        expected,
        rtol=1e-3,
        atol=1e-4 * np.abs(expected).max(),
    )


def test_caffe_preprocessing_equals_keras_applications():
    images = IMAGES.astype(np.float32)
    expected = keras.applications.resnet.preprocess_input(images.copy())
    np.testing.assert_allclose(CaffePreprocessing()(images / 255), expected, atol=1e-3)
