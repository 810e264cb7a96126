from pathlib import Path

import pytest

from ffr_core.errors import ConfigError
from ffr_core.prompts import Prompts
from ffr_core.types import Dialogue, Image, Turn

IMAGE = Image(image_id=0, uri="a.png", caption="a dog")
DIALOGUE = Dialogue(
    dialogue_id="d",
    turns=(
        Turn(turn_id=0, speaker="Ana", text="look", images=(IMAGE,)),
        Turn(turn_id=1, speaker="Bo", text="nice {dialogue}"),
    ),
)
SHIPPED = ["default", "paper", "compact", "compact-query-first"]


def text_of(messages: object) -> str:
    parts = messages[-1].parts  # type: ignore[index]
    return "".join(part if isinstance(part, str) else "<IMAGE>" for part in parts)


def test_compact_is_the_dialogue_and_the_query() -> None:
    [message] = Prompts.load("compact").localize(DIALOGUE, "the dog")
    assert message.role == "user" and message.parts == (
        "<|utt_id_start|>0<|utt_id_end|>Ana: look<|img_id_start|>0<|img_id_end|>",
        IMAGE,
        "a dog\n<|utt_id_start|>1<|utt_id_end|>Bo: nice {dialogue}\n"
        "<|query_start|>the dog<|query_end|>",
    )


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_order_is_the_templates(name: str, language: str) -> None:
    text = text_of(Prompts.load(name).localize(DIALOGUE, "the dog", language))
    query_first = text.index("<|query_start|>") < text.index("<|utt_id_start|>")
    assert query_first == (name in ("paper", "compact-query-first"))
    assert text.count("<IMAGE>") == 1 and text.count("<|query_start|>") == 1
    assert "<|query_start|>" not in text_of(Prompts.load(name).segment(DIALOGUE, language))


def test_queries_of_a_dialogue_share_their_prefix() -> None:
    prompts = Prompts.load("default")
    texts = [text_of(prompts.localize(DIALOGUE, query)) for query in ("the dog", "a cat")]
    places = [text.index("<|query_start|>") for text in texts]
    assert texts[0][: places[0]] == texts[1][: places[1]]


def test_language_follows_argument_then_dialogue_then_text() -> None:
    prompts = Prompts.load("default")
    chinese = Dialogue(dialogue_id="d", turns=(Turn(turn_id=0, speaker="李", text="今天去哪里"),))
    assert "查询" in text_of(prompts.localize(chinese, "去哪"))
    assert "查询" not in text_of(prompts.localize(chinese, "去哪", "en"))
    said = Dialogue(dialogue_id="d", turns=DIALOGUE.turns, language="zh-Hans")
    assert "查询" in text_of(prompts.localize(said, "dog"))
    assert "查询" not in text_of(prompts.localize(DIALOGUE, "dog"))


def test_typed_markers_are_escaped() -> None:
    text = text_of(Prompts.load("compact").localize(DIALOGUE, "x<|query_end|>[0]"))
    assert text.count("<|query_end|>") == 1


@pytest.mark.parametrize(
    ("user", "problem"),
    [
        ("{dialogue}", "query"),
        ("{dialogue}{query}{query}", "exactly once"),
        ("{dialogue}{query}{language}", "language"),
        ("{dialogue}{query:>10}", "slots"),
        ("{dialogue}{query", "braces"),
    ],
)
def test_wrong_slots_are_refused(tmp_path: Path, user: str, problem: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"[localize.en]\nuser = '{user}'\n")
    with pytest.raises(ConfigError, match=problem):
        Prompts.load(str(path))


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[localize.en]\nsystem = 'S'\nuser = 'Q {query} {{}} {dialogue}'\n")
    prompts = Prompts.load(str(path))
    system, user = prompts.localize(DIALOGUE, "dog", "zh")
    assert system.parts == ("S",) and str(user.parts[0]).startswith("Q <|query_start|>dog")
    assert "{}" in str(user.parts[0])
    with pytest.raises(ConfigError, match="segment"):
        prompts.segment(DIALOGUE)
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(ConfigError, match="no template"):
        Prompts.load(str(tmp_path / "empty.toml"))
    with pytest.raises(ConfigError, match="compact-query-first"):
        Prompts.load("nothing")


def test_fingerprints_differ() -> None:
    assert len({Prompts.load(name).fingerprint for name in SHIPPED}) == len(SHIPPED)
