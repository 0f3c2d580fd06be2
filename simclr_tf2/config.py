"""What decides how a network is made and trained, as frozen dataclasses.

Nothing here loads TensorFlow, so that a setting which is wrong is known before it is.
A field's name in files and on the command line is its own, or the `key` beside it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

IMAGENET, RANDOM = "imagenet", "random"
BRIGHTNESS = ("multiply", "add")
HEAD_KINDS = ("nonlinear", "linear", "none")
OBJECTIVES = ("contrastive", "supervised", "linear")
OPTIMIZERS = ("adamw", "lars", "momentum", "adam")
SCALINGS = ("none", "linear", "sqrt")
STRATEGIES = ("default", "mirrored", "multiworker", "tpu")
LAST, STAGES = "last", "stages"
POOLINGS = ("mean", "gem", "green", "center", "mask")
ORIENTATIONS = (1, 2, 4, 8)
# "auto" is bfloat16 for training where the device has it in hardware: TPUs, and GPUs
# from compute capability 8.0. It never depends on a timing.
AUTO = "auto"
PLACES = (AUTO, "host", "device")
PRECISIONS = (AUTO, "float32", "mixed_bfloat16", "mixed_float16")
NOTHING_FROZEN, EARLY_FROZEN = -1, -2
BY_CROPS = -1  # so many as fit the number of crops


def _key(name: str | None, default: Any) -> Any:
    """A field that is called otherwise in files, or (None) isn't a setting."""
    return field(default=default, metadata={"key": name})


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Refuses what isn't one of the choices."""
    if value not in choices:
        stated = ", ".join(map(str, choices))
        raise ValueError(f"{name} must be one of {stated}; got {value!r}")


def check_range(
    name: str, value: float, least: float, most: float = float("inf")
) -> None:
    """Refuses a number out of its range, both ends included."""
    if not least <= value <= most:
        limits = f"in [{least:g}, {most:g}]" if most < float("inf") else f">= {least:g}"
        raise ValueError(f"{name} must be {limits}; got {value}")


@dataclass(frozen=True)
class EncoderConfig:
    """What decides an encoder's function."""

    # One of ENCODERS, a SimCLR ResNet such as r50_1x_sk0 (see ResNetConfig), or
    # keras:<Name>, a network of keras.applications.
    name: str = _key("encoder", "efficientnet_lite0")
    # "imagenet", "random", or a file: .weights.h5, the architecture's own format, or a
    # SavedModel's folder, gs:// or https:// address.
    weights: str = IMAGENET


@dataclass(frozen=True)
class AugmentConfig:
    """What an augmented view may change."""

    image_size: int = 96  # side of the square views, in pixels
    # A random crop covers at least this share of the image; 0.08 in SimCLR.
    min_area: float = 0.3
    # Strength of color jitter: 1 is SimCLR's ImageNet setting, 0 turns it off.
    color_jitter_strength: float = 0.2
    grayscale_prob: float = 0.0  # probability of dropping the color; 0.2 in SimCLR
    # Probability of a Gaussian blur; 0.5 in SimCLR's ImageNet setting.
    blur_prob: float = 0.0
    # By a factor, as in the second paper; "add" a shift, as in the first.
    brightness: str = "multiply"
    # Flips up-down and quarter turns: what is seen from above has no upright.
    rot90_flips: bool = True

    def __post_init__(self) -> None:
        check_range("image_size", self.image_size, 1)
        check_range("min_area", self.min_area, 0.01, 1)
        check_range("color_jitter_strength", self.color_jitter_strength, 0, 1.25)
        check_range("grayscale_prob", self.grayscale_prob, 0, 1)
        check_range("blur_prob", self.blur_prob, 0, 1)
        check_choice("brightness", self.brightness, BRIGHTNESS)


@dataclass(frozen=True)
class HeadConfig:
    """A projection head: `layers` dense layers, the last `output` wide."""

    # One of HEAD_KINDS; linear is one layer, none projects nothing.
    kind: str = _key("head", "nonlinear")
    # Of a nonlinear head: 2 in the first paper, 3 in the second.
    layers: int = _key("head_layers", 2)
    # Width of the hidden layers; 0 is that of the embedding, as in the papers.
    hidden: int = _key("head_hidden", 512)
    output: int = _key("head_output", 128)  # width of the projection

    def __post_init__(self) -> None:
        check_choice("head", self.kind, HEAD_KINDS)
        check_range("head_layers", self.layers, 1)
        check_range("head_hidden", self.hidden, 0)

    @property
    def depth(self) -> int:
        """How many dense layers the head has."""
        return {"none": 0, "linear": 1}.get(self.kind, self.layers)


@dataclass(frozen=True)
class ObjectiveConfig:
    """What to minimize, with its heads and views; see `simclr_tf2.objectives`."""

    augment: AugmentConfig = field(default_factory=AugmentConfig)
    # Of the labels; contrastive training takes them, if any, for online evaluation.
    classes: int = _key(None, 0)
    temperature: float = 0.1  # contrastive: of NT-Xent
    # Contrastive: the projection head. An imported SimCLR checkpoint brings its own.
    head: HeadConfig = field(default_factory=HeadConfig)
    # Contrastive: train a linear classifier beside, behind a stop-gradient.
    online_linear_eval: bool = True
    label_smoothing: float = 0.1  # supervised and linear
    # Supervised and linear: the classifier reads this layer of the encoder's projection
    # head; 0 is the features.
    projection_layer: int = 0
    # Block through which all is frozen, batch norm included, counted from the stem, 0
    # (of a SimCLR ResNet 4 is the last); -1 is nothing. -2: of pretrained weights what
    # lies before a stride of 8. Edges and colors are the same everywhere, and much of a
    # step's time goes into learning them again.
    freeze_through_block: int = EARLY_FROZEN
    # Whether the pixels of the views are made on the device that trains, a batch at a
    # time (`simclr_tf2.batched_augment`), or on the host.
    augment_on_device: bool = _key(None, False)
    # Of batch norm in what is frozen; False lets them drift, as the official code does.
    frozen_statistics: bool = _key(None, True)

    def __post_init__(self) -> None:
        check_range("temperature", self.temperature, 1e-3)
        check_range("label_smoothing", self.label_smoothing, 0, 0.5)


@dataclass(frozen=True)
class TrainerConfig:
    """How to train."""

    epochs: int = BY_CROPS  # 12 to 100, for a few hundred steps
    # Crops per step, over all devices together; BY_CROPS is an eighth, 128 at most.
    batch_size: int = BY_CROPS
    optimizer: str = "adamw"  # one of OPTIMIZERS; lars for batches of thousands
    learning_rate: float = 1e-3  # peak, reached after warm-up, before scaling
    # With the batch: not, times batch / 256, or times sqrt(batch).
    learning_rate_scaling: str = "none"
    weight_decay: float = 1e-4  # decoupled for adamw, L2 for the others
    warmup_epochs: float = 0.5  # of linear warm-up before the cosine
    checkpoint_minutes: float = 5.0  # between checkpoints within an epoch
    # Images per pass through the encoder (see `Trainer`); 0 takes the whole batch.
    micro_batch: int = 0
    xla: bool = False  # compile the training step

    def __post_init__(self) -> None:
        if self.epochs != BY_CROPS:
            check_range("epochs", self.epochs, 0)
        if self.batch_size != BY_CROPS:
            check_range("batch_size", self.batch_size, 2)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_range("learning_rate", self.learning_rate, 0)
        check_choice("learning_rate_scaling", self.learning_rate_scaling, SCALINGS)
        check_range("weight_decay", self.weight_decay, 0)
        check_range("warmup_epochs", self.warmup_epochs, 0)
        check_range("micro_batch", self.micro_batch, 0)
