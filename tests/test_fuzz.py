"""A thousand damaged inputs, of every format that is read: each is refused in one line,
or accepted with every row that the parser saw in the table or counted.
"""

import contextlib
import json
import os
import random
import shutil

import pytest
from PIL import Image

from data.crop_table import CropTable
from data.formats.base import SourceOptions
from data.formats.registry import read_source
from data.images import ImageError, inspect_image, read_image
from tests.test_data_formats_cropandweed import make as make_cropandweed
from tests.test_real_files import ROW, coco, picture, text, voc, yolo

CASES = 1000
ODD = [None, True, -1, 0, 1e308, -1e308, float("nan"), 10**30, "", "x", "\0", [], [[]]]
ODD += [{}, {"id": 1}, "9" * 400, "../../../etc/passwd", "a" * 5000, "\ud800", "1.0"]
TOKENS = [
    "nan",
    "inf",
    "-1",
    "1e400",
    "x",
    "",
    '"',
    ",",
    "0x1F",
    "\uff19",
    "\x00",
    "-0.0",
]
TOKENS += ["9" * 40, ";", "\t", "\u2028", "null", "[", "{", "- :", "&a *a", "!!python"]


def make_folder(root):
    for number in range(4):
        picture(root / f"{'beet' if number % 2 else 'weed'}/{number}.png", number)
    return root


def make_csv(root):
    lines = ["image,left,top,right,bottom,label,width,height,split,plot"]
    for number in range(5):
        picture(root / f"{number}.png", number)
        lines.append(f"{number}.png,40,30,80,60,beet,200,100,train,{number}")
    return text(root / "boxes.csv", "\n".join(lines))


def make_parquet(root):
    table, _ = read_source(make_csv(root))
    table.write(root / "crops.parquet")
    (root / "boxes.csv").unlink()
    return root / "crops.parquet"


def make_labelme(root):
    for number in range(4):
        picture(root / f"{number}.png", number)
        shapes = [{"label": "beet", "points": [[40, 30], [80, 60], [50, 60]]}] * 2
        content = {"shapes": shapes, "imagePath": f"{number}.png", "imageWidth": 200}
        text(root / f"{number}.json", json.dumps({**content, "imageHeight": 100}))
    return root


def make_pose(root):
    rows = [f"{ROW} 0.25 0.35 2 0.35 0.35 1", f"{ROW} 0.3 0.4 2 0.32 0.4 0"]
    return yolo(root, rows * 2, "names: [beet]\nkpt_shape: [2, 3]\n")


def make_segments(root):
    return yolo(
        root, ["0.2 0.3 0.4 0.6 0.3 0.6", "0.2 0.3 0.4 0.3 0.4 0.6 0.2 0.6"] * 2
    )


def make_huggingface(root):
    import datasets

    for number in range(3):
        picture(root / f"{number}.png", number)
    images = [str(root / f"{number}.png") for number in range(3)]
    columns = {"image": images, "label": ["beet", "weed", "beet"]}
    part = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    part.save_to_disk(root / "set")
    return root / "set"


MAKERS = {
    "folder": make_folder,
    "csv": make_csv,
    "parquet": make_parquet,
    "coco": coco,
    "cropandweed": make_cropandweed,
    "yolo": lambda root: yolo(root, [ROW] * 4),
    "pose": make_pose,
    "segments": make_segments,
    "voc": voc,
    "labelme": make_labelme,
    "huggingface": make_huggingface,
}


# Ways to damage a file


def truncated(content, rng):
    return content[: rng.randrange(len(content) + 1)]


def flipped(content, rng):
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        if damaged:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def exchanged(content, rng):
    """Two stretches change places."""
    if len(content) < 4:
        return content
    a, b, c, d = sorted(rng.choices(range(len(content)), k=4))
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def repeated(content, rng):
    start, end = sorted(rng.choices(range(len(content) + 1), k=2))
    return content[:end] + content[start:]


def retyped(content, rng):
    """A value of JSON, or a word of text, becomes one of another kind."""
    try:
        tree = json.loads(content)
    except ValueError:
        words = content.decode("latin-1").replace(",", " , ").split(" ")
        words[rng.randrange(len(words))] = rng.choice(TOKENS)
        return " ".join(words).replace(" , ", ",").encode("latin-1", errors="replace")
    places = list(spots(tree)) if isinstance(tree, dict | list) else []
    if places:
        holder, key = rng.choice(places)
        holder[key] = rng.choice(ODD)
    return json.dumps(tree).encode(errors="replace")


def spots(tree):
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from spots(tree[key])


DAMAGES = [truncated, flipped, exchanged, repeated, retyped, retyped, retyped]


def damage(root, rng):
    """Damages one file below a folder, or lets two change places."""
    files = sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
    )
    # Annotations more often than pictures, of which there are more.
    stated = [path for path in files if not path.endswith((".png", ".jpg"))]
    path = rng.choice(stated if stated and rng.random() < 0.75 else files)
    if rng.random() < 0.06:
        other = rng.choice(files)
        os.rename(path, f"{path}.kept")
        if other != path:
            os.rename(other, path)
        os.rename(f"{path}.kept", other)
        return
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(rng.choice(DAMAGES)(content, rng))


def check(data, kind):
    """Reads; refuses nothing but in one line, and loses no row in silence."""
    named = {"pose": "yolo", "segments": "yolo"}.get(kind, kind)
    refused = None
    try:
        table, report = read_source(data, SourceOptions(format=named))
    except ValueError as error:
        refused = str(error)
    if refused is not None:
        assert refused.strip()
        assert "\n" not in refused, refused
        return "refused"
    assert isinstance(table, CropTable)
    if kind != "parquet":  # it is a crop table already
        assert len(table) + report.dropped == report.seen, report
    assert len(table) > 0
    assert (table.boxes[:, :2] < table.boxes[:, 2:]).all()
    for line in report.left_out():
        line.encode()
    return "accepted"


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("sources")
    made = {}
    for kind, make in MAKERS.items():
        data = make(root / kind)
        made[kind] = (root / kind, os.path.relpath(data, root / kind))
    return made


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow's, about the damage
@pytest.mark.timeout(1500)
def test_damaged_inputs_are_refused_or_counted(sources, tmp_path):
    seed = int(os.environ.get("FUZZ_SEED", "0"))
    print(f"FUZZ_SEED={seed}")
    ends = {kind: {"refused": 0, "accepted": 0} for kind in MAKERS}
    for number in range(int(os.environ.get("FUZZ_CASES", CASES))):
        rng = random.Random(f"{seed} {number}")
        kind = list(MAKERS)[number % len(MAKERS)]
        whole, place = sources[kind]
        copy = tmp_path / str(number)
        shutil.copytree(whole, copy)
        for _ in range(rng.choice([1, 1, 1, 3])):
            damage(copy, rng)
        try:
            ends[kind][check(copy / place if place != "." else copy, kind)] += 1
        except Exception as error:
            error.add_note(f"case {number} of seed {seed}, {kind}: kept in {copy}")
            raise
        shutil.rmtree(copy)
    print(ends)
    assert all(end["accepted"] for end in ends.values())
    assert sum(end["refused"] for end in ends.values()) > sum(ends["csv"].values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Pillow's, about the damage
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp", "gif", "bmp"])
def test_damaged_pictures_are_named(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if ending in ("gif", "bmp") else {"exif": exif}
    picture(path, size=(40, 30), **options)
    content = path.read_bytes()
    for number in range(150):
        rng = random.Random(number)
        path.write_bytes(rng.choice(DAMAGES[:4])(content, rng))
        with contextlib.suppress(ImageError):  # nothing else may come
            assert read_image(path).mode == "RGB"
        with contextlib.suppress(ImageError):
            assert inspect_image(path).width > 0
