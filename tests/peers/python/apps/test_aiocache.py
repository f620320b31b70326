"""aiocache: its Redis cache, decorators, and both its locks."""

import asyncio

from aiocache import RedisCache, cached
from aiocache.lock import OptimisticLock, OptimisticLockError, RedLock
from aiocache.serializers import NullSerializer, PickleSerializer, StringSerializer

from both import Application, asynchronous, bodies, large_body

APPLICATION = Application(
    "aiocache", ["aiocache", "redis"],
    "get, set, add, multi_*, increment, expire, exists, clear by namespace, @cached, RedLock, "
    "OptimisticLock; 120 MB",
)


def cache_of(server, serializer=PickleSerializer, **more):
    return RedisCache(endpoint="127.0.0.1", port=server.port, namespace="app",
                      serializer=serializer(), timeout=60, **more)


@asynchronous
async def values(server, note):
    async with cache_of(server) as cache:
        note("absent", await cache.get("absent", "default"), "default")
        for body in bodies():
            note(f"set {len(body)} bytes", await cache.set(f"body:{len(body)}", body, ttl=100), True)
            note(f"get {len(body)} bytes", await cache.get(f"body:{len(body)}") == body, True)
        note("set", await cache.set("a", {"x": 1}, ttl=30), True)
        note.ttl("ttl", note.direct().ttl("app:a"), 30)
        note("half a second", await cache.set("half", 1, ttl=0.5), True)
        note("add", await cache.add("b", 1, ttl=30), True)
        await note.raises_async("add again", cache.add("b", 2))
        note("multi_set", await cache.multi_set([("c", 1), ("d", "two")], ttl=50), True)
        note("multi_get", await cache.multi_get(["c", "d", "absent"]), [1, "two", None])
        note.ttl("multi_set's ttl", note.direct().ttl("app:c"), 50)
        note("exists", (await cache.exists("c"), await cache.exists("absent")), (True, False))
        note("delete", (await cache.delete("c"), await cache.delete("c")), (1, 0))
        note("expire", (await cache.expire("d", 90), await cache.expire("absent", 90)),
             (True, False))
        note.ttl("expired later", note.direct().ttl("app:d"), 90)
        note("expire never", await cache.expire("d", 0), True)
        note.ttl("never", note.direct().ttl("app:d"), -1)
        note("raw", await cache.raw("set", "raw", "1"), True)
        note("clear a namespace", await cache.clear(namespace="app"), True)
        note("what is left", note.direct().keys("*"), [b"raw"])
        note("clear", await cache.clear(), True)
        note("nothing is left", note.direct().keys("*"), [])
    async with cache_of(server, NullSerializer) as cache:
        note("increment", [await cache.increment("n"), await cache.increment("n", 9),
                           await cache.increment("n", -4)], [1, 10, 6])
        await cache.set("word", "abc")
        await note.raises_async("increment a word", cache.increment("word"))


@asynchronous
async def decorated(server, note):
    made = []

    @cached(cache=RedisCache, endpoint="127.0.0.1", port=server.port, namespace="dec", ttl=60,
            serializer=PickleSerializer(), key_builder=lambda f, *a, **k: f"{f.__name__}:{a}")
    async def slow(number):
        made.append(number)
        return {"number": number, "body": b"x" * 500_000}

    first = [await slow(1), await slow(2), await slow(1)]
    note("values", [one["number"] for one in first], [1, 2, 1])
    note("made once each", made, [1, 2])
    await slow.cache.close()


@asynchronous
async def locks(server, note):
    async with cache_of(server, StringSerializer) as cache:
        made = []

        async def get_or_make():
            async with RedLock(cache, "lock", lease=30):
                if await cache.get("made") is None:
                    made.append(1)
                    await cache.set("made", "again")
                return await cache.get("made")

        # Who comes while it is held waits, and then finds the value.
        async with RedLock(cache, "lock", lease=30):
            waiting = [asyncio.create_task(get_or_make()) for _ in range(20)]
            await asyncio.sleep(0.05)
            note("they wait", any(one.done() for one in waiting), False)
            await cache.set("made", "once")
        note("all read it", await asyncio.gather(*waiting), ["once"] * 20)
        note("nobody else made it", made, [])
        note("the lock is gone", await cache.exists("lock-lock"), False)

        await cache.set("key", "first")
        async with OptimisticLock(cache, "key") as lock:
            note("compare and set", await lock.cas("second"), 1)
        async with OptimisticLock(cache, "key") as lock:
            await cache.set("key", "another's")
            error = await note.raises_async("compare and set too late", lock.cas("third"))
            note("its kind", isinstance(error, OptimisticLockError), True)
        note("the value", await cache.get("key"), "another's")


@asynchronous
async def one_large_value(server, note):
    async with cache_of(server) as cache:
        body = large_body()
        await cache.set("large", body, ttl=100)
        note("120 MB", await cache.get("large") == body, True)
        note("deleted", await cache.delete("large"), 1)


def test_values(both):
    both.run(values)


def test_decorated(both):
    both.run(decorated)


def test_locks(both):
    both.run(locks)


def test_one_large_value(both):
    both.run(one_large_value)
