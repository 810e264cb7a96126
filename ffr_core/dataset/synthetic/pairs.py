"""Question-answer pairs of a synthetic dialogue: what is asked in it, and what could be asked."""

from __future__ import annotations

from random import Random

from ffr_core.dataset.synthetic.config import QaPair
from ffr_core.dataset.synthetic.grammar import Grammar, phrase
from ffr_core.dataset.synthetic.queries import Scene, picture_of, write_query
from ffr_core.dataset.synthetic.turns import subject_of
from ffr_core.dataset.synthetic.words import Lexicon


def write_pairs(
    scene: Scene, templates: Grammar, words: Lexicon, rng: Random
) -> tuple[QaPair, ...]:
    """The pairs of all fragments, in the order of their answers.

    A question and its answer in the dialogue; a made question to each other turn that gives a value
    (a price, a day, ...), and one to each picture, answered by the turn that carries it.
    """
    pairs: list[QaPair] = []
    num_pictures = 0
    asked_at: int | None = None
    for turn_id, piece in enumerate(scene.pieces):
        following = scene.pieces[turn_id + 1] if turn_id + 1 < len(scene.pieces) else None
        is_question = piece.aspect and following and following.answers and following.aspect
        question: str | None = None
        images: tuple[int, ...] = ()
        if piece.picture is not None:
            shown = piece.picture
            meaning = picture_of("co", shown.object, shown.color, shown.place)
            question, images = write_query(meaning, templates, words, rng), (num_pictures,)
            num_pictures += 1
        elif asked_at is not None:
            question = scene.pieces[asked_at].text
        elif piece.aspect is not None and not is_question:
            subject = subject_of(scene.topics[piece.topic], piece.slots)
            frame = rng.choice(templates.aspects[piece.aspect].questions)
            question = frame.format(s=phrase(subject, templates, words, rng))
        if question is not None:
            pairs.append(
                QaPair(
                    question=question,
                    answer=piece.text,
                    question_turns=() if asked_at is None else (asked_at,),
                    answer_turns=(turn_id,),
                    answer_images=images,
                    fragment_id=scene.fragment_of_topic[piece.topic],
                )
            )
        asked_at = turn_id if is_question else None
    return tuple(pairs)
