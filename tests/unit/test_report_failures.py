"""The failure browser: which queries, and that nothing typed is markup."""

from ffr_core.types import Dialogue, Image, Turn
from jobs.report.failures import failures_page, shown_turns, worst

DIALOGUE = Dialogue(
    dialogue_id="d",
    turns=tuple(
        Turn(
            turn_id=i,
            speaker="<i>A</i>",
            text=f"text {i} <script>alert(1)</script>",
            images=(Image(image_id=0, uri=None, caption="<img src=x>"),) if i == 3 else (),
        )
        for i in range(40)
    ),
)


def query(text, utt, img=()):
    return {
        "query": text,
        "dialogue_id": "d",
        "utt_ids": list(utt),
        "img_ids": list(img),
        "groups": {"kind": "k"},
    }


CELL = {
    "system": "<b>s</b>",
    "set": "t",
    "queries": [
        query("right", [1]),
        query("half", [1, 2]),
        query("all wrong", [3], [0]),
        query("wrong", [4]),
        query("rightly empty", []),
    ],
    "selection": [
        {"utt_ids": [1], "img_ids": []},
        {"utt_ids": [1], "img_ids": []},
        {"utt_ids": [9, 30], "img_ids": []},
        {"utt_ids": [], "img_ids": []},
        {"utt_ids": [], "img_ids": []},
    ],
}


def test_the_worst_come_first_and_right_answers_are_left_out():
    found = worst(CELL, 10)
    assert [f.query["query"] for f in found] == ["all wrong", "wrong", "half"]
    assert [round(f.f1, 2) for f in found] == [0, 0, 0.67]
    assert len(worst(CELL, 1)) == 1
    assert worst({"system": "s", "set": "t", "queries": []}, 5) == []


def test_an_answer_that_makes_up_ids_is_not_right():
    answer = {"utt_ids": [1], "img_ids": [], "unknown_utt": 2, "unknown_img": 0}
    made_up = {**CELL, "queries": [query("q", [1])], "selection": [answer]}
    assert [f.f1 for f in worst(made_up, 10)] == [2 / 4]


def test_turns_around_gold_and_prediction_are_shown_and_the_rest_is_counted():
    shown, cut = shown_turns(DIALOGUE, query("q", [3], [0]), {"utt_ids": [9, 39], "img_ids": []})
    assert shown == [2, 3, 4, 8, 9, 10, 38, 39] and cut == 0
    many = Dialogue(
        dialogue_id="m", turns=tuple(Turn(turn_id=i, speaker="A", text="") for i in range(100))
    )
    shown, cut = shown_turns(many, query("q", range(100)), {"utt_ids": [], "img_ids": []})
    assert len(shown) == 60 and cut == 40


def test_sides_are_marked_and_everything_typed_is_escaped():
    page = failures_page(worst(CELL, 10), {("t", "d"): DIALOGUE})
    assert "<script" not in page and "<img" not in page and "<i>" not in page
    assert "&lt;script&gt;alert(1)" in page and "&lt;b&gt;s&lt;/b&gt;" in page
    assert page.count('<div class="turn wrong">') == 2
    # Gold turns 3, 4 and 2 are missed, turn 1 is a hit on both sides, the picture is missed.
    assert page.count('<div class="turn missed">') == 3
    assert page.count('<div class="turn hit">') == 2
    assert page.count('<div class="missed">') == 1
    assert "default-src 'none'" in page


def test_a_page_without_failures_or_dialogues_says_so():
    assert "every answer is right" in failures_page([], {})
    assert "no such dialogue any more" in failures_page(worst(CELL, 1), {})
