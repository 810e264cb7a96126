"""Words and times that are easily lost: cards of apps, forwards, XML, records without a zone."""

import json

import pytest
from export_parts import DATA, copy, run

from ffr_core.errors import InputError
from ffr_core.importers import import_export


def test_words_of_slack_apps(tmp_path):
    section = {
        "type": "section",
        "text": {"type": "mrkdwn", "text": "Deploy of *web* by <@U01>"},
        "fields": [{"type": "mrkdwn", "text": "2 &lt; 3"}, {"type": "plain_text", "text": "eu"}],
        "accessory": {"type": "button", "text": {"type": "plain_text", "text": "Approve"}},
    }
    rich = [
        {"type": "text", "text": "a < b, see "},
        {"type": "link", "url": "https://x.org", "text": "the > plan"},
        {"type": "text", "text": " "},
        {"type": "user", "user_id": "U02"},
        {"type": "emoji", "name": "wave"},
        {"type": "broadcast", "range": "here"},
    ]
    item = {"type": "rich_text_section", "elements": [{"type": "text", "text": "item"}]}
    lists = {"type": "rich_text_list", "elements": [item, item]}
    rich_text = {"type": "rich_text", "elements": [{**item, "elements": rich}, lists]}
    context = {"type": "context", "elements": [{"type": "image", "alt_text": "ok"}]}
    nested = {"type": "context", "elements": []}
    for _ in range(400):
        nested = {"type": "context", "elements": [nested]}
    card = {
        "pretext": "build 7",
        "author_name": "Jenkins",
        "fields": [{"title": "Status", "value": "red"}, {"value": "eu"}],
        "blocks": [{"type": "header", "text": {"type": "plain_text", "text": "Log"}}],
        "fallback": "not shown",
    }
    messages = [
        {"user": "U01", "text": "", "blocks": [section, {"type": "divider"}, context]},
        {"user": "U01", "text": "", "blocks": [rich_text, nested]},
        {"username": "ci", "text": "", "attachments": [card]},
        {"username": "ci", "text": "said", "blocks": [section]},
        {"username": "ci", "text": "", "blocks": "x", "attachments": [{"fallback": "short"}]},
    ]
    for number, message in enumerate(messages):
        message["ts"] = f"164098686{number}.1"
    folder = copy("slack", tmp_path)
    (folder / "apps").mkdir()
    (folder / "apps" / "2021-12-31.json").write_text(json.dumps(messages))
    _, dialogues = run("slack", folder, tmp_path)
    (apps,) = (dialogue for dialogue in dialogues if dialogue.title == "apps")
    assert [turn.text for turn in apps.turns] == [
        "Deploy of *web* by @maya\n2 < 3\neu\nok",
        "a < b, see the > plan (https://x.org) @Tom Okafor:wave:@here\nitem\nitem",
        "build 7\nJenkins\nStatus: red\neu\nLog",
        "said",
        "short",
    ]


def test_discord_forwards_and_cards(tmp_path):
    folder = copy("discord", tmp_path)
    (path,) = folder.glob("*.json")
    root = json.loads(path.read_text(encoding="utf-8"))
    author = {"id": "1", "name": "ana"}
    inner = {
        "content": "the words",
        "attachments": [{"url": "https://x.org/map.pdf", "fileName": "map.pdf"}],
        "embeds": [{"title": "Card"}],
    }
    card = {"author": {"name": "Wiki"}, "title": "T", "footer": {"text": "CC"}}
    stamp = "2022-06-01T18:00:00+00:00"
    root["messages"] = [
        {"id": "1", "timestamp": stamp, "author": author, "content": "", "forwardedMessage": inner,
         "reference": {"messageId": "900", "channelId": "6"}},
        {"id": "2", "timestamp": stamp, "author": author, "content": "", "embeds": [card]},
    ]  # fmt: skip
    path.write_text(json.dumps(root))
    report, (dialogue,) = run("discord", folder, tmp_path)
    assert [turn.text for turn in dialogue.turns] == [
        "[forwarded]\nthe words\nCard\n[document: map.pdf]",
        "Wiki\nT\nCC",
    ]
    assert report.notes == {}


def test_telegram_words_of_media_and_forwards(tmp_path):
    facts = [
        {"invoice_information": {"title": "Ticket", "description": "two seats", "amount": 100}},
        {"game_title": "Chess", "game_link": "https://t.me/g"},
        {"location_information": {"latitude": 48.85}, "place_name": "Louvre", "address": "Rivoli"},
        {"poll": {"question": "When?", "answers": [{"text": ["Sun ", {"text": "🌞"}]}]}},
        {"poll": {"question": "Where?", "answers": [{"text": "here", "voters": 2}]}},
        {"todo_list": {"title": "Shop", "answers": [{"text": "milk"}]}},
        {"hologram_3d": {"x": 1}},
        {"text": "I will sue you", "forwarded_from": "Max"},
        {"text": "gone", "forwarded_from": None},
        {},
    ]
    messages = [
        {"id": number, "type": "message", "from": "Ana", "text": "", **fact}
        for number, fact in enumerate(facts)
    ]
    (tmp_path / "result.json").write_text(json.dumps({"name": "c", "messages": messages}))
    report, (dialogue,) = run("telegram", tmp_path / "result.json", tmp_path)
    assert [turn.text for turn in dialogue.turns] == [
        "[invoice: Ticket, two seats]",
        "[game: Chess]",
        "[location: Louvre, Rivoli]",
        "[poll: When? (Sun 🌞)]",
        "[poll: Where? (here: 2)]",
        "[list: Shop (milk)]",
        "[unknown media: hologram 3d]",
        "[forwarded from Max] I will sue you",
        "[forwarded] gone",
        "",
    ]
    assert report.notes == {"unknown_media": 1, "empty_text": 1, "no_time": 10}


@pytest.mark.parametrize(
    ("kind", "xml", "text"),
    [
        (49, "<?xml version='1.0'?><msg><appmsg><title>回复</title><type>57</type><refermsg>"
             "<content>你好</content></refermsg></appmsg></msg>", "回复"),
        (49, "<msg><appmsg><title><![CDATA[A & B]]></title><des>d &lt; e</des><url>http://x</url>"
             "<type>5</type></appmsg></msg>", "[link] A & B d < e http://x"),
        (49, "<msg><appmsg><title>plan.pdf</title><type>6</type></appmsg></msg>",
         "[document: plan.pdf]"),
        (49, "<msg><appmsg><title>cut off", "[link]"),
        (48, '<msg><location x="1" label="南京路1号" poiname="星巴克"/></msg>',
         "[location: 星巴克, 南京路1号]"),
        (42, '<msg username="w" nickname="小王"/>', "[contact: 小王]"),
        (42, "<msg/>", "[contact]"),
        (48, '<msg><location x="1"/></msg>', "[location]"),
        (34, '<msg><voicemsg length="3"/></msg>', "[voice message]"),
    ],
)  # fmt: skip
def test_words_in_the_xml_of_wechat(kind, xml, text, tmp_path):
    row = {"time": "2022-01-01 10:00", "sender": "Ana", "type": kind, "content": xml}
    (tmp_path / "chat.json").write_text(json.dumps([row]))
    _, (dialogue,) = run("wechat", tmp_path / "chat.json", tmp_path)
    assert dialogue.turns[0].text == text


def test_jsonl_times_without_a_zone_are_in_the_zone_asked_for(tmp_path):
    written = ["2022-07-01 10:00", "2022-07-01T10:00:00Z", "2022-07-01T10:00:00+09:00",
               "2022-07-01", "1 July 2022 10:00", "around noon", 5, None]  # fmt: skip
    turns = [
        {"turn_id": number, "speaker": "a", "text": "x", "timestamp": time}
        for number, time in enumerate(written)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"dialogue_id": "d", "turns": turns}) + "\n")
    _, (dialogue,) = run("jsonl", path, tmp_path, timezone="Europe/Berlin")
    shown = [turn.timestamp and turn.timestamp.isoformat() for turn in dialogue.turns]
    assert shown == [
        "2022-07-01T10:00:00+02:00", "2022-07-01T10:00:00+00:00", "2022-07-01T10:00:00+09:00",
        "2022-07-01T00:00:00+02:00", "2022-07-01T10:00:00+02:00", None, None, None,
    ]  # fmt: skip
    assert dialogue.turns[5].timestamp_text == "around noon"


@pytest.mark.parametrize("name", ["slack", "discord", "jsonl"])
def test_a_date_order_that_cannot_apply_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="leave --date-order out"):
        import_export(name, DATA / name, tmp_path / "out", date_order="dmy")
    assert not (tmp_path / "out").exists()
