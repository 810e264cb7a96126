"""Regular expressions as output grammars, token by token, without a compiled grammar engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ffr_core.engine.inputs import marker_token_ids
from ffr_core.errors import InputError


class RegexGrammar:
    """Says which token may follow a text so that the whole can still match a pattern."""

    def __init__(self, pattern: str, token_texts: Sequence[str], end_ids: frozenset[int]) -> None:
        """Compile.

        Args:
            pattern: The whole completion must match it.
            token_texts: [V] text of each token id.
            end_ids: Tokens that end the completion; allowed once the text matches.

        Raises:
            InputError: Not a regular expression.
        """
        import regex  # type: ignore[import-untyped]

        try:
            self._pattern: Any = regex.compile(pattern)
        except regex.error as error:
            raise InputError(f"grammar {pattern!r:.80} is not a regular expression: {error}") from (
                error
            )
        self._token_texts, self._end_ids = token_texts, end_ids

    def allows(self, text: str, token_id: int) -> bool:
        """Whether `token_id` may follow `text`."""
        if token_id in self._end_ids:
            return self._pattern.fullmatch(text) is not None
        if token_id >= len(self._token_texts):
            return False
        piece = self._token_texts[token_id]
        if not piece or "�" in piece:
            return False
        return self._pattern.fullmatch(text + piece, partial=True) is not None

    def first_allowed(self, text: str, ordered_ids: Sequence[int]) -> int | None:
        """The first of `ordered_ids` that may follow, None if there is none."""
        return next((i for i in ordered_ids if self.allows(text, i)), None)


def token_texts(tokenizer: Any) -> list[str]:
    """[V] text of each token id, special tokens as they are written; see `spelling_ids`."""
    ids = range(len(tokenizer))
    texts: list[str] = tokenizer.batch_decode([[i] for i in ids], skip_special_tokens=False)
    for token_id in spelling_ids(tokenizer, texts):
        texts[token_id] = ""
    return texts


def spelling_ids(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Tokens that a grammar bars because they would spell a marker that is one token.

    A model whose tokenizer has the markers as tokens has never seen one spelled in pieces.
    """
    if any(len(ids) > 1 for ids in marker_token_ids(tokenizer).values()):
        return []
    special = set(tokenizer.all_special_ids)
    return [i for i, text in enumerate(texts) if "<" in text and i not in special]
