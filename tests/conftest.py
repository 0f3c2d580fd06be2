"""Shared fixtures: a folder of small images whose classes a network can tell apart, and a small field."""

from __future__ import annotations

import functools
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data.sample_field import draw_field
from simclr_tf2.distribute import make_strategy

# Two devices on one machine, before anything else runs, so that distribution can be tested.
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)

GOLDEN = Path(__file__).parent / "golden"
COLORS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 40)}


@functools.cache
def two_devices() -> tf.distribute.Strategy:
    """The strategy over both devices; one for the whole process, since a second one would count its exchanges anew."""
    return make_strategy("mirrored")


def noisy(color: tuple[int, int, int], size: tuple[int, int], seed: int) -> Image.Image:
    """An image of one colour with noise, width x height."""
    noise = np.random.default_rng(seed).normal(0, 25, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of 12 photos of 40 x 32 pixels, in `class/image.png`."""
    root = tmp_path / "photos"
    for number, (name, color) in enumerate(COLORS.items()):
        (root / name).mkdir(parents=True)
        for photo in range(12):
            noisy(color, (40, 32), 100 * number + photo).save(root / name / f"{photo:02d}.png")
    return root


@pytest.fixture(scope="session")
def field(tmp_path_factory) -> Path:
    """A sample field of eleven images: two sessions and the first image of the next. Not to be changed."""
    return draw_field(tmp_path_factory.mktemp("field"), 11, seed=3)
