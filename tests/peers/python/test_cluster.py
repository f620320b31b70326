"""Three proxies as one Redis Cluster, through redis-py's cluster client and redis-cli -c."""

import random
import subprocess

import pytest
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException

from servers import Scatterhoard, free_port

SLOTS = ["0-5460", "5461-10922", "10923-16383"]


@pytest.fixture(scope="module")
def proxies():
    ports = [free_port() for _ in SLOTS]
    members = ",".join(f"127.0.0.1:{port} {slots}" for port, slots in zip(ports, SLOTS))
    started = []
    try:
        for port in ports:
            started.append(Scatterhoard(nodes=6, data_parity="4+2", port=port,
                                        more=["--cluster", members]))
        yield started
    finally:
        for proxy in started:
            proxy.stop()


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def cluster(request, proxies):
    nodes = [ClusterNode("127.0.0.1", proxy.port) for proxy in proxies[:1]]
    with RedisCluster(startup_nodes=nodes, protocol=request.param) as client:
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
        yield client


def test_keys_find_their_proxies(cluster, proxies):
    rng = random.Random(1)
    values = {f"key:{i}": rng.randbytes(rng.choice([1, 1000, 70_000])) for i in range(200)}
    values["large"] = rng.randbytes(20_000_000)
    for key, value in values.items():
        assert cluster.set(key, value)
    assert all(cluster.get(key) == value for key, value in values.items())
    shares = [proxy.client().dbsize() for proxy in proxies]
    assert sum(shares) == len(values) and all(shares), shares
    assert cluster.dbsize(target_nodes=RedisCluster.PRIMARIES) == len(values)
    assert sorted(cluster.scan_iter(count=1000)) == sorted(k.encode() for k in values)
    assert cluster.mget_nonatomic(list(values)) == list(values.values())
    assert cluster.delete(*values) == len(values)


def test_keys_with_a_tag_are_together(cluster):
    assert cluster.mset({"{user:1}:name": "a", "{user:1}:visits": 1})
    with cluster.pipeline(transaction=True) as transaction:
        transaction.incr("{user:1}:visits")
        transaction.hset("{user:1}:hash", "field", "value")
        assert transaction.execute() == [2, 1]
    script = cluster.register_script("return redis.call('MGET', KEYS[1], KEYS[2])")
    assert script(keys=["{user:1}:name", "{user:1}:visits"]) == [b"a", b"2"]
    with pytest.raises(RedisClusterException):
        cluster.rename("{user:1}:name", "elsewhere")


def test_the_cluster_as_its_client_sees_it(cluster, proxies):
    assert {node.port for node in cluster.get_nodes()} == {proxy.port for proxy in proxies}
    assert cluster.cluster_info()["cluster_state"] == "ok"
    assert cluster.cluster_keyslot("{user:1}:name") == cluster.keyslot("{user:1}:name")
    cluster.set("{tag}1", "x")
    assert cluster.cluster_countkeysinslot(cluster.keyslot("tag")) == 1
    assert len(cluster.cluster_shards()) == 3


def test_messages_of_shards_reach_their_subscribers(cluster):
    subscriber = cluster.pubsub()
    subscriber.ssubscribe("news")
    assert cluster.spublish("news", "hello") == 1
    for _ in range(20):
        message = subscriber.get_sharded_message(timeout=1)
        if message and message["type"] == "smessage":
            break
    assert message["data"] == b"hello"
    subscriber.close()


def test_redis_cli_follows(proxies):
    def cli(*arguments):
        done = subprocess.run(
            ["redis-cli", "-c", "-h", "127.0.0.1", "-p", str(proxies[0].port), *arguments],
            capture_output=True, timeout=60, check=True,
        )
        return done.stdout.decode().strip()

    for key in ["foo", "bar", "hello"]:
        assert cli("SET", key, f"value of {key}").endswith("OK")
        assert cli("GET", key).endswith(f"value of {key}")
    check = subprocess.run(
        ["redis-cli", "--cluster", "call", f"127.0.0.1:{proxies[0].port}", "DBSIZE"],
        capture_output=True, timeout=60,
    ).stdout.decode()
    assert check.count("127.0.0.1:") >= 3, check
