"""cashews: its Redis backend by way of keys, decorators, locks and rate limits."""

import asyncio

from cashews import Cache
from cashews.exceptions import LockedError, RateLimitError

from both import Application, asynchronous, bodies, large_body

APPLICATION = Application(
    "cashews", ["cashews", "redis"],
    "get, set with conditions, incr, *_many, expire, match and delete by pattern, @cache, early, "
    "soft, hit, failover, locked, rate limits, transactions; 120 MB",
)


async def cache_of(server, **more):
    cache = Cache()
    cache.setup(f"redis://127.0.0.1:{server.port}/4", client_side=False, suppress=False,
                socket_timeout=60, **more)
    await cache.init()
    return cache


@asynchronous
async def values(server, note):
    cache = await cache_of(server)
    note("ping", await cache.ping())
    note("absent", await cache.get("absent", "default"), "default")
    for body in bodies():
        await cache.set(f"body:{len(body)}", body, expire="5m")
        note(f"{len(body)} bytes", await cache.get(f"body:{len(body)}") == body, True)
    note("set", await cache.set("a", {"x": 1}, expire=30), True)
    note.ttl("its expiry", await cache.get_expire("a"), 30)
    note("set if there", (await cache.set("a", 2, exist=True), await cache.set("b", 2, exist=True)),
         (True, False))
    note("set if not there",
         (await cache.set("a", 3, exist=False), await cache.set("b", 3, exist=False)),
         (False, True))
    note("exists", (await cache.exists("a"), await cache.exists("absent")), (True, False))
    note("incr", [await cache.incr("n"), await cache.incr("n", 4), await cache.incr("m", expire=60)],
         [1, 5, 1])
    note.ttl("incr's expiry", await cache.get_expire("m"), 60)
    note("set_many", await cache.set_many({"c": 1, "d": "two"}, expire=60))
    note("get_many", await cache.get_many("c", "d", "absent", default=0), (1, "two", 0))
    await cache.expire("c", 500)
    note.ttl("expire", await cache.get_expire("c"), 500)
    note("delete", (await cache.delete("c"), await cache.delete("c")))
    for number in range(120):
        await cache.set(f"user:{number}:name", number, expire=100)
    note("scan", len([key async for key in cache.scan("user:1*:name")]), 31)
    note("get_match", sum([value async for _, value in cache.get_match("user:1?:name")]),
         sum(range(10, 20)))
    await cache.delete_match("user:*")
    note("delete_match", [key async for key in cache.scan("user:*")], [])
    note("raw", await cache.set_raw("raw", 5), True)
    note("get_raw", await cache.get_raw("raw"), b"5")
    note("bits", [await cache.incr_bits("bits", 0, 2, size=4),
                  await cache.get_bits("bits", 0, 1, 2, size=4)], [(1, 1), (1, 0, 1)])
    note("size", await cache.get_keys_count() > 5, True)
    await cache.clear()
    note("clear", await cache.get_keys_count(), 0)
    await cache.close()


@asynchronous
async def decorators(server, note):
    cache = await cache_of(server)
    calls = []

    @cache(ttl="1m", key="simple:{number}")
    async def simple(number):
        calls.append(("simple", number))
        return {"number": number}

    @cache.early(ttl="10m", early_ttl="5m", key="early:{number}")
    async def early(number):
        calls.append(("early", number))
        return number

    @cache.soft(ttl="10m", soft_ttl="5m", key="soft:{number}")
    async def soft(number):
        calls.append(("soft", number))
        return number

    @cache.hit(ttl="10m", cache_hits=3, key="hit:{number}")
    async def hit(number):
        calls.append(("hit", number))
        return number

    @cache.failover(ttl="10m", exceptions=(ValueError,), key="failover:{number}")
    async def failover(number):
        calls.append(("failover", number))
        if len(calls) > 100:
            raise ValueError("broken")
        return number

    for function in (simple, early, soft, hit, failover):
        note(function.__name__, [await function(1), await function(2), await function(1)])
    note("calls", sorted(calls), sorted([
        *((name, number) for name in ("simple", "early", "soft", "hit") for number in (1, 2)),
        ("failover", 1), ("failover", 2), ("failover", 1)]))
    calls.extend([()] * 100)
    note("a failure covered", await failover(1), 1)
    await cache.close()


@asynchronous
async def locks(server, note):
    cache = await cache_of(server)
    inside, most, done = [], [], []

    @cache.locked(ttl="30s", key="work", wait=True, check_interval=0.005)
    async def work():
        inside.append(1)
        most.append(len(inside))
        await asyncio.sleep(0.005)
        inside.pop()
        done.append(1)

    await asyncio.gather(*(work() for _ in range(15)))
    note("one at a time", (max(most), len(done)), (1, 15))

    begun, enough = asyncio.Event(), asyncio.Event()

    @cache.locked(ttl="30s", key="impatient", wait=False)
    async def impatient():
        begun.set()
        await enough.wait()
        return "done"

    first = asyncio.create_task(impatient())
    await begun.wait()
    said = await asyncio.gather(*(impatient() for _ in range(3)), return_exceptions=True)
    note("others do not wait", [type(one) for one in said], [LockedError] * 3)
    enough.set()
    note("the first goes on", await first, "done")
    async with cache.lock("plain", expire=20):
        note("locked", await cache.is_locked("plain"), True)
    note("unlocked", await cache.is_locked("plain"), False)
    note("set_lock", (await cache.set_lock("own", "me", 20), await cache.set_lock("own", "you", 20)),
         (True, False))
    note("unlock another's", await cache.unlock("own", "you"))
    note("still locked", await cache.is_locked("own"), True)
    note("unlock one's own", await cache.unlock("own", "me"))
    note("not locked", await cache.is_locked("own"), False)

    @cache.rate_limit(limit=3, period="1m", key="fixed")
    async def limited():
        return "ok"

    said = []
    for _ in range(5):
        try:
            said.append(await limited())
        except RateLimitError as error:
            said.append(type(error).__name__)
    note("three in a minute", said, ["ok", "ok", "ok", "RateLimitError", "RateLimitError"])
    async with cache.transaction() as transaction:
        await cache.set("in it", 1)
        await cache.incr("count")
        await transaction.commit()
    note("committed", (await cache.get("in it"), await cache.get("count")), (1, 1))
    async with cache.transaction() as transaction:
        await cache.set("in it", 2)
        await transaction.rollback()
    note("rolled back", await cache.get("in it"), 1)
    await cache.close()


@asynchronous
async def sets(server, note):
    """What cashews keeps in sets and sorted sets."""
    cache = await cache_of(server)

    @cache(ttl="1m", key="tagged:{number}", tags=["numbers"])
    async def tagged(number):
        return number

    @cache.slice_rate_limit(limit=3, period="1m", key="sliding")
    async def sliding():
        return "ok"

    @cache.circuit_breaker(errors_rate=50, period="1m", ttl="1m", min_calls=1, key="breaker")
    async def breaker():
        return "ok"

    async def outcome(awaitable):
        try:
            return await awaitable
        except Exception as error:
            return type(error).__name__

    note("tags", await outcome(tagged(1)))
    note("a sliding rate limit", [await outcome(sliding()) for _ in range(4)])
    note("a circuit breaker", await outcome(breaker()))
    await cache.close()


@asynchronous
async def one_large_value(server, note):
    cache = await cache_of(server)
    body = large_body()
    await cache.set("large", body, expire=100)
    note("120 MB", await cache.get("large") == body, True)
    await cache.delete("large")
    await cache.close()


def test_values(both):
    both.run(values)


def test_decorators(both):
    both.run(decorators)


def test_locks(both):
    both.run(locks)


def test_sets(both):
    both.run(sets, differs={
        "tags": "they need sets (SADD), which Scatterhoard does not have: an error",
        "a sliding rate limit": "it needs sorted sets (ZADD in a script): an error",
        "a circuit breaker": "it needs sorted sets (ZADD in a script): an error",
    })


def test_one_large_value(both):
    both.run(one_large_value)
