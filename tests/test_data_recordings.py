"""What was recorded together stays together: folders, dates of EXIF, columns."""

import contextlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from data.crop_table import CropTable
from data.formats.base import SourceOptions
from data.formats.registry import read_source
from data.images import ImageError, inspect_image
from data.splits import split_mask
from tests.conftest import noisy

DAYS = ("2024:05:02", "2024:05:09", "2024:05:21")


def photo(path, stated="", gps=None, seed=0, digitized=""):
    """Writes a photo with EXIF dates and a position."""
    image = noisy((120, 90, 60), (40, 32), seed)
    exif = Image.Exif()
    if stated:
        exif.get_ifd(ExifTags.IFD.Exif)[0x9003] = stated
    if digitized:
        exif.get_ifd(ExifTags.IFD.Exif)[0x9004] = digitized
    if gps:
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    path.parent.mkdir(parents=True, exist_ok=True)
    exif[0x010F] = "Maker"  # without a tag at the top Pillow writes none into PNG
    image.save(path, exif=exif)
    return path


@pytest.fixture
def fields(tmp_path):
    """Forty photos of each of two fields on each of three days, numbered through."""
    root = tmp_path / "photos"
    for field in ("north", "south"):
        for number in range(120):
            stated = f"{DAYS[number // 40]} 10:00:{number % 40:02d}"
            photo(root / field / f"IMG_{number:04d}.jpg", stated, seed=number)
    return root


def recordings(table):
    return dict(zip(table.column("image"), table.column("session"), strict=True))


@pytest.mark.parametrize(
    ("recording", "count"), [("folder", 2), ("date", 3), ("folder,date", 6)]
)
def test_splits_never_share_a_recording(fields, recording, count):
    table, report = read_source(fields, SourceOptions(recording=recording))
    sessions = table.column("session")
    assert len(set(sessions)) == report.counts["recordings"] == count
    for image, session in recordings(table).items():
        day = DAYS[int(image[-8:-4]) // 40].replace(":", "-")
        stated = {"folder": image.split("/")[-2], "date": day}
        assert session.split("/")[-1] == " ".join(
            stated[word] for word in recording.split(",")
        )
    train = split_mask(table, "train")
    assert not set(sessions[train]) & set(sessions[~train])


def test_folders_that_are_recordings_are_no_classes(fields):
    table, _ = read_source(fields, SourceOptions(recording="folder"))
    assert table.classes == []
    assert set(table.column("label")) == {-1}
    table, _ = read_source(fields, SourceOptions(recording="date"))
    assert table.classes == ["north", "south"]


@pytest.mark.parametrize(
    ("layout", "found"),
    [
        ("a.jpg", (".", "", "")),
        ("f0/a.jpg", ("f0", "", "")),
        ("f0/beet/a.jpg", ("f0", "beet", "")),
        ("2024/f0/beet/a.jpg", ("2024/f0", "beet", "")),
        ("train/f0/a.jpg", ("f0", "", "train")),
        ("train/f0/beet/a.jpg", ("f0", "beet", "train")),
    ],
)
def test_layouts_with_recordings(tmp_path, layout, found):
    photo(tmp_path / "photos" / layout)
    table, _ = read_source(tmp_path / "photos", SourceOptions(recording="folder"))
    names = ("session", "label_name", "split")
    assert tuple(table.column(name)[0] for name in names) == found


def test_recordings_that_are_the_classes_are_refused(photos, tmp_path):
    lines = [f"photos/{name}/00.png,{name}" for name in ("red", "green", "blue")]
    (tmp_path / "list.csv").write_text("image,class\n" + "\n".join(lines))
    with pytest.raises(ValueError, match="each class a recording of its own"):
        read_source(tmp_path / "list.csv", SourceOptions(recording="folder"))


def test_a_column_says_it(photos, tmp_path):
    lines = ["image,class,farm"]
    lines += [f"photos/red/{n:02d}.png,a,{'x' if n < 5 else ''}" for n in range(8)]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    options = SourceOptions(recording="farm")
    table, report = read_source(tmp_path / "list.csv", options)
    assert table.column("session").tolist() == ["x"] * 5 + [""] * 3
    assert report.counts["crops of no known recording: their photo counts as one"] == 3
    with pytest.raises(ValueError, match=r"recording must be folder, date or a column"):
        read_source(tmp_path / "list.csv", SourceOptions(recording="farms"))
    with pytest.raises(ValueError, match="none of these does"):
        read_source(tmp_path / "list.csv", SourceOptions(recording="date"))


def test_date_and_position_become_columns(tmp_path):
    gps = {1: "S", 2: (33.0, 30.0, 36.0), 3: "E", 4: (151.0, 15.0, 0.0)}
    photo(tmp_path / "photos" / "a.jpg", "2024:05:02 10:11:12", gps)
    photo(tmp_path / "photos" / "b.jpg")
    table, _ = read_source(tmp_path / "photos")
    assert table.column("exif_time").tolist() == ["2024-05-02T10:11:12", ""]
    # 33 + 30/60 + 36/3600 south, 151 + 15/60 east
    assert table.rows.column("exif_latitude").to_pylist() == [-33.51, None]
    assert table.rows.column("exif_longitude").to_pylist() == [151.25, None]


def test_photos_without_exif_have_no_such_columns(photos):
    table, _ = read_source(photos)
    assert not [name for name in table.rows.column_names if name.startswith("exif")]


def test_what_photos_say_does_not_change_the_hash_of_a_table(tmp_path):
    """Tables and embedding sets of versions that didn't look keep theirs."""
    photo(tmp_path / "photos" / "a.jpg", "2024:05:02 10:11:12", {})
    table, _ = read_source(tmp_path / "photos")
    without = CropTable(table.root, table.rows.drop_columns(["exif_time"]))
    assert table.content_hash == without.content_hash


@pytest.mark.parametrize(
    ("stated", "taken"),
    [
        ("2024:05:02 10:11:12", "2024-05-02T10:11:12"),
        ("2024:05:02", "2024-05-02"),
        ("2024-05-02T10:11:12+02:00", "2024-05-02T10:11:12"),
        ("2024/05/02 10:11:12", "2024-05-02T10:11:12"),
        ("2024-05-06T07:08:09", "2024-05-06T07:08:09"),
        ("2024/05/06", "2024-05-06"),
        ("2023:02:29 10:11:12", ""),
        ("2024:13:45 25:61:61", ""),
        ("0000:00:00 00:00:00", ""),
        ("    :  :     :  :  ", ""),
        ("", ""),
    ],
)
def test_dates_as_cameras_write_them(tmp_path, stated, taken):
    assert inspect_image(photo(tmp_path / "a.jpg", stated)).taken == taken


@pytest.mark.parametrize(
    ("stated", "taken"),
    [
        ("", "2023-01-01"),
        ("2024:05:06", "2024-05-06"),
        ("    :  :", "2023-01-01"),
        ("2024:02:31 07:08:09", "2023-01-01"),
    ],
)
def test_where_no_date_was_taken_the_one_of_the_file_counts(tmp_path, stated, taken):
    path = photo(tmp_path / "a.jpg", stated, digitized="2023:01:01")
    assert inspect_image(path).taken == taken


@pytest.mark.parametrize(
    ("gps", "position"),
    [
        ({1: "N", 2: (1.0, 0.0, 0.0), 3: "W", 4: (2.0, 30.0, 0.0)}, (1.0, -2.5)),
        ({2: (1.0, 0.0, 0.0), 4: (2.0, 0.0, 0.0)}, None),
        ({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}, None),
        ({1: "N", 2: (95.0, 0.0, 0.0), 3: "E", 4: (2.0, 0.0, 0.0)}, None),
        ({1: "N", 2: (1.0, 0.0, 0.0)}, None),
        ({1: "N", 2: (48, 30, 36), 3: "E", 4: (16, 15, 0)}, (48.51, 16.25)),
        ({1: "S", 2: (48, 30, 36), 3: "W", 4: (16, 15, 0)}, (-48.51, -16.25)),
        ({1: "n", 2: (1, 0, 0), 3: "w", 4: (2, 0, 0)}, (1, -2)),
        ({1: "N", 2: (90, 0, 0), 3: "E", 4: (180, 0, 0)}, (90, 180)),
        ({1: "N", 2: (0, 0, 0), 3: "E", 4: (180, 0, 0)}, (0, 180)),
        ({1: "N", 2: (1, 0, 0), 3: "E", 4: (0, 0, 0)}, (1, 0)),
        ({1: "N", 2: (90, 0, 36), 3: "E", 4: (16, 0, 0)}, None),
        ({1: "N", 2: (48, 0, 0), 3: "E", 4: (180, 0, 36)}, None),
        ({1: "", 2: (48, 0, 0), 3: "E", 4: (16, 0, 0)}, None),
        ({1: "N", 2: (48, 0, 0), 3: "", 4: (16, 0, 0)}, None),
    ],
)
def test_positions_as_cameras_write_them(tmp_path, gps, position):
    assert inspect_image(photo(tmp_path / "a.jpg", gps=gps)).position == position


def test_png_and_webp_state_their_date_too(tmp_path):
    for ending in ("png", "webp"):
        path = photo(tmp_path / f"a.{ending}", "2024:05:02 10:11:12")
        assert inspect_image(path).taken == "2024-05-02T10:11:12", ending


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_odd_exif_harms_nothing(tmp_path):
    path = photo(tmp_path / "a.jpg", "2024:05:02 10:11:12")
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(200):
        broken = content.copy()
        for place in rng.integers(4, 120, 6):
            broken[place] = rng.integers(256)
        (tmp_path / "b.jpg").write_bytes(broken)
        with contextlib.suppress(ImageError):  # no other error
            inspect_image(tmp_path / "b.jpg")
