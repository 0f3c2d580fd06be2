"""Vectors that were made elsewhere give what the project's own set gives.

    python -m benchmarks.elsewhere --embeddings=runs/a/embeddings --dir=runs/elsewhere

Takes an embedding set's vectors, writes them as somebody who doesn't know this project
would (with NumPy, pandas, safetensors and json alone): in another order than crops
sort, with rows that are no crops and rows that are given twice, as .npy, .npz,
safetensors and Parquet, for a CSV, a Parquet and a COCO file. Each comes in through
run_embed.py --vectors; search, marks, audit, export and page must then give the same as
with the set they were taken from. Ends with a table of what was compared.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from absl import app, flags
from safetensors.numpy import save_file

import run_embed
import run_evaluate
import run_export
import run_search
from curation.pool import Pool
from data.crop_table import CropTable
from data.embeddings import EmbeddingSet
from web.app import Page, make_app
from web.overview import Overview
from web.photos import Photos
from web.sessions import Sessions

FLAGS = flags.FLAGS
KINDS = ("npy", "npz", "safetensors", "parquet")
FILES = ("csv", "parquet", "coco")
NOBODY = "photos/that/nobody/has.jpg"
TOKEN = "secret"
SIDES = ["left", "top", "right", "bottom"]


def write_elsewhere(embeddings: Path, folder: Path, seed: int = 0) -> Path:
    """Writes the vectors and crops of a set in all kinds of files.

    Returns:
        The folder of the images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.load(embeddings / "embeddings.npy")
    crops = pd.read_parquet(embeddings / "crops.parquet")
    rng = np.random.default_rng(seed)
    twice = rng.choice(len(crops), max(1, len(crops) // 20), replace=False)
    rows = rng.permutation(np.concatenate([np.arange(len(crops)), twice]))
    stated = crops.iloc[rows][["image", *SIDES, "label_name"]].reset_index(drop=True)
    found = vectors[rows]
    # Rows that are no crops, with vectors that would be seen at once.
    for place in sorted(rng.choice(len(stated), max(1, len(stated) // 20))):
        gone = stated.iloc[[place]].assign(image=NOBODY)
        stated = pd.concat([stated.iloc[:place], gone, stated.iloc[place:]])
        found = np.insert(found, place, 1e3, axis=0)
    stated = stated.reset_index(drop=True)
    np.save(folder / "vectors.npy", found)
    np.savez(folder / "vectors.npz", features=found, ids=np.arange(len(found)))
    save_file({"features": found}, folder / "vectors.safetensors")
    with_vectors = stated.assign(embedding=list(found))
    with_vectors.to_parquet(folder / "vectors.parquet")
    stated.to_csv(folder / "crops.csv", index=False)
    with_vectors.to_parquet(folder / "crops.parquet")
    _write_coco(stated, folder / "crops.json")
    return folder


def _write_coco(stated: pd.DataFrame, path: Path) -> None:
    images = {name: number for number, name in enumerate(stated["image"].unique())}
    classes = {
        name: number for number, name in enumerate(stated["label_name"].unique())
    }
    annotations = [
        {
            "id": number,
            "image_id": images[row.image],
            "category_id": classes[row.label_name],
            "bbox": [row.left, row.top, row.right - row.left, row.bottom - row.top],
        }
        for number, row in enumerate(stated.itertuples())
    ]
    content = {
        "images": [
            {"id": number, "file_name": name} for name, number in images.items()
        ],
        "categories": [
            {"id": number, "name": name or "none"} for name, number in classes.items()
        ],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))


def results(embeddings: Path, folder: Path, query: str, marks: Path) -> dict[str, Any]:
    """What search, marks, audit and export come to: crop ids and numbers alone."""
    folder.mkdir(parents=True)
    given = f"--embeddings={embeddings}"
    probe, audit = folder / "probe", folder / "audit.csv"
    learn = ["--query=" + query, f"--marks={marks}", f"--save_probe={probe}"]
    _call(run_search, given, f"--query={query}", f"--out={folder / 'first.csv'}")
    anchored = '--config={"method": "anchored"}'
    _call(run_search, given, *learn, anchored, f"--out={folder / 'marked.csv'}")
    _call(run_evaluate, given, f"--probe={probe}", f"--audit={audit}", "--size=60")
    drawn = _read(audit, "crop_id")
    wanted = {row[0] for row in _read(marks, "crop_id", "relevant") if row[1] == "1"}
    lines: list[list[Any]] = [["crop_id", "relevant"]]
    lines += [[name, int(name in wanted)] for (name,) in drawn]
    with open(audit, "w", newline="") as file:
        csv.writer(file).writerows(lines)
    said = _call(
        run_evaluate, given, f"--probe={probe}", f"--audit={audit}", "--size=60"
    )
    export = ["--format=csv", "--class_name=found", f"--folder={folder / 'class'}"]
    _call(run_export, given, f"--probe={probe}", *export)
    return {
        "search": _read(folder / "first.csv", "crop_id", "score"),
        "marks": _read(folder / "marked.csv", "crop_id", "score"),
        "audit": (drawn, [line for line in said.splitlines() if "[" in line]),
        "export": _read(folder / "class" / "crops.csv", "crop_id", *SIDES, "score"),
        "page": shown_by_page(embeddings, folder / "page", query),
    }


def shown_by_page(
    embeddings: Path, folder: Path, query: str
) -> list[tuple[str, float]]:
    """Crops and scores of a session's first screens, by the page's own server; the
    first must have a picture.
    """
    from starlette.testclient import TestClient  # of those who develop

    pool = Overview(Pool(EmbeddingSet.load(embeddings)))
    photos = Photos(pool.table, folder / "cache" / "thumbnails")
    app = make_app(Page(pool, Sessions(pool, folder), photos), TOKEN)
    new: dict[str, Any] = {
        "name": "t",
        "use": "collect",
        "pool": "",
        "class_name": "found",
    }
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        client.get("/", params={"token": TOKEN})
        new |= {"crops": [query], "uploads": []}
        name = client.post("/api/sessions", json=new).json()["session"]
        client.get(f"/api/sessions/{name}")
        asked = {"ranking": 0, "start": 0, "count": 200}
        crops = client.get(f"/api/sessions/{name}/crops", params=asked).json()["crops"]
        picture = client.get(f"/thumb/{crops[0]['id']}/96")
        assert picture.headers["content-type"].startswith("image/")
    return [(crop["id"], crop["score"]) for crop in crops]


def _call(script: Any, *arguments: object) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        script.main([f"{script.__name__}.py", *map(str, arguments)])
    return out.getvalue()


def _read(path: Path, *names: str) -> list[tuple[str, ...]]:
    with open(path, newline="", encoding="utf-8") as file:
        return [tuple(row[name] for name in names) for row in csv.DictReader(file)]


def take_in(elsewhere: Path, kind: str, file: str, images: Path, folder: Path) -> Path:
    """One of the files of vectors, for one of crops, as an embedding set."""
    ending = {"coco": "json"}.get(file, file)
    _call(
        run_embed,
        f"--data={elsewhere / f'crops.{ending}'}",
        f"--vectors={elsewhere / f'vectors.{kind}'}",
        f"--embeddings={folder}",
        "--config=" + json.dumps({"images": str(images)}),
    )
    return folder


def main(argv: list[str]) -> None:
    """Runs the comparison."""
    del argv
    own, folder = Path(FLAGS.embeddings), Path(FLAGS.dir)
    crops = pd.read_parquet(own / "crops.parquet")
    images = Path(run_root(own))
    write_elsewhere(own, folder / "files")
    query, marks = _wish(crops, folder, FLAGS.seed)
    wanted = results(own, folder / "own", query, marks)
    print("| vectors | crops | search | marks | audit | export | page |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in KINDS:
        for file in FILES:
            place = folder / f"{kind}-{file}"
            taken = take_in(folder / "files", kind, file, images, place / "set")
            found = results(taken, place / "results", query, marks)
            same = ["same" if found[key] == wanted[key] else "OTHER" for key in wanted]
            print(f"| {kind} | {file} | {' | '.join(same)} |", flush=True)


def run_root(embeddings: Path) -> str:
    """The folder of a set's images, as its crop table states it."""
    return str(CropTable.read(embeddings / "crops.parquet").root)


def _wish(crops: pd.DataFrame, folder: Path, seed: int) -> tuple[str, Path]:
    """A crop of the largest class as query, and marks: thirty of it, thirty not."""
    rng = np.random.default_rng(seed)
    name = crops["label_name"].value_counts().index[0]
    of_class = (crops["label_name"] == name).to_numpy()
    yes = rng.choice(np.flatnonzero(of_class), 31, replace=False)
    no = rng.choice(np.flatnonzero(~of_class), 30, replace=False)
    ids = crops["crop_id"].to_numpy()
    path = folder / "marks.csv"
    lines = [(ids[row], 1) for row in yes[1:]] + [(ids[row], 0) for row in no]
    pd.DataFrame(lines, columns=["crop_id", "relevant"]).to_csv(path, index=False)
    return str(ids[yes[0]]), path


if __name__ == "__main__":
    flags.DEFINE_string("embeddings", "", "The set to take vectors from.")
    flags.DEFINE_string("dir", "runs/elsewhere", "Folder for everything.")
    flags.DEFINE_integer("seed", 0, "Of order, query and marks.")
    app.run(main)
