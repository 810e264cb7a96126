"""API keys: who calls, for which tenant, with which rights.

The keys file holds hashes, never keys:

    [[keys]]
    name = "web shop"
    tenant = "acme"
    scopes = ["search", "write"]
    sha256 = "64 hex digits of the key's hash"

Make an entry with `python -m serve.auth new --tenant acme --scope search --scope write`.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import logging
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from ffr_core.config import Config, read_toml
from ffr_core.errors import ConfigError

logger = logging.getLogger(__name__)
Scope = Literal["search", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "ffrs_"


class KeyEntry(Config):
    """One `[[keys]]` entry."""

    name: str = ""
    """For people who read the file, and for the audit log."""
    tenant: str = Field(min_length=1, max_length=200)
    """Whose dialogues the key opens."""
    scopes: tuple[Scope, ...] = Field(min_length=1)
    """`search`: read; `write`: add and delete; `admin`: change the localizer of all tenants."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hash of the key."""
    image_roots: tuple[str, ...] | None = None
    """Places that images of added dialogues may come from, inside the profile's roots. Left out:
    all of the profile's roots where the file knows one tenant only, else none."""


class KeysFile(Config):
    """The whole file."""

    keys: tuple[KeyEntry, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The caller of a request."""

    tenant: str
    scopes: frozenset[str]
    image_roots: tuple[str, ...] | None = None
    """Places that images of added dialogues may come from; None: all that the profile allows."""
    name: str = ""
    """Of the key, for the audit log."""


LOCAL = Principal(tenant="default", scopes=frozenset(SCOPES), name="local")
"""The caller of a service without keys: somebody on this machine."""


class KeyRing:
    """The keys of a file; a changed file is read again, so a removed key stops working."""

    def __init__(self, path: str | Path) -> None:
        """Read the file.

        Raises:
            ConfigError: It is missing, wrong, or names one key twice.
        """
        self._path = Path(path)
        self._state: tuple[int, int] | None = None
        self._entries: tuple[tuple[bytes, Principal], ...] = ()
        self._refresh()

    def find(self, key: str) -> Principal | None:
        """The owner of a key, or None. Takes equally long for every key of the file."""
        self._refresh()
        digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()
        found = None
        for known, principal in self._entries:
            if hmac.compare_digest(known, digest):
                found = principal
        return found

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
        except OSError as error:
            if self._state is not None:
                self._entries, self._state = (), (0, 0)
                return
            raise ConfigError(f"there is no keys file {self._path}; check --keys") from error
        state = (status.st_mtime_ns, status.st_size)
        if state != self._state:
            try:
                self._entries = _entries(self._path)
            except (ConfigError, OSError) as error:
                if self._state is None:
                    raise
                self._entries = ()
                # Not its text, which may quote a key that stands there by mistake.
                logger.error(
                    "the keys file %s is wrong (%s); no key works until it is right again",
                    self._path,
                    type(error).__name__,
                )
            self._state = state


def _entries(path: Path) -> tuple[tuple[bytes, Principal], ...]:
    parsed = KeysFile.parse(read_toml(path), str(path))
    hashes = [entry.sha256 for entry in parsed.keys]
    if len(set(hashes)) < len(hashes):
        raise ConfigError(f"{path}: a sha256 stands there twice; give each tenant its own key")
    several = len({entry.tenant for entry in parsed.keys}) > 1
    return tuple((bytes.fromhex(entry.sha256), _principal(entry, several)) for entry in parsed.keys)


def _principal(entry: KeyEntry, several: bool) -> Principal:
    """Where tenants share the profile's roots, none may point at the others' pictures."""
    roots = () if several and entry.image_roots is None else entry.image_roots
    return Principal(
        tenant=entry.tenant,
        scopes=frozenset(entry.scopes),
        image_roots=roots,
        name=entry.name,
    )


def new_key() -> tuple[str, str]:
    """A fresh key with 256 bits of randomness, and its sha256."""
    key = PREFIX + secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()


def describe_entry(tenant: str, scopes: Sequence[str], digest: str, name: str = "") -> str:
    """The TOML text of one entry."""
    values = {"name": name, "tenant": tenant, "scopes": list(scopes), "sha256": digest}
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())
    return "\n".join(("[[keys]]", *lines, ""))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a new key (to standard error) and its entry for the keys file (to standard output)."""
    parser = argparse.ArgumentParser(prog="python -m serve.auth", description="Make API keys.")
    new = parser.add_subparsers(dest="command", required=True).add_parser("new", help="a new key")
    new.add_argument("--tenant", required=True, help="whose dialogues the key opens")
    new.add_argument("--scope", action="append", choices=SCOPES, required=True, help="repeatable")
    new.add_argument("--name", default="", help="for people who read the file")
    options = parser.parse_args(arguments)
    key, digest = new_key()
    scopes = list(dict.fromkeys(options.scope))
    try:
        KeyEntry.parse({"tenant": options.tenant, "scopes": scopes, "sha256": digest}, "a new key")
    except ConfigError as error:
        parser.error(str(error))
    print(f"key, shown only once: {key}", file=sys.stderr)
    print(describe_entry(options.tenant, scopes, digest, options.name), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
