"""Which crops stand for one another in contrastive training: the nearest ones, as far
as the network at hand knows them. Loads TensorFlow.

SimCLR's two views are of one crop, so it learns that a crop is like itself. With a
second view of a near crop it learns what a group of crops has in common (as Dwibedi et
al. 2021, arXiv 2104.14548, and Van Gansbeke et al. 2020, arXiv 2005.12320, found). Only
crops that name each other among their nearest count, as in Haghverdi et al. 2018
(10.1038/nbt.4091), and where there are recordings only crops of different ones: within
one, light and soil are alike before plants are.
"""

from __future__ import annotations

import dataclasses
import logging
from functools import partial
from pathlib import Path

import numpy as np

from artifacts.files import write_atomically
from curation.config import Recipe
from curation.embedding import EmbedBatch
from data.crop_table import CropTable
from data.duplicates import group_of
from data.pipeline import Unreadable, embed_readable
from probe.neighbors import NOBODY, mutual_neighbors
from probe.transforms import Transform

_log = logging.getLogger(__name__)

MOST_AT_ONCE = 50_000  # crops; of more, each is compared with so many random others
TRANSFORM = "partial"
_BATCH = 64  # crops that are embedded together


class Partners:
    """The partners of all crops, found anew before the epochs 1, 2, 4, 8 and so on; the
    first, 0, has none. They are kept in a file, for a run that goes on in an epoch.

    Args:
        table: the training crops.
        count: of the nearest that are looked at; 0: nobody ever has a partner.
        recipe: of the vectors to compare.
        seed: of the run.
        file: where they are kept.

    Attributes:
        rows: [N, count] int64, rows of the table, NOBODY where there are fewer; None as
            long as nobody has one.
    """

    def __init__(
        self, table: CropTable, count: int, recipe: Recipe, seed: int, file: Path
    ):
        self.table, self.count, self.recipe = table, count, recipe
        self.seed, self.file = seed, file
        self.rows: np.ndarray | None = None
        self._epoch = 0  # that they were found before

    def prepare(self, epoch: int, embed_batch: EmbedBatch) -> None:
        """Finds the partners for an epoch, unless they are there."""
        wanted = 1 << (epoch.bit_length() - 1) if epoch and self.count else 0
        if wanted == self._epoch:
            return
        if self.file.is_file():
            with np.load(self.file) as kept:
                if int(kept["epoch"]) == wanted:
                    self._epoch, self.rows = wanted, kept["rows"]
                    return
        self._epoch, self.rows = wanted, self._found(embed_batch, epoch)
        save = partial(np.savez, epoch=np.int64(wanted), rows=self.rows)
        write_atomically(self.file, save)

    def _found(self, embed_batch: EmbedBatch, epoch: int) -> np.ndarray:
        vectors, valid = embed_readable(
            self.table,
            embed_batch,
            self.recipe.image_size,
            _BATCH,
            unreadable=Unreadable(),
            view=self.recipe.window,
            with_masks=self.recipe.pooling == "mask",
        )
        found = mutual_neighbors(
            vectors,
            self.count,
            most=MOST_AT_ONCE,
            rng=np.random.default_rng([self.seed, epoch, 3]),
            apart=_apart(self.table)[valid],
            unit_of=lambda part: Transform.fit(TRANSFORM, part)(part),
        )
        readable = np.flatnonzero(valid)
        rows = np.full((len(self.table), self.count), NOBODY, np.int64)
        rows[readable] = np.where(found == NOBODY, NOBODY, readable[found])
        some = (rows != NOBODY).any(axis=1).mean()
        _log.info("%.0f %% of the crops have partners", 100 * some)
        return rows


def recipe_of_partners(recipe: Recipe, image_size: int) -> Recipe:
    """What crops are compared by during training: a recipe in one pass, at the size of
    the training crops.
    """
    return dataclasses.replace(recipe, orientations=1, image_size=image_size)


def _apart(table: CropTable) -> np.ndarray:
    """Numbers, [N] int: crops of the same one are no partners. Where there are several
    recordings, those; otherwise crops that show the same.
    """
    names = table.column("session").astype(str)
    if len({*names} - {""}) > 1:
        # Of a photo of no known recording the photo counts as one.
        names = np.where(names == "", table.column("image").astype(str), names)
        return np.unique(names, return_inverse=True)[1]
    group = group_of(table)
    return np.arange(len(table)) if group is None else group
