"""Against the real embedded engine, and against a server where MILVUS_URI names one:

pip install milvus==2.3.5 in an environment of its own, which starts a server by
`from milvus import default_server; default_server.start()`.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from probe.backends.milvus import MilvusIndex
from probe.index import CosineIndex
from probe.linear_probe import LinearProbe
from probe.transforms import Transform

ROOT = Path(__file__).parent.parent
COUNT = 2500
VECTORS = np.random.default_rng(0).normal(size=(COUNT, 32)).astype(np.float32) + 0.5
IDS = [f"{number:05d}" for number in np.random.default_rng(1).permutation(COUNT)]

pytestmark = pytest.mark.filterwarnings("ignore")  # of the client and its dependencies


@pytest.fixture(scope="module", params=["embedded", "server"])
def indexes(request, tmp_path_factory):
    transform = Transform.fit("center", VECTORS)
    uri = str(tmp_path_factory.mktemp("milvus") / "crops.db")
    if request.param == "server":
        uri = os.environ.get("MILVUS_URI", "")
        if not uri:
            pytest.skip("MILVUS_URI names no server")
    found = MilvusIndex(uri, VECTORS, IDS, transform=transform, content_hash="hash")
    yield CosineIndex(VECTORS, IDS, transform=transform), found
    found.client.close()


def test_it_finds_what_the_exact_search_finds(indexes):
    exact, milvus = indexes
    probe = LinearProbe(C=10.0).fit(exact.unit_vectors(range(40)), np.arange(40) < 15)
    allowed = np.arange(COUNT) % 3 == 0
    for directions in (exact.unit_vectors([5, 9, 11]), probe.coef_):
        for options in (
            {},
            {"mask": ~np.isin(np.arange(COUNT), [5, 9])},
            {"mask": allowed},
            {"ascending": True},
        ):
            for one, two in zip(
                exact.search_along(directions, 50, **options),
                milvus.search_along(directions, 50, **options),
                strict=True,
            ):
                assert one.rows.tolist() == two.rows.tolist()  # FLAT: recall 1
                np.testing.assert_allclose(one.scores, two.scores, rtol=1e-4, atol=1e-5)


def test_a_fill_that_was_cut_off_goes_on(indexes):
    _, milvus = indexes
    milvus.client.delete(milvus.collection, filter="row >= 1700")
    assert milvus.filled() == 1700
    batches = []
    milvus._fill(lambda steps: batches.append(list(steps)) or batches[-1])
    assert batches == [[1000, 2000]]
    assert milvus.filled() == COUNT
    milvus._fill(lambda steps: pytest.fail("nothing is missing"))


def test_other_vectors_get_another_collection(indexes):
    _, milvus = indexes
    assert milvus._hash("hash") != milvus._hash("other")


def test_bad_arguments_are_refused(indexes):
    with pytest.raises(
        ValueError, match=r"milvus must be a path ending in .db or a URI"
    ):
        MilvusIndex("crops", VECTORS, IDS)
    with pytest.raises(ValueError, match="milvus 'http://localhost:19' can't be used"):
        MilvusIndex("http://localhost:19", VECTORS, IDS)
    with pytest.raises(ValueError, match=r"k must be in \[1, 2500\]; got 0"):
        indexes[1].search_along(VECTORS[0], 0)


def test_a_database_that_another_process_holds_is_named(tmp_path):
    """milvus-io/milvus#50390, milvus-lite#195."""
    path = str(tmp_path / "crops.db")
    code = (
        "import sys, numpy as np; from probe.backends.milvus import MilvusIndex\n"
        "vectors = np.eye(8, dtype=np.float32)\n"
        f"index = MilvusIndex({path!r}, vectors, [str(i) for i in range(8)])\n"
        "print(len(index), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    holder = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, **pipes)
    try:
        assert holder.stdout.readline() == "8\n"
        second = subprocess.run(
            command, cwd=ROOT, input="", capture_output=True, text=True
        )
    finally:
        _, told = holder.communicate("")
    last = second.stderr.strip().splitlines()[-1]
    assert "can't be used: another process holds the lock" in last
    assert "Traceback" not in told  # of what went well
