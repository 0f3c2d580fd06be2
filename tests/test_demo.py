"""What the README says the demo shows, by running it."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_ends_with_a_table_in_which_every_step_helps_and_its_pictures(
    tmp_path,
):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.demo", f"--dir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [
        line
        for line in done.stdout.splitlines()
        if line.startswith(("ImageNet, ", "3 epochs without labels"))
    ]
    cells = [
        row[32:].replace("[", " ").replace("]", " ").replace(",", " ").split()
        for row in rows
    ]
    (
        (cosine_plain, _, _, probe_plain, _, _, found_plain, *_),
        (cosine_before, low_before, _, probe_before, _, _, _, low_found, _),
        (cosine_after, low_after, _, probe_after, _, _, found_after, *_),
    ) = ([float(c) for c in row] for row in cells)
    assert 0.1 < cosine_plain < 0.5  # neither hopeless nor trivial
    assert low_before > cosine_plain  # the recipe
    assert probe_before > probe_plain
    assert low_found > found_plain
    assert low_after > cosine_plain  # fine-tuning without labels
    assert found_after > found_plain
    assert probe_before > cosine_before + 0.2  # marks
    assert probe_after > cosine_after + 0.2
    assert probe_after > 0.8
    for name, width in (
        ("1_imagenet", 1000),
        ("2_imagenet_and_finetuned", 2000),
        ("3_cosine_and_probe", 2000),
    ):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > width
