"""Flask-Caching in an application that is asked over HTTP by its own test client."""

import itertools
import threading

import flask
from flask_caching import Cache

from both import Application, bodies

APPLICATION = Application(
    "Flask-Caching", ["flask-caching", "cachelib", "flask", "redis"],
    "cached views, memoize and delete_memoized, get, set, add, inc and dec, *_many, clear by prefix",
)


def application(server):
    app = flask.Flask("shop")
    cache = Cache(app, config={
        "CACHE_TYPE": "RedisCache", "CACHE_REDIS_HOST": "127.0.0.1",
        "CACHE_REDIS_PORT": server.port, "CACHE_REDIS_DB": 2, "CACHE_KEY_PREFIX": "shop_",
        "CACHE_DEFAULT_TIMEOUT": 120,
    })
    return app, cache


def views(server, note):
    app, cache = application(server)
    made = itertools.count(1)

    @app.route("/page")
    @cache.cached(timeout=50, query_string=True)
    def page():
        return f"{next(made)}: {flask.request.args.get('q', '')}"

    @app.route("/large")
    @cache.cached(timeout=50)
    def large():
        return bytes([next(made) % 256]) * 2_000_000

    @cache.memoize(60)
    def price(article, currency="EUR"):
        return next(made), article, currency

    client = app.test_client()
    note("pages", [client.get(path).text for path in ("/page", "/page?q=a", "/page", "/page?q=a")],
         ["1: ", "2: a", "1: ", "2: a"])
    note("2 MB", client.get("/large").data == client.get("/large").data == b"\3" * 2_000_000, True)
    with app.app_context():
        note("memoized", [price(1), price(2), price(1), price(1, "USD"), price(2)],
             [(4, 1, "EUR"), (5, 2, "EUR"), (4, 1, "EUR"), (6, 1, "USD"), (5, 2, "EUR")])
        cache.delete_memoized(price, 1)
        note("one forgotten", [price(1), price(2)], [(7, 1, "EUR"), (5, 2, "EUR")])
        cache.delete_memoized(price)
        note("all forgotten", [price(1), price(2)], [(8, 1, "EUR"), (9, 2, "EUR")])
    with note.direct(db=2) as direct:
        note.ttl("a view's timeout", direct.ttl("shop_view//large"), 50)


def values(server, note):
    app, cache = application(server)
    with app.app_context():
        note("absent", cache.get("absent"), None)
        for body in bodies():
            cache.set(f"body:{len(body)}", body)
            note(f"{len(body)} bytes", cache.get(f"body:{len(body)}") == body, True)
        note("set", cache.set("a", {"x": [1, 2]}, timeout=30), True)
        note("get", cache.get("a"), {"x": [1, 2]})
        note("add", (cache.add("a", 2), cache.add("b", 3)), (False, True))
        note("has", (cache.has("a"), cache.has("absent")), (True, False))
        note("set_many", sorted(cache.set_many({"c": 1, "d": "two"})))
        note("get_many", cache.get_many("c", "d", "absent"), [1, "two", None])
        note("get_dict", cache.get_dict("c", "absent"), {"c": 1, "absent": None})
        note("inc", (cache.cache.inc("count"), cache.cache.inc("count", 4), cache.cache.dec("count")),
             (1, 5, 4))
        note("inc, read back", cache.get("count"), 4)
        note.raises("inc of an object", cache.cache.inc, "a")
        note("delete", (cache.delete("a"), cache.delete("a")), (True, False))
        note("delete_many", cache.delete_many("c", "d"))
        cache.set("forever", 1, timeout=0)
        with note.direct(db=2) as direct:
            note.ttl("no timeout", direct.ttl("shop_forever"), -1)
            note.ttl("the default", direct.ttl("shop_body:1"), 120)
            direct.set("not ours", 1)
            note("clear", cache.clear(), True)
            note("what is left", direct.keys("*"), [b"not ours"])


def threads(server, note):
    app, cache = application(server)
    with app.app_context():
        backend = cache.cache

    def work():
        for _ in range(25):
            backend.inc("count")

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    note("150 increments", backend.get("count"), 150)


def test_views(both):
    both.run(views)


def test_values(both):
    both.run(values)


def test_threads(both):
    both.run(threads)
