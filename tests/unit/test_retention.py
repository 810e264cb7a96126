"""What is too old goes, for each tenant by its own days; all else stays, with a reason."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ffr_core.errors import ConfigError, FfrError
from ffr_core.operations.config import RetentionConfig
from ffr_core.parts import open_system
from ffr_core.types import Dialogue, Turn
from jobs.operations import describe_expired, expire

PROFILE = """
[encoder]
kind = "hashing"
[index]
kind = "milvus"
uri = "{home}/i.db"
[serve]
audit = "{home}/audit.jsonl"
[retention]
days = 30
[retention.tenants]
short = 3
archive = 0
"""
NOW = datetime.now(UTC)


def dialogue(name, *ages):
    """A turn for each age in days; None: no timestamp."""
    turns = tuple(
        Turn(
            turn_id=i,
            speaker="Ana",
            text=f"the {name} lamp {i}",
            timestamp=None if age is None else NOW - timedelta(days=age),
        )
        for i, age in enumerate(ages)
    )
    return Dialogue(dialogue_id=name, turns=turns)


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(PROFILE)
    with open_system(str(path), tmp_path) as system:
        system.add(dialogue("old", 90, 40))
        system.add(dialogue("revived", 90, 1))
        system.add(dialogue("partly-dated", 40, None))
        system.add(dialogue("undated", None))
        for tenant in ("short", "archive", "nobody"):
            system.add(dialogue("week", 7), tenant=tenant)
    return str(path)


def left(profile, home, tenant="default"):
    with open_system(profile, home) as system:
        return list(system.dialogue_ids(tenant))


def test_a_dry_run_counts_by_reason_and_removes_nothing(profile, tmp_path):
    counts = expire(profile, tmp_path, dry_run=True)
    assert counts["expired"] == {"last_turn": 3}
    assert counts["kept"] == {"forever": 1, "young": 2}
    assert (counts["tenants"], counts["tenants_without_name"]) == (3, 1)
    assert describe_expired(counts).startswith("would remove 3 dialogues of 3 tenants")
    assert len(left(profile, tmp_path)) == 4


def test_what_is_too_old_is_deleted_everywhere_and_stays_away(profile, tmp_path):
    counts = expire(profile, tmp_path)
    assert counts["changed_meanwhile"] == 0
    assert "removed 3 dialogues" in describe_expired(counts)
    assert "1 tenants hold dialogues and were not named" in describe_expired(counts)
    assert left(profile, tmp_path) == ["revived", "undated"]
    assert left(profile, tmp_path, "short") == []
    assert left(profile, tmp_path, "archive") == ["week"]
    assert left(profile, tmp_path, "nobody") == ["week"]
    stored = [path for path in (tmp_path / "store" / "payloads").rglob("*.zst")]
    assert len(stored) == 4
    with open_system(profile, tmp_path) as system, pytest.raises(FfrError, match="was deleted"):
        system.add(dialogue("old", 90, 40))
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert {(line["tenant"], *line["dialogue_ids"], line["reason"]) for line in lines} == {
        ("default", "old", "last_turn"),
        ("default", "partly-dated", "last_turn"),
        ("short", "week", "last_turn"),
    }
    assert "lamp" not in (tmp_path / "audit.jsonl").read_text()
    assert expire(profile, tmp_path)["expired"] == {}


def test_without_a_timestamp_the_time_of_indexing_counts(profile, tmp_path):
    later = NOW + timedelta(days=31)
    assert expire(profile, tmp_path, now=later - timedelta(days=4))["expired"] == {"last_turn": 3}
    assert expire(profile, tmp_path, now=later)["expired"] == {"indexing_time": 1, "last_turn": 1}
    assert left(profile, tmp_path) == []


def test_tenants_of_the_keys_file_are_meant_too(profile, tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[keys]]\ntenant = "nobody"\nscopes = ["search"]\nsha256 = "{"0" * 64}"\n')
    counts = expire(profile, tmp_path, ["short"], keys, dry_run=True)
    assert (counts["tenants"], counts["tenants_without_name"]) == (4, 0)
    assert counts["kept"]["young"] == 3


def test_a_dialogue_that_grows_between_look_and_removal_stays(profile, tmp_path, monkeypatch):
    from jobs import operations

    remove = operations._remove

    def grow_first(*arguments):
        with open_system(profile, tmp_path) as system:
            system.add(dialogue("old", 90, 40, 0))
        return remove(*arguments)

    monkeypatch.setattr(operations, "_remove", grow_first)
    counts = expire(profile, tmp_path)
    assert counts["changed_meanwhile"] == 1
    assert "old" in left(profile, tmp_path)
    with open_system(profile, tmp_path) as system:
        assert len(system.get("old").turns) == 3


@pytest.mark.parametrize("days", [-1, 10**6])
def test_days_that_would_remove_everything_or_reach_before_the_calendar_are_refused(days):
    for values in ({"days": days}, {"tenants": {"acme": days}}):
        with pytest.raises(ConfigError):
            RetentionConfig.parse(values, "[retention]")
