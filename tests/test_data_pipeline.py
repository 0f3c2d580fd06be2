from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import pipeline
from data.crop_cache import CropCache
from data.crop_table import CropTable
from data.images import STRETCHED, CropWindow, cut, read_image
from data.pipeline import (
    Unreadable,
    embedding_batches,
    training_batches,
    training_order,
)
from simclr_tf2.augment import AugmentConfig, two_views
from simclr_tf2.config import EncoderConfig, ObjectiveConfig
from simclr_tf2.distribute import read_ahead
from simclr_tf2.encoders.registry import make_encoder
from simclr_tf2.objectives import make_objective
from tests.conftest import read_image_folder
from tests.test_data_crop_table import columns


@pytest.fixture
def boxes_table(tmp_path):
    """Five images with 3 crops each, the third of them damaged."""
    images, boxes = [], []
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        for left in (0, 11, 30):
            images.append(f"{number}.png")
            boxes.append((left, 5, left + 20, 35))
    (tmp_path / "2.png").write_bytes(b"broken")
    return CropTable.from_columns(tmp_path, columns(images, boxes))


@pytest.mark.parametrize(("batch", "start"), [(1, 0), (4, 0), (64, 0), (4, 7), (4, 8)])
def test_embedding_batches_are_the_crops_in_table_order(boxes_table, batch, start):
    unreadable = Unreadable()
    batches = list(embedding_batches(boxes_table, 16, batch, unreadable, start=start))
    crops, valid = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert [len(mask) for _, mask in batches[:-1]] == [batch] * (len(batches) - 1)
    assert len(valid) == len(boxes_table) - start
    for place, row in enumerate(range(start, len(boxes_table))):
        if boxes_table.column("image")[row] == "2.png":
            assert not valid[place]
            assert not crops[place].any()
        else:
            expected = np.asarray(
                cut(read_image(boxes_table.path(row)), boxes_table.boxes[row], 16)
            )
            assert np.array_equal(crops[place], expected)
    assert unreadable.reasons == {"2.png": "not an image"}


def test_each_image_is_decoded_once(boxes_table, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        pipeline,
        "read_image",
        lambda path: decoded.append(path.name) or read_image(path),
    )
    list(embedding_batches(boxes_table, 16, 2, Unreadable()))
    assert sorted(decoded) == ["0.png", "1.png", "2.png", "3.png", "4.png"]


def epoch(table, folder, seed=0, number=0, start=0):
    config = AugmentConfig(16)
    cache = CropCache(folder / "cache", table, 32, STRETCHED)
    views = training_batches(
        cache,
        lambda image, key: two_views(image, key, config),
        8,
        seed=seed,
        epoch=number,
        start_batch=start,
    )
    return [
        (first.numpy(), second.numpy(), labels.numpy())
        for (first, second), labels in views
    ]


def same(one, two):
    return len(one) == len(two) and all(
        np.array_equal(a, b)
        for x, y in zip(one, two, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_training_batches_depend_on_seed_and_epoch_alone(photos, tmp_path):
    table, _ = read_image_folder(photos)
    first = epoch(table, tmp_path)
    assert same(first, epoch(table, tmp_path / "other"))
    assert not same(first, epoch(table, tmp_path, seed=1))
    assert not same(first, epoch(table, tmp_path, number=1))
    assert len(first) == 36 // 8
    assert first[0][0].shape == (8, 16, 16, 3)


def test_training_resumes_with_the_batches_it_would_have_seen(photos, tmp_path):
    table, _ = read_image_folder(photos)
    whole = epoch(table, tmp_path, number=3)
    assert same(whole[2:], epoch(table, tmp_path, number=3, start=2))


def test_an_epoch_shows_every_crop_at_most_once(photos, tmp_path):
    table, _ = read_image_folder(photos)
    cache = CropCache(tmp_path / "cache", table.take(np.arange(24)), 32, STRETCHED)
    rows = training_batches(
        cache,
        lambda image, key: tf.reduce_mean(tf.cast(image, tf.float32)),
        8,
        seed=0,
        epoch=0,
    )
    means = np.concatenate([value.numpy() for value, _ in rows])
    assert len(np.unique(means)) == 24


def test_an_unreadable_crop_is_replaced(photos, tmp_path):
    table, _ = read_image_folder(photos)
    (photos / "green" / "05.png").write_bytes(b"broken since it was read")
    for number in range(
        3
    ):  # an epoch leaves out a remainder, so one alone might not meet the broken image
        batches = epoch(table, tmp_path, number=number)
        assert [len(labels) for _, _, labels in batches] == [8] * (36 // 8)


def test_no_readable_crop_is_an_error(photos, tmp_path):
    table, _ = read_image_folder(photos)
    for path in photos.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="none of the crops could be read"
    ):
        epoch(table, tmp_path)


def test_labels_are_places_among_the_classes(photos, tmp_path):
    table, _ = read_image_folder(photos)
    labels = np.concatenate(
        [
            labels
            for _, _, labels in epoch(
                table.take(table.column("label_name") != "blue"), tmp_path
            )
        ]
    )
    assert set(labels) == {
        0,
        1,
    }  # green and red, although the source calls them 1 and 2


@pytest.mark.parametrize(
    "view", [STRETCHED, CropWindow(), CropWindow(0.5, False, "gray")]
)
def test_embedding_batches_show_the_view(boxes_table, view):
    crops, _ = next(
        iter(embedding_batches(boxes_table, 16, 3, Unreadable(), view=view))
    )
    for row in range(3):
        expected = np.asarray(
            cut(read_image(boxes_table.path(row)), boxes_table.boxes[row], 16, view)
        )
        assert np.array_equal(crops[row], expected)


@pytest.mark.parametrize("by_session", [False, True])
def test_an_epoch_s_order_is_a_permutation_without_its_remainder(by_session):
    table = sessions_table([7, 20, 6])
    order = training_order(table, 8, 0, 0, by_session)
    assert len(order) == len(set(order)) == 32
    assert np.array_equal(order, training_order(table, 8, 0, 0, by_session))
    assert not np.array_equal(order, training_order(table, 8, 0, 1, by_session))


def test_batches_by_session_hold_as_few_sessions_as_possible():
    table = sessions_table([16, 16, 16, 16])
    sessions = table.column("session")
    batches = training_order(table, 8, 3, 0, True).reshape(-1, 8)
    assert [len(set(sessions[batch])) for batch in batches] == [1] * 8
    mixed = training_order(table, 8, 3, 0, False).reshape(-1, 8)
    assert np.mean([len(set(sessions[batch])) for batch in mixed]) > 2.5
    assert (
        len({sessions[batch[0]] for batch in batches[:4]}) > 2
    )  # sessions don't come one after the other


def sessions_table(counts):
    """A table with the given numbers of crops in its sessions."""
    names = [
        f"s{number}-{crop:03d}.png"
        for number, count in enumerate(counts)
        for crop in range(count)
    ]
    sessions = [
        f"s{number}" for number, count in enumerate(counts) for _ in range(count)
    ]
    return CropTable.from_columns(
        "", columns(names, [(0, 0, 9, 9)] * len(names)) | {"session": sessions}
    )


def test_devices_share_a_batch_and_workers_share_the_work(photos, tmp_path):
    """Each element is one device's share; together they are the batch of one device.
    Shapes are static, as TPUs demand.
    """
    table, _ = read_image_folder(photos)
    cache, config = (
        CropCache(tmp_path / "cache", table, 32, STRETCHED),
        AugmentConfig(16),
    )

    def batches(replicas, worker):
        return training_batches(
            cache,
            lambda x, key: two_views(x, key, config),
            12,
            seed=0,
            epoch=1,
            start_batch=1,
            by_session=False,
            replicas=replicas,
            worker=worker,
        )

    whole = [(views[0].numpy(), labels.numpy()) for views, labels in batches(1, (0, 1))]
    assert len(whole) == 2
    # Four devices, two in each of two processes.
    shares = [
        [
            (views[0].numpy(), labels.numpy())
            for views, labels in batches(4, (worker, 2))
        ]
        for worker in range(2)
    ]
    for step, (images, labels) in enumerate(whole):
        parts = [part for worker in shares for part in worker[2 * step : 2 * step + 2]]
        np.testing.assert_array_equal(
            np.concatenate([part[0] for part in parts]), images
        )
        np.testing.assert_array_equal(
            np.concatenate([part[1] for part in parts]), labels
        )
    (first, second), labels = batches(4, (0, 2)).element_spec
    assert first.shape == second.shape == (3, 16, 16, 3)
    assert labels.shape == (3,)


def test_a_partner_comes_four_times_in_five_with_its_own_label(photos, tmp_path):
    table, _ = read_image_folder(photos)
    cache = CropCache(tmp_path / "cache", table, 32, STRETCHED)
    partners = np.full((len(table), 2), -1)
    partners[:24, 0] = np.arange(24) + 12  # of the next color; the last have none

    def numbers(image, key, partner):
        pair = [tf.image.convert_image_dtype(x, tf.float32) for x in (image, partner)]
        return tf.reduce_mean(pair[0]), tf.reduce_mean(pair[1])

    means = np.array([cache.read(row).mean() / 255 for row in range(len(table))])
    taken, shown = 0, 0
    for number in range(20):
        options = {"seed": 0, "epoch": number, "partners": partners}
        for (own, other), labels in training_batches(cache, numbers, 8, **options):
            for one, two, pair in zip(own.numpy(), other.numpy(), labels, strict=True):
                row, partner = (int(np.abs(means - m).argmin()) for m in (one, two))
                assert pair.numpy().tolist() == [row // 12, partner // 12]
                assert partner in (row, partners[row, 0])
                shown += row < 24
                taken += partner != row
    assert taken / shown == pytest.approx(pipeline.PARTNER_SHARE, abs=0.06)


@pytest.mark.parametrize(
    ("objective", "with_partners"),
    [("contrastive", True), ("contrastive", False), ("supervised", False)],
)
def test_views_made_on_the_device_are_those_of_the_host(
    photos, tmp_path, objective, with_partners
):
    """Also where two devices share the batch, and read ahead of the step."""
    table, _ = read_image_folder(photos)
    augment = AugmentConfig(16, grayscale_prob=0.3, blur_prob=0.5)
    config = ObjectiveConfig(augment, classes=3)
    cache = CropCache(tmp_path / "cache", table, 32, STRETCHED)
    partners = np.roll(np.arange(len(table)), 5)[:, None] if with_partners else None
    encoder = make_encoder(EncoderConfig("tiny", "random"))

    def images(on_device, replicas=1):
        stated = replace(config, augment_on_device=on_device)
        goal = make_objective(objective, encoder, stated)
        options = {"seed": 1, "epoch": 2, "partners": partners, "replicas": replicas}
        batches = training_batches(cache, goal.augment, 8, **options)
        if on_device:
            batches = read_ahead(batches, "/CPU:1")
        return [(goal.images(views), labels) for views, labels in batches]

    host, device = images(False), images(True)
    assert len(host) == len(device) == len(table) // 8
    for (mine, labels), (theirs, same) in zip(device, host, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=5e-6)
        np.testing.assert_array_equal(labels, same)
    for at, (mine, labels) in enumerate(images(True, replicas=2)):
        rows = slice(4 * (at % 2), 4 * (at % 2) + 4)
        theirs, same = host[at // 2]
        views = tf.reshape(theirs, [-1, 8, 16, 16, 3])[:, rows]
        np.testing.assert_allclose(mine, tf.reshape(views, [-1, 16, 16, 3]), atol=5e-6)
        np.testing.assert_array_equal(labels, same[rows])
