"""dogpile.cache: regions over Redis, with its distributed lock."""

import threading
import time

from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE

from both import Application, bodies, large_body

APPLICATION = Application(
    "dogpile.cache", ["dogpile.cache", "redis"],
    "get, set, *_multi, get_or_create with the distributed lock among threads, cache_on_arguments, "
    "refresh, invalidation; 120 MB",
)


def region_of(server, **more):
    return make_region(key_mangler=lambda key: f"dogpile:{key}").configure(
        "dogpile.cache.redis", expiration_time=3600,
        arguments={"host": "127.0.0.1", "port": server.port, "db": 3, "distributed_lock": True,
                   "redis_expiration_time": 7200, "lock_timeout": 30, "lock_sleep": 0.005,
                   "thread_local_lock": False, **more},
    )


def values(server, note):
    region = region_of(server)
    note("absent", region.get("absent") is NO_VALUE, True)
    for body in bodies():
        region.set(f"body:{len(body)}", body)
        note(f"{len(body)} bytes", region.get(f"body:{len(body)}") == body, True)
    with note.direct(db=3) as direct:
        note.ttl("ttl", direct.ttl("dogpile:body:1"), 7200)
    region.set_multi({"a": 1, "b": {"two": 2}, "c": None})
    note("get_multi", [v if v is not NO_VALUE else "no value"
                       for v in region.get_multi(["a", "b", "c", "d"])],
         [1, {"two": 2}, None, "no value"])
    region.delete("a")
    note("deleted", region.get("a") is NO_VALUE, True)
    region.delete_multi(["b", "c"])
    note("all deleted", region.get_multi(["b", "c"]) == [NO_VALUE, NO_VALUE], True)
    made = []

    @region.cache_on_arguments()
    def slow(x, y):
        made.append((x, y))
        return x * y

    note("made", [slow(2, 3), slow(2, 4), slow(2, 3)], [6, 8, 6])
    note("made once each", made, [(2, 3), (2, 4)])
    slow.invalidate(2, 3)
    note("made again", (slow(2, 3), len(made)), (6, 3))
    note("refresh", (slow.refresh(2, 4), len(made)), (8, 4))
    slow.set(100, 2, 3)
    note("set", slow(2, 3), 100)
    note("get_or_create_multi", region.get_or_create_multi(["m1", "m2"], lambda *keys: list(keys)),
         ["m1", "m2"])
    region.invalidate()
    note("the region is invalid", region.get("m1") is NO_VALUE, True)


def one_creator(server, note):
    region = region_of(server)
    made, read = [], []

    def create():
        made.append(1)
        time.sleep(0.05)
        return "dear"

    def work():
        read.append(region.get_or_create("key", create))

    workers = [threading.Thread(target=work) for _ in range(12)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    note("twelve readers", read, ["dear"] * 12)
    note("one creator", len(made), 1)
    mutex = region.backend.get_mutex("another")
    note("a mutex", mutex.acquire(), True)
    note("held", region.backend.get_mutex("another").acquire(wait=False), False)
    note("locked", mutex.locked(), True)
    mutex.release()
    note("released", mutex.locked(), False)
    note.raises("released twice", mutex.release)


def one_large_value(server, note):
    region = region_of(server)
    body = large_body()
    region.set("large", body)
    note("120 MB", region.get("large") == body, True)
    region.delete("large")


def test_values(both):
    both.run(values)


def test_one_creator(both):
    both.run(one_creator)


def test_one_large_value(both):
    both.run(one_large_value)
