"""MONITOR: both servers show the same of the same commands, and redis-py's Monitor reads it."""

import re

import pytest

from resp import Raw, encode

EVAL = "redis.call('SELECT', 3); redis.call('SET', KEYS[1], ARGV[1]); return redis.call('GET', KEYS[1])"
FAILS = "redis.pcall('SET', 'k', 'v', 'BOGUS'); redis.call('SET', 'k', 'v'); return redis.call('NOSUCH')"

# Sent by one connection, in this order. What may differ is said where it does.
COMMANDS = [
    ["SET", "k", b"b\"\\\n\r\t\a\b\0\x7f\xff x~"], ["set", "k", ""], ["sEt", "k", 12], ["GET", "k"],
    ["NOSUCH"], ["GET"], ["SET", "k", "v", "BOGUS"], ["INCR", "k"], ["HSET", "h", "f", "v"],
    ["INCR", "h"], ["GETEX", "k", "EX", 10], ["INCRBYFLOAT", "k", "1.5"], ["SET", "k", b"\0" * 16384],
    ["MSET", *(b"%d" % i for i in range(100))], ["DEL", "k", "h"],
    # Passwords are left out, and what administers is not shown.
    ["AUTH", "secret"], ["AUTH", "somebody", "secret"],
    ["HELLO", "3", "AUTH", "default", "secret", "SETNAME", "x"], ["HELLO", "2"],
    ["CONFIG", "GET", "maxmemory"], ["CONFIG", "RESETSTAT"], ["ACL", "WHOAMI"], ["ACL", "USERS"],
    ["CLIENT", "ID"], ["CLIENT", "LIST"], ["CLIENT", "KILL", "ID", "999999"], ["CLIENT", "PAUSE", "0"],
    ["CLIENT", "UNBLOCK", "999999"], ["SLOWLOG", "LEN"], ["COMMAND", "COUNT"], ["INFO"], ["LASTSAVE"],
    ["MEMORY", "USAGE", "k"], ["OBJECT", "ENCODING", "k"],
    # What is queued is shown when it is carried out, in the database of that moment.
    ["MULTI"], ["SET", "k", "1"], ["SELECT", "2"], ["INCR", "k"], ["MONITOR"], ["PUBLISH", "c", "m"],
    ["EVAL", EVAL, 1, "k", "v"], ["CONFIG", "GET", "maxmemory"], ["EXEC"], ["GET", "k"],
    ["MULTI"], ["SET", "k", "1"], ["NOSUCH"], ["EXEC"], ["EXEC"], ["MULTI"], ["GET", "k"], ["DISCARD"],
    ["WATCH", "k"], ["SET", "k", "other"], ["MULTI"], ["GET", "k"], ["EXEC"], ["UNWATCH"],
    # Scripts come before what they do.
    ["EVAL", EVAL, 1, "k", "v"], ["EVAL", FAILS, 0], ["EVAL", "no script", 0], ["EVAL", "return 1", "x"],
    ["EVAL", "return redis.call('MONITOR')", 0], ["EVAL", "return redis.call('GET', 'a', 'b')", 0],
    ["EVAL_RO", "return redis.call('GET', KEYS[1])", 1, "k"], ["SCRIPT", "LOAD", "return 1"],
    ["EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", 0], ["EVALSHA", "0" * 40, 0],
    ["SUBSCRIBE", "c"], ["GET", "k"], ["MONITOR"], ["PING"], ["UNSUBSCRIBE", "c"], ["RESET"], ["GET", "k"],
]
END = b'"echo" "the end"'


def shown(watching, last=END):
    """What is shown until this is, without times, and with numbers for addresses."""
    lines, names = [], {}
    while not lines or last not in lines[-1]:
        line = watching.reply()
        found = re.fullmatch(rb"\+\d{10,}\.\d{6} \[(\d+) (lua|127\.0\.0\.1:\d+)\] (.*)\r\n", line)
        assert found, line
        database, source, words = found.groups()
        if source != b"lua":
            source = names.setdefault(source, b"client %d" % len(names))
        lines.append(b"[%s %s] %s" % (database, source, words))
    return lines


def end(connection):
    assert connection.call("echo", "the end") == b"$7\r\nthe end\r\n"


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_same_commands_are_shown_alike(redis_server, pool, protocol):
    seen = []
    for server in [redis_server, pool]:
        with server.client() as client:
            client.flushall()
        with Raw(server) as watching, Raw(server) as asking, Raw(server) as other:
            watching.call("HELLO", protocol)
            assert watching.call("MONITOR") == b"+OK\r\n"
            for command in COMMANDS:
                asking.call(*command)
            other.send(b"GET 'a b' \"x\\x00\"\r\nget  \"a \\\"b\\\"\"\r\n")
            other.reply(), other.reply()
            end(other)
            seen.append(shown(watching))
    theirs, ours = seen
    assert ours == theirs
    assert len(ours) > len(COMMANDS) / 2


def test_what_a_monitor_may_do(redis_server, pool):
    """Replies to its own requests; what it is shown of them comes behind each."""
    script = [
        ["MONITOR"], ["PING"], ["GET", "k"], ["SET", "k", "v"], ["DBSIZE"], ["PUBLISH", "c", "m"],
        ["EVAL", "return 1", 0], ["SET", "k", "x" * 300_000], ["MULTI"], ["GET", "k"], ["EXEC"],
        ["MULTI"], ["PING"], ["EXEC"], ["MONITOR", "x"], ["HELLO", "3"], ["PING"], ["CLIENT", "REPLY", "OFF"],
        ["PING"], ["CLIENT", "REPLY", "ON"], ["CLIENT", "REPLY", "SKIP"], ["PING", "unseen"], ["PING", "seen"],
        ["CLIENT", "REPLY", "SKIP"], ["CLIENT", "REPLY", "SKIP"], ["PING", "unseen"], ["PING", "seen"],
        ["CLIENT", "REPLY", "SKIP"], ["CLIENT", "REPLY", "ON"], ["PING", "seen"],
        ["CLIENT", "REPLY", "OFF"], ["CLIENT", "REPLY", "SKIP"], ["PING", "unseen"], ["PING", "unseen"],
        ["CLIENT", "REPLY", "ON"],
        ["SELECT", "1"], ["PING"], ["SUBSCRIBE", "c"], ["UNSUBSCRIBE", "c"], ["RESET"], ["PING"], ["GET", "k"],
        ["MONITOR"], ["PING"], ["QUIT"],
    ]
    seen = []
    for server in [redis_server, pool]:
        with server.client() as client, Raw(server) as watching:
            client.flushall()
            watching.send(b"".join(encode(*command) for command in script))
            got = watching.rest()
        got = re.sub(rb"\+\d{10,}\.\d{6} ", b"+TIME ", got)
        got = re.sub(rb"127\.0\.0\.1:\d+", b"ADDRESS", got)
        got = re.sub(rb"\r\nid\r\n:\d+", b"ID", got)
        seen.append(got.split(b"\r\n"))
    theirs, ours = seen
    assert ours == theirs


def test_nothing_is_shown_until_the_reply_that_is_left_out(either):
    """Neither what it says itself nor what others do meanwhile."""
    with Raw(either) as watching, Raw(either) as asking:
        assert watching.call("MONITOR") == b"+OK\r\n"
        watching.send(encode("CLIENT", "REPLY", "SKIP"))
        assert len(shown(watching, b'"SKIP"')) == 1
        assert asking.call("ECHO", "unseen") == b"$6\r\nunseen\r\n"
        watching.send(encode("GETRANGE"))
        # A wrong command counts: the next one is seen, with its reply.
        assert watching.call("PING") == b"+PONG\r\n"
        end(asking)
        assert [line.split(b"] ", 1)[1] for line in shown(watching)] == [b'"PING"', END]


def test_a_second_monitor_gets_no_reply(either):
    with Raw(either) as watching, Raw(either) as asking:
        assert watching.call("MONITOR") == b"+OK\r\n"
        watching.send(b"MONITOR\r\nMONITOR\r\n")
        assert watching.call("PING") == b"+PONG\r\n"
        end(asking)
        assert len(shown(watching)) == 2


def test_a_monitor_is_not_paused_and_is_listed(either):
    with Raw(either) as watching, either.client() as client:
        client.ping()
        number = int(watching.call("CLIENT", "ID")[1:])
        assert watching.call("MONITOR") == b"+OK\r\n"
        listed = {int(one["id"]): one for one in client.client_list()}
        assert listed[number]["flags"] == "O" and listed[number]["cmd"] == "monitor"
        client.client_pause(60_000)
        assert watching.call("PING") == b"+PONG\r\n"
        assert len(shown(watching, b'"PING"')) == 1
        # Everybody else would have to wait to say so.
        assert watching.call("CLIENT", "UNPAUSE") == b"+OK\r\n"
        assert client.client_kill_filter(_id=number, _type="normal") == 1


def test_redis_py_reads_it(either):
    with either.client(db=4) as client, client.monitor() as monitor:
        client.set("k", "a \"value\"\nof\t\x00 \\ two lines")
        client.eval("return redis.call('GET', KEYS[1])", 1, "k")
        client.transaction(lambda pipe: pipe.incr("n"))
        seen = []
        while len(seen) < 6:
            command = monitor.next_command()
            if command["command"].split()[0] not in ("CLIENT", "SELECT", "HELLO"):
                seen.append(command)
        assert [one["db"] for one in seen] == [4] * 6
        assert [one["command"].split()[0] for one in seen] == [
            "SET", "EVAL", "GET", "MULTI", "INCRBY", "EXEC"]
        assert seen[0]["command"] == r'SET k a "value"\nof\t\x00 \\ two lines'
        assert [one["client_type"] for one in seen] == ["tcp", "tcp", "lua", "tcp", "tcp", "tcp"]


def test_values_that_pass_by_are_shown(pool):
    """Where this is more than a comparison: values that go to nodes while they arrive, or
    together with others of their pipeline, are gone when their command is carried out."""
    values = {100: b"p", 16_384: b"w", 16_385: b"c", 60_000: b"d", 70_000: b"s", 3_000_000: b"t"}
    with Raw(pool) as watching, Raw(pool) as asking:
        watching.call("MONITOR")
        sent = [(size, byte) for size, byte in values.items() for _ in range(3)]
        asking.send(b"".join(b"*3\r\n$3\r\nSET\r\n$1\r\n%s\r\n$%d\r\n%s\r\n" % (byte, size, byte * size)
                             for size, byte in sent))
        assert all(asking.reply() == b"+OK\r\n" for _ in sent)
        asking.send(b"MULTI\r\n")
        asking.send(b"*3\r\n$3\r\nSET\r\n$1\r\nm\r\n$200000\r\n%s\r\nEXEC\r\n" % (b"m" * 200_000))
        assert [asking.reply() for _ in range(3)] == [b"+OK\r\n", b"+QUEUED\r\n", b"*1\r\n+OK\r\n"]
        asking.call("APPEND", "m", b"n" * 100_000)
        end(asking)
        seen = [line.split(b"] ", 1)[1] for line in shown(watching)]

    def of(name, key, size):
        whole = key * size if size <= 16_384 else key * 128 + b"... (%d more bytes)" % (size - 128)
        return b'"%s" "%s" "%s"' % (name, key, whole)

    expected = [of(b"SET", byte, size) for size, byte in sent]
    assert seen[:len(sent)] == expected
    assert seen[len(sent)] == b'"MULTI"'
    assert seen[len(sent) + 1] == of(b"SET", b"m", 200_000)
    assert seen[len(sent) + 2] == b'"EXEC"'
    assert seen[len(sent) + 3] == b'"APPEND" "m" "%s... (99872 more bytes)"' % (b"n" * 128)
