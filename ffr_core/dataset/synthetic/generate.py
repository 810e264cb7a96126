"""Generate synthetic dialogues: topics, turns, pictures, gold fragments, queries and QA pairs."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from ffr_core.dataset.synthetic.config import SynthConfig, SyntheticDialogue
from ffr_core.dataset.synthetic.grammar import Grammar, grammar
from ffr_core.dataset.synthetic.pairs import write_pairs
from ffr_core.dataset.synthetic.pictures import PictureSpec, describe_picture
from ffr_core.dataset.synthetic.queries import QueryWriter, Scene
from ffr_core.dataset.synthetic.topics import MAX_PICTURES, Topic, choose_pictures, choose_topics
from ffr_core.dataset.synthetic.turns import Piece, TopicWriter, assign_speakers, interleave
from ffr_core.dataset.synthetic.words import Lexicon, lexicon
from ffr_core.types import Dialogue, Image, Query, Turn

_MIN_TEXT_TURNS = 3


def generate(config: SynthConfig) -> Iterator[SyntheticDialogue]:
    """Yield `config.dialogues` dialogues; the n-th depends on seed, side and n only."""
    for number in range(config.dialogues):
        yield generate_one(config, number)


def generate_one(config: SynthConfig, number: int) -> SyntheticDialogue:
    """The dialogue with a number."""
    rng = Random(f"{config.seed}|{config.split}|{number}")
    drawn = rng.choice(("en", "zh"))
    language = drawn if config.language == "mixed" else config.language
    templates, words = grammar(language, config.split), lexicon(language)

    num_turns = rng.randint(*config.turns)
    num_topics = _num_topics(config, num_turns, rng)
    num_pictures = _num_pictures(config, num_turns, num_topics, rng)
    topics = choose_topics(num_topics, config.split, rng)
    shared: list[tuple[Piece, ...]] = [
        (Piece(topic=position, text=rng.choice(templates.sharing), picture=picture),)
        for position, picture in choose_pictures(topics, num_pictures, config.split, rng)
    ]
    units = _write_topics(topics, num_turns - num_pictures, templates, words, rng)
    pieces = interleave(units, shared, rng)
    speakers = assign_speakers(pieces, words.names[config.split], rng)

    fragment_of_topic = {
        topic: i for i, topic in enumerate(dict.fromkeys(piece.topic for piece in pieces))
    }
    scene = Scene(topics=topics, pieces=pieces, fragment_of_topic=fragment_of_topic)
    writer = QueryWriter(scene, config.split, templates, words, rng)
    queries = writer.write(rng.randint(5, 8))
    dialogue_id = f"synth-{language}-{config.split}-{config.seed}-{number:06d}"
    return SyntheticDialogue(
        dialogue=_dialogue(dialogue_id, language, scene, speakers, queries, config.captions),
        pictures=tuple(piece.picture for piece in pieces if piece.picture is not None),
        qa_pairs=write_pairs(scene, templates, words, Random(f"{dialogue_id}|pairs")),
    )


def _num_topics(config: SynthConfig, num_turns: int, rng: Random) -> int:
    low, high = config.topics
    return max(low, min(rng.randint(low, high), num_turns // (_MIN_TEXT_TURNS + 1)))


def _num_pictures(config: SynthConfig, num_turns: int, num_topics: int, rng: Random) -> int:
    spare = num_turns - _MIN_TEXT_TURNS * num_topics
    high = min(MAX_PICTURES, spare, max(1, num_turns // 3))
    if not config.images or high < 1:
        return 0
    return rng.randint(min(4, high), high)


def _write_topics(
    topics: tuple[Topic, ...], num_turns: int, templates: Grammar, words: Lexicon, rng: Random
) -> list[list[tuple[Piece, ...]]]:
    """Share the turns out among the topics and write them."""
    shares = [_MIN_TEXT_TURNS] * len(topics)
    for _ in range(num_turns - sum(shares)):
        shares[rng.randrange(len(shares))] += 1
    return [
        TopicWriter(position, topic, templates, words, rng).write(share)
        for position, (topic, share) in enumerate(zip(topics, shares, strict=True))
    ]


def _dialogue(
    dialogue_id: str,
    language: str,
    scene: Scene,
    speakers: list[str],
    queries: tuple[Query, ...],
    captions: bool,
) -> Dialogue:
    fragments: list[list[int]] = [[] for _ in scene.fragment_of_topic]
    turns: list[Turn] = []
    num_images = 0
    for turn_id, (piece, speaker) in enumerate(zip(scene.pieces, speakers, strict=True)):
        fragments[scene.fragment_of_topic[piece.topic]].append(turn_id)
        images: tuple[Image, ...] = ()
        if piece.picture is not None:
            images = (_image(dialogue_id, num_images, piece.picture, language, captions),)
            num_images += 1
        turns.append(Turn(turn_id=turn_id, speaker=speaker, text=piece.text, images=images))
    return Dialogue(
        dialogue_id=dialogue_id,
        turns=tuple(turns),
        language=language,
        fragments=tuple(tuple(part) for part in fragments),
        queries=queries,
    )


def _image(
    dialogue_id: str, image_id: int, picture: PictureSpec, language: str, captions: bool
) -> Image:
    return Image(
        image_id=image_id,
        uri=f"images/{dialogue_id}-{image_id}.png",
        caption=describe_picture(picture, language, picture.style // 2) if captions else None,
    )
