import io
import json
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ffr_core.errors import InputError
from ffr_core.importers import import_export
from ffr_core.importers.times import decide_order, find_stamp, read_time, resolve
from ffr_core.records import read_jsonl

DATA = Path(__file__).parents[1] / "data" / "exports"
UTC = ZoneInfo("UTC")


def run(path, tmp_path, **options):
    report = import_export("whatsapp", path, tmp_path / "out", **options)
    assert report.balanced
    return report, list(read_jsonl(tmp_path / "out" / "dialogues.jsonl"))


def run_text(text, tmp_path, name="WhatsApp Chat with Bo.txt", **options):
    path = tmp_path / "in" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return run(path, tmp_path, **options)


def rows(dialogue):
    return [
        (turn.timestamp.isoformat() if turn.timestamp else None, turn.speaker, turn.text)
        for turn in dialogue.turns
    ]


def png(size=(8, 6), color="red"):
    data = io.BytesIO()
    Image.new("RGB", size, color).save(data, "PNG")
    return data.getvalue()


def test_android_english_12_hours(tmp_path):
    report, (dialogue,) = run(DATA / "whatsapp", tmp_path)
    assert dialogue.dialogue_id.startswith("whatsapp-ridge-hikers-")
    assert dialogue.title == "Ridge Hikers"
    assert rows(dialogue) == [
        ("2021-12-28T21:42:00+00:00", "Maya", "Who is in for the ridge walk on Saturday?"),
        ("2021-12-28T21:44:00+00:00", "Tom Okafor", "Me! What do we need?"),
        ("2021-12-28T21:45:00+00:00", "Maya", "Packing list:\n\n- water\n- headlamp"),
        ("2021-12-29T00:05:00+00:00", "Tom Okafor", "the old trail map"),
        ("2021-12-29T00:06:00+00:00", "Tom Okafor", "[media omitted]"),
        ("2021-12-29T12:10:00+00:00", "+1 (415) 555-0134", "Note: parking costs $5: cash only"),
    ]
    assert (report.read, report.kept, report.continued) == (14, 6, 4)
    assert report.left_out == {"system": 3, "deleted_message": 1}
    assert report.media == {"file_not_found": 1, "omitted_by_export": 1}
    assert report.missing_media == 2
    assert len(dialogue.turns[3].images) == 1 and dialogue.turns[3].images[0].uri is None


def test_android_german_24_hours(tmp_path):
    report, (dialogue,) = run(DATA / "whatsapp-de", tmp_path, timezone="Europe/Berlin")
    assert dialogue.dialogue_id.startswith("whatsapp-anna-weiß-")
    assert rows(dialogue) == [
        ("2021-12-24T18:03:00+01:00", "Anna Weiß", "Frohe Weihnachten! 🎄"),
        ("2021-12-24T18:05:00+01:00", "Jonas", "Dir auch. Wann fährt der Zug?"),
        ("2022-01-01T00:00:00+01:00", "Anna Weiß", "[media omitted]"),
        ("2022-01-01T00:01:00+01:00", "Jonas", "[document: Fahrplan Januar.pdf]"),
    ]
    assert report.left_out == {"system": 1}


def test_ios_brackets_seconds_and_pasted_android_line(tmp_path):
    report, (dialogue,) = run(DATA / "whatsapp-ios", tmp_path)
    assert dialogue.dialogue_id.startswith("whatsapp-sam-")
    assert rows(dialogue) == [
        ("2021-12-31T21:41:30+00:00", "Sam", "Are you there yet?"),
        ("2021-12-31T21:42:10+00:00", "Ines", ""),
        ("2021-12-31T21:42:40+00:00", "Ines", ""),
        ("2021-12-31T21:43:00+00:00", "Sam", "[voice message]"),
        (
            "2021-12-31T21:44:59+00:00",
            "Ines",
            "On the bridge.\nthey said:\n12/31/21, 9:00 PM - Bob: meet at the pier",
        ),
        ("2022-01-01T00:00:00+00:00", "Sam", "Happy new year!"),
    ]
    assert [image.uri for image in dialogue.images] == [None, None]
    assert report.notes == {"edited": 1}
    assert report.media == {"file_not_found": 1, "omitted_by_export": 2}


def test_ios_chinese(tmp_path):
    _, (dialogue,) = run(DATA / "whatsapp-zh", tmp_path, timezone="Asia/Shanghai")
    assert rows(dialogue) == [
        ("2021-12-31T21:41:05+08:00", "李雷", "明天几点出发？"),
        ("2021-12-31T12:03:10+08:00", "韩梅梅", "早上七点，地铁站见"),
        ("2022-01-01T00:00:01+08:00", "李雷", ""),
        ("2022-01-01T07:02:00+08:00", "韩梅梅", "到了：B口"),
    ]


def test_indian_lower_case_and_impossible_day(tmp_path):
    report, (dialogue,) = run(DATA / "whatsapp-in", tmp_path)
    assert rows(dialogue) == [
        ("2021-02-05T09:41:00+00:00", "Priya", "Did the courier come?"),
        ("2021-02-05T12:15:00+00:00", "Arjun", "Not yet"),
        ("2021-02-25T00:00:00+00:00", "Priya", "It came today"),
    ]
    assert report.rejected == {"impossible_date": 1}
    (letter,) = map(json.loads, (tmp_path / "out" / "dead_letter.jsonl").open(encoding="utf-8"))
    assert letter["source"] == "WhatsApp Chat with Priya.txt" and letter["position"] == 4
    assert set(letter) == {"source", "position", "reason", "hash"}
    assert "impossible day" not in json.dumps(letter)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("31/12/2021 21:41 - Bo: x", "2021-12-31T21:41:00"),
        ("31-12-2021 21:41 - Bo: x", "2021-12-31T21:41:00"),
        ("2021-12-31 21:41 - Bo: x", "2021-12-31T21:41:00"),
        ("31.12.2021 klo 21.41 - Bo: x", "2021-12-31T21:41:00"),
        ("31/12/2021 à 21:41 - Bo: x", "2021-12-31T21:41:00"),
        ("2021-12-31 21 h 41 - Bo: x", "2021-12-31T21:41:00"),
        ("[2021-12-31, 21 h 41 min 05 s] Bo: x", "2021-12-31T21:41:05"),
        ("31/12/2021, 24:05 - Bo: x", "2021-12-31T00:05:00"),
        ("[٣١\u200f/١٢\u200f/٢٠٢١، ٩:٤١:٠٥ م] Bo: x", "2021-12-31T21:41:05"),
        ("31/12/21 9:41 p. m. - Bo: x", "2021-12-31T21:41:00"),
        ("31/12/21, 9:41\u202fp.\xa0m. - Bo: x", "2021-12-31T21:41:00"),
        ("31.12.2021 öS 9:41 - Bo: x", "2021-12-31T21:41:00"),
        ("31/12/21, 9:41 अपराह्न - Bo: x", "2021-12-31T21:41:00"),
        ("2021/12/31 晚上9:41 - Bo: x", "2021-12-31T21:41:00"),
        ("2021/12/31 凌晨12:05 - Bo: x", "2021-12-31T00:05:00"),
        ("2021年12月31日 21:41 - Bo: x", "2021-12-31T21:41:00"),
        ("2021. 12. 31. 오후 9:41 - Bo: x", "2021-12-31T21:41:00"),
        ("٣١\u200f/١٢\u200f/٢٠٢١, ٩:٤١ م - Bo: x", "2021-12-31T21:41:00"),
        ("31.12.21 г., 21:41 ч. - Bo: x", "2021-12-31T21:41:00"),
        ("31/12/2564 21:41 - Bo: x", "2021-12-31T21:41:00"),
        ("[31.12.21, 21:41:05] Bo: x", "2021-12-31T21:41:05"),
        ("\u200e[12/31/21, 9:41:05\u202fPM] Bo: x", "2021-12-31T21:41:05"),
        ("[2021/12/31, 12:00:00 AM] Bo: x", "2021-12-31T00:00:00"),
    ],
)
def test_stamps_of_many_locales(line, expected, tmp_path):
    _, (dialogue,) = run_text(line + "\n", tmp_path)
    assert rows(dialogue) == [(expected + "+00:00", "Bo", "x")]


def test_ambiguous_dates_stay_text_and_are_reported(tmp_path):
    text = "05/02/21, 10:00 - Bo: a\n06/02/21, 11:00 - Al: b\n07/07/21, 12:00 - Al: c\n"
    report, (dialogue,) = run_text(text, tmp_path)
    assert [turn.timestamp_text for turn in dialogue.turns[:2]] == [
        "05/02/21, 10:00",
        "06/02/21, 11:00",
    ]
    assert dialogue.turns[0].timestamp is None
    assert rows(dialogue)[2][0] == "2021-07-07T12:00:00+00:00"  # the same day in both orders
    assert report.notes["ambiguous_date"] == 2
    assert "--date-order" in report.warnings[0]
    _, (dialogue,) = run_text(text, tmp_path, date_order="mdy")
    assert rows(dialogue)[0][0] == "2021-05-02T10:00:00+00:00"
    _, (dialogue,) = run_text(text.replace("/", "."), tmp_path)
    assert rows(dialogue)[0][0] == "2021-02-05T10:00:00+00:00"


def test_one_date_proves_the_order_for_the_whole_file(tmp_path):
    text = "05/02/21, 10:00 - Bo: a\n05/13/21, 11:00 - Al: b\n"
    _, (dialogue,) = run_text(text, tmp_path)
    assert [row[0][:10] for row in rows(dialogue)] == ["2021-05-02", "2021-05-13"]


def test_lines_before_the_first_stamp_and_around_impossible_dates(tmp_path):
    text = (
        "a stray line\n\n31/12/21, 10:00 - Bo: kept\n99/99/21, 10:01 - Al: lost\n"
        "lost with it\n\n31/12/21, 25:61 - Al: lost too\n31/12/21, 10:02 - Al: back\nagain\n"
    )
    report, (dialogue,) = run_text(text, tmp_path)
    assert report.rejected == {
        "before_first_stamp": 1,
        "impossible_date": 2,
        "after_impossible_date": 2,
    }
    assert report.left_out == {"blank": 1}
    assert [turn.text for turn in dialogue.turns] == ["kept", "back\nagain"]
    assert (report.read, report.kept, report.continued) == (9, 2, 1)


def test_attached_image_is_copied_and_numbered(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "IMG-20211231-WA0001.jpg").write_bytes(png())
    (folder / "cat photo.png").write_bytes(png(color="blue"))
    report, (dialogue,) = run_text(
        "31/12/21, 10:00 - Bo: \u200eIMG-20211231-WA0001.jpg (something in a rare language)\n"
        "31/12/21, 10:01 - Bo: cat photo.png (archivo adjunto)\n"
        "31/12/21, 10:02 - Bo: PTT-20211231-WA0002.opus (file attached)\n",
        tmp_path,
    )
    # a PNG under a JPEG's name gets its true ending
    assert [Path(image.uri).name for image in dialogue.images] == [
        "IMG-20211231-WA0001.jpg.png",
        "cat photo.png",
    ]
    record = json.loads((tmp_path / "out" / "dialogues.jsonl").read_text(encoding="utf-8"))
    uri = record["turns"][1]["images"][0]["uri"]
    assert uri == f"images/{dialogue.dialogue_id}/cat photo.png"
    assert (tmp_path / "out" / uri).read_bytes() == png(color="blue")
    assert dialogue.turns[2].text == "[voice message]"
    assert report.media == {"images_copied": 2, "file_not_found": 1}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("<attached: 00000013-receipt bike.pdf>", "[document: receipt bike.pdf]"),
        ("plan.pdf • \u200e2 pages \u200e<attached: 00000014-plan.pdf>", "[document: plan.pdf]"),
        ("plan.pdf is new <attached: 00000014-plan.pdf>", "plan.pdf is new\n[document: plan.pdf]"),
        ("<attached: 00000017-STICKER-2025-02-20-21-46-50.webp>", "[sticker]"),
        ("<attached: 00000016-AUDIO-2025-02-20-21-46-20.opus>", "[voice message]"),
        ("STK-20250315-WA0004.webp (file attached)", "[sticker]"),
        ("Pass Lina.pdf (file attached)\nPass Lina.pdf", "[document: Pass Lina.pdf]"),
        ("DOC-20250315-WA0004.pdf (file attached)\nPass.pdf", "Pass.pdf\n[document]"),
        ("Plan.pdf • \u200e2 Seiten \u200eDokument weggelassen", "[document: Plan.pdf]"),
        ("our tent\nis red \u200evideo omitted", "our tent\nis red\n[video]"),
        ("Videonachricht weggelassen", "[video]"),
        ("he wrote video omitted", "he wrote video omitted"),
    ],
)
def test_files_are_named_once_and_without_what_the_export_adds(said, expected, tmp_path):
    line = f"[31/12/21, 21:41:05] Ana: \u200e{said}\n"
    _, (dialogue,) = run_text(line, tmp_path, name="_chat.txt")
    assert [turn.text for turn in dialogue.turns] == [expected]


def test_a_picture_with_a_caption_that_the_export_leaves_out_stays_a_picture(tmp_path):
    line = "[31/12/21, 21:41:05] Ana: the house \u200eimage omitted\n"
    report, (dialogue,) = run_text(line, tmp_path, name="_chat.txt")
    assert [(turn.text, len(turn.images)) for turn in dialogue.turns] == [("the house", 1)]
    assert report.media == {"omitted_by_export": 1}


@pytest.mark.parametrize(
    "words",
    ["Du hast diese Gruppe erstellt", "Jana hat das Gruppenbild geändert",
     "Jana hat die Einstellungen dieser Gruppe geändert", "Jana created this group"],
)  # fmt: skip
def test_notices_of_ios_are_no_turns(words, tmp_path):
    text = f"[31/12/21, 21:41:05] Jana: \u200e{words}\n[31/12/21, 21:42:05] Jana: {words}\n"
    report, (dialogue,) = run_text(text, tmp_path, name="_chat.txt")
    assert [turn.text for turn in dialogue.turns] == [words]  # only what a person wrote
    assert report.left_out == {"system": 1}


@pytest.mark.parametrize(
    "words", ["terlampir: ", "\u200fמצורף: \u200e", "附件：", "liitteenä:", "attached: "]
)
def test_ios_pictures_in_any_language(words, tmp_path):
    name = "00000012-PHOTO-2021-12-31-21-41-05.jpg"
    line = f"[31/12/21 21.41.05] Ana: \u200e<{words}{name}>\n[31/12/21 21.42.05] Bo: <b: c.d>\n"
    report, (dialogue,) = run_text(line, tmp_path, name="_chat.txt")
    assert [(turn.text, len(turn.images)) for turn in dialogue.turns] == [("", 1), ("<b: c.d>", 0)]
    assert report.media == {"file_not_found": 1}


@pytest.mark.parametrize(
    "notice",
    ["Ana hat die Gruppe „Reise: Rom“ erstellt", "花子が「旅行: ローマ」に変更しました",
     "花子が『旅行: ローマ』に変更", "Ana a changé ‹Voyage: Rome›", "Ana hat ‚Reise: Rom‘ erstellt",
     "Ana änderte „Alt“ zu „Reise: Rom“"],
)  # fmt: skip
def test_a_colon_in_the_name_of_a_group_makes_no_speaker(notice, tmp_path):
    text = f"31/12/21, 10:00 - {notice}\n31/12/21, 10:01 - O‘Neill „Max“: hi\n"
    report, (dialogue,) = run_text(text, tmp_path)
    assert [(turn.speaker, turn.text) for turn in dialogue.turns] == [("O‘Neill „Max“", "hi")]
    assert report.left_out == {"system": 1}


def test_the_mark_of_an_edited_message_may_have_a_full_stop(tmp_path):
    text = "31/12/21, 10:00 - Ana: vale <Se editó este mensaje.>\n"
    report, (dialogue,) = run_text(text, tmp_path)
    assert dialogue.turns[0].text == "vale" and report.notes == {"edited": 1}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(encoding, tmp_path):
    text = "31/12/21, 10:00 - Bo: größer\r\n31/12/21, 10:01 - Al: ok\r\n"
    report, (dialogue,) = run_text(text.encode(encoding), tmp_path)
    assert [turn.text for turn in dialogue.turns] == ["größer", "ok"]
    assert not report.notes


def test_broken_bytes_are_replaced_and_counted(tmp_path):
    data = "31/12/21, 10:00 - Bo: ok \ufffd ".encode() + b"\xff\xfe broken\n"
    report, (dialogue,) = run_text(data, tmp_path)
    assert dialogue.turns[0].text == "ok \ufffd \ufffd\ufffd broken"
    assert report.notes["replaced_bytes"] == 2


@pytest.mark.parametrize("data", [b"", b"\n\n", b"just a letter\nto a friend\n", png()])
def test_what_is_no_chat_is_refused_with_what_was_expected(data, tmp_path):
    with pytest.raises(InputError, match=r"expected a WhatsApp export.*21:41 - Name: text"):
        run_text(data, tmp_path)
    assert not (tmp_path / "out" / "dialogues.jsonl").exists()
    assert (tmp_path / "out" / "dead_letter.jsonl").exists()


moments = st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1))


@given(moments, st.sampled_from(["dmy", "mdy", "ymd"]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_written_stamp_reads_back(moment, order, twelve):
    day = {"dmy": "%d/%m/%Y", "mdy": "%m/%d/%Y", "ymd": "%Y/%m/%d"}[order]
    text = moment.strftime(day + (", %I:%M:%S %p" if twelve else ", %H:%M:%S"))
    stamp = find_stamp(text)
    assert resolve(stamp, order, UTC).timestamp == moment.replace(microsecond=0, tzinfo=UTC)
    auto = decide_order([stamp])
    if order != "ymd":
        proven = moment.day > 12
        assert auto == (order if proven else None)


@given(st.integers(0, 4_000_000_000))
@settings(max_examples=50, deadline=None)
def test_seconds_and_milliseconds_since_1970_agree(seconds):
    seconds = max(seconds, 100_000_000)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert read_time(seconds, UTC).timestamp == moment
    assert read_time(str(seconds), UTC).timestamp == moment
    if seconds * 1000 > 1e11:
        assert read_time(seconds * 1000, UTC).timestamp == moment


def test_options_are_checked(tmp_path):
    for options, words in (
        ({"timezone": "Mars/Olympus"}, "IANA"),
        ({"timezone": "../../etc/passwd"}, "IANA"),
        ({"date_order": "ydm"}, "auto, dmy, mdy, ymd"),
    ):
        with pytest.raises(InputError, match=words):
            import_export("whatsapp", DATA / "whatsapp", tmp_path / "out", **options)
    with pytest.raises(InputError, match="whatsapp, telegram"):
        import_export("signal", DATA / "whatsapp", tmp_path / "out")
    with pytest.raises(InputError, match="no file or folder"):
        import_export("whatsapp", tmp_path / "absent", tmp_path / "out")
    with pytest.raises(InputError, match="overwrite"):
        import_export("whatsapp", DATA / "whatsapp", DATA / "whatsapp")
