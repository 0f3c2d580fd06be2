"""The page's uses without a browser: run_search.py exports, splits a class and counts
failures.
"""

import csv
import re

import numpy as np
import pytest
from pycocotools.coco import COCO

from data.embeddings import EmbeddingSet
from data.export import read_card
from data.where import rows_where
from tests.conftest import WISH
from tests.test_run_scripts import call, failure
from web.journal import create_session


@pytest.fixture(scope="module")
def table(field_set):
    return EmbeddingSet.load(field_set).table


@pytest.fixture(scope="module")
def truth(table):
    return rows_where(table, WISH)


def marks_of(path, table, rows, truth):
    lines = [[table.ids[row], int(truth[row])] for row in rows]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["crop_id", "relevant"], *lines])
    return path


def test_marks_become_a_class_in_another_format(field_set, table, truth, tmp_path):
    rows = [*np.flatnonzero(truth)[1:13], *np.flatnonzero(~truth)[:12]]
    marks = marks_of(tmp_path / "marks.csv", table, rows, truth)
    query = table.ids[np.flatnonzero(truth)[0]]
    common = [
        f"--embeddings={field_set}",
        f"--query={query}",
        f"--marks={marks}",
        "--class_name=beet",
        "--method=pulled",
    ]
    done = call(
        "run_search.py", *common, "--export=coco", f"--export_to={tmp_path / 'coco'}"
    )
    coco = COCO(str(tmp_path / "coco" / "annotations.json"))
    chosen = {
        item["crop_id"]
        for item in coco.loadAnns(coco.getAnnIds(catIds=coco.getCatIds(["beet"])))
    }
    assert f"{len(chosen)} crops of 'beet' as coco" in done.stdout
    ids = table.ids
    assert {query, *(ids[row] for row in rows if truth[row])} <= chosen
    assert not {ids[row] for row in rows if not truth[row]} & chosen
    card = read_card(tmp_path / "coco")
    assert (card["query"], card["marks"]) == (
        [query],
        {"relevant": 12, "not_relevant": 12},
    )
    assert card["estimates"]["precision"].startswith("not estimated")
    call(
        "run_search.py",
        *common,
        "--export=csv",
        "--export_marked",
        f"--export_to={tmp_path / 'csv'}",
    )
    with open(tmp_path / "csv" / "crops.csv", newline="") as file:
        assert {row["crop_id"] for row in csv.DictReader(file)} == {
            query,
            *(ids[row] for row in rows if truth[row]),
        }
    assert "export_to must be a new folder" in failure(
        "run_search.py", *common, "--export=csv", f"--export_to={tmp_path / 'csv'}"
    )


def test_an_audit_sets_the_threshold_and_the_card_has_its_estimate(
    field_set, table, truth, tmp_path
):
    rows = [*np.flatnonzero(truth)[1:9], *np.flatnonzero(~truth)[:12]]
    marks = marks_of(tmp_path / "marks.csv", table, rows, truth)
    start = [f"--embeddings={field_set}"]
    query = f"--query={table.ids[np.flatnonzero(truth)[0]]}"
    call(
        "run_search.py",
        *start,
        query,
        f"--marks={marks}",
        f"--save_probe={tmp_path / 'probe'}",
        "--method=pulled",
    )
    audit = [
        *start,
        f"--probe={tmp_path / 'probe'}",
        f"--audit={tmp_path / 'audit.csv'}",
        "--audit_size=150",
        "--target_precision=0.3",
    ]
    call("run_search.py", *audit)
    with open(tmp_path / "audit.csv", newline="") as file:
        drawn = [row["crop_id"] for row in csv.DictReader(file)]
    row_of = {crop_id: row for row, crop_id in enumerate(table.ids)}
    marks_of(
        tmp_path / "audit.csv", table, [row_of[crop_id] for crop_id in drawn], truth
    )
    done = call("run_search.py", *audit)
    rate, low, high, searched = re.search(
        r"rate +([\d.e-]+) \[([\d.e-]+), ([\d.e-]+)\]   \(of the (\d+) crops",
        done.stdout,
    ).groups()
    assert int(searched) == len(table) - 1
    assert float(low) <= (truth.sum() - 1) / int(searched) <= float(high)
    export = [
        "--export=parquet",
        "--class_name=beet",
        f"--export_to={tmp_path / 'class'}",
    ]
    call("run_search.py", *start, f"--probe={tmp_path / 'probe'}", *export)
    estimates = read_card(tmp_path / "class")["estimates"]
    assert estimates["sample"] == 150
    assert estimates["rate"]["estimate"] == pytest.approx(float(rate), rel=0.01)


def test_a_session_of_the_page_is_taken_as_marks(field_set, table, truth, tmp_path):
    rows = [*np.flatnonzero(truth)[1:13], *np.flatnonzero(~truth)[:12]]
    query, where = table.ids[np.flatnonzero(truth)[0]], "box_width > 20"
    facts = {
        "name": "s",
        "embeddings": {},
        "query": {"crops": [query], "uploads": []},
        "pool": where,
    }
    marks = {table.ids[row]: bool(truth[row]) for row in rows}
    lines = [
        {
            "n": 1,
            "time": "",
            "kind": "mark",
            "by": "me",
            "marks": marks,
            "ranking": 0,
            "sort": "best",
        }
    ]
    session = tmp_path / create_session(tmp_path, facts, lines)
    csv_file = marks_of(tmp_path / "marks.csv", table, rows, truth)
    told = call(
        "run_search.py", f"--embeddings={field_set}", f"--marks={session}"
    ).stdout
    assert told.startswith(f"session 's': query {query}; pool {where}\n")
    stated = [f"--marks={csv_file}", f"--query={query}", f"--where={where}"]
    assert (
        told.partition("\n")[2]
        == call("run_search.py", f"--embeddings={field_set}", *stated).stdout
    )
    assert "24 marks" in told


def test_clusters_and_confusions(field_set, table, tmp_path):
    label = (
        table.column("label_name")[
            np.flatnonzero(table.column("species") == "Sugar beet")[0]
        ]
        or table.classes[0]
    )
    where = f"--where=label_name = '{label}'"
    done = call(
        "run_search.py",
        f"--embeddings={field_set}",
        "--clusters=2",
        where,
        f"--sheet={tmp_path / 'c.png'}",
    )
    starts = re.findall(r"--query=(c\w{12})", done.stdout)
    names = dict(zip(table.ids, table.column("label_name"), strict=True))
    assert [names[crop] for crop in starts] == [label, label]
    sizes = [
        int(line.split()[1]) for line in done.stdout.splitlines() if "--query=" in line
    ]
    assert sum(sizes) == (table.column("label_name") == label).sum()
    assert (tmp_path / "c.png").is_file()
    path = tmp_path / "p.csv"
    path.write_text(f"crop_id,predicted\n{table.ids[0]},Maize\n{table.ids[1]},Maize\n")
    done = call("run_search.py", f"--embeddings={field_set}", f"--predictions={path}")
    assert f"2 of {len(table)} crops have a prediction" in done.stdout
    assert "called Maize" in done.stdout
    query = ["--where=predicted = 'Maize'", f"--query={table.ids[0]}"]
    done = call(
        "run_search.py", f"--embeddings={field_set}", f"--predictions={path}", *query
    )
    assert re.findall(r"^ +\d+ .* (c\w{12})  ", done.stdout, re.MULTILINE) == [
        table.ids[1]
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--export=coco", "--query=x"], "export needs --marks or --probe"),
        (
            ["--export=coco", "--marks=m.csv"],
            "export needs --export_to, a new folder, and --class_name",
        ),
        (["--clusters=1"], "clusters must be at least 2; got 1"),
        (["--serve", "--query=x"], "serve opens the page"),
        (["--serve", "--port=99999"], "port must be from 0 to 65535; got 99999"),
        (
            ["--serve", "--host=no.such.host.invalid"],
            "host must be an address or name of this machine",
        ),
        (
            ["--predictions=none.csv"],
            "predictions must be a .csv or .json file; there is no file 'none.csv'",
        ),
    ],
)
def test_bad_arguments_are_named(field_set, arguments, message, tmp_path):
    assert message in failure(
        "run_search.py",
        f"--embeddings={field_set}",
        f"--sessions={tmp_path}",
        *arguments,
    )
