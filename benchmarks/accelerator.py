"""What a GPU or a TPU gives with this project, in eight minutes.

    python -m benchmarks.accelerator            # all GPUs, or the CPU
    python -m benchmarks.accelerator --tpu=local  # on a TPU VM
    python -m benchmarks.accelerator --rehearse   # a tiny network, on any machine

Needs the project and nothing else: networks have random weights but for a short run on
the sample field (synthetic), --data takes your images instead. Parts come in the order
of PARTS, each in a process of its own that may take what is left of --minutes; one that
fails or has no time left is listed as such. A second call does only the parts that are
missing; figures of other settings need another --dir.

Writes rows.jsonl and results.md below --dir; please send both (docs/setup.md says
where to).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from absl import app, flags

from artifacts.files import write_json
from artifacts.provenance import provenance
from data.sample_field import draw_field

FLAGS = flags.FLAGS
ROWS = "rows.jsonl"
# Name -> (what it measures, share of the time that is left which it may take).
PARTS = {
    "devices": ("what there is to compute on", 1.0),
    "equality": ("one training step against the CPU's in float32", 0.3),
    "retrieval": ("a short run: frozen and tuned, one query", 0.4),
    "pipeline": ("whether the device waits for its input", 0.4),
    "micro_batches": ("an effective batch of 4,096 on one device", 0.3),
    "together": ("all devices against one", 0.3),
    "export": ("export, and reload on the CPU", 0.5),
    "embedding": ("embedding, on crops in memory", 0.4),
    "steps": ("training steps, on views in memory", 1.0),
}
IMAGES, EPOCHS = 40, 12  # of the sample field, and of the short run
_LEAST = 5.0  # seconds without which no part begins


@dataclass(frozen=True)
class Asked:
    """What the parts are told, by flags of the same names."""

    dir: str = "runs/accelerator"
    data: str = ""
    tpu: str = ""
    batch: int = 128
    rehearse: bool = False

    def field(self) -> str:
        """The images to train on."""
        images = 10 if self.rehearse else IMAGES
        return self.data or str(draw_field(Path(self.dir) / "field", images))


def define_flags() -> None:
    """Those of `Asked`."""
    flags.DEFINE_string("dir", Asked.dir, "Where everything goes.")
    flags.DEFINE_string(
        "data", "", "Images, as run_finetune.py takes them; default: the sample field."
    )
    flags.DEFINE_string("tpu", "", "Name or address of the TPU; local on a TPU VM.")
    flags.DEFINE_integer("batch", Asked.batch, "Crops a step.", lower_bound=8)
    flags.DEFINE_bool("rehearse", False, "A tiny network and small batches.")


def asked_for() -> Asked:
    """What the flags say."""
    given: dict[str, Any] = {f.name: FLAGS[f.name].value for f in fields(Asked)}
    return Asked(**given)


def write_row(
    folder: str, part: str, what: str, told: tuple[float | str, str, str]
) -> None:
    """Keeps a figure (value, unit, note), and shows it."""
    value, unit, note = told
    row = {"part": part, "what": what, "value": value, "unit": unit, "note": note}
    with open(Path(folder) / ROWS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(f"  {what}: {value} {unit}{f' ({note})' if note else ''}", flush=True)


def short_run(asked: Asked, seconds: float) -> None:
    """Embeds by the pretrained network, and fine-tunes it."""
    data, folder = asked.field(), Path(asked.dir)
    common = [f"--data={data}"]
    if asked.rehearse:
        common += ["--encoder=tiny", "--weights=random"]
    tuned = [
        f"--run_dir={folder / 'tuned'}",
        f"--epochs={1 if asked.rehearse else EPOCHS}",
    ]
    if asked.rehearse:
        tuned += ["--image_size=32", "--batch_size=16"]
    if asked.tpu:
        config = json.dumps({"strategy": "tpu", "tpu": asked.tpu})
        common.append(f"--config={config}")
    began = time.monotonic()
    for command in (
        ["run_embed.py", *common, f"--embeddings={folder / 'frozen' / 'embeddings'}"],
        ["run_finetune.py", *common, *tuned],
    ):
        left = seconds - (time.monotonic() - began)
        subprocess.run(
            [sys.executable, *command], check=True, timeout=left, capture_output=True
        )
    taken = time.monotonic() - began
    told = round(taken), "s", ""
    write_row(asked.dir, "retrieval", "embedding, a short run, embedding", told)


def measured(asked: Asked, part: str, seconds: float) -> str:
    """Runs a part; returns why there is no more of it, or nothing."""
    given = [f"--{name}={value}" for name, value in asdict(asked).items()]
    own = [f"--part={part}", *given]
    began = time.monotonic()
    try:
        if part == "retrieval":
            short_run(asked, seconds)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.accelerator_parts", *own],
            timeout=seconds - (time.monotonic() - began),
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} seconds"
    except subprocess.CalledProcessError as error:
        return f"failed: {_last_line(error.stderr.decode())}"
    return f"failed: {_last_line(done.stderr)}" if done.returncode else ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no message"


def _rows(file: Path) -> list[dict]:
    lines = file.read_text().splitlines() if file.is_file() else []
    return [json.loads(line) for line in lines]


def table(rows: list[dict], gaps: dict[str, str]) -> list[str]:
    """All figures, part by part."""
    lines = ["| what | value | note |", "| --- | --- | --- |"]
    for part, (title, _) in PARTS.items():
        lines.append(f"| **{title}** | | {gaps.get(part, '')} |")
        lines += [
            f"| {row['what']} | {row['value']} {row['unit']} | {row['note']} |"
            for row in rows
            if row["part"] == part
        ]
    return lines


def run(asked: Asked, minutes: float) -> None:
    """Runs all parts that are missing, writes and prints the table."""
    ends = time.monotonic() + 60 * minutes
    folder = Path(asked.dir)
    folder.mkdir(parents=True, exist_ok=True)
    stated, rows_file, gaps = folder / "parts.json", folder / ROWS, {}
    told = json.loads(stated.read_text()) if stated.is_file() else {}
    if told.get("asked", asdict(asked)) != asdict(asked):
        raise SystemExit(
            f"accelerator: {folder} holds figures of other settings ({told['asked']}); "
            "choose another --dir"
        )
    done = told.get("done", [])
    # What a part told before it was stopped is measured again.
    rows = [row for row in _rows(rows_file) if row["part"] in done]
    rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(stated, {"asked": asdict(asked), "done": done})
    for part, (title, share) in PARTS.items():
        if part in done:
            continue
        left = ends - time.monotonic()
        print(f"{part}: {title}", flush=True)
        if left < _LEAST:
            gaps[part] = "no time left"
            continue
        gaps[part] = measured(asked, part, share * left)
        if gaps[part]:
            print(f"  {gaps[part]}", flush=True)
        else:
            done.append(part)
            write_json(stated, {"asked": asdict(asked), "done": done})
    text = table(_rows(rows_file), gaps)
    commit = provenance(0)["commit"]
    head = f"Commit {commit}{', a rehearsal with a tiny network' * asked.rehearse}.\n"
    (folder / "results.md").write_text("\n".join([head, *text]) + "\n")
    print("\n" + "\n".join([head, *text]))


def main(argv: list[str]) -> None:
    """What the command line does."""
    del argv
    run(asked_for(), FLAGS.minutes)


if __name__ == "__main__":
    define_flags()
    flags.DEFINE_float("minutes", 8, "After which it ends.", lower_bound=0.1)
    app.run(main)
