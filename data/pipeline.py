"""tf.data pipelines over a crop table. The only module of `data` that imports
TensorFlow.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from data.crop_cache import CropCache
from data.crop_table import CropTable
from data.images import STRETCHED, CropWindow, ImageError, cut, read_image
from data.label_maps import LabelMaps
from data.tiles import plant_pixels

# Training crops keep up to this many times the training size, so that a random resized
# crop still has pixels to show.
SOURCE_SCALE = 2
PARTNER_SHARE = 0.8  # of crops that have partners


class Unreadable:
    """Collects the images that couldn't be decoded while a pipeline ran. Safe to share
    between threads.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, image: str, reason: str) -> None:
        """Notes an image; its first reason stays."""
        with self._lock:
            self.reasons.setdefault(image, reason)


def embedding_batches(
    table: CropTable,
    image_size: int,
    batch_size: int,
    unreadable: Unreadable,
    *,
    start: int = 0,
    stop: int | None = None,
    view: CropWindow = STRETCHED,
    with_masks: bool = False,
) -> tf.data.Dataset:
    """Batches of crops in table order, without augmentation. Each image is read and
    decoded once, however many crops it holds.

    Args:
        table: crops; rows of one image must be neighbours, as `CropTable.from_columns`
            leaves them.
        image_size: side of the square crops.
        batch_size: crops a batch; the last one may be smaller.
        unreadable: receives the images that can't be decoded.
        start, stop: the first row, and the one behind the last; default all.
        view: what of a box is shown.
        with_masks: whether the foreground is a fourth channel, 0 or 255: pixels of the
            crop's label in its label map, those that are green as plants are where
            there is no map.

    Returns:
        A dataset of (crops, valid): uint8 [batch, image_size, image_size, 3 or 4], bool
        [batch]. Crops of unreadable images are black and not valid, so that rows stay
        aligned with the table.
    """
    end = len(table) if stop is None else stop
    groups = _groups_of_whole_images(table, start, end, batch_size)
    boxes, images = table.boxes, [str(image) for image in table.column("image")]
    channels = 4 if with_masks else 3
    masks = LabelMaps(table) if with_masks else None

    def load(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = groups[int(index)]
        crops = np.zeros((len(rows), image_size, image_size, channels), np.uint8)
        valid = np.zeros(len(rows), bool)
        for image, of_image in itertools.groupby(
            enumerate(rows), key=lambda place: images[place[1]]
        ):
            try:
                decoded = read_image(table.root / image)
            except ImageError as error:
                unreadable.add(image, error.reason)
                continue
            for place, row in of_image:
                pixels = np.asarray(cut(decoded, boxes[row], image_size, view))
                crops[place, ..., :3], valid[place] = pixels, True
                if masks is not None:
                    found = masks.cut(row, decoded.size, image_size, view)
                    shown = plant_pixels(pixels) if found is None else found
                    crops[place, ..., 3] = 255 * shown
        return crops, valid

    def load_op(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        crops, valid = tf.numpy_function(
            load, [index], (tf.uint8, tf.bool), stateful=False
        )
        crops.set_shape((None, image_size, image_size, channels))
        valid.set_shape((None,))
        return crops, valid

    # Whole groups travel through the pipeline: an element for each crop would be copied
    # at every stage.
    loaded = tf.data.Dataset.range(len(groups)).map(
        load_op, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    return loaded.rebatch(batch_size).prefetch(2).with_options(_half_the_cores())


def _half_the_cores() -> tf.data.Options:
    """Decoding on half the cores: on a machine without accelerator the other half stays
    with the encoder.
    """
    options = tf.data.Options()
    options.threading.private_threadpool_size = max(1, (os.cpu_count() or 2) // 2)
    return options


def _groups_of_whole_images(
    table: CropTable, start: int, stop: int, size: int
) -> list[range]:
    """Runs of rows that end where an image ends and hold at least `size` rows, the last
    one excepted.
    """
    images = table.column("image")
    ends = [
        row + 1
        for row in range(start, stop)
        if row + 1 == stop or images[row] != images[row + 1]
    ]
    groups, first = [], start
    for end in ends:
        if end - first >= size or end == stop:
            groups.append(range(first, end))
            first = end
    return groups


def training_order(
    table: CropTable, batch_size: int, seed: int, epoch: int, by_session: bool
) -> np.ndarray:
    """The rows of an epoch in the order of its batches, a function of (seed, epoch)
    alone.

    Args:
        table: the crops.
        batch_size: of the batches; the remainder is dropped.
        seed, epoch: of the run, and counted from 0.
        by_session: whether a batch is filled from as few recording sessions as
            possible. In a mixed batch a contrastive network can tell most crops apart
            by their soil and light; among crops of one session it must look at the
            plant.

    Returns:
        [N // batch_size * batch_size] int, rows, each at most once.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(table))[: len(table) // batch_size * batch_size]
    if not by_session:
        return order
    _, session = np.unique(table.column("session").astype(str), return_inverse=True)
    place = rng.permutation(session.max() + 1)[session[order]]
    return rng.permutation(
        order[np.argsort(place, kind="stable")].reshape(-1, batch_size)
    ).ravel()


def training_batches(
    cache: CropCache,
    augment: Callable[..., Any],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    start_batch: int = 0,
    by_session: bool = False,
    partners: np.ndarray | None = None,
    replicas: int = 1,
    worker: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """One epoch of shuffled, augmented batches, a function of (seed, epoch) alone.

    The order is a permutation drawn from (seed, epoch), and each crop's augmentation is
    seeded by (seed, epoch, row), so a run that is killed and resumed at `start_batch`
    sees the batches it would have seen. A crop that couldn't be read is replaced by the
    next one that could, which keeps the number and size of batches.

    Args:
        cache: the crops to train on, SOURCE_SCALE times as large as the crops that
            `augment` makes.
        augment: (uint8 RGB [height, width, 3], int32 seed [2]) -> a nest of tensors,
            stateless. With partners it takes the partner's pixels as well.
        batch_size: crops a batch, a multiple of replicas; a smaller remainder is
            dropped, as contrastive losses compare within full batches.
        seed: of the run.
        epoch: counts from 0.
        start_batch: how many batches to leave out.
        by_session: see `training_order`.
        partners: [N, n] int, rows that count as the same crop, negative where there are
            fewer. A crop comes with one of its, or with itself where it has none, and
            in a share of 1 - PARTNER_SHARE.
        replicas: how many devices share a batch. An element of the dataset is the share
            of one of them, batch_size / replicas crops; those of a step follow one
            another in the order of the devices.
        worker: (index of this process, number of processes); the dataset holds the
            shares of its own devices alone.

    Returns:
        A dataset of (augmented, label): what `augment` returns, batched, and int32
        [batch], the place of the crop's class in `table.classes`, -1 for the
        unlabelled; with partners [batch, 2], of the crop and of its partner.
    """
    table = cache.table
    steps = training_order(table, batch_size, seed, epoch, by_session).reshape(
        -1, worker[1], batch_size // worker[1]
    )
    order = steps[start_batch:, worker[0]].ravel()
    labels = table.class_indices

    def readable(row: int) -> tuple[int, np.ndarray]:
        for candidate in itertools.chain(range(row, len(table)), range(row)):
            crop = cache.read(candidate)
            if crop is not None:
                return candidate, crop
        raise ValueError("none of the crops could be read; nothing to train on")

    def load(row: np.ndarray) -> list[np.ndarray]:
        place, crop = readable(int(row))
        if partners is None:
            return [labels[place], crop]
        rng = np.random.default_rng([seed, epoch, int(row)])
        known = partners[place][partners[place] >= 0]
        chosen = place
        if len(known) and rng.random() < PARTNER_SHARE:
            chosen = int(rng.choice(known))
        other, partner = readable(chosen)
        return [labels[[place, other]], crop, partner]

    def load_op(row: tf.Tensor):
        count = 1 if partners is None else 2
        label, *crops = tf.numpy_function(
            load, [row], (tf.int32, *[tf.uint8] * count), stateful=False
        )
        label.set_shape(() if partners is None else (2,))
        for crop in crops:
            crop.set_shape((None, None, 3))
        first, *second = crops
        key = tf.random.experimental.stateless_fold_in(
            tf.constant([seed, epoch], tf.int32), tf.cast(row, tf.int32)
        )
        return augment(first, key, *second), label

    rows = tf.data.Dataset.from_tensor_slices(order)
    crops = rows.map(load_op, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return crops.batch(batch_size // replicas, drop_remainder=True).prefetch(2)


def embed_crops(
    table: CropTable,
    embed: Callable[[tf.Tensor], np.ndarray],
    image_size: int,
    batch_size: int,
    *,
    unreadable: Unreadable,
    start: int = 0,
    stop: int | None = None,
    view: CropWindow = STRETCHED,
    with_masks: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Embeds crops in table order.

    Args:
        embed: uint8 [batch, image_size, image_size, 3 or 4] -> float32 [batch, width];
            `Embedder.embed`.
        table, image_size, batch_size, unreadable, start, stop, view, with_masks: see
            `embedding_batches`.

    Yields:
        (vectors, valid, crops) a batch: float32 [batch, width], bool [batch] and the
        crops themselves, uint8 [batch, image_size, image_size, 3].
    """
    for crops, valid in embedding_batches(
        table,
        image_size,
        batch_size,
        unreadable,
        start=start,
        stop=stop,
        view=view,
        with_masks=with_masks,
    ):
        yield embed(crops), valid.numpy(), crops.numpy()[..., :3]


def embed_readable(*arguments, **options) -> tuple[np.ndarray, np.ndarray]:
    """All at once what `embed_crops` gives in batches: the vectors of the crops that
    could be read, and which these are.

    Args:
        arguments, options: those of `embed_crops`.

    Returns:
        float32 [readable, width] and bool [N].
    """
    batches = [
        (vectors[valid], valid)
        for vectors, valid, _ in embed_crops(*arguments, **options)
    ]
    vectors, valid = (np.concatenate(part) for part in zip(*batches, strict=True))
    return vectors, valid
