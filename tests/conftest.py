"""Shared fixtures: a folder of small images whose classes a network can tell apart, and
a small field.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import io
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from PIL import Image

from data.crop_table import CropTable
from data.embedding_writer import EmbeddingWriter
from data.embeddings import EmbeddingSet
from data.formats.base import SourceOptions
from data.formats.registry import read_source
from data.images import CropWindow, cut, read_image
from data.report import Report
from data.sample_field import draw_field
from data.where import rows_where
from probe.transforms import l2_normalize

if TYPE_CHECKING:
    import tensorflow as tf


@functools.cache
def make_two_devices() -> None:
    """Two devices on one machine, before anything else runs, so that distribution can
    be tested. Tests without TensorFlow start ten seconds sooner.
    """
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Before a test module that has to do with TensorFlow is imported."""
    needs = ("tensorflow", "keras", "simclr_tf2")
    if isinstance(collector, pytest.Module):
        content = collector.path.read_text()
        if any(one in content for one in needs):
            make_two_devices()


GOLDEN = Path(__file__).parent / "golden"
COLORS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 40)}


@functools.cache
def two_devices() -> tf.distribute.Strategy:
    """The strategy over both devices; one for the whole process, since a second one
    would count its exchanges anew.
    """
    from simclr_tf2.distribute import make_strategy

    return make_strategy("mirrored")


def reader(kind: str) -> Callable[..., tuple[CropTable, Report]]:
    """Reads a source as one format."""
    return lambda data, **options: read_source(data, SourceOptions(kind, **options))


read_box_csv = reader("csv")
read_coco = reader("coco")
read_cropandweed = reader("cropandweed")
read_image_folder = reader("folder")
read_yolo = reader("yolo")


def noisy(color: tuple[int, int, int], size: tuple[int, int], seed: int) -> Image.Image:
    """An image of one colour with noise, width x height."""
    noise = np.random.default_rng(seed).normal(0, 25, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8))


def set_of(
    vectors: np.ndarray, labels: list[str] | None = None, **columns: list
) -> EmbeddingSet:
    """An embedding set in memory, one whole image per vector, with more columns if any;
    nothing lies behind it.
    """
    count = len(vectors)
    names = ["" if labels is None else labels[row] for row in range(count)]
    classes = sorted(set(names) - {""})
    table = CropTable.from_columns(
        "nowhere",
        {
            "image": [f"{row:05d}.png" for row in range(count)],
            "left": [0] * count,
            "top": [0] * count,
            "right": [9] * count,
            "bottom": [9] * count,
            "label": [classes.index(name) if name else -1 for name in names],
            "label_name": names,
            "session": [""] * count,
            "split": [""] * count,
            **columns,
        },
    )
    vectors = np.asarray(vectors, np.float32)
    meta = {
        "sha256": hashlib.sha256(vectors.tobytes()).hexdigest(),
        "table_hash": table.content_hash,
        "encoder_hash": "made up",
        "endpoint": "made up",
        "image_size": 32,
        "view": {"padding": 0.0, "square": True, "fill": "reflect"},
    }
    return EmbeddingSet(vectors, table, meta, Path("nowhere"), whole=False)


@pytest.fixture(scope="session")
def species_set() -> EmbeddingSet:
    """400 plants of four species and none, whose vectors tell them apart with noise:
    made up in no time, for what needs neither pictures nor a network.
    """
    rng = np.random.default_rng(5)
    species = ["Maize", "Pea", "Potato", "Sugar beet", ""]
    which = rng.choice(5, 400, p=[0.3, 0.25, 0.2, 0.15, 0.1])
    leaves = rng.integers(0, 9, 400).astype(float)
    leaves[rng.random(400) < 0.1] = np.nan
    return set_of(
        rng.normal(size=(5, 32))[which] + 1.5 * rng.normal(size=(400, 32)),
        [species[one] or "Vegetation" for one in which],
        species=[species[one] for one in which],
        lighting=rng.choice(["cloudy", "sunny"], 400).tolist(),
        true_leaves=leaves.tolist(),
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of 12 photos of 40 x 32 pixels, in `class/image.png`."""
    root = tmp_path / "photos"
    for number, (name, color) in enumerate(COLORS.items()):
        (root / name).mkdir(parents=True)
        for photo in range(12):
            noisy(color, (40, 32), 100 * number + photo).save(
                root / name / f"{photo:02d}.png"
            )
    return root


@pytest.fixture
def table(photos: Path) -> CropTable:
    """The crops of `photos`."""
    return read_image_folder(photos)[0]


def mean_color(crops) -> np.ndarray:
    """Stands for a network: blue, green and red photos lie apart."""
    return np.asarray(crops, np.float32).mean(axis=(1, 2)) - 100


@pytest.fixture(scope="session")
def field(tmp_path_factory) -> Path:
    """A sample field of eleven images: two sessions and the first image of the next.
    Not to be changed.
    """
    return draw_field(tmp_path_factory.mktemp("field"), 11, seed=3)


FILES_OF_0_5_0 = Path(__file__).parent / "files_of_0_5_0"
WISH = "species = 'Sugar beet' AND true_leaves BETWEEN 4 AND 6"


@pytest.fixture(scope="session")
def field_set(tmp_path_factory, field: Path) -> Path:
    """An embedding set of the sample field by a tiny encoder with random weights, whose
    vectors also tell, with noise, what meets WISH: so that marking has something to
    find. Not to be changed."""
    make_two_devices()
    import keras

    from simclr_tf2.config import EncoderConfig
    from simclr_tf2.encoders.embedder import Embedder
    from simclr_tf2.encoders.registry import make_encoder

    run = tmp_path_factory.mktemp("run")
    table, _ = read_cropandweed(field)
    keras.utils.set_random_seed(1)
    encoder = make_encoder(EncoderConfig("tiny", "random"))
    encoder.save(run)
    view = CropWindow()
    crops = [
        np.asarray(cut(read_image(table.path(row)), table.boxes[row], 32, view))
        for row in range(len(table))
    ]
    vectors = l2_normalize(Embedder(encoder).embed(np.stack(crops)))
    rng = np.random.default_rng(0)
    signal = l2_normalize(rng.normal(size=vectors.shape[1]))
    vectors = (
        vectors
        + (0.1 * rows_where(table, WISH) + rng.normal(0, 0.05, len(table)))[:, None]
        * signal
    )
    identity = {
        "encoder_hash": encoder.content_hash(),
        "endpoint": encoder.features,
        "image_size": 32,
    }
    writer = EmbeddingWriter(
        run / "embeddings",
        table,
        vectors.shape[1],
        identity | {"view": dataclasses.asdict(view)},
    )
    writer.append(vectors.astype(np.float32), np.ones(len(table), bool))
    writer.finish({"encoder": "tiny", "weights": "../encoder.weights.h5"})
    return run / "embeddings"


def read_card(folder: Path) -> dict:
    """The card of an export."""
    return json.loads((Path(folder) / "card.json").read_text(encoding="utf-8"))


@dataclasses.dataclass(frozen=True)
class Done:
    """What a call of a script came to."""

    returncode: int
    stdout: str
    stderr: str


def call(script: str, *arguments: object, check: bool = True) -> Done:
    """Runs a script's main in this process, as `python <script> <arguments>` would."""
    main = importlib.import_module(script.removesuffix(".py")).main
    out, err = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(err)
    loggers = [logging.getLogger(name) for name in ("curation", "simclr_tf2")]
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for logger in loggers:
            logger.addHandler(handler)
        try:
            main([script, *map(str, arguments)])
        except SystemExit as stop:
            code = 1
            err.write(f"{stop.code}\n")
        finally:
            for logger in loggers:
                logger.removeHandler(handler)
            if "keras" in sys.modules:
                sys.modules["keras"].mixed_precision.set_global_policy("float32")
    done = Done(code, out.getvalue(), err.getvalue())
    assert not check or code == 0, done.stderr
    return done


def failure(script: str, *arguments: object) -> str:
    """The message of a call that must fail with one."""
    done = call(script, *arguments, check=False)
    assert done.returncode == 1, done.stdout
    return done.stderr.strip().splitlines()[-1]


TINY = ["--encoder=tiny", "--weights=random", "--image_size=32", "--batch_size=8"]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    from tests.page_driver import ARGUMENTS, BROWSERS

    path = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )
    with sync_playwright() as playwright:
        path = (
            path or playwright.chromium.executable_path
        )  # what `playwright install chromium` leaves
        if not Path(path).exists():
            pytest.fail(
                "these tests need Chromium: `make browser`, or its path in CHROMIUM",
                pytrace=False,
            )
        found = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def server(field_set, tmp_path_factory):
    from tests.page_driver import Server

    found = Server(field_set, tmp_path_factory.mktemp("page") / "sessions")
    yield found
    found.close()


@pytest.fixture
def serve():
    """Starts servers and stops them when the test is over."""
    from tests.page_driver import Server

    started = []

    def start_one(*arguments, **options):
        started.append(Server(*arguments, **options))
        return started[-1]

    yield start_one
    for one in started:
        one.close()


@pytest.fixture
def open_page(browser):
    """Opens pages whose errors fail the test."""
    contexts, problems = [], []

    def open_one(url, width=1280, height=800, context=None, **options):
        if context is None:
            context = browser.new_context(
                viewport={"width": width, "height": height}, **options
            )
            contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda message: message.type == "error" and problems.append(message.text),
        )
        page.goto(url)
        # The address with the token gives way to the page's own by itself.
        page.wait_for_url(lambda there: "token=" not in there)
        return page

    open_one.problems = problems
    yield open_one
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture(scope="module")
def truth(field_set):
    table = EmbeddingSet.load(field_set).table
    return dict(zip(table.ids.tolist(), rows_where(table, WISH).tolist(), strict=True))
