"""Synthetic dialogues: what a reader could check who knows the words but not the generator."""

import re
from functools import cache
from itertools import chain, combinations, pairwise

import pytest

from ffr_core.dataset.synthetic import SynthConfig, generate, generate_one, vocabulary
from ffr_core.dataset.synthetic.grammar import grammar
from ffr_core.dataset.synthetic.words import lexicon
from ffr_core.errors import ConfigError
from ffr_core.types import QueryKind

SIDES = ("train", "heldout")
LANGUAGES = ("en", "zh")
PICTURE_WORDS = re.compile(r"photo|picture|照片|图片")
BOTH_WORDS = re.compile(
    r"\b(all|everything)\b|talk and pictures|pictures and talk|一切|所有|话和图片"
)


@cache
def dialogues(language="en", split="train", count=250, seed=3):
    return tuple(generate(SynthConfig(dialogues=count, seed=seed, language=language, split=split)))


@cache
def forms(language):
    """Surface form -> (kind, key), longest first for Chinese."""
    words = lexicon(language)
    kinds = {"o": words.objects, "a": words.actions, "p": words.places, "c": words.colors}
    found = {f: (kind, key) for kind, m in kinds.items() for key, group in m.items() for f in group}
    found |= {value: ("v", aspect) for aspect, values in words.values.items() for value in values}
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


@cache
def pattern(language):
    edge = r"\b" if language == "en" else ""
    return re.compile(edge + "(" + "|".join(map(re.escape, forms(language))) + ")" + edge)


def concepts(text, language):
    return {forms(language)[form] for form in pattern(language).findall(text)}


def frame(text, language):
    """The text with every word of the closed lists replaced by its kind."""
    return pattern(language).sub(lambda m: "<" + forms(language)[m.group()][0] + ">", text)


def texts(made):
    turns = (turn.text for turn in made.dialogue.turns)
    return [*turns, *(query.query for query in made.dialogue.queries)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_combination_is_on_both_sides(language):
    pairs = {}
    for split in SIDES:
        found = set()
        for made in dialogues(language, split):
            for text in texts(made):
                named = sorted(c for c in concepts(text, language) if c[0] in "oapc")
                found.update(combinations(named, 2))
            for picture in made.pictures:
                shown = (("o", picture.object), ("c", picture.color))
                found.add(tuple(sorted(shown)))
                found.add(tuple(sorted((("o", picture.object), ("p", picture.place)))))
        # A color and a place, or a color and an action, meet only through their object.
        pairs[split] = {
            p
            for p in found
            if {p[0][0], p[1][0]} in ({"o", "a"}, {"o", "p"}, {"a", "p"}, {"c", "o"})
        }
    assert not pairs["train"] & pairs["heldout"]
    assert len(pairs["train"]) > 500 and len(pairs["heldout"]) > 250


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_frame_is_on_both_sides(language):
    frames = {
        split: {
            frame(text, language) for made in dialogues(language, split) for text in texts(made)
        }
        for split in SIDES
    }
    assert not frames["train"] & frames["heldout"]
    train, heldout = (set(grammar(language, split).templates()) for split in SIDES)
    shared = train & heldout
    assert not shared


@pytest.mark.parametrize("language", LANGUAGES)
def test_heldout_templates_use_only_words_of_training_templates(language):
    def words(split):
        bare = [re.sub(r"\{.\}", " ", text) for text in grammar(language, split).templates()]
        return set("".join(bare)) if language == "zh" else set(" ".join(bare).split())

    assert words("heldout") <= words("train")


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_and_drawn_instances_are_on_one_side(language):
    names, styles = {}, {}
    for split in SIDES:
        made = dialogues(language, split)
        names[split] = {turn.speaker for one in made for turn in one.dialogue.turns}
        styles[split] = {picture.style for one in made for picture in one.pictures}
    assert names["train"] and names["heldout"] and not names["train"] & names["heldout"]
    assert len(styles["train"]) > 1000 and not styles["train"] & styles["heldout"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_template_words_are_not_words_of_the_lists(language):
    for split in SIDES:
        for template in grammar(language, split).templates():
            assert not concepts(re.sub(r"\{.\}", " ", template), language), template


def test_a_dialogue_depends_on_seed_side_and_number_only():
    few = list(generate(SynthConfig(dialogues=3, seed=5)))
    many = list(generate(SynthConfig(dialogues=6, seed=5)))
    assert few == many[:3]
    assert generate_one(SynthConfig(dialogues=1, seed=5), 4) == many[4]
    other = generate_one(SynthConfig(dialogues=1, seed=6), 0)
    assert other.dialogue.turns != few[0].dialogue.turns
    ids = [made.dialogue.dialogue_id for made in many]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_vocabulary_is_closed_and_small(language):
    known = set(vocabulary(language))
    assert len(known) <= 700
    for split in SIDES:
        for made in dialogues(language, split):
            for text in texts(made):
                assert set(text if language == "zh" else text.split()) <= known
            assert {turn.speaker for turn in made.dialogue.turns} <= known
    assert known <= set(vocabulary("mixed"))


def test_mixed_draws_the_language_of_each_dialogue():
    config = SynthConfig(dialogues=40, seed=0, language="mixed")
    found = [made.dialogue.language for made in generate(config)]
    assert {"en", "zh"} == set(found)


def fragment_concepts(made, language):
    """What each gold fragment's turns name, pictures left out."""
    named = []
    for part in made.dialogue.fragments:
        said = [made.dialogue.turns[i] for i in part if not made.dialogue.turns[i].images]
        named.append(set(chain.from_iterable(concepts(t.text, language) for t in said)))
    return named


@pytest.mark.parametrize("split", SIDES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_gold_follows_from_the_texts_and_the_pictures(language, split):
    """Turns of the fragments that name all a query names; pictures that show it."""
    queries = [(made, q) for made in dialogues(language, split) for q in made.dialogue.queries]
    aspects = set()
    for made, query in queries:
        turns = made.dialogue.turns
        asked = concepts(query.query, language)
        spoken = {c for c in asked if c[0] in "oap"}
        color = {key for kind, key in asked if kind == "c"}
        both = bool(color) or bool(BOTH_WORDS.search(query.query))
        only_pictures = bool(PICTURE_WORDS.search(BOTH_WORDS.sub("", query.query)))
        told = set()
        if not only_pictures:
            for part, named in zip(
                made.dialogue.fragments, fragment_concepts(made, language), strict=True
            ):
                told |= {i for i in part if not turns[i].images and spoken <= named}
        shown = set()
        for image_id, picture in enumerate(made.pictures if both or only_pictures else ()):
            has = {("o", picture.object), ("p", picture.place), ("c", picture.color)}
            if {c for c in asked if c[0] in "opc"} <= has:
                shown.add(image_id)
        assert query.relevance.image_ids == shown, (made.dialogue.dialogue_id, query)
        gold = set(query.relevance.utterance_ids)
        if gold != told:
            aspects.add(query.query)
            check_aspect(made, query, gold, told, language)
    assert len(aspects) > len(queries) / 10


def check_aspect(made, query, gold, told, language):
    """A narrowed query: exactly the turns with a value of one aspect, and the questions for it."""
    turns = made.dialogue.turns
    assert gold < told, (made.dialogue.dialogue_id, query)
    values = {
        i: {key for kind, key in concepts(turns[i].text, language) if kind == "v"} for i in told
    }
    aspects = set().union(*(values[i] for i in gold)) if gold else set()
    if not gold:
        assert query.kind is QueryKind.NEGATIVE
        return
    assert len(aspects) == 1, (made.dialogue.dialogue_id, query, aspects)
    assert {i for i in told if values[i] & aspects} <= gold
    questions = {i for i in gold if not values[i]}
    assert all(turns[i].text.endswith(("?", "？")) and i + 1 in gold for i in questions)


@pytest.mark.parametrize("split", SIDES)
def test_texts_do_not_reveal_what_pictures_show(split):
    for made in dialogues("en", split):
        for turn in made.dialogue.turns:
            named = concepts(turn.text, "en")
            assert not {kind for kind, _ in named} & {"c"}
            if turn.images:
                assert not named and turn.images[0].caption is None
                assert turn.text in grammar("en", split).sharing
    config = SynthConfig(dialogues=3, seed=3, split=split, captions=True)
    for made in generate(config):
        for image, picture in zip(made.dialogue.images, made.pictures, strict=True):
            shown = {("o", picture.object), ("c", picture.color), ("p", picture.place)}
            assert concepts(image.caption, "en") == shown


def test_shape_of_a_dialogue():
    for split in SIDES:
        for made in dialogues("en", split):
            dialogue = made.dialogue
            assert 12 <= len(dialogue.turns) <= 40
            assert 2 <= len(dialogue.fragments) <= 4
            assert sorted(chain(*dialogue.fragments)) == list(range(len(dialogue.turns)))
            assert list(dialogue.fragments) == sorted(dialogue.fragments)
            assert 2 <= len(dialogue.participants) <= 4
            assert 3 <= len(made.pictures) == len(dialogue.images) <= 8
            assert 3 <= len(dialogue.queries) <= 8
            for image in dialogue.images:
                assert image.uri == f"images/{dialogue.dialogue_id}-{image.image_id}.png"


def test_questions_asked_in_a_dialogue_are_answered_by_the_next_turn():
    for made in dialogues():
        turns = made.dialogue.turns
        for pair in (pair for pair in made.qa_pairs if pair.question_turns):
            asked, said = pair.question_turns[0], pair.answer_turns[0]
            assert said == asked + 1
            assert {asked, said} <= set(made.dialogue.fragments[pair.fragment_id])
            assert turns[asked].text == pair.question and pair.question.endswith("?")
            assert turns[asked].speaker != turns[said].speaker


def test_every_answer_is_a_turn_of_its_fragment_and_every_picture_answers():
    for made in dialogues():
        dialogue = made.dialogue
        for pair in made.qa_pairs:
            (said,) = pair.answer_turns
            assert said in dialogue.fragments[pair.fragment_id]
            assert dialogue.turns[said].text == pair.answer
            assert pair.answer_images == tuple(i.image_id for i in dialogue.turns[said].images)
            assert not (pair.answer_images and pair.question_turns)
        pictures = [pair for pair in made.qa_pairs if pair.answer_images]
        assert len(pictures) == len(made.pictures)
        # The question to a picture is right for it.
        for pair, picture in zip(pictures, made.pictures, strict=True):
            assert any(word in pair.question for word in lexicon("en").colors[picture.color])


def test_kinds_of_queries_have_their_shares():
    for split in SIDES:
        kinds = [q.kind for made in dialogues("en", split) for q in made.dialogue.queries]
        wanted = {"multi-modal": 0.3, "utterance-only": 0.3, "image-only": 0.2, "negative": 0.2}
        for kind, share in wanted.items():
            assert abs(kinds.count(kind) / len(kinds) - share) < 0.05
    for made in dialogues():
        for query in made.dialogue.queries:
            has = bool(query.relevance.utterance_ids), bool(query.relevance.image_ids)
            assert (
                has
                == {
                    QueryKind.MULTI_MODAL: (True, True),
                    QueryKind.UTTERANCE_ONLY: (True, False),
                    QueryKind.IMAGE_ONLY: (False, True),
                    QueryKind.NEGATIVE: (False, False),
                }[query.kind]
            )
            assert len(query.relevance.image_ids) <= 3


def test_half_of_the_negatives_use_words_of_their_dialogue():
    negatives = [
        (made, q) for made in dialogues() for q in made.dialogue.queries if q.kind == "negative"
    ]
    near = 0
    for made, query in negatives:
        here = set(chain(*fragment_concepts(made, "en")))
        here |= {("c", p.color) for p in made.pictures} | {("p", p.place) for p in made.pictures}
        near += {c for c in concepts(query.query, "en") if c[0] in "oapc"} <= here
    assert 0.35 < near / len(negatives) < 0.7


@pytest.mark.parametrize("split", SIDES)
def test_one_word_does_not_decide(split):
    """Rivals: topics that share a word, pictures of the same object and of the same color."""
    sharing = other_color = other_object = asked = 0
    for made in dialogues("en", split):
        named = fragment_concepts(made, "en")
        sharing += any({c for c in a & b if c[0] in "oap"} for a, b in combinations(named, 2))
        for query in made.dialogue.queries:
            for image_id in query.relevance.image_ids:
                asked += 1
                mine = made.pictures[image_id]
                rest = made.pictures
                other_color += any(p.object == mine.object and p.color != mine.color for p in rest)
                other_object += any(p.color == mine.color and p.object != mine.object for p in rest)
    assert sharing / len(dialogues("en", split)) > 0.75
    assert other_color / asked > 0.75
    assert other_object / asked > 0.25


def test_guessing_without_seeing_is_poor():
    """The best blind rule, all pictures wherever a query may want some, stays near F1 0.3."""
    tp = fp = fn = 0
    for made in dialogues("en", "heldout"):
        for query in made.dialogue.queries:
            asked = concepts(query.query, "en")
            wants = any(kind == "c" for kind, _ in asked) or PICTURE_WORDS.search(query.query)
            guess = set(range(len(made.pictures))) if wants else set()
            tp += len(guess & query.relevance.image_ids)
            fp += len(guess - query.relevance.image_ids)
            fn += len(query.relevance.image_ids - guess)
    assert 2 * tp / (2 * tp + fp + fn) < 0.36, 2 * tp / (2 * tp + fp + fn)


def test_a_share_of_dialogues_is_interleaved():
    switches = []
    for made in dialogues():
        owner = {i: f for f, part in enumerate(made.dialogue.fragments) for i in part}
        spoken = [owner[t.turn_id] for t in made.dialogue.turns if not t.images]
        changes = sum(a != b for a, b in pairwise(spoken))
        switches.append(changes / len(spoken))
    strong = sum(share > 0.3 for share in switches) / len(switches)
    assert 0.2 < strong < 0.65


def test_without_images_queries_are_about_turns():
    for made in generate(SynthConfig(dialogues=20, seed=1, images=False)):
        assert made.pictures == () and made.dialogue.images == ()
        kinds = {query.kind for query in made.dialogue.queries}
        assert kinds <= {QueryKind.UTTERANCE_ONLY, QueryKind.NEGATIVE}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"turns": (40, 12)}, "40:12"),
        ({"turns": (6, 12), "topics": (3, 4)}, "at least three turns"),
        ({"topics": (0, 2)}, "0:2"),
        ({"defects": 1.5}, "defects"),
        ({"split": "test"}, "split"),
    ],
)
def test_wrong_settings_are_named(values, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        SynthConfig.parse({"dialogues": 1, **values}, "test")
