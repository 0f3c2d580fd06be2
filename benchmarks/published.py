"""The published numbers of the SimCLR papers, and how each is measured.

v1 is "A Simple Framework for Contrastive Learning" (arXiv 2002.05709), v2 "Big
Self-Supervised Models are Strong Semi-Supervised Learners" (arXiv 2006.10029).
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.config import FinetuneConfig

V1, V2 = "v1, table B.4", "v2, README of the official code"


@dataclass(frozen=True)
class Experiment:
    """A number of a paper.

    Attributes:
        title: what was measured.
        dataset: its name in tensorflow-datasets; "" if it has none.
        train, test: splits.
        protocol: "preset" trains as the preset says; "pretrain" does, and then trains a
            linear classifier as `then` says; "logistic" fits a logistic regression to
            the embeddings.
        preset, then: see curation/presets.py.
        published: top-1 accuracy, per cent, of ResNet-50 1x unless the title says
            otherwise.
        source: of the number.
        per_class: whether it is the mean over classes.
    """

    title: str
    dataset: str
    train: str
    test: str
    protocol: str
    preset: str
    published: float
    source: str
    then: str = ""
    per_class: bool = False


def _transfer(
    title: str,
    dataset: str,
    train: str,
    test: str,
    *,
    linear: float,
    tuned: float,
    per_class: bool = False,
) -> dict:
    source = "v1, table B.5"
    key = title.lower().replace(" ", "").replace("-", "")
    figures = {
        "logistic": ("linear", "logistic", "imagenet_linear", linear),
        "finetuned": ("fine-tuned", "preset", "transfer", tuned),
    }
    return {
        f"{key}_{name}": Experiment(
            f"{title}, {words}",
            dataset,
            train,
            test,
            protocol,
            preset,
            published,
            source,
            "",
            per_class,
        )
        for name, (words, protocol, preset, published) in figures.items()
    }


EXPERIMENTS: dict[str, Experiment] = {
    "imagenet_linear_v1": Experiment(
        "ImageNet, linear evaluation, v1",
        "imagenet2012",
        "train",
        "validation",
        "preset",
        "imagenet_linear",
        69.3,
        V1,
    ),
    "imagenet_linear_v2": Experiment(
        "ImageNet, linear evaluation, v2",
        "imagenet2012",
        "train",
        "validation",
        "preset",
        "imagenet_linear",
        71.7,
        V2,
    ),
    "imagenet_1pct_v1": Experiment(
        "ImageNet, 1 % of labels, v1",
        "imagenet2012_subset/1pct",
        "train",
        "validation",
        "preset",
        "v1_imagenet_1pct",
        48.3,
        V1,
    ),
    "imagenet_10pct_v1": Experiment(
        "ImageNet, 10 % of labels, v1",
        "imagenet2012_subset/10pct",
        "train",
        "validation",
        "preset",
        "v1_imagenet_10pct",
        65.6,
        V1,
    ),
    "imagenet_1pct_v2": Experiment(
        "ImageNet, 1 % of labels, v2",
        "imagenet2012_subset/1pct",
        "train",
        "validation",
        "preset",
        "v2_imagenet_1pct",
        57.9,
        V2,
    ),
    "imagenet_10pct_v2": Experiment(
        "ImageNet, 10 % of labels, v2",
        "imagenet2012_subset/10pct",
        "train",
        "validation",
        "preset",
        "v2_imagenet_10pct",
        68.4,
        V2,
    ),
    "cifar10_pretrain": Experiment(
        "CIFAR-10, ResNet-18 pretrained there, linear evaluation; published: about",
        "cifar10",
        "train",
        "test",
        "pretrain",
        "cifar10_pretrain",
        91.0,
        "README of the official code",
        then="cifar10_linear",
    ),
    "cifar10_pretrain_r50": Experiment(
        "CIFAR-10, pretrained there, linear evaluation, batch 1,024",
        "cifar10",
        "train",
        "test",
        "pretrain",
        "v1_cifar10_pretrain",
        94.0,
        "v1, B.9",
        then="cifar10_linear",
    ),
    **_transfer(
        "Flowers",
        "oxford_flowers102",
        "train+validation",
        "test",
        linear=91.2,
        tuned=97.0,
        per_class=True,
    ),
    **_transfer(
        "Pets",
        "oxford_iiit_pet",
        "train",
        "test",
        linear=83.6,
        tuned=89.2,
        per_class=True,
    ),
    **_transfer("CIFAR-10", "cifar10", "train", "test", linear=90.6, tuned=97.7),
    **_transfer("CIFAR-100", "cifar100", "train", "test", linear=71.6, tuned=85.9),
    **_transfer("DTD", "dtd", "train+validation", "test", linear=74.5, tuned=73.2),
    **_transfer("Cars", "cars196", "train", "test", linear=50.3, tuned=91.3),
    # tensorflow-datasets has no such set
    **_transfer(
        "Aircraft", "", "train", "test", linear=50.3, tuned=88.1, per_class=True
    ),
    **_transfer("Food", "food101", "train", "validation", linear=68.4, tuned=88.2),
}

# Training examples of a set, as published.
EXAMPLES = {
    "imagenet2012": 1_281_167,
    "imagenet2012_subset/1pct": 12_811,
    "imagenet2012_subset/10pct": 128_116,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "oxford_flowers102": 2_040,
    "oxford_iiit_pet": 3_680,
    "dtd": 3_760,
    "cars196": 8_144,
    "food101": 75_750,
    "": 6_667,  # aircraft
}
# Multiply-adds of a forward pass, in units of ResNet-50's at 224 pixels.
COST = {"r50_1x_sk0": 1.0, "r18_1x_sk0_small": 0.136, "r50_1x_sk0_small": 0.317}
_FORWARD = 1 / 3  # of what training takes


def hours(experiment: Experiment, settings: FinetuneConfig) -> float:
    """Hours to expect of an experiment's training, where ResNet-50 trains at 224 pixels
    with one view a second; of the number of operations alone.
    """
    name = settings.encoder.name
    pretrains = experiment.protocol == "pretrain"
    cost = COST.get(name if pretrains else "r50_1x_sk0", 1.0)
    size = settings.learning.augment.image_size
    if size > 32:
        cost *= (size / 224) ** 2
    epochs = settings.training.epochs
    if experiment.protocol == "logistic":
        epochs, cost = 1, cost * _FORWARD
    elif settings.objective == "linear":
        cost *= _FORWARD
    views = (2 if pretrains else 1) * epochs * EXAMPLES.get(experiment.dataset, 0)
    return views * cost / 3600
