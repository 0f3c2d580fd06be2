"""Parity of the ResNets with the official TF2 code, values measured from it
(tests/golden/README.md).

Tolerances are largest difference over largest value. Without batch statistics only
float32 rounding remains: 2e-6. With them each batch norm divides by a spread of few
values and amplifies rounding; the official code differs from itself by as much when
only the CPU's kernels change (1e-5 for ResNet-18 to a few per cent for the projection
of a selective-kernel network).
"""

import json

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf2.checkpoints.official_names import canonical, official_variables, path_of
from simclr_tf2.encoders.resnet import ENDPOINTS, ResNetConfig, build_resnet
from tests.conftest import GOLDEN
from tests.reference import ARCHITECTURES, NAMES, Reference, config_of, relative

VALUES = np.load(GOLDEN / "resnet_values.npz")
# network -> tolerance of features and of projections with batch statistics
TRAINING = {
    "r18": (3e-5, 5e-4),
    "r18_cifar_stem": (3e-5, 5e-4),
    "r50": (5e-4, 1e-2),
    "r50_se": (5e-4, 1e-2),
    "r50_sk": (5e-3, 6e-2),
}


LARGE = ("r101", "r50_w2", "r50_w2_sk")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name
        for name in NAMES
    ],
)
def test_names_shapes_and_counts_are_the_official_ones(name):
    config = config_of(name)
    official = official_variables(config)
    assert [row.name + ":0" for row in official] == ARCHITECTURES[
        f"{name}/names"
    ].tolist()
    assert [row.path for row in official] == ARCHITECTURES[f"{name}/paths"].tolist()
    assert [row.trainable for row in official] == ARCHITECTURES[
        f"{name}/trainable"
    ].tolist()
    assert canonical([row.name for row in official]) == [row.name for row in official]
    network = build_resnet(config)
    shapes = {
        path_of(variable.path): " ".join(map(str, variable.shape))
        for variable in network.weights
    }
    theirs = dict(
        zip(
            ARCHITECTURES[f"{name}/paths"].tolist(),
            ARCHITECTURES[f"{name}/shapes"].tolist(),
            strict=True,
        )
    )
    assert shapes == {
        path: shape for path, shape in theirs.items() if "head" not in path
    }
    counts = json.loads(str(ARCHITECTURES[f"{name}/counts"]))
    assert (
        sum(int(np.prod(v.shape)) for v in network.trainable_variables)
        == counts["resnet_trainable"]
    )
    assert (
        sum(int(np.prod(v.shape)) for v in network.non_trainable_variables)
        == counts["resnet_non_trainable"]
    )
    for size, ends in json.loads(str(ARCHITECTURES[f"{name}/endpoints"])).items():
        if int(size.split("x")[0]) > 100 or name not in (
            "r18",
            "r18_cifar_stem",
            "r18_sk_shortcut_only",
        ):
            continue
        outputs = network(tf.zeros((1, *map(int, size.split("x")), 3)))
        assert {end: list(outputs[end].shape) for end in ENDPOINTS} == {
            end: ends[end] for end in ENDPOINTS
        }


def test_numbers_may_start_anywhere():
    names = [
        row.name for row in official_variables(ResNetConfig(18, sk_ratio=0.0625), 2)
    ]
    later = [
        name.replace("/dense_2/", "/dense_7/")
        .replace("/dense_1/", "/dense_6/")
        .replace("/dense/", "/dense_5/")
        for name in names
    ]
    assert (
        sum(name != other for name, other in zip(names, later, strict=True)) == 4
    )  # kernels of two layers, the classifier
    assert canonical([name + ":0" for name in later]) == names


@pytest.mark.parametrize(
    "name", ["r50_1x_sk0", "r18_2x_sk1", "r50_1x_sk0_se0.25", "r18_1x_sk0_small"]
)
def test_a_network_has_one_name(name):
    assert ResNetConfig.parse(name).name == name


def test_what_is_no_network_is_refused():
    assert ResNetConfig.parse("r50") is None
    with pytest.raises(
        ValueError, match="depth must be one of 18, 34, 50, 101, 152, 200; got 49"
    ):
        ResNetConfig.parse("r49_1x_sk0")
    with pytest.raises(ValueError, match="width must be at least 1; got 0"):
        ResNetConfig(width=0)
    with pytest.raises(ValueError, match=r"sk_ratio must be in \[0, 1\]; got 2"):
        ResNetConfig(sk_ratio=2)


@pytest.mark.parametrize(
    "name",
    [
        "r18",
        "r18_cifar_stem",
        "r50",
        pytest.param("r50_sk", marks=pytest.mark.slow),
        "r50_se",
    ],
)
def test_values_with_moving_statistics(name):
    check_values(name, "eval", 2e-6, 2e-6)


@pytest.mark.parametrize(
    "name",
    [
        "r18",
        "r18_cifar_stem",
        "r50_se",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("r50", "r50_sk")),
    ],
)
def test_values_with_batch_statistics_and_their_update(name):
    features, projection = TRAINING[name]
    model = check_values(name, "train", features, projection)
    for path, (mean, std) in zip(
        VALUES[f"{name}/moving/paths"], VALUES[f"{name}/moving/values"], strict=True
    ):
        value = model.variables[path].numpy()
        assert value.mean() == pytest.approx(mean, rel=features, abs=features)
        assert value.std() == pytest.approx(std, rel=3 * features, abs=features)
    size = "32x32" if name == "r18_cifar_stem" else "64x64"
    again = model(VALUES[f"input/{size}"], training=False)
    for end in ("final_avg_pool", "proj_head_output", "logits_sup"):
        assert (
            relative(
                again[end][:, :64], VALUES[f"{name}/{size}/eval_after_update/{end}"]
            )
            < features
        )


def check_values(
    name: str, mode: str, tolerance: float, projection_tolerance: float
) -> Reference:
    model = Reference(name).fill()
    size = "32x32" if name == "r18_cifar_stem" else "64x64"
    outputs = model(VALUES[f"input/{size}"], training=mode == "train")
    for end in (*ENDPOINTS, "logits_sup", "proj_head_output"):
        ours, key = outputs[end].numpy(), f"{name}/{size}/{mode}/{end}"
        part = ours[:2, -2:, -2:, -8:] if ours.ndim == 4 else ours[:, :64]
        scale = (
            np.abs(ours).max() / np.abs(VALUES[key]).max()
        )  # differences are relative to the whole array
        allowed = projection_tolerance if end == "proj_head_output" else tolerance
        assert relative(part, VALUES[key]) < allowed * scale, end
        assert np.linalg.norm(ours) == pytest.approx(
            float(VALUES[f"{key}/l2"]), rel=allowed
        ), end
    return model


@pytest.mark.parametrize(
    ("name", "mode", "tolerance"),
    [
        ("r18_cifar_stem", "eval", 2e-5),
        (
            "r18_cifar_stem",
            "train",
            2e-3,
        ),  # some ReLU sits on its edge there: Keras' own batch norm is as far off
        ("r18", "train", 3e-5),
        pytest.param("r50", "eval", 2e-5, marks=pytest.mark.slow),
        pytest.param("r50", "train", 3e-2, marks=pytest.mark.slow),
        pytest.param("r50_sk", "eval", 2e-5, marks=pytest.mark.slow),
        ("r50_se", "eval", 2e-5),
    ],
)
def test_gradients(name, mode, tolerance):
    model = Reference(name).fill()
    size = "32x32" if name == "r18_cifar_stem" else "64x64"
    with tf.GradientTape() as tape:
        features = model.resnet(VALUES[f"input/{size}"], training=mode == "train")[
            "final_avg_pool"
        ]
        loss = tf.reduce_sum(features * VALUES[f"{name}/grad_probe_w"])
    trainable = model.resnet.trainable_variables
    norms = {
        path_of(v.path): np.linalg.norm(g)
        for v, g in zip(trainable, tape.gradient(loss, trainable), strict=True)
    }
    theirs = dict(
        zip(
            VALUES[f"{name}/grad_l2_{mode}/paths"].tolist(),
            VALUES[f"{name}/grad_l2_{mode}/values"].tolist(),
            strict=True,
        )
    )
    assert set(norms) == set(theirs)
    largest = max(theirs.values())
    for path, norm in theirs.items():
        assert norms[path] == pytest.approx(norm, rel=tolerance, abs=1e-6 * largest), (
            path
        )


@pytest.mark.parametrize("name", ["r18", "r50_se"])
def test_a_fresh_network_starts_as_the_official_one(name):
    tf.random.set_seed(0)
    facts = json.loads(str(ARCHITECTURES[f"{name}/initial"]))
    network = build_resnet(config_of(name))
    spreads, largest, zeros = [], 0.0, []
    for variable in network.trainable_variables:
        path, value = path_of(variable.path), variable.numpy()
        if path.endswith("kernel"):
            fan_in = np.prod(value.shape[:-1])
            spreads.append(value.std() * np.sqrt(fan_in))
            largest = max(largest, np.abs(value).max() * np.sqrt(fan_in))
        elif path.endswith("gamma") and not value.any():
            zeros.append(path)
        else:
            assert (value == (1 if path.endswith("gamma") else 0)).all(), path
    assert sorted(zeros) == sorted(facts["gamma_zero_paths"])
    assert np.mean(spreads) == pytest.approx(
        facts["conv_kernel_std_times_sqrt_fan_in"]["mean"], abs=0.01
    )
    assert largest == pytest.approx(
        facts["conv_kernel_absmax_times_sqrt_fan_in"], abs=0.01
    )  # cut at two sigma
