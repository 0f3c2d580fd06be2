import json

import numpy as np
import pytest

from probe.methods import LinearRanker
from probe.saved_probe import SavedProbe, hash_of_marks
from probe.transforms import TRANSFORMS, Transform

META = {
    "encoder_hash": "abc",
    "endpoint": "avg_pool",
    "image_size": 96,
    "view": {"padding": 0.0},
    "rows": 7,
}
VECTORS = np.random.default_rng(0).normal(size=(50, 12)).astype(np.float32)


def saved(name="whiten"):
    transform = Transform.fit(name, VECTORS, dim=5)
    coef = np.random.default_rng(1).normal(size=transform.dim(12))
    identity = {
        key: META[key] for key in ("encoder_hash", "endpoint", "image_size", "view")
    }
    return SavedProbe(
        transform,
        LinearRanker(coef, 0.5, "decision", "logistic", 10.0),
        identity,
        {"a": True, "b": False},
        ("a",),
        -0.25,
        {"c": False},
        {"title": "beets", "sha256": "of something else", "marks": 3},
    )


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_is_saved_ranks_new_vectors_alike(tmp_path, name):
    probe = saved(name)
    probe.save(tmp_path / "p")
    again = SavedProbe.load(tmp_path / "p")
    new = np.random.default_rng(9).normal(size=(20, 12))
    np.testing.assert_array_equal(
        again.transform(new) @ again.ranker.coef,
        probe.transform(new) @ probe.ranker.coef,
    )
    assert (again.threshold, again.ranker.intercept, again.marks, again.queries) == (
        -0.25,
        0.5,
        probe.marks,
        ("a",),
    )
    assert again.ranker.has_boundary
    assert again.answers == {"c": False}
    # A fact may be called as it likes: it overwrites nothing.
    assert again.facts == {"title": "beets", "sha256": "of something else", "marks": 3}
    again.check(META)
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == [
        "probe.json",
        "probe.npz",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoder_hash", "other"),
        ("endpoint", "x"),
        ("image_size", 64),
        ("view", {"padding": 0.1}),
    ],
)
def test_foreign_embeddings_are_refused(key, value):
    with pytest.raises(ValueError, match=f"{key} was .* and is"):
        saved().check({**META, key: value})


def test_a_probe_of_another_recipe_is_refused():
    """One that states none is of a version that pooled by mean."""
    saved().check({**META, "pooling": "mean", "orientations": 1})
    with pytest.raises(ValueError, match="pooling was 'mean' and is 'green'"):
        saved().check({**META, "pooling": "green"})
    with pytest.raises(ValueError, match="orientations was 1 and is 8"):
        saved().check({**META, "orientations": 8})
    # The hash is of the recipe too: what tells more is said.
    with pytest.raises(ValueError, match="of the same encoder and recipe; orien"):
        saved().check({**META, "orientations": 8, "encoder_hash": "x"})


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"probe must be a folder with probe.json and probe.npz"
    ):
        SavedProbe.load(tmp_path)
    saved().save(tmp_path)
    content = json.loads((tmp_path / "probe.json").read_text())
    (tmp_path / "probe.json").write_text(
        json.dumps({**content, "marks": {"a": False, "b": False}})
    )
    with pytest.raises(ValueError, match="its marks have been changed"):
        SavedProbe.load(tmp_path)
    saved().save(tmp_path)
    np.savez(tmp_path / "probe.npz", coef=np.ones(5))
    with pytest.raises(
        ValueError, match=r"isn't the file that probe.json was written with"
    ):
        SavedProbe.load(tmp_path)


def test_the_hash_of_marks_knows_no_order():
    assert hash_of_marks({"a": True, "b": False}) == hash_of_marks(
        {"b": False, "a": True}
    )
    assert hash_of_marks({"a": True}) != hash_of_marks({"a": False})
