import asyncio
import json
import math
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ffr_core.engine.background import BackgroundEngine
from ffr_core.engine.scripted import ScriptedEngine, prompt_text
from ffr_core.errors import BusyError, ConfigError, InputError
from ffr_core.generation import Completion, GenerationRequest
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.localization.calibration import (
    Calibration,
    Calibrator,
    calibration_error,
    fit_calibration,
    fit_isotonic,
    fit_platt,
    reliability,
)
from ffr_core.localization.confidence import raw_confidence
from ffr_core.localization.f2rvlm import (
    AsyncF2rvlmLocalizer,
    F2rvlmLocalizer,
    F2rvlmReader,
    selection_grammar,
)
from ffr_core.markup import render_selection
from ffr_core.prompts import Prompts
from ffr_core.types import Dialogue, Image, Localization, Selection, Turn

COMPACT = Prompts.load("compact")
READER = F2rvlmReader(prompts=COMPACT)


def dialogue(num_turns: int, hits: set[int], pictures: set[int] = frozenset()) -> Dialogue:
    turns, count = [], 0
    for i in range(num_turns):
        images = (Image(image_id=count, uri=None),) if i in pictures else ()
        count += len(images)
        text = "the dog" if i in hits else "other"
        turns.append(Turn(turn_id=i, speaker="A", text=text, images=images))
    return Dialogue(dialogue_id="d", turns=tuple(turns), language="en")


def perfect(request: GenerationRequest) -> str:
    """Selects turns that say "the dog", and their pictures, in the ids of the prompt."""
    lines = [line for line in prompt_text(request.messages).split("\n") if "the dog" in line]
    ids = [re.findall(rf"{kind}_id_start\|>(\d+)<", "".join(lines)) for kind in ("utt", "img")]
    turns, images = (frozenset(map(int, found)) for found in ids)
    return render_selection(Selection(utterance_ids=turns, image_ids=images))


def test_ids_are_those_of_the_dialogue() -> None:
    talk = dialogue(20, {3, 7, 11}, pictures={1, 3, 7, 8, 11})
    localizer = F2rvlmLocalizer(ScriptedEngine(perfect), READER)
    whole = localizer.localize("dog", talk).selection
    assert whole == Selection(utterance_ids=frozenset({3, 7, 11}), image_ids=frozenset({1, 2, 4}))
    part = localizer.localize("dog", talk, [8, 7, 11, 12]).selection
    assert part == Selection(utterance_ids=frozenset({7, 11}), image_ids=frozenset({2, 4}))
    assert not localizer.localize("dog", talk, [0, 1]).selection
    assert localizer.localize("dog", talk, []).relevance == 0
    many = localizer.localize_many([("dog", talk, None), ("dog", talk, [8, 7, 11, 12])])
    assert [found.selection for found in many] == [whole, part]


@given(st.sets(st.integers(0, 99)))
def test_windows_find_what_the_whole_holds(hits: set[int]) -> None:
    engine = ScriptedEngine(perfect)
    found = F2rvlmLocalizer(engine, READER).localize("dog", dialogue(100, hits))
    assert set(found.utterances) == hits
    assert len(engine.requests) == 5
    assert found.relevance == (1.0 if hits else 0.0)


def test_web_references_are_known_by_their_marker_alone() -> None:
    """They are never fetched, and a dialogue that holds one can be read all the same."""
    picture = Image(image_id=0, uri="https://example.com/dog.jpg")
    turn = Turn(turn_id=0, speaker="A", text="the dog", images=(picture,))
    engine = ScriptedEngine(perfect, images=ImageReader(limits=ImageLimits()).open)
    talk = Dialogue(dialogue_id="d", turns=(turn,))
    found = F2rvlmLocalizer(engine, READER).localize("dog", talk)
    assert (set(found.utterances), set(found.images)) == ({0}, {0})


def test_a_long_answer_has_room() -> None:
    hits = set(range(300))
    reader = F2rvlmReader(prompts=COMPACT, window_turns=300)
    found = F2rvlmLocalizer(ScriptedEngine(perfect), reader).localize("dog", dialogue(300, hits))
    assert set(found.utterances) == hits


def test_async_and_plain_agree() -> None:
    talk = dialogue(60, {3, 40, 59}, pictures={40})
    plain = F2rvlmLocalizer(ScriptedEngine(perfect), READER).localize("dog", talk)

    async def both() -> list[object]:
        localizer = AsyncF2rvlmLocalizer(BackgroundEngine(ScriptedEngine(perfect)), READER)
        return list(await asyncio.gather(*(localizer.localize("dog", talk) for _ in range(2))))

    assert asyncio.run(both()) == [plain, plain]


def test_broken_answers_are_counted_and_errors_raised() -> None:
    talk = dialogue(3, {1})
    reader = F2rvlmReader(prompts=COMPACT, grammar=False)
    broken = F2rvlmLocalizer(ScriptedEngine({"": "I think turn 1"}), reader)
    found = broken.localize("dog", talk)
    assert not found.selection and found.relevance == 0
    strange = render_selection(Selection(utterance_ids=frozenset({1, 9})))
    found = F2rvlmLocalizer(ScriptedEngine({"": strange}), reader).localize("dog", talk)
    assert set(found.utterances) == {1} and found.relevance == 1
    alien = render_selection(Selection(utterance_ids=frozenset({9})))
    assert F2rvlmLocalizer(ScriptedEngine({"": alien}), reader).localize("d", talk).relevance == 0
    assert dict(reader.counts) == {"windows": 3, "malformed": 1, "unknown_ids": 2}
    with pytest.raises(InputError, match="'d' cannot be read"):
        F2rvlmLocalizer(ScriptedEngine({"x": ""}), reader).localize("dog", dialogue(1, set()))


def test_an_engine_that_stays_away_is_busy() -> None:
    talk = dialogue(3, set())
    reader = F2rvlmReader(prompts=COMPACT)
    away = Completion(request_id="0", text="", finish_reason="error", error="503", unanswered=True)
    with pytest.raises(BusyError, match="'d' cannot be read now: 503"):
        reader.read(reader.parts("dog", talk), [away])


@given(st.sets(st.integers(0, 6)), st.sets(st.integers(0, 2)))
def test_every_selection_fits_its_grammar(turns: set[int], images: set[int]) -> None:
    text = render_selection(Selection(utterance_ids=frozenset(turns), image_ids=frozenset(images)))
    assert re.fullmatch(selection_grammar(7, 3), text)
    if turns:
        assert not re.fullmatch(selection_grammar(max(turns), 3), text)
    if images:
        assert not re.fullmatch(selection_grammar(7, 0), text)


def test_the_grammar_ends() -> None:
    start = "<|utt_ids_start|>[0, 1, 1"
    assert re.fullmatch(
        selection_grammar(3, 0), start + "]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>"
    )
    assert not re.match(selection_grammar(3, 0)[: -len(r"<\|img_ids_end\|>")], start + ", 1")


def spelled(*tokens: tuple[str, float]) -> Completion:
    texts = tuple(text for text, _ in tokens)
    return Completion(
        request_id="x",
        text="".join(texts).removesuffix("<|im_end|>"),
        token_ids=tuple(range(len(texts))),
        token_texts=texts,
        logprobs=tuple(math.log(p) for _, p in tokens),
    )


START, MIDDLE, END = "<|utt_ids_start|>[", "]<|utt_ids_end|>;<|img_ids_start|>[", "]<|img_ids_end|>"


def test_raw_confidence_by_hand() -> None:
    both = spelled(
        (START, 0.1),
        ("2", 0.9),
        (", ", 0.2),
        ("1", 0.5),
        ("7", 0.8),
        (MIDDLE, 0.3),
        ("4", 0.6),
        (END, 0.9),
        ("<|im_end|>", 1.0),
    )
    raw = raw_confidence(both)
    assert raw.utterances == pytest.approx({2: 0.9, 17: 0.4})
    assert raw.images == pytest.approx({4: 0.6}) and raw.relevance == pytest.approx(0.9)
    none = spelled((START, 0.5), ("]", 0.7), (MIDDLE[1:], 0.9), ("]", 0.8), (END[1:], 0.9))
    assert raw_confidence(none).relevance == pytest.approx(1 - 0.7 * 0.8)


def test_raw_confidence_without_logprobs() -> None:
    text = render_selection(Selection(utterance_ids=frozenset({2})))
    assert raw_confidence(Completion(request_id="x", text=text)).utterances == {2: 1.0}
    empty = raw_confidence(Completion(request_id="x", text=render_selection(Selection())))
    assert empty.relevance == 0
    odd = Completion(request_id="x", text=text, logprobs=(-1.0,), token_texts=("other",))
    assert raw_confidence(odd).utterances == {2: 1.0}


def test_calibration_acts_on_each_kind(tmp_path) -> None:
    half = Calibrator(scores=(0.0, 1.0), probabilities=(0.0, 0.5))
    calibration = Calibration(
        utterance=half, relevance=Calibrator(scores=(0.5,), probabilities=(0.3,))
    )
    calibration.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == calibration
    reader = F2rvlmReader(prompts=COMPACT, calibration=calibration)
    talk = dialogue(3, {1}, pictures={1})
    found = F2rvlmLocalizer(ScriptedEngine(perfect), reader).localize("dog", talk)
    assert (found.utterances, found.images, found.relevance) == ({1: 0.5}, {0: 1.0}, 0.3)
    (tmp_path / "bad.json").write_text('{"utterance": {"scores": [1, 0], "probabilities": [0, 1]}}')
    with pytest.raises(ConfigError, match="ascending"):
        Calibration.load(tmp_path / "bad.json")


@pytest.mark.parametrize(
    "knots",
    [([], []), ([0, 1], [0]), ([1, 0], [0, 1]), ([0, 1], [0, 1.1]), ([0, math.nan], [0, 1])],
)
def test_knots_that_give_no_probability_are_refused(knots, tmp_path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"relevance": {"scores": knots[0], "probabilities": knots[1]}}))
    with pytest.raises(ConfigError, match="calibration knots"):
        Calibration.load(path)


def test_isotonic_by_hand() -> None:
    fitted = fit_isotonic([0.1, 0.2, 0.3, 0.4], [False, True, False, True])
    assert fitted.scores == pytest.approx((0.1, 0.25, 0.4))
    assert fitted.probabilities == pytest.approx((0.0, 0.5, 1.0))
    with pytest.raises(InputError, match="cannot be"):
        fit_isotonic([0.1], [True])


@example([(0.7924866874217351, label) for label in (False, False, False, True)])
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60))
def test_fits_rise_and_isotonic_equals_a_known_one(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = [s for s, _ in pairs], [y for _, y in pairs]
    if len(set(labels)) < 2:
        return
    for fit in (fit_isotonic, fit_platt):
        values = [fit(scores, labels)(x) for x in np.linspace(0, 1, 21)]
        assert all(0 <= a <= b + 1e-12 <= 1 + 1e-9 for a, b in pairwise(values))


def test_fits_undo_a_known_distortion() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=20_000)
    labels = (rng.uniform(size=truth.size) < truth).tolist()
    sure = truth**3 / (truth**3 + (1 - truth) ** 3)  # log odds three times too far out
    raw = calibration_error(reliability(sure.tolist(), labels))
    for fit in (fit_isotonic, fit_platt):
        fitted = fit(sure.tolist(), labels)
        better = calibration_error(reliability([fitted(s) for s in sure], labels))
        assert better < 0.03 < 0.1 < raw


def test_reliability_by_hand() -> None:
    bins = reliability([0.05, 0.15, 0.95, 1.0], [False, True, True, False])
    assert [(b.count, b.share_correct) for b in bins] == [(1, 0.0), (1, 1.0), (2, 0.5)]
    assert calibration_error(bins) == pytest.approx((0.05 + 0.85 + 2 * 0.475) / 4)


def test_calibration_is_fitted_per_kind() -> None:
    gold = Selection(utterance_ids=frozenset({0}), image_ids=frozenset({0}))
    sure = Localization(utterances={0: 0.9, 1: 0.3}, images={0: 0.4}, relevance=0.9)
    nothing = Localization(utterances={2: 0.5}, images={}, relevance=0.2)
    fitted = fit_calibration([(sure, gold), (nothing, Selection())])
    assert fitted.utterance.scores == pytest.approx((0.4, 0.9))
    assert fitted.utterance.probabilities == (0.0, 1.0)
    assert fitted.image == Calibrator()  # every selected image was right: nothing to learn from
    assert fitted.relevance.scores == pytest.approx((0.2, 0.9))
