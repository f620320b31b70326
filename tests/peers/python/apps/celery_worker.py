"""The Celery application, and its worker: the broker is another Redis than the results."""

import os
import time

from celery import Celery

app = Celery("work", broker=os.environ["CELERY_BROKER"], backend=os.environ["CELERY_RESULTS"])
app.conf.update(result_expires=600, task_track_started=True, redis_socket_timeout=30,
                broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


@app.task
def add(x, y):
    return x + y


@app.task
def make(size):
    return bytes(range(256)) * (size // 256 + 1)


@app.task
def fail(text):
    raise ValueError(text)


@app.task(bind=True, max_retries=2)
def third_time(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(ignore_result=True)
def forgotten():
    return "nothing is kept of this"


@app.task(bind=True)
def slow(self):
    for percent in (50, 100):
        self.update_state(state="PROGRESS", meta={"percent": percent})
        time.sleep(0.02)
    return "done"


@app.task
def total(numbers):
    return sum(numbers)


def run_worker():
    app.Worker(pool="threads", concurrency=4, loglevel="WARNING", without_gossip=True,
               without_mingle=True, without_heartbeat=True, hostname="worker@peer").start()
