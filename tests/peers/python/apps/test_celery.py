"""Celery's result backend: a worker process puts results, we hear of them by pub/sub."""

import contextlib
import importlib
import os
import pathlib
import signal
import subprocess
import sys

from celery import chain, chord, group
from celery.exceptions import TimeoutError as NotInTime
from celery.result import GroupResult

from both import Application
from servers import RedisServer

APPLICATION = Application(
    "Celery result backend", ["celery", "kombu", "redis"],
    "a worker process; results awaited by pub/sub, states, failures, retries, groups, chains, "
    "4 MB results, expiry, forget",
)
RUN = "import celery_worker; celery_worker.run_worker()"
LIMIT_S = 60


@contextlib.contextmanager
def working(server):
    """The tasks, with a worker process that has the same settings, and a broker for both."""
    broker = RedisServer()
    os.environ.update(CELERY_BROKER=f"redis://127.0.0.1:{broker.port}",
                      CELERY_RESULTS=f"redis://127.0.0.1:{server.port}/5")
    sys.modules.pop("celery_worker", None)
    tasks = importlib.import_module("celery_worker")
    said = pathlib.Path(broker.folder) / "worker-log"
    with open(said, "wb") as log:
        worker = subprocess.Popen([sys.executable, "-c", RUN], cwd=pathlib.Path(__file__).parent,
                                  stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield tasks
    except BaseException:
        print(said.read_text())
        raise
    finally:
        tasks.app.backend.result_consumer.stop()
        tasks.app.close()
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(30)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        broker.stop()


def results(server, note):
    with working(server) as tasks:
        result = tasks.add.delay(2, 3)
        note("a result", result.get(timeout=LIMIT_S), 5)
        note("its state", (result.state, result.successful(), result.ready()),
             ("SUCCESS", True, True))
        note.ttl("its expiry", note.direct(db=5).ttl(f"celery-task-meta-{result.id}"), 600)
        many = [tasks.add.delay(i, i) for i in range(40)]
        note("forty at once", [one.get(timeout=LIMIT_S) for one in many], list(range(0, 80, 2)))
        for size in (1, 10_000, 4_000_000):
            body = tasks.make.delay(size).get(timeout=LIMIT_S)
            note(f"{size} bytes", body == bytes(range(256)) * (size // 256 + 1), True)
        failed = tasks.fail.delay("on purpose")
        note.raises("a failure", failed.get, timeout=LIMIT_S)
        note("its state is", (failed.state, failed.failed()), ("FAILURE", True))
        note("a traceback", "ValueError: on purpose" in failed.traceback, True)
        note("a retry", tasks.third_time.delay().get(timeout=LIMIT_S), 2)
        slow, heard = tasks.slow.delay(), []
        note("awaited", slow.get(timeout=LIMIT_S, on_message=lambda m: heard.append(m["status"])),
             "done")
        note("heard last", heard[-1], "SUCCESS")
        note("a result nobody keeps", tasks.forgotten.delay().get(timeout=LIMIT_S), None)
        note.raises("in vain", tasks.app.AsyncResult("no such task").get, timeout=0.2)
        note("unknown", tasks.app.AsyncResult("no such task").state, "PENDING")
        result.forget()
        note("forgotten", tasks.app.AsyncResult(result.id).state, "PENDING")
        note("a chain", chain(tasks.add.s(1, 2), tasks.add.s(10), tasks.add.s(100))()
             .get(timeout=LIMIT_S), 113)
        asked = group(tasks.add.s(i, 1) for i in range(10))()
        note("a group", asked.get(timeout=LIMIT_S), list(range(1, 11)))
        asked.save()
        note("restored", GroupResult.restore(asked.id, app=tasks.app).get(timeout=LIMIT_S),
             list(range(1, 11)))
        asked.delete()
        note("a chord",
             outcome(chord([tasks.add.s(i, i) for i in range(5)], tasks.total.s())()))
        note("deleted", GroupResult.restore(asked.id, app=tasks.app), None)


def outcome(asked):
    try:
        return asked.get(timeout=5)
    except NotInTime:
        return "nothing in time"
    except Exception as error:
        return type(error).__name__


def test_results(both):
    both.run(results, differs={
        "a chord": "its parts are counted in a sorted set (ZADD), which Scatterhoard does not have: "
                   "its body is never called",
    })
