"""What the parity tests share: the networks of the reference numbers, filled by their
rule.
"""

from __future__ import annotations

import json

import keras
import numpy as np

from simclr_tf2.checkpoints.official_names import (
    OfficialVariable,
    official_variables,
    path_of,
)
from simclr_tf2.config import EncoderConfig
from simclr_tf2.encoders.base import Blocks, Encoder
from simclr_tf2.encoders.resnet import ResNetConfig, build_resnet, group_of
from simclr_tf2.heads import (
    HeadConfig,
    build_classifier,
    build_projection_head,
    projections,
)
from tests.conftest import GOLDEN

ARCHITECTURES = np.load(GOLDEN / "resnet.npz")
NAMES = sorted({key.split("/")[0] for key in ARCHITECTURES})


def config_of(name: str) -> ResNetConfig:
    facts = json.loads(str(ARCHITECTURES[f"{name}/config"]))
    return ResNetConfig(
        facts["depth"],
        facts["width_multiplier"],
        facts["sk_ratio"],
        facts["se_ratio"],
        facts["cifar_stem"],
    )


class Reference:
    """A SimCLR model of the reference numbers: ResNet, three-layer projection head to
    128, ten classes.
    """

    def __init__(self, name: str):
        self.config = config_of(name)
        self.resnet = build_resnet(self.config)
        self.projection_head = build_projection_head(
            self.config.embedding_width, HeadConfig(layers=3, hidden=0)
        )
        self.classifier = build_classifier(self.config.embedding_width, 10)
        self.variables = variables_by_path(
            self.resnet, self.projection_head, self.classifier
        )
        self.official = official_variables(self.config)

    def fill(self) -> Reference:
        fill(self.variables, self.official)
        return self

    def __call__(self, images, training: bool) -> dict:
        outputs = dict(self.resnet(images, training=training))
        features = outputs["final_avg_pool"]
        outputs["proj_head_output"] = projections(
            self.projection_head, features, training
        )[-1]
        outputs["logits_sup"] = self.classifier(features)
        return outputs


def variables_by_path(*models: keras.Model) -> dict[str, keras.Variable]:
    return {
        path_of(variable.path): variable
        for model in models
        for variable in model.weights
    }


def fill(
    variables: dict[str, keras.Variable], official: list[OfficialVariable]
) -> None:
    """The rule: a normal sample seeded by the variable's place in the official order,
    scaled by what the variable is.
    """
    for index, row in enumerate(official):
        shape, leaf = tuple(variables[row.path].shape), row.path.rsplit("/", 1)[-1]
        sample = np.random.default_rng(1000 + index).standard_normal(shape)
        if leaf == "kernel":
            value = sample / np.sqrt(np.prod(shape[:-1]))
        else:
            value = {
                "gamma": 1 + 0.1 * sample,
                "moving_variance": 1 + 0.1 * np.abs(sample),
            }.get(leaf, 0.1 * sample)
        variables[row.path].assign(value.astype(np.float32))


def relative(ours, theirs) -> float:
    """Largest difference over the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def simclr_encoder(name, network, projection_head=None):
    """The encoder of a network that was built apart from it."""
    return Encoder(
        EncoderConfig(name, "random"),
        network,
        "final_avg_pool",
        projection_head=projection_head,
        architecture=ResNetConfig.parse(name),
        blocks=Blocks(group_of, 4, early=1),
    )
