"""Tiny presets of KerasHub, with random weights and their own words, on the disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import keras

SIDE, PATCH = 64, 16  # of the images that they were made for
WIDTH, PROJECTED = 32, 24
TEXTS = ("sugar beet", "four leaves of a beet", "maize")
_LAYERS = {"num_layers": 2, "num_heads": 2, "intermediate_dim": 64}
_VISION = {
    "patch_size": PATCH,
    "hidden_dim": WIDTH,
    "image_shape": (SIDE, SIDE, 3),
    **_LAYERS,
}
_WORDS = {
    "vocabulary_size": 300,
    "embedding_dim": WIDTH,
    "hidden_dim": WIDTH,
    "max_sequence_length": 16,
    **_LAYERS,
}
PIXELS = {"image_size": (SIDE, SIDE), "scale": 1 / 127.5, "offset": -1.0}


def write_preset(kind: str, folder: Path) -> Any:
    """Writes a preset of a kind; returns its network."""
    import keras_hub

    keras.utils.set_random_seed(0)
    network = _NETWORKS[kind](keras_hub.models)
    network.save_to_preset(str(folder))
    converters = {one.backbone_cls: one for one in _converters(keras_hub)}
    converter = converters[type(network)](**PIXELS)
    converter.save_to_preset(str(folder))
    if kind in ("clip", "siglip"):
        _preprocessor(kind, keras_hub.models, converter).save_to_preset(str(folder))
    return network


def _converters(library: Any) -> list[Any]:
    found = vars(library.layers).values()
    return [one for one in found if getattr(one, "backbone_cls", None) is not None]


def _preprocessor(kind: str, models: Any, converter: Any) -> Any:
    if kind == "clip":
        letters = sorted(set("".join(TEXTS)) - {" "})
        words = [*letters, *(f"{letter}</w>" for letter in letters)]
        words += ["su", "<|startoftext|>", "<|endoftext|>"]
        vocabulary = {word: place for place, word in enumerate(words)}
        tokenizer = models.CLIPTokenizer(vocabulary=vocabulary, merges=["s u"])
        return models.CLIPPreprocessor(tokenizer, converter, sequence_length=16)
    import sentencepiece

    proto = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=proto,
        vocab_size=24,
        model_type="char",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    tokenizer = models.SigLIPTokenizer(proto.getvalue())
    return models.SigLIPPreprocessor(tokenizer, converter, sequence_length=16)


def _clip(models: Any) -> Any:
    network = models.CLIPBackbone(
        models.CLIPVisionEncoder(**_VISION),
        models.CLIPTextEncoder(**_WORDS),
        projection_dim=PROJECTED,
    )
    # As in every trained one; the library begins with zeros.
    ids = network.vision_encoder.embedding.position_ids
    ids.assign(keras.ops.arange(ids.shape[1])[None])
    return network


_NETWORKS = {
    "vit": lambda m: m.ViTBackbone(
        patch_size=PATCH,
        num_layers=2,
        num_heads=2,
        hidden_dim=WIDTH,
        mlp_dim=64,
        image_shape=(SIDE, SIDE, 3),
    ),
    "deit": lambda m: m.DeiTBackbone(**_VISION),
    "dinov2": lambda m: m.DINOV2Backbone(
        **_VISION, num_register_tokens=2, position_embedding_shape=(SIDE, SIDE, 3)
    ),
    "dinov3": lambda m: m.DINOV3Backbone(**_VISION, num_register_tokens=2),
    "resnet": lambda m: m.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 12, 16, 24],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        use_pre_activation=True,
    ),
    "clip": _clip,
    "siglip": lambda m: m.SigLIPBackbone(
        models_vision(m), m.SigLIPTextEncoder(**_WORDS)
    ),
}


def models_vision(models: Any) -> Any:
    """The image side of SigLIP."""
    return models.SigLIPVisionEncoder(**_VISION)
