from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from ffr_core.dataset.agreement import (
    agreement,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    majority,
)
from ffr_core.dataset.chat_text import (
    ChatRules,
    WordLists,
    clean_text,
    find_entries,
    is_void,
    remove_emoji,
)
from ffr_core.dataset.chatlog import merge_consecutive, prepare, split_long
from ffr_core.dataset.privacy import tagged_words
from ffr_core.errors import InputError, NotFoundError
from ffr_core.types import Dialogue, Image, Selection, Turn

WORDS = WordLists.load()
RULES = ChatRules()
PLAIN = ChatRules(anonymise=False, mask_identifiers=False, min_images=0)
START = datetime(2025, 1, 1, tzinfo=UTC)


def chat(*messages, gaps=None):
    """Messages are (speaker, text, number of images)."""
    turns, count, at = [], 0, START
    for turn_id, (speaker, text, images) in enumerate(messages):
        at += timedelta(minutes=(gaps or {}).get(turn_id, 1))
        pictures = tuple(Image(image_id=count + i, uri=None) for i in range(images))
        turns.append(
            Turn(turn_id=turn_id, speaker=speaker, text=text, timestamp=at, images=pictures)
        )
        count += images
    return Dialogue(dialogue_id="chat", turns=tuple(turns))


@pytest.mark.parametrize(
    ("text", "rest", "places"),
    [
        ("see you 😀👍🏽 there", "see you  there", 1),
        ("family 👨‍👩‍👧 ok", "family  ok", 1),
        ("flag 🇨🇳 and 1️⃣", "flag  and ", 2),
        ("好的[微笑][捂脸]走吧", "好的走吧", 2),
        ("[图片] look", "[图片] look", 0),
        ("nice :tada: at 10:30:15", "nice  at 10:30:15", 1),
        ("plain text, 中文。", "plain text, 中文。", 0),
        ("❤️ heart", " heart", 1),
        ("从北京→上海", "从北京→上海", 0),
        ("A → B ✓ done ⌘⌥ ★ ①", "A → B ✓ done ⌘⌥ ★ ①", 0),
        ("↗️ ⌚ ✅ ⭐ ☝🏽 ▶️", "     ", 6),
        ("🏃‍♂ 🏃🏽‍♂️ ❤️‍🔥 👩‍⚕️", "   ", 4),
    ],
)
def test_emoji(text, rest, places):
    assert remove_emoji(text, WORDS.emoji_codes) == (rest, places)


@pytest.mark.parametrize("text", ["", "...", "OK!", "哈哈", "嗯 嗯", "？？"])
def test_void(text):
    assert is_void(text, WORDS.void)


@pytest.mark.parametrize("text", ["ok see you at 5", "哈哈，明天见", "7"])
def test_not_void(text):
    assert not is_void(text, WORDS.void)


@pytest.mark.parametrize(
    ("text", "action", "expected"),
    [
        ("what the fuck happened", "remove", ("what the happened", "")),
        ("what the FUCKING hell", "drop_turn", ("", "profanity")),
        ("Scunthorpe is nice", "drop_turn", ("Scunthorpe is nice", "")),
        ("这个傻逼软件又坏了", "remove", ("这个软件又坏了", "")),
        ("what the fuck", "keep", ("what the fuck", "")),
        ("fuck", "drop_dialogue", ("", "drop_dialogue")),
        ("我妈的生日是明天", "remove", ("我妈的生日是明天", "")),
        ("我操作一下电脑", "remove", ("我操作一下电脑", "")),
        ("过去死了很多人", "remove", ("过去死了很多人", "")),
        ("她是模特么", "remove", ("她是模特么", "")),
        ("踩到狗屎了", "remove", ("踩到狗屎了", "")),
        ("我操, 真他妈的烦", "remove", (", 真烦", "")),
        ("这特么太牛逼了", "remove", ("这太了", "")),
    ],
)
def test_profanity(text, action, expected):
    rules = ChatRules(profanity=action)
    assert clean_text(text, rules, WORDS, Counter()) == expected


@pytest.mark.parametrize("text", ["my password is hunter2", "验证码 339211 别告诉别人"])
def test_sensitive_messages_go(text):
    assert clean_text(text, RULES, WORDS, Counter()) == ("", "sensitive")


@pytest.mark.parametrize(
    "text", ["他处方便面", "口令红包", "current affair show", "这是惊喜, 先保密"]
)
def test_ordinary_messages_stay(text):
    assert clean_text(text, RULES, WORDS, Counter()) == (text, "")


def test_entries_are_found_longest_first_and_without_overlaps():
    entries = ("傻逼", "大傻逼", "他妈tmd", "tmd", "bad*")
    assert find_entries("大傻逼! 傻逼 TMD badly", entries) == [(0, 3), (5, 7), (8, 11), (12, 17)]
    assert find_entries("他妈TMD", entries) == [(0, 5)]
    assert find_entries("", entries) == find_entries("傻逼", ()) == []


@given(st.text(alphabet="我操作你妈的ab1 .\n😀é", max_size=30))
def test_tagged_words_joined_are_the_text(text):
    assert "".join(word for word, _ in tagged_words(text)) == text


def test_own_lists_replace_the_shipped_ones(tmp_path):
    (tmp_path / "mine.txt").write_text("# mine\nbanana\n")
    words = WordLists.load(profanity=[str(tmp_path / "mine.txt")])
    assert clean_text("a banana shit", RULES, words, Counter()) == ("a shit", "")
    with pytest.raises(NotFoundError):
        WordLists.load(void=["nowhere.txt"])


def test_consecutive_messages_merge_and_replies_follow():
    turns = list(
        chat(("a", "one", 1), ("a", "", 1), ("b", "two", 0), ("b", "three", 0), ("a", "x", 0)).turns
    )
    turns[3] = replace(turns[3], reply_to=1)
    turns[1] = replace(turns[1], reply_to=0)
    merged = merge_consecutive(turns)
    assert [(t.speaker, t.text, len(t.images)) for t in merged] == [
        ("a", "one", 2),
        ("b", "two\nthree", 0),
        ("a", "x", 0),
    ]
    # 3 answered 1, which is now part of 0; a message that answers its own group answers nothing.
    assert [t.reply_to for t in merged] == [None, 0, None]
    assert merged[0].timestamp == turns[0].timestamp


def test_two_images_are_needed():
    one = chat(("a", "hello there", 1), ("b", "good morning", 0))
    assert prepare(one, ChatRules(anonymise=False), WORDS, None).reason == "too_few_images"
    assert prepare(one, PLAIN, WORDS, None).pieces[0].images[0].image_id == 0


def test_an_image_survives_a_void_text():
    found = prepare(chat(("a", "😀", 1), ("b", "ok", 0), ("a", "see?", 1)), PLAIN, WORDS, None)
    assert [(t.text, len(t.images)) for t in found.pieces[0].turns] == [("see?", 2)]
    assert found.counts["turn_void"] == 1 and found.counts["merged"] == 1


def test_pictures_of_a_message_that_goes_are_counted():
    found = prepare(chat(("a", "my password is hunter2", 2), ("b", "fine", 1)), PLAIN, WORDS, None)
    assert found.counts["turn_sensitive"] == 1 and found.counts["images_dropped"] == 2


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["", "ok", "😀", "fuck", "the password", "see you at five", "再见了"]),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(messages=MESSAGES, max_turns=st.integers(4, 12))
def test_messages_in_are_turns_out_plus_reasons(messages, max_turns):
    found = prepare(chat(*messages), replace(PLAIN, max_turns=max_turns), WORDS, None)
    left_out = sum(n for name, n in found.counts.items() if name.startswith("turn_"))
    turns = sum(len(piece.turns) for piece in found.pieces)
    if not found.reason:
        assert found.messages == turns + found.counts["merged"] + left_out
    else:
        assert found.reason == "nothing_left" and left_out == found.messages
    assert all(len(piece.turns) <= max_turns for piece in found.pieces)
    assert all("😀" not in t.text for piece in found.pieces for t in piece.turns)


def test_a_long_chat_is_cut_at_its_longest_pauses():
    messages = [("ab"[i % 2], f"message {i}", 0) for i in range(230)]
    pieces = split_long(chat(*messages, gaps={70: 600, 72: 60, 150: 300, 20: 9000}), 100)
    # The pause before 20 lies too close to the start; from 70 the next cut falls in 120..170.
    assert [len(p.turns) for p in pieces] == [70, 80, 80]
    assert [p.dialogue_id for p in pieces] == ["chat-part1", "chat-part2", "chat-part3"]
    assert pieces[1].turns[0].text == "message 70" and pieces[1].turns[0].turn_id == 0
    assert split_long(pieces[0], 100) == (pieces[0],)


def test_cohen_by_hand_and_against_scikit_learn():
    assert cohen_kappa([1, 1, 0, 0], [1, 0, 0, 0]) == pytest.approx(0.5)
    assert cohen_kappa([1, 1], [1, 1]) == 1.0
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(3, size=(2, 30)).tolist()
        assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))


def test_fleiss_on_the_example_of_his_paper():
    """Ten subjects, fourteen raters, five categories: kappa 0.210 (Fleiss 1971)."""
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    labels = np.array([np.repeat(range(5), row) for row in counts])
    assert fleiss_kappa(labels) == pytest.approx(0.210, abs=5e-4)


def test_krippendorff_on_the_example_of_his_paper():
    """Four observers, twelve units, missing values: nominal alpha 0.743 (Krippendorff 2011)."""
    m = -1
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, m, m, m],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, m, 3],
        [m, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, m],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, m],
    ]
    assert krippendorff_alpha(np.array(observers).T) == pytest.approx(0.743, abs=5e-4)


def test_agreement_about_selections():
    dialogue = chat(("a", "x", 1), ("b", "y", 0), ("a", "z", 0))
    one = Selection(utterance_ids=frozenset({0, 1}), image_ids=frozenset({0}))
    two = Selection(utterance_ids=frozenset({0}), image_ids=frozenset({0}))
    found = agreement(
        {("chat", "q"): {"p": one, "r": two}, ("chat", "alone"): {"p": one}}, {"chat": dialogue}
    )
    assert (found.queries, found.units) == (1, 4)
    assert found.pairwise_f1 == pytest.approx(2 * 2 / 5)
    # Units u0 u1 u2 i0: p 1 1 0 1, r 1 0 0 1: p_o 3/4, p_e 3/4 * 1/2 + 1/4 * 1/2 = 1/2.
    assert found.cohen_kappa == {"p/r": pytest.approx(0.5)}
    assert found.fleiss_kappa is not None
    with pytest.raises(InputError, match="two people"):
        agreement({("chat", "alone"): {"p": one}}, {"chat": dialogue})


def test_the_majority_decides():
    votes = [Selection(utterance_ids=frozenset(ids)) for ids in ({1, 2}, {2}, {2, 3})]
    assert majority(votes) == Selection(utterance_ids=frozenset({2}))
