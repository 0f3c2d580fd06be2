"""What ideas for contrastive training bring, each alone, against SimCLR's loop.

    python -m benchmarks.ideas --data=DATA               # by class
    python -m benchmarks.ideas                           # the sample field
    python -m benchmarks.ideas --data=DATA --ideas=simclr,neighbors --epochs=12

Every idea trains for --epochs epochs with --seeds seeds, on the same crops, from the
same ImageNet weights; then all crops are embedded by the recipe fast. With --data every
labeled crop of the split `validation` is a query among those of the split (P@20), and
every labeled crop among all (P@50; classes at even and at odd places of the sorted
list). Without, the sample field (synthetic): how many of the 50 nearest to a query meet
the wish of `benchmarks.demo`. Figures are means over seeds, with 95 % intervals
(Student's t) of the paired differences to the first idea. What was measured is kept
below --dir; a second call does only what is missing.

Ideas that didn't help live here alone, so that the figures can be had again:
`all_layers` trains the early layers, too; `decoupled` leaves the positive out of the
loss's denominator (Yeh et al. 2021, arXiv 2110.06848); `local_views` adds two small
views that must find the large ones (Caron et al. 2020, arXiv 2006.09882); `averaged`
embeds by weights averaged over time; `layer_wise` moves early layers less;
`head_first` trains the projection head alone in the first epoch (Kumar et al. 2022,
arXiv 2202.10054).
"""

from __future__ import annotations

import abc
import dataclasses
import json
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from scipy import stats

from artifacts.files import write_json
from artifacts.progress import progress_bar
from artifacts.provenance import provenance
from benchmarks.wish import CRITERION, choose_queries, found_of
from curation.config import RECIPES, FinetuneConfig
from curation.embedding import make_embedder
from curation.partners import Partners, recipe_of_partners
from curation.pool import Pool
from data.crop_cache import CropCache
from data.crop_table import CropTable
from data.embeddings import EmbeddingSet
from data.formats.registry import read_source
from data.pipeline import SOURCE_SCALE, Unreadable, embed_readable, training_batches
from data.sample_field import draw_field
from data.splits import split_mask
from data.where import rows_where
from probe.metrics import macro, retrieval_quality
from simclr_tf2.augment import one_view
from simclr_tf2.config import NOTHING_FROZEN, EncoderConfig, TrainerConfig
from simclr_tf2.encoders.base import Encoder, leaves
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.heads import projections
from simclr_tf2.objectives import Contrastive
from simclr_tf2.trainer import Trainer

FLAGS = flags.FLAGS
BATCH, K = 128, 50
LOCAL_VIEWS, LOCAL_SIZE, LOCAL_AREA = 2, 48, 0.1
AVERAGE = 0.98  # of the averaged weights that stays, a step
LAYER_DECAY = 0.9


def contrast(anchors, candidates, positive, left_out, temperature):
    """Cross entropy of finding one candidate, a mean over anchors.

    Args:
        anchors, candidates: unit vectors, [n, D] and [m, D].
        positive: [n] int, which candidate is to be found.
        left_out: [n, m], 1 for candidates that don't count.
        temperature: of the softmax.
    """
    scores = tf.matmul(anchors, candidates, transpose_b=True) / temperature
    found = tf.gather(scores, positive, batch_dims=1)
    return tf.reduce_mean(tf.reduce_logsumexp(scores - 1e9 * left_out, axis=1) - found)


class Decoupled(Contrastive):
    """The positive is no candidate of its own denominator."""

    def loss(self, embeddings, labels):
        """As `Contrastive`'s, on both views as anchors."""
        projected = projections(self.projection_head, embeddings, training=True)[-1]
        unit = tf.math.l2_normalize(tf.cast(projected, tf.float32), axis=1)
        rows, size = tf.range(len(unit)), len(unit)
        other = (rows + size // 2) % size
        itself = tf.one_hot(rows, size) + tf.one_hot(other, size)
        loss = contrast(unit, unit, other, itself, self.config.temperature)
        return 2 * loss, {}


class OfTwoSizes:
    """An encoder that takes batches of two sizes and joins what they come to."""

    def __init__(self, encoder: Encoder):
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def __call__(self, parts, training: bool = False):
        return tf.concat([self._encoder(part, training) for part in parts], 0)


class LocalViews(Contrastive):
    """Small views of a part of the crop must find both large ones."""

    def __init__(self, encoder, config):
        super().__init__(encoder, config)
        self.encoder = OfTwoSizes(encoder)  # type: ignore[assignment]
        self.local = dataclasses.replace(
            config.augment, image_size=LOCAL_SIZE, min_area=LOCAL_AREA
        )

    def augment(self, image, seed, partner=None):
        """Two large views, and the small ones."""
        fold = tf.random.experimental.stateless_fold_in
        small = [
            one_view(image, fold(seed, 100 + place), self.local)
            for place in range(LOCAL_VIEWS)
        ]
        return (*super().augment(image, seed, partner), *small)

    def images(self, augmented):
        """All large ones, all small ones."""
        return tf.concat(augmented[:2], 0), tf.concat(augmented[2:], 0)

    def loss(self, embeddings, labels):
        """Two times the mean over large anchors, as NT-Xent, and over small ones."""
        size = len(labels)
        loss, figures = super().loss(embeddings[: 2 * size], labels)
        projected = projections(self.projection_head, embeddings, training=True)[-1]
        unit = tf.math.l2_normalize(tf.cast(projected, tf.float32), axis=1)
        large, small = unit[: 2 * size], unit[2 * size :]
        own = tf.range(len(small)) % size
        mask, nothing = tf.one_hot(own, size), tf.zeros((len(small), size))
        for place, left_out in ((0, (nothing, mask)), (size, (mask, nothing))):
            out = tf.concat(left_out, 1)
            loss += contrast(small, large, own + place, out, self.config.temperature)
        return loss, figures


class Averaging(Trainer):
    """Ends with a running mean of the encoder's weights, statistics among them."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.learned = self.objective.encoder.model.weights
        self.means = [tf.Variable(weight.numpy()) for weight in self.learned]

    def _train_step(self, augmented, labels):
        figures = super()._train_step(augmented, labels)
        for mean, weight in zip(self.means, self.learned, strict=True):
            mean.assign_add((1 - AVERAGE) * (tf.convert_to_tensor(weight) - mean))
        return figures

    def run(self, *arguments, **options):
        """Trains, then takes the means."""
        result = super().run(*arguments, **options)
        for mean, weight in zip(self.means, self.learned, strict=True):
            weight.assign(mean)
        return result


class Paced(Trainer, abc.ABC):
    """Moves each variable by a share of what the optimizer says."""

    @abc.abstractmethod
    def pace(self, variable: keras.Variable, step: tf.Tensor) -> tf.Tensor | float:
        """The share, at a step (from 0)."""

    def _train_step(self, augmented, labels):
        variables, step = self.objective.trainable_variables, self.step + 0
        before = [tf.identity(variable) for variable in variables]
        figures = super()._train_step(augmented, labels)
        for variable, old in zip(variables, before, strict=True):
            now = tf.convert_to_tensor(variable)
            variable.assign(old + self.pace(variable, step) * (now - old))
        return figures

    @cached_property
    def blocks(self) -> dict[str, int]:
        """Path of a variable of the encoder -> its block."""
        encoder = self.objective.encoder
        blocks = encoder.blocks
        if blocks is None:
            raise ValueError(f"{encoder.config.name} has no blocks")
        return {
            variable.path: blocks.of(layer.name)
            for layer in leaves(encoder.model)
            for variable in layer.trainable_variables
        }


class LayerWise(Paced):
    """The earlier a block, the slower: a factor for each one that comes after it."""

    def pace(self, variable, step):
        """0.9 to the power of the blocks after it; 1 for heads."""
        last = max(self.blocks.values())
        return LAYER_DECAY ** (last - self.blocks.get(variable.path, last))


class HeadFirst(Paced):
    """The encoder waits for an epoch, while the head learns."""

    def pace(self, variable, step):
        """0 for the encoder in the first epoch, 1 else."""
        if variable.path not in self.blocks:
            return 1.0
        return tf.cast(step >= self.steps_per_epoch, tf.float32)


@dataclasses.dataclass(frozen=True)
class Idea:
    """What is done otherwise."""

    objective: type[Contrastive] = Contrastive
    trainer: type[Trainer] = Trainer
    neighbors: int = 0
    learning: dict[str, Any] = dataclasses.field(default_factory=dict)


IDEAS = {
    "simclr": Idea(),
    "neighbors": Idea(neighbors=FinetuneConfig.neighbors),
    "ten_neighbors": Idea(neighbors=10),
    "decoupled": Idea(Decoupled),
    "local_views": Idea(LocalViews),
    "averaged": Idea(trainer=Averaging),
    "layer_wise": Idea(trainer=LayerWise),
    "head_first": Idea(trainer=HeadFirst),
    "all_layers": Idea(learning={"freeze_through_block": NOTHING_FROZEN}),
}


def train(idea: Idea, crops: CropTable, seed: int, folder: Path) -> Encoder:
    """An encoder that was trained with an idea."""
    keras.utils.set_random_seed(seed)
    encoder = make_encoder(EncoderConfig())
    learning = dataclasses.replace(
        FinetuneConfig().learning, online_linear_eval=False, **idea.learning
    )
    goal = idea.objective(encoder, learning)
    size = learning.augment.image_size
    recipe = recipe_of_partners(RECIPES["fast"], size)
    partners = Partners(crops, idea.neighbors, recipe, seed, folder / "partners.npz")
    compare = make_embedder(encoder, recipe).embed
    cache = CropCache(
        Path(FLAGS.dir) / "crops.cache",
        crops,
        SOURCE_SCALE * size,
        recipe.window,
        progress_bar,
    )

    def batches(epoch: int, start: int) -> tf.data.Dataset:
        return training_batches(
            cache,
            goal.augment,
            BATCH,
            seed=seed,
            epoch=epoch,
            start_batch=start,
            by_session=True,
            partners=partners.rows,
        )

    settings = TrainerConfig(FLAGS.epochs, BATCH, checkpoint_minutes=600)
    trainer = idea.trainer(goal, settings, batches, len(crops) // BATCH, folder)
    trainer.run(
        progress=progress_bar,
        before_epoch=lambda epoch: partners.prepare(epoch, compare),
    )
    return encoder


def measure(vectors: np.ndarray, crops: CropTable) -> dict[str, float]:
    """Figures of all crops' vectors."""
    pool = Pool(
        EmbeddingSet(vectors, crops, {"sha256": ""}, Path(FLAGS.dir), whole=False)
    )
    if not FLAGS.data:
        relevant = rows_where(crops, CRITERION)
        queries = choose_queries(relevant, FLAGS.queries)
        return {"wish": float(found_of(pool, relevant, queries, K).mean())}
    vectors, transform = pool.similar.vectors, pool.similar.transform
    labels = crops.column("label_name")
    held_out = split_mask(crops, "validation")
    found = retrieval_quality(vectors, labels, K, transform=transform)
    validation = retrieval_quality(
        vectors[held_out], labels[held_out], 20, transform=transform
    )
    return {
        "validation_P@20": macro(validation),
        "even_P@50": macro(found[0::2]),
        "odd_P@50": macro(found[1::2]),
    }


def figures_of(name: str, seed: int, crops: CropTable) -> dict[str, float]:
    """Those of one run, which is made if it isn't there."""
    folder = Path(FLAGS.dir) / f"{name}-{FLAGS.epochs}-{seed}"
    stated = folder / "figures.json"
    if stated.is_file():
        return json.loads(stated.read_text())["figures"]
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    encoder = train(IDEAS[name], crops, seed, folder)
    minutes = (time.monotonic() - began) / 60
    recipe = RECIPES["fast"]
    vectors, valid = embed_readable(
        crops,
        make_embedder(encoder, recipe).embed,
        recipe.image_size,
        64,
        unreadable=Unreadable(),
        view=recipe.window,
    )
    figures = measure(vectors, crops.take(valid))
    facts = {"figures": figures, "minutes": minutes, "provenance": provenance(seed)}
    write_json(stated, facts)
    print(f"{name}, seed {seed}: {figures}", flush=True)
    return figures


def row_of(name: str, found: np.ndarray, first: np.ndarray) -> list[str]:
    """A line of the table: [seeds, figures] of an idea and of the first one."""
    cells = [name]
    for value, difference in zip(found.T, (found - first).T, strict=True):
        text = f"{value.mean():.3f}"
        if difference.any() and len(difference) > 1:
            low, high = stats.t.interval(
                0.95,
                len(difference) - 1,
                difference.mean(),
                max(stats.sem(difference), 1e-12),
            )
            text += f" ({difference.mean():+.3f} [{low:+.3f}, {high:+.3f}])"
        cells.append(text)
    return cells


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    folder = Path(FLAGS.dir)
    data = FLAGS.data or str(draw_field(folder / "field", FLAGS.images))
    crops, _ = read_source(data)
    found: dict[str, np.ndarray] = {}
    heads: list[str] = []
    for seed in range(FLAGS.seeds):  # so that early figures are of all ideas
        for name in FLAGS.ideas:
            figures = figures_of(name, seed, crops)
            heads = list(figures)
            line = np.array([list(figures.values())])
            found[name] = np.concatenate([found.get(name, line[:0]), line])
    first = next(iter(found.values()))
    rows = [row_of(name, values, first) for name, values in found.items()]
    for cells in (["idea", *heads], ["---"] * (len(heads) + 1), *rows):
        print(f"| {' | '.join(cells)} |")
    facts = {"data": data, "epochs": FLAGS.epochs, "seeds": FLAGS.seeds, "rows": rows}
    write_json(folder / "ideas.json", {**facts, "provenance": provenance(0)})


if __name__ == "__main__":
    flags.DEFINE_string(
        "data", "", "Images, as run_finetune.py takes them; default: the sample field."
    )
    flags.DEFINE_string("dir", "runs/ideas", "Where everything goes.")
    flags.DEFINE_integer("images", 120, "Images of the sample field.")
    flags.DEFINE_list("ideas", list(IDEAS), "Which, the first as the reference.")
    flags.DEFINE_integer("epochs", 4, "Of each run.", lower_bound=1)
    flags.DEFINE_integer("seeds", 3, "Runs of each idea.", lower_bound=1)
    flags.DEFINE_integer("queries", 40, "For the wish.")
    app.run(main)
