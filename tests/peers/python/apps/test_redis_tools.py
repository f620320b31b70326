"""redis-cli and redis-benchmark, as Debian's redis-tools brings them."""

import re
import subprocess

import pytest

from both import Application, bodies

VERSION = re.search(r"\d+\.\d+\.\d+", subprocess.run(
    ["redis-cli", "--version"], capture_output=True, text=True, check=True).stdout)[0]

CLI = Application(
    "redis-cli", {"redis-tools": VERSION},
    "commands, RESP3, --raw, --csv, --json, -x, --pipe, --scan, --eval, interactive transactions, "
    "subscriptions, --bigkeys, --memkeys",
)
BENCHMARK = Application(
    "redis-benchmark", {"redis-tools": VERSION},
    "every test of -t, by itself; commands of our own with random keys; -P, -3, -r, --csv",
)

# The tests of redis-benchmark 7.0.15, and the type that each needs of a server.
STRINGS = ["ping_inline", "ping_mbulk", "set", "get", "incr", "hset", "mset"]
OTHERS = {"lpush": "lists", "rpush": "lists", "lpop": "lists", "rpop": "lists", "lrange": "lists",
          "sadd": "sets", "spop": "sets", "zadd": "sorted sets", "zpopmin": "sorted sets"}


@pytest.fixture
def application(request):
    return BENCHMARK if "benchmark" in request.node.name else CLI


def run(server, program, *arguments, stdin=b"", ok=True):
    done = subprocess.run([program, "-h", "127.0.0.1", "-p", str(server.port), *arguments],
                          input=stdin, capture_output=True, timeout=120)
    assert not ok or done.returncode == 0, done
    return done.stdout + done.stderr


def commands(server, note):
    def cli(*arguments, **more):
        return run(server, "redis-cli", *arguments, **more)

    for arguments in (
        ["SET", "k", "hello \x01 world"], ["GET", "k"], ["--raw", "GET", "k"], ["GET", "absent"],
        ["TTL", "k"], ["--csv", "MGET", "k", "absent"], ["--json", "HELLO", "9"],
        ["HSET", "h", "f", "1", "g", "2"], ["-3", "HGETALL", "h"], ["--json", "HGETALL", "h"],
        ["--no-raw", "HGETALL", "h"], ["-2", "HRANDFIELD", "absent"], ["-n", "3", "DBSIZE"],
        ["INCR", "k"], ["-e", "NOSUCH", "x"], ["-r", "3", "INCR", "n"],
        ["-3", "CONFIG", "GET", "databases"], ["EVAL", "return {1,'a',{2}}", "0"],
        ["-3", "EVAL", "redis.setresp(3); return {double=3.5}", "0"],
        ["--no-auth-warning", "-a", "wrong", "PING"], ["OBJECT", "NOSUCH"],
    ):
        note(" ".join(arguments), cli(*arguments, ok=False))
    body = bodies()[-1]
    note("-x", cli("-x", "SET", "large", stdin=body), b"OK\n")
    note("read back", cli("--raw", "GET", "large") == body + b"\n", True)
    note("-X", cli("-X", "value", "MSET", "a", "1", "b", "value", stdin=b"of b"), b"OK\n")
    note("a transaction", cli(stdin=b"MULTI\nSET t 1\nINCR t\nEXEC\nMULTI\nNOSUCH\nEXEC\nDISCARD\n"))
    note("quoted", cli("--quoted-input", "SET", r'"\x00\xff"', r'"\n"'), b"OK\n")
    note("--scan", sorted(cli("--scan", "--pattern", "?").split()),
         [b"a", b"b", b"h", b"k", b"n", b"t"])
    note("--pipe", cli("--pipe", stdin=b"".join(
        b"*3\r\n$3\r\nSET\r\n$4\r\np%03d\r\n$1\r\nv\r\n" % i for i in range(500))).splitlines()[-1],
        b"errors: 0, replies: 500")


def scripts_and_subscriptions(server, note, folder):
    file = folder / "script.lua"
    file.write_text("redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])")
    note("--eval", run(server, "redis-cli", "--eval", str(file), "key", ",", "value"))
    listener = subprocess.Popen(
        ["redis-cli", "-h", "127.0.0.1", "-p", str(server.port), "SUBSCRIBE", "news"],
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        heard = [listener.stdout.readline() for _ in range(3)]
        note("publish", run(server, "redis-cli", "PUBLISH", "news", "hello"), b"1\n")
        note("heard", heard + [listener.stdout.readline() for _ in range(3)])
    finally:
        listener.kill()
        listener.wait()
        listener.stdout.close()


def surveys(server, note):
    with note.direct() as direct:
        direct.mset({f"k:{i}": "v" * i for i in range(1, 101)})
        direct.set("largest", "x" * 1_000_000)
        direct.hset("hash", mapping={f"f{i}": i for i in range(50)})
    said = run(server, "redis-cli", "--bigkeys").decode()
    note("--bigkeys", sorted(re.findall(r'^Biggest .*', said, re.M)))
    note("keys sampled", re.findall(r"Sampled (\d+) keys", said), ["102"])
    said = run(server, "redis-cli", "--memkeys").decode()
    note("--memkeys", re.findall(r'^Biggest string found \W+(\w+)\W+ has', said, re.M), ["largest"])
    note("--hotkeys", run(server, "redis-cli", "--hotkeys", ok=False).splitlines()[-1][:40])


def benchmark(server, note):
    for test in STRINGS:
        said = run(server, "redis-benchmark", "-t", test, "-n", "1000", "-c", "8", "-r", "50",
                   "-q").decode()
        note(test, (len(re.findall("requests per second", said)) >= 1, "rror" in said
                    and "failed to fetch CONFIG" not in said), (True, False))
    said = run(server, "redis-benchmark", "-t", "set,get", "-n", "2000", "-c", "8", "-P", "16", "-3",
               "-d", "2000", "--csv").decode()
    note("-P -3 --csv", re.findall('^"(\\w+)"', said, re.M), ["test", "SET", "GET"])
    for command in (["SET", "key:__rand_int__", "__data__", "EX", "100"], ["HGET", "h", "f"],
                    ["EVAL", "return redis.call('INCR', KEYS[1])", "1", "counter"],
                    ["PUBLISH", "c", "m"]):
        said = run(server, "redis-benchmark", "-n", "500", "-c", "4", "-r", "100", "-q", *command)
        note(" ".join(command), (b"requests per second" in said, b"rror" in said.replace(
            b"ERROR: failed to fetch CONFIG", b"")), (True, False))


def benchmark_of_other_types(server, note):
    for test in OTHERS:
        said = run(server, "redis-benchmark", "-t", test, "-n", "100", "-c", "2", "-q",
                   ok=False).decode()
        error = re.search(r"ERR.*|Error.*", said)
        note(test, error[0] if error else "ran")


def test_commands(both):
    both.run(commands)


def test_scripts_and_subscriptions(both, tmp_path):
    both.run(scripts_and_subscriptions, tmp_path)


def test_surveys(both):
    both.run(surveys)


def test_benchmark(both):
    both.run(benchmark)


def test_benchmark_of_other_types(both):
    both.run(benchmark_of_other_types, differs={
        test: f"it needs {kind}, which Scatterhoard does not have: an error"
        for test, kind in OTHERS.items()
    })
