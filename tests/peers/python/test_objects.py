"""Real objects through redis-py: store, read back, overwrite, delete, every byte verified."""

import hashlib
import random

from contents import any_bytes, make_objects

SEED = 20_261


def verify(client, objects):
    for key, body in objects.items():
        read = client.get(key)
        assert read is not None, f"{key!r} ({len(body)} bytes) is missing"
        assert hashlib.sha256(read).digest() == hashlib.sha256(body).digest(), f"{key!r} differs"
        assert read == body


def test_more_than_300_objects_from_one_byte_to_64_mb(client):
    objects = make_objects(SEED, made=280, real=60)
    assert len(objects) > 300
    assert min(map(len, objects.values())) == 1
    assert max(map(len, objects.values())) == 64 << 20
    rng = random.Random(SEED)

    for key, body in objects.items():
        assert client.set(key, body) is True
    assert client.dbsize() == len(objects)
    verify(client, objects)

    # Overwritten with other sizes: shorter, longer, other geometry.
    for key in rng.sample(sorted(objects), len(objects) // 2):
        objects[key] = any_bytes(rng, rng.choice([1, 700, 40_000, 300_000, 2_700_000]))
        assert client.set(key, objects[key]) is True
    assert client.dbsize() == len(objects)
    verify(client, objects)
    for key, body in objects.items():
        assert client.strlen(key) == len(body)

    deleted = rng.sample(sorted(objects), len(objects) // 3)
    for key in deleted:
        assert client.delete(key) == 1
        del objects[key]
    assert all(client.get(key) is None for key in deleted)
    assert client.exists(*deleted) == 0
    verify(client, objects)

    assert client.unlink(*objects) == len(objects)
    assert client.dbsize() == 0


def test_mget_and_mset_of_mixed_sizes(client):
    rng = random.Random(SEED)
    objects = {b"m%d" % i: any_bytes(rng, s) for i, s in enumerate([1, 900, 300_000, 4_000_000])}
    assert client.mset(objects) is True
    assert client.mget([*objects, b"absent"]) == [*objects.values(), None]


def test_an_empty_value_is_a_value(client):
    client.set("empty", b"")
    assert client.get("empty") == b""
    assert client.strlen("empty") == 0
    assert client.exists("empty") == 1


def test_keys_may_be_any_bytes(client):
    rng = random.Random(SEED)
    keys = [bytes([b]) for b in range(256)] + [b"", b"\xff\xfe\x00\r\n$3\r\n", rng.randbytes(60_000)]
    for key in keys:
        client.set(key, b"value of " + key)
    for key in keys:
        assert client.get(key) == b"value of " + key
    assert set(client.scan_iter(count=50)) == set(keys)


def test_resp3_clients_see_the_same_objects(pool, client):
    body = random.Random(SEED).randbytes(3_000_000)
    client.set("large", body)
    with pool.client(protocol=3) as modern:
        assert modern.get("large") == body
        assert modern.get("absent") is None
        assert modern.mget(["large", "absent"]) == [body, None]
        assert modern.execute_command("HELLO")[b"proto"] == 3
