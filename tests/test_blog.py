"""The reproduction of the post, on made-up embeddings."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from data.crop_table import CropTable
from data.embedding_writer import EmbeddingWriter
from tests.conftest import noisy

ROOT = Path(__file__).parent.parent


def embedding_set(folder, images, distance):
    """400 crops of one image, a class of 120 that is `distance` away from the
    others.
    """
    count, relevant = 400, 120
    boxes = {
        "left": [i % 20 for i in range(count)],
        "top": [i // 20 for i in range(count)],
    }
    columns = {
        "image": ["a.png"] * count,
        **boxes,
        "right": [left + 9 for left in boxes["left"]],
        "bottom": [top + 9 for top in boxes["top"]],
        "label": [int(i < relevant) for i in range(count)],
        "label_name": ["yes" if i < relevant else "no" for i in range(count)],
        "session": [""] * count,
        "split": [""] * count,
    }
    table = CropTable.from_columns(images, columns)
    vectors = np.random.default_rng(0).normal(size=(count, 16)).astype(np.float32)
    vectors[table.column("label_name") == "yes", :2] += distance
    identity = {"encoder_hash": "x", "endpoint": "avg_pool", "image_size": 32}
    writer = EmbeddingWriter(folder, table, 16, identity)
    writer.append(vectors, np.ones(count, bool))
    writer.finish({"encoder": "tiny", "weights": "random"})


def test_counts_are_those_of_the_criterion_and_the_report_needs_nothing_else(tmp_path):
    (tmp_path / "images").mkdir()
    noisy((90, 120, 60), (40, 40), 0).save(tmp_path / "images" / "a.png")
    for name, distance in (("frozen", 0.5), ("tuned", 1.5)):
        embedding_set(tmp_path / name, tmp_path / "images", distance)
    flags = [
        f"--frozen={tmp_path}/frozen",
        f"--tuned={tmp_path}/tuned",
        "--data=photos",
        "--queries=3",
        f"--dir={tmp_path}/out",
    ]
    command = [
        sys.executable,
        "-m",
        "benchmarks.blog",
        *flags,
        "--relevant=label_name = 'yes'",
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {
        cells[1].strip(): cells[2:]
        for line in done.stdout.splitlines()
        if len(cells := line.split("|")) == 8
    }
    counts = {
        name: float(re.match(r" ([\d.]+)", cells[0])[1])
        for name, cells in rows.items()
        if cells[0].strip()[0].isdigit()
    }
    assert (
        counts["ImageNet"]
        < counts["fine-tuned"]
        < counts["probe, the default strategy's marks"]
        <= 50
    )
    assert (
        rows["probe, the post's marks"][2].strip() == "60 + 32"
    )  # half of the class is left to be found
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3
    assert "http" not in page
