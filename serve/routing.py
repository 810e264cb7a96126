"""Which localizer process reads a fragment: the one whose engine has its prefix in cache.

Ray Serve's consistent hashing over a session id, here the fragment: the same fragment meets the
same process whatever the query, and a process that joins or leaves moves only its own share. A
second attempt starts at the next process of the ring.
"""

from __future__ import annotations

import hashlib

from ray.serve._private.common import ReplicaID
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter

ROUTER = "serve.routing.FragmentRouter"


def fragment_key(tenant: str, payload: str, fragment_id: int, attempt: int = 0) -> str:
    """The session id of a candidate: who it is, and how often it was tried. Names nobody."""
    parts = (tenant, payload, str(fragment_id))
    data = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
    return f"{hashlib.sha256(data).hexdigest()[:32]}#{attempt}"


class FragmentRouter(ConsistentHashRouter):
    """Consistent hashing that a second attempt turns by one process."""

    def _lookup_ranked_replicas(self, routing_key: str) -> list[ReplicaID]:
        """The processes of a key in the order in which they are tried."""
        key, mark, attempt = routing_key.rpartition("#")
        if not mark:
            return super()._lookup_ranked_replicas(routing_key)
        ranked = super()._lookup_ranked_replicas(key)
        turn = int(attempt) % max(1, len(ranked))
        return ranked[turn:] + ranked[:turn]
