"""What each encoder costs here: crops a second, embedded from pixels in memory.

    python -m benchmarks.encoders

Networks have random weights, which cost the same. Those of KerasHub are built with the
sizes of their presets, since a preset has to be downloaded; the sizes are those of the
papers (arXiv 2304.07193, 2103.00020, 2303.15343), the text towers left small, for no
crop reads them. All in one process, in turns, `--repetitions` times: the median, and
its ratio to efficientnet_lite0 at the same number of pixels.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags

from artifacts.provenance import provenance
from simclr_tf2.config import LAST, EncoderConfig
from simclr_tf2.encoders.base import Encoder
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.registry import make_encoder

FLAGS = flags.FLAGS
SIDE, BATCH = 224, 16
BASE = "efficientnet_lite0"
OTHERS = ("resnet50", "r50_1x_sk0", "keras:ConvNeXtTiny", "keras:EfficientNetV2B0")
SMALL = {"num_layers": 12, "num_heads": 6, "hidden_dim": 384, "intermediate_dim": 1536}
MIDDLE = {"num_layers": 12, "num_heads": 12, "hidden_dim": 768}
MIDDLE["intermediate_dim"] = 3072
SHAPE = (SIDE, SIDE, 3)
WORDS = {
    "vocabulary_size": 100,
    "num_layers": 1,
    "num_heads": 1,
    "intermediate_dim": 8,
    "max_sequence_length": 8,
}


def _dinov2(sizes: dict[str, int]) -> Callable[[Any], Any]:
    options = {"patch_size": 14, "image_shape": SHAPE, **sizes}
    return lambda models: models.DINOV2Backbone(**options)


def _clip(models: Any) -> Any:
    return models.CLIPBackbone(
        models.CLIPVisionEncoder(patch_size=16, image_shape=SHAPE, **MIDDLE),
        models.CLIPTextEncoder(embedding_dim=8, hidden_dim=8, **WORDS),
        projection_dim=512,
    )


def _siglip(models: Any) -> Any:
    return models.SigLIPBackbone(
        models.SigLIPVisionEncoder(patch_size=16, image_shape=SHAPE, **MIDDLE),
        models.SigLIPTextEncoder(embedding_dim=768, hidden_dim=768, **WORDS),
    )


PRESETS = {
    "dinov2_small": _dinov2(SMALL),
    "dinov2_base": _dinov2(MIDDLE),
    "clip_vit_base_patch16": _clip,
    "siglip_base_patch16_224": _siglip,
}


def of_preset(name: str, folder: Path) -> Encoder:
    """An encoder of a preset's sizes, with random weights."""
    import keras_hub

    network = PRESETS[name](keras_hub.models)
    network.save_to_preset(str(folder))
    converters = [
        one
        for one in vars(keras_hub.layers).values()
        if getattr(one, "backbone_cls", None) is type(network)
    ]
    converters[0](image_size=SHAPE[:2], scale=1 / 255).save_to_preset(str(folder))
    return make_encoder(EncoderConfig(f"kerashub:{name}", str(folder)))


def main(argv: list[str]) -> None:
    """Measures all, prints a table."""
    del argv
    keras.utils.set_random_seed(0)
    names = (BASE, *OTHERS)
    encoders = {name: make_encoder(EncoderConfig(name, "random")) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for name in PRESETS:
            encoders[f"kerashub:{name}"] = of_preset(name, Path(folder) / name)
    embedders = {name: Embedder(encoder, LAST) for name, encoder in encoders.items()}
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, *SHAPE), np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in embedders}
    for turn in range(FLAGS.repetitions + 1):
        for name, embedder in embedders.items():
            began = time.monotonic()
            embedder.embed(crops)
            if turn:  # the first traces
                seconds[name].append(time.monotonic() - began)
    print(f"{BATCH} crops of {SIDE} px, medians of {FLAGS.repetitions}")
    print("| encoder | width | parameters | crops a second | ratio |")
    print("| --- | --- | --- | --- | --- |")
    base = float(np.median(seconds[BASE]))
    for name, embedder in embedders.items():
        taken = float(np.median(seconds[name]))
        count = embedder.encoder.model.count_params() / 1e6
        print(
            f"| `{name}` | {embedder.width:,} | {count:.1f} M | {BATCH / taken:.1f} | "
            f"{base / taken:.2f} |"
        )
    print(provenance(0))


if __name__ == "__main__":
    flags.DEFINE_integer("repetitions", 5, "Turns that count.", lower_bound=1)
    app.run(main)
