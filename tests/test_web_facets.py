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


def facet_of(name, values, **asked):
    pool = Pool(
        set_of(np.eye(len(values), dtype=np.float32), **{name: values}),
        transform="l2",
    )
    facets = Facets(pool)
    return by_name(facets.counted(asked.pop("conditions", {}), **asked)).get(name)


def test_each_kind_of_column_is_counted_by_hand():
    facet = facet_of("wet", [True, False, True, None, True])
    assert (facet.kind, counts(facet)) == ("truth", {"true": 3, "false": 1})
    facet = facet_of("kind", ["b", "a", "c", None, "b", ""])
    assert (facet.kind, facet.distinct) == ("text", 4)
    assert counts(facet) == {"b": 2, "a": 1, "c": 1, "": 1}
    facet = facet_of("size", [1, 2, 25, 25])
    assert (facet.kind, facet.low, facet.high) == ("number", 1, 25)
    assert facet.histogram == facet.everything == [1, 1, *[0] * 21, 2]
    for values in (["a"] * 3, [7.0, None, 7.0], [None, float("inf"), 3.0]):
        assert facet_of("same", values) is None
    assert facet_of("few", ["a", None, None]) is None
    # Only what counts tells whether there is anything to choose from.
    among = np.array([True, True, False])
    assert facet_of("kind", ["a", "a", "b"], among=among) is None
    found = facet_of("kind", ["a", "a", "b"], among=among, search="A", column="kind")
    assert (found.distinct, counts(found)) == (1, {"a": 2})


def test_the_most_frequent_values_come_first_those_of_the_others_break_ties():
    values = ["a", "b", "b", "c", "c", "c", "d"]
    facet = facet_of("kind", values, conditions={"": "kind IN ('a', 'b', 'd')"})
    assert [(one.value, one.crops) for one in facet.values] == [
        ("b", 2),
        ("a", 1),
        ("d", 1),
        ("c", 0),
    ]
    facet = facet_of("kind", values, conditions={"": "kind = 'd'"})
    assert [one.value for one in facet.values] == ["d", "c", "b", "a"]
    facet = facet_of("kind", values, conditions={"kind": "kind = 'd'", "image": " "})
    assert counts(facet) == {"a": 1, "b": 2, "c": 3, "d": 1}
