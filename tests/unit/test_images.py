import io
import struct
import zlib
from pathlib import Path

import boto3
import numpy as np
import PIL.Image
import pytest

from ffr_core.errors import FfrError, ForbiddenError, InputError, LimitError, NotFoundError
from ffr_core.images import ImageLimits, ImageReader


def reader(*roots, **limits):
    return ImageReader(limits=ImageLimits(roots=tuple(map(str, roots)), **limits))


@pytest.fixture
def picture(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    path = root / "a b.png"
    PIL.Image.new("RGBA", (40, 20), "red").save(path)
    return path


def bomb(width, height):
    """A PNG whose header promises more pixels than its few bytes hold."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def test_a_picture_below_a_root_opens(picture):
    images = reader(picture.parent)
    assert images.open(str(picture)).size == (40, 20)
    assert images.open(picture.as_uri()).mode == "RGB"
    images.check_readable(str(picture))


def test_reencoding_scales_and_drops_metadata(picture):
    data = reader(picture.parent, max_side=10).reencoded(str(picture))
    again = PIL.Image.open(io.BytesIO(data))
    assert (again.format, again.size) == ("JPEG", (10, 5))


def test_outside_the_roots(picture, tmp_path):
    outside = tmp_path / "secret.png"
    PIL.Image.new("RGB", (2, 2)).save(outside)
    (picture.parent / "link.png").symlink_to(outside)
    images = reader(picture.parent)
    for uri in (
        str(outside),
        f"{picture.parent}/../secret.png",
        outside.as_uri(),
        str(picture.parent / "link.png"),
        "/etc/passwd",
        "s3://bucket/key.png",
        "ftp://host/x.png",
        "data:image/png;base64,AAAA",
    ):
        with pytest.raises(ForbiddenError):
            images.open(uri)
        with pytest.raises(ForbiddenError):
            images.check_allowed(uri)


def test_a_root_is_a_folder_not_a_prefix_of_a_name(picture):
    neighbor = picture.parent.parent / "root-other"
    neighbor.mkdir()
    PIL.Image.new("RGB", (2, 2)).save(neighbor / "x.png")
    with pytest.raises(ForbiddenError):
        reader(picture.parent).open(str(neighbor / "x.png"))


def test_web_references_are_kept_but_never_fetched(picture):
    images = reader(picture.parent)
    images.check_allowed("http://host/x.png")
    images.check_readable("http://host/x.png")
    with pytest.raises(ForbiddenError, match="never fetched"):
        images.open("http://host/x.png")


def test_a_decompression_bomb(picture):
    path = picture.parent / "bomb.png"
    for size in ((30_000, 30_000), (8_000, 8_000)):
        path.write_bytes(bomb(*size))
        with pytest.raises(LimitError):
            reader(picture.parent).check_readable(str(path))


def test_files_that_are_no_pictures(picture):
    images = reader(picture.parent, max_bytes=5_000)
    path = picture.parent / "x.png"
    with pytest.raises(NotFoundError):
        images.open(str(path))
    path.write_bytes(b"hello")
    with pytest.raises(InputError, match="not an image"):
        images.open(str(path))
    path.write_bytes(picture.read_bytes()[:60])
    with pytest.raises(InputError):
        images.open(str(path))
    path.write_bytes(b"x" * 6_000)
    with pytest.raises(LimitError, match="6000 bytes"):
        images.open(str(path))


def test_pictures_in_s3(monkeypatch, picture, s3_endpoint):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket="pictures")
    client.put_object(Bucket="pictures", Key="in/a.png", Body=picture.read_bytes())
    client.put_object(Bucket="pictures", Key="in/#1 a?.png", Body=picture.read_bytes())
    client.put_object(Bucket="pictures", Key="out/a.png", Body=picture.read_bytes())
    limits = ImageLimits(roots=("s3://pictures/in",))
    images = ImageReader(limits=limits, s3_endpoint=s3_endpoint)
    assert images.open("s3://pictures/in/a.png").size == (40, 20)
    assert images.open("s3://pictures/in/#1 a?.png").size == (40, 20)
    with pytest.raises(ForbiddenError):
        images.open("s3://pictures/out/a.png")
    with pytest.raises(ForbiddenError):
        images.open("s3://pictures/in/../out/a.png")
    with pytest.raises(NotFoundError):
        images.open("s3://pictures/in/none.png")
    unreachable = ImageReader(limits=limits, s3_endpoint="http://127.0.0.1:1")
    with pytest.raises(FfrError, match="cannot be reached"):
        unreachable.open("s3://pictures/in/a.png")


@pytest.mark.parametrize("uri", ["{root}/a\0b.png", "~nosuchuser/x.png", "http://[abc/x.png"])
def test_a_uri_that_names_no_place_is_an_input_error(picture, uri):
    images = reader(picture.parent)
    for check in (images.check_allowed, images.check_readable, images.open):
        with pytest.raises(InputError, match=r"malformed|names no path"):
            check(uri.format(root=picture.parent))


def test_a_name_too_long_for_a_file_is_an_input_error(picture):
    with pytest.raises(InputError, match="name too long"):
        reader(picture.parent).check_readable(f"{picture.parent}/{'x' * 300}.png")


def test_a_file_that_may_not_be_read_is_an_input_error(picture, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        reader(picture.parent).check_readable(str(picture))


def test_a_photo_taken_sideways_is_opened_upright(picture):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    path = picture.parent / "sideways.jpg"
    PIL.Image.new("RGB", (40, 20)).save(path, exif=exif)
    images = reader(picture.parent)
    assert images.open(str(path)).size == (20, 40)
    served = PIL.Image.open(io.BytesIO(images.reencoded(str(path))))
    assert served.size == (20, 40)
    assert not served.getexif()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white_as_viewers_show_them(picture, mode):
    place = picture.parent / "drawing.png"
    drawing = PIL.Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    drawing.putpixel((0, 0), (0, 0, 0, 255))
    drawing.convert(mode).save(place)
    shown = reader(picture.parent).open(str(place))
    assert (shown.getpixel((0, 0)), shown.getpixel((3, 1))) == ((0, 0, 0), (255, 255, 255))


def test_sixteen_bits_a_pixel_are_scaled(picture):
    place = picture.parent / "scan.png"
    grays = np.array([[0, 256, 32_768, 65_535]], dtype=np.uint16)
    PIL.Image.fromarray(grays).save(place)
    shown = np.asarray(reader(picture.parent).open(str(place)))
    assert shown[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_form_that_the_decoder_does_not_know_is_an_input_error(picture):
    place, buffer = picture.parent / "x.dds", io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(buffer, "DDS")
    data = bytearray(buffer.getvalue())
    data[80:84] = bytes(4)  # the flags of the pixel format
    place.write_bytes(data)
    with pytest.raises(InputError, match="not an image that can be read"):
        reader(picture.parent).check_readable(str(place))
