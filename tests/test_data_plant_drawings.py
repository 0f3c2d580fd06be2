import numpy as np
import pytest

from data.plant_drawings import SPECIES, draw_plant, draw_session, draw_set

SESSION = draw_session(np.random.default_rng(0))


def test_the_same_seed_draws_the_same_plant_and_another_seed_another():
    for species in SPECIES:
        one, two, other = (np.asarray(draw_plant(species, SESSION, np.random.default_rng(seed))) for seed in (1, 1, 2))
        assert np.array_equal(one, two)
        assert not np.array_equal(one, other)


def test_a_plant_is_green_in_the_middle_and_soil_at_the_border():
    for species in SPECIES:
        pixels = np.mean(
            [np.asarray(draw_plant(species, SESSION, np.random.default_rng(seed)), float) for seed in range(8)], axis=0
        )
        greenness = pixels[..., 1] - pixels[..., 0]
        assert greenness[54:74, 54:74].mean() > 10
        assert greenness[:6].mean() < 0


def test_a_set_is_resumable_and_a_larger_one_holds_the_smaller(tmp_path):
    draw_set(tmp_path, 1)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert len(first) == len(SPECIES)
    draw_set(tmp_path, 2)
    assert len(list(tmp_path.rglob("*.png"))) == 2 * len(SPECIES)
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    with pytest.raises(ValueError, match="per_class must be at least 1"):
        draw_set(tmp_path, 0)
