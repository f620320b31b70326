"""limits, the rate limiter of Flask-Limiter and slowapi: all its strategies."""

import threading

from limits import RateLimitItemPerHour, RateLimitItemPerMinute, storage, strategies

from both import Application

APPLICATION = Application(
    "limits (rate limiter)", ["limits", "redis"],
    "fixed window, sliding window counter, moving window; hit, test, stats, clear, threads",
)


def storage_of(server):
    return storage.RedisStorage(f"redis://127.0.0.1:{server.port}/7")


def use(limiter, note):
    """What a limiter of five in an hour says to nine requests of one user, and to another."""
    five = RateLimitItemPerHour(5)
    name = type(limiter).__name__
    note(f"{name}: test", limiter.test(five, "user"), True)
    note(f"{name}: nine hits", [limiter.hit(five, "user") for _ in range(9)], [True] * 5 + [False] * 4)
    note(f"{name}: another user", limiter.hit(five, "another"), True)
    note(f"{name}: tested", limiter.test(five, "user"), False)
    note(f"{name}: remaining", (limiter.get_window_stats(five, "user").remaining,
                                limiter.get_window_stats(five, "another").remaining), (0, 4))
    limiter.clear(five, "user")
    note(f"{name}: cleared", limiter.hit(five, "user"), True)
    note(f"{name}: a hit that costs", limiter.hit(five, "user", cost=4), True)
    note(f"{name}: no more", limiter.hit(five, "user"), False)


def fixed(server, note):
    limiter = strategies.FixedWindowRateLimiter(storage_of(server))
    use(limiter, note)
    note("storage", (limiter.storage.check(), limiter.storage.incr("plain", 60, amount=3)),
         (True, 3))
    note.ttl("ttl", note.direct(db=7).ttl("LIMITS:plain"), 60)
    note("reset", limiter.storage.reset())


def sliding(server, note):
    use(strategies.SlidingWindowCounterRateLimiter(storage_of(server)), note)


def threads(server, note):
    limiter = strategies.FixedWindowRateLimiter(storage_of(server))
    hundred, allowed = RateLimitItemPerMinute(100, 60), []

    def work():
        for _ in range(30):
            allowed.append(limiter.hit(hundred, "all"))

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    note("a hundred of 180", (sum(allowed), len(allowed)), (100, 180))


def moving(server, note):
    limiter = strategies.MovingWindowRateLimiter(storage_of(server))
    try:
        said = limiter.hit(RateLimitItemPerHour(5), "user")
    except Exception as error:
        said = type(error).__name__
    note("moving window", said)


def test_fixed(both):
    both.run(fixed)


def test_sliding(both):
    both.run(sliding)


def test_threads(both):
    both.run(threads)


def test_moving(both):
    both.run(moving, differs={
        "moving window": "it needs lists (LPUSH in a script), which Scatterhoard does not have: an "
                         "error",
    })
