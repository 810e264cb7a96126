"""Short-lived addresses of images, so that `<img>` works without sending an API key."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from urllib.parse import quote, urlencode

STEP = 300
"""Expiry times are multiples of this many seconds, so that a browser can keep a picture."""


class UrlSigner:
    """Signs and checks image addresses: HMAC-SHA256 over tenant, dialogue, image and expiry."""

    def __init__(
        self, secret: bytes, lifetime: int, clock: Callable[[], float] = time.time
    ) -> None:
        """Use a secret that all processes of one service share.

        Args:
            secret: At least 32 random bytes.
            lifetime: Seconds that an address works, at least; up to `STEP` more.
            clock: Seconds since 1970.
        """
        assert len(secret) >= 32
        self._secret, self._lifetime, self._clock = secret, lifetime, clock

    def url(self, tenant: str, dialogue_id: str, image_id: int) -> str:
        """The relative address of an image."""
        expires = (int(self._clock()) + self._lifetime) // STEP * STEP + STEP
        query = urlencode(
            {"t": tenant, "e": expires, "s": self._sign(tenant, dialogue_id, image_id, expires)}
        )
        return f"/v1/dialogues/{quote(dialogue_id, safe='')}/images/{image_id}?{query}"

    def check(
        self, tenant: str, dialogue_id: str, image_id: int, expires: int, signature: str
    ) -> bool:
        """Whether an address was made by this service and still works."""
        expected = self._sign(tenant, dialogue_id, image_id, expires)
        fits = hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))
        return fits and expires > self._clock()

    def _sign(self, tenant: str, dialogue_id: str, image_id: int, expires: int) -> str:
        parts = (tenant, dialogue_id, str(image_id), str(expires))
        data = b"".join(
            len(part).to_bytes(4) + part for part in (p.encode("utf-8", "replace") for p in parts)
        )
        return hmac.new(self._secret, data, hashlib.sha256).hexdigest()
