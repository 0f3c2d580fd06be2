"""Exporting and importing SavedModels: the official interface, every variable in its
place, and files that are refused.
"""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf2.augment import AugmentConfig
from simclr_tf2.checkpoints.exporting import export_saved_model
from simclr_tf2.checkpoints.importing import (
    import_model,
    import_weights,
    read_variables,
)
from simclr_tf2.checkpoints.official_names import official_variables
from simclr_tf2.config import EncoderConfig
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.encoders.resnet import ResNetConfig, build_resnet
from simclr_tf2.heads import (
    HeadConfig,
    build_classifier,
    build_projection_head,
    projections,
)
from simclr_tf2.objectives import ObjectiveConfig, make_objective
from tests.conftest import two_devices
from tests.reference import Reference, relative, simclr_encoder

IMAGES = np.random.default_rng(0).random((4, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A SimCLR model of this project, filled by rule, and its export."""
    reference = Reference("r18_cifar_stem").fill()
    encoder = simclr_encoder("r18_1x_sk0_small", reference.resnet)
    folder = tmp_path_factory.mktemp("exported") / "saved_model"
    export_saved_model(folder, encoder, reference.projection_head, reference.classifier)
    return reference, folder


def test_an_export_has_the_official_interface(exported):
    """What was seen of an official export (tests/golden/README.md): call, outputs,
    names, order, dtypes, refusals.
    """
    reference, folder = exported
    model = tf.saved_model.load(str(folder))
    outputs = model(IMAGES, trainable=False)
    assert set(outputs) == {
        *(f"block_group{group}" for group in range(1, 5)),
        *(
            "initial_conv",
            "initial_max_pool",
            "final_avg_pool",
            "proj_head_input",
            "proj_head_output",
            "logits_sup",
        ),
    }
    assert {value.dtype for value in outputs.values()} == {tf.float32}
    live = reference(IMAGES, training=False)
    for name in live:
        assert relative(outputs[name], live[name]) < 2e-6, name
    np.testing.assert_array_equal(outputs["proj_head_input"], outputs["final_avg_pool"])
    official = official_variables(reference.config)
    assert [v.name for v in model.trainable_variables_list] == [
        row.name + ":0" for row in official if row.trainable
    ]
    parts = {
        "resnet_model": "resnet",
        "_projection_head": "projection_head",
        "supervised_head": "head_supervised",
    }
    for attribute, part in parts.items():
        names = [row.name + ":0" for row in official if row.part == part]
        assert sorted(
            v.name for v in getattr(model.model, attribute).variables
        ) == sorted(names)
    for good in ((IMAGES, False), (np.zeros((1, 40, 56, 3), np.float32), True)):
        model(*good)
    with pytest.raises(TypeError):
        model(IMAGES)
    for bad in (
        IMAGES.astype(np.float64),
        (IMAGES * 255).astype(np.uint8),
        np.zeros((1, 32, 32, 6), np.float32),
    ):
        with pytest.raises((ValueError, TypeError)):
            model(bad, trainable=False)


def test_an_export_trains(exported):
    reference, folder = exported
    model = tf.saved_model.load(str(folder))
    reference.fill()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(IMAGES, trainable=True)["final_avg_pool"] ** 2)
    with tf.GradientTape() as other:
        live = tf.reduce_sum(
            reference.resnet(IMAGES, training=True)["final_avg_pool"] ** 2
        )
    assert loss.numpy() == pytest.approx(live.numpy(), rel=1e-5)
    mine = tape.gradient(loss, list(model.trainable_variables_list))
    theirs = other.gradient(live, reference.resnet.trainable_variables)
    assert all(gradient is not None for gradient in mine[: len(theirs)])
    assert tf.linalg.global_norm(mine[: len(theirs)]).numpy() == pytest.approx(
        tf.linalg.global_norm(theirs).numpy(), rel=1e-3
    )
    moved = {v.name: v for v in model.model.resnet_model.variables}[
        "resnet/batch_norm_relu/sync_batch_normalization/moving_mean:0"
    ]
    np.testing.assert_allclose(
        moved, reference.variables["stem/bn0/moving_mean"], rtol=1e-4, atol=1e-6
    )
    reference.fill()


def test_import_is_complete_and_equal(exported):
    reference, folder = exported
    resnet, head, classifier = import_model(folder, ResNetConfig(18, small_images=True))
    outputs = resnet(IMAGES)
    live = reference(IMAGES, training=False)
    for name, value in outputs.items():
        np.testing.assert_array_equal(value, live[name])
    features = outputs["final_avg_pool"]
    np.testing.assert_array_equal(
        projections(head, features)[-1], live["proj_head_output"]
    )
    np.testing.assert_array_equal(classifier(features), live["logits_sup"])
    encoder = make_encoder(EncoderConfig("r18_1x_sk0_small", str(folder)))
    np.testing.assert_allclose(
        make_encoder(EncoderConfig("saved_model", str(folder)))(IMAGES),
        encoder(IMAGES),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "name",
    [
        "r18_2x_sk1",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("r50_1x_sk0_se0.25", "r50_1x_sk1_small")
        ),
    ],
)
def test_every_kind_goes_out_and_comes_back(tmp_path, name):
    config = ResNetConfig.parse(name)
    network, head = (
        build_resnet(config),
        build_projection_head(
            config.embedding_width, HeadConfig(layers=2, hidden=0, output=16)
        ),
    )
    export_saved_model(
        tmp_path / "out",
        simclr_encoder(name, network),
        head,
    )
    again, head_again = import_weights(tmp_path / "out")
    for mine, theirs in zip(
        [*again.weights, *head_again.weights],
        [*network.weights, *head.weights],
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert "logits_sup" not in tf.saved_model.load(str(tmp_path / "out"))(
        IMAGES, False
    )  # no classifier was trained
    with pytest.raises(
        ValueError, match=rf"weights must be those of r34_1x_sk0; .* holds {name}"
    ):
        import_weights(tmp_path / "out", ResNetConfig(34))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "tiny"])
def test_encoders_of_other_kinds_are_exported_too(tmp_path, name):
    encoder = make_encoder(EncoderConfig(name, "random"))
    export_saved_model(
        tmp_path / "out", encoder, classifier=build_classifier(encoder.width, 3)
    )
    again = make_encoder(EncoderConfig("saved_model", str(tmp_path / "out")))
    np.testing.assert_allclose(again(IMAGES), encoder(IMAGES), rtol=1e-4, atol=1e-5)
    ends = set(again.endpoints(IMAGES))
    assert ends - {*encoder.stages, "top"} == {
        "final_avg_pool",
        "proj_head_input",
        "logits_sup",
    }
    assert (again.stages, again.top) == (encoder.stages, encoder.top)
    assert len(again.trainable_variables) == len(encoder.trainable_variables)
    with pytest.raises(
        ValueError, match=r"doesn't hold a SimCLR ResNet.*--encoder=saved_model"
    ):
        make_encoder(EncoderConfig("r50_1x_sk0", str(tmp_path / "out")))


def test_keras_files_round_trip(tmp_path, exported):
    reference, _ = exported
    encoder = simclr_encoder("r18_1x_sk0_small", reference.resnet)
    encoder.save(tmp_path)
    again = make_encoder(
        EncoderConfig("r18_1x_sk0_small", str(tmp_path / "encoder.weights.h5"))
    )
    assert again.content_hash() == encoder.content_hash()
    reference.resnet.save(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "encoder.keras")(IMAGES)["final_avg_pool"],
        encoder(IMAGES),
    )
    with pytest.raises(
        ValueError, match="weights must be a Keras weights file of r18_1x_sk0"
    ):
        make_encoder(EncoderConfig("r18_1x_sk0", str(tmp_path / "encoder.weights.h5")))


def test_plain_batch_norm_and_later_numbers_are_imported(tmp_path, exported):
    """Other official exports: without global batch norm, or written by a process that
    had built models before.
    """
    reference, _ = exported
    rows = official_variables(reference.config, synchronized=False)
    module = tf.Module()
    module.kept = [
        tf.Variable(
            reference.variables[row.path].numpy()
            if row.part != "head_supervised"
            else np.zeros((512, 10) if "kernel" in row.path else 10, np.float32),
            trainable=row.trainable,
            name=row.name.replace("/dense_", "/dense_1").replace(
                "nl_0/dense/", "nl_0/dense_10/"
            ),
        )
        for row in rows
    ]
    tf.saved_model.save(module, str(tmp_path / "m"))
    resnet, _ = import_weights(tmp_path / "m")
    np.testing.assert_array_equal(
        resnet(IMAGES)["final_avg_pool"], reference.resnet(IMAGES)["final_avg_pool"]
    )


def test_variables_too_few_too_many_or_misshapen_are_all_named(tmp_path, exported):
    reference, _ = exported
    rows = official_variables(reference.config)
    module = tf.Module()
    module.kept = [
        tf.Variable(
            tf.zeros(
                (3,)
                if "nl_1/dense" in row.name
                else tuple(reference.variables[row.path].shape)
            ),
            name=row.name,
        )
        for row in rows
        if row.part != "head_supervised"
        and not row.name.endswith(
            "residual_block_7/batch_norm_relu_20/sync_batch_normalization_20/beta"
        )
    ]
    module.extra = tf.Variable(1.0, name="resnet/stray/kernel")
    tf.saved_model.save(module, str(tmp_path / "m"))
    with pytest.raises(ValueError, match="don't fit r18_1x_sk0_small") as caught:
        import_weights(tmp_path / "m")
    message = str(caught.value)
    assert (
        "residual_block_7/batch_norm_relu_20/sync_batch_normalization_20/beta: missing"
        in message
    )
    assert "resnet/stray/kernel: unknown" in message
    assert (
        "projection_head/nl_1/dense_1/kernel: shape (3,), must be (512, 3)" in message
        or "shape (3,)" in message
    )


def test_incomplete_corrupt_and_foreign_files(tmp_path, exported):
    _, folder = exported
    good = {
        path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()
    }

    def copy(name, **changes):
        for relative_path, path in good.items():
            target = tmp_path / name / relative_path
            target.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes()
            change = changes.get(
                path.name.replace(".", "_").replace("-", "_"), lambda value: value
            )
            if change(content) is not None:
                target.write_bytes(change(content))
        return tmp_path / name

    shard = "variables_data_00000_of_00001"
    cases = {
        copy(
            "no_pb", saved_model_pb=lambda _: None
        ): "is incomplete: it lacks saved_model.pb",
        copy(
            "no_index", variables_index=lambda _: None
        ): r"is incomplete: it lacks variables/variables\.index",
        copy(
            "no_data", **{shard: lambda _: None}
        ): r"lacks variables/variables\.data-00000-of-00001",
        copy(
            "bad_pb", saved_model_pb=lambda content: b"<html>" + content[:99]
        ): r"saved_model\.pb is corrupt",
        copy(
            "short_data", **{shard: lambda content: content[:-4096]}
        ): "corrupt or cut off",
        copy(
            "bad_data",
            **{shard: lambda content: content[:5000] + b"\0\1\2" * 99 + content[5297:]},
        ): "corrupt or cut off",
    }
    for bad, message in cases.items():
        for encoder in ("saved_model", "r18_1x_sk0_small"):
            with pytest.raises(ValueError, match=message):
                make_encoder(EncoderConfig(encoder, str(bad)))
    shutil.copytree(folder, tmp_path / "above" / "out")
    with pytest.raises(
        ValueError, match=r"must be the folder of a SavedModel.*it holds out, which are"
    ):
        make_encoder(EncoderConfig("saved_model", str(tmp_path / "above")))

    foreign = tf.Module()
    foreign.serve = tf.function(
        lambda x: x, input_signature=[tf.TensorSpec((None,), tf.float32)]
    )
    foreign.weight = tf.Variable(1.0)
    tf.saved_model.save(
        foreign,
        str(tmp_path / "foreign"),
        signatures={"serving_default": foreign.serve},
    )
    with pytest.raises(
        ValueError,
        match=r"is no SimCLR SavedModel: it lacks a function __call__\(inputs, trainable=False\).*serving_default",
    ):
        make_encoder(EncoderConfig("saved_model", str(tmp_path / "foreign")))
    with pytest.raises(ValueError, match="doesn't hold a SimCLR ResNet"):
        make_encoder(EncoderConfig("r50_1x_sk0", str(tmp_path / "foreign")))
    with pytest.raises(
        OSError,
        match=r"r50_1x_sk0 has no packaged ImageNet weights.*gs://simclr-checkpoints-tf2",
    ):
        make_encoder(EncoderConfig("r50_1x_sk0"))
    with (
        two_devices().scope(),
        pytest.raises(RuntimeError, match="a SavedModel runs on one device"),
    ):
        make_encoder(EncoderConfig("saved_model", str(folder)))


def test_reading_variables_needs_no_graph(exported):
    reference, folder = exported
    values = read_variables(folder)
    assert set(values) == {row.name for row in official_variables(reference.config)}


def test_new_heads_on_a_loaded_model_are_imported_with_its_network(exported, tmp_path):
    """Export of a model that was run as it is: the heads it came with give way to those
    that were trained.
    """
    _, folder = exported
    encoder = make_encoder(EncoderConfig("saved_model", str(folder)))
    head = build_projection_head(
        encoder.width, HeadConfig(layers=2, hidden=32, output=8)
    )
    export_saved_model(
        tmp_path / "out", encoder, head, build_classifier(encoder.width, 4)
    )
    resnet, again, classifier = import_model(tmp_path / "out")
    np.testing.assert_allclose(
        resnet(IMAGES)["final_avg_pool"], encoder(IMAGES), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(again.get_weights()[0], head.get_weights()[0])
    assert classifier.output_shape[-1] == 4


def test_what_was_frozen_in_training_normalises_by_the_batch_in_the_export(tmp_path):
    reference = Reference("r18_cifar_stem").fill()
    encoder = simclr_encoder("r18_1x_sk0_small", reference.resnet)
    make_objective(
        "supervised",
        encoder,
        ObjectiveConfig(AugmentConfig(32), 3, freeze_through_block=4),
    )
    export_saved_model(tmp_path / "out", encoder)
    assert not encoder.model.get_layer("stem.bn0").trainable  # as it was
    model = make_encoder(EncoderConfig("saved_model", str(tmp_path / "out"))).model
    before = [variable.numpy() for variable in model.non_trainable_variables]
    model(IMAGES, training=True)
    assert all(
        not np.array_equal(v, old)
        for v, old in zip(model.non_trainable_variables, before, strict=True)
    )


def test_a_model_without_a_projection_head_gets_a_new_one(tmp_path):
    reference = Reference("r18_cifar_stem").fill()
    encoder = simclr_encoder("r18_1x_sk0_small", reference.resnet)
    export_saved_model(tmp_path / "out", encoder, classifier=reference.classifier)
    again = make_encoder(EncoderConfig("r18_1x_sk0_small", str(tmp_path / "out")))
    assert again.projection_head is None
    assert (
        len(
            make_objective(
                "contrastive", again, ObjectiveConfig(AugmentConfig(32))
            ).head_variables
        )
        == 5
    )


@pytest.mark.parametrize("name", ["r18_1x_sk1_small", "r18_1x_sk0_se0.3"])
def test_what_variables_cannot_tell_is_taken_from_the_name(tmp_path, name):
    config = ResNetConfig.parse(name)
    network = build_resnet(config)
    export_saved_model(
        tmp_path / "out",
        simclr_encoder(name, network),
    )
    again = make_encoder(EncoderConfig(name, str(tmp_path / "out")))
    np.testing.assert_allclose(
        again(IMAGES), network(IMAGES)["final_avg_pool"], rtol=1e-5, atol=1e-6
    )
