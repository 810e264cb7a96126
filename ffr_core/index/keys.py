"""Keys of tenants, dialogues, fragments and passages: hashes, so that no id can forge another.

    tenant    32 hex of sha256(len(tenant) tenant)
    dialogue  32 hex of sha256(len(tenant) tenant len(dialogue_id) dialogue_id)
    fragment  <dialogue>:<revision>:<fragment_id>
    passage   <fragment>:<passage no. in its fragment, from 0>

Lengths are eight bytes, texts are UTF-8. The revision keeps a write from overwriting the rows that
searches still see. Keys without it, <dialogue>:<fragment_id>, come from older versions: they stay
readable and go with the next write of their dialogue.
"""

from __future__ import annotations

import hashlib


def tenant_key(tenant: str) -> str:
    """32 hex; valid in file names, URLs and (after a letter) collection names."""
    return _digest(tenant)


def dialogue_key(tenant: str, dialogue_id: str) -> str:
    """32 hex that belong to one dialogue of one tenant."""
    return _digest(tenant, dialogue_id)


def fragment_key(dialogue: str, revision: int, fragment_id: int) -> str:
    """Key of a fragment in one revision of its dialogue, from the key of the dialogue."""
    return f"{dialogue}:{revision}:{fragment_id}"


def passage_key(fragment: str, number: int) -> str:
    """Key of a passage, from the key of its fragment."""
    return f"{fragment}:{number}"


def fragment_of(key: str) -> str:
    """Fragment key of a passage key."""
    return key.rpartition(":")[0]


def dialogue_of(key: str) -> str:
    """Dialogue key of a fragment key or passage key."""
    return key.partition(":")[0]


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:32]
