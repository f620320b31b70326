"""redis-py itself, with RESP2 and RESP3: the calls that caches make, and its locks and pub/sub."""

import asyncio
import threading

import pytest
from redis import asyncio as aioredis

from both import Application, asynchronous, bodies

APPLICATION = Application(
    "redis-py", ["redis"],
    "RESP2 and RESP3: strings, expiry, hashes, bits, scans, pipelines, transactions with WATCH, "
    "scripts, pub/sub, locks, blocking and asyncio clients, errors",
)
PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3])


def strings(server, note, protocol):
    with server.client(protocol=protocol) as client:
        for body in bodies():
            client.set(f"body:{len(body)}", body)
            note(f"{len(body)} bytes", client.get(f"body:{len(body)}") == body, True)
        note("set get", (client.set("a", "1", ex=100), client.set("a", "2", get=True, keepttl=True)))
        note.ttl("keepttl", client.ttl("a"), 100)
        note("conditions", (client.set("a", "3", nx=True), client.set("b", "3", xx=True)))
        note("getex, getdel", (client.getex("a", persist=True), client.ttl("a"), client.getdel("a")))
        note("append, getrange, setrange", (
            client.append("t", "hello"), client.getrange("t", 1, 3), client.setrange("t", 10, "x"),
            client.get("t"), client.strlen("t")))
        note("counters", (client.incr("n"), client.decrby("n", 5), client.incrbyfloat("f", "0.1"),
                          client.incrbyfloat("f", 3)))
        note("mset, mget, msetnx", (client.mset({"x": 1, "y": 2}), client.mget("x", "y", "z"),
                                    client.msetnx({"y": 1, "z": 2})))
        note("lcs", client.lcs("t", "t", len=True))
        note("lcs idx", client.execute_command("LCS", "t", "t", "IDX", "WITHMATCHLEN"))
        note("bits", (client.setbit("bit", 9, 1), client.getbit("bit", 9), client.bitcount("bit"),
                      client.bitpos("bit", 1), client.bitop("NOT", "tib", "bit"),
                      client.bitfield("bf").set("u8", 0, 200).incrby("u8", 0, 100).execute()))
        for name, call in {
            "wrong type": lambda: client.hget("x", "f"), "not a number": lambda: client.incr("t"),
            "syntax": lambda: client.execute_command("SET", "a", "b", "EX"),
            "unknown": lambda: client.execute_command("NOSUCH", "a"),
            "arity": lambda: client.execute_command("GET"),
            "expiry": lambda: client.set("a", "b", ex=-1),
        }.items():
            note.raises(name, call)


def keys(server, note, protocol):
    with server.client(protocol=protocol) as client:
        client.mset({f"k:{i}": i for i in range(250)})
        note("scan", sorted(client.scan_iter("k:1?", count=30)), [b"k:%d" % i for i in range(10, 20)])
        note("scan a type", len(list(client.scan_iter(_type="string"))), 250)
        note("keys", sorted(client.keys("k:24*")))
        note("dbsize", client.dbsize(), 250)
        note("exists", client.exists("k:1", "k:1", "absent"), 2)
        note("type", (client.type("k:1"), client.type("absent")))
        note("expire", [client.expire("k:1", 100), client.expire("k:1", 50, gt=True),
                        client.expire("k:1", 500, lt=True), client.expire("k:2", 5, xx=True),
                        client.expire("absent", 5)])
        note.ttl("pttl", client.pttl("k:1") / 1000, 100)
        note("expireat", (client.expireat("k:3", 9_999_999_999), client.expiretime("k:3"),
                          client.pexpiretime("k:3")))
        note("persist", (client.persist("k:3"), client.persist("k:3")))
        note("rename", (client.rename("k:4", "r:4"), client.renamenx("r:4", "k:5"), client.get("r:4")))
        note.raises("rename what is absent", client.rename, "absent", "x")
        note("copy", (client.copy("r:4", "c:4"), client.copy("r:4", "c:4"),
                      client.copy("r:4", "c:4", replace=True)))
        note("touch, unlink, delete", (client.touch("k:6", "absent"), client.unlink("k:6", "k:7"),
                                       client.delete("k:8", "k:8")))
        note("randomkey", client.randomkey() is not None, True)
        note("object", (client.object("encoding", "k:9"), client.set("text", "abc"), client.object("refcount", "text")))
        with server.client(protocol=protocol, db=9) as other:
            note("another database", (other.get("k:9"), other.set("k:9", "there"), other.dbsize()))
            note("copied across", (client.copy("k:10", "k:10", destination_db=9), other.get("k:10")))
            note("flushdb", (other.flushdb(), client.dbsize() > 0))


def hashes(server, note, protocol):
    with server.client(protocol=protocol) as client:
        note("hset", client.hset("h", mapping={"a": 1, "b": b"\xff\x00", "c": ""}), 3)
        note("hgetall", client.hgetall("h"))
        note("hmget", client.hmget("h", "a", "absent"))
        note("hincrby", (client.hincrby("h", "a", 5), client.hincrby("h", "n", -1)))
        note("hdel, hexists, hlen, hstrlen", (client.hdel("h", "c", "absent"), client.hexists("h", "c"),
                                              client.hlen("h"), client.hstrlen("h", "b")))
        note("hsetnx", (client.hsetnx("h", "a", 9), client.hsetnx("h", "z", 9)))
        note("hkeys, hvals", (sorted(client.hkeys("h")), sorted(client.hvals("h"))))
        note("hscan", dict(client.hscan_iter("h", match="?")))
        note("hrandfield", client.hrandfield("absent"))
        note("hrandfield with values", sorted(map(repr, client.hrandfield("h", 9, withvalues=True))))
        note("type", client.type("h"))
        note.raises("get of a hash", client.get, "h")
        note.raises("hincrby of a text", client.hincrby, "h", "b")


def together(server, note, protocol):
    with server.client(protocol=protocol) as client:
        pipe = client.pipeline(transaction=False)
        for number in range(500):
            pipe.set(f"p:{number}", number).get(f"p:{number}")
        note("a pipeline", pipe.execute() == [x for n in range(500) for x in (True, b"%d" % n)], True)
        pipe = client.pipeline()
        note("a transaction", pipe.set("t", 1).incr("t").hset("h", "f", "v").mget("t", "u").execute())
        note("errors within", client.pipeline().set("t", "x").incr("t").get("t").execute(
            raise_on_error=False).__repr__())
        client.set("watched", 1)
        with client.pipeline() as pipe:
            pipe.watch("watched")
            client.set("watched", 2)
            pipe.multi()
            pipe.set("watched", 3)
            note.raises("a watched key that changed", pipe.execute)
        note("transaction()", client.transaction(lambda p: p.multi() or p.incr("watched"), "watched"))
        script = client.register_script(
            "local n = redis.call('INCRBY', KEYS[1], ARGV[1]) "
            "return {n, redis.call('GET', KEYS[1]), {ok = 'fine'}, false, 3.7, cjson.encode({1, 'a'})}")
        note("a script", (script(keys=["s"], args=[5]), script(keys=["s"], args=[6])))
        note.raises("a script's error", client.eval, "return redis.call('INCR', KEYS[1])", 1, "h")
        note.raises("an unknown script", client.evalsha, "0" * 40, 0)
        note.raises("eval_ro that writes", client.eval_ro, "return redis.call('SET', 'a', 1)", 0)
        note("script exists", client.script_exists(script.sha, "0" * 40))
        total, workers = [], []

        def work():
            for _ in range(10):
                with client.lock("lock", timeout=30, sleep=0.002):
                    client.set("total", int(client.get("total") or 0) + 1)
            total.append(1)

        for _ in range(5):
            workers.append(threading.Thread(target=work))
            workers[-1].start()
        for worker in workers:
            worker.join(60)
        note("locks", (len(total), client.get("total")), (5, b"50"))


def publish_and_subscribe(server, note, protocol):
    with server.client(protocol=protocol) as client, client.pubsub() as listener:
        listener.subscribe("news")
        listener.psubscribe("n?ws", "x*")
        heard = [listener.get_message(timeout=10) for _ in range(3)]
        note("subscribed", heard)
        note("publish", (client.publish("news", "one"), client.publish("xyz", b"\0two"),
                         client.publish("nobody", "three")), (2, 1, 0))
        note("heard", [listener.get_message(timeout=10) for _ in range(3)])
        note("pubsub", (client.pubsub_channels(), client.pubsub_numpat(), client.pubsub_numsub("news")))
        listener.unsubscribe()
        listener.punsubscribe("x*")
        note("unsubscribed", [listener.get_message(timeout=10) for _ in range(2)])
        note("large", (client.publish("news", b"x" * 1_000_000),
                       len(listener.get_message(timeout=10)["data"])), (1, 1_000_000))


def connection(server, note, protocol):
    with server.client(protocol=protocol, client_name="me") as client:
        note("ping, echo", (client.ping(), client.echo("hello")))
        note("client", (client.client_getname(), client.client_setname("you"), client.client_getname()))
        listed = [c for c in client.client_list() if c["name"] == "you"]
        note("client list", [(c["db"], c["resp"]) for c in listed])
        note("time", len(client.time()), 2)
        note("config", client.config_get("maxmemory-policy").keys())
        note("command", (client.command_count() > 80,
                         client.command_getkeys("MSET", "a", 1, "b", 2)))
        note("info", {"redis_version", "connected_clients", "used_memory"} <= client.info().keys(), True)
        note.raises("auth without a password", client.execute_command, "AUTH", "secret")
        note.raises("a wrong database", client.select, 99)


@asynchronous
async def asyncio_client(server, note, protocol):
    client = aioredis.Redis(host="127.0.0.1", port=server.port, protocol=protocol)
    bodies_ = bodies()
    await asyncio.gather(*(client.set(f"a:{len(b)}", b, ex=100) for b in bodies_))
    read = await asyncio.gather(*(client.get(f"a:{len(b)}") for b in bodies_))
    note("gathered", read == bodies_, True)
    async with client.pipeline(transaction=True) as pipe:
        note("a transaction", await pipe.incr("n").expire("n", 50).ttl("n").execute(), [1, True, 50])
    await asyncio.gather(*(client.incr("n") for _ in range(100)))
    note("counted", await client.get("n"), b"101")
    async with client.pubsub() as listener:
        await listener.subscribe("news")
        first = await listener.get_message(timeout=10)
        await client.publish("news", "one")
        note("heard", (first, await listener.get_message(timeout=10)))
    async with client.lock("lock", timeout=10):
        note("locked", await client.lock("lock", blocking=False).acquire(), False)
    await client.aclose()


SCENARIOS = [strings, keys, hashes, together, publish_and_subscribe, connection, asyncio_client]


@PROTOCOLS
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_redis_py(both, scenario, protocol):
    both.run(scenario, protocol)


def test_a_connection_that_ends_a_transaction_leaves_nothing(both):
    def scenario(server, note):
        with server.client() as client, server.client(single_connection_client=True) as other:
            other.execute_command("MULTI")
            other.execute_command("SET", "never", 1)
            other.connection_pool.disconnect()
            other.close()
            note("nothing", client.get("never"), None)
            note.raises("exec without multi", client.execute_command, "EXEC")
    both.run(scenario)
