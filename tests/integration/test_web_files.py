"""The files of the web page, without a browser: what they suggest, what they load."""

import re
from importlib import resources

import pytest

WEB = resources.files("serve") / "web"


def suggestions(language):
    """The questions on the welcome page."""
    text = (WEB / f"i18n.{language}.js").read_text()
    return re.findall(r'^ *tip_\d: "(.+)",$', text, re.MULTILINE)


@pytest.fixture(scope="module")
def sample_system(tmp_path_factory):
    """The laptop profile over the shorter dialogues of the sample corpus that the tips aim at."""
    from ffr_core.parts import open_system
    from ffr_core.records import read_jsonl

    wanted = {
        *("grandma-turns-eighty", "hut-weekend-murrhorn", "travel-agent-island-week"),
        *("runners-river-loop", "subject-three-anxiety"),
    }
    folder = resources.files("ffr_core") / "data" / "sample"
    with open_system("laptop", tmp_path_factory.mktemp("sample")) as system:
        for name in ("en-private", "en-work", "zh"):
            for dialogue in read_jsonl(str(folder / f"{name}.jsonl")):
                if dialogue.dialogue_id in wanted:
                    system.add(dialogue)
        assert set(system.dialogue_ids()) == wanted
        yield system


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_suggested_questions_find_something_in_the_sample_corpus(sample_system, language):
    asked = suggestions(language)
    assert len(asked) == 3
    assert [text for text in asked if not sample_system.search(text)] == []


def test_no_module_of_the_page_is_left_without_preload():
    """A module that is found only through another one costs a round trip."""
    page = (WEB / "index.html").read_text()
    modules = {entry.name for entry in WEB.iterdir() if entry.name.endswith(".js")}
    named = set(re.findall(r'/web/([\w.]+\.js)"', page))
    assert named == modules
