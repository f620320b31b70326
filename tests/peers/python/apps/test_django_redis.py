"""django-redis: what it has beyond Django's own cache, its locks above all."""

import threading

from django.core.cache import cache
from django_redis import get_redis_connection

from both import Application, bodies, large_body
from django_setup import cache_settings

APPLICATION = Application(
    "django-redis", ["django-redis", "django", "redis"],
    "nx, ttl, pttl, persist, expire, keys, iter_keys, delete_pattern, incr, compression, "
    "locks among threads; 120 MB",
)


def django_redis(server, **options):
    return cache_settings("django_redis.cache.RedisCache", server, OPTIONS=options)


def values(server, note):
    with django_redis(server):
        for body in bodies():
            cache.set(f"body:{len(body)}", body, timeout=300)
            note(f"{len(body)} bytes", cache.get(f"body:{len(body)}") == body, True)
        note("set", cache.set("a", {"x": 1}, timeout=100), True)
        note("set nx", cache.set("a", 2, nx=True), False)
        note.ttl("ttl", cache.ttl("a"), 100)
        note.ttl("pttl", cache.pttl("a") / 1000, 100)
        note("ttl of what is absent", cache.ttl("absent"), 0)
        note("persist", cache.persist("a"), True)
        note("ttl of what lasts", cache.ttl("a"), None)
        note("expire", (cache.expire("a", 50), cache.expire("absent", 50)), (True, False))
        note.ttl("after expire", cache.ttl("a"), 50)
        note("pexpire", cache.pexpire("a", 40_000), True)
        note.ttl("after pexpire", cache.ttl("a"), 40)
        cache.set("n", 10)
        note("incr", (cache.incr("n"), cache.incr("n", 5), cache.decr("n", 3)), (11, 16, 13))
        note.raises("incr what is absent", cache.incr, "absent")
        note("incr with a default", cache.incr("fresh", ignore_key_check=True), 1)
        cache.set("made", "an object")
        note("get_or_set", cache.get_or_set("made", "no"), "an object")
        note("touch", (cache.touch("made", 60), cache.touch("absent", 60)), (True, False))
        cache.set_many({f"many:{i}": i for i in range(50)}, timeout=60)
        note("get_many", cache.get_many([f"many:{i}" for i in range(60)]),
             {f"many:{i}": i for i in range(50)})
        note("add", (cache.add("n", 1), cache.add("new", 1)), (False, True))
        note("has_key", (cache.has_key("n"), cache.has_key("absent")), (True, False))
        note("delete", (cache.delete("new"), cache.delete("new")), (True, False))
        note("hset", cache.hset("hash", "field", {"of": "a hash"}), 1)
        note("hget", [cache.hlen("hash"), cache.hkeys("hash"), cache.hexists("hash", "field"),
                      cache.hdel("hash", "field"), cache.hlen("hash")],
             [1, ["field"], True, 1, 0])


def patterns(server, note):
    with django_redis(server):
        cache.set_many({f"user:{i}:page": i for i in range(300)} | {"other": 1})
        note("keys", sorted(cache.keys("user:1?:page")), [f"user:{i}:page" for i in range(10, 20)])
        note("iter_keys", len(set(cache.iter_keys("user:*", itersize=20))), 300)
        note("delete_pattern", cache.delete_pattern("user:*", itersize=50), 300)
        note("what is left", cache.keys("*"), ["other"])
        cache.clear()
        note("clear", cache.keys("*"), [])
        connection = get_redis_connection("default")
        note("raw connection", (connection.set("raw", b"1"), connection.get("raw")), (True, b"1"))


def compression(server, note):
    with django_redis(server, COMPRESSOR="django_redis.compressors.zlib.ZlibCompressor",
                      SERIALIZER="django_redis.serializers.json.JSONSerializer"):
        rows = [{"id": i, "name": f"name {i}"} for i in range(20_000)]
        cache.set("rows", rows, timeout=100)
        note("compressed JSON", cache.get("rows") == rows, True)
        note("its length", note.direct(db=1).strlen("site:1:rows"))


def locks(server, note):
    with django_redis(server):
        with cache.lock("lock", timeout=20) as lock:
            note("locked", (lock.locked(), lock.owned()), (True, True))
            other = cache.lock("lock", timeout=20, blocking_timeout=0.05)
            note("another", other.acquire(), False)
            note.raises("release of what is not owned", other.release)
            note("extend", lock.extend(10), True)
            note.ttl("extended", note.direct(db=1).ttl("site:1:lock"), 30)
            note("reacquire", lock.reacquire(), True)
            note.ttl("reacquired", note.direct(db=1).ttl("site:1:lock"), 20)
        note("released", lock.locked(), False)
        lock = cache.lock("lock", timeout=0.01)
        lock.acquire()
        while lock.locked():
            pass
        note.raises("release of what ended", lock.release)

        inside, most, total = [], [], []

        def work():
            for _ in range(5):
                with cache.lock("work", timeout=30, sleep=0.005):
                    inside.append(1)
                    most.append(len(inside))
                    cache.set("total", cache.get("total", 0) + 1)
                    inside.pop()
            total.append(1)

        workers = [threading.Thread(target=work) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        note("one at a time", (len(total), max(most), cache.get("total")), (6, 1, 30))


def one_large_value(server, note):
    with django_redis(server):
        body = large_body()
        cache.set("large", body, timeout=300)
        note("120 MB", cache.get("large") == body, True)
        note("deleted", cache.delete("large"), True)


def test_values(both):
    both.run(values)


def test_patterns(both):
    both.run(patterns)


def test_compression(both):
    both.run(compression)


def test_locks(both):
    both.run(locks)


def test_one_large_value(both):
    both.run(one_large_value)
