"""Ids that tell chats apart and survive a later export; output folders; folders of archives."""

import json
import os
import re
import zipfile

import pytest

from ffr_core.errors import InputError
from ffr_core.importers import import_export
from ffr_core.records import read_jsonl

FIRST = "28/12/21, 21:42 - Ana: IMG-20211228-WA0001.jpg (file attached)\n05/02/22, 10:00 - Bo: hi\n"


def ids(format_name, path, out, **options):
    report = import_export(format_name, path, out, **options)
    assert report.balanced
    return [dialogue.dialogue_id for dialogue in read_jsonl(out / "dialogues.jsonl")]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def write_zip(path, name, text):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, text)


def test_chats_of_one_name_are_told_apart(tmp_path):
    for number, name in enumerate(["_chat.txt", "_chat.txt", "WhatsApp Chat with 🎉.txt"]):
        write(tmp_path / f"{number}" / "Downloads" / name, f"31/12/21, 10:0{number} - Bo: hi\n")
    found = [
        ids("whatsapp", tmp_path / f"{number}" / "Downloads", tmp_path / f"out{number}")
        for number in range(3)
    ]
    assert len({name for names in found for name in names}) == 3
    assert [re.sub("[0-9a-f]{8}$", "", name) for (name,) in found] == [
        "whatsapp-downloads-",
        "whatsapp-downloads-",
        "whatsapp-chat-",
    ]


@pytest.mark.parametrize(
    ("later", "options"),
    [
        (FIRST + "25/02/22, 10:00 - Ana: a date that proves the order of all\n", {}),
        (FIRST, {"timezone": "Asia/Tokyo", "date_order": "mdy"}),
        (FIRST.replace("IMG-20211228-WA0001.jpg (file attached)", "<Media omitted>"), {}),
        ("28/12/21, 21:40 - Messages are end-to-end encrypted.\n" + FIRST, {}),
        (FIRST.replace("21:42", "9:42 pm").replace("10:00", "10:00 am"), {}),
    ],
)
def test_a_later_export_of_a_chat_keeps_its_id(later, options, tmp_path):
    path = write(tmp_path / "WhatsApp Chat with Bo.txt", FIRST)
    first = ids("whatsapp", path, tmp_path / "out")
    path.write_text(later, encoding="utf-8")
    assert ids("whatsapp", path, tmp_path / "out", **options) == first
    again = write(tmp_path / "WhatsApp Chat with Bo (1).txt", later)
    assert ids("whatsapp", again, tmp_path / "again", **options) == first


GROWN = FIRST + "25/02/22, 10:00 - Ana: bye\n"


@pytest.mark.parametrize(
    ("march", "april", "kept"),
    [
        (FIRST, GROWN, [3]),
        (GROWN, FIRST, [3]),
        (FIRST, FIRST, [2]),
        (FIRST.replace("IMG-20211228-WA0001.jpg (file attached)", "<Media omitted>"), GROWN, [3]),
        (
            GROWN.replace("IMG-20211228-WA0001.jpg (file attached)", "<Media omitted>"),
            FIRST,
            [3, 2],
        ),
        (FIRST + "26/02/22, 10:00 - Ana: only here\n", GROWN, [3, 3]),
    ],
)
def test_a_chat_downloaded_twice_is_one_dialogue(march, april, kept, tmp_path):
    folder, out = tmp_path / "downloads", tmp_path / "out"
    write(folder / "other" / "WhatsApp Chat with Cy.txt", "31/12/21, 10:00 - Cy: hi\n")
    write(folder / "march" / "WhatsApp Chat with Bo.txt", march)
    write(folder / "april" / "WhatsApp Chat with Bo.txt", april)
    report = import_export("whatsapp", folder, out)
    found = {d.dialogue_id: len(d.turns) for d in read_jsonl(out / "dialogues.jsonl")}
    lengths = [number for name, number in found.items() if name.startswith("whatsapp-bo-")]
    assert sorted(lengths) == sorted(kept)
    assert report.balanced and report.dialogues == 1 + len(kept)
    assert report.kept == 1 + sum(kept)
    assert sorted(path.name for path in out.iterdir()) == [
        "dead_letter.jsonl",
        "dialogues.jsonl",
        "summary.json",
    ]


def slack(folder, team, channel_id, text):
    user = {"id": "U1", "name": "ana", **({"team_id": team} if team else {})}
    write(folder / "users.json", [user])
    if channel_id:
        write(folder / "channels.json", [{"id": channel_id, "name": "general"}])
    message = {"type": "message", "user": "U1", "text": text, "ts": "1640986865.000100"}
    write(folder / "general" / "2021-12-31.json", [message])


def test_channels_of_two_slack_workspaces(tmp_path):
    slack(tmp_path / "all" / "a", "T1", "C1", "hi")
    slack(tmp_path / "all" / "b", "T2", "C1", "hi")
    assert ids("slack", tmp_path / "all", tmp_path / "out") == [
        "slack-general-t1-c1",
        "slack-general-t2-c1",
    ]
    assert ids("slack", tmp_path / "all" / "b", tmp_path / "b") == ["slack-general-t2-c1"]
    slack(tmp_path / "c", "", "", "one")
    slack(tmp_path / "d", "", "", "two")
    (one,) = ids("slack", tmp_path / "c", tmp_path / "out c")
    (two,) = ids("slack", tmp_path / "d", tmp_path / "out d")
    assert one != two and re.fullmatch("slack-general-[0-9a-f]{8}", one)


def test_wechat_chats_of_one_name(tmp_path):
    head = "time,sender,content\n"
    one = write(tmp_path / "1" / "messages.csv", head + "2022-01-01 10:00,Ana,hi\n")
    two = write(tmp_path / "2" / "messages.csv", head + "2022-01-01 10:01,Ana,hi\n")
    first = ids("wechat", one, tmp_path / "a")
    assert first != ids("wechat", two, tmp_path / "b")
    one.write_text(one.read_text() + "2022-01-02 10:00,Bo,hello\n")
    assert ids("wechat", one, tmp_path / "a") == first


def test_an_import_never_replaces_another_one(tmp_path):
    ana = write(tmp_path / "WhatsApp Chat with Ana.txt", "31/12/21, 10:00 - Ana: hi\n")
    bob = write(tmp_path / "WhatsApp Chat with Bob.txt", "31/12/21, 10:00 - Bob: ho\n")
    out = tmp_path / "chats"
    first = ids("whatsapp", ana, out)
    with pytest.raises(InputError, match="chats already holds the dialogues of another") as error:
        import_export("whatsapp", bob, out)
    assert str(out / "whatsapp-chat-with-bob") in str(error.value)
    with pytest.raises(InputError, match="already holds"):
        import_export("jsonl", ana, out)
    ana.write_text(ana.read_text() + "31/12/21, 10:01 - Ana: more\n")
    assert ids("whatsapp", ana, out) == first  # the same export again
    assert len(next(iter(read_jsonl(out / "dialogues.jsonl"))).turns) == 2
    ids("whatsapp", bob, out / "bob")
    for summary in ("{}", "no json", "[]"):
        (out / "summary.json").write_text(summary)
        with pytest.raises(InputError, match="already holds"):
            import_export("whatsapp", ana, out)


def test_archives_beside_a_chat_are_read_or_counted(tmp_path):
    folder = tmp_path / "in"
    write(folder / "WhatsApp Chat with Carl.txt", "31/12/21, 10:00 - Carl: hi\n")
    write_zip(folder / "Ana.zip", "_chat.txt", "[31/12/21, 10:00:00] Ana: hi\n")
    write_zip(folder / "holiday.zip", "a.png", "picture")
    write_zip(folder / "essay.zip", "essay.txt", "many\nlines\n")
    write_zip(folder / "evil.zip", "../a.txt", "31/12/21, 10:00 - Eve: hi\n")
    (folder / "cut.zip").write_bytes(b"PK\x03\x04")
    report = import_export("whatsapp", folder, tmp_path / "out")
    assert report.balanced and report.dialogues == 2
    assert report.rejected == {"unreadable_archive": 2, "not_a_chat": 1}
    assert report.notes == {"archive_without_chat": 1}
    assert [warning.split(" is ")[0] for warning in report.warnings] == ["cut.zip", "evil.zip"]


def test_the_error_says_why_the_archives_of_a_folder_are_unreadable(tmp_path):
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"1 unreadable_archive; cut\.zip is not a readable"):
        import_export("whatsapp", tmp_path, tmp_path / "out")


def test_what_may_not_be_read_is_counted(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    write(folder / "WhatsApp Chat with Carl.txt", "31/12/21, 10:00 - Carl: hi\n")
    write(folder / "closed" / "WhatsApp Chat with Ana.txt", "31/12/21, 10:00 - Ana: hi\n")
    write(folder / "locked.txt", "31/12/21, 10:00 - Bo: hi\n")
    scandir, lstat = os.scandir, os.lstat

    def refuse(call, path, word):
        if word in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return call(path)

    monkeypatch.setattr(os, "scandir", lambda path: refuse(scandir, path, "closed"))
    monkeypatch.setattr(os, "lstat", lambda path: refuse(lstat, path, "locked"))
    report = import_export("whatsapp", folder, tmp_path / "out")
    assert report.balanced and report.dialogues == 1
    assert report.rejected == {"unreadable_file": 2}
    letters = (tmp_path / "out" / "dead_letter.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["source"] for line in letters) == ["closed", "locked.txt"]


class Unflagged(zipfile.ZipInfo):
    """A member whose name is written as Windows does, without the UTF-8 flag."""

    encoding = "gbk"

    def _encodeFilenameFlags(self):
        return self.filename.encode(self.encoding), self.flag_bits & ~0x800


class German(Unflagged):
    encoding = "cp437"


@pytest.mark.parametrize(
    ("member", "title"),
    [(Unflagged, "小明"), (Unflagged, "聊天记录"), (German, "Müller"), (German, "Größe älter")],
)
def test_member_names_in_old_encodings(member, title, tmp_path):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(member(f"{title}.csv"), "time,sender,content\n2022-01-01 10:00,Ana,hi\n")
    import_export("wechat", archive, tmp_path / "out")
    (dialogue,) = read_jsonl(tmp_path / "out" / "dialogues.jsonl")
    assert dialogue.title == title
