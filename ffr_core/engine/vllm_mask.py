"""Token bans and output grammars inside vLLM, applied after log-probabilities are taken.

vLLM's own structured output masks logits before it takes log-probabilities, which hides how sure
the model was. This logits processor runs behind that point: log-probabilities stay those of the
model. It is loaded by name in vLLM's worker; a request passes `extra_args` with `MASK_KEY`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from ffr_core.engine import vllm_owner

if TYPE_CHECKING:
    from torch import Tensor

MASK_KEY = "ffrs_mask"
"""In `extra_args`: {"banned": [ids], "grammar": pattern or None}."""


@dataclass(slots=True, eq=False)
class _Masked:
    """One request in the batch."""

    banned_ids: list[int]
    matcher: Any
    """An xgrammar matcher; None without a grammar."""
    output_ids: list[int]
    """vLLM's own growing list of drawn tokens."""
    num_read: int = 0


class OutputMask(LogitsProcessor):  # type: ignore[misc, unused-ignore]
    """Sets banned tokens and what a grammar does not allow to -inf."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        vllm_owner.watch()
        self._model_config, self._device = vllm_config.model_config, device
        if str(device).startswith("cpu"):
            from ffr_core.engine import vllm_lora

            vllm_lora.install()
        self._requests: dict[int, _Masked] = {}
        self._compiler: Any = None
        self._spelling_ids: list[int] = []

    def is_argmax_invariant(self) -> bool:
        """It changes what greedy sampling takes."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow requests as vLLM adds, drops and moves them."""
        process_dict_updates(self._requests, batch_update, self._add)

    def apply(self, logits: Tensor) -> Tensor:
        """Mask the logits [B, V] in place."""
        rows: list[int] = []
        columns: list[int] = []
        for row, request in self._requests.items():
            barred = request.banned_ids
            if request.matcher is not None:
                barred = barred + self._spelling_ids
            rows += [row] * len(barred)
            columns += barred
        logits[rows, columns] = float("-inf")
        self._apply_grammars(logits)
        return logits

    def _apply_grammars(self, logits: Tensor) -> None:
        import xgrammar

        ruled = {row: r for row, r in self._requests.items() if r.matcher is not None}
        if not ruled:
            return
        bitmask = xgrammar.allocate_token_bitmask(len(logits), logits.shape[-1])
        rows = []
        for row, request in ruled.items():
            for token in request.output_ids[request.num_read :]:
                request.matcher.accept_token(token)
            request.num_read = len(request.output_ids)
            if not request.matcher.is_terminated():
                request.matcher.fill_next_token_bitmask(bitmask, row)
                rows.append(row)
        if rows:
            xgrammar.apply_token_bitmask_inplace(
                logits, bitmask.to(self._device), vocab_size=logits.shape[-1], indices=rows
            )

    def _add(self, params: Any, prompt_ids: Any, output_ids: list[int]) -> _Masked | None:
        mask = (params.extra_args or {}).get(MASK_KEY)
        if mask is None:
            return None
        matcher = None
        if mask["grammar"] is not None:
            import xgrammar

            compiled = self._grammar_compiler().compile_regex(mask["grammar"])
            matcher = xgrammar.GrammarMatcher(compiled)
        return _Masked(list(mask["banned"]), matcher, output_ids)

    def _grammar_compiler(self) -> Any:
        """Built when the first grammar arrives; keeps what it compiled."""
        if self._compiler is None:
            import xgrammar
            from transformers import AutoTokenizer

            from ffr_core.engine.grammar import spelling_ids

            auto: Any = AutoTokenizer
            tokenizer = auto.from_pretrained(self._model_config.tokenizer)
            texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
            self._spelling_ids = spelling_ids(tokenizer, texts)
            info = xgrammar.TokenizerInfo.from_huggingface(
                tokenizer,
                vocab_size=self._model_config.get_vocab_size(),
                stop_token_ids=[tokenizer.eos_token_id],
            )
            self._compiler = xgrammar.GrammarCompiler(
                info, max_threads=1, cache_limit_bytes=64_000_000
            )
        return self._compiler
