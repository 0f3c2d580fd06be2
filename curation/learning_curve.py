"""What is measured after every epoch, beside the frozen figure and what is possible.
Loads TensorFlow.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from curation.config import FinetuneConfig
from curation.embedding import EmbedBatch
from data.crop_table import CropTable
from data.pipeline import Unreadable, embed_readable
from data.splits import split_mask
from probe.metrics import macro, retrieval_quality
from probe.transforms import l2_normalize
from simclr_tf2.objectives import Objective

_log = logging.getLogger(__name__)

K = 20
MOST_CROPS = 2000  # measured on; drawn from a larger split
FEW_CROPS = 500  # of a split; contrastive training takes all that have labels instead
ORIENTATION = "finds_itself_turned"


def evaluation_crops(
    crops: CropTable, config: FinetuneConfig
) -> tuple[str, CropTable] | None:
    """The crops to measure retrieval on, the same whenever asked: those of the split
    that have a class, at most MOST_CROPS. Where the split is small, training without
    labels takes all crops, whose labels it never sees.

    Returns:
        The split and its crops; None where labels allow no measure.

    Raises:
        ValueError: another split than the default was asked for, and there is none.
    """
    split = config.eval_split
    try:
        chosen = crops.take(split_mask(crops, split, "eval_split"))
    except ValueError as error:
        if split != FinetuneConfig.eval_split:
            raise
        if len(crops.classes) >= 2:
            _log.warning("split %s can't be measured on: %s", split, error)
        chosen = crops.take(np.zeros(len(crops), bool))
    unseen = config.objective == "contrastive" and split == FinetuneConfig.eval_split
    if unseen and len(chosen) < FEW_CROPS:
        split, chosen = "all", crops
    labeled = np.flatnonzero(chosen.column("label_name") != "")
    drawn = np.random.default_rng([config.seed, 2]).permutation(labeled)[:MOST_CROPS]
    chosen = chosen.take(np.sort(drawn))
    enough = len(chosen.classes) >= 2 and len(chosen) > K
    return (split, chosen) if enough else None


@dataclass
class LearningCurve:
    """Measures a network again and again on the same crops.

    With labels: macro P@20, each crop as a query against the others, and the
    classifier's top-1 accuracy. Without: how many crops find themselves turned by a
    quarter, first among as many other turned crops (no label is needed to know that
    these two show the same).

    Attributes:
        table: what is measured on.
        split: which split that is; "" measures without labels.
        frozen: the figures before training.
        ceiling: the best possible macro P@20 of these crops.
    """

    table: CropTable
    split: str
    objective: Objective
    classes: list[str]  # that the objective's classifier tells apart
    config: FinetuneConfig
    frozen: dict[str, float] = field(default_factory=dict)
    ceiling: float = 1.0

    @classmethod
    def on(
        cls,
        crops: CropTable,
        objective: Objective,
        classes: list[str],
        config: FinetuneConfig,
    ) -> LearningCurve:
        """On what of the crops suits best."""
        labeled = evaluation_crops(crops, config)
        if labeled is not None:
            return cls(labeled[1], labeled[0], objective, classes, config)
        drawn = np.random.default_rng([config.seed, 2]).permutation(len(crops))
        table = crops.take(np.sort(drawn[:MOST_CROPS]))
        return cls(table, "", objective, classes, config)

    @property
    def name(self) -> str:
        """Of the figure that says how far training has come."""
        return f"{self.split}_P@{K}" if self.split else ORIENTATION

    def measure(
        self, embed_batch: EmbedBatch, unreadable: Unreadable
    ) -> dict[str, float]:
        """The figures of the network as it is; none where too few crops can be read.
        The first call's are `frozen`.
        """
        config = self.config

        def with_turned(crops: tf.Tensor) -> np.ndarray:
            both = embed_batch(crops), embed_batch(tf.image.rot90(crops))
            return np.concatenate(both, axis=1)

        vectors, valid = embed_readable(
            self.table,
            embed_batch if self.split else with_turned,
            config.embed_size or config.learning.augment.image_size,
            config.embed_batch,
            unreadable=unreadable,
            view=config.window,
        )
        if self.split:
            figures = self._by_labels(vectors, valid)
        else:
            figures = _by_turning(*np.split(vectors, 2, axis=1))
        self.frozen = self.frozen or figures
        return figures

    def _by_labels(self, vectors: np.ndarray, valid: np.ndarray) -> dict[str, float]:
        if len(vectors) <= K:
            return {}
        answers = self.table.column("label_name")[valid]
        qualities = retrieval_quality(vectors, answers, K)
        self.ceiling = macro(qualities, "ceiling")
        figures = {self.name: macro(qualities)}
        logits = self.objective.classify(vectors)
        if logits is not None:
            guesses = np.array(self.classes)[np.argmax(logits, axis=1)]
            right = float((guesses == answers).mean())
            figures[f"{self.split}_accuracy"] = right
        return figures

    def in_words(self, figures: Mapping[str, float]) -> str:
        """The figures, and beside the main one what they are to be compared with."""
        shown = []
        for name, value in figures.items():
            text = f"{name} {value:.3f}"
            if name == self.name and self.frozen:
                frozen = self.frozen[name]
                text += f" (frozen {frozen:.3f}, at best {self.ceiling:.3f})"
            shown.append(text)
        return ", ".join(shown)


def _by_turning(plain: np.ndarray, turned: np.ndarray) -> dict[str, float]:
    """How many rows of `plain` have their own row of `turned` nearest."""
    nearest = np.argmax(l2_normalize(plain) @ l2_normalize(turned).T, axis=1)
    return {ORIENTATION: float((nearest == np.arange(len(plain))).mean())}
