"""API keys and signed addresses."""

import hashlib
import os
import subprocess
import sys

import pytest

from ffr_core.errors import ConfigError
from serve.auth import KeyRing, describe_entry, main, new_key
from serve.signing import STEP, UrlSigner


def entry(tenant, scopes, extra=""):
    key, digest = new_key()
    return key, describe_entry(tenant, scopes, digest) + extra


def test_a_key_opens_its_tenant_with_its_scopes(tmp_path):
    ann, text_ann = entry("ann", ["search", "write"])
    bob, text_bob = entry('bob "the" baker', ["search"])
    path = tmp_path / "keys.toml"
    path.write_text(text_ann + "\n" + text_bob)
    ring = KeyRing(path)
    assert ring.find(ann).tenant == "ann"
    assert ring.find(ann).scopes == {"search", "write"}
    assert ring.find(bob).tenant == 'bob "the" baker'
    assert ring.find(bob).scopes == {"search"}


def test_only_the_exact_key_is_found(tmp_path):
    key, text = entry("ann", ["search"])
    path = tmp_path / "keys.toml"
    path.write_text(text)
    ring = KeyRing(path)
    digest = hashlib.sha256(key.encode()).hexdigest()
    for wrong in ("", key[:-1], key + "x", key.upper(), digest, "\udcff"):
        assert ring.find(wrong) is None


def test_the_file_holds_no_key(tmp_path):
    key, text = entry("ann", ["search"])
    assert key not in text
    assert hashlib.sha256(key.encode()).hexdigest() in text


def test_a_removed_key_stops_working_without_a_restart(tmp_path):
    path = tmp_path / "keys.toml"
    old, text = entry("ann", ["search"])
    path.write_text(text)
    ring = KeyRing(path)
    assert ring.find(old)
    new, text = entry("ann", ["search"])
    path.write_text(text + "# rotated\n")
    os.utime(path, ns=(1, 1))
    assert ring.find(old) is None
    assert ring.find(new)
    path.write_text("not toml [")
    assert ring.find(new) is None
    path.unlink()
    assert ring.find(new) is None


def test_a_file_that_becomes_wrong_is_told_to_who_runs_the_service(tmp_path, caplog):
    path = tmp_path / "keys.toml"
    key, text = entry("ann", ["search"])
    path.write_text(text)
    ring = KeyRing(path)
    path.write_text(f'sha256 = "{key}" [')
    assert ring.find(key) is None and ring.find(key) is None
    [record] = caplog.records
    assert str(path) in record.getMessage() and key not in caplog.text
    path.unlink()
    path.mkdir()
    assert ring.find(key) is None


def test_images_of_other_tenants_are_out_of_reach_unless_said_otherwise(tmp_path):
    path = tmp_path / "keys.toml"
    ann, text_ann = entry("ann", ["write"])
    path.write_text(text_ann)
    assert KeyRing(path).find(ann).image_roots is None
    bob, text_bob = entry("bob", ["write"], 'image_roots = ["/data/bob"]\n')
    path.write_text(text_ann + text_bob)
    ring = KeyRing(path)
    assert ring.find(ann).image_roots == ()
    assert ring.find(bob).image_roots == ("/data/bob",)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "keys"),
        ('[[keys]]\ntenant = "a"\nscopes = ["search"]\nsha256 = "12"', "sha256"),
        (f'[[keys]]\ntenant = "a"\nscopes = ["root"]\nsha256 = "{"0" * 64}"', "scopes"),
        (f'[[keys]]\ntenant = ""\nscopes = ["search"]\nsha256 = "{"0" * 64}"', "tenant"),
        (f'[[keys]]\ntenant = "a"\nkey = "x"\nscopes = ["search"]\nsha256 = "{"0" * 64}"', "key"),
        (f'[[keys]]\ntenant = "a"\nscopes = ["search"]\nsha256 = "{"0" * 64}"\n' * 2, "twice"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path, text, word):
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=word):
        KeyRing(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no keys file"):
        KeyRing(tmp_path / "none.toml")


def test_the_command_prints_an_entry_that_works(tmp_path, capsys):
    assert main(["new", "--tenant", "acme", "--scope", "search", "--scope", "write"]) == 0
    printed = capsys.readouterr()
    path = tmp_path / "keys.toml"
    path.write_text(printed.out)
    key = printed.err.split(": ")[1].strip()
    assert KeyRing(path).find(key).tenant == "acme"


def test_the_command_refuses_what_the_file_would(capsys):
    with pytest.raises(SystemExit):
        main(["new", "--tenant", "", "--scope", "search"])
    shown = capsys.readouterr()
    assert "tenant" in shown.err and "ffrs_" not in shown.err and not shown.out


def test_the_command_runs_as_a_module():
    command = [sys.executable, "-m", "serve.auth", "new", "--tenant", "a", "--scope", "nothing"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "nothing" in ended.stderr


def parts(url):
    from urllib.parse import parse_qs, urlsplit

    values = parse_qs(urlsplit(url).query)
    return values["t"][0], int(values["e"][0]), values["s"][0]


def test_a_signed_address_works_for_exactly_its_picture():
    signer = UrlSigner(b"s" * 32, lifetime=600, clock=lambda: 1_000_000.0)
    url = signer.url("ann", "a/b #1?", 3)
    assert url.startswith("/v1/dialogues/a%2Fb%20%231%3F/images/3?")
    tenant, expires, signature = parts(url)
    assert signer.check(tenant, "a/b #1?", 3, expires, signature)
    assert not signer.check("bob", "a/b #1?", 3, expires, signature)
    assert not signer.check(tenant, "a/b #1", 3, expires, signature)
    assert not signer.check(tenant, "a/b #1?", 4, expires, signature)
    assert not signer.check(tenant, "a/b #1?", 3, expires + 1, signature)
    assert not signer.check(tenant, "a/b #1?", 3, expires, signature[:-1])
    assert not UrlSigner(b"t" * 32, 600, lambda: 1e6).check("ann", "a/b #1?", 3, expires, signature)


def test_fields_cannot_be_shifted_into_each_other():
    signer = UrlSigner(b"s" * 32, lifetime=600, clock=lambda: 0.0)
    _, expires, signature = parts(signer.url("ab", "c", 1))
    assert not signer.check("a", "bc", 1, expires, signature)


def test_an_address_expires_and_stays_the_same_for_a_while():
    now = [10_000.0]
    signer = UrlSigner(b"s" * 32, lifetime=600, clock=lambda: now[0])
    url = signer.url("ann", "d", 0)
    tenant, expires, signature = parts(url)
    now[0] += 1
    assert signer.url("ann", "d", 0) == url
    now[0] = 10_000.0 + 599
    assert signer.check(tenant, "d", 0, expires, signature)
    now[0] = 10_000.0 + 600 + STEP
    assert not signer.check(tenant, "d", 0, expires, signature)
