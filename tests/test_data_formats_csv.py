import pytest
from PIL import Image

from data.formats.csv import typed
from tests.conftest import read_box_csv


def make(root, text, size=(100, 80)):
    for name in ("a.png", "b.png"):
        Image.new("RGB", size).save(root / name)
    (root / "boxes.csv").write_text(text)
    return root / "boxes.csv"


@pytest.mark.parametrize(
    "text",
    [
        "image,left,top,right,bottom\na.png,10,20,40,30\n",
        "filename,xmin,ymin,xmax,ymax\na.png,10,20,40,30\n",
        "Path,X,Y,Width,Height\na.png,10,20,30,10\n",
        "file,cx,cy,w,h\na.png,25,25,30,10\n",
    ],
)
def test_column_names_tell_the_convention(tmp_path, text):
    assert read_box_csv(make(tmp_path, text))[0].boxes.tolist() == [[10, 20, 40, 30]]


def test_classes_splits_sessions_and_metadata_come_along(tmp_path):
    text = "image,class,left,top,right,bottom,session,split,moisture\na.png,oat,1,2,9,9,s1,train,wet\nb.png,,1,2,9,9,s2,test,dry\n"
    table, _ = read_box_csv(make(tmp_path, text))
    for name, values in {
        "label_name": ["oat", ""],
        "label": [0, -1],
        "session": ["s1", "s2"],
        "split": ["train", "test"],
        "moisture": ["wet", "dry"],
    }.items():
        assert table.column(name).tolist() == values


def test_misleading_names_are_refused_and_can_be_overridden(tmp_path):
    rows = "".join(f"a.png,{50 + n},{40 + n},20,10\n" for n in range(5))
    path = make(tmp_path, "image,left,top,right,bottom\n" + rows)
    with pytest.raises(ValueError, match=r"They fit as .*xywh"):
        read_box_csv(path)
    assert read_box_csv(path, boxes="xywh")[0].boxes[0].tolist() == [
        50,
        40,
        70,
        50,
    ]


def test_boxes_of_full_size_images_on_resized_ones(tmp_path):
    path = make(
        tmp_path,
        "image,left,top,right,bottom\na.png,960,544,1920,1088\nb.png,192,0,1000,544\n",
        size=(192, 109),
    )
    with pytest.raises(ValueError, match="drawn on larger images"):
        read_box_csv(path)
    assert read_box_csv(path, box_size="1920x1088")[0].boxes.tolist() == [
        [96, 54, 192, 109],
        [19, 0, 100, 55],
    ]


def test_images_that_cannot_be_read_are_reported(tmp_path):
    table, report = read_box_csv(
        make(tmp_path, "image,left,top,right,bottom\na.png,1,2,9,9\ngone.png,1,2,9,9\n")
    )
    assert len(table) == 1
    assert report.skipped[0].image == "gone.png"
    assert report.counts == {"boxes on images that can't be used, left out": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "photo,l,t,r,b\na.png,1,2,3,4\n",
            "must have an image column .* has the columns photo, l, t, r, b",
        ),
        ("image,left,top,right,bottom\na.png,one,2,3,4\n", "must hold numbers"),
        ("image,left,top,right,bottom\nz.png,1,2,3,4\n", "images must be given"),
        (
            "image,left,top,right,bottom\na.png,1,2\n",
            "must be a CSV file with a header",
        ),
    ],
)
def test_errors_say_what_is_wrong(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_box_csv(make(tmp_path, text))


def test_sessions_called_0_splits_called_val_and_columns_like_ours(tmp_path):
    text = "image,left,top,right,bottom,session,split,Box_Width\na.png,1,2,9,9,0,val,3\nb.png,1,2,9,9,1,Train,3\n"
    table, _ = read_box_csv(make(tmp_path, text))
    assert table.column("session").tolist() == ["0", "1"]
    assert table.column("split").tolist() == ["validation", "train"]
    assert table.column("box_width").tolist() == [8, 8]
    assert "Box_Width" not in table.rows.column_names


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(tmp_path, delimiter):
    text = "image,left,top,right,bottom\na.png,10,20,40,30\n".replace(",", delimiter)
    assert read_box_csv(make(tmp_path, text))[0].boxes.tolist() == [[10, 20, 40, 30]]


def test_another_encoding_is_named(tmp_path):
    path = make(tmp_path, "")
    path.write_bytes(
        "image,left,top,right,bottom,label\na.png,1,2,9,9,Rübe\n".encode("latin-1")
    )
    with pytest.raises(ValueError, match=r"boxes.csv must be text in UTF-8"):
        read_box_csv(path)


@pytest.mark.parametrize("place", ["/home/anna/photos", "D:\\\\photos", "//nas/photos"])
def test_absolute_paths_of_another_computer(photos, tmp_path, place):
    sign = "\\" if "D:" in place else "/"
    names = [sign.join((place, "red", f"{number:02d}.png")) for number in range(3)]
    path = tmp_path / "list.csv"
    path.write_text("\n".join(["image,class", *(f"{name},r" for name in names)]))
    table, report = read_box_csv(path, images=str(photos))
    assert table.column("image").tolist() == [
        f"red/{number:02d}.png" for number in range(3)
    ]
    assert not report.skipped
    (photos / "00.png").write_bytes((photos / "red" / "00.png").read_bytes())
    path.write_text("image,class\n/x/a/00.png,r\n/x/b/00.png,r\n")
    with pytest.raises(
        ValueError, match=r"must be two files below .*only 00\.png is there"
    ):
        read_box_csv(path, images=str(photos))


@pytest.mark.parametrize(
    ("stated", "values"),
    [
        (["true", "false", ""], [True, False, None]),
        (["true", "yes"], ["true", "yes"]),
        (["True", "false"], ["True", "false"]),
        (["1", "-20", "0", ""], [1, -20, 0, None]),
        (["7", "007"], ["7", "007"]),
        (["-0", "12"], [0, 12]),
        (["9" * 18], [int("9" * 18)]),
        (["9" * 19, "1"], [float("9" * 19), 1.0]),
        (["1.5", "2", ""], [1.5, 2.0, None]),
        (["1e3", "2.5e-3", "-1e+2"], [1000.0, 0.0025, -100.0]),
        (["1E2"], ["1E2"]),
        (["1.", "2"], ["1.", "2"]),
        ([".5"], [".5"]),
        (["01.5"], ["01.5"]),
        (["", ""], ["", ""]),
    ],
)
def test_what_a_column_of_text_holds(stated, values):
    found = typed(stated)
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


def test_the_line_that_excel_writes_first_is_no_row(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    rows = ["0;0;9;9;beet", "5;5;20;20;pea", "1;1;8;8;beet"]
    content = ["sep=;", "image;left;top;right;bottom;label"]
    content += [f"a.png;{row}" for row in rows]
    (tmp_path / "boxes.csv").write_text("\n".join(content) + "\n")
    table, report = read_box_csv(tmp_path / "boxes.csv")
    assert table.column("label_name").tolist() == ["beet", "beet", "pea"]
    assert report.seen == 3
