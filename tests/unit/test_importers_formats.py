import json
import re
import zipfile
from pathlib import Path

import pytest
from export_parts import DATA, copy, run
from PIL import Image

import ffr_core.importers
from ffr_core.errors import InputError
from ffr_core.importers import FORMATS, REASONS, import_export
from ffr_core.importers.drafts import DraftDialogue
from ffr_core.importers.media import kind_of, telling
from ffr_core.importers.text import slug
from ffr_core.records import record_from_dialogue


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), "green").save(path, "PNG")


def rows(dialogue):
    return [(turn.speaker, turn.text, turn.reply_to) for turn in dialogue.turns]


def times(dialogue):
    return [turn.timestamp.isoformat() for turn in dialogue.turns]


def test_telegram_single_chat(tmp_path):
    folder = copy("telegram", tmp_path)
    draw(folder / "photos" / "photo_1@01-03-2022_09-06-00.jpg")
    draw(folder / "files" / "floor plan.png")
    report, (dialogue,) = run("telegram", folder, tmp_path, timezone="Europe/Berlin")
    assert (dialogue.dialogue_id, dialogue.title) == ("telegram-flat-4b-4123", "Flat 4B")
    assert rows(dialogue) == [
        ("Lena", "The boiler shows an error again", None),
        ("Lena", "display", None),
        ("Omar", "See the manual (https://example.org/e7), page 12", 0),
        ("Omar", "[sticker: 👍]", None),
        ("user9", "[voice message]", None),
        ("Lena", "and the plan", None),
    ]
    assert times(dialogue)[0] == "2022-03-01T08:05:00+00:00"  # exact seconds since 1970
    assert times(dialogue)[4] == "2022-03-01T09:12:00+01:00"  # the local form alone
    assert [len(turn.images) for turn in dialogue.turns] == [0, 1, 0, 0, 0, 1]
    assert all(Path(image.uri).is_file() for image in dialogue.images)
    assert report.left_out == {"service": 1}
    assert report.media == {"images_copied": 2, "file_not_found": 1, "omitted_by_export": 1}
    assert report.notes == {"edited": 1, "reply_to_missing": 1}


def test_telegram_account(tmp_path):
    report, dialogues = run("telegram", DATA / "telegram-account" / "result.json", tmp_path)
    assert [dialogue.dialogue_id for dialogue in dialogues] == [
        "telegram-omar-77",
        "telegram-saved-messages-5",
    ]
    assert [rows(dialogue)[0][1] for dialogue in dialogues] == ["Lunch?", "buy milk"]
    assert report.notes == {"empty_dialogue": 1}


def test_slack_threads_mentions_days_and_files(tmp_path):
    folder = copy("slack", tmp_path)
    draw(folder / "__uploads" / "F01" / "sales chart.png")
    report, (direct, channel) = run("slack", folder, tmp_path)
    assert [channel.dialogue_id, direct.dialogue_id] == [
        "slack-launch-c01",
        "slack-maya-tom-okafor-d01",
    ]
    assert rows(channel) == [
        (
            "maya",
            "Ship on Friday? @Tom Okafor see the plan (https://example.org/plan) & #launch @here",
            None,
        ),
        ("Tom Okafor", "Numbers attached\n[document: Release notes]", None),
        ("Tom Okafor", "Yes, if QA signs off", 0),
        ("ci", "Build 81\npassed", None),
        ("U09", "ok @U77", None),
    ]
    assert times(channel)[2] == "2022-05-11T08:01:00.000400+00:00"
    (image,) = channel.images
    assert Path(image.uri).is_file() and image.caption is None  # the file name says it
    assert report.left_out == {"service": 1}
    assert report.notes == {"unknown_user": 1}
    assert rows(direct) == [("maya", "quiet word", None)]


def test_slack_zip_with_the_folder_inside(tmp_path):
    archive = tmp_path / "Acme Slack export.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((DATA / "slack").rglob("*.json")):
            file.write(path, Path("Acme export") / path.relative_to(DATA / "slack"))
    _, from_zip = run("slack", archive, tmp_path)
    _, from_folder = run("slack", DATA / "slack", tmp_path)
    assert from_zip == from_folder


def test_discord(tmp_path):
    folder = copy("discord", tmp_path)
    draw(folder / "general.json_Files" / "table-3A9C1.png")
    report, (dialogue,) = run("discord", folder, tmp_path)
    assert dialogue.dialogue_id == "discord-board-games-general-1001"
    assert rows(dialogue) == [
        ("Rika", "Game night at @Joe?", None),
        ("Joe", "Sure, setup looks like this :dice:\n[document: rules.pdf]", 0),
        ("herald", "Event\nFriday 20:00\nHost: Rika", None),
    ]
    assert times(dialogue)[0] == "2022-06-01T18:00:00.123000+02:00"
    assert Path(dialogue.images[0].uri).name == "table-3A9C1.png"
    assert report.media == {"images_copied": 1, "remote": 1}
    assert report.left_out == {"service": 1}


def test_discord_parts_of_a_channel_are_merged(tmp_path):
    folder = copy("discord", tmp_path)
    (path,) = folder.glob("*.json")
    part = json.loads(path.read_text(encoding="utf-8"))
    later = dict(part["messages"][0], id="9100", content="later", timestamp="2022-06-02T00:00:00Z")
    part["messages"] = [later, part["messages"][1]]
    (folder / "Guild - general [1001] [part 2].json").write_text(json.dumps(part))
    report, (dialogue,) = run("discord", folder, tmp_path)
    assert [turn.text.split("\n")[0] for turn in dialogue.turns][-1] == "later"
    assert len(dialogue.turns) == 4
    assert report.left_out == {"service": 1, "duplicate": 1}


def test_wechat_csv(tmp_path):
    folder = copy("wechat", tmp_path)
    draw(folder / "images" / "瓷砖样品.png")
    report, (dialogue,) = run("wechat", folder, tmp_path, timezone="Asia/Shanghai")
    assert dialogue.dialogue_id.startswith("wechat-装修群-")
    assert rows(dialogue) == [
        ("王芳", "瓷砖选好了吗？", None),
        ("刘洋", "", None),
        ("刘洋", "[voice message]", None),
        ("王芳", "第二种好看,\n就定它吧", None),
    ]
    assert times(dialogue)[0] == "2022-07-01T10:00:00+08:00"
    assert Path(dialogue.images[0].uri).is_file()
    assert report.rejected == {"bad_row": 1}
    assert report.left_out == {"service": 1, "blank": 1}


def test_wechat_columns_of_export_tools(tmp_path):
    _, (dialogue,) = run("wechat", DATA / "wechat-json", tmp_path)
    assert dialogue.title == "Tiles"
    assert rows(dialogue) == [("Wang Fang", "Chosen the tiles?", None), ("me", "", None)]
    assert len(dialogue.images) == 1
    path = tmp_path / "messages.csv"
    path.write_bytes(
        "localId;TalkerId;Type;IsSender;CreateTime;StrContent;StrTime;Remark;NickName\n"
        "1;7;1;0;1656640800;你好;2022-07-01 10:00:00;;小王\n".encode("gb18030")
    )
    report, (dialogue,) = run("wechat", path, tmp_path)
    assert rows(dialogue) == [("小王", "你好", None)]
    assert times(dialogue) == ["2022-07-01T02:00:00+00:00"]
    assert report.notes == {"decoded_as_gb18030": 1}


def test_wechat_ids_tell_the_chats_of_one_file_apart(tmp_path):
    path = tmp_path / "messages.csv"
    path.write_text(
        "TalkerId,Type,CreateTime,StrContent,NickName\n"
        "7,1,1656640800,你好,小王\n8,1,1656640900,瓷砖,刘洋\n7,1,1656641000,在吗,小王\n8,,,,\n",
        encoding="utf-8",
    )
    report, dialogues = run("wechat", path, tmp_path)
    assert [dialogue.title for dialogue in dialogues] == ["messages 7", "messages 8"]
    assert [[turn.text for turn in d.turns] for d in dialogues] == [["你好", "在吗"], ["瓷砖"]]
    assert report.left_out == {"blank": 1}


def test_jsonl_records_images_and_gold(tmp_path):
    folder = copy("jsonl", tmp_path)
    draw(folder / "pics" / "harbor.png")
    report, dialogues = run("jsonl", folder, tmp_path)
    assert [dialogue.dialogue_id for dialogue in dialogues] == ["a/1 ü", "c"]
    first, second = dialogues
    assert first.fragments == ((0,),) and first.queries[0].query == "harbor"
    assert first.images[0].caption == "harbor at night"
    assert Path(first.images[0].uri).is_file()
    assert re.fullmatch(r".*/images/a-1-ü-[0-9a-f]{8}/harbor\.png", first.images[0].uri)
    assert [image.uri for image in second.images] == [None, None, "s3://b/k.png"]
    assert report.rejected == {"bad_json": 1, "no_turns": 1, "duplicate_id": 1}
    assert report.media == {"images_copied": 1, "outside_export": 1, "remote": 1, "linked": 1}


def test_gzip_and_parquet_read_the_same_records(tmp_path):
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = (DATA / "jsonl" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(lines[0])
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((lines[0] + "\n").encode()))
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "a.parquet")
    _, zipped = run("jsonl", tmp_path / "a.jsonl.gz", tmp_path)
    _, columns = run("jsonl", tmp_path / "a.parquet", tmp_path)
    assert zipped == columns
    assert record_from_dialogue(zipped[0])["queries"][0]["img_ids"] == [0]


def test_importing_our_own_output_changes_nothing(tmp_path):
    folder = copy("telegram", tmp_path)
    draw(folder / "files" / "floor plan.png")
    run("telegram", folder, tmp_path)
    report, again = run("jsonl", tmp_path / "out" / "dialogues.jsonl", tmp_path / "second")
    text = (tmp_path / "second" / "out" / "dialogues.jsonl").read_text(encoding="utf-8")
    assert text == (tmp_path / "out" / "dialogues.jsonl").read_text(encoding="utf-8")
    assert report.media["images_copied"] == 1 and len(again) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_two_imports_write_the_same_files(name, tmp_path):
    results = []
    for _ in range(2):
        report = import_export(name, DATA / name, tmp_path / "out")
        names = ("dialogues.jsonl", "dead_letter.jsonl", "summary.json")
        results.append([(tmp_path / "out" / file).read_bytes() for file in names])
        assert json.loads(results[-1][2]) == report.as_dict()
        assert results[-1][1].count(b"\n") == report.rejected.total()
    assert results[0] == results[1]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("content", ["", "[]", "{}", "hello", '{"messages": 3}', "[[[[1]]]]"])
def test_files_of_another_kind_are_refused(name, content, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(InputError, match="expected"):
        import_export(name, path, tmp_path / "out")
    with pytest.raises(InputError, match="expected"):
        import_export(name, tmp_path, tmp_path / "out")


def test_a_folder_of_archives_and_equal_names(tmp_path):
    for number in (1, 2):
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        with zipfile.ZipFile(folder / f"{number}.zip", "w") as archive:
            archive.writestr("WhatsApp Chat with Bo.txt", f"31/12/21, 10:0{number} - Bo: hi\n")
            archive.writestr("__MACOSX/._WhatsApp Chat with Bo.txt", "noise")
    _, dialogues = run("whatsapp", tmp_path / "in", tmp_path)
    first, second = (dialogue.dialogue_id for dialogue in dialogues)
    assert first != second
    assert all(re.fullmatch(r"whatsapp-bo-[0-9a-f]{8}", found) for found in (first, second))


def test_dead_letters_hold_text_only_on_request(tmp_path):
    import_export("jsonl", DATA / "jsonl", tmp_path / "a")
    import_export("jsonl", DATA / "jsonl", tmp_path / "b", dead_letter_text=True)
    silent = [json.loads(line) for line in (tmp_path / "a/dead_letter.jsonl").open()]
    spoken = [json.loads(line) for line in (tmp_path / "b/dead_letter.jsonl").open()]
    assert all(set(letter) == {"source", "position", "reason", "hash"} for letter in silent)
    assert spoken[0]["text"] == "not json"
    assert [letter["position"] for letter in silent] == [3, 4, 5]


def test_the_output_folder_inside_the_export_is_not_read(tmp_path):
    folder = copy("jsonl", tmp_path)
    for _ in range(2):
        report = import_export("jsonl", folder, folder / "out")
        assert (report.read, report.kept) == (5, 2)


def test_every_reason_in_the_code_is_explained():
    code = "".join(
        path.read_text(encoding="utf-8")
        for path in Path(ffr_core.importers.__file__).parent.glob("*.py")
    )
    patterns = (
        r'(?:notes|media|left_out)\["(\w+)"\]',
        r'leave_out\("(\w+)"\)',
        r'reason="(\w+)"',
        r'output\.reject\([^")]*"(\w+)"',
        r'RecordError\(\s*"(\w+)"',
        r'problem="(\w+)"',
    )
    used = {word for pattern in patterns for word in re.findall(pattern, code)}
    assert {"ambiguous_date", "remote", "bad_json", "blank", "impossible_date"} <= used
    assert used - {"malformed"} <= set(REASONS)


@pytest.mark.parametrize(
    ("name", "words"),
    [("IMG-20211231-WA0001.jpg", 0), ("photo_1@31-12-2021_21-41-05.jpg", 0), ("image.png", 0),
     ("00000012-PHOTO-2021-12-31-21-42-10.jpg", 0), ("9f8e7d6c5b4a.png", 0), ("瓷砖.png", 1),
     ("floor plan.png", 1), ("rules.pdf", 1), ("", 0), (None, 0)],
)  # fmt: skip
def test_names_that_say_something(name, words):
    assert telling(name) == bool(words)


def test_small_parts():
    assert slug("Trip: São Paulo / 2022 🎉") == "trip-são-paulo-2022"
    assert len(slug("很" * 100).encode()) <= 80
    assert kind_of("x.OPUS") == "voice message"
    assert kind_of("x.bin", "image/png") == "image"
    assert DraftDialogue(format="x", name="y").turns == []
