"""What the README says the demo shows, by running it."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_ends_with_a_table_in_which_every_step_helps_and_two_pictures(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.demo", f"--dir={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows = [line for line in done.stdout.splitlines() if line.startswith(("ImageNet, frozen", "contrastive, 27 epochs, no labels"))]
    before, after = ([float(cell) for cell in row[34:].replace("[", " ").split()[:2]] for row in rows)  # cosine, probe
    assert after[0] > before[0] + 0.04  # fine-tuning without labels
    assert before[1] > before[0] + 0.2  # marks
    assert after[1] > after[0] + 0.2
    for name in ("1_imagenet_and_finetuned.png", "2_cosine_and_probe.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 2000
