"""Images of the running service."""

import httpx
import pytest
from service_calls import code
from service_process import record


def test_an_image_has_an_address_that_needs_no_key(service, a):
    url = a.get("/v1/dialogues/boats").json()["turns"][0]["images"][0]["url"]
    answer = httpx.get(service.url + url)
    assert answer.status_code == 200
    assert answer.content.startswith(b"\xff\xd8\xff")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"].startswith("private")
    head = httpx.head(service.url + url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == answer.headers["content-length"]


@pytest.mark.parametrize(
    ("old", "new"),
    [("boats", "hidden"), ("images/0", "images/1"), ("t=tenant-a", "t=tenant-b"), ("e=", "e=9")],
)
def test_a_changed_address_is_refused(service, a, old, new):
    url = a.get("/v1/dialogues/boats").json()["turns"][0]["images"][0]["url"]
    assert old in url
    assert code(httpx.get(service.url + url.replace(old, new))) == (403, "forbidden")


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("{folder}/outside.png", 403),
        ("{folder}/images/a/../../outside.png", 403),
        ("{folder}/images/a/link.png", 403),
        ("{folder}/images/b/photo.png", 403),
        ("file:///etc/passwd", 403),
        ("/etc/passwd", 403),
        ("s3://elsewhere/x.png", 403),
        ("gopher://x/y", 403),
        ("{folder}/images/a/bomb.png", 413),
        ("{folder}/images/a/text.png", 422),
        ("{folder}/images/a/none.png", 422),
    ],
)
def test_images_that_may_not_be_opened_are_refused(service, a, uri, status):
    uri = uri.format(folder=service.folder)
    answer = a.post("/v1/dialogues", json=record("sneaky", ["look"], images={0: uri}))
    assert answer.status_code == status, answer.text
    assert a.get("/v1/dialogues/sneaky").status_code == 404


def test_a_web_reference_is_kept_and_never_fetched(a):
    item = record("linked", ["look"], images={0: "https://example.invalid/x.png"})
    assert a.post("/v1/dialogues", json=item).status_code == 201
    assert a.get("/v1/dialogues/linked").json()["turns"][0]["images"][0]["url"] is None
    assert a.get("/v1/dialogues/linked/images/0").status_code == 404
    a.delete("/v1/dialogues/linked")
