"""Importing the weights of a SimCLR SavedModel into this project's ResNet and heads,
strictly.

The architecture is read off the variables. Every variable of the file must find its
place, and every place its variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from simclr_tf2.checkpoints.official_names import canonical, official_variables, path_of
from simclr_tf2.encoders.resnet import GROUPS, SK_RATIO, ResNetConfig, build_resnet
from simclr_tf2.encoders.saved_model import check_saved_model
from simclr_tf2.heads import (
    CLASSIFIER,
    PROJECTION,
    HeadConfig,
    build_classifier,
    build_projection_head,
)

_STEM = "resnet/conv2d_fixed_padding/conv2d/kernel"


def import_weights(
    folder: str | Path, expected: ResNetConfig | None = None
) -> tuple[keras.Model, keras.Model]:
    """Builds the network of a SavedModel from its variables.

    Args:
        folder: of a SavedModel by the official code, or by `checkpoints.exporting` from
            one of this project's ResNets.
        expected: refuse any other network.

    Returns:
        The ResNet and its projection head. Their outputs equal the SavedModel's with
        trainable=False.

    Raises:
        ValueError: the file is incomplete, corrupt, of another network, or has
            variables too many or too few; lists all.
    """
    resnet, head, _ = import_model(folder, expected)
    return resnet, head


def import_model(
    folder: str | Path, expected: ResNetConfig | None = None
) -> tuple[keras.Model, keras.Model, keras.Model | None]:
    """Like `import_weights`, with the classifier as well, where there is one."""
    values = read_variables(folder)
    config, head_config, classes = infer_architecture(values, folder)
    if expected and _same_variables(config, expected):
        # where variables can't tell: a ratio that was rounded, the pooling of shortcuts
        config = expected
    if expected and config != expected:
        raise ValueError(
            f"weights must be those of {expected.name}; {str(folder)!r} holds "
            f"{config.name}"
        )
    resnet = build_resnet(config)
    head = build_projection_head(config.embedding_width, head_config)
    classifier = None
    if classes:
        # The classifier reads the embedding, or, where fine-tuning took a layer of the
        # projection head, that layer.
        width = next(
            value.shape[0]
            for name, value in values.items()
            if re.match(r"head_supervised/.*kernel$", name)
        )
        classifier = build_classifier(width, classes)
    places = {
        path_of(variable.path): variable
        for model in (resnet, head, classifier)
        if model
        for variable in model.weights
    }
    synchronized = any("sync_batch_normalization" in name for name in values)
    official = official_variables(
        config, head_config.depth, classifier is not None, synchronized
    )
    problems = [
        f"{variable.name}: missing"
        for variable in official
        if variable.name not in values
    ]
    known = {variable.name for variable in official}
    problems += [f"{name}: unknown" for name in values if name not in known]
    for variable in official:
        value, place = values.get(variable.name), places[variable.path]
        if value is not None and value.shape != tuple(place.shape):
            problems.append(
                f"{variable.name}: shape {value.shape}, must be {tuple(place.shape)}"
            )
    if problems:
        raise ValueError(
            f"the variables of {str(folder)!r} don't fit {config.name}: "
            + "; ".join(problems)
        )
    for variable in official:
        places[variable.path].assign(values[variable.name])
    return resnet, head, classifier


def _same_variables(one: ResNetConfig, other: ResNetConfig) -> bool:
    rows = [
        [(row.path, row.trainable) for row in official_variables(config)]
        for config in (one, other)
    ]
    narrow = [
        (
            config.depth,
            config.width,
            config.small_images,
            int(512 * config.width * config.se_ratio),
        )
        for config in (one, other)
    ]
    return rows[0] == rows[1] and narrow[0] == narrow[1]


def read_variables(folder: str | Path) -> dict[str, np.ndarray]:
    """Official name -> value of every variable of a SavedModel, read without building
    its graph.
    """
    check_saved_model(folder)
    reader = tf.train.load_checkpoint(str(Path(folder) / "variables" / "variables"))
    objects = TrackableObjectGraph.FromString(
        reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    )
    attributes = [
        attribute
        for node in objects.nodes
        for attribute in node.attributes
        if attribute.name == "VARIABLE_VALUE"
    ]
    found: dict[str, str] = {}
    for attribute in attributes:
        # An export of a SavedModel with new heads holds the old ones too, below the
        # model that was loaded.
        old = attribute.checkpoint_key.startswith(
            "loaded/"
        ) and attribute.full_name.startswith((PROJECTION, CLASSIFIER))
        if attribute.full_name and not (
            old and _has_new(attributes, attribute.full_name)
        ):
            found[attribute.full_name] = attribute.checkpoint_key
    names = canonical(list(found))
    return {
        name: reader.get_tensor(key)
        for name, key in zip(names, found.values(), strict=True)
    }


def _has_new(attributes: list, name: str) -> bool:
    part = name.split("/")[0]
    return any(
        other.full_name.startswith(f"{part}/")
        and not other.checkpoint_key.startswith("loaded/")
        for other in attributes
    )


def infer_architecture(
    values: Mapping[str, np.ndarray], folder: str | Path = ""
) -> tuple[ResNetConfig, HeadConfig, int]:
    """(ResNet, projection head, classes) of official variables; 0 classes where there
    is no classifier.

    Raises:
        ValueError: these aren't the variables of a SimCLR ResNet.
    """
    blocks = [
        len({_block(name) for name in values if f"/block_group{group}/" in name})
        for group in range(1, 5)
    ]
    bottleneck = any("/bottleneck_block" in name for name in values)
    depths = [
        depth
        for depth, groups in GROUPS.items()
        if list(groups) == blocks and (depth >= 50) == bottleneck
    ]
    if _STEM not in values or not depths:
        few = ", ".join(list(values)[:3]) or "none"
        raise ValueError(
            f"{str(folder)!r} doesn't hold a SimCLR ResNet: it lacks {_STEM} or block "
            "groups of a known depth (groups of "
            f"{blocks} blocks; its variables begin with {few}). A model of another "
            "kind can be run as it is: --encoder=saved_model"
        )
    kernels = [
        name for name in values if name.startswith("resnet/conv2d_fixed_padding")
    ]
    stem = values[_STEM].shape
    wide = max(
        value.shape[0]
        for name, value in values.items()
        if "/block_group4/" in name and name.endswith("/gamma")
    )
    width = wide // (2048 if bottleneck else 512)
    small = len(kernels) == 1 and stem[0] == 3
    sk_ratio = (
        SK_RATIO
        if len(kernels) > 1 or any("/sk__conv2d" in name for name in values)
        else 0.0
    )
    reduced = [
        values[name].shape[-1]
        for name in values
        if "block_group4/" in name and "/sk__conv2d" in name and "kernel" in name
    ]
    if reduced and min(reduced) > 32:
        sk_ratio = min(reduced) / (512 * width)
    squeezed = [
        values[name].shape[-1]
        for name in values
        if "block_group4/" in name and "/se__layer" in name and "kernel" in name
    ]
    se_ratio = min(squeezed) / (512 * width) if squeezed else 0.0
    head = sorted(
        (name for name in values if re.match(r"projection_head/nl_\d+/dense", name)),
        key=_layer,
    )
    widths = [values[name].shape[-1] for name in head]
    head_config = (
        HeadConfig(
            "nonlinear", len(head), widths[0] if len(head) > 1 else 0, widths[-1]
        )
        if head
        else HeadConfig("none")
    )
    classes = [
        value.shape[-1]
        for name, value in values.items()
        if re.match(r"head_supervised/.*bias$", name)
    ]
    return (
        ResNetConfig(depths[0], width, sk_ratio, se_ratio, small),
        head_config,
        classes[0] if classes else 0,
    )


def _block(name: str) -> str:
    match = re.search(r"/((?:residual|bottleneck)_block(?:_\d+)?)/", name)
    return match.group(1) if match else ""


def _layer(name: str) -> int:
    return int(name.split("/")[1].split("_")[1])
