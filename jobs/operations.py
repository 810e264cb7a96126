"""`ffrs backup`, `ffrs restore` and `ffrs expire`: what joins a profile with `ffr_core.operations`.

None of them loads a model or starts Ray.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffr_core.config import read_toml
from ffr_core.errors import ConfigError
from ffr_core.parts import build_payloads
from ffr_core.profile import Profile, load_profile, require_index
from ffr_core.protocols import Storage
from ffr_core.storage import LocalStorage, open_storage

if TYPE_CHECKING:
    from ffr_core.operations.manifest import Manifest
    from ffr_core.operations.restore import Restored
    from ffr_core.operations.retention import Expired, Review
    from ffr_core.operations.tables import Settings, Tables

Say = Callable[[str], None]


def back_up(
    profile_name: str, home: str | Path | None, to: str, s3_endpoint: str | None, say: Say
) -> Manifest:
    """Copy the index of a profile to a folder or `s3://bucket/prefix`.

    Raises:
        NotFoundError: There is no index.
        ConfigError: A backup is at that place already.
        BusyError: The Lite file is open elsewhere.
    """
    from ffr_core.operations import backup
    from ffr_core.operations.tables import prefixes_of

    profile = load_profile(profile_name, home)
    require_index(profile, home)
    storage = _storage(profile)
    target = _place(to, s3_endpoint or profile.storage.s3_endpoint, create=True)
    tables = _open(profile, prefixes_of(storage, profile.index.prefix))
    try:
        return backup.back_up(tables, storage, target, say)
    finally:
        tables.close()


def restore(
    profile_name: str, home: str | Path | None, source: str, s3_endpoint: str | None, say: Say
) -> Restored:
    """Fill the empty index of a profile from a backup.

    Raises:
        NotFoundError: There is no complete backup.
        ConfigError: Another format, collections that the profile does not search, or an index
            that is not empty.
        FfrError: The backup is damaged, or what arrived differs from it.
    """
    from ffr_core.operations import restore as restoring
    from ffr_core.operations.manifest import Manifest

    profile = load_profile(profile_name, home)
    place = _place(source, s3_endpoint or profile.storage.s3_endpoint, create=False)
    manifest = Manifest.read(place)
    _check_prefix(profile, manifest)
    tables = _open(profile, tuple(manifest.tables))
    try:
        return restoring.restore(tables, _storage(profile), place, manifest, say)
    finally:
        tables.close()


def _check_prefix(profile: Profile, manifest: Manifest) -> None:
    """Refuse a backup of which the profile would find nothing: collections keep their names."""
    from ffr_core.index.collections import Collections

    named = Collections(**(manifest.collections or {}))
    own = profile.index.prefix
    searched = {own} if own else {named.of(""), *named.encoders.values()}
    if searched.isdisjoint(manifest.tables):
        raise ConfigError(
            f"the backup holds the collections {sorted(manifest.tables)}, the profile searches"
            f" {sorted(searched)}; set `prefix` in its [index] table to one of the backup's"
        )


def expire(
    profile_name: str,
    home: str | Path | None,
    tenants: Sequence[str] = (),
    keys: str | Path | None = None,
    dry_run: bool = False,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Remove what is older than its tenant's `[retention]` allows; returns counts by reason.

    Args:
        profile_name: The profile.
        home: Data folder.
        tenants: Beside those that the profile and the keys file name, and `default`.
        keys: The service's keys file.
        dry_run: Count only.
        now: The present; the clock when left out.

    Raises:
        NotFoundError: There is no index.
    """
    from ffr_core.operations import retention
    from ffr_core.operations.tables import prefixes_of

    profile = load_profile(profile_name, home)
    require_index(profile, home)
    named = ["default", *profile.retention.tenants, *tenants, *_tenants_of(keys)]
    named = list(dict.fromkeys(named))
    found = retention.Review()
    tables = _open(profile, prefixes_of(_storage(profile), profile.index.prefix))
    try:
        for tenant in named:
            days = profile.retention.days_of(tenant)
            payloads = build_payloads(profile)
            retention.review(tables, payloads, tenant, days, now or datetime.now(UTC), found)
        unnamed = retention.unnamed_tenants(tables, named)
        settings = {prefix: tables.settings(prefix) for prefix in tables.prefixes()}
    finally:
        tables.close()
    changed = 0 if dry_run else _remove(profile, settings, found)
    return {
        "dry_run": dry_run,
        "expired": dict(sorted(found.reasons.items())),
        "kept": dict(sorted(found.kept.items())),
        "changed_meanwhile": changed,
        "tenants": len(named),
        "tenants_without_name": unnamed,
    }


def describe_expired(counts: dict[str, Any]) -> str:
    """The counts as a person reads them."""
    word = "would remove" if counts["dry_run"] else "removed"
    total = sum(counts["expired"].values()) - counts["changed_meanwhile"]
    lines = [f"{word} {total} dialogues of {counts['tenants']} tenants"]
    lines += [f"  too old by {reason}: {n}" for reason, n in counts["expired"].items()]
    lines += [f"  kept, {reason}: {n}" for reason, n in counts["kept"].items()]
    if counts["changed_meanwhile"]:
        lines.append(f"  kept, changed meanwhile: {counts['changed_meanwhile']}")
    if counts["tenants_without_name"]:
        lines.append(
            f"  {counts['tenants_without_name']} tenants hold dialogues and were not named; give"
            " --tenant, --keys or [retention.tenants]"
        )
    return "\n".join(lines)


def _remove(profile: Profile, settings: dict[str, Settings], found: Review) -> int:
    """Remove prefix by prefix; the payload goes with the last rows. Returns what had changed."""
    from ffr_core.operations import retention
    from serve.audit import AuditLog

    payloads, audit = build_payloads(profile), AuditLog(profile.serve.audit)
    changed: set[tuple[str, str]] = set()
    for prefix, made in settings.items():
        items = [item for item in found.expired if prefix in item.revisions]
        if not items:
            continue
        index = _index(profile, prefix, made)
        try:
            for item in items:
                name = (item.tenant, item.dialogue_id)
                if not retention.remove(index, prefix, item):
                    changed.add(name)
                elif prefix == list(item.revisions)[-1] and name not in changed:
                    payloads.delete(item.tenant, item.dialogue_id)
                    _note(audit, item)
        finally:
            index.close()
    audit.close()
    return len(changed)


def _note(audit: Any, item: Expired) -> None:
    audit.write(
        {
            "action": "expire",
            "tenant": item.tenant,
            "dialogue_ids": [item.dialogue_id],
            "reason": item.reason,
        }
    )


def _index(profile: Profile, prefix: str, made: Settings) -> Any:
    from ffr_core.index.milvus import MilvusIndex

    return MilvusIndex(
        profile.index.uri,
        dim=made.dim,
        encoder_fingerprint="",
        token=os.environ.get(profile.index.token_env),
        prefix=prefix,
    )


def _tenants_of(keys: str | Path | None) -> list[str]:
    from serve.auth import KeysFile

    if keys is None:
        return []
    path = Path(keys)
    return [entry.tenant for entry in KeysFile.parse(read_toml(path), str(path)).keys]


def _storage(profile: Profile) -> Storage:
    return open_storage(profile.storage.uri, endpoint_url=profile.storage.s3_endpoint)


def _open(profile: Profile, prefixes: Sequence[str]) -> Tables:
    from ffr_core.index.milvus_connection import Connection
    from ffr_core.operations.tables import Tables

    if profile.index.kind != "milvus":
        raise ConfigError(
            f"an index of kind {profile.index.kind!r} lies in memory; there is nothing to keep"
        )
    token = os.environ.get(profile.index.token_env)
    return Tables(Connection(profile.index.uri, token), prefixes)


def _place(uri: str, s3_endpoint: str | None, create: bool) -> Storage:
    """A folder or an S3 prefix; a new folder is readable by this user only."""
    place = open_storage(uri, endpoint_url=s3_endpoint)
    if create and isinstance(place, LocalStorage):
        place.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place
