import numpy as np
import pytest
from PIL import Image

from data import images
from data.images import CropWindow, ImageError, cut, cut_at_most, read_image, read_size

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
        ({"fill": "white"}, "fill must be one of"),
    ],
)
def test_bad_views_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CropWindow(**arguments)
