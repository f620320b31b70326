"""Django's own Redis cache: low-level API, per-view cache, and sessions."""

import threading

from django.core.cache import cache, caches
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from django.views.decorators.cache import cache_page

from both import Application, bodies, large_body
from django_setup import cache_settings

APPLICATION = Application(
    "Django cache", ["django", "redis"],
    "get, set, add, touch, get_or_set, *_many, incr and decr, versions, timeouts, threads; "
    "cache_page; sessions; 120 MB",
)

def django_cache(server, **more):
    return cache_settings("django.core.cache.backends.redis.RedisCache", server, **more)


def values(server, note):
    with django_cache(server):
        note("absent", cache.get("absent", "default"), "default")
        for body in bodies():
            cache.set(f"body:{len(body)}", body, timeout=300)
            note(f"{len(body)} bytes", cache.get(f"body:{len(body)}") == body, True)
        made = {"text": "grüße", "list": [1, 2.5, None], "set": {3, 4}}
        cache.set("object", made)
        note("object", cache.get("object"), made)
        note("a number", (cache.set("n", 5), cache.get("n")), (None, 5))
        note("add to one that is there", cache.add("n", 6), False)
        note("add", cache.add("m", 6, timeout=100), True)
        note("incr", cache.incr("n"), 6)
        note("decr", cache.decr("n", 4), 2)
        note.raises("incr what is absent", cache.incr, "absent")
        note.raises("incr an object", cache.incr, "object")
        note("get_or_set", cache.get_or_set("made", lambda: "once", 100), "once")
        note("get_or_set again", cache.get_or_set("made", lambda: "twice", 100), "once")
        note("set_many", cache.set_many({"a": 1, "b": "two", "c": b"3"}, timeout=100), [])
        note("get_many", cache.get_many(["a", "b", "c", "d"]), {"a": 1, "b": "two", "c": b"3"})
        cache.set_many({"e": 1, "f": 2}, timeout=None)
        note("set_many without timeout", cache.get_many(["e", "f"]), {"e": 1, "f": 2})
        note("has_key", ("a" in cache, "d" in cache), (True, False))
        note("delete", (cache.delete("a"), cache.delete("a")), (True, False))
        cache.delete_many(["b", "c"])
        note("delete_many", cache.get_many(["b", "c"]), {})
        cache.set("versioned", "one")
        note("incr_version", cache.incr_version("versioned"), 2)
        note("another version", (cache.get("versioned"), cache.get("versioned", version=2)),
             (None, "one"))
        cache.clear()
        note("clear", cache.get_many(["n", "m", "object"]), {})


def timeouts(server, note):
    with django_cache(server, TIMEOUT=200), note.direct(db=1) as client:
        cache.set("default", 1)
        note.ttl("the cache's own", client.ttl("site:1:default"), 200)
        cache.set("own", 1, timeout=77)
        note.ttl("the value's own", client.ttl("site:1:own"), 77)
        cache.set("forever", 1, timeout=None)
        note.ttl("none", client.ttl("site:1:forever"), -1)
        note("touch", (cache.touch("own", 500), cache.touch("absent", 500)), (True, False))
        note.ttl("after touch", client.ttl("site:1:own"), 500)
        note("touch to none", cache.touch("own", None), True)
        note.ttl("after touch to none", client.ttl("site:1:own"), -1)
        cache.set("gone", 1, timeout=0)
        note("a timeout of zero", cache.get("gone"), None)
        cache.set("short", 1, timeout=1)
        client.pexpire("site:1:short", 1)
        while client.exists("site:1:short"):
            pass
        note("expired", cache.get("short"), None)


def threads(server, note):
    with django_cache(server):
        cache.set("count", 0)
        won = []

        def work(number):
            for _ in range(20):
                caches["default"].incr("count")
            if caches["default"].add("only-one", number):
                won.append(number)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        note("160 increments", cache.get("count"), 160)
        note("one of eight adds", len(won), 1)


def pages_and_sessions(server, note):
    with django_cache(server), override_settings(
        SESSION_ENGINE="django.contrib.sessions.backends.cache"
    ):
        made = []

        @cache_page(60)
        def page(request):
            made.append(request.path)
            return HttpResponse("x" * 50_000)

        factory = RequestFactory()
        answers = [page(factory.get("/page")).content for _ in range(3)]
        note("pages", (answers == [b"x" * 50_000] * 3, made), (True, ["/page"]))

        from django.contrib.sessions.backends.cache import SessionStore
        session = SessionStore()
        session["cart"] = list(range(100))
        session.set_expiry(90)
        session.save()
        again = SessionStore(session_key=session.session_key)
        note("session", again["cart"], list(range(100)))
        note("session exists", again.exists(session.session_key), True)
        again.cycle_key()
        note("an old session", SessionStore(session_key=session.session_key).get("cart"), None)
        again.flush()
        note("a flushed session", SessionStore(session_key=again.session_key).get("cart"), None)


def one_large_value(server, note):
    with django_cache(server):
        body = large_body()
        cache.set("large", body, timeout=300)
        note("120 MB", cache.get("large") == body, True)
        note("deleted", cache.delete("large"), True)


def test_values(both):
    both.run(values)


def test_timeouts(both):
    both.run(timeouts)


def test_threads(both):
    both.run(threads)


def test_pages_and_sessions(both):
    both.run(pages_and_sessions)


def test_one_large_value(both):
    both.run(one_large_value)
