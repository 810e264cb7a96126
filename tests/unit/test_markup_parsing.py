import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffr_core import markup, parsing
from ffr_core.types import Dialogue, Fragment, Image, Selection, Turn

TEXT = st.text(alphabet="<>|\\/abcutt_id_startim_end\n你 ", max_size=60)
IDS = st.frozensets(st.integers(0, 30))


def dialogue(*texts, images=()):
    turns = [
        Turn(
            turn_id=i,
            speaker="Ana",
            text=text,
            images=tuple(Image(image_id=k, uri=None) for k, turn in enumerate(images) if turn == i),
        )
        for i, text in enumerate(texts)
    ]
    return Dialogue(dialogue_id="d", turns=tuple(turns))


@given(TEXT)
def test_escaping_is_exact(text):
    assert markup.unescape(markup.escape(text)) == text


@pytest.mark.parametrize(
    "token",
    [
        "<|utt_id_start|>7<|utt_id_end|>",
        "<|im_end|>",
        "<|image_pad|>",
        "<|vision_start|>",
        "<tool_call>",
        "</think>",
        "<|utt_ids_start|>[0]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>",
    ],
)
def test_typed_markup_forges_nothing(token):
    rendered = "".join(p for p in markup.render_dialogue(dialogue(token)) if isinstance(p, str))
    assert token not in rendered
    assert rendered.count("<|") == 2
    assert token not in markup.render_query(token)


def test_rendered_dialogue():
    parts = markup.render_dialogue(dialogue("hi", "look", "nice", images=(1, 1)))
    first, image, second, other, last = parts
    assert first == (
        "<|utt_id_start|>0<|utt_id_end|>Ana: hi\n"
        "<|utt_id_start|>1<|utt_id_end|>Ana: look<|img_id_start|>0<|img_id_end|>"
    )
    assert (image.image_id, other.image_id) == (0, 1)
    assert second == "<|img_id_start|>1<|img_id_end|>"
    assert last == "\n<|utt_id_start|>2<|utt_id_end|>Ana: nice\n"


def test_the_answer_form_of_the_paper():
    text = "<|utt_ids_start|>[0, 3, 4]<|utt_ids_end|>;<|img_ids_start|>[1]<|img_ids_end|>"
    selection = Selection(utterance_ids=frozenset({0, 3, 4}), image_ids=frozenset({1}))
    assert markup.render_selection(selection) == text
    assert parsing.parse_selection(text, 5, 2).selection == selection


@given(IDS, IDS)
def test_selection_round_trip(utterances, images):
    selection = Selection(utterance_ids=utterances, image_ids=images)
    parsed = parsing.parse_selection(markup.render_selection(selection), 31, 31)
    assert parsed == parsing.ParsedSelection(selection=selection, well_formed=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[0, 1]",
        "The answer is <|utt_ids_start|>[0]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>",
        "<|utt_ids_start|>[0]<|utt_ids_end|>",
        "<|utt_ids_start|>[0,]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>",
        "<|utt_ids_start|>[-1]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>",
        "<|utt_ids_start|>[01]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>",
        "<|utt_ids_start|>[0]<|utt_ids_end|> ; <|img_ids_start|>[]<|img_ids_end|>",
    ],
)
def test_other_forms_are_not_well_formed(text):
    assert not parsing.parse_selection(text, 9, 9).well_formed
    assert not parsing.parse_selection(text, 9, 9).selection


def test_duplicates_and_unknown_ids():
    text = "<|utt_ids_start|>[0, 0, 8, 9]<|utt_ids_end|>;<|img_ids_start|>[2]<|img_ids_end|>"
    parsed = parsing.parse_selection(text, 3, 1)
    assert parsed.selection == Selection(utterance_ids=frozenset({0}))
    assert (parsed.well_formed, parsed.unknown_ids) == (False, 3)
    assert (parsed.unknown_utterances, parsed.unknown_images) == (2, 1)


def test_clusters_are_repaired_and_counted():
    parsed = parsing.parse_clusters("[[0, 1], [1, 3, 9]]", 5)
    assert parsed.clusters == ((0, 1, 2), (3, 4))
    assert (parsed.missing, parsed.repeated, parsed.unknown) == (2, 1, 1)


def test_text_that_is_no_clusters_gives_one_fragment():
    for text in ("sorry", '[["a"]]', "[[true]]", "{}", "[" * 5000, "[[" + "1" * 5000 + "]]"):
        parsed = parsing.parse_clusters(text, 3)
        assert (parsed.well_formed, parsed.clusters) == (False, ((0, 1, 2),))


@given(st.lists(st.lists(st.integers(-2, 12), max_size=6), max_size=6), st.integers(1, 10))
def test_repair_always_gives_a_partition(raw, num_turns):
    parsed = parsing.repair_clusters(raw, num_turns)
    assert sorted(i for cluster in parsed.clusters for i in cluster) == list(range(num_turns))


@given(st.permutations(range(8)))
def test_clusters_round_trip(order):
    clusters = sorted([tuple(sorted(order[:3])), tuple(sorted(order[3:]))])
    parsed = parsing.parse_clusters(markup.render_clusters(clusters), 8)
    assert (list(parsed.clusters), parsed.missing, parsed.repeated) == (clusters, 0, 0)


def test_local_ids_go_both_ways():
    whole = dialogue("a", "b", "c", "d", images=(0, 2, 2, 3))
    view = markup.local_view(whole, Fragment(fragment_id=0, turn_ids=(2, 3)))
    assert [t.turn_id for t in view.dialogue.turns] == [0, 1]
    assert [i.image_id for i in view.dialogue.images] == [0, 1, 2]
    local = Selection(utterance_ids=frozenset({1}), image_ids=frozenset({0, 2}))
    outside = Selection(utterance_ids=frozenset({3}), image_ids=frozenset({1, 3}))
    assert view.to_dialogue(local) == outside
    assert view.to_local(outside) == local
