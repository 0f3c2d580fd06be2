"""A set finds its encoder again, wherever both have been moved to."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from curation.embed_query import embed_images
from curation.encoders import embedder_of, find_weights
from data.embeddings import EmbeddingSet
from tests.conftest import FILES_OF_0_5_0, TINY, call


@pytest.fixture
def run(photos, tmp_path):
    """A run with its encoder and embeddings."""
    folder = tmp_path / "place" / "run"
    call(
        "run_finetune.py",
        f"--data={photos}",
        f"--run_dir={folder}",
        "--epochs=1",
        *TINY,
    )
    return folder


def hash_of(folder):
    embeddings = EmbeddingSet.load(folder)
    assert embedder_of(embeddings).content_hash() == embeddings.meta["encoder_hash"]
    return embeddings.meta["encoder_hash"]


def test_a_set_is_moved_with_its_run_or_without(run, photos, tmp_path):
    stated = hash_of(run / "embeddings")
    alone = shutil.copytree(run / "embeddings", tmp_path / "alone")
    assert hash_of(alone) == stated  # by the place where it was made
    moved = shutil.move(run.parent, tmp_path / "elsewhere") / "run" / "embeddings"
    assert hash_of(moved) == stated  # beside it
    with pytest.raises(OSError, match=r"there is no file .*encoder.weights.h5"):
        embedder_of(EmbeddingSet.load(alone))


def test_a_set_written_elsewhere_than_beside_the_run_keeps_it(run, photos, tmp_path):
    far = tmp_path / "far" / "away" / "set"
    weights = f"--weights={run / 'encoder.weights.h5'}"
    call(
        "run_embed.py",
        f"--data={photos}",
        f"--embeddings={far}",
        TINY[0],
        TINY[2],
        weights,
    )
    assert hash_of(far) == hash_of(run / "embeddings")
    one, two = (EmbeddingSet.load(folder) for folder in (far, run / "embeddings"))
    assert np.array_equal(one.vectors, two.vectors)


def test_random_weights_are_kept_in_the_set(photos, tmp_path):
    call(
        "run_embed.py", f"--data={photos}", f"--embeddings={tmp_path / 'a'}", *TINY[:3]
    )
    moved = shutil.move(tmp_path / "a", tmp_path / "b")
    embeddings = EmbeddingSet.load(moved)
    image = Image.open(embeddings.table.path(5)).convert("RGB")
    vector = embed_images(embeddings, [image])[0]
    np.testing.assert_allclose(vector, embeddings.vectors[5], rtol=1e-4, atol=1e-5)


def test_other_weights_are_told_by_their_hash(run, tmp_path):
    meta = run / "embeddings" / "meta.json"
    content = json.loads(meta.read_text())
    meta.write_text(json.dumps({**content, "encoder_hash": "another"}))
    with pytest.raises(ValueError, match="its weights have changed"):
        embedder_of(EmbeddingSet.load(run / "embeddings"))


def test_a_set_of_version_0_5_0_finds_it_beside_its_run(tmp_path):
    files = shutil.copytree(FILES_OF_0_5_0, tmp_path / "files")
    embeddings = EmbeddingSet.load(
        files / "run" / "embeddings", images_root=files / "photos"
    )
    assert embeddings.meta["weights"] == "../encoder.weights.h5"
    image = Image.open(embeddings.table.path(7)).convert("RGB")
    vector = embed_images(embeddings, [image])[0]
    np.testing.assert_allclose(vector, embeddings.vectors[7], rtol=1e-4, atol=1e-5)
    alone = shutil.copytree(files / "run" / "embeddings", tmp_path / "alone")
    lost = EmbeddingSet.load(alone)
    assert find_weights(lost.meta, alone).startswith("..")
    with pytest.raises(ValueError, match="copy it there, or move the set back"):
        embedder_of(lost)
