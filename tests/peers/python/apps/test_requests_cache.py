"""requests-cache in front of an HTTP server on loopback."""

import http.server
import threading
from contextlib import contextmanager
from datetime import timedelta

import requests_cache
from requests_cache import CachedSession, RedisCache

from both import Application

APPLICATION = Application(
    "requests-cache", ["requests-cache", "requests", "redis"],
    "responses of 1 byte to 5 MB, expiry, stale and not modified, headers, redirects, delete, filter, "
    "clear, by a local HTTP server",
)


# Stale responses stay this much longer, for when the website fails.
STALE_S = 3600


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/size/100")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.headers.get("If-None-Match") == '"tag"':
            self.send_response(304)
            self.end_headers()
            return
        kind, _, number = self.path[1:].partition("/")
        status = int(number) if kind == "status" else 200
        size = int(number) if kind == "size" else 10
        body = bytes(i % 251 for i in range(min(size, 5_000))) * (size // 5_000 or 1)
        self.send_response(status)
        if kind == "tagged":
            self.send_header("ETag", '"tag"')
        if kind == "header":
            self.send_header("Cache-Control", f"max-age={number}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def website():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.asked
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


def responses(server, note):
    backend = RedisCache("web", host="127.0.0.1", port=server.port, db=6)
    with website() as (url, asked), CachedSession(
        backend=backend, expire_after=300, allowable_codes=(200, 404), stale_if_error=True,
        urls_expire_after={"*/short/*": 40, "*/never": requests_cache.NEVER_EXPIRE,
                           "*/not": requests_cache.DO_NOT_CACHE},
    ) as session:
        for size in (1, 100, 5_000, 300_000, 5_000_000):
            answers = [session.get(f"{url}/size/{size}") for _ in range(2)]
            note(f"{size} bytes", ([a.from_cache for a in answers],
                                   answers[0].content == answers[1].content,
                                   len(answers[1].content)), ([False, True], True, size))
        note("asked once each", len(asked), 5)
        moved = [session.get(f"{url}/moved") for _ in range(2)]
        note("moved", ([m.from_cache for m in moved], [len(m.history) for m in moved]))
        note("not found", [session.get(f"{url}/status/404").from_cache for _ in range(2)],
             [False, True])
        note("an error is not kept", [session.get(f"{url}/status/500").from_cache
                                      for _ in range(2)], [False, False])
        session.get(f"{url}/short/1")
        for path, seconds in (("/short/1", 40), ("/size/100", 300)):
            answer = session.get(url + path)
            note.ttl(f"expiry of {path}", note.direct(db=6).ttl(f"web:{answer.cache_key}"),
                     seconds + STALE_S)
        session.get(f"{url}/never")
        answer = session.get(f"{url}/never")
        note("never expires", (answer.from_cache, note.direct(db=6).ttl(f"web:{answer.cache_key}")))
        note("not kept", [session.get(f"{url}/not").from_cache for _ in range(2)], [False, False])
        session.get(f"{url}/tagged")
        note("not modified", session.get(f"{url}/tagged", refresh=True).from_cache, True)
        note("only if cached", session.get(f"{url}/unknown", only_if_cached=True).status_code, 504)
        session.post(f"{url}/size/7")
        note("contains", (session.cache.contains(url=f"{url}/size/100"),
                          session.cache.contains(url=f"{url}/size/9")), (True, False))
        note("filter", len(list(session.cache.filter())))
        note("urls", sorted(u.removeprefix(url) for u in session.cache.urls()))
        session.cache.delete(urls=[f"{url}/size/100"])
        note("deleted", session.cache.contains(url=f"{url}/size/100"), False)
        session.cache.delete(expired=True)
        note("how many", (len(session.cache.responses), len(session.cache.redirects)))
        session.cache.clear()
        note("clear", (len(session.cache.responses), len(session.cache.redirects)), (0, 0))
        note("asked anew", session.get(f"{url}/size/100").from_cache, False)


def many_at_once(server, note):
    backend = RedisCache("web", host="127.0.0.1", port=server.port, db=6)
    with website() as (url, asked), CachedSession(
        backend=backend, expire_after=timedelta(minutes=5)
    ) as session:
        lengths = []

        def work(number):
            for size in range(1, 30):
                lengths.append(len(session.get(f"{url}/size/{size}").content) == size)

        workers = [threading.Thread(target=work, args=(n,)) for n in range(5)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        note("all right", (len(lengths), all(lengths)), (145, True))
        note("kept", len(session.cache.responses), 29)


def dictionaries(server, note):
    """The two mappings it is made of are public, too: keys, and a hash."""
    for kind in ("RedisDict", "RedisHashDict"):
        mapping = getattr(requests_cache, kind)("mapping", host="127.0.0.1", port=server.port)
        mapping["a"] = "one"
        mapping["b"] = "two"
        mapping["large"] = "x" * 2_000_000
        note(f"{kind}: values", sorted((k, len(v)) for k, v in mapping.items()),
             [("a", 3), ("b", 3), ("large", 2_000_000)])
        note.raises(f"{kind}: absent", lambda mapping=mapping: mapping["absent"])
        mapping.bulk_delete(["a", "absent"])
        note(f"{kind}: keys", sorted(mapping.keys()), ["b", "large"])
        del mapping["b"]
        note(f"{kind}: length", len(mapping), 1)
        mapping.clear()
        note(f"{kind}: clear", list(mapping), [])


def test_responses(both):
    both.run(responses)


def test_many_at_once(both):
    both.run(many_at_once)


def test_dictionaries(both):
    both.run(dictionaries)
