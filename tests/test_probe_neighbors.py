import numpy as np

from probe.neighbors import NOBODY, mutual, nearest
from probe.transforms import l2_normalize


def test_nearest_is_what_sorting_all_cosines_gives():
    unit = l2_normalize(np.random.default_rng(0).normal(size=(1100, 8)))
    found = nearest(unit, 3)
    cosines = unit.astype(np.float64) @ unit.T
    np.fill_diagonal(cosines, -2)
    assert np.array_equal(found, np.argsort(-cosines, axis=1, kind="stable")[:, :3])


def test_rows_of_one_number_are_apart_and_zeros_have_nobody():
    angles = np.radians([0, 1, 2, 90, 91])
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    unit = np.concatenate([unit, np.zeros((1, 2), np.float32)])
    apart = np.array([0, 0, 1, 1, 2, 3])
    assert nearest(unit, 2, apart).tolist() == [
        [2, 3],
        [2, 3],
        [1, 0],
        [4, 1],
        [3, 2],
        [NOBODY, NOBODY],
    ]
    assert nearest(unit[:2], 3, apart[:2]).tolist() == [[NOBODY] * 3] * 2


def test_of_each_number_only_the_nearest_may_count():
    angles = np.radians([0, 5, 6, 7, 40, 90])
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    apart = np.array([0, 1, 1, 1, 2, 3])
    found = nearest(unit, 2, apart, one_of_each=True)
    assert found.tolist() == [[1, 4], [0, 4], [0, 4], [0, 4], [3, 0], [4, 3]]
    few = nearest(unit, 5, apart, one_of_each=True)
    assert few[0].tolist() == [1, 4, 5, NOBODY, NOBODY]


def test_mutual_keeps_who_name_each_other():
    found = np.array([[1, 2], [0, 2], [3, 0], [2, NOBODY]])
    assert mutual(found).tolist() == [
        [1, 2],
        [0, NOBODY],
        [3, 0],
        [2, NOBODY],
    ]
