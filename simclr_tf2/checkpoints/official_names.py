"""The one map between this project's variables and those of the official SimCLR TF2
code.

Three names of one variable:

    group1.block0.main.conv0/kernel                                          in Keras:
    layer name / variable group1/block0/main/conv0/kernel
    its path: the same, with slashes
    resnet/block_group1/residual_block/conv2d_fixed_padding_2/conv2d_2/kernel:0     in
    an official SavedModel

Official names number every kind of layer in the order of its creation, over the whole
model. The shortcut of a block is created first; basic blocks list it last all the same.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from simclr_tf2.encoders.resnet import GROUPS, ResNetConfig
from simclr_tf2.heads import CLASSIFIER, PROJECTION

BACKBONE = "resnet"
PARTS = (BACKBONE, PROJECTION, CLASSIFIER)
STATISTICS = ("moving_mean", "moving_variance")


@dataclass(frozen=True)
class OfficialVariable:
    """A variable of the official code."""

    part: str  # one of PARTS
    # in this project: "group1/block0/main/conv0/kernel",
    # "projection_head/layer0/dense/kernel"
    path: str
    name: str  # without ":0"
    trainable: bool


def official_variables(
    config: ResNetConfig,
    projection_layers: int = 3,
    classifier: bool = True,
    synchronized: bool = True,
) -> list[OfficialVariable]:
    """All variables of a SimCLR model in the official order: by part, of each part
    first the trainable ones.

    Args:
        config: the ResNet.
        projection_layers: dense layers of the projection head.
        classifier: whether the model has a supervised head.
        synchronized: the official code calls synchronised batch norm by another name.
    """
    return _Namer(config, synchronized).model(projection_layers, classifier)


def path_of(variable_path: str) -> str:
    """The path of a variable of `build_resnet` or of a head, from its Keras path."""
    layer, name = variable_path.split("/")[-2:]
    return f"{layer.replace('.', '/')}/{name}"


def canonical(names: list[str]) -> list[str]:
    """Official names with their numbers counted from the first of their kind, and ":0"
    taken off.

    A process that built other models before exporting has higher numbers throughout.
    """
    pieces = [
        [
            re.fullmatch(r"(.*?)(?:_(\d+))?", part)
            for part in name.removesuffix(":0").split("/")
        ]
        for name in names
    ]
    lowest: dict[str, int] = {}
    for match in (match for path in pieces for match in path[:-1] if match):
        kind, number = match.group(1), int(match.group(2) or 0)
        lowest[kind] = min(number, lowest.get(kind, number))
    keep = {"block_group", "nl"}  # these count for themselves

    def renumbered(match: re.Match[str] | None) -> str:
        assert match
        kind, number = match.group(1), int(match.group(2) or 0)
        if kind in keep or kind not in lowest or not (number - lowest[kind]):
            return match.group(0) if kind in keep or kind not in lowest else kind
        return f"{kind}_{number - lowest[kind]}"

    return [
        "/".join([*map(renumbered, path[:-1]), path[-1].group(0)])
        for path in pieces
        if path[-1]
    ]


class _Namer:
    """Walks a model in the order in which the official code creates its layers."""

    def __init__(self, config: ResNetConfig, synchronized: bool):
        self.config = config
        self.norm = (
            "sync_batch_normalization" if synchronized else "batch_normalization"
        )
        self.count: Counter[str] = Counter()

    def numbered(self, kind: str) -> str:
        number = self.count[kind]
        self.count[kind] += 1
        return f"{kind}_{number}" if number else kind

    def conv(
        self, scope: str, path: str, padded: bool = True, bias: bool = False
    ) -> list[tuple[str, str]]:
        wrapper = f"{self.numbered('conv2d_fixed_padding')}/" if padded else ""
        name = f"{scope}/{wrapper}{self.numbered('conv2d')}"
        return [
            (f"{path}/{leaf}", f"{name}/{leaf}")
            for leaf in (("kernel", "bias") if bias else ("kernel",))
        ]

    def batch_norm(
        self, scope: str, path: str, center: bool = True
    ) -> list[tuple[str, str]]:
        name = f"{scope}/{self.numbered('batch_norm_relu')}/{self.numbered(self.norm)}"
        leaves = ("gamma", "beta", *STATISTICS) if center else ("gamma", *STATISTICS)
        return [(f"{path}/{leaf}", f"{name}/{leaf}") for leaf in leaves]

    def conv_and_norm(
        self, scope: str, path: str, number: int
    ) -> list[tuple[str, str]]:
        return self.conv(scope, f"{path}/conv{number}") + self.batch_norm(
            scope, f"{path}/bn{number}"
        )

    def model(self, projection_layers: int, classifier: bool) -> list[OfficialVariable]:
        rows = self.ordered(BACKBONE, self.backbone()) + self.ordered(
            PROJECTION, self.projection_head(projection_layers)
        )
        if classifier:
            dense = f"{CLASSIFIER}/linear_layer/{self.numbered('dense')}"
            rows += self.ordered(
                CLASSIFIER,
                [
                    (f"{CLASSIFIER}/dense/{leaf}", f"{dense}/{leaf}")
                    for leaf in ("kernel", "bias")
                ],
            )
        return rows

    @staticmethod
    def ordered(part: str, rows: list[tuple[str, str]]) -> list[OfficialVariable]:
        variables = [
            OfficialVariable(part, path, name, not path.endswith(STATISTICS))
            for path, name in rows
        ]
        return sorted(variables, key=lambda variable: not variable.trainable)  # stable

    def backbone(self) -> list[tuple[str, str]]:
        rows = []
        for place in range(
            3 if self.config.sk_ratio and not self.config.small_images else 1
        ):
            rows += self.conv_and_norm(BACKBONE, "stem", place)
        for group, blocks in enumerate(GROUPS[self.config.depth], start=1):
            for block in range(blocks):
                rows += self.block(
                    f"{BACKBONE}/block_group{group}",
                    f"group{group}/block{block}",
                    block == 0,
                )
        return rows

    def block(self, scope: str, path: str, project: bool) -> list[tuple[str, str]]:
        config, main = self.config, f"{path}/main"
        kind = "bottleneck_block" if config.bottleneck else "residual_block"
        scope = f"{scope}/{self.numbered(kind)}"
        shortcut = self.conv_and_norm(scope, f"{path}/shortcut", 0) if project else []
        rows = self.conv_and_norm(scope, main, 0)
        if config.bottleneck and config.sk_ratio:
            rows += self.selective_kernel(
                f"{scope}/{self.numbered('sk__conv2d')}", f"{main}/sk"
            )
        elif config.bottleneck:
            rows += self.conv_and_norm(scope, main, 1)
        rows += self.conv_and_norm(
            scope, main, 2 if config.bottleneck and not config.sk_ratio else 1
        )
        if config.se_ratio:
            inner = f"{scope}/{self.numbered('se__layer')}"
            rows += self.conv(inner, f"{main}/se/reduce", padded=False, bias=True)
            rows += self.conv(inner, f"{main}/se/expand", padded=False, bias=True)
        return shortcut + rows if config.bottleneck else rows + shortcut

    def selective_kernel(self, scope: str, path: str) -> list[tuple[str, str]]:
        rows = self.conv(scope, f"{path}/conv") + self.batch_norm(scope, f"{path}/bn")
        rows += self.conv(scope, f"{path}/reduce", padded=False) + self.batch_norm(
            scope, f"{path}/reduce_bn"
        )
        return rows + self.conv(scope, f"{path}/expand", padded=False)

    def projection_head(self, layers: int) -> list[tuple[str, str]]:
        rows = []
        for layer in range(layers):
            scope, path = f"{PROJECTION}/nl_{layer}", f"{PROJECTION}/layer{layer}"
            norm = self.batch_norm(scope, f"{path}/bn", center=layer < layers - 1)
            rows += [
                *norm,
                (f"{path}/dense/kernel", f"{scope}/{self.numbered('dense')}/kernel"),
            ]
        return rows
