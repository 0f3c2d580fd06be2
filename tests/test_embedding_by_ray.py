"""Embedding on a real Ray cluster: several nodes on this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from curation import read_crops
from data.crop_table import CropTable
from data.embedding_writer import read_skipped
from data.embeddings import EmbeddingSet
from tests.conftest import TINY, call, failure, noisy

pytest.importorskip("ray")
ROOT = Path(__file__).resolve().parents[1]
SIZE = TINY[:3]


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """A table of 60 photos, of which one broke after it was read."""
    folder = tmp_path_factory.mktemp("ray") / "photos"
    folder.mkdir()
    for number in range(60):
        noisy((40, 120, 60), (40, 32), number).save(folder / f"{number:02d}.png")
    table = read_crops(folder)
    whole = (folder / "17.png").read_bytes()
    (folder / "17.png").write_bytes(whole[:100] + bytes(200) + whole[300:])
    table.write(folder.parent / "crops.parquet")
    return folder.parent / "crops.parquet"


@pytest.fixture(scope="module")
def expected(crops, tmp_path_factory):
    """The set as one machine makes it."""
    folder = tmp_path_factory.mktemp("alone") / "set"
    call("run_embed", f"--data={crops}", f"--embeddings={folder}", *SIZE)
    return EmbeddingSet.load(folder)


def command(crops, folder, address, block=4):
    config = f'{{"ray_block": {block}}}'
    options = ["--engine=ray", f"--ray_address={address}", f"--config={config}"]
    stated = [f"--data={crops}", f"--embeddings={folder}", *SIZE, *options]
    return [sys.executable, str(ROOT / "run_embed.py"), *stated]


def check(folder, expected):
    found = EmbeddingSet.load(folder, full=True)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)
    names = expected.table.rows.column_names
    assert found.table.rows.select(names).equals(expected.table.rows)
    assert read_skipped(folder) == read_skipped(expected.folder)
    assert list(read_skipped(folder)) == ["17.png"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_node_and_a_driver_are_killed_in_mid_work(crops, expected, tmp_path):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        folder = tmp_path / "set"
        parts = tmp_path / "set.partial"
        driver = command(crops, folder, cluster.address, block=2)

        def wait_for(count, process):
            while len(list(parts.glob("part-*.npz"))) < count:
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)

        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        first = subprocess.Popen(driver, cwd=tmp_path, start_new_session=True, **pipes)
        wait_for(2, first)
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
        there = len(list(parts.glob("part-*.npz")))
        assert 2 <= there < 30  # in mid-work
        with subprocess.Popen(driver, cwd=tmp_path, **pipes) as second:
            wait_for(there + 2, second)
            cluster.remove_node(nodes[0], allow_graceful=False)
            assert len(list(parts.glob("part-*.npz"))) < 30
            _, said = second.communicate(timeout=200)
            assert second.returncode == 0, said
        check(folder, expected)
    finally:
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_it_equals_one_machine_and_adds_what_has_come(crops, expected, tmp_path):
    some = tmp_path / "crops.parquet"
    table = CropTable.read(crops)
    folder = tmp_path / "set"
    for count in (30, 60):
        table.take(np.arange(count)).write(some)
        done = subprocess.run(
            command(some, folder, "", block=8),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    check(folder, expected)
    assert (
        EmbeddingSet.load(folder).table.column("added").tolist() == [0] * 29 + [1] * 30
    )


def test_no_cluster_is_said_and_parts_exclude_it(crops, tmp_path):
    target = [f"--data={crops}", f"--embeddings={tmp_path / 'set'}", *SIZE]
    said = failure("run_embed", *target, "--engine=ray", "--part=1/2")
    assert "part excludes vectors and the engine ray" in said
    said = failure("run_embed", *target, "--engine=ray", "--ray_address=127.0.0.1:9")
    assert "nothing answers at 127.0.0.1:9" in said
    said = failure("run_embed", *target, "--engine=ray", "--ray_address=nowhere")
    assert "ray_address must be that of a running Ray cluster" in said
