"""Settings of the papers, by name: values for the flags of run_finetune.py and for
benchmarks/paper.py.

v1 is "A Simple Framework for Contrastive Learning" (arXiv 2002.05709; sections 2.3 and
B.6 to B.9), v2 "Big Self-Supervised Models are Strong Semi-Supervised Learners" (arXiv
2006.10029; section A and the README of the official code).
"""

from __future__ import annotations

from typing import Any

_VIEWS = {"min_area": 0.08, "grey": 0.2, "from_above": False, "brightness": "multiply"}
_IMAGENET_VIEWS = {**_VIEWS, "image_size": 224, "jitter": 1.0, "blur": 0.5}
_CIFAR_VIEWS = {**_VIEWS, "image_size": 32, "jitter": 0.5, "blur": 0.0}
_LABELS = {
    "objective": "supervised",
    "label_smoothing": 0.0,
    "warmup_epochs": 0.0,
    "weight_decay": 0.0,
}
_PRETRAIN = {
    "objective": "contrastive",
    "train_split": "train",
    "weights": "random",
    "optimizer": "lars",
    "warmup_epochs": 10.0,
    "head": "nonlinear",
}

PRESETS: dict[str, dict[str, Any]] = {
    # Pretraining. 0.3 * B / 256 of v1 and 0.075 * sqrt(B) of the code are the same at a
    # batch of 4096.
    "v1_imagenet_pretrain": {
        **_PRETRAIN, **_IMAGENET_VIEWS, "brightness": "add", "encoder": "r50_1x_sk0", "head_layers": 2, "head_hidden": 0,
        "batch_size": 4096, "epochs": 1000, "learning_rate": 0.3, "learning_rate_scaling": "linear", "weight_decay": 1e-6,
        "temperature": 0.1,
    },
    "v2_imagenet_pretrain": {
        **_PRETRAIN, **_IMAGENET_VIEWS, "encoder": "r50_1x_sk0", "head_layers": 3, "head_hidden": 0,
        "batch_size": 4096, "epochs": 800, "learning_rate": 0.1, "learning_rate_scaling": "sqrt", "weight_decay": 1e-4,
        "temperature": 0.1,
    },
    "cifar10_pretrain": {
        **_PRETRAIN, **_CIFAR_VIEWS, "encoder": "r18_1x_sk0_small", "head_layers": 3, "head_hidden": 0,
        "batch_size": 512, "epochs": 1000, "learning_rate": 1.0, "learning_rate_scaling": "linear", "weight_decay": 1e-4,
        "temperature": 0.5,
    },
    # Linear evaluation: momentum, no decay, no warm-up; crops and flips alone.
    "imagenet_linear": {
        **_LABELS, **_IMAGENET_VIEWS, "objective": "linear", "optimizer": "momentum", "batch_size": 4096, "epochs": 90,
        "learning_rate": 0.1, "learning_rate_scaling": "linear",
    },
    "cifar10_linear": {
        **_LABELS, **_CIFAR_VIEWS, "objective": "linear", "optimizer": "momentum", "batch_size": 512, "epochs": 100,
        "learning_rate": 0.1, "learning_rate_scaling": "linear",
    },
    # Fine-tuning on another set, as for the transfer table (B.8): Nesterov momentum, a
    # constant number of steps there.
    "transfer": {
        **_LABELS, **_IMAGENET_VIEWS, "optimizer": "momentum", "batch_size": 256, "epochs": 100,
        "learning_rate": 0.05, "learning_rate_scaling": "linear",
    },
    # Few labels. v1: Nesterov momentum, all weights. v2: LARS, from the first layer of
    # the projection head.
    "v1_imagenet_1pct": {
        **_LABELS, **_IMAGENET_VIEWS, "optimizer": "momentum", "batch_size": 4096, "epochs": 60, "label_fraction": 0.01,
        "learning_rate": 0.05, "learning_rate_scaling": "linear",
    },
    "v1_imagenet_10pct": {
        **_LABELS, **_IMAGENET_VIEWS, "optimizer": "momentum", "batch_size": 4096, "epochs": 30, "label_fraction": 0.1,
        "learning_rate": 0.05, "learning_rate_scaling": "linear",
    },
    "v2_imagenet_1pct": {
        **_LABELS, **_IMAGENET_VIEWS, "optimizer": "lars", "batch_size": 1024, "epochs": 60, "label_fraction": 0.01,
        "learning_rate": 0.005, "learning_rate_scaling": "sqrt", "head_layer": 1,
    },
    "v2_imagenet_10pct": {
        **_LABELS, **_IMAGENET_VIEWS, "optimizer": "lars", "batch_size": 1024, "epochs": 30, "label_fraction": 0.1,
        "learning_rate": 0.005, "learning_rate_scaling": "sqrt", "head_layer": 1,
    },
}  # fmt: skip
