"""Build an index again beside the one that is searched, with other models, then switch.

    ffrs reindex --profile NEW

NEW names the same storage and the same Milvus as the profile in use, and another encoder or
boundary model. Its dialogues are those of the current index, read from the storage; deleted ones
stay deleted. On a server searches go on meanwhile; a Lite file can be open in one process only. A
run that breaks off changes nothing, the same command goes on where it ended: what is done is
skipped. Dialogues that change meanwhile are taken along in further passes; pictures that cannot be
read any more are left out of theirs, as the index job does. The old collections stay: the old
profile still finds them.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ffr_core.config import read_toml
from ffr_core.errors import BusyError, ConfigError, NotFoundError, RecordError
from ffr_core.index.collections import prefix_for, read_collections, switch_collections
from ffr_core.parts import build_image_reader, build_payloads
from ffr_core.profile import Profile, data_home, load_profile, require_index
from ffr_core.records import content_hash, record_from_dialogue
from ffr_core.storage import open_storage
from ffr_core.types import Header
from jobs.index_corpus import IndexJobConfig, with_models
from jobs.index_corpus import run as run_index
from jobs.index_models import Recipe, describe_models
from jobs.index_rows import check_images
from serve.auth import KeysFile
from serve.runtime import ray_session

if TYPE_CHECKING:
    from ffr_core.images import ImageReader
    from ffr_core.index.milvus import MilvusIndex
    from ffr_core.index.payload import PayloadStore

T = TypeVar("T")
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
    unreadable: int
    """Images that this run could not read."""
    seconds: float


def reindex(
    profile_name: str,
    home: str | Path | None = None,
    tenants: Sequence[str] = (),
    keys: str | Path | None = None,
    job: dict[str, Any] | None = None,
) -> Reindexed:
    """Build and switch; see the module text.

    Args:
        profile_name: The new profile.
        home: Data folder.
        tenants: All whose dialogues the index holds, beside `default` and those of the keys file.
        keys: The service's keys file.
        job: Further fields of `IndexJobConfig`, such as the pools of a cluster.

    Raises:
        NotFoundError: There is no index; nothing is created.
        ConfigError: Nothing to do, the profile names its collections itself, a tenant was not
            named, or dialogues cannot be indexed; nothing is switched then.
    """
    folder = data_home(home)
    profile = load_profile(profile_name, folder)
    if profile.index.kind != "milvus":
        raise ConfigError(
            f"an index of kind {profile.index.kind!r} lies in memory; add to it again"
        )
    if profile.index.prefix is not None:
        raise ConfigError(
            f"the profile says `prefix = {profile.index.prefix!r}` in its [index] table, so it"
            " would search those collections after the switch too; remove that line"
        )
    try:
        require_index(profile, folder)
    except NotFoundError as error:
        raise NotFoundError(f"there is nothing to reindex: {error}") from error
    entries = KeysFile.parse(read_toml(Path(keys)), str(keys)).keys if keys else ()
    named = list(dict.fromkeys(["default", *tenants, *(entry.tenant for entry in entries)]))
    with ray_session():
        return _reindex(profile_name, profile, folder, named, job or {})


def _reindex(
    profile_name: str, profile: Profile, folder: Path, tenants: Sequence[str], job: dict[str, Any]
) -> Reindexed:
    started = time.monotonic()
    storage = open_storage(profile.storage.uri, endpoint_url=profile.storage.s3_endpoint)
    current = read_collections(storage).current
    _check_all_named(profile, current, tenants)
    pools = IndexJobConfig.parse({"input": (), **job}, "the job of ffrs reindex")
    recipe = with_models(pools, describe_models, profile.model_dump())
    prefix = prefix_for(recipe.text)
    if prefix == current:
        raise ConfigError(f"the collections {current!r} are searched already and fit this profile")
    work = folder / "reindex" / prefix
    passes = unreadable = 0
    while differences := _differences(profile, recipe, current, prefix, tenants):
        passes += 1
        if passes > PASSES:
            raise _endless(differences, folder / "runs" / "reindex")
        for tenant, headers in differences.items():
            _export(profile, tenant, headers, work)
            if any(work.iterdir()):
                unreadable += _index(profile_name, folder, tenant, prefix, work, job)
            shutil.rmtree(work)
        _bury(profile, recipe, prefix, differences)
    _check_all_named(profile, current, tenants)  # again: a new tenant may have come meanwhile
    made = [h for part in _headers(profile, recipe, prefix, tenants).values() for h in part]
    switch_collections(storage, recipe.encoder_fingerprint, prefix)
    return Reindexed(
        prefix=prefix,
        before=current,
        dialogues=sum(not header.deleted for header in made),
        deleted=sum(header.deleted for header in made),
        passes=passes,
        unreadable=unreadable,
        seconds=round(time.monotonic() - started, 1),
    )


def read_job(path: Path | None) -> dict[str, Any]:
    """The pools and limits of an index job's TOML file, without what a reindex says itself."""
    own = {"input", "profile", "home", "tenant", "prefix", "restore", "report"}
    return {
        key: value for key, value in (read_toml(path) if path else {}).items() if key not in own
    }


def _check_all_named(profile: Profile, prefix: str, tenants: Sequence[str]) -> None:
    """Refuse an index without dialogues, and to hide those of tenants that nobody thought of."""
    from ffr_core.index.milvus_connection import Connection
    from ffr_core.operations.retention import unnamed_tenants
    from ffr_core.operations.tables import Tables

    token = os.environ.get(profile.index.token_env)
    tables = Tables(_when_free(lambda: Connection(profile.index.uri, token)), (prefix,))
    try:
        if not tables.prefixes():
            raise NotFoundError(
                f"there is nothing to reindex: {profile.index.uri} holds no dialogues of the"
                f" collections {prefix!r}; run `ffrs index PATH` first"
            )
        unnamed = unnamed_tenants(tables, tenants)
    finally:
        tables.close()
    if unnamed:
        raise ConfigError(
            f"tenants that hold dialogues and were not named: {unnamed}; nothing of theirs would be"
            " found after the switch, so give --tenant for each, or --keys"
        )


def _endless(differences: dict[str, list[Header]], report: Path) -> ConfigError:
    names = ", ".join(repr(h.dialogue_id) for part in differences.values() for h in part[:3])
    return ConfigError(
        f"dialogues such as {names} differ after {PASSES} passes, so nothing is switched;"
        f" see {report} for those that cannot be indexed"
    )


def _index(
    profile_name: str, home: Path, tenant: str, prefix: str, work: Path, job: dict[str, Any]
) -> int:
    """Run the index job; returns how many images it could not read."""
    values = {
        "input": (str(work),),
        "profile": profile_name,
        "home": str(home),
        "tenant": tenant,
        "prefix": prefix,
        "restore": True,  # a tombstone there of a dialogue that lives here is one of an earlier run
        "report": str(home / "runs" / "reindex"),
        **job,
    }
    unreadable: int = run_index(IndexJobConfig.parse(values, "ffrs reindex"))["bad_images"]
    return unreadable


def _differences(
    profile: Profile, recipe: Recipe, old: str, new: str, tenants: Sequence[str]
) -> dict[str, list[Header]]:
    """Tenant -> headers of the old collections that the new ones lack or hold otherwise."""
    found: dict[str, list[Header]] = {}
    source = _headers(profile, recipe, old, tenants)
    target = _headers(profile, recipe, new, tenants)
    payloads, images = build_payloads(profile), build_image_reader(profile)
    for tenant in tenants:
        there = {header.dialogue_id: header for header in target[tenant]}
        part = [
            header
            for header in source[tenant]
            if not _is_same(payloads, images, tenant, header, there.get(header.dialogue_id))
        ]
        if part:
            found[tenant] = part
    return found


def _is_same(
    payloads: PayloadStore, images: ImageReader, tenant: str, old: Header, new: Header | None
) -> bool:
    """Whether the new collections hold a dialogue as the index job stores it.

    It hashes the content that it read, without the images that are gone: a stored dialogue whose
    name is another one is read again and checked as the job does.
    """
    if new is None or new.deleted != old.deleted:
        return False
    if new.payload == old.payload:
        return True
    try:
        dialogue, _ = check_images(payloads.get(tenant, old.payload), images)
    except (NotFoundError, RecordError):  # it changed a moment ago, or the job refuses it
        return False
    return new.payload.endswith(f"/{content_hash(dialogue)}")


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


def _records(
    payloads: PayloadStore, tenant: str, headers: Sequence[Header]
) -> Iterator[dict[str, Any]]:
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


def _headers(
    profile: Profile, recipe: Recipe, prefix: str, tenants: Sequence[str]
) -> dict[str, list[Header]]:
    """Tenant -> headers, tombstones too."""
    index = _open(profile, recipe, prefix)
    try:
        return {tenant: list(index.scan_headers(tenant)) for tenant in tenants}
    finally:
        index.close()


def _open(profile: Profile, recipe: Recipe, prefix: str) -> MilvusIndex:
    """Collections by name."""
    from ffr_core.index.milvus import MilvusIndex

    return _when_free(
        lambda: MilvusIndex(
            profile.index.uri,
            token=os.environ.get(profile.index.token_env),
            encoder_fingerprint=recipe.encoder_fingerprint,
            dim=recipe.dim,
            prefix=prefix,
        )
    )


def _when_free(connect: Callable[[], T]) -> T:
    """Connect; waits a little for a process that is just closing the Lite file."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return connect()
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
