"""A backing store behind S3's API: MiniStack, which nobody here wrote, on loopback.

The same as with a folder (proxy/tests/it/backing): what all nodes have lost is read from there,
what was deleted or overwritten is not, and in the end nothing lies there that no key names.
"""

import random
import threading
import time

import pytest
import redis

from contents import any_bytes
from servers import S3, Scatterhoard

SOON_S = 40
SIZES = [0, 1, 900, 70_000, 263_000, 700_000, 3_000_000, 21_000_000]


@pytest.fixture(scope="module")
def s3():
    server = S3()
    yield server
    server.stop()


def proxy(s3, bucket, *more):
    s3.make_bucket(bucket)
    return Scatterhoard(
        nodes=7,
        data_parity="3+2",
        more=["--backing-store", f"s3://{bucket}/cache", "--backing-s3-endpoint", s3.url, *more],
        environment={
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        },
    )


def until(what, is_so):
    deadline = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < deadline, f"not so within {SOON_S} s: {what}"
        time.sleep(0.05)


def until_settled(server):
    waiting = ["scatterhoard_backing_waiting_uploads", "scatterhoard_backing_waiting_deletions"]
    until("the backing store is up to date", lambda: not any(map(server.metric, waiting)))


def fill(client, seed):
    """Alone, in segments, in several stripes, and longer than a part of an upload."""
    rng = random.Random(seed)
    values = {f"alone:{size}": any_bytes(rng, size) for size in SIZES}
    for key, value in values.items():
        client.set(key, value)
    with client.pipeline(transaction=False) as pipeline:
        for i in range(100):
            value = any_bytes(rng, 10 + 30 * i)
            pipeline.set(f"packed:{i}", value)
            values[f"packed:{i}"] = value
        pipeline.execute()
    return values


def verify(client, values):
    for key, value in values.items():
        read = client.get(key)
        assert read == value, f"{key}: {'nil' if read is None else 'WRONG BYTES'}"


@pytest.mark.parametrize("mode", ["write-through", "write-behind"])
def test_what_all_nodes_have_lost_is_read_from_the_bucket(s3, mode):
    server = proxy(s3, f"lost-{mode}", "--backing-mode", mode)
    with server.client() as client:
        values = fill(client, seed=1)
        until_settled(server)
        for _ in range(2):
            server.reclaim(count=1000)
            verify(client, values)
            middle = client.getrange("alone:21000000", 9_999_000, 12_345_678)
            assert middle == values["alone:21000000"][9_999_000:12_345_679]
        assert server.metric("scatterhoard_backing_reads_total") > 10
        assert server.metric("scatterhoard_lost_objects_total") == 0
        assert server.metric("scatterhoard_backing_errors_total") == 0
    server.stop()


def test_nothing_old_comes_back_and_nothing_stays(s3):
    server = proxy(s3, "deleted")
    with server.client() as client:
        values = fill(client, seed=2)
        keys = sorted(values)
        client.delete(*keys[::3])
        for key in keys[1::3]:
            values[key] = random.Random(key).randbytes(300_000)
            client.set(key, values[key])
        server.reclaim(count=1000)
        for key in keys[::3]:
            assert client.get(key) is None
            del values[key]
        verify(client, values)
        client.flushall()
        client.set("after", "flush")
        # that, and what says whose place it is
        until("all else is deleted", lambda: len(s3.names("deleted")) == 2)
        server.reclaim(count=1000)
        assert client.get("after") == b"flush"
        assert client.get(keys[1]) is None
    server.stop()


def test_while_it_is_away_errors_say_so_and_nothing_is_forgotten(s3):
    own = S3()
    server = proxy(own, "away", "--backing-timeout-ms", "2000")
    with server.client() as client:
        values = {f"key:{i}": random.Random(i).randbytes(400_000) for i in range(5)}
        for key, value in values.items():
            client.set(key, value)
        own.pause()
        with pytest.raises(redis.ResponseError, match="UNAVAILABLE.*backing store"):
            client.set("new", "value")
        verify(client, values)
        server.reclaim(count=1000)
        with pytest.raises(redis.ResponseError, match="UNAVAILABLE.*backing store"):
            client.get("key:0")
        own.resume()
        verify(client, values)
        client.set("new", "value")
        # a bucket that is not there any more is not a bucket that is empty
        server.reclaim(count=1000)
        own.restart_empty()
        for key in values:
            try:
                assert client.get(key) == values[key]
            except redis.ResponseError as error:
                assert "UNAVAILABLE" in str(error)
        assert client.exists(*values) == len(values)
    server.stop()
    own.stop()


def test_uploads_that_are_broken_off_leave_no_parts(s3):
    own = S3()
    server = proxy(own, "parts", "--backing-timeout-ms", "1000")
    refused = []

    def write():
        with server.client() as client:
            with pytest.raises(redis.ResponseError, match="UNAVAILABLE.*backing store"):
                client.set("large", random.Random(9).randbytes(150_000_000))
            refused.append(True)

    writer = threading.Thread(target=write)
    writer.start()
    until("it is in the middle", lambda: own.unfinished("parts"))
    own.pause()
    writer.join(timeout=SOON_S)
    assert refused
    own.resume()
    until("what was sent is taken back", lambda: not own.unfinished("parts"))
    with server.client() as client:
        client.set("after", "that")
    assert len(own.names("parts")) == 2
    server.stop()
    own.stop()


def test_a_bucket_that_is_not_there_is_refused_at_the_start(s3):
    with pytest.raises(AssertionError, match="--backing-store"):
        Scatterhoard(
            nodes=12,
            more=["--backing-store", "s3://nowhere", "--backing-s3-endpoint", s3.url],
            environment={"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
        )
