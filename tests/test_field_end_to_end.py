"""From the archives of the real layout to a ranking: download, unpack, read, train,
embed, search.
"""

import io
import json
import tarfile

import numpy as np
import pytest

from data.download.cropandweed import ARCHIVES, download
from data.embeddings import EmbeddingSet
from tests.conftest import TINY, call, failure, read_cropandweed
from tests.test_data_download import server  # noqa: F401  a fixture


def archive(root, names):
    """A tar of files below a folder, packed as the raw annotation archive is:
    bboxes/<image>.csv.
    """
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in names:
            tar.add(root / name, arcname="data/" + name.replace("/CropAndWeed/", "/"))
    return file.getvalue()


@pytest.fixture
def dataset(server, field):
    """The sample field in five archives on a server that drops each connection once."""
    names = [
        path.relative_to(field).as_posix()
        for path in field.rglob("*")
        if path.is_file() and ".attributes" not in path.parts
    ]
    images = sorted(name for name in names if name.startswith("images/"))
    annotations = [
        name for name in names if name.split("/")[0] in ("bboxes", "labelIds", "params")
    ]
    parts = [annotations, *(images[number::4] for number in range(4))]
    server.files = {
        name: archive(field, part) for name, part in zip(ARCHIVES, parts, strict=True)
    }
    server.behave = {name: ["drop"] for name in ARCHIVES}
    return server


@pytest.mark.timeout(400)
def test_from_the_archives_to_a_ranking(dataset, field, tmp_path):
    root = download(tmp_path / "caw", dataset.url, delete_archives=True)
    table, report = read_cropandweed(root)
    expected, _ = read_cropandweed(field)
    assert table.ids.tolist() == expected.ids.tolist()
    assert not report.skipped
    broken = "images/smp-0000-0002.jpg"  # costs itself only
    (root / broken).write_bytes((root / broken).read_bytes()[:3000])

    run = tmp_path / "run"
    where = "box_width > 40 AND label >= 0"
    arguments = [
        f"--data={root}",
        f"--run_dir={run}",
        f"--where={where}",
        "--epochs=1",
        "--variant=Fine24",
        '--config={"padding": 0.1}',
    ]
    done = call("run_finetune.py", *arguments, *TINY)
    assert "1 unreadable" in done.stdout or "unreadable" in done.stdout
    embeddings = EmbeddingSet.load(run / "embeddings", full=True)
    images, widths = (
        embeddings.table.column("image"),
        embeddings.table.column("box_width"),
    )
    kept = (expected.column("box_width") > 40) & (expected.column("image") != broken)
    assert 0 < len(embeddings.table) <= kept.sum()
    assert broken not in images
    assert widths.min() > 40
    assert set(embeddings.table.column("label_name")) <= {
        "Sugar beet",
        "Maize",
        "Amaranth",
        "Goosefoot",
        *embeddings.table.classes,
    }
    assert json.loads((run / "skipped.json").read_text()).keys() == {broken}
    assert embeddings.meta["view"] == {
        "padding": 0.1,
        "square": True,
        "fill": "reflect",
    }
    assert not (run / "crops.cache").exists()  # it has served its purpose

    query = embeddings.table.ids[0]
    search = [
        f"--embeddings={run / 'embeddings'}",
        f"--query={query}",
        "--k=5",
        f"--out={tmp_path / 'out.csv'}",
    ]
    conditions = f"session = '{embeddings.table.column('session')[-1]}'"
    call(
        "run_search.py",
        *search,
        f"--where={conditions}",
        f"--sheet={tmp_path / 'out.png'}",
    )
    found = (tmp_path / "out.csv").read_text().splitlines()[1:]
    ids = [line.split(",")[1] for line in found]
    rows = [int(np.flatnonzero(embeddings.table.ids == crop_id)[0]) for crop_id in ids]
    assert len(rows) == 5
    assert {embeddings.table.column("session")[row] for row in rows} == {
        embeddings.table.column("session")[-1]
    }
    assert "on the columns" in failure("run_search.py", *search, "--where=colour = 3")
