"""redis-py's client-side cache (RESP3, CLIENT TRACKING): what it keeps is told to be old."""

import time

import pytest
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection


@pytest.fixture
def cached(either, monkeypatch):
    # It asks for Redis 7.4, but 7.0 has all that it uses.
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.0.0")
    with either.client(protocol=3, cache_config=CacheConfig(max_size=100)) as client:
        yield client


@pytest.fixture
def other(either):
    with either.client() as client:
        client.flushall()
        yield client


def entry(client, key):
    """What it keeps of a key."""
    kept = client.get_cache().collection.items()
    return next(entry for of, entry in kept if tuple(of.redis_keys) == (key,))


def soon(is_so):
    """The message and the writer's reply come on two connections, in any order."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline, "the copy stays old"
        time.sleep(0.001)


def test_a_copy_is_kept_until_the_key_changes(cached, other):
    other.set("k", "1")
    assert cached.get("k") == b"1"
    assert entry(cached, "k").cache_value == b"1"
    # Not asked for again: the copy is what is answered.
    entry(cached, "k").cache_value = b"the copy"
    assert cached.get("k") == b"the copy"
    for change in [
        lambda: other.set("k", "2"),
        lambda: other.delete("k"),
        lambda: other.set("k", "3"),
        lambda: other.append("k", "4"),
        lambda: other.pipeline(transaction=True).incr("k").execute(),
        lambda: other.eval("return redis.call('SET', KEYS[1], 'x')", 1, "k"),
        lambda: other.rename("k", "l"),
        lambda: other.flushall(),
    ]:
        cached.get("k")
        change()
        soon(lambda: cached.get("k") == other.get("k"))


def test_expiry_ends_a_copy(cached, other):
    other.set("k", "1", px=100)
    assert cached.get("k") == b"1"
    soon(lambda: cached.get("k") is None)


def test_several_keys_and_hashes(cached, other):
    other.mset({"a": 1, "b": 2})
    other.hset("h", mapping={"f": "v"})
    assert cached.mget("a", "b") == [b"1", b"2"]
    assert cached.hget("h", "f") == b"v"
    other.set("b", 3)
    other.hset("h", "f", "w")
    soon(lambda: cached.mget("a", "b") == [b"1", b"3"])
    soon(lambda: cached.hget("h", "f") == b"w")


def test_a_copy_of_its_own_write_is_fresh(cached, other):
    for value in [b"1", b"2", b"3"]:
        cached.set("k", value)
        assert cached.get("k") == value
