"""A million crops, end to end: table, embedding (killed once), index, query, marks,
probe, audit, export; what each takes, and how much memory of its own.

    python -m benchmarks.million --dir=runs/million
    python -m benchmarks.million --dir=runs/million --crops=20000   # a rehearsal

The crops are synthetic: boxes around the plants of a rendered field of 40 images, moved
and scaled a little at random, as many as are asked for, over copies of the images
(links on the disk, so that little of it is filled). The network is the default one, on
32 pixels. Each step is a command of its own, as a person would give it. Own memory is
what a process holds besides the files that it has mapped, which the system may take
back.

The marks are those that the labels give, 140 of the first list, and the audit's too, so
precision is known: it says that the path works, not how good it is on photos.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from artifacts.files import write_csv, write_json
from artifacts.provenance import provenance
from benchmarks.memory import memory
from curation import read_crops
from data.crop_table import CropTable
from data.sample_field import draw_field

FLAGS = flags.FLAGS
ROOT = Path(__file__).resolve().parents[1]
IMAGES, A_COPY = 40, 500  # of the field; crops of a copy of an image
WANTED = "Sugar beet"
MARKS, AUDIT = 140, 100


def draw(folder: Path, crops: int, seed: int) -> Path:
    """The boxes, as a CSV beside the images."""
    field = read_crops(draw_field(folder / "field", IMAGES, seed=seed))
    rng = np.random.default_rng(seed)
    path = folder / "boxes.csv"
    images = list(dict.fromkeys(field.column("image")))
    (folder / "images").mkdir(exist_ok=True)
    names = ["image", "left", "top", "right", "bottom", "label", "session"]
    lines: list[list[object]] = [list(names)]
    for copy in range(-(-crops // A_COPY)):
        image = images[copy % len(images)]
        name = f"images/{copy:05d}.jpg"
        if not (folder / name).exists():
            os.link(field.root / image, folder / name)
        rows = np.flatnonzero(field.column("image") == image)
        chosen = rng.choice(rows, min(A_COPY, crops - copy * A_COPY))
        for row, box in zip(chosen, _moved(field, chosen, rng), strict=True):
            label, session = (field.column(n)[row] for n in ("species", "session"))
            lines.append([name, *box.tolist(), label, session])
    write_csv(path, lines)
    return path


def _moved(field: CropTable, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Boxes of some crops, moved by a tenth of their side and scaled by as much."""
    boxes = field.boxes[rows].astype(float)
    size = np.stack([field.column("image_width"), field.column("image_height")], 1)
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    middle += half * rng.normal(0, 0.2, middle.shape)
    half *= np.exp(rng.normal(0, 0.1, (len(rows), 1)))
    low = np.clip(middle - half, 0, size[rows] - 8).round()
    high = np.clip(middle + half, low + 8, size[rows]).round()
    return np.concatenate([low, high], 1).astype(int)


class Steps:
    """Runs commands one after another, and notes what each took."""

    def __init__(self, file: Path):
        self.file = file
        self.rows: list[dict[str, object]] = []

    def run(
        self,
        name: str,
        command: Sequence[str],
        until: Callable[[], bool] | None = None,
    ) -> str:
        """Runs a command; kills it once `until` holds.

        Returns:
            What it printed.
        """
        log = self.file.with_name("step.log")
        began, own, mapped = time.monotonic(), 0.0, 0.0
        with open(log, "w", encoding="utf-8") as out:
            process = subprocess.Popen(
                [sys.executable, *map(str, command)],
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            )
            killed = False
            while process.poll() is None:
                with contextlib.suppress(OSError, ValueError):  # it has just ended
                    held = memory(process.pid)
                    own = max(own, held["own"])
                    mapped = max(mapped, held["with mapped files"])
                if until is not None and until():
                    process.send_signal(signal.SIGKILL)
                    killed = True
                time.sleep(0.2)
        said = log.read_text(errors="replace")
        if process.returncode and not killed:
            raise RuntimeError(f"{name} failed: {said[-2000:]}")
        row = {
            "step": name,
            "seconds": round(time.monotonic() - began, 1),
            "own_megabytes": int(own),
            "with_mapped_megabytes": int(mapped),
        }
        self.rows.append(row)
        print(json.dumps(row), flush=True)
        return said


def mark(path: Path, names: dict[str, str], most: int) -> None:
    """Fills the column `relevant` of a list by the labels."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:most]:
        row["relevant"] = str(int(names[row["crop_id"]] == WANTED))
    write_csv(path, [list(rows[0]), *([*row.values()] for row in rows)])


def main(argv: list[str]) -> None:
    """Runs all steps, prints a table."""
    del argv
    folder = Path(FLAGS.dir)
    folder.mkdir(parents=True, exist_ok=True)
    boxes = draw(folder, FLAGS.crops, FLAGS.seed)
    steps, target = Steps(folder / "steps.json"), folder / "embeddings"
    embed = (
        "run_embed.py",
        f"--data={boxes}",
        f"--embeddings={target}",
        "--recipe=plain",
        "--image_size=32",
        '--config={"find_duplicates": false, "embed_batch": 256}',
    )
    partial = target.with_name("embeddings.partial")
    third = FLAGS.crops // 3 // 1024
    steps.run(
        "embed, killed at a third",
        embed,
        lambda: len(list(partial.glob("part-*.npz"))) > third,
    )
    steps.run("embed, the rest, and what is found once", embed)
    table = CropTable.read(target / "crops.parquet")
    names = dict(zip(table.ids, table.column("label_name"), strict=True))
    query = next(crop for crop, label in names.items() if label == WANTED)
    del table
    common, listed = f"--embeddings={target}", folder / "list.csv"
    search = ("run_search.py", common, f"--query={query}", "--k=400")
    steps.run("first query, which builds the index", (*search, f"--out={listed}"))
    steps.run("query", (*search, f"--out={listed}"))
    mark(listed, names, MARKS)
    probe, better = folder / "probe", folder / "better.csv"
    learn = (*search, f"--marks={listed}", f"--save_probe={probe}")
    said = steps.run("probe from 140 marks", (*learn, f"--out={better}"))
    print("\n".join(line for line in said.splitlines() if " of 400 over" in line))
    audit = folder / "audit.csv"
    judge = ("run_evaluate.py", common, f"--probe={probe}", f"--audit={audit}")
    steps.run("audit, drawn", (*judge, f"--size={AUDIT}"))
    mark(audit, names, AUDIT)
    said = steps.run("audit, reported", judge)
    size = sum(label == WANTED for label in names.values())
    print("\n".join(line for line in said.splitlines() if "class size" in line))
    print(f"in truth {size:,}")
    out = (f"--folder={folder / 'class'}", "--format=csv", f"--class_name={WANTED}")
    steps.run("export", ("run_export.py", common, f"--probe={probe}", *out))
    write_json(
        folder / "steps.json",
        {"steps": steps.rows, "provenance": provenance(FLAGS.seed)},
    )
    print(f"\n{FLAGS.crops:,} crops, seed {FLAGS.seed}\n")
    print("| step | time | own memory | with mapped files |\n| --- | --- | --- | --- |")
    for row in steps.rows:
        minutes, seconds = divmod(round(float(str(row["seconds"]))), 60)
        print(
            f"| {row['step']} | {minutes}:{seconds:02d} | "
            f"{row['own_megabytes']:,} MB | {row['with_mapped_megabytes']:,} MB |"
        )


if __name__ == "__main__":
    flags.DEFINE_string("dir", "runs/million", "Folder for everything.")
    flags.DEFINE_integer("crops", 1_000_000, "How many.", lower_bound=2000)
    flags.DEFINE_integer("seed", 0, "Of boxes.")
    app.run(main)
