"""The whole service in one process, without Ray: an application over its plain workers."""

import asyncio
import json

import httpx

from ffr_core.profile import Profile
from serve.auth import KeyRing, describe_entry, new_key
from serve.gateway import Gateway
from serve.web_app import create_app
from serve.workers import IndexWorker, LocalizeWorker


def profile_in(folder, **serve):
    return Profile.parse(
        {
            "encoder": {"kind": "hashing"},
            "index": {"kind": "exact"},
            "storage": {"uri": str(folder / "store")},
            "images": {"roots": [str(folder)]},
            "serve": {"group_size": 2, **serve},
        },
        "test",
    )


def keys_in(folder, *entries):
    """A keys file of (name, tenant, scope...); returns name -> key and the ring."""
    keys, texts = {}, []
    for name, tenant, *scopes in entries:
        keys[name], digest = new_key()
        texts.append(describe_entry(tenant, scopes, digest, name))
        texts.append(f"image_roots = {json.dumps([str(folder)])}")
    (folder / "keys.toml").write_text("\n".join(texts))
    return keys, KeyRing(folder / "keys.toml")


def run_service(profile, ring, work, keys):
    """Await `work(ask)` beside the service; `ask(key, method, path, **options)` is one call."""

    async def everything():
        index = IndexWorker(profile)
        gateway = Gateway(profile, index, LocalizeWorker(profile).localize, b"s" * 32)
        app = create_app(gateway, ring)
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:

            async def ask(key, method, path, **options):
                headers = options.pop("headers", {})
                headers |= {"authorization": f"Bearer {keys[key]}"} if key else {}
                return await http.request(method, path, headers=headers, **options)

            try:
                return await work(ask)
            finally:
                index.close()

    return asyncio.run(everything())
