"""What encoders around another encoder share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ffr_core.protocols import Encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ffr_core.types import Passage


class WrappedEncoder:
    """Passes everything on to `inner`; a subclass says what it does itself."""

    def __init__(self, encoder: Encoder) -> None:
        """Wrap an encoder."""
        self._encoder = encoder

    @property
    def inner(self) -> Encoder:
        """The encoder that does the work."""
        return self._encoder

    @property
    def dim(self) -> int:
        """D of the inner encoder."""
        return self.inner.dim

    @property
    def max_tokens(self) -> int:
        """Limit of the inner encoder."""
        return self.inner.max_tokens

    @property
    def fingerprint(self) -> str:
        """The inner encoder's: the vectors are the same vectors."""
        return self.inner.fingerprint

    @property
    def tokens_read(self) -> int:
        """Tokens that the inner encoder really read; see `tokens_read`."""
        return tokens_read(self.inner)

    def encode_passages(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Return [P, D], unit norm."""
        return self.inner.encode_passages(passages)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [Q, D], unit norm."""
        return self.inner.encode_queries(texts)


def tokens_read(encoder: Encoder) -> int:
    """Tokens that an encoder has read since it was made, special tokens included, padding not.

    Counted by its own tokenizer; texts that a cache answers are not read. 0 for encoders that do
    not count.
    """
    count: int = getattr(encoder, "tokens_read", 0)
    return count
