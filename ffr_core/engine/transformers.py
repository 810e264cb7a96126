"""The reference engine: transformers and PEFT in this process, batched, on any torch device.

Requests with the same messages (the samples of one group) share one prefill. Shapes: B rows of a
batch, U prompts without repetition, L tokens, V vocabulary.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffr_core.engine.grammar import RegexGrammar, token_texts
from ffr_core.engine.inputs import EncodedPrompt, PromptEncoder, banned_token_ids, collate
from ffr_core.engine.loading import load_model, load_processor, model_fingerprint
from ffr_core.engine.probe import adapter_strength, check_probe, probe_request
from ffr_core.engine.sampling import draw, unbanned_logprobs
from ffr_core.errors import FfrError, InputError, NotFoundError
from ffr_core.generation import Completion, GenerationRequest

if TYPE_CHECKING:
    import PIL.Image
    import torch
    from torch import Tensor


@dataclass(slots=True, kw_only=True, eq=False)
class _Row:
    """One request on its way."""

    request: GenerationRequest
    prompt: EncodedPrompt
    max_new_tokens: int
    generator: torch.Generator
    grammar: RegexGrammar | None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    stopped: bool = False

    @property
    def done(self) -> bool:
        return self.stopped or len(self.token_ids) >= self.max_new_tokens


class TransformersEngine:
    """`Engine` over a model of the Qwen2-VL family. One call runs at a time."""

    def __init__(
        self,
        model: Any,
        encoder: PromptEncoder,
        *,
        fingerprint: str = "",
        max_batch_tokens: int = 16_384,
        max_model_len: int | None = None,
        seed: int = 0,
    ) -> None:
        """Take a loaded model in eval mode.

        Args:
            model: Such as `loading.load_model` returns.
            encoder: Makes its inputs.
            fingerprint: Names the weights; see `loading.model_fingerprint`.
            max_batch_tokens: Rows times (longest prompt plus answer) of one batch.
            max_model_len: Longest prompt plus answer; the model's own limit when left out.
            seed: For requests without a seed.
        """
        import torch

        self.model, self.encoder = model, encoder
        self._fingerprint = fingerprint
        self._max_batch_tokens = max_batch_tokens
        limit: int = model.config.get_text_config().max_position_embeddings
        self.max_model_len = min(max_model_len or limit, limit)
        self._seeds = torch.Generator().manual_seed(seed)
        tokenizer = encoder.tokenizer
        self._pad_id: int = tokenizer.pad_token_id
        self.banned_ids = banned_token_ids(tokenizer)
        self.end_ids = frozenset({encoder.end_of_turn_id, *_end_ids(model)})
        self._token_texts: list[str] = []
        self._adapters: dict[str, str] = {}
        self._peft: Any = None
        self._lock = threading.RLock()

    @classmethod
    def open(
        cls,
        path: str | Path,
        images: Callable[[str], PIL.Image.Image],
        *,
        dtype: str = "auto",
        device: str = "cpu",
        max_pixels: int | None = None,
        max_images: int | None = None,
        max_total_pixels: int | None = None,
        max_batch_tokens: int = 16_384,
        max_model_len: int | None = None,
        seed: int = 0,
    ) -> TransformersEngine:
        """Load a model folder; arguments as of `load_model`, `PromptEncoder` and the class."""
        encoder = PromptEncoder(
            load_processor(path), images, max_pixels, max_images, max_total_pixels
        )
        return cls(
            load_model(path, dtype, device),
            encoder,
            fingerprint=f"{model_fingerprint(path)}:{dtype}:{encoder.settings}",
            max_batch_tokens=max_batch_tokens,
            max_model_len=max_model_len,
            seed=seed,
        )

    @property
    def fingerprint(self) -> str:
        """Model and settings that change its output, adapters left out."""
        return self._fingerprint

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Answer all requests, in their order; an unknown adapter raises NotFoundError."""
        for request in requests:
            if request.adapter is not None and request.adapter not in self._adapters:
                raise NotFoundError(f"adapter {request.adapter!r} is not loaded; load it first")
        answers: dict[int, Completion] = {}
        rows: list[tuple[int, _Row]] = []
        with self._lock:
            for number, request in enumerate(requests):
                try:
                    rows.append((number, self._start(request)))
                except FfrError as error:
                    answers[number] = Completion(
                        request_id=request.request_id,
                        text="",
                        finish_reason="error",
                        error=str(error),
                    )
            for batch in self._batches(rows):
                self._run([row for _, row in batch])
                answers |= {number: self._finish(row) for number, row in batch}
        return [answers[number] for number in range(len(requests))]

    def load_adapter(self, name: str, path: str) -> None:
        """Load a PEFT folder as `name` and prove that it acts.

        Raises:
            InputError: The name is in use, or the adapter does not fit the model.
            NotFoundError: Not a PEFT folder.
        """
        with self._lock:
            if name in self._adapters:
                raise InputError(f"adapter name {name!r} is in use; load it under a fresh name")
            strength = adapter_strength(path)
            try:
                self._insert(name, path)
            except (ValueError, RuntimeError, KeyError) as error:
                self._remove(name)
                raise InputError(
                    f"adapter {name!r} does not fit this model, train it on the same architecture:"
                    f" {error}"
                ) from error
            self.model.eval()
            self._adapters[name] = path
            try:
                check_probe(
                    name, strength, *self.generate([probe_request(None), probe_request(name)])
                )
            except InputError:
                self.unload_adapter(name)
                raise

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; the base weights stay bit-identical."""
        with self._lock:
            if self._adapters.pop(name, None) is None:
                raise NotFoundError(f"adapter {name!r} is not loaded; nothing to unload")
            self._remove(name)

    def close(self) -> None:
        """Release the model."""
        self.model = self._peft = None

    def _insert(self, name: str, path: str) -> None:
        """Put the modules of an adapter into the model, then its weights."""
        from peft import PeftConfig, PeftModel

        if self._peft is None:
            # Before the weights, so that an adapter whose weights do not fit can be taken out.
            config = PeftConfig.from_pretrained(path)
            config.inference_mode = True
            self._peft = PeftModel(self.model, config, name)
        missing = self._peft.load_adapter(path, adapter_name=name).missing_keys
        if missing:
            warnings.warn(f"{path} lacks {len(missing)} weights of its adapter", stacklevel=3)

    def _remove(self, name: str) -> None:
        """Take the modules of an adapter out, also of one that was inserted in part."""
        if self._peft is None:
            return
        if self._adapters:
            if name in self._peft.peft_config:
                self._peft.delete_adapter(name)
        else:
            self.model = self._peft.unload()
            self._peft = None

    def _start(self, request: GenerationRequest) -> _Row:
        """Encode a request; FfrError when it cannot be answered."""
        import torch

        prompt = self.encoder.encode(request.messages)
        room = self.max_model_len - prompt.num_prompt_tokens
        if room < 1:
            raise InputError(
                f"the prompt has {prompt.num_prompt_tokens} tokens, the model reads"
                f" {self.max_model_len} with the answer; send a shorter dialogue or use windows"
            )
        seed = request.sampling.seed
        if seed is None:
            seed = int(torch.randint(2**62, (), generator=self._seeds))
        grammar = None
        if request.grammar is not None:
            self._token_texts = self._token_texts or token_texts(self.encoder.tokenizer)
            grammar = RegexGrammar(request.grammar, self._token_texts, self.end_ids)
        return _Row(
            request=request,
            prompt=prompt,
            max_new_tokens=min(room, request.sampling.max_new_tokens),
            generator=torch.Generator().manual_seed(seed % 2**63),
            grammar=grammar,
        )

    def _batches(self, rows: Sequence[tuple[int, _Row]]) -> Iterator[list[tuple[int, _Row]]]:
        """Rows of one adapter and similar length, within the token budget."""

        def size(row: _Row) -> int:
            return row.prompt.num_prompt_tokens + row.max_new_tokens

        ordered = sorted(rows, key=lambda item: (item[1].request.adapter or "", size(item[1])))
        batch: list[tuple[int, _Row]] = []
        for item in ordered:
            same = not batch or batch[0][1].request.adapter == item[1].request.adapter
            if batch and (not same or (len(batch) + 1) * size(item[1]) > self._max_batch_tokens):
                yield batch
                batch = []
            batch.append(item)
        if batch:
            yield batch

    def _adapter(self, name: str | None) -> AbstractContextManager[Any]:
        if self._peft is None:
            return nullcontext()
        if name is None:
            context: AbstractContextManager[Any] = self._peft.disable_adapter()
            return context
        self._peft.set_adapter(name)
        return nullcontext()

    def _run(self, rows: list[_Row]) -> None:
        """Fill in the tokens of one batch."""
        import torch

        with torch.inference_mode(), self._adapter(rows[0].request.adapter):
            state = _Decoding(self.model, self._pad_id, rows, self.banned_ids)
            while state.rows:
                self._choose(state)
                state.advance()

    def _choose(self, state: _Decoding) -> None:
        """Draw the next token of every row."""
        import torch

        rows = state.rows
        logprobs_BV = unbanned_logprobs(state.logits_BV, state.banned_BV)
        allowed_BV = logprobs_BV
        if any(row.grammar and row.request.sampling.sampling_temperature for row in rows):
            allowed_BV = logprobs_BV.clone()
            for number, row in enumerate(rows):
                if row.grammar is not None and row.request.sampling.sampling_temperature:
                    _mask(allowed_BV[number], row.grammar, row.text)
        tokens_B = draw(
            allowed_BV,
            [row.request.sampling.sampling_temperature for row in rows],
            [row.request.sampling.top_p for row in rows],
            [float(torch.rand((), generator=r.generator, dtype=torch.float64)) for r in rows],
        )
        for number, row in enumerate(rows):
            if row.grammar is not None and not row.request.sampling.sampling_temperature:
                order = logprobs_BV[number].argsort(descending=True).tolist()
                found = row.grammar.first_allowed(row.text, order)
                tokens_B[number] = self.encoder.end_of_turn_id if found is None else found
        state.tokens_B = tokens_B
        chosen_B = logprobs_BV.gather(-1, tokens_B[:, None])[:, 0].tolist()
        for row, token, logprob in zip(rows, tokens_B.tolist(), chosen_B, strict=True):
            row.token_ids.append(token)
            row.logprobs.append(logprob)
            row.stopped = token in self.end_ids
            if row.grammar is not None and not row.stopped:
                row.text += self._token_texts[token]

    def _finish(self, row: _Row) -> Completion:
        ids = row.token_ids[:-1] if row.stopped else row.token_ids
        return Completion(
            request_id=row.request.request_id,
            text=self.encoder.tokenizer.decode(ids, skip_special_tokens=False),
            token_ids=tuple(row.token_ids),
            logprobs=tuple(row.logprobs),
            token_texts=self.encoder.token_texts(row.token_ids),
            finish_reason="stop" if row.stopped else "length",
            num_prompt_tokens=row.prompt.num_prompt_tokens,
        )


class _Decoding:
    """The model's state between two tokens of a batch."""

    tokens_B: Tensor

    def __init__(
        self, model: Any, pad_id: int, rows: list[_Row], banned_ids: Sequence[int]
    ) -> None:
        """Read the prompts, each once."""
        import torch

        self.rows, self._model = list(rows), model
        places: dict[Any, int] = {}
        index = [places.setdefault(row.request.messages, len(places)) for row in rows]
        firsts = {place: row.prompt for place, row in reversed(list(zip(index, rows, strict=True)))}
        batch = collate([firsts[place] for place in range(len(places))], pad_id, "left")
        batch = {key: value.to(model.device) for key, value in batch.items()}
        positions_3UL = rope_positions(model, batch)
        out = model(**batch, position_ids=positions_3UL, use_cache=True, logits_to_keep=1)
        rows_B = torch.tensor(index, device=model.device)
        self._cache = out.past_key_values
        self._cache.batch_select_indices(rows_B)
        self.logits_BV = out.logits[:, -1][rows_B]
        self._mask_BL = batch["attention_mask"][rows_B]
        self._next_B = positions_3UL.amax(dim=(0, 2))[rows_B] + 1
        self.banned_BV = torch.zeros_like(self.logits_BV, dtype=torch.bool)
        for number, row in enumerate(rows):
            banned = {*banned_ids, *row.request.sampling.banned_token_ids}
            self.banned_BV[number, sorted(banned)] = True

    def advance(self) -> None:
        """Drop rows that are done, read the drawn tokens of the others."""
        import torch

        keep = [number for number, row in enumerate(self.rows) if not row.done]
        if len(keep) < len(self.rows):
            self.rows = [self.rows[number] for number in keep]
            if not keep:
                return
            keep_B = torch.tensor(keep, device=self._mask_BL.device)
            self._cache.batch_select_indices(keep_B)
            self.tokens_B, self._next_B = self.tokens_B[keep_B], self._next_B[keep_B]
            self._mask_BL, self.banned_BV = self._mask_BL[keep_B], self.banned_BV[keep_B]
        ones = self._mask_BL.new_ones((len(keep), 1))
        self._mask_BL = torch.cat([self._mask_BL, ones], dim=1)
        out = self._model(
            input_ids=self.tokens_B[:, None],
            attention_mask=self._mask_BL,
            position_ids=self._next_B.view(1, -1, 1).expand(3, -1, 1),
            past_key_values=self._cache,
            use_cache=True,
        )
        self.logits_BV = out.logits[:, -1]
        self._next_B = self._next_B + 1


def rope_positions(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """M-RoPE positions [3, B, L] of a batch, padded on either side, with or without pictures."""
    positions: Tensor = model.model.get_rope_index(
        batch["input_ids"],
        mm_token_type_ids=batch["mm_token_type_ids"],
        image_grid_thw=batch.get("image_grid_thw"),
        attention_mask=batch["attention_mask"],
    )[0]
    return positions


def _end_ids(model: Any) -> set[int]:
    ids = model.generation_config.eos_token_id
    return set(ids) if isinstance(ids, list) else {ids} - {None}


def _mask(logprobs_V: Tensor, grammar: RegexGrammar, text: str) -> None:
    """Set what the grammar does not allow to -inf, in place."""
    barred = [i for i in range(len(logprobs_V)) if not grammar.allows(text, i)]
    logprobs_V[barred] = float("-inf")
