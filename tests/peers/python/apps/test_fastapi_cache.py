"""fastapi-cache before an application that hypercorn serves on loopback."""

import asyncio
import json
import socket
import urllib.request

import fastapi
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from hypercorn.asyncio import serve
from hypercorn.config import Config
from redis import asyncio as aioredis

from both import Application, asynchronous

APPLICATION = Application(
    "fastapi-cache", ["fastapi-cache2", "fastapi", "redis"],
    "cached routes over HTTP with Cache-Control and ETag, cached functions, the backend's own calls, "
    "clear by namespace and key",
)


def shop(made):
    app = fastapi.FastAPI()

    @app.get("/article/{number}")
    @cache(expire=120, namespace="articles")
    async def article(number: int):
        made.append(number)
        return {"number": number, "text": "x" * 200_000}

    @cache(expire=60, namespace="functions")
    async def price(number: int) -> dict:
        made.append(-number)
        return {"price": number * 2}

    app.state.price = price
    return app


@asynchronous
async def routes(server, note):
    client = aioredis.Redis(host="127.0.0.1", port=server.port, db=8)
    FastAPICache.reset()
    FastAPICache.init(RedisBackend(client), prefix="shop")
    made, stop = [], asyncio.Event()
    app, listener = shop(made), socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = Config()
    config.bind, config.errorlog = [f"fd://{listener.fileno()}"], None
    web = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))

    def ask(path, **headers):
        request = urllib.request.Request(url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, json.loads(reply.read())["number"], dict(reply.headers)
        except urllib.error.HTTPError as error:
            return error.code, None, dict(error.headers)

    answers = [await asyncio.to_thread(ask, f"/article/{number}") for number in (1, 2, 1, 1)]
    note("answers", [(status, number) for status, number, _ in answers],
         [(200, 1), (200, 2), (200, 1), (200, 1)])
    note("made once each", made, [1, 2])
    note("hit or miss", [headers["x-fastapi-cache"] for _, _, headers in answers],
         ["MISS", "MISS", "HIT", "HIT"])
    age = int(answers[2][2]["cache-control"].removeprefix("max-age="))
    note.ttl("max-age", age, 120)
    tag = answers[2][2]["etag"]
    note("an ETag", tag)
    again = await asyncio.to_thread(ask, "/article/1", **{"If-None-Match": tag})
    note("not modified", again[0], 304)
    fresh = await asyncio.to_thread(ask, "/article/1", **{"Cache-Control": "no-cache"})
    note("no-cache", (fresh[:2], made), ((200, 1), [1, 2, 1]))
    note("a function", [await app.state.price(5), await app.state.price(5), made[-2:]],
         [{"price": 10}, {"price": 10}, [1, -5]])
    note("clear a namespace", await FastAPICache.clear(namespace="articles"), None)
    note("made anew", ((await asyncio.to_thread(ask, "/article/2"))[1], made[-1]), (2, 2))
    note("nothing left to clear", await FastAPICache.clear(namespace="absent"), None)

    backend = FastAPICache.get_backend()
    await backend.set("key", b"value", 90)
    seconds, value = await backend.get_with_ttl("key")
    note.ttl("get_with_ttl", seconds, 90)
    note("value", (value, await backend.get("absent")), (b"value", None))
    note("absent", await backend.get_with_ttl("absent"), [-2, None])
    note("clear a key", (await backend.clear(key="key"), await backend.get("key")), (1, None))
    stop.set()
    await web
    await client.aclose()


def test_routes(both):
    both.run(routes)
