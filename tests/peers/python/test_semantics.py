"""What Redis promises about keys: each test holds on redis-server and on scatterhoard."""

import random
import threading
import time

import pytest
import redis


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def c(either, request):
    with either.client(protocol=request.param) as client:
        yield client


def test_set_conditions(c):
    assert c.set("k", "1", nx=True) is True
    assert c.set("k", "2", nx=True) is None
    assert c.get("k") == b"1"
    assert c.set("absent", "1", xx=True) is None
    assert c.exists("absent") == 0
    assert c.set("k", "3", xx=True) is True
    assert c.set("k", "4", get=True) == b"3"
    assert c.set("fresh", "5", get=True) is None
    assert c.get("fresh") == b"5"
    assert c.set("k", "6", nx=True, get=True) == b"4"
    assert c.get("k") == b"4"


def test_set_and_expiry(c):
    c.set("k", "v", ex=100)
    assert 98 <= c.ttl("k") <= 100
    c.set("k", "v2", keepttl=True)
    assert 98 <= c.ttl("k") <= 100
    c.set("k", "v3")
    assert c.ttl("k") == -1
    c.set("k", "v", px=100_500)
    assert 98_000 < c.pttl("k") <= 100_500
    at = int(time.time()) + 1_000
    c.set("k", "v", exat=at)
    assert c.expiretime("k") == at
    c.set("k", "v", pxat=at * 1_000 + 7)
    assert c.pexpiretime("k") == at * 1_000 + 7
    assert c.ttl("absent") == -2


def test_expired_keys_are_gone(c):
    for index in range(50):
        c.set(f"short:{index}", bytes(300_000 if index % 10 == 0 else 100), px=150)
        c.set(f"long:{index}", "stays", ex=1_000)
    time.sleep(0.3)
    assert all(c.get(f"short:{index}") is None for index in range(25))
    assert c.exists(*[f"short:{index}" for index in range(50)]) == 0
    assert sorted(c.scan_iter(match="short:*")) == []
    deadline = time.monotonic() + 10  # the active cycle finds the ones that nobody asked for
    while c.dbsize() != 50:
        assert time.monotonic() < deadline, c.dbsize()
        time.sleep(0.05)


def test_an_expired_key_may_be_set_anew(c):
    c.set("k", "old", px=50)
    time.sleep(0.1)
    assert c.set("k", "new", nx=True) is True
    assert c.get("k") == b"new"
    assert c.ttl("k") == -1


def test_expire_and_persist(c):
    c.set("k", "v")
    assert c.expire("k", 100) is True
    assert c.expire("k", 50, gt=True) is False
    assert c.expire("k", 200, gt=True) is True
    assert c.expire("k", 300, lt=True) is False
    assert c.expire("k", 50, nx=True) is False
    assert c.persist("k") is True
    assert c.persist("k") is False
    assert c.expire("k", 50, xx=True) is False
    assert c.expire("absent", 50) is False
    assert c.expire("k", -1) is True
    assert c.exists("k") == 0


def test_getdel_and_getex(c):
    c.set("k", "v")
    assert c.getex("k", ex=100) == b"v"
    assert 98 <= c.ttl("k") <= 100
    assert c.getex("k", persist=True) == b"v"
    assert c.ttl("k") == -1
    assert c.getdel("k") == b"v"
    assert c.getdel("k") is None


def test_flushall_leaves_nothing(c):
    for index in range(100):
        c.set(f"k{index}", bytes(index * 100))
    assert c.dbsize() == 100
    assert c.flushall() is True
    assert c.dbsize() == 0
    assert all(c.get(f"k{index}") is None for index in range(100))
    c.set("k1", "after")
    assert c.get("k1") == b"after"


def test_scan_with_match_and_count(c):
    keys = {b"user:%d" % i for i in range(300)} | {b"item:%d" % i for i in range(300)}
    for key in keys:
        c.set(key, "v")
    assert set(c.scan_iter()) == keys
    assert set(c.scan_iter(count=1)) == keys
    assert set(c.scan_iter(match="user:*", count=37)) == {k for k in keys if k.startswith(b"user")}
    assert set(c.scan_iter(match="item:[12]?")) == {b"item:%d" % i for i in range(10, 30)}
    assert set(c.scan_iter(_type="string")) == keys


def test_scan_finds_every_key_that_stays(either, c):
    """Keys that exist from begin to end are all returned, whatever comes and goes meanwhile."""
    stable = {b"stable:%d" % i for i in range(1_000)}
    for key in stable:
        c.set(key, "v")
    done = threading.Event()

    def churn():
        rng = random.Random(1)
        with either.client() as other:
            while not done.is_set():
                key = b"churn:%d" % rng.randrange(3_000)
                other.delete(key) if rng.random() < 0.4 else other.set(key, "x")

    thread = threading.Thread(target=churn, daemon=True)
    thread.start()
    try:
        for _ in range(5):
            assert stable <= set(c.scan_iter(count=23))
    finally:
        done.set()
        thread.join(30)


def test_a_wrong_cursor_is_an_error(c):
    with pytest.raises(redis.ResponseError, match="invalid cursor"):
        c.execute_command("SCAN", "x")


def test_concurrent_clients_never_see_a_mixture(either):
    """Each value names its writer throughout: a read gives one of them, whole."""
    size, turns = 600_000, 25
    with either.client() as first:
        first.set("shared", bytes(size))
    failures = []

    def work(number):
        with either.client() as client:
            for _ in range(turns):
                client.set("shared", bytes([number]) * size)
                read = client.get("shared")
                if read is None or len(read) != size or read.count(read[:1]) != size:
                    failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
