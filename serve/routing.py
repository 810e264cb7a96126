"""Which localizer process reads a fragment, and which owner writes a dialogue.

A fragment goes to the process whose engine has its prefix in cache, the writes of a dialogue go to
one owner, which writes one after the other. Rendezvous hashing over a session id: the same fragment
mostly meets the same process whatever the query, and a process that joins or leaves moves only its
own share. A second attempt starts at the next process. It stands on Ray's own default router, which
passes a process that is full over; with Ray 2.60's experimental consistent-hash router, 20 calls
that arrived together were never routed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ray.serve._private.common import RequestMetadata
from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter
from ray.serve.request_router import PendingRequest, RunningReplica

ROUTER = "serve.routing.FragmentRouter"
WRITE_ROUTER = "serve.routing.DialogueRouter"


def fragment_key(tenant: str, payload: str, fragment_id: int, attempt: int = 0) -> str:
    """The session id of a candidate: who it is, and how often it was tried. Names nobody."""
    parts = (tenant, payload, str(fragment_id))
    data = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
    return f"{hashlib.sha256(data).hexdigest()[:32]}#{attempt}"


def ranking(session_id: str, names: Sequence[str]) -> list[int]:
    """Positions of processes in the order in which a session tries them."""
    key, _, attempt = session_id.partition("#")
    ranked = sorted(
        range(len(names)),
        key=lambda i: hashlib.sha256(f"{key}/{names[i]}".encode()).digest(),
    )
    turn = int(attempt or 0) % max(1, len(ranked))
    return ranked[turn:] + ranked[:turn]


class FragmentRouter(PowerOfTwoChoicesRequestRouter):
    """Sends a session to its process; calls without one go anywhere."""

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Ranks of one process each, the first one first."""
        session: Any = getattr(getattr(pending_request, "metadata", None), "session_id", None)
        if not session or not candidate_replicas:
            return await super().choose_replicas(candidate_replicas, pending_request)
        names = [str(replica.replica_id.unique_id) for replica in candidate_replicas]
        return [[candidate_replicas[i]] for i in ranking(session, names)]

    def _get_pending_request_matching_metadata(
        self, request_metadata: RequestMetadata | None = None
    ) -> PendingRequest | None:
        """The call that a process was chosen for; Ray's default takes the oldest one instead."""
        if request_metadata is None:
            return None
        return self._get_pending_request_matching_internal_request_id(request_metadata)


class DialogueRouter(FragmentRouter):
    """Sends a session to one process only: a call waits while that process is full.

    Two owners that write the same dialogue at the same moment would mix its rows. Owners that come
    or go move a share of the dialogues; two writes of one dialogue right then can still meet.
    """

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """The process of the session alone; for calls without one as Ray chooses."""
        chosen = await super().choose_replicas(candidate_replicas, pending_request)
        session: Any = getattr(getattr(pending_request, "metadata", None), "session_id", None)
        return chosen[:1] if session else chosen
