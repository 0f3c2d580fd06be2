"""The same picture twice: copies, and what was encoded again, resized, mirrored or
shifted a little.

Of each crop a thumbnail is kept. Neighbors among thumbnails of 8 x 8 are candidates;
a pair is one picture if the parts of its thumbnails of 32 x 32 correlate, mirrored or
not, at the shift that fits best. Nothing but pixels decides, so the same is found
whatever encoder is used, and before there is one.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image

from artifacts.progress import Progress, no_progress
from data.crop_table import DUPLICATE_OF, CropTable
from data.images import CropWindow, ImageError, cut, read_image

SIDE = 32  # of thumbnails, in pixels
SAME = 0.88  # likeness from which on two crops show the same
_COARSE = 8  # side of the thumbnails that are searched
_ALIKE = 0.7  # correlation of those, from which on a pair is looked at
_NEIGHBORS = 4  # that each crop is compared with
_SHIFT = 3  # pixels of a thumbnail, at most
_PART = 8  # side of the parts that are compared
_LEAST_PARTS = 4  # that must show something
_FLAT = 3.0  # standard deviation, in gray levels, of a crop that shows nothing
_FLAT_PART = 1.0  # the same of a part
_LOOKED_AT = 64  # side of crops that are read for their thumbnail alone
_EXACT_ROWS = 20_000  # beyond, neighbors are looked for in cells
_ROUNDS = 3  # of other cells
_BLOCK = 2048


@dataclass(frozen=True)
class Looks:
    """How crops look.

    Attributes:
        thumbnails: [N, 32, 32, 3] uint8, blurred so that shifts by parts of a pixel
            don't matter.
        hashes: [N] uint64, of all pixels.
    """

    thumbnails: np.ndarray
    hashes: np.ndarray


@dataclass(frozen=True)
class Duplicates:
    """Which crops show the same.

    Attributes:
        group: [N] int, the row of the first crop that shows the same; its own for most.
        exact: [N] bool, whether another crop has the very same pixels.
    """

    group: np.ndarray
    exact: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Rows that show the same as an earlier one."""
        return np.flatnonzero(self.group != np.arange(len(self.group)))


def looks_of(crops: np.ndarray) -> Looks:
    """Thumbnails and hashes of crops, [n, height, width, 3] uint8, of any size."""
    thumbnails = np.empty((len(crops), SIDE, SIDE, 3), np.float32)
    hashes = []
    for row, crop in enumerate(crops):
        small = Image.fromarray(crop).resize((SIDE, SIDE), Image.Resampling.BOX)
        thumbnails[row] = np.asarray(small)
        hashes.append(hashlib.blake2b(crop.tobytes(), digest_size=8).digest())
    blurred = _blurred(thumbnails).round().astype(np.uint8)
    return Looks(blurred, np.frombuffer(b"".join(hashes), np.uint64))


def read_looks(
    table: CropTable, window: CropWindow, progress: Progress = no_progress
) -> Looks:
    """Reads all crops for their looks alone. Those that can't be read look flat."""
    images = table.column("image")
    groups = [
        list(rows)
        for _, rows in itertools.groupby(range(len(table)), key=lambda row: images[row])
    ]

    def look(rows: list[int]) -> Looks:
        crops = np.zeros((len(rows), _LOOKED_AT, _LOOKED_AT, 3), np.uint8)
        try:
            image = read_image(table.path(rows[0]))
        except ImageError:
            return looks_of(crops)
        for place, row in enumerate(rows):
            crops[place] = np.asarray(cut(image, table.boxes[row], _LOOKED_AT, window))
        return looks_of(crops)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        every = progress(
            pool.map(look, groups), total=len(groups), unit="image", desc="looking"
        )
        found = list(every)
    return Looks(
        np.concatenate([looks.thumbnails for looks in found]),
        np.concatenate([looks.hashes for looks in found]),
    )


def find_duplicates(looks: Looks, progress: Progress = no_progress) -> Duplicates:
    """Finds crops that show the same. Crops that show nothing, such as bare walls or
    black margins, are no duplicates of one another.

    Args:
        looks: of N crops.
        progress: wraps the iterations over cells, where there are many crops, and over
            blocks of pairs.
    """
    count = len(looks.hashes)
    shows = np.concatenate(
        [_shows_something(block) for block in _blocks(looks.thumbnails)]
        or [np.empty(0, bool)]
    )
    rows = np.flatnonzero(shows)
    _, first, place = np.unique(
        looks.hashes[rows], return_index=True, return_inverse=True
    )
    is_copied = np.bincount(place, minlength=1) > 1
    exact = np.zeros(count, bool)
    exact[rows[is_copied[place]]] = True
    pairs = [np.stack([rows, rows[first][place]], axis=1)]
    # Of those with the very same pixels one is enough to look for others.
    one_each = np.sort(rows[first])
    candidates = one_each[_candidates(looks.thumbnails, one_each, progress)]
    blocks = list(_blocks(candidates))

    def alike(part: np.ndarray) -> np.ndarray:
        left, right = (looks.thumbnails[part[:, side]] for side in (0, 1))
        return part[likeness(left, right) >= SAME]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        every = pool.map(alike, blocks)
        pairs += progress(every, total=len(blocks), unit="block", desc="comparing")
    return Duplicates(first_of_joined(np.concatenate(pairs), count), exact)


def first_of_joined(pairs: np.ndarray, count: int) -> np.ndarray:
    """The smallest of all that pairs join something with, directly or by others.

    Args:
        pairs: [m, 2] int, from 0 to count - 1.
        count: of things.

    Returns:
        [count] int; its own place for what nothing is joined with.
    """
    from scipy.sparse import coo_array  # takes a while to import
    from scipy.sparse.csgraph import connected_components

    links = (np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1]))
    graph = coo_array(links, (count, count))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    return first[component]


def with_duplicates(table: CropTable, duplicates: Duplicates) -> CropTable:
    """The table with the column `duplicate_of`: id of the first crop that shows the
    same, "" for a crop that is the first itself.
    """
    names = np.full(len(table), "", object)
    names[duplicates.rows] = table.ids[duplicates.group[duplicates.rows]]
    return table.with_column(DUPLICATE_OF, pa.array(names.tolist(), pa.string()))


def repaired(table: CropTable) -> CropTable:
    """The table, with a new first one where the first crop of those that show the same
    isn't in it any more.
    """
    group = group_of(table)
    if group is None:
        return table
    return with_duplicates(table, Duplicates(group, np.zeros(len(group), bool)))


def group_of(table: CropTable) -> np.ndarray | None:
    """Row of the first crop that shows the same, [N] int, as the table's column says;
    None where nobody has looked. Where that crop isn't in the table any more, the first
    of the others is.
    """
    if DUPLICATE_OF not in table.rows.column_names:
        return None
    stated = table.column(DUPLICATE_OF)
    names = np.where(stated == "", table.ids, stated).astype(str)
    _, first, place = np.unique(names, return_index=True, return_inverse=True)
    return first[place]


def first_of_each(table: CropTable, mask: np.ndarray) -> np.ndarray:
    """The rows of a mask without those that show the same as an earlier one of them,
    [N] bool.

    Raises:
        ValueError: nobody has looked which crops show the same.
    """
    group = group_of(table)
    if group is None:
        raise ValueError(
            "hide_duplicates needs an embedding set that knows which crops show the "
            "same; this one was made without looking: embed the crops again, into "
            "another folder"
        )
    rows = np.flatnonzero(mask)
    _, first = np.unique(group[rows], return_index=True)
    found = np.zeros(len(mask), bool)
    found[rows[first]] = True
    return found


def leaks(table: CropTable) -> list[tuple[int, int]]:
    """Pairs of rows of two splits that show the same: the later row, and the first of
    its group.
    """
    group, splits = group_of(table), table.column("split")
    if group is None:
        return []
    return [
        (row, int(first))
        for row, first in enumerate(group)
        if splits[row] and splits[first] and splits[row] != splits[first]
    ]


def likeness(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How alike thumbnails are: the mean correlation of their parts, 8 x 8 pixels each,
    at the shift of at most 3 pixels and the reflection that fit best. Part by part,
    since in photos of one place, such as a table or a tray, all but what matters is
    the same, and correlates as a whole.

    Args:
        left, right: [n, 32, 32, 3] uint8.

    Returns:
        [n] float32 in [-1, 1]; -1 where fewer than 4 parts show anything.
    """
    first, second = left.astype(np.float32), right.astype(np.float32)
    mirrored = second[:, :, ::-1]
    is_mirrored = _product(first, mirrored) > _product(first, second)
    second = np.where(is_mirrored[:, None, None, None], mirrored, second)
    down, across = _best_shift(first, second)
    found = np.empty(len(left), np.float32)
    for shift in {*zip(down.tolist(), across.tolist(), strict=True)}:
        rows = np.flatnonzero((down == shift[0]) & (across == shift[1]))
        found[rows] = _of_parts(*_overlap(first[rows], second[rows], *shift))
    return found


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Inner products, [n], less the means of the left ones."""
    centered = left - left.mean(axis=(1, 2), keepdims=True)
    return np.einsum("nijk,nijk->n", centered, right)


def _of_parts(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Mean correlation of the parts of two pictures, [n] float32."""
    ours, others = _parts(left), _parts(right)
    lengths = [np.linalg.norm(one, axis=-1) for one in (ours, others)]
    shows = np.minimum(*lengths) >= _FLAT_PART * ours.shape[-1] ** 0.5
    product = (ours * others).sum(axis=-1) / np.maximum(lengths[0] * lengths[1], 1e-6)
    count = shows.sum(axis=1)
    mean = (product * shows).sum(axis=1) / np.maximum(count, 1)
    return np.where(count >= _LEAST_PARTS, mean, -1).astype(np.float32)


def _parts(pictures: np.ndarray) -> np.ndarray:
    """[n, parts, values] of whole parts, less each color's mean."""
    count, height, width = (
        pictures.shape[0],
        pictures.shape[1] // _PART,
        pictures.shape[2] // _PART,
    )
    whole = pictures[:, : height * _PART, : width * _PART]
    parts = whole.reshape(count, height, _PART, width, _PART, 3).swapaxes(2, 3)
    parts = parts - parts.mean(axis=(3, 4), keepdims=True)
    return parts.reshape(count, height * width, -1)


def _blurred(pictures: np.ndarray) -> np.ndarray:
    """By (1, 2, 1) / 4 twice each way, [n, height, width, 3] float32."""
    from scipy.ndimage import convolve1d  # takes a while to import

    kernel = np.array([1, 4, 6, 4, 1], np.float32) / 16  # twice in one
    for axis in (1, 2):
        pictures = convolve1d(pictures, kernel, axis, mode="nearest")
    return pictures


def _best_shift(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shift, down and across, at which two correlate best in gray, by a Fourier
    transform with edges faded out.
    """
    from scipy.fft import irfft2, rfft2  # takes a while to import

    fade = np.hanning(SIDE + 2)[1:-1].astype(np.float32)
    window = fade[:, None] * fade
    grays = (one.mean(axis=3) for one in (left, right))
    spectra = [
        rfft2(window * (one - one.mean(axis=(1, 2), keepdims=True))) for one in grays
    ]
    surface = irfft2(spectra[0] * spectra[1].conj(), (SIDE, SIDE))
    shifts = np.arange(-_SHIFT, _SHIFT + 1)
    near = surface[:, shifts][:, :, shifts].reshape(len(left), -1)
    down, across = np.divmod(near.argmax(axis=1), len(shifts))
    return shifts[down], shifts[across]


def _overlap(
    left: np.ndarray, right: np.ndarray, down: int, across: int
) -> tuple[np.ndarray, np.ndarray]:
    """What both show where the left one lies so much further down and across."""

    def part(by: int) -> tuple[slice, slice]:
        return slice(max(0, by), SIDE + min(0, by)), slice(
            max(0, -by), SIDE + min(0, -by)
        )

    (top, other_top), (side, other_side) = part(down), part(across)
    return left[:, top, side], right[:, other_top, other_side]


def _shows_something(thumbnails: np.ndarray) -> np.ndarray:
    return thumbnails.std(axis=(1, 2), dtype=np.float32).max(axis=1) >= _FLAT


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(array), _BLOCK):
        yield array[start : start + _BLOCK]


# Candidates


def _candidates(
    thumbnails: np.ndarray, rows: np.ndarray, progress: Progress
) -> np.ndarray:
    """Pairs of places in `rows` whose coarse thumbnails are neighbors, [m, 2] int,
    each once, the smaller first.
    """
    if len(rows) < 2:
        return np.empty((0, 2), np.int64)
    features = np.concatenate(
        [
            _coarse(thumbnails[rows[start : start + _BLOCK]])
            for start in range(0, len(rows), _BLOCK)
        ]
    )
    if len(rows) <= _EXACT_ROWS:
        every = np.arange(len(rows))
        found = _neighbors(features, every, every)
    else:
        found = _in_cells(features, progress)
    found.sort(axis=1)
    return np.unique(found, axis=0)


def _coarse(thumbnails: np.ndarray) -> np.ndarray:
    """Unit vectors of 8 x 8 thumbnails, [n, 192] float32."""
    size = SIDE // _COARSE
    small = thumbnails.reshape(-1, _COARSE, size, _COARSE, size, 3)
    means = small.mean(axis=(2, 4), dtype=np.float32)
    flat = (means - means.mean(axis=(1, 2, 3), keepdims=True)).reshape(len(means), -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.maximum(length, 1e-6)


def _mirrored(features: np.ndarray) -> np.ndarray:
    shape = (-1, _COARSE, _COARSE, 3)
    return np.ascontiguousarray(features.reshape(shape)[:, :, ::-1]).reshape(
        features.shape
    )


def _neighbors(
    features: np.ndarray, rows: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Pairs of each of the rows with its nearest others, mirrored or not, [m, 2]."""
    pairs = [np.empty((0, 2), np.int64)]
    known = features[others].T
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        own = features[part]
        alike = np.maximum(own @ known, _mirrored(own) @ known)
        alike[part[:, None] == others] = -1
        count = min(_NEIGHBORS, alike.shape[1])
        near = np.argpartition(-alike, count - 1, axis=1)[:, :count]
        good = np.take_along_axis(alike, near, axis=1) >= _ALIKE
        row, column = np.nonzero(good)
        pairs.append(np.stack([part[row], others[near[row, column]]], axis=1))
    return np.concatenate(pairs)


def _in_cells(features: np.ndarray, progress: Progress) -> np.ndarray:
    """The same among those that lie nearest to the same of some crops, drawn anew a few
    times: what is nearly the same lies in one cell at least once.
    """
    rng = np.random.default_rng(0)
    pairs = []
    for turn in range(1, _ROUNDS + 1):
        drawn = rng.choice(len(features), int(len(features) ** 0.5), replace=False)
        centers = features[drawn].T
        # A mirrored crop is put where its counterpart would be.
        cell, other = (
            np.concatenate([(block @ centers).argmax(axis=1) for block in blocks])
            for blocks in (
                _blocks(features),
                map(_mirrored, _blocks(features)),
            )
        )
        order, other_order = (np.argsort(one, kind="stable") for one in (cell, other))
        edges, other_edges = (
            np.searchsorted(one[by], np.arange(len(drawn) + 1))
            for one, by in ((cell, order), (other, other_order))
        )
        name = f"neighbors {turn}/{_ROUNDS}"
        for number in progress(range(len(drawn)), unit="cell", desc=name):
            inside = order[edges[number] : edges[number + 1]]
            beside = other_order[other_edges[number] : other_edges[number + 1]]
            pairs.append(_neighbors(features, inside, np.union1d(inside, beside)))
    return np.concatenate(pairs)
