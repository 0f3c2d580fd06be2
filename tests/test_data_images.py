import numpy as np
import pytest
from PIL import Image

from data import images
from data.images import (
    CropWindow,
    ImageError,
    as_on_disk,
    cut,
    cut_at_most,
    ending_of,
    inspect_image,
    read_image,
    read_size,
)

RED = (250, 10, 10)


def test_grey_becomes_three_equal_channels(tmp_path):
    Image.new("L", (4, 3), 77).save(tmp_path / "grey.png")
    assert (
        np.asarray(read_image(tmp_path / "grey.png")).tolist() == [[[77] * 3] * 4] * 3
    )


def test_cmyk_jpeg_is_converted(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(
        tmp_path / "cmyk.jpg", quality=100
    )  # magenta + yellow = red
    red, green, blue = np.asarray(read_image(tmp_path / "cmyk.jpg")).mean((0, 1))
    assert red > 240
    assert max(green, blue) < 15


def test_sixteen_bit_keeps_the_upper_byte(tmp_path):
    Image.fromarray(np.array([[0, 256, 65535, 32768]], np.uint16)).save(
        tmp_path / "deep.png"
    )
    assert np.asarray(read_image(tmp_path / "deep.png"))[0, :, 0].tolist() == [
        0,
        1,
        255,
        128,
    ]


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_transparent_pixels_become_mid_grey(tmp_path, mode):
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 255, 0, 0))
    path = tmp_path / "alpha.png"
    image.convert(mode).save(path) if mode == "RGBA" else image.quantize(4).save(path)
    opaque, transparent = np.asarray(read_image(path))[0].tolist()
    assert opaque == [255, 0, 0]
    assert transparent == [128, 128, 128]


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (6, 4), (0, 0, 0))
    image.paste(RED, (0, 0, 3, 4))  # left half red
    exif = Image.Exif()
    exif[0x0112] = 6  # must be turned clockwise for display: left becomes top
    image.save(tmp_path / "turned.png", exif=exif)
    assert read_size(tmp_path / "turned.png") == (4, 6)
    upright = np.asarray(read_image(tmp_path / "turned.png"))
    assert upright.shape == (6, 4, 3)
    assert (upright[:3, :, 0] == 250).all()
    assert (upright[3:, :, 0] == 0).all()


def test_forty_megapixels_are_read(tmp_path):
    Image.new("RGB", (8000, 5000), RED).save(tmp_path / "large.jpg")
    assert np.asarray(
        cut(read_image(tmp_path / "large.jpg"), (0, 0, 8000, 5000), 32)
    ).shape == (32, 32, 3)


def damaged(tmp_path):
    whole = tmp_path / "whole.jpg"
    Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    ).save(whole)
    cases = {
        "zero.jpg": b"",
        "text.jpg": b"not an image at all",
        "short.jpg": whole.read_bytes()[:900],
    }
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.png")
    png = (tmp_path / "whole.png").read_bytes()
    cases["crc.png"] = png[:45] + bytes([png[45] ^ 255]) + png[46:]
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    return cases


def test_damaged_files_raise_one_kind_of_error_that_names_them(tmp_path):
    reasons = {
        "zero.jpg": "zero bytes",
        "text.jpg": "not an image",
        "short.jpg": "damaged",
        "crc.png": "damaged",
    }
    for name in damaged(tmp_path):
        with pytest.raises(ImageError, match=f"{name}: {reasons[name]}"):
            read_image(tmp_path / name)
    short = tmp_path / "short.png"
    short.write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    with pytest.raises(ImageError, match=r"short\.png: damaged"):
        read_size(short)
    with pytest.raises(ImageError, match="no such file"):
        read_size(tmp_path / "absent.jpg")


def test_size_limit(tmp_path, monkeypatch):
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    with pytest.raises(ImageError, match="10 x 10 pixels; at most 99"):
        read_size(tmp_path / "a.png")


def test_cut_takes_the_box_and_nothing_else():
    image = Image.new("RGB", (20, 10), (0, 0, 0))
    image.paste(RED, (5, 2, 13, 8))
    assert (np.asarray(cut(image, (5, 2, 13, 8), 16)) == RED).all()


def test_cut_at_most_keeps_aspect_and_never_enlarges():
    image = Image.new("RGB", (100, 40), RED)
    assert cut_at_most(image, (0, 0, 100, 40), 50).size == (50, 20)
    assert cut_at_most(image, (10, 10, 30, 20), 50).size == (20, 10)
    assert cut_at_most(image, (0, 0, 100, 1), 10).size == (10, 1)


def test_pixels_without_a_defined_range_are_refused_and_small_values_kept(tmp_path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(
        ImageError, match=r"float\.tif: floating-point pixels have no defined range"
    ):
        read_image(tmp_path / "float.tif")
    Image.fromarray(np.full((2, 2), 70_000, np.int32)).save(tmp_path / "large.tif")
    with pytest.raises(ImageError, match="at most 16 bits are read"):
        read_image(tmp_path / "large.tif")
    Image.fromarray(np.full((2, 2), 200, np.int32)).save(tmp_path / "small.tif")
    assert (np.asarray(read_image(tmp_path / "small.tif")) == 200).all()


@pytest.mark.parametrize(
    ("view", "window"),
    [
        (CropWindow(square=False), (10, 20, 50, 40)),
        (CropWindow(), (10, 10, 50, 50)),
        (CropWindow(padding=0.25, square=False), (0, 10, 60, 50)),
        (CropWindow(padding=0.5), (-10, -10, 70, 70)),
    ],
)
def test_hand_worked_windows(view, window):
    assert view.window((10, 20, 50, 40)) == window


def test_a_square_view_keeps_the_aspect_and_the_pixels():
    image = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    )
    crop = cut(image, (10, 20, 50, 40), 40, CropWindow())
    assert np.array_equal(np.asarray(crop), np.asarray(image)[10:50, 10:50])


def test_beyond_the_border_pixels_are_mirrored_or_grey():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    image = Image.fromarray(pixels)
    mirrored = np.asarray(
        cut_at_most(image, (0, 0, 4, 2), 9, CropWindow())
    )  # rows -1 to 2, columns 0 to 3
    assert np.array_equal(mirrored, pixels[[0, 0, 1, 2], :4])
    grey = np.asarray(cut_at_most(image, (0, 0, 4, 2), 9, CropWindow(fill="gray")))
    assert np.array_equal(grey[1:], pixels[:3, :4])
    assert (grey[0] == 128).all()


def test_a_margin_wider_than_the_image_is_filled_too():
    image = Image.new("RGB", (4, 3), RED)
    assert (np.asarray(cut(image, (0, 0, 4, 3), 8, CropWindow(padding=4))) == RED).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": -0.1}, "padding must be in"),
        ({"padding": 4.1}, r"padding must be in \[0, 4\].*; got 4.1"),
        ({"fill": "white"}, "fill must be one of"),
    ],
)
def test_bad_views_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CropWindow(**arguments)


@pytest.mark.parametrize("kind", ["png", "tif", "jpg"])
@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, lambda stored: stored),
        (2, lambda stored: stored[:, ::-1]),
        (3, lambda stored: stored[::-1, ::-1]),
        (4, lambda stored: stored[::-1]),
        (5, lambda stored: stored.transpose(1, 0, 2)),
        (6, lambda stored: stored[::-1].transpose(1, 0, 2)),
        (7, lambda stored: stored[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda stored: stored[:, ::-1].transpose(1, 0, 2)),
        (0, lambda stored: stored),
        (9, lambda stored: stored),
    ],
)
def test_every_orientation_is_turned_upright(tmp_path, orientation, seen, kind):
    """The first row of what is stored lies where EXIF says."""
    stored = np.zeros((16, 24, 3), np.uint8)
    stored[:8, :8, 0], stored[8:, 16:, 1] = 250, 250
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{kind}"
    lossy = {"quality": 100, "subsampling": 0} if kind == "jpg" else {}
    Image.fromarray(stored).save(path, exif=exif, **lossy)
    upright = np.asarray(read_image(path)).astype(int)
    assert np.abs(upright - seen(stored)).max() <= (11 if lossy else 0)
    facts = inspect_image(path)
    assert (facts.width, facts.height) == upright.shape[1::-1] == read_size(path)
    if kind != "tif":  # which Pillow turns by itself
        assert facts.turned is (orientation in (5, 6, 7, 8))


@pytest.mark.parametrize(
    ("highest", "bits"),
    [(255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16383, 14)],
)
def test_deep_pixels_are_shown_by_the_bits_that_are_used(tmp_path, highest, bits):
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, highest]], np.uint16)).save(path)
    shown = np.asarray(read_image(path))[0, :, 0].tolist()
    assert shown == [0, highest >> (bits - 8)]
    (note,) = inspect_image(path).notes
    assert note == f"images of 16 bits that use {bits} at most: shown by those"
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(path)
    assert inspect_image(path).notes == ()


@pytest.mark.parametrize(
    ("box", "square", "padding", "window"),
    [
        ((10, 20, 15, 40), True, 0, (3, 20, 23, 40)),  # 7 to the left, 8 to the right
        ((10, 20, 30, 25), True, 0, (10, 13, 30, 33)),
        ((10, 20, 30, 25), False, 0.1, (8, 18, 32, 27)),
        ((10, 20, 14, 24), True, 0.4, (8, 18, 16, 26)),
        ((0, 0, 4, 4), True, 4, (-16, -16, 20, 20)),
    ],
)
def test_windows_of_odd_boxes(box, square, padding, window):
    assert CropWindow(padding, square).window(box) == window


@pytest.mark.parametrize("fill", ["reflect", "gray"])
@pytest.mark.parametrize(
    "window", [(-2, 1, 4, 3), (1, -1, 3, 4), (3, 1, 8, 3), (1, 2, 3, 6), (-2, -1, 8, 6)]
)
def test_what_lies_beyond_each_border(window, fill):
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    left, top, right, bottom = window
    mode = {"mode": "symmetric"} if fill == "reflect" else {"constant_values": 128}
    around = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), **mode)
    expected = around[top + 2 : bottom + 2, left + 2 : right + 2]
    view = CropWindow(square=False, fill=fill)
    found = cut_at_most(Image.fromarray(pixels), window, 20, view)
    np.testing.assert_array_equal(np.asarray(found), expected)
    mask = cut_at_most(Image.fromarray(pixels[..., 0]), window, 20, view)
    np.testing.assert_array_equal(np.asarray(mask), expected[..., 0])


def test_a_file_is_found_as_it_is_called_on_disk(tmp_path):
    for name in ("a.png", "b.JPG", "e\u0301.png", "\u00fc.png", "c.jpg", "c.png", "d"):
        (tmp_path / name).write_bytes(b"x")
    found = {
        "a.png": "a.png",
        "a": "a.png",
        "b": "b.JPG",
        "c": "c.jpg",
        "d": "d",
        "\u00e9.png": "e\u0301.png",
        "u\u0308": "\u00fc.png",
        "x.png": None,
        "x": None,
        "a.jpg": None,
        "bad\udcff": None,
    }
    assert {name: as_on_disk(tmp_path, name) for name in found} == found


def test_the_ending_that_a_content_asks_for(tmp_path):
    for kind, ending in {
        "JPEG": ".jpg",
        "PNG": ".png",
        "TIFF": ".tif",
        "GIF": ".gif",
        "BMP": ".bmp",
        "WEBP": ".webp",
    }.items():
        Image.new("RGB", (4, 4)).save(tmp_path / "file", kind)
        assert ending_of(tmp_path / "file") == ending
    (tmp_path / "file").write_text("text")
    assert ending_of(tmp_path / "file") == ""


def test_the_largest_image_and_the_empty_one(tmp_path, monkeypatch):
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    assert read_size(tmp_path / "a.png") == (10, 10)
    for name, reason in {
        "a.heic": "convert them, or install",
        "a.nef": "a camera's raw data: convert them",
        "a.psd": "convert them",
    }.items():
        (tmp_path / name).write_bytes(b"something")
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)


def test_a_tiff_of_three_colors_has_no_more_bands_and_of_four_it_says_so(tmp_path):
    path = tmp_path / "bands.tif"
    for mode, notes in {"L": 0, "RGB": 0, "RGBA": 0}.items():
        Image.new(mode, (4, 4), 7).save(path)
        assert len(inspect_image(path).notes) == notes
    Image.new("RGB", (4, 4)).save(
        path, save_all=True, append_images=[Image.new("L", (4, 4))]
    )
    assert inspect_image(path).notes == ("images of several pages: the first is shown",)


def test_where_white_is_zero_deep_pixels_are_turned_around(tmp_path):
    pixels = Image.fromarray(np.array([[0, 65535, 256]], np.uint16))
    for photometric, shown in {0: [255, 0, 254], 1: [0, 255, 1]}.items():
        pixels.save(tmp_path / "deep.tif", tiffinfo={262: photometric})
        found = np.asarray(read_image(tmp_path / "deep.tif"))
        assert found[0, :, 0].tolist() == shown
