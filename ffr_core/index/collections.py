"""Which collections are searched: a small file in the storage that a reindex replaces at its end.

All processes of a service, on Lite and on a server, read it when they open the index. It names the
collections of each encoder, so a profile finds the vectors that its own encoder made: a service
with the old profile goes on with the old collections until it is rolled over, and back is one
roll-over away. Where nothing was ever reindexed there is no file, and names start with `DEFAULT`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from ffr_core.errors import NotFoundError
from ffr_core.protocols import Storage

DEFAULT = "ffrs"
KEY = "serving/collections.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collections:
    """Names of collections, by what they start with."""

    current: str = DEFAULT
    """Those that the last switch made the searched ones."""
    encoders: dict[str, str] = field(default_factory=dict)
    """Encoder fingerprint -> its collections."""

    def of(self, encoder_fingerprint: str) -> str:
        """The collections of an encoder; those of an unknown one are the first ones."""
        return self.encoders.get(encoder_fingerprint, DEFAULT)


def read_collections(storage: Storage) -> Collections:
    """What is searched now."""
    try:
        return Collections(**json.loads(storage.read(KEY)))
    except NotFoundError:
        return Collections()


def switch_collections(storage: Storage, encoder_fingerprint: str, prefix: str) -> Collections:
    """Make `prefix` the collections of an encoder and the current ones; returns what was before."""
    before = read_collections(storage)
    after = {"current": prefix, "encoders": {**before.encoders, encoder_fingerprint: prefix}}
    storage.write(KEY, json.dumps(after, indent=1).encode())
    return before


def prefix_for(recipe: str) -> str:
    """Start of the names of the collections that a recipe fills."""
    return f"{DEFAULT}_{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
