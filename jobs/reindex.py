"""Build an index again beside the one that is searched, with other models, then switch.

    ffrs reindex --profile NEW

NEW names the same storage and the same Milvus as the profile in use, and another encoder or
boundary model. Its dialogues are those of the current index, read from the storage; deleted ones
stay deleted. On a server searches go on meanwhile; a Lite file can be open in one process only. A
run that breaks off changes nothing, the same command goes on where it ended: what is done is
skipped. Dialogues that change meanwhile are taken along in further passes. The old collections
stay: the old profile still finds them.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffr_core.config import read_toml
from ffr_core.errors import BusyError, ConfigError, NotFoundError
from ffr_core.index.collections import prefix_for, read_collections, switch_collections
from ffr_core.parts import build_payloads
from ffr_core.profile import Profile, data_home, load_profile
from ffr_core.records import record_from_dialogue
from ffr_core.storage import open_storage
from ffr_core.types import Header
from jobs.index_corpus import IndexJobConfig, with_models
from jobs.index_corpus import run as run_index
from jobs.index_models import Recipe, describe_models
from serve.runtime import ray_session

if TYPE_CHECKING:
    from ffr_core.index.milvus import MilvusIndex

FILE_DIALOGUES = 500
PASSES = 5
"""Passes over what changed meanwhile before giving up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindexed:
    """What a run did."""

    prefix: str
    """Start of the names of the collections that are searched now."""
    before: str
    dialogues: int
    """Live dialogues in them."""
    deleted: int
    """Tombstones that were taken along."""
    passes: int
    seconds: float


def reindex(
    profile_name: str,
    home: str | Path | None = None,
    tenants: Sequence[str] = ("default",),
    job: dict[str, Any] | None = None,
) -> Reindexed:
    """Build and switch; see the module text.

    Args:
        profile_name: The new profile.
        home: Data folder.
        tenants: All whose dialogues the index holds.
        job: Further fields of `IndexJobConfig`, such as the pools of a cluster.

    Raises:
        ConfigError: Nothing to do, or dialogues cannot be indexed; nothing is switched then.
    """
    with ray_session():
        return _reindex(profile_name, data_home(home), tenants, job or {})


def _reindex(
    profile_name: str, folder: Path, tenants: Sequence[str], job: dict[str, Any]
) -> Reindexed:
    started = time.monotonic()
    profile = load_profile(profile_name, folder)
    if profile.index.kind != "milvus":
        raise ConfigError(
            f"an index of kind {profile.index.kind!r} lies in memory; add to it again"
        )
    storage = open_storage(profile.storage.uri, endpoint_url=profile.storage.s3_endpoint)
    pools = IndexJobConfig.parse({"input": (), **job}, "the job of ffrs reindex")
    recipe = with_models(pools, describe_models, profile.model_dump())
    prefix, current = prefix_for(recipe.text), read_collections(storage).current
    if prefix == current:
        raise ConfigError(f"the collections {current!r} are searched already and fit this profile")
    work = folder / "reindex" / prefix
    passes = 0
    while differences := _differences(profile, recipe, current, prefix, tenants):
        passes += 1
        if passes > PASSES:
            names = ", ".join(
                repr(h.dialogue_id) for part in differences.values() for h in part[:3]
            )
            raise ConfigError(
                f"dialogues such as {names} differ after {PASSES} passes, so nothing is switched;"
                f" see {folder / 'runs' / 'reindex'} for those that cannot be indexed"
            )
        for tenant, headers in differences.items():
            _export(profile, tenant, headers, work)
            if any(work.iterdir()):
                _index(profile_name, folder, tenant, prefix, work, job)
            shutil.rmtree(work)
        _bury(profile, recipe, prefix, differences)
    live, deleted = _count(profile, recipe, prefix, tenants)
    switch_collections(storage, recipe.encoder_fingerprint, prefix)
    return Reindexed(
        prefix=prefix,
        before=current,
        dialogues=live,
        deleted=deleted,
        passes=passes,
        seconds=round(time.monotonic() - started, 1),
    )


def read_job(path: Path | None) -> dict[str, Any]:
    """The pools and limits of an index job's TOML file, without what a reindex says itself."""
    own = {"input", "profile", "home", "tenant", "prefix", "restore", "report"}
    return {
        key: value for key, value in (read_toml(path) if path else {}).items() if key not in own
    }


def _index(
    profile_name: str, home: Path, tenant: str, prefix: str, work: Path, job: dict[str, Any]
) -> None:
    values = {
        "input": (str(work),),
        "profile": profile_name,
        "home": str(home),
        "tenant": tenant,
        "prefix": prefix,
        "report": str(home / "runs" / "reindex"),
        **job,
    }
    run_index(IndexJobConfig.parse(values, "ffrs reindex"))


def _differences(
    profile: Profile, recipe: Recipe, old: str, new: str, tenants: Sequence[str]
) -> dict[str, list[Header]]:
    """Tenant -> headers of the old collections that the new ones lack or hold otherwise."""
    found: dict[str, list[Header]] = {}
    source = _open(profile, recipe, old)
    try:
        headers = {tenant: list(source.scan_headers(tenant)) for tenant in tenants}
    finally:
        source.close()
    target = _open(profile, recipe, new)
    try:
        for tenant in tenants:
            there = {h.dialogue_id: (h.payload, h.deleted) for h in target.scan_headers(tenant)}
            part = [
                h for h in headers[tenant] if there.get(h.dialogue_id) != (h.payload, h.deleted)
            ]
            if part:
                found[tenant] = part
    finally:
        target.close()
    return found


def _export(profile: Profile, tenant: str, headers: Sequence[Header], work: Path) -> None:
    """Write the live dialogues as corpus files, readable by this user only."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, mode=0o700)
    payloads = build_payloads(profile)
    live = [header for header in headers if not header.deleted]
    for start in range(0, len(live), FILE_DIALOGUES):
        path = work / f"{start // FILE_DIALOGUES:06d}.jsonl.gz"
        with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as lines:
            for record in _records(payloads, tenant, live[start : start + FILE_DIALOGUES]):
                lines.write(json.dumps(record, ensure_ascii=False) + "\n")


def _records(payloads: Any, tenant: str, headers: Sequence[Header]) -> Iterator[dict[str, Any]]:
    for header in headers:
        try:
            yield record_from_dialogue(payloads.get(tenant, header.payload))
        except NotFoundError:  # it changed a moment ago: the next pass sees it
            continue


def _bury(
    profile: Profile, recipe: Recipe, prefix: str, differences: dict[str, list[Header]]
) -> None:
    index = _open(profile, recipe, prefix)
    try:
        for tenant, headers in differences.items():
            for header in headers:
                if header.deleted:
                    index.bury(tenant, header.dialogue_id)
    finally:
        index.close()


def _count(
    profile: Profile, recipe: Recipe, prefix: str, tenants: Sequence[str]
) -> tuple[int, int]:
    index = _open(profile, recipe, prefix)
    try:
        headers = [header for tenant in tenants for header in index.scan_headers(tenant)]
    finally:
        index.close()
    return sum(not h.deleted for h in headers), sum(h.deleted for h in headers)


def _open(profile: Profile, recipe: Recipe, prefix: str) -> MilvusIndex:
    """Collections by name; waits a little for a process that is just closing the Lite file."""
    from ffr_core.index.milvus import MilvusIndex

    deadline = time.monotonic() + 30
    while True:
        try:
            return MilvusIndex(
                profile.index.uri,
                token=os.environ.get(profile.index.token_env),
                encoder_fingerprint=recipe.encoder_fingerprint,
                dim=recipe.dim,
                prefix=prefix,
            )
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
