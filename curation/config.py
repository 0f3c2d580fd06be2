"""Configurations as flat JSON: the settings of a run by name, whatever dataclass they
belong to. Flags, presets, `--config` and a run's own config.json share these names.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from data.formats.base import SourceOptions
from data.images import CropWindow
from data.stored_vectors import FLOAT32, STORED_AS
from simclr_tf2.config import (
    AUTO,
    LAST,
    OBJECTIVES,
    ORIENTATIONS,
    PLACES,
    POOLINGS,
    PRECISIONS,
    STAGES,
    STRATEGIES,
    EncoderConfig,
    ObjectiveConfig,
    TrainerConfig,
    check_choice,
    check_range,
)

ENGINES = ("local", "ray")  # what embeds
_SHARE = re.compile(r"(\d+)/(\d+)")

# What settings were called in version 0.5.0.
OLD_NAMES: dict[str, str | None] = {
    "jitter": "color_jitter_strength",
    "grey": "grayscale_prob",
    "blur": "blur_prob",
    "from_above": "rot90_flips",
    "online": "online_linear_eval",
    "head_layer": "projection_layer",
    "train_after": "freeze_through_block",
    "session_batches": "recording_batches",
    "pool": "keep_unlabeled",
    "endpoint": "endpoints",
    "preset": None,  # its settings stand beside it
}
_OLD_VALUES = {("fill", "grey"): "gray"}


@dataclass(frozen=True)
class DeviceConfig:
    """What to compute on."""

    # One device; all GPUs of this machine; the machines of TF_CONFIG; a TPU.
    strategy: str = "default"
    tpu: str = ""  # name or address of the TPU; default: the one of this machine
    # Arithmetic; "auto" is float32, but for training bfloat16 on TPUs and new GPUs.
    mixed_precision: str = AUTO
    # Where training makes the pixels of its views, one of PLACES.
    augment_on: str = AUTO

    def __post_init__(self) -> None:
        check_choice("strategy", self.strategy, STRATEGIES)
        check_choice("mixed_precision", self.mixed_precision, PRECISIONS)
        check_choice("augment_on", self.augment_on, PLACES)


@dataclass(frozen=True)
class Recipe:
    """What a crop's vector is made of.

    Example:
        >>> Recipe(orientations=2)  # pictures that have an upright

    Attributes:
        endpoints, pooling, orientations: see `simclr_tf2.encoders.embedder.Embedder`.
        image_size: side of the crops in pixels, at least 32.
        window: which part of the image a box stands for.

    Raises:
        ValueError: a setting of another type, or out of its range.
    """

    endpoints: str = STAGES  # or last, or names of outputs with commas between
    pooling: str = "green"  # over a crop's height and width; one of POOLINGS
    orientations: int = 1  # of a crop, over which its vector is averaged
    image_size: int = 128  # side of the crops in pixels
    window: CropWindow = field(default_factory=CropWindow)

    def __post_init__(self) -> None:
        check_types(self)
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("orientations", self.orientations, ORIENTATIONS)
        check_range("image_size", self.image_size, 32)

    @property
    def cost(self) -> int:
        """Of the network, in pixels a crop."""
        return self.orientations * self.image_size**2

    @property
    def name(self) -> str:
        """What it is called, "own" if it has no name."""
        known = {recipe.read: name for name, recipe in RECIPES.items()}
        return known.get(self.read, "own")

    @property
    def read(self) -> tuple[str, str, int]:
        """What the network's part of it is."""
        return self.endpoints, self.pooling, self.orientations


@dataclass(frozen=True)
class EmbedConfig:
    """How crops become vectors.

    Example:
        >>> EmbedConfig(EncoderConfig("resnet50"), Recipe(image_size=224))

    Attributes:
        encoder: which network, and its weights.
        recipe: what is read from it, of which part of the image, at which size.
        embed_batch: crops per step.
        find_duplicates: whether it is looked for crops that show the same.
        stored_as: how vectors are stored; see `data.stored_vectors.as_stored`.
        device: what to compute on.
        seed: of random weights.

    Raises:
        ValueError: a setting of another type, or out of its range.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    recipe: Recipe = field(default_factory=Recipe)
    embed_batch: int = 64  # crops per step
    find_duplicates: bool = True  # whether it is looked for crops that show the same
    stored_as: str = FLOAT32  # vectors on the disk: one of STORED_AS
    device: DeviceConfig = field(default_factory=DeviceConfig)
    seed: int = 0  # of random weights

    def __post_init__(self) -> None:
        check_types(self)
        check_range("embed_batch", self.embed_batch, 1)
        check_choice("stored_as", self.stored_as, STORED_AS)


@dataclass(frozen=True)
class FinetuneConfig:
    """How an encoder is fine-tuned, and how crops become vectors afterwards.

    Example:
        >>> FinetuneConfig(training=TrainerConfig(epochs=3), eval_split="test")

    Attributes:
        encoder: which network, and the weights it begins with.
        objective: contrastive (without labels), supervised or linear.
        learning: augmentation, heads and loss; see `ObjectiveConfig`.
        training: epochs, batch, optimizer, learning rate; see `TrainerConfig`.
        window: which part of the image a box stands for.
        embed_size, embed_batch: side of the crops, and crops per step, when embedding.
        endpoints, pooling, orientations: see `Recipe`.
        find_duplicates: whether it is looked for crops that show the same; where splits
            are made, those go into one.
        label_fraction: share of the labels to train on.
        recording_batches, neighbors: see below.
        minutes: to take for everything; see `curation.planning`.
        train_split: what to train on.
        eval_split: whose retrieval quality each epoch measures; where no crop is of it,
            some are kept aside.
        sync_batch_norm, device, seed: see below.

    Raises:
        ValueError: a setting of another type, or out of its range.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    objective: str = "contrastive"  # or supervised, or linear
    learning: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainerConfig = field(default_factory=TrainerConfig)
    window: CropWindow = field(default_factory=CropWindow)
    # Side of the crops when embedding; 0 is 4/3 of image_size, or 5/3 where several
    # orientations are averaged: augmentation shows a network things larger than they
    # are (Touvron et al. 2019, arXiv 1906.06423).
    embed_size: int = 0
    endpoints: str = Recipe.endpoints
    pooling: str = Recipe.pooling
    orientations: int = Recipe.orientations
    embed_batch: int = 64  # crops per step when embedding
    find_duplicates: bool = True  # see below
    # Supervised and linear: share of the labels to train on, drawn class by class.
    label_fraction: float = 1.0
    # Contrastive: fill a batch from few recording sessions, so that soil and light tell
    # no crops apart.
    recording_batches: bool = True
    # Contrastive: the second view may be of a crop that is among the first's so many
    # nearest, and the other way round; see `curation.partners`. 0 is SimCLR.
    neighbors: int = 5
    # If epochs isn't stated: plan epochs, size and warm-up for so many minutes in all,
    # and stop when retrieval has stopped rising. 0: no limit.
    minutes: float = 0.0
    train_split: str = ""  # "" is all for contrastive, train otherwise
    eval_split: str = "validation"  # whose retrieval quality each epoch measures
    # Many devices: normalize by the whole batch, not by each device's share.
    sync_batch_norm: bool = True
    device: DeviceConfig = field(default_factory=DeviceConfig)
    seed: int = 0  # of everything random

    def __post_init__(self) -> None:
        check_types(self)
        check_choice("objective", self.objective, OBJECTIVES)
        check_range("image_size", self.learning.augment.image_size, 32)
        if self.embed_size:
            check_range("embed_size", self.embed_size, 32)
        check_range("label_fraction", self.label_fraction, 0, 1)
        check_range("minutes", self.minutes, 0)
        check_range("neighbors", self.neighbors, 0)
        self.embedding()  # refuses what it can't embed by

    def embedding(self, encoder: EncoderConfig | None = None) -> EmbedConfig:
        """How the fine-tuned encoder embeds."""
        trained = self.learning.augment.image_size
        scale = 4 / 3 if self.orientations == 1 else 5 / 3
        size = self.embed_size or max(32, round(trained * scale / 32) * 32)
        return EmbedConfig(
            encoder or self.encoder,
            Recipe(self.endpoints, self.pooling, self.orientations, size, self.window),
            self.embed_batch,
            find_duplicates=self.find_duplicates,
            device=self.device,
            seed=self.seed,
        )


@dataclass(frozen=True)
class RayConfig:
    """How Ray embeds.

    Attributes:
        address: of the cluster, "auto" for the one that this machine belongs to; ""
            starts one on this machine.
        actors: how many embed at a time; 0: one for each GPU of the cluster, or without
            any one for each node.
        block: crops a task, about; a worker that dies costs its task.
    """

    address: str = field(default="", metadata={"key": "ray_address"})
    actors: int = field(default=0, metadata={"key": "ray_actors"})
    block: int = field(default=1024, metadata={"key": "ray_block"})

    def __post_init__(self) -> None:
        check_types(self)
        check_range("ray_actors", self.actors, 0)
        check_range("ray_block", self.block, 1)


@dataclass(frozen=True)
class EmbedRequest:
    """What run_embed.py does: crops of a source into an embedding set."""

    data: str = ""  # folder, .json, .csv, .parquet or tfds:NAME
    embeddings: str = ""  # the folder to write
    vectors: str = ""  # made elsewhere, a row for each row of data
    made_by: str = ""  # the network that made them; see EmbeddingSet.from_arrays
    where: str = ""  # only crops that meet this SQL condition
    part: str = ""  # 3/16: the third of sixteen parts, by this process
    engine: str = "local"  # or ray
    source: SourceOptions = field(default_factory=SourceOptions)
    config: EmbedConfig = field(default_factory=EmbedConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ENGINES)
        if self.part and (self.vectors or self.engine != "local"):
            raise ValueError("part excludes vectors and the engine ray")
        _ = self.share

    @property
    def share(self) -> tuple[int, int]:
        """Which part of how many."""
        found = _SHARE.fullmatch(self.part or "1/1")
        which, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= which <= count:
            raise ValueError(
                "part must be WHICH/OF_HOW_MANY, such as 3/16 for the third of "
                f"sixteen; got {self.part!r}"
            )
        return which, count


@dataclass(frozen=True)
class FinetuneRequest:
    """What run_finetune.py does: crops of a source into a fine-tuned encoder."""

    data: str = ""
    run_dir: str = ""  # for everything this run makes
    where: str = ""
    source: SourceOptions = field(default_factory=SourceOptions)
    config: FinetuneConfig = field(default_factory=FinetuneConfig)


Config = TypeVar("Config")


def check_types(config: object) -> None:
    """Refuses a configuration whose parts aren't what they must be, before work starts.

    Raises:
        ValueError: names the setting.
    """
    hints = typing.get_type_hints(type(config))
    for item in dataclasses.fields(config):  # type: ignore[arg-type]
        kind, value = hints[item.name], getattr(config, item.name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            if not isinstance(value, kind):
                raise ValueError(
                    f"{item.name} must be a {kind.__name__}; got {value!r}"
                )
        else:
            _converted(item.name, value, kind)


def _leaves(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple, Any]]:
    """(name in files, fields that lead to it, type) of every setting."""
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        name = item.metadata.get("key", item.name)
        if dataclasses.is_dataclass(hints[item.name]):
            yield from _leaves(hints[item.name], (*path, item.name))
        elif name is not None:
            yield name, (*path, item.name), hints[item.name]


def flatten(config: Any) -> dict[str, Any]:
    """Every setting by its name in files."""
    flat = {}
    for name, path, _ in _leaves(type(config)):
        value = config
        for part in path:
            value = getattr(value, part)
        flat[name] = value
    return flat


def overlay(config: Config, values: Mapping[str, Any], argument: str) -> Config:
    """A configuration with some settings replaced.

    Args:
        config: what holds where nothing is stated.
        values: settings by name, as today or as in version 0.5.0.
        argument: where they were stated, for errors.

    Raises:
        ValueError: an unknown name, or a value of the wrong type or out of its range.
    """
    values = in_words_of_today(values)
    known = {name: (path, kind) for name, path, kind in _leaves(type(config))}
    changes: dict[tuple[str, ...], Any] = {}
    for stated, value in values.items():
        name = OLD_NAMES.get(stated, stated)
        if name is None:
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            hint = f"; close to it: {', '.join(near)}" if near else ""
            raise ValueError(f"{argument} has no setting {stated!r}{hint}")
        path, kind = known[name]
        if isinstance(value, str):
            value = _OLD_VALUES.get((name, value), value)
        changes[path] = _converted(name, value, kind)
    return _replaced(config, changes)


def _replaced(config: Any, changes: Mapping[tuple[str, ...], Any]) -> Any:
    own: dict[str, Any] = {}
    deeper: dict[str, dict[tuple[str, ...], Any]] = {}
    for path, value in changes.items():
        if len(path) == 1:
            own[path[0]] = value
        else:
            deeper.setdefault(path[0], {})[path[1:]] = value
    for name, inner in deeper.items():
        own[name] = _replaced(getattr(config, name), inner)
    return dataclasses.replace(config, **own)


def _converted(name: str, value: Any, kind: Any) -> Any:
    """The value, if it is of the field's type; whole numbers do for float."""
    if isinstance(kind, types.UnionType):
        kinds = typing.get_args(kind)
        if value is None and type(None) in kinds:
            return None
        kind = next(one for one in kinds if one is not type(None))
    if typing.get_origin(kind) is tuple:
        if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
            return tuple(value)
        raise ValueError(f"{name} must be a list of texts; got {value!r}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{name} must be of type {kind.__name__}; got {value!r}")
    return value


def in_words_of_today(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that may be of a version before recipes, 0.8.0 or earlier: an endpoint
    was pooled by mean, as it is, and embedded at the size of training.
    """
    found = dict(settings)
    if "endpoint" not in found:
        return found
    found["endpoints"] = found.pop("endpoint") or LAST
    found = {"pooling": "mean", "orientations": 1, **found}
    if found.get("embed_size") == 0:
        found["embed_size"] = found.get("image_size", 96)
    return found


def read_config(text: str) -> dict[str, Any]:
    """Settings of `--config`: a JSON file such as a run's config.json, or JSON itself.

    Raises:
        ValueError: it is neither.
    """
    try:
        inline = text.lstrip().startswith("{")
        content = json.loads(text if inline else Path(text).read_text("utf-8"))
    except OSError as error:
        raise ValueError(
            f"config must be a JSON file, or JSON that begins with {{; {text!r} can't "
            f"be read: {error.strerror}"
        ) from None
    except ValueError as error:
        raise ValueError(f"config must be JSON; {text!r} isn't: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"config must be a JSON object of settings; got {text!r}")
    return content


# `plain` is the last layer alone, as in version 0.8.0 and before.
RECIPES = {
    "fast": Recipe(),
    "best": Recipe(orientations=4, image_size=160),
    "plain": Recipe(LAST, "mean", image_size=96),
}


def recipe_settings(recipe: str) -> dict[str, Any]:
    """The settings that a recipe's name stands for."""
    check_choice("recipe", recipe, tuple(RECIPES))
    names = ("endpoints", "pooling", "orientations", "image_size")
    return {name: getattr(RECIPES[recipe], name) for name in names}
