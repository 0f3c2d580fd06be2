"""SimCLR's ResNets: v1 and v2 of the paper, with width multiplier, selective kernels
and squeeze-and-excitation.

He et al. 2016 (arXiv 1512.03385) in the form of Chen et al. 2020 (arXiv 2002.05709,
2006.10029): a projection shortcut in the first block of every group, the stride in the
3x3 convolution, batch norm after every convolution. Values agree with the official TF2
code to float32 rounding (tests/test_simclr_tf2_resnet.py).

Layers are named by where they stand, with dots for levels ("group1.block0.main.conv0");
`checkpoints.official_names` says what the official code calls their variables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import keras

from simclr_tf2.batch_norm import FusedBatchNormalization

# Blocks of the four groups by depth; up to 34 a block is two 3x3 convolutions, from 50
# on a bottleneck.
GROUPS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
SK_RATIO = 0.0625  # of the published sk1 networks
# The endpoints of a network, from input to output.
ENDPOINTS = (
    "initial_conv",
    "initial_max_pool",
    "block_group1",
    "block_group2",
    "block_group3",
    "block_group4",
    "final_avg_pool",
)
FEATURES = ENDPOINTS[-1]  # the second-to-last layer
_NAME = re.compile(r"r(\d+)_(\d+)x_sk([01])(?:_se(\d*\.?\d+))?(_small)?")


@dataclass(frozen=True)
class ResNetConfig:
    """Which ResNet.

    Its name is that of the published checkpoints: `r50_1x_sk0` is ResNet-50 of width 1
    without selective kernels. `_se0.25` adds squeeze-and-excitation, `_small` takes the
    stem for small images (32 pixels, as CIFAR's).
    """

    depth: int = 50  # one of GROUPS
    width: int = 1  # multiplies all filters
    sk_ratio: float = 0.0  # of selective kernels; 0 is none
    se_ratio: float = 0.0  # of squeeze-and-excitation; 0 is none
    small_images: bool = False  # stem of one 3x3 convolution, stride 1, no pooling

    def __post_init__(self) -> None:
        if self.depth not in GROUPS:
            raise ValueError(
                f"depth must be one of {', '.join(map(str, GROUPS))}; got {self.depth}"
            )
        if self.width < 1:
            raise ValueError(f"width must be at least 1; got {self.width}")
        for name, ratio in (("sk_ratio", self.sk_ratio), ("se_ratio", self.se_ratio)):
            if not 0 <= ratio <= 1:
                raise ValueError(f"{name} must be in [0, 1]; got {ratio}")

    @classmethod
    def parse(cls, name: str) -> ResNetConfig | None:
        """The network of a name such as r50_1x_sk0; None where the name isn't of that
        form.
        """
        match = _NAME.fullmatch(name)
        if not match:
            return None
        depth, width, sk, se, small = match.groups()
        return cls(
            int(depth),
            int(width),
            SK_RATIO if sk == "1" else 0.0,
            float(se or 0),
            bool(small),
        )

    @property
    def name(self) -> str:
        """As it is asked for, such as r50_1x_sk0."""
        squeeze = f"_se{self.se_ratio:g}" if self.se_ratio else ""
        small = "_small" if self.small_images else ""
        selective = int(self.sk_ratio > 0)
        return f"r{self.depth}_{self.width}x_sk{selective}{squeeze}{small}"

    @property
    def bottleneck(self) -> bool:
        """Whether blocks have three convolutions, from depth 50 on."""
        return self.depth >= 50

    @property
    def embedding_width(self) -> int:
        """Width of the second-to-last layer."""
        return 512 * self.width * (4 if self.bottleneck else 1)


def build_resnet(config: ResNetConfig) -> keras.Model:
    """Builds the network.

    Returns:
        A model from float32 RGB [batch, height, width, 3] in [0, 1], any size, to a
        dict of the ENDPOINTS: initial_conv is the stem's convolution before batch norm,
        initial_max_pool comes after batch norm, ReLU and pooling, final_avg_pool
        [batch, embedding_width] is the mean of block_group4 over space, in float32.
    """
    images = keras.Input((None, None, 3), name="image")
    x, endpoints = _stem(images, config)
    for number, blocks in enumerate(GROUPS[config.depth], start=1):
        filters = 64 * 2 ** (number - 1) * config.width
        for block in range(blocks):
            stride = 2 if number > 1 and block == 0 else 1
            x = _block(
                x,
                f"group{number}.block{block}",
                filters,
                stride,
                project=block == 0,
                config=config,
            )
        endpoints[f"block_group{number}"] = x
    endpoints["final_avg_pool"] = keras.layers.GlobalAveragePooling2D(
        name="final_avg_pool", dtype="float32"
    )(x)
    return keras.Model(images, endpoints, name="resnet")


def group_of(layer: str) -> int:
    """The block group that a layer of `build_resnet` belongs to, by its name; 0 for the
    stem and layers without a name of their own.
    """
    match = re.match(r"group(\d)\.", layer)
    return int(match.group(1)) if match else 0


def _stem(images, config: ResNetConfig):
    filters = 64 * config.width
    if config.small_images:
        convolved = _conv(images, "stem.conv0", filters, 3, 1)
        x = _relu(_batch_norm(convolved, "stem.bn0"))
    elif config.sk_ratio:
        x = images
        for place in range(2):
            x = _relu(
                _batch_norm(
                    _conv(x, f"stem.conv{place}", filters // 2, 3, 2 - place),
                    f"stem.bn{place}",
                )
            )
        convolved = _conv(x, "stem.conv2", filters, 3, 1)
        x = _relu(_batch_norm(convolved, "stem.bn2"))
    else:
        convolved = _conv(images, "stem.conv0", filters, 7, 2)
        x = _relu(_batch_norm(convolved, "stem.bn0"))
    if not config.small_images:
        x = keras.layers.MaxPooling2D(3, 2, "same", name="stem.pool")(x)
    return x, {"initial_conv": convolved, "initial_max_pool": x}


def _block(
    x, name: str, filters: int, stride: int, *, project: bool, config: ResNetConfig
):
    """A residual block; filters is its narrow width."""
    wide = filters * 4 if config.bottleneck else filters
    shortcut = _shortcut(x, f"{name}.shortcut", wide, stride, config) if project else x
    main = f"{name}.main"
    if config.bottleneck:
        x = _relu(_batch_norm(_conv(x, f"{main}.conv0", filters, 1, 1), f"{main}.bn0"))
        if config.sk_ratio:
            x = _selective_kernel(x, f"{main}.sk", filters, stride, config.sk_ratio)
        else:
            x = _relu(
                _batch_norm(
                    _conv(x, f"{main}.conv1", filters, 3, stride), f"{main}.bn1"
                )
            )
        last = 1 if config.sk_ratio else 2
        x = _conv(x, f"{main}.conv{last}", wide, 1, 1)
    else:
        last = 1
        x = _relu(
            _batch_norm(_conv(x, f"{main}.conv0", filters, 3, stride), f"{main}.bn0")
        )
        x = _conv(x, f"{main}.conv1", filters, 3, 1)
    x = _batch_norm(
        x, f"{main}.bn{last}", gamma="zeros"
    )  # a new block starts as the identity (Goyal et al. 2017, 5.1)
    if config.se_ratio:
        x = _squeeze_and_excite(x, f"{main}.se", max(1, int(filters * config.se_ratio)))
    return _relu(keras.layers.Add(name=f"{name}.add")([x, shortcut]))


def _shortcut(x, name: str, filters: int, stride: int, config: ResNetConfig):
    if (
        config.sk_ratio
    ):  # ResNet-D: pool, then convolve with stride 1 (He et al. 2019, arXiv 1812.01187)
        if stride == 2:
            x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}.pad")(x)
        x = keras.layers.AveragePooling2D(
            2, stride, "valid" if stride == 2 else "same", name=f"{name}.pool"
        )(x)
        stride = 1
    return _batch_norm(_conv(x, f"{name}.conv0", filters, 1, stride), f"{name}.bn0")


def _selective_kernel(x, name: str, filters: int, stride: int, ratio: float):
    """Two 3x3 convolutions in one, weighted channel by channel by attention over the
    image (Li et al. 2019, 1903.06586).
    """
    x = _relu(
        _batch_norm(_conv(x, f"{name}.conv", 2 * filters, 3, stride), f"{name}.bn")
    )
    first, second = x[..., :filters], x[..., filters:]
    context = keras.ops.mean(first + second, axis=(1, 2), keepdims=True)
    context = _relu(
        _batch_norm(
            _conv(context, f"{name}.reduce", max(int(filters * ratio), 32), 1, 1),
            f"{name}.reduce_bn",
        )
    )
    scores = _conv(context, f"{name}.expand", 2 * filters, 1, 1)
    weight = keras.ops.sigmoid(
        scores[..., :filters] - scores[..., filters:]
    )  # softmax over the two
    return first * weight + second * (1 - weight)


def _squeeze_and_excite(x, name: str, narrow: int):
    """Channels weighted by a gate over the image's mean (Hu et al. 2018, arXiv
    1709.01507).
    """
    wide = x.shape[-1]
    gate = keras.ops.mean(x, axis=(1, 2), keepdims=True)
    gate = _relu(
        keras.layers.Conv2D(
            narrow, 1, kernel_initializer=_variance_scaling(), name=f"{name}.reduce"
        )(gate)
    )
    gate = keras.layers.Conv2D(
        wide, 1, kernel_initializer=_variance_scaling(), name=f"{name}.expand"
    )(gate)
    return x * keras.ops.sigmoid(gate)


def _variance_scaling() -> keras.initializers.Initializer:
    return (
        keras.initializers.VarianceScaling()
    )  # truncated normal of variance 1 / fan_in


def _conv(x, name: str, filters: int, kernel: int, stride: int):
    """Convolution without bias. With a stride the padding doesn't depend on the input's
    size, as "same" would have it.
    """
    if stride > 1 and kernel > 1:
        before, after = (kernel - 1) // 2, kernel - 1 - (kernel - 1) // 2
        x = keras.layers.ZeroPadding2D(
            ((before, after), (before, after)), name=f"{name}.pad"
        )(x)
    padding = "same" if stride == 1 else "valid"
    layer = keras.layers.Conv2D(
        filters,
        kernel,
        stride,
        padding,
        use_bias=False,
        kernel_initializer=_variance_scaling(),
        name=name,
    )
    return layer(x)


def _batch_norm(x, name: str, gamma: str = "ones"):
    return FusedBatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer=gamma, name=name
    )(x)


def _relu(x):
    return keras.layers.ReLU()(x)
