"""The real zip in MiniStack, invoked by the real proxy through the real SDK.

MiniStack keeps an instance's process between invocations, starts another one when all are busy,
throttles, and reports a process that died, in Lambda's words. It does not freeze, and limits
neither memory nor payloads.
"""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import threading

import pytest
import redis

import emulators
from emulators import MiniStack, Proxy, Functions, until

OPERATIONS = emulators.ROOT / "docs/operations.md"
SIZES = [0, 1, 900, 70_000, 263_000, 3_000_000, 21_000_000]


def fill(client, seed, sizes=SIZES):
    rng = random.Random(seed)
    values = {f"value:{size}": rng.randbytes(size) for size in sizes}
    for key, value in values.items():
        client.set(key, value)
    return values


def verify(client, values):
    for key, value in values.items():
        read = client.get(key)
        assert read == value, f"{key}: {'nil' if read is None else 'WRONG BYTES'}"


def instances(functions):
    """How many processes each function has."""
    return {name: len(pids) for name, pids in functions.processes().items()}


def test_objects_of_all_sizes_come_back(proxy, functions):
    with proxy.client() as client:
        values = fill(client, seed=1)
        verify(client, values)
        middle = client.getrange("value:21000000", 9_999_000, 12_345_678)
        assert middle == values["value:21000000"][9_999_000:12_345_679]
        assert client.delete(*values) == len(values)
        assert client.get("value:3000000") is None
    assert proxy.outcomes()["ok"] > 0
    assert all(count >= 1 for count in instances(functions).values())


def test_many_at_once(proxy):
    failures = []

    def work(number):
        try:
            with proxy.client() as client:
                rng = random.Random(number)
                for i in range(10):
                    key, value = f"{number}:{i}", rng.randbytes(rng.randrange(1, 2_000_000))
                    client.set(key, value)
                    if client.get(key) != value:
                        failures.append(key)
        except redis.RedisError as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_a_second_instance_stands_by_and_takes_over(cloud, functions):
    proxy = Proxy(cloud, functions, more=["--backup-interval-s", "1"])
    with proxy.client() as client:
        values = fill(client, seed=2, sizes=[3_000_000, 21_000_000])
        # 3+2: five chunks of a third each
        stored = sum(map(len, values.values())) * 5 / 3
        # before the nodes are pinged for the first time, at which they are awake anyway
        until("all of it is on a second instance",
              lambda: proxy.metric("scatterhoard_backup_bytes_total") >= stored, limit_s=30)
        # a function without chunks has nothing to give to a second one
        twice = [pids for pids in functions.processes().values() if len(pids) >= 2]
        assert len(twice) >= 5
        # one instance of all of them at once: more than parity covers
        for pids in twice:
            os.kill(pids[0], signal.SIGKILL)
        verify(client, values)
        assert proxy.metric("scatterhoard_lost_objects_total") == 0
    proxy.stop()


def test_crashed_functions_are_repaired(cloud, functions):
    proxy = Proxy(cloud, functions, more=["--standby", "false"])
    with proxy.client() as client:
        values = fill(client, seed=3)
        # more than parity covers, one after the other, with time to repair
        for name in functions.names[:4]:
            repaired = proxy.metric("scatterhoard_repaired_chunks_total")
            for pid in functions.processes()[name]:
                os.kill(pid, signal.SIGKILL)
            until("what it had is somewhere else", lambda: was_repaired(proxy, client, values, repaired))
        verify(client, values)
        assert proxy.metric("scatterhoard_lost_objects_total") == 0
    proxy.stop()


def was_repaired(proxy, client, values, before):
    """Reads everything, and whether that led to repairs that are over."""
    verify(client, values)
    more = proxy.metric("scatterhoard_repaired_chunks_total") > before
    return more and proxy.metric("scatterhoard_repairs_waiting") == 0


def test_a_crash_in_the_middle_is_an_error_of_the_function(proxy, functions):
    with proxy.client() as client:
        values = fill(client, seed=4, sizes=[3_000_000])
        stop = threading.Event()

        def kill():
            while not stop.is_set():
                pids = functions.processes()[functions.names[0]]
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                stop.wait(0.05)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            until("an invocation failed with its function",
                  lambda: write(client, values) and proxy.outcomes().get("function", 0) > 0)
        finally:
            stop.set()
            killer.join()
        verify(client, values)


def write(client, values):
    """Writes again, so that all nodes are awake; whether it could be."""
    for key, value in values.items():
        client.set(key, value)
    return True


def test_new_code_is_new_instances_and_nothing_wrong_is_read(proxy, functions, tmp_path):
    with proxy.client() as client:
        values = fill(client, seed=5)
        first = functions.names[0]
        before = set(functions.processes()[first])
        changed = changed_zip(tmp_path)
        functions.api.update_function_code(FunctionName=first, ZipFile=changed)
        verify(client, values)
        write(client, values)
        until("it runs the new code", lambda: set(functions.processes()[first]) - before)
        verify(client, values)


def test_code_is_updated_node_by_node_and_nothing_is_lost(cloud, tmp_path):
    """`scatterhoard pool update --zip`: the real command, the real API call."""
    made = Functions(cloud, "rolling-node", 7)
    proxy = Proxy(cloud, made, data_parity="3+2")
    changed_zip(tmp_path)
    old = {configured(made, name)["CodeSha256"] for name in made.names}
    update_under_readers(cloud, proxy, "--zip", tmp_path / "changed.zip", "--lambda-endpoint", cloud.url)
    new = {configured(made, name)["CodeSha256"] for name in made.names}
    assert len(new) == 1 and not new & old
    proxy.stop()
    made.delete()


def test_memory_is_changed_node_by_node_and_nothing_is_lost(cloud):
    """As docs/operations.md says it (Rolling update)."""
    made = Functions(cloud, "growing-node", 7)
    proxy = Proxy(cloud, made, data_parity="3+2")
    (order,) = re.findall(r"pool update --command '(aws .+?)'", OPERATIONS.read_text(), re.S)
    update_under_readers(cloud, proxy, "--command", order)
    assert {configured(made, name)["MemorySize"] for name in made.names} == {1024}
    proxy.stop()
    made.delete()


def update_under_readers(cloud, proxy, *how):
    """`scatterhoard pool update` while everything is read, and nothing of it is lost."""
    with proxy.client() as client:
        values = fill(client, seed=6)
        seen, stop = [], threading.Event()

        def read_on():
            with proxy.client() as reader:
                while not stop.is_set():
                    seen.extend(reader.get(key) == value for key, value in values.items())

        reading = threading.Thread(target=read_on)
        reading.start()
        try:
            subprocess.run(
                [emulators.BINARY, "pool", "--admin", f"127.0.0.1:{proxy.admin_port}", "update", *how],
                check=True, timeout=300,
                # the AWS CLI is where this Python is
                env={**os.environ, **cloud.environment,
                     "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"},
            )
        finally:
            stop.set()
            reading.join()
        assert len(seen) >= len(values) and all(seen)
        verify(client, values)
        assert proxy.metric("scatterhoard_lost_objects_total") == 0


def configured(functions, name):
    return functions.api.get_function_configuration(FunctionName=name)


def changed_zip(folder):
    """The same program in a zip with one more file: other code, to Lambda."""
    import zipfile

    path = folder / "changed.zip"
    with zipfile.ZipFile(emulators.NODE_ZIP) as old, zipfile.ZipFile(path, "w") as new:
        new.writestr(old.infolist()[0], old.read("bootstrap"), zipfile.ZIP_DEFLATED)
        new.writestr("VERSION", "2")
    return path.read_bytes()


def test_a_deleted_function_is_done_without(proxy, functions):
    with proxy.client() as client:
        values = fill(client, seed=6)
        functions.api.delete_function(FunctionName=functions.names[0])
        verify(client, values)
        client.set("afterwards", b"x" * 3_000_000)
        assert client.get("afterwards") == b"x" * 3_000_000
        until("the proxy has noticed", lambda: failed(proxy))
        verify(client, values)


def failed(proxy):
    """Invocations that failed, however they are called."""
    return sum(count for outcome, count in proxy.outcomes().items() if outcome != "ok")


def test_throttled_invocations_are_tried_again(functions, tmp_path):
    # an account that may run less than the pool has nodes
    cloud = MiniStack(LAMBDA_ACCOUNT_CONCURRENCY="6")
    made = Functions(cloud, "throttled-node", 7)
    proxy = Proxy(cloud, made, data_parity="3+2")
    refused = 0
    with proxy.client() as client:
        values = {}
        for i in range(40):
            value = random.Random(i).randbytes(2_000_000)
            try:
                client.set(f"key:{i}", value)
                values[f"key:{i}"] = value
            except redis.ResponseError as error:
                assert "UNAVAILABLE" in str(error)
                refused += 1
        # MiniStack says so without a reason, or with one
        causes = ("throttled", "account_concurrency", "caller_rate", "function_rate")
        throttled = sum(proxy.outcomes().get(cause, 0) for cause in causes)
        assert throttled > 0
        assert values, f"all {refused} writes were refused"
        verify(client, values)
    proxy.stop()
    made.delete()
    cloud.stop()


def test_without_functions_the_start_says_what_is_missing(cloud):
    class Missing:
        prefix, names, memory_mb = "nobody-node", ["nobody-node-000"] * 7, 512

    with pytest.raises(AssertionError, match="nobody-node"):
        Proxy(cloud, Missing)
