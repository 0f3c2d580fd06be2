import pytest

from probe.marks import RELEVANT, Marks, read_classes


def write(tmp_path, text):
    (tmp_path / "marks.csv").write_text(text, encoding="utf-8")
    return tmp_path / "marks.csv"


def test_answers_blanks_order_and_a_byte_order_mark(tmp_path):
    text = "\ufeffrank,crop_id,relevant\n1,a,1\n2,b,\n3,c,0\n4,d, Yes \n5,e,no\n"
    assert list(Marks.read(write(tmp_path, text)).relevant.items()) == [
        ("a", True),
        ("c", False),
        ("d", True),
        ("e", False),
    ]


def test_each_word_means_what_it_says(tmp_path):
    words = {
        True: ["1", "1.0", "true", "yes", "relevant", "+", "TRUE", "Yes"],
        False: ["0", "0.0", "false", "no", "not relevant", "irrelevant", "-", "FALSE"],
    }
    lines = [(answer, word) for answer, some in words.items() for word in some]
    text = "".join(f"{number},{word}\n" for number, (_, word) in enumerate(lines))
    found = Marks.read(write(tmp_path, f"crop_id,relevant\n{text}")).relevant
    assert list(found.values()) == [answer for answer, _ in lines]
    assert len({word for _, word in lines} & set(RELEVANT)) == len(RELEVANT)
    text = "crop_id,class\na,none\nb,-\nc,Beet\nd,NONE\ne,\n"
    assert read_classes(write(tmp_path, text)) == {
        "a": "",
        "b": "",
        "c": "Beet",
        "d": "",
    }


def test_the_header_says_what_separates(tmp_path):
    text = "crop_id;relevant;note\na;1;two, three, four, five\nb;0;six, seven, eight\n"
    assert Marks.read(write(tmp_path, text)).relevant == {"a": True, "b": False}


@pytest.mark.parametrize("separator", [";", "\t"])
def test_what_spreadsheets_and_data_frames_write(tmp_path, separator):
    text = "Rank,Crop_ID,Relevant\n1, a ,1.0\n2,b,0.0\n3,c,\n".replace(",", separator)
    assert Marks.read(write(tmp_path, text)).relevant == {"a": True, "b": False}


def test_another_encoding_is_named(tmp_path):
    (tmp_path / "marks.csv").write_bytes("crop_id,relevant\n".encode("utf-16"))
    with pytest.raises(ValueError, match="marks must be a CSV file in UTF-8"):
        Marks.read(tmp_path / "marks.csv")


def test_marks_both_ways_are_named(tmp_path):
    path = tmp_path / "marks.csv"
    path.write_text("crop_id,relevant\na,1\nb,1\nb,1\na,0\nc,0\nc,1\n")
    marks = Marks.read(path)
    assert dict(marks.relevant) == {"b": True, "a": False, "c": True}
    assert marks.changed == ("a", "c")


def test_the_last_mark_of_a_crop_counts(tmp_path):
    marks = Marks.read(write(tmp_path, "crop_id,relevant\na,1\nb,1\na,0\n"))
    assert list(marks.relevant.items()) == [("b", True), ("a", False)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,relevant\na,1\n",
            "must have the columns crop_id and relevant; .* lacks crop_id",
        ),
        ("crop_id,relevant\na,maybe\n", "line 2: relevant must be 1 or 0; got 'maybe'"),
        ("crop_id,relevant\na,\n", "at least one mark"),
        ("", "lacks crop_id, relevant"),
    ],
)
def test_errors_name_the_line_and_the_value(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        Marks.read(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file '.*absent.csv'"):
        Marks.read(tmp_path / "absent.csv")
