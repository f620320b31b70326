"""The Celery application, and its worker: broker in a folder, results in Redis."""

import os
import time

from celery import Celery

folder, port = os.environ["CELERY_FOLDER"], os.environ["CELERY_RESULTS_PORT"]

app = Celery("work", broker="filesystem://", backend=f"redis://127.0.0.1:{port}/5")
app.conf.update(
    broker_transport_options={
        "data_folder_in": folder, "data_folder_out": folder, "control_folder": folder,
        "polling_interval": 0.01,
    },
    result_expires=600, task_track_started=True, broker_connection_retry_on_startup=True,
    redis_socket_timeout=30, worker_hijack_root_logger=False,
)


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
