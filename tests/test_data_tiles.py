"""Photos without boxes: tiles, how green they are, and what a source of them is."""

import json

import numpy as np
import pytest
from PIL import Image

from data.crop_table import CropTable
from data.formats.base import SourceOptions
from data.formats.registry import read_source
from data.tiles import Tiling, plant_pixels, share_of
from tests.conftest import TINY, call, noisy

SOIL, LEAF = (120, 90, 60), (60, 150, 40)


def test_tiles_cover_the_image_equally_far_apart():
    boxes = Tiling(100).boxes(250, 100)
    assert boxes.tolist() == [[0, 0, 100, 100], [75, 0, 175, 100], [150, 0, 250, 100]]
    assert Tiling(100).boxes(200, 100)[:, 0].tolist() == [0, 100]
    # At least as much overlap as was asked for: 3 tiles would leave 50 pixels, not 60.
    assert Tiling(100, 60).boxes(200, 100)[:, 0].tolist() == [0, 33, 67, 100]
    assert Tiling(100, 50).boxes(200, 100)[:, 0].tolist() == [0, 50, 100]
    assert Tiling(512).boxes(300, 600).tolist() == [[0, 0, 300, 512], [0, 88, 300, 600]]


@pytest.mark.parametrize(("side", "overlap"), [(32, 0), (50, 20), (64, 63), (97, 10)])
@pytest.mark.parametrize("size", [(97, 97), (200, 131), (20, 500)])
def test_no_pixel_is_left_out(side, overlap, size):
    boxes = Tiling(side, overlap).boxes(*size)
    covered = np.zeros(size[::-1], bool)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        assert right - left == min(side, size[0])
        covered[top:bottom, left:right] = True
    assert covered.all()
    starts = np.unique(boxes[:, 0])
    assert (np.diff(starts) <= side - overlap).all()


@pytest.mark.parametrize(
    ("stated", "found"),
    [("512", Tiling(512)), ("512,64", Tiling(512, 64)), (" 64 , 0 ", Tiling(64))],
)
def test_side_and_overlap(stated, found):
    assert Tiling.parse(stated) == found


@pytest.mark.parametrize("stated", ["", "big", "512x512", "512,", "-5", "8", "64,64"])
def test_other_tiles_are_refused(stated):
    with pytest.raises(ValueError, match=r"^tiles must be a side.*512,64"):
        Tiling.parse(stated)


def test_plants_are_greener_than_soil():
    # 3g - 2.4r - b: by hand 450 - 144 - 40 > 0 and 270 - 288 - 60 < 0; gray is none.
    pixels = np.array([[LEAF, SOIL, (128, 128, 128), (0, 0, 0), (0, 1, 0)]], np.uint8)
    assert plant_pixels(pixels).tolist() == [[True, False, False, False, True]]
    white = np.full((1, 1, 3), 255, np.uint8)
    assert not plant_pixels(white).any()


def test_shares_agree_with_counting():
    mask = np.random.default_rng(0).random((40, 60)) < 0.3
    boxes = np.array([[0, 0, 60, 40], [5, 7, 6, 8], [10, 0, 40, 39]])
    counted = [
        mask[top:bottom, left:right].mean() for left, top, right, bottom in boxes
    ]
    np.testing.assert_allclose(share_of(mask, boxes), counted, rtol=1e-12)


@pytest.fixture
def photos(tmp_path):
    """Two photos of soil, 200 x 100; on one a plant fills the left half of the first
    64 pixels."""
    root = tmp_path / "photos"
    root.mkdir()
    soil = Image.new("RGB", (200, 100), SOIL)
    soil.save(root / "a-1-001.png")
    soil.paste(LEAF, (0, 0, 32, 64))
    soil.save(root / "b.png")
    return root


def test_photos_become_tiles_that_share_their_recording(photos):
    table, report = read_source(photos, SourceOptions(tiles="64"))
    assert len(table) == 2 * 4 * 2
    assert set(table.column("session")) == {"a-1", "b.png"}
    assert report.counts["photos cut into 16 tiles"] == 2
    assert report.seen == report.dropped + len(table) == 16
    green = dict(zip(table.ids, table.column("greenness"), strict=True))
    plant = table.find("b.png@1,1")[0]
    assert green[table.ids[plant]] == 0.5
    assert table.column("greenness")[table.find("b.png@190,90")[0]] == 0
    assert (table.column("greenness") > 0.01).sum() == 2  # and the tile below it


def test_photos_of_a_csv_are_cut_as_those_of_a_folder(photos, tmp_path):
    """With classes or the image alone."""
    folder, _ = read_source(photos, SourceOptions(tiles="64"))
    for lines in (["image", "{}"], ["image,class", "{},soil"]):
        rows = [lines[1].format(path.name) for path in sorted(photos.iterdir())]
        (photos.parent / "list.csv").write_text("\n".join([lines[0], *rows]))
        options = SourceOptions(tiles="64", images=str(photos))
        table, _ = read_source(photos.parent / "list.csv", options)
        assert table.ids.tolist() == folder.ids.tolist()
        assert table.boxes.tolist() == folder.boxes.tolist()


def test_damaged_photos_are_counted(photos):
    path = photos / "c.png"
    path.write_bytes((photos / "b.png").read_bytes()[:150])
    table, report = read_source(photos, SourceOptions(tiles="64"))
    assert len(table) == 16
    assert [item.image for item in report.skipped] == ["c.png"]
    assert report.seen == report.dropped + len(table) == 17


def test_sources_with_boxes_are_refused(photos, tmp_path):
    (tmp_path / "b.csv").write_text(
        "image,left,top,right,bottom\nphotos/b.png,0,0,9,9\n"
    )
    with pytest.raises(
        ValueError, match=r"tiles are for photos without boxes; .*b\.csv"
    ):
        read_source(tmp_path / "b.csv", SourceOptions(tiles="64"))
    table, _ = read_source(photos)
    table.write(tmp_path / "crops.parquet")
    with pytest.raises(ValueError, match="tiles are for photos without boxes"):
        read_source(tmp_path / "crops.parquet", SourceOptions(tiles="64"))


def test_what_is_found_is_exported_as_boxes_on_the_photos(photos, tmp_path):
    """A folder of photos in, COCO boxes out: all of it by the scripts."""
    rng = np.random.default_rng(0)
    for number in range(6):
        photo = noisy(SOIL, (200, 100), number)
        left, top = (int(value) for value in rng.integers(0, (136, 36)))
        photo.paste(noisy(LEAF, (60, 60), number), (left, top))
        photo.save(photos / f"p{number}.png")
    run = f"--embeddings={tmp_path / 'set'}"
    source = [f"--data={photos}", "--tiles=64,32", "--where=greenness > 0.05"]
    call("run_embed.py", run, *source, *TINY[:3])
    table = CropTable.read(tmp_path / "set" / "crops.parquet")
    assert (table.column("greenness") > 0.05).all()
    rows = np.argsort(-table.column("greenness"), kind="stable")
    marks = "crop_id,relevant\n" + "".join(
        f"{table.ids[row]},{int(place < 4)}\n"
        for place, row in enumerate([*rows[:4], *rows[-4:]])
    )
    (tmp_path / "marks.csv").write_text(marks)
    probe = tmp_path / "probe"
    given = [f"--query={table.ids[rows[0]]}", f"--marks={tmp_path / 'marks.csv'}"]
    call("run_search.py", run, *given, f"--save_probe={probe}")
    export = ["--class_name=plant", "--format=coco", f"--folder={tmp_path / 'coco'}"]
    call("run_export.py", run, f"--probe={probe}", "--selected=marked", *export)
    found = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert {item["crop_id"] for item in found["annotations"]} == set(
        table.ids[rows[:4]]
    )
    names = {image["id"]: image["file_name"] for image in found["images"]}
    for item in found["annotations"]:
        left, top, width, height = item["bbox"]
        assert (width, height) == (64, 64)
        row = table.row_of(item["crop_id"])
        assert names[item["image_id"]] == table.column("image")[row]
        with Image.open(photos / names[item["image_id"]]) as photo:
            tile = np.asarray(
                photo.convert("RGB").crop((left, top, left + 64, top + 64))
            )
        assert plant_pixels(tile).mean() == pytest.approx(
            table.column("greenness")[row], abs=1e-4
        )
