import csv
import time
from collections import Counter
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageFilter

from data.formats.cropandweed import variants
from data.sample_field import draw_field, draw_session, render
from data.sample_field.painting import full_area, paint
from data.sample_field.plants import grow
from data.sample_field.rendering import annotate, draw_plants
from data.sample_field.species import BY_NAME, SPECIES
from data.where import rows_where
from tests.conftest import read_cropandweed


def test_it_reads_as_cropandweed(field):
    table, report = read_cropandweed(field)
    assert len(table) > 150
    assert not report.skipped
    unexpected = set(report.counts) - {"boxes that touch the border"}
    assert not unexpected
    assert set(table.column("session")) == {"smp-0000", "smp-0001", "smp-0002"}
    assert set(table.column("moisture")) <= {"dry", "medium", "wet"}
    names = variants()["CropAndWeed"].names
    labelled = table.column("label") >= 0
    for label, name, species in zip(
        *(
            table.column(column)[labelled]
            for column in ("label", "label_name", "species")
        ),
        strict=True,
    ):
        assert names[label] == name
        assert name.startswith(species)


def test_attributes_agree_with_boxes_masks_and_labels(field):
    table, _ = read_cropandweed(field)
    rows = table.rows.to_pylist()
    assert all(row["species"] for row in rows)  # every box has its attributes
    for row in rows:
        assert 0 < row["share_visible"] <= 1
        assert 0 < row["vegetation"] <= 1
        if row["label_name"].startswith("Sugar beet"):
            fewest = {"two": 0, "four": 3, "six": 5, "eight": 7}[
                row["label_name"].split()[2].split("-")[0]
            ]
            assert fewest <= row["true_leaves"] <= fewest + 2
        if not row["cut_off"]:
            assert not row["touches_border"]
    assert (
        rows_where(
            table,
            "species = 'Sugar beet' AND true_leaves BETWEEN 4 AND 6 AND share_visible "
            "> 0.9 AND cut_off = 0",
        ).sum()
        > 5
    )


def test_the_mask_holds_the_label_under_each_box(field):
    table, _ = read_cropandweed(field)
    image = table.column("image")[0]
    mask = np.asarray(
        Image.open(field / "labelIds" / "CropAndWeed" / f"{image[7:-4]}.png")
    )
    assert mask.shape == (1088, 1920)
    for row in np.flatnonzero(table.column("image") == image):
        left, top, right, bottom = table.boxes[row]
        assert (mask[top:bottom, left:right] == table.column("label_id")[row]).any()


def test_the_same_seed_renders_the_same_field_and_a_larger_one_holds_it(
    field, tmp_path
):
    again = draw_field(tmp_path / "again", 1, seed=3, processes=1)
    for path in sorted(again.rglob("*-0000-0000.*")):
        assert path.read_bytes() == (field / path.relative_to(again)).read_bytes(), path
    other = draw_field(tmp_path / "other", 1, seed=4, processes=1)
    assert (
        next((other / "images").iterdir()).read_bytes()
        != next((again / "images").iterdir()).read_bytes()
    )


def test_a_killed_run_goes_on(field, monkeypatch):
    victim = field / ".attributes" / "smp-0000-0004.csv"
    before, stated = victim.read_bytes(), (field / "attributes.csv").read_bytes()
    untouched = (field / "images" / "smp-0000-0003.jpg").stat().st_mtime_ns
    victim.unlink()
    draw_field(field, 11, seed=3, processes=1)
    assert victim.read_bytes() == before
    assert (field / "attributes.csv").read_bytes() == stated
    assert (field / "images" / "smp-0000-0003.jpg").stat().st_mtime_ns == untouched


def test_a_field_of_another_seed_is_not_mixed_in(field):
    with pytest.raises(ValueError, match=r"seed 3.*got 5"):
        draw_field(field, 11, seed=5)


def test_a_single_uncovered_plant_is_annotated_exactly():
    plant = grow(
        BY_NAME["Sugar beet"], 5, (900.0, 500.0), 1.0, np.random.default_rng(0)
    )
    _, index = paint(
        [plant], draw_session(0, 0).conditions, (1920, 1088), np.random.default_rng(0)
    )
    (note,) = annotate([plant], index)
    rows, columns = np.nonzero(index)
    assert note.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert note.label_id == 10
    assert note.share_visible > 0.97
    assert not note.cut_off
    area, _ = full_area(plant)
    assert abs(area / len(rows) - 1) < 0.03


def test_covering_and_cutting_lower_the_share_visible():
    rng = np.random.default_rng(1)
    below = grow(BY_NAME["Sugar beet"], 6, (400.0, 500.0), 1.0, rng)
    above = grow(BY_NAME["Field mustard"], 8, (430.0, 520.0), 1.3, rng)
    cut = grow(BY_NAME["Sugar beet"], 6, (1915.0, 900.0), 1.0, rng)
    plants = [below, above, cut]
    _, index = paint(plants, draw_session(0, 0).conditions, (1920, 1088), rng)
    covered, whole, part = annotate(plants, index)
    assert covered.share_visible < 0.8
    assert whole.share_visible > 0.97
    assert part.cut_off
    assert part.box[2] == 1920
    assert 0.2 < part.share_visible < 0.8


@pytest.mark.parametrize("species", SPECIES, ids=lambda species: species.name)
def test_every_species_grows_from_cotyledons_to_its_last_leaf(species):
    areas = []
    for leaves in (0, 2, species.most_leaves):
        plant = grow(species, leaves, (500.0, 500.0), 1.0, np.random.default_rng(5))
        assert plant.true_leaves == leaves
        assert all(np.isfinite(leaf.outline).all() for leaf in plant.leaves)
        areas.append(full_area(plant, 1)[0])
    assert areas == sorted(areas)
    assert areas[0] > 20


def test_the_class_tail_is_long():
    counts = Counter()
    for number in range(12):
        for frame in range(4):
            rng = np.random.default_rng([9, number, frame])
            counts.update(
                plant.species.name
                for plant in draw_plants(draw_session(number, 9), rng)
            )
    share = np.array(sorted(counts.values(), reverse=True)) / sum(counts.values())
    assert len(share) >= 12
    assert share[0] > 0.1
    assert share[12:].sum() < 0.12
    assert counts["Sugar beet"] == max(counts.values())


def test_a_smaller_number_takes_nothing_away(field):
    before = (field / "attributes.csv").read_bytes()
    draw_field(field, 2, seed=3)
    assert (field / "attributes.csv").read_bytes() == before


def test_bad_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="images must be at least 1; got 0"):
        draw_field(tmp_path, 0)


def test_an_image_takes_no_longer_than_common_work_on_as_many_pixels():
    """Of this process alone, so that other work on the machine doesn't count; and not in
    seconds, which are others on every machine: about 0.8 times the work below.
    """

    def seconds(work):
        start = time.process_time()
        work()
        return time.process_time() - start

    session = draw_session(1, 0)
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (1088, 1920, 3), dtype=np.uint8))
    numbers = rng.random(2_000_000)

    def common_work():
        for _ in range(10):
            noise.filter(ImageFilter.GaussianBlur(4))
        for _ in range(2):
            np.sort(numbers)

    render(session, 0, 0)  # what is made once
    ratios = [
        seconds(partial(render, session, frame, 0)) / seconds(common_work)
        for frame in range(2)
    ]
    assert min(ratios) < 1.6


def test_attributes_have_a_line_for_each_box(field):
    with open(field / "attributes.csv", newline="") as file:
        lines = Counter(row["image"] for row in csv.DictReader(file))
    for path in (field / "bboxes" / "CropAndWeed").glob("*.csv"):
        assert lines[f"{path.stem}.jpg"] == len(path.read_text().splitlines())
