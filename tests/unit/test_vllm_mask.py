import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ffr_core.engine.grammar import RegexGrammar, token_texts
from ffr_core.engine.loading import load_processor
from ffr_core.errors import InputError
from ffr_core.localization.f2rvlm import selection_grammar
from jobs.tiny.architecture import write_random_model

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vllm is not installed (extra cpu or gpu)"
)
VOCABULARY = 640


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny")
    write_random_model(out)
    return out


def new_mask(folder: Path) -> Any:
    from ffr_core.engine.vllm_mask import OutputMask

    model = SimpleNamespace(tokenizer=str(folder), get_vocab_size=lambda: VOCABULARY)
    return OutputMask(SimpleNamespace(model_config=model), torch.device("cpu"), False)


def added(row: int, drawn: list[int], banned: list[int], grammar: str | None) -> Any:
    params = SimpleNamespace(extra_args={"ffrs_mask": {"banned": banned, "grammar": grammar}})
    return (row, params, None, drawn)


def update(**changes: Any) -> Any:
    return SimpleNamespace(**{"removed": [], "added": [], "moved": [], **changes})


def allowed(mask: Any, rows: int) -> list[set[int]]:
    logits = mask.apply(torch.zeros(rows, VOCABULARY))
    return [{int(i) for i in (row > float("-inf")).nonzero()} for row in logits]


def test_grammar_allows_what_the_regular_expression_allows(folder: Path) -> None:
    """xgrammar inside vLLM against the plain matcher of the transformers engine."""
    tokenizer = load_processor(folder).tokenizer
    pattern = selection_grammar(12, 2)
    plain = RegexGrammar(pattern, token_texts(tokenizer), frozenset({tokenizer.eos_token_id}))
    mask, drawn, text = new_mask(folder), [], ""
    mask.update_state(update(added=[added(0, drawn, [], pattern)]))
    answer = "<|utt_ids_start|>[1, 10, 11]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>"
    for token in [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]:
        [now] = allowed(mask, 1)
        assert now == {i for i in range(VOCABULARY) if plain.allows(text, i)}
        assert token in now
        drawn.append(token)
        text += tokenizer.decode([token])
        mask.update_state(None)


def test_requests_keep_their_bans_as_they_move(folder: Path) -> None:
    from vllm.v1.sample.logits_processor.interface import MoveDirectionality

    mask, everything = new_mask(folder), set(range(VOCABULARY))
    mask.update_state(update(added=[added(0, [], [3], None), added(1, [], [4, 5], None)]))
    assert allowed(mask, 3) == [everything - {3}, everything - {4, 5}, everything]
    mask.update_state(update(removed=[0], moved=[(1, 0, MoveDirectionality.UNIDIRECTIONAL)]))
    assert allowed(mask, 2) == [everything - {4, 5}, everything]
    mask.update_state(update(added=[(0, SimpleNamespace(extra_args=None), None, [])]))
    assert allowed(mask, 1) == [everything]


def test_banned_mass_is_shared_out() -> None:
    from math import exp, log

    from ffr_core.engine.vllm import check_grammar, unbanned_logprob

    logprobs = {7: log(0.5), 3: log(0.1), 4: log(0.1)}
    assert exp(unbanned_logprob(7, logprobs, [3, 4])) == pytest.approx(0.5 / 0.8)
    check_grammar(selection_grammar(40, 16))
    with pytest.raises(InputError, match="regular expression"):
        check_grammar("(unfinished")
