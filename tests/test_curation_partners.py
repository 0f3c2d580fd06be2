import numpy as np
import pyarrow as pa

from curation.config import Recipe
from curation.partners import Partners, recipe_of_partners
from probe.neighbors import NOBODY
from tests.conftest import mean_color

RECIPE = Recipe(image_size=32)


def test_partners_are_near_each_other_and_found_anew_as_epochs_double(table, tmp_path):
    partners = Partners(table, 4, RECIPE, 0, tmp_path / "partners.npz")
    calls = []

    def embed(crops):
        calls.append(len(crops))
        return mean_color(crops)

    partners.prepare(0, embed)
    assert partners.rows is None
    assert not calls
    found = []
    for epoch in range(1, 9):
        before = len(calls)
        partners.prepare(epoch, embed)
        if len(calls) > before:
            found.append(epoch)
    assert found == [1, 2, 4, 8]
    labels = table.column("label_name")
    for row, own in enumerate(partners.rows):
        own = own[own != NOBODY]
        assert row not in own
        assert (labels[own] == labels[row]).all()
        assert all(row in partners.rows[other] for other in own)
    assert (partners.rows != NOBODY).any(axis=1).mean() > 0.8


def test_a_run_that_goes_on_finds_the_partners_that_it_had(table, tmp_path):
    file = tmp_path / "partners.npz"
    first = Partners(table, 4, RECIPE, 0, file)
    first.prepare(2, mean_color)

    def another(crops):
        raise AssertionError("the network has moved on since")

    again = Partners(table, 4, RECIPE, 0, file)
    again.prepare(3, another)
    assert np.array_equal(again.rows, first.rows)


def test_recordings_pair_with_others_alone(table, tmp_path):
    names = pa.array([f"day {row % 2}" for row in range(len(table))])
    recorded = table.with_column("session", names)
    partners = Partners(recorded, 4, RECIPE, 0, tmp_path / "partners.npz")
    partners.prepare(1, mean_color)
    known = partners.rows != NOBODY
    assert known.any()
    day = np.arange(len(table)) % 2
    assert (day[partners.rows] != day[:, None])[known].all()


def test_unreadable_crops_are_nobodys_partners(photos, table, tmp_path):
    (photos / "green" / "05.png").write_bytes(b"broken since it was read")
    partners = Partners(table, 4, RECIPE, 0, tmp_path / "partners.npz")
    partners.prepare(1, mean_color)
    broken = table.column("image").tolist().index("green/05.png")
    assert (partners.rows[broken] == NOBODY).all()
    assert broken not in partners.rows


def test_large_piles_are_compared_in_parts(table, tmp_path, monkeypatch):
    monkeypatch.setattr("curation.partners.MOST_AT_ONCE", 12)
    partners = Partners(table, 4, RECIPE, 0, tmp_path / "partners.npz")
    partners.prepare(1, mean_color)
    labels, known = table.column("label_name"), partners.rows != NOBODY
    assert known.any()
    assert (labels[partners.rows] == labels[:, None])[known].mean() > 0.9


def test_crops_are_compared_in_one_pass_at_the_size_of_training():
    recipe = recipe_of_partners(Recipe(orientations=4, image_size=160), 96)
    assert recipe == Recipe(orientations=1, image_size=96)
