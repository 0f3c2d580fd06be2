"""Facets against counting by hand."""

import numpy as np
import pytest

from curation.pool import Pool
from tests.conftest import set_of
from web.facets import BINS, VALUES, Facets


@pytest.fixture(scope="module")
def pool(species_set):
    return Pool(species_set)


def counts(facet):
    return {one.value: one.crops for one in facet.values}


def by_name(found):
    return {facet.name: facet for facet in found}


def test_values_are_counted_under_what_is_asked_of_the_other_columns(pool):
    facets = Facets(pool)
    labels, lighting = (pool.table.column(name) for name in ("label_name", "lighting"))
    found = by_name(facets.counted({"lighting": "lighting IN ('sunny')"}))
    is_sunny = lighting == "sunny"
    for name, crops in counts(found["label_name"]).items():
        assert crops == (is_sunny & (labels == name)).sum()
    assert found["label_name"].distinct == len(set(labels))
    # A column's own condition doesn't count for it: others show what they would add.
    assert counts(found["lighting"]) == {
        name: (lighting == name).sum() for name in set(lighting)
    }
    order = [one.crops for one in found["label_name"].values]
    assert order == sorted(order, reverse=True)
    both = by_name(
        facets.counted({"lighting": "lighting IN ('sunny')", "": "true_leaves > 3"})
    )
    leaves = np.asarray(pool.table.column("true_leaves"), float)
    assert counts(both["lighting"])["sunny"] == (is_sunny & (leaves > 3)).sum()
    assert sum(counts(both["label_name"]).values()) == (is_sunny & (leaves > 3)).sum()


def test_numbers_are_counted_in_equal_parts_of_their_range(pool):
    among = np.arange(len(pool)) % 2 == 0
    condition = {"lighting": "lighting IN ('sunny')"}
    facet = by_name(Facets(pool).counted(condition, among))["true_leaves"]
    leaves = np.asarray(pool.table.column("true_leaves"), float)
    known = leaves[among & np.isfinite(leaves)]
    assert (facet.low, facet.high) == (known.min(), known.max())
    assert len(facet.histogram) == BINS
    assert sum(facet.everything) == len(known)
    is_sunny = pool.table.column("lighting") == "sunny"
    some = leaves[among & is_sunny & np.isfinite(leaves)]
    width = (facet.high - facet.low) / BINS
    place = np.minimum(((some - facet.low) / width).astype(int), BINS - 1)
    assert facet.histogram == np.bincount(place, minlength=BINS).tolist()


def test_among_500_classes_one_is_found_by_a_part_of_its_name():
    names = [f"class {number:03d}" for number in range(500)]
    labels = [*names, *(["Class 123"] * 3)]
    pool = Pool(set_of(np.eye(len(labels), dtype=np.float32), labels), transform="l2")
    facets = Facets(pool)
    facet = by_name(facets.counted({}))["label_name"]
    assert (facet.distinct, len(facet.values)) == (501, VALUES)
    assert counts(facet)["Class 123"] == 3
    (found,) = facets.counted({}, column="label_name", search="S 123")
    assert counts(found) == {"Class 123": 3, "class 123": 1}
    assert found.distinct == 2
    with pytest.raises(ValueError, match="column must be one of"):
        facets.counted({}, column="crop_id")


def test_what_cannot_be_chosen_from_is_left_out_and_bad_sql_is_named(pool):
    found = by_name(Facets(pool).counted({}))
    assert not {"crop_id", "label"} & set(found)
    for facet in found.values():
        assert (
            facet.kind == "number" or facet.distinct > 1 or facet.name == ("label_name")
        )
    with pytest.raises(ValueError, match="where must be an SQL condition"):
        Facets(pool).counted({"": "nonsense = 1"})
