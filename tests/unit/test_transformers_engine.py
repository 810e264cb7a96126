import copy
import json
from pathlib import Path

import pytest
import torch
from PIL import Image as Pictures

from ffr_core.engine.grammar import RegexGrammar, token_texts
from ffr_core.engine.inputs import (
    PromptEncoder,
    banned_token_ids,
    check_escaping,
    collate,
    marker_token_ids,
)
from ffr_core.engine.loading import load_model, load_processor, model_fingerprint
from ffr_core.engine.probe import adapter_strength
from ffr_core.engine.sampling import draw, unbanned_logprobs
from ffr_core.engine.transformers import TransformersEngine, rope_positions
from ffr_core.errors import ConfigError, InputError, NotFoundError
from ffr_core.generation import GenerationRequest, Message, Sampling
from ffr_core.markup import render_selection
from ffr_core.prompts import Prompts
from ffr_core.types import Dialogue, Image, Selection, Turn
from jobs.tiny.architecture import write_random_model

COMPACT = Prompts.load("compact")


def picture(uri: str) -> Pictures.Image:
    if uri == "missing.png":
        raise NotFoundError("image 'missing.png' does not exist; check the path")
    size = {"wide.png": (500, 300), "tall.png": (40, 200)}.get(uri, (64, 64))
    return Pictures.linear_gradient("L").resize(size).convert("RGB")


def dialogue(*texts: str, images: dict[int, str] | None = None) -> Dialogue:
    turns, count = [], 0
    for number, text in enumerate(texts):
        uri = (images or {}).get(number)
        own = (Image(image_id=count, uri=uri),) if uri else ()
        count += len(own)
        turns.append(Turn(turn_id=number, speaker="Ana", text=text, images=own))
    return Dialogue(dialogue_id="d", turns=tuple(turns), language="en")


TALK = dialogue("look at the red bicycle", "on the beach", images={0: "wide.png", 1: "a.png"})


def request(name: str, messages: tuple[Message, ...], **sampling: object) -> GenerationRequest:
    grammar, adapter = sampling.pop("grammar", None), sampling.pop("adapter", None)
    return GenerationRequest(
        request_id=name,
        messages=messages,
        sampling=Sampling(**{"max_new_tokens": 12, **sampling}),
        grammar=grammar,
        adapter=adapter,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny")
    write_random_model(out)
    return out


@pytest.fixture(scope="module")
def encoder(folder: Path) -> PromptEncoder:
    return PromptEncoder(load_processor(folder), picture)


@pytest.fixture(scope="module")
def engine(folder: Path, encoder: PromptEncoder) -> TransformersEngine:
    return TransformersEngine(load_model(folder), encoder, max_model_len=512)


def write_adapter(folder: Path, out: Path, scale: float, seed: int = 1) -> str:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=r".*language_model.*\.(q|v|up)_proj")
    model = get_peft_model(load_model(folder), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=scale)
    model.save_pretrained(out)
    return str(out)


def test_inputs_equal_those_of_the_processor(encoder: PromptEncoder) -> None:
    messages = COMPACT.localize(TALK, "red bicycle")
    ours = encoder.encode(messages)
    text = encoder.render(messages).text
    pictures = [encoder.picture(image) for image in TALK.images]
    theirs = encoder.processor(text=[text], images=pictures, return_tensors="pt")
    assert ours.input_ids == theirs["input_ids"][0].tolist()
    assert ours.mm_token_type_ids == theirs["mm_token_type_ids"][0].tolist()
    assert torch.equal(ours.pixel_values, theirs["pixel_values"])
    assert ours.image_grid_thw.tolist() == theirs["image_grid_thw"].tolist() == [[1, 4, 4]] * 2


def test_answer_follows_the_prompt_and_ends_the_turn(encoder: PromptEncoder) -> None:
    answer = render_selection(Selection(utterance_ids=frozenset({0, 1})))
    messages = COMPACT.localize(TALK, "red bicycle")
    with_answer, bare = encoder.encode(messages, answer), encoder.encode(messages)
    tail = with_answer.input_ids[with_answer.num_prompt_tokens :]
    assert with_answer.input_ids[: with_answer.num_prompt_tokens] == bare.input_ids
    assert encoder.tokenizer.decode(tail) == f"{answer}<|im_end|>"
    with pytest.raises(InputError, match="vision token"):
        encoder.encode(messages, "<|image_pad|>")


def test_typed_control_tokens_stay_text(encoder: PromptEncoder) -> None:
    control = {t.content for t in encoder.tokenizer.added_tokens_decoder.values()}
    quiet = encoder.render(COMPACT.localize(dialogue("hi"), "hello")).input_ids
    loud = encoder.render(COMPACT.localize(dialogue("".join(control)), "".join(control))).input_ids
    special = set(encoder.tokenizer.all_special_ids)
    assert [i for i in quiet if i in special] == [i for i in loud if i in special]


def test_a_tokenizer_with_other_control_tokens_is_refused(encoder: PromptEncoder) -> None:
    tokenizer = copy.deepcopy(encoder.tokenizer)
    check_escaping(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[INST]"]})
    with pytest.raises(ConfigError, match=r"\[INST\]"):
        check_escaping(tokenizer)


def test_images_beyond_the_limit_and_without_bytes_are_counted(folder: Path) -> None:
    talk = dialogue("a", "b", "c", images={0: "a.png", 1: "wide.png", 2: "tall.png"})
    lost = Turn(turn_id=3, speaker="B", text="", images=(Image(image_id=3, uri=None),))
    talk = Dialogue(dialogue_id="d", turns=(*talk.turns, lost))
    encoder = PromptEncoder(load_processor(folder), picture, max_images=2)
    prompt = encoder.encode(COMPACT.segment(talk, "en"))
    assert prompt.images_left_out == 2 and len(prompt.image_grid_thw) == 2
    assert encoder.counts == {"prompts": 1, "images": 2, "images_left_out": 2}
    text = encoder.tokenizer.decode(prompt.input_ids)
    assert all(f"<|img_id_start|>{i}<|img_id_end|>" in text for i in range(4))


def test_pixel_budget_is_shared(folder: Path) -> None:
    processor = load_processor(folder)
    processor.image_processor.size = {"shortest_edge": 56 * 56, "longest_edge": 560 * 560}
    encoder = PromptEncoder(processor, picture, max_total_pixels=2 * 112 * 112)
    one = encoder.encode(COMPACT.segment(dialogue("a", images={0: "wide.png"}), "en"))
    two = encoder.encode(COMPACT.segment(TALK, "en"))
    assert one.image_grid_thw.prod() <= 2 * 64
    assert all(grid.prod() <= 64 for grid in two.image_grid_thw)
    assert two.image_grid_thw.tolist()[1] == [1, 4, 4]  # small pictures are not blown up


def test_padding_changes_no_logits(engine: TransformersEngine, encoder: PromptEncoder) -> None:
    prompts = [
        encoder.encode(COMPACT.localize(TALK, "red bicycle")),
        encoder.encode(COMPACT.localize(dialogue("hi"), "x")),
    ]
    alone = []
    with torch.no_grad():
        for prompt in prompts:
            alone.append(engine.model(**collate([prompt], 0)).logits[0, -1])
        for side in ("left", "right"):
            batch = collate(prompts, 0, side)
            logits = engine.model(**batch, position_ids=rope_positions(engine.model, batch)).logits
            for row, prompt in enumerate(prompts):
                last = -1 if side == "left" else len(prompt.input_ids) - 1
                torch.testing.assert_close(logits[row, last], alone[row], rtol=1e-4, atol=1e-5)


def test_greedy_equals_the_models_own_generate(
    engine: TransformersEngine, encoder: PromptEncoder
) -> None:
    messages = COMPACT.localize(TALK, "red bicycle")
    [ours] = engine.generate([request("a", messages)])
    prompt = encoder.encode(messages)
    theirs = engine.model.generate(
        **collate([prompt], 0),
        max_new_tokens=12,
        do_sample=False,
        suppress_tokens=list(engine.banned_ids),
    )[0, prompt.num_prompt_tokens :]
    assert list(ours.token_ids) == theirs.tolist()
    with torch.no_grad():
        logits = engine.model(**collate([prompt], 0)).logits[:, -1]
    banned = torch.zeros_like(logits, dtype=torch.bool)
    banned[:, list(engine.banned_ids)] = True
    expected = unbanned_logprobs(logits, banned)[0, ours.token_ids[0]]
    assert ours.logprobs[0] == pytest.approx(float(expected), abs=1e-5)


def test_seeded_samples_do_not_depend_on_the_batch(engine: TransformersEngine) -> None:
    messages = COMPACT.localize(TALK, "red bicycle")
    hot = {"sampling_temperature": 1.0, "top_p": 0.9}
    group = [request(f"g{i}", messages, seed=i, **hot) for i in range(4)]
    other = [request("o", COMPACT.localize(dialogue("hi"), "x"), seed=1, **hot)]
    together = engine.generate([*group, *other])
    alone = [engine.generate([one])[0] for one in [*group, *other]]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    assert len({c.token_ids for c in together[:4]}) == 4
    small = TransformersEngine(engine.model, engine.encoder, max_batch_tokens=1)
    assert [c.token_ids for c in small.generate([*group, *other])] == [
        c.token_ids for c in together
    ]


def test_banned_tokens_are_never_drawn(engine: TransformersEngine) -> None:
    messages = COMPACT.localize(TALK, "red bicycle")
    first = engine.generate([request("a", messages)])[0].token_ids[0]
    banned = engine.generate([request("a", messages, banned_token_ids=(first,))])[0]
    assert first not in banned.token_ids
    assert banned_token_ids(engine.encoder.tokenizer) == (3, 4, 5, 6)
    hot = [
        request(str(i), messages, seed=i, sampling_temperature=5.0, max_new_tokens=40)
        for i in range(20)
    ]
    assert not {3, 4, 5, 6} & {t for c in engine.generate(hot) for t in c.token_ids}


def test_grammar_rules_the_answer_but_not_its_logprobs(engine: TransformersEngine) -> None:
    messages = COMPACT.localize(TALK, "red bicycle")
    pattern = r"<\|utt_ids_start\|>\[(0|1)?\]<\|utt_ids_end\|>"
    ruled = engine.generate(
        [
            request("greedy", messages, grammar=pattern),
            request("hot", messages, grammar=pattern, sampling_temperature=1.0, seed=3),
        ]
    )
    for completion in ruled:
        assert (
            completion.text.startswith("<|utt_ids_start|>[") and completion.finish_reason == "stop"
        )
    assert ruled[0].logprobs[0] < -2  # an untrained model does not prefer the marker
    [broken] = engine.generate([request("bad", messages, grammar="(")])
    assert broken.finish_reason == "error" and "regular expression" in str(broken.error)


def test_errors_stay_with_their_request(engine: TransformersEngine) -> None:
    good = request("good", COMPACT.localize(TALK, "x"))
    lost = request("lost", COMPACT.localize(dialogue("a", images={0: "missing.png"}), "x"))
    long = request("long", COMPACT.localize(dialogue("word " * 600), "x"))
    answers = engine.generate([lost, good, long])
    assert [a.request_id for a in answers] == ["lost", "good", "long"]
    assert [a.finish_reason == "error" for a in answers] == [True, False, True]
    assert "missing.png" in str(answers[0].error) and "512" in str(answers[2].error)
    with pytest.raises(NotFoundError, match="nobody"):
        engine.generate([request("a", good.messages, adapter="nobody")])


def test_adapters_swap_without_a_trace(folder: Path, tmp_path: Path) -> None:
    engine = TransformersEngine.open(folder, picture)
    before = {k: v.clone() for k, v in engine.model.state_dict().items()}
    paths = [write_adapter(folder, tmp_path / str(i), 0.5, seed=i) for i in range(2)]
    messages = COMPACT.localize(TALK, "red bicycle")
    [bare] = engine.generate([request("bare", messages)])
    answers: dict[int, set[tuple[int, ...]]] = {0: set(), 1: set()}
    for version in range(100):
        engine.load_adapter(f"v{version}", paths[version % 2])
        if version:
            engine.unload_adapter(f"v{version - 1}")
        if version < 6:
            [answer] = engine.generate([request("a", messages, adapter=f"v{version}")])
            answers[version % 2].add(answer.token_ids)
    assert all(len(found) == 1 for found in answers.values())
    assert len(answers[0] | answers[1] | {bare.token_ids}) == 3
    assert engine.generate([request("bare", messages)])[0] == bare
    engine.unload_adapter("v99")
    after = engine.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert engine.generate([request("bare", messages)])[0] == bare


def test_an_adapter_that_does_nothing_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    engine = TransformersEngine.open(folder, picture)
    path = Path(write_adapter(folder, tmp_path / "a", 0.5))
    assert adapter_strength(path) > 0.05
    weights = load_file(path / "adapter_model.safetensors")
    save_file({f"x.{k}": v for k, v in weights.items()}, path / "adapter_model.safetensors")
    with pytest.warns(UserWarning), pytest.raises(InputError, match="does not change"):
        engine.load_adapter("a", str(path))
    with pytest.raises(NotFoundError, match="PEFT"):
        engine.load_adapter("b", str(tmp_path))
    engine.load_adapter("zero", write_adapter(folder, tmp_path / "zero", 0.0))
    with pytest.raises(InputError, match="in use"):
        engine.load_adapter("zero", str(path))


def test_an_adapter_that_does_not_fit_leaves_the_model_as_it_was(
    folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    engine = TransformersEngine.open(folder, picture)
    good = write_adapter(folder, tmp_path / "good", 0.5)
    misfit = Path(write_adapter(folder, tmp_path / "misfit", 0.5, seed=1))
    weights = load_file(misfit / "adapter_model.safetensors")
    last = max(key for key in weights if "lora_A" in key)
    weights[last] = weights[last][:-1].contiguous()
    save_file(weights, misfit / "adapter_model.safetensors")
    messages = COMPACT.localize(TALK, "red bicycle")
    [bare] = engine.generate([request("bare", messages)])
    with pytest.raises(InputError, match="does not fit"):
        engine.load_adapter("misfit", str(misfit))
    assert engine.generate([request("bare", messages)]) == [bare]
    engine.load_adapter("good", good)
    [adapted] = engine.generate([request("a", messages, adapter="good")])
    with pytest.raises(InputError, match="does not fit"):
        engine.load_adapter("misfit", str(misfit))
    assert engine.generate([request("a", messages, adapter="good")]) == [adapted]
    assert engine.generate([request("bare", messages)]) == [bare]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter_config.json", b"{"),
        ("adapter_config.json", b"{}"),
        ("adapter_config.json", b"[]"),
        ("adapter_config.json", b'{"r": 0, "lora_alpha": 1}'),
        ("adapter_model.safetensors", b"broken"),
    ],
)
def test_a_broken_adapter_folder_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    from safetensors.torch import save_file

    (tmp_path / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 4}')
    weights = {"m.lora_A": torch.ones(2, 2), "m.lora_B": torch.ones(2, 2)}
    save_file(weights, tmp_path / "adapter_model.safetensors")
    assert adapter_strength(tmp_path) == pytest.approx(2 * 2 * 2)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=str(tmp_path)):
        adapter_strength(tmp_path)


def test_draw_inverts_the_cumulative_distribution() -> None:
    logprobs = torch.tensor([[0.2, 0.5, 0.3]]).log().expand(6, 3)
    tokens = draw(
        logprobs,
        [1.0] * 5 + [0.0],
        [1.0] * 3 + [0.6, 0.6, 1.0],
        [0.49, 0.79, 0.81, 0.62, 0.63, 0.9],
    )
    assert tokens.tolist() == [1, 2, 0, 1, 2, 1]


def test_banned_mass_is_shared_out() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    banned = torch.tensor([[False, True, False]])
    shares = unbanned_logprobs(logits, banned).exp()
    torch.testing.assert_close(shares, torch.tensor([[5 / 7, 0.0, 2 / 7]]))


def test_grammar_by_hand() -> None:
    grammar = RegexGrammar(
        r"\[(0|12)\]", ["[", "0", "1", "12", "]", "", "[0]", "x"], frozenset({5})
    )
    allowed = {
        text: [i for i in range(8) if grammar.allows(text, i)] for text in ("", "[", "[1", "[0]")
    }
    assert allowed == {"": [0, 6], "[": [1, 2, 3], "[1": [], "[0]": [5]}


def test_markers_and_numbers_of_the_tiny_tokenizer(encoder: PromptEncoder) -> None:
    assert all(len(ids) == 1 for ids in marker_token_ids(encoder.tokenizer).values())
    texts = token_texts(encoder.tokenizer)
    assert texts[13] == "<|utt_ids_start|>" and len(texts) == len(encoder.tokenizer)


def test_fingerprint_sees_the_middle_of_large_weights(tmp_path: Path) -> None:
    found = set()
    for place in (None, 4_000_000):
        data = bytearray(8_000_000)
        if place is not None:
            data[place : place + 200_000] = b"x" * 200_000
        (tmp_path / "model.safetensors").write_bytes(data)
        found.add(model_fingerprint(tmp_path))
    assert len(found) == 2


def test_fingerprint_follows_the_weights(folder: Path, tmp_path: Path) -> None:
    write_random_model(tmp_path / "other", seed=1)
    assert model_fingerprint(folder) != model_fingerprint(tmp_path / "other")
    assert model_fingerprint("Qwen/Qwen2-VL-7B-Instruct") == "Qwen/Qwen2-VL-7B-Instruct"
    with pytest.raises(NotFoundError, match="no model"):
        load_model(tmp_path / "nothing")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="Qwen2-VL family"):
        load_model(tmp_path / "bert")
