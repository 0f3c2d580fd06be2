"""From marks to a class in another format, to finer classes and to a failure rate, by
the scripts.
"""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from pycocotools.coco import COCO

from curation.journal import Line, create_session
from curation.session_facts import SessionFacts, StatedQuery
from data.crop_table import CropTable
from data.embeddings import EmbeddingSet
from data.formats.registry import read_source
from data.where import rows_where
from tests.conftest import TINY, WISH, call, failure, read_card


@pytest.fixture(scope="module")
def table(field_set):
    return EmbeddingSet.load(field_set).table


@pytest.fixture(scope="module")
def truth(table):
    return rows_where(table, WISH)


@pytest.fixture(scope="module")
def query(table, truth):
    return table.ids[np.flatnonzero(truth)[0]]


def marks_of(path, table, rows, truth):
    lines = [[table.ids[row], int(truth[row])] for row in rows]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["crop_id", "relevant"], *lines])
    return path


@pytest.fixture
def marked(table, truth, tmp_path):
    """Rows that were marked, and the file that says so."""
    rows = [*np.flatnonzero(truth)[1:13], *np.flatnonzero(~truth)[:12]]
    return rows, marks_of(tmp_path / "marks.csv", table, rows, truth)


def test_marks_become_a_class_in_another_format(
    field_set, table, truth, query, marked, tmp_path
):
    rows, marks = marked
    embeddings, probe = f"--embeddings={field_set}", tmp_path / "probe"
    anchored = '--config={"method": "anchored"}'
    learn = [f"--query={query}", f"--marks={marks}", f"--save_probe={probe}", anchored]
    call("run_search.py", embeddings, *learn)
    export = ["run_export.py", embeddings, f"--probe={probe}", "--class_name=beet"]
    done = call(*export, "--format=coco", f"--folder={tmp_path / 'coco'}")
    coco = COCO(str(tmp_path / "coco" / "annotations.json"))
    beets = coco.getAnnIds(catIds=coco.getCatIds(["beet"]))
    chosen = {item["crop_id"] for item in coco.loadAnns(beets)}
    assert f"{len(chosen)} crops of 'beet' as coco" in done.stdout
    ids = table.ids
    assert {query, *(ids[row] for row in rows if truth[row])} <= chosen
    assert not {ids[row] for row in rows if not truth[row]} & chosen
    card = read_card(tmp_path / "coco")
    assert card["query"] == [query]
    assert card["marks"] == {"relevant": 12, "not_relevant": 12}
    assert card["estimates"]["precision"].startswith("not estimated")
    # --out of the probe is the same class.
    call("run_search.py", embeddings, f"--probe={probe}", f"--out={tmp_path / 'o.csv'}")
    with open(tmp_path / "o.csv", newline="") as file:
        assert {row["crop_id"] for row in csv.DictReader(file)} == chosen
    only = ["--selected=marked", "--format=csv", f"--folder={tmp_path / 'csv'}"]
    call(*export, *only)
    with open(tmp_path / "csv" / "crops.csv", newline="") as file:
        found = {row["crop_id"] for row in csv.DictReader(file)}
    assert found == {query, *(ids[row] for row in rows if truth[row])}
    assert "folder must be a new one" in failure(*export, *only)


def test_an_audit_sets_the_threshold_and_overrules_the_class(
    field_set, table, truth, query, marked, tmp_path
):
    _, marks = marked
    embeddings, probe = f"--embeddings={field_set}", f"--probe={tmp_path / 'probe'}"
    learn = [f"--query={query}", f"--marks={marks}", '--config={"method": "anchored"}']
    call("run_search.py", embeddings, *learn, f"--save_probe={tmp_path / 'probe'}")
    audit = ["run_evaluate.py", embeddings, probe, f"--audit={tmp_path / 'audit.csv'}"]
    audit += ["--size=150", "--target_precision=0.3", "--seed=1"]
    call(*audit)
    with open(tmp_path / "audit.csv", newline="") as file:
        drawn = [row["crop_id"] for row in csv.DictReader(file)]
    rows = table.rows_of(drawn)
    marks_of(tmp_path / "audit.csv", table, rows, truth)
    done = call(*audit)
    number = r"([\d.e-]+)"
    rate, low, high, searched = re.search(
        rf"rate +{number} \[{number}, {number}\]   \(of the (\d+) crops", done.stdout
    ).groups()
    assert int(searched) == len(table)
    assert float(low) <= truth.mean() <= float(high)
    export = ["--format=parquet", "--class_name=beet", f"--folder={tmp_path / 'class'}"]
    call("run_export.py", embeddings, probe, *export)
    card = read_card(tmp_path / "class")
    assert card["estimates"]["sample"] == 150
    assert card["estimates"]["rate"]["estimate"] == pytest.approx(float(rate), rel=0.01)
    # What the audit found is in the class, and what it found wrong is not.
    chosen = set(CropTable.read(tmp_path / "class" / "crops.parquet").ids)
    assert {table.ids[row] for row in rows if truth[row]} <= chosen
    assert not {table.ids[row] for row in rows if not truth[row]} & chosen
    assert truth[rows].sum() < 150


def test_a_session_of_the_page_is_taken_as_marks_and_exported(
    field_set, table, truth, query, marked, tmp_path
):
    rows, csv_file = marked
    where = "box_width > 20"
    stated = StatedQuery((query,))
    facts = SessionFacts(name="s", pool=where, query=stated, class_name="beet")
    marks = {table.ids[row]: bool(truth[row]) for row in rows}
    line = Line(n=1, time="", kind="mark", by="me", marks=marks, sort="best")
    session = tmp_path / create_session(tmp_path, facts, [line])
    embeddings = f"--embeddings={field_set}"
    told = call("run_search.py", embeddings, f"--marks={session}").stdout
    assert told.startswith(f"session 's': query {query}; pool {where}\n")
    stated = [f"--marks={csv_file}", f"--query={query}", f"--where={where}"]
    assert told.partition("\n")[2] == call("run_search.py", embeddings, *stated).stdout
    assert "24 marks" in told
    out = [f"--session={session}", "--format=csv", f"--folder={tmp_path / 'csv'}"]
    assert "crops of 'beet' as csv" in call("run_export.py", embeddings, *out).stdout
    assert read_card(tmp_path / "csv")["session"] == "s"


def test_clusters_and_confusions(field_set, table, tmp_path):
    beet = np.flatnonzero(table.column("species") == "Sugar beet")[0]
    label = table.column("label_name")[beet] or table.classes[0]
    embeddings = f"--embeddings={field_set}"
    where = f"--where=label_name = '{label}'"
    sheet = f"--sheet={tmp_path / 'c.png'}"
    done = call("run_search.py", embeddings, "--clusters=2", where, sheet)
    starts = re.findall(r"--query=(c\w{12})", done.stdout)
    names = dict(zip(table.ids, table.column("label_name"), strict=True))
    assert [names[crop] for crop in starts] == [label, label]
    lines = [line for line in done.stdout.splitlines() if "--query=" in line]
    sizes = [int(line.split()[1]) for line in lines]
    assert sum(sizes) == (table.column("label_name") == label).sum()
    assert (tmp_path / "c.png").is_file()
    path = tmp_path / "p.csv"
    path.write_text(f"crop_id,predicted\n{table.ids[0]},Maize\n{table.ids[1]},Maize\n")
    predictions = f"--predictions={path}"
    done = call("run_evaluate.py", embeddings, predictions)
    assert f"2 of {len(table)} crops have a prediction" in done.stdout
    assert "called Maize" in done.stdout
    query = ["--where=predicted = 'Maize'", f"--query={table.ids[0]}"]
    done = call("run_search.py", embeddings, predictions, *query)
    found = re.findall(r"^ +\d+ .* (c\w{12})  ", done.stdout, re.MULTILINE)
    assert found == [table.ids[1]]


def test_an_exported_variant_is_taken_by_the_flag(
    field_set, field, table, query, marked, tmp_path
):
    """Read back through --data and --variant it is the class that was exported."""
    _, marks = marked
    embeddings, probe = f"--embeddings={field_set}", tmp_path / "probe"
    learn = [f"--query={query}", f"--marks={marks}", f"--save_probe={probe}"]
    call("run_search.py", embeddings, *learn)
    export = [
        f"--probe={probe}",
        "--format=cropandweed",
        "--class_name=Beet six leaves",
    ]
    call("run_export.py", embeddings, *export, f"--folder={tmp_path / 'variant'}")
    root = shutil.copytree(field, tmp_path / "dataset")
    shutil.copytree(tmp_path / "variant", root, dirs_exist_ok=True)
    new = tmp_path / "new" / "embeddings"
    embed = [f"--data={root}", "--variant=BeetSixLeaves", f"--embeddings={new}"]
    call("run_embed.py", *embed, *TINY[:3])
    found = EmbeddingSet.load(new).table
    class_file = tmp_path / "class.csv"
    call("run_search.py", embeddings, f"--probe={probe}", f"--out={class_file}")
    with open(class_file, newline="") as file:
        expected = {row["crop_id"] for row in csv.DictReader(file)}
    beets = found.column("label_name") == "Beet six leaves"
    assert set(found.ids[beets]) == expected
    refused = failure("run_embed.py", *embed[::2], "--variant=Nobody", *TINY[:3])
    assert "variant must be one of" in refused


def test_the_same_boxes_by_coco_and_by_csv_have_the_same_ids(photos, tmp_path):
    """So marks carry over, though COCO names the folder of the images."""
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    names = [f"{number:03d}.png" for number in range(12)]
    for name, photo in zip(names, sorted((photos / "red").iterdir()), strict=True):
        shutil.copy(photo, root / "images" / name)
    images = [
        {"id": place, "file_name": f"images/{name}", "width": 40, "height": 32}
        for place, name in enumerate(names)
    ]
    boxes = [
        {"id": place, "image_id": place, "category_id": 1, "bbox": [2, 3, 20, 15]}
        for place in range(12)
    ]
    categories = [{"id": 1, "name": "red"}]
    coco = {"images": images, "annotations": boxes, "categories": categories}
    (root / "coco.json").write_text(json.dumps(coco))
    lines = [f"{name},2,3,20,15,red" for name in names]
    header = "image,x,y,width,height,label"
    (root / "images" / "boxes.csv").write_text("\n".join([header, *lines]))
    by_coco, by_csv = (
        read_source(str(path))[0]
        for path in (root / "coco.json", root / "images" / "boxes.csv")
    )
    assert by_coco.column("image")[0] == "images/000.png"
    assert by_csv.column("image")[0] == "000.png"
    assert by_coco.ids.tolist() == by_csv.ids.tolist()
