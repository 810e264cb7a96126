"""`ffrs backup`, `ffrs restore` and `ffrs expire`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli_common import AsJson, Home, ProfileName, clear_errors

S3Endpoint = Annotated[
    str | None, typer.Option(help="S3-compatible server of the backup; the profile's otherwise.")
]


def add_operations(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backup")(backup_command)
    app.command("restore")(restore_command)
    app.command("expire")(expire_command)


@clear_errors
def backup_command(
    to: Annotated[str, typer.Option(help="Folder or s3://bucket/prefix without a backup.")],
    profile: ProfileName = "laptop",
    home: Home = None,
    s3_endpoint: S3Endpoint = None,
) -> None:
    """Copy the index: rows, vectors, dialogues, for all tenants; not the pictures."""
    from jobs.operations import back_up

    made = back_up(profile, home, to, s3_endpoint, print)
    for reason, count in made.left_out.items():
        print(f"  left out, {reason}: {count}; the next index job of the restored index adds them")
    print(f"backed up {made.dialogues} dialogues, fingerprint {made.fingerprint[:16]}")


@clear_errors
def restore_command(
    source: Annotated[str, typer.Option("--from", help="What `ffrs backup` wrote.")],
    profile: ProfileName = "laptop",
    home: Home = None,
    s3_endpoint: S3Endpoint = None,
) -> None:
    """Bring a backup into an empty index and compare; run it again after a break-off."""
    from jobs.operations import restore

    done = restore(profile, home, source, s3_endpoint, print)
    for kind, count in done.left_out.items():
        print(f"  left out, {kind} without a header: {count}")
    print(f"restored {done.dialogues} dialogues, fingerprint {done.fingerprint[:16]}")


@clear_errors
def expire_command(
    profile: ProfileName = "laptop",
    home: Home = None,
    tenant: Annotated[
        list[str] | None, typer.Option(help="Owner of dialogues; repeat for each.")
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="Keys file whose tenants are meant.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Count, remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove dialogues that are older than the profile's retention allows."""
    from jobs.operations import describe_expired, expire

    counts = expire(profile, home, tenant or (), keys, dry_run)
    print(json.dumps(counts) if as_json else describe_expired(counts))
