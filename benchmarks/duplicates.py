"""How many planted duplicates are found, how many false ones, and what looking costs.

    python -m benchmarks.duplicates --dir=runs/duplicates             # the sample field
    python -m benchmarks.duplicates --data=DATA --dir=runs/duplicates_photos
    python -m benchmarks.duplicates --dir=runs/duplicates --cost=1000000

Each image is written again in one way: copied, re-encoded as JPEG of quality 60,
resized by 0.8, mirrored, or shifted by three pixels under its boxes. Originals are of
the split train, what was written again of the split test, so that every pair is a leak.
run_embed.py then says which crops show the same. A planted crop is found if it is said
to show the same as its original; a false one joins crops of different originals that
aren't joined when nothing is planted. Intervals are Wilson's, over crops; crops of one
image aren't independent, so they are a little too narrow.

--cost measures with so many thumbnails, blends of two of those crops each, so that none
is planted, against embedding the same crops.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

import run_embed
from artifacts.progress import progress_bar
from curation.config import Recipe
from curation.embedding import make_embedder
from curation.encoders import start_encoder
from data.crop_table import CropTable
from data.duplicates import (
    Looks,
    find_duplicates,
    group_of,
    leaks,
    looks_of,
    read_looks,
)
from data.embeddings import EmbeddingSet
from data.formats.registry import read_source
from data.images import CropWindow, read_image
from data.sample_field import draw_field
from probe.metrics import wilson_interval
from simclr_tf2.config import EncoderConfig

FLAGS = flags.FLAGS
Boxes = np.ndarray
KINDS = ("copy", "quality60", "resized0.8", "mirrored", "shifted3")
QUALITY, SCALE, SHIFT = 60, 0.8, 3


def plant(kind: str, image: Image.Image, boxes: Boxes) -> tuple[Image.Image, Boxes]:
    """An image changed in one way, with the boxes of the same crops [n, 4]."""
    width, height = image.size
    if kind == "resized0.8":
        size = (round(width * SCALE), round(height * SCALE))
        scaled = np.round(boxes * SCALE).astype(int)
        return image.resize(size, Image.Resampling.BICUBIC), np.minimum(
            scaled, [*size, *size]
        )
    if kind == "mirrored":
        left, top, right, bottom = boxes.T
        turned = np.stack([width - right, top, width - left, bottom], axis=1)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), turned
    if kind == "shifted3":
        pixels = np.asarray(image)
        edge = ((SHIFT, 0), (SHIFT, 0), (0, 0))
        moved = np.pad(pixels, edge, mode="edge")[:height, :width]
        return Image.fromarray(moved), boxes
    return image, boxes


def write_planted(table: CropTable, kind: str, folder: Path) -> Path:
    """Writes all images and what is planted, with a CSV of their boxes and splits."""
    folder.mkdir(parents=True)
    lines: list[list[object]] = [
        ["image", "left", "top", "right", "bottom", "split", "original"]
    ]
    images = table.column("image")
    names = list(dict.fromkeys(images))
    for number, name in enumerate(progress_bar(names, desc=kind, unit="image")):
        rows = np.flatnonzero(images == name)
        boxes = table.boxes[rows]
        first, again = f"{number:05d}.png", f"{number:05d}_again"
        image = read_image(table.root / name)
        image.save(folder / first)
        again += ".jpg" if kind == "quality60" else ".png"
        changed, moved = plant(kind, image, boxes)
        changed.save(folder / again, quality=QUALITY)
        for row, box, other in zip(rows, boxes, moved, strict=True):
            lines.append([first, *box, "train", row])
            lines.append([again, *other, "test", row])
    with open(folder / "boxes.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    return folder / "boxes.csv"


def measure(table: CropTable, kind: str, folder: Path) -> dict[str, float]:
    """How many of the planted crops are found, and how many false ones."""
    source = write_planted(table, kind, folder / "data")
    given = [f"--data={source}", f"--embeddings={folder / 'embeddings'}"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        run_embed.main(["run_embed.py", *given, f"--image_size={FLAGS.image_size}"])
    print(out.getvalue().strip().partition("\n\n")[0])
    found = EmbeddingSet.load(folder / "embeddings").table
    group = group_of(found)
    assert group is not None
    original, split = found.column("original"), found.column("split")
    row_of = {
        number: row
        for row, (number, part) in enumerate(zip(original, split, strict=True))
        if part == "train"
    }
    planted = np.flatnonzero(split == "test")
    hits = sum(group[row] == group[row_of[original[row]]] for row in planted)
    low, high = wilson_interval(int(hits), len(planted))
    return {
        "planted": len(planted),
        "found": hits / len(planted),
        "low": low,
        "high": high,
        "joined": _joined(group, original),
        "leaks": len(leaks(found)),
    }


def _joined(group: np.ndarray, original: np.ndarray) -> int:
    """Crops whose group holds crops of several originals, less one a group: as many as
    would be said to show the same though they don't, or though nothing was planted.
    """
    pairs = {*zip(group.tolist(), original.tolist(), strict=True)}
    return len(pairs) - len({first for first, _ in pairs})


def cost(table: CropTable, count: int) -> None:
    """Prints what looking costs at a size."""
    window = CropWindow()
    some = read_looks(table, window, progress_bar)
    rng = np.random.default_rng(FLAGS.seed)
    thumbnails = np.empty((count, *some.thumbnails.shape[1:]), np.uint8)
    for start in range(0, count, 4096):
        part = thumbnails[start : start + 4096]
        one, two = (
            some.thumbnails[rng.integers(len(some.hashes), size=len(part))]
            for _ in range(2)
        )
        share = rng.uniform(0.3, 0.7, (len(part), 1, 1, 1)).astype(np.float32)
        part[:] = share * one + (1 - share) * two
    crops = thumbnails[:512].repeat(3, axis=1).repeat(3, axis=2)
    embedder = make_embedder(start_encoder(EncoderConfig()), Recipe())
    embedder.embed(crops)  # the first call traces
    embed = _seconds(lambda: embedder.embed(crops)) / len(crops) * count
    look = _seconds(lambda: looks_of(crops)) / len(crops) * count
    hashes = np.arange(count, dtype=np.uint64)
    find = _seconds(lambda: find_duplicates(Looks(thumbnails, hashes), progress_bar))
    size = thumbnails.nbytes / 1e9
    print(
        f"{count:,} crops of 96 px: {look:,.0f} s for thumbnails and hashes and "
        f"{find:,.0f} s to compare them, {(look + find) / embed:.2f} of the "
        f"{embed:,.0f} s that the network takes; {size:.1f} GB on the disk meanwhile"
    )


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(argv: list[str]) -> None:
    """Runs the measurement."""
    del argv
    folder = Path(FLAGS.dir)
    folder.mkdir(parents=True, exist_ok=True)
    source = FLAGS.data or folder / "field"
    if not FLAGS.data and not Path(source).exists():
        draw_field(Path(source), FLAGS.images, seed=FLAGS.seed)
    table, _ = read_source(source)
    rng = np.random.default_rng(FLAGS.seed)
    names = np.array(list(dict.fromkeys(table.column("image"))))
    if len(names) > FLAGS.images:
        names = rng.choice(names, FLAGS.images, replace=False)
    table = table.take(np.isin(table.column("image"), names))
    if FLAGS.cost:
        return cost(table, FLAGS.cost)
    alone = find_duplicates(read_looks(table, CropWindow(), progress_bar))
    known = len(alone.rows)
    print(f"{len(table):,} crops of {len(names):,} images; {known} show the same now")
    rows = []
    for kind in KINDS:
        shutil.rmtree(folder / kind, ignore_errors=True)
        found = measure(table, kind, folder / kind)
        share = "{found:.3f} [{low:.3f}, {high:.3f}]".format(**found)
        rows.append(
            f"| {kind} | {found['planted']:,} | {share} | {found['joined'] - known:+d} "
            f"| {found['leaks']:,} |"
        )
        (folder / f"{kind}.json").write_text(json.dumps(found))
    print("\n| planted | crops | found | false | leaks named |")
    print("| --- | --- | --- | --- | --- |")
    print("\n".join(rows))
    return None


if __name__ == "__main__":
    flags.DEFINE_string("data", "", "Images with or without boxes; default: a field.")
    flags.DEFINE_string("dir", "runs/duplicates", "Folder for everything.")
    flags.DEFINE_integer("images", 60, "Of them, drawn at random.")
    flags.DEFINE_integer("image_size", 96, "Side of the crops.")
    flags.DEFINE_integer("cost", 0, "Measure the cost at so many crops instead.")
    flags.DEFINE_integer("seed", 11, "Of the field and the draw.")
    app.run(main)
