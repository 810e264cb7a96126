import gzip
import io
import json
import os
import stat
import struct
import zipfile
import zlib

import pytest
from PIL import Image, PngImagePlugin

from ffr_core.errors import ForbiddenError, InputError, LimitError, RecordError
from ffr_core.importers import Limits, import_export
from ffr_core.importers.archive import open_source
from ffr_core.importers.media import check_image
from ffr_core.importers.source import safe_name
from ffr_core.records import read_jsonl

CHAT = "31/12/21, 10:00 - Bo: IMG-20211231-WA0001.png (file attached)\n"
NAME = "WhatsApp Chat with Bo.txt"


def make_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def png(size=(8, 6)):
    data = io.BytesIO()
    Image.new("1", size).save(data, "PNG")
    return data.getvalue()


def huge_png_header(width=100_000, height=100_000):
    """A tiny file that claims ten gigapixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")):
        body = kind + data
        chunks += struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "a/../../evil.txt",
        "/etc/evil.txt",
        "..\\evil.txt",
        "C:\\evil.txt",
        "c:/e.txt",
    ],
)
def test_zip_slip_is_refused_and_writes_nothing(name, tmp_path):
    archive = make_zip(tmp_path / "x.zip", [(NAME, CHAT), (name, "gotcha")])
    with pytest.raises(ForbiddenError, match=r"x\.zip is refused.*leaves the folder"):
        import_export("whatsapp", archive, tmp_path / "deep" / "out")
    assert {path.name for path in tmp_path.rglob("*")} == {"x.zip"}
    with pytest.raises(ForbiddenError):
        safe_name(name)


def test_links_in_archives_are_refused(tmp_path):
    link = zipfile.ZipInfo("photo.png")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(NAME, CHAT)
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ForbiddenError, match="is a link"):
        import_export("whatsapp", tmp_path / "x.zip", tmp_path / "out")


def test_encrypted_archives_are_refused(tmp_path):
    archive = make_zip(tmp_path / "x.zip", [(NAME, CHAT)])
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # the flag in the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(InputError, match="encrypted; unpack it"):
        import_export("whatsapp", archive, tmp_path / "out")


def test_a_damaged_archive_is_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(InputError, match=r"not a readable \.zip"):
        import_export("whatsapp", tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_members=1), "more than 1 files"),
        (Limits(max_ratio=10, ratio_from_bytes=1000), "decompression bombs"),
        (Limits(max_member_bytes=20_000), "larger than 20000 bytes"),
        (Limits(max_total_bytes=20_000), "unpacks to more than 20000 bytes"),
    ],
)
def test_bombs_meet_each_limit(limits, words, tmp_path):
    text = CHAT + "a" * 50_000
    archive = make_zip(tmp_path / "x.zip", [(NAME, text), ("empty.png", b"")])
    with pytest.raises(LimitError, match=words):
        import_export("whatsapp", archive, tmp_path / "out", limits=limits)
    report = import_export("whatsapp", archive, tmp_path / "out")
    assert report.kept == 1


def test_a_member_that_lies_about_its_size_yields_no_more_than_it_states(tmp_path):
    archive = make_zip(tmp_path / "x.zip", [(NAME, CHAT + "a" * 1_000_000)])
    data = bytearray(archive.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = struct.pack("<I", 100)
    archive.write_bytes(data)
    source = open_source(archive, Limits())
    with pytest.raises(RecordError, match="damaged"):
        source.read(NAME)


def test_gzip_bomb(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * 3_000_000))
    with pytest.raises(LimitError, match="decompression bombs"):
        import_export("jsonl", path, tmp_path / "out", limits=Limits(ratio_from_bytes=1_000_000))


@pytest.mark.parametrize(
    ("data", "limits", "reason"),
    [
        (huge_png_header(), Limits(), "too_many_pixels"),
        (png((300, 300)), Limits(max_pixels=80_000), "too_many_pixels"),
        (png((300, 300)), Limits(max_image_bytes=20), "too_large"),
        (png((300, 300))[:60], Limits(), "not_an_image"),
        (b"<svg onload=alert(1)>", Limits(), "not_an_image"),
        (b"", Limits(), "not_an_image"),
    ],
)
def test_pictures_are_checked_before_they_are_stored(data, limits, reason, tmp_path):
    members = [(NAME, CHAT), ("IMG-20211231-WA0001.png", data)]
    archive = make_zip(tmp_path / "x.zip", members)
    report = import_export("whatsapp", archive, tmp_path / "out", limits=limits)
    assert report.balanced and report.kept == 1
    assert report.media == {reason: 1}
    (dialogue,) = read_jsonl(tmp_path / "out" / "dialogues.jsonl")
    assert dialogue.images[0].uri is None
    assert not (tmp_path / "out" / "images").exists()


def test_a_picture_that_is_fine_names_its_format():
    assert check_image(png(), Limits()) == "PNG"


def test_a_dual_picture_of_a_phone_is_a_jpeg(tmp_path):
    data = io.BytesIO()
    second = Image.new("RGB", (8, 6), "red")
    Image.new("RGB", (8, 6)).save(data, "MPO", save_all=True, append_images=[second])
    assert Image.open(data).format == "MPO"
    name = "IMG-20211231-WA0007.jpg"
    members = [(NAME, CHAT.replace("IMG-20211231-WA0001.png", name)), (name, data.getvalue())]
    report = import_export("whatsapp", make_zip(tmp_path / "x.zip", members), tmp_path / "out")
    assert report.media == {"images_copied": 1}
    (dialogue,) = read_jsonl(tmp_path / "out" / "dialogues.jsonl")
    assert dialogue.images[0].uri.endswith(name)


def test_a_format_that_is_not_known_is_no_picture(monkeypatch):
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "format", "APNG")
    with pytest.raises(RecordError, match="APNG") as error:
        check_image(png(), Limits())
    assert error.value.reason == "not_an_image"


def test_a_damaged_member_costs_only_itself(tmp_path):
    archive = make_zip(
        tmp_path / "x.zip", [(NAME, CHAT), ("IMG-20211231-WA0001.png", png((300, 300)))],
        zipfile.ZIP_STORED,
    )  # fmt: skip
    data = bytearray(archive.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 0xFF
    archive.write_bytes(data)
    report = import_export("whatsapp", archive, tmp_path / "out")
    assert report.media == {"unreadable": 1} and report.kept == 1


def test_paths_of_messages_never_leave_the_export(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link.png").symlink_to(secret)
    os.mkfifo(folder / "pipe.png")
    refs = [
        "../secret.png", str(secret), "..\\secret.png", "%2e%2e/secret.png", "link.png", "pipe.png",
        f"file://{secret}", "a\0b", "x" * 5000, "",
    ]  # fmt: skip
    for number, ref in enumerate(refs):
        message = {"id": 1, "type": "message", "from": "Bo", "photo": ref, "text": "t"}
        chat = {"name": "c", "messages": [message]}
        (folder / "result.json").write_text(json.dumps(chat))
        for path in (folder, folder / "result.json"):
            out = tmp_path / f"out{number}" / path.name
            report = import_export("telegram", path, out)
            assert report.media["images_copied"] == 0, ref
            assert report.media.total() == 1 and report.kept == 1
            assert not (out / "images").exists()
            assert report.notes["symlink_outside"] == (path == folder)


def test_names_of_chats_and_pictures_never_leave_the_output(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "..%2f..%2fup?.png").write_bytes(png())
    message = {"id": 1, "type": "message", "from": "Bo", "photo": "..%2f..%2fup?.png"}
    chat = {"name": "../../up", "id": "../x", "messages": [message]}
    (folder / "result.json").write_text(json.dumps(chat))
    report = import_export("telegram", folder, tmp_path / "a" / "out")
    assert report.media == {"images_copied": 1}
    stored = [path for path in tmp_path.rglob("*.png") if folder not in path.parents]
    assert [path.parent for path in stored] == [tmp_path / "a" / "out" / "images" / "telegram-up-x"]


def test_numbers_and_nesting_beyond_reason(tmp_path):
    for text in ("[" * 100_000, '{"messages": ' + "9" * 5000 + "}", '{"a":' * 50_000):
        for name in ("telegram", "discord", "wechat", "jsonl"):
            path = tmp_path / "x.json"
            path.write_text(text)
            with pytest.raises(InputError, match="bad_json"):
                import_export(name, path, tmp_path / "out")
    record = '{"dialogue_id": "d", "turns": [{"turn_id": 1e999, "speaker": "a", "text": "b"}]}'
    path.write_text(record + "\n")
    with pytest.raises(InputError, match="1 malformed"):
        import_export("jsonl", path, tmp_path / "out")
