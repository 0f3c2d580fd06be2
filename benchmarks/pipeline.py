"""What reading costs at field scale: images of 1920 x 1088 pixels with many boxes each.

    python -m data.sample_field --dir=field --images=40
    python -m benchmarks.pipeline --data=field

Measured in one run, several times in turn, as ratios: embedding crops from images that
are decoded once against decoding for every crop (the same code, rows of one image kept
apart), and training crops from the cache against decoding the region alone and the
whole image. `--memory_crops=100000` embeds that many crops with a small network and
prints the process's peak memory along the way.
"""

from __future__ import annotations

import itertools
import os
import resource
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from data.crop_cache import CropCache
from data.crop_table import CropTable
from data.formats.registry import read_source
from data.images import CropWindow, cut_at_most, read_image
from data.pipeline import SOURCE_SCALE, Unreadable, embed_crops, embedding_batches
from simclr_tf2.config import EncoderConfig
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.registry import make_encoder

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "data", None, "Field images with boxes, such as the sample field.", required=True
)
flags.DEFINE_integer("image_size", 224, "Side of the crops.")
flags.DEFINE_integer("repetitions", 5, "Of each measurement.")
flags.DEFINE_integer("per_image", 15, "Boxes of an image that are used, at most.")
flags.DEFINE_integer("crops", 600, "Crops a repetition, at most.")
flags.DEFINE_integer(
    "memory_crops", 0, "Crops to embed while watching memory; 0 leaves it out."
)

VIEW = CropWindow()


def rate(work: Callable[[], int]) -> float:
    """Items a second."""
    start = time.perf_counter()
    return work() / (time.perf_counter() - start)


def place_in_image(table: CropTable) -> np.ndarray:
    """Counts the crops of each image from 0, [N]."""
    return np.concatenate(
        [
            np.arange(len(list(group)))
            for _, group in itertools.groupby(table.column("image"))
        ]
    )


def interleaved(table: CropTable) -> CropTable:
    """The same crops with no two of one image next to each other: each is then decoded
    for itself.
    """
    return table.take(np.argsort(place_in_image(table), kind="stable"))


def compare(
    title: str, first: Callable[[], int], others: dict[str, Callable[[], int]]
) -> None:
    """Prints how many times faster `first` is than each of the others, median
    of pairs.
    """
    for work in (first, *others.values()):
        work()  # fills the file cache
    ratios: dict[str, list[float]] = {name: [] for name in others}
    fastest = 0.0
    for _ in range(FLAGS.repetitions):
        speed = rate(first)
        fastest = max(fastest, speed)
        for name, work in others.items():
            ratios[name].append(speed / rate(work))
    print(f"{title}: {fastest:,.0f} crops/s")
    for name, values in ratios.items():
        print(
            f"  times as fast as {name}: {np.median(values):.1f} (from "
            f"{min(values):.1f} to {max(values):.1f})",
            flush=True,
        )


def read_all(table: CropTable) -> int:
    """Reads every crop once."""
    return sum(
        len(valid)
        for _, valid in embedding_batches(
            table, FLAGS.image_size, 64, Unreadable(), view=VIEW
        )
    )


def watch_memory(table: CropTable, count: int) -> None:
    """Embeds `count` boxes around the table's plants and prints the peak memory of this
    process along the way.
    """
    rng = np.random.default_rng(0)
    rows = np.sort(rng.integers(0, len(table), count))
    shift = rng.integers(-8, 9, (count, 2)).repeat(2, axis=0).reshape(count, 4)
    boxes = np.clip(table.boxes[rows] + shift, 0, None)
    columns = {
        name: table.column(name)[rows].tolist()
        for name in ("image", "label", "label_name", "session", "split")
    }
    columns |= {
        side: boxes[:, place].tolist()
        for place, side in enumerate(("left", "top", "right", "bottom"))
    }
    many = CropTable.from_columns(table.root, columns)
    encoder = make_encoder(EncoderConfig("tiny", "random"))
    done, shown = 0, 0
    print(
        f"peak memory so far, while embedding {len(many):,} crops of "
        f"{len(np.unique(many.column('image'))):,} images:"
    )
    for _, valid, _ in embed_crops(
        many, Embedder(encoder).embed, 32, 256, unreadable=Unreadable(), view=VIEW
    ):
        done += len(valid)
        if done >= shown or done == len(many):
            print(
                f"  {done:8,} crops  "
                f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:7,.0f} MB",
                flush=True,
            )
            shown += len(many) // 10


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    table, _ = read_source(FLAGS.data)
    if FLAGS.memory_crops:
        return watch_memory(table, FLAGS.memory_crops)
    table = table.take(place_in_image(table) < FLAGS.per_image)
    table = table.take(np.arange(min(FLAGS.crops, len(table))))
    per_image = len(table) / len(np.unique(table.column("image")))
    print(f"{len(table)} crops, {per_image:.1f} an image, {os.cpu_count()} cores")
    apart = interleaved(table)
    compare(
        "embedding, each image decoded once",
        lambda: read_all(table),
        {"decoding for every crop": lambda: read_all(apart)},
    )

    longest = SOURCE_SCALE * 96
    windows = [VIEW.window(box) for box in table.boxes]
    order = np.random.default_rng(0).permutation(len(table))

    def whole() -> int:
        for row in order:
            cut_at_most(read_image(table.path(row)), table.boxes[row], longest, VIEW)
        return len(order)

    def region() -> int:
        for row in order:
            left, top, right, bottom = windows[row]
            left, top = max(0, left), max(0, top)
            size = table.column("image_height")[row], table.column("image_width")[row]
            window = [top, left, min(bottom, size[0]) - top, min(right, size[1]) - left]
            tf.image.decode_and_crop_jpeg(tf.io.read_file(str(table.path(row))), window)
        return len(order)

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        cache = CropCache(folder, table, longest, VIEW)
        built = time.perf_counter() - start

        def cached() -> int:
            return sum(cache.read(int(row)) is not None for row in order)

        size = sum(path.stat().st_size for path in cache.folder.iterdir())
        print(
            f"crop cache: built in {built:.1f} s, {size / len(table) / 1e3:.0f} kB a "
            "crop"
        )
        compare(
            "training crops in random order, from the cache",
            cached,
            {"decoding the region": region, "decoding the image": whole},
        )
    return None


if __name__ == "__main__":
    app.run(main)
